//! The risk guard: its rules one by one, in the engine, and over restarts.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::float_cmp,
    reason = "tests"
)]

mod closing;
mod daemons;
mod engine;
mod history;
mod prices;
mod rules_2024;
mod rules_2026;

use ptn_core::guard::{GuardVerdict, OrderGuard, PricePoint, Severity};
use ptn_core::paper::guard::{GuardSettings, RiskGuard};
use ptn_core::record::{DeliveryState, ValidatorRecord};
use ptn_core::rules::{Era, Rules, UnknownPairs};
use ptn_core::signal::{OrderUuid, Signal};

/// Wednesday 2026-07-01, 12:00:00 UTC: every market that opens at all is open.
pub(crate) const NOON: i64 = 1_782_907_200_000;
/// Saturday 2026-07-04, 12:00:00 UTC.
pub(crate) const SATURDAY: i64 = NOON + 3 * 24 * 3_600_000;
pub(crate) const SECOND: i64 = 1000;
pub(crate) const MINUTE: i64 = 60 * SECOND;
pub(crate) const DAY: i64 = 24 * 60 * MINUTE;

/// A guard and what is sent past it.
pub(crate) struct Desk {
    pub(crate) guard: RiskGuard,
    pub(crate) rules: Rules,
    sent: u32,
}

impl Desk {
    pub(crate) fn new(era: Era) -> Self {
        Self::with(era, |_| {})
    }

    pub(crate) fn with(era: Era, change: impl FnOnce(&mut GuardSettings)) -> Self {
        let mut settings = GuardSettings::default();
        change(&mut settings);
        let guard = RiskGuard::new(era, settings).unwrap();
        guard.ready();
        let mut rules = Rules::load(era).unwrap();
        rules.unknown_pairs = UnknownPairs::Pass;
        Self { guard, rules, sent: 0 }
    }

    pub(crate) fn signal(&mut self, body: &str) -> Signal {
        self.sent += 1;
        let signal = Signal::from_json(body.as_bytes(), &self.rules).unwrap();
        if signal.id_was_given() {
            return signal;
        }
        signal.with_id(OrderUuid::parse(&format!("s-{}", self.sent)).unwrap())
    }

    /// `PAIR SIDE SIZE`, as in `BTCUSDC LONG 0.5x`; also `PAIR FLAT`.
    pub(crate) fn order(&mut self, words: &str) -> Signal {
        let mut words = words.split(' ');
        let (pair, side) = (words.next().unwrap(), words.next().unwrap());
        let size = words.next().unwrap_or(if self.rules.era == Era::Y2026 { "" } else { "0x" });
        let size = if let Some(n) = size.strip_suffix('x') {
            format!(r#","leverage":{n}"#)
        } else if let Some(n) = size.strip_prefix('$') {
            format!(r#","value":{n}"#)
        } else if size.is_empty() {
            String::new()
        } else {
            format!(r#","quantity":{size}"#)
        };
        self.signal(&format!(r#"{{"trade_pair":"{pair}","order_type":"{side}"{size}}}"#))
    }

    pub(crate) fn judge(&mut self, words: &str, now: i64) -> GuardVerdict {
        let signal = self.order(words);
        self.guard.judge(&signal, now)
    }

    /// A validator took it, and its answer holds no price.
    pub(crate) fn take(&mut self, words: &str, at: i64) {
        let signal = self.order(words);
        self.took(&signal, at, "");
    }

    /// A validator took it at this price.
    pub(crate) fn fill(&mut self, words: &str, price: f64, at: i64) {
        let signal = self.order(words);
        let text = format!("{{'price': {price:?}, 'processed_ms': {at}, 'src': 0}}");
        self.took(&signal, at, &text);
    }

    pub(crate) fn took(&self, signal: &Signal, at: i64, order_json: &str) {
        self.guard.acknowledged(signal, &accepted(at, order_json));
    }

    pub(crate) fn price(&self, pair: &str, price: f64, at: i64) -> bool {
        self.guard.price(&point(pair, price, at))
    }
}

pub(crate) fn point(pair: &str, price: f64, at_ms: i64) -> PricePoint {
    PricePoint { pair: pair.into(), at_ms, price, bid: None, ask: None }
}

pub(crate) fn accepted(at: i64, order_json: &str) -> ValidatorRecord {
    let mut record = ValidatorRecord::new("v1", "127.0.0.1:1".to_owned(), true, at);
    record.state = DeliveryState::Accepted;
    order_json.clone_into(&mut record.order_json);
    record
}

/// Severity and code of every concern.
pub(crate) fn found(verdict: &GuardVerdict) -> Vec<(Severity, &str)> {
    verdict.concerns.iter().map(|c| (c.severity, c.code.as_str())).collect()
}

/// What could not be judged.
pub(crate) fn lacking(verdict: &GuardVerdict) -> Vec<&str> {
    verdict.unjudged.iter().map(|u| u.check.as_str()).collect()
}

/// Points left before a limit.
pub(crate) fn left(verdict: &GuardVerdict, rule: &str) -> f64 {
    verdict.drawdown.iter().find(|d| d.rule == rule).unwrap().points_left
}

pub(crate) fn near(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-6, "{a} is not {b}");
}
