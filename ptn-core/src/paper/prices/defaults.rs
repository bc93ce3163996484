//! What [`super`] assumes where nobody says otherwise, as data: `data/prices.json`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::FeedUrl;
use super::random_walk::WalkPair;
use crate::rules::{Era, RulesError};
use crate::store::UnixMs;
use crate::trade_pair::{TradePair, TradePairClass, TradePairId};

const DATA: &str = include_str!("../../../data/prices.json");

#[derive(Debug, Clone, Deserialize)]
struct Class {
    start: f64,
    volatility: f64,
    drift: f64,
    jumps_per_day: f64,
    jump_size: f64,
    spread: f64,
    digits: u8,
}

#[derive(Debug, Clone, Deserialize)]
struct Walk {
    pairs: BTreeMap<Era, Vec<TradePairId>>,
    classes: BTreeMap<TradePairClass, Class>,
    usd: BTreeMap<String, f64>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Steps {
    live: UnixMs,
    replay: UnixMs,
}

#[derive(Debug, Clone, Deserialize)]
struct Coinbase {
    url: FeedUrl,
    quote: String,
    stands_for: Vec<String>,
    bases: Vec<String>,
}

/// The file.
#[derive(Debug, Clone, Deserialize)]
pub struct PriceDefaults {
    walk: Walk,
    step_ms: Steps,
    coinbase: Coinbase,
}

impl PriceDefaults {
    /// The built-in ones.
    ///
    /// # Errors
    /// Never for the file that is compiled in; a test reads it.
    pub fn load() -> Result<Self, RulesError> {
        Self::from_json(DATA)
    }

    /// From the text of a file like `data/prices.json`.
    ///
    /// # Errors
    /// When it is not such a file; the error names the place.
    pub fn from_json(text: &str) -> Result<Self, RulesError> {
        let bad = |e: serde_json::Error| RulesError::Rules { reason: format!("prices: {e}") };
        serde_json::from_str(text).map_err(bad)
    }

    /// The pairs that a walk has when nobody names any.
    pub fn walk_pairs(&self, era: Era) -> &[TradePairId] {
        self.walk.pairs.get(&era).map(Vec::as_slice).unwrap_or_default()
    }

    /// From one price of a walk to the next, in ms, while it runs with the clock.
    pub const fn live_step_ms(&self) -> UnixMs {
        self.step_ms.live
    }

    /// From one price of a walk to the next, in ms, in a replay.
    pub const fn replay_step_ms(&self) -> UnixMs {
        self.step_ms.replay
    }

    /// Where Coinbase Exchange has its feed of market data.
    pub const fn coinbase_url(&self) -> &FeedUrl {
        &self.coinbase.url
    }

    /// The product of Coinbase Exchange whose price is that of a pair; nothing when there is none.
    pub fn coinbase_product(&self, pair: &TradePair) -> Option<String> {
        let own = &self.coinbase;
        let (base, quote) = pair.display_name.split_once('/')?;
        let traded = own.bases.iter().any(|known| known == base);
        let stands = own.stands_for.iter().any(|known| known == quote);
        let crypto = pair.class == TradePairClass::Crypto;
        (crypto && traded && stands).then(|| format!("{base}-{}", own.quote))
    }

    /// How a pair walks; nothing for a class that the file does not have.
    pub fn walk_pair(&self, pair: &TradePair) -> Option<WalkPair> {
        let class = self.walk.classes.get(&pair.class)?;
        let (base, quote) =
            pair.display_name.split_once('/').unwrap_or((&pair.display_name, "USD"));
        let usd = |currency: &str| self.walk.usd.get(currency);
        let start = match (usd(base), usd(quote)) {
            (Some(base), Some(quote)) => base / quote,
            _ => class.start,
        };
        let decimals = decimals(start, class.digits);
        Some(WalkPair {
            pair: pair.id.clone(),
            class: pair.class,
            source: pair.source.clone(),
            start,
            volatility: class.volatility,
            drift: class.drift,
            jumps_per_day: class.jumps_per_day,
            jump_size: class.jump_size,
            spread: class.spread,
            decimals,
        })
    }
}

/// Decimal places that give a price so many significant digits.
fn decimals(price: f64, digits: u8) -> u8 {
    let (mut places, mut power) = (digits.saturating_sub(1), 1.0);
    while price >= power * 10.0 && places > 0 {
        places -= 1;
        power *= 10.0;
    }
    let mut small = price;
    while small < 1.0 && places < super::random_walk::MOST_DECIMALS {
        places += 1;
        small *= 10.0;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Rules;

    #[test]
    fn every_pair_of_every_rule_set_can_walk() {
        let defaults = PriceDefaults::load().unwrap();
        for era in [Era::Y2024, Era::Y2025, Era::Y2026] {
            let rules = Rules::load(era).unwrap();
            for pair in rules.catalogue.iter() {
                let walk = defaults.walk_pair(pair).unwrap();
                assert!(walk.start > 0.0 && walk.volatility > 0.0, "{walk:?}");
            }
            let named = defaults.walk_pairs(era);
            assert!(!named.is_empty());
            for id in named {
                let pair = rules.catalogue.get(id.as_str()).unwrap();
                assert!(era == Era::Y2024 || pair.blocked.is_none(), "{id}");
            }
        }
    }

    #[test]
    fn start_prices_come_from_both_sides_of_a_pair_and_keep_sensible_digits() {
        let defaults = PriceDefaults::load().unwrap();
        let rules = Rules::load(Era::Y2026).unwrap();
        let walk = |id: &str| {
            let walk = defaults.walk_pair(rules.catalogue.get(id).unwrap()).unwrap();
            (format!("{:.*}", usize::from(walk.decimals), walk.start), walk.decimals)
        };
        assert_eq!(walk("BTCUSDC"), ("100000.0".to_owned(), 1));
        assert_eq!(walk("EURUSD"), ("1.10000".to_owned(), 5));
        assert_eq!(walk("USDJPY"), ("148.148".to_owned(), 3));
        assert_eq!(walk("AAPL"), ("100.00".to_owned(), 2));
        assert_eq!(walk("kPEPEUSDC"), ("0.01000000".to_owned(), 8));
    }

    #[test]
    fn a_product_stands_for_the_pairs_of_its_coin_in_dollars() {
        let defaults = PriceDefaults::load().unwrap();
        let rules = Rules::load(Era::Y2026).unwrap();
        let product = |id: &str| defaults.coinbase_product(rules.catalogue.get(id).unwrap());
        assert_eq!(product("BTCUSDC").as_deref(), Some("BTC-USD"));
        assert_eq!(product("BTCUSD").as_deref(), Some("BTC-USD"));
        for none in ["EURUSD", "AAPL", "GOLDUSDC", "kPEPEUSDC"] {
            assert_eq!(product(none), None, "{none}");
        }
        let bases = &defaults.coinbase.bases;
        let known = |base: &String| rules.catalogue.get(&format!("{base}USDC")).is_some();
        assert!(bases.iter().all(known), "{bases:?}");
    }

    #[test]
    fn a_damaged_file_is_refused() {
        assert!(PriceDefaults::from_json("{}").is_err());
    }
}
