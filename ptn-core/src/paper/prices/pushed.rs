//! Prices that come from outside while the program runs: [`channel`] gives a handle to push them with,
//! and a [`PriceSource`] that waits for them.
//!
//! The source can be read from a thread ([`PriceSource::next_tick`] blocks) and from a task
//! ([`PushedPrices::next`]); it ends when every [`PriceSender`] is gone or one has closed it, after what is
//! still waiting. Where prices come from is left to others: [`super::push`] reads the bodies of HTTP.
//!
//! What must stay true: no more than [`TICKS_PER_PAIR`] prices per allowed pair are waiting. A reader
//! that is slower than the prices gets the latest one of every pair and misses those between; within
//! one pair the order stays. What [`PriceSender::push`] is given is taken whole or not at all.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use serde::Serialize;

use super::{PriceError, PriceSource, Tick};
use crate::store::UnixMs;
use crate::trade_pair::TradePairId;

/// How many pairs a channel allows that is not told otherwise; the network has fewer.
pub const DEFAULT_PAIRS: usize = 2048;
/// So many prices per allowed pair may wait before only the latest ones are kept.
pub const TICKS_PER_PAIR: usize = 4;

/// Why nothing of a push was taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PushedError {
    /// Nobody reads any more.
    #[error("the prices are not read any more; the program that took them has ended")]
    Closed,
    /// A price that no market can have.
    #[error(
        "price {row}, {field}: not allowed; prices are finite and above 0, a bid is not above its ask"
    )]
    Flaw {
        /// Which of those pushed, from 1.
        row: usize,
        /// The first field that is wrong.
        field: &'static str,
    },
    /// More pairs than the channel was made for.
    #[error("price {row}, trade_pair: {pair} would be one pair more than {most}; push fewer pairs")]
    Pairs {
        /// Which of those pushed, from 1.
        row: usize,
        /// The pair.
        pair: TradePairId,
        /// How many there may be.
        most: usize,
    },
}

impl PushedError {
    /// A stable name.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Closed => "prices_closed",
            Self::Flaw { .. } => "prices_field",
            Self::Pairs { .. } => "prices_too_many_pairs",
        }
    }
}

/// What became of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[must_use]
pub struct Pushed {
    /// New prices.
    pub taken: usize,
    /// Prices that were left out because a newer one of their pair had come before.
    pub older: usize,
}

/// What a channel has seen so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct PushedStats {
    /// Prices taken.
    pub taken: u64,
    /// Prices left out because they were older than the last of their pair.
    pub older: u64,
    /// Prices that were replaced by a newer one before somebody read them.
    pub conflated: u64,
    /// Prices that wait to be read.
    pub waiting: usize,
    /// Pairs seen.
    pub pairs: usize,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Tick>,
    last_ms: BTreeMap<TradePairId, UnixMs>,
    taken: u64,
    older: u64,
    conflated: u64,
    senders: usize,
    closed: bool,
    waker: Option<Waker>,
}

impl State {
    const fn ended(&self) -> bool {
        self.closed || self.senders == 0
    }

    /// Only the latest price of every pair stays, in the order in which those came.
    fn conflate(&mut self) {
        let before = self.waiting.len();
        let mut seen = BTreeSet::new();
        let mut kept = VecDeque::with_capacity(before);
        while let Some(tick) = self.waiting.pop_back() {
            if seen.insert(tick.pair.clone()) {
                kept.push_front(tick);
            }
        }
        self.conflated += (before - kept.len()) as u64;
        self.waiting = kept;
    }
}

#[derive(Debug)]
struct Shared {
    most_pairs: usize,
    state: Mutex<State>,
    news: Condvar,
}

impl Shared {
    /// A panic elsewhere leaves the queue as it was, so it can be used on.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let waker = state.waker.take();
        drop(state);
        self.news.notify_one();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A channel for prices of up to `most_pairs` different pairs.
///
/// ```
/// use ptn_core::paper::prices::{PriceSource, Tick, pushed};
///
/// let (sender, mut prices) = pushed::channel(pushed::DEFAULT_PAIRS);
/// let pushed = sender.push(vec![Tick::last(1_780_000_000_000, "BTCUSDC", 100_000.0)])?;
/// assert_eq!(pushed.taken, 1);
/// drop(sender);
/// assert_eq!(prices.next_tick()?.map(|tick| tick.price), Some(100_000.0));
/// assert_eq!(prices.next_tick()?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn channel(most_pairs: usize) -> (PriceSender, PushedPrices) {
    let state = Mutex::new(State { senders: 1, ..State::default() });
    let shared = Arc::new(Shared { most_pairs, state, news: Condvar::new() });
    (PriceSender { shared: Arc::clone(&shared) }, PushedPrices { shared })
}

/// Pushes prices. Clones push into the same channel.
#[derive(Debug)]
pub struct PriceSender {
    shared: Arc<Shared>,
}

impl PriceSender {
    /// Pushes prices, all of them or none; never waits for the reader.
    ///
    /// # Errors
    /// When nobody reads, a price is none, or there are too many pairs.
    pub fn push(&self, ticks: Vec<Tick>) -> Result<Pushed, PushedError> {
        let most = self.shared.most_pairs;
        let mut state = self.shared.state();
        if state.closed {
            return Err(PushedError::Closed);
        }
        let mut new = BTreeSet::new();
        for (n, tick) in ticks.iter().enumerate() {
            let row = n + 1;
            if let Some(field) = tick.flaw() {
                return Err(PushedError::Flaw { row, field });
            }
            if !state.last_ms.contains_key(&tick.pair) {
                new.insert(&tick.pair);
            }
            if state.last_ms.len() + new.len() > most {
                return Err(PushedError::Pairs { row, pair: tick.pair.clone(), most });
            }
        }
        let mut pushed = Pushed::default();
        for tick in ticks {
            let last_ms = state.last_ms.entry(tick.pair.clone()).or_insert(tick.at_ms);
            if tick.at_ms < *last_ms {
                pushed.older += 1;
                continue;
            }
            *last_ms = tick.at_ms;
            if state.waiting.len() >= most.saturating_mul(TICKS_PER_PAIR) {
                state.conflate();
            }
            state.waiting.push_back(tick);
            pushed.taken += 1;
        }
        state.taken += pushed.taken as u64;
        state.older += pushed.older as u64;
        self.shared.wake(state);
        Ok(pushed)
    }

    /// Ends the source after what is still waiting, whatever other senders there are.
    pub fn close(&self) {
        let mut state = self.shared.state();
        state.closed = true;
        self.shared.wake(state);
    }

    /// Whether nobody reads any more, or the channel was closed.
    pub fn is_closed(&self) -> bool {
        self.shared.state().closed
    }

    /// What it has seen so far.
    pub fn stats(&self) -> PushedStats {
        let state = self.shared.state();
        PushedStats {
            taken: state.taken,
            older: state.older,
            conflated: state.conflated,
            waiting: state.waiting.len(),
            pairs: state.last_ms.len(),
        }
    }
}

impl Clone for PriceSender {
    fn clone(&self) -> Self {
        self.shared.state().senders += 1;
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl Drop for PriceSender {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.senders = state.senders.saturating_sub(1);
        self.shared.wake(state);
    }
}

/// Prices as they are pushed.
#[derive(Debug)]
pub struct PushedPrices {
    shared: Arc<Shared>,
}

impl PushedPrices {
    /// The next price; `None` at the end. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Tick> {
        poll_fn(|context| {
            let mut state = self.shared.state();
            if let Some(tick) = state.waiting.pop_front() {
                return Poll::Ready(Some(tick));
            }
            if state.ended() {
                return Poll::Ready(None);
            }
            state.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// The next price that is there already.
    pub fn try_next(&mut self) -> Option<Tick> {
        self.shared.state().waiting.pop_front()
    }
}

impl PriceSource for PushedPrices {
    fn next_tick(&mut self) -> Result<Option<Tick>, PriceError> {
        let mut state = self.shared.state();
        loop {
            if let Some(tick) = state.waiting.pop_front() {
                return Ok(Some(tick));
            }
            if state.ended() {
                return Ok(None);
            }
            state = self.shared.news.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for PushedPrices {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.closed = true;
        state.waiting.clear();
    }
}
