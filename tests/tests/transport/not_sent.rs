//! Whatever ends an attempt before a byte is written: the validator never heard of the order.

use std::net::Ipv4Addr;
use std::sync::Arc;

use ptn_core::directory::Wire;
use ptn_core::sign::{SignError, Signer};
use ptn_core::transport::http::HttpOptions;
use ptn_core::transport::{Certainty, HttpTransport, ValidatorTransport};
use ptn_core::validator::ValidatorOptions;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::peer::*;

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
