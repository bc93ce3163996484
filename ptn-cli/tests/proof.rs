//! `signals receipt`, `check-receipt` and `verify`, and what is said of signals that failed and of files
//! that were refused, as a user runs them.
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
use ptn_core::record::{DeliveryReport, DeliveryState, Progress, SignalState, ValidatorRecord};
use ptn_core::rules::{Era, Rules};
use ptn_core::signal::Signal;
use ptn_core::store::SignalStore as _;
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

/// A folder with one signal that failed.
async fn with_a_failure(reason: &str, validators: Vec<ValidatorRecord>) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let rules = Arc::new(Rules::load(Era::Y2026).unwrap());
    let options = FsOptions::new(Arc::clone(&rules));
    let store = FsStore::open_owner(dir.path().join("mining"), options).unwrap();
    let body = br#"{"trade_pair":"BTCUSDC","order_type":"LONG","leverage":0.1,"order_uuid":"f-1"}"#;
    assert!(store.accept(&Signal::from_json(body, &rules).unwrap()).await.is_ok());
    let lease = store.claim(1).await.unwrap().pop().unwrap();
    for validator in validators.clone() {
        store.record(&lease, Progress::Outcome { validator }).await.unwrap();
    }
    let (state, reason) = (SignalState::Failed, reason.to_owned());
    let report =
        DeliveryReport { state, reason, validators, finished_at: lease.stored.accepted_at };
    store.finish(&lease, &report).await.unwrap();
    dir
}

#[tokio::test]
async fn a_signal_that_was_sent_to_nobody_says_why() {
    let why = "the mothership 5Fe is not among the validators; give its hotkey";
    let dir = with_a_failure(why, Vec::new()).await;
    let order = ["BTCUSDC", "long", "0.1x", "--order-uuid", "f-1"];
    let sent = run(dir.path(), &[&["send"], &order[..]].concat());
    assert_eq!(sent.code, 1, "{sent:?}");
    assert!(sent.err.contains("failed") && sent.err.contains(why), "{sent:?}");
    let shown = run(dir.path(), &["signals", "show", "f-1"]);
    for part in [why, "validators  none: it was sent to nobody"] {
        assert!(shown.out.contains(part), "{part}: {shown:?}");
    }
    assert!(!shown.out.contains("not decided yet"), "{shown:?}");
    assert!(shown.err.contains("when that is mended: ptn-cli signals retry f-1"), "{shown:?}");
    let json = run(dir.path(), &["signals", "show", "f-1", "--json"]).json();
    assert_eq!(json["reason"], why);
}

#[tokio::test]
async fn nobody_is_told_to_send_again_to_a_validator_that_is_gone() {
    let mut gone = ValidatorRecord::new("5Gone", "127.0.0.1:1".to_owned(), true, 0);
    gone.state = DeliveryState::Cancelled;
    gone.code = "left_metagraph".to_owned();
    gone.message = "it is no longer among the validators".to_owned();
    let dir = with_a_failure("gone", vec![gone]).await;
    let shown = run(dir.path(), &["signals", "show", "f-1"]);
    assert!(shown.err.contains("left the list of validators"), "{shown:?}");
    assert!(shown.err.contains("a new order"), "{shown:?}");
    assert!(!shown.err.contains("signals retry"), "{shown:?}");
    assert!(!shown.out.contains("reason"), "the validator's line says it: {shown:?}");
    let again = run(dir.path(), &["signals", "retry", "f-1"]);
    assert_eq!(again.code, 0, "{again:?}");
    assert!(again.err.contains("unless it is back"), "{again:?}");
}

#[test]
fn a_file_that_was_refused_is_counted_and_explained() {
    let dir = with_a_signal();
    let failed = dir.path().join("mining/failed_signals");
    let clean = run(dir.path(), &["signals", "list", "--json"]);
    assert_eq!(clean.json().get("refused_files"), None, "{clean:?}");
    std::fs::write(failed.join("f6"), r#"{"trade_pair":"BTCUSD"}"#).unwrap();
    let why = "trade_pair: validators refuse BTCUSD";
    std::fs::write(failed.join("f6.reason.txt"), format!("{why}\n")).unwrap();

    let list = run(dir.path(), &["signals", "list", "--state", "failed"]);
    for part in ["1 file in ", "failed_signals was refused", "ptn-cli signals show f6"] {
        assert!(list.err.contains(part), "{part}: {list:?}");
    }
    let waiting = run(dir.path(), &["signals", "list", "--state", "pending"]);
    assert!(!waiting.err.contains("refused"), "{waiting:?}");
    let json = run(dir.path(), &["signals", "list", "--json"]).json();
    assert_eq!(json["refused_files"]["count"], 1, "{json}");
    assert_eq!(json["signals"].as_array().unwrap().len(), 1);

    let shown = run(dir.path(), &["signals", "show", "f6"]);
    assert_eq!(shown.code, 0, "{shown:?}");
    assert!(
        shown.out.contains("refused: it was no signal") && shown.out.contains(why),
        "{shown:?}"
    );
    assert!(shown.err.contains("drop it again: mv "), "{shown:?}");
    let json = run(dir.path(), &["signals", "show", "f6", "--json"]).json();
    assert_eq!((&json["state"], &json["reason"]), (&"refused".into(), &why.into()));
    for name in ["retry", "cancel"] {
        let said = run(dir.path(), &["signals", name, "f6"]);
        assert!(said.code == 2 && said.err.contains(why), "{said:?}");
    }
    assert_eq!(run(dir.path(), &["signals", "show", "f7"]).code, 2);
    let report =
        run(dir.path(), &["doctor", "--json", "--axon.port", "0", "--validators", "v"]).json();
    let checks = report["checks"].as_array().unwrap();
    let refused = checks.iter().find(|c| c["check"] == "refused").unwrap();
    assert_eq!(refused["level"], "warn");
    assert!(refused["message"].as_str().unwrap().contains(why), "{refused}");

    // Mended and dropped again.
    std::fs::remove_file(failed.join("f6")).unwrap();
    let list = run(dir.path(), &["signals", "list"]);
    assert!(!list.err.contains("refused"), "{list:?}");
}

#[test]
fn beside_a_miner_a_copy_is_checked() {
    let dir = with_a_signal();
    let rules = Arc::new(Rules::load(Era::Y2026).unwrap());
    let miner = FsStore::open_owner(dir.path().join("mining"), FsOptions::new(rules)).unwrap();
    let said = run(dir.path(), &["signals", "verify"]);
    assert_eq!(said.code, 75, "{said:?}");
    for part in ["a miner delivers from", "stop it, or check a copy: cp -a"] {
        assert!(said.err.contains(part), "{part}: {said:?}");
    }
    assert!(!said.err.contains("its own --data-dir"), "{said:?}");
    drop(miner);
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
