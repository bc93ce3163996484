//! What is judged by the rules of 2024.

use ptn_core::guard::{GuardMode, Severity};
use ptn_core::rules::Era;

use crate::{Desk, MINUTE, NOON, SATURDAY, SECOND, found, left, near};

const REFUSED: Severity = Severity::Refused;

#[test]
fn gates() {
    let mut desk = Desk::with(Era::Y2024, |s| {
        s.halted = ["ETHUSD".into()].into_iter().collect();
    });
    assert_eq!(found(&desk.judge("BTCUSD LONG 0.5x", NOON)), []);
    assert_eq!(found(&desk.judge("ETHUSD LONG 0.5x", NOON)), [(REFUSED, "category_halted")]);
    assert_eq!(found(&desk.judge("EURUSD LONG 0.5x", NOON)), []);
    let verdict = desk.judge("EURUSD LONG 0.5x", SATURDAY);
    assert_eq!(found(&verdict), [(REFUSED, "market_closed")]);
    assert!(verdict.concerns[0].text.contains("is likely closed"), "{verdict:?}");
    assert_eq!(found(&desk.judge("BTCUSD LONG 0.5x", SATURDAY)), []);
}

#[test]
fn the_cooldown_counts_inside_one_position() {
    let mut desk = Desk::new(Era::Y2024);
    desk.take("BTCUSD LONG 0.5x", NOON);
    let verdict = desk.judge("BTCUSD LONG 0.5x", NOON + 10 * SECOND);
    assert_eq!(found(&verdict), [(Severity::Delayed, "cooldown")]);
    assert_eq!(verdict.concerns[0].wait_ms, Some(50_000));
    desk.take("BTCUSD FLAT", NOON + MINUTE);
    // A new position right after a close is allowed.
    assert_eq!(found(&desk.judge("BTCUSD LONG 0.5x", NOON + MINUTE + SECOND)), []);
}

#[test]
fn a_full_position_ignores_more_with_success() {
    let mut desk = Desk::new(Era::Y2024);
    desk.take("BTCUSD LONG 20x", NOON);
    let verdict = desk.judge("BTCUSD LONG 5x", NOON + MINUTE);
    // The fee of 0.2 % counts for every unit of leverage.
    near(left(&verdict, "daily"), 1.0);
    assert_eq!(found(&verdict), [(Severity::Alert, "ignored"), (Severity::Alert, "drawdown_near")]);
    assert!(!verdict.blocks(GuardMode::Refuse));
}

#[test]
fn a_flat_without_a_position_is_refused_by_the_network_and_still_let_through() {
    let mut desk = Desk::new(Era::Y2024);
    let verdict = desk.judge("BTCUSD FLAT", NOON);
    assert_eq!(found(&verdict), [(REFUSED, "no_position")]);
    assert!(verdict.closes && !verdict.blocks(GuardMode::Refuse));
}

#[test]
fn two_hundred_open_orders_are_enough() {
    let mut desk = Desk::new(Era::Y2024);
    let pairs = ["BTCUSD", "ETHUSD"];
    for n in 0..200_i64 {
        let pair = pairs[usize::try_from(n % 2).unwrap()];
        desk.take(&format!("{pair} LONG 0.01x"), NOON + n * MINUTE);
    }
    let verdict = desk.judge("EURUSD LONG 1x", NOON + 201 * MINUTE);
    assert_eq!(found(&verdict), [(REFUSED, "too_many_orders")]);
    assert!(verdict.blocks(GuardMode::Refuse));
    assert!(!desk.judge("BTCUSD FLAT", NOON + 201 * MINUTE).blocks(GuardMode::Refuse));
}

#[test]
fn drawdown_is_the_product_of_returns_below_the_peak() {
    let mut desk = Desk::new(Era::Y2024);
    // -4 % and a fee of 0.2 %: 0.96 * (1 - 0.002) = 0.95808.
    desk.fill("BTCUSD LONG 1x", 60_000.0, NOON);
    desk.fill("BTCUSD FLAT", 57_600.0, NOON + MINUTE);
    let verdict = desk.judge("BTCUSD LONG 1x", NOON + 2 * MINUTE);
    near(left(&verdict, "daily"), 5.0 - 4.192);
    near(left(&verdict, "total"), 10.0 - 4.192);
    assert_eq!(found(&verdict), [(Severity::Alert, "drawdown_near")]);
    assert!(verdict.concerns[0].text.starts_with("0.81 percent points are left before the daily"));
    // An open position counts at the live price.
    desk.fill("ETHUSD LONG 1x", 3000.0, NOON + 3 * MINUTE);
    desk.price("ETHUSD", 2850.0, NOON + 4 * MINUTE);
    let verdict = desk.judge("BTCUSD LONG 1x", NOON + 5 * MINUTE);
    let dd = 0.95808 * (0.95 * 0.998);
    near(left(&verdict, "total"), 10.0 - (1.0 - dd) * 100.0);
    assert_eq!(found(&verdict), [(Severity::Alert, "drawdown_broken")]);
}
