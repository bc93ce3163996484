//! Who may send, how often, and what is asked first.

use ptn_core::order::{ExecutionType, OrderType};
use ptn_core::paper::account::{AccountSettings, Answer};
use ptn_core::paper::book::Standing;
use ptn_core::paper::leveraged::Added;
use ptn_core::paper::market::Quote;
use ptn_core::paper::order::{Order, Size};
use ptn_core::rules::Era;

use super::{Desk, MINER, pair};

const LONG: OrderType = OrderType::Long;
const FLAT: OrderType = OrderType::Flat;

fn buy(uuid: &str, id: &str) -> Order {
    Order::market(uuid, id, LONG, Some(Size::Leverage(0.1)))
}

#[track_caller]
fn refused(desk: &mut Desk, order: &Order, text: &str) {
    assert_eq!(desk.send(order).unwrap_err().error_message(desk.rules.era(), MINER), text);
}

#[test]
fn in_2026_the_first_reason_in_the_networks_order_is_the_answer() {
    let mut desk = Desk::new(Era::Y2026);
    desk.rules = super::rules(Era::Y2026);
    desk.open(AccountSettings {
        asset_class: Some("forex".to_owned()),
        ..AccountSettings::of_size(100_000.0)
    });
    // Everything is wrong at once; one thing after the other is put right.
    desk.book.restarting = true;
    desk.book.syncing = true;
    desk.book.halted = [pair("EURUSD"), pair("AAPL")].into();
    desk.book.set_standing(MINER, Some(Standing::InactiveSubaccount));
    let order = buy("u", "AAPL");
    refused(&mut desk, &order, "Validator is restarting due to update. Please try again later.");
    desk.book.restarting = false;
    let said = desk.send(&order).unwrap_err().to_string();
    assert!(said.starts_with("Synthetic hotkey 5Miner is not active or not found."), "{said}");
    let row = "{'reason': 'ZOMBIE'}".to_owned();
    desk.book.set_standing(MINER, Some(Standing::Eliminated { row }));
    refused(
        &mut desk,
        &order,
        "This miner hotkey 5Miner has been eliminated and cannot participate in this subnet. Try again after re-registering. elimination_info {'reason': 'ZOMBIE'}",
    );
    desk.book.set_standing(MINER, Some(Standing::Deregistered { at_ms: desk.now_ms }));
    refused(
        &mut desk,
        &order,
        "This miner hotkey 5Miner was previously de-registered and is not allowed to re-register. De-registered on: 2026-05-28 20:26:40 UTC. Re-registration is not permitted on this subnet.",
    );
    desk.book.set_standing(MINER, Some(Standing::Entity));
    refused(
        &mut desk,
        &order,
        "Entity hotkey 5Miner cannot place orders directly. Please use a subaccount (synthetic hotkey) to place orders.",
    );
    desk.book.set_standing(MINER, None);
    refused(
        &mut desk,
        &buy("u", "BTCUSD"),
        "Trade pair [BTCUSD] is no longer supported. Please try again with a different trade pair.",
    );
    refused(
        &mut desk,
        &order,
        "miner [5Miner] cannot trade asset class [equities]. Selected asset class: [forex]. Only trade pairs from your selected asset class are allowed. See https://docs.taoshi.io/ptn/ptncli#miner-operations for more information.",
    );
    // Friday after 17:00 in New York.
    desk.later(90_000_000);
    refused(
        &mut desk,
        &buy("u", "EURUSD"),
        "Market for trade pair [EURUSD] is closed. Please try again later.",
    );
    let limit =
        Order { execution: ExecutionType::Limit, limit_price: Some(1.0), ..buy("rests", "EURUSD") };
    refused(
        &mut desk,
        &limit,
        "Trade pair [EURUSD] has been temporarily halted. Please try again with a different trade pair.",
    );
    desk.book.halted.clear();
    refused(&mut desk, &limit, "Validator is syncing positions. Please try again shortly.");
    desk.book.syncing = false;
    assert!(matches!(desk.send(&limit).unwrap().answer, Answer::Rests { .. }));
}

#[test]
fn processing_errors_are_framed_except_for_subaccounts() {
    let mut desk = Desk::new(Era::Y2026);
    let refusal = desk.send(&buy("u", "BTCUSDC")).unwrap_err();
    let text =
        "Order Rejected: no live prices being found for BTCUSDC. Please try again.".to_owned();
    assert_eq!(refusal.error_message(Era::Y2026, "5Miner_1"), text);
    assert_eq!(
        refusal.error_message(Era::Y2026, MINER),
        format!("Error processing order for [5Miner] with error [{text}]")
    );
    let refusal = desk.send(&buy("u", "NOSUCH")).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "Invalid trade pair in signal. Raw signal: {'trade_pair': {'trade_pair_id': 'NOSUCH'}, 'order_type': 'LONG', 'leverage': 0.1, 'execution_type': 'MARKET'}"
    );
}

#[test]
fn the_eleventh_request_of_a_minute_waits_for_the_window() {
    let mut desk = Desk::new(Era::Y2026);
    for n in 0..10 {
        assert_ne!(desk.send(&buy(&format!("u{n}"), "X")).unwrap_err().code(), "rate_limited");
    }
    desk.later(15_500);
    refused(
        &mut desk,
        &buy("u", "X"),
        "Rate limited. Please wait 44.5 seconds before sending another signal. SendSignal",
    );
    desk.later(44_500);
    assert_eq!(desk.send(&buy("u", "X")).unwrap_err().code(), "rate_limited");
    desk.later(1);
    assert_eq!(desk.send(&buy("u", "X")).unwrap_err().code(), "unknown_trade_pair");
}

#[test]
fn a_uuid_is_remembered_once_it_was_processed() {
    let mut desk = Desk::uncapped();
    let order = buy("u", "BTCUSDC");
    // Not processed, not remembered.
    assert_eq!(desk.send(&order).unwrap_err().code(), "no_price");
    desk.price("BTCUSDC", 100_000.0);
    desk.send(&order).unwrap();
    desk.later(60_000);
    refused(
        &mut desk,
        &order,
        "Order with uuid [u] has already been processed. Please try again with a new order.",
    );
    // The same uuid may name other orders.
    desk.send(&Order::flat_all("ALL")).unwrap();
    desk.send(&Order::flat_all("ALL")).unwrap();
}

#[test]
fn in_2024_the_checks_come_in_their_order() {
    let mut desk = Desk::new(Era::Y2024);
    refused(
        &mut desk,
        &buy("u", "SPX"),
        "Market for trade pair [SPX] is likely closed or this validator is having issues fetching live price. Please try again later.",
    );
    desk.price("SPX", 5_000.0);
    refused(
        &mut desk,
        &buy("u", "SPX"),
        "Trade pair [SPX] is in a trading category that has been temporarily halted. Please try again with a different trade pair.",
    );
    desk.price("BTCUSD", 60_000.0);
    // Exactly 900 s old is fresh.
    desk.later(900_000);
    desk.send(&buy("u", "BTCUSD")).unwrap();
    desk.later(1);
    assert_eq!(desk.send(&buy("u", "BTCUSD")).unwrap_err().code(), "market_closed");
    desk.price("BTCUSD", 60_000.0);
    refused(
        &mut desk,
        &buy("u", "BTCUSD"),
        "Error processing order for [5Miner] with error [Order for trade pair [BTCUSD] was placed too soon after the previous order. Last order was placed at [2026-05-28 20:41:40] and current order was placed at [2026-05-28 20:41:40].Please wait 59.999 seconds before placing another order.]",
    );
    let large = Order::market("u", "BTCUSD", OrderType::Short, Some(Size::Leverage(30.0)));
    refused(
        &mut desk,
        &large,
        "Error processing order for [5Miner] with error [Leverage must be between 0.001 and 20, provided - [-30.0]]",
    );
    desk.price("ETHUSD", 3_000.0);
    refused(
        &mut desk,
        &Order::market("u", "ETHUSD", FLAT, Some(Size::Leverage(0.0))),
        "Error processing order for [5Miner] with error [miner [5Miner] sent a FLAT order with no existing position.]",
    );
    desk.book.set_standing(MINER, Some(Standing::Eliminated { row: "{'dd': 0.89}".to_owned() }));
    refused(
        &mut desk,
        &buy("u", "BTCUSD"),
        "This miner hotkey 5Miner has been eliminated for reason {'dd': 0.89} and cannot participate in this subnet. Try again after re-registering.",
    );
}

#[test]
fn in_2024_a_new_position_has_no_cooldown_and_200_orders_are_the_limit() {
    let mut desk = Desk::new(Era::Y2024);
    desk.price("BTCUSD", 60_000.0);
    desk.price("ETHUSD", 3_000.0);
    let order = |desk: &mut Desk, id: &str, side, leverage: f64| {
        desk.later(60_001);
        for id in ["BTCUSD", "ETHUSD"] {
            desk.quote(
                id,
                Quote::last(if id == "BTCUSD" { 60_000.0 } else { 3_000.0 }, desk.now_ms),
            );
        }
        desk.send(&Order::market("u", id, side, Some(Size::Leverage(leverage))))
    };
    order(&mut desk, "BTCUSD", LONG, 0.01).unwrap();
    order(&mut desk, "BTCUSD", FLAT, 0.0).unwrap();
    // The same moment, a new position.
    desk.send(&buy("u", "BTCUSD")).unwrap();
    for n in 1..200 {
        let id = if n % 2 == 0 { "BTCUSD" } else { "ETHUSD" };
        order(&mut desk, id, LONG, 0.01).unwrap();
    }
    let said = order(&mut desk, "BTCUSD", LONG, 0.01).unwrap_err().to_string();
    assert!(said.contains("sent too many open orders [2] and order ["), "{said}");
    assert!(said.contains("'order_type': 'LONG', 'leverage': 0.01, 'price': 60000.0"), "{said}");
    order(&mut desk, "BTCUSD", FLAT, 0.0).unwrap();
}

#[test]
fn in_2024_a_flat_at_the_limit_succeeds_and_does_nothing() {
    let mut desk = Desk::new(Era::Y2024);
    desk.price("BTCUSD", 60_000.0);
    let mut send = |side, leverage| {
        desk.later(60_000);
        desk.price("BTCUSD", 60_000.0);
        let order = Order::market("u", "BTCUSD", side, Some(Size::Leverage(leverage)));
        match desk.send(&order).unwrap().answer {
            Answer::Leveraged { added, .. } => added,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(send(LONG, 20.0), Added::Stored);
    assert_eq!(send(FLAT, 1.0), Added::ClampedToZero);
    assert_eq!(send(FLAT, 0.0), Added::Stored);
    // Doubles leave a rest open that decimals would close.
    assert_eq!(send(LONG, 0.1), Added::Stored);
    assert_eq!(send(LONG, 0.2), Added::Stored);
    assert_eq!(send(OrderType::Short, 0.3), Added::Stored);
    let open = desk.book.account(MINER).unwrap().open();
    assert!(open.len() == 1 && open[0].net_leverage > 0.0 && open[0].net_leverage < 1e-16);
}

#[test]
fn elimination_closes_and_cancels_everything() {
    let mut desk = Desk::uncapped();
    desk.price("BTCUSDC", 100_000.0);
    desk.price("ETHUSDC", 4_000.0);
    desk.fill("BTCUSDC", LONG, Size::Value(10_000.0));
    let limit = Order {
        execution: ExecutionType::Limit,
        limit_price: Some(3_000.0),
        ..buy("rests", "ETHUSDC")
    };
    desk.send(&limit).unwrap();
    let events = desk.book.eliminate(desk.rules, MINER, "{}", desk.now_ms + 1);
    assert_eq!(events.len(), 2, "{events:?}");
    assert!(desk.account().open().next().is_none() && desk.account().resting().is_empty());
    assert_eq!(desk.send(&buy("u", "BTCUSDC")).unwrap_err().code(), "eliminated");
}
