//! What a store knows about its signals, in memory: who waits, who is claimed, who is finished.
//!
//! [`Index::decide`] judges a request and says which [`Record`] would make it so, without changing
//! anything; [`Index::apply`] makes it so. Between the two, [`super::FsStore`] writes the record
//! down, and [`super::MemoryStore`] does nothing. Several requests of one batch see each other's
//! effects through [`Batch`] before any of them is applied.
//!
//! Only unfinished signals are kept whole. Of finished ones the digest stays as long as their
//! owner asks for it; the rest is in their files.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{Accepted, Lease, Pending, StoreChange, StoreError, StoredSignal, UnixMs};
use crate::order::{ExecutionType, OrderType};
use crate::record::{DeliveryReport, DeliveryState, Progress, SignalState, ValidatorRecord};
use crate::signal::{OrderUuid, Signal};

/// SHA-256 of what a signal asks for.
pub(super) type Digest = [u8; 32];

/// One fact about a signal. The journal is a list of these, and the index their sum.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Record {
    Accept {
        seq: u64,
        id: OrderUuid,
        digest: Digest,
        at: UnixMs,
        text: Arc<str>,
        /// What listeners are told; of a record that was read back, the text says it.
        summary: Option<Box<Summary>>,
    },
    Progress {
        id: OrderUuid,
        token: u64,
        at: UnixMs,
        progress: Progress,
    },
    Finish {
        id: OrderUuid,
        report: Arc<DeliveryReport>,
    },
    Cancel {
        id: OrderUuid,
        at: UnixMs,
    },
    Retry(Box<Retried>),
    /// Everything that was recorded about an accepted signal so far, when a journal is rewritten.
    Carry {
        id: OrderUuid,
        validators: Vec<ValidatorRecord>,
        cancel: bool,
        retried: bool,
        /// Another turn than that of its acceptance.
        turn: Option<Turn>,
    },
}

/// In which order unfinished signals are delivered: after which place in the order of arrival, and
/// there after how many retries. Who is accepted has its own place and no retry; who is retried comes
/// after everything that was accepted by then, and stays there over every restart: what was sent in
/// the meantime must not be repeated after it.
pub(super) type Turn = (u64, u64);

/// What listeners are told about an accepted signal.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Summary {
    trade_pair: Option<String>,
    execution_type: ExecutionType,
    order_type: Option<OrderType>,
}

impl Summary {
    fn of(signal: &Signal) -> Self {
        Self {
            trade_pair: signal.trade_pair().map(|pair| pair.as_str().to_owned()),
            execution_type: signal.execution_type(),
            order_type: signal.order_type(),
        }
    }
}

/// A failed signal that is deliverable again. Complete, because its first records may be gone.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Retried {
    pub(super) seq: u64,
    pub(super) id: OrderUuid,
    pub(super) digest: Digest,
    pub(super) at: UnixMs,
    pub(super) validators: Vec<ValidatorRecord>,
    pub(super) text: Arc<str>,
}

impl Record {
    pub(super) fn id(&self) -> &OrderUuid {
        match self {
            Self::Accept { id, .. }
            | Self::Progress { id, .. }
            | Self::Finish { id, .. }
            | Self::Cancel { id, .. }
            | Self::Carry { id, .. } => id,
            Self::Retry(retried) => &retried.id,
        }
    }
}

/// What a caller asks of a store.
#[derive(Debug)]
pub(super) enum Request {
    Accept {
        id: OrderUuid,
        id_given: bool,
        digest: Digest,
        text: Arc<str>,
        summary: Option<Box<Summary>>,
        /// When it was given, if that was before now: it is as old as that.
        given_at: Option<UnixMs>,
    },
    Progress {
        id: OrderUuid,
        token: u64,
        progress: Progress,
    },
    Finish {
        id: OrderUuid,
        token: u64,
        report: DeliveryReport,
    },
    Cancel {
        id: OrderUuid,
    },
    Retry {
        id: OrderUuid,
    },
    /// Everything that another store knew of an unfinished signal.
    Carry {
        id: OrderUuid,
        validators: Vec<ValidatorRecord>,
        cancel: bool,
    },
    /// The end that a signal had in another store.
    Conclude {
        id: OrderUuid,
        report: DeliveryReport,
    },
}

impl Request {
    pub(super) fn accept(signal: &Signal) -> Self {
        Self::accept_given(signal, None)
    }

    /// Of a signal that was given at this time, and is found only now.
    pub(super) fn accept_given(signal: &Signal, given_at: Option<UnixMs>) -> Self {
        let (text, digest) = signal.stored_and_digest();
        Self::Accept {
            id: signal.id().clone(),
            id_given: signal.id_was_given(),
            digest,
            text: text.into(),
            summary: Some(Box::new(Summary::of(signal))),
            given_at,
        }
    }

    fn id(&self) -> &OrderUuid {
        match self {
            Self::Accept { id, .. }
            | Self::Progress { id, .. }
            | Self::Finish { id, .. }
            | Self::Cancel { id }
            | Self::Retry { id }
            | Self::Carry { id, .. }
            | Self::Conclude { id, .. } => id,
        }
    }
}

/// The answer to a [`Request`].
#[derive(Debug)]
pub(super) enum Answer {
    Accepted(Accepted),
    Done,
}

/// An unfinished signal.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) seq: u64,
    pub(super) accepted_at: UnixMs,
    pub(super) digest: Digest,
    pub(super) text: Arc<str>,
    /// One per validator. A list, because a map's node has room for eleven of these big records,
    /// and most signals of a long queue have but one or two.
    pub(super) validators: Vec<ValidatorRecord>,
    pub(super) cancel: bool,
    /// Whether it failed before, so a file may be left in `failed_signals/`.
    pub(super) retried: bool,
    /// When it is delivered.
    turn: Turn,
    /// The lease's token; 0 while nobody holds it.
    token: u64,
}

impl Entry {
    /// Its turn, if it was retried.
    pub(super) fn retried_turn(&self) -> Option<Turn> {
        self.retried.then_some(self.turn)
    }

    pub(super) fn stored(&self) -> Result<StoredSignal, String> {
        let signal = Signal::from_stored(&self.text).map_err(|e| e.to_string())?;
        Ok(StoredSignal {
            seq: self.seq,
            signal,
            accepted_at: self.accepted_at,
            state: SignalState::Pending,
            validators: by_hotkey(self.validators.iter().cloned()),
            finished_at: None,
            reason: String::new(),
            cancel_requested: self.cancel,
        })
    }
}

/// A finished signal.
#[derive(Debug, Clone)]
pub(super) enum Finished {
    /// Its file may not be there yet.
    Whole(Box<Entry>, Arc<DeliveryReport>),
    /// The rest is in its file.
    Known { seq: u64, digest: Digest, state: SignalState },
}

impl Finished {
    pub(super) fn stored(&self) -> Option<Result<StoredSignal, String>> {
        let Self::Whole(entry, report) = self else { return None };
        Some(entry.stored().map(|stored| finished(stored, report)))
    }
}

/// The stored signal as its report left it.
pub(super) fn finished(mut stored: StoredSignal, report: &DeliveryReport) -> StoredSignal {
    for validator in &report.validators {
        stored.validators.insert(validator.hotkey.clone(), validator.clone());
    }
    stored.state = report.state;
    stored.finished_at = Some(report.finished_at);
    stored.reason.clone_from(&report.reason);
    stored
}

/// Where a signal stands, as far as a decision needs it.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    pub(super) seq: u64,
    pub(super) digest: Digest,
    pub(super) state: SignalState,
    token: u64,
    cancel: bool,
}

impl Standing {
    pub(super) fn finished(seq: u64, digest: Digest, state: SignalState) -> Self {
        Self { seq, digest, state, token: 0, cancel: false }
    }
}

/// Finds finished signals that the index does not remember.
pub(super) trait Archive {
    /// Where a finished signal of this id stands.
    fn standing(&self, id: &OrderUuid) -> Result<Option<Standing>, StoreError>;
    /// A finished signal, whole.
    fn load(&self, id: &OrderUuid) -> Result<Option<StoredSignal>, StoreError>;
}

/// The effects of the requests of one batch that were decided and not yet applied.
#[derive(Debug, Default)]
pub(super) struct Batch {
    touched: HashMap<OrderUuid, Standing>,
    accepted: u64,
}

/// The sum of all records.
#[derive(Debug, Default)]
pub(super) struct Index {
    live: HashMap<OrderUuid, Entry>,
    queue: BTreeMap<u64, OrderUuid>,
    /// The places of those that nobody delivers, by their turn.
    unclaimed: BTreeMap<Turn, u64>,
    /// How many retries there were.
    retries: u64,
    done: HashMap<OrderUuid, Finished>,
    last_seq: u64,
    last_token: u64,
}

impl Index {
    /// An index for a store that gave out `last_seq` before.
    pub(super) fn after(last_seq: u64) -> Self {
        Self { last_seq, ..Self::default() }
    }

    pub(super) fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Judges a request: the answer, and the record that makes it so, if anything changes.
    pub(super) fn decide(
        &self,
        batch: &mut Batch,
        request: Request,
        now: UnixMs,
        archive: &dyn Archive,
    ) -> Result<(Answer, Option<Record>), StoreError> {
        let standing =
            match batch.touched.get(request.id()).or(self.standing(request.id()).as_ref()) {
                Some(standing) => Some(standing.clone()),
                // A random id cannot have been finished before.
                None if matches!(request, Request::Accept { id_given: false, .. }) => None,
                None => archive.standing(request.id())?,
            };
        match request {
            Request::Accept { id, digest, text, summary, given_at, .. } => {
                if let Some(old) = standing {
                    if old.digest == digest {
                        return Ok((Answer::Accepted(Accepted::Same { state: old.state }), None));
                    }
                    let prefix = |d: &Digest| hex::encode(d.get(..4).unwrap_or_default());
                    let (stored, offered) = (prefix(&old.digest), prefix(&digest));
                    return Err(StoreError::Conflict { id, stored, offered });
                }
                batch.accepted += 1;
                let seq = self.last_seq + batch.accepted;
                let state = SignalState::Pending;
                let standing = Standing { seq, digest, state, token: 0, cancel: false };
                batch.touched.insert(id.clone(), standing);
                let answer = Answer::Accepted(Accepted::New { seq });
                let at = given_at.map_or(now, |given| given.clamp(0, now));
                Ok((answer, Some(Record::Accept { seq, id, digest, at, text, summary })))
            }
            Request::Progress { id, token, progress } => {
                holder(standing, &id, token)?;
                Ok((Answer::Done, Some(Record::Progress { id, token, at: now, progress })))
            }
            Request::Finish { id, token, report } => {
                if report.state == SignalState::Pending {
                    let wanted = "a report must say processed or failed";
                    return Err(StoreError::WrongState { id, state: report.state, wanted });
                }
                let mut standing = holder(standing, &id, token)?;
                standing.state = report.state;
                standing.token = 0;
                batch.touched.insert(id.clone(), standing);
                Ok((Answer::Done, Some(Record::Finish { id, report: Arc::new(report) })))
            }
            Request::Carry { id, validators, cancel } => {
                let Some(mut standing) = standing else { return Err(StoreError::NotFound { id }) };
                if standing.state != SignalState::Pending {
                    let wanted = "only an unfinished signal has more to come";
                    return Err(StoreError::WrongState { id, state: standing.state, wanted });
                }
                standing.cancel = cancel;
                batch.touched.insert(id.clone(), standing);
                let retried = self.live.get(&id).is_some_and(|entry| entry.retried);
                Ok((
                    Answer::Done,
                    Some(Record::Carry { id, validators, cancel, retried, turn: None }),
                ))
            }
            Request::Conclude { id, report } => {
                let Some(mut standing) = standing else { return Err(StoreError::NotFound { id }) };
                if standing.state != SignalState::Pending || report.state == SignalState::Pending {
                    let wanted = "only an unfinished signal can be ended";
                    return Err(StoreError::WrongState { id, state: standing.state, wanted });
                }
                standing.state = report.state;
                batch.touched.insert(id.clone(), standing);
                Ok((Answer::Done, Some(Record::Finish { id, report: Arc::new(report) })))
            }
            Request::Cancel { id } => {
                let Some(mut standing) = standing else { return Err(StoreError::NotFound { id }) };
                if standing.state != SignalState::Pending {
                    let wanted = "only a signal that is not finished can be cancelled";
                    return Err(StoreError::WrongState { id, state: standing.state, wanted });
                }
                if standing.cancel {
                    return Ok((Answer::Done, None));
                }
                standing.cancel = true;
                batch.touched.insert(id.clone(), standing);
                Ok((Answer::Done, Some(Record::Cancel { id, at: now })))
            }
            Request::Retry { id } => {
                let Some(mut standing) = standing else { return Err(StoreError::NotFound { id }) };
                if standing.state != SignalState::Failed {
                    let wanted = "only a failed signal can be retried";
                    return Err(StoreError::WrongState { id, state: standing.state, wanted });
                }
                // One that fails in this very batch is not in the index yet, and its file tells of the
                // round before.
                if self.live.contains_key(&id) {
                    let (state, wanted) =
                        (SignalState::Pending, "only a failed signal can be retried");
                    return Err(StoreError::WrongState { id, state, wanted });
                }
                let known = self.done.get(&id).and_then(Finished::stored);
                let stored = match known {
                    Some(stored) => stored.map_err(|what| unreadable(&id, what))?,
                    None => match archive.load(&id)? {
                        Some(stored) => stored,
                        None => return Err(StoreError::NotFound { id }),
                    },
                };
                standing.state = SignalState::Pending;
                standing.cancel = false;
                let (seq, digest) = (standing.seq, standing.digest);
                batch.touched.insert(id.clone(), standing);
                let validators = stored.validators.into_values().map(again).collect();
                let text = stored.signal.to_stored().into();
                let retried = Retried { seq, id, digest, at: now, validators, text };
                Ok((Answer::Done, Some(Record::Retry(Box::new(retried)))))
            }
        }
    }

    fn standing(&self, id: &OrderUuid) -> Option<Standing> {
        if let Some(e) = self.live.get(id) {
            let (seq, digest, token, cancel) = (e.seq, e.digest, e.token, e.cancel);
            return Some(Standing { seq, digest, state: SignalState::Pending, token, cancel });
        }
        self.done.get(id).map(|finished| match finished {
            Finished::Whole(entry, report) => {
                Standing::finished(entry.seq, entry.digest, report.state)
            }
            Finished::Known { seq, digest, state } => Standing::finished(*seq, *digest, *state),
        })
    }

    /// Makes a record so.
    ///
    /// # Errors
    /// When it contradicts what is known; then nothing is changed.
    pub(super) fn apply(&mut self, record: Record) -> Result<(), String> {
        match record {
            Record::Accept { seq, id, digest, at, text, .. } => {
                if self.live.contains_key(&id) || self.done.contains_key(&id) {
                    return Err(format!("{id} is accepted twice"));
                }
                self.insert(
                    id,
                    Entry {
                        seq,
                        accepted_at: at,
                        digest,
                        text,
                        validators: Vec::new(),
                        cancel: false,
                        retried: false,
                        turn: (seq, 0),
                        token: 0,
                    },
                )
            }
            Record::Progress { id, token, progress, .. } => {
                self.last_token = self.last_token.max(token);
                progress.apply_to_list(&mut self.unfinished(&id)?.validators);
                Ok(())
            }
            Record::Finish { id, report } => {
                let Some(mut entry) = self.live.remove(&id) else { return Err(unknown(&id)) };
                self.queue.remove(&entry.seq);
                self.unclaimed.remove(&entry.turn);
                entry.token = 0;
                self.done.insert(id, Finished::Whole(Box::new(entry), report));
                Ok(())
            }
            Record::Cancel { id, .. } => {
                self.unfinished(&id)?.cancel = true;
                Ok(())
            }
            Record::Retry(retried) => {
                let Retried { seq, id, digest, at, validators, text } = *retried;
                if self.live.contains_key(&id) {
                    return Err(format!("{id} is retried before it failed"));
                }
                self.done.remove(&id);
                self.retries += 1;
                let turn = (self.last_seq.max(seq), self.retries);
                self.insert(
                    id,
                    Entry {
                        seq,
                        accepted_at: at,
                        digest,
                        text,
                        validators,
                        cancel: false,
                        retried: true,
                        turn,
                        token: 0,
                    },
                )
            }
            Record::Carry { id, validators, cancel, retried, turn } => {
                let entry = self.unfinished(&id)?;
                entry.validators = validators;
                entry.cancel = cancel;
                entry.retried = retried;
                if let Some(turn) = turn {
                    let (before, seq) = (std::mem::replace(&mut entry.turn, turn), entry.seq);
                    self.retries = self.retries.max(turn.1);
                    self.unclaimed.remove(&before);
                    self.unclaimed.insert(turn, seq);
                }
                Ok(())
            }
        }
    }

    fn insert(&mut self, id: OrderUuid, entry: Entry) -> Result<(), String> {
        if self.queue.contains_key(&entry.seq) {
            return Err(format!("{id} has the place of another signal ({})", entry.seq));
        }
        self.last_seq = self.last_seq.max(entry.seq);
        self.queue.insert(entry.seq, id.clone());
        self.unclaimed.insert(entry.turn, entry.seq);
        self.live.insert(id, entry);
        Ok(())
    }

    fn unfinished(&mut self, id: &OrderUuid) -> Result<&mut Entry, String> {
        self.live.get_mut(id).ok_or_else(|| unknown(id))
    }

    /// Tokens of this process rise above those of all before it: above those that were recorded,
    /// and, for claims that left no trace, above the time of their making.
    pub(super) fn begin_claims(&mut self, now: UnixMs) {
        let time = u64::try_from(now).unwrap_or(0).saturating_mul(1024);
        self.last_token = self.last_token.max(time);
    }

    /// As after the death of whoever held them: everything can be claimed again.
    pub(super) fn release_claims(&mut self) {
        for entry in self.live.values_mut() {
            entry.token = 0;
            self.unclaimed.insert(entry.turn, entry.seq);
        }
    }

    /// Leases the first unclaimed signals.
    pub(super) fn claim(&mut self, limit: usize) -> Result<Vec<Lease>, (OrderUuid, String)> {
        let first: Vec<_> =
            self.unclaimed.iter().map(|(turn, seq)| (*turn, *seq)).take(limit).collect();
        let mut leases = Vec::with_capacity(first.len());
        for (turn, seq) in first {
            let Some(id) = self.queue.get(&seq) else { continue };
            let Some(entry) = self.live.get_mut(id) else { continue };
            let stored = entry.stored().map_err(|what| (id.clone(), what))?;
            self.last_token += 1;
            entry.token = self.last_token;
            self.unclaimed.remove(&turn);
            leases.push(Lease { token: self.last_token, stored });
        }
        Ok(leases)
    }

    pub(super) fn get(&self, id: &OrderUuid) -> Option<Result<StoredSignal, String>> {
        match self.live.get(id) {
            Some(entry) => Some(entry.stored()),
            None => self.done.get(id).and_then(Finished::stored),
        }
    }

    pub(super) fn live(&self, id: &OrderUuid) -> Option<&Entry> {
        self.live.get(id)
    }

    pub(super) fn done(&self, id: &OrderUuid) -> Option<&Finished> {
        self.done.get(id)
    }

    /// Forgets what the file of a finished signal says as well: of this very end, for the signal may have
    /// been retried and have ended again since that file was written.
    pub(super) fn settle(&mut self, id: &OrderUuid, told: &Arc<DeliveryReport>) {
        if let Some(finished) = self.done.get_mut(id)
            && let Finished::Whole(entry, report) = finished
            && Arc::ptr_eq(report, told)
        {
            let (seq, digest, state) = (entry.seq, entry.digest, report.state);
            *finished = Finished::Known { seq, digest, state };
        }
    }

    /// Forgets the finished signals that only their files need to know.
    pub(super) fn forget_settled(&mut self) {
        self.done.retain(|_, finished| matches!(finished, Finished::Whole(..)));
        self.done.shrink_to_fit();
    }

    /// Unfinished signals, the newest first, from below `before`.
    pub(super) fn newest(&self, before: Option<u64>) -> impl Iterator<Item = &Entry> {
        let end = before.unwrap_or(u64::MAX);
        self.queue.range(..end).rev().filter_map(|(_, id)| self.live.get(id))
    }

    /// Unfinished signals in order of acceptance.
    pub(super) fn oldest(&self) -> impl Iterator<Item = (&OrderUuid, &Entry)> {
        self.queue.values().filter_map(|id| self.live.get(id).map(|entry| (id, entry)))
    }

    /// Finished signals whose files may not be there yet, in order of acceptance.
    pub(super) fn unsettled(&self) -> Vec<(&OrderUuid, &Entry, &Arc<DeliveryReport>)> {
        let whole = self.done.iter().filter_map(|(id, finished)| match finished {
            Finished::Whole(entry, report) => Some((id, entry.as_ref(), report)),
            Finished::Known { .. } => None,
        });
        let mut all: Vec<_> = whole.collect();
        all.sort_by_key(|(_, entry, _)| entry.seq);
        all
    }

    pub(super) fn is_settled(&self) -> bool {
        !self.done.values().any(|finished| matches!(finished, Finished::Whole(..)))
    }

    pub(super) fn counts(&self) -> (usize, usize) {
        (self.live.len(), self.done.len())
    }

    pub(super) fn pending(&self, accepting: bool) -> Pending {
        let oldest = self.oldest().next();
        Pending {
            count: self.live.len() as u64,
            oldest_at: oldest.map(|(_, entry)| entry.accepted_at),
            accepting,
        }
    }

    /// What to tell the listeners about a record that was applied.
    pub(super) fn change(&self, record: &Record) -> Option<StoreChange> {
        Some(match record {
            Record::Accept { seq, text, summary, .. } => {
                let Summary { trade_pair, execution_type, order_type } = match summary {
                    Some(summary) => summary.as_ref().clone(),
                    None => Summary::of(&Signal::from_stored(text).ok()?),
                };
                StoreChange::Accepted { seq: *seq, trade_pair, execution_type, order_type }
            }
            Record::Progress { progress, .. } => {
                StoreChange::Progress { progress: progress.clone() }
            }
            Record::Finish { report, .. } => {
                StoreChange::Finished { state: report.state, reason: report.reason.clone() }
            }
            Record::Cancel { .. } => StoreChange::CancelRequested,
            Record::Retry(_) => StoreChange::RetryRequested,
            Record::Carry { .. } => return None,
        })
    }
}

fn by_hotkey(records: impl Iterator<Item = ValidatorRecord>) -> BTreeMap<String, ValidatorRecord> {
    records.map(|record| (record.hotkey.clone(), record)).collect()
}

fn unknown(id: &OrderUuid) -> String {
    format!("{id} is not an unfinished signal")
}

pub(super) fn unreadable(id: &OrderUuid, what: String) -> StoreError {
    StoreError::Corrupt { path: id.as_str().into(), at: 0, what }
}

/// Only who holds the lease may write.
fn holder(standing: Option<Standing>, id: &OrderUuid, token: u64) -> Result<Standing, StoreError> {
    match standing {
        None => Err(StoreError::NotFound { id: id.clone() }),
        Some(s) if s.state == SignalState::Pending && s.token == token && token != 0 => Ok(s),
        Some(_) => Err(StoreError::LeaseLost { id: id.clone() }),
    }
}

/// A validator's record for another round: what it acknowledged stays, the rest is open again.
pub(super) fn again(mut v: ValidatorRecord) -> ValidatorRecord {
    if v.state != DeliveryState::Accepted {
        v.state = DeliveryState::Submitted;
        v.attempts = 0;
        v.waits = 0;
        v.next_try_at = None;
    }
    v
}
