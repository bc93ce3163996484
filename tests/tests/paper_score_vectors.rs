//! Every case of `domain.json` about drawdown, payouts, scores and weights.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use ptn_core::paper::drawdown::{Check2024, Drawdown2024, Drawdown2026};
use ptn_core::paper::payout::{self, Checkpoint};
use ptn_core::paper::score_rules::{Limits, ScoreRules2024, ScoreRules2026};
use ptn_core::paper::scoring::{self, Metrics};
use ptn_core::paper::weights::{self, Bucket, Standing};
use ptn_tests::vectors::{self, Failures};
use rust_decimal::Decimal;
use serde_json::Value;

/// Runs every case of a kind.
fn all(kind: &str, check: impl Fn(&Value) -> Result<(), String>) {
    let mut failures = Failures::default();
    for case in vectors::domain(kind) {
        failures.case("domain.json", case["id"].as_str().unwrap(), check(&case));
    }
    failures.finish();
}

/// Compares within the case's tolerance; without one, doubles must be equal.
fn near(case: &Value, what: &str, got: f64, want: &Value) -> Result<(), String> {
    let want = want.as_f64().ok_or(format!("{what}: the case has no number"))?;
    let tolerance = case["tolerance_rel"].as_f64().unwrap_or(0.0);
    // A difference to zero has no relative size.
    let allowed = tolerance * want.abs().max(tolerance);
    if (got - want).abs() <= allowed {
        Ok(())
    } else {
        Err(format!("{what} is {got}, expected {want}"))
    }
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, got: T, want: T) -> Result<(), String> {
    if got == want { Ok(()) } else { Err(format!("{what} is {got:?}, expected {want:?}")) }
}

fn decimal(value: &Value) -> Decimal {
    let text = value.to_string();
    text.parse().or_else(|_| Decimal::from_scientific(&text)).unwrap()
}

fn ms(text: &Value) -> i64 {
    text.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

fn floats(list: &Value) -> Vec<f64> {
    list.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn pairs(list: &Value) -> Vec<(String, Value)> {
    match list {
        Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        _ => list
            .as_array()
            .unwrap()
            .iter()
            .map(|p| (p[0].as_str().unwrap().to_owned(), p[1].clone()))
            .collect(),
    }
}

#[test]
fn drawdown_vectors() {
    all("drawdown", |case| match case["ruleset"].as_str() {
        Some("2024") => drawdown_2024(case),
        Some("2026") => drawdown_2026(case),
        other => Err(format!("unknown rule set {other:?}")),
    });
}

fn drawdown_2024(case: &Value) -> Result<(), String> {
    let rules = ScoreRules2024::built_in().unwrap().drawdown;
    let input = &case["input"];
    let mut account = Drawdown2024::default();
    let mut trace: Vec<(&str, Check2024)> = Vec::new();
    for position in input["closed"].as_array().unwrap() {
        let value = position["return_at_close"].as_f64().unwrap();
        let check = account.close(value, ms(&position["close_utc"]), &rules);
        trace.push(("closed", check));
        if check.breach.is_some() {
            break;
        }
    }
    if trace.last().is_none_or(|(_, check)| check.breach.is_none()) {
        let open = floats(&input["open_returns"]);
        trace.push(("open", account.mark(&open, ms(&input["now_utc"]), &rules)));
    }
    let wanted = case["trace"].as_array().ok_or("no trace")?;
    equal("steps", trace.len(), wanted.len())?;
    for ((stage, got), want) in trace.iter().zip(wanted) {
        equal("stage", Some(*stage), want["stage"].as_str())?;
        let product = if *stage == "closed" { &want["cumulative"] } else { &want["portfolio"] };
        near(case, "product", got.portfolio, product)?;
        near(case, "peak", got.peak, &want["peak"])?;
        near(case, "dd", got.dd, &want["dd"])?;
        equal("failure", got.breach.map(|b| b.reason(&rules)), want["failure"].as_str())?;
    }
    let (_, last) = trace.last().unwrap();
    let expected = &case["expected"];
    equal("eliminated", Some(last.breach.is_some()), expected["eliminated"].as_bool())?;
    equal("reason", last.breach.map(|b| b.reason(&rules)), expected["reason"].as_str())?;
    near(case, "dd", last.dd, &expected["dd"])
}

fn drawdown_2026(case: &Value) -> Result<(), String> {
    let input = &case["input"];
    let mut account = Drawdown2026::default();
    floats(&input["midnight_equities"]).into_iter().for_each(|equity| account.midnight(equity));
    let limits = Limits {
        intraday: input["intraday_threshold"].as_f64().unwrap(),
        eod: input["eod_threshold"].as_f64(),
        fixed: None,
        registered_before_ms: None,
    };
    let equity = input["equity_now"].as_f64().unwrap();
    let day_open = input["day_open_equity"].as_f64().unwrap_or(account.day_open());
    let check = account.check_from(day_open, equity, &limits);
    let expected = &case["expected"];
    equal("breach", check.breach.map(|b| b.as_str()), expected["breach"].as_str())?;
    near(case, "intraday_pct", check.intraday_pct, &expected["intraday_pct"])?;
    near(case, "eod_pct", check.eod_pct, &expected["eod_pct"])
}

#[test]
fn payout_vectors() {
    all("payout", |case| {
        let mut list = Vec::new();
        for (at, checkpoint) in (0..).zip(case["input"]["checkpoints"].as_array().unwrap()) {
            list.push(Checkpoint {
                at_ms: at,
                realised: decimal(&checkpoint["realized_pnl"]),
                cumulative_fees: decimal(&checkpoint["cumulative_fees_usd"]),
                unrealised: decimal(&checkpoint["unrealized_pnl"]),
                penalty: decimal(&checkpoint["total_penalty"]),
            });
        }
        let got = payout::needed(&list).map_err(|e| e.to_string())?;
        let want = &case["expected"]["needed_usd"];
        // Expected values come from doubles; a decimal is the exact amount.
        let difference = (f64::try_from(got).unwrap() - want.as_f64().unwrap()).abs();
        equal("needed within a millionth of a cent", difference < 1e-8, true)
            .map_err(|e| format!("{e}: {got} against {want}"))
    });
}

#[test]
fn weights_vectors() {
    let rules = ScoreRules2026::built_in().unwrap().scoring;
    all("weights", |case| {
        let (input, expected) = (&case["input"], &case["expected"]);
        equal("scaling", input["performance_scaling"].as_bool(), Some(false))?;
        let mut rules = rules.clone();
        rules.dust = input["dust"].as_f64().unwrap();
        let usd = |of: &str, hotkey: &str| input[of].get(hotkey).map_or(Decimal::ZERO, decimal);
        let field: Vec<Standing> = pairs(&input["bucket"])
            .into_iter()
            .map(|(hotkey, bucket)| Standing {
                bucket: Bucket::parse(bucket.as_str().unwrap()),
                needed: usd("needed_usd", &hotkey),
                paid: usd("paid_usd", &hotkey),
                performance: None,
                hotkey,
            })
            .collect();
        for (hotkey, want) in pairs(&expected["remaining"]) {
            let left = payout::remaining(usd("needed_usd", &hotkey), usd("paid_usd", &hotkey));
            near(case, "remaining", f64::try_from(left).unwrap(), &want)?;
        }
        let got = weights::weights(&field, &rules);
        let wanted = pairs(&expected["weights"]);
        equal("miners", got.miners.len(), wanted.len())?;
        // The case gives its numbers in full digits but no tolerance; sums may be taken in any order.
        let close = |what: &str, got: f64, want: &Value| {
            let want = want.as_f64().unwrap();
            if (got - want).abs() <= 1e-12 {
                Ok(())
            } else {
                Err(format!("{what}: {got}, not {want}"))
            }
        };
        for (hotkey, want) in wanted {
            close(&hotkey, got.of(&hotkey), &want)?;
        }
        close("burn", got.burn, &expected["burn"])
    });
}

#[test]
fn decay_vectors() {
    let rules = ScoreRules2024::built_in().unwrap().scoring;
    all("decay", |case| {
        let (input, expected) = (&case["input"], &case["expected"]);
        let age_ms = decimal(&input["close_days_ago"]) * Decimal::from(86_400_000);
        let age_ms = i64::try_from(age_ms.round()).unwrap();
        let got = scoring::decay(input["return_at_close"].as_f64().unwrap(), age_ms, &rules);
        near(case, "fraction", got.lookback_fraction, &expected["lookback_fraction"])?;
        near(case, "log", got.log_return, &expected["log_return"])?;
        near(case, "dampened", got.dampened_log_return, &expected["dampened_log_return"])?;
        near(case, "augmented", got.augmented_return, &expected["augmented_return"])
    });
}

#[test]
fn rank_weights_vectors() {
    let rules = ScoreRules2024::built_in().unwrap().scoring;
    all("rank_weights", |case| {
        let n = usize::try_from(case["input"]["n"].as_u64().unwrap()).unwrap();
        let got = scoring::rank_weights(n, &rules);
        let wanted = case["expected"]["weights"].as_array().unwrap();
        equal("ranks", got.len(), wanted.len())?;
        got.iter().zip(wanted).try_for_each(|(got, want)| near(case, "weight", *got, want))
    });
}

#[test]
fn scoring_vectors() {
    let rules = ScoreRules2024::built_in().unwrap().scoring;
    all("scoring", |case| {
        let input = pairs(&case["input"]["augmented_returns"]);
        for (hotkey, want) in case["metrics"].as_object().into_iter().flatten() {
            let (_, returns) = input.iter().find(|(name, _)| name == hotkey).unwrap();
            let got = Metrics::of(&floats(returns), &rules);
            near(case, "omega", got.omega, &want["omega"])?;
            near(case, "total_return", got.total_return, &want["total_return"])?;
            near(case, "sharpe", got.sharpe, &want["sharpe"])?;
        }
        let field: Vec<(&str, Vec<f64>)> =
            input.iter().map(|(name, returns)| (name.as_str(), floats(returns))).collect();
        let got = scoring::weights(&field, &rules);
        let wanted = pairs(&case["expected"]["weights"]);
        equal("miners", got.len(), wanted.len())?;
        for ((hotkey, got), (name, want)) in got.iter().zip(&wanted) {
            equal("rank", hotkey, name)?;
            near(case, hotkey, *got, want)?;
        }
        Ok(())
    });
}
