//! Weights of 2026 from what is owed, and the numbers that go to the chain.
//!
//! Every miner gets its share of the debt, but at least a multiple of a dust weight; what is left
//! of 1 is burnt. Standings come from the fields; sending the chain call is left to others.
//!
//! What must stay true: weights are never negative, and together with what is burnt they sum to 1.

use std::collections::BTreeMap;
use std::fmt;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::paper::payout::remaining;
use crate::paper::score_rules::{ScoringRules2026, ratio};

/// The stage of a miner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[non_exhaustive]
pub enum Bucket {
    /// Proving itself; not paid.
    Challenge,
    /// In the main competition.
    MainComp,
    /// Fell behind, and may come back.
    Probation,
    /// Under suspicion of copying.
    Plagiarism,
    /// Not known.
    Unknown,
}

impl Bucket {
    /// The network's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Challenge => "CHALLENGE",
            Self::MainComp => "MAINCOMP",
            Self::Probation => "PROBATION",
            Self::Plagiarism => "PLAGIARISM",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// Reads the network's word; other words are `Unknown`.
    pub fn parse(text: &str) -> Self {
        [Self::Challenge, Self::MainComp, Self::Probation, Self::Plagiarism]
            .into_iter()
            .find(|b| b.as_str() == text)
            .unwrap_or(Self::Unknown)
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a miner stands for in a round of weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// The miner.
    pub hotkey: String,
    /// Its stage.
    pub bucket: Bucket,
    /// Earned in all settled weeks, in USD.
    pub needed: Decimal,
    /// Emissions received so far, in USD.
    pub paid: Decimal,
    /// What moves it within its stage; `None` for the plain dust of the stage.
    pub performance: Option<Performance>,
}

/// What moves a miner within its stage.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Performance {
    /// Payable profit of the last days in USD; a loss counts as 0.
    pub recent_usd: f64,
    /// Whether there is any collateral.
    pub has_collateral: bool,
}

/// A round of weights.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Weights {
    /// Hotkey and weight, highest first; equal ones in the order they came.
    pub miners: Vec<(String, f64)>,
    /// The part that nobody earned.
    pub burn: f64,
}

impl Weights {
    /// The weight of one miner; 0 without any.
    pub fn of(&self, hotkey: &str) -> f64 {
        self.miners.iter().find(|(name, _)| name == hotkey).map_or(0.0, |(_, w)| *w)
    }

    /// Everything together.
    pub fn sum(&self) -> f64 {
        self.miners.iter().map(|(_, w)| w).sum::<f64>() + self.burn
    }

    /// The arguments of the chain call `set_weights`: uids and their weights, lowest uid first.
    ///
    /// The highest weight becomes 65535 and the others keep their proportion to it; the chain
    /// divides by the sum. What rounds to 0 is left out, as is a hotkey without a uid. The burnt
    /// part goes to `burn_uid`, if there is one.
    pub fn for_chain(
        &self,
        uid: impl Fn(&str) -> Option<u16>,
        burn_uid: Option<u16>,
    ) -> Vec<(u16, u16)> {
        let mut by_uid: BTreeMap<u16, f64> = BTreeMap::new();
        let miners = self.miners.iter().filter_map(|(hotkey, w)| Some((uid(hotkey)?, *w)));
        for (uid, weight) in miners.chain(burn_uid.map(|uid| (uid, self.burn))) {
            if weight > 0.0 {
                *by_uid.entry(uid).or_default() += weight;
            }
        }
        let highest = by_uid.values().copied().fold(0.0, f64::max);
        by_uid
            .into_iter()
            .map(|(uid, weight)| (uid, to_u16(weight / highest)))
            .filter(|(_, weight)| *weight > 0)
            .collect()
    }
}

fn to_u16(share: f64) -> u16 {
    let scaled = (share * f64::from(u16::MAX)).round_ties_even().clamp(0.0, f64::from(u16::MAX));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped above")]
    let whole = scaled as u16;
    whole
}

/// The weights of a field in 2026. Without miners everything is burnt.
pub fn weights(field: &[Standing], rules: &ScoringRules2026) -> Weights {
    let owed: Vec<f64> = field.iter().map(|s| ratio(remaining(s.needed, s.paid))).collect();
    let debt: f64 = owed.iter().sum();
    let floors = floors(field, rules);
    let mut miners: Vec<(String, f64)> = field
        .iter()
        .zip(owed.iter().zip(floors))
        .map(|(standing, (owed, floor))| {
            let share = if debt > 0.0 { owed / debt } else { 0.0 };
            (standing.hotkey.clone(), share.max(floor))
        })
        .collect();
    let sum: f64 = miners.iter().map(|(_, w)| w).sum();
    let burn = if sum < 1.0 {
        1.0 - sum
    } else {
        miners.iter_mut().for_each(|(_, w)| *w /= sum);
        0.0
    };
    miners.sort_by(|a, b| b.1.total_cmp(&a.1));
    Weights { miners, burn }
}

/// The least weight of every miner of the field.
fn floors(field: &[Standing], rules: &ScoringRules2026) -> Vec<f64> {
    let zeroed = zero_weights(field, rules);
    field
        .iter()
        .enumerate()
        .map(|(at, standing)| {
            if zeroed.contains(&at) {
                return 0.0;
            }
            let dusts = rules.dust_multiplier.get(standing.bucket.as_str()).copied();
            let floor = dusts.unwrap_or(0.0) * rules.dust;
            let best = field
                .iter()
                .filter(|other| other.bucket == standing.bucket)
                .filter_map(recent)
                .fold(0.0, f64::max);
            match recent(standing) {
                Some(recent) if best > 0.0 => floor + recent / best * rules.dust,
                _ => floor,
            }
        })
        .collect()
}

fn recent(standing: &Standing) -> Option<f64> {
    standing.performance.map(|p| p.recent_usd.max(0.0))
}

/// Who in the challenge gets nothing: everyone without collateral, and the worst of the others
/// until a share of the stage is reached. A miner alone in the stage is spared.
fn zero_weights(field: &[Standing], rules: &ScoringRules2026) -> Vec<usize> {
    let mut stage: Vec<(usize, Performance)> = field
        .iter()
        .enumerate()
        .filter(|(_, s)| s.bucket == Bucket::Challenge)
        .filter_map(|(at, s)| Some((at, s.performance?)))
        .collect();
    if stage.len() <= 1 {
        return Vec::new();
    }
    let rank = |p: &Performance| (p.has_collateral, p.recent_usd.max(0.0));
    stage.sort_by(|(_, a), (_, b)| {
        let ((a_has, a_usd), (b_has, b_usd)) = (rank(a), rank(b));
        a_has.cmp(&b_has).then(a_usd.total_cmp(&b_usd))
    });
    let without = stage.iter().filter(|(_, p)| !p.has_collateral).count();
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part of a number of miners"
    )]
    let share = (stage.len() as f64 * rules.challenge_zero_weight.share) as usize;
    let count = share.min(rules.challenge_zero_weight.max).max(without);
    stage.into_iter().take(count).map(|(at, _)| at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paper::score_rules::ScoreRules2026;

    fn rules() -> ScoringRules2026 {
        ScoreRules2026::built_in().unwrap().scoring
    }

    fn standing(hotkey: &str, bucket: Bucket, recent_usd: f64, has_collateral: bool) -> Standing {
        Standing {
            hotkey: hotkey.to_owned(),
            bucket,
            needed: Decimal::ZERO,
            paid: Decimal::ZERO,
            performance: Some(Performance { recent_usd, has_collateral }),
        }
    }

    #[test]
    fn the_best_of_a_stage_gets_one_dust_more() {
        let rules = rules();
        let field = [
            standing("best", Bucket::MainComp, 400.0, true),
            standing("half", Bucket::MainComp, 200.0, true),
            standing("loser", Bucket::MainComp, -50.0, true),
            standing("later", Bucket::Probation, 1.0, true),
            standing("nobody", Bucket::Unknown, 0.0, true),
        ];
        let weights = weights(&field, &rules);
        let dusts = |hotkey| weights.of(hotkey) / rules.dust;
        for (hotkey, expected) in
            [("best", 4.0), ("half", 3.5), ("loser", 3.0), ("later", 3.0), ("nobody", 0.0)]
        {
            assert!((dusts(hotkey) - expected).abs() < 1e-9, "{hotkey}: {}", dusts(hotkey));
        }
        assert!((weights.sum() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_worst_quarter_of_the_challenge_gets_nothing() {
        let rules = rules();
        let name = |n: usize| format!("c{n}");
        let field = |n: usize, poor: usize| -> Vec<Standing> {
            (0..n).map(|i| standing(&name(i), Bucket::Challenge, i as f64, i >= poor)).collect()
        };
        let zeroed = |field: &[Standing]| {
            let weights = weights(field, &rules);
            weights.miners.iter().filter(|(_, w)| *w <= 0.0).count()
        };
        assert_eq!(zeroed(&field(1, 1)), 0, "alone");
        assert_eq!(zeroed(&field(3, 0)), 0, "a quarter of three is none");
        assert_eq!(zeroed(&field(8, 0)), 2);
        assert_eq!(zeroed(&field(8, 5)), 5, "without collateral there is no limit");
        assert_eq!(zeroed(&field(100, 0)), 10, "at most ten");
        let weights = weights(&field(8, 0), &rules);
        assert_eq!((weights.of("c0"), weights.of("c1")), (0.0, 0.0));
        assert!(weights.of("c2") > 0.0);
    }

    #[test]
    fn an_empty_field_burns_everything() {
        let weights = weights(&[], &rules());
        assert_eq!(weights.burn, 1.0);
        assert_eq!(weights.for_chain(|_| None, Some(229)), [(229, u16::MAX)]);
        assert_eq!(weights.for_chain(|_| None, None), []);
    }

    #[test]
    fn the_chain_gets_the_highest_as_65535_and_no_zeros() {
        let weights = Weights {
            miners: vec![
                ("a".to_owned(), 0.5),
                ("gone".to_owned(), 0.2),
                ("b".to_owned(), 0.1),
                ("tiny".to_owned(), 1e-7),
            ],
            burn: 0.2,
        };
        let uid = |hotkey: &str| match hotkey {
            "a" => Some(7),
            "b" => Some(3),
            "tiny" => Some(4),
            _ => None,
        };
        assert_eq!(weights.for_chain(uid, Some(229)), [(3, 13107), (7, 65535), (229, 26214)]);
        // A miner that has the burning uid keeps its own weight as well.
        assert_eq!(weights.for_chain(uid, Some(3)), [(3, 39321), (7, 65535)]);
    }
}
