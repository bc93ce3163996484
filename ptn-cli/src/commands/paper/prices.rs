//! The prices of a replay: a file, or a walk that goes on until some time after the signals.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufReader;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser as _};
use ptn_core::market_hours::MarketHours;
use ptn_core::ops::process;
use ptn_core::paper::prices::random_walk::WalkError;
use ptn_core::paper::prices::{
    CsvPrices, MAX_MS, PriceDefaults, PriceError, PriceSource, PriceSpec, RandomWalk,
};
use ptn_core::paper::replay::TimedSignal;
use ptn_core::rules::{Era, Rules, RulesError};
use ptn_core::store::UnixMs;
use ptn_core::trade_pair::TradePairId;

use super::replay::unreadable;
use crate::failure::Failure;

const DAY_MS: UnixMs = 24 * 60 * 60 * 1000;

/// Where the prices of a replay come from.
#[derive(Debug, Clone, Args)]
pub(super) struct PriceArgs {
    /// CSV file of prices: ticks or bars; or walk:SEED[:PAIR,PAIR] for made-up ones
    #[arg(long, value_name = "FILE|walk:SEED",
          value_parser = OsStringValueParser::new().try_map(PriceSpec::try_from))]
    pub(super) prices: PriceSpec,
    /// Made-up prices: so many days from the first signal on (default: one day after the last)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=3660))]
    days: Option<i64>,
    /// Made-up prices: until then, such as 2026-06-30 or 2026-06-30T12:00:00Z
    #[arg(long, value_name = "TIME", conflicts_with = "days", value_parser = time)]
    until: Option<UnixMs>,
}

fn time(text: &str) -> Result<UnixMs, String> {
    let day = || {
        let day = text.parse::<jiff::civil::Date>()?;
        jiff::tz::TimeZone::UTC.to_timestamp(day.at(0, 0, 0, 0))
    };
    let at = text.parse::<jiff::Timestamp>().or_else(|_| day());
    let ms = at.ok().map(jiff::Timestamp::as_millisecond).filter(|ms| (0..=MAX_MS).contains(ms));
    ms.ok_or_else(|| {
        "write a day such as 2026-06-30, or a time such as 2026-06-30T12:00:00Z".to_owned()
    })
}

impl PriceArgs {
    /// What is shown where an error is about the prices.
    pub(super) fn place(&self) -> String {
        match &self.prices {
            PriceSpec::Csv(path) => path.display().to_string(),
            other => other.to_string(),
        }
    }

    /// Opens them.
    ///
    /// # Errors
    /// When there are no such prices.
    pub(super) fn open(
        &self,
        era: Era,
        signals: &[TimedSignal],
    ) -> Result<Box<dyn PriceSource>, Failure> {
        let bounded = self.days.is_some() || self.until.is_some();
        match &self.prices {
            PriceSpec::Csv(_) if bounded => Err(Failure::usage(
                "--days and --until are for walk:SEED; a file ends where it ends",
            )),
            PriceSpec::Csv(path) => {
                let file = File::open(path).map_err(|e| unreadable(path, &e))?;
                let bad = |e: PriceError| self.failure(e.code(), &e);
                let prices = CsvPrices::new(BufReader::new(file)).map_err(bad)?;
                Ok(Box::new(prices))
            }
            PriceSpec::Walk { seed, pairs } => {
                let walk = self.walk(*seed, pairs, era, signals)?;
                Ok(Box::new(walk))
            }
            live => {
                let message = format!("{live} has no past to replay; give a file or walk:SEED");
                Err(Failure::usage(message))
            }
        }
    }

    fn walk(
        &self,
        seed: u64,
        named: &[TradePairId],
        era: Era,
        signals: &[TimedSignal],
    ) -> Result<RandomWalk, Failure> {
        let data = |e: RulesError| self.failure("rules", &e);
        let (rules, defaults) =
            (Rules::load(era).map_err(data)?, PriceDefaults::load().map_err(data)?);
        let step_ms = defaults.replay_step_ms();
        let times = || signals.iter().map(|signal| signal.received_ms);
        // A price comes before the first signal: at its time or at the full step before.
        let first_ms = times().min().unwrap_or_default();
        let start_ms = first_ms - first_ms.rem_euclid(step_ms);
        let until_ms = match (self.until, self.days) {
            (Some(until_ms), _) => until_ms,
            (None, Some(days)) => start_ms.saturating_add(days.saturating_mul(DAY_MS)),
            (None, None) => times().max().unwrap_or_default().saturating_add(DAY_MS),
        };
        if until_ms < start_ms {
            return Err(Failure::usage("--until is before the first signal"));
        }
        let pairs = match named {
            [] => pairs_of(signals, &rules, &defaults),
            named => named.to_vec(),
        };
        let bad = |e: WalkError| self.failure(e.code(), &e);
        let walk =
            RandomWalk::of(&rules.catalogue, &pairs, seed, start_ms, step_ms).map_err(bad)?;
        Ok(walk.until(until_ms).with_hours(MarketHours::load().map_err(data)?))
    }

    fn failure(&self, code: &str, e: &dyn std::error::Error) -> Failure {
        Failure::new(process::USAGE, code, format!("{}: {e}", self.place()))
    }
}

/// What the signals trade, or else the usual pairs.
fn pairs_of(signals: &[TimedSignal], rules: &Rules, defaults: &PriceDefaults) -> Vec<TradePairId> {
    let traded = signals.iter().filter_map(|signal| signal.signal(rules).ok()?.trade_pair());
    let known = traded.filter(|pair| rules.catalogue.get(pair.as_str()).is_some());
    let pairs: BTreeSet<TradePairId> = known.collect();
    if pairs.is_empty() {
        return defaults.walk_pairs(rules.era).to_vec();
    }
    pairs.into_iter().collect()
}
