//! Finished signals, read back from their files.
//!
//! A file of the Python tools under an id holds a signal that is not ours to judge: its id counts
//! as used, and nothing else is known. A file with a `.reason.txt` beside it was never accepted.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::disk::open_foreign;
use super::durable::{Spool, io_error};
use super::layout::reason_name;
use crate::record::{SignalState, legacy};
use crate::signal::OrderUuid;
use crate::store::index::{Archive, Standing};
use crate::store::{Filter, StoreError, StoredSignal, matches};

/// No file of ours comes near this.
pub(super) const MAX_FINISHED: u64 = 16 * 1024 * 1024;

const FOLDERS: [SignalState; 2] = [SignalState::Processed, SignalState::Failed];

impl Archive for Spool {
    fn standing(&self, id: &OrderUuid) -> Result<Option<Standing>, StoreError> {
        for state in FOLDERS {
            let Some((_, text)) = self.read_finished(state, id.as_str())? else { continue };
            return Ok(Some(match legacy::read_finished(&text) {
                // What was accepted, whatever the file says by now.
                Some(s) => {
                    let digest = legacy::stated_digest(&text).unwrap_or(s.signal.digest());
                    Standing::finished(s.seq, digest, s.state)
                }
                None => Standing::finished(0, [0; 32], state),
            }));
        }
        Ok(None)
    }

    fn load(&self, id: &OrderUuid) -> Result<Option<StoredSignal>, StoreError> {
        for state in FOLDERS {
            if let Some((path, text)) = self.read_finished(state, id.as_str())? {
                let stored = legacy::read_finished(&text);
                let accepted = legacy::stated_digest(&text);
                if stored.as_ref().is_some_and(|s| accepted != Some(s.signal.digest())) {
                    let what = "the signal in it is not the one that was accepted: its digest differs; put the file back from a backup, or send a new order".to_owned();
                    return Err(StoreError::Corrupt { path, at: 0, what });
                }
                return Ok(stored);
            }
        }
        Ok(None)
    }
}

impl Spool {
    /// All finished signals of ours, by their place. Two have the same one when the journal was lost.
    pub(super) fn finished_ids(&self) -> Result<BTreeSet<(u64, OrderUuid)>, StoreError> {
        let mut ids = BTreeSet::new();
        for state in FOLDERS {
            for folder in self.layout.finished_folders(state) {
                for (_, name) in newest_names(&folder).map_err(io_error("cannot list", &folder))? {
                    let Ok(Some(text)) = read_in(&folder, state, &name) else { continue };
                    if let Some(stored) = legacy::read_finished(&text) {
                        ids.insert((stored.seq, stored.signal.id().clone()));
                    }
                }
            }
        }
        Ok(ids)
    }

    /// The file of a finished signal, wherever it is by now, and its text.
    pub(super) fn read_finished(
        &self,
        state: SignalState,
        name: &str,
    ) -> Result<Option<(PathBuf, String)>, StoreError> {
        // In the direction in which retention moves them, so that none is missed on its way.
        let mut found = read_in(self.layout.finished(state), state, name)?
            .map(|text| (self.layout.finished(state).join(name), text));
        if found.is_none() && state == SignalState::Processed {
            for month in self.layout.months() {
                found = read_in(&month, state, name)?.map(|text| (month.join(name), text));
                if found.is_some() {
                    break;
                }
            }
        }
        Ok(found)
    }

    /// Finished signals that match, about the newest first, at most `limit` of each folder. Reads
    /// no more files than it must: their times of change are in the order of arrival.
    pub(super) fn list_finished(&self, filter: &Filter) -> Result<Vec<StoredSignal>, StoreError> {
        let mut found = Vec::new();
        for state in FOLDERS {
            if !filter.states.is_empty() && !filter.states.contains(&state) {
                continue;
            }
            let mut wanted = filter.limit();
            for folder in self.layout.finished_folders(state) {
                if wanted == 0 {
                    break;
                }
                let mut names = newest_names(&folder).map_err(io_error("cannot list", &folder))?;
                while wanted > 0
                    && let Some((_, name)) = names.pop()
                {
                    let Ok(Some(text)) = read_in(&folder, state, &name) else { continue };
                    let Some(stored) = legacy::read_finished(&text) else { continue };
                    if matches(filter, &stored) {
                        found.push(stored);
                        wanted -= 1;
                    }
                }
            }
        }
        found.sort_by_key(|stored| Reverse(stored.seq));
        Ok(found)
    }
}

/// The text of a finished signal's file in one folder.
fn read_in(folder: &Path, state: SignalState, name: &str) -> Result<Option<String>, StoreError> {
    let path = folder.join(name);
    let text = match read_text(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        // Nothing that we wrote.
        Err(e) if e.raw_os_error() == Some(libc::ELOOP) => return Ok(None),
        other => other.map_err(io_error("cannot read", &path))?,
    };
    let refused = state == SignalState::Failed && folder.join(reason_name(name)).exists();
    Ok((!refused).then_some(text))
}

fn newest_names(folder: &Path) -> io::Result<BinaryHeap<(SystemTime, Box<str>)>> {
    let mut names = Vec::new();
    let entries = match std::fs::read_dir(folder) {
        // A month that retention has just emptied.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(names.into()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.ends_with(".reason.txt") {
            continue;
        }
        if let Ok(meta) = entry.metadata()
            && meta.is_file()
        {
            names.push((meta.modified()?, name.into_boxed_str()));
        }
    }
    Ok(names.into())
}

pub(super) fn read_text(path: &Path) -> io::Result<String> {
    let file = open_foreign(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let mut text = Vec::new();
    file.take(MAX_FINISHED).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
