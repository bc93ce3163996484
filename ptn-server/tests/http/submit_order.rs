//! `POST /api/submit-order`, `GET /api/order-status` and `POST /api/bracket-orders/batch`.

use std::time::Duration;

use ptn_core::record::DeliveryState;
use ptn_core::rules::Era;
use ptn_core::store::{Filter, SignalStore};
use serde_json::{Value, json};

use crate::harness::{Server, accepted, finish, record};

const LONG: &str = r#"{"trade_pair":"BTCUSDC","order_type":"LONG","value":1000}"#;

fn with_uuid(uuid: &str) -> String {
    LONG.replace('}', &format!(r#","order_uuid":"{uuid}"}}"#))
}

#[tokio::test]
async fn a_delivered_order_is_answered_as_the_newest_server_does() {
    let server = Server::start(Era::Y2026).await;
    server.deliver(accepted);
    let answer = server.submit(&with_uuid("o-1")).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let body = answer.json();
    let keys: Vec<_> =
        answer.body.split("\":").take(6).map(|k| k.rsplit('"').next().unwrap()).collect();
    let wanted =
        ["success", "order_uuid", "order_json", "error_message", "processing_time", "message"];
    assert_eq!(keys, wanted);
    assert_eq!(body["success"], true);
    assert_eq!(body["order_uuid"], "o-1");
    assert_eq!(body["order_json"], "{'x': 1}");
    assert_eq!(body["error_message"], "");
    assert!(body["processing_time"].is_number());
    assert_eq!(body["message"], "Order successfully processed by Vanta Network");

    let status = server.ask("GET", "/api/order-status/o-1", "").await;
    assert_eq!((status.status, status.text("status").as_str()), (200, "completed"));
    assert_eq!(status.json()["details"]["signal_data"]["trade_pair"], "BTCUSDC");
    assert_eq!(status.json()["details"]["order_json"], "{'x': 1}");
}

#[tokio::test]
async fn failures_say_what_the_network_said() {
    use DeliveryState::{Expired, Rejected, Unknown};
    for (state, code, words, message, our_code) in [
        (
            Rejected,
            "final",
            "Trade pair [X] is no longer supported.",
            "Order failed on Vanta Network: Trade pair [X] is no longer supported.",
            "rejected",
        ),
        (
            Rejected,
            "connect",
            "connection refused",
            "Failed to connect to Vanta Network, please try again soon",
            "not_reached",
        ),
        (
            Unknown,
            "timeout",
            "no answer within 30 s",
            "Failed to connect to Vanta Network: maybe sent",
            "delivery_unknown",
        ),
        (
            Expired,
            "expired",
            "older than 5 min",
            "Order not sent: it expired: older than 5 min",
            "expired",
        ),
    ] {
        let server = Server::start(Era::Y2026).await;
        server.deliver(move |_| vec![record(state, code, words)]);
        let answer = server.submit(&with_uuid("o")).await;
        assert_eq!(answer.status, 400);
        let body = answer.json();
        assert_eq!(body["success"], false);
        assert_eq!(body["order_json"], Value::Null);
        assert_eq!(body["error_message"], words);
        assert_eq!(body["code"], our_code);
        assert!(answer.text("message").starts_with(message), "{}", answer.body);
        assert_eq!(body["maybe_sent"] == true, state == Unknown, "{}", answer.body);
        let status = server.ask("GET", "/api/order-status/o", "").await;
        assert_eq!((status.status, status.text("status").as_str()), (200, "failed"));
        assert_eq!(status.text("code"), our_code);
        assert!(status.json()["details"]["original_signal"].is_object(), "{}", status.body);
    }
}

#[tokio::test]
async fn an_order_that_was_filled_without_its_bracket_is_a_success_that_says_so() {
    let server = Server::start(Era::Y2026).await;
    let words = "Market order filled successfully, but bracket order creation failed: too close";
    server.deliver(move |_| vec![record(DeliveryState::Accepted, "filled_without_bracket", words)]);
    let answer = server.submit(LONG).await;
    assert_eq!((answer.status, answer.text("success").as_str()), (200, "true"));
    assert_eq!(answer.text("error_message"), words);
    assert_eq!(answer.text("code"), "filled_without_bracket");
}

#[tokio::test]
async fn required_validators_decide_and_copies_do_not() {
    let server = Server::start(Era::Y2026).await;
    let submitting = server.submit(LONG);
    let engine = async {
        let mut watch = server.store.watch();
        let lease = loop {
            if let Some(lease) = server.store.claim(1).await.unwrap().pop() {
                break lease;
            }
            watch.changed().await.unwrap();
        };
        let copy = || {
            let mut copy = record(DeliveryState::Submitted, "", "");
            copy.hotkey = "5Copy".to_owned();
            copy.required = false;
            copy
        };
        let mut target = record(DeliveryState::Submitted, "", "");
        target.order_json = String::new();
        let validators = vec![target, copy()];
        use ptn_core::record::Progress;
        server.store.record(&lease, Progress::Targets { validators }).await.unwrap();
        let validator = record(DeliveryState::Accepted, "accepted", "");
        server.store.record(&lease, Progress::Outcome { validator }).await.unwrap();
        // The copy never ends: the signal stays pending in the store.
        lease
    };
    let (answer, lease) = tokio::join!(submitting, engine);
    assert_eq!(answer.status, 200, "{}", answer.body);
    drop(lease);
}

#[tokio::test]
async fn past_the_deadline_the_answer_is_202_and_the_order_goes_on() {
    let server = Server::with(Era::Y2026, |c| c.submit_deadline = Duration::from_millis(50)).await;
    let answer = server.submit(&with_uuid("slow")).await;
    assert_eq!(answer.status, 202);
    assert_eq!(answer.json()["success"], Value::Null);
    assert_eq!(answer.text("status"), "pending");
    assert_eq!(answer.text("status_url"), "/api/order-status/slow");
    assert_eq!(answer.header("location"), Some("/api/order-status/slow"));
    let status = server.ask("GET", "/api/order-status/slow", "").await;
    assert_eq!((status.status, status.text("status").as_str()), (200, "pending"));
    let lease = server.store.claim(1).await.unwrap().pop().unwrap();
    finish(&server.store, lease, accepted("")).await;
    let again = server.submit(&with_uuid("slow")).await;
    assert_eq!((again.status, again.text("order_json").as_str()), (200, "{'x': 1}"));
}

#[tokio::test]
async fn the_same_order_waits_for_the_same_answer_and_another_is_refused() {
    let server = Server::start(Era::Y2026).await;
    let body = with_uuid("twice");
    let (first, second, engine) = tokio::join!(server.submit(&body), server.submit(&body), async {
        server.deliver(accepted);
    });
    let () = engine;
    assert_eq!((first.status, second.status), (200, 200));
    assert_eq!(server.store.list(&Filter::default()).await.unwrap().len(), 1);
    let other = server.submit(&body.replace("1000", "2000")).await;
    assert_eq!((other.status, other.text("code").as_str()), (409, "uuid_conflict"));
    assert_eq!(other.json()["success"], false);
    assert_eq!(other.text("error"), "Order failed: duplicate order uuid");
    assert_eq!(other.text("message"), "Order failed: duplicate order uuid");
}

#[tokio::test]
async fn bodies_that_are_no_order_are_refused_in_the_known_words() {
    let server = Server::start(Era::Y2026).await;
    let missing = "Invalid request: missing JSON body";
    for (body, text, code) in [
        ("", "Invalid request: 400 Bad Request", "body_not_json"),
        ("{", "Invalid request: 400 Bad Request", "body_not_json"),
        ("{}", missing, "body_empty"),
        ("[]", missing, "body_empty"),
        ("null", missing, "body_empty"),
        ("[1]", "Invalid request: one signal per request", "body_not_object"),
        ("5", "Invalid request: one JSON object is expected", "body_not_object"),
        (
            r#"{"order_type":"UP","trade_pair":"BTCUSDC"}"#,
            "Invalid signal data: No matching order type",
            "bad_order_type",
        ),
        (
            r#"{"trade_pair":"BTCUSDC","order_type":"LONG","value":1,"order_uuid":"../x"}"#,
            "Invalid signal data: ",
            "order_uuid_invalid",
        ),
    ] {
        let answer = server.submit(body).await;
        assert_eq!(answer.status, 400, "{body}");
        assert_eq!(answer.json()["success"], false, "{body}");
        assert!(answer.text("error").starts_with(text), "{body}: {}", answer.body);
        assert_eq!(answer.text("code"), code, "{body}");
    }
    let headers = [("Authorization", "k"), ("Content-Type", "text/plain")];
    let answer = server.send("POST", "/api/submit-order", &headers, LONG).await;
    assert_eq!((answer.status, answer.text("code").as_str()), (400, "body_wrong_content_type"));
    assert!(answer.text("error").starts_with("Invalid request: "));
}

#[tokio::test]
async fn order_status_knows_nothing_of_strangers_and_refuses_paths() {
    let server = Server::start(Era::Y2026).await;
    let answer = server.ask("GET", "/api/order-status/none", "").await;
    assert_eq!(answer.status, 404);
    assert_eq!(
        answer.json(),
        json!({"order_uuid": "none", "status": "not_found", "code": "not_found",
               "message": "Order not found in processed or failed signals"})
    );
    for path in ["..", "%2e%2e%2fetc", ".hidden", "a%00b", &"x".repeat(300)] {
        let answer = server.ask("GET", &format!("/api/order-status/{path}"), "").await;
        assert_eq!(
            (answer.status, answer.text("code").as_str()),
            (400, "order_uuid_invalid"),
            "{path}"
        );
    }
    let answer = server.send("GET", "/api/order-status/none", &[], "").await;
    assert_eq!((answer.status, answer.text("error").as_str()), (401, "Unauthorized access"));
}

#[tokio::test]
async fn a_batch_of_brackets_is_one_edit() {
    let server = Server::start(Era::Y2026).await;
    server.deliver(accepted);
    let body = r#"{"trade_pair":"BTCUSDC","orders":[
        {"action":"create","stop_loss":1,"quantity":2},
        {"order_uuid":"u1","take_profit":3},
        {"action":"cancel","order_uuid":"u2","stop_loss":9}]}"#;
    let answer = server.ask("POST", "/api/bracket-orders/batch", body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.json()["success"], true);
    assert_eq!(answer.json()["processed"], 3);
    assert_eq!(answer.text("error_message"), "");
    let stored = server.store.list(&Filter::default()).await.unwrap().pop().unwrap();
    let wire: Value = serde_json::from_str(&stored.signal.to_wire().to_string()).unwrap();
    assert_eq!(wire["execution_type"], "LIMIT_EDIT");
    assert_eq!(wire["order_type"], "FLAT");
    assert_eq!(
        wire["bracket_orders"],
        json!([{"stop_loss":1,"quantity":2},{"order_uuid":"u1","take_profit":3},{"order_uuid":"u2"}])
    );
    for (body, text) in [
        (r#"{"orders":[]}"#, "Invalid request: missing trade_pair"),
        (r#"{"trade_pair":"BTCUSDC"}"#, "Invalid request: orders must be a non-empty list"),
        (
            r#"{"trade_pair":"BTCUSDC","orders":[]}"#,
            "Invalid request: orders must be a non-empty list",
        ),
        (
            r#"{"trade_pair":"BTCUSDC","orders":[{"action":"cancel"}]}"#,
            "cancel requires order_uuid",
        ),
        (
            r#"{"trade_pair":"BTCUSDC","orders":[{"action":"update","stop_loss":1}]}"#,
            "update requires order_uuid",
        ),
        (
            r#"{"trade_pair":"BTCUSDC","orders":[{"order_uuid":"u"}]}"#,
            "update requires at least one of",
        ),
        (r#"{"trade_pair":"BTCUSDC","orders":[{"action":"jump"}]}"#, "invalid action \"jump\""),
    ] {
        let answer = server.ask("POST", "/api/bracket-orders/batch", body).await;
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.text("error").starts_with(text), "{body}: {}", answer.body);
    }
    // Elsewhere LIMIT_EDIT is unknown, and what is left of it would close the position.
    let old = Server::start(Era::Y2024).await;
    let answer = old.ask("POST", "/api/bracket-orders/batch", body).await;
    assert_eq!((answer.status, answer.text("code").as_str()), (400, "bad_execution_type"));
    assert!(old.store.list(&Filter::default()).await.unwrap().is_empty());
}
