//! `listen`: a validator on loopback that prints what arrives and misbehaves on request.
//!
//! It is `ptn_core::validator::LoopbackValidator`, which checks requests as strictly as the real
//! peers do; here it only gets flags and a voice.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgMatches, Args, FromArgMatches as _, ValueEnum};
use ptn_core::directory::{Validator, Wire};
use ptn_core::json::Json;
use ptn_core::ops::process;
use ptn_core::sign::Hotkey;
use ptn_core::validator::{
    Fault, FaultRule, LoopbackValidator, Received, ValidatorOptions, Verdict,
};
use tokio::sync::broadcast::error::RecvError;

use super::target::duration;
use crate::Outcome;
use crate::failure::Failure;
use crate::output::{Output, Style};
use crate::text;

/// Which wire it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WireChoice {
    /// Signed headers: bittensor 11.
    Btauth,
    /// Dendrite and axon: bittensor 6 to 10.
    Dendrite,
    /// Both on one port.
    Both,
}

impl WireChoice {
    /// The only wire; nothing for both.
    pub(super) const fn only(self) -> Option<Wire> {
        match self {
            Self::Btauth => Some(Wire::Btauth),
            Self::Dendrite => Some(Wire::Dendrite),
            Self::Both => None,
        }
    }

    /// The wire by which a list of validators names it.
    pub(super) fn listed(self) -> Wire {
        self.only().unwrap_or(Wire::Btauth)
    }
}

/// Arguments of `listen`.
#[derive(Debug, Clone, Args)]
pub struct ListenArgs {
    /// The wire it speaks: the protocol between miners and validators
    #[arg(long, value_enum, default_value_t = WireChoice::Both)]
    wire: WireChoice,
    /// Port on 127.0.0.1; 0 takes any
    #[arg(long, value_name = "PORT", default_value_t = 8090)]
    port: u16,
    /// Hotkey file of the validator (default: a throwaway key)
    #[arg(long, value_name = "FILE")]
    hotkey_file: Option<PathBuf>,
    /// Write the list for `ptn-miner --validators`, with this validator in it. Only a list that
    /// listen wrote itself is replaced
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// End after this many requests
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    #[command(flatten)]
    faults: FaultArgs,
}

/// What it does wrong.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Faults")]
struct FaultArgs {
    /// Refuse the first N orders with an answer that asks for a retry
    #[arg(long, value_name = "N")]
    fail_first: Option<u32>,
    /// Answer late
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    delay: Option<Duration>,
    /// Never answer
    #[arg(long)]
    hang: bool,
    /// Answer with this HTTP status
    #[arg(long, value_name = "CODE", value_parser = clap::value_parser!(u16).range(200..600))]
    status: Option<u16>,
    /// Close the connection before the request is read
    #[arg(long)]
    drop: bool,
    /// Process the order and close the connection without an answer
    #[arg(long)]
    lose_answer: bool,
    /// Answer with something that is no answer
    #[arg(long)]
    garbage: bool,
    /// Answer "Rate limited. Please wait ... seconds"; with --times it ends
    #[arg(long, value_name = "SECONDS")]
    rate_limit: Option<u64>,
    /// Refuse every order with this text, finally
    #[arg(long, value_name = "TEXT")]
    reject: Option<String>,
    /// Misbehave only this many times, then behave
    #[arg(long, value_name = "N")]
    times: Option<u32>,
}

impl FaultArgs {
    fn rules(&self) -> Vec<FaultRule> {
        let mut rules = Vec::new();
        if let Some(n) = self.fail_first {
            let message = "This validator is syncing positions. Please try again later.".to_owned();
            rules.push(Fault::Fail { message, should_retry: true }.first(n));
        }
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        let http = |status| Fault::Http {
            status,
            message: format!("status {status} on request"),
            retry_after: None,
        };
        let reject = |text: &String| Fault::Fail { message: text.clone(), should_retry: false };
        let faults = [
            self.delay.map(|d| Fault::Delay { ms: millis(d) }),
            self.hang.then_some(Fault::Hang),
            self.status.map(http),
            self.drop.then_some(Fault::DropUnread),
            self.lose_answer.then_some(Fault::LoseAnswer),
            self.garbage.then_some(Fault::Garbage),
            self.rate_limit.map(|seconds| Fault::RateLimit { seconds }),
            self.reject.as_ref().map(reject),
        ];
        for fault in faults.into_iter().flatten() {
            rules.push(FaultRule { fault, times: self.times });
        }
        rules
    }
}

/// Runs the command until Ctrl-C.
///
/// # Errors
/// When the port or the key cannot be used.
pub fn run(matches: &ArgMatches, out: &mut Output) -> Outcome {
    let args = ListenArgs::from_arg_matches(matches).map_err(|e| Failure::usage(e.to_string()))?;
    crate::block_on(listen(args, out))
}

async fn listen(args: ListenArgs, out: &mut Output) -> Outcome {
    let mut options = ValidatorOptions::default();
    options.port = args.port;
    options.wire = args.wire.only();
    options.faults = args.faults.rules();
    if let Some(path) = &args.hotkey_file {
        options.hotkey = Hotkey::from_keyfile(path)
            .map_err(|e| Failure::new(process::USAGE, e.code(), e.to_string()))?;
    }
    let validator = LoopbackValidator::start(options).await.map_err(|e| {
        let place = format!("127.0.0.1:{}", args.port);
        Failure::io("cannot listen on", &place, &e).hint("choose another --port; 0 takes any")
    })?;
    let mut arrivals = validator.subscribe();
    let entry = validator.entry(args.wire.listed());
    if let Some(path) = &args.write {
        write_list(path, &entry, "listen")?;
    }
    introduce(&entry, &args, out)?;
    let stop = process::stop_token().map_err(|e| Failure::io("cannot watch", "signals", &e))?;
    let mut seen = 0;
    while args.count.is_none_or(|count| seen < count) {
        let received = tokio::select! {
            () = stop.cancelled() => break,
            received = arrivals.recv() => received,
        };
        match received {
            Ok(received) => {
                seen += 1;
                show(&received, out)?;
            }
            Err(RecvError::Lagged(n)) => {
                seen += n;
                out.talk(format!("{n} requests came too fast to be shown"));
            }
            Err(RecvError::Closed) => break,
        }
    }
    validator.shutdown().await;
    Ok(process::OK)
}

const WRITTEN: &str = "# Written by ptn-cli ";

/// The entry as it stands in a list of validators.
pub(super) fn block(entry: &Validator, remark: &str) -> String {
    format!(
        "[[validator]]\nhotkey = \"{}\"\nip = \"{}\"\nport = {}\nv_trust = {:.1}\nstake = {:.1}\n\
         wire = \"{}\"{remark}\n",
        entry.hotkey,
        entry.ip,
        entry.port,
        entry.v_trust,
        entry.stake,
        entry.wire.as_str(),
    )
}

/// Writes the list, unless something else would be lost by it.
///
/// # Errors
/// When the file is somebody's own, or cannot be written.
pub(super) fn write_list(path: &Path, entry: &Validator, by: &str) -> Result<(), Failure> {
    let shown = path.display().to_string();
    let cannot = |e: &std::io::Error| Failure::io("cannot write", &shown, e);
    match std::fs::read_to_string(path) {
        Ok(text) if text.starts_with(WRITTEN) || text.trim().is_empty() => {}
        Ok(_) => {
            let text = format!("{shown} is a list of yours and is left as it is");
            let failure = Failure::new(process::USAGE, "file_exists", text);
            return Err(failure.hint("give another file to --write, or add the entry by hand"));
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(cannot(&e)),
    }
    let text = format!("{WRITTEN}{by}: a validator on this machine.\n\n{}", block(entry, ""));
    std::fs::write(path, text).map_err(|e| cannot(&e))
}

/// What to paste where.
fn introduce(entry: &Validator, args: &ListenArgs, out: &mut Output) -> Result<(), Failure> {
    if out.is_json() {
        // Programs wait for this line before they send.
        return out.document(&serde_json::json!({
            "event": "listening",
            "hotkey": entry.hotkey,
            "address": entry.address().to_string(),
            "validator": entry,
        }));
    }
    let title = out.paint_talk(Style::Strong, format!("listening on {}", entry.address()));
    let both = args.wire == WireChoice::Both;
    let remark = if both { "   # or \"dendrite\": it speaks both" } else { "" };
    let (head, file) = match &args.write {
        Some(path) => (format!("; it is in {}\n", path.display()), path.display().to_string()),
        None => (
            format!(
                "; for the list of validators:\n\n{}\nand with that in validators.toml:\n",
                block(entry, remark)
            ),
            "validators.toml".to_owned(),
        ),
    };
    out.talk(format!(
        "{title}{head}\n  \
         ptn-miner --subtensor.network local --delivery.policy all \\\n    --validators {file}\n",
    ));
    Ok(())
}

fn show(received: &Received, out: &mut Output) -> Result<(), Failure> {
    if out.is_json() {
        return out.document(received);
    }
    let (style, word, why) = match &received.verdict {
        Verdict::Accepted => (Style::Good, "accepted", String::new()),
        Verdict::Repeated => (Style::Warn, "repeated", String::new()),
        Verdict::Failed { message, .. } => (Style::Bad, "failed", message.clone()),
        Verdict::Refused { status, reason } => {
            (Style::Bad, "refused", format!("{status} {reason}"))
        }
        Verdict::Fault { name } => (Style::Warn, "fault", name.clone()),
    };
    let order = match &received.signal {
        Some(Json::Object(body)) => {
            let pair = body.get("trade_pair");
            let pair = pair.and_then(|p| p.as_object().map_or(Some(p), |o| o.get("trade_pair_id")));
            let pair = pair.and_then(Json::as_str).unwrap_or_default();
            format!("{pair} {}", text::order(body, &received.order_uuid))
        }
        _ => String::new(),
    };
    let wire = received.wire.map_or("-", Wire::as_str);
    let line = format!(
        "{}  {}  {}  {}  {}  {}",
        text::clock(received.at),
        out.paint(style, text::pad(word, 8)),
        text::pad(wire, 8),
        text::pad(&text::harmless(order.trim()), 28),
        text::harmless(&received.order_uuid),
        text::harmless(&why),
    );
    out.line(line.trim_end())
}
