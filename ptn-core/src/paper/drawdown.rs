//! Drawdown: how far an account is below its peak, and whether that is too far.
//!
//! 2024 multiplies returns: closed positions move the peak, open ones never do. 2026 compares
//! equity with two marks made at UTC midnights. Both states are small and updated in place, so a
//! check costs the same after a year as on the first day. When to check, and what an elimination
//! means, is left to the fields.
//!
//! What must stay true: the ratios are computed in doubles, in the order of the network's own code,
//! and compared strictly. A loss of exactly 5 % is judged by the rounding of a double; anything more
//! precise would judge it differently.

use serde::{Deserialize, Serialize};

use crate::paper::score_rules::{DrawdownRules2024, DrawdownRules2026, Limits};

/// A limit that a 2024 account broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Breach2024 {
    /// The daily limit, in its window.
    Daily,
    /// The total limit.
    Total,
}

impl Breach2024 {
    /// The reason in the elimination row.
    pub fn reason(self, rules: &DrawdownRules2024) -> &str {
        match self {
            Self::Daily => &rules.daily.reason,
            Self::Total => &rules.total.reason,
        }
    }
}

/// One judgement of a 2024 account.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Check2024 {
    /// Product of all returns, closed and open (1 = nothing won or lost).
    pub portfolio: f64,
    /// Highest product of closed returns, at least 1.
    pub peak: f64,
    /// `portfolio / peak`: 1 = no loss.
    pub dd: f64,
    /// The limit that was broken.
    pub breach: Option<Breach2024>,
}

impl Check2024 {
    /// How far the ratio is above the total limit; negative when below.
    pub fn distance(&self, rules: &DrawdownRules2024) -> f64 {
        self.dd - rules.total.floor
    }
}

/// The closed part of a 2024 account.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Drawdown2024 {
    cumulative: f64,
    peak: f64,
}

impl Default for Drawdown2024 {
    fn default() -> Self {
        Self { cumulative: 1.0, peak: 1.0 }
    }
}

impl Drawdown2024 {
    /// Adds a position that closed, in order of closing, and judges the account at that time.
    pub fn close(
        &mut self,
        return_at_close: f64,
        closed_ms: i64,
        rules: &DrawdownRules2024,
    ) -> Check2024 {
        self.cumulative *= return_at_close;
        self.peak = self.peak.max(self.cumulative);
        self.judge(self.cumulative, closed_ms, rules)
    }

    /// Judges the account with its open positions. `open_returns` are their returns at the live
    /// price, fees included; they never raise the peak.
    pub fn mark(&self, open_returns: &[f64], now_ms: i64, rules: &DrawdownRules2024) -> Check2024 {
        let open: f64 = open_returns.iter().product();
        self.judge(self.cumulative * open, now_ms, rules)
    }

    fn judge(&self, portfolio: f64, at_ms: i64, rules: &DrawdownRules2024) -> Check2024 {
        let dd = portfolio / self.peak;
        let breach = if dd < rules.daily.floor && rules.daily.window.contains(at_ms) {
            Some(Breach2024::Daily)
        } else if dd < rules.total.floor {
            Some(Breach2024::Total)
        } else {
            None
        };
        Check2024 { portfolio, peak: self.peak, dd, breach }
    }
}

/// A limit that a 2026 account broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Breach2026 {
    /// Below the starting balance.
    Static,
    /// Below the equity of the last midnight.
    Intraday,
    /// The last midnight below the highest one.
    Eod,
}

impl Breach2026 {
    /// The word in reasons.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Static => "STATIC",
            Self::Intraday => "INTRADAY",
            Self::Eod => "EOD",
        }
    }
}

/// One judgement of a 2026 account, in percent of loss (negative = gain).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Check2026 {
    /// Loss since the last midnight.
    pub intraday_pct: f64,
    /// Loss of the last midnight against the highest one.
    pub eod_pct: f64,
    /// Loss against the starting balance.
    pub static_pct: f64,
    /// The limit that was broken; the first in the order static, intraday, end of day.
    pub breach: Option<Breach2026>,
    /// Percent points left to the nearest limit; negative when broken.
    pub distance_pct: f64,
}

impl Check2026 {
    /// The loss that a breach is about.
    pub const fn loss_pct(&self, breach: Breach2026) -> f64 {
        match breach {
            Breach2026::Static => self.static_pct,
            Breach2026::Intraday => self.intraday_pct,
            Breach2026::Eod => self.eod_pct,
        }
    }
}

/// The midnights of a 2026 account. Equity is a ratio of the account's size.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Drawdown2026 {
    last_midnight: Option<f64>,
    high: f64,
}

impl Default for Drawdown2026 {
    fn default() -> Self {
        Self { last_midnight: None, high: 1.0 }
    }
}

impl Drawdown2026 {
    /// Notes the equity at a UTC midnight, in order. An equity that is not positive is no mark, as
    /// in the network's code.
    pub fn midnight(&mut self, equity: f64) {
        if equity > 0.0 {
            self.last_midnight = Some(equity);
            self.high = self.high.max(equity);
        }
    }

    /// The equity that the day is measured from: the last midnight's, or the starting one.
    pub fn day_open(&self) -> f64 {
        self.last_midnight.unwrap_or(1.0)
    }

    /// Judges the account at its live equity.
    pub fn check(&self, equity: f64, limits: &Limits) -> Check2026 {
        self.check_from(self.day_open(), equity, limits)
    }

    /// Judges the account against a day that opened at `day_open`.
    pub fn check_from(&self, day_open: f64, equity: f64, limits: &Limits) -> Check2026 {
        let intraday_pct = (1.0 - equity / day_open) * 100.0;
        let eod_pct = (1.0 - self.day_open() / self.high) * 100.0;
        let eod_pct = if self.last_midnight.is_some() { eod_pct } else { 0.0 };
        let static_pct = (1.0 - equity) * 100.0;
        let tests = [
            (Breach2026::Static, static_pct, limits.fixed),
            (Breach2026::Intraday, intraday_pct, Some(limits.intraday)),
            (Breach2026::Eod, eod_pct, limits.eod),
        ];
        let mut breach = None;
        let mut distance_pct = f64::INFINITY;
        for (kind, loss_pct, limit) in tests {
            let Some(limit_pct) = limit.map(|l| l * 100.0) else { continue };
            if loss_pct > limit_pct && breach.is_none() {
                breach = Some(kind);
            }
            distance_pct = distance_pct.min(limit_pct - loss_pct);
        }
        Check2026 { intraday_pct, eod_pct, static_pct, breach, distance_pct }
    }
}

/// What an account is, as far as its limits depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccountKind {
    /// A hotkey of its own.
    Regular,
    /// A subaccount of an entity.
    Subaccount {
        /// When its challenge began.
        registered_ms: i64,
        /// Whether it chose the limit on its starting balance.
        fixed_limit: bool,
    },
}

impl DrawdownRules2026 {
    /// The limits of an account. `in_challenge`: it has not passed the challenge yet.
    pub fn limits(&self, kind: AccountKind, in_challenge: bool) -> &Limits {
        match kind {
            AccountKind::Subaccount { fixed_limit: true, .. } => &self.static_subaccount,
            _ if in_challenge => &self.challenge,
            AccountKind::Regular => &self.main,
            AccountKind::Subaccount { registered_ms, .. } => [&self.funded_v0, &self.funded_v1]
                .into_iter()
                .find(|l| l.registered_before_ms.is_some_and(|before| registered_ms < before))
                .unwrap_or(&self.main),
        }
    }

    /// Whether a breach eliminates at this time, or is only noted.
    pub const fn enforced(&self, kind: AccountKind, now_ms: i64) -> bool {
        match kind {
            AccountKind::Regular => now_ms >= self.regular_miner_enforced_from_ms,
            AccountKind::Subaccount { .. } => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paper::score_rules::ScoreRules2026;

    const MARCH_1_2026: i64 = 1_772_323_200_000;
    const APRIL_1_2026: i64 = 1_775_001_600_000;
    const JUNE_1_2026: i64 = 1_780_272_000_000;

    #[test]
    fn the_limits_depend_on_the_kind_of_account() {
        let rules = ScoreRules2026::built_in().unwrap().drawdown;
        let sub = |registered_ms| AccountKind::Subaccount { registered_ms, fixed_limit: false };
        assert_eq!(rules.limits(AccountKind::Regular, true).eod, Some(0.05));
        assert_eq!(rules.limits(AccountKind::Regular, false).eod, Some(0.08));
        assert_eq!(rules.limits(sub(MARCH_1_2026), false).eod, Some(0.10));
        assert_eq!(rules.limits(sub(APRIL_1_2026), false).eod, Some(0.08));
        assert_eq!(rules.limits(sub(APRIL_1_2026), false).intraday, 0.08);
        assert_eq!(rules.limits(sub(JUNE_1_2026), false).intraday, 0.05);
        assert_eq!(rules.limits(sub(JUNE_1_2026), true).eod, Some(0.05));
        let fixed = AccountKind::Subaccount { registered_ms: JUNE_1_2026, fixed_limit: true };
        assert_eq!(rules.limits(fixed, false).fixed, Some(0.05));
        assert_eq!(rules.limits(fixed, true).eod, None);
    }

    #[test]
    fn regular_miners_are_out_only_from_a_date_on() {
        let rules = ScoreRules2026::built_in().unwrap().drawdown;
        let from = rules.regular_miner_enforced_from_ms;
        assert!(!rules.enforced(AccountKind::Regular, from - 1));
        assert!(rules.enforced(AccountKind::Regular, from));
        let sub = AccountKind::Subaccount { registered_ms: 0, fixed_limit: false };
        assert!(rules.enforced(sub, 0));
    }

    /// The rounding of a double decides at the limit itself, as it does in the network: 5 % of 1 is
    /// too much, 8 % of 1 is not, 8 % of 1.1 is.
    #[test]
    fn at_the_limit_a_double_decides() {
        let rules = ScoreRules2026::built_in().unwrap().drawdown;
        let eod = |midnights: &[f64]| {
            let mut account = Drawdown2026::default();
            midnights.iter().for_each(|m| account.midnight(*m));
            account.check(account.day_open(), &rules.main).breach
        };
        assert_eq!(
            Drawdown2026::default().check(0.95, &rules.main).breach,
            Some(Breach2026::Intraday)
        );
        assert_eq!(eod(&[1.0, 0.92]), None);
        assert_eq!(eod(&[1.1, 1.012]), Some(Breach2026::Eod));
        assert_eq!(eod(&[1.0, 0.919_999]), Some(Breach2026::Eod));
        assert_eq!(eod(&[0.0, -1.0]), None);
    }

    #[test]
    fn a_fixed_limit_is_measured_from_the_start() {
        let rules = ScoreRules2026::built_in().unwrap().drawdown;
        let limits = &rules.static_subaccount;
        let mut account = Drawdown2026::default();
        account.midnight(0.97);
        assert_eq!(account.check(0.96, limits).breach, None);
        assert_eq!(account.check(0.949, limits).breach, Some(Breach2026::Static));
        account.midnight(1.2);
        let check = account.check(1.1, limits);
        assert_eq!(check.breach, Some(Breach2026::Intraday));
        assert!(check.distance_pct < 0.0);
        assert_eq!(check.loss_pct(Breach2026::Intraday), check.intraday_pct);
    }
}
