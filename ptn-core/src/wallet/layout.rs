//! Where the files of a wallet are, and what is there.
//!
//! ```text
//! <root>/<wallet>/coldkey            secret, usually encrypted
//!                 coldkeypub.txt     its address
//!                 hotkeys/<hotkey>          secret, usually not encrypted
//!                 hotkeys/<hotkey>pub.txt   its address
//!                 backups/           what was replaced (only here, other tools do not look there)
//! ```
//!
//! Wire spec section 9.1.

use std::path::{Path, PathBuf};

use super::{KeyfileError, WalletError, files, keyfile};

/// The place of one wallet and one of its hotkeys. The files need not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    root: PathBuf,
    wallet: String,
    hotkey: String,
}

impl Place {
    /// Checks the names.
    ///
    /// # Errors
    /// When one of them is no file name.
    pub fn new(root: impl Into<PathBuf>, wallet: &str, hotkey: &str) -> Result<Self, WalletError> {
        for (what, name) in [("wallet", wallet), ("hotkey", hotkey)] {
            if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
                return Err(WalletError::Name { what, name: name.to_owned() });
            }
        }
        Ok(Self { root: root.into(), wallet: wallet.to_owned(), hotkey: hotkey.to_owned() })
    }

    /// Name of the wallet.
    pub fn wallet(&self) -> &str {
        &self.wallet
    }

    /// Name of the hotkey.
    pub fn hotkey_name(&self) -> &str {
        &self.hotkey
    }

    /// Folder of the wallet.
    pub fn folder(&self) -> PathBuf {
        self.root.join(&self.wallet)
    }

    /// The coldkey's file.
    pub fn coldkey(&self) -> PathBuf {
        self.folder().join("coldkey")
    }

    /// The coldkey's public file.
    pub fn coldkeypub(&self) -> PathBuf {
        self.folder().join("coldkeypub.txt")
    }

    /// The hotkey's file.
    pub fn hotkey(&self) -> PathBuf {
        self.folder().join("hotkeys").join(&self.hotkey)
    }

    /// The hotkey's public file.
    pub fn hotkeypub(&self) -> PathBuf {
        self.folder().join("hotkeys").join(format!("{}pub.txt", self.hotkey))
    }

    /// What is known about the coldkey without a password; `None` when there is none.
    pub fn coldkey_state(&self) -> Option<KeyState> {
        look(&self.coldkey(), &self.coldkeypub())
    }

    /// What is known about the hotkey without a password; `None` when there is none.
    pub fn hotkey_state(&self) -> Option<KeyState> {
        look(&self.hotkey(), &self.hotkeypub())
    }

    pub(super) fn backups(&self) -> PathBuf {
        self.folder().join("backups")
    }
}

/// `wallet/hotkey` as wallet and hotkey; a name alone is the wallet's.
pub fn split_shorthand(name: &str) -> (&str, Option<&str>) {
    match name.split_once('/') {
        Some((wallet, hotkey)) => (wallet, Some(hotkey)),
        None => (name, None),
    }
}

/// What is known about one key without a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyState {
    /// The key file, or the public file when there is no other.
    pub path: PathBuf,
    /// ss58 address, from the public file when the key file is encrypted.
    pub address: Option<String>,
    /// Whether the secret is there.
    pub has_secret: bool,
    /// How the key file is encrypted.
    pub encryption: Option<&'static str>,
    /// What is wrong with it.
    pub problem: Option<String>,
}

/// What is in one wallet's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalletState {
    /// Name of the wallet.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// The coldkey; `None` when there is neither key nor public file.
    pub coldkey: Option<KeyState>,
    /// The hotkeys by name.
    pub hotkeys: Vec<(String, KeyState)>,
}

/// All wallets under a folder, by name. Nothing is decrypted; damaged files are named in
/// [`KeyState::problem`]. A folder that does not exist has no wallets.
///
/// # Errors
/// When a folder cannot be read.
pub fn list(root: &Path) -> Result<Vec<WalletState>, WalletError> {
    let mut wallets = Vec::new();
    for name in names(root)? {
        let folder = root.join(&name);
        let coldkey = look(&folder.join("coldkey"), &folder.join("coldkeypub.txt"));
        let hotkeys_folder = folder.join("hotkeys");
        let mut hotkeys = Vec::new();
        let files = names(&hotkeys_folder)?;
        for file in &files {
            // A public file without its key file stands for the key.
            let of = file.strip_suffix("pub.txt");
            let hotkey = match of {
                Some(of) if files.iter().any(|f| f == of) => continue,
                Some(of) if !of.is_empty() => of,
                _ => file,
            };
            let public = hotkeys_folder.join(format!("{hotkey}pub.txt"));
            if let Some(state) = look(&hotkeys_folder.join(hotkey), &public) {
                hotkeys.push((hotkey.to_owned(), state));
            }
        }
        if coldkey.is_some() || !hotkeys.is_empty() {
            wallets.push(WalletState { name, folder, coldkey, hotkeys });
        }
    }
    Ok(wallets)
}

/// Names in a folder, sorted, without hidden ones; none when the folder does not exist.
fn names(folder: &Path) -> Result<Vec<String>, WalletError> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e)
            if matches!(
                e.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(Vec::new());
        }
        Err(e) => return Err(WalletError::io("read the folder", folder)(e)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(WalletError::io("read the folder", folder))?;
        if let Some(name) = entry.file_name().to_str().filter(|n| !n.starts_with('.')) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn look(path: &Path, public: &Path) -> Option<KeyState> {
    let stated = public.exists().then(|| files::read_public(public));
    let mut state = KeyState {
        path: path.to_owned(),
        address: None,
        has_secret: path.exists(),
        encryption: None,
        problem: None,
    };
    if !state.has_secret {
        state.path = public.to_owned();
        let address = stated?;
        state.problem = address.as_ref().err().map(ToString::to_string);
        state.address = address.ok();
        return Some(state);
    }
    let found = files::read_secret(path, files::Readable::Refuse).and_then(|bytes| {
        state.encryption = keyfile::encryption(&bytes);
        match state.encryption {
            Some(_) => Ok(None),
            None => keyfile::address(&bytes)
                .map(Some)
                .map_err(|source| WalletError::File { path: path.to_owned(), source }),
        }
    });
    match (found, stated) {
        (Err(e), stated) => {
            state.problem = Some(e.to_string());
            state.address = stated.and_then(Result::ok);
        }
        (Ok(own), Some(Err(e))) => (state.address, state.problem) = (own, Some(e.to_string())),
        (Ok(Some(own)), Some(Ok(stated))) if own != stated => {
            let source = KeyfileError::Mismatch { actual: own.clone(), stated };
            let error = WalletError::File { path: public.to_owned(), source };
            (state.address, state.problem) = (Some(own), Some(error.to_string()));
        }
        (Ok(own), stated) => state.address = own.or_else(|| stated.and_then(Result::ok)),
    }
    Some(state)
}
