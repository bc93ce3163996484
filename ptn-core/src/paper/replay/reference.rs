//! The reference miners of a replay: they hold one pair, long or short, and know nothing else.

use crate::order::OrderType;
use crate::paper::DAY_MS;
use crate::paper::order::{Order, Size};
use crate::paper::rules::PairRules;
use crate::paper::validator::{PaperError, PaperValidator};
use crate::store::UnixMs;
use crate::trade_pair::TradePairId;

/// Leverage of a reference position, or the smallest that the pair allows.
const LEVERAGE: f64 = 0.1;
/// Between two orders; above every cooldown and rate limit.
const PAUSE_MS: UnixMs = 60_000;

#[derive(Debug)]
pub(super) struct Holder {
    pub(super) hotkey: String,
    pair: TradePairId,
    side: OrderType,
    leverage: f64,
    not_before_ms: UnixMs,
    orders: u64,
}

impl Holder {
    pub(super) fn both(pair: &PairRules) -> [Self; 2] {
        [(OrderType::Long, "long"), (OrderType::Short, "short")].map(|(side, word)| Self {
            hotkey: format!("reference-{word}-{}", pair.id),
            pair: pair.id.clone(),
            side,
            leverage: LEVERAGE.max(pair.min_leverage),
            not_before_ms: UnixMs::MIN,
            orders: 0,
        })
    }

    /// Opens where nothing is open, and closes what was opened on another day. What is refused is
    /// tried again later.
    pub(super) fn trade(
        &mut self,
        validator: &mut PaperValidator,
        now_ms: UnixMs,
    ) -> Result<(), PaperError> {
        if now_ms < self.not_before_ms {
            return Ok(());
        }
        let open = validator.book().account(&self.hotkey).and_then(|account| {
            account.open().into_iter().find(|p| p.pair == &self.pair).map(|p| p.open_ms)
        });
        let (kind, size) = match open {
            None => (self.side, Some(Size::Leverage(self.leverage))),
            Some(at_ms) if at_ms.div_euclid(DAY_MS) < now_ms.div_euclid(DAY_MS) => {
                (OrderType::Flat, None)
            }
            Some(_) => return Ok(()),
        };
        self.orders += 1;
        let uuid = format!("{}-{}", self.hotkey, self.orders);
        let order = Order::market(uuid, self.pair.clone(), kind, size);
        self.not_before_ms = now_ms + PAUSE_MS;
        // A refusal is the end of this try.
        validator.order(now_ms, &self.hotkey, &order).map(drop)
    }
}
