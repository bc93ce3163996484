//! What happens to the store, for this process's listeners: its own news, and other processes'.
//!
//! Others' news come by NOTIFY, in the same transaction as what they tell of. A notification can be
//! lost with its connection, so whoever must know polls as well (see [`super::queue`]); the tests
//! run with the listener cut off.
//!
//! ```text
//! payload = origin " " seq " " id " " json      origin: which process, 16 hex digits
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::sync::{Notify, broadcast, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::record::{Progress, ValidatorRecord};
use crate::signal::{OrderUuid, Signal};
use crate::store::{EVENT_BACKLOG, StoreChange, StoreEvent, now_ms};

/// The server takes no notification of 8000 bytes or more.
const LONGEST: usize = 7000;
/// How often a listener that hears nothing makes sure that the line is not dead.
const ALIVE: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(5);

/// What another process is told.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Note {
    Change(StoreChange),
    /// Too long to be told: read the records of these validators (of all, when empty).
    Look {
        look: Vec<String>,
    },
    /// The owner stopped, or signals were moved in.
    Wake {
        wake: bool,
    },
}

/// A change that happened, with whom it happened to.
#[derive(Debug, Clone)]
pub(super) struct Happened {
    pub(super) id: OrderUuid,
    pub(super) change: StoreChange,
}

#[derive(Debug)]
pub(super) struct News {
    /// The channel of this schema's store.
    pub(super) channel: String,
    /// This process, in payloads.
    pub(super) origin: String,
    changes: watch::Sender<u64>,
    events: broadcast::Sender<StoreEvent>,
    number: AtomicU64,
    /// Wakes the keeper of the tenure.
    pub(super) released: Notify,
}

impl News {
    pub(super) fn new(channel: String) -> Self {
        let origin = format!("{:016x}", random());
        let (changes, events) = (watch::Sender::new(0), broadcast::Sender::new(EVENT_BACKLOG));
        let (number, released) = (AtomicU64::new(0), Notify::new());
        Self { channel, origin, changes, events, number, released }
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(super) fn events(&self) -> broadcast::Receiver<StoreEvent> {
        self.events.subscribe()
    }

    /// Wakes whoever watches.
    pub(super) fn changed(&self) {
        self.changes.send_modify(|n| *n += 1);
    }

    /// Tells the listeners of this process.
    pub(super) fn tell(&self, happened: Happened) {
        if self.events.receiver_count() > 0 {
            let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
            let Happened { id, change } = happened;
            // The last listener may just have gone.
            self.events.send(StoreEvent { number, at: now_ms(), id, change }).ok();
        }
    }

    /// The payload that tells other processes.
    pub(super) fn payload(&self, seq: i64, id: &OrderUuid, change: &StoreChange) -> String {
        format!("{} {seq} {id} {}", self.origin, json(change))
    }

    /// The payload that makes others look at the queue.
    pub(super) fn wake(&self) -> String {
        format!("{} 0 - {{\"wake\":true}}", self.origin)
    }
}

/// A change for other processes; where it is too long, where to read it.
pub(super) fn json(change: &StoreChange) -> String {
    match serde_json::to_string(change) {
        Ok(json) if json.len() <= LONGEST => json,
        _ => {
            let look = match change {
                StoreChange::Progress { progress: Progress::Outcome { validator } } => {
                    vec![validator.hotkey.clone()]
                }
                _ => Vec::new(),
            };
            serde_json::to_string(&Note::Look { look }).unwrap_or_default()
        }
    }
}

/// What listeners are told about an accepted signal; its place is known only to the database.
pub(super) fn accepted(seq: u64, signal: &Signal) -> StoreChange {
    StoreChange::Accepted {
        seq,
        trade_pair: signal.trade_pair().map(|pair| pair.as_str().to_owned()),
        execution_type: signal.execution_type(),
        order_type: signal.order_type(),
    }
}

pub(super) fn random() -> u64 {
    u64::try_from(uuid::Uuid::new_v4().as_u128() >> 64).unwrap_or_default()
}

/// Listens to other processes until the stop.
pub(super) async fn listen(shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = session(&shared) => {}
        }
        // Whatever was missed while nobody listened.
        shared.look_again();
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(300)) => {}
        }
    }
}

/// One connection, until it fails.
async fn session(shared: &Shared) {
    // Of one connection, which is never exchanged behind our back: then news would be missed
    // without a word.
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(PATIENCE)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_lazy_with(shared.server.options().clone());
    let opened = async {
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.eager_reconnect(false);
        listener.listen(&shared.news.channel).await?;
        Ok::<_, sqlx::Error>(listener)
    };
    let mut listener = match timeout(PATIENCE, opened).await {
        Ok(Ok(listener)) => listener,
        Ok(Err(e)) => {
            tracing::debug!("news of other processes cannot be heard now: {e}");
            return;
        }
        Err(_) => return,
    };
    // What came before we listened.
    shared.look_again();
    loop {
        match timeout(ALIVE, listener.try_recv()).await {
            Ok(Ok(Some(note))) => hear(shared, note.payload()).await,
            Ok(Ok(None) | Err(_)) => break,
            Err(_) => {
                let asked = sqlx::query("SELECT 1").fetch_one(&mut listener);
                if !matches!(timeout(PATIENCE, asked).await, Ok(Ok(_))) {
                    break;
                }
            }
        }
    }
    tracing::debug!("the line for news of other processes was lost");
}

async fn hear(shared: &Shared, payload: &str) {
    let mut words = payload.splitn(4, ' ');
    let (Some(origin), Some(seq), Some(id), Some(json)) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return;
    };
    if origin == shared.news.origin {
        return;
    }
    let Ok(note) = serde_json::from_str::<Note>(json) else {
        // Of a newer release.
        shared.look_again();
        return;
    };
    match (note, seq.parse::<i64>(), OrderUuid::parse(id)) {
        (Note::Wake { .. }, ..) => shared.news.released.notify_one(),
        (Note::Change(mut change), Ok(place), Ok(id)) => {
            if let StoreChange::Accepted { seq, .. } = &mut change {
                *seq = u64::try_from(place).unwrap_or_default();
            }
            shared.news.tell(Happened { id, change });
        }
        (Note::Look { look }, Ok(seq), Ok(id)) => {
            for validator in records(shared, seq, &id, look).await {
                let progress = Progress::Outcome { validator };
                let change = StoreChange::Progress { progress };
                shared.news.tell(Happened { id: id.clone(), change });
            }
        }
        _ => {}
    }
    shared.look_again();
}

async fn records(
    shared: &Shared,
    seq: i64,
    id: &OrderUuid,
    look: Vec<String>,
) -> Vec<ValidatorRecord> {
    let rows = shared.reads.read(|| {
        sqlx::query(
            "SELECT d.record::text FROM ptn_delivery d JOIN ptn_signal s USING (seq) \
             WHERE seq = $1 AND s.id = $3 AND (d.hotkey = ANY ($2) OR cardinality($2) = 0)",
        )
        .bind(seq)
        .bind(look.clone())
        .bind(id.to_string())
    });
    let rows = match rows.await {
        Ok(rows) => rows,
        Err(e) => {
            tracing::debug!(code = e.code(), "news that were too long cannot be read: {e}");
            Vec::new()
        }
    };
    let text = rows.iter().filter_map(|row| row.try_get::<String, _>(0).ok());
    text.filter_map(|text| serde_json::from_str(&text).ok()).collect()
}
