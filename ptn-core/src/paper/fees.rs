//! Formulas of what time and trading cost: carry, funding, borrowed shares, loans, slippage.
//!
//! The rates are data. Transaction fees are part of [`super::position`], because they need the
//! realised gain. No fee is ever below zero.

use super::position::{FeeKind, Position};
use super::rules::{PairRules, PaperRules, Rules2026};
use crate::order::OrderType;
use crate::store::UnixMs;
use crate::trade_pair::TradePairClass;

const MS_IN_HOUR: UnixMs = 3_600_000;
const MS_IN_DAY: UnixMs = 24 * MS_IN_HOUR;
const DAYS_IN_YEAR: f64 = 365.0;

/// The carry rule of native equities, as the catalogue names it.
const EQUITIES: &str = "equity_borrow_or_interest";

/// What `intervals` full intervals cost a position of this market value, in US dollars: nothing
/// for a pair whose carry is not a flat rate.
pub fn flat_carry(rules: &Rules2026, carry: &str, market_value: f64, intervals: i64) -> f64 {
    match rules.carry.flat(carry) {
        Some(rule) if market_value > 0.0 && intervals > 0 => {
            market_value * rule.rate * intervals as f64
        }
        _ => 0.0,
    }
}

/// Charges everything that is due by `now_ms`, and returns it in US dollars. Every full interval
/// counts from the opening of the position, at the market value of the last mark.
pub(crate) fn accrue(
    position: &mut Position,
    pair: &PairRules,
    rules: &Rules2026,
    now_ms: UnixMs,
) -> f64 {
    if position.is_closed() {
        return 0.0;
    }
    let value = position.market_value();
    let (kind, usd, paid_until) = if let Some(flat) = rules.carry.flat(&pair.carry) {
        let interval_ms = flat.interval_h.max(1) * MS_IN_HOUR;
        let since = position.paid_until(FeeKind::Carry);
        let intervals = (now_ms - since).div_euclid(interval_ms);
        let usd = flat_carry(rules, &pair.carry, value, intervals);
        (FeeKind::Carry, usd, since + intervals * interval_ms)
    } else if pair.carry == EQUITIES {
        let midnight = now_ms.div_euclid(MS_IN_DAY) * MS_IN_DAY;
        let rates = &rules.carry.equity_borrow_or_interest;
        let (kind, base, annual) = if position.position_type == OrderType::Short {
            (FeeKind::Borrow, value, rates.short_borrow_annual)
        } else {
            (FeeKind::Interest, position.margin_loan(), rates.long_margin_interest_annual)
        };
        // Full days up to a midnight: the first night of a position is free.
        let nights = (midnight - position.paid_until(kind)).div_euclid(MS_IN_DAY);
        (kind, base.max(0.0) * (annual / DAYS_IN_YEAR) * nights.max(0) as f64, midnight)
    } else {
        return 0.0;
    };
    position.pay(kind, usd, paid_until);
    usd
}

/// Charges the hourly funding of a perpetual and returns it in US dollars: `rates` are settlements
/// (time in ms, rate), ascending. Long positions pay a positive rate. Only a positive sum since the
/// last one that was charged is recorded: nobody is ever paid, and losses carry nothing forward.
pub(crate) fn fund(position: &mut Position, rates: &[(UnixMs, f64)], now_ms: UnixMs) -> f64 {
    let value = position.market_value();
    if position.is_closed() || value <= 0.0 {
        return 0.0;
    }
    let since = position.paid_until(FeeKind::Funding);
    let sign = if position.position_type == OrderType::Long { 1.0 } else { -1.0 };
    let due = rates.iter().filter(|(at, _)| *at > since && *at <= now_ms);
    let (usd, last) =
        due.fold((0.0, since), |(sum, _), (at, rate)| (sum + value * rate * sign, *at));
    position.pay(FeeKind::Funding, usd, last);
    usd.max(0.0)
}

/// The slippage of a market order by the network's rules, as a fraction: nothing for small orders,
/// a table for native forex, and otherwise `modelled` (an order book, a size table), up to the
/// cap.
pub fn slippage(
    rules: &PaperRules,
    own: &Rules2026,
    pair: &PairRules,
    value_usd: f64,
    at_ms: UnixMs,
    modelled: f64,
) -> f64 {
    let rule = &own.slippage;
    if value_usd.abs() <= rule.min_order_usd {
        return 0.0;
    }
    let slips = if pair.class == TradePairClass::Forex && pair.is_native() {
        // The hour after the New York close is hour 17 of the local day.
        let after_close = rules.hours.new_york(at_ms).is_some_and(|t| t.hour() == 17);
        if after_close { rule.forex.ny_17_to_18 } else { rule.forex.normal }
    } else {
        modelled
    };
    slips.max(0.0).min(rule.cap)
}
