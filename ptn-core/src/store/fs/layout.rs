//! Names and places in a data directory.
//!
//! ```text
//! mining/
//!   received_signals/<id>     waiting or in delivery; files that others drop here are adopted
//!   processed_signals/<id>    everyone who must acknowledge it did
//!   failed_signals/<id>       finished without that
//!   failed_signals/<name>     a file that could not be adopted, as it was, and beside it
//!   failed_signals/<name>.reason.txt
//!   archived_signals/YYYY-MM/<id>  processed ones that retention moved; see `retention`
//!   .ptn/lock                 held by the process that delivers: its pid and host
//!   .ptn/journal.lock         held while the journal is read or extended
//!   .ptn/journal/journal.log  the truth; see `journal`
//!   .ptn/journal.damaged      copy of a journal that could not be read
//!   .ptn/moved                names the store that has the signals now; nothing is taken any more
//!   .ptn/retired              places of signals that retention deleted
//!   .ptn/nonce                the last nonce that was signed; see `transport::nonce`
//!   .ptn/tmp/                 files in the making; swept by the owner at start
//! ```
//!
//! A file that we write into one of the three folders carries a time of change that belongs to its
//! signal alone: the millisecond of its acceptance, and its place in the order of arrival as the
//! nanoseconds below that. So `ls -t` shows the order of arrival, and our own files are told from
//! others' without opening them.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::durable::io_error;
use crate::record::SignalState;
use crate::store::{StoreError, UnixMs};

/// The paths of one data directory.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) root: PathBuf,
    pub(super) received: PathBuf,
    pub(super) processed: PathBuf,
    pub(super) failed: PathBuf,
    pub(super) archived: PathBuf,
    pub(super) private: PathBuf,
    pub(super) tmp: PathBuf,
    pub(super) journal_dir: PathBuf,
    pub(super) journal: PathBuf,
    pub(super) journal_lock: PathBuf,
    pub(super) owner_lock: PathBuf,
    pub(super) damaged: PathBuf,
    pub(super) moved: PathBuf,
    pub(super) retired: PathBuf,
}

impl Layout {
    pub(super) fn new(root: PathBuf) -> Self {
        let private = root.join(".ptn");
        let journal_dir = private.join("journal");
        Self {
            received: root.join("received_signals"),
            processed: root.join("processed_signals"),
            failed: root.join("failed_signals"),
            archived: root.join("archived_signals"),
            tmp: private.join("tmp"),
            journal: journal_dir.join("journal.log"),
            journal_lock: private.join("journal.lock"),
            owner_lock: private.join("lock"),
            damaged: private.join("journal.damaged"),
            moved: private.join("moved"),
            retired: private.join("retired"),
            journal_dir,
            private,
            root,
        }
    }

    /// Every folder, parents first.
    pub(super) fn folders(&self) -> [&Path; 7] {
        [
            &self.root,
            &self.received,
            &self.processed,
            &self.failed,
            &self.private,
            &self.journal_dir,
            &self.tmp,
        ]
    }

    /// Files are renamed and linked from folder to folder, which no two disks allow.
    pub(super) fn on_one_disk(&self) -> Result<(), StoreError> {
        let device = |path: &Path| {
            std::fs::metadata(path).map(|meta| meta.dev()).map_err(io_error("cannot read", path))
        };
        let root = device(&self.root)?;
        for folder in self.folders() {
            if device(folder)? != root {
                return Err(StoreError::Io {
                    what: "every folder of a data directory must be on the same disk as the directory itself; move the data directory as a whole, not",
                    path: folder.to_owned(),
                    source: std::io::ErrorKind::CrossesDevices.into(),
                });
            }
        }
        Ok(())
    }

    /// The folder of finished signals.
    pub(super) fn finished(&self, state: SignalState) -> &Path {
        if state == SignalState::Processed { &self.processed } else { &self.failed }
    }
}

/// The name of the file that says why `name` was not adopted.
pub(super) fn reason_name(name: &str) -> String {
    format!("{name}.reason.txt")
}

/// The time of change that marks the files of one signal as ours.
pub(super) fn mark(accepted_at: UnixMs, seq: u64) -> SystemTime {
    let ms = u64::try_from(accepted_at).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_millis(ms) + Duration::from_nanos(seq % 1_000_000)
}
