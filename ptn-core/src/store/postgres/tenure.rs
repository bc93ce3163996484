//! Who delivers: one process at a time, for as long as it keeps its lease.
//!
//! Two clocks, and neither must be right about the time of day. The lease's end is a time of the
//! server's clock, by which others take over. The owner measures with its own clock from before it
//! asked, and stops earlier by a margin. If the server's clock was set back, others take over when
//! the owner has not renewed for a whole lease by *their* clocks.
//!
//! None of that is what keeps the books right. Everything that an owner writes names its token in
//! the same statement, and the token is exchanged under the row's lock: a late write of an earlier
//! owner is refused, whatever any clock says. A server that lost its last commits (a promoted
//! standby) may lack the last change of hands. So tokens are also no smaller than the seconds since
//! 2025, and a write names the owner too: even a number that was given out twice is nobody else's.
//!
//! A lease that ran out while the server was away is not lost: when it comes back and nobody has
//! taken over, the owner goes on under the same token. Until that is known nothing is sent.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use sqlx::Row as _;
use sqlx::postgres::PgRow;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Shared;
use super::link::{Link, Statement, Trouble};
use super::queue::odd;
use crate::store::{Hold, Tenure};

/// How soon a free or expired lease is looked for again, at the latest.
const LOOK: Duration = Duration::from_secs(1);

const TAKE: &str = "\
UPDATE ptn_tenure SET token = greatest(token + 1, $6,
        least(extract(epoch FROM clock_timestamp())::bigint - 1735689600, 2000000000)),
    owner = $1, account = coalesce($2, account),
    since = clock_timestamp(), lease_ms = $3, renewals = 0,
    expires_at = clock_timestamp() + $3 * interval '1 millisecond'
WHERE (owner IS NULL OR owner = $1 OR expires_at <= clock_timestamp()
        OR (token = $4 AND renewals = $5))
    AND (owner IS NULL OR account IS NULL OR $2 IS NULL OR account = $2)
RETURNING token, watermark";

const RENEW: &str = "\
UPDATE ptn_tenure SET renewals = renewals + 1,
    watermark = CASE WHEN $4 > 0 THEN $4 ELSE watermark END,
    expires_at = clock_timestamp() + $3 * interval '1 millisecond'
WHERE token = $1 AND owner = $2
RETURNING token";

const RELEASE: &str = "\
WITH released AS (
    UPDATE ptn_tenure SET owner = NULL, expires_at = clock_timestamp(),
        watermark = CASE WHEN $3 > 0 THEN $3 ELSE watermark END
    WHERE token = $1 AND owner = $2 RETURNING token
)
SELECT pg_notify($4, $5)::text FROM released";

const LOOK_AT: &str = "\
SELECT token, renewals, owner, account, lease_ms,
    greatest(0, extract(epoch FROM expires_at - clock_timestamp()) * 1000)::bigint AS left_ms
FROM ptn_tenure";

/// Which of its histories the server continues: another one after every promotion.
const TIMELINE: &str = "\
SELECT CASE WHEN NOT pg_is_in_recovery() THEN left(pg_walfile_name(pg_current_wal_lsn()), 8) END";

/// A number that must never fall from one owner to the next, such as the last nonce.
#[derive(Debug, Clone, Copy)]
pub struct Watermark {
    /// A number that the caller will not exceed for this long.
    pub ahead: fn(Duration) -> u64,
    /// Begin above this.
    pub raise: fn(u64),
}

/// The lease as this process knows it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) token: i64,
    until: Instant,
    /// A virtual machine that was suspended may find its monotonic clock where it left it.
    wall: SystemTime,
}

/// What another owner was last seen doing.
#[derive(Debug, Clone, Copy)]
struct Seen {
    token: i64,
    renewals: i64,
    lease: Duration,
    since: Instant,
}

/// Who delivers, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Owner {
    /// `host (pid N)`.
    pub name: String,
    /// Whose signals they are, when that was said.
    pub account: Option<String>,
    /// How long its lease lasts unless it is renewed; zero when it has run out.
    pub left: Duration,
}

#[derive(Debug, Default)]
pub(super) struct Tenures {
    held: Mutex<Option<Held>>,
    current: Mutex<Tenure>,
    /// What the server's history is called; `None`: not known yet.
    timeline: Mutex<Option<String>>,
    /// It was another one before.
    failed_over: AtomicBool,
}

impl Tenures {
    fn held(&self) -> MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The token, while this process is the owner as far as it knows.
    pub(super) fn token(&self) -> Option<i64> {
        self.held().map(|held| held.token)
    }

    /// Whether what was claimed under this token may be acted upon.
    pub(super) fn hold(&self, token: i64) -> Hold {
        match *self.held() {
            Some(held) if held.token == token => {
                if Instant::now() < held.until && SystemTime::now() < held.wall {
                    Hold::Until(Some(held.until))
                } else {
                    Hold::Unsure
                }
            }
            _ => Hold::Lost,
        }
    }

    pub(super) fn current(&self) -> Tenure {
        let mut current = *self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if self.failed_over.load(Ordering::Acquire) {
            // What the new server lacks may be accepted again, and its numbers are given out again.
            current.others_up_to = u64::MAX;
        }
        current
    }
}

/// Takes the lease when it is free, renews it, gives it back at the end.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    link: Link,
    seen: Option<Seen>,
    /// Whom we said to be waiting for.
    waiting: Option<String>,
    unsure: bool,
    /// The last token that this process was given.
    last: i64,
}

impl Keeper {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let patience = shared.options.lease / 4;
        let link = Link::new(&shared.server).with_patience(patience);
        Self { shared, link, seen: None, waiting: None, unsure: false, last: 0 }
    }

    /// Until the stop, and until what was delivered is written down.
    pub(super) async fn run(mut self, stop: CancellationToken, writers: TaskTracker) {
        loop {
            let next = match self.shared.tenures.token() {
                Some(token) => self.renew(token).await,
                None => self.take().await,
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.shared.news.released.notified(), if self.seen.is_some() => {}
                () = tokio::time::sleep(next) => {}
            }
        }
        if let Some(token) = self.shared.tenures.token() {
            // Who does not get done in time has lost the lease anyway.
            drop(tokio::time::timeout(self.shared.options.lease / 2, writers.wait()).await);
            self.release(token).await;
        }
    }

    /// The lease from before a request was sent; shorter than the server's by a margin.
    fn held(&self, token: i64, asked: (Instant, SystemTime)) -> Held {
        let lease = self.shared.options.lease;
        let usable = lease - lease / 5;
        Held { token, until: asked.0 + usable, wall: asked.1 + usable }
    }

    fn lease_ms(&self) -> i64 {
        i64::try_from(self.shared.options.lease.as_millis()).unwrap_or(i64::MAX)
    }

    fn watermark(&self, ahead: Duration) -> i64 {
        let mark = self.shared.options.watermark.map_or(0, |mark| (mark.ahead)(ahead));
        i64::try_from(mark).unwrap_or(i64::MAX)
    }

    async fn renew(&mut self, token: i64) -> Duration {
        let lease = self.shared.options.lease;
        let asked = (Instant::now(), SystemTime::now());
        let (owner, ms, mark) = (self.shared.owner.clone(), self.lease_ms(), self.watermark(lease));
        let statement = sqlx::query(RENEW).bind(token).bind(owner).bind(ms).bind(mark);
        match self.link.rows(statement).await {
            Ok(rows) if rows.is_empty() => {
                self.shared.lost(token);
                Duration::ZERO
            }
            Ok(_) => {
                *self.shared.tenures.held() = Some(self.held(token, asked));
                if std::mem::take(&mut self.unsure) {
                    tracing::info!(store = self.shared.server.name, "the lease is confirmed again");
                    self.shared.news.changed();
                }
                self.shared.notice_server(&mut self.link).await;
                lease / 5
            }
            Err(trouble) => {
                let sure = matches!(self.shared.tenures.hold(token), Hold::Until(_));
                if !sure && !std::mem::replace(&mut self.unsure, true) {
                    tracing::error!(
                        store = self.shared.server.name,
                        "nothing is sent until the lease is confirmed: {trouble:?}"
                    );
                }
                lease / 20
            }
        }
    }

    async fn take(&mut self) -> Duration {
        match self.try_take().await {
            Ok(next) => next,
            Err(trouble) => {
                // A server that is away is told of elsewhere; one that refuses will not be otherwise soon.
                if trouble.is_passing() {
                    tracing::debug!(store = self.shared.server.name, "no lease now: {trouble:?}");
                    return Duration::from_millis(250);
                }
                let why = trouble.into_error(&self.shared.server.name);
                tracing::error!(code = why.code(), "this process cannot deliver: {why}");
                Duration::from_secs(5)
            }
        }
    }

    /// Takes the lease, or says when to look again.
    async fn try_take(&mut self) -> Result<Duration, Trouble> {
        let asked = (Instant::now(), SystemTime::now());
        // Silent for a whole lease by our own clock: see the module.
        let silent = self.seen.filter(|seen| seen.since.elapsed() > seen.lease + seen.lease / 5);
        let (token, renewals) = silent.map_or((-1, -1), |seen| (seen.token, seen.renewals));
        let take = sqlx::query(TAKE)
            .bind(self.shared.owner.clone())
            .bind(self.shared.options.account.clone())
            .bind(self.lease_ms())
            .bind(token)
            .bind(renewals)
            .bind(self.last.saturating_add(1));
        let rows = self.link.rows(take).await?;
        let Some(row) = rows.first() else { return self.look().await };
        let token: i64 = row.try_get("token").map_err(odd)?;
        let mark: i64 = row.try_get("watermark").map_err(odd)?;
        // After the change of hands was committed: what gets a higher number from now on, nobody
        // else can have claimed.
        let last = self.link.rows(sqlx::query("SELECT last_value FROM ptn_place")).await?;
        let last = last.first().map_or(Ok(0), |row| row.try_get::<i64, _>(0)).map_err(odd)?;
        if let Some(watermark) = self.shared.options.watermark {
            (watermark.raise)(u64::try_from(mark).unwrap_or_default());
        }
        let held = self.held(token, asked);
        self.last = token;
        self.begin(held, last);
        // The lease runs, so this comes last.
        self.shared.notice_server(&mut self.link).await;
        Ok(self.shared.options.lease / 5)
    }

    fn begin(&mut self, held: Held, last: i64) {
        let shared = &self.shared;
        (self.seen, self.waiting, self.unsure) = (None, None, false);
        shared.claims().begin(held.token);
        {
            let mut current = shared.tenures.current.lock().unwrap_or_else(PoisonError::into_inner);
            current.number += 1;
            current.others_up_to = u64::try_from(last).unwrap_or_default();
        }
        *shared.tenures.held() = Some(held);
        shared.delivering.send_replace(true);
        tracing::info!(store = shared.server.name, token = held.token, "this process delivers now");
        shared.look_again();
    }

    /// Another one delivers: remembers what it looks like, and says when to look again.
    async fn look(&mut self) -> Result<Duration, Trouble> {
        let rows = self.link.rows(sqlx::query(LOOK_AT)).await?;
        let Some(row) = rows.first() else { return Ok(LOOK) };
        let token: i64 = row.try_get("token").map_err(odd)?;
        let renewals: i64 = row.try_get("renewals").map_err(odd)?;
        let owner: Option<String> = row.try_get("owner").map_err(odd)?;
        let ms = |column| row.try_get::<i64, _>(column).map_err(odd);
        let (left, lease) = (duration(ms("left_ms")?), duration(ms("lease_ms")?));
        let same = self.seen.is_some_and(|s| (s.token, s.renewals) == (token, renewals));
        if !same {
            self.seen = Some(Seen { token, renewals, lease, since: Instant::now() });
        }
        if self.waiting != owner {
            tracing::info!(
                store = self.shared.server.name,
                owner = owner.as_deref().map(owner_name),
                "standing by: another process delivers"
            );
            self.waiting = owner;
        }
        Ok(left.clamp(Duration::from_millis(20), LOOK))
    }

    async fn release(&mut self, token: i64) {
        *self.shared.tenures.held() = None;
        self.shared.delivering.send_replace(false);
        let (owner, mark) = (self.shared.owner.clone(), self.watermark(Duration::ZERO));
        let (channel, wake) = (self.shared.news.channel.clone(), self.shared.news.wake());
        let statement = sqlx::query(RELEASE).bind(token).bind(owner).bind(mark);
        // Otherwise it runs out by itself.
        if let Err(trouble) = self.link.rows(statement.bind(channel).bind(wake)).await {
            tracing::warn!("the lease was not given back and has to run out: {trouble:?}");
        }
    }
}

impl Shared {
    /// Whether a connection is new; then looks whether it is to the server that was there before.
    pub(super) async fn notice_server(&self, link: &mut Link) -> bool {
        if !link.is_new() {
            return false;
        }
        if let Ok(rows) = link.rows(sqlx::query(TIMELINE)).await
            && let Some(row) = rows.first()
            && let Ok(Some(found)) = row.try_get::<Option<String>, _>(0)
        {
            self.notice_timeline(found);
        }
        // Lost again, it will be another one.
        true
    }

    fn notice_timeline(&self, found: String) {
        let mut known = self.tenures.timeline.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref().is_some_and(|known| *known != found) {
            self.tenures.failed_over.store(true, Ordering::Release);
            tracing::warn!(
                store = self.server.name,
                "another server took over the database; unless it was kept in step, it lacks the last commits"
            );
        }
        *known = Some(found);
    }

    /// Another process delivers now.
    pub(super) fn lost(&self, token: i64) {
        {
            let mut held = self.tenures.held();
            if held.is_none_or(|held| held.token != token) {
                return;
            }
            *held = None;
        }
        self.delivering.send_replace(false);
        tracing::warn!(
            store = self.server.name,
            "another process delivers now; this one stands by"
        );
        self.news.changed();
    }

    /// Something may have changed that nobody told us of.
    pub(super) fn look_again(&self) {
        self.look_at_queue();
        self.news.changed();
    }

    /// The queue may be longer.
    pub(super) fn look_at_queue(&self) {
        self.queue_changed.store(true, Ordering::Release);
    }
}

pub(super) fn look_at_owner() -> Statement {
    sqlx::query(LOOK_AT)
}

/// The owner in a row of [`look_at_owner`]; `None` when nobody delivers.
pub(super) fn owner_in(row: &PgRow) -> Result<Option<Owner>, Trouble> {
    let owner: Option<String> = row.try_get("owner").map_err(odd)?;
    let left: i64 = row.try_get("left_ms").map_err(odd)?;
    let account = row.try_get("account").map_err(odd)?;
    Ok(owner.map(|owner| Owner {
        name: owner_name(&owner).to_owned(),
        account,
        left: duration(left),
    }))
}

fn duration(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or_default())
}

/// Without what only tells two runs apart.
fn owner_name(owner: &str) -> &str {
    owner.rsplit_once(' ').map_or(owner, |(name, _)| name)
}
