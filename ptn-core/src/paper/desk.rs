//! A paper validator that stands: orders, prices and questions in, answers out, and everything that
//! happened kept in a folder, so that a restart goes on where it was.
//!
//! One thread owns the validator and its journal. What waits is taken together, applied in order,
//! written and synced once, and only then answered: an order that was acknowledged is there again
//! after any crash. The desk judges orders whose envelope is in order; it is plugged into a
//! [`crate::validator::LoopbackValidator`], which checks signatures and speaks both wires. Where
//! prices come from, screens and the chain are left to others.

mod answer;
mod clock;
mod entry;
mod journal;

pub use clock::PaperClock;
pub use journal::JournalError;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use self::entry::{Applied, Entry, What};
use self::journal::{Found, Journal};
use super::account::Event;
use super::book::Standing;
use super::elimination::Elimination;
use super::market::Quote;
use super::prices::{PriceError, PriceSource};
use super::validator::{Condition, PaperError, PaperValidator, Round, Terms};
use crate::json::Json;
use crate::rules::{Era, RulesError};
use crate::store::UnixMs;
use crate::trade_pair::TradePairId;
use crate::validator::{DeskAnswer, DeskOrder, OrderDesk};

/// What waits for the thread at most.
const WAITING: usize = 4096;
/// Taken together at most.
const BATCH: usize = 512;
/// A whole state is kept after this many entries.
const ENTRIES_PER_STATE: u64 = 100_000;
/// Between two looks at the clock.
const BEAT: Duration = Duration::from_millis(250);

/// What a desk is like.
#[derive(Debug, Clone)]
pub struct DeskOptions {
    /// The rule set: 2024 or 2026.
    pub era: Era,
    /// Where everything is kept; without one it is gone when the desk ends.
    pub dir: Option<PathBuf>,
    /// Its clock.
    pub clock: PaperClock,
    /// Size of new accounts in US dollars (2026); the rules' default without one.
    pub account_usd: Option<f64>,
    /// What new accounts may trade (2026); everything without one.
    pub asset_class: Option<String>,
    /// Whether the rate limit and the cooldowns of the rules hold.
    pub pacing: bool,
}

impl DeskOptions {
    /// In memory, by the machine's clock, with the rules' defaults.
    pub fn new(era: Era) -> Self {
        Self {
            era,
            dir: None,
            clock: PaperClock::real(),
            account_usd: None,
            asset_class: None,
            pacing: true,
        }
    }
}

/// Why a desk cannot work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeskError {
    /// A rule set without positions.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// Its folder.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Something that cannot be applied.
    #[error(transparent)]
    Paper(#[from] PaperError),
    /// A price that nobody can trade on.
    #[error("{pair}: not a price to trade on; allowed are finite numbers above 0")]
    BadPrice {
        /// The pair.
        pair: TradePairId,
    },
    /// It ended.
    #[error("the paper validator has stopped")]
    Stopped,
    /// The system.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
}

impl DeskError {
    /// A stable name.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Rules(_) => "rules",
            Self::Journal(e) => e.code(),
            Self::Paper(e) => e.code(),
            Self::BadPrice { .. } => "bad_price",
            Self::Stopped => "stopped",
            Self::Thread(_) => "thread",
        }
    }
}

/// Something that happened at a desk.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum DeskEvent {
    /// An order was judged.
    Order {
        /// When, in ms of the desk's clock.
        at_ms: UnixMs,
        /// Who sent it.
        hotkey: String,
        /// Its uuid.
        uuid: String,
        /// The answer.
        answer: DeskAnswer,
        /// Stable code, where it was refused.
        refused: Option<&'static str>,
    },
    /// Something happened to an account beside the answer, or without an order.
    Account {
        /// When, in ms of the desk's clock.
        at_ms: UnixMs,
        /// Whose.
        hotkey: String,
        /// What.
        event: Event,
    },
    /// A hotkey was put out.
    Eliminated(Elimination),
    /// A round of weights was closed.
    Round(Arc<Round>),
}

/// How a desk began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begun {
    /// Entries that were applied again, after the last whole state.
    pub entries: usize,
    /// Whether there was anything.
    pub resumed: bool,
    /// Bytes of a torn last line, which nobody had an answer for.
    pub torn: u64,
}

type Question = Box<dyn FnOnce(&PaperValidator) + Send>;

type Done = oneshot::Sender<Result<Option<DeskAnswer>, DeskError>>;

enum Job {
    Do(What, Option<Done>),
    Ask(Question),
    Stop(oneshot::Sender<Result<(), DeskError>>),
}

/// The desk. Clones are the same desk.
#[derive(Debug, Clone)]
pub struct PaperDesk {
    jobs: mpsc::Sender<Job>,
    events: broadcast::Sender<DeskEvent>,
    rounds: watch::Receiver<Option<Arc<Round>>>,
    clock: PaperClock,
    begun: Begun,
    started_ms: UnixMs,
    resumed_ms: UnixMs,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl PaperDesk {
    /// Opens the folder, goes on where it was, and starts the thread.
    ///
    /// # Errors
    /// When the folder or the rules cannot be used.
    pub fn start(options: DeskOptions) -> Result<Self, DeskError> {
        let (journal, found) = match &options.dir {
            Some(dir) => {
                let (journal, found) = Journal::open(dir)?;
                (Some(journal), found)
            }
            None => (None, Found::default()),
        };
        let begun = Begun {
            entries: found.entries.len(),
            resumed: found.state.is_some() || !found.entries.is_empty(),
            torn: found.torn,
        };
        let dir = options.dir.as_deref();
        let (validator, clock) = bring_back(&options, dir, found)?;
        let (jobs, inbox) = mpsc::channel(WAITING);
        let events = broadcast::Sender::new(4096);
        let round = watch::Sender::new(validator.round().cloned().map(Arc::new));
        let rounds = round.subscribe();
        let (started_ms, resumed_ms) = (validator.started_ms(), validator.now_ms());
        let mut worker = Worker {
            validator,
            journal,
            since_state: 0,
            options: DeskOptions { clock, ..options },
            events: events.clone(),
            round,
        };
        if !begun.resumed {
            // From here on the folder knows when the validator began.
            worker.keep_state()?;
        }
        let thread = std::thread::Builder::new().name("paper-desk".to_owned());
        let thread = thread.spawn(move || worker.run(inbox)).map_err(DeskError::Thread)?;
        let thread = Arc::new(Mutex::new(Some(thread)));
        Ok(Self { jobs, events, rounds, clock, begun, started_ms, resumed_ms, thread })
    }

    /// What it found in its folder.
    pub const fn begun(&self) -> Begun {
        self.begun
    }

    /// Its clock.
    pub const fn clock(&self) -> PaperClock {
        self.clock
    }

    /// When the validator began, in ms, before all restarts.
    pub const fn started_ms(&self) -> UnixMs {
        self.started_ms
    }

    /// How far the validator was when the desk started, in ms: prices from before are done.
    pub const fn resumed_ms(&self) -> UnixMs {
        self.resumed_ms
    }

    /// Everything that happens from now on. A listener that is far behind misses some.
    pub fn subscribe(&self) -> broadcast::Receiver<DeskEvent> {
        self.events.subscribe()
    }

    /// The last round of weights.
    pub fn rounds(&self) -> watch::Receiver<Option<Arc<Round>>> {
        self.rounds.clone()
    }

    /// Asks about the validator as it is after everything that was sent before.
    ///
    /// # Errors
    /// When the desk has stopped.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&PaperValidator) -> T + Send + 'static,
    ) -> Result<T, DeskError> {
        let (answer, answered) = oneshot::channel();
        let question: Question = Box::new(move |validator| {
            // Nobody waits for the answer any more.
            answer.send(question(validator)).ok();
        });
        self.jobs.send(Job::Ask(question)).await.map_err(|_| DeskError::Stopped)?;
        answered.await.map_err(|_| DeskError::Stopped)
    }

    /// Takes a price.
    ///
    /// # Errors
    /// When nobody can trade on it, or the desk has stopped.
    pub async fn price(&self, trade_pair: TradePairId, quote: Quote) -> Result<(), DeskError> {
        let job = price(trade_pair, quote)?;
        self.jobs.send(job).await.map_err(|_| DeskError::Stopped)
    }

    /// Lets a hotkey take part, on its own terms. Doing so twice changes nothing.
    ///
    /// # Errors
    /// When it cannot be kept, or the desk has stopped.
    pub async fn join(&self, hotkey: impl Into<String>, terms: Terms) -> Result<(), DeskError> {
        self.change(What::Join { hotkey: hotkey.into(), terms }).await
    }

    /// Changes what a hotkey is to the network; nothing is a miner in good standing.
    ///
    /// # Errors
    /// As [`PaperDesk::join`].
    pub async fn set_standing(
        &self,
        hotkey: impl Into<String>,
        standing: Option<Standing>,
    ) -> Result<(), DeskError> {
        self.change(What::Standing { hotkey: hotkey.into(), standing }).await
    }

    /// Changes the state of the whole validator.
    ///
    /// # Errors
    /// As [`PaperDesk::join`].
    pub async fn set_condition(&self, condition: Condition) -> Result<(), DeskError> {
        self.change(What::Condition { condition }).await
    }

    async fn change(&self, what: What) -> Result<(), DeskError> {
        self.call(what).await.map(drop)
    }

    async fn call(&self, what: What) -> Result<Option<DeskAnswer>, DeskError> {
        let (done, result) = oneshot::channel();
        self.jobs.send(Job::Do(what, Some(done))).await.map_err(|_| DeskError::Stopped)?;
        result.await.map_err(|_| DeskError::Stopped)?
    }

    /// Takes all prices of a source, each when its time has come by the desk's clock, and ends with
    /// the source or the desk. Prices from before the desk's time are passed over. Blocks.
    ///
    /// # Errors
    /// What the source says.
    pub fn pump(&self, source: &mut dyn PriceSource, from_ms: UnixMs) -> Result<(), PriceError> {
        while let Some(tick) = source.next_tick()? {
            if tick.at_ms < from_ms {
                continue;
            }
            while self.clock.now_ms() < tick.at_ms {
                if self.jobs.is_closed() {
                    return Ok(());
                }
                std::thread::sleep(self.clock.until(tick.at_ms).clamp(MOMENT, BEAT));
            }
            let Ok(job) = price(tick.pair.clone(), tick.quote()) else {
                continue;
            };
            if self.jobs.blocking_send(job).is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Keeps a whole state and ends the thread.
    ///
    /// # Errors
    /// When the state cannot be kept; the journal has everything then.
    pub async fn stop(&self) -> Result<(), DeskError> {
        let (done, result) = oneshot::channel();
        if self.jobs.send(Job::Stop(done)).await.is_err() {
            return Ok(());
        }
        let result = result.await.unwrap_or(Ok(()));
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // It has said its last word; a panic in it would have closed the channel above.
            tokio::task::spawn_blocking(move || thread.join().ok()).await.ok();
        }
        result
    }
}

/// The least that a pump sleeps.
const MOMENT: Duration = Duration::from_millis(1);

fn price(trade_pair: TradePairId, quote: Quote) -> Result<Job, DeskError> {
    if !quote.is_usable() {
        return Err(DeskError::BadPrice { pair: trade_pair });
    }
    Ok(Job::Do(What::Price { trade_pair, quote }, None))
}

#[async_trait]
impl OrderDesk for PaperDesk {
    async fn take(&self, order: DeskOrder<'_>) -> DeskAnswer {
        let what = What::Order {
            hotkey: order.sender.to_owned(),
            uuid: order.uuid.to_owned(),
            signal: Json::Object(order.signal.clone()).to_string(),
        };
        match self.call(what).await {
            Ok(Some(answer)) => answer,
            Ok(None) => failed("Internal error."),
            Err(e) => {
                tracing::error!(error = %e, uuid = order.uuid, "an order could not be judged");
                failed(
                    "This validator could not keep the order and has not processed it. Please try again later.",
                )
            }
        }
    }
}

fn failed(message: &str) -> DeskAnswer {
    DeskAnswer::Failed { message: message.to_owned(), should_retry: Some(true) }
}

/// The validator of a folder, and the clock it goes on by.
fn bring_back(
    options: &DeskOptions,
    dir: Option<&Path>,
    found: Found,
) -> Result<(PaperValidator, PaperClock), DeskError> {
    let fresh = found.state.is_none() && found.entries.is_empty();
    let mut validator = match found.state {
        Some(state) => PaperValidator::resume(state)?,
        None => {
            // The first line of a journal names when it all began.
            let first_ms = found.entries.first().map(|entry| entry.at_ms);
            PaperValidator::new(options.era, first_ms.unwrap_or_else(|| options.clock.now_ms()))?
        }
    };
    if let Some(dir) = dir.filter(|_| validator.era() != options.era) {
        return Err(DeskError::Journal(JournalError::OtherRules {
            path: dir.to_owned(),
            found: validator.era().to_string(),
            wanted: options.era.to_string(),
        }));
    }
    if !options.pacing {
        validator.without_pacing();
    }
    let mut terms = Terms::of_size(validator.rules(), options.account_usd);
    if let Some(class) = &options.asset_class {
        terms.account.asset_class = Some(class.clone());
        terms.field.asset_class.clone_from(class);
    }
    validator.set_terms(terms);
    for entry in &found.entries {
        // What could not be applied then cannot be applied now.
        drop(entry.apply(&mut validator));
    }
    validator.take_eliminated();
    let clock = match options.clock.is_real() || fresh {
        true => options.clock,
        false => options.clock.resumed_at(validator.now_ms()),
    };
    Ok((validator, clock))
}

/// What the thread owns.
struct Worker {
    validator: PaperValidator,
    journal: Option<Journal>,
    since_state: u64,
    options: DeskOptions,
    events: broadcast::Sender<DeskEvent>,
    round: watch::Sender<Option<Arc<Round>>>,
}

impl Worker {
    fn run(mut self, mut inbox: mpsc::Receiver<Job>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(e) => {
                tracing::error!(error = %e, "the paper validator cannot wait for orders");
                return;
            }
        };
        loop {
            let next = runtime.block_on(async { tokio::time::timeout(BEAT, inbox.recv()).await });
            let mut job = match next {
                Ok(None) => return,
                Ok(job) => job,
                Err(_) => None,
            };
            let mut work = Vec::new();
            while let Some(taken) = job {
                match taken {
                    Job::Do(what, done) => work.push((what, done)),
                    Job::Ask(question) => {
                        self.carry_out(std::mem::take(&mut work));
                        self.pass_time();
                        question(&self.validator);
                    }
                    Job::Stop(done) => {
                        self.carry_out(std::mem::take(&mut work));
                        self.pass_time();
                        // Nobody waits for it any more.
                        done.send(self.keep_state()).ok();
                        return;
                    }
                }
                job = if work.len() < BATCH { inbox.try_recv().ok() } else { None };
            }
            self.carry_out(work);
            self.pass_time();
        }
    }

    /// Now by the clock, and never before what was.
    fn now_ms(&self) -> UnixMs {
        self.options.clock.now_ms().max(self.validator.now_ms())
    }

    /// Applies everything in order, keeps it, and answers then.
    fn carry_out(&mut self, work: Vec<(What, Option<Done>)>) {
        if work.is_empty() {
            return;
        }
        let mut results = Vec::with_capacity(work.len());
        let mut must_last = false;
        for (what, done) in work {
            let entry = Entry { at_ms: self.now_ms(), what };
            must_last |= entry.must_last();
            self.note(&entry);
            let applied = entry.apply(&mut self.validator);
            results.push((entry, applied, done));
        }
        if let Err(e) = self.keep(must_last) {
            tracing::error!(error = %e, "the paper validator goes back to what its folder holds");
            self.go_back();
            // Whoever asked learns that nothing was done.
            return;
        }
        for (entry, applied, done) in results {
            self.tell(entry, applied, done);
        }
        if self.since_state >= ENTRIES_PER_STATE
            && let Err(e) = self.keep_state()
        {
            tracing::error!(error = %e, "the journal grows on");
        }
    }

    /// Lets time pass up to now: checks, eliminations, rounds of weights. None of it has to be
    /// kept, because the same time passes again after a restart; but what was said is remembered.
    fn pass_time(&mut self) {
        let at_ms = self.now_ms();
        if let Err(e) = self.validator.close_rounds(at_ms) {
            tracing::error!(error = %e, "time stands still for the paper validator");
        }
        let out = self.validator.take_eliminated();
        let round = self.validator.round();
        let closed = round.map(|round| round.n) != self.round.borrow().as_ref().map(|r| r.n);
        if !closed && out.is_empty() {
            return;
        }
        self.note(&Entry { at_ms, what: What::Time });
        if let Err(e) = self.keep(!out.is_empty()) {
            tracing::error!(error = %e, "the paper validator goes back to what its folder holds");
            self.go_back();
            return;
        }
        for eliminated in out {
            let hotkey = eliminated.row.hotkey.clone();
            let at_ms = eliminated.row.elimination_initiated_time_ms;
            self.say(DeskEvent::Eliminated(eliminated.row));
            for event in eliminated.events {
                self.say(DeskEvent::Account { at_ms, hotkey: hotkey.clone(), event });
            }
        }
        if closed && let Some(round) = self.validator.round().cloned().map(Arc::new) {
            self.round.send_replace(Some(Arc::clone(&round)));
            self.say(DeskEvent::Round(round));
        }
    }

    fn note(&mut self, entry: &Entry) {
        self.since_state += 1;
        if let Some(journal) = &mut self.journal {
            journal.push(entry);
        }
    }

    fn keep(&mut self, must_last: bool) -> Result<(), JournalError> {
        self.journal.as_mut().map_or(Ok(()), |journal| journal.write(must_last))
    }

    fn keep_state(&mut self) -> Result<(), DeskError> {
        if let Some(journal) = &mut self.journal {
            journal.save(&self.validator.state())?;
        }
        self.since_state = 0;
        Ok(())
    }

    /// After a write that failed: what was not kept has not happened.
    fn go_back(&mut self) {
        let Some(journal) = &mut self.journal else { return };
        let back = journal.recover().map_err(DeskError::from).and_then(|found| {
            let dir = self.options.dir.as_deref();
            bring_back(&self.options, dir, found)
        });
        match back {
            Ok((validator, _)) => self.validator = validator,
            Err(e) => tracing::error!(error = %e, "the folder cannot be read again"),
        }
    }

    fn tell(&self, entry: Entry, applied: Result<Applied, PaperError>, done: Option<Done>) {
        let at_ms = entry.at_ms;
        let applied = match applied {
            Ok(applied) => applied,
            Err(e) => {
                tracing::error!(error = %e, "an event of the paper validator was left out");
                if let Some(done) = done {
                    // Nobody waits for it any more.
                    done.send(Err(e.into())).ok();
                }
                return;
            }
        };
        if let (What::Order { hotkey, uuid, .. }, Some(answer)) = (entry.what, &applied.answer) {
            let (answer, refused) = (answer.clone(), applied.refused);
            self.say(DeskEvent::Order { at_ms, hotkey, uuid, answer, refused });
        }
        if let Some(done) = done {
            // Nobody waits for it any more.
            done.send(Ok(applied.answer)).ok();
        }
        for (hotkey, events) in applied.events {
            for event in events {
                self.say(DeskEvent::Account { at_ms, hotkey: hotkey.clone(), event });
            }
        }
    }

    fn say(&self, event: DeskEvent) {
        // Nobody listens, usually.
        self.events.send(event).ok();
    }
}
