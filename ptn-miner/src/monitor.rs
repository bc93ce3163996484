//! The miner's own HTTP on loopback: is it alive, is it ready, how is each validator doing.

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use ptn_core::deliver::Engine;
use ptn_core::ops::store::Opened;
use ptn_core::store::SignalStore;
use ptn_core::store::fs::FreeSpace;
use ptn_server::metrics::{self, Metrics};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::chain::Chain;
use crate::clock::ClockWatch;
use crate::daemon::Started;
use crate::targets::Targets;

pub(crate) struct Monitor {
    store: Arc<dyn SignalStore>,
    opened: Opened,
    engine: Arc<Engine>,
    metrics: Metrics,
    hotkey: String,
    targets: Arc<Targets>,
    chain: Option<Arc<Chain>>,
    clock: Arc<ClockWatch>,
    /// The data directory, and the bytes below which its disk takes no signal.
    space: (PathBuf, u64),
}

impl Monitor {
    pub(crate) fn new(
        opened: Opened,
        engine: Arc<Engine>,
        targets: Arc<Targets>,
        chain: Option<Arc<Chain>>,
        clock: Arc<ClockWatch>,
        space: (PathBuf, u64),
        up: &Started,
    ) -> Arc<Self> {
        let mut metrics = Metrics::new();
        if let Some(chain) = &chain {
            chain.register(metrics.registry_mut());
        }
        clock.register(metrics.registry_mut());
        let (store, hotkey) = (opened.signals(), up.hotkey.clone());
        Arc::new(Self { store, opened, engine, metrics, hotkey, targets, chain, clock, space })
    }

    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        let events = Arc::clone(&self).follow(stop.clone());
        let router = Router::new()
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .route("/health", get(health))
            .route("/metrics", get(metrics_text))
            .with_state(Arc::clone(&self));
        let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
        let (served, ()) = tokio::join!(async { served.await }, events);
        if let Err(e) = served {
            tracing::error!("health and metrics ended: {e}");
        }
    }

    async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut events = self.store.events();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                event = events.recv() => match event {
                    Ok(event) => self.metrics.observe(&event),
                    Err(tokio::sync::broadcast::error::RecvError::Lagged(n)) => self.metrics.missed(n),
                    Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
                },
            }
        }
    }
}

async fn ready(State(m): State<Arc<Monitor>>) -> impl IntoResponse {
    match m.store.pending().await {
        Ok(p) if p.accepting => (StatusCode::OK, "ready\n".to_owned()),
        Ok(_) => (StatusCode::SERVICE_UNAVAILABLE, "the store accepts nothing\n".to_owned()),
        Err(e) => (StatusCode::SERVICE_UNAVAILABLE, format!("{e}\n")),
    }
}

async fn health(State(m): State<Arc<Monitor>>) -> impl IntoResponse {
    let pending = m.store.pending().await;
    let status = if pending.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let evicted = m.chain.as_ref().is_some_and(|chain| chain.is_evicted());
    let targets = m.targets.now();
    let right = !m.clock.is_off();
    let accepting = pending.as_ref().is_ok_and(|p| p.accepting);
    let held_up = m.engine.held_up();
    let well = accepting && targets.is_some() && !evicted && right && held_up.is_none();
    let disk = FreeSpace::of(&m.space.0).ok().map(|free| {
        let low = free.is_below(m.space.1);
        json!({"free_bytes": free.bytes, "free_inodes": free.inodes,
               "min_free_bytes": m.space.1, "low": low})
    });
    let body = json!({
        "status": if well { "healthy" } else { "degraded" },
        "hotkey": m.hotkey,
        "store": about(&m.opened).await,
        "pending": pending.as_ref().ok(),
        "error": pending.as_ref().err().map(ToString::to_string).or(held_up),
        "targets": targets,
        "validators": m.engine.health(),
        "clock": m.clock.health(),
        "disk": disk,
        "chain": m.chain.as_ref().map(|chain| chain.health()),
    });
    (status, Json(body))
}

/// Which store, and whether this process delivers from it.
async fn about(opened: &Opened) -> serde_json::Value {
    match opened {
        Opened::Fs(_) => json!({"kind": "fs", "name": opened.name(), "delivering": true}),
        Opened::Pg(store) => {
            let owner = store.owner().await.ok().flatten();
            json!({
                "kind": "postgres",
                "name": opened.name(),
                "delivering": *store.delivering().borrow(),
                "owner": owner.as_ref().map(|owner| owner.name.as_str()),
                "lease_left_ms": owner.map(|owner| owner.left.as_millis()),
            })
        }
    }
}

async fn metrics_text(State(m): State<Arc<Monitor>>) -> impl IntoResponse {
    if let Ok(pending) = m.store.pending().await {
        m.metrics.set_pending(pending, now());
    }
    if let Some(chain) = &m.chain {
        chain.set_metrics();
    }
    m.clock.set_metrics();
    if let Ok(free) = FreeSpace::of(&m.space.0) {
        m.metrics.set_space(free, m.space.1);
    }
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], m.metrics.encode())
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.ok().and_then(|d| i64::try_from(d.as_millis()).ok()).unwrap_or(0)
}
