//! The risk guard: what the network would say to an order, asked before it is accepted.
//!
//! [`OrderGuard`] judges signals and is told what became of them; [`Guard`] is the handle that the
//! engine and the server share. It counts, and it keeps a guard that fails from doing harm: a panic
//! becomes a verdict that says so, never a lost signal. What is judged and by which rules is left
//! to the implementation, `paper::guard::RiskGuard` with the feature `paper`.
//!
//! What must stay true:
//!
//! 1. An order that closes, reduces or cancels, or may do so, is never blocked.
//! 2. Judging happens in memory; nobody who hands in a signal waits for a disk or a network.
//! 3. What cannot be judged is said, and blocks nothing.

mod verdict;

pub use verdict::{Concern, Distance, GuardMode, GuardVerdict, GuardView, Severity, Unjudged};

use std::collections::HashSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::broadcast;

use crate::order::{ExecutionType, OrderType};
use crate::record::ValidatorRecord;
use crate::signal::{OrderUuid, Signal};
use crate::store::UnixMs;
use crate::trade_pair::TradePairId;

/// How many alerts a slow listener may lag behind before it misses some.
const ALERT_BACKLOG: usize = 256;
/// Refusals under this code stand in the records of signals that were denied.
pub const REFUSED: &str = "guard_refused";

/// A price that the guard is told.
#[derive(Debug, Clone, PartialEq)]
pub struct PricePoint {
    /// The pair.
    pub pair: TradePairId,
    /// When, in ms.
    pub at_ms: UnixMs,
    /// Last trade, in the quote currency.
    pub price: f64,
    /// Best bid.
    pub bid: Option<f64>,
    /// Best ask.
    pub ask: Option<f64>,
}

/// The account as the guard sees it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Standing {
    /// How much loss is left, the nearest limit first.
    pub drawdown: Vec<Distance>,
    /// What could not be judged.
    pub unjudged: Vec<Unjudged>,
    /// Said once, until it is over: the account is near to a limit.
    pub alert: Option<Concern>,
}

/// Judges signals, and is told what became of them.
///
/// Every call is short and in memory. A call may panic; [`Guard`] stands between.
pub trait OrderGuard: Send + Sync + 'static {
    /// What the network would say to a signal that was sent now. Asked once per signal: what is
    /// sent again is not judged again.
    fn judge(&self, signal: &Signal, now: UnixMs) -> GuardVerdict;

    /// A validator whose word counts took the signal. The second time changes nothing.
    fn acknowledged(&self, signal: &Signal, record: &ValidatorRecord);

    /// A signal may have reached a validator whose word counts, and its answer was lost for good.
    fn doubtful(&self, _signal: &Signal, _record: &ValidatorRecord) {}

    /// Whether an acknowledgement of this signal was told already.
    fn knows(&self, _id: &OrderUuid) -> bool {
        false
    }

    /// A signal was accepted and is not decided.
    fn under_way(&self, _id: &OrderUuid, _what: &UnderWay) {}

    /// It is decided.
    fn ended(&self, _id: &OrderUuid) {}

    /// Forgets which signals are under way: the ones that are follow.
    fn none_under_way(&self) {}

    /// Everything that happened before the start was told.
    fn ready(&self) {}

    /// When the last acknowledgement was that it knows of; older ones need not be told.
    fn knows_until(&self) -> Option<UnixMs> {
        None
    }

    /// Takes a price; false when it is of no use.
    fn price(&self, _price: &PricePoint) -> bool {
        false
    }

    /// The account now.
    fn standing(&self, _now: UnixMs) -> Standing {
        Standing::default()
    }
}

/// A signal that is accepted and not decided, as far as it matters to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnderWay {
    /// Its pair.
    pub pair: Option<TradePairId>,
    /// The side of a position that it may open; nothing when it can only close or cancel.
    pub opens: Option<OrderType>,
}

impl UnderWay {
    /// From what is known of a signal.
    pub fn new(
        pair: Option<TradePairId>,
        execution: ExecutionType,
        order_type: Option<OrderType>,
    ) -> Self {
        let may_open = match execution {
            ExecutionType::Market
            | ExecutionType::Limit
            | ExecutionType::StopLimit
            | ExecutionType::LimitEdit => true,
            ExecutionType::Bracket | ExecutionType::LimitCancel | ExecutionType::FlatAll => false,
        };
        let opens = order_type.filter(|side| may_open && *side != OrderType::Flat);
        Self { pair, opens }
    }
}

impl From<&Signal> for UnderWay {
    fn from(signal: &Signal) -> Self {
        Self::new(signal.trade_pair(), signal.execution_type(), signal.order_type())
    }
}

/// What a guard found, for logs and live views.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GuardAlert {
    /// When, in ms.
    pub at: UnixMs,
    /// The signal; nothing when it is about the account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_uuid: Option<String>,
    /// The signal's pair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trade_pair: Option<String>,
    /// In one word.
    pub verdict: Severity,
    /// Whether the signal was not accepted, or not sent, because of it.
    pub blocked: bool,
    /// What was found.
    pub concerns: Vec<Concern>,
}

/// How often which verdict was given, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GuardCounts {
    /// By severity, in the order of [`Severity::ALL`].
    pub verdicts: [u64; 4],
    /// Signals that were not accepted, or not sent.
    pub blocked: u64,
    /// Calls in which the guard panicked.
    pub failures: u64,
}

struct Inner {
    guard: Arc<dyn OrderGuard>,
    mode: GuardMode,
    verdicts: [AtomicU64; 4],
    blocked: AtomicU64,
    failures: AtomicU64,
    ready: AtomicBool,
    /// Signals whose verdict was given when they were handed in; they are not judged again when
    /// they are taken up.
    judged: Mutex<HashSet<u64>>,
    alerts: broadcast::Sender<Arc<GuardAlert>>,
}

/// The handle of a guard; clones are the same guard.
#[derive(Clone)]
pub struct Guard(Arc<Inner>);

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("mode", &self.0.mode).finish_non_exhaustive()
    }
}

impl Guard {
    /// Puts a guard to work.
    pub fn new(mode: GuardMode, guard: Arc<dyn OrderGuard>) -> Self {
        Self(Arc::new(Inner {
            guard,
            mode,
            verdicts: Default::default(),
            blocked: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            ready: AtomicBool::new(false),
            judged: Mutex::default(),
            alerts: broadcast::Sender::new(ALERT_BACKLOG),
        }))
    }

    /// What it may do.
    pub fn mode(&self) -> GuardMode {
        self.0.mode
    }

    /// What was found from now on.
    pub fn alerts(&self) -> broadcast::Receiver<Arc<GuardAlert>> {
        self.0.alerts.subscribe()
    }

    /// How often which verdict was given.
    pub fn counts(&self) -> GuardCounts {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        GuardCounts {
            verdicts: self.0.verdicts.each_ref().map(load),
            blocked: load(&self.0.blocked),
            failures: load(&self.0.failures),
        }
    }

    /// The verdict on a signal, without counting it.
    pub fn check(&self, signal: &Signal, now: UnixMs) -> GuardVerdict {
        if self.0.mode == GuardMode::Off {
            return GuardVerdict::default();
        }
        self.ask("judge", |guard| guard.judge(signal, now)).unwrap_or_else(|| {
            GuardVerdict::failed("the risk guard failed, which is a bug; the log says more")
        })
    }

    /// Whether it was told everything that happened before the start.
    pub fn is_ready(&self) -> bool {
        self.0.ready.load(Ordering::Acquire)
    }

    /// The verdict on a signal that is about to be accepted or sent, which counts as under way from
    /// here on; what is to be done is said as to somebody whose signal is accepted, unless it is blocked. A verdict before the guard is ready is not the last word: the signal is judged again
    /// when it is taken up. Say with [`Guard::note`] what was done, and with [`Guard::forget`] when it is not
    /// kept after all.
    pub fn judge(&self, signal: &Signal, now: UnixMs) -> GuardVerdict {
        let mut verdict = self.check(signal, now);
        if !verdict.blocks(self.mode()) {
            verdict = verdict.of_accepted(signal.id());
        }
        if self.is_ready() {
            self.judged().insert(key(signal.id()));
        }
        self.under_way(signal.id(), &signal.into());
        verdict
    }

    /// Counts and tells a verdict: `blocked` when the signal was not accepted, or not sent, because
    /// of it.
    pub fn note(&self, signal: &Signal, verdict: &GuardVerdict, blocked: bool, now: UnixMs) {
        let severity = verdict.severity();
        if let Some(counter) = self.0.verdicts.get(severity as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        if blocked {
            self.0.blocked.fetch_add(1, Ordering::Relaxed);
            self.forget(signal.id());
        }
        if severity < Severity::Alert {
            return;
        }
        let (uuid, pair) = (signal.id(), signal.trade_pair());
        let shown = pair.as_ref().map(TradePairId::as_str);
        let codes = verdict.concerns.iter().map(|c| c.code.as_str()).collect::<Vec<_>>().join(",");
        if blocked {
            tracing::warn!(%uuid, pair = shown, codes, "refused by the risk guard: {}", verdict.words());
        } else {
            tracing::warn!(%uuid, pair = shown, codes, "risk guard: {}", verdict.words());
        }
        self.tell(GuardAlert {
            at: now,
            order_uuid: Some(uuid.to_string()),
            trade_pair: pair.map(String::from),
            verdict: severity,
            blocked,
            concerns: verdict.concerns.clone(),
        });
    }

    /// A signal is decided, or was judged and is not kept after all.
    pub fn forget(&self, id: &OrderUuid) {
        self.judged().remove(&key(id));
        self.ask("ended", |guard| guard.ended(id));
    }

    /// Whether a signal was judged when it was handed in to this process.
    pub fn was_judged(&self, id: &OrderUuid) -> bool {
        self.judged().contains(&key(id))
    }

    /// See [`OrderGuard::acknowledged`].
    pub fn acknowledged(&self, signal: &Signal, record: &ValidatorRecord) {
        self.ask("acknowledged", |guard| guard.acknowledged(signal, record));
    }

    /// See [`OrderGuard::doubtful`].
    pub fn doubtful(&self, signal: &Signal, record: &ValidatorRecord) {
        self.ask("doubtful", |guard| guard.doubtful(signal, record));
    }

    /// See [`OrderGuard::knows`].
    pub fn knows(&self, id: &OrderUuid) -> bool {
        self.ask("knows", |guard| guard.knows(id)).unwrap_or(false)
    }

    /// See [`OrderGuard::under_way`].
    pub fn under_way(&self, id: &OrderUuid, what: &UnderWay) {
        self.ask("under_way", |guard| guard.under_way(id, what));
    }

    /// See [`OrderGuard::none_under_way`].
    pub fn none_under_way(&self) {
        self.ask("none_under_way", |guard| guard.none_under_way());
    }

    /// See [`OrderGuard::ready`].
    pub fn ready(&self) {
        self.ask("ready", |guard| guard.ready());
        self.0.ready.store(true, Ordering::Release);
    }

    /// See [`OrderGuard::knows_until`].
    pub fn knows_until(&self) -> Option<UnixMs> {
        self.ask("knows_until", |guard| guard.knows_until()).flatten()
    }

    /// See [`OrderGuard::price`].
    pub fn price(&self, price: &PricePoint) -> bool {
        self.ask("price", |guard| guard.price(price)).unwrap_or(false)
    }

    /// See [`OrderGuard::standing`].
    pub fn standing(&self, now: UnixMs) -> Standing {
        self.ask("standing", |guard| guard.standing(now)).unwrap_or_default()
    }

    /// Tells whoever listens that the account is near to a limit.
    pub fn alert(&self, concern: Concern, now: UnixMs) {
        tracing::warn!(code = concern.code, "risk guard: {}; {}", concern.text, concern.action);
        self.tell(GuardAlert {
            at: now,
            order_uuid: None,
            trade_pair: None,
            verdict: concern.severity,
            blocked: false,
            concerns: vec![concern],
        });
    }

    fn tell(&self, alert: GuardAlert) {
        // Nobody listens: nobody misses it.
        self.0.alerts.send(Arc::new(alert)).ok();
    }

    fn judged(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.0.judged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask<T>(&self, what: &str, call: impl FnOnce(&dyn OrderGuard) -> T) -> Option<T> {
        let answer = catch_unwind(AssertUnwindSafe(|| call(self.0.guard.as_ref())));
        if answer.is_err() {
            let failures = self.0.failures.fetch_add(1, Ordering::Relaxed);
            if failures == 0 {
                tracing::error!(
                    call = what,
                    "the risk guard panicked, which is a bug; delivery goes on without its verdict"
                );
            }
        }
        answer.ok()
    }
}

/// Ids by their hashes: long queues are possible, and nothing is decided by one alone.
pub(crate) fn key(id: &OrderUuid) -> u64 {
    let mut hash = DefaultHasher::new();
    id.as_str().hash(&mut hash);
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{Era, Rules};

    struct Broken;

    impl OrderGuard for Broken {
        fn judge(&self, _: &Signal, _: UnixMs) -> GuardVerdict {
            panic!("judging")
        }
        fn acknowledged(&self, _: &Signal, _: &ValidatorRecord) {
            panic!("acknowledging")
        }
    }

    fn signal() -> Signal {
        let rules = Rules::load(Era::Y2026).unwrap();
        let body = br#"{"trade_pair":"BTCUSDC","order_type":"LONG","leverage":0.1}"#;
        Signal::from_json(body, &rules).unwrap()
    }

    fn refused(closes: bool) -> GuardVerdict {
        let concern = Concern {
            severity: Severity::Refused,
            code: "pair_halted".to_owned(),
            text: "halted".to_owned(),
            action: "wait".to_owned(),
            wait_ms: None,
        };
        GuardVerdict { closes, concerns: vec![concern], ..GuardVerdict::default() }
    }

    #[test]
    fn a_panic_becomes_a_verdict_that_blocks_nothing() {
        let guard = Guard::new(GuardMode::Refuse, Arc::new(Broken));
        let verdict = guard.judge(&signal(), 0);
        assert!(!verdict.blocks(GuardMode::Refuse));
        assert_eq!(verdict.unjudged[0].check, "guard");
        let record = ValidatorRecord::new("v", "127.0.0.1:1".to_owned(), true, 0);
        guard.acknowledged(&signal(), &record);
        assert_eq!(guard.counts().failures, 2);
    }

    #[test]
    fn only_refuse_blocks_and_never_what_closes() {
        assert!(refused(false).blocks(GuardMode::Refuse));
        assert!(!refused(false).blocks(GuardMode::Warn));
        assert!(!refused(false).blocks(GuardMode::Off));
        assert!(!refused(true).blocks(GuardMode::Refuse));
    }

    #[test]
    fn nobody_is_told_to_send_again_what_is_accepted() {
        let signal = signal();
        for severity in [Severity::Refused, Severity::Alert] {
            let mut verdict = refused(false);
            verdict.concerns[0].severity = severity;
            verdict.concerns[0].text = "Please wait 4.9 seconds.".to_owned();
            let words = verdict.of_accepted(signal.id()).words();
            let look = format!("ptn-cli signals show {}", signal.id());
            assert!(
                words.starts_with("Please wait 4.9 seconds; it is accepted all the same"),
                "{words}"
            );
            assert!(
                words.contains("do not send it again before") && words.ends_with(&look),
                "{words}"
            );
            assert_eq!(words.contains("validators may refuse it"), severity == Severity::Refused);
        }
        // What is about the account stays, and so does what the miner does by itself.
        for (severity, code) in
            [(Severity::Alert, "drawdown_near"), (Severity::Delayed, "cooldown")]
        {
            let mut verdict = refused(false);
            verdict.concerns[0].severity = severity;
            verdict.concerns[0].code = code.to_owned();
            assert_eq!(verdict.of_accepted(signal.id()).concerns[0].action, "wait");
        }
    }

    #[test]
    fn a_verdict_is_one_flat_object() {
        let verdict = refused(false);
        let json = serde_json::to_value(verdict.view(GuardMode::Warn)).unwrap();
        assert_eq!(json["verdict"], "refused");
        assert_eq!(json["mode"], "warn");
        assert_eq!(json["blocked"], false);
        assert_eq!(json["concerns"][0]["code"], "pair_halted");
        assert_eq!(json["closes"], false);
    }
}
