//! Building a signal in code. Checked by the same rules as a request body.

use rust_decimal::Decimal;

use super::{Number, OrderUuid, Signal, SignalError};
use crate::json::{Json, Object};
use crate::order::{ExecutionType, OrderType, StopCondition};
use crate::rules::Rules;

/// A signal that is being put together; [`SignalBuilder::build`] checks it.
///
/// ```
/// use ptn_core::order::OrderType;
/// use ptn_core::rules::{Era, Rules};
/// use ptn_core::signal::Signal;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let rules = Rules::load(Era::Y2026)?;
/// let signal = Signal::market("BTCUSDC", OrderType::Long).leverage("0.1".parse()?).build(&rules)?;
/// assert_eq!(signal.number("leverage").unwrap().as_str(), "0.1");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct SignalBuilder(Object);

impl Signal {
    fn start(execution_type: ExecutionType, pair: Option<&str>) -> SignalBuilder {
        let mut o = Object::new();
        if let Some(pair) = pair {
            o.set("trade_pair", pair.into());
        }
        o.set("execution_type", execution_type.as_str().into());
        SignalBuilder(o)
    }

    /// An order at the market price.
    pub fn market(pair: &str, order_type: OrderType) -> SignalBuilder {
        Self::start(ExecutionType::Market, Some(pair)).order_type(order_type)
    }

    /// Closes the whole position of a pair at the market price.
    pub fn flat(pair: &str) -> SignalBuilder {
        Self::start(ExecutionType::Market, Some(pair))
            .order_type(OrderType::Flat)
            .set("leverage", Json::Number("0".to_owned()))
    }

    /// An order that rests until the market reaches `price`.
    pub fn limit(pair: &str, order_type: OrderType, price: Decimal) -> SignalBuilder {
        Self::start(ExecutionType::Limit, Some(pair)).order_type(order_type).limit_price(price)
    }

    /// A limit order that is placed once the price has reached `stop_price`.
    pub fn stop_limit(
        pair: &str,
        order_type: OrderType,
        condition: StopCondition,
        stop_price: Decimal,
        limit_price: Decimal,
    ) -> SignalBuilder {
        Self::start(ExecutionType::StopLimit, Some(pair))
            .order_type(order_type)
            .set("stop_condition", condition.as_str().into())
            .number("stop_price", stop_price)
            .limit_price(limit_price)
    }

    /// A stop loss, take profit or trailing stop for an open position.
    pub fn bracket(pair: &str) -> SignalBuilder {
        Self::start(ExecutionType::Bracket, Some(pair))
    }

    /// Cancels resting orders: uuids separated by commas, or `ALL`.
    pub fn cancel(order_uuids: &str) -> SignalBuilder {
        Self::start(ExecutionType::LimitCancel, None).set("order_uuid", order_uuids.into())
    }

    /// Closes positions: uuids separated by commas, or `ALL`.
    pub fn flat_all(position_uuids: &str) -> SignalBuilder {
        Self::start(ExecutionType::FlatAll, None).set("order_uuid", position_uuids.into())
    }
}

impl SignalBuilder {
    /// Any field by its name on the wire.
    pub fn set(mut self, field: &str, value: Json) -> Self {
        self.0.set(field, value);
        self
    }

    fn number(self, field: &str, value: Decimal) -> Self {
        let token = Number::from(value).as_str().to_owned();
        self.set(field, Json::Number(token))
    }

    /// The direction.
    pub fn order_type(self, order_type: OrderType) -> Self {
        self.set("order_type", order_type.as_str().into())
    }

    /// The trade pair, for `cancel`.
    pub fn trade_pair(self, pair: &str) -> Self {
        self.set("trade_pair", pair.into())
    }

    /// Size as a multiple of the account's balance; positive also for SHORT.
    pub fn leverage(self, leverage: Decimal) -> Self {
        self.number("leverage", leverage)
    }

    /// Size in USD; positive also for SHORT.
    pub fn value(self, usd: Decimal) -> Self {
        self.number("value", usd)
    }

    /// Size in base units (lots for forex); positive also for SHORT.
    pub fn quantity(self, units: Decimal) -> Self {
        self.number("quantity", units)
    }

    /// The price of a limit order, in the quote currency.
    pub fn limit_price(self, price: Decimal) -> Self {
        self.number("limit_price", price)
    }

    /// Closes the position when the price falls (LONG) or rises (SHORT) to this.
    pub fn stop_loss(self, price: Decimal) -> Self {
        self.number("stop_loss", price)
    }

    /// Closes the position when the price rises (LONG) or falls (SHORT) to this.
    pub fn take_profit(self, price: Decimal) -> Self {
        self.number("take_profit", price)
    }

    /// A stop that follows the price at this fraction of it, between 0 and 1.
    pub fn trailing_percent(self, fraction: Decimal) -> Self {
        let value = Json::Number(Number::from(fraction).as_str().to_owned());
        let stop = [("trailing_percent".to_owned(), value)].into_iter().collect();
        self.set("trailing_stop", Json::Object(stop))
    }

    /// The id of the order; a fresh UUIDv4 without it.
    pub fn order_uuid(self, uuid: &OrderUuid) -> Self {
        self.set("order_uuid", uuid.as_str().into())
    }

    /// The subaccount of an entity miner.
    pub fn subaccount_id(self, id: u32) -> Self {
        self.set("subaccount_id", Json::Number(id.to_string()))
    }

    /// Checks everything.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn build(mut self, rules: &Rules) -> Result<Signal, SignalError> {
        if rules.era == crate::rules::Era::Y2024 {
            self.0.remove("execution_type");
        }
        Signal::from_object(self.0, rules)
    }
}
