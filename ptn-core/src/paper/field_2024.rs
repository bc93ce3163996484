//! A field of miners under the rules of 2024: events in, eliminations and weights out.
//!
//! Feed it every closed position and every new mark of open ones, in order of time, and name the
//! time when nothing happens. It checks the drawdown every 15 seconds of that time and gives the
//! weights at any time. Positions, prices and fees are left to the order side.
//!
//! When [`Field2024::advance`] reports an elimination, close all open positions of that miner and
//! answer its later signals with [`Eliminations::refusal`].
//!
//! What must stay true: the same events give the same result, however often `advance` is called.

use serde::{Deserialize, Serialize};

use crate::paper::drawdown::Check2024;
use crate::paper::elimination::{Elimination, Eliminations};
use crate::paper::field::{Roster, next_multiple};
use crate::paper::ledger::{Ledger2024, LedgerError};
use crate::paper::score_rules::ScoreRules2024;
use crate::paper::scoring;
use crate::paper::weights::Weights;

/// What happened to a miner.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event2024 {
    /// A position closed, at the time of the event.
    Closed {
        /// When it was opened.
        opened_ms: i64,
        /// Its return after fees (1 = nothing won or lost).
        return_at_close: f64,
    },
    /// The returns of all open positions at the live price, after fees. Replaces the last ones.
    Open(Vec<f64>),
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Account {
    ledger: Ledger2024,
    /// A limit that a closed position broke; the next check finds it.
    broken: Option<Check2024>,
}

/// Everything about a field but its rules. It serialises without loss, so that a restart needs no
/// history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct State2024(Roster<Account>);

/// The field.
#[derive(Debug, Clone)]
pub struct Field2024 {
    rules: ScoreRules2024,
    roster: Roster<Account>,
}

impl Field2024 {
    /// An empty field whose time begins at `start_ms`.
    pub fn new(rules: ScoreRules2024, start_ms: i64) -> Self {
        let roster = Roster::new(rules.drawdown.check_interval_ms, start_ms);
        Self { rules, roster }
    }

    /// Goes on where a field of the same rules was.
    pub fn resume(rules: ScoreRules2024, state: State2024) -> Self {
        let State2024(mut roster) = state;
        roster.reindex();
        Self { rules, roster }
    }

    /// What [`Field2024::resume`] needs.
    pub fn state(&self) -> State2024 {
        State2024(self.roster.clone())
    }

    /// The rules in force.
    pub const fn rules(&self) -> &ScoreRules2024 {
        &self.rules
    }

    /// Lets a miner take part. Doing so twice changes nothing.
    pub fn register(&mut self, hotkey: &str) {
        self.roster.add(hotkey, Account::default);
    }

    /// Applies an event at its time. Checks that are due before it are carried out first.
    ///
    /// # Errors
    /// When the event is late, of nobody, or has an impossible number; it is not applied then.
    pub fn apply(&mut self, at_ms: i64, hotkey: &str, event: Event2024) -> Result<(), LedgerError> {
        self.roster.admit(hotkey, at_ms)?;
        let returns = match &event {
            Event2024::Closed { return_at_close, .. } => std::slice::from_ref(return_at_close),
            Event2024::Open(returns) => returns.as_slice(),
        };
        if let Some(value) = returns.iter().find(|r| !(r.is_finite() && **r >= 0.0)) {
            return Err(LedgerError::BadReturn { hotkey: hotkey.to_owned(), value: *value });
        }
        self.run(at_ms, at_ms);
        let account = &mut self.roster.get_mut(hotkey)?.ledger;
        match event {
            Event2024::Closed { opened_ms, return_at_close } => {
                let ledger = &mut account.ledger;
                ledger.close(opened_ms, at_ms, return_at_close, &self.rules.scoring);
                let check = ledger.drawdown.close(return_at_close, at_ms, &self.rules.drawdown);
                account.broken = account.broken.or(check.breach.map(|_| check));
            }
            Event2024::Open(returns) => account.ledger.open_returns = returns,
        }
        self.roster.wake(at_ms);
        Ok(())
    }

    /// Brings the field to a time, with all checks up to it. Returns who is out since the last
    /// call. A time in the past changes nothing.
    pub fn advance(&mut self, now_ms: i64) -> Vec<Elimination> {
        self.run(now_ms, now_ms.saturating_add(1));
        self.roster.take_fresh()
    }

    /// Judges a plagiarism score of a miner; see [`Eliminations::plagiarism_2024`].
    pub fn plagiarism(&mut self, hotkey: &str, score: f64, now_ms: i64) {
        let mut list = Eliminations::default();
        if list.plagiarism_2024(hotkey, score, now_ms, &self.rules.elimination) {
            list.rows().iter().for_each(|row| self.roster.eliminate(row.clone()));
        }
    }

    /// Who is out, and what their signals are answered.
    pub const fn eliminations(&self) -> &Eliminations {
        &self.roster.eliminations
    }

    /// Drops the eliminations that the rules forget, and their miners; see
    /// [`Eliminations::forget_2024`].
    pub fn forget(&mut self, now_ms: i64, in_metagraph: impl Fn(&str) -> bool) {
        self.roster.forget(|list| {
            list.forget_2024(now_ms, in_metagraph, &self.rules.elimination);
        });
    }

    /// What a miner's drawdown is at a time, or `None` for a miner that is not in the field.
    pub fn check(&self, hotkey: &str, now_ms: i64) -> Option<Check2024> {
        Some(self.judge(&self.roster.get(hotkey)?.ledger, now_ms))
    }

    /// What is remembered of a miner.
    pub fn ledger(&self, hotkey: &str) -> Option<&Ledger2024> {
        Some(&self.roster.get(hotkey)?.ledger.ledger)
    }

    /// The weights at a time that is not before the last event.
    pub fn weights(&self, now_ms: i64) -> Weights {
        let field: Vec<(&str, Vec<f64>)> = self
            .roster
            .active()
            .map(|m| {
                let returns = m.ledger.ledger.augmented_returns(now_ms, &self.rules.scoring);
                (m.hotkey.as_str(), returns)
            })
            .filter(|(_, returns)| !returns.is_empty())
            .collect();
        Weights { miners: scoring::weights(&field, &self.rules.scoring), burn: 0.0 }
    }

    /// When the round of weights after a time is due.
    pub const fn next_round_ms(&self, after_ms: i64) -> i64 {
        next_multiple(after_ms, self.rules.scoring.interval_ms)
    }

    fn judge(&self, account: &Account, now_ms: i64) -> Check2024 {
        account.broken.unwrap_or_else(|| {
            let ledger = &account.ledger;
            ledger.drawdown.mark(&ledger.open_returns, now_ms, &self.rules.drawdown)
        })
    }

    fn run(&mut self, now_ms: i64, until_ms: i64) {
        while let Some(at_ms) = self.roster.instant(until_ms) {
            let rows: Vec<Elimination> = self
                .roster
                .active()
                .filter_map(|miner| {
                    let check = self.judge(&miner.ledger, at_ms);
                    let reason = check.breach?.reason(&self.rules.drawdown).to_owned();
                    Some(Elimination {
                        hotkey: miner.hotkey.clone(),
                        elimination_initiated_time_ms: at_ms,
                        dd: check.dd,
                        reason,
                    })
                })
                .collect();
            rows.into_iter().for_each(|row| self.roster.eliminate(row));
            // Without events, the next thing that can change a judgement is the daily window.
            self.roster.wake(self.rules.drawdown.daily.window.next_start_ms(at_ms));
        }
        self.roster.reached(now_ms, until_ms);
    }
}
