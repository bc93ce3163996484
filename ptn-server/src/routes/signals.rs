//! `/api/signals`: looking at what was accepted, sending it again, stopping it.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use ptn_core::record::SignalState;
use ptn_core::record::receipt::Receipt;
use ptn_core::signal::OrderUuid;
use ptn_core::store::Filter;
use serde::Serialize;
use serde_json::json;

use super::{authorise, path_uuid};
use crate::answer::{self, ApiError};
use crate::app::App;
use crate::edge::Client;
use crate::outcome::SignalView;

const DEFAULT_LIMIT: usize = 100;
const MOST: usize = 1000;

#[derive(Serialize)]
struct Page<'a> {
    signals: Vec<SignalView<'a>>,
    /// `before` of the next page; null on the last one.
    next_before: Option<u64>,
}

pub(crate) async fn list(State(app): State<Arc<App>>, request: Request) -> Response {
    let head = request.into_parts().0;
    let work = async {
        authorise(&app, Client::of(&head.extensions), &head.headers)?;
        let filter = filter(&head.uri)?;
        let found = app.store.list(&filter).await.map_err(|e| ApiError::store(&e))?;
        let last = found.last().map(|s| s.seq);
        let next_before = last.filter(|_| found.len() >= filter.limit);
        let page = Page { signals: found.iter().map(SignalView::of).collect(), next_before };
        Ok(answer::json(StatusCode::OK, &page))
    };
    work.await.unwrap_or_else(|error: ApiError| error.into_response())
}

fn filter(uri: &Uri) -> Result<Filter, ApiError> {
    let bad = |field: &str, text: String| ApiError::bad("bad_query", text).field(field);
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|e| bad("", format!("the query cannot be read: {e}")))?;
    let mut filter = Filter { limit: DEFAULT_LIMIT, ..Filter::default() };
    for (key, value) in pairs {
        match key.as_str() {
            "state" => {
                for word in value.split(',').map(str::trim).filter(|w| !w.is_empty()) {
                    let state = SignalState::parse(word).ok_or_else(|| {
                        bad("state", format!("{word:?} is not pending, processed or failed"))
                    })?;
                    filter.states.push(state);
                }
            }
            "trade_pair" => filter.trade_pair = Some(value).filter(|v| !v.is_empty()),
            "limit" => {
                filter.limit = value
                    .parse()
                    .ok()
                    .filter(|n| (1..=MOST).contains(n))
                    .ok_or_else(|| bad("limit", format!("{value:?} is not 1 to {MOST}")))?;
            }
            "before" => {
                let seq = value
                    .parse()
                    .map_err(|_| bad("before", format!("{value:?} is not a seq number")))?;
                filter.before_seq = Some(seq);
            }
            _ => {
                let text =
                    format!("{key:?} is not known here; allowed: state, trade_pair, limit, before");
                return Err(bad(&key, text));
            }
        }
    }
    Ok(filter)
}

type Uuid = Result<Path<String>, PathRejection>;

fn begin(app: &App, uuid: Uuid, head: &Parts) -> Result<OrderUuid, ApiError> {
    authorise(app, Client::of(&head.extensions), &head.headers)?;
    path_uuid(&uuid.map(|p| p.0).unwrap_or_default())
}

pub(crate) async fn show(State(app): State<Arc<App>>, uuid: Uuid, request: Request) -> Response {
    let head = request.into_parts().0;
    let work = async {
        let id = begin(&app, uuid, &head)?;
        match app.store.get(&id).await.map_err(|e| ApiError::store(&e))? {
            Some(stored) => Ok(answer::json(StatusCode::OK, &SignalView::of(&stored))),
            None => Err(ApiError::store(&ptn_core::store::StoreError::NotFound { id })),
        }
    };
    work.await.unwrap_or_else(|error: ApiError| error.into_response())
}

pub(crate) async fn receipt(State(app): State<Arc<App>>, uuid: Uuid, request: Request) -> Response {
    let head = request.into_parts().0;
    let work = async {
        let id = begin(&app, uuid, &head)?;
        match app.store.get(&id).await.map_err(|e| ApiError::store(&e))? {
            Some(stored) => {
                Ok(answer::json_text(StatusCode::OK, Receipt::of(&stored).to_json().to_string()))
            }
            None => Err(ApiError::store(&ptn_core::store::StoreError::NotFound { id })),
        }
    };
    work.await.unwrap_or_else(|error: ApiError| error.into_response())
}

pub(crate) async fn retry(State(app): State<Arc<App>>, uuid: Uuid, request: Request) -> Response {
    let head = request.into_parts().0;
    let work = async {
        let id = begin(&app, uuid, &head)?;
        app.store.retry(&id).await.map_err(|e| ApiError::store(&e))?;
        tracing::info!(order_uuid = %id, "a signal is sent again on request");
        let body = json!({
            "order_uuid": id.as_str(),
            "status": "pending",
            "message": "It is sent again to the validators that did not acknowledge it",
        });
        Ok(answer::json(StatusCode::OK, &body))
    };
    work.await.unwrap_or_else(|error: ApiError| error.into_response())
}

pub(crate) async fn cancel(State(app): State<Arc<App>>, uuid: Uuid, request: Request) -> Response {
    let head = request.into_parts().0;
    let work = async {
        let id = begin(&app, uuid, &head)?;
        app.store.cancel(&id).await.map_err(|e| ApiError::store(&e))?;
        tracing::info!(order_uuid = %id, "a signal is cancelled on request");
        let body = json!({
            "order_uuid": id.as_str(),
            "cancel_requested": true,
            "message": "What was not sent yet is not sent any more; what was sent stays as it is",
        });
        Ok(answer::json(StatusCode::OK, &body))
    };
    work.await.unwrap_or_else(|error: ApiError| error.into_response())
}
