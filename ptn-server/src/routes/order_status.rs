//! `GET /api/order-status/{uuid}`: what became of an order.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::{authorise, path_uuid};
use crate::answer::{self, ApiError};
use crate::app::App;
use crate::edge::Client;
use crate::outcome::{Outcome, SignalView, decide, details};

#[derive(Serialize)]
struct Status<'a> {
    order_uuid: &'a str,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Box<serde_json::value::RawValue>>,
}

pub(crate) async fn handle(
    State(app): State<Arc<App>>,
    uuid: Result<Path<String>, axum::extract::rejection::PathRejection>,
    request: Request,
) -> Response {
    let head = request.into_parts().0;
    match status(&app, uuid.map(|p| p.0).unwrap_or_default(), &head).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    }
}

async fn status(app: &App, uuid: String, head: &Parts) -> Result<Response, ApiError> {
    authorise(app, Client::of(&head.extensions), &head.headers)?;
    let id = path_uuid(&uuid)?;
    let order_uuid = id.as_str();
    let stored = app.store.get(&id).await.map_err(|error| {
        tracing::error!(%error, order_uuid, "an order's state could not be read");
        let mut api = ApiError::store(&error);
        api.error = format!("Internal error: {}", api.error);
        api
    })?;
    let Some(stored) = stored else {
        let message = Some("Order not found in processed or failed signals");
        let code = Some("not_found");
        let body = Status { order_uuid, status: "not_found", message, code, details: None };
        return Ok(answer::json(StatusCode::NOT_FOUND, &body));
    };
    let outcome = decide(&stored, None);
    let (message, code) = match &outcome {
        Outcome::Failed { message, code, .. } => (Some(message.as_str()), Some(*code)),
        Outcome::Pending => (Some("The order is safe and still being delivered"), None),
        Outcome::Completed { .. } => (None, None),
    };
    let details = match &outcome {
        Outcome::Pending => serde_json::value::to_raw_value(&SignalView::of(&stored)).ok(),
        _ => details(&stored, &outcome),
    };
    let body = Status { order_uuid, status: outcome.status(), message, code, details };
    Ok(answer::json(StatusCode::OK, &body))
}
