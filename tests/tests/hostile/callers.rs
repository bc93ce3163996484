//! Callers that repeat, guess, smuggle and lie about sizes and names. A good caller beside them is
//! served on one kept connection, and nothing is stored but what was answered with 200.

use std::time::Duration;

use ptn_core::rules::{Era, Rules};
use ptn_core::signal::Signal;
use ptn_core::store::SignalStore;
use ptn_core::store::fs::probe;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use crate::serving::*;

#[tokio::test]
async fn of_a_hundred_equal_requests_at_once_one_is_new_and_the_others_are_told_so() {
    let server = Server::start(|_| {}).await;
    let mut good = Caller::of(&server, "good", 2).await;
    let mut racing = JoinSet::new();
    for _ in 0..100 {
        let mut stream = server.connect().await;
        racing.spawn(async move {
            stream.write_all(receive("same").as_bytes()).await.unwrap();
            read_answer(&mut stream).await.expect("an answer")
        });
        good.is_served(&server).await;
    }
    let (mut new, mut again) = (0, 0);
    while let Some(answer) = racing.join_next().await {
        let answer = answer.unwrap();
        assert_eq!((answer.status, answer.json()["order_uuid"].as_str()), (200, Some("same")));
        match answer.json()["already_received"].as_bool() {
            Some(true) => again += 1,
            _ => new += 1,
        }
    }
    assert_eq!((new, again), (1, 99));
    good.all_stored(&server, &["same"]).await;
}

#[tokio::test]
async fn a_captured_request_sent_again_adds_nothing_even_after_it_is_finished() {
    let server = Server::start(|_| {}).await;
    let mut good = Caller::of(&server, "good", 2).await;
    let captured = receive("captured");
    let first = server.raw(captured.as_bytes()).await.unwrap();
    assert_eq!((first.status, first.json().get("already_received")), (200, None));
    // Also once it is finished.
    for round in 0..20 {
        if round == 10 {
            finish_all(&server).await;
        }
        let again = server.raw(captured.as_bytes()).await.unwrap();
        let told = again.json()["already_received"].as_bool();
        assert_eq!((again.status, told), (200, Some(true)), "{again:?}");
        good.is_served(&server).await;
    }
    // With one field changed it is another order under a used name.
    let changed = captured.replace("\"value\":1,", "\"value\":9,");
    let refused = server.raw(changed.as_bytes()).await.unwrap();
    assert_eq!((refused.status, refused.code().as_str()), (409, "uuid_conflict"), "{refused:?}");
    good.all_stored(&server, &["captured"]).await;
}

async fn finish_all(server: &Server) {
    use ptn_core::record::SignalState;
    use ptn_core::store::conformance::report;
    for lease in server.store.claim(100).await.unwrap() {
        let report = report(SignalState::Processed, vec![]);
        server.store.finish(&lease, &report).await.unwrap();
    }
}

#[tokio::test]
async fn a_thousand_wrong_keys_are_throttled_and_the_right_key_is_served_all_along() {
    let server = Server::start(|config| {
        // The rate of an address as a whole is another test's.
        config.limits = true;
        config.set("server.address_rate", "100000/100000").unwrap();
    })
    .await;
    // From the same address as the guesses.
    let mut good = Caller::of(&server, "good", 1).await;
    let (mut refused, mut throttled) = (0, 0);
    for n in 0..1000 {
        let guess = receive("stolen").replace(KEY, &format!("guess-{n}"));
        let answer = server.raw(guess.as_bytes()).await.unwrap();
        match (answer.status, answer.code().as_str()) {
            (401, "auth_invalid") => refused += 1,
            (429, "auth_throttled") => {
                assert!(answer.head.to_lowercase().contains("retry-after: "), "{answer:?}");
                throttled += 1;
            }
            _ => panic!("{answer:?}"),
        }
        if n % 50 == 0 {
            good.is_served(&server).await;
        }
    }
    // Twenty per minute, in a test that may reach a second minute on a slow machine.
    assert!((20..=60).contains(&refused), "{refused} guesses were judged");
    assert!(throttled >= 900, "{throttled} guesses were turned away unjudged");
    good.all_stored(&server, &[]).await;
}

#[tokio::test]
async fn tricks_with_headers_store_nothing_that_was_not_the_request() {
    let server = Server::start(|_| {}).await;
    let mut good = Caller::of(&server, "good", 2).await;
    let body = order("trick");
    let length = body.len();
    let head = format!(
        "POST /api/receive-signal HTTP/1.1\r\nHost: x\r\nAuthorization: {KEY}\r\nContent-Type: application/json\r\n"
    );
    let whole = format!("Content-Length: {length}\r\n");
    for (what, request) in [
        ("two lengths", format!("{head}{whole}Content-Length: 5\r\n\r\n{body}")),
        ("a list of lengths", format!("{head}Content-Length: {length}, 5\r\n\r\n{body}")),
        ("a signed length", format!("{head}Content-Length: +{length}\r\n\r\n{body}")),
        ("a negative length", format!("{head}Content-Length: -1\r\n\r\n{body}")),
        ("a hex length", format!("{head}Content-Length: 0x{length:x}\r\n\r\n{body}")),
        ("an endless length", format!("{head}Content-Length: {}\r\n\r\n{body}", "9".repeat(40))),
        ("chunked, then not", format!("{head}Transfer-Encoding: chunked, identity\r\n\r\n{body}")),
        ("an unknown coding", format!("{head}Transfer-Encoding: xchunked\r\n\r\n{body}")),
        ("a blank before the colon", format!("{head}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n")),
        ("a folded line", format!("{head}X: a\r\n b\r\n{whole}\r\n{body}")),
        ("a folded length", format!("{head}Content-Length:\r\n {length}\r\n\r\n{body}")),
        ("a line without a colon", format!("{head}Transfer-Encoding\r\n{whole}\r\n{body}")),
        ("a NUL in a value", format!("{head}X: a\0b\r\n{whole}\r\n{body}")),
        ("a lone CR in a value", format!("{head}X: a\rb\r\n{whole}\r\n{body}")),
        ("a blank in a name", format!("{head}X Y: a\r\n{whole}\r\n{body}")),
        ("65 headers", format!("{head}{}{whole}\r\n{body}", "X-A: b\r\n".repeat(65))),
        ("a head without end", format!("{head}X: {}\r\n\r\n", "z".repeat(200_000))),
        (
            "chunk sizes that overflow",
            format!(
                "{head}Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{body}\r\n0\r\n\r\n"
            ),
        ),
        (
            "a negative chunk",
            format!("{head}Transfer-Encoding: chunked\r\n\r\n-1\r\n{body}\r\n0\r\n\r\n"),
        ),
        ("another version", head.replace("HTTP/1.1", "HTTP/9.9") + &whole + "\r\n" + &body),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        ("TLS", "\x16\x03\x01\x02\0\x01\0\x01\u{7f}".to_owned()),
    ] {
        let answer = server.raw(request.as_bytes()).await;
        if let Some(answer) = &answer {
            let refused = [400, 411, 413, 431, 505].contains(&answer.status);
            assert!(refused, "{what}: {answer:?}");
        }
        assert_eq!(
            server.stored().await.iter().filter(|s| s.signal.id().as_str() == "trick").count(),
            0,
            "{what}: {answer:?}"
        );
        good.is_served(&server).await;
    }
    good.all_stored(&server, &[]).await;
}

#[tokio::test]
async fn a_request_within_a_request_is_never_carried_out() {
    let server = Server::start(|_| {}).await;
    let mut good = Caller::of(&server, "good", 2).await;
    let smuggled = receive("smuggled");
    let head = format!(
        "POST /api/receive-signal HTTP/1.1\r\nHost: x\r\nAuthorization: {KEY}\r\nContent-Type: application/json\r\n"
    );
    let chunked = |body: &str| format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    // By the length the inner request is body, by the chunks it would be the next request, and the
    // other way round. Chunks win where both are there (RFC 9112, 6.3), whatever their order.
    let outer = order("outer");
    for (n, (lengths, body)) in [
        (
            format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", chunked(&outer).len()),
            chunked(&outer),
        ),
        (
            format!("Transfer-Encoding: chunked\r\nContent-Length: {}\r\n", chunked(&outer).len()),
            chunked(&outer),
        ),
        ("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n".to_owned(), chunked(&smuggled)),
        ("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n".to_owned(), chunked(&smuggled)),
        (format!("Content-Length: {}\r\n", smuggled.len()), smuggled.clone()),
    ]
    .into_iter()
    .enumerate()
    {
        let request = format!("{head}{lengths}\r\n{body}");
        let answer = server.raw(request.as_bytes()).await.unwrap();
        // The first two are one whole order; the others have a request where JSON should be.
        let wanted = if n < 2 { (200, "") } else { (400, "body_not_json") };
        assert_eq!((answer.status, answer.code().as_str()), wanted, "{n}: {answer:?}");
        good.is_served(&server).await;
    }
    good.all_stored(&server, &["outer"]).await;
}

#[tokio::test]
async fn bare_line_feeds_are_one_request_and_not_two() {
    let server = Server::start(|_| {}).await;
    let mut good = Caller::of(&server, "good", 2).await;
    let request = receive("bare").replace("\r\n", "\n");
    if let Some(answer) = server.raw(request.as_bytes()).await {
        assert!([200, 400].contains(&answer.status), "{answer:?}");
        let stored = server.stored().await.iter().any(|s| s.signal.id().as_str() == "bare");
        assert_eq!(stored, answer.status == 200, "what was answered with 200 is stored");
    }
    good.is_served(&server).await;
}

#[tokio::test]
async fn uuids_that_are_paths_are_refused_and_no_file_appears_anywhere() {
    let server = Server::start(|_| {}).await;
    let mut good = Caller::of(&server, "good", 2).await;
    let long = "a".repeat(300);
    for uuid in [
        "../outside",
        "../../outside",
        "/etc/outside",
        "a/b",
        "a\\u0000b",
        "..",
        ".",
        ".hidden",
        "%2e%2e%2foutside",
        "a%2fb",
        "a\\\\b",
        "ordér",
        "\u{202e}drawkcab",
        "a b",
        "a\\nb",
        "",
        &long,
    ] {
        let body = order("UUID").replace("UUID", uuid);
        let answer = server.raw(post("/api/receive-signal", "", &body).as_bytes()).await.unwrap();
        let found = (answer.status, answer.code());
        assert_eq!(found, (400, "order_uuid_invalid".to_owned()), "{uuid:?}: {answer:?}");
        let key =
            format!("Idempotency-Key: {}\r\n", uuid.replace("\\n", " ").replace("\\u0000", "~"));
        let anonymous = r#"{"trade_pair":"BTCUSDC","order_type":"LONG","value":1}"#;
        let answer = server.raw(post("/api/receive-signal", &key, anonymous).as_bytes()).await;
        let answer = answer.unwrap();
        assert_eq!(answer.status, 400, "{uuid:?} as Idempotency-Key: {answer:?}");
        good.is_served(&server).await;
    }
    // In the path, escaped and not.
    for path in [
        "/api/order-status/..%2f..%2fminer_secrets.json",
        "/api/order-status/../../mining/miner_secrets.json",
        "/api/order-status/%00",
        "/api/signals/..%2fminer_secrets.json",
        "/api/signals/%2e%2e/retry",
        "/api/signals/..%5c..%5cx/cancel",
        "/../miner_secrets.json",
        "/mining/miner_secrets.json",
    ] {
        for method in ["GET", "POST"] {
            let request = format!(
                "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {KEY}\r\nContent-Length: 0\r\n\r\n"
            );
            let answer = server.raw(request.as_bytes()).await.unwrap();
            assert!([400, 404, 405].contains(&answer.status), "{method} {path}: {answer:?}");
            assert!(!answer.body.contains(KEY), "{method} {path}: {answer:?}");
        }
    }
    good.all_stored(&server, &[]).await;
    let around: Vec<_> =
        std::fs::read_dir(server.around()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(around, ["mining"], "nothing beside the data directory");
}

#[tokio::test]
async fn bodies_of_every_wrong_size_are_refused_and_the_next_caller_is_served() {
    let server = Server::start(|config| config.body_timeout = Duration::from_millis(700)).await;
    let mut good = Caller::of(&server, "good", 2).await;
    let big = format!("{{\"a\":\"{}\"}}", "x".repeat(300_000));
    let answer = server.raw(post("/api/receive-signal", "", &big).as_bytes()).await.unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (413, "body_too_large"));
    good.is_served(&server).await;
    // Announced, but never sent.
    let head =
        post("/api/receive-signal", "", "").replace("Content-Length: 0", "Content-Length: 9");
    let mut stream = server.connect().await;
    stream.write_all(head.as_bytes()).await.unwrap();
    good.is_served(&server).await;
    let answer = read_answer(&mut stream).await.unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (408, "body_timeout"));
    // Announced, and the connection ends.
    let answer = server.raw(format!("{head}{{").as_bytes()).await.unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (400, "body_incomplete"));
    // Chunks of one byte, for ever.
    let head = head.replace("Content-Length: 9", "Transfer-Encoding: chunked");
    let mut stream = server.connect().await;
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let dripping = tokio::spawn(async move {
        while writer.write_all(b"1\r\n \r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    good.is_served(&server).await;
    let mut text = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut reader, &mut text).await.ok();
    assert!(text.starts_with("HTTP/1.1 408") && text.contains("body_timeout"), "{text}");
    dripping.await.unwrap();
    good.all_stored(&server, &[]).await;
}

#[tokio::test]
async fn json_bombs_are_refused_in_a_short_answer() {
    let server = Server::start(|_| {}).await;
    let mut good = Caller::of(&server, "good", 2).await;
    let wide: String = (0..20_000).map(|n| format!("\"k{n}\":{{}},")).collect();
    let signal = r#""trade_pair":"BTCUSDC","order_type":"LONG","value":"#;
    for (what, body, code) in [
        ("deep arrays", "[".repeat(200_000), "body_not_json"),
        ("deep objects", "{\"a\":".repeat(40_000), "body_not_json"),
        ("65 levels", format!("{{\"a\":{}{}}}", "[".repeat(65), "]".repeat(65)), "body_not_json"),
        ("a long number", format!("{{{signal}{}}}", "9".repeat(200_000)), ""),
        ("a huge exponent", format!("{{{signal}1e999999999}}"), "non_finite"),
        ("a lone surrogate", format!("{{{signal}1,\"a\":\"\\ud800\"}}"), "body_not_json"),
        ("cut in a text", "{\"a\":\"\u{fffd}".to_owned(), "body_not_json"),
        ("not a number", format!("{{{signal}NaN}}"), ""),
        ("a list of signals", format!("[{}]", vec!["{}"; 50_000].join(",")), "body_not_object"),
        ("many members", format!("{{{wide}\"trade_pair\":\"BTCUSDC\"}}"), ""),
    ] {
        let answer = server.raw(post("/api/receive-signal", "", &body).as_bytes()).await.unwrap();
        assert_eq!(answer.status, 400, "{what}: {answer:?}");
        let known = code.is_empty() && !answer.code().is_empty() || answer.code() == code;
        assert!(known, "{what}: {answer:?}");
        assert!(answer.body.len() < 2_000, "{what}: {} bytes", answer.body.len());
        good.is_served(&server).await;
    }
    good.all_stored(&server, &[]).await;
}

/// Time to read a body with so many fields that nobody knows, in one way or the other.
fn time_to_read(fields: usize, in_a_file: bool) -> Duration {
    let rules = Rules::load(Era::Y2026).unwrap();
    let value = if in_a_file { "null" } else { "1" };
    let unknown: String = (0..fields).map(|n| format!("\"{n:06}\":{value},")).collect();
    let known = r#""trade_pair":"BTCUSDC","order_type":"LONG","value":1"#;
    let body = format!("{{{unknown}{known}}}");
    let began = std::time::Instant::now();
    let signal = if in_a_file {
        probe::foreign_file("a", body.as_bytes(), &rules).unwrap()
    } else {
        Signal::from_json(body.as_bytes(), &rules).unwrap()
    };
    let took = began.elapsed();
    assert_eq!(signal.body().len(), 4 + if in_a_file { 0 } else { fields });
    took
}

#[test]
fn a_body_of_many_fields_costs_in_proportion_to_its_length() {
    for in_a_file in [false, true] {
        // Eight times the fields: 8 times the time where it is linear, 64 times where it is not. A
        // busy machine disturbs single readings, so one that shows it is enough.
        let shows = || {
            let (few, many) = (time_to_read(2_000, in_a_file), time_to_read(16_000, in_a_file));
            many.as_secs_f64() / few.as_secs_f64() < 30.0
        };
        assert!((0..20).any(|_| shows()), "in a file {in_a_file}");
    }
}
