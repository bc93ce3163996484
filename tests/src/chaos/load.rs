//! Senders: each sends orders of one pair, one after the other, and repeats an order until it is
//! acknowledged, as TradingView and bots do. What was acknowledged is what must not be lost.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::HANG;
use super::ledger::order_id;

/// Between two tries of the same order.
const AGAIN: Duration = Duration::from_millis(20);

/// A refusal, as a sender sees it.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// The order.
    pub id: String,
    /// HTTP status.
    pub status: u16,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<u64>,
    /// The body.
    pub body: Value,
}

#[derive(Debug, Default)]
struct Heard {
    answered: Vec<String>,
    refusals: Vec<Refusal>,
}

/// Running senders.
#[derive(Debug)]
pub struct Load {
    heard: Arc<Mutex<Heard>>,
    last: watch::Sender<Instant>,
    paused: watch::Sender<bool>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Load {
    /// Starts a sender for each pair, who pauses for about `pause` between two orders. `addresses` says
    /// where to send to; who moves says so there.
    pub fn start(
        pairs: &[&'static str],
        pause: Duration,
        addresses: &[watch::Receiver<String>],
    ) -> Self {
        let load = Self {
            heard: Arc::default(),
            last: watch::Sender::new(Instant::now()),
            paused: watch::Sender::new(false),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        for (sender, &pair) in pairs.iter().enumerate() {
            let client = Client {
                sender,
                pair,
                pause,
                address: addresses[sender % addresses.len()].clone(),
                connection: None,
                heard: Arc::clone(&load.heard),
                last: load.last.clone(),
                paused: load.paused.subscribe(),
                stop: load.stop.clone(),
            };
            load.tasks.spawn(client.run());
        }
        load
    }

    fn heard<T>(&self, look: impl FnOnce(&mut Heard) -> T) -> T {
        look(&mut self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The ids that were answered with a 2xx so far.
    pub fn answered(&self) -> Vec<String> {
        self.heard(|heard| heard.answered.clone())
    }

    /// How many were.
    pub fn count(&self) -> usize {
        self.heard(|heard| heard.answered.len())
    }

    /// Every refusal since the last call.
    pub fn refusals(&self) -> Vec<Refusal> {
        self.heard(|heard| std::mem::take(&mut heard.refusals))
    }

    /// When the last 2xx was heard; a change for every one.
    pub fn answers(&self) -> watch::Receiver<Instant> {
        self.last.subscribe()
    }

    /// Waits until so many more were answered.
    pub async fn wait_for(&self, more: usize) {
        let (end, want) = (Instant::now() + HANG, self.count() + more);
        while self.count() < want {
            assert!(Instant::now() < end, "no answers any more: {:?}", self.refusals().last());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Holds the next orders back, or lets them go.
    pub fn pause(&self, paused: bool) {
        self.paused.send_replace(paused);
    }

    /// Stops the senders; what they hear no answer to is given up.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Client {
    sender: usize,
    pair: &'static str,
    pause: Duration,
    address: watch::Receiver<String>,
    connection: Option<(String, SendRequest<Full<Bytes>>)>,
    heard: Arc<Mutex<Heard>>,
    last: watch::Sender<Instant>,
    paused: watch::Receiver<bool>,
    stop: CancellationToken,
}

impl Client {
    async fn run(mut self) {
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.send_all() => {}
        }
    }

    async fn send_all(&mut self) {
        for n in 0.. {
            if self.paused.wait_for(|paused| !paused).await.is_err() {
                return;
            }
            let id = order_id(self.sender, n);
            // One in five closes the position.
            let kind = if n % 5 == 4 { "FLAT" } else { "LONG" };
            let body = json!({"api_key": "test-key", "trade_pair": self.pair, "order_type": kind,
                "leverage": 0.1, "order_uuid": id})
            .to_string();
            while !self.acknowledged(&id, &body).await {
                tokio::time::sleep(AGAIN).await;
            }
            // Uneven, so that senders meet in every way.
            tokio::time::sleep(self.pause.mul_f64([0.2, 1.0, 0.6, 2.2][n % 4])).await;
        }
    }

    async fn acknowledged(&mut self, id: &str, body: &str) -> bool {
        // Cut connections are what is tested.
        let Ok((status, retry_after, text)) = self.post(body).await else {
            self.connection = None;
            return false;
        };
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if (200..300).contains(&status) {
            heard.answered.push(id.to_owned());
            drop(heard);
            self.last.send_replace(Instant::now());
            return true;
        }
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        assert!(status >= 500, "{id} is refused for good: {status} {body}");
        heard.refusals.push(Refusal { id: id.to_owned(), status, retry_after, body });
        false
    }

    async fn post(
        &mut self,
        body: &str,
    ) -> Result<(u16, Option<u64>, String), Box<dyn std::error::Error + Send + Sync>> {
        let address = self.address.borrow().clone();
        if self.connection.as_ref().is_none_or(|(at, c)| *at != address || c.is_closed()) {
            let stream = TcpStream::connect(&address).await?;
            let (sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            self.connection = Some((address.clone(), sender));
        }
        let (_, sender) = self.connection.as_mut().ok_or("no connection")?;
        sender.ready().await?;
        let request = Request::builder()
            .method(Method::POST)
            .uri("/api/receive-signal")
            .header("host", address)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.to_owned())))?;
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let retry_after = response.headers().get("retry-after");
        let retry_after = retry_after.and_then(|v| v.to_str().ok()?.parse().ok());
        let bytes = response.into_body().collect().await?.to_bytes();
        Ok((status, retry_after, String::from_utf8_lossy(&bytes).into_owned()))
    }
}
