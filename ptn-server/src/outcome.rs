//! What became of a signal, in the words of `submit-order` and `order-status`.
//!
//! One place decides when a signal counts as answered, so that both endpoints always say the same:
//! as soon as every validator that must acknowledge it is final, whether or not copies for others
//! are still under way. Judging single answers was done by `ptn_core::deliver`.

use ptn_core::record::legacy::finished_text;
use ptn_core::record::{DeliveryReport, DeliveryState, SignalState, ValidatorRecord};
use ptn_core::store::StoredSignal;
use serde::Serialize;
use serde_json::value::RawValue;

/// Where a signal stands for its sender.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    /// Somebody who must acknowledge it has not answered finally.
    Pending,
    /// Everybody who must acknowledge it did.
    Completed {
        /// The order as the first of them describes it.
        order_json: String,
        /// What went wrong although the order was filled; mostly empty.
        warning: String,
    },
    /// It is over, without that.
    Failed {
        /// Stable code.
        code: &'static str,
        /// One sentence that begins as the Python servers' texts do.
        message: String,
        /// The validator's own words, or what went wrong.
        error: String,
        /// Whether the order may have reached a validator although no answer says so.
        maybe_sent: bool,
    },
}

/// What the engine calls an order that was filled although the answer was an error.
const FILLED_WITHOUT_BRACKET: &str = "filled_without_bracket";

/// What an attempt without any answer is called by the transport.
const NOT_REACHED: [&str; 7] = [
    "connect",
    "connect_timeout",
    "address_refused",
    "timeout",
    "connection_lost",
    "signing",
    "stopped",
];

/// Decides; `reason` is why the engine ended it, when that is known.
pub(crate) fn decide(stored: &StoredSignal, reason: Option<&str>) -> Outcome {
    let reason = reason.or((!stored.reason.is_empty()).then_some(stored.reason.as_str()));
    let required: Vec<&ValidatorRecord> =
        stored.validators.values().filter(|v| v.required).collect();
    let decided = !required.is_empty() && required.iter().all(|v| v.state.is_final());
    let accepted = |v: &&&ValidatorRecord| v.state == DeliveryState::Accepted;
    match stored.state {
        SignalState::Pending if !decided => return Outcome::Pending,
        SignalState::Failed => {}
        // Pending here means decided but with copies still under way.
        SignalState::Pending if required.iter().filter(accepted).count() < required.len() => {}
        _ => {
            let order = required.iter().filter(accepted).find(|v| !v.order_json.is_empty());
            let order = order.map_or_else(String::new, |v| v.order_json.clone());
            let partly = required.iter().find(|v| v.code == FILLED_WITHOUT_BRACKET);
            let warning = partly.map_or_else(String::new, |v| v.message.clone());
            return Outcome::Completed { order_json: order, warning };
        }
    }
    failed(&required, reason)
}

fn failed(required: &[&ValidatorRecord], reason: Option<&str>) -> Outcome {
    let lacking: Vec<_> = required.iter().filter(|v| v.state != DeliveryState::Accepted).collect();
    let said = |v: &ValidatorRecord, otherwise: &str| {
        if v.message.is_empty() { otherwise.to_owned() } else { v.message.clone() }
    };
    let by = |state: DeliveryState| lacking.iter().find(|v| v.state == state);
    let text = |code, message: String, error: String, maybe_sent| Outcome::Failed {
        code,
        message,
        error,
        maybe_sent,
    };
    // A lost answer weighs most: whoever reads only the message must not send a second order.
    if let Some(v) = by(DeliveryState::Unknown) {
        let error = said(v, "the answer was lost");
        let message = format!(
            "Failed to connect to Vanta Network: maybe sent, but its answer was lost ({error}). Look at your positions before you send it again, or send it again with this order_uuid only"
        );
        return text("delivery_unknown", message, error, true);
    }
    let refused = |v: &&&&ValidatorRecord| {
        v.state == DeliveryState::Rejected && !NOT_REACHED.contains(&v.code.as_str())
    };
    if let Some(v) = lacking.iter().find(refused) {
        let error = said(v, "refused without a reason");
        let message = format!("Order failed on Vanta Network: {error}");
        return text("rejected", message, error, false);
    }
    for (state, code, message) in [
        (DeliveryState::Denied, "denied", "Order not sent"),
        (DeliveryState::Expired, "expired", "Order not sent: it expired"),
        (DeliveryState::Cancelled, "cancelled", "Order not sent: it was cancelled"),
    ] {
        if let Some(v) = by(state) {
            let error = said(v, reason.unwrap_or_default());
            let message =
                if error.is_empty() { message.to_owned() } else { format!("{message}: {error}") };
            return text(code, message, error, false);
        }
    }
    let message = "Failed to connect to Vanta Network, please try again soon".to_owned();
    let error = match lacking.first() {
        Some(v) => said(v, reason.unwrap_or("no validator could be reached")),
        None => reason.unwrap_or("there was no validator to send it to").to_owned(),
    };
    let maybe_sent = lacking.iter().any(|v| v.maybe_sent && v.code != "connect");
    text("not_reached", message, error, maybe_sent)
}

/// The content of the processed or failed file, as `details` of `order-status`.
pub(crate) fn details(stored: &StoredSignal, outcome: &Outcome) -> Option<Box<RawValue>> {
    let (state, reason) = match outcome {
        Outcome::Pending => return None,
        Outcome::Completed { .. } => (SignalState::Processed, String::new()),
        Outcome::Failed { message, .. } => (SignalState::Failed, message.clone()),
    };
    let validators: Vec<ValidatorRecord> = stored.validators.values().cloned().collect();
    let last = validators.iter().map(|v| v.at).max();
    let report = DeliveryReport {
        state,
        reason,
        validators,
        finished_at: stored.finished_at.or(last).unwrap_or(stored.accepted_at),
    };
    let text = finished_text(stored, &report);
    // The file of a failed signal is JSON in a JSON string; here it is given as the object it is.
    let text = serde_json::from_str::<String>(&text).unwrap_or(text);
    RawValue::from_string(text).ok()
}

/// A signal as our own endpoints show it.
#[derive(Debug, Serialize)]
pub(crate) struct SignalView<'a> {
    order_uuid: &'a str,
    seq: u64,
    state: SignalState,
    status: &'static str,
    accepted_at: i64,
    finished_at: Option<i64>,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    cancel_requested: bool,
    rules: &'static str,
    miner_order_uuid: &'a str,
    signal: Option<Box<RawValue>>,
    validators: Vec<&'a ValidatorRecord>,
}

impl<'a> SignalView<'a> {
    pub(crate) fn of(stored: &'a StoredSignal) -> Self {
        let signal = &stored.signal;
        let body = ptn_core::json::Json::Object(signal.body().clone()).to_string();
        Self {
            order_uuid: signal.id().as_str(),
            seq: stored.seq,
            state: stored.state,
            status: decide(stored, None).status(),
            accepted_at: stored.accepted_at,
            finished_at: stored.finished_at,
            reason: &stored.reason,
            cancel_requested: stored.cancel_requested,
            rules: signal.era().as_str(),
            miner_order_uuid: signal.order_uuid(),
            signal: RawValue::from_string(body).ok(),
            validators: stored.validators.values().collect(),
        }
    }
}

impl Outcome {
    /// The word of `order-status`.
    pub(crate) fn status(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Completed { .. } => "completed",
            Self::Failed { .. } => "failed",
        }
    }
}
