//! Wallets against the real bittensor packages, both ways: opt-in, by `tests/interop/run.sh`.
//!
//! Without `PTN_INTEROP=1` every test says so and returns; with it, missing Python environments
//! are a failure. All keys are throwaway.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a failed expectation is how a test fails"
)]

use std::path::Path;
use std::process::{Command, Stdio};

use ptn_core::wallet::password::{to_variable, variable_name};
use ptn_core::wallet::{
    Key, Password, Place, Replace, WalletError, keyfile, open_blocking, polkadot_js, read_public,
};
use serde_json::Value;

/// bittensor_wallet 4.0.1 (of bittensor 10), 4.1.1, and bittensor 11.
const PEERS: [&str; 3] = ["legacy", "wallet", "btauth"];
const PASSWORD: &str = "correct hörse";

fn wanted(test: &str) -> bool {
    let wanted = std::env::var_os("PTN_INTEROP").is_some_and(|v| v == "1");
    if !wanted {
        eprintln!("{test} is opt-in: run tests/interop/run.sh");
    }
    wanted
}

/// What the package of a peer says about the wallets in a folder.
fn python(peer: &str, role: &str, wallets: &Path, variable: Option<(String, String)>) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop");
    let python = folder.join(format!(".venv-{peer}/bin/python"));
    assert!(python.exists(), "{} is missing: run tests/interop/run.sh", python.display());
    let output = Command::new(python)
        .arg(folder.join("wallet.py"))
        .args([role, wallets.to_str().unwrap(), PASSWORD])
        .env("HOME", wallets)
        .envs(variable)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{peer} {role}: {text}\n{errors}");
    let line = text.lines().rev().find_map(|line| serde_json::from_str(line).ok());
    line.unwrap_or_else(|| panic!("{peer} {role}: {text}\n{errors}"))
}

fn place(wallets: &Path, hotkey: &str) -> Place {
    Place::new(wallets, "miner", hotkey).unwrap()
}

fn password() -> Password {
    Password::new(PASSWORD).unwrap()
}

#[test]
fn files_of_the_real_packages_open_here() {
    if !wanted("files_of_the_real_packages_open_here") {
        return;
    }
    for peer in PEERS {
        let dir = tempfile::tempdir().unwrap();
        let said = python(peer, "write", dir.path(), None);
        let plain = place(dir.path(), "plain");
        let never = |_| -> Result<Password, WalletError> { panic!("{peer}: it is not encrypted") };
        for (what, opened) in [
            ("coldkey", open_blocking(&plain.coldkey(), |_| Ok(password()))),
            ("plain", open_blocking(&plain.hotkey(), never)),
            ("locked", open_blocking(&place(dir.path(), "locked").hotkey(), |_| Ok(password()))),
        ] {
            let key = opened.unwrap_or_else(|e| panic!("{peer} {what}: {e}"));
            assert_eq!(said[what], key.address(), "{peer} {what}");
            assert!(key.phrase().is_some() && key.seed().is_some(), "{peer} {what}");
        }
        assert_eq!(said["coldkeypub"], read_public(&plain.coldkeypub()).unwrap(), "{peer}");
        assert_eq!(said["plainpub"], read_public(&plain.hotkeypub()).unwrap(), "{peer}");
        let name = variable_name(plain.coldkey().to_str().unwrap());
        assert_eq!(said["variable"], name, "{peer}");
    }
}

#[test]
fn files_written_here_open_in_the_real_packages() {
    if !wanted("files_written_here_open_in_the_real_packages") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let wallets = dir.path();
    let (cold, hot) = (Key::generate(24).unwrap(), Key::generate(12).unwrap());
    // One that has neither phrase nor seed, as derived keys have.
    let uri = format!("{}//hard/soft", Key::generate(12).unwrap().phrase().unwrap());
    let derived = Key::from_uri(&uri).unwrap();
    let (plain, locked) = (place(wallets, "plain"), place(wallets, "locked"));
    plain.save_coldkey(&cold, Some(&password()), Replace::Never).unwrap();
    plain.save_hotkey(&hot, None, Replace::Never).unwrap();
    locked.save_hotkey(&derived, Some(&password()), Replace::Never).unwrap();
    assert!(keyfile::encryption(&std::fs::read(locked.hotkey()).unwrap()).is_some());
    let account = polkadot_js::export(&cold, &password(), "miner", 0).unwrap();
    std::fs::write(wallets.join("account.json"), account).unwrap();
    let name = variable_name(plain.coldkey().to_str().unwrap());
    let variable = (name.clone(), to_variable(&name, &password()));
    for peer in PEERS {
        let said = python(peer, "read", wallets, Some(variable.clone()));
        for (what, key) in [
            ("coldkey", &cold),
            ("plain", &hot),
            ("locked", &derived),
            ("coldkeypub", &cold),
            ("plainpub", &hot),
            ("account", &cold),
            ("by_variable", &cold),
        ] {
            assert_eq!(said[what], key.address(), "{peer} {what}: {said}");
        }
        assert!(said["wrong"].is_string(), "{peer} took a wrong password: {said}");
    }
}
