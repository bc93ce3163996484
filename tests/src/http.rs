//! A small HTTP client for tests: one request on a connection of its own, or many on one.

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper::header::{CONNECTION, HeaderMap};
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
    exchange(address, method, path, headers, body).await.map(|(status, _, body)| (status, body))
}

/// As [`try_request`], with the headers of the answer.
///
/// # Errors
/// When there is no complete answer.
pub async fn exchange(
    address: &str,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<(u16, HeaderMap, Value), Box<dyn std::error::Error + Send + Sync>> {
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
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let bytes = response.into_body().collect().await?.to_bytes();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok((status, headers, serde_json::from_str(&text).unwrap_or(Value::String(text))))
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

/// An answer on a connection that is kept.
#[derive(Debug)]
pub struct Kept {
    /// HTTP status.
    pub status: u16,
    /// Its body.
    pub body: String,
    /// Whether the server said that it closes the connection now.
    pub closes: bool,
}

/// A client that keeps its connection, and opens another one when the server says so.
#[derive(Debug)]
pub struct KeepAlive {
    address: String,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl KeepAlive {
    /// Not connected yet.
    pub fn new(address: &str) -> Self {
        Self { address: address.to_owned(), sender: None }
    }

    /// Posts a signal, once.
    ///
    /// # Errors
    /// When the connection is refused, or ends before the answer.
    pub async fn receive_signal(&mut self, signal: &str) -> Result<Kept, String> {
        let mut sender = match self.sender.take() {
            Some(sender) => sender,
            None => {
                let stream = TcpStream::connect(&self.address);
                let stream = stream.await.map_err(|e| format!("connect: {e}"))?;
                let opened = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
                let (sender, connection) = opened.map_err(|e| format!("handshake: {e}"))?;
                tokio::spawn(connection);
                sender
            }
        };
        let body = format!(r#"{{"api_key":"test-key",{}"#, signal.trim_start_matches('{'));
        let request = Request::post("/api/receive-signal")
            .header("host", &self.address)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        let response = sender.send_request(request).await.map_err(|e| format!("send: {e:?}"))?;
        let status = response.status().as_u16();
        let closes = response.headers().get(CONNECTION).is_some_and(|value| value == "close");
        let body = response.into_body().collect().await.map_err(|e| format!("body: {e:?}"))?;
        if !closes {
            // Ready at once after a whole answer.
            sender.ready().await.map_err(|e| format!("kept: {e:?}"))?;
            self.sender = Some(sender);
        }
        let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        Ok(Kept { status, body, closes })
    }
}
