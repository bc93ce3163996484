//! One validator's courier: its lanes, its pace, its attempts.
//!
//! A task of its own per validator. Its queue is a row of segments: lanes (one queue per trade
//! pair) and barriers. Only the first segment moves, so a barrier waits for everything before it
//! and everything after waits for the barrier.

use std::collections::{BTreeMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::active::{Active, Gone};
use super::engine::Shared;
use super::pacing::Pacer;
use super::policy::OnUnknown;
use super::verdict::{self, Judged, LONGEST_WAIT, Verdict};
use crate::directory::Validator;
use crate::record::{DeliveryState, Progress, ValidatorRecord};
use crate::store::Hold;
use crate::trade_pair::TradePairId;
use crate::transport::{Certainty, TransportError, ValidatorReply};

/// After so many attempts in a row that did not get through, one probe at a time is enough.
const DOWN_AFTER: u32 = 3;
/// How often a validator may ask for a wait before that counts as a refusal.
const MOST_WAITS: u32 = 10;
/// How soon to look again whether the store confirms our lease.
const UNSURE: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) enum Command {
    /// A signal for this validator.
    Deliver(Arc<Active>, Box<ValidatorRecord>),
    /// Something changed (a cancellation): look again.
    Wake,
}

/// A job at its place in the queue.
#[derive(Debug)]
struct Job {
    active: Arc<Active>,
    record: ValidatorRecord,
    not_before: Option<Instant>,
    busy: bool,
    quick_used: bool,
}

#[derive(Debug)]
enum Segment {
    Lanes(BTreeMap<TradePairId, VecDeque<Job>>),
    Barrier(Box<Job>),
}

/// What became of a job's turn.
struct Turn {
    pair: Option<TradePairId>,
    record: Result<ValidatorRecord, Gone>,
    /// The verdict, when something was sent or tried.
    judged: Option<Judged>,
    /// When it is due again, if it is.
    again_at: Option<Instant>,
}

/// Why a job is decided without sending.
struct Unsent {
    state: DeliveryState,
    code: &'static str,
    message: String,
}

pub(super) struct Courier {
    hotkey: String,
    shared: Arc<Shared>,
    stop: CancellationToken,
    segments: VecDeque<Segment>,
    turns: FuturesUnordered<BoxFuture<'static, Turn>>,
    sending: usize,
    pacer: Pacer,
    failures: u32,
    settled: mpsc::UnboundedSender<Arc<Active>>,
}

impl Courier {
    pub(super) fn new(
        hotkey: String,
        shared: Arc<Shared>,
        stop: CancellationToken,
        settled: mpsc::UnboundedSender<Arc<Active>>,
    ) -> Self {
        let mut pacer = Pacer::new(shared.policy.pacing);
        let (now, clock) = (Instant::now(), shared.now());
        for sent in shared.sent_before(&hotkey) {
            pacer.remember(now, clock, &sent.record, sent.pair.as_ref());
        }
        let (segments, turns) = (VecDeque::new(), FuturesUnordered::new());
        Self { hotkey, shared, stop, segments, turns, sending: 0, pacer, failures: 0, settled }
    }

    /// Runs until it is told to stop; then waits for the attempts that are under way.
    pub(super) async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        let warm_every = self.shared.policy.warm_every;
        let mut warm = tokio::time::interval(warm_every.unwrap_or(Duration::from_secs(3600)));
        warm.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let far = Duration::from_secs(3600);
        loop {
            let now = Instant::now();
            let wake = self.start_turns(now).unwrap_or(now + far);
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                Some(turn) = self.turns.next() => self.end_turn(turn),
                command = commands.recv() => match command {
                    Some(Command::Deliver(active, record)) => self.enqueue(active, *record),
                    Some(Command::Wake) => {}
                    None => break,
                },
                () = tokio::time::sleep_until(wake) => {}
                _ = warm.tick(), if warm_every.is_some() => self.warm(),
            }
        }
        while let Some(turn) = self.turns.next().await {
            self.end_turn(turn);
        }
    }

    fn warm(&self) {
        if self.sending == 0
            && let Some(validator) = self.shared.validator(&self.hotkey)
        {
            let transport = Arc::clone(&self.shared.transport);
            tokio::spawn(async move { transport.warm(&validator).await });
        }
    }

    fn enqueue(&mut self, active: Arc<Active>, record: ValidatorRecord) {
        if active.resumed {
            let (now, clock) = (Instant::now(), self.shared.now());
            self.pacer.remember(now, clock, &record, active.pair.as_ref());
        }
        let not_before = record.next_try_at.map(|at| {
            let ms = u64::try_from(at.saturating_sub(self.shared.now())).unwrap_or(0);
            Instant::now() + Duration::from_millis(ms).min(LONGEST_WAIT)
        });
        let job = Job { active, record, not_before, busy: false, quick_used: false };
        match (job.active.pair.clone(), self.segments.back_mut()) {
            (Some(pair), Some(Segment::Lanes(lanes))) => {
                lanes.entry(pair).or_default().push_back(job);
            }
            (Some(pair), _) => {
                let lanes = [(pair, VecDeque::from([job]))].into_iter().collect();
                self.segments.push_back(Segment::Lanes(lanes));
            }
            (None, _) => self.segments.push_back(Segment::Barrier(Box::new(job))),
        }
        let queued = self.queued();
        self.shared.health(&self.hotkey, |h| h.queued = queued);
    }

    fn queued(&self) -> usize {
        let count = |segment: &Segment| match segment {
            Segment::Lanes(lanes) => lanes.values().map(VecDeque::len).sum(),
            Segment::Barrier(_) => 1,
        };
        self.segments.iter().map(count).sum()
    }

    /// The jobs at the head of their lanes.
    fn heads(&mut self) -> Vec<&mut Job> {
        match self.segments.front_mut() {
            Some(Segment::Lanes(lanes)) => {
                lanes.values_mut().filter_map(VecDeque::front_mut).collect()
            }
            Some(Segment::Barrier(job)) => vec![job.as_mut()],
            None => Vec::new(),
        }
    }

    /// Starts everything that may start now; says when to look again.
    fn start_turns(&mut self, now: Instant) -> Option<Instant> {
        let shared = Arc::clone(&self.shared);
        let validator = shared.validator(&self.hotkey);
        let mut wake: Option<Instant> = None;
        let mut later = |at: Instant| wake = Some(wake.map_or(at, |w| w.min(at)));
        let mut unsent = Vec::new();
        let mut ready = Vec::new();
        let pacer = std::mem::take(&mut self.pacer);
        let mut gone = Vec::new();
        for job in self.heads().into_iter().filter(|job| !job.busy) {
            let pair = job.active.pair.clone();
            match shared.store.hold(&job.active.lease) {
                Hold::Until(_) => {}
                Hold::Unsure => {
                    later(now + UNSURE);
                    continue;
                }
                Hold::Lost => {
                    job.busy = true;
                    gone.push(pair);
                    continue;
                }
            }
            if let Some(why) = decided_unsent(&shared, job, now, validator.is_some()) {
                job.busy = true;
                unsent.push((Arc::clone(&job.active), job.record.clone(), why));
                continue;
            }
            if let Some(left) = job.active.may_be_sent_for(now) {
                later(now + left + Duration::from_millis(1));
            }
            match job.not_before.max(pacer.pair_at(pair.as_ref(), now)).filter(|at| *at > now) {
                Some(at) => later(at),
                None => ready.push((!job.active.reduces, job.active.seq(), pair)),
            }
        }
        self.pacer = pacer;
        for pair in gone {
            let turn = Turn { pair, record: Err(Gone), judged: None, again_at: None };
            self.turns.push(Box::pin(std::future::ready(turn)));
        }
        for (active, record, why) in unsent {
            let turn = settle_unsent(Arc::clone(&shared), active, record, why);
            self.turns.push(Box::pin(turn));
        }
        let Some(validator) = validator else { return wake };
        // What closes a position goes first when the validator's budget is short.
        ready.sort();
        let room = if self.failures >= DOWN_AFTER { 1 } else { shared.policy.max_in_flight };
        for (_, _, pair) in ready {
            if self.sending >= room {
                break;
            }
            if let Some(at) = self.pacer.request_at(now) {
                wake = Some(wake.map_or(at, |w| w.min(at)));
                break;
            }
            let Some(job) = self.head(pair.as_ref()) else { continue };
            job.busy = true;
            job.not_before = None;
            let turn = Attempt {
                shared: Arc::clone(&shared),
                validator: validator.clone(),
                active: Arc::clone(&job.active),
                before: job.record.clone(),
                quick_used: job.quick_used,
            };
            self.pacer.begun(now);
            self.sending += 1;
            self.turns.push(Box::pin(turn.run()));
        }
        wake
    }

    fn head(&mut self, pair: Option<&TradePairId>) -> Option<&mut Job> {
        match (self.segments.front_mut(), pair) {
            (Some(Segment::Lanes(lanes)), Some(pair)) => lanes.get_mut(pair)?.front_mut(),
            (Some(Segment::Barrier(job)), None) => Some(job.as_mut()),
            _ => None,
        }
    }

    fn end_turn(&mut self, turn: Turn) {
        let now = Instant::now();
        if let Some(judged) = &turn.judged {
            self.sending = self.sending.saturating_sub(1);
            let reached = !matches!(judged.verdict, Verdict::NotSent);
            // Only an order that was, or may have been, processed starts the pair's cooldown.
            let processed = matches!(
                judged.verdict,
                Verdict::Accepted | Verdict::AlreadyProcessed | Verdict::MaybeSent
            );
            self.pacer.ended(now, turn.pair.as_ref().filter(|_| processed), reached);
            self.failures = if reached { 0 } else { self.failures.saturating_add(1) };
            if let (Verdict::Wait(wait), "rate_limited") = (&judged.verdict, judged.code) {
                self.pacer.blocked(now + *wait);
            }
        }
        let Some(job) = self.head(turn.pair.as_ref()) else { return };
        job.busy = false;
        let settled = match turn.record {
            Ok(record) if !record.state.is_final() => {
                if let Some(judged) = &turn.judged {
                    job.quick_used |= judged.code == "connection_lost";
                }
                job.not_before = turn.again_at;
                job.record = record;
                return;
            }
            Ok(record) => {
                let active = Arc::clone(&job.active);
                active.settle(record).then_some(active)
            }
            Err(Gone) => None,
        };
        self.drop_head(turn.pair.as_ref());
        if let Some(active) = settled {
            // The receiver is gone only when the engine is, and then nothing is to be finished.
            self.settled.send(active).ok();
        }
        let queued = self.queued();
        self.shared.health(&self.hotkey, |h| h.queued = queued);
    }

    fn drop_head(&mut self, pair: Option<&TradePairId>) {
        let empty = match (self.segments.front_mut(), pair) {
            (Some(Segment::Lanes(lanes)), Some(pair)) => {
                if let Some(lane) = lanes.get_mut(pair) {
                    lane.pop_front();
                    if lane.is_empty() {
                        lanes.remove(pair);
                    }
                }
                lanes.is_empty()
            }
            _ => true,
        };
        if empty {
            self.segments.pop_front();
        }
    }
}

/// Whether a job is decided without sending anything more.
fn decided_unsent(shared: &Shared, job: &Job, now: Instant, listed: bool) -> Option<Unsent> {
    let hold =
        !job.active.repeats_are_safe(&shared.policy) && shared.policy.on_unknown == OnUnknown::Hold;
    let unsent = |state, code, message: &str| {
        let state = if job.record.maybe_sent { DeliveryState::Unknown } else { state };
        Some(Unsent { state, code, message: message.to_owned() })
    };
    // Without attempts of its own it was retried deliberately: someone has looked.
    if job.record.maybe_sent && job.record.attempts > 0 && hold {
        let message = "an earlier run was interrupted while it sent this order; it is not repeated because validators cannot recognise a repeat of it: check the position";
        return unsent(DeliveryState::Unknown, "interrupted", message);
    }
    if job.active.cancelled.load(Ordering::Acquire) {
        return unsent(DeliveryState::Cancelled, "cancelled", "cancelled on request");
    }
    if job.active.may_be_sent_for(now).is_some_and(|left| left.is_zero()) {
        let age = job.active.age(now).as_secs();
        let message = format!(
            "{age} s old: a market order that opens a position is not sent that late; resend it deliberately with `ptn-cli signals retry {}`",
            job.active.id()
        );
        return unsent(DeliveryState::Expired, "expired", &message);
    }
    if !listed {
        let message = "the validator is no longer in the list of validators";
        return unsent(DeliveryState::Cancelled, "left_metagraph", message);
    }
    None
}

async fn settle_unsent(
    shared: Arc<Shared>,
    active: Arc<Active>,
    mut record: ValidatorRecord,
    why: Unsent,
) -> Turn {
    record.state = why.state;
    record.code = why.code.to_owned();
    record.message = why.message;
    record.next_try_at = None;
    record.at = shared.now();
    tracing::warn!(
        uuid = %active.id(), validator = %record.hotkey, state = %record.state,
        code = record.code, "not sent: {}", record.message
    );
    let outcome = Progress::Outcome { validator: record.clone() };
    let written = shared.persist(&active.lease, outcome).await;
    Turn {
        pair: active.pair.clone(),
        record: written.map(|()| record),
        judged: None,
        again_at: None,
    }
}

/// One attempt, from its announcement in the store to its recorded outcome.
struct Attempt {
    shared: Arc<Shared>,
    validator: Validator,
    active: Arc<Active>,
    before: ValidatorRecord,
    quick_used: bool,
}

impl Attempt {
    async fn run(self) -> Turn {
        let shared = &self.shared;
        let lease = &self.active.lease;
        let begin = Progress::Begin { hotkeys: vec![self.validator.hotkey.clone()] };
        let pair = self.active.pair.clone();
        let (result, took) = if self.active.repeats_are_safe(&shared.policy) {
            // A repeat would be recognised, so the first byte does not wait for the disk.
            let announced = async {
                if let Err(e) = shared.store.record(lease, begin).await {
                    tracing::warn!(uuid = %self.active.id(), code = e.code(), "attempt not announced: {e}");
                }
            };
            let ((), sent) = tokio::join!(announced, self.send());
            sent
        } else {
            if let Err(gone) = shared.persist(lease, begin).await {
                let judged =
                    Judged { verdict: Verdict::NotSent, code: "stopped", message: String::new() };
                return Turn { pair, record: Err(gone), judged: Some(judged), again_at: None };
            }
            self.send().await
        };
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
        let (record, wait) = self.record(&result, &judged, took);
        // By the clock that cannot be set; the record tells the next run by the wall clock.
        let again_at = wait.map(|wait| Instant::now() + wait);
        self.log(&record, &judged);
        self.note_health(&record, &judged, result.is_ok());
        let outcome = Progress::Outcome { validator: record.clone() };
        let written = shared.persist(lease, outcome).await;
        Turn { pair, record: written.map(|()| record), judged: Some(judged), again_at }
    }

    async fn send(&self) -> (Result<ValidatorReply, TransportError>, Duration) {
        let start = Instant::now();
        let deadline = start + self.shared.policy.timeout;
        let order = self.active.order(&self.shared.policy.repo_version);
        let lapsed = |certainty| {
            let message = "the store did not confirm in time that this process delivers".to_owned();
            Err(TransportError { certainty, code: "lease_lapsed", message })
        };
        if !matches!(self.shared.store.hold(&self.active.lease), Hold::Until(_)) {
            return (lapsed(Certainty::NotSent), Duration::ZERO);
        }
        let sent = self.shared.transport.deliver(&self.validator, order, deadline);
        // A bug of a transport costs this attempt, not the lane and everything queued on it.
        let sent = AssertUnwindSafe(sent).catch_unwind();
        let result = tokio::select! {
            biased;
            result = sent => result.unwrap_or_else(|_| {
                let message = format!(
                    "validator {}: the transport panicked, which is a bug; the order may have arrived",
                    self.validator.hotkey
                );
                Err(TransportError { certainty: Certainty::MaybeSent, code: "panicked", message })
            }),
            () = self.lease_lapses() => lapsed(Certainty::MaybeSent),
        };
        (result, start.elapsed())
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
        r.attempts += 1;
        r.address = self.validator.address().to_string();
        r.at = now;
        r.next_try_at = None;
        r.code = judged.code.to_owned();
        r.message = judged.message.clone();
        if let Ok(reply) = result {
            r.round_trip_us = u64::try_from(took.as_micros()).ok();
            r.order_json.clone_from(&reply.order_json);
        }
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
            Verdict::FinalOrder if result.is_err() && !lost_before => {
                r.state = DeliveryState::Denied;
            }
            // Whoever judges the order itself would have recognised an earlier copy of it. Another
            // refusal says nothing about the attempt whose answer was lost.
            Verdict::FinalOrder
                if self.active.repeats_are_safe(policy)
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

    fn note_health(&self, r: &ValidatorRecord, judged: &Judged, answered: bool) {
        let now = self.shared.now();
        if judged.verdict == Verdict::Accepted {
            self.shared.note_ack(&r.hotkey);
        }
        self.shared.health(&r.hotkey, |h| {
            h.address.clone_from(&r.address);
            h.attempts += 1;
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
