//! `POST /api/prices`: prices for the risk guard, from whoever has them.
//!
//! One price as an object, or several in a list under `prices`. They are kept in memory only; what
//! is older than the last price of its pair is left out, and the answer counts it.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use ptn_core::guard::PricePoint;
use ptn_core::json::{Json, Object};
use ptn_core::trade_pair::TradePairId;
use serde::Serialize;

use super::authorise;
use super::submit_order::read_object;
use crate::answer::{self, ApiError};
use crate::app::{App, AppGuard, now};
use crate::edge::Client;

/// So many prices in one request are enough for every pair there is.
const MOST: usize = 5000;
/// A price may come this much from the future: the sender's clock.
const AHEAD_MS: i64 = 60_000;

#[derive(Serialize)]
struct Taken {
    taken: usize,
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
    let mut object = read_object(app, &head.headers, body).await?;
    let given = match object.remove("prices") {
        None => vec![Json::Object(object)],
        Some(Json::Array(given)) if !given.is_empty() && given.len() <= MOST => given,
        Some(_) => {
            let text = format!("Invalid request: prices must be a list of 1 to {MOST} objects");
            return Err(ApiError::bad("bad_price", text).field("prices"));
        }
    };
    let now = now();
    let points = given.iter().enumerate().map(|(i, given)| {
        point(given, now).map_err(|(field, wanted)| {
            let text = format!("Invalid request: {field} must be {wanted}");
            ApiError::bad("bad_price", text).field(&format!("prices[{i}].{field}"))
        })
    });
    let points = points.collect::<Result<Vec<_>, _>>()?;
    let taken = points.iter().filter(|point| guard.price(point)).count();
    Ok(answer::json(StatusCode::OK, &Taken { taken, left_out: points.len() - taken }))
}

type Wrong = (&'static str, &'static str);

fn point(given: &Json, now: i64) -> Result<PricePoint, Wrong> {
    let object = given.as_object().ok_or(("entry", "an object"))?;
    let pair = object.get("trade_pair").or_else(|| object.get("trade_pair_id"));
    let pair = pair.and_then(Json::as_str).filter(|id| !id.is_empty() && id.len() <= 40);
    let pair = pair.ok_or(("trade_pair", "the id of a pair, such as BTCUSDC"))?;
    let price = number(object, "price")?.ok_or(("price", "a number above 0"))?;
    let at_ms = match object.get("time_ms") {
        None | Some(Json::Null) => now,
        Some(Json::Number(token)) => token
            .parse()
            .ok()
            .filter(|at| (0..=now + AHEAD_MS).contains(at))
            .ok_or(("time_ms", "a whole number, ms since 1970, not in the future"))?,
        Some(_) => return Err(("time_ms", "a whole number, ms since 1970")),
    };
    let pair = TradePairId::from(pair);
    let (bid, ask) = (number(object, "bid")?, number(object, "ask")?);
    Ok(PricePoint { pair, at_ms, price, bid, ask })
}

fn number(object: &Object, field: &'static str) -> Result<Option<f64>, Wrong> {
    let text = match object.get(field) {
        None | Some(Json::Null) => return Ok(None),
        Some(Json::Number(text) | Json::String(text)) => text,
        Some(_) => return Err((field, "a number above 0")),
    };
    let number: Option<f64> = text.parse().ok();
    let number = number.filter(|x| x.is_finite() && *x > 0.0);
    number.map(Some).ok_or((field, "a number above 0"))
}
