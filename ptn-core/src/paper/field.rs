//! What both fields share: who takes part, who is out, and how far time has come.
//!
//! Checks happen at fixed instants, the multiples of an interval. An instant sees the events that
//! were applied before the field passed it. Between two events nothing changes except by time, so
//! only the first instant after an event, and the instants at which a period or a deadline ends,
//! are carried out; the others would find what the one before them found.
//!
//! What must stay true: cutting time into other steps changes nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::paper::elimination::{Elimination, Eliminations};
use crate::paper::ledger::LedgerError;

/// A miner of a field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Miner<L> {
    pub(super) hotkey: String,
    pub(super) ledger: L,
    /// Out of the field; its ledger is kept for reports.
    pub(super) out: bool,
}

/// The miners of a field, and its time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Roster<L> {
    pub(super) miners: Vec<Miner<L>>,
    pub(super) eliminations: Eliminations,
    /// Where each hotkey is; made anew after reading.
    #[serde(skip)]
    index: BTreeMap<String, usize>,
    fresh: Vec<Elimination>,
    every_ms: i64,
    /// The latest time that was named.
    now_ms: i64,
    /// Instants before this are done.
    open_ms: i64,
    /// The next instant to carry out.
    next_ms: i64,
}

impl<L> Roster<L> {
    pub(super) fn new(every_ms: i64, start_ms: i64) -> Self {
        let mut roster = Self {
            miners: Vec::new(),
            eliminations: Eliminations::default(),
            index: BTreeMap::new(),
            fresh: Vec::new(),
            every_ms: every_ms.max(1),
            now_ms: start_ms,
            open_ms: start_ms,
            next_ms: start_ms,
        };
        roster.wake(start_ms);
        roster
    }

    /// Adds a miner, or gives the one that is there.
    pub(super) fn add(&mut self, hotkey: &str, ledger: impl FnOnce() -> L) {
        if !self.index.contains_key(hotkey) {
            self.index.insert(hotkey.to_owned(), self.miners.len());
            let out = self.eliminations.get(hotkey).is_some();
            self.miners.push(Miner { hotkey: hotkey.to_owned(), ledger: ledger(), out });
        }
    }

    pub(super) fn get(&self, hotkey: &str) -> Option<&Miner<L>> {
        self.miners.get(*self.index.get(hotkey)?)
    }

    pub(super) fn get_mut(&mut self, hotkey: &str) -> Result<&mut Miner<L>, LedgerError> {
        let unknown = || LedgerError::UnknownMiner { hotkey: hotkey.to_owned() };
        let at = *self.index.get(hotkey).ok_or_else(unknown)?;
        self.miners.get_mut(at).ok_or_else(unknown)
    }

    /// Refuses an event that comes too late or for nobody.
    pub(super) fn admit(&self, hotkey: &str, at_ms: i64) -> Result<(), LedgerError> {
        if !self.index.contains_key(hotkey) {
            return Err(LedgerError::UnknownMiner { hotkey: hotkey.to_owned() });
        }
        if at_ms < self.now_ms {
            let now_ms = self.now_ms;
            return Err(LedgerError::Late { hotkey: hotkey.to_owned(), at_ms, now_ms });
        }
        Ok(())
    }

    /// The next instant before `until_ms`, if there is one to carry out; it counts as done.
    pub(super) fn instant(&mut self, until_ms: i64) -> Option<i64> {
        let at_ms = self.next_ms;
        (at_ms < until_ms).then(|| {
            self.open_ms = at_ms + 1;
            self.next_ms = i64::MAX;
            at_ms
        })
    }

    /// Names a time: all instants before `until_ms` are done.
    pub(super) fn reached(&mut self, now_ms: i64, until_ms: i64) {
        self.now_ms = self.now_ms.max(now_ms);
        self.open_ms = self.open_ms.max(until_ms);
    }

    /// Has the first open instant at or after `at_ms` carried out.
    pub(super) fn wake(&mut self, at_ms: i64) {
        let at_ms = at_ms.max(self.open_ms);
        let past = at_ms.rem_euclid(self.every_ms);
        let instant = if past == 0 { at_ms } else { at_ms.saturating_add(self.every_ms - past) };
        self.next_ms = self.next_ms.min(instant);
    }

    /// Puts a miner out.
    pub(super) fn eliminate(&mut self, row: Elimination) {
        if let Ok(miner) = self.get_mut(&row.hotkey) {
            miner.out = true;
        }
        if self.eliminations.add(row.clone()) {
            self.fresh.push(row);
        }
    }

    /// Notes that a miner left, and reports it like an elimination.
    pub(super) fn depart(&mut self, row: Elimination) {
        if let Ok(miner) = self.get_mut(&row.hotkey) {
            miner.out = true;
        }
        self.eliminations.depart(&row.hotkey, row.elimination_initiated_time_ms);
        self.fresh.push(row);
    }

    /// Lets the list forget rows, and drops the miners whose rows are gone.
    pub(super) fn forget(&mut self, forget: impl FnOnce(&mut Eliminations)) {
        forget(&mut self.eliminations);
        self.miners.retain(|m| !m.out || self.eliminations.get(&m.hotkey).is_some());
        self.reindex();
    }

    /// Finds every hotkey again.
    pub(super) fn reindex(&mut self) {
        self.index = self.miners.iter().enumerate().map(|(i, m)| (m.hotkey.clone(), i)).collect();
    }

    /// Who is out since the last call.
    pub(super) fn take_fresh(&mut self) -> Vec<Elimination> {
        std::mem::take(&mut self.fresh)
    }

    /// Those who are not out.
    pub(super) fn active(&self) -> impl Iterator<Item = &Miner<L>> {
        self.miners.iter().filter(|m| !m.out)
    }
}

/// The first multiple of `every_ms` after `at_ms`.
pub(super) const fn next_multiple(at_ms: i64, every_ms: i64) -> i64 {
    at_ms.saturating_add(every_ms - at_ms.rem_euclid(every_ms))
}
