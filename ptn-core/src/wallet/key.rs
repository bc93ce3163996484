//! `Key`: a secret key with what it was made from, so that it can be written again.
//!
//! Phrases and derivation are those of Substrate (`sp-core`), which every bittensor uses; signing
//! is that of [`Hotkey`]. Wire spec section 8.

use std::fmt;

use bip39::{Language, Mnemonic};
use sp_core::crypto::Pair as _;
use sp_core::sr25519;
use zeroize::{Zeroize as _, Zeroizing};

use crate::sign::keyfile::secret_bytes;
use crate::sign::{Hotkey, HotkeyError, SignError, Signer};

/// How many words a recovery phrase may have.
pub const WORD_COUNTS: [usize; 5] = [12, 15, 18, 21, 24];

/// Why a phrase, seed or derivation gives no key. The texts do not repeat it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PhraseError {
    /// Nothing there, which other tools take for a phrase that everybody knows.
    #[error(
        "the recovery phrase is empty: other tools then take a well-known test phrase, whose keys \
         everybody owns; give the phrase itself"
    )]
    Empty,
    /// A wrong number of words.
    #[error("{found} words are no recovery phrase: it has 12, 15, 18, 21 or 24")]
    WordCount {
        /// How many there are.
        found: usize,
    },
    /// A word that is not in the list.
    #[error(
        "word {position} is not in the list of words (English, lower case): check its spelling"
    )]
    UnknownWord {
        /// Which one, from 1.
        position: usize,
    },
    /// The words are right, and not in this order.
    #[error("the words do not fit together: one is wrong, or their order is")]
    Checksum,
    /// Not a seed.
    #[error("a seed is 64 hex digits, with or without 0x")]
    Seed,
    /// A derivation that cannot be read.
    #[error(
        "the derivation cannot be read: a phrase or 0x seed, then //hard or /soft parts that are \
         not empty, then ///password"
    )]
    Derivation,
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
}

impl PhraseError {
    /// Stable code for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Empty => "phrase_empty",
            Self::WordCount { .. } => "phrase_word_count",
            Self::UnknownWord { .. } => "phrase_unknown_word",
            Self::Checksum => "phrase_checksum",
            Self::Seed => "phrase_seed",
            Self::Derivation => "phrase_derivation",
            Self::Random(_) => "phrase_random",
        }
    }
}

/// A secret key. `Debug` shows the address only.
pub struct Key {
    hotkey: Hotkey,
    phrase: Option<Zeroizing<String>>,
    seed: Option<Zeroizing<[u8; 32]>>,
}

impl Key {
    /// A fresh key with a phrase of this many words.
    ///
    /// # Errors
    /// When there are no such phrases, or no random numbers.
    pub fn generate(words: usize) -> Result<Self, PhraseError> {
        if !WORD_COUNTS.contains(&words) {
            return Err(PhraseError::WordCount { found: words });
        }
        let mut entropy = Zeroizing::new(vec![0; words / 3 * 4]);
        getrandom::fill(&mut entropy).map_err(|e| PhraseError::Random(e.to_string()))?;
        Self::from_mnemonic(&Mnemonic::from_entropy(&entropy).map_err(phrase_error)?)
    }

    /// The key of a recovery phrase; any blanks between the words.
    ///
    /// # Errors
    /// When it is no phrase; the text says what is wrong without repeating it.
    pub fn from_phrase(phrase: &str) -> Result<Self, PhraseError> {
        if phrase.trim().is_empty() {
            return Err(PhraseError::Empty);
        }
        Self::from_mnemonic(&Mnemonic::parse_in(Language::English, phrase).map_err(phrase_error)?)
    }

    /// The key of a seed.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self::from_parts(Hotkey::from_seed(seed), Some(Zeroizing::new(seed)))
    }

    /// The key of a seed in hex.
    ///
    /// # Errors
    /// When it is not 64 hex digits.
    pub fn from_seed_text(text: &str) -> Result<Self, PhraseError> {
        let seed = secret_bytes::<32>(text.trim(), "seed").map_err(|_| PhraseError::Seed)?;
        Ok(Self::from_seed(*seed))
    }

    /// The key of `<phrase or 0xseed>[//hard|/soft]*[///password]`.
    ///
    /// # Errors
    /// When it cannot be read; an empty phrase is refused.
    pub fn from_uri(uri: &str) -> Result<Self, PhraseError> {
        if uri.trim_start().is_empty() || uri.trim_start().starts_with('/') {
            return Err(PhraseError::Empty);
        }
        Self::from_any_uri(uri)
    }

    /// As [`Key::from_uri`], with the test phrase that everybody knows where there is none: the
    /// keys `//Alice`, `//Bob` of test networks. Never for anything of value.
    ///
    /// # Errors
    /// When it cannot be read.
    #[cfg(feature = "test-util")]
    pub fn from_test_uri(uri: &str) -> Result<Self, PhraseError> {
        Self::from_any_uri(uri)
    }

    fn from_any_uri(uri: &str) -> Result<Self, PhraseError> {
        use sp_core::crypto::SecretStringError as E;
        // Without a path and a password the phrase is all there is to the key, and is kept.
        if !uri.contains('/') && !uri.starts_with("0x") && !uri.is_empty() {
            return Self::from_phrase(uri);
        }
        let derived = sr25519::Pair::from_string_with_seed(uri, None);
        let (pair, seed) = derived.map_err(|e| match e {
            E::InvalidSeed | E::InvalidSeedLength => PhraseError::Seed,
            // Says which of the words it is.
            E::InvalidPhrase => {
                let phrase = uri.split('/').next().unwrap_or_default();
                Self::from_phrase(phrase).err().unwrap_or(PhraseError::Derivation)
            }
            _ => PhraseError::Derivation,
        })?;
        Self::from_pair(&pair, seed.map(Zeroizing::new))
    }

    fn from_mnemonic(mnemonic: &Mnemonic) -> Result<Self, PhraseError> {
        let mut phrase = Zeroizing::new(String::with_capacity(256));
        for word in mnemonic.words() {
            if !phrase.is_empty() {
                phrase.push(' ');
            }
            phrase.push_str(word);
        }
        let (_, mut seed) =
            sr25519::Pair::from_phrase(&phrase, None).map_err(|_| PhraseError::Checksum)?;
        let key = Self::from_seed(seed);
        seed.zeroize();
        Ok(Self { phrase: Some(phrase), ..key })
    }

    fn from_pair(
        pair: &sr25519::Pair,
        seed: Option<Zeroizing<[u8; 32]>>,
    ) -> Result<Self, PhraseError> {
        let raw = Zeroizing::new(pair.to_raw_vec());
        let bytes: &[u8; 64] = raw.as_slice().try_into().map_err(|_| PhraseError::Derivation)?;
        let hotkey = Hotkey::from_secret_key_bytes(bytes).map_err(|_| PhraseError::Derivation)?;
        Ok(Self::from_parts(hotkey, seed))
    }

    pub(super) fn from_parts(hotkey: Hotkey, seed: Option<Zeroizing<[u8; 32]>>) -> Self {
        Self { hotkey, phrase: None, seed }
    }

    pub(super) fn from_polkadot_js(secret: &[u8]) -> Result<Self, HotkeyError> {
        Ok(Self::from_parts(Hotkey::from_secret_key_bytes_times_8(secret)?, None))
    }

    /// ss58 address.
    pub fn address(&self) -> &str {
        self.hotkey.address()
    }

    /// The public key.
    pub fn public_key(&self) -> [u8; 32] {
        self.hotkey.public_key()
    }

    /// The recovery phrase; `None` when the key was not made from one, or not from it alone.
    pub fn phrase(&self) -> Option<&str> {
        self.phrase.as_ref().map(|p| p.as_str())
    }

    /// The seed; `None` when there is none (soft derivation, keys from polkadot-js).
    pub fn seed(&self) -> Option<&[u8; 32]> {
        self.seed.as_deref()
    }

    /// What signs, without the rest.
    pub fn into_hotkey(self) -> Hotkey {
        self.hotkey
    }

    pub(super) fn secret_key_bytes(&self) -> Zeroizing<[u8; 64]> {
        self.hotkey.secret_key_bytes()
    }

    pub(super) fn polkadot_js_bytes(&self) -> Zeroizing<[u8; 64]> {
        self.hotkey.secret_key_bytes_times_8()
    }
}

impl Signer for Key {
    fn hotkey(&self) -> &str {
        self.hotkey.address()
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignError> {
        self.hotkey.sign(message)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("address", &self.address()).finish_non_exhaustive()
    }
}

fn phrase_error(error: bip39::Error) -> PhraseError {
    match error {
        bip39::Error::BadWordCount(found) => PhraseError::WordCount { found },
        bip39::Error::UnknownWord(index) => PhraseError::UnknownWord { position: index + 1 },
        _ => PhraseError::Checksum,
    }
}
