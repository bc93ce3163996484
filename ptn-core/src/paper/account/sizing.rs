//! How much of an order of 2026 is executed: sizes to quantities, steps, closes, caps, minimum.

use super::Account2026;
use super::y2026::Execution;
use crate::json::python_float;
use crate::order::{ExecutionType, OrderType};
use crate::paper::market::Rates;
use crate::paper::order::Size;
use crate::paper::position::{Fill, Position};
use crate::paper::refusal::Refusal;
use crate::paper::rules::{PairRules, Rules2026};
use crate::store::UnixMs;
use crate::trade_pair::TradePairClass;

impl Account2026 {
    /// Sizes an order against a position: close, clamp, minimum.
    pub(super) fn judge(
        &self,
        mut position: Position,
        order: &Execution<'_>,
        price: f64,
        rates: Rates,
        own: &Rules2026,
    ) -> Result<(Position, Fill), Refusal> {
        let pair = order.pair;
        let balance = self.balance();
        let step = own.step(pair.class, own.is_small(self.settings.account_size));
        let mut order_type = order.order_type;
        let flat = order_type == OrderType::Flat;
        let size = if flat { Some(Size::Quantity(-position.net_quantity)) } else { order.size };
        let quantity = match size {
            Some(Size::Leverage(x)) => x * balance * rates.usd_base / pair.lot_size,
            Some(Size::Value(x)) => x * rates.usd_base / pair.lot_size,
            Some(Size::Quantity(x)) => x,
            None => {
                let text = "Exactly one of 'leverage', 'value', or 'quantity' must be set";
                return Err(Refusal::BadSignal { text: text.to_owned() });
            }
        };
        let value_of = |quantity: f64| quantity * pair.lot_size / rates.usd_base;
        let mut quantity = if flat { quantity } else { (quantity / step).round_ties_even() * step };
        let mut value = value_of(quantity);
        let mut leverage = value / balance;
        position.mark(pair, price, rates.quote_usd);
        if position.would_close(order_type, quantity, value, own) {
            // An explicit FLAT is valued at the new price, an implicit one at the last fill.
            if !flat {
                value = -position.net_value;
            }
            (quantity, leverage) = (-position.net_quantity, -position.net_leverage);
            order_type = OrderType::Flat;
        }
        let mut clamped_value = None;
        if order_type == position.position_type {
            let room = self.room(&position, pair, own)?;
            if value.abs() > room {
                let clamped = room.copysign(value);
                clamped_value = Some(clamped);
                quantity = (clamped * rates.usd_base / pair.lot_size / step).trunc() * step;
                value = value_of(quantity);
                leverage = value / balance;
            }
        }
        if value.abs() < own.smallest_order || quantity.abs() < own.smallest_order {
            return Err(Refusal::ZeroSize);
        }
        position.check_minimum(order_type, quantity, value, pair, own)?;
        let mut fill = fill_of(order.uuid, &position, order_type, price, rates, order.at_ms);
        fill.execution = order.execution;
        fill.slippage = order.slippage;
        (fill.quantity, fill.value, fill.clamped_value) = (quantity, value, clamped_value);
        fill.leverage = if leverage.is_finite() { leverage } else { 0.0 };
        fill.margin_loan = self.margin_loan(pair, &position, &fill, own);
        Ok((position, fill))
    }

    /// How much may still be added to a position, in US dollars, or R20.
    fn room(&self, position: &Position, pair: &PairRules, own: &Rules2026) -> Result<f64, Refusal> {
        let (positional, portfolio) = self.settings.caps(pair, own);
        let balance = self.balance();
        let multiplier = portfolio.unwrap_or(own.multiplier_without_cap);
        let label = |what: &str, x: f64| format!("{what} cap {}x", python_float(x));
        let by_pair = positional.map(|cap| (balance * cap, label("per pair", cap)));
        let by_all = portfolio
            .map(|cap| (balance * cap - self.capital_used, label("overall portfolio", cap)));
        let tightest = match (by_pair, by_all) {
            (Some(pair), Some(all)) => Some(if all.0 < pair.0 { all } else { pair }),
            (one, other) => one.or(other),
        };
        let Some((cap_usd, cap)) = tightest else { return Ok(f64::INFINITY) };
        let room =
            (cap_usd - position.net_value.abs()) / (1.0 + pair.transaction_fee_rate * multiplier);
        if room > 0.0 {
            Ok(room)
        } else {
            Err(Refusal::NoBuyingPower { pair: pair.id.clone(), cap })
        }
    }

    /// What a long order of equities borrows beyond the cash.
    fn margin_loan(
        &self,
        pair: &PairRules,
        position: &Position,
        fill: &Fill,
        own: &Rules2026,
    ) -> f64 {
        let buys_shares = pair.is_native()
            && pair.class == TradePairClass::Equities
            && position.position_type == OrderType::Long
            && fill.order_type == OrderType::Long;
        let cash = self.balance() - (self.capital_used - self.borrowed);
        if buys_shares && fill.value.abs() > cash {
            fill.value.abs() * own.margin_loan_share
        } else {
            0.0
        }
    }
}

/// A fill of nothing, to be completed.
pub(super) fn fill_of(
    uuid: &str,
    position: &Position,
    order_type: OrderType,
    price: f64,
    rates: Rates,
    at_ms: UnixMs,
) -> Fill {
    Fill {
        uuid: uuid.to_owned(),
        position: position.uuid.clone(),
        pair: position.pair.clone(),
        order_type,
        execution: ExecutionType::Market,
        at_ms,
        quantity: 0.0,
        leverage: 0.0,
        value: 0.0,
        price,
        slippage: 0.0,
        realized_pnl: 0.0,
        fee_usd: 0.0,
        clamped_value: None,
        quote_usd: rates.quote_usd,
        margin_loan: 0.0,
    }
}
