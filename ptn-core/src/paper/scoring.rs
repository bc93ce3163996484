//! The score of 2024: closed positions fade with age, three metrics rank the miners, ranks become
//! weights.
//!
//! Pure functions over returns; which positions count is decided by the ledger.
//!
//! What must stay true: ranking is stable, and sums are taken in the order in which the network's
//! numeric library takes them: whether equal returns have a deviation of exactly zero depends on
//! that order, and the rule for a deviation of zero decides their rank.

use crate::paper::DAY_MS;
use crate::paper::score_rules::ScoringRules2024;

/// How a closed position counts at some time. All values are ratios or logarithms of ratios.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decayed {
    /// Age as a fraction of the lookback, 0 to 1.
    pub lookback_fraction: f64,
    /// Natural logarithm of the return.
    pub log_return: f64,
    /// The logarithm after fading.
    pub dampened_log_return: f64,
    /// The return that counts.
    pub augmented_return: f64,
}

/// Fades the return of a position that closed `age_ms` ago.
pub fn decay(return_at_close: f64, age_ms: i64, rules: &ScoringRules2024) -> Decayed {
    #[expect(clippy::cast_precision_loss, reason = "ages are far below 2^53 ms")]
    let days = age_ms as f64 / DAY_MS as f64;
    decay_log(return_at_close.max(rules.return_floor).ln(), days, rules)
}

/// [`decay`] for a logarithm that is known, and an age in days.
pub(crate) fn decay_log(log_return: f64, age_days: f64, rules: &ScoringRules2024) -> Decayed {
    #[expect(clippy::cast_precision_loss, reason = "a number of days")]
    let lookback_fraction = (age_days / rules.lookback_days as f64).clamp(0.0, 1.0);
    let alpha = 1.0 - lookback_fraction.powf(rules.decay_coefficient);
    let dampened_log_return = alpha * log_return;
    Decayed {
        lookback_fraction,
        log_return,
        dampened_log_return,
        augmented_return: dampened_log_return.exp(),
    }
}

/// The three metrics of a miner.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metrics {
    /// Sum of gains over sum of losses.
    pub omega: f64,
    /// Product of all returns.
    pub total_return: f64,
    /// Mean gain over the deviation of the returns.
    pub sharpe: f64,
}

impl Metrics {
    /// The metrics of faded returns. Without returns all are neutral.
    pub fn of(returns: &[f64], rules: &ScoringRules2024) -> Self {
        let (mut gains, mut losses) = (0.0, 0.0);
        for change in returns.iter().map(|r| r - 1.0) {
            if change > 0.0 {
                gains += change;
            } else {
                losses += change;
            }
        }
        let omega = gains / f64::max(f64::abs(losses), rules.omega_min_denominator);
        let total_return = returns.iter().product();
        #[expect(clippy::cast_precision_loss, reason = "a number of positions")]
        let n = returns.len().max(1) as f64;
        let mean = pairwise_sum(returns) / n;
        let squares: Vec<f64> = returns.iter().map(|r| (r - mean) * (r - mean)).collect();
        let deviation = (pairwise_sum(&squares) / n).sqrt();
        let deviation = if deviation > 0.0 { deviation } else { rules.sharpe_min_std };
        Self { omega, total_return, sharpe: (mean - 1.0) / deviation }
    }
}

/// Sums as the network's numeric library does: eight sums side by side in blocks of 128, larger
/// lists halved.
fn pairwise_sum(values: &[f64]) -> f64 {
    const LANES: usize = 8;
    const BLOCK: usize = 128;
    if values.len() < LANES {
        return values.iter().sum();
    }
    if values.len() > BLOCK {
        let half = values.len() / 2;
        let (left, right) = values.split_at(half - half % LANES);
        return pairwise_sum(left) + pairwise_sum(right);
    }
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder();
    let mut lanes = [0.0; LANES];
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += value;
        }
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    rest.iter().fold(((a + b) + (c + d)) + ((e + f) + (g + h)), |sum, value| sum + value)
}

/// The weight of each rank among `miners`, best first; they sum to 1.
pub fn rank_weights(miners: usize, rules: &ScoringRules2024) -> Vec<f64> {
    if miners <= 1 {
        return vec![1.0; miners];
    }
    #[expect(clippy::cast_precision_loss, reason = "a number of miners")]
    let (n, ranks) = (miners as f64, (0..miners).map(|rank| rank as f64));
    let steepness = -(1.0 - rules.top_miner_benefit).ln() / (rules.top_miner_percent * n);
    let raw: Vec<f64> = ranks.map(|rank| (-steepness * rank).exp()).collect();
    let sum = pairwise_sum(&raw);
    raw.into_iter().map(|w| w / sum).collect()
}

/// The weights of a field, highest first, from the faded returns of its miners.
///
/// Miners with enough positions share a weight of 1 by rank. Each miner with fewer gets the grace
/// value on top, so that the sum can exceed 1; without any it gets nothing. One miner alone gets 1.
pub fn weights(field: &[(&str, Vec<f64>)], rules: &ScoringRules2024) -> Vec<(String, f64)> {
    if let [(only, _)] = field {
        return vec![((*only).to_owned(), 1.0)];
    }
    let ranked: Vec<(usize, Metrics)> = field
        .iter()
        .enumerate()
        .filter(|(_, (_, returns))| returns.len() >= rules.min_positions)
        .map(|(at, (_, returns))| (at, Metrics::of(returns, rules)))
        .collect();
    let by_rank = rank_weights(ranked.len(), rules);
    // In the order of the first ranking, which decides between equals at the end.
    let mut combined: Vec<(usize, f64)> = Vec::new();
    let mut rank = |share: f64, metric: fn(&Metrics) -> f64| {
        let mut ranking: Vec<(usize, f64)> =
            ranked.iter().map(|(at, m)| (*at, metric(m))).collect();
        ranking.sort_by(|a, b| b.1.total_cmp(&a.1));
        for ((at, _), weight) in ranking.iter().zip(&by_rank) {
            match combined.iter_mut().find(|(other, _)| other == at) {
                Some((_, sum)) => *sum += weight * share,
                None => combined.push((*at, weight * share)),
            }
        }
    };
    rank(rules.metric_weights.omega, |m| m.omega);
    rank(rules.metric_weights.total_return, |m| m.total_return);
    rank(rules.metric_weights.sharpe, |m| m.sharpe);
    let sum: f64 = combined.iter().map(|(_, w)| w).sum();
    let name = |at: usize| field.get(at).map_or_else(String::new, |(name, _)| (*name).to_owned());
    let graced = field
        .iter()
        .filter(|(_, returns)| !returns.is_empty() && returns.len() < rules.min_positions)
        .map(|(name, _)| ((*name).to_owned(), rules.grace_value));
    let mut weights: Vec<(String, f64)> =
        combined.iter().map(|(at, w)| (name(*at), w / sum)).chain(graced).collect();
    weights.sort_by(|a, b| b.1.total_cmp(&a.1));
    weights
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paper::score_rules::ScoreRules2024;

    /// Sums that the network's numeric library printed for these lists; adding from left to right
    /// gives other last digits.
    #[test]
    fn sums_are_those_of_the_numeric_library() {
        for (n, sum) in [(10, 9.953_000_000_000_001), (137, 136.997), (300, 299.967_999_999_999_96)]
        {
            let list: Vec<f64> =
                (0..n).map(|i| 1.0 + f64::from((i * 37) % 101 - 50) / 1000.0).collect();
            assert_eq!(pairwise_sum(&list), sum, "{n}");
        }
    }

    #[test]
    fn ten_equal_returns_have_no_deviation() {
        let rules = ScoreRules2024::built_in().unwrap().scoring;
        let sharpe = |n| Metrics::of(&vec![1.01; n], &rules).sharpe;
        assert!((sharpe(10) - 1e4).abs() < 1e-3);
        // Rounding gives a hundred equal returns a deviation, in the network as here.
        assert!(sharpe(100) > 1e13);
    }

    #[test]
    fn one_miner_alone_gets_everything_and_none_nothing() {
        let rules = ScoreRules2024::built_in().unwrap().scoring;
        assert_eq!(weights(&[("a", vec![1.1])], &rules), [("a".to_owned(), 1.0)]);
        assert_eq!(weights(&[], &rules), []);
        let none = weights(&[("a", vec![]), ("b", vec![])], &rules);
        assert_eq!(none, []);
    }
}
