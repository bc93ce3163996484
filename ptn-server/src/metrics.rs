//! Counters and gauges for Prometheus, fed by store events: the same for the server and the miner.
//!
//! [`Metrics::observe`] takes every [`StoreEvent`]; the gauges of what waits are set when somebody
//! asks. Labels come from small fixed sets (paths of our routes, codes, validators), never from what
//! a caller wrote. Serving the text is left to `routes`.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use ptn_core::guard::Guard;
use ptn_core::record::{DeliveryState, Progress};
use ptn_core::signal::OrderUuid;
use ptn_core::store::fs::FreeSpace;
use ptn_core::store::{Pending, StoreChange, StoreEvent, UnixMs};

use crate::overload::Load;

/// `Content-Type` of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How many signals are remembered for the time from acceptance to a validator's answer.
const MOST_TIMED: usize = 65_536;

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CodeLabel {
    code: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct HttpLabel {
    path: &'static str,
    status: u32,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ValidatorLabel {
    validator: String,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabel {
    validator: String,
    outcome: &'static str,
}

type Seconds = Family<ValidatorLabel, Histogram, fn() -> Histogram>;

/// The metrics of one process.
pub struct Metrics {
    registry: Registry,
    accepted: Counter,
    rejected: Family<CodeLabel, Counter>,
    http: Family<HttpLabel, Counter>,
    connections: Gauge,
    turned_away: Counter,
    in_flight: Gauge,
    queued: Gauge,
    waiting: Gauge,
    free_bytes: Gauge,
    free_inodes: Gauge,
    min_free: Gauge,
    finished: Family<StateLabel, Counter>,
    attempts: Family<ValidatorLabel, Counter>,
    outcomes: Family<OutcomeLabel, Counter>,
    round_trip: Seconds,
    latency: Seconds,
    pending: Gauge,
    oldest: Gauge<f64, AtomicU64>,
    accepting: Gauge,
    missed: Counter,
    accepted_at: Mutex<HashMap<OrderUuid, UnixMs>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn seconds() -> Histogram {
    Histogram::new([
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0,
    ])
}

impl Metrics {
    /// All metrics at zero.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            accepted: Counter::default(),
            rejected: Family::default(),
            http: Family::default(),
            connections: Gauge::default(),
            turned_away: Counter::default(),
            in_flight: Gauge::default(),
            queued: Gauge::default(),
            waiting: Gauge::default(),
            free_bytes: Gauge::default(),
            free_inodes: Gauge::default(),
            min_free: Gauge::default(),
            finished: Family::default(),
            attempts: Family::default(),
            outcomes: Family::default(),
            round_trip: Family::new_with_constructor(seconds),
            latency: Family::new_with_constructor(seconds),
            pending: Gauge::default(),
            oldest: Gauge::default(),
            accepting: Gauge::default(),
            missed: Counter::default(),
            accepted_at: Mutex::default(),
        };
        let r = &mut metrics.registry;
        r.register("ptn_signals_accepted", "Signals made durable", metrics.accepted.clone());
        r.register("ptn_signals_rejected", "Requests refused, by code", metrics.rejected.clone());
        r.register("ptn_http_requests", "HTTP requests answered", metrics.http.clone());
        r.register("ptn_http_connections", "Open HTTP connections", metrics.connections.clone());
        r.register(
            "ptn_http_connections_refused",
            "Connections closed because there were too many",
            metrics.turned_away.clone(),
        );
        r.register(
            "ptn_http_in_flight",
            "Signals being handed to the store",
            metrics.in_flight.clone(),
        );
        r.register(
            "ptn_http_queued",
            "Requests that wait for their turn at it",
            metrics.queued.clone(),
        );
        r.register(
            "ptn_http_waiting",
            "Callers that wait for the network's answer",
            metrics.waiting.clone(),
        );
        r.register(
            "ptn_spool_free_bytes",
            "Free space on the disk of the data directory",
            metrics.free_bytes.clone(),
        );
        r.register(
            "ptn_spool_free_inodes",
            "Files that can still be made there; -1 where they are not counted",
            metrics.free_inodes.clone(),
        );
        r.register(
            "ptn_spool_min_free_bytes",
            "Below this no signal is accepted (--spool.min-free)",
            metrics.min_free.clone(),
        );
        r.register("ptn_signals_finished", "Signals that ended", metrics.finished.clone());
        r.register("ptn_delivery_attempts", "Attempts begun", metrics.attempts.clone());
        r.register(
            "ptn_delivery_outcomes",
            "Final outcomes per validator",
            metrics.outcomes.clone(),
        );
        r.register(
            "ptn_delivery_round_trip_seconds",
            "Round trip of answered attempts",
            metrics.round_trip.clone(),
        );
        r.register(
            "ptn_delivery_latency_seconds",
            "From acceptance to the validator's acknowledgement",
            metrics.latency.clone(),
        );
        r.register("ptn_pending_signals", "Signals not finished", metrics.pending.clone());
        r.register(
            "ptn_oldest_pending_seconds",
            "Age of the oldest of them",
            metrics.oldest.clone(),
        );
        r.register(
            "ptn_store_accepting",
            "1 while signals are accepted",
            metrics.accepting.clone(),
        );
        r.register("ptn_events_missed", "Store events not counted here", metrics.missed.clone());
        metrics
    }

    /// Lets another part of the program register metrics of its own before they are shared.
    pub fn registry_mut(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// Shows the numbers of a risk guard, as they are when somebody asks.
    pub fn register_guard(&mut self, guard: Guard) {
        self.registry.register_collector(Box::new(crate::guard::Numbers::new(guard)));
    }

    /// Counts something that happened to a signal.
    pub fn observe(&self, event: &StoreEvent) {
        match &event.change {
            StoreChange::Accepted { .. } => {
                self.accepted.inc();
                let mut times = self.accepted_at.lock().unwrap_or_else(PoisonError::into_inner);
                if times.len() < MOST_TIMED {
                    times.insert(event.id.clone(), event.at);
                }
            }
            StoreChange::Progress { progress: Progress::Begin { hotkeys } } => {
                for validator in hotkeys {
                    let label = ValidatorLabel { validator: validator.clone() };
                    self.attempts.get_or_create(&label).inc();
                }
            }
            StoreChange::Progress { progress: Progress::Outcome { validator: record } } => {
                let label = ValidatorLabel { validator: record.hotkey.clone() };
                if let Some(us) = record.round_trip_us {
                    let us = u32::try_from(us).unwrap_or(u32::MAX);
                    self.round_trip.get_or_create(&label).observe(f64::from(us) / 1e6);
                }
                if !record.state.is_final() {
                    return;
                }
                let outcome = record.state.as_str();
                let validator = record.hotkey.clone();
                self.outcomes.get_or_create(&OutcomeLabel { validator, outcome }).inc();
                if record.state == DeliveryState::Accepted {
                    let times = self.accepted_at.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(at) = times.get(&event.id) {
                        let ms = u32::try_from(event.at.saturating_sub(*at)).unwrap_or(0);
                        self.latency.get_or_create(&label).observe(f64::from(ms) / 1e3);
                    }
                }
            }
            StoreChange::Finished { state, .. } => {
                self.finished.get_or_create(&StateLabel { state: state.as_str() }).inc();
                self.accepted_at.lock().unwrap_or_else(PoisonError::into_inner).remove(&event.id);
            }
            _ => {}
        }
    }

    /// Counts events that went by unread.
    pub fn missed(&self, count: u64) {
        self.missed.inc_by(count);
        // Whether signals ended among them is not known, so their times are not kept for ever.
        self.accepted_at.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Counts a refused request.
    pub fn rejected(&self, code: &'static str) {
        self.rejected.get_or_create(&CodeLabel { code }).inc();
    }

    /// Counts an answered request; `path` is a route, not what the caller wrote.
    pub fn http(&self, path: &'static str, status: u16) {
        self.http.get_or_create(&HttpLabel { path, status: u32::from(status) }).inc();
    }

    /// Counts an opened (1) or closed (-1) connection.
    pub fn connection(&self, change: i64) {
        self.connections.inc_by(change);
    }

    /// Counts a connection that was refused.
    pub(crate) fn turned_away(&self) {
        self.turned_away.inc();
    }

    /// Sets the gauges of what is under way.
    pub(crate) fn set_load(&self, load: Load) {
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.in_flight.set(number(load.in_flight));
        self.queued.set(number(load.queued));
        self.waiting.set(number(load.waiting));
    }

    /// Sets the gauges of the disk's room.
    pub fn set_space(&self, free: FreeSpace, least: u64) {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.free_bytes.set(number(free.bytes));
        self.free_inodes.set(free.inodes.map_or(-1, number));
        self.min_free.set(number(least));
    }

    /// Sets the gauges of what waits.
    pub fn set_pending(&self, pending: Pending, now: UnixMs) {
        self.pending.set(i64::try_from(pending.count).unwrap_or(i64::MAX));
        let age = pending.oldest_at.map_or(0, |at| now.saturating_sub(at).max(0));
        self.oldest.set(f64::from(u32::try_from(age / 100).unwrap_or(u32::MAX)) / 10.0);
        self.accepting.set(i64::from(pending.accepting));
    }

    /// Everything as OpenMetrics text; see [`CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) => text,
            // Writing to a String cannot fail; an empty page is the honest answer if it did.
            Err(fmt::Error) => String::new(),
        }
    }
}
