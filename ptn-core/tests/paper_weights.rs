//! Laws of scores, payouts and weights: weights sum to 1, and more is never less.
#![cfg(feature = "paper")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use proptest::prelude::*;
use ptn_core::paper::drawdown::Drawdown2026;
use ptn_core::paper::payout::{Checkpoint, Payout};
use ptn_core::paper::score_rules::{ScoreRules2024, ScoreRules2026};
use ptn_core::paper::scoring;
use ptn_core::paper::weights::{self, Bucket, Performance, Standing};
use rust_decimal::Decimal;

const DAY: i64 = 24 * 60 * 60 * 1000;

fn standings() -> impl Strategy<Value = Vec<Standing>> {
    let bucket = prop::sample::select(vec![
        Bucket::Challenge,
        Bucket::MainComp,
        Bucket::Probation,
        Bucket::Plagiarism,
        Bucket::Unknown,
    ]);
    let performance = (-1e4..1e6f64, any::<bool>())
        .prop_map(|(recent_usd, has_collateral)| Performance { recent_usd, has_collateral });
    let usd = || (-1_000_000i64..1_000_000_000).prop_map(|cents| Decimal::new(cents, 2));
    let one = (bucket, usd(), usd(), prop::option::of(performance));
    prop::collection::vec(one, 0..60).prop_map(|list| {
        let standing = |(n, (bucket, needed, paid, performance))| Standing {
            hotkey: format!("m{n}"),
            bucket,
            needed,
            paid,
            performance,
        };
        list.into_iter().enumerate().map(standing).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn weights_of_2026_and_what_is_burnt_sum_to_1(field in standings()) {
        let rules = ScoreRules2026::built_in().unwrap().scoring;
        let weights = weights::weights(&field, &rules);
        prop_assert!((weights.sum() - 1.0).abs() < 1e-12, "{}", weights.sum());
        prop_assert!(weights.burn >= 0.0);
        prop_assert!(weights.miners.iter().all(|(_, w)| (0.0..=1.0).contains(w)));
        prop_assert_eq!(weights.miners.len(), field.len());
        prop_assert!(weights.miners.is_sorted_by(|a, b| a.1 >= b.1));
    }

    #[test]
    fn who_is_owed_more_never_gets_less(
        mut field in standings(), who in any::<prop::sample::Index>(), more in 1..1_000_000_000i64,
    ) {
        prop_assume!(!field.is_empty());
        let rules = ScoreRules2026::built_in().unwrap().scoring;
        let at = who.index(field.len());
        let hotkey = field[at].hotkey.clone();
        let before = weights::weights(&field, &rules).of(&hotkey);
        field[at].needed += Decimal::new(more, 2);
        let after = weights::weights(&field, &rules).of(&hotkey);
        prop_assert!(after >= before - 1e-12, "{before} became {after}");
    }

    #[test]
    fn the_chain_gets_the_same_proportions(field in standings()) {
        const BURN: u16 = 229;
        let rules = ScoreRules2026::built_in().unwrap().scoring;
        let weights = weights::weights(&field, &rules);
        // The hotkeys are m0, m1, ...: fewer than the burning uid.
        let uid = |hotkey: &str| hotkey.strip_prefix('m')?.parse().ok();
        let chain = weights.for_chain(uid, Some(BURN));
        prop_assert!(chain.iter().any(|(_, scaled)| *scaled == u16::MAX));
        prop_assert!(chain.is_sorted_by(|a, b| a.0 < b.0));
        let highest = weights.miners.first().map_or(0.0, |(_, w)| *w).max(weights.burn);
        for (uid, scaled) in chain {
            let weight = if uid == BURN { weights.burn } else { weights.of(&format!("m{uid}")) };
            let exact = weight / highest * f64::from(u16::MAX);
            prop_assert!((f64::from(scaled) - exact).abs() <= 0.5 + 1e-9);
            prop_assert!(scaled > 0);
        }
    }

    #[test]
    fn weights_of_2024_sum_to_1_and_the_grace_comes_on_top(
        field in prop::collection::vec(prop::collection::vec(0.5..2.0f64, 0..30), 0..40),
    ) {
        let rules = ScoreRules2024::built_in().unwrap().scoring;
        let names: Vec<String> = (0..field.len()).map(|n| format!("m{n}")).collect();
        let list: Vec<(&str, Vec<f64>)> =
            names.iter().map(String::as_str).zip(field.iter().cloned()).collect();
        let weights = scoring::weights(&list, &rules);
        let (mut grace, mut ranked) = (0.0, 0.0);
        for returns in &field {
            match returns.len() {
                0 => {}
                n if n < rules.min_positions => grace += rules.grace_value,
                _ => ranked = 1.0,
            }
        }
        let expected = if field.len() == 1 { 1.0 } else { ranked + grace };
        let sum: f64 = weights.iter().map(|(_, w)| w).sum();
        prop_assert!((sum - expected).abs() < 1e-12, "{sum} against {expected}");
        prop_assert!(weights.is_sorted_by(|a, b| a.1 >= b.1));
    }

    #[test]
    fn who_wins_more_in_every_position_never_ranks_lower(
        returns in prop::collection::vec(0.8..1.2f64, 10..20), others in 1..5usize,
    ) {
        let rules = ScoreRules2024::built_in().unwrap().scoring;
        // The same deviation and a higher mean: better in all three metrics.
        let better: Vec<f64> = returns.iter().map(|r| r + 0.05).collect();
        let names: Vec<String> = (0..others).map(|n| format!("m{n}")).collect();
        let mut field: Vec<(&str, Vec<f64>)> =
            names.iter().map(|name| (name.as_str(), returns.clone())).collect();
        field.push(("best", better));
        let weights = scoring::weights(&field, &rules);
        prop_assert_eq!(&weights[0].0, "best");
    }

    #[test]
    fn a_better_rank_never_weighs_less(miners in 1..300usize) {
        let rules = ScoreRules2024::built_in().unwrap().scoring;
        let weights = scoring::rank_weights(miners, &rules);
        prop_assert!(weights.is_sorted_by(|a, b| a >= b));
        prop_assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn returns_fade_with_age(value in 0.0..3.0f64, age in 0..40 * DAY, more in 0..40 * DAY) {
        let rules = ScoreRules2024::built_in().unwrap().scoring;
        let size = |age| scoring::decay(value, age, &rules).dampened_log_return.abs();
        prop_assert!(size(age + more) <= size(age));
    }

    #[test]
    fn a_lower_equity_is_never_a_smaller_drawdown(
        midnights in prop::collection::vec(0.5..2.0f64, 0..20),
        equity in 0.0..2.0f64,
        less in 0.0..1.0f64,
    ) {
        let rules = ScoreRules2026::built_in().unwrap().drawdown;
        let mut account = Drawdown2026::default();
        midnights.iter().for_each(|m| account.midnight(*m));
        let high = account.check(equity, &rules.main);
        let low = account.check(equity - less, &rules.main);
        prop_assert!(low.intraday_pct >= high.intraday_pct);
        prop_assert!(low.distance_pct <= high.distance_pct);
        prop_assert!(high.breach.is_none() || low.breach.is_some());
        prop_assert!(high.eod_pct >= 0.0);
        prop_assert_eq!(high.breach.is_some(), high.distance_pct < 0.0);
    }

    #[test]
    fn a_payout_grows_only_with_new_highs(
        list in prop::collection::vec((-50_000..50_000i64, 0..1_000i64, 0..=10i64), 1..40),
    ) {
        let (mut payout, mut high) = (Payout::default(), Decimal::ZERO);
        let (mut realised, mut fees) = (Decimal::ZERO, Decimal::ZERO);
        for (cents, fee, tenths) in list {
            let checkpoint = Checkpoint {
                at_ms: 0,
                realised: Decimal::new(cents, 2),
                cumulative_fees: fees + Decimal::new(fee, 2),
                unrealised: Decimal::ZERO,
                penalty: Decimal::new(tenths, 1),
            };
            realised += checkpoint.realised;
            fees = checkpoint.cumulative_fees;
            let gain = (realised - fees - high).max(Decimal::ZERO);
            high += gain;
            let before = payout.needed();
            payout.add(&checkpoint).unwrap();
            prop_assert_eq!(payout.needed() - before, gain * checkpoint.penalty);
            prop_assert!(payout.needed() <= high);
        }
    }
}
