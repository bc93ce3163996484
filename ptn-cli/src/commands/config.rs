//! `config`: every setting with its value and where it came from, a commented `ptn.toml`, and the
//! trade pairs of the rule set.
//!
//! They are made from `ptn_core::ops::settings` and the catalogue; reading and checking the file is
//! left to `ptn_core::ops::config`.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;

use clap::{ArgMatches, Args, Command, FromArgMatches as _};
use ptn_core::ops::config::{Origin, Settings};
use ptn_core::ops::process;
use ptn_core::ops::settings::{COMMON, Setting};
use ptn_core::rules::Rules;
use serde_json::json;

use crate::Outcome;
use crate::cli::ALL_SETTINGS;
use crate::failure::Failure;
use crate::output::{Output, Style};
use crate::table::{Column, Table};
use crate::text;

/// Arguments of `config init`.
#[derive(Debug, Clone, Args)]
pub struct InitArgs {
    /// File to write; an existing one is never overwritten. Without it the text goes to stdout
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Arguments of `config pairs`.
#[derive(Debug, Clone, Args)]
pub struct PairsArgs {
    /// Only pairs that have this in their id or name: BTC, gold
    #[arg(value_name = "TEXT")]
    text: Option<String>,
}

type AddSettings = fn(Command, &[&'static [Setting]]) -> Command;

/// The command and its sub-commands.
pub(crate) fn command(settings: AddSettings) -> Command {
    let show = Command::new("show").about("Every value and where it came from");
    let init = InitArgs::augment_args(Command::new("init"));
    let init = init.about("Writes or prints a commented ptn.toml");
    Command::new("config")
        .about("Shows the settings in force, or writes a first settings file")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(settings(show, ALL_SETTINGS))
        .subcommand(init)
        .subcommand(settings(
            PairsArgs::augment_args(Command::new("pairs")).about(
                "The trade pairs of the rule set, and what to use instead of those that validators refuse",
            ),
            &[COMMON],
        ))
}

/// Runs the command.
///
/// # Errors
/// When the settings are wrong, or the file exists.
pub fn run(matches: &ArgMatches, out: &mut Output) -> Outcome {
    match matches.subcommand() {
        Some(("show", matches)) => show(&Settings::resolve(ALL_SETTINGS, matches)?, out),
        Some(("pairs", matches)) => {
            let args = PairsArgs::from_arg_matches(matches);
            let args = args.map_err(|e| Failure::usage(e.to_string()))?;
            pairs(&args, &Settings::resolve(&[COMMON], matches)?.rules()?, out)
        }
        Some((_, matches)) => {
            let args = InitArgs::from_arg_matches(matches);
            init(&args.map_err(|e| Failure::usage(e.to_string()))?, out)
        }
        None => Err(Failure::usage("config show, init or pairs?")),
    }
}

fn show(settings: &Settings, out: &mut Output) -> Outcome {
    if out.is_json() {
        let entries: Vec<_> = settings
            .entries()
            .map(|(s, found)| {
                json!({
                    "key": s.key,
                    "value": found.as_ref().map(|(value, _)| value),
                    "origin": found.as_ref().map(|(_, origin)| origin.to_string()),
                    "flag": format!("--{}", s.flag),
                    "env": s.env(),
                })
            })
            .collect();
        out.document(&json!({"settings": entries}))?;
        return Ok(process::OK);
    }
    let width = settings.entries().map(|(s, _)| s.key.len()).max().unwrap_or(0);
    for (setting, found) in settings.entries() {
        let key = text::pad(setting.key, width);
        let line = match found {
            None => {
                let value = text::pad(derived(setting.help).unwrap_or("-"), 22) + "  default";
                format!("{key}  {}", out.paint(Style::Dim, value))
            }
            Some((value, &Origin::Default)) => {
                format!("{key}  {}", out.paint(Style::Dim, text::pad(&value, 22) + "  default"))
            }
            Some((value, origin)) => {
                let value = out.paint(Style::Strong, text::pad(&value, 22));
                format!("{key}  {value}  {origin}")
            }
        };
        out.line(line)?;
    }
    Ok(process::OK)
}

fn pairs(args: &PairsArgs, rules: &Rules, out: &mut Output) -> Outcome {
    let wanted = args.text.as_deref().unwrap_or_default().to_lowercase();
    let named = |text: &str| text.to_lowercase().contains(&wanted);
    let all = rules.catalogue.iter().filter(|p| named(p.id.as_str()) || named(&p.display_name));
    let all: Vec<_> = all.collect();
    if out.is_json() {
        let shown = all.iter().map(|p| {
            json!({
                "trade_pair": p.id.as_str(),
                "name": p.display_name,
                "class": p.class.as_str(),
                "blocked": p.blocked,
                "replacement": p.replacement.as_ref().map(|other| other.as_str()),
            })
        });
        let shown: Vec<_> = shown.collect();
        out.document(&json!({"rules": rules.era.as_str(), "pairs": shown}))?;
        return Ok(process::OK);
    }
    if all.is_empty() {
        out.talk(format!("no such pair in the rules of {}", rules.era));
        return Ok(process::OK);
    }
    let columns = ["PAIR", "NAME", "CLASS", ""].map(Column::text);
    let mut table = Table::new(&columns);
    for pair in all {
        let note = match (&pair.blocked, &pair.replacement) {
            (None, _) => String::new(),
            (Some(_), Some(other)) => format!("refused: use {other}"),
            (Some(why), None) => format!("refused: {why}"),
        };
        let (id, class) = (pair.id.to_string(), pair.class.as_str().to_owned());
        let cells = [id, text::harmless(&pair.display_name), class, text::harmless(&note)];
        match pair.blocked {
            None => table.row(cells),
            Some(_) => table.styled(Style::Dim, cells),
        }
    }
    for line in table.lines(out) {
        out.line(line.trim_end())?;
    }
    Ok(process::OK)
}

/// What holds when nobody set it and it has no fixed default, as the help text says it.
fn derived(help: &'static str) -> Option<&'static str> {
    let (_, default) = help.rsplit_once("(default: ")?;
    default.strip_suffix(')')
}

fn init(args: &InitArgs, out: &mut Output) -> Outcome {
    let text = template();
    let Some(path) = &args.file else {
        out.raw(text.as_bytes())?;
        return Ok(process::OK);
    };
    let place = path.display().to_string();
    let opened = OpenOptions::new().write(true).create_new(true).open(path);
    let written = opened.and_then(|mut f| f.write_all(text.as_bytes()).and_then(|()| f.sync_all()));
    written.map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => {
            let text = format!("{place} exists and is left as it is");
            Failure::new(process::USAGE, "file_exists", text)
                .hint("print a fresh one with: ptn-cli config init")
        }
        _ => Failure::io("cannot write", &place, &e),
    })?;
    if out.is_json() {
        out.document(&json!({"written": place}))?;
    } else {
        out.talk(format!(
            "wrote {place}; see what is in force with: ptn-cli config show --config {place}"
        ));
    }
    Ok(process::OK)
}

/// A settings file in which everything is commented out: what is in force does not change by it.
pub fn template() -> String {
    let mut file = String::from(
        "# Settings of ptn-miner, ptn-server and ptn-cli. Every line is optional; what is\n\
         # commented out shows the default. Environment variables (PTN_...) and flags\n\
         # win over this file. See what is in force, and why: ptn-cli config show\n",
    );
    let mut sections: Vec<(&str, Vec<&Setting>)> = Vec::new();
    for setting in ptn_core::ops::settings::all() {
        let section = setting.key.rsplit_once('.').map_or("", |(section, _)| section);
        match sections.iter_mut().find(|(name, _)| *name == section) {
            Some((_, list)) => list.push(setting),
            None => sections.push((section, vec![setting])),
        }
    }
    // Keys without a section must stand before the first section.
    sections.sort_by_key(|(name, _)| !name.is_empty());
    for (section, list) in sections {
        if !section.is_empty() {
            file.push_str(&format!("\n[{section}]\n"));
        }
        for s in list {
            let name = s.key.rsplit_once('.').map_or(s.key, |(_, name)| name);
            let value = match (s.default, s.value.is_empty()) {
                (_, true) => "false".to_owned(),
                (Some(d), _) if d.parse::<u32>().is_ok() => d.to_owned(),
                (Some(d), _) => format!("{d:?}"),
                (None, _) => format!("{:?}", s.value),
            };
            file.push('\n');
            for line in text::wrap(s.help, 76) {
                file.push_str(&format!("# {line}\n"));
            }
            file.push_str(&format!("#{name} = {value}\n"));
        }
    }
    file
}
