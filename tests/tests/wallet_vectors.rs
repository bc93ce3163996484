//! The golden vectors of wallets: every case of every file, whatever cases it has.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is how a test fails"
)]

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ptn_core::sign::{Hotkey, Signer as _, verify};
use ptn_core::wallet::password::{from_variable, to_variable, variable_name};
use ptn_core::wallet::{Key, KeyfileError, Password, keyfile};
use ptn_tests::vectors::{Failures, file};
use serde_json::Value;
use sp_core::crypto::Pair as _;
use sp_core::sr25519;

/// The cases under `key`; there must be some, or a broken file would pass.
fn cases<'a>(of: &'a Value, key: &str) -> &'a [Value] {
    let list = of[key].as_array().unwrap_or_else(|| panic!("no list {key}"));
    assert!(!list.is_empty(), "no cases under {key}");
    list
}

fn text<'a>(case: &'a Value, key: &str) -> &'a str {
    case[key].as_str().unwrap_or_else(|| panic!("no text {key} in {case}"))
}

fn verdict(error: &KeyfileError) -> &'static str {
    match error {
        KeyfileError::PasswordNeeded { .. } => "password_needed",
        KeyfileError::WrongPassword { .. } => "wrong_password",
        KeyfileError::Corrupt { .. } => "corrupt",
        KeyfileError::PublicOnly { .. } => "public_only",
        KeyfileError::Unsupported { .. } => "unsupported",
        KeyfileError::Mismatch { .. } => "mismatch",
        other => panic!("{other}"),
    }
}

fn judge_keyfile(case: &Value) -> Result<(), String> {
    let bytes = BASE64_STANDARD.decode(text(case, "file_b64")).expect("base64");
    let password = case["password"].as_str().and_then(Password::new);
    let opened = keyfile::open(&bytes, password.as_ref());
    let (said, address) = match &opened {
        Ok(key) => ("ok", Some(key.address())),
        Err(e @ KeyfileError::PublicOnly { address }) => (verdict(e), Some(address.as_str())),
        Err(e) => (verdict(e), None),
    };
    let wanted = text(case, "client_verdict");
    if !wanted.split('|').any(|v| v == said) {
        return Err(format!("said {said}, expected {wanted}: {opened:?}"));
    }
    if let (Some(address), Some(wanted)) = (address, case["client_ss58"].as_str())
        && address != wanted
    {
        return Err(format!("is {address}, expected {wanted}"));
    }
    let Ok(key) = opened else { return Ok(()) };
    if let Some(public) = case["expect_public_key_hex"].as_str()
        && hex::encode(key.public_key()) != public
    {
        return Err(format!("another public key than {public}"));
    }
    if !verify(key.address(), b"order", &key.sign(b"order").expect("signed")) {
        return Err("its signature does not hold".to_owned());
    }
    // What we write of it is the same key, for us and for the light reader of hotkeys.
    let written = keyfile::to_json(&key);
    let again = keyfile::open(written.as_bytes(), None).map_err(|e| format!("written: {e}"))?;
    let light = Hotkey::from_keyfile_json(written.as_bytes()).map_err(|e| format!("light: {e}"))?;
    let public = keyfile::address(keyfile::to_public_json(&key.public_key()).as_bytes());
    for address in [again.address(), light.address(), &public.expect("a public file")] {
        if address != key.address() {
            return Err(format!("written as {address}"));
        }
    }
    match (again.phrase(), again.seed()) == (key.phrase(), key.seed()) {
        true => Ok(()),
        false => Err("phrase or seed were lost in writing".to_owned()),
    }
}

#[test]
fn keyfile_vectors() {
    let all = file("keyfiles.json");
    let mut failures = Failures::default();
    for case in cases(&all, "vectors") {
        failures.case("keyfiles.json", text(case, "name"), judge_keyfile(case));
    }
    failures.finish();
}

#[test]
fn the_light_reader_agrees_on_plain_keyfile_vectors() {
    let all = file("keyfiles.json");
    for case in cases(&all, "vectors") {
        let bytes = BASE64_STANDARD.decode(text(case, "file_b64")).expect("base64");
        let Ok(light) = Hotkey::from_keyfile_json(&bytes) else { continue };
        if let Ok(full) = keyfile::open(&bytes, None) {
            assert_eq!(light.address(), full.address(), "{}", case["name"]);
        }
    }
}

#[test]
fn keyfile_env_vectors() {
    let all = file("keyfile_env.json");
    for case in cases(&all, "names") {
        assert_eq!(variable_name(text(case, "path")), text(case, "env_name"));
    }
    for case in cases(&all, "values") {
        let (name, value) = (text(case, "env_name"), text(case, "env_value"));
        let password = Password::new(text(case, "password")).unwrap();
        assert!(from_variable(name, value).unwrap().unwrap().same_as(&password), "{name}");
        assert_eq!(to_variable(name, &password), value, "{name}");
    }
    for case in cases(&all, "invalid") {
        let (name, value) = (text(case, "env_name"), text(case, "env_value"));
        // An empty one is as good as none; the rest is no base64.
        let read = from_variable(name, value);
        assert!(
            if value.is_empty() { matches!(read, Ok(None)) } else { read.is_err() },
            "{name} {value}"
        );
    }
}

/// What `keys.json` says about a key, compared with ours and with sp-core's.
fn judge_key(case: &Value, key: &Key, theirs: &sr25519::Pair) {
    if let Some(address) = case["ss58"].as_str() {
        assert_eq!(key.address(), address, "keys.json: {case}");
    }
    for (field, found) in [
        ("public_key_hex", hex::encode(key.public_key())),
        ("mini_secret_seed_hex", key.seed().map(hex::encode).unwrap_or_default()),
        ("seed_hex", key.seed().map(hex::encode).unwrap_or_default()),
        ("secret_key_64_hex", hex::encode(theirs.to_raw_vec())),
    ] {
        if let Some(wanted) = case[field].as_str() {
            assert_eq!(found, wanted, "keys.json: {field} of {case}");
        }
    }
    // Both signers agree on the key, and each takes what the other signs.
    assert_eq!(theirs.public().0, key.public_key(), "keys.json: {case}");
    let ours: [u8; 64] = key.sign(b"order").expect("signed");
    let signature = sr25519::Signature::from_raw(ours);
    assert!(sr25519::Pair::verify(&signature, b"order", &theirs.public()), "{case}");
    assert!(verify(key.address(), b"order", &theirs.sign(b"order").0), "{case}");
}

#[test]
fn mnemonic_and_seed_vectors() {
    let all = file("keys.json");
    for case in cases(&all, "mnemonics") {
        let phrase = text(case, "mnemonic");
        let key = Key::from_phrase(phrase).unwrap();
        assert_eq!(key.phrase(), Some(phrase));
        judge_key(case, &key, &sr25519::Pair::from_phrase(phrase, None).unwrap().0);
    }
    for case in cases(&all, "seeds") {
        let seed = text(case, "seed_hex");
        let key = Key::from_seed_text(seed).unwrap();
        let theirs = sr25519::Pair::from_seed_slice(&hex::decode(seed).unwrap()).unwrap();
        judge_key(case, &key, &theirs);
    }
    for case in cases(&all, "mnemonic_edge_cases") {
        let key = Key::from_phrase(text(case, "mnemonic"));
        assert_eq!(key.is_ok(), case["accepted"] == true, "keys.json: {case}: {key:?}");
        match (key, case["ss58"].as_str()) {
            (Ok(key), Some(address)) => assert_eq!(key.address(), address, "keys.json: {case}"),
            (Ok(_), None) => {}
            (Err(e), _) => {
                // No word of it may be in a log.
                let told = e.to_string();
                assert!(!told.contains("motion") && !told.contains("zzzzz"), "{told}");
            }
        }
    }
}

#[test]
fn uri_vectors() {
    let all = file("keys.json");
    let everybody_knows = |uri: &str| uri.is_empty() || uri.starts_with('/');
    for case in cases(&all, "uris") {
        let uri = text(case, "uri");
        let theirs = sr25519::Pair::from_string(uri, None).unwrap();
        judge_key(case, &Key::from_test_uri(uri).unwrap(), &theirs);
        assert_eq!(Key::from_uri(uri).is_ok(), !everybody_knows(uri), "keys.json: {case}");
    }
    for case in cases(&all, "uri_edge_cases") {
        let uri = text(case, "uri");
        let key = Key::from_test_uri(uri);
        assert_eq!(key.is_ok(), case["accepted"] == true, "keys.json: {case}: {key:?}");
        if let (Ok(key), Some(address)) = (&key, case["ss58"].as_str()) {
            assert_eq!(key.address(), address, "keys.json: {case}");
        }
        // Outside of tests an empty phrase is refused, with words of its own.
        match Key::from_uri(uri) {
            Err(e) if everybody_knows(uri) => assert_eq!(e.code(), "phrase_empty", "{case}"),
            ours => assert_eq!(ours.is_ok(), key.is_ok(), "keys.json: {case}"),
        }
    }
}
