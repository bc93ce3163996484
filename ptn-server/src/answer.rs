//! Answers: every status with a JSON body, and one error type that knows its body.
//!
//! The texts under `error` are those that users of the Python servers know; the stable `code`, and
//! `field` where one is to blame, stand beside them. Which error it is, is decided by the handlers.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use ptn_core::rules::Era;
use ptn_core::signal::SignalError;
use ptn_core::store::StoreError;
use serde::Serialize;
use serde_json::{Map, Value};

/// An answer with a JSON text as its body.
pub(crate) fn json_text(status: StatusCode, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// An answer with a value as its JSON body.
pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Response<Body> {
    match serde_json::to_string(body) {
        Ok(text) => json_text(status, text),
        Err(error) => {
            tracing::error!(%error, "an answer could not be written as JSON");
            ApiError::internal().into_response()
        }
    }
}

/// A refusal: status, the text that users know, and what programs need to know.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) error: String,
    /// Members in front of `error`, `success` for example.
    pub(crate) before: Vec<(&'static str, Value)>,
    /// Members after `code`.
    pub(crate) after: Vec<(&'static str, Value)>,
    pub(crate) retry_after: Option<Duration>,
    /// Whether the connection must not be used again, because the request was not read to its end.
    pub(crate) close: bool,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, error: impl Into<String>) -> Self {
        Self {
            status,
            code,
            error: error.into(),
            before: Vec::new(),
            after: Vec::new(),
            retry_after: None,
            close: false,
        }
    }

    /// 400.
    pub(crate) fn bad(code: &'static str, error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, error)
    }

    /// 500 without a word about the inside.
    pub(crate) fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "An error occurred processing your request",
        )
    }

    /// Adds a member after `code`.
    pub(crate) fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.after.push((key, value.into()));
        self
    }

    /// Adds the field that is to blame; nothing when it is empty.
    pub(crate) fn field(self, field: &str) -> Self {
        if field.is_empty() { self } else { self.with("field", field) }
    }

    /// Puts `"success": false` in front, as the answers about orders have it.
    pub(crate) fn order(mut self) -> Self {
        self.before.insert(0, ("success", Value::Bool(false)));
        self
    }

    /// Asks to come back later.
    pub(crate) fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Closes the connection after the answer.
    pub(crate) fn close(mut self) -> Self {
        self.close = true;
        self
    }

    /// A signal that broke a rule, in the words of the rule set's own server.
    pub(crate) fn signal(error: &SignalError, era: Era) -> Self {
        let text = error.legacy_text(era);
        let api = Self::bad(error.code().as_str(), text.clone()).field(error.field());
        let message = error.to_string();
        if message == text { api } else { api.with("message", message) }
    }

    /// A store that refused or failed.
    pub(crate) fn store(error: &StoreError) -> Self {
        let code = error.code();
        let text = error.to_string();
        match error {
            StoreError::Conflict { .. } => {
                Self::new(StatusCode::CONFLICT, code, "Order failed: duplicate order uuid")
                    .with("field", "order_uuid")
                    .with("message", text)
            }
            StoreError::WrongState { .. } => Self::new(StatusCode::CONFLICT, code, text),
            StoreError::NotFound { .. } => Self::new(StatusCode::NOT_FOUND, code, text),
            StoreError::Full { .. } | StoreError::LowSpace { .. } => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, code, text)
                    .retry_after(Duration::from_secs(30))
            }
            StoreError::Corrupt { .. } => Self::new(StatusCode::INTERNAL_SERVER_ERROR, code, text),
            _ => Self::new(StatusCode::SERVICE_UNAVAILABLE, code, text)
                .retry_after(Duration::from_secs(5)),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response<Body> {
        let mut body = Map::new();
        for (key, value) in self.before {
            body.insert(key.to_owned(), value);
        }
        body.insert("error".to_owned(), self.error.into());
        body.insert("code".to_owned(), self.code.into());
        for (key, value) in self.after {
            body.insert(key.to_owned(), value);
        }
        let mut response = json_text(self.status, Value::Object(body).to_string());
        response.extensions_mut().insert(ErrorCode(self.code));
        let headers = response.headers_mut();
        if let Some(wait) = self.retry_after {
            // Rounded up: coming back too early would only be refused again.
            headers
                .insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs().saturating_add(1)));
        }
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// The code of an error answer, for the counters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ErrorCode(pub(crate) &'static str);
