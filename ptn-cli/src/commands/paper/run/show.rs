//! What a standing validator prints: how to reach it, and a line for everything that happens.

use std::net::SocketAddr;

use ptn_core::directory::Validator;
use ptn_core::paper::account::Event;
use ptn_core::paper::desk::{Begun, DeskEvent};
use ptn_core::rules::Era;
use ptn_core::validator::{DeskAnswer, Received, Verdict};
use serde_json::json;

use super::super::super::listen::block;
use super::super::on_chain::Told;
use super::RunArgs;
use crate::failure::Failure;
use crate::output::{Output, Style};
use crate::text;

/// What was started.
pub(super) struct Started<'a> {
    pub(super) entry: &'a Validator,
    pub(super) http: SocketAddr,
    pub(super) era: Era,
    pub(super) args: &'a RunArgs,
    pub(super) begun: Begun,
}

/// How to reach it.
pub(super) fn introduce(started: &Started<'_>, out: &mut Output) -> Result<(), Failure> {
    let Started { entry, http, era, args, begun } = started;
    if out.is_json() {
        // Programs wait for this line before they send.
        return out.document(&json!({
            "event": "listening",
            "hotkey": entry.hotkey,
            "address": entry.address().to_string(),
            "http": http.to_string(),
            "rules": era.to_string(),
            "resumed": begun.resumed,
            "validator": entry,
        }));
    }
    let title = format!("paper validator of {era} on {}", entry.address());
    out.talk(out.paint_talk(Style::Strong, title));
    out.talk(format!("hotkey    {}", entry.hotkey));
    out.talk(format!("look at   http://{http}"));
    out.talk(format!("prices    {}", args.prices));
    let dir = args.dir.display();
    out.talk(match begun.resumed {
        true => format!(
            "folder    {dir}, going on where it was ({} entries of the journal)",
            begun.entries
        ),
        false => format!("folder    {dir}, new"),
    });
    if begun.torn > 0 {
        let text = format!(
            "          the last line of the journal was torn ({} bytes); nobody had an answer for it",
            begun.torn
        );
        out.talk(text);
    }
    let list = match &args.write {
        Some(path) => path.display().to_string(),
        None => {
            out.talk(format!("\nfor the list of validators:\n\n{}", block(entry, "")));
            "validators.toml".to_owned()
        }
    };
    out.talk(format!(
        "\na miner for it:\n\n  ptn-miner --subtensor.network local --delivery.policy all --delivery.pacing on --rules {era} \\\n    \
         --validators {list}\n"
    ));
    Ok(())
}

/// A request whose envelope was refused, before anybody looked at its order.
pub(super) fn refused_envelope(received: &Received, out: &mut Output) -> Result<(), Failure> {
    let Verdict::Refused { status, reason } = &received.verdict else { return Ok(()) };
    if out.is_json() {
        return out.document(&json!({
            "event": "refused", "at_ms": received.at, "status": status, "reason": reason,
            "hotkey": received.sender, "wire": received.wire,
        }));
    }
    let line = format!("{status} {}", text::harmless(reason));
    row(out, received.at, Style::Bad, "refused", &received.sender, &line)
}

/// Something that happened at the desk.
pub(super) fn event(era: Era, event: &DeskEvent, out: &mut Output) -> Result<(), Failure> {
    match event {
        DeskEvent::Order { at_ms, hotkey, uuid, answer, refused } => {
            if out.is_json() {
                let (taken, message) = match answer {
                    DeskAnswer::Taken { order_json } => (true, order_json.as_str()),
                    DeskAnswer::Failed { message, .. } => (false, message.as_str()),
                    _ => (false, ""),
                };
                return out.document(&json!({
                    "event": "order", "at_ms": at_ms, "hotkey": hotkey, "order_uuid": uuid,
                    "taken": taken, "code": refused, "text": message,
                }));
            }
            let (style, word, why) = match answer {
                DeskAnswer::Taken { .. } => (Style::Good, "taken", ""),
                DeskAnswer::Failed { message, .. } => (Style::Bad, "refused", message.as_str()),
                _ => (Style::Warn, "repeated", "its uuid was processed before"),
            };
            let line = format!("{}  {}", text::harmless(uuid), text::harmless(why));
            row(out, *at_ms, style, word, hotkey, line.trim_end())
        }
        DeskEvent::Account { at_ms, hotkey, event } => {
            if out.is_json() {
                return out.document(&json!({
                    "event": "account", "at_ms": at_ms, "hotkey": hotkey, "what": event,
                }));
            }
            match happened(event) {
                Some(line) => row(out, *at_ms, Style::Warn, "account", hotkey, &line),
                None => Ok(()),
            }
        }
        DeskEvent::Eliminated(row_of) => {
            if out.is_json() {
                return out.document(&json!({"event": "eliminated", "row": row_of}));
            }
            let at_ms = row_of.elimination_initiated_time_ms;
            let line = match era {
                Era::Y2024 => format!("{} at a ratio of {:.4}", row_of.reason, row_of.dd),
                _ => format!("{} at a loss of {:.2} %", row_of.reason, row_of.dd),
            };
            row(out, at_ms, Style::Bad, "eliminated", &row_of.hotkey, &line)
        }
        DeskEvent::Round(round) => {
            if out.is_json() {
                return out.document(&json!({"event": "round", "round": &**round}));
            }
            let best = round.weights.miners.first();
            let (hotkey, line) = match best {
                Some((hotkey, weight)) => (
                    hotkey.as_str(),
                    format!("{weight:.6}, the highest of {}", round.weights.miners.len()),
                ),
                None => ("", "nobody has a weight".to_owned()),
            };
            row(out, round.at_ms, Style::Strong, "weights", hotkey, &line)
        }
        _ => Ok(()),
    }
}

/// A round that was set on the chain, or not.
pub(super) fn told(told: &Told, out: &mut Output) -> Result<(), Failure> {
    if out.is_json() {
        return out.document(&match told {
            Told::Set { round, uids, block, extrinsic } => json!({
                "event": "weights_set", "round": round.n, "uids": uids, "block": block,
                "extrinsic": extrinsic,
            }),
            Told::Nothing { round } => json!({"event": "weights_empty", "round": round.n}),
            Told::Failed { round, error } => json!({
                "event": "weights_failed", "round": round.n, "code": error.code(),
                "text": error.to_string(),
            }),
        });
    }
    let (round, style, line) = match told {
        Told::Set { round, uids, block, extrinsic } => {
            let text = format!("{uids} uids in block {block}, extrinsic {extrinsic}");
            (round, Style::Good, text)
        }
        Told::Nothing { round } => {
            let text = "nothing to set: no miner with a weight is registered there";
            (round, Style::Warn, text.to_owned())
        }
        Told::Failed { round, error } => {
            (round, Style::Bad, format!("not set, the next round is tried: {error}"))
        }
    };
    let round_n = format!("round {}", round.n);
    row(out, round.at_ms, style, "chain", &round_n, &text::harmless(&line))
}

/// Small charges happen all the time and are in the balance.
fn happened(event: &Event) -> Option<String> {
    Some(match event {
        Event::Filled { fill } => {
            format!("{} {} filled at {}", fill.order_type, fill.pair, fill.price)
        }
        Event::Failed { uuid, refusal } => {
            format!("resting order {} failed: {refusal}", text::harmless(uuid))
        }
        Event::StopReached { uuid, .. } => format!("stop {} reached", text::harmless(uuid)),
        Event::Cancelled { uuid } => format!("order {} cancelled", text::harmless(uuid)),
        Event::Liquidated { position } => {
            format!("position {} liquidated", text::harmless(position))
        }
        _ => return None,
    })
}

fn row(
    out: &mut Output,
    at_ms: i64,
    style: Style,
    word: &str,
    hotkey: &str,
    line: &str,
) -> Result<(), Failure> {
    let line = format!(
        "{}  {}  {}  {line}",
        text::date_time(at_ms),
        out.paint(style, text::pad(word, 10)),
        text::pad(&text::short_key(&text::harmless(hotkey)), 13),
    );
    out.line(line.trim_end())
}
