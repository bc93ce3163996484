//! Positions, returns and weights of the demo's validators: each has a desk of paper, all see the
//! same made-up prices, and two reference miners trade beside the demo's own.
//!
//! The day is a fixed one on which every market is open, and goes fast. The rate limit and the cooldowns of the
//! rules are left out, because a demo has no day to wait. There are no such rules for 2025.

use std::sync::Arc;
use std::time::Duration;

use ptn_core::directory::Wire;
use ptn_core::json::{Json, Object};
use ptn_core::market_hours::MarketHours;
use ptn_core::order::OrderType;
use ptn_core::paper::desk::{DeskOptions, PaperClock, PaperDesk};
use ptn_core::paper::prices::RandomWalk;
use ptn_core::rules::{Era, Rules};
use ptn_core::sign::{Hotkey, Signer as _};
use ptn_core::store::UnixMs;
use ptn_core::trade_pair::TradePairId;
use ptn_core::validator::{DeskAnswer, DeskOrder, OrderDesk as _};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::output::{Output, Style};
use crate::table::{Column, Table};
use crate::text::{self, percent};

/// Wednesday, 2026-06-10 14:00 UTC.
const START_MS: UnixMs = 1_781_100_000_000;
/// A second of the demo is twenty minutes.
const SPEED: f64 = 1200.0;
const SEED: u64 = 8;
const STEP_MS: UnixMs = 10_000;
/// For prices to come in, and for a round of weights.
const PATIENCE: Duration = Duration::from_secs(5);
const GLANCE: Duration = Duration::from_millis(5);

/// What all validators of a demo share.
pub(super) struct Field {
    era: Era,
    clock: PaperClock,
    pairs: Vec<TradePairId>,
    step_ms: UnixMs,
    catalogue: Arc<Rules>,
    hotkey: String,
    references: Vec<Reference>,
}

/// A miner that the demo is compared with.
pub(super) struct Reference {
    name: &'static str,
    side: OrderType,
    pub(super) hotkey: String,
}

/// One open position, for a look.
#[derive(Debug, Clone)]
struct Open {
    pair: String,
    side: OrderType,
    leverage: f64,
    gain: f64,
}

/// What the first validator thinks of the demo's miner now.
#[derive(Debug, Clone, Default)]
pub(super) struct Look {
    total_return: f64,
    open: Vec<Open>,
}

/// A row of the leaderboard.
#[derive(Debug, Clone)]
pub(super) struct Rank {
    name: &'static str,
    hotkey: String,
    total_return: f64,
    weight: f64,
    drawdown: f64,
    positions: usize,
}

/// The leaderboard of the first validator.
#[derive(Debug, Clone, Default)]
pub(super) struct Board {
    ranks: Vec<Rank>,
    burn: f64,
}

impl Field {
    /// The field of a rule set; nothing for one that has no positions.
    pub(super) fn new(rules: &Rules, validators: usize, hotkey: &str) -> Option<Self> {
        if rules.era == Era::Y2025 {
            return None;
        }
        let pairs = super::plan::pairs(rules.era).map(TradePairId::from).to_vec();
        // Many validators on one machine have slower prices.
        let slower = UnixMs::try_from(validators.div_ceil(4)).unwrap_or(1);
        let reference = |name, side| {
            let hotkey = Hotkey::generate().hotkey().to_owned();
            Reference { name, side, hotkey }
        };
        Some(Self {
            era: rules.era,
            clock: PaperClock::simulated(START_MS, SPEED),
            pairs,
            step_ms: STEP_MS.saturating_mul(slower),
            catalogue: Arc::new(rules.clone()),
            hotkey: hotkey.to_owned(),
            references: vec![
                reference("always long", OrderType::Long),
                reference("always short", OrderType::Short),
            ],
        })
    }

    pub(super) fn references(&self) -> &[Reference] {
        &self.references
    }

    /// A desk with its own prices, on which the reference miners have traded already.
    pub(super) async fn desk(&self) -> Result<PaperDesk, Failure> {
        let failed = |e: &dyn std::error::Error| Failure::failed("demo_paper", e.to_string());
        let options =
            DeskOptions { clock: self.clock, pacing: false, ..DeskOptions::new(self.era) };
        let desk = PaperDesk::start(options).map_err(|e| failed(&e))?;
        let hours = MarketHours::load().map_err(|e| failed(&e))?;
        let walk =
            RandomWalk::of(&self.catalogue.catalogue, &self.pairs, SEED, START_MS, self.step_ms);
        let mut walk = walk.map_err(|e| failed(&e))?.with_hours(hours);
        let pump = desk.clone();
        // It ends with the desk; a walk has no end and no errors.
        std::thread::spawn(move || pump.pump(&mut walk, START_MS).is_ok());
        let wanted = self.pairs.len();
        wait_until(&desk, move |v| v.book().market().iter().count() >= wanted).await?;
        for reference in &self.references {
            self.trade(&desk, reference).await?;
        }
        Ok(desk)
    }

    async fn trade(&self, desk: &PaperDesk, reference: &Reference) -> Result<(), Failure> {
        let Some(pair) = self.pairs.first() else { return Ok(()) };
        let mut signal = Object::new();
        signal.set("trade_pair", pair.as_str().into());
        signal.set("order_type", reference.side.as_str().into());
        signal.set("leverage", Json::Number("0.1".to_owned()));
        let uuid = format!("{}-1", reference.name.replace(' ', "-"));
        let order = DeskOrder::new(&reference.hotkey, &uuid, &signal, Wire::Btauth);
        match desk.take(order).await {
            DeskAnswer::Taken { .. } => Ok(()),
            other => Err(Failure::failed("demo_paper", format!("{}: {other:?}", reference.name))),
        }
    }

    /// What a validator thinks of the demo's miner.
    pub(super) async fn look(&self, desk: &PaperDesk) -> Look {
        let hotkey = self.hotkey.clone();
        let look = desk.ask(move |validator| {
            let account = validator.book().account(&hotkey)?;
            let open = account.open().into_iter().map(|position| Open {
                pair: position.pair.to_string(),
                side: position.position_type,
                leverage: position.net_leverage,
                gain: position.return_at_close - 1.0,
            });
            Some(Look { total_return: account.total_return(), open: open.collect() })
        });
        look.await.ok().flatten().unwrap_or_default()
    }

    /// The leaderboard after the next round of weights.
    pub(super) async fn board(&self, desk: &PaperDesk) -> Result<Board, Failure> {
        let before = desk.rounds().borrow().as_ref().map_or(0, |round| round.n);
        wait_until(desk, move |v| v.round().is_some_and(|round| round.n > before)).await?;
        let name = |hotkey: &str| {
            let reference = self.references.iter().find(|r| r.hotkey == hotkey);
            reference.map_or("your signals", |r| r.name)
        };
        let rows = desk.ask(|validator| {
            let burn = validator.round().map_or(0.0, |round| round.weights.burn);
            let rows = validator.leaderboard();
            let rows = rows.iter().map(|row| Rank {
                name: "",
                hotkey: row.hotkey.to_owned(),
                total_return: row.total_return,
                weight: row.weight,
                drawdown: row.largest_drawdown,
                positions: row.open + row.closed,
            });
            (rows.collect::<Vec<_>>(), burn)
        });
        let (mut ranks, burn) =
            rows.await.map_err(|e| Failure::failed("demo_paper", e.to_string()))?;
        for rank in &mut ranks {
            rank.name = name(&rank.hotkey);
        }
        Ok(Board { ranks, burn })
    }
}

async fn wait_until(
    desk: &PaperDesk,
    what: impl Fn(&ptn_core::paper::validator::PaperValidator) -> bool + Send + Clone + 'static,
) -> Result<(), Failure> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while tokio::time::Instant::now() < deadline {
        let look = what.clone();
        match desk.ask(move |validator| look(validator)).await {
            Ok(true) => return Ok(()),
            Ok(false) => tokio::time::sleep(GLANCE).await,
            Err(e) => return Err(Failure::failed("demo_paper", e.to_string())),
        }
    }
    Err(Failure::failed("demo_paper", "a paper validator of the demo stands still"))
}

fn style(gain: f64) -> Style {
    if gain < 0.0 { Style::Bad } else { Style::Good }
}

impl Look {
    /// One line: what is held, and what it is worth.
    pub(super) fn line(&self, out: &Output) -> String {
        let gain = self.total_return - 1.0;
        if self.total_return == 0.0 {
            return out.paint(Style::Dim, "   V1 now: nothing yet");
        }
        let open = self.open.iter().map(|p| format!("{} {:+.3}x", p.pair, p.leverage));
        let open = open.collect::<Vec<_>>().join(", ");
        let open = if open.is_empty() { "no position".to_owned() } else { open };
        let head = out.paint(Style::Dim, "   V1 now:");
        let gain = out.paint(style(gain), text::pad_left(&percent(gain), 10));
        format!("{head} {gain}  {}", out.paint(Style::Dim, text::cut(&open, 56)))
    }

    /// Lines for a screen that is drawn again.
    pub(super) fn lines(&self, out: &Output) -> Vec<String> {
        let mut lines = vec![String::new(), self.line(out)];
        for p in self.open.iter().take(6) {
            let gain = out.paint(style(p.gain), text::pad_left(&percent(p.gain), 10));
            lines.push(format!(
                "          {gain}  {} {} {}",
                text::pad(&p.pair, 9),
                text::pad(p.side.as_str(), 5),
                text::pad_left(&format!("{:+.4}x", p.leverage), 9)
            ));
        }
        lines
    }
}

impl Board {
    /// The leaderboard as a table.
    pub(super) fn show(&self, out: &mut Output) -> Result<(), Failure> {
        let title = out.paint(Style::Strong, "Leaderboard of V1");
        let about = "made-up prices, 1 s is 20 minutes, no cooldown";
        out.line(format!("\n{title}   {}", out.paint(Style::Dim, about)))?;
        let mut table = Table::new(&[
            Column::number("#"),
            Column::text("MINER"),
            Column::number("RETURN"),
            Column::number("DRAWDOWN"),
            Column::number("WEIGHT"),
            Column::number("POSITIONS"),
        ]);
        for (at, rank) in self.ranks.iter().enumerate() {
            table.row([
                (at + 1).to_string(),
                rank.name.to_owned(),
                percent(rank.total_return - 1.0),
                format!("{:.4} %", rank.drawdown * 100.0),
                format!("{:.6}", rank.weight),
                rank.positions.to_string(),
            ]);
        }
        for line in table.lines(out) {
            out.line(line)?;
        }
        if self.burn > 0.0 {
            let text =
                format!("{:.6} of the weight is burned: nobody has earned it yet", self.burn);
            out.line(out.paint(Style::Dim, text))?;
        }
        Ok(())
    }

    pub(super) fn document(&self) -> Value {
        let ranks = self.ranks.iter().enumerate().map(|(at, rank)| {
            json!({
                "rank": at + 1,
                "miner": rank.name,
                "hotkey": rank.hotkey,
                "net_return": rank.total_return - 1.0,
                "largest_drawdown": rank.drawdown,
                "weight": rank.weight,
                "positions": rank.positions,
            })
        });
        json!(ranks.collect::<Vec<_>>())
    }
}
