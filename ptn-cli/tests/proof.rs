//! `signals receipt`, `check-receipt` and `verify`, as a user runs them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a failed expectation is how a test fails"
)]

mod common;

use std::sync::Arc;

use common::run;
use ptn_core::rules::{Era, Rules};
use ptn_core::store::fs::{FsOptions, FsStore};
use ptn_server::{App, ServerConfig, run_app};
use tempfile::TempDir;

const ID: &str = "7f3c1e52-0b7e-4f4e-9d57-3f1d1c2b9a10";

/// A folder with one signal that waits.
fn with_a_signal() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let body = format!(
        r#"{{"trade_pair":"BTCUSDC","order_type":"LONG","leverage":0.1,"order_uuid":"{ID}"}}"#
    );
    std::fs::write(dir.path().join("signal.json"), body).unwrap();
    let said = run(dir.path(), &["send", "--file", "signal.json", "--no-wait"]);
    assert_eq!(said.code, 0, "{said:?}");
    dir
}

#[test]
fn a_receipt_is_printed_kept_signed_and_checked() {
    let dir = with_a_signal();
    let home = dir.path();
    let made = run(home, &["wallet", "new-hotkey", "w/h", "--no-password", "--yes", "--json"]);
    assert_eq!(made.code, 0, "{made:?}");
    let plain = run(home, &["signals", "receipt", "7f3c1e52"]);
    assert_eq!(plain.code, 0, "{plain:?}");
    assert_eq!(plain.json()["order_uuid"], ID);
    assert!(plain.err.contains("is not finished"), "{plain:?}");
    std::fs::write(home.join("plain.json"), &plain.out).unwrap();
    let sign = ["--sign", "--wallet.name", "w", "--wallet.hotkey", "h", "--json"];
    let signed = run(home, &[&["signals", "receipt", ID], &sign[..]].concat());
    assert_eq!(signed.code, 0, "{signed:?}");
    let hotkey = signed.json()["signed_by"].as_str().unwrap().to_owned();
    std::fs::write(home.join("signed.json"), &signed.out).unwrap();
    let checked = run(home, &["signals", "check-receipt", "plain.json", "signed.json"]);
    assert_eq!(checked.code, 0, "{checked:?}");
    assert!(checked.out.contains(&format!("plain.json: unchanged, not signed; {ID} was pending")));
    assert!(checked.out.contains(&format!("signed.json: unchanged, signed by {hotkey}")));
    std::fs::write(home.join("forged.json"), signed.out.replace("LONG", "SHORT")).unwrap();
    let forged = run(home, &["signals", "check-receipt", "forged.json"]);
    assert_eq!(forged.code, 1, "{forged:?}");
    assert!(forged.out.contains("no proof: the receipt was changed"), "{forged:?}");
    let nothing = run(home, &["signals", "check-receipt", "absent.json"]);
    assert!(nothing.code != 0 && nothing.err.contains("absent.json"), "{nothing:?}");
}

#[test]
fn verify_tells_a_sound_store_from_a_broken_one() {
    let dir = with_a_signal();
    let sound = run(dir.path(), &["signals", "verify"]);
    assert_eq!(sound.code, 0, "{sound:?}");
    assert!(sound.out.contains("1 signal (1 waiting, 0 processed, 0 failed)"), "{sound:?}");
    assert!(sound.out.contains("everything holds"), "{sound:?}");
    let journal = dir.path().join("mining/.ptn/journal/journal.log");
    let text = std::fs::read_to_string(&journal).unwrap();
    std::fs::write(&journal, text.replace("LONG", "SHRT")).unwrap();
    let broken = run(dir.path(), &["signals", "verify"]);
    assert_eq!(broken.code, 1, "{broken:?}");
    assert!(broken.out.contains("broken journal_damaged: "), "{broken:?}");
    assert!(broken.err.contains("does not hold what it promises"), "{broken:?}");
    let json = run(dir.path(), &["signals", "verify", "--json"]);
    assert_eq!(json.json()["findings"][0]["severity"], "broken", "{json:?}");
    let absent = run(dir.path(), &["signals", "verify", "--data-dir", "elsewhere"]);
    assert_eq!(absent.code, 2, "{absent:?}");
    assert!(absent.err.contains("elsewhere is no data directory"), "{absent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_gives_the_same_receipt() {
    let dir = with_a_signal();
    let data_dir = dir.path().join("mining");
    std::fs::write(data_dir.join("miner_secrets.json"), r#"{"api_key": "k"}"#).unwrap();
    let rules = Arc::new(Rules::load(Era::Y2026).unwrap());
    let store = FsStore::open(&data_dir, FsOptions::new(Arc::clone(&rules))).unwrap();
    let mut config = ServerConfig::default();
    config.data_dir = data_dir;
    let app = App::new(config, Arc::new(store), rules).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(run_app(app, listener, std::future::pending()));
    std::fs::write(dir.path().join("key"), "k").unwrap();
    let home = dir.path().to_owned();
    let both = tokio::task::spawn_blocking(move || {
        let server = ["--url", &url, "--api-key-file", "key"];
        let there = run(&home, &[&["signals", "receipt", ID, "--json"], &server[..]].concat());
        (there, run(&home, &["signals", "receipt", ID, "--json"]))
    });
    let (there, here) = both.await.unwrap();
    assert_eq!(there.code, 0, "{there:?}");
    assert_eq!(there.out, here.out);
}
