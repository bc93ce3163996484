//! The only place that creates, renames and deletes files in a spool.
//!
//! A file is complete before it has its name: it is written under `.ptn/tmp/`, then linked. What
//! is in the folders follows from the journal, so a file that a power cut took is written again at
//! the next start; before the journal forgets a signal, [`Spool::settle`] makes its file last.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use super::disk::{Disk, open_foreign};
use super::layout::{Layout, reason_name};
use crate::store::StoreError;

/// File systems take names of 255 bytes; behind ours comes `.reason.txt`, and a number.
const LONGEST_KEPT: usize = 239;

/// Turns an error of the disk into one that says what was tried, and where.
pub(super) fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full { path },
        _ => StoreError::Io { what, path, source },
    }
}

/// `Ok` when there is nothing at the path any more.
pub(super) fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Makes the name of a new folder last.
fn sync_name(disk: &dyn Disk, folder: &Path) -> Result<(), StoreError> {
    let Some(parent) = folder.parent() else { return Ok(()) };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    disk.sync_dir(parent).map_err(io_error("cannot sync", parent))
}

/// The folders of one data directory.
#[derive(Debug)]
pub(super) struct Spool {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) layout: Layout,
    next_tmp: AtomicU64,
}

impl Spool {
    /// Creates what is missing.
    pub(super) fn create(disk: Arc<dyn Disk>, root: PathBuf) -> Result<Self, StoreError> {
        let layout = Layout::new(root);
        // Parents are the user's: created if need be, with the user's usual mode.
        let parents: Vec<_> = layout.root.ancestors().skip(1).collect();
        for parent in parents.into_iter().rev().filter(|p| !p.as_os_str().is_empty()) {
            if !parent.is_dir() {
                std::fs::create_dir(parent).map_err(io_error("cannot create", parent))?;
                sync_name(disk.as_ref(), parent)?;
            }
        }
        for folder in layout.folders() {
            if !folder.is_dir() {
                disk.create_dir(folder).map_err(io_error("cannot create the folder", folder))?;
                sync_name(disk.as_ref(), folder)?;
            }
        }
        layout.on_one_disk()?;
        for folder in layout.folders() {
            // A folder that the Python tools made; whoever may write there may trade.
            let mode = std::fs::metadata(folder).map_or(0, |meta| meta.mode());
            if mode & 0o022 != 0 {
                tracing::warn!(path = %folder.display(), mode = format!("{:o}", mode & 0o7777),
                    "others may write here, and so trade with your hotkey; chmod 700 it");
            }
        }
        Ok(Self { disk, layout, next_tmp: AtomicU64::new(0) })
    }

    /// A name in `.ptn/tmp/` that no other thread or process uses.
    pub(super) fn tmp_path(&self) -> PathBuf {
        let n = self.next_tmp.fetch_add(1, Ordering::Relaxed);
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.layout.tmp.join(format!("{}-{}-{n}", std::process::id(), at.as_nanos()))
    }

    /// Puts a complete file under its name and returns whether it did: another file of that name
    /// stays, unless it is to be replaced. Not synced.
    pub(super) fn publish(
        &self,
        to: &Path,
        text: &str,
        mark: SystemTime,
        replace: bool,
    ) -> io::Result<bool> {
        let tmp = self.tmp_path();
        let written = (|| {
            let file = self.disk.create_new(&tmp)?;
            self.disk.write_all(&file, text.as_bytes())?;
            self.disk.set_modified(&file, mark)?;
            if replace {
                self.disk.rename(&tmp, to)?;
                return Ok(true);
            }
            match self.disk.link(&tmp, to) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
                other => other.map(|()| true),
            }
        })();
        if !(replace && written.is_ok()) {
            let removed = gone(self.disk.remove(&tmp));
            if written.is_ok() {
                removed?;
            }
        }
        written
    }

    /// Makes a file and, with [`Spool::settle_folders`], its name last.
    pub(super) fn settle(&self, path: &Path) -> io::Result<()> {
        let file = open_foreign(path)?;
        self.disk.sync(&file)
    }

    /// Makes the names in the three folders last.
    pub(super) fn settle_folders(&self) -> io::Result<()> {
        self.disk.sync_dir(&self.layout.processed)?;
        self.disk.sync_dir(&self.layout.failed)?;
        self.disk.sync_dir(&self.layout.received)
    }

    /// Removes a file; it may be gone.
    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        gone(self.disk.remove(path))
    }

    /// Moves a file out of `received_signals/`, unchanged, with the reason beside it. Returns its
    /// new name.
    pub(super) fn quarantine(&self, name: &str, reason: &str) -> io::Result<String> {
        let from = self.layout.received.join(name);
        let kept = self.set_aside(&from, name)?;
        let mut text = reason.to_owned();
        if !kept.starts_with(name) {
            text.push_str(&format!(
                "; the file was named {name:?}, too long for this one beside it"
            ));
        }
        text.push('\n');
        let beside = self.layout.failed.join(reason_name(&kept));
        self.publish(&beside, &text, SystemTime::now(), true)?;
        self.disk.sync_dir(&self.layout.failed)?;
        self.disk.sync_dir(&self.layout.received)?;
        Ok(kept)
    }

    /// Makes room for the file of a finished signal whose id an earlier, quarantined file has.
    pub(super) fn make_room(&self, id: &str) -> io::Result<()> {
        let reason = self.layout.failed.join(reason_name(id));
        if !self.layout.failed.join(id).exists() || !reason.exists() {
            return Ok(());
        }
        let kept = self.set_aside(&self.layout.failed.join(id), id)?;
        self.disk.rename(&reason, &self.layout.failed.join(reason_name(&kept)))
    }

    /// Gives a file a free name in `failed_signals/`: its own, or with a number behind it.
    fn set_aside(&self, from: &Path, name: &str) -> io::Result<String> {
        // Room for the number, and for the name of the reason.
        let name = name.get(..name.floor_char_boundary(LONGEST_KEPT)).unwrap_or(name);
        let mut kept = name.to_owned();
        for n in 1..10_000 {
            let to = self.layout.failed.join(&kept);
            if !self.layout.failed.join(reason_name(&kept)).exists() {
                match self.disk.link(from, &to) {
                    Ok(()) => {
                        self.disk.remove(from)?;
                        return Ok(kept);
                    }
                    Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(e) => return Err(e),
                }
            }
            kept = format!("{name}.{n}");
        }
        Err(io::Error::other("10000 files of this name were refused before"))
    }

    /// Removes what crashed processes left half made. Only while no other process may be writing
    /// there: names hold the pid, and those of living processes stay.
    pub(super) fn sweep_tmp(&self) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.layout.tmp)? {
            let entry = entry?;
            let name = entry.file_name();
            let pid = name.to_str().and_then(|n| n.split('-').next()).unwrap_or_default();
            if pid.is_empty() || !Path::new("/proc").join(pid).exists() {
                self.remove(&entry.path())?;
            }
        }
        Ok(())
    }
}
