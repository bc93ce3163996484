//! `signals`: looking at what was accepted, sending it again, stopping it, following what happens.
//!
//! The same on a store and on a server; both give the same view ([`crate::view`]). What retrying
//! and cancelling mean is left to the store's contract.

mod migrate;
mod receipt;
mod refused;
mod source;
mod tail;
mod verify;

use clap::{ArgMatches, Args, Command, FromArgMatches as _, ValueEnum};
use ptn_core::ops::config::Settings;
use ptn_core::ops::process;
use ptn_core::ops::settings::{COMMON, Setting, WALLET};
use ptn_core::record::SignalState;
use ptn_core::store::Filter;
use serde::Serialize;
use serde_json::json;

use self::refused::RefusedFile;
pub(crate) use self::refused::RefusedFiles;
use self::source::Source;
use super::target::ServerArgs;
use crate::Outcome;
use crate::failure::Failure;
use crate::output::{Output, Style};
use crate::text;
use crate::view::SignalView;

/// A state to filter by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StateChoice {
    /// Accepted, waiting or in delivery.
    Pending,
    /// Everyone who must acknowledge it did.
    Processed,
    /// Finished without that.
    Failed,
}

/// Arguments of `signals list`.
#[derive(Debug, Clone, Args)]
pub struct ListArgs {
    /// Only signals in this state; may be given more than once
    #[arg(long, value_enum, value_delimiter = ',')]
    state: Vec<StateChoice>,
    /// Only this trade pair
    #[arg(long, value_name = "PAIR")]
    pair: Option<String>,
    /// At most this many, newest first
    #[arg(long, value_name = "N", default_value_t = 20,
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1000))]
    limit: usize,
    /// Only signals before this one (the `seq` of --json, to turn pages)
    #[arg(long, value_name = "SEQ")]
    before: Option<u64>,
    #[command(flatten)]
    server: ServerArgs,
}

/// Arguments of the commands about signals by their id.
#[derive(Debug, Clone, Args)]
pub struct IdArgs {
    /// order_uuid, or enough of its beginning
    #[arg(value_name = "UUID", required = true)]
    ids: Vec<String>,
    #[command(flatten)]
    server: ServerArgs,
}

/// Arguments of `signals tail`.
#[derive(Debug, Clone, Args)]
pub struct TailArgs {
    /// End after this many events
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    #[command(flatten)]
    server: ServerArgs,
}

/// `signals list --json`, as `GET /api/signals` answers.
#[derive(Serialize)]
struct Page {
    signals: Vec<SignalView>,
    next_before: Option<u64>,
    /// Not signals; where the server answers, it says nothing of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused_files: Option<RefusedFiles>,
}

type AddSettings = fn(Command, &[&'static [Setting]]) -> Command;

/// The command and its sub-commands.
pub(crate) fn command(settings: AddSettings) -> Command {
    let with =
        |command: Command, about: &'static str| brief(settings(command.about(about), &[COMMON]));
    let list = ListArgs::augment_args(Command::new("list"));
    let tail = TailArgs::augment_args(Command::new("tail"));
    let by_id = |name: &'static str| IdArgs::augment_args(Command::new(name));
    Command::new("signals")
        .about("Shows signals, sends them again, cancels them, follows what happens")
        .visible_alias("queue")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(with(list, "Signals, newest first"))
        .subcommand(with(by_id("show"), "One signal with every validator's answer"))
        .subcommand(with(
            by_id("retry"),
            "Sends a failed signal again, to the validators that did not acknowledge it",
        ))
        .subcommand(with(by_id("cancel"), "Stops what was not sent yet"))
        .subcommand(brief(settings(
            receipt::ReceiptArgs::augment_args(Command::new("receipt"))
                .about("The receipt: who answered what and when, with the digest of each request"),
            &[COMMON, WALLET],
        )))
        .subcommand(
            receipt::CheckArgs::augment_args(Command::new("check-receipt"))
                .about("Says whether receipts that were kept are as they were issued"),
        )
        .subcommand(with(
            Command::new("verify").after_help(verify::HELP),
            "Checks every checksum and every promise of a store: of a data directory from which nobody delivers, or of a database",
        ))
        .subcommand(with(tail, "Follows what happens, until Ctrl-C"))
        .subcommand(with(
            migrate::MigrateArgs::augment_args(Command::new("migrate")).after_help(migrate::HELP),
            "Moves all signals between a data directory and a PostgreSQL database",
        ))
}

/// Shows of the settings that every program has only those that say where signals are: the others
/// would fill each of these pages. They are taken as ever.
fn brief(command: Command) -> Command {
    const SHOWN: [&str; 2] = ["data_dir", "store"];
    const OTHERS: &str =
        "Other settings, --rules and --logging.debug among them: ptn-cli config show --help";
    let hidden = COMMON.iter().filter(|setting| !SHOWN.contains(&setting.key));
    let command = hidden.fold(command, |command, s| command.mut_arg(s.key, |arg| arg.hide(true)));
    let help = command.get_after_help().map(|help| format!("{help}\n\n")).unwrap_or_default();
    command.after_help(format!("{help}{OTHERS}"))
}

/// Runs the command.
///
/// # Errors
/// When the spool or the server refuses.
pub fn run(matches: &ArgMatches, out: &mut Output) -> Outcome {
    let Some((name, matches)) = matches.subcommand() else {
        return Err(Failure::usage(
            "signals list, show, retry, cancel, receipt, verify, tail or migrate?",
        ));
    };
    let wrong = |e: clap::Error| Failure::usage(e.to_string());
    match name {
        "check-receipt" => {
            let args = receipt::CheckArgs::from_arg_matches(matches).map_err(wrong)?;
            return receipt::check(&args, out);
        }
        "receipt" => {
            let args = receipt::ReceiptArgs::from_arg_matches(matches).map_err(wrong)?;
            let settings = crate::cli::resolve(&[COMMON, WALLET], matches)?;
            return crate::block_on(receipt::run(&args, &settings, out));
        }
        _ => {}
    }
    let settings = crate::cli::resolve(&[COMMON], matches)?;
    match name {
        "list" => {
            let args = ListArgs::from_arg_matches(matches).map_err(wrong)?;
            crate::block_on(list(args, &settings, out))
        }
        "tail" => {
            let args = TailArgs::from_arg_matches(matches).map_err(wrong)?;
            crate::block_on(async {
                let source = Source::open(&args.server, &settings).await?;
                tail::run(&source, args.count, out).await
            })
        }
        "verify" => crate::block_on(verify::run(&settings, out)),
        "migrate" => {
            let args = migrate::MigrateArgs::from_arg_matches(matches).map_err(wrong)?;
            crate::block_on(migrate::run(&args, &settings, out))
        }
        name => {
            let args = IdArgs::from_arg_matches(matches).map_err(wrong)?;
            crate::block_on(by_id(name, args, &settings, out))
        }
    }
}

async fn list(args: ListArgs, settings: &Settings, out: &mut Output) -> Outcome {
    let source = Source::open(&args.server, settings).await?;
    let state = |s: &StateChoice| match s {
        StateChoice::Pending => SignalState::Pending,
        StateChoice::Processed => SignalState::Processed,
        StateChoice::Failed => SignalState::Failed,
    };
    let before = args.before;
    let filter = Filter {
        states: args.state.iter().map(state).collect(),
        trade_pair: args.pair,
        before_seq: args.before,
        limit: args.limit,
    };
    let signals = source.list(&filter).await?;
    let narrowed =
        !filter.states.is_empty() || filter.trade_pair.is_some() || filter.before_seq.is_some();
    let next_before = signals.last().filter(|_| signals.len() >= filter.limit).map(|s| s.seq);
    let wants_failed = filter.states.is_empty() || filter.states.contains(&SignalState::Failed);
    let refused_files =
        source.dir().filter(|_| wants_failed && before.is_none()).and_then(RefusedFiles::of);
    if out.is_json() {
        out.document(&Page { signals, next_before, refused_files })?;
        return Ok(process::OK);
    }
    if signals.is_empty() {
        let which = if narrowed { "no such signals" } else { "no signals" };
        out.talk(format!("{which} in {}", source.name()));
        tell_refused(refused_files.as_ref(), out);
        return Ok(process::OK);
    }
    let now = text::now();
    let words = signals.iter().map(|s| text::harmless(&s.words()));
    let words: Vec<String> = words.collect();
    let longest = words.iter().map(|w| w.chars().count()).max().unwrap_or_default();
    // Before it 30 columns, after it 37.
    let order = longest.clamp(13, out.width().map_or(60, |w| w.saturating_sub(67)).max(13));
    let head = format!(
        "{:>4} {:9} {:>4} {:8} {:order$} {}",
        "AGE", "STATE", "ACK", "PAIR", "ORDER", "ORDER_UUID"
    );
    out.line(out.paint(Style::Dim, head))?;
    for (s, words) in signals.iter().zip(&words) {
        let line = format!(
            "{} {} {} {} {} {}",
            text::pad_left(&text::age(s.accepted_at, now), 4),
            out.paint(style_of(s.state), text::pad(s.state.as_str(), 9)),
            text::pad_left(&s.acknowledged(), 4),
            text::pad(&text::harmless(&text::cut(&s.pair(), 8)), 8),
            text::pad(&text::cut(words, order), order),
            s.order_uuid,
        );
        out.line(line)?;
    }
    if let Some(before) = next_before {
        out.talk(format!("older ones: --before {before}"));
    }
    tell_refused(refused_files.as_ref(), out);
    Ok(process::OK)
}

fn tell_refused(files: Option<&RefusedFiles>, out: &mut Output) {
    if let Some(files) = files {
        let words = format!("{}; see why: {}", files.words(), files.newest.command());
        out.talk(out.paint_talk(Style::Warn, words));
    }
}

const fn style_of(state: SignalState) -> Style {
    match state {
        SignalState::Pending => Style::Warn,
        SignalState::Processed => Style::Good,
        SignalState::Failed => Style::Bad,
    }
}

async fn by_id(name: &str, args: IdArgs, settings: &Settings, out: &mut Output) -> Outcome {
    let source = Source::open(&args.server, settings).await?;
    for given in &args.ids {
        let view = match source.find(given).await {
            Ok(view) => view,
            Err(failure) => {
                let file = source.dir().and_then(|dir| RefusedFile::find(dir, given));
                match file {
                    Some(file) if name == "show" => file.show(out)?,
                    Some(file) => return Err(file.failure(failure)),
                    None => return Err(failure),
                }
                continue;
            }
        };
        match name {
            "show" => show(&view, out)?,
            "retry" => {
                source.retry(&view.order_uuid).await?;
                if view.is_out_of_reach() && !out.is_json() {
                    out.talk(GONE);
                }
                done(
                    &view,
                    "retry_requested",
                    "is sent again to those who did not acknowledge it",
                    out,
                )?;
            }
            _ => {
                source.cancel(&view.order_uuid).await?;
                done(
                    &view,
                    "cancel_requested",
                    "is not sent any more to those who did not get it yet",
                    out,
                )?;
            }
        }
    }
    Ok(process::OK)
}

/// What a retry cannot mend.
const GONE: &str = "whoever did not acknowledge it left the list of validators: unless it is back, a retry ends at once; a new order goes to those who are there";

fn done(view: &SignalView, event: &str, words: &str, out: &mut Output) -> Result<(), Failure> {
    if out.is_json() {
        return out.document(&json!({"order_uuid": view.order_uuid, "event": event}));
    }
    out.line(format!("{} {words}", view.order_uuid))
}

fn show(view: &SignalView, out: &mut Output) -> Result<(), Failure> {
    if out.is_json() {
        return out.document(view);
    }
    let now = text::now();
    let ago = |at| format!("{}  ({} ago)", text::date_time(at), text::age(at, now));
    let mut rows = vec![
        ("order_uuid", view.order_uuid.clone()),
        ("order", format!("{} {}", view.pair(), view.words()).trim().to_owned()),
        ("state", view.state.to_string()),
        ("accepted", ago(view.accepted_at)),
    ];
    if let Some(at) = view.finished_at {
        rows.push(("finished", ago(at)));
    }
    if view.miner_order_uuid != view.order_uuid {
        rows.push(("is about", view.miner_order_uuid.clone()));
    }
    if view.cancel_requested {
        rows.push(("cancelled", "asked for; what was sent stays as it is".to_owned()));
    }
    if let Some(reason) = view.untold_reason() {
        rows.push(("reason", reason.to_owned()));
    }
    rows.push(("rules", view.rules.clone()));
    rows.push(("signal", view.signal.as_ref().map_or("", |s| s.get()).to_owned()));
    for (name, value) in rows {
        let value = text::harmless(&value);
        let value = if name == "state" { out.paint(style_of(view.state), value) } else { value };
        let name = out.paint(Style::Dim, text::pad(name, 11));
        out.line(format!("{name} {value}"))?;
    }
    match (view.validators.is_empty(), view.state) {
        (false, _) => out.line("validators")?,
        (true, SignalState::Pending) => {
            out.line("validators  not decided yet: no miner has taken it on")?;
        }
        (true, _) => out.line("validators  none: it was sent to nobody")?,
    }
    for v in &view.validators {
        let line = text::record(out, v);
        out.line(line)?;
    }
    if view.state == SignalState::Failed {
        let exit = view.exit();
        let again = format!("ptn-cli signals retry {}", view.order_uuid);
        let next = match exit {
            process::UNKNOWN => "look at your positions before you send it again".to_owned(),
            _ if view.is_out_of_reach() => GONE.to_owned(),
            _ if view.validators.is_empty() => format!("when that is mended: {again}"),
            _ => format!("send it again: {again}"),
        };
        out.talk(next);
    }
    Ok(())
}
