//! The endpoints: one table that the router, the counters, the OpenAPI document and its page share.
//!
//! Each file below handles one of them. Who may call and how often was decided in `edge`; what a
//! signal may say is decided in `ptn_core::signal`.

mod bracket_orders;
mod check_order;
mod events;
mod info;
mod order_status;
mod prices;
mod receive_signal;
mod signals;
mod submit_order;

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use ptn_core::signal::OrderUuid;

use crate::answer::ApiError;
use crate::app::App;
use crate::auth::Verdict;
use crate::edge;

/// One endpoint, as its documentation shows it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Route {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// Its path; `{uuid}` stands for an order uuid.
    pub path: &'static str,
    /// Whether it needs an API key.
    pub key: bool,
    /// What it does, in one line.
    pub summary: &'static str,
}

const fn route(
    method: &'static str,
    path: &'static str,
    key: bool,
    summary: &'static str,
) -> Route {
    Route { method, path, key, summary }
}

/// Every endpoint.
pub const ROUTES: &[Route] = &[
    route(
        "POST",
        "/api/receive-signal",
        true,
        "Takes a signal (key in the body or header) and answers once it is safe",
    ),
    route(
        "POST",
        "/api/submit-order",
        true,
        "Takes a signal (key in the header) and answers when the validators did",
    ),
    route(
        "POST",
        "/api/check-order",
        true,
        "Says what would become of a signal; nothing is stored and nothing is sent",
    ),
    route("POST", "/api/prices", true, "Prices for the risk guard"),
    route(
        "GET",
        "/api/order-status/{uuid}",
        true,
        "What became of an order: completed, failed, pending or not_found",
    ),
    route(
        "POST",
        "/api/bracket-orders/batch",
        true,
        "Creates, changes and cancels brackets of one pair together",
    ),
    route("GET", "/api/signals", true, "Signals, newest first"),
    route("GET", "/api/signals/{uuid}", true, "One signal with every validator's record"),
    route(
        "GET",
        "/api/signals/{uuid}/receipt",
        true,
        "Its receipt: who answered what and when, with the digest of each signed request",
    ),
    route(
        "POST",
        "/api/signals/{uuid}/retry",
        true,
        "Sends a failed signal again to who did not acknowledge it",
    ),
    route("POST", "/api/signals/{uuid}/cancel", true, "Stops what was not sent yet"),
    route("GET", "/api/events", true, "Live events (server-sent events)"),
    route("GET", "/api/health", false, "Health, as the Python server answers it"),
    route("GET", "/livez", false, "Whether the process answers"),
    route("GET", "/readyz", false, "Whether signals are accepted"),
    route("GET", "/metrics", false, "Counters and gauges for Prometheus"),
    route("GET", "/openapi.json", false, "This interface as an OpenAPI document"),
    route("GET", "/docs", false, "This interface as a page"),
];

/// The server as a router, to be mounted in a server of one's own. Connections, their deadlines and
/// the background tasks ([`App::follow_events`], [`App::keep_house`]) are then the mounter's part;
/// [`crate::run`] does it all.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/api/receive-signal", post(receive_signal::handle))
        .route("/api/submit-order", post(submit_order::handle))
        .route("/api/check-order", post(check_order::handle))
        .route("/api/prices", post(prices::handle))
        .route("/api/order-status/{uuid}", get(order_status::handle))
        .route("/api/bracket-orders/batch", post(bracket_orders::handle))
        .route("/api/signals", get(signals::list))
        .route("/api/signals/{uuid}", get(signals::show))
        .route("/api/signals/{uuid}/receipt", get(signals::receipt))
        .route("/api/signals/{uuid}/retry", post(signals::retry))
        .route("/api/signals/{uuid}/cancel", post(signals::cancel))
        .route("/api/events", get(events::handle))
        .route("/api/health", get(info::health))
        .route("/livez", get(info::livez))
        .route("/readyz", get(info::readyz))
        .route("/metrics", get(info::metrics))
        .route("/openapi.json", get(info::openapi))
        .route("/docs", get(info::docs))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(axum::middleware::from_fn_with_state(app.clone(), edge::around))
        .with_state(app)
}

/// The route that a path belongs to, for counters: never what the caller wrote.
pub(crate) fn label(path: &str) -> &'static str {
    let parts = || path.split('/');
    let fits = |route: &&Route| {
        route.path == path
            || (route.path.contains('{')
                && route.path.split('/').count() == parts().count()
                && route.path.split('/').zip(parts()).all(|(r, p)| r == p || r == "{uuid}"))
    };
    ROUTES.iter().find(fits).map_or("other", |route| route.path)
}

async fn not_found() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "no_such_path", "Resource not found")
        .with("hint", "see /docs for what there is")
}

async fn method_not_allowed() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed")
        .with("hint", "see /docs for what there is")
}

/// Lets a caller with a right `Authorization` header in; keys elsewhere do not count.
pub(crate) fn authorise(app: &App, client: IpAddr, headers: &HeaderMap) -> Result<(), ApiError> {
    let code = match app.keys.check_header(headers) {
        Verdict::Right(key) => return app.limits.key(key),
        Verdict::Wrong => {
            app.limits.wrong_key(client)?;
            "auth_invalid"
        }
        Verdict::Missing => "auth_missing",
    };
    Err(ApiError::new(StatusCode::UNAUTHORIZED, code, "Unauthorized access"))
}

/// The id in a path.
pub(crate) fn path_uuid(text: &str) -> Result<OrderUuid, ApiError> {
    OrderUuid::parse(text)
        .map_err(|e| ApiError::bad("order_uuid_invalid", e.to_string()).field("order_uuid"))
}

/// The id that an `Idempotency-Key` header asks for.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<OrderUuid>, ApiError> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    // Some clients write it as the structured string that a draft of the header asks for.
    let text = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
    match OrderUuid::parse(text) {
        Ok(id) => Ok(Some(id)),
        Err(e) => {
            let text = e.to_string().replace("order_uuid", "Idempotency-Key");
            Err(ApiError::bad("order_uuid_invalid", text).field("Idempotency-Key"))
        }
    }
}

/// The signal under the id that the header asks for.
pub(crate) fn identified(
    signal: ptn_core::signal::Signal,
    key: Option<OrderUuid>,
) -> Result<ptn_core::signal::Signal, ApiError> {
    match key {
        Some(key) if signal.id_was_given() && *signal.id() != key => Err(ApiError::bad(
            "idempotency_key_conflict",
            "Idempotency-Key and order_uuid differ: send one of them, or the same text in both",
        )
        .field("Idempotency-Key")),
        Some(key) => Ok(signal.with_id(key)),
        None => Ok(signal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_routes_and_nothing_else() {
        assert_eq!(label("/api/submit-order"), "/api/submit-order");
        assert_eq!(label("/api/order-status/abc"), "/api/order-status/{uuid}");
        assert_eq!(label("/api/signals/a/retry"), "/api/signals/{uuid}/retry");
        assert_eq!(label("/api/signals/a"), "/api/signals/{uuid}");
        assert_eq!(label("/api/signals/a/b"), "other");
        assert_eq!(label("/etc/passwd"), "other");
    }
}
