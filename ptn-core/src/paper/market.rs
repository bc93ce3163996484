//! Prices as the rules see them: the last quote of every pair, and its value in US dollars.
//!
//! Where prices come from is left to others; they are values with a time. Nothing here decides
//! whether an order is taken.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::rules::{Generation, PairRules, PaperRules, Rules2026};
use crate::order::OrderType;
use crate::store::UnixMs;
use crate::trade_pair::TradePairId;

/// The price of a pair at a time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quote {
    /// When, in ms.
    pub at_ms: UnixMs,
    /// Last trade, in the quote currency.
    pub price: f64,
    /// Best bid; the last trade stands in for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bid: Option<f64>,
    /// Best ask; the last trade stands in for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask: Option<f64>,
    /// Base units for one US dollar. Needed only where neither side of the pair is the dollar,
    /// and then one of the two rates is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usd_base: Option<f64>,
    /// US dollars for one unit of the quote currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote_usd: Option<f64>,
    /// By how much a market order would slip now, as a fraction of the price; taken as it is.
    /// [`super::fees::slippage`] has the network's formulas.
    #[serde(default)]
    pub slippage: f64,
}

impl Quote {
    /// A last trade.
    pub const fn last(price: f64, at_ms: UnixMs) -> Self {
        Self { at_ms, price, bid: None, ask: None, usd_base: None, quote_usd: None, slippage: 0.0 }
    }

    /// Whether it can be traded on: finite, and above zero.
    pub fn is_usable(&self) -> bool {
        let fine = |p: f64| p.is_finite() && p > 0.0;
        let rates = [self.bid, self.ask, self.usd_base, self.quote_usd];
        let slips = self.slippage.is_finite() && (0.0..1.0).contains(&self.slippage);
        fine(self.price) && slips && rates.into_iter().flatten().all(fine)
    }

    /// What a seller gets.
    pub fn bid_or_price(&self) -> f64 {
        self.bid.unwrap_or(self.price)
    }

    /// What a buyer pays.
    pub fn ask_or_price(&self) -> f64 {
        self.ask.unwrap_or(self.price)
    }

    /// Halfway between bid and ask.
    pub fn mid(&self) -> f64 {
        f64::midpoint(self.bid_or_price(), self.ask_or_price())
    }

    /// The price of a market order: the side of the book for forex, the last trade otherwise.
    /// `position` is the side of the position that a FLAT closes.
    pub(crate) fn fill_price(
        &self,
        pair: &PairRules,
        order: OrderType,
        position: OrderType,
    ) -> f64 {
        if pair.class != crate::trade_pair::TradePairClass::Forex {
            return self.price;
        }
        let buys = match order {
            OrderType::Long => true,
            OrderType::Short => false,
            OrderType::Flat => position == OrderType::Short,
        };
        if buys { self.ask_or_price() } else { self.bid_or_price() }
    }

    /// The rates to and from US dollars at this price; nothing when they cannot be known.
    pub(crate) fn rates(&self, pair: &PairRules, rules: &Rules2026, price: f64) -> Option<Rates> {
        let is_usd = |currency: &str| rules.usd_like.iter().any(|usd| usd == currency);
        let (usd_base, quote_usd) = match (self.usd_base, self.quote_usd) {
            (Some(base), Some(quote)) => (base, quote),
            (base, quote) if is_usd(&pair.quote) => {
                (base.unwrap_or(1.0 / price), quote.unwrap_or(1.0))
            }
            (base, quote) if is_usd(&pair.base) => {
                (base.unwrap_or(1.0), quote.unwrap_or(1.0 / price))
            }
            (None, Some(quote)) => (1.0 / (price * quote), quote),
            (Some(base), None) => (base, 1.0 / (price * base)),
            (None, None) => return None,
        };
        Some(Rates { usd_base, quote_usd })
    }
}

/// What a pair is worth in US dollars.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rates {
    /// Base units for one US dollar.
    pub(crate) usd_base: f64,
    /// US dollars for one unit of the quote currency.
    pub(crate) quote_usd: f64,
}

/// The last quote of every pair.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Market {
    quotes: BTreeMap<TradePairId, Quote>,
}

impl Market {
    /// A market without prices.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a newer quote; one that cannot be traded on, or is older than the last, changes
    /// nothing and gives false.
    pub fn set(&mut self, pair: TradePairId, quote: Quote) -> bool {
        let newer = self.quotes.get(&pair).is_none_or(|last| quote.at_ms >= last.at_ms);
        let taken = newer && quote.is_usable();
        if taken {
            self.quotes.insert(pair, quote);
        }
        taken
    }

    /// The last quote of a pair.
    pub fn get(&self, pair: &TradePairId) -> Option<&Quote> {
        self.quotes.get(pair)
    }

    /// A quote with the rates to US dollars that other pairs give, where it has none of its own and
    /// neither side of its pair is the dollar.
    pub(crate) fn with_rates(&self, pair: &PairRules, rules: &PaperRules, quote: Quote) -> Quote {
        let Generation::Y2026(own) = &rules.generation else { return quote };
        let is_usd = |currency: &str| own.usd_like.iter().any(|usd| usd == currency);
        let known = quote.usd_base.is_some() || quote.quote_usd.is_some();
        if known || is_usd(&pair.quote) || is_usd(&pair.base) {
            return quote;
        }
        let quote_usd = self.quotes.iter().find_map(|(id, last)| {
            let other = rules.pair(id)?;
            match (other.base == pair.quote, other.quote == pair.quote) {
                (true, _) if is_usd(&other.quote) => Some(last.price),
                (_, true) if is_usd(&other.base) => Some(1.0 / last.price),
                _ => None,
            }
        });
        Quote { quote_usd, ..quote }
    }

    /// Every pair with its last quote.
    pub fn iter(&self) -> impl Iterator<Item = (&TradePairId, &Quote)> {
        self.quotes.iter()
    }
}
