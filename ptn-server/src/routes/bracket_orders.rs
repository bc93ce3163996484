//! `POST /api/bracket-orders/batch`: several brackets of one pair, created, changed or cancelled
//! together, as one LIMIT_EDIT signal.
//!
//! On the wire an entry with a uuid and no price cancels; the actions are only how callers say it.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use ptn_core::json::{Json, Object};
use ptn_core::rules::Era;
use ptn_core::signal::Signal;
use serde::Serialize;

use super::submit_order::{accept, read_object, seconds_since, settle};
use super::{authorise, idempotency_key, identified};
use crate::answer::{self, ApiError};
use crate::app::App;
use crate::edge::Client;
use crate::outcome::Outcome;

const PRICES: [&str; 4] = ["stop_loss", "take_profit", "trailing_percent", "trailing_value"];

#[derive(Serialize)]
struct Batch<'a> {
    success: Option<bool>,
    processed: usize,
    processing_time: f64,
    error_message: &'a str,
    order_uuid: &'a str,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    guard: Option<serde_json::Value>,
}

pub(crate) async fn handle(State(app): State<Arc<App>>, request: Request) -> Response {
    match batch(&app, request).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    }
}

async fn batch(app: &Arc<App>, request: Request) -> Result<Response, ApiError> {
    let started = Instant::now();
    let (head, body) = request.into_parts();
    let client = Client::of(&head.extensions);
    authorise(app, client, &head.headers)?;
    let object = read_object(app, &head.headers, body).await?;
    if app.rules.era != Era::Y2026 {
        // Without LIMIT_EDIT this would be read as a FLAT order, which closes the position.
        let text = format!(
            "bracket-orders/batch needs the rules of 2026; this server runs with {}",
            app.rules.era
        );
        return Err(ApiError::bad("bad_execution_type", text).order());
    }
    let (object, count) = to_signal(object).map_err(|error| error.order().with("processed", 0))?;
    let key = idempotency_key(&head.headers).map_err(ApiError::order)?;
    let signal = Signal::from_object(object, &app.rules)
        .map_err(|e| ApiError::signal(&e, app.rules.era).order())?;
    let signal = Arc::new(identified(signal, key).map_err(ApiError::order)?);
    let safe = accept(app, &signal).await?;
    let (_, outcome) = settle(app, signal.id()).await;
    let mut body = Batch {
        success: None,
        processed: 0,
        processing_time: seconds_since(started),
        error_message: "",
        order_uuid: signal.id().as_str(),
        status: outcome.status(),
        code: None,
        guard: safe.verdict.filter(|_| safe.speaks),
    };
    let status = match &outcome {
        Outcome::Completed { warning, .. } => {
            body.error_message = warning;
            (body.success, body.processed) = (Some(true), count);
            StatusCode::OK
        }
        Outcome::Failed { code, message, .. } => {
            (body.success, body.error_message) = (Some(false), message);
            body.code = Some(code);
            StatusCode::BAD_REQUEST
        }
        Outcome::Pending => {
            body.code = Some("pending");
            StatusCode::ACCEPTED
        }
    };
    Ok(answer::json(status, &body))
}

/// The LIMIT_EDIT signal of a batch, and how many actions it carries.
fn to_signal(mut object: Object) -> Result<(Object, usize), ApiError> {
    let pair = match object.remove("trade_pair") {
        None | Some(Json::Null) => {
            let text = "Invalid request: missing trade_pair";
            return Err(ApiError::bad("missing_field", text).field("trade_pair"));
        }
        Some(Json::String(text)) if text.is_empty() => {
            let text = "Invalid request: missing trade_pair";
            return Err(ApiError::bad("missing_field", text).field("trade_pair"));
        }
        Some(pair) => pair,
    };
    let orders = match object.remove("orders") {
        Some(Json::Array(orders)) if !orders.is_empty() => orders,
        _ => {
            let text = "Invalid request: orders must be a non-empty list";
            return Err(ApiError::bad("bracket_invalid", text).field("orders"));
        }
    };
    let count = orders.len();
    let entries = orders
        .into_iter()
        .enumerate()
        .map(|(i, order)| {
            entry(order).map_err(|text| {
                ApiError::bad("bracket_invalid", text).field(&format!("orders[{i}]"))
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut signal = Object::new();
    signal.set("trade_pair", pair);
    signal.set("order_type", "FLAT".into());
    signal.set("execution_type", "LIMIT_EDIT".into());
    signal.set("bracket_orders", Json::Array(entries));
    if let Some(id) = object.remove("subaccount_id") {
        signal.set("subaccount_id", id);
    }
    Ok((signal, count))
}

fn entry(order: Json) -> Result<Json, String> {
    let Json::Object(mut order) = order else {
        return Err("Invalid request: every order must be an object".to_owned());
    };
    let given = |order: &Object, field: &str| match order.get(field) {
        None | Some(Json::Null) => false,
        Some(Json::String(text)) => !text.is_empty(),
        Some(_) => true,
    };
    let has_uuid = given(&order, "order_uuid");
    let action = match order.remove("action") {
        None | Some(Json::Null) => if has_uuid { "update" } else { "create" }.to_owned(),
        Some(Json::String(action)) => action,
        Some(other) => other.to_string(),
    };
    let has_price = PRICES.iter().any(|field| given(&order, field));
    match action.as_str() {
        "cancel" if !has_uuid => Err("cancel requires order_uuid".to_owned()),
        // Prices would turn it into a change.
        "cancel" => Ok(Json::Object(
            order.remove("order_uuid").into_iter().map(|u| ("order_uuid".to_owned(), u)).collect(),
        )),
        "update" if !has_uuid => Err("update requires order_uuid".to_owned()),
        // Without a price the network would read it as a cancellation.
        "create" | "update" if !has_price => {
            Err(format!("{action} requires at least one of {}", PRICES.join(", ")))
        }
        "create" | "update" => Ok(Json::Object(order)),
        other => {
            let shown: String = other.chars().take(40).collect();
            Err(format!("invalid action \"{shown}\""))
        }
    }
}
