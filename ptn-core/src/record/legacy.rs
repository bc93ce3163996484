//! The spool files as the Python tools know them: received, processed and failed.
//!
//! The texts keep Python's keys and shapes, so that scripts which read these folders go on working;
//! what we add stands under keys of its own (`id`, `seq`, `state`, `validators`, `digest`, ...).
//! Where the files are and when they are written is left to `store::fs`.

use std::collections::BTreeMap;

use crate::json::{Json, Object};
use crate::record::{DeliveryReport, DeliveryState, SignalState, ValidatorRecord};
use crate::rules::Era;
use crate::signal::Signal;
use crate::store::{StoredSignal, UnixMs};

/// A file in `received_signals/`: Python's `json.dumps(indent=4)`.
pub fn received_text(signal: &Signal) -> String {
    let mut body = signal.body().clone();
    if signal.era() == Era::Y2025 {
        for field in ["leverage", "value", "quantity", "limit_price", "stop_loss", "take_profit"] {
            if body.get(field).is_none() {
                body.set(field, Json::Null);
            }
        }
    }
    if signal.era() != Era::Y2024 {
        body.set("order_uuid", signal.order_uuid().into());
        if let Some(id) = signal.subaccount_id() {
            body.set("subaccount_id", Json::Number(id.to_string()));
        }
    }
    Json::Object(body).to_python_indented()
}

/// A file in `processed_signals/` or `failed_signals/`, by the report's state.
pub fn finished_text(stored: &StoredSignal, report: &DeliveryReport) -> String {
    match report.state {
        SignalState::Failed => {
            let mut o = Object::new();
            o.set("original_signal", signal_data(&stored.signal));
            o.set("validators_needing_retry", Json::Array(needing_retry(report)));
            o.set("error_messages_dict", Json::Object(error_messages(report)));
            o.set("created_orders", Json::Object(created_orders(report)));
            o.set("error_message", report.reason.as_str().into());
            o.set("failure_timestamp", python_time(report.finished_at).into());
            o.set("retry_attempts", attempts(report));
            ours(&mut o, stored, report);
            // The Python tools encode this file twice.
            Json::String(Json::Object(o).to_python_json()).to_python_json()
        }
        _ => {
            let mut o = Object::new();
            o.set("signal_data", signal_data(&stored.signal));
            o.set("created_orders", Json::Object(created_orders(report)));
            let first = report.validators.iter().find(|v| v.required && !v.order_json.is_empty());
            o.set("order_json", first.map_or("", |v| v.order_json.as_str()).into());
            o.set("processing_timestamp", python_time(report.finished_at).into());
            o.set("retry_attempts", attempts(report));
            ours(&mut o, stored, report);
            Json::Object(o).to_python_json()
        }
    }
}

/// Reads [`finished_text`] back; `None` for files of the Python tools, which lack our keys.
pub fn read_finished(text: &str) -> Option<StoredSignal> {
    let json = unwrapped(text)?;
    let ptn = json.as_object()?.get("ptn")?.as_object()?;
    let signal = Signal::from_stored(&ptn.get("signal")?.to_string()).ok()?;
    let number = |key: &str| match ptn.get(key) {
        Some(Json::Number(token)) => token.parse::<i64>().ok(),
        _ => None,
    };
    let list: Vec<ValidatorRecord> =
        serde_json::from_str(&json.as_object()?.get("validators")?.to_string()).ok()?;
    let validators: BTreeMap<_, _> = list.into_iter().map(|v| (v.hotkey.clone(), v)).collect();
    Some(StoredSignal {
        seq: number("seq").and_then(|n| u64::try_from(n).ok())?,
        signal,
        accepted_at: number("accepted_at")?,
        state: ptn.get("state").and_then(Json::as_str).and_then(SignalState::parse)?,
        validators,
        finished_at: number("finished_at"),
        reason: ptn.get("reason").and_then(Json::as_str).unwrap_or_default().to_owned(),
        cancel_requested: false,
    })
}

/// The digest that the text of a finished signal states; of the content itself see
/// [`Signal::digest`].
pub fn stated_digest(text: &str) -> Option<[u8; 32]> {
    let json = unwrapped(text)?;
    let stated = json.as_object()?.get("ptn")?.as_object()?.get("digest")?.as_str()?.to_owned();
    let mut digest = [0; 32];
    hex::decode_to_slice(stated, &mut digest).ok()?;
    Some(digest)
}

/// What the Python tools read in the text of a finished signal and what differs from the rest of it,
/// by name.
pub fn changed_fields(text: &str, stored: &StoredSignal) -> Vec<String> {
    let report = DeliveryReport {
        state: stored.state,
        reason: stored.reason.clone(),
        validators: stored.validators.values().cloned().collect(),
        finished_at: stored.finished_at.unwrap_or_default(),
    };
    let object = |text: &str| unwrapped(text).and_then(|json| json.as_object().cloned());
    let (Some(found), Some(written)) = (object(text), object(&finished_text(stored, &report)))
    else {
        return Vec::new();
    };
    let same = |key: &str| found.get(key) == written.get(key);
    let order = |o: &Object| o.get("order_json").and_then(Json::as_str).map(str::to_owned);
    let differs = |key: &&str| match *key {
        // Of several answers one stands here.
        "order_json" => order(&found).is_some_and(|json| {
            !json.is_empty() && !stored.validators.values().any(|v| v.order_json == json)
        }),
        key => !same(key),
    };
    let keys = ["signal_data", "original_signal", "created_orders", "order_json", "error_message"];
    keys.iter().filter(|key| differs(key)).map(|key| (*key).to_owned()).collect()
}

/// The object of a finished signal's file; that of a failed one is encoded twice.
fn unwrapped(text: &str) -> Option<Json> {
    match Json::parse(text.as_bytes()).ok()? {
        Json::String(inner) => Json::parse(inner.as_bytes()).ok(),
        json => Some(json),
    }
}

fn signal_data(signal: &Signal) -> Json {
    let mut body = signal.body().clone();
    if let Some(pair) = signal.trade_pair().filter(|_| signal.era() != Era::Y2024) {
        body.set("trade_pair", pair.as_str().into());
    }
    Json::Object(body)
}

fn created_orders(report: &DeliveryReport) -> Object {
    let accepted = report.validators.iter().filter(|v| v.state == DeliveryState::Accepted);
    accepted.map(|v| (v.hotkey.clone(), v.order_json.as_str().into())).collect()
}

fn error_messages(report: &DeliveryReport) -> Object {
    let failed = report.validators.iter().filter(|v| v.state != DeliveryState::Accepted);
    failed.map(|v| (v.hotkey.clone(), Json::Array(vec![v.message.as_str().into()]))).collect()
}

fn needing_retry(report: &DeliveryReport) -> Vec<Json> {
    let missing = report.validators.iter().filter(|v| v.state != DeliveryState::Accepted);
    let axon = |v: &ValidatorRecord| {
        let (ip, port) = v.address.rsplit_once(':').unwrap_or((v.address.as_str(), "0"));
        let ip = ip.trim_matches(['[', ']']);
        let kind = if ip.contains(':') { "6" } else { "4" };
        let number = |t: &str| Json::Number(t.to_owned());
        Json::Object(
            [
                ("ip".to_owned(), ip.into()),
                ("port".to_owned(), number(if port.is_empty() { "0" } else { port })),
                ("ip_type".to_owned(), number(kind)),
                ("hotkey".to_owned(), v.hotkey.as_str().into()),
                ("coldkey".to_owned(), "".into()),
                ("protocol".to_owned(), number("4")),
            ]
            .into_iter()
            .collect(),
        )
    };
    missing.map(axon).collect()
}

fn attempts(report: &DeliveryReport) -> Json {
    let most = report.validators.iter().map(|v| v.attempts).max().unwrap_or(0);
    Json::Number(most.to_string())
}

/// Our keys: the per-validator results for everyone, and what reads the file back under `ptn`.
fn ours(o: &mut Object, stored: &StoredSignal, report: &DeliveryReport) {
    let list = serde_json::to_vec(&report.validators).ok();
    let list = list.and_then(|bytes| Json::parse(&bytes).ok());
    o.set("validators", list.unwrap_or(Json::Array(Vec::new())));
    let mut ptn = Object::new();
    ptn.set("state", report.state.as_str().into());
    ptn.set("seq", stored.seq.into());
    ptn.set("digest", hex::encode(stored.signal.digest()).into());
    ptn.set("accepted_at", Json::Number(stored.accepted_at.to_string()));
    if !report.reason.is_empty() {
        ptn.set("reason", report.reason.as_str().into());
    }
    ptn.set("finished_at", Json::Number(report.finished_at.to_string()));
    let signal = Json::parse(stored.signal.to_stored().as_bytes()).unwrap_or(Json::Null);
    ptn.set("signal", signal);
    o.set("ptn", Json::Object(ptn));
}

/// Python's `datetime.now().isoformat()`; ours is UTC.
fn python_time(at: UnixMs) -> String {
    match jiff::Timestamp::from_millisecond(at) {
        Ok(t) => t.strftime("%Y-%m-%dT%H:%M:%S.%6f").to_string(),
        Err(_) => at.to_string(),
    }
}
