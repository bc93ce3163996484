//! The law of the fields: cutting time into other steps changes nothing, and checking only when
//! something can have changed finds what checking every time finds.
#![cfg(feature = "paper")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use proptest::prelude::*;
use ptn_core::paper::drawdown::{AccountKind, Drawdown2024};
use ptn_core::paper::elimination::Elimination;
use ptn_core::paper::field_2024::{Event2024, Field2024};
use ptn_core::paper::field_2026::{Event2026, Field2026};
use ptn_core::paper::ledger::Ledger2026;
use ptn_core::paper::score_rules::{ScoreRules2024, ScoreRules2026};
use ptn_core::paper::weights::Bucket;
use rust_decimal::Decimal;

const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;
/// Monday 2024-04-08 00:00 UTC.
const START_2024: i64 = 1_712_534_400_000;
/// Sunday 2026-09-20 00:00 UTC: the limits of regular miners begin two weeks later.
const START_2026: i64 = 1_789_862_400_000;

const HOTKEYS: [&str; 4] = ["a", "b", "c", "d"];

/// Something that happens to a miner some time after what happened before.
#[derive(Debug, Clone)]
struct Step<E> {
    after_ms: i64,
    hotkey: usize,
    event: E,
}

fn steps<E: Clone + std::fmt::Debug>(
    event: impl Strategy<Value = E>,
    gap_ms: i64,
    most: usize,
) -> impl Strategy<Value = Vec<Step<E>>> {
    let step = (0..=gap_ms, 0..HOTKEYS.len(), event).prop_map(|(after_ms, hotkey, event)| Step {
        after_ms,
        hotkey,
        event,
    });
    prop::collection::vec(step, 0..most)
}

/// What a restart does to a state: out to text and back.
fn restart<S: serde::Serialize + serde::de::DeserializeOwned>(state: &S) -> S {
    serde_json::from_str(&serde_json::to_string(state).unwrap()).unwrap()
}

fn end_of<E>(steps: &[Step<E>], start_ms: i64, rest_ms: i64) -> i64 {
    start_ms + steps.iter().map(|s| s.after_ms).sum::<i64>() + rest_ms
}

/// Every multiple of `every_ms` from one time up to another, which is not included.
fn each(from_ms: i64, to_ms: i64, every_ms: i64) -> impl Iterator<Item = i64> {
    let first = from_ms + (every_ms - from_ms.rem_euclid(every_ms)) % every_ms;
    (0..).map(move |n| first + n * every_ms).take_while(move |at| *at < to_ms)
}

fn event_2024() -> impl Strategy<Value = Event2024> {
    // Many between the daily and the total limit.
    let ret = || 0.9..1.04f64;
    prop_oneof![
        (0..3 * DAY, ret()).prop_map(|(before_ms, return_at_close)| Event2024::Closed {
            opened_ms: START_2024 - before_ms,
            return_at_close,
        }),
        prop::collection::vec(ret(), 0..2).prop_map(Event2024::Open),
    ]
}

/// What the network does: at every instant it walks everything again from the beginning.
fn naive_2024(steps: &[Step<Event2024>], end_ms: i64) -> Vec<Elimination> {
    let rules = ScoreRules2024::built_in().unwrap().drawdown;
    let mut rows: Vec<Elimination> = Vec::new();
    for instant in each(START_2024, end_ms + 1, rules.check_interval_ms) {
        for (at, hotkey) in HOTKEYS.iter().enumerate() {
            if rows.iter().any(|row| row.hotkey == *hotkey) {
                continue;
            }
            let mut account = Drawdown2024::default();
            let mut open: &[f64] = &[];
            let (mut now_ms, mut broken) = (START_2024, None);
            for step in steps {
                now_ms += step.after_ms;
                if now_ms > instant {
                    break;
                }
                match &step.event {
                    _ if step.hotkey != at => {}
                    Event2024::Closed { return_at_close, .. } => {
                        let check = account.close(*return_at_close, now_ms, &rules);
                        broken = broken.or(check.breach.map(|_| check));
                    }
                    Event2024::Open(returns) => open = returns,
                    _ => {}
                }
            }
            let check = broken.unwrap_or_else(|| account.mark(open, instant, &rules));
            if let Some(breach) = check.breach {
                rows.push(Elimination {
                    hotkey: (*hotkey).to_owned(),
                    elimination_initiated_time_ms: instant,
                    dd: check.dd,
                    reason: breach.reason(&rules).to_owned(),
                });
            }
        }
    }
    rows
}

/// Applies everything; `pause` may name times between two events.
fn run_2024(
    steps: &[Step<Event2024>],
    end_ms: i64,
    mut pause: impl FnMut(&mut Field2024, i64, i64),
) -> Field2024 {
    let mut field = Field2024::new(ScoreRules2024::built_in().unwrap(), START_2024);
    HOTKEYS.iter().for_each(|hotkey| field.register(hotkey));
    let mut now_ms = START_2024;
    for step in steps {
        pause(&mut field, now_ms, now_ms + step.after_ms);
        now_ms += step.after_ms;
        field.apply(now_ms, HOTKEYS[step.hotkey], step.event.clone()).unwrap();
    }
    pause(&mut field, now_ms, end_ms);
    field
}

fn event_2026() -> impl Strategy<Value = Event2026> {
    let usd = |range: std::ops::Range<i64>| range.prop_map(|cents| Decimal::new(cents, 2));
    prop_oneof![
        4 => (usd(9_600_000..11_500_000), usd(-200_000..200_000)).prop_map(
            |(balance, unrealised)| Event2026::Mark {
                account_size: Decimal::from(100_000),
                balance,
                unrealised,
            }
        ),
        3 => (usd(-300_000..500_000), usd(0..5_000))
            .prop_map(|(realised, fee)| Event2026::Booked { realised, fee }),
        1 => Just(Event2026::Order),
        1 => usd(0..100_000).prop_map(|usd| Event2026::Paid { usd }),
        1 => (0..=10i64).prop_map(|tenths| Event2026::Penalty(Decimal::new(tenths, 1))),
        1 => any::<bool>().prop_map(Event2026::Collateral),
    ]
}

/// One place at the top, so that ranks matter; dates that fall between the periods of the ledger.
fn rules_2026() -> ScoreRules2026 {
    let mut rules = ScoreRules2026::built_in().unwrap();
    rules.challenge.promotion_rank = 1;
    rules.drawdown.regular_miner_enforced_from_ms += 7 * 60 * MINUTE;
    rules.challenge.min_days = 3;
    rules.probation.max_days = 20;
    rules
}

fn run_2026(
    steps: &[Step<Event2026>],
    end_ms: i64,
    mut pause: impl FnMut(&mut Field2026, i64, i64),
) -> Field2026 {
    let mut field = Field2026::new(rules_2026(), START_2026);
    let sub = AccountKind::Subaccount { registered_ms: START_2026, fixed_limit: true };
    let accounts = [
        (AccountKind::Regular, Bucket::Challenge),
        (AccountKind::Regular, Bucket::MainComp),
        (AccountKind::Regular, Bucket::Probation),
        (sub, Bucket::Challenge),
    ];
    for (since_ms, (hotkey, (kind, bucket))) in (START_2026..).zip(HOTKEYS.iter().zip(accounts)) {
        field.register(hotkey, Ledger2026::new(kind, "crypto", bucket, true, since_ms));
    }
    let mut now_ms = START_2026;
    for step in steps {
        pause(&mut field, now_ms, now_ms + step.after_ms);
        now_ms += step.after_ms;
        field.apply(now_ms, HOTKEYS[step.hotkey], step.event).unwrap();
    }
    pause(&mut field, now_ms, end_ms);
    field.advance(end_ms);
    field
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(32)
    })]

    #[test]
    fn a_2024_field_finds_what_walking_everything_every_time_finds(
        steps in steps(event_2024(), DAY / 2, 12), rest in 0..DAY,
    ) {
        let end_ms = end_of(&steps, START_2024, rest);
        let mut field = run_2024(&steps, end_ms, |_, _, _| {});
        let reported = field.advance(end_ms);
        prop_assert_eq!(&reported, &naive_2024(&steps, end_ms));
        prop_assert_eq!(field.eliminations().rows(), &reported[..]);
    }

    #[test]
    fn a_2024_field_does_not_depend_on_steps_of_time_and_restarts(
        steps in steps(event_2024(), DAY, 40), rest in 0..DAY,
        every_ms in prop_oneof![Just(15_000i64), Just(5 * MINUTE), 1_000..DAY],
    ) {
        let end_ms = end_of(&steps, START_2024, rest);
        let mut at_once = run_2024(&steps, end_ms, |_, _, _| {});
        let mut reported = Vec::new();
        let mut live = run_2024(&steps, end_ms, |field, from_ms, to_ms| {
            *field = Field2024::resume(field.rules().clone(), restart(&field.state()));
            each(from_ms, to_ms, every_ms).for_each(|at| reported.extend(field.advance(at)));
        });
        reported.extend(live.advance(end_ms));
        prop_assert_eq!(reported, at_once.advance(end_ms));
        prop_assert_eq!(live.weights(end_ms), at_once.weights(end_ms));
        for hotkey in HOTKEYS {
            prop_assert_eq!(live.ledger(hotkey), at_once.ledger(hotkey));
        }
    }

    #[test]
    fn a_2026_field_finds_what_checking_every_minute_finds(
        steps in steps(event_2026(), DAY / 2, 40), rest in 0..70 * DAY,
        every_ms in prop_oneof![Just(MINUTE), Just(5 * MINUTE), 7_000..DAY],
    ) {
        let end_ms = end_of(&steps, START_2026, rest);
        let at_once = run_2026(&steps, end_ms, |_, _, _| {});
        let live = run_2026(&steps, end_ms, |field, from_ms, to_ms| {
            *field = Field2026::resume(field.rules().clone(), restart(&field.state()));
            each(from_ms, to_ms, every_ms).for_each(|at| drop(field.advance(at)));
        });
        // An event that changes nothing has the next instant carried out all the same.
        let every_minute = run_2026(&steps, end_ms, |field, from_ms, to_ms| {
            for at in each(from_ms, to_ms, MINUTE) {
                let has = field.ledger("a").unwrap().has_collateral;
                field.apply(at, "a", Event2026::Collateral(has)).unwrap();
            }
        });
        for other in [&live, &every_minute] {
            prop_assert_eq!(other.eliminations(), at_once.eliminations());
            prop_assert_eq!(other.weights(end_ms), at_once.weights(end_ms));
            for hotkey in HOTKEYS {
                prop_assert_eq!(other.ledger(hotkey), at_once.ledger(hotkey));
            }
        }
        prop_assert!((at_once.weights(end_ms).sum() - 1.0).abs() < 1e-12);
    }
}
