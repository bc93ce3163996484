//! Moving signals into a data directory and out of it.
//!
//! What comes in is written to the journal as if it had happened here; the folders follow. Finished
//! files of the Python tools are no signals of ours, and stay where they are.

use std::collections::BTreeSet;

use async_trait::async_trait;

use super::FsStore;
use super::adopt::Adopter;
use super::durable::io_error;
use super::shared::stopped;
use crate::record::{DeliveryReport, SignalState};
use crate::signal::OrderUuid;
use crate::store::index::{Answer, Entry, Request};
use crate::store::transfer::{Transfer, conflict};
use crate::store::{Accepted, SignalStore as _, StoreError, StoredSignal};

#[allow(
    clippy::disallowed_methods,
    reason = "these all go to one store, where one sync keeps them"
)]
#[async_trait]
impl Transfer for FsStore {
    async fn ids(&self) -> Result<Vec<OrderUuid>, StoreError> {
        let shared = std::sync::Arc::clone(&self.shared);
        // What others appended while nobody looked; also what one of them has not appended yet, who
        // looked for the mark before it was there.
        tokio::task::spawn_blocking(move || shared.catch_up_for_sure()).await.ok();
        let files = self.read(|spool| spool.finished_ids()).await?;
        let index = self.shared.index();
        // An id may have a file of an earlier end, which is about to be replaced.
        let turn = |entry: &Entry| entry.retried_turn().unwrap_or((entry.seq, 0));
        let live = index.oldest().map(|(id, entry)| (turn(entry), id.clone()));
        let late = index.unsettled().into_iter().map(|(id, entry, _)| ((entry.seq, 0), id.clone()));
        let mut all: BTreeSet<_> = live.chain(late).collect();
        drop(index);
        let told: BTreeSet<OrderUuid> = all.iter().map(|(_, id)| id.clone()).collect();
        let rest = files.into_iter().filter(|(_, id)| !told.contains(id));
        all.extend(rest.map(|(seq, id)| ((seq, 0), id)));
        Ok(all.into_iter().map(|(_, id)| id).collect())
    }

    async fn take_in(&self) -> Result<Vec<OrderUuid>, StoreError> {
        let shared = std::sync::Arc::clone(&self.shared);
        let taken = tokio::task::spawn_blocking(move || Adopter::new(shared).take_all()).await;
        Ok(taken.unwrap_or_default())
    }

    async fn fetch(&self, ids: &[OrderUuid]) -> Result<Vec<StoredSignal>, StoreError> {
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            found.extend(self.get(id).await?);
        }
        Ok(found)
    }

    async fn import(&self, signals: &[StoredSignal]) -> Result<(), StoreError> {
        // All or none: some without those before them would take their places.
        let accept = |s: &StoredSignal| Request::accept_given(&s.signal, Some(s.accepted_at));
        let accepted = self.shared.ask_all(signals.iter().map(accept).collect())?;
        for (signal, answer) in signals.iter().zip(accepted) {
            match answer.await.unwrap_or_else(|_| Err(stopped())) {
                Err(StoreError::Conflict { .. }) => {
                    let known = self.get(signal.signal.id()).await?;
                    return Err(conflict(signal, known.map_or([0; 32], |s| s.signal.digest())));
                }
                Err(e) => return Err(e),
                Ok(Answer::Accepted(Accepted::Same { state: SignalState::Failed })) => {
                    self.run(Request::Retry { id: signal.signal.id().clone() }).await?;
                }
                Ok(_) => {}
            }
        }
        let rest = signals.iter().filter(|s| {
            s.state != SignalState::Pending || s.cancel_requested || !s.validators.is_empty()
        });
        let rest = rest.map(|s| self.carry(s));
        for done in futures_util::future::join_all(rest).await {
            done?;
        }
        Ok(())
    }

    async fn moved(&self) -> Result<Option<String>, StoreError> {
        let path = &self.shared.spool.layout.moved;
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(io_error("cannot read", path)(e)),
        }
    }

    async fn set_moved(&self, to: Option<&str>) -> Result<(), StoreError> {
        let spool = &self.shared.spool;
        let path = &spool.layout.moved;
        match to {
            Some(to) => {
                let (text, now) = (format!("{to}\n"), std::time::SystemTime::now());
                spool.publish(path, &text, now, true).and_then(|_| spool.settle(path))
            }
            None => spool.remove(path),
        }
        .and_then(|()| spool.disk.sync_dir(&spool.layout.private))
        .map_err(io_error("cannot write", path))
    }
}

impl FsStore {
    async fn carry(&self, signal: &StoredSignal) -> Result<(), StoreError> {
        let id = signal.signal.id();
        let validators: Vec<_> = signal.validators.values().cloned().collect();
        let carry = Request::Carry {
            id: id.clone(),
            validators: validators.clone(),
            cancel: signal.cancel_requested,
        };
        match self.run(carry).await {
            // Processed here already, and no more than that can become of it.
            Err(StoreError::WrongState { state: SignalState::Processed, .. }) => return Ok(()),
            other => other?,
        };
        if signal.state == SignalState::Pending {
            return Ok(());
        }
        let report = DeliveryReport {
            state: signal.state,
            reason: signal.reason.clone(),
            validators,
            finished_at: signal.finished_at.unwrap_or(signal.accepted_at),
        };
        self.run(Request::Conclude { id: id.clone(), report }).await.map(drop)
    }
}
