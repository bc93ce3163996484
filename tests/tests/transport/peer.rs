//! The peers of these tests, and what most of them need.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ptn_core::directory::{Validator, Wire};
use ptn_core::json::Json;
use ptn_core::rules::{Era, Rules};
use ptn_core::sign::Hotkey;
use ptn_core::signal::Signal;
use ptn_core::transport::address::AddressPolicy;
use ptn_core::transport::http::HttpOptions;
use ptn_core::transport::{
    Certainty, HttpTransport, OutboundOrder, TransportError, ValidatorReply, ValidatorTransport,
};
use ptn_core::validator::{LoopbackValidator, ValidatorOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// Long enough for anything that works; a test that reaches it has failed.
pub(crate) const PATIENT: Duration = Duration::from_secs(20);
/// For answers that never come.
pub(crate) const SHORT: Duration = Duration::from_millis(400);

pub(crate) const BOTH: [Wire; 2] = [Wire::Btauth, Wire::Dendrite];

pub(crate) fn local() -> HttpOptions {
    let mut options = HttpOptions::default();
    options.policy = AddressPolicy::AllowPrivate;
    options
}

pub(crate) fn transport(options: HttpOptions) -> HttpTransport {
    HttpTransport::new(Arc::new(Hotkey::from_seed([1; 32])), options)
}

pub(crate) fn order() -> OutboundOrder {
    order_with(r#"{"leverage": 0.10, "note": "it's"}"#)
}

/// An order whose signal is this text, with a fresh uuid.
pub(crate) fn order_with(signal: &str) -> OutboundOrder {
    let rules = Rules::load(Era::Y2026).unwrap();
    let any = Signal::flat("BTCUSDC").build(&rules).unwrap();
    let mut order = OutboundOrder::new(&any, "8.8.9");
    order.signal = Json::parse(signal.as_bytes()).unwrap();
    order
}

pub(crate) async fn validator(options: ValidatorOptions) -> LoopbackValidator {
    LoopbackValidator::start(options).await.unwrap()
}

pub(crate) async fn send(
    t: &HttpTransport,
    to: &Validator,
    order: &OutboundOrder,
    within: Duration,
) -> Result<ValidatorReply, TransportError> {
    t.deliver(to, order, Instant::now() + within).await
}

/// The error of an attempt that must fail, with its certainty and code.
#[track_caller]
pub(crate) fn failed(
    result: Result<ValidatorReply, TransportError>,
    certainty: Certainty,
    code: &str,
) -> TransportError {
    let error = result.expect_err("no usable answer");
    assert_eq!((error.certainty, error.code), (certainty, code), "{error}");
    assert!(error.message.contains("validator 5") && error.message.contains(" at "), "{error}");
    error
}

/// A server that is no HTTP server: every connection goes to `serve`.
pub(crate) async fn raw<F, R>(serve: F) -> (Validator, Arc<AtomicUsize>)
where
    F: Fn(TcpStream, usize) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let entry = entry(listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let n = seen.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(serve(stream, n));
        }
    });
    (entry, count)
}

pub(crate) fn entry(address: SocketAddr) -> Validator {
    Validator {
        hotkey: Hotkey::from_seed([2; 32]).address().to_owned(),
        ip: address.ip(),
        port: address.port(),
        v_trust: 1.0,
        stake: 1.0,
        permit: true,
        wire: Wire::Btauth,
    }
}

/// Reads one request with its body.
pub(crate) async fn read_request(stream: &mut TcpStream) -> Vec<u8> {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let n = stream.read(&mut buffer).await.unwrap_or(0);
        request.extend_from_slice(&buffer[..n]);
        let head = request.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4);
        if let Some(head) = head {
            let text = String::from_utf8_lossy(&request[..head]).to_lowercase();
            let length = text.split("content-length: ").nth(1).and_then(|t| t.split("\r\n").next());
            if request.len() >= head + length.map_or(0, |l| l.parse::<usize>().unwrap()) {
                return request;
            }
        }
        if n == 0 {
            return request;
        }
    }
}

pub(crate) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Answers up to `per_connection` requests on each connection; counts connections.
pub(crate) async fn counted_server(
    per_connection: usize,
    answer: fn(usize) -> String,
) -> (Validator, Arc<AtomicUsize>) {
    raw(move |mut stream, _| async move {
        for n in 0..per_connection {
            if read_request(&mut stream).await.is_empty() {
                return;
            }
            if stream.write_all(answer(n).as_bytes()).await.is_err() {
                return;
            }
        }
    })
    .await
}

/// Waits for something that the runtime has yet to notice; the test's own limit bounds it.
pub(crate) async fn until(mut done: impl FnMut() -> bool) {
    let waiting = async {
        while !done() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENT, waiting).await.expect("it happens");
}
/// Reads on, so that closing does not destroy what was written.
pub(crate) async fn drain(mut stream: TcpStream) {
    let mut buffer = [0; 1024];
    while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
}
