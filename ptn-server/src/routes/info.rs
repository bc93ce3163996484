//! Health, metrics and the description of the interface. No key needed; nothing secret is shown.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ptn_core::store::fs::FreeSpace;
use serde_json::json;

use crate::answer;
use crate::app::{App, now};
use crate::{metrics as meters, openapi as document};

pub(crate) async fn health(State(app): State<Arc<App>>) -> Response {
    let timestamp = f64::from(u32::try_from(now() / 1000).unwrap_or(0))
        + f64::from(u32::try_from(now() % 1000).unwrap_or(0)) / 1000.0;
    match app.ready().await {
        Ok(()) => {
            let body = json!({"status": "healthy", "service": "MinerRestServer", "timestamp": timestamp, "store": app.store.kind()});
            answer::json(StatusCode::OK, &body)
        }
        Err(reason) => {
            let body = json!({"status": "unhealthy", "service": "MinerRestServer", "timestamp": timestamp, "store": app.store.kind(), "error": reason, "code": "not_accepting"});
            answer::json(StatusCode::SERVICE_UNAVAILABLE, &body)
        }
    }
}

pub(crate) async fn livez() -> Response {
    answer::json_text(StatusCode::OK, r#"{"status":"alive"}"#.to_owned())
}

pub(crate) async fn readyz(State(app): State<Arc<App>>) -> Response {
    match app.ready().await {
        Ok(()) => answer::json_text(StatusCode::OK, r#"{"status":"ready"}"#.to_owned()),
        Err(reason) => {
            let body = json!({"status": "not_ready", "error": reason, "code": "not_accepting"});
            answer::json(StatusCode::SERVICE_UNAVAILABLE, &body)
        }
    }
}

pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Response {
    match app.store.pending().await {
        Ok(pending) => app.metrics().set_pending(pending, now()),
        Err(error) => {
            tracing::warn!(%error, "what waits could not be counted");
            app.metrics().set_pending(ptn_core::store::Pending::default(), now());
        }
    }
    app.metrics().set_load(app.overload.load());
    if let Ok(free) = FreeSpace::of(&app.config.data_dir) {
        app.metrics().set_space(free, app.config.min_free);
    }
    text(meters::CONTENT_TYPE, app.metrics().encode())
}

pub(crate) async fn openapi() -> Response {
    answer::json_text(StatusCode::OK, document::document().to_string())
}

pub(crate) async fn docs() -> Response {
    let mut response = text("text/html; charset=utf-8", document::page());
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    );
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn text(kind: &'static str, body: String) -> Response {
    ([(header::CONTENT_TYPE, kind)], body).into_response()
}
