//! The golden vectors of both wires: every case of every file, whatever cases it has.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is how a test fails"
)]

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ptn_core::json::Json;
use ptn_core::rules::{Era, Rules};
use ptn_core::sign::{Hotkey, SignError, Signer, ss58, verify, verify_key};
use ptn_core::signal::Signal;
use ptn_core::transport::OutboundOrder;
use ptn_core::transport::btauth::{self, AuthError, Body, Incoming, Payload, Replays};
use ptn_core::transport::python::python_str;
use ptn_core::transport::synapse::{self, Attempt, Nonces, Tail};
use ptn_tests::vectors::file;
use serde_json::Value;

/// The cases under `key`; there must be some, or a broken file would pass.
fn cases<'a>(of: &'a Value, key: &str) -> &'a [Value] {
    let list = of[key].as_array().unwrap_or_else(|| panic!("no list {key}"));
    assert!(!list.is_empty(), "no cases under {key}");
    list
}

fn text<'a>(case: &'a Value, key: &str) -> &'a str {
    case[key].as_str().unwrap_or_else(|| panic!("no text {key} in {}", case["name"]))
}

fn bytes(hex_text: &str) -> Vec<u8> {
    hex::decode(hex_text.strip_prefix("0x").unwrap_or(hex_text)).expect("hex")
}

/// The signals of the captured bodies, in order: with their key order, which is hashed.
fn captured_signals() -> Vec<Json> {
    fn get<'a>(json: &'a Json, key: &str) -> &'a Json {
        json.as_object().and_then(|o| o.get(key)).unwrap_or_else(|| panic!("no {key}"))
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/legacy_signing.json");
    let file = Json::parse(&std::fs::read(path).expect("readable")).expect("JSON");
    let Json::Array(cases) = get(&file, "vectors") else { panic!("no list vectors") };
    cases.iter().map(|case| get(get(case, "real_dendrite_body"), "signal").clone()).collect()
}

fn integer(value: &Value) -> i128 {
    value.to_string().trim_matches('"').parse().expect("a whole number")
}

#[test]
fn ss58_vectors() {
    let all = file("ss58.json");
    for case in cases(&all, "valid") {
        let address = text(case, "ss58_prefix_42");
        let key: [u8; 32] = bytes(text(case, "public_key_hex")).try_into().expect("32 bytes");
        assert_eq!(ss58::encode(&key), address, "ss58.json: {address}");
        assert_eq!(ss58::decode(address), Ok(key), "ss58.json: {address}");
    }
    // Other tools decode some of these; on this network's wires each key has one spelling.
    for case in cases(&all, "decode_other") {
        let address = text(case, "address");
        assert!(ss58::decode(address).is_err(), "ss58.json: {address:?} must be refused");
    }
}

#[test]
fn legacy_body_hash_vectors() {
    let all = file("legacy_body_hash.json");
    assert_eq!(
        text(&all, "no_hash_fields_body_hash"),
        synapse::NO_FIELDS_HASH,
        "legacy_body_hash.json: no hash fields"
    );
    for case in cases(&all, "vectors") {
        let name = format!("legacy_body_hash.json: {}", case["name"]);
        let signal = text(case, "signal_json");
        let signal = match Json::parse(signal.as_bytes()) {
            Ok(signal) => signal,
            // Half a character, for one: a live axon cannot answer it either, so it may be refused.
            Err(e) => {
                let status = &case["live_axon_10_2_status"];
                assert_ne!(*status, 200, "{name}: {signal}: {e}");
                continue;
            }
        };
        assert_eq!(python_str(&signal), text(case, "python_str"), "{name}");
        assert_eq!(synapse::body_hash(&signal), text(case, "computed_body_hash"), "{name}");
        // What we send is our own text of it, which must have the same hash.
        let sent = Json::parse(signal.to_string().as_bytes()).expect("our own text");
        assert_eq!(synapse::body_hash(&sent), text(case, "computed_body_hash"), "{name}, as sent");
    }
}

#[test]
fn legacy_signing_vectors() {
    let all = file("legacy_signing.json");
    for (case, signal) in cases(&all, "vectors").iter().zip(captured_signals()) {
        let name = format!("legacy_signing.json: {}", case["name"]);
        let inputs = &case["inputs"];
        let nonce = u64::try_from(integer(&inputs["nonce"])).expect("a nonce");
        let sender = text(inputs, "dendrite_hotkey");
        let message = synapse::message(
            nonce,
            sender,
            text(inputs, "axon_hotkey"),
            text(inputs, "uuid"),
            text(inputs, "computed_body_hash"),
        );
        assert_eq!(message, text(case, "message_utf8"), "{name}");
        assert_eq!(message.as_bytes(), bytes(text(case, "message_hex")), "{name}");
        let key: [u8; 32] = bytes(text(case, "public_key_hex")).try_into().expect("32 bytes");
        assert_eq!(ss58::encode(&key), sender, "{name}");
        let signature = bytes(text(case, "signature_hex"));
        assert!(verify(sender, message.as_bytes(), &signature), "{name}: signature");
        for check in cases(case, "checks") {
            let valid = check["valid"].as_bool().expect("a verdict");
            let verdict = verify_key(
                &key,
                text(check, "message").as_bytes(),
                &bytes(text(check, "signature_hex")),
            );
            assert_eq!(verdict, valid, "{name}: {}", check["name"]);
        }
        same_request_as_the_real_dendrite(&name, case, &signal, nonce);
    }
}

/// Signs as the vector's sender by repeating its signature, since we do not have its key.
struct Replayed {
    hotkey: String,
    signature: [u8; 64],
}

impl Signer for Replayed {
    fn hotkey(&self) -> &str {
        &self.hotkey
    }

    fn sign(&self, _: &[u8]) -> Result<[u8; 64], SignError> {
        Ok(self.signature)
    }
}

/// Our request has the headers and the body of the captured one, except for the sizes of Python
/// objects, and with the fields that came later.
fn same_request_as_the_real_dendrite(name: &str, case: &Value, signal: &Json, nonce: u64) {
    let (real, body) = (&case["real_dendrite_headers"], &case["real_dendrite_body"]);
    let inputs = &case["inputs"];
    let signer = Replayed {
        hotkey: text(inputs, "dendrite_hotkey").to_owned(),
        signature: bytes(text(case, "signature_hex")).try_into().expect("64 bytes"),
    };
    let ip = text(real, "bt_header_axon_ip");
    let port = text(real, "bt_header_axon_port");
    let address: SocketAddr = format!("{ip}:{port}").parse().expect("an address");
    let order = order_of(body, signal);
    let tail = Tail::of_order(&order).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(tail.body_hash(), text(inputs, "computed_body_hash"), "{name}: body hash");
    let timeout: f64 = text(real, "timeout").parse().expect("seconds");
    let attempt = Attempt {
        address,
        receiver: text(inputs, "axon_hotkey"),
        own_ip: Some(text(real, "bt_header_dendrite_ip").parse().expect("an ip")),
        nonce,
        uuid: text(inputs, "uuid"),
        timeout_s: Duration::from_secs_f64(timeout).as_secs(),
        body_hash: tail.body_hash(),
    };
    let (headers, sent) = synapse::request(&signer, &tail, &attempt).expect("signed");

    let real = real.as_object().expect("headers");
    let names: Vec<&str> = headers.iter().map(|(n, _)| *n).collect();
    for (header, value) in real {
        assert!(names.contains(&header.as_str()), "{name}: header {header} is missing");
        let ours = headers.iter().find(|(n, _)| n == header).map(|(_, v)| v.as_str());
        if !header.ends_with("_size") {
            assert_eq!(ours, value.as_str(), "{name}: header {header}");
        }
    }
    assert_eq!(names.len(), real.len(), "{name}: more headers than the real dendrite: {names:?}");

    let sent: Value = serde_json::from_str(&sent).expect("JSON");
    for (field, value) in body.as_object().expect("a body") {
        if !field.ends_with("_size") {
            assert_eq!(&sent[field], value, "{name}: body field {field}");
        }
    }
}

fn order_of(body: &Value, signal: &Json) -> OutboundOrder {
    let rules = Rules::load(Era::Y2024).expect("rules");
    let any = Signal::flat("BTCUSD").build(&rules).expect("a signal");
    let mut order = OutboundOrder::new(&any, text(body, "repo_version"));
    order.signal = signal.clone();
    order.order_uuid = text(body, "miner_order_uuid").to_owned();
    order
}

#[test]
fn btauth_vectors() {
    let all = file("btauth.json");
    assert_eq!(integer(&all["max_age_s"]) * 1_000_000_000, btauth::MAX_AGE_NS);
    assert_eq!(integer(&all["allowed_skew_s"]) * 1_000_000_000, btauth::ALLOWED_SKEW_NS);
    for case in cases(&all, "vectors") {
        let name = format!("btauth.json: {}", case["name"]);
        let body = Body::new(bytes(text(case, "body_hex")));
        assert_eq!(body.sha256, text(case, "body_sha256"), "{name}");
        let payload = btauth::payload(&Payload {
            scheme: text(case, "scheme"),
            method: text(case, "method"),
            target: text(case, "path"),
            body_sha256: &body.sha256,
            nonce: integer(&case["nonce_ns"]),
            sender: text(case, "sender_ss58"),
            receiver: case["receiver_ss58"].as_str(),
        });
        assert_eq!(payload, text(case, "payload_utf8"), "{name}");
        assert_eq!(payload.as_bytes(), bytes(text(case, "payload_hex")), "{name}");
        let key: [u8; 32] = bytes(text(case, "public_key_hex")).try_into().expect("32 bytes");
        assert_eq!(ss58::encode(&key), text(case, "sender_ss58"), "{name}");
        if text(case, "scheme") == "sr25519" {
            let signature = bytes(text(case, "signature_hex"));
            assert!(verify_key(&key, payload.as_bytes(), &signature), "{name}: signature");
        }
        for request in cases(case, "requests") {
            check_btauth_request(&name, request);
        }
    }
}

fn check_btauth_request(name: &str, request: &Value) {
    let headers = request["headers"].as_object().expect("headers");
    let header = |wanted: &str| {
        headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(wanted)).and_then(|(_, v)| v.as_str())
    };
    let body = bytes(text(request, "body_hex"));
    let incoming = Incoming {
        method: text(request, "method"),
        target: text(request, "path"),
        body: &body,
        header: &header,
    };
    let require_receiver = request["require_receiver"].as_bool().unwrap_or(true);
    let (own, now) = (text(request, "self_hotkey_ss58"), integer(&request["now_ns"]));
    // The verdicts were given with a fresh store of nonces each.
    let replays = Replays::default();
    let verdict = btauth::verify(&incoming, own, require_receiver, now, &replays);
    let word = match &verdict {
        Ok(_) => "ok",
        Err(error) => error.name(),
    };
    assert_eq!(word, text(request, "expect"), "{name}: {}", request["name"]);
    if verdict.is_ok() {
        let again = btauth::verify(&incoming, own, require_receiver, now, &replays);
        assert_eq!(again, Err(AuthError::ReplayedRequest), "{name}: {}, again", request["name"]);
    }
}

/// What we sign ourselves is accepted by the verifying side, which the vectors above have proved.
#[test]
fn our_own_requests_pass_what_the_vectors_prove() {
    let (sender, receiver) = (Hotkey::generate(), Hotkey::generate());
    let all = file("legacy_signing.json");
    for (case, signal) in cases(&all, "vectors").iter().zip(captured_signals()) {
        let order = order_of(&case["real_dendrite_body"], &signal);
        let tail = Tail::of_order(&order).expect("sendable");
        let nonce = u64::try_from(integer(&case["inputs"]["nonce"])).expect("a nonce");
        let attempt = Attempt {
            address: SocketAddr::from(([203, 0, 113, 9], 8091)),
            receiver: receiver.address(),
            own_ip: None,
            nonce,
            uuid: "u",
            timeout_s: 12,
            body_hash: tail.body_hash(),
        };
        let (headers, body) = synapse::request(&sender, &tail, &attempt).expect("signed");
        let header =
            |wanted: &str| headers.iter().find(|(n, _)| *n == wanted).map(|(_, v)| v.as_str());
        let incoming = Incoming {
            method: "POST",
            target: synapse::PATH,
            body: body.as_bytes(),
            header: &header,
        };
        let caller = synapse::verify_headers(
            &incoming,
            receiver.address(),
            true,
            nonce.into(),
            &Nonces::default(),
        )
        .expect("verified");
        assert_eq!(caller.hotkey, sender.address());
        let parsed = Json::parse(body.as_bytes()).expect("JSON");
        let signal = parsed.as_object().and_then(|o| o.get("signal"));
        synapse::verify_body(&incoming, signal, true).expect("the hash fits");
    }
}
