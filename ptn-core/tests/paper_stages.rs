//! What happens to miners over weeks and months: eliminations, stages, payouts and the weights that
//! follow, told as stories with dates.
#![cfg(feature = "paper")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::float_cmp, reason = "tests")]

use ptn_core::paper::drawdown::AccountKind;
use ptn_core::paper::elimination::Elimination;
use ptn_core::paper::field_2024::{Event2024, Field2024};
use ptn_core::paper::field_2026::{Event2026, Field2026};
use ptn_core::paper::ledger::{Ledger2026, LedgerError};
use ptn_core::paper::score_rules::{ScoreRules2024, ScoreRules2026};
use ptn_core::paper::weights::Bucket;
use ptn_core::rules::Era;
use rust_decimal::Decimal;

const HOUR: i64 = 60 * 60 * 1000;
const DAY: i64 = 24 * HOUR;
/// Monday 2024-04-08 00:00 UTC.
const APRIL_2024: i64 = 1_712_534_400_000;
/// Sunday 2026-10-18 00:00 UTC: all limits are in force.
const OCTOBER_2026: i64 = 1_792_281_600_000;

fn closed(opened_ms: i64, return_at_close: f64) -> Event2024 {
    Event2024::Closed { opened_ms, return_at_close }
}

fn mark(balance: i64, unrealised: i64) -> Event2026 {
    Event2026::Mark {
        account_size: Decimal::from(100_000),
        balance: balance.into(),
        unrealised: unrealised.into(),
    }
}

fn booked(realised: i64, fee: i64) -> Event2026 {
    Event2026::Booked { realised: realised.into(), fee: fee.into() }
}

fn field_2026(miners: &[(&str, Bucket)]) -> Field2026 {
    let mut field = Field2026::new(ScoreRules2026::built_in().unwrap(), OCTOBER_2026);
    for (hotkey, bucket) in miners {
        let account = Ledger2026::new(AccountKind::Regular, "crypto", *bucket, true, OCTOBER_2026);
        field.register(hotkey, account);
    }
    field
}

#[test]
fn an_open_loss_is_found_by_the_next_check_and_the_hotkey_is_refused() {
    let mut field = Field2024::new(ScoreRules2024::built_in().unwrap(), APRIL_2024);
    field.register("5Abc");
    field.register("5Def");
    let at = APRIL_2024 + 10 * HOUR + 1;
    field.apply(at, "5Abc", Event2024::Open(vec![0.95, 0.94])).unwrap();
    assert_eq!(field.advance(at), []);
    let out = field.advance(at + 14_999);
    assert_eq!(
        out,
        [Elimination {
            hotkey: "5Abc".to_owned(),
            elimination_initiated_time_ms: APRIL_2024 + 10 * HOUR + 15_000,
            dd: 0.95 * 0.94,
            reason: "MAX_TOTAL_DRAWDOWN".to_owned(),
        }]
    );
    assert!(field.eliminations().refusal("5Abc", Era::Y2024).unwrap().contains("MAX_TOTAL"));
    assert_eq!(field.eliminations().refusal("5Def", Era::Y2024), None);
    assert_eq!(field.advance(at + DAY), []);
}

#[test]
fn a_loss_of_six_percent_waits_for_midnight() {
    let mut field = Field2024::new(ScoreRules2024::built_in().unwrap(), APRIL_2024);
    field.register("a");
    let noon = APRIL_2024 + 12 * HOUR;
    field.apply(noon, "a", closed(APRIL_2024, 0.94)).unwrap();
    assert_eq!(field.advance(APRIL_2024 + DAY - 1), []);
    let out = field.advance(APRIL_2024 + DAY);
    assert_eq!(out[0].reason, "MAX_DAILY_DRAWDOWN");
    assert_eq!(out[0].elimination_initiated_time_ms, APRIL_2024 + DAY);
}

#[test]
fn only_recent_and_long_enough_positions_score() {
    let mut field = Field2024::new(ScoreRules2024::built_in().unwrap(), APRIL_2024);
    field.register("a");
    let at = APRIL_2024 + 40 * DAY;
    for (opened_ms, return_at_close) in
        [(at - 30 * DAY, 1.5), (at - 30 * DAY + 1, 1.1), (at - 59_999, 1.5), (at - 60_000, 1.2)]
    {
        field.apply(at, "a", closed(opened_ms, return_at_close)).unwrap();
    }
    let rules = &field.rules().scoring;
    let ledger = field.ledger("a").unwrap();
    let returns = ledger.augmented_returns(at, rules);
    assert_eq!(returns.len(), 2);
    assert!((returns[0] - 1.1).abs() < 1e-12 && (returns[1] - 1.2).abs() < 1e-12);
    assert_eq!(ledger.augmented_returns(at + 1, rules).len(), 1);
    assert_eq!(ledger.closed_count, 4);
}

#[test]
fn weights_of_2024_leave_out_who_is_eliminated_or_never_closed_anything() {
    let mut field = Field2024::new(ScoreRules2024::built_in().unwrap(), APRIL_2024);
    ["good", "bad", "few", "none", "out"].iter().for_each(|h| field.register(h));
    for n in 1..=10 {
        let at = APRIL_2024 + n * HOUR;
        field.apply(at, "good", closed(at - HOUR, 1.01)).unwrap();
        field.apply(at, "bad", closed(at - HOUR, 0.999)).unwrap();
        field.apply(at, "out", closed(at - HOUR, 1.02)).unwrap();
    }
    let at = APRIL_2024 + 11 * HOUR;
    field.apply(at, "few", closed(at - HOUR, 1.3)).unwrap();
    field.apply(at, "out", Event2024::Open(vec![0.5])).unwrap();
    assert_eq!(field.advance(at).len(), 1);
    let weights = field.weights(at);
    let order: Vec<&str> = weights.miners.iter().map(|(h, _)| h.as_str()).collect();
    assert_eq!(order, ["good", "bad", "few"]);
    assert!((weights.of("good") - 0.999_990_000_1).abs() < 1e-9);
    assert_eq!(weights.of("few"), 5.4e-6);
    assert_eq!(field.next_round_ms(at), at + 5 * 60_000);
    assert_eq!(field.next_round_ms(at - 1), at);
}

#[test]
fn events_must_be_in_order_and_possible() {
    let mut field = Field2024::new(ScoreRules2024::built_in().unwrap(), APRIL_2024);
    field.register("a");
    field.advance(APRIL_2024 + HOUR);
    let refused = |field: &mut Field2024, at, hotkey, event| {
        field.apply(at, hotkey, event).unwrap_err().code()
    };
    let open = |value| Event2024::Open(vec![value]);
    assert_eq!(refused(&mut field, APRIL_2024, "a", open(1.0)), "late_event");
    assert_eq!(refused(&mut field, APRIL_2024 + DAY, "b", open(1.0)), "unknown_miner");
    for value in [f64::NAN, f64::INFINITY, -0.1] {
        assert_eq!(refused(&mut field, APRIL_2024 + DAY, "a", open(value)), "bad_return");
    }
    // What was refused has not moved time.
    field.apply(APRIL_2024 + HOUR, "a", open(1.0)).unwrap();

    let mut field = field_2026(&[("a", Bucket::MainComp)]);
    let at = OCTOBER_2026 + 1;
    let no_size =
        Event2026::Mark { account_size: 0.into(), balance: 1.into(), unrealised: 0.into() };
    for event in [
        no_size,
        booked(0, -1),
        Event2026::Booked { realised: Decimal::MAX, fee: 0.into() },
        Event2026::Penalty(2.into()),
        Event2026::Paid { usd: (-1).into() },
    ] {
        let error = field.apply(at, "a", event).unwrap_err();
        assert!(matches!(error, LedgerError::BadAmount { .. }), "{error}");
    }
}

#[test]
fn exactly_five_percent_since_midnight_is_too_much() {
    let mut field = field_2026(&[("a", Bucket::MainComp)]);
    field.apply(OCTOBER_2026 + HOUR, "a", mark(110_000, 0)).unwrap();
    assert_eq!(field.advance(OCTOBER_2026 + DAY), []);
    // 104,500 of 110,000: the day began higher than the account did.
    let at = OCTOBER_2026 + DAY + HOUR + 1;
    field.apply(at, "a", mark(110_000, -5_500)).unwrap();
    assert!(field.check("a").unwrap().intraday_pct > 5.0);
    let out = field.advance(at + 60_000);
    assert_eq!(out[0].reason, "FAILED_FUNDED_PERIOD_INTRADAY_DRAWDOWN");
    assert_eq!(out[0].elimination_initiated_time_ms, OCTOBER_2026 + DAY + HOUR + 60_000);
    assert!((out[0].dd - 5.0).abs() < 1e-9);
}

#[test]
fn slow_losses_end_at_a_midnight() {
    let mut field = field_2026(&[("main", Bucket::MainComp), ("new", Bucket::Challenge)]);
    for (day, equity) in (0..).zip([97_000, 94_500, 93_000, 91_500]) {
        for hotkey in ["main", "new"] {
            let at = OCTOBER_2026 + day * DAY + 12 * HOUR;
            field.apply(at, hotkey, mark(equity, 0)).unwrap();
        }
    }
    let out = field.advance(OCTOBER_2026 + 10 * DAY);
    let told: Vec<(&str, i64, &str)> = out
        .iter()
        .map(|row| {
            let days = (row.elimination_initiated_time_ms - OCTOBER_2026) / DAY;
            (row.hotkey.as_str(), days, row.reason.as_str())
        })
        .collect();
    assert_eq!(
        told,
        [
            ("new", 2, "FAILED_CHALLENGE_PERIOD_EOD_DRAWDOWN"),
            ("main", 4, "FAILED_FUNDED_PERIOD_EOD_DRAWDOWN"),
        ]
    );
}

#[test]
fn regular_miners_lose_nothing_before_the_rule_is_enforced() {
    let rules = ScoreRules2026::built_in().unwrap();
    let from_ms = rules.drawdown.regular_miner_enforced_from_ms;
    let mut field = Field2026::new(rules, from_ms - DAY);
    let sub = AccountKind::Subaccount { registered_ms: from_ms - DAY, fixed_limit: false };
    for (hotkey, kind) in [("regular", AccountKind::Regular), ("sub", sub)] {
        let account = Ledger2026::new(kind, "forex", Bucket::MainComp, true, from_ms - DAY);
        field.register(hotkey, account);
        field.apply(from_ms - DAY, hotkey, mark(90_000, 0)).unwrap();
    }
    let out = field.advance(from_ms - 1);
    assert_eq!(out.len(), 1);
    assert_eq!(out[0].hotkey, "sub");
    // The next day begins with the loss: nothing is lost since, but the last midnight is too low.
    let out = field.advance(from_ms);
    assert_eq!(out[0].reason, "FAILED_FUNDED_PERIOD_EOD_DRAWDOWN");
}

#[test]
fn a_challenge_is_passed_by_time_and_return_and_lost_by_time() {
    let mut field = field_2026(&[("wins", Bucket::Challenge), ("idles", Bucket::Challenge)]);
    field.apply(OCTOBER_2026 + DAY, "wins", mark(111_000, 0)).unwrap();
    field.apply(OCTOBER_2026 + DAY, "idles", mark(103_000, 0)).unwrap();
    field.apply(OCTOBER_2026 + 50 * DAY, "wins", Event2026::Order).unwrap();
    field.apply(OCTOBER_2026 + 50 * DAY, "idles", Event2026::Order).unwrap();
    field.advance(OCTOBER_2026 + 61 * DAY - 1);
    assert_eq!(field.ledger("wins").unwrap().bucket, Bucket::Challenge);
    field.advance(OCTOBER_2026 + 61 * DAY);
    assert_eq!(field.ledger("wins").unwrap().bucket, Bucket::MainComp);
    assert_eq!(field.advance(OCTOBER_2026 + 90 * DAY), []);
    let out = field.advance(OCTOBER_2026 + 90 * DAY + 60_000);
    assert_eq!(out[0].hotkey, "idles");
    assert_eq!(out[0].reason, "FAILED_CHALLENGE_PERIOD_TIME");
    assert_eq!(out[0].dd, -1.0);
    // The winner never trades again.
    let out = field.advance(OCTOBER_2026 + 110 * DAY);
    assert_eq!(out[0].hotkey, "wins");
    assert_eq!(out[0].reason, "INACTIVE");
}

#[test]
fn who_falls_out_of_the_top_is_on_probation() {
    let names: Vec<String> = (0..26).map(|n| format!("m{n:02}")).collect();
    let miners: Vec<(&str, Bucket)> =
        names.iter().map(|name| (name.as_str(), Bucket::MainComp)).collect();
    let mut field = field_2026(&miners);
    for (balance, name) in (101_000..).zip(&names) {
        field.apply(OCTOBER_2026 + HOUR, name, mark(balance, 0)).unwrap();
    }
    field.advance(OCTOBER_2026 + HOUR);
    let bucket = |field: &Field2026, name: &str| field.ledger(name).unwrap().bucket;
    assert_eq!(bucket(&field, "m00"), Bucket::Probation);
    assert!(names[1..].iter().all(|name| bucket(&field, name) == Bucket::MainComp));
    // Back, in place of another.
    field.apply(OCTOBER_2026 + 2 * HOUR, "m00", mark(112_000, 0)).unwrap();
    field.advance(OCTOBER_2026 + 2 * HOUR);
    assert_eq!(bucket(&field, "m00"), Bucket::MainComp);
    assert_eq!(bucket(&field, "m01"), Bucket::Probation);
}

#[test]
fn weeks_are_paid_after_their_sunday_and_only_once() {
    let mut field = field_2026(&[("a", Bucket::MainComp), ("new", Bucket::Challenge)]);
    for (day, event) in [(1, booked(1_000, 20)), (2, mark(100_980, -80))] {
        field.apply(OCTOBER_2026 + day * DAY, "a", event).unwrap();
        field.apply(OCTOBER_2026 + day * DAY, "new", event).unwrap();
    }
    let settled = |field: &Field2026, hotkey| field.ledger(hotkey).unwrap().settled;
    field.advance(OCTOBER_2026 + 7 * DAY - 1);
    assert_eq!(settled(&field, "a"), Decimal::ZERO);
    let weights = field.weights(OCTOBER_2026 + 7 * DAY - 1);
    assert!(weights.burn > 0.999 && weights.of("a") < 1e-4);

    field.advance(OCTOBER_2026 + 7 * DAY);
    assert_eq!(settled(&field, "a"), Decimal::from(900));
    assert_eq!(settled(&field, "new"), Decimal::ZERO, "the challenge earns nothing");
    let weights = field.weights(OCTOBER_2026 + 7 * DAY);
    assert!(weights.of("a") > 0.999);
    assert!((weights.sum() - 1.0).abs() < 1e-12);

    let paid = Event2026::Paid { usd: Decimal::from(900) };
    field.apply(OCTOBER_2026 + 8 * DAY, "a", paid).unwrap();
    assert!(field.weights(OCTOBER_2026 + 8 * DAY).burn > 0.999);
}

#[test]
fn who_leaves_or_copies_is_out() {
    let mut field = field_2026(&[("left", Bucket::MainComp), ("copies", Bucket::MainComp)]);
    field.left("left", OCTOBER_2026);
    field.plagiarism("copies", OCTOBER_2026);
    let reasons: Vec<String> =
        field.advance(OCTOBER_2026).into_iter().map(|row| row.reason).collect();
    assert_eq!(reasons, ["DEREGISTERED", "PLAGIARISM"]);
    assert!(field.weights(OCTOBER_2026).miners.is_empty());
    let answer = |hotkey| field.eliminations().refusal(hotkey, Era::Y2026).unwrap();
    assert!(answer("left").contains("previously de-registered"));
    assert!(answer("copies").contains("has been eliminated"));

    let mut field = Field2024::new(ScoreRules2024::built_in().unwrap(), APRIL_2024);
    field.register("copies");
    field.plagiarism("copies", 0.9, APRIL_2024);
    assert_eq!(field.advance(APRIL_2024), []);
    field.plagiarism("copies", 1.0, APRIL_2024);
    assert_eq!(field.advance(APRIL_2024)[0].dd, -1.0);
    // Half an hour after, and gone from the metagraph: forgotten, and may begin anew.
    field.forget(APRIL_2024 + HOUR, |_| false);
    assert_eq!(field.eliminations().refusal("copies", Era::Y2024), None);
    assert_eq!(field.ledger("copies"), None);
    field.register("copies");
    assert!(field.ledger("copies").is_some());
}
