//! The field of either rule set behind one face: accounts in, eliminations, distances, weights out.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::paper::account::Account;
use crate::paper::drawdown::AccountKind;
use crate::paper::elimination::{Elimination, Eliminations};
use crate::paper::field_2024::{Event2024, Field2024, State2024};
use crate::paper::field_2026::{Event2026, Field2026, State2026};
use crate::paper::ledger::{Ledger2026, LedgerError};
use crate::paper::score_rules::{ScoreRules2024, ScoreRules2026};
use crate::paper::weights::{Bucket, Weights};
use crate::rules::{Era, RulesError};
use crate::store::UnixMs;

/// How much of an account the field has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Seen {
    closed: usize,
    realised: f64,
    fees: f64,
}

/// As what a miner takes part. Means nothing in 2024.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldStanding {
    /// The selected asset class.
    pub asset_class: String,
    /// Its stage.
    pub stage: Bucket,
    /// Whether it has collateral.
    pub collateral: bool,
}

impl Default for FieldStanding {
    /// One that trades everything, has passed its challenge, and has collateral.
    fn default() -> Self {
        Self { asset_class: "all_markets".to_owned(), stage: Bucket::MainComp, collateral: true }
    }
}

/// Losses of an account, as the rule set measures them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Losses {
    /// By the rules of 2024.
    Y2024 {
        /// Portfolio over its highest value; 1 is no loss.
        ratio: f64,
    },
    /// By the rules of 2026, in percent; negative is a gain.
    Y2026 {
        /// Since the last midnight.
        intraday_pct: f64,
        /// The last midnight against the highest one.
        eod_pct: f64,
    },
}

#[derive(Debug, Clone)]
enum Field {
    Y2024(Box<Field2024>),
    Y2026(Box<Field2026>),
}

#[derive(Debug, Clone)]
pub(super) struct Judge {
    field: Field,
    seen: BTreeMap<String, Seen>,
}

/// Everything about a judge but its rules.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct JudgeState {
    field: FieldState,
    seen: BTreeMap<String, Seen>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum FieldState {
    #[serde(rename = "2024")]
    Y2024(State2024),
    #[serde(rename = "2026")]
    Y2026(State2026),
}

impl Judge {
    pub(super) fn new(era: Era, start_ms: UnixMs) -> Result<Self, RulesError> {
        let field = match era {
            Era::Y2024 => {
                let rules = ScoreRules2024::built_in()?;
                Field::Y2024(Box::new(Field2024::new(rules, start_ms)))
            }
            _ => Field::Y2026(Box::new(Field2026::new(ScoreRules2026::built_in()?, start_ms))),
        };
        Ok(Self { field, seen: BTreeMap::new() })
    }

    /// Goes on where another one of the same rules was.
    pub(super) fn resume(state: JudgeState) -> Result<Self, RulesError> {
        let field = match state.field {
            FieldState::Y2024(field) => {
                Field::Y2024(Box::new(Field2024::resume(ScoreRules2024::built_in()?, field)))
            }
            FieldState::Y2026(field) => {
                Field::Y2026(Box::new(Field2026::resume(ScoreRules2026::built_in()?, field)))
            }
        };
        Ok(Self { field, seen: state.seen })
    }

    /// What [`Judge::resume`] needs.
    pub(super) fn state(&self) -> JudgeState {
        let field = match &self.field {
            Field::Y2024(field) => FieldState::Y2024(field.state()),
            Field::Y2026(field) => FieldState::Y2026(field.state()),
        };
        JudgeState { field, seen: self.seen.clone() }
    }

    /// Lets a miner take part, in 2026 as a hotkey of its own. Doing so twice changes nothing.
    pub(super) fn register(&mut self, hotkey: &str, standing: &FieldStanding, at_ms: UnixMs) {
        match &mut self.field {
            Field::Y2024(field) => field.register(hotkey),
            Field::Y2026(field) => {
                let FieldStanding { asset_class, stage, collateral } = standing;
                let (kind, class) = (AccountKind::Regular, asset_class.as_str());
                field.register(hotkey, Ledger2026::new(kind, class, *stage, *collateral, at_ms));
            }
        }
        self.seen.entry(hotkey.to_owned()).or_default();
    }

    /// When the round of weights after a time is due.
    pub(super) fn next_round_ms(&self, after_ms: UnixMs) -> UnixMs {
        match &self.field {
            Field::Y2024(field) => field.next_round_ms(after_ms),
            Field::Y2026(field) => field.next_round_ms(after_ms),
        }
    }

    /// `version_key` of the chain call, and the uid that burns on the main network.
    pub(super) fn chain_terms(&self) -> (u64, Option<u16>) {
        match &self.field {
            Field::Y2024(field) => (field.rules().scoring.version_key, None),
            Field::Y2026(field) => {
                let scoring = &field.rules().scoring;
                (scoring.version_key, Some(scoring.burn_uid.mainnet))
            }
        }
    }

    /// Who is out.
    pub(super) fn eliminations(&self) -> &Eliminations {
        match &self.field {
            Field::Y2024(field) => field.eliminations(),
            Field::Y2026(field) => field.eliminations(),
        }
    }

    /// The stage of a miner (2026).
    pub(super) fn stage(&self, hotkey: &str) -> Option<Bucket> {
        match &self.field {
            Field::Y2024(_) => None,
            Field::Y2026(field) => Some(field.ledger(hotkey)?.bucket),
        }
    }

    /// The last judgement that can be made of a miner's losses.
    pub(super) fn losses(&self, hotkey: &str, at_ms: UnixMs) -> Option<Losses> {
        match &self.field {
            Field::Y2024(field) => {
                let check = field.check(hotkey, at_ms)?;
                Some(Losses::Y2024 { ratio: check.dd })
            }
            Field::Y2026(field) => {
                let check = field.check(hotkey)?;
                let (intraday, eod) = (check.intraday_pct, check.eod_pct);
                Some(Losses::Y2026 { intraday_pct: intraday, eod_pct: eod })
            }
        }
    }

    pub(super) fn advance(&mut self, now_ms: UnixMs) -> Vec<Elimination> {
        match &mut self.field {
            Field::Y2024(field) => field.advance(now_ms),
            Field::Y2026(field) => field.advance(now_ms),
        }
    }

    /// The checks from one time up to another, which is not included, at which a distance can be
    /// a new one when nothing else happens in between.
    pub(super) fn checks(&self, from_ms: UnixMs, until_ms: UnixMs) -> Vec<UnixMs> {
        let on_grid = |at_ms: UnixMs, every_ms: UnixMs| {
            let every_ms = every_ms.max(1);
            at_ms + (every_ms - at_ms.rem_euclid(every_ms)) % every_ms
        };
        let mut checks = match &self.field {
            Field::Y2024(field) => {
                let rules = &field.rules().drawdown;
                let first = on_grid(from_ms, rules.check_interval_ms);
                let window = rules.daily.window.next_start_ms(first);
                vec![first, on_grid(window, rules.check_interval_ms)]
            }
            Field::Y2026(field) => {
                let every_ms = field.rules().drawdown.refresh_ms.max(1);
                let last = (until_ms - 1) - (until_ms - 1).rem_euclid(every_ms);
                vec![on_grid(from_ms, every_ms), last]
            }
        };
        checks.retain(|at_ms| (from_ms..until_ms).contains(at_ms));
        checks.dedup();
        checks
    }

    /// Percent points of loss that are left before the limits in force at a check.
    pub(super) fn points_left(&self, hotkey: &str, at_ms: UnixMs) -> Option<f64> {
        match &self.field {
            Field::Y2024(field) => {
                let check = field.check(hotkey, at_ms)?;
                let rules = &field.rules().drawdown;
                let daily =
                    rules.daily.window.contains(at_ms).then_some(check.dd - rules.daily.floor);
                let left = check.distance(rules);
                Some(daily.map_or(left, |daily| daily.min(left)) * 100.0)
            }
            Field::Y2026(field) => Some(field.check(hotkey)?.distance_pct),
        }
    }

    /// Whether breaking a limit at this time puts a hotkey out.
    pub(super) fn enforced(&self, at_ms: UnixMs) -> bool {
        match &self.field {
            Field::Y2024(_) => true,
            Field::Y2026(field) => field.rules().drawdown.enforced(AccountKind::Regular, at_ms),
        }
    }

    /// Notes that the miner sent an order that was taken.
    pub(super) fn order(&mut self, at_ms: UnixMs, hotkey: &str) -> Result<(), LedgerError> {
        match &mut self.field {
            Field::Y2024(_) => Ok(()),
            Field::Y2026(field) => field.apply(at_ms, hotkey, Event2026::Order),
        }
    }

    /// Takes what is new in an account.
    pub(super) fn feed(&mut self, at_ms: UnixMs, account: &Account) -> Result<(), LedgerError> {
        let hotkey = account.hotkey();
        let seen = self.seen.entry(hotkey.to_owned()).or_default();
        match (&mut self.field, account) {
            (Field::Y2024(field), Account::Y2024(account)) => {
                for position in account.closed().iter().skip(seen.closed) {
                    let (opened_ms, return_at_close) = (position.open_ms, position.return_at_close);
                    field.apply(at_ms, hotkey, Event2024::Closed { opened_ms, return_at_close })?;
                }
                seen.closed = account.closed().len();
                let open = account.open().map(|position| position.return_at_close).collect();
                field.apply(at_ms, hotkey, Event2024::Open(open))
            }
            (Field::Y2026(field), Account::Y2026(account)) => {
                let (realised, fees) = (account.realized_pnl(), account.fees_paid());
                let now = Seen { realised, fees, ..*seen };
                if now != *seen {
                    let event = Event2026::Booked {
                        realised: usd(realised - seen.realised),
                        fee: usd(fees - seen.fees),
                    };
                    field.apply(at_ms, hotkey, event)?;
                    *seen = now;
                }
                let event = Event2026::Mark {
                    account_size: usd(account.settings.account_size),
                    balance: usd(account.balance()),
                    unrealised: usd(account.unrealized_pnl()),
                };
                field.apply(at_ms, hotkey, event)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn weights(&self, now_ms: UnixMs) -> Weights {
        match &self.field {
            Field::Y2024(field) => field.weights(now_ms),
            Field::Y2026(field) => field.weights(now_ms),
        }
    }
}

/// An amount for the ledger; what no decimal holds is refused there as too large.
fn usd(amount: f64) -> Decimal {
    Decimal::try_from(amount).unwrap_or(if amount < 0.0 { Decimal::MIN } else { Decimal::MAX })
}
