//! Recorded signals for a replay: lines of JSON, and files of a `processed_signals` folder.
//!
//! Whose files they are is left to the caller, which lists the folder and names the file in errors.

use crate::json::{Json, Object};
use crate::record::legacy;
use crate::rules::Rules;
use crate::signal::Signal;
use crate::store::UnixMs;

/// A signal and when a validator is to receive it.
#[derive(Debug, Clone, PartialEq)]
pub struct TimedSignal {
    /// When, in ms.
    pub received_ms: UnixMs,
    /// What was recorded; the replay reads it by its own rules.
    pub body: Object,
}

/// A record that holds no signal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {text}")]
pub struct RecordError {
    /// What is to blame.
    pub field: &'static str,
    /// What is wrong, and what would be right.
    pub text: String,
}

impl RecordError {
    /// A stable name.
    pub const fn code(&self) -> &'static str {
        "signal_record"
    }
}

fn bad(field: &'static str, text: impl Into<String>) -> RecordError {
    RecordError { field, text: text.into() }
}

impl TimedSignal {
    /// Reads a line `{"received_ms": 1780000000000, "signal": {...}}`.
    ///
    /// # Errors
    /// When it is something else.
    pub fn from_line(text: &str) -> Result<Self, RecordError> {
        let json = Json::parse(text.as_bytes()).map_err(|e| bad("line", e.to_string()))?;
        let line = json.as_object().ok_or_else(|| {
            bad("line", "not an object; write {\"received_ms\":...,\"signal\":{...}}")
        })?;
        let received_ms = match line.get("received_ms") {
            Some(Json::Number(token)) => token.parse().ok().filter(|ms: &UnixMs| *ms >= 0),
            _ => None,
        };
        let received_ms = received_ms
            .ok_or_else(|| bad("received_ms", "missing or no whole number of ms since 1970"))?;
        let body = line.get("signal").and_then(Json::as_object);
        let body = body.ok_or_else(|| bad("signal", "missing or not an object"))?.clone();
        Ok(Self { received_ms, body })
    }

    /// Reads a file of `processed_signals`, whose name is the uuid. Files of the Python tools say
    /// when they were written, in the local time of their machine; it is read as UTC.
    ///
    /// # Errors
    /// When it holds no signal or no time.
    pub fn from_processed(name: &str, text: &str) -> Result<Self, RecordError> {
        if let Some(stored) = legacy::read_finished(text) {
            let mut body = stored.signal.body().clone();
            body.set("order_uuid", stored.signal.order_uuid().into());
            return Ok(Self { received_ms: stored.accepted_at, body });
        }
        let json = Json::parse(text.as_bytes()).map_err(|e| bad("file", e.to_string()))?;
        let file = json.as_object().ok_or_else(|| bad("file", "not a JSON object"))?;
        let body = file.get("signal_data").and_then(Json::as_object);
        let mut body = body.ok_or_else(|| bad("signal_data", "missing or not an object"))?.clone();
        if body.get("order_uuid").is_none() {
            body.set("order_uuid", name.into());
        }
        let written = file.get("processing_timestamp").and_then(Json::as_str).unwrap_or_default();
        let received_ms = written
            .parse::<jiff::civil::DateTime>()
            .and_then(|time| jiff::tz::TimeZone::UTC.to_timestamp(time))
            .map_err(|_| {
                bad(
                    "processing_timestamp",
                    format!("{written:?} is no time such as 2024-04-08T12:00:00"),
                )
            })?
            .as_millisecond();
        Ok(Self { received_ms, body })
    }

    /// The uuid, as far as it has one.
    pub fn uuid(&self) -> &str {
        self.body.get("order_uuid").and_then(Json::as_str).unwrap_or_default()
    }

    /// The signal by these rules, as the miner would judge it before it is sent.
    ///
    /// # Errors
    /// The miner's refusal.
    pub fn signal(&self, rules: &Rules) -> Result<Signal, crate::signal::SignalError> {
        Signal::from_object(self.body.clone(), rules)
    }
}
