//! The tables: made and brought up to date when a store is opened, by one process at a time.
//!
//! Every release's step is embedded and runs once, in a transaction of its own. Tables of a newer
//! release are left alone: whoever meets them must be updated first.

use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};

use super::link::{Server, Trouble, connect};
use crate::store::StoreError;

const STEPS: &[&str] = &[include_str!("migrations/0001_signals.sql")];

/// "ptn", so that two starters do not make the same tables.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7369838)";

/// Makes the tables, or brings them up to date; says which schema they are in.
pub(super) async fn prepare(server: &Server, patience: Duration) -> Result<String, StoreError> {
    let trouble = |t: Trouble| t.into_error(&server.name);
    let failed = |e: sqlx::Error| Trouble::of(&e, false).into_error(&server.name);
    let mut connection = connect(server, patience).await.map_err(trouble)?;
    let schema: Option<String> = sqlx::query_scalar("SELECT current_schema()::text")
        .fetch_one(&mut connection)
        .await
        .map_err(failed)?;
    let Some(schema) = schema else {
        return Err(StoreError::Database {
            server: server.name.clone(),
            code: "3F000".to_owned(),
            why: "the search_path names no schema that exists; create it first".to_owned(),
        });
    };
    // Nothing to do, nothing to lock: a role that may not make tables can use them all the same.
    if version(&mut connection).await.map_err(failed)? != known() {
        update(server, &mut connection).await?;
    }
    durability(server, &mut connection).await;
    connection.close().await.ok();
    Ok(schema)
}

fn known() -> i32 {
    i32::try_from(STEPS.len()).unwrap_or(i32::MAX)
}

async fn version(connection: &mut PgConnection) -> Result<i32, sqlx::Error> {
    // Looked up in the catalogue: what a name stands for is remembered by a session, and another
    // starter may have made the table meanwhile.
    let there = sqlx::query(
        "SELECT EXISTS (SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relname = 'ptn_schema' AND n.nspname = current_schema())",
    );
    if !there.fetch_one(&mut *connection).await?.try_get::<bool, _>(0)? {
        return Ok(0);
    }
    let newest = sqlx::query("SELECT coalesce(max(version), 0) FROM ptn_schema");
    newest.fetch_one(connection).await?.try_get(0)
}

async fn update(server: &Server, connection: &mut PgConnection) -> Result<(), StoreError> {
    let failed = |e: sqlx::Error| Trouble::of(&e, false).into_error(&server.name);
    let mut transaction = connection.begin().await.map_err(failed)?;
    // A table may be large, and the other starter may be at it.
    let patient = "SET LOCAL statement_timeout = '10min'; SET LOCAL lock_timeout = '10min'";
    for sql in [patient, LOCK] {
        sqlx::raw_sql(sql).execute(&mut *transaction).await.map_err(failed)?;
    }
    let found = version(&mut transaction).await.map_err(failed)?;
    if found > known() {
        let (server, known) = (server.name.clone(), known());
        return Err(StoreError::Schema { server, found, known });
    }
    let table = "CREATE TABLE IF NOT EXISTS ptn_schema \
         (version integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())";
    sqlx::raw_sql(table).execute(&mut *transaction).await.map_err(failed)?;
    let done = usize::try_from(found).unwrap_or(0);
    for (step, sql) in STEPS.iter().enumerate().skip(done) {
        sqlx::raw_sql(*sql).execute(&mut *transaction).await.map_err(failed)?;
        let number = i32::try_from(step.saturating_add(1)).unwrap_or(i32::MAX);
        let note = sqlx::query("INSERT INTO ptn_schema (version) VALUES ($1)").bind(number);
        note.execute(&mut *transaction).await.map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)?;
    if found < known() {
        tracing::info!(store = server.name, from = found, to = known(), "tables made or updated");
    }
    Ok(())
}

/// What we cannot set for ourselves.
async fn durability(server: &Server, connection: &mut PgConnection) {
    let sql =
        "SELECT current_setting('fsync')::boolean AND current_setting('full_page_writes')::boolean";
    let durable = sqlx::query_scalar::<_, bool>(sql).fetch_one(connection).await;
    if matches!(durable, Ok(false)) {
        tracing::warn!(
            store = server.name,
            "the server runs with fsync or full_page_writes off: a power cut can lose accepted signals"
        );
    }
}
