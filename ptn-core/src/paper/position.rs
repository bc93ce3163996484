//! Positions of 2026: quantities and values in US dollars, realised and unrealised gains, fees.
//!
//! Doubles in the network's order of operations, as in [`super::leveraged`]: quantities are rounded
//! to steps and cut at caps, and a decimal calculation cuts elsewhere. How much an order may be is
//! decided by [`super::account`]; carry and fees are formulas in [`super::fees`].

use serde::{Deserialize, Serialize};

use super::market::Rates;
use super::refusal::{Refusal, SizeUnit};
use super::rules::{PairRules, Rules2026};
use crate::order::{ExecutionType, OrderType};
use crate::store::UnixMs;
use crate::trade_pair::{TradePairClass, TradePairId};

/// An order as it was executed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fill {
    /// Uuid of the order.
    pub uuid: String,
    /// Uuid of the position.
    pub position: String,
    /// The pair.
    pub pair: TradePairId,
    /// What it did: FLAT when it closed the position, whatever was sent.
    pub order_type: OrderType,
    /// How it came to be executed.
    pub execution: ExecutionType,
    /// When, in ms.
    pub at_ms: UnixMs,
    /// Base units or lots, signed.
    pub quantity: f64,
    /// Multiples of the balance before the order, signed.
    pub leverage: f64,
    /// US dollars, signed.
    pub value: f64,
    /// Price before slippage.
    pub price: f64,
    /// Slippage, as a fraction.
    pub slippage: f64,
    /// Realised gain, in US dollars.
    pub realized_pnl: f64,
    /// Transaction fee, in US dollars.
    pub fee_usd: f64,
    /// The signed value to which a cap cut the order, before rounding to the step.
    pub clamped_value: Option<f64>,
    /// US dollars for one unit of the quote currency, at the fill.
    pub quote_usd: f64,
    /// What was borrowed for it, in US dollars (equities only).
    pub margin_loan: f64,
}

/// What a fee was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeeKind {
    /// An order.
    Transaction,
    /// Time, at a flat rate.
    Carry,
    /// Hourly funding of a perpetual.
    Funding,
    /// Borrowed shares of a short position.
    Borrow,
    /// A margin loan.
    Interest,
}

/// A fee, always above zero.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Fee {
    /// What for.
    pub kind: FeeKind,
    /// US dollars.
    pub usd: f64,
    /// Until when it is paid, in ms.
    pub at_ms: UnixMs,
}

/// A position.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Its uuid: that of the order which opened it.
    pub uuid: String,
    /// Its pair.
    pub pair: TradePairId,
    /// LONG or SHORT; FLAT once it is closed.
    pub position_type: OrderType,
    /// When it was opened, in ms.
    pub open_ms: UnixMs,
    /// When it was closed, in ms.
    pub close_ms: Option<UnixMs>,
    /// Size of the account when it was opened, in US dollars; returns are relative to it.
    pub account_size: f64,
    /// Base units or lots, signed.
    pub net_quantity: f64,
    /// Sum of the orders' leverages.
    pub net_leverage: f64,
    /// US dollars at the last fill, signed.
    pub net_value: f64,
    /// Average entry price with slippage; reductions do not move it.
    pub average_entry_price: f64,
    /// US dollars.
    pub realized_pnl: f64,
    /// US dollars at the last mark. Right after an increase it is still that of the quantity
    /// before.
    pub unrealized_pnl: f64,
    /// Without fees; 1 is no gain, 0 the loss of the account.
    pub current_return: f64,
    /// Every fill.
    pub orders: Vec<Fill>,
    /// Every fee.
    pub fees: Vec<Fee>,
}

impl Position {
    pub(crate) fn new(
        uuid: &str,
        pair: &TradePairId,
        side: OrderType,
        account_size: f64,
        open_ms: UnixMs,
    ) -> Self {
        Self {
            uuid: uuid.to_owned(),
            pair: pair.clone(),
            position_type: side,
            open_ms,
            close_ms: None,
            account_size,
            net_quantity: 0.0,
            net_leverage: 0.0,
            net_value: 0.0,
            average_entry_price: 0.0,
            realized_pnl: 0.0,
            unrealized_pnl: 0.0,
            current_return: 1.0,
            orders: Vec::new(),
            fees: Vec::new(),
        }
    }

    /// Whether it is closed.
    pub fn is_closed(&self) -> bool {
        self.close_ms.is_some()
    }

    /// What it has cost so far, in US dollars.
    pub fn total_fees(&self) -> f64 {
        self.fees.iter().map(|fee| fee.usd).sum()
    }

    /// What carry is paid on, in US dollars. For a short position a gain raises it: the network
    /// adds the gain to the value at the last fill, whatever the side.
    pub fn market_value(&self) -> f64 {
        self.net_value.abs() + self.unrealized_pnl
    }

    /// What was borrowed for it and is not repaid, in US dollars.
    pub fn margin_loan(&self) -> f64 {
        self.orders.iter().map(|order| order.margin_loan).sum()
    }

    /// Until when fees of a kind are paid, in ms.
    pub fn paid_until(&self, kind: FeeKind) -> UnixMs {
        let last = self.fees.iter().rev().find(|fee| fee.kind == kind);
        last.map_or(self.open_ms, |fee| fee.at_ms)
    }

    /// Values the open position at a price.
    pub(crate) fn mark(&mut self, pair: &PairRules, price: f64, quote_usd: f64) {
        if self.is_closed() {
            return;
        }
        let gain = (price - self.average_entry_price) * (self.net_quantity * pair.lot_size);
        self.unrealized_pnl = gain * quote_usd;
        self.set_return();
    }

    /// Value left after an order of `value`, as the network reckons it. For a short position the
    /// gain has the wrong sign.
    fn value_left(&self, value: f64) -> f64 {
        let sign = if self.position_type == OrderType::Long { 1.0 } else { -1.0 };
        self.net_value + sign * self.unrealized_pnl + value
    }

    /// Whether an order closes the whole position: FLAT, or opposite with hardly anything left.
    pub(crate) fn would_close(
        &self,
        order_type: OrderType,
        quantity: f64,
        value: f64,
        rules: &Rules2026,
    ) -> bool {
        if order_type == OrderType::Flat {
            return true;
        }
        if order_type == self.position_type {
            return false;
        }
        let left = self.net_quantity + quantity;
        let value_left = self.value_left(value);
        let limit = &rules.effective_close;
        if self.position_type == OrderType::Long {
            left <= limit.quantity || value_left <= limit.usd
        } else {
            left >= -limit.quantity || value_left >= -limit.usd
        }
    }

    /// R22.
    pub(crate) fn check_minimum(
        &self,
        order_type: OrderType,
        quantity: f64,
        value: f64,
        pair: &PairRules,
        rules: &Rules2026,
    ) -> Result<(), Refusal> {
        if order_type == OrderType::Flat {
            return Ok(());
        }
        let min = &rules.min_position;
        let left = (self.net_quantity + quantity).abs();
        let (unit, size, minimum) = match pair.class {
            TradePairClass::Forex if rules.is_small(self.account_size) => {
                (SizeUnit::Lots, left, min.forex_lots_small_account)
            }
            TradePairClass::Forex => (SizeUnit::Lots, left, min.forex_lots),
            TradePairClass::Equities => (SizeUnit::Shares, left, min.equities_shares),
            TradePairClass::Crypto => (SizeUnit::Usd, self.value_left(value).abs(), min.crypto_usd),
            TradePairClass::Indices | TradePairClass::Commodities => {
                (SizeUnit::Usd, self.value_left(value).abs(), min.default_usd)
            }
        };
        if size > 0.0 && size < minimum {
            return Err(Refusal::BelowMinimum { pair: pair.id.clone(), unit, size, minimum });
        }
        Ok(())
    }

    /// Adds a fill that was judged, and completes it with gain and fee. Returns what a loan was
    /// repaid, in US dollars.
    pub(crate) fn add(&mut self, mut fill: Fill, pair: &PairRules, rates: Rates) -> (Fill, f64) {
        let side = self.position_type;
        let reduces = fill.order_type != side;
        let crosses = match side {
            OrderType::Long => self.net_quantity + fill.quantity <= 0.0,
            OrderType::Short => self.net_quantity + fill.quantity >= 0.0,
            OrderType::Flat => true,
        };
        let closes = crosses || fill.order_type == OrderType::Flat;
        let slipped = if fill.leverage > 0.0 {
            fill.price * (1.0 + fill.slippage)
        } else {
            fill.price * (1.0 - fill.slippage)
        };
        if reduces {
            let gain = -(slipped - self.average_entry_price) * (fill.quantity * pair.lot_size);
            fill.realized_pnl = gain * rates.quote_usd;
            self.realized_pnl += fill.realized_pnl;
        }
        let after = self.net_quantity + fill.quantity;
        let held = if after.abs() < self.net_quantity.abs() { after } else { self.net_quantity };
        let gain = (fill.price - self.average_entry_price) * (held * pair.lot_size);
        self.unrealized_pnl = if closes { 0.0 } else { gain * rates.quote_usd };
        self.set_return();
        if closes {
            self.position_type = OrderType::Flat;
            self.close_ms = Some(fill.at_ms);
            self.net_quantity = 0.0;
            self.net_leverage = 0.0;
            self.net_value = 0.0;
        } else {
            if !reduces {
                self.average_entry_price = (self.average_entry_price * self.net_quantity
                    + slipped * fill.quantity)
                    / after;
            }
            self.net_quantity = after;
            self.net_value = fill.price * rates.quote_usd * self.net_quantity * pair.lot_size;
            self.net_leverage += fill.leverage;
        }
        let mut repaid = 0.0;
        let rate = pair.transaction_fee_rate;
        let fee = if reduces {
            let exit =
                fill.quantity.abs() * pair.lot_size * self.average_entry_price * rates.quote_usd
                    + fill.realized_pnl;
            repaid = self.margin_loan().min(exit.max(0.0));
            fill.margin_loan = -repaid;
            exit * rate
        } else {
            fill.value.abs() * rate
        };
        // A short position that lost more than its entry value has an exit value below zero.
        fill.fee_usd = fee.max(0.0);
        self.pay(FeeKind::Transaction, fill.fee_usd, fill.at_ms);
        self.orders.push(fill.clone());
        (fill, repaid)
    }

    /// Records a fee; nothing when it is not above zero.
    pub(crate) fn pay(&mut self, kind: FeeKind, usd: f64, at_ms: UnixMs) {
        if usd > 0.0 {
            self.fees.push(Fee { kind, usd, at_ms });
        }
    }

    fn set_return(&mut self) {
        let gain = (self.realized_pnl + self.unrealized_pnl) / self.account_size;
        self.current_return = if gain <= -1.0 { 0.0 } else { 1.0 + gain };
    }
}
