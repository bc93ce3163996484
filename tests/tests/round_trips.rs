//! Round trips with random content: what was read, written or signed comes back as it was. What must
//! hold for any bytes at all is in the suite `corpus`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is how a test fails"
)]

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use ptn_core::directory::Wire;
use ptn_core::json::{Json, Object};
use ptn_core::record::{DeliveryReport, DeliveryState, Progress, SignalState, ValidatorRecord};
use ptn_core::rules::{Era, Rules};
use ptn_core::sign::{Hotkey, Signer as _, ss58, verify};
use ptn_core::signal::Signal;
use ptn_core::store::fs::{FsOptions, probe};
use ptn_core::store::{Accepted, FsStore, SignalStore as _};
use ptn_core::transport::{OutboundOrder, nonce, synapse};
use ptn_core::validator::{RequestReader, ValidatorOptions};
use ptn_core::wallet::{Key, Password, keyfile, password};
use ptn_tests::fuzz::{check_signal, signed_request};

fn rules(era: Era) -> Rules {
    Rules::load(era).unwrap()
}

/// Any JSON that may stand in an unknown field: other alphabets, quotes, odd numbers.
fn anything() -> impl Strategy<Value = Json> {
    let number = prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        (any::<i32>(), 0..300_i32).prop_map(|(m, e)| format!("{m}.{}e-{e}", m.unsigned_abs())),
        Just("1e-7".to_owned()),
        Just("0.10".to_owned()),
        Just("-0".to_owned()),
        Just("1E+5".to_owned()),
    ];
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        number.prop_map(Json::Number),
        any::<String>().prop_map(Json::String),
        "[a-z'\"\\\\\n\t é🚀]{0,12}".prop_map(Json::String),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Json::Array),
            vec(("[a-z']{1,6}", inner), 0..5)
                .prop_map(|members| Json::Object(members.into_iter().collect())),
        ]
    })
}

/// Fields that no rule set knows, under names that none has.
fn unknown() -> impl Strategy<Value = Vec<(String, Json)>> {
    vec(("x[a-z_'\" ]{0,8}", anything()), 0..4)
}

/// A good order of an era, with unknown fields beside it.
fn order(era: Era) -> impl Strategy<Value = String> {
    let (pair, size) = match era {
        Era::Y2024 => ("BTCUSD", prop_oneof![Just("0.10"), Just("1e-2"), Just("\"0.25\"")]),
        _ => ("BTCUSDC", prop_oneof![Just("0.10"), Just("1e-2"), Just("\"0.25\"")]),
    };
    let pair = match era {
        Era::Y2025 => "BTCUSD",
        _ => pair,
    };
    let word = prop_oneof![Just("LONG"), Just("SHORT")];
    (word, size, unknown(), "[A-Za-z0-9][A-Za-z0-9_.-]{0,40}").prop_map(
        move |(word, size, unknown, uuid)| {
            let mut text = format!(
                r#"{{"trade_pair":"{pair}","order_type":"{word}","leverage":{size},"order_uuid":"{uuid}""#
            );
            let rest: Object = unknown.into_iter().collect();
            for (key, value) in rest.iter() {
                text.push_str(&format!(",{}:{value}", Json::from(key)));
            }
            text + "}"
        },
    )
}

fn any_order() -> impl Strategy<Value = (Era, String)> {
    prop_oneof![
        order(Era::Y2024).prop_map(|text| (Era::Y2024, text)),
        order(Era::Y2025).prop_map(|text| (Era::Y2025, text)),
        order(Era::Y2026).prop_map(|text| (Era::Y2026, text)),
    ]
}

fn state() -> impl Strategy<Value = DeliveryState> {
    use DeliveryState::*;
    prop::sample::select(vec![Submitted, Accepted, Rejected, Denied, Expired, Cancelled, Unknown])
}

fn record() -> impl Strategy<Value = ValidatorRecord> {
    let numbers = (any::<u32>(), 0..100_u32, any::<i64>(), any::<Option<i64>>());
    let words = (any::<String>(), any::<String>(), "[a-z_]{0,12}", any::<String>());
    (numbers, words, state(), any::<bool>(), any::<Option<u64>>(), 0..=65_535_u32).prop_map(
        |((attempts, waits, at, next), (hotkey, message, code, order), state, flag, us, trust)| {
            let mut r = ValidatorRecord::new(&hotkey, "192.0.2.1:8091".to_owned(), flag, at);
            (r.attempts, r.waits, r.next_try_at, r.state) = (attempts, waits, next, state);
            (r.message, r.code, r.order_json) = (message, code, order);
            (r.maybe_sent, r.round_trip_us) = (!flag, us);
            r.v_trust = Some(f64::from(trust) / 65_535.0);
            r
        },
    )
}

fn progress() -> impl Strategy<Value = Progress> {
    prop_oneof![
        vec(record(), 0..4).prop_map(|validators| Progress::Targets { validators }),
        vec(any::<String>(), 0..4).prop_map(|hotkeys| Progress::Begin { hotkeys }),
        record().prop_map(|validator| Progress::Outcome { validator }),
    ]
}

/// The validator that `signed_request` signs for.
fn receiver() -> RequestReader {
    let mut options = ValidatorOptions::default();
    options.hotkey = Hotkey::from_seed([2; 32]);
    RequestReader::new(options)
}

fn target(wire: Wire) -> &'static str {
    if wire == Wire::Btauth { ptn_core::transport::btauth::PATH } else { synapse::PATH }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn an_order_of_any_era_comes_back_from_the_journal_the_folder_and_the_wire(
        (era, text) in any_order()
    ) {
        let rules = rules(era);
        let signal = Signal::from_json(text.as_bytes(), &rules);
        let signal = signal.unwrap_or_else(|e| panic!("{e}: {text}"));
        check_signal(&signal, &rules);
        // The same text is the same order; in a JSON string, as some tools write it, too.
        let twice = serde_json::to_string(&text).unwrap();
        let id = signal.id().as_str();
        let adopted = probe::foreign_file(id, twice.as_bytes(), &rules).unwrap();
        // A field that is null counts as not set there.
        if !text.contains("null") {
            prop_assert_eq!(adopted.digest(), signal.digest());
        }
    }

    #[test]
    fn json_of_any_kind_comes_back(value in anything()) {
        for text in [value.to_string(), value.to_python_json(), value.to_python_indented()] {
            prop_assert_eq!(Json::parse(text.as_bytes()), Ok(value.clone()));
        }
        // And is JSON to others.
        prop_assert!(serde_json::from_str::<serde_json::Value>(&value.to_string()).is_ok());
    }

    #[test]
    fn what_is_recorded_comes_back_from_its_line(progress in progress(), at in any::<i64>()) {
        let line = serde_json::json!({
            "kind": "progress", "id": "a", "at": at, "token": 7, "progress": progress,
        });
        let again = probe::journal_line(line.to_string().as_bytes()).unwrap();
        let again: serde_json::Value = serde_json::from_slice(&again).unwrap();
        let read: Progress = serde_json::from_value(again["progress"].clone()).unwrap();
        prop_assert_eq!(read, progress);
        prop_assert_eq!(&again["at"], &line["at"]);
    }

    #[test]
    fn a_report_comes_back_from_its_line(
        validators in vec(record(), 0..4),
        reason in any::<String>(),
        finished_at in any::<i64>(),
    ) {
        let report = DeliveryReport { state: SignalState::Failed, reason, validators, finished_at };
        let line = serde_json::json!({"kind": "finish", "id": "a", "report": report});
        let again = probe::journal_line(line.to_string().as_bytes()).unwrap();
        let again: serde_json::Value = serde_json::from_slice(&again).unwrap();
        let read: DeliveryReport = serde_json::from_value(again["report"].clone()).unwrap();
        prop_assert_eq!(read, report);
    }

    #[test]
    fn an_address_comes_back_as_its_key_and_no_other_text_does(
        key in any::<[u8; 32]>(), at in 0..48_usize, other in "[1-9A-HJ-NP-Za-km-z]",
    ) {
        let address = ss58::encode(&key);
        prop_assert_eq!(ss58::decode(&address), Ok(key));
        let mut changed = address.clone();
        let at = at.min(address.len() - 1);
        changed.replace_range(at..=at, &other);
        prop_assert_eq!(ss58::decode(&changed).is_ok(), changed == address, "{}", changed);
    }

    #[test]
    fn a_key_comes_back_from_its_file(seed in any::<[u8; 32]>()) {
        let key = Key::from_seed(seed);
        let again = keyfile::open(keyfile::to_json(&key).as_bytes(), None).unwrap();
        prop_assert_eq!((again.address(), again.seed()), (key.address(), Some(&seed)));
        let public = keyfile::to_public_json(&key.public_key());
        prop_assert_eq!(keyfile::address(public.as_bytes()).unwrap(), key.address());
        // And the hotkey's own file, by the reader of the library.
        let hotkey = Hotkey::from_seed(seed);
        let again = Hotkey::from_keyfile_json(hotkey.to_keyfile_json().as_bytes()).unwrap();
        prop_assert_eq!(again.address(), key.address());
        let message = b"message";
        let signature = again.sign(message).unwrap();
        prop_assert!(verify(key.address(), message, &signature));
    }

    #[test]
    fn a_hidden_password_comes_back(name in "[A-Z_]{1,20}", text in any::<String>()) {
        if let Some(given) = Password::new(text) {
            let hidden = password::to_variable(&name, &given);
            let found = password::from_variable(&name, &hidden).unwrap().unwrap();
            prop_assert!(found.same_as(&given));
        }
    }

    #[test]
    fn what_we_sign_a_validator_verifies_and_a_changed_byte_it_refuses(
        text in order(Era::Y2026), at in any::<prop::sample::Index>(), dendrite in any::<bool>(),
    ) {
        let wire = if dendrite { Wire::Dendrite } else { Wire::Btauth };
        let signal = Signal::from_json(text.as_bytes(), &rules(Era::Y2026)).unwrap();
        let order = OutboundOrder::new(&signal, "8.8.9");
        // What Pythons disagree about is not for the dendrite wire; the transport says so.
        prop_assume!(!dendrite || synapse::Tail::of_order(&order).is_ok());
        let request = signed_request(&order, wire);
        let validator = receiver();
        let admitted = validator.read(wire, target(wire), &request.headers, &request.body);
        let admitted = admitted.unwrap_or_else(|(status, why)| panic!("{status} {why}: {text}"));
        prop_assert_eq!(&admitted.uuid, &order.order_uuid);
        let us = Hotkey::from_seed([1; 32]);
        prop_assert_eq!(admitted.sender.as_str(), us.hotkey());

        // The same again is a replay.
        let again = validator.read(wire, target(wire), &request.headers, &request.body);
        prop_assert!(matches!(again, Err((401, _))), "{:?}", again);

        // Btauth signs every byte. Dendrites sign the signal by way of Python's text of it, so there
        // a digit of it is changed.
        let mut body = request.body.clone();
        let at = if dendrite {
            let text = String::from_utf8_lossy(&body).into_owned();
            text.find("\"leverage\":").unwrap() + "\"leverage\":".len()
        } else {
            at.index(body.len())
        };
        body[at] = if body[at] == b'9' { b'8' } else { b'9' };
        let fresh = receiver();
        let refused = fresh.read(wire, target(wire), &request.headers, &body);
        let status = refused.as_ref().err().map(|(status, _)| *status);
        let wanted = if dendrite { [500, 422] } else { [401, 401] };
        prop_assert!(status.is_some_and(|s| wanted.contains(&s)), "{:?}", refused);
    }

    #[test]
    fn nonces_rise_whatever_else_happens(steps in vec(any::<bool>(), 1..50)) {
        let mut last = 0;
        for follow in steps {
            if follow {
                nonce::follow_clock();
            }
            let next = nonce::next();
            prop_assert!(next > last, "{} after {}", next, last);
            last = next;
        }
    }
}

proptest! {
    // Each case opens a store on disk, twice.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn orders_and_what_became_of_them_survive_a_restart(
        orders in vec(any_order(), 1..6), records in vec(record(), 1..4),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let options = FsOptions::new(Arc::new(rules(Era::Y2026)));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let mut signals = std::collections::BTreeMap::new();
        for (n, (era, text)) in orders.iter().enumerate() {
            let id = ptn_core::signal::OrderUuid::parse(&format!("order-{n}")).unwrap();
            let signal = Signal::from_json(text.as_bytes(), &rules(*era)).unwrap().with_id(id);
            signals.insert(signal.id().as_str().to_owned(), signal);
        }
        // One record per validator.
        let records: std::collections::BTreeMap<_, _> =
            records.into_iter().map(|r| (r.hotkey.clone(), r)).collect();
        runtime.block_on(async {
            let store = FsStore::open_owner(dir.path(), options.clone()).unwrap();
            for signal in signals.values() {
                let accepted = store.accept(signal).await.unwrap();
                assert!(matches!(accepted, Accepted::New { .. }), "{accepted:?}");
            }
            for lease in store.claim(10).await.unwrap() {
                let validators = records.values().cloned().collect();
                store.record(&lease, Progress::Targets { validators }).await.unwrap();
            }
        });
        runtime.block_on(async {
            let store = FsStore::open(dir.path(), options.clone()).unwrap();
            for signal in signals.values() {
                let stored = store.get(signal.id()).await.unwrap().unwrap();
                assert_eq!(&stored.signal, signal);
                assert_eq!(stored.validators, records);
            }
        });
    }
}
