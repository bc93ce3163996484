//! A validator on a loopback port, for tests, demos and benchmarks: it speaks both wires, checks
//! requests as strictly as the real peers, remembers orders, and misbehaves on request.
//!
//! It judges envelopes, not trades: every properly signed order is accepted, unless an
//! [`OrderDesk`] judges it. Positions and fees are left to the desk of `ptn_core::paper`.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! use ptn_core::directory::Wire;
//! use ptn_core::validator::{Fault, LoopbackValidator, ValidatorOptions};
//!
//! let validator = LoopbackValidator::start(ValidatorOptions::default()).await?;
//! validator.set_faults([Fault::Hang.first(1)]);
//! let entry = validator.entry(Wire::Btauth);
//! assert_eq!(entry.hotkey, validator.hotkey());
//! validator.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod answer;
mod desk;
mod fault;
mod serve;

pub use desk::{DeskAnswer, DeskOrder, OrderDesk};
pub use fault::{Fault, FaultRule};

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::answer::{Judge, Order, Recent};
use self::fault::Faults;
use crate::directory::{Validator, Wire};
use crate::json::Json;
use crate::rules::RateLimit;
use crate::sign::Hotkey;
use crate::store::UnixMs;
use crate::transport::nonce::now_ns;

/// What a [`LoopbackValidator`] is like.
#[derive(Debug)]
#[non_exhaustive]
pub struct ValidatorOptions {
    /// Its key; by default a fresh one.
    pub hotkey: Hotkey,
    /// Where it listens; by default on 127.0.0.1.
    pub ip: IpAddr,
    /// Its port; 0 takes any.
    pub port: u16,
    /// Judges what was properly signed, in place of the rate limit and the memory of uuids here.
    pub desk: Option<Arc<dyn OrderDesk>>,
    /// The only wire it speaks; by default both.
    pub wire: Option<Wire>,
    /// Whether it refuses what is not properly signed. The network's own validator of 2026 lets
    /// that pass on btauth, and axons of 9.12 and 10.2 a request without a signature.
    pub strict: bool,
    /// Whether it knows orders by their uuid, as validators since 2025 do.
    pub recognises_repeats: bool,
    /// Whether its answers have `should_retry`, as in 2026.
    pub says_should_retry: bool,
    /// On the dendrite wire: whether it hashes the signal, as all do since June 2024.
    pub hash_signal: bool,
    /// The hotkeys that may send; by default every one.
    pub registered: Option<Vec<String>>,
    /// Requests per sender; by default without limit.
    pub rate_limit: Option<RateLimit>,
    /// Its clock minus ours.
    pub clock_ahead_ms: i64,
    /// How many received signals are kept for [`LoopbackValidator::received`].
    pub keep: usize,
    /// What it does wrong from the start.
    pub faults: Vec<FaultRule>,
}

impl Default for ValidatorOptions {
    fn default() -> Self {
        Self {
            hotkey: Hotkey::generate(),
            ip: Ipv4Addr::LOCALHOST.into(),
            port: 0,
            desk: None,
            wire: None,
            strict: true,
            recognises_repeats: true,
            says_should_retry: true,
            hash_signal: true,
            registered: None,
            rate_limit: None,
            clock_ahead_ms: 0,
            keep: 10_000,
            faults: Vec::new(),
        }
    }
}

/// One signal that arrived.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Received {
    /// Its number, from 1.
    pub n: u64,
    /// When.
    pub at: UnixMs,
    /// The validator's hotkey.
    pub validator: String,
    /// By which wire; absent when the request was not read.
    pub wire: Option<Wire>,
    /// The sender's hotkey; unproven when it was refused.
    pub sender: String,
    /// `miner_order_uuid`.
    pub order_uuid: String,
    /// The signal as it was sent; absent when it was refused.
    #[serde(serialize_with = "raw")]
    pub signal: Option<Json>,
    /// What became of it.
    pub verdict: Verdict,
}

/// What became of a signal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// Processed.
    Accepted,
    /// Its uuid was processed before.
    Repeated,
    /// Answered with 200 and an error.
    Failed {
        /// `error_message`.
        message: String,
        /// `should_retry`; absent: as it was sent.
        should_retry: Option<bool>,
    },
    /// Not let in.
    Refused {
        /// HTTP status.
        status: u16,
        /// Why.
        reason: String,
    },
    /// Not processed, because of a fault that was asked for.
    Fault {
        /// Its name.
        name: String,
    },
}

impl Verdict {
    fn failed(message: &str) -> Self {
        Self::Failed { message: message.to_owned(), should_retry: Some(false) }
    }
}

/// The JSON text as it came; a text of what JSON cannot carry.
fn raw<S: Serializer>(json: &Option<Json>, serializer: S) -> Result<S::Ok, S::Error> {
    let Some(json) = json else { return serializer.serialize_none() };
    let text = json.to_string();
    match RawValue::from_string(text) {
        Ok(raw) => raw.serialize(serializer),
        Err(_) => serializer.serialize_str(&json.to_string()),
    }
}

/// What the connections share.
#[derive(Debug)]
struct Shared {
    judge: Judge,
    faults: Faults,
    orders: AtomicU64,
    log: Mutex<Log>,
    changed: watch::Sender<u64>,
    events: broadcast::Sender<Arc<Received>>,
    tasks: TaskTracker,
}

#[derive(Debug, Default)]
struct Log {
    n: u64,
    recent: Recent<Arc<Received>>,
}

impl Shared {
    fn next_n(&self) -> u64 {
        self.orders.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn record_order(&self, wire: Wire, order: &Order, verdict: Verdict) {
        let signal = Some(&order.signal);
        self.record(wire, &order.sender, &order.uuid, signal, verdict);
    }

    fn record(
        &self,
        wire: Wire,
        sender: &str,
        uuid: &str,
        signal: Option<&Json>,
        verdict: Verdict,
    ) {
        self.push(Some(wire), sender, uuid, signal, verdict);
    }

    fn record_fault(&self, fault: &Fault) {
        self.push(None, "", "", None, Verdict::Fault { name: fault.name().to_owned() });
    }

    fn push(
        &self,
        wire: Option<Wire>,
        sender: &str,
        uuid: &str,
        signal: Option<&Json>,
        verdict: Verdict,
    ) {
        let keep = self.judge.options.keep;
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.n += 1;
        if keep > 0 || self.events.receiver_count() > 0 {
            let received = Arc::new(Received {
                n: log.n,
                at: UnixMs::try_from(now_ns() / 1_000_000).unwrap_or(UnixMs::MAX),
                validator: self.judge.hotkey().to_owned(),
                wire,
                sender: sender.to_owned(),
                order_uuid: uuid.to_owned(),
                signal: signal.cloned(),
                verdict,
            });
            log.recent.push(Arc::clone(&received), keep);
            // Nobody listens, usually.
            drop(self.events.send(received));
        }
        self.changed.send_replace(log.n);
    }
}

/// Reads requests as a validator does, without a socket: for tests that feed it any bytes.
#[derive(Debug)]
pub struct RequestReader(Judge);

/// A request that was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// The sender's address.
    pub sender: String,
    /// The order's uuid.
    pub uuid: String,
    /// The body of the answer that accepts it.
    pub reply: String,
}

impl RequestReader {
    /// Of a validator with these options.
    pub fn new(options: ValidatorOptions) -> Self {
        Self(Judge::new(options))
    }

    /// Its ss58 address.
    pub fn hotkey(&self) -> &str {
        self.0.hotkey()
    }

    /// Reads one request; remembers nonces as a validator does.
    ///
    /// # Errors
    /// The status and the body that it is refused with.
    pub fn read(
        &self,
        wire: Wire,
        target: &str,
        headers: &hyper::header::HeaderMap,
        body: &[u8],
    ) -> Result<Admitted, (u16, String)> {
        let order = self.0.admit(wire, target, headers, body);
        let order = order.map_err(|refusal| (refusal.status.as_u16(), refusal.body))?;
        let reply = self.0.reply(&order, &Verdict::Accepted, None, self.0.hotkey(), 1);
        Ok(Admitted { sender: order.sender, uuid: order.uuid, reply })
    }
}

/// A running validator. Dropping it stops it.
#[derive(Debug)]
pub struct LoopbackValidator {
    shared: Arc<Shared>,
    address: SocketAddr,
    stop: CancellationToken,
}

impl Drop for LoopbackValidator {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl LoopbackValidator {
    /// Starts one.
    ///
    /// # Errors
    /// When the port cannot be had.
    pub async fn start(mut options: ValidatorOptions) -> std::io::Result<Self> {
        let listener = TcpListener::bind((options.ip, options.port)).await?;
        let address = listener.local_addr()?;
        let faults = Faults::default();
        faults.set(std::mem::take(&mut options.faults));
        let shared = Arc::new(Shared {
            judge: Judge::new(options),
            faults,
            orders: AtomicU64::new(0),
            log: Mutex::default(),
            changed: watch::Sender::new(0),
            events: broadcast::Sender::new(1024),
            tasks: TaskTracker::new(),
        });
        let stop = CancellationToken::new();
        shared.tasks.spawn(serve::run(listener, Arc::clone(&shared), stop.clone()));
        Ok(Self { shared, address, stop })
    }

    /// Its ss58 address.
    pub fn hotkey(&self) -> &str {
        self.shared.judge.hotkey()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its entry for a directory: full trust, a permit, and this wire.
    pub fn entry(&self, wire: Wire) -> Validator {
        Validator {
            hotkey: self.hotkey().to_owned(),
            ip: self.address.ip(),
            port: self.address.port(),
            v_trust: 1.0,
            stake: 1_000.0,
            permit: true,
            wire,
        }
    }

    /// Replaces what it does wrong: rules are used up in their order. An empty list heals it.
    pub fn set_faults<R: Into<FaultRule>>(&self, rules: impl IntoIterator<Item = R>) {
        self.shared.faults.set(rules.into_iter().map(Into::into).collect());
    }

    /// Answers the next `n` orders with a failure.
    pub fn fail_first(&self, n: u32, message: impl Into<String>, should_retry: bool) {
        self.set_faults([Fault::Fail { message: message.into(), should_retry }.first(n)]);
    }

    /// What arrived so far, in order; the oldest are dropped beyond `keep`.
    pub fn received(&self) -> Vec<Arc<Received>> {
        self.shared.log.lock().unwrap_or_else(PoisonError::into_inner).recent.all()
    }

    /// How many requests arrived so far.
    pub fn count(&self) -> u64 {
        *self.shared.changed.borrow()
    }

    /// Waits until `n` requests have arrived, and returns what is kept of them.
    pub async fn wait_for(&self, n: u64) -> Vec<Arc<Received>> {
        let mut changed = self.shared.changed.subscribe();
        // The sender lives as long as `self`, so this ends with the count only.
        drop(changed.wait_for(|count| *count >= n).await);
        self.received()
    }

    /// Everything that arrives from now on. A listener that is more than 1024 behind misses some.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Received>> {
        self.shared.events.subscribe()
    }

    /// Stops it: closes the port and every connection, and waits until all is closed.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}
