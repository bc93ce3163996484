//! Two engines on one store: order, barriers and outcomes from one owner to the next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ptn_core::deliver::{DeliveryPolicy, Engine, Pacing, Select};
use ptn_core::directory::{StaticDirectory, Wire};
use ptn_core::record::SignalState;
use ptn_core::rules::{Era, RateLimit, Rules};
use ptn_core::sign::Hotkey;
use ptn_core::signal::Signal;
use ptn_core::store::{PgStore, SignalStore};
use ptn_core::transport::HttpTransport;
use ptn_core::transport::address::AddressPolicy;
use ptn_core::transport::http::HttpOptions;
use ptn_core::validator::{Fault, LoopbackValidator, ValidatorOptions, Verdict};
use ptn_tests::postgres::{Database, Line, until};

use super::{delivers, get, owner, standby};

const PAIRS: [&str; 3] = ["BTCUSDC", "ETHUSDC", "SOLUSDC"];

pub(super) struct Validators(pub(super) Vec<LoopbackValidator>);

impl Validators {
    pub(super) async fn new(era: Era) -> Self {
        let mut list = Vec::new();
        for n in 0..3 {
            let mut options = ValidatorOptions::default();
            options.recognises_repeats = era != Era::Y2024;
            if n == 1 {
                options.faults = vec![Fault::Delay { ms: 30 }.into()];
            }
            list.push(LoopbackValidator::start(options).await.unwrap());
        }
        Self(list)
    }

    pub(super) fn engine(&self, store: &Arc<PgStore>, key: &Arc<Hotkey>, era: Era) -> Engine {
        self.engine_paced(store, key, era, None)
    }

    fn engine_paced(
        &self,
        store: &Arc<PgStore>,
        key: &Arc<Hotkey>,
        era: Era,
        pacing: Option<Pacing>,
    ) -> Engine {
        let rules = Rules::load(era).unwrap();
        let mut policy = DeliveryPolicy::preset(&rules, None);
        policy.select = Select::All;
        policy.pacing = pacing;
        policy.timeout = Duration::from_secs(5);
        policy.waits = vec![Duration::from_millis(100); 20];
        let mut options = HttpOptions::default();
        options.policy = AddressPolicy::AllowPrivate;
        if era == Era::Y2024 {
            options.reuse_idle = Duration::ZERO;
        }
        let wire = |n| if n == 2 { Wire::Dendrite } else { Wire::Btauth };
        let list = self.0.iter().enumerate().map(|(n, v)| v.entry(wire(n))).collect();
        Engine::builder()
            .store(Arc::clone(store) as _)
            .directory(Arc::new(StaticDirectory::new(list)))
            .transport(Arc::new(HttpTransport::new(Arc::clone(key) as _, options)))
            .policy(policy)
            .start()
            .unwrap()
    }
}

pub(super) fn order(id: &str, pair: &str, rules: &Rules) -> Signal {
    let body = format!(
        r#"{{"trade_pair":"{pair}","order_type":"LONG","leverage":0.1,"order_uuid":"{id}"}}"#
    );
    Signal::from_json(body.as_bytes(), rules).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_is_cut_off_is_continued_in_order_and_without_a_second_effect() {
    let rules = Rules::load(Era::Y2026).unwrap();
    let (database, line) = (Database::new().await, Line::new().await);
    let validators = Validators::new(Era::Y2026).await;
    let key = Arc::new(Hotkey::generate());
    let first = owner(&database.url_at(line.address)).await;
    let second = standby(&database.url()).await;
    let one = validators.engine(&first, &key, Era::Y2026);
    let two = validators.engine(&second, &key, Era::Y2026);
    // A server of its own, which nothing happens to.
    let server = PgStore::open(super::options(&database.url())).await.unwrap();
    let mut ids = Vec::new();
    for n in 0..120 {
        if n == 40 {
            line.set_silent(true);
        }
        if n == 80 {
            let body = r#"{"execution_type":"FLAT_ALL","order_uuid":"ALL"}"#;
            let flat = Signal::from_json(body.as_bytes(), &rules).unwrap();
            ids.push((flat.id().to_string(), "*"));
            drop(server.accept(&flat).await.unwrap());
        }
        let id = format!("order-{n:03}");
        let pair = PAIRS[n % PAIRS.len()];
        drop(server.accept(&order(&id, pair, &rules)).await.unwrap());
        ids.push((id, pair));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    delivers(&second).await;
    // It wakes up and finds that it is not the owner any more.
    line.set_silent(false);
    for (id, _) in &ids {
        until("everything is finished", async || {
            get(&server, id).await.state != SignalState::Pending
        })
        .await;
        assert_eq!(get(&server, id).await.state, SignalState::Processed, "{id}");
    }
    for validator in &validators.0 {
        let received = validator.received();
        let mut lanes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let mut all = Vec::new();
        for arrival in received.iter().filter(|r| r.verdict == Verdict::Accepted) {
            let id =
                if arrival.order_uuid.starts_with("order") { &*arrival.order_uuid } else { "*" };
            let pair = ids.iter().find(|(known, _)| known == id).map_or("*", |(_, pair)| *pair);
            lanes.entry(pair).or_default().push(id);
            all.push(id);
        }
        assert_eq!(all.len(), ids.len(), "each once");
        for (pair, lane) in &lanes {
            assert!(lane.is_sorted(), "{pair}: {lane:?}");
        }
        let barrier = all.iter().position(|id| *id == "*").unwrap();
        assert!(all[..barrier].iter().all(|id| *id < "order-080"), "before FLAT_ALL: {all:?}");
        assert!(all[barrier + 1..].iter().all(|id| *id >= "order-080"), "after it: {all:?}");
    }
    assert!(!*first.delivering().borrow());
    one.shutdown(Duration::from_secs(5)).await;
    two.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_repeats_are_not_recognised_a_takeover_repeats_nothing() {
    let rules = Rules::load(Era::Y2024).unwrap();
    let (database, line) = (Database::new().await, Line::new().await);
    let validators = Validators::new(Era::Y2024).await;
    let key = Arc::new(Hotkey::generate());
    let first = owner(&database.url_at(line.address)).await;
    let second = standby(&database.url()).await;
    let one = validators.engine(&first, &key, Era::Y2024);
    let two = validators.engine(&second, &key, Era::Y2024);
    let mut ids = Vec::new();
    for n in 0..60 {
        if n == 20 {
            line.set_silent(true);
        }
        let pair = ["BTCUSD", "ETHUSD"][n % 2];
        let signal = order(&format!("order-{n:03}"), pair, &rules);
        drop(second.accept(&signal).await.unwrap());
        ids.push(signal.id().clone());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    delivers(&second).await;
    line.set_silent(false);
    let mut unknown = 0;
    for id in &ids {
        until("everything is finished", async || {
            get(&*second, id.as_str()).await.state != SignalState::Pending
        })
        .await;
        unknown += u32::from(get(&*second, id.as_str()).await.state == SignalState::Failed);
    }
    for validator in &validators.0 {
        let mut seen = std::collections::BTreeMap::new();
        for arrival in validator.received().iter().filter(|r| r.verdict == Verdict::Accepted) {
            *seen.entry(arrival.signal.as_ref().unwrap().to_string()).or_insert(0) += 1;
        }
        // All orders of a pair are alike here, so they are counted.
        let count: u32 = seen.values().sum();
        assert!(count <= 60, "{count} trades of 60 orders");
        assert!(count + unknown >= 60, "{count} trades, {unknown} unknown");
    }
    assert!(unknown <= 4, "only what was on its way: {unknown}");
    one.shutdown(Duration::from_secs(5)).await;
    two.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_takeover_is_no_new_budget_at_the_validators() {
    let rules = Rules::load(Era::Y2026).unwrap();
    let rate_limit = RateLimit { max_requests: 3, window_s: 10 };
    let pacing = Some(Pacing { cooldown: Duration::ZERO, rate_limit });
    let (database, line) = (Database::new().await, Line::new().await);
    let validators = Validators::new(Era::Y2026).await;
    let key = Arc::new(Hotkey::generate());
    let first = owner(&database.url_at(line.address)).await;
    let second = standby(&database.url()).await;
    let one = validators.engine_paced(&first, &key, Era::Y2026, pacing);
    let two = validators.engine_paced(&second, &key, Era::Y2026, pacing);
    let finished = async |id: &str| {
        until("it is finished", async || get(&*second, id).await.state != SignalState::Pending)
            .await;
        assert_eq!(get(&*second, id).await.state, SignalState::Processed, "{id}");
    };
    for (n, pair) in PAIRS.iter().enumerate() {
        drop(second.accept(&order(&format!("order-{n}"), pair, &rules)).await.unwrap());
        finished(&format!("order-{n}")).await;
    }
    line.set_silent(true);
    delivers(&second).await;
    drop(second.accept(&order("order-3", "XRPUSDC", &rules)).await.unwrap());
    finished("order-3").await;
    for validator in &validators.0 {
        let received = validator.received();
        assert_eq!(received.len(), 4, "{received:?}");
        let at =
            |n: usize| received.iter().find(|r| r.order_uuid == format!("order-{n}")).unwrap().at;
        // Told apart by a new budget, which would be used as soon as the lease has changed hands.
        let waited = at(3) - at(0);
        // The window is counted from when the request left here, which is before it arrived.
        assert!(waited + 500 >= 10_000, "the fourth came after {waited} ms");
    }
    line.set_silent(false);
    one.shutdown(Duration::from_secs(5)).await;
    two.shutdown(Duration::from_secs(5)).await;
}
