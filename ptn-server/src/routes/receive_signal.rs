//! `POST /api/receive-signal`: the server of 2024 and 2025, and the one for TradingView.
//!
//! The key stands in the body, because webhooks cannot set headers; it is judged before anything
//! else in the body. The answer says that the signal is safe, not what the network thinks of it.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use ptn_core::deliver::SubmitError;
use ptn_core::guard::{GuardMode, REFUSED};
use ptn_core::json::{Json, Object};
use ptn_core::rules::Era;
use ptn_core::signal::{Signal, SignalError, SignalErrorCode};
use ptn_core::store::{Accepted, StoreError};
use ptn_core::transport::python::python_dict;
use serde::Serialize;

use super::{idempotency_key, identified};
use crate::answer::{self, ApiError};
use crate::app::App;
use crate::auth::Verdict;
use crate::body::{self, ContentType};
use crate::edge::Client;
use crate::guard::{self, Safe};
use crate::tradingview;

#[derive(Serialize)]
struct Received<'a> {
    message: String,
    order_uuid: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    already_received: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    guard: Option<serde_json::Value>,
}

pub(crate) async fn handle(State(app): State<Arc<App>>, request: Request) -> Response {
    match receive(&app, request).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    }
}

async fn receive(app: &Arc<App>, request: Request) -> Result<Response, ApiError> {
    let (head, body) = request.into_parts();
    let client = Client::of(&head.extensions);
    if body::content_type(&head.headers) == ContentType::Other {
        let status = match app.rules.era {
            Era::Y2024 => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            _ => StatusCode::BAD_REQUEST,
        };
        let hint = "send Content-Type: application/json; text/plain and none are read as JSON too";
        return Err(ApiError::new(status, "body_wrong_content_type", "Request must be JSON")
            .with("hint", hint));
    }
    let bytes = body::read(app, &head.headers, body).await?;
    let json = parse(&bytes)?;

    let header = app.keys.check_header(&head.headers);
    let (verdict, object) = match json {
        Json::Null => return Err(ApiError::bad("body_empty", "Invalid message")),
        Json::Object(mut object) => {
            let in_body = match object.remove("api_key") {
                Some(Json::String(key)) => app.keys.check(key.as_bytes()),
                Some(_) => Verdict::Wrong,
                None => Verdict::Missing,
            };
            // Either place will do; a wrong key in one of them weighs more than none in the other.
            let verdict = match (in_body, header) {
                (Verdict::Right(key), _) | (_, Verdict::Right(key)) => Verdict::Right(key),
                (Verdict::Missing, other) => other,
                _ => Verdict::Wrong,
            };
            (verdict, Ok(object))
        }
        other => (header, Err(other)),
    };
    let object = match (verdict, object) {
        (Verdict::Right(key), object) => {
            app.limits.key(key)?;
            object.map_err(|other| not_an_object(&other))?
        }
        // A number or a text cannot hold a key; the Python servers failed on it, with this status.
        (Verdict::Missing, Err(other)) if !matches!(other, Json::Array(_)) => {
            let mut error = not_an_object(&other);
            error.status = StatusCode::INTERNAL_SERVER_ERROR;
            return Err(error);
        }
        (Verdict::Missing, _) => {
            let text = "Missing or invalid Authorization header";
            return Err(ApiError::new(StatusCode::UNAUTHORIZED, "auth_missing", text).with(
                "hint",
                "put your key into the JSON object as \"api_key\", or into the Authorization header",
            ));
        }
        (Verdict::Wrong, _) => {
            app.limits.wrong_key(client)?;
            return Err(ApiError::new(StatusCode::UNAUTHORIZED, "auth_invalid", "Invalid API key"));
        }
    };
    let key = idempotency_key(&head.headers)?;
    let signal = read_signal(app, object, &bytes)?;
    let signal = Arc::new(identified(signal, key)?);
    let id = signal.id().as_str();
    match guard::accept(app, &signal).await.map_err(|e| e.with("order_uuid", id))? {
        Ok(safe) => Ok(received(&signal, safe)),
        Err(SubmitError::Guard { verdict, .. }) => {
            let text = format!(
                "error storing signal on miner. refused by the risk guard: {}",
                verdict.words()
            );
            Err(ApiError::bad(REFUSED, text)
                .with("order_uuid", signal.id().as_str())
                .with("guard", guard::shown(&verdict, GuardMode::Refuse)))
        }
        Err(SubmitError::Store(error)) => {
            if !matches!(error, StoreError::Conflict { .. }) {
                tracing::error!(%error, order_uuid = %signal.id(), "a signal could not be stored");
            }
            Err(ApiError::store(&error).with("order_uuid", signal.id().as_str()))
        }
        Err(error) => {
            Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, error.code(), error.to_string()))
        }
    }
}

fn received(signal: &Signal, safe: Safe) -> Response {
    let already_received = matches!(safe.accepted, Accepted::Same { .. });
    // Old clients know this answer: it says more only when there is something to say.
    let guard = safe.verdict.filter(|_| safe.speaks);
    let shown = python_dict(signal.body());
    let message = format!("Signal {shown} received successfully");
    let order_uuid = signal.id().as_str();
    answer::json(StatusCode::OK, &Received { message, order_uuid, already_received, guard })
}

fn parse(bytes: &[u8]) -> Result<Json, ApiError> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        let text = "improperly formatted signal received. the body is empty";
        return Err(ApiError::bad("body_not_json", text));
    }
    Json::parse(bytes).map_err(|e| {
        let text = format!("improperly formatted signal received. not JSON: {e}");
        ApiError::bad("body_not_json", text)
    })
}

fn not_an_object(other: &Json) -> ApiError {
    let text = match other {
        Json::Array(_) => {
            "one signal per request: a JSON array is not accepted, send its objects one by one"
        }
        _ => "one JSON object is expected",
    };
    ApiError::bad("body_not_object", format!("improperly formatted signal received. {text}"))
}

/// Translates TradingView's words if asked for, and judges the signal.
fn read_signal(app: &App, mut object: Object, bytes: &[u8]) -> Result<Signal, ApiError> {
    let id = app.config.tradingview.translate(&mut object, &app.rules)?;
    match Signal::from_object(object, &app.rules) {
        Ok(signal) => match id {
            Some(id) if !signal.id_was_given() => Ok(signal.with_id(id)),
            _ => Ok(signal),
        },
        Err(error) => Err(refused(app.rules.era, &error, bytes)),
    }
}

fn refused(era: Era, error: &SignalError, bytes: &[u8]) -> ApiError {
    let mut api = ApiError::signal(error, era);
    if era == Era::Y2025 && error.code() == SignalErrorCode::UnknownTradePair {
        // As the server of 2025 did.
        api.status = StatusCode::UNAUTHORIZED;
    }
    match tradingview::placeholder_hint(bytes) {
        Some(hint) => api.with("hint", hint),
        None => api,
    }
}
