//! What every request shares, and the two tasks behind it.
//!
//! One task follows the store's events: it counts them, wakes waiting requests and keeps the last
//! ones for live views. The other looks at the key files and forgets quiet callers. Requests are
//! handled in `routes`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ptn_core::guard::{Guard, GuardAlert};
use ptn_core::rules::Rules;
use ptn_core::store::fs::FreeSpace;
use ptn_core::store::{SignalStore, StoreChange, StoreEvent, UnixMs};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::auth::Keys;
use crate::config::ServerConfig;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::overload::Overload;
use crate::wait::Waiters;
use crate::{ServerError, listen};

/// How many events are kept for live views that reconnect, and may pile up for a slow one.
const EVENTS_KEPT: usize = 1024;

/// From this many events at once on they are gathered for a moment; far fewer than a store keeps.
const BURST: u32 = 4;
const BURST_PAUSE: Duration = Duration::from_millis(1);

/// The server without its sockets.
pub struct App {
    pub(crate) config: ServerConfig,
    pub(crate) store: Arc<dyn SignalStore>,
    pub(crate) rules: Arc<Rules>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) limits: Limits,
    pub(crate) overload: Arc<Overload>,
    pub(crate) waiters: Waiters,
    pub(crate) live: Live,
    pub(crate) guard: Option<AppGuard>,
    metrics: Arc<Metrics>,
    counts_events: bool,
    /// The shutdown began: nothing new is accepted, event streams end.
    pub(crate) draining: CancellationToken,
    /// The grace is nearly over: whoever still waits for validators is answered now.
    pub(crate) hurry: CancellationToken,
}

/// The risk guard of a server. Whoever runs the server keeps the guard informed: the engine does,
/// and [`ptn_core::deliver::follow_for_guard`] where there is none.
#[derive(Debug, Clone)]
pub struct AppGuard {
    /// What judges signals.
    pub guard: Guard,
    /// Whether `POST /api/prices` takes prices for it.
    pub takes_prices: bool,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("config", &self.config).finish_non_exhaustive()
    }
}

impl App {
    /// Reads the key files and makes the server with metrics of its own.
    ///
    /// # Errors
    /// When there is no API key at all.
    pub fn new(
        config: ServerConfig,
        store: Arc<dyn SignalStore>,
        rules: Arc<Rules>,
    ) -> Result<Arc<Self>, ServerError> {
        Self::build(config, store, rules, None, Arc::default(), true)
    }

    /// As [`App::new`], with metrics that someone else feeds with the store's events.
    ///
    /// # Errors
    /// As [`App::new`].
    pub fn with_metrics(
        config: ServerConfig,
        store: Arc<dyn SignalStore>,
        rules: Arc<Rules>,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>, ServerError> {
        Self::build(config, store, rules, None, metrics, false)
    }

    /// As [`App::new`], with a risk guard, whose numbers stand among the metrics.
    ///
    /// # Errors
    /// As [`App::new`].
    pub fn with_guard(
        config: ServerConfig,
        store: Arc<dyn SignalStore>,
        rules: Arc<Rules>,
        guard: Option<AppGuard>,
    ) -> Result<Arc<Self>, ServerError> {
        let mut metrics = Metrics::new();
        if let Some(AppGuard { guard, .. }) = &guard {
            metrics.register_guard(guard.clone());
        }
        Self::build(config, store, rules, guard, Arc::new(metrics), true)
    }

    fn build(
        config: ServerConfig,
        store: Arc<dyn SignalStore>,
        rules: Arc<Rules>,
        guard: Option<AppGuard>,
        metrics: Arc<Metrics>,
        counts_events: bool,
    ) -> Result<Arc<Self>, ServerError> {
        let keys = Arc::new(Keys::open(&config.data_dir, config.key_overlap)?);
        let (limits, overload) = (Limits::new(&config), Overload::new(&config));
        Ok(Arc::new(Self {
            keys,
            limits,
            overload,
            waiters: Waiters::default(),
            live: Live::new(),
            draining: CancellationToken::new(),
            hurry: CancellationToken::new(),
            config,
            store,
            rules,
            guard,
            metrics,
            counts_events,
        }))
    }

    /// The metrics, for a program that shows them elsewhere too.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Passes what the guard finds on to live views, until `stop`.
    async fn follow_guard(&self, stop: CancellationToken) {
        let Some(AppGuard { guard, .. }) = &self.guard else { return };
        let mut alerts = guard.alerts();
        loop {
            let alert = tokio::select! {
                () = stop.cancelled() => return,
                alert = alerts.recv() => alert,
            };
            match alert {
                Ok(alert) => self.live.alert(alert),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Follows the store's events until `stop`. [`crate::run`] does this by itself; a program that
    /// mounts [`crate::router`] in a server of its own runs it beside.
    pub async fn follow_events(&self, stop: CancellationToken) {
        tokio::join!(self.follow_store(stop.clone()), self.follow_guard(stop));
    }

    async fn follow_store(&self, stop: CancellationToken) {
        let mut events = self.store.events();
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => return,
                event = events.recv() => event,
            };
            match event {
                Ok(event) => {
                    self.follow(event);
                    let mut more = 0_u32;
                    while let Ok(event) = events.try_recv() {
                        self.follow(event);
                        more += 1;
                    }
                    // In a burst, being woken for every single event costs more than the events.
                    if more >= BURST {
                        tokio::time::sleep(BURST_PAUSE).await;
                    }
                }
                Err(RecvError::Lagged(missed)) => {
                    self.metrics.missed(missed);
                    self.waiters.wake_all();
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn follow(&self, event: StoreEvent) {
        if self.counts_events {
            self.metrics.observe(&event);
        }
        let reason = match &event.change {
            StoreChange::Finished { reason, .. } if !reason.is_empty() => Some(reason.as_str()),
            _ => None,
        };
        self.waiters.wake(&event.id, reason);
        self.live.push(event);
    }

    /// Looks at the key files every second and forgets quiet callers, until `stop`. As
    /// [`App::follow_events`], [`crate::run`] does this by itself.
    pub async fn keep_house(&self, stop: CancellationToken) {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut rounds = 0_u32;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = second.tick() => {}
            }
            let keys = self.keys.clone();
            // Key files may lie on a slow disk; the reactor must not wait for it.
            if tokio::task::spawn_blocking(move || keys.refresh()).await.is_err() {
                tracing::error!("reading the key files failed");
            }
            rounds = rounds.wrapping_add(1);
            if rounds.is_multiple_of(30) {
                self.limits.tidy();
            }
        }
    }

    /// Whether signals are accepted; the reason if not.
    pub(crate) async fn ready(&self) -> Result<(), String> {
        if self.draining.is_cancelled() {
            return Err("shutting down".to_owned());
        }
        match self.store.pending().await {
            Ok(pending) if pending.accepting => Ok(()),
            Ok(_) => Err(match FreeSpace::of(&self.config.data_dir) {
                Ok(free) if free.is_below(self.config.min_free) => format!(
                    "little room is left on the disk of {} ({} MiB): free some, deliveries go on",
                    self.config.data_dir.display(),
                    free.bytes / (1024 * 1024)
                ),
                _ => "the store does not accept signals".to_owned(),
            }),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// The last events, and whoever looks on.
#[derive(Debug)]
pub(crate) struct Live {
    /// Event numbers begin anew with every process; this tells their ids apart.
    pub(crate) run: String,
    kept: Mutex<VecDeque<Arc<StoreEvent>>>,
    sender: broadcast::Sender<LiveEvent>,
}

/// What a live view shows.
#[derive(Debug, Clone)]
pub(crate) enum LiveEvent {
    /// Something happened to a signal.
    Store(Arc<StoreEvent>),
    /// The guard found something. Not kept for those who come later.
    Guard(Arc<GuardAlert>),
}

impl Live {
    fn new() -> Self {
        let id = ptn_core::signal::OrderUuid::random();
        Self {
            run: id.as_str().chars().take(8).collect(),
            kept: Mutex::default(),
            sender: broadcast::Sender::new(EVENTS_KEPT),
        }
    }

    fn push(&self, event: StoreEvent) {
        let event = Arc::new(event);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= EVENTS_KEPT {
            kept.pop_front();
        }
        kept.push_back(event.clone());
        // Under the same lock as `join`, so nobody sees an event twice or misses one. An error only
        // says that nobody looks on.
        drop(self.sender.send(LiveEvent::Store(event)));
    }

    fn alert(&self, alert: Arc<GuardAlert>) {
        drop(self.sender.send(LiveEvent::Guard(alert)));
    }

    /// The kept events after number `after`, and all that follow.
    pub(crate) fn join(
        &self,
        after: Option<u64>,
    ) -> (Vec<Arc<StoreEvent>>, broadcast::Receiver<LiveEvent>) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let missed = match after {
            None => Vec::new(),
            Some(after) => kept.iter().filter(|e| e.number > after).cloned().collect(),
        };
        (missed, self.sender.subscribe())
    }
}

/// The wall clock, for what is shown and measured against the store's times.
pub(crate) fn now() -> UnixMs {
    jiff::Timestamp::now().as_millisecond()
}

/// The address of the socket's peer, put into a request's extensions by [`listen`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) std::net::IpAddr);

impl Peer {
    /// The peer of a request; unspecified when the router is mounted in a foreign server.
    pub(crate) fn of(request: &axum::extract::Request) -> std::net::IpAddr {
        request.extensions().get::<Self>().map_or(listen::NO_ADDRESS, |peer| peer.0)
    }
}
