//! An account of 2026: balance, caps by tier, market orders. Resting orders are in
//! [`super::resting`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::resting::Resting;
use super::settings::AccountSettings;
use super::sizing::fill_of;
use super::{Answer, Context, Event, Outcome};
use crate::order::{ExecutionType, OrderType};
use crate::paper::fees;
use crate::paper::limits::cooldown;
use crate::paper::market::{Quote, Rates};
use crate::paper::order::{Order, Size};
use crate::paper::position::{FeeKind, Fill, Position};
use crate::paper::refusal::Refusal;
use crate::paper::rules::{PairRules, PaperRules, Rules2026};
use crate::rules::Era;
use crate::store::UnixMs;
use crate::trade_pair::TradePairId;

/// What a hotkey holds by the rules of 2026.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Account2026 {
    hotkey: String,
    /// Its settings.
    pub settings: AccountSettings,
    realized_pnl: f64,
    dividends: f64,
    fees_paid: f64,
    pub(super) capital_used: f64,
    pub(super) borrowed: f64,
    open: BTreeMap<TradePairId, Position>,
    closed: Vec<Position>,
    pub(super) resting: Vec<Resting>,
    /// Last fill of a pair, for the cooldown.
    last_fill_ms: BTreeMap<TradePairId, UnixMs>,
    /// Last fill of a resting order of a pair.
    pub(super) last_resting_fill_ms: BTreeMap<TradePairId, UnixMs>,
    /// Not yet handed out: those of a refused order come with the next call.
    pub(super) events: Vec<Event>,
}

/// One execution.
#[derive(Debug)]
pub(super) struct Execution<'a> {
    pub(super) uuid: &'a str,
    pub(super) pair: &'a PairRules,
    pub(super) execution: ExecutionType,
    pub(super) order_type: OrderType,
    pub(super) size: Option<Size>,
    /// Of a resting order; the market's otherwise.
    pub(super) price: Option<f64>,
    pub(super) slippage: f64,
    pub(super) enforce_cooldown: bool,
    pub(super) at_ms: UnixMs,
}

impl Account2026 {
    /// An empty account.
    pub fn new(hotkey: impl Into<String>, settings: AccountSettings) -> Self {
        Self {
            hotkey: hotkey.into(),
            settings,
            realized_pnl: 0.0,
            dividends: 0.0,
            fees_paid: 0.0,
            capital_used: 0.0,
            borrowed: 0.0,
            open: BTreeMap::new(),
            closed: Vec::new(),
            resting: Vec::new(),
            last_fill_ms: BTreeMap::new(),
            last_resting_fill_ms: BTreeMap::new(),
            events: Vec::new(),
        }
    }

    /// Whose it is.
    pub fn hotkey(&self) -> &str {
        &self.hotkey
    }

    /// Size, gains and dividends without fees, in US dollars.
    pub fn balance(&self) -> f64 {
        self.settings.account_size + self.realized_pnl + self.dividends - self.fees_paid
    }

    /// Realised gains, in US dollars.
    pub fn realized_pnl(&self) -> f64 {
        self.realized_pnl
    }

    /// All fees so far, in US dollars.
    pub fn fees_paid(&self) -> f64 {
        self.fees_paid
    }

    /// Value at entry of what is open, in US dollars. What a reduction frees is reckoned at the
    /// rate of the exit, so a rest of a few dollars can stay, also below zero.
    pub fn capital_used(&self) -> f64 {
        self.capital_used
    }

    /// Gains of the open positions at the last marks, in US dollars.
    pub fn unrealized_pnl(&self) -> f64 {
        self.open.values().map(|position| position.unrealized_pnl).sum()
    }

    /// Balance and unrealised gains, in US dollars.
    pub fn equity(&self) -> f64 {
        self.balance() + self.unrealized_pnl()
    }

    /// Equity over account size: what drawdowns are measured on.
    pub fn equity_ratio(&self) -> f64 {
        self.equity() / self.settings.account_size
    }

    /// Open positions, by pair.
    pub fn open(&self) -> impl Iterator<Item = &Position> {
        self.open.values()
    }

    /// The open position of a pair.
    pub fn position(&self, pair: &TradePairId) -> Option<&Position> {
        self.open.get(pair)
    }

    /// Closed positions, in the order of their closing.
    pub fn closed(&self) -> &[Position] {
        &self.closed
    }

    /// Orders that wait, oldest first.
    pub fn resting(&self) -> &[Resting] {
        &self.resting
    }

    /// Books a dividend, in US dollars; below zero for a short position.
    pub fn book_dividend(&mut self, usd: f64) {
        self.dividends += usd;
    }

    /// Charges hourly funding (time in ms, rate) of a perpetual, and returns it in US dollars.
    pub fn fund(&mut self, pair: &TradePairId, rates: &[(UnixMs, f64)], now_ms: UnixMs) -> f64 {
        let Some(position) = self.open.get_mut(pair) else { return 0.0 };
        let usd = fees::fund(position, rates, now_ms);
        self.fees_paid += usd;
        usd
    }

    pub(super) fn forget_closed(&mut self) {
        self.closed.clear();
    }

    /// What judging an order needs: only FLAT_ALL looks at positions of other pairs.
    pub(super) fn part_for(&self, order: &Order) -> Self {
        let open = match &order.pair {
            Some(pair) if order.execution != ExecutionType::FlatAll => {
                let position = self.open.get(pair).cloned();
                position.map(|position| (pair.clone(), position)).into_iter().collect()
            }
            _ => self.open.clone(),
        };
        Self {
            hotkey: self.hotkey.clone(),
            settings: self.settings.clone(),
            open,
            closed: Vec::new(),
            resting: self.resting.clone(),
            last_fill_ms: self.last_fill_ms.clone(),
            last_resting_fill_ms: self.last_resting_fill_ms.clone(),
            events: Vec::new(),
            ..*self
        }
    }

    pub(super) fn apply(
        &mut self,
        order: &Order,
        own: &Rules2026,
        at: Context<'_>,
    ) -> Result<Outcome, Refusal> {
        let answer = match order.execution {
            ExecutionType::Market => self.market_order(order, own, at),
            ExecutionType::FlatAll => Ok(self.flat_all(&order.uuid, own, at)),
            ExecutionType::Limit | ExecutionType::StopLimit | ExecutionType::Bracket => {
                self.place(order, own, at)
            }
            ExecutionType::LimitCancel => self.cancel(order, at.now_ms),
            ExecutionType::LimitEdit => self.edit(order, own, at),
        };
        let answer = answer?;
        Ok(Outcome { answer, events: std::mem::take(&mut self.events) })
    }

    /// The pair of an order.
    pub(super) fn pair_of<'a>(
        order: &Order,
        rules: &'a PaperRules,
    ) -> Result<&'a PairRules, Refusal> {
        let pair = order.pair.as_ref().and_then(|id| rules.pair(id));
        pair.ok_or_else(|| Refusal::UnknownPair { signal: order.python_signal() })
    }

    fn market_order(
        &mut self,
        order: &Order,
        own: &Rules2026,
        at: Context<'_>,
    ) -> Result<Answer, Refusal> {
        let pair = Self::pair_of(order, at.rules)?;
        let missing = || Refusal::BadSignal { text: "OrderType could not be validated".to_owned() };
        let order_type = order.order_type.ok_or_else(missing)?;
        let execution = Execution {
            uuid: &order.uuid,
            pair,
            execution: ExecutionType::Market,
            order_type,
            size: order.size,
            price: None,
            slippage: at.market.get(&pair.id).map_or(0.0, |quote| quote.slippage),
            enforce_cooldown: true,
            at_ms: at.now_ms,
        };
        let quote = at.market.get(&pair.id).copied();
        let Some(fill) = self.execute(&execution, quote, own, at.rules)? else {
            return Ok(Answer::NoPosition);
        };
        if self.open.contains_key(&pair.id) {
            let made = self.make_brackets(&order.uuid, pair, &order.brackets, &fill);
            if let Err(cause) = made {
                self.events.push(Event::Filled { fill });
                return Err(Refusal::FilledWithoutBracket { cause: Box::new(cause) });
            }
        }
        Ok(Answer::Filled { fill })
    }

    fn flat_all(&mut self, which: &str, own: &Rules2026, at: Context<'_>) -> Answer {
        let all = which.trim().eq_ignore_ascii_case("ALL");
        let meant: Vec<&str> = which.split(',').map(str::trim).collect();
        let wanted = |p: &&Position| all || meant.contains(&p.uuid.as_str());
        let positions: Vec<(String, TradePairId)> =
            self.open.values().filter(wanted).map(|p| (p.uuid.clone(), p.pair.clone())).collect();
        let (mut fills, mut failed) = (Vec::new(), Vec::new());
        for (uuid, id) in positions {
            let Some(pair) = at.rules.pair(&id) else { continue };
            let quote = at.market.get(&id).copied();
            let execution = Execution {
                uuid: &format!("{uuid}-flat-all"),
                pair,
                execution: ExecutionType::Market,
                order_type: OrderType::Flat,
                size: None,
                price: None,
                slippage: quote.map_or(0.0, |quote| quote.slippage),
                enforce_cooldown: false,
                at_ms: at.now_ms,
            };
            match self.execute(&execution, quote, own, at.rules) {
                Ok(fill) => fills.extend(fill),
                Err(refusal) => failed.push((uuid, refusal)),
            }
        }
        self.cancel_brackets(None);
        Answer::Flattened { fills, failed }
    }

    /// Closes everything at market and cancels what rests: what elimination does. A position
    /// without a price closes at its last fill.
    pub fn close_all(&mut self, own: &Rules2026, at: Context<'_>) -> Vec<Event> {
        for resting in std::mem::take(&mut self.resting) {
            self.events.push(Event::Cancelled { uuid: resting.order.uuid });
        }
        let open: Vec<Position> = self.open.values().cloned().collect();
        for position in open {
            let Some(pair) = at.rules.pair(&position.pair) else { continue };
            let quote = at.market.get(&pair.id).copied();
            let Some(quote) = quote.or_else(|| last_quote(&position, at.now_ms)) else { continue };
            let price = quote.fill_price(pair, OrderType::Flat, position.position_type);
            if let Some(rates) = quote.rates(pair, own, price) {
                let uuid = format!("{}-close", position.uuid);
                let fill = self.close_position(&uuid, pair, price, rates, at.now_ms, own);
                self.events.extend(fill.map(|fill| Event::Filled { fill }));
            }
        }
        std::mem::take(&mut self.events)
    }

    /// Executes an order against a quote. Nothing is a FLAT without a position.
    pub(super) fn execute(
        &mut self,
        order: &Execution<'_>,
        quote: Option<Quote>,
        own: &Rules2026,
        rules: &PaperRules,
    ) -> Result<Option<Fill>, Refusal> {
        let pair = order.pair;
        if order.enforce_cooldown {
            let last = self.last_fill_ms.get(&pair.id).copied();
            cooldown(&pair.id, last, order.at_ms, rules.cooldown_ms, Era::Y2026)?;
        }
        if !rules.hours.is_open(pair.class, &pair.source, order.at_ms) {
            return Err(Refusal::ClosedAtExecution { pair: pair.id.clone() });
        }
        let no_price = || Refusal::NoPrice { pair: pair.id.clone() };
        let quote = quote.ok_or_else(no_price)?;
        let held = self.open.get(&pair.id);
        let side = held.map_or(order.order_type, |position| position.position_type);
        let price = order.price.unwrap_or_else(|| quote.fill_price(pair, order.order_type, side));
        let rates = quote.rates(pair, own, price).ok_or_else(no_price)?;
        let full = held.is_some_and(|p| p.orders.len() >= own.max_orders_per_position);
        if full && order.order_type != OrderType::Flat {
            let uuid: String = held.map(|p| p.uuid.chars().rev().collect()).unwrap_or_default();
            let fill = self.close_position(&uuid, pair, price, rates, order.at_ms - 1, own);
            self.events.extend(fill.map(|fill| Event::Filled { fill }));
        }
        self.charge(pair, own, order.at_ms);
        let position = match self.open.remove(&pair.id) {
            Some(position) => position,
            None if order.order_type == OrderType::Flat => return Ok(None),
            None => Position::new(
                order.uuid,
                &pair.id,
                order.order_type,
                self.settings.account_size,
                order.at_ms,
            ),
        };
        let is_new = position.orders.is_empty();
        match self.judge(position.clone(), order, price, rates, own) {
            Ok((position, fill)) => Ok(Some(self.book(position, fill, pair, rates, order.at_ms))),
            Err(refusal) => {
                if !is_new {
                    self.open.insert(pair.id.clone(), position);
                }
                Err(refusal)
            }
        }
    }

    /// Closes a position without asking anything.
    fn close_position(
        &mut self,
        uuid: &str,
        pair: &PairRules,
        price: f64,
        rates: Rates,
        at_ms: UnixMs,
        own: &Rules2026,
    ) -> Option<Fill> {
        self.charge(pair, own, at_ms);
        let position = self.open.remove(&pair.id)?;
        let mut fill = fill_of(uuid, &position, OrderType::Flat, price, rates, at_ms);
        fill.quantity = -position.net_quantity;
        fill.leverage = -position.net_leverage;
        fill.value = -position.net_value;
        Some(self.book(position, fill, pair, rates, at_ms))
    }

    /// Adds a judged fill to its position and to the account.
    fn book(
        &mut self,
        mut position: Position,
        fill: Fill,
        pair: &PairRules,
        rates: Rates,
        at_ms: UnixMs,
    ) -> Fill {
        let adds = fill.order_type == position.position_type;
        let borrowed = fill.margin_loan;
        let (fill, repaid) = position.add(fill, pair, rates);
        if adds {
            self.capital_used += fill.value.abs();
            self.borrowed += borrowed;
        } else {
            self.capital_used -= fill.quantity.abs()
                * pair.lot_size
                * position.average_entry_price
                * rates.quote_usd;
            self.realized_pnl += fill.realized_pnl;
            self.borrowed -= repaid.min(self.borrowed);
        }
        self.fees_paid += fill.fee_usd;
        self.last_fill_ms.insert(pair.id.clone(), at_ms);
        if position.is_closed() {
            self.closed.push(position);
            self.cancel_brackets(Some(&pair.id));
        } else {
            self.open.insert(pair.id.clone(), position);
        }
        fill
    }

    /// Charges what time has cost the position of a pair by now.
    fn charge(&mut self, pair: &PairRules, own: &Rules2026, now_ms: UnixMs) {
        let Some(position) = self.open.get_mut(&pair.id) else { return };
        let usd = fees::accrue(position, pair, own, now_ms);
        if usd > 0.0 {
            self.fees_paid += usd;
            let kind = position.fees.last().map_or(FeeKind::Carry, |fee| fee.kind);
            self.events.push(Event::Charged { position: position.uuid.clone(), kind, usd });
        }
    }

    pub(super) fn on_price(
        &mut self,
        id: &TradePairId,
        quote: &Quote,
        rules: &PaperRules,
        own: &Rules2026,
    ) -> Vec<Event> {
        let Some(pair) = rules.pair(id) else { return Vec::new() };
        if let Some(position) = self.open.get_mut(id) {
            if let Some(rates) = quote.rates(pair, own, quote.price) {
                position.mark(pair, quote.price, rates.quote_usd);
            }
            self.charge(pair, own, quote.at_ms);
        }
        self.trigger(pair, quote, rules, own);
        std::mem::take(&mut self.events)
    }
}

/// The last price at which a position traded, as a quote.
fn last_quote(position: &Position, now_ms: UnixMs) -> Option<Quote> {
    let last = position.orders.last()?;
    Some(Quote { quote_usd: Some(last.quote_usd), ..Quote::last(last.price, now_ms) })
}
