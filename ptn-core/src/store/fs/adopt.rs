//! Files that others put into `received_signals/`: Python tools, scripts, people.
//!
//! They are written in place, so a file is taken when it reads as a whole signal; one that does not
//! is left alone until it has not changed for a while, then moved to `failed_signals/` as it is,
//! with the reason beside it. The file's name is the signal's id, with or without `.json`, `.txt` or
//! `.signal`. Names that begin with a dot or end in `~`, `.tmp`, `.part` or `.swp` are work in
//! progress of others. Links, pipes, devices and folders are never opened.
//!
//! Adopting is accepting: after a crash in between, the same file has the same id and digest. A signal
//! is as old as its file: what was left here hours ago, while nobody delivered, is not fresh.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use sha2::{Digest as _, Sha256};

use super::disk::open_foreign;
use super::layout::mark;
use super::shared::Shared;
use crate::json::Json;
use crate::json::literal::read_object;
use crate::record::{SignalState, legacy};
use crate::rules::Rules;
use crate::signal::{OrderUuid, Signal};
use crate::store::index::{Answer, Archive as _, Request};
use crate::store::{Accepted, StoreError, UnixMs};

/// Larger files are no signals.
pub(super) const MAX_FILE: u64 = 256 * 1024;
/// So many files are accepted with one sync or a few.
const CHUNK: usize = 256;
/// A text that only lacks its end gets this many times the usual patience.
const PATIENCE: u32 = 10;

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    len: u64,
    modified: SystemTime,
}

impl Stamp {
    fn modified_ms(&self) -> UnixMs {
        let since = self.modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        UnixMs::try_from(since.as_millis()).unwrap_or(UnixMs::MAX)
    }
}

/// A file that reads as a signal.
#[derive(Debug)]
struct Candidate {
    name: String,
    stamp: Stamp,
    bytes: Vec<u8>,
    signal: Signal,
}

/// Why a file is not taken now.
enum Not {
    /// Nothing to do.
    Ours,
    /// It may become one.
    Yet(String, Patience),
    /// Never.
    Ever(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    Usual,
    /// More is probably coming.
    Long,
}

#[derive(Debug)]
pub(super) struct Adopter {
    shared: Arc<Shared>,
    /// Files that were looked at and stay: adopted, or nothing for us.
    seen: BTreeMap<String, Stamp>,
    /// Files that may become signals, and since when they are as they are.
    waiting: BTreeMap<String, (Stamp, Instant)>,
    /// Warned about once.
    ignored: BTreeSet<OsString>,
    /// What became signals, where somebody wants to know.
    taken: Option<Vec<OrderUuid>>,
}

impl Adopter {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let (seen, waiting, ignored) = Default::default();
        Self { shared, seen, waiting, ignored, taken: None }
    }

    /// When a waiting file should be looked at again.
    pub(super) fn next_look(&self) -> Option<Duration> {
        let soon = (self.shared.options.settle / 4).max(Duration::from_millis(5));
        (!self.waiting.is_empty()).then_some(soon)
    }

    /// Adds the names that need a look. Those of unfinished signals are left out unless `all`:
    /// their files are ours, or were looked at when they came.
    pub(super) fn scan(&mut self, all: bool, names: &mut BTreeSet<OsString>) {
        let folder = &self.shared.spool.layout.received;
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(e) => {
                tracing::warn!(path = %folder.display(), error = %e, "cannot list the folder");
                return;
            }
        };
        let mut there = BTreeSet::new();
        for entry in entries.flatten() {
            let name = entry.file_name();
            if let Some(text) = name.to_str()
                && self.seen.contains_key(text)
            {
                there.insert(text.to_owned());
            }
            let known = !all
                && name
                    .to_str()
                    .and_then(|text| OrderUuid::parse(text).ok())
                    .is_some_and(|id| self.shared.index().live(&id).is_some());
            if !known {
                names.insert(name);
            }
        }
        self.seen.retain(|name, _| there.contains(name));
    }

    /// Looks at files and takes what is a signal, in order of their age.
    pub(super) fn look_at(&mut self, names: BTreeSet<OsString>) {
        let mut names = names;
        names.extend(self.waiting.keys().map(OsString::from));
        let mut found = Vec::new();
        for name in names {
            match name.to_str().filter(|n| !n.is_empty()) {
                Some(text) => {
                    if let Some(candidate) = self.look(text) {
                        found.push(candidate);
                    }
                }
                None => self.ignore(&name, "its name is not text"),
            }
        }
        found.sort_by(|a, b| (a.stamp.modified, &a.name).cmp(&(b.stamp.modified, &b.name)));
        while !found.is_empty() {
            let rest = found.split_off(found.len().min(CHUNK));
            if !self.take(std::mem::replace(&mut found, rest)) {
                // Nothing behind what was not taken now: it would come before it.
                let now = Instant::now();
                let rest = std::mem::take(&mut found);
                self.waiting.extend(rest.into_iter().map(|c| (c.name, (c.stamp, now))));
            }
        }
    }

    /// Takes everything that is there, and waits for what is still being written; the ids of what was
    /// new.
    pub(super) fn take_all(mut self) -> Vec<OrderUuid> {
        self.taken = Some(Vec::new());
        let mut names = BTreeSet::new();
        self.scan(true, &mut names);
        self.look_at(names);
        let until = Instant::now() + self.shared.options.settle * 2 * PATIENCE;
        while let Some(soon) = self.next_look()
            && Instant::now() < until
        {
            std::thread::sleep(soon);
            self.look_at(BTreeSet::new());
        }
        self.taken.unwrap_or_default()
    }

    fn ignore(&mut self, name: &OsString, why: &str) {
        if self.ignored.len() < 10_000 && self.ignored.insert(name.clone()) {
            tracing::warn!(?name, why, "ignoring an entry of received_signals");
        }
    }

    fn look(&mut self, name: &str) -> Option<Candidate> {
        if name.starts_with('.')
            || [".tmp", ".part", ".swp", "~"].iter().any(|end| name.ends_with(end))
        {
            return None;
        }
        let path = self.shared.spool.layout.received.join(name);
        let meta = match std::fs::symlink_metadata(&path) {
            Ok(meta) => meta,
            Err(_) => {
                self.waiting.remove(name);
                self.seen.remove(name);
                return None;
            }
        };
        if !meta.is_file() {
            self.ignore(&name.into(), "it is not a regular file");
            return None;
        }
        let stamp = Stamp {
            inode: meta.ino(),
            len: meta.len(),
            modified: meta.modified().unwrap_or(SystemTime::UNIX_EPOCH),
        };
        let result = match self.known_file(name, stamp) {
            true => Err(Not::Ours),
            false if self.seen.get(name) == Some(&stamp) => return None,
            false => self.read(name, &path, &meta, stamp),
        };
        match result {
            Ok(candidate) => {
                self.waiting.remove(name);
                Some(candidate)
            }
            Err(Not::Ours) => {
                self.waiting.remove(name);
                None
            }
            Err(Not::Ever(reason)) => {
                if self.settled(name, stamp, Patience::Usual) {
                    self.refuse(name, &reason);
                }
                None
            }
            Err(Not::Yet(reason, patience)) => {
                if self.settled(name, stamp, patience) {
                    self.refuse(name, &reason);
                }
                None
            }
        }
    }

    /// Whether the file is of a signal that we know, and nobody else wrote it. The file of a
    /// finished one is removed.
    fn known_file(&mut self, name: &str, stamp: Stamp) -> bool {
        let Ok(id) = OrderUuid::parse(name) else { return false };
        // A file that another process of ours made is in the journal before it is in the folder.
        if !self.knows(&id) {
            self.shared.catch_up();
        }
        let index = self.shared.index();
        if let Some(entry) = index.live(&id) {
            return stamp.modified == mark(entry.accepted_at, entry.seq);
        }
        let Some(done) = index.done(&id) else { return false };
        let ours = match done {
            crate::store::index::Finished::Whole(entry, _) => {
                stamp.modified == mark(entry.accepted_at, entry.seq)
            }
            crate::store::index::Finished::Known { .. } => false,
        };
        let done = ours || self.seen.get(name) == Some(&stamp);
        drop(index);
        if done {
            self.remove(name);
        }
        done
    }

    fn knows(&self, id: &OrderUuid) -> bool {
        let index = self.shared.index();
        index.live(id).is_some() || index.done(id).is_some()
    }

    fn read(
        &self,
        name: &str,
        path: &Path,
        meta: &std::fs::Metadata,
        stamp: Stamp,
    ) -> Result<Candidate, Not> {
        if meta.len() > MAX_FILE {
            let reason = format!("{} bytes; a signal has at most {MAX_FILE}", meta.len());
            return Err(Not::Ever(reason));
        }
        if meta.nlink() != 1 {
            return Err(Not::Ever(format!("it has {} names (hard links)", meta.nlink())));
        }
        let bytes = read(path, stamp.inode)
            .map_err(|e| Not::Yet(format!("cannot be read: {e}"), Patience::Long))?;
        let (signal, id) = signal_in(name, &bytes, &self.shared.options.rules)?;
        let id = id.unwrap_or_else(|| derived_id(name, stamp, &bytes));
        Ok(Candidate { name: name.to_owned(), stamp, bytes, signal: signal.with_id(id) })
    }

    /// Whether a file has been as it is for long enough.
    fn settled(&mut self, name: &str, stamp: Stamp, patience: Patience) -> bool {
        let needed = match patience {
            Patience::Usual => self.shared.options.settle,
            Patience::Long => self.shared.options.settle * PATIENCE,
        };
        let now = Instant::now();
        let entry = self.waiting.entry(name.to_owned()).or_insert((stamp, now));
        if entry.0 != stamp {
            *entry = (stamp, now);
        }
        entry.1.elapsed() >= needed
    }

    /// Accepts what reads as signals, in this order; whether the store takes any now.
    fn take(&mut self, candidates: Vec<Candidate>) -> bool {
        let accept = |c: &Candidate| Request::accept_given(&c.signal, Some(c.stamp.modified_ms()));
        let answers = match self.shared.ask_all(candidates.iter().map(accept).collect()) {
            Ok(answers) => answers,
            Err(e) => {
                tracing::warn!(error = %e, files = candidates.len(), "cannot adopt files now");
                let now = Instant::now();
                self.waiting.extend(candidates.into_iter().map(|c| (c.name, (c.stamp, now))));
                return false;
            }
        };
        let mut takes = true;
        for (answer, c) in answers.into_iter().zip(candidates) {
            match answer.blocking_recv().unwrap_or_else(|_| Err(super::shared::stopped())) {
                Ok(Answer::Accepted(Accepted::New { seq })) => {
                    if let Some(taken) = &mut self.taken {
                        taken.push(c.signal.id().clone());
                    }
                    tracing::info!(name = c.name, id = %c.signal.id(), seq, "adopted a file");
                    self.keep_or_remove(c);
                }
                Ok(Answer::Accepted(Accepted::Same { state: SignalState::Pending })) => {
                    self.keep_or_remove(c);
                }
                Ok(_) => self.remove_unchanged(&c),
                Err(StoreError::Conflict { .. }) if self.says_the_same(&c) => {
                    self.keep_or_remove(c);
                }
                Err(e @ StoreError::Conflict { .. }) => {
                    if self.unchanged(&c) {
                        self.refuse(&c.name, &format!("{}: {e}", e.code()));
                    }
                }
                Err(e) => {
                    tracing::warn!(name = c.name, error = %e, "cannot adopt a file now");
                    self.waiting.insert(c.name, (c.stamp, Instant::now()));
                    takes = false;
                }
            }
        }
        takes
    }

    /// Whether a file of a known signal has our text, though its time of change was lost (a copy).
    fn says_the_same(&self, c: &Candidate) -> bool {
        let id = c.signal.id();
        let known = self.shared.index().get(id);
        let known = match known {
            Some(known) => known.ok(),
            None => self.shared.spool.load(id).ok().flatten(),
        };
        known.is_some_and(|k| legacy::received_text(&k.signal).as_bytes() == c.bytes)
    }

    /// The file stays while its signal is unfinished if it has the name that ours would have.
    fn keep_or_remove(&mut self, c: Candidate) {
        let id = c.signal.id();
        let pending = self.shared.index().live(id).is_some();
        if pending && c.name == id.as_str() {
            self.seen.insert(c.name, c.stamp);
        } else {
            self.remove_unchanged(&c);
        }
    }

    fn unchanged(&self, c: &Candidate) -> bool {
        let path = self.shared.spool.layout.received.join(&c.name);
        std::fs::symlink_metadata(path).is_ok_and(|meta| {
            meta.ino() == c.stamp.inode
                && meta.len() == c.stamp.len
                && meta.modified().is_ok_and(|at| at == c.stamp.modified)
        })
    }

    /// Removes a file whose content is safe elsewhere, unless it became another one.
    fn remove_unchanged(&mut self, c: &Candidate) {
        if self.unchanged(c) {
            self.remove(&c.name);
        }
    }

    fn remove(&mut self, name: &str) {
        self.seen.remove(name);
        let path = self.shared.spool.layout.received.join(name);
        if let Err(e) = self.shared.spool.remove(&path) {
            tracing::warn!(path = %path.display(), error = %e, "cannot remove an adopted file");
        }
    }

    fn refuse(&mut self, name: &str, reason: &str) {
        self.waiting.remove(name);
        match self.shared.spool.quarantine(name, reason) {
            Ok(kept) => {
                tracing::warn!(name, kept, reason, "moved a file to failed_signals");
            }
            Err(e) => {
                tracing::warn!(name, reason, error = %e, "cannot move a file to failed_signals");
            }
        }
    }
}

/// The signal in a file, and its id if the name is one.
fn signal_in(name: &str, bytes: &[u8], rules: &Rules) -> Result<(Signal, Option<OrderUuid>), Not> {
    let mut object = read_object(bytes).map_err(|e| {
        let cut = e.at >= bytes.len();
        let patience = if cut { Patience::Long } else { Patience::Usual };
        Not::Yet(format!("neither JSON nor a Python dict: {e}"), patience)
    })?;
    // The Python tools write every field, and null for those that are not set.
    object.retain(|_, value| *value != Json::Null);
    let stem = OrderUuid::parse(stem(name)).ok();
    if let Some(stem) = &stem
        && object.get("order_uuid").is_none()
    {
        object.set("order_uuid", stem.as_str().into());
    }
    let signal =
        Signal::from_object(object, rules).map_err(|e| Not::Yet(e.to_string(), Patience::Usual))?;
    // A cancel that is named after its target must not take the target's id.
    let names_target = |stem: &OrderUuid| {
        signal.execution_type().targets_other_orders()
            && signal.order_uuid().split(',').any(|one| one.trim() == stem.as_str())
    };
    let id = stem.filter(|stem| !names_target(stem));
    Ok((signal, id))
}

/// As the adopter reads a file that will not change any more.
#[cfg(feature = "test-util")]
pub(super) fn read_whole(name: &str, bytes: &[u8], rules: &Rules) -> Result<Signal, String> {
    let stamp = Stamp { inode: 1, len: bytes.len() as u64, modified: SystemTime::UNIX_EPOCH };
    match signal_in(name, bytes, rules) {
        Ok((signal, id)) => {
            Ok(signal.with_id(id.unwrap_or_else(|| derived_id(name, stamp, bytes))))
        }
        Err(Not::Ours) => Err("nothing to do".to_owned()),
        Err(Not::Yet(why, _) | Not::Ever(why)) => Err(why),
    }
}

/// The name without the ending that scripts like to give.
fn stem(name: &str) -> &str {
    match name.rsplit_once('.') {
        Some((stem, end))
            if ["json", "txt", "signal"].iter().any(|e| end.eq_ignore_ascii_case(e)) =>
        {
            stem
        }
        _ => name,
    }
}

/// An id for a file whose name cannot be one. The same file has the same id again after a crash.
fn derived_id(name: &str, stamp: Stamp, bytes: &[u8]) -> OrderUuid {
    let mut hash = Sha256::new();
    hash.update(name.as_bytes());
    hash.update([0]);
    hash.update(stamp.inode.to_le_bytes());
    let modified = stamp.modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    hash.update(modified.as_nanos().to_le_bytes());
    hash.update(bytes);
    let mut id = [0; 16];
    for (to, from) in id.iter_mut().zip(hash.finalize()) {
        *to = from;
    }
    let uuid = uuid::Builder::from_random_bytes(id).into_uuid();
    OrderUuid::parse(&uuid.hyphenated().to_string()).unwrap_or_else(|_| OrderUuid::random())
}

fn read(path: &Path, inode: u64) -> io::Result<Vec<u8>> {
    let file = open_foreign(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() || meta.ino() != inode {
        return Err(io::Error::other("it was replaced while it was opened"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::stem;

    #[test]
    fn only_known_endings_are_cut_off() {
        for (name, expected) in [
            ("a", "a"),
            ("a.json", "a"),
            ("a.b.JSON", "a.b"),
            ("strategy.v2", "strategy.v2"),
            ("x.txt", "x"),
        ] {
            assert_eq!(stem(name), expected);
        }
    }
}
