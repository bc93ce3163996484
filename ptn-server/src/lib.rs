//! Webhooks in: an HTTP server that checks signals, keeps them safe and says what became of them.
//!
//! It needs nothing but a [`SignalStore`]: `accept` makes a signal durable, and whoever delivers
//! from the same store (a `ptn-miner` on the same data directory, or the engine in this process)
//! writes down what the validators answered. So the server is the same program on its own and
//! inside the miner. Sending to validators is left to `ptn_core::deliver`.
//!
//! A request goes through `listen` (connections and their deadlines), `edge` (who is calling, how
//! often, and whether `overload` lets more in), one handler in [`routes`], and out as JSON, whatever happens.
//!
//! What must stay true: a 200 is written only after the store said that the signal is durable; keys
//! never reach a log, an answer or the store; every answer but `/docs`, `/metrics` and the event
//! stream is JSON.

mod answer;
mod app;
mod auth;
mod body;
pub mod cli;
pub mod config;
mod edge;
mod guard;
mod limits;
mod listen;
pub mod metrics;
mod net;
mod openapi;
mod outcome;
mod overload;
pub mod routes;
mod tradingview;
mod wait;

use std::future::Future;
use std::sync::Arc;

use ptn_core::rules::Rules;
use ptn_core::store::SignalStore;
use tokio::net::TcpListener;

pub use app::{App, AppGuard};
pub use config::ServerConfig;
pub use net::Network;
pub use routes::router;

/// Why the server cannot start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// Nobody could ever be let in.
    #[error(
        "no API key: {problems}none of {looked_at} holds one; write {{\"api_key\": \"<a long random text>\"}} to {example} and start again"
    )]
    NoKeys {
        /// Files that are there and hold no key, and why: empty, or sentences that end with `; `.
        problems: String,
        /// The files that were looked at.
        looked_at: String,
        /// Where a key is best put.
        example: String,
    },
    /// The listening socket failed.
    #[error("the listening socket failed: {0}")]
    Listener(#[source] std::io::Error),
}

/// Serves on a listener that is already bound, until `shutdown` is ready and the running requests
/// are finished (or [`ServerConfig::grace`] is over).
///
/// # Errors
/// When there is no API key at all, or the listening socket is unusable.
pub async fn run(
    config: ServerConfig,
    listener: TcpListener,
    store: Arc<dyn SignalStore>,
    rules: Arc<Rules>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServerError> {
    run_app(App::new(config, store, rules)?, listener, shutdown).await
}

/// As [`run`], of an [`App`] that was made before (to share its [`metrics::Metrics`]).
///
/// # Errors
/// As [`run`].
pub async fn run_app(
    app: Arc<App>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServerError> {
    listen::serve(app, listener, shutdown).await;
    Ok(())
}
