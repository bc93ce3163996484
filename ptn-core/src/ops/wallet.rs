//! Which wallet the settings name, and where the passwords of its files come from.
//!
//! In this order: `--password-file`, bittensor's variables (`BT_PW_...` for a file, `BT_COLD_PW_...`
//! for a coldkey), `PTN_WALLET_PASSWORD`, a question on the terminal. Where there is none of these
//! the error names them. Wire spec section 9.4.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::config::{ConfigError, Settings, expand_home};
use super::terminal::Terminal;
use crate::wallet::password::{coldkey_variable_names, from_variable, variable_name};
use crate::wallet::{Password, Place, WalletError, split_shorthand};

/// Our own variable, in plain text, for files of which bittensor's name cannot be set in a shell.
pub const VARIABLE: &str = "PTN_WALLET_PASSWORD";
const MAX_PASSWORD_FILE: u64 = 64 * 1024;

/// The wallet that the settings name; `NAME/HOTKEY` as the wallet's name names both.
///
/// # Errors
/// When a name cannot be used, or two hotkeys are named.
pub fn place(s: &Settings) -> Result<Place, ConfigError> {
    let (wallet, short) = split_shorthand(s.get("wallet.name").unwrap_or("default"));
    let set = s.get("wallet.hotkey").unwrap_or("default");
    let rank = |key| s.origin(key).rank();
    let hotkey = match short {
        // The later source wins; in one source they must not contradict each other.
        Some(short) if rank("wallet.hotkey") < rank("wallet.name") => short,
        Some(short) if rank("wallet.hotkey") == rank("wallet.name") && short != set => {
            let why = format!("the wallet's name says hotkey {short:?}: give one of them");
            return Err(s.bad("wallet.hotkey", why));
        }
        _ => set,
    };
    let root = expand_home(s.get("wallet.path").unwrap_or("~/.bittensor/wallets"));
    Place::new(root, wallet, hotkey).map_err(|e| {
        let key = match &e {
            WalletError::Name { name, .. } if name == set => "wallet.hotkey",
            _ => "wallet.name",
        };
        s.bad(key, e.to_string())
    })
}

/// Where passwords come from; finding one never shows it.
#[derive(Debug, Clone)]
pub struct Passwords {
    file: Option<PathBuf>,
    /// The folder of the wallets as it was written, before `~` was resolved.
    root: String,
    wallet: String,
}

impl Passwords {
    /// Those that the settings and the environment name.
    pub fn from_settings(s: &Settings, place: &Place) -> Self {
        Self {
            file: s.get("wallet.password_file").map(expand_home),
            root: s.get("wallet.path").unwrap_or("~/.bittensor/wallets").to_owned(),
            wallet: place.wallet().to_owned(),
        }
    }

    /// Whether a file was named.
    pub fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// The password of a key file, without asking anybody. `None` when there is none.
    ///
    /// # Errors
    /// When the file or a variable cannot be used.
    pub fn given(&self, path: &Path) -> Result<Option<Password>, WalletError> {
        if let Some(file) = &self.file {
            return from_file(file).map(Some);
        }
        for name in self.variable_names(path) {
            let Ok(value) = std::env::var(&name) else { continue };
            let found = from_variable(&name, &Zeroizing::new(value));
            if let Some(found) = found.map_err(|e| WalletError::Password(e.to_string()))? {
                return Ok(Some(found));
            }
        }
        let plain = if path.ends_with("coldkey") && !path_is_hotkey(path) {
            coldkey_variable_names(&self.wallet).to_vec()
        } else {
            Vec::new()
        };
        let mut values = plain.into_iter().chain([VARIABLE.to_owned()]);
        Ok(values.find_map(|name| std::env::var(name).ok().and_then(Password::new)))
    }

    /// The password to open a key file with; asks on a terminal.
    ///
    /// # Errors
    /// When there is none.
    pub fn to_open(&self, path: &Path, format: &'static str) -> Result<Password, WalletError> {
        if let Some(password) = self.given(path)? {
            return Ok(password);
        }
        let shown = path.display();
        let Some(terminal) = Terminal::open() else {
            return Err(self.missing(path, &format!("{shown} is encrypted ({format})")));
        };
        let asked = terminal.ask_hidden(&format!("Password of {shown}: ")).map_err(unanswered)?;
        Password::new(asked.as_str())
            .ok_or_else(|| WalletError::Password("no password was given".to_owned()))
    }

    /// The password for a new key file; asks twice on a terminal.
    ///
    /// # Errors
    /// When there is none, or the two answers differ.
    pub fn to_create(&self, path: &Path) -> Result<Password, WalletError> {
        if let Some(password) = self.given(path)? {
            return Ok(password);
        }
        let Some(terminal) = Terminal::open() else {
            let why = format!("a password for {} is needed", path.display());
            return Err(self.missing(path, &format!("{why} (or --no-password)")));
        };
        ask_twice(&terminal, &format!("Password for {}: ", path.display()))
    }

    fn missing(&self, path: &Path, why: &str) -> WalletError {
        let names = self.variable_names(path);
        let name = names.first().map(String::as_str).unwrap_or_default();
        WalletError::Password(format!(
            "{why}, and there is no terminal to ask on: give --password-file FILE, or set {VARIABLE} \
             or bittensor's {name}"
        ))
    }

    /// bittensor names the variable after the path as its caller wrote it.
    fn variable_names(&self, path: &Path) -> Vec<String> {
        let mut names = vec![variable_name(&path.to_string_lossy())];
        if let Ok(inside) = path.strip_prefix(expand_home(&self.root)) {
            let written = format!("{}/{}", self.root.trim_end_matches('/'), inside.display());
            names.push(variable_name(&written));
        }
        if let Ok(absolute) = std::path::absolute(path) {
            names.push(variable_name(&absolute.to_string_lossy()));
        }
        names.dedup();
        names
    }
}

/// A hotkey may be called coldkey.
fn path_is_hotkey(path: &Path) -> bool {
    path.parent().is_some_and(|p| p.ends_with("hotkeys"))
}

/// Asks for a new password twice.
///
/// # Errors
/// When the answers differ or there is none.
pub fn ask_twice(terminal: &Terminal, question: &str) -> Result<Password, WalletError> {
    let first = terminal.ask_hidden(question).map_err(unanswered)?;
    let Some(password) = Password::new(first.as_str()) else {
        let text = "no password was given; --no-password writes the key unencrypted";
        return Err(WalletError::Password(text.to_owned()));
    };
    let again = terminal.ask_hidden("The same again: ").map_err(unanswered)?;
    match Password::new(again.as_str()).is_some_and(|again| again.same_as(&password)) {
        true => Ok(password),
        false => Err(WalletError::Password("the two passwords differ: start again".to_owned())),
    }
}

/// The password in a file: its content without one line end. `-` is stdin.
///
/// # Errors
/// When it cannot be read, is no text, or is empty.
pub fn from_file(file: &Path) -> Result<Password, WalletError> {
    let shown = file.display();
    let mut bytes = Zeroizing::new(Vec::with_capacity(1024));
    let read = match file.as_os_str() == "-" {
        true => io::stdin().take(MAX_PASSWORD_FILE).read_to_end(&mut bytes),
        false => std::fs::File::open(file)
            .and_then(|f| f.take(MAX_PASSWORD_FILE).read_to_end(&mut bytes)),
    };
    read.map_err(|e| WalletError::Password(format!("--password-file {shown}: {e}")))?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| WalletError::Password(format!("--password-file {shown}: it is not UTF-8")))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    Password::new(text)
        .ok_or_else(|| WalletError::Password(format!("--password-file {shown}: it is empty")))
}

fn unanswered(error: io::Error) -> WalletError {
    WalletError::Password(format!("the question for the password was not answered: {error}"))
}
