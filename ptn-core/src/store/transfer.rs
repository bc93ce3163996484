//! Moving all signals from one store into another, with their order and what every validator said.
//!
//! May be stopped at any time and run again: what is there already is passed over. A mark says which
//! of the two has the signals: first the new store bears it (they are still in the old one), then
//! both, at the end the old one. A store with a mark takes nothing and delivers nothing, so no signal
//! is ever deliverable from both. What the old store took meanwhile is carried over as well.
//! Making sure that nobody delivers from either is left to the caller, who must own both.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;

use super::{SignalStore, StoreError, StoredSignal};
use crate::record::SignalState;
use crate::signal::OrderUuid;

/// How many signals are read and written at a time.
const STEP: usize = 256;
/// Behind the name in the mark of a store that signals are moved into for the first time.
const UNDER_WAY: &str = " (on its way here)";

/// The name of a store in a mark.
#[cfg(any(feature = "fs", feature = "postgres"))]
pub(super) fn name_in(mark: &str) -> String {
    let mark = mark.trim();
    mark.strip_suffix(UNDER_WAY).unwrap_or(mark).to_owned()
}

/// A store whose signals can be moved.
#[async_trait]
pub trait Transfer: SignalStore {
    /// Takes up what others left to be taken up, such as files in a folder; the ids of what was new.
    async fn take_in(&self) -> Result<Vec<OrderUuid>, StoreError> {
        Ok(Vec::new())
    }

    /// The ids of all signals in order of their turn: that of their acceptance, or of their last retry.
    /// What was promised to anybody before this call is among them.
    async fn ids(&self) -> Result<Vec<OrderUuid>, StoreError>;

    /// Those of these signals that are there, in any order.
    async fn fetch(&self, ids: &[OrderUuid]) -> Result<Vec<StoredSignal>, StoreError>;

    /// Keeps signals as they are, in this order; one that is there already becomes as it is here.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when an id stands for another signal here.
    async fn import(&self, signals: &[StoredSignal]) -> Result<(), StoreError>;

    /// Where the signals are, when they are not here.
    async fn moved(&self) -> Result<Option<String>, StoreError>;

    /// Says where the signals are now, so that nothing more is taken; `None` takes that back.
    async fn set_moved(&self, to: Option<&str>) -> Result<(), StoreError>;
}

/// What was moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Moved {
    /// Signals that were written.
    pub written: u64,
    /// Signals that were there already, as they are.
    pub there: u64,
    /// Of all these, the ones that are not finished.
    pub pending: u64,
}

/// Moves everything; nothing, when that was done before. `names` are those of the two stores, without passwords; `progress` is told how
/// many of how many signals are done.
///
/// # Errors
/// When a store fails or an id stands for different signals; running it again goes on.
pub async fn transfer(
    from: &dyn Transfer,
    to: &dyn Transfer,
    names: (&str, &str),
    progress: &mut (dyn FnMut(usize, usize) + Send),
) -> Result<Moved, StoreError> {
    let mut moved = Moved::default();
    if let Some(elsewhere) = from.moved().await?
        && to.moved().await?.is_none()
    {
        if elsewhere == names.1 {
            // Files that somebody left since.
            for ids in from.take_in().await?.chunks(STEP) {
                let signals = from.fetch(ids).await?;
                to.import(&signals).await?;
                moved.written += u64::try_from(signals.len()).unwrap_or(u64::MAX);
            }
            moved.pending = moved.written;
            return Ok(moved);
        }
        return Err(StoreError::Moved { from: names.0.to_owned(), to: elsewhere });
    }
    // What it has was moved away once, and had its fate where it went.
    let back = to.moved().await?.as_deref() == Some(names.0);
    if !back {
        to.set_moved(Some(&format!("{}{UNDER_WAY}", names.0))).await?;
    }
    from.take_in().await?;
    let mut settled = HashSet::new();
    pass(from, to, &mut settled, &mut moved, progress).await?;
    from.set_moved(Some(names.1)).await?;
    // What was accepted, cancelled or retried since it was looked at.
    from.take_in().await?;
    pass(from, to, &mut settled, &mut moved, &mut |_, _| {}).await?;
    if back {
        end_what_was_left(from, to, names.0).await?;
    }
    to.set_moved(None).await?;
    Ok(moved)
}

/// Ends what is unfinished here and unknown where the signals were since: it was delivered there and
/// deleted, and must not be sent again.
async fn end_what_was_left(
    from: &dyn Transfer,
    to: &dyn Transfer,
    name: &str,
) -> Result<(), StoreError> {
    let known: HashSet<OrderUuid> = from.ids().await?.into_iter().collect();
    let mut left = to.ids().await?;
    left.retain(|id| !known.contains(id));
    for ids in left.chunks(STEP) {
        let mut unfinished = to.fetch(ids).await?;
        unfinished.retain(|signal| signal.state == SignalState::Pending);
        for signal in &mut unfinished {
            signal.state = SignalState::Failed;
            signal.finished_at = Some(super::now_ms());
            signal.reason = format!(
                "it was moved to {name} once, where it is not any more: not sent from here"
            );
        }
        to.import(&unfinished).await?;
    }
    Ok(())
}

async fn pass(
    from: &dyn Transfer,
    to: &dyn Transfer,
    settled: &mut HashSet<OrderUuid>,
    moved: &mut Moved,
    progress: &mut (dyn FnMut(usize, usize) + Send),
) -> Result<(), StoreError> {
    let mut ids = from.ids().await?;
    ids.retain(|id| !settled.contains(id));
    moved.pending = 0;
    let total = ids.len();
    for (step, ids) in ids.chunks(STEP).enumerate() {
        let mut here = by_id(from.fetch(ids).await?);
        let there = by_id(to.fetch(ids).await?);
        let mut missing = Vec::new();
        for id in ids {
            let Some(signal) = here.remove(id) else { continue };
            moved.pending += u64::from(signal.state == SignalState::Pending);
            if signal.state == SignalState::Processed {
                settled.insert(id.clone());
            }
            let known = there.get(id);
            // More than that cannot become of it.
            let over = known.is_some_and(|known| known.state == SignalState::Processed);
            if known.is_some_and(|known| is_same(known, &signal)) || over {
                moved.there += 1;
            } else {
                missing.push(signal);
            }
        }
        to.import(&missing).await?;
        moved.written += u64::try_from(missing.len()).unwrap_or(u64::MAX);
        progress((step * STEP + ids.len()).min(total), total);
    }
    Ok(())
}

fn by_id(signals: Vec<StoredSignal>) -> HashMap<OrderUuid, StoredSignal> {
    signals.into_iter().map(|s| (s.signal.id().clone(), s)).collect()
}

/// Whether nothing is to be written.
fn is_same(a: &StoredSignal, b: &StoredSignal) -> bool {
    a.signal.digest() == b.signal.digest()
        && a.state == b.state
        && a.validators == b.validators
        && a.finished_at == b.finished_at
        && a.reason == b.reason
        && (a.cancel_requested == b.cancel_requested || a.state != SignalState::Pending)
}

/// The refusal of a signal whose id is another one's.
#[cfg(any(feature = "fs", feature = "postgres"))]
pub(super) fn conflict(signal: &StoredSignal, known: [u8; 32]) -> StoreError {
    let prefix = |digest: [u8; 32]| hex::encode(digest.get(..4).unwrap_or_default());
    StoreError::Conflict {
        id: signal.signal.id().clone(),
        stored: prefix(known),
        offered: prefix(signal.signal.digest()),
    }
}
