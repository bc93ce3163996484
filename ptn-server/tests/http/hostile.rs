//! Clients that are slow, too many, too large or malformed.

use std::time::Duration;

use ptn_core::rules::Era;
use ptn_core::store::{Filter, SignalStore};
use ptn_server::Network;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Server, read_answer};

const LONG: &str = r#"{"api_key":"k","trade_pair":"BTCUSDC","order_type":"LONG","value":1}"#;

fn post(body: &str, more: &str) -> String {
    format!(
        "POST /api/receive-signal HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{more}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

async fn is_closed(stream: &mut TcpStream) {
    let reading = async {
        let mut piece = [0_u8; 4096];
        while let Ok(1..) = stream.read(&mut piece).await {}
    };
    tokio::time::timeout(Duration::from_secs(20), reading).await.expect("the server closes it");
}

#[tokio::test]
async fn slow_clients_are_cut_and_good_ones_served_meanwhile() {
    let server = Server::with(Era::Y2026, |config| {
        config.header_timeout = Duration::from_millis(300);
        config.body_timeout = Duration::from_millis(300);
    })
    .await;
    let mut silent = server.connect().await;
    let mut slow_head = server.connect().await;
    slow_head.write_all(b"POST /api/receive-signal HT").await.unwrap();
    let mut slow_body = server.connect().await;
    let text = post(LONG, "");
    slow_body.write_all(&text.as_bytes()[..text.len() - 5]).await.unwrap();
    assert_eq!(server.receive(LONG).await.status, 200);
    let answer = read_answer(&mut slow_body).await.unwrap();
    assert_eq!((answer.status, answer.text("code").as_str()), (408, "body_timeout"));
    is_closed(&mut slow_body).await;
    is_closed(&mut slow_head).await;
    is_closed(&mut silent).await;
    assert_eq!(server.store.list(&Filter::default()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_client_that_never_reads_its_answers_is_cut() {
    let server = Server::with(Era::Y2026, |c| c.write_timeout = Duration::from_millis(300)).await;
    let mut stream = server.connect().await;
    let page = "GET /docs HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1000);
    let writing = async { while stream.write_all(page.as_bytes()).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(20), writing).await.expect("the server closes it");
}

#[tokio::test]
async fn bodies_that_are_too_large_are_refused_however_they_come() {
    let server = Server::start(Era::Y2026).await;
    let big = format!("{{\"api_key\":\"{}\"}}", "x".repeat(300_000));
    let answer = server.receive(&big).await;
    assert_eq!((answer.status, answer.text("code").as_str()), (413, "body_too_large"));
    assert_eq!(answer.header("connection"), Some("close"));
    let mut stream = server.connect().await;
    let head = "POST /api/submit-order HTTP/1.1\r\nHost: x\r\nAuthorization: k\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("8000\r\n{}\r\n", "y".repeat(0x8000));
    let (mut reader, mut writer) = stream.split();
    let writing = async { while writer.write_all(chunk.as_bytes()).await.is_ok() {} };
    let reading = async {
        let mut text = String::new();
        let mut piece = [0_u8; 4096];
        while !text.contains("body_too_large") {
            match reader.read(&mut piece).await {
                Ok(n @ 1..) => text.push_str(&String::from_utf8_lossy(&piece[..n])),
                _ => break,
            }
        }
        text
    };
    let text = tokio::select! {
        text = reading => text,
        () = writing => String::from("413 (cut while writing)"),
    };
    assert!(text.contains("413"), "{text}");
    // Exactly the limit passes.
    let pad = 256 * 1024 - LONG.len();
    assert_eq!(server.receive(&format!("{LONG}{}", " ".repeat(pad))).await.status, 200);
    assert_eq!(server.receive(&format!("{LONG}{}", " ".repeat(pad + 1))).await.status, 413);
}

#[tokio::test]
async fn a_connection_serves_many_requests() {
    let server = Server::start(Era::Y2026).await;
    let mut stream = server.connect().await;
    for _ in 0..50 {
        stream.write_all(post(LONG, "").as_bytes()).await.unwrap();
        assert_eq!(read_answer(&mut stream).await.unwrap().status, 200);
    }
    // A refusal does not end it either.
    stream.write_all(post("{}", "").as_bytes()).await.unwrap();
    assert_eq!(read_answer(&mut stream).await.unwrap().status, 401);
    stream.write_all(post(LONG, "").as_bytes()).await.unwrap();
    assert_eq!(read_answer(&mut stream).await.unwrap().status, 200);
}

#[tokio::test]
async fn smuggled_and_malformed_requests_store_nothing() {
    let server = Server::start(Era::Y2026).await;
    let head = "POST /api/receive-signal HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    let length = LONG.len();
    for text in [
        format!("{head}Content-Length: {length}\r\nContent-Length: 5\r\n\r\n{LONG}"),
        format!("{head}Content-Length: +{length}\r\n\r\n{LONG}"),
        format!("{head}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n{LONG}"),
        format!("{head}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
        format!("{head}Content-Length: -1\r\n\r\n{LONG}"),
        format!("{head}X: a\0b\r\nContent-Length: {length}\r\n\r\n{LONG}"),
        format!("{head}{}Content-Length: {length}\r\n\r\n{LONG}", "X-A: b\r\n".repeat(100)),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        "\x16\x03\x01\x02\0\x01\0".to_owned(),
        format!("{head}X: {}\r\n\r\n", "z".repeat(200_000)),
    ] {
        let mut stream = server.connect().await;
        // The server may close while this is still being written.
        drop(stream.write_all(text.as_bytes()).await);
        drop(stream.shutdown().await);
        if let Some(answer) = read_answer(&mut stream).await {
            assert!((400..500).contains(&answer.status), "{text:?}: {}", answer.status);
        }
    }
    assert!(server.store.list(&Filter::default()).await.unwrap().is_empty());
}

#[tokio::test]
async fn hostile_json_is_refused() {
    let server = Server::start(Era::Y2026).await;
    for body in [
        "[".repeat(100_000),
        format!("{{\"api_key\":\"k\",\"a\":{}1{}}}", "[".repeat(200), "]".repeat(200)),
        "{\"api_key\":\"\\ud800\"}".to_owned(),
        format!(
            "{{\"api_key\":\"k\",\"trade_pair\":\"BTCUSDC\",\"order_type\":\"LONG\",\"value\":{}}}",
            "9".repeat(100_000)
        ),
        "\u{0}".to_owned(),
    ] {
        let answer = server.receive(&body).await;
        assert_eq!(answer.status, 400, "{}", answer.body);
        assert!(answer.body.len() < 2000, "{}", answer.body.len());
    }
}

#[tokio::test]
async fn connections_are_capped_in_all_and_per_address() {
    for per_address in [true, false] {
        let server = Server::with(Era::Y2026, |config| {
            if per_address {
                config.max_connections_per_address = 2;
            } else {
                config.max_connections = 2;
            }
        })
        .await;
        let mut kept = Vec::new();
        for _ in 0..2 {
            let mut stream = server.connect().await;
            stream.write_all(post(LONG, "").as_bytes()).await.unwrap();
            assert_eq!(read_answer(&mut stream).await.unwrap().status, 200);
            kept.push(stream);
        }
        let answer = read_answer(&mut server.connect().await).await.unwrap();
        assert_eq!((answer.status, answer.text("code").as_str()), (503, "too_many_connections"));
        drop(kept);
        let server = &server;
        crate::harness::eventually(|| async move {
            let mut stream = server.connect().await;
            drop(stream.write_all(post(LONG, "").as_bytes()).await);
            read_answer(&mut stream).await.filter(|a| a.status == 200)
        })
        .await;
    }
}

#[tokio::test]
async fn rates_are_limited_per_key_and_per_address() {
    let server = Server::with(Era::Y2026, |config| {
        config.set("server.limits", "on").unwrap();
        config.set("server.key_rate", "1/3").unwrap();
        config.set("server.address_rate", "1/8").unwrap();
    })
    .await;
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(server.receive(LONG).await);
    }
    assert_eq!(statuses[2].status, 200);
    assert_eq!((statuses[4].status, statuses[4].text("code").as_str()), (429, "rate_limited"));
    assert!(statuses[4].text("error").contains("API key"), "{}", statuses[4].body);
    assert!(statuses[4].header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    let mut last = statuses[4].clone();
    for _ in 0..10 {
        last = server.send("GET", "/api/signals", &[], "").await;
    }
    assert_eq!(last.status, 429);
    assert!(last.text("error").contains("address"), "{}", last.body);
    // Health checks are not counted.
    assert_eq!(server.send("GET", "/livez", &[], "").await.status, 200);
}

#[tokio::test]
async fn guessing_keys_is_throttled_and_never_keeps_a_right_key_out() {
    let server = Server::with(Era::Y2026, |c| c.auth_failures_per_minute = 3).await;
    for i in 0..5 {
        let answer = server.receive(r#"{"api_key":"wrong"}"#).await;
        assert_eq!(answer.status, if i < 3 { 401 } else { 429 });
    }
    let headers = [("Authorization", "wrong")];
    let answer = server.send("GET", "/api/signals", &headers, "").await;
    assert_eq!((answer.status, answer.text("code").as_str()), (429, "auth_throttled"));
    assert!(answer.header("retry-after").is_some());
    assert_eq!(server.receive(LONG).await.status, 200);
}

#[tokio::test]
async fn only_allowed_addresses_get_in_and_only_trusted_proxies_name_them() {
    let networks = |text: &str| Network::parse_list(text).unwrap();
    let server = Server::with(Era::Y2026, |config| {
        config.allow_from = networks("tradingview");
        config.trusted_proxies = networks("127.0.0.1");
    })
    .await;
    let from = |address: &'static str| {
        let server = &server;
        async move {
            let headers = [("X-Forwarded-For", address)];
            server.send("POST", "/api/receive-signal", &headers, LONG).await
        }
    };
    assert_eq!(from("52.89.214.238").await.status, 200);
    let answer = from("52.89.214.238, 192.0.2.1").await;
    assert_eq!((answer.status, answer.text("error").as_str()), (403, "Forbidden"));
    assert_eq!(server.receive(LONG).await.status, 403);
    assert_eq!(server.send("GET", "/livez", &[], "").await.status, 200);
    let direct = Server::with(Era::Y2026, |c| c.allow_from = networks("tradingview")).await;
    let headers = [("X-Forwarded-For", "52.89.214.238")];
    let answer = direct.send("POST", "/api/receive-signal", &headers, LONG).await;
    assert_eq!(answer.status, 403);
}
