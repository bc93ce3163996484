//! The wire of bittensor 6 to 10: what a dendrite sends to an axon.
//!
//! Wire spec section 3. Both sides are here: building a request as the SDK's dendrite does, and
//! verifying one as an axon of 7.2 and later does. The body hash covers only `signal`, by way of
//! Python's text of it ([`super::python`]). Sockets are left to [`super::http`].

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use sha3::{Digest, Sha3_256};

use super::btauth::{Caller, Incoming, message_fields};
use super::python::{python_str, sendable};
use super::{Header, OutboundOrder};
use crate::json::Json;
use crate::sign::{SignError, Signer, verify};

/// Where signals are posted; an axon has no route with a slash at the end.
pub const PATH: &str = "/SendSignal";
/// 10.2.0, as the SDK writes versions. It selects the nonce rules of 7.2 and later.
pub const VERSION: u64 = 10_002_000;
/// From this version on the nonce is the time.
const TIMED_NONCES: u64 = 7_002_000;
/// An axon accepts the first nonce of a sender this long after it was made, plus the timeout.
const NONCE_WINDOW_NS: i128 = 4_000_000_000;
/// The body hash of axons before June 2024, which hash no field at all.
pub const NO_FIELDS_HASH: &str = "a7ffc6f8bf1ed76651c14756a061d662f580ff4de43b49fa82d80a4b80f8434a";

/// `computed_body_hash` of a signal.
pub fn body_hash(signal: &Json) -> String {
    let field = hex::encode(Sha3_256::digest(python_str(signal)));
    hex::encode(Sha3_256::digest(field))
}

/// The part of a body that is the same for every validator and attempt, and its hash.
#[derive(Debug, Clone)]
pub struct Tail {
    text: String,
    body_hash: String,
}

impl Tail {
    /// Of an order.
    ///
    /// # Errors
    /// When validators would arrive at different hashes; says which value is in the way.
    pub fn of_order(order: &OutboundOrder) -> Result<Self, String> {
        sendable(&order.signal)?;
        let mut text = format!(",\"computed_body_hash\":\"\",\"signal\":{}", order.signal);
        text.push_str(&message_fields(order));
        text.push('}');
        Ok(Self { text, body_hash: body_hash(&order.signal) })
    }

    /// The hash over `signal`.
    pub fn body_hash(&self) -> &str {
        &self.body_hash
    }
}

/// What differs between two attempts.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// The validator's address on the chain.
    pub address: SocketAddr,
    /// The validator's hotkey.
    pub receiver: &'a str,
    /// Our own public address, if it is known; axons put the peer's address in its place.
    pub own_ip: Option<IpAddr>,
    /// Unix time in nanoseconds.
    pub nonce: u64,
    /// Fresh for every request, or two requests under way could overtake each other and one be
    /// refused.
    pub uuid: &'a str,
    /// How long we wait, in seconds; widens the time for which the nonce is good.
    pub timeout_s: u64,
    /// `computed_body_hash`.
    pub body_hash: &'a str,
}

/// The text that is signed.
pub fn message(nonce: u64, sender: &str, receiver: &str, uuid: &str, body_hash: &str) -> String {
    format!("{nonce}.{sender}.{receiver}.{uuid}.{body_hash}")
}

/// Headers and body of one attempt, signed now.
///
/// # Errors
/// When the signer has no key at hand.
pub fn request(
    signer: &dyn Signer,
    tail: &Tail,
    a: &Attempt<'_>,
) -> Result<(Vec<Header>, String), SignError> {
    let sender = signer.hotkey();
    let text = message(a.nonce, sender, a.receiver, a.uuid, a.body_hash);
    let signature = super::hex_signature(&signer.sign(text.as_bytes())?);
    let (ip, port) = (a.address.ip(), a.address.port());
    let own_ip = a.own_ip.map_or_else(|| "null".to_owned(), |ip| format!("\"{ip}\""));
    let receiver = Json::from(a.receiver);
    // The validator's handler knows the sender from the body only, not from the headers.
    let mut body = format!(
        "{{\"name\":\"SendSignal\",\"timeout\":{}.0,\"total_size\":0,\"header_size\":0,\
         \"dendrite\":{{\"status_code\":null,\"status_message\":null,\"process_time\":null,\
         \"ip\":{own_ip},\"port\":null,\"version\":{VERSION},\"nonce\":{},\"uuid\":\"{}\",\
         \"hotkey\":\"{sender}\",\"signature\":\"{signature}\"}},\
         \"axon\":{{\"status_code\":null,\"status_message\":null,\"process_time\":null,\
         \"ip\":\"{ip}\",\"port\":{port},\"version\":null,\"nonce\":null,\"uuid\":null,\
         \"hotkey\":{receiver},\"signature\":null}}",
        a.timeout_s, a.nonce, a.uuid,
    );
    body.push_str(&tail.text);
    let mut headers = Vec::with_capacity(16);
    headers.push(("name", "SendSignal".to_owned()));
    headers.push(("timeout", format!("{}.0", a.timeout_s)));
    headers.push(("bt_header_axon_ip", ip.to_string()));
    headers.push(("bt_header_axon_port", port.to_string()));
    headers.push(("bt_header_axon_hotkey", a.receiver.to_owned()));
    if let Some(own_ip) = a.own_ip {
        headers.push(("bt_header_dendrite_ip", own_ip.to_string()));
    }
    headers.push(("bt_header_dendrite_version", VERSION.to_string()));
    headers.push(("bt_header_dendrite_nonce", a.nonce.to_string()));
    headers.push(("bt_header_dendrite_uuid", a.uuid.to_owned()));
    headers.push(("bt_header_dendrite_hotkey", sender.to_owned()));
    headers.push(("bt_header_dendrite_signature", signature));
    // Sizes of Python objects in the SDK; axons do not look at them.
    headers.push(("header_size", "0".to_owned()));
    headers.push(("total_size", body.len().to_string()));
    headers.push(("computed_body_hash", a.body_hash.to_owned()));
    Ok((headers, body))
}

/// Why an axon refuses a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AxonError {
    /// Sender, time or signature: 401.
    #[error("Not Verified with error: {0}")]
    NotVerified(String),
    /// A header that cannot be read: 400, and 500 for the timeout.
    #[error("Could not parse headers: {0}")]
    BadHeader(&'static str),
    /// The signal is not the one whose hash was signed: 500, and no reason is given.
    #[error("Internal Server Error #{0}")]
    BodyHash(String),
}

impl AxonError {
    /// The HTTP status it is answered with.
    pub const fn status(&self) -> u16 {
        match self {
            Self::NotVerified(_) => 401,
            Self::BadHeader(_) => 400,
            Self::BodyHash(_) => 500,
        }
    }
}

/// The last nonce of every (sender, uuid).
#[derive(Debug, Default)]
pub struct Nonces(Mutex<HashMap<String, i128>>);

/// More are not kept: senders use a fresh uuid per request, and an axon never forgets.
const MAX_NONCES: usize = 100_000;

/// Verifies the headers of a request as `own_hotkey`, as an axon of 7.2 and later does. `strict`
/// also refuses a request without any signature, which 9.12 and 10.2 let pass.
///
/// # Errors
/// The first check that fails.
pub fn verify_headers(
    request: &Incoming<'_>,
    own_hotkey: &str,
    strict: bool,
    now_ns: i128,
    nonces: &Nonces,
) -> Result<Caller, AxonError> {
    let header = |name| (request.header)(name);
    let refuse = |text: &str| Err(AxonError::NotVerified(text.to_owned()));
    let version: u64 = match header("bt_header_dendrite_version") {
        Some(text) => text.parse().map_err(|_| AxonError::BadHeader("dendrite version"))?,
        None => 0,
    };
    let timeout: f64 = match header("timeout") {
        Some(text) => text.parse().map_err(|_| AxonError::BadHeader("timeout"))?,
        None => 0.0,
    };
    let nonce: i128 = match header("bt_header_dendrite_nonce") {
        Some(text) => text.parse().map_err(|_| AxonError::BadHeader("dendrite nonce"))?,
        None => return refuse("Missing Nonce"),
    };
    let sender = header("bt_header_dendrite_hotkey").unwrap_or_default();
    let uuid = header("bt_header_dendrite_uuid").unwrap_or_default();
    let hash = header("computed_body_hash").unwrap_or_default();
    let key = format!("{sender}:{uuid}");
    let last = nonces.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
    match last {
        Some(last) if nonce <= last => {
            return refuse("Nonce is too old, a newer one was last processed");
        }
        None if version >= TIMED_NONCES && nonce <= now_ns - NONCE_WINDOW_NS - seconds(timeout) => {
            return refuse("Nonce is too old");
        }
        _ => {}
    }
    match header("bt_header_dendrite_signature") {
        Some(signature) => {
            let text = format!("{nonce}.{sender}.{own_hotkey}.{uuid}.{hash}");
            let bytes = signature.strip_prefix("0x").and_then(|digits| hex::decode(digits).ok());
            if !bytes.is_some_and(|bytes| verify(sender, text.as_bytes(), &bytes)) {
                return refuse(&format!("Signature mismatch with {text} and {signature}"));
            }
        }
        None if strict => return refuse("Signature is missing"),
        None => {}
    }
    let mut nonces = nonces.0.lock().unwrap_or_else(PoisonError::into_inner);
    if nonces.len() >= MAX_NONCES {
        nonces.clear();
    }
    nonces.insert(key, nonce);
    Ok(Caller { hotkey: sender.to_owned(), nonce })
}

/// Compares the hash in the header with the body that came, as an axon does after
/// [`verify_headers`]. `hashed` is false for axons before June 2024.
///
/// # Errors
/// When they differ.
pub fn verify_body(
    request: &Incoming<'_>,
    signal: Option<&Json>,
    hashed: bool,
) -> Result<(), AxonError> {
    let expected = match signal {
        _ if !hashed => NO_FIELDS_HASH.to_owned(),
        Some(signal) => body_hash(signal),
        None => body_hash(&Json::Object(crate::json::Object::new())),
    };
    if (request.header)("computed_body_hash") == Some(expected.as_str()) {
        return Ok(());
    }
    Err(AxonError::BodyHash(uuid::Uuid::new_v4().to_string()))
}

/// Seconds of a header in nanoseconds; nothing for what is no time.
fn seconds(s: f64) -> i128 {
    if s.is_finite() && s > 0.0 {
        // Saturates, and the fraction of a nanosecond does not matter.
        #[allow(clippy::cast_possible_truncation, reason = "float casts saturate")]
        return (s * 1e9) as i128;
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::Hotkey;

    const NOW: u64 = 1_767_225_600_000_000_000;

    #[track_caller]
    fn check(change: impl FnOnce(&mut Vec<Header>), now: i128, strict: bool, expect: Option<&str>) {
        let (sender, receiver) = (Hotkey::from_seed([1; 32]), Hotkey::from_seed([2; 32]));
        let signal = Json::parse(br#"{"a":1e-7}"#).unwrap();
        let hash = body_hash(&signal);
        let tail = Tail { text: "}".to_owned(), body_hash: hash.clone() };
        let attempt = Attempt {
            address: "127.0.0.1:1".parse().unwrap(),
            receiver: receiver.address(),
            own_ip: None,
            nonce: NOW,
            uuid: "u",
            timeout_s: 12,
            body_hash: &hash,
        };
        let (mut headers, _) = request(&sender, &tail, &attempt).unwrap();
        change(&mut headers);
        let find =
            |name: &str| headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str());
        let incoming = Incoming { method: "POST", target: PATH, body: b"", header: &find };
        let verdict =
            verify_headers(&incoming, receiver.address(), strict, now, &Nonces::default())
                .and_then(|_| verify_body(&incoming, Some(&signal), true));
        match expect {
            None => assert_eq!(verdict, Ok(())),
            Some(text) => {
                let error = verdict.unwrap_err().to_string();
                assert!(error.contains(text), "{error}");
            }
        }
    }

    fn set(headers: &mut Vec<Header>, name: &str, value: &str) {
        headers.iter_mut().filter(|(n, _)| *n == name).for_each(|(_, v)| value.clone_into(v));
    }

    #[test]
    fn an_axon_checks_time_sender_and_body() {
        let now = i128::from(NOW);
        check(|_| {}, now, true, None);
        check(|_| {}, now + 15_999_999_999, true, None);
        check(|_| {}, now + 16_000_000_000, true, Some("too old"));
        check(|_| {}, now - 3_600_000_000_000, true, None);
        check(|h| set(h, "timeout", "0"), now + 4_000_000_000, true, Some("too old"));
        check(|h| set(h, "bt_header_dendrite_version", "693"), now * 2, true, None);
        check(|h| set(h, "bt_header_dendrite_nonce", "1"), now, true, Some("too old"));
        check(|h| set(h, "bt_header_dendrite_uuid", "v"), now, true, Some("Signature mismatch"));
        check(|h| set(h, "computed_body_hash", "00"), now, true, Some("Signature mismatch"));
        check(|h| set(h, "timeout", "soon"), now, true, Some("parse headers"));
        let unsigned = |h: &mut Vec<Header>| h.retain(|(n, _)| !n.ends_with("signature"));
        check(unsigned, now, true, Some("missing"));
        check(unsigned, now, false, None);
    }

    #[test]
    fn hashes_are_those_of_the_sdk() {
        // Wire spec section 3.8, and 3.3 for axons that hash nothing.
        let signal = br#"{"a":0.0001,"b":0.00001,"c":1e-7,"d":1E-07,"e":0.00012345}"#;
        assert_eq!(
            body_hash(&Json::parse(signal).unwrap()),
            "a97f4a3b019c5466311477e662af2fbf08873792d7d1ad14faae1f35b17bd16a"
        );
        assert_eq!(hex::encode(Sha3_256::digest("")), NO_FIELDS_HASH);
    }
}
