//! One signal in delivery: what its couriers share, and the writing down of what they learn.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};

use super::engine::Shared;
use crate::record::{Progress, ValidatorRecord};
use crate::signal::OrderUuid;
use crate::store::{Lease, StoreError, UnixMs};
use crate::trade_pair::TradePairId;
use crate::transport::OutboundOrder;

#[derive(Debug)]
pub(super) struct Active {
    pub(super) lease: Lease,
    pub(super) order: OutboundOrder,
    pub(super) pair: Option<TradePairId>,
    pub(super) reduces: bool,
    pub(super) expires_at: Option<UnixMs>,
    /// An earlier run may have sent it without a word in the store.
    pub(super) resumed: bool,
    pub(super) cancelled: AtomicBool,
    pub(super) records: Mutex<BTreeMap<String, ValidatorRecord>>,
    /// Validators that are not decided yet.
    pub(super) open: AtomicUsize,
}

impl Active {
    pub(super) fn id(&self) -> &OrderUuid {
        self.lease.stored.signal.id()
    }

    pub(super) fn seq(&self) -> u64 {
        self.lease.stored.seq
    }

    pub(super) fn records(&self) -> Vec<ValidatorRecord> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.values().cloned().collect()
    }

    /// Takes over one validator's final record; true when it was the last open one.
    pub(super) fn settle(&self, record: ValidatorRecord) -> bool {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.insert(record.hotkey.clone(), record);
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
            .when(|e| !matches!(e, StoreError::LeaseLost { .. }))
            .notify(|e, _| {
                tracing::error!(
                    uuid = %id, code = e.code(),
                    "delivery pauses until its result can be recorded: {e}"
                );
            });
        write.await.map_err(|e| {
            tracing::warn!(uuid = %id, code = e.code(), "another owner continues with it: {e}");
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
