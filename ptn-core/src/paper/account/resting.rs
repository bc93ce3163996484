//! Orders of 2026 that wait for a price: LIMIT, STOP_LIMIT and BRACKET with trailing stops, how
//! they are placed, edited and cancelled, and what a price does to them.

use serde::{Deserialize, Serialize};

use super::y2026::Execution;
use super::{Account2026, Answer, Context, Event};
use crate::order::{ExecutionType, OrderType, StopCondition};
use crate::paper::market::Quote;
use crate::paper::order::{Bracket, Order, Size};
use crate::paper::position::Fill;
use crate::paper::refusal::{BracketLeg, Refusal};
use crate::paper::rules::{PairRules, PaperRules, Rules2026};
use crate::store::UnixMs;
use crate::trade_pair::TradePairId;

/// An order that waits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Resting {
    /// LIMIT, STOP_LIMIT or BRACKET. A BRACKET is on the side of its position, and without a size
    /// it closes all of it.
    pub order: Order,
    /// When, in ms; older prices do not reach it.
    pub placed_ms: UnixMs,
    /// The best price so far, which a trailing stop follows.
    pub best_price: Option<f64>,
}

impl Resting {
    fn new(order: Order, placed_ms: UnixMs) -> Self {
        Self { order, placed_ms, best_price: None }
    }

    /// Whether it is a BRACKET.
    pub fn is_bracket(&self) -> bool {
        self.order.execution == ExecutionType::Bracket
    }

    fn is_for(&self, pair: &TradePairId) -> bool {
        self.order.pair.as_ref() == Some(pair)
    }

    /// The price at which a quote executes it; `side` is that of the open position.
    fn reached(&self, quote: &Quote, side: Option<OrderType>) -> Option<f64> {
        let (bid, ask) = (quote.bid_or_price(), quote.ask_or_price());
        match self.order.execution {
            ExecutionType::Limit => {
                let limit = self.order.limit_price?;
                let met = match self.order.order_type? {
                    OrderType::Long => ask <= limit,
                    OrderType::Short => bid >= limit,
                    OrderType::Flat => false,
                };
                met.then_some(limit)
            }
            ExecutionType::StopLimit => {
                let stop = self.order.stop_price?;
                let met = match self.order.stop_condition? {
                    StopCondition::Gte => quote.mid() >= stop,
                    StopCondition::Lte => quote.mid() <= stop,
                };
                met.then_some(stop)
            }
            ExecutionType::Bracket => self.bracket_reached(side?, bid, ask),
            _ => None,
        }
    }

    fn bracket_reached(&self, side: OrderType, bid: f64, ask: f64) -> Option<f64> {
        let best = self.best_price;
        let trailing = self.order.bracket.trailing.zip(best).map(|(t, best)| t.stop(side, best));
        let long = side == OrderType::Long;
        // The tighter of the two stops counts.
        let tighter = |a: f64, b: f64| if long { a.max(b) } else { a.min(b) };
        let stop = match (self.order.bracket.stop_loss, trailing) {
            (Some(fixed), Some(trailing)) => Some(tighter(fixed, trailing)),
            (one, other) => one.or(other),
        };
        let (worse, better) = if long { (bid, bid) } else { (ask, ask) };
        let stopped = stop.filter(|s| if long { worse <= *s } else { worse >= *s });
        let target = self.order.bracket.take_profit;
        let taken = target.filter(|t| if long { better >= *t } else { better <= *t });
        stopped.or(taken)
    }

    /// Follows the price with a trailing stop.
    fn follow(&mut self, quote: &Quote, side: OrderType) {
        if self.order.bracket.trailing.is_none() || quote.at_ms < self.placed_ms {
            return;
        }
        let long = side == OrderType::Long;
        let seen = if long { quote.bid_or_price() } else { quote.ask_or_price() };
        let best = self.best_price.unwrap_or(seen);
        self.best_price = Some(if long { best.max(seen) } else { best.min(seen) });
    }
}

impl Account2026 {
    /// LIMIT, STOP_LIMIT and BRACKET.
    pub(super) fn place(
        &mut self,
        order: &Order,
        own: &Rules2026,
        at: Context<'_>,
    ) -> Result<Answer, Refusal> {
        let pair = Self::pair_of(order, at.rules)?;
        let unfilled = self.resting.len();
        if unfilled >= own.max_unfilled {
            return Err(Refusal::TooManyUnfilled { unfilled, limit: own.max_unfilled });
        }
        let resting = Resting::new(order.clone(), at.now_ms);
        let quote = at.market.get(&pair.id).copied();
        self.place_one(resting, None, pair, quote, own, at.rules)
    }

    /// Validates an order and lets it rest, unless the market is there already: then it is a
    /// market order. `replaces` is the order that it is an edit of.
    fn place_one(
        &mut self,
        resting: Resting,
        replaces: Option<&str>,
        pair: &PairRules,
        quote: Option<Quote>,
        own: &Rules2026,
        rules: &PaperRules,
    ) -> Result<Answer, Refusal> {
        self.validate(&resting.order, &pair.id)?;
        if let Some(old) = replaces {
            self.resting.retain(|resting| resting.order.uuid != old);
        }
        let open = rules.hours.is_open(pair.class, &pair.source, resting.placed_ms);
        let side = self.position(&pair.id).map(|position| position.position_type);
        // A stop order never fills at once.
        let waits = resting.order.execution == ExecutionType::StopLimit || !open;
        let now = quote.filter(|q| !waits && resting.reached(q, side).is_some());
        if let Some(quote) = now {
            let at_ms = resting.placed_ms;
            let fill =
                self.execute_resting(&resting.order, None, quote, at_ms, pair, own, rules)?;
            return Ok(fill.map_or(Answer::NoPosition, |fill| Answer::Filled { fill }));
        }
        let uuid = resting.order.uuid.clone();
        self.resting.push(resting);
        Ok(Answer::Rests { uuid })
    }

    fn validate(&self, order: &Order, pair: &TradePairId) -> Result<(), Refusal> {
        let bad = |text: &str| Err(Refusal::BadSignal { text: text.to_owned() });
        let price = |execution: &str, field: &str, price: Option<f64>| {
            if price.is_some_and(|p| p > 0.0) {
                return Ok(());
            }
            let (execution, field) = (execution.to_owned(), field.to_owned());
            Err(Refusal::RestingPrice { execution, field, price })
        };
        if order.execution == ExecutionType::Bracket {
            return if self.position(pair).is_none() && !self.opens_later(pair) {
                Err(Refusal::BracketWithoutPosition { pair: pair.clone() })
            } else if order.bracket.is_empty() {
                Err(Refusal::BracketEmpty)
            } else {
                Ok(())
            };
        }
        if order.execution == ExecutionType::StopLimit {
            price("STOP_LIMIT", "stop_price", order.stop_price)?;
            if order.stop_condition.is_none() {
                return bad("stop_condition must be specified for STOP_LIMIT orders (GTE or LTE)");
            }
        }
        price("LIMIT", "limit_price", order.limit_price)?;
        match order.order_type {
            Some(OrderType::Flat) => return Err(Refusal::FlatLimit),
            None => return bad("OrderType could not be validated"),
            Some(_) if order.size.is_none() => {
                return bad("Exactly one of quantity, value, or leverage must be provided.");
            }
            Some(_) => {}
        }
        let reference = order.limit_price.unwrap_or_default();
        for (i, bracket) in order.brackets.iter().enumerate() {
            // A trailing stop is computed at the fill, so the fixed one is not looked at.
            let fixed = bracket.stop_loss.filter(|_| bracket.trailing.is_none());
            let uuid = format!("{}-bracket-{i}", order.uuid);
            let side = order.order_type.unwrap_or(OrderType::Long);
            right_side(&uuid, side, fixed, bracket.take_profit, reference)?;
        }
        Ok(())
    }

    /// Whether an order waits that may open a position.
    fn opens_later(&self, pair: &TradePairId) -> bool {
        self.resting.iter().any(|resting| resting.is_for(pair) && !resting.is_bracket())
    }

    /// What a new price does to the orders of its pair. One fill per price and interval.
    pub(super) fn trigger(
        &mut self,
        pair: &PairRules,
        quote: &Quote,
        rules: &PaperRules,
        own: &Rules2026,
    ) {
        let none = !self.resting.iter().any(|resting| resting.is_for(&pair.id));
        if none || pair.blocked || !rules.hours.is_open(pair.class, &pair.source, quote.at_ms) {
            return;
        }
        let side = self.position(&pair.id).map(|position| position.position_type);
        match side {
            Some(side) => {
                let mine = self.resting.iter_mut().filter(|resting| resting.is_for(&pair.id));
                mine.for_each(|resting| resting.follow(quote, side));
            }
            // Nothing to protect, and nothing that may come to need it.
            None if !self.opens_later(&pair.id) => self.cancel_brackets(Some(&pair.id)),
            None => {}
        }
        let last = self.last_resting_fill_ms.get(&pair.id).copied().unwrap_or(UnixMs::MIN);
        if quote.at_ms.saturating_sub(last) < own.fill_interval_ms {
            return;
        }
        let due = self.resting.iter().position(|resting| {
            resting.is_for(&pair.id)
                && quote.at_ms >= resting.placed_ms
                && resting.reached(quote, side).is_some()
        });
        let Some(at) = due else { return };
        let resting = self.resting.remove(at);
        if resting.order.execution == ExecutionType::StopLimit {
            self.stop_reached(resting.order, pair, quote, own, rules);
            return;
        }
        let price = resting.reached(quote, side);
        let order = &resting.order;
        match self.execute_resting(order, price, *quote, quote.at_ms, pair, own, rules) {
            Ok(fill) => self.events.extend(fill.map(|fill| Event::Filled { fill })),
            Err(refusal) => self.events.push(Event::Failed { uuid: resting.order.uuid, refusal }),
        }
    }

    fn stop_reached(
        &mut self,
        stop: Order,
        pair: &PairRules,
        quote: &Quote,
        own: &Rules2026,
        rules: &PaperRules,
    ) {
        let limit = format!("{}-limit", stop.uuid);
        let uuid = stop.uuid.clone();
        self.events.push(Event::StopReached { uuid, limit: limit.clone() });
        let child = Order {
            uuid: limit.clone(),
            execution: ExecutionType::Limit,
            stop_price: None,
            stop_condition: None,
            ..stop
        };
        let child = Resting::new(child, quote.at_ms);
        match self.place_one(child, None, pair, Some(*quote), own, rules) {
            Ok(Answer::Filled { fill }) => self.events.push(Event::Filled { fill }),
            Ok(_) => {}
            Err(refusal) => self.events.push(Event::Failed { uuid: limit, refusal }),
        }
    }

    /// Executes a resting order: at its own price without slippage, or as a market order with
    /// slippage and cooldown when `price` is nothing. Makes its brackets.
    #[expect(clippy::too_many_arguments, reason = "one private step of place and trigger")]
    fn execute_resting(
        &mut self,
        order: &Order,
        price: Option<f64>,
        quote: Quote,
        at_ms: UnixMs,
        pair: &PairRules,
        own: &Rules2026,
        rules: &PaperRules,
    ) -> Result<Option<Fill>, Refusal> {
        let side = self.position(&pair.id).map(|position| position.position_type);
        let (order_type, size) = if order.execution == ExecutionType::Bracket {
            // It closes its position, or a part of it.
            let amount = |size: Size| size.amount().abs();
            match (order.size, side) {
                (None, _) => (OrderType::Flat, None),
                (Some(size), Some(OrderType::Long)) => {
                    (OrderType::Short, Some(size.with(-amount(size))))
                }
                (Some(size), _) => (OrderType::Long, Some(size.with(amount(size)))),
            }
        } else {
            (order.order_type.unwrap_or(OrderType::Flat), order.size)
        };
        let execution = Execution {
            uuid: &order.uuid,
            pair,
            execution: order.execution,
            order_type,
            size,
            price,
            slippage: if price.is_some() { 0.0 } else { quote.slippage },
            enforce_cooldown: price.is_none(),
            at_ms,
        };
        let fill = self.execute(&execution, Some(quote), own, rules)?;
        if let Some(fill) = &fill {
            self.last_resting_fill_ms.insert(pair.id.clone(), at_ms);
            if self.position(&pair.id).is_some() {
                let made = self.make_brackets(&order.uuid, pair, &order.brackets, fill);
                if let Err(cause) = made {
                    // It stays filled, whatever the text says.
                    self.events.push(Event::Filled { fill: fill.clone() });
                    return Err(Refusal::FilledWithoutBracket { cause: Box::new(cause) });
                }
            }
        }
        Ok(fill)
    }

    /// Makes the bracket orders of a filled order, all or none. One without a size closes what
    /// the order filled.
    pub(super) fn make_brackets(
        &mut self,
        parent: &str,
        pair: &PairRules,
        brackets: &[Bracket],
        fill: &Fill,
    ) -> Result<(), Refusal> {
        let uuid = |i: usize| format!("{parent}-bracket-{i}");
        for (i, bracket) in brackets.iter().enumerate() {
            let (stop, target) = (bracket.stop_loss, bracket.take_profit);
            right_side(&uuid(i), fill.order_type, stop, target, fill.price)?;
        }
        for (i, bracket) in brackets.iter().enumerate() {
            self.events.push(Event::BracketMade { uuid: uuid(i) });
            let size = Some(bracket.size.unwrap_or(Size::Quantity(fill.quantity)));
            let order = Order::bracket(uuid(i), &pair.id, size, bracket.clone());
            self.resting.push(Resting {
                best_price: bracket.trailing.map(|_| fill.price),
                ..Resting::new(order, fill.at_ms)
            });
        }
        Ok(())
    }

    /// Cancels the bracket orders of a pair, or all.
    pub(super) fn cancel_brackets(&mut self, pair: Option<&TradePairId>) {
        self.cancel_where(|o| o.is_bracket() && pair.is_none_or(|pair| o.is_for(pair)));
    }

    fn cancel_where(&mut self, gone: impl Fn(&Resting) -> bool) -> usize {
        let before = self.events.len();
        for resting in self.resting.extract_if(.., |resting| gone(resting)) {
            self.events.push(Event::Cancelled { uuid: resting.order.uuid });
        }
        self.events.len() - before
    }

    /// LIMIT_CANCEL: `ALL` (of a pair, if one is given), or a comma list. A bracket order is also
    /// meant by the beginning of its uuid, which is the uuid of its parent.
    pub(super) fn cancel(&mut self, order: &Order, now_ms: UnixMs) -> Result<Answer, Refusal> {
        let all = order.uuid.trim().eq_ignore_ascii_case("ALL");
        let meant: Vec<&str> =
            order.uuid.split(',').map(str::trim).filter(|uuid| !uuid.is_empty()).collect();
        let num_cancelled = self.cancel_where(|resting| {
            if all {
                return order.pair.as_ref().is_none_or(|pair| resting.is_for(pair));
            }
            let own = &resting.order.uuid;
            let hit = |uuid: &&str| own == uuid || (resting.is_bracket() && own.starts_with(*uuid));
            meant.iter().any(hit)
        });
        if num_cancelled == 0 && !all {
            let (hotkey, uuid) = (self.hotkey().to_owned(), order.uuid.clone());
            return Err(Refusal::NothingToCancel { hotkey, uuid });
        }
        let order_uuid = order.uuid.clone();
        Ok(Answer::Cancelled { order_uuid, cancelled_ms: now_ms, num_cancelled })
    }

    /// LIMIT_EDIT: replaces the order of that uuid, or edits bracket orders in bulk.
    pub(super) fn edit(
        &mut self,
        order: &Order,
        own: &Rules2026,
        at: Context<'_>,
    ) -> Result<Answer, Refusal> {
        let pair = Self::pair_of(order, at.rules)?;
        let listed =
            order.brackets.iter().any(|b| b.order_uuid.as_deref() == Some(order.uuid.as_str()));
        let existing = self.resting.iter().find(|o| o.order.uuid == order.uuid && !listed);
        let quote = at.market.get(&pair.id).copied();
        if let Some(existing) = existing {
            if let Some(is) = existing.order.pair.clone().filter(|is| *is != pair.id) {
                let (uuid, given) = (order.uuid.clone(), pair.id.clone());
                return Err(Refusal::EditPairMismatch { uuid, is, given });
            }
            // An edit cannot change how the order is executed.
            let execution = existing.order.execution;
            let mut resubmitted = Order { execution, ..order.clone() };
            resubmitted.normalise();
            let resting = Resting::new(resubmitted, at.now_ms);
            return self.place_one(resting, Some(&order.uuid), pair, quote, own, at.rules);
        }
        if order.brackets.is_empty() {
            return Err(Refusal::NothingToEdit { uuid: order.uuid.clone() });
        }
        let (mut uuids, mut num_cancelled) = (Vec::new(), 0);
        for (i, bracket) in order.brackets.iter().enumerate() {
            let known = bracket.order_uuid.as_deref();
            let exists =
                known.is_some_and(|uuid| self.resting.iter().any(|o| o.order.uuid == uuid));
            match known {
                Some(_) if !exists => continue,
                Some(uuid) if bracket.is_empty() => {
                    num_cancelled += self.cancel_where(|o| o.order.uuid == uuid);
                    continue;
                }
                _ => {}
            }
            let made = || format!("{}-bracket-{i}", order.uuid);
            let uuid = known.map_or_else(made, str::to_owned);
            let entry = Order::bracket(uuid.clone(), &pair.id, bracket.size, bracket.clone());
            let resting = Resting::new(entry, at.now_ms);
            let answer = self.place_one(resting, known, pair, quote, own, at.rules)?;
            if matches!(answer, Answer::Rests { .. }) {
                uuids.push(uuid);
            } else if let Answer::Filled { fill } = answer {
                self.events.push(Event::Filled { fill });
            }
        }
        if uuids.is_empty() && num_cancelled == 0 && self.events.is_empty() {
            return Err(Refusal::NoBracketEdits);
        }
        Ok(Answer::Edited { uuids, num_cancelled })
    }
}

/// R24: a stop loss below and a take profit above the reference for LONG, mirrored for SHORT.
fn right_side(
    uuid: &str,
    side: OrderType,
    stop_loss: Option<f64>,
    take_profit: Option<f64>,
    reference: f64,
) -> Result<(), Refusal> {
    let short = side == OrderType::Short;
    let legs = [(BracketLeg::StopLoss, stop_loss), (BracketLeg::TakeProfit, take_profit)];
    for (leg, price) in legs {
        let Some(price) = price else { continue };
        let below = (leg == BracketLeg::StopLoss) != short;
        let right = if below { price < reference } else { price > reference };
        if !right {
            let uuid = uuid.to_owned();
            return Err(Refusal::BracketSide { uuid, side, leg, price, reference });
        }
    }
    Ok(())
}
