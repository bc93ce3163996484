//! The `ptn-server` command: flags, the spool, signals of the operating system.
//!
//! Everything that serves is in the library; this only connects the parts.

use std::process::ExitCode;

/// Runs the command; what the binary's `main` returns.
pub fn main() -> ExitCode {
    ExitCode::from(2)
}
