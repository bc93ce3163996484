//! Positions of 2024: leverage, one average price, one fee on the return.
//!
//! The arithmetic is in doubles and in the network's order of operations, because its decisions
//! hang on them: LONG 0.1, LONG 0.2, SHORT 0.3 leaves 5.6e-17 open at a validator. The network
//! replays all orders at each new one; the steps below give the same numbers one by one.

use serde::{Deserialize, Serialize};

use super::refusal::Refusal;
use crate::order::OrderType;
use crate::store::UnixMs;
use crate::trade_pair::TradePairId;

/// One order of a position, as it was stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeveragedOrder {
    /// Its uuid at this validator.
    pub uuid: String,
    /// What was sent.
    pub order_type: OrderType,
    /// Signed, after clamping. A FLAT keeps what it came with.
    pub leverage: f64,
    /// Fill price.
    pub price: f64,
    /// When, in ms.
    pub at_ms: UnixMs,
}

/// What became of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Added {
    /// Stored.
    Stored,
    /// Nothing was left of it at the leverage limit. The validator still says success, also when
    /// it was a FLAT: the position stays open.
    ClampedToZero,
    /// The position is closed. The validator still says success.
    PositionClosed,
}

/// A position.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeveragedPosition {
    /// Its uuid.
    pub uuid: String,
    /// Its pair.
    pub pair: TradePairId,
    /// When it was opened, in ms.
    pub open_ms: UnixMs,
    /// When it was closed, in ms.
    pub close_ms: Option<UnixMs>,
    /// LONG or SHORT, FLAT once it is closed; nothing before the first order.
    pub position_type: Option<OrderType>,
    /// Signed leverage. After a liquidation it stays what it was.
    pub net_leverage: f64,
    /// Weighted entry price. Reductions move it too, and it can become negative.
    pub average_entry_price: f64,
    /// Price of the first order; gains are measured against it.
    pub initial_entry_price: f64,
    /// Without fees; 1 is no gain.
    pub current_return: f64,
    /// With fees.
    pub return_at_close: f64,
    /// The highest leverage ever held; the fee goes by it.
    pub max_leverage_seen: f64,
    /// Everything that was stored.
    pub orders: Vec<LeveragedOrder>,
    max_leverage: f64,
    fee: f64,
}

impl LeveragedPosition {
    /// An empty position of a pair with this leverage limit and fee.
    pub fn new(
        uuid: impl Into<String>,
        pair: TradePairId,
        max_leverage: f64,
        fee: f64,
        open_ms: UnixMs,
    ) -> Self {
        Self {
            uuid: uuid.into(),
            pair,
            open_ms,
            close_ms: None,
            position_type: None,
            net_leverage: 0.0,
            average_entry_price: 0.0,
            initial_entry_price: 0.0,
            current_return: 1.0,
            return_at_close: 1.0,
            max_leverage_seen: 0.0,
            orders: Vec::new(),
            max_leverage,
            fee,
        }
    }

    /// Whether it is closed.
    pub fn is_closed(&self) -> bool {
        self.close_ms.is_some()
    }

    /// Adds an order; `leverage` is signed.
    ///
    /// # Errors
    /// [`Refusal::FirstOrder`]: a first order without a size or a price opens nothing.
    pub fn add(&mut self, mut order: LeveragedOrder) -> Result<Added, Refusal> {
        if self.is_closed() {
            return Ok(Added::PositionClosed);
        }
        if let Some(leverage) = self.clamped(order.leverage) {
            order.leverage = leverage;
            if leverage == 0.0 {
                return Ok(Added::ClampedToZero);
            }
        }
        let side = match self.position_type {
            Some(side) => side,
            None => self.first(&order)?,
        };
        let after = self.net_leverage + order.leverage;
        let crosses = match side {
            OrderType::Long => after <= 0.0,
            OrderType::Short => after >= 0.0,
            OrderType::Flat => false,
        };
        let closes = crosses || order.order_type == OrderType::Flat;
        let (leverage, price, at_ms) = (order.leverage, order.price, order.at_ms);
        self.orders.push(order);
        self.max_leverage_seen = self.highest_leverage();
        if closes {
            self.close(at_ms);
        }
        self.set_returns(price, at_ms);
        if self.current_return == 0.0 {
            return Ok(Added::Stored);
        }
        if closes {
            self.net_leverage = 0.0;
        } else {
            self.average_entry_price =
                (self.average_entry_price * self.net_leverage + price * leverage) / after;
            self.net_leverage = after;
        }
        Ok(Added::Stored)
    }

    /// Values the open position at a price. A loss of everything closes it.
    pub fn mark(&mut self, price: f64, at_ms: UnixMs) {
        if !self.is_closed() && !self.orders.is_empty() {
            self.set_returns(price, at_ms);
        }
    }

    fn first(&mut self, order: &LeveragedOrder) -> Result<OrderType, Refusal> {
        let refuse = |text: &str| Refusal::FirstOrder { text: text.to_owned() };
        if order.price <= 0.0 {
            return Err(refuse("Initial entry price must be > 0"));
        }
        let side = if order.leverage > 0.0 {
            OrderType::Long
        } else if order.leverage < 0.0 {
            OrderType::Short
        } else {
            return Err(refuse("leverage of 0 provided as initial order."));
        };
        self.initial_entry_price = order.price;
        self.position_type = Some(side);
        Ok(side)
    }

    /// The leverage that fits under the limit, when the order does not. This hits FLAT too.
    fn clamped(&self, leverage: f64) -> Option<f64> {
        let proposed = self.net_leverage + leverage;
        match self.position_type? {
            OrderType::Long if proposed > self.max_leverage => {
                Some(self.max_leverage - self.net_leverage)
            }
            OrderType::Short if proposed < -self.max_leverage => {
                Some(-self.max_leverage - self.net_leverage)
            }
            _ => None,
        }
    }

    fn close(&mut self, at_ms: UnixMs) {
        self.position_type = Some(OrderType::Flat);
        self.close_ms = Some(at_ms);
    }

    fn set_returns(&mut self, price: f64, at_ms: UnixMs) {
        let gain =
            (price - self.average_entry_price) * self.net_leverage / self.initial_entry_price;
        self.current_return = if gain <= -1.0 { 0.0 } else { 1.0 + gain };
        let fee = self.fee * self.max_leverage_seen;
        self.return_at_close = self.current_return * (1.0 - fee);
        if self.current_return == 0.0 {
            self.close(at_ms);
        }
    }

    /// Stops at FLAT, explicit or implicit; the size of a FLAT does not count.
    fn highest_leverage(&self) -> f64 {
        let (mut highest, mut net) = (0.0_f64, 0.0_f64);
        for order in &self.orders {
            if order.order_type == OrderType::Flat {
                break;
            }
            let before = net;
            net = (net + order.leverage).min(self.max_leverage).max(-self.max_leverage);
            if net == 0.0 || before * net < 0.0 {
                break;
            }
            highest = highest.max(net.abs());
        }
        highest
    }
}
