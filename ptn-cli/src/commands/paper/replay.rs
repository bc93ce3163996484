//! `paper replay`: reads the files, replays them, and shows the report as a table, JSON or a page.
//! What happens to a signal is left to `ptn_core::paper::replay`.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};

use clap::{ArgMatches, Args, FromArgMatches as _};
use ptn_core::ops::process;
use ptn_core::paper::replay::{
    self, RecordError, ReplayError, ReplaySettings, Report, TimedSignal,
};
use ptn_core::rules::Era;

use super::html;
use super::prices::PriceArgs;
use crate::Outcome;
use crate::failure::Failure;
use crate::output::{Output, Style};
use crate::table::{Column, Table};
use crate::text::{date_time, harmless, percent};

pub(super) const AFTER_HELP: &str = "\
Signals: a processed_signals folder, of the Python tools or of ptn-miner, an archived_signals folder\n\
with its months, or a file with one\n\
{\"received_ms\":1780000000000,\"signal\":{...}} a line. Prices: CSV with the header\n\
time_ms,trade_pair,price (bid and ask if you have them) or time_ms,trade_pair,open,high,low,close,\n\
sorted by time. Without price data, walk:SEED makes prices up: the same ones for the same seed.\n\n\
Nothing is sent. The report says what it assumes; docs/paper.md explains every number.";

/// No signal of ours comes near this.
const LARGEST_FILE: u64 = 16 * 1024 * 1024;

/// Arguments of `paper replay`.
#[derive(Debug, Clone, Args)]
pub(super) struct ReplayArgs {
    /// Folder processed_signals or archived_signals, or a file of JSON lines
    #[arg(long, value_name = "PATH")]
    signals: PathBuf,
    #[command(flatten)]
    prices: PriceArgs,
    /// Rule set
    #[arg(long, value_name = "ERA", value_parser = ["2024", "2026"])]
    rules: String,
    /// Size of the account in USD, under the rules of 2026 (default: that of the rules)
    #[arg(long, value_name = "USD", value_parser = usd)]
    account_size: Option<f64>,
    /// Your name in the report and in the validator's answers
    #[arg(long, value_name = "NAME", default_value = "firm")]
    hotkey: String,
    /// Also writes the report as one HTML page; a file that is there is replaced
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

pub(super) fn usd(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(usd) if (1.0..=1e12).contains(&usd) => Ok(usd),
        _ => Err("write an amount from 1 to 1e12".to_owned()),
    }
}

/// Runs the command.
///
/// # Errors
/// When a file cannot be read or written, or holds something else.
pub(super) fn run(matches: &ArgMatches, out: &mut Output) -> Outcome {
    let args = ReplayArgs::from_arg_matches(matches).map_err(|e| Failure::usage(e.to_string()))?;
    let signals = read_signals(&args.signals)?;
    let era = Era::parse(&args.rules).ok_or_else(|| Failure::usage("--rules is 2024 or 2026"))?;
    let mut prices = args.prices.open(era, &signals)?;
    let bad_prices = |e: ReplayError| {
        let from_prices = matches!(e, ReplayError::Prices(_) | ReplayError::NoPrices);
        let place = if from_prices { format!("{}: ", args.prices.place()) } else { String::new() };
        Failure::new(process::USAGE, e.code(), format!("{place}{e}"))
    };
    let settings =
        ReplaySettings { era, hotkey: args.hotkey.clone(), account_usd: args.account_size };
    let report = replay::run(settings, &mut *prices, signals).map_err(bad_prices)?;
    if let Some(path) = &args.html {
        write_page(path, &html::page(&report))?;
    }
    if out.is_json() {
        out.document(&report)?;
    } else {
        show(&report, out)?;
    }
    if let Some(path) = &args.html {
        out.talk(format!("The page is in {}", path.display()));
    }
    Ok(process::OK)
}

pub(super) fn unreadable(path: &Path, e: &io::Error) -> Failure {
    Failure::new(process::USAGE, "io", format!("cannot read {}: {e}", path.display()))
}

fn read_signals(path: &Path) -> Result<Vec<TimedSignal>, Failure> {
    let folder = fs::metadata(path).map_err(|e| unreadable(path, &e))?.is_dir();
    let signals = if folder { read_folder(path)? } else { read_lines(path)? };
    if signals.is_empty() {
        let message = format!("{}: there is not one signal", path.display());
        let hint =
            "give a folder processed_signals or archived_signals, or a file with one signal a line";
        return Err(Failure::new(process::USAGE, "no_signals", message).hint(hint));
    }
    Ok(signals)
}

fn read_lines(path: &Path) -> Result<Vec<TimedSignal>, Failure> {
    let file = BufReader::new(File::open(path).map_err(|e| unreadable(path, &e))?);
    let mut signals = Vec::new();
    for (n, line) in file.lines().enumerate() {
        let place = format!("{}, line {}", path.display(), n + 1);
        let line = line.map_err(|e| unreadable(Path::new(&place), &e))?;
        if !line.trim().is_empty() {
            signals.push(TimedSignal::from_line(&line).map_err(|e| bad_record(&place, &e))?);
        }
    }
    Ok(signals)
}

fn read_folder(path: &Path) -> Result<Vec<TimedSignal>, Failure> {
    let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut entries = entries.map_err(|e| unreadable(path, &e))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    let mut signals = Vec::new();
    for entry in entries {
        let (file, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if is_month(&name) && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            signals.extend(read_folder(&file)?);
            continue;
        }
        // Hidden and temporary files are nobody's signals; pipes and links could block or lead away.
        let plain = entry.file_type().is_ok_and(|kind| kind.is_file());
        if !plain || name.starts_with('.') || name.ends_with(".reason.txt") {
            continue;
        }
        let mut text = String::new();
        let opened = File::open(&file).map_err(|e| unreadable(&file, &e))?;
        opened.take(LARGEST_FILE).read_to_string(&mut text).map_err(|e| unreadable(&file, &e))?;
        let signal = TimedSignal::from_processed(&name, &text);
        signals.push(signal.map_err(|e| bad_record(&file.display().to_string(), &e))?);
    }
    Ok(signals)
}

/// Whether this is a folder of archived signals: `2026-11`.
fn is_month(name: &str) -> bool {
    let number = |text: &str, digits: usize| {
        text.len() == digits && text.bytes().all(|b| b.is_ascii_digit())
    };
    name.split_once('-').is_some_and(|(year, month)| number(year, 4) && number(month, 2))
}

fn bad_record(place: &str, e: &RecordError) -> Failure {
    let mut failure = Failure::new(process::USAGE, e.code(), format!("{place}, {e}"));
    failure.field = Some(e.field.to_owned());
    failure
}

/// Whole or not at all; readable by the owner only, because it shows how the firm trades.
fn write_page(path: &Path, page: &str) -> Result<(), Failure> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written = tempfile::NamedTempFile::new_in(folder).and_then(|mut file| {
        file.write_all(page.as_bytes())?;
        file.persist(path).map_err(|e| e.error)
    });
    written.map(drop).map_err(|e| Failure::io("cannot write", &path.display().to_string(), &e))
}

fn show(report: &Report, out: &mut Output) -> Result<(), Failure> {
    let head = format!("Replay under the rules of {}", report.rules);
    out.line(out.paint(Style::Strong, head))?;
    let (from, to) = (date_time(report.start_ms), date_time(report.end_ms));
    out.line(format!("{from} to {to}, {} prices", report.prices))?;
    let s = report.signals;
    out.line(format!(
        "{} signals: {} filled, {} resting, {} managing others, {} ignored, {} refused",
        s.total, s.filled, s.resting, s.managed, s.ignored, s.refused
    ))?;
    out.line("")?;
    let mut table = Table::new(&[
        Column::text("PAIR").key(),
        Column::number("POSITIONS"),
        Column::number("ORDERS"),
        Column::text("OPEN"),
        Column::number("BEFORE FEES"),
        Column::number("FEES"),
        Column::number("RETURN"),
    ]);
    for row in &report.pairs {
        let open = if row.open { "yes" } else { "no" };
        let (a, b, c) = (row.total.gross_return, row.total.fees, row.total.net_return);
        let pair = harmless(&row.pair);
        let (positions, orders) = (row.positions.to_string(), row.orders.to_string());
        table.row([pair, positions, orders, open.to_owned(), percent(a), percent(b), percent(c)]);
    }
    let t = report.total;
    let sums = [percent(t.gross_return), percent(t.fees), percent(t.net_return)];
    let [gross, fees, net] = sums;
    let blank = String::new;
    table.styled(Style::Strong, ["total".to_owned(), blank(), blank(), blank(), gross, fees, net]);
    for line in table.lines(out) {
        out.line(line)?;
    }
    out.line("")?;
    out.line(format!("drawdown     {}", drawdown(report)))?;
    out.line(format!("elimination  {}", distance(report)))?;
    out.line(format!("weight       {}", weight(report)))?;
    let about = format!("the others are {}", report.weight.about);
    out.line(format!("             {}", out.flow(&about, 13)))?;
    if !report.refused.is_empty() {
        out.line("")?;
        out.line(out.paint(Style::Bad, "Refused"))?;
        for row in &report.refused {
            let pair = row.pair.as_deref().unwrap_or("-");
            let head = format!("{}  {pair}  {}", date_time(row.at_ms), row.order_uuid);
            out.line(format!("{}  by {}: {}", harmless(&head), row.by, row.code))?;
            out.line(format!("    {}", out.flow(&harmless(&row.text), 4)))?;
        }
    }
    if !report.notes.is_empty() {
        out.line("")?;
        out.line(out.paint(Style::Warn, "Worth knowing"))?;
        for note in &report.notes {
            let text = format!("{}  {}: {}", date_time(note.at_ms), note.uuid, note.text);
            out.line(out.flow(&harmless(&text), 4))?;
        }
    }
    Ok(())
}

/// The largest fall, in words.
pub(super) fn drawdown(report: &Report) -> String {
    let share = report.drawdown.largest * 100.0;
    format!("{share:.4} % below the highest value, at {}", date_time(report.drawdown.at_ms))
}

/// How near it came, in words.
pub(super) fn distance(report: &Report) -> String {
    if let Some(row) = &report.eliminated {
        let at = date_time(row.elimination_initiated_time_ms);
        return format!("ELIMINATED at {at}: {}", row.reason);
    }
    match report.drawdown.closest {
        None => "not checked: nothing happened before a check was due".to_owned(),
        Some(closest) if closest.points_left < 0.0 => format!(
            "limit broken by {:.4} percent points at {}, not enforced then",
            -closest.points_left,
            date_time(closest.at_ms)
        ),
        Some(closest) => format!(
            "not eliminated; {:.4} percent points were left at {}",
            closest.points_left,
            date_time(closest.at_ms)
        ),
    }
}

/// The weight, in words.
pub(super) fn weight(report: &Report) -> String {
    let field = &report.weight.field;
    let firm = report.weight.firm;
    let better = field.iter().filter(|member| member.weight > firm).count();
    let burn = match report.weight.burn {
        0.0 => String::new(),
        burn => format!(", {burn:.6} is burned"),
    };
    format!("{firm:.6}, rank {} of {}{burn}", better + 1, field.len())
}
