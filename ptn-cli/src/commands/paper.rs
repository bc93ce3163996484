//! `paper`: the network's rules on this machine, without money and without the network.

mod html;
pub(crate) mod on_chain;
mod prices;
mod replay;
mod run;

use clap::{ArgMatches, Args as _, Command};

use crate::Outcome;
use crate::failure::Failure;
use crate::output::Output;

/// The command and its sub-commands.
pub fn command() -> Command {
    let replay = replay::ReplayArgs::augment_args(Command::new("replay"))
        .about("Replays recorded signals under the network's rules and reports the result")
        .after_help(replay::AFTER_HELP);
    let run = run::RunArgs::augment_args(Command::new("run"))
        .about("Stands as a validator on this machine, for miners to trade against")
        .after_help(run::AFTER_HELP);
    Command::new("paper")
        .about("Trades on paper: what validators would do with your signals")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(run)
        .subcommand(replay)
}

/// Runs a sub-command.
///
/// # Errors
/// As the sub-command.
pub fn run(matches: &ArgMatches, out: &mut Output) -> Outcome {
    match matches.subcommand() {
        Some(("run", matches)) => run::run(matches, out),
        Some(("replay", matches)) => replay::run(matches, out),
        _ => Err(Failure::usage("a command is needed; see ptn-cli paper --help")),
    }
}
