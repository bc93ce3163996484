//! The world around the engine: time, chance, who is alive, the ledger and the trace.
//!
//! One thread, one world. Every process has a tokio runtime of its own with a clock that stands
//! still until the runtime waits; the world's time is that of the process whose turn it is.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::ledger::{Event, Ledger, Ms};
use super::rng::Rng;

/// 2026-01-14 00:00 UTC, roughly.
const WALL: i64 = 1_768_348_800_000;

/// One process, from its start to its death.
#[derive(Debug, Default)]
pub(crate) struct Life {
    over: AtomicBool,
    ended: Notify,
}

impl Life {
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Nothing that it does has an effect any more.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
        self.ended.notify_one();
    }

    pub(crate) async fn ended(&self) {
        self.ended.notified().await;
    }
}

#[derive(Debug)]
enum Time {
    Stands(Ms),
    Runs { base: Instant, at: Ms },
}

#[derive(Debug)]
struct Inner {
    rng: Rng,
    time: Time,
    wall_offset: i64,
    ledger: Ledger,
    trace: Option<String>,
}

#[derive(Debug)]
pub(crate) struct World(Mutex<Inner>);

thread_local! {
    static CURRENT: RefCell<Option<Arc<World>>> = const { RefCell::new(None) };
}

/// The time of day for what takes a plain function.
pub(crate) fn wall_clock() -> i64 {
    CURRENT.with_borrow(|world| world.as_ref().map_or(WALL, |world| world.wall()))
}

impl World {
    pub(crate) fn new(rng: Rng, ledger: Ledger, traced: bool) -> Arc<Self> {
        let world = Arc::new(Self(Mutex::new(Inner {
            rng,
            time: Time::Stands(0),
            wall_offset: 0,
            ledger,
            trace: traced.then(String::new),
        })));
        CURRENT.set(Some(Arc::clone(&world)));
        world
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> Ms {
        match self.inner().time {
            Time::Stands(at) => at,
            Time::Runs { base, at } => at + u64::try_from(base.elapsed().as_millis()).unwrap(),
        }
    }

    /// The turn of a process whose clock showed `base` at the world's time `at`.
    pub(crate) fn enter(&self, base: Instant, at: Ms) {
        self.inner().time = Time::Runs { base, at };
    }

    pub(crate) fn stand(&self, at: Ms) {
        self.inner().time = Time::Stands(at);
    }

    pub(crate) fn wall(&self) -> i64 {
        WALL + i64::try_from(self.now()).unwrap() + self.inner().wall_offset
    }

    pub(crate) fn step_wall(&self, by: i64) {
        self.inner().wall_offset += by;
        self.log(Event::Step { by });
    }

    pub(crate) fn heal(&self) {
        self.log(Event::Healed);
    }

    pub(crate) fn chance(&self, n: u64) -> bool {
        self.inner().rng.chance(n)
    }

    pub(crate) fn range(&self, low: u64, high: u64) -> u64 {
        self.inner().rng.range(low, high)
    }

    pub(crate) fn weighted(&self, weights: &[u64]) -> usize {
        self.inner().rng.weighted(weights)
    }

    /// A moment, in milliseconds.
    pub(crate) async fn pause(&self, low: u64, high: u64) {
        let ms = self.range(low, high);
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    pub(crate) fn log(&self, event: Event) {
        let now = self.now();
        self.trace(|| format!("{event:?}"));
        self.inner().ledger.events.push((now, event));
    }

    pub(crate) fn trace(&self, line: impl FnOnce() -> String) {
        let now = self.now();
        if let Some(trace) = &mut self.inner().trace {
            writeln!(trace, "{:>9.3} {}", now as f64 / 1000.0, line()).unwrap();
        }
    }

    /// The end: what is known, and what happened if that was asked for.
    pub(crate) fn close(&self) -> (Ledger, String) {
        let mut inner = self.inner();
        CURRENT.set(None);
        (std::mem::take(&mut inner.ledger), inner.trace.take().unwrap_or_default())
    }
}
