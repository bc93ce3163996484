//! An account of 2024: market orders with leverage, one position per pair.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Answer, Context, Event, Outcome};
use crate::order::OrderType;
use crate::paper::leveraged::{LeveragedOrder, LeveragedPosition};
use crate::paper::limits::cooldown;
use crate::paper::market::Quote;
use crate::paper::order::{Order, Size};
use crate::paper::refusal::Refusal;
use crate::paper::rules::{PairRules, Rules2024};
use crate::rules::Era;
use crate::trade_pair::TradePairId;

/// What a hotkey holds by the rules of 2024.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Account2024 {
    hotkey: String,
    open: BTreeMap<TradePairId, LeveragedPosition>,
    closed: Vec<LeveragedPosition>,
}

impl Account2024 {
    /// An empty account.
    pub fn new(hotkey: impl Into<String>) -> Self {
        Self { hotkey: hotkey.into(), ..Self::default() }
    }

    /// Whose it is.
    pub fn hotkey(&self) -> &str {
        &self.hotkey
    }

    /// Open positions, by pair.
    pub fn open(&self) -> impl Iterator<Item = &LeveragedPosition> {
        self.open.values()
    }

    /// Closed positions, in the order of their closing.
    pub fn closed(&self) -> &[LeveragedPosition] {
        &self.closed
    }

    /// The product of all returns with fees.
    pub fn total_return(&self) -> f64 {
        let all = self.closed.iter().chain(self.open.values());
        all.map(|position| position.return_at_close).product()
    }

    pub(super) fn forget_closed(&mut self) {
        self.closed.clear();
    }

    pub(super) fn open_part(&self) -> Self {
        Self { hotkey: self.hotkey.clone(), open: self.open.clone(), closed: Vec::new() }
    }

    pub(super) fn apply(
        &mut self,
        order: &Order,
        own: &Rules2024,
        at: Context<'_>,
    ) -> Result<Outcome, Refusal> {
        let id = order.pair.clone();
        let Some(pair) = id.as_ref().and_then(|id| at.rules.pair(id)) else {
            let (hotkey, signal) = (self.hotkey.clone(), order.python_signal());
            return Err(Refusal::UnknownPair2024 { hotkey, signal });
        };
        let price = fresh_price(pair, own, at)?;
        if own.halted_classes.contains(&pair.class) {
            return Err(Refusal::CategoryHalted { pair: pair.id.clone() });
        }
        let (order_type, leverage) = sizes(order, pair)?;
        let stored: usize = self.open.values().map(|p| p.orders.len()).sum();
        if stored >= own.max_open_orders && order_type != OrderType::Flat {
            let order = order.python(price, at.now_ms);
            return Err(Refusal::TooManyOrders { order, positions: self.open.len() });
        }
        if order_type == OrderType::Flat && !self.open.contains_key(&pair.id) {
            return Err(Refusal::NoPosition { hotkey: self.hotkey.clone() });
        }
        if let Some(last) = self.open.get(&pair.id).and_then(|p| p.orders.last()) {
            let wait = at.rules.cooldown_ms;
            cooldown(&pair.id, Some(last.at_ms), at.now_ms, wait, Era::Y2024)?;
        }
        let fresh = || {
            LeveragedPosition::new(
                order.uuid.clone(),
                pair.id.clone(),
                pair.max_leverage,
                pair.fee,
                at.now_ms,
            )
        };
        let mut position = self.open.remove(&pair.id).unwrap_or_else(fresh);
        let result = position.add(LeveragedOrder {
            uuid: order.uuid.clone(),
            order_type,
            leverage,
            price,
            at_ms: at.now_ms,
        });
        let uuid = position.uuid.clone();
        self.keep(position);
        Ok(Outcome {
            answer: Answer::Leveraged { position: uuid, added: result? },
            events: Vec::new(),
        })
    }

    pub(super) fn on_price(&mut self, pair: &TradePairId, quote: &Quote) -> Vec<Event> {
        let Some(mut position) = self.open.remove(pair) else { return Vec::new() };
        position.mark(quote.price, quote.at_ms);
        let lost = position.is_closed().then(|| position.uuid.clone());
        self.keep(position);
        lost.into_iter().map(|position| Event::Liquidated { position }).collect()
    }

    /// Closes every open position at these prices: what elimination does.
    pub fn close_all(&mut self, at: Context<'_>) {
        for (id, mut position) in std::mem::take(&mut self.open) {
            let last = position.orders.last().map(|order| order.price);
            let price = at.market.get(&id).map(|quote| quote.price).or(last);
            let flat = LeveragedOrder {
                uuid: format!("{}-close", position.uuid),
                order_type: OrderType::Flat,
                leverage: 0.0,
                price: price.unwrap_or(position.initial_entry_price),
                at_ms: at.now_ms,
            };
            // A position with orders takes a FLAT without a size, always.
            drop(position.add(flat));
            self.keep(position);
        }
    }

    /// Puts a position where it belongs; one without orders is none.
    fn keep(&mut self, position: LeveragedPosition) {
        if position.is_closed() {
            self.closed.push(position);
        } else if !position.orders.is_empty() {
            self.open.insert(position.pair.clone(), position);
        }
    }
}

/// R3: a pair without a recent price has a closed market.
fn fresh_price(pair: &PairRules, own: &Rules2024, at: Context<'_>) -> Result<f64, Refusal> {
    let quote = at.market.get(&pair.id);
    let fresh = quote.filter(|quote| at.now_ms - quote.at_ms <= own.stale_after_ms);
    fresh.map(|quote| quote.price).ok_or_else(|| Refusal::NoFreshPrice { pair: pair.id.clone() })
}

/// The validator reads the signal again: leverage in its range, SHORT negative.
fn sizes(order: &Order, pair: &PairRules) -> Result<(OrderType, f64), Refusal> {
    let bad = |text: &str| Refusal::BadSignal { text: text.to_owned() };
    let order_type = order.order_type.ok_or_else(|| bad("'order_type'"))?;
    let leverage = match order.size {
        Some(Size::Leverage(leverage)) => leverage,
        _ => return Err(bad("'leverage'")),
    };
    let allowed = pair.min_leverage..=pair.max_leverage;
    if order_type != OrderType::Flat && !allowed.contains(&leverage.abs()) {
        let (min, max) = pair.bounds_text.clone();
        return Err(Refusal::LeverageRange { min, max, given: leverage });
    }
    Ok((order_type, leverage))
}
