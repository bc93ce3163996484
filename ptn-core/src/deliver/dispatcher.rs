//! The dispatcher: claims signals, decides and notes whom each goes to, hands it to the couriers, and
//! ends it when all of them are done. What happens at one validator is left to [`super::courier`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use backon::Retryable as _;
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::active::{Active, Age, Gone, Word, Words, Written, store_backoff};
use super::courier::{Command, Courier};
use super::engine::{Ends, Shared};
use crate::directory::ValidatorDirectory;
use crate::record::{DeliveryReport, Progress, SignalState};
use crate::signal::OrderUuid;
use crate::store::{Hold, Lease, StoreChange, StoreError, StoreEvent, Tenure};

/// How many signals are claimed at a time, and how many may be in delivery at once.
const CLAIM: usize = 256;
const MOST_ACTIVE: usize = 100_000;
/// How many decisions about targets may be on their way to the store at once.
const MOST_RECORDING: usize = 1024;

pub(super) struct Dispatcher {
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
    pub(super) fn new(shared: Arc<Shared>, ends: Ends) -> Self {
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
    pub(super) async fn run(mut self, _directory: Arc<dyn ValidatorDirectory>) {
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
                // No room; but a store that has to look for cancellations does so when it is asked.
                drop(self.shared.store.claim(0).await);
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
