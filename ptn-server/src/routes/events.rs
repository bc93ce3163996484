//! `GET /api/events`: what happens, as it happens, as server-sent events.
//!
//! Ids are `<run>-<number>`; after a reconnect `Last-Event-ID` brings what was missed, as far as it
//! is still kept (`event: reset` says that it is not, or that the server was restarted meanwhile).
//! What the risk guard finds comes as `event: guard`, without an id.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use ptn_core::guard::GuardAlert;
use ptn_core::store::{StoreChange, StoreEvent};
use tokio::sync::broadcast::{self, error::RecvError};

use super::authorise;
use crate::app::{App, LiveEvent};
use crate::edge::Client;

/// A comment goes out this often when nothing happens, so that proxies keep the stream open and
/// clients that are gone are noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

struct Stream {
    app: Arc<App>,
    events: broadcast::Receiver<LiveEvent>,
}

pub(crate) async fn handle(State(app): State<Arc<App>>, request: Request) -> Response {
    if let Err(error) = authorise(&app, Client::of(request.extensions()), request.headers()) {
        return error.into_response();
    }
    let last = request.headers().get("last-event-id").and_then(|v| v.to_str().ok());
    let last = last.map(|id| match id.rsplit_once('-') {
        Some((run, number)) if run == app.live.run => number.parse().ok(),
        _ => None,
    });
    // A known last id: what followed it. An unknown one: everything that is kept.
    let (missed, events) = app.live.join(last.map(|number| number.unwrap_or(0)));
    let complete = match last {
        None => true,
        Some(None) => false,
        Some(Some(number)) => missed.first().is_none_or(|e| e.number <= number.saturating_add(1)),
    };
    let mut first = String::from("retry: 2000\n: connected\n\n");
    if !complete {
        first.push_str("event: reset\ndata: {\"event\":\"reset\"}\n\n");
    }
    for event in &missed {
        first.push_str(&frame(&app.live.run, event));
    }
    let head = stream::iter([Ok::<_, Infallible>(Bytes::from(first))]);
    let tail = stream::unfold(Stream { app, events }, |mut state| async move {
        let bytes = next(&mut state).await?;
        Some((Ok(bytes), state))
    });
    let mut response = Response::new(Body::from_stream(stream::StreamExt::chain(head, tail)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

async fn next(state: &mut Stream) -> Option<Bytes> {
    tokio::select! {
        () = state.app.draining.cancelled() => None,
        event = state.events.recv() => match event {
            Ok(LiveEvent::Store(event)) => Some(frame(&state.app.live.run, &event).into()),
            Ok(LiveEvent::Guard(alert)) => Some(alert_frame(&alert).into()),
            Err(RecvError::Lagged(missed)) => Some(
                format!("event: reset\ndata: {{\"event\":\"reset\",\"missed\":{missed}}}\n\n").into(),
            ),
            Err(RecvError::Closed) => None,
        },
        () = tokio::time::sleep(KEEP_ALIVE) => Some(Bytes::from_static(b": keep-alive\n\n")),
    }
}

/// Without an id: a reconnect asks for the store's events only.
fn alert_frame(alert: &GuardAlert) -> String {
    let data = serde_json::to_string(alert).unwrap_or_else(|_| "null".to_owned());
    format!("event: guard\ndata: {data}\n\n")
}

fn frame(run: &str, event: &StoreEvent) -> String {
    let name = match &event.change {
        StoreChange::Accepted { .. } => "accepted",
        StoreChange::Progress { .. } => "progress",
        StoreChange::CancelRequested => "cancel_requested",
        StoreChange::RetryRequested => "retry_requested",
        StoreChange::Finished { .. } => "finished",
    };
    // JSON texts hold no line ends, so one data line is enough.
    let data = serde_json::to_string(event).unwrap_or_else(|_| "null".to_owned());
    format!("id: {run}-{}\nevent: {name}\ndata: {data}\n\n", event.number)
}
