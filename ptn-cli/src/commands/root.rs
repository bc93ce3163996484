//! `root`: joining the root subnet, and why there are no root weights any more.

mod register;

use clap::{Arg, ArgAction, ArgMatches, Args as _, Command};
use ptn_core::ops::settings::{CHAIN, Setting, WALLET};

use super::chain::SendArgs;
use super::wallet::btcli;
use crate::Outcome;
use crate::failure::Failure;
use crate::output::Output;

type AddSettings = fn(Command, &[&'static [Setting]]) -> Command;

/// The command and its sub-commands.
pub(crate) fn command(settings: AddSettings) -> Command {
    let register = SendArgs::augment_args(Command::new("register"))
        .about("Registers a hotkey in the root (subnet 0); signed by the coldkey");
    // Whatever was given to them in the old days: the answer is the same.
    let gone = |name: &'static str| {
        Command::new(name).about("Says what replaced root weights").disable_help_flag(true).arg(
            Arg::new("rest")
                .num_args(0..)
                .trailing_var_arg(true)
                .allow_hyphen_values(true)
                .action(ArgAction::Append)
                .hide(true),
        )
    };
    Command::new("root")
        .about("Registers in the root subnet")
        .alias("roots")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(btcli(settings(register, &[CHAIN, WALLET])))
        .subcommand(gone("weights").alias("get-weights"))
        .subcommand(gone("set-weights"))
}

/// Runs the command.
///
/// # Errors
/// When something is wrong with settings, wallet or chain, or the chain refuses.
pub fn run(matches: &ArgMatches, out: &mut Output) -> Outcome {
    match matches.subcommand() {
        Some(("register", matches)) => register::run(matches, out),
        Some(("weights" | "set-weights", _)) => Err(no_weights()),
        _ => Err(Failure::usage("root register, weights or set-weights? see ptn-cli root --help")),
    }
}

/// Why subnet 0 has none.
pub(crate) fn no_weights() -> Failure {
    Failure::failed(
        "no_root_weights",
        "the chain has no root weights: its call set_root_weights existed until the dynamic-TAO \
         upgrade (\"rao\", on finney in February 2025) and is gone from every runtime since",
    )
    .hint(
        "emission now follows the prices of the subnets' alpha: a holder directs it by staking into \
         subnets (call SubtensorModule.add_stake); what the validators of a subnet give to its miners: \
         ptn-cli subnet weights",
    )
}
