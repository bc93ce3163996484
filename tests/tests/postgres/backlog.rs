//! A million signals that wait, and a million that are finished, do not slow claims.

use std::time::{Duration, Instant};

use ptn_core::store::SignalStore;
use ptn_core::store::conformance::signal;
use ptn_tests::postgres::Database;

use super::{accept, owner};

/// The median time of a claim of 64, with everything that claiming does.
async fn median_claim(store: &ptn_core::store::PgStore, claims: usize) -> Duration {
    let mut times = Vec::new();
    while times.len() < claims {
        let began = Instant::now();
        let leases = store.claim(64).await.unwrap();
        if !leases.is_empty() {
            assert_eq!(leases.len(), 64);
            times.push(began.elapsed());
        }
    }
    times.sort();
    times[times.len() / 2]
}

/// Rows as `accept` makes them, the quick way.
fn fill(state: u8, count: u64) -> String {
    let body = signal("x", 0).to_stored().replace('\'', "''");
    let digest = "'\\x00'";
    format!(
        "INSERT INTO ptn_signal (seq, place, id, digest, ticket, trade_pair, accepted_at, state, finished_at, body)
         SELECT n, n, 's' || n, {digest}, n, 'BTCUSDC', 1765000000000, {state}, {finished},
             replace('{body}', '\"x\"', '\"s' || n || '\"')
         FROM (SELECT nextval('ptn_place') AS n FROM generate_series(1, {count})) AS numbers",
        finished = if state == 0 { "NULL" } else { "1765000001000" },
    )
}

#[tokio::test]
async fn claims_cost_the_same_with_a_million_waiting_and_a_million_finished() {
    const MILLION: u64 = 1_000_000;
    const CLAIMS: usize = 40;
    let database = Database::new().await;
    let store = owner(&database.url()).await;
    database.sql(&fill(0, 64 * CLAIMS as u64)).await;
    let few = median_claim(&store, CLAIMS).await;
    for state in [1, 0] {
        database.sql(&fill(state, MILLION)).await;
    }
    let many = median_claim(&store, CLAIMS).await;
    // And after all of it was read once, what comes new is found as fast.
    println!("a claim of 64: {few:?} with few, {many:?} with a million waiting and a million done");
    assert!(many < few * 3 + Duration::from_millis(2), "{few:?} became {many:?}");
    let began = Instant::now();
    accept(&store, "new", 0).await;
    let accepting = began.elapsed();
    assert!(accepting < Duration::from_secs(1), "{accepting:?}");
    assert!(store.pending().await.unwrap().count > MILLION);
    let filter = ptn_core::store::Filter {
        states: vec![ptn_core::record::SignalState::Failed],
        ..ptn_core::store::Filter::default()
    };
    let began = Instant::now();
    assert!(store.list(&filter).await.unwrap().is_empty());
    assert!(began.elapsed() < Duration::from_millis(500), "a rare state: {:?}", began.elapsed());
}
