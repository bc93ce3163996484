//! `docs/reference/cli.md` says what the programs say: every command's own help text.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fmt::Write as _;
use std::path::Path;

use clap::Command;

/// `PTN_UPDATE_DOCS=1 cargo test -p ptn-cli --test reference` writes it anew.
#[test]
fn the_command_line_page_is_current() {
    let mut page = String::from(
        "# Command line\n\nMade from the programs themselves: this is what `--help` prints.\n",
    );
    help(&mut page, "ptn-cli", ptn_cli::cli::command());
    help(&mut page, "ptn-miner", ptn_miner::command());
    help(&mut page, "ptn-server", ptn_server::cli::command());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/cli.md");
    if std::env::var_os("PTN_UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    assert!(page == std::fs::read_to_string(&path).unwrap(), "docs/reference/cli.md is stale");
}

fn help(page: &mut String, name: &str, command: Command) {
    let mut command = command.term_width(100).bin_name(name.to_owned());
    write!(page, "\n## {name}\n\n```\n{}\n```\n", plain(&command.render_long_help().to_string()))
        .unwrap();
    for sub in command.get_subcommands() {
        if sub.get_name() != "help" && !sub.is_hide_set() {
            help(page, &format!("{name} {}", sub.get_name()), sub.clone());
        }
    }
}

/// Without blanks at the ends of lines.
fn plain(text: &str) -> String {
    text.trim_end().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}
