//! A store that does not always say whether this process still delivers.

use std::sync::atomic::AtomicU32;

use async_trait::async_trait;
use ptn_core::record::{DeliveryReport, Progress};
use ptn_core::store::{Accepted, Filter, Hold, Lease, Pending, StoreError, StoreEvent, Tenure};
use tokio::sync::{broadcast, watch};

use super::*;

/// Says of so many attempts, right after they were announced, that it is not sure whose the signal is;
/// and refuses so often to note whom a signal goes to.
#[derive(Debug)]
struct Hesitant {
    inner: MemoryStore,
    left: AtomicU32,
    unsure: AtomicU32,
    refuses: AtomicU32,
    /// Of which signals, by the beginning of their ids.
    whose: &'static str,
}

impl Hesitant {
    fn new(left: u32, refuses: u32, whose: &'static str) -> Arc<Self> {
        Arc::new(Self {
            inner: MemoryStore::with_clock(|| 1_800_000_000_000),
            left: left.into(),
            unsure: 0.into(),
            refuses: refuses.into(),
            whose,
        })
    }
}

/// Whether there was one left to take.
fn took(from: &AtomicU32) -> bool {
    from.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
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
        if took(&self.unsure) { Hold::Unsure } else { self.inner.hold(lease) }
    }

    fn tenure(&self) -> Tenure {
        self.inner.tenure()
    }

    async fn record(&self, lease: &Lease, progress: Progress) -> Result<(), StoreError> {
        let begins = matches!(progress, Progress::Begin { .. });
        let targets = matches!(progress, Progress::Targets { .. });
        let meant = lease.stored.signal.id().as_str().starts_with(self.whose);
        if targets && meant && took(&self.refuses) {
            let (path, source) = ("the journal".into(), std::io::ErrorKind::StorageFull.into());
            // Not at once, so that others come in between.
            tokio::time::sleep(Duration::from_millis(1)).await;
            return Err(StoreError::Io { what: "cannot write", path, source });
        }
        self.inner.record(lease, progress).await?;
        if begins && took(&self.left) {
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
    let store = Hesitant::new(5, 0, "");
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

fn closes(id: &str, rules: &Rules) -> Signal {
    let body = format!(
        r#"{{"trade_pair":"BTCUSDC","order_type":"FLAT","leverage":0.1,"order_uuid":"{id}"}}"#
    );
    Signal::from_json(body.as_bytes(), rules).unwrap()
}

/// Who gets a signal may change until it is noted: the next start would send the earlier order to
/// the new validator too. So the later one must not have reached it.
#[tokio::test(start_paused = true)]
async fn nothing_leaves_before_it_is_noted_whom_those_before_it_go_to() {
    let store = Hesitant::new(0, u32::MAX, "earlier");
    let rules = Rules::load(Era::Y2026).unwrap();
    let (one, both) =
        (vec![validator("v1", 0.9)], vec![validator("v1", 0.9), validator("v2", 0.8)]);
    let list = Arc::new(StaticDirectory::new(one));
    let transport = Arc::new(ScriptedTransport::new([], true));
    let (given, listed) = (Arc::clone(&store) as _, Arc::clone(&list));
    let engine = start(paused_clock(), given, &rules, listed, Arc::clone(&transport), |_| {});
    let earlier = engine.submit(&closes("earlier", &rules)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    list.replace(both);
    let later = engine.submit(&closes("later", &rules)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(transport.seen(), []);
    store.refuses.store(0, Ordering::SeqCst);
    for receipt in [earlier, later] {
        assert_eq!(receipt.finished().await.unwrap().state, SignalState::Processed);
    }
    assert_eq!(transport.uuids("v1"), ["earlier", "later"]);
    assert_eq!(transport.uuids("v2"), ["later"]);
}

/// However many wait for each other.
#[tokio::test(start_paused = true)]
async fn a_long_row_of_signals_that_the_store_refused_goes_on_in_order() {
    const SIGNALS: u32 = 1000;
    let store = Hesitant::new(0, SIGNALS + 50, "order");
    let rules = Rules::load(Era::Y2026).unwrap();
    let list = Arc::new(StaticDirectory::new(three()));
    let transport = Arc::new(ScriptedTransport::new([], true));
    let engine = start(
        paused_clock(),
        Arc::clone(&store) as _,
        &rules,
        list,
        Arc::clone(&transport),
        |_| {},
    );
    let ids: Vec<String> = (0..SIGNALS).map(|i| format!("order-{i:04}")).collect();
    let mut receipts = Vec::new();
    for id in &ids {
        receipts.push(engine.submit(&closes(id, &rules)).await.unwrap());
    }
    for receipt in &receipts {
        assert_eq!(receipt.finished().await.unwrap().state, SignalState::Processed);
    }
    for hotkey in ["v1", "v2", "v3"] {
        assert_eq!(transport.uuids(hotkey), ids, "{hotkey}");
    }
}
