//! Files that others leave in the spool, and a journal that was damaged.
//!
//! The first byte chooses: a file to adopt under the name in its first line, with the era (0, 1, 2), a
//! finished signal's file (3), one line of the journal (4), or a whole journal (5: as it is; 6: every
//! line gets a right checksum first, so that its content is reached).

use std::sync::Arc;

use ptn_core::record::legacy;
use ptn_core::rules::Era;
use ptn_core::signal::Signal;
use ptn_core::store::fs::{FsOptions, probe};
use ptn_core::store::{Accepted, Filter, FsStore, SignalStore as _, StoreError};

use super::{ERAS, block_on, readable, rules};

/// See the module.
pub fn spool(data: &[u8]) {
    let Some((selector, bytes)) = data.split_first() else { return };
    match selector % 7 {
        era @ 0..=2 => foreign(ERAS[usize::from(era)], bytes),
        3 => finished(bytes),
        4 => line(bytes),
        5 => journal(bytes),
        _ => journal(&sealed(bytes)),
    }
}

/// A folder in memory, where the system has one.
pub(super) fn folder() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }
        .expect("a folder")
}

fn foreign(era: Era, bytes: &[u8]) {
    let end = bytes.iter().position(|b| *b == b'\n').unwrap_or(bytes.len());
    let (name, text) = bytes.split_at(end);
    let text = text.get(1..).unwrap_or_default();
    let name = String::from_utf8_lossy(name);
    let rules = rules(era);
    match probe::foreign_file(&name, text, rules) {
        Ok(signal) => {
            super::check_signal(&signal, rules);
            // The same file has the same content again.
            let again = probe::foreign_file(&name, text, rules).expect("it was read before");
            assert_eq!(again.digest(), signal.digest());
        }
        Err(why) => readable(&why),
    }
}

fn finished(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(stored) = legacy::read_finished(text) {
        let kept = stored.signal.to_stored();
        assert_eq!(Signal::from_stored(&kept).as_ref(), Ok(&stored.signal));
    }
}

fn line(json: &[u8]) {
    match probe::journal_line(json) {
        Ok(once) => {
            let twice = probe::journal_line(&once).expect("our own line");
            assert_eq!(String::from_utf8_lossy(&twice), String::from_utf8_lossy(&once));
        }
        Err(why) => assert!(why.len() <= json.len() + 400, "{why}"),
    }
}

/// Each line with its checksum; one that ends in a tab begins a batch.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    bytes
        .split(|b| *b == b'\n')
        .filter(|line| !line.is_empty())
        .flat_map(|line| match line.strip_suffix(b"\t") {
            Some(line) => probe::sealed_line(line, true),
            None => probe::sealed_line(line, false),
        })
        .collect()
}

/// A store over any journal opens or says what is damaged; what it opens, it opens the same again.
fn journal(bytes: &[u8]) {
    let folder = folder();
    drop(FsStore::open(folder.path(), options()).expect("an empty folder"));
    let journal = folder.path().join(".ptn/journal/journal.log");
    assert!(journal.is_file(), "the journal is elsewhere");
    std::fs::write(&journal, bytes).expect("a journal");
    let first = match list(folder.path()) {
        Ok(first) => first,
        Err(StoreError::Corrupt { at, what, .. }) => {
            assert!(at <= bytes.len() as u64, "byte {at} of {}", bytes.len());
            assert!(!what.is_empty());
            // Nothing was guessed, and nothing lost: the file is as it was found.
            assert_eq!(std::fs::read(&journal).expect("the journal"), bytes);
            return;
        }
        Err(error) => panic!("{error}"),
    };
    assert_eq!(list(folder.path()).expect("it opened before"), first);
    // It takes signals again, and has them after a restart.
    let store = FsStore::open(folder.path(), options()).expect("it opened before");
    let body = br#"{"trade_pair":"BTCUSDC","order_type":"LONG","value":1}"#;
    let signal = Signal::from_json(body, rules(Era::Y2026)).expect("a signal");
    let accepted = block_on(store.accept(&signal)).expect("room");
    assert!(matches!(accepted, Accepted::New { .. }), "{accepted:?}");
    drop(store);
    let last = list(folder.path()).expect("it opened before");
    assert!(last.iter().any(|(_, id, ..)| id == signal.id().as_str()));
}

fn options() -> FsOptions {
    let mut options = FsOptions::new(Arc::clone(rules(Era::Y2026)));
    options.inotify = false;
    options
}

type Row = (u64, String, String, usize);

fn list(folder: &std::path::Path) -> Result<Vec<Row>, StoreError> {
    let store = FsStore::open(folder, options())?;
    let filter = Filter { limit: 1000, ..Filter::default() };
    let list = block_on(store.list(&filter))?;
    Ok(list
        .into_iter()
        .map(|s| {
            let text = s.signal.to_stored();
            (s.seq, s.signal.id().as_str().to_owned(), text, s.validators.len())
        })
        .collect())
}

/// A line of the journal around any content, for a first corpus.
pub fn sealed_line(json: &[u8]) -> Vec<u8> {
    probe::sealed_line(json, true)
}
