//! Who is out, why, and what every later signal of that hotkey is answered.
//!
//! Rows have the network's shape. Deciding that a miner is out is left to the fields; closing its
//! positions and cancelling its resting orders, which every elimination entails, is left to whoever
//! holds them.
//!
//! What must stay true: a hotkey has at most one row, and the first reason stays.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::json::python_float;
use crate::paper::score_rules::EliminationRules2024;
use crate::rules::Era;

/// Why a miner is out, beyond the drawdown reasons of 2024, whose words stand in the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// Lost too much before passing the challenge.
    ChallengeDrawdown(super::drawdown::Breach2026),
    /// Lost too much after it.
    FundedDrawdown(super::drawdown::Breach2026),
    /// Did not pass the challenge in time.
    ChallengeTime,
    /// Did not come back from probation in time.
    ProbationTime,
    /// Sent no order for too long.
    Inactive,
    /// Copied another miner.
    Plagiarism,
    /// Left the metagraph.
    Deregistered,
}

impl Reason {
    /// The network's word under a rule set.
    pub const fn as_str(self, era: Era) -> &'static str {
        use super::drawdown::Breach2026::{Eod, Intraday, Static};
        match self {
            Self::ChallengeDrawdown(Static) => "FAILED_CHALLENGE_PERIOD_STATIC_DRAWDOWN",
            Self::ChallengeDrawdown(Intraday) => "FAILED_CHALLENGE_PERIOD_INTRADAY_DRAWDOWN",
            Self::ChallengeDrawdown(Eod) => "FAILED_CHALLENGE_PERIOD_EOD_DRAWDOWN",
            Self::FundedDrawdown(Static) => "FAILED_FUNDED_PERIOD_STATIC_DRAWDOWN",
            Self::FundedDrawdown(Intraday) => "FAILED_FUNDED_PERIOD_INTRADAY_DRAWDOWN",
            Self::FundedDrawdown(Eod) => "FAILED_FUNDED_PERIOD_EOD_DRAWDOWN",
            Self::ChallengeTime => "FAILED_CHALLENGE_PERIOD_TIME",
            Self::ProbationTime => "FAILED_PROBATION_TIME",
            Self::Inactive => "INACTIVE",
            Self::Plagiarism => match era {
                Era::Y2024 => "plagiarism",
                Era::Y2025 | Era::Y2026 => "PLAGIARISM",
            },
            Self::Deregistered => "DEREGISTERED",
        }
    }
}

/// A row of the network's elimination file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Elimination {
    /// Who is out.
    pub hotkey: String,
    /// Since when.
    pub elimination_initiated_time_ms: i64,
    /// The drawdown that decided. 2024: the ratio to the peak, 1 = no loss. 2026: percent of loss.
    /// -1 where no drawdown decided.
    pub dd: f64,
    /// The network's word for the reason.
    pub reason: String,
}

impl Elimination {
    /// The `dd` of an elimination that no drawdown decided.
    pub const NO_DRAWDOWN: f64 = -1.0;
}

/// The row as Python prints a dictionary: the form in which the network's answers quote it.
impl fmt::Display for Elimination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{{'hotkey': '{}', 'elimination_initiated_time_ms': {}, 'dd': {}, 'reason': '{}'}}",
            self.hotkey,
            self.elimination_initiated_time_ms,
            python_float(self.dd),
            self.reason
        )
    }
}

/// All who are out.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Eliminations {
    rows: Vec<Elimination>,
    departed: BTreeMap<String, i64>,
}

impl Eliminations {
    /// Adds a row, unless the hotkey has one. Tells whether it was new.
    pub fn add(&mut self, row: Elimination) -> bool {
        let new = self.get(&row.hotkey).is_none();
        if new {
            self.rows.push(row);
        }
        new
    }

    /// The row of a hotkey.
    pub fn get(&self, hotkey: &str) -> Option<&Elimination> {
        self.rows.iter().find(|row| row.hotkey == hotkey)
    }

    /// All rows, oldest first.
    pub fn rows(&self) -> &[Elimination] {
        &self.rows
    }

    /// Judges a plagiarism score by the rules of 2024. The network's block list counts as a score
    /// of 1. Tells whether the hotkey is newly out.
    pub fn plagiarism_2024(
        &mut self,
        hotkey: &str,
        score: f64,
        now_ms: i64,
        rules: &EliminationRules2024,
    ) -> bool {
        score > rules.plagiarism_threshold
            && self.add(Elimination {
                hotkey: hotkey.to_owned(),
                elimination_initiated_time_ms: now_ms,
                dd: Elimination::NO_DRAWDOWN,
                reason: Reason::Plagiarism.as_str(Era::Y2024).to_owned(),
            })
    }

    /// Drops the rows that 2024 forgets: old enough, and of hotkeys that left the metagraph. Such a
    /// hotkey may register again. 2026 never forgets; do not call it there.
    pub fn forget_2024(
        &mut self,
        now_ms: i64,
        in_metagraph: impl Fn(&str) -> bool,
        rules: &EliminationRules2024,
    ) {
        self.rows.retain(|row| {
            let age = now_ms - row.elimination_initiated_time_ms;
            age < rules.file_deletion_delay_ms || in_metagraph(&row.hotkey)
        });
    }

    /// Notes that a hotkey left the metagraph. 2026 never lets it come back.
    pub fn depart(&mut self, hotkey: &str, now_ms: i64) {
        self.departed.entry(hotkey.to_owned()).or_insert(now_ms);
    }

    /// The answer to every signal of this hotkey, or `None` if it may trade (R2, R2' and R11 of the
    /// error catalogue).
    pub fn refusal(&self, hotkey: &str, era: Era) -> Option<String> {
        if let Some(row) = self.get(hotkey) {
            return Some(match era {
                Era::Y2024 => format!(
                    "This miner hotkey {hotkey} has been eliminated for reason {row} and cannot \
                     participate in this subnet. Try again after re-registering."
                ),
                Era::Y2025 | Era::Y2026 => format!(
                    "This miner hotkey {hotkey} has been eliminated and cannot participate in \
                     this subnet. Try again after re-registering. elimination_info {row}"
                ),
            });
        }
        let left_ms = self.departed.get(hotkey).filter(|_| era != Era::Y2024)?;
        let left = match jiff::Timestamp::from_millisecond(*left_ms) {
            Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
            Err(_) => left_ms.to_string(),
        };
        Some(format!(
            "This miner hotkey {hotkey} was previously de-registered and is not allowed to \
             re-register. De-registered on: {left} UTC. Re-registration is not permitted on this \
             subnet."
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paper::score_rules::ScoreRules2024;

    fn row(hotkey: &str, at_ms: i64, dd: f64) -> Elimination {
        Elimination {
            hotkey: hotkey.to_owned(),
            elimination_initiated_time_ms: at_ms,
            dd,
            reason: "MAX_TOTAL_DRAWDOWN".to_owned(),
        }
    }

    #[test]
    fn the_first_reason_stays() {
        let mut list = Eliminations::default();
        assert!(list.add(row("a", 5, 0.8)));
        assert!(!list.add(row("a", 9, 0.7)));
        assert_eq!(list.get("a").unwrap().elimination_initiated_time_ms, 5);
    }

    #[test]
    fn the_refusals_quote_the_row_as_python_does() {
        let mut list = Eliminations::default();
        list.add(row("5Abc", 1_712_577_600_000, 0.883_599_999_999_999_9));
        let quoted = "{'hotkey': '5Abc', 'elimination_initiated_time_ms': 1712577600000, \
                      'dd': 0.8835999999999999, 'reason': 'MAX_TOTAL_DRAWDOWN'}";
        assert_eq!(
            list.refusal("5Abc", Era::Y2024).unwrap(),
            format!(
                "This miner hotkey 5Abc has been eliminated for reason {quoted} and cannot \
                 participate in this subnet. Try again after re-registering."
            )
        );
        assert_eq!(
            list.refusal("5Abc", Era::Y2026).unwrap(),
            format!(
                "This miner hotkey 5Abc has been eliminated and cannot participate in this \
                 subnet. Try again after re-registering. elimination_info {quoted}"
            )
        );
        assert_eq!(list.refusal("5Def", Era::Y2026), None);
    }

    #[test]
    fn a_hotkey_that_left_may_not_return_in_2026() {
        let mut list = Eliminations::default();
        list.depart("5Abc", 1_712_577_600_000);
        assert_eq!(
            list.refusal("5Abc", Era::Y2026).unwrap(),
            "This miner hotkey 5Abc was previously de-registered and is not allowed to \
             re-register. De-registered on: 2024-04-08 12:00:00 UTC. Re-registration is not \
             permitted on this subnet."
        );
        assert_eq!(list.refusal("5Abc", Era::Y2024), None);
    }

    #[test]
    fn copying_is_out_above_the_threshold_and_2024_forgets_who_left() {
        let rules = ScoreRules2024::built_in().unwrap().elimination;
        let mut list = Eliminations::default();
        assert!(!list.plagiarism_2024("a", rules.plagiarism_threshold, 0, &rules));
        assert!(list.plagiarism_2024("a", 1.0, 0, &rules));
        assert_eq!(list.get("a").unwrap().reason, "plagiarism");
        assert_eq!(list.get("a").unwrap().dd, -1.0);
        let delay = rules.file_deletion_delay_ms;
        list.forget_2024(delay, |_| true, &rules);
        list.forget_2024(delay - 1, |_| false, &rules);
        assert_eq!(list.rows().len(), 1);
        list.forget_2024(delay, |_| false, &rules);
        assert_eq!(list.refusal("a", Era::Y2024), None);
    }

    #[test]
    fn doubles_print_as_in_python() {
        for (value, text) in [
            (0.94, "0.94"),
            (-1.0, "-1.0"),
            (0.0, "0.0"),
            (0.0001, "0.0001"),
            (1.5e-5, "1.5e-05"),
            (1e-12, "1e-12"),
            (5.000_000_000_000_004, "5.000000000000004"),
        ] {
            assert_eq!(python_float(value), text);
        }
    }
}
