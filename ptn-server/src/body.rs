//! Reading a request's body: within its size, within its time, and only if it claims to be JSON.
//!
//! What the bytes mean is left to the handlers.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;

use crate::answer::ApiError;
use crate::app::App;

/// How much of a body that is too large is still read and thrown away, so that the client reads the
/// answer instead of a reset connection.
const DRAIN: usize = 4 * 1024 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// Reads a body within the size and the time that are set, and within what all bodies may take.
pub(crate) async fn read(app: &App, headers: &HeaderMap, body: Body) -> Result<Bytes, ApiError> {
    let (most, time) = (app.config.max_body, app.config.body_timeout);
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.parse::<usize>().ok());
    if announced.is_some_and(|length| length > most) {
        drain(body).await;
        return Err(too_large(most));
    }
    let mut body = body;
    match tokio::time::timeout(time, collect(app, &mut body, most)).await {
        Ok(Ok(Collected::All(bytes))) => Ok(bytes),
        Ok(Ok(Collected::NoRoom(error))) => Err(error),
        Ok(Ok(Collected::TooLarge)) => {
            drain(body).await;
            Err(too_large(most))
        }
        Ok(Err(_)) => {
            Err(ApiError::bad("body_incomplete", "the body ended before its end").close())
        }
        Err(_) => Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_timeout",
            format!("the body did not arrive within {} s", time.as_secs_f32()),
        )
        .close()),
    }
}

enum Collected {
    All(Bytes),
    TooLarge,
    NoRoom(ApiError),
}

/// The whole body, if it may be that large. Nearly every body is one piece, which is handed on
/// without copying it.
async fn collect(app: &App, body: &mut Body, most: usize) -> Result<Collected, axum::Error> {
    let mut held = None;
    let mut first = Bytes::new();
    let mut rest: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let length = first.len() + rest.len() + data.len();
        if length > most {
            return Ok(Collected::TooLarge);
        }
        if let Err(error) = app.overload.grow(&mut held, length) {
            return Ok(Collected::NoRoom(error));
        }
        if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&std::mem::take(&mut first));
            }
            rest.extend_from_slice(&data);
        }
    }
    Ok(Collected::All(if rest.is_empty() { first } else { rest.into() }))
}

async fn drain(mut body: Body) {
    let discard = async {
        let mut left = DRAIN;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    };
    // Whether it came to its end does not matter: the connection is closed either way.
    drop(tokio::time::timeout(DRAIN_TIME, discard).await);
}

fn too_large(most: usize) -> ApiError {
    ApiError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body_too_large",
        format!("the body is larger than {most} bytes"),
    )
    .close()
}

/// What the `Content-Type` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContentType {
    Json,
    /// `text/plain`, as TradingView sends what it does not recognise as JSON.
    PlainText,
    Missing,
    Other,
}

pub(crate) fn content_type(headers: &HeaderMap) -> ContentType {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return ContentType::Missing };
    let value = value.to_str().unwrap_or("?");
    let kind = value.split(';').next().unwrap_or_default().trim();
    let is = |other: &str| kind.eq_ignore_ascii_case(other);
    if is("application/json") || kind.to_ascii_lowercase().ends_with("+json") {
        ContentType::Json
    } else if is("text/plain") {
        ContentType::PlainText
    } else if kind.is_empty() {
        ContentType::Missing
    } else {
        ContentType::Other
    }
}
