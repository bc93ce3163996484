//! `Failure`: why a command ends without a result, with its exit code, a stable code and what to do.
//!
//! Every error type of the library becomes one here, so the mapping to exit codes has one place.
//! The exit codes themselves are those of all three binaries (`ptn_core::ops::process`).

use std::io;
use std::path::Path;

use ptn_core::ErrorClass;
use ptn_core::chain::ChainError;
use ptn_core::ops::config::ConfigError;
use ptn_core::ops::process;
use ptn_core::signal::SignalError;
use ptn_core::store::StoreError;
use ptn_core::wallet::{KeyfileError, PhraseError, WalletError};
use serde_json::json;

use crate::output::{Output, Style};

/// A command that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Exit code.
    pub exit: u8,
    /// Stable code for programs.
    pub code: String,
    /// What happened and where.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
    /// The field of the input that is to blame.
    pub field: Option<String>,
    quiet: bool,
}

impl Failure {
    /// Any failure.
    pub fn new(exit: u8, code: impl Into<String>, message: impl Into<String>) -> Self {
        let (code, message) = (code.into(), message.into());
        Self { exit, code, message, hint: None, field: None, quiet: false }
    }

    /// The command was wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(process::USAGE, "usage", message)
    }

    /// It did not work.
    pub fn failed(code: &str, message: impl Into<String>) -> Self {
        Self::new(process::FAILED, code, message)
    }

    /// A file or another part of the system.
    pub fn io(what: &str, where_: &str, error: &io::Error) -> Self {
        Self::new(process::FAILED, "io", format!("{what} {where_}: {error}"))
    }

    /// A refused signal, with the bare message: the field stands beside it.
    pub(crate) fn from_signal(error: SignalError) -> Self {
        let message = error.message().to_owned();
        Self { message, ..Self::from(error) }
    }

    /// The same failure in other words.
    #[must_use]
    pub(crate) fn saying(self, message: impl Into<String>) -> Self {
        Self { message: message.into(), ..self }
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds what to do about a server's refusal.
    #[must_use]
    pub(crate) fn hint_for_status(self, status: u16) -> Self {
        let hint = match status {
            401 => {
                "the key is one from miner_secrets.json or api_keys.json in that server's data directory"
            }
            403 => "this address is not in the server's --server.allow-from",
            404 => "is this really a ptn-server?",
            409 if self.code == "uuid_conflict" => {
                "the first signal stays as it is; send this one under another --order-uuid, or without one"
            }
            429 => "nothing was stored; try again in a moment",
            503 => "see that server's log, then try again; the same order_uuid is not traded twice",
            507 => "its disk is full, nothing was stored; make room there",
            _ => return self,
        };
        if self.hint.is_some() { self } else { self.hint(hint) }
    }

    /// A write to stdout that failed.
    pub(crate) fn write(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            // Whoever reads has seen enough.
            let quiet = Self::new(process::OK, "closed", "the reader is gone");
            return Self { quiet: true, ..quiet };
        }
        Self::new(process::FAILED, "output", format!("stdout cannot be written: {error}"))
    }

    /// For programs: `{code, message}`, with `hint` and `field` where there are any.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        let mut error = json!({"code": self.code, "message": self.message});
        if let (Some(map), Some(hint)) = (error.as_object_mut(), &self.hint) {
            map.insert("hint".to_owned(), hint.as_str().into());
        }
        if let (Some(map), Some(field)) = (error.as_object_mut(), &self.field) {
            map.insert("field".to_owned(), field.as_str().into());
        }
        error
    }

    /// Says it, and gives the exit code.
    pub(crate) fn say(&self, out: &mut Output) -> u8 {
        if self.quiet {
            return self.exit;
        }
        if out.is_json() {
            if let Err(e) = out.document(&json!({"error": self.to_json()})) {
                out.talk(e.message);
            }
            return self.exit;
        }
        let head = out.paint_talk(Style::Bad, "error:");
        // Texts with their own lines, from clap, keep them.
        let flow = |out: &Output, text: &str| match text.contains('\n') {
            true => text.to_owned(),
            false => out.flow_talk(text, 7),
        };
        out.talk(format!("{head} {}", flow(out, &self.message)));
        if let Some(hint) = &self.hint {
            let head = out.paint_talk(Style::Strong, " next:");
            out.talk(format!("{head} {}", flow(out, hint)));
        }
        self.exit
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let exit = match error.class() {
            ErrorClass::Input | ErrorClass::Auth => process::USAGE,
            ErrorClass::Conflict if error.code() == "uuid_conflict" => process::CONFLICT,
            ErrorClass::Unavailable => process::UNAVAILABLE,
            ErrorClass::Uncertain => process::UNKNOWN,
            ErrorClass::Rejected => process::REFUSED,
            _ => process::FAILED,
        };
        Self::new(exit, error.code(), error.to_string())
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(process::USAGE, "config", error.to_string())
    }
}

impl From<WalletError> for Failure {
    fn from(error: WalletError) -> Self {
        let exit = match &error {
            WalletError::Io { source, .. } if source.kind() != io::ErrorKind::NotFound => {
                process::FAILED
            }
            WalletError::File { source: KeyfileError::Memory { .. }, .. } => process::FAILED,
            _ => process::USAGE,
        };
        let failure = Self::new(exit, error.code(), error.to_string());
        match missing_key(&error) {
            Some(command) => failure.hint(format!("name yours, or make one: {command}")),
            None => failure,
        }
    }
}

/// The command that makes the key whose file is not there.
fn missing_key(error: &WalletError) -> Option<String> {
    let WalletError::Io { path, source, .. } = error else { return None };
    let folder = path.parent().filter(|_| source.kind() == io::ErrorKind::NotFound)?;
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    if name(folder)? == "hotkeys" {
        let wallet = name(folder.parent()?)?;
        return Some(format!("ptn-cli wallet new-hotkey {wallet}/{}", name(path)?));
    }
    let is_coldkey = name(path)?.starts_with("coldkey");
    is_coldkey.then(|| name(folder)).flatten().map(|w| format!("ptn-cli wallet new-coldkey {w}"))
}

impl From<ChainError> for Failure {
    fn from(error: ChainError) -> Self {
        use ChainError as E;
        let exit = match (&error, error.class()) {
            (
                E::Connect { .. }
                | E::Lost { .. }
                | E::Timeout { .. }
                | E::BadAnswer { .. }
                | E::NodeRefused { .. }
                | E::Behind { .. }
                | E::Unreachable { .. },
                _,
            ) => process::UNREACHABLE,
            (E::WrongGenesis { .. }, _) | (_, ErrorClass::Input) => process::USAGE,
            (E::PriceAboveLimit { .. }, _) | (_, ErrorClass::Rejected) => process::REFUSED,
            // Waiting does not help against these.
            (E::MissingShape { .. } | E::Extension { .. }, _) => process::FAILED,
            (_, ErrorClass::Unavailable) => process::UNAVAILABLE,
            (_, ErrorClass::Uncertain) => process::UNKNOWN,
            _ => process::FAILED,
        };
        Self::new(exit, error.code(), error.to_string()).hint(error.hint())
    }
}

impl From<PhraseError> for Failure {
    fn from(error: PhraseError) -> Self {
        Self::new(process::USAGE, error.code(), error.to_string())
    }
}

impl From<SignalError> for Failure {
    fn from(error: SignalError) -> Self {
        let field = Some(error.field().to_owned()).filter(|f| !f.is_empty());
        let failure = Self::new(process::USAGE, error.code().as_str(), error.to_string());
        Self { field, ..failure }
    }
}
