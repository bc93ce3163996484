//! A small HTTP client for `ptn-server`: one request per connection, deadlines on everything.
//!
//! It tells whether a request may have arrived, because a signal must not be repeated blindly.
//! Validators are never called from here; that is left to `ptn_core::transport`.

use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use ptn_core::ops::process;
use tokio::net::TcpStream;

use crate::failure::Failure;

/// The longest answer that is read.
const MAX_ANSWER: usize = 16 * 1024 * 1024;
const CONNECT: Duration = Duration::from_secs(5);

/// A server: `http://host:port`, perhaps with a path in front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    authority: String,
    host: String,
    port: u16,
    prefix: String,
    key: Option<String>,
}

/// A request.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// Its method.
    pub method: Method,
    /// Path and query, from `/`.
    pub path: &'a str,
    /// Content type and body.
    pub body: Option<(&'a str, String)>,
    /// For the whole exchange.
    pub timeout: Duration,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Body.
    pub body: Vec<u8>,
}

impl Server {
    /// Reads a `--url`, and keeps the key for every request.
    ///
    /// # Errors
    /// When it is not a plain http URL.
    pub fn new(url: &str, key: Option<String>) -> Result<Self, Failure> {
        let bad = |why: &str| Failure::usage(format!("--url {url}: {why}"));
        if url.starts_with("https://") {
            let hint = "call the server itself, or a tunnel to it: http://127.0.0.1:8088";
            return Err(bad("https is not spoken here").hint(hint));
        }
        let rest = url.strip_prefix("http://").unwrap_or(url);
        if rest.contains("://") || rest.contains('@') {
            return Err(bad("expected http://HOST:PORT"));
        }
        let (authority, prefix) = match rest.split_once('/') {
            Some((authority, path)) => (authority, format!("/{path}")),
            None => (rest, String::new()),
        };
        // A whole endpoint is taken for its server.
        let prefix = prefix.find("/api/").and_then(|at| prefix.get(..at)).unwrap_or(&prefix);
        let bare_v6 = authority.ends_with(']');
        let (host, port) = match authority.rsplit_once(':').filter(|_| !bare_v6) {
            Some((host, port)) => (host, port.parse().map_err(|_| bad("no such port"))?),
            None => (authority, 80),
        };
        if host.is_empty() {
            return Err(bad("expected http://HOST:PORT"));
        }
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let prefix = prefix.trim_end_matches('/').to_owned();
        Ok(Self { authority: authority.to_owned(), host, port, prefix, key })
    }

    /// Its address, for texts.
    pub fn name(&self) -> String {
        format!("http://{}{}", self.authority, self.prefix)
    }

    /// Calls it and reads the whole answer.
    ///
    /// # Errors
    /// Exit code 4 when it was certainly not reached, 6 when the answer was lost.
    pub async fn call(&self, call: Call<'_>) -> Result<Answer, Failure> {
        let timeout = call.timeout;
        let lost = |why: String| {
            let text = format!("the answer of {} was lost ({why})", self.name());
            Failure::new(process::UNKNOWN, "answer_lost", text)
        };
        let exchange = async {
            let response = self.open(call).await?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            let body = body.map_err(|e| lost(e.to_string()))?.to_bytes().to_vec();
            Ok(Answer { status, body })
        };
        tokio::time::timeout(timeout, exchange)
            .await
            .unwrap_or_else(|_| Err(lost(format!("nothing within {} s", timeout.as_secs()))))
    }

    /// Calls it and gives the answer while its body is still coming.
    ///
    /// # Errors
    /// As [`Server::call`].
    pub async fn open(&self, call: Call<'_>) -> Result<Response<Incoming>, Failure> {
        let unreachable = |why: String| {
            let text = format!("{} cannot be reached: {why}", self.name());
            Failure::new(process::UNREACHABLE, "unreachable", text)
                .hint("is ptn-server (or ptn-miner with --server.listen) running there?")
        };
        let connecting = TcpStream::connect((self.host.as_str(), self.port));
        let stream = tokio::time::timeout(CONNECT, connecting)
            .await
            .map_err(|_| unreachable("no answer to the connection within 5 s".to_owned()))?
            .map_err(|e| unreachable(e.to_string()))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| unreachable(e.to_string()))?;
        // Its errors reach us through the sender.
        tokio::spawn(async move { connection.await.ok() });
        let request = self.request(call)?;
        sender.send_request(request).await.map_err(|e| {
            let text = format!("the answer of {} was lost ({e})", self.name());
            Failure::new(process::UNKNOWN, "answer_lost", text)
        })
    }

    fn request(&self, call: Call<'_>) -> Result<Request<Full<Bytes>>, Failure> {
        let mut request = Request::builder()
            .method(call.method)
            .uri(format!("{}{}", self.prefix, call.path))
            .header(HOST, &self.authority);
        if let Some(key) = &self.key {
            let mut value = HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| {
                Failure::usage("the API key has characters that no header can carry")
            })?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let body = call.body.map(|(content_type, text)| {
            if let Some(headers) = request.headers_mut()
                && let Ok(value) = HeaderValue::from_str(content_type)
            {
                headers.insert(CONTENT_TYPE, value);
            }
            Bytes::from(text)
        });
        request
            .body(Full::new(body.unwrap_or_default()))
            .map_err(|e| Failure::usage(format!("--url {}: {e}", self.name())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_in_the_ways_that_people_write_them() {
        for (url, name, host, port) in [
            ("http://127.0.0.1:8088", "http://127.0.0.1:8088", "127.0.0.1", 8088),
            ("localhost:8088/", "http://localhost:8088", "localhost", 8088),
            ("http://h/p/api/submit-order", "http://h/p", "h", 80),
            ("http://[::1]:9", "http://[::1]:9", "::1", 9),
        ] {
            let server = Server::new(url, None).unwrap();
            assert_eq!((server.name().as_str(), server.host.as_str()), (name, host));
            assert_eq!(server.port, port);
        }
        for bad in ["https://h", "ftp://h", "http://", "http://h:99999", "http://user@h"] {
            assert_eq!(Server::new(bad, None).unwrap_err().exit, process::USAGE, "{bad}");
        }
    }
}
