//! Request bodies and spool files of all eras to a [`Signal`]: lenient in what it reads.
//!
//! The order of the checks is that of the network's own servers, because users meet the first
//! error. Rules between fields are in [`super::validate`].

use super::error::{Frame, shown};
use super::number::{BadNumber, Number};
use super::uuid::OrderUuid;
use super::{Signal, SignalError, SignalErrorCode as Code, validate};
use crate::json::{Json, Object, python_float};
use crate::order::{ExecutionType, OrderType};
use crate::rules::{Era, Rules, UnknownPairs};

/// The three ways to give a size.
pub(super) const SIZES: [&str; 3] = ["leverage", "value", "quantity"];
/// Prices, in the order in which the network reads them.
pub(super) const PRICES: [&str; 4] = ["limit_price", "stop_loss", "take_profit", "stop_price"];

/// Those that the rule set knows; another one is an unknown field.
fn prices(era: Era) -> &'static [&'static str] {
    let [known @ .., _] = &PRICES;
    if era == Era::Y2025 { known } else { &PRICES }
}

/// Everything that was read, before the rules between fields are applied.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) era: Era,
    pub(super) order_type: Option<OrderType>,
    pub(super) execution_type: ExecutionType,
    pub(super) numbers: Vec<(&'static str, Number)>,
    pub(super) stop_condition: Option<Json>,
    pub(super) trailing_stop: Option<Json>,
    pub(super) bracket_orders: Option<Json>,
}

impl Draft {
    pub(super) fn number(&self, field: &str) -> Option<&Number> {
        self.numbers.iter().find(|(name, _)| *name == field).map(|(_, n)| n)
    }
}

pub(super) fn from_bytes(bytes: &[u8], rules: &Rules) -> Result<Signal, SignalError> {
    let json = Json::parse(bytes)
        .map_err(|e| SignalError::new(Code::BodyNotJson, "", format!("not JSON: {e}")))?;
    match json {
        Json::Object(object) => from_object(object, rules),
        Json::Null => Err(empty()),
        Json::Array(items) if items.is_empty() => Err(empty()),
        other => Err(SignalError::new(
            Code::BodyNotObject,
            "",
            format!("one JSON object is expected, not a {}", other.python_type()),
        )),
    }
}

fn empty() -> SignalError {
    SignalError::new(Code::BodyEmpty, "", "the body holds no signal: one JSON object is expected")
        .legacy(Frame::Bare, "Invalid message")
}

pub(super) fn from_object(mut object: Object, rules: &Rules) -> Result<Signal, SignalError> {
    if object.is_empty() {
        return Err(empty());
    }
    // The key never becomes part of a signal, and old flags have no meaning any more.
    object.remove("api_key");
    object.remove("verbose");
    let order_uuid = object.remove("order_uuid");
    let subaccount_id = subaccount(object.remove("subaccount_id"))?;
    let mut pair = object.remove("trade_pair");

    let mut draft = match rules.era {
        Era::Y2024 => {
            let id = pair_id(pair.as_ref(), rules.era)?;
            let leverage =
                required(&object, "leverage").and_then(|v| number_2024("leverage", v))?;
            let order_type = order_type(required(&object, "order_type")?, rules.era)?;
            let draft = Draft {
                era: rules.era,
                order_type: Some(order_type),
                execution_type: ExecutionType::Market,
                numbers: Vec::new(),
                stop_condition: None,
                trailing_stop: None,
                bracket_orders: None,
            };
            known_pair(id, rules, Some(order_type), ExecutionType::Market)?;
            let leverage = validate::leverage_2024(leverage, order_type, id, &rules.catalogue)?;
            Draft { numbers: vec![("leverage", leverage)], ..draft }
        }
        Era::Y2025 | Era::Y2026 => {
            if rules.era == Era::Y2025 {
                let id = pair_id(pair.as_ref(), rules.era)?;
                known_pair(id, rules, None, ExecutionType::Market)?;
                required(&object, "order_type")?;
            }
            let order_type =
                object.get("order_type").map(|v| order_type(v, rules.era)).transpose()?;
            let mut numbers = Vec::new();
            for field in SIZES {
                if let Some(value) = object.get(field) {
                    numbers.push((field, number(field, value, rules.era)?));
                }
            }
            let execution_type = execution_type(object.get("execution_type"), rules.era)?;
            for field in prices(rules.era) {
                if let Some(value) = object.get(field) {
                    numbers.push((*field, number(field, value, rules.era)?));
                }
            }
            let not_null = |v: Option<&Json>| v.filter(|v| **v != Json::Null).cloned();
            // Before 2026 these are unknown fields, which change nothing.
            let stops = (rules.era == Era::Y2026).then_some(&object);
            Draft {
                era: rules.era,
                order_type,
                execution_type,
                numbers,
                stop_condition: not_null(stops.and_then(|o| o.get("stop_condition"))),
                trailing_stop: not_null(stops.and_then(|o| o.get("trailing_stop"))),
                bracket_orders: not_null(object.get("bracket_orders")),
            }
        }
    };
    if rules.era != Era::Y2024 {
        validate::rules_between_fields(&mut draft)?;
    }
    if rules.era == Era::Y2026 {
        if pair == Some(Json::Null) {
            pair = None;
        }
        let optional =
            matches!(draft.execution_type, ExecutionType::LimitCancel | ExecutionType::FlatAll);
        if pair.is_some() || !optional {
            let id = pair_id(pair.as_ref(), rules.era)?;
            known_pair(id, rules, draft.order_type, draft.execution_type)?;
        }
    }
    let (id, id_given, order_uuid) = ids(order_uuid, draft.execution_type)?;
    let body = body(draft, pair.as_ref(), object, rules)?;
    Ok(Signal { id, id_given, order_uuid, era: rules.era, subaccount_id, body })
}

/// The normalised fields in wire order, then whatever else was given.
fn body(
    draft: Draft,
    pair: Option<&Json>,
    mut rest: Object,
    rules: &Rules,
) -> Result<Object, SignalError> {
    let mut body = Object::new();
    if let Some(pair) = pair {
        let id = pair_id(Some(pair), rules.era)?;
        let described = match (rules.era, rules.catalogue.get(id)) {
            (Era::Y2024, Some(known)) => known.to_legacy_json(),
            _ => Json::Object([("trade_pair_id".to_owned(), id.into())].into_iter().collect()),
        };
        body.set("trade_pair", described);
    }
    if let Some(order_type) = draft.order_type {
        body.set("order_type", order_type.as_str().into());
    }
    let number = |n: &Number| Json::Number(n.as_str().to_owned());
    for (field, value) in draft.numbers.iter().filter(|(f, _)| SIZES.contains(f)) {
        body.set(*field, number(value));
    }
    if rules.era != Era::Y2024 {
        body.set("execution_type", draft.execution_type.as_str().into());
    }
    for (field, value) in draft.numbers.iter().filter(|(f, _)| PRICES.contains(f)) {
        body.set(*field, number(value));
    }
    for (field, value) in [
        ("stop_condition", draft.stop_condition),
        ("trailing_stop", draft.trailing_stop),
        ("bracket_orders", draft.bracket_orders),
    ] {
        if let Some(value) = value {
            body.set(field, value);
        }
    }
    let known: &[&str] = match rules.era {
        Era::Y2024 => &["leverage", "order_type"],
        Era::Y2025 => &["order_type", "execution_type", "bracket_orders"],
        Era::Y2026 => {
            &["order_type", "execution_type", "stop_condition", "trailing_stop", "bracket_orders"]
        }
    };
    let numbers: &[&[&str]] =
        if rules.era == Era::Y2024 { &[] } else { &[&SIZES, prices(rules.era)] };
    for field in known.iter().chain(numbers.iter().copied().flatten()) {
        rest.remove(field);
    }
    body.add_missing(rest);
    finite(&body, "")?;
    Ok(body)
}

/// A field's name in an error is cut here: it may be of the caller's making.
const LONGEST_PATH: usize = 100;

/// Nothing that is not JSON may reach the wire.
fn finite(object: &Object, path: &str) -> Result<(), SignalError> {
    fn value(json: &Json, path: &dyn Fn() -> String) -> Result<(), SignalError> {
        match json {
            // Also what is beyond every double, which Python reads as infinite.
            Json::Number(token)
                if token.contains(['N', 'I']) || token.parse().is_ok_and(f64::is_infinite) =>
            {
                let field = crate::text::printable(&path(), LONGEST_PATH);
                Err(SignalError::new(Code::NonFinite, &field, format!("{token} is not finite")))
            }
            Json::Array(items) if !items.is_empty() => {
                let path = path();
                let mut items = items.iter().enumerate();
                items.try_for_each(|(i, item)| value(item, &|| format!("{path}[{i}]")))
            }
            Json::Object(object) => finite(object, &path()),
            _ => Ok(()),
        }
    }
    // The path is written only where it is needed.
    object.iter().try_for_each(|(key, v)| {
        value(v, &|| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") })
    })
}

fn required<'a>(object: &'a Object, field: &str) -> Result<&'a Json, SignalError> {
    object.get(field).ok_or_else(|| missing(field))
}

pub(super) fn missing(field: &str) -> SignalError {
    let what = match field {
        "order_type" => format!("is missing; allowed: {}", OrderType::allowed()),
        "trade_pair" => "is missing; give the id of a trade pair, such as \"BTCUSDC\"".to_owned(),
        "order_uuid" => {
            "is missing; give the uuids that are meant, separated by commas, or \"ALL\"".to_owned()
        }
        _ => "is missing".to_owned(),
    };
    SignalError::new(Code::MissingField, field, what).legacy(Frame::Other, format!("'{field}'"))
}

fn subaccount(value: Option<Json>) -> Result<Option<i64>, SignalError> {
    match value {
        None | Some(Json::Null) => Ok(None),
        Some(Json::Number(token)) if token.parse::<i64>().is_ok() => Ok(token.parse().ok()),
        Some(other) => Err(SignalError::new(
            Code::BadNumber,
            "subaccount_id",
            format!("{} is not a whole number", shown(&other.to_string())),
        )),
    }
}

fn ids(
    value: Option<Json>,
    execution_type: ExecutionType,
) -> Result<(OrderUuid, bool, String), SignalError> {
    let bad = |e: super::uuid::BadOrderUuid, text: &str| {
        let given = format!("{} is not allowed: {e}", shown(text));
        SignalError::new(Code::OrderUuidInvalid, "order_uuid", given)
    };
    let text = match value {
        None | Some(Json::Null) => None,
        Some(Json::String(text)) => Some(text),
        Some(other) => return Err(bad(super::uuid::BadOrderUuid, &other.to_string())),
    };
    match text {
        None if matches!(execution_type, ExecutionType::LimitCancel | ExecutionType::FlatAll) => {
            Err(missing("order_uuid"))
        }
        None => {
            let id = OrderUuid::random();
            let text = id.as_str().to_owned();
            Ok((id, false, text))
        }
        Some(text) if execution_type.targets_other_orders() => {
            for one in text.split(',') {
                OrderUuid::parse(one.trim()).map_err(|e| bad(e, &text))?;
            }
            if text.len() > 256 {
                let what = "is longer than the 256 characters that the network allows";
                return Err(SignalError::new(Code::OrderUuidInvalid, "order_uuid", what));
            }
            Ok((OrderUuid::random(), false, text))
        }
        Some(text) => {
            let id = OrderUuid::parse(&text).map_err(|e| bad(e, &text))?;
            Ok((id, true, text))
        }
    }
}

fn order_type(value: &Json, era: Era) -> Result<OrderType, SignalError> {
    let error = |given: &str| {
        let hint = match given.to_ascii_lowercase().as_str() {
            "buy" | "sell" => {
                "; a TradingView strategy sends the position with {{strategy.market_position}}"
            }
            t if t.contains("{{") => {
                "; the placeholder was not replaced: the alert must belong to a strategy"
            }
            _ => "",
        };
        let allowed = OrderType::allowed();
        let text = format!("{} is not an order type; allowed: {allowed}{hint}", shown(given));
        SignalError::new(Code::BadOrderType, "order_type", text)
    };
    let no_match = |shown: &str| {
        format!(
            "No matching order type found for value '{shown}'. Please check the input and try again."
        )
    };
    match value {
        Json::String(text) => OrderType::parse(text).ok_or_else(|| {
            let upper = if era == Era::Y2024 { text.clone() } else { text.to_uppercase() };
            error(text).legacy(Frame::Value, no_match(&upper))
        }),
        other if era == Era::Y2024 => Err(match python_scalar(other) {
            Some(text) => error(&other.to_string()).legacy(Frame::Value, no_match(&text)),
            None => error(&other.to_string()).legacy(Frame::Other, unhashable(other)),
        }),
        other => Err(error(&other.to_string()).legacy(
            Frame::Other,
            format!("'{}' object has no attribute 'upper'", other.python_type()),
        )),
    }
}

/// As Python prints it; nothing for a list or an object.
fn python_scalar(value: &Json) -> Option<String> {
    Some(match value {
        Json::Null => "None".to_owned(),
        Json::Bool(true) => "True".to_owned(),
        Json::Bool(false) => "False".to_owned(),
        Json::Number(token) if value.python_type() == "float" => {
            python_float(token.parse().unwrap_or(f64::NAN))
        }
        Json::Number(token) if token == "-0" => "0".to_owned(),
        Json::Number(text) | Json::String(text) => text.clone(),
        Json::Array(_) | Json::Object(_) => return None,
    })
}

/// What Python says when a list or an object is looked up by.
fn unhashable(value: &Json) -> String {
    format!("unhashable type: '{}'", value.python_type())
}

fn execution_type(value: Option<&Json>, era: Era) -> Result<ExecutionType, SignalError> {
    // In the order in which the network's own texts name them.
    let known: &[ExecutionType] = match era {
        Era::Y2026 => &[
            ExecutionType::Market,
            ExecutionType::Limit,
            ExecutionType::LimitCancel,
            ExecutionType::LimitEdit,
            ExecutionType::Bracket,
            ExecutionType::StopLimit,
            ExecutionType::FlatAll,
        ],
        _ => &[
            ExecutionType::Market,
            ExecutionType::Limit,
            ExecutionType::LimitCancel,
            ExecutionType::Bracket,
        ],
    };
    let allowed = || known.iter().map(|e| e.as_str()).collect::<Vec<_>>().join(", ");
    let error = |given: &str| {
        let text =
            format!("{} is not an execution type of {era}; allowed: {}", shown(given), allowed());
        SignalError::new(Code::BadExecutionType, "execution_type", text)
    };
    match value {
        None => Ok(ExecutionType::Market),
        Some(Json::String(text)) => {
            ExecutionType::parse(text).filter(|e| known.contains(e)).ok_or_else(|| {
                error(text).legacy(
                    Frame::Value,
                    format!(
                        "No matching execution type found for value '{}'. Valid values are: {}",
                        text.to_uppercase(),
                        allowed()
                    ),
                )
            })
        }
        Some(other) => Err(error(&other.to_string()).legacy(
            Frame::Other,
            format!("'{}' object has no attribute 'upper'", other.python_type()),
        )),
    }
}

/// Before 2026 the network's number parser also took the digits of other scripts.
fn ascii_digits(text: &str, era: Era) -> String {
    if era == Era::Y2026 || text.is_ascii() {
        return text.to_owned();
    }
    text.chars()
        .map(|c| match c {
            '\u{ff10}'..='\u{ff19}' => {
                char::from_u32(u32::from(c) - 0xff10 + u32::from(b'0')).unwrap_or(c)
            }
            c => c,
        })
        .collect()
}

pub(super) fn number(field: &str, value: &Json, era: Era) -> Result<Number, SignalError> {
    let (text, from_text) = match value {
        Json::Number(token) => (token.clone(), false),
        Json::String(text) => (ascii_digits(text, era), true),
        other => {
            let given = shown(&other.to_string());
            let error = SignalError::new(
                Code::BadNumber,
                field,
                format!("{given} is not a decimal number such as 0.25"),
            );
            return Err(error.legacy(
                Frame::Other,
                format!(
                    "float() argument must be a string or a real number, not '{}'",
                    other.python_type()
                ),
            ));
        }
    };
    let whole = !from_text && value.python_type() == "int";
    Number::parse(&text).map_err(|bad| {
        let given = shown(&text);
        match bad {
            BadNumber::NonFinite if whole => {
                SignalError::new(Code::BadNumber, field, format!("{given} is too large"))
                    .legacy(Frame::Other, "int too large to convert to float")
            }
            BadNumber::Syntax => SignalError::new(
                Code::BadNumber,
                field,
                format!("{given} is not a decimal number such as 0.25"),
            )
            .legacy(Frame::Value, format!("could not convert string to float: '{text}'")),
            BadNumber::TooLarge if from_text => {
                SignalError::new(Code::NonFinite, field, format!("{given} is too large"))
            }
            BadNumber::TooLarge => {
                SignalError::new(Code::BadNumber, field, format!("{given} is too large"))
                    .legacy(Frame::Other, "int too large to convert to float")
            }
            BadNumber::NonFinite => SignalError::new(
                Code::NonFinite,
                field,
                format!("{given} is not finite; a decimal number is expected"),
            ),
        }
    })
}

/// A size of 2024: whether infinity is wrong as such or only out of range depends on the order
/// type, which is read later. With the error comes what Python's `float()` made of it.
fn number_2024(
    field: &str,
    value: &Json,
) -> Result<Result<Number, (SignalError, f64)>, SignalError> {
    match number(field, value, Era::Y2024) {
        Err(e) if e.code() == Code::NonFinite => {
            let text = python_scalar(value).unwrap_or_default();
            Ok(Err((e, text.trim().parse().unwrap_or(f64::NAN))))
        }
        Err(e) => Err(e),
        Ok(n) => Ok(Ok(n)),
    }
}

/// The id in a `trade_pair` of any form.
fn pair_id(pair: Option<&Json>, era: Era) -> Result<&str, SignalError> {
    let bad = |what: String, legacy: String| {
        SignalError::new(Code::BadTradePair, "trade_pair", what).legacy(Frame::Other, legacy)
    };
    let forms = "an id such as \"BTCUSDC\", or an object with trade_pair_id, is expected";
    // An id that is no text: the servers before 2026 looked it up all the same.
    let strange = |id: &Json| match (era, id) {
        (Era::Y2026, Json::Null) => missing("trade_pair"),
        (Era::Y2026, _) => {
            bad(format!("has {id} as its trade_pair_id; {forms}"), "trade_pair".to_owned())
        }
        (_, Json::Array(_) | Json::Object(_)) => {
            bad(format!("has no text as its trade_pair_id; {forms}"), unhashable(id))
        }
        _ => unknown_pair(&id.to_string(), era, ""),
    };
    match pair {
        None => Err(missing("trade_pair")),
        Some(Json::Null) if era == Era::Y2026 => Err(missing("trade_pair")),
        Some(Json::String(id)) => Ok(id),
        Some(Json::Object(object)) => match object.get("trade_pair_id") {
            Some(Json::String(id)) => Ok(id),
            Some(id) => Err(strange(id)),
            None => {
                Err(bad(format!("has no trade_pair_id; {forms}"), "'trade_pair_id'".to_owned()))
            }
        },
        Some(Json::Array(items)) if era == Era::Y2026 => match items.first() {
            Some(Json::String(id)) => Ok(id),
            Some(id) => Err(strange(id)),
            None => Err(bad(format!("is a list without an id; {forms}"), "trade_pair".to_owned())),
        },
        Some(other) => Err(bad(
            format!("is a {}; {forms}", other.python_type()),
            "trade_pair must be a string or a dict".to_owned(),
        )),
    }
}

fn unknown_pair(id: &str, era: Era, meant: &str) -> SignalError {
    let text = format!("{} is not in the catalogue of {era}{meant}", shown(id));
    let error = SignalError::new(Code::UnknownTradePair, "trade_pair", text);
    match era {
        Era::Y2024 => error.legacy(
            Frame::Model("trade_pair"),
            "none is not an allowed value (type=type_error.none.not_allowed)",
        ),
        _ => error.legacy(Frame::Bare, "Invalid trade pair"),
    }
}

/// No network has longer ids, and databases have an index on them.
const LONGEST_PAIR: usize = 64;

/// Whether the rule set's miner lets a pair through.
fn known_pair(
    id: &str,
    rules: &Rules,
    order_type: Option<OrderType>,
    execution_type: ExecutionType,
) -> Result<(), SignalError> {
    let Some(pair) = rules.catalogue.get(id) else {
        if rules.unknown_pairs == UnknownPairs::Pass && (1..=LONGEST_PAIR).contains(&id.len()) {
            return Ok(());
        }
        let meant = match rules.catalogue.suggest(id) {
            Some(pair) => format!("; did you mean {}?", pair.id),
            None => {
                let near = rules.catalogue.near(id);
                let ids: Vec<&str> = near.iter().map(|pair| pair.id.as_str()).collect();
                match ids.as_slice() {
                    [] => {
                        "; ids are case-sensitive, and ptn-cli config pairs lists them".to_owned()
                    }
                    ids => format!("; did you mean {}?", ids.join(" or ")),
                }
            }
        };
        return Err(unknown_pair(id, rules.era, &meant));
    };
    let closes = order_type == Some(OrderType::Flat)
        || matches!(execution_type, ExecutionType::LimitCancel | ExecutionType::FlatAll);
    match &pair.blocked {
        // A validator may refuse a closing order too, but that is for it to say.
        Some(reason) if rules.era == Era::Y2026 && !closes => {
            // Some reasons name it themselves.
            let instead = pair.replacement.as_ref().map(|r| format!("use {r}"));
            let instead = instead.filter(|instead| !reason.contains(instead.as_str()));
            let instead = instead.map(|instead| format!("; {instead}")).unwrap_or_default();
            let text = format!("validators refuse {id}: {reason}{instead}");
            Err(SignalError::new(Code::BlockedTradePair, "trade_pair", text))
        }
        _ => Ok(()),
    }
}
