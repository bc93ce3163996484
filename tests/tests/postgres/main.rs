//! The store on PostgreSQL: the contract, who delivers, and what it survives.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is how a test fails"
)]

mod conformance;

use std::sync::Arc;
use std::time::Duration;

use ptn_core::store::PgStore;
use ptn_core::store::postgres::PgOptions;

/// As short as a loaded machine allows.
const LEASE: Duration = Duration::from_secs(2);

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

async fn delivers(store: &PgStore) {
    let mut delivering = store.delivering();
    let waited = delivering.wait_for(|delivers| *delivers);
    tokio::time::timeout(Duration::from_secs(30), waited).await.unwrap().unwrap();
}
