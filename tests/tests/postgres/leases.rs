//! Who delivers: standing by, taking over, being refused, and whose signals they are.

use std::time::{Duration, Instant};

use ptn_core::record::{DeliveryState, Progress, SignalState};
use ptn_core::store::conformance::{report, validator};
use ptn_core::store::postgres::PgOptions;
use ptn_core::store::{Hold, Lease, PgStore, SignalStore, StoreChange, StoreError};
use ptn_tests::postgres::{Database, Line, until};

use super::{LEASE, PATIENCE, accept, claim_one, delivers, get, is_sure, options, owner, standby};

fn begin(hotkey: &str) -> Progress {
    Progress::Begin { hotkeys: vec![hotkey.to_owned()] }
}

fn targets() -> Progress {
    let both = ["V1", "V2"].map(|v| validator(v, DeliveryState::Submitted));
    Progress::Targets { validators: both.to_vec() }
}

#[tokio::test]
async fn the_next_one_continues_at_once_when_an_owner_stops() {
    let database = Database::new().await;
    let first = owner(&database.url()).await;
    let second = standby(&database.url()).await;
    accept(&second, "a", 0).await;
    let lease = claim_one(&first).await;
    first.record(&lease, targets()).await.unwrap();
    first.record(&lease, begin("V2")).await.unwrap();
    assert!(second.claim(10).await.unwrap().is_empty(), "one at a time");
    assert!(!*second.delivering().borrow());
    assert!(first.owner().await.unwrap().unwrap().name.contains(&std::process::id().to_string()));
    let stopped = Instant::now();
    first.close().await;
    delivers(&second).await;
    assert!(stopped.elapsed() < LEASE, "given back, so nobody waits: {:?}", stopped.elapsed());
    let next = claim_one(&second).await;
    assert!(next.token > lease.token, "{} after {}", next.token, lease.token);
    assert!(next.stored.validators["V2"].maybe_sent && !next.stored.validators["V1"].maybe_sent);
    assert!(second.tenure().may_be_known(&next.stored), "the other one may have sent it");
    let seq = accept(&second, "b", 0).await;
    assert!(seq > second.tenure().others_up_to, "and this one it has never seen");
}

#[tokio::test]
async fn an_owner_that_is_cut_off_stops_before_another_begins() {
    let database = Database::new().await;
    let line = Line::new().await;
    let first = owner(&database.url_at(line.address)).await;
    accept(&first, "a", 0).await;
    let lease = claim_one(&first).await;
    first.record(&lease, targets()).await.unwrap();
    let second = standby(&database.url()).await;
    line.set_silent(true);
    assert!(is_sure(&first, &lease), "not lost at once");
    let begun = {
        let mut delivering = second.delivering();
        let taken = delivering.wait_for(|delivers| *delivers);
        tokio::time::timeout(PATIENCE, taken).await.unwrap().unwrap();
        Instant::now()
    };
    assert_eq!(first.hold(&lease), Hold::Unsure, "nothing is sent any more");
    let next = claim_one(&second).await;
    second.record(&next, begin("V1")).await.unwrap();
    let late = first.record(&lease, begin("V2"));
    line.set_silent(false);
    let late = tokio::time::timeout(PATIENCE, late).await.unwrap();
    assert!(
        matches!(late, Err(StoreError::LeaseLost { .. } | StoreError::Unavailable { .. })),
        "{late:?}"
    );
    until("it learns that it was taken over", async || first.hold(&lease) == Hold::Lost).await;
    let late = first.finish(&lease, &report(SignalState::Failed, vec![])).await;
    assert!(matches!(late, Err(StoreError::LeaseLost { .. })), "{late:?}");
    assert!(first.claim(10).await.unwrap().is_empty());
    let stored = get(&*second, "a").await;
    assert_eq!(stored.state, SignalState::Pending);
    assert!(stored.validators["V1"].maybe_sent && !stored.validators["V2"].maybe_sent);
    assert!(begun.elapsed() < PATIENCE);
}

#[tokio::test]
async fn a_late_write_is_refused_whatever_the_clocks_say() {
    let database = Database::new().await;
    let store = owner(&database.url()).await;
    accept(&store, "a", 0).await;
    let lease = claim_one(&store).await;
    store.record(&lease, targets()).await.unwrap();
    // Taken over behind its back; its own lease has not run out.
    database.sql("UPDATE ptn_tenure SET token = token + 1, owner = 'another', expires_at = now() + interval '1 hour'").await;
    for refused in [
        store.record(&lease, begin("V1")).await,
        store.finish(&lease, &report(SignalState::Processed, vec![])).await,
    ] {
        assert!(matches!(refused, Err(StoreError::LeaseLost { .. })), "{refused:?}");
    }
    assert_eq!(store.hold(&lease), Hold::Lost);
    assert!(store.claim(10).await.unwrap().is_empty());
    let stored = get(&*store, "a").await;
    assert_eq!(stored.state, SignalState::Pending);
    assert!(!stored.validators["V1"].maybe_sent);
}

#[tokio::test]
async fn a_token_is_never_given_out_twice_though_the_tenure_went_back() {
    let database = Database::new().await;
    let first = owner(&database.url()).await;
    accept(&first, "a", 0).await;
    let lease = claim_one(&first).await;
    first.record(&lease, targets()).await.unwrap();
    // As a standby has it that lacks what was committed since.
    database.sql("UPDATE ptn_tenure SET token = 0, owner = NULL, expires_at = 'epoch'").await;
    let second = standby(&database.url()).await;
    until("one of them took it", async || {
        *second.delivering().borrow() || first.hold(&lease) == Hold::Lost
    })
    .await;
    first.close().await;
    delivers(&second).await;
    let next = claim_one(&second).await;
    assert!(next.token > lease.token, "{} after {}", next.token, lease.token);
}

#[tokio::test]
async fn an_owner_with_the_number_of_another_one_is_refused_all_the_same() {
    let database = Database::new().await;
    let store = owner(&database.url()).await;
    accept(&store, "a", 0).await;
    let lease = claim_one(&store).await;
    store.record(&lease, targets()).await.unwrap();
    database
        .sql("UPDATE ptn_tenure SET owner = 'another', expires_at = now() + interval '1 hour'")
        .await;
    for refused in [
        store.record(&lease, begin("V1")).await,
        store.finish(&lease, &report(SignalState::Processed, vec![])).await,
    ] {
        assert!(matches!(refused, Err(StoreError::LeaseLost { .. })), "{refused:?}");
    }
    let stored = get(&*store, "a").await;
    assert_eq!(stored.state, SignalState::Pending);
    assert!(!stored.validators["V1"].maybe_sent);
}

#[tokio::test]
async fn a_claim_under_another_token_finds_nothing() {
    let database = Database::new().await;
    let store = owner(&database.url()).await;
    database.sql("UPDATE ptn_tenure SET token = token + 1, owner = 'another', expires_at = now() + interval '1 hour'").await;
    accept(&store, "a", 0).await;
    assert!(store.claim(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn after_an_outage_without_a_rival_the_same_lease_goes_on() {
    let database = Database::new().await;
    let line = Line::new().await;
    let store = owner(&database.url_at(line.address)).await;
    accept(&store, "a", 0).await;
    let lease = claim_one(&store).await;
    store.record(&lease, targets()).await.unwrap();
    let before = store.tenure();
    line.set_closed(true);
    until("the lease cannot be confirmed", async || store.hold(&lease) == Hold::Unsure).await;
    assert!(store.claim(10).await.unwrap().is_empty());
    line.set_closed(false);
    until("it is confirmed again", async || is_sure(&store, &lease)).await;
    assert_eq!(store.tenure(), before);
    store.record(&lease, begin("V1")).await.unwrap();
    store.finish(&lease, &report(SignalState::Processed, vec![])).await.unwrap();
    assert_eq!(get(&*store, "a").await.state, SignalState::Processed);
}

#[tokio::test]
async fn a_server_clock_that_was_set_back_does_not_keep_a_dead_owner_alive() {
    let database = Database::new().await;
    let line = Line::new().await;
    let first = owner(&database.url_at(line.address)).await;
    line.set_silent(true);
    // As after the clock was set back by a day.
    database.sql("UPDATE ptn_tenure SET expires_at = expires_at + interval '1 day'").await;
    let second = standby(&database.url()).await;
    delivers(&second).await;
    drop(first);
}

#[tokio::test]
async fn a_living_owner_is_not_taken_over() {
    let database = Database::new().await;
    let first = owner(&database.url()).await;
    let second = standby(&database.url()).await;
    tokio::time::sleep(LEASE * 2).await;
    assert!(*first.delivering().borrow() && !*second.delivering().borrow());
    assert_eq!(first.tenure().number, 1);
}

#[tokio::test]
async fn signals_of_another_hotkey_are_refused() {
    let database = Database::new().await;
    let open = |account: &str| {
        let mut options = options(&database.url());
        options.account = Some(account.to_owned());
        PgStore::open_owner(options)
    };
    let first = open("5A").await.unwrap();
    delivers(&first).await;
    let refused = open("5B").await.unwrap_err();
    assert_eq!(refused.code(), "store_account");
    let said = refused.to_string();
    assert!(said.contains("5A") && said.contains("5B"), "{said}");
    let second = open("5A").await.unwrap();
    first.close().await;
    delivers(&second).await;
    second.close().await;
    // Stopped properly, so the firm may change its key.
    delivers(&open("5B").await.unwrap()).await;
}

#[tokio::test]
async fn a_number_is_handed_on_from_owner_to_owner() {
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
    static LAST: AtomicU64 = AtomicU64::new(7_000);
    static RAISED: AtomicU64 = AtomicU64::new(0);
    let database = Database::new().await;
    let with = |url: &str| -> PgOptions {
        let mut options = options(url);
        options.watermark = Some(ptn_core::store::postgres::Watermark {
            ahead: |time| LAST.load(SeqCst) + u64::try_from(time.as_millis()).unwrap(),
            raise: |floor| RAISED.store(floor, SeqCst),
        });
        options
    };
    let line = Line::new().await;
    let first = PgStore::open_owner(with(&database.url_at(line.address))).await.unwrap();
    delivers(&first).await;
    // After a renewal it may be anything up to the end of the lease.
    until("it is written down", async || {
        let rows = database.sql("SELECT watermark FROM ptn_tenure").await;
        sqlx::Row::get::<i64, _>(&rows[0], 0) > 7_000
    })
    .await;
    line.set_silent(true);
    let second = PgStore::open_owner(with(&database.url())).await.unwrap();
    delivers(&second).await;
    assert_eq!(RAISED.load(SeqCst), 7_000 + u64::try_from(LEASE.as_millis()).unwrap());
    // Stopped properly, it is exact.
    LAST.store(12_345, SeqCst);
    second.close().await;
    let third = PgStore::open_owner(with(&database.url())).await.unwrap();
    delivers(&third).await;
    assert_eq!(RAISED.load(SeqCst), 12_345);
}

#[tokio::test]
async fn other_processes_hear_of_everything() {
    let database = Database::new().await;
    let (first, other) = (owner(&database.url()).await, standby(&database.url()).await);
    let mut events = other.events();
    // Listening begins a moment after opening.
    until("the other one hears", async || {
        let id = ptn_core::signal::OrderUuid::random();
        accept(&first, id.as_str(), 0).await;
        tokio::time::timeout(Duration::from_millis(200), events.recv()).await.is_ok()
    })
    .await;
    let mut events = other.events();
    let seq = accept(&first, "a", 0).await;
    let lease = loop {
        let lease = claim_one(&first).await;
        if lease.stored.signal.id().as_str() == "a" {
            break lease;
        }
    };
    // Longer than a notification may be.
    let mut said = validator("V1", DeliveryState::Rejected);
    said.message = "no ".repeat(4000);
    let outcome = Progress::Outcome { validator: said };
    first.record(&lease, outcome).await.unwrap();
    other.cancel(lease.stored.signal.id()).await.unwrap();
    first.finish(&lease, &report(SignalState::Failed, vec![])).await.unwrap();
    first.retry(lease.stored.signal.id()).await.unwrap();
    let mut heard = Vec::new();
    while heard.len() < 5 {
        let event = tokio::time::timeout(PATIENCE, events.recv()).await.unwrap().unwrap();
        if event.id.as_str() == "a" {
            heard.push(event.change);
        }
    }
    // Its own wish is told at once, the rest when it has come over.
    let others: Vec<_> =
        heard.iter().filter(|c| !matches!(c, StoreChange::CancelRequested)).collect();
    assert_eq!(others.len(), 4);
    assert!(matches!(others[0], StoreChange::Accepted { seq: heard, .. } if *heard == seq));
    // A long one is read again when its notice arrives; by then it may be queued for the retry.
    let StoreChange::Progress { progress: Progress::Outcome { validator } } = others[1] else {
        panic!("the outcome comes second");
    };
    assert_eq!((validator.hotkey.as_str(), validator.message.len()), ("V1", 12_000));
    assert!(matches!(others[2], StoreChange::Finished { state: SignalState::Failed, .. }));
    assert!(matches!(others[3], StoreChange::RetryRequested));
}

#[tokio::test]
async fn what_others_do_is_found_without_notifications() {
    let database = Database::new().await;
    let mut deaf = options(&database.url());
    deaf.listen = false;
    let first = PgStore::open_owner(deaf).await.unwrap();
    delivers(&first).await;
    let other = standby(&database.url()).await;
    let mut events = first.events();
    accept(&other, "a", 0).await;
    let lease: Lease = claim_one(&first).await;
    other.cancel(lease.stored.signal.id()).await.unwrap();
    until("the wish to cancel is found", async || {
        first.claim(1).await.unwrap();
        matches!(events.try_recv(), Ok(event) if event.change == StoreChange::CancelRequested)
    })
    .await;
}

#[tokio::test]
async fn two_starters_make_the_tables_once_and_a_newer_release_is_left_alone() {
    let database = Database::new().await;
    let url = database.url();
    let open = || PgStore::open(options(&url));
    let opened = tokio::join!(open(), open(), open(), open());
    for store in [opened.0, opened.1, opened.2, opened.3] {
        accept(&store.unwrap(), ptn_core::signal::OrderUuid::random().as_str(), 0).await;
    }
    database.sql("INSERT INTO ptn_schema (version) VALUES (99)").await;
    let refused = open().await.unwrap_err();
    assert_eq!(refused.code(), "store_schema");
    assert!(refused.to_string().contains("99"), "{refused}");
}

#[tokio::test]
async fn schemas_of_one_database_are_stores_of_their_own() {
    let database = Database::new().await;
    database.sql("CREATE SCHEMA alice").await;
    let alice = owner(&format!("{}?options[search_path]=alice", database.url())).await;
    let public = owner(&database.url()).await;
    accept(&alice, "a", 0).await;
    accept(&public, "a", 1).await;
    assert_eq!(claim_one(&alice).await.stored.signal, ptn_core::store::conformance::signal("a", 0));
    let missing = format!("{}?options[search_path]=nobody", database.url());
    let refused = PgStore::open(options(&missing)).await.unwrap_err();
    assert!(refused.to_string().contains("search_path"), "{refused}");
}
