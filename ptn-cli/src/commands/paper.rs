//! `paper`: the network's rules on this machine, without money and without the network.

mod html;
mod prices;
mod replay;

use clap::{ArgMatches, Args as _, Command};

use crate::Outcome;
use crate::failure::Failure;
use crate::output::Output;

/// The command and its sub-commands.
pub fn command() -> Command {
    let replay = replay::ReplayArgs::augment_args(Command::new("replay"))
        .about("Replays recorded signals under the network's rules and reports the result")
        .after_help(replay::AFTER_HELP);
    Command::new("paper")
        .about("Trades on paper: what validators would do with your signals")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(replay)
}

/// Runs a sub-command.
///
/// # Errors
/// As the sub-command.
pub fn run(matches: &ArgMatches, out: &mut Output) -> Outcome {
    match matches.subcommand() {
        Some(("replay", matches)) => replay::run(matches, out),
        _ => Err(Failure::usage("a command is needed; see ptn-cli paper --help")),
    }
}
