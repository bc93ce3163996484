//! The rules of positions, cooldown, carry and market hours against the golden vectors.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use ptn_core::market_hours::MarketHours;
use ptn_core::order::OrderType;
use ptn_core::paper::account::{Account, Account2026, AccountSettings, Answer, Caps, Context};
use ptn_core::paper::fees;
use ptn_core::paper::leveraged::{Added, LeveragedOrder, LeveragedPosition};
use ptn_core::paper::limits::cooldown;
use ptn_core::paper::market::{Market, Quote};
use ptn_core::paper::order::{Order, Size};
use ptn_core::paper::position::{Fill, Position};
use ptn_core::paper::refusal::Refusal;
use ptn_core::paper::rules::{Generation, PaperRules, Rules2026};
use ptn_core::rules::Era;
use ptn_core::trade_pair::{TradePairClass, TradePairId};
use ptn_tests::vectors::{self, Failures};
use serde_json::{Value, json};

fn era(case: &Value) -> Era {
    Era::parse(case["ruleset"].as_str().unwrap()).unwrap()
}

fn rules(era: Era) -> PaperRules {
    PaperRules::load(era).unwrap()
}

fn rules_2026(rules: &PaperRules) -> &Rules2026 {
    match &rules.generation {
        Generation::Y2026(own) => own,
        Generation::Y2024(_) => panic!("these are the rules of 2024"),
    }
}

/// Compares what a case expects with what came out, numbers to a relative tolerance.
fn compare(path: &str, want: &Value, got: &Value, tolerance: f64) -> Result<(), String> {
    let differs = || Err(format!("{path}: {got}, expected {want}"));
    match (want, got) {
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            let near = (a - b).abs() <= tolerance * a.abs().max(1.0);
            if near { Ok(()) } else { differs() }
        }
        (Value::Object(want), Value::Object(got)) => want.iter().try_for_each(|(key, want)| {
            let path = format!("{path}.{key}");
            let got = got.get(key).ok_or_else(|| format!("{path} is not compared"))?;
            compare(&path, want, got, tolerance)
        }),
        (Value::Array(want), Value::Array(got)) if want.len() == got.len() => {
            let mut both = want.iter().zip(got);
            both.try_for_each(|(want, got)| compare(path, want, got, tolerance))
        }
        _ if want == got => Ok(()),
        _ => differs(),
    }
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64()
}

fn order_type(step: &Value) -> OrderType {
    OrderType::parse(step["order_type"].as_str().unwrap()).unwrap()
}

fn run(kind: &str, wanted: Era, check: impl Fn(&Value, &PaperRules) -> Result<(), String>) {
    let mut failures = Failures::default();
    let rules = rules(wanted);
    for case in vectors::domain(kind).iter().filter(|case| era(case) == wanted) {
        failures.case("domain.json", case["id"].as_str().unwrap(), check(case, &rules));
    }
    failures.finish();
}

#[test]
fn position_vectors_2024() {
    run("position", Era::Y2024, position_2024);
}

fn position_2024(case: &Value, rules: &PaperRules) -> Result<(), String> {
    let id = TradePairId::from(case["trade_pair"].as_str().unwrap());
    let pair = rules.pair(&id).ok_or("the pair is not in the catalogue")?;
    let tolerance = number(&case["tolerance_rel"]).unwrap();
    let steps = case["steps"].as_array().unwrap();
    let at = |step: &Value| step["t_ms"].as_i64().unwrap();
    let mut position = LeveragedPosition::new("p", id, pair.max_leverage, pair.fee, at(&steps[0]));
    for (i, step) in steps.iter().enumerate() {
        let price = number(&step["price"]).unwrap();
        let mut error = None;
        let result = match step["action"].as_str().unwrap() {
            "mark" => {
                position.mark(price, at(step));
                "ok"
            }
            _ => {
                let kind = order_type(step);
                let size = number(&step["leverage"]).unwrap();
                let leverage = if kind == OrderType::Short { -size.abs() } else { size };
                let uuid = format!("u{i}");
                let at_ms = at(step);
                let order = LeveragedOrder { uuid, order_type: kind, leverage, price, at_ms };
                match position.add(order) {
                    Ok(Added::Stored) => "ok",
                    Ok(Added::ClampedToZero) => "ignored_clamped_to_zero",
                    Ok(Added::PositionClosed) => "ignored_position_closed",
                    Err(e) => {
                        error = Some(e.to_string());
                        "error"
                    }
                }
            }
        };
        let path = format!("step {i}");
        compare(&path, &step["result"], &json!(result), tolerance)?;
        if let Some(error) = error {
            compare(&path, &step["error"], &json!(error), tolerance)?;
            continue;
        }
        let leverages: Vec<f64> = position.orders.iter().map(|order| order.leverage).collect();
        let state = json!({
            "position_type": position.position_type,
            "is_closed": position.is_closed(),
            "close_ms": position.close_ms,
            "net_leverage": position.net_leverage,
            "average_entry_price": position.average_entry_price,
            "initial_entry_price": position.initial_entry_price,
            "current_return": position.current_return,
            "return_at_close": position.return_at_close,
            "n_orders": position.orders.len(),
            "order_leverages": leverages,
            "max_leverage_seen": position.max_leverage_seen,
        });
        compare(&path, &step["state"], &state, tolerance)?;
    }
    Ok(())
}

#[test]
fn position_vectors_2026() {
    run("position", Era::Y2026, position_2026);
}

fn state_2026(position: &Position) -> Value {
    json!({
        "position_type": position.position_type,
        "is_closed": position.is_closed(),
        "close_ms": position.close_ms,
        "net_quantity": position.net_quantity,
        "net_leverage": position.net_leverage,
        "net_value": position.net_value,
        "average_entry_price": position.average_entry_price,
        "realized_pnl": position.realized_pnl,
        "unrealized_pnl": position.unrealized_pnl,
        "current_return": position.current_return,
        "n_orders": position.orders.len(),
        "total_fees_usd": position.total_fees(),
    })
}

fn fill_2026(fill: &Fill) -> Value {
    json!({
        "filled_type": fill.order_type,
        "quantity": fill.quantity,
        "leverage": fill.leverage,
        "value": fill.value,
        "realized_pnl": fill.realized_pnl,
        "fee_usd": fill.fee_usd,
        "clamped_value": fill.clamped_value,
    })
}

fn refusal_word(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Cooldown { wait_ms, .. } => format!("cooldown:{:.1}", *wait_ms as f64 / 1000.0),
        Refusal::BelowMinimum { .. } => "below_min_position".to_owned(),
        other => other.code().to_owned(),
    }
}

fn account_2026(account: &Account) -> &Account2026 {
    match account {
        Account::Y2026(account) => account,
        Account::Y2024(_) => panic!("an account of 2024"),
    }
}

fn size_of(step: &Value) -> Option<Size> {
    let size = step["size"].as_object()?;
    let (unit, amount) = size.iter().next()?;
    let amount = number(amount)?;
    Some(match unit.as_str() {
        "leverage" => Size::Leverage(amount),
        "value" => Size::Value(amount),
        _ => Size::Quantity(amount),
    })
}

fn position_2026(case: &Value, rules: &PaperRules) -> Result<(), String> {
    // The vectors are about arithmetic: some equities trade after the session has ended.
    let mut rules = rules.clone();
    rules.hours = rules.hours.always_open();
    let tolerance = number(&case["tolerance_rel"]).unwrap();
    let settings = AccountSettings {
        caps: Caps::Fixed {
            positional: number(&case["positional_cap"]),
            portfolio: number(&case["portfolio_multiplier"]),
        },
        ..AccountSettings::of_size(number(&case["account_size"]).unwrap())
    };
    let mut account = Account::new(&rules, "hotkey", settings);
    let mut market = Market::new();
    for (i, step) in case["steps"].as_array().unwrap().iter().enumerate() {
        let path = format!("step {i}");
        let id = TradePairId::from(step["trade_pair"].as_str().unwrap());
        let now_ms = step["t_ms"].as_i64().unwrap();
        let quote = Quote {
            usd_base: number(&step["usd_base"]),
            quote_usd: number(&step["quote_usd"]).or(number(&step["quote_usd_rate"])),
            slippage: number(&step["slippage"]).unwrap_or(0.0),
            ..Quote::last(number(&step["price"]).unwrap(), now_ms)
        };
        if step["action"] == "mark" {
            account.on_price(&id, &quote, &rules);
        } else {
            market.set(id.clone(), quote);
            let uuid = format!("u{i}");
            let order = Order::market(uuid, id.clone(), order_type(step), size_of(step));
            let at = Context { rules: &rules, market: &market, now_ms };
            let foreseen = account.check(&order, at);
            let result = account.apply(&order, at);
            if foreseen != result {
                return Err(format!("{path}: check said {foreseen:?}, apply {result:?}"));
            }
            let word = match &result {
                Ok(outcome) if outcome.answer == Answer::NoPosition => "noop_no_position",
                Ok(_) => "ok",
                Err(_) => "rejected",
            };
            compare(&path, &step["result"], &json!(word), tolerance)?;
            match &result {
                Ok(outcome) => {
                    if let Answer::Filled { fill } = &outcome.answer {
                        compare(&path, &step["fill"], &fill_2026(fill), tolerance)?;
                    }
                }
                Err(refusal) => {
                    let word = refusal_word(refusal);
                    compare(&path, &step["reject"], &json!(word), tolerance)?;
                }
            }
            let account = account_2026(&account);
            let got = json!({
                "balance": account.balance(),
                "realized_pnl": account.realized_pnl(),
                "fees_paid": account.fees_paid(),
                "capital_used": account.capital_used(),
            });
            compare(&path, &step["account"], &got, tolerance)?;
        }
        if !step["state"].is_null() {
            let account = account_2026(&account);
            let closed = || account.closed().iter().rev().find(|p| p.pair == id);
            let position = account.position(&id).or_else(closed).ok_or("no position")?;
            compare(&path, &step["state"], &state_2026(position), tolerance)?;
        }
    }
    Ok(())
}

#[test]
fn cooldown_vectors() {
    let mut failures = Failures::default();
    for case in vectors::domain("cooldown") {
        let (era, input) = (era(&case), &case["input"]);
        let pair = TradePairId::from(input["trade_pair"].as_str().unwrap());
        let last = input["last_order_ms_in_open_position"].as_i64();
        let last = last.or(input["last_fill_ms"].as_i64());
        let now = input["order_ms"].as_i64().unwrap();
        let said = cooldown(&pair, last, now, rules(era).cooldown_ms, era);
        let got = json!({
            "accept": said.is_ok(),
            "error_text": said.err().map(|refusal| refusal.to_string()),
        });
        let result = compare("", &case["expected"], &got, 0.0);
        failures.case("domain.json", case["id"].as_str().unwrap(), result);
    }
    failures.finish();
}

#[test]
fn carry_vectors() {
    run("carry", Era::Y2026, |case, rules| {
        let input = &case["input"];
        let class: TradePairClass =
            serde_json::from_value(input["trade_pair_class"].clone()).unwrap();
        let source = input["source"].as_str().unwrap();
        let like = rules.pairs.values().find(|p| p.class == class && p.source == source);
        let carry = like.map_or("none", |pair| pair.carry.as_str());
        let value = number(&input["market_value_usd"]).unwrap();
        let intervals = input["full_intervals"].as_i64().unwrap();
        let usd = fees::flat_carry(rules_2026(rules), carry, value, intervals);
        compare("", &case["expected"], &json!({ "carry_fee_usd": usd }), 1e-12)
    });
}

#[test]
fn market_hours_vectors() {
    let hours = MarketHours::load().unwrap();
    let mut failures = Failures::default();
    for case in vectors::domain("market_hours") {
        let input = &case["input"];
        let class: TradePairClass =
            serde_json::from_value(input["trade_pair_class"].clone()).unwrap();
        let source = input["source"].as_str().unwrap_or("vanta");
        let open = hours.is_open(class, source, input["ms"].as_i64().unwrap());
        let result = compare("", &case["expected"], &json!({ "open": open }), 0.0);
        failures.case("domain.json", case["id"].as_str().unwrap(), result);
    }
    failures.finish();
}
