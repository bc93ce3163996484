//! Our own endpoints, and what every path has in common.

use std::time::Duration;

use ptn_core::record::DeliveryState;
use ptn_core::rules::Era;
use ptn_core::store::SignalStore;
use ptn_server::routes::ROUTES;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Server, accepted, eventually, finish, read_answer, record};

fn order(i: u32) -> String {
    format!(
        r#"{{"api_key":"k","trade_pair":"BTCUSDC","order_type":"LONG","value":{},"order_uuid":"o-{i}"}}"#,
        i + 1
    )
}

#[tokio::test]
async fn signals_are_listed_in_pages_and_shown() {
    let server = Server::start(Era::Y2026).await;
    for i in 0..5 {
        assert_eq!(server.receive(&order(i)).await.status, 200);
    }
    let page = server.ask("GET", "/api/signals?limit=2&state=pending", "").await.json();
    let ids = |page: &serde_json::Value| -> Vec<String> {
        let list = page["signals"].as_array().unwrap();
        list.iter().map(|s| s["order_uuid"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&page), ["o-4", "o-3"]);
    let next = page["next_before"].as_u64().unwrap();
    let page = server.ask("GET", &format!("/api/signals?limit=3&before={next}"), "").await.json();
    assert_eq!(ids(&page), ["o-2", "o-1", "o-0"]);
    assert_eq!(ids(&server.ask("GET", "/api/signals?trade_pair=EURUSD", "").await.json()), [""; 0]);
    assert_eq!(
        ids(&server.ask("GET", "/api/signals?state=processed,failed", "").await.json()),
        [""; 0]
    );
    for query in ["state=done", "limit=0", "limit=x", "before=-1", "pair=x"] {
        let answer = server.ask("GET", &format!("/api/signals?{query}"), "").await;
        assert_eq!((answer.status, answer.text("code").as_str()), (400, "bad_query"), "{query}");
    }
    let shown = server.ask("GET", "/api/signals/o-1", "").await;
    assert_eq!(shown.status, 200);
    assert_eq!(shown.json()["signal"]["value"], 2);
    assert_eq!(server.ask("GET", "/api/signals/none", "").await.status, 404);
}

#[tokio::test]
async fn signals_are_retried_and_cancelled() {
    let server = Server::start(Era::Y2026).await;
    server.receive(&order(1)).await;
    let early = server.ask("POST", "/api/signals/o-1/retry", "").await;
    assert_eq!((early.status, early.text("code").as_str()), (409, "wrong_state"));
    let lease = server.store.claim(1).await.unwrap().pop().unwrap();
    finish(&server.store, lease, vec![record(DeliveryState::Rejected, "connect", "refused")]).await;
    let late = server.ask("POST", "/api/signals/o-1/cancel", "").await;
    assert_eq!(late.status, 409);
    let retry = server.ask("POST", "/api/signals/o-1/retry", "").await;
    assert_eq!((retry.status, retry.text("status").as_str()), (200, "pending"));
    let cancel = server.ask("POST", "/api/signals/o-1/cancel", "").await;
    assert_eq!((cancel.status, cancel.text("cancel_requested").as_str()), (200, "true"));
    for action in ["retry", "cancel"] {
        let path = format!("/api/signals/none/{action}");
        assert_eq!(server.ask("POST", &path, "").await.status, 404);
        assert_eq!(server.send("POST", &path, &[], "").await.status, 401);
    }
}

async fn read_until(stream: &mut TcpStream, text: &mut String, part: &str) {
    let reading = async {
        let mut piece = [0_u8; 4096];
        while !text.contains(part) {
            let n = stream.read(&mut piece).await.unwrap();
            assert!(n > 0, "ended before {part:?}:\n{text}");
            text.push_str(&String::from_utf8_lossy(&piece[..n]));
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reading).await.expect("the part came");
}

#[tokio::test]
async fn events_arrive_live_and_after_a_reconnect() {
    let server = Server::start(Era::Y2026).await;
    let request = "GET /api/events HTTP/1.1\r\nHost: x\r\nAuthorization: k\r\n";
    let mut stream = server.connect().await;
    stream.write_all(format!("{request}\r\n").as_bytes()).await.unwrap();
    let mut text = String::new();
    read_until(&mut stream, &mut text, ": connected").await;
    assert!(text.contains("content-type: text/event-stream"), "{text}");
    server.receive(&order(1)).await;
    read_until(&mut stream, &mut text, "event: accepted").await;
    let lease = server.store.claim(1).await.unwrap().pop().unwrap();
    finish(&server.store, lease, accepted("")).await;
    read_until(&mut stream, &mut text, "event: finished").await;
    read_until(&mut stream, &mut text, "\"state\":\"processed\"").await;
    let first = text.lines().find_map(|l| l.strip_prefix("id: ")).unwrap().to_owned();
    drop(stream);

    let mut stream = server.connect().await;
    let again = format!("{request}Last-Event-ID: {first}\r\n\r\n");
    stream.write_all(again.as_bytes()).await.unwrap();
    let mut text = String::new();
    read_until(&mut stream, &mut text, "event: finished").await;
    assert!(!text.contains("event: accepted") && !text.contains("event: reset"), "{text}");

    let mut stream = server.connect().await;
    let unknown = format!("{request}Last-Event-ID: other-1\r\n\r\n");
    stream.write_all(unknown.as_bytes()).await.unwrap();
    let mut text = String::new();
    read_until(&mut stream, &mut text, "event: accepted").await;
    assert!(text.contains("event: reset"), "{text}");
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let server = Server::start(Era::Y2026).await;
    server.deliver(accepted);
    assert_eq!(server.submit(&order(1)).await.status, 200);
    assert_eq!(server.submit("{}").await.status, 400);
    assert_eq!(server.send("GET", "/no/such/path", &[], "").await.status, 404);
    let server = &server;
    let text = eventually(|| async move {
        let answer = server.send("GET", "/metrics", &[], "").await;
        assert_eq!(answer.status, 200);
        answer.body.contains("ptn_signals_finished_total").then_some(answer.body)
    })
    .await;
    for line in [
        "ptn_signals_accepted_total 1",
        "ptn_signals_rejected_total{code=\"body_empty\"} 1",
        "ptn_http_requests_total{path=\"/api/submit-order\",status=\"200\"} 1",
        "ptn_http_requests_total{path=\"other\",status=\"404\"} 1",
        "ptn_delivery_attempts_total{validator=\"5Validator\"} 1",
        "ptn_delivery_outcomes_total{validator=\"5Validator\",outcome=\"accepted\"} 1",
        "ptn_signals_finished_total{state=\"processed\"} 1",
        "ptn_pending_signals 0",
        "ptn_oldest_pending_seconds 0",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[tokio::test]
async fn every_route_is_served_described_and_guarded() {
    let server = Server::start(Era::Y2026).await;
    let document = server.send("GET", "/openapi.json", &[], "").await.json();
    let page = server.send("GET", "/docs", &[], "").await;
    assert!(page.header("content-security-policy").unwrap().contains("default-src 'none'"));
    let mut described = 0;
    for path in document["paths"].as_object().unwrap().values() {
        described += path.as_object().unwrap().len();
    }
    assert_eq!(described, ROUTES.len());
    for route in ROUTES {
        let described = &document["paths"][route.path][route.method.to_lowercase()];
        assert!(described["summary"].is_string(), "{}", route.path);
        assert!(page.body.contains(route.path), "{}", route.path);
        if route.path == "/api/events" {
            continue; // It never ends; see the test of its own.
        }
        let path = route.path.replace("{uuid}", "some-id");
        let answer = server.send(route.method, &path, &[], "").await;
        assert_ne!(answer.status, 405, "{path}");
        assert!(answer.status != 404 || answer.text("code") != "no_such_path", "{path}");
        if route.path != "/api/receive-signal" {
            assert_eq!(answer.status == 401, route.key, "{path} {}", answer.status);
        }
        let other = if route.method == "GET" { "POST" } else { "GET" };
        let answer = server.send(other, &path, &[], "").await;
        assert_eq!((answer.status, answer.text("code").as_str()), (405, "method_not_allowed"));
        assert!(answer.header("allow").unwrap().contains(route.method), "{}", answer.head);
    }
    let answer = server.send("GET", "/", &[], "").await;
    assert_eq!((answer.status, answer.text("error").as_str()), (404, "Resource not found"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn health_is_as_the_python_server_answers_it() {
    let server = Server::start(Era::Y2026).await;
    let answer = server.send("GET", "/api/health", &[], "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.text("status"), "healthy");
    assert_eq!(answer.text("service"), "MinerRestServer");
    assert!(answer.json()["timestamp"].as_f64().unwrap() > 1.7e9);
    assert_eq!(server.send("GET", "/livez", &[], "").await.status, 200);
    assert_eq!(server.send("GET", "/readyz", &[], "").await.status, 200);
}

#[tokio::test]
async fn at_shutdown_waiting_requests_are_answered_and_the_rest_is_closed() {
    let mut server = Server::with(Era::Y2026, |c| c.grace = Duration::from_millis(1200)).await;
    let mut idle = server.connect().await;
    let mut waiting = server.connect().await;
    let body = order(1);
    let text = format!(
        "POST /api/submit-order HTTP/1.1\r\nHost: x\r\nAuthorization: k\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    waiting.write_all(text.as_bytes()).await.unwrap();
    let store = server.store.clone();
    eventually(|| async { (store.pending().await.unwrap().count == 1).then_some(()) }).await;
    server.stop();
    let answer = read_answer(&mut waiting).await.expect("an answer");
    assert_eq!((answer.status, answer.text("status").as_str()), (202, "pending"));
    assert!(read_answer(&mut idle).await.is_none());
    (&mut server.task).await.unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}
