//! `HttpTransport`: one attempt to one validator over HTTP/1.1, on either wire.
//!
//! The only place that opens sockets to validators. It answers two questions exactly: what did the
//! validator say, and if nothing usable, may the order have arrived? It never repeats what may have
//! been written, follows no redirect, asks no proxy and no name server. Everything that comes back
//! is bounded in size and, from the first byte of connecting on, by one deadline. Whether to try
//! again is left to [`crate::deliver`].

mod pool;
mod reply;

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Uri};
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, timeout_at};

use self::pool::{ConnectError, Connection, Pool};
use self::reply::BadReply;
use super::address::AddressPolicy;
use super::{
    Certainty, Header, OutboundOrder, TransportError, ValidatorReply, ValidatorTransport, btauth,
    nonce, synapse,
};
use crate::directory::{Validator, Wire};
use crate::record::SignedRequest;
use crate::sign::{SignError, Signer};
use crate::text::printable;

/// How an [`HttpTransport`] behaves.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HttpOptions {
    /// Which addresses may be called.
    pub policy: AddressPolicy,
    /// Connecting may take this long, or until the deadline if that is earlier.
    pub connect_timeout: Duration,
    /// How long an idle connection is kept for the next order. Validators close theirs after five
    /// seconds. Zero opens a fresh one for every attempt: for rule sets under which an order whose
    /// answer was lost cannot be repeated, since a reused connection can end under one's hands.
    pub reuse_idle: Duration,
    /// Idle connections kept per validator.
    pub max_idle_per_validator: usize,
    /// The longest answer that is read, in bytes.
    pub max_answer: usize,
    /// Where our own axon is registered, if anywhere: it is in the list too and never called.
    pub own_address: Option<SocketAddr>,
    /// On the dendrite wire: whether validators hash the signal, as all do since June 2024.
    /// Earlier ones hash nothing.
    pub hash_signal: bool,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            policy: AddressPolicy::Public,
            connect_timeout: Duration::from_secs(5),
            reuse_idle: Duration::from_secs(4),
            max_idle_per_validator: 4,
            max_answer: 64 * 1024,
            own_address: None,
            hash_signal: true,
        }
    }
}

/// What is computed once per order and wire.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    btauth: OnceLock<btauth::Body>,
    dendrite: OnceLock<Result<synapse::Tail, String>>,
}

/// Delivers over HTTP, signing as one hotkey. Needs a tokio runtime when used, not when made.
pub struct HttpTransport {
    signer: Arc<dyn Signer>,
    options: HttpOptions,
    pool: Pool,
}

impl fmt::Debug for HttpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTransport")
            .field("hotkey", &self.signer.hotkey())
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl HttpTransport {
    /// A transport that signs with `signer`.
    pub fn new(signer: Arc<dyn Signer>, options: HttpOptions) -> Self {
        let pool =
            Pool::new(options.connect_timeout, options.reuse_idle, options.max_idle_per_validator);
        Self { signer, options, pool }
    }

    /// Whether an idle connection to this validator waits for the next order.
    pub fn has_idle(&self, to: &Validator) -> bool {
        self.pool.has_idle(to.address())
    }

    fn check_address(&self, place: &Place<'_>) -> Result<(), TransportError> {
        let refused = |why: &str| {
            place.error(
                Certainty::NotSent,
                "address_refused",
                format_args!(
                    "{why}: not called; the validator must correct its address on the chain, or \
                     allow private addresses if this is your own local network"
                ),
            )
        };
        if self.options.own_address == Some(place.address) {
            return Err(refused("this is our own address"));
        }
        self.options.policy.check(place.address).map_err(refused)
    }

    /// Signs and builds the request of this attempt.
    fn request(
        &self,
        to: &Validator,
        order: &OutboundOrder,
        place: &Place<'_>,
        deadline: Instant,
        nonce: u64,
    ) -> Result<(Request<Full<Bytes>>, SignedRequest), TransportError> {
        let prepared = order.cache.get_or_init(Arc::default);
        let signing = |e: SignError| {
            place.error(
                Certainty::NotSent,
                "signing",
                format_args!("{e}; nothing was sent; make the key available"),
            )
        };
        let (path, headers, body) = match to.wire {
            Wire::Btauth => {
                let body = prepared.btauth.get_or_init(|| btauth::Body::of_order(order));
                let headers =
                    btauth::headers(&*self.signer, &to.hotkey, body, nonce).map_err(signing)?;
                (btauth::PATH, headers, body.bytes.clone())
            }
            Wire::Dendrite => {
                let tail = self.tail(order, prepared, place)?;
                let mut uuid = uuid::Uuid::encode_buffer();
                let remaining = deadline.saturating_duration_since(Instant::now());
                let attempt = synapse::Attempt {
                    address: place.address,
                    receiver: &to.hotkey,
                    own_ip: self.options.own_address.map(|a| a.ip()),
                    nonce,
                    uuid: uuid::Uuid::new_v4().hyphenated().encode_lower(&mut uuid),
                    timeout_s: remaining.as_millis().div_ceil(1000).max(1).try_into().unwrap_or(1),
                    body_hash: if self.options.hash_signal {
                        tail.body_hash()
                    } else {
                        synapse::NO_FIELDS_HASH
                    },
                };
                let (headers, body) =
                    synapse::request(&*self.signer, tail, &attempt).map_err(signing)?;
                (synapse::PATH, headers, Bytes::from(body))
            }
        };
        let sha256 = digest(path, place.address, &headers, &body);
        let signed =
            SignedRequest { at: now_ms(), nonce, sha256, code: String::new(), answered_at: None };
        let request = build(path, place.address, headers, body).map_err(|reason| {
            place.error(
                Certainty::NotSent,
                "not_sendable",
                format_args!("the request cannot be built ({reason}); check the hotkeys"),
            )
        })?;
        Ok((request, signed))
    }

    fn tail<'p>(
        &self,
        order: &OutboundOrder,
        prepared: &'p Prepared,
        place: &Place<'_>,
    ) -> Result<&'p synapse::Tail, TransportError> {
        let tail = prepared.dendrite.get_or_init(|| synapse::Tail::of_order(order));
        tail.as_ref().map_err(|reason| {
            place.error(
                Certainty::NotSent,
                "not_sendable",
                format_args!(
                    "{reason}, so validators on the dendrite wire would disagree about its hash; \
                     nothing was sent; take it out of the signal"
                ),
            )
        })
    }

    async fn open(
        &self,
        place: &Place<'_>,
        deadline: Instant,
    ) -> Result<Connection, TransportError> {
        self.pool.open(place.address, deadline).await.map_err(|error| match error {
            ConnectError::Timeout(after) => place.error(
                Certainty::NotSent,
                "connect_timeout",
                format_args!("no connection within {after:.1?}; nothing was sent"),
            ),
            ConnectError::Io(error) => place.error(
                Certainty::NotSent,
                "connect",
                format_args!("no connection ({error}); nothing was sent"),
            ),
            ConnectError::Http(error) => place.error(
                Certainty::NotSent,
                "connect",
                format_args!("no connection ({}); nothing was sent", chain(&error)),
            ),
        })
    }
}

impl HttpTransport {
    /// One attempt; what was signed on the way is added to `requests`.
    async fn attempt(
        &self,
        to: &Validator,
        order: &OutboundOrder,
        deadline: Instant,
        requests: &mut Vec<SignedRequest>,
    ) -> Result<ValidatorReply, TransportError> {
        let place = Place { hotkey: &to.hotkey, address: to.address() };
        self.check_address(&place)?;
        if to.wire == Wire::Dendrite {
            // Before anything is opened for an order that will not go.
            self.tail(order, order.cache.get_or_init(Arc::default), &place)?;
        }
        let mut pooled = self.pool.take(place.address, deadline).await;
        let mut followed = false;
        loop {
            let mut connection = match pooled.take() {
                Some(connection) => connection,
                None => self.open(&place, deadline).await?,
            };
            if Instant::now() >= deadline {
                return Err(place.error(
                    Certainty::NotSent,
                    "timeout",
                    format_args!("the time was up before the order could be sent"),
                ));
            }
            // As late as possible: the signature is good for seconds only.
            let nonce = nonce::next();
            let (request, signed) = self.request(to, order, &place, deadline, nonce)?;
            let sent_ms = signed.at;
            requests.push(signed);
            let answer =
                timeout_at(deadline, exchange(&mut connection, request, self.options.max_answer));
            let answer = match answer.await {
                Err(_) => {
                    return Err(place.error(
                        Certainty::MaybeSent,
                        "timeout",
                        format_args!("no complete answer in time; the order may have arrived"),
                    ));
                }
                Ok(Err(Broken::NotWritten(_))) if connection.pooled => {
                    // It was closed while it was idle, and not a byte was written: not an attempt.
                    requests.pop();
                    continue;
                }
                Ok(Err(broken)) => {
                    if matches!(broken, Broken::NotWritten(_)) {
                        requests.pop();
                    }
                    return Err(place.broken(broken, self.options.max_answer));
                }
                Ok(Ok(answer)) => answer,
            };
            self.pool.put(place.address, connection);
            if answer.status == 401 && nonce::ahead(nonce) && !followed {
                // Refused before it was looked at, and our clock says why.
                if let Some(refused) = requests.last_mut() {
                    "nonce_ahead".clone_into(&mut refused.code);
                    refused.answered_at = Some(now_ms());
                }
                nonce::follow_clock();
                followed = true;
                pooled = self.pool.take(place.address, deadline).await;
                continue;
            }
            return place.reply(to.wire, order, &answer, sent_ms);
        }
    }
}

#[async_trait]
impl ValidatorTransport for HttpTransport {
    async fn deliver(
        &self,
        to: &Validator,
        order: &OutboundOrder,
        deadline: Instant,
    ) -> Result<ValidatorReply, TransportError> {
        let mut requests = Vec::with_capacity(1);
        match self.attempt(to, order, deadline, &mut requests).await {
            Ok(reply) => Ok(ValidatorReply { requests, ..reply }),
            Err(error) => Err(TransportError { requests, ..error }),
        }
    }

    async fn warm(&self, to: &Validator) {
        let place = Place { hotkey: &to.hotkey, address: to.address() };
        if !self.pool.keeps()
            || self.check_address(&place).is_err()
            || self.pool.has_idle(place.address)
        {
            return;
        }
        let deadline = Instant::now() + self.options.connect_timeout;
        match self.open(&place, deadline).await {
            Ok(connection) => self.pool.put(place.address, connection),
            // The next order will say so where it matters.
            Err(error) => tracing::debug!(%error, "connecting ahead of time failed"),
        }
    }
}

/// What a stream that holds these bytes is taken for, as if a validator had sent them in answer to
/// an order: everything of an attempt but the socket. For tests that feed it any bytes.
///
/// # Errors
/// As [`ValidatorTransport::deliver`].
#[cfg(feature = "test-util")]
pub async fn read_answer<S>(
    stream: S,
    to: &Validator,
    order: &OutboundOrder,
) -> Result<ValidatorReply, TransportError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let place = Place { hotkey: &to.hotkey, address: to.address() };
    let max = HttpOptions::default().max_answer;
    let broken = |error| place.broken(error, max);
    let connection = pool::handshake(stream, place.address).await;
    let mut connection = connection.map_err(|e| broken(Broken::NotWritten(e)))?;
    let path = if to.wire == Wire::Btauth { btauth::PATH } else { synapse::PATH };
    let request = build(path, place.address, Vec::new(), Bytes::new())
        .map_err(|why| place.error(Certainty::NotSent, "not_sendable", format_args!("{why}")))?;
    let answer = exchange(&mut connection, request, max).await.map_err(broken)?;
    place.reply(to.wire, order, &answer, now_ms())
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

/// Why there is no answer.
enum Broken {
    /// The connection ended, and certainly nothing was written.
    NotWritten(hyper::Error),
    /// It ended, or what came is not HTTP.
    Lost(hyper::Error),
    /// The answer is longer than we read.
    TooLarge,
}

async fn exchange(
    connection: &mut Connection,
    request: Request<Full<Bytes>>,
    max: usize,
) -> Result<Answer, Broken> {
    let response = connection.sender.try_send_request(request).await.map_err(|mut error| {
        // hyper hands the request back exactly when it has not begun to write it.
        let unwritten = error.take_message().is_some();
        let error = error.into_error();
        if unwritten { Broken::NotWritten(error) } else { Broken::Lost(error) }
    })?;
    let (head, body) = response.into_parts();
    let body = read_body(body, max).await?;
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
}

async fn read_body(mut body: Incoming, max: usize) -> Result<Bytes, Broken> {
    if usize::try_from(body.size_hint().lower()).map_or(true, |least| least > max) {
        return Err(Broken::TooLarge);
    }
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(Broken::Lost)?.into_data() else { continue };
        if first.len() + rest.len() + data.len() > max {
            return Err(Broken::TooLarge);
        }
        if first.is_empty() && rest.is_empty() {
            // Nearly always the only one.
            first = data;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&std::mem::take(&mut first));
            }
            rest.extend_from_slice(&data);
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

/// What names a signed request in receipts; see [`SignedRequest::sha256`].
fn digest(path: &str, address: SocketAddr, headers: &[Header], body: &[u8]) -> String {
    let mut sha = Sha256::new();
    sha.update(format!("POST {path} HTTP/1.1\nhost: {address}\ncontent-type: application/json\n"));
    for (name, value) in headers {
        for part in [name, ": ", value, "\n"] {
            sha.update(part);
        }
    }
    sha.update("\n");
    sha.update(body);
    hex::encode(sha.finalize())
}

fn build(
    path: &'static str,
    address: SocketAddr,
    headers: Vec<Header>,
    body: Bytes,
) -> Result<Request<Full<Bytes>>, String> {
    let mut map = HeaderMap::with_capacity(headers.len() + 3);
    // An address of digits and punctuation is always a header value.
    let host = HeaderValue::try_from(address.to_string()).map_err(|e| e.to_string())?;
    map.insert(HOST, host);
    map.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in headers {
        let value = HeaderValue::try_from(value).map_err(|_| format!("header {name}"))?;
        map.insert(HeaderName::from_static(name), value);
    }
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static(path);
    *request.headers_mut() = map;
    Ok(request)
}

/// Whom an attempt is for; says so in every error.
struct Place<'a> {
    hotkey: &'a str,
    address: SocketAddr,
}

impl Place<'_> {
    fn error(
        &self,
        certainty: Certainty,
        code: &'static str,
        what: fmt::Arguments<'_>,
    ) -> TransportError {
        let message = format!("validator {} at {}: {what}", self.hotkey, self.address);
        TransportError::new(certainty, code, message)
    }

    fn broken(&self, broken: Broken, max: usize) -> TransportError {
        match broken {
            Broken::NotWritten(error) => self.error(
                Certainty::NotSent,
                "connection_lost",
                format_args!(
                    "the connection ended before anything was sent ({}); is it a validator's \
                     axon?",
                    chain(&error)
                ),
            ),
            Broken::TooLarge => self.too_large(max),
            Broken::Lost(error) if error.is_parse() => self.error(
                Certainty::MaybeSent,
                "bad_answer",
                format_args!(
                    "it does not answer in HTTP ({}); the order may have arrived",
                    chain(&error)
                ),
            ),
            Broken::Lost(error) => self.error(
                Certainty::MaybeSent,
                "connection_lost",
                format_args!(
                    "the connection ended before the answer was complete ({}); the order may \
                     have arrived",
                    chain(&error)
                ),
            ),
        }
    }

    fn too_large(&self, max: usize) -> TransportError {
        self.error(
            Certainty::MaybeSent,
            "answer_too_large",
            format_args!(
                "its answer is longer than {max} bytes and was not read further; the order may \
                 have arrived"
            ),
        )
    }

    fn reply(
        &self,
        wire: Wire,
        order: &OutboundOrder,
        answer: &Answer,
        sent_ms: i64,
    ) -> Result<ValidatorReply, TransportError> {
        let now_ms = now_ms();
        let clock_ahead_ms = reply::clock_ahead_ms(&answer.headers, sent_ms, now_ms);
        if answer.status != 200 {
            return Ok(ValidatorReply {
                status: answer.status,
                error_message: reply::words(&answer.body),
                clock_ahead_ms,
                retry_after: reply::retry_after(answer.status, &answer.headers, now_ms),
                other_wire: reply::other_wire(wire, answer.status, &answer.headers),
                ..ValidatorReply::default()
            });
        }
        match reply::read(&answer.body, self.hotkey, &order.order_uuid) {
            Ok(reply) => Ok(ValidatorReply { clock_ahead_ms, ..reply }),
            Err(BadReply::Form(reason)) => Err(self.error(
                Certainty::MaybeSent,
                "bad_answer",
                format_args!(
                    "its answer is not a signal's ({reason}); the order may have arrived: {}",
                    printable(&String::from_utf8_lossy(&answer.body), 256)
                ),
            )),
            Err(BadReply::WrongValidator(other)) => Err(self.error(
                Certainty::MaybeSent,
                "wrong_validator",
                format_args!(
                    "the answer is from {other}, so another validator listens there now; the \
                     order may have arrived at it; refresh the list of validators"
                ),
            )),
            Err(BadReply::WrongOrder(other)) => Err(self.error(
                Certainty::MaybeSent,
                "wrong_order",
                format_args!(
                    "the answer is about order {other} instead of {}; the order may have arrived",
                    order.order_uuid
                ),
            )),
        }
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
