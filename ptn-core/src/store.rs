//! `SignalStore`: where signals are safe until every validator has answered, and its contract.
//!
//! The contract, which [`conformance`] tests for ours and anyone's store:
//!
//! 1. `accept` returns `Ok` only when the signal would survive a power cut. The same id with the
//!    same digest is [`Accepted::Same`]; with another digest it is [`StoreError::Conflict`] and the
//!    first one stays.
//! 2. `claim` hands out unfinished signals in the order of acceptance, each to one owner at a time.
//!    What a dead owner held is handed out again, with everything that was recorded.
//! 3. `record` returns `Ok` only when the progress would survive a power cut. A lease that was lost
//!    is refused ([`StoreError::LeaseLost`]).
//! 4. `finish` moves a signal to its terminal state exactly once; nothing is ever deleted.
//! 5. `watch` wakes soon after anything changed. It is a hint: look again, and poll as well.
//! 6. Of all processes that share a store, one at a time delivers. Nothing may be sent on a lease
//!    unless `hold` has just said so, and `tenure` changes whenever somebody else may have delivered
//!    in between. A store that one process owns for as long as it lives need not say anything.
//!
//! Deciding what to send, when and to whom is left to [`crate::deliver`].

pub mod audit;
#[cfg(feature = "test-util")]
pub mod conformance;
#[cfg(feature = "fs")]
pub mod fs;
#[cfg_attr(not(feature = "fs"), allow(dead_code, reason = "parts that only the spool needs"))]
mod index;
mod memory;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod transfer;

#[cfg(feature = "fs")]
pub use fs::FsStore;
pub use memory::MemoryStore;
#[cfg(feature = "postgres")]
pub use postgres::PgStore;

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::ErrorClass;
use crate::record::{DeliveryReport, Progress, SignalState, ValidatorRecord};
use crate::signal::{OrderUuid, Signal};

/// Milliseconds since 1970-01-01 UTC.
pub type UnixMs = i64;

/// What `accept` found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Accepted {
    /// Stored now, durable, with its place in the order of arrival.
    New {
        /// Rises with every accepted signal of this store.
        seq: u64,
    },
    /// The same signal was accepted before; nothing was stored and nothing will be sent twice.
    Same {
        /// Where the earlier one stands.
        state: SignalState,
    },
}

/// A signal with everything the store knows about it.
#[derive(Debug, Clone)]
pub struct StoredSignal {
    /// Place in the order of arrival.
    pub seq: u64,
    /// The signal.
    pub signal: Signal,
    /// When it was accepted.
    pub accepted_at: UnixMs,
    /// Where it stands.
    pub state: SignalState,
    /// Per validator (by hotkey), once the targets are decided.
    pub validators: BTreeMap<String, ValidatorRecord>,
    /// When it reached a terminal state.
    pub finished_at: Option<UnixMs>,
    /// Why it failed, in a sentence; empty otherwise.
    pub reason: String,
    /// Whether someone asked for its cancellation; honoured for what was not sent yet.
    pub cancel_requested: bool,
}

/// The right to deliver one signal until it is finished or the lease is lost.
#[derive(Debug, Clone)]
#[must_use]
pub struct Lease {
    /// Fencing token: rises with every claim of the same signal.
    pub token: u64,
    /// The signal as it stood when it was claimed.
    pub stored: StoredSignal,
}

/// Whether a lease may be acted upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Yes, until then; ask again at that time, it may have been extended. `None`: for as long as
    /// this process lives.
    Until(Option<tokio::time::Instant>),
    /// Nobody can tell now, because the store has not confirmed it for too long. Ask again soon.
    Unsure,
    /// No: another owner continues with the signal.
    Lost,
}

/// A time during which one process delivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tenure {
    /// Changes when this process begins to deliver after others may have.
    pub number: u64,
    /// Signals up to this `seq` may have been sent by others without a word in the store.
    pub others_up_to: u64,
}

/// Which signals to list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only these states; empty means all.
    pub states: Vec<SignalState>,
    /// Only this trade pair.
    pub trade_pair: Option<String>,
    /// Only signals with a `seq` below this (to page backwards).
    pub before_seq: Option<u64>,
    /// At most this many, newest first; 0 means 100.
    pub limit: usize,
}

impl Tenure {
    /// Whether a signal may have been sent by others.
    pub fn may_be_known(&self, stored: &StoredSignal) -> bool {
        stored.seq <= self.others_up_to
    }
}

impl Filter {
    fn limit(&self) -> usize {
        if self.limit == 0 { 100 } else { self.limit }
    }
}

/// How many events a slow listener may lag behind before it misses some.
const EVENT_BACKLOG: usize = 4096;

pub(crate) fn now_ms() -> UnixMs {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| UnixMs::try_from(since.as_millis()).unwrap_or(UnixMs::MAX))
}

fn matches(filter: &Filter, stored: &StoredSignal) -> bool {
    (filter.states.is_empty() || filter.states.contains(&stored.state))
        && filter.before_seq.is_none_or(|before| stored.seq < before)
        && filter.trade_pair.as_deref().is_none_or(|wanted| {
            stored.signal.trade_pair().is_some_and(|pair| pair.as_str() == wanted)
        })
}

/// What a store can refuse. Every variant says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The id is taken by another signal, which stays.
    #[error(
        "order_uuid {id} was already used for another signal (stored digest {stored}, this one {offered}); send it under a new order_uuid"
    )]
    Conflict {
        /// The id.
        id: OrderUuid,
        /// First 8 hex digits of the stored signal's digest.
        stored: String,
        /// First 8 hex digits of this signal's digest.
        offered: String,
    },
    /// Another process delivers from this spool.
    #[error(
        "{path} is in use by another miner (pid {pid} on {host}); stop that one, or give this one its own --data-dir"
    )]
    Locked {
        /// The data directory.
        path: PathBuf,
        /// The holder's process id.
        pid: String,
        /// The holder's host name.
        host: String,
    },
    /// The lease is no longer ours: someone else continues with this signal.
    #[error("the lease on {id} was lost to another owner; nothing was recorded")]
    LeaseLost {
        /// The signal.
        id: OrderUuid,
    },
    /// No such signal.
    #[error("no signal {id} in this store")]
    NotFound {
        /// The id that was asked for.
        id: OrderUuid,
    },
    /// The signal is in a state in which this cannot be done.
    #[error("{id} is {state}, {wanted}")]
    WrongState {
        /// The signal.
        id: OrderUuid,
        /// Its state.
        state: SignalState,
        /// What would be needed.
        wanted: &'static str,
    },
    /// No room on the disk; nothing was stored.
    #[error("no space left on {path}: free some, nothing was stored")]
    Full {
        /// Where.
        path: PathBuf,
    },
    /// The disk still has room, but only what accepted signals need; nothing was stored.
    #[error(
        "only {} MiB{} are free on the disk of {path}, and {} MiB are kept for what was accepted before: free some (or lower --spool.min-free); nothing was stored",
        free / (1024 * 1024),
        inodes.map(|n| format!(" and {n} inodes")).unwrap_or_default(),
        least.div_ceil(1024 * 1024)
    )]
    LowSpace {
        /// The data directory.
        path: PathBuf,
        /// Free bytes.
        free: u64,
        /// Free inodes, where they are counted.
        inodes: Option<u64>,
        /// Bytes that must stay free.
        least: u64,
    },
    /// The disk or database failed.
    #[error("{what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file or server.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A sync failed earlier, so the disk's content is uncertain: nothing is accepted until a
    /// restart has read it again.
    #[error(
        "the store stopped after a failed sync ({0}); check the disk and restart, and send what was not confirmed again under the same order_uuid"
    )]
    Poisoned(String),
    /// The database does not answer, or not as it should.
    #[error("{server} cannot be used now: {why}; {}",
        if *maybe { "the signal may have been stored: send it again under the same order_uuid" }
        else { "nothing was stored, try again" }
    )]
    Unavailable {
        /// The server, without a password.
        server: String,
        /// What happened.
        why: String,
        /// What was asked may have been done all the same.
        maybe: bool,
    },
    /// The database refuses, and will again.
    #[error("{server} refuses ({code}): {why}")]
    Database {
        /// The server, without a password.
        server: String,
        /// SQLSTATE.
        code: String,
        /// The server's words.
        why: String,
    },
    /// The address of a database cannot be used.
    #[error(
        "the address of the store cannot be used: {why}; expected postgres://USER@HOST:PORT/DATABASE"
    )]
    Address {
        /// What is wrong with it; never the address itself, which may hold a password.
        why: String,
    },
    /// The tables are of another release.
    #[error(
        "{server} has tables of release {found} and this program knows up to {known}; use a newer program"
    )]
    Schema {
        /// The server, without a password.
        server: String,
        /// What is there.
        found: i32,
        /// What this program knows.
        known: i32,
    },
    /// Somebody else delivers from this store.
    #[error("{owner} delivers from {server}; stop it first")]
    InUse {
        /// The server, without a password.
        server: String,
        /// Who.
        owner: String,
    },
    /// The store's signals are those of another hotkey.
    #[error(
        "the signals in {server} are delivered with hotkey {account} (by {owner}), not with {ours}: give this miner a --store of its own, or stop the other one first"
    )]
    Account {
        /// The server, without a password.
        server: String,
        /// Whose signals they are.
        account: String,
        /// Who delivers them, or did.
        owner: String,
        /// Whom we would deliver for.
        ours: String,
    },
    /// Everything was moved to another store.
    #[error(
        "the signals of {from} were moved to {to}: use --store {to}, or move them back with `ptn-cli signals migrate`"
    )]
    Moved {
        /// From where.
        from: String,
        /// To where; shows no password.
        to: String,
    },
    /// Stored data is damaged.
    #[error("{path} is damaged at byte {at}: {what}; run `ptn-cli doctor` before starting again")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Byte offset.
        at: u64,
        /// What is wrong there.
        what: String,
    },
}

impl StoreError {
    /// Stable machine-readable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Conflict { .. } => "uuid_conflict",
            Self::Locked { .. } => "spool_locked",
            Self::LeaseLost { .. } => "lease_lost",
            Self::NotFound { .. } => "not_found",
            Self::WrongState { .. } => "wrong_state",
            Self::Full { .. } => "disk_full",
            Self::LowSpace { .. } => "disk_low",
            Self::Io { .. } => "store_io",
            Self::Poisoned(_) => "store_poisoned",
            Self::Unavailable { .. } => "store_unavailable",
            Self::Database { .. } => "store_database",
            Self::Address { .. } => "store_address",
            Self::Schema { .. } => "store_schema",
            Self::InUse { .. } => "store_in_use",
            Self::Account { .. } => "store_account",
            Self::Moved { .. } => "store_moved",
            Self::Corrupt { .. } => "store_corrupt",
        }
    }

    /// What kind of problem it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Conflict { .. } | Self::WrongState { .. } => ErrorClass::Conflict,
            Self::NotFound { .. } | Self::Address { .. } => ErrorClass::Input,
            Self::Corrupt { .. } => ErrorClass::Corrupt,
            _ => ErrorClass::Unavailable,
        }
    }
}

/// Where signals are kept. See the module for the contract.
#[async_trait]
pub trait SignalStore: Send + Sync + 'static {
    /// Keeps a signal; durable when it returns.
    async fn accept(&self, signal: &Signal) -> Result<Accepted, StoreError>;

    /// Up to `limit` unfinished and unclaimed signals in order of acceptance, now leased to the
    /// caller. None while another process delivers from this store.
    async fn claim(&self, limit: usize) -> Result<Vec<Lease>, StoreError>;

    /// Whether a lease may be acted upon now: asked right before something is sent, and again when
    /// the time that it names has come. Never waits.
    fn hold(&self, _lease: &Lease) -> Hold {
        Hold::Until(None)
    }

    /// Since when this process delivers: asked after every claim.
    fn tenure(&self) -> Tenure {
        Tenure::default()
    }

    /// What kind of store it is, in a word, for health pages.
    fn kind(&self) -> &'static str {
        "custom"
    }

    /// Keeps progress with a claimed signal; durable when it returns. Calls made one after the
    /// other are kept in that order even when they are not awaited in between.
    async fn record(&self, lease: &Lease, progress: Progress) -> Result<(), StoreError>;

    /// Ends a claimed signal with its report.
    async fn finish(&self, lease: &Lease, report: &DeliveryReport) -> Result<(), StoreError>;

    /// One signal, finished or not.
    async fn get(&self, id: &OrderUuid) -> Result<Option<StoredSignal>, StoreError>;

    /// Signals, newest first.
    async fn list(&self, filter: &Filter) -> Result<Vec<StoredSignal>, StoreError>;

    /// Asks for a cancellation: what was not sent yet to a validator is not sent any more.
    ///
    /// # Errors
    /// [`StoreError::WrongState`] when it is finished.
    async fn cancel(&self, id: &OrderUuid) -> Result<(), StoreError>;

    /// Makes a failed signal deliverable again, under its id, to the validators that did not
    /// acknowledge it.
    ///
    /// # Errors
    /// [`StoreError::WrongState`] when it did not fail.
    async fn retry(&self, id: &OrderUuid) -> Result<(), StoreError>;

    /// Wakes after a change. A hint: look again, and poll as well.
    fn watch(&self) -> tokio::sync::watch::Receiver<u64>;

    /// What happens from now on, also what other processes do to the same store. For logs, metrics
    /// and live views: a slow reader misses events instead of slowing the store down.
    fn events(&self) -> tokio::sync::broadcast::Receiver<StoreEvent>;

    /// Counts for health pages and metrics: signals that are not finished, and the time at which
    /// the oldest of them was accepted.
    async fn pending(&self) -> Result<Pending, StoreError>;
}

/// Something that happened to a signal.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StoreEvent {
    /// Rises with every event of this process.
    pub number: u64,
    /// When it was recorded.
    pub at: UnixMs,
    /// The signal.
    pub id: OrderUuid,
    /// What happened.
    #[serde(flatten)]
    pub change: StoreChange,
}

/// The kinds of [`StoreEvent`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum StoreChange {
    /// It was accepted.
    Accepted {
        /// Place in the order of arrival.
        seq: u64,
        /// Its trade pair.
        trade_pair: Option<String>,
        /// Its execution type.
        execution_type: crate::order::ExecutionType,
        /// Its direction.
        order_type: Option<crate::order::OrderType>,
    },
    /// Its delivery moved on.
    Progress {
        /// How.
        progress: Progress,
    },
    /// Its cancellation was asked for.
    CancelRequested,
    /// It was made deliverable again.
    RetryRequested,
    /// It reached a terminal state.
    Finished {
        /// Which.
        state: SignalState,
        /// Why, when it failed.
        reason: String,
    },
}

/// What waits in a store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Signals that are not finished.
    pub count: u64,
    /// When the oldest of them was accepted.
    pub oldest_at: Option<UnixMs>,
    /// Whether new signals are accepted.
    pub accepting: bool,
}
