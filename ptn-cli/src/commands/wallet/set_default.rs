//! `wallet set-default`: writes the names into `ptn.toml`, where every program here looks.

use std::path::{Path, PathBuf};

use ptn_core::ops::process;
use ptn_core::wallet::list;
use serde_json::json;
use toml_edit::{DocumentMut, Item, Table, value};

use super::Wallet;
use crate::Outcome;
use crate::failure::Failure;
use crate::output::{Output, Style};

pub(super) fn run(wallet: &Wallet, config: Option<&String>, out: &mut Output) -> Outcome {
    if !wallet.named.wallet {
        return Err(Failure::usage("which wallet?").hint(
            "ptn-cli wallet set-default NAME/HOTKEY; they are shown by: ptn-cli wallet list",
        ));
    }
    ensure_there(wallet)?;
    let file = PathBuf::from(config.map_or("ptn.toml", String::as_str));
    let mut entries = vec![("name", wallet.place.wallet().to_owned())];
    if wallet.named.hotkey {
        entries.push(("hotkey", wallet.place.hotkey_name().to_owned()));
    }
    if wallet.named.path {
        let path = wallet.settings.get("wallet.path").unwrap_or_default();
        entries.push(("path", path.to_owned()));
    }
    write(&file, &entries)?;
    if out.is_json() {
        let set: serde_json::Map<_, _> =
            entries.iter().map(|(k, v)| (format!("wallet.{k}"), v.as_str().into())).collect();
        out.document(&json!({"written": file, "settings": set}))?;
        return Ok(process::OK);
    }
    for (key, value) in &entries {
        out.line(format!("wallet.{key} = {value:?}"))?;
    }
    let head = out.paint_talk(Style::Good, "wrote");
    out.talk(format!(
        "{head} {}: ptn-miner and ptn-cli read it when they start in this folder or with --config",
        file.display()
    ));
    Ok(process::OK)
}

/// Refuses names of keys that are not there: whatever reads the file would fail later.
fn ensure_there(wallet: &Wallet) -> Result<(), Failure> {
    let folder = wallet.place.folder();
    let root = folder.parent().unwrap_or(Path::new("."));
    let name = wallet.place.wallet();
    let wallets = list(root)?;
    let found = wallets.iter().find(|w| w.name == name);
    let found = found.filter(|w| w.coldkey.is_some() || !w.hotkeys.is_empty());
    let missing = |text: String, hint: String| {
        Err(Failure::new(process::USAGE, "wallet_missing", text).hint(hint))
    };
    let Some(found) = found else {
        return missing(
            format!("there is no wallet {name} in {}; nothing was written", root.display()),
            format!("make it: ptn-cli wallet new-coldkey {name}; see: ptn-cli wallet list"),
        );
    };
    let hotkey = wallet.place.hotkey_name();
    if wallet.named.hotkey && !found.hotkeys.iter().any(|(known, _)| known == hotkey) {
        return missing(
            format!("wallet {name} has no hotkey {hotkey}; nothing was written"),
            format!("make it: ptn-cli wallet new-hotkey {name}/{hotkey}; see: ptn-cli wallet list"),
        );
    }
    Ok(())
}

/// Changes these lines of the file and no others.
fn write(file: &Path, entries: &[(&str, String)]) -> Result<(), Failure> {
    let shown = file.display().to_string();
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(Failure::io("cannot read", &shown, &e)),
    };
    let wrong = |e: &dyn std::fmt::Display| Failure::usage(format!("{shown}: {e}"));
    let mut document: DocumentMut = text.parse().map_err(|e| wrong(&e))?;
    let table = document.entry("wallet").or_insert(Item::Table(Table::new()));
    let table = table.as_table_like_mut().ok_or_else(|| wrong(&"wallet is not a table"))?;
    for (key, text) in entries {
        match table.get_mut(key).and_then(Item::as_value_mut) {
            // The comment behind it stays.
            Some(old) => {
                let decor = old.decor().clone();
                *old = text.as_str().into();
                *old.decor_mut() = decor;
            }
            None => {
                table.insert(key, value(text));
            }
        }
    }
    let folder = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written = tempfile::NamedTempFile::new_in(folder).and_then(|mut tmp| {
        use std::io::Write as _;
        tmp.write_all(document.to_string().as_bytes())?;
        if let Ok(metadata) = std::fs::metadata(file) {
            tmp.as_file().set_permissions(metadata.permissions())?;
        }
        tmp.as_file().sync_all()?;
        tmp.persist(file).map_err(|e| e.error)?;
        std::fs::File::open(folder)?.sync_all()
    });
    written.map_err(|e| Failure::io("cannot write", &shown, &e))
}
