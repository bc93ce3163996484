//! `ptn-cli`: send signals, look after them, check an installation, try everything out.
//!
//! [`run`] is the whole program, so that tests can call it: arguments in, exit code out, everything
//! that is said goes through one [`output::Output`]. The commands only connect the parts of
//! `ptn_core`, `ptn_server` and `ptn_miner`; what a signal means and how it is delivered is left to
//! those.
//!
//! What must stay true: results go to stdout and talk to stderr; with `--json` stdout holds nothing
//! but JSON; a closed pipe is no failure; API keys are never printed and never read from arguments,
//! and a wallet's secrets only where the user insists.

pub mod cli;
pub mod commands;
pub mod failure;
pub mod http;
pub mod output;
pub mod table;
pub mod text;
pub mod view;

use std::ffi::OsString;
use std::future::Future;

use clap::ArgMatches;

use crate::failure::Failure;
use crate::output::Output;

/// What a command returns: an exit code when it has said everything itself, or a failure that is
/// still to be said.
pub type Outcome = Result<u8, Failure>;

/// Runs the program; the first argument is its name.
pub fn run(args: impl IntoIterator<Item = OsString>, out: &mut Output) -> u8 {
    let args: Vec<OsString> = args.into_iter().collect();
    out.set_json(args.iter().skip(1).any(|a| a == "--json" || a == "--json-output"));
    let outcome = match cli::command().try_get_matches_from(&args) {
        Ok(matches) => {
            if commands::wallet::json_names_a_file(&matches) {
                out.set_json(false);
            }
            dispatch(&matches, out)
        }
        Err(e) => cli::usage(&e, out),
    };
    match outcome {
        Ok(code) => code,
        Err(failure) => failure.say(out),
    }
}

fn dispatch(matches: &ArgMatches, out: &mut Output) -> Outcome {
    let Some((name, matches)) = matches.subcommand() else {
        return Err(Failure::usage("a command is needed; see ptn-cli --help"));
    };
    match name {
        "send" => commands::send::run(matches, out),
        "trigger" => commands::trigger::run(matches, out),
        "wallet" => commands::wallet::run(matches, out),
        "subnet" => commands::subnet::run(matches, out),
        "root" => commands::root::run(matches, out),
        "paper" => commands::paper::run(matches, out),
        "listen" => commands::listen::run(matches, out),
        "signals" => commands::signals::run(matches, out),
        "doctor" => commands::doctor::run(matches, out),
        "config" => commands::config::run(matches, out),
        "demo" => commands::demo::run(matches, out),
        "completions" => commands::completions::completions(matches, out),
        "man" => commands::completions::man(matches, out),
        other => Err(Failure::usage(format!("there is no command {other}"))),
    }
}

/// Waits for a single thing.
pub(crate) fn block_on_value<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::io("cannot start", "the runtime", &e))?;
    Ok(runtime.block_on(work))
}

/// Runs a command that waits for something. One thread is enough for everything but the demo.
pub(crate) fn block_on(work: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::io("cannot start", "the runtime", &e))?;
    let outcome = runtime.block_on(work);
    // A read of the terminal cannot be interrupted, and need not be waited for.
    runtime.shutdown_background();
    outcome
}
