//! `POST /api/check-order`: what would become of an order, without storing or sending it.
//!
//! The body is that of `submit-order`, and so are the answers to what is no order. A verdict, also a
//! refusal, is a 200: the question was answered.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use ptn_core::guard::{Concern, Severity};
use ptn_core::signal::Signal;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::submit_order::read_object;
use super::{authorise, idempotency_key, identified};
use crate::answer::{self, ApiError};
use crate::app::{App, AppGuard, now};
use crate::edge::Client;
use crate::guard;

#[derive(Serialize)]
struct Checked<'a> {
    accepted: bool,
    order_uuid: Option<&'a str>,
    signal: Option<Box<RawValue>>,
    /// Null without a guard.
    guard: Option<Value>,
    message: String,
}

pub(crate) async fn handle(State(app): State<Arc<App>>, request: Request) -> Response {
    match check(&app, request).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    }
}

async fn check(app: &App, request: Request) -> Result<Response, ApiError> {
    let (head, body) = request.into_parts();
    authorise(app, Client::of(&head.extensions), &head.headers)?;
    let object = read_object(app, &head.headers, body).await?;
    let key = idempotency_key(&head.headers).map_err(ApiError::order)?;
    let signal = Signal::from_object(object, &app.rules)
        .map_err(|e| ApiError::signal(&e, app.rules.era).order())?;
    let signal = identified(signal, key).map_err(ApiError::order)?;
    let guard = app.guard.as_ref();
    let mut verdict =
        guard.map(|AppGuard { guard, .. }| (guard.check(&signal, now()), guard.mode()));
    if let Some((verdict, _)) = &mut verdict
        && signal.id_was_given()
        && let Ok(Some(known)) = app.store.get(signal.id()).await
    {
        verdict.concerns = vec![used_before(&signal, &known.signal)];
    }
    let message = match &verdict {
        None => "the risk guard is off here: only the fields of the order were checked".to_owned(),
        Some((verdict, _)) if verdict.concerns.is_empty() => "nothing speaks against it".to_owned(),
        Some((verdict, _)) => verdict.words(),
    };
    let text = signal.normalised().to_string();
    let checked = Checked {
        accepted: true,
        order_uuid: signal.id_was_given().then(|| signal.id().as_str()),
        signal: RawValue::from_string(text).ok(),
        guard: verdict.as_ref().map(|(verdict, mode)| guard::shown(verdict, *mode)),
        message,
    };
    Ok(answer::json(StatusCode::OK, &checked))
}

/// An id that the store knows: the same signal again changes nothing, another one is refused.
fn used_before(signal: &Signal, known: &Signal) -> Concern {
    let id = signal.id();
    let (severity, code, text, action) = if signal.digest() == known.digest() {
        let text = format!("{id} was accepted before: sending it again changes nothing");
        (Severity::Alert, "already_received", text, "look at its status")
    } else {
        let text = format!("order_uuid {id} was already used for another signal");
        (Severity::Refused, "uuid_conflict", text, "send it under a new order_uuid")
    };
    let (code, action) = (code.to_owned(), action.to_owned());
    Concern { severity, code, text, action, wait_ms: None }
}
