//! `Hotkey`: an sr25519 key pair that signs requests, and checking what others signed.
//!
//! Only the unencrypted key file of the bittensor tools is read here (wire spec section 9.2);
//! encrypted files and recovery phrases are left to the `wallet` module. The secret is wiped from
//! memory when dropped and never shown.

use std::fmt;
use std::path::{Path, PathBuf};

use schnorrkel::context::SigningContext;
use schnorrkel::{ExpansionMode, Keypair, MiniSecretKey, PublicKey, SecretKey, Signature};
use zeroize::Zeroizing;

use super::keyfile::{MAX_FILE, Members};
use super::{SignError, Signer, ss58};

/// The signing context of Substrate chains.
const CONTEXT: &[u8] = b"substrate";

/// An sr25519 hotkey. `Debug` shows the address only.
pub struct Hotkey {
    pair: Keypair,
    address: String,
    context: SigningContext,
}

/// Why there is no hotkey.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HotkeyError {
    /// The file cannot be read.
    #[error("the hotkey file {} cannot be read: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The key is encrypted.
    #[error(
        "the hotkey file is encrypted ({format}): open it with wallet support and its password, \
         or make an unencrypted copy of the hotkey"
    )]
    Encrypted {
        /// How.
        format: &'static str,
    },
    /// Not a hotkey file.
    #[error("this is no hotkey file: {reason}")]
    Corrupt {
        /// What is wrong.
        reason: String,
    },
    /// A public file, which cannot sign.
    #[error(
        "the file holds only the public key of {address}: signing needs the hotkey file itself, \
         usually ~/.bittensor/wallets/<wallet>/hotkeys/<hotkey>"
    )]
    PublicOnly {
        /// The address in it.
        address: String,
    },
    /// Only a recovery phrase.
    #[error(
        "the file holds only a recovery phrase: open it with wallet support, or write it again \
         with a current tool, which adds the secret seed"
    )]
    PhraseOnly,
    /// A key of another kind.
    #[error("the key in the file is of type {found}; a hotkey must be sr25519 (cryptoType 1)")]
    Unsupported {
        /// Which type.
        found: String,
    },
    /// The secret belongs to another address.
    #[error(
        "the key in the file belongs to {actual}, but the file says {stated}: it was mixed up or \
         damaged; restore it from your recovery phrase"
    )]
    Mismatch {
        /// The address of the secret.
        actual: String,
        /// The address that the file states.
        stated: String,
    },
    /// Bytes that are no secret key.
    #[error("these bytes are no sr25519 secret key")]
    BadSecret,
}

impl HotkeyError {
    /// Stable code for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Read { .. } => "hotkey_unreadable",
            Self::Encrypted { .. } => "hotkey_encrypted",
            Self::Corrupt { .. } => "hotkey_corrupt",
            Self::PublicOnly { .. } => "hotkey_public_only",
            Self::PhraseOnly => "hotkey_phrase_only",
            Self::Unsupported { .. } => "hotkey_unsupported",
            Self::Mismatch { .. } => "hotkey_mismatch",
            Self::BadSecret => "hotkey_bad_secret",
        }
    }

    pub(super) fn corrupt(reason: impl Into<String>) -> Self {
        Self::Corrupt { reason: reason.into() }
    }
}

impl Hotkey {
    /// The key of a 32-byte seed (mini secret), expanded as Substrate does.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let seed = Zeroizing::new(seed);
        // Any 32 bytes are a mini secret; the length is the only thing that can be wrong.
        let pair = MiniSecretKey::from_bytes(seed.as_slice())
            .map(|mini| mini.expand_to_keypair(ExpansionMode::Ed25519));
        match pair {
            Ok(pair) => Self::new(pair),
            Err(_) => unreachable!("a mini secret is any 32 bytes"),
        }
    }

    /// A fresh random key, kept nowhere: for demos and tests.
    pub fn generate() -> Self {
        Self::new(MiniSecretKey::generate().expand_to_keypair(ExpansionMode::Ed25519))
    }

    /// The key of 64 secret bytes as key files hold them: scalar, then nonce.
    ///
    /// # Errors
    /// When the scalar is not one.
    pub fn from_secret_key_bytes(bytes: &[u8; 64]) -> Result<Self, HotkeyError> {
        let secret = SecretKey::from_bytes(bytes).map_err(|_| HotkeyError::BadSecret)?;
        if bytes.iter().take(32).all(|b| *b == 0) {
            return Err(HotkeyError::BadSecret);
        }
        Ok(Self::new(secret.to_keypair()))
    }

    /// Reads an unencrypted hotkey file.
    ///
    /// # Errors
    /// See [`HotkeyError`]; the text says what to do.
    pub fn from_keyfile(path: impl AsRef<Path>) -> Result<Self, HotkeyError> {
        use std::io::Read as _;
        let path = path.as_ref();
        let unreadable = |source| HotkeyError::Read { path: path.to_owned(), source };
        let file = std::fs::File::open(path).map_err(unreadable)?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
        file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        Self::from_keyfile_json(&bytes)
    }

    /// As [`Hotkey::from_keyfile`], of the file's content.
    ///
    /// # Errors
    /// As [`Hotkey::from_keyfile`].
    pub fn from_keyfile_json(bytes: &[u8]) -> Result<Self, HotkeyError> {
        Members::parse(bytes)?.key(None)
    }

    /// ss58 address of this hotkey.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The public key.
    pub fn public_key(&self) -> [u8; 32] {
        self.pair.public.to_bytes()
    }

    /// The secret as key files hold it: scalar, then nonce.
    #[cfg(feature = "wallet")]
    pub(crate) fn secret_key_bytes(&self) -> Zeroizing<[u8; 64]> {
        Zeroizing::new(self.pair.secret.to_bytes())
    }

    /// The secret as polkadot-js holds it: the scalar times 8, then the nonce.
    #[cfg(feature = "wallet")]
    pub(crate) fn secret_key_bytes_times_8(&self) -> Zeroizing<[u8; 64]> {
        Zeroizing::new(self.pair.secret.to_ed25519_bytes())
    }

    /// The key of the secret as polkadot-js holds it.
    #[cfg(feature = "wallet")]
    pub(crate) fn from_secret_key_bytes_times_8(bytes: &[u8]) -> Result<Self, HotkeyError> {
        let secret = SecretKey::from_ed25519_bytes(bytes).map_err(|_| HotkeyError::BadSecret)?;
        Ok(Self::new(secret.to_keypair()))
    }

    /// The text of a key file of this key, as the bittensor tools read it. For throwaway keys in
    /// tests: it is the secret in the clear.
    #[cfg(feature = "test-util")]
    pub fn to_keyfile_json(&self) -> String {
        let public = hex::encode(self.public_key());
        let secret = Zeroizing::new(self.pair.secret.to_bytes());
        format!(
            r#"{{"accountId":"0x{public}","publicKey":"0x{public}","privateKey":"0x{}","ss58Address":"{}"}}"#,
            hex::encode(*secret),
            self.address,
        )
    }

    fn new(pair: Keypair) -> Self {
        let address = ss58::encode(&pair.public.to_bytes());
        Self { pair, address, context: SigningContext::new(CONTEXT) }
    }
}

impl Signer for Hotkey {
    fn hotkey(&self) -> &str {
        &self.address
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignError> {
        Ok(self.pair.sign(self.context.bytes(message)).to_bytes())
    }
}

impl fmt::Debug for Hotkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hotkey").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Whether `signature` is an sr25519 signature of this hotkey over the message. A wrong length, an
/// unreadable address and a signature without schnorrkel's marker bit are simply not valid.
pub fn verify(hotkey_ss58: &str, message: &[u8], signature: &[u8]) -> bool {
    let Ok(public) = ss58::decode(hotkey_ss58) else { return false };
    verify_key(&public, message, signature)
}

/// As [`verify`], with the public key itself.
pub fn verify_key(public_key: &[u8; 32], message: &[u8], signature: &[u8]) -> bool {
    let (Ok(public), Ok(signature)) =
        (PublicKey::from_bytes(public_key), Signature::from_bytes(signature))
    else {
        return false;
    };
    public.verify_simple(CONTEXT, message, &signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_key_of_the_other_tools() {
        // Wire spec section 8.4.
        let mut seed = [0; 32];
        hex::decode_to_slice(
            "581ba7a2494e291087ef862aebb4f106d9bf5c4c6b391ce10a7aa642caa61a95",
            &mut seed,
        )
        .unwrap();
        let key = Hotkey::from_seed(seed);
        assert_eq!(key.address(), "5EWMkbn47f8prCiybonXeWYtxUXoMu3AViecg5PZFbHPQ6Su");
        let mut secret = [0; 64];
        hex::decode_to_slice(
            "764fbe8799664405774d19198c2138840e2cd49f240c40613d8c243bd9f28908\
             3df52b6d3213cfad519bdab5f236ed5816dc4ed371c8ca87f6d527ab484b14c8",
            &mut secret,
        )
        .unwrap();
        assert_eq!(Hotkey::from_secret_key_bytes(&secret).unwrap().address(), key.address());
    }

    #[test]
    fn signatures_hold_for_this_message_and_key_only() {
        let (key, other) = (Hotkey::from_seed([1; 32]), Hotkey::from_seed([2; 32]));
        let mut signature = key.sign(b"order").unwrap();
        assert!(verify(key.address(), b"order", &signature));
        assert!(!verify(other.address(), b"order", &signature));
        assert!(!verify(key.address(), b"ordes", &signature));
        assert!(!verify(key.address(), b"order", &signature[..63]));
        signature[63] &= 0x7f;
        assert!(!verify(key.address(), b"order", &signature));
    }

    #[test]
    fn the_secret_is_never_shown() {
        let key = Hotkey::from_seed([7; 32]);
        let shown = format!("{key:?}");
        assert!(shown.contains(key.address()));
        assert!(!shown.contains(&hex::encode(&key.pair.secret.to_bytes()[..8])));
    }

    #[test]
    fn a_key_file_is_read_whatever_secret_it_has() {
        let key = Hotkey::from_seed([1; 32]);
        let (address, public) = (key.address(), hex::encode(key.public_key()));
        let (seed, secret) = (hex::encode([1; 32]), hex::encode(key.pair.secret.to_bytes()));
        for file in [
            format!(r#"{{"secretSeed":"0x{seed}","ss58Address":"{address}"}}"#),
            format!(r#"{{"secretSeed":"{}"}}"#, seed.to_uppercase()),
            format!(r#" {{"privateKey":"0x{secret}","publicKey":"0x{public}","extra":[1]}} "#),
            format!(r#"{{"secretSeed":"0x{seed}","secretPhrase":null,"cryptoType":1}}"#),
        ] {
            assert_eq!(Hotkey::from_keyfile_json(file.as_bytes()).unwrap().address(), address);
        }
    }

    #[test]
    fn every_other_file_is_refused_for_its_own_reason() {
        let key = Hotkey::from_seed([1; 32]);
        let other = Hotkey::from_seed([2; 32]);
        let (seed, cut) = (hex::encode([1; 32]), hex::encode([1; 31]));
        for (file, code) in [
            ("$NACLxxxxxxxx".to_owned(), "hotkey_encrypted"),
            ("$ANSIBLE_VAULT;1.1;AES256\n00".to_owned(), "hotkey_encrypted"),
            ("gAAAAABh".to_owned(), "hotkey_encrypted"),
            (format!("0x{seed}"), "hotkey_corrupt"),
            (String::new(), "hotkey_corrupt"),
            ("[]".to_owned(), "hotkey_corrupt"),
            ("{}".to_owned(), "hotkey_corrupt"),
            ("\u{feff}{}".to_owned(), "hotkey_corrupt"),
            (format!(r#"{{"secretSeed":"0x{cut}"}}"#), "hotkey_corrupt"),
            (r#"{"secretPhrase":"a b c"}"#.to_owned(), "hotkey_phrase_only"),
            (format!(r#"{{"ss58Address":"{}"}}"#, key.address()), "hotkey_public_only"),
            (format!(r#"{{"secretSeed":"{seed}","cryptoType":0}}"#), "hotkey_unsupported"),
            (
                format!(r#"{{"secretSeed":"{seed}","ss58Address":"{}"}}"#, other.address()),
                "hotkey_mismatch",
            ),
        ] {
            let error = Hotkey::from_keyfile_json(file.as_bytes()).unwrap_err();
            assert_eq!(error.code(), code, "{file}: {error}");
            assert!(!error.to_string().contains(&cut), "the secret is in: {error}");
        }
    }
}
