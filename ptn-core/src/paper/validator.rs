//! One validator on paper: its book and its judgement of the field, brought forward together.
//!
//! Prices and orders go in with their times, answers and eliminations come out. Checks that are due
//! before an event are carried out first; a check sees what happened up to its own ms. Rounds of
//! weights are closed by [`PaperValidator::close_rounds`], on the network's interval. Clocks, signatures, disks
//! and sockets are left to others.
//!
//! What must stay true: the same events give the same validator, in one go, step by step, or from a
//! stored state; how often somebody only asked, or let time pass, makes no difference.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::account::{Account, AccountSettings, Event, Outcome};
use super::book::{Book, Standing};
use super::curve::{Curve, Point};
use super::elimination::Elimination;
use super::judge::{FieldStanding, Judge, JudgeState, Losses};
use super::ledger::LedgerError;
use super::market::Quote;
use super::order::Order;
use super::refusal::Refusal;
use super::rules::{Generation, PaperRules};
use super::weights::{Bucket, Weights};
use crate::json::Object;
use crate::rules::{Era, RulesError};
use crate::store::UnixMs;
use crate::trade_pair::TradePairId;

/// An event that cannot be applied.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PaperError {
    /// Time goes forward only.
    #[error("an event at {at_ms} ms comes after {now_ms} ms; give events in order of time")]
    Late {
        /// Its time.
        at_ms: UnixMs,
        /// How far the validator is.
        now_ms: UnixMs,
    },
    /// An amount that no account can have.
    #[error(transparent)]
    Amount(#[from] LedgerError),
}

impl PaperError {
    /// A stable name.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Late { .. } => "late_event",
            Self::Amount(e) => e.code(),
        }
    }
}

/// On which terms a hotkey takes part. Most of it means something in 2026 only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// Its account.
    pub account: AccountSettings,
    /// Its place in the field.
    pub field: FieldStanding,
}

impl Terms {
    /// An account of this size in US dollars that trades everything and has passed its challenge;
    /// without one, of the size that the rules give.
    pub fn of_size(rules: &PaperRules, account_usd: Option<f64>) -> Self {
        let usd = match &rules.generation {
            Generation::Y2024(_) => 1.0,
            Generation::Y2026(own) => account_usd.unwrap_or(own.default_account_usd),
        };
        Self { account: AccountSettings::of_size(usd), field: FieldStanding::default() }
    }
}

/// A round of weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// Its number, from 1.
    pub n: u64,
    /// Its time, in ms.
    pub at_ms: UnixMs,
    /// What it gave.
    pub weights: Weights,
}

/// What the rules say about setting weights on a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainTerms {
    /// `version_key` of the call.
    pub version_key: u64,
    /// The uid that gets what nobody earned, on the main network; there was none in 2024.
    pub burn_uid: Option<u16>,
}

/// A hotkey that was put out, and what happened to its account by that.
#[derive(Debug, Clone, PartialEq)]
pub struct Eliminated {
    /// The row of the network's elimination file.
    pub row: Elimination,
    /// Closed positions and cancelled orders.
    pub events: Vec<Event>,
}

/// A miner in the field, as a leaderboard shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MinerView<'a> {
    /// Who.
    pub hotkey: &'a str,
    /// 1 at the start.
    pub total_return: f64,
    /// The weight of the last round; 0 before the first.
    pub weight: f64,
    /// The largest fall below the highest value so far: 0.01 is 1 %.
    pub largest_drawdown: f64,
    /// Losses as the rules measure them.
    pub losses: Option<Losses>,
    /// Percent points of loss that are left before elimination.
    pub points_left: Option<f64>,
    /// Open positions.
    pub open: usize,
    /// Closed positions.
    pub closed: usize,
    /// The stage (2026).
    pub stage: Option<Bucket>,
    /// Why it is out.
    pub eliminated: Option<&'a Elimination>,
}

/// Everything about a validator but its rules. It serialises without loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValidatorState {
    era: Era,
    started_ms: UnixMs,
    now_ms: UnixMs,
    book: Book,
    judge: JudgeState,
    curves: BTreeMap<String, Curve>,
    terms: Terms,
    round: Option<Round>,
    rounds_ms: UnixMs,
}

/// The validator.
#[derive(Debug, Clone)]
pub struct PaperValidator {
    era: Era,
    rules: PaperRules,
    book: Book,
    judge: Judge,
    curves: BTreeMap<String, Curve>,
    terms: Terms,
    round: Option<Round>,
    /// Rounds up to this time are closed.
    rounds_ms: UnixMs,
    started_ms: UnixMs,
    now_ms: UnixMs,
    fresh: Vec<Eliminated>,
}

impl PaperValidator {
    /// One that has seen nothing.
    ///
    /// # Errors
    /// For a rule set without positions, such as 2025.
    pub fn new(era: Era, start_ms: UnixMs) -> Result<Self, RulesError> {
        let rules = PaperRules::load(era)?;
        Ok(Self {
            era,
            book: Book::new(),
            judge: Judge::new(era, start_ms)?,
            curves: BTreeMap::new(),
            terms: Terms::of_size(&rules, None),
            round: None,
            rounds_ms: start_ms,
            started_ms: start_ms,
            now_ms: start_ms,
            fresh: Vec::new(),
            rules,
        })
    }

    /// Goes on where another one was.
    ///
    /// # Errors
    /// As [`PaperValidator::new`].
    pub fn resume(state: ValidatorState) -> Result<Self, RulesError> {
        Ok(Self {
            era: state.era,
            rules: PaperRules::load(state.era)?,
            book: state.book,
            judge: Judge::resume(state.judge)?,
            curves: state.curves,
            terms: state.terms,
            round: state.round,
            rounds_ms: state.rounds_ms,
            started_ms: state.started_ms,
            now_ms: state.now_ms,
            fresh: Vec::new(),
        })
    }

    /// What [`PaperValidator::resume`] needs. Eliminations that nobody has taken are not in it.
    pub fn state(&self) -> ValidatorState {
        ValidatorState {
            era: self.era,
            started_ms: self.started_ms,
            now_ms: self.now_ms,
            book: self.book.clone(),
            judge: self.judge.state(),
            curves: self.curves.clone(),
            terms: self.terms.clone(),
            round: self.round.clone(),
            rounds_ms: self.rounds_ms,
        }
    }

    /// The rule set.
    pub const fn era(&self) -> Era {
        self.era
    }

    /// The rules in force.
    pub const fn rules(&self) -> &PaperRules {
        &self.rules
    }

    /// Accounts and prices.
    pub const fn book(&self) -> &Book {
        &self.book
    }

    /// When it began, in ms.
    pub const fn started_ms(&self) -> UnixMs {
        self.started_ms
    }

    /// How far it is, in ms.
    pub const fn now_ms(&self) -> UnixMs {
        self.now_ms
    }

    /// The last round of weights.
    pub const fn round(&self) -> Option<&Round> {
        self.round.as_ref()
    }

    /// The weights as they would be at a time that is not before the last event.
    pub fn weights(&self, at_ms: UnixMs) -> Weights {
        self.judge.weights(at_ms)
    }

    /// What the rules say about setting weights on a chain.
    pub fn chain_terms(&self) -> ChainTerms {
        let (version_key, burn_uid) = self.judge.chain_terms();
        ChainTerms { version_key, burn_uid }
    }

    /// Who is out, oldest first.
    pub fn eliminations(&self) -> &[Elimination] {
        self.judge.eliminations().rows()
    }

    /// Whether a hotkey is out.
    pub fn is_out(&self, hotkey: &str) -> bool {
        self.judge.eliminations().get(hotkey).is_some()
    }

    /// The account over time, at most [`super::MOST_POINTS`] points.
    pub fn curve(&self, hotkey: &str) -> &[Point] {
        self.curves.get(hotkey).map(Curve::points).unwrap_or_default()
    }

    /// A miner.
    pub fn miner(&self, hotkey: &str) -> Option<MinerView<'_>> {
        self.book.account(hotkey).map(|account| self.view(account))
    }

    /// Everybody, the highest weight first, then the highest return.
    pub fn leaderboard(&self) -> Vec<MinerView<'_>> {
        let mut field: Vec<_> = self.book.accounts().map(|account| self.view(account)).collect();
        field.sort_by(|a, b| {
            let out = a.eliminated.is_some().cmp(&b.eliminated.is_some());
            let weight = b.weight.total_cmp(&a.weight);
            let gain = b.total_return.total_cmp(&a.total_return);
            out.then(weight).then(gain).then_with(|| a.hotkey.cmp(b.hotkey))
        });
        field
    }

    fn view<'a>(&'a self, account: &'a Account) -> MinerView<'a> {
        let hotkey = account.hotkey();
        let weight = self.round.as_ref().map_or(0.0, |round| round.weights.of(hotkey));
        MinerView {
            hotkey,
            total_return: account.total_return(),
            weight,
            largest_drawdown: self.curves.get(hotkey).map_or(0.0, |curve| curve.largest),
            losses: self.judge.losses(hotkey, self.now_ms),
            points_left: self.judge.points_left(hotkey, self.now_ms),
            open: account.open().len(),
            closed: account.closed().len(),
            stage: self.judge.stage(hotkey),
            eliminated: self.judge.eliminations().get(hotkey),
        }
    }

    /// Drops the rate limit and the cooldowns: for demos and benchmarks, which have no day to wait.
    pub fn without_pacing(&mut self) {
        self.rules.rate_limit.max_requests = u32::MAX;
        self.rules.cooldown_ms = 0;
    }

    /// The terms of hotkeys that come without any of their own.
    pub const fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Sets the terms of hotkeys that come without any of their own.
    pub fn set_terms(&mut self, terms: Terms) {
        self.terms = terms;
    }

    /// Lets a hotkey take part. Doing so twice changes nothing.
    ///
    /// # Errors
    /// As [`PaperValidator::settle`].
    pub fn join(&mut self, at_ms: UnixMs, hotkey: &str, terms: Terms) -> Result<(), PaperError> {
        self.settle(at_ms)?;
        self.admit(hotkey, terms)
    }

    fn admit(&mut self, hotkey: &str, terms: Terms) -> Result<(), PaperError> {
        if self.book.account(hotkey).is_some() {
            return Ok(());
        }
        self.book.open_account(&self.rules, hotkey, terms.account);
        self.judge.register(hotkey, &terms.field, self.now_ms);
        self.curves.insert(hotkey.to_owned(), Curve::new(self.now_ms));
        self.feed(hotkey)
    }

    /// Takes a price and returns what it did by hotkey. Rates to US dollars that it lacks come from
    /// the other pairs.
    ///
    /// # Errors
    /// When it comes too late, or an account reached an impossible amount.
    pub fn price(
        &mut self,
        at_ms: UnixMs,
        pair: &TradePairId,
        quote: Quote,
    ) -> Result<Vec<(String, Vec<Event>)>, PaperError> {
        self.settle(at_ms)?;
        let quote = match self.rules.pair(pair) {
            Some(own) => self.book.market().with_rates(own, &self.rules, quote),
            None => quote,
        };
        let moved = self.book.on_price(&self.rules, pair, quote);
        let holds = |account: &&Account| account.holds(pair);
        let mut touched: Vec<String> =
            self.book.accounts().filter(holds).map(|account| account.hotkey().to_owned()).collect();
        touched.extend(moved.iter().map(|(hotkey, _)| hotkey.clone()));
        touched.sort_unstable();
        touched.dedup();
        touched.iter().try_for_each(|hotkey| self.feed(hotkey))?;
        Ok(moved)
    }

    /// Takes an order. A hotkey that is not known yet joins with the usual terms.
    ///
    /// # Errors
    /// As [`PaperValidator::price`]. What the network would refuse is inside.
    pub fn order(
        &mut self,
        at_ms: UnixMs,
        hotkey: &str,
        order: &Order,
    ) -> Result<Result<Outcome, Refusal>, PaperError> {
        self.settle(at_ms)?;
        self.admit(hotkey, self.terms.clone())?;
        let outcome = self.book.receive(&self.rules, hotkey, order, at_ms);
        if outcome.is_ok() && !self.is_out(hotkey) {
            self.judge.order(at_ms, hotkey)?;
        }
        self.feed(hotkey)?;
        Ok(outcome)
    }

    /// Takes the signal of a request, as it stands there.
    ///
    /// # Errors
    /// As [`PaperValidator::order`].
    pub fn signal(
        &mut self,
        at_ms: UnixMs,
        hotkey: &str,
        uuid: &str,
        body: &Object,
    ) -> Result<(Option<Order>, Result<Outcome, Refusal>), PaperError> {
        match Order::from_wire(body, uuid, self.era) {
            Ok(order) => {
                let outcome = self.order(at_ms, hotkey, &order)?;
                Ok((Some(order), outcome))
            }
            Err(unreadable) => {
                self.settle(at_ms)?;
                self.admit(hotkey, self.terms.clone())?;
                let counted = self.book.count(&self.rules, hotkey, at_ms);
                Ok((None, Err(counted.err().unwrap_or(unreadable))))
            }
        }
    }

    /// Changes what a hotkey is to the network; nothing is a miner in good standing. Out stays out.
    ///
    /// # Errors
    /// As [`PaperValidator::settle`].
    pub fn set_standing(
        &mut self,
        at_ms: UnixMs,
        hotkey: &str,
        standing: Option<Standing>,
    ) -> Result<(), PaperError> {
        self.settle(at_ms)?;
        if !self.is_out(hotkey) {
            self.book.set_standing(hotkey, standing);
        }
        Ok(())
    }

    /// Changes the state of the whole validator.
    ///
    /// # Errors
    /// As [`PaperValidator::settle`].
    pub fn set_condition(
        &mut self,
        at_ms: UnixMs,
        condition: &Condition,
    ) -> Result<(), PaperError> {
        self.settle(at_ms)?;
        self.book.restarting = condition.restarting.unwrap_or(self.book.restarting);
        self.book.syncing = condition.syncing.unwrap_or(self.book.syncing);
        if let Some(halted) = &condition.halted {
            self.book.halted = halted.iter().cloned().collect();
        }
        Ok(())
    }

    /// Carries out the checks before a time and names it.
    ///
    /// # Errors
    /// When the time is past.
    pub fn settle(&mut self, at_ms: UnixMs) -> Result<(), PaperError> {
        if at_ms < self.now_ms {
            return Err(PaperError::Late { at_ms, now_ms: self.now_ms });
        }
        if at_ms > self.now_ms {
            self.advance(at_ms - 1);
            self.now_ms = at_ms;
        }
        Ok(())
    }

    /// Closes the rounds of weights before a time, and settles it. Between two events only time
    /// passes, so that of several rounds that are due the last one is made.
    ///
    /// # Errors
    /// When the time is past.
    pub fn close_rounds(&mut self, at_ms: UnixMs) -> Result<(), PaperError> {
        let first_ms = self.next_round_ms();
        if first_ms < at_ms {
            let every_ms = self.judge.next_round_ms(first_ms).saturating_sub(first_ms).max(1);
            let more = (at_ms - 1 - first_ms) / every_ms;
            let round_ms = first_ms + more * every_ms;
            self.settle(round_ms.max(self.now_ms))?;
            self.advance(round_ms);
            let n = self.round.as_ref().map_or(0, |round| round.n);
            let n = n.saturating_add(u64::try_from(more + 1).unwrap_or_default());
            self.round = Some(Round { n, at_ms: round_ms, weights: self.judge.weights(round_ms) });
            self.rounds_ms = round_ms;
        }
        self.settle(at_ms)
    }

    /// What happened although an order was refused, such as the fill behind R27.
    pub fn take_events(&mut self, hotkey: &str) -> Vec<Event> {
        self.book.take_events(hotkey)
    }

    /// When the next round of weights is due, in ms.
    pub fn next_round_ms(&self) -> UnixMs {
        self.judge.next_round_ms(self.rounds_ms)
    }

    /// Who was put out since the last call.
    pub fn take_eliminated(&mut self) -> Vec<Eliminated> {
        std::mem::take(&mut self.fresh)
    }

    /// The checks from one time up to another, which is not included, at which a distance can be a
    /// new one when nothing else happens in between.
    pub(super) fn checks(&self, until_ms: UnixMs) -> Vec<UnixMs> {
        self.judge.checks(self.now_ms, until_ms)
    }

    pub(super) fn points_left(&self, hotkey: &str, at_ms: UnixMs) -> Option<f64> {
        self.judge.points_left(hotkey, at_ms)
    }

    pub(super) fn enforced(&self, at_ms: UnixMs) -> bool {
        self.judge.enforced(at_ms)
    }

    pub(super) fn largest_drawdown(&self, hotkey: &str) -> Option<(f64, UnixMs)> {
        self.curves.get(hotkey).map(|curve| (curve.largest, curve.largest_ms))
    }

    /// Carries out the checks up to a time.
    pub(super) fn advance(&mut self, now_ms: UnixMs) {
        for row in self.judge.advance(now_ms) {
            let at_ms = row.elimination_initiated_time_ms;
            let events = self.book.eliminate(&self.rules, &row.hotkey, row.to_string(), at_ms);
            self.draw(at_ms, &row.hotkey);
            self.fresh.push(Eliminated { row, events });
        }
    }

    fn draw(&mut self, at_ms: UnixMs, hotkey: &str) {
        if let (Some(account), Some(curve)) =
            (self.book.account(hotkey), self.curves.get_mut(hotkey))
        {
            curve.add(at_ms, account.total_return());
        }
    }

    /// Shows an account to the field.
    fn feed(&mut self, hotkey: &str) -> Result<(), PaperError> {
        self.draw(self.now_ms, hotkey);
        if let Some(account) = self.book.account(hotkey)
            && !self.is_out(hotkey)
        {
            self.judge.feed(self.now_ms, account)?;
        }
        Ok(())
    }
}

/// The state of a validator as a whole. What is left out stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// It restarts: R9.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarting: Option<bool>,
    /// It syncs positions: R17.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syncing: Option<bool>,
    /// Pairs that are halted: R16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halted: Option<Vec<TradePairId>>,
}
