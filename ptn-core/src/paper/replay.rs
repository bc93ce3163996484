//! Yesterday's signals under the network's rules: prices and signals in, a [`Report`] out.
//!
//! [`run`] does it in one go; [`Replay`] takes one price or signal after the other and gives the
//! same. At equal times prices come first. The validator's checks happen on the grid of the rule
//! set; a check sees what happened up to its own ms. Files, screens and the clock are left to others.
//!
//! The firm trades in a field with two reference miners per pair of the price file, one that holds it
//! long and one that holds it short, closed and opened again every UTC day. In 2026 everybody is a hotkey of its own
//! that has passed its challenge, with collateral.
//!
//! What must stay true: the same prices and signals give the same report.

mod curve;
mod judge;
mod reference;
mod report;
mod signals;

pub use report::{
    Closest, DrawdownRow, Member, Note, PairRow, Point, RefusedRow, Report, Signals, Total,
    WeightRow,
};
pub use signals::{RecordError, TimedSignal};

use std::collections::BTreeMap;

use super::account::{Account, AccountSettings, Answer, Event};
use super::book::Book;
use super::elimination::Elimination;
use super::ledger::LedgerError;
use super::leveraged::Added;
use super::order::Order;
use super::prices::{PriceError, PriceSource, Tick};
use super::rules::{Generation, PaperRules};
use crate::rules::{Era, Rules, RulesError};
use crate::store::UnixMs;
use curve::Curve;
use judge::Judge;
use reference::Holder;

/// A curve has no more points than this.
pub const MOST_POINTS: usize = 1500;

const SCHEMA: &str = "ptn-paper-replay/1";

const ABOUT: &str = "two reference miners per pair of the price file, one always long and one always short, opened again every UTC day";

/// Why a replay ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The prices.
    #[error(transparent)]
    Prices(#[from] PriceError),
    /// A rule set without positions, such as 2025.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// An amount that no account can have.
    #[error(transparent)]
    Amount(#[from] LedgerError),
    /// Nothing to trade on.
    #[error("there is not one price; give a file with a row for every price")]
    NoPrices,
    /// Time goes forward only.
    #[error("an event at {at_ms} ms comes after {now_ms} ms; give events in order of time")]
    Late {
        /// Its time.
        at_ms: UnixMs,
        /// How far the replay is.
        now_ms: UnixMs,
    },
}

impl ReplayError {
    /// A stable name.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Prices(e) => e.code(),
            Self::Rules(_) => "rules",
            Self::Amount(e) => e.code(),
            Self::NoPrices => "no_prices",
            Self::Late { .. } => "late_event",
        }
    }
}

/// What is decided before a replay.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplaySettings {
    /// 2024 or 2026.
    pub era: Era,
    /// The firm's name in the field and in the validator's texts.
    pub hotkey: String,
    /// Account size in US dollars; the rules' default without one. Means nothing in 2024.
    pub account_usd: Option<f64>,
}

/// Replays everything.
///
/// # Errors
/// As [`Replay::tick`], and what the prices say.
pub fn run(
    settings: ReplaySettings,
    prices: &mut dyn PriceSource,
    mut signals: Vec<TimedSignal>,
) -> Result<Report, ReplayError> {
    signals.sort_by_key(|signal| signal.received_ms);
    let mut signals = signals.into_iter().peekable();
    let Some(first) = prices.next_tick()? else { return Err(ReplayError::NoPrices) };
    let start_ms = signals.peek().map_or(first.at_ms, |s| s.received_ms.min(first.at_ms));
    let mut replay = Replay::new(settings, start_ms)?;
    let mut next = Some(first);
    while let Some(tick) = next {
        while let Some(signal) = signals.next_if(|s| s.received_ms < tick.at_ms) {
            replay.signal(&signal)?;
        }
        replay.tick(&tick)?;
        next = prices.next_tick()?;
    }
    for signal in signals {
        replay.signal(&signal)?;
    }
    replay.finish()
}

/// A replay under way.
#[derive(Debug)]
pub struct Replay {
    settings: ReplaySettings,
    rules: PaperRules,
    sending: Rules,
    book: Book,
    judge: Judge,
    holders: BTreeMap<crate::trade_pair::TradePairId, [Holder; 2]>,
    account_usd: Option<f64>,
    start_ms: UnixMs,
    now_ms: UnixMs,
    prices: u64,
    counts: Signals,
    refused: Vec<RefusedRow>,
    notes: Vec<Note>,
    curve: Curve,
    closest: Option<Closest>,
    eliminated: Option<Elimination>,
}

impl Replay {
    /// Begins at a time.
    ///
    /// # Errors
    /// For a rule set without positions.
    pub fn new(settings: ReplaySettings, start_ms: UnixMs) -> Result<Self, ReplayError> {
        let rules = PaperRules::load(settings.era)?;
        let account_usd = match &rules.generation {
            Generation::Y2024(_) => None,
            Generation::Y2026(own) => Some(settings.account_usd.unwrap_or(own.default_account_usd)),
        };
        let mut replay = Self {
            sending: Rules::load(settings.era)?,
            judge: Judge::new(settings.era, start_ms)?,
            book: Book::new(),
            holders: BTreeMap::new(),
            account_usd,
            start_ms,
            now_ms: start_ms,
            prices: 0,
            counts: Signals::default(),
            refused: Vec::new(),
            notes: Vec::new(),
            curve: Curve::new(start_ms),
            closest: None,
            eliminated: None,
            rules,
            settings,
        };
        let firm = replay.settings.hotkey.clone();
        replay.join(&firm);
        Ok(replay)
    }

    fn join(&mut self, hotkey: &str) {
        let own = AccountSettings::of_size(self.account_usd.unwrap_or(1.0));
        self.book.open_account(&self.rules, hotkey, own);
        self.judge.register(hotkey, self.now_ms);
    }

    /// Takes a price.
    ///
    /// # Errors
    /// When it comes too late, or an account reached an impossible amount.
    pub fn tick(&mut self, tick: &Tick) -> Result<(), ReplayError> {
        self.settle(tick.at_ms)?;
        self.prices += 1;
        let moved = self.book.on_price(&self.rules, &tick.pair, tick.quote());
        for (hotkey, events) in moved {
            if hotkey == self.settings.hotkey {
                self.note_events(tick.at_ms, events);
            }
        }
        self.hold(tick)?;
        self.feed_firm(tick.at_ms)
    }

    /// Takes a signal.
    ///
    /// # Errors
    /// As [`Replay::tick`]. A refused signal is no error.
    pub fn signal(&mut self, signal: &TimedSignal) -> Result<(), ReplayError> {
        let at_ms = signal.received_ms;
        self.settle(at_ms)?;
        self.counts.total += 1;
        let mut uuid = signal.uuid().to_owned();
        if uuid.is_empty() {
            uuid = format!("signal-{}", self.counts.total);
        }
        let pair_given = || {
            let pair = signal.body.get("trade_pair").or_else(|| signal.body.get("trade_pair_id"));
            pair.and_then(crate::json::Json::as_str).map(str::to_owned)
        };
        let sent = match signal.signal(&self.sending) {
            Ok(sent) => sent,
            Err(e) => {
                let (code, text) = (e.code().as_str().to_owned(), e.to_string());
                self.refuse(RefusedRow {
                    at_ms,
                    order_uuid: uuid,
                    pair: pair_given(),
                    by: "miner",
                    code,
                    text,
                });
                return Ok(());
            }
        };
        let firm = self.settings.hotkey.clone();
        let pair = sent.trade_pair().map(|pair| pair.to_string());
        let targets_others = sent.execution_type().targets_other_orders();
        let outcome = Order::from_signal(&sent).and_then(|mut order| {
            if !targets_others {
                order.uuid.clone_from(&uuid);
            }
            self.book.receive(&self.rules, &firm, &order, at_ms)
        });
        match outcome {
            Ok(outcome) => {
                if self.eliminated.is_none() {
                    self.judge.order(at_ms, &firm)?;
                }
                self.note_answer(at_ms, &uuid, outcome.answer);
                self.note_events(at_ms, outcome.events);
            }
            Err(refusal) => {
                let text = refusal.error_message(self.settings.era, &firm);
                let code = refusal.code().to_owned();
                self.refuse(RefusedRow {
                    at_ms,
                    order_uuid: uuid,
                    pair,
                    by: "validator",
                    code,
                    text,
                });
            }
        }
        self.feed_firm(at_ms)
    }

    /// Ends it at the last event, after the checks that are due then.
    ///
    /// # Errors
    /// As [`Replay::tick`].
    pub fn finish(mut self) -> Result<Report, ReplayError> {
        let end_ms = self.now_ms;
        self.settle(end_ms.saturating_add(1))?;
        let account = self.book.account(&self.settings.hotkey);
        let pairs = account.map(report_pairs).unwrap_or_default();
        let total = account.map_or(Total::none(), report_total);
        Ok(Report {
            schema: SCHEMA,
            rules: self.settings.era.to_string(),
            weight: self.weight(end_ms),
            account_usd: self.account_usd,
            start_ms: self.start_ms,
            end_ms,
            prices: self.prices,
            signals: self.counts,
            total,
            pairs,
            drawdown: DrawdownRow {
                largest: self.curve.largest,
                at_ms: self.curve.largest_ms,
                closest: self.closest,
            },
            eliminated: self.eliminated,
            refused: self.refused,
            notes: self.notes,
            curve: self.curve.into_points(),
            hotkey: self.settings.hotkey,
        })
    }

    /// Carries out the checks before `at_ms`.
    fn settle(&mut self, at_ms: UnixMs) -> Result<(), ReplayError> {
        if at_ms < self.now_ms {
            return Err(ReplayError::Late { at_ms, now_ms: self.now_ms });
        }
        if at_ms == self.now_ms {
            return Ok(());
        }
        let was_out = self.eliminated.is_some();
        for check_ms in self.judge.checks(self.now_ms, at_ms) {
            self.advance(check_ms);
            if !was_out {
                self.look(check_ms);
            }
        }
        self.advance(at_ms - 1);
        self.now_ms = at_ms;
        Ok(())
    }

    fn advance(&mut self, now_ms: UnixMs) {
        for row in self.judge.advance(now_ms) {
            let at_ms = row.elimination_initiated_time_ms;
            let events = self.book.eliminate(&self.rules, &row.hotkey, row.to_string(), at_ms);
            if row.hotkey == self.settings.hotkey {
                self.note_events(at_ms, events);
                let text = format!("eliminated: {}; everything was closed", row.reason);
                self.note(at_ms, &row.hotkey, text);
                if let Some(account) = self.book.account(&row.hotkey) {
                    self.curve.add(at_ms, account.total_return());
                }
                self.eliminated = Some(row);
            }
        }
    }

    fn look(&mut self, at_ms: UnixMs) {
        let Some(points_left) = self.judge.points_left(&self.settings.hotkey, at_ms) else {
            return;
        };
        let before = self.closest.map(|closest| closest.points_left);
        if before.is_none_or(|before| points_left < before) {
            self.closest = Some(Closest { points_left, at_ms });
        }
        let first_breach = points_left < 0.0 && before.is_none_or(|before| before >= 0.0);
        if first_breach && !self.judge.enforced(at_ms) {
            let firm = self.settings.hotkey.clone();
            let text = "a drawdown limit was broken; at this time it did not yet put a hotkey out";
            self.note(at_ms, &firm, text.to_owned());
        }
    }

    fn hold(&mut self, tick: &Tick) -> Result<(), ReplayError> {
        if !self.holders.contains_key(&tick.pair) {
            let Some(pair) = self.rules.pair(&tick.pair) else { return Ok(()) };
            let pair = Holder::both(pair);
            for holder in &pair {
                self.join(&holder.hotkey);
            }
            self.holders.insert(tick.pair.clone(), pair);
        }
        for holder in self.holders.get_mut(&tick.pair).into_iter().flatten() {
            let traded = holder.trade(&mut self.book, &self.rules, tick.at_ms);
            if let Some(account) = self.book.account(&holder.hotkey)
                && !self.judge.is_out(&holder.hotkey)
            {
                if traded {
                    self.judge.order(tick.at_ms, &holder.hotkey)?;
                }
                self.judge.feed(tick.at_ms, account)?;
            }
        }
        Ok(())
    }

    fn feed_firm(&mut self, at_ms: UnixMs) -> Result<(), ReplayError> {
        let Some(account) = self.book.account(&self.settings.hotkey) else { return Ok(()) };
        self.curve.add(at_ms, account.total_return());
        if self.eliminated.is_none() {
            self.judge.feed(at_ms, account)?;
        }
        Ok(())
    }

    fn refuse(&mut self, row: RefusedRow) {
        self.counts.refused += 1;
        self.refused.push(row);
    }

    fn note(&mut self, at_ms: UnixMs, uuid: &str, text: String) {
        self.notes.push(Note { at_ms, uuid: uuid.to_owned(), text });
    }

    fn note_answer(&mut self, at_ms: UnixMs, uuid: &str, answer: Answer) {
        let counter = match &answer {
            Answer::Filled { .. } | Answer::Leveraged { added: Added::Stored, .. } => {
                &mut self.counts.filled
            }
            Answer::Flattened { .. } => &mut self.counts.filled,
            Answer::Rests { .. } => &mut self.counts.resting,
            Answer::Cancelled { .. } | Answer::Edited { .. } => &mut self.counts.managed,
            Answer::NoPosition | Answer::Leveraged { .. } => &mut self.counts.ignored,
        };
        *counter += 1;
        let text = match answer {
            Answer::NoPosition => "ignored: there was no position to close".to_owned(),
            Answer::Leveraged { added: Added::ClampedToZero, .. } => {
                "ignored, with success: the position was at its leverage limit".to_owned()
            }
            Answer::Leveraged { added: Added::PositionClosed, .. } => {
                "ignored, with success: the position was already closed".to_owned()
            }
            Answer::Filled { fill } => match fill.clamped_value {
                Some(value) => format!("cut to {value:.2} USD by a cap"),
                None => return,
            },
            Answer::Flattened { failed, .. } => {
                for (position, refusal) in failed {
                    self.note(at_ms, &position, format!("not closed: {refusal}"));
                }
                return;
            }
            _ => return,
        };
        self.note(at_ms, uuid, text);
    }

    fn note_events(&mut self, at_ms: UnixMs, events: Vec<Event>) {
        for event in events {
            let (uuid, text) = match event {
                Event::Filled { fill } => {
                    let kind = fill.order_type;
                    let text = format!(
                        "{kind} {} filled at {} without a new signal",
                        fill.pair, fill.price
                    );
                    (fill.uuid, text)
                }
                Event::Failed { uuid, refusal } => {
                    (uuid, format!("resting order failed: {refusal}"))
                }
                Event::Cancelled { uuid } => {
                    (uuid, "resting order cancelled: nothing left to do".to_owned())
                }
                Event::Liquidated { position } => {
                    (position, "liquidated: everything was lost".to_owned())
                }
                _ => continue,
            };
            self.note(at_ms, &uuid, text);
        }
    }

    fn weight(&self, end_ms: UnixMs) -> WeightRow {
        let weights = self.judge.weights(end_ms);
        let mut field: Vec<Member> = self
            .book
            .accounts()
            .map(|account| Member {
                hotkey: account.hotkey().to_owned(),
                weight: weights.of(account.hotkey()),
                net_return: account.total_return() - 1.0,
                eliminated: self.judge.is_out(account.hotkey()),
            })
            .collect();
        field.sort_by(|a, b| b.weight.total_cmp(&a.weight).then(a.hotkey.cmp(&b.hotkey)));
        let firm = weights.of(&self.settings.hotkey);
        WeightRow { firm, burn: weights.burn, field, about: ABOUT }
    }
}

impl Total {
    const fn none() -> Self {
        Self { net_return: 0.0, gross_return: 0.0, fees: 0.0, fees_usd: None }
    }

    /// 2024: products of returns.
    fn of_products(gross: f64, net: f64) -> Self {
        Self { net_return: net - 1.0, gross_return: gross - 1.0, fees: gross - net, fees_usd: None }
    }

    /// 2026: sums of US dollars.
    fn of_usd(gain: f64, fees: f64, size: f64) -> Self {
        Self {
            net_return: (gain - fees) / size,
            gross_return: gain / size,
            fees: fees / size,
            fees_usd: Some(fees),
        }
    }
}

fn report_total(account: &Account) -> Total {
    match account {
        Account::Y2024(account) => {
            let all = account.closed().iter().chain(account.open());
            Total::of_products(all.map(|p| p.current_return).product(), account.total_return())
        }
        Account::Y2026(account) => {
            let (size, fees) = (account.settings.account_size, account.fees_paid());
            Total::of_usd(account.equity() + fees - size, fees, size)
        }
    }
}

fn report_pairs(account: &Account) -> Vec<PairRow> {
    let mut rows: BTreeMap<String, (PairRow, f64, f64)> = BTreeMap::new();
    let start = if matches!(account, Account::Y2024(_)) { 1.0 } else { 0.0 };
    let views = account.closed().into_iter().chain(account.open());
    for view in views {
        let pair = view.pair.to_string();
        let (row, ..) = rows.entry(pair.clone()).or_insert_with(|| {
            let row = PairRow { pair, positions: 0, open: false, orders: 0, total: Total::none() };
            (row, start, start)
        });
        row.positions += 1;
        row.orders += view.orders;
        row.open |= view.close_ms.is_none();
    }
    match account {
        Account::Y2024(account) => {
            for position in account.closed().iter().chain(account.open()) {
                if let Some((_, gross, net)) = rows.get_mut(position.pair.as_str()) {
                    *gross *= position.current_return;
                    *net *= position.return_at_close;
                }
            }
        }
        Account::Y2026(account) => {
            for position in account.closed().iter().chain(account.open()) {
                if let Some((_, gain, fees)) = rows.get_mut(position.pair.as_str()) {
                    let open = if position.is_closed() { 0.0 } else { position.unrealized_pnl };
                    *gain += position.realized_pnl + open;
                    *fees += position.total_fees();
                }
            }
        }
    }
    let finish = |(row, a, b): (PairRow, f64, f64)| {
        let total = match account {
            Account::Y2024(_) => Total::of_products(a, b),
            Account::Y2026(account) => Total::of_usd(a, b, account.settings.account_size),
        };
        PairRow { total, ..row }
    };
    rows.into_values().map(finish).collect()
}
