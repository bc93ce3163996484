//! How much is done at once, and what callers hear when that is too much.
//!
//! Whatever hands a signal to the store has a place while the store works on it. Places are few; some
//! more requests may wait for one, in their order; everybody else is refused at once, with what to
//! do, before anything of the request is read. So memory is bounded whatever is offered, and the
//! time that an accepted request takes as well. Rates per key and address are left to `limits`,
//! connections to `listen`.
//!
//! What must stay true: a refusal from here is certain: nothing of the request was stored. Callers
//! that only wait for validators have no place here; beyond their number they are answered 202.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use ptn_core::store::SignalStore;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::answer::ApiError;
use crate::config::ServerConfig;

/// How old the known number of unfinished signals may be. What this server accepted since is added.
const LOOK: Duration = Duration::from_millis(100);
/// A body up to this long is read in any case.
const SMALL_BODY: usize = 16 * 1024;
/// What longer bodies may take together while they are read.
const LONG_BODIES: usize = 32 * 1024 * 1024;

/// The bounds, and what is under way.
#[derive(Debug)]
pub(crate) struct Overload {
    places: Arc<Semaphore>,
    most_places: usize,
    most_queued: usize,
    queued: AtomicUsize,
    patience: Duration,
    under_way: Mutex<UnderWay>,
    most_pending: u64,
    pending: Mutex<Pending>,
    most_waiting: usize,
    waiting: AtomicUsize,
    long_bodies: AtomicUsize,
}

/// Calls to the store, by when they began.
#[derive(Debug, Default)]
struct UnderWay {
    next: u64,
    began: BTreeMap<u64, Instant>,
}

#[derive(Debug, Default)]
struct Pending {
    looked: Option<Instant>,
    count: u64,
    accepted_since: u64,
}

/// The right to hand one signal to the store.
#[derive(Debug)]
pub(crate) struct Place {
    overload: Arc<Overload>,
    number: u64,
    _permit: OwnedSemaphorePermit,
}

/// One of something that is counted, until it is dropped.
#[derive(Debug)]
pub(crate) struct Counted<'a> {
    count: &'a AtomicUsize,
    by: usize,
}

/// Numbers for the metrics.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) in_flight: usize,
    pub(crate) queued: usize,
    pub(crate) waiting: usize,
}

impl<'a> Counted<'a> {
    /// `None` when `most` are there already.
    fn one(count: &'a AtomicUsize, most: usize) -> Option<Self> {
        let up = |n: usize| (n < most).then_some(n + 1);
        count.fetch_update(Ordering::AcqRel, Ordering::Acquire, up).ok()?;
        Some(Self { count, by: 1 })
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(self.by, Ordering::AcqRel);
    }
}

impl Overload {
    pub(crate) fn new(config: &ServerConfig) -> Arc<Self> {
        Arc::new(Self {
            places: Arc::new(Semaphore::new(config.max_in_flight)),
            most_places: config.max_in_flight,
            most_queued: config.max_queued,
            queued: AtomicUsize::new(0),
            patience: config.store_patience,
            under_way: Mutex::default(),
            most_pending: config.max_pending,
            pending: Mutex::default(),
            most_waiting: config.max_waiting,
            waiting: AtomicUsize::new(0),
            long_bodies: AtomicUsize::new(0),
        })
    }

    /// Whether a request that wants a place should go on, told before it is read.
    pub(crate) fn admits(&self) -> Result<(), ApiError> {
        if self.is_stuck() {
            return Err(self.slow());
        }
        let full = self.places.available_permits() == 0
            && self.queued.load(Ordering::Acquire) >= self.most_queued;
        if full { Err(self.full()) } else { Ok(()) }
    }

    /// A place, perhaps after a wait.
    pub(crate) async fn place(
        self: &Arc<Self>,
        store: &dyn SignalStore,
    ) -> Result<Place, ApiError> {
        self.room(store).await?;
        if self.is_stuck() {
            return Err(self.slow());
        }
        let permit = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let _queued =
                    Counted::one(&self.queued, self.most_queued).ok_or_else(|| self.full())?;
                let permit = Arc::clone(&self.places).acquire_owned();
                match tokio::time::timeout(self.patience, permit).await {
                    Ok(Ok(permit)) => permit,
                    _ => return Err(self.slow()),
                }
            }
        };
        let mut under_way = self.under_way();
        let number = under_way.next;
        under_way.next += 1;
        under_way.began.insert(number, Instant::now());
        Ok(Place { overload: Arc::clone(self), number, _permit: permit })
    }

    /// The right to wait for the validators' answers; `None` when too many do.
    pub(crate) fn seat(&self) -> Option<Counted<'_>> {
        Counted::one(&self.waiting, self.most_waiting)
    }

    /// Room for a body that has grown to `length` bytes; `held` is what it has so far.
    pub(crate) fn grow<'a>(
        &'a self,
        held: &mut Option<Counted<'a>>,
        length: usize,
    ) -> Result<(), ApiError> {
        let before = held.as_ref().map_or(0, |held| held.by);
        let more = length.saturating_sub(SMALL_BODY).saturating_sub(before);
        if more == 0 {
            return Ok(());
        }
        let up = |n: usize| (n + more <= LONG_BODIES).then_some(n + more);
        if self.long_bodies.fetch_update(Ordering::AcqRel, Ordering::Acquire, up).is_err() {
            let text = "Too many long requests at once. Nothing was stored. Please try again, or \
                        send signals without needless text";
            return Err(overloaded("overloaded", text.to_owned(), Duration::ZERO).close());
        }
        held.get_or_insert(Counted { count: &self.long_bodies, by: 0 }).by += more;
        Ok(())
    }

    /// What is under way.
    pub(crate) fn load(&self) -> Load {
        Load {
            in_flight: self.most_places.saturating_sub(self.places.available_permits()),
            queued: self.queued.load(Ordering::Relaxed),
            waiting: self.waiting.load(Ordering::Relaxed),
        }
    }

    /// Counts a signal that was stored.
    pub(crate) fn stored(&self) {
        let mut pending = self.pending();
        pending.accepted_since = pending.accepted_since.saturating_add(1);
    }

    /// Whether the store may get more signals.
    async fn room(&self, store: &dyn SignalStore) -> Result<(), ApiError> {
        let looks = {
            let mut pending = self.pending();
            let old = pending.looked.is_none_or(|looked| looked.elapsed() >= LOOK);
            if old {
                // Only one looks; the others go by what is known.
                pending.looked = Some(Instant::now());
                pending.accepted_since = 0;
            }
            old
        };
        if looks && let Ok(now) = store.pending().await {
            self.pending().count = now.count;
        }
        let count = {
            let pending = self.pending();
            pending.count.saturating_add(pending.accepted_since)
        };
        if count < self.most_pending {
            return Ok(());
        }
        let text = format!(
            "{count} signals are not finished, and no more are taken while there are \
             {} (--server.max-pending). Nothing was stored. See why they wait: is a miner running, \
             do validators answer? ptn-cli signals list --state pending",
            self.most_pending
        );
        Err(overloaded("too_many_pending", text, Duration::from_secs(10)))
    }

    /// Whether the store has left somebody waiting for too long.
    fn is_stuck(&self) -> bool {
        let under_way = self.under_way();
        under_way.began.values().next().is_some_and(|began| began.elapsed() > self.patience)
    }

    fn slow(&self) -> ApiError {
        let text = format!(
            "The store has not answered for {} s, so nothing more is given to it. Nothing of this \
             request was stored. Please try again; if it lasts, look at the disk (or the database) \
             and the log",
            self.patience.as_secs_f32()
        );
        overloaded("store_slow", text, Duration::from_secs(1))
    }

    fn full(&self) -> ApiError {
        let text = format!(
            "The server has as much to do as it takes on: {} signals are being stored, {} requests \
             wait. Nothing of this request was stored. Please try again; if it lasts, send less \
             often or raise --server.max-in-flight",
            self.most_places, self.most_queued
        );
        overloaded("overloaded", text, Duration::ZERO)
    }

    fn under_way(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.overload.under_way().began.remove(&self.number);
    }
}

/// 503; the header says a second more than `wait`.
fn overloaded(code: &'static str, text: String, wait: Duration) -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code, text).retry_after(wait)
}
