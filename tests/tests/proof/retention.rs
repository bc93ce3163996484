//! Retention: old processed signals move away and go, and nothing that counts is forgotten.

use ptn_core::record::SignalState;
use ptn_core::store::fs::{Retention, verify};
use ptn_core::store::{Accepted, Filter, SignalStore};

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

fn later(days: u64) -> impl Fn(&Path) -> Arc<FsStore> {
    // A clock is a plain function, so the days are chosen among a few.
    let clock: fn() -> i64 = match days {
        40 => || i64::try_from(now() + 40 * DAY.as_millis()).unwrap(),
        400 => || i64::try_from(now() + 400 * DAY.as_millis()).unwrap(),
        _ => panic!("another day"),
    };
    move |dir| {
        let mut options = FsOptions::new(Arc::new(rules()));
        options.clock = clock;
        Arc::new(FsStore::open_owner(dir, options).unwrap())
    }
}

fn now() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis()
}

fn months(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("archived_signals")).map_or(0, Iterator::count)
}

fn keep(archive_days: u32, delete_days: Option<u32>) -> Retention {
    let mut retention = Retention::KEEP;
    retention.archive_after = Some(DAY * archive_days);
    retention.delete_after = delete_days.map(|days| DAY * days);
    retention
}

#[tokio::test]
async fn archived_signals_are_still_known_shown_and_complete() {
    let dir = lived_in().await;
    let waiting = verify(dir.path()).unwrap().pending;
    std::fs::write(dir.path().join("processed_signals/of-python"), "{}").unwrap();
    let store = later(40)(dir.path());
    assert_eq!(store.tidy(keep(50, None)).await.unwrap().archived, 0);
    // The journal, which still told of them, is written anew for that.
    let done = store.tidy(keep(30, None)).await.unwrap();
    assert_eq!((done.archived, done.deleted), (3, 0));
    assert_eq!(store.tidy(keep(30, None)).await.unwrap().archived, 0, "once is enough");
    assert_eq!(months(dir.path()), 1);
    let left: Vec<_> = std::fs::read_dir(dir.path().join("processed_signals")).unwrap().collect();
    assert_eq!(left.len(), 1, "only the file that is not ours: {left:?}");
    // Across a restart as well, in which the journal is read again.
    drop(store);
    let store = later(40)(dir.path());
    let same = store.accept(&signal("two", "BTCUSDC")).await.unwrap();
    assert_eq!(same, Accepted::Same { state: SignalState::Processed });
    let conflict = store.accept(&signal("two", "ETHUSDC")).await.unwrap_err();
    assert_eq!(conflict.code(), "uuid_conflict");
    assert_eq!(store.get(&id("two")).await.unwrap().unwrap().seq, 2);
    let listed = store.list(&Filter::default()).await.unwrap();
    let mut listed: Vec<_> = listed.iter().map(|s| s.signal.id().as_str()).collect();
    listed.retain(|id| !id.starts_with("more"));
    assert_eq!(listed, ["four", "three", "two", "one"]);
    drop(store);
    let left: Vec<_> = std::fs::read_dir(dir.path().join("processed_signals")).unwrap().collect();
    assert_eq!(left.len(), 1, "the start wrote nothing back: {left:?}");
    let seen = verify(dir.path()).unwrap();
    assert!(seen.is_sound() && seen.findings.is_empty(), "{seen:?}");
    assert_eq!((seen.pending, seen.processed), (waiting, 3));
}

#[tokio::test]
async fn only_signals_are_deleted_whatever_else_lies_there() {
    let dir = lived_in().await;
    let archived = dir.path().join("archived_signals");
    let elsewhere = tempfile::tempdir().unwrap();
    let mut others = vec![elsewhere.path().join("cat.jpg")];
    std::fs::create_dir_all(archived.join("photos")).unwrap();
    std::fs::create_dir_all(archived.join("2024-01")).unwrap();
    others.extend(["photos/cat.jpg", "2024-01/notes.txt"].map(|name| archived.join(name)));
    let long_ago = std::time::SystemTime::now() - 900 * DAY;
    for path in &others {
        std::fs::write(path, "{}").unwrap();
        std::fs::File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
    }
    std::os::unix::fs::symlink(elsewhere.path(), archived.join("2024-02")).unwrap();
    std::fs::create_dir(archived.join("2024-03")).unwrap();
    let store = later(400)(dir.path());
    let done = store.tidy(keep(30, Some(365))).await.unwrap();
    assert_eq!((done.archived, done.deleted), (3, 3));
    for path in &others {
        assert!(path.exists(), "{} is gone", path.display());
    }
    assert!(archived.join("2024-03").exists(), "an empty folder that was not emptied here");
}

#[tokio::test]
async fn what_was_deleted_on_purpose_is_not_missing() {
    let dir = lived_in().await;
    forget_journal(dir.path()).await;
    let waiting = verify(dir.path()).unwrap().pending;
    let store = later(400)(dir.path());
    let done = store.tidy(keep(30, Some(365))).await.unwrap();
    assert_eq!((done.archived, done.deleted), (3, 3));
    assert_eq!(months(dir.path()), 0);
    // What waits is not touched, however old.
    assert_eq!(store.pending().await.unwrap().count, waiting);
    drop(store);
    let seen = verify(dir.path()).unwrap();
    assert!(seen.is_sound(), "{seen:?}");
    assert_eq!((seen.pending, seen.processed), (waiting, 0));
}
