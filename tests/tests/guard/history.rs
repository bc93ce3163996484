//! What the guard knows after a restart: from the store, and from its snapshot.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ptn_core::deliver::inform_guard;
use ptn_core::guard::{Guard, GuardMode, GuardVerdict, OrderGuard as _, Severity};
use ptn_core::paper::guard::{GuardSettings, RiskGuard};
use ptn_core::record::{DeliveryReport, DeliveryState, Progress, SignalState};
use ptn_core::rules::Era;
use ptn_core::signal::Signal;
use ptn_core::store::{MemoryStore, SignalStore};

use crate::{Desk, MINUTE, NOON, SECOND, accepted, found};

/// Keeps a signal as delivered; `required` says whether the validator's word counts.
async fn delivered(store: &MemoryStore, signal: &Signal, at: i64, price: &str, required: bool) {
    assert!(store.accept(signal).await.is_ok());
    let lease = store.claim(1).await.unwrap().pop().unwrap();
    let mut record = accepted(at, &format!("{{'price': {price}}}"));
    record.required = required;
    if !required {
        let mut mothership = record.clone();
        mothership.hotkey = "v0".to_owned();
        mothership.required = true;
        mothership.state = DeliveryState::Rejected;
        let outcome = Progress::Outcome { validator: mothership };
        store.record(&lease, outcome).await.unwrap();
    }
    let outcome = Progress::Outcome { validator: record.clone() };
    store.record(&lease, outcome).await.unwrap();
    let state = if required { SignalState::Processed } else { SignalState::Failed };
    let report = DeliveryReport {
        state,
        reason: String::new(),
        validators: store
            .get(signal.id())
            .await
            .unwrap()
            .unwrap()
            .validators
            .into_values()
            .collect(),
        finished_at: at,
    };
    store.finish(&lease, &report).await.unwrap();
}

fn risk() -> Arc<RiskGuard> {
    Arc::new(RiskGuard::new(Era::Y2026, GuardSettings::default()).unwrap())
}

/// More of what is at its cap, and a close of it.
fn words_on(guard: &RiskGuard, desk: &mut Desk, now: i64) -> (GuardVerdict, GuardVerdict) {
    let (more, close) = (desk.order("BTCUSDC LONG 0.5x"), desk.order("BTCUSDC SHORT 0.5x"));
    (guard.judge(&more, now), guard.judge(&close, now))
}

#[tokio::test]
async fn everything_is_read_from_the_store() {
    let mut desk = Desk::new(Era::Y2026);
    let store = MemoryStore::new();
    // The order of acknowledgements counts, not that of acceptance.
    let second = desk.order("BTCUSDC LONG 0.5x");
    let first = desk.order("BTCUSDC LONG 0.5x");
    let copy = desk.order("ETHUSDC LONG 0.9x");
    delivered(&store, &second, NOON + 10 * SECOND, "100000", true).await;
    delivered(&store, &first, NOON, "100000", true).await;
    // Only a copy was taken: the one whose word counts refused it.
    delivered(&store, &copy, NOON, "4000", false).await;
    let risk = risk();
    let guard = Guard::new(GuardMode::Warn, Arc::clone(&risk) as _);
    let (more, _) = words_on(&risk, &mut desk, NOON + MINUTE);
    assert_eq!(more.unjudged[0].check, "history");
    inform_guard(&store, &guard).await;
    let (more, close) = words_on(&risk, &mut desk, NOON + MINUTE);
    assert_eq!(found(&more), [(Severity::Alert, "clamped")]);
    assert!(close.closes && !more.closes && more.unjudged.is_empty(), "{more:?}");
    assert_eq!(found(&desk.judge("ETHUSDC LONG 0.9x", NOON)), []);
    // A second reading changes nothing.
    let before = risk.snapshot();
    inform_guard(&store, &guard).await;
    assert_eq!(risk.snapshot(), before);
}

#[tokio::test]
async fn what_waits_is_under_way() {
    let mut desk = Desk::new(Era::Y2026);
    let store = MemoryStore::new();
    assert!(store.accept(&desk.order("BTCUSDC LONG 0.5x")).await.is_ok());
    let risk = risk();
    let guard = Guard::new(GuardMode::Warn, Arc::clone(&risk) as _);
    inform_guard(&store, &guard).await;
    assert!(risk.judge(&desk.order("BTCUSDC SHORT 0.5x"), NOON).closes);
    assert!(!risk.judge(&desk.order("ETHUSDC SHORT 0.5x"), NOON).closes);
}

#[tokio::test]
async fn a_snapshot_goes_on_where_it_ended() {
    let mut desk = Desk::new(Era::Y2026);
    let store = MemoryStore::new();
    let first = desk.order("BTCUSDC LONG 0.5x");
    delivered(&store, &first, NOON, "100000", true).await;
    let earlier = risk();
    let guard = Guard::new(GuardMode::Warn, Arc::clone(&earlier) as _);
    inform_guard(&store, &guard).await;
    earlier.price(&crate::point("BTCUSDC", 96_000.0, NOON + SECOND));
    let snapshot = earlier.snapshot();

    let later = risk();
    later.restore(&snapshot).unwrap();
    assert_eq!(later.snapshot(), snapshot);
    let second = desk.order("BTCUSDC LONG 0.5x");
    delivered(&store, &second, NOON + MINUTE, "96000", true).await;
    let guard = Guard::new(GuardMode::Warn, Arc::clone(&later) as _);
    inform_guard(&store, &guard).await;
    inform_guard(&store, &Guard::new(GuardMode::Warn, Arc::clone(&earlier) as _)).await;
    assert_eq!(later.snapshot(), earlier.snapshot(), "the same as without a restart");
    let (more, close) = words_on(&later, &mut desk, NOON + 2 * MINUTE);
    assert_eq!(found(&more), [(Severity::Alert, "clamped")]);
    assert!(close.closes);
}

#[test]
fn a_snapshot_of_something_else_is_refused_and_changes_nothing() {
    let mut desk = Desk::new(Era::Y2026);
    desk.take("BTCUSDC LONG 0.5x", NOON);
    let before = desk.guard.snapshot();
    let other = Desk::new(Era::Y2024).guard.snapshot();
    for text in ["", "{", "{}", "[]", &other, &before.replace("\"format\":1", "\"format\":99")] {
        assert!(desk.guard.restore(text).is_err(), "{text:.60}");
        assert_eq!(desk.guard.snapshot(), before);
    }
    assert!(desk.judge("BTCUSDC SHORT 0.1x", NOON + MINUTE).closes);
}

#[test]
fn settings_that_changed_hold_after_a_snapshot_too() {
    let mut desk = Desk::new(Era::Y2026);
    desk.take("BTCUSDC LONG 0.5x", NOON);
    let snapshot = desk.guard.snapshot();
    let mut settings = GuardSettings::default();
    settings.halted = ["BTCUSDC".into()].into_iter().collect();
    settings.account_usd = Some(2_000_000.0);
    let changed = RiskGuard::new(Era::Y2026, settings).unwrap();
    changed.restore(&snapshot).unwrap();
    changed.ready();
    let verdict = changed.judge(&desk.order("BTCUSDC LONG 0.1x"), NOON + MINUTE);
    assert_eq!(found(&verdict), [(Severity::Refused, "pair_halted")]);
    let verdict = changed.judge(&desk.order("ETHUSDC LONG 1.9x"), NOON + MINUTE);
    assert_eq!(found(&verdict), [], "tier 4 has a cap of 2x");
}

/// Judging is on the path of every signal: far below a sync of any disk.
#[test]
fn judging_is_quick_with_many_positions_open() {
    let mut desk = Desk::new(Era::Y2026);
    let pairs = desk.rules.catalogue.iter().filter(|p| p.blocked.is_none());
    let pairs: Vec<String> = pairs.map(|p| p.id.to_string()).collect();
    let open = pairs.iter().filter(|id| id.ends_with("USDC")).take(100);
    for (n, pair) in open.enumerate() {
        for more in 0..20 {
            let at = NOON + i64::try_from(n * 100 + more).unwrap() * 10 * SECOND;
            desk.take(&format!("{pair} LONG 0.001x"), at);
        }
    }
    let signal = desk.order("EURUSD LONG 0.1x");
    let start = Instant::now();
    for n in 0..100 {
        desk.guard.judge(&signal, NOON + 100 * MINUTE + n);
    }
    let each = start.elapsed() / 100;
    assert!(each < Duration::from_millis(20), "{each:?} each, unoptimised");
}
