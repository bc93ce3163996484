//! Orders as a validator reads them from the wire, normalised. Judging them is left to the
//! accounts.

use serde::{Deserialize, Serialize};

use super::refusal::Refusal;
use crate::json::python_float;
use crate::json::{Json, Object};
use crate::order::{ExecutionType, OrderType, StopCondition};
use crate::rules::Era;
use crate::signal::{Number, Signal};
use crate::store::UnixMs;
use crate::trade_pair::TradePairId;

/// How much; negative for SHORT.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Size {
    /// Multiples of the balance (2026) or of the portfolio (2024).
    Leverage(f64),
    /// US dollars.
    Value(f64),
    /// Base units, or lots for forex.
    Quantity(f64),
}

impl Size {
    /// The number.
    pub const fn amount(self) -> f64 {
        match self {
            Self::Leverage(x) | Self::Value(x) | Self::Quantity(x) => x,
        }
    }

    /// The same unit with another number.
    #[must_use]
    pub const fn with(self, x: f64) -> Self {
        match self {
            Self::Leverage(_) => Self::Leverage(x),
            Self::Value(_) => Self::Value(x),
            Self::Quantity(_) => Self::Quantity(x),
        }
    }
}

/// How far a stop follows the best price.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trailing {
    /// A share of the best price.
    Percent(f64),
    /// In the quote currency.
    Value(f64),
}

impl Trailing {
    /// The stop below (LONG) or above (SHORT) the best price.
    pub fn stop(self, side: OrderType, best: f64) -> f64 {
        match (self, side) {
            (Self::Percent(share), OrderType::Short) => best * (1.0 + share),
            (Self::Percent(share), _) => best * (1.0 - share),
            (Self::Value(distance), OrderType::Short) => best + distance,
            (Self::Value(distance), _) => best - distance,
        }
    }
}

/// One entry of `bracket_orders`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Bracket {
    /// An existing bracket order that is meant, when editing.
    pub order_uuid: Option<String>,
    /// Closes at a loss.
    pub stop_loss: Option<f64>,
    /// Closes at a gain.
    pub take_profit: Option<f64>,
    /// A stop that follows the price.
    pub trailing: Option<Trailing>,
    /// How much of the position it closes.
    pub size: Option<Size>,
}

impl Bracket {
    /// Whether it has no price at all: a request to cancel, when editing.
    pub fn is_empty(&self) -> bool {
        self.stop_loss.is_none() && self.take_profit.is_none() && self.trailing.is_none()
    }
}

/// An order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// Its uuid, or the uuids that are meant (LIMIT_CANCEL, LIMIT_EDIT, FLAT_ALL).
    pub uuid: String,
    /// The pair.
    pub pair: Option<TradePairId>,
    /// How it is executed.
    pub execution: ExecutionType,
    /// LONG, SHORT or FLAT.
    pub order_type: Option<OrderType>,
    /// How much.
    pub size: Option<Size>,
    /// LIMIT and STOP_LIMIT.
    pub limit_price: Option<f64>,
    /// STOP_LIMIT.
    pub stop_price: Option<f64>,
    /// STOP_LIMIT.
    pub stop_condition: Option<StopCondition>,
    /// What a BRACKET does itself.
    pub bracket: Bracket,
    /// What is made after a fill.
    pub brackets: Vec<Bracket>,
}

impl Order {
    /// A market order.
    pub fn market(
        uuid: impl Into<String>,
        pair: impl Into<TradePairId>,
        order_type: OrderType,
        size: Option<Size>,
    ) -> Self {
        Self {
            pair: Some(pair.into()),
            order_type: Some(order_type),
            size: size.map(|size| signed(order_type, size)),
            ..Self::empty(uuid.into(), ExecutionType::Market)
        }
    }

    /// Closes positions: `ALL`, or a comma list of position uuids.
    pub fn flat_all(which: impl Into<String>) -> Self {
        Self::empty(which.into(), ExecutionType::FlatAll)
    }

    /// A stop loss or take profit; without a size for the whole position.
    pub fn bracket(
        uuid: impl Into<String>,
        pair: &TradePairId,
        size: Option<Size>,
        bracket: Bracket,
    ) -> Self {
        Self {
            pair: Some(pair.clone()),
            size,
            bracket,
            ..Self::empty(uuid.into(), ExecutionType::Bracket)
        }
    }

    fn empty(uuid: String, execution: ExecutionType) -> Self {
        Self {
            uuid,
            pair: None,
            execution,
            order_type: None,
            size: None,
            limit_price: None,
            stop_price: None,
            stop_condition: None,
            bracket: Bracket::default(),
            brackets: Vec::new(),
        }
    }

    /// The order that a miner's signal becomes.
    ///
    /// # Errors
    /// As [`Order::from_wire`].
    pub fn from_signal(signal: &Signal) -> Result<Self, Refusal> {
        match signal.to_wire() {
            Json::Object(body) => Self::from_wire(&body, signal.order_uuid(), signal.era()),
            _ => Err(bad("not an object")),
        }
    }

    /// Reads the signal of a request.
    ///
    /// # Errors
    /// [`Refusal::BadSignal`] and [`Refusal::SizeSign`]: a field that cannot be read.
    pub fn from_wire(body: &Object, uuid: &str, era: Era) -> Result<Self, Refusal> {
        let word = |key: &str| body.get(key).and_then(Json::as_str);
        let order_type = match word("order_type") {
            None => None,
            Some(text) => Some(OrderType::parse(text).ok_or_else(|| {
                bad(&format!(
                    "No matching order type found for value '{}'. Please check the input and try again.",
                    text.to_uppercase()
                ))
            })?),
        };
        let execution = match word("execution_type") {
            None => ExecutionType::Market,
            Some(text) => ExecutionType::parse(text)
                .ok_or_else(|| bad(&format!("Invalid execution_type: {text}")))?,
        };
        let stop_condition = match word("stop_condition") {
            None => None,
            Some(text) => Some(StopCondition::parse(text).ok_or_else(|| {
                bad(&format!("Invalid stop_condition '{text}'. Must be GTE or LTE"))
            })?),
        };
        let mut size = match era {
            // The other fields did not exist.
            Era::Y2024 => number(body, "leverage")?.map(Size::Leverage),
            _ => size(body, execution)?,
        };
        if let (Some(kind), Some(given)) = (order_type, size) {
            if kind == OrderType::Long && given.amount() < 0.0 {
                return Err(Refusal::SizeSign { field: sign_field(given, era) });
            }
            size = Some(signed(kind, given));
        }
        let bracket = Bracket {
            order_uuid: None,
            stop_loss: number(body, "stop_loss")?,
            take_profit: number(body, "take_profit")?,
            trailing: match body.get("trailing_stop") {
                Some(Json::Object(trailing)) => trailing_of(trailing)?,
                _ => None,
            },
            size: None,
        };
        let mut brackets = Vec::new();
        if let Some(Json::Array(entries)) = body.get("bracket_orders") {
            for entry in entries {
                let entry = entry.as_object().ok_or_else(|| bad("bracket_orders"))?;
                brackets.push(Bracket {
                    order_uuid: entry.get("order_uuid").and_then(Json::as_str).map(str::to_owned),
                    stop_loss: number(entry, "stop_loss")?,
                    take_profit: number(entry, "take_profit")?,
                    trailing: trailing_of(entry)?,
                    size: self::size(entry, ExecutionType::Bracket)?,
                });
            }
        }
        let mut order = Self {
            uuid: uuid.to_owned(),
            pair: pair_of(body),
            execution,
            order_type,
            size,
            limit_price: number(body, "limit_price")?,
            stop_price: number(body, "stop_price")?,
            stop_condition,
            bracket,
            brackets,
        };
        order.normalise();
        Ok(order)
    }

    /// Where the network puts a stop loss and take profit that came at the top.
    pub(crate) fn normalise(&mut self) {
        match self.execution {
            ExecutionType::Bracket if self.bracket.is_empty() && self.brackets.len() == 1 => {
                let only = self.brackets.remove(0);
                self.size = self.size.or(only.size);
                self.bracket = only;
            }
            ExecutionType::Market | ExecutionType::Limit | ExecutionType::StopLimit
                if self.brackets.is_empty() && !self.bracket.is_empty() =>
            {
                self.brackets.push(self.bracket.clone());
            }
            _ => {}
        }
    }

    /// Whether it is a FLAT or FLAT_ALL: nothing that can increase a position.
    pub fn only_closes(&self) -> bool {
        self.execution == ExecutionType::FlatAll || self.order_type == Some(OrderType::Flat)
    }

    /// The order as Python shows it, for the texts that repeat it.
    pub(crate) fn python(&self, price: f64, at_ms: UnixMs) -> String {
        let pair = self.pair.as_ref().map_or("unknown", TradePairId::as_str);
        let kind = self.order_type.map_or("None", OrderType::as_str);
        let leverage = self.size.map_or_else(|| "None".to_owned(), |s| python_float(s.amount()));
        format!(
            "{{'trade_pair': '{pair}', 'order_type': '{kind}', 'leverage': {leverage}, 'price': {}, 'processed_ms': {at_ms}, 'order_uuid': '{}'}}",
            python_float(price),
            self.uuid
        )
    }

    /// The signal as Python shows it, for the texts that repeat it.
    pub(crate) fn python_signal(&self) -> String {
        let pair = self.pair.as_ref().map_or("None".to_owned(), |p| format!("'{p}'"));
        let kind = self.order_type.map_or("None".to_owned(), |t| format!("'{t}'"));
        let size = match self.size {
            None => String::new(),
            Some(size) => format!(", '{}': {}", field(size), python_float(size.amount())),
        };
        format!(
            "{{'trade_pair': {{'trade_pair_id': {pair}}}, 'order_type': {kind}{size}, 'execution_type': '{}'}}",
            self.execution
        )
    }
}

fn bad(text: &str) -> Refusal {
    Refusal::BadSignal { text: text.to_owned() }
}

/// The sign that the network gives: LONG as it is, SHORT negative, FLAT untouched.
fn signed(kind: OrderType, size: Size) -> Size {
    match kind {
        OrderType::Short => size.with(-size.amount().abs()),
        OrderType::Long | OrderType::Flat => size,
    }
}

const fn field(size: Size) -> &'static str {
    match size {
        Size::Leverage(_) => "leverage",
        Size::Value(_) => "value",
        Size::Quantity(_) => "quantity",
    }
}

fn sign_field(size: Size, era: Era) -> String {
    if era == Era::Y2024 { "Leverage".to_owned() } else { field(size).to_owned() }
}

fn pair_of(body: &Object) -> Option<TradePairId> {
    let pair = body.get("trade_pair")?;
    let id = match pair {
        Json::Object(o) => o.get("trade_pair_id")?,
        Json::Array(items) => items.first()?,
        other => other,
    };
    id.as_str().map(TradePairId::from)
}

fn number(body: &Object, key: &str) -> Result<Option<f64>, Refusal> {
    let text = match body.get(key) {
        None | Some(Json::Null) => return Ok(None),
        Some(Json::Number(text) | Json::String(text)) => text,
        Some(_) => return Err(bad(&format!("{key} is not a number"))),
    };
    let number = Number::parse(text).map_err(|e| bad(&format!("{key}: {e}")))?;
    let value: Result<f64, _> = number.as_str().parse();
    match value {
        Ok(x) if x.is_finite() => Ok(Some(x)),
        _ => Err(bad(&format!("{key} is not a finite number"))),
    }
}

/// At most one of the three. Nobody counts them for a BRACKET; the first is taken.
fn size(body: &Object, execution: ExecutionType) -> Result<Option<Size>, Refusal> {
    let leverage = number(body, "leverage")?.map(Size::Leverage);
    let value = number(body, "value")?.map(Size::Value);
    let quantity = number(body, "quantity")?.map(Size::Quantity);
    let mut given = [leverage, value, quantity].into_iter().flatten();
    let first = given.next();
    if given.next().is_some() && execution != ExecutionType::Bracket {
        return Err(bad("Exactly one of quantity, value, or leverage must be provided."));
    }
    Ok(first)
}

fn trailing_of(body: &Object) -> Result<Option<Trailing>, Refusal> {
    let percent = number(body, "trailing_percent")?.map(Trailing::Percent);
    Ok(percent.or(number(body, "trailing_value")?.map(Trailing::Value)))
}
