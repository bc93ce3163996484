//! `POST /api/receive-signal`.

use ptn_core::rules::Era;
use ptn_core::store::{Filter, SignalStore};

use crate::harness::Server;

const LONG: &str = r#"{"api_key":"k","trade_pair":"BTCUSD","order_type":"LONG","leverage":0.5}"#;

#[tokio::test]
async fn a_signal_is_stored_and_shown_without_the_key() {
    let server = Server::start(Era::Y2024).await;
    let answer = server.receive(&LONG.replace("\"k\"", "\"k\", \"note\":\"api\"")).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let message = answer.text("message");
    assert!(message.starts_with("Signal {'trade_pair': {'trade_pair_id': 'BTCUSD'"), "{message}");
    assert!(message.ends_with("} received successfully"), "{message}");
    assert!(!message.contains("api_key") && !message.contains("'k'"), "{message}");
    let stored = server.store.list(&Filter::default()).await.unwrap();
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].signal.id().as_str(), answer.text("order_uuid"));
    assert!(stored[0].signal.body().get("api_key").is_none());
}

#[tokio::test]
async fn content_types_of_webhooks_are_read_as_json() {
    for (era, kind, status) in [
        (Era::Y2024, "text/plain; charset=utf-8", 200),
        (Era::Y2024, "", 200),
        (Era::Y2024, "application/json; charset=utf-8", 200),
        (Era::Y2024, "application/x-www-form-urlencoded", 415),
        (Era::Y2025, "application/xml", 400),
    ] {
        let server = Server::start(era).await;
        let headers = [("Content-Type", kind)];
        let answer = server.send("POST", "/api/receive-signal", &headers, LONG).await;
        assert_eq!(answer.status, status, "{kind}: {}", answer.body);
        if status != 200 {
            assert_eq!(answer.text("error"), "Request must be JSON");
            assert_eq!(answer.text("code"), "body_wrong_content_type");
        }
    }
}

#[tokio::test]
async fn the_key_is_judged_before_the_rest_of_the_body() {
    let server = Server::start(Era::Y2024).await;
    let missing = "Missing or invalid Authorization header";
    for (body, status, text) in [
        (r#"{"trade_pair":7}"#, 401, missing),
        ("[]", 401, missing),
        ("{}", 401, missing),
        (r#"{"api_key":"wrong","trade_pair":7}"#, 401, "Invalid API key"),
        (r#"{"api_key":null}"#, 401, "Invalid API key"),
        (r#"{"api_key":["k"]}"#, 401, "Invalid API key"),
        ("null", 400, "Invalid message"),
        ("", 400, "improperly formatted signal received. the body is empty"),
    ] {
        let answer = server.receive(body).await;
        assert_eq!((answer.status, answer.text("error").as_str()), (status, text), "{body}");
    }
    assert!(server.store.list(&Filter::default()).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_key_may_stand_in_the_header_too() {
    let server = Server::start(Era::Y2024).await;
    let body = LONG.replace(r#""api_key":"k","#, "");
    for (key, status) in [("k", 200), ("Bearer k", 200), ("bearer k", 401), ("wrong", 401)] {
        let headers = [("Authorization", key)];
        let answer = server.send("POST", "/api/receive-signal", &headers, &body).await;
        assert_eq!(answer.status, status, "{key}");
    }
    // With a right key the answer says what is wrong with the body.
    for body in ["[]", r#"[{"a":1}]"#, "5", r#""text""#] {
        let answer = server.ask("POST", "/api/receive-signal", body).await;
        assert_eq!(
            (answer.status, answer.text("code").as_str()),
            (400, "body_not_object"),
            "{body}"
        );
    }
}

#[tokio::test]
async fn refusals_have_the_known_texts_with_a_code_and_a_field() {
    let server = Server::start(Era::Y2024).await;
    let answer = server.receive(&LONG.replace("0.5", "30")).await;
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.text("error"),
        "improperly formatted signal received. 1 validation error for Signal\nleverage\n  Leverage must be between 0.001 and 20, provided - [30.0] (type=value_error)"
    );
    assert_eq!(answer.text("code"), "size_out_of_range");
    assert_eq!(answer.text("field"), "leverage");
    let server = Server::start(Era::Y2025).await;
    let answer = server.receive(&LONG.replace("BTCUSD", "NOSUCH")).await;
    assert_eq!((answer.status, answer.text("error").as_str()), (401, "Invalid trade pair"));
    assert_eq!(answer.text("code"), "unknown_trade_pair");
}

#[tokio::test]
async fn a_placeholder_that_tradingview_did_not_fill_in_is_explained() {
    let server = Server::start(Era::Y2026).await;
    let body = r#"{"api_key":"k","trade_pair":"BTCUSDC","order_type":"LONG","leverage":"{{strategy.order.comment}}"}"#;
    let answer = server.receive(body).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text("hint").contains("{{strategy.order.comment}}"), "{}", answer.body);
}

#[tokio::test]
async fn the_same_uuid_is_idempotent_and_another_content_is_a_conflict() {
    let server = Server::start(Era::Y2025).await;
    let body = LONG.replace("\"k\"", "\"k\",\"order_uuid\":\"a-1\"");
    let first = server.receive(&body).await;
    assert_eq!((first.status, first.text("order_uuid").as_str()), (200, "a-1"));
    assert!(first.json().get("already_received").is_none());
    let again = server.receive(&body).await;
    assert_eq!((again.status, again.text("already_received").as_str()), (200, "true"));
    let other = server.receive(&body.replace("0.5", "0.4")).await;
    assert_eq!((other.status, other.text("code").as_str()), (409, "uuid_conflict"));
    assert_eq!(other.text("error"), "Order failed: duplicate order uuid");
    assert_eq!(server.store.list(&Filter::default()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn of_a_hundred_racing_requests_with_one_uuid_exactly_one_content_wins() {
    let server = std::sync::Arc::new(Server::start(Era::Y2025).await);
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..100 {
        let server = server.clone();
        tasks.spawn(async move {
            let size = if i % 2 == 0 { "0.5" } else { "0.25" };
            let body = LONG.replace("\"k\"", "\"k\",\"order_uuid\":\"race\"").replace("0.5", size);
            (size, server.receive(&body).await)
        });
    }
    let mut new = 0;
    let mut won = std::collections::BTreeSet::new();
    while let Some(done) = tasks.join_next().await {
        let (size, answer) = done.unwrap();
        match answer.status {
            200 => {
                won.insert(size);
                new += usize::from(answer.json().get("already_received").is_none());
            }
            409 => {}
            other => panic!("{other}"),
        }
    }
    assert_eq!((new, won.len()), (1, 1));
    assert_eq!(server.store.list(&Filter::default()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_idempotency_key_is_the_uuid() {
    let server = Server::start(Era::Y2025).await;
    let post = |key: &'static str, body: String| {
        let server = &server;
        async move {
            server.send("POST", "/api/receive-signal", &[("Idempotency-Key", key)], &body).await
        }
    };
    let first = post("key-1", LONG.to_owned()).await;
    assert_eq!((first.status, first.text("order_uuid").as_str()), (200, "key-1"));
    assert_eq!(post("\"key-1\"", LONG.to_owned()).await.text("already_received"), "true");
    let bad = post("../key", LONG.to_owned()).await;
    assert_eq!((bad.status, bad.text("code").as_str()), (400, "order_uuid_invalid"));
    assert_eq!(bad.text("field"), "Idempotency-Key");
    let other = LONG.replace("\"k\"", "\"k\",\"order_uuid\":\"key-2\"");
    let conflict = post("key-1", other).await;
    assert_eq!(
        (conflict.status, conflict.text("code").as_str()),
        (400, "idempotency_key_conflict")
    );
}

#[tokio::test]
async fn tradingviews_words_are_translated_only_when_asked_for() {
    let alert = r#"{"api_key":"k","trade_pair":"BTCUSDT","order_type":"buy","leverage":"0.1","idempotency_key":"BTCUSDT-2026-01-01T00:00:00Z"}"#;
    let plain = Server::start(Era::Y2026).await;
    assert_eq!(plain.receive(alert).await.status, 400);
    let server = Server::with(Era::Y2026, |config| {
        for (key, value) in [("actions", "on"), ("tickers", "auto"), ("idempotency", "on")] {
            config.set(&format!("tradingview.{key}"), value).unwrap();
        }
    })
    .await;
    let answer = server.receive(alert).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let message = answer.text("message");
    assert!(message.contains("BTCUSDC") && message.contains("LONG"), "{message}");
    assert_eq!(server.receive(alert).await.text("already_received"), "true");
}

#[tokio::test]
async fn an_empty_body_is_no_json_on_every_era() {
    for era in [Era::Y2024, Era::Y2025, Era::Y2026] {
        let server = Server::start(era).await;
        for body in ["", " \n"] {
            let answer = server.receive(body).await;
            assert_eq!(
                (answer.status, answer.text("code")),
                (400, "body_not_json".into()),
                "{era}"
            );
        }
        let answer = server.submit("").await;
        assert_eq!((answer.status, answer.text("code")), (400, "body_not_json".into()), "{era}");
    }
}
