//! `POST /api/prices`: prices for the risk guard, from whoever has them.
//!
//! The body and its errors are those of `ptn_core::paper::prices::push`: one object, a list, or one a
//! line, taken whole or not at all. Prices are kept in memory only.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use ptn_core::paper::prices::push::{PushLimits, read};
use serde::Serialize;

use super::authorise;
use crate::answer::{self, ApiError};
use crate::app::{App, AppGuard, now};
use crate::body;
use crate::edge::Client;

#[derive(Serialize)]
struct Taken {
    taken: usize,
    /// Older than the last price of their pair, or of a pair that nobody knows.
    left_out: usize,
}

pub(crate) async fn handle(State(app): State<Arc<App>>, request: Request) -> Response {
    match prices(&app, request).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    }
}

async fn prices(app: &App, request: Request) -> Result<Response, ApiError> {
    let (head, body) = request.into_parts();
    authorise(app, Client::of(&head.extensions), &head.headers)?;
    let Some(AppGuard { guard, takes_prices: true }) = &app.guard else {
        let text = "prices are not taken here; start with --guard warn --guard.prices push";
        return Err(ApiError::new(StatusCode::CONFLICT, "prices_not_taken", text));
    };
    let bytes = body::read(app, &head.headers, body).await?;
    let ticks = read(&bytes, now(), &PushLimits::default()).map_err(|e| {
        let status = match e.is_too_large() {
            true => StatusCode::PAYLOAD_TOO_LARGE,
            false => StatusCode::BAD_REQUEST,
        };
        ApiError::new(status, e.code(), format!("Invalid request: {e}"))
    })?;
    let all = ticks.len();
    let taken = ticks.into_iter().filter(|tick| guard.price(&tick.clone().into())).count();
    Ok(answer::json(StatusCode::OK, &Taken { taken, left_out: all - taken }))
}
