//! `RiskGuard`: a validator's rules on the miner's own acknowledged orders, before the next one is
//! sent.
//!
//! It keeps a [`Book`](super::book::Book) of the miner's own account (one per subaccount), fed by
//! what validators acknowledged, and judges signals with the rules that a paper validator has.
//! What the network does later with orders that rest, or what was traded elsewhere under the same
//! hotkey, it cannot know; where a verdict would rest on such a guess it blocks nothing.
//!
//! Where prices come from is left to others ([`OrderGuard::price`]); without any, positions are
//! kept at their value when they were opened, which is enough for caps, and gains are not reckoned.
//! Telling it what happened is left to [`crate::deliver`].
//!
//! ```
//! use std::sync::Arc;
//! use ptn_core::guard::{Guard, GuardMode};
//! use ptn_core::order::OrderType;
//! use ptn_core::paper::guard::{GuardSettings, RiskGuard};
//! use ptn_core::rules::{Era, Rules};
//! use ptn_core::signal::Signal;
//!
//! let mut settings = GuardSettings::default();
//! settings.halted.insert("ETHUSDC".into());
//! let guard = Guard::new(GuardMode::Refuse, Arc::new(RiskGuard::new(Era::Y2026, settings)?));
//! guard.ready(); // an engine does this, once it has told what the store knows
//!
//! let rules = Rules::load(Era::Y2026)?;
//! let order = Signal::market("ETHUSDC", OrderType::Long).leverage("0.1".parse()?).build(&rules)?;
//! let verdict = guard.check(&order, 1_780_000_000_000);
//! assert!(verdict.blocks(guard.mode()));
//! assert_eq!(verdict.concerns[0].code, "pair_halted");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod drawdown;
mod fill;
mod judge;
mod snapshot;
mod state;
mod words;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::guard::{
    Concern, Distance, GuardVerdict, OrderGuard, PricePoint, Severity, Standing, UnderWay,
};
use crate::record::ValidatorRecord;
use crate::rules::{Era, RulesError};
use crate::signal::{OrderUuid, Signal};
use crate::store::UnixMs;
use crate::trade_pair::TradePairId;

use self::drawdown::Limits;
use self::state::State;
use super::account::{AccountSettings, Caps};
use super::market::Quote;
use super::prices::Tick;
use super::rules::{Generation, PaperRules};

/// A price older than this says nothing about now: as long as a validator of 2024 waits for one.
pub(crate) const FRESH_MS: UnixMs = 15 * 60 * 1000;

/// The name of the account in the books. A process that does not know the hotkey reads the same
/// snapshot.
const OWN: &str = "this miner";

/// What the guard is told about the account.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct GuardSettings {
    /// Whose account it is; stands in the network's texts. Nothing else depends on it.
    pub hotkey: Option<String>,
    /// Account size in US dollars; the rules' default without one. Means nothing in 2024.
    pub account_usd: Option<f64>,
    /// The selected asset class: a class, `hl_all`, or `all_markets`. Means nothing in 2024.
    pub asset_class: String,
    /// Whether the account is still in its challenge, which has limits of its own (2026).
    pub challenge: bool,
    /// Pairs that are halted now.
    pub halted: BTreeSet<TradePairId>,
    /// With fewer percent points of loss left before a limit there is an alert.
    pub alert_points: f64,
    /// Whether the engine waits out the network's cooldown and rate limit by itself.
    pub paced: bool,
}

impl Default for GuardSettings {
    fn default() -> Self {
        Self {
            hotkey: None,
            account_usd: None,
            asset_class: "all_markets".to_owned(),
            challenge: false,
            halted: BTreeSet::new(),
            alert_points: 1.5,
            paced: true,
        }
    }
}

impl GuardSettings {
    /// A text of the network with the name that the network knows, for people: without the noise of
    /// its floating point numbers.
    fn named(&self, text: &str) -> String {
        let text = words::without_noise(text);
        match &self.hotkey {
            Some(hotkey) => text.replace(OWN, hotkey),
            None => text,
        }
    }

    fn account(&self, rules: &PaperRules) -> AccountSettings {
        let default_usd = match &rules.generation {
            Generation::Y2024(_) => 1.0,
            Generation::Y2026(own) => own.default_account_usd,
        };
        AccountSettings {
            account_size: self.account_usd.unwrap_or(default_usd),
            asset_class: Some(self.asset_class.clone()),
            // Only a subaccount in its challenge has the lowest tier; its limits are another matter.
            challenge: false,
            caps: Caps::ByTier,
        }
    }
}

/// The rules in the forms that judging and booking need.
#[derive(Debug)]
pub(crate) struct RuleSets {
    /// As they are.
    real: PaperRules,
    /// Without cooldown and with every market open, to see what else is wrong with an order.
    open: PaperRules,
    limits: Limits,
}

/// See the module.
pub struct RiskGuard {
    rules: RuleSets,
    settings: GuardSettings,
    state: Mutex<State>,
}

impl fmt::Debug for RiskGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RiskGuard").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl RiskGuard {
    /// A guard by the built-in rules, with an empty account.
    ///
    /// # Errors
    /// For 2025, whose positions are not known to this crate.
    pub fn new(era: Era, settings: GuardSettings) -> Result<Self, RulesError> {
        Self::from_files(era, None, None, settings)
    }

    /// As [`RiskGuard::new`], with the rules file or the catalogue replaced by the text of a file.
    ///
    /// # Errors
    /// When a file cannot be read, with the place; and for 2025.
    pub fn from_files(
        era: Era,
        rules: Option<&str>,
        catalogue: Option<&str>,
        settings: GuardSettings,
    ) -> Result<Self, RulesError> {
        let real = PaperRules::from_files(era, rules, catalogue)?;
        let limits = Limits::read(era, rules)?;
        let hours = real.hours.clone().always_open();
        let open = PaperRules { cooldown_ms: 0, hours, ..real.clone() };
        let rules = RuleSets { real, open, limits };
        Ok(Self { rules, settings, state: Mutex::default() })
    }

    /// Everything that it knows, as JSON; [`RiskGuard::restore`] reads it back.
    pub fn snapshot(&self) -> String {
        self.state().to_json(self.rules.real.era(), self.settings.paced)
    }

    /// Whether the engine beside the guard that wrote a snapshot waits out the network's cooldown and
    /// rate limit; nothing when the snapshot does not say so.
    pub fn paced_in(snapshot: &str) -> Option<bool> {
        #[derive(serde::Deserialize)]
        struct Pace {
            paced: Option<bool>,
        }
        serde_json::from_str::<Pace>(snapshot).ok()?.paced
    }

    /// Goes on where a snapshot ends. What happened since is to be told as ever.
    ///
    /// # Errors
    /// When it is damaged or of another rule set or version; then nothing changed.
    pub fn restore(&self, snapshot: &str) -> Result<(), String> {
        let mut state = State::from_json(snapshot, self.rules.real.era())?;
        state.configure(&self.rules, &self.settings);
        *self.state() = state;
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic in between leaves a book that is at worst one order behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The account that a signal trades on.
    fn account_of(signal: &Signal) -> String {
        match signal.subaccount_id() {
            Some(id) => format!("{OWN}_{id}"),
            None => OWN.to_owned(),
        }
    }
}

impl OrderGuard for RiskGuard {
    fn judge(&self, signal: &Signal, now: UnixMs) -> GuardVerdict {
        let hotkey = Self::account_of(signal);
        self.state().judge(&self.rules, &self.settings, &hotkey, signal, now)
    }

    fn acknowledged(&self, signal: &Signal, record: &ValidatorRecord) {
        let hotkey = Self::account_of(signal);
        self.state().acknowledged(&self.rules, &self.settings, &hotkey, signal, record);
    }

    fn doubtful(&self, signal: &Signal, record: &ValidatorRecord) {
        let hotkey = Self::account_of(signal);
        self.state().doubtful(&self.rules, &self.settings, &hotkey, signal, record);
    }

    fn knows(&self, id: &OrderUuid) -> bool {
        self.state().was_booked(id)
    }

    fn under_way(&self, id: &OrderUuid, what: &UnderWay) {
        self.state().under_way(id, what);
    }

    fn ended(&self, id: &OrderUuid) {
        self.state().ended(id);
    }

    fn none_under_way(&self) {
        self.state().none_under_way();
    }

    fn ready(&self) {
        self.state().ready();
    }

    fn knows_until(&self) -> Option<UnixMs> {
        self.state().knows_until()
    }

    fn price(&self, price: &PricePoint) -> bool {
        let quote =
            Quote { bid: price.bid, ask: price.ask, ..Quote::last(price.price, price.at_ms) };
        self.rules.real.pair(&price.pair).is_some()
            && self.state().price(&self.rules, &price.pair, quote)
    }

    fn standing(&self, now: UnixMs) -> Standing {
        let mut state = self.state();
        let (drawdown, unjudged) = state.all_distances(&self.rules, &self.settings, now);
        let alert = near(&drawdown, self.settings.alert_points);
        Standing { drawdown, unjudged, alert }
    }
}

impl From<Tick> for PricePoint {
    fn from(tick: Tick) -> Self {
        let Tick { at_ms, pair, price, bid, ask } = tick;
        Self { pair, at_ms, price, bid, ask }
    }
}

/// The concern about the nearest limit, when it is near.
fn near(distances: &[Distance], alert_points: f64) -> Option<Concern> {
    let nearest = distances.first().filter(|d| d.points_left < alert_points)?;
    let guess = if nearest.estimated { ", as far as prices are known" } else { "" };
    let (rule, limit) = (&nearest.rule, nearest.limit_pct);
    let (code, text) = if nearest.points_left < 0.0 {
        let over = -nearest.points_left;
        let text = format!(
            "the {rule} drawdown is {over:.2} percent points beyond its limit of {limit:.1} %{guess}"
        );
        ("drawdown_broken", text)
    } else {
        let left = nearest.points_left;
        let text = format!(
            "{left:.2} percent points are left before the {rule} drawdown limit of {limit:.1} %{guess}"
        );
        ("drawdown_near", text)
    };
    Some(Concern {
        severity: Severity::Alert,
        code: code.to_owned(),
        text,
        action: "reduce or close positions; orders that close are always sent".to_owned(),
        wait_ms: None,
    })
}
