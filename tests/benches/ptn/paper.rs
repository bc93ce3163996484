//! A year of a paper field: thirty miners, a mark of each every five minutes, a round of weights at
//! every step; and the same year replayed at once, which must come to the same weights.

use std::time::Instant;

use ptn_core::paper::weights::Weights;
use ptn_tests::paper_year::{Pace, YEAR, y2024, y2026};

use crate::limits::Limits;
use crate::table::{Against, Goal, Measure, Table};

const MINERS: usize = 30;

/// Goes through a year.
type Year = fn(Pace) -> Weights;

pub(crate) fn run(_: &Limits, table: &mut Table) {
    let years =
        [("2024", (|pace| y2024(MINERS, pace).1) as Year), ("2026", |pace| y2026(MINERS, pace).1)];
    for (rules, year) in years {
        let mut timed = |how: &str, pace| {
            let start = Instant::now();
            let weights = year(pace);
            let measured = Measure(start.elapsed().as_secs_f64(), "s");
            let what = format!("a year of {rules}, {how}");
            table.row(what, measured, Against::Nothing, Goal::None);
            weights
        };
        let live = timed("live, weights at every step", Pace::Live(1));
        assert_eq!(live, timed("replayed at once", Pace::AtOnce));
    }
    table.note(format!("{MINERS} miners, {YEAR} steps of five minutes"));
}
