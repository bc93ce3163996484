//! Live prices reach the risk guard, as its settings name them.
#![cfg(all(feature = "paper-live", feature = "ops"))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use clap::Command;
use futures_util::{SinkExt as _, StreamExt as _};
use ptn_core::ops::config::{Settings, with_flags};
use ptn_core::ops::guard::{GuardConfig, Prices};
use ptn_core::ops::settings::GUARD;
use ptn_core::rules::{Era, Rules};
use ptn_core::signal::Signal;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

fn config(flags: &[&str]) -> Result<GuardConfig, String> {
    let command = with_flags(Command::new("x"), &[GUARD]);
    let matches = command.try_get_matches_from([&["x"], flags].concat()).unwrap();
    let settings = Settings::resolve(&[GUARD], &matches).unwrap();
    let rules = Arc::new(Rules::load(Era::Y2026).unwrap());
    GuardConfig::from_settings(&settings, &rules).map_err(|e| e.to_string())
}

#[tokio::test]
async fn a_ticker_values_quantities() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("coinbase:ws://{}", listener.local_addr().unwrap());
    let exchange = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = accept_async(stream).await.unwrap();
        let Message::Text(asked) = socket.next().await.unwrap().unwrap() else { panic!("text") };
        let asked: Value = serde_json::from_str(asked.as_str()).unwrap();
        assert_eq!(asked["channels"][0]["product_ids"], json!(["BTC-USD"]));
        let channels = &asked["channels"];
        for message in [
            json!({"type": "subscriptions", "channels": channels}),
            json!({
                "type": "ticker", "sequence": 1, "product_id": "BTC-USD", "price": "100000.00",
                "best_bid": "99999.99", "best_ask": "100000.01", "side": "buy",
                "time": "2026-07-01T12:00:00.000000Z", "trade_id": 1, "last_size": "0.1",
            }),
        ] {
            socket.send(Message::text(message.to_string())).await.unwrap();
        }
        while socket.next().await.is_some_and(|message| message.is_ok()) {}
    });
    let dir = tempfile::tempdir().unwrap();
    let config = config(&["--guard.prices", &url, "--guard.pairs", "BTCUSDC"]).unwrap();
    let on = config.build(dir.path()).unwrap().unwrap();
    assert!(!on.takes_prices());
    on.guard.ready();
    let stop = CancellationToken::new();
    let reading = tokio::spawn(on.clone().read_prices(stop.clone()));
    let rules = Rules::load(Era::Y2026).unwrap();
    let body = br#"{"trade_pair":"BTCUSDC","order_type":"LONG","quantity":0.00001}"#;
    let signal = Signal::from_json(body, &rules).unwrap();
    let judged = async {
        loop {
            let verdict = on.guard.check(&signal, 1_782_907_200_000);
            if verdict.would_be_refused() {
                return verdict;
            }
            assert_eq!(verdict.unjudged[0].check, "size");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let verdict = tokio::time::timeout(Duration::from_secs(20), judged).await.unwrap();
    assert_eq!(verdict.concerns[0].code, "below_minimum");
    stop.cancel();
    reading.await.unwrap();
    exchange.await.unwrap();
}

#[test]
fn what_is_no_live_price_is_refused_with_what_is_allowed() {
    for (prices, part) in [
        ("walk:1", "allowed: none, push, coinbase"),
        ("prices.csv", "allowed: none, push, coinbase"),
        ("push:x", "nothing may follow push"),
        ("coinbase:http://host", "coinbase"),
    ] {
        let error = config(&["--guard.prices", prices]).unwrap_err();
        assert!(error.contains(part) && error.contains("guard.prices"), "{error}");
    }
    let error = config(&["--guard.prices", "coinbase", "--guard.pairs", "EURUSD"]).unwrap_err();
    assert!(error.contains("guard.pairs"), "{error}");
    assert_eq!(config(&["--guard.prices", "push"]).unwrap().prices, Prices::Push);
    let usual = config(&["--guard.prices", "coinbase"]).unwrap().prices;
    let Prices::Coinbase { url: None, pairs } = usual else { panic!("{usual:?}") };
    assert!(pairs.iter().any(|pair| pair.as_str() == "BTCUSDC"), "{pairs:?}");
}
