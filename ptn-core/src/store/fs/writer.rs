//! The one thread of a store that writes the journal.
//!
//! Requests that arrive while a batch is being synced form the next batch, so one sync serves many
//! callers. Every batch: take the lock, read what other processes appended, decide each request,
//! write, sync, give the lock back, apply, answer. Nobody sees the effect of a request before it is
//! durable.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::folders::Job;
use super::journal::{Encoded, Failure, Journal, JournalLock, Locked, Reader};
use super::shared::{Shared, stopped};
use crate::signal::OrderUuid;
use crate::store::StoreError;
use crate::store::index::{Answer, Batch, Index, Record, Request};

type Reply = oneshot::Sender<Result<Answer, StoreError>>;

/// What the writer is asked to do.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly all are requests")]
pub(super) enum Message {
    /// Decide and keep.
    Ask(Request, Reply),
    /// Decide and keep, all in one batch.
    AskAll(Vec<(Request, Reply)>),
    /// Read what others appended; tell when done.
    CatchUp(Option<oneshot::Sender<()>>),
    /// The same, under the journal's lock in any case.
    CatchUpForSure(oneshot::Sender<()>),
    /// The files of these finished signals will last.
    Settled,
    /// Write the journal anew without what only files need to know, and tell when that is done.
    Forget(oneshot::Sender<()>),
    /// Finish what is queued and end.
    Stop,
}

/// At most this many requests share a sync.
const MAX_BATCH: usize = 1024;
/// After a batch of so many, the next one is given a moment to fill up: fewer and larger batches
/// cost less for everybody. A few callers never wait.
const CROWD: usize = 8;
const GATHER: Duration = Duration::from_micros(100);
/// A journal smaller than this is not rewritten at start.
const SMALL: u64 = 64 * 1024;

#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    journal: Journal,
    lock: JournalLock,
    /// Rewrite the journal when it is longer than this.
    rewrite_at: u64,
    settled_once: bool,
    /// Who waits until finished signals are forgotten.
    forgetting: Vec<oneshot::Sender<()>>,
}

/// Takes the journal's lines into the index.
struct Feed<'a> {
    shared: &'a Shared,
    /// A new file is being read: its sum replaces the index at the end, without events.
    fresh: Option<Index>,
    changed: bool,
}

impl Reader for Feed<'_> {
    fn begin(&mut self, last_seq: u64) {
        self.fresh = Some(Index::after(last_seq));
    }

    fn record(&mut self, record: Record) -> Result<(), String> {
        self.changed = true;
        match &mut self.fresh {
            Some(index) => index.apply(record),
            None => {
                if let Some(id) = self.shared.apply(&mut self.shared.index(), record, false)? {
                    self.shared.align(id);
                }
                Ok(())
            }
        }
    }
}

impl Feed<'_> {
    fn new(shared: &Shared) -> Feed<'_> {
        Feed { shared, fresh: None, changed: false }
    }

    fn end(self) {
        if let Some(index) = self.fresh {
            *self.shared.index() = index;
        }
        if self.changed {
            self.shared.changed();
        }
    }
}

impl Writer {
    /// Opens the journal and reads it into the index.
    pub(super) fn open(shared: Arc<Shared>) -> Result<Self, StoreError> {
        let spool = &shared.spool;
        let lock = JournalLock::open(spool)?;
        let journal = {
            let locked = lock.lock(&spool.layout.journal_lock)?;
            let mut feed = Feed::new(&shared);
            let journal = Journal::open(spool, &locked, &mut feed)?;
            feed.end();
            journal
        };
        shared.journal_seen(journal.len(), journal.id());
        let rewrite_at = shared.options.journal_bytes;
        Ok(Self { journal, lock, rewrite_at, settled_once: false, forgetting: Vec::new(), shared })
    }

    pub(super) fn run(mut self, queue: &Receiver<Message>) {
        let mut asks = Vec::new();
        let mut crowd = 0;
        while let Ok(mut message) = queue.recv() {
            let mut stop = false;
            let mut waited = false;
            loop {
                stop |= self.take(message, &mut asks);
                if asks.len() >= MAX_BATCH {
                    break;
                }
                let mut next = queue.try_recv();
                if next.is_err() && !waited && !stop && crowd >= CROWD && asks.len() < crowd {
                    // Asleep rather than receiving: nobody spends a system call on waking us.
                    waited = true;
                    std::thread::sleep(GATHER);
                    next = queue.try_recv();
                }
                match next {
                    Ok(next) => message = next,
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                }
            }
            if !asks.is_empty() {
                crowd = asks.len();
                self.serve(std::mem::take(&mut asks));
            }
            if stop {
                return;
            }
        }
    }

    /// Does what a message asks for, or puts it with the batch; whether it asks to stop.
    fn take(&mut self, message: Message, asks: &mut Vec<(Request, Reply)>) -> bool {
        match message {
            Message::Ask(request, reply) => asks.push((request, reply)),
            Message::AskAll(all) => asks.extend(all),
            Message::CatchUpForSure(done) => {
                self.read_on();
                done.send(()).ok();
            }
            Message::CatchUp(done) => {
                self.shared.catch_up_begins();
                self.catch_up();
                if let Some(done) = done {
                    done.send(()).ok();
                }
            }
            Message::Settled => self.settled(),
            Message::Forget(done) => {
                self.forgetting.push(done);
                if self.shared.index().is_settled() {
                    self.forget();
                } else {
                    self.shared.job(Job::SettleNow);
                }
            }
            Message::Stop => return true,
        }
        false
    }

    /// Serves what is queued now as one batch; false when there was nothing to do.
    #[cfg(feature = "test-util")]
    pub(super) fn step(&mut self, queue: &Receiver<Message>) -> bool {
        let (mut asks, mut any) = (Vec::new(), false);
        while let Ok(message) = queue.try_recv() {
            any = true;
            self.take(message, &mut asks);
        }
        if !asks.is_empty() {
            self.serve(asks);
        }
        any
    }

    /// Decides, keeps and answers one batch.
    fn serve(&mut self, asks: Vec<(Request, Reply)>) {
        let (requests, replies): (Vec<_>, Vec<_>) = asks.into_iter().unzip();
        match self.keep(requests) {
            Ok(answers) => {
                for (reply, answer) in replies.into_iter().zip(answers) {
                    // A caller that went away has no use for the answer.
                    reply.send(answer).ok();
                }
            }
            Err(e) => {
                for reply in replies {
                    reply.send(Err(copy(&e))).ok();
                }
            }
        }
        if self.shared.owner && self.journal.len() > self.rewrite_at {
            // What lasts elsewhere need not be carried along.
            if !self.shared.index().is_settled() {
                self.shared.job(Job::SettleNow);
            } else {
                self.rewrite();
            }
        }
    }

    fn keep(
        &mut self,
        requests: Vec<Request>,
    ) -> Result<Vec<Result<Answer, StoreError>>, StoreError> {
        let shared = &self.shared;
        if let Some(e) = shared.poisoned() {
            return Err(e);
        }
        let locked = self.lock.lock(&shared.spool.layout.journal_lock)?;
        shared.check_moved()?;
        read_on(&mut self.journal, shared, &locked)?;
        let now = shared.now();
        let mut batch = Batch::default();
        let mut encoded = Encoded::default();
        let mut records = Vec::new();
        let mut answers = Vec::with_capacity(requests.len());
        {
            let low = shared.check_space().err();
            let index = shared.index();
            for request in requests {
                if let (Some(low), Request::Accept { .. }) = (&low, &request) {
                    // What is known already is answered as ever; a new one leaves no trace.
                    let mut scratch = Batch::default();
                    let known = index.decide(&mut scratch, request, now, &shared.spool);
                    answers.push(match known {
                        Ok((_, Some(_))) => Err(copy(low)),
                        other => other.map(|(answer, _)| answer),
                    });
                    continue;
                }
                answers.push(index.decide(&mut batch, request, now, &shared.spool).and_then(
                    |(answer, record)| {
                        if let Some(record) = record {
                            records.push(encoded.push(record)?);
                        }
                        Ok(answer)
                    },
                ));
            }
        }
        if encoded.is_empty() {
            let sure = self.journal.make_sure(&shared.spool);
            return sure.map(|()| answers).map_err(|e| shared.poison(&e.to_string()));
        }
        // Known before it is written, so that our own write is no news to us.
        shared.journal_seen(self.journal.len() + encoded.len(), self.journal.id());
        let appended = self.journal.append(&shared.spool, &locked, &encoded);
        drop(locked);
        match appended {
            Ok(()) => {}
            Err(Failure::Refused(e)) => {
                shared.journal_seen(self.journal.len(), self.journal.id());
                return Err(e);
            }
            Err(Failure::Uncertain(why)) => return Err(shared.poison(&why)),
        }
        let mut touched = Vec::with_capacity(records.len());
        {
            let mut index = shared.index();
            for record in records {
                match shared.apply(&mut index, record, true) {
                    Ok(id) => touched.extend(id),
                    Err(what) => return Err(shared.poison(&what)),
                }
            }
        }
        shared.align_all(touched);
        shared.changed();
        Ok(answers)
    }

    fn catch_up(&mut self) {
        if !self.journal.is_current(&self.shared.spool.layout.journal) {
            self.read_on();
        }
    }

    fn read_on(&mut self) {
        let shared = &self.shared;
        if shared.poisoned().is_some() {
            return;
        }
        let caught_up = self
            .lock
            .lock(&shared.spool.layout.journal_lock)
            .and_then(|locked| read_on(&mut self.journal, shared, &locked));
        if let Err(e) = caught_up {
            tracing::warn!(error = %e, "cannot read on in the journal");
        }
    }

    fn settled(&mut self) {
        let (live, done) = self.shared.index().counts();
        let long = self.journal.len() > self.rewrite_at;
        let stale = !self.settled_once && self.journal.len() > SMALL && done > 3 * live;
        self.settled_once = true;
        if !self.forgetting.is_empty() && self.shared.index().is_settled() {
            self.forget();
        } else if self.shared.owner && (long || stale) {
            self.rewrite();
        }
    }

    fn forget(&mut self) {
        if self.shared.owner && self.shared.index().counts().1 > 0 {
            self.rewrite();
        }
        for done in self.forgetting.drain(..) {
            // Who asked may not wait any more.
            done.send(()).ok();
        }
    }

    /// Writes the journal anew without the signals whose files say it all.
    fn rewrite(&mut self) {
        let shared = Arc::clone(&self.shared);
        if shared.poisoned().is_some() {
            return;
        }
        let result = self.lock.lock(&shared.spool.layout.journal_lock).and_then(|locked| {
            read_on(&mut self.journal, &shared, &locked)?;
            let before = self.journal.len();
            let (last_seq, records) = {
                let index = shared.index();
                (index.last_seq(), sum(&index).collect::<Vec<_>>())
            };
            self.journal.rewrite(&shared.spool, &locked, last_seq, records.into_iter())?;
            shared.index().forget_settled();
            Ok((before, self.journal.len()))
        });
        match result {
            Ok((before, after)) => {
                shared.journal_seen(self.journal.len(), self.journal.id());
                self.rewrite_at = shared.options.journal_bytes.max(after.saturating_mul(2));
                tracing::info!(before, after, "the journal was rewritten");
            }
            Err(e) if self.journal.is_current(&shared.spool.layout.journal) => {
                // Nothing was lost; try again after some more.
                self.rewrite_at = self.rewrite_at.saturating_add(shared.options.journal_bytes);
                tracing::warn!(error = %e, "cannot rewrite the journal");
            }
            Err(e) => {
                // The new file may stand in the old one's place or not: only a restart can tell.
                shared.poison(&format!("rewriting the journal: {e}"));
            }
        }
    }
}

/// Reads what other processes appended.
fn read_on(journal: &mut Journal, shared: &Shared, locked: &Locked<'_>) -> Result<(), StoreError> {
    let before = (journal.len(), journal.id());
    let mut feed = Feed::new(shared);
    let result = journal.catch_up(&shared.spool, locked, &mut feed);
    if result.is_ok() && feed.fresh.is_some() && shared.owner {
        return Err(shared.poison("another process replaced the journal"));
    }
    if result.is_err() {
        // Half of a new file is no sum; what was appended to the old one is already in.
        feed.fresh = None;
    }
    feed.end();
    if (journal.len(), journal.id()) != before {
        shared.journal_seen(journal.len(), journal.id());
    }
    result
}

/// Everything that a new journal must say.
fn sum(index: &Index) -> impl Iterator<Item = Record> {
    use crate::store::index::Entry;
    let one = |id: &OrderUuid, e: &Entry| {
        let accept = Record::Accept {
            seq: e.seq,
            id: id.clone(),
            digest: e.digest,
            at: e.accepted_at,
            text: Arc::clone(&e.text),
            summary: None,
        };
        let more = e.cancel || e.retried || !e.validators.is_empty();
        let carry = more.then(|| Record::Carry {
            id: id.clone(),
            validators: e.validators.clone(),
            cancel: e.cancel,
            retried: e.retried,
            turn: e.retried_turn(),
        });
        std::iter::once(accept).chain(carry)
    };
    let live = index.oldest().flat_map(move |(id, entry)| one(id, entry));
    let done = index.unsettled().into_iter().flat_map(move |(id, entry, report)| {
        let finish = Record::Finish { id: id.clone(), report: Arc::clone(report) };
        one(id, entry).chain(std::iter::once(finish))
    });
    live.chain(done)
}

/// The same error for each caller of a batch.
fn copy(e: &StoreError) -> StoreError {
    match e {
        StoreError::Full { path } => StoreError::Full { path: path.clone() },
        StoreError::LowSpace { path, free, inodes, least } => {
            StoreError::LowSpace { path: path.clone(), free: *free, inodes: *inodes, least: *least }
        }
        StoreError::Poisoned(why) => StoreError::Poisoned(why.clone()),
        StoreError::Io { what, path, source } => StoreError::Io {
            what,
            path: path.clone(),
            source: source.raw_os_error().map_or_else(
                || io::Error::new(source.kind(), source.to_string()),
                io::Error::from_raw_os_error,
            ),
        },
        StoreError::Moved { from, to } => StoreError::Moved { from: from.clone(), to: to.clone() },
        StoreError::Corrupt { path, at, what } => {
            StoreError::Corrupt { path: path.clone(), at: *at, what: what.clone() }
        }
        _ => stopped(),
    }
}
