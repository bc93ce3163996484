//! A field of miners under the rules of 2026: events in, eliminations, stages and weights out.
//!
//! Feed it marks, booked profits and fees, orders and payments, in order of time, and name the
//! time when nothing happens. About every minute of that time it checks drawdown, deadlines and
//! ranks; every 12 hours a period of the ledger ends, every Sunday a week is settled. Positions,
//! prices and fees are left to the order side.
//!
//! When [`Field2026::advance`] reports an elimination: cancel the resting orders of that miner,
//! close its positions at the market, and answer its later signals with
//! [`Eliminations::refusal`]. Its collateral is slashed in proportion to the drawdown in the row.
//!
//! The network ranks the miners of an asset class by scores that its documentation does not give;
//! here they are ranked by their current return, which is what the score weighs.
//!
//! What must stay true: the same events give the same result, however often `advance` is called.

use std::collections::BTreeSet;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::paper::DAY_MS;
use crate::paper::drawdown::{AccountKind, Check2026};
use crate::paper::elimination::{Elimination, Eliminations, Reason};
use crate::paper::field::{Miner, Roster, next_multiple};
use crate::paper::ledger::{Ledger2026, LedgerError};
use crate::paper::score_rules::ScoreRules2026;
use crate::paper::weights::{self, Bucket, Performance, Standing, Weights};
use crate::rules::Era;

/// What happened to a miner. Amounts in USD.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Event2026 {
    /// The account at live prices.
    Mark {
        /// Its size, above 0.
        account_size: Decimal,
        /// Size plus realised profit, minus fees.
        balance: Decimal,
        /// Profit or loss of the open positions.
        unrealised: Decimal,
    },
    /// A profit or loss was realised, or a fee was charged.
    Booked {
        /// Profit, or loss if negative.
        realised: Decimal,
        /// At least 0.
        fee: Decimal,
    },
    /// The miner sent an order.
    Order,
    /// The miner received emissions.
    Paid {
        /// At least 0.
        usd: Decimal,
    },
    /// The share of a gain that is paid from now on, 0 to 1.
    Penalty(Decimal),
    /// Whether the miner has any collateral.
    Collateral(bool),
}

/// Everything about a field but its rules. It serialises without loss, so that a restart needs no
/// history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct State2026(Roster<Ledger2026>);

/// The field.
#[derive(Debug, Clone)]
pub struct Field2026 {
    rules: ScoreRules2026,
    roster: Roster<Ledger2026>,
}

impl Field2026 {
    /// An empty field whose time begins at `start_ms`.
    pub fn new(rules: ScoreRules2026, start_ms: i64) -> Self {
        let roster = Roster::new(rules.drawdown.refresh_ms, start_ms);
        Self { rules, roster }
    }

    /// Goes on where a field of the same rules was.
    pub fn resume(rules: ScoreRules2026, state: State2026) -> Self {
        let State2026(mut roster) = state;
        roster.reindex();
        Self { rules, roster }
    }

    /// What [`Field2026::resume`] needs.
    pub fn state(&self) -> State2026 {
        State2026(self.roster.clone())
    }

    /// The rules in force.
    pub const fn rules(&self) -> &ScoreRules2026 {
        &self.rules
    }

    /// Lets a miner take part. Doing so twice changes nothing.
    pub fn register(&mut self, hotkey: &str, account: Ledger2026) {
        let at_ms = account.bucket_since_ms;
        self.roster.add(hotkey, || account);
        self.roster.wake(at_ms);
    }

    /// Applies an event at its time. Checks that are due before it are carried out first.
    ///
    /// # Errors
    /// When the event is late, of nobody, or has an impossible amount; it is not applied then. An
    /// event with an impossible amount still names its time.
    pub fn apply(&mut self, at_ms: i64, hotkey: &str, event: Event2026) -> Result<(), LedgerError> {
        self.roster.admit(hotkey, at_ms)?;
        self.run(at_ms, at_ms);
        let ledger = &mut self.roster.get_mut(hotkey)?.ledger;
        match event {
            Event2026::Mark { account_size, balance, unrealised } => {
                ledger.mark(hotkey, account_size, balance, unrealised)?;
            }
            Event2026::Booked { realised, fee } => ledger.book(hotkey, realised, fee)?,
            Event2026::Order => ledger.last_order_ms = at_ms,
            Event2026::Paid { usd } => ledger.pay(hotkey, usd)?,
            Event2026::Penalty(share) => ledger.penalise(hotkey, share)?,
            Event2026::Collateral(has) => ledger.has_collateral = has,
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

    /// Puts a miner out for copying.
    pub fn plagiarism(&mut self, hotkey: &str, now_ms: i64) {
        self.roster.eliminate(row(hotkey, now_ms, Reason::Plagiarism, Elimination::NO_DRAWDOWN));
    }

    /// Puts a miner out because it left the metagraph. The next `advance` reports it; the list of
    /// eliminations does not show it, as in the network, but it may never come back.
    pub fn left(&mut self, hotkey: &str, now_ms: i64) {
        self.roster.depart(row(hotkey, now_ms, Reason::Deregistered, Elimination::NO_DRAWDOWN));
    }

    /// Who is out, and what their signals are answered.
    pub const fn eliminations(&self) -> &Eliminations {
        &self.roster.eliminations
    }

    /// What a miner's drawdown is now, or `None` for one that is not in the field or has no mark.
    pub fn check(&self, hotkey: &str) -> Option<Check2026> {
        self.judge(&self.roster.get(hotkey)?.ledger)
    }

    /// What is remembered of a miner.
    pub fn ledger(&self, hotkey: &str) -> Option<&Ledger2026> {
        Some(&self.roster.get(hotkey)?.ledger)
    }

    /// The weights at a time that is not before the last event.
    pub fn weights(&self, now_ms: i64) -> Weights {
        let scoring = &self.rules.scoring;
        let field: Vec<Standing> = self
            .roster
            .active()
            .map(|m| Standing {
                hotkey: m.hotkey.clone(),
                bucket: m.ledger.bucket,
                needed: m.ledger.settled,
                paid: m.ledger.paid,
                performance: Some(Performance {
                    recent_usd: m.ledger.recent_performance(now_ms, scoring),
                    has_collateral: m.ledger.has_collateral,
                }),
            })
            .collect();
        weights::weights(&field, scoring)
    }

    /// When the round of weights after a time is due.
    pub const fn next_round_ms(&self, after_ms: i64) -> i64 {
        next_multiple(after_ms, self.rules.scoring.interval_ms)
    }

    fn judge(&self, ledger: &Ledger2026) -> Option<Check2026> {
        let limits = self.rules.drawdown.limits(ledger.kind, ledger.bucket == Bucket::Challenge);
        Some(ledger.drawdown.check(ledger.equity?, limits))
    }

    fn run(&mut self, now_ms: i64, until_ms: i64) {
        while let Some(at_ms) = self.roster.instant(until_ms) {
            self.end_periods(at_ms);
            let out: Vec<Elimination> =
                self.roster.active().filter_map(|m| self.verdict(m, at_ms)).collect();
            out.into_iter().for_each(|row| self.roster.eliminate(row));
            // Ranks do not depend on stages, so that moving one miner moves no other.
            self.move_stages(at_ms);
            self.roster.wake(self.next_deadline(at_ms));
        }
        self.roster.reached(now_ms, until_ms);
    }

    fn end_periods(&mut self, at_ms: i64) {
        let scoring = &self.rules.scoring;
        if at_ms.rem_euclid(scoring.checkpoint_ms) != 0 {
            return;
        }
        for miner in self.roster.miners.iter_mut().filter(|m| !m.out) {
            miner.ledger.end_period(at_ms, scoring);
            if let Some(equity) = miner.ledger.equity.filter(|_| at_ms.rem_euclid(DAY_MS) == 0) {
                miner.ledger.drawdown.midnight(equity);
            }
        }
    }

    /// Whether a miner is out at this instant: deadlines first, then drawdown.
    fn verdict(&self, miner: &Miner<Ledger2026>, at_ms: i64) -> Option<Elimination> {
        let ledger = &miner.ledger;
        let out = |reason, dd| Some(row(&miner.hotkey, at_ms, reason, dd));
        if let Some((_, reason)) = self.stage_end(ledger).filter(|(end, _)| at_ms > *end) {
            return out(reason, Elimination::NO_DRAWDOWN);
        }
        if at_ms >= self.inactive_ms(ledger) {
            return out(Reason::Inactive, Elimination::NO_DRAWDOWN);
        }
        let check = self.judge(ledger)?;
        let breach = check.breach?;
        if !self.rules.drawdown.enforced(ledger.kind, at_ms) {
            return None;
        }
        let reason = match ledger.bucket {
            Bucket::Challenge => Reason::ChallengeDrawdown(breach),
            _ => Reason::FundedDrawdown(breach),
        };
        out(reason, check.loss_pct(breach))
    }

    /// The last time at which a regular miner may be in its stage.
    fn stage_end(&self, ledger: &Ledger2026) -> Option<(i64, Reason)> {
        let (days, reason) = match (ledger.kind, ledger.bucket) {
            (AccountKind::Subaccount { .. }, _) => return None,
            (_, Bucket::Challenge) => (self.rules.challenge.max_days, Reason::ChallengeTime),
            (_, Bucket::Probation) => (self.rules.probation.max_days, Reason::ProbationTime),
            _ => return None,
        };
        Some((ledger.bucket_since_ms + days * DAY_MS, reason))
    }

    /// When a miner without further orders is out.
    fn inactive_ms(&self, ledger: &Ledger2026) -> i64 {
        let rules = &self.rules.inactivity;
        (ledger.last_order_ms + rules.max_days * DAY_MS).max(rules.enforced_from_ms)
    }

    /// When a miner in the challenge may be promoted.
    fn promotable_ms(&self, ledger: &Ledger2026) -> i64 {
        match (ledger.kind, ledger.bucket) {
            (AccountKind::Regular, Bucket::Challenge) => {
                ledger.bucket_since_ms + self.rules.challenge.min_days * DAY_MS
            }
            _ => ledger.bucket_since_ms,
        }
    }

    /// The first time after `at_ms` at which something is due without an event.
    fn next_deadline(&self, at_ms: i64) -> i64 {
        let period = next_multiple(at_ms, self.rules.scoring.checkpoint_ms);
        self.roster
            .active()
            .flat_map(|m| {
                let stage_end = self.stage_end(&m.ledger).map(|(end_ms, _)| end_ms + 1);
                let fixed = [self.inactive_ms(&m.ledger), self.promotable_ms(&m.ledger)];
                fixed.into_iter().chain(stage_end)
            })
            .chain([self.rules.drawdown.regular_miner_enforced_from_ms])
            .filter(|deadline| *deadline > at_ms)
            .fold(period, i64::min)
    }

    /// Promotes and demotes.
    fn move_stages(&mut self, at_ms: i64) {
        let top = self.top_ranks();
        let moves: Vec<(usize, Bucket)> = self
            .roster
            .miners
            .iter()
            .enumerate()
            .filter(|(_, m)| !m.out)
            .filter_map(|(at, m)| Some((at, self.next_stage(&m.ledger, top.contains(&at), at_ms)?)))
            .collect();
        for (at, bucket) in &moves {
            if let Some(miner) = self.roster.miners.get_mut(*at) {
                miner.ledger.bucket = *bucket;
                miner.ledger.bucket_since_ms = at_ms;
            }
        }
    }

    fn next_stage(&self, ledger: &Ledger2026, in_top: bool, at_ms: i64) -> Option<Bucket> {
        let check = self.judge(ledger)?;
        if check.breach.is_some() {
            return None;
        }
        let regular = ledger.kind == AccountKind::Regular;
        match ledger.bucket {
            Bucket::MainComp if regular && !in_top => Some(Bucket::Probation),
            Bucket::Challenge | Bucket::Probation => {
                let threshold = *self.rules.challenge.returns.get(&ledger.asset_class)?;
                let earned = ledger.current_return() > threshold;
                let passes = earned && at_ms >= self.promotable_ms(ledger) && (!regular || in_top);
                passes.then_some(Bucket::MainComp)
            }
            _ => None,
        }
    }

    /// The regular miners that are good enough for the main competition of their asset class.
    fn top_ranks(&self) -> BTreeSet<usize> {
        let mut ranked: Vec<(&str, f64, usize)> = self
            .roster
            .miners
            .iter()
            .enumerate()
            .filter(|(_, m)| !m.out && m.ledger.kind == AccountKind::Regular)
            .map(|(at, m)| (m.ledger.asset_class.as_str(), m.ledger.current_return(), at))
            .collect();
        ranked.sort_by(|a, b| a.0.cmp(b.0).then(b.1.total_cmp(&a.1)));
        ranked
            .chunk_by(|a, b| a.0 == b.0)
            .flat_map(|class| class.iter().take(self.rules.challenge.promotion_rank))
            .map(|(_, _, at)| *at)
            .collect()
    }
}

fn row(hotkey: &str, at_ms: i64, reason: Reason, dd: f64) -> Elimination {
    Elimination {
        hotkey: hotkey.to_owned(),
        elimination_initiated_time_ms: at_ms,
        dd,
        reason: reason.as_str(Era::Y2026).to_owned(),
    }
}
