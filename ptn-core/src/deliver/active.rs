//! One signal in delivery: what its couriers share, and the writing down of what they learn.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use futures_util::future::{BoxFuture, Shared as SharedFuture};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::engine::Shared;
use super::policy::DeliveryPolicy;
use crate::record::{Progress, ValidatorRecord};
use crate::signal::OrderUuid;
use crate::store::{Lease, StoreError, UnixMs};
use crate::trade_pair::TradePairId;
use crate::transport::OutboundOrder;

/// How old a signal is. Within a run by a clock that cannot be set, so that a corrected wall clock
/// neither expires what is fresh nor keeps alive what is old; across runs by the wall clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Age {
    taken_up: Instant,
    then: Duration,
}

impl Age {
    /// Of a signal that is taken up now. Never negative, whatever the wall clock says.
    pub(super) fn new(accepted_at: UnixMs, clock: UnixMs) -> Self {
        let ms = u64::try_from(clock.saturating_sub(accepted_at)).unwrap_or(0);
        Self { taken_up: Instant::now(), then: Duration::from_millis(ms) }
    }

    fn at(&self, now: Instant) -> Duration {
        self.then.saturating_add(now.saturating_duration_since(self.taken_up))
    }
}

/// What became of the word of whom a signal goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// The store took it at once.
    Taken,
    /// It refused it first: what was recorded of its validators in between fell on nothing.
    TakenLate,
    /// The signal is not ours any more.
    Gone,
}

/// The writing down of whom a signal goes to. Ready when it is known, and of those before it in its row.
pub(super) type Written = SharedFuture<BoxFuture<'static, Word>>;

/// Cancelled when the last [`Written`] of a trade pair, and of what touches all of them, is ready. No
/// chain of futures: a long one, polled from its end, would not fit on a stack.
#[derive(Debug, Default)]
pub(super) struct Words {
    of_all: Option<CancellationToken>,
    of_pair: BTreeMap<TradePairId, CancellationToken>,
}

impl Words {
    /// What a signal stands behind.
    pub(super) fn before(&self, pair: Option<&TradePairId>) -> Vec<CancellationToken> {
        let rows: Vec<_> = match pair {
            Some(pair) => self.of_pair.get(pair).into_iter().collect(),
            None => self.of_pair.values().collect(),
        };
        rows.into_iter().chain(&self.of_all).cloned().collect()
    }

    /// Another one, behind [`Words::before`].
    pub(super) fn add(&mut self, pair: Option<TradePairId>, written: CancellationToken) {
        match pair {
            Some(pair) => drop(self.of_pair.insert(pair, written)),
            None => {
                self.of_pair.clear();
                self.of_all = Some(written);
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Active {
    pub(super) lease: Lease,
    order: OnceLock<OutboundOrder>,
    pub(super) pair: Option<TradePairId>,
    pub(super) reduces: bool,
    may_repeat: bool,
    age: Age,
    max_age: Option<Duration>,
    /// An earlier run may have sent it without a word in the store.
    pub(super) resumed: bool,
    pub(super) cancelled: AtomicBool,
    /// Sorted by hotkey. A list, because a map's nodes are big and long queues are possible.
    records: Mutex<Vec<ValidatorRecord>>,
    /// Validators that are not decided yet.
    open: AtomicUsize,
    /// The writing down of the validators, if they were decided by this run.
    targets: OnceLock<Written>,
}

impl Active {
    pub(super) fn new(
        lease: Lease,
        records: BTreeMap<String, ValidatorRecord>,
        resumed: bool,
        age: Age,
        max_age: Option<Duration>,
    ) -> Self {
        let signal = &lease.stored.signal;
        let records: Vec<_> = records.into_values().collect();
        Self {
            order: OnceLock::new(),
            pair: signal.queue(),
            reduces: signal.only_reduces(),
            may_repeat: signal.may_repeat(),
            age,
            max_age,
            resumed,
            cancelled: AtomicBool::new(lease.stored.cancel_requested),
            open: AtomicUsize::new(records.iter().filter(|r| !r.state.is_final()).count()),
            records: Mutex::new(records),
            targets: OnceLock::new(),
            lease,
        }
    }

    /// As it goes on the wire; made for the first attempt, not while the signal waits.
    pub(super) fn order(&self, repo_version: &str) -> &OutboundOrder {
        self.order.get_or_init(|| OutboundOrder::new(&self.lease.stored.signal, repo_version))
    }

    pub(super) fn id(&self) -> &OrderUuid {
        self.lease.stored.signal.id()
    }

    /// Whether a repeat of this very signal is recognised, or changes nothing.
    pub(super) fn repeats_are_safe(&self, policy: &DeliveryPolicy) -> bool {
        policy.recognises_repeats && self.may_repeat
    }

    /// Whether validators say of a repeat that it is one, instead of judging it anew.
    pub(super) fn repeats_are_recognised(&self, policy: &DeliveryPolicy) -> bool {
        let targets_others = self.lease.stored.signal.execution_type().targets_other_orders();
        self.repeats_are_safe(policy) && !targets_others
    }

    pub(super) fn age(&self, now: Instant) -> Duration {
        self.age.at(now)
    }

    /// How long it may still be sent; `None` when it does not expire.
    pub(super) fn may_be_sent_for(&self, now: Instant) -> Option<Duration> {
        self.max_age.map(|most| most.saturating_sub(self.age.at(now)))
    }

    pub(super) fn seq(&self) -> u64 {
        self.lease.stored.seq
    }

    pub(super) fn records(&self) -> Vec<ValidatorRecord> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.clone()
    }

    /// The validators are being written down.
    pub(super) fn targets_go_with(&self, written: Written) {
        // Once per signal in delivery.
        self.targets.get_or_init(|| written);
    }

    /// Waits until the store knows the validators of this signal and of those before it in its row. Otherwise a later
    /// signal could reach one that an earlier one, decided anew by the next start, gets as well.
    pub(super) async fn targets_are_known(&self) -> Word {
        match self.targets.get() {
            Some(written) => written.clone().await,
            None => Word::Taken,
        }
    }

    /// Takes over one validator's final record; true when it was the last open one.
    pub(super) fn settle(&self, record: ValidatorRecord) -> bool {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        match records.binary_search_by(|known| known.hotkey.cmp(&record.hotkey)) {
            Ok(at) => {
                if let Some(known) = records.get_mut(at) {
                    *known = record;
                }
            }
            Err(at) => records.insert(at, record),
        }
        self.open.fetch_sub(1, Ordering::AcqRel) == 1
    }
}

impl Shared {
    /// Writes progress down, however long that takes: a full disk pauses the lane instead of
    /// losing what a validator said. `Err` when the signal is not ours any more.
    pub(super) async fn persist(&self, lease: &Lease, progress: Progress) -> Result<(), Gone> {
        let id = lease.stored.signal.id();
        let write = (|| self.store.record(lease, progress.clone()))
            .retry(store_backoff())
            .when(|e| !matches!(e, StoreError::LeaseLost { .. } | StoreError::NotFound { .. }))
            .notify(|e, _| {
                self.note_store("results cannot be recorded", Some(e));
                tracing::error!(
                    uuid = %id, code = e.code(),
                    "delivery pauses until this can be recorded: {e}"
                );
            });
        let written = write.await;
        self.note_store("results cannot be recorded", None);
        written.map_err(|e| {
            tracing::warn!(uuid = %id, code = e.code(), "not continued by us: {e}");
            Gone
        })
    }
}

/// How often a store that does not answer is asked again: for ever, less and less often.
pub(super) fn store_backoff() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(5))
        .with_jitter()
        .without_max_times()
}

/// The signal is not ours to continue.
#[derive(Debug)]
pub(super) struct Gone;
