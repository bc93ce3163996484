//! What a standing validator shows of itself, as JSON. Returns and drawdowns are fractions: 0.01 is
//! 1 %; amounts in US dollars; times in ms since 1970 by the validator's clock.

use ptn_core::paper::Point;
use ptn_core::paper::account::Account;
use ptn_core::paper::validator::{PaperValidator, Round};
use serde_json::{Value, json};

/// Everybody, the highest weight first.
pub(super) fn leaderboard(validator: &PaperValidator) -> Value {
    let miners: Vec<Value> = validator
        .leaderboard()
        .iter()
        .enumerate()
        .map(|(at, miner)| {
            let mut row = json!(miner);
            if let Some(row) = row.as_object_mut() {
                row.insert("rank".to_owned(), json!(at + 1));
                row.insert("net_return".to_owned(), json!(miner.total_return - 1.0));
            }
            row
        })
        .collect();
    json!({
        "rules": validator.era().to_string(),
        "now_ms": validator.now_ms(),
        "started_ms": validator.started_ms(),
        "round": validator.round().map(about),
        "miners": miners,
    })
}

fn about(round: &Round) -> Value {
    json!({"n": round.n, "at_ms": round.at_ms, "burn": round.weights.burn})
}

/// Positions and resting orders, of one hotkey or of everybody.
pub(super) fn positions(validator: &PaperValidator, hotkey: Option<&str>) -> Value {
    let accounts = validator.book().accounts().filter(|a| hotkey.is_none_or(|h| h == a.hotkey()));
    let accounts: Vec<Value> = accounts
        .map(|account| {
            let mut row = json!({
                "hotkey": account.hotkey(),
                "total_return": account.total_return(),
                "open": account.open(),
                "closed": account.closed(),
            });
            if let (Account::Y2026(own), Some(row)) = (account, row.as_object_mut()) {
                row.insert("account_usd".to_owned(), json!(own.settings.account_size));
                row.insert("balance_usd".to_owned(), json!(own.balance()));
                row.insert("unrealized_usd".to_owned(), json!(own.unrealized_pnl()));
                row.insert("fees_usd".to_owned(), json!(own.fees_paid()));
                row.insert("resting".to_owned(), json!(own.resting()));
            }
            row
        })
        .collect();
    json!({"now_ms": validator.now_ms(), "accounts": accounts})
}

/// The accounts over time.
pub(super) fn returns(validator: &PaperValidator, hotkey: Option<&str>) -> Value {
    let accounts = validator.book().accounts().filter(|a| hotkey.is_none_or(|h| h == a.hotkey()));
    let accounts: Vec<Value> = accounts
        .map(|account| {
            let points: &[Point] = validator.curve(account.hotkey());
            json!({
                "hotkey": account.hotkey(),
                "total_return": account.total_return(),
                "curve": points,
            })
        })
        .collect();
    json!({"now_ms": validator.now_ms(), "accounts": accounts})
}

/// How far everybody is from elimination.
pub(super) fn drawdown(validator: &PaperValidator) -> Value {
    let miners: Vec<Value> = validator
        .leaderboard()
        .iter()
        .map(|miner| {
            json!({
                "hotkey": miner.hotkey,
                "losses": miner.losses,
                "points_left": miner.points_left,
                "largest_drawdown": miner.largest_drawdown,
                "eliminated": miner.eliminated,
            })
        })
        .collect();
    json!({"now_ms": validator.now_ms(), "miners": miners})
}

/// The rows of the network's elimination file.
pub(super) fn eliminations(validator: &PaperValidator) -> Value {
    json!({"now_ms": validator.now_ms(), "eliminations": validator.eliminations()})
}

/// The last round.
pub(super) fn weights(validator: &PaperValidator) -> Value {
    let round = validator.round().map(|round| {
        let weights: serde_json::Map<String, Value> =
            round.weights.miners.iter().map(|(hotkey, w)| (hotkey.clone(), json!(w))).collect();
        json!({"n": round.n, "at_ms": round.at_ms, "burn": round.weights.burn, "weights": weights})
    });
    json!({
        "now_ms": validator.now_ms(),
        "next_round_ms": validator.next_round_ms(),
        "round": round,
    })
}

/// The last prices.
pub(super) fn prices(validator: &PaperValidator) -> Value {
    let prices: serde_json::Map<String, Value> = validator
        .book()
        .market()
        .iter()
        .map(|(pair, quote)| (pair.to_string(), json!(quote)))
        .collect();
    json!({"now_ms": validator.now_ms(), "prices": prices})
}
