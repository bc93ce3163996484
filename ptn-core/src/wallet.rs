//! Key files of the bittensor tools: reading every format, writing, recovery phrases.
//!
//! A wallet is a folder with a coldkey, its public file, and hotkeys ([`Place`]). A key file is
//! opened with a password that is asked for only when the file is encrypted, and gives a [`Key`],
//! which signs. Files of every bittensor from 6 on are read ([`keyfile`]), and what is written here
//! is read by all of them. Where passwords come from is left to the caller; what they look like in
//! bittensor's environment variables is in [`password`]. The chain is left to others.
//!
//! What must stay true:
//! * no key file is ever replaced without a copy beside it, and none is left half written;
//! * a secret is wiped from memory when dropped, and is in no error and no `Debug`;
//! * the address that a file states is the address of the key that it gives;
//! * only one password derivation runs at a time in a process: each takes 512 MiB.
//!
//! Everything here blocks, up to seconds for encrypted files; [`open`] and [`open_hotkey`] keep
//! that off the async threads.

mod ansible;
mod derive;
mod error;
mod fernet;
mod files;
mod key;
pub mod keyfile;
mod layout;
mod nacl;
pub mod password;
pub mod polkadot_js;

use std::path::{Path, PathBuf};

pub use error::{KeyfileError, WalletError};
pub use files::{Replace, Saved, read_public, write};
pub use key::{Key, PhraseError, WORD_COUNTS};
pub use layout::{KeyState, Place, WalletState, list, split_shorthand};
pub use password::Password;

use crate::sign::Hotkey;

/// Opens a key file. `password` is called with the name of the format, only when the file is
/// encrypted. Blocks; in async code use [`open`].
///
/// # Errors
/// See [`WalletError`]; the text says which file, what is wrong and what to do.
pub fn open_blocking(
    path: &Path,
    password: impl FnOnce(&'static str) -> Result<Password, WalletError>,
) -> Result<Key, WalletError> {
    open_file(path, files::Readable::Refuse, password)
}

fn open_file(
    path: &Path,
    readable: files::Readable,
    password: impl FnOnce(&'static str) -> Result<Password, WalletError>,
) -> Result<Key, WalletError> {
    let bytes = files::read_secret(path, readable)?;
    let in_file = |source| WalletError::File { path: path.to_owned(), source };
    match keyfile::encryption(&bytes) {
        None => keyfile::open(&bytes, None).map_err(in_file),
        Some(format) => keyfile::open(&bytes, Some(&password(format)?)).map_err(in_file),
    }
}

/// As [`open_blocking`], on a thread where blocking is allowed.
///
/// # Errors
/// As [`open_blocking`].
pub async fn open(
    path: impl Into<PathBuf>,
    password: impl FnOnce(&'static str) -> Result<Password, WalletError> + Send + 'static,
) -> Result<Key, WalletError> {
    open_aside(path.into(), files::Readable::Refuse, password).await
}

async fn open_aside(
    path: PathBuf,
    readable: files::Readable,
    password: impl FnOnce(&'static str) -> Result<Password, WalletError> + Send + 'static,
) -> Result<Key, WalletError> {
    let place = path.clone();
    let opened = tokio::task::spawn_blocking(move || open_file(&path, readable, password)).await;
    opened.unwrap_or_else(|e| Err(WalletError::io("open", &place)(std::io::Error::other(e))))
}

/// Opens a hotkey, encrypted or not, for signing. A plain file that others can read is opened with a
/// warning in the log; one that others can change is refused.
///
/// # Errors
/// As [`open_blocking`].
pub async fn open_hotkey(
    path: impl Into<PathBuf>,
    password: impl FnOnce(&'static str) -> Result<Password, WalletError> + Send + 'static,
) -> Result<Hotkey, WalletError> {
    let path = path.into();
    let opened = open_aside(path.clone(), files::Readable::Warn, password).await;
    Ok(opened.map_err(|error| missing_hotkey(error, &path))?.into_hotkey())
}

/// Says of a hotkey that is not there how to make one.
fn missing_hotkey(error: WalletError, path: &Path) -> WalletError {
    match error {
        WalletError::Io { what, path: place, source }
            if source.kind() == std::io::ErrorKind::NotFound =>
        {
            let name = |path: Option<&Path>| {
                path.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned())
            };
            let wallet = name(path.parent().and_then(Path::parent));
            let wallet = wallet.unwrap_or_else(|| "NAME".to_owned());
            let hotkey = name(Some(path)).unwrap_or_else(|| "HOTKEY".to_owned());
            let why = format!(
                "there is no such file; name yours, or make one: ptn-cli wallet new-hotkey {wallet}/{hotkey}"
            );
            let source = std::io::Error::new(source.kind(), why);
            WalletError::Io { what, path: place, source }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_hotkey_says_how_to_make_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("miner").join("hotkeys").join("x9");
        let ask = |_| Err(WalletError::io("ask", Path::new("x"))(std::io::Error::other("no")));
        let error = open_hotkey(&path, ask).await.unwrap_err();
        let said = error.to_string();
        assert!(said.contains("ptn-cli wallet new-hotkey miner/x9"), "{said}");
        assert!(said.starts_with("cannot read ") && said.contains("no such file"), "{said}");
    }
}
