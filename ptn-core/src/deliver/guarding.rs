//! Keeps a guard informed: what was acknowledged before, and what happens from now on.
//!
//! The store is the only source, so a server in a process of its own learns of acknowledgements as
//! the miner does. What was missed is read again. Judging is left to [`crate::guard`].

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::engine::{Clock, Shared};
use crate::error::ErrorClass;
use crate::guard::{Guard, GuardVerdict, REFUSED, UnderWay};
use crate::record::{DeliveryState, Progress, SignalState, ValidatorRecord};
use crate::signal::{OrderUuid, Signal};
use crate::store::{
    Accepted, Filter, SignalStore, StoreChange, StoreError, StoreEvent, StoredSignal, UnixMs,
};
use crate::trade_pair::TradePairId;

/// How many finished signals are asked for first; four times as many each time until it is enough.
const FIRST_LOOK: usize = 256;
/// Older signals than these many are not looked at.
const MOST_READ: usize = 200_000;
/// How often the account is looked at, also when nothing happens.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long delivery waits for the guard to read its history.
const PATIENCE: Duration = Duration::from_secs(10);
/// Two processes' clocks may differ by this much, and answers come in no order.
const OVERLAP_MS: UnixMs = 10 * 60 * 1000;

/// Why a signal was not accepted. Nothing was stored, and nothing will be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The store refused it or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The risk guard: validators would refuse it.
    #[error("{id} was refused by the risk guard: {}", verdict.words())]
    Guard {
        /// The signal.
        id: OrderUuid,
        /// What speaks against it, and what to do.
        verdict: Box<GuardVerdict>,
    },
}

impl SubmitError {
    /// Stable machine-readable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Store(e) => e.code(),
            Self::Guard { .. } => REFUSED,
        }
    }

    /// What kind of problem it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Store(e) => e.class(),
            Self::Guard { .. } => ErrorClass::Rejected,
        }
    }
}

impl Shared {
    /// Judges a signal that nobody judged when it was handed in: a file of others, or one that
    /// another process accepted. One that somebody made deliverable again has records, and is not
    /// judged.
    pub(super) fn deny_what_the_guard_refuses(
        &self,
        signal: &Signal,
        now: UnixMs,
        targets: &mut [ValidatorRecord],
    ) {
        let Some(guard) = &self.guard else { return };
        if guard.was_judged(signal.id()) {
            return;
        }
        let verdict = guard.judge(signal, now);
        let blocked = verdict.blocks(guard.mode());
        guard.note(signal, &verdict, blocked, now);
        if blocked {
            let words = verdict.words();
            for target in targets {
                target.state = DeliveryState::Denied;
                REFUSED.clone_into(&mut target.code);
                target.message = format!(
                    "refused by the risk guard: {words}; ptn-cli signals retry {} sends it nevertheless",
                    signal.id()
                );
            }
        }
    }

    /// Lets the guard catch up, for a while: delivery does not wait for it for ever.
    pub(super) async fn inform_guard(&self, stop: CancellationToken) {
        let Some(guard) = self.guard.clone() else { return };
        let (ready_tx, ready) = oneshot::channel();
        let (store, clock) = (Arc::clone(&self.store), Arc::clone(&self.clock));
        tokio::spawn(follow(store, guard, clock, stop, ready_tx));
        if tokio::time::timeout(PATIENCE, ready).await.is_err() {
            tracing::warn!(
                "reading the history for the risk guard takes long; it judges less until that is done"
            );
        }
    }
}

/// Tells a guard everything that the store knows of earlier, once. What cannot be read is logged,
/// and the guard then knows less.
pub async fn inform_guard(store: &dyn SignalStore, guard: &Guard) {
    let known_until = guard.knows_until();
    let states = vec![SignalState::Processed, SignalState::Failed];
    let mut limit = FIRST_LOOK;
    let finished = loop {
        let filter = Filter { states: states.clone(), limit, ..Filter::default() };
        let list = match store.list(&filter).await {
            Ok(list) => list,
            Err(e) => {
                tracing::warn!(
                    code = e.code(),
                    "the risk guard does not know what was sent before: {e}"
                );
                return;
            }
        };
        let reaches_back = known_until.is_some_and(|until| {
            list.last().is_some_and(|oldest| {
                oldest.finished_at.unwrap_or(oldest.accepted_at) < until - OVERLAP_MS
            })
        });
        if list.len() < limit || reaches_back || limit >= MOST_READ {
            break list;
        }
        limit = limit.saturating_mul(4).min(MOST_READ);
    };
    let pending =
        Filter { states: vec![SignalState::Pending], limit: MOST_READ, ..Filter::default() };
    let pending = match store.list(&pending).await {
        Ok(list) => list,
        Err(e) => {
            tracing::warn!(code = e.code(), "the risk guard does not know what waits: {e}");
            Vec::new()
        }
    };
    guard.none_under_way();
    for stored in &pending {
        if first_word(stored).is_none() {
            guard.under_way(stored.signal.id(), &(&stored.signal).into());
        }
    }
    let taken = finished.iter().chain(&pending).filter_map(|stored| {
        first_word(stored)
            .filter(|record| told_about(record))
            .filter(|record| known_until.is_none_or(|until| record.at >= until - OVERLAP_MS))
            .map(|record| (record, stored))
    });
    let mut taken: Vec<_> = taken.collect();
    taken.sort_by_key(|(record, stored)| (record.at, stored.seq));
    for (record, stored) in taken {
        tell_outcome(guard, &stored.signal, record);
    }
    guard.ready();
}

/// Whether a record changes what the guard knows.
fn told_about(record: &ValidatorRecord) -> bool {
    record.required && matches!(record.state, DeliveryState::Accepted | DeliveryState::Unknown)
}

/// Tells the guard what one who must acknowledge a signal did with it.
pub(super) fn tell_outcome(guard: &Guard, signal: &Signal, record: &ValidatorRecord) {
    match record.state {
        DeliveryState::Accepted if record.required => guard.acknowledged(signal, record),
        DeliveryState::Unknown if record.required => guard.doubtful(signal, record),
        _ => {}
    }
}

/// What the first of those who must acknowledge a signal decided: an acknowledgement before
/// everything else.
fn first_word(stored: &StoredSignal) -> Option<&ValidatorRecord> {
    let required = || stored.validators.values().filter(|v| v.required && v.state.is_final());
    let accepted = required().filter(|v| v.state == DeliveryState::Accepted);
    accepted.min_by_key(|v| v.at).or_else(|| required().min_by_key(|v| v.at))
}

/// Accepts a signal unless the guard refuses it. What the store has already is not refused: it was
/// judged when it came first, and the same answer is due.
///
/// # Errors
/// When the store or the guard refuses it; then nothing was stored.
pub async fn accept_guarded(
    store: &dyn SignalStore,
    guard: &Guard,
    signal: &Signal,
    now: UnixMs,
) -> Result<(Accepted, GuardVerdict), SubmitError> {
    let id = signal.id();
    // What is known of it already stays known, whatever becomes of this repetition.
    let known = guard.was_judged(id);
    let mut undecided = Undecided { guard, id, over: known };
    let mut verdict = guard.judge(signal, now);
    if verdict.blocks(guard.mode()) {
        if store.get(id).await?.is_none() {
            guard.note(signal, &verdict, true, now);
            undecided.over = true;
            return Err(SubmitError::Guard { id: id.clone(), verdict: Box::new(verdict) });
        }
        verdict = GuardVerdict::default();
    }
    let accepted = store.accept(signal).await;
    undecided.over = true;
    match accepted {
        Ok(Accepted::Same { state }) => {
            if state != SignalState::Pending {
                guard.forget(id);
            }
            Ok((Accepted::Same { state }, GuardVerdict::default()))
        }
        Ok(new) => {
            guard.note(signal, &verdict, false, now);
            Ok((new, verdict))
        }
        Err(e) => {
            // The id of a conflict belongs to another signal, which may be under way.
            if !known && !matches!(e, StoreError::Conflict { .. }) {
                guard.forget(id);
            }
            Err(e.into())
        }
    }
}

/// A signal between its verdict and the store's word. When the caller goes away in between, it does
/// not count as under way; should the store have taken it, its events say so.
struct Undecided<'a> {
    guard: &'a Guard,
    id: &'a OrderUuid,
    over: bool,
}

impl Drop for Undecided<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.guard.forget(self.id);
        }
    }
}

/// Keeps a guard informed until `stop`. Begins with [`inform_guard`].
pub async fn follow_for_guard(
    store: Arc<dyn SignalStore>,
    guard: Guard,
    clock: Clock,
    stop: CancellationToken,
) {
    let (ready, _) = oneshot::channel();
    follow(store, guard, clock, stop, ready).await;
}

/// As [`follow_for_guard`]; says when the history was read.
pub(super) async fn follow(
    store: Arc<dyn SignalStore>,
    guard: Guard,
    clock: Clock,
    stop: CancellationToken,
    ready: oneshot::Sender<()>,
) {
    let mut events = store.events();
    tokio::select! {
        () = stop.cancelled() => return,
        () = inform_guard(store.as_ref(), &guard) => {}
    }
    // An error only says that nobody waits for it.
    ready.send(()).ok();
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            event = events.recv() => match event {
                Ok(event) => tell(store.as_ref(), &guard, event).await,
                Err(RecvError::Lagged(_)) => inform_guard(store.as_ref(), &guard).await,
                Err(RecvError::Closed) => return,
            },
            _ = look.tick() => {
                let now = clock();
                let alert = guard.standing(now).alert;
                let code = alert.as_ref().map(|alert| alert.code.clone());
                if let Some(alert) = alert.filter(|_| code != told) {
                    guard.alert(alert, now);
                }
                told = code;
            }
        }
    }
}

async fn tell(store: &dyn SignalStore, guard: &Guard, event: StoreEvent) {
    let id = event.id;
    match event.change {
        StoreChange::Accepted { trade_pair, execution_type, order_type, .. } => {
            let pair = trade_pair.map(TradePairId::from);
            guard.under_way(&id, &UnderWay::new(pair, execution_type, order_type));
        }
        StoreChange::Progress { progress: Progress::Outcome { validator } }
            if told_about(&validator) && !guard.knows(&id) =>
        {
            if let Some(stored) = read(store, &id).await {
                tell_outcome(guard, &stored.signal, &validator);
            }
        }
        StoreChange::RetryRequested => {
            if let Some(stored) = read(store, &id).await {
                guard.under_way(&id, &(&stored.signal).into());
            }
        }
        StoreChange::Finished { .. } => guard.forget(&id),
        _ => {}
    }
}

async fn read(store: &dyn SignalStore, id: &OrderUuid) -> Option<StoredSignal> {
    match store.get(id).await {
        Ok(stored) => stored,
        Err(e) => {
            tracing::warn!(uuid = %id, code = e.code(), "the risk guard missed an order: {e}");
            None
        }
    }
}
