//! The rules between the fields of a signal, per execution type: strict in what it lets out.
//!
//! Reading single fields is left to [`super::parse`]. The order of the checks is the network's.

use super::error::{Frame, shown};
use super::number::Number;
use super::parse::{Draft, SIZES, missing};
use super::{SignalError, SignalErrorCode as Code};
use crate::json::{self, Json, Object};
use crate::order::{ExecutionType, OrderType, StopCondition};
use crate::rules::Era;
use crate::text::printable;
use crate::trade_pair::TradePairCatalogue;

fn refuse(code: Code, field: &str, text: impl Into<String>) -> SignalError {
    let text = text.into();
    SignalError::new(code, field, text.clone()).legacy(Frame::Model(""), text)
}

/// 2024: leverage only, with a sign that fits and within the pair's bounds.
pub(super) fn leverage_2024(
    leverage: Result<Number, (SignalError, f64)>,
    order_type: OrderType,
    pair: &str,
    catalogue: &TradePairCatalogue,
) -> Result<Number, SignalError> {
    if order_type == OrderType::Flat {
        return leverage.map_err(|(error, _)| error);
    }
    let bounds = catalogue.get(pair).map(|p| (p.min_leverage.as_str(), p.max_leverage.as_str()));
    let (low, high) = bounds.unwrap_or(("0", "0"));
    let out_of_range = |given: &str| {
        let text = format!("{given} is out of range; {pair} allows {low} to {high}");
        SignalError::new(Code::SizeOutOfRange, "leverage", text).legacy(
            Frame::Model("leverage"),
            format!(
                "Leverage must be between {low} and {high}, provided - [{given}] (type=value_error)"
            ),
        )
    };
    let leverage = match leverage {
        Ok(n) => n,
        Err((_, given)) => {
            let signed = if order_type == OrderType::Short { -given.abs() } else { given };
            return Err(out_of_range(&json::python_float(signed)));
        }
    };
    if order_type == OrderType::Long && leverage.is_negative() && !leverage.is_zero() {
        let text = format!("{leverage} is negative; a LONG order needs a positive size");
        return Err(SignalError::new(Code::SizeSign, "leverage", text).legacy(
            Frame::Model("leverage"),
            "Leverage must be positive for LONG orders. (type=value_error)",
        ));
    }
    let bound = |text: &str| Number::parse(text).ok();
    let size = leverage.abs();
    let too_low = bound(low).is_none_or(|b| size < b);
    let too_high = bound(high).is_none_or(|b| size > b);
    if too_low || too_high || size.is_zero() {
        let signed = if order_type == OrderType::Short { leverage.negative() } else { leverage };
        return Err(out_of_range(&python_float(&signed)));
    }
    Ok(if order_type == OrderType::Short { leverage.negative() } else { leverage })
}

/// A number as Python prints a float, for the texts that users know.
fn python_float(n: &Number) -> String {
    n.as_str().parse::<f64>().map_or_else(|_| n.to_string(), json::python_float)
}

/// 2025 and 2026: prices, then sizes, then sign and FLAT, then trailing stop, then brackets.
pub(super) fn rules_between_fields(draft: &mut Draft) -> Result<(), SignalError> {
    prices(draft)?;
    size_count(draft)?;
    order_type_and_sign(draft)?;
    if draft.era == Era::Y2026 {
        trailing(draft)?;
        brackets(draft)?;
    }
    Ok(())
}

fn prices(draft: &mut Draft) -> Result<(), SignalError> {
    match draft.execution_type {
        ExecutionType::Limit => {
            if draft.number("limit_price").is_none_or(Number::is_zero) {
                let text = "Limit price must be specified for LIMIT orders";
                return Err(refuse(Code::MissingPrice, "limit_price", text));
            }
            around_the_limit(draft)
        }
        ExecutionType::StopLimit => {
            let positive = |field| draft.number(field).is_some_and(Number::is_positive);
            if !positive("stop_price") {
                let text = "stop_price must be specified and > 0 for STOP_LIMIT orders";
                return Err(refuse(Code::StopInvalid, "stop_price", text));
            }
            if !positive("limit_price") {
                let text = "limit_price must be specified and > 0 for STOP_LIMIT orders";
                return Err(refuse(Code::MissingPrice, "limit_price", text));
            }
            let Some(condition) = &draft.stop_condition else {
                let text = "stop_condition must be specified for STOP_LIMIT orders (GTE or LTE)";
                return Err(refuse(Code::StopInvalid, "stop_condition", text));
            };
            let Some(known) = condition.as_str().and_then(StopCondition::parse) else {
                let given = condition.as_str().map_or_else(|| condition.to_string(), str::to_owned);
                let text =
                    |given: &str| format!("Invalid stop_condition '{given}'. Must be GTE or LTE");
                let plain = text(&printable(&given, 80));
                let error = SignalError::new(Code::StopInvalid, "stop_condition", plain);
                return Err(error.legacy(Frame::Model(""), text(&given)));
            };
            draft.stop_condition = Some(known.as_str().into());
            around_the_limit(draft)
        }
        ExecutionType::Bracket if draft.era == Era::Y2025 => {
            let set = |field| draft.number(field).filter(|n| !n.is_zero());
            match (set("stop_loss"), set("take_profit")) {
                (None, None) => {
                    let text = "Either stop_loss or take_profit must be set for BRACKET orders";
                    Err(refuse(Code::BracketInvalid, "stop_loss", text))
                }
                (Some(sl), Some(tp)) if sl.cmp(tp).is_eq() => Err(unique()),
                _ => Ok(()),
            }
        }
        ExecutionType::Bracket => bracket_order(draft),
        _ => Ok(()),
    }
}

fn unique() -> SignalError {
    refuse(Code::PriceRelation, "stop_loss", "stop_loss and take_profit must be unique")
}

/// LONG: stop loss < limit < take profit; SHORT the other way round. A trailing stop replaces the
/// stop loss half.
fn around_the_limit(draft: &Draft) -> Result<(), SignalError> {
    let set = |field| draft.number(field).filter(|n| !n.is_zero());
    let Some(limit) = draft.number("limit_price") else { return Ok(()) };
    let sl = set("stop_loss").filter(|_| draft.trailing_stop.is_none());
    let tp = set("take_profit");
    let kind = draft.execution_type;
    let show = |n: Option<&Number>| n.map_or_else(|| "None".to_owned(), python_float);
    let (sl_text, tp_text) = (show(set("stop_loss")), show(tp));
    let limit_text = python_float(limit);
    match draft.order_type {
        Some(OrderType::Long)
            if sl.is_some_and(|p| p >= limit) || tp.is_some_and(|p| p <= limit) =>
        {
            Err(refuse(
                Code::PriceRelation,
                if sl.is_some_and(|p| p >= limit) { "stop_loss" } else { "take_profit" },
                format!(
                    "LONG {kind} orders must satisfy: stop_loss < limit_price < take_profit. Got stop_loss={sl_text}, limit_price={limit_text}, take_profit={tp_text}"
                ),
            ))
        }
        Some(OrderType::Short)
            if sl.is_some_and(|p| p <= limit) || tp.is_some_and(|p| p >= limit) =>
        {
            Err(refuse(
                Code::PriceRelation,
                if sl.is_some_and(|p| p <= limit) { "stop_loss" } else { "take_profit" },
                format!(
                    "SHORT {kind} orders must satisfy: take_profit < limit_price < stop_loss. Got take_profit={tp_text}, limit_price={limit_text}, stop_loss={sl_text}"
                ),
            ))
        }
        _ => Ok(()),
    }
}

fn bracket_order(draft: &Draft) -> Result<(), SignalError> {
    let mut sl = draft.number("stop_loss").cloned();
    let mut tp = draft.number("take_profit").cloned();
    let mut trailing = draft.trailing_stop.is_some();
    let entries = list(draft)?;
    if sl.is_none() && tp.is_none() && !trailing && !entries.is_empty() {
        let [entry] = entries else {
            let text = "bracket_orders must contain exactly one entry when used for BRACKET orders";
            return Err(refuse(Code::BracketInvalid, "bracket_orders", text));
        };
        sl = entry_number(entry, "stop_loss", draft.era)?;
        tp = entry_number(entry, "take_profit", draft.era)?;
        trailing = ["trailing_percent", "trailing_value"].iter().any(|f| has(entry, f));
    }
    if sl.is_none() && tp.is_none() && !trailing {
        let text =
            "Bracket order must specify at least one of stop_loss, take_profit, or trailing_stop";
        return Err(refuse(Code::BracketInvalid, "stop_loss", text));
    }
    for (field, price) in [("stop_loss", &sl), ("take_profit", &tp)] {
        if price.as_ref().is_some_and(|p| !p.is_positive()) {
            let text = format!("{field} must be greater than 0");
            return Err(refuse(Code::PriceRelation, field, text));
        }
    }
    match (sl, tp) {
        (Some(sl), Some(tp)) if sl.cmp(&tp).is_eq() => Err(unique()),
        _ => Ok(()),
    }
}

fn size_count(draft: &Draft) -> Result<(), SignalError> {
    let needs_none =
        matches!(draft.execution_type, ExecutionType::LimitCancel | ExecutionType::FlatAll)
            || (draft.era == Era::Y2026 && draft.order_type == Some(OrderType::Flat));
    let bracket = draft.execution_type == ExecutionType::Bracket;
    if needs_none || (bracket && draft.era == Era::Y2026) {
        return Ok(());
    }
    let given: Vec<&str> =
        SIZES.into_iter().filter(|field| draft.number(field).is_some()).collect();
    if given.len() == 1 || (bracket && given.is_empty()) {
        return Ok(());
    }
    let quoted: Vec<String> = given.iter().map(|f| format!("'{f}'")).collect();
    let text = format!(
        "Exactly one of ['leverage', 'value', 'quantity'] must be provided, got [{}]",
        quoted.join(", ")
    );
    Err(refuse(Code::SizeNotExactlyOne, given.first().copied().unwrap_or("leverage"), text))
}

fn order_type_and_sign(draft: &mut Draft) -> Result<(), SignalError> {
    use ExecutionType as Kind;
    let kind = draft.execution_type;
    if matches!(kind, Kind::LimitCancel | Kind::FlatAll) {
        return Ok(());
    }
    let flat = draft.order_type == Some(OrderType::Flat);
    if flat && draft.era == Era::Y2026 && matches!(kind, Kind::Limit | Kind::StopLimit) {
        let text = format!("FLAT order is not supported for {kind} orders");
        return Err(refuse(Code::FlatNotAllowed, "order_type", text));
    }
    if draft.order_type.is_none() && kind != Kind::Bracket {
        return Err(missing("order_type"));
    }
    for (field, size) in draft.numbers.iter_mut().filter(|(f, _)| SIZES.contains(f)) {
        match draft.order_type {
            Some(OrderType::Long) if size.is_negative() && !size.is_zero() => {
                let text = format!("{field} must be positive for LONG orders.");
                return Err(refuse(Code::SizeSign, field, text));
            }
            Some(OrderType::Long | OrderType::Short) if size.is_zero() => {
                let text = format!("{field} must not be 0; FLAT closes a position");
                return Err(refuse(Code::SizeOutOfRange, field, text));
            }
            Some(OrderType::Short) => *size = size.negative(),
            _ => {}
        }
    }
    Ok(())
}

fn trailing(draft: &Draft) -> Result<(), SignalError> {
    let bad = |text: String| refuse(Code::TrailingInvalid, "trailing_stop", text);
    let Some(stop) = &draft.trailing_stop else { return Ok(()) };
    let Some(stop) = stop.as_object() else {
        return Err(bad("trailing_stop must be a dict".to_owned()));
    };
    let distance = |field: &str| {
        let read = |v| super::parse::number(field, v, draft.era);
        stop.get(field).map(read).transpose().map_err(|e| bad(e.to_string()))
    };
    match (distance("trailing_percent")?, distance("trailing_value")?) {
        (Some(percent), None) => {
            if percent.is_positive() && percent < Number::from(1) {
                return Ok(());
            }
            let given = python_float(&percent);
            Err(bad(format!("trailing_percent must be between 0 and 1 (exclusive), got {given}")))
        }
        (None, Some(value)) if value.is_positive() => Ok(()),
        (None, Some(value)) => {
            let given = python_float(&value);
            Err(bad(format!("trailing_value must be greater than 0, got {given}")))
        }
        _ => Err(bad(
            "trailing_stop must contain exactly one of 'trailing_percent' or 'trailing_value'"
                .to_owned(),
        )),
    }
}

/// Top-level stop loss, take profit and trailing stop become one bracket entry; given entries must
/// each say where they close.
fn brackets(draft: &mut Draft) -> Result<(), SignalError> {
    use ExecutionType as Kind;
    if !matches!(draft.execution_type, Kind::Market | Kind::Limit | Kind::StopLimit) {
        return Ok(());
    }
    if list(draft)?.is_empty() {
        let price = |field| match draft.number(field) {
            Some(n) => Json::Number(n.as_str().to_owned()),
            None => Json::Null,
        };
        let (sl, tp) = (price("stop_loss"), price("take_profit"));
        if sl == Json::Null && tp == Json::Null && draft.trailing_stop.is_none() {
            return Ok(());
        }
        let mut entry = Object::new();
        entry.set("stop_loss", sl);
        entry.set("take_profit", tp);
        if let Some(stop) = draft.trailing_stop.as_ref().and_then(Json::as_object) {
            for field in ["trailing_percent", "trailing_value"] {
                if let Some(distance) = stop.get(field) {
                    entry.set(field, distance.clone());
                }
            }
        }
        draft.bracket_orders = Some(Json::Array(vec![Json::Object(entry)]));
        return Ok(());
    }
    for (i, entry) in list(draft)?.iter().enumerate() {
        let fields = ["stop_loss", "take_profit", "trailing_percent", "trailing_value"];
        if !fields.iter().any(|field| has(entry, field)) {
            return Err(refuse(
                Code::BracketInvalid,
                &format!("bracket_orders[{i}]"),
                format!(
                    "bracket_orders[{i}]: at least one of stop_loss/take_profit/trailing_percent/trailing_value required"
                ),
            ));
        }
        for field in fields {
            entry_number(entry, field, draft.era)?;
        }
    }
    Ok(())
}

/// The entries of `bracket_orders`, each an object; empty when there are none.
fn list(draft: &Draft) -> Result<&[Json], SignalError> {
    match &draft.bracket_orders {
        None => Ok(&[]),
        Some(Json::Array(items)) if items.iter().all(|i| i.as_object().is_some()) => Ok(items),
        Some(other) => {
            let text = format!("must be a list of objects, not {}", shown(&other.to_string()));
            Err(refuse(Code::BracketInvalid, "bracket_orders", text))
        }
    }
}

fn has(entry: &Json, field: &str) -> bool {
    entry.as_object().and_then(|o| o.get(field)).is_some_and(|v| *v != Json::Null)
}

fn entry_number(entry: &Json, field: &str, era: Era) -> Result<Option<Number>, SignalError> {
    match entry.as_object().and_then(|o| o.get(field)) {
        None | Some(Json::Null) => Ok(None),
        Some(value) => super::parse::number(field, value, era).map(Some),
    }
}
