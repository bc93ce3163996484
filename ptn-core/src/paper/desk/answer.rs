//! What a validator writes into its answer to an order.

use crate::json::{Json, Object};
use crate::order::OrderType;
use crate::paper::account::{Answer, Outcome};
use crate::paper::order::Order;
use crate::paper::position::Fill;
use crate::paper::refusal::Refusal;
use crate::rules::Era;
use crate::store::UnixMs;
use crate::validator::DeskAnswer;

/// The answer to an order of a hotkey.
pub(super) fn answer(
    era: Era,
    hotkey: &str,
    at_ms: UnixMs,
    order: Option<&Order>,
    outcome: &Result<Outcome, Refusal>,
) -> DeskAnswer {
    match outcome {
        Ok(outcome) => {
            let text = order.and_then(|order| order_json(hotkey, at_ms, order, &outcome.answer));
            DeskAnswer::Taken { order_json: text.map(|o| o.to_string()).unwrap_or_default() }
        }
        Err(Refusal::DuplicateUuid { .. }) => DeskAnswer::Repeated,
        Err(refusal) => DeskAnswer::Failed {
            message: refusal.error_message(era, hotkey),
            should_retry: should_retry(era, refusal),
        },
    }
}

/// 2026 says `false` to a closed market, to subaccounts, and to everything that went wrong in
/// processing; other refusals leave the field as it was sent. Before, there was no such field.
fn should_retry(era: Era, refusal: &Refusal) -> Option<bool> {
    let as_sent = matches!(
        refusal,
        Refusal::RateLimited { .. }
            | Refusal::Eliminated { .. }
            | Refusal::Deregistered { .. }
            | Refusal::DuplicateUuid { .. }
            | Refusal::BlockedPair { .. }
            | Refusal::AssetClass { .. }
            | Refusal::PairHalted { .. }
            | Refusal::Restarting
            | Refusal::Syncing
    );
    (era == Era::Y2026 && !as_sent).then_some(false)
}

/// The order as it was executed; nothing where the network stores none.
fn order_json(hotkey: &str, at_ms: UnixMs, order: &Order, answer: &Answer) -> Option<Json> {
    let mut text = Object::new();
    match answer {
        Answer::Filled { fill } => return Some(filled(fill)),
        Answer::Cancelled { order_uuid, cancelled_ms, num_cancelled } => {
            text.set("status", "cancelled".into());
            text.set("order_uuid", order_uuid.as_str().into());
            text.set("miner_hotkey", hotkey.into());
            text.set("cancelled_ms", integer(*cancelled_ms));
            text.set("num_cancelled", integer(*num_cancelled));
        }
        Answer::Edited { uuids, num_cancelled } => {
            let uuids = uuids.iter().map(|uuid| uuid.as_str().into()).collect();
            text.set("status", "edited".into());
            text.set("order_uuids", Json::Array(uuids));
            text.set("num_cancelled", integer(*num_cancelled));
        }
        Answer::Flattened { fills, .. } => {
            return Some(Json::Array(fills.iter().map(filled).collect()));
        }
        Answer::Leveraged { .. } => return None,
        Answer::NoPosition => return None,
        Answer::Rests { uuid } => {
            text.set("order_uuid", uuid.as_str().into());
            if let Some(pair) = &order.pair {
                text.set("trade_pair_id", pair.as_str().into());
            }
            let kind = order.order_type.map_or(Json::Null, |t| t.as_str().into());
            text.set("order_type", kind);
            text.set("execution_type", order.execution.as_str().into());
            text.set("limit_price", order.limit_price.map_or(Json::Null, number));
            text.set("processed_ms", integer(at_ms));
        }
    }
    Some(Json::Object(text))
}

fn filled(fill: &Fill) -> Json {
    let mut text = Object::new();
    text.set("order_uuid", fill.uuid.as_str().into());
    text.set("trade_pair_id", fill.pair.as_str().into());
    text.set("order_type", fill.order_type.as_str().into());
    text.set("execution_type", fill.execution.as_str().into());
    text.set("leverage", number(fill.leverage));
    text.set("value", number(fill.value));
    text.set("quantity", number(fill.quantity));
    text.set("price", number(fill.price));
    text.set("slippage", number(fill.slippage));
    text.set("quote_usd_rate", number(fill.quote_usd));
    text.set("processed_ms", integer(fill.at_ms));
    text.set("position_uuid", fill.position.as_str().into());
    let closes = fill.order_type == OrderType::Flat;
    text.set("closes_position", closes.into());
    Json::Object(text)
}

fn number(value: f64) -> Json {
    serde_json::Number::from_f64(value).map_or(Json::Null, |n| Json::Number(n.to_string()))
}

fn integer(value: impl std::fmt::Display) -> Json {
    Json::Number(value.to_string())
}
