//! A store that two processes share, as a database: one of them delivers on a lease, and the other
//! takes over when it runs out. What is kept is kept by `MemoryStore`, whose fencing is that of
//! every store of ours; the database itself does not die, but may not answer.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ptn_core::record::{DeliveryReport, Progress};
use ptn_core::signal::{OrderUuid, Signal};
use ptn_core::store::{
    Accepted, Filter, Hold, Lease, MemoryStore, Pending, SignalStore, StoreError, StoreEvent,
    StoredSignal, Tenure,
};
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use super::ledger::{Event, Ms};
use super::world::{Life, World, wall_clock};

/// Who delivers, as the database knows it.
#[derive(Debug, Default)]
struct Owner {
    host: Option<usize>,
    until: Ms,
    number: u64,
}

#[derive(Debug)]
pub(crate) struct Database {
    world: Arc<World>,
    memory: MemoryStore,
    owner: Mutex<Owner>,
    lease: Ms,
    /// In a thousand calls, so many get no answer.
    silent: Mutex<u64>,
}

impl Database {
    pub(crate) fn new(world: Arc<World>, lease: Ms) -> Arc<Self> {
        let memory = MemoryStore::with_clock(wall_clock);
        let (owner, silent) = (Mutex::default(), Mutex::default());
        Arc::new(Self { world, memory, owner, lease, silent })
    }

    pub(crate) fn memory(&self) -> &MemoryStore {
        &self.memory
    }

    pub(crate) fn set_silent(&self, per_thousand: u64) {
        *self.silent.lock().unwrap() = per_thousand;
    }

    fn owner(&self) -> MutexGuard<'_, Owner> {
        self.owner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lease as one process knows it.
#[derive(Debug, Default)]
struct Held {
    number: Option<u64>,
    until: Option<Instant>,
    tenure: Tenure,
    /// What was claimed under it.
    tokens: BTreeSet<u64>,
}

/// One process's way to the database.
#[derive(Debug)]
pub(crate) struct SharedStore {
    database: Arc<Database>,
    host: usize,
    life: Arc<Life>,
    held: Mutex<Held>,
    /// Calls are carried out in the order in which they were made.
    turn: tokio::sync::Mutex<()>,
    die_after: Mutex<Option<u64>>,
}

fn silent() -> StoreError {
    StoreError::Io {
        what: "no answer from",
        path: "the database".into(),
        source: std::io::ErrorKind::TimedOut.into(),
    }
}

impl SharedStore {
    pub(crate) fn open(database: Arc<Database>, host: usize, life: Arc<Life>) -> Arc<Self> {
        let (held, turn, die_after) = (Mutex::default(), Default::default(), Mutex::default());
        let store = Arc::new(Self { database, host, life, held, turn, die_after });
        tokio::spawn(keep(Arc::clone(&store)));
        store
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn die_after(&self, calls: Option<u64>) {
        *self.die_after.lock().unwrap() = calls;
    }

    /// Gives the lease back.
    pub(crate) fn release(&self) {
        let number = self.held().number.take();
        let mut owner = self.database.owner();
        if number == Some(owner.number) && !self.life.is_over() {
            owner.host = None;
        }
    }

    /// Takes the lease or renews it.
    async fn renew(&self) {
        let world = &self.database.world;
        let asked = Instant::now();
        world.pause(0, 3).await;
        if self.life.is_over() || world.chance(*self.database.silent.lock().unwrap()) {
            return;
        }
        let newest = Filter { limit: 1, ..Filter::default() };
        let newest = self.database.memory.list(&newest).await.unwrap_or_default();
        let others_up_to = newest.first().map_or(0, |stored| stored.seq);
        let number = {
            let mut owner = self.database.owner();
            let now = world.now();
            let ours = owner.host == Some(self.host) && self.held().number == Some(owner.number);
            if !ours && owner.host.is_some() && owner.until > now {
                None
            } else {
                if !ours {
                    owner.host = Some(self.host);
                    owner.number += 1;
                    self.database.memory.release_claims();
                    world.log(Event::TookOver { host: self.host });
                }
                owner.until = now + self.database.lease;
                Some((owner.number, ours))
            }
        };
        let mut held = self.held();
        match number {
            None => *held = Held::default(),
            Some((number, ours)) => {
                // Measured from before it was asked for, and shorter by a margin.
                let length = Duration::from_millis(self.database.lease * 3 / 4);
                held.until = Some(asked + length);
                held.number = Some(number);
                if !ours {
                    held.tenure = Tenure { number, others_up_to };
                    held.tokens.clear();
                }
            }
        }
    }

    /// One call: late, perhaps without an answer, perhaps the last one.
    async fn call<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let world = &self.database.world;
        let turn = self.turn.lock().await;
        world.pause(0, 2).await;
        let last = {
            let mut left = self.die_after.lock().unwrap();
            *left = left.map(|n| n.saturating_sub(1));
            *left == Some(0)
        };
        if last && world.chance(500) {
            world.trace(|| "database: dies before a call".to_owned());
            self.life.end();
        }
        if self.life.is_over() {
            return std::future::pending().await;
        }
        let quiet = world.chance(*self.database.silent.lock().unwrap());
        if quiet && world.chance(500) {
            world.pause(0, 300).await;
            return Err(silent());
        }
        let result = work.await;
        if last {
            world.trace(|| "database: dies after a call".to_owned());
            self.life.end();
            return std::future::pending().await;
        }
        drop(turn);
        world.pause(0, 2).await;
        if quiet { Err(silent()) } else { result }
    }
}

async fn keep(store: Arc<SharedStore>) {
    let every = Duration::from_millis(store.database.lease / 4);
    loop {
        store.renew().await;
        tokio::time::sleep(every).await;
    }
}

#[async_trait]
impl SignalStore for SharedStore {
    async fn accept(&self, signal: &Signal) -> Result<Accepted, StoreError> {
        self.call(self.database.memory.accept(signal)).await
    }

    async fn claim(&self, limit: usize) -> Result<Vec<Lease>, StoreError> {
        let Some(number) = self.held().number else { return Ok(Vec::new()) };
        self.database.world.pause(0, 2).await;
        if self.database.owner().number != number || self.held().number != Some(number) {
            return Ok(Vec::new());
        }
        let leases = self.database.memory.claim(limit).await?;
        self.held().tokens.extend(leases.iter().map(|lease| lease.token));
        Ok(leases)
    }

    fn hold(&self, lease: &Lease) -> Hold {
        let held = self.held();
        match held.until {
            _ if !held.tokens.contains(&lease.token) => Hold::Lost,
            Some(until) if Instant::now() < until => Hold::Until(Some(until)),
            _ => Hold::Unsure,
        }
    }

    fn tenure(&self) -> Tenure {
        self.held().tenure
    }

    async fn record(&self, lease: &Lease, progress: Progress) -> Result<(), StoreError> {
        self.call(self.database.memory.record(lease, progress)).await
    }

    async fn finish(&self, lease: &Lease, report: &DeliveryReport) -> Result<(), StoreError> {
        self.call(self.database.memory.finish(lease, report)).await
    }

    async fn get(&self, id: &OrderUuid) -> Result<Option<StoredSignal>, StoreError> {
        self.database.memory.get(id).await
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<StoredSignal>, StoreError> {
        self.database.memory.list(filter).await
    }

    async fn cancel(&self, id: &OrderUuid) -> Result<(), StoreError> {
        self.call(self.database.memory.cancel(id)).await
    }

    async fn retry(&self, id: &OrderUuid) -> Result<(), StoreError> {
        self.call(self.database.memory.retry(id)).await
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.database.memory.watch()
    }

    fn events(&self) -> broadcast::Receiver<StoreEvent> {
        self.database.memory.events()
    }

    async fn pending(&self) -> Result<Pending, StoreError> {
        self.database.memory.pending().await
    }
}
