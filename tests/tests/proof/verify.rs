//! `verify` and audits: sound stores pass, and every kind of damage is found and named.

use std::collections::BTreeMap;

use ptn_core::record::{DeliveryState, SignalState, SignedRequest, ValidatorRecord};
use ptn_core::store::audit::{Audit, Severity, Verified};
use ptn_core::store::fs::verify;
use ptn_core::store::{StoreError, StoredSignal};

use super::*;

fn broken(seen: &Verified) -> Vec<&str> {
    let broken = seen.findings.iter().filter(|f| f.severity == Severity::Broken);
    broken.map(|f| f.code).collect()
}

#[tokio::test]
async fn a_data_directory_that_was_lived_in_holds_everything() {
    let dir = lived_in().await;
    let seen = verify(dir.path()).unwrap();
    assert!(seen.is_sound() && seen.findings.is_empty(), "{seen:?}");
    assert_eq!((seen.pending, seen.processed, seen.failed), (1, 3, 0));
    assert_eq!(seen.requests, 6);
    assert!(seen.journal_lines > 12, "{seen:?}");
}

#[tokio::test]
async fn it_changes_nothing_and_leaves_a_running_miner_alone() {
    let dir = lived_in().await;
    let owner = store(dir.path());
    let refused = verify(dir.path());
    assert!(matches!(refused, Err(StoreError::Locked { .. })), "{refused:?}");
    drop(owner);
    let all = || {
        let mut files = BTreeMap::new();
        let mut folders = vec![dir.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let modified = path.metadata().unwrap().modified().unwrap();
                    files.insert(path.clone(), (std::fs::read(&path).unwrap(), modified));
                }
            }
        }
        files
    };
    let before = all();
    verify(dir.path()).unwrap();
    assert!(before == all());
}

/// Damage, the code of what must be found, and whether the journal has forgotten the signal.
type Case = (&'static str, &'static str, bool, fn(&Path));

#[tokio::test]
async fn every_kind_of_damage_is_found_and_named() {
    let cases: &[Case] = &[
        ("a bit of the journal flips", "journal_damaged", false, |dir| {
            let path = dir.join(".ptn/journal/journal.log");
            let mut bytes = std::fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(path, bytes).unwrap();
        }),
        ("the journal is gone", "journal_head", false, |dir| {
            std::fs::write(dir.join(".ptn/journal/journal.log"), "").unwrap();
        }),
        ("a processed file is gone", "missing", true, |dir| {
            std::fs::remove_file(dir.join("processed_signals/two")).unwrap();
        }),
        ("a processed file is cut short", "missing", true, |dir| {
            let path = dir.join("processed_signals/two");
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::write(path, &text[..text.len() / 2]).unwrap();
        }),
        ("a processed file says another leverage", "digest", true, |dir| {
            let path = dir.join("processed_signals/two");
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::write(path, text.replace("0.1", "0.9")).unwrap();
        }),
        ("only what Python's scripts read says another leverage", "changed", true, |dir| {
            let path = dir.join("processed_signals/two");
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::write(path, text.replacen("0.1", "0.9", 1)).unwrap();
        }),
        ("a processed file stands under another name", "wrong_name", true, |dir| {
            let processed = dir.join("processed_signals");
            std::fs::rename(processed.join("two"), processed.join("zwei")).unwrap();
        }),
        ("a processed file stands among the failed ones", "wrong_folder", true, |dir| {
            let to = dir.join("failed_signals/two");
            std::fs::rename(dir.join("processed_signals/two"), to).unwrap();
        }),
        ("the end of the journal is cut at a line", "journal_behind", true, |dir| {
            let path = dir.join(".ptn/journal/journal.log");
            let text = std::fs::read_to_string(&path).unwrap();
            let (head, rest) = text.split_once('\n').unwrap();
            let seq = head.rsplit_once("\"seq\":").unwrap().1.trim_end_matches('}');
            assert!(rest.contains("accept") && seq.parse::<u64>().unwrap() >= 3, "{head}");
            let zero = br#"{"kind":"journal","version":1,"seq":0}"#;
            std::fs::write(&path, ptn_core::store::fs::probe::sealed_line(zero, true)).unwrap();
        }),
        ("a signal has two ends", "two_ends", true, |dir| {
            let from = dir.join("processed_signals/two");
            std::fs::copy(from, dir.join("failed_signals/two")).unwrap();
        }),
        ("a finished signal waits as well", "finished_and_waiting", false, |dir| {
            let text = std::fs::read_to_string(dir.join("processed_signals/two")).unwrap();
            let text = text.replace("\"two\"", "\"four\"");
            std::fs::write(dir.join("processed_signals/four"), text).unwrap();
        }),
    ];
    for (what, code, forgotten, damage) in cases {
        let dir = lived_in().await;
        if *forgotten {
            forget_journal(dir.path()).await;
        }
        damage(dir.path());
        let seen = verify(dir.path()).unwrap();
        assert!(broken(&seen).contains(code), "{what}: {:?}", seen.findings);
        assert!(!seen.is_sound());
    }
}

#[tokio::test]
async fn a_signal_whose_file_was_changed_is_neither_shown_nor_sent_again() {
    let dir = lived_in().await;
    forget_journal(dir.path()).await;
    let (from, to) = (dir.path().join("processed_signals/two"), "failed_signals/two");
    let text = std::fs::read_to_string(&from).unwrap();
    std::fs::remove_file(from).unwrap();
    let failed = text.replace("\"processed\"", "\"failed\"").replace("LONG", "SHORT");
    std::fs::write(dir.path().join(to), failed).unwrap();
    let store = store(dir.path());
    for error in [
        store.retry(&id("two")).await.unwrap_err(),
        store.get(&id("two")).await.map(drop).unwrap_err(),
    ] {
        let said = error.to_string();
        assert!(error.code() == "store_corrupt" && said.contains(to), "{said}");
        assert!(said.contains("not the one that was accepted"), "{said}");
    }
    // The original is still known under its id.
    let same = store.accept(&signal("two", "BTCUSDC")).await.unwrap();
    assert!(matches!(same, ptn_core::store::Accepted::Same { .. }), "{same:?}");
}

#[tokio::test]
async fn without_its_journal_a_store_goes_on_after_what_is_finished() {
    let dir = lived_in().await;
    forget_journal(dir.path()).await;
    std::fs::remove_dir_all(dir.path().join(".ptn")).unwrap();
    let store = store(dir.path());
    let new = store.accept(&signal("five", "BTCUSDC")).await.unwrap();
    let ptn_core::store::Accepted::New { seq } = new else { panic!("{new:?}") };
    assert!(seq > 3, "the place {seq} is taken");
    let ids = ptn_core::store::transfer::Transfer::ids(&*store).await.unwrap();
    for name in ["one", "two", "three", "five"] {
        assert!(ids.contains(&id(name)), "{name} is not moved along: {ids:?}");
    }
}

#[tokio::test]
async fn what_the_next_start_mends_is_a_note() {
    let dir = lived_in().await;
    std::fs::remove_file(dir.path().join("received_signals/four")).unwrap();
    std::fs::remove_file(dir.path().join("processed_signals/two")).unwrap();
    let journal = dir.path().join(".ptn/journal/journal.log");
    let mut bytes = std::fs::read(&journal).unwrap();
    bytes.extend_from_slice(b"1234abcd>{\"kind\":\"acc");
    std::fs::write(&journal, bytes).unwrap();
    let seen = verify(dir.path()).unwrap();
    let codes: Vec<_> = seen.findings.iter().map(|f| f.code).collect();
    assert!(seen.is_sound(), "{seen:?}");
    assert_eq!(codes, ["torn_tail", "received_missing", "finished_late"]);
    drop(store(dir.path()));
    assert_eq!(verify(dir.path()).unwrap().findings, []);
}

fn request(nonce: u64, code: &str) -> SignedRequest {
    let sha256 = format!("{nonce:064x}");
    SignedRequest { at: 1, nonce, sha256, code: code.to_owned(), answered_at: Some(2) }
}

fn stored(seq: u64, pair: &str, requests: &[(u64, &str)]) -> StoredSignal {
    let mut record = ValidatorRecord::new("v1", "127.0.0.1:1".to_owned(), true, 1);
    record.requests = requests.iter().map(|(nonce, code)| request(*nonce, code)).collect();
    record.state = DeliveryState::Accepted;
    StoredSignal {
        seq,
        signal: signal(&format!("s{seq}"), pair),
        accepted_at: i64::try_from(seq).unwrap(),
        state: SignalState::Processed,
        validators: [("v1".to_owned(), record)].into(),
        finished_at: Some(100),
        reason: String::new(),
        cancel_requested: false,
    }
}

fn codes(signals: &[StoredSignal]) -> Vec<&'static str> {
    let mut audit = Audit::default();
    signals.iter().for_each(|stored| audit.add(stored));
    audit.into_findings().into_iter().map(|f| f.code).collect()
}

#[test]
fn an_audit_finds_every_broken_promise() {
    let sound = [
        stored(1, "BTCUSDC", &[(10, "timeout"), (11, "accepted")]),
        stored(2, "ETHUSDC", &[(5, "accepted")]),
        stored(3, "BTCUSDC", &[(12, "accepted")]),
    ];
    assert_eq!(codes(&sound), [""; 0]);
    let swapped = [
        stored(1, "BTCUSDC", &[(20, "accepted")]),
        stored(2, "ETHUSDC", &[(15, "accepted")]),
        stored(3, "BTCUSDC", &[(12, "accepted")]),
    ];
    assert_eq!(codes(&swapped), ["out_of_order"]);
    let overtaken = [
        stored(1, "BTCUSDC", &[(10, "timeout"), (20, "accepted")]),
        stored(3, "BTCUSDC", &[(12, "timeout"), (21, "accepted")]),
    ];
    assert_eq!(codes(&overtaken), ["out_of_order"]);
    let repeated = [stored(1, "BTCUSDC", &[(10, "accepted"), (11, "already_processed")])];
    assert_eq!(codes(&repeated), ["sent_after_acknowledgement"]);
    let twice = [stored(1, "BTCUSDC", &[]), stored(1, "ETHUSDC", &[])];
    assert_eq!(codes(&twice), ["place_taken_twice"]);
    let change = |change: fn(&mut ValidatorRecord)| {
        let mut one = stored(1, "BTCUSDC", &[(10, "accepted")]);
        one.validators.values_mut().for_each(change);
        codes(&[one])
    };
    let undecided = change(|v| {
        v.state = DeliveryState::Submitted;
        v.required = false;
        v.requests.clear();
    });
    assert_eq!(undecided, ["undecided"]);
    let rejected = change(|v| v.state = DeliveryState::Rejected);
    assert_eq!(rejected, ["not_acknowledged", "acknowledgement_lost"]);
    let mut nobody = stored(1, "BTCUSDC", &[]);
    nobody.validators.clear();
    assert_eq!(codes(&[nobody]), ["not_acknowledged"]);
}

#[test]
fn a_signal_that_was_retried_by_hand_stands_outside_of_the_order() {
    let mut retried = stored(1, "BTCUSDC", &[(10, "no_position"), (30, "accepted")]);
    retried.accepted_at = 25;
    assert_eq!(codes(&[retried, stored(2, "BTCUSDC", &[(20, "accepted")])]), [""; 0]);
}
