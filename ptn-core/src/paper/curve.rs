//! The account over time in a bounded number of points; the largest fall is exact.

use serde::{Deserialize, Serialize};

use crate::store::UnixMs;

/// A curve has no more points than this.
pub const MOST_POINTS: usize = 1500;

/// The account at a time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// When, in ms.
    pub at_ms: UnixMs,
    /// 1 is the start.
    pub equity: f64,
    /// The largest fall below the highest value since the point before.
    pub drawdown: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Curve {
    points: Vec<Point>,
    /// Values closer than this share a point.
    step_ms: UnixMs,
    peak: f64,
    pub(super) largest: f64,
    pub(super) largest_ms: UnixMs,
}

impl Curve {
    pub(super) fn new(start_ms: UnixMs) -> Self {
        let start = Point { at_ms: start_ms, equity: 1.0, drawdown: 0.0 };
        Self { points: vec![start], step_ms: 1, peak: 1.0, largest: 0.0, largest_ms: start_ms }
    }

    pub(super) fn add(&mut self, at_ms: UnixMs, equity: f64) {
        self.peak = self.peak.max(equity);
        let drawdown = 1.0 - equity / self.peak;
        if drawdown > self.largest {
            (self.largest, self.largest_ms) = (drawdown, at_ms);
        }
        self.push(Point { at_ms, equity, drawdown });
        if self.points.len() > MOST_POINTS {
            self.step_ms *= 2;
            for point in std::mem::take(&mut self.points) {
                self.push(point);
            }
        }
    }

    fn push(&mut self, point: Point) {
        let slot = |at_ms: UnixMs| at_ms.div_euclid(self.step_ms);
        match self.points.last_mut() {
            Some(last) if slot(last.at_ms) == slot(point.at_ms) => {
                *last = Point { drawdown: last.drawdown.max(point.drawdown), ..point };
            }
            _ => self.points.push(point),
        }
    }

    pub(super) fn points(&self) -> &[Point] {
        &self.points
    }
}
