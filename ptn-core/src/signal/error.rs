//! Why a signal was refused: a stable code, the field, what was given and what is allowed.

use std::fmt;

use crate::error::ErrorClass;
use crate::rules::Era;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal),+ $(,)?) => {
        /// Stable code of a refusal; part of the interface.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum SignalErrorCode { $($(#[$doc])* $variant),+ }

        impl SignalErrorCode {
            /// Every code, for reference pages.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The code as text.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
    };
}

codes! {
    /// The body is not JSON.
    BodyNotJson = "body_not_json",
    /// The body is JSON but no object.
    BodyNotObject = "body_not_object",
    /// The body is empty: nothing, `null`, `{}` or `[]`.
    BodyEmpty = "body_empty",
    /// A field that this execution type needs is missing.
    MissingField = "missing_field",
    /// `trade_pair` is neither an id nor an object with one.
    BadTradePair = "bad_trade_pair",
    /// No such pair in the catalogue.
    UnknownTradePair = "unknown_trade_pair",
    /// Validators refuse this pair.
    BlockedTradePair = "blocked_trade_pair",
    /// `order_type` is not LONG, SHORT or FLAT.
    BadOrderType = "bad_order_type",
    /// `execution_type` is not one of the rule set's.
    BadExecutionType = "bad_execution_type",
    /// Not a decimal number.
    BadNumber = "bad_number",
    /// NaN or infinite.
    NonFinite = "non_finite",
    /// The size is zero or outside the pair's bounds.
    SizeOutOfRange = "size_out_of_range",
    /// A LONG order with a negative size.
    SizeSign = "size_sign",
    /// Not exactly one of leverage, value and quantity.
    SizeNotExactlyOne = "size_not_exactly_one",
    /// A price that this execution type needs is missing.
    MissingPrice = "missing_price",
    /// Prices are on the wrong side of each other, or not positive.
    PriceRelation = "price_relation",
    /// A BRACKET order or an entry of `bracket_orders` is incomplete.
    BracketInvalid = "bracket_invalid",
    /// FLAT together with LIMIT or STOP_LIMIT.
    FlatNotAllowed = "flat_not_allowed",
    /// `stop_price` or `stop_condition` of a STOP_LIMIT order.
    StopInvalid = "stop_invalid",
    /// `trailing_stop` is not exactly one valid distance.
    TrailingInvalid = "trailing_invalid",
    /// `order_uuid` is not a safe name.
    OrderUuidInvalid = "order_uuid_invalid",
}

impl fmt::Display for SignalErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How the Python tools framed a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A `ValueError` of its own.
    Value,
    /// Any other exception.
    Other,
    /// A validation error of the model; the field, where the model names one.
    Model(&'static str),
    /// The answer of its own for an unknown pair (2025).
    Bare,
}

/// A refused signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignalError {
    code: SignalErrorCode,
    field: String,
    message: String,
    legacy: Option<(Frame, String)>,
}

impl SignalError {
    pub(crate) fn new(code: SignalErrorCode, field: &str, message: impl Into<String>) -> Self {
        Self { code, field: field.to_owned(), message: message.into(), legacy: None }
    }

    /// Adds the text of the Python tools.
    pub(crate) fn legacy(mut self, frame: Frame, text: impl Into<String>) -> Self {
        self.legacy = Some((frame, text.into()));
        self
    }

    /// The stable code.
    pub fn code(&self) -> SignalErrorCode {
        self.code
    }

    /// The field in question; empty when the whole body is.
    pub fn field(&self) -> &str {
        &self.field
    }

    /// What was wrong and what is allowed.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Always [`ErrorClass::Input`].
    pub fn class(&self) -> ErrorClass {
        ErrorClass::Input
    }

    /// The text that the Python server of this rule set answered, with its frame; our own message
    /// in that frame where it had no text.
    pub fn legacy_text(&self, era: Era) -> String {
        let (frame, text) = match &self.legacy {
            Some((frame, text)) => (*frame, text.as_str()),
            None => (Frame::Value, self.message.as_str()),
        };
        let text = match (frame, era) {
            (Frame::Model(""), Era::Y2024) => {
                format!("1 validation error for Signal\n__root__\n  {text} (type=value_error)")
            }
            (Frame::Model(field), Era::Y2024) => {
                format!("1 validation error for Signal\n{field}\n  {text}")
            }
            (Frame::Model(_), Era::Y2025) => format!(
                "1 validation error for Signal\n  Value error, {text} [type=value_error, input_type=dict]"
            ),
            _ => text.to_owned(),
        };
        match (frame, era) {
            (Frame::Bare, _) => text,
            (Frame::Other, Era::Y2026) => format!("Signal validation error: {text}"),
            (_, Era::Y2026) => format!("Invalid signal data: {text}"),
            (Frame::Other, _) => format!("error storing signal on miner. {text}"),
            _ => format!("improperly formatted signal received. {text}"),
        }
    }
}

impl fmt::Display for SignalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.field, self.message)
        }
    }
}

impl std::error::Error for SignalError {}

/// A user's text for an error message: quoted, control characters escaped, cut at 80 characters.
pub(crate) fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(80).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}
