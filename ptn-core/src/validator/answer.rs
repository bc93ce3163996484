//! Judging a request as a validator does, and the answer to it. No sockets.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use hyper::StatusCode;
use hyper::header::HeaderMap;
use uuid::Uuid;

use super::{DeskAnswer, DeskOrder, ValidatorOptions, Verdict};
use crate::directory::Wire;
use crate::json::{Json, Object};
use crate::order::ExecutionType;
use crate::sign::Signer as _;
use crate::transport::btauth::{self, AuthError, Incoming, Replays};
use crate::transport::nonce::now_ns;
use crate::transport::synapse::{self, Nonces};

/// The fields that a btauth validator answers with, and their defaults.
const FIELDS: [(&str, &str); 10] = [
    ("signal", "{}"),
    ("repo_version", "\"N/A\""),
    ("successfully_processed", "false"),
    ("error_message", "\"\""),
    ("should_retry", "true"),
    ("validator_hotkey", "\"\""),
    ("order_json", "\"\""),
    ("miner_order_uuid", "\"\""),
    ("subaccount_id", "null"),
    ("computed_body_hash", "\"\""),
];

/// What a validator remembers between requests.
#[derive(Debug, Default)]
pub(super) struct Memory {
    replays: Replays,
    nonces: Nonces,
    orders: Mutex<HashSet<String>>,
    /// Start and number of requests of each sender's window.
    windows: Mutex<HashMap<String, (u64, u32)>>,
}

/// A request that was let in.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) sender: String,
    pub(super) uuid: String,
    pub(super) signal: Json,
    message: Object,
    wire: Wire,
}

/// A request that was not: the status, the body, and why.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) body: String,
    pub(super) reason: String,
    pub(super) sender: String,
}

impl Refusal {
    fn new(status: u16, member: &str, text: &str, sender: &str) -> Self {
        let mut body = Object::new();
        body.set(member, text.into());
        Self {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            body: Json::Object(body).to_string(),
            reason: text.to_owned(),
            sender: sender.to_owned(),
        }
    }
}

/// The validator's side of the conversation.
#[derive(Debug)]
pub(super) struct Judge {
    pub(super) options: ValidatorOptions,
    memory: Memory,
}

impl Judge {
    pub(super) fn new(options: ValidatorOptions) -> Self {
        Self { options, memory: Memory::default() }
    }

    pub(super) fn hotkey(&self) -> &str {
        self.options.hotkey.hotkey()
    }

    fn now_ns(&self) -> i128 {
        i128::from(now_ns()) + i128::from(self.options.clock_ahead_ms) * 1_000_000
    }

    /// Verifies a request and reads it.
    pub(super) fn admit(
        &self,
        wire: Wire,
        target: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Order, Refusal> {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let request = Incoming { method: "POST", target, body, header: &header };
        match wire {
            Wire::Btauth => self.admit_btauth(&request),
            Wire::Dendrite => self.admit_dendrite(&request),
        }
    }

    fn admit_btauth(&self, request: &Incoming<'_>) -> Result<Order, Refusal> {
        let claimed = (request.header)("x-bittensor-hotkey").unwrap_or_default();
        let strict = self.options.strict;
        let verdict =
            btauth::verify(request, self.hotkey(), strict, self.now_ns(), &self.memory.replays);
        let sender = match verdict {
            Ok(caller) => caller.hotkey,
            // The network's own validator of 2026 only logs this, and believes the header.
            Err(_) if !strict => claimed.to_owned(),
            Err(error) => {
                let status = if error == AuthError::WrongReceiver { 403 } else { 401 };
                let mut refusal = Refusal::new(status, "error", error.name(), claimed);
                refusal.body = format!(r#"{{"error":"{}","message":"{error}"}}"#, error.name());
                return Err(refusal);
            }
        };
        let message =
            message(request.body).map_err(|why| Refusal::new(400, "error", &why, &sender))?;
        if !self.is_registered(&sender) {
            let mut refusal = Refusal::new(403, "error", "blacklisted", &sender);
            refusal.body =
                format!(r#"{{"error":"blacklisted","reason":{}}}"#, Json::from(sender.as_str()));
            return Err(refusal);
        }
        Ok(Order::new(Wire::Btauth, sender, message))
    }

    fn admit_dendrite(&self, request: &Incoming<'_>) -> Result<Order, Refusal> {
        let claimed = (request.header)("bt_header_dendrite_hotkey").unwrap_or_default();
        if !self.is_registered(claimed) {
            let text = format!("Forbidden. Key is blacklisted: {claimed}.");
            return Err(Refusal::new(403, "message", &text, claimed));
        }
        let refuse = |error: synapse::AxonError| {
            Refusal::new(error.status(), "message", &error.to_string(), claimed)
        };
        synapse::verify_headers(
            request,
            self.hotkey(),
            self.options.strict,
            self.now_ns(),
            &self.memory.nonces,
        )
        .map_err(refuse)?;
        let message =
            message(request.body).map_err(|why| Refusal::new(422, "detail", &why, claimed))?;
        synapse::verify_body(request, message.get("signal"), self.options.hash_signal)
            .map_err(refuse)?;
        // The subnet's handler knows the sender from the body alone.
        let sender = message
            .get("dendrite")
            .and_then(Json::as_object)
            .and_then(|dendrite| dendrite.get("hotkey"))
            .and_then(Json::as_str)
            .unwrap_or_default()
            .to_owned();
        Ok(Order::new(Wire::Dendrite, sender, message))
    }

    fn is_registered(&self, hotkey: &str) -> bool {
        self.options.registered.as_ref().is_none_or(|list| list.iter().any(|h| h == hotkey))
    }

    /// Processes an order, and gives its text where the desk wrote one. Without a desk it goes by
    /// the rate limit and by what was seen before, and is accepted then.
    pub(super) async fn process(&self, order: &Order) -> (Verdict, Option<String>) {
        if order.sender.is_empty() {
            return (Verdict::failed("Missing miner hotkey"), None);
        }
        let Some(desk) = &self.options.desk else { return (self.accept(order), None) };
        let nothing = Object::new();
        let taken = desk.take(DeskOrder {
            sender: &order.sender,
            uuid: &order.uuid,
            signal: order.signal.as_object().unwrap_or(&nothing),
            wire: order.wire,
        });
        match taken.await {
            DeskAnswer::Taken { order_json } => (Verdict::Accepted, Some(order_json)),
            DeskAnswer::Repeated => (Verdict::Repeated, None),
            DeskAnswer::Failed { message, should_retry } => {
                (Verdict::Failed { message, should_retry }, None)
            }
        }
    }

    fn accept(&self, order: &Order) -> Verdict {
        if let Some(seconds) = self.wait_s(&order.sender) {
            return Verdict::Failed { message: rate_limited(seconds), should_retry: None };
        }
        if self.options.recognises_repeats && !order.reuses_uuids() {
            let mut orders = self.memory.orders.lock().unwrap_or_else(PoisonError::into_inner);
            if !orders.insert(order.uuid.clone()) {
                return Verdict::Repeated;
            }
        }
        Verdict::Accepted
    }

    /// Seconds until the sender may send again.
    fn wait_s(&self, sender: &str) -> Option<u64> {
        let limit = self.options.rate_limit?;
        let now = now_ns();
        let window = limit.window_s.saturating_mul(1_000_000_000);
        let mut windows = self.memory.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let (start, count) = windows.entry(sender.to_owned()).or_insert((now, 0));
        if now.saturating_sub(*start) >= window {
            (*start, *count) = (now, 0);
        }
        if *count >= limit.max_requests {
            let left = window.saturating_sub(now.saturating_sub(*start));
            return Some(left.div_ceil(1_000_000_000).max(1));
        }
        *count += 1;
        None
    }

    /// The answer with status 200; `order_json` where a desk wrote one.
    pub(super) fn reply(
        &self,
        order: &Order,
        verdict: &Verdict,
        order_json: Option<String>,
        hotkey: &str,
        n: u64,
    ) -> String {
        let mut reply = match order.wire {
            // An axon answers with everything that came.
            Wire::Dendrite => order.message.clone(),
            Wire::Btauth => Object::new(),
        };
        for (field, default) in FIELDS {
            if reply.get(field).is_none() {
                let value = order
                    .message
                    .get(field)
                    .cloned()
                    .unwrap_or_else(|| Json::parse(default.as_bytes()).unwrap_or(Json::Null));
                reply.set(field, value);
            }
        }
        reply.set("validator_hotkey", hotkey.into());
        match verdict {
            Verdict::Accepted => {
                let text = order_json.unwrap_or_else(|| {
                    let mut about = Object::new();
                    about.set("order_uuid", order.uuid.as_str().into());
                    about.set("n", n.into());
                    Json::Object(about).to_python_json()
                });
                reply.set("successfully_processed", true.into());
                reply.set("order_json", text.into());
            }
            Verdict::Repeated => {
                reply.set("error_message", repeated(&order.uuid).into());
            }
            Verdict::Failed { message, should_retry } => {
                reply.set("error_message", message.as_str().into());
                if let Some(retry) = *should_retry {
                    reply.set("should_retry", retry.into());
                }
            }
            Verdict::Refused { .. } | Verdict::Fault { .. } => {}
        }
        reply.set("miner_order_uuid", order.uuid.as_str().into());
        if !self.options.says_should_retry {
            reply.remove("should_retry");
        }
        Json::Object(reply).to_string()
    }
}

impl Order {
    fn new(wire: Wire, sender: String, message: Object) -> Self {
        let uuid = match message.get("miner_order_uuid").and_then(Json::as_str) {
            None | Some("") => Uuid::new_v4().to_string(),
            Some(uuid) => uuid.to_owned(),
        };
        let signal = message.get("signal").cloned().unwrap_or_else(|| Object::new().into());
        Self { sender, uuid, signal, message, wire }
    }

    /// These name other orders by their uuids, so the same one may come again.
    fn reuses_uuids(&self) -> bool {
        self.signal
            .as_object()
            .and_then(|signal| signal.get("execution_type"))
            .and_then(Json::as_str)
            .and_then(ExecutionType::parse)
            .is_some_and(ExecutionType::targets_other_orders)
    }
}

/// Reads a body and checks the types of what a validator reads.
fn message(body: &[u8]) -> Result<Object, String> {
    let Json::Object(message) = Json::parse(body).map_err(|e| e.to_string())? else {
        return Err("the body is not an object".to_owned());
    };
    for field in ["repo_version", "error_message", "validator_hotkey", "miner_order_uuid"] {
        if message.get(field).is_some_and(|value| value.as_str().is_none()) {
            return Err(format!("{field}: Input should be a valid string"));
        }
    }
    if message.get("signal").is_some_and(|value| value.as_object().is_none()) {
        return Err("signal: Input should be a valid dictionary".to_owned());
    }
    Ok(message)
}

/// The network's words to a repeated order.
fn repeated(uuid: &str) -> String {
    format!(
        "Order with uuid [{uuid}] has already been processed. Please try again with a new order."
    )
}

/// The network's words to too many requests.
pub(super) fn rate_limited(seconds: u64) -> String {
    format!("Rate limited. Please wait {seconds} seconds before sending another signal.")
}

/// The last things that happened, oldest first.
#[derive(Debug)]
pub(super) struct Recent<T>(VecDeque<T>);

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T: Clone> Recent<T> {
    pub(super) fn push(&mut self, item: T, keep: usize) {
        if keep == 0 {
            return;
        }
        while self.0.len() >= keep {
            self.0.pop_front();
        }
        self.0.push_back(item);
    }

    pub(super) fn all(&self) -> Vec<T> {
        self.0.iter().cloned().collect()
    }
}
