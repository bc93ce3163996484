//! A store whose threads are driven by hand, so that a simulation decides what happens when.
//!
//! The code that runs is that of the threads: the writer's batches, the files that follow the
//! journal, the reading of the journal at start. Left out are only their loops and pauses, and the
//! adoption of files that others drop (nothing watches the folder).

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use super::disk::Disk;
use super::folders::{Folders, Job};
use super::watch::Hint;
use super::writer::{Message, Writer};
use super::{FsOptions, FsStore, Parts};
use crate::store::StoreError;

/// What the threads of an [`FsStore`] would do.
#[derive(Debug)]
pub struct ByHand {
    writer: Writer,
    requests: Receiver<Message>,
    folders: Folders,
    jobs: Receiver<Job>,
    hints: Receiver<Hint>,
    /// Not told to the writer yet.
    settled: bool,
}

impl ByHand {
    /// Serves every request that is queued as one batch; false when there was none. Nothing is
    /// answered otherwise.
    pub fn write(&mut self) -> bool {
        self.writer.step(&self.requests)
    }

    /// Brings the folders in line with the journal; with `settle`, makes their files last, which takes
    /// a disk its time: until [`ByHand::settled`] the writer does not know.
    pub fn files(&mut self, settle: bool) {
        self.settled |= self.folders.step(&self.jobs, settle);
        // Meant for the adoption of files.
        self.hints.try_iter().for_each(drop);
    }

    /// Lets the journal forget what files that last say as well.
    pub fn settled(&mut self) {
        if std::mem::take(&mut self.settled) {
            self.folders.tell_settled();
        }
    }
}

impl FsStore {
    /// Opens a directory to deliver from it, on any disk, without starting a thread: requests wait
    /// until [`ByHand::write`]. For simulations on one thread.
    ///
    /// # Errors
    /// As [`FsStore::open_owner`].
    pub fn open_by_hand(
        dir: impl Into<PathBuf>,
        options: FsOptions,
        disk: Arc<dyn Disk>,
    ) -> Result<(Self, ByHand), StoreError> {
        let Parts { shared, lock, writer, requests, jobs, hints } =
            Self::recover(dir.into(), options, disk, true)?;
        let folders = Folders::new(Arc::clone(&shared));
        let hand = ByHand { writer, requests, folders, jobs, hints, settled: false };
        Ok((Self { shared, threads: Vec::new(), blocking_pool: false, _lock: lock }, hand))
    }
}
