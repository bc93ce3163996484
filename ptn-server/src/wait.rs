//! Requests that wait for the validators' answers.
//!
//! One task reads the store's events and wakes exactly the requests that wait for that signal, so a
//! thousand waiting requests cost nothing while other signals move. Events are hints that may be
//! missed, so a waiting request also looks by itself once in a while. What counts as decided is left
//! to `outcome`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ptn_core::signal::OrderUuid;
use tokio::sync::Notify;

/// Who waits for what.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Mutex<HashMap<OrderUuid, Arc<Slot>>>);

#[derive(Debug, Default)]
pub(crate) struct Slot {
    changed: Notify,
    /// Why it failed, as the engine said when it finished.
    reason: OnceLock<String>,
}

/// A place among the waiters; gives itself up when dropped.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    waiters: &'a Waiters,
    id: OrderUuid,
    slot: Arc<Slot>,
}

impl Waiters {
    /// Joins the waiters for a signal. Join first and look after that, or a change is missed.
    pub(crate) fn join(&self, id: &OrderUuid) -> Waiting<'_> {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.entry(id.clone()).or_default().clone();
        Waiting { waiters: self, id: id.clone(), slot }
    }

    /// Wakes those who wait for a signal.
    pub(crate) fn wake(&self, id: &OrderUuid, reason: Option<&str>) {
        let slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(id) {
            if let Some(reason) = reason {
                slot.reason.get_or_init(|| reason.to_owned());
            }
            slot.changed.notify_waiters();
        }
    }

    /// Wakes everybody, after events were missed.
    pub(crate) fn wake_all(&self) {
        for slot in self.0.lock().unwrap_or_else(PoisonError::into_inner).values() {
            slot.changed.notify_waiters();
        }
    }
}

impl Waiting<'_> {
    /// Becomes ready at the next change; counts from the moment it is made.
    pub(crate) fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.slot.changed.notified()
    }

    /// Why the signal failed, when that was said while waiting.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.slot.reason.get().map(String::as_str)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut slots = self.waiters.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Two owners: the map and this one. Others may have joined meanwhile.
        if Arc::strong_count(&self.slot) <= 2 {
            slots.remove(&self.id);
        }
    }
}
