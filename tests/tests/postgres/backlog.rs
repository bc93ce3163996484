//! A million signals that wait, and a million that are finished, do not slow claims.

use std::time::{Duration, Instant};

use ptn_core::record::SignalState;
use ptn_core::store::conformance::signal;
use ptn_core::store::{Filter, PgStore, SignalStore};
use ptn_tests::postgres::Database;

use super::{accept, owner};

/// The rows that so many claims of 64 read, by PostgreSQL's own count, and their median time.
async fn claim(database: &Database, store: &PgStore, claims: usize) -> (i64, Duration) {
    let before = rows_read(database).await;
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
    (rows_read(database).await - before, times[times.len() / 2])
}

/// Rows that all statements so far read of the table. Sessions report what they did within a second
/// of being idle, so this waits until the number stands still.
async fn rows_read(database: &Database) -> i64 {
    let mut last = (-1, 0);
    loop {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let count = database
            .number(
                "SELECT (seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint FROM pg_stat_user_tables
                 WHERE relname = 'ptn_signal'",
            )
            .await;
        last = if count == last.0 { (count, last.1 + 1) } else { (count, 0) };
        if last.1 == 2 {
            return count;
        }
    }
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
    let (few, quick) = claim(&database, &store, CLAIMS).await;
    for state in [1, 0] {
        database.sql(&fill(state, MILLION)).await;
    }
    let (many, then) = claim(&database, &store, CLAIMS).await;
    println!(
        "{CLAIMS} claims of 64: {few} rows read, {quick:?} each, with few; {many} rows, {then:?} each, \
         with a million waiting and a million done"
    );
    assert!(many <= few * 3 + 1000, "{few} rows read became {many}");
    // And after all of it was read once, what comes new is found as fast.
    let before = rows_read(&database).await;
    accept(&store, "new", 0).await;
    let filter = Filter { states: vec![SignalState::Failed], ..Filter::default() };
    assert!(store.list(&filter).await.unwrap().is_empty());
    let read = rows_read(&database).await - before;
    assert!(read < 10_000, "an accept and a list of a rare state read {read} rows");
    assert!(store.pending().await.unwrap().count > MILLION);
}
