//! Orders as a validator reads them from the wire.

use ptn_core::json::Json;
use ptn_core::order::{ExecutionType, OrderType};
use ptn_core::paper::order::{Bracket, Order, Size, Trailing};
use ptn_core::paper::refusal::Refusal;
use ptn_core::rules::{Era, Rules};
use ptn_core::signal::Signal;
use ptn_tests::vectors::{self, Failures};

fn read(text: &str) -> Result<Order, Refusal> {
    match Json::parse(text.as_bytes()).unwrap() {
        Json::Object(body) => Order::from_wire(&body, "u", Era::Y2026),
        other => panic!("no object: {other}"),
    }
}

#[test]
fn signal_vectors_become_orders_of_the_same_size() {
    let mut failures = Failures::default();
    for case in vectors::domain("signal") {
        let era = Era::parse(case["ruleset"].as_str().unwrap()).unwrap();
        let signal = Signal::from_json(
            case["request_body"].as_str().unwrap().as_bytes(),
            &Rules::load(era).unwrap(),
        );
        let Ok(signal) = signal else { continue };
        let result = match Order::from_signal(&signal) {
            Err(refusal) => Err(refusal.to_string()),
            Ok(order) => same(&signal, &order),
        };
        failures.case("domain.json", case["id"].as_str().unwrap(), result);
    }
    failures.finish();
}

fn same(signal: &Signal, order: &Order) -> Result<(), String> {
    let flat_2024 = signal.era() == Era::Y2024 && order.order_type == Some(OrderType::Flat);
    let sent = ["leverage", "value", "quantity"].into_iter().find_map(|f| signal.number(f));
    let sent: Option<f64> = sent.map(|n| n.as_str().parse().unwrap());
    // A FLAT of 2024 is sent without a size.
    let sent = if flat_2024 { Some(0.0) } else { sent };
    let got = order.size.map(Size::amount);
    let in_bracket = order.execution == ExecutionType::Bracket && sent.is_none();
    let fits = (got == sent || in_bracket)
        && order.order_type == signal.order_type()
        && order.execution == signal.execution_type()
        && order.pair == signal.trade_pair()
        && order.uuid == signal.order_uuid();
    if fits { Ok(()) } else { Err(format!("{signal:?} became {order:?}")) }
}

#[test]
fn the_wire_is_read_as_the_network_reads_it() {
    let order = read(
        r#"{"trade_pair":["BTCUSDC"],"order_type":"short","value":"10.5","stop_loss":3,"trailing_stop":{"trailing_percent":0.1}}"#,
    );
    let entry = Bracket {
        stop_loss: Some(3.0),
        trailing: Some(Trailing::Percent(0.1)),
        ..Bracket::default()
    };
    let order = order.unwrap();
    assert_eq!(order.size, Some(Size::Value(-10.5)));
    assert_eq!(order.brackets, [entry]);
    let order = read(
        r#"{"trade_pair":"BTCUSDC","execution_type":"BRACKET","bracket_orders":[{"take_profit":9,"trailing_value":2,"quantity":1}]}"#,
    )
    .unwrap();
    assert_eq!(order.bracket.take_profit, Some(9.0));
    assert_eq!(order.bracket.trailing, Some(Trailing::Value(2.0)));
    assert_eq!(order.size, Some(Size::Quantity(1.0)));
    assert!(order.brackets.is_empty());
}

#[test]
fn what_cannot_be_read_is_named() {
    for (text, said) in [
        (r#"{"order_type":"BUY"}"#, "No matching order type found for value 'BUY'"),
        (r#"{"order_type":"LONG","leverage":-1}"#, "leverage must be positive for LONG orders."),
        (r#"{"leverage":1,"value":1}"#, "Exactly one of quantity, value, or leverage"),
        (r#"{"leverage":{}}"#, "leverage is not a number"),
        (r#"{"leverage":"nan"}"#, "leverage: not a finite number"),
        (r#"{"execution_type":"ICEBERG"}"#, "Invalid execution_type: ICEBERG"),
    ] {
        let refusal = read(text).unwrap_err().to_string();
        assert!(refusal.contains(said), "{refusal}");
    }
}
