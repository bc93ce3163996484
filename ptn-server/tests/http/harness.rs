//! A server on a free port over a store in memory, a client that writes what it is told, and a
//! stand-in for the engine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ptn_core::deliver::follow_for_guard;
use ptn_core::record::{DeliveryReport, DeliveryState, Progress, SignalState, ValidatorRecord};
use ptn_core::rules::{Era, Rules};
use ptn_core::store::{MemoryStore, SignalStore};
use ptn_server::{App, AppGuard, ServerConfig, run_app};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The key of every test server.
pub(crate) const KEY: &str = "k";

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) dir: TempDir,
    stop: Option<oneshot::Sender<()>>,
    pub(crate) task: JoinHandle<Result<(), ptn_server::ServerError>>,
}

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {}\n{}", self.head, self.body))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// A member of the JSON body as text.
    pub(crate) fn text(&self, key: &str) -> String {
        match &self.json()[key] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }
}

impl Server {
    pub(crate) async fn start(era: Era) -> Self {
        Self::with(era, |_| {}).await
    }

    pub(crate) async fn with(era: Era, change: impl FnOnce(&mut ServerConfig)) -> Self {
        let store = Arc::new(MemoryStore::new());
        Self::over(store.clone(), store, era, change).await
    }

    /// A server over some other store; `memory` is what the test looks at.
    pub(crate) async fn over(
        served: Arc<dyn SignalStore>,
        memory: Arc<MemoryStore>,
        era: Era,
        change: impl FnOnce(&mut ServerConfig),
    ) -> Self {
        Self::start_with(served, memory, era, None, change).await
    }

    /// A server with a risk guard that has read its history.
    pub(crate) async fn guarded(guard: AppGuard) -> Self {
        let store = Arc::new(MemoryStore::new());
        let clock = Arc::new(|| jiff::Timestamp::now().as_millisecond());
        let (shared, handle) = (store.clone(), guard.guard.clone());
        let stop = CancellationToken::new();
        tokio::spawn(follow_for_guard(shared, handle.clone(), clock, stop));
        while !handle.is_ready() {
            tokio::task::yield_now().await;
        }
        Self::start_with(store.clone(), store, Era::Y2026, Some(guard), |_| {}).await
    }

    async fn start_with(
        served: Arc<dyn SignalStore>,
        memory: Arc<MemoryStore>,
        era: Era,
        guard: Option<AppGuard>,
        change: impl FnOnce(&mut ServerConfig),
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("miner_secrets.json"), r#"{"api_key":"k"}"#).unwrap();
        let mut config = ServerConfig::default();
        config.data_dir = dir.path().to_owned();
        config.limits = false;
        config.submit_deadline = Duration::from_secs(20);
        change(&mut config);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let rules = Arc::new(Rules::load(era).unwrap());
        let shutdown = async move {
            // A dropped sender stops the server as well.
            drop(stopped.await);
        };
        let app = App::with_guard(config, served, rules, guard);
        let task = tokio::spawn(async move { run_app(app?, listener, shutdown).await });
        Self { address, store: memory, dir, stop: Some(stop), task }
    }

    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
    }

    /// A request with the key in the header.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        self.send(method, path, &[("Authorization", KEY)], body).await
    }

    /// A request with these headers; JSON unless they say something else.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n");
        if !headers.iter().any(|(k, _)| k.eq_ignore_ascii_case("content-type")) {
            text.push_str("Content-Type: application/json\r\n");
        }
        for (key, value) in headers.iter().filter(|(_, v)| !v.is_empty()) {
            text.push_str(&format!("{key}: {value}\r\n"));
        }
        text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        self.raw(text.as_bytes()).await
    }

    /// Writes bytes and reads one answer.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        read_answer(&mut stream).await.expect("an answer")
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Posts to `/api/receive-signal` with the key in the body.
    pub(crate) async fn receive(&self, body: &str) -> Answer {
        self.send("POST", "/api/receive-signal", &[], body).await
    }

    /// Posts to `/api/submit-order` with the key in the header.
    pub(crate) async fn submit(&self, body: &str) -> Answer {
        self.ask("POST", "/api/submit-order", body).await
    }

    /// Plays the engine: ends every signal with what `decide` makes of it.
    pub(crate) fn deliver(
        &self,
        decide: impl Fn(&str) -> Vec<ValidatorRecord> + Send + 'static,
    ) -> JoinHandle<()> {
        let store = self.store.clone();
        tokio::spawn(async move {
            let mut watch = store.watch();
            loop {
                for lease in store.claim(16).await.unwrap() {
                    let records = decide(lease.stored.signal.id().as_str());
                    finish(&store, lease, records).await;
                }
                if watch.changed().await.is_err() {
                    return;
                }
            }
        })
    }
}

/// Records a delivery as the engine does, and ends it.
pub(crate) async fn finish(
    store: &MemoryStore,
    lease: ptn_core::store::Lease,
    records: Vec<ValidatorRecord>,
) {
    let mut targets = records.clone();
    for target in &mut targets {
        target.state = DeliveryState::Submitted;
    }
    store.record(&lease, Progress::Targets { validators: targets }).await.unwrap();
    let hotkeys = records.iter().map(|r| r.hotkey.clone()).collect();
    store.record(&lease, Progress::Begin { hotkeys }).await.unwrap();
    for validator in &records {
        let outcome = Progress::Outcome { validator: validator.clone() };
        store.record(&lease, outcome).await.unwrap();
    }
    let accepted =
        records.iter().filter(|r| r.required).all(|r| r.state == DeliveryState::Accepted);
    let state = if accepted { SignalState::Processed } else { SignalState::Failed };
    let reason = if accepted { String::new() } else { "not acknowledged".to_owned() };
    let report =
        DeliveryReport { state, reason, validators: records, finished_at: 1_700_000_000_000 };
    store.finish(&lease, &report).await.unwrap();
}

/// One validator's record.
pub(crate) fn record(state: DeliveryState, code: &str, message: &str) -> ValidatorRecord {
    ValidatorRecord {
        hotkey: "5Validator".to_owned(),
        address: "127.0.0.1:8091".to_owned(),
        required: true,
        state,
        attempts: 1,
        waits: 0,
        maybe_sent: matches!(state, DeliveryState::Accepted | DeliveryState::Unknown),
        message: message.to_owned(),
        code: code.to_owned(),
        order_json: if state == DeliveryState::Accepted {
            "{'x': 1}".to_owned()
        } else {
            String::new()
        },
        next_try_at: None,
        at: 1_700_000_000_000,
        round_trip_us: Some(1500),
        v_trust: Some(1.0),
        requests: Vec::new(),
    }
}

pub(crate) fn accepted(_: &str) -> Vec<ValidatorRecord> {
    vec![record(DeliveryState::Accepted, "accepted", "")]
}

/// Reads one answer by its length or to the end of the stream; `None` when there is none.
pub(crate) async fn read_answer(stream: &mut TcpStream) -> Option<Answer> {
    let reading = async {
        let mut bytes = Vec::new();
        let mut piece = [0_u8; 4096];
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                let answer = Answer { status, head: head.to_owned(), body: body.to_owned() };
                let length: Option<usize> =
                    answer.header("content-length").map(|l| l.parse().unwrap());
                if length.is_some_and(|l| answer.body.len() >= l) {
                    return Some(answer);
                }
            }
            match stream.read(&mut piece).await {
                Ok(0) | Err(_) => return None,
                Ok(n) => bytes.extend_from_slice(&piece[..n]),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), reading).await.expect("an answer in time")
}

/// Waits until `look` gives something.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(look: impl Fn() -> F) -> T {
    let waiting = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("it never happened")
}
