//! `$ANSIBLE_VAULT;1.1;AES256`: older files. Read only. Wire spec section 9.3.

use aes::cipher::{KeyIvInit as _, StreamCipher as _};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{KeyfileError, Password, derive};
use crate::text::printable;

pub(super) const FORMAT: &str = "Ansible vault";
const HEADER: &str = "$ANSIBLE_VAULT;1.1;AES256";

fn damaged() -> KeyfileError {
    KeyfileError::corrupt("the Ansible vault in it is cut or damaged")
}

/// Salt, authentication tag and encrypted data: everything before a key is derived.
pub(super) fn parts(bytes: &[u8]) -> Result<[Vec<u8>; 3], KeyfileError> {
    let text = std::str::from_utf8(bytes).map_err(|_| damaged())?;
    let mut lines = text.lines().map(str::trim);
    let header = lines.next().unwrap_or_default();
    if header != HEADER {
        let found = format!("an Ansible vault {:?}", printable(header, 64));
        return Err(KeyfileError::Unsupported { found, allowed: HEADER });
    }
    let inner = hex::decode(lines.collect::<String>()).map_err(|_| damaged())?;
    let mut parts = inner.split(|b| *b == b'\n').map(hex::decode);
    let mut part = || parts.next().and_then(Result::ok).ok_or_else(damaged);
    Ok([part()?, part()?, part()?])
}

pub(super) fn decrypt(
    bytes: &[u8],
    password: &Password,
) -> Result<Zeroizing<Vec<u8>>, KeyfileError> {
    let [salt, tag, mut data] = parts(bytes)?;
    let key = derive::pbkdf2::<80>(password, &salt, 10_000);
    let (cipher_key, rest) = key.split_at(32);
    let (mac_key, counter) = rest.split_at(32);
    let wrong = || KeyfileError::WrongPassword { format: FORMAT };
    let mut mac = Hmac::<Sha256>::new_from_slice(mac_key).map_err(|_| damaged())?;
    mac.update(&data);
    mac.verify_slice(&tag).map_err(|_| wrong())?;
    let mut cipher = ctr::Ctr128BE::<aes::Aes256>::new_from_slices(cipher_key, counter)
        .map_err(|_| damaged())?;
    cipher.apply_keystream(&mut data);
    let mut plain = Zeroizing::new(data);
    let padding = plain.last().copied().map_or(0, usize::from);
    let padded = plain.iter().rev().take(padding).all(|b| usize::from(*b) == padding);
    let len = plain.len().checked_sub(padding).filter(|_| (1..=16).contains(&padding) && padded);
    plain.truncate(len.ok_or_else(damaged)?);
    Ok(plain)
}
