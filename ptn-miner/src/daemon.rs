//! Connects the parts and runs them until the stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ptn_core::chain::Network;
use ptn_core::deliver::{Engine, EngineError};
use ptn_core::directory::{StaticDirectory, ValidatorDirectory};
use ptn_core::error::ErrorClass;
use ptn_core::ops::config::ConfigError;
use ptn_core::ops::lock::{HotkeyInUse, HotkeyLock};
use ptn_core::ops::process;
use ptn_core::ops::sockets::Sockets;
use ptn_core::ops::store::{Opened, Place};
use ptn_core::sign::Signer as _;
use ptn_core::store::fs::{FsStore, Retention};
use ptn_core::store::{SignalStore, StoreError};
use ptn_core::transport::HttpTransport;
use ptn_core::transport::http::HttpOptions;
use ptn_core::transport::nonce;
use ptn_core::wallet::{self, WalletError};
use ptn_server::{App, AppGuard, ServerError};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::chain::{Chain, ChainStartError};
use crate::clock::ClockWatch;
use crate::config::{MinerConfig, Source};
use crate::monitor::Monitor;
use crate::sockets::{Given, open_store, patiently};
use crate::targets::Targets;
use crate::validators;

/// Why the miner did not start or had to stop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MinerError {
    /// A setting or the list of validators.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The hotkey's file.
    #[error("{0} (named by --wallet.path, --wallet.name and --wallet.hotkey)")]
    Hotkey(#[from] WalletError),
    /// The spool.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Another miner delivers with the hotkey.
    #[error(transparent)]
    HotkeyInUse(#[from] HotkeyInUse),
    /// No validators, or a hotkey that none would listen to.
    #[error(transparent)]
    Chain(#[from] ChainStartError),
    /// The HTTP server.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The miner that ran before, or what a service manager handed down.
    #[error("{0}")]
    Takeover(String),
    /// An address to listen on.
    #[error(
        "cannot listen on {address} ({flag}): {source}; choose another port, stop what uses this one, or take over from it with --takeover"
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
            Self::Store(
                StoreError::Locked { .. }
                | StoreError::InUse { .. }
                | StoreError::Unavailable { .. },
            )
            | Self::HotkeyInUse(_)
            | Self::Takeover(_) => process::UNAVAILABLE,
            Self::Store(
                StoreError::Account { .. } | StoreError::Address { .. } | StoreError::Moved { .. },
            ) => process::USAGE,
            Self::Store(StoreError::Poisoned(_)) => process::DISK,
            Self::Chain(ChainStartError::NotRegistered { .. }) => process::REFUSED,
            Self::Chain(ChainStartError::NoValidators { error, .. }) => match error.class() {
                ErrorClass::Input | ErrorClass::Conflict => process::USAGE,
                _ => process::UNREACHABLE,
            },
            _ => process::FAILED,
        }
    }
}

/// What runs, once everything listens.
#[derive(Clone)]
pub struct Started {
    /// The hotkey that signs.
    pub hotkey: String,
    /// Where the HTTP server listens.
    pub server: Option<SocketAddr>,
    /// Where health and metrics are.
    pub monitor: Option<SocketAddr>,
    /// The store.
    pub store: Arc<dyn SignalStore>,
}

impl std::fmt::Debug for Started {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Started").field("hotkey", &self.hotkey).finish_non_exhaustive()
    }
}

/// Runs a miner until `stop`. `started` is told once everything listens; validators from the chain
/// may come later, and signals wait for them.
///
/// # Errors
/// When a part cannot start; see [`MinerError`].
pub async fn run(
    config: MinerConfig,
    stop: CancellationToken,
    started: impl FnOnce(Started),
) -> Result<(), MinerError> {
    run_on(config, Sockets::default(), stop, started).await
}

/// As [`run`], on listening sockets that a service manager holds: one named `server`, one `monitor`.
///
/// # Errors
/// As [`run`].
pub async fn run_on(
    config: MinerConfig,
    sockets: Sockets,
    stop: CancellationToken,
    started: impl FnOnce(Started),
) -> Result<(), MinerError> {
    // Dropped last: its end tells the next miner that everything of this one is free.
    let _offer;
    // Of its own, so that a signal during a hand-over is the first one.
    let stop = stop.child_token();
    let (passwords, path) = (config.passwords.clone(), config.hotkey_file.clone());
    let password = move |format| passwords.to_open(&path, format);
    let hotkey = Arc::new(wallet::open_hotkey(&config.hotkey_file, password).await?);
    let list = match &config.source {
        Source::File(file) => Some(validators::read(file)?),
        Source::Chain(_) => None,
    };
    let mut given = Given::ask(&config, sockets)?;
    let took_over = given.takes_over();
    // Whatever can go wrong shall do so while the other one still delivers.
    let mut listening = None;
    if took_over {
        rehearse(&config).await?;
        listening = Some(given.listen(&config).await?);
    }
    given.take_over(&stop).await;
    let opened = open_store(&config, hotkey.hotkey(), took_over).await?;
    if let Some(files) = opened.passed_over(&config.data_dir) {
        tracing::warn!("{files}");
    }
    let lock = || lock_hotkey(&config, hotkey.hotkey());
    let _in_use = match patiently(took_over, lock).await {
        // Validators of one's own, listed by hand, have no budget that two miners could fight over.
        Err(e) if config.network == Network::Local && list.is_some() => {
            tracing::warn!("{e}");
            None
        }
        lock => Some(lock?),
    };
    let nonces = config.data_dir.join(".ptn/nonce");
    if let Err(error) = private_folder(&config.data_dir).and_then(|()| nonce::keep(&nonces)) {
        tracing::warn!(file = %nonces.display(), %error, "the last nonce cannot be kept for the next run");
    }
    let listening = match listening {
        Some(listening) => listening,
        None => given.listen(&config).await?,
    };
    _offer = listening.offer(&config, &stop);
    let (monitor_listener, server_listener) = (listening.monitor, listening.server);

    // Ends the helpers also when one of the parts fails.
    let down = CancellationToken::new();
    let _guard = down.clone().drop_guard();
    let mut chain = None;
    let directory: Arc<dyn ValidatorDirectory> = match &config.source {
        Source::File(file) => {
            let directory = Arc::new(StaticDirectory::new(list.unwrap_or_default()));
            let follow = validators::follow(file.clone(), Arc::clone(&directory), down.clone());
            tokio::spawn(follow);
            directory
        }
        Source::Chain(options) => {
            let (client, directory) = (**options).clone();
            let chain =
                chain.insert(Arc::new(Chain::new(&config, client, directory, hotkey.hotkey())));
            Arc::clone(chain.directory()) as _
        }
    };
    let shared_store = opened.signals();
    // From here on, so that no failure is missed as a hint.
    let events = shared_store.events();
    let mut guard_config = config.guard.clone();
    guard_config.settings.hotkey = Some(hotkey.hotkey().to_owned());
    let guarding = guard_config.build(&config.data_dir)?;
    let transport = HttpTransport::new(Arc::clone(&hotkey) as _, http_options(&config));
    let mut engine = Engine::builder()
        .store(Arc::clone(&shared_store))
        .directory(Arc::clone(&directory))
        .transport(Arc::new(transport))
        .policy(config.policy.clone());
    let mut keeping = None;
    if let Some(on) = &guarding {
        engine = engine.guard(on.guard.clone());
        tokio::spawn(on.clone().read_prices(down.clone()));
        keeping = Some(tokio::spawn(on.clone().keep(config.data_dir.clone(), down.clone())));
    }
    let engine = engine.start()?;
    let engine = Arc::new(engine);
    let targets = Arc::new(Targets {
        directory,
        policy: config.policy.clone(),
        addresses: config.addresses(),
        by_hand: matches!(config.source, Source::File(_)),
        source: match &config.source {
            Source::File(file) => file.display().to_string(),
            Source::Chain(_) => format!("subnet {} of {}", config.netuid, config.network),
        },
    });
    tokio::spawn(Arc::clone(&targets).log(down.clone()));
    let clock = Arc::new(ClockWatch::default());
    let asked = chain.as_ref().map(|chain| chain.client().clone());
    tokio::spawn(Arc::clone(&clock).run(Arc::clone(&engine), asked, down.clone()));
    let address =
        |listener: &Option<TcpListener>| listener.as_ref().and_then(|l| l.local_addr().ok());
    let up = Started {
        hotkey: hotkey.hotkey().to_owned(),
        server: address(&server_listener),
        monitor: address(&monitor_listener),
        store: Arc::clone(&shared_store),
    };
    if let Some(listener) = monitor_listener {
        let (store, engine) = (opened.clone(), Arc::clone(&engine));
        let space = (config.data_dir.clone(), config.min_free);
        let monitor = Monitor::new(store, engine, targets, chain.clone(), clock, space, &up);
        tokio::spawn(monitor.serve(listener, down.clone()));
    }
    if let (Opened::Fs(store), false) = (&opened, config.retention.is_keep()) {
        tokio::spawn(tidy(Arc::clone(store), config.retention, down.clone()));
    }
    let pending = shared_store.pending().await?;
    let say = |what: &str| {
        tracing::info!(
            hotkey = up.hotkey, rules = %config.rules.era, policy = %config.policy.select,
            store = opened.name(), pending = pending.count,
            guard = config.guard.mode.as_str(),
            server = up.server.map(|a| a.to_string()), monitor = up.monitor.map(|a| a.to_string()),
            "{what}"
        );
    };
    let begin = async {
        let Some(chain) = chain else { return Ok(()) };
        let opened = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            opened = chain.open() => opened,
        };
        match &opened {
            Ok(()) => {
                say("delivering");
                tokio::spawn(chain.run(events, down.clone()));
            }
            // What was accepted meanwhile is kept for the next start.
            Err(_) => stop.cancel(),
        }
        opened
    };
    say(if matches!(config.source, Source::Chain(_)) { "listening" } else { "delivering" });
    started(up.clone());
    let serve = async {
        let (Some((_, server_config)), Some(listener)) = (&config.server, server_listener) else {
            stop.cancelled().await;
            return Ok(());
        };
        let mut server_config = server_config.clone();
        server_config.data_dir.clone_from(&config.data_dir);
        server_config.min_free = config.min_free;
        let guard =
            guarding.map(|on| AppGuard { takes_prices: on.takes_prices(), guard: on.guard });
        let rules = Arc::clone(&config.rules);
        let app = App::with_guard(server_config, shared_store, rules, guard)?;
        ptn_server::run_app(app, listener, stop.clone().cancelled_owned()).await
    };
    // What only a new start helps: it reads everything again.
    let trouble = async {
        let trouble = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            e = opened.failed() => MinerError::Store(e),
            e = engine.failed() => MinerError::Engine(e),
        };
        stop.cancel();
        Err(trouble)
    };
    let serve = async {
        let served = serve.await;
        // Also when the server ended by itself.
        stop.cancel();
        served
    };
    let (begun, served, sound) = tokio::join!(begin, serve, trouble);
    // What cannot be written down any more need not be waited for.
    engine.shutdown(if sound.is_ok() { config.grace } else { Duration::ZERO }).await;
    down.cancel();
    if let Some(keeping) = keeping {
        // After the last acknowledgement. Its own troubles are in the log.
        keeping.await.ok();
    }
    opened.close().await;
    sound?;
    begun?;
    tracing::info!("stopped; what is unfinished continues at the next start");
    Ok(served?)
}

/// Does everything once that a start does and another miner does not stand in the way of.
async fn rehearse(config: &MinerConfig) -> Result<(), MinerError> {
    let opened = config.store.open(&config.rules).await?;
    config.guard.clone().build(&config.data_dir)?;
    if let Some((_, server)) = &config.server {
        let mut server = server.clone();
        server.data_dir.clone_from(&config.data_dir);
        App::new(server, opened.signals(), Arc::clone(&config.rules))?;
    }
    opened.close().await;
    Ok(())
}

/// Moves and deletes old processed signals, now and every hour.
async fn tidy(store: Arc<FsStore>, retention: Retention, stop: CancellationToken) {
    let mut hourly = tokio::time::interval(Duration::from_secs(3600));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = hourly.tick() => {}
        }
        match store.tidy(retention).await {
            Ok(done) if done.archived + done.deleted > 0 => tracing::info!(
                archived = done.archived,
                deleted = done.deleted,
                "old processed signals moved away"
            ),
            Ok(_) => {}
            Err(e) => tracing::warn!(code = e.code(), "old processed signals stay for now: {e}"),
        }
    }
}

fn lock_hotkey(config: &MinerConfig, hotkey: &str) -> Result<HotkeyLock, HotkeyInUse> {
    let network = match config.network {
        // The same network by another node.
        Network::Archive => Network::Finney,
        network => network,
    };
    let (network, beside) = (network.as_str(), config.wallet.folder());
    match &config.store {
        Place::Dir(..) => HotkeyLock::take(hotkey, network, config.netuid, &beside),
        Place::Postgres(options) => {
            HotkeyLock::share(hotkey, network, config.netuid, &beside, options.name())
        }
    }
}

/// Where the last nonce and the last list of validators are kept, also beside a database.
fn private_folder(data_dir: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir.join(".ptn"))
}

fn http_options(config: &MinerConfig) -> HttpOptions {
    let mut options = HttpOptions::default();
    options.policy = config.addresses();
    if !config.policy.recognises_repeats {
        // A kept connection can end while the order is on it, and then nobody knows.
        options.reuse_idle = std::time::Duration::ZERO;
    }
    options
}
