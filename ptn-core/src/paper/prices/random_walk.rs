//! Prices that are made up: a random walk with jumps, for trying things without price data.
//!
//! Every step multiplies the price of a pair by `exp((drift - volatility²/2) dt + volatility sqrt(dt) z)`,
//! with `dt` in days and `z` nearly normal, and with the probability `jumps_per_day dt` by `exp(jump_size z')`,
//! at most one jump a step. The book is the price with half the spread on each side. A closed market, if
//! hours are given, has no prices and its price rests. Pacing by a clock is left to others.
//!
//! What must stay true: the same seed gives the same prices on every machine, in every version that
//! does not say otherwise in the changelog; those of a pair depend on nothing but the seed, the pair,
//! its settings and the times. They are never zero, and have no more decimal places than the pair says.
//!
//! It is no model of a market: pairs are not correlated, and nobody moves a price by trading.

mod generator;

use std::collections::VecDeque;

use super::defaults::PriceDefaults;
use super::{MAX_MS, PriceError, PriceSource, Tick};
use crate::market_hours::MarketHours;
use crate::paper::DAY_MS;
use crate::rules::RulesError;
use crate::store::UnixMs;
use crate::trade_pair::{TradePairCatalogue, TradePairClass, TradePairId};
use generator::{Generator, exp};

/// Prices have no more decimal places.
pub const MOST_DECIMALS: u8 = 10;
/// A price never walks beyond this.
const MOST_PRICE: f64 = 1e12;

/// How a pair walks.
#[derive(Debug, Clone, PartialEq)]
pub struct WalkPair {
    /// The pair.
    pub pair: TradePairId,
    /// Its market, for the hours.
    pub class: TradePairClass,
    /// `vanta` or `hyperliquid`, for the hours.
    pub source: String,
    /// The first price.
    pub start: f64,
    /// Standard deviation of a day's return, as a fraction.
    pub volatility: f64,
    /// Expected return of a day, as a fraction.
    pub drift: f64,
    /// Expected number of jumps in a day.
    pub jumps_per_day: f64,
    /// Standard deviation of a jump, as a fraction.
    pub jump_size: f64,
    /// From bid to ask, as a fraction of the price; 0 is a price without a book.
    pub spread: f64,
    /// Decimal places of a price.
    pub decimals: u8,
}

/// Why there is no such walk.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalkError {
    /// No pair.
    #[error("a walk needs a pair; name one, such as BTCUSDC")]
    NoPairs,
    /// A pair twice.
    #[error("{pair} is there twice; name every pair once")]
    Twice {
        /// The pair.
        pair: TradePairId,
    },
    /// A pair that the rules do not have.
    #[error("{pair:?} is no pair of these rules{}; ids are case-sensitive, such as BTCUSDC", .meant.as_ref().map(|meant| format!(", {meant} is")).unwrap_or_default())]
    UnknownPair {
        /// What was asked for.
        pair: TradePairId,
        /// What may have been meant.
        meant: Option<TradePairId>,
    },
    /// A number.
    #[error("{field} of {pair} is {value}; it must be {allowed}")]
    Setting {
        /// The pair, or `the walk`.
        pair: String,
        /// The setting.
        field: &'static str,
        /// Its value.
        value: f64,
        /// What is allowed.
        allowed: &'static str,
    },
    /// The built-in data.
    #[error(transparent)]
    Data(#[from] RulesError),
}

impl WalkError {
    /// A stable name.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoPairs => "walk_no_pairs",
            Self::Twice { .. } => "walk_pair_twice",
            Self::UnknownPair { .. } => "unknown_trade_pair",
            Self::Setting { .. } => "walk_setting",
            Self::Data(_) => "rules",
        }
    }
}

#[derive(Debug)]
struct Path {
    own: WalkPair,
    random: Generator,
    /// Unrounded.
    price: f64,
    moved: bool,
    /// When it opens, while it is closed.
    opens_ms: Option<UnixMs>,
    never_opens: bool,
}

/// The walk of some pairs.
///
/// ```
/// use ptn_core::paper::prices::{PriceSource, RandomWalk};
/// use ptn_core::rules::{Era, Rules};
///
/// let rules = Rules::load(Era::Y2026)?;
/// let pairs = ["BTCUSDC".into(), "EURUSD".into()];
/// let mut walk = RandomWalk::of(&rules.catalogue, &pairs, 42, 1_780_000_000_000, 60_000)?;
/// let first = walk.next_tick()?.map(|tick| (tick.at_ms, tick.price));
/// assert_eq!(first, Some((1_780_000_000_000, 100_000.0)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct RandomWalk {
    paths: Vec<Path>,
    step_ms: UnixMs,
    next_ms: UnixMs,
    until_ms: UnixMs,
    hours: Option<MarketHours>,
    ready: VecDeque<Tick>,
}

impl RandomWalk {
    /// A walk of these pairs from a time on, one price of each every `step_ms`. It has no end.
    ///
    /// # Errors
    /// When a setting is out of its bounds.
    pub fn new(
        pairs: Vec<WalkPair>,
        seed: u64,
        start_ms: UnixMs,
        step_ms: UnixMs,
    ) -> Result<Self, WalkError> {
        if pairs.is_empty() {
            return Err(WalkError::NoPairs);
        }
        let whole = |field, value: UnixMs, most: UnixMs, allowed| {
            let value = if (0..=most).contains(&value) { return Ok(()) } else { value as f64 };
            Err(WalkError::Setting { pair: "the walk".to_owned(), field, value, allowed })
        };
        whole("start_ms", start_ms, MAX_MS, "ms since 1970, before the year 3000")?;
        whole("step_ms", step_ms.saturating_sub(1), DAY_MS - 1, "from 1 ms to a day")?;
        let mut paths: Vec<Path> = Vec::with_capacity(pairs.len());
        for own in pairs {
            check(&own)?;
            if paths.iter().any(|path| path.own.pair == own.pair) {
                return Err(WalkError::Twice { pair: own.pair });
            }
            paths.push(Path {
                random: Generator::new(seed, own.pair.as_str()),
                price: own.start,
                moved: false,
                opens_ms: None,
                never_opens: false,
                own,
            });
        }
        Ok(Self {
            paths,
            step_ms,
            next_ms: start_ms,
            until_ms: MAX_MS,
            hours: None,
            ready: VecDeque::new(),
        })
    }

    /// A walk of pairs of a catalogue with the built-in settings of their classes.
    ///
    /// # Errors
    /// As [`Self::new`], and for a pair that the catalogue does not have.
    pub fn of(
        catalogue: &TradePairCatalogue,
        pairs: &[TradePairId],
        seed: u64,
        start_ms: UnixMs,
        step_ms: UnixMs,
    ) -> Result<Self, WalkError> {
        let defaults = PriceDefaults::load()?;
        let pairs = pairs.iter().map(|id| {
            let pair = catalogue.get(id.as_str()).and_then(|pair| defaults.walk_pair(pair));
            let meant = || catalogue.suggest(id.as_str()).map(|pair| pair.id.clone());
            pair.ok_or_else(|| WalkError::UnknownPair { pair: id.clone(), meant: meant() })
        });
        Self::new(pairs.collect::<Result<_, _>>()?, seed, start_ms, step_ms)
    }

    /// Ends it: the last prices are those of `until_ms`, or of the step before.
    #[must_use]
    pub const fn until(mut self, until_ms: UnixMs) -> Self {
        self.until_ms = until_ms;
        self
    }

    /// Closes markets at these hours. A pair whose market never opens has no price at all.
    #[must_use]
    pub fn with_hours(mut self, hours: MarketHours) -> Self {
        self.hours = Some(hours);
        self
    }

    /// Makes the prices of one time.
    fn step(&mut self) {
        let at_ms = self.next_ms;
        let days = self.step_ms as f64 / DAY_MS as f64;
        for path in &mut self.paths {
            if path.is_open(self.hours.as_ref(), at_ms) {
                self.ready.push_back(path.tick(at_ms, days));
            }
        }
        self.next_ms = at_ms.saturating_add(self.step_ms);
        if self.ready.is_empty() {
            self.skip_to_an_open_market();
        }
    }

    fn skip_to_an_open_market(&mut self) {
        let opens = self.paths.iter().filter(|path| !path.never_opens);
        let Some(opens_ms) = opens.map(|path| path.opens_ms.unwrap_or(self.next_ms)).min() else {
            self.next_ms = UnixMs::MAX;
            return;
        };
        let ahead = opens_ms.saturating_sub(self.next_ms).max(0);
        let steps = ahead / self.step_ms + i64::from(ahead % self.step_ms > 0);
        self.next_ms = self.next_ms.saturating_add(steps.saturating_mul(self.step_ms));
    }
}

impl PriceSource for RandomWalk {
    fn next_tick(&mut self) -> Result<Option<Tick>, PriceError> {
        while self.ready.is_empty() && self.next_ms <= self.until_ms.min(MAX_MS) {
            self.step();
        }
        Ok(self.ready.pop_front())
    }
}

impl Path {
    fn is_open(&mut self, hours: Option<&MarketHours>, at_ms: UnixMs) -> bool {
        let Some(hours) = hours else { return true };
        if self.never_opens || self.opens_ms.is_some_and(|opens_ms| at_ms < opens_ms) {
            return false;
        }
        let opens_ms = hours.next_open(self.own.class, &self.own.source, at_ms);
        self.never_opens = opens_ms.is_none();
        self.opens_ms = opens_ms.filter(|opens_ms| *opens_ms > at_ms);
        opens_ms == Some(at_ms)
    }

    fn tick(&mut self, at_ms: UnixMs, days: f64) -> Tick {
        let (own, scale) = (&self.own, scale(self.own.decimals));
        if self.moved {
            let drift = (own.drift - own.volatility * own.volatility / 2.0) * days;
            let mut moves = drift + own.volatility * days.sqrt() * self.random.normal();
            if self.random.uniform() < own.jumps_per_day * days {
                moves += own.jump_size * self.random.normal();
            }
            self.price = (self.price * exp(moves)).clamp(1.0 / scale, MOST_PRICE);
        }
        self.moved = true;
        let price = (self.price * scale).round().max(1.0) / scale;
        let tick = Tick::last(at_ms, own.pair.clone(), price);
        if own.spread <= 0.0 {
            return tick;
        }
        let half = price * own.spread / 2.0;
        let bid = ((price - half) * scale).floor().max(1.0) / scale;
        let ask = ((price + half) * scale).ceil() / scale;
        tick.with_book(bid.min(price), ask.max(price))
    }
}

/// What a price is multiplied by to make it whole.
fn scale(decimals: u8) -> f64 {
    (0..decimals).fold(1.0, |scale, _| scale * 10.0)
}

fn check(own: &WalkPair) -> Result<(), WalkError> {
    let pair = || own.pair.to_string();
    let within = |field, value: f64, least: f64, most: f64, allowed| {
        if value >= least && value <= most {
            return Ok(());
        }
        Err(WalkError::Setting { pair: pair(), field, value, allowed })
    };
    if !super::is_pair(own.pair.as_str()) {
        return Err(WalkError::UnknownPair { pair: own.pair.clone(), meant: None });
    }
    let places = f64::from(MOST_DECIMALS);
    within("decimals", f64::from(own.decimals), 0.0, places, "from 0 to 10")?;
    let least = 1.0 / scale(own.decimals);
    within("start", own.start, least, MOST_PRICE, "from one decimal place to 1e12")?;
    within("volatility", own.volatility, 0.0, 10.0, "from 0 to 10")?;
    within("drift", own.drift, -10.0, 10.0, "from -10 to 10")?;
    within("jumps_per_day", own.jumps_per_day, 0.0, 1e6, "from 0 to 1e6")?;
    within("jump_size", own.jump_size, 0.0, 1.0, "from 0 to 1")?;
    within("spread", own.spread, 0.0, 0.5, "from 0 to 0.5")
}
