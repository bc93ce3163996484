//! What the owner writes: progress and ends of claimed signals, many per statement.
//!
//! The owner knows every record of what it claimed, so a write is the new record itself and may be
//! repeated. Each statement first locks the row of the tenure under the owner's token and name;
//! where they are others by now, nothing is written. A signal is meant by its number, its id and its
//! ticket: a server that lost its last commits gives numbers out twice, and a retry renews the
//! ticket. What is not there any more, nothing is written about.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use sqlx::Row as _;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::link::{Link, Statement, Trouble};
use super::news::Happened;
use super::queue::odd;
use super::read::{state_number, text};
use crate::record::{DeliveryReport, Progress, SignalState, ValidatorRecord};
use crate::signal::OrderUuid;
use crate::store::{StoreChange, StoreError, StoredSignal};

const MAX_BATCH: usize = 512;
/// The lower bits of a lease's token count the claims of one tenure.
const CLAIM_BITS: u32 = 32;

/// `LIMIT 1`: a table that was still empty when the statement was planned is not read whole for it.
const KEEP: &str = "\
WITH held AS MATERIALIZED (
    SELECT token FROM ptn_tenure WHERE token = $1 AND owner = $2 FOR SHARE
), meant AS MATERIALIZED (
    SELECT s.*, g.state, g.reason, g.at, g.token
    FROM held, unnest($3::text[], $4::bigint[], $5::bigint[], $6::smallint[], $7::text[],
        $8::bigint[], $9::bigint[]) AS g(id, seq, ticket, state, reason, at, token)
    CROSS JOIN LATERAL (
        SELECT id, seq, ticket FROM ptn_signal
        WHERE id = g.id AND seq = g.seq AND ticket = g.ticket LIMIT 1
    ) AS s
), kept AS (
    INSERT INTO ptn_delivery AS d (seq, hotkey, record, written)
    SELECT meant.seq, g.hotkey, g.record::json, $15
    FROM meant JOIN unnest($10::text[], $11::text[], $12::text[]) AS g(id, hotkey, record)
        USING (id)
    ON CONFLICT (seq, hotkey) DO UPDATE SET record = excluded.record, written = excluded.written
    WHERE d.written <= excluded.written
), ended AS (
    UPDATE ptn_signal s
    SET state = meant.state, reason = meant.reason, finished_at = meant.at,
        finished_by = meant.token
    FROM meant
    WHERE meant.state IS NOT NULL
        AND s.seq = meant.seq AND s.ticket = meant.ticket AND s.state = 0
    RETURNING s.id
), told AS MATERIALIZED (
    SELECT pg_notify($13, g.note)::text FROM held, unnest($14::text[]) AS g(note)
)
SELECT (SELECT count(*) FROM held) AS held, (SELECT count(*) FROM meant) AS meant,
    ARRAY(SELECT id FROM ended) AS ended, (SELECT count(*) FROM told) AS told";

const ENDED_BY: &str =
    "SELECT id, ticket, finished_by FROM ptn_signal WHERE id = ANY ($1) AND state <> 0";

/// A claimed signal.
#[derive(Debug, Clone)]
pub(super) struct Claimed {
    token: u64,
    seq: i64,
    /// Of its acceptance, or of its last retry.
    ticket: i64,
    records: Vec<ValidatorRecord>,
    /// Whether a wish to cancel it was told.
    pub(super) cancel: bool,
}

/// What this process claimed during its tenure.
#[derive(Debug, Default)]
pub(super) struct Claims {
    tenure: i64,
    counter: u64,
    signals: HashMap<OrderUuid, Claimed>,
    /// Up to this place the queue was read.
    pub(super) cursor: i64,
    /// Number and ticket of what ended since the queue is being read: the rows that come may still
    /// show it as it was before.
    ended: BTreeSet<(i64, i64)>,
}

impl Claims {
    /// A new tenure: everything that is not finished can be claimed.
    pub(super) fn begin(&mut self, tenure: i64) {
        *self = Self { tenure, ..Self::default() };
    }

    pub(super) fn tenure(&self) -> i64 {
        self.tenure
    }

    /// The queue is read from its beginning again.
    pub(super) fn rewind(&mut self, tenure: i64) {
        if self.tenure == tenure {
            self.cursor = 0;
        }
    }

    /// The queue is about to be read.
    pub(super) fn reading(&mut self) {
        self.ended.clear();
    }

    /// Whether this very signal is in delivery here, or was when the queue began to be read.
    pub(super) fn has(&self, stored: &StoredSignal, ticket: i64) -> bool {
        let seq = i64::try_from(stored.seq).unwrap_or(i64::MAX);
        let claimed = self.signals.get(stored.signal.id());
        claimed.is_some_and(|claimed| (claimed.seq, claimed.ticket) == (seq, ticket))
            || self.ended.contains(&(seq, ticket))
    }

    /// Remembers a claim; returns the lease's token. An earlier claim of the same id ends with that.
    pub(super) fn add(&mut self, stored: &StoredSignal, ticket: i64) -> u64 {
        self.counter += 1;
        let tenure = u64::try_from(self.tenure).unwrap_or_default();
        let token = (tenure << CLAIM_BITS) | (self.counter & u64::from(u32::MAX));
        let claimed = Claimed {
            token,
            seq: i64::try_from(stored.seq).unwrap_or(i64::MAX),
            ticket,
            records: stored.validators.values().cloned().collect(),
            cancel: stored.cancel_requested,
        };
        self.signals.insert(stored.signal.id().clone(), claimed);
        token
    }

    pub(super) fn get_mut(&mut self, id: &OrderUuid) -> Option<&mut Claimed> {
        self.signals.get_mut(id)
    }
}

/// The tenure under which a lease was given.
pub(super) fn tenure_of(token: u64) -> i64 {
    i64::try_from(token >> CLAIM_BITS).unwrap_or_default()
}

#[derive(Debug)]
pub(super) enum What {
    Progress(Progress),
    Finish(DeliveryReport),
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: OrderUuid,
    pub(super) token: u64,
    pub(super) what: What,
    pub(super) asked_at: Instant,
    pub(super) reply: oneshot::Sender<Result<(), StoreError>>,
}

/// Serves until nobody can ask any more; after the stop, what was asked for before it.
pub(super) async fn run(
    shared: Arc<Shared>,
    mut entries: mpsc::UnboundedReceiver<Entry>,
    stop: CancellationToken,
) {
    let mut link = Link::new(&shared.server);
    let mut number = 0_u32;
    loop {
        let first = tokio::select! {
            biased;
            entry = entries.recv() => entry,
            () = stop.cancelled(), if !entries.is_closed() => {
                entries.close();
                continue;
            }
        };
        let Some(first) = first else { return };
        let mut batch = vec![first];
        while batch.len() < MAX_BATCH
            && let Ok(entry) = entries.try_recv()
        {
            batch.push(entry);
        }
        number = number.wrapping_add(1);
        serve(&shared, &mut link, batch, number).await;
    }
}

/// The effects of one batch, before they are written.
#[derive(Default)]
struct Draft {
    claims: HashMap<OrderUuid, Claimed>,
    records: BTreeMap<(OrderUuid, String), ValidatorRecord>,
    ends: BTreeMap<OrderUuid, (u64, DeliveryReport)>,
    notes: Vec<String>,
    /// The later ones have higher ones.
    number: u32,
}

async fn serve(shared: &Shared, link: &mut Link, batch: Vec<Entry>, number: u32) {
    let (mut draft, mut taken) = (Draft { number, ..Draft::default() }, Vec::new());
    let mut tenure = 0;
    {
        let claims = shared.claims();
        for entry in batch {
            match draft.add(shared, &claims, &entry) {
                Ok(()) => taken.push(entry),
                Err(e) => {
                    entry.reply.send(Err(e)).ok();
                }
            }
            tenure = claims.tenure;
        }
    }
    let Some(first) = taken.first() else { return };
    let deadline = first.asked_at + shared.options.patience;
    let lost = |id: &OrderUuid| StoreError::LeaseLost { id: id.clone() };
    match write(shared, link, tenure, &draft, deadline).await {
        Ok(Some(foreign)) => {
            let mut claims = shared.claims();
            for entry in taken {
                let answer = if foreign.contains(&entry.token) {
                    claims.forget(&entry.id, entry.token);
                    Err(lost(&entry.id))
                } else {
                    claims.apply(tenure, &entry, &draft);
                    shared.news.tell(happened(&entry));
                    Ok(())
                };
                // A caller that went away has no use for the answer.
                entry.reply.send(answer).ok();
            }
            drop(claims);
            shared.news.changed();
        }
        Ok(None) => {
            shared.lost(tenure);
            for entry in taken {
                entry.reply.send(Err(lost(&entry.id))).ok();
            }
        }
        Err(trouble) => {
            for entry in taken {
                entry.reply.send(Err(trouble.clone().into_error(&shared.server.name))).ok();
            }
        }
    }
}

fn happened(entry: &Entry) -> Happened {
    let change = match &entry.what {
        What::Progress(progress) => StoreChange::Progress { progress: progress.clone() },
        What::Finish(report) => {
            StoreChange::Finished { state: report.state, reason: report.reason.clone() }
        }
    };
    Happened { id: entry.id.clone(), change }
}

impl Draft {
    fn add(&mut self, shared: &Shared, claims: &Claims, entry: &Entry) -> Result<(), StoreError> {
        let id = &entry.id;
        if let What::Finish(report) = &entry.what
            && report.state == SignalState::Pending
        {
            let wanted = "a report must say processed or failed";
            return Err(StoreError::WrongState { id: id.clone(), state: report.state, wanted });
        }
        let ended = self.ends.contains_key(id);
        let known = self.claims.get(id).or_else(|| claims.signals.get(id));
        let Some(mut claimed) = known.filter(|c| c.token == entry.token && !ended).cloned() else {
            return Err(StoreError::LeaseLost { id: id.clone() });
        };
        let before = claimed.records.clone();
        match &entry.what {
            What::Progress(progress) => progress.apply_to_list(&mut claimed.records),
            What::Finish(report) => {
                for v in &report.validators {
                    let progress = Progress::Outcome { validator: v.clone() };
                    progress.apply_to_list(&mut claimed.records);
                }
                self.ends.insert(id.clone(), (claimed.token, report.clone()));
            }
        }
        for v in claimed.records.iter().filter(|v| !before.contains(v)) {
            self.records.insert((id.clone(), v.hotkey.clone()), v.clone());
        }
        let note = shared.news.payload(claimed.seq, id, &happened(entry).change);
        self.notes.push(note);
        self.claims.insert(id.clone(), claimed);
        Ok(())
    }
}

impl Claims {
    /// What was written is known from now on.
    fn apply(&mut self, tenure: i64, entry: &Entry, draft: &Draft) {
        if self.tenure != tenure {
            return;
        }
        if matches!(entry.what, What::Finish(_)) {
            self.forget(&entry.id, entry.token);
        } else if let (Some(claimed), Some(new)) =
            (self.signals.get_mut(&entry.id), draft.claims.get(&entry.id))
            && claimed.token == entry.token
        {
            claimed.records.clone_from(&new.records);
        }
    }

    /// Ends a claim, unless the signal was claimed anew since.
    fn forget(&mut self, id: &OrderUuid, token: u64) {
        if let Some(claimed) = self.signals.get(id)
            && claimed.token == token
        {
            self.ended.insert((claimed.seq, claimed.ticket));
            self.signals.remove(id);
        }
    }
}

/// Writes a batch. `None`: another one delivers, and nothing was written. Otherwise the tokens of
/// signals that could not be finished: others had done so, or they are not there any more.
async fn write(
    shared: &Shared,
    link: &mut Link,
    tenure: i64,
    draft: &Draft,
    deadline: Instant,
) -> Result<Option<Vec<u64>>, Trouble> {
    let rows = link.persist(deadline, || statement(shared, tenure, draft)).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    if row.try_get::<i64, _>("held").map_err(odd)? == 0 {
        return Ok(None);
    }
    let meant: i64 = row.try_get("meant").map_err(odd)?;
    let gone = draft.claims.len().saturating_sub(usize::try_from(meant).unwrap_or_default());
    if gone > 0 {
        tracing::warn!(
            store = shared.server.name,
            signals = gone,
            "signals in delivery are not in the database any more, or were finished and queued again"
        );
    }
    let ended: Vec<String> = row.try_get("ended").map_err(odd)?;
    let ended: HashSet<&str> = ended.iter().map(String::as_str).collect();
    let missing = draft.ends.iter().filter(|(id, _)| !ended.contains(id.as_str()));
    let missing: Vec<(&OrderUuid, u64)> = missing.map(|(id, (token, _))| (id, *token)).collect();
    if missing.is_empty() {
        return Ok(Some(Vec::new()));
    }
    // By an earlier try of ours whose answer was lost, most likely.
    let ids: Vec<String> = missing.iter().map(|(id, _)| id.to_string()).collect();
    let rows = link.persist(deadline, || sqlx::query(ENDED_BY).bind(ids.clone())).await?;
    let mut by = HashMap::new();
    for row in rows {
        let id: String = row.try_get(0).map_err(odd)?;
        let ticket: i64 = row.try_get(1).map_err(odd)?;
        by.insert(id, (ticket, row.try_get::<Option<i64>, _>(2).map_err(odd)?));
    }
    let ours = |id: &OrderUuid, token: u64| {
        let ticket = draft.claims.get(id).map(|claimed| claimed.ticket);
        by.get(id.as_str())
            .is_some_and(|(known, by)| Some(*known) == ticket && *by == i64::try_from(token).ok())
    };
    let foreign = missing.into_iter().filter(|(id, token)| !ours(id, *token));
    Ok(Some(foreign.map(|(_, token)| token).collect()))
}

fn statement(shared: &Shared, tenure: i64, draft: &Draft) -> Statement {
    let json = |v: &ValidatorRecord| serde_json::to_string(v).unwrap_or_else(|_| "null".to_owned());
    let (mut ids, mut hotkeys, mut records) = (Vec::new(), Vec::new(), Vec::new());
    for ((id, hotkey), record) in &draft.records {
        ids.push(id.to_string());
        hotkeys.push(text(hotkey));
        records.push(json(record));
    }
    let claims: Vec<(&OrderUuid, &Claimed)> = draft.claims.iter().collect();
    let ends: Vec<_> = claims.iter().map(|(id, _)| draft.ends.get(id)).collect();
    sqlx::query(KEEP)
        .bind(tenure)
        .bind(shared.owner.clone())
        .bind(claims.iter().map(|(id, _)| id.to_string()).collect::<Vec<_>>())
        .bind(claims.iter().map(|(_, claimed)| claimed.seq).collect::<Vec<_>>())
        .bind(claims.iter().map(|(_, claimed)| claimed.ticket).collect::<Vec<_>>())
        .bind(ends.iter().map(|e| e.map(|(_, r)| state_number(r.state))).collect::<Vec<_>>())
        .bind(ends.iter().map(|e| e.map(|(_, r)| text(&r.reason))).collect::<Vec<_>>())
        .bind(ends.iter().map(|e| e.map(|(_, r)| r.finished_at)).collect::<Vec<_>>())
        .bind(
            ends.iter().map(|e| e.and_then(|(by, _)| i64::try_from(*by).ok())).collect::<Vec<_>>(),
        )
        .bind(ids)
        .bind(hotkeys)
        .bind(records)
        .bind(shared.news.channel.clone())
        .bind(draft.notes.clone())
        .bind((tenure << CLAIM_BITS) | i64::from(draft.number))
}

pub(super) fn entry(
    id: &OrderUuid,
    token: u64,
    what: What,
) -> (Entry, oneshot::Receiver<Result<(), StoreError>>) {
    let (reply, answer) = oneshot::channel();
    let asked_at = Instant::now();
    (Entry { id: id.clone(), token, what, asked_at, reply }, answer)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed expectation is how a test fails")]
mod tests {
    use super::*;
    use crate::rules::{Era, Rules};
    use crate::signal::Signal;

    #[test]
    fn what_ended_while_the_queue_was_read_is_not_claimed_again() {
        let body =
            br#"{"order_uuid":"a","trade_pair":"BTCUSDC","order_type":"LONG","leverage":0.1}"#;
        let signal = Signal::from_json(body, &Rules::load(Era::Y2026).unwrap()).unwrap();
        let stored = StoredSignal {
            seq: 7,
            signal,
            accepted_at: 1,
            state: SignalState::Pending,
            validators: std::collections::BTreeMap::new(),
            finished_at: None,
            reason: String::new(),
            cancel_requested: false,
        };
        let id = stored.signal.id().clone();
        let mut claims = Claims::default();
        claims.begin(1);
        let token = claims.add(&stored, 3);
        claims.reading();
        // The statement has read the row by now; before its answer is here, the signal ends.
        claims.forget(&id, token);
        assert!(claims.has(&stored, 3));
        assert!(!claims.has(&stored, 4), "it was retried since");
        claims.reading();
        assert!(!claims.has(&stored, 3));
    }
}
