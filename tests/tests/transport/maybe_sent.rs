//! Whatever goes wrong once the request may have been written.

use std::sync::atomic::Ordering;
use std::time::Duration;

use ptn_core::directory::Wire;
use ptn_core::transport::Certainty;
use ptn_core::validator::{Fault, FaultRule, ValidatorOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::peer::*;

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
    // What comes first, and what then comes for ever.
    let tricks: [(&[u8], &[u8]); 4] = [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n", b" "),
        (b"HTTP/1.1 200 OK\r\nx: ", b"a"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    ];
    for (i, (start, piece)) in tricks.into_iter().enumerate() {
        let (to, _) = raw(move |mut stream, _| async move {
            read_request(&mut stream).await;
            drop(stream.write_all(start).await);
            while stream.write_all(piece).await.is_ok() {
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
