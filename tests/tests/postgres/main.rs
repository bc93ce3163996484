//! The store on PostgreSQL: the contract, who delivers, and what it survives.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is how a test fails"
)]

mod backlog;
mod conformance;
mod engines;
mod failover;
mod leases;
mod loss;
mod moving;
mod refusals;

use std::sync::Arc;
use std::time::Duration;

use ptn_core::store::conformance::signal;
use ptn_core::store::postgres::PgOptions;
use ptn_core::store::{Accepted, Hold, Lease, PgStore, SignalStore, StoredSignal};

/// As short as a loaded machine allows.
const LEASE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(30);

fn options(url: &str) -> PgOptions {
    let mut options = PgOptions::new(url).unwrap();
    options.lease = LEASE;
    options
}

/// A store that delivers.
async fn owner(url: &str) -> Arc<PgStore> {
    let store = Arc::new(PgStore::open_owner(options(url)).await.unwrap());
    delivers(&store).await;
    store
}

/// A store that may deliver, and does not yet.
async fn standby(url: &str) -> Arc<PgStore> {
    Arc::new(PgStore::open_owner(options(url)).await.unwrap())
}

async fn delivers(store: &PgStore) {
    let mut delivering = store.delivering();
    let waited = delivering.wait_for(|delivers| *delivers);
    tokio::time::timeout(PATIENCE, waited).await.unwrap().unwrap();
}

async fn accept(store: &PgStore, id: &str, n: u32) -> u64 {
    match store.accept(&signal(id, n)).await.unwrap() {
        Accepted::New { seq } => seq,
        Accepted::Same { state } => panic!("{id} is {state} already"),
    }
}

async fn get(store: &dyn SignalStore, id: &str) -> StoredSignal {
    let id = ptn_core::signal::OrderUuid::parse(id).unwrap();
    store.get(&id).await.unwrap().unwrap()
}

/// Claims one signal, as soon as there is one.
async fn claim_one(store: &PgStore) -> Lease {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(lease) = store.claim(1).await.unwrap().pop() {
            return lease;
        }
        assert!(tokio::time::Instant::now() < deadline, "nothing to claim");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn is_sure(store: &PgStore, lease: &Lease) -> bool {
    matches!(store.hold(lease), Hold::Until(Some(_)))
}
