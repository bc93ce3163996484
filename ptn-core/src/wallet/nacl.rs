//! `$NACL`: what every bittensor writes. Argon2i, then XSalsa20 and Poly1305.

use crypto_secretbox::aead::{Aead as _, KeyInit as _};
use crypto_secretbox::{Nonce, XSalsa20Poly1305};
use zeroize::Zeroizing;

use super::{KeyfileError, Password, derive};

pub(super) const FORMAT: &str = "NaCl";
const PREFIX: &[u8] = b"$NACL";
const NONCE: usize = 24;
const TAG: usize = 16;

/// Nonce and sealed text: everything before a key is derived.
pub(super) fn parts(bytes: &[u8]) -> Result<(&[u8], &[u8]), KeyfileError> {
    let cut = || KeyfileError::corrupt("it ends within the header of the $NACL format");
    let rest = bytes.strip_prefix(PREFIX).ok_or_else(cut)?;
    let (nonce, sealed) = rest.split_at_checked(NONCE).ok_or_else(cut)?;
    if sealed.len() < TAG {
        return Err(cut());
    }
    Ok((nonce, sealed))
}

pub(super) fn decrypt(
    bytes: &[u8],
    password: &Password,
) -> Result<Zeroizing<Vec<u8>>, KeyfileError> {
    let (nonce, sealed) = parts(bytes)?;
    let key = derive::argon2i(password)?;
    let plain = XSalsa20Poly1305::new(key.as_slice().into()).decrypt(nonce.into(), sealed);
    plain.map(Zeroizing::new).map_err(|_| KeyfileError::WrongPassword { format: FORMAT })
}

pub(super) fn encrypt(plain: &[u8], password: &Password) -> Result<Vec<u8>, KeyfileError> {
    let mut nonce = [0; NONCE];
    getrandom::fill(&mut nonce)
        .map_err(|e| KeyfileError::Memory { reason: format!("no random numbers: {e}") })?;
    let key = derive::argon2i(password)?;
    let sealed = XSalsa20Poly1305::new(key.as_slice().into())
        .encrypt(Nonce::from_slice(&nonce), plain)
        .map_err(|_| KeyfileError::corrupt("it is too large"))?;
    Ok([PREFIX, &nonce, &sealed].concat())
}
