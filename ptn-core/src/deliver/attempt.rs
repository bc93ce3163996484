//! One attempt at one validator: announced, sent, judged and recorded.
//!
//! Here is the one place that decides whether an order is sent again. What an answer means is left
//! to [`super::verdict`], whose turn it is to the couriers.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::FutureExt as _;
use tokio::time::Instant;

use super::active::{Active, Gone, Word};
use super::courier::{Turn, UNSURE, decided_unsent, settle_unsent};
use super::engine::Shared;
use super::guarding::tell_outcome;
use super::policy::OnUnknown;
use super::verdict::{self, Judged, LONGEST_WAIT, Verdict};
use crate::directory::Validator;
use crate::record::{DeliveryState, Progress, ValidatorRecord};
use crate::store::Hold;
use crate::transport::{Certainty, TransportError, ValidatorReply};

/// How often a validator may ask for a wait before that counts as a refusal.
const MOST_WAITS: u32 = 10;

/// The code of a turn in which nothing was tried.
pub(super) const STOPPED: &str = "stopped";
const LEASE_LAPSED: &str = "lease_lapsed";
const NOT_CONFIRMED: &str = "the store did not confirm in time that this process delivers";

/// What a validator looks at before it looks whether it knows the order's uuid.
const BEFORE_THE_UUID: [&str; 3] = ["subaccount_inactive", "account_transition", "bad_request"];

/// One attempt, from its announcement in the store to its recorded outcome.
pub(super) struct Attempt {
    pub(super) shared: Arc<Shared>,
    pub(super) validator: Validator,
    pub(super) active: Arc<Active>,
    pub(super) before: ValidatorRecord,
    /// Whether this run has tried it before.
    pub(super) tried: bool,
    pub(super) quick_used: bool,
}

impl Attempt {
    pub(super) async fn run(self) -> Turn {
        let shared = &self.shared;
        let lease = &self.active.lease;
        let pair = self.active.pair.clone();
        let stopped =
            || Judged { verdict: Verdict::NotSent, code: STOPPED, message: String::new() };
        // Safe before the first byte leaves, also where a repeat would be recognised: otherwise a
        // run after this one could say of an order that left that nothing was sent.
        if let Err(gone) = self.announce().await {
            return Turn { pair, record: Err(gone), judged: Some(stopped()), again_at: None };
        }
        // That may have taken long.
        let now = Instant::now();
        if let Some(why) = decided_unsent(shared, &self.active, &self.before, now, true, self.tried)
        {
            let (shared, active) = (Arc::clone(shared), Arc::clone(&self.active));
            let turn = settle_unsent(shared, active, self.before.clone(), why).await;
            return Turn { judged: Some(stopped()), ..turn };
        }
        if !self.is_held() {
            return Turn { judged: Some(stopped()), ..self.hold_back().await };
        }
        let (result, took) = self.send().await;
        let mut judged = verdict::judge(&result);
        if judged.code == "wrong_wire" {
            let other = self.validator.wire.other().as_str();
            let (wire, hotkey) = (self.validator.wire.as_str(), &self.validator.hotkey);
            judged.message = format!(
                "{} (it speaks {other}, and was addressed as {wire}: give --delivery.wire-for \
                 {hotkey}={other}, or wire = \"{other}\" in the file of --validators)",
                judged.message
            );
        }
        let unproven = self.is_unproven(&result, &judged);
        let (record, wait) = self.record(&result, &judged, took);
        // By the clock that cannot be set; the record tells the next run by the wall clock.
        let again_at = wait.map(|wait| Instant::now() + wait);
        self.log(&record, &judged);
        let clock = result.as_ref().ok().and_then(|reply| reply.clock_ahead_ms);
        self.note_health(&record, &judged, result.is_ok() && !unproven, clock);
        if let Some(guard) = &shared.guard {
            // Before anybody can learn of it and send the next order.
            tell_outcome(guard, &self.active.lease.stored.signal, &record);
        }
        let outcome = Progress::Outcome { validator: record.clone() };
        let written = shared.persist(lease, outcome).await;
        Turn { pair, record: written.map(|()| record), judged: Some(judged), again_at }
    }

    /// Writes down that the attempt begins: queued at once, behind the word of whom the signal goes
    /// to, and once more when one of the two was not taken.
    async fn announce(&self) -> Result<(), Gone> {
        let begin = Progress::Begin { hotkeys: vec![self.validator.hotkey.clone()] };
        let lease = &self.active.lease;
        let written = self.shared.store.record(lease, begin.clone()).await;
        match self.active.targets_are_known().await {
            Word::Taken if written.is_ok() => Ok(()),
            Word::Gone => Err(Gone),
            Word::Taken | Word::TakenLate => self.shared.persist(lease, begin).await,
        }
    }

    async fn send(&self) -> (Result<ValidatorReply, TransportError>, Duration) {
        let start = Instant::now();
        let deadline = start + self.shared.policy.timeout;
        let order = self.active.order(&self.shared.policy.repo_version);
        let lapsed = || {
            Err(TransportError::new(Certainty::MaybeSent, LEASE_LAPSED, NOT_CONFIRMED.to_owned()))
        };
        // Asked at every step, not only when the timer says so: a process that stood still may be woken
        // by anything.
        let asleep =
            std::future::poll_fn(|_| if self.is_held() { Poll::Pending } else { Poll::Ready(()) });
        let sent = self.shared.transport.deliver(&self.validator, order, deadline);
        // A bug of a transport costs this attempt, not the lane and everything queued on it.
        let sent = AssertUnwindSafe(sent).catch_unwind();
        let result = tokio::select! {
            biased;
            // First, because a process that was frozen may find both ready.
            () = asleep => lapsed(),
            () = self.lease_lapses() => lapsed(),
            result = sent => result.unwrap_or_else(|_| {
                let message = format!(
                    "validator {}: the transport panicked, which is a bug; the order may have arrived",
                    self.validator.hotkey
                );
                Err(TransportError::new(Certainty::MaybeSent, "panicked", message))
            }),
        };
        (result, start.elapsed())
    }

    fn is_held(&self) -> bool {
        matches!(self.shared.store.hold(&self.active.lease), Hold::Until(_))
    }

    /// Takes the announcement back: nobody says that the signal is still ours. That is no try.
    async fn hold_back(&self) -> Turn {
        let mut record = self.before.clone();
        record.code = LEASE_LAPSED.to_owned();
        record.message = NOT_CONFIRMED.to_owned();
        record.at = self.shared.now();
        let outcome = Progress::Outcome { validator: record.clone() };
        let written = self.shared.persist(&self.active.lease, outcome).await;
        let (pair, again_at) = (self.active.pair.clone(), Some(Instant::now() + UNSURE));
        Turn { pair, record: written.map(|()| record), judged: None, again_at }
    }

    /// Ready once nobody can say any more that the signal is ours: then not another byte may leave.
    async fn lease_lapses(&self) {
        loop {
            match self.shared.store.hold(&self.active.lease) {
                Hold::Until(Some(until)) => tokio::time::sleep_until(until).await,
                Hold::Until(None) => std::future::pending().await,
                Hold::Unsure | Hold::Lost => return,
            }
        }
    }

    /// Whether a refusal may be that of somebody else, who has the validator's old address: it does
    /// not name the validator, and the list may be behind the truth.
    fn is_unproven(
        &self,
        result: &Result<ValidatorReply, TransportError>,
        judged: &Judged,
    ) -> bool {
        let refused = matches!(judged.verdict, Verdict::FinalOrder | Verdict::FinalHotkey);
        let hotkey = &self.validator.hotkey;
        let unnamed = |r: &ValidatorReply| r.status != 200 && r.validator_hotkey != *hotkey;
        refused && self.shared.may_be_stale && result.as_ref().is_ok_and(unnamed)
    }

    /// The record after this attempt, and the wait before the next one: the one place that decides
    /// whether to repeat.
    fn record(
        &self,
        result: &Result<ValidatorReply, TransportError>,
        judged: &Judged,
        took: Duration,
    ) -> (ValidatorRecord, Option<Duration>) {
        let policy = &self.shared.policy;
        let now = self.shared.now();
        let mut r = self.before.clone();
        r.attempts = r.attempts.saturating_add(1);
        r.address = self.validator.address().to_string();
        r.at = now;
        r.next_try_at = None;
        r.code = judged.code.to_owned();
        r.message = judged.message.clone();
        if let Ok(reply) = result {
            r.round_trip_us = u64::try_from(took.as_micros()).ok();
            r.order_json.clone_from(&reply.order_json);
        }
        r.keep_short();
        let requests = match result {
            Ok(reply) => &reply.requests,
            Err(error) => &error.requests,
        };
        r.note_requests(requests, judged.code, now);
        let lost_before = self.before.maybe_sent;
        let allowed = policy.attempts(&r, self.shared.acked_before(&r.hotkey));
        let tries_left = r.attempts.saturating_sub(r.waits) < allowed;
        let mut again = None;
        let mut retry_in = |r: &mut ValidatorRecord, wait: Duration| {
            again = Some(wait);
            r.state = DeliveryState::Submitted;
            r.next_try_at = Some(now + i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
        };
        let mut scheduled = policy.wait_after(r.attempts.saturating_sub(r.waits));
        if let Some(asked) = result.as_ref().ok().and_then(|reply| reply.retry_after) {
            scheduled = scheduled.max(asked.min(LONGEST_WAIT));
        }
        let failed = if lost_before { DeliveryState::Unknown } else { DeliveryState::Rejected };
        match &judged.verdict {
            Verdict::Accepted => r.state = DeliveryState::Accepted,
            Verdict::AlreadyProcessed
                if lost_before || self.active.resumed || self.before.attempts > 0 =>
            {
                r.state = DeliveryState::Accepted;
            }
            Verdict::AlreadyProcessed => {
                r.state = DeliveryState::Rejected;
                r.code = "uuid_conflict".to_owned();
                r.message = format!(
                    "{} (this was our first attempt: someone else used this order_uuid)",
                    r.message
                );
            }
            // Like an attempt that reached nobody: the next one goes where the list has it by then.
            Verdict::FinalOrder | Verdict::FinalHotkey
                if tries_left && self.is_unproven(result, judged) =>
            {
                retry_in(&mut r, scheduled);
            }
            Verdict::FinalOrder if result.is_err() && !lost_before => {
                r.state = DeliveryState::Denied;
            }
            // Whoever judges the order itself would have recognised an earlier copy of it; the account
            // and the form of a request are looked at before. Another
            // refusal says nothing about the attempt whose answer was lost; nor does that of a
            // signal about other orders, which is refused because it was carried out before.
            Verdict::FinalOrder
                if self.active.repeats_are_recognised(policy)
                    && !BEFORE_THE_UUID.contains(&judged.code)
                    && result.as_ref().is_ok_and(|r| r.status == 200) =>
            {
                r.state = DeliveryState::Rejected;
            }
            Verdict::FinalOrder => r.state = failed,
            Verdict::FinalHotkey => r.state = failed,
            Verdict::Wait(wait) if allowed > 1 && r.waits < MOST_WAITS => {
                r.waits += 1;
                retry_in(&mut r, *wait);
            }
            Verdict::Transient | Verdict::NotSent if tries_left => retry_in(&mut r, scheduled),
            Verdict::Wait(_) | Verdict::Transient | Verdict::NotSent => r.state = failed,
            Verdict::MaybeSent => {
                r.maybe_sent = true;
                let may_repeat =
                    self.active.repeats_are_safe(policy) || policy.on_unknown == OnUnknown::Resend;
                if may_repeat && judged.code == "connection_lost" && !self.quick_used {
                    retry_in(&mut r, Duration::ZERO);
                } else if may_repeat && tries_left {
                    retry_in(&mut r, scheduled);
                } else {
                    r.state = DeliveryState::Unknown;
                }
            }
        }
        if r.state == DeliveryState::Unknown {
            r.message.push_str(
                "; the order may have been processed: check the position before sending it under a new order_uuid",
            );
        }
        (r, again)
    }

    fn log(&self, r: &ValidatorRecord, judged: &Judged) {
        let (uuid, validator, attempt) = (self.active.id(), &r.hotkey, r.attempts);
        match r.state {
            DeliveryState::Accepted => tracing::info!(
                %uuid, %validator, attempt, code = r.code, round_trip_us = r.round_trip_us,
                "accepted"
            ),
            DeliveryState::Submitted => tracing::info!(
                %uuid, %validator, attempt, code = r.code, next_try_at = r.next_try_at,
                "will be tried again: {}", judged.message
            ),
            state => tracing::warn!(
                %uuid, %validator, attempt, code = r.code, "{state}: {}", r.message
            ),
        }
    }

    fn note_health(
        &self,
        r: &ValidatorRecord,
        judged: &Judged,
        answered: bool,
        clock: Option<i64>,
    ) {
        let now = self.shared.now();
        if judged.verdict == Verdict::Accepted {
            self.shared.note_ack(&r.hotkey);
        }
        self.shared.health(&r.hotkey, |h| {
            h.address.clone_from(&r.address);
            h.attempts += 1;
            if clock.is_some() {
                (h.clock_ahead_ms, h.clock_at) = (clock, Some(now));
            }
            if !answered || matches!(judged.verdict, Verdict::NotSent | Verdict::MaybeSent) {
                h.failures_in_row += 1;
                h.last_error.clone_from(&judged.message);
            } else {
                h.failures_in_row = 0;
                h.last_answer_at = Some(now);
                h.round_trip_us = r.round_trip_us;
            }
        });
    }
}
