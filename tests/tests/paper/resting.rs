//! Orders that wait for a price.

use ptn_core::order::{ExecutionType, OrderType, StopCondition};
use ptn_core::paper::account::{Answer, Event, Outcome};
use ptn_core::paper::market::Quote;
use ptn_core::paper::order::{Bracket, Order, Size, Trailing};
use ptn_core::paper::refusal::Refusal;

use super::{Desk, pair};

const LONG: OrderType = OrderType::Long;
const SHORT: OrderType = OrderType::Short;
const BTC: &str = "BTCUSDC";

fn desk() -> Desk {
    let mut desk = Desk::uncapped();
    desk.price(BTC, 100.0);
    desk
}

fn limit(uuid: &str, side: OrderType, price: f64) -> Order {
    Order {
        execution: ExecutionType::Limit,
        limit_price: Some(price),
        ..Order::market(uuid, BTC, side, Some(Size::Value(1_000.0)))
    }
}

fn bracket(uuid: &str, stop_loss: Option<f64>, take_profit: Option<f64>) -> Order {
    Order {
        execution: ExecutionType::Bracket,
        order_type: None,
        bracket: Bracket { stop_loss, take_profit, ..Bracket::default() },
        ..Order::market(uuid, BTC, LONG, None)
    }
}

#[track_caller]
fn rests(outcome: Result<Outcome, Refusal>) {
    assert!(matches!(outcome.unwrap().answer, Answer::Rests { .. }));
}

/// The filled uuids and their prices.
fn fills(events: &[Event]) -> Vec<(&str, f64)> {
    let fills = events.iter().filter_map(|event| match event {
        Event::Filled { fill } => Some((fill.uuid.as_str(), fill.price)),
        _ => None,
    });
    fills.collect()
}

#[test]
fn a_limit_order_fills_at_its_price_without_slippage() {
    let mut desk = desk();
    rests(desk.send(&limit("l", LONG, 95.0)));
    assert!(desk.later(10_000).price(BTC, 95.01).is_empty());
    let now_ms = desk.later(10_000).now_ms;
    // The ask counts for a buyer.
    let wide = Quote { bid: Some(94.0), ask: Some(95.5), ..Quote::last(94.9, now_ms) };
    assert!(desk.quote(BTC, wide).is_empty());
    desk.later(10_000);
    let slippery = Quote { slippage: 0.01, ..Quote::last(90.0, desk.now_ms) };
    let events = desk.quote(BTC, slippery);
    assert_eq!(fills(&events), [("l", 95.0)]);
    assert_eq!(desk.account().position(&pair(BTC)).unwrap().average_entry_price, 95.0);
    assert!(desk.account().resting().is_empty());
}

#[test]
fn a_limit_order_that_the_market_has_reached_is_a_market_order() {
    let mut desk = desk();
    let outcome = desk.send(&limit("l1", LONG, 101.0)).unwrap();
    let Answer::Filled { fill } = outcome.answer else { panic!("{outcome:?}") };
    assert_eq!(fill.price, 100.0);
    assert_eq!(desk.send(&limit("l2", LONG, 101.0)).unwrap_err().code(), "cooldown");
    assert!(desk.account().resting().is_empty());
}

#[test]
fn one_fill_per_pair_and_interval() {
    let mut desk = desk();
    rests(desk.send(&limit("l1", LONG, 95.0)));
    rests(desk.send(&limit("l2", LONG, 96.0)));
    assert_eq!(fills(&desk.later(20_000).price(BTC, 94.0)), [("l1", 95.0)]);
    assert!(desk.later(9_999).price(BTC, 94.0).is_empty());
    assert_eq!(fills(&desk.later(1).price(BTC, 94.0)), [("l2", 96.0)]);
}

#[test]
fn brackets_of_an_order_protect_what_it_filled() {
    let mut desk = desk();
    desk.fill(BTC, LONG, Size::Quantity(1.0));
    desk.later(5_000);
    let entry = Bracket { stop_loss: Some(90.0), take_profit: Some(120.0), ..Bracket::default() };
    let order =
        Order { brackets: vec![entry], ..Order::market("p", BTC, LONG, Some(Size::Quantity(2.0))) };
    let outcome = desk.send(&order).unwrap();
    assert_eq!(outcome.events, [Event::BracketMade { uuid: "p-bracket-0".to_owned() }]);
    let events = desk.later(20_000).price(BTC, 80.0);
    // A stop loss fills at its own price.
    assert_eq!(fills(&events), [("p-bracket-0", 90.0)]);
    let left = desk.account().position(&pair(BTC)).unwrap().net_quantity;
    assert!((left - 1.0).abs() < 1e-9, "{left}");
}

#[test]
fn a_bracket_alone_closes_the_whole_position_and_the_others_are_cancelled() {
    let mut desk = desk();
    assert_eq!(
        desk.send(&bracket("b0", Some(90.0), None)).unwrap_err().to_string(),
        "Invalid bracket order: no open position or previous unfilled limit orders found for BTCUSDC"
    );
    desk.fill(BTC, SHORT, Size::Quantity(2.0));
    rests(desk.send(&bracket("b1", Some(110.0), None)));
    rests(desk.send(&bracket("b2", None, Some(85.0))));
    desk.later(5_000);
    desk.fill(BTC, SHORT, Size::Quantity(3.0));
    let events = desk.later(10_000).price(BTC, 84.0);
    assert_eq!(fills(&events), [("b2", 85.0)]);
    assert!(events.contains(&Event::Cancelled { uuid: "b1".to_owned() }));
    assert!(desk.account().open().next().is_none());
    assert!(desk.account().resting().is_empty());
}

#[test]
fn a_bracket_may_wait_for_the_limit_order_that_opens_its_position() {
    let mut desk = desk();
    rests(desk.send(&limit("l", LONG, 95.0)));
    rests(desk.send(&bracket("b", Some(90.0), None)));
    assert_eq!(fills(&desk.later(10_000).price(BTC, 95.0)), [("l", 95.0)]);
    assert_eq!(fills(&desk.later(10_000).price(BTC, 90.0)), [("b", 90.0)]);
    // Without both, it is an orphan.
    rests(desk.send(&limit("l2", LONG, 50.0)));
    rests(desk.send(&bracket("b2", Some(40.0), None)));
    let cancel = Order { execution: ExecutionType::LimitCancel, ..limit("l2", LONG, 1.0) };
    desk.send(&cancel).unwrap();
    let events = desk.later(10_000).price(BTC, 91.0);
    assert_eq!(events, [Event::Cancelled { uuid: "b2".to_owned() }]);
}

#[test]
fn trailing_stops_follow_the_best_price_and_the_tighter_stop_counts() {
    for (side, path, stop) in
        [(LONG, [110.0, 120.0, 115.0], 108.0), (SHORT, [90.0, 80.0, 85.0], 88.0)]
    {
        let mut desk = desk();
        let far = if side == LONG { 50.0 } else { 150.0 };
        let entry = Bracket {
            stop_loss: Some(far),
            trailing: Some(Trailing::Percent(0.1)),
            ..Bracket::default()
        };
        let order = Order {
            brackets: vec![entry],
            ..Order::market("p", BTC, side, Some(Size::Quantity(2.0)))
        };
        desk.send(&order).unwrap();
        for price in path {
            assert!(fills(&desk.later(10_000).price(BTC, price)).is_empty(), "{side} {price}");
        }
        let events = desk.later(10_000).price(BTC, stop);
        assert_eq!(fills(&events), [("p-bracket-0", stop)]);
    }
    let mut desk = desk();
    desk.fill(BTC, LONG, Size::Quantity(1.0));
    let trailing = Bracket { trailing: Some(Trailing::Value(5.0)), ..Bracket::default() };
    rests(desk.send(&Order { bracket: trailing, ..bracket("b", None, None) }));
    assert!(desk.later(10_000).price(BTC, 103.0).is_empty());
    assert_eq!(fills(&desk.later(10_000).price(BTC, 98.0)), [("b", 98.0)]);
}

#[test]
fn a_stop_limit_order_never_fills_at_once_and_becomes_a_limit_order() {
    let mut desk = desk();
    let stop = Order {
        execution: ExecutionType::StopLimit,
        stop_price: Some(99.0),
        stop_condition: Some(StopCondition::Gte),
        ..limit("s", LONG, 104.0)
    };
    rests(desk.send(&stop));
    let now_ms = desk.later(10_000).now_ms;
    let quote = Quote { bid: Some(104.0), ask: Some(108.0), ..Quote::last(105.0, now_ms) };
    let events = desk.quote(BTC, quote);
    let reached = Event::StopReached { uuid: "s".to_owned(), limit: "s-limit".to_owned() };
    assert_eq!(events, [reached]);
    assert_eq!(fills(&desk.later(10_000).price(BTC, 103.0)), [("s-limit", 104.0)]);
    let without = Order { stop_price: None, uuid: "s2".to_owned(), ..stop };
    assert_eq!(
        desk.send(&without).unwrap_err().to_string(),
        "STOP_LIMIT orders must have a valid stop_price > 0 (got None)"
    );
}

#[test]
fn a_bracket_on_the_wrong_side_leaves_the_order_filled_and_says_that_it_failed() {
    let mut desk = desk();
    let wrong = Bracket { stop_loss: Some(100.0), ..Bracket::default() };
    let order = Order {
        brackets: vec![wrong.clone()],
        ..Order::market("p", BTC, LONG, Some(Size::Quantity(2.0)))
    };
    assert_eq!(
        desk.send(&order).unwrap_err().to_string(),
        "Market order filled successfully, but bracket order creation failed: Invalid LONG bracket order [p-bracket-0]: stop_loss (100.0) must be < reference_price (100.0)"
    );
    assert_eq!(desk.account().position(&pair(BTC)).unwrap().net_quantity, 2.0);
    // The fill comes with the next call.
    rests(desk.send(&bracket("b", Some(90.0), None)));
    let refusal = desk
        .send(&Order { brackets: vec![wrong], ..limit("l", LONG, 90.0) })
        .unwrap_err()
        .to_string();
    assert_eq!(
        refusal,
        "Invalid LONG bracket order [l-bracket-0]: stop_loss (100.0) must be < reference_price (90.0)"
    );
}

#[test]
fn cancelling_by_uuid_by_parent_and_all() {
    let mut desk = desk();
    let entry = Bracket { stop_loss: Some(90.0), ..Bracket::default() };
    let order = Order {
        brackets: vec![entry.clone(), Bracket { stop_loss: Some(80.0), ..entry }],
        ..Order::market("p", BTC, LONG, Some(Size::Quantity(2.0)))
    };
    desk.send(&order).unwrap();
    rests(desk.send(&limit("l1", LONG, 50.0)));
    rests(desk.send(&limit("l2", LONG, 50.0)));
    let mut cancel = |uuid: &str| {
        let order =
            Order { execution: ExecutionType::LimitCancel, pair: None, ..limit(uuid, LONG, 1.0) };
        desk.send(&order).map(|outcome| match outcome.answer {
            Answer::Cancelled { num_cancelled, .. } => num_cancelled,
            other => panic!("{other:?}"),
        })
    };
    assert_eq!(cancel("p"), Ok(2));
    assert_eq!(
        cancel("nothing, like this").unwrap_err().to_string(),
        "No unfilled limit orders found for 5Miner (uuid=nothing, like this)"
    );
    assert_eq!(cancel("l1, l2"), Ok(2));
    assert_eq!(cancel("ALL"), Ok(0));
}

#[test]
fn edits_replace_an_order_or_many_brackets() {
    let mut desk = desk();
    rests(desk.send(&limit("l", LONG, 50.0)));
    let edit = |order: Order| Order { execution: ExecutionType::LimitEdit, ..order };
    rests(desk.send(&edit(limit("l", LONG, 60.0))));
    assert_eq!(desk.account().resting()[0].order.limit_price, Some(60.0));
    assert_eq!(
        desk.send(&edit(limit("x", LONG, 60.0))).unwrap_err().to_string(),
        "Cannot edit order x: order not found"
    );
    let other = Order { pair: Some(pair("ETHUSDC")), ..edit(limit("l", LONG, 60.0)) };
    let said = desk.send(&other).unwrap_err().to_string();
    assert!(said.starts_with("Cannot edit order l: trade pair mismatch"), "{said}");
    desk.fill(BTC, LONG, Size::Quantity(2.0));
    rests(desk.send(&bracket("b1", Some(90.0), None)));
    rests(desk.send(&bracket("b2", Some(80.0), None)));
    let entry = |uuid: Option<&str>, stop_loss| Bracket {
        order_uuid: uuid.map(str::to_owned),
        stop_loss,
        ..Bracket::default()
    };
    let bulk = Order {
        order_type: Some(OrderType::Flat),
        brackets: vec![
            entry(Some("b1"), Some(91.0)),
            entry(Some("b2"), None),
            entry(None, Some(70.0)),
            entry(Some("unknown"), Some(60.0)),
        ],
        ..edit(limit("e", LONG, 1.0))
    };
    let Answer::Edited { uuids, num_cancelled } = desk.send(&bulk).unwrap().answer else {
        panic!("not edited")
    };
    assert_eq!((uuids, num_cancelled), (vec!["b1".to_owned(), "e-bracket-2".to_owned()], 1));
    let none = Order { brackets: vec![entry(Some("unknown"), Some(1.0))], ..bulk };
    assert_eq!(desk.send(&none).unwrap_err().to_string(), "No bracket edits to process");
}

#[test]
fn a_hundred_orders_may_wait() {
    let mut desk = desk();
    for n in 0..100 {
        rests(desk.later(10_000).send(&limit(&format!("l{n}"), LONG, 50.0)));
    }
    assert_eq!(
        desk.later(10_000).send(&limit("l", LONG, 50.0)).unwrap_err().to_string(),
        "miner has too many unfilled limit orders [100] >= [100]"
    );
}

#[test]
fn what_cannot_rest_is_refused() {
    let mut desk = desk();
    let said = |desk: &mut Desk, order: Order| desk.send(&order).unwrap_err().to_string();
    assert_eq!(
        said(&mut desk, limit("l", OrderType::Flat, 50.0)),
        "FLAT order is not supported for LIMIT orders"
    );
    assert_eq!(
        said(&mut desk, limit("l", LONG, -1.0)),
        "LIMIT orders must have a valid limit_price > 0 (got -1.0)"
    );
    desk.fill(BTC, LONG, Size::Quantity(2.0));
    assert_eq!(
        said(&mut desk, bracket("b", None, None)),
        "BRACKET orders must have at least one of stop_loss, take_profit, or trailing_stop set"
    );
}
