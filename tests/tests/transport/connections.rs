//! Which connection carries which order.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ptn_core::directory::Wire;
use ptn_core::transport::{Certainty, ValidatorTransport};
use ptn_core::validator::ValidatorOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::peer::*;

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
