//! The miner understands every refusal of the paper validator.

use ptn_core::deliver::verdict::{Verdict, judge};
use ptn_core::order::OrderType;
use ptn_core::paper::refusal::{BracketLeg, Refusal, RefusalClass, SizeUnit};
use ptn_core::rules::Era;
use ptn_core::trade_pair::TradePairClass;
use ptn_core::transport::ValidatorReply;

use super::{MINER, pair};

fn one_of_each() -> Vec<Refusal> {
    let (btc, hotkey, uuid) = (pair("BTCUSDC"), MINER.to_owned(), "u-1".to_owned());
    let (row, signal) = ("{'dd': 0.9}".to_owned(), "{'order_type': 'LONG'}".to_owned());
    let cooldown = |era| Refusal::Cooldown {
        pair: btc.clone(),
        last_ms: 0,
        now_ms: 1_000,
        wait_ms: 4_000,
        era,
    };
    let below =
        |unit, size, minimum| Refusal::BelowMinimum { pair: btc.clone(), unit, size, minimum };
    let side = |side, leg| Refusal::BracketSide {
        uuid: uuid.clone(),
        side,
        leg,
        price: 100.0,
        reference: 90.5,
    };
    vec![
        Refusal::RateLimited { wait_s: 37.5, method: Some("SendSignal".to_owned()) },
        Refusal::Eliminated2024 { hotkey: hotkey.clone(), row: row.clone() },
        Refusal::Eliminated { hotkey: hotkey.clone(), row },
        Refusal::NoFreshPrice { pair: btc.clone() },
        Refusal::MarketClosed { pair: btc.clone() },
        Refusal::ClosedAtExecution { pair: btc.clone() },
        Refusal::CategoryHalted { pair: btc.clone() },
        Refusal::UnknownPair2024 { hotkey: hotkey.clone(), signal: signal.clone() },
        Refusal::UnknownPair { signal: signal.clone() },
        Refusal::TooManyOrders { order: signal, positions: 2 },
        Refusal::NoPosition { hotkey: hotkey.clone() },
        cooldown(Era::Y2024),
        cooldown(Era::Y2026),
        Refusal::ClosedPosition { hotkey: hotkey.clone(), pair: btc.clone() },
        Refusal::LeverageRange { min: "0.001".to_owned(), max: "20".to_owned(), given: 30.0 },
        Refusal::SizeSign { field: "leverage".to_owned() },
        Refusal::BadSignal { text: "'leverage'".to_owned() },
        Refusal::Restarting,
        Refusal::SubaccountInactive { hotkey: hotkey.clone() },
        Refusal::Deregistered { hotkey: hotkey.clone(), at_ms: 0 },
        Refusal::EntityHotkey { hotkey: hotkey.clone() },
        Refusal::DuplicateUuid { uuid: uuid.clone() },
        Refusal::BlockedPair { pair: btc.clone() },
        Refusal::AssetClass {
            hotkey: hotkey.clone(),
            class: TradePairClass::Crypto,
            selected: None,
            help: "its documentation".to_owned(),
        },
        Refusal::PairHalted { pair: btc.clone() },
        Refusal::Syncing,
        Refusal::NoPrice { pair: btc.clone() },
        Refusal::NoBuyingPower { pair: btc.clone(), cap: "per pair cap 1.0x".to_owned() },
        Refusal::ZeroSize,
        below(SizeUnit::Usd, 9.0, 10.0),
        below(SizeUnit::Lots, 0.004, 0.01),
        below(SizeUnit::Shares, 0.004, 0.01),
        Refusal::TooManyUnfilled { unfilled: 100, limit: 100 },
        side(OrderType::Long, BracketLeg::StopLoss),
        side(OrderType::Short, BracketLeg::TakeProfit),
        Refusal::BracketEmpty,
        Refusal::BracketWithoutPosition { pair: btc.clone() },
        Refusal::RestingPrice {
            execution: "LIMIT".to_owned(),
            field: "limit_price".to_owned(),
            price: None,
        },
        Refusal::FlatLimit,
        Refusal::NothingToCancel { hotkey: hotkey.clone(), uuid: uuid.clone() },
        Refusal::NothingToEdit { uuid: uuid.clone() },
        Refusal::EditPairMismatch { uuid: uuid.clone(), is: btc.clone(), given: pair("ETHUSDC") },
        Refusal::NoBracketEdits,
        Refusal::EquityShort { hotkey, pair: btc },
        Refusal::FilledWithoutBracket {
            cause: Box::new(side(OrderType::Long, BracketLeg::TakeProfit)),
        },
        Refusal::ProTransition,
        Refusal::SubaccountEliminated,
    ]
}

#[test]
fn the_miner_reads_the_same_code_and_class_in_every_text() {
    for refusal in one_of_each() {
        for era in [Era::Y2024, Era::Y2026] {
            let error_message = refusal.error_message(era, MINER);
            let reply = ValidatorReply { status: 200, error_message, ..ValidatorReply::default() };
            let judged = judge(&Ok(reply));
            assert_eq!(judged.code, refusal.code(), "{refusal}");
            let same = match refusal.class() {
                RefusalClass::Transient => judged.verdict == Verdict::Transient,
                RefusalClass::Wait => matches!(judged.verdict, Verdict::Wait(_)),
                RefusalClass::FinalOrder => judged.verdict == Verdict::FinalOrder,
                RefusalClass::FinalHotkey => judged.verdict == Verdict::FinalHotkey,
                RefusalClass::AlreadyProcessed => judged.verdict == Verdict::AlreadyProcessed,
                RefusalClass::Filled => judged.verdict == Verdict::Accepted,
            };
            assert!(same, "{refusal}: {:?} but {:?}", refusal.class(), judged.verdict);
        }
    }
}

#[test]
fn every_number_of_the_catalogue_is_there() {
    let all = one_of_each();
    for n in 1..=28 {
        let id = format!("R{n}");
        assert!(all.iter().any(|r| r.catalogue_id().trim_end_matches('\'') == id), "{id}");
    }
}

#[test]
fn refusals_survive_storage() {
    for refusal in one_of_each() {
        let stored = serde_json::to_string(&refusal).unwrap();
        assert_eq!(serde_json::from_str::<Refusal>(&stored).unwrap(), refusal);
    }
}

#[test]
fn sizes_and_sides_are_worded_as_the_network_words_them() {
    let texts: Vec<String> = one_of_each().iter().map(ToString::to_string).collect();
    for text in [
        "BTCUSDC: position size $9.00 is below minimum $10.00",
        "BTCUSDC: position size 0.0040 lots is below minimum 0.01 lots",
        "BTCUSDC: position size 0.0040 shares is below minimum 0.01 shares",
        "Invalid LONG bracket order [u-1]: stop_loss (100.0) must be < reference_price (90.5)",
        "Invalid SHORT bracket order [u-1]: take_profit (100.0) must be < reference_price (90.5)",
        "Market order filled successfully, but bracket order creation failed: Invalid LONG bracket order [u-1]: take_profit (100.0) must be > reference_price (90.5)",
        "LIMIT orders must have a valid limit_price > 0 (got None)",
        "miner has too many unfilled limit orders [100] >= [100]",
        "No unfilled limit orders found for 5Miner (uuid=u-1)",
    ] {
        assert!(texts.iter().any(|t| t == text), "{text}");
    }
}
