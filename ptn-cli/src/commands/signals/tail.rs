//! Following what happens, as lines or as NDJSON.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::Method;
use ptn_core::ops::process;
use ptn_core::ops::store::Opened;
use ptn_core::record::Progress;
use ptn_core::store::{StoreChange, StoreEvent};
use serde_json::Value;
use tokio::sync::broadcast::error::RecvError;

use super::source::Source;
use crate::Outcome;
use crate::failure::Failure;
use crate::http::{Call, Server};
use crate::output::{Output, Style};
use crate::text;

/// The longest event that is put together from a server's stream.
const MAX_EVENT: usize = 1024 * 1024;

/// Prints events until Ctrl-C, or until `count` were printed.
pub(super) async fn run(source: &Source, count: Option<u64>, out: &mut Output) -> Outcome {
    let stop = process::stop_token().map_err(|e| Failure::io("cannot watch", "signals", &e))?;
    let follow = async {
        match source {
            Source::Store(store) => of_store(store, count, out).await,
            Source::Server(server) => of_server(server, count, out).await,
        }
    };
    tokio::select! {
        () = stop.cancelled() => Ok(process::OK),
        ended = follow => ended,
    }
}

async fn of_store(store: &Opened, count: Option<u64>, out: &mut Output) -> Outcome {
    let mut events = store.signals().events();
    out.talk(format!("following {}; Ctrl-C ends it", store.name()));
    let mut seen = 0;
    while count.is_none_or(|count| seen < count) {
        match events.recv().await {
            Ok(event) => {
                seen += 1;
                show(&event, out)?;
            }
            Err(RecvError::Lagged(n)) => out.talk(format!("{n} events came too fast to be shown")),
            Err(RecvError::Closed) => break,
        }
    }
    Ok(process::OK)
}

fn show(event: &StoreEvent, out: &mut Output) -> Result<(), Failure> {
    if out.is_json() {
        return out.document(event);
    }
    let (style, word, more) = match &event.change {
        StoreChange::Accepted { trade_pair, execution_type, order_type, .. } => {
            let pair = trade_pair.as_deref().unwrap_or_default();
            let side = order_type.map(|t| t.as_str()).unwrap_or_default();
            (Style::Strong, "accepted", format!("{pair} {execution_type} {side}"))
        }
        StoreChange::Progress { progress: Progress::Targets { validators } } => {
            (Style::Dim, "targets", text::count(validators.len(), "validator"))
        }
        StoreChange::Progress { progress: Progress::Begin { hotkeys } } => {
            let keys: Vec<String> = hotkeys.iter().map(|k| text::short_key(k)).collect();
            (Style::Dim, "sending", keys.join(" "))
        }
        StoreChange::Progress { progress: Progress::Outcome { validator: v } } => {
            let mut more = text::short_key(&v.hotkey);
            for part in [&v.code, &v.message] {
                if !part.is_empty() && part != v.state.as_str() {
                    more.push_str(&format!("  {}", text::harmless(part)));
                }
            }
            if let Some(at) = v.next_try_at {
                more.push_str(&format!("  next try {}", text::clock(at)));
            }
            (text::style_of(v.state), v.state.as_str(), more)
        }
        StoreChange::CancelRequested => (Style::Warn, "cancel", String::new()),
        StoreChange::RetryRequested => (Style::Warn, "retry", String::new()),
        StoreChange::Finished { state, reason } => {
            let good = *state == ptn_core::record::SignalState::Processed;
            let style = if good { Style::Good } else { Style::Bad };
            (style, state.as_str(), text::harmless(reason))
        }
    };
    let line = format!(
        "{}  {}  {}  {more}",
        text::clock(event.at),
        out.paint(style, text::pad(word, 9)),
        event.id
    );
    out.line(line.trim_end())
}

/// Reads server-sent events: `data: {..}` lines.
async fn of_server(server: &Server, count: Option<u64>, out: &mut Output) -> Outcome {
    let timeout = Duration::from_secs(20);
    let call = Call { method: Method::GET, path: "/api/events", body: None, timeout };
    let opened = tokio::time::timeout(timeout, server.open(call)).await;
    let response = opened.map_err(|_| {
        let text = format!("{} does not answer", server.name());
        Failure::new(process::UNREACHABLE, "unreachable", text)
    })??;
    let status = response.status().as_u16();
    if status != 200 {
        let text = format!("{} answered {status}", server.name());
        let failure = Failure::new(process::USAGE, format!("http_{status}"), text);
        return Err(failure.hint_for_status(status));
    }
    out.talk(format!("following {}; Ctrl-C ends it", server.name()));
    let mut body = response.into_body();
    let mut pending: Vec<u8> = Vec::new();
    let mut seen = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { break };
        pending.extend(frame.data_ref().map(|d| d.to_vec()).unwrap_or_default());
        while let Some(end) = pending.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let Some(data) = line.strip_prefix("data:") else { continue };
            seen += 1;
            remote(data.trim(), out)?;
            if count.is_some_and(|count| seen >= count) {
                return Ok(process::OK);
            }
        }
        if pending.len() > MAX_EVENT {
            return Err(Failure::failed("bad_answer", "an event is larger than 1 MiB"));
        }
    }
    Err(Failure::new(
        process::UNREACHABLE,
        "stream_ended",
        format!("{} ended the stream", server.name()),
    ))
}

fn remote(data: &str, out: &mut Output) -> Result<(), Failure> {
    if out.is_json() {
        return out.line(data);
    }
    let event: Value = serde_json::from_str(data).unwrap_or(Value::Null);
    let text_of = |v: &Value| v.as_str().map(text::harmless).unwrap_or_default();
    let at = event.get("at").and_then(Value::as_i64).map(text::clock).unwrap_or_default();
    let validator = event.pointer("/progress/validator");
    let word = match validator.and_then(|v| v.get("state")) {
        Some(state) => text_of(state),
        None => event
            .pointer("/progress/kind")
            .or_else(|| event.get("state").or_else(|| event.get("event")))
            .map(text_of)
            .unwrap_or_default(),
    };
    // The same words as on a data directory.
    let word = match word.as_str() {
        "begin" => "sending".to_owned(),
        "cancel_requested" => "cancel".to_owned(),
        "retry_requested" => "retry".to_owned(),
        _ => word,
    };
    let mut more = Vec::new();
    for place in ["/trade_pair", "/execution_type", "/order_type", "/reason"] {
        more.extend(event.pointer(place).map(text_of).filter(|t| !t.is_empty()));
    }
    let list = |place: &str| event.pointer(place).and_then(Value::as_array);
    if let Some(targets) = list("/progress/validators") {
        more.push(text::count(targets.len(), "validator"));
    }
    for key in list("/progress/hotkeys").into_iter().flatten() {
        more.push(text::short_key(&text_of(key)));
    }
    if let Some(v) = validator {
        more.extend(v.get("hotkey").map(|k| text::short_key(&text_of(k))));
        let parts = ["code", "message"].iter().filter_map(|part| v.get(part).map(text_of));
        more.extend(parts.filter(|t| !t.is_empty() && *t != word));
    }
    let id = event.get("id").map(text_of).unwrap_or_default();
    let line = format!("{at}  {}  {id}  {}", text::pad(&word, 9), more.join("  "));
    out.line(line.trim_end())
}
