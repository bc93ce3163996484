//! What a replay found. The JSON form of these types is the output of `ptn-cli paper replay --json`
//! and stays as it is; new fields may come. Returns, fees and drawdowns are fractions: 0.01 is 1 %.

use serde::Serialize;

use super::super::curve::Point;
use super::super::elimination::Elimination;
use crate::store::UnixMs;

/// The whole result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// `ptn-paper-replay/1`.
    pub schema: &'static str,
    /// The rule set: 2024 or 2026.
    pub rules: String,
    /// The firm's name in the field.
    pub hotkey: String,
    /// Size of the account in US dollars (2026).
    pub account_usd: Option<f64>,
    /// The first event, in ms.
    pub start_ms: UnixMs,
    /// The last event, in ms.
    pub end_ms: UnixMs,
    /// How many prices were read.
    pub prices: u64,
    /// What became of the signals.
    pub signals: Signals,
    /// The whole account, the open positions at their last prices.
    pub total: Total,
    /// By pair, in the order of their ids.
    pub pairs: Vec<PairRow>,
    /// How far it fell.
    pub drawdown: DrawdownRow,
    /// Whether the validator put the firm out.
    pub eliminated: Option<Elimination>,
    /// What was refused and why, in order of time.
    pub refused: Vec<RefusedRow>,
    /// What else a trader should know, in order of time.
    pub notes: Vec<Note>,
    /// The weights at the end.
    pub weight: WeightRow,
    /// The account over time, at most [`crate::paper::MOST_POINTS`] points.
    pub curve: Vec<Point>,
}

/// How many signals met which fate. They add up to `total`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Signals {
    /// All.
    pub total: u64,
    /// Executed at once.
    pub filled: u64,
    /// Waited for a price; what became of them later is not counted here.
    pub resting: u64,
    /// Answered with success and nothing was done.
    pub ignored: u64,
    /// Cancelled or edited others.
    pub managed: u64,
    /// Refused.
    pub refused: u64,
}

/// Returns of the account.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Total {
    /// After fees.
    pub net_return: f64,
    /// Before fees.
    pub gross_return: f64,
    /// The difference.
    pub fees: f64,
    /// Fees in US dollars (2026).
    pub fees_usd: Option<f64>,
}

/// A pair.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PairRow {
    /// Its id.
    pub pair: String,
    /// Positions, the open one included.
    pub positions: usize,
    /// Whether one is still open.
    pub open: bool,
    /// Orders in them.
    pub orders: usize,
    /// Its returns.
    #[serde(flatten)]
    pub total: Total,
}

/// Drawdown.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DrawdownRow {
    /// The largest fall below the highest value so far, at any price.
    pub largest: f64,
    /// When, in ms.
    pub at_ms: UnixMs,
    /// The nearest that a check of the validator came to elimination.
    pub closest: Option<Closest>,
}

/// Distance to elimination.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Closest {
    /// Percent points of loss that were left; below 0 the limit was broken.
    pub points_left: f64,
    /// When, in ms.
    pub at_ms: UnixMs,
}

/// A refused signal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusedRow {
    /// When, in ms.
    pub at_ms: UnixMs,
    /// Its uuid.
    pub order_uuid: String,
    /// Its pair, where it names one.
    pub pair: Option<String>,
    /// `miner`: it would not have been sent; `validator`: what the network answers.
    pub by: &'static str,
    /// Stable.
    pub code: String,
    /// The exact text.
    pub text: String,
}

/// Something that happened without being refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// When, in ms.
    pub at_ms: UnixMs,
    /// The order or position.
    pub uuid: String,
    /// What happened.
    pub text: String,
}

/// The firm among others.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WeightRow {
    /// Of the firm.
    pub firm: f64,
    /// What is burned (2026).
    pub burn: f64,
    /// Everybody, the highest weight first, names in order where weights are equal.
    pub field: Vec<Member>,
    /// Who the others are.
    pub about: &'static str,
}

/// One of the field.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Member {
    /// Its name.
    pub hotkey: String,
    /// Its weight.
    pub weight: f64,
    /// Its return after fees.
    pub net_return: f64,
    /// Whether it was put out.
    pub eliminated: bool,
}
