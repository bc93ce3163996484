//! `HttpTransport` against a validator that behaves, one that misbehaves, and bare sockets that do
//! worse: what is reported, and how certain it is. No test waits for time to pass except by a
//! deadline that it sets itself.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ptn_core::directory::{Validator, Wire};
use ptn_core::json::Json;
use ptn_core::rules::{Era, RateLimit, Rules};
use ptn_core::sign::{Hotkey, SignError, Signer};
use ptn_core::signal::Signal;
use ptn_core::transport::address::AddressPolicy;
use ptn_core::transport::http::HttpOptions;
use ptn_core::transport::{
    Certainty, HttpTransport, OutboundOrder, TransportError, ValidatorReply, ValidatorTransport,
};
use ptn_core::validator::{Fault, FaultRule, LoopbackValidator, ValidatorOptions, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Long enough for anything that works; a test that reaches it has failed.
const PATIENT: Duration = Duration::from_secs(20);
/// For answers that never come.
const SHORT: Duration = Duration::from_millis(250);

const BOTH: [Wire; 2] = [Wire::Btauth, Wire::Dendrite];

fn local() -> HttpOptions {
    let mut options = HttpOptions::default();
    options.policy = AddressPolicy::AllowPrivate;
    options
}

fn transport(options: HttpOptions) -> HttpTransport {
    HttpTransport::new(Arc::new(Hotkey::from_seed([1; 32])), options)
}

fn order() -> OutboundOrder {
    order_with(r#"{"leverage": 0.10, "note": "it's"}"#)
}

/// An order whose signal is this text, with a fresh uuid.
fn order_with(signal: &str) -> OutboundOrder {
    let rules = Rules::load(Era::Y2026).unwrap();
    let any = Signal::flat("BTCUSDC").build(&rules).unwrap();
    let mut order = OutboundOrder::new(&any, "8.8.9");
    order.signal = Json::parse(signal.as_bytes()).unwrap();
    order
}

async fn validator(options: ValidatorOptions) -> LoopbackValidator {
    LoopbackValidator::start(options).await.unwrap()
}

async fn send(
    t: &HttpTransport,
    to: &Validator,
    order: &OutboundOrder,
    within: Duration,
) -> Result<ValidatorReply, TransportError> {
    t.deliver(to, order, Instant::now() + within).await
}

/// The error of an attempt that must fail, with its certainty and code.
#[track_caller]
fn failed(
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
async fn raw<F, R>(serve: F) -> (Validator, Arc<AtomicUsize>)
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

fn entry(address: SocketAddr) -> Validator {
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
async fn read_request(stream: &mut TcpStream) -> Vec<u8> {
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

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

// ---- a validator that behaves

#[tokio::test]
async fn both_wires_deliver_the_signal_as_it_was_written() {
    let v = validator(ValidatorOptions::default()).await;
    let t = transport(local());
    for wire in BOTH {
        let order = order_with(r#"{"b":1.0,"leverage":0.10,"note":"it's \"x\" 🚀","n":1e-7}"#);
        let reply = send(&t, &v.entry(wire), &order, PATIENT).await.unwrap();
        assert_eq!((reply.status, reply.successfully_processed), (200, true));
        assert_eq!(reply.validator_hotkey, v.hotkey());
        assert_eq!(reply.should_retry, Some(true), "it is echoed");
        assert!(reply.order_json.contains(&order.order_uuid));
        assert_eq!(reply.clock_ahead_ms, Some(0));
        let received = v.received().pop().unwrap();
        assert_eq!(received.signal.as_ref().unwrap().to_string(), order.signal.to_string());
        assert_eq!(received.sender, Hotkey::from_seed([1; 32]).address());
        assert_eq!(received.order_uuid, order.order_uuid);
        assert_eq!((received.wire, &received.verdict), (Some(wire), &Verdict::Accepted));
        let json = serde_json::to_string(&*received).unwrap();
        assert!(json.contains(r#""leverage":0.10"#), "{json}");
    }
}

#[tokio::test]
async fn every_attempt_is_signed_anew_and_a_repeat_is_recognised() {
    let v = validator(ValidatorOptions::default()).await;
    let t = transport(local());
    for wire in BOTH {
        let order = order();
        assert!(send(&t, &v.entry(wire), &order, PATIENT).await.unwrap().successfully_processed);
        let reply = send(&t, &v.entry(wire), &order, PATIENT).await.unwrap();
        assert!(!reply.successfully_processed);
        assert_eq!(
            reply.error_message,
            format!(
                "Order with uuid [{}] has already been processed. Please try again with a new \
                 order.",
                order.order_uuid
            )
        );
    }
}

#[tokio::test]
async fn uuids_that_name_other_orders_may_come_again() {
    let v = validator(ValidatorOptions::default()).await;
    let t = transport(local());
    let order = order_with(r#"{"execution_type":"LIMIT_CANCEL"}"#);
    for _ in 0..2 {
        let reply = send(&t, &v.entry(Wire::Btauth), &order, PATIENT).await.unwrap();
        assert!(reply.successfully_processed);
    }
}

#[tokio::test]
async fn validators_of_2024_know_no_repeats_and_hash_nothing() {
    let mut old = ValidatorOptions::default();
    (old.recognises_repeats, old.hash_signal, old.says_should_retry) = (false, false, false);
    let v = validator(old).await;
    let mut options = local();
    options.hash_signal = false;
    let t = transport(options);
    let order = order();
    for _ in 0..2 {
        let reply = send(&t, &v.entry(Wire::Dendrite), &order, PATIENT).await.unwrap();
        assert!(reply.successfully_processed);
        assert_eq!(reply.should_retry, None);
    }
    // And the other way round a signal is not taken for the one that was signed.
    let reply = send(&transport(local()), &v.entry(Wire::Dendrite), &order, PATIENT).await.unwrap();
    assert_eq!(reply.status, 500);
    assert!(reply.error_message.starts_with("Internal Server Error #"), "{reply:?}");
}

#[tokio::test]
async fn refusals_are_told_in_the_validators_words() {
    let mut options = ValidatorOptions::default();
    options.registered = Some(vec!["5nobody".to_owned()]);
    let v = validator(options).await;
    let t = transport(local());
    let own = Hotkey::from_seed([1; 32]);
    let reply = send(&t, &v.entry(Wire::Btauth), &order(), PATIENT).await.unwrap();
    assert_eq!(reply.status, 403);
    assert_eq!(reply.error_message, format!("blacklisted: {}", own.address()));
    let reply = send(&t, &v.entry(Wire::Dendrite), &order(), PATIENT).await.unwrap();
    assert_eq!(reply.status, 403);
    let words = format!("Forbidden. Key is blacklisted: {}.", own.address());
    assert_eq!(reply.error_message, words);
    assert!(!reply.other_wire);
}

#[tokio::test]
async fn a_signature_for_somebody_else_is_refused() {
    let v = validator(ValidatorOptions::default()).await;
    let t = transport(local());
    for (wire, status, words) in
        [(Wire::Btauth, 403, "WrongReceiver"), (Wire::Dendrite, 401, "Not Verified with error")]
    {
        let mut to = v.entry(wire);
        to.hotkey = Hotkey::from_seed([9; 32]).address().to_owned();
        let reply = send(&t, &to, &order(), PATIENT).await.unwrap();
        assert_eq!(reply.status, status);
        assert!(reply.error_message.contains(words), "{reply:?}");
    }
}

#[tokio::test]
async fn a_clock_that_is_off_is_refused_and_measured() {
    for (ahead, wires) in [(60_000, &BOTH[..]), (-60_000, &BOTH[..1])] {
        let mut options = ValidatorOptions::default();
        options.clock_ahead_ms = ahead;
        let v = validator(options).await;
        let t = transport(local());
        for wire in wires {
            let reply = send(&t, &v.entry(*wire), &order(), PATIENT).await.unwrap();
            assert_eq!(reply.status, 401, "{wire:?} {ahead}");
            let measured = reply.clock_ahead_ms.unwrap();
            assert!((measured - ahead).abs() <= 1_500, "{measured} is not {ahead}");
        }
    }
}

#[tokio::test]
async fn the_wrong_wire_is_recognised_but_never_switched() {
    for wire in BOTH {
        let other = if wire == Wire::Btauth { Wire::Dendrite } else { Wire::Btauth };
        let mut options = ValidatorOptions::default();
        options.wire = Some(other);
        let v = validator(options).await;
        let reply = send(&transport(local()), &v.entry(wire), &order(), PATIENT).await.unwrap();
        assert_eq!((reply.status, reply.other_wire), (404, true), "{wire:?}: {reply:?}");
        assert_eq!(v.count(), 0);
    }
}

#[tokio::test]
async fn the_limit_on_requests_is_told() {
    let mut options = ValidatorOptions::default();
    options.rate_limit = Some(RateLimit { max_requests: 1, window_s: 60 });
    let v = validator(options).await;
    let t = transport(local());
    let to = v.entry(Wire::Btauth);
    assert!(send(&t, &to, &order(), PATIENT).await.unwrap().successfully_processed);
    let reply = send(&t, &to, &order(), PATIENT).await.unwrap();
    assert!(reply.error_message.starts_with("Rate limited. Please wait "), "{reply:?}");
    assert_eq!(reply.should_retry, Some(true), "it is left as it was sent");
}

// ---- before anything is sent: NotSent

#[tokio::test]
async fn addresses_of_inner_networks_are_not_called() {
    let v = validator(ValidatorOptions::default()).await;
    let t = transport(HttpOptions::default());
    let result = send(&t, &v.entry(Wire::Btauth), &order(), PATIENT).await;
    let error = failed(result, Certainty::NotSent, "address_refused");
    assert!(error.message.contains("loopback"), "{error}");
    t.warm(&v.entry(Wire::Btauth)).await;
    assert!(!t.has_idle(&v.entry(Wire::Btauth)));

    let mut options = local();
    options.own_address = Some(v.address());
    let result = send(&transport(options), &v.entry(Wire::Btauth), &order(), PATIENT).await;
    failed(result, Certainty::NotSent, "address_refused");
    assert_eq!(v.count(), 0);
}

#[tokio::test]
async fn a_closed_port_is_not_sent() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let to = entry(listener.local_addr().unwrap());
    drop(listener);
    let result = send(&transport(local()), &to, &order(), PATIENT).await;
    failed(result, Certainty::NotSent, "connect");
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_not_sent() {
    // A listener whose queue is full drops further requests to connect.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let listener = socket.listen(1).unwrap();
    let to = entry(listener.local_addr().unwrap());
    let mut filling = Vec::new();
    while let Ok(stream) = tokio::time::timeout(SHORT, TcpStream::connect(to.address())).await {
        filling.push(stream.unwrap());
        assert!(filling.len() < 64, "the queue never fills");
    }
    let mut options = local();
    options.connect_timeout = SHORT;
    let result = send(&transport(options), &to, &order(), PATIENT).await;
    failed(result, Certainty::NotSent, "connect_timeout");
    let result = send(&transport(local()), &to, &order(), SHORT).await;
    failed(result, Certainty::NotSent, "connect_timeout");
}

#[tokio::test]
async fn a_deadline_in_the_past_sends_nothing() {
    let v = validator(ValidatorOptions::default()).await;
    let t = transport(local());
    t.warm(&v.entry(Wire::Btauth)).await;
    let result = t.deliver(&v.entry(Wire::Btauth), &order(), Instant::now()).await;
    failed(result, Certainty::NotSent, "timeout");
    assert_eq!(v.count(), 0);
}

#[tokio::test]
async fn a_locked_key_sends_nothing() {
    struct Locked;
    impl Signer for Locked {
        fn hotkey(&self) -> &str {
            "5locked"
        }
        fn sign(&self, _: &[u8]) -> Result<[u8; 64], SignError> {
            Err(SignError { hotkey: "5locked".to_owned(), reason: "unlock it".to_owned() })
        }
    }
    let v = validator(ValidatorOptions::default()).await;
    let t = HttpTransport::new(Arc::new(Locked), local());
    for wire in BOTH {
        let result = send(&t, &v.entry(wire), &order(), PATIENT).await;
        let error = failed(result, Certainty::NotSent, "signing");
        assert!(error.message.contains("unlock it"), "{error}");
    }
    assert_eq!(v.count(), 0);
}

#[tokio::test]
async fn what_axons_would_hash_differently_is_not_sent_to_them() {
    let v = validator(ValidatorOptions::default()).await;
    let t = transport(local());
    for signal in [
        "{\"a\":\"\u{e000}\"}",
        "{\"a\":\"\u{378}\"}",
        r#"{"a":18446744073709551616}"#,
        r#"{"a":NaN}"#,
    ] {
        let order = order_with(signal);
        let result = send(&t, &v.entry(Wire::Dendrite), &order, PATIENT).await;
        failed(result, Certainty::NotSent, "not_sendable");
        assert_eq!(v.count(), 0, "{signal}");
    }
    // The other wire signs the bytes themselves.
    let order = order_with("{\"a\":\"\u{e000}\",\"b\":18446744073709551616}");
    let reply = send(&t, &v.entry(Wire::Btauth), &order, PATIENT).await.unwrap();
    assert!(reply.successfully_processed);
}

#[tokio::test]
async fn a_hotkey_that_is_no_header_value_is_not_sent() {
    let v = validator(ValidatorOptions::default()).await;
    let mut to = v.entry(Wire::Btauth);
    to.hotkey = "5a\r\nx-evil: 1".to_owned();
    let error = send(&transport(local()), &to, &order(), PATIENT).await.unwrap_err();
    assert_eq!((error.certainty, error.code), (Certainty::NotSent, "not_sendable"), "{error}");
}

// ---- after the request may have been written: MaybeSent

#[tokio::test]
async fn faults_after_the_request_are_maybe_sent() {
    for (fault, code) in [
        (Fault::Hang, "timeout"),
        (Fault::Trickle { ms: 20 }, "timeout"),
        (Fault::DropUnread, "connection_lost"),
        (Fault::DropRead, "connection_lost"),
        (Fault::LoseAnswer, "connection_lost"),
        (Fault::Truncate, "connection_lost"),
        (Fault::Garbage, "bad_answer"),
        (Fault::Huge, "answer_too_large"),
        (Fault::WrongHotkey, "wrong_validator"),
        (Fault::WrongOrder, "wrong_order"),
    ] {
        let v = validator(ValidatorOptions::default()).await;
        for wire in BOTH {
            let t = transport(local());
            v.set_faults([fault.clone().first(1)]);
            let within = if code == "timeout" { SHORT } else { PATIENT };
            let result = send(&t, &v.entry(wire), &order(), within).await;
            failed(result, Certainty::MaybeSent, code);
            // The connection is not used again, and the next order is fine.
            let reply = send(&t, &v.entry(wire), &order(), PATIENT).await.unwrap();
            assert!(reply.successfully_processed, "{fault:?}");
        }
    }
}

#[tokio::test]
async fn an_order_whose_answer_was_lost_is_in() {
    let v = validator(ValidatorOptions::default()).await;
    let t = transport(local());
    v.set_faults([Fault::LoseAnswer.first(1)]);
    let order = order();
    let result = send(&t, &v.entry(Wire::Btauth), &order, PATIENT).await;
    failed(result, Certainty::MaybeSent, "connection_lost");
    let reply = send(&t, &v.entry(Wire::Btauth), &order, PATIENT).await.unwrap();
    assert!(reply.error_message.contains("has already been processed"), "{reply:?}");
}

#[tokio::test]
async fn answers_that_say_no_are_answers() {
    let v = validator(ValidatorOptions::default()).await;
    let t = transport(local());
    let to = v.entry(Wire::Btauth);
    v.fail_first(1, "injected", false);
    let reply = send(&t, &to, &order(), PATIENT).await.unwrap();
    assert_eq!((reply.status, reply.should_retry), (200, Some(false)));
    assert_eq!(reply.error_message, "injected");

    let fault =
        Fault::Http { status: 503, message: "down\n\u{1b}[1m".to_owned(), retry_after: Some(7) };
    v.set_faults([FaultRule::from(fault)]);
    let reply = send(&t, &to, &order(), PATIENT).await.unwrap();
    assert_eq!((reply.status, reply.retry_after), (503, Some(Duration::from_secs(7))));
    assert_eq!(reply.error_message, "down\\n\\u{1b}[1m", "nothing that a terminal obeys");

    v.set_faults([Fault::Delay { ms: 1 }.first(1)]);
    assert!(send(&t, &to, &order(), PATIENT).await.unwrap().successfully_processed);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (elsewhere, seen) = raw(|_, _| async {}).await;
    let v = validator(ValidatorOptions::default()).await;
    let location = format!("http://{}/axon/SendSignal", elsewhere.address());
    v.set_faults([FaultRule::from(Fault::Redirect { location })]);
    for wire in BOTH {
        let reply = send(&transport(local()), &v.entry(wire), &order(), PATIENT).await.unwrap();
        assert_eq!(reply.status, 307);
    }
    assert_eq!(seen.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn bare_sockets_do_their_worst() {
    let answers: &[(&str, Vec<u8>, &str)] = &[
        ("no HTTP", b"hello there, this is not HTTP\r\n\r\n".to_vec(), "bad_answer"),
        ("TLS alert", b"\x15\x03\x01\x00\x02\x02\x16".to_vec(), "bad_answer"),
        ("truncated head", b"HTTP/1.1 200 OK\r\nContent-".to_vec(), "connection_lost"),
        (
            "truncated body",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}".to_vec(),
            "connection_lost",
        ),
        ("lying length", b"HTTP/1.1 200 OK\r\nContent-Length: 1x\r\n\r\n{}".to_vec(), "bad_answer"),
        (
            "huge length",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n{".to_vec(),
            "answer_too_large",
        ),
        (
            "bad chunk",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_vec(),
            "connection_lost",
        ),
        ("null", ok("null").into_bytes(), "bad_answer"),
        ("wrong types", ok(r#"{"successfully_processed":"yes"}"#).into_bytes(), "bad_answer"),
        ("truncated JSON", ok(r#"{"successfully_processed":tr"#).into_bytes(), "bad_answer"),
        (
            "not UTF-8",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\xff\xfe".to_vec(),
            "bad_answer",
        ),
        (
            "endless headers",
            [b"HTTP/1.1 200 OK\r\n".to_vec(), b"x-a: bbbbbbbbbbbbbbbbbbbb\r\n".repeat(9_000)]
                .concat(),
            "bad_answer",
        ),
        (
            "too many headers",
            [b"HTTP/1.1 200 OK\r\n".to_vec(), b"a: b\r\n".repeat(200), b"\r\n".to_vec()].concat(),
            "bad_answer",
        ),
    ];
    for (name, answer, code) in answers {
        let answer = answer.clone();
        let (to, _) = raw(move |mut stream, _| {
            let answer = answer.clone();
            async move {
                read_request(&mut stream).await;
                // The other side may stop reading; that is the point.
                drop(stream.write_all(&answer).await);
                drop(stream.shutdown().await);
                drain(stream).await;
            }
        })
        .await;
        let error = send(&transport(local()), &to, &order(), PATIENT).await.unwrap_err();
        assert_eq!((error.certainty, error.code), (Certainty::MaybeSent, *code), "{name}: {error}");
    }
}

/// Reads on, so that closing does not destroy what was written.
async fn drain(mut stream: TcpStream) {
    let mut buffer = [0; 1024];
    while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
}

#[tokio::test]
async fn a_reset_is_maybe_sent() {
    let (to, _) = raw(|mut stream, _| async move {
        let mut buffer = [0; 16];
        stream.read_exact(&mut buffer).await.unwrap();
        // Unread bytes make closing a reset.
        drop(stream);
    })
    .await;
    let result = send(&transport(local()), &to, &order(), PATIENT).await;
    failed(result, Certainty::MaybeSent, "connection_lost");
}

#[tokio::test]
async fn answers_that_never_end_are_cut_by_the_deadline() {
    let tricks: [fn() -> (Vec<u8>, Vec<u8>); 4] = [
        || (b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n".to_vec(), b" ".to_vec()),
        || (b"HTTP/1.1 200 OK\r\nx: ".to_vec(), b"a".to_vec()),
        || (Vec::new(), b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()),
        || {
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
                b"1\r\n \r\n".to_vec(),
            )
        },
    ];
    for (i, trick) in tricks.into_iter().enumerate() {
        let (to, _) = raw(move |mut stream, _| async move {
            read_request(&mut stream).await;
            let (start, piece) = trick();
            drop(stream.write_all(&start).await);
            while stream.write_all(&piece).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        let result = send(&transport(local()), &to, &order(), SHORT).await;
        let error = failed(result, Certainty::MaybeSent, "timeout");
        assert!(error.message.contains("may have arrived"), "{i}: {error}");
    }
}

#[tokio::test]
async fn a_validator_that_does_not_read_is_cut_by_the_deadline() {
    let (to, _) = raw(|stream, _| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let order = order_with(&format!("{{\"note\":\"{}\"}}", "x".repeat(8 * 1024 * 1024)));
    let result = send(&transport(local()), &to, &order, SHORT).await;
    failed(result, Certainty::MaybeSent, "timeout");
}

#[tokio::test]
async fn something_that_speaks_first_is_not_a_validator() {
    let (to, _) = raw(|mut stream, _| async move {
        drop(stream.write_all(b"SSH-2.0-OpenSSH_9.6\r\n").await);
        drain(stream).await;
    })
    .await;
    let error = send(&transport(local()), &to, &order(), PATIENT).await.unwrap_err();
    // Whether the greeting is seen before or after the request is written is up to the network.
    match error.certainty {
        Certainty::NotSent => assert_eq!(error.code, "connection_lost", "{error}"),
        _ => assert_eq!(error.code, "bad_answer", "{error}"),
    }
}

#[tokio::test]
async fn a_body_may_come_in_pieces() {
    let (to, _) = raw(|mut stream, _| async move {
        let body = br#"{"successfully_processed":true,"error_message":"fine"}"#;
        loop {
            if read_request(&mut stream).await.is_empty() {
                return;
            }
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            stream.write_all(head.as_bytes()).await.unwrap();
            for byte in body {
                stream.write_all(&[b'1', b'\r', b'\n', *byte, b'\r', b'\n']).await.unwrap();
                stream.flush().await.unwrap();
            }
            stream.write_all(b"0\r\n\r\n").await.unwrap();
        }
    })
    .await;
    let t = transport(local());
    for _ in 0..2 {
        let reply = send(&t, &to, &order(), PATIENT).await.unwrap();
        assert!(reply.successfully_processed);
        assert_eq!((reply.error_message.as_str(), reply.should_retry), ("fine", None));
    }
}

#[tokio::test]
async fn proxies_of_the_environment_are_not_asked() {
    // Nothing in the transport reads the environment; a validator sees the plain path.
    let (requests, mut seen) = mpsc::unbounded_channel();
    let (to, _) = raw(move |mut stream, _| {
        let requests = requests.clone();
        async move {
            requests.send(read_request(&mut stream).await).unwrap();
            drop(stream.write_all(ok("{}").as_bytes()).await);
            drain(stream).await;
        }
    })
    .await;
    for wire in BOTH {
        let mut to = to.clone();
        to.wire = wire;
        let reply = send(&transport(local()), &to, &order(), PATIENT).await.unwrap();
        assert!(!reply.successfully_processed);
        let request = String::from_utf8(seen.recv().await.unwrap()).unwrap();
        let path = if wire == Wire::Btauth { "/axon/SendSignal" } else { "/SendSignal" };
        assert!(request.starts_with(&format!("POST {path} HTTP/1.1\r\n")), "{request}");
        assert!(request.contains(&format!("host: {}\r\n", to.address())), "{request}");
        assert!(request.contains("content-type: application/json\r\n"), "{request}");
    }
}

// ---- connections

#[tokio::test]
async fn one_connection_serves_many_orders() {
    let connections =
        counted_server(usize::MAX, |_| ok(r#"{"successfully_processed":true}"#)).await;
    let t = transport(local());
    for _ in 0..20 {
        send(&t, &connections.0, &order(), PATIENT).await.unwrap();
    }
    assert_eq!(connections.1.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn without_reuse_every_attempt_has_its_own_connection() {
    let (to, count) = counted_server(usize::MAX, |_| ok("{}")).await;
    let mut options = local();
    options.reuse_idle = Duration::ZERO;
    let t = transport(options);
    t.warm(&to).await;
    assert!(!t.has_idle(&to));
    for _ in 0..3 {
        send(&t, &to, &order(), PATIENT).await.unwrap();
    }
    assert_eq!(count.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn warming_opens_one_connection_and_sends_nothing() {
    let v = validator(ValidatorOptions::default()).await;
    let t = transport(local());
    let to = v.entry(Wire::Btauth);
    t.warm(&to).await;
    t.warm(&to).await;
    assert!(t.has_idle(&to));
    assert_eq!(v.count(), 0);
    assert!(send(&t, &to, &order(), PATIENT).await.unwrap().successfully_processed);
}

#[tokio::test]
async fn a_connection_that_died_while_idle_costs_no_attempt() {
    // Every connection is closed after one answer, without saying so in the answer.
    let (closed, mut is_closed) = mpsc::unbounded_channel();
    let (to, count) = raw(move |mut stream, _| {
        let closed = closed.clone();
        async move {
            read_request(&mut stream).await;
            drop(stream.write_all(ok(r#"{"successfully_processed":true}"#).as_bytes()).await);
            drop(stream);
            closed.send(()).unwrap();
        }
    })
    .await;
    let t = transport(local());
    for n in 1..=5 {
        let reply = send(&t, &to, &order(), PATIENT).await.unwrap();
        assert!(reply.successfully_processed);
        assert_eq!(count.load(Ordering::SeqCst), n);
        is_closed.recv().await.unwrap();
        until(|| !t.has_idle(&to)).await;
    }
}

#[tokio::test]
async fn idle_connections_end_with_their_time() {
    let (to, count) = counted_server(usize::MAX, |_| ok("{}")).await;
    let mut options = local();
    options.reuse_idle = Duration::from_millis(1);
    let t = transport(options);
    send(&t, &to, &order(), PATIENT).await.unwrap();
    until(|| !t.has_idle(&to)).await;
    send(&t, &to, &order(), PATIENT).await.unwrap();
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_second_answer_to_one_request_poisons_nothing() {
    // Two answers to the first request; the second claims success for what comes next.
    let (to, _) = raw(|mut stream, n| async move {
        read_request(&mut stream).await;
        let honest = ok(r#"{"successfully_processed":false,"error_message":"honest"}"#);
        let forged = ok(r#"{"successfully_processed":true,"error_message":"forged"}"#);
        let answer = if n == 0 { honest.clone() + &forged } else { honest.clone() };
        drop(stream.write_all(answer.as_bytes()).await);
        while !read_request(&mut stream).await.is_empty() {
            drop(stream.write_all(honest.as_bytes()).await);
        }
    })
    .await;
    let t = transport(local());
    for _ in 0..3 {
        match send(&t, &to, &order(), PATIENT).await {
            Ok(reply) => assert_eq!(reply.error_message, "honest"),
            Err(error) => assert_eq!(error.code, "connection_lost", "{error}"),
        }
    }
}

#[tokio::test]
async fn an_answer_about_an_earlier_order_is_not_taken_for_this_one() {
    let (to, _) = counted_server(usize::MAX, |_| {
        ok(r#"{"successfully_processed":true,"miner_order_uuid":"an-earlier-one"}"#)
    })
    .await;
    let result = send(&transport(local()), &to, &order(), PATIENT).await;
    failed(result, Certainty::MaybeSent, "wrong_order");
}

#[tokio::test]
async fn orders_to_one_validator_can_be_under_way_together() {
    let v = validator(ValidatorOptions::default()).await;
    let t = Arc::new(transport(local()));
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..40 {
        let (t, to) = (Arc::clone(&t), v.entry(BOTH[i % 2]));
        tasks.spawn(async move { send(&t, &to, &order(), PATIENT).await });
    }
    while let Some(result) = tasks.join_next().await {
        assert!(result.unwrap().unwrap().successfully_processed);
    }
    assert_eq!(v.count(), 40);
}

#[tokio::test]
async fn giving_up_on_an_attempt_closes_its_connection() {
    let (ended, mut has_ended) = mpsc::unbounded_channel();
    let (to, _) = raw(move |mut stream, _| {
        let ended = ended.clone();
        async move {
            read_request(&mut stream).await;
            let rest = stream.read(&mut [0; 1]).await;
            let closed = match rest {
                Ok(n) => n == 0,
                Err(error) => error.kind() == ErrorKind::ConnectionReset,
            };
            ended.send(closed).unwrap();
        }
    })
    .await;
    let t = transport(local());
    failed(send(&t, &to, &order(), SHORT).await, Certainty::MaybeSent, "timeout");
    assert!(has_ended.recv().await.unwrap());
    assert!(!t.has_idle(&to));
}

/// Answers up to `per_connection` requests on each connection; counts connections.
async fn counted_server(
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
async fn until(mut done: impl FnMut() -> bool) {
    let waiting = async {
        while !done() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENT, waiting).await.expect("it happens");
}
