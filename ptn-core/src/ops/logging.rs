//! Log lines on stderr: text for people, JSON for programs.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use super::config::{ConfigError, Settings};
use super::text::LogLines;

/// Installs the logger of the process; a second call changes nothing.
///
/// # Errors
/// When `logging.format` is unknown.
pub fn install(settings: &Settings) -> Result<(), ConfigError> {
    let level = if settings.switch("logging.trace")? == Some(true) {
        "trace"
    } else if settings.switch("logging.debug")? == Some(true) {
        "debug"
    } else {
        "info"
    };
    // Other crates' debug lines would bury ours.
    let ours = ["ptn_core", "ptn_server", "ptn_miner", "ptn_cli"].map(|c| format!("{c}={level}"));
    let filter = EnvFilter::new(format!("warn,{}", ours.join(",")));
    // Every event is one line, whatever words of others are in it.
    let format = settings.get("logging.format");
    let colours = format != Some("json") && std::io::IsTerminal::is_terminal(&std::io::stderr());
    let lines = fmt()
        .with_writer(move || LogLines::new(std::io::stderr(), colours))
        .with_env_filter(filter)
        .with_target(false);
    let installed = match format {
        None | Some("text") => lines.with_ansi(colours).try_init(),
        Some("json") => lines.json().flatten_event(true).try_init(),
        Some(_) => return Err(settings.bad("logging.format", "allowed: text, json")),
    };
    if installed.is_err() {
        tracing::debug!("the logger was installed before");
    }
    Ok(())
}
