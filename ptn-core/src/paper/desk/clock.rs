//! The clock of a paper validator: real, or faster.

use std::time::{Duration, Instant, SystemTime};

use crate::store::UnixMs;

/// Gives the time of the validator. It never goes back: the desk sees to that.
#[derive(Debug, Clone, Copy)]
pub struct PaperClock {
    base_ms: UnixMs,
    begun: Instant,
    speed: Option<f64>,
}

impl PaperClock {
    /// The machine's clock.
    pub fn real() -> Self {
        Self { base_ms: 0, begun: Instant::now(), speed: None }
    }

    /// A clock that begins at a time, in ms, and goes this many times as fast as a real one.
    pub fn simulated(start_ms: UnixMs, speed: f64) -> Self {
        Self { base_ms: start_ms, begun: Instant::now(), speed: Some(speed) }
    }

    /// The same pace from another time on.
    pub(super) fn resumed_at(self, at_ms: UnixMs) -> Self {
        Self { base_ms: at_ms, begun: Instant::now(), ..self }
    }

    /// Whether it is the machine's clock.
    pub const fn is_real(&self) -> bool {
        self.speed.is_none()
    }

    /// Now, in ms.
    pub fn now_ms(&self) -> UnixMs {
        match self.speed {
            None => SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .ok()
                .and_then(|since| UnixMs::try_from(since.as_millis()).ok())
                .unwrap_or(0),
            Some(speed) => {
                let passed = self.begun.elapsed().as_secs_f64() * 1000.0 * speed;
                #[expect(clippy::cast_possible_truncation, reason = "saturates, and is ms")]
                self.base_ms.saturating_add(passed as UnixMs)
            }
        }
    }

    /// How long the machine's clock takes until this one shows a time.
    pub fn until(&self, at_ms: UnixMs) -> Duration {
        let left = at_ms.saturating_sub(self.now_ms());
        let ms = u64::try_from(left).unwrap_or(0);
        let real = Duration::from_millis(ms);
        match self.speed {
            Some(speed) if speed > 0.0 => real.div_f64(speed.max(1e-3)),
            _ => real,
        }
    }
}
