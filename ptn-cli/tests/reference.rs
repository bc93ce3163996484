//! `docs/reference/cli.md` says what the programs say: every command's own help text.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fmt::Write as _;
use std::path::Path;

use clap::Command;
use clap::error::ErrorKind as Kind;

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

/// What a page tells to type must be taken: every command in a block, and those in a sentence that have
/// flags. Whether it then does what the page says is tested elsewhere.
#[test]
fn the_commands_that_pages_show_are_taken() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let docs = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = docs.filter(|path| path.extension().is_some_and(|e| e == "md"));
    let (mut wrong, mut count) = (String::new(), 0);
    for page in pages.chain([root.join("README.md")]) {
        let text = std::fs::read_to_string(&page).unwrap();
        for (at, part) in text.split("```").enumerate() {
            let block = at % 2 == 1;
            let shown: Vec<String> = match block {
                true => part.replace("\\\n", " ").lines().map(str::to_owned).collect(),
                false => part.split('`').skip(1).step_by(2).map(str::to_owned).collect(),
            };
            for line in shown {
                let Some(words) = words(&line) else { continue };
                let named_only = !block && !words.iter().any(|word| word.starts_with('-'));
                let command = match words.first().map(String::as_str) {
                    Some("ptn-cli") => ptn_cli::cli::command(),
                    Some("ptn-miner") => ptn_miner::command(),
                    Some("ptn-server") => ptn_server::cli::command(),
                    _ => continue,
                };
                count += 1;
                let lacks = |kind| {
                    matches!(
                        kind,
                        Kind::MissingRequiredArgument
                            | Kind::MissingSubcommand
                            | Kind::DisplayHelpOnMissingArgumentOrSubcommand
                    )
                };
                match command.try_get_matches_from(&words) {
                    Err(e) if e.use_stderr() && !(named_only && lacks(e.kind())) => {
                        writeln!(wrong, "{}: {line}\n{e}", page.display()).unwrap();
                    }
                    _ => {}
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(count > 60, "only {count} commands were found");
}

/// The words of a line when it is a command of ours that a reader could type as it stands.
fn words(line: &str) -> Option<Vec<String>> {
    let line = line.trim().trim_start_matches("$ ").trim_start_matches("./target/release/");
    let line = line.split(" # ").next()?;
    let command = ["ptn-cli ", "ptn-miner ", "ptn-server "];
    let left_out = ["...", "|", "<", ";", "&&", "{", "─"];
    if !command.iter().any(|name| line.starts_with(name))
        || left_out.iter().any(|t| line.contains(t))
    {
        return None;
    }
    Some(line.replace(['"', '\''], "").split_whitespace().map(str::to_owned).collect())
}

/// Without blanks at the ends of lines.
fn plain(text: &str) -> String {
    text.trim_end().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}
