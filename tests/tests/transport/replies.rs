//! Both wires against a validator that behaves as the real ones.

use ptn_core::directory::Wire;
use ptn_core::rules::RateLimit;
use ptn_core::sign::Hotkey;
use ptn_core::validator::{ValidatorOptions, Verdict};

use crate::peer::*;

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

#[tokio::test]
async fn a_lenient_validator_believes_what_a_strict_one_refuses() {
    // As the network's own validator of 2026: why a 200 proves nothing about a signature.
    for strict in [true, false] {
        let mut options = ValidatorOptions::default();
        options.strict = strict;
        let v = validator(options).await;
        let mut to = v.entry(Wire::Btauth);
        to.hotkey = Hotkey::from_seed([9; 32]).address().to_owned();
        match send(&transport(local()), &to, &order(), PATIENT).await {
            Ok(reply) => assert!(strict && reply.status == 403, "{reply:?}"),
            // It processed the order, and says who it is.
            Err(error) => assert!(!strict && error.code == "wrong_validator", "{error}"),
        }
    }
}
