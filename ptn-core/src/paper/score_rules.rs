//! The numbers of drawdown, elimination, scoring and weights, read from the rules files.
//!
//! Only the sections that these modules need are read; the rest of a rules file belongs to the
//! order side. A file that lacks a number is refused with the name of the missing key.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _};
use serde_json::Value;

use crate::paper::DAY_MS;
use crate::rules::{Era, RulesError};

const RULES_2024: &str = include_str!("../../data/rules_2024.json");
const RULES_2026: &str = include_str!("../../data/rules_2026.json");
/// Numbers of `scoring` that the rules files do not hold, by rule set.
const MORE: &str = include_str!("../../data/paper_scores.json");

/// Reads a rules file; what its `scoring` lacks is taken from our own file.
fn read<T: DeserializeOwned>(text: &str, era: Era) -> Result<T, RulesError> {
    let bad = |e: serde_json::Error| RulesError::Rules { reason: e.to_string() };
    let mut rules: Value = serde_json::from_str(text).map_err(bad)?;
    let mut more: Value = serde_json::from_str(MORE).map_err(bad)?;
    let more = more.get_mut(era.as_str()).and_then(Value::as_object_mut).map(std::mem::take);
    if let Some(scoring) = rules.get_mut("scoring").and_then(Value::as_object_mut) {
        for (key, value) in more.into_iter().flatten() {
            scoring.entry(key).or_insert(value);
        }
    }
    serde_json::from_value(rules).map_err(bad)
}

/// What rule set 2024 says about drawdown, elimination and scores.
#[derive(Debug, Clone, Deserialize)]
pub struct ScoreRules2024 {
    /// When and where an account is eliminated for its losses.
    pub drawdown: DrawdownRules2024,
    /// The other ways out.
    pub elimination: EliminationRules2024,
    /// How closed positions become weights.
    pub scoring: ScoringRules2024,
}

impl ScoreRules2024 {
    /// The rules that are compiled in.
    ///
    /// # Errors
    /// Never for the built-in file; a test reads it.
    pub fn built_in() -> Result<Self, RulesError> {
        Self::from_json(RULES_2024)
    }

    /// The rules in the text of a rules file.
    ///
    /// # Errors
    /// When a key is missing or has the wrong form; the error names it.
    pub fn from_json(text: &str) -> Result<Self, RulesError> {
        read(text, Era::Y2024)
    }
}

/// The drawdown limits of 2024, as ratios of the peak (1 = no loss).
#[derive(Debug, Clone, Deserialize)]
pub struct DrawdownRules2024 {
    /// Time between two checks, in ms.
    pub check_interval_ms: i64,
    /// The daily limit.
    pub daily: DailyRule2024,
    /// The limit that always holds.
    pub total: TotalRule2024,
}

/// The limit that holds only in a window of the UTC day.
#[derive(Debug, Clone, Deserialize)]
pub struct DailyRule2024 {
    /// Below this ratio the miner is out.
    pub floor: f64,
    /// When it is tested.
    #[serde(rename = "window_utc")]
    pub window: DayWindow,
    /// The reason in the elimination row.
    pub reason: String,
}

/// The limit that holds at any time.
#[derive(Debug, Clone, Deserialize)]
pub struct TotalRule2024 {
    /// Below this ratio the miner is out.
    pub floor: f64,
    /// The reason in the elimination row.
    pub reason: String,
}

/// A part of every UTC day, written `00:00:00 to 00:04:59`; the last second belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayWindow {
    /// Milliseconds since midnight, inclusive.
    pub start_ms: i64,
    /// Milliseconds since midnight, exclusive.
    pub end_ms: i64,
}

impl DayWindow {
    /// Whether a time lies in the window.
    pub const fn contains(self, at_ms: i64) -> bool {
        let since_midnight = at_ms.rem_euclid(DAY_MS);
        self.start_ms <= since_midnight && since_midnight < self.end_ms
    }

    /// The first time after `at_ms` at which the window opens.
    pub const fn next_start_ms(self, at_ms: i64) -> i64 {
        let today = at_ms - at_ms.rem_euclid(DAY_MS) + self.start_ms;
        if today > at_ms { today } else { today + DAY_MS }
    }

    fn parse(text: &str) -> Option<Self> {
        let (from, to) = text.split_once(" to ")?;
        let time = |t: &str| t.parse::<jiff::civil::Time>().ok();
        let ms = |t: jiff::civil::Time| {
            (i64::from(t.hour()) * 60 + i64::from(t.minute())) * 60_000
                + i64::from(t.second()) * 1000
        };
        let window = Self { start_ms: ms(time(from)?), end_ms: ms(time(to)?) + 1000 };
        (window.start_ms < window.end_ms).then_some(window)
    }
}

impl<'de> Deserialize<'de> for DayWindow {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        Self::parse(&text)
            .ok_or_else(|| D::Error::custom(format!("{text:?} is not `HH:MM:SS to HH:MM:SS`")))
    }
}

/// Elimination for copying, and when an eliminated hotkey may come back.
#[derive(Debug, Clone, Deserialize)]
pub struct EliminationRules2024 {
    /// A plagiarism score above this eliminates.
    pub plagiarism_threshold: f64,
    /// A row is dropped this long after the elimination, once the hotkey left the metagraph.
    pub file_deletion_delay_ms: i64,
}

/// How 2024 scores closed positions.
#[derive(Debug, Clone, Deserialize)]
pub struct ScoringRules2024 {
    /// Time between two rounds of weights, in ms.
    pub interval_ms: i64,
    /// Positions opened longer ago do not count.
    pub lookback_days: i64,
    /// With fewer positions a miner gets only the grace value.
    pub min_positions: usize,
    /// Shorter positions do not count, in ms.
    pub min_position_duration_ms: i64,
    /// The weight of a miner with too few positions.
    pub grace_value: f64,
    /// How fast a return fades: the exponent of the age.
    pub decay_coefficient: f64,
    /// Returns below count as this much, so that their logarithm exists.
    pub return_floor: f64,
    /// How the three metrics are mixed.
    pub metric_weights: MetricWeights,
    /// Smallest denominator of omega.
    pub omega_min_denominator: f64,
    /// The deviation that stands for none.
    pub sharpe_min_std: f64,
    /// The share of the weight that goes to the top miners.
    pub top_miner_benefit: f64,
    /// Which share of the miners is at the top.
    pub top_miner_percent: f64,
    /// `version_key` of the chain call.
    pub version_key: u64,
}

impl ScoringRules2024 {
    /// The lookback in ms.
    pub const fn lookback_ms(&self) -> i64 {
        self.lookback_days * DAY_MS
    }
}

/// The share of each metric in the score of 2024.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct MetricWeights {
    /// Gains over losses.
    pub omega: f64,
    /// The product of all returns.
    pub total_return: f64,
    /// Mean over deviation.
    pub sharpe: f64,
}

/// What rule set 2026 says about drawdown, elimination, payouts and weights.
#[derive(Debug, Clone, Deserialize)]
pub struct ScoreRules2026 {
    /// When and where an account is eliminated for its losses.
    pub drawdown: DrawdownRules2026,
    /// The first stage of a miner.
    pub challenge: ChallengeRules,
    /// The stage of a miner that fell behind.
    pub probation: ProbationRules,
    /// Elimination for doing nothing.
    pub inactivity: InactivityRules,
    /// How debt becomes weights.
    pub scoring: ScoringRules2026,
}

impl ScoreRules2026 {
    /// The rules that are compiled in.
    ///
    /// # Errors
    /// Never for the built-in file; a test reads it.
    pub fn built_in() -> Result<Self, RulesError> {
        Self::from_json(RULES_2026)
    }

    /// The rules in the text of a rules file.
    ///
    /// # Errors
    /// When a key is missing or has the wrong form; the error names it.
    pub fn from_json(text: &str) -> Result<Self, RulesError> {
        let rules: Self = read(text, Era::Y2026)?;
        let refresh = rules.drawdown.refresh_ms;
        let checkpoint = rules.scoring.checkpoint_ms;
        let fits =
            refresh > 0 && checkpoint > 0 && checkpoint % refresh == 0 && DAY_MS % checkpoint == 0;
        if !fits {
            return Err(RulesError::Rules {
                reason: format!(
                    "scoring.checkpoint_ms {checkpoint} must divide a day and be a multiple of \
                     drawdown.refresh_ms {refresh}"
                ),
            });
        }
        Ok(rules)
    }
}

/// Losses at which an account is eliminated, as fractions.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct Limits {
    /// Against the equity at the last UTC midnight.
    pub intraday: f64,
    /// The last midnight's equity against the highest midnight's.
    pub eod: Option<f64>,
    /// Against the starting balance.
    #[serde(rename = "static")]
    pub fixed: Option<f64>,
    /// These limits hold for accounts registered before this time.
    pub registered_before_ms: Option<i64>,
}

/// The drawdown limits of 2026.
#[derive(Debug, Clone, Deserialize)]
pub struct DrawdownRules2026 {
    /// In the challenge.
    pub challenge: Limits,
    /// In the main competition and in probation.
    pub main: Limits,
    /// Funded subaccounts of the first kind.
    pub funded_v0: Limits,
    /// Funded subaccounts of the second kind.
    pub funded_v1: Limits,
    /// Subaccounts with a fixed limit.
    pub static_subaccount: Limits,
    /// Time between two checks, in ms.
    pub refresh_ms: i64,
    /// Regular miners are eliminated by these limits only from this time on.
    pub regular_miner_enforced_from_ms: i64,
}

/// The first stage: how long, and what it takes to pass.
#[derive(Debug, Clone, Deserialize)]
pub struct ChallengeRules {
    /// No promotion before.
    pub min_days: i64,
    /// Elimination after.
    pub max_days: i64,
    /// The return to exceed, per asset class.
    pub returns: BTreeMap<String, f64>,
    /// The worst rank in the asset class that is in the main competition.
    pub promotion_rank: usize,
}

/// How long a miner may try to come back.
#[derive(Debug, Clone, Deserialize)]
pub struct ProbationRules {
    /// What the network's code does; its documentation says less.
    #[serde(rename = "max_days_code")]
    pub max_days: i64,
}

/// Elimination for doing nothing.
#[derive(Debug, Clone, Deserialize)]
pub struct InactivityRules {
    /// Days without an order.
    pub max_days: i64,
    /// From this day on, 00:00 UTC.
    #[serde(rename = "enforced_from_utc", deserialize_with = "day")]
    pub enforced_from_ms: i64,
}

fn day<'de, D: Deserializer<'de>>(d: D) -> Result<i64, D::Error> {
    let text = String::deserialize(d)?;
    let date: jiff::civil::Date = text.parse().map_err(D::Error::custom)?;
    let midnight = jiff::tz::TimeZone::UTC.to_timestamp(date.into()).map_err(D::Error::custom)?;
    Ok(midnight.as_millisecond())
}

/// How 2026 makes weights.
#[derive(Debug, Clone, Deserialize)]
pub struct ScoringRules2026 {
    /// Time between two rounds of weights, in ms.
    pub interval_ms: i64,
    /// The least weight of a miner is a multiple of this.
    pub dust: f64,
    /// The multiple, by stage.
    pub dust_multiplier: BTreeMap<String, f64>,
    /// Who gets what nobody earned.
    pub burn_uid: BurnUid,
    /// `version_key` of the chain call.
    pub version_key: u64,
    /// When a week is settled.
    pub week_end: WeekEnd,
    /// Length of a checkpoint of the ledger, in ms.
    pub checkpoint_ms: i64,
    /// Only checkpoints in these stages are paid.
    pub earning_buckets: Vec<String>,
    /// The dust bonus looks back this far.
    pub performance_days: i64,
    /// Who in the challenge gets nothing.
    pub challenge_zero_weight: ZeroWeight,
}

/// The uid that burns.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct BurnUid {
    /// On the main network.
    pub mainnet: u16,
    /// On the test network, as the code has it.
    #[serde(rename = "testnet_code_dec2025")]
    pub testnet: u16,
}

/// The share of the challenge that gets no weight.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct ZeroWeight {
    /// Of all challenge miners, rounded down.
    pub share: f64,
    /// At most this many.
    pub max: usize,
}

/// A moment of the week, written `Sunday 00:00 UTC`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeekEnd {
    after_monday_ms: i64,
}

impl WeekEnd {
    /// 1970 began on a Thursday.
    const FIRST_MONDAY_MS: i64 = 4 * DAY_MS;

    /// The latest week end that is not after `at_ms`.
    pub const fn last_ms(self, at_ms: i64) -> i64 {
        let since = at_ms - Self::FIRST_MONDAY_MS - self.after_monday_ms;
        at_ms - since.rem_euclid(super::WEEK_MS)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let days = match words.next()? {
            "Monday" => 0,
            "Tuesday" => 1,
            "Wednesday" => 2,
            "Thursday" => 3,
            "Friday" => 4,
            "Saturday" => 5,
            "Sunday" => 6,
            _ => return None,
        };
        let time: jiff::civil::Time = words.next()?.parse().ok()?;
        if (words.next(), words.next()) != (Some("UTC"), None) {
            return None;
        }
        let minutes = i64::from(time.hour()) * 60 + i64::from(time.minute());
        Some(Self { after_monday_ms: days * DAY_MS + minutes * 60_000 })
    }
}

impl<'de> Deserialize<'de> for WeekEnd {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        Self::parse(&text)
            .ok_or_else(|| D::Error::custom(format!("{text:?} is not like `Sunday 00:00 UTC`")))
    }
}

/// Decimals as text in saved states.
pub(crate) mod decimal_text {
    use rust_decimal::Decimal;
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
    pub(crate) fn serialize<S: Serializer>(value: &Decimal, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(value)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Decimal, D::Error> {
        String::deserialize(d)?.parse().map_err(D::Error::custom)
    }
}

/// A decimal as a double, for ratios and scores.
pub(crate) fn ratio(value: Decimal) -> f64 {
    // The conversion never fails for a decimal; zero would be harmless.
    f64::try_from(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_files_have_every_number() {
        let y2024 = ScoreRules2024::built_in().unwrap();
        assert_eq!(y2024.drawdown.daily.window, DayWindow { start_ms: 0, end_ms: 5 * 60 * 1000 });
        let y2026 = ScoreRules2026::built_in().unwrap();
        assert_eq!(y2026.inactivity.enforced_from_ms, 1_780_876_800_000);
        for bucket in &y2026.scoring.earning_buckets {
            assert!(y2026.scoring.dust_multiplier.contains_key(bucket), "{bucket}");
        }
    }

    #[test]
    fn a_missing_number_is_named() {
        let text = RULES_2026.replace("\"refresh_ms\"", "\"x\"");
        let error = ScoreRules2026::from_json(&text).unwrap_err().to_string();
        assert!(error.contains("refresh_ms"), "{error}");
    }

    #[test]
    fn a_rules_file_may_have_the_other_numbers_too() {
        let text = RULES_2026.replace("\"dust\"", "\"performance_days\": 7, \"dust\"");
        assert_eq!(ScoreRules2026::from_json(&text).unwrap().scoring.performance_days, 7);
    }

    #[test]
    fn weeks_end_on_sundays() {
        let end = WeekEnd::parse("Sunday 00:00 UTC").unwrap();
        // Sunday 2024-04-07 00:00 UTC.
        let sunday = 1_712_448_000_000;
        assert_eq!(end.last_ms(sunday), sunday);
        assert_eq!(end.last_ms(sunday - 1), sunday - super::super::WEEK_MS);
        assert_eq!(end.last_ms(sunday + 3 * DAY_MS), sunday);
        assert_eq!(WeekEnd::parse("Sunday"), None);
        assert_eq!(WeekEnd::parse("Sunday 00:00 CET"), None);
    }

    #[test]
    fn the_window_has_its_last_second() {
        let window = DayWindow::parse("00:00:00 to 00:04:59").unwrap();
        assert!(window.contains(0) && window.contains(299_999) && !window.contains(300_000));
        assert_eq!(window.next_start_ms(0), DAY_MS);
        assert_eq!(window.next_start_ms(-1), 0);
        assert_eq!(DayWindow::parse("00:05:00 to 00:04:00"), None);
    }
}
