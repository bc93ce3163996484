//! The command tree: names, flags, help texts. One tree for parsing, help, completions and manual.
//!
//! Settings that may also stand in `ptn.toml` come from `ptn_core::ops::settings`, so their names
//! and texts are those of the other binaries. What commands do is left to [`crate::commands`].

use clap::{Arg, ArgAction, ArgMatches, Args, Command};
use ptn_core::ops::config::{Settings, with_flags};
use ptn_core::ops::settings::{COMMON, GUARD, MINER, PACE, SERVER, Setting};
use ptn_core::ops::{logging, process};

use crate::Outcome;
use crate::commands::completions::{CompletionArgs, ManArgs};
use crate::commands::demo::DemoArgs;
use crate::commands::doctor::DoctorArgs;
use crate::commands::listen::ListenArgs;
use crate::commands::send::SendArgs;
use crate::commands::trigger::TriggerArgs;
use crate::commands::{config, paper, root, signals, subnet, wallet};
use crate::failure::Failure;
use crate::output::Output;

const EXIT_CODES: &str = "\
Exit codes:
   0  done
   1  failed
   2  the command or its input was wrong
   3  refused by the network
   4  a server or validator could not be reached
   5  the order_uuid was used for another signal
   6  maybe sent: the answer was lost
  75  try again later, nothing was lost (still pending, store busy, disk full)

Results go to stdout, talk to stderr. Colours only on a terminal; NO_COLOR switches them off.";

const FIRST: &str = "Try it first, without keys, accounts or a network:  ptn-cli demo";

/// Every settings list that a `ptn.toml` may have.
pub const ALL_SETTINGS: &[&[Setting]] = &[COMMON, MINER, SERVER, GUARD];

/// The whole tree.
pub fn command() -> Command {
    let json = Arg::new("json").long("json").alias("json-output").action(ArgAction::SetTrue);
    let command = Command::new("ptn-cli")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Sends trading signals to the Proprietary Trading Network and looks after them")
        .after_help(format!("{FIRST}\n\n{EXIT_CODES}"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .max_term_width(100)
        .arg(json.global(true).help("Results as JSON, for programs"))
        .subcommand(demo())
        .subcommand(send())
        .subcommand(common::<TriggerArgs>(
            "trigger",
            "Sends a sample of an execution type, or prints the TradingView alert for it",
        ))
        .subcommand(signals::command(settings))
        .subcommand(wallet::command(settings))
        .subcommand(subnet::command(settings))
        .subcommand(root::command(settings))
        .subcommand(paper::command())
        .subcommand(listen())
        .subcommand(doctor())
        .subcommand(config::command(settings))
        .subcommand(
            CompletionArgs::augment_args(Command::new("completions"))
                .about("Prints the completion script of a shell"),
        )
        .subcommand(
            ManArgs::augment_args(Command::new("man"))
                .about("Prints the manual page, or writes all of them"),
        );
    snake_case(command)
}

fn demo() -> Command {
    let about = "Runs a whole network on this machine and shows what happens to signals";
    let command = DemoArgs::augment_args(Command::new("demo"));
    command.about(about).after_help(
        "Three validators on loopback (one slow, one that refuses its first orders), the real \
         server and the real miner, throwaway keys and a temporary data directory. Each validator \
         keeps positions by the network's rules on made-up prices (2024 and 2026); at the end there \
         is a leaderboard, and with --chain the weights that were set. No account, no \
         key and no network are needed. Exit code 0 only when every validator acknowledged every \
         signal.\n\n\
         With --json one document is printed: {ok, rules, server, chain, validators: [{name, hotkey, wire, \
         address, behaviour}], signals: [{order_uuid, order, endpoint, http_status, accept_ms, \
         state, validators: [{hotkey, wire, state, attempts, received_at_ms, acknowledged_ms}]}], \
         elapsed_ms, leaderboard: [{rank, miner, hotkey, net_return, largest_drawdown, weight, positions}], weights: {validator, times, \
         block, shares: [{uid, share}]}}; chain and weights are null without --chain, leaderboard and weights in 2025. Times of a signal are in milliseconds since its request was sent.",
    )
}

fn send() -> Command {
    let command = SendArgs::augment_args(Command::new("send")).about("Sends one signal");
    settings(command, &[COMMON, GUARD, PACE]).after_help(
        "Examples:\n  \
         ptn-cli send BTCUSDC long 0.1x\n  \
         ptn-cli send BTCUSDC short $1000 --limit 70000 --sl 72000 --tp 65000\n  \
         ptn-cli send BTCUSDC flat\n  \
         ptn-cli send --execution-type FLAT_ALL --order-uuid ALL\n  \
         ptn-cli send --file order.json --url http://127.0.0.1:8088 --api-key-file key\n  \
         echo '{...}' | ptn-cli send --check --json --file -\n\n\
         --check --json prints {\"accepted\":true,\"signal\":{...}} or {\"accepted\":false,\
         \"error\":{\"code\",\"field\",\"message\"}} with exit code 2. Where there is a server, a data \
         directory or --guard to judge by, \"guard\":{\"verdict\",\"concerns\",...} stands in it too, and \
         the exit code is 3 when the network would refuse the order.\n\n\
         Beside a data directory the guard takes the pace of its miner from what that one wrote down; \
         --subtensor.network and --delivery.pacing say it otherwise, as they do to ptn-miner.",
    )
}

fn listen() -> Command {
    let about = "Runs a validator on loopback that prints what arrives";
    ListenArgs::augment_args(Command::new("listen")).about(about)
}

fn doctor() -> Command {
    let about = "Checks this installation and says what to do";
    let command = DoctorArgs::augment_args(Command::new("doctor"));
    settings(command.about(about), ALL_SETTINGS)
}

fn common<A: Args>(name: &'static str, about: &'static str) -> Command {
    settings(A::augment_args(Command::new(name)).about(about), &[COMMON])
}

/// Adds settings under a heading of their own.
fn settings(command: Command, list: &[&'static [Setting]]) -> Command {
    with_flags(command.next_help_heading("Settings, also in ptn.toml and the environment"), list)
}

/// Every flag and sub-command also as btcli writes it, with underscores.
fn snake_case(command: Command) -> Command {
    let command = command.mut_args(|arg| {
        let mut names: Vec<String> = arg.get_long().into_iter().map(str::to_owned).collect();
        names.extend(arg.get_all_aliases().unwrap_or_default().into_iter().map(str::to_owned));
        let snakes = names.iter().filter(|name| name.contains('-')).map(|n| n.replace('-', "_"));
        let new: Vec<String> = snakes.filter(|snake| !names.contains(snake)).collect();
        arg.aliases(new)
    });
    let names: Vec<String> = command.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    names.into_iter().fold(command, |command, name| {
        let snake = name.replace('-', "_");
        command.mut_subcommand(&name, |sub| {
            let sub = snake_case(sub);
            if snake == name { sub } else { sub.alias(snake) }
        })
    })
}

/// Resolves the settings of a command, and logs when they ask for it.
///
/// # Errors
/// When a setting is wrong.
pub(crate) fn resolve(
    list: &[&'static [Setting]],
    matches: &ArgMatches,
) -> Result<Settings, Failure> {
    let settings = Settings::resolve(list, matches)?;
    let on = |key: &'static str| settings.switch(key).map(|s| s == Some(true));
    if on("logging.debug")? || on("logging.trace")? {
        logging::install(&settings)?;
    }
    Ok(settings)
}

/// Help, version, or a wrong command line.
pub(crate) fn usage(error: &clap::Error, out: &mut Output) -> Outcome {
    let text = error.render().to_string();
    if !error.use_stderr() {
        out.raw(text.as_bytes())?;
        return Ok(process::OK);
    }
    if out.is_json() {
        let text = text.trim().trim_start_matches("error: ").to_owned();
        return Err(Failure::usage(text));
    }
    out.talk(text.trim_end());
    Ok(process::USAGE)
}
