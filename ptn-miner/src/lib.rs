//! The delivering daemon: signals from the spool to the validators, and on request the HTTP server
//! in the same process.
//!
//! It only connects the parts of `ptn-core`: settings, key, spool, directory, transport, engine.
//! [`run`] takes a ready [`config::MinerConfig`] and a stop signal, so that the demo and the tests
//! run the same code as the binary.

mod chain;
mod clock;
pub mod config;
mod daemon;
mod legacy_flags;
mod monitor;
mod sockets;
mod targets;
pub mod validators;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Command;
use ptn_core::ops::config::{Settings, with_flags};
use ptn_core::ops::settings::{COMMON, GUARD, MINER, SERVER};
use ptn_core::ops::sockets::Sockets;
use ptn_core::ops::{logging, process};

pub use chain::ChainStartError;
pub use daemon::{MinerError, Started, run, run_on};

/// The command with all its flags; for help texts, completions and man pages.
pub fn command() -> Command {
    let command = Command::new("ptn-miner")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Delivers signals to the validators of the Proprietary Trading Network")
        .after_help(
            "Signals come from the data directory: what ptn-server, ptn-cli or your own scripts put \
             into received_signals is delivered, in order per trade pair, to every validator that \
             counts, and ends in processed_signals or failed_signals with every validator's answer.\n\n\
             Validators come from the chain, or from --validators FILE. The last list of the chain is \
             kept in the data directory, so a miner starts and delivers while the chain is down.\n\n\
             Exit codes: 0 stopped on request, 1 failed, 2 wrong settings, 3 the hotkey is not \
             registered, 4 the chain cannot be reached and no list was saved, 75 another miner holds \
             the data directory or uses the hotkey.",
        );
    legacy_flags::with_flags(with_flags(command, &[COMMON, MINER, SERVER, GUARD]))
}

/// Parses flags, runs until Ctrl-C; what the binary's `main` returns.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let matches = match command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(e) => {
            // Printing help fails only when nobody can read it.
            e.print().ok();
            return ExitCode::from(if e.use_stderr() { process::USAGE } else { process::OK });
        }
    };
    let prepared =
        Settings::resolve(&[COMMON, MINER, SERVER, GUARD], &matches).and_then(|settings| {
            logging::install(&settings)?;
            legacy_flags::warn(&matches);
            config::MinerConfig::from_settings(&settings)
        });
    let config = match prepared {
        Ok(config) => config,
        Err(e) => return process::complain("ptn-miner", &e, process::USAGE),
    };
    let sockets = match Sockets::from_env() {
        Ok(sockets) => sockets,
        Err(e) => {
            let e = MinerError::Takeover(e);
            return process::complain("ptn-miner", &e, process::USAGE);
        }
    };
    process::no_core_files();
    process::more_open_files();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return process::complain("ptn-miner", &e, process::FAILED),
    };
    runtime.block_on(async {
        let stop = match process::stop_token() {
            Ok(stop) => stop,
            Err(e) => return process::complain("ptn-miner", &e, process::FAILED),
        };
        match run_on(config, sockets, stop, |_| {}).await {
            Ok(()) => ExitCode::from(process::OK),
            Err(e) => process::complain("ptn-miner", &e, e.exit_code()),
        }
    })
}
