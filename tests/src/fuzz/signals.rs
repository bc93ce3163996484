//! Signal bodies of every era. The first byte chooses the era; the rest is the body.

use ptn_core::directory::Wire;
use ptn_core::json::{Json, Object};
use ptn_core::record::legacy;
use ptn_core::rules::Rules;
use ptn_core::signal::{Number, OrderUuid, Signal};
use ptn_core::store::fs::probe;
use ptn_core::transport::{OutboundOrder, btauth, python, synapse};

use super::{ERAS, readable, rules};

/// See the module.
pub fn signals(data: &[u8]) {
    let Some((selector, body)) = data.split_first() else { return };
    let rules = rules(ERAS[usize::from(*selector) % ERAS.len()]);
    json(body);
    words(body);
    match Signal::from_json(body, rules) {
        Ok(signal) => check_signal(&signal, rules),
        Err(error) => {
            readable(&error);
            // As the Python servers said it, which may quote anything.
            assert!(error.legacy_text(rules.era).len() <= 2 * body.len() + 1024);
        }
    }
    // What the journal holds is read without being judged again.
    if let Ok(text) = std::str::from_utf8(body)
        && let Ok(stored) = Signal::from_stored(text)
    {
        assert_eq!(Signal::from_stored(&stored.to_stored()).as_ref(), Ok(&stored));
    }
}

/// JSON comes back as it was, in every way in which it is written.
fn json(body: &[u8]) {
    match Json::parse(body) {
        Ok(value) => {
            for text in [value.to_string(), value.to_python_json(), value.to_python_indented()] {
                assert_eq!(Json::parse(text.as_bytes()).as_ref(), Ok(&value), "{text}");
            }
            let python = python::python_str(&value);
            assert!(python.len() <= 8 * body.len() + 16, "{} of {}", python.len(), body.len());
        }
        Err(error) => {
            readable(&error);
            assert!(error.at <= body.len(), "byte {} of {}", error.at, body.len());
        }
    }
}

/// Single words: ids and numbers.
fn words(body: &[u8]) {
    let Ok(text) = std::str::from_utf8(body) else { return };
    match OrderUuid::parse(text) {
        Ok(id) => {
            // It becomes a file name.
            assert_eq!(id.as_str(), text);
            assert!(!text.is_empty() && text.len() <= 128 && !text.starts_with('.'), "{text:?}");
            assert!(!text.contains(['/', '\\', '\0']) && text.is_ascii(), "{text:?}");
        }
        Err(error) => readable(&error),
    }
    if let Ok(number) = Number::parse(text) {
        assert_eq!(Number::parse(number.as_str()).as_ref(), Ok(&number), "{text:?}");
        assert!(number.negative().is_negative() && !number.abs().is_negative(), "{text:?}");
        assert_eq!(number.negative().abs(), number.abs(), "{text:?}");
    }
}

/// What must hold for every signal that was accepted.
///
/// # Panics
/// When it does not.
pub fn check_signal(signal: &Signal, rules: &Rules) {
    let stored = signal.to_stored();
    assert_eq!(Signal::from_stored(&stored).as_ref(), Ok(signal), "{stored}");

    // Our own file, left behind by a crash, must read as the same signal.
    let file = legacy::received_text(signal);
    let again = probe::foreign_file(signal.id().as_str(), file.as_bytes(), rules)
        .unwrap_or_else(|why| panic!("{why}: {file}"));
    // In a file null means "not set", as the Python tools write it.
    let set = |o: &Object| o.iter().filter(|(_, v)| **v != Json::Null).count();
    if set(signal.body()) == signal.body().len() {
        assert_eq!(again.body(), signal.body(), "{file}");
        assert_eq!(again.digest(), signal.digest(), "{file}");
    } else {
        assert_eq!(again.body().len(), set(signal.body()), "{file}");
    }

    // What leaves is JSON that any reader takes, and its hash is that of what leaves.
    let order = OutboundOrder::new(signal, "8.8.9");
    let body = btauth::Body::of_order(&order);
    let message: serde_json::Value = serde_json::from_slice(&body.bytes)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&body.bytes)));
    assert_eq!(message["miner_order_uuid"], signal.order_uuid());
    if let Ok(tail) = synapse::Tail::of_order(&order) {
        let sent = Json::parse(signal.to_wire().to_string().as_bytes()).expect("our own JSON");
        assert_eq!(tail.body_hash(), synapse::body_hash(&sent), "{sent}");
    }
    let requests = super::signed_request(&order, Wire::Btauth);
    assert_eq!(requests.body, body.bytes);
    assert!(Json::parse(signal.normalised().to_string().as_bytes()).is_ok());
}
