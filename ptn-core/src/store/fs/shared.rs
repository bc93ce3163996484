//! What the threads of one open store have in common.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{broadcast, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::FsOptions;
use super::durable::{Spool, io_error};
use super::folders::Job;
use super::journal::Identity;
use super::watch::Hint;
use super::writer::Message;
use crate::signal::OrderUuid;
use crate::store::index::{Answer, Index, Record, Request};
use crate::store::transfer::name_in;
use crate::store::{EVENT_BACKLOG, StoreError, StoreEvent, UnixMs};

/// Accepts are "flowing" for this long after the last one.
const FLOWING: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) spool: Spool,
    pub(super) options: FsOptions,
    pub(super) owner: bool,
    index: Mutex<Index>,
    changes: watch::Sender<u64>,
    events: broadcast::Sender<StoreEvent>,
    event_number: AtomicU64,
    poisoned: OnceLock<String>,
    /// Cancelled when it is.
    pub(super) failed: CancellationToken,
    /// A folder that was removed or replaced.
    missing: Mutex<Option<PathBuf>>,
    requests: Sender<Message>,
    jobs: Sender<Job>,
    hints: Sender<Hint>,
    catching_up: AtomicBool,
    /// Length and identity that the journal has when nobody else wrote.
    journal_seen: Mutex<(u64, Identity)>,
    started: Instant,
    last_accept: AtomicU64,
    /// Whether the disk was too full to accept when it was looked at last.
    low: AtomicBool,
}

/// The sending ends of the threads' queues.
#[derive(Debug)]
pub(super) struct Queues {
    pub(super) requests: Sender<Message>,
    pub(super) jobs: Sender<Job>,
    pub(super) hints: Sender<Hint>,
}

impl Shared {
    pub(super) fn new(spool: Spool, options: FsOptions, owner: bool, queues: Queues) -> Self {
        Self {
            spool,
            options,
            owner,
            index: Mutex::default(),
            changes: watch::Sender::new(0),
            events: broadcast::Sender::new(EVENT_BACKLOG),
            event_number: AtomicU64::new(0),
            poisoned: OnceLock::new(),
            failed: CancellationToken::new(),
            missing: Mutex::default(),
            requests: queues.requests,
            jobs: queues.jobs,
            hints: queues.hints,
            catching_up: AtomicBool::new(false),
            journal_seen: Mutex::default(),
            started: Instant::now(),
            last_accept: AtomicU64::new(0),
            low: AtomicBool::new(false),
        }
    }

    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(super) fn events(&self) -> broadcast::Receiver<StoreEvent> {
        self.events.subscribe()
    }

    pub(super) fn now(&self) -> UnixMs {
        (self.options.clock)()
    }

    /// Makes one record so and tells the listeners. `ours`: this process wrote the record. Returns
    /// the signal whose files are to be brought in line, if any.
    pub(super) fn apply(
        &self,
        index: &mut Index,
        record: Record,
        ours: bool,
    ) -> Result<Option<OrderUuid>, String> {
        let listeners = self.events.receiver_count() > 0;
        let change = if listeners { index.change(&record) } else { None };
        let touches = match &record {
            Record::Accept { .. } => ours,
            Record::Finish { .. } | Record::Retry(_) => self.owner,
            _ => false,
        };
        let id = record.id().clone();
        index.apply(record)?;
        if let Some(change) = change {
            let number = self.event_number.fetch_add(1, Ordering::Relaxed) + 1;
            let event = StoreEvent { number, at: self.now(), id: id.clone(), change };
            // The last listener may just have gone.
            self.events.send(event).ok();
        }
        Ok(touches.then_some(id))
    }

    /// Wakes whoever watches.
    pub(super) fn changed(&self) {
        self.changes.send_modify(|n| *n += 1);
    }

    /// Queues a request now; the answer comes when it is durable.
    pub(super) fn ask(
        &self,
        request: Request,
    ) -> Result<oneshot::Receiver<Result<Answer, StoreError>>, StoreError> {
        if let Some(why) = self.poisoned.get() {
            return Err(StoreError::Poisoned(why.clone()));
        }
        if matches!(request, Request::Accept { .. }) {
            self.accepts()?;
        }
        let (reply, answer) = oneshot::channel();
        self.requests.send(Message::Ask(request, reply)).map_err(|_| stopped())?;
        Ok(answer)
    }

    /// Asks for several accepts in one batch: the disk takes all of them or none.
    pub(super) fn ask_all(
        &self,
        requests: Vec<Request>,
    ) -> Result<Vec<oneshot::Receiver<Result<Answer, StoreError>>>, StoreError> {
        if let Some(why) = self.poisoned.get() {
            return Err(StoreError::Poisoned(why.clone()));
        }
        self.accepts()?;
        let (asks, answers): (Vec<_>, _) = requests
            .into_iter()
            .map(|request| {
                let (reply, answer) = oneshot::channel();
                ((request, reply), answer)
            })
            .unzip();
        self.requests.send(Message::AskAll(asks)).map_err(|_| stopped())?;
        Ok(answers)
    }

    /// Something is about to be accepted.
    fn accepts(&self) -> Result<(), StoreError> {
        self.check_folders()?;
        let ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_accept.store(ms, Ordering::Relaxed);
        Ok(())
    }

    /// Whether accepts are coming in: then the folders wait.
    pub(super) fn flowing(&self) -> bool {
        let last = Duration::from_millis(self.last_accept.load(Ordering::Relaxed));
        !last.is_zero() && self.started.elapsed().saturating_sub(last) < FLOWING
    }

    /// Stops the store for good: nobody knows what the disk holds.
    pub(super) fn poison(&self, why: &str) -> StoreError {
        let why = self.poisoned.get_or_init(|| {
            tracing::error!(why, "the store stops: what the disk holds is uncertain");
            why.to_owned()
        });
        self.failed.cancel();
        StoreError::Poisoned(why.clone())
    }

    pub(super) fn poisoned(&self) -> Option<StoreError> {
        self.poisoned.get().map(|why| StoreError::Poisoned(why.clone()))
    }

    /// Whether the signals are in another store by now. Asked under the journal's lock, so that
    /// whoever set the mark and then takes the lock sees everything that was taken before.
    pub(super) fn check_moved(&self) -> Result<(), StoreError> {
        let path = &self.spool.layout.moved;
        let marked = path.try_exists().map_err(io_error("cannot read", path))?;
        if self.options.even_if_moved || !marked {
            return Ok(());
        }
        let to = std::fs::read_to_string(path).unwrap_or_default();
        let from = self.spool.layout.root.display().to_string();
        Err(StoreError::Moved { from, to: name_in(&to) })
    }

    pub(super) fn accepting(&self) -> bool {
        self.poisoned.get().is_none()
            && self.check_folders().is_ok()
            && self.check_moved().is_ok()
            && self.check_space().is_ok()
    }

    /// Whether the disk has room for new signals beside what the accepted ones still need.
    pub(super) fn check_space(&self) -> Result<(), StoreError> {
        let least = self.options.min_free;
        if least == 0 {
            return Ok(());
        }
        let path = &self.spool.layout.root;
        // A system that does not say is no reason to refuse: a full disk refuses by itself.
        let Ok(free) = self.spool.disk.free(path) else { return Ok(()) };
        let low = free.is_below(least);
        if self.low.swap(low, Ordering::Relaxed) != low {
            if low {
                tracing::error!(path = %path.display(), free = free.bytes, inodes = free.inodes, least,
                    "little room is left on the disk: no signal is accepted until there is more; deliveries go on");
            } else {
                tracing::info!(path = %path.display(), free = free.bytes, "the disk has room again");
            }
        }
        if low {
            return Err(StoreError::LowSpace {
                path: path.clone(),
                free: free.bytes,
                inodes: free.inodes,
                least,
            });
        }
        Ok(())
    }

    /// Says which folder is gone, or that all are there again.
    pub(super) fn set_missing(&self, folder: Option<PathBuf>) {
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        if *missing != folder {
            match &folder {
                Some(path) => tracing::error!(path = %path.display(),
                    "the folder was removed or replaced while in use; nothing is accepted until it is back"),
                None => tracing::info!("the folders are back"),
            }
            *missing = folder;
        }
    }

    fn check_folders(&self) -> Result<(), StoreError> {
        let missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        match missing.as_ref() {
            None => Ok(()),
            Some(path) => Err(StoreError::Io {
                what: "the folder was removed or replaced while in use:",
                path: path.clone(),
                source: std::io::ErrorKind::NotFound.into(),
            }),
        }
    }

    /// Has the files of one signal brought in line with the index, soon.
    pub(super) fn align(&self, id: OrderUuid) {
        self.jobs.send(Job::Align(id)).ok();
    }

    /// As [`Shared::align`], for a whole batch: the thread is woken once.
    pub(super) fn align_all(&self, ids: Vec<OrderUuid>) {
        if !ids.is_empty() {
            self.jobs.send(Job::AlignAll(ids)).ok();
        }
    }

    pub(super) fn job(&self, job: Job) {
        self.jobs.send(job).ok();
    }

    pub(super) fn hint(&self, hint: Hint) {
        self.hints.send(hint).ok();
    }

    pub(super) fn tell_writer(&self, message: Message) {
        self.requests.send(message).ok();
    }

    pub(super) fn journal_seen(&self, len: u64, id: Identity) {
        *self.journal_seen.lock().unwrap_or_else(PoisonError::into_inner) = (len, id);
    }

    /// Has the journal read if another process extended it.
    pub(super) fn hint_journal(&self) {
        use std::os::unix::fs::MetadataExt as _;
        let seen = *self.journal_seen.lock().unwrap_or_else(PoisonError::into_inner);
        let news = std::fs::metadata(&self.spool.layout.journal)
            .map_or(true, |m| (m.len(), (m.dev(), m.ino())) != seen);
        if news && !self.catching_up.swap(true, Ordering::AcqRel) {
            self.tell_writer(Message::CatchUp(None));
        }
    }

    pub(super) fn catch_up_begins(&self) {
        self.catching_up.store(false, Ordering::Release);
    }

    /// Waits until everything that others appended before this call is known.
    pub(super) fn catch_up(&self) {
        self.wait_for(|done| Message::CatchUp(Some(done)));
    }

    /// The same, and of everybody who has the journal's lock now: what they are about to append.
    pub(super) fn catch_up_for_sure(&self) {
        self.wait_for(Message::CatchUpForSure);
    }

    fn wait_for(&self, message: impl FnOnce(oneshot::Sender<()>) -> Message) {
        let (done, wait) = oneshot::channel();
        self.tell_writer(message(done));
        wait.blocking_recv().ok();
    }
}

pub(super) fn stopped() -> StoreError {
    StoreError::Poisoned("the store was closed".to_owned())
}
