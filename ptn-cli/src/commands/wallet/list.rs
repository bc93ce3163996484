//! `wallet list`: a tree of wallets with their addresses. Nothing is decrypted.

use ptn_core::ops::config::expand_home;
use ptn_core::ops::process;
use ptn_core::wallet::{KeyState, list};
use serde_json::{Value, json};

use super::Wallet;
use crate::Outcome;
use crate::output::{Output, Style};
use crate::text;

pub(super) fn run(wallet: &Wallet, out: &mut Output) -> Outcome {
    let root = expand_home(wallet.settings.get("wallet.path").unwrap_or("~/.bittensor/wallets"));
    let only = wallet.named.wallet.then(|| wallet.place.wallet());
    let mut wallets = list(&root)?;
    wallets.retain(|w| only.is_none_or(|name| w.name == name));
    if out.is_json() {
        let wallets: Vec<Value> = wallets
            .iter()
            .map(|w| {
                let hotkeys: Vec<Value> = w.hotkeys.iter().map(|(n, k)| key(Some(n), k)).collect();
                json!({
                    "name": w.name,
                    "path": w.folder,
                    "coldkey": w.coldkey.as_ref().map(|k| key(None, k)),
                    "hotkeys": hotkeys,
                })
            })
            .collect();
        out.document(&json!({"path": root, "wallets": wallets}))?;
        return Ok(process::OK);
    }
    if wallets.is_empty() {
        let none = format!("no wallet in {}; make one: ptn-cli wallet new-coldkey", root.display());
        out.talk(none);
        return Ok(process::OK);
    }
    out.line(root.display())?;
    let width = |names: &mut dyn Iterator<Item = usize>| names.max().unwrap_or(0);
    for (i, w) in wallets.iter().enumerate() {
        let last = i + 1 == wallets.len();
        let (branch, stem) = if last { ("└── ", "    ") } else { ("├── ", "│   ") };
        let name = out.paint(Style::Strong, text::harmless(&w.name));
        let cold = w.coldkey.as_ref().map_or_else(
            || out.paint(Style::Dim, "no coldkey here"),
            |k| format!("coldkey {}", describe(k, out)),
        );
        out.line(format!("{branch}{name}  {cold}"))?;
        let longest = width(&mut w.hotkeys.iter().map(|(n, _)| n.chars().count()));
        for (j, (name, state)) in w.hotkeys.iter().enumerate() {
            let branch = if j + 1 == w.hotkeys.len() { "└── " } else { "├── " };
            let name = text::pad(&text::harmless(name), longest);
            out.line(format!("{stem}{branch}{name}  hotkey {}", describe(state, out)))?;
        }
    }
    Ok(process::OK)
}

fn describe(state: &KeyState, out: &Output) -> String {
    let mut words = vec![state.address.clone().unwrap_or_else(|| "address unknown".to_owned())];
    match state.encryption {
        _ if !state.has_secret => words.push(out.paint(Style::Dim, "public file only")),
        Some(how) => words.push(out.paint(Style::Dim, format!("encrypted ({how})"))),
        None => {}
    }
    if let Some(problem) = &state.problem {
        words.push(out.paint(Style::Bad, text::harmless(problem)));
    }
    words.join("  ")
}

fn key(name: Option<&str>, state: &KeyState) -> Value {
    let mut value = json!({
        "ss58_address": state.address,
        "path": state.path,
        "has_secret": state.has_secret,
        "encryption": state.encryption,
        "problem": state.problem,
    });
    if let (Some(name), Some(map)) = (name, value.as_object_mut()) {
        map.insert("name".to_owned(), name.into());
    }
    value
}
