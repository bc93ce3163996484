//! Who signs: the `Signer` trait, sr25519 hotkeys, and ss58 addresses.
//!
//! Reading key files of every format is left to the `wallet` module; here only the unencrypted
//! hotkey file is read, which is all that sending needs.

#[cfg(feature = "sign")]
mod hotkey;
#[cfg(feature = "sign")]
pub(crate) mod keyfile;
#[cfg(feature = "sign")]
pub mod ss58;

#[cfg(feature = "sign")]
pub use hotkey::{Hotkey, HotkeyError, verify, verify_key};

/// Signs in the name of a hotkey.
pub trait Signer: Send + Sync + 'static {
    /// ss58 address (prefix 42) of the hotkey.
    fn hotkey(&self) -> &str;

    /// An sr25519 signature (context `substrate`) over the message.
    ///
    /// # Errors
    /// When the key is not available (a locked token, say); the text says what to do.
    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignError>;
}

/// Why nothing was signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot sign as {hotkey}: {reason}")]
pub struct SignError {
    /// The hotkey that should have signed.
    pub hotkey: String,
    /// What stands in the way.
    pub reason: String,
}
