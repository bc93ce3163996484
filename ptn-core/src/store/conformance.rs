//! The suite that every [`SignalStore`] must pass: ours, and the one that you write.
//!
//! One function per clause of the contract in [`crate::store`]. Each takes a fresh, empty store and
//! fails like a test. [`store_conformance!`](crate::store_conformance) makes a test of each:
//!
//! ```text
//! struct Mine;
//!
//! #[async_trait::async_trait]
//! impl StoreFactory for Mine {
//!     async fn create(&self) -> Arc<dyn SignalStore> { .. }
//!     async fn reopen(&self, store: Arc<dyn SignalStore>) -> Arc<dyn SignalStore> { .. }
//! }
//!
//! ptn_core::store_conformance!(Mine);
//! ```
//!
//! What a disk or a database does when it fails is left to the tests of each store.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is how a test fails"
)]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Accepted, Filter, Lease, SignalStore, StoreChange, StoreError, StoredSignal};
use crate::record::{DeliveryReport, DeliveryState, Progress, SignalState, ValidatorRecord};
use crate::rules::{Era, Rules};
use crate::signal::{OrderUuid, Signal};

/// Makes the stores to test.
#[async_trait]
pub trait StoreFactory: Send + Sync {
    /// An empty store that may claim.
    async fn create(&self) -> Arc<dyn SignalStore>;

    /// Ends a store, which nobody else holds, and opens what it left behind.
    async fn reopen(&self, store: Arc<dyn SignalStore>) -> Arc<dyn SignalStore>;

    /// Whether a store leaves anything behind; otherwise `reopen` is not called.
    fn survives(&self) -> bool {
        true
    }
}

/// Makes one test of each clause for a [`StoreFactory`].
#[macro_export]
macro_rules! store_conformance {
    ($factory:expr) => {
        $crate::store_conformance!(@ $factory,
            a_signal_is_new_once_and_the_same_afterwards,
            the_same_id_with_other_content_is_refused_and_the_first_stays,
            of_100_parallel_accepts_of_one_id_exactly_one_is_new,
            of_parallel_accepts_with_different_content_one_wins,
            many_parallel_accepts_have_places_of_their_own,
            claims_come_in_order_of_acceptance_and_once,
            progress_is_kept_and_only_the_holder_may_write,
            records_keep_the_order_of_the_calls,
            a_signal_finishes_once,
            a_finished_signal_is_recognised,
            a_restart_resumes_with_everything_recorded,
            a_restart_forgets_no_finished_signal,
            cancelling_is_a_wish_that_survives,
            only_a_failed_signal_can_be_retried,
            a_retry_sends_only_to_those_who_did_not_acknowledge,
            a_retried_signal_keeps_its_turn_after_what_was_accepted_before,
            listing_is_newest_first_and_filtered,
            pending_counts_what_is_not_finished,
            watchers_and_listeners_hear_of_changes,
        );
    };
    (@ $factory:expr, $($clause:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $clause() {
                $crate::store::conformance::$clause(&$factory).await;
            }
        )+
    };
}

/// A valid signal with this id, whose content differs with `n`.
pub fn signal(id: &str, n: u32) -> Signal {
    let rules = Rules::load(Era::Y2026).unwrap();
    let pair = if n.is_multiple_of(2) { "BTCUSDC" } else { "ETHUSDC" };
    let body = format!(
        r#"{{"order_uuid":"{id}","trade_pair":"{pair}","order_type":"LONG","leverage":0.1,"note":{n}}}"#
    );
    Signal::from_json(body.as_bytes(), &rules).unwrap()
}

/// A valid signal whose id was not chosen by the sender.
pub fn anonymous_signal(n: u32) -> Signal {
    let rules = Rules::load(Era::Y2026).unwrap();
    let body =
        format!(r#"{{"trade_pair":"BTCUSDC","order_type":"SHORT","leverage":0.2,"note":{n}}}"#);
    Signal::from_json(body.as_bytes(), &rules).unwrap()
}

/// A validator's record in some state.
pub fn validator(hotkey: &str, state: DeliveryState) -> ValidatorRecord {
    let address = "192.0.2.1:8091".to_owned();
    let record = ValidatorRecord::new(hotkey, address, true, 1_765_000_000_000);
    ValidatorRecord { state, v_trust: Some(0.9), ..record }
}

/// A report in some state.
pub fn report(state: SignalState, validators: Vec<ValidatorRecord>) -> DeliveryReport {
    let reason = if state == SignalState::Failed { "nobody answered" } else { "" };
    DeliveryReport { state, reason: reason.to_owned(), validators, finished_at: 1_765_000_001_000 }
}

fn id(text: &str) -> OrderUuid {
    OrderUuid::parse(text).unwrap()
}

async fn accept_new(store: &dyn SignalStore, signal: &Signal) -> u64 {
    match store.accept(signal).await.unwrap() {
        Accepted::New { seq } => seq,
        Accepted::Same { state } => panic!("{} is not new but {state}", signal.id()),
    }
}

/// The store after a restart, if it knows such a thing.
async fn restarted(
    factory: &dyn StoreFactory,
    store: Arc<dyn SignalStore>,
) -> Arc<dyn SignalStore> {
    if factory.survives() { factory.reopen(store).await } else { store }
}

/// Claims exactly one signal.
async fn claim_one(store: &dyn SignalStore) -> Lease {
    let mut leases = store.claim(1).await.unwrap();
    assert_eq!(leases.len(), 1);
    leases.remove(0)
}

async fn get(store: &dyn SignalStore, text: &str) -> StoredSignal {
    store.get(&id(text)).await.unwrap().unwrap_or_else(|| panic!("{text} is not there"))
}

/// Clause 1.
pub async fn a_signal_is_new_once_and_the_same_afterwards(factory: &dyn StoreFactory) {
    let store = factory.create().await;
    let first = accept_new(&*store, &signal("a", 0)).await;
    let second = accept_new(&*store, &signal("b", 0)).await;
    assert!(second > first, "{second} after {first}");
    let again = store.accept(&signal("a", 0)).await.unwrap();
    assert_eq!(again, Accepted::Same { state: SignalState::Pending });
    let stored = get(&*store, "a").await;
    assert_eq!(stored.signal, signal("a", 0));
    assert_eq!((stored.seq, stored.state), (first, SignalState::Pending));
    assert!(stored.validators.is_empty() && stored.finished_at.is_none());
    assert!(store.get(&id("none")).await.unwrap().is_none());
    let anonymous = anonymous_signal(1);
    accept_new(&*store, &anonymous).await;
    assert_eq!(get(&*store, anonymous.id().as_str()).await.signal, anonymous);
}

/// Clause 1.
pub async fn the_same_id_with_other_content_is_refused_and_the_first_stays(
    factory: &dyn StoreFactory,
) {
    let store = factory.create().await;
    let _ = accept_new(&*store, &signal("a", 0)).await;
    match store.accept(&signal("a", 1)).await {
        Err(StoreError::Conflict { id, stored, offered }) => {
            assert_eq!(id.as_str(), "a");
            assert_eq!(stored, hex::encode(&signal("a", 0).digest()[..4]));
            assert_eq!(offered, hex::encode(&signal("a", 1).digest()[..4]));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(get(&*store, "a").await.signal, signal("a", 0));
    assert_eq!(store.claim(10).await.unwrap().len(), 1);
}

/// Clause 1, raced.
pub async fn of_100_parallel_accepts_of_one_id_exactly_one_is_new(factory: &dyn StoreFactory) {
    let store = factory.create().await;
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.accept(&signal("one", 0)).await.unwrap() })
        })
        .collect();
    let mut new = 0;
    for task in tasks {
        new += usize::from(matches!(task.await.unwrap(), Accepted::New { .. }));
    }
    assert_eq!(new, 1);
    assert_eq!(store.claim(10).await.unwrap().len(), 1);
}

/// Clause 1, raced.
pub async fn of_parallel_accepts_with_different_content_one_wins(factory: &dyn StoreFactory) {
    let store = factory.create().await;
    let tasks: Vec<_> = (0..20)
        .map(|n| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { (n, store.accept(&signal("one", n)).await) })
        })
        .collect();
    let mut winner = None;
    for task in tasks {
        match task.await.unwrap() {
            (n, Ok(Accepted::New { .. })) => assert_eq!(winner.replace(n), None),
            (_, Err(StoreError::Conflict { .. })) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(get(&*store, "one").await.signal, signal("one", winner.unwrap()));
}

/// Clauses 1 and 2, raced.
pub async fn many_parallel_accepts_have_places_of_their_own(factory: &dyn StoreFactory) {
    let store = factory.create().await;
    let tasks: Vec<_> = (0..200)
        .map(|n| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { accept_new(&*store, &anonymous_signal(n)).await })
        })
        .collect();
    let mut places = Vec::new();
    for task in tasks {
        places.push(task.await.unwrap());
    }
    places.sort_unstable();
    places.dedup();
    assert_eq!(places.len(), 200);
    let claimed: Vec<_> =
        store.claim(1000).await.unwrap().into_iter().map(|l| l.stored.seq).collect();
    assert_eq!(claimed, places);
}

/// Clause 2.
pub async fn claims_come_in_order_of_acceptance_and_once(factory: &dyn StoreFactory) {
    let store = factory.create().await;
    for n in 0..10 {
        let _ = accept_new(&*store, &signal(&format!("s{n}"), n)).await;
    }
    let mut seen = Vec::new();
    for limit in [3, 1, 0, 100, 100] {
        for lease in store.claim(limit).await.unwrap() {
            seen.push(lease.stored.signal.id().to_string());
        }
    }
    assert_eq!(seen, (0..10).map(|n| format!("s{n}")).collect::<Vec<_>>());
}

/// Clause 3.
pub async fn progress_is_kept_and_only_the_holder_may_write(factory: &dyn StoreFactory) {
    let store = factory.create().await;
    let _ = accept_new(&*store, &signal("a", 0)).await;
    let lease = claim_one(&*store).await;
    let both =
        vec![validator("V1", DeliveryState::Submitted), validator("V2", DeliveryState::Submitted)];
    store.record(&lease, Progress::Targets { validators: both }).await.unwrap();
    store.record(&lease, Progress::Begin { hotkeys: vec!["V1".to_owned()] }).await.unwrap();
    let stored = get(&*store, "a").await;
    assert_eq!(stored.validators["V1"].attempts, 1);
    assert!(stored.validators["V1"].maybe_sent && !stored.validators["V2"].maybe_sent);
    let done = validator("V1", DeliveryState::Accepted);
    store.record(&lease, Progress::Outcome { validator: done.clone() }).await.unwrap();
    assert_eq!(get(&*store, "a").await.validators["V1"], done);

    let other = Lease { token: lease.token + 1, stored: lease.stored.clone() };
    let refused = store.record(&other, Progress::Begin { hotkeys: vec!["V2".to_owned()] }).await;
    assert!(matches!(refused, Err(StoreError::LeaseLost { .. })), "{refused:?}");
    let refused = store.finish(&other, &report(SignalState::Processed, vec![])).await;
    assert!(matches!(refused, Err(StoreError::LeaseLost { .. })), "{refused:?}");
    assert!(!get(&*store, "a").await.validators["V2"].maybe_sent);
}

/// Clause 3: the order of the calls counts, not that of the waiting.
pub async fn records_keep_the_order_of_the_calls(factory: &dyn StoreFactory) {
    let store = factory.create().await;
    let _ = accept_new(&*store, &signal("a", 0)).await;
    let lease = claim_one(&*store).await;
    let outcomes = (0..50).map(|n| {
        let mut v = validator("V1", DeliveryState::Submitted);
        v.attempts = n;
        store.record(&lease, Progress::Outcome { validator: v })
    });
    let mut waiting = futures_util::stream::FuturesOrdered::from_iter(outcomes);
    while let Some(result) = futures_util::StreamExt::next(&mut waiting).await {
        result.unwrap();
    }
    assert_eq!(get(&*store, "a").await.validators["V1"].attempts, 49);
}

/// Clause 4.
pub async fn a_signal_finishes_once(factory: &dyn StoreFactory) {
    let store = factory.create().await;
    let _ = accept_new(&*store, &signal("a", 0)).await;
    let lease = claim_one(&*store).await;
    let done = report(SignalState::Processed, vec![validator("V1", DeliveryState::Accepted)]);
    let pending = report(SignalState::Pending, vec![]);
    assert!(store.finish(&lease, &pending).await.is_err());
    store.finish(&lease, &done).await.unwrap();
    let again = store.finish(&lease, &done).await;
    assert!(
        matches!(again, Err(StoreError::LeaseLost { .. } | StoreError::WrongState { .. })),
        "{again:?}"
    );
    let late = store.record(&lease, Progress::Begin { hotkeys: vec!["V1".to_owned()] }).await;
    assert!(
        matches!(late, Err(StoreError::LeaseLost { .. } | StoreError::WrongState { .. })),
        "{late:?}"
    );
    assert!(store.claim(10).await.unwrap().is_empty());
    let stored = get(&*store, "a").await;
    assert_eq!(stored.state, SignalState::Processed);
    assert_eq!(stored.finished_at, Some(done.finished_at));
    assert_eq!(stored.validators["V1"], done.validators[0]);
}

/// Clauses 1 and 4.
pub async fn a_finished_signal_is_recognised(factory: &dyn StoreFactory) {
    let store = factory.create().await;
    for (name, state) in [("a", SignalState::Processed), ("b", SignalState::Failed)] {
        let _ = accept_new(&*store, &signal(name, 0)).await;
        let lease = claim_one(&*store).await;
        store.finish(&lease, &report(state, vec![])).await.unwrap();
        let again = store.accept(&signal(name, 0)).await.unwrap();
        assert_eq!(again, Accepted::Same { state });
        let other = store.accept(&signal(name, 1)).await;
        assert!(matches!(other, Err(StoreError::Conflict { .. })), "{other:?}");
    }
    assert!(store.claim(10).await.unwrap().is_empty());
}

/// Clauses 2 and 3, across a restart.
pub async fn a_restart_resumes_with_everything_recorded(factory: &dyn StoreFactory) {
    let store = factory.create().await;
    let mut places = Vec::new();
    for n in 0..4 {
        places.push(accept_new(&*store, &signal(&format!("s{n}"), n)).await);
    }
    let leases = store.claim(2).await.unwrap();
    let both =
        vec![validator("V1", DeliveryState::Submitted), validator("V2", DeliveryState::Submitted)];
    store.record(&leases[0], Progress::Targets { validators: both }).await.unwrap();
    store.record(&leases[0], Progress::Begin { hotkeys: vec!["V2".to_owned()] }).await.unwrap();
    let done = validator("V1", DeliveryState::Accepted);
    store.record(&leases[0], Progress::Outcome { validator: done }).await.unwrap();
    if !factory.survives() {
        return;
    }
    let store = factory.reopen(store).await;
    let claimed = store.claim(10).await.unwrap();
    assert_eq!(claimed.iter().map(|l| l.stored.seq).collect::<Vec<_>>(), places);
    let first = &claimed[0];
    assert!(first.token > leases[0].token, "{} after {}", first.token, leases[0].token);
    assert_eq!(first.stored.validators["V1"].state, DeliveryState::Accepted);
    assert!(first.stored.validators["V2"].maybe_sent);
    assert_eq!(first.stored.signal, signal("s0", 0));
    let seq = accept_new(&*store, &signal("later", 0)).await;
    assert!(seq > places[3]);
}

/// Clauses 1 and 4, across a restart.
pub async fn a_restart_forgets_no_finished_signal(factory: &dyn StoreFactory) {
    let store = factory.create().await;
    let mut last = 0;
    for (name, state) in [("a", SignalState::Processed), ("b", SignalState::Failed)] {
        last = accept_new(&*store, &signal(name, 0)).await;
        let lease = claim_one(&*store).await;
        let all = vec![validator("V1", DeliveryState::Accepted)];
        store.finish(&lease, &report(state, all)).await.unwrap();
    }
    if !factory.survives() {
        return;
    }
    let mut store = factory.reopen(store).await;
    for round in 0..3 {
        for (name, state) in [("a", SignalState::Processed), ("b", SignalState::Failed)] {
            let stored = get(&*store, name).await;
            assert_eq!(stored.state, state, "round {round}");
            assert_eq!(stored.signal, signal(name, 0));
            assert_eq!(stored.validators["V1"].state, DeliveryState::Accepted);
            let again = store.accept(&signal(name, 0)).await.unwrap();
            assert_eq!(again, Accepted::Same { state });
            let other = store.accept(&signal(name, 1)).await;
            assert!(matches!(other, Err(StoreError::Conflict { .. })), "{other:?}");
        }
        assert!(store.claim(10).await.unwrap().is_empty());
        assert!(accept_new(&*store, &anonymous_signal(round)).await > last);
        let lease = claim_one(&*store).await;
        store.finish(&lease, &report(SignalState::Processed, vec![])).await.unwrap();
        store = factory.reopen(store).await;
    }
}

/// Cancelling.
pub async fn cancelling_is_a_wish_that_survives(factory: &dyn StoreFactory) {
    let store = factory.create().await;
    let _ = accept_new(&*store, &signal("a", 0)).await;
    assert!(!get(&*store, "a").await.cancel_requested);
    store.cancel(&id("a")).await.unwrap();
    store.cancel(&id("a")).await.unwrap();
    assert!(get(&*store, "a").await.cancel_requested);
    let unknown = store.cancel(&id("none")).await;
    assert!(matches!(unknown, Err(StoreError::NotFound { .. })), "{unknown:?}");
    let store = restarted(factory, store).await;
    let lease = claim_one(&*store).await;
    assert!(lease.stored.cancel_requested);
    store.finish(&lease, &report(SignalState::Failed, vec![])).await.unwrap();
    let late = store.cancel(&id("a")).await;
    assert!(
        matches!(late, Err(StoreError::WrongState { state: SignalState::Failed, .. })),
        "{late:?}"
    );
}

/// Retrying.
pub async fn only_a_failed_signal_can_be_retried(factory: &dyn StoreFactory) {
    let store = factory.create().await;
    let unknown = store.retry(&id("none")).await;
    assert!(matches!(unknown, Err(StoreError::NotFound { .. })), "{unknown:?}");
    let _ = accept_new(&*store, &signal("a", 0)).await;
    let early = store.retry(&id("a")).await;
    assert!(
        matches!(early, Err(StoreError::WrongState { state: SignalState::Pending, .. })),
        "{early:?}"
    );
    let lease = claim_one(&*store).await;
    store.finish(&lease, &report(SignalState::Processed, vec![])).await.unwrap();
    let late = store.retry(&id("a")).await;
    assert!(
        matches!(late, Err(StoreError::WrongState { state: SignalState::Processed, .. })),
        "{late:?}"
    );
}

/// Retrying, also across restarts.
pub async fn a_retry_sends_only_to_those_who_did_not_acknowledge(factory: &dyn StoreFactory) {
    let mut store = factory.create().await;
    let seq = accept_new(&*store, &signal("a", 0)).await;
    let old = claim_one(&*store).await;
    let mut unsure = validator("V2", DeliveryState::Unknown);
    unsure.maybe_sent = true;
    unsure.attempts = 3;
    let all = vec![validator("V1", DeliveryState::Accepted), unsure];
    store.finish(&old, &report(SignalState::Failed, all)).await.unwrap();
    store = restarted(factory, store).await;
    store.retry(&id("a")).await.unwrap();
    assert_eq!(get(&*store, "a").await.state, SignalState::Pending);
    let twice = store.retry(&id("a")).await;
    assert!(matches!(twice, Err(StoreError::WrongState { .. })), "{twice:?}");
    store = restarted(factory, store).await;
    let same = store.accept(&signal("a", 0)).await.unwrap();
    assert_eq!(same, Accepted::Same { state: SignalState::Pending });
    let lease = claim_one(&*store).await;
    assert_eq!(lease.stored.seq, seq);
    assert_eq!(lease.stored.validators["V1"].state, DeliveryState::Accepted);
    let again = &lease.stored.validators["V2"];
    assert_eq!((again.state, again.attempts), (DeliveryState::Submitted, 0));
    assert!(again.maybe_sent, "what may have been sent stays maybe sent");
    let lost = store.record(&old, Progress::Begin { hotkeys: vec!["V2".to_owned()] }).await;
    assert!(matches!(lost, Err(StoreError::LeaseLost { .. })), "{lost:?}");
    let all =
        vec![validator("V1", DeliveryState::Accepted), validator("V2", DeliveryState::Accepted)];
    store.finish(&lease, &report(SignalState::Processed, all)).await.unwrap();
    store = restarted(factory, store).await;
    assert_eq!(get(&*store, "a").await.state, SignalState::Processed);
    assert_eq!(store.list(&Filter::default()).await.unwrap().len(), 1);
}

/// The turn of a retried signal, also across restarts: what was sent before the retry may be repeated,
/// and must not come after it then.
pub async fn a_retried_signal_keeps_its_turn_after_what_was_accepted_before(
    factory: &dyn StoreFactory,
) {
    let mut store = factory.create().await;
    let turns = async |store: &dyn SignalStore| {
        let mut turns = Vec::new();
        while turns.len() < 4 {
            let claimed = store.claim(4).await.unwrap();
            turns.extend(claimed.iter().map(|lease| lease.stored.signal.id().to_string()));
        }
        turns
    };
    for (n, name) in ["a", "b", "c"].iter().enumerate() {
        let _ = accept_new(&*store, &signal(name, u32::try_from(n).unwrap())).await;
    }
    for _ in 0..2 {
        let lease = claim_one(&*store).await;
        store.finish(&lease, &report(SignalState::Failed, vec![])).await.unwrap();
    }
    store.retry(&id("b")).await.unwrap();
    store.retry(&id("a")).await.unwrap();
    let _ = accept_new(&*store, &signal("d", 3)).await;
    assert_eq!(turns(&*store).await, ["c", "b", "a", "d"]);
    if factory.survives() {
        for _ in 0..2 {
            store = factory.reopen(store).await;
            assert_eq!(turns(&*store).await, ["c", "b", "a", "d"]);
        }
    }
}

/// Listing.
pub async fn listing_is_newest_first_and_filtered(factory: &dyn StoreFactory) {
    let store = factory.create().await;
    for n in 0..9 {
        let _ = accept_new(&*store, &signal(&format!("s{n}"), n)).await;
    }
    for lease in store.claim(6).await.unwrap() {
        let state = match lease.stored.signal.id().as_str() {
            "s0" | "s3" => SignalState::Failed,
            _ => SignalState::Processed,
        };
        store.finish(&lease, &report(state, vec![])).await.unwrap();
    }
    let names = |filter: Filter| {
        let store = Arc::clone(&store);
        async move {
            let found = store.list(&filter).await.unwrap();
            found.iter().map(|s| s.signal.id().to_string()).collect::<Vec<_>>().join(" ")
        }
    };
    let all = Filter::default;
    assert_eq!(names(all()).await, "s8 s7 s6 s5 s4 s3 s2 s1 s0");
    assert_eq!(names(Filter { limit: 4, ..all() }).await, "s8 s7 s6 s5");
    let failed = Filter { states: vec![SignalState::Failed], ..all() };
    assert_eq!(names(failed).await, "s3 s0");
    let open = Filter { states: vec![SignalState::Pending, SignalState::Failed], ..all() };
    assert_eq!(names(open).await, "s8 s7 s6 s3 s0");
    let pair = Filter { trade_pair: Some("ETHUSDC".to_owned()), ..all() };
    assert_eq!(names(pair).await, "s7 s5 s3 s1");
    let before = get(&*store, "s4").await.seq;
    let page = Filter { before_seq: Some(before), limit: 2, ..all() };
    assert_eq!(names(page).await, "s3 s2");
}

/// Counting.
pub async fn pending_counts_what_is_not_finished(factory: &dyn StoreFactory) {
    let store = factory.create().await;
    let none = store.pending().await.unwrap();
    assert_eq!((none.count, none.oldest_at, none.accepting), (0, None, true));
    for n in 0..3 {
        let _ = accept_new(&*store, &signal(&format!("s{n}"), n)).await;
    }
    let oldest = get(&*store, "s1").await.accepted_at;
    let lease = claim_one(&*store).await;
    assert_eq!(store.pending().await.unwrap().count, 3);
    store.finish(&lease, &report(SignalState::Processed, vec![])).await.unwrap();
    let left = store.pending().await.unwrap();
    assert_eq!((left.count, left.oldest_at), (2, Some(oldest)));
}

/// Clause 5.
pub async fn watchers_and_listeners_hear_of_changes(factory: &dyn StoreFactory) {
    const PATIENCE: Duration = Duration::from_secs(10);
    let store = factory.create().await;
    let mut watch = store.watch();
    let mut events = store.events();
    let _ = watch.borrow_and_update();
    let seq = accept_new(&*store, &signal("a", 0)).await;
    tokio::time::timeout(PATIENCE, watch.changed()).await.expect("no wake-up").unwrap();
    let lease = claim_one(&*store).await;
    let begin = Progress::Begin { hotkeys: vec!["V1".to_owned()] };
    store.record(&lease, begin.clone()).await.unwrap();
    store.cancel(&id("a")).await.unwrap();
    store.finish(&lease, &report(SignalState::Failed, vec![])).await.unwrap();
    store.retry(&id("a")).await.unwrap();
    let mut changes = Vec::new();
    let mut last = 0;
    while changes.len() < 5 {
        let event = tokio::time::timeout(PATIENCE, events.recv()).await.expect("no event").unwrap();
        assert!(event.number > last && event.id.as_str() == "a");
        last = event.number;
        changes.push(event.change);
    }
    assert_eq!(
        changes,
        [
            StoreChange::Accepted {
                seq,
                trade_pair: Some("BTCUSDC".to_owned()),
                execution_type: crate::order::ExecutionType::Market,
                order_type: Some(crate::order::OrderType::Long),
            },
            StoreChange::Progress { progress: begin },
            StoreChange::CancelRequested,
            StoreChange::Finished {
                state: SignalState::Failed,
                reason: "nobody answered".to_owned()
            },
            StoreChange::RetryRequested,
        ]
    );
}
