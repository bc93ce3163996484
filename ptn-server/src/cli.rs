//! The `ptn-server` command: flags, the spool, signals of the operating system.
//!
//! Everything that serves is in the library; this only connects the parts.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Command;
use ptn_core::deliver::follow_for_guard;
use ptn_core::guard::GuardMode;
use ptn_core::ops::config::{ConfigError, Settings, with_flags};
use ptn_core::ops::guard::{GuardConfig, Guarding};
use ptn_core::ops::settings::{COMMON, GUARD, SERVER, SERVER_LISTEN, Setting};
use ptn_core::ops::store::Place;
use ptn_core::ops::{logging, process};
use ptn_core::rules::Rules;
use ptn_core::store::StoreError;
use tokio::net::TcpListener;

use crate::config::{ServerConfig, parse_listen};
use crate::{App, AppGuard, run_app};

const LISTEN: &[Setting] = &[SERVER_LISTEN];

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
            process::more_open_files();
            read(&settings)
        });
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(e) => return complain(&e, process::USAGE),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return complain(&e, process::FAILED),
    };
    match runtime.block_on(serve(prepared)) {
        Ok(()) => ExitCode::from(process::OK),
        Err(e) => {
            let code = match e.downcast_ref::<StoreError>() {
                Some(StoreError::Unavailable { .. }) => process::UNAVAILABLE,
                Some(StoreError::Moved { .. }) => process::USAGE,
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
}

fn read(settings: &Settings) -> Result<Prepared, ConfigError> {
    let listen = settings.get("server.listen").unwrap_or(crate::config::DEFAULT_LISTEN);
    let address = parse_listen(listen).map_err(|why| settings.bad("server.listen", why))?;
    let (config, rules) = (ServerConfig::from_settings(settings)?, Arc::new(settings.rules()?));
    let guarding = GuardConfig::from_settings(settings, &rules)?.build(&config.data_dir)?;
    let place = Place::from_settings(settings)?;
    Ok(Prepared { address, place, config, rules, guarding })
}

async fn serve(prepared: Prepared) -> Result<(), Box<dyn std::error::Error>> {
    let Prepared { address, place, config, rules, guarding } = prepared;
    let stop = process::stop_token()?;
    let opened = place.open(&rules).await?;
    let guard = guarding.map(|on| {
        tokio::spawn(on.clone().read_prices(stop.clone()));
        AppGuard { takes_prices: on.takes_prices(), guard: on.guard }
    });
    let app = App::with_guard(config, opened.signals(), rules, guard.clone())?;
    let listener = TcpListener::bind(address).await.map_err(|e| {
        format!("cannot listen on {address} (--listen): {e}; choose another port, or stop what uses this one")
    })?;
    let address = listener.local_addr()?;
    let mode = guard.as_ref().map_or(GuardMode::Off, |on| on.guard.mode());
    if let Some(AppGuard { guard, .. }) = guard {
        // The miner is another process: what validators say is learnt from the store.
        let clock = Arc::new(crate::app::now);
        tokio::spawn(follow_for_guard(opened.signals(), guard, clock, stop.clone()));
    }
    tracing::info!(%address, store = opened.name(), guard = mode.as_str(), "listening");
    run_app(app, listener, stop.cancelled_owned()).await?;
    opened.close().await;
    tracing::info!("stopped");
    Ok(())
}
