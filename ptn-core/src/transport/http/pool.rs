//! Connections to validators: opening them, and keeping a few idle ones for the next order.
//!
//! Not hyper-util's pooled client, because that repeats requests by itself; here the caller learns
//! exactly whether a request was written. A connection is idle for less time than any known server
//! keeps it open, so an order rarely meets one that is just being closed.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

/// The head of an answer may have this many headers and bytes.
const MAX_HEADERS: usize = 100;
const MAX_BUFFER: usize = 32 * 1024;
/// How long a pooled connection may take to be ready; it is at once unless something is wrong.
const READY_WITHIN: Duration = Duration::from_millis(500);

/// An open connection. Dropping it closes it, whatever it was doing.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) sender: SendRequest<Full<Bytes>>,
    /// Whether it was opened for an earlier order, or ahead of time.
    pub(super) pooled: bool,
    task: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why there is no connection. Nothing was sent.
#[derive(Debug)]
pub(super) enum ConnectError {
    Timeout(Duration),
    Io(io::Error),
    Http(hyper::Error),
}

/// Idle connections by address.
#[derive(Debug)]
pub(super) struct Pool {
    connect_timeout: Duration,
    reuse_idle: Duration,
    max_idle: usize,
    idle: Mutex<Idle>,
}

#[derive(Debug)]
struct Idle {
    /// The youngest last, with the time since when it is idle.
    by_address: HashMap<SocketAddr, Vec<(Connection, Instant)>>,
    next_sweep: Option<Instant>,
}

impl Pool {
    pub(super) fn new(connect_timeout: Duration, reuse_idle: Duration, max_idle: usize) -> Self {
        let idle = Idle { by_address: HashMap::new(), next_sweep: None };
        Self { connect_timeout, reuse_idle, max_idle, idle: Mutex::new(idle) }
    }

    /// Whether connections are kept at all.
    pub(super) fn keeps(&self) -> bool {
        !self.reuse_idle.is_zero() && self.max_idle > 0
    }

    /// An idle connection to this address, if there is a living one.
    pub(super) async fn take(&self, address: SocketAddr, deadline: Instant) -> Option<Connection> {
        while let Some(mut connection) = self.pop(address) {
            if connection.sender.is_ready() {
                return Some(connection);
            }
            // The connection's task has not yet noticed that the last answer was its end.
            let by = deadline.min(Instant::now() + READY_WITHIN);
            if matches!(timeout_at(by, connection.sender.ready()).await, Ok(Ok(()))) {
                return Some(connection);
            }
        }
        None
    }

    fn pop(&self, address: SocketAddr) -> Option<Connection> {
        if !self.keeps() {
            return None;
        }
        let now = Instant::now();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let list = idle.by_address.get_mut(&address)?;
        while let Some((connection, since)) = list.pop() {
            if now.duration_since(since) >= self.reuse_idle {
                // All others have been idle for longer.
                list.clear();
            } else if !connection.sender.is_closed() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection for the next order.
    pub(super) fn put(&self, address: SocketAddr, mut connection: Connection) {
        if !self.keeps() || connection.sender.is_closed() {
            return;
        }
        connection.pooled = true;
        let now = Instant::now();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.next_sweep.is_none_or(|at| now >= at) {
            // Validators come and go; nothing of those that went may stay.
            idle.next_sweep = Some(now + self.reuse_idle);
            idle.by_address.retain(|_, list| {
                list.retain(|(c, since)| {
                    now.duration_since(*since) < self.reuse_idle && !c.sender.is_closed()
                });
                !list.is_empty()
            });
        }
        let list = idle.by_address.entry(address).or_default();
        if list.len() < self.max_idle {
            list.push((connection, now));
        }
    }

    /// Whether an idle connection waits for this address.
    pub(super) fn has_idle(&self, address: SocketAddr) -> bool {
        let now = Instant::now();
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.by_address.get(&address).is_some_and(|list| {
            list.iter().any(|(c, since)| {
                now.duration_since(*since) < self.reuse_idle && !c.sender.is_closed()
            })
        })
    }

    /// Opens a connection.
    pub(super) async fn open(
        &self,
        address: SocketAddr,
        deadline: Instant,
    ) -> Result<Connection, ConnectError> {
        let start = Instant::now();
        let by = deadline.min(start + self.connect_timeout);
        let stream = timeout_at(by, TcpStream::connect(address))
            .await
            .map_err(|_| ConnectError::Timeout(by.saturating_duration_since(start)))?
            .map_err(ConnectError::Io)?;
        stream.set_nodelay(true).map_err(ConnectError::Io)?;
        handshake(stream, address).await.map_err(ConnectError::Http)
    }
}

/// HTTP on an open stream, within our limits.
pub(super) async fn handshake<S>(stream: S, address: SocketAddr) -> hyper::Result<Connection>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_BUFFER)
        .handshake(TokioIo::new(stream))
        .await?;
    let task = tokio::spawn(async move {
        // Its errors reach whoever waits for an answer on it; an idle one ends quietly.
        if let Err(error) = connection.await {
            tracing::trace!(%address, %error, "connection to a validator ended");
        }
    });
    Ok(Connection { sender, pooled: false, task: task.abort_handle() })
}
