//! A year of a paper field in steps of five minutes, for the replay test and the benchmark.
//!
//! The numbers are made up by a small generator with a fixed seed; what counts is that there are
//! as many events as a real field has.

use ptn_core::paper::drawdown::AccountKind;
use ptn_core::paper::field_2024::{Event2024, Field2024};
use ptn_core::paper::field_2026::{Event2026, Field2026};
use ptn_core::paper::ledger::Ledger2026;
use ptn_core::paper::score_rules::{ScoreRules2024, ScoreRules2026};
use ptn_core::paper::weights::{Bucket, Weights};
use rust_decimal::Decimal;

/// Length of a step.
pub const STEP_MS: i64 = 5 * 60 * 1000;
/// Steps in a day.
const DAY: i64 = 24 * 60 * 60 * 1000 / STEP_MS;
/// Steps in a year.
pub const YEAR: i64 = 365 * DAY;
/// How often a miner closes a position, in steps.
const CLOSES: i64 = DAY / 3;

/// 2024-04-08 and 2026-10-18, 00:00 UTC.
const STARTS: [i64; 2] = [1_712_534_400_000, 1_792_281_600_000];

/// How the year is gone through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// All events, then the end is named once.
    AtOnce,
    /// The time is named after every step, and weights are made every so many steps.
    Live(i64),
}

impl Pace {
    const fn has_round(self, step: i64) -> bool {
        matches!(self, Self::Live(every) if step % every == 0)
    }
}

struct Noise(u64);

impl Noise {
    /// -1 to 1.
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        #[allow(clippy::cast_precision_loss, reason = "noise")]
        let unit = (self.0 >> 11) as f64 / (1_u64 << 53) as f64;
        2.0 * unit - 1.0
    }
}

fn names(miners: usize) -> Vec<String> {
    (0..miners).map(|n| format!("miner-{n:03}")).collect()
}

/// A year under the rules of 2024.
///
/// # Panics
/// When an event is refused.
pub fn y2024(miners: usize, pace: Pace) -> (Field2024, Weights) {
    let [start_ms, _] = STARTS;
    let mut field = Field2024::new(ScoreRules2024::built_in().expect("rules"), start_ms);
    let names = names(miners);
    names.iter().for_each(|name| field.register(name));
    let mut noise = Noise(8);
    let mut open = vec![1.0; miners];
    for step in 1..=YEAR {
        let now_ms = start_ms + step * STEP_MS;
        for ((n, name), open) in (0..).zip(&names).zip(&mut open) {
            *open *= 1.0 + 2e-7 * f64::from(n) + 4e-4 * noise.next();
            if (step + i64::from(n)) % CLOSES == 0 {
                let opened_ms = now_ms - CLOSES * STEP_MS;
                let event = Event2024::Closed { opened_ms, return_at_close: *open };
                field.apply(now_ms, name, event).expect("closed");
                *open = 1.0;
            }
            field.apply(now_ms, name, Event2024::Open(vec![*open])).expect("mark");
        }
        if pace != Pace::AtOnce {
            field.advance(now_ms);
        }
        if pace.has_round(step) {
            std::hint::black_box(field.weights(now_ms));
        }
    }
    let end_ms = start_ms + YEAR * STEP_MS;
    field.advance(end_ms);
    let weights = field.weights(end_ms);
    (field, weights)
}

/// A year under the rules of 2026.
///
/// # Panics
/// When an event is refused.
pub fn y2026(miners: usize, pace: Pace) -> (Field2026, Weights) {
    let [_, start_ms] = STARTS;
    let mut field = Field2026::new(ScoreRules2026::built_in().expect("rules"), start_ms);
    let names = names(miners);
    for (n, name) in names.iter().enumerate() {
        let bucket = if n % 3 == 0 { Bucket::Challenge } else { Bucket::MainComp };
        // Two classes, so that nobody falls out of the top of one.
        let class = if n % 2 == 0 { "crypto" } else { "forex" };
        let account = Ledger2026::new(AccountKind::Regular, class, bucket, true, start_ms);
        field.register(name, account);
    }
    let mut noise = Noise(8);
    let size = Decimal::from(100_000);
    let mut accounts = vec![(size, Decimal::ZERO); miners];
    for step in 1..=YEAR {
        let now_ms = start_ms + step * STEP_MS;
        for ((n, name), (balance, unrealised)) in (0..).zip(&names).zip(&mut accounts) {
            #[allow(clippy::cast_possible_truncation, reason = "cents")]
            let change = (800.0 * noise.next()) as i64 + i64::from(n) / 4;
            *unrealised += Decimal::new(change, 2);
            if (step + i64::from(n)) % CLOSES == 0 {
                let fee = Decimal::new(300, 2);
                *balance += *unrealised - fee;
                let event = Event2026::Booked { realised: std::mem::take(unrealised), fee };
                field.apply(now_ms, name, Event2026::Order).expect("order");
                field.apply(now_ms, name, event).expect("booked");
            }
            let (balance, unrealised) = (*balance, *unrealised);
            let mark = Event2026::Mark { account_size: size, balance, unrealised };
            field.apply(now_ms, name, mark).expect("mark");
        }
        if pace != Pace::AtOnce {
            field.advance(now_ms);
        }
        if pace.has_round(step) {
            std::hint::black_box(field.weights(now_ms));
        }
    }
    let end_ms = start_ms + YEAR * STEP_MS;
    field.advance(end_ms);
    let weights = field.weights(end_ms);
    (field, weights)
}
