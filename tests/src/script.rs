//! A transport that follows a script: what each validator answers to each attempt, on paused time.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use ptn_core::deliver::Clock;
use ptn_core::directory::{Validator, Wire};
use ptn_core::transport::{
    Certainty, OutboundOrder, TransportError, ValidatorReply, ValidatorTransport,
};
use tokio::time::Instant;

/// What a validator does with one attempt.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Processes it.
    Accept,
    /// Answers 200 with this text and, where it has it, `should_retry`.
    Refuse(&'static str, Option<bool>),
    /// Answers with another HTTP status.
    Status(u16),
    /// Cannot be reached.
    Unreachable,
    /// Takes the order and never answers.
    Silent,
    /// Processes it and loses the answer.
    Lost,
    /// Answers 503 and asks to come back after so many seconds.
    Busy(u64),
    /// A bug in the transport.
    Panic,
}

/// One attempt as the validator saw it.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Since the transport was made.
    pub at: Duration,
    /// Which validator.
    pub hotkey: String,
    /// The order's uuid.
    pub order_uuid: String,
}

/// See the module.
#[derive(Debug)]
pub struct ScriptedTransport {
    start: Instant,
    delays: BTreeMap<String, Duration>,
    script: Mutex<BTreeMap<String, Vec<Answer>>>,
    seen: Mutex<Vec<Seen>>,
    /// Whether a repeated uuid is answered as the network does.
    recognises: bool,
}

impl ScriptedTransport {
    /// Validators follow their lists, then accept everything. With `recognises` they know uuids
    /// that they have processed.
    pub fn new(script: impl IntoIterator<Item = (String, Vec<Answer>)>, recognises: bool) -> Self {
        Self {
            start: Instant::now(),
            delays: BTreeMap::new(),
            script: Mutex::new(script.into_iter().collect()),
            seen: Mutex::default(),
            recognises,
        }
    }

    /// This validator takes so long for every answer.
    #[must_use]
    pub fn slow(mut self, hotkey: &str, delay: Duration) -> Self {
        self.delays.insert(hotkey.to_owned(), delay);
        self
    }

    /// Every attempt so far, in order.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The uuids that one validator saw, in order.
    pub fn uuids(&self, hotkey: &str) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|s| s.hotkey == hotkey).map(|s| s.order_uuid.clone()).collect()
    }
}

#[async_trait]
impl ValidatorTransport for ScriptedTransport {
    async fn deliver(
        &self,
        to: &Validator,
        order: &OutboundOrder,
        deadline: Instant,
    ) -> Result<ValidatorReply, TransportError> {
        let answer = {
            let mut script = self.script.lock().unwrap();
            let list = script.entry(to.hotkey.clone()).or_default();
            if list.is_empty() { Answer::Accept } else { list.remove(0) }
        };
        let at = self.start.elapsed();
        let mut seen = self.seen.lock().unwrap().clone();
        let known = self.recognises
            && seen.iter().any(|s| s.hotkey == to.hotkey && s.order_uuid == order.order_uuid);
        if !matches!(answer, Answer::Unreachable) {
            let (hotkey, order_uuid) = (to.hotkey.clone(), order.order_uuid.clone());
            seen.push(Seen { at, hotkey, order_uuid });
            *self.seen.lock().unwrap() = seen;
        }
        if let Some(delay) = self.delays.get(&to.hotkey) {
            tokio::time::sleep(*delay).await;
        }
        let error =
            |certainty, code| Err(TransportError::new(certainty, code, format!("scripted {code}")));
        let ok = ValidatorReply {
            status: 200,
            validator_hotkey: to.hotkey.clone(),
            order_json: "{\"o\":1}".to_owned(),
            ..ValidatorReply::default()
        };
        match answer {
            Answer::Accept if known => Ok(ValidatorReply {
                error_message: format!(
                    "Order with uuid [{}] has already been processed. Please try again with a new order.",
                    order.order_uuid
                ),
                should_retry: Some(true),
                ..ok
            }),
            Answer::Accept => Ok(ValidatorReply { successfully_processed: true, ..ok }),
            Answer::Refuse(text, should_retry) => Ok(ValidatorReply {
                error_message: text.to_owned(),
                should_retry,
                order_json: String::new(),
                ..ok
            }),
            Answer::Busy(seconds) => Ok(ValidatorReply {
                status: 503,
                retry_after: Some(Duration::from_secs(seconds)),
                ..ValidatorReply::default()
            }),
            Answer::Panic => panic!("scripted"),
            Answer::Status(status) => Ok(ValidatorReply { status, ..ValidatorReply::default() }),
            Answer::Unreachable => error(Certainty::NotSent, "connect"),
            Answer::Lost => error(Certainty::MaybeSent, "timeout"),
            Answer::Silent => {
                tokio::time::sleep_until(deadline).await;
                error(Certainty::MaybeSent, "timeout")
            }
        }
    }
}

/// A time of day that moves with tokio's time.
pub fn paused_clock() -> Clock {
    let start = Instant::now();
    let base = 1_800_000_000_000_i64;
    Arc::new(move || base + i64::try_from(start.elapsed().as_millis()).unwrap())
}

/// A validator with this name and trust.
pub fn validator(hotkey: &str, v_trust: f64) -> Validator {
    Validator {
        hotkey: hotkey.to_owned(),
        ip: IpAddr::from([10, 0, 0, 1]),
        port: 8091,
        v_trust,
        stake: 1.0,
        permit: true,
        wire: Wire::Btauth,
    }
}
