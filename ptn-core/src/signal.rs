//! `Signal`: what a firm wants done, validated and normalised, with nothing lost of what it said.
//!
//! Built by hand ([`Signal::market`] and friends) or read from a request body or spool file of any
//! era ([`Signal::from_json`]). Fields that this crate does not know pass through untouched, and
//! numbers keep the digits that were written. No I/O and no clock; keeping a signal safe is left to
//! [`crate::store`], sending it to [`crate::deliver`].

mod builder;
mod error;
pub mod number;
mod parse;
pub mod uuid;
mod validate;

pub use builder::SignalBuilder;
pub use error::{SignalError, SignalErrorCode};
pub use number::Number;
use sha2::{Digest, Sha256};
pub use uuid::OrderUuid;

use crate::json::{Json, Object, quote};
use crate::order::{ExecutionType, OrderType, StopCondition};
use crate::rules::{Era, Rules};
use crate::trade_pair::TradePairId;

/// A validated trading signal.
///
/// Equality compares everything, also the id; [`Signal::digest`] compares what is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    id: OrderUuid,
    id_given: bool,
    order_uuid: String,
    era: Era,
    subaccount_id: Option<i64>,
    body: Object,
}

impl Signal {
    /// Reads a request body (`POST /api/submit-order`, `/api/receive-signal`) or the content of a
    /// spool file, by the rules of the given set. An `api_key` in it is dropped.
    ///
    /// # Errors
    /// The first rule that is broken, with field, value and what is allowed.
    pub fn from_json(bytes: &[u8], rules: &Rules) -> Result<Self, SignalError> {
        parse::from_bytes(bytes, rules)
    }

    /// As [`Signal::from_json`], of a value that was already read.
    ///
    /// # Errors
    /// As [`Signal::from_json`].
    pub fn from_object(object: Object, rules: &Rules) -> Result<Self, SignalError> {
        parse::from_object(object, rules)
    }

    /// The unique id of this signal: file name in the spool, key in every store.
    pub fn id(&self) -> &OrderUuid {
        &self.id
    }

    /// Whether the sender chose the id. Otherwise it is fresh and random, and cannot repeat.
    pub fn id_was_given(&self) -> bool {
        self.id_given
    }

    /// The same signal under another id: an `Idempotency-Key`, or the name of a spool file. For an
    /// order this is its order uuid too; a signal that targets other orders keeps its targets.
    #[must_use]
    pub fn with_id(mut self, id: OrderUuid) -> Self {
        // A uuid of our own making names no other order.
        let made = !self.id_given && self.order_uuid == self.id.as_str();
        if !self.execution_type().targets_other_orders() || self.order_uuid.is_empty() || made {
            self.order_uuid = id.as_str().to_owned();
        }
        self.id = id;
        self.id_given = true;
        self
    }

    /// `miner_order_uuid` on the wire: the network-wide id of the order, or for `LIMIT_CANCEL`,
    /// `LIMIT_EDIT` and `FLAT_ALL` the uuids that are meant (`ALL`, or a comma list).
    pub fn order_uuid(&self) -> &str {
        &self.order_uuid
    }

    /// The rule set by which it was read; decides how it looks on the wire.
    pub fn era(&self) -> Era {
        self.era
    }

    /// The pair; `None` for `FLAT_ALL` and for cancelling everywhere.
    pub fn trade_pair(&self) -> Option<TradePairId> {
        let pair = self.body.get("trade_pair")?;
        let id = pair.as_object().map_or(Some(pair), |o| o.get("trade_pair_id"))?;
        id.as_str().map(TradePairId::from)
    }

    /// The pair in whose queue it stands. `None` for what touches every pair and so may neither be
    /// overtaken nor overtake: `FLAT_ALL` and cancelling `ALL`, whatever pair they name, and
    /// signals without a pair.
    pub fn queue(&self) -> Option<TradePairId> {
        let everywhere = match self.execution_type() {
            ExecutionType::FlatAll => true,
            ExecutionType::LimitCancel => self.order_uuid.eq_ignore_ascii_case("ALL"),
            _ => false,
        };
        if everywhere { None } else { self.trade_pair() }
    }

    /// How the order is executed.
    pub fn execution_type(&self) -> ExecutionType {
        if self.era == Era::Y2024 {
            // There was but one; a field of that name is an unknown one.
            return ExecutionType::Market;
        }
        self.word("execution_type").and_then(ExecutionType::parse).unwrap_or(ExecutionType::Market)
    }

    /// LONG, SHORT or FLAT; `None` where the execution type needs none.
    pub fn order_type(&self) -> Option<OrderType> {
        self.word("order_type").and_then(OrderType::parse)
    }

    /// On which side of the stop price a STOP_LIMIT order is triggered.
    pub fn stop_condition(&self) -> Option<StopCondition> {
        self.word("stop_condition").and_then(StopCondition::parse)
    }

    /// A number by its field name: `leverage` (multiples of the balance), `value` (USD),
    /// `quantity` (base units or lots), `limit_price`, `stop_loss`, `take_profit`, `stop_price`.
    /// A SHORT's size is negative.
    pub fn number(&self, field: &str) -> Option<Number> {
        match self.body.get(field)? {
            Json::Number(token) => Number::parse(token).ok(),
            _ => None,
        }
    }

    /// The subaccount of an entity miner.
    pub fn subaccount_id(&self) -> Option<i64> {
        self.subaccount_id
    }

    /// The normalised fields in the order in which they go on the wire, unknown ones last.
    pub fn body(&self) -> &Object {
        &self.body
    }

    /// Whether it closes or cancels and never increases a position: such signals do not expire and
    /// go first when a validator's budget is short.
    pub fn only_reduces(&self) -> bool {
        match self.execution_type() {
            ExecutionType::LimitCancel | ExecutionType::FlatAll => true,
            ExecutionType::LimitEdit => false,
            _ => self.order_type() == Some(OrderType::Flat),
        }
    }

    /// Whether a validator that was sent it twice acts once, provided that it recognises order
    /// uuids. Cancelling and closing twice is closing once; but an edit may carry any uuid again,
    /// so a bracket that it creates would be created twice.
    pub fn may_repeat(&self) -> bool {
        if self.execution_type() != ExecutionType::LimitEdit {
            return true;
        }
        let Some(Json::Array(entries)) = self.body.get("bracket_orders") else { return true };
        entries.iter().all(|entry| {
            entry.as_object().and_then(|o| o.get("order_uuid")).is_some_and(|id| *id != Json::Null)
        })
    }

    /// What goes on the wire under `signal`.
    pub fn to_wire(&self) -> Json {
        let mut body = self.body.clone();
        if self.era == Era::Y2024 && self.order_type() == Some(OrderType::Flat) {
            // A validator of 2024 clamps a FLAT that carries a size at the leverage limit to
            // nothing and ignores it, with a success answer. Without a size it always closes.
            body.set("leverage", Json::Number("0.0".to_owned()));
        }
        Json::Object(body)
    }

    /// The fields that the network reads, flat: what `send --check` shows. The pair stands as
    /// `trade_pair_id`; the id and unknown fields are left out.
    pub fn normalised(&self) -> Json {
        let mut o = Object::new();
        if let Some(pair) = self.trade_pair() {
            o.set("trade_pair_id", pair.as_str().into());
        }
        let first = ["order_type", "execution_type"];
        let last = ["stop_condition", "trailing_stop", "bracket_orders"];
        let fields = first.iter().chain(&parse::SIZES).chain(&parse::PRICES).chain(&last);
        let known = |field: &&&str| match self.era {
            Era::Y2024 => ["order_type", "leverage"].contains(*field),
            Era::Y2025 => !["stop_price", "stop_condition", "trailing_stop"].contains(*field),
            Era::Y2026 => true,
        };
        for field in fields.filter(known) {
            if let Some(value) = self.body.get(field) {
                o.set(*field, value.clone());
            }
        }
        Json::Object(o)
    }

    /// SHA-256 over everything that was asked for, without the id: the same signal again has the
    /// same digest.
    pub fn digest(&self) -> [u8; 32] {
        self.digest_of(&self.body_text())
    }

    fn body_text(&self) -> String {
        let mut text = String::with_capacity(256);
        self.body.compact(&mut text);
        text
    }

    fn digest_of(&self, body: &str) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.era.as_str());
        hash.update([0]);
        if self.execution_type().targets_other_orders() {
            hash.update(&self.order_uuid);
        }
        hash.update([0]);
        hash.update(self.subaccount_id.map(|id| id.to_string()).unwrap_or_default());
        hash.update([0]);
        hash.update(body);
        hash.finalize().into()
    }

    /// One JSON text that holds everything; [`Signal::from_stored`] reads it back.
    pub fn to_stored(&self) -> String {
        self.stored_with(&self.body_text())
    }

    /// [`Signal::to_stored`] and [`Signal::digest`] from one serialisation.
    pub(crate) fn stored_and_digest(&self) -> (String, [u8; 32]) {
        let body = self.body_text();
        (self.stored_with(&body), self.digest_of(&body))
    }

    /// What has its usual value is left out: there is one such text in memory and in the journal
    /// for every signal that waits.
    fn stored_with(&self, body: &str) -> String {
        let mut out = String::with_capacity(body.len() + 128);
        out.push_str("{\"id\":");
        quote(&mut out, self.id.as_str(), false);
        if !self.id_given {
            out.push_str(",\"id_given\":false");
        }
        if self.order_uuid != self.id.as_str() {
            out.push_str(",\"order_uuid\":");
            quote(&mut out, &self.order_uuid, false);
        }
        out.push_str(",\"rules\":");
        quote(&mut out, self.era.as_str(), false);
        if let Some(id) = self.subaccount_id {
            out.push_str(",\"subaccount_id\":");
            out.push_str(&id.to_string());
        }
        out.push_str(",\"body\":");
        out.push_str(body);
        out.push('}');
        out
    }

    /// Reads [`Signal::to_stored`] back, without judging it again.
    ///
    /// # Errors
    /// When the text is damaged.
    pub fn from_stored(text: &str) -> Result<Self, SignalError> {
        let damaged = |what: &str| {
            SignalError::new(SignalErrorCode::BodyNotJson, "", format!("stored signal: {what}"))
        };
        let Json::Object(mut o) =
            Json::parse(text.as_bytes()).map_err(|e| damaged(&e.to_string()))?
        else {
            return Err(damaged("not an object"));
        };
        let text_of = |o: &Object, key: &str| {
            o.get(key).and_then(Json::as_str).map(str::to_owned).ok_or_else(|| damaged(key))
        };
        let subaccount_id = match o.get("subaccount_id") {
            Some(Json::Number(token)) => token.parse().ok(),
            _ => None,
        };
        let id = OrderUuid::parse(&text_of(&o, "id")?).map_err(|e| damaged(&e.to_string()))?;
        let order_uuid = match o.get("order_uuid") {
            None => id.as_str().to_owned(),
            Some(_) => text_of(&o, "order_uuid")?,
        };
        Ok(Self {
            id,
            id_given: o.get("id_given") != Some(&Json::Bool(false)),
            order_uuid,
            era: Era::parse(&text_of(&o, "rules")?).ok_or_else(|| damaged("rules"))?,
            subaccount_id,
            body: match o.remove("body") {
                Some(Json::Object(body)) => body,
                _ => return Err(damaged("body")),
            },
        })
    }

    fn word(&self, field: &str) -> Option<&str> {
        self.body.get(field).and_then(Json::as_str)
    }
}
