//! The body of a push of prices over HTTP (`POST /api/prices`): bytes in, [`Tick`]s out.
//!
//! A body is one JSON object, an array of them, or one after the other with line ends between:
//!
//! ```text
//! {"trade_pair": "BTCUSDC", "price": "100000.5", "bid": 100000.4, "ask": 100000.6, "time_ms": 1780000000000}
//! ```
//!
//! `trade_pair` and `price` must be there. Numbers may be JSON numbers or strings. Without `time_ms` a
//! price is of the time at which it is received. Other fields are refused, because a misspelt one would
//! change what the price means. Sockets, keys and statuses are left to the servers, what becomes of the prices to
//! [`super::pushed`].
//!
//! What must stay true: a body is taken whole or not at all, and nothing of it is kept beyond the limits.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::value::RawValue;

use super::{LONGEST_PAIR, MAX_MS, Tick, is_pair};
use crate::store::UnixMs;
use crate::trade_pair::TradePairId;

const FIELDS: &str = "trade_pair, price, bid, ask, time_ms";
const PRICE: &str = "a number above 0";
const TIME: &str = "ms since 1970, a whole number";

/// What a body may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PushLimits {
    /// Length of a body in bytes.
    pub most_bytes: usize,
    /// Prices in a body.
    pub most_rows: usize,
    /// By how much the sender's clock may be ahead of ours, in ms.
    pub most_ahead_ms: UnixMs,
    /// The pairs that are taken; any without a set.
    pub pairs: Option<BTreeSet<TradePairId>>,
}

impl Default for PushLimits {
    fn default() -> Self {
        Self { most_bytes: 1024 * 1024, most_rows: 10_000, most_ahead_ms: 5_000, pairs: None }
    }
}

impl PushLimits {
    /// The default limits for these pairs.
    pub fn for_pairs(pairs: impl IntoIterator<Item = TradePairId>) -> Self {
        Self { pairs: Some(pairs.into_iter().collect()), ..Self::default() }
    }
}

/// Why a body was refused. Rows count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// Too long.
    #[error("the body has {bytes} bytes, {most} are allowed; push fewer prices at a time")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// What is allowed.
        most: usize,
    },
    /// Too many prices.
    #[error("the body has more than {most} prices; push fewer at a time")]
    TooManyRows {
        /// What is allowed.
        most: usize,
    },
    /// No price.
    #[error("the body has no price; write {{\"trade_pair\":\"BTCUSDC\",\"price\":100000.5}}")]
    Empty,
    /// Not JSON.
    #[error("row {row}: not a JSON object: {reason}")]
    Json {
        /// Where, as far as it could be read.
        row: usize,
        /// What the parser said.
        reason: String,
    },
    /// A field that must be there.
    #[error("row {row}, {field}: missing; write {allowed}")]
    Missing {
        /// Where.
        row: usize,
        /// The field.
        field: &'static str,
        /// What would be right.
        allowed: &'static str,
    },
    /// A field that nobody knows.
    #[error("row {row}, {field:?}: no such field; there are {FIELDS}")]
    UnknownField {
        /// Where.
        row: usize,
        /// Its name.
        field: String,
    },
    /// A value.
    #[error("row {row}, {field}: {value} is not allowed; write {allowed}")]
    Field {
        /// Where.
        row: usize,
        /// The field.
        field: &'static str,
        /// What stands there.
        value: String,
        /// What would be right.
        allowed: &'static str,
    },
    /// A pair that is not taken here.
    #[error(
        "row {row}, trade_pair: {pair:?} is none of the pairs that are traded here; ids are case-sensitive, such as BTCUSDC"
    )]
    UnknownPair {
        /// Where.
        row: usize,
        /// The pair.
        pair: String,
    },
    /// A time that has not come.
    #[error(
        "row {row}, time_ms: {at_ms} is {ahead_ms} ms ahead of this clock, {most_ms} are allowed; set the clock or leave time_ms out"
    )]
    Ahead {
        /// Where.
        row: usize,
        /// Its time.
        at_ms: UnixMs,
        /// By how much.
        ahead_ms: UnixMs,
        /// What is allowed.
        most_ms: UnixMs,
    },
    /// A book that crosses itself.
    #[error("row {row}, ask: {ask} is below the bid {bid}; correct one of them")]
    Crossed {
        /// Where.
        row: usize,
        /// The bid, as it was written.
        bid: String,
        /// The ask, as it was written.
        ask: String,
    },
}

impl PushError {
    /// A stable name.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "prices_too_large",
            Self::TooManyRows { .. } => "prices_too_many",
            Self::Empty => "prices_empty",
            Self::Json { .. } => "prices_json",
            Self::Missing { .. } => "prices_missing",
            Self::UnknownField { .. } => "prices_unknown_field",
            Self::Field { .. } => "prices_field",
            Self::UnknownPair { .. } => "prices_unknown_pair",
            Self::Ahead { .. } => "prices_ahead",
            Self::Crossed { .. } => "prices_crossed",
        }
    }

    /// Whether the body is too large, rather than wrong: 413 rather than 400.
    pub const fn is_too_large(&self) -> bool {
        matches!(self, Self::TooLarge { .. } | Self::TooManyRows { .. })
    }
}

/// Reads a body that was received at `now_ms`.
///
/// ```
/// use ptn_core::paper::prices::push::{PushLimits, read};
///
/// let body = br#"{"trade_pair":"BTCUSDC","price":"100000.5"}"#;
/// let ticks = read(body, 1_780_000_000_000, &PushLimits::default())?;
/// assert_eq!(ticks.len(), 1);
///
/// let wrong = br#"[{"trade_pair":"BTCUSDC","price":1},{"trade_pair":"ETHUSDC","price":-1}]"#;
/// let error = read(wrong, 1_780_000_000_000, &PushLimits::default()).unwrap_err();
/// assert_eq!(error.to_string(), "row 2, price: -1 is not allowed; write a number above 0");
/// # Ok::<(), ptn_core::paper::prices::push::PushError>(())
/// ```
///
/// # Errors
/// When anything in it is wrong, or it is too large; nothing is taken then.
pub fn read(body: &[u8], now_ms: UnixMs, limits: &PushLimits) -> Result<Vec<Tick>, PushError> {
    let (bytes, most) = (body.len(), limits.most_bytes);
    if bytes > most {
        return Err(PushError::TooLarge { bytes, most });
    }
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii();
    let rows = rows(body, limits.most_rows)?;
    let rows = rows.into_iter().enumerate();
    rows.map(|(n, row)| Row::new(n + 1, row)?.tick(now_ms, limits)).collect()
}

fn rows(body: &[u8], most: usize) -> Result<Vec<&RawValue>, PushError> {
    let bad = |row: usize, e: &serde_json::Error| PushError::Json { row, reason: e.to_string() };
    let rows = if body.starts_with(b"[") {
        serde_json::from_slice::<Vec<&RawValue>>(body).map_err(|e| bad(1, &e))?
    } else {
        let mut rows = Vec::new();
        for row in serde_json::Deserializer::from_slice(body).into_iter::<&RawValue>() {
            rows.push(row.map_err(|e| bad(rows.len() + 1, &e))?);
            if rows.len() > most {
                break;
            }
        }
        rows
    };
    match rows.len() {
        0 => Err(PushError::Empty),
        n if n > most => Err(PushError::TooManyRows { most }),
        _ => Ok(rows),
    }
}

/// One object and its place.
struct Row<'a> {
    row: usize,
    fields: BTreeMap<String, &'a RawValue>,
}

impl<'a> Row<'a> {
    fn new(row: usize, text: &'a RawValue) -> Result<Self, PushError> {
        let fields = serde_json::from_str::<BTreeMap<String, &RawValue>>(text.get());
        let fields = fields.map_err(|e| PushError::Json { row, reason: e.to_string() })?;
        let known = |name: &str| FIELDS.split(", ").any(|field| field == name);
        match fields.keys().find(|name| !known(name)) {
            Some(name) => Err(PushError::UnknownField { row, field: short(name) }),
            None => Ok(Self { row, fields }),
        }
    }

    /// The token of a field that is there and not null.
    fn token(&self, field: &str) -> Option<&'a str> {
        self.fields.get(field).map(|raw| raw.get()).filter(|token| *token != "null")
    }

    fn wrong(&self, field: &'static str, allowed: &'static str) -> PushError {
        let value = short(self.token(field).unwrap_or_default());
        PushError::Field { row: self.row, field, value, allowed }
    }

    /// A number or a string that holds one.
    fn number<T: std::str::FromStr>(
        &self,
        field: &'static str,
        allowed: &'static str,
    ) -> Result<Option<T>, PushError> {
        let Some(token) = self.token(field) else { return Ok(None) };
        let inside = token.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let number = inside.unwrap_or(token).parse();
        number.map(Some).map_err(|_| self.wrong(field, allowed))
    }

    fn price(&self, field: &'static str) -> Result<Option<f64>, PushError> {
        match self.number::<f64>(field, PRICE)? {
            Some(price) if !price.is_finite() || price <= 0.0 => Err(self.wrong(field, PRICE)),
            price => Ok(price),
        }
    }

    fn pair(&self, limits: &PushLimits) -> Result<TradePairId, PushError> {
        const ALLOWED: &str = "the id of a pair, such as \"BTCUSDC\"";
        let (row, field) = (self.row, "trade_pair");
        let token = self.token(field);
        let token = token.ok_or(PushError::Missing { row, field, allowed: ALLOWED })?;
        let text = serde_json::from_str::<String>(token).ok().filter(|text| is_pair(text));
        let pair = TradePairId::from(text.ok_or_else(|| self.wrong(field, ALLOWED))?);
        match &limits.pairs {
            Some(pairs) if !pairs.contains(&pair) => {
                Err(PushError::UnknownPair { row, pair: pair.into() })
            }
            _ => Ok(pair),
        }
    }

    fn tick(&self, now_ms: UnixMs, limits: &PushLimits) -> Result<Tick, PushError> {
        let row = self.row;
        let pair = self.pair(limits)?;
        let price = self.price("price")?;
        let price = price.ok_or(PushError::Missing { row, field: "price", allowed: PRICE })?;
        let (bid, ask) = (self.price("bid")?, self.price("ask")?);
        if bid.zip(ask).is_some_and(|(bid, ask)| bid > ask) {
            let text = |field| short(self.token(field).unwrap_or_default());
            return Err(PushError::Crossed { row, bid: text("bid"), ask: text("ask") });
        }
        let at_ms = self.number::<UnixMs>("time_ms", TIME)?.unwrap_or(now_ms);
        if !(0..=MAX_MS).contains(&at_ms) {
            return Err(self.wrong("time_ms", TIME));
        }
        let (ahead_ms, most_ms) = (at_ms.saturating_sub(now_ms), limits.most_ahead_ms);
        if ahead_ms > most_ms {
            return Err(PushError::Ahead { row, at_ms, ahead_ms, most_ms });
        }
        Ok(Tick { at_ms, pair, price, bid, ask })
    }
}

/// No more of a value than an error text needs, and nothing that moves a terminal's cursor.
fn short(text: &str) -> String {
    text.chars().take(LONGEST_PAIR).filter(|c| !c.is_control()).collect()
}
