//! What happened when: the store's events, the validators' arrivals and the server's answers on one
//! clock, and the document of `--json`.

use std::collections::BTreeMap;
use std::sync::Arc;

use ptn_core::record::{DeliveryState, Progress, SignalState, ValidatorRecord};
use ptn_core::rules::Era;
use ptn_core::store::{StoreChange, StoreEvent};
use ptn_core::validator::Received;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::chain::DemoChain;
use super::network::{Network, Posted};
use super::plan::Plan;

/// A signal and the times of its steps.
#[derive(Debug)]
pub(super) struct Tracked {
    pub(super) plan: Plan,
    begun: Instant,
    pub(super) status: Option<u16>,
    order_uuid: Option<String>,
}

/// What is known of one order uuid.
#[derive(Debug, Default)]
struct Seen {
    accepted: Option<Instant>,
    received: BTreeMap<usize, Instant>,
    acknowledged: BTreeMap<usize, Instant>,
    records: BTreeMap<usize, ValidatorRecord>,
    state: Option<SignalState>,
}

/// One validator's part of one signal, times in milliseconds since the signal was posted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cell {
    pub(super) state: DeliveryState,
    pub(super) attempts: u32,
    pub(super) received_ms: Option<f64>,
    pub(super) acknowledged_ms: Option<f64>,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly all are of the largest kind")]
enum News {
    Store(Instant, StoreEvent),
    Arrival(usize, Instant, Arc<Received>),
    Posted(Posted),
    Missed,
}

/// Watches a network.
#[derive(Debug)]
pub(super) struct Watch {
    hotkeys: Vec<String>,
    signals: Vec<Tracked>,
    /// All signals before this one are over.
    over: usize,
    answered: usize,
    seen: BTreeMap<String, Seen>,
    accepted: usize,
    missed: bool,
    begun: Instant,
    settled: Option<Instant>,
    answers: mpsc::UnboundedSender<Posted>,
    posted: mpsc::UnboundedReceiver<Posted>,
    news: mpsc::UnboundedReceiver<News>,
}

impl Watch {
    pub(super) fn new(network: &Network) -> Self {
        let (tx, news) = mpsc::unbounded_channel();
        let (answers, posted) = mpsc::unbounded_channel();
        let mut events = network.store().events();
        let to_watch = tx.clone();
        tokio::spawn(async move {
            loop {
                let news = match events.recv().await {
                    Ok(event) => News::Store(Instant::now(), event),
                    Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => News::Missed,
                    Err(_) => return,
                };
                if to_watch.send(news).is_err() {
                    return;
                }
            }
        });
        for (index, peer) in network.peers().iter().enumerate() {
            let mut arrivals = peer.validator.subscribe();
            let to_watch = tx.clone();
            tokio::spawn(async move {
                loop {
                    let news = match arrivals.recv().await {
                        Ok(received) => News::Arrival(index, Instant::now(), received),
                        Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => continue,
                        Err(_) => return,
                    };
                    if to_watch.send(news).is_err() {
                        return;
                    }
                }
            });
        }
        Self {
            hotkeys: network.peers().iter().map(|p| p.validator.hotkey().to_owned()).collect(),
            signals: Vec::new(),
            over: 0,
            answered: 0,
            seen: BTreeMap::new(),
            accepted: 0,
            missed: false,
            begun: Instant::now(),
            settled: None,
            answers,
            posted,
            news,
        }
    }

    pub(super) fn answers(&self) -> mpsc::UnboundedSender<Posted> {
        self.answers.clone()
    }

    pub(super) fn signals(&self) -> &[Tracked] {
        &self.signals
    }

    /// A signal is being posted.
    pub(super) fn begin(&mut self, plan: &Plan) {
        let begun = Instant::now();
        if self.signals.is_empty() {
            self.begun = begun;
        }
        self.settled = None;
        self.signals.push(Tracked { plan: plan.clone(), begun, status: None, order_uuid: None });
    }

    /// Takes the next thing that happens.
    pub(super) async fn next(&mut self) {
        let news = tokio::select! {
            Some(posted) = self.posted.recv() => News::Posted(posted),
            Some(news) = self.news.recv() => news,
            else => std::future::pending().await,
        };
        self.take(news);
    }

    /// The next signal that a validator gets; `None` when something else happened.
    pub(super) async fn arrival(&mut self) -> Option<(usize, Arc<Received>)> {
        match self.news.recv().await {
            Some(News::Arrival(index, _, received)) => Some((index, received)),
            Some(_) => None,
            None => std::future::pending().await,
        }
    }

    fn take(&mut self, news: News) {
        match news {
            News::Posted(posted) => {
                if let Some(signal) = self.signals.get_mut(posted.index) {
                    signal.status = Some(posted.status);
                    signal.order_uuid = posted.order_uuid;
                    self.answered += 1;
                }
            }
            News::Arrival(index, at, received) => {
                let seen = self.seen.entry(received.order_uuid.clone()).or_default();
                seen.received.entry(index).or_insert(at);
            }
            News::Store(at, event) => self.event(at, event),
            News::Missed => self.missed = true,
        }
        while self.signals.get(self.over).is_some_and(|s| self.is_over(s)) {
            self.over += 1;
        }
        if self.settled.is_none() && self.is_settled() {
            self.settled = Some(Instant::now());
        }
    }

    fn event(&mut self, at: Instant, event: StoreEvent) {
        let seen = self.seen.entry(event.id.to_string()).or_default();
        match event.change {
            StoreChange::Accepted { .. } => {
                seen.accepted = Some(at);
                self.accepted += 1;
            }
            StoreChange::Progress { progress: Progress::Outcome { validator } } => {
                let index = self.hotkeys.iter().position(|h| *h == validator.hotkey);
                if let Some(index) = index {
                    if validator.state == DeliveryState::Accepted {
                        seen.acknowledged.entry(index).or_insert(at);
                    }
                    seen.records.insert(index, validator);
                }
            }
            StoreChange::Finished { state, .. } => seen.state = Some(state),
            _ => {}
        }
    }

    /// Whether signal `index` is in the store, or was refused.
    pub(super) fn is_safe(&self, index: usize) -> bool {
        self.accepted > index || self.signals.get(index).is_some_and(|s| s.status.is_some())
    }

    /// How many requests have no answer yet.
    pub(super) fn unanswered(&self) -> usize {
        self.signals.len().saturating_sub(self.answered)
    }

    fn seen(&self, signal: &Tracked) -> Option<&Seen> {
        self.seen.get(signal.order_uuid.as_ref()?)
    }

    /// Whether one signal is over: answered and finished, or refused.
    pub(super) fn is_over(&self, signal: &Tracked) -> bool {
        match signal.status {
            None => false,
            Some(200 | 202) => self.seen(signal).is_some_and(|s| s.state.is_some()),
            Some(400) if self.seen(signal).is_some() => {
                self.seen(signal).is_some_and(|s| s.state.is_some())
            }
            Some(_) => true,
        }
    }

    pub(super) fn is_settled(&self) -> bool {
        self.over == self.signals.len()
    }

    pub(super) fn unsettled(&self) -> String {
        let count = self.signals.iter().filter(|s| !self.is_over(s)).count();
        let missed = if self.missed { " (and events were missed)" } else { "" };
        format!("{}{missed}", crate::text::count(count, "signal"))
    }

    /// How long it took until the signal was safe on the disk.
    pub(super) fn accept_ms(&self, signal: &Tracked) -> Option<f64> {
        let at = self.seen(signal)?.accepted?;
        Some(between(signal.begun, at))
    }

    /// One validator's part.
    pub(super) fn cell(&self, signal: &Tracked, index: usize) -> Cell {
        let seen = self.seen(signal);
        let record = seen.and_then(|s| s.records.get(&index));
        let received = seen.and_then(|s| s.received.get(&index));
        let acknowledged = seen.and_then(|s| s.acknowledged.get(&index));
        Cell {
            state: record.map_or(DeliveryState::Submitted, |r| r.state),
            attempts: record.map_or(0, |r| r.attempts),
            received_ms: received.map(|at| between(signal.begun, *at)),
            acknowledged_ms: acknowledged.map(|at| between(signal.begun, *at)),
        }
    }

    pub(super) fn cells(&self, signal: &Tracked) -> Vec<Cell> {
        (0..self.hotkeys.len()).map(|i| self.cell(signal, i)).collect()
    }

    pub(super) fn elapsed_ms(&self) -> f64 {
        between(self.begun, self.settled.unwrap_or_else(Instant::now))
    }

    pub(super) fn all_acknowledged(&self) -> bool {
        self.signals.iter().all(|signal| {
            signal.status == Some(200)
                && self.cells(signal).iter().all(|c| c.state == DeliveryState::Accepted)
        })
    }

    /// The document of `--json`; its shape is described in the command's help.
    pub(super) fn document(&self, network: &Network, era: Era, ok: bool) -> Value {
        let peers = network.peers();
        let validators: Vec<Value> = peers
            .iter()
            .map(|p| {
                json!({
                    "name": p.name,
                    "hotkey": p.validator.hotkey(),
                    "wire": p.wire.as_str(),
                    "address": p.validator.address().to_string(),
                    "behaviour": p.behaviour,
                })
            })
            .collect();
        let signals: Vec<Value> = self
            .signals
            .iter()
            .map(|signal| {
                let parts: Vec<Value> = peers
                    .iter()
                    .zip(self.cells(signal))
                    .map(|(p, c)| {
                        json!({
                            "hotkey": p.validator.hotkey(),
                            "wire": p.wire.as_str(),
                            "state": c.state,
                            "attempts": c.attempts,
                            "received_at_ms": c.received_ms.map(rounded),
                            "acknowledged_ms": c.acknowledged_ms.map(rounded),
                        })
                    })
                    .collect();
                json!({
                    "order_uuid": signal.order_uuid,
                    "order": signal.plan.words,
                    "endpoint": signal.plan.via.endpoint(),
                    "http_status": signal.status,
                    "accept_ms": self.accept_ms(signal).map(rounded),
                    "state": self.seen(signal).and_then(|s| s.state),
                    "validators": parts,
                })
            })
            .collect();
        json!({
            "ok": ok,
            "rules": era.as_str(),
            "server": network.url(),
            "chain": network.chain().map(DemoChain::document),
            "validators": validators,
            "signals": signals,
            "elapsed_ms": rounded(self.elapsed_ms()),
        })
    }
}

fn between(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64() * 1000.0
}

fn rounded(ms: f64) -> f64 {
    (ms * 1000.0).round() / 1000.0
}
