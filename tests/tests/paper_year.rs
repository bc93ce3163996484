//! A year of five-minute steps for thirty miners: at once and live give the same, in seconds. The
//! time is printed and proves nothing; `cargo bench -p ptn-tests -- paper` measures it.
#![allow(clippy::print_stdout, reason = "says how long a year took")]

use std::time::Instant;

use ptn_tests::paper_year::{Pace, YEAR, y2024, y2026};

const MINERS: usize = 30;
/// A round of weights every six hours; the benchmark makes one at every step.
const EVERY: i64 = 72;

fn timed<T>(what: &str, run: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = run();
    println!("{what}: {MINERS} miners, {YEAR} steps in {:.1?}", start.elapsed());
    result
}

#[test]
fn a_year_of_2024_at_once_is_a_year_of_2024_live() {
    let (at_once, weights) = timed("2024 at once", || y2024(MINERS, Pace::AtOnce));
    let (live, live_weights) = timed("2024 live", || y2024(MINERS, Pace::Live(EVERY)));
    assert_eq!(at_once.eliminations(), live.eliminations());
    assert_eq!(weights, live_weights);
    assert!(weights.miners.len() > MINERS / 2, "{weights:?}");
    assert!(!at_once.eliminations().rows().is_empty());
}

#[test]
fn a_year_of_2026_at_once_is_a_year_of_2026_live() {
    let (at_once, weights) = timed("2026 at once", || y2026(MINERS, Pace::AtOnce));
    let (live, live_weights) = timed("2026 live", || y2026(MINERS, Pace::Live(EVERY)));
    assert_eq!(at_once.eliminations(), live.eliminations());
    assert_eq!(weights, live_weights);
    assert!((weights.sum() - 1.0).abs() < 1e-12);
    assert!(weights.miners.len() > MINERS / 2, "{weights:?}");
    assert!(!at_once.eliminations().rows().is_empty());
}
