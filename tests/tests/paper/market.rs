//! Market orders of 2026: caps, closes, the limit of orders, carry, rates.

use ptn_core::market_hours::MarketHours;
use ptn_core::order::OrderType;
use ptn_core::paper::account::{Account, AccountSettings, Answer, Caps, Context, Event};
use ptn_core::paper::market::{Market, Quote};
use ptn_core::paper::order::{Order, Size};
use ptn_core::paper::position::FeeKind;
use ptn_core::paper::rules::{Generation, PaperRules};
use ptn_core::paper::{fees, refusal::Refusal};
use ptn_core::rules::Era;
use ptn_core::trade_pair::TradePairClass;

use super::{Desk, NOW, pair, rules};

const LONG: OrderType = OrderType::Long;
const SHORT: OrderType = OrderType::Short;
const HOUR: i64 = 3_600_000;

#[track_caller]
fn near(a: f64, b: f64) {
    assert!((a - b).abs() <= 1e-9 * b.abs().max(1.0), "{a}, expected {b}");
}

#[test]
fn caps_follow_the_tier_of_the_account() {
    for (size, challenge, cap) in [
        (100_000.0, true, 0.5),
        (100_000.0, false, 1.0),
        (199_999.0, false, 1.0),
        (200_000.0, false, 1.5),
        (1_000_000.0, false, 2.0),
    ] {
        let mut desk = Desk::new(Era::Y2026);
        desk.open(AccountSettings { challenge, ..AccountSettings::of_size(size) });
        desk.price("BTCUSDC", 100_000.0);
        let fill = desk.fill("BTCUSDC", LONG, Size::Leverage(9.0));
        assert!(fill.clamped_value.is_some());
        let share = fill.value / size;
        assert!(share <= cap && share > cap * 0.99, "{size} {share} {cap}");
    }
}

#[test]
fn an_order_is_cut_at_the_cap_in_doubles_and_refused_when_nothing_is_left() {
    let mut desk = Desk::new(Era::Y2026);
    let caps = Caps::Fixed { positional: Some(1.0), portfolio: Some(2.0) };
    desk.open(AccountSettings { caps, ..AccountSettings::of_size(100_000.0) });
    desk.price("BTCUSDC", 100_000.0);
    near(desk.fill("BTCUSDC", LONG, Size::Leverage(1.0)).value, 99_940.0);
    desk.later(5_000);
    // Decimals would buy 30 steps here: 30.018 / 1.0006.
    near(desk.fill("BTCUSDC", LONG, Size::Leverage(1.0)).value, 29.0);
    desk.later(5_000);
    desk.market("BTCUSDC", LONG, Size::Leverage(1.0)).unwrap();
    for _ in 0..3 {
        desk.later(5_000);
        desk.price("BTCUSDC", 101_000.0);
    }
    let refusal = desk.market("BTCUSDC", LONG, Size::Leverage(1.0)).unwrap_err();
    assert_eq!(refusal.to_string(), "Error processing order: 0 order size after clamping");
}

#[test]
fn no_buying_power_names_the_cap() {
    let mut desk = Desk::new(Era::Y2026);
    let caps = Caps::Fixed { positional: Some(5.0), portfolio: Some(10.0) };
    desk.open(AccountSettings { caps, ..AccountSettings::of_size(100_000.0) });
    desk.price("USDJPY", 150.0);
    desk.price("USDCHF", 0.8);
    desk.fill("USDJPY", LONG, Size::Value(500_000.0));
    desk.later(5_000);
    let refusal = desk.market("USDJPY", LONG, Size::Value(1_000.0)).unwrap_err();
    let text = "No buying power remaining for USDJPY (capped by per pair cap 5.0x)";
    assert_eq!(refusal.to_string(), text);
    near(desk.fill("USDCHF", LONG, Size::Value(600_000.0)).value, 500_000.0);
    desk.later(5_000);
    let refusal = desk.market("USDCHF", LONG, Size::Value(1_000.0)).unwrap_err();
    let text = "No buying power remaining for USDCHF (capped by overall portfolio cap 10.0x)";
    assert_eq!(refusal.to_string(), text);
}

#[test]
fn order_101_closes_the_position_and_opens_a_new_one() {
    let mut desk = Desk::uncapped();
    desk.price("BTCUSDC", 100_000.0);
    for _ in 0..100 {
        desk.later(10_000);
        desk.fill("BTCUSDC", LONG, Size::Value(100.0));
    }
    desk.later(10_000);
    let outcome = desk.market("BTCUSDC", LONG, Size::Value(100.0)).unwrap();
    let [Event::Filled { fill }] = outcome.events.as_slice() else { panic!("{outcome:?}") };
    assert_eq!((fill.uuid.as_str(), fill.order_type), ("1m", OrderType::Flat));
    assert_eq!(fill.at_ms, desk.now_ms - 1);
    assert_eq!(desk.account().closed().len(), 1);
    assert_eq!(desk.account().position(&pair("BTCUSDC")).unwrap().orders.len(), 1);
    // A FLAT is order 101 as well, and just closes.
    let mut desk = Desk::uncapped();
    desk.price("BTCUSDC", 100_000.0);
    for _ in 0..100 {
        desk.later(10_000);
        desk.fill("BTCUSDC", LONG, Size::Value(100.0));
    }
    desk.later(10_000);
    let outcome = desk.send(&Order::market("f", "BTCUSDC", OrderType::Flat, None)).unwrap();
    assert!(outcome.events.is_empty() && desk.account().closed().len() == 1);
}

#[test]
fn a_flat_waits_for_the_cooldown_and_flat_all_does_not() {
    let mut desk = Desk::uncapped();
    desk.price("BTCUSDC", 100_000.0);
    desk.price("ETHUSDC", 4_000.0);
    desk.fill("BTCUSDC", LONG, Size::Value(1_000.0));
    desk.fill("ETHUSDC", SHORT, Size::Value(1_000.0));
    desk.later(4_999);
    let flat = |uuid: &str| Order::market(uuid, "BTCUSDC", OrderType::Flat, None);
    let refusal = desk.send(&flat("f1")).unwrap_err();
    assert!(
        refusal.to_string().ends_with(". Please wait 0.0 seconds before placing another order.")
    );
    assert_eq!(refusal.wait_ms(), Some(1));
    let Answer::Flattened { fills, failed } = desk.send(&Order::flat_all("ALL")).unwrap().answer
    else {
        panic!("not flattened")
    };
    assert!(failed.is_empty());
    let uuids: Vec<&str> = fills.iter().map(|fill| fill.uuid.as_str()).collect();
    assert_eq!(uuids, ["m1-flat-all", "m2-flat-all"]);
    // A close counts for the cooldown of what comes next.
    assert_eq!(desk.market("BTCUSDC", LONG, Size::Value(50.0)).unwrap_err().code(), "cooldown");
}

#[test]
fn forex_is_filled_at_the_side_of_the_book_and_crosses_need_one_rate() {
    let mut desk = Desk::uncapped();
    let quote = |bid: f64, ask: f64, now_ms| Quote {
        bid: Some(bid),
        ask: Some(ask),
        ..Quote::last((bid + ask) / 2.0, now_ms)
    };
    desk.quote("EURUSD", quote(1.0998, 1.1002, NOW));
    near(desk.fill("EURUSD", LONG, Size::Quantity(1.0)).price, 1.1002);
    desk.later(5_000);
    let flat = Order::market("f", "EURUSD", OrderType::Flat, None);
    let Answer::Filled { fill } = desk.send(&flat).unwrap().answer else { panic!("not filled") };
    near(fill.price, 1.0998);
    // Neither side of EURJPY is the dollar.
    desk.price("EURJPY", 165.0);
    assert_eq!(desk.market("EURJPY", LONG, Size::Quantity(1.0)).unwrap_err().code(), "no_price");
    let now_ms = desk.now_ms;
    desk.quote("EURJPY", Quote { quote_usd: Some(1.0 / 150.0), ..Quote::last(165.0, now_ms) });
    near(desk.fill("EURJPY", LONG, Size::Quantity(1.0)).value, 110_000.0);
}

#[test]
fn carry_is_due_at_full_intervals_from_the_opening() {
    let mut rules = rules(Era::Y2026).clone();
    // A pair with flat carry that still trades.
    let btc = pair("BTCUSD");
    rules.pairs.get_mut(&btc).unwrap().blocked = false;
    let mut account = Account::new(&rules, "h", AccountSettings::of_size(100_000.0));
    let mut market = Market::new();
    market.set(btc.clone(), Quote::last(100_000.0, NOW));
    let order = Order::market("u", btc.clone(), LONG, Some(Size::Value(50_000.0)));
    account.apply(&order, Context { rules: &rules, market: &market, now_ms: NOW }).unwrap();
    let mut due = |at_ms| account.on_price(&btc, &Quote::last(100_000.0, at_ms), &rules);
    assert!(due(NOW + 8 * HOUR - 1).is_empty());
    let charged =
        |usd: f64| vec![Event::Charged { position: "u".to_owned(), kind: FeeKind::Carry, usd }];
    assert_eq!(due(NOW + 8 * HOUR), charged(5.0));
    assert!(due(NOW + 16 * HOUR - 1).is_empty());
    assert_eq!(due(NOW + 32 * HOUR), charged(15.0));
}

#[test]
fn equities_pay_at_midnight_after_a_full_day() {
    let mut rules = rules(Era::Y2026).clone();
    rules.hours = MarketHours::load().unwrap().always_open();
    let aapl = pair("AAPL");
    let day = 24 * HOUR;
    let midnight = (NOW / day + 1) * day;
    for (side, kind, usd) in [
        (SHORT, FeeKind::Borrow, 10_000.0 * 0.03 / 365.0),
        // 150,000 USD with 100,000 USD of cash: half of it is a loan.
        (LONG, FeeKind::Interest, 75_000.0 * 0.066 / 365.0),
    ] {
        let value = if side == SHORT { 10_000.0 } else { 150_000.0 };
        let mut account = Account::new(
            &rules,
            "h",
            AccountSettings {
                caps: Caps::Fixed { positional: None, portfolio: None },
                ..AccountSettings::of_size(100_000.0)
            },
        );
        let mut market = Market::new();
        market.set(aapl.clone(), Quote::last(200.0, NOW));
        let order = Order::market("u", aapl.clone(), side, Some(Size::Value(value)));
        account.apply(&order, Context { rules: &rules, market: &market, now_ms: NOW }).unwrap();
        let mut due = |at_ms| account.on_price(&aapl, &Quote::last(200.0, at_ms), &rules);
        assert!(due(midnight).is_empty(), "the first night is free");
        assert!(due(midnight + day - 1).is_empty());
        match due(midnight + day).as_slice() {
            [Event::Charged { kind: got, usd: charged, .. }] => {
                assert_eq!(*got, kind);
                near(*charged, usd);
            }
            other => panic!("{side}: {other:?}"),
        }
    }
}

#[test]
fn funding_is_charged_and_never_paid() {
    let mut desk = Desk::uncapped();
    desk.price("BTCUSDC", 100_000.0);
    desk.fill("BTCUSDC", LONG, Size::Value(50_000.0));
    let Some(Account::Y2026(account)) = desk.book.account(super::MINER) else { panic!("account") };
    let mut account = account.clone();
    let btc = pair("BTCUSDC");
    let rates = [(NOW + HOUR, -0.0001), (NOW + 2 * HOUR, 0.0003), (NOW + 3 * HOUR, 0.0001)];
    near(account.fund(&btc, &rates, NOW + HOUR), 0.0);
    // The negative hour still counts against the next.
    near(account.fund(&btc, &rates, NOW + 2 * HOUR), 10.0);
    near(account.fund(&btc, &rates, NOW + 3 * HOUR), 5.0);
    near(account.fund(&btc, &rates, NOW + 3 * HOUR), 0.0);
}

#[test]
fn slippage_by_the_networks_formulas() {
    let rules: &PaperRules = rules(Era::Y2026);
    let Generation::Y2026(own) = &rules.generation else { panic!("2026") };
    let slips = |id: &str, value: f64, at_ms: i64, modelled: f64| {
        let pair = &rules.pairs[&pair(id)];
        fees::slippage(rules, own, pair, value, at_ms, modelled)
    };
    let four_pm = NOW; // 16:26 in New York
    assert_eq!(slips("EURUSD", 1_000.0, four_pm, 0.5), 0.0);
    assert_eq!(slips("EURUSD", 1_000.01, four_pm, 0.5), 0.0002);
    assert_eq!(slips("EURUSD", -5_000.0, four_pm + HOUR, 0.5), 0.0005);
    assert_eq!(slips("BTCUSDC", 5_000.0, four_pm, 0.001), 0.001);
    assert_eq!(slips("BTCUSDC", 5_000.0, four_pm, 0.5), 0.03);
}

#[test]
fn the_session_has_ended_for_shares() {
    let mut desk = Desk::uncapped();
    desk.price("AAPL", 200.0);
    let refusal = desk.market("AAPL", LONG, Size::Value(1_000.0)).unwrap_err();
    assert_eq!(refusal, Refusal::MarketClosed { pair: pair("AAPL") });
    let hours = &desk.rules.hours;
    let opens = hours.next_open(TradePairClass::Equities, "vanta", NOW).unwrap();
    desk.later(opens - NOW);
    desk.price("AAPL", 200.0);
    desk.fill("AAPL", LONG, Size::Value(1_000.0));
    // FLAT_ALL reports what it cannot close, and succeeds.
    desk.later(24 * HOUR);
    let Answer::Flattened { fills, failed } = desk.send(&Order::flat_all("ALL")).unwrap().answer
    else {
        panic!("not flattened")
    };
    assert!(fills.is_empty());
    assert_eq!(failed[0].1.to_string(), "The market for AAPL is currently closed.");
}

#[test]
fn garbage_prices_change_nothing() {
    let mut desk = Desk::uncapped();
    desk.price("BTCUSDC", 100_000.0);
    let before = desk.book.clone();
    for price in [f64::NAN, f64::INFINITY, 0.0, -1.0] {
        assert!(desk.price("BTCUSDC", price).is_empty());
    }
    desk.quote("BTCUSDC", Quote::last(1.0, NOW - 1));
    assert_eq!(desk.book, before);
}
