//! A store that does not always say whether this process still delivers.

use std::sync::atomic::AtomicU32;

use async_trait::async_trait;
use ptn_core::record::{DeliveryReport, Progress};
use ptn_core::store::{Accepted, Filter, Hold, Lease, Pending, StoreError, StoreEvent, Tenure};
use tokio::sync::{broadcast, watch};

use super::*;

/// Says of so many attempts, right after they were announced, that it is not sure whose the signal is.
#[derive(Debug)]
struct Hesitant {
    inner: MemoryStore,
    left: AtomicU32,
    unsure: AtomicU32,
}

#[async_trait]
impl SignalStore for Hesitant {
    async fn accept(&self, signal: &Signal) -> Result<Accepted, StoreError> {
        self.inner.accept(signal).await
    }

    async fn claim(&self, limit: usize) -> Result<Vec<Lease>, StoreError> {
        self.inner.claim(limit).await
    }

    fn hold(&self, lease: &Lease) -> Hold {
        let took = |n: u32| n.checked_sub(1);
        match self.unsure.fetch_update(Ordering::SeqCst, Ordering::SeqCst, took) {
            Ok(_) => Hold::Unsure,
            Err(_) => self.inner.hold(lease),
        }
    }

    fn tenure(&self) -> Tenure {
        self.inner.tenure()
    }

    async fn record(&self, lease: &Lease, progress: Progress) -> Result<(), StoreError> {
        let begins = matches!(progress, Progress::Begin { .. });
        self.inner.record(lease, progress).await?;
        let took = |n: u32| n.checked_sub(1);
        if begins && self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, took).is_ok() {
            self.unsure.store(1, Ordering::SeqCst);
        }
        Ok(())
    }

    async fn finish(&self, lease: &Lease, report: &DeliveryReport) -> Result<(), StoreError> {
        self.inner.finish(lease, report).await
    }

    async fn get(&self, id: &OrderUuid) -> Result<Option<StoredSignal>, StoreError> {
        self.inner.get(id).await
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<StoredSignal>, StoreError> {
        self.inner.list(filter).await
    }

    async fn cancel(&self, id: &OrderUuid) -> Result<(), StoreError> {
        self.inner.cancel(id).await
    }

    async fn retry(&self, id: &OrderUuid) -> Result<(), StoreError> {
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

/// Also where there is one try only, and a repeat would not be recognised.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_the_store_does_not_confirm_is_held_back_and_no_try() {
    let store = Arc::new(Hesitant {
        inner: MemoryStore::with_clock(|| 1_800_000_000_000),
        left: AtomicU32::new(5),
        unsure: AtomicU32::new(0),
    });
    let rules = Rules::load(Era::Y2024).unwrap();
    let list = Arc::new(StaticDirectory::new(vec![validator("v1", 0.9)]));
    let transport = Arc::new(ScriptedTransport::new([], true));
    let one_try = |policy: &mut DeliveryPolicy| policy.waits = Vec::new();
    let engine = start(paused_clock(), store, &rules, list, Arc::clone(&transport), one_try);
    let body =
        r#"{"trade_pair":"BTCUSD","order_type":"LONG","leverage":0.1,"order_uuid":"held-back"}"#;
    let signal = Signal::from_json(body.as_bytes(), &rules).unwrap();
    let stored = engine.submit(&signal).await.unwrap().finished().await.unwrap();
    assert_eq!(stored.state, SignalState::Processed, "{}", stored.reason);
    assert_eq!(transport.uuids("v1"), ["held-back"]);
    assert_eq!(stored.validators["v1"].attempts, 1);
}
