//! What is judged by the rules of 2026, and by whose knowledge.

use ptn_core::guard::{GuardMode, OrderGuard as _, Severity};
use ptn_core::rules::Era;

use crate::{Desk, MINUTE, NOON, SATURDAY, SECOND, found, lacking};

const REFUSED: Severity = Severity::Refused;

#[test]
fn an_order_against_which_nothing_speaks_is_clear() {
    let mut desk = Desk::new(Era::Y2026);
    let verdict = desk.judge("BTCUSDC LONG 0.5x", NOON);
    assert_eq!((verdict.severity(), verdict.closes), (Severity::Clear, false));
    assert!(verdict.unjudged.is_empty(), "{verdict:?}");
    let points: Vec<_> =
        verdict.drawdown.iter().map(|d| (d.rule.as_str(), d.points_left)).collect();
    assert_eq!(points, [("intraday", 5.0), ("eod", 8.0)]);
}

#[test]
fn gates_that_need_no_position() {
    let mut desk = Desk::with(Era::Y2026, |s| {
        s.halted = ["ETHUSDC".into()].into_iter().collect();
        s.asset_class = "crypto".to_owned();
        s.hotkey = Some("5Me".to_owned());
    });
    let verdict = desk.judge("ETHUSDC LONG 0.1x", NOON);
    assert_eq!(found(&verdict), [(REFUSED, "pair_halted")]);
    let concern = &verdict.concerns[0];
    assert_eq!(
        concern.text,
        "Trade pair [ETHUSDC] has been temporarily halted. Please try again with a different trade pair."
    );
    assert!(concern.action.contains("--guard.halted"), "{concern:?}");
    assert!(verdict.blocks(GuardMode::Refuse) && !verdict.blocks(GuardMode::Warn));

    let verdict = desk.judge("EURUSD LONG $5000", NOON);
    assert_eq!(found(&verdict)[0], (REFUSED, "asset_class"));
    let text = &verdict.concerns[0].text;
    assert!(text.starts_with("miner [5Me] cannot trade asset class [forex]."), "{text}");
}

#[test]
fn a_closed_market_is_refused_and_an_order_that_may_rest_is_not() {
    let mut desk = Desk::new(Era::Y2026);
    assert_eq!(found(&desk.judge("EURUSD LONG $5000", SATURDAY)), [(REFUSED, "market_closed")]);
    assert_eq!(found(&desk.judge("EURUSD LONG $5000", NOON)), []);
    assert_eq!(found(&desk.judge("BTCUSDC LONG $5000", SATURDAY)), []);
    let limit = desk.signal(
        r#"{"trade_pair":"EURUSD","order_type":"LONG","value":5000,"execution_type":"LIMIT","limit_price":1.05}"#,
    );
    assert_eq!(found(&desk.guard.judge(&limit, SATURDAY)), []);
}

#[test]
fn sizes_are_judged_without_a_price_where_they_can_be() {
    let mut desk = Desk::new(Era::Y2026);
    assert_eq!(found(&desk.judge("BTCUSDC LONG $5", NOON)), [(REFUSED, "below_minimum")]);
    assert_eq!(found(&desk.judge("BTCUSDC LONG 0.00005x", NOON)), [(REFUSED, "below_minimum")]);
    // 10 times the cap of a pair: the network would cut it, not refuse it.
    let verdict = desk.judge("BTCUSDC LONG 10x", NOON);
    assert_eq!(found(&verdict), [(Severity::Alert, "clamped")]);
    assert!(verdict.concerns[0].text.contains("USD only"), "{verdict:?}");
    // Lots and quantities need one.
    let verdict = desk.judge("EURUSD LONG $5", NOON);
    assert_eq!((found(&verdict), lacking(&verdict)), (vec![], vec!["size"]));
    let verdict = desk.judge("BTCUSDC LONG 0.00001", NOON);
    assert_eq!((found(&verdict), lacking(&verdict)), (vec![], vec!["size"]));
    assert!(verdict.unjudged[0].why.contains("--guard.prices"));
    desk.price("BTCUSDC", 100_000.0, NOON);
    assert_eq!(found(&desk.judge("BTCUSDC LONG 0.00001", NOON)), [(REFUSED, "below_minimum")]);
    desk.price("EURUSD", 1.1, NOON);
    let verdict = desk.judge("EURUSD LONG $5", NOON);
    assert_eq!((found(&verdict), lacking(&verdict)), (vec![(REFUSED, "zero_size")], vec![]));
}

#[test]
fn caps_are_kept_by_the_acknowledged_orders() {
    for price in [None, Some(100_000.0)] {
        let mut desk = Desk::new(Era::Y2026);
        // The cap of the pair is 1x for this account; the network keeps room for fees.
        match price {
            None => desk.take("BTCUSDC LONG 1x", NOON),
            Some(price) => desk.fill("BTCUSDC LONG 1x", price, NOON),
        }
        let later = NOON + MINUTE;
        assert_eq!(found(&desk.judge("BTCUSDC LONG 0.5x", later)), [(Severity::Alert, "clamped")]);
        assert_eq!(found(&desk.judge("ETHUSDC LONG 0.5x", later)), []);
        for n in 1..3 {
            match price {
                None => desk.take("BTCUSDC LONG 1x", NOON + n * 10 * SECOND),
                Some(price) => desk.fill("BTCUSDC LONG 1x", price, NOON + n * 10 * SECOND),
            }
        }
        // Now there is less room than the smallest step of the quantity.
        let verdict = desk.judge("BTCUSDC LONG 0.5x", later);
        let refused = verdict.refusal().map(|c| c.code.as_str());
        match price {
            // A step cannot be known without the price.
            None => assert_eq!(refused, None, "{verdict:?}"),
            Some(_) => assert_eq!(refused, Some("zero_size"), "{verdict:?}"),
        }
    }
}

#[test]
fn no_buying_power_is_what_losses_leave() {
    let mut desk = Desk::new(Era::Y2026);
    desk.fill("BTCUSDC LONG 0.98x", 100_000.0, NOON);
    desk.fill("ETHUSDC LONG 0.9x", 4000.0, NOON + 10 * SECOND);
    desk.fill("ETHUSDC FLAT", 3800.0, NOON + 20 * SECOND);
    // 4.5 % of the balance are gone, so 0.98x of the old one is more than the cap of the new one.
    let verdict = desk.judge("BTCUSDC LONG 0.1x", NOON + MINUTE);
    assert_eq!(found(&verdict)[0], (REFUSED, "no_buying_power"));
    assert!(verdict.blocks(GuardMode::Refuse));
}

#[test]
fn what_is_under_way_makes_a_refusal_of_the_account_a_guess() {
    let mut desk = Desk::new(Era::Y2026);
    desk.fill("BTCUSDC LONG 0.98x", 100_000.0, NOON);
    desk.fill("ETHUSDC LONG 0.9x", 4000.0, NOON + 10 * SECOND);
    desk.fill("ETHUSDC FLAT", 3800.0, NOON + 20 * SECOND);
    let reduce = desk.order("BTCUSDC SHORT 0.5x");
    desk.guard.under_way(reduce.id(), &(&reduce).into());
    let verdict = desk.judge("BTCUSDC LONG 0.1x", NOON + MINUTE);
    assert_eq!(found(&verdict)[0], (Severity::Alert, "no_buying_power"));
    assert!(verdict.concerns[0].text.contains("1 earlier orders are still under way"));
    assert!(!verdict.blocks(GuardMode::Refuse));
    desk.guard.ended(reduce.id());
    assert!(desk.judge("BTCUSDC LONG 0.1x", NOON + MINUTE).blocks(GuardMode::Refuse));
}

#[test]
fn the_cooldown_is_waited_out_or_refused() {
    for paced in [true, false] {
        let mut desk = Desk::with(Era::Y2026, |s| s.paced = paced);
        desk.take("BTCUSDC LONG 0.1x", NOON);
        let verdict = desk.judge("BTCUSDC LONG 0.1x", NOON + 2 * SECOND);
        let concern = &verdict.concerns[0];
        assert_eq!(concern.code, "cooldown");
        if paced {
            assert_eq!((concern.severity, concern.wait_ms), (Severity::Delayed, Some(3000)));
            assert!(concern.text.starts_with("it will be sent in 3.0 s: Order for trade pair"));
            assert!(!verdict.would_be_refused());
        } else {
            assert_eq!(concern.severity, REFUSED);
            assert!(verdict.blocks(GuardMode::Refuse));
        }
        assert_eq!(found(&desk.judge("BTCUSDC LONG 0.1x", NOON + 5 * SECOND)), []);
        assert_eq!(found(&desk.judge("ETHUSDC LONG 0.1x", NOON + 2 * SECOND)), []);
    }
}

#[test]
fn the_rate_limit_is_counted() {
    let mut desk = Desk::new(Era::Y2026);
    let pairs = ["BTCUSDC", "ETHUSDC", "SOLUSDC", "XRPUSDC", "DOGEUSDC"];
    for n in 0..10 {
        desk.take(&format!("{} LONG 0.1x", pairs[n % 5]), NOON + 6 * SECOND * (n / 5) as i64);
    }
    let verdict = desk.judge("BTCUSDC LONG 0.1x", NOON + 20 * SECOND);
    assert_eq!(found(&verdict), [(Severity::Delayed, "rate_limited")]);
    assert_eq!(verdict.concerns[0].wait_ms, Some(40_000));
    assert_eq!(found(&desk.judge("BTCUSDC LONG 0.1x", NOON + 61 * SECOND)), []);
}

#[test]
fn the_same_signal_again_is_not_judged_and_not_booked_twice() {
    let mut desk = Desk::new(Era::Y2026);
    let order = desk.order("BTCUSDC LONG 0.6x");
    desk.took(&order, NOON, "");
    assert_eq!(found(&desk.guard.judge(&order, NOON + SECOND)), []);
    desk.took(&order, NOON + SECOND, "");
    // Twice 0.6x would be more than the cap.
    assert_eq!(found(&desk.judge("BTCUSDC LONG 0.3x", NOON + MINUTE)), []);
}

#[test]
fn a_resting_order_makes_its_pair_unsure_until_a_flat() {
    let mut desk = Desk::new(Era::Y2026);
    let stop = desk.signal(
        r#"{"trade_pair":"BTCUSDC","order_type":"LONG","leverage":0.5,"stop_loss":90000,"order_uuid":"stopped"}"#,
    );
    desk.took(&stop, NOON, "{'price': 100000.0}");
    // It may have been stopped out: a SHORT may open or close, and is not blocked either way.
    let verdict = desk.judge("BTCUSDC LONG 0.0001x", NOON + MINUTE);
    assert!(verdict.closes, "{verdict:?}");
    desk.fill("BTCUSDC FLAT", 100_000.0, NOON + 2 * MINUTE);
    let verdict = desk.judge("BTCUSDC LONG $5", NOON + 3 * MINUTE);
    assert!(!verdict.closes && verdict.blocks(GuardMode::Refuse), "{verdict:?}");
}

#[test]
fn subaccounts_are_accounts_of_their_own() {
    let mut desk = Desk::new(Era::Y2026);
    desk.fill("BTCUSDC LONG 0.98x", 100_000.0, NOON);
    let other = desk
        .signal(r#"{"trade_pair":"BTCUSDC","order_type":"LONG","leverage":0.5,"subaccount_id":3}"#);
    assert_eq!(found(&desk.guard.judge(&other, NOON + MINUTE)), []);
    assert_eq!(
        found(&desk.judge("BTCUSDC LONG 0.5x", NOON + MINUTE)),
        [(Severity::Alert, "clamped")]
    );
}

#[test]
fn a_pair_that_the_catalogue_does_not_have_is_left_to_validators() {
    let mut desk = Desk::new(Era::Y2026);
    let verdict = desk.judge("NEWUSDC LONG 0.1x", NOON);
    assert_eq!((found(&verdict), lacking(&verdict)), (vec![], vec!["pair"]));
}

#[test]
fn account_size_decides_about_tiers() {
    let mut desk = Desk::with(Era::Y2026, |s| s.account_usd = Some(250_000.0));
    // Tier 3: 1.5x.
    assert_eq!(found(&desk.judge("BTCUSDC LONG 1.4x", NOON)), []);
    assert_eq!(
        found(&Desk::new(Era::Y2026).judge("BTCUSDC LONG 1.4x", NOON)),
        [(Severity::Alert, "clamped")]
    );
}

#[test]
fn an_order_whose_answer_was_lost_leaves_its_pair_unsure() {
    let mut desk = Desk::with(Era::Y2026, |s| s.halted = ["BTCUSDC".into()].into_iter().collect());
    let lost = desk.order("BTCUSDC LONG 0.5x");
    let mut record = crate::accepted(NOON, "");
    record.state = ptn_core::record::DeliveryState::Unknown;
    desk.guard.doubtful(&lost, &record);
    assert!(desk.judge("BTCUSDC SHORT 0.5x", NOON + MINUTE).closes);
    assert!(!desk.judge("ETHUSDC SHORT 0.5x", NOON + MINUTE).closes);
    desk.take("BTCUSDC FLAT", NOON + 2 * MINUTE);
    assert!(desk.judge("BTCUSDC SHORT 0.5x", NOON + 3 * MINUTE).blocks(GuardMode::Refuse));
    // The same word again, after a restart for example, brings no doubt back; a later attempt that
    // was acknowledged counts.
    desk.guard.doubtful(&lost, &record);
    assert!(!desk.judge("BTCUSDC SHORT 0.5x", NOON + 3 * MINUTE).closes);
    desk.took(&lost, NOON + 3 * MINUTE, "");
    assert!(desk.judge("BTCUSDC SHORT 0.5x", NOON + 4 * MINUTE).closes);
}

#[test]
fn an_order_that_is_filled_without_its_bracket_is_an_alert() {
    let mut desk = Desk::new(Era::Y2026);
    let order = desk.signal(
        r#"{"trade_pair":"BTCUSDC","order_type":"LONG","leverage":0.5,"stop_loss":110000}"#,
    );
    let verdict = desk.guard.judge(&order, NOON);
    assert_eq!((found(&verdict), lacking(&verdict)), (vec![], vec!["brackets"]));
    desk.price("BTCUSDC", 100_000.0, NOON);
    let verdict = desk.guard.judge(&order, NOON);
    assert_eq!(found(&verdict), [(Severity::Alert, "filled_without_bracket")]);
    assert!(verdict.concerns[0].action.contains("stop loss"), "{verdict:?}");
}
