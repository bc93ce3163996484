//! `Engine`: start, submit, stop, and what all its parts share. What it does in between is left to
//! [`super::dispatcher`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::FutureExt as _;
use serde::Serialize;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::dispatcher::Dispatcher;
use super::guarding::{SubmitError, accept_guarded};
use super::policy::{DeliveryPolicy, required_verdict};
use crate::directory::{Snapshot, Validator, ValidatorDirectory};
use crate::guard::{Guard, GuardVerdict};
use crate::record::{Progress, SignalState, ValidatorRecord};
use crate::signal::{OrderUuid, Signal};
use crate::store::{
    Accepted, Filter, SignalStore, StoreChange, StoreError, StoreEvent, StoredSignal, UnixMs,
};
use crate::trade_pair::TradePairId;
use crate::transport::ValidatorTransport;

/// The time of day in milliseconds since 1970. Given from outside so that tests can drive it.
pub type Clock = Arc<dyn Fn() -> UnixMs + Send + Sync>;

/// How many finished signals tell what was sent lately: far more than a window has room for.
const LOOK_BACK: usize = 100;

/// Why an engine was not built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A part is missing.
    #[error("the engine needs a {0}: call EngineBuilder::{0}")]
    Missing(&'static str),
    /// A part of it panicked: a bug here, or in a store of one's own. Everything has stopped; what is
    /// unfinished is in the store, and a new engine continues with it.
    #[error(
        "a part of the engine panicked, which is a bug; nothing is sent any more, and what is unfinished continues with a new start"
    )]
    Panicked,
}

/// How one validator is doing.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ValidatorHealth {
    /// Its hotkey.
    pub hotkey: String,
    /// Its last known address.
    pub address: String,
    /// Signals waiting for it or on their way to it.
    pub queued: usize,
    /// Attempts since the start.
    pub attempts: u64,
    /// Attempts in a row without a usable answer.
    pub failures_in_row: u32,
    /// When it last answered.
    pub last_answer_at: Option<UnixMs>,
    /// Round trip of its last answer, in microseconds.
    pub round_trip_us: Option<u64>,
    /// Its clock minus ours in milliseconds, by its last answer that told the time.
    pub clock_ahead_ms: Option<i64>,
    /// When that was.
    pub clock_at: Option<UnixMs>,
    /// What went wrong last.
    pub last_error: String,
}

pub(super) struct Shared {
    pub(super) store: Arc<dyn SignalStore>,
    pub(super) transport: Arc<dyn ValidatorTransport>,
    pub(super) policy: DeliveryPolicy,
    pub(super) guard: Option<Guard>,
    pub(super) directory: watch::Receiver<Snapshot>,
    /// Whether the list can be behind the truth.
    pub(super) may_be_stale: bool,
    pub(super) clock: Clock,
    pub(super) started_at: UnixMs,
    acked: Mutex<BTreeSet<String>>,
    health: Mutex<BTreeMap<String, ValidatorHealth>>,
    /// What the store refuses, by what was asked of it.
    refused: Mutex<BTreeMap<&'static str, String>>,
    /// What earlier runs sent to each validator, the oldest first, until its courier asks.
    sent: Mutex<BTreeMap<String, Vec<Sent>>>,
}

/// Something that an earlier run sent.
pub(super) struct Sent {
    pub(super) record: ValidatorRecord,
    pub(super) pair: Option<TradePairId>,
}

impl Shared {
    pub(super) fn sent_before(&self, hotkey: &str) -> Vec<Sent> {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.remove(hotkey).unwrap_or_default()
    }

    /// Reads what was sent lately, so that the network's limits hold across restarts and from one
    /// owner to the next.
    pub(super) async fn look_back(&self) {
        if self.policy.pacing.is_none() {
            return;
        }
        let states = vec![SignalState::Processed, SignalState::Failed];
        let filter = Filter { states, limit: LOOK_BACK, ..Filter::default() };
        let list = match self.store.list(&filter).await {
            Ok(list) => list,
            Err(e) => {
                tracing::warn!(code = e.code(), "what was sent lately cannot be read: {e}");
                return;
            }
        };
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.clear();
        for stored in list {
            let pair = stored.signal.queue();
            for (hotkey, record) in stored.validators {
                sent.entry(hotkey).or_default().push(Sent { record, pair: pair.clone() });
            }
        }
        sent.values_mut().for_each(|list| list.sort_by_key(|sent| sent.record.at));
    }

    /// Notes whether the store does what is asked of it.
    pub(super) fn note_store(&self, asked: &'static str, error: Option<&StoreError>) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        match error {
            Some(e) => drop(refused.insert(asked, format!("{asked}: {e}"))),
            None if refused.is_empty() => {}
            None => drop(refused.remove(asked)),
        }
    }

    pub(super) fn now(&self) -> UnixMs {
        (self.clock)()
    }

    pub(super) fn validator(&self, hotkey: &str) -> Option<Validator> {
        self.directory.borrow().iter().find(|v| v.hotkey == hotkey).cloned()
    }

    pub(super) fn acked_before(&self, hotkey: &str) -> bool {
        self.acked.lock().unwrap_or_else(PoisonError::into_inner).contains(hotkey)
    }

    pub(super) fn note_ack(&self, hotkey: &str) {
        let mut acked = self.acked.lock().unwrap_or_else(PoisonError::into_inner);
        if !acked.contains(hotkey) {
            acked.insert(hotkey.to_owned());
        }
    }

    pub(super) fn health(&self, hotkey: &str, change: impl FnOnce(&mut ValidatorHealth)) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = match health.get_mut(hotkey) {
            Some(entry) => entry,
            None => health.entry(hotkey.to_owned()).or_insert_with(|| ValidatorHealth {
                hotkey: hotkey.to_owned(),
                ..ValidatorHealth::default()
            }),
        };
        change(entry);
    }
}

/// Puts an engine together.
#[derive(Default)]
#[must_use]
pub struct EngineBuilder {
    store: Option<Arc<dyn SignalStore>>,
    directory: Option<Arc<dyn ValidatorDirectory>>,
    transport: Option<Arc<dyn ValidatorTransport>>,
    policy: Option<DeliveryPolicy>,
    clock: Option<Clock>,
    guard: Option<Guard>,
    acked: BTreeSet<String>,
}

impl fmt::Debug for EngineBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineBuilder").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl EngineBuilder {
    /// Where signals are kept.
    pub fn store(mut self, store: Arc<dyn SignalStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// Who the validators are.
    pub fn directory(mut self, directory: Arc<dyn ValidatorDirectory>) -> Self {
        self.directory = Some(directory);
        self
    }

    /// How they are reached.
    pub fn transport(mut self, transport: Arc<dyn ValidatorTransport>) -> Self {
        self.transport = Some(transport);
        self
    }

    /// How signals are delivered.
    pub fn policy(mut self, policy: DeliveryPolicy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// The time of day; the system's by default.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// What judges signals before they are accepted, and files of others before they are sent. The
    /// engine keeps it informed.
    pub fn guard(mut self, guard: Guard) -> Self {
        self.guard = Some(guard);
        self
    }

    /// Validators that acknowledged something in an earlier run: they are retried even without
    /// trust.
    pub fn acknowledged_before(mut self, hotkeys: impl IntoIterator<Item = String>) -> Self {
        self.acked.extend(hotkeys);
        self
    }

    /// Starts delivering, on the current tokio runtime.
    ///
    /// # Errors
    /// When a part is missing.
    pub fn start(self) -> Result<Engine, EngineError> {
        let directory = self.directory.ok_or(EngineError::Missing("directory"))?;
        let clock = self
            .clock
            .unwrap_or_else(|| Arc::new(|| jiff::Timestamp::now().as_millisecond()) as Clock);
        let shared = Arc::new(Shared {
            store: self.store.ok_or(EngineError::Missing("store"))?,
            transport: self.transport.ok_or(EngineError::Missing("transport"))?,
            policy: self.policy.ok_or(EngineError::Missing("policy"))?,
            guard: self.guard,
            directory: directory.watch(),
            may_be_stale: directory.may_be_stale(),
            started_at: clock(),
            clock,
            acked: Mutex::new(self.acked),
            health: Mutex::default(),
            refused: Mutex::default(),
            sent: Mutex::default(),
        });
        let ends = Ends::default();
        let dispatcher = Dispatcher::new(Arc::clone(&shared), ends.clone());
        let task = tokio::spawn(ends.clone().guarded(dispatcher.run(directory)));
        Ok(Engine { shared, ends, task: Mutex::new(Some(task)) })
    }
}

/// How an engine ends.
#[derive(Clone, Default)]
pub(super) struct Ends {
    /// In good order.
    pub(super) stop: CancellationToken,
    /// At once.
    pub(super) kill: CancellationToken,
    /// Because a part panicked.
    panicked: CancellationToken,
}

impl Ends {
    /// Runs a part. When it panics everything ends at once: nobody knows how far it got, but the
    /// store does, and a new engine continues from there as after a crash.
    pub(super) async fn guarded(self, part: impl Future<Output = ()>) {
        if AssertUnwindSafe(part).catch_unwind().await.is_err() {
            tracing::error!("{}", EngineError::Panicked);
            self.panicked.cancel();
            self.stop.cancel();
            self.kill.cancel();
        }
    }
}

/// A running engine. Dropping it stops delivery; what is unfinished stays in the store.
pub struct Engine {
    shared: Arc<Shared>,
    ends: Ends,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("policy", &self.shared.policy).finish_non_exhaustive()
    }
}

impl Engine {
    /// Starts to put one together.
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }

    /// Accepts a signal: when this returns it is safe, and on its way.
    ///
    /// # Errors
    /// When the store or the risk guard refuses it; then nothing was stored and nothing will be
    /// sent.
    pub async fn submit(&self, signal: &Signal) -> Result<Receipt, SubmitError> {
        let (accepted, verdict) = match &self.shared.guard {
            None => (self.shared.store.accept(signal).await?, None),
            Some(guard) => {
                let now = self.shared.now();
                let accepted = accept_guarded(self.shared.store.as_ref(), guard, signal, now);
                let (accepted, verdict) = accepted.await?;
                (accepted, Some(verdict))
            }
        };
        let store = Arc::clone(&self.shared.store);
        Ok(Receipt { id: signal.id().clone(), accepted, verdict, store })
    }

    /// The risk guard, when there is one.
    pub fn guard(&self) -> Option<&Guard> {
        self.shared.guard.as_ref()
    }

    /// What happens to the signals of this store. See [`SignalStore::events`].
    pub fn events(&self) -> broadcast::Receiver<StoreEvent> {
        self.shared.store.events()
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn SignalStore> {
        &self.shared.store
    }

    /// Why nothing is delivered now although the validators could be reached: what the store refuses.
    pub fn held_up(&self) -> Option<String> {
        let refused = self.shared.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let texts: Vec<_> = refused.values().map(String::as_str).collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    }

    /// How the validators are doing.
    pub fn health(&self) -> Vec<ValidatorHealth> {
        let health = self.shared.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.values().cloned().collect()
    }

    /// Waits until the engine has ended by itself, which only a panic in one of its parts brings about.
    /// Whoever embeds it starts a new one, on a store that was opened anew. Cancel-safe.
    pub async fn failed(&self) -> EngineError {
        self.ends.panicked.cancelled().await;
        EngineError::Panicked
    }

    /// Stops: nothing new is started, attempts under way get until `grace` to end, and what is
    /// unfinished stays in the store for the next start.
    pub async fn shutdown(&self, grace: Duration) {
        self.ends.stop.cancel();
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut task) = task
            && tokio::time::timeout(grace, &mut task).await.is_err()
        {
            self.ends.kill.cancel();
            // The task ends at once now; its result says nothing more.
            task.await.ok();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.ends.stop.cancel();
        self.ends.kill.cancel();
    }
}

/// What `submit` returns: the signal is safe; this tells what became of it.
#[derive(Clone)]
pub struct Receipt {
    id: OrderUuid,
    accepted: Accepted,
    verdict: Option<GuardVerdict>,
    store: Arc<dyn SignalStore>,
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipt").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Receipt {
    /// The signal's id.
    pub fn id(&self) -> &OrderUuid {
        &self.id
    }

    /// Whether it was new.
    pub fn accepted(&self) -> &Accepted {
        &self.accepted
    }

    /// What the risk guard thinks of it; nothing without one.
    pub fn verdict(&self) -> Option<&GuardVerdict> {
        self.verdict.as_ref()
    }

    /// Waits until everyone who must acknowledge the signal has decided; copies may still be on
    /// their way. Cancel-safe.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn outcome(&self) -> Result<StoredSignal, StoreError> {
        let decides = |change: &StoreChange| match change {
            StoreChange::Progress { progress: Progress::Outcome { validator } } => {
                validator.required && validator.state.is_final()
            }
            StoreChange::Finished { .. } => true,
            _ => false,
        };
        self.wait(decides, |s| required_verdict(s.validators.values()).is_some()).await
    }

    /// Waits until every validator is decided and the signal is processed or failed. Cancel-safe.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn finished(&self) -> Result<StoredSignal, StoreError> {
        self.wait(|change| matches!(change, StoreChange::Finished { .. }), |_| false).await
    }

    /// Looks at the signal, which is a whole copy, only after an event that may decide it.
    async fn wait(
        &self,
        decides: impl Fn(&StoreChange) -> bool,
        early: impl Fn(&StoredSignal) -> bool,
    ) -> Result<StoredSignal, StoreError> {
        let mut events = self.store.events();
        loop {
            match self.store.get(&self.id).await? {
                Some(stored) if stored.state != SignalState::Pending || early(&stored) => {
                    return Ok(stored);
                }
                Some(_) => {}
                None => return Err(StoreError::NotFound { id: self.id.clone() }),
            }
            // A hint can be missed, so look again anyway after a while.
            let news = async {
                loop {
                    match events.recv().await {
                        Ok(event) if event.id == self.id && decides(&event.change) => return,
                        Ok(_) => {}
                        Err(broadcast::error::RecvError::Lagged(_)) => return,
                        Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
                    }
                }
            };
            drop(tokio::time::timeout(Duration::from_millis(500), news).await);
        }
    }
}
