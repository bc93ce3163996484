//! Between an engine and its store: what the store confirmed is noted, and of what is dead nothing
//! comes back.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;
use ptn_core::directory::{Snapshot, Validator, ValidatorDirectory};
use ptn_core::record::{DeliveryReport, Progress};
use ptn_core::signal::{OrderUuid, Signal};
use ptn_core::store::{
    Accepted, Filter, Hold, Lease, Pending, SignalStore, StoreError, StoreEvent, StoredSignal,
    Tenure,
};
use tokio::sync::{Notify, broadcast, watch};

use super::ledger::Event;
use super::world::{Life, World};

pub(crate) struct Front {
    pub(crate) inner: Arc<dyn SignalStore>,
    pub(crate) world: Arc<World>,
    pub(crate) life: Arc<Life>,
    pub(crate) host: usize,
    /// Told that a request is queued.
    pub(crate) queued: Option<Arc<Notify>>,
}

impl Front {
    /// Waits for an answer, after whoever serves the queue was told.
    async fn ask<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        if self.life.is_over() {
            return std::future::pending().await;
        }
        let mut call = pin!(call);
        let mut first = true;
        let result = poll_fn(|cx| {
            // The answer to a dead process is dropped, and so is whoever would ask again.
            if self.life.is_over() {
                return Poll::Pending;
            }
            let polled = call.as_mut().poll(cx);
            if std::mem::take(&mut first)
                && polled.is_pending()
                && let Some(queued) = &self.queued
            {
                queued.notify_one();
            }
            if self.life.is_over() { Poll::Pending } else { polled }
        });
        let result = result.await;
        if let Err(e) = &result {
            self.world.trace(|| format!("store: {e}"));
        }
        result
    }
}

#[async_trait]
impl SignalStore for Front {
    async fn accept(&self, signal: &Signal) -> Result<Accepted, StoreError> {
        self.ask(self.inner.accept(signal)).await
    }

    async fn claim(&self, limit: usize) -> Result<Vec<Lease>, StoreError> {
        if self.life.is_over() {
            return Err(StoreError::Poisoned("the process is dead".to_owned()));
        }
        self.inner.claim(limit).await
    }

    fn hold(&self, lease: &Lease) -> Hold {
        self.inner.hold(lease)
    }

    fn tenure(&self) -> Tenure {
        self.inner.tenure()
    }

    async fn record(&self, lease: &Lease, progress: Progress) -> Result<(), StoreError> {
        self.ask(self.inner.record(lease, progress.clone())).await?;
        if let Progress::Outcome { validator } = progress {
            self.world.log(Event::Recorded {
                uuid: lease.stored.signal.id().to_string(),
                validator: validator.hotkey,
                state: validator.state,
            });
        }
        Ok(())
    }

    async fn finish(&self, lease: &Lease, report: &DeliveryReport) -> Result<(), StoreError> {
        self.ask(self.inner.finish(lease, report)).await?;
        let uuid = lease.stored.signal.id().to_string();
        self.world.log(Event::Finished { host: self.host, uuid, state: report.state });
        Ok(())
    }

    async fn get(&self, id: &OrderUuid) -> Result<Option<StoredSignal>, StoreError> {
        self.inner.get(id).await
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<StoredSignal>, StoreError> {
        self.inner.list(filter).await
    }

    async fn cancel(&self, id: &OrderUuid) -> Result<(), StoreError> {
        self.ask(self.inner.cancel(id)).await
    }

    async fn retry(&self, id: &OrderUuid) -> Result<(), StoreError> {
        self.ask(self.inner.retry(id)).await
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.inner.watch()
    }

    fn events(&self) -> broadcast::Receiver<StoreEvent> {
        self.inner.events()
    }

    async fn pending(&self) -> Result<Pending, StoreError> {
        self.inner.pending().await
    }
}

/// The list of validators, which follows the truth sooner or later.
#[derive(Debug)]
pub(crate) struct List {
    pub(crate) list: watch::Sender<Snapshot>,
    pub(crate) may_be_stale: bool,
}

impl List {
    pub(crate) fn new(may_be_stale: bool) -> Self {
        Self { list: watch::Sender::new(Snapshot::default()), may_be_stale }
    }

    pub(crate) fn set(&self, validators: Vec<Validator>) {
        self.list.send_replace(Snapshot::new(validators));
    }
}

impl ValidatorDirectory for List {
    fn watch(&self) -> watch::Receiver<Snapshot> {
        self.list.subscribe()
    }

    fn may_be_stale(&self) -> bool {
        self.may_be_stale
    }
}
