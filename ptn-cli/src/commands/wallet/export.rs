//! `wallet export`: a key as a JSON account of polkadot-js, or its phrase on the screen.

use std::path::PathBuf;

use clap::Args;
use ptn_core::ops::config::expand_home;
use ptn_core::ops::process;
use ptn_core::ops::terminal::Terminal;
use ptn_core::ops::wallet::{ask_twice, from_file};
use ptn_core::wallet::{Key, Replace, WalletError, open_blocking, polkadot_js, write};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{Wallet, Which, ask};
use crate::Outcome;
use crate::failure::Failure;
use crate::output::{Output, Style};
use crate::text;

/// Arguments of `wallet export`.
#[derive(Debug, Clone, Args)]
pub(super) struct ExportArgs {
    /// Which key (default: the hotkey when one is named, else the coldkey)
    #[arg(long, value_enum)]
    key: Option<Which>,
    /// File to write the JSON to; an existing one is never overwritten. Without it: stdout
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// File with the password for the JSON (default: a question on the terminal)
    #[arg(long, value_name = "FILE", visible_alias = "json-password-file")]
    export_password_file: Option<PathBuf>,
    /// Show the recovery phrase, or the seed where there is none, instead of a JSON
    #[arg(long, alias = "show-mnemonic", conflicts_with_all = ["out", "export_password_file"])]
    show: bool,
    /// Ask nothing; what would be asked for must be given
    #[arg(long, short, alias = "no-prompt")]
    yes: bool,
}

pub(super) fn run(wallet: &Wallet, args: &ExportArgs, out: &mut Output) -> Outcome {
    let named = if wallet.named.hotkey { Which::Hotkey } else { Which::Coldkey };
    let which = args.key.unwrap_or(named);
    let path = wallet.path(which);
    if args.show && !args.yes {
        ask::confirm(&format!("Show the secret of {} on this screen?", path.display()))?;
    }
    let passwords = wallet.passwords();
    let key = open_blocking(&path, |format| passwords.to_open(&path, format))?;
    if args.show {
        return show(&key, out);
    }
    let password = match (&args.export_password_file, Terminal::open()) {
        (Some(file), _) => from_file(&expand_home(&file.to_string_lossy()))?,
        (None, Some(terminal)) => ask_twice(&terminal, "Password for the JSON: ")?,
        (None, None) => {
            return Err(Failure::usage("the JSON needs a password of its own")
                .hint("--export-password-file FILE"));
        }
    };
    let name = match which {
        Which::Coldkey => wallet.place.wallet().to_owned(),
        Which::Hotkey => format!("{}/{}", wallet.place.wallet(), wallet.place.hotkey_name()),
    };
    let account = polkadot_js::export(&key, &password, &name, text::now())
        .map_err(|source| WalletError::File { path, source })?;
    let Some(file) = &args.out else {
        out.line(account)?;
        return Ok(process::OK);
    };
    write(file, account.as_bytes(), Replace::Never, std::path::Path::new("."))?;
    if out.is_json() {
        out.document(&json!({"ss58_address": key.address(), "path": file}))?;
    } else {
        out.talk(format!("{} {}", out.paint_talk(Style::Good, "wrote"), file.display()));
        out.line(key.address())?;
    }
    Ok(process::OK)
}

fn show(key: &Key, out: &mut Output) -> Outcome {
    let seed = key.seed().map(|s| Zeroizing::new(format!("0x{}", hex::encode(s))));
    let (kind, secret) = match (key.phrase(), &seed) {
        (Some(phrase), _) => ("mnemonic", phrase),
        (None, Some(seed)) => ("seed", seed.as_str()),
        (None, None) => {
            return Err(Failure::failed(
                "no_phrase",
                "this key has neither a phrase nor a seed: it was derived, or came from polkadot-js",
            )
            .hint("export it as JSON: ptn-cli wallet export --out FILE"));
        }
    };
    if out.is_json() {
        let mut result = json!({"ss58_address": key.address()});
        if let Some(map) = result.as_object_mut() {
            map.insert(kind.to_owned(), Value::from(secret));
        }
        out.document(&result)?;
    } else {
        out.talk(key.address());
        out.line(secret)?;
    }
    Ok(process::OK)
}
