//! `Engine`: claims signals, hands them to the couriers, ends them. Start, submit, stop.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backon::Retryable as _;
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use serde::Serialize;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::active::{Active, Age, Gone, Word, Words, Written, store_backoff};
use super::courier::{Command, Courier};
use super::guarding::{SubmitError, accept_guarded};
use super::policy::{DeliveryPolicy, required_verdict};
use crate::directory::{Snapshot, Validator, ValidatorDirectory};
use crate::guard::{Guard, GuardVerdict};
use crate::record::{DeliveryReport, Progress, SignalState, ValidatorRecord};
use crate::signal::{OrderUuid, Signal};
use crate::store::{
    Accepted, Filter, Hold, Lease, SignalStore, StoreChange, StoreError, StoreEvent, StoredSignal,
    Tenure, UnixMs,
};
use crate::trade_pair::TradePairId;
use crate::transport::ValidatorTransport;

/// The time of day in milliseconds since 1970. Given from outside so that tests can drive it.
pub type Clock = Arc<dyn Fn() -> UnixMs + Send + Sync>;

/// How many signals are claimed at a time, and how many may be in delivery at once.
const CLAIM: usize = 256;
const MOST_ACTIVE: usize = 100_000;
/// How many decisions about targets may be on their way to the store at once.
const MOST_RECORDING: usize = 1024;

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
    directory: watch::Receiver<Snapshot>,
    /// Whether the list can be behind the truth.
    pub(super) may_be_stale: bool,
    pub(super) clock: Clock,
    started_at: UnixMs,
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
    async fn look_back(&self) {
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
struct Ends {
    /// In good order.
    stop: CancellationToken,
    /// At once.
    kill: CancellationToken,
    /// Because a part panicked.
    panicked: CancellationToken,
}

impl Ends {
    /// Runs a part. When it panics everything ends at once: nobody knows how far it got, but the
    /// store does, and a new engine continues from there as after a crash.
    async fn guarded(self, part: impl Future<Output = ()>) {
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

struct Dispatcher {
    shared: Arc<Shared>,
    ends: Ends,
    couriers: BTreeMap<String, mpsc::UnboundedSender<Command>>,
    tasks: TaskTracker,
    active: BTreeMap<OrderUuid, Arc<Active>>,
    settled_tx: mpsc::UnboundedSender<Arc<Active>>,
    settled: mpsc::UnboundedReceiver<Arc<Active>>,
    recording: FuturesUnordered<Written>,
    /// The last of them in each row.
    words: Words,
    /// Taken up, so that they age by a clock that cannot be set, while no list of validators is known.
    undecided: VecDeque<(Lease, Age)>,
    /// Whose events may have been missed.
    unlooked: BTreeSet<OrderUuid>,
    finishing: FuturesUnordered<BoxFuture<'static, Arc<Active>>>,
    /// Under which we deliver.
    tenure: Tenure,
}

impl Dispatcher {
    fn new(shared: Arc<Shared>, ends: Ends) -> Self {
        let (settled_tx, settled) = mpsc::unbounded_channel();
        Self {
            shared,
            ends,
            couriers: BTreeMap::new(),
            tasks: TaskTracker::new(),
            active: BTreeMap::new(),
            settled_tx,
            settled,
            recording: FuturesUnordered::new(),
            words: Words::default(),
            undecided: VecDeque::new(),
            unlooked: BTreeSet::new(),
            finishing: FuturesUnordered::new(),
            tenure: Tenure::default(),
        }
    }

    /// The directory is kept alive here: its sender must outlive the receiver.
    async fn run(mut self, _directory: Arc<dyn ValidatorDirectory>) {
        let mut changes = self.shared.store.watch();
        let mut events = self.shared.store.events();
        let mut poll = tokio::time::interval(Duration::from_secs(1));
        poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut listed = self.shared.directory.clone();
        self.tenure = self.shared.store.tenure();
        self.shared.look_back().await;
        self.shared.inform_guard(self.ends.stop.clone()).await;
        self.warm_couriers();
        loop {
            self.give_up_lost();
            self.look().await;
            self.claim().await;
            tokio::select! {
                biased;
                () = self.ends.stop.cancelled() => break,
                Some(active) = self.finishing.next() => self.forget(&active),
                Some(_) = self.recording.next() => {}
                Some(active) = self.settled.recv() => self.finish(active),
                event = events.recv() => self.heard(event),
                Ok(()) = changes.changed() => {}
                Ok(()) = listed.changed() => { self.warm_couriers(); self.wake(); }
                _ = poll.tick() => {}
            }
        }
        self.wind_down().await;
    }

    /// After the stop: couriers end their attempts; what was settled is still finished.
    async fn wind_down(mut self) {
        let kill = self.ends.kill.clone();
        self.couriers.clear();
        self.tasks.close();
        let tasks = self.tasks.clone();
        let ended = async {
            let mut done = std::pin::pin!(tasks.wait());
            let mut couriers_done = false;
            loop {
                tokio::select! {
                    biased;
                    () = &mut done, if !couriers_done => couriers_done = true,
                    Some(active) = self.settled.recv(), if !couriers_done => self.finish(active),
                    Some(active) = self.finishing.next() => self.forget(&active),
                    Some(_) = self.recording.next() => {}
                    else => break,
                }
                while couriers_done && let Ok(active) = self.settled.try_recv() {
                    self.finish(active);
                }
            }
        };
        tokio::select! {
            biased;
            () = ended => {}
            () = kill.cancelled() => {}
        }
    }

    async fn claim(&mut self) {
        // Who gets a signal is decided once, so not before it can be known.
        let known = self.shared.directory.borrow().is_known();
        loop {
            // What is not written down yet is heavy, so a long queue is taken up in pieces.
            while known
                && self.recording.len() < MOST_RECORDING
                && let Some((lease, age)) = self.undecided.pop_front()
            {
                self.dispatch(lease, age);
            }
            if self.undecided.len() >= MOST_RECORDING
                || self.recording.len() >= MOST_RECORDING
                || self.active.len() >= MOST_ACTIVE
                || self.ends.stop.is_cancelled()
            {
                return;
            }
            let claimed = self.shared.store.claim(CLAIM).await;
            self.shared.note_store("no signals can be claimed", claimed.as_ref().err());
            match claimed {
                Ok(leases) if leases.is_empty() => return,
                Ok(leases) => {
                    self.follow_tenure().await;
                    let now = self.shared.now();
                    self.undecided.extend(leases.into_iter().map(|lease| {
                        let age = Age::new(lease.stored.accepted_at, now);
                        (lease, age)
                    }));
                }
                Err(e) => {
                    tracing::error!(code = e.code(), "no signals can be claimed: {e}");
                    return;
                }
            }
        }
    }

    /// Others may have delivered in between: what this process knew of its validators' limits is
    /// out of date, and the couriers' queues are somebody else's. What they still do ends by itself.
    async fn follow_tenure(&mut self) {
        let tenure = self.shared.store.tenure();
        if tenure.number != self.tenure.number {
            self.couriers.clear();
            self.active.clear();
            self.undecided.clear();
            self.words = Words::default();
            self.shared.look_back().await;
            self.warm_couriers();
        }
        self.tenure = tenure;
    }

    /// Drops what another owner continues with.
    fn give_up_lost(&mut self) {
        let lost = |lease: &Lease| self.shared.store.hold(lease) == Hold::Lost;
        if self.undecided.front().is_some_and(|(lease, _)| lost(lease)) {
            self.undecided.retain(|(lease, _)| !lost(lease));
        }
        if self.active.values().next().is_some_and(|active| lost(&active.lease)) {
            self.active.retain(|_, active| !lost(&active.lease));
            if self.active.is_empty() {
                self.couriers.clear();
                self.warm_couriers();
            }
        }
    }

    fn forget(&mut self, active: &Arc<Active>) {
        // It may be in delivery again already.
        if self.active.get(active.id()).is_some_and(|known| Arc::ptr_eq(known, active)) {
            self.active.remove(active.id());
        }
    }

    fn dispatch(&mut self, mut lease: Lease, age: Age) {
        let shared = Arc::clone(&self.shared);
        let now = shared.now();
        // From here on the records live in one place only.
        let mut records = std::mem::take(&mut lease.stored.validators);
        let stored = &lease.stored;
        let resumed = !records.is_empty()
            || stored.accepted_at < shared.started_at
            || self.tenure.may_be_known(stored);
        let mut targets = None;
        if records.is_empty() {
            let mut decided = shared.policy.targets(&shared.directory.borrow(), now);
            shared.deny_what_the_guard_refuses(&stored.signal, now, &mut decided);
            records.extend(decided.iter().map(|r| (r.hotkey.clone(), r.clone())));
            targets = (!decided.is_empty()).then_some(Progress::Targets { validators: decided });
        }
        let open: Vec<_> = records.values().filter(|r| !r.state.is_final()).cloned().collect();
        let max_age = shared.policy.max_age_of(&stored.signal);
        let active = Arc::new(Active::new(lease, records, resumed, age, max_age));
        let id = active.id().clone();
        tracing::debug!(uuid = %id, validators = open.len(), resumed, "in delivery");
        self.active.insert(id, Arc::clone(&active));
        if let Some(targets) = targets {
            // Started here, so that it stands before everything that the couriers record.
            let known = CancellationToken::new();
            let mut write = self.write_down(&active, targets, known.clone()).shared();
            // Taken before the first poll: of one that is done there is no copy.
            active.targets_go_with(write.clone());
            let first = std::pin::Pin::new(&mut write)
                .poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
            if first.is_pending() {
                self.words.add(active.pair.clone(), known);
                self.recording.push(write);
            }
        }
        if open.is_empty() {
            self.finish(active);
            return;
        }
        for record in open {
            let courier = self.courier(&record.hotkey);
            // A courier ends only after the dispatcher.
            courier.send(Command::Deliver(Arc::clone(&active), Box::new(record))).ok();
        }
    }

    /// Writes down whom a signal goes to, however long that takes, and waits for those before it.
    fn write_down(
        &self,
        active: &Arc<Active>,
        targets: Progress,
        known: CancellationToken,
    ) -> BoxFuture<'static, Word> {
        let (shared, lease) = (Arc::clone(&self.shared), active.lease.clone());
        let before = self.words.before(active.pair.as_ref());
        let active = Arc::downgrade(active);
        let known = known.drop_guard();
        Box::pin(async move {
            let _known = known;
            let word = match shared.store.record(&lease, targets).await {
                Ok(()) => Word::Taken,
                Err(e) => {
                    let id = lease.stored.signal.id();
                    tracing::warn!(uuid = %id, code = e.code(), "its validators were not recorded: {e}");
                    let again = active.upgrade().map(|active| active.records());
                    let written = match again {
                        Some(validators) => {
                            shared.persist(&lease, Progress::Targets { validators }).await
                        }
                        None => Err(Gone),
                    };
                    written.map_or(Word::Gone, |()| Word::TakenLate)
                }
            };
            for known in before {
                known.cancelled().await;
            }
            word
        })
    }

    fn courier(&mut self, hotkey: &str) -> &mpsc::UnboundedSender<Command> {
        let (shared, ends) = (&self.shared, &self.ends);
        let (tasks, settled) = (&self.tasks, &self.settled_tx);
        self.couriers.entry(hotkey.to_owned()).or_insert_with(|| {
            let (tx, rx) = mpsc::unbounded_channel();
            let (stop, kill) = (ends.stop.clone(), ends.kill.clone());
            let courier =
                Courier::new(hotkey.to_owned(), Arc::clone(shared), stop, settled.clone());
            tasks.spawn(ends.clone().guarded(async move {
                tokio::select! {
                    () = courier.run(rx) => {}
                    () = kill.cancelled() => {}
                }
            }));
            tx
        })
    }

    /// A courier for every validator that will get signals, so that its connection is warm.
    fn warm_couriers(&mut self) {
        if self.shared.policy.warm_every.is_some() {
            let now = self.shared.now();
            let snapshot = self.shared.directory.borrow().clone();
            for target in self.shared.policy.targets(&snapshot, now) {
                self.courier(&target.hotkey);
            }
        }
    }

    fn wake(&self) {
        for courier in self.couriers.values() {
            courier.send(Command::Wake).ok();
        }
    }

    /// A cancellation, or events that were missed and may have been some.
    fn heard(&mut self, event: Result<StoreEvent, broadcast::error::RecvError>) {
        match event {
            Ok(StoreEvent { id, change: StoreChange::CancelRequested, .. }) => self.cancel(&id),
            Ok(_) => {}
            Err(_) => {
                let undecided = self.undecided.iter().map(|(lease, _)| lease.stored.signal.id());
                self.unlooked = self.active.keys().chain(undecided).cloned().collect();
            }
        }
    }

    /// Looks whether signals were cancelled whose events were missed, some at a time, until the store has
    /// answered for each.
    async fn look(&mut self) {
        for _ in 0..CLAIM {
            let Some(id) = self.unlooked.first().cloned() else { return };
            match self.shared.store.get(&id).await {
                Ok(Some(stored)) if stored.cancel_requested => self.cancel(&id),
                Ok(_) => {}
                // Again at the next turn.
                Err(_) => return,
            }
            self.unlooked.remove(&id);
        }
    }

    fn cancel(&mut self, id: &OrderUuid) {
        if let Some(active) = self.active.get(id) {
            active.cancelled.store(true, Ordering::Release);
            self.wake();
        }
        for (lease, _) in &mut self.undecided {
            lease.stored.cancel_requested |= lease.stored.signal.id() == id;
        }
    }

    fn finish(&self, active: Arc<Active>) {
        let shared = Arc::clone(&self.shared);
        self.finishing.push(Box::pin(async move {
            let id = active.id();
            let validators = active.records();
            let (state, reason) = shared.policy.judge(&validators);
            let report = DeliveryReport { state, reason, validators, finished_at: shared.now() };
            let ended = (|| shared.store.finish(&active.lease, &report))
                .retry(store_backoff())
                .when(|e| {
                    !matches!(e, StoreError::LeaseLost { .. } | StoreError::WrongState { .. })
                })
                .notify(|e, _| {
                    shared.note_store("ends cannot be recorded", Some(e));
                    tracing::error!(
                        uuid = %id, code = e.code(), "its end cannot be recorded yet: {e}"
                    );
                });
            let ended = ended.await;
            shared.note_store("ends cannot be recorded", None);
            if let Err(e) = ended {
                tracing::warn!(uuid = %id, code = e.code(), "not finished by us: {e}");
                return active;
            }
            match state {
                SignalState::Processed => tracing::info!(uuid = %id, "processed"),
                _ => tracing::warn!(uuid = %id, "failed: {}", report.reason),
            }
            active
        }));
    }
}
