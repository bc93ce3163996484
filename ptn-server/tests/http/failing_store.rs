//! What callers see when the store is full, gone or damaged: no 2xx, and when to come back.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use async_trait::async_trait;
use ptn_core::record::{DeliveryReport, Progress};
use ptn_core::rules::Era;
use ptn_core::signal::{OrderUuid, Signal};
use ptn_core::store::{
    Accepted, Filter, Lease, MemoryStore, Pending, SignalStore, StoreError, StoreEvent,
    StoredSignal,
};
use tokio::sync::{broadcast, watch};

use crate::harness::Server;

/// A store that fails on request.
#[derive(Debug)]
struct Failing {
    memory: Arc<MemoryStore>,
    how: AtomicU8,
}

impl Failing {
    fn check(&self) -> Result<(), StoreError> {
        let path = PathBuf::from("/spool");
        match self.how.load(Ordering::SeqCst) {
            0 => Ok(()),
            1 => Err(StoreError::Full { path }),
            2 => Err(StoreError::Poisoned("EIO".to_owned())),
            3 => Err(StoreError::Corrupt { path, at: 7, what: "checksum".to_owned() }),
            _ => panic!("a bug in a store"),
        }
    }
}

#[async_trait]
impl SignalStore for Failing {
    async fn accept(&self, signal: &Signal) -> Result<Accepted, StoreError> {
        self.check()?;
        self.memory.accept(signal).await
    }
    async fn claim(&self, limit: usize) -> Result<Vec<Lease>, StoreError> {
        self.memory.claim(limit).await
    }
    async fn record(&self, lease: &Lease, progress: Progress) -> Result<(), StoreError> {
        self.memory.record(lease, progress).await
    }
    async fn finish(&self, lease: &Lease, report: &DeliveryReport) -> Result<(), StoreError> {
        self.memory.finish(lease, report).await
    }
    async fn get(&self, id: &OrderUuid) -> Result<Option<StoredSignal>, StoreError> {
        self.check()?;
        self.memory.get(id).await
    }
    async fn list(&self, filter: &Filter) -> Result<Vec<StoredSignal>, StoreError> {
        self.check()?;
        self.memory.list(filter).await
    }
    async fn cancel(&self, id: &OrderUuid) -> Result<(), StoreError> {
        self.memory.cancel(id).await
    }
    async fn retry(&self, id: &OrderUuid) -> Result<(), StoreError> {
        self.memory.retry(id).await
    }
    fn watch(&self) -> watch::Receiver<u64> {
        self.memory.watch()
    }
    fn events(&self) -> broadcast::Receiver<StoreEvent> {
        self.memory.events()
    }
    async fn pending(&self) -> Result<Pending, StoreError> {
        let accepting = self.how.load(Ordering::SeqCst) == 0;
        Ok(Pending { accepting, ..self.memory.pending().await? })
    }
}

#[tokio::test]
async fn a_store_that_fails_is_never_answered_with_success() {
    let memory = Arc::new(MemoryStore::new());
    let failing = Arc::new(Failing { memory: memory.clone(), how: AtomicU8::new(0) });
    let server = Server::over(failing.clone(), memory, Era::Y2026, |_| {}).await;
    let order = r#"{"api_key":"k","trade_pair":"BTCUSDC","order_type":"LONG","value":1}"#;
    for (how, status, code, wait) in [
        (1, 507, "disk_full", true),
        (2, 503, "store_poisoned", true),
        (3, 500, "store_corrupt", false),
        (4, 500, "internal", false),
    ] {
        failing.how.store(how, Ordering::SeqCst);
        for path in ["/api/receive-signal", "/api/submit-order"] {
            let answer = server.ask("POST", path, order).await;
            assert_eq!((answer.status, answer.text("code").as_str()), (status, code), "{path}");
            assert_eq!(answer.header("retry-after").is_some(), wait, "{path} {code}");
        }
        let answer = server.ask("GET", "/api/order-status/x", "").await;
        assert_eq!((answer.status, answer.text("code").as_str()), (status, code));
        for path in ["/readyz", "/api/health"] {
            assert_eq!(server.send("GET", path, &[], "").await.status, 503, "{path}");
        }
        let metrics = server.send("GET", "/metrics", &[], "").await.body;
        assert!(metrics.contains("ptn_store_accepting 0"), "{metrics}");
    }
    // It recovers by itself.
    failing.how.store(0, Ordering::SeqCst);
    assert_eq!(server.receive(order).await.status, 200);
    assert_eq!(server.send("GET", "/readyz", &[], "").await.status, 200);
    assert_eq!(server.store.list(&Filter::default()).await.unwrap().len(), 1);
}
