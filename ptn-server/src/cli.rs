//! The `ptn-server` command: flags, the spool, signals of the operating system.
//!
//! Everything that serves is in the library; this only connects the parts.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Command;
use ptn_core::deliver::follow_for_guard;
use ptn_core::guard::GuardMode;
use ptn_core::ops::config::{ConfigError, Settings, with_flags};
use ptn_core::ops::guard::{GuardConfig, Guarding};
use ptn_core::ops::handover::{self, Offer, Taken};
use ptn_core::ops::settings::{COMMON, GUARD, SERVER, SERVER_LISTEN, Setting, TAKEOVER};
use ptn_core::ops::sockets::Sockets;
use ptn_core::ops::store::Place;
use ptn_core::ops::{logging, process};
use ptn_core::rules::Rules;
use ptn_core::store::StoreError;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::{ServerConfig, parse_listen};
use crate::{App, AppGuard, run_app};

const LISTEN: &[Setting] = &[SERVER_LISTEN, TAKEOVER];
/// The name of the one socket.
const SOCKET: &str = "server";

/// The command with all its flags; for help texts, completions and man pages.
pub fn command() -> Command {
    let command = Command::new("ptn-server")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Receives signals over HTTP and keeps them safe for ptn-miner")
        .after_help(
            "Callers need a key from <data-dir>/miner_secrets.json ({\"api_key\": \"...\"}) or \
             <data-dir>/api_keys.json; both are read again when they change.\n\n\
             Exit codes: 0 stopped on request, 1 failed, 2 wrong settings, 75 the database cannot be \
             reached.",
        );
    with_flags(command, &[LISTEN, COMMON, SERVER, GUARD])
}

/// Runs the command; what the binary's `main` returns.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let matches = match command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(e) => {
            // Printing help fails only when nobody can read it.
            drop(e.print());
            return ExitCode::from(if e.use_stderr() { process::USAGE } else { process::OK });
        }
    };
    let complain = |e: &dyn std::error::Error, code| process::complain("ptn-server", e, code);
    let prepared =
        Settings::resolve(&[LISTEN, COMMON, SERVER, GUARD], &matches).and_then(|settings| {
            logging::install(&settings)?;
            process::no_core_files();
            process::more_open_files();
            read(&settings)
        });
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(e) => return complain(&e, process::USAGE),
    };
    let sockets = match Sockets::from_env() {
        Ok(sockets) => sockets,
        Err(e) => return complain(Box::<dyn std::error::Error>::from(e).as_ref(), process::USAGE),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return complain(&e, process::FAILED),
    };
    match runtime.block_on(serve(prepared, sockets)) {
        Ok(()) => ExitCode::from(process::OK),
        Err(e) => {
            let code = match e.downcast_ref::<StoreError>() {
                Some(StoreError::Unavailable { .. }) => process::UNAVAILABLE,
                Some(StoreError::Moved { .. }) => process::USAGE,
                Some(StoreError::Poisoned(_)) => process::DISK,
                _ => process::FAILED,
            };
            complain(e.as_ref(), code)
        }
    }
}

/// Everything that the settings say.
struct Prepared {
    address: SocketAddr,
    place: Place,
    config: ServerConfig,
    rules: Arc<Rules>,
    guarding: Option<Guarding>,
    takeover: bool,
}

fn read(settings: &Settings) -> Result<Prepared, ConfigError> {
    let listen = settings.get("server.listen").unwrap_or(crate::config::DEFAULT_LISTEN);
    let address = parse_listen(listen).map_err(|why| settings.bad("server.listen", why))?;
    let (config, rules) = (ServerConfig::from_settings(settings)?, Arc::new(settings.rules()?));
    let guarding = GuardConfig::from_settings(settings, &rules)?.build(&config.data_dir)?;
    let place = Place::from_settings(settings)?;
    let takeover = settings.switch("takeover")?.unwrap_or(false);
    Ok(Prepared { address, config, rules, guarding, place, takeover })
}

async fn serve(prepared: Prepared, mut sockets: Sockets) -> Result<(), Box<dyn std::error::Error>> {
    let Prepared { address, config, rules, guarding, place, takeover } = prepared;
    // Of its own, so that a signal during a hand-over is the first one.
    let stop = process::stop_token()?.child_token();
    let data_dir = config.data_dir.clone();
    let inherited = sockets.take(SOCKET, &[SOCKET]);
    let managed = inherited.is_some();
    let (socket, taken) = match inherited {
        Some(socket) => (Some(socket), None),
        None if takeover => take_over(&data_dir, address)?,
        None => (None, None),
    };
    if let [unused, ..] = sockets.left().as_slice() {
        return Err(format!("the service manager hands down {unused}, which nothing here uses; name one ListenStream= in the socket unit").into());
    }
    let opened = place.open(&rules).await?;
    if let Some(files) = opened.passed_over(&data_dir) {
        tracing::warn!("{files}");
    }
    let guard = guarding.map(|on| {
        tokio::spawn(on.clone().read_prices(stop.clone()));
        AppGuard { takes_prices: on.takes_prices(), guard: on.guard }
    });
    let app = App::with_guard(config, opened.signals(), rules, guard.clone())?;
    let listener = match socket {
        Some(socket) => {
            socket.set_nonblocking(true)?;
            TcpListener::from_std(socket)?
        }
        None => TcpListener::bind(address).await.map_err(|e| {
            format!("cannot listen on {address} (--listen): {e}; choose another port, stop what uses this one, or take over from it with --takeover")
        })?,
    };
    let address = listener.local_addr()?;
    let mode = guard.as_ref().map_or(GuardMode::Off, |on| on.guard.mode());
    if let Some(AppGuard { guard, .. }) = guard {
        // The miner is another process: what validators say is learnt from the store.
        let clock = Arc::new(crate::app::now);
        tokio::spawn(follow_for_guard(opened.signals(), guard, clock, stop.clone()));
    }
    if let Some(taken) = taken {
        // From here on both accept, until the other one has done.
        taken.go().ok();
    }
    // A service manager that holds the socket replaces this process by itself.
    let _offer = if managed { None } else { offer(&data_dir, address, &listener, &stop) };
    tracing::info!(%address, store = opened.name(), guard = mode.as_str(), "listening");
    // After a failed sync only a new start helps: it reads everything again.
    let failure = async {
        tokio::select! {
            () = stop.cancelled() => None,
            e = opened.failed() => Some(e),
        }
    };
    let mut failed = None;
    run_app(app, listener, async { failed = failure.await }).await?;
    opened.close().await;
    if let Some(e) = failed {
        return Err(e.into());
    }
    tracing::info!("stopped");
    Ok(())
}

type Over = (Option<std::net::TcpListener>, Option<Taken>);

/// The socket of the server that runs there, if one does.
fn take_over(data_dir: &Path, address: SocketAddr) -> Result<Over, String> {
    let taken = handover::take(data_dir, &address.to_string());
    let mut taken = taken.map_err(|e| {
        format!("cannot take over from the server that runs on {address}: {e}; stop it, and start this one without --takeover")
    })?;
    let socket = taken.as_mut().and_then(|taken| taken.socket(SOCKET));
    Ok((socket, taken))
}

/// Lets the next server take over. The server works without.
fn offer(
    data_dir: &Path,
    address: SocketAddr,
    listener: &TcpListener,
    stop: &CancellationToken,
) -> Option<Offer> {
    let socket = listener.as_fd().try_clone_to_owned();
    let made = socket.and_then(|socket| {
        Offer::make(data_dir, &address.to_string(), vec![(SOCKET, socket)], stop.clone())
    });
    made.map_err(|error| {
        tracing::warn!(%error, "no other process will be able to take over from this one (--takeover)");
    })
    .ok()
}
