//! `completions` and `man`: made from the same command tree that reads the arguments.

use std::path::PathBuf;

use clap::{ArgMatches, Args, FromArgMatches as _};
use clap_complete::Shell;
use ptn_core::ops::process;

use crate::failure::Failure;
use crate::output::Output;
use crate::{Outcome, cli};

/// Arguments of `completions`.
#[derive(Debug, Clone, Args)]
pub struct CompletionArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Arguments of `man`.
#[derive(Debug, Clone, Args)]
pub struct ManArgs {
    /// Folder to write one page per command into; without it the main page goes to stdout
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Prints the completion script of a shell.
///
/// # Errors
/// When stdout cannot take it.
pub fn completions(matches: &ArgMatches, out: &mut Output) -> Outcome {
    let args = CompletionArgs::from_arg_matches(matches);
    let args = args.map_err(|e| Failure::usage(e.to_string()))?;
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut cli::command(), "ptn-cli", &mut script);
    out.raw(&script)?;
    Ok(process::OK)
}

/// Prints or writes the manual pages.
///
/// # Errors
/// When they cannot be written.
pub fn man(matches: &ArgMatches, out: &mut Output) -> Outcome {
    let args = ManArgs::from_arg_matches(matches).map_err(|e| Failure::usage(e.to_string()))?;
    let command = cli::command();
    let Some(dir) = args.dir else {
        let mut page = Vec::new();
        let written = clap_mangen::Man::new(command).render(&mut page);
        written.map_err(|e| Failure::io("cannot make", "the manual page", &e))?;
        out.raw(&page)?;
        return Ok(process::OK);
    };
    let place = dir.display().to_string();
    std::fs::create_dir_all(&dir)
        .and_then(|()| clap_mangen::generate_to(command, &dir))
        .map_err(|e| Failure::io("cannot write to", &place, &e))?;
    out.talk(format!("manual pages are in {place}; read one with: man -l {place}/ptn-cli.1"));
    Ok(process::OK)
}
