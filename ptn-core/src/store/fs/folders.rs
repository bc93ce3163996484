//! The three folders follow the journal: one thread writes and removes the files of signals.
//!
//! A job names a signal; its files are then brought in line with what the index says at that
//! moment, so jobs may be late, doubled or lost with the process: the next owner does them again.
//! Accepting never waits for this. While accepts flow in, files are written at a bounded rate, and
//! a signal that is finished by then never gets its file in `received_signals/`.
//!
//! The order at the end of a signal: its finish is in the journal; its file in
//! `processed_signals/` or `failed_signals/` is written; the one in `received_signals/` is removed;
//! both are made to last; only then may the journal forget the signal.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::durable::gone;
use super::layout::mark;
use super::shared::Shared;
use super::watch::Hint;
use super::writer::Message;
use crate::record::{DeliveryReport, SignalState, legacy};
use crate::signal::{OrderUuid, Signal};
use crate::store::index::{Finished, finished};

/// What the thread is asked to do.
#[derive(Debug)]
pub(super) enum Job {
    /// Bring the files of one signal in line.
    Align(OrderUuid),
    /// The same for many.
    AlignAll(Vec<OrderUuid>),
    /// Make what was written last now, not when it is quiet.
    SettleNow,
    /// Do what is queued, but not for long, and end.
    Stop,
}

/// Jobs are collected for this long: most of a burst is then finished already.
const GATHER: Duration = Duration::from_millis(20);
/// While accepts flow: so many files, then a pause, so that they take no more than this share of the
/// time. A file costs more than the acceptance of its signal, on some file systems many times more,
/// so in a burst they must not compete.
const SHARE: u32 = 20;
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
const CHUNK: usize = 8;
const PAUSE: Duration = Duration::from_millis(16);
/// Finished files are made to last together, this long after the first of them: until then the
/// journal has them, and every sync of theirs would stand in the way of those that callers wait for.
const SETTLE: Duration = Duration::from_millis(250);
/// So many finished files may wait for a quiet moment to be synced.
const MAX_UNSETTLED: usize = 4096;
/// After a failure the same file is tried again after this long.
const AGAIN: Duration = Duration::from_secs(1);
/// How long the end of the process may be delayed by files that a restart would write as well.
const FAREWELL: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(super) struct Folders {
    shared: Arc<Shared>,
    todo: VecDeque<OrderUuid>,
    failed: BTreeSet<OrderUuid>,
    failed_at: Option<Instant>,
    /// Files that do not last yet, each with the end that it tells.
    unsettled: Vec<(OrderUuid, PathBuf, Arc<DeliveryReport>)>,
    unsettled_since: Option<Instant>,
    settle_now: bool,
    stop_by: Option<Instant>,
}

impl Folders {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            todo: VecDeque::new(),
            failed: BTreeSet::new(),
            failed_at: None,
            unsettled: Vec::new(),
            unsettled_since: None,
            settle_now: false,
            stop_by: None,
        }
    }

    pub(super) fn run(mut self, queue: &Receiver<Job>) {
        loop {
            if self.todo.is_empty() {
                let patience = self.patience();
                match patience.map_or_else(
                    || queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
                    |p| queue.recv_timeout(p),
                ) {
                    Ok(job) => self.take(job),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
            self.gather(queue, if self.stop_by.is_some() { Duration::ZERO } else { GATHER });
            self.work(queue);
            if self.failed_at.is_some_and(|at| at.elapsed() >= AGAIN) {
                self.failed_at = None;
                self.todo.extend(std::mem::take(&mut self.failed));
            }
            if self.todo.is_empty() && self.must_settle() && self.settle() {
                self.shared.tell_writer(Message::Settled);
            }
            if let Some(deadline) = self.stop_by
                && (self.todo.is_empty() || Instant::now() >= deadline)
            {
                return;
            }
        }
    }

    /// How long to wait for a job.
    fn patience(&self) -> Option<Duration> {
        let wait = self.unsettled_since.map(|at| SETTLE.saturating_sub(at.elapsed()).max(GATHER));
        let quiet = if self.settle_now { Some(GATHER) } else { wait };
        let again = self.failed_at.map(|at| AGAIN.saturating_sub(at.elapsed()));
        let stop = self.stop_by.map(|_| Duration::ZERO);
        [quiet, again, stop].into_iter().flatten().min()
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Align(id) => self.todo.push_back(id),
            Job::AlignAll(ids) => self.todo.extend(ids),
            Job::SettleNow => self.settle_now = true,
            Job::Stop => self.stop_by = Some(Instant::now() + FAREWELL),
        }
    }

    fn gather(&mut self, queue: &Receiver<Job>, time: Duration) {
        let until = Instant::now() + time;
        while self.stop_by.is_none()
            && let Ok(job) = queue.recv_timeout(until.saturating_duration_since(Instant::now()))
        {
            self.take(job);
        }
        for job in queue.try_iter() {
            self.take(job);
        }
    }

    fn work(&mut self, queue: &Receiver<Job>) {
        let mut written = 0;
        let mut began = Instant::now();
        while let Some(id) = self.todo.pop_front() {
            written += usize::from(self.try_align(id));
            if written >= CHUNK && self.stop_by.is_none() {
                written = 0;
                if self.shared.flowing() {
                    let pause = began.elapsed().saturating_mul(SHARE - 1);
                    self.gather(queue, pause.clamp(PAUSE, LONGEST_PAUSE));
                }
                began = Instant::now();
            }
            if self.stop_by.is_some_and(|deadline| Instant::now() >= deadline) {
                return;
            }
        }
    }

    /// Does what is queued now and what failed before, without any pause; then, if asked to, makes
    /// it last, which is for the writer to know.
    #[cfg(feature = "test-util")]
    pub(super) fn step(&mut self, queue: &Receiver<Job>, settle: bool) -> bool {
        for job in queue.try_iter() {
            self.take(job);
        }
        self.failed_at = None;
        self.todo.extend(std::mem::take(&mut self.failed));
        while let Some(id) = self.todo.pop_front() {
            self.try_align(id);
        }
        (self.settle_now || (settle && !self.unsettled.is_empty())) && self.settle()
    }

    /// Brings the files of one signal in line, or keeps it for later; whether it wrote one.
    fn try_align(&mut self, id: OrderUuid) -> bool {
        match self.align(&id) {
            Ok(did) => did,
            Err(e) => {
                if self.failed_at.is_none() {
                    tracing::warn!(%id, error = %e, "cannot write the files of a signal; trying again");
                }
                self.failed_at.get_or_insert_with(Instant::now);
                self.failed.insert(id);
                false
            }
        }
    }

    /// Brings the files of one signal in line; whether it wrote one.
    fn align(&mut self, id: &OrderUuid) -> io::Result<bool> {
        let layout = &self.shared.spool.layout;
        let received = layout.received.join(id.as_str());
        let (live, done) = {
            let index = self.shared.index();
            let live = index
                .live(id)
                .map(|e| (Arc::clone(&e.text), mark(e.accepted_at, e.seq), e.retried));
            (live, index.done(id).cloned())
        };
        if let Some((text, mark, retried)) = live {
            if retried && self.shared.owner {
                let spool = &self.shared.spool;
                spool.make_room(id.as_str())?;
                spool.remove(&layout.failed.join(id.as_str()))?;
            }
            if received.exists() {
                return Ok(false);
            }
            let signal = Signal::from_stored(&text).map_err(io::Error::other)?;
            return self.shared.spool.publish(
                &received,
                &legacy::received_text(&signal),
                mark,
                false,
            );
        }
        let Some(Finished::Whole(entry, report)) = done.filter(|_| self.shared.owner) else {
            return Ok(false);
        };
        let stored = entry.stored().map_err(io::Error::other)?;
        let stored = finished(stored, &report);
        let mark = mark(entry.accepted_at, entry.seq);
        let path = layout.finished(report.state).join(id.as_str());
        let text = legacy::finished_text(&stored, &report);
        // Anew also when it is there: after a power cut the name may be there without the content,
        // and after a failed sync the content without ever being written, whatever a later sync says.
        let spool = &self.shared.spool;
        if report.state == SignalState::Failed {
            spool.make_room(id.as_str())?;
        }
        spool.publish(&path, &text, mark, true)?;
        if entry.retried && report.state == SignalState::Processed {
            self.shared.spool.remove(&layout.failed.join(id.as_str()))?;
        }
        match std::fs::symlink_metadata(&received) {
            Ok(meta) if meta.modified().is_ok_and(|at| at == mark) => {
                self.shared.spool.remove(&received)?;
            }
            // Someone else's writing; it is looked at before it goes.
            Ok(_) => self.shared.hint(Hint::Name(id.as_str().into())),
            Err(e) => gone(Err(e))?,
        }
        self.unsettled.push((id.clone(), path, report));
        self.unsettled_since.get_or_insert_with(Instant::now);
        Ok(true)
    }

    #[cfg(feature = "test-util")]
    pub(super) fn tell_settled(&self) {
        self.shared.tell_writer(Message::Settled);
    }

    fn must_settle(&self) -> bool {
        let due = self.unsettled_since.is_some_and(|at| at.elapsed() >= SETTLE);
        let quiet = self.stop_by.is_some() || (due && !self.shared.flowing());
        self.settle_now
            || (!self.unsettled.is_empty() && (quiet || self.unsettled.len() >= MAX_UNSETTLED))
    }

    /// Makes finished files last; whether they do, and the journal may forget them. That is noted here, before anything
    /// else is done to a file: one that is written anew does not last yet.
    fn settle(&mut self) -> bool {
        self.settle_now = false;
        self.unsettled_since = None;
        let spool = &self.shared.spool;
        let mut ends = Vec::with_capacity(self.unsettled.len());
        let result = self.unsettled.drain(..).try_for_each(|(id, path, report)| {
            // Who moved a finished file away took it over.
            gone(spool.settle(&path))?;
            ends.push((id, report));
            Ok(())
        });
        match result.and_then(|()| spool.settle_folders()) {
            Ok(()) => {
                let mut index = self.shared.index();
                ends.iter().for_each(|(id, report)| index.settle(id, report));
                true
            }
            Err(e) => {
                // They stay in the journal, and the next start writes them again.
                let e: io::Error = e;
                tracing::error!(error = %e, "cannot sync finished files; the journal keeps them");
                false
            }
        }
    }
}
