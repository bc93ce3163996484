//! `POST /api/submit-order`: the server of 2026. It waits for the validators' answers.
//!
//! The key stands in the header and nowhere else. The same order again waits for, or repeats, the
//! same answer; nothing is sent twice. What counts as answered is decided in `outcome`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ptn_core::deliver::SubmitError;
use ptn_core::guard::{GuardMode, GuardVerdict, REFUSED};
use ptn_core::json::{Json, Object};
use ptn_core::record::ValidatorRecord;
use ptn_core::signal::{OrderUuid, Signal};
use ptn_core::store::{StoreError, StoredSignal};
use serde::Serialize;

use super::{authorise, idempotency_key, identified};
use crate::answer::{self, ApiError};
use crate::app::App;
use crate::body::{self, ContentType};
use crate::edge::Client;
use crate::guard::{self, Safe};
use crate::outcome::{Outcome, decide};

/// Events may be missed, so a waiting request looks by itself this often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

#[derive(Serialize)]
struct Submitted<'a> {
    success: Option<bool>,
    order_uuid: &'a str,
    order_json: Option<&'a str>,
    error_message: &'a str,
    processing_time: f64,
    message: &'a str,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    maybe_sent: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_url: Option<String>,
    validators: Vec<&'a ValidatorRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    guard: Option<serde_json::Value>,
}

pub(crate) async fn handle(State(app): State<Arc<App>>, request: Request) -> Response {
    match submit(&app, request).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    }
}

async fn submit(app: &Arc<App>, request: Request) -> Result<Response, ApiError> {
    let started = Instant::now();
    let (head, body) = request.into_parts();
    let client = Client::of(&head.extensions);
    authorise(app, client, &head.headers)?;
    let object = read_object(app, &head.headers, body).await?;
    let key = idempotency_key(&head.headers).map_err(ApiError::order)?;
    let signal = Signal::from_object(object, &app.rules)
        .map_err(|e| ApiError::signal(&e, app.rules.era).order())?;
    let signal = Arc::new(identified(signal, key).map_err(ApiError::order)?);
    let verdict = accept(app, &signal).await?.verdict;
    let (stored, outcome) = settle(app, signal.id()).await;
    Ok(answer(signal.id(), stored.as_ref(), &outcome, verdict, started))
}

/// Reads a body that must be one non-empty JSON object.
pub(super) async fn read_object(
    app: &App,
    headers: &axum::http::HeaderMap,
    body: axum::body::Body,
) -> Result<Object, ApiError> {
    let invalid =
        |code, text: String| ApiError::bad(code, format!("Invalid request: {text}")).order();
    if body::content_type(headers) != ContentType::Json {
        let text = "415 Unsupported Media Type: send Content-Type: application/json";
        return Err(invalid("body_wrong_content_type", text.to_owned()));
    }
    let bytes = body::read(app, headers, body).await.map_err(ApiError::order)?;
    let json = Json::parse(&bytes).map_err(|e| {
        invalid("body_not_json", format!("400 Bad Request: missing JSON body or not JSON: {e}"))
    })?;
    let empty = match &json {
        Json::Null | Json::Bool(false) => true,
        Json::String(text) => text.is_empty(),
        Json::Array(items) => items.is_empty(),
        Json::Object(object) => object.is_empty(),
        _ => false,
    };
    match json {
        _ if empty => Err(invalid("body_empty", "missing JSON body".to_owned())),
        Json::Object(object) => Ok(object),
        Json::Array(_) => Err(invalid(
            "body_not_object",
            "one signal per request: a JSON array is not accepted, send its objects one by one"
                .to_owned(),
        )),
        other => Err(invalid(
            "body_not_object",
            format!("one JSON object is expected, not a {}", other.python_type()),
        )),
    }
}

/// Makes a signal durable, or says why not in this endpoint's words.
pub(super) async fn accept(app: &Arc<App>, signal: &Arc<Signal>) -> Result<Safe, ApiError> {
    let order_uuid = signal.id().as_str();
    let busy = |e: ApiError| e.order().with("order_uuid", order_uuid);
    let error = match guard::accept(app, signal).await.map_err(busy)? {
        Ok(safe) => return Ok(safe),
        Err(SubmitError::Guard { verdict, .. }) => return Err(refused(order_uuid, &verdict)),
        Err(SubmitError::Store(error)) => error,
        Err(error) => {
            let text = error.to_string();
            return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, error.code(), text).order());
        }
    };
    Err(match &error {
        StoreError::Conflict { .. } => {
            let text = "Order failed: duplicate order uuid";
            ApiError::new(StatusCode::CONFLICT, error.code(), text)
                .order()
                .field("order_uuid")
                .with("order_uuid", order_uuid)
                .with("order_json", serde_json::Value::Null)
                .with("error_message", error.to_string())
                .with("message", text)
        }
        _ => {
            tracing::error!(%error, order_uuid, "an order could not be stored");
            ApiError::store(&error).order().with("order_uuid", order_uuid)
        }
    })
}

/// An order that the guard does not let in, in the words of a refused order.
fn refused(order_uuid: &str, verdict: &GuardVerdict) -> ApiError {
    let text = verdict.refusal().map(|concern| concern.text.clone()).unwrap_or_default();
    let message = format!("Order not sent: the risk guard refused it: {}", verdict.words());
    ApiError::bad(REFUSED, message.clone())
        .order()
        .with("order_uuid", order_uuid)
        .with("order_json", serde_json::Value::Null)
        .with("error_message", text)
        .with("message", message)
        .with("guard", guard::shown(verdict, GuardMode::Refuse))
}

/// Waits until a signal is decided, the deadline passes, or the server has to leave. When too many
/// wait already, it only looks.
pub(super) async fn settle(app: &App, id: &OrderUuid) -> (Option<StoredSignal>, Outcome) {
    let deadline = tokio::time::Instant::now() + app.config.submit_deadline;
    let waiting = app.waiters.join(id);
    let seat = app.overload.seat();
    loop {
        // Made before looking, so that no change falls between looking and waiting.
        let mut changed = std::pin::pin!(waiting.changed());
        changed.as_mut().enable();
        let stored = match app.store.get(id).await {
            Ok(stored) => stored,
            Err(error) => {
                tracing::warn!(%error, order_uuid = %id, "an order's state could not be read");
                None
            }
        };
        if let Some(stored) = &stored {
            let outcome = decide(stored, waiting.reason());
            if outcome != Outcome::Pending {
                return (Some(stored.clone()), outcome);
            }
        }
        if seat.is_none() {
            return (stored, Outcome::Pending);
        }
        tokio::select! {
            () = changed => {}
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            () = tokio::time::sleep_until(deadline) => return (stored, Outcome::Pending),
            () = app.hurry.cancelled() => return (stored, Outcome::Pending),
        }
    }
}

/// Seconds since the request came, as the Python server gives them.
pub(super) fn seconds_since(started: Instant) -> f64 {
    (started.elapsed().as_secs_f64() * 1e6).round() / 1e6
}

fn answer(
    id: &OrderUuid,
    stored: Option<&StoredSignal>,
    outcome: &Outcome,
    guard: Option<serde_json::Value>,
    started: Instant,
) -> Response {
    let mut body = Submitted {
        success: None,
        order_uuid: id.as_str(),
        order_json: None,
        error_message: "",
        processing_time: seconds_since(started),
        message: "",
        status: outcome.status(),
        code: None,
        maybe_sent: false,
        status_url: None,
        validators: stored.map(|s| s.validators.values().collect()).unwrap_or_default(),
        guard,
    };
    let status = match outcome {
        Outcome::Completed { order_json, warning } => {
            body.success = Some(true);
            body.error_message = warning;
            body.code = (!warning.is_empty()).then_some("filled_without_bracket");
            body.order_json = Some(order_json);
            body.message = "Order successfully processed by Vanta Network";
            StatusCode::OK
        }
        Outcome::Failed { code, message, error, maybe_sent } => {
            body.success = Some(false);
            body.error_message = error;
            body.message = message;
            body.code = Some(code);
            body.maybe_sent = *maybe_sent;
            StatusCode::BAD_REQUEST
        }
        Outcome::Pending => {
            body.message = "Order accepted and safe, but the network has not answered yet; it is still being delivered. Ask status_url, and do not send it again under another order_uuid";
            body.code = Some("pending");
            body.status_url = Some(format!("/api/order-status/{id}"));
            StatusCode::ACCEPTED
        }
    };
    let mut response = answer::json(status, &body);
    if let Some(Ok(url)) = body.status_url.as_deref().map(HeaderValue::from_str) {
        response.headers_mut().insert(header::LOCATION, url);
    }
    response
}
