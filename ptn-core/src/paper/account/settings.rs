//! What is decided about an account of 2026 before it trades, and the caps that follow.

use serde::{Deserialize, Serialize};

use crate::paper::rules::{PairRules, Rules2026};

/// How large positions may become.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Caps {
    /// By account size and asset class selection.
    #[default]
    ByTier,
    /// As given, in multiples of the balance; nothing is no cap.
    Fixed {
        /// One position.
        positional: Option<f64>,
        /// All positions.
        portfolio: Option<f64>,
    },
}

/// What is decided about an account before it trades.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AccountSettings {
    /// US dollars.
    pub account_size: f64,
    /// The selected asset class: a class, `hl_all`, or `all_markets`. Without one nothing is taken.
    pub asset_class: Option<String>,
    /// A subaccount in its challenge: the lowest tier, whatever its size.
    pub challenge: bool,
    /// How large positions may become.
    pub caps: Caps,
}

impl AccountSettings {
    /// An account of this size, in US dollars, that may trade everything.
    pub fn of_size(account_size: f64) -> Self {
        Self {
            account_size,
            asset_class: Some("all_markets".to_owned()),
            challenge: false,
            caps: Caps::ByTier,
        }
    }

    /// Whether the selection allows a pair.
    pub fn allows(&self, pair: &PairRules) -> bool {
        match self.asset_class.as_deref() {
            None => false,
            Some("all_markets") => true,
            Some("hl_all") => !pair.is_native(),
            Some(class) => class == pair.class.as_str(),
        }
    }

    fn tier(&self, own: &Rules2026) -> u8 {
        let mut reached = own.tiers.iter().filter(|tier| self.account_size >= tier.min_usd);
        let tier = reached.next_back().map_or(1, |tier| tier.tier);
        if self.challenge { 1 } else { tier }
    }

    /// Cap of one position and of all, as multiples of the balance.
    pub fn caps(&self, pair: &PairRules, own: &Rules2026) -> (Option<f64>, Option<f64>) {
        match self.caps {
            Caps::Fixed { positional, portfolio } => (positional, portfolio),
            Caps::ByTier => {
                let tier = self.tier(own).to_string();
                let pair_cap = pair.positional_leverage_by_tier.get(&tier);
                let class = self.asset_class.as_deref().unwrap_or_default();
                let portfolio = own.portfolio.get(class).and_then(|by_tier| by_tier.get(&tier));
                (
                    Some(pair_cap.copied().unwrap_or(pair.max_leverage)),
                    Some(portfolio.copied().unwrap_or(own.multiplier_without_cap)),
                )
            }
        }
    }
}
