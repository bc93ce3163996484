//! The rules of positions as data: what [`crate::rules::Rules`] leaves out because sending does not
//! need it. Read from the same files; the formulas are in the modules beside this one.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::market_hours::MarketHours;
use crate::rules::{Era, PAIRS_2024, PAIRS_2026, RULES_2024, RULES_2026, RateLimit, RulesError};
use crate::store::UnixMs;
use crate::trade_pair::{TradePairClass, TradePairId};

const PAPER: &str = include_str!("../../data/paper.json");

/// The source of the network's own pairs; everything of 2024 is one.
const NATIVE: &str = "vanta";

/// Which caps and fees a pair has.
#[derive(Debug, Clone, Deserialize)]
pub struct PairRules {
    /// Its id.
    #[serde(rename = "trade_pair_id")]
    pub id: TradePairId,
    /// Its market.
    #[serde(rename = "trade_pair_class")]
    pub class: TradePairClass,
    /// `vanta` or `hyperliquid`: decides about hours and carry.
    #[serde(default = "native")]
    pub source: String,
    /// What one unit of quantity is, in base units.
    #[serde(default = "one")]
    pub lot_size: f64,
    /// Smallest leverage of an order (2024).
    #[serde(default)]
    pub min_leverage: f64,
    /// Largest leverage: of an order and of a position (2024).
    #[serde(default)]
    pub max_leverage: f64,
    /// 2024: share of the return, per unit of the highest leverage held.
    #[serde(default)]
    pub fee: f64,
    /// 2026: share of the value, on entry and on exit.
    #[serde(default)]
    pub transaction_fee_rate: f64,
    /// The name of its carry rule, or `none`.
    #[serde(default)]
    pub carry: String,
    /// The bought currency or asset.
    #[serde(default)]
    pub base: String,
    /// The currency of its price.
    #[serde(default)]
    pub quote: String,
    /// Cap of a position as a multiple of the balance, by tier.
    #[serde(default)]
    pub positional_leverage_by_tier: BTreeMap<String, f64>,
    /// Whether validators refuse it.
    #[serde(default)]
    pub blocked: bool,
    /// Bounds as the data file writes them, for the error texts.
    #[serde(skip)]
    pub(crate) bounds_text: (String, String),
}

fn native() -> String {
    NATIVE.to_owned()
}

const fn one() -> f64 {
    1.0
}

impl PairRules {
    /// Whether it is one of the network's own pairs.
    pub fn is_native(&self) -> bool {
        self.source == NATIVE
    }
}

/// What only the rule set of 2024 has.
#[derive(Debug, Clone)]
pub struct Rules2024 {
    /// Orders in all open positions from which on only FLAT is taken.
    pub max_open_orders: usize,
    /// Older prices count as a closed market, in ms.
    pub stale_after_ms: UnixMs,
    /// Classes that validators refuse.
    pub halted_classes: Vec<TradePairClass>,
}

/// From this account size on, in USD, a tier applies.
#[derive(Debug, Clone, Deserialize)]
pub struct TierFrom {
    /// The tier.
    pub tier: u8,
    /// The account size.
    pub min_usd: f64,
}

/// The smallest positions.
#[derive(Debug, Clone, Deserialize)]
pub struct MinPosition {
    /// Crypto, in USD.
    pub crypto_usd: f64,
    /// Anything else that is not named here, in USD.
    pub default_usd: f64,
    /// Equities, in shares.
    pub equities_shares: f64,
    /// Forex, in lots.
    pub forex_lots: f64,
    /// Forex in a small account, in lots.
    pub forex_lots_small_account: f64,
}

/// The steps of quantities.
#[derive(Debug, Clone, Deserialize)]
pub struct QuantitySteps {
    /// Crypto, and classes that are not named here.
    pub crypto: f64,
    /// Commodities.
    pub commodities: f64,
    /// Equities.
    pub equities: f64,
    /// Forex, in lots.
    pub forex: f64,
    /// Forex in a small account, in lots.
    pub forex_small_account: f64,
}

/// A carry rule with a flat rate.
#[derive(Debug, Clone, Deserialize)]
pub struct FlatCarry {
    /// Share of the market value per interval.
    pub rate: f64,
    /// The interval, in hours.
    pub interval_h: i64,
    /// Whether the network charges it.
    #[serde(default = "yes")]
    pub applied: bool,
}

const fn yes() -> bool {
    true
}

/// Rates of native equities, per year.
#[derive(Debug, Clone, Deserialize)]
pub struct EquityCarry {
    /// On the market value of a short position.
    pub short_borrow_annual: f64,
    /// On the margin loan of a long position.
    pub long_margin_interest_annual: f64,
}

/// The carry rules that a pair's `carry` can name.
#[derive(Debug, Clone, Deserialize)]
pub struct CarryRules {
    flat_crypto: FlatCarry,
    flat_forex: FlatCarry,
    flat_indices: FlatCarry,
    /// Native equities.
    pub equity_borrow_or_interest: EquityCarry,
}

impl CarryRules {
    /// The flat rule of this name that is charged.
    pub fn flat(&self, name: &str) -> Option<&FlatCarry> {
        let rule = match name {
            "flat_crypto" => &self.flat_crypto,
            "flat_forex" => &self.flat_forex,
            "flat_indices" => &self.flat_indices,
            _ => return None,
        };
        rule.applied.then_some(rule)
    }
}

/// Slippage where the network has a formula that needs no model of the market.
#[derive(Debug, Clone, Deserialize)]
pub struct SlippageRules {
    /// Orders up to this value slip nothing, in USD.
    pub min_order_usd: f64,
    /// Nothing slips more, as a fraction.
    pub cap: f64,
    /// Forex, as fractions.
    pub forex: ForexSlippage,
}

/// Forex slippage.
#[derive(Debug, Clone, Deserialize)]
pub struct ForexSlippage {
    /// At most times.
    pub normal: f64,
    /// In the hour after 17:00 in New York.
    pub ny_17_to_18: f64,
}

/// Below these an order that reduces closes the whole position.
#[derive(Debug, Clone, Deserialize)]
pub struct EffectiveClose {
    /// Quantity that would be left.
    pub quantity: f64,
    /// Value that would be left, in USD.
    pub usd: f64,
}

/// What only the rule set of 2026 has.
#[derive(Debug, Clone)]
pub struct Rules2026 {
    /// Orders in a position from which on a non-FLAT order closes it first.
    pub max_orders_per_position: usize,
    /// Unfilled resting orders of a hotkey.
    pub max_unfilled: usize,
    /// Shortest time between two fills of resting orders of a pair, in ms.
    pub fill_interval_ms: UnixMs,
    /// Steps of quantities.
    pub steps: QuantitySteps,
    /// Up to this size an account is small, in USD.
    pub small_account_usd: f64,
    /// Smallest positions.
    pub min_position: MinPosition,
    /// Tiers by account size, ascending.
    pub tiers: Vec<TierFrom>,
    /// Cap of all positions as a multiple of the balance, by asset class selection and tier.
    pub portfolio: BTreeMap<String, BTreeMap<String, f64>>,
    /// Carry.
    pub carry: CarryRules,
    /// Slippage.
    pub slippage: SlippageRules,
    /// Size of an account without collateral records, in USD.
    pub default_account_usd: f64,
    /// When a reduction is a close.
    pub effective_close: EffectiveClose,
    /// Orders below this value or quantity are nothing.
    pub smallest_order: f64,
    /// Share of an equity order beyond the cash that is a loan.
    pub margin_loan_share: f64,
    /// Stands in for the portfolio multiplier in the fee reserve of an uncapped account.
    pub multiplier_without_cap: f64,
    /// The word after the rate limit's text.
    pub rate_limit_method: String,
    /// Where the network explains asset classes.
    pub asset_class_help: String,
    /// Currencies that count as USD.
    pub usd_like: Vec<String>,
}

/// The part that differs between the rule sets.
#[derive(Debug, Clone)]
pub enum Generation {
    /// Leverage, returns and one fee.
    Y2024(Rules2024),
    /// Values, quantities, caps and accounts.
    Y2026(Box<Rules2026>),
}

/// Everything that a paper validator judges by.
#[derive(Debug, Clone)]
pub struct PaperRules {
    /// Shortest time between two orders, in ms.
    pub cooldown_ms: UnixMs,
    /// Requests of a hotkey.
    pub rate_limit: RateLimit,
    /// The pairs.
    pub pairs: BTreeMap<TradePairId, PairRules>,
    /// When the markets are open (2026).
    pub hours: MarketHours,
    /// The rest.
    pub generation: Generation,
}

#[derive(Deserialize)]
struct Common {
    order_cooldown_ms: UnixMs,
    request_rate_limit: RateLimit,
}

#[derive(Deserialize)]
struct File2024 {
    max_open_orders_per_hotkey: usize,
    market_hours: Hours2024,
}

#[derive(Deserialize)]
struct Hours2024 {
    stale_after_s: UnixMs,
    halted_classes: Vec<TradePairClass>,
}

#[derive(Deserialize)]
struct File2026 {
    max_orders_per_position: usize,
    max_unfilled_limit_orders: usize,
    limit_fill_interval_ms: UnixMs,
    order_bounds: OrderBounds,
    leverage: LeverageFile,
    fees: FeesFile,
    slippage: SlippageRules,
    account: AccountFile,
}

#[derive(Deserialize)]
struct OrderBounds {
    min_order_quantity: QuantitySteps,
    forex_small_account_usd: f64,
    min_position: MinPosition,
}

#[derive(Deserialize)]
struct LeverageFile {
    tier_by_account_size: Vec<TierFrom>,
    portfolio_by_asset_class: BTreeMap<String, BTreeMap<String, f64>>,
}

#[derive(Deserialize)]
struct FeesFile {
    carry: CarryRules,
}

#[derive(Deserialize)]
struct AccountFile {
    default_capital_usd: f64,
}

#[derive(Deserialize)]
struct PaperFile {
    #[serde(rename = "2026")]
    y2026: Paper2026,
}

#[derive(Deserialize)]
struct Paper2026 {
    effective_close: EffectiveClose,
    smallest_order: f64,
    equity_margin_loan_share: f64,
    multiplier_without_cap: f64,
    rate_limit_method: String,
    asset_class_help: String,
    quote_usd_currencies: Vec<String>,
}

#[derive(Deserialize)]
struct Catalogue<'a> {
    // As text: more than a thousand trees would leave megabytes of holes behind.
    #[serde(borrow)]
    trade_pairs: Vec<&'a RawValue>,
}

/// As the catalogue writes them.
#[derive(Deserialize)]
struct Bounds<'a> {
    #[serde(borrow)]
    min_leverage: Option<&'a RawValue>,
    #[serde(borrow)]
    max_leverage: Option<&'a RawValue>,
}

impl PaperRules {
    /// The built-in rules of 2024 or 2026.
    ///
    /// # Errors
    /// For 2025, whose positions are not known to this crate. Never for the others; a test reads
    /// them.
    pub fn load(era: Era) -> Result<Self, RulesError> {
        Self::from_files(era, None, None)
    }

    /// Rules with the rules file or the catalogue replaced by the text of a file, as
    /// [`crate::rules::Rules::from_files`] takes them.
    ///
    /// # Errors
    /// When a file cannot be read, with the place; and for 2025.
    pub fn from_files(
        era: Era,
        rules: Option<&str>,
        catalogue: Option<&str>,
    ) -> Result<Self, RulesError> {
        let bad = |e: serde_json::Error| RulesError::Rules { reason: e.to_string() };
        let (rules, catalogue) = match era {
            Era::Y2024 => (rules.unwrap_or(RULES_2024), catalogue.unwrap_or(PAIRS_2024)),
            Era::Y2026 => (rules.unwrap_or(RULES_2026), catalogue.unwrap_or(PAIRS_2026)),
            Era::Y2025 => {
                let reason = "there are no paper rules for 2025; use 2024 or 2026".to_owned();
                return Err(RulesError::Rules { reason });
            }
        };
        let common: Common = serde_json::from_str(rules).map_err(bad)?;
        let generation = if era == Era::Y2024 {
            let file: File2024 = serde_json::from_str(rules).map_err(bad)?;
            Generation::Y2024(Rules2024 {
                max_open_orders: file.max_open_orders_per_hotkey,
                stale_after_ms: file.market_hours.stale_after_s * 1000,
                halted_classes: file.market_hours.halted_classes,
            })
        } else {
            let file: File2026 = serde_json::from_str(rules).map_err(bad)?;
            let paper: PaperFile = serde_json::from_str(PAPER).map_err(bad)?;
            Generation::Y2026(Box::new(Rules2026::new(file, paper.y2026)))
        };
        Ok(Self {
            cooldown_ms: common.order_cooldown_ms,
            rate_limit: common.request_rate_limit,
            pairs: pairs(catalogue)?,
            hours: MarketHours::load()?,
            generation,
        })
    }

    /// The rule set.
    pub fn era(&self) -> Era {
        match self.generation {
            Generation::Y2024(_) => Era::Y2024,
            Generation::Y2026(_) => Era::Y2026,
        }
    }

    /// The pair with this id.
    pub fn pair(&self, id: &TradePairId) -> Option<&PairRules> {
        self.pairs.get(id)
    }
}

impl Rules2026 {
    fn new(file: File2026, paper: Paper2026) -> Self {
        let mut tiers = file.leverage.tier_by_account_size;
        tiers.sort_by(|a, b| a.min_usd.total_cmp(&b.min_usd));
        Self {
            max_orders_per_position: file.max_orders_per_position,
            max_unfilled: file.max_unfilled_limit_orders,
            fill_interval_ms: file.limit_fill_interval_ms,
            steps: file.order_bounds.min_order_quantity,
            small_account_usd: file.order_bounds.forex_small_account_usd,
            min_position: file.order_bounds.min_position,
            tiers,
            portfolio: file.leverage.portfolio_by_asset_class,
            carry: file.fees.carry,
            slippage: file.slippage,
            default_account_usd: file.account.default_capital_usd,
            effective_close: paper.effective_close,
            smallest_order: paper.smallest_order,
            margin_loan_share: paper.equity_margin_loan_share,
            multiplier_without_cap: paper.multiplier_without_cap,
            rate_limit_method: paper.rate_limit_method,
            asset_class_help: paper.asset_class_help,
            usd_like: paper.quote_usd_currencies,
        }
    }

    /// Whether an account of this size, in USD, trades forex in the smallest steps.
    pub fn is_small(&self, account_size: f64) -> bool {
        account_size <= self.small_account_usd
    }

    /// The step of quantities of a pair.
    pub fn step(&self, class: TradePairClass, small_account: bool) -> f64 {
        match class {
            TradePairClass::Forex if small_account => self.steps.forex_small_account,
            TradePairClass::Forex => self.steps.forex,
            TradePairClass::Equities => self.steps.equities,
            TradePairClass::Commodities => self.steps.commodities,
            TradePairClass::Crypto | TradePairClass::Indices => self.steps.crypto,
        }
    }
}

fn pairs(catalogue: &str) -> Result<BTreeMap<TradePairId, PairRules>, RulesError> {
    let bad = |e: serde_json::Error| RulesError::Catalogue { reason: e.to_string() };
    let file: Catalogue<'_> = serde_json::from_str(catalogue).map_err(bad)?;
    let one = |listed: &RawValue| {
        let bounds: Bounds<'_> = serde_json::from_str(listed.get()).map_err(bad)?;
        let text = |bound: Option<&RawValue>| bound.map_or("", RawValue::get).to_owned();
        let bounds_text = (text(bounds.min_leverage), text(bounds.max_leverage));
        let pair: PairRules = serde_json::from_str(listed.get()).map_err(bad)?;
        Ok((pair.id.clone(), PairRules { bounds_text, ..pair }))
    };
    file.trade_pairs.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_rule_sets_load_and_2025_says_what_to_use() {
        for era in [Era::Y2024, Era::Y2026] {
            let rules = PaperRules::load(era).unwrap();
            assert_eq!(rules.era(), era);
            assert!(rules.pairs.len() > 20);
        }
        assert!(PaperRules::load(Era::Y2025).unwrap_err().to_string().contains("use 2024 or 2026"));
    }

    #[test]
    fn every_carry_rule_of_the_catalogue_is_known() {
        let rules = PaperRules::load(Era::Y2026).unwrap();
        let Generation::Y2026(own) = &rules.generation else { panic!("2026") };
        let others = ["none", "hyperliquid_funding", "equity_borrow_or_interest"];
        for pair in rules.pairs.values() {
            let known = own.carry.flat(&pair.carry).is_some() || others.contains(&&*pair.carry);
            assert!(known, "{}: {}", pair.id, pair.carry);
        }
    }
}
