//! A disk that forgets: what was not synced may be gone after a power cut, and any call may fail.
//!
//! The files are real, so the store's own reading code runs; they stand for the page cache. Beside
//! them this keeps what is safe: per file the content at its last sync and what was done to it
//! since, and the folders' names with the changes that no sync of a folder has covered yet. A power
//! cut keeps any subset of the unsynced names' changes, in order, and per file the beginning of its
//! unsynced changes, the last of them cut anywhere or with zero bytes behind. After a failed sync
//! the changes before it are never written, whatever later syncs say.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use ptn_core::store::fs::{Disk, FreeSpace, RealDisk};

use super::world::{Life, World};

type Id = usize;

#[derive(Debug, Clone)]
enum Change {
    /// At the end.
    Write(u64, Vec<u8>),
    /// Over what is there.
    Again(u64, Vec<u8>),
    Cut(u64),
    Mark(SystemTime),
}

#[derive(Debug, Default)]
struct Content {
    safe: Vec<u8>,
    mark: Option<SystemTime>,
    unsynced: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Naming {
    Folder(PathBuf),
    Add(PathBuf, Id),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf, Id),
}

impl Naming {
    fn touches(&self, folder: &Path) -> bool {
        match self {
            Self::Folder(path) | Self::Add(path, _) | Self::Remove(path) => {
                path.parent() == Some(folder)
            }
            Self::Rename(from, to, _) => {
                from.parent() == Some(folder) || to.parent() == Some(folder)
            }
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, Option<Id>>) {
        match self {
            Self::Folder(path) => {
                names.insert(path.clone(), None);
            }
            Self::Add(path, id) => {
                names.insert(path.clone(), Some(*id));
            }
            Self::Remove(path) => {
                names.remove(path);
            }
            Self::Rename(from, to, id) => {
                names.remove(from);
                names.insert(to.clone(), Some(*id));
            }
        }
    }
}

/// What goes wrong, and how often, in a thousand calls.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Trouble {
    pub(crate) full: u64,
    pub(crate) broken: u64,
}

/// Why a call does nothing.
#[derive(Debug)]
enum Fault {
    /// The process died before it.
    Dead,
    /// The process dies in it.
    Dying,
    Error(io::Error),
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Error(e) => e,
            Fault::Dead | Fault::Dying => Self::other("the process is dead"),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    contents: Vec<Content>,
    /// Which of them a real file is.
    inodes: BTreeMap<u64, Id>,
    /// The names as they are, and as they are safe; `None` is a folder.
    names: BTreeMap<PathBuf, Option<Id>>,
    safe_names: BTreeMap<PathBuf, Option<Id>>,
    unsynced: Vec<Naming>,
    trouble: Trouble,
    /// Die at this many calls from now.
    die_after: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct SimDisk {
    world: Arc<World>,
    root: PathBuf,
    life: Mutex<Arc<Life>>,
    state: Mutex<State>,
}

impl SimDisk {
    pub(crate) fn new(world: Arc<World>, root: PathBuf) -> Self {
        let life = Mutex::new(Arc::new(Life::default()));
        Self { world, root, life, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next process.
    pub(crate) fn begin(&self, life: Arc<Life>) {
        *self.life.lock().unwrap() = life;
        self.state().die_after = None;
    }

    pub(crate) fn set_trouble(&self, trouble: Trouble) {
        self.state().trouble = trouble;
    }

    pub(crate) fn die_after(&self, calls: Option<u64>) {
        self.state().die_after = calls;
    }

    fn short(&self, path: &Path) -> String {
        let Ok(path) = path.strip_prefix(&self.root) else { return "..".to_owned() };
        // Names of temporary files hold the time of day and a process id.
        if path.parent().is_some_and(|p| p.ends_with("tmp")) {
            return ".ptn/tmp/*".to_owned();
        }
        path.display().to_string()
    }

    /// One call: the trace, the faults, the death. `Ok(true)`: die right after it.
    fn call(&self, what: &str, path: &str, can_be_full: bool) -> Result<bool, Fault> {
        let life = Arc::clone(&self.life.lock().unwrap());
        if life.is_over() {
            return Err(Fault::Dead);
        }
        let mut state = self.state();
        let mut last = false;
        if let Some(left) = &mut state.die_after {
            *left = left.saturating_sub(1);
            if *left == 0 {
                state.die_after = None;
                last = true;
            }
        }
        let Trouble { full, broken } = state.trouble;
        drop(state);
        if last && self.world.chance(500) {
            self.world.trace(|| format!("disk: dies in {what} {path}"));
            life.end();
            return Err(Fault::Dying);
        }
        if can_be_full && full > 0 && self.world.chance(full) {
            self.world.trace(|| format!("disk: {what} {path}: no space"));
            return Err(Fault::Error(io::ErrorKind::StorageFull.into()));
        }
        if broken > 0 && self.world.chance(broken) {
            self.world.trace(|| format!("disk: {what} {path}: input/output error"));
            return Err(Fault::Error(io::Error::from_raw_os_error(5)));
        }
        self.world.trace(|| format!("disk: {what} {path}"));
        Ok(last)
    }

    fn done<T>(&self, last: bool, value: T) -> T {
        if last {
            self.world.trace(|| "disk: dies after that".to_owned());
            self.life.lock().unwrap().end();
        }
        value
    }

    fn id(state: &State, file: &File) -> io::Result<Id> {
        let inode = file.metadata()?.ino();
        state.inodes.get(&inode).copied().ok_or_else(|| io::Error::other("a file of nobody"))
    }

    fn change(&self, file: &File, change: Change) -> io::Result<()> {
        let mut state = self.state();
        let id = Self::id(&state, file)?;
        state.contents[id].unsynced.push(change);
        Ok(())
    }

    fn rename_to(&self, naming: Naming) {
        let mut state = self.state();
        naming.apply(&mut state.names);
        state.unsynced.push(naming);
    }

    fn add_file(&self, path: &Path, file: &File) -> io::Result<()> {
        let inode = file.metadata()?.ino();
        let mut state = self.state();
        let id = state.contents.len();
        state.contents.push(Content::default());
        state.inodes.insert(inode, id);
        drop(state);
        self.rename_to(Naming::Add(path.to_owned(), id));
        Ok(())
    }

    fn id_at(&self, path: &Path) -> Id {
        self.state().names.get(path).copied().flatten().expect("a file that was made here")
    }

    /// The power goes: only what is safe is left, and some of the rest.
    pub(crate) fn power_cut(&self) {
        let mut state = self.state();
        let mut names = std::mem::take(&mut state.safe_names);
        for naming in std::mem::take(&mut state.unsynced) {
            if self.world.chance(500) {
                naming.apply(&mut names);
            }
        }
        // A name without its folder is lost with it.
        let folders: Vec<PathBuf> =
            names.iter().filter(|(_, id)| id.is_none()).map(|(path, _)| path.clone()).collect();
        names.retain(|path, _| {
            *path == self.root || path.parent().is_some_and(|p| folders.iter().any(|f| f == p))
        });
        let contents = std::mem::take(&mut state.contents);
        std::fs::remove_dir_all(&self.root).ok();
        state.inodes.clear();
        state.names.clear();
        let mut placed: BTreeMap<Id, PathBuf> = BTreeMap::new();
        for (path, id) in names {
            let Some(id) = id else {
                std::fs::create_dir_all(&path).unwrap();
                state.names.insert(path, None);
                continue;
            };
            if let Some(first) = placed.get(&id) {
                std::fs::hard_link(first, &path).unwrap();
                let again = state.names[first];
                state.names.insert(path, again);
                continue;
            }
            let mut content = self.survivor(&contents[id]);
            std::fs::write(&path, &content.safe).unwrap();
            let file = File::options().append(true).open(&path).unwrap();
            let mark = *content.mark.get_or_insert(SystemTime::UNIX_EPOCH);
            file.set_modified(mark).unwrap();
            let fresh = state.contents.len();
            state.inodes.insert(file.metadata().unwrap().ino(), fresh);
            state.names.insert(path.clone(), Some(fresh));
            state.contents.push(content);
            placed.insert(id, path);
        }
        state.safe_names = state.names.clone();
    }

    fn survivor(&self, content: &Content) -> Content {
        let mut left = Content { safe: content.safe.clone(), mark: content.mark, unsynced: vec![] };
        let n = content.unsynced.len() as u64;
        let keep = usize::try_from(self.world.range(0, n)).unwrap();
        for (i, change) in content.unsynced.iter().take(keep).enumerate() {
            match change {
                Change::Write(at, bytes) if i + 1 == keep && !bytes.is_empty() => {
                    let cut = self.world.range(0, bytes.len() as u64);
                    let cut = usize::try_from(cut).unwrap();
                    apply(&mut left, &Change::Write(*at, bytes[..cut].to_vec()));
                    if self.world.chance(300) {
                        left.safe.resize(left.safe.len() + bytes.len() - cut, 0);
                    }
                }
                other => apply(&mut left, other),
            }
        }
        left
    }
}

fn apply(content: &mut Content, change: &Change) {
    match change {
        Change::Write(at, bytes) => {
            content.safe.resize(usize::try_from(*at).unwrap(), 0);
            content.safe.extend_from_slice(bytes);
        }
        Change::Again(at, bytes) => {
            let from = usize::try_from(*at).unwrap();
            let to = from + bytes.len();
            if content.safe.len() < to {
                content.safe.resize(to, 0);
            }
            content.safe[from..to].copy_from_slice(bytes);
        }
        Change::Cut(len) => content.safe.resize(usize::try_from(*len).unwrap(), 0),
        Change::Mark(at) => content.mark = Some(*at),
    }
}

impl Disk for SimDisk {
    fn free(&self, _path: &Path) -> io::Result<FreeSpace> {
        // Full disks refuse in the middle of a write here.
        Ok(FreeSpace { bytes: u64::MAX, inodes: None })
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let last = self.call("mkdir", &self.short(path), true)?;
        RealDisk.create_dir(path)?;
        self.rename_to(Naming::Folder(path.to_owned()));
        self.done(last, Ok(()))
    }

    fn create_new(&self, path: &Path) -> io::Result<File> {
        let last = self.call("create", &self.short(path), true)?;
        let file = RealDisk.create_new(path)?;
        self.add_file(path, &file)?;
        self.done(last, Ok(file))
    }

    fn open_append(&self, path: &Path, create: bool) -> io::Result<File> {
        let last = self.call("open", &self.short(path), create)?;
        let fresh = create && !path.exists();
        let file = RealDisk.open_append(path, create)?;
        if fresh {
            self.add_file(path, &file)?;
        }
        self.done(last, Ok(file))
    }

    fn write_all(&self, file: &File, bytes: &[u8]) -> io::Result<()> {
        let at = file.metadata()?.len();
        let write = |bytes: &[u8]| {
            RealDisk.write_all(file, bytes)?;
            self.change(file, Change::Write(at, bytes.to_vec()))
        };
        match self.call("write", &format!("{} bytes", bytes.len()), true) {
            Ok(last) => {
                write(bytes)?;
                self.done(last, Ok(()))
            }
            Err(Fault::Dead) => Err(Fault::Dead.into()),
            Err(fault) => {
                // A part of it may be there.
                let part = self.world.range(0, bytes.len() as u64);
                write(&bytes[..usize::try_from(part).unwrap()])?;
                Err(fault.into())
            }
        }
    }

    fn write_again(&self, path: &Path, at: u64, bytes: &[u8]) -> io::Result<()> {
        let last = self.call("write again", &format!("{} bytes", bytes.len()), false)?;
        RealDisk.write_again(path, at, bytes)?;
        let id = self.id_at(path);
        self.state().contents[id].unsynced.push(Change::Again(at, bytes.to_vec()));
        self.done(last, Ok(()))
    }

    fn truncate(&self, file: &File, len: u64) -> io::Result<()> {
        let last = self.call("cut", &format!("to {len}"), false)?;
        RealDisk.truncate(file, len)?;
        self.change(file, Change::Cut(len))?;
        self.done(last, Ok(()))
    }

    fn set_modified(&self, file: &File, at: SystemTime) -> io::Result<()> {
        let last = self.call("mark", "", false)?;
        RealDisk.set_modified(file, at)?;
        self.change(file, Change::Mark(at))?;
        self.done(last, Ok(()))
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        let result = self.call("sync", "", false);
        let mut guard = self.state();
        let id = Self::id(&guard, file)?;
        let content = &mut guard.contents[id];
        match result {
            Ok(last) => {
                let unsynced = std::mem::take(&mut content.unsynced);
                unsynced.iter().for_each(|change| apply(content, change));
                drop(guard);
                self.done(last, Ok(()))
            }
            Err(fault) => {
                if matches!(fault, Fault::Error(_)) {
                    // Not on the list of what is to be written any more.
                    let written = |c: &Change| matches!(c, Change::Write(..) | Change::Again(..));
                    content.unsynced.retain(|change| !written(change));
                }
                Err(fault.into())
            }
        }
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let last = self.call("sync folder", &self.short(path), false)?;
        let mut guard = self.state();
        let state = &mut *guard;
        let (now, later) =
            std::mem::take(&mut state.unsynced).into_iter().partition(|n| n.touches(path));
        state.unsynced = later;
        let now: Vec<Naming> = now;
        now.iter().for_each(|naming| naming.apply(&mut state.safe_names));
        drop(guard);
        self.done(last, Ok(()))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let last = self.call("link to", &self.short(to), true)?;
        RealDisk.link(from, to)?;
        let id = self.id_at(from);
        self.rename_to(Naming::Add(to.to_owned(), id));
        self.done(last, Ok(()))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let last = self.call("rename to", &self.short(to), true)?;
        RealDisk.rename(from, to)?;
        let id = self.id_at(from);
        self.rename_to(Naming::Rename(from.to_owned(), to.to_owned(), id));
        self.done(last, Ok(()))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let last = self.call("remove", &self.short(path), false)?;
        RealDisk.remove(path)?;
        self.rename_to(Naming::Remove(path.to_owned()));
        self.done(last, Ok(()))
    }
}
