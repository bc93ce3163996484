//! Reading: one signal, lists, counts, and the rows as the rest of the library knows them.

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::Shared;
use super::link::Trouble;
use super::queue::odd;
use crate::record::{SignalState, ValidatorRecord};
use crate::signal::{OrderUuid, Signal};
use crate::store::index::unreadable;
use crate::store::{Filter, Pending, StoreError, StoredSignal};

/// The columns of a signal `s` with its records, for [`stored`].
macro_rules! columns {
    () => {
        "s.seq, s.place, s.id, s.body, s.accepted_at, s.state, s.cancel, s.finished_at, s.reason, \
         ARRAY(SELECT d.record::text FROM ptn_delivery d WHERE d.seq = s.seq) AS records"
    };
}
pub(super) use columns;

const GET: &str = concat!("SELECT ", columns!(), " FROM ptn_signal s WHERE s.id = ANY ($1)");

/// Each state has its own end of the index, so a rare state is found as fast as a common one.
const LIST: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM unnest($1::smallint[]) AS wanted(state) CROSS JOIN LATERAL (
        SELECT * FROM ptn_signal WHERE state = wanted.state AND seq < $2
        ORDER BY seq DESC LIMIT $3
    ) AS s ORDER BY s.seq DESC LIMIT $3"
);

const LIST_OF_PAIR: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM ptn_signal s WHERE s.trade_pair = $4 AND s.state = ANY ($1) AND s.seq < $2
    ORDER BY s.seq DESC LIMIT $3"
);

const PENDING: &str = "\
SELECT (SELECT count(*) FROM ptn_signal WHERE state = 0),
    (SELECT accepted_at FROM ptn_signal WHERE state = 0 ORDER BY place LIMIT 1),
    (SELECT moved_to IS NULL FROM ptn_store)";

const STATES: [SignalState; 3] =
    [SignalState::Pending, SignalState::Processed, SignalState::Failed];

pub(super) fn state_number(state: SignalState) -> i16 {
    match state {
        SignalState::Pending => 0,
        SignalState::Processed => 1,
        SignalState::Failed => 2,
    }
}

pub(super) fn state_from(number: i16) -> SignalState {
    match number {
        0 => SignalState::Pending,
        1 => SignalState::Processed,
        _ => SignalState::Failed,
    }
}

/// Text as the database takes it: without zero bytes.
pub(super) fn text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Reads a row of [`columns`].
pub(super) fn stored(row: &PgRow) -> Result<StoredSignal, StoreError> {
    let id: String = row.try_get("id").map_err(|e| damaged("?", &e))?;
    let column = |e: sqlx::Error| damaged(&id, &e);
    let body: String = row.try_get("body").map_err(column)?;
    let records: Vec<String> = row.try_get("records").map_err(column)?;
    let state = state_from(row.try_get("state").map_err(column)?);
    let record = |text: &String| serde_json::from_str::<ValidatorRecord>(text);
    let records = records.iter().map(record).collect::<Result<Vec<_>, _>>();
    let records = records.map_err(|e| damaged(&id, &e))?;
    let seq: i64 = row.try_get("seq").map_err(column)?;
    Ok(StoredSignal {
        seq: u64::try_from(seq).unwrap_or_default(),
        signal: Signal::from_stored(&body).map_err(|e| damaged(&id, &e))?,
        accepted_at: row.try_get("accepted_at").map_err(column)?,
        state,
        validators: records.into_iter().map(|v| (v.hotkey.clone(), v)).collect(),
        finished_at: row.try_get("finished_at").map_err(column)?,
        reason: row.try_get("reason").map_err(column)?,
        cancel_requested: row.try_get("cancel").map_err(column)?,
    })
}

fn damaged(id: &str, why: &dyn std::fmt::Display) -> StoreError {
    match OrderUuid::parse(id) {
        Ok(id) => unreadable(&id, why.to_string()),
        Err(_) => StoreError::Corrupt { path: id.into(), at: 0, what: why.to_string() },
    }
}

impl Shared {
    pub(super) async fn get_all(&self, ids: &[OrderUuid]) -> Result<Vec<StoredSignal>, StoreError> {
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let rows = self.reads.read(|| sqlx::query(GET).bind(ids.clone())).await?;
        rows.iter().map(stored).collect()
    }

    pub(super) async fn list(&self, filter: &Filter) -> Result<Vec<StoredSignal>, StoreError> {
        let wanted = |s: &SignalState| filter.states.is_empty() || filter.states.contains(s);
        let states: Vec<i16> = STATES.into_iter().filter(wanted).map(state_number).collect();
        let before =
            filter.before_seq.map_or(i64::MAX, |seq| i64::try_from(seq).unwrap_or(i64::MAX));
        let limit = i64::try_from(filter.limit()).unwrap_or(i64::MAX);
        let rows = self.reads.read(|| {
            let sql = if filter.trade_pair.is_some() { LIST_OF_PAIR } else { LIST };
            let query = sqlx::query(sql).bind(states.clone()).bind(before).bind(limit);
            match &filter.trade_pair {
                Some(pair) => query.bind(text(pair)),
                None => query,
            }
        });
        rows.await?.iter().map(stored).collect()
    }

    pub(super) async fn pending(&self) -> Result<Pending, StoreError> {
        let rows = self.reads.read(|| sqlx::query(PENDING)).await?;
        let read = |row: &PgRow| {
            let count: i64 = row.try_get(0)?;
            let oldest_at = row.try_get(1)?;
            let accepting: Option<bool> = row.try_get(2)?;
            let count = u64::try_from(count).unwrap_or_default();
            Ok(Pending { count, oldest_at, accepting: accepting.unwrap_or(false) })
        };
        let failed = |t: Trouble| t.into_error(&self.server.name);
        rows.first().map_or(Ok(Pending::default()), |row| read(row).map_err(odd).map_err(failed))
    }
}
