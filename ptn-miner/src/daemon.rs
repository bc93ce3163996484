//! Connects the parts and runs them until the stop.

use std::net::SocketAddr;
use std::sync::Arc;

use ptn_core::deliver::{Engine, EngineError, Select};
use ptn_core::directory::{StaticDirectory, Validator};
use ptn_core::ops::config::ConfigError;
use ptn_core::ops::process;
use ptn_core::sign::Signer as _;
use ptn_core::store::fs::{FsOptions, FsStore};
use ptn_core::store::{SignalStore, StoreError};
use ptn_core::transport::HttpTransport;
use ptn_core::transport::address::AddressPolicy;
use ptn_core::transport::http::HttpOptions;
use ptn_core::wallet::{self, WalletError};
use ptn_server::{App, ServerError};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::{MinerConfig, Network};
use crate::{monitor, validators};

/// Why the miner did not start or had to stop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MinerError {
    /// A setting or the list of validators.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The hotkey's file.
    #[error(transparent)]
    Hotkey(#[from] WalletError),
    /// The spool.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The HTTP server.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// An address to listen on.
    #[error(
        "cannot listen on {address} ({flag}): {source}; choose another port, or stop what uses this one"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The flag that sets it.
        flag: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

impl MinerError {
    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Hotkey(_) => process::USAGE,
            Self::Store(StoreError::Locked { .. }) => process::UNAVAILABLE,
            _ => process::FAILED,
        }
    }
}

/// What runs, once everything is up.
#[derive(Debug, Clone)]
pub struct Started {
    /// The hotkey that signs.
    pub hotkey: String,
    /// Where the HTTP server listens.
    pub server: Option<SocketAddr>,
    /// Where health and metrics are.
    pub monitor: Option<SocketAddr>,
    /// The spool.
    pub store: Arc<FsStore>,
}

/// Runs a miner until `stop`. `started` is told once everything is up.
///
/// # Errors
/// When a part cannot start; see [`MinerError`].
pub async fn run(
    config: MinerConfig,
    stop: CancellationToken,
    started: impl FnOnce(Started),
) -> Result<(), MinerError> {
    let (passwords, path) = (config.passwords.clone(), config.hotkey_file.clone());
    let password = move |format| passwords.to_open(&path, format);
    let hotkey = Arc::new(wallet::open_hotkey(&config.hotkey_file, password).await?);
    let list = validators::read(&config.validators_file)?;
    let mut policy = config.policy.clone();
    name_a_mothership(&mut policy.select, &list, config.network);
    let options = FsOptions::new(Arc::clone(&config.rules));
    let store = Arc::new(FsStore::open_owner(&config.data_dir, options)?);
    let monitor_listener = listen(config.monitor, "--axon.port").await?;
    let server_address = config.server.as_ref().map(|(address, _)| *address);
    let server_listener = listen(server_address, "--server.listen").await?;

    let directory = Arc::new(StaticDirectory::new(list.clone()));
    let transport = HttpTransport::new(Arc::clone(&hotkey) as _, http_options(&config));
    let engine = Engine::builder()
        .store(Arc::clone(&store) as _)
        .directory(Arc::clone(&directory) as _)
        .transport(Arc::new(transport))
        .policy(policy.clone())
        .start()?;
    let engine = Arc::new(engine);

    // Ends the helpers also when one of the parts fails.
    let down = CancellationToken::new();
    let _guard = down.clone().drop_guard();
    let file = config.validators_file.clone();
    tokio::spawn(validators::follow(file, directory, down.clone()));
    let address =
        |listener: &Option<TcpListener>| listener.as_ref().and_then(|l| l.local_addr().ok());
    let up = Started {
        hotkey: hotkey.hotkey().to_owned(),
        server: address(&server_listener),
        monitor: address(&monitor_listener),
        store: Arc::clone(&store),
    };
    let shared_store: Arc<dyn SignalStore> = Arc::clone(&store) as _;
    if let Some(listener) = monitor_listener {
        let monitor = monitor::Monitor::new(Arc::clone(&shared_store), Arc::clone(&engine), &up);
        tokio::spawn(monitor.serve(listener, down.clone()));
    }
    let pending = store.pending().await?;
    tracing::info!(
        hotkey = up.hotkey, rules = %config.rules.era, policy = ?policy.select, validators = list.len(),
        data_dir = %config.data_dir.display(), pending = pending.count,
        server = up.server.map(|a| a.to_string()), monitor = up.monitor.map(|a| a.to_string()),
        "delivering"
    );
    let served = match (config.server, server_listener) {
        (Some((_, mut server_config)), Some(listener)) => {
            server_config.data_dir.clone_from(&config.data_dir);
            let app = App::new(server_config, shared_store, Arc::clone(&config.rules))?;
            started(up);
            ptn_server::run_app(app, listener, stop.clone().cancelled_owned()).await
        }
        _ => {
            started(up);
            stop.cancelled().await;
            Ok(())
        }
    };
    down.cancel();
    engine.shutdown(config.grace).await;
    tracing::info!("stopped; what is unfinished continues at the next start");
    Ok(served?)
}

async fn listen(
    address: Option<SocketAddr>,
    flag: &'static str,
) -> Result<Option<TcpListener>, MinerError> {
    let Some(address) = address else { return Ok(None) };
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(Some(listener)),
        Err(source) => Err(MinerError::Listen { address, flag, source }),
    }
}

fn http_options(config: &MinerConfig) -> HttpOptions {
    let mut options = HttpOptions::default();
    if config.network == Network::Local {
        options.policy = AddressPolicy::AllowPrivate;
    }
    if !config.policy.recognises_repeats {
        // A kept connection can end while the order is on it, and then nobody knows.
        options.reuse_idle = std::time::Duration::ZERO;
    }
    options
}

/// On a network of one's own nobody has the known mothership's key: the most trusted validator is
/// taken as the mothership.
pub fn name_a_mothership(select: &mut Select, list: &[Validator], network: Network) {
    let Select::Mothership(hotkey) = select else { return };
    if !hotkey.is_empty() || network != Network::Local {
        return;
    }
    let best = list
        .iter()
        .max_by(|a, b| a.v_trust.total_cmp(&b.v_trust).then(a.stake.total_cmp(&b.stake)));
    if let Some(best) = best {
        tracing::info!(
            validator = best.hotkey,
            "taken as the mothership: no --delivery.mothership was given"
        );
        hotkey.clone_from(&best.hotkey);
    }
}
