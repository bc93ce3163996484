//! Keeping the folder of processed signals small: older files move to a folder of their month, and
//! much older ones go, when the operator says so.
//!
//! Moved files still count: their ids stay taken, and they are found by id. The id of a deleted one
//! is free again; its place in the order of arrival is kept in `.ptn/retired`, so that `verify` can
//! tell what was deleted on purpose from what is missing. Failed signals stay, because they can be
//! sent again.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;

use super::durable::{Spool, io_error};
use super::layout::Layout;
use super::writer::Message;
use super::{FsStore, archive};
use crate::record::{SignalState, legacy};
use crate::signal::OrderUuid;
use crate::store::{StoreError, UnixMs};

/// Where files go whose time is no time.
const UNDATED: &str = "undated";
/// How many deleted signals are noted down together.
const AT_ONCE: usize = 1000;
/// How long the journal may take to be written anew; what it still tells stays for the next time.
const PATIENCE: Duration = Duration::from_secs(30);

/// What becomes of processed signals in time, counted from their acceptance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retention {
    /// When they move to `archived_signals/YYYY-MM/`; never if absent.
    pub archive_after: Option<Duration>,
    /// When they are deleted from there; never if absent.
    pub delete_after: Option<Duration>,
}

impl Retention {
    /// Nothing moves and nothing goes, unless said otherwise.
    pub const KEEP: Self = Self { archive_after: None, delete_after: None };

    /// Whether there is anything to do.
    pub const fn is_keep(&self) -> bool {
        self.archive_after.is_none() && self.delete_after.is_none()
    }
}

/// What [`FsStore::tidy`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Tidied {
    /// Files that moved to the folder of their month.
    pub archived: u64,
    /// Files that were deleted.
    pub deleted: u64,
}

impl FsStore {
    /// Moves and deletes what is due. May be stopped at any time and run again.
    ///
    /// # Errors
    /// When the disk fails; what was done by then stays done.
    pub async fn tidy(&self, retention: Retention) -> Result<Tidied, StoreError> {
        let (mut done, told) = self.tidy_once(retention).await?;
        if told {
            // A small journal is seldom written anew by itself.
            let (forgotten, wait) = oneshot::channel();
            self.shared.tell_writer(Message::Forget(forgotten));
            drop(tokio::time::timeout(PATIENCE, wait).await);
            let (more, _) = self.tidy_once(retention).await?;
            done.archived += more.archived;
            done.deleted += more.deleted;
        }
        Ok(done)
    }

    /// Also whether something that is due is still told by the journal: the next start would write it
    /// again.
    async fn tidy_once(&self, retention: Retention) -> Result<(Tidied, bool), StoreError> {
        let now = self.shared.now();
        let shared = Arc::clone(&self.shared);
        let last_seq = shared.index().last_seq();
        self.read(move |spool| {
            let kept = Cell::new(false);
            let told = |id: &str| {
                let told = OrderUuid::parse(id).is_ok_and(|id| shared.index().done(&id).is_some());
                kept.set(kept.get() || told);
                told
            };
            let mut done = Tidied::default();
            if let Some(age) = retention.archive_after {
                done.archived = spool.archive(before(now, age), &told)?;
            }
            if let Some(age) = retention.delete_after {
                done.deleted = spool.delete(before(now, age), last_seq, &told)?;
            }
            Ok((done, kept.get()))
        })
        .await
    }
}

fn time(at: UnixMs) -> SystemTime {
    before(at, Duration::ZERO)
}

fn before(now: UnixMs, age: Duration) -> SystemTime {
    let now = Duration::from_millis(u64::try_from(now).unwrap_or(0));
    SystemTime::UNIX_EPOCH + now.saturating_sub(age)
}

impl Spool {
    fn archive(&self, before: SystemTime, told: &dyn Fn(&str) -> bool) -> Result<u64, StoreError> {
        let folder = &self.layout.processed;
        let mut moved = 0;
        let mut months = BTreeSet::new();
        for (name, at) in older(folder, before).map_err(io_error("cannot list", folder))? {
            if told(&name) {
                continue;
            }
            let from = folder.join(&name);
            // Files of the Python tools are not ours to move.
            if !archive::read_text(&from).is_ok_and(|text| legacy::read_finished(&text).is_some()) {
                continue;
            }
            let month = self.layout.month(at);
            if months.insert(month.clone()) {
                self.create_month(&month).map_err(io_error("cannot create", &month))?;
            }
            let to = month.join(&name);
            self.disk.rename(&from, &to).map_err(io_error("cannot move to", &to))?;
            moved += 1;
        }
        for month in &months {
            self.disk.sync_dir(month).map_err(io_error("cannot sync", month))?;
        }
        self.disk.sync_dir(folder).map_err(io_error("cannot sync", folder))?;
        Ok(moved)
    }

    fn create_month(&self, month: &Path) -> io::Result<()> {
        for folder in [self.layout.archived.as_path(), month] {
            if !folder.is_dir() {
                self.disk.create_dir(folder)?;
                self.disk.sync_dir(folder.parent().unwrap_or(&self.layout.root))?;
            }
        }
        Ok(())
    }

    fn delete(
        &self,
        before: SystemTime,
        last_seq: u64,
        told: &dyn Fn(&str) -> bool,
    ) -> Result<u64, StoreError> {
        let mut gone = 0;
        for month in self.layout.months() {
            let old = older(&month, before).map_err(io_error("cannot list", &month))?;
            // What others put there is not ours to delete. And what was old when it came (a file that was
            // dropped with its time) ended later than that: whoever sends it again is to be recognised.
            let over = |name: &str| {
                let text = archive::read_text(&month.join(name)).ok()?;
                let stored = legacy::read_finished(&text)?;
                let ended = stored.finished_at.unwrap_or(stored.accepted_at);
                (time(ended) < before).then_some(stored.seq)
            };
            let old = old.into_iter().filter(|(name, _)| !told(name));
            let old: Vec<_> =
                old.filter_map(|(name, _)| over(&name).map(|seq| (name, seq))).collect();
            let emptied = !old.is_empty();
            for some in old.chunks(AT_ONCE) {
                self.retire(some.iter().map(|(_, seq)| *seq).collect(), last_seq)?;
                for (name, _) in some {
                    let path = month.join(name);
                    self.remove(&path).map_err(io_error("cannot remove", &path))?;
                    gone += 1;
                }
            }
            if emptied && std::fs::read_dir(&month).is_ok_and(|mut left| left.next().is_none()) {
                // Somebody may just have put a file there.
                std::fs::remove_dir(&month).ok();
            }
        }
        Ok(gone)
    }

    /// Notes the places of signals that are about to go.
    fn retire(&self, seqs: BTreeSet<u64>, last_seq: u64) -> Result<(), StoreError> {
        let path = &self.layout.retired;
        let mut all = retired(path, last_seq).map_err(io_error("cannot read", path))?;
        all.extend(seqs);
        let text = ranges(&all);
        self.publish(path, &text, SystemTime::now(), true)
            .and_then(|_| self.settle(path))
            .and_then(|()| self.disk.sync_dir(&self.layout.private))
            .map_err(io_error("cannot write", path))
    }
}

/// Plain files that are older, with their times.
fn older(folder: &Path, before: SystemTime) -> io::Result<Vec<(String, SystemTime)>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let Ok(meta) = entry.metadata() else { continue };
        let at = meta.modified()?;
        if meta.is_file() && at < before {
            names.push((name, at));
        }
    }
    Ok(names)
}

/// The places of signals that were deleted on purpose, up to the last one that was given out.
pub(super) fn retired(path: &Path, last_seq: u64) -> io::Result<BTreeSet<u64>> {
    let text = match std::fs::read_to_string(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        other => other?,
    };
    let range = |line: &str| {
        let (first, last) = line.split_once('-').unwrap_or((line, line));
        Some(first.parse::<u64>().ok()?..=last.parse::<u64>().ok()?.min(last_seq))
    };
    Ok(text.lines().filter_map(range).flatten().collect())
}

/// One range a line.
fn ranges(seqs: &BTreeSet<u64>) -> String {
    let mut text = String::new();
    let mut seqs = seqs.iter().copied().peekable();
    while let Some(first) = seqs.next() {
        let mut last = first;
        while let Some(next) = seqs.next_if(|next| *next == last + 1) {
            last = next;
        }
        text.push_str(&format!("{first}-{last}\n"));
    }
    text
}

impl Layout {
    /// The folders of the months, the latest first.
    pub(super) fn months(&self) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(&self.archived) else { return Vec::new() };
        let month = |entry: std::fs::DirEntry| {
            let name = entry.file_name().into_string().ok()?;
            let is_month = name == UNDATED
                || (name.len() == 7
                    && name.bytes().enumerate().all(|(at, byte)| match at {
                        4 => byte == b'-',
                        _ => byte.is_ascii_digit(),
                    }));
            // A link is no folder of ours.
            let real = entry.file_type().is_ok_and(|kind| kind.is_dir());
            (is_month && real).then(|| entry.path())
        };
        let mut months: Vec<_> = entries.filter_map(|e| month(e.ok()?)).collect();
        months.sort_by(|a, b| b.cmp(a));
        months
    }

    /// Where finished signals of a state are, the latest first.
    pub(super) fn finished_folders(&self, state: SignalState) -> Vec<PathBuf> {
        let mut folders = vec![self.finished(state).to_owned()];
        if state == SignalState::Processed {
            folders.extend(self.months());
        }
        folders
    }

    fn month(&self, at: SystemTime) -> PathBuf {
        let month = jiff::Timestamp::try_from(at)
            .map_or_else(|_| UNDATED.to_owned(), |at| at.strftime("%Y-%m").to_string());
        self.archived.join(month)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_kept_as_ranges() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("retired");
        assert!(retired(&path, 99).unwrap().is_empty());
        let some: BTreeSet<u64> = [1, 2, 3, 7, 9, 10].into();
        assert_eq!(ranges(&some), "1-3\n7-7\n9-10\n");
        std::fs::write(&path, ranges(&some)).unwrap();
        assert_eq!(retired(&path, 99).unwrap(), some);
        std::fs::write(&path, "1-3\n7-99999999999999\n").unwrap();
        assert_eq!(retired(&path, 8).unwrap(), [1, 2, 3, 7, 8].into());
    }
}
