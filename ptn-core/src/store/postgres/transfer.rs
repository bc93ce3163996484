//! Moving signals into a database and out of it.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::Row as _;
use tokio::time::Instant;

use super::link::{Link, Statement};
use super::queue::odd;
use super::read::{state_number, text};
use super::{PgStore, Shared};
use crate::signal::OrderUuid;
use crate::store::transfer::{Transfer, conflict};
use crate::store::{StoreError, StoredSignal};

/// Nobody waits for an answer within seconds here.
const PATIENCE: Duration = Duration::from_secs(60);
const PAGE: i64 = 20_000;

/// By number; the turn of what is unfinished is its place.
const IDS: &str = "\
SELECT seq, id, CASE WHEN state = 0 THEN place ELSE seq END AS turn
FROM ptn_signal s WHERE seq > $1 ORDER BY s.seq LIMIT $2";

const IMPORT: &str = "\
WITH turn AS MATERIALIZED (
    SELECT 1 FROM ptn_store FOR UPDATE
), held AS MATERIALIZED (
    SELECT 1 FROM ptn_tenure WHERE token = $1 AND owner = $14 FOR SHARE
), given AS MATERIALIZED (
    SELECT nextval('ptn_place') AS seq, g.*
    FROM turn, held, unnest($2::text[], $3::bytea[], $4::text[], $5::bigint[], $6::smallint[],
        $7::boolean[], $8::bigint[], $9::text[], $10::text[]) WITH ORDINALITY
        AS g(id, digest, pair, accepted_at, state, cancel, finished_at, reason, body, n)
    ORDER BY g.n
), new AS (
    INSERT INTO ptn_signal AS s (seq, place, id, digest, ticket, trade_pair, accepted_at, state,
        cancel, finished_at, reason, body)
    SELECT seq, seq, id, digest, 0, pair, accepted_at, state, cancel, finished_at, reason, body
    FROM given ORDER BY n
    ON CONFLICT (id) DO UPDATE SET
        place = CASE WHEN s.state <> 0 AND excluded.state = 0 THEN excluded.place ELSE s.place END,
        accepted_at = excluded.accepted_at, state = excluded.state, cancel = excluded.cancel,
        finished_at = excluded.finished_at, finished_by = NULL, reason = excluded.reason
    WHERE s.digest = excluded.digest
    RETURNING s.seq, s.id
), kept AS (
    INSERT INTO ptn_delivery (seq, hotkey, record)
    SELECT new.seq, v.hotkey, v.record::json
    FROM new JOIN unnest($11::text[], $12::text[], $13::text[]) AS v(id, hotkey, record) USING (id)
    ON CONFLICT (seq, hotkey) DO UPDATE SET record = excluded.record
)
SELECT (SELECT count(*) FROM held) AS held, ARRAY(SELECT id FROM new) AS ids";

#[async_trait]
impl Transfer for PgStore {
    async fn ids(&self) -> Result<Vec<OrderUuid>, StoreError> {
        let shared = &self.shared;
        let failed = |e: sqlx::Error| odd(e).into_error(&shared.server.name);
        let (mut ids, mut after) = (Vec::new(), 0_i64);
        loop {
            let rows = shared.reads.read(|| sqlx::query(IDS).bind(after).bind(PAGE)).await?;
            for row in &rows {
                after = row.try_get(0).map_err(failed)?;
                let turn: i64 = row.try_get(2).map_err(failed)?;
                let id = OrderUuid::parse(&row.try_get::<String, _>(1).map_err(failed)?);
                ids.extend(id.ok().map(|id| (turn, id)));
            }
            if rows.is_empty() {
                ids.sort_by_key(|(turn, _)| *turn);
                return Ok(ids.into_iter().map(|(_, id)| id).collect());
            }
        }
    }

    async fn fetch(&self, ids: &[OrderUuid]) -> Result<Vec<StoredSignal>, StoreError> {
        self.shared.get_all(ids).await
    }

    async fn import(&self, signals: &[StoredSignal]) -> Result<(), StoreError> {
        let Some(first) = signals.first() else { return Ok(()) };
        let shared = &self.shared;
        let lost = || StoreError::LeaseLost { id: first.signal.id().clone() };
        let tenure = shared.tenures.token().ok_or_else(lost)?;
        let failed = |e: sqlx::Error| odd(e).into_error(&shared.server.name);
        let mut link = Link::new(&shared.server);
        let rows =
            link.persist(Instant::now() + PATIENCE, || statement(shared, tenure, signals)).await;
        let rows = rows.map_err(|t| t.into_error(&shared.server.name))?;
        let Some(row) = rows.first() else { return Err(lost()) };
        if row.try_get::<i64, _>("held").map_err(failed)? == 0 {
            return Err(lost());
        }
        let written: Vec<String> = row.try_get("ids").map_err(failed)?;
        shared.look_again();
        match signals.iter().find(|s| !written.iter().any(|id| id == s.signal.id().as_str())) {
            None => Ok(()),
            Some(refused) => {
                let known = shared.get_all(std::slice::from_ref(refused.signal.id())).await?;
                Err(conflict(refused, known.first().map_or([0; 32], |s| s.signal.digest())))
            }
        }
    }

    async fn moved(&self) -> Result<Option<String>, StoreError> {
        self.shared.moved_to().await
    }

    async fn set_moved(&self, to: Option<&str>) -> Result<(), StoreError> {
        let to = to.map(text);
        let update = "UPDATE ptn_store SET moved_to = $1";
        self.shared.reads.read(|| sqlx::query(update).bind(to.clone())).await.map(drop)
    }
}

fn statement(shared: &Shared, tenure: i64, signals: &[StoredSignal]) -> Statement {
    let each = |f: fn(&StoredSignal) -> String| signals.iter().map(f).collect::<Vec<_>>();
    let pair = |s: &StoredSignal| s.signal.trade_pair().map(|pair| text(pair.as_str()));
    let records = || signals.iter().flat_map(|s| s.validators.values().map(move |v| (s, v)));
    let json = |v| serde_json::to_string(v).unwrap_or_else(|_| "null".to_owned());
    sqlx::query(IMPORT)
        .bind(tenure)
        .bind(each(|s| s.signal.id().to_string()))
        .bind(signals.iter().map(|s| s.signal.digest().to_vec()).collect::<Vec<_>>())
        .bind(signals.iter().map(pair).collect::<Vec<_>>())
        .bind(signals.iter().map(|s| s.accepted_at).collect::<Vec<_>>())
        .bind(signals.iter().map(|s| state_number(s.state)).collect::<Vec<_>>())
        .bind(signals.iter().map(|s| s.cancel_requested).collect::<Vec<_>>())
        .bind(signals.iter().map(|s| s.finished_at).collect::<Vec<_>>())
        .bind(each(|s| text(&s.reason)))
        .bind(each(|s| s.signal.to_stored()))
        .bind(records().map(|(s, _)| s.signal.id().to_string()).collect::<Vec<_>>())
        .bind(records().map(|(_, v)| text(&v.hotkey)).collect::<Vec<_>>())
        .bind(records().map(|(_, v)| json(v)).collect::<Vec<_>>())
        .bind(shared.owner.clone())
}
