//! `MemoryStore`: signals in memory, for tests, dry runs and the demo.
//!
//! Keeps the whole contract of [`super::SignalStore`] except that nothing survives the process;
//! durable signals are left to [`super::FsStore`]. Finished signals stay until it is dropped.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::{broadcast, watch};

use super::index::{Answer, Archive, Batch, Index, Request, Standing, unreadable};
use super::{
    Accepted, EVENT_BACKLOG, Filter, Lease, Pending, SignalStore, StoreError, StoreEvent,
    StoredSignal, UnixMs, matches, now_ms,
};
use crate::record::{DeliveryReport, Progress};
use crate::signal::{OrderUuid, Signal};

/// A store that forgets everything when it is dropped.
#[derive(Debug)]
pub struct MemoryStore {
    index: Mutex<Index>,
    changes: watch::Sender<u64>,
    events: broadcast::Sender<StoreEvent>,
    number: AtomicU64,
    clock: fn() -> UnixMs,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self {
            index: Mutex::default(),
            changes: watch::Sender::new(0),
            events: broadcast::Sender::new(EVENT_BACKLOG),
            number: AtomicU64::new(0),
            clock: now_ms,
        }
    }
}

/// The index remembers everything, so there is nothing to look for elsewhere.
struct Nothing;

impl Archive for Nothing {
    fn standing(&self, _: &OrderUuid) -> Result<Option<Standing>, StoreError> {
        Ok(None)
    }
    fn load(&self, _: &OrderUuid) -> Result<Option<StoredSignal>, StoreError> {
        Ok(None)
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store with a clock of its own, for simulated time.
    #[must_use]
    pub fn with_clock(clock: fn() -> UnixMs) -> Self {
        Self { clock, ..Self::default() }
    }

    /// As after the death of the owner: what it had claimed can be claimed again.
    pub fn release_claims(&self) {
        self.index().release_claims();
        self.changes.send_modify(|n| *n += 1);
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, request: Request) -> Result<Answer, StoreError> {
        let now = (self.clock)();
        let mut index = self.index();
        let (answer, record) = index.decide(&mut Batch::default(), request, now, &Nothing)?;
        if let Some(record) = record {
            let id = record.id().clone();
            index.apply(record.clone()).map_err(|what| unreadable(&id, what))?;
            if self.events.receiver_count() > 0
                && let Some(change) = index.change(&record)
            {
                let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
                // Nobody listens: nobody misses it.
                self.events.send(StoreEvent { number, at: now, id, change }).ok();
            }
            drop(index);
            self.changes.send_modify(|n| *n += 1);
        }
        Ok(answer)
    }
}

#[async_trait]
impl SignalStore for MemoryStore {
    async fn accept(&self, signal: &Signal) -> Result<Accepted, StoreError> {
        match self.run(Request::accept(signal))? {
            Answer::Accepted(accepted) => Ok(accepted),
            Answer::Done => Err(unreadable(signal.id(), "no answer".to_owned())),
        }
    }

    async fn claim(&self, limit: usize) -> Result<Vec<Lease>, StoreError> {
        self.index().claim(limit).map_err(|(id, what)| unreadable(&id, what))
    }

    async fn record(&self, lease: &Lease, progress: Progress) -> Result<(), StoreError> {
        let id = lease.stored.signal.id().clone();
        self.run(Request::Progress { id, token: lease.token, progress }).map(drop)
    }

    async fn finish(&self, lease: &Lease, report: &DeliveryReport) -> Result<(), StoreError> {
        let id = lease.stored.signal.id().clone();
        self.run(Request::Finish { id, token: lease.token, report: report.clone() }).map(drop)
    }

    async fn get(&self, id: &OrderUuid) -> Result<Option<StoredSignal>, StoreError> {
        self.index().get(id).transpose().map_err(|what| unreadable(id, what))
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<StoredSignal>, StoreError> {
        let index = self.index();
        let live = index.oldest().map(|(id, entry)| (id, entry.stored()));
        let done = index.unsettled().into_iter().map(|(id, entry, report)| {
            (id, entry.stored().map(|stored| super::index::finished(stored, report)))
        });
        let mut all = Vec::new();
        for (id, stored) in live.chain(done) {
            let stored = stored.map_err(|what| unreadable(id, what))?;
            if matches(filter, &stored) {
                all.push(stored);
            }
        }
        all.sort_by_key(|stored| std::cmp::Reverse(stored.seq));
        all.truncate(filter.limit());
        Ok(all)
    }

    async fn cancel(&self, id: &OrderUuid) -> Result<(), StoreError> {
        self.run(Request::Cancel { id: id.clone() }).map(drop)
    }

    async fn retry(&self, id: &OrderUuid) -> Result<(), StoreError> {
        self.run(Request::Retry { id: id.clone() }).map(drop)
    }

    fn kind(&self) -> &'static str {
        "memory"
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn events(&self) -> broadcast::Receiver<StoreEvent> {
        self.events.subscribe()
    }

    async fn pending(&self) -> Result<Pending, StoreError> {
        Ok(self.index().pending(true))
    }
}
