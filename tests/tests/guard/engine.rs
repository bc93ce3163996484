//! The guard in the engine: at submission, on files of others, beside failures.

use std::sync::Arc;
use std::time::Duration;

use ptn_core::deliver::{Clock, DeliveryPolicy, Engine, Select, SubmitError};
use ptn_core::directory::StaticDirectory;
use ptn_core::error::ErrorClass;
use ptn_core::guard::{Guard, GuardMode, GuardVerdict, OrderGuard, Severity};
use ptn_core::paper::guard::{GuardSettings, RiskGuard};
use ptn_core::record::{DeliveryState, SignalState, ValidatorRecord};
use ptn_core::rules::{Era, Rules};
use ptn_core::signal::{OrderUuid, Signal};
use ptn_core::store::fs::{FsOptions, FsStore};
use ptn_core::store::{Filter, MemoryStore, SignalStore, StoredSignal};
use ptn_tests::script::{Answer, ScriptedTransport, paused_clock, validator};

struct Bench {
    rules: Rules,
    store: Arc<dyn SignalStore>,
    transport: Arc<ScriptedTransport>,
    guard: Guard,
    engine: Engine,
}

/// A guard to which ETHUSDC is halted.
fn halting(era: Era) -> Arc<RiskGuard> {
    let mut settings = GuardSettings::default();
    settings.halted = ["ETHUSDC".into(), "ETHUSD".into()].into_iter().collect();
    settings.paced = false;
    Arc::new(RiskGuard::new(era, settings).unwrap())
}

impl Bench {
    fn new(mode: GuardMode, script: &[Answer]) -> Self {
        Self::with(Arc::new(memory()), mode, halting(Era::Y2026), script)
    }

    fn with(
        store: Arc<dyn SignalStore>,
        mode: GuardMode,
        judge: Arc<dyn OrderGuard>,
        script: &[Answer],
    ) -> Self {
        Self::by_clock(paused_clock(), store, mode, judge, script)
    }

    fn by_clock(
        clock: Clock,
        store: Arc<dyn SignalStore>,
        mode: GuardMode,
        judge: Arc<dyn OrderGuard>,
        script: &[Answer],
    ) -> Self {
        let rules = Rules::load(Era::Y2026).unwrap();
        let mut policy = DeliveryPolicy::preset(&rules, Some("v1"));
        policy.jitter = 0.0;
        policy.pacing = None;
        policy.select = Select::All;
        let script = [("v1".to_owned(), script.to_vec())];
        let transport = Arc::new(ScriptedTransport::new(script, true));
        let guard = Guard::new(mode, judge);
        let engine = Engine::builder()
            .store(Arc::clone(&store))
            .directory(Arc::new(StaticDirectory::new(vec![validator("v1", 0.9)])))
            .transport(Arc::clone(&transport) as _)
            .policy(policy)
            .clock(clock)
            .guard(guard.clone())
            .start()
            .unwrap();
        Self { rules, store, transport, guard, engine }
    }

    fn signal(&self, id: &str, words: &str) -> Signal {
        signal(&self.rules, id, words)
    }

    async fn finished(&self, id: &str, words: &str) -> StoredSignal {
        let receipt = self.engine.submit(&self.signal(id, words)).await.unwrap();
        receipt.finished().await.unwrap()
    }

    /// The history is read in the background; a verdict before that blocks nothing.
    async fn ready(self) -> Self {
        while !self.guard.is_ready() {
            tokio::task::yield_now().await;
        }
        self
    }

    async fn all(&self) -> Vec<StoredSignal> {
        self.store.list(&Filter::default()).await.unwrap()
    }
}

fn memory() -> MemoryStore {
    MemoryStore::with_clock(|| 1_800_000_000_000)
}

/// `PAIR SIDE`, of a tenth of the balance.
fn signal(rules: &Rules, id: &str, words: &str) -> Signal {
    let (pair, side) = words.split_once(' ').unwrap();
    let body = format!(
        r#"{{"trade_pair":"{pair}","order_type":"{side}","leverage":0.1,"order_uuid":"{id}"}}"#
    );
    Signal::from_json(body.as_bytes(), rules).unwrap()
}

#[tokio::test(start_paused = true)]
async fn refuse_stores_and_sends_nothing() {
    let bench = Bench::new(GuardMode::Refuse, &[]).ready().await;
    let error = bench.engine.submit(&bench.signal("h", "ETHUSDC LONG")).await.unwrap_err();
    assert_eq!((error.code(), error.class()), ("guard_refused", ErrorClass::Rejected));
    let text = error.to_string();
    assert!(
        text.contains("[ETHUSDC] has been temporarily halted") && text.contains("--guard.halted"),
        "{text}"
    );
    let SubmitError::Guard { verdict, .. } = error else { panic!("{error}") };
    assert_eq!(verdict.concerns[0].code, "pair_halted");
    assert!(bench.all().await.is_empty() && bench.transport.seen().is_empty());
    assert_eq!(bench.guard.counts().blocked, 1);
    // The id is free: the order may be sent under it later.
    assert_eq!(bench.finished("h", "BTCUSDC LONG").await.state, SignalState::Processed);
}

#[tokio::test(start_paused = true)]
async fn warn_accepts_and_says_so() {
    let bench = Bench::new(GuardMode::Warn, &[]).ready().await;
    let mut alerts = bench.guard.alerts();
    let receipt = bench.engine.submit(&bench.signal("h", "ETHUSDC LONG")).await.unwrap();
    assert_eq!(receipt.verdict().unwrap().severity(), Severity::Refused);
    assert_eq!(receipt.finished().await.unwrap().state, SignalState::Processed);
    let alert = alerts.try_recv().unwrap();
    assert_eq!((alert.order_uuid.as_deref(), alert.blocked), (Some("h"), false));
    assert_eq!(alert.concerns[0].code, "pair_halted");
    let clear = bench.engine.submit(&bench.signal("b", "BTCUSDC LONG")).await.unwrap();
    assert_eq!(clear.verdict().unwrap().severity(), Severity::Clear);
    let counts = bench.guard.counts();
    assert_eq!((counts.verdicts, counts.blocked), ([1, 0, 0, 1], 0));
    assert!(alerts.try_recv().is_err(), "nothing is said about what is clear");
}

#[tokio::test(start_paused = true)]
async fn closing_orders_always_pass() {
    let bench = Bench::new(GuardMode::Refuse, &[]);
    assert_eq!(bench.finished("flat", "ETHUSDC FLAT").await.state, SignalState::Processed);
    let all = r#"{"execution_type":"FLAT_ALL","order_uuid":"ALL"}"#;
    let all = Signal::from_json(all.as_bytes(), &bench.rules).unwrap();
    let stored = bench.engine.submit(&all).await.unwrap().finished().await.unwrap();
    assert_eq!(stored.state, SignalState::Processed);
}

#[tokio::test(start_paused = true)]
async fn an_acknowledged_order_counts_as_soon_as_its_outcome_is_known() {
    let bench = Bench::new(GuardMode::Refuse, &[]);
    let receipt = bench.engine.submit(&bench.signal("a", "BTCUSDC LONG")).await.unwrap();
    receipt.outcome().await.unwrap();
    // Without pacing a cooldown is a refusal.
    let error = bench.engine.submit(&bench.signal("b", "BTCUSDC LONG")).await.unwrap_err();
    assert!(error.to_string().contains("was placed too soon"), "{error}");
    // Closing is not refused, and what was never acknowledged does not count.
    bench.engine.submit(&bench.signal("c", "BTCUSDC SHORT")).await.unwrap();
    let refused = Bench::new(
        GuardMode::Refuse,
        &[Answer::Refuse("No buying power remaining for BTCUSDC (capped by x)", Some(false))],
    );
    assert_eq!(refused.finished("a", "BTCUSDC LONG").await.state, SignalState::Failed);
    assert_eq!(refused.finished("b", "BTCUSDC LONG").await.state, SignalState::Processed);
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_again_is_not_judged_again() {
    // The answer is lost, then the validator recognises the repeat; meanwhile the pair's cooldown
    // would have refused a new order.
    let bench = Bench::new(GuardMode::Refuse, &[Answer::Lost, Answer::Unreachable]);
    assert_eq!(bench.finished("a", "BTCUSDC LONG").await.state, SignalState::Processed);
    assert_eq!(bench.transport.uuids("v1"), ["a", "a"]);
    // The sender repeats it, and gets the same answer instead of a refusal.
    let again = bench.finished("a", "BTCUSDC LONG").await;
    assert_eq!((again.state, bench.all().await.len()), (SignalState::Processed, 1));
    assert_eq!(bench.guard.counts().blocked, 0);
}

#[tokio::test(start_paused = true)]
async fn the_id_of_a_halted_pair_that_was_accepted_earlier_is_still_answered() {
    let store: Arc<dyn SignalStore> = Arc::new(memory());
    let first = Bench::with(Arc::clone(&store), GuardMode::Warn, halting(Era::Y2026), &[]);
    assert_eq!(first.finished("h", "ETHUSDC LONG").await.state, SignalState::Processed);
    first.engine.shutdown(Duration::from_secs(1)).await;
    let second = Bench::with(store, GuardMode::Refuse, halting(Era::Y2026), &[]).ready().await;
    assert_eq!(second.finished("h", "ETHUSDC LONG").await.state, SignalState::Processed);
    let other = second.engine.submit(&second.signal("h", "ETHUSDC SHORT")).await.unwrap_err();
    assert_eq!(other.code(), "uuid_conflict");
}

#[tokio::test(start_paused = true)]
async fn what_others_accepted_is_denied_with_the_reason_and_can_be_sent_nevertheless() {
    let store: Arc<dyn SignalStore> = Arc::new(memory());
    let rules = Rules::load(Era::Y2026).unwrap();
    for (id, words) in [("1", "ETHUSDC LONG"), ("2", "BTCUSDC LONG"), ("3", "ETHUSDC FLAT")] {
        assert!(store.accept(&signal(&rules, id, words)).await.is_ok());
    }
    let bench = Bench::with(Arc::clone(&store), GuardMode::Refuse, halting(Era::Y2026), &[]);
    let ended = |id: &str| {
        let (store, id) = (Arc::clone(&store), OrderUuid::parse(id).unwrap());
        async move {
            loop {
                let stored = store.get(&id).await.unwrap().unwrap();
                if stored.state != SignalState::Pending {
                    return stored;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    };
    let denied = ended("1").await;
    assert_eq!(denied.state, SignalState::Failed);
    let record = &denied.validators["v1"];
    assert_eq!((record.state, record.code.as_str()), (DeliveryState::Denied, "guard_refused"));
    assert!(record.message.contains("temporarily halted"), "{}", record.message);
    assert!(record.message.contains("ptn-cli signals retry 1"), "{}", record.message);
    assert_eq!((record.attempts, record.maybe_sent), (0, false));
    assert!(denied.reason.contains("refused by the risk guard"), "{}", denied.reason);
    assert_eq!(ended("2").await.state, SignalState::Processed);
    assert_eq!(ended("3").await.state, SignalState::Processed);
    assert_eq!(bench.guard.counts().blocked, 1);
    // Someone who looked at it sends it nevertheless.
    store.retry(&OrderUuid::parse("1").unwrap()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(ended("1").await.state, SignalState::Processed);
    let mut sent = bench.transport.uuids("v1");
    sent.sort();
    assert_eq!(sent, ["1", "2", "3"]);
}

/// A guard that fails in every way it can.
#[derive(Default)]
struct Failing(std::sync::Mutex<()>);

impl OrderGuard for Failing {
    fn judge(&self, _: &Signal, _: i64) -> GuardVerdict {
        let _held = self.0.lock().unwrap();
        panic!("judge")
    }
    fn acknowledged(&self, _: &Signal, _: &ValidatorRecord) {
        let _held = self.0.lock().unwrap();
        panic!("acknowledged")
    }
    fn standing(&self, _: i64) -> ptn_core::guard::Standing {
        panic!("standing")
    }
    fn ready(&self) {
        panic!("ready")
    }
}

#[tokio::test(start_paused = true)]
async fn a_guard_that_panics_and_poisons_its_lock_stops_nothing() {
    let failing: Arc<dyn OrderGuard> = Arc::new(Failing::default());
    let bench = Bench::with(Arc::new(memory()), GuardMode::Refuse, failing, &[]);
    for n in 0..20 {
        let receipt =
            bench.engine.submit(&bench.signal(&format!("o{n:02}"), "BTCUSDC LONG")).await.unwrap();
        assert_eq!(receipt.verdict().unwrap().unjudged[0].check, "guard");
    }
    for stored in bench.all().await {
        let id = stored.signal.id().as_str().to_owned();
        assert_eq!(bench.finished(&id, "BTCUSDC LONG").await.state, SignalState::Processed, "{id}");
    }
    let expected: Vec<String> = (0..20).map(|n| format!("o{n:02}")).collect();
    assert_eq!(bench.transport.uuids("v1"), expected, "in order");
    assert!(bench.guard.counts().failures > 20);
}

#[tokio::test(start_paused = true)]
async fn order_is_kept_and_nothing_vanishes_when_every_third_signal_is_denied() {
    let store: Arc<dyn SignalStore> = Arc::new(memory());
    let rules = Rules::load(Era::Y2026).unwrap();
    let words = ["BTCUSDC FLAT", "ETHUSDC LONG", "SOLUSDC FLAT"];
    for n in 0..300 {
        let accepted = store.accept(&signal(&rules, &format!("n{n:03}"), words[n % 3])).await;
        assert!(accepted.is_ok());
    }
    let bench = Bench::with(Arc::clone(&store), GuardMode::Refuse, halting(Era::Y2026), &[]);
    while store.pending().await.unwrap().count > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let filter = Filter { limit: 1000, ..Filter::default() };
    let all = store.list(&filter).await.unwrap();
    assert_eq!(all.len(), 300);
    let denied = all.iter().filter(|s| s.state == SignalState::Failed);
    assert!(denied.clone().all(|s| s.validators["v1"].state == DeliveryState::Denied));
    assert_eq!(denied.count(), 100);
    let sent = bench.transport.uuids("v1");
    for rest in [0, 2] {
        let of_pair = |id: &&String| id.get(1..).unwrap().parse::<usize>().unwrap() % 3 == rest;
        let seen: Vec<&String> = sent.iter().filter(of_pair).collect();
        assert_eq!(seen.len(), 100);
        assert!(seen.is_sorted(), "in order of arrival");
    }
}

#[tokio::test]
async fn files_of_others_are_judged_and_denied_on_the_record() {
    let dir = tempfile::tempdir().unwrap();
    let rules = Arc::new(Rules::load(Era::Y2026).unwrap());
    let mut options = FsOptions::new(Arc::clone(&rules));
    options.settle = Duration::from_millis(50);
    let store = Arc::new(FsStore::open_owner(dir.path(), options).unwrap());
    let clock: Clock = Arc::new(|| jiff::Timestamp::now().as_millisecond());
    let (shared, judge) = (Arc::clone(&store) as _, halting(Era::Y2026));
    let bench = Bench::by_clock(clock, shared, GuardMode::Refuse, judge, &[]);
    let folder = |name: &str| dir.path().join(name);
    let order = |pair: &str| {
        format!(r#"{{"trade_pair": "{pair}", "order_type": "LONG", "leverage": 0.1}}"#)
    };
    std::fs::write(folder("received_signals").join("halted"), order("ETHUSDC")).unwrap();
    std::fs::write(folder("received_signals").join("fine"), order("BTCUSDC")).unwrap();
    let end = std::time::Instant::now() + Duration::from_secs(20);
    let failed = folder("failed_signals").join("halted");
    while !failed.exists() || !folder("processed_signals").join("fine").exists() {
        assert!(std::time::Instant::now() < end, "{:?}", bench.all().await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let text = std::fs::read_to_string(failed).unwrap();
    assert!(text.contains("refused by the risk guard") && text.contains("denied"), "{text}");
    assert_eq!(bench.transport.uuids("v1"), ["fine"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_handed_in_before_the_history_was_read_is_judged_when_it_is_taken_up() {
    let bench = Bench::new(GuardMode::Refuse, &[]);
    // The engine had no turn yet.
    let receipt = bench.engine.submit(&bench.signal("h", "ETHUSDC LONG")).await.unwrap();
    assert!(receipt.verdict().unwrap().closes, "it may close what is not known yet");
    let stored = receipt.finished().await.unwrap();
    assert_eq!(stored.validators["v1"].state, DeliveryState::Denied);
}

#[tokio::test(start_paused = true)]
async fn a_signal_that_somebody_retries_is_under_way_again() {
    let script =
        [Answer::Refuse("No buying power remaining for ETHUSDC (capped by x)", Some(false))];
    let bench = Bench::new(GuardMode::Warn, &script).ready().await;
    assert_eq!(bench.finished("a", "ETHUSDC LONG").await.state, SignalState::Failed);
    let short = bench.signal("b", "ETHUSDC SHORT");
    let now = 1_800_000_000_000;
    assert!(!bench.guard.check(&short, now).closes, "nothing is open, nothing is under way");
    bench.engine.shutdown(Duration::from_secs(1)).await;
    let next = Bench::with(
        Arc::clone(&bench.store),
        GuardMode::Refuse,
        halting(Era::Y2026),
        &[Answer::Silent],
    );
    let next = next.ready().await;
    next.store.retry(&OrderUuid::parse("a").unwrap()).await.unwrap();
    while !next.guard.check(&short, now).closes {
        tokio::task::yield_now().await;
    }
    assert_eq!(next.guard.counts().blocked, 0, "what somebody retries is not judged");
}

#[tokio::test(start_paused = true)]
async fn off_judges_nothing() {
    let bench = Bench::new(GuardMode::Off, &[]);
    let receipt = bench.engine.submit(&bench.signal("h", "ETHUSDC LONG")).await.unwrap();
    assert_eq!(receipt.verdict().unwrap(), &GuardVerdict::default());
}
