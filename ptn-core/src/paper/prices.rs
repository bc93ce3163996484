//! Where prices come from: [`PriceSource`], and the sources that there are.
//!
//! | source | is | feature |
//! |---|---|---|
//! | [`csv::CsvPrices`] | a file of ticks or of bars | `paper` |
//! | [`random_walk::RandomWalk`] | made-up prices, the same for the same seed on every machine | `paper` |
//! | [`pushed::channel`] | prices that somebody pushes: [`push::read`] reads the bodies of HTTP | `paper` |
//! | `coinbase::CoinbaseFeed` | the live ticker of Coinbase Exchange, pushed into such a channel | `paper-live` |
//!
//! [`PriceSpec`] is the text by which a user names one. What a price does is left to [`super::book`],
//! listening on sockets to others.
//!
//! What must stay true: a price is finite and above zero, a bid is not above its ask, and the times
//! of one pair never go back. In files and walks no time goes back at all; live prices carry the times
//! of their exchanges, so a price of one pair may be older than the last price of another.

#[cfg(feature = "paper-live")]
pub mod coinbase;
pub mod csv;
mod defaults;
pub mod push;
pub mod pushed;
pub mod random_walk;
mod spec;

pub use csv::CsvPrices;
pub use defaults::PriceDefaults;
pub use pushed::{PriceSender, Pushed, PushedError, PushedPrices};
pub use random_walk::RandomWalk;
pub use spec::{FeedUrl, PriceSpec, PriceSpecError};

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::market::Quote;
use crate::store::UnixMs;
use crate::trade_pair::TradePairId;

/// The year 3000: what comes later is no time in ms.
pub const MAX_MS: UnixMs = 32_503_680_000_000;
/// No id of a pair is longer, in bytes.
pub const LONGEST_PAIR: usize = 40;

/// The price of a pair at a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tick {
    /// When, in ms.
    pub at_ms: UnixMs,
    /// The pair.
    pub pair: TradePairId,
    /// Last trade, in the quote currency; finite and above 0.
    pub price: f64,
    /// Best bid, where it is known; forex is sold at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bid: Option<f64>,
    /// Best ask, where it is known; forex is bought at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask: Option<f64>,
}

impl Tick {
    /// A last trade without a book.
    pub fn last(at_ms: UnixMs, pair: impl Into<TradePairId>, price: f64) -> Self {
        Self { at_ms, pair: pair.into(), price, bid: None, ask: None }
    }

    /// The same with the best bid and ask.
    #[must_use]
    pub fn with_book(self, bid: f64, ask: f64) -> Self {
        Self { bid: Some(bid), ask: Some(ask), ..self }
    }

    /// What the rules take: this price, without rates to other currencies and without slippage.
    pub fn quote(&self) -> Quote {
        Quote { bid: self.bid, ask: self.ask, ..Quote::last(self.price, self.at_ms) }
    }

    /// The first field that no price may have: it is not finite, not above zero, or a bid above its
    /// ask.
    pub fn flaw(&self) -> Option<&'static str> {
        let bad = |value: f64| !(value.is_finite() && value > 0.0);
        let crossed = self.bid.zip(self.ask).is_some_and(|(bid, ask)| bid > ask);
        match self {
            _ if !(0..=MAX_MS).contains(&self.at_ms) => Some("time_ms"),
            _ if !is_pair(self.pair.as_str()) => Some("trade_pair"),
            _ if bad(self.price) => Some("price"),
            _ if self.bid.is_some_and(bad) => Some("bid"),
            _ if self.ask.is_some_and(bad) || crossed => Some("ask"),
            _ => None,
        }
    }
}

/// Whether this can be the id of a pair; whether there is such a pair is for the catalogue to say.
fn is_pair(text: &str) -> bool {
    !text.is_empty() && text.len() <= LONGEST_PAIR && !text.chars().any(char::is_control)
}

/// Prices, one after the other; the module says in which order.
pub trait PriceSource {
    /// The next price; `None` at the end. A live source waits for it.
    ///
    /// # Errors
    /// When the source cannot go on.
    fn next_tick(&mut self) -> Result<Option<Tick>, PriceError>;
}

/// Prices that are there already; they must be in the order of their times.
impl PriceSource for VecDeque<Tick> {
    fn next_tick(&mut self) -> Result<Option<Tick>, PriceError> {
        Ok(self.pop_front())
    }
}

impl<S: PriceSource + ?Sized> PriceSource for Box<S> {
    fn next_tick(&mut self) -> Result<Option<Tick>, PriceError> {
        (**self).next_tick()
    }
}

/// A price file that cannot be read on. Lines count from 1, the header included.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PriceError {
    /// The file.
    #[error("line {line} cannot be read: {source}")]
    Io {
        /// Where.
        line: u64,
        /// Why.
        source: std::io::Error,
    },
    /// The first line.
    #[error(
        "line 1, header: {found:?} is not a header of prices; write {} or {}",
        csv::TICKS,
        csv::BARS
    )]
    Header {
        /// What stands there.
        found: String,
    },
    /// A value.
    #[error("line {line}, {field}: {value:?} is not allowed; write {allowed}")]
    Field {
        /// Where.
        line: u64,
        /// The column.
        field: &'static str,
        /// What stands there.
        value: String,
        /// What would be right.
        allowed: &'static str,
    },
    /// The number of values.
    #[error("line {line}: {found} values, but the header has {expected}; write one per column")]
    Columns {
        /// Where.
        line: u64,
        /// How many there are.
        found: usize,
        /// How many there must be.
        expected: usize,
    },
    /// Time goes forward only.
    #[error("line {line}, time_ms: {at_ms} comes after {last_ms}; sort the file by time_ms")]
    Order {
        /// Where.
        line: u64,
        /// Its time.
        at_ms: UnixMs,
        /// The time before.
        last_ms: UnixMs,
    },
    /// A bar whose prices contradict each other.
    #[error(
        "line {line}, {field}: {price} is outside of low {low} to high {high}; correct the bar"
    )]
    Bar {
        /// Where.
        line: u64,
        /// The column.
        field: &'static str,
        /// Its price.
        price: f64,
        /// The low.
        low: f64,
        /// The high.
        high: f64,
    },
    /// A book that crosses itself.
    #[error("line {line}, ask: {ask} is below the bid {bid}; correct one of them")]
    Crossed {
        /// Where.
        line: u64,
        /// The bid.
        bid: f64,
        /// The ask.
        ask: f64,
    },
}

impl PriceError {
    /// A stable name.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "prices_io",
            Self::Header { .. } => "prices_header",
            Self::Field { .. } => "prices_field",
            Self::Columns { .. } => "prices_columns",
            Self::Order { .. } => "prices_order",
            Self::Bar { .. } => "prices_bar",
            Self::Crossed { .. } => "prices_crossed",
        }
    }
}
