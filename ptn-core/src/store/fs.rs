//! `FsStore`: signals in a directory of one machine, safe from crashes and power cuts.
//!
//! The truth is one journal (see `journal`); the three folders that the Python tools know follow it
//! (see `folders`, and `layout` for every name). Any number of processes may accept signals into
//! one directory ([`FsStore::open`]); one at a time delivers from it ([`FsStore::open_owner`]).
//! Files that others drop into `received_signals/` are adopted by the owner (see `adopt`).
//!
//! What must stay true:
//!
//! 1. Nothing is answered before its record is synced; nothing is seen before that either.
//! 2. A failed sync stops the store until a restart has read the disk again.
//! 3. Opening is recovering: there is one code path, whatever happened before.
//! 4. Only `durable` (and `journal` through it) creates, renames and removes files.
//!
//! Who delivers what to whom is left to [`crate::deliver`].

mod adopt;
mod archive;
#[cfg(feature = "test-util")]
mod by_hand;
mod disk;
mod durable;
mod folders;
mod journal;
mod layout;
mod lock;
#[cfg(feature = "test-util")]
pub mod probe;
mod retention;
mod shared;
mod space;
#[cfg(test)]
mod tests;
mod transfer;
mod verify;
mod watch;
mod writer;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{broadcast, watch as notice};

pub use self::retention::{Retention, Tidied};
pub use self::verify::verify;

#[cfg(feature = "test-util")]
pub use self::by_hand::ByHand;
#[cfg(feature = "test-util")]
pub use self::disk::{Disk, RealDisk};
#[cfg(not(feature = "test-util"))]
use self::disk::{Disk, RealDisk};
use self::durable::{Spool, io_error};
use self::folders::{Folders, Job};
use self::lock::OwnerLock;
use self::shared::{Queues, Shared, stopped};
pub use self::space::{FreeSpace, LEAST_INODES};
use self::watch::{Hint, Watch};
use self::writer::{Message, Writer};
use crate::record::{DeliveryReport, Progress, SignalState};
use crate::rules::Rules;
use crate::signal::{OrderUuid, Signal};
use crate::store::index::{Answer, Archive as _, Request};
use crate::store::{
    Accepted, Filter, Lease, Pending, SignalStore, StoreError, StoreEvent, StoredSignal, UnixMs,
    matches, now_ms,
};

/// How to open an [`FsStore`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FsOptions {
    /// The rules by which files of others are read.
    pub rules: Arc<Rules>,
    /// The owner writes the journal anew when it is longer than this many bytes; 32 MiB.
    pub journal_bytes: u64,
    /// A file of others that is no signal is moved away when it has not changed for this long; one
    /// second. A text that only lacks its end gets ten times as long.
    pub settle: Duration,
    /// Whether to ask the kernel for notice of changed files; otherwise, and where it cannot,
    /// the store polls.
    pub inotify: bool,
    /// Whether to open a directory although its signals were moved away: for moving them back.
    pub even_if_moved: bool,
    /// Signals are accepted only while the disk has at least so many bytes free (and
    /// [`LEAST_INODES`]): the rest is for what was accepted before, which needs room to be
    /// finished. 0, the default, is no limit.
    pub min_free: u64,
    /// The wall clock.
    pub clock: fn() -> UnixMs,
}

impl FsOptions {
    /// The usual options.
    pub fn new(rules: Arc<Rules>) -> Self {
        Self {
            rules,
            journal_bytes: 32 * 1024 * 1024,
            settle: Duration::from_secs(1),
            inotify: true,
            even_if_moved: false,
            min_free: 0,
            clock: now_ms,
        }
    }
}

/// A store in a directory. Dropping it writes out what the folders still lack, for up to a few
/// seconds, and frees the directory.
#[derive(Debug)]
pub struct FsStore {
    shared: Arc<Shared>,
    threads: Vec<(Ending, JoinHandle<()>)>,
    /// Whether reading files may wait for other threads.
    blocking_pool: bool,
    _lock: Option<OwnerLock>,
}

/// What the threads of a store work with.
struct Parts {
    shared: Arc<Shared>,
    lock: Option<OwnerLock>,
    writer: Writer,
    requests: mpsc::Receiver<Message>,
    jobs: mpsc::Receiver<Job>,
    hints: mpsc::Receiver<Hint>,
}

/// Which thread to end, and how.
#[derive(Debug, Clone, Copy)]
enum Ending {
    Watch,
    Folders,
    Writer,
}

impl FsStore {
    /// Opens a directory to accept signals into it, to look at them, cancel and retry them. Any
    /// number of processes may do so. Missing folders are created.
    ///
    /// # Errors
    /// When the disk fails, or the journal is damaged.
    pub fn open(dir: impl Into<PathBuf>, options: FsOptions) -> Result<Self, StoreError> {
        Self::start(dir.into(), options, Arc::new(RealDisk), false)
    }

    /// Opens a directory to deliver from it as well: may [`claim`](SignalStore::claim), adopts the
    /// files of others, and keeps the folders and the journal in order.
    ///
    /// # Errors
    /// As [`FsStore::open`], and [`StoreError::Locked`] when another process is the owner.
    pub fn open_owner(dir: impl Into<PathBuf>, options: FsOptions) -> Result<Self, StoreError> {
        Self::start(dir.into(), options, Arc::new(RealDisk), true)
    }

    fn start(
        dir: PathBuf,
        options: FsOptions,
        disk: Arc<dyn Disk>,
        owner: bool,
    ) -> Result<Self, StoreError> {
        let Parts { shared, lock, writer, requests, jobs, hints } =
            Self::recover(dir, options, disk, owner)?;
        let folders = Folders::new(Arc::clone(&shared));
        let watch = Watch::new(Arc::clone(&shared));
        // From here on, dropping ends what was started.
        let mut store = Self { shared, threads: Vec::new(), blocking_pool: true, _lock: lock };
        store.spawn(Ending::Watch, "ptn-spool-watch", move || watch.run(&hints))?;
        store.spawn(Ending::Folders, "ptn-spool-files", move || folders.run(&jobs))?;
        store.spawn(Ending::Writer, "ptn-spool-log", move || writer.run(&requests))?;
        Ok(store)
    }

    /// Reads what is there and brings it in order; nothing runs yet.
    fn recover(
        dir: PathBuf,
        options: FsOptions,
        disk: Arc<dyn Disk>,
        owner: bool,
    ) -> Result<Parts, StoreError> {
        let spool = Spool::create(disk, dir)?;
        let lock =
            if owner { Some(OwnerLock::take(spool.disk.as_ref(), &spool.layout)?) } else { None };
        let (requests, request_queue) = mpsc::channel();
        let (jobs, job_queue) = mpsc::channel();
        let (hints, hint_queue) = mpsc::channel();
        let queues = Queues { requests, jobs, hints };
        let shared = Arc::new(Shared::new(spool, options, owner, queues));
        shared.check_moved()?;
        let writer = Writer::open(Arc::clone(&shared))?;
        if owner {
            if let Err(e) = shared.spool.sweep_tmp() {
                tracing::warn!(error = %e, "cannot sweep the folder of temporary files");
            }
            // Whatever the last owner did not get to.
            let mut index = shared.index();
            index.begin_claims(shared.now());
            index.unsettled().into_iter().for_each(|(id, ..)| shared.align(id.clone()));
            index.oldest().for_each(|(id, _)| shared.align(id.clone()));
            drop(index);
        }
        Ok(Parts {
            shared,
            lock,
            writer,
            requests: request_queue,
            jobs: job_queue,
            hints: hint_queue,
        })
    }

    fn spawn(
        &mut self,
        ending: Ending,
        name: &str,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        let run = move || {
            if catch_unwind(AssertUnwindSafe(run)).is_err() {
                shared.poison("a thread of the store panicked, which is a bug");
            }
        };
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(run)
            .map_err(io_error("cannot start a thread for", &self.shared.spool.layout.root))?;
        self.threads.push((ending, thread));
        Ok(())
    }

    /// The data directory.
    pub fn dir(&self) -> &Path {
        &self.shared.spool.layout.root
    }

    /// Waits until the store stops for good, and says why: a sync failed, and nobody knows what the
    /// disk holds. Only opening it again, which reads everything again, helps. Cancel-safe.
    pub async fn failed(&self) -> StoreError {
        self.shared.failed.cancelled().await;
        self.shared.poisoned().unwrap_or_else(stopped)
    }

    /// Whether this one may deliver.
    pub fn is_owner(&self) -> bool {
        self.shared.owner
    }

    async fn run(&self, request: Request) -> Result<Answer, StoreError> {
        let answer = self.shared.ask(request)?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    fn unreadable(&self, what: String) -> StoreError {
        StoreError::Corrupt { path: self.shared.spool.layout.journal.clone(), at: 0, what }
    }

    /// Runs what reads files off the async threads, where there is a runtime to do so.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Spool) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.shared);
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if self.blocking_pool => runtime
                .spawn_blocking(move || work(&shared.spool))
                .await
                .unwrap_or_else(|_| Err(stopped())),
            _ => work(&shared.spool),
        }
    }
}

impl Drop for FsStore {
    fn drop(&mut self) {
        // In this order: who makes work for others ends first.
        for (ending, thread) in self.threads.drain(..) {
            match ending {
                Ending::Watch => self.shared.hint(Hint::Stop),
                Ending::Folders => self.shared.job(Job::Stop),
                Ending::Writer => self.shared.tell_writer(Message::Stop),
            }
            if thread.join().is_err() {
                tracing::error!("a thread of the store panicked");
            }
        }
    }
}

/// Each call queues its request when its future is first polled, before anything is awaited:
/// futures that are polled one after the other keep that order. A call that is dropped while it
/// waits may still take effect.
#[async_trait]
impl SignalStore for FsStore {
    async fn accept(&self, signal: &Signal) -> Result<Accepted, StoreError> {
        match self.run(Request::accept(signal)).await? {
            Answer::Accepted(accepted) => Ok(accepted),
            Answer::Done => Err(stopped()),
        }
    }

    async fn claim(&self, limit: usize) -> Result<Vec<Lease>, StoreError> {
        if let Some(e) = self.shared.poisoned() {
            return Err(e);
        }
        if !self.shared.owner {
            return Err(StoreError::Io {
                what: "cannot claim signals without being the owner of",
                path: self.shared.spool.layout.root.clone(),
                source: std::io::Error::new(
                    std::io::ErrorKind::PermissionDenied,
                    "open it with FsStore::open_owner",
                ),
            });
        }
        self.shared
            .index()
            .claim(limit)
            .map_err(|(id, what)| self.unreadable(format!("{id}: {what}")))
    }

    async fn record(&self, lease: &Lease, progress: Progress) -> Result<(), StoreError> {
        let id = lease.stored.signal.id().clone();
        self.run(Request::Progress { id, token: lease.token, progress }).await.map(drop)
    }

    async fn finish(&self, lease: &Lease, report: &DeliveryReport) -> Result<(), StoreError> {
        let id = lease.stored.signal.id().clone();
        let report = report.clone();
        self.run(Request::Finish { id, token: lease.token, report }).await.map(drop)
    }

    async fn get(&self, id: &OrderUuid) -> Result<Option<StoredSignal>, StoreError> {
        let known = self.shared.index().get(id);
        if let Some(known) = known {
            return known.map(Some).map_err(|what| self.unreadable(format!("{id}: {what}")));
        }
        let id = id.clone();
        self.read(move |spool| spool.load(&id)).await
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<StoredSignal>, StoreError> {
        let mut all = Vec::new();
        let mut take = |stored: Result<StoredSignal, String>| {
            let stored = stored.map_err(|what| self.unreadable(what))?;
            let wanted = matches(filter, &stored);
            if wanted {
                all.push(stored);
            }
            Ok::<bool, StoreError>(wanted)
        };
        {
            let index = self.shared.index();
            if filter.states.is_empty() || filter.states.contains(&SignalState::Pending) {
                let mut wanted = filter.limit();
                for entry in index.newest(filter.before_seq) {
                    wanted -= usize::from(take(entry.stored())?);
                    if wanted == 0 {
                        break;
                    }
                }
            }
            for (_, entry, report) in index.unsettled() {
                let stored = entry.stored().map(|s| crate::store::index::finished(s, report));
                take(stored)?;
            }
        }
        if filter.states.is_empty() || filter.states.iter().any(|s| *s != SignalState::Pending) {
            let wanted = filter.clone();
            let finished = self.read(move |spool| spool.list_finished(&wanted)).await?;
            let index = self.shared.index();
            // A file that the index contradicts is late: it will be gone, or written anew.
            all.extend(finished.into_iter().filter(|stored| {
                let id = stored.signal.id();
                index.live(id).is_none()
                    && index.done(id).is_none_or(|done| done.stored().is_none())
            }));
        }
        let place = |stored: &StoredSignal| (stored.seq, stored.signal.id().clone());
        all.sort_by_cached_key(|stored| std::cmp::Reverse(place(stored)));
        all.dedup_by(|a, b| place(a) == place(b));
        all.truncate(filter.limit());
        Ok(all)
    }

    async fn cancel(&self, id: &OrderUuid) -> Result<(), StoreError> {
        self.run(Request::Cancel { id: id.clone() }).await.map(drop)
    }

    async fn retry(&self, id: &OrderUuid) -> Result<(), StoreError> {
        self.run(Request::Retry { id: id.clone() }).await.map(drop)
    }

    fn kind(&self) -> &'static str {
        "fs"
    }

    fn watch(&self) -> notice::Receiver<u64> {
        self.shared.changes()
    }

    fn events(&self) -> broadcast::Receiver<StoreEvent> {
        self.shared.events()
    }

    async fn pending(&self) -> Result<Pending, StoreError> {
        Ok(self.shared.index().pending(self.shared.accepting()))
    }
}
