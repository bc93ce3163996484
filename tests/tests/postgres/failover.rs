//! A standby takes over: one that lacks the last commits, and one that is waited for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ptn_core::record::{DeliveryState, Progress, SignalState};
use ptn_core::rules::{Era, Rules};
use ptn_core::sign::Hotkey;
use ptn_core::signal::OrderUuid;
use ptn_core::store::conformance::{report, signal, validator};
use ptn_core::store::{Accepted, Filter, PgStore, SignalStore, StoreError};
use ptn_core::validator::Verdict;
use ptn_tests::cluster::Cluster;
use ptn_tests::postgres::{Line, until};

use super::engines::{Validators, order};
use super::loss::insist;
use super::{PATIENCE, accept, get, options, owner};

/// As many numbers as this are logged ahead, so fewer are not given out twice.
const LOST: u32 = 60;

/// A server and its standby, and the address by which programs find the one that serves.
struct Servers {
    primary: Cluster,
    standby: Cluster,
    line: Line,
}

impl Servers {
    async fn new() -> Self {
        let primary = Cluster::new(&["fsync=off"]).await;
        let standby = primary.standby().await;
        let line = Line::to(primary.address()).await;
        Self { primary, standby, line }
    }

    fn url(&self) -> String {
        format!("postgres://postgres@{}/postgres?sslmode=disable", self.line.address)
    }

    /// From here on the standby hears of nothing.
    async fn cut_off(&self) {
        self.primary.wait_for(&self.standby).await;
        self.standby.cut_off().await;
    }

    async fn fail_over(&self) {
        self.line.set_closed(true);
        self.standby.promote().await;
        self.line.turn_to(self.standby.address());
        self.line.set_closed(false);
    }
}

#[tokio::test]
async fn a_number_that_is_given_out_twice_makes_no_signal_anothers() {
    let servers = Servers::new().await;
    let store = owner(&servers.url()).await;
    let server = PgStore::open(options(&servers.url())).await.unwrap();
    for n in 0..10 {
        accept(&server, &format!("kept-{n:02}"), n).await;
    }
    servers.cut_off().await;
    for n in 0..LOST {
        accept(&server, &format!("lost-{n:02}"), n).await;
    }
    let mut leases = BTreeMap::new();
    while leases.len() < 10 + LOST as usize {
        for lease in store.claim(32).await.unwrap() {
            leases.insert(lease.stored.signal.id().to_string(), lease);
        }
    }
    let lost_numbers: BTreeSet<u64> = leases
        .values()
        .filter(|lease| lease.stored.signal.id().as_str().starts_with("lost"))
        .map(|lease| lease.stored.seq)
        .collect();
    servers.fail_over().await;
    for n in 0..LOST {
        let signal = signal(&format!("new-{n:02}"), n);
        insist(async || store_new(&server, &signal).await).await.unwrap();
    }
    // What comes new is found although its numbers were passed, and nothing is claimed twice.
    let mut new = Vec::new();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while new.len() < LOST as usize {
        assert!(tokio::time::Instant::now() < deadline, "only {new:?} are found");
        for lease in insist(async || store.claim(7).await).await.unwrap() {
            let id = lease.stored.signal.id().to_string();
            assert!(id.starts_with("new"), "{id} is in delivery already");
            new.push(id.clone());
            leases.insert(id, lease);
        }
    }
    assert!(new.is_sorted(), "in order: {new:?}");
    let twice = new.iter().filter(|id| lost_numbers.contains(&leases[*id].stored.seq)).count();
    assert!(twice > 0, "no number was given out twice");

    let said = |id: &str| {
        let mut said = validator("V1", DeliveryState::Accepted);
        said.message = format!("about {id}");
        said
    };
    for (id, lease) in &leases {
        let outcome = Progress::Outcome { validator: said(id) };
        insist(async || store.record(lease, outcome.clone()).await).await.unwrap();
    }
    for (id, lease) in &leases {
        let lost = id.starts_with("lost");
        let end = if lost { SignalState::Failed } else { SignalState::Processed };
        let end = report(end, vec![said(id)]);
        let finished = insist(async || store.finish(lease, &end).await).await;
        match finished {
            Err(StoreError::LeaseLost { .. }) if lost => {}
            Ok(()) if !lost => {}
            other => panic!("{id}: {other:?}"),
        }
    }
    let all = server.list(&Filter { limit: 1000, ..Filter::default() }).await.unwrap();
    let ids: BTreeSet<String> = all.iter().map(|s| s.signal.id().to_string()).collect();
    let expected = leases.keys().filter(|id| !id.starts_with("lost")).cloned().collect();
    assert_eq!(ids, expected, "those that the standby lacked are missing, and no others");
    for stored in all {
        let id = stored.signal.id();
        assert_eq!(stored.state, SignalState::Processed, "{id}");
        assert_eq!(stored.validators.len(), 1, "{id}");
        assert_eq!(stored.validators["V1"].message, format!("about {id}"));
    }
}

/// Accepts one that must not be there yet.
async fn store_new(store: &PgStore, signal: &ptn_core::signal::Signal) -> Result<(), StoreError> {
    match store.accept(signal).await? {
        Accepted::New { .. } => Ok(()),
        Accepted::Same { state } => panic!("{} is {state} already", signal.id()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_accepted_after_a_failover_arrives_once_and_in_order() {
    engine_through_a_failover(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_miner_whose_lease_the_standby_never_heard_of_goes_on() {
    engine_through_a_failover(false).await;
}

/// An engine delivers before and after; `known`: it took its lease before the standby was cut off.
async fn engine_through_a_failover(known: bool) {
    let rules = Rules::load(Era::Y2026).unwrap();
    let servers = Servers::new().await;
    let validators = Validators::new(Era::Y2026).await;
    let server = PgStore::open(options(&servers.url())).await.unwrap();
    let start = async || {
        let store = owner(&servers.url()).await;
        validators.engine(&store, &Arc::new(Hotkey::generate()), Era::Y2026)
    };
    let mut engine = None;
    let pairs = ["BTCUSDC", "ETHUSDC"];
    let offer = async |name: &str, count: usize| {
        let mut ids = Vec::new();
        for n in 0..count {
            let id = format!("{name}-{n:02}");
            let order = order(&id, pairs[n % 2], &rules);
            insist(async || store_new(&server, &order).await).await.unwrap();
            ids.push(id);
        }
        ids
    };
    let settled = async || {
        until("everything is finished", async || {
            server.pending().await.is_ok_and(|pending| pending.count == 0)
        })
        .await;
    };
    let mut ids = offer("kept", 10).await;
    if known {
        engine = Some(start().await);
        settled().await;
    }
    servers.cut_off().await;
    if engine.is_none() {
        engine = Some(start().await);
    }
    offer("lost", LOST as usize).await;
    settled().await;
    servers.fail_over().await;
    ids.extend(offer("new", LOST as usize).await);
    // Some senders never heard, and send again what the validators have already.
    ids.extend(offer("lost", 10).await);
    settled().await;

    let all = server.list(&Filter { limit: 1000, ..Filter::default() }).await.unwrap();
    let there: BTreeSet<String> = all.iter().map(|s| s.signal.id().to_string()).collect();
    assert_eq!(there, ids.iter().cloned().collect(), "only what the standby lacked is missing");
    for id in &ids {
        let stored = get(&server, id).await;
        assert_eq!(stored.state, SignalState::Processed, "{stored:?}");
    }
    for validator in &validators.0 {
        let received = validator.received();
        let taken = received.iter().filter(|r| r.verdict == Verdict::Accepted);
        let taken: Vec<&str> = taken.map(|r| r.order_uuid.as_str()).collect();
        let once: BTreeSet<&str> = taken.iter().copied().collect();
        assert_eq!(once.len(), taken.len(), "each once");
        assert!(ids.iter().all(|id| once.contains(id.as_str())), "all of them");
        for odd in [0, 1] {
            let lane = taken.iter().filter(|id| {
                id.strip_prefix("new-").is_some_and(|n| n.parse::<u32>().unwrap() % 2 == odd)
            });
            assert!(lane.is_sorted(), "{taken:?}");
        }
    }
    engine.unwrap().shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn no_answer_promises_what_a_synchronous_standby_lacks() {
    let primary = Cluster::new(&["fsync=off"]).await;
    let mut standby = primary.standby().await;
    primary.set("synchronous_standby_names", "*").await;
    let in_step = "SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'";
    until("it is in step", async || primary.holds(in_step).await).await;
    let mut patient = options(&primary.url());
    patient.patience = PATIENCE;
    let store = Arc::new(PgStore::open(patient).await.unwrap());
    accept(&store, "before", 0).await;
    standby.kill();

    let accepting = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { accept(&store, "a", 0).await })
    };
    waits(&primary, None).await;
    // Ended, it leaves the commit behind, which everybody sees and no standby has.
    let first = end(&primary).await;
    until("it can be seen", async || {
        primary.holds("SELECT count(*) = 1 FROM ptn_signal WHERE id = 'a'").await
    })
    .await;
    waits(&primary, Some(first)).await;
    assert!(!accepting.is_finished(), "answered although no standby has it");
    standby.start().await;
    assert!(accepting.await.unwrap() > 0);
    assert!(standby.holds("SELECT count(*) = 1 FROM ptn_signal WHERE id = 'a'").await);

    until("it is in step", async || primary.holds(in_step).await).await;
    standby.kill();
    let cancelling = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.cancel(&OrderUuid::parse("a").unwrap()).await })
    };
    waits(&primary, None).await;
    let first = end(&primary).await;
    waits(&primary, Some(first)).await;
    assert!(!cancelling.is_finished(), "answered although no standby has it");
    standby.start().await;
    cancelling.await.unwrap().unwrap();
    assert!(standby.holds("SELECT cancel FROM ptn_signal WHERE id = 'a'").await);
}

/// Waits until a session of ours waits for a standby, other than that one.
async fn waits(primary: &Cluster, other_than: Option<i32>) {
    let sql = format!(
        "SELECT count(*) = 1 FROM pg_stat_activity
         WHERE application_name = 'ptn' AND wait_event = 'SyncRep' AND pid <> {}",
        other_than.unwrap_or_default()
    );
    until("its commit waits for the standby", async || primary.holds(&sql).await).await;
}

/// Ends the session whose commit waits; says which one.
async fn end(primary: &Cluster) -> i32 {
    let rows = primary
        .sql(
            "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE application_name = 'ptn' AND wait_event = 'SyncRep'",
        )
        .await;
    sqlx::Row::get(&rows[0], 0)
}
