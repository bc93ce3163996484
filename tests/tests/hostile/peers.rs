//! Validators that stall, lie and flood. The good one beside them gets every order, once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ptn_core::record::DeliveryState;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::net::*;

/// The end of every message about an order that may have arrived.
const MAY_HAVE_ARRIVED: &str = "the order may have arrived";

/// Reads the request, sends `start`, then `piece` for ever, with a pause between.
async fn endless(start: &'static [u8], piece: &'static [u8], pause: Duration) -> Net {
    let (bad, _) = raw(move |mut stream, _| async move {
        read_request(&mut stream).await;
        drop(stream.write_all(start).await);
        while stream.write_all(piece).await.is_ok() {
            tokio::time::sleep(pause).await;
        }
    })
    .await;
    Net::hurried(bad).await
}

#[tokio::test]
async fn a_validator_that_never_answers_ends_as_timeout_and_delays_nobody() {
    let (bad, _) = raw(|mut stream, _| async move {
        read_request(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    let net = Net::hurried(bad).await;
    net.all_end_late("hang", "timeout", "no complete answer in time").await;
}

#[tokio::test]
async fn a_validator_that_does_not_even_read_ends_as_timeout_and_delays_nobody() {
    let (bad, _) = raw(|stream, _| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    Net::hurried(bad).await.all_end_late("unread", "timeout", MAY_HAVE_ARRIVED).await;
}

#[tokio::test]
async fn one_byte_at_a_time_is_cut_by_the_deadline_and_delays_nobody() {
    let slow = Duration::from_millis(20);
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n{";
    endless(head, b" ", slow).await.all_end_late("a slow body", "timeout", MAY_HAVE_ARRIVED).await;
    let head = b"HTTP/1.1 200 OK\r\nx: ";
    endless(head, b"a", slow).await.all_end_late("a slow head", "timeout", MAY_HAVE_ARRIVED).await;
}

#[tokio::test]
async fn endless_interim_answers_are_cut_by_the_deadline_and_delay_nobody() {
    for interim in
        [&b"HTTP/1.1 100 Continue\r\n\r\n"[..], b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n"]
    {
        let net = endless(b"", interim, Duration::from_millis(1)).await;
        net.all_end_late("1xx", "timeout", MAY_HAVE_ARRIVED).await;
    }
}

#[tokio::test]
async fn tiny_chunks_without_end_are_cut_by_the_deadline_and_delay_nobody() {
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let net = endless(head, b"1\r\n \r\n", Duration::from_millis(2)).await;
    net.all_end_late("chunks", "timeout", MAY_HAVE_ARRIVED).await;
}

#[tokio::test]
async fn chunks_that_are_mostly_extensions_are_given_up() {
    let bytes = [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
        format!("1;{}\r\n \r\n", "a".repeat(200)).repeat(1_000).into_bytes(),
    ];
    let net = Net::against(answering(bytes.concat()).await).await;
    let says = "chunk extensions over limit";
    net.all_end("extensions", DeliveryState::Unknown, "connection_lost", says).await;
}

#[tokio::test]
async fn the_longest_answer_that_is_read_may_come_in_pieces() {
    let yes = r#"{"successfully_processed":true,"error_message":""}"#;
    // 64 KiB in all; one more is too many.
    for (more, state, code) in
        [(0, DeliveryState::Accepted, "accepted"), (1, DeliveryState::Unknown, "answer_too_large")]
    {
        let body = format!("{yes}{}", " ".repeat(64 * 1024 - yes.len() + more));
        let (bad, _) = raw(move |mut stream, _| {
            let body = body.clone();
            async move {
                while !read_request(&mut stream).await.is_empty() {
                    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
                    drop(stream.write_all(head.as_bytes()).await);
                    for piece in body.as_bytes().chunks(10_000) {
                        let chunk =
                            format!("{:x}\r\n{}\r\n", piece.len(), String::from_utf8_lossy(piece));
                        drop(stream.write_all(chunk.as_bytes()).await);
                    }
                    drop(stream.write_all(b"0\r\n\r\n").await);
                }
            }
        })
        .await;
        Net::against(bad).await.all_end("pieces", state, code, "").await;
    }
}

#[tokio::test]
async fn chunks_at_full_speed_end_as_an_answer_that_is_too_large() {
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (bad, _) = raw(move |mut stream, _| async move {
        read_request(&mut stream).await;
        drop(stream.write_all(head).await);
        let chunk = [b"8000\r\n".as_slice(), &[b' '; 0x8000], b"\r\n"].concat();
        while stream.write_all(&chunk).await.is_ok() {}
    })
    .await;
    let says = "longer than 65536 bytes and was not read further";
    let net = Net::against(bad).await;
    net.all_end("endless chunks", DeliveryState::Unknown, "answer_too_large", says).await;
}

/// How much of a flood gets away: what lies in the buffers of two sockets, not gigabytes.
#[tokio::test]
async fn of_gigabytes_only_the_first_are_taken_from_the_wire() {
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\n\r\n",
    ] {
        let sent = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&sent);
        let (bad, _) = raw(move |mut stream, _| {
            let count = Arc::clone(&count);
            async move {
                read_request(&mut stream).await;
                drop(stream.write_all(head.as_bytes()).await);
                let piece = vec![b'{'; 64 * 1024];
                while let Ok(n @ 1..) = stream.write(&piece).await {
                    count.fetch_add(n as u64, Ordering::SeqCst);
                }
            }
        })
        .await;
        let net = Net::against(bad).await;
        net.all_end(head, DeliveryState::Unknown, "answer_too_large", MAY_HAVE_ARRIVED).await;
        let sent = sent.load(Ordering::SeqCst);
        let per_order = sent / PAIRS.len() as u64;
        assert!(per_order < 16 * 1024 * 1024, "{head}: {per_order} bytes of each order's answer");
    }
}

#[tokio::test]
async fn a_reset_is_a_lost_connection_wherever_it_comes() {
    // After a part of the request; after the request; within the answer.
    for (what, read, write) in [
        ("within the request", 16, ""),
        ("after it", 0, ""),
        ("within the answer", 0, "HTTP/1.1 2"),
    ] {
        let (bad, _) = raw(move |mut stream, _| async move {
            if read > 0 {
                stream.read_exact(&mut vec![0; read]).await.unwrap();
            } else {
                read_request(&mut stream).await;
            }
            drop(stream.write_all(write.as_bytes()).await);
            // No time to linger: closing sends a reset.
            stream.set_zero_linger().unwrap();
        })
        .await;
        let net = Net::against(bad).await;
        net.all_end(what, DeliveryState::Unknown, "connection_lost", MAY_HAVE_ARRIVED).await;
    }
}

#[tokio::test]
async fn what_is_no_http_is_a_bad_answer() {
    let cases: [(&str, &[u8], &str); 5] = [
        ("text", b"hello there, this is not HTTP\r\n\r\n", "does not answer in HTTP"),
        ("TLS", b"\x15\x03\x03\x00\x02\x02\x28", "does not answer in HTTP"),
        ("HTTP/2", b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x80", "in HTTP"),
        ("random", b"\xff\xfe\x00\x01\x02\xba\xad\xf0\x0d", "does not answer in HTTP"),
        ("HTTP/0.9", b"<html>welcome</html>", "does not answer in HTTP"),
    ];
    for (what, bytes, says) in cases {
        let net = Net::against(answering(bytes.to_vec()).await).await;
        net.all_end(what, DeliveryState::Unknown, "bad_answer", says).await;
    }
}

#[tokio::test]
async fn an_ssh_banner_is_told_from_a_validator() {
    let (bad, _) = raw(|mut stream, _| async move {
        drop(stream.write_all(b"SSH-2.0-OpenSSH_9.6\r\n").await);
        drain(stream).await;
    })
    .await;
    let net = Net::against(bad).await;
    let ids = net.send_on_all_pairs().await;
    net.good_has(&ids).await;
    for id in &ids {
        let record = net.ended(id).await;
        // Whether the greeting is seen before or after the request is up to the network.
        match record.state {
            DeliveryState::Rejected => {
                assert_eq!(record.code, "connection_lost", "{record:?}");
                assert!(record.message.contains("is it a validator's axon?"), "{record:?}");
            }
            _ => {
                let found = (record.state, record.code.as_str());
                assert_eq!(found, (DeliveryState::Unknown, "bad_answer"), "{record:?}");
                assert!(record.message.contains("does not answer in HTTP"), "{record:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_nothing_is_signed_for_its_target() {
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent"]
    {
        let (elsewhere, seen) = raw(|stream, _| drain(stream)).await;
        let to = format!("Location: http://{}/axon/SendSignal\r\n", elsewhere.address());
        let net = Net::against(answering(refusal(status, &to, "moved")).await).await;
        let says = format!("HTTP {}: moved", &status[..3]);
        net.all_end(status, DeliveryState::Unknown, "http_error", &says).await;
        assert_eq!(seen.load(Ordering::SeqCst), 0, "{status}: its target saw a connection");
    }
}

#[tokio::test]
async fn json_of_other_types_is_no_success() {
    for (body, says) in [
        ("null", "not a JSON object"),
        ("[true]", "not a JSON object"),
        ("\"successfully_processed\"", "not a JSON object"),
        (r#"{"successfully_processed":"true"}"#, "expected a boolean"),
        (r#"{"successfully_processed":1}"#, "expected a boolean"),
        (r#"{"successfully_processed":true,"error_message":{"a":1}}"#, "expected"),
        (r#"{"successfully_processed":true,"validator_hotkey":7}"#, "expected"),
        (r#"{"successfully_processed":true"#, "EOF while parsing"),
        (r#"{"successfully_processed":true} {"a":1}"#, "trailing characters"),
        ("", "not a JSON object"),
    ] {
        let net = Net::against(answering(ok(body)).await).await;
        net.all_end(body, DeliveryState::Unknown, "bad_answer", says).await;
    }
}

#[tokio::test]
async fn json_that_nests_without_end_is_refused_or_kept_short() {
    // As the whole answer, and where any JSON is let in.
    let deep = "[".repeat(60_000);
    let net = Net::against(answering(ok(&deep)).await).await;
    net.all_end("deep", DeliveryState::Unknown, "bad_answer", "not a JSON object").await;
    let body = format!("{{\"a\":{}", "[".repeat(60_000));
    let net = Net::against(answering(ok(&body)).await).await;
    net.all_end("deep and open", DeliveryState::Unknown, "bad_answer", "its answer is not").await;
    let nested = format!(
        "{{\"error_message\":\"no\",\"order_json\":{}{}}}",
        "[".repeat(9_000),
        "]".repeat(9_000)
    );
    let net = Net::against(answering(ok(&nested)).await).await;
    let ids = net.send_on_all_pairs().await;
    net.good_has(&ids).await;
    for id in &ids {
        let record = net.ended(id).await;
        assert_eq!(record.order_json, "", "18,000 bytes say nothing about an order");
        assert_ne!(record.state, DeliveryState::Accepted, "{}", record.message);
    }
}

/// What is kept of an answer is short, also when every byte of it is written as six: the report of all
/// validators must fit into a line of the journal.
#[tokio::test]
async fn of_endless_words_only_the_beginning_is_kept() {
    let words = "no ".repeat(3_000);
    let order = "\u{1}".repeat(3_000);
    let flood = serde_json::json!({"error_message": words, "order_json": order});
    let net = Net::against(answering(ok(&flood.to_string())).await).await;
    let ids = net.send_on_all_pairs().await;
    net.good_has(&ids).await;
    for id in &ids {
        let record = net.ended(id).await;
        assert!(record.message.len() < 2_200, "{} bytes kept", record.message.len());
        assert!(record.message.ends_with(" bytes)"), "{}", record.message);
        assert_eq!(record.order_json, "", "it takes 18,000 bytes");
    }
}

#[tokio::test]
async fn heads_that_never_fit_are_bad_answers() {
    let line = |n: usize| format!("x-a: {}\r\n", "b".repeat(n));
    for (what, bytes) in [
        ("one long header", format!("HTTP/1.1 200 OK\r\n{}\r\n", line(1_000_000))),
        ("many headers", format!("HTTP/1.1 200 OK\r\n{}\r\n", line(10).repeat(5_000))),
        ("101 headers", format!("HTTP/1.1 200 OK\r\n{}\r\n", line(1).repeat(101))),
        ("a long reason", format!("HTTP/1.1 200 {}\r\n\r\n", "k".repeat(1_000_000))),
    ] {
        let net = Net::against(answering(bytes.into_bytes()).await).await;
        net.all_end(what, DeliveryState::Unknown, "bad_answer", "does not answer in HTTP").await;
    }
}

#[tokio::test]
async fn lengths_that_lie_are_no_success() {
    let yes = r#"{"successfully_processed":true}"#;
    for (what, head, code) in [
        ("too long", "Content-Length: 9000", "connection_lost"),
        ("two lengths", "Content-Length: 31\r\nContent-Length: 2", "bad_answer"),
        ("no number", "Content-Length: 31x", "bad_answer"),
        ("negative", "Content-Length: -1", "bad_answer"),
        ("bad chunks", "Transfer-Encoding: chunked", "connection_lost"),
    ] {
        let bytes = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{yes}").into_bytes();
        let net = Net::against(answering(bytes).await).await;
        net.all_end(what, DeliveryState::Unknown, code, MAY_HAVE_ARRIVED).await;
    }
}

#[tokio::test]
async fn a_second_answer_on_a_connection_is_never_taken_for_the_next_order() {
    // The first order gets an honest no and, in the same breath, a yes for whatever comes next.
    let honest =
        r#"{"successfully_processed":false,"error_message":"honest","should_retry":false}"#;
    let forged = r#"{"successfully_processed":true,"error_message":"forged"}"#;
    let both = Arc::new([ok(honest), ok(forged)].concat());
    let (bad, connections) = raw(move |mut stream, _| {
        let both = Arc::clone(&both);
        async move {
            while !read_request(&mut stream).await.is_empty() {
                drop(stream.write_all(&both).await);
            }
        }
    })
    .await;
    let net = Net::against(bad).await;
    let mut ids = Vec::new();
    // One after the other on one pair, so that each could meet what the one before left behind.
    for n in 0..6 {
        let id = format!("order-{n}");
        net.send(&id, "BTCUSDC").await;
        let record = net.ended(&id).await;
        assert_ne!(record.state, DeliveryState::Accepted, "{record:?}");
        assert!(!record.message.contains("forged"), "{record:?}");
        let known = ["rejected", "connection_lost"].contains(&record.code.as_str());
        assert!(known, "{record:?}");
        ids.push(id);
    }
    net.good_has(&ids).await;
    assert!(connections.load(Ordering::SeqCst) >= 2, "such a connection is not used again");
}

#[tokio::test]
async fn a_validator_that_lies_about_keeping_connections_loses_no_order() {
    let promise =
        "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nKeep-Alive: timeout=1000, max=1000\r\n";
    let (bad, connections) = raw(move |mut stream, _| async move {
        let request = String::from_utf8_lossy(&read_request(&mut stream).await).into_owned();
        let uuid = request.split("\"miner_order_uuid\":\"").nth(1).unwrap_or_default();
        let uuid = uuid.split('"').next().unwrap_or_default();
        let body = format!(r#"{{"successfully_processed":true,"miner_order_uuid":"{uuid}"}}"#);
        let answer = format!("{promise}Content-Length: {}\r\n\r\n{body}", body.len());
        drop(stream.write_all(answer.as_bytes()).await);
        // And gone, without a word.
    })
    .await;
    let net = Net::against(bad).await;
    let mut ids = Vec::new();
    for n in 0..8 {
        let id = format!("order-{n}");
        net.send(&id, "BTCUSDC").await;
        let record = net.ended(&id).await;
        assert_eq!(record.state, DeliveryState::Accepted, "{record:?}");
        ids.push(id);
    }
    net.good_has(&ids).await;
    assert!(connections.load(Ordering::SeqCst) >= 8, "a new connection for each");
}

#[tokio::test]
async fn a_wait_beyond_all_bounds_is_cut_to_five_minutes_at_that_validator_only() {
    let text = |seconds: &str| {
        ok(&format!(
            r#"{{"successfully_processed":false,"error_message":"Rate limited. Please wait {seconds} seconds before sending another signal.","should_retry":true}}"#
        ))
    };
    let later = |value: &str| {
        refusal("503 Service Unavailable", &format!("Retry-After: {value}\r\n"), "busy")
    };
    for (what, answer, code, at_least) in [
        ("a text of 10^12 s", text("1000000000000"), "rate_limited", 300_000),
        ("a text of 10^400 s", text(&format!("1{}", "0".repeat(400))), "rate_limited", 5_000),
        ("a text without a number", text("NaN"), "rate_limited", 5_000),
        ("u64::MAX seconds", later("18446744073709551615"), "http_error", 300_000),
        ("the year 9998", later("Thu, 31 Dec 9998 23:59:59 GMT"), "http_error", 300_000),
        ("the past", later("Sun, 06 Nov 1994 08:49:37 GMT"), "http_error", 0),
        ("no time at all", later("soon"), "http_error", 0),
    ] {
        let net = Net::with(answering(answer).await, |policy| {
            policy.waits = vec![Duration::from_millis(100); 2];
            policy.timeout = PATIENCE;
        })
        .await;
        net.send("order-0", "BTCUSDC").await;
        let record = net.bad_until("order-0", |r| r.attempts > 0 && !r.code.is_empty()).await;
        if record.state == DeliveryState::Submitted {
            let wait = record.next_try_at.unwrap() - record.at;
            assert!((at_least..=301_000).contains(&wait), "{what}: {wait} ms, {record:?}");
        }
        assert_eq!(record.code, code, "{what}: {record:?}");
        // On the same pair, behind the one that waits.
        net.send("order-1", "BTCUSDC").await;
        net.good_has(&["order-0".to_owned(), "order-1".to_owned()]).await;
    }
}

#[tokio::test]
async fn an_answer_in_another_name_or_about_another_order_is_no_success() {
    let other = ptn_core::sign::ss58::encode(&[7; 32]);
    let named = format!(r#"{{"successfully_processed":true,"validator_hotkey":"{other}"}}"#);
    let net = Net::against(answering(ok(&named)).await).await;
    net.all_end("name", DeliveryState::Unknown, "wrong_validator", "another validator listens")
        .await;
    let about = r#"{"successfully_processed":true,"miner_order_uuid":"someone-elses"}"#;
    let net = Net::against(answering(ok(about)).await).await;
    net.all_end("order", DeliveryState::Unknown, "wrong_order", "someone-elses instead of").await;
}
