//! A small HTTP client for tests: one request on a connection of its own.

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// Status and JSON body (a string when it is no JSON).
pub async fn request(
    address: &str,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (u16, Value) {
    try_request(address, method, path, headers, body).await.unwrap()
}

/// As [`request`], to a server that may be down or die meanwhile.
///
/// # Errors
/// When there is no complete answer.
pub async fn try_request(
    address: &str,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<(u16, Value), Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header("host", address);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(body.to_owned())))?;
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await?.to_bytes();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
}

/// Posts as TradingView does: text/plain, the key in the body.
pub async fn receive_signal(address: &str, signal: &str) -> (u16, Value) {
    try_receive_signal(address, signal).await.unwrap()
}

/// As [`receive_signal`], to a server that may be down or die meanwhile.
///
/// # Errors
/// When there is no complete answer.
pub async fn try_receive_signal(
    address: &str,
    signal: &str,
) -> Result<(u16, Value), Box<dyn std::error::Error + Send + Sync>> {
    let body = format!(r#"{{"api_key":"test-key",{}"#, signal.trim_start_matches('{'));
    let headers = [("content-type", "text/plain; charset=utf-8")];
    try_request(address, Method::POST, "/api/receive-signal", &headers, &body).await
}

/// Posts as a bot does, and waits for the network's answer.
pub async fn submit_order(address: &str, signal: &str) -> (u16, Value) {
    let headers = [("content-type", "application/json"), ("authorization", "Bearer test-key")];
    request(address, Method::POST, "/api/submit-order", &headers, signal).await
}
