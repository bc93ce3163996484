//! Prices: from answers, from outside, missing and old.

use ptn_core::guard::{OrderGuard as _, Severity};
use ptn_core::rules::Era;

use crate::{DAY, Desk, MINUTE, NOON, SECOND, found, lacking, left, near, point};

#[test]
fn a_loss_brings_the_account_near_to_its_limit() {
    let mut desk = Desk::new(Era::Y2026);
    desk.fill("BTCUSDC LONG $90000", 100_000.0, NOON);
    let fee = 90_000.0 * 0.0003;
    desk.price("BTCUSDC", 96_000.0, NOON + MINUTE);
    let verdict = desk.judge("ETHUSDC LONG 0.1x", NOON + MINUTE);
    near(left(&verdict, "intraday"), 5.0 - (0.9 * 4_000.0 + fee) / 1000.0);
    assert_eq!(found(&verdict), [(Severity::Alert, "drawdown_near")]);
    assert!(!verdict.drawdown[0].estimated && verdict.unjudged.is_empty(), "{verdict:?}");
    let text = &verdict.concerns[0].text;
    assert!(
        text.contains("1.37 percent points are left before the intraday drawdown limit of 5.0 %"),
        "{text}"
    );
    // An order that closes needs no such word.
    assert_eq!(found(&desk.judge("BTCUSDC FLAT", NOON + MINUTE)), []);
    desk.price("BTCUSDC", 98_000.0, NOON + 2 * MINUTE);
    assert_eq!(found(&desk.judge("ETHUSDC LONG 0.1x", NOON + 2 * MINUTE)), []);
    desk.price("BTCUSDC", 94_000.0, NOON + 3 * MINUTE);
    let verdict = desk.judge("ETHUSDC LONG 0.1x", NOON + 3 * MINUTE);
    assert_eq!(found(&verdict), [(Severity::Alert, "drawdown_broken")]);
}

#[test]
fn the_threshold_and_the_stage_are_settings() {
    let mut desk = Desk::with(Era::Y2026, |s| {
        s.alert_points = 4.0;
        s.challenge = true;
    });
    desk.fill("BTCUSDC LONG $90000", 100_000.0, NOON);
    desk.price("BTCUSDC", 98_000.0, NOON + MINUTE);
    let verdict = desk.judge("ETHUSDC LONG 0.1x", NOON + MINUTE);
    assert_eq!(found(&verdict), [(Severity::Alert, "drawdown_near")]);
    let limits: Vec<_> = verdict.drawdown.iter().map(|d| (d.rule.as_str(), d.limit_pct)).collect();
    assert_eq!(limits, [("intraday", 5.0), ("eod", 5.0)]);
}

#[test]
fn a_midnight_starts_a_new_day() {
    let mut desk = Desk::new(Era::Y2026);
    desk.fill("BTCUSDC LONG $90000", 100_000.0, NOON);
    desk.price("BTCUSDC", 97_000.0, NOON + 11 * 60 * MINUTE);
    let verdict = desk.judge("ETHUSDC LONG 0.1x", NOON + 11 * 60 * MINUTE);
    assert!(left(&verdict, "intraday") < 2.3);
    desk.price("BTCUSDC", 97_000.0, NOON + DAY);
    let verdict = desk.judge("ETHUSDC LONG 0.1x", NOON + DAY);
    // What fell yesterday counts against the highest midnight now; the carry of the night is new.
    assert!(left(&verdict, "intraday") > 4.9, "{verdict:?}");
    assert!(left(&verdict, "eod") < 5.3, "{verdict:?}");
}

#[test]
fn without_prices_it_says_what_it_cannot_know() {
    let mut desk = Desk::new(Era::Y2026);
    desk.take("BTCUSDC LONG 0.5x", NOON);
    let verdict = desk.judge("ETHUSDC LONG 0.1x", NOON + MINUTE);
    assert_eq!(lacking(&verdict), ["drawdown"]);
    assert!(verdict.unjudged[0].why.contains("no price of BTCUSDC"), "{verdict:?}");
    assert!(verdict.drawdown.iter().all(|d| d.estimated));
    // A price that comes later does not turn the position's value into a gain.
    assert!(desk.price("BTCUSDC", 100_000.0, NOON + MINUTE));
    let verdict = desk.judge("ETHUSDC LONG 0.1x", NOON + MINUTE);
    assert!(left(&verdict, "intraday") > 4.9 && left(&verdict, "intraday") < 5.0, "{verdict:?}");
    desk.take("BTCUSDC FLAT", NOON + 2 * MINUTE);
    let verdict = desk.judge("ETHUSDC LONG 0.1x", NOON + 3 * MINUTE);
    assert_eq!(lacking(&verdict), ["drawdown"]);
    assert!(verdict.unjudged[0].why.contains("what 1 earlier orders realised"), "{verdict:?}");
    // From here on prices are known.
    desk.fill("BTCUSDC LONG $90000", 100_000.0, NOON + 4 * MINUTE);
    desk.price("BTCUSDC", 96_000.0, NOON + 5 * MINUTE);
    assert!(left(&desk.judge("ETHUSDC LONG 0.1x", NOON + 5 * MINUTE), "intraday") < 1.5);
}

#[test]
fn an_old_price_is_no_price_for_gains() {
    let mut desk = Desk::new(Era::Y2026);
    desk.fill("BTCUSDC LONG 0.5x", 100_000.0, NOON);
    assert_eq!(lacking(&desk.judge("ETHUSDC LONG 0.1x", NOON + 15 * MINUTE)), [""; 0]);
    let verdict = desk.judge("ETHUSDC LONG 0.1x", NOON + 15 * MINUTE + SECOND);
    assert_eq!(lacking(&verdict), ["drawdown"]);
    assert!(verdict.drawdown[0].estimated);
}

#[test]
fn a_quantity_is_valued_by_a_price_from_outside() {
    let mut desk = Desk::new(Era::Y2026);
    desk.price("BTCUSDC", 100_000.0, NOON);
    desk.take("BTCUSDC LONG 0.9", NOON + SECOND);
    let verdict = desk.judge("BTCUSDC LONG 0.5", NOON + MINUTE);
    assert_eq!(found(&verdict), [(Severity::Alert, "clamped")]);
}

#[test]
fn prices_that_are_older_wrong_or_of_nobody_are_not_taken() {
    let desk = Desk::new(Era::Y2026);
    assert!(desk.price("BTCUSDC", 100_000.0, NOON));
    for (pair, price, at) in [
        ("BTCUSDC", 99_000.0, NOON - 1),
        ("BTCUSDC", f64::NAN, NOON + 1),
        ("BTCUSDC", -1.0, NOON + 1),
        ("NOTAPAIR", 1.0, NOON),
    ] {
        assert!(!desk.price(pair, price, at), "{pair} {price}");
    }
    let mut crossed = point("BTCUSDC", 1.0, NOON + 1);
    crossed.bid = Some(f64::INFINITY);
    assert!(!desk.guard.price(&crossed));
}

#[test]
fn standing_alerts_without_an_order() {
    let mut desk = Desk::new(Era::Y2026);
    desk.fill("BTCUSDC LONG $90000", 100_000.0, NOON);
    assert_eq!(desk.guard.standing(NOON).alert, None);
    desk.price("BTCUSDC", 96_000.0, NOON + MINUTE);
    let standing = desk.guard.standing(NOON + MINUTE);
    assert_eq!(standing.alert.unwrap().code, "drawdown_near");
    assert_eq!(standing.drawdown[0].rule, "intraday");
}
