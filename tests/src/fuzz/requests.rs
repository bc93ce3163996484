//! Requests as a validator reads them, on both wires.
//!
//! The first byte chooses: the wire (1), whether the validator is strict (2), and whether the request
//! is properly signed by us (4); then only the body is of the input. Otherwise the input has header
//! lines `name: value`, an empty line, and the body.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use ptn_core::directory::Wire;
use ptn_core::json::Json;
use ptn_core::sign::{Hotkey, Signer as _};
use ptn_core::transport::{Header, OutboundOrder, btauth, nonce, synapse};
use ptn_core::validator::{RequestReader, ValidatorOptions};

/// See the module.
pub fn requests(data: &[u8]) {
    let Some((selector, rest)) = data.split_first() else { return };
    let wire = if selector & 1 == 0 { Wire::Btauth } else { Wire::Dendrite };
    let validator = &validators()[usize::from(selector & 2 != 0)];
    if selector & 4 == 0 {
        let (headers, body) = split(rest);
        judge(validator, wire, &headers, body);
        clock(&headers, body);
    } else {
        signed(validator, wire, rest);
    }
}

fn target(wire: Wire) -> &'static str {
    match wire {
        Wire::Btauth => btauth::PATH,
        Wire::Dendrite => synapse::PATH,
    }
}

/// A lenient one, and a strict one.
fn validators() -> &'static [RequestReader; 2] {
    static VALIDATORS: OnceLock<[RequestReader; 2]> = OnceLock::new();
    VALIDATORS.get_or_init(|| {
        [false, true].map(|strict| {
            let mut options = ValidatorOptions::default();
            options.hotkey = Hotkey::from_seed([2; 32]);
            options.strict = strict;
            RequestReader::new(options)
        })
    })
}

fn us() -> &'static Hotkey {
    static US: OnceLock<Hotkey> = OnceLock::new();
    US.get_or_init(|| Hotkey::from_seed([1; 32]))
}

/// Header lines up to an empty one, and the body.
fn split(bytes: &[u8]) -> (HeaderMap, &[u8]) {
    let mut headers = HeaderMap::new();
    let mut rest = bytes;
    while let Some(end) = rest.iter().position(|b| *b == b'\n') {
        let (line, behind) = (&rest[..end], &rest[end + 1..]);
        rest = behind;
        if line.is_empty() {
            break;
        }
        let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.insert(name, value);
        }
    }
    (headers, rest)
}

fn map(headers: &[Header]) -> HeaderMap {
    headers
        .iter()
        .map(|(name, value)| {
            (HeaderName::from_static(name), HeaderValue::try_from(value).expect("a header"))
        })
        .collect()
}

/// The validator answers in JSON, whatever came.
fn judge(
    validator: &RequestReader,
    wire: Wire,
    headers: &HeaderMap,
    body: &[u8],
) -> Option<String> {
    match validator.read(wire, target(wire), headers, body) {
        Ok(admitted) => {
            // It repeats numbers as they came, those that no double holds among them.
            let reply = Json::parse(admitted.reply.as_bytes())
                .unwrap_or_else(|e| panic!("{e}: {admitted:?}"));
            let text = |field: &str| reply.as_object().and_then(|o| o.get(field)?.as_str());
            assert_eq!(text("validator_hotkey"), Some(validator.hotkey()));
            assert_eq!(text("miner_order_uuid"), Some(admitted.uuid.as_str()));
            Some(admitted.uuid)
        }
        Err((status, body)) => {
            assert!((400..=500).contains(&status), "{status}: {body}");
            assert!(Json::parse(body.as_bytes()).is_ok(), "{body}");
            None
        }
    }
}

/// At any time of day, and at the ends of time.
fn clock(headers: &HeaderMap, body: &[u8]) {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    for now in [0, i128::from(i64::MAX), i128::from(u64::MAX)] {
        let post = btauth::Incoming { method: "post", target: btauth::PATH, body, header: &header };
        drop(btauth::verify(&post, us().hotkey(), false, now, &btauth::Replays::default()));
        let nonces = synapse::Nonces::default();
        drop(synapse::verify_headers(&post, us().hotkey(), true, now, &nonces));
    }
}

/// A request of ours, made without a socket.
#[derive(Debug)]
pub struct Signed {
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
}

/// An order as we send it to the validator with the seed of twos, on a wire.
///
/// # Panics
/// When it cannot be signed.
pub fn signed_request(order: &OutboundOrder, wire: Wire) -> Signed {
    let receiver = validators()[0].hotkey();
    match wire {
        Wire::Btauth => {
            let body = btauth::Body::of_order(order);
            let headers = btauth::headers(us(), receiver, &body, nonce::next()).expect("signed");
            Signed { headers: map(&headers), body: body.bytes.to_vec() }
        }
        Wire::Dendrite => {
            let tail = synapse::Tail::of_order(order).expect("sendable");
            let uuid = format!("u{}", nonce::next());
            let attempt = attempt(receiver, &uuid, tail.body_hash());
            let (headers, body) = synapse::request(us(), &tail, &attempt).expect("signed");
            Signed { headers: map(&headers), body: body.into_bytes() }
        }
    }
}

fn attempt<'a>(receiver: &'a str, uuid: &'a str, body_hash: &'a str) -> synapse::Attempt<'a> {
    synapse::Attempt {
        address: "127.0.0.1:8091".parse().expect("an address"),
        receiver,
        own_ip: None,
        nonce: nonce::next(),
        uuid,
        timeout_s: 12,
        body_hash,
    }
}

/// Whatever the body is, a good signature is taken once and no other time; and a changed body never.
fn signed(validator: &RequestReader, wire: Wire, body: &[u8]) {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let receiver = validator.hotkey();
    let headers = match wire {
        Wire::Btauth => {
            let body = btauth::Body::new(body.to_vec());
            map(&btauth::headers(us(), receiver, &body, nonce::next()).expect("signed"))
        }
        Wire::Dendrite => {
            let signal = Json::parse(body).ok();
            let signal = signal.as_ref().and_then(Json::as_object).and_then(|o| o.get("signal"));
            let nothing = Json::Object(ptn_core::json::Object::new());
            let hash = synapse::body_hash(signal.unwrap_or(&nothing));
            let uuid = format!("r{}", COUNT.fetch_add(1, Ordering::Relaxed));
            let attempt = attempt(receiver, &uuid, &hash);
            let sender = us().hotkey();
            let text = synapse::message(attempt.nonce, sender, receiver, &uuid, &hash);
            let signature = us().sign(text.as_bytes()).expect("signed");
            map(&[
                ("bt_header_dendrite_version", synapse::VERSION.to_string()),
                ("bt_header_dendrite_nonce", attempt.nonce.to_string()),
                ("bt_header_dendrite_hotkey", sender.to_owned()),
                ("bt_header_dendrite_uuid", uuid.clone()),
                ("bt_header_dendrite_signature", format!("0x{}", hex::encode(signature))),
                ("computed_body_hash", hash),
                ("timeout", "12.0".to_owned()),
            ])
        }
    };
    let read = |body: &[u8]| validator.read(wire, target(wire), &headers, body);
    let first = read(body);
    if let Err((status, _)) = &first {
        // Signed as it should be: only what it says can be wrong.
        assert!([400, 422].contains(status), "{first:?}");
    }
    let strict = std::ptr::eq(validator, &raw const validators()[1]);
    if strict {
        let again = read(body);
        assert!(matches!(&again, Err((401, _))), "a replay: {again:?}");
    }
}

/// Requests on both wires, signed for a time that has passed, for a first corpus.
///
/// # Panics
/// When one cannot be signed.
pub fn request_seeds() -> Vec<Vec<u8>> {
    let rules = super::rules(ptn_core::rules::Era::Y2026);
    let body = br#"{"trade_pair":"BTCUSDC","order_type":"LONG","value":1.5,"order_uuid":"u-1"}"#;
    let signal = ptn_core::signal::Signal::from_json(body, rules).expect("a signal");
    let order = OutboundOrder::new(&signal, "8.8.9");
    let mut seeds = Vec::new();
    for (wire, selector) in [(Wire::Btauth, 0), (Wire::Dendrite, 1)] {
        let Signed { headers, body } = signed_request(&order, wire);
        let mut text = Vec::new();
        for (name, value) in &headers {
            text.extend_from_slice(name.as_str().as_bytes());
            text.push(b':');
            text.extend_from_slice(value.as_bytes());
            text.push(b'\n');
        }
        text.push(b'\n');
        text.extend_from_slice(&body);
        for strict in [0, 2] {
            seeds.push([&[selector | strict], text.as_slice()].concat());
            seeds.push([&[selector | strict | 4], body.as_slice()].concat());
            seeds.push([&[selector | strict | 4], b"{}".as_slice()].concat());
            seeds.push([&[selector | strict | 4], b"{\"signal\":7}".as_slice()].concat());
        }
    }
    seeds
}
