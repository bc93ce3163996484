//! The members of an unencrypted key file, and the key that they give.
//!
//! One reading for hotkeys and for the `wallet` module, which brings what recovery phrases mean and
//! takes off the encryption first. Members that contradict each other are refused: whoever reads
//! only one of them would sign with another key. Wire spec section 9.2.

use serde::Deserialize;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::hotkey::{Hotkey, HotkeyError};
use super::ss58;
use crate::text::printable;

/// An address has 48 characters.
const LONGEST_STATED: usize = 64;
/// Real key files are under 1 KiB.
pub(crate) const MAX_FILE: u64 = 64 * 1024;

/// What each encrypted format begins with.
pub(crate) const ENCRYPTED: [(&[u8], &str); 3] =
    [(b"$NACL", "NaCl"), (b"$ANSIBLE_VAULT", "Ansible vault"), (b"gAAAAA", "Fernet")];

#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Members {
    secret_phrase: Option<String>,
    secret_seed: Option<String>,
    private_key: Option<String>,
    public_key: Option<String>,
    account_id: Option<String>,
    ss58_address: Option<String>,
    #[zeroize(skip)]
    crypto_type: Option<serde_json::Number>,
}

impl Members {
    /// Reads the JSON object of a key file.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, HotkeyError> {
        check_form(bytes)?;
        serde_json::from_slice(bytes).map_err(|e| {
            // The parser's own text can quote what it read, which may be the secret.
            HotkeyError::corrupt(format!(
                "not the JSON object of a key file (line {}, column {})",
                e.line(),
                e.column()
            ))
        })
    }

    /// The recovery phrase.
    pub(crate) fn phrase(&self) -> Option<&str> {
        given(&self.secret_phrase)
    }

    /// The seed.
    #[cfg(feature = "wallet")]
    pub(crate) fn seed(&self) -> Result<Option<Zeroizing<[u8; 32]>>, HotkeyError> {
        given(&self.secret_seed).map(|t| secret_bytes(t, "secretSeed")).transpose()
    }

    /// The key, when every member that says something about it says the same. `phrase_seed` is the
    /// seed of the phrase, from those who can read phrases.
    pub(crate) fn key(&self, phrase_seed: Option<&[u8; 32]>) -> Result<Hotkey, HotkeyError> {
        let by_phrase = phrase_seed.map(|seed| Hotkey::from_seed(*seed));
        let by_seed = given(&self.secret_seed)
            .map(|t| Ok(Hotkey::from_seed(*secret_bytes::<32>(t, "secretSeed")?)))
            .transpose()?;
        let by_key = given(&self.private_key)
            .map(|t| Hotkey::from_secret_key_bytes(&*secret_bytes::<64>(t, "privateKey")?))
            .transpose()?;
        let mut keys = [by_phrase, by_seed, by_key].into_iter().flatten();
        let Some(key) = keys.next() else { return Err(self.without_secret()?) };
        match self.crypto_type() {
            Some(1) => {}
            Some(0) => {
                let found = "ed25519 (cryptoType 0)".to_owned();
                return Err(HotkeyError::Unsupported { found });
            }
            _ => return Err(self.unknown_type()),
        }
        let mismatch = |stated: &str| HotkeyError::Mismatch {
            actual: key.address().to_owned(),
            // Anything can stand in a file; it is told, not obeyed.
            stated: printable(stated, LONGEST_STATED),
        };
        if let Some(other) = keys.find(|other| other.public_key() != key.public_key()) {
            return Err(mismatch(other.address()));
        }
        if let Some(stated) = given(&self.ss58_address).filter(|stated| *stated != key.address()) {
            return Err(mismatch(stated));
        }
        match self.stated_public_key()? {
            Some(stated) if stated != key.public_key() => Err(mismatch(&ss58::encode(&stated))),
            _ => Ok(key),
        }
    }

    /// Why a file without a secret gives no key: [`HotkeyError::PublicOnly`] with its address when
    /// it is a public file.
    fn without_secret(&self) -> Result<HotkeyError, HotkeyError> {
        if self.phrase().is_some() {
            return Ok(HotkeyError::PhraseOnly);
        }
        let public = self.stated_public_key()?;
        let address = match (given(&self.ss58_address), public) {
            (Some(address), public) => {
                let of_address = ss58::decode(address)
                    .map_err(|e| HotkeyError::corrupt(format!("ss58Address: {e}")))?;
                if let Some(other) = public.filter(|key| *key != of_address) {
                    let actual = ss58::encode(&other);
                    let stated = printable(address, LONGEST_STATED);
                    return Ok(HotkeyError::Mismatch { actual, stated });
                }
                address.to_owned()
            }
            (None, Some(public)) => ss58::encode(&public),
            (None, None) => {
                let reason = "it has no secretPhrase, secretSeed or privateKey";
                return Ok(HotkeyError::corrupt(reason));
            }
        };
        match self.crypto_type() {
            Some(0 | 1) => Ok(HotkeyError::PublicOnly { address }),
            _ => Ok(self.unknown_type()),
        }
    }

    fn stated_public_key(&self) -> Result<Option<[u8; 32]>, HotkeyError> {
        let read = |value, field| -> Result<Option<[u8; 32]>, HotkeyError> {
            given(value).map(|t| Ok(*secret_bytes::<32>(t, field)?)).transpose()
        };
        let key = read(&self.public_key, "publicKey")?;
        let account = read(&self.account_id, "accountId")?;
        match (key, account) {
            (Some(key), Some(account)) if key != account => Err(HotkeyError::Mismatch {
                actual: ss58::encode(&key),
                stated: ss58::encode(&account),
            }),
            (key, account) => Ok(key.or(account)),
        }
    }

    /// 1 is sr25519, which is meant when nothing is said.
    fn crypto_type(&self) -> Option<u64> {
        self.crypto_type.as_ref().map_or(Some(1), serde_json::Number::as_u64)
    }

    fn unknown_type(&self) -> HotkeyError {
        let number = self.crypto_type.as_ref().map(ToString::to_string).unwrap_or_default();
        HotkeyError::Unsupported { found: format!("cryptoType {number}") }
    }
}

/// An empty text is as good as none.
fn given(value: &Option<String>) -> Option<&str> {
    value.as_deref().filter(|text| !text.is_empty())
}

/// Refuses what is recognisably something else, by what it is.
fn check_form(bytes: &[u8]) -> Result<(), HotkeyError> {
    for (prefix, format) in ENCRYPTED {
        if bytes.starts_with(prefix) {
            return Err(HotkeyError::Encrypted { format });
        }
    }
    if u64::try_from(bytes.len()).is_ok_and(|len| len > MAX_FILE) {
        return Err(HotkeyError::corrupt("it is larger than 64 KiB"));
    }
    let trimmed = bytes.trim_ascii();
    if trimmed.is_empty() {
        return Err(HotkeyError::corrupt("it is empty"));
    }
    if trimmed.starts_with(b"\xef\xbb\xbf") {
        return Err(HotkeyError::corrupt("it starts with a byte order mark; save it without one"));
    }
    if trimmed.starts_with(b"0x") {
        // bittensor 6 takes such a file for a public key and bittensor 11 for a secret seed.
        return Err(HotkeyError::corrupt(
            "it is a bare hex number, which some tools take for a public key and others for a \
             secret seed; a key file is a JSON object",
        ));
    }
    if !trimmed.starts_with(b"{") {
        return Err(HotkeyError::corrupt("it is not a JSON object"));
    }
    Ok(())
}

/// Hex of exactly `N` bytes, with or without 0x, in either case.
pub(crate) fn secret_bytes<const N: usize>(
    text: &str,
    field: &str,
) -> Result<Zeroizing<[u8; N]>, HotkeyError> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let mut bytes = Zeroizing::new([0; N]);
    hex::decode_to_slice(digits, bytes.as_mut_slice())
        .map_err(|_| HotkeyError::corrupt(format!("{field} is not {} hex digits", 2 * N)))?;
    Ok(bytes)
}
