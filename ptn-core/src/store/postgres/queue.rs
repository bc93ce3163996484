//! Accepting: many callers share a statement, and the statement is the whole transaction.
//!
//! Requests that arrive while one is under way form the next. Each names a ticket: when the
//! connection is lost before the answer, the same statement is sent again, and the ticket says
//! whether a signal that is there now is our own or was there before.
//!
//! With synchronous standbys a commit waits for them, and one whose wait was broken off (the server
//! restarted, the session was ended) can be seen although no standby has it. A statement that is sent
//! again changes nothing, but it locks a row, so its commit waits as well, for everything before it.
//! Only then is it looked what is there, so no answer promises what a standby lacks.

use std::sync::Arc;
use std::time::Duration;

use sqlx::Row as _;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::link::{Link, Statement, Trouble};
use super::news::{self, Happened};
use super::read::{state_from, text};
use crate::signal::{OrderUuid, Signal};
use crate::store::transfer::name_in;
use crate::store::{Accepted, StoreChange, StoreError};

/// At most so many signals, or so many bytes, per statement.
const MAX_BATCH: usize = 512;
const MAX_BYTES: usize = 4 * 1024 * 1024;

const ACCEPT: &str = "\
WITH turn AS MATERIALIZED (
    SELECT 1 FROM ptn_store WHERE moved_to IS NULL FOR UPDATE
), given AS MATERIALIZED (
    SELECT nextval('ptn_place') AS seq, g.*
    FROM turn, unnest($1::text[], $2::bytea[], $3::bigint[], $4::text[], $5::text[], $6::text[])
        WITH ORDINALITY AS g(id, digest, ticket, pair, body, note, n)
    ORDER BY g.n
), new AS (
    INSERT INTO ptn_signal (seq, place, id, digest, ticket, trade_pair, accepted_at, body)
    SELECT seq, seq, id, digest, ticket, pair,
        (extract(epoch FROM clock_timestamp()) * 1000)::bigint, body
    FROM given ORDER BY n
    ON CONFLICT (id) DO NOTHING
    RETURNING seq, ticket
)
SELECT turns.n AS turns, new.seq, new.ticket,
    CASE WHEN new.seq IS NOT NULL THEN
        pg_notify($7, $8 || ' ' || new.seq || ' ' || given.id || ' ' || given.note)::text
    END
FROM (SELECT count(*) AS n FROM turn) AS turns
LEFT JOIN (new JOIN given USING (ticket, seq)) ON true";

const LOOK: &str = "\
SELECT s.id, s.seq, s.digest, s.ticket, s.state FROM ptn_signal s WHERE s.id = ANY ($1)";

const MOVED: &str = "SELECT moved_to FROM ptn_store";

#[derive(Debug)]
pub(super) struct Ask {
    id: OrderUuid,
    digest: [u8; 32],
    ticket: i64,
    pair: Option<String>,
    body: String,
    change: StoreChange,
    asked_at: Instant,
    reply: oneshot::Sender<Result<Accepted, StoreError>>,
}

impl Ask {
    pub(super) fn new(signal: &Signal) -> (Self, oneshot::Receiver<Result<Accepted, StoreError>>) {
        let (body, digest) = signal.stored_and_digest();
        let (reply, answer) = oneshot::channel();
        let ask = Self {
            id: signal.id().clone(),
            digest,
            ticket: i64::from_ne_bytes(news::random().to_ne_bytes()),
            pair: signal.trade_pair().map(|pair| text(pair.as_str())),
            body,
            change: news::accepted(0, signal),
            asked_at: Instant::now(),
            reply,
        };
        (ask, answer)
    }
}

/// Serves until nobody can ask any more; after the stop, what was asked for before it.
pub(super) async fn run(
    shared: Arc<Shared>,
    mut asks: mpsc::UnboundedReceiver<Ask>,
    stop: CancellationToken,
) {
    let mut link = Link::new(&shared.server);
    loop {
        let first = tokio::select! {
            biased;
            ask = asks.recv() => ask,
            () = stop.cancelled(), if !asks.is_closed() => {
                asks.close();
                continue;
            }
        };
        let Some(first) = first else { return };
        let mut bytes = first.body.len();
        let mut batch = vec![first];
        while batch.len() < MAX_BATCH
            && bytes < MAX_BYTES
            && let Ok(ask) = asks.try_recv()
        {
            bytes += ask.body.len();
            batch.push(ask);
        }
        serve(&shared, &mut link, batch).await;
    }
}

async fn serve(shared: &Shared, link: &mut Link, batch: Vec<Ask>) {
    // Who waits longest decides how long the others may; the next batch has its own time.
    let oldest = batch.first().map_or_else(Instant::now, |ask| ask.asked_at);
    let deadline = oldest + shared.options.patience;
    match keep(shared, link, &batch, deadline).await {
        Ok(answers) => {
            for (ask, answer) in batch.into_iter().zip(answers) {
                if let Ok(Accepted::New { seq }) = &answer {
                    let mut change = ask.change;
                    if let StoreChange::Accepted { seq: place, .. } = &mut change {
                        *place = *seq;
                    }
                    shared.news.tell(Happened { id: ask.id, change });
                    shared.look_at_queue();
                }
                // A caller that went away has no use for the answer.
                ask.reply.send(answer).ok();
            }
            shared.news.changed();
        }
        Err(trouble) => {
            for ask in batch {
                ask.reply.send(Err(trouble.clone().into_error(&shared.server.name))).ok();
            }
        }
    }
}

async fn keep(
    shared: &Shared,
    link: &mut Link,
    batch: &[Ask],
    deadline: Instant,
) -> Result<Vec<Result<Accepted, StoreError>>, Trouble> {
    let rows = link.persist(deadline, || statement(shared, batch)).await?;
    let mut new = std::collections::HashMap::new();
    let mut turns = 0;
    for row in &rows {
        turns = row.try_get::<i64, _>("turns").map_err(odd)?;
        if let Some(seq) = row.try_get::<Option<i64>, _>("seq").map_err(odd)? {
            let ticket: i64 = row.try_get("ticket").map_err(odd)?;
            new.insert(ticket, u64::try_from(seq).unwrap_or_default());
        }
    }
    if turns == 0 {
        return moved(shared, link, batch.len(), deadline).await;
    }
    let others: Vec<String> = batch
        .iter()
        .filter(|ask| !new.contains_key(&ask.ticket))
        .map(|ask| ask.id.to_string())
        .collect();
    let mut known = std::collections::HashMap::new();
    if !others.is_empty() {
        // Whatever is there now was committed before our statement was.
        let rows = link.persist(deadline.max(Instant::now() + Duration::from_millis(500)), || {
            sqlx::query(LOOK).bind(others.clone())
        });
        for row in rows.await.map_err(Trouble::in_doubt)? {
            let id: String = row.try_get("id").map_err(odd)?;
            known.insert(id, row);
        }
    }
    batch
        .iter()
        .map(|ask| match (new.get(&ask.ticket), known.get(ask.id.as_str())) {
            (Some(seq), _) => Ok(Ok(Accepted::New { seq: *seq })),
            (None, Some(row)) => judge(ask, row),
            // Gone between the two statements: by a failover, or by somebody who cleans up.
            (None, None) => Err(Trouble::vanished()),
        })
        .collect()
}

/// A signal of this id is there, and was not stored by this very statement.
fn judge(ask: &Ask, row: &sqlx::postgres::PgRow) -> Result<Result<Accepted, StoreError>, Trouble> {
    if row.try_get::<i64, _>("ticket").map_err(odd)? == ask.ticket {
        // Stored by an earlier try of ours whose answer was lost.
        let seq: i64 = row.try_get("seq").map_err(odd)?;
        return Ok(Ok(Accepted::New { seq: u64::try_from(seq).unwrap_or_default() }));
    }
    let digest: Vec<u8> = row.try_get("digest").map_err(odd)?;
    if digest == ask.digest {
        let state = state_from(row.try_get("state").map_err(odd)?);
        return Ok(Ok(Accepted::Same { state }));
    }
    let prefix = |digest: &[u8]| hex::encode(digest.get(..4).unwrap_or_default());
    let (stored, offered) = (prefix(&digest), prefix(&ask.digest));
    Ok(Err(StoreError::Conflict { id: ask.id.clone(), stored, offered }))
}

async fn moved(
    shared: &Shared,
    link: &mut Link,
    count: usize,
    deadline: Instant,
) -> Result<Vec<Result<Accepted, StoreError>>, Trouble> {
    let rows = link.persist(deadline, || sqlx::query(MOVED)).await?;
    let to =
        rows.first().map(|row| row.try_get::<Option<String>, _>(0)).transpose().map_err(odd)?;
    let to = name_in(&to.flatten().unwrap_or_default());
    let error = || StoreError::Moved { from: shared.server.name.clone(), to: to.clone() };
    Ok((0..count).map(|_| Err(error())).collect())
}

fn statement(shared: &Shared, batch: &[Ask]) -> Statement {
    let note = |ask: &Ask| news::json(&ask.change);
    sqlx::query(ACCEPT)
        .bind(batch.iter().map(|ask| ask.id.to_string()).collect::<Vec<_>>())
        .bind(batch.iter().map(|ask| ask.digest.to_vec()).collect::<Vec<_>>())
        .bind(batch.iter().map(|ask| ask.ticket).collect::<Vec<_>>())
        .bind(batch.iter().map(|ask| ask.pair.clone()).collect::<Vec<_>>())
        .bind(batch.iter().map(|ask| ask.body.clone()).collect::<Vec<_>>())
        .bind(batch.iter().map(note).collect::<Vec<_>>())
        .bind(shared.news.channel.clone())
        .bind(shared.news.origin.clone())
}

pub(super) fn odd(error: sqlx::Error) -> Trouble {
    Trouble::of(&error, true)
}
