//! The process: Ctrl-C and SIGTERM, no core files while keys are in memory, exit codes.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Done.
pub const OK: u8 = 0;
/// Failed.
pub const FAILED: u8 = 1;
/// The command or its input was wrong.
pub const USAGE: u8 = 2;
/// The network refused.
pub const REFUSED: u8 = 3;
/// A server or validator could not be reached.
pub const UNREACHABLE: u8 = 4;
/// The order_uuid was used for another signal.
pub const CONFLICT: u8 = 5;
/// Maybe sent: the answer was lost.
pub const UNKNOWN: u8 = 6;
/// The disk failed, and only a new start can tell what it holds.
pub const DISK: u8 = 74;
/// Try again later; nothing was lost (another miner holds the folder, disk full).
pub const UNAVAILABLE: u8 = 75;

/// A token that is cancelled by the first Ctrl-C or SIGTERM; the second one ends the process at
/// once, which loses nothing either.
///
/// # Errors
/// When the signal handlers cannot be installed.
pub fn stop_token() -> std::io::Result<CancellationToken> {
    let (mut int, mut term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = int.recv() => {}
                _ = term.recv() => {}
            }
            if stop.is_cancelled() {
                tracing::warn!("stopped at once; what was unfinished continues at the next start");
                #[allow(clippy::exit, reason = "the user asked twice")]
                std::process::exit(130);
            }
            stop.cancel();
            tracing::info!("stopping; once more to stop at once");
        }
    });
    Ok(token)
}

/// No core files, and no look into this process by others of the same user: both would show keys.
pub fn no_core_files() {
    let hidden = rustix::process::DumpableBehavior::NotDumpable;
    if let Err(e) = rustix::process::set_dumpable_behavior(hidden) {
        tracing::warn!("this process cannot be hidden from debuggers: {e}");
    }
    if let Err(e) = rlimit::setrlimit(rlimit::Resource::CORE, 0, 0) {
        tracing::warn!("core files could not be switched off: {e}");
    }
}

/// Takes all the file descriptors that the system gives: sockets of callers must not starve those to
/// validators.
pub fn more_open_files() {
    if let Err(e) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!("the limit of open files could not be raised: {e}");
    }
}

/// How many files and sockets this process may have open, where the system says.
pub fn open_files() -> Option<usize> {
    let (now, _) = rlimit::getrlimit(rlimit::Resource::NOFILE).ok()?;
    usize::try_from(now).ok()
}

/// Says on stderr what went wrong, and returns the exit code.
pub fn complain(program: &str, error: &dyn std::error::Error, code: u8) -> std::process::ExitCode {
    use std::io::Write as _;
    let mut text = format!("{program}: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    // Nobody reads stderr any more when this fails.
    writeln!(std::io::stderr(), "{text}").ok();
    std::process::ExitCode::from(code)
}
