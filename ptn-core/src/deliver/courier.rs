//! One validator's courier: its lanes and its pace. One attempt is left to [`super::attempt`].
//!
//! A task of its own per validator. Its queue is a row of segments: lanes (one queue per trade
//! pair) and barriers. Only the first segment moves, so a barrier waits for everything before it
//! and everything after waits for the barrier.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::active::{Active, Gone, Word};
use super::attempt::{Attempt, STOPPED};
use super::engine::Shared;
use super::pacing::Pacer;
use super::policy::OnUnknown;
use super::verdict::{Judged, LONGEST_WAIT, Verdict};
use crate::record::{DeliveryState, Progress, ValidatorRecord};
use crate::store::Hold;
use crate::trade_pair::TradePairId;

/// After so many attempts in a row that did not get through, one probe at a time is enough.
const DOWN_AFTER: u32 = 3;
/// How soon to look again whether the store confirms our lease.
pub(super) const UNSURE: Duration = Duration::from_millis(100);

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
    /// This run has tried it: what the record says of a lost answer was looked at before.
    tried: bool,
    quick_used: bool,
}

#[derive(Debug)]
enum Segment {
    Lanes(BTreeMap<TradePairId, VecDeque<Job>>),
    Barrier(Box<Job>),
}

/// What became of a job's turn.
pub(super) struct Turn {
    pub(super) pair: Option<TradePairId>,
    pub(super) record: Result<ValidatorRecord, Gone>,
    /// The verdict, when something was sent or tried.
    pub(super) judged: Option<Judged>,
    /// When it is due again, if it is.
    pub(super) again_at: Option<Instant>,
}

/// Why a job is decided without sending.
pub(super) struct Unsent {
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
        let (busy, tried, quick_used) = (false, false, false);
        let job = Job { active, record, not_before, busy, tried, quick_used };
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
            let listed = validator.is_some();
            if let Some(why) =
                decided_unsent(&shared, &job.active, &job.record, now, listed, job.tried)
            {
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
                tried: job.tried,
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
            if reached {
                self.failures = 0;
            } else if judged.code != STOPPED {
                self.failures = self.failures.saturating_add(1);
            }
            if let (Verdict::Wait(wait), "rate_limited") = (&judged.verdict, judged.code) {
                self.pacer.blocked(now + *wait);
            }
        }
        let Some(job) = self.head(turn.pair.as_ref()) else { return };
        job.busy = false;
        let settled = match turn.record {
            Ok(record) if !record.state.is_final() => {
                if let Some(judged) = &turn.judged {
                    job.tried |= judged.code != STOPPED;
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
pub(super) fn decided_unsent(
    shared: &Shared,
    active: &Active,
    record: &ValidatorRecord,
    now: Instant,
    listed: bool,
    tried: bool,
) -> Option<Unsent> {
    let hold =
        !active.repeats_are_safe(&shared.policy) && shared.policy.on_unknown == OnUnknown::Hold;
    let unsent = |state, code, message: &str| {
        let state = if record.maybe_sent { DeliveryState::Unknown } else { state };
        Some(Unsent { state, code, message: message.to_owned() })
    };
    // Without attempts of its own it was retried deliberately: someone has looked.
    if record.maybe_sent && record.attempts > 0 && hold && !tried {
        let message = "an earlier run was interrupted while it sent this order; it is not repeated because validators cannot recognise a repeat of it: check the position";
        return unsent(DeliveryState::Unknown, "interrupted", message);
    }
    if active.cancelled.load(Ordering::Acquire) {
        return unsent(DeliveryState::Cancelled, "cancelled", "cancelled on request");
    }
    if active.may_be_sent_for(now).is_some_and(|left| left.is_zero()) {
        let age = active.age(now).as_secs();
        let message = format!(
            "{age} s old: a market order that opens a position is not sent that late; resend it deliberately with `ptn-cli signals retry {}`",
            active.id()
        );
        return unsent(DeliveryState::Expired, "expired", &message);
    }
    if !listed {
        let message = "the validator is no longer in the list of validators";
        return unsent(DeliveryState::Cancelled, "left_metagraph", message);
    }
    None
}

pub(super) async fn settle_unsent(
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
    // What the store does not know by the next start gets nothing.
    let written = match active.targets_are_known().await {
        Word::Gone => Err(Gone),
        Word::Taken | Word::TakenLate => shared.persist(&active.lease, outcome).await,
    };
    Turn {
        pair: active.pair.clone(),
        record: written.map(|()| record),
        judged: None,
        again_at: None,
    }
}
