//! Rule sets as data: the catalogue, the network's limits, and how its reference miner sends.
//!
//! The files under `data/` are compiled in and can be replaced at run time. No number of the
//! network's rules stands in code. Applying them is left to `signal::validate` and `deliver`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::trade_pair::TradePairCatalogue;

/// A generation of the network's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Era {
    /// April 2024: market orders with leverage only.
    #[serde(rename = "2024")]
    Y2024,
    /// December 2025: limit and bracket orders, values and quantities.
    #[serde(rename = "2025")]
    Y2025,
    /// 2026: one authoritative validator, every execution type.
    #[serde(rename = "2026")]
    Y2026,
}

impl Era {
    /// The name in `--rules`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Y2024 => "2024",
            Self::Y2025 => "2025",
            Self::Y2026 => "2026",
        }
    }

    /// Reads the name in `--rules`; `2025-12` is 2025.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "2024" => Some(Self::Y2024),
            "2025" | "2025-12" => Some(Self::Y2025),
            "2026" => Some(Self::Y2026),
            _ => None,
        }
    }
}

impl fmt::Display for Era {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a data file was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RulesError {
    /// The rules file.
    #[error("the rules file cannot be read: {reason}")]
    Rules {
        /// What is wrong and where.
        reason: String,
    },
    /// The trade pair catalogue.
    #[error("the trade pair catalogue cannot be read: {reason}")]
    Catalogue {
        /// What is wrong and where.
        reason: String,
    },
}

/// What to do with a trade pair that the catalogue does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownPairs {
    /// Refuse it, with a suggestion.
    #[default]
    Refuse,
    /// Let the validator judge, as the network's own server of 2026 does.
    Pass,
}

/// Who must acknowledge a signal, by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyName {
    /// One authoritative validator; trusted ones get a copy.
    Mothership,
    /// Every validator with enough trust.
    Trust,
    /// Every validator.
    All,
}

/// How the reference miner of a rule set sends.
#[derive(Debug, Clone, Deserialize)]
pub struct DeliveryRules {
    /// Who must acknowledge.
    pub policy: PolicyName,
    /// Wait before attempt 2, 3, ...; its length plus one is the number of attempts.
    pub wait_ms: Vec<u64>,
    /// For one attempt, everything included.
    pub timeout_ms: u64,
    /// Whether a validator recognises an order uuid that it has seen. Without that, an order whose
    /// answer was lost must not be sent again.
    pub recognises_repeats: bool,
    /// Whether a failure is retried only at validators with trust, or that answered before.
    pub retry_only_trusted: bool,
    /// After this a market order that opens or increases a position is not sent any more.
    pub market_max_age_ms: u64,
    /// How often the metagraph is read.
    pub refresh_ms: u64,
    /// `repo_version` of the reference miner.
    pub repo_version: Option<String>,
}

/// The network's limit on requests of one hotkey at one validator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct RateLimit {
    /// Requests allowed in a window.
    pub max_requests: u32,
    /// Length of the window, which starts with the first request, in seconds.
    pub window_s: u64,
}

#[derive(Debug, Clone, Deserialize)]
struct MothershipFile {
    mainnet: String,
    testnet: String,
}

#[derive(Debug, Deserialize)]
struct RulesFile {
    order_cooldown_ms: u64,
    request_rate_limit: RateLimit,
    high_v_trust_threshold: Option<f64>,
    mothership_hotkey: Option<MothershipFile>,
}

#[derive(Debug, Deserialize)]
struct DeliveryFile {
    #[serde(rename = "2024")]
    y2024: DeliveryRules,
    #[serde(rename = "2025")]
    y2025: DeliveryRules,
    #[serde(rename = "2026")]
    y2026: DeliveryRules,
}

/// One rule set, complete.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Which generation.
    pub era: Era,
    /// Its trade pairs.
    pub catalogue: TradePairCatalogue,
    /// What to do with other pairs.
    pub unknown_pairs: UnknownPairs,
    /// How it is sent.
    pub delivery: DeliveryRules,
    /// Shortest time between two orders of one pair.
    pub cooldown: Duration,
    /// Requests per hotkey and validator.
    pub rate_limit: RateLimit,
    /// From this trust on a validator counts as trusted.
    pub trust_floor: f64,
    /// The authoritative validator's hotkey on the main network.
    pub mothership_mainnet: Option<String>,
    /// The authoritative validator's hotkey on the test network.
    pub mothership_testnet: Option<String>,
}

pub(crate) const RULES_2024: &str = include_str!("../data/rules_2024.json");
const RULES_2025: &str = include_str!("../data/rules_2025.json");
pub(crate) const RULES_2026: &str = include_str!("../data/rules_2026.json");
pub(crate) const PAIRS_2024: &str = include_str!("../data/trade_pairs_2024.json");
pub(crate) const PAIRS_2026: &str = include_str!("../data/trade_pairs.json");
const DELIVERY: &str = include_str!("../data/delivery.json");

impl Rules {
    /// The built-in rule set of a generation.
    ///
    /// # Errors
    /// Never for the files that are compiled in; a test reads them all.
    pub fn load(era: Era) -> Result<Self, RulesError> {
        Self::from_files(era, None, None)
    }

    /// A rule set with its rules or its catalogue replaced by the text of a file.
    ///
    /// # Errors
    /// When a file cannot be read; the error names the place.
    pub fn from_files(
        era: Era,
        rules: Option<&str>,
        catalogue: Option<&str>,
    ) -> Result<Self, RulesError> {
        let bad = |e: serde_json::Error| RulesError::Rules { reason: e.to_string() };
        let text = rules.unwrap_or(match era {
            Era::Y2024 => RULES_2024,
            Era::Y2025 => RULES_2025,
            Era::Y2026 => RULES_2026,
        });
        let file: RulesFile = serde_json::from_str(text).map_err(bad)?;
        let delivery: DeliveryFile = serde_json::from_str(DELIVERY).map_err(bad)?;
        let catalogue = match (catalogue, era) {
            (Some(text), _) => TradePairCatalogue::from_json(text)?,
            (None, Era::Y2024) => TradePairCatalogue::from_json(PAIRS_2024)?,
            (None, Era::Y2025) => {
                // The native pairs of 2026 were all there, and none was retired yet.
                let mut all = TradePairCatalogue::from_json(PAIRS_2026)?;
                all.retain(|pair| {
                    pair.blocked = None;
                    pair.source == "vanta"
                });
                all.extend(TradePairCatalogue::from_json(PAIRS_2024)?);
                all
            }
            (None, Era::Y2026) => TradePairCatalogue::from_json(PAIRS_2026)?,
        };
        Ok(Self {
            era,
            catalogue,
            unknown_pairs: UnknownPairs::Refuse,
            delivery: match era {
                Era::Y2024 => delivery.y2024,
                Era::Y2025 => delivery.y2025,
                Era::Y2026 => delivery.y2026,
            },
            cooldown: Duration::from_millis(file.order_cooldown_ms),
            rate_limit: file.request_rate_limit,
            trust_floor: file.high_v_trust_threshold.unwrap_or(0.0),
            mothership_mainnet: file.mothership_hotkey.as_ref().map(|m| m.mainnet.clone()),
            mothership_testnet: file.mothership_hotkey.map(|m| m.testnet),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_rule_set_loads() {
        for era in [Era::Y2024, Era::Y2025, Era::Y2026] {
            let rules = Rules::load(era).unwrap();
            assert!(rules.catalogue.iter().count() > 20, "{era}");
            assert_eq!(rules.rate_limit.max_requests, 10);
        }
    }

    #[test]
    fn a_wrong_name_finds_the_pair_that_was_meant() {
        let rules = Rules::load(Era::Y2026).unwrap();
        let suggest = |t: &str| rules.catalogue.suggest(t).map(|p| p.id.to_string());
        assert_eq!(suggest("btcusdc").as_deref(), Some("BTCUSDC"));
        assert_eq!(suggest("BTC/USD").as_deref(), Some("BTCUSDC"));
        assert_eq!(suggest("BINANCE:BTCUSDT").as_deref(), Some("BTCUSDC"));
        assert_eq!(suggest("eur/usd").as_deref(), Some("EURUSD"));
        assert_eq!(suggest("NOSUCHPAIR"), None);
    }
}
