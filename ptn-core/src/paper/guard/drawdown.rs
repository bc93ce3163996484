//! How far an account is from its drawdown limits, by the rules of either set.
//!
//! The numbers are those of [`crate::paper::drawdown`]; here is only what a firm can know of them:
//! midnights are noted when time passes them, at the last prices before.

use serde::{Deserialize, Serialize};

use crate::guard::Distance;
use crate::paper::DAY_MS;
use crate::paper::account::Account;
use crate::paper::drawdown::{AccountKind, Drawdown2024, Drawdown2026};
use crate::paper::score_rules::{
    DrawdownRules2024, DrawdownRules2026, ScoreRules2024, ScoreRules2026,
};
use crate::rules::{Era, RulesError};
use crate::store::UnixMs;

/// The limits of a rule set.
#[derive(Debug)]
pub(super) enum Limits {
    Y2024(Box<DrawdownRules2024>),
    Y2026(Box<DrawdownRules2026>),
}

impl Limits {
    /// From the text of a rules file, or the built-in one.
    pub(super) fn read(era: Era, file: Option<&str>) -> Result<Self, RulesError> {
        Ok(match era {
            Era::Y2024 => {
                let rules =
                    file.map_or_else(ScoreRules2024::built_in, ScoreRules2024::from_json)?;
                Self::Y2024(Box::new(rules.drawdown))
            }
            _ => {
                let rules =
                    file.map_or_else(ScoreRules2026::built_in, ScoreRules2026::from_json)?;
                Self::Y2026(Box::new(rules.drawdown))
            }
        })
    }
}

/// What is remembered of an account.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Losses {
    closed: Drawdown2024,
    midnights: Drawdown2026,
    /// The UTC day of the last event.
    day: Option<i64>,
}

impl Losses {
    /// Notes the midnight when time has passed one since the last call. Before anything of the new
    /// day happens.
    pub(super) fn roll(&mut self, account: Option<&Account>, now_ms: UnixMs) {
        let day = now_ms.div_euclid(DAY_MS);
        let passed = self.day.is_some_and(|last| day > last);
        if passed && let Some(Account::Y2026(account)) = account {
            self.midnights.midnight(account.equity_ratio());
        }
        self.day = Some(self.day.map_or(day, |last| last.max(day)));
    }

    /// Takes over the positions that closed (2024).
    pub(super) fn close(&mut self, account: &Account, limits: &Limits) {
        if let (Account::Y2024(account), Limits::Y2024(rules)) = (account, limits) {
            for position in account.closed() {
                let closed_ms = position.close_ms.unwrap_or(position.open_ms);
                self.closed.close(position.return_at_close, closed_ms, rules);
            }
        }
    }

    /// The distances now, the nearest first.
    pub(super) fn distances(
        &self,
        account: Option<&Account>,
        limits: &Limits,
        challenge: bool,
        estimated: bool,
        now_ms: UnixMs,
    ) -> Vec<Distance> {
        let distance = |rule: &str, limit_pct: f64, loss_pct: f64| Distance {
            rule: rule.to_owned(),
            limit_pct,
            points_left: limit_pct - loss_pct,
            estimated,
        };
        let mut found = match limits {
            Limits::Y2024(rules) => {
                let open: Vec<f64> = match account {
                    Some(Account::Y2024(account)) => {
                        account.open().map(|position| position.return_at_close).collect()
                    }
                    _ => Vec::new(),
                };
                let dd = self.closed.mark(&open, now_ms, rules).dd;
                let loss_pct = (1.0 - dd) * 100.0;
                vec![
                    distance("daily", (1.0 - rules.daily.floor) * 100.0, loss_pct),
                    distance("total", (1.0 - rules.total.floor) * 100.0, loss_pct),
                ]
            }
            Limits::Y2026(rules) => {
                let own = rules.limits(AccountKind::Regular, challenge);
                let equity = match account {
                    Some(Account::Y2026(account)) => account.equity_ratio(),
                    _ => 1.0,
                };
                let check = self.midnights.check(equity, own);
                let mut found =
                    vec![distance("intraday", own.intraday * 100.0, check.intraday_pct)];
                found.extend(own.eod.map(|eod| distance("eod", eod * 100.0, check.eod_pct)));
                found
            }
        };
        found.sort_by(|a, b| a.points_left.total_cmp(&b.points_left));
        found
    }
}
