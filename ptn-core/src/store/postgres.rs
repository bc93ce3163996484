//! `PgStore`: signals in PostgreSQL, for several servers and several miners on several machines.
//!
//! ```text
//! ptn-server ─┐                     ┌─ ptn-miner, delivers         ─▶ validators
//! ptn-server ─┼─▶  PostgreSQL   ◀───┼─ ptn-miner, stands by
//! ptn-cli   ──┘                     └─ ptn-miner, stands by
//! ```
//!
//! Any number of processes may accept ([`PgStore::open`]). Of those that may deliver
//! ([`PgStore::open_owner`]) one at a time does, on a lease; when it dies, hangs or is cut off,
//! another continues with the validators still missing. `docs/postgres.md` is for operators, and
//! `docs/decisions/0013-one-delivers-the-others-stand-by.md` says why the lease covers the whole
//! store and not a trade pair.
//!
//! What must stay true:
//!
//! 1. Every statement commits by itself in one round trip, so a process that stops anywhere holds
//!    nothing up. (Making the tables is the one exception.)
//! 2. Every statement may be sent again after its answer was lost, and says the same then.
//! 3. Places in the queue become visible in the order of their numbers (`queue`), so reading the
//!    queue from where one stopped misses nothing, however long it is. That holds for one
//!    connection: a server that was promoted may have gone back, so over a new one the queue is
//!    read from its beginning, without what is in delivery here.
//! 4. An owner's writes name its token in the same statement (`ledger`), and nothing is sent unless
//!    its lease is confirmed (`tenure`).
//! 5. Notifications are hints. Everything is found without them as well.
//!
//! Who delivers what to whom is left to [`crate::deliver`].

mod change;
mod ledger;
mod link;
mod news;
mod queue;
mod read;
mod schema;
mod tenure;
mod transfer;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::ledger::{Claims, What};
use self::link::{Link, Links, Server};
use self::news::{Happened, News};
use self::queue::odd;
use self::read::columns;
use self::tenure::{Keeper, Tenures};
pub use self::tenure::{Owner, Watermark};
use crate::record::{DeliveryReport, Progress};
use crate::signal::{OrderUuid, Signal};
use crate::store::transfer::name_in;
use crate::store::{
    Accepted, Filter, Hold, Lease, Pending, SignalStore, StoreChange, StoreError, StoreEvent,
    StoredSignal, Tenure, now_ms,
};

/// Connections for reading, cancelling and retrying. Accepting, delivering, the lease and listening
/// have one each of their own, so that none of them waits for the others.
const READERS: usize = 4;

/// Shorter leases would be lost to every hiccup of the server.
const SHORTEST_LEASE: Duration = Duration::from_secs(1);

const CLAIM: &str = concat!(
    "SELECT ",
    columns!(),
    ", s.ticket, (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now
    FROM ptn_signal s
    WHERE s.state = 0 AND s.place > $1
        AND EXISTS (SELECT 1 FROM ptn_tenure WHERE token = $3 AND owner = $4)
    ORDER BY s.place LIMIT $2"
);

const CANCELLED: &str =
    "SELECT id FROM ptn_signal WHERE state = 0 AND cancel ORDER BY seq LIMIT 10000";

/// From this difference on, ages are counted by the server's clock.
const SKEW_MS: i64 = 1000;

/// How to open a [`PgStore`].
#[derive(Clone)]
#[non_exhaustive]
pub struct PgOptions {
    server: Server,
    /// Who has not renewed for this long is taken over; 10 s, at least 1 s. An owner that is cut
    /// off stops sending after four fifths of it.
    pub lease: Duration,
    /// How often the queue is read without a notification; 1 s.
    pub poll: Duration,
    /// How long a call tries to reach the server before it says that it cannot; 2.5 s.
    pub patience: Duration,
    /// Whose signals these are (the hotkey): a process that would deliver them for somebody else is
    /// refused. `None`: not checked.
    pub account: Option<String>,
    /// A number handed on from owner to owner.
    pub watermark: Option<Watermark>,
    /// Whether to listen for notifications; otherwise the store polls.
    pub listen: bool,
    /// Whether to open it although its signals were moved away: for moving them back.
    pub even_if_moved: bool,
}

impl fmt::Debug for PgOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgOptions")
            .field("server", &self.server)
            .field("lease", &self.lease)
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}

impl PgOptions {
    /// The usual options for a database: `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, with
    /// `?sslmode=verify-full`, `?options[search_path]=SCHEMA` and so on. What is left out comes from
    /// `PGPASSWORD`, `.pgpass` and the other usual places.
    ///
    /// # Errors
    /// When that is no such address. The error does not show it.
    pub fn new(address: &str) -> Result<Self, StoreError> {
        Ok(Self {
            server: Server::parse(address)?,
            lease: Duration::from_secs(10),
            poll: Duration::from_secs(1),
            patience: Duration::from_millis(2500),
            account: None,
            watermark: None,
            listen: true,
            even_if_moved: false,
        })
    }

    /// The database without user and password, for people.
    pub fn name(&self) -> &str {
        &self.server.name
    }
}

#[derive(Debug)]
struct Shared {
    server: Server,
    options: PgOptions,
    /// This process, in the row of the tenure.
    owner: String,
    reads: Links,
    news: News,
    tenures: Tenures,
    delivering: watch::Sender<bool>,
    claims: Mutex<Claims>,
    queue_changed: AtomicBool,
}

impl Shared {
    fn claims(&self) -> MutexGuard<'_, Claims> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A store in a PostgreSQL database. Dropping it gives the lease back in the background; [`close`]
/// waits for that.
///
/// [`close`]: PgStore::close
#[derive(Debug)]
pub struct PgStore {
    shared: Arc<Shared>,
    accepts: mpsc::UnboundedSender<queue::Ask>,
    entries: Option<mpsc::UnboundedSender<ledger::Entry>>,
    /// Also keeps claims one after the other.
    reading: tokio::sync::Mutex<Reading>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// How the queue is read.
#[derive(Debug, Default)]
struct Reading {
    /// When it was last read whatever was told.
    polled: Option<Instant>,
    /// Over which it was read up to the cursor; taken out while it is used, so that a reading that
    /// is broken off leaves no half read connection behind.
    link: Option<Link>,
}

impl Drop for PgStore {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl PgStore {
    /// Opens a database to accept signals into it, to look at them, cancel and retry them. Makes the
    /// tables when they are not there. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses, when its tables are of a newer release, or when
    /// its signals were moved away.
    pub async fn open(options: PgOptions) -> Result<Self, StoreError> {
        Self::start(options, false).await
    }

    /// Opens a database to deliver from it as well, now or when its turn comes: until then
    /// [`claim`](SignalStore::claim) finds nothing. See [`PgStore::delivering`].
    ///
    /// # Errors
    /// As [`PgStore::open`], and [`StoreError::Account`] when the signals are somebody else's.
    pub async fn open_owner(options: PgOptions) -> Result<Self, StoreError> {
        Self::start(options, true).await
    }

    async fn start(mut options: PgOptions, owner: bool) -> Result<Self, StoreError> {
        options.lease = options.lease.max(SHORTEST_LEASE);
        let server = options.server.clone();
        let schema = schema::prepare(&server, options.patience.max(Duration::from_secs(5))).await?;
        let news = News::new(channel(&schema));
        let shared = Arc::new(Shared {
            owner: format!("{} (pid {}) {}", host(), std::process::id(), news.origin),
            reads: Links::new(&server, READERS, options.patience),
            server,
            options,
            news,
            tenures: Tenures::default(),
            delivering: watch::Sender::new(false),
            claims: Mutex::default(),
            queue_changed: AtomicBool::new(true),
        });
        if let Some(to) = shared.moved_to().await?
            && !shared.options.even_if_moved
        {
            let (from, to) = (shared.server.name.clone(), name_in(&to));
            return Err(StoreError::Moved { from, to });
        }
        let (tasks, writers) = (TaskTracker::new(), TaskTracker::new());
        let stop = CancellationToken::new();
        let (accepts, asks) = mpsc::unbounded_channel();
        tasks.spawn(queue::run(Arc::clone(&shared), asks, stop.clone()));
        if shared.options.listen {
            tasks.spawn(news::listen(Arc::clone(&shared), stop.clone()));
        }
        let mut entries = None;
        if owner {
            shared.check_account().await?;
            let (tx, rx) = mpsc::unbounded_channel();
            entries = Some(tx);
            writers.spawn(ledger::run(Arc::clone(&shared), rx, stop.clone()));
            writers.close();
            tasks.spawn(Keeper::new(Arc::clone(&shared)).run(stop.clone(), writers));
        }
        tasks.close();
        let reading = tokio::sync::Mutex::default();
        Ok(Self { shared, accepts, entries, reading, tasks, stop })
    }

    /// The database without user and password, for people.
    pub fn name(&self) -> &str {
        &self.shared.server.name
    }

    /// Whether this process delivers, and every change of that.
    pub fn delivering(&self) -> watch::Receiver<bool> {
        self.shared.delivering.subscribe()
    }

    /// Who delivers.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn owner(&self) -> Result<Option<Owner>, StoreError> {
        self.shared.current_owner().await
    }

    /// Finishes what was asked for, and gives the lease back. Calls made after this are refused.
    pub async fn close(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }

    async fn write(&self, lease: &Lease, what: What) -> Result<(), StoreError> {
        let Some(entries) = &self.entries else { return Err(self.not_owner()) };
        let (entry, answer) = ledger::entry(lease.stored.signal.id(), lease.token, what);
        entries.send(entry).map_err(|_| closed())?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    fn not_owner(&self) -> StoreError {
        StoreError::Database {
            server: self.name().to_owned(),
            code: "not_owner".to_owned(),
            why: "this process opened it to accept only; open it with PgStore::open_owner"
                .to_owned(),
        }
    }

    /// Tells of cancellations whose notification was lost.
    async fn poll_cancelled(&self) -> Result<(), StoreError> {
        let rows = self.shared.reads.read(|| sqlx::query(CANCELLED)).await?;
        for row in rows {
            let Ok(id) = row.try_get::<String, _>(0) else { continue };
            let Ok(id) = OrderUuid::parse(&id) else { continue };
            let untold = match self.shared.claims().get_mut(&id) {
                Some(claimed) => !std::mem::replace(&mut claimed.cancel, true),
                None => false,
            };
            if untold {
                self.shared.news.tell(Happened { id, change: StoreChange::CancelRequested });
            }
        }
        Ok(())
    }
}

impl Shared {
    async fn moved_to(&self) -> Result<Option<String>, StoreError> {
        let rows = self.reads.read(|| sqlx::query("SELECT moved_to FROM ptn_store")).await?;
        let to = rows.first().map(|row| row.try_get::<Option<String>, _>(0)).transpose();
        to.map(Option::flatten).map_err(|e| odd(e).into_error(&self.server.name))
    }

    async fn current_owner(&self) -> Result<Option<Owner>, StoreError> {
        let rows = self.reads.read(tenure::look_at_owner).await?;
        let owner = rows.first().map(tenure::owner_in).transpose();
        owner.map(Option::flatten).map_err(|t| t.into_error(&self.server.name))
    }

    async fn check_account(&self) -> Result<(), StoreError> {
        let Some(ours) = self.options.account.clone() else { return Ok(()) };
        match self.current_owner().await? {
            Some(Owner { name: owner, account: Some(account), .. }) if account != ours => {
                Err(StoreError::Account { server: self.server.name.clone(), account, owner, ours })
            }
            _ => Ok(()),
        }
    }
}

/// The channel of a schema's store; channels are shared by a whole database.
fn channel(schema: &str) -> String {
    use sha2::Digest as _;
    let hash = sha2::Sha256::digest(schema.as_bytes());
    format!("ptn_{}", hex::encode(hash.get(..8).unwrap_or_default()))
}

fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "unknown".to_owned() } else { name.to_owned() }
}

fn closed() -> StoreError {
    StoreError::Poisoned("the store was closed".to_owned())
}

/// Each call queues its request when its future is first polled, before anything is awaited:
/// futures that are polled one after the other keep that order. A call that is dropped while it
/// waits may still take effect.
#[async_trait]
impl SignalStore for PgStore {
    async fn accept(&self, signal: &Signal) -> Result<Accepted, StoreError> {
        let (ask, answer) = queue::Ask::new(signal);
        self.accepts.send(ask).map_err(|_| closed())?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    async fn claim(&self, limit: usize) -> Result<Vec<Lease>, StoreError> {
        if self.entries.is_none() {
            return Err(self.not_owner());
        }
        let mut reading = self.reading.lock().await;
        let Some(tenure) = self.shared.tenures.token() else { return Ok(Vec::new()) };
        let sure = matches!(self.shared.tenures.hold(tenure), Hold::Until(_));
        if !sure {
            return Ok(Vec::new());
        }
        let due = reading.polled.is_none_or(|at| at.elapsed() >= self.shared.options.poll);
        if due {
            reading.polled = Some(Instant::now());
            self.poll_cancelled().await?;
        }
        if limit == 0 || (!self.shared.queue_changed.swap(false, Ordering::AcqRel) && !due) {
            return Ok(Vec::new());
        }
        let link = reading.link.take();
        let mut link = link.unwrap_or_else(|| {
            Link::new(&self.shared.server).with_patience(self.shared.options.patience)
        });
        let leases = self.shared.claim(&mut link, tenure, limit).await;
        reading.link = Some(link);
        if !matches!(&leases, Ok(leases) if leases.len() < limit) {
            // There may be more.
            self.shared.look_at_queue();
        }
        leases
    }

    fn hold(&self, lease: &Lease) -> Hold {
        self.shared.tenures.hold(ledger::tenure_of(lease.token))
    }

    fn tenure(&self) -> Tenure {
        self.shared.tenures.current()
    }

    fn kind(&self) -> &'static str {
        "postgres"
    }

    async fn record(&self, lease: &Lease, progress: Progress) -> Result<(), StoreError> {
        self.write(lease, What::Progress(progress)).await
    }

    async fn finish(&self, lease: &Lease, report: &DeliveryReport) -> Result<(), StoreError> {
        self.write(lease, What::Finish(report.clone())).await
    }

    async fn get(&self, id: &OrderUuid) -> Result<Option<StoredSignal>, StoreError> {
        Ok(self.shared.get_all(std::slice::from_ref(id)).await?.pop())
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<StoredSignal>, StoreError> {
        self.shared.list(filter).await
    }

    async fn cancel(&self, id: &OrderUuid) -> Result<(), StoreError> {
        self.shared.cancel(id).await
    }

    async fn retry(&self, id: &OrderUuid) -> Result<(), StoreError> {
        self.shared.retry(id).await
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.shared.news.changes()
    }

    fn events(&self) -> broadcast::Receiver<StoreEvent> {
        self.shared.news.events()
    }

    async fn pending(&self) -> Result<Pending, StoreError> {
        self.shared.pending().await
    }
}

impl Shared {
    /// Reads on in the queue, to the first that is not in delivery here, or to its end.
    async fn claim(
        &self,
        link: &mut Link,
        tenure: i64,
        limit: usize,
    ) -> Result<Vec<Lease>, StoreError> {
        let most = i64::try_from(limit).unwrap_or(i64::MAX);
        loop {
            let from = {
                let mut claims = self.claims();
                claims.reading();
                claims.cursor
            };
            let deadline = Instant::now() + self.options.patience;
            let claim = || {
                let owner = self.owner.clone();
                sqlx::query(CLAIM).bind(from).bind(most).bind(tenure).bind(owner)
            };
            // Reading changes nothing, so there is no doubt about it either.
            let rows = link.persist(deadline, claim).await;
            let rows = rows.map_err(|t| t.harmless().into_error(&self.server.name))?;
            if self.notice_server(link).await && from > 0 {
                self.claims().rewind(tenure);
                continue;
            }
            let found = rows.iter().map(|row| self.queued(row));
            let found = found.collect::<Result<Vec<_>, _>>()?;
            let mut claims = self.claims();
            if claims.tenure() != tenure {
                return Ok(Vec::new());
            }
            let mut leases = Vec::with_capacity(found.len());
            for (place, ticket, stored) in found {
                claims.cursor = claims.cursor.max(place);
                if !claims.has(&stored, ticket) {
                    leases.push(Lease { token: claims.add(&stored, ticket), stored });
                }
            }
            if !leases.is_empty() || rows.len() < limit {
                return Ok(leases);
            }
        }
    }

    /// A row of [`CLAIM`]: its place, its ticket, and the signal.
    fn queued(&self, row: &PgRow) -> Result<(i64, i64, StoredSignal), StoreError> {
        let number = |column| {
            let number = row.try_get::<i64, _>(column);
            number.map_err(|e| odd(e).into_error(&self.server.name))
        };
        let mut stored = read::stored(row)?;
        // How old it is does not depend on which machine looks.
        let skew = now_ms() - number("now")?;
        if skew.abs() > SKEW_MS {
            stored.accepted_at += skew;
        }
        Ok((number("place")?, number("ticket")?, stored))
    }
}
