//! The content of a key file: recognising it, opening it, writing it. No files are touched.
//!
//! Reading takes plain JSON, `$NACL`, Ansible vault and Fernet; writing makes plain JSON or
//! `$NACL`. What is written has text members only and no `cryptoType`: older readers refuse
//! anything else. Wire spec sections 9.2 and 9.3.

use serde_json::Value;
use zeroize::Zeroizing;

use super::{Key, KeyfileError, Password, ansible, fernet, nacl};
use crate::sign::keyfile::{ENCRYPTED, Members};
use crate::sign::{HotkeyError, ss58};

/// How a key file is encrypted; `None` for plain ones.
pub fn encryption(bytes: &[u8]) -> Option<&'static str> {
    ENCRYPTED.iter().find(|(prefix, _)| bytes.starts_with(prefix)).map(|(_, format)| *format)
}

/// Opens a key file's content. A password for a plain file is not looked at. Blocks for seconds
/// when the file is encrypted.
///
/// # Errors
/// See [`KeyfileError`].
pub fn open(bytes: &[u8], password: Option<&Password>) -> Result<Key, KeyfileError> {
    let Some(format) = encryption(bytes) else { return from_json(bytes) };
    let password = password.ok_or(KeyfileError::PasswordNeeded { format })?;
    let plain = match format {
        nacl::FORMAT => nacl::decrypt(bytes, password)?,
        ansible::FORMAT => ansible::decrypt(bytes, password)?,
        _ => fernet::decrypt(bytes, password)?,
    };
    if encryption(&plain).is_some() {
        return Err(KeyfileError::corrupt("it is encrypted twice"));
    }
    from_json(&plain)
}

/// Whether an encrypted file has the form of its format, as far as that shows without its password:
/// what [`open`] checks before it derives a key, which takes seconds. For tests that feed it any bytes.
///
/// # Errors
/// As [`open`].
#[cfg(feature = "test-util")]
pub fn check_form(bytes: &[u8]) -> Result<(), KeyfileError> {
    match encryption(bytes) {
        Some(nacl::FORMAT) => nacl::parts(bytes).map(drop),
        Some(ansible::FORMAT) => ansible::parts(bytes).map(drop),
        Some(_) => fernet::token(bytes).map(drop),
        None => super::polkadot_js::parts(bytes).map(drop),
    }
}

/// The address in a plain key file or a public file.
///
/// # Errors
/// When it is encrypted, or no key file.
pub fn address(bytes: &[u8]) -> Result<String, KeyfileError> {
    match open(bytes, None) {
        Ok(key) => Ok(key.address().to_owned()),
        Err(KeyfileError::PublicOnly { address }) => Ok(address),
        Err(e) => Err(e),
    }
}

fn from_json(bytes: &[u8]) -> Result<Key, KeyfileError> {
    let members = Members::parse(bytes)?;
    let phrase = members
        .phrase()
        .map(Key::from_phrase)
        .transpose()
        .map_err(|e| KeyfileError::corrupt(format!("secretPhrase: {e}")))?;
    let seed = phrase.as_ref().and_then(Key::seed);
    let hotkey = members.key(seed).map_err(|e| match e {
        HotkeyError::BadSecret => KeyfileError::corrupt("privateKey is no sr25519 secret key"),
        other => other.into(),
    })?;
    Ok(match phrase {
        Some(key) => key,
        None => Key::from_parts(hotkey, members.seed()?),
    })
}

/// The plain JSON of a key file.
pub fn to_json(key: &Key) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(1024));
    public_members(&mut text, &key.public_key());
    let mut add = |name: &str, value: &str| {
        for part in [",\"", name, "\":\"", value, "\""] {
            text.push_str(part);
        }
    };
    let hex = |bytes: &[u8]| Zeroizing::new(format!("0x{}", *Zeroizing::new(hex::encode(bytes))));
    add("privateKey", &hex(key.secret_key_bytes().as_slice()));
    if let Some(phrase) = key.phrase() {
        add("secretPhrase", phrase);
    }
    if let Some(seed) = key.seed() {
        add("secretSeed", &hex(seed));
    }
    text.push('}');
    text
}

/// The content of an encrypted key file (`$NACL`). Blocks for a second or more.
///
/// # Errors
/// When the machine has not the memory.
pub fn to_encrypted(key: &Key, password: &Password) -> Result<Vec<u8>, KeyfileError> {
    nacl::encrypt(to_json(key).as_bytes(), password)
}

/// The content of a public file (`coldkeypub.txt`, `NAMEpub.txt`).
pub fn to_public_json(public_key: &[u8; 32]) -> String {
    let mut text = String::new();
    public_members(&mut text, public_key);
    text.push('}');
    text
}

/// Opens the object and leaves it open.
fn public_members(text: &mut String, public_key: &[u8; 32]) {
    let public = hex::encode(public_key);
    let address = Value::from(ss58::encode(public_key));
    text.push_str(&format!(
        r#"{{"accountId":"0x{public}","publicKey":"0x{public}","ss58Address":{address}"#
    ));
}
