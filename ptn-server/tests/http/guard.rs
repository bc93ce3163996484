//! The risk guard at the door: verdicts in answers, refusals that store nothing, checks, prices.

use std::sync::Arc;
use std::time::Duration;

use ptn_core::guard::{Guard, GuardMode, GuardVerdict, OrderGuard};
use ptn_core::paper::guard::{GuardSettings, RiskGuard};
use ptn_core::record::{DeliveryState, ValidatorRecord};
use ptn_core::rules::Era;
use ptn_core::signal::Signal;
use ptn_core::store::{Filter, SignalStore};
use ptn_server::AppGuard;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{KEY, Server, accepted, eventually, record};

/// A server whose guard knows that ETHUSDC is halted.
async fn server(mode: GuardMode) -> Server {
    let mut settings = GuardSettings::default();
    settings.halted = ["ETHUSDC".into()].into_iter().collect();
    let risk = RiskGuard::new(Era::Y2026, settings).unwrap();
    let guard = Guard::new(mode, Arc::new(risk));
    Server::guarded(AppGuard { guard, takes_prices: true }).await
}

fn order(uuid: &str, pair: &str, side: &str) -> String {
    json!({"trade_pair": pair, "order_type": side, "leverage": 0.5, "order_uuid": uuid}).to_string()
}

async fn stored(server: &Server) -> usize {
    server.store.list(&Filter::default()).await.unwrap().len()
}

fn codes(guard: &Value) -> Vec<&str> {
    guard["concerns"].as_array().unwrap().iter().map(|c| c["code"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn warn_accepts_and_shows_the_verdict() {
    let server = server(GuardMode::Warn).await;
    server.deliver(accepted);
    let answer = server.submit(&order("a", "BTCUSDC", "LONG")).await;
    assert_eq!((answer.status, &answer.json()["guard"]["verdict"]), (200, &json!("clear")));
    let answer = server.submit(&order("b", "ETHUSDC", "LONG")).await;
    let guard = &answer.json()["guard"];
    assert_eq!((answer.status, codes(guard)), (200, vec!["pair_halted"]));
    assert_eq!((&guard["verdict"], &guard["mode"]), (&json!("refused"), &json!("warn")));
    assert_eq!(guard["blocked"], false);
    let concern = &guard["concerns"][0];
    assert!(concern["text"].as_str().unwrap().contains("temporarily halted"), "{concern}");
    // It was accepted: whoever sends it again trades twice.
    let action = concern["action"].as_str().unwrap();
    assert!(action.starts_with("it is accepted all the same, and validators may"), "{concern}");
    assert!(action.ends_with("before you have looked: ptn-cli signals show b"), "{concern}");

    // The old endpoint says what it always said, and more only when there is something to say.
    let with_key = |body: &str| body.replacen('{', r#"{"api_key":"k","#, 1);
    let clear = server.receive(&with_key(&order("c", "SOLUSDC", "LONG"))).await;
    let keys: Vec<String> = clear.json().as_object().unwrap().keys().cloned().collect();
    assert_eq!((clear.status, keys), (200, vec!["message".to_owned(), "order_uuid".to_owned()]));
    let told = server.receive(&with_key(&order("d", "ETHUSDC", "LONG"))).await;
    assert_eq!((told.status, codes(&told.json()["guard"])[0]), (200, "pair_halted"));
    assert!(told.body.contains("do not send it again before"), "{}", told.body);
    assert_eq!(stored(&server).await, 4);
}

#[tokio::test]
async fn refuse_stores_nothing_and_says_why() {
    let server = server(GuardMode::Refuse).await;
    server.deliver(accepted);
    let answer = server.submit(&order("h", "ETHUSDC", "LONG")).await;
    let body = answer.json();
    assert_eq!(
        (answer.status, &body["success"], &body["code"]),
        (400, &json!(false), &json!("guard_refused"))
    );
    assert_eq!((&body["order_uuid"], &body["order_json"]), (&json!("h"), &Value::Null));
    assert!(answer.text("error_message").starts_with("Trade pair [ETHUSDC] has been temporarily"));
    assert!(answer.text("message").starts_with("Order not sent: the risk guard refused it"));
    assert!(!answer.body.contains("accepted all the same"), "{}", answer.body);
    assert_eq!(
        (&body["guard"]["blocked"], codes(&body["guard"])),
        (&json!(true), vec!["pair_halted"])
    );

    let body = order("h", "ETHUSDC", "LONG").replacen('{', r#"{"api_key":"k","#, 1);
    let answer = server.receive(&body).await;
    assert_eq!((answer.status, answer.text("code").as_str()), (400, "guard_refused"));
    // A webhook of TradingView, as text.
    let alert =
        server.send("POST", "/api/receive-signal", &[("Content-Type", "text/plain")], &body).await;
    assert_eq!((alert.status, alert.text("code").as_str()), (400, "guard_refused"));
    assert_eq!(stored(&server).await, 0);
    let status = server.ask("GET", "/api/order-status/h", "").await;
    assert_eq!(status.status, 404);

    // What closes is let through, and so is everything else.
    for (uuid, pair, side) in [("f", "ETHUSDC", "FLAT"), ("b", "BTCUSDC", "LONG")] {
        assert_eq!(server.submit(&order(uuid, pair, side)).await.status, 200, "{pair} {side}");
    }
    let metrics = server.ask("GET", "/metrics", "").await.body;
    for line in [
        "ptn_guard_blocked_total 3",
        "ptn_guard_verdicts_total{verdict=\"clear\"} 1",
        "ptn_guard_failures_total 0",
        "ptn_guard_drawdown_points_left{rule=\"eod\",estimated=\"yes\"} 8",
        "ptn_signals_rejected_total{code=\"guard_refused\"} 3",
    ] {
        assert!(metrics.lines().any(|l| l.starts_with(line)), "{line} in\n{metrics}");
    }
}

#[tokio::test]
async fn a_repeat_of_an_accepted_order_is_answered_and_not_judged() {
    let server = server(GuardMode::Refuse).await;
    server.deliver(|_| vec![record(DeliveryState::Accepted, "accepted", "")]);
    // The second would be in the cooldown, were it another order.
    for _ in 0..2 {
        assert_eq!(server.submit(&order("a", "BTCUSDC", "LONG")).await.status, 200);
    }
    let other = server.submit(&order("a", "BTCUSDC", "SHORT")).await;
    assert_eq!((other.status, other.text("code").as_str()), (409, "uuid_conflict"));
}

#[tokio::test]
async fn a_check_answers_without_storing() {
    let server = server(GuardMode::Refuse).await;
    let check = |body: String| {
        let server = &server;
        async move { server.ask("POST", "/api/check-order", &body).await }
    };
    let answer = check(order("c", "BTCUSDC", "LONG")).await;
    let body = answer.json();
    assert_eq!((answer.status, &body["guard"]["verdict"]), (200, &json!("clear")), "{body}");
    assert_eq!((&body["accepted"], &body["order_uuid"]), (&json!(true), &json!("c")));
    assert_eq!(body["signal"]["trade_pair_id"], "BTCUSDC");
    let body = check(order("c", "ETHUSDC", "LONG")).await.json();
    assert_eq!(
        (&body["guard"]["verdict"], &body["guard"]["blocked"]),
        (&json!("refused"), &json!(true))
    );
    assert!(body["message"].as_str().unwrap().contains("temporarily halted"), "{body}");
    let body = check(order("c", "ETHUSDC", "FLAT")).await.json();
    assert_eq!(
        (&body["guard"]["blocked"], &body["guard"]["closes"]),
        (&json!(false), &json!(true))
    );
    // What is no order is answered as submit-order answers it.
    let bad = check(order("c", "BTCUSDC", "up")).await;
    let same = server.submit(&order("c", "BTCUSDC", "up")).await;
    assert_eq!((bad.status, bad.body), (same.status, same.body));
    let unknown =
        server.send("POST", "/api/check-order", &[], &order("c", "BTCUSDC", "LONG")).await;
    assert_eq!(unknown.status, 401);
    assert_eq!(stored(&server).await, 0);

    server.deliver(accepted);
    assert_eq!(server.submit(&order("used", "BTCUSDC", "LONG")).await.status, 200);
    let again = check(order("used", "BTCUSDC", "LONG")).await.json();
    assert_eq!(codes(&again["guard"]), ["already_received"]);
    let other = check(order("used", "BTCUSDC", "SHORT")).await.json();
    assert_eq!(
        (codes(&other["guard"]), &other["guard"]["verdict"]),
        (vec!["uuid_conflict"], &json!("refused"))
    );
}

#[tokio::test]
async fn acknowledged_orders_and_pushed_prices_decide() {
    let server = server(GuardMode::Refuse).await;
    server.deliver(|_| {
        let mut record = record(DeliveryState::Accepted, "accepted", "");
        record.at = jiff::Timestamp::now().as_millisecond();
        record.order_json = "{'price': 100000.0}".to_owned();
        vec![record]
    });
    let open =
        json!({"trade_pair": "BTCUSDC", "order_type": "LONG", "value": 90000, "order_uuid": "o"});
    assert_eq!(server.submit(&open.to_string()).await.status, 200);
    let price = r#"[{"trade_pair":"BTCUSDC","price":"96000"},{"trade_pair":"NOTAPAIR","price":1}]"#;
    let pushed = server.ask("POST", "/api/prices", price).await;
    assert_eq!((pushed.status, pushed.json()), (200, json!({"taken": 1, "left_out": 1})));
    let next = json!({"trade_pair": "SOLUSDC", "order_type": "LONG", "value": 1000});
    // The acknowledgement is learnt from the store, a moment later.
    let body = eventually(|| async {
        let body = server.ask("POST", "/api/check-order", &next.to_string()).await.json();
        (body["guard"]["verdict"] == "alert").then_some(body)
    })
    .await;
    assert_eq!(codes(&body["guard"]), ["drawdown_near"]);
    let left = body["guard"]["drawdown"][0]["points_left"].as_f64().unwrap();
    assert!((left - 1.373).abs() < 1e-6, "{left}");
    for bad in ["", "[]", r#"{"trade_pair":"BTCUSDC"}"#, r#"{"trade_pair":"BTCUSDC","price":-1}"#] {
        let answer = server.ask("POST", "/api/prices", bad).await;
        assert_eq!(answer.status, 400, "{bad}");
        assert!(answer.text("code").starts_with("prices_"), "{}", answer.body);
    }
    assert_eq!(server.send("POST", "/api/prices", &[], price).await.status, 401);
}

#[tokio::test]
async fn without_a_guard_nothing_is_judged_and_no_price_is_taken() {
    let server = Server::start(Era::Y2026).await;
    server.deliver(accepted);
    let answer = server.submit(&order("a", "ETHUSDC", "LONG")).await;
    assert_eq!((answer.status, answer.json().get("guard")), (200, None));
    let body = server.ask("POST", "/api/check-order", &order("b", "ETHUSDC", "LONG")).await.json();
    assert_eq!(body["guard"], Value::Null);
    assert!(body["message"].as_str().unwrap().contains("guard is off"), "{body}");
    let answer = server.ask("POST", "/api/prices", r#"{"trade_pair":"BTCUSDC","price":1}"#).await;
    assert_eq!((answer.status, answer.text("code").as_str()), (409, "prices_not_taken"));
    assert!(!server.ask("GET", "/metrics", "").await.body.contains("ptn_guard"));
}

#[tokio::test]
async fn a_live_view_sees_alerts() {
    let server = server(GuardMode::Warn).await;
    let mut stream = server.connect().await;
    let head = format!("GET /api/events HTTP/1.1\r\nHost: test\r\nAuthorization: {KEY}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut seen = String::new();
    let mut piece = [0_u8; 4096];
    let read = async {
        while !seen.contains("event: guard\ndata: ") || !seen.ends_with("\r\n") {
            if seen.contains(": connected") && !seen.contains("event:") {
                let body = order("h", "ETHUSDC", "LONG").replacen('{', r#"{"api_key":"k","#, 1);
                assert_eq!(server.receive(&body).await.status, 200);
            }
            let n = stream.read(&mut piece).await.unwrap();
            assert!(n > 0, "the stream ended: {seen}");
            seen.push_str(&String::from_utf8_lossy(&piece[..n]));
        }
    };
    tokio::time::timeout(Duration::from_secs(20), read).await.expect("an alert in time");
    let data = seen.split("event: guard\ndata: ").nth(1).unwrap().lines().next().unwrap();
    let alert: Value = serde_json::from_str(data).unwrap();
    assert_eq!((&alert["order_uuid"], &alert["trade_pair"]), (&json!("h"), &json!("ETHUSDC")));
    assert_eq!((&alert["verdict"], codes(&alert)), (&json!("refused"), vec!["pair_halted"]));
    assert!(seen.contains("event: accepted"), "{seen}");
}

/// A guard that never gives a verdict.
struct Panicking;

impl OrderGuard for Panicking {
    fn judge(&self, _: &Signal, _: i64) -> GuardVerdict {
        panic!("judge")
    }
    fn acknowledged(&self, _: &Signal, _: &ValidatorRecord) {
        panic!("acknowledged")
    }
    fn standing(&self, _: i64) -> ptn_core::guard::Standing {
        panic!("standing")
    }
}

#[tokio::test]
async fn a_guard_that_fails_keeps_nobody_out() {
    let guard = Guard::new(GuardMode::Refuse, Arc::new(Panicking));
    let server = Server::guarded(AppGuard { guard, takes_prices: true }).await;
    server.deliver(accepted);
    let answer = server.submit(&order("a", "BTCUSDC", "LONG")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["guard"]["unjudged"][0]["check"], "guard");
    assert_eq!(server.ask("GET", "/metrics", "").await.status, 200);
    let price = server.ask("POST", "/api/prices", r#"{"trade_pair":"BTCUSDC","price":1}"#).await;
    assert_eq!(price.json(), json!({"taken": 0, "left_out": 1}));
}
