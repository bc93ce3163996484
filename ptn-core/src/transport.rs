//! `ValidatorTransport`: one attempt to hand one order to one validator.
//!
//! A transport reports what happened and how certain it is; it never repeats anything. Whether to
//! try again is left to [`crate::deliver`]. Ours are [`http::HttpTransport`] with both wires:
//! `btauth` (bittensor 11) and `synapse` (bittensor 6 to 10).

#[cfg(feature = "http")]
pub mod address;
#[cfg(feature = "http")]
pub mod btauth;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "http")]
pub mod nonce;
#[cfg(feature = "http")]
pub mod python;
#[cfg(feature = "http")]
pub mod synapse;

#[cfg(feature = "http")]
pub use http::HttpTransport;

#[cfg(feature = "http")]
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::directory::Validator;
use crate::json::Json;
use crate::record::SignedRequest;
use crate::signal::{OrderUuid, Signal};

/// Whether bytes of a request may have reached the validator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Certainty {
    /// Certainly not: it never heard of the order from this attempt.
    NotSent,
    /// Maybe: no usable answer came back.
    MaybeSent,
    /// It answered.
    Answered,
}

/// An order ready for the wire. Made once per signal: the body is serialised and hashed once,
/// whatever the number of validators and attempts.
#[derive(Debug)]
pub struct OutboundOrder {
    /// The signal's id, for logs.
    pub id: OrderUuid,
    /// The signal as it goes on the wire.
    pub signal: Json,
    /// `miner_order_uuid`.
    pub order_uuid: String,
    /// `repo_version`: the version of the miner software, by default `"8.8.9"`-like text.
    pub repo_version: String,
    /// `subaccount_id`.
    pub subaccount_id: Option<i64>,
    /// Whatever a transport wants to compute once per order (serialised bodies, hashes).
    #[cfg(feature = "http")]
    pub(crate) cache: OnceLock<Arc<http::Prepared>>,
}

impl OutboundOrder {
    /// An order from a signal.
    pub fn new(signal: &Signal, repo_version: impl Into<String>) -> Self {
        Self {
            id: signal.id().clone(),
            signal: signal.to_wire(),
            order_uuid: signal.order_uuid().to_owned(),
            repo_version: repo_version.into(),
            subaccount_id: signal.subaccount_id(),
            #[cfg(feature = "http")]
            cache: OnceLock::new(),
        }
    }
}

/// What a validator answered: data, not judged yet. See `deliver::catalogue` for the judgement.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ValidatorReply {
    /// HTTP status.
    pub status: u16,
    /// Whether it processed the order.
    pub successfully_processed: bool,
    /// Its words; for other statuses than 200 what its body says (at most 4 KiB).
    pub error_message: String,
    /// Whether it suggests a retry; absent before 2026.
    pub should_retry: Option<bool>,
    /// The hotkey it answers as.
    pub validator_hotkey: String,
    /// The order as it describes it.
    pub order_json: String,
    /// Its clock minus ours in milliseconds, by its `Date` header (whole seconds).
    pub clock_ahead_ms: Option<i64>,
    /// `Retry-After` of a 429 or 503.
    pub retry_after: Option<Duration>,
    /// Whether the answer looks like a peer that speaks the other wire.
    pub other_wire: bool,
    /// What was signed and sent, for the signal's receipt.
    pub requests: Vec<SignedRequest>,
}

/// An attempt without a usable answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TransportError {
    /// Whether the order may have arrived.
    pub certainty: Certainty,
    /// Stable code: `connect`, `connect_timeout`, `address_refused`, `timeout`, `connection_lost`,
    /// `bad_answer`, `answer_too_large`, `wrong_validator`, `wrong_order`, `signing`,
    /// `not_sendable`; `panicked` when a transport did.
    pub code: &'static str,
    /// What happened, where, and what to do.
    pub message: String,
    /// What was signed and sent, for the signal's receipt.
    pub requests: Vec<SignedRequest>,
}

impl TransportError {
    /// An attempt of which nothing was signed yet.
    pub fn new(certainty: Certainty, code: &'static str, message: impl Into<String>) -> Self {
        Self { certainty, code, message: message.into(), requests: Vec::new() }
    }
}

/// Hands orders to validators.
#[async_trait]
pub trait ValidatorTransport: Send + Sync + 'static {
    /// One attempt, finished before `deadline`. Every call signs anew.
    ///
    /// # Errors
    /// When there is no usable answer; the error says whether the order may have arrived.
    async fn deliver(
        &self,
        to: &Validator,
        order: &OutboundOrder,
        deadline: Instant,
    ) -> Result<ValidatorReply, TransportError>;

    /// Opens a connection ahead of time, where that makes sense. Never sends an order.
    async fn warm(&self, _to: &Validator) {}
}

/// A request header: its name in lower case, and its value.
#[cfg(feature = "http")]
pub type Header = (&'static str, String);

/// A signature as both wires write it.
#[cfg(feature = "http")]
pub(crate) fn hex_signature(signature: &[u8; 64]) -> String {
    let mut text = String::with_capacity(2 + 2 * signature.len());
    text.push_str("0x");
    for byte in signature {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from_digit(nibble.into(), 16).unwrap_or('0'));
        }
    }
    text
}
