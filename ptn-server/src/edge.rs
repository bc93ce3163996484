//! Around every request: who is calling and how often, panics, counters, one look for all errors.
//!
//! The only layer there is. What a request means is left to the handlers.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{Extensions, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;

use crate::answer::{ApiError, ErrorCode};
use crate::app::{App, Peer};
use crate::net::client_address;
use crate::routes::label;

/// The client's address, behind trusted proxies too.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client(pub(crate) IpAddr);

impl Client {
    pub(crate) fn of(extensions: &Extensions) -> IpAddr {
        extensions.get::<Self>().map_or(crate::listen::NO_ADDRESS, |c| c.0)
    }
}

pub(crate) async fn around(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = label(request.uri().path());
    let peer = Peer::of(&request);
    let client = client_address(peer, request.headers(), &app.config.trusted_proxies);
    request.extensions_mut().insert(Client(client));
    let admitted = admit(&app, client, path)
        .and_then(|()| if stores(path) { app.overload.admits() } else { Ok(()) });
    let response = match admitted {
        Ok(()) => match AssertUnwindSafe(next.run(request)).catch_unwind().await {
            Ok(response) => response,
            Err(_) => {
                tracing::error!(path, "a request handler panicked; this is a bug");
                ApiError::internal().into_response()
            }
        },
        Err(error) => error.into_response(),
    };
    let status = response.status();
    app.metrics().http(path, status.as_u16());
    if status.is_client_error() || status.is_server_error() {
        let code = response.extensions().get::<ErrorCode>().map_or("other", |c| c.0);
        if path.starts_with("/api/") {
            app.metrics().rejected(code);
        }
        tracing::debug!(%client, path, status = status.as_u16(), code, "request refused");
    }
    response
}

/// Whether a request to this path hands a signal to the store.
fn stores(path: &str) -> bool {
    matches!(path, "/api/receive-signal" | "/api/submit-order" | "/api/bracket-orders/batch")
}

fn admit(app: &App, client: IpAddr, path: &'static str) -> Result<(), ApiError> {
    // Health checks come from load balancers that nobody thinks of when writing an allow-list.
    if matches!(path, "/livez" | "/readyz" | "/api/health") {
        return Ok(());
    }
    let allowed = &app.config.allow_from;
    if !allowed.is_empty() && !allowed.iter().any(|n| n.contains(client)) {
        return Err(ApiError::new(StatusCode::FORBIDDEN, "address_not_allowed", "Forbidden"));
    }
    app.limits.address(client)
}
