//! The engine on paused time, with scripted validators: order, isolation, retries, lost answers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod lease;
mod panics;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use ptn_core::deliver::{Clock, DeliveryPolicy, Engine, OnUnknown, Select};
use ptn_core::directory::{StaticDirectory, Validator};
use ptn_core::record::{DeliveryState, SignalState, legacy};
use ptn_core::rules::{Era, Rules};
use ptn_core::signal::{OrderUuid, Signal};
use ptn_core::store::{MemoryStore, SignalStore, StoredSignal};
use ptn_tests::script::{Answer, ScriptedTransport, paused_clock, validator};
use ptn_tests::vectors::{self, Failures};
use serde_json::Value;

/// An engine that sends everything to everyone, without jitter and the network's pace.
fn start(
    clock: Clock,
    store: Arc<dyn SignalStore>,
    rules: &Rules,
    directory: Arc<StaticDirectory>,
    transport: Arc<ScriptedTransport>,
    change: impl FnOnce(&mut DeliveryPolicy),
) -> Engine {
    let mut policy = DeliveryPolicy::preset(rules, Some("v1"));
    policy.jitter = 0.0;
    policy.pacing = None;
    policy.select = Select::All;
    change(&mut policy);
    Engine::builder()
        .store(store)
        .directory(directory)
        .transport(transport)
        .policy(policy)
        .clock(clock)
        .start()
        .unwrap()
}

struct Bench {
    rules: Rules,
    store: Arc<MemoryStore>,
    directory: Arc<StaticDirectory>,
    transport: Arc<ScriptedTransport>,
    engine: Engine,
}

impl Bench {
    fn new(
        era: Era,
        validators: Vec<Validator>,
        transport: ScriptedTransport,
        change: impl FnOnce(&mut DeliveryPolicy),
    ) -> Self {
        let store = Arc::new(MemoryStore::with_clock(|| 1_800_000_000_000));
        Self::on(store, era, validators, transport, change)
    }

    fn on(
        store: Arc<MemoryStore>,
        era: Era,
        validators: Vec<Validator>,
        transport: ScriptedTransport,
        change: impl FnOnce(&mut DeliveryPolicy),
    ) -> Self {
        Self::by_clock(paused_clock(), store, era, validators, transport, change)
    }

    fn by_clock(
        clock: Clock,
        store: Arc<MemoryStore>,
        era: Era,
        validators: Vec<Validator>,
        transport: ScriptedTransport,
        change: impl FnOnce(&mut DeliveryPolicy),
    ) -> Self {
        let rules = Rules::load(era).unwrap();
        let directory = Arc::new(StaticDirectory::new(validators));
        let transport = Arc::new(transport);
        let list = Arc::clone(&directory);
        let engine =
            start(clock, Arc::clone(&store) as _, &rules, list, Arc::clone(&transport), change);
        Self { rules, store, directory, transport, engine }
    }

    fn signal(&self, id: &str, pair: &str, order_type: &str) -> Signal {
        let body = format!(
            r#"{{"trade_pair":"{pair}","order_type":"{order_type}","leverage":0.1,"order_uuid":"{id}"}}"#
        );
        Signal::from_json(body.as_bytes(), &self.rules).unwrap()
    }

    fn raw(&self, body: &str) -> Signal {
        Signal::from_json(body.as_bytes(), &self.rules).unwrap()
    }

    async fn send(&self, id: &str, pair: &str) -> ptn_core::deliver::Receipt {
        self.engine.submit(&self.signal(id, pair, "LONG")).await.unwrap()
    }

    async fn finished(&self, id: &str) -> StoredSignal {
        let receipt = self.send_again(id).await;
        receipt.finished().await.unwrap()
    }

    async fn send_again(&self, id: &str) -> ptn_core::deliver::Receipt {
        let stored = self.store.get(&OrderUuid::parse(id).unwrap()).await.unwrap().unwrap();
        self.engine.submit(&stored.signal).await.unwrap()
    }
}

fn script(rows: &[(&str, &[Answer])]) -> Vec<(String, Vec<Answer>)> {
    rows.iter().map(|(hotkey, answers)| ((*hotkey).to_owned(), answers.to_vec())).collect()
}

fn three() -> Vec<Validator> {
    vec![validator("v1", 0.9), validator("v2", 0.8), validator("v3", 0.3)]
}

#[tokio::test(start_paused = true)]
async fn a_burst_on_one_pair_arrives_complete_and_in_order_everywhere() {
    let slow = ScriptedTransport::new(
        script(&[("v2", &[Answer::Refuse("hm", None), Answer::Unreachable])]),
        true,
    );
    let bench = Bench::new(Era::Y2026, three(), slow.slow("v3", Duration::from_millis(7)), |_| {});
    let ids: Vec<String> = (0..100).map(|i| format!("order-{i:03}")).collect();
    for id in &ids {
        bench.send(id, "BTCUSDC").await;
    }
    for id in &ids {
        let stored = bench.finished(id).await;
        assert_eq!(stored.state, SignalState::Processed, "{id}");
        assert!(stored.validators.values().all(|v| v.state == DeliveryState::Accepted));
    }
    for hotkey in ["v1", "v3"] {
        assert_eq!(bench.transport.uuids(hotkey), ids, "{hotkey}");
    }
    let mut second = bench.transport.uuids("v2");
    assert_eq!(second.remove(0), "order-000", "the refused attempt");
    assert_eq!(second, ids);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_validator_delays_nobody_else() {
    let hang = vec![Answer::Silent; 400];
    let bench = Bench::new(
        Era::Y2026,
        three(),
        ScriptedTransport::new(script(&[("v3", &hang)]), true),
        |p| p.select = Select::TrustAtLeast(0.75),
    );
    let start = tokio::time::Instant::now();
    for i in 0..20 {
        let receipt = bench.send(&format!("o{i}"), "BTCUSDC").await;
        let stored = receipt.outcome().await.unwrap();
        assert_eq!(stored.validators["v1"].state, DeliveryState::Accepted);
        assert_eq!(stored.validators["v2"].state, DeliveryState::Accepted);
        assert_eq!(stored.validators["v3"].state, DeliveryState::Submitted);
    }
    assert!(start.elapsed() < Duration::from_secs(1), "paused time moved by {:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn pairs_do_not_wait_for_each_other_at_one_validator() {
    let bench = Bench::new(
        Era::Y2026,
        vec![validator("v1", 0.9)],
        ScriptedTransport::new(script(&[("v1", &[Answer::Silent])]), true),
        |_| {},
    );
    bench.send("stuck", "BTCUSDC").await;
    let start = tokio::time::Instant::now();
    bench.send("other", "ETHUSDC").await.finished().await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(bench.finished("stuck").await.state, SignalState::Processed);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_repeated_with_the_same_uuid_where_repeats_are_recognised() {
    let bench = Bench::new(
        Era::Y2026,
        vec![validator("v1", 0.9)],
        ScriptedTransport::new(script(&[("v1", &[Answer::Lost])]), true),
        |_| {},
    );
    let stored = bench.send("a", "BTCUSDC").await.finished().await.unwrap();
    let record = &stored.validators["v1"];
    assert_eq!((record.state, record.attempts), (DeliveryState::Accepted, 2));
    assert_eq!(record.code, "already_processed");
    assert_eq!(bench.transport.uuids("v1"), ["a", "a"]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_of_2024_is_not_repeated() {
    let make = |on_unknown| {
        Bench::new(
            Era::Y2024,
            vec![validator("v1", 0.9)],
            ScriptedTransport::new(script(&[("v1", &[Answer::Lost])]), false),
            move |p| p.on_unknown = on_unknown,
        )
    };
    let bench = make(OnUnknown::Hold);
    let stored = bench.send("a", "BTCUSD").await.finished().await.unwrap();
    assert_eq!(stored.validators["v1"].state, DeliveryState::Unknown);
    assert_eq!(stored.state, SignalState::Failed);
    assert_eq!(bench.transport.uuids("v1").len(), 1);
    // What follows on the pair goes on.
    let next = bench.send("b", "BTCUSD").await.finished().await.unwrap();
    assert_eq!(next.state, SignalState::Processed);

    let resending = make(OnUnknown::Resend);
    let stored = resending.send("a", "BTCUSD").await.finished().await.unwrap();
    assert_eq!(stored.validators["v1"].state, DeliveryState::Accepted);
    assert_eq!(resending.transport.uuids("v1").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_after_a_lost_answer_proves_nothing_unless_it_judges_the_order() {
    let halted = "No buying power remaining for BTCUSDC (capped by portfolio)";
    for (after, state) in [
        (Answer::Status(401), DeliveryState::Unknown),
        (Answer::Status(400), DeliveryState::Unknown),
        (Answer::Status(403), DeliveryState::Unknown),
        (Answer::Refuse(halted, Some(false)), DeliveryState::Rejected),
    ] {
        let answers = [Answer::Lost, after.clone()];
        // A validator that was restarted in between and does not know the first copy.
        let transport = ScriptedTransport::new(script(&[("v1", &answers)]), false);
        let bench = Bench::new(Era::Y2026, vec![validator("v1", 0.9)], transport, |_| {});
        let stored = bench.send("a", "BTCUSDC").await.finished().await.unwrap();
        let record = &stored.validators["v1"];
        assert_eq!((record.state, record.attempts), (state, 2), "{after:?}");
        let warned = record.message.contains("may have been processed");
        assert_eq!(warned, state == DeliveryState::Unknown, "{after:?}: {}", record.message);
    }
}

/// Validators let an edit use a uuid again, so they would create the bracket a second time.
#[tokio::test(start_paused = true)]
async fn an_edit_that_creates_a_bracket_is_not_repeated_after_a_lost_answer() {
    let edit = |entry: &str| {
        format!(
            r#"{{"trade_pair":"BTCUSDC","order_type":"FLAT","execution_type":"LIMIT_EDIT","bracket_orders":[{{"order_uuid":"b1","stop_loss":2}},{entry}]}}"#
        )
    };
    for (entry, state, times) in [
        (r#"{"stop_loss":1}"#, DeliveryState::Unknown, 1),
        (r#"{"order_uuid":null,"stop_loss":1}"#, DeliveryState::Unknown, 1),
        (r#"{"order_uuid":"b2","stop_loss":1}"#, DeliveryState::Accepted, 2),
    ] {
        let lost = ScriptedTransport::new(script(&[("v1", &[Answer::Lost])]), false);
        let bench = Bench::new(Era::Y2026, vec![validator("v1", 0.9)], lost, |_| {});
        let signal = bench.raw(&edit(entry));
        let stored = bench.engine.submit(&signal).await.unwrap().finished().await.unwrap();
        assert_eq!(stored.validators["v1"].state, state, "{entry}");
        assert_eq!(bench.transport.uuids("v1").len(), times, "{entry}");
    }
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_honoured_within_reason() {
    for (asked, waited) in [(0, 5), (40, 40), (1_000_000_000_000, 300)] {
        let transport = ScriptedTransport::new(script(&[("v1", &[Answer::Busy(asked)])]), true);
        let bench =
            Bench::new(Era::Y2026, vec![validator("v1", 0.9)], transport, |p| p.max_age.clear());
        bench.send("a", "BTCUSDC").await.finished().await.unwrap();
        let at: Vec<u64> = bench.transport.seen().iter().map(|s| s.at.as_secs()).collect();
        assert_eq!(at, [0, waited], "asked for {asked} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_panics_costs_an_attempt_and_nothing_else() {
    let panics = [Answer::Panic, Answer::Panic];
    let transport = ScriptedTransport::new(script(&[("v1", &panics)]), true);
    let bench = Bench::new(Era::Y2026, three(), transport, |_| {});
    for id in ["a", "b"] {
        bench.send(id, "BTCUSDC").await;
    }
    for id in ["a", "b"] {
        assert_eq!(bench.finished(id).await.state, SignalState::Processed, "{id}");
    }
    assert_eq!(bench.transport.uuids("v1"), ["a", "a", "a", "b"]);
    assert_eq!(bench.transport.uuids("v2"), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_order_of_2024_is_sent_again_only_on_request() {
    let lost = ScriptedTransport::new(script(&[("v1", &[Answer::Lost])]), false);
    let bench = Bench::new(Era::Y2024, vec![validator("v1", 0.9)], lost, |_| {});
    let receipt = bench.send("a", "BTCUSD").await;
    assert_eq!(receipt.finished().await.unwrap().state, SignalState::Failed);
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!(bench.transport.uuids("v1").len(), 1);
    bench.store.retry(receipt.id()).await.unwrap();
    let stored = receipt.finished().await.unwrap();
    assert_eq!(stored.validators["v1"].state, DeliveryState::Accepted);
    assert_eq!(bench.transport.uuids("v1").len(), 2);
}

/// Nothing was lost this time: an answer that leads to another try does so, though the order of before
/// may have been sent.
#[tokio::test(start_paused = true)]
async fn an_unknown_order_that_is_sent_again_has_all_its_tries() {
    let answers = [Answer::Lost, Answer::Unreachable, Answer::Unreachable];
    let lost = ScriptedTransport::new(script(&[("v1", &answers)]), false);
    let bench = Bench::new(Era::Y2024, vec![validator("v1", 0.9)], lost, |_| {});
    let receipt = bench.send("a", "BTCUSD").await;
    assert_eq!(receipt.finished().await.unwrap().state, SignalState::Failed);
    bench.store.retry(receipt.id()).await.unwrap();
    let stored = receipt.finished().await.unwrap();
    let record = &stored.validators["v1"];
    assert_eq!(record.state, DeliveryState::Accepted, "{}: {}", record.code, record.message);
    assert_eq!(record.attempts, 3);
}

/// One validator, whose first answer is this refusal.
fn refusing(said: &'static str) -> Bench {
    let answers = script(&[("v1", &[Answer::Refuse(said, Some(true))])]);
    let transport = ScriptedTransport::new(answers, true);
    Bench::new(Era::Y2026, vec![validator("v1", 0.9)], transport, |_| {})
}

#[tokio::test(start_paused = true)]
async fn already_processed_at_the_first_attempt_is_somebody_elses_order() {
    let said = "Order with uuid [a] has already been processed. Please try again with a new order.";
    let bench = refusing(said);
    let stored = bench.send("a", "BTCUSDC").await.finished().await.unwrap();
    assert_eq!(stored.validators["v1"].state, DeliveryState::Rejected);
    assert_eq!(stored.validators["v1"].code, "uuid_conflict");
}

#[tokio::test(start_paused = true)]
async fn final_answers_are_not_repeated_and_stay_readable() {
    let said = "No buying power remaining for BTCUSDC (capped by portfolio)";
    let bench = refusing(said);
    let stored = bench.send("a", "BTCUSDC").await.finished().await.unwrap();
    let record = &stored.validators["v1"];
    assert_eq!((record.state, record.attempts), (DeliveryState::Rejected, 1));
    assert_eq!((record.code.as_str(), record.message.as_str()), ("no_buying_power", said));
}

#[tokio::test(start_paused = true)]
async fn a_stated_wait_is_waited_out_and_costs_no_try() {
    let said = "Rate limited. Please wait 20 seconds before sending another signal.";
    let answers = vec![Answer::Refuse(said, Some(true)); 4];
    let bench = Bench::new(
        Era::Y2026,
        vec![validator("v1", 0.9)],
        ScriptedTransport::new(script(&[("v1", &answers)]), true),
        |_| {},
    );
    let stored = bench.send("a", "BTCUSDC").await.finished().await.unwrap();
    assert_eq!(stored.state, SignalState::Processed);
    let at: Vec<u64> = bench.transport.seen().iter().map(|s| s.at.as_secs()).collect();
    assert_eq!(at, [0, 20, 40, 60, 81]);
}

#[tokio::test(start_paused = true)]
async fn pacing_waits_instead_of_burning_attempts() {
    let bench =
        Bench::new(Era::Y2026, vec![validator("v1", 0.9)], ScriptedTransport::new([], true), |p| {
            p.pacing = DeliveryPolicy::preset(&Rules::load(Era::Y2026).unwrap(), None).pacing;
            p.max_age.clear();
        });
    for i in 0..12 {
        bench.send(&format!("p{i:02}"), ["BTCUSDC", "ETHUSDC", "SOLUSDC"][i % 3]).await;
    }
    // A closing order of another pair does not wait behind the opening ones once there is room.
    let flat = r#"{"trade_pair":"XRPUSDC","order_type":"FLAT","order_uuid":"close"}"#;
    for i in 0..12 {
        bench.finished(&format!("p{i:02}")).await;
        if i == 0 {
            bench.engine.submit(&bench.raw(flat)).await.unwrap();
        }
    }
    let seen = bench.transport.seen();
    for pair in ["BTCUSDC", "ETHUSDC", "SOLUSDC"] {
        let mine: Vec<_> = seen
            .iter()
            .filter(|s| {
                s.order_uuid.strip_prefix('p').is_some_and(|n| {
                    ["BTCUSDC", "ETHUSDC", "SOLUSDC"][n.parse::<usize>().unwrap() % 3] == pair
                })
            })
            .collect();
        assert!(mine.windows(2).all(|w| w[1].at - w[0].at >= Duration::from_secs(5)), "{mine:?}");
    }
    for (i, first) in seen.iter().enumerate() {
        let window = seen[i..].iter().filter(|s| s.at - first.at < Duration::from_secs(60));
        assert!(window.count() <= 10, "more than 10 requests within 60 s");
    }
    let order: Vec<&str> = seen.iter().map(|s| s.order_uuid.as_str()).collect();
    let close = order.iter().position(|u| *u == "close").unwrap();
    assert!(close < 4, "the closing order was sent as number {close}: {order:?}");
}

#[tokio::test(start_paused = true)]
async fn a_validator_that_seems_to_be_down_is_tried_with_one_order_at_a_time() {
    let down = vec![Answer::Unreachable; 400];
    let slow =
        ScriptedTransport::new(script(&[("v1", &down)]), true).slow("v1", Duration::from_secs(1));
    let bench = Bench::new(Era::Y2026, one(), slow, |p| {
        p.waits = vec![Duration::from_millis(100); 20];
        p.max_age.clear();
    });
    for pair in ["BTCUSDC", "ETHUSDC", "SOLUSDC", "XRPUSDC", "DOGEUSDC"] {
        bench.send(&pair.to_lowercase(), pair).await;
    }
    tokio::time::sleep(Duration::from_millis(10_500)).await;
    // All five at once, which is how it shows; then one after the other, a second each.
    let attempts = bench.engine.health()[0].attempts;
    assert!((12..=14).contains(&attempts), "{attempts} attempts");
}

#[tokio::test(start_paused = true)]
async fn signals_without_a_pair_are_barriers() {
    let slow = ScriptedTransport::new([], true).slow("v1", Duration::from_secs(1));
    let bench = Bench::new(Era::Y2026, vec![validator("v1", 0.9)], slow, |_| {});
    bench.send("a", "BTCUSDC").await;
    bench.send("b", "ETHUSDC").await;
    let all = bench.raw(r#"{"execution_type":"FLAT_ALL","order_uuid":"ALL"}"#);
    let receipt = bench.engine.submit(&all).await.unwrap();
    bench.send("c", "SOLUSDC").await;
    receipt.finished().await.unwrap();
    bench.finished("c").await;
    let seen = bench.transport.seen();
    let at = |uuid: &str| seen.iter().find(|s| s.order_uuid == uuid).unwrap().at.as_secs();
    assert_eq!((at("a"), at("b"), at("ALL"), at("c")), (0, 0, 1, 2));
}

#[tokio::test(start_paused = true)]
async fn what_touches_every_pair_is_a_barrier_even_when_it_names_one() {
    for everything in [
        r#"{"execution_type":"FLAT_ALL","order_uuid":"ALL","trade_pair":"SOLUSDC"}"#,
        r#"{"execution_type":"LIMIT_CANCEL","order_uuid":"all","trade_pair":"SOLUSDC"}"#,
    ] {
        let slow = ScriptedTransport::new([], true).slow("v1", Duration::from_secs(1));
        let bench = Bench::new(Era::Y2026, vec![validator("v1", 0.9)], slow, |_| {});
        bench.send("a", "BTCUSDC").await;
        let receipt = bench.engine.submit(&bench.raw(everything)).await.unwrap();
        bench.send("c", "ETHUSDC").await;
        receipt.finished().await.unwrap();
        bench.finished("c").await;
        let at: Vec<u64> = bench.transport.seen().iter().map(|s| s.at.as_secs()).collect();
        assert_eq!(at, [0, 1, 2], "{everything}");
        assert_eq!(bench.transport.seen()[2].order_uuid, "c");
    }
}

#[tokio::test(start_paused = true)]
async fn an_old_opening_order_expires_and_a_closing_one_does_not() {
    let down = vec![Answer::Unreachable; 500];
    let bench = Bench::new(
        Era::Y2026,
        vec![validator("v1", 0.9)],
        ScriptedTransport::new(script(&[("v1", &down)]), true),
        |p| p.waits = vec![Duration::from_secs(40); 20],
    );
    bench.send("open", "BTCUSDC").await;
    let flat = bench.raw(r#"{"trade_pair":"ETHUSDC","order_type":"FLAT","order_uuid":"close"}"#);
    bench.engine.submit(&flat).await.unwrap();
    let stored = bench.finished("open").await;
    assert_eq!(stored.validators["v1"].state, DeliveryState::Expired);
    assert!(stored.validators["v1"].attempts > 5);
    let stored = bench.finished("close").await;
    assert_eq!(stored.validators["v1"].state, DeliveryState::Rejected);
    assert_eq!(stored.validators["v1"].attempts, 21);
}

/// Stops an engine as a restart does, and starts another one on the same store and clock.
async fn restart(first: Bench, clock: &Clock, answers: ScriptedTransport) -> Bench {
    let pacing = DeliveryPolicy::preset(&first.rules, None).pacing;
    first.engine.shutdown(Duration::from_secs(1)).await;
    let store = Arc::clone(&first.store);
    drop(first);
    store.release_claims();
    Bench::by_clock(Arc::clone(clock), store, Era::Y2026, one(), answers, |p| {
        p.max_age.clear();
        p.pacing = pacing;
    })
}

fn one() -> Vec<Validator> {
    vec![validator("v1", 0.9)]
}

fn paced(clock: &Clock, answers: ScriptedTransport) -> Bench {
    let store = Arc::new(MemoryStore::with_clock(|| 1_800_000_000_000));
    Bench::by_clock(Arc::clone(clock), store, Era::Y2026, one(), answers, |p| {
        p.max_age.clear();
        p.pacing = DeliveryPolicy::preset(&Rules::load(Era::Y2026).unwrap(), None).pacing;
    })
}

#[tokio::test(start_paused = true)]
async fn a_restart_is_no_new_budget_and_no_new_cooldown() {
    let clock = paused_clock();
    let start = tokio::time::Instant::now();
    let first = paced(&clock, ScriptedTransport::new([], true));
    first.send("a", "BTCUSDC").await.finished().await.unwrap();
    let second = restart(first, &clock, ScriptedTransport::new([], true)).await;
    second.send("b", "BTCUSDC").await.finished().await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 5, "the pair's cooldown");
    for (i, pair) in ["ETH", "SOL", "XRP", "DOGE", "LINK", "AVAX", "LTC", "BNB"].iter().enumerate()
    {
        second.send(&format!("c{i}"), &format!("{pair}USDC")).await.finished().await.unwrap();
    }
    assert_eq!(start.elapsed().as_secs(), 5);
    let third = restart(second, &clock, ScriptedTransport::new([], true)).await;
    third.send("d", "ADAUSDC").await.finished().await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 60, "ten requests within a window");
}

#[tokio::test(start_paused = true)]
async fn a_restart_during_a_wait_keeps_its_end_and_the_tries() {
    let clock = paused_clock();
    let limited = "Rate limited. Please wait 20 seconds before sending another signal.";
    let answers = script(&[(
        "v1",
        &[
            Answer::Refuse(limited, Some(true)),
            Answer::Refuse(limited, Some(true)),
            Answer::Refuse(limited, Some(true)),
        ],
    )]);
    let first = paced(&clock, ScriptedTransport::new(answers, true));
    first.send("a", "BTCUSDC").await;
    tokio::time::sleep(Duration::from_secs(45)).await;
    assert_eq!(first.transport.uuids("v1").len(), 3);
    let hm = Answer::Refuse("hm", Some(true));
    let answers = script(&[("v1", &[hm.clone(), hm])]);
    let second = restart(first, &clock, ScriptedTransport::new(answers, true)).await;
    // Another pair waits as well: the validator spoke of every signal.
    second.send("b", "ETHUSDC").await;
    let stored = second.finished("a").await;
    let record = &stored.validators["v1"];
    assert_eq!((record.state, record.attempts, record.waits), (DeliveryState::Accepted, 5, 3));
    let seen = second.transport.seen();
    assert_eq!(seen[0].at.as_secs(), 60 - 45, "{seen:?}");
    second.finished("b").await;
}

/// Two hours ahead, a day back: neither expires what is fresh, nor keeps alive what is old, nor
/// changes when the next try is due.
#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_is_set_while_running_changes_no_age_and_no_wait() {
    for jump_ms in [2 * 3_600_000_i64, -86_400_000] {
        let offset = Arc::new(AtomicI64::new(0));
        let (base, set) = (paused_clock(), Arc::clone(&offset));
        let clock: Clock = Arc::new(move || base() + set.load(Ordering::Relaxed));
        let down = vec![Answer::Unreachable; 100];
        let bench = Bench::by_clock(
            clock,
            Arc::new(MemoryStore::with_clock(|| 1_800_000_000_000)),
            Era::Y2026,
            vec![validator("v1", 0.9)],
            ScriptedTransport::new(script(&[("v1", &down)]), true),
            |p| p.waits = vec![Duration::from_secs(40); 20],
        );
        let start = tokio::time::Instant::now();
        let receipt = bench.send("a", "BTCUSDC").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        offset.store(jump_ms, Ordering::Relaxed);
        let stored = receipt.finished().await.unwrap();
        let record = &stored.validators["v1"];
        assert_eq!((record.state, record.attempts), (DeliveryState::Expired, 8), "{jump_ms}");
        assert_eq!(start.elapsed().as_secs(), 300, "{jump_ms}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_continues_with_those_still_missing() {
    let store = Arc::new(MemoryStore::with_clock(|| 1_800_000_000_000));
    let first = Bench::on(
        Arc::clone(&store),
        Era::Y2026,
        three(),
        ScriptedTransport::new(
            script(&[("v2", &[Answer::Unreachable]), ("v3", &[Answer::Silent])]),
            true,
        ),
        |_| {},
    );
    first.send("a", "BTCUSDC").await;
    let accepted = |s: &StoredSignal| s.validators["v1"].state == DeliveryState::Accepted;
    let mut changes = store.watch();
    let id = OrderUuid::parse("a").unwrap();
    while !store.get(&id).await.unwrap().is_some_and(|s| !s.validators.is_empty() && accepted(&s)) {
        changes.changed().await.unwrap();
    }
    // v3 never answers within the grace: its attempt is cut off.
    first.engine.shutdown(Duration::from_secs(1)).await;
    drop(first);
    store.release_claims();
    let second = Bench::on(
        Arc::clone(&store),
        Era::Y2026,
        three(),
        ScriptedTransport::new([], true),
        |_| {},
    );
    let stored = second.finished("a").await;
    assert_eq!(stored.state, SignalState::Processed);
    assert!(second.transport.uuids("v1").is_empty(), "v1 had acknowledged it");
    assert_eq!(second.transport.uuids("v2"), ["a"]);
    assert_eq!(second.transport.uuids("v3"), ["a"]);
    assert_eq!(stored.validators["v2"].attempts, 2);
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_attempt_of_2024_is_unknown_after_the_restart() {
    let store = Arc::new(MemoryStore::with_clock(|| 1_800_000_000_000));
    let silent = ScriptedTransport::new(script(&[("v1", &[Answer::Silent])]), false);
    let one = vec![validator("v1", 0.9)];
    let first = Bench::on(Arc::clone(&store), Era::Y2024, one.clone(), silent, |_| {});
    first.send("a", "BTCUSD").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    first.engine.shutdown(Duration::from_secs(1)).await;
    drop(first);
    store.release_claims();
    let again = ScriptedTransport::new([], false);
    let second = Bench::on(Arc::clone(&store), Era::Y2024, one, again, |_| {});
    let stored = second.finished("a").await;
    assert_eq!(stored.validators["v1"].state, DeliveryState::Unknown);
    assert!(second.transport.seen().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_signal_is_not_sent_where_it_was_not_sent_yet() {
    let bench = Bench::new(
        Era::Y2026,
        vec![validator("v1", 0.9), validator("v2", 0.9)],
        ScriptedTransport::new(script(&[("v2", &[Answer::Unreachable])]), true),
        |_| {},
    );
    let receipt = bench.send("a", "BTCUSDC").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    bench.store.cancel(receipt.id()).await.unwrap();
    let stored = receipt.finished().await.unwrap();
    assert_eq!(stored.validators["v1"].state, DeliveryState::Accepted);
    assert_eq!(stored.validators["v2"].state, DeliveryState::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_decided_while_the_list_is_not_known() {
    let unreachable = || {
        let rows = script(&[("v1", &[Answer::Unreachable])]);
        ScriptedTransport::new(rows, true)
    };
    let first = Bench::new(Era::Y2026, vec![validator("v1", 0.9)], unreachable(), |_| {});
    first.send("begun", "BTCUSDC").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    first.engine.shutdown(Duration::ZERO).await;
    first.store.release_claims();

    // The next run knows its validators only later: what is begun and what is new waits.
    let mut policy = DeliveryPolicy::preset(&first.rules, Some("v1"));
    policy.pacing = None;
    let (directory, transport) = (Arc::new(StaticDirectory::default()), Arc::new(unreachable()));
    let engine = Engine::builder()
        .store(Arc::clone(&first.store) as _)
        .directory(Arc::clone(&directory) as _)
        .transport(Arc::clone(&transport) as _)
        .policy(policy)
        .clock(paused_clock())
        .start()
        .unwrap();
    let new = engine.submit(&first.signal("new", "ETHUSDC", "LONG")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(first.store.pending().await.unwrap().count, 2);
    assert!(engine.health().is_empty(), "{:?}", engine.health());
    directory.replace(vec![validator("v1", 0.9)]);
    assert_eq!(new.finished().await.unwrap().state, SignalState::Processed);
    let id = OrderUuid::parse("begun").unwrap();
    let begun = || first.store.get(&id);
    while begun().await.unwrap().unwrap().state == SignalState::Pending {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(begun().await.unwrap().unwrap().state, SignalState::Processed);

    // Known, and nobody: that is an answer.
    directory.replace(Vec::new());
    let nobody = engine.submit(&first.signal("nobody", "BTCUSDC", "LONG")).await.unwrap();
    let stored = nobody.finished().await.unwrap();
    assert_eq!(stored.state, SignalState::Failed, "{stored:?}");
}

#[tokio::test(start_paused = true)]
async fn the_most_trusted_is_the_mothership_where_nobody_is_named() {
    let bench = Bench::new(
        Era::Y2026,
        vec![validator("v1", 0.8), validator("v2", 0.9), validator("v3", 0.1)],
        ScriptedTransport::new(script(&[]), true),
        |p| p.select = Select::MostTrusted,
    );
    let stored = bench.send("a", "BTCUSDC").await.finished().await.unwrap();
    let required = |hotkey: &str| stored.validators.get(hotkey).map(|r| r.required);
    assert_eq!((required("v1"), required("v2")), (Some(false), Some(true)));
    assert_eq!(required("v3"), None, "too little trust for a copy");
}

#[tokio::test(start_paused = true)]
async fn a_validator_that_moves_is_followed_and_one_that_leaves_is_ended() {
    let bench = Bench::new(
        Era::Y2026,
        vec![validator("v1", 0.9), validator("v2", 0.9)],
        ScriptedTransport::new(
            script(&[("v1", &[Answer::Unreachable]), ("v2", &[Answer::Unreachable])]),
            true,
        ),
        |_| {},
    );
    let receipt = bench.send("a", "BTCUSDC").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut moved = validator("v1", 0.9);
    moved.port = 9999;
    bench.directory.replace(vec![moved]);
    let stored = receipt.finished().await.unwrap();
    assert_eq!(stored.validators["v1"].state, DeliveryState::Accepted);
    assert!(stored.validators["v1"].address.ends_with(":9999"));
    assert_eq!(stored.validators["v2"].code, "left_metagraph");
}

#[tokio::test(start_paused = true)]
async fn the_mothership_decides_and_trusted_ones_get_a_copy_once() {
    let refuse = [Answer::Refuse("x", Some(true)), Answer::Refuse("x", Some(true))];
    let bench = Bench::new(
        Era::Y2026,
        three(),
        ScriptedTransport::new(script(&[("v1", &refuse), ("v2", &refuse)]), true),
        |p| p.select = Select::Mothership("v1".to_owned()),
    );
    let stored = bench.send("a", "BTCUSDC").await.finished().await.unwrap();
    assert_eq!(stored.state, SignalState::Processed);
    assert_eq!(stored.validators["v1"].attempts, 3);
    assert_eq!(stored.validators["v2"].attempts, 1);
    assert!(!stored.validators["v2"].required);
    assert!(!stored.validators.contains_key("v3"));
}

#[tokio::test(start_paused = true)]
async fn without_a_mothership_a_signal_fails_at_once_and_says_so() {
    let bench = Bench::new(Era::Y2026, three(), ScriptedTransport::new([], true), |p| {
        p.select = Select::Mothership("5Other".to_owned());
    });
    let stored = bench.send("a", "BTCUSDC").await.finished().await.unwrap();
    assert_eq!(stored.state, SignalState::Failed);
    assert!(stored.reason.contains("5Other"), "{}", stored.reason);
    assert!(bench.transport.seen().is_empty(), "nobody trades a copy of a failed signal");
}

#[tokio::test(start_paused = true)]
async fn a_signal_that_nobody_accepted_is_failed() {
    for said in [
        "This miner hotkey v1 has been eliminated for reason {} and cannot participate in this subnet. Try again after re-registering.",
        "something else",
    ] {
        let refuse = vec![Answer::Refuse(said, None); 5];
        let bench = Bench::new(
            Era::Y2024,
            vec![validator("v1", 0.0)],
            ScriptedTransport::new(script(&[("v1", &refuse)]), false),
            |_| {},
        );
        let stored = bench.send("a", "BTCUSD").await.finished().await.unwrap();
        assert_eq!(stored.state, SignalState::Failed);
        assert_eq!(stored.validators["v1"].message, said);
    }
}

/// The vectors say who was asked at which attempt. Who failed follows from that: whoever is asked
/// again, whoever is named in the failed file, and whoever is asked in the last possible attempt.
#[tokio::test(start_paused = true)]
async fn send_vectors_ask_the_same_validators_at_the_same_times() {
    let mut failures = Failures::default();
    for case in vectors::domain("send") {
        let id = case["id"].as_str().unwrap().to_owned();
        failures.case("domain.json", &id, send_case(&case).await);
    }
    failures.finish();
}

async fn send_case(case: &Value) -> Result<(), String> {
    let era = Era::parse(case["ruleset"].as_str().unwrap()).ok_or("rule set")?;
    let (input, expected) = (&case["input"], &case["expected"]);
    let validators: Vec<Validator> = input["validators"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| validator(v[0].as_str().unwrap(), v[1].as_f64().unwrap()))
        .collect();
    let queries: Vec<Vec<String>> = serde_json::from_value(expected["queries"].clone()).unwrap();
    let rules = Rules::load(era).unwrap();
    let most = rules.delivery.wait_ms.len() + 1;
    let named = failed_file_names(expected);
    let fails = |hotkey: &String, k: usize| {
        queries.get(k + 1).is_some_and(|next| next.contains(hotkey))
            || named.contains(hotkey)
            || k + 1 == most
    };
    let rows = validators.iter().map(|v| {
        let asked = queries.iter().enumerate().filter(|(_, q)| q.contains(&v.hotkey));
        let answer =
            |k| if fails(&v.hotkey, k) { Answer::Refuse("nope", None) } else { Answer::Accept };
        (v.hotkey.clone(), asked.map(|(k, _)| answer(k)).collect())
    });
    let transport = ScriptedTransport::new(rows.collect::<Vec<_>>(), false);
    let acked: Vec<String> = serde_json::from_value(input["acked"].clone()).unwrap_or_default();
    let mut policy = DeliveryPolicy::preset(&rules, None);
    policy.jitter = 0.0;
    policy.partial_is_failed = input["write_failed_signal_logs"].as_bool().unwrap_or(false);
    let store = Arc::new(MemoryStore::with_clock(|| 1_800_000_000_000));
    let transport = Arc::new(transport);
    let engine = Engine::builder()
        .store(Arc::clone(&store) as _)
        .directory(Arc::new(StaticDirectory::new(validators)))
        .transport(Arc::clone(&transport) as _)
        .policy(policy)
        .acknowledged_before(acked)
        .clock(paused_clock())
        .start()
        .unwrap();
    let body = r#"{"trade_pair":"BTCUSD","order_type":"LONG","leverage":0.5,"order_uuid":"sig-1"}"#;
    let signal = Signal::from_json(body.as_bytes(), &rules).unwrap();
    let stored = engine.submit(&signal).await.unwrap().finished().await.unwrap();

    let mut rounds: Vec<(u64, Vec<String>)> = Vec::new();
    for seen in transport.seen() {
        match rounds.last_mut() {
            Some((at, hotkeys)) if *at == seen.at.as_secs() => hotkeys.push(seen.hotkey),
            _ => rounds.push((seen.at.as_secs(), vec![seen.hotkey])),
        }
    }
    let mut asked: Vec<Vec<String>> = rounds.iter().map(|(_, q)| q.clone()).collect();
    let mut wanted = queries.clone();
    asked.iter_mut().chain(wanted.iter_mut()).for_each(|q| q.sort());
    if asked != wanted {
        return Err(format!("asked {asked:?}, expected {wanted:?}"));
    }
    let sleeps: Vec<u64> = rounds.windows(2).map(|w| w[1].0 - w[0].0).collect();
    let wanted: Vec<u64> = serde_json::from_value(expected["sleeps_s"].clone()).unwrap();
    if sleeps != wanted {
        return Err(format!("waited {sleeps:?}, expected {wanted:?}"));
    }
    let failed = expected["final_dirs"]["failed_signals"].as_array().is_some_and(|d| !d.is_empty());
    if failed != (stored.state == SignalState::Failed) {
        return Err(format!("ended {}, expected failed = {failed}", stored.state));
    }
    file_keys(&stored, expected)
}

/// Who the failed file of the Python miner names.
fn failed_file_names(expected: &Value) -> Vec<String> {
    let Some(text) = expected["failed_file_text"].as_str() else { return Vec::new() };
    let inner: String = serde_json::from_str(text).unwrap();
    let file: Value = serde_json::from_str(&inner).unwrap();
    let retry = file["validators_needing_retry"].as_array().unwrap().iter();
    let named = retry.map(|v| v["hotkey"].as_str().unwrap().to_owned());
    let errors = file["error_messages_dict"].as_object().cloned().unwrap_or_default();
    named.chain(errors.into_iter().map(|(k, _)| k)).collect()
}

/// Whatever keys the Python file has, ours has too.
fn file_keys(stored: &StoredSignal, expected: &Value) -> Result<(), String> {
    let report = ptn_core::record::DeliveryReport {
        state: stored.state,
        reason: String::new(),
        validators: stored.validators.values().cloned().collect(),
        finished_at: stored.finished_at.unwrap_or(0),
    };
    let ours: Value = serde_json::from_str(&legacy::finished_text(stored, &report)).unwrap();
    let (field, ours) = match stored.state {
        SignalState::Failed => {
            ("failed_file_text", serde_json::from_str(ours.as_str().unwrap()).unwrap())
        }
        _ => ("processed_file_text", ours),
    };
    let Some(text) = expected[field].as_str() else { return Ok(()) };
    let theirs: Value = serde_json::from_str(text).unwrap();
    let theirs: Value = match theirs {
        Value::String(inner) => serde_json::from_str(&inner).unwrap(),
        other => other,
    };
    // The 2024 miner moved the received file as it was.
    if theirs.get("order_type").is_some() {
        return Ok(());
    }
    let missing: Vec<&String> =
        theirs.as_object().unwrap().keys().filter(|k| ours.get(k.as_str()).is_none()).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("the {field} lacks {missing:?}")) }
}
