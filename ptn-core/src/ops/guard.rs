//! The risk guard of the binaries: from settings to a guard, and its file in the data directory.
//!
//! ```text
//! <data-dir>/.ptn/guard.json    what the guard knows; without it everything is read from the store
//! ```
//!
//! The miner writes the file, whoever judges reads it. One that cannot be read is left aside: the
//! guard then begins with what the store knows.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::config::{ConfigError, Settings, expand_home, parse_switch, read_text};
use crate::guard::{Guard, GuardMode};
use crate::paper::guard::{GuardSettings, RiskGuard};
#[cfg(feature = "paper-live")]
use crate::paper::prices::coinbase::{CoinbaseFeed, CoinbaseSettings};
use crate::paper::prices::{FeedUrl, PriceSpec, PriceSpecError};
#[cfg(feature = "paper-live")]
use crate::paper::prices::{PriceDefaults, pushed};
use crate::rules::{Era, Rules};
use crate::trade_pair::TradePairId;

/// How often the file is written when something changed.
const KEEP_EVERY: Duration = Duration::from_secs(30);

const CLASSES: [&str; 7] =
    ["crypto", "forex", "equities", "indices", "commodities", "hl_all", "all_markets"];

/// Where the guard's prices come from, beside validators' answers.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub enum Prices {
    /// Nowhere.
    #[default]
    None,
    /// Whoever pushes them over HTTP.
    Push,
    /// The ticker of Coinbase Exchange.
    #[cfg(feature = "paper-live")]
    Coinbase {
        /// Another address than that of the exchange.
        url: Option<FeedUrl>,
        /// Whose prices are read.
        pairs: Vec<TradePairId>,
    },
}

/// What the settings say about the guard.
#[derive(Debug, Clone)]
pub struct GuardConfig {
    /// What it may do.
    pub mode: GuardMode,
    /// About the account.
    pub settings: GuardSettings,
    /// Where prices come from.
    pub prices: Prices,
    /// Whether somebody asked for the guard.
    wanted: bool,
    /// Whether the miner paces orders, where a setting says so.
    paced: Option<bool>,
    rules: Arc<Rules>,
    rules_file: Option<String>,
    catalogue: Option<String>,
}

/// A guard at work.
#[derive(Debug, Clone)]
pub struct Guarding {
    /// The handle that judges.
    pub guard: Guard,
    /// Its knowledge.
    pub risk: Arc<RiskGuard>,
    /// Where prices come from.
    pub prices: Prices,
    #[cfg(feature = "paper-live")]
    rules: Arc<Rules>,
}

impl GuardConfig {
    /// Reads and checks the settings.
    ///
    /// # Errors
    /// The first one that is wrong.
    pub fn from_settings(s: &Settings, rules: &Arc<Rules>) -> Result<Self, ConfigError> {
        let era = rules.era;
        let wanted = s.get("guard.mode").unwrap_or("warn");
        let mut mode = GuardMode::parse(wanted)
            .ok_or_else(|| s.bad("guard.mode", "allowed: off, warn, refuse"))?;
        if era == Era::Y2025 && mode != GuardMode::Off {
            if s.is_set("guard.mode") {
                let why = "the positions of rule set 2025 are not known; allowed with it: off";
                return Err(s.bad("guard.mode", why));
            }
            mode = GuardMode::Off;
        }
        let mut settings = GuardSettings::default();
        let above_zero = |key: &'static str, value: f64| match value {
            value if value.is_finite() && value > 0.0 => Ok(value),
            _ => Err(s.bad(key, "expected a number above 0")),
        };
        let number = |key: &'static str| s.parse::<f64>(key, "a number above 0");
        if let Some(points) = number("guard.alert_points")? {
            if !(points.is_finite() && points >= 0.0) {
                return Err(s.bad("guard.alert_points", "expected a number from 0"));
            }
            settings.alert_points = points;
        }
        if let Some(usd) = number("guard.account_usd")? {
            settings.account_usd = Some(above_zero("guard.account_usd", usd)?);
        }
        if let Some(class) = s.get("guard.asset_class") {
            if !CLASSES.contains(&class) {
                let why = format!("allowed: {}", CLASSES.join(", "));
                return Err(s.bad("guard.asset_class", why));
            }
            class.clone_into(&mut settings.asset_class);
        }
        settings.challenge = match s.get("guard.stage") {
            None | Some("main") => false,
            Some("challenge") => true,
            Some(_) => return Err(s.bad("guard.stage", "allowed: challenge, main")),
        };
        let halted = s.get("guard.halted").unwrap_or_default().split(',').map(str::trim);
        settings.halted = halted.filter(|id| !id.is_empty()).map(TradePairId::from).collect();
        let read = |key: &str| s.get(key).map(|p| read_text(&expand_home(p))).transpose();
        Ok(Self {
            mode,
            settings,
            prices: prices(s, rules)?,
            wanted: s.is_set("guard.mode"),
            paced: paced(s)?,
            rules: Arc::clone(rules),
            rules_file: read("rules.file")?,
            catalogue: read("rules.trade_pairs")?,
        })
    }

    /// Says whether orders are paced, whatever the settings and the guard's file say.
    pub fn set_paced(&mut self, paced: bool) {
        self.paced = Some(paced);
    }

    /// Makes the guard, with what its file in the data directory knows; nothing when it is off, or
    /// when nobody asked for it and the rules lack what it needs.
    ///
    /// # Errors
    /// When the rules cannot be used for it.
    pub fn build(&self, data_dir: &Path) -> Result<Option<Guarding>, ConfigError> {
        if self.mode == GuardMode::Off {
            return Ok(None);
        }
        let (text, catalogue) = (self.rules_file.as_deref(), self.catalogue.as_deref());
        let (era, mut settings) = (self.rules.era, self.settings.clone());
        let path = file(data_dir);
        let saved = saved(&path);
        // The miner knows; what it does stands in its file.
        let known = self.paced.or_else(|| saved.as_deref().and_then(RiskGuard::paced_in));
        settings.paced = known.unwrap_or(settings.paced);
        let risk = match RiskGuard::from_files(era, text, catalogue, settings) {
            Ok(risk) => risk,
            Err(e) if !self.wanted => {
                tracing::warn!("no risk guard: {e}");
                return Ok(None);
            }
            Err(e) => return Err(e.into()),
        };
        if let Some(text) = saved {
            restore(&risk, &path, &text);
        }
        let risk = Arc::new(risk);
        let guard = Guard::new(self.mode, Arc::clone(&risk) as _);
        Ok(Some(Guarding {
            guard,
            risk,
            prices: self.prices.clone(),
            #[cfg(feature = "paper-live")]
            rules: Arc::clone(&self.rules),
        }))
    }
}

fn prices(s: &Settings, rules: &Rules) -> Result<Prices, ConfigError> {
    let text = s.get("guard.prices").unwrap_or("none");
    if text == "none" {
        return Ok(Prices::None);
    }
    let spec: PriceSpec =
        text.parse().map_err(|e: PriceSpecError| s.bad("guard.prices", e.to_string()))?;
    match spec {
        PriceSpec::Push => Ok(Prices::Push),
        PriceSpec::Coinbase { url } => coinbase(s, rules, url),
        _ => {
            let why = "not live prices; allowed: none, push, coinbase, coinbase:wss://HOST";
            Err(s.bad("guard.prices", why))
        }
    }
}

#[cfg(feature = "paper-live")]
fn coinbase(s: &Settings, rules: &Rules, url: Option<FeedUrl>) -> Result<Prices, ConfigError> {
    let named = s.get("guard.pairs").unwrap_or_default().split(',').map(str::trim);
    let mut pairs: Vec<TradePairId> =
        named.filter(|id| !id.is_empty()).map(TradePairId::from).collect();
    if pairs.is_empty() {
        pairs = PriceDefaults::load()?.walk_pairs(rules.era).to_vec();
    }
    let known = pairs.iter().filter_map(|pair| rules.catalogue.get(pair.as_str()));
    CoinbaseSettings::for_pairs(known).map_err(|e| s.bad("guard.pairs", e.to_string()))?;
    Ok(Prices::Coinbase { url, pairs })
}

#[cfg(not(feature = "paper-live"))]
fn coinbase(s: &Settings, _: &Rules, _: Option<FeedUrl>) -> Result<Prices, ConfigError> {
    let why = "this program was built without live prices (feature live-prices); push them instead";
    Err(s.bad("guard.prices", why))
}

/// The guard's file.
pub fn file(data_dir: &Path) -> PathBuf {
    data_dir.join(".ptn").join("guard.json")
}

/// Whether the settings say that orders are paced; nothing when they say nothing, as those of a server
/// or a command often do.
fn paced(s: &Settings) -> Result<Option<bool>, ConfigError> {
    if let Some(text) = s.set_for_any("delivery.pacing") {
        // One of another program that is neither: that one complains itself.
        return match s.switch("delivery.pacing")? {
            None => Ok(parse_switch(&text)),
            ours => Ok(ours),
        };
    }
    Ok(s.set_for_any("subtensor.network").map(|network| network != "local"))
}

fn saved(path: &Path) -> Option<String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => {
            tracing::warn!(file = %path.display(), "the risk guard's file cannot be read: {e}");
            None
        }
    }
}

fn restore(risk: &RiskGuard, path: &Path, text: &str) {
    if let Err(why) = risk.restore(text) {
        tracing::warn!(
            file = %path.display(),
            "the risk guard's file is left aside, it begins with what the store knows: {why}"
        );
    }
}

impl Guarding {
    /// Whether `POST /api/prices` takes prices for it.
    pub fn takes_prices(&self) -> bool {
        self.prices == Prices::Push
    }

    /// Reads live prices, where they were asked for, until `stop`.
    #[cfg(feature = "paper-live")]
    pub async fn read_prices(self, stop: CancellationToken) {
        let Prices::Coinbase { url, pairs } = &self.prices else { return };
        let known = pairs.iter().filter_map(|pair| self.rules.catalogue.get(pair.as_str()));
        let mut settings = match CoinbaseSettings::for_pairs(known) {
            Ok(settings) => settings,
            Err(e) => return tracing::warn!("no live prices for the risk guard: {e}"),
        };
        if let Some(url) = url {
            settings = settings.with_url(url.clone());
        }
        let (sender, mut prices) = pushed::channel(pushed::DEFAULT_PAIRS);
        let read = async {
            while let Some(tick) = prices.next().await {
                self.guard.price(&tick.into());
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = CoinbaseFeed::new(settings, sender).run() => {}
            () = read => {}
        }
    }

    /// Reads live prices, where they were asked for: this build has none.
    #[cfg(not(feature = "paper-live"))]
    pub async fn read_prices(self, _: CancellationToken) {}

    /// Keeps the file up to date until `stop`, and once more then.
    pub async fn keep(self, data_dir: PathBuf, stop: CancellationToken) {
        let mut every = tokio::time::interval(KEEP_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last = String::new();
        let mut failed = false;
        loop {
            let over = tokio::select! {
                () = stop.cancelled() => true,
                _ = every.tick() => false,
            };
            let (risk, path, before) = (Arc::clone(&self.risk), file(&data_dir), last);
            let work = move || {
                let text = risk.snapshot();
                let result = if text == before { Ok(()) } else { write(&path, &text) };
                (text, path, result)
            };
            let Ok((text, path, result)) = tokio::task::spawn_blocking(work).await else { return };
            last = text;
            if let Err(e) = &result
                && !failed
            {
                tracing::warn!(
                    file = %path.display(),
                    "what the risk guard knows cannot be kept for the next start: {e}"
                );
            }
            failed = result.is_err();
            if over {
                return;
            }
        }
    }
}

/// Writes beside and renames, so that a reader sees the old text or the new one.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let new = path.with_extension(format!("json.{}", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, path)
}
