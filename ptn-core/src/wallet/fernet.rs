//! `gAAAAA`: a Fernet token, the oldest files. Read only. Wire spec section 9.3.

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockDecryptMut as _, KeyIvInit as _};
use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{KeyfileError, Password, derive};

pub(super) const FORMAT: &str = "Fernet";
const SALT: &[u8] = b"Iguesscyborgslikemyselfhaveatendencytobeparanoidaboutourorigins";
const ROUNDS: u32 = 10_000_000;
/// Version, time, initial vector.
const HEAD: usize = 1 + 8 + 16;
const TAG: usize = 32;

fn damaged() -> KeyfileError {
    KeyfileError::corrupt("the Fernet token in it is cut or damaged")
}

/// The token, of the right form: everything before a key is derived.
pub(super) fn token(bytes: &[u8]) -> Result<Vec<u8>, KeyfileError> {
    let lenient = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let token = GeneralPurpose::new(&URL_SAFE, lenient)
        .decode(bytes.trim_ascii())
        .map_err(|_| damaged())?;
    let (signed, _) = split(&token)?;
    let (head, data) = signed.split_at_checked(HEAD).ok_or_else(damaged)?;
    if head.first() != Some(&0x80) || data.is_empty() || data.len() % 16 != 0 {
        return Err(damaged());
    }
    Ok(token)
}

/// What is signed, and the tag.
fn split(token: &[u8]) -> Result<(&[u8], &[u8]), KeyfileError> {
    let at = token.len().checked_sub(TAG).ok_or_else(damaged)?;
    token.split_at_checked(at).ok_or_else(damaged)
}

pub(super) fn decrypt(
    bytes: &[u8],
    password: &Password,
) -> Result<Zeroizing<Vec<u8>>, KeyfileError> {
    let token = token(bytes)?;
    let (signed, tag) = split(&token)?;
    let (head, data) = signed.split_at_checked(HEAD).ok_or_else(damaged)?;
    let vector = head.get(9..).ok_or_else(damaged)?;

    let key = derive::pbkdf2::<32>(password, SALT, ROUNDS);
    let (mac_key, cipher_key) = key.split_at(16);
    let wrong = || KeyfileError::WrongPassword { format: FORMAT };
    let mut mac = Hmac::<Sha256>::new_from_slice(mac_key).map_err(|_| damaged())?;
    mac.update(signed);
    mac.verify_slice(tag).map_err(|_| wrong())?;
    cbc::Decryptor::<aes::Aes128>::new_from_slices(cipher_key, vector)
        .map_err(|_| damaged())?
        .decrypt_padded_vec_mut::<Pkcs7>(data)
        .map(Zeroizing::new)
        .map_err(|_| damaged())
}
