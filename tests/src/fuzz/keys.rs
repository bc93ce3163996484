//! Key files of every format, addresses, recovery phrases, seeds, derivations, hidden passwords.
//!
//! The first byte chooses; the rest is the text or file. No password is tried: deriving a key takes
//! seconds on purpose, and everything that is read before it is read here.

use ptn_core::sign::ss58;
use ptn_core::wallet::{Key, Password, Place, keyfile, password, split_shorthand};

use super::readable;

/// See the module.
pub fn keys(data: &[u8]) {
    let Some((selector, bytes)) = data.split_first() else { return };
    if selector % 5 == 0 {
        return file(bytes);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match selector % 5 {
        1 => address(text),
        2 => secret(text),
        3 => variable(text),
        _ => names(text),
    }
}

fn file(bytes: &[u8]) {
    match keyfile::open(bytes, None) {
        Ok(key) => round_trip(&key),
        Err(error) => {
            let text = error.to_string();
            readable(&text);
            quotes_nothing(bytes, &text);
        }
    }
    match keyfile::address(bytes) {
        Ok(address) => assert!(ss58::decode(&address).is_ok(), "{address}"),
        Err(error) => readable(&error),
    }
    if let Err(error) = keyfile::check_form(bytes) {
        readable(&error);
    }
}

/// No error repeats a secret: no long run of hex digits of the file stands in it, public ones apart.
fn quotes_nothing(bytes: &[u8], error: &str) {
    let text = String::from_utf8_lossy(bytes);
    for field in ["secretSeed", "privateKey", "secretPhrase"] {
        let value = text.split_once(field).map_or("", |(_, rest)| rest);
        let value: String =
            value.chars().skip_while(|c| !c.is_ascii_alphanumeric()).take(24).collect();
        // What also stands in a public field is no secret.
        let once = value.get(4..).is_some_and(|part| text.matches(part).count() == 1);
        if once && value.len() == 24 && value.chars().all(|c| c.is_ascii_hexdigit() || c == 'x') {
            assert!(!error.contains(&value[4..]), "{error}");
        }
    }
}

/// Written and read again it is the same key.
fn round_trip(key: &Key) {
    let text = keyfile::to_json(key);
    let again = keyfile::open(text.as_bytes(), None).expect("our own file");
    assert_eq!(again.address(), key.address());
    assert_eq!(again.phrase(), key.phrase());
    assert_eq!(again.seed(), key.seed());
    let public = keyfile::to_public_json(&key.public_key());
    assert_eq!(keyfile::address(public.as_bytes()).expect("our own file"), key.address());
}

fn address(text: &str) {
    match ss58::decode(text) {
        // Each key has one spelling.
        Ok(key) => assert_eq!(ss58::encode(&key), text),
        Err(error) => readable(&error),
    }
    if let Some(key) = text.as_bytes().first_chunk::<32>() {
        assert_eq!(ss58::decode(&ss58::encode(key)), Ok(*key));
    }
}

fn secret(text: &str) {
    let read = [Key::from_phrase(text), Key::from_seed_text(text), Key::from_uri(text)];
    for key in read {
        match key {
            Ok(key) => round_trip(&key),
            Err(error) => readable(&error),
        }
    }
}

fn variable(text: &str) {
    let (name, value) = text.split_once('=').unwrap_or(("BT_PW_X", text));
    match password::from_variable(name, value) {
        Ok(Some(found)) => {
            let hidden = password::to_variable(name, &found);
            let again =
                password::from_variable(name, &hidden).expect("our own").expect("not empty");
            assert!(again.same_as(&found), "{name}");
        }
        Ok(None) => {}
        Err(error) => assert!(error.to_string().len() <= name.len() + 400),
    }
    if let Some(given) = Password::new(value).filter(|_| !name.is_empty()) {
        let hidden = password::to_variable(name, &given);
        let again = password::from_variable(name, &hidden).expect("our own").expect("not empty");
        assert!(again.same_as(&given), "{name}");
    }
}

/// A name never leads out of its folder.
fn names(text: &str) {
    let (wallet, hotkey) = split_shorthand(text);
    if let Ok(place) = Place::new("/w", wallet, hotkey.unwrap_or("default")) {
        for path in [place.coldkey(), place.coldkeypub(), place.hotkey(), place.hotkeypub()] {
            let inside = path.strip_prefix("/w").expect("below the root");
            let plain = |c| matches!(c, std::path::Component::Normal(_));
            assert!(inside.components().all(plain), "{}", path.display());
        }
    }
}
