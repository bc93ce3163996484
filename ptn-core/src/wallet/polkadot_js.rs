//! Accounts as polkadot-js exports and imports them: one JSON object, encrypted by a password.
//!
//! Version 3 of that format: scrypt, then XSalsa20 and Poly1305 over the secret between two fixed
//! frames. Only sr25519 is read and written. The recovery phrase is not part of it.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use crypto_secretbox::XSalsa20Poly1305;
use crypto_secretbox::aead::{Aead as _, KeyInit as _};
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::{Key, KeyfileError, Password};
use crate::sign::ss58;
use crate::text::printable;

const FORMAT: &str = "polkadot-js";
const ALLOWED: &str = "version 3 with pkcs8, sr25519 and a password";
/// Before and after the secret.
const HEAD: [u8; 16] = [48, 83, 2, 1, 1, 48, 5, 6, 3, 43, 101, 112, 4, 34, 4, 32];
const DIVIDER: [u8; 5] = [161, 35, 3, 33, 0];
/// What polkadot-js writes today: 2^17 rounds, 128 MiB.
const WRITE: (u32, u32, u32) = (1 << 17, 1, 8);
/// N, p and r that are read: those that polkadot-js takes. Others could ask for any amount of
/// memory.
const READ: [(u32, u32, u32); 6] =
    [(1 << 13, 10, 8), (1 << 14, 5, 8), (1 << 15, 3, 8), (1 << 15, 1, 8), (1 << 16, 2, 8), WRITE];

#[derive(Deserialize)]
struct File {
    address: Option<String>,
    encoded: String,
    encoding: Encoding,
}

#[derive(Deserialize)]
struct Encoding {
    content: OneOrMany,
    #[serde(rename = "type")]
    kind: OneOrMany,
    version: serde_json::Value,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn has(&self, wanted: &str) -> bool {
        match self {
            Self::One(one) => one == wanted,
            Self::Many(many) => many.iter().any(|m| m == wanted),
        }
    }
}

/// An account of the right form: everything before a key is derived.
pub(super) struct Parts {
    address: Option<String>,
    salt: [u8; 32],
    cost: (u32, u32, u32),
    nonce: [u8; 24],
    sealed: Vec<u8>,
}

fn damaged() -> KeyfileError {
    KeyfileError::corrupt("the polkadot-js account in it is cut or damaged")
}

pub(super) fn parts(text: &[u8]) -> Result<Parts, KeyfileError> {
    let file: File = serde_json::from_slice(text)
        .map_err(|_| KeyfileError::corrupt("it is not a JSON account of polkadot-js"))?;
    let version = file.encoding.version.as_str().unwrap_or_default();
    let supported = version == "3"
        && file.encoding.content.has("pkcs8")
        && file.encoding.content.has("sr25519")
        && file.encoding.kind.has("scrypt")
        && file.encoding.kind.has("xsalsa20-poly1305");
    if !supported {
        let version = printable(version, 64);
        let found = format!("a polkadot-js account of version {version:?} or of another key type");
        return Err(KeyfileError::Unsupported { found, allowed: ALLOWED });
    }
    let encoded = BASE64_STANDARD.decode(file.encoded.trim()).map_err(|_| damaged())?;
    let (salt, rest) = encoded.split_first_chunk::<32>().ok_or_else(damaged)?;
    let (numbers, rest) = rest.split_first_chunk::<12>().ok_or_else(damaged)?;
    let (nonce, sealed) = rest.split_first_chunk::<24>().ok_or_else(damaged)?;
    let number = |at: usize| {
        let bytes = numbers.get(at..at + 4).and_then(|b| b.try_into().ok());
        bytes.map_or(0, u32::from_le_bytes)
    };
    let cost = (number(0), number(4), number(8));
    if !READ.contains(&cost) {
        let found = format!("scrypt with N, p, r of {cost:?}");
        return Err(KeyfileError::Unsupported { found, allowed: "what polkadot-js allows" });
    }
    Ok(Parts { address: file.address, salt: *salt, cost, nonce: *nonce, sealed: sealed.to_vec() })
}

/// Opens an exported account.
///
/// # Errors
/// When it is of another kind, damaged, or the password is wrong.
pub fn import(text: &[u8], password: &Password) -> Result<Key, KeyfileError> {
    let Parts { address, salt, cost, nonce, sealed } = parts(text)?;
    let plain = XSalsa20Poly1305::new(scrypt(password, &salt, cost)?.as_slice().into())
        .decrypt((&nonce).into(), sealed.as_slice())
        .map(Zeroizing::new)
        .map_err(|_| KeyfileError::WrongPassword { format: FORMAT })?;
    let body = plain.strip_prefix(&HEAD).ok_or_else(damaged)?;
    let (secret, body) = body.split_first_chunk::<64>().ok_or_else(damaged)?;
    let public = body.strip_prefix(&DIVIDER).ok_or_else(damaged)?;
    let key = Key::from_polkadot_js(secret)?;
    let mismatch =
        |stated: String| KeyfileError::Mismatch { actual: key.address().to_owned(), stated };
    if public != key.public_key() {
        let stated = public.try_into().map_or_else(|_| "another key".to_owned(), ss58::encode);
        return Err(mismatch(stated));
    }
    match address {
        // Exports may carry the address of another network, or the public key.
        Some(stated) if ss58::decode(&stated).is_ok_and(|k| k != key.public_key()) => {
            Err(mismatch(stated))
        }
        _ => Ok(key),
    }
}

/// The JSON of an account, for import into polkadot-js and wallets that follow it.
///
/// # Errors
/// When there are no random numbers, or not the memory.
pub fn export(
    key: &Key,
    password: &Password,
    name: &str,
    when_ms: i64,
) -> Result<String, KeyfileError> {
    let mut random = [0; 32 + 24];
    getrandom::fill(&mut random)
        .map_err(|e| KeyfileError::Memory { reason: format!("no random numbers: {e}") })?;
    let (salt, nonce) = random.split_at(32);
    let mut plain = Zeroizing::new(Vec::with_capacity(128));
    plain.extend_from_slice(&HEAD);
    plain.extend_from_slice(key.polkadot_js_bytes().as_slice());
    plain.extend_from_slice(&DIVIDER);
    plain.extend_from_slice(&key.public_key());
    let sealed = XSalsa20Poly1305::new(scrypt(password, salt, WRITE)?.as_slice().into())
        .encrypt(nonce.into(), plain.as_slice())
        .map_err(|_| KeyfileError::corrupt("it is too large"))?;
    let (n, p, r) = WRITE;
    let encoded =
        [salt, &n.to_le_bytes(), &p.to_le_bytes(), &r.to_le_bytes(), nonce, sealed.as_slice()]
            .concat();
    let account = json!({
        "encoded": BASE64_STANDARD.encode(encoded),
        "encoding": {"content": ["pkcs8", "sr25519"], "type": ["scrypt", "xsalsa20-poly1305"], "version": "3"},
        "address": key.address(),
        "meta": {"name": name, "whenCreated": when_ms},
    });
    Ok(account.to_string())
}

fn scrypt(
    password: &Password,
    salt: &[u8],
    (n, p, r): (u32, u32, u32),
) -> Result<Zeroizing<[u8; 32]>, KeyfileError> {
    let refused = |e: &dyn std::fmt::Display| KeyfileError::Memory { reason: e.to_string() };
    let log_n = u8::try_from(n.ilog2()).unwrap_or(u8::MAX);
    let params = ::scrypt::Params::new(log_n, r, p, 32).map_err(|e| refused(&e))?;
    let mut key = Zeroizing::new([0; 32]);
    ::scrypt::scrypt(password.as_bytes(), salt, &params, key.as_mut_slice())
        .map_err(|e| refused(&e))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: &str = "5EWMkbn47f8prCiybonXeWYtxUXoMu3AViecg5PZFbHPQ6Su";
    /// Made by polkadot-js (keyring 13.5) from the phrase of wire spec section 8.4.
    const THEIRS: &str = r#"{"encoded":"RASgQdsVyJmQHnLQzCJ8VprwfMpHnVWJTFFAxcpP5tIAAAIAAQAAAAgAAAD/PsqGParTpy0zJAqBWLyRSKNhWuuJdRkKRT0gGK6jEBhDqxuXCJs+3+ISNlpnxUBaiuI2pP+whAWh+k0YSzF/iBu7xuPnblqViewmUBjxW0NPQSen7gSTrDmDx2S/7aFJGDY2WdI5OaVpF6afgD1Y2HV2Enxb64sWe+8N7754eaTJbe6zdFgsTHvCwR3hGmLRqfuUqQ6DCYXcDu9e","encoding":{"content":["pkcs8","sr25519"],"type":["scrypt","xsalsa20-poly1305"],"version":"3"},"address":"5EWMkbn47f8prCiybonXeWYtxUXoMu3AViecg5PZFbHPQ6Su","meta":{}}"#;

    fn password(text: &str) -> Password {
        Password::new(text).unwrap()
    }

    #[test]
    fn an_export_of_polkadot_js_opens() {
        let key = import(THEIRS.as_bytes(), &password("export")).unwrap();
        assert_eq!(key.address(), ADDRESS);
        assert!(key.phrase().is_none() && key.seed().is_none());
        // The secret is that of the key files, nonce included.
        let whole = Key::from_phrase(
            "motion ride property real mesh into title pigeon poet joke target quiz",
        );
        assert_eq!(*key.secret_key_bytes(), *whole.unwrap().secret_key_bytes());
        let wrong = import(THEIRS.as_bytes(), &password("exporx")).unwrap_err();
        assert_eq!(wrong.code(), "wallet_wrong_password");
    }

    #[test]
    fn what_is_exported_comes_back() {
        let key = Key::generate(12).unwrap();
        let account = export(&key, &password("päss"), "miner", 1).unwrap();
        assert_eq!(import(account.as_bytes(), &password("päss")).unwrap().address(), key.address());
        let other = account.replace(key.address(), ADDRESS);
        let mixed = import(other.as_bytes(), &password("päss")).unwrap_err();
        assert_eq!(mixed.code(), "wallet_mismatch");
    }

    #[test]
    fn every_other_account_is_refused_without_deriving_anything() {
        let edit = |from: &str, to: &str| THEIRS.replace(from, to);
        for (account, code) in [
            ("{}".to_owned(), "wallet_corrupt"),
            (edit(r#""version":"3""#, r#""version":"2""#), "wallet_unsupported"),
            (edit("sr25519", "ed25519"), "wallet_unsupported"),
            (edit(r#"["scrypt","xsalsa20-poly1305"]"#, r#"["none"]"#), "wallet_unsupported"),
            // A number of rounds that would take all memory.
            (edit("AAAIAAQAAAAgAAAD", "AAAIABQAAAAgAAAD"), "wallet_unsupported"),
            (edit(r#""encoded":"RASg"#, r#""encoded":"!"#), "wallet_corrupt"),
            (r#"{"encoded":"AAAA","encoding":{"content":["pkcs8","sr25519"],"type":["scrypt","xsalsa20-poly1305"],"version":"3"}}"#.to_owned(), "wallet_corrupt"),
        ] {
            let error = import(account.as_bytes(), &password("export")).unwrap_err();
            assert_eq!(error.code(), code, "{account}: {error}");
        }
    }
}
