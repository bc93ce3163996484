//! Connections: accepting them, their number, their deadlines, and ending them in peace.
//!
//! hyper's timers are installed by hand, because a server without them waits for ever for a client
//! that sends nothing. Every wait on a client has a deadline: the head (also the first byte and the
//! idle time between requests), the body (in `body`), the reading of an answer. A handler whose
//! client half-closes is still run to its end. At the end every answer says that its connection
//! closes, and only connections that stay idle are closed without one. What a request means is left to `routes`; TLS would
//! go between `serve`'s socket and `connection`, which takes any byte stream.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use ptn_core::ops::process::open_files;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use crate::app::{App, Peer};
use crate::limits::subnet;
use crate::routes;

/// Stands for a client whose address is not known.
pub(crate) const NO_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// The pause after the process ran out of file descriptors: connections that end free some.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Of the grace, the part that is kept to answer those who still wait for validators.
const HURRY: Duration = Duration::from_secs(1);

/// Descriptors that callers never get: for the store, the validators and the chain.
const KEPT_FREE: usize = 256;
/// The most connections that are taken from the kernel's queue at the end.
const BACKLOG: usize = 4096;
/// How long an idle connection stays open once the server leaves: a request that is on its way is
/// answered, with the word that the connection closes after it.
const LINGER: Duration = Duration::from_secs(1);
/// How long, how much and for how many at once is still read from clients that were turned away:
/// closing on unread bytes would reset the connection, and the answer with it.
const LAST_WORDS: Duration = Duration::from_millis(500);
const LAST_BYTES: usize = 64 * 1024;
const TURNED_AWAY: usize = 64;

const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 2\r\nconnection: close\r\ncontent-length: 86\r\n\r\n{\"error\":\"Too many connections. Please try again soon.\",\"code\":\"too_many_connections\"}";

/// Accepts connections until `shutdown`, then lets the running requests finish.
pub(crate) async fn serve(
    app: Arc<App>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
) {
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, rules = %app.rules.era, "listening for signals");
    }
    let stop = CancellationToken::new();
    let behind = TaskTracker::new();
    for task in 0..2 {
        let (app, stop) = (app.clone(), stop.clone());
        behind.spawn(async move {
            if task == 0 { app.follow_events(stop).await } else { app.keep_house(stop).await }
        });
    }
    let connections = TaskTracker::new();
    let door = Door::new(&app, &connections);
    accept(&door, &listener, shutdown).await;
    door.empty(listener);
    app.draining.cancel();
    connections.close();
    let grace = app.config.grace;
    let hurry = tokio::time::timeout(grace.saturating_sub(HURRY), connections.wait()).await;
    if hurry.is_err() {
        app.hurry.cancel();
        if tokio::time::timeout(grace.min(HURRY), connections.wait()).await.is_err() {
            tracing::warn!(
                open = connections.len(),
                "connections were cut at the end of the grace"
            );
        }
    }
    stop.cancel();
    behind.close();
    behind.wait().await;
}

/// Who is let in, and where they are served.
struct Door {
    app: Arc<App>,
    router: axum::Router,
    connections: TaskTracker,
    seats: Arc<Semaphore>,
    per_address: Arc<PerAddress>,
    last_words: Arc<Semaphore>,
}

impl Door {
    fn new(app: &Arc<App>, connections: &TaskTracker) -> Self {
        Self {
            router: routes::router(app.clone()),
            connections: connections.clone(),
            seats: Arc::new(Semaphore::new(seats(app.config.max_connections, open_files()))),
            per_address: Arc::default(),
            last_words: Arc::new(Semaphore::new(TURNED_AWAY)),
            app: app.clone(),
        }
    }

    fn enter(&self, stream: TcpStream, peer: SocketAddr) {
        let config = &self.app.config;
        let ip = peer.ip().to_canonical();
        let most = config.max_connections_per_address;
        let is_proxy = config.trusted_proxies.iter().any(|n| n.contains(ip));
        let place = match self.per_address.take(ip, if is_proxy { usize::MAX } else { most }) {
            Some(place) => self.seats.clone().try_acquire_owned().ok().map(|seat| (place, seat)),
            None => None,
        };
        let Some(place) = place else {
            self.app.metrics().turned_away();
            let last = self.last_words.clone().try_acquire_owned().ok();
            turn_away(stream, last);
            return;
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY was refused");
        }
        let stream = Timed::new(stream, config.write_timeout);
        let (app, router) = (self.app.clone(), self.router.clone());
        self.connections.spawn(async move {
            app.metrics().connection(1);
            connection(&app, router, stream, ip).await;
            app.metrics().connection(-1);
            drop(place);
        });
    }

    /// Closes the socket. Connections that the kernel has taken already would be reset by that, so
    /// they are let in before.
    fn empty(&self, listener: TcpListener) {
        let Ok(listener) = listener.into_std() else { return };
        for _ in 0..BACKLOG {
            // It does not block: it was tokio's.
            let Ok((stream, peer)) = listener.accept() else { return };
            if stream.set_nonblocking(true).is_ok()
                && let Ok(stream) = TcpStream::from_std(stream)
            {
                self.enter(stream, peer);
            }
        }
    }
}

async fn accept(door: &Door, listener: &TcpListener, shutdown: impl Future<Output = ()> + Send) {
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => door.enter(stream, peer),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::error!(%error, "accepting a connection failed; pausing");
                tokio::select! {
                    () = &mut shutdown => return,
                    () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                }
            }
        }
    }
}

/// How many connections there may be: what is wished for, but never so many that nothing is left to
/// open files and reach validators with.
fn seats(wished: usize, open_files: Option<usize>) -> usize {
    let Some(files) = open_files else { return wished };
    let room = files.saturating_sub((files / 2).min(KEPT_FREE)).max(1);
    if room < wished {
        tracing::warn!(
            connections = room,
            wished,
            open_files = files,
            "fewer connections than server.max-connections, because the process may not open more files; raise its limit (ulimit -n, LimitNOFILE)"
        );
    }
    wished.min(room)
}

/// Serves one connection; any byte stream will do.
async fn connection<S>(app: &App, router: axum::Router, stream: S, peer: IpAddr)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let draining = &app.draining;
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let mut request: Request = request.map(Body::new);
        request.extensions_mut().insert(Peer(peer));
        let answer = router.clone().call(request);
        async move {
            let mut answer = answer.await?;
            if draining.is_cancelled() {
                let close = HeaderValue::from_static("close");
                answer.headers_mut().insert(header::CONNECTION, close);
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(app.config.header_timeout)
        .max_headers(64)
        .max_buf_size(64 * 1024)
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = leaves(app) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%peer, %error, "a connection ended early");
    }
}

/// Ready when connections that still wait for a request are to be closed.
async fn leaves(app: &App) {
    app.draining.cancelled().await;
    tokio::time::sleep(LINGER.min(app.config.grace / 2)).await;
}

/// Errors of `accept` that concern only the connection that was about to be accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Says why and closes. Only with a permit, and not for long, it waits for the client.
fn turn_away(mut stream: TcpStream, last_words: Option<OwnedSemaphorePermit>) {
    if let Err(error) = stream.try_write(BUSY) {
        tracing::debug!(%error, "a connection too many was closed without a word");
        return;
    }
    let Some(permit) = last_words else { return };
    tokio::spawn(async move {
        let read = async {
            stream.shutdown().await?;
            let mut piece = [0; 4096];
            let mut left = LAST_BYTES;
            while left > 0 {
                match stream.read(&mut piece).await? {
                    0 => break,
                    n => left = left.saturating_sub(n),
                }
            }
            io::Result::Ok(())
        };
        // However it ends, it is over.
        drop(tokio::time::timeout(LAST_WORDS, read).await);
        drop(permit);
    });
}

/// How many connections each address has.
#[derive(Debug, Default)]
struct PerAddress(Mutex<HashMap<IpAddr, usize>>);

/// One connection of an address.
#[derive(Debug)]
struct Place {
    counts: Arc<PerAddress>,
    address: IpAddr,
}

impl PerAddress {
    fn take(self: &Arc<Self>, address: IpAddr, most: usize) -> Option<Place> {
        let address = subnet(address);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_insert(0);
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Place { counts: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

/// A stream whose writes must get on: a client that never reads its answers loses the connection.
#[derive(Debug)]
struct Timed<S> {
    stream: S,
    time: Duration,
    stuck: Option<Pin<Box<Sleep>>>,
}

impl<S> Timed<S> {
    fn new(stream: S, time: Duration) -> Self {
        Self { stream, time, stuck: None }
    }

    /// Starts the clock when a write has to wait, stops it when one gets on.
    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stuck = None;
            return polled;
        }
        let deadline = Instant::now() + self.time;
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        match stuck.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Timed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.watch(cx, polled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_never_get_every_descriptor() {
        assert_eq!(seats(1000, None), 1000);
        assert_eq!(seats(1000, Some(20_000)), 1000);
        assert_eq!(seats(1000, Some(1024)), 768);
        assert_eq!(seats(1000, Some(64)), 32);
        assert_eq!(seats(10, Some(64)), 10);
        assert_eq!(seats(10, Some(1)), 1);
    }

    #[test]
    fn the_answer_to_a_connection_too_many_is_well_formed() {
        let text = std::str::from_utf8(BUSY).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(&format!("content-length: {}\r", body.len()))
                || head.ends_with(&format!("content-length: {}", body.len())),
            "{}",
            body.len()
        );
        serde_json::from_str::<serde_json::Value>(body).unwrap();
    }
}
