//! A signal as `--json` and `GET /api/signals` show it, read from a spool or from a server.
//!
//! One shape for both, so that a program need not know where its answer came from. The order inside
//! keeps its number tokens.

use ptn_core::json::{Json, Object};
use ptn_core::ops::process;
use ptn_core::record::{DeliveryState, SignalState, ValidatorRecord};
use ptn_core::store::{StoredSignal, UnixMs};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A signal with everything that is known about it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SignalView {
    /// Its id.
    pub order_uuid: String,
    /// Its place in the order of arrival.
    pub seq: u64,
    /// Where it stands.
    pub state: SignalState,
    /// The same in the words of `order-status`: pending, completed or failed.
    pub status: String,
    /// When it was accepted.
    pub accepted_at: UnixMs,
    /// When it was finished.
    pub finished_at: Option<UnixMs>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Whether its cancellation was asked for.
    pub cancel_requested: bool,
    /// The rule set by which it was read.
    pub rules: String,
    /// The order uuids that it is about; its own one for an order.
    pub miner_order_uuid: String,
    /// The order as it goes to validators.
    pub signal: Option<Box<RawValue>>,
    /// One record per validator.
    pub validators: Vec<ValidatorRecord>,
}

/// What attempts are called that never reached a validator.
const NOT_REACHED: [&str; 8] = [
    "connect",
    "connect_timeout",
    "address_refused",
    "signing",
    "not_sendable",
    "no_address",
    "connection_lost",
    "timeout",
];

impl SignalView {
    /// The view of a stored signal.
    pub fn of(stored: &StoredSignal) -> Self {
        let signal = &stored.signal;
        let body = Json::Object(signal.body().clone()).to_string();
        Self {
            order_uuid: signal.id().to_string(),
            seq: stored.seq,
            state: stored.state,
            status: match stored.state {
                SignalState::Pending => "pending",
                SignalState::Processed => "completed",
                SignalState::Failed => "failed",
            }
            .to_owned(),
            accepted_at: stored.accepted_at,
            finished_at: stored.finished_at,
            reason: stored.reason.clone(),
            cancel_requested: stored.cancel_requested,
            rules: signal.era().to_string(),
            miner_order_uuid: signal.order_uuid().to_owned(),
            signal: RawValue::from_string(body).ok(),
            validators: stored.validators.values().cloned().collect(),
        }
    }

    /// The fields of the order.
    pub fn body(&self) -> Object {
        let text = self.signal.as_ref().map_or("{}", |raw| raw.get());
        match Json::parse(text.as_bytes()) {
            Ok(Json::Object(body)) => body,
            _ => Object::new(),
        }
    }

    /// The trade pair's id; empty when the order has none.
    pub fn pair(&self) -> String {
        let body = self.body();
        let pair = body.get("trade_pair");
        let id = pair.and_then(|p| p.as_object().map_or(Some(p), |o| o.get("trade_pair_id")));
        id.and_then(Json::as_str).unwrap_or_default().to_owned()
    }

    /// What the order says, in a few words, without the pair.
    pub fn words(&self) -> String {
        crate::text::order(&self.body(), &self.miner_order_uuid)
    }

    /// How many validators acknowledged it, of how many: `2/3`; `-` before the targets are known.
    pub fn acknowledged(&self) -> String {
        if self.validators.is_empty() {
            return "-".to_owned();
        }
        let done = self.validators.iter().filter(|v| v.state == DeliveryState::Accepted).count();
        format!("{done}/{}", self.validators.len())
    }

    /// Whether everyone who must acknowledge it is decided.
    pub fn is_decided(&self) -> bool {
        self.state != SignalState::Pending
            || ptn_core::deliver::required_verdict(self.validators.iter()).is_some()
    }

    /// Why it failed, where no validator's record says it.
    pub fn untold_reason(&self) -> Option<&str> {
        let told = self.validators.iter().any(|v| v.required && !v.message.is_empty());
        let failed = self.state == SignalState::Failed && !told;
        Some(self.reason.as_str()).filter(|reason| failed && !reason.is_empty())
    }

    /// Whether it failed for want of validators that left the list, so that nobody of those who lack
    /// can be reached by a retry.
    pub fn is_out_of_reach(&self) -> bool {
        let lacking = || {
            let required = self.validators.iter().filter(|v| v.required);
            required.filter(|v| v.state != DeliveryState::Accepted)
        };
        self.state == SignalState::Failed
            && lacking().next().is_some()
            && lacking().all(|v| v.code == "left_metagraph")
    }

    /// The exit code that tells how it ended.
    pub fn exit(&self) -> u8 {
        let lacking = || {
            let required = self.validators.iter().filter(|v| v.required);
            required.filter(|v| v.state != DeliveryState::Accepted)
        };
        let any = |state: DeliveryState| lacking().any(|v| v.state == state);
        let reached = |v: &ValidatorRecord| !NOT_REACHED.contains(&v.code.as_str());
        match self.state {
            SignalState::Processed => process::OK,
            SignalState::Pending if !self.is_decided() => process::UNAVAILABLE,
            SignalState::Pending if lacking().next().is_none() => process::OK,
            _ if any(DeliveryState::Unknown) => process::UNKNOWN,
            _ if lacking().any(|v| v.state == DeliveryState::Rejected && reached(v)) => {
                process::REFUSED
            }
            _ if any(DeliveryState::Rejected) => process::UNREACHABLE,
            _ => process::FAILED,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(state: &str, validators: &str) -> SignalView {
        let text = format!(
            r#"{{"order_uuid":"a","seq":1,"state":"{state}","status":"x","accepted_at":0,"finished_at":null,
            "cancel_requested":false,"rules":"2026","miner_order_uuid":"a",
            "signal":{{"trade_pair":{{"trade_pair_id":"BTCUSDC"}},"leverage":0.10}},"validators":[{validators}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn record(state: &str, code: &str) -> String {
        format!(
            r#"{{"hotkey":"5A","address":"127.0.0.1:1","required":true,"state":"{state}","attempts":1,"maybe_sent":true,"code":"{code}","at":0}}"#
        )
    }

    #[test]
    fn exit_codes_tell_how_it_ended() {
        for (state, validators, exit) in [
            ("processed", record("accepted", ""), 0),
            ("failed", record("rejected", "no_buying_power"), 3),
            ("failed", record("rejected", "connect"), 4),
            ("failed", record("unknown", "timeout"), 6),
            ("failed", record("expired", "expired"), 1),
            ("pending", record("submitted", ""), 75),
            ("pending", String::new(), 75),
            ("pending", record("accepted", ""), 0),
            ("failed", format!("{},{}", record("accepted", ""), record("rejected", "x")), 3),
        ] {
            assert_eq!(view(state, &validators).exit(), exit, "{state} {validators}");
        }
    }

    #[test]
    fn out_of_reach_is_what_only_those_lack_who_left() {
        let gone = || record("cancelled", "left_metagraph");
        for (state, validators, out) in [
            ("failed", gone(), true),
            ("failed", format!("{},{}", record("accepted", ""), gone()), true),
            ("failed", format!("{},{}", record("rejected", "connect"), gone()), false),
            ("failed", String::new(), false),
            ("processed", gone(), false),
        ] {
            assert_eq!(view(state, &validators).is_out_of_reach(), out, "{state} {validators}");
        }
    }

    #[test]
    fn number_tokens_survive() {
        let view = view("pending", "");
        assert_eq!((view.words().as_str(), view.pair().as_str()), ("0.10x", "BTCUSDC"));
        assert!(serde_json::to_string(&view).unwrap().contains("0.10"));
    }
}
