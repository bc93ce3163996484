//! Moving signals between a data directory and a database, both ways.

use std::sync::Arc;

use ptn_core::record::{DeliveryState, Progress, SignalState};
use ptn_core::rules::{Era, Rules};
use ptn_core::store::conformance::{anonymous_signal, report, signal, validator};
use ptn_core::store::fs::FsOptions;
use ptn_core::store::transfer::{Transfer, transfer};
use ptn_core::store::{Accepted, Filter, FsStore, PgStore, SignalStore, StoreError, StoredSignal};
use ptn_tests::postgres::Database;

use super::{delivers, options};

fn fs_options() -> FsOptions {
    let mut options = FsOptions::new(Arc::new(Rules::load(Era::Y2026).unwrap()));
    options.even_if_moved = true;
    options
}

async fn database_store(database: &Database) -> PgStore {
    let mut options = options(&database.url());
    options.even_if_moved = true;
    let store = PgStore::open_owner(options).await.unwrap();
    delivers(&store).await;
    store
}

/// Signals in every state: processed, failed, half delivered, with a wish to cancel, untouched.
async fn fill(store: &dyn SignalStore, prefix: &str) {
    for n in 0..40 {
        drop(store.accept(&signal(&format!("{prefix}{n:02}"), n)).await.unwrap());
    }
    drop(store.accept(&anonymous_signal(1)).await.unwrap());
    let mut leases = Vec::new();
    while leases.len() < 30 {
        leases.extend(store.claim(30 - leases.len()).await.unwrap());
    }
    for (n, lease) in leases.iter().enumerate() {
        let both = ["V1", "V2"].map(|v| validator(v, DeliveryState::Submitted)).to_vec();
        store.record(lease, Progress::Targets { validators: both }).await.unwrap();
        let begin = Progress::Begin { hotkeys: vec!["V2".to_owned()] };
        store.record(lease, begin).await.unwrap();
        let v1 = validator("V1", DeliveryState::Accepted);
        store.record(lease, Progress::Outcome { validator: v1.clone() }).await.unwrap();
        match n % 3 {
            0 => {
                let v2 = validator("V2", DeliveryState::Accepted);
                store.finish(lease, &report(SignalState::Processed, vec![v1, v2])).await.unwrap();
            }
            1 => {
                let v2 = validator("V2", DeliveryState::Unknown);
                store.finish(lease, &report(SignalState::Failed, vec![v1, v2])).await.unwrap();
            }
            _ => store.cancel(lease.stored.signal.id()).await.unwrap(),
        }
    }
}

/// Everything, oldest first, without what belongs to a store (its own numbers).
async fn content(store: &dyn SignalStore) -> Vec<String> {
    let filter = Filter { limit: 1000, ..Filter::default() };
    let mut all = store.list(&filter).await.unwrap();
    all.reverse();
    let line = |s: &StoredSignal| {
        let cancel = s.cancel_requested && s.state == SignalState::Pending;
        format!(
            "{} {} {} {:?} {:?} {:?} {cancel}",
            s.signal.to_stored(),
            s.accepted_at,
            s.state,
            s.validators,
            s.finished_at,
            s.reason
        )
    };
    all.iter().map(line).collect()
}

async fn move_all(from: &dyn Transfer, to: &dyn Transfer) -> ptn_core::store::transfer::Moved {
    transfer(from, to, ("old", "new"), &mut |_, _| {}).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_and_back_again_keeps_everything() {
    let (database, dir) = (Database::new().await, tempfile::tempdir().unwrap());
    let fs = FsStore::open_owner(dir.path(), fs_options()).unwrap();
    fill(&fs, "f").await;
    let before = content(&fs).await;
    let pg = database_store(&database).await;
    let moved = move_all(&fs, &pg).await;
    assert_eq!((moved.written, moved.pending), (41, 21));
    assert_eq!(content(&pg).await, before);
    // Once more, it has nothing to do, and undoes nothing.
    assert_eq!(move_all(&fs, &pg).await.written, 0);

    let refused = fs.accept(&signal("late", 0)).await;
    assert!(refused.is_ok(), "a mover may write on both sides");
    drop(fs);
    let plain = FsOptions::new(fs_options().rules);
    for refused in
        [FsStore::open(dir.path(), plain.clone()), FsStore::open_owner(dir.path(), plain)]
    {
        let refused = refused.unwrap_err();
        assert!(matches!(&refused, StoreError::Moved { to, .. } if to == "new"), "{refused:?}");
    }

    // The database goes on with what was pending, and gets more.
    let mut claimed = Vec::new();
    loop {
        let leases = pg.claim(100).await.unwrap();
        if leases.is_empty() && claimed.len() == 21 {
            break;
        }
        claimed.extend(leases);
    }
    assert!(claimed.iter().map(|l| l.stored.signal.id().to_string()).take(20).is_sorted());
    assert!(claimed[0].stored.validators["V2"].maybe_sent && claimed[0].stored.cancel_requested);
    for lease in &claimed[..10] {
        let all = ["V1", "V2"].map(|v| validator(v, DeliveryState::Accepted)).to_vec();
        pg.finish(lease, &report(SignalState::Processed, all)).await.unwrap();
    }
    let same = pg.accept(&signal("f00", 0)).await.unwrap();
    assert_eq!(same, Accepted::Same { state: SignalState::Processed });
    drop(pg.accept(&signal("p0", 0)).await.unwrap());
    let failed = ptn_core::signal::OrderUuid::parse("f01").unwrap();
    pg.retry(&failed).await.unwrap();
    let after = content(&pg).await;

    // Back into the old directory, in which one signal was put that the database has never seen.
    let fs = FsStore::open_owner(dir.path(), fs_options()).unwrap();
    let back = transfer(&pg, &fs, ("database", "folder"), &mut |_, _| {}).await.unwrap();
    assert_eq!(back.written, 12, "ten that were finished, one retried, one new");
    let ours: Vec<_> =
        content(&fs).await.into_iter().filter(|line| !line.contains("\"late\"")).collect();
    // Whoever is retried begins to age anew.
    let without = |lines: &[String]| -> Vec<String> {
        lines.iter().filter(|l| !l.contains("\"f01\"")).cloned().collect()
    };
    assert_eq!(without(&ours), without(&after));
    drop(fs);
    drop(pg);
    let fs = FsStore::open_owner(dir.path(), FsOptions::new(fs_options().rules)).unwrap();
    let retried = super::get(&fs, "f01").await;
    assert_eq!(retried.state, SignalState::Pending);
    assert_eq!(retried.validators["V1"].state, DeliveryState::Accepted, "what was said stays");
    let refused = PgStore::open(options(&database.url())).await.unwrap_err();
    assert_eq!(refused.code(), "store_moved");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_is_refused_once_the_signals_are_elsewhere() {
    let (database, dir) = (Database::new().await, tempfile::tempdir().unwrap());
    let fs = FsStore::open_owner(dir.path(), fs_options()).unwrap();
    let receiver = FsStore::open(dir.path(), FsOptions::new(fs_options().rules)).unwrap();
    let pg = database_store(&database).await;
    let server = PgStore::open(options(&database.url())).await.unwrap();
    drop(receiver.accept(&signal("a", 0)).await.unwrap());
    // Accepted while it moves, at every stage: found in one store exactly.
    let accepting = tokio::spawn(async move {
        let mut kept = Vec::new();
        for n in 0..100_000 {
            match receiver.accept(&signal(&format!("r{n}"), n)).await {
                Ok(_) => kept.push(format!("r{n}")),
                Err(StoreError::Moved { .. }) => return (kept, receiver),
                Err(e) => panic!("{e}"),
            }
        }
        panic!("never refused")
    });
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    move_all(&fs, &pg).await;
    let (kept, receiver) = accepting.await.unwrap();
    assert!(!receiver.pending().await.unwrap().accepting);
    for id in kept.iter().chain([&"a".to_owned()]) {
        assert_eq!(super::get(&pg, id).await.state, SignalState::Pending, "{id}");
    }
    drop(server.accept(&signal("b", 0)).await.unwrap());
    // Moved away again, the database refuses as well.
    transfer(&pg, &fs, ("new", "old"), &mut |_, _| {}).await.unwrap();
    let refused = server.accept(&signal("c", 0)).await;
    assert!(matches!(refused, Err(StoreError::Moved { .. })), "{refused:?}");
    assert!(!server.pending().await.unwrap().accepting);
    drop(receiver.accept(&signal("c", 0)).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_move_leaves_one_store_in_charge_and_goes_on() {
    let (database, dir) = (Database::new().await, tempfile::tempdir().unwrap());
    let fs = FsStore::open_owner(dir.path(), fs_options()).unwrap();
    for n in 0..600 {
        drop(fs.accept(&signal(&format!("f{n:03}"), n)).await.unwrap());
    }
    let pg = Arc::new(database_store(&database).await);
    let fs = Arc::new(fs);
    let moving = {
        let (fs, pg) = (Arc::clone(&fs), Arc::clone(&pg));
        tokio::spawn(async move {
            let (reached, halfway) = tokio::sync::oneshot::channel::<()>();
            let mut reached = Some(reached);
            let mut progress = move |done, _| {
                if done >= 256
                    && let Some(reached) = reached.take()
                {
                    reached.send(()).unwrap();
                }
            };
            let moving = transfer(&*fs, &*pg, ("old", "new"), &mut progress);
            tokio::select! {
                biased;
                _ = halfway => {}
                done = moving => panic!("not interrupted: {done:?}"),
            }
        })
    };
    moving.await.unwrap();
    let refused = PgStore::open(options(&database.url())).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Moved { to, .. } if to == "old"), "{refused:?}");
    let moved = move_all(&*fs, &*pg).await;
    assert!(moved.there >= 256 && moved.written <= 600 - 256, "{moved:?}");
    assert_eq!(content(&*pg).await, content(&*fs).await);
    drop(PgStore::open(options(&database.url())).await.unwrap());
}

async fn pending(store: &dyn SignalStore) -> Vec<String> {
    let filter = Filter { limit: 1000, states: vec![SignalState::Pending], ..Filter::default() };
    let mut all = store.list(&filter).await.unwrap();
    all.reverse();
    all.iter().map(|s| s.signal.id().to_string()).collect()
}

fn drop_file(dir: &std::path::Path, name: &str) {
    let text =
        r#"{"trade_pair": {"trade_pair_id": "BTCUSDC"}, "order_type": "LONG", "leverage": 0.1}"#;
    std::fs::write(dir.join("received_signals").join(name), text).unwrap();
}

/// A mover takes files up only where it looks: what it accepted later would be in neither store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_lie_there_come_along_also_when_everything_else_did_before() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop(FsStore::open_owner(one.path(), fs_options()).unwrap());
    for n in 0..600 {
        drop_file(one.path(), &format!("file-{n:03}"));
    }
    let from = FsStore::open_owner(one.path(), fs_options()).unwrap();
    let to = FsStore::open_owner(two.path(), fs_options()).unwrap();
    let moved = move_all(&from, &to).await;
    assert_eq!((moved.written, moved.pending), (600, 600));
    assert_eq!(pending(&to).await.len(), 600);
    drop_file(one.path(), "later");
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    assert!(one.path().join("received_signals/later").is_file(), "it is still a file");
    let moved = move_all(&from, &to).await;
    assert_eq!((moved.written, moved.pending), (1, 1));
    assert_eq!(pending(&to).await.last().map(String::as_str), Some("later"));
}

/// Delivered and deleted where it went, it is not sent by the store that it came from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_any_more_is_not_sent_after_moving_back() {
    let (database, dir) = (Database::new().await, tempfile::tempdir().unwrap());
    let fs = FsStore::open_owner(dir.path(), fs_options()).unwrap();
    drop(fs.accept(&signal("gone", 0)).await.unwrap());
    drop(fs.accept(&signal("kept", 1)).await.unwrap());
    let pg = database_store(&database).await;
    transfer(&fs, &pg, ("folder", "database"), &mut |_, _| {}).await.unwrap();
    for lease in pg.claim(2).await.unwrap() {
        if lease.stored.signal.id().as_str() == "gone" {
            pg.finish(&lease, &report(SignalState::Processed, vec![])).await.unwrap();
        }
    }
    database.sql("DELETE FROM ptn_signal WHERE id = 'gone'").await;
    transfer(&pg, &fs, ("database", "folder"), &mut |_, _| {}).await.unwrap();
    assert_eq!(pending(&fs).await, ["kept"]);
    let id = ptn_core::signal::OrderUuid::parse("gone").unwrap();
    let gone = fs.get(&id).await.unwrap().unwrap();
    assert_eq!(gone.state, SignalState::Failed);
    assert!(gone.reason.contains("moved to database once"), "{}", gone.reason);
}

/// An interrupted first move leaves a mark on a store that has signals of its own: they stay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moving_into_a_store_that_is_in_use_ends_nothing_there() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let from = FsStore::open_owner(one.path(), fs_options()).unwrap();
    let to = FsStore::open_owner(two.path(), fs_options()).unwrap();
    drop(from.accept(&signal("a", 0)).await.unwrap());
    drop(to.accept(&signal("own", 1)).await.unwrap());
    to.set_moved(Some("old (on its way here)")).await.unwrap();
    move_all(&from, &to).await;
    assert_eq!(pending(&to).await, ["own", "a"]);
    assert_eq!(to.moved().await.unwrap(), None);
}

/// The turn of a retried signal is behind what was accepted before its retry, in the next store too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retried_signal_keeps_its_turn() {
    let database = Database::new().await;
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [one, two] = dirs.each_ref().map(|d| FsStore::open_owner(d.path(), fs_options()).unwrap());
    let pg = database_store(&database).await;
    for (n, id) in ["first", "second"].into_iter().enumerate() {
        drop(one.accept(&signal(id, u32::try_from(n).unwrap())).await.unwrap());
    }
    let first = one.claim(1).await.unwrap().remove(0);
    one.finish(&first, &report(SignalState::Failed, vec![])).await.unwrap();
    one.retry(first.stored.signal.id()).await.unwrap();
    let order = async |store: &dyn SignalStore| -> Vec<String> {
        let leases = store.claim(2).await.unwrap();
        leases.iter().map(|lease| lease.stored.signal.id().to_string()).collect()
    };
    transfer(&one, &pg, ("one", "pg"), &mut |_, _| {}).await.unwrap();
    transfer(&pg, &two, ("pg", "two"), &mut |_, _| {}).await.unwrap();
    assert_eq!(order(&two).await, ["second", "first"]);
    assert_eq!(order(&pg).await, ["second", "first"]);
}
