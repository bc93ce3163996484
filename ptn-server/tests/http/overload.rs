//! A server at its bounds: what it refuses and how, that it keeps all it took, and that it serves
//! again afterwards.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ptn_core::record::{DeliveryReport, Progress};
use ptn_core::rules::Era;
use ptn_core::signal::{OrderUuid, Signal};
use ptn_core::store::{
    Accepted, Filter, Lease, MemoryStore, Pending, SignalStore, StoreError, StoreEvent,
    StoredSignal,
};
use ptn_server::ServerConfig;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;

use crate::harness::{Answer, Server, accepted, eventually, finish, read_answer};

/// A store whose disk hangs until the gate is opened.
#[derive(Debug)]
struct Gated {
    memory: Arc<MemoryStore>,
    open: watch::Sender<bool>,
}

#[async_trait]
impl SignalStore for Gated {
    async fn accept(&self, signal: &Signal) -> Result<Accepted, StoreError> {
        let mut open = self.open.subscribe();
        drop(open.wait_for(|open| *open).await);
        self.memory.accept(signal).await
    }
    async fn claim(&self, limit: usize) -> Result<Vec<Lease>, StoreError> {
        self.memory.claim(limit).await
    }
    async fn record(&self, lease: &Lease, progress: Progress) -> Result<(), StoreError> {
        self.memory.record(lease, progress).await
    }
    async fn finish(&self, lease: &Lease, report: &DeliveryReport) -> Result<(), StoreError> {
        self.memory.finish(lease, report).await
    }
    async fn get(&self, id: &OrderUuid) -> Result<Option<StoredSignal>, StoreError> {
        self.memory.get(id).await
    }
    async fn list(&self, filter: &Filter) -> Result<Vec<StoredSignal>, StoreError> {
        self.memory.list(filter).await
    }
    async fn cancel(&self, id: &OrderUuid) -> Result<(), StoreError> {
        self.memory.cancel(id).await
    }
    async fn retry(&self, id: &OrderUuid) -> Result<(), StoreError> {
        self.memory.retry(id).await
    }
    fn watch(&self) -> watch::Receiver<u64> {
        self.memory.watch()
    }
    fn events(&self) -> broadcast::Receiver<StoreEvent> {
        self.memory.events()
    }
    async fn pending(&self) -> Result<Pending, StoreError> {
        self.memory.pending().await
    }
}

async fn gated(change: impl FnOnce(&mut ServerConfig)) -> (Arc<Server>, Arc<Gated>) {
    let memory = Arc::new(MemoryStore::new());
    let gated = Arc::new(Gated { memory: memory.clone(), open: watch::Sender::new(false) });
    let server = Server::over(gated.clone(), memory, Era::Y2026, change).await;
    (Arc::new(server), gated)
}

fn order(uuid: &str) -> String {
    format!(
        r#"{{"api_key":"k","trade_pair":"BTCUSDC","order_type":"LONG","value":1,"order_uuid":"{uuid}"}}"#
    )
}

fn send(server: &Arc<Server>, path: &'static str, uuid: &str) -> JoinHandle<Answer> {
    let (server, body) = (Arc::clone(server), order(uuid));
    tokio::spawn(async move { server.ask("POST", path, &body).await })
}

async fn metric(server: &Server, name: &str) -> Option<i64> {
    let page = server.send("GET", "/metrics", &[], "").await.body;
    page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

/// Waits until a number of the metrics is as it should be.
async fn until(server: &Server, name: &str, wanted: i64) {
    eventually(|| async { (metric(server, name).await == Some(wanted)).then_some(()) }).await;
}

#[track_caller]
fn assert_refused(answer: &Answer, code: &str) {
    assert_eq!((answer.status, answer.text("code").as_str()), (503, code), "{answer:?}");
    assert!(answer.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1, "{answer:?}");
    let text = answer.text("error");
    assert!(text.contains("Nothing") && text.len() > 60, "it says what to do: {text}");
}

#[tokio::test]
async fn at_its_bound_it_answers_503_keeps_what_it_took_and_serves_again() {
    let (server, store) = gated(|config| {
        (config.max_in_flight, config.max_queued) = (2, 1);
        config.store_patience = Duration::from_secs(600);
    })
    .await;
    let mut taken = vec![send(&server, "/api/receive-signal", "a")];
    taken.push(send(&server, "/api/submit-order", "b"));
    until(&server, "ptn_http_in_flight", 2).await;
    taken.push(send(&server, "/api/receive-signal", "c"));
    until(&server, "ptn_http_queued", 1).await;
    for path in ["/api/receive-signal", "/api/submit-order"] {
        let answer = server.ask("POST", path, &order("d")).await;
        assert_refused(&answer, "overloaded");
    }
    // Looking is not refused, and neither is what wants no place.
    assert_eq!(server.ask("GET", "/api/signals", "").await.status, 200);
    assert_eq!(server.ask("POST", "/api/check-order", &order("d")).await.status, 200);
    assert_eq!(server.send("GET", "/readyz", &[], "").await.status, 200);
    store.open.send_replace(true);
    let engine = server.deliver(accepted);
    for answer in taken {
        let answer = answer.await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(server.receive(&order("d")).await.status, 200, "it serves again");
    let all = server.store.list(&Filter::default()).await.unwrap();
    let mut ids: Vec<String> = all.iter().map(|s| s.signal.id().to_string()).collect();
    ids.sort();
    assert_eq!(ids, ["a", "b", "c", "d"]);
    let page = server.send("GET", "/metrics", &[], "").await.body;
    assert!(page.contains("ptn_signals_rejected_total{code=\"overloaded\"} 2"), "{page}");
    engine.abort();
}

#[tokio::test]
async fn a_store_that_does_not_answer_gets_nothing_more() {
    let (server, store) = gated(|config| {
        config.max_in_flight = 1;
        config.store_patience = Duration::from_millis(100);
    })
    .await;
    let first = send(&server, "/api/receive-signal", "first");
    until(&server, "ptn_http_in_flight", 1).await;
    // One that queues hears it after the patience, the next ones at once.
    for uuid in ["second", "third"] {
        assert_refused(&server.receive(&order(uuid)).await, "store_slow");
    }
    store.open.send_replace(true);
    assert_eq!(first.await.unwrap().status, 200, "what was taken is kept");
    until(&server, "ptn_http_in_flight", 0).await;
    assert_eq!(server.receive(&order("second")).await.status, 200);
    assert!(server.store.get(&OrderUuid::parse("third").unwrap()).await.unwrap().is_none());
}

#[tokio::test]
async fn callers_who_go_away_keep_their_places_until_the_store_answered() {
    let (server, store) = gated(|config| {
        (config.max_in_flight, config.max_queued) = (2, 0);
        config.store_patience = Duration::from_secs(600);
    })
    .await;
    for uuid in ["a", "b"] {
        let mut stream = server.connect().await;
        let body = order(uuid);
        let head = format!(
            "POST /api/receive-signal HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        let wanted = if uuid == "a" { 1 } else { 2 };
        until(&server, "ptn_http_in_flight", wanted).await;
        drop(stream);
    }
    assert_refused(&server.receive(&order("c")).await, "overloaded");
    store.open.send_replace(true);
    // What they had handed in is there.
    eventually(|| async {
        let all = server.store.list(&Filter::default()).await.unwrap();
        (all.len() == 2).then_some(())
    })
    .await;
    until(&server, "ptn_http_in_flight", 0).await;
    assert_eq!(server.receive(&order("c")).await.status, 200);
}

#[tokio::test]
async fn too_many_unfinished_signals_are_refused_until_some_end() {
    let server = Server::with(Era::Y2026, |config| config.max_pending = 3).await;
    for uuid in ["a", "b", "c"] {
        assert_eq!(server.receive(&order(uuid)).await.status, 200);
    }
    for path in ["/api/receive-signal", "/api/submit-order"] {
        let answer = server.ask("POST", path, &order("d")).await;
        assert_refused(&answer, "too_many_pending");
        assert_eq!(answer.text("order_uuid"), "d");
        assert!(answer.text("error").contains("--server.max-pending"), "{answer:?}");
    }
    assert_eq!(server.store.pending().await.unwrap().count, 3);
    let lease = server.store.claim(1).await.unwrap().pop().unwrap();
    finish(&server.store, lease, accepted("")).await;
    eventually(|| async { (server.receive(&order("d")).await.status == 200).then_some(()) }).await;
}

#[tokio::test]
async fn beyond_the_number_that_may_wait_callers_are_answered_as_soon_as_it_is_safe() {
    let server = Arc::new(Server::with(Era::Y2026, |config| config.max_waiting = 1).await);
    let waits = send(&server, "/api/submit-order", "waits");
    until(&server, "ptn_http_waiting", 1).await;
    let answer = server.submit(&order("told")).await;
    assert_eq!((answer.status, answer.text("code").as_str()), (202, "pending"), "{answer:?}");
    assert_eq!(answer.header("location"), Some("/api/order-status/told"));
    let engine = server.deliver(accepted);
    assert_eq!(waits.await.unwrap().status, 200);
    eventually(|| async {
        let status = server.ask("GET", "/api/order-status/told", "").await;
        (status.text("status") == "completed").then_some(())
    })
    .await;
    engine.abort();
}

/// The head of a request and this much of its body.
async fn half(server: &Server, length: usize) -> TcpStream {
    let mut stream = server.connect().await;
    let head = format!(
        "POST /api/receive-signal HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        length + 1
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b' '; length]).await.unwrap();
    stream
}

#[tokio::test]
async fn long_bodies_that_never_end_do_not_fill_the_memory_nor_keep_short_ones_out() {
    let server = Server::with(Era::Y2026, |config| {
        config.max_connections_per_address = 400;
        config.body_timeout = Duration::from_secs(600);
    })
    .await;
    // 250 KiB each, of which all but 16 KiB count; together they may take 32 MiB.
    let mut open = Vec::new();
    for _ in 0..150 {
        open.push(half(&server, 250 * 1024).await);
    }
    let refused = eventually(|| async {
        let page = server.send("GET", "/metrics", &[], "").await.body;
        let name = "ptn_signals_rejected_total{code=\"overloaded\"} ";
        let count = page.lines().find_map(|line| line.strip_prefix(name)?.parse::<usize>().ok())?;
        (count >= 8).then_some(count)
    })
    .await;
    assert!(refused < 150, "as many as there is room for are read");
    assert_eq!(server.receive(&order("short")).await.status, 200);
    drop(open);
    let pad = " ".repeat(200 * 1024);
    let long = format!("{}{pad}", order("long"));
    eventually(|| async { (server.receive(&long).await.status == 200).then_some(()) }).await;
}

#[tokio::test]
async fn a_connection_too_many_reads_its_answer_though_it_has_sent_a_request() {
    let server = Server::with(Era::Y2026, |config| config.max_connections = 1).await;
    let first = half(&server, 10).await;
    eventually(|| async {
        let mut stream = server.connect().await;
        let body = order("x");
        let head = format!(
            "POST /api/receive-signal HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        // It may be refused before all is written.
        drop(stream.write_all(head.as_bytes()).await);
        let answer = read_answer(&mut stream).await?;
        (answer.status == 503 && answer.text("code") == "too_many_connections").then_some(())
    })
    .await;
    drop(first);
    eventually(|| async {
        metric(&server, "ptn_http_connections_refused_total").await.filter(|n| *n >= 1)
    })
    .await;
}
