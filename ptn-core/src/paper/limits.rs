//! How often one may send: the rate limit per hotkey, and the cooldown per pair.

use serde::{Deserialize, Serialize};

use super::refusal::Refusal;
use crate::rules::{Era, RateLimit};
use crate::store::UnixMs;
use crate::trade_pair::TradePairId;

/// The window in which a hotkey's requests are counted. It starts with the first request, and a
/// new one starts when **more** than its length has passed. A refused request does not count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateWindow {
    start_ms: Option<UnixMs>,
    requests: u32,
}

impl RateWindow {
    /// Counts a request, or gives the seconds to wait as the network words them.
    ///
    /// # Errors
    /// R1.
    pub fn request(
        &mut self,
        limit: RateLimit,
        method: Option<&str>,
        now_ms: UnixMs,
    ) -> Result<(), Refusal> {
        self.would_pass(limit, method, now_ms)?;
        if self.is_over(limit, now_ms) {
            *self = Self { start_ms: Some(now_ms), requests: 0 };
        }
        self.requests = self.requests.saturating_add(1);
        Ok(())
    }

    /// What [`RateWindow::request`] would say, without counting.
    ///
    /// # Errors
    /// R1.
    pub fn would_pass(
        &self,
        limit: RateLimit,
        method: Option<&str>,
        now_ms: UnixMs,
    ) -> Result<(), Refusal> {
        if self.is_over(limit, now_ms) || self.requests < limit.max_requests {
            return Ok(());
        }
        let passed_s = (now_ms - self.start_ms.unwrap_or(now_ms)) as f64 / 1000.0;
        let wait_s = limit.window_s as f64 - passed_s;
        Err(Refusal::RateLimited { wait_s, method: method.map(str::to_owned) })
    }

    fn is_over(&self, limit: RateLimit, now_ms: UnixMs) -> bool {
        let length_ms = i64::try_from(limit.window_s).unwrap_or(i64::MAX).saturating_mul(1000);
        self.start_ms.is_none_or(|start| now_ms.saturating_sub(start) > length_ms)
    }
}

/// R8 and R8': `last_ms` is the last order of the open position in 2024, the last fill of the pair
/// since. An order exactly one cooldown later is taken.
///
/// # Errors
/// R8, in the words of `era`.
pub fn cooldown(
    pair: &TradePairId,
    last_ms: Option<UnixMs>,
    now_ms: UnixMs,
    cooldown_ms: UnixMs,
    era: Era,
) -> Result<(), Refusal> {
    let Some(last_ms) = last_ms else { return Ok(()) };
    let wait_ms = cooldown_ms - (now_ms - last_ms);
    if wait_ms <= 0 {
        return Ok(());
    }
    Err(Refusal::Cooldown { pair: pair.clone(), last_ms, now_ms, wait_ms, era })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_holds_ten_and_ends_a_moment_after_its_length() {
        let limit = RateLimit { max_requests: 10, window_s: 60 };
        let mut window = RateWindow::default();
        for n in 0..10 {
            window.request(limit, None, n).unwrap();
        }
        let refused = window.request(limit, Some("SendSignal"), 30_500).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "Rate limited. Please wait 29.5 seconds before sending another signal. SendSignal"
        );
        assert_eq!(refused.wait_ms(), Some(29_500));
        assert!(window.request(limit, None, 60_000).is_err());
        for n in 0..10 {
            window.request(limit, None, 60_001 + n).unwrap();
        }
        assert!(window.request(limit, None, 60_012).is_err());
    }
}
