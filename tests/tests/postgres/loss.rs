//! The connection is lost in every statement, before it and after it; the server restarts under load.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ptn_core::record::{DeliveryState, Progress, SignalState};
use ptn_core::rules::{Era, Rules};
use ptn_core::signal::OrderUuid;
use ptn_core::store::conformance::{report, signal, validator};
use ptn_core::store::fs::FsOptions;
use ptn_core::store::postgres::PgOptions;
use ptn_core::store::transfer::{Transfer, transfer};
use ptn_core::store::{Accepted, Filter, FsStore, PgStore, SignalStore, StoreError};
use ptn_tests::postgres::{Database, Line, until};

use super::{PATIENCE, accept, claim_one, delivers, get, options, owner};

/// Calls again while the database is away, as every caller of a store does.
pub(super) async fn insist<T>(
    mut call: impl AsyncFnMut() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match call().await {
            Err(StoreError::Unavailable { .. }) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            other => return other,
        }
    }
}

/// Everything that a store can be asked, once, with what must come of it.
pub(super) async fn everything(store: &PgStore, name: &str) {
    let (a, b) = (format!("{name}-a"), format!("{name}-b"));
    for (id, n) in [(&a, 0), (&b, 1)] {
        let accepted = store.accept(&signal(id, n)).await;
        assert!(matches!(accepted, Ok(Accepted::New { .. })), "{id}: {accepted:?}");
    }
    let same = store.accept(&signal(&a, 0)).await;
    assert!(matches!(same, Ok(Accepted::Same { .. })), "{same:?}");
    let mut leases = BTreeMap::new();
    while leases.len() < 2 {
        for lease in insist(async || store.claim(10).await).await.unwrap() {
            leases.insert(lease.stored.signal.id().to_string(), lease);
        }
    }
    let lease = &leases[&a];
    let submitted = vec![validator("V1", DeliveryState::Submitted)];
    let targets = Progress::Targets { validators: submitted };
    let begin = Progress::Begin { hotkeys: vec!["V1".to_owned()] };
    let accepted = validator("V1", DeliveryState::Accepted);
    let outcome = Progress::Outcome { validator: accepted.clone() };
    for progress in [targets, begin, outcome] {
        insist(async || store.record(lease, progress.clone()).await).await.unwrap();
    }
    let done = report(SignalState::Processed, vec![accepted.clone()]);
    insist(async || store.finish(lease, &done).await).await.unwrap();
    let lease = &leases[&b];
    let id = lease.stored.signal.id();
    insist(async || store.cancel(id).await).await.unwrap();
    let failed = report(SignalState::Failed, vec![validator("V1", DeliveryState::Rejected)]);
    insist(async || store.finish(lease, &failed).await).await.unwrap();
    insist(async || store.retry(id).await).await.unwrap();
    let again = loop {
        if let Some(lease) = insist(async || store.claim(10).await).await.unwrap().pop() {
            break lease;
        }
    };
    assert_eq!(again.stored.signal.id(), id);
    assert!(!again.stored.cancel_requested);
    insist(async || store.finish(&again, &done).await).await.unwrap();
    for id in [&a, &b] {
        let id = ptn_core::signal::OrderUuid::parse(id).unwrap();
        let stored = insist(async || store.get(&id).await).await.unwrap().unwrap();
        assert_eq!(stored.state, SignalState::Processed, "{id}");
        assert_eq!(stored.validators["V1"].state, DeliveryState::Accepted);
    }
    assert_eq!(insist(async || store.pending().await).await.unwrap().count, 0);
    let filter = Filter { limit: 2, ..Filter::default() };
    assert_eq!(insist(async || store.list(&filter).await).await.unwrap().len(), 2);
}

/// Cuts at the first piece, then at the second, and so on, until everything gets by without a cut.
async fn cut_everywhere(which: &str, arm: fn(&Line, usize)) {
    let database = Database::new().await;
    let line = Line::new().await;
    // Without the listener, whose pieces come at any time.
    let mut deaf = options(&database.url_at(line.address));
    deaf.listen = false;
    // Long, so that its renewals hardly ever take the cut that is meant for others.
    deaf.lease = Duration::from_secs(60);
    let store = PgStore::open_owner(deaf).await.unwrap();
    super::delivers(&store).await;
    everything(&store, "warm-up").await;
    let mut cuts = 0;
    for n in 1..400 {
        arm(&line, n);
        everything(&store, &format!("{which}-{n}")).await;
        if line.is_armed() {
            break;
        }
        cuts += 1;
    }
    assert!(line.is_armed() && cuts > 15, "{cuts} cuts");
}

#[tokio::test]
async fn no_request_that_is_lost_does_harm() {
    cut_everywhere("request", Line::cut_at_request).await;
}

#[tokio::test]
async fn no_answer_that_is_lost_does_harm() {
    cut_everywhere("answer", Line::cut_at_answer).await;
}

/// How to cut a line: before the nth piece that a client says, or that the server says.
type Arm = fn(&Line, usize);

/// A database without tables, a line to it, and options by which nothing else is said over it.
async fn quiet() -> (Database, Line, PgOptions) {
    let (database, line) = (Database::new().await, Line::new().await);
    let mut options = options(&database.url_at(line.address));
    options.listen = false;
    (database, line, options)
}

#[tokio::test]
async fn tables_are_made_once_wherever_the_first_start_is_cut_off() {
    tokio::join!(cut_first_starts(Line::cut_at_request), cut_first_starts(Line::cut_at_answer));
}

async fn cut_first_starts(arm: Arm) {
    let (database, line, options) = quiet().await;
    let mut cuts = 0;
    for n in 1..100 {
        arm(&line, n);
        let first = PgStore::open(options.clone()).await;
        let whole = line.is_armed();
        // Nobody asks again for a program that starts; it says that it may be started again.
        match &first {
            Err(error) => assert_eq!(error.code(), "store_unavailable", "{n}: {error}"),
            Ok(store) => store.close().await,
        }
        arm(&line, 0);
        let second = insist(async || PgStore::open(options.clone()).await).await.unwrap();
        accept(&second, "a", 0).await;
        second.close().await;
        assert_eq!(database.number("SELECT count(*) FROM ptn_schema").await, 1, "{n}");
        if whole {
            break;
        }
        cuts += 1;
        database.sql("DROP SCHEMA public CASCADE").await;
        database.sql("CREATE SCHEMA public").await;
    }
    assert!((5..99).contains(&cuts), "{cuts} cuts");
}

#[tokio::test]
async fn a_lease_is_taken_renewed_and_given_back_wherever_its_line_is_cut() {
    tokio::join!(cut_leases(Line::cut_at_request), cut_leases(Line::cut_at_answer));
}

async fn cut_leases(arm: Arm) {
    let (database, line, mut options) = quiet().await;
    drop(PgStore::open(options.clone()).await.unwrap());
    // Renewed soon; a lease that could not be given back has to run out.
    options.lease = Duration::from_secs(1);
    let (mut cuts, mut last) = (0, 0);
    for n in 1..100 {
        arm(&line, n);
        // Cut off while it starts, there is nothing to take.
        let Ok(store) = PgStore::open_owner(options.clone()).await else { continue };
        delivers(&store).await;
        let token = database.number("SELECT token FROM ptn_tenure").await;
        // The one before gave it back, or it ran out: in either case this is another tenure.
        assert!(token > last, "{n}: {token} after {last}");
        last = token;
        let renewed = "SELECT renewals FROM ptn_tenure";
        until("it is renewed", async || database.number(renewed).await > 0).await;
        store.close().await;
        if line.is_armed() {
            break;
        }
        cuts += 1;
    }
    assert!((5..99).contains(&cuts), "{cuts} cuts");
}

#[tokio::test]
async fn a_listener_hears_again_wherever_its_line_is_cut() {
    tokio::join!(cut_listeners(Line::cut_at_request), cut_listeners(Line::cut_at_answer));
}

async fn cut_listeners(arm: Arm) {
    let (database, line, mut options) = quiet().await;
    options.listen = true;
    let listening = PgStore::open(options).await.unwrap();
    let other = PgStore::open(super::options(&database.url())).await.unwrap();
    let mut events = listening.events();
    let mut hears = async |what: &str| {
        until(what, async || {
            let id = OrderUuid::random();
            accept(&other, id.as_str(), 0).await;
            let heard = async { while events.recv().await.is_ok_and(|event| event.id != id) {} };
            tokio::time::timeout(Duration::from_millis(100), heard).await.is_ok()
        })
        .await;
    };
    hears("the first news").await;
    let mut cuts = 0;
    for n in 1..100 {
        // Nothing else is said over this line.
        let mut made = line.made();
        made.mark_unchanged();
        line.cut();
        arm(&line, n);
        tokio::time::timeout(PATIENCE, made.changed()).await.unwrap().unwrap();
        hears(&format!("news after a cut at {n}")).await;
        if line.is_armed() {
            break;
        }
        cuts += 1;
    }
    // It says hello and that it listens; what it is told are more pieces.
    assert!((2..99).contains(&cuts), "{cuts} cuts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_ends_well_wherever_its_line_is_cut() {
    tokio::join!(
        cut_moves(Line::cut_at_request, false),
        cut_moves(Line::cut_at_request, true),
        cut_moves(Line::cut_at_answer, false),
        cut_moves(Line::cut_at_answer, true),
    );
}

/// Moves into the database, or `out` of it.
async fn cut_moves(arm: Arm, out: bool) {
    let (database, line, mut options) = quiet().await;
    // Long, so that its renewals hardly ever take the cut that is meant for others.
    options.lease = Duration::from_secs(60);
    options.even_if_moved = true;
    let pg = PgStore::open_owner(options).await.unwrap();
    delivers(&pg).await;
    let mut cuts = 0;
    for n in 1..200 {
        let dir = tempfile::tempdir().unwrap();
        let mut fs = FsOptions::new(Arc::new(Rules::load(Era::Y2026).unwrap()));
        fs.even_if_moved = true;
        let fs = FsStore::open_owner(dir.path(), fs).unwrap();
        database.sql("TRUNCATE ptn_signal, ptn_delivery").await;
        database.sql("UPDATE ptn_store SET moved_to = NULL").await;
        let (from, to): (&dyn Transfer, &dyn Transfer) = if out { (&pg, &fs) } else { (&fs, &pg) };
        for (n, id) in (0..).zip(["a", "b", "c"]) {
            drop(from.accept(&signal(id, n)).await.unwrap());
        }
        arm(&line, n);
        let names = ("old", "new");
        insist(async || transfer(from, to, names, &mut |_, _| {}).await).await.unwrap();
        let whole = line.is_armed();
        arm(&line, 0);
        let ids = to.ids().await.unwrap();
        assert_eq!(ids.iter().map(OrderUuid::as_str).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(to.moved().await.unwrap(), None);
        assert_eq!(from.moved().await.unwrap().as_deref(), Some("new"));
        if whole {
            break;
        }
        cuts += 1;
    }
    assert!((5..199).contains(&cuts), "{cuts} cuts");
}

#[tokio::test]
async fn an_end_that_is_written_again_does_not_end_a_retry() {
    let (database, line, mut options) = quiet().await;
    options.lease = Duration::from_secs(60);
    options.patience = PATIENCE;
    let store = Arc::new(PgStore::open_owner(options).await.unwrap());
    delivers(&store).await;
    let other = PgStore::open(super::options(&database.url())).await.unwrap();
    accept(&other, "a", 0).await;
    let lease = claim_one(&store).await;
    let targets = vec![validator("V1", DeliveryState::Submitted)];
    store.record(&lease, Progress::Targets { validators: targets }).await.unwrap();
    // It is written, nobody hears of it, and until it is written again there is time for a retry.
    line.set_full(true);
    line.cut_at_answer(1);
    let finishing = {
        let (store, lease) = (Arc::clone(&store), lease.clone());
        let failed = report(SignalState::Failed, vec![validator("V1", DeliveryState::Rejected)]);
        tokio::spawn(async move { store.finish(&lease, &failed).await })
    };
    until("it is written", async || get(&other, "a").await.state == SignalState::Failed).await;
    other.retry(lease.stored.signal.id()).await.unwrap();
    line.set_full(false);
    let again = finishing.await.unwrap();
    assert!(matches!(again, Ok(()) | Err(StoreError::LeaseLost { .. })), "{again:?}");
    assert_eq!(get(&other, "a").await.state, SignalState::Pending, "the retry stands");
    let next = claim_one(&store).await;
    let done = report(SignalState::Processed, vec![validator("V1", DeliveryState::Accepted)]);
    store.finish(&next, &done).await.unwrap();
    assert_eq!(get(&other, "a").await.validators["V1"].state, DeliveryState::Accepted);
}

#[tokio::test]
async fn an_accept_that_cannot_be_answered_is_an_error_in_time_and_may_be_repeated() {
    let database = Database::new().await;
    let line = Line::new().await;
    let store = PgStore::open(options(&database.url_at(line.address))).await.unwrap();
    accept(&store, "before", 0).await;
    // The statement arrives, is carried out, and nobody hears of it again.
    line.set_silent(true);
    let began = Instant::now();
    let error = store.accept(&signal("a", 0)).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(matches!(&error, StoreError::Unavailable { maybe: true, .. }), "{error:?}");
    assert!(error.to_string().contains("under the same order_uuid"), "{error}");
    line.set_closed(true);
    line.set_silent(false);
    let error = store.accept(&signal("b", 0)).await.unwrap_err();
    assert!(matches!(&error, StoreError::Unavailable { maybe: false, .. }), "{error:?}");
    assert_eq!(error.code(), "store_unavailable");
    line.set_closed(false);
    until("it answers again", async || store.accept(&signal("a", 0)).await.is_ok()).await;
    let count = database.sql("SELECT count(*) FROM ptn_signal WHERE id = 'a'").await;
    assert_eq!(sqlx::Row::get::<i64, _>(&count[0], 0), 1);
}

#[tokio::test]
async fn sessions_ended_under_load_lose_and_double_nothing() {
    tokio::task::LocalSet::new().run_until(ended_under_load()).await;
}

async fn ended_under_load() {
    let database = Database::new().await;
    let store = owner(&database.url()).await;
    let other = Arc::new(PgStore::open(options(&database.url())).await.unwrap());
    let over = Arc::new(AtomicBool::new(false));
    let mut accepting = Vec::new();
    for (who, store) in [("a", Arc::clone(&store)), ("b", other)] {
        for task in 0..4 {
            let (store, over) = (Arc::clone(&store), Arc::clone(&over));
            accepting.push(tokio::task::spawn_local(async move {
                let mut ids = BTreeSet::new();
                let mut n = 0;
                while !over.load(Ordering::SeqCst) {
                    let id = format!("{who}-{task}-{n}");
                    let signal = signal(&id, n);
                    // New exactly once, however often it had to be asked.
                    let mut new = 0;
                    let answer = insist(async || store.accept(&signal).await).await.unwrap();
                    new += u32::from(matches!(answer, Accepted::New { .. }));
                    assert!(new == 1 || matches!(answer, Accepted::Same { .. }), "{id}");
                    ids.insert(id);
                    n += 1;
                }
                ids
            }));
        }
    }
    let delivering = {
        let (store, over) = (Arc::clone(&store), Arc::clone(&over));
        tokio::task::spawn_local(async move {
            let mut finished = Vec::new();
            loop {
                let stopping = over.load(Ordering::SeqCst);
                let leases = insist(async || store.claim(50).await).await.unwrap();
                if leases.is_empty() {
                    if stopping && insist(async || store.pending().await).await.unwrap().count == 0
                    {
                        return finished;
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                let done = report(SignalState::Processed, vec![]);
                for lease in leases {
                    insist(async || store.finish(&lease, &done).await).await.unwrap();
                    finished.push((lease.stored.seq, lease.stored.signal.id().to_string()));
                }
            }
        })
    };
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        database.end_sessions().await;
    }
    over.store(true, Ordering::SeqCst);
    let mut accepted = BTreeSet::new();
    for task in accepting {
        accepted.extend(task.await.unwrap());
    }
    let finished = tokio::time::timeout(PATIENCE, delivering).await.unwrap().unwrap();
    assert!(finished.is_sorted(), "in order of acceptance");
    let names: BTreeSet<_> = finished.iter().map(|(_, id)| id.clone()).collect();
    assert_eq!(names.len(), finished.len(), "each once");
    assert_eq!(names, accepted, "all of them");
    assert!(accepted.len() > 100, "{} signals", accepted.len());
}

#[tokio::test]
async fn hostile_text_is_kept() {
    let database = Database::new().await;
    let store = owner(&database.url()).await;
    accept(&store, "a", 0).await;
    let lease = claim_one(&store).await;
    let mut said = validator("V\u{0}1", DeliveryState::Rejected);
    said.message = "\u{0}\u{1b}[31m'); DROP TABLE ptn_signal; -- \u{fffd}\u{10ffff}".to_owned();
    let mut failed = report(SignalState::Failed, vec![said.clone()]);
    failed.reason = said.message.clone();
    store.finish(&lease, &failed).await.unwrap();
    let stored = get(&*store, "a").await;
    assert_eq!(stored.validators["V\u{0}1"], said);
    assert_eq!(stored.reason, failed.reason.replace('\0', "\u{fffd}"));
}
