//! The network's own limits, kept per validator: requests per window, and the cooldown per pair.
//!
//! The validator starts its window with the first request that it sees; ours starts when that
//! request was answered, so ours never ends earlier than its. What an earlier run sent is taken from
//! the store's records: a restart is no new budget.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::policy::Pacing;
use super::verdict::LONGEST_WAIT;
use crate::record::{DeliveryState, ValidatorRecord};
use crate::store::UnixMs;
use crate::trade_pair::TradePairId;

/// The two clocks do not tick together.
const MARGIN: Duration = Duration::from_millis(250);

#[derive(Debug, Default)]
pub(super) struct Pacer {
    limits: Option<Pacing>,
    window_start: Option<Instant>,
    used: u32,
    in_flight: u32,
    last_order: BTreeMap<TradePairId, Instant>,
    blocked_until: Option<Instant>,
}

impl Pacer {
    pub(super) fn new(limits: Option<Pacing>) -> Self {
        Self { limits, ..Self::default() }
    }

    /// When the next request may leave; `None` means now.
    pub(super) fn request_at(&self, now: Instant) -> Option<Instant> {
        let mut at = self.blocked_until.filter(|t| *t > now);
        if let Some(limits) = &self.limits
            && self.used(now) >= limits.rate_limit.max_requests
        {
            // Until the first request of the window is answered its end is not known.
            at = at.max(Some(self.end().filter(|end| *end > now).unwrap_or(now + self.window())));
        }
        at
    }

    fn window(&self) -> Duration {
        let seconds = self.limits.as_ref().map_or(0, |limits| limits.rate_limit.window_s);
        Duration::from_secs(seconds) + MARGIN
    }

    fn end(&self) -> Option<Instant> {
        self.window_start.map(|start| start + self.window())
    }

    /// Requests that count now. What is still under way when a window ends may reach the validator
    /// in the next one, so it counts there.
    fn used(&self, now: Instant) -> u32 {
        if self.end().is_some_and(|end| end <= now) { self.in_flight } else { self.used }
    }

    /// When the next order of a pair may leave; `None` means now.
    pub(super) fn pair_at(&self, pair: Option<&TradePairId>, now: Instant) -> Option<Instant> {
        let limits = self.limits.as_ref()?;
        let last = self.last_order.get(pair?)?;
        Some(*last + limits.cooldown + MARGIN).filter(|at| *at > now)
    }

    /// A request leaves.
    pub(super) fn begun(&mut self, now: Instant) {
        if self.limits.is_some() {
            self.roll(now);
            self.used += 1;
            self.in_flight += 1;
        }
    }

    /// Leaves a window that is over.
    fn roll(&mut self, now: Instant) {
        self.used = self.used(now);
        self.window_start = self.window_start.filter(|start| *start + self.window() > now);
    }

    /// A request came to its end; `reached` when the validator may have seen it.
    pub(super) fn ended(&mut self, now: Instant, pair: Option<&TradePairId>, reached: bool) {
        if self.limits.is_none() {
            return;
        }
        self.roll(now);
        self.in_flight = self.in_flight.saturating_sub(1);
        if !reached {
            self.used = self.used.saturating_sub(1);
            return;
        }
        self.window_start.get_or_insert(now);
        if let Some(pair) = pair {
            self.last_order.insert(pair.clone(), now);
        }
    }

    /// Takes into account what an earlier run sent; the oldest first, as far as that is known.
    pub(super) fn remember(
        &mut self,
        now: Instant,
        clock: UnixMs,
        record: &ValidatorRecord,
        pair: Option<&TradePairId>,
    ) {
        if self.limits.is_none() || record.attempts == 0 {
            return;
        }
        let ms = |from: UnixMs, to: UnixMs| {
            Duration::from_millis(u64::try_from(to.saturating_sub(from)).unwrap_or(0))
        };
        if record.code == "rate_limited"
            && let Some(until) = record.next_try_at
        {
            self.blocked(now + ms(clock, until).min(LONGEST_WAIT));
        }
        // Before this machine's clock began nothing is of interest any more.
        let Some(at) = now.checked_sub(ms(record.at, clock)) else { return };
        if !["connect", "connect_timeout"].contains(&record.code.as_str()) {
            self.roll(at);
            self.used = self.used.saturating_add(record.attempts);
            self.window_start.get_or_insert(at);
        }
        if let Some(pair) = pair
            && (record.state == DeliveryState::Accepted || record.maybe_sent)
        {
            let last = self.last_order.entry(pair.clone()).or_insert(at);
            *last = at.max(*last);
        }
    }

    /// The validator said how long to wait before anything else.
    pub(super) fn blocked(&mut self, until: Instant) {
        self.blocked_until = self.blocked_until.max(Some(until));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::RateLimit;

    #[test]
    fn ten_requests_then_the_rest_of_the_window() {
        let limits = Pacing {
            cooldown: Duration::from_secs(5),
            rate_limit: RateLimit { max_requests: 10, window_s: 60 },
        };
        let mut pacer = Pacer::new(Some(limits));
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let pair = TradePairId::from("BTCUSDC");
        for i in 0..10 {
            assert_eq!(pacer.request_at(at(i)), None);
            pacer.begun(at(i));
            pacer.ended(at(i), Some(&pair), true);
        }
        assert_eq!(pacer.request_at(at(10)), Some(at(60) + MARGIN));
        assert_eq!(pacer.pair_at(Some(&pair), at(10)), Some(at(14) + MARGIN));
        assert_eq!(pacer.request_at(at(61)), None);
        pacer.begun(at(61));
        pacer.ended(at(61), None, false);
        assert_eq!(pacer.used, 0);
    }

    #[test]
    fn a_request_that_outlasts_its_window_counts_in_the_next_one_and_blocks_nobody() {
        let limits = Pacing {
            cooldown: Duration::ZERO,
            rate_limit: RateLimit { max_requests: 3, window_s: 60 },
        };
        let mut pacer = Pacer::new(Some(limits));
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        for i in 0..2 {
            pacer.begun(at(i));
            pacer.ended(at(i), None, true);
        }
        pacer.begun(at(50));
        assert_eq!(pacer.request_at(at(55)), Some(at(60) + MARGIN));
        // It hangs until 80 s. Meanwhile two more may leave, and then the time to look again lies
        // ahead: a time that has passed would be asked for in a loop.
        for i in [61, 62] {
            assert_eq!(pacer.request_at(at(i)), None);
            pacer.begun(at(i));
        }
        assert!(pacer.request_at(at(63)).is_some_and(|again| again > at(63)));
        pacer.ended(at(80), None, true);
        assert_eq!(pacer.request_at(at(81)), Some(at(140) + MARGIN));
        assert_eq!(pacer.request_at(at(141)), None, "two are still under way");
        pacer.ended(at(142), None, true);
        assert_eq!((pacer.used, pacer.window_start), (2, Some(at(142))));
    }
}
