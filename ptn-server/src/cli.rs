//! The `ptn-server` command: flags, the spool, signals of the operating system.
//!
//! Everything that serves is in the library; this only connects the parts.

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Arg, Command};
use ptn_core::rules::{Era, Rules};

use crate::config::{DEFAULT_LISTEN, SETTINGS, ServerConfig, parse_listen};

/// Runs the command; what the binary's `main` returns.
pub fn main() -> ExitCode {
    ExitCode::from(2)
}
