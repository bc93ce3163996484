//! Requests that the validator does not let in, with the codes of the network.

use std::time::{SystemTime, UNIX_EPOCH};

use hyper::Method;
use ptn_core::json::{Json, Object};
use ptn_core::sign::{Hotkey, Signer as _};
use ptn_core::transport::btauth::{self, Body};
use ptn_tests::http::request;
use serde_json::Value;

use super::Paper;

fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos().try_into().unwrap()
}

fn body(uuid: &str) -> Body {
    let text = format!(
        r#"{{"signal":{{"trade_pair":{{"trade_pair_id":"BTCUSDC"}},"order_type":"LONG","leverage":0.1}},"miner_order_uuid":"{uuid}"}}"#
    );
    let Ok(Json::Object(message)) = Json::parse(text.as_bytes()) else { panic!("{text}") };
    let message: Object = message;
    Body::new(Json::Object(message).to_string())
}

async fn post(
    paper: &Paper,
    key: &Hotkey,
    receiver: &str,
    nonce: u64,
    body: &Body,
) -> (u16, Value) {
    let signed = btauth::headers(key, receiver, body, nonce).unwrap();
    let mut headers: Vec<(&str, &str)> =
        signed.iter().map(|(name, value)| (*name, value.as_str())).collect();
    headers.push(("content-type", "application/json"));
    let address = paper.entry.address().to_string();
    let text = std::str::from_utf8(&body.bytes).unwrap();
    request(&address, Method::POST, btauth::PATH, &headers, text).await
}

#[tokio::test(flavor = "multi_thread")]
async fn only_fresh_requests_for_this_validator_are_let_in() {
    let dir = tempfile::tempdir().unwrap();
    let key = Hotkey::from_seed([7; 32]);
    let mut paper = Paper::start(dir.path(), &["--miner", key.hotkey()]).await;
    paper.prices(&[("BTCUSDC", 100_000.0)]).await;
    let own = paper.entry.hotkey.clone();
    let nonce = now_ns();
    let order = body("a");
    let (status, answer) = post(&paper, &key, &own, nonce, &order).await;
    assert_eq!((status, &answer["successfully_processed"]), (200, &Value::Bool(true)), "{answer}");

    let (status, answer) = post(&paper, &key, &own, nonce, &order).await;
    assert_eq!((status, answer["error"].as_str()), (401, Some("ReplayedRequest")), "{answer}");
    let seen = paper.event("refused").await;
    assert_eq!(seen["status"], 401, "{seen}");

    let old = now_ns() - 60_000_000_000;
    let (status, answer) = post(&paper, &key, &own, old, &body("b")).await;
    assert_eq!((status, answer["error"].as_str()), (401, Some("StaleRequest")), "{answer}");

    let other = Hotkey::from_seed([8; 32]);
    let (status, answer) = post(&paper, &key, other.hotkey(), now_ns(), &body("c")).await;
    assert_eq!((status, answer["error"].as_str()), (403, Some("WrongReceiver")), "{answer}");

    let (status, answer) = post(&paper, &other, &own, now_ns(), &body("d")).await;
    assert_eq!((status, answer["error"].as_str()), (403, Some("blacklisted")), "{answer}");

    let forged = btauth::headers(&key, &own, &body("e"), now_ns()).unwrap();
    let headers: Vec<(&str, &str)> = forged.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let (status, answer) = request(
        &paper.entry.address().to_string(),
        Method::POST,
        btauth::PATH,
        &headers,
        r#"{"signal":{},"miner_order_uuid":"f"}"#,
    )
    .await;
    assert_eq!((status, answer["error"].as_str()), (401, Some("BadSignature")), "{answer}");

    let positions = paper.get("/api/positions").await;
    assert_eq!(positions["accounts"][0]["open"][0]["orders"], 1, "{positions}");
    paper.stop().await;
}

/// A miner waits the minute out that these words ask for; here is what it is told.
#[tokio::test(flavor = "multi_thread")]
async fn too_soon_and_too_often_in_2024() {
    let dir = tempfile::tempdir().unwrap();
    let paper = Paper::start(dir.path(), &["--rules", "2024"]).await;
    paper.prices(&[("BTCUSD", 60_000.0)]).await;
    let (key, own) = (Hotkey::from_seed([7; 32]), paper.entry.hotkey.clone());
    let mut answers = Vec::new();
    for n in 0..11 {
        let order = body(&format!("order-{n}")).bytes;
        let order = String::from_utf8(order.to_vec()).unwrap().replace("BTCUSDC", "BTCUSD");
        answers.push(post(&paper, &key, &own, now_ns(), &Body::new(order)).await.1);
    }
    assert_eq!(answers[0]["successfully_processed"], true, "{}", answers[0]);
    let words = |n: usize| answers[n]["error_message"].as_str().unwrap();
    assert!(words(1).contains("was placed too soon after the previous order"), "{}", words(1));
    assert!(words(10).starts_with("Rate limited. Please wait "), "{}", words(10));
    assert!(answers[10].get("should_retry").is_none(), "{}", answers[10]);
    paper.stop().await;
}
