//! What closes, reduces or cancels is never blocked, whatever speaks against it.

use ptn_core::guard::{GuardMode, GuardVerdict, OrderGuard as _};
use ptn_core::rules::Era;

use crate::{Desk, MINUTE, NOON, SATURDAY};

/// Every pair is halted and the week is over: the network refuses whatever names a pair.
fn desk(era: Era, held: &str) -> Desk {
    let pair = held.split(' ').next().unwrap().to_owned();
    let mut desk = Desk::with(era, |s| s.halted = [pair.as_str().into()].into_iter().collect());
    desk.take(held, NOON);
    desk
}

fn passes(verdict: &GuardVerdict, what: &str) {
    assert!(verdict.closes, "{what}: {verdict:?}");
    assert!(!verdict.blocks(GuardMode::Refuse), "{what}: {verdict:?}");
}

#[test]
fn every_kind_of_2026() {
    for (held, against) in [("EURUSD LONG $50000", "SHORT"), ("EURUSD SHORT $50000", "LONG")] {
        let mut desk = desk(Era::Y2026, held);
        let bodies = [
            r#"{"trade_pair":"EURUSD","order_type":"FLAT"}"#.to_owned(),
            r#"{"execution_type":"FLAT_ALL","order_uuid":"ALL"}"#.to_owned(),
            r#"{"execution_type":"FLAT_ALL","order_uuid":"some-position"}"#.to_owned(),
            r#"{"execution_type":"LIMIT_CANCEL","order_uuid":"ALL"}"#.to_owned(),
            r#"{"execution_type":"LIMIT_CANCEL","trade_pair":"EURUSD","order_uuid":"x"}"#.to_owned(),
            r#"{"execution_type":"BRACKET","trade_pair":"EURUSD","stop_loss":1.0}"#.to_owned(),
            r#"{"execution_type":"LIMIT_EDIT","trade_pair":"EURUSD","order_type":"FLAT","order_uuid":"x","bracket_orders":[{"order_uuid":"x"}]}"#.to_owned(),
            // A part of it, all of it, and more than all: the network drops the excess.
            format!(r#"{{"trade_pair":"EURUSD","order_type":"{against}","value":20000}}"#),
            format!(r#"{{"trade_pair":"EURUSD","order_type":"{against}","value":50000}}"#),
            format!(r#"{{"trade_pair":"EURUSD","order_type":"{against}","value":500000}}"#),
            format!(r#"{{"trade_pair":"EURUSD","order_type":"{against}","quantity":0.00001}}"#),
            format!(
                r#"{{"trade_pair":"EURUSD","order_type":"{against}","value":50000,"execution_type":"LIMIT","limit_price":1.2}}"#
            ),
            format!(
                r#"{{"trade_pair":"EURUSD","order_type":"{against}","value":50000,"execution_type":"STOP_LIMIT","limit_price":1.2,"stop_price":1.1,"stop_condition":"GTE"}}"#
            ),
        ];
        for body in bodies {
            let signal = desk.signal(&body);
            for now in [NOON + 1, NOON + MINUTE, SATURDAY] {
                passes(&desk.guard.judge(&signal, now), &body);
            }
        }
        // The same side is no close.
        let same = held.split(' ').nth(1).unwrap();
        let more = desk.judge(&format!("EURUSD {same} $5000"), NOON + MINUTE);
        assert!(more.blocks(GuardMode::Refuse), "{more:?}");
    }
}

#[test]
fn every_kind_of_2024() {
    for (held, against) in [("EURUSD LONG 5x", "SHORT"), ("EURUSD SHORT 5x", "LONG")] {
        let mut desk = desk(Era::Y2024, held);
        for words in ["FLAT".to_owned(), format!("{against} 1x"), format!("{against} 100x")] {
            for now in [NOON + 1, NOON + MINUTE, SATURDAY] {
                passes(&desk.judge(&format!("EURUSD {words}"), now), &words);
            }
        }
        let same = held.split(' ').nth(1).unwrap();
        let more = desk.judge(&format!("EURUSD {same} 1x"), NOON + MINUTE);
        assert!(more.blocks(GuardMode::Refuse), "{more:?}");
    }
}

#[test]
fn what_may_close_what_is_not_known_yet_passes_too() {
    // The history is still being read.
    let mut desk = Desk::with(Era::Y2026, |s| s.halted = ["EURUSD".into()].into_iter().collect());
    let unread = ptn_core::paper::guard::RiskGuard::new(Era::Y2026, {
        let mut settings = ptn_core::paper::guard::GuardSettings::default();
        settings.halted = ["EURUSD".into()].into_iter().collect();
        settings
    });
    let unread = unread.unwrap();
    let short = desk.order("EURUSD SHORT $5000");
    let verdict = unread.judge(&short, NOON);
    passes(&verdict, "before the history is read");
    assert_eq!(verdict.unjudged[0].check, "history");
    unread.ready();
    assert!(unread.judge(&short, NOON).blocks(GuardMode::Refuse));

    // The order that opens is still under way.
    let long = desk.order("EURUSD LONG $5000");
    desk.guard.under_way(long.id(), &(&long).into());
    passes(&desk.guard.judge(&short, NOON), "while the opening order is under way");
    // Another pair changes nothing about this one.
    desk.guard.ended(long.id());
    let other = desk.order("BTCUSDC LONG 0.1x");
    desk.guard.under_way(other.id(), &(&other).into());
    assert!(desk.guard.judge(&short, NOON).blocks(GuardMode::Refuse));
    // What can only close, and what is on the same side, opens nothing that this one closes.
    let flat = desk.order("EURUSD FLAT");
    desk.guard.under_way(flat.id(), &(&flat).into());
    let more = desk.order("EURUSD SHORT $6000");
    desk.guard.under_way(more.id(), &(&more).into());
    assert!(desk.guard.judge(&short, NOON).blocks(GuardMode::Refuse));
}

#[test]
fn a_quantity_that_could_not_be_valued_leaves_the_pair_unsure() {
    let mut desk = Desk::with(Era::Y2026, |s| s.halted = ["BTCUSDC".into()].into_iter().collect());
    desk.take("BTCUSDC LONG 0.5", NOON);
    passes(&desk.judge("BTCUSDC SHORT 0.5", NOON + MINUTE), "closes a position of unknown value");
}
