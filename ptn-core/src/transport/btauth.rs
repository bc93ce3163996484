//! The wire of bittensor 11: plain HTTP whose headers sign method, path, body, time and receiver.
//!
//! Wire spec section 4. Both sides are here: building a request, and verifying one exactly as the
//! SDK's `http_auth.verify` does, which our loopback validator needs and which proves the first.
//! Sockets are left to [`super::http`], the meaning of the body to its readers.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{Header, OutboundOrder};
use crate::json::Json;
use crate::sign::{SignError, Signer, ss58, verify_key};

/// Where signals are posted.
pub const PATH: &str = "/axon/SendSignal";
/// Older requests are refused, in nanoseconds.
pub const MAX_AGE_NS: i128 = 10_000_000_000;
/// Requests further ahead of the receiver's clock are refused, in nanoseconds.
pub const ALLOWED_SKEW_NS: i128 = 2_000_000_000;
/// How long a receiver remembers a nonce, in nanoseconds.
const REPLAY_NS: i128 = 60_000_000_000;

/// A body and its digest: the same bytes for every validator and attempt.
#[derive(Debug, Clone)]
pub struct Body {
    /// The JSON text, which is sent exactly so.
    pub bytes: Bytes,
    /// Lower-case hex of its SHA-256.
    pub sha256: String,
}

impl Body {
    /// A body of these bytes.
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let sha256 = hex::encode(Sha256::digest(&bytes));
        Self { bytes, sha256 }
    }

    /// The body of an order: all ten fields, those of the validator at their defaults, because it
    /// answers with this very object and may leave some untouched.
    pub fn of_order(order: &OutboundOrder) -> Self {
        let mut text = format!("{{\"signal\":{}", order.signal);
        text.push_str(&message_fields(order));
        text.push_str(",\"computed_body_hash\":\"\"}");
        Self::new(text)
    }
}

/// The fields after `signal`, which both wires share, in the order of the network's schema.
pub(super) fn message_fields(order: &OutboundOrder) -> String {
    let subaccount = order.subaccount_id.map_or_else(|| "null".to_owned(), |id| id.to_string());
    format!(
        ",\"repo_version\":{},\"successfully_processed\":false,\"error_message\":\"\",\
         \"should_retry\":true,\"validator_hotkey\":\"\",\"order_json\":\"\",\
         \"miner_order_uuid\":{},\"subaccount_id\":{subaccount}",
        Json::from(order.repo_version.as_str()),
        Json::from(order.order_uuid.as_str()),
    )
}

/// What is signed.
#[derive(Debug, Clone, Copy)]
pub struct Payload<'a> {
    /// `sr25519` or `ed25519`.
    pub scheme: &'a str,
    /// The HTTP method; signed in upper case.
    pub method: &'a str,
    /// Path and query as sent.
    pub target: &'a str,
    /// Lower-case hex of the body's SHA-256.
    pub body_sha256: &'a str,
    /// Unix time in nanoseconds.
    pub nonce: i128,
    /// The sender's address.
    pub sender: &'a str,
    /// The receiver's address; `None` for a request bound to nobody.
    pub receiver: Option<&'a str>,
}

/// The text that is signed: eight lines, no line end after the last.
pub fn payload(p: &Payload<'_>) -> String {
    format!(
        "btauth/1\n{}\n{}\n{}\n{}\n{}\n{}\n{}",
        p.scheme,
        p.method.to_uppercase(),
        p.target,
        p.body_sha256,
        p.nonce,
        p.sender,
        p.receiver.unwrap_or("-"),
    )
}

/// The headers of one attempt, signed now.
///
/// # Errors
/// When the signer has no key at hand.
pub fn headers(
    signer: &dyn Signer,
    receiver: &str,
    body: &Body,
    nonce: u64,
) -> Result<Vec<Header>, SignError> {
    let sender = signer.hotkey();
    let text = payload(&Payload {
        scheme: "sr25519",
        method: "POST",
        target: PATH,
        body_sha256: &body.sha256,
        nonce: i128::from(nonce),
        sender,
        receiver: Some(receiver),
    });
    let signature = signer.sign(text.as_bytes())?;
    Ok(vec![
        ("x-bittensor-version", "1".to_owned()),
        ("x-bittensor-hotkey", sender.to_owned()),
        ("x-bittensor-receiver", receiver.to_owned()),
        ("x-bittensor-nonce", nonce.to_string()),
        ("x-bittensor-signature", super::hex_signature(&signature)),
    ])
}

/// A request as it came in.
#[derive(Clone, Copy)]
pub struct Incoming<'a> {
    /// The HTTP method.
    pub method: &'a str,
    /// Path and query as received.
    pub target: &'a str,
    /// The raw body.
    pub body: &'a [u8],
    /// Looks a header up by its lower-case name.
    pub header: &'a dyn Fn(&str) -> Option<&'a str>,
}

impl std::fmt::Debug for Incoming<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming").field("target", &self.target).finish_non_exhaustive()
    }
}

/// Who sent a verified request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The sender's address.
    pub hotkey: String,
    /// Its nonce.
    pub nonce: i128,
}

/// Why a request was refused; the names are those of the SDK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// A header is missing or cannot be read.
    #[error("a signed header is missing or malformed")]
    MalformedAuth,
    /// Meant for somebody else, or for nobody.
    #[error("the request was signed for another receiver")]
    WrongReceiver,
    /// Too old, or from the future.
    #[error("the request is too old or from the future: compare the clocks")]
    StaleRequest,
    /// Not signed by this sender over this request.
    #[error("the signature does not fit the request")]
    BadSignature,
    /// Seen before.
    #[error("the request was seen before")]
    ReplayedRequest,
}

impl AuthError {
    /// The SDK's name of the error.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MalformedAuth => "MalformedAuth",
            Self::WrongReceiver => "WrongReceiver",
            Self::StaleRequest => "StaleRequest",
            Self::BadSignature => "BadSignature",
            Self::ReplayedRequest => "ReplayedRequest",
        }
    }
}

/// Nonces that were used within the last minute.
#[derive(Debug, Default)]
pub struct Replays(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// (sender, nonce) and when it arrived.
    used: HashMap<(String, i128), i128>,
    next_sweep: i128,
}

impl Replays {
    /// Whether it is new; remembers it.
    fn is_new(&self, caller: &Caller, now_ns: i128) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now_ns >= seen.next_sweep {
            seen.used.retain(|_, at| now_ns - *at <= REPLAY_NS);
            seen.next_sweep = now_ns + REPLAY_NS / 4;
        }
        let key = (caller.hotkey.clone(), caller.nonce);
        match seen.used.get(&key) {
            Some(at) if now_ns - *at <= REPLAY_NS => false,
            _ => {
                seen.used.insert(key, now_ns);
                true
            }
        }
    }
}

/// Verifies a request as `own_hotkey`, in the order of the SDK: form, receiver, time, signature,
/// replay.
///
/// # Errors
/// The first check that fails.
pub fn verify(
    request: &Incoming<'_>,
    own_hotkey: &str,
    require_receiver: bool,
    now_ns: i128,
    replays: &Replays,
) -> Result<Caller, AuthError> {
    use AuthError as E;
    let header = |name| (request.header)(name);
    if header("x-bittensor-version") != Some("1") {
        return Err(E::MalformedAuth);
    }
    let sender =
        header("x-bittensor-hotkey").filter(|text| !text.is_empty()).ok_or(E::MalformedAuth)?;
    let nonce = header("x-bittensor-nonce").and_then(python_int).ok_or(E::MalformedAuth)?;
    let scheme = match header("x-bittensor-crypto") {
        None => "sr25519",
        Some(text) => scheme(text).ok_or(E::MalformedAuth)?,
    };
    let signature = header("x-bittensor-signature").and_then(python_hex).ok_or(E::MalformedAuth)?;

    let receiver = header("x-bittensor-receiver");
    match receiver {
        Some(receiver) if receiver != own_hotkey => return Err(E::WrongReceiver),
        None if require_receiver => return Err(E::WrongReceiver),
        _ => {}
    }
    if now_ns - nonce > MAX_AGE_NS || nonce - now_ns > ALLOWED_SKEW_NS {
        return Err(E::StaleRequest);
    }
    let key = ss58::decode(sender).map_err(|_| E::MalformedAuth)?;
    let signature: [u8; 64] = signature.try_into().map_err(|_| E::MalformedAuth)?;
    let text = payload(&Payload {
        scheme,
        method: request.method,
        target: request.target,
        body_sha256: &hex::encode(Sha256::digest(request.body)),
        nonce,
        sender,
        receiver,
    });
    let valid = match scheme {
        "ed25519" => verify_ed25519(&key, text.as_bytes(), &signature),
        _ => verify_key(&key, text.as_bytes(), &signature),
    };
    if !valid {
        return Err(E::BadSignature);
    }
    let caller = Caller { hotkey: sender.to_owned(), nonce };
    if !replays.is_new(&caller, now_ns) {
        return Err(E::ReplayedRequest);
    }
    Ok(caller)
}

/// The scheme of a name, or of its number.
fn scheme(text: &str) -> Option<&'static str> {
    let text = text.trim().to_lowercase();
    let code = if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None };
    match (text.as_str(), code) {
        ("sr25519", _) | (_, Some(1)) => Some("sr25519"),
        ("ed25519", _) | (_, Some(0)) => Some("ed25519"),
        _ => None,
    }
}

/// What Python's `bytes.fromhex()` reads, after an optional `0x`: blanks between bytes are fine.
fn python_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let parts = digits.split([' ', '\t', '\n', '\r', '\u{b}', '\u{c}']);
    let bytes: Result<Vec<_>, _> = parts.map(hex::decode).collect();
    bytes.ok().map(|parts| parts.concat())
}

/// What Python's `int()` reads; beyond any time it is as good as the end of time.
fn python_int(text: &str) -> Option<i128> {
    let text = text.trim();
    let (negative, digits) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    let lone = |part: &str| part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit());
    if digits.split('_').any(lone) {
        return None;
    }
    // Times are subtracted from it: so far away that nothing overflows.
    let value = digits.replace('_', "").parse().unwrap_or(i128::MAX).min(i128::MAX / 4);
    Some(if negative { -value } else { value })
}

#[cfg(feature = "test-util")]
fn verify_ed25519(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    use ed25519_dalek::{Signature, VerifyingKey};
    VerifyingKey::from_bytes(key)
        .is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
}

/// We never sign with ed25519; only a validator for tests meets it.
#[cfg(not(feature = "test-util"))]
fn verify_ed25519(_: &[u8; 32], _: &[u8], _: &[u8; 64]) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::Hotkey;

    const NOW: u64 = 1_767_225_600_000_000_000;

    #[track_caller]
    fn check(
        change: impl FnOnce(&mut Vec<Header>, &mut Vec<u8>),
        now: i128,
        expect: Result<(), AuthError>,
    ) {
        let (sender, receiver) = (Hotkey::from_seed([1; 32]), Hotkey::from_seed([2; 32]));
        let body = Body::new(&b"{}"[..]);
        let mut headers = headers(&sender, receiver.address(), &body, NOW).unwrap();
        let mut bytes = body.bytes.to_vec();
        change(&mut headers, &mut bytes);
        let find =
            |name: &str| headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str());
        let request = Incoming { method: "POST", target: PATH, body: &bytes, header: &find };
        let verdict = verify(&request, receiver.address(), true, now, &Replays::default());
        assert_eq!(verdict.map(|_| ()), expect);
    }

    #[test]
    fn a_request_is_good_for_one_receiver_body_and_time() {
        let now = i128::from(NOW);
        check(|_, _| {}, now, Ok(()));
        check(|_, _| {}, now + MAX_AGE_NS, Ok(()));
        check(|_, _| {}, now - ALLOWED_SKEW_NS, Ok(()));
        check(|_, _| {}, now + MAX_AGE_NS + 1, Err(AuthError::StaleRequest));
        check(|_, _| {}, now - ALLOWED_SKEW_NS - 1, Err(AuthError::StaleRequest));
        check(|_, body| body.push(b' '), now, Err(AuthError::BadSignature));
        check(
            |h, _| h.retain(|(n, _)| *n != "x-bittensor-receiver"),
            now,
            Err(AuthError::WrongReceiver),
        );
        check(
            |h, _| h.retain(|(n, _)| *n != "x-bittensor-version"),
            now,
            Err(AuthError::MalformedAuth),
        );
    }

    #[test]
    fn nonces_are_read_as_python_does() {
        for (text, value) in [
            ("12", Some(12)),
            (" +1_000 ", Some(1000)),
            ("-5", Some(-5)),
            ("1__0", None),
            ("_1", None),
            ("1.0", None),
            ("0x1", None),
            ("", None),
        ] {
            assert_eq!(python_int(text), value, "{text:?}");
        }
        for endless in [i128::MAX.to_string(), "9".repeat(60)] {
            assert_eq!(python_int(&endless), Some(i128::MAX / 4));
            assert_eq!(python_int(&format!("-{endless}")), Some(-i128::MAX / 4));
        }
    }

    #[test]
    fn a_nonce_at_either_end_of_time_is_stale() {
        for nonce in [i128::MAX.to_string(), i128::MIN.to_string(), format!("-{}", i128::MAX)] {
            let set = |headers: &mut Vec<Header>| {
                let nonce = nonce.clone();
                headers
                    .iter_mut()
                    .filter(|(n, _)| *n == "x-bittensor-nonce")
                    .for_each(|(_, v)| v.clone_from(&nonce));
            };
            check(|headers, _| set(headers), i128::from(NOW), Err(AuthError::StaleRequest));
        }
    }

    #[test]
    fn signatures_and_schemes_are_read_as_the_sdk_does() {
        for (text, bytes) in [
            ("0xAb01", Some(vec![0xab, 1])),
            ("ab 01", Some(vec![0xab, 1])),
            ("0x ab01 ", Some(vec![0xab, 1])),
            ("", Some(vec![])),
            ("a b01", None),
            ("0Xab", None),
            ("abc", None),
        ] {
            assert_eq!(python_hex(text), bytes, "{text:?}");
        }
        for (text, name) in [
            (" SR25519 ", Some("sr25519")),
            ("1", Some("sr25519")),
            ("00", Some("ed25519")),
            ("+1", None),
            ("-0", None),
            ("2", None),
            ("", None),
        ] {
            assert_eq!(scheme(text), name, "{text:?}");
        }
    }

    #[test]
    fn a_second_time_is_a_replay_until_a_minute_has_passed() {
        let replays = Replays::default();
        let caller = Caller { hotkey: "a".to_owned(), nonce: 1 };
        assert!(replays.is_new(&caller, 0));
        assert!(!replays.is_new(&caller, REPLAY_NS));
        assert!(replays.is_new(&caller, REPLAY_NS + 1));
    }
}
