//! The paper network: what validators do with signals, as pure arithmetic.
//!
//! Drawdown checks, eliminations, scores, payouts and weights under the rule sets of 2024 and
//! 2026. Nothing here reads a clock, a file or a random number: time is a value in milliseconds
//! since 1970, and every number of the rules comes from the data files (`data/rules_*.json`, and
//! `data/paper_scores.json` for what those do not hold).
//!
//! Money is decimal, and so is what is owed in USD. Returns, ratios, scores and weights are `f64`:
//! the network computes them in doubles and compares them strictly, so a loss of exactly 5 % is
//! judged by the rounding of a double, and anything more precise would judge it differently.
//!
//! What must stay true: replaying the same events gives the same states, eliminations and weights
//! as stepping through them live, however time is cut into steps.

pub mod drawdown;
pub mod elimination;
mod field;
pub mod field_2024;
pub mod field_2026;
pub mod ledger;
pub mod payout;
pub mod score_rules;
pub mod scoring;
pub mod weights;

/// Milliseconds in a UTC day.
pub(crate) const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// Milliseconds in a week.
pub(crate) const WEEK_MS: i64 = 7 * DAY_MS;
