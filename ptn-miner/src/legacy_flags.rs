//! Flags of the Python miner that have no effect here. They are accepted, with a warning, so that a
//! command line can be moved over as it is.

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

/// Flag, whether it takes a value, and what to know.
const FLAGS: &[(&str, bool, &str)] = &[
    ("run-position-inspector", false, "positions are not queried"),
    ("start-dashboard", false, "see /health and /metrics on --axon.port"),
    ("slack-webhook-url", true, "no Slack messages are sent"),
    ("slack-error-webhook-url", true, "no Slack messages are sent"),
    ("logging.logging_dir", true, "the log goes to stderr"),
    ("entity-miner", false, "subaccount_id in the signal is enough"),
    ("miner-name", true, "the name was used in Slack messages"),
];

/// Adds them, hidden.
pub(crate) fn with_flags(command: Command) -> Command {
    FLAGS.iter().fold(command, |command, (flag, takes_value, _)| {
        let action = if *takes_value { ArgAction::Set } else { ArgAction::SetTrue };
        let other = flag.replace('-', "_");
        let arg = Arg::new(*flag).long(*flag).alias(other).overrides_with(*flag);
        command.arg(arg.hide(true).action(action))
    })
}

/// Says which of them were given.
pub(crate) fn warn(matches: &ArgMatches) {
    for (flag, _, know) in FLAGS {
        if matches.value_source(flag) == Some(ValueSource::CommandLine) {
            tracing::warn!("--{flag} has no effect here: {know}");
        }
    }
}
