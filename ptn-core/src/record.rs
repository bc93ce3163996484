//! What is written down about a delivery: the states, one validator's record, the final report.
//!
//! These are the words of the API, the files, the metrics and the docs alike. Writing them to disk
//! is left to [`crate::store`]; deciding them to [`crate::deliver`].

pub mod legacy;
pub mod receipt;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::store::UnixMs;

/// Where a whole signal stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignalState {
    /// Accepted, waiting or in delivery.
    Pending,
    /// Everyone who must acknowledge it did.
    Processed,
    /// Finished without that; the report says who answered what.
    Failed,
}

/// Where the delivery to one validator stands. One word each, everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// Not decided yet: waiting, being sent, or to be tried again.
    Submitted,
    /// The validator acknowledged it.
    Accepted,
    /// The validator refused it, or every attempt failed without reaching it.
    Rejected,
    /// Refused by us before anything was sent.
    Denied,
    /// Too old to be sent; nothing was sent.
    Expired,
    /// Cancelled before it was sent.
    Cancelled,
    /// Maybe sent: the answer was lost, and repeating it could trade twice or did not help.
    Unknown,
}

impl DeliveryState {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Submitted => "submitted",
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Unknown => "unknown",
        }
    }

    /// Whether it will not change any more.
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Submitted)
    }
}

impl std::fmt::Display for DeliveryState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl SignalState {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processed => "processed",
            Self::Failed => "failed",
        }
    }

    /// Reads the word.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Processed, Self::Failed].into_iter().find(|s| s.as_str() == text)
    }
}

impl std::fmt::Display for SignalState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One signed request to a validator and what came of it, for the signal's receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedRequest {
    /// When it left, by our clock.
    pub at: UnixMs,
    /// Its nonce, which was signed with it.
    pub nonce: u64,
    /// Lower-case hex of the SHA-256 of the request as it was handed to the connection: the request
    /// line, every header as `name: value`, an empty line, the body; lines end in `\n`.
    pub sha256: String,
    /// The code of what came back (`accepted`, `timeout`, ...); empty while it is not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub code: String,
    /// When that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_at: Option<UnixMs>,
}

/// The delivery of one signal to one validator so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValidatorRecord {
    /// The validator's ss58 address.
    pub hotkey: String,
    /// `ip:port` of the last attempt.
    pub address: String,
    /// Whether it must acknowledge the signal; otherwise it gets a copy.
    pub required: bool,
    /// Where it stands.
    pub state: DeliveryState,
    /// Attempts begun.
    pub attempts: u32,
    /// Of these, the ones to which the validator answered with a wait: they cost no try.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub waits: u32,
    /// Whether bytes of an attempt may have reached the validator.
    pub maybe_sent: bool,
    /// The validator's last words, up to 2048 bytes of them, or what went wrong; empty when accepted at
    /// once.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// A stable code for the last answer (`accepted`, `rate_limited`, `connect`, `timeout`, ...).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub code: String,
    /// The order as the validator describes it (JSON text or a Python dict); often empty, and left out
    /// when it takes more than 16 KiB.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub order_json: String,
    /// When the next attempt is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_try_at: Option<UnixMs>,
    /// When this record was last changed.
    pub at: UnixMs,
    /// Round trip of the last answered attempt, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_us: Option<u64>,
    /// Stake and trust are not repeated here; the validator's trust decides who is `required`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v_trust: Option<f64>,
    /// The signed requests that went out, the latest [`MOST_REQUESTS`] of them. Attempts that reached
    /// nobody have none; of an attempt during which this process died nothing is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<SignedRequest>,
}

/// So many signed requests are kept per validator and signal.
pub const MOST_REQUESTS: usize = 32;

/// So many bytes of a validator's words are kept, and an order as it describes it up to so many: a
/// hostile one must not fill the store, nor make the report of all of them longer than a journal's line.
const MOST_WORDS: usize = 2048;
const LONGEST_ORDER: usize = 16 * 1024;

fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl ValidatorRecord {
    /// A record of a delivery that has not begun.
    pub fn new(hotkey: &str, address: String, required: bool, at: UnixMs) -> Self {
        Self {
            hotkey: hotkey.to_owned(),
            address,
            required,
            state: DeliveryState::Submitted,
            attempts: 0,
            waits: 0,
            maybe_sent: false,
            message: String::new(),
            code: String::new(),
            order_json: String::new(),
            next_try_at: None,
            at,
            round_trip_us: None,
            v_trust: None,
            requests: Vec::new(),
        }
    }
}

impl ValidatorRecord {
    /// Notes what an attempt signed, and what came back to the last of it.
    pub(crate) fn note_requests(&mut self, requests: &[SignedRequest], code: &str, at: UnixMs) {
        self.requests.extend_from_slice(requests);
        if let (Some(last), false) = (self.requests.last_mut(), requests.is_empty()) {
            code.clone_into(&mut last.code);
            last.answered_at = Some(at);
        }
        let surplus = self.requests.len().saturating_sub(MOST_REQUESTS);
        self.requests.drain(..surplus);
    }

    /// Leaves out what is longer than a validator has to say.
    pub(crate) fn keep_short(&mut self) {
        let (length, end) = (self.message.len(), self.message.floor_char_boundary(MOST_WORDS));
        if end < length {
            self.message.truncate(end);
            self.message.push_str(&format!("... ({length} bytes)"));
        }
        // As it is stored: escapes make it up to six times as long.
        let stored = serde_json::to_string(&self.order_json).map_or(usize::MAX, |text| text.len());
        if stored > LONGEST_ORDER {
            self.order_json.clear();
        }
    }

    /// An attempt begins.
    fn begin(&mut self) {
        // Also of a record that is damaged and says something else.
        self.attempts = self.attempts.saturating_add(1);
        self.maybe_sent = true;
        self.next_try_at = None;
    }
}

/// What is recorded while a signal is delivered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Progress {
    /// Who gets it, decided once. Replaces nothing: later starts keep this decision.
    Targets {
        /// One record per validator, all `submitted` (or `denied`).
        validators: Vec<ValidatorRecord>,
    },
    /// Attempts begin: from now on their bytes may arrive.
    Begin {
        /// The validators' hotkeys.
        hotkeys: Vec<String>,
    },
    /// One validator's record after an attempt, or after a decision not to make one.
    Outcome {
        /// The record, complete.
        validator: ValidatorRecord,
    },
}

impl Progress {
    /// As [`Progress::apply`], to one record per validator in any order.
    pub(crate) fn apply_to_list(&self, list: &mut Vec<ValidatorRecord>) {
        match self {
            Self::Targets { validators: new } => {
                list.reserve_exact(new.len());
                for v in new {
                    if !list.iter().any(|known| known.hotkey == v.hotkey) {
                        list.push(v.clone());
                    }
                }
            }
            Self::Begin { hotkeys } => {
                for v in list.iter_mut().filter(|v| hotkeys.contains(&v.hotkey)) {
                    v.begin();
                }
            }
            Self::Outcome { validator } => {
                match list.iter_mut().find(|v| v.hotkey == validator.hotkey) {
                    Some(v) => v.clone_from(validator),
                    None => list.push(validator.clone()),
                }
            }
        }
    }

    /// Applies it to what was known before.
    pub fn apply(&self, validators: &mut BTreeMap<String, ValidatorRecord>) {
        match self {
            Self::Targets { validators: new } => {
                for v in new {
                    validators.entry(v.hotkey.clone()).or_insert_with(|| v.clone());
                }
            }
            Self::Begin { hotkeys } => {
                for hotkey in hotkeys {
                    if let Some(v) = validators.get_mut(hotkey) {
                        v.begin();
                    }
                }
            }
            Self::Outcome { validator } => {
                validators.insert(validator.hotkey.clone(), validator.clone());
            }
        }
    }
}

/// How a signal ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeliveryReport {
    /// `processed` or `failed`.
    pub state: SignalState,
    /// Why, in one sentence; empty when processed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Every validator's record.
    pub validators: Vec<ValidatorRecord>,
    /// When the last of them was decided.
    pub finished_at: UnixMs,
}
