//! Prices of a standing validator: opening a source, its clock, and the thread that takes from it.

use std::fs::File;
use std::io::BufReader;

use ptn_core::market_hours::MarketHours;
use ptn_core::ops::process;
use ptn_core::paper::desk::{PaperClock, PaperDesk};
use ptn_core::paper::prices::coinbase::{CoinbaseFeed, CoinbaseSettings, FeedWatch};
use ptn_core::paper::prices::pushed::{self, DEFAULT_PAIRS};
use ptn_core::paper::prices::{
    CsvPrices, PriceDefaults, PriceError, PriceSender, PriceSource, PriceSpec, RandomWalk, Tick,
};
use ptn_core::rules::{Era, Rules};
use ptn_core::store::UnixMs;
use ptn_core::trade_pair::TradePairId;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::super::replay::unreadable;
use crate::failure::Failure;

/// A source that is open.
pub(super) struct Feed {
    source: Source,
    clock: PaperClock,
    sender: Option<PriceSender>,
    live: Option<CoinbaseFeed>,
}

enum Source {
    /// There already, or coming by itself.
    Ready(Box<dyn PriceSource + Send>),
    /// Made when it is known when the validator began.
    Walk { seed: u64, pairs: Vec<TradePairId>, rules: Box<Rules> },
}

impl Feed {
    /// Opens it.
    ///
    /// # Errors
    /// When there is no such source.
    pub(super) fn open(
        spec: &PriceSpec,
        era: Era,
        speed: Option<f64>,
        start_ms: Option<UnixMs>,
    ) -> Result<Self, Failure> {
        let place = spec.to_string();
        let bad = |code: &str, text: String| {
            Failure::new(process::USAGE, code, format!("{place}: {text}"))
        };
        let wrong = |e: PriceError| bad(e.code(), e.to_string());
        let real = start_ms.is_none() && speed.is_none();
        let now_ms = start_ms.unwrap_or_else(crate::text::now);
        let simulated = |start_ms| PaperClock::simulated(start_ms, speed.unwrap_or(1.0));
        let clock = if real { PaperClock::real() } else { simulated(now_ms) };
        Ok(match spec {
            PriceSpec::Csv(path) => {
                let file = File::open(path).map_err(|e| unreadable(path, &e))?;
                let mut prices = CsvPrices::new(BufReader::new(file)).map_err(wrong)?;
                let first = prices.next_tick().map_err(wrong)?;
                let first =
                    first.ok_or_else(|| bad("no_prices", "there is not one price".to_owned()))?;
                let clock = simulated(start_ms.unwrap_or(first.at_ms));
                let source = Source::Ready(Box::new(Again { first: Some(first), prices }));
                Self { source, clock, sender: None, live: None }
            }
            PriceSpec::Walk { seed, pairs } => {
                let rules = Rules::load(era).map_err(|e| bad("rules", e.to_string()))?;
                let pairs = match pairs.as_slice() {
                    [] => {
                        let defaults = PriceDefaults::load();
                        let defaults = defaults.map_err(|e| bad("rules", e.to_string()))?;
                        defaults.walk_pairs(era).to_vec()
                    }
                    named => named.to_vec(),
                };
                // Whether the walk can be made is known now.
                walk(&rules, &pairs, *seed, now_ms).map_err(|e| bad("prices", e))?;
                let source = Source::Walk { seed: *seed, pairs, rules: Box::new(rules) };
                Self { source, clock, sender: None, live: None }
            }
            PriceSpec::Push => {
                let (sender, prices) = pushed::channel(DEFAULT_PAIRS);
                let source = Source::Ready(Box::new(prices));
                Self { source, clock, sender: Some(sender), live: None }
            }
            PriceSpec::Coinbase { .. } if !real => {
                let text =
                    "live prices have their own time, so --speed and --start are not for them";
                return Err(Failure::usage(text));
            }
            PriceSpec::Coinbase { url } => {
                let rules = Rules::load(era).map_err(|e| bad("rules", e.to_string()))?;
                let settings = CoinbaseSettings::for_pairs(rules.catalogue.iter());
                let mut settings = settings.map_err(|e| bad("prices", e.to_string()))?;
                if let Some(url) = url {
                    settings = settings.with_url(url.clone());
                }
                let (sender, prices) = pushed::channel(DEFAULT_PAIRS);
                let live = Some(CoinbaseFeed::new(settings, sender));
                Self { source: Source::Ready(Box::new(prices)), clock, sender: None, live }
            }
            other => return Err(bad("prices", format!("{other} cannot be used here"))),
        })
    }

    pub(super) const fn clock(&self) -> PaperClock {
        self.clock
    }

    /// Where pushed prices go, if they are taken.
    pub(super) fn sender(&self) -> Option<PriceSender> {
        self.sender.clone()
    }

    /// How the connection to an exchange does.
    pub(super) fn watch(&self) -> Option<FeedWatch> {
        self.live.as_ref().map(CoinbaseFeed::watch)
    }

    /// Takes prices until the source or the desk ends, or it is stopped.
    pub(super) fn start(
        self,
        desk: &PaperDesk,
        stop: CancellationToken,
    ) -> JoinHandle<Result<(), String>> {
        let desk = desk.clone();
        if let Some(live) = self.live {
            // The channel ends with it.
            tokio::spawn(async move { stop.run_until_cancelled_owned(live.run()).await });
        }
        tokio::task::spawn_blocking(move || {
            let mut source = match self.source {
                Source::Ready(source) => source,
                Source::Walk { seed, pairs, rules } => {
                    Box::new(walk(&rules, &pairs, seed, desk.started_ms())?)
                }
            };
            let from_ms = if self.sender.is_some() { 0 } else { desk.resumed_ms() };
            // The handle that the site has keeps a channel open; this one must not.
            drop(self.sender);
            desk.pump(&mut source, from_ms).map_err(|e| e.to_string())
        })
    }
}

fn walk(
    rules: &Rules,
    pairs: &[TradePairId],
    seed: u64,
    start_ms: UnixMs,
) -> Result<RandomWalk, String> {
    let defaults = PriceDefaults::load().map_err(|e| e.to_string())?;
    let hours = MarketHours::load().map_err(|e| e.to_string())?;
    let walk = RandomWalk::of(&rules.catalogue, pairs, seed, start_ms, defaults.live_step_ms());
    Ok(walk.map_err(|e| e.to_string())?.with_hours(hours))
}

/// A source of which the first price was looked at.
struct Again<S> {
    first: Option<Tick>,
    prices: S,
}

impl<S: PriceSource> PriceSource for Again<S> {
    fn next_tick(&mut self) -> Result<Option<Tick>, PriceError> {
        match self.first.take() {
            Some(tick) => Ok(Some(tick)),
            None => self.prices.next_tick(),
        }
    }
}
