//! Why a key file was not read or written. No text holds a secret.

use std::io;
use std::path::PathBuf;

use crate::sign::HotkeyError;

/// What is wrong with the content of a key file, or with the password for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyfileError {
    /// It is encrypted, and no password was given.
    #[error("it is encrypted ({format}) and needs its password")]
    PasswordNeeded {
        /// How it is encrypted.
        format: &'static str,
    },
    /// The password does not open it. For authenticated formats a damaged file looks the same.
    #[error(
        "the password does not open it ({format}): check the password (blanks at its ends count); \
         if it is surely right, the file is damaged: restore it from a backup or from the recovery phrase"
    )]
    WrongPassword {
        /// How it is encrypted.
        format: &'static str,
    },
    /// Truncated, damaged, or no key file at all.
    #[error(
        "it is damaged or no key file: {reason}; restore it from a backup or from the recovery phrase"
    )]
    Corrupt {
        /// What is wrong.
        reason: String,
    },
    /// A public file, which cannot sign.
    #[error(
        "it holds only the public key of {address}, which cannot sign: name the key file itself"
    )]
    PublicOnly {
        /// The address in it.
        address: String,
    },
    /// A key or format of another kind.
    #[error("it is of a kind that is not supported here: {found}; allowed is {allowed}")]
    Unsupported {
        /// What was found.
        found: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// Its parts do not fit each other.
    #[error(
        "its parts belong to different keys: the secret is that of {actual}, but it says {stated}; \
         it was mixed up: restore it from the recovery phrase"
    )]
    Mismatch {
        /// The address of the secret.
        actual: String,
        /// The address that the rest of the file states.
        stated: String,
    },
    /// The password could not be turned into a key on this machine.
    #[error("opening an encrypted key file takes 512 MiB of memory for a moment: {reason}")]
    Memory {
        /// What is missing.
        reason: String,
    },
}

impl KeyfileError {
    /// Stable code for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::PasswordNeeded { .. } => "wallet_password_needed",
            Self::WrongPassword { .. } => "wallet_wrong_password",
            Self::Corrupt { .. } => "wallet_corrupt",
            Self::PublicOnly { .. } => "wallet_public_only",
            Self::Unsupported { .. } => "wallet_unsupported",
            Self::Mismatch { .. } => "wallet_mismatch",
            Self::Memory { .. } => "wallet_memory",
        }
    }

    pub(super) fn corrupt(reason: impl Into<String>) -> Self {
        Self::Corrupt { reason: reason.into() }
    }
}

impl From<HotkeyError> for KeyfileError {
    fn from(error: HotkeyError) -> Self {
        match error {
            HotkeyError::Corrupt { reason } => Self::Corrupt { reason },
            HotkeyError::PublicOnly { address } => Self::PublicOnly { address },
            HotkeyError::Unsupported { found } => {
                Self::Unsupported { found, allowed: "sr25519 (cryptoType 1)" }
            }
            HotkeyError::Mismatch { actual, stated } => Self::Mismatch { actual, stated },
            HotkeyError::Encrypted { format } => Self::PasswordNeeded { format },
            other => Self::Corrupt { reason: other.to_string() },
        }
    }
}

/// Why a wallet command was not carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalletError {
    /// A file was read and is not usable.
    #[error("{}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: KeyfileError,
    },
    /// The system refuses.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Other users have a hand on the file.
    #[error(
        "{} is not safe: {reason}; if it is yours, take it back: {fix}", path.display()
    )]
    Unsafe {
        /// Which file.
        path: PathBuf,
        /// Who can do what.
        reason: String,
        /// The command that helps.
        fix: String,
    },
    /// There is such a file already.
    #[error(
        "{} exists{} and is left as it is: choose another name, or add --overwrite, which keeps a copy of it",
        path.display(), of.as_ref().map(|a| format!(" (key {a})")).unwrap_or_default()
    )]
    Exists {
        /// Which file.
        path: PathBuf,
        /// The address in it, when it can be read.
        of: Option<String>,
    },
    /// A wallet's or hotkey's name that cannot be a file name.
    #[error(
        "{name:?} cannot be the name of a {what}: letters, digits, - and _ are best; no /, not empty, not starting with a dot"
    )]
    Name {
        /// A wallet or a hotkey.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A password is needed and there is none.
    #[error("{0}")]
    Password(String),
}

impl WalletError {
    /// Stable code for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::File { source, .. } => source.code(),
            Self::Io { .. } => "wallet_io",
            Self::Unsafe { .. } => "wallet_unsafe",
            Self::Exists { .. } => "wallet_exists",
            Self::Name { .. } => "wallet_name",
            Self::Password(_) => "wallet_password",
        }
    }

    pub(super) fn io(what: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}
