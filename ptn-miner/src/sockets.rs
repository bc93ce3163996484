//! Where the miner's two listening sockets come from: a service manager, the miner that ran before,
//! or this process itself.
//!
//! Only one miner delivers from a data directory, so the next one waits for the end of the one
//! before. Meanwhile callers wait in the sockets' queues; nobody is refused.

use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::time::Duration;

use ptn_core::ops::handover::{self, Leaving, Offer, Taken};
use ptn_core::ops::sockets::Sockets;
use ptn_core::ops::store::{Opened, Place};
use ptn_core::store::StoreError;
use ptn_core::store::postgres::Watermark;
use ptn_core::transport::nonce;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::MinerConfig;
use crate::daemon::MinerError;

const SERVER: &str = "server";
const MONITOR: &str = "monitor";
const NAMES: [&str; 2] = [SERVER, MONITOR];
/// By whom a running miner is asked for its sockets.
const WHO: &str = "miner";
/// A miner that was asked to end lets attempts under way end first, for as long as its settings say.
/// So often it is said that it has not yet.
const SAYS_EVERY: Duration = Duration::from_secs(30);
/// Between its last word and the release of its locks.
const LETS_GO_WITHIN: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What was there before this process.
#[derive(Debug)]
pub(crate) struct Given {
    server: Option<std::net::TcpListener>,
    monitor: Option<std::net::TcpListener>,
    /// The miner that runs, until it is asked to end.
    running: Option<Taken>,
    managed: bool,
}

/// The listening sockets.
#[derive(Debug)]
pub(crate) struct Listening {
    pub(crate) server: Option<TcpListener>,
    pub(crate) monitor: Option<TcpListener>,
    managed: bool,
}

impl Given {
    /// Asks the miner that runs for its sockets, where that is wanted. It goes on meanwhile.
    pub(crate) fn ask(config: &MinerConfig, mut given: Sockets) -> Result<Self, MinerError> {
        let wanted_server = config.server.as_ref().map(|(address, _)| *address);
        let mut server = wanted_server.and_then(|_| given.take(SERVER, &NAMES));
        let mut monitor = config.monitor.and_then(|_| given.take(MONITOR, &NAMES));
        if let [unused, ..] = given.left().as_slice() {
            return Err(MinerError::Takeover(format!(
                "the service manager hands down {unused}, which nothing here uses: name one \
                 socket \"server\" (with --server.listen) and one \"monitor\" (FileDescriptorName=)"
            )));
        }
        let managed = server.is_some() || monitor.is_some();
        let mut running = None;
        if config.takeover {
            let asked = handover::take(&config.data_dir, WHO).map_err(|e| {
                MinerError::Takeover(format!(
                    "cannot take over from the miner that runs on {}: {e}; stop it, and start this \
                     one without --takeover",
                    config.data_dir.display()
                ))
            })?;
            if let Some(mut taken) = asked {
                let fits = |socket: &std::net::TcpListener, wanted: Option<SocketAddr>| {
                    let is = socket.local_addr().ok();
                    is.zip(wanted).is_some_and(|(is, wanted)| {
                        is == wanted || (wanted.port() == 0 && is.ip() == wanted.ip())
                    })
                };
                let old = taken.socket(SERVER).filter(|s| fits(s, wanted_server));
                server = server.or(old);
                let old = taken.socket(MONITOR).filter(|s| fits(s, config.monitor));
                monitor = monitor.or(old);
                running = Some(taken);
            }
        }
        Ok(Self { server, monitor, running, managed })
    }

    /// Whether another miner runs, and is to be ended.
    pub(crate) const fn takes_over(&self) -> bool {
        self.running.is_some()
    }

    /// All sockets that the settings ask for.
    pub(crate) async fn listen(&mut self, config: &MinerConfig) -> Result<Listening, MinerError> {
        let server = config.server.as_ref().map(|(address, _)| *address);
        Ok(Listening {
            server: listen(self.server.take(), server, "--server.listen").await?,
            monitor: listen(self.monitor.take(), config.monitor, "--axon.port").await?,
            managed: self.managed,
        })
    }

    /// Ends the miner that runs, if one does. From here on this one must deliver.
    pub(crate) async fn take_over(&mut self, stop: &CancellationToken) {
        // Who is gone already need not be waited for.
        if let Some(Ok(leaving)) = self.running.take().map(Taken::go) {
            wait_for(leaving, stop).await;
        }
    }
}

impl Listening {
    /// Lets the next miner take over. This one works without.
    pub(crate) fn offer(&self, config: &MinerConfig, stop: &CancellationToken) -> Option<Offer> {
        // A service manager that holds the sockets replaces this process by itself.
        if self.managed {
            return None;
        }
        let made = (|| {
            let mut sockets = Vec::new();
            for (name, listener) in [(SERVER, &self.server), (MONITOR, &self.monitor)] {
                if let Some(listener) = listener {
                    sockets.push((name, listener.as_fd().try_clone_to_owned()?));
                }
            }
            if sockets.is_empty() {
                return Ok(None);
            }
            Offer::make(&config.data_dir, WHO, sockets, stop.clone()).map(Some)
        })();
        made.unwrap_or_else(|error: std::io::Error| {
            tracing::warn!(%error, "no other miner will be able to take over from this one (--takeover)");
            None
        })
    }
}

/// Waits for its end, however long its attempts may take: it has stopped accepting, so giving up here
/// would leave nobody.
async fn wait_for(mut leaving: Leaving, stop: &CancellationToken) {
    tracing::info!("taking over: waiting for the running miner to end");
    loop {
        let waiting = tokio::task::spawn_blocking(move || {
            let ended = leaving.wait(SAYS_EVERY);
            (leaving, ended)
        });
        let waited = tokio::select! {
            // The start goes on and sees the stop by itself.
            () = stop.cancelled() => return,
            waited = waiting => waited,
        };
        match waited {
            Ok((same, false)) => leaving = same,
            _ => return,
        }
        tracing::warn!(
            "the miner that runs still lets its attempts end (--shutdown.grace); see its log"
        );
    }
}

/// Opens the store to deliver from it. The locks of a miner that has just ended may take a moment.
pub(crate) async fn open_store(
    config: &MinerConfig,
    hotkey: &str,
    took_over: bool,
) -> Result<Opened, MinerError> {
    let mut place = config.store.clone();
    if let Place::Postgres(options) = &mut place {
        options.account = Some(hotkey.to_owned());
        options.watermark = Some(Watermark { ahead: nonce::ahead_of, raise: nonce::raise });
    }
    let end = Instant::now() + LETS_GO_WITHIN;
    loop {
        match place.open_owner(&config.rules).await {
            Err(StoreError::Locked { .. }) if took_over && Instant::now() < end => {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            opened => return Ok(opened?),
        }
    }
}

/// Tries again for a while after a hand-over.
pub(crate) async fn patiently<T, E>(
    took_over: bool,
    work: impl Fn() -> Result<T, E>,
) -> Result<T, E> {
    let end = Instant::now() + LETS_GO_WITHIN;
    loop {
        match work() {
            Err(_) if took_over && Instant::now() < end => {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            done => return done,
        }
    }
}

async fn listen(
    given: Option<std::net::TcpListener>,
    address: Option<SocketAddr>,
    flag: &'static str,
) -> Result<Option<TcpListener>, MinerError> {
    let Some(address) = address else { return Ok(None) };
    let listener = match given {
        Some(socket) => socket.set_nonblocking(true).and_then(|()| TcpListener::from_std(socket)),
        None => TcpListener::bind(address).await,
    };
    listener.map(Some).map_err(|source| MinerError::Listen { address, flag, source })
}
