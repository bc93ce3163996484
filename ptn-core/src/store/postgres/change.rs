//! Cancelling and retrying, by any process.

use sqlx::Row as _;

use super::Shared;
use super::link::Trouble;
use super::news::{self, Happened};
use super::queue::odd;
use super::read::{columns, state_from, stored, text};
use crate::record::SignalState;
use crate::signal::OrderUuid;
use crate::store::index::again;
use crate::store::transfer::name_in;
use crate::store::{StoreChange, StoreError};

/// Locks the row also when there is nothing to change: see [`super::queue`] about standbys.
const CANCEL: &str = "\
WITH seen AS MATERIALIZED (
    SELECT seq FROM ptn_signal WHERE id = $1 FOR NO KEY UPDATE
), hit AS (
    UPDATE ptn_signal s SET cancel = true FROM seen
    WHERE s.seq = seen.seq AND s.state = 0 AND NOT s.cancel
    RETURNING s.seq
), told AS MATERIALIZED (
    SELECT pg_notify($2, $3 || ' ' || hit.seq || ' ' || $1 || ' ' || $4)::text FROM hit
)
SELECT s.state, s.cancel, (SELECT count(*) FROM hit) AS hits, (SELECT count(*) FROM told) AS told
FROM ptn_signal s WHERE s.id = $1";

const LOOK: &str = concat!("SELECT ", columns!(), ", s.ticket FROM ptn_signal s WHERE s.id = $1");

const RETRY: &str = "\
WITH turn AS MATERIALIZED (
    SELECT 1 FROM ptn_store WHERE moved_to IS NULL FOR UPDATE
), hit AS (
    UPDATE ptn_signal s
    SET state = 0, place = nextval('ptn_place'), cancel = false, finished_at = NULL,
        finished_by = NULL, reason = '', ticket = $3,
        accepted_at = (extract(epoch FROM clock_timestamp()) * 1000)::bigint
    FROM turn WHERE s.id = $1 AND s.state = 2 AND s.place = $2
    RETURNING s.seq
), kept AS (
    INSERT INTO ptn_delivery (seq, hotkey, record)
    SELECT hit.seq, g.hotkey, g.record::json
    FROM hit, unnest($4::text[], $5::text[]) AS g(hotkey, record)
    ON CONFLICT (seq, hotkey) DO UPDATE SET record = excluded.record
), told AS MATERIALIZED (
    SELECT pg_notify($6, $7 || ' ' || hit.seq || ' ' || $1 || ' ' || $8)::text FROM hit
)
SELECT (SELECT count(*) FROM turn) AS turns, (SELECT count(*) FROM hit) AS hits,
    (SELECT count(*) FROM told) AS told";

/// How often a change is tried again that somebody else's change came in between of.
const TRIES: u32 = 8;

impl Shared {
    fn failed(&self, trouble: Trouble) -> StoreError {
        trouble.into_error(&self.server.name)
    }

    fn odd(&self, error: sqlx::Error) -> StoreError {
        self.failed(odd(error))
    }

    pub(super) async fn cancel(&self, id: &OrderUuid) -> Result<(), StoreError> {
        let note = news::json(&StoreChange::CancelRequested);
        for _ in 0..TRIES {
            let rows = self.reads.rows(|| {
                sqlx::query(CANCEL)
                    .bind(id.to_string())
                    .bind(self.news.channel.clone())
                    .bind(self.news.origin.clone())
                    .bind(note.clone())
            });
            let rows = rows.await.map_err(|t| self.failed(t))?;
            let Some(row) = rows.first() else {
                return Err(StoreError::NotFound { id: id.clone() });
            };
            let number = |column| row.try_get::<i64, _>(column).map_err(|e| self.odd(e));
            if number("hits")? > 0 {
                if let Some(claimed) = self.claims().get_mut(id) {
                    claimed.cancel = true;
                }
                self.news.tell(Happened { id: id.clone(), change: StoreChange::CancelRequested });
                self.news.changed();
                return Ok(());
            }
            let state = state_from(row.try_get("state").map_err(|e| self.odd(e))?);
            if state != SignalState::Pending {
                let wanted = "only a signal that is not finished can be cancelled";
                return Err(StoreError::WrongState { id: id.clone(), state, wanted });
            }
            if row.try_get("cancel").map_err(|e| self.odd(e))? {
                return Ok(());
            }
            // It was finished at this very moment.
        }
        Err(self.busy(id))
    }

    pub(super) async fn retry(&self, id: &OrderUuid) -> Result<(), StoreError> {
        let ticket = i64::from_ne_bytes(news::random().to_ne_bytes());
        let note = news::json(&StoreChange::RetryRequested);
        let mut maybe = false;
        for _ in 0..TRIES {
            let rows = self.reads.read(|| sqlx::query(LOOK).bind(id.to_string())).await?;
            let Some(row) = rows.first() else {
                return Err(StoreError::NotFound { id: id.clone() });
            };
            let place: i64 = row.try_get("place").map_err(|e| self.odd(e))?;
            let known = stored(row)?;
            if maybe && row.try_get::<i64, _>("ticket").map_err(|e| self.odd(e))? == ticket {
                // By an earlier try of ours whose answer was lost.
                self.retried(id);
                return Ok(());
            }
            if known.state != SignalState::Failed {
                let wanted = "only a failed signal can be retried";
                return Err(StoreError::WrongState { id: id.clone(), state: known.state, wanted });
            }
            let records: Vec<_> = known.validators.into_values().map(again).collect();
            let hotkeys: Vec<_> = records.iter().map(|v| text(&v.hotkey)).collect();
            let json = |v| serde_json::to_string(v).unwrap_or_else(|_| "null".to_owned());
            let records: Vec<_> = records.iter().map(json).collect();
            let rows = self.reads.rows(|| {
                sqlx::query(RETRY)
                    .bind(id.to_string())
                    .bind(place)
                    .bind(ticket)
                    .bind(hotkeys.clone())
                    .bind(records.clone())
                    .bind(self.news.channel.clone())
                    .bind(self.news.origin.clone())
                    .bind(note.clone())
            });
            // Sent again by itself after a lost answer, it hits nothing the second time.
            let rows = rows.await.map_err(|t| self.failed(t))?;
            let Some(row) = rows.first() else { continue };
            let number = |column| row.try_get::<i64, _>(column).map_err(|e| self.odd(e));
            if number("turns")? == 0 {
                let to = name_in(&self.moved_to().await?.unwrap_or_default());
                return Err(StoreError::Moved { from: self.server.name.clone(), to });
            }
            if number("hits")? > 0 {
                self.retried(id);
                return Ok(());
            }
            maybe = true;
        }
        Err(self.busy(id))
    }

    fn retried(&self, id: &OrderUuid) {
        self.news.tell(Happened { id: id.clone(), change: StoreChange::RetryRequested });
        self.look_again();
    }

    fn busy(&self, id: &OrderUuid) -> StoreError {
        let why = format!("{id} is changed by others all the time");
        StoreError::Unavailable { server: self.server.name.clone(), why, maybe: false }
    }
}
