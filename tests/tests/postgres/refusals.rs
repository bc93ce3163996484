//! What the server says no to, for a while or for good, and what it was told to do badly.

use ptn_core::directory::Wire;
use ptn_core::record::{DeliveryState, Progress, SignalState};
use ptn_core::store::conformance::{report, signal, validator};
use ptn_core::store::{Accepted, PgStore, SignalStore, StoreError};
use ptn_core::validator::{LoopbackValidator, ValidatorOptions};
use ptn_tests::cluster::Cluster;
use ptn_tests::http::exchange;
use ptn_tests::postgres::{Database, until};
use ptn_tests::process::Home;
use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use super::loss::everything;
use super::{accept, claim_one, is_sure, options, owner};

const MINER: &str = env!("CARGO_BIN_EXE_ptn-miner-under-test");
const SERVER: &str = env!("CARGO_BIN_EXE_ptn-server-under-test");

/// Posts an order to a server; status, `Retry-After`, and body.
async fn post(address: &str, id: &str) -> (u16, Option<u64>, Value) {
    let order = json!({"api_key": "test-key", "trade_pair": "BTCUSDC", "order_type": "long",
        "leverage": "0.1", "order_uuid": id});
    let headers = [("content-type", "application/json")];
    let path = "/api/receive-signal";
    let asked = exchange(address, hyper::Method::POST, path, &headers, &order.to_string()).await;
    let (status, headers, body) = asked.unwrap();
    let after = headers.get("retry-after").and_then(|v| v.to_str().ok()?.parse().ok());
    (status, after, body)
}

/// Runs several statements of the test's own.
async fn script(database: &Database, sql: &str) {
    let mut connection = database.connect().await;
    connection.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
}

/// Lets the first so many changes of a table fail with this code.
async fn plant(database: &Database, when: &str, code: &str, times: u32) {
    let sql = format!(
        "CREATE SEQUENCE tries;
         CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF nextval('tries') <= {times} THEN
                 RAISE EXCEPTION 'planted' USING ERRCODE = '{code}';
             END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER fail BEFORE {when} FOR EACH ROW EXECUTE FUNCTION fail();"
    );
    script(database, &sql).await;
}

#[tokio::test]
async fn a_server_without_a_free_connection_is_said_and_heals() {
    let settings = ["fsync=off", "max_connections=20", "superuser_reserved_connections=0"];
    let cluster = Cluster::new(&settings).await;
    let store = owner(&cluster.url()).await;
    accept(&store, "a", 0).await;
    let lease = claim_one(&store).await;
    let targets = vec![validator("V1", DeliveryState::Submitted)];
    store.record(&lease, Progress::Targets { validators: targets }).await.unwrap();
    let home = Home::new(&[]);
    let mut daemon = home.server(SERVER, &["--store", &cluster.url(), "--limits", "off"]);
    let address = daemon.up().await["address"].as_str().unwrap().to_owned();
    let mut taken = Vec::new();
    let refused = loop {
        match PgConnection::connect(&cluster.url()).await {
            Ok(connection) => taken.push(connection),
            Err(error) => break error,
        }
    };
    assert_eq!(refused.as_database_error().unwrap().code().as_deref(), Some("53300"));

    let (status, after, body) = post(&address, "b").await;
    assert_eq!((status, &body["code"]), (503, &json!("store_unavailable")), "{body}");
    assert!(after.is_some_and(|seconds| seconds > 0), "{after:?}");
    assert!(body.to_string().contains("too many clients"), "{body}");
    let error = PgStore::open(options(&cluster.url())).await.unwrap_err();
    assert!(matches!(&error, StoreError::Unavailable { maybe: false, .. }), "{error:?}");
    assert!(error.to_string().contains("too many clients"), "{error}");
    // Who runs goes on: also when its lease had to be renewed more than once.
    let renewals = "SELECT renewals FROM ptn_tenure";
    let seen: i64 = sqlx::query_scalar(renewals).fetch_one(&mut taken[0]).await.unwrap();
    until("the lease is renewed", async || {
        sqlx::query_scalar::<_, i64>(renewals).fetch_one(&mut taken[0]).await.unwrap() > seen + 1
    })
    .await;
    assert!(is_sure(&store, &lease));
    accept(&store, "c", 0).await;
    store.finish(&lease, &report(SignalState::Processed, vec![])).await.unwrap();

    taken.clear();
    until("it accepts again", async || post(&address, "b").await.0 == 200).await;
    daemon.kill().await;
}

#[tokio::test]
async fn a_server_that_only_reads_is_said_and_waited_for() {
    let database = Database::new().await;
    let store = owner(&database.url()).await;
    let server = PgStore::open(options(&database.url())).await.unwrap();
    accept(&server, "a", 0).await;
    let lease = claim_one(&store).await;
    database.alter("SET default_transaction_read_only = on").await;
    database.end_sessions().await;
    // The first one may have been under way when its session was ended.
    drop(server.accept(&signal("b", 0)).await.unwrap_err());
    let error = server.accept(&signal("b", 0)).await.unwrap_err();
    assert!(matches!(&error, StoreError::Unavailable { maybe: false, .. }), "{error:?}");
    assert!(error.to_string().contains("read-only"), "{error}");
    let done = report(SignalState::Processed, vec![validator("V1", DeliveryState::Accepted)]);
    let error = store.finish(&lease, &done).await.unwrap_err();
    assert!(error.to_string().contains("read-only"), "{error}");
    database.alter("RESET default_transaction_read_only").await;
    until("it takes the end", async || store.finish(&lease, &done).await.is_ok()).await;
    accept(&server, "b", 0).await;
    assert_eq!(claim_one(&store).await.stored.signal.id().as_str(), "b");
}

#[tokio::test]
async fn what_a_conflict_of_transactions_rolled_back_is_repeated() {
    for code in ["40001", "40P01"] {
        let database = Database::new().await;
        let store = owner(&database.url()).await;
        plant(&database, "INSERT OR UPDATE ON ptn_signal", code, 3).await;
        let accepted = store.accept(&signal("a", 0)).await;
        assert!(matches!(accepted, Ok(Accepted::New { .. })), "{code}: {accepted:?}");
        script(&database, "ALTER SEQUENCE tries RESTART").await;
        let lease = claim_one(&store).await;
        store.finish(&lease, &report(SignalState::Processed, vec![])).await.unwrap();
        let tries = database.number("SELECT last_value FROM tries").await;
        assert_eq!(tries, 4, "{code}: three times refused");
    }
}

#[tokio::test]
async fn a_full_disk_of_the_server_is_said_and_heals() {
    let database = Database::new().await;
    let store = PgStore::open(options(&database.url())).await.unwrap();
    let flags = ["--store", &database.url(), "--limits", "off"];
    let home = Home::new(&[]);
    let mut daemon = home.server(SERVER, &flags);
    let address = daemon.up().await["address"].as_str().unwrap().to_owned();
    plant(&database, "INSERT ON ptn_signal", "53100", 1_000_000).await;
    let error = store.accept(&signal("a", 0)).await.unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    let (status, after, body) = post(&address, "a").await;
    assert_eq!((status, &body["code"]), (507, &json!("disk_full")), "{body}");
    assert!(after.is_some_and(|seconds| seconds > 0), "{after:?}");
    script(&database, "DROP TRIGGER fail ON ptn_signal").await;
    accept(&store, "a", 0).await;
    assert_eq!(post(&address, "b").await.0, 200);
    daemon.kill().await;
}

#[tokio::test]
async fn plans_that_became_stale_and_statements_that_are_gone_need_no_restart() {
    let database = Database::new().await;
    let store = owner(&database.url()).await;
    everything(&store, "before").await;
    for (n, other) in ["varchar(1000000)", "text"].into_iter().enumerate() {
        let sql = format!(
            "ALTER TABLE ptn_signal ALTER COLUMN reason TYPE {other}, ALTER COLUMN body TYPE {other};
             ALTER TABLE ptn_tenure ALTER COLUMN owner TYPE {other};"
        );
        script(&database, &sql).await;
        everything(&store, &format!("altered-{n}")).await;
    }
    // As a pooler between us and the server does that resets its sessions.
    let forget = "CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             EXECUTE 'DEALLOCATE ALL';
             RETURN NULL;
         END $$;
         CREATE TRIGGER forget AFTER INSERT OR UPDATE ON ptn_signal EXECUTE FUNCTION forget();
         CREATE TRIGGER forget AFTER INSERT OR UPDATE ON ptn_delivery EXECUTE FUNCTION forget();
         CREATE TRIGGER forget AFTER UPDATE ON ptn_tenure EXECUTE FUNCTION forget();";
    script(&database, forget).await;
    for n in 0..3 {
        everything(&store, &format!("forgotten-{n}")).await;
    }
    let renewals = database.number("SELECT renewals FROM ptn_tenure").await;
    until("the lease is renewed", async || {
        database.number("SELECT renewals FROM ptn_tenure").await > renewals + 2
    })
    .await;
    assert!(*store.delivering().borrow());
}

#[tokio::test]
async fn a_commit_is_never_asynchronous_whatever_the_database_says() {
    let database = Database::new().await;
    PgStore::open(options(&database.url())).await.unwrap().close().await;
    let watch = "CREATE TABLE seen (what text, setting text);
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO seen VALUES (TG_TABLE_NAME, current_setting('synchronous_commit'));
             RETURN NULL;
         END $$;
         CREATE TRIGGER note AFTER INSERT OR UPDATE ON ptn_signal EXECUTE FUNCTION note();
         CREATE TRIGGER note AFTER INSERT OR UPDATE ON ptn_delivery EXECUTE FUNCTION note();
         CREATE TRIGGER note AFTER UPDATE ON ptn_tenure EXECUTE FUNCTION note();";
    script(&database, watch).await;
    database.alter("SET synchronous_commit = off").await;
    let rows = database.sql("SHOW synchronous_commit").await;
    assert_eq!(sqlx::Row::get::<String, _>(&rows[0], 0), "off", "others have it so");
    let store = owner(&database.url()).await;
    everything(&store, "a").await;
    store.close().await;
    let tables = database.number("SELECT count(DISTINCT what) FROM seen").await;
    assert_eq!(tables, 3, "everything was seen");
    let others = database.number("SELECT count(*) FROM seen WHERE setting <> 'on'").await;
    assert_eq!(others, 0);
}

#[tokio::test]
async fn a_server_that_may_lose_what_it_wrote_is_warned_of() {
    let cluster = Cluster::new(&["fsync=off"]).await;
    let home = Home::new(&[]);
    let mut daemon = home.server(SERVER, &["--store", &cluster.url()]);
    let warned = daemon.line(|v| v["message"].as_str().is_some_and(|m| m.contains("fsync"))).await;
    assert_eq!(warned["level"], "WARN", "{warned}");
    daemon.up().await;
    daemon.kill().await;
}

#[tokio::test]
async fn programs_that_are_older_than_the_tables_end_and_say_what_to_do() {
    let database = Database::new().await;
    PgStore::open(options(&database.url())).await.unwrap().close().await;
    script(&database, "INSERT INTO ptn_schema (version) VALUES (99)").await;
    let nobody = LoopbackValidator::start(ValidatorOptions::default()).await.unwrap();
    let home = Home::new(&[nobody.entry(Wire::Btauth)]);
    let flags = ["--store", &database.url()];
    for daemon in [home.server(SERVER, &flags), home.miner(MINER, &flags)] {
        let (status, said) = daemon.end().await;
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("release 99") && said.contains("use a newer program"), "{said}");
    }
}

#[tokio::test]
async fn a_lease_outlives_an_outage_of_the_whole_server() {
    let mut cluster = Cluster::new(&["fsync=off"]).await;
    let store = owner(&cluster.url()).await;
    accept(&store, "a", 0).await;
    let lease = claim_one(&store).await;
    let tenure = store.tenure();
    cluster.stop();
    until("nothing is sent any more", async || !is_sure(&store, &lease)).await;
    let error = store.accept(&signal("b", 0)).await.unwrap_err();
    assert_eq!(error.code(), "store_unavailable");
    cluster.start().await;
    until("the lease is confirmed again", async || is_sure(&store, &lease)).await;
    assert_eq!(store.tenure(), tenure, "under the same token");
    store.finish(&lease, &report(SignalState::Processed, vec![])).await.unwrap();
}
