//! A firm's own `SignalStore`: here it writes an audit line for everything and leaves the keeping
//! to a store that it wraps. A store from scratch has the same methods; the suite at the end of this
//! file (`cargo test -p ptn-examples --example custom_store`) says whether it keeps the contract.
#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use ptn_core::order::OrderType;
use ptn_core::record::{DeliveryReport, Progress};
use ptn_core::rules::{Era, Rules};
use ptn_core::signal::{OrderUuid, Signal};
use ptn_core::store::{
    Accepted, Filter, Lease, MemoryStore, Pending, SignalStore, StoreError, StoreEvent,
    StoredSignal,
};
use tokio::sync::{broadcast, watch};

/// Everything that was asked of the store, for the auditors.
#[derive(Debug, Default)]
struct AuditedStore {
    inner: MemoryStore,
    audit: Mutex<Vec<String>>,
}

impl AuditedStore {
    fn note(&self, line: String) {
        self.audit.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

#[async_trait]
impl SignalStore for AuditedStore {
    async fn accept(&self, signal: &Signal) -> Result<Accepted, StoreError> {
        let accepted = self.inner.accept(signal).await?;
        self.note(format!("accept {} {accepted:?}", signal.id()));
        Ok(accepted)
    }

    async fn claim(&self, limit: usize) -> Result<Vec<Lease>, StoreError> {
        self.inner.claim(limit).await
    }

    async fn record(&self, lease: &Lease, progress: Progress) -> Result<(), StoreError> {
        self.note(format!("record {} {progress:?}", lease.stored.signal.id()));
        self.inner.record(lease, progress).await
    }

    async fn finish(&self, lease: &Lease, report: &DeliveryReport) -> Result<(), StoreError> {
        self.note(format!("finish {} {}", lease.stored.signal.id(), report.state));
        self.inner.finish(lease, report).await
    }

    async fn get(&self, id: &OrderUuid) -> Result<Option<StoredSignal>, StoreError> {
        self.inner.get(id).await
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<StoredSignal>, StoreError> {
        self.inner.list(filter).await
    }

    async fn cancel(&self, id: &OrderUuid) -> Result<(), StoreError> {
        self.note(format!("cancel {id}"));
        self.inner.cancel(id).await
    }

    async fn retry(&self, id: &OrderUuid) -> Result<(), StoreError> {
        self.note(format!("retry {id}"));
        self.inner.retry(id).await
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.inner.watch()
    }

    fn events(&self) -> broadcast::Receiver<StoreEvent> {
        self.inner.events()
    }

    async fn pending(&self) -> Result<Pending, StoreError> {
        self.inner.pending().await
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rules = Rules::load(Era::Y2026)?;
    let store = AuditedStore::default();
    let order = Signal::market("ETHUSDC", OrderType::Short).value("500".parse()?).build(&rules)?;
    println!("first:  {:?}", store.accept(&order).await?);
    println!("again:  {:?}", store.accept(&order).await?);
    for line in store.audit.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        println!("audit:  {line}");
    }
    Ok(())
}

#[cfg(test)]
mod contract {
    use std::sync::Arc;

    use ptn_core::store::conformance::StoreFactory;

    use super::*;

    struct Factory;

    #[async_trait]
    impl StoreFactory for Factory {
        async fn create(&self) -> Arc<dyn SignalStore> {
            Arc::new(AuditedStore::default())
        }

        async fn reopen(&self, store: Arc<dyn SignalStore>) -> Arc<dyn SignalStore> {
            store
        }

        fn survives(&self) -> bool {
            false
        }
    }

    ptn_core::store_conformance!(Factory);
}
