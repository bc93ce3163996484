//! The sockets of a loopback validator: routes, faults on the wire, answers.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{
    CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER,
};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::answer::{Order, rate_limited};
use super::fault::{Fault, millis};
use super::{Shared, Verdict};
use crate::directory::Wire;
use crate::transport::{btauth, synapse};

/// The longest request that is read.
const MAX_REQUEST: usize = 1024 * 1024;
/// What a huge answer is made of.
const CHUNK: usize = 16 * 1024;

type Body = UnsyncBoxBody<Bytes, Broken>;
type Answer = Result<Response<Body>, Broken>;

/// Ends a connection without (the rest of) an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is dropped on purpose")]
pub(super) struct Broken;

/// Accepts connections until it is stopped.
pub(super) async fn run(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                // Out of descriptors, or a client that is gone already.
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                }
            },
        };
        shared.tasks.spawn(connection(stream, Arc::clone(&shared), stop.clone()));
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>, stop: CancellationToken) {
    // Small answers should leave at once; without it they only leave later.
    stream.set_nodelay(true).unwrap_or_default();
    let service = service_fn(|request| answer(request, &shared));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        () = stop.cancelled() => {}
        // Its errors are broken clients, or faults of ours.
        _ = connection => {}
    }
}

async fn answer(request: Request<Incoming>, shared: &Shared) -> Answer {
    let mut response = respond(request, shared).await?;
    let ahead = shared.judge.options.clock_ahead_ms;
    if ahead != 0 {
        response.headers_mut().insert(DATE, date(ahead));
    }
    Ok(response)
}

async fn respond(request: Request<Incoming>, shared: &Shared) -> Answer {
    if shared.faults.take(true).is_some() {
        shared.record_fault(&Fault::DropUnread);
        return Err(Broken);
    }
    let only = shared.judge.options.wire;
    let path = request.uri().path();
    let wire = match path {
        btauth::PATH if only != Some(Wire::Dendrite) => Wire::Btauth,
        synapse::PATH if only != Some(Wire::Btauth) => Wire::Dendrite,
        _ => return Ok(no_such_route(path, only == Some(Wire::Dendrite))),
    };
    if request.method() != Method::POST {
        return Ok(plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed"));
    }
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, MAX_REQUEST).collect().await else {
        return Ok(plain(StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large"));
    };
    let body = body.to_bytes();
    let target = head.uri.path_and_query().map_or(path_of(wire), |target| target.as_str());
    let order = match shared.judge.admit(wire, target, &head.headers, &body) {
        Ok(order) => order,
        Err(refusal) => {
            let status = refusal.status;
            let verdict = Verdict::Refused { status: status.as_u16(), reason: refusal.reason };
            shared.record(wire, &refusal.sender, "", None, verdict);
            return Ok(json(status, refusal.body, wire));
        }
    };
    match shared.faults.take(false) {
        None => Ok(processed(shared, wire, &order, shared.judge.hotkey()).await),
        Some(fault) => misbehave(shared, wire, &order, fault).await,
    }
}

async fn processed(shared: &Shared, wire: Wire, order: &Order, hotkey: &str) -> Response<Body> {
    let (verdict, order_json) = shared.judge.process(order).await;
    concluded(shared, wire, order, hotkey, verdict, order_json)
}

fn concluded(
    shared: &Shared,
    wire: Wire,
    order: &Order,
    hotkey: &str,
    verdict: Verdict,
    order_json: Option<String>,
) -> Response<Body> {
    let n = shared.next_n();
    let reply = shared.judge.reply(order, &verdict, order_json, hotkey, n);
    shared.record_order(wire, order, verdict);
    json(StatusCode::OK, reply, wire)
}

async fn misbehave(shared: &Shared, wire: Wire, order: &Order, fault: Fault) -> Answer {
    let own = shared.judge.hotkey();
    let unprocessed = |fault: &Fault| {
        shared.record_order(wire, order, Verdict::Fault { name: fault.name().to_owned() });
    };
    Ok(match fault {
        Fault::Fail { message, should_retry } => {
            let verdict = Verdict::Failed { message, should_retry: Some(should_retry) };
            concluded(shared, wire, order, own, verdict, None)
        }
        Fault::RateLimit { seconds } => {
            // The network leaves should_retry as it was sent.
            let verdict = Verdict::Failed { message: rate_limited(seconds), should_retry: None };
            concluded(shared, wire, order, own, verdict, None)
        }
        Fault::Delay { ms } => {
            tokio::time::sleep(millis(ms)).await;
            processed(shared, wire, order, own).await
        }
        Fault::LoseAnswer => {
            processed(shared, wire, order, own).await;
            return Err(Broken);
        }
        Fault::Truncate => {
            processed(shared, wire, order, own).await;
            let piece =
                stream::iter([Ok(Frame::data(Bytes::from_static(b"{\"succ"))), Err(Broken)]);
            let mut response = Response::new(StreamBody::new(piece).boxed_unsync());
            response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("400"));
            response
        }
        Fault::WrongHotkey => {
            let other = crate::sign::ss58::encode(&[7; 32]);
            processed(shared, wire, order, &other).await
        }
        Fault::WrongOrder => {
            let other = processed(shared, wire, order, own).await;
            let text = format!(
                r#"{{"successfully_processed":true,"validator_hotkey":"{own}","miner_order_uuid":"other"}}"#
            );
            json(other.status(), text, wire)
        }
        Fault::Hang => {
            unprocessed(&Fault::Hang);
            std::future::pending().await
        }
        Fault::DropUnread | Fault::DropRead => {
            unprocessed(&fault);
            return Err(Broken);
        }
        Fault::Http { status, ref message, retry_after } => {
            unprocessed(&fault);
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let text = crate::json::Json::from(message.as_str());
            let mut response = json(status, format!(r#"{{"error":{text}}}"#), wire);
            if let Some(seconds) = retry_after {
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
            }
            response
        }
        Fault::Redirect { ref location } => {
            unprocessed(&fault);
            let mut response = plain(StatusCode::TEMPORARY_REDIRECT, "");
            if let Ok(location) = HeaderValue::from_str(location) {
                response.headers_mut().insert(LOCATION, location);
            }
            response
        }
        Fault::Garbage => {
            unprocessed(&fault);
            plain(StatusCode::OK, "<html><body>welcome</body></html>")
        }
        Fault::Huge => {
            unprocessed(&fault);
            let endless =
                stream::repeat_with(|| Ok(Frame::data(Bytes::from_static(&[b' '; CHUNK]))));
            Response::new(StreamBody::new(endless).boxed_unsync())
        }
        Fault::Trickle { ms } => {
            unprocessed(&fault);
            let bytes = stream::unfold((), move |()| async move {
                tokio::time::sleep(millis(ms)).await;
                Some((Ok(Frame::data(Bytes::from_static(b" "))), ()))
            });
            Response::new(StreamBody::new(bytes).boxed_unsync())
        }
    })
}

const fn path_of(wire: Wire) -> &'static str {
    match wire {
        Wire::Btauth => btauth::PATH,
        Wire::Dendrite => synapse::PATH,
    }
}

fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(full(text));
    *response.status_mut() = status;
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, html);
    response
}

fn json(status: StatusCode, text: String, wire: Wire) -> Response<Body> {
    let mut response = Response::new(full(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if wire == Wire::Dendrite {
        axon_headers(headers, status);
    }
    response
}

/// By these an axon is known.
fn axon_headers(headers: &mut HeaderMap, status: StatusCode) {
    let status = HeaderValue::from(status.as_u16());
    headers.insert(HeaderName::from_static("bt_header_axon_status_code"), status);
    let message = HeaderValue::from_static("see the body");
    headers.insert(HeaderName::from_static("bt_header_axon_status_message"), message);
}

/// What the peers say to a path that they do not have; each gives itself away by it.
fn no_such_route(path: &str, axon: bool) -> Response<Body> {
    if !axon {
        return plain(
            StatusCode::NOT_FOUND,
            "<!doctype html>\n<html lang=en>\n<title>404 Not Found</title>\n<h1>Not Found</h1>\n",
        );
    }
    let name = path.split('/').nth(1).unwrap_or_default();
    let text = crate::json::Json::from(format!(
        "Synapse name '{name}' not found. Available synapses ['Synapse', 'SendSignal']"
    ));
    json(StatusCode::NOT_FOUND, format!(r#"{{"message":{text}}}"#), Wire::Dendrite)
}

fn date(ahead_ms: i64) -> HeaderValue {
    let shift = Duration::from_millis(ahead_ms.unsigned_abs());
    let now = SystemTime::now();
    let time = if ahead_ms >= 0 { now.checked_add(shift) } else { now.checked_sub(shift) };
    jiff::Timestamp::try_from(time.unwrap_or(now))
        .ok()
        .and_then(|t| {
            jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&t).ok()
        })
        .and_then(|text| HeaderValue::try_from(text).ok())
        .unwrap_or_else(|| HeaderValue::from_static(""))
}
