//! What an answer means: retry, wait, or final. The table of the texts that validators answer.
//!
//! Deciding by type where there is a type; the network has only texts for the rest, and this is
//! the one place that reads them. What follows from a verdict is left to the couriers.

use std::time::Duration;

use crate::transport::{Certainty, TransportError, ValidatorReply};

/// What follows from one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The validator has the order.
    Accepted,
    /// It says that it had the order before: ours, if an earlier answer was lost.
    AlreadyProcessed,
    /// Not processed; try the same order again on schedule.
    Transient,
    /// Not processed; try again after this time.
    Wait(Duration),
    /// Not processed, and never will be.
    FinalOrder,
    /// Not processed; this hotkey will get the same answer to every order.
    FinalHotkey,
    /// It certainly never heard of it; try again on schedule.
    NotSent,
    /// Nothing usable came back: it may or may not have processed it.
    MaybeSent,
}

/// A verdict with its stable code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// What follows.
    pub verdict: Verdict,
    /// Stable code for records, metrics and docs.
    pub code: &'static str,
    /// The validator's words, or what went wrong.
    pub message: String,
}

/// The longest wait that a validator's words can impose.
pub const LONGEST_WAIT: Duration = Duration::from_secs(300);

enum Class {
    T,
    C,
    F,
    D,
    Filled,
    Already,
}

/// Part of the text, what it means, and its code. The first hit counts.
const TEXTS: &[(&str, Class, &str)] = &[
    ("Market order filled successfully, but bracket", Class::Filled, "filled_without_bracket"),
    ("has already been processed", Class::Already, "already_processed"),
    ("Rate limited", Class::C, "rate_limited"),
    ("was placed too soon after the previous order", Class::C, "cooldown"),
    ("has been eliminated", Class::D, "eliminated"),
    ("Subaccount is eliminated", Class::D, "eliminated"),
    ("was previously de-registered", Class::D, "deregistered"),
    ("cannot place orders directly", Class::D, "entity_hotkey"),
    ("is likely closed or this validator", Class::T, "market_closed"),
    ("is closed. Please try again later", Class::T, "market_closed"),
    ("is currently closed", Class::T, "market_closed"),
    ("trading category that has been temporarily halted", Class::F, "category_halted"),
    ("has been temporarily halted", Class::T, "pair_halted"),
    ("is restarting due to update", Class::T, "validator_restarting"),
    ("is syncing positions", Class::T, "validator_syncing"),
    ("no live prices being found", Class::T, "no_price"),
    ("sent signal for closed position", Class::T, "closed_position"),
    ("incorrectly sent trade pair", Class::F, "unknown_trade_pair"),
    ("Invalid trade pair in signal", Class::F, "unknown_trade_pair"),
    ("sent too many open orders", Class::F, "too_many_orders"),
    ("sent a FLAT order with no existing position", Class::F, "no_position"),
    ("Leverage must be", Class::F, "size_out_of_range"),
    ("leverage must be positive", Class::F, "size_out_of_range"),
    ("No matching order type found", Class::F, "bad_order_type"),
    ("ORDER_MIN_LEVERAGE", Class::F, "size_out_of_range"),
    ("ORDER_MAX_LEVERAGE", Class::F, "size_out_of_range"),
    ("attempted to exceed", Class::F, "leverage_cap"),
    ("Synthetic hotkey", Class::F, "subaccount_inactive"),
    ("is no longer supported", Class::F, "blocked_trade_pair"),
    ("cannot trade asset class", Class::F, "asset_class"),
    ("No buying power remaining", Class::F, "no_buying_power"),
    ("0 order size after clamping", Class::F, "zero_size"),
    ("is below minimum", Class::F, "below_minimum"),
    ("too many unfilled limit orders", Class::F, "too_many_limit_orders"),
    ("bracket order", Class::F, "bracket_invalid"),
    ("BRACKET orders must have", Class::F, "bracket_invalid"),
    ("LIMIT orders must have a valid", Class::F, "missing_price"),
    ("FLAT order is not supported", Class::F, "flat_not_allowed"),
    ("No unfilled limit orders found", Class::F, "order_not_found"),
    ("Cannot edit order", Class::F, "order_not_found"),
    ("No bracket edits to process", Class::F, "bracket_invalid"),
    ("Cannot open a SHORT position for equities", Class::F, "short_not_allowed"),
    ("is transitioning to a Pro Account", Class::F, "account_transition"),
    ("Invalid signal payload", Class::F, "bad_request"),
    ("Missing miner hotkey", Class::F, "bad_request"),
];

/// Every code that a delivery can end or wait with, for reference pages.
pub fn codes() -> impl Iterator<Item = &'static str> {
    let ours = [
        "accepted",
        "rejected",
        "not_processed",
        "wrong_wire",
        "not_verified",
        "blacklisted",
        "bad_request",
        "http_error",
        "uuid_conflict",
        "interrupted",
        "cancelled",
        "expired",
        "left_metagraph",
        "connect",
        "connect_timeout",
        "address_refused",
        "timeout",
        "connection_lost",
        "bad_answer",
        "answer_too_large",
        "wrong_validator",
        "wrong_receiver",
        "wrong_order",
        "panicked",
        "lease_lapsed",
        "signing",
        "not_sendable",
    ];
    TEXTS.iter().map(|(_, _, code)| *code).chain(ours)
}

/// Judges an attempt.
pub fn judge(result: &Result<ValidatorReply, TransportError>) -> Judged {
    match result {
        Err(e) => Judged {
            verdict: match e.certainty {
                Certainty::NotSent if ["not_sendable", "address_refused"].contains(&e.code) => {
                    Verdict::FinalOrder
                }
                Certainty::NotSent => Verdict::NotSent,
                Certainty::MaybeSent | Certainty::Answered => Verdict::MaybeSent,
            },
            code: e.code,
            message: e.message.clone(),
        },
        Ok(reply) if reply.status == 200 => answer(reply),
        Ok(reply) => refusal(reply),
    }
}

fn answer(reply: &ValidatorReply) -> Judged {
    let judged = |verdict, code| Judged { verdict, code, message: reply.error_message.clone() };
    if reply.successfully_processed {
        return judged(Verdict::Accepted, "accepted");
    }
    let text = reply.error_message.as_str();
    let known = TEXTS.iter().find(|(part, _, _)| text.contains(part));
    let insisting = reply.should_retry == Some(false);
    match known {
        Some((_, Class::Filled, code)) => judged(Verdict::Accepted, code),
        Some((_, Class::Already, code)) => judged(Verdict::AlreadyProcessed, code),
        Some((_, Class::D, code)) => judged(Verdict::FinalHotkey, code),
        Some((_, Class::F, code)) => judged(Verdict::FinalOrder, code),
        Some((_, _, code)) if insisting => judged(Verdict::FinalOrder, code),
        Some((_, Class::C, code)) => judged(Verdict::Wait(stated_wait(text)), code),
        Some((_, Class::T, code)) => judged(Verdict::Transient, code),
        None if insisting => judged(Verdict::FinalOrder, "rejected"),
        None => judged(Verdict::Transient, "not_processed"),
    }
}

fn refusal(reply: &ValidatorReply) -> Judged {
    let said = if reply.error_message.is_empty() {
        format!("HTTP {}", reply.status)
    } else {
        format!("HTTP {}: {}", reply.status, reply.error_message)
    };
    let judged = |verdict, code, message| Judged { verdict, code, message };
    if reply.other_wire {
        // Which wire it was addressed on is known to the courier, which says what to do.
        return judged(Verdict::FinalOrder, "wrong_wire", said);
    }
    match reply.status {
        401 => {
            let hint = match reply.clock_ahead_ms {
                Some(ahead) if !(-9_000..=3_000).contains(&ahead) => {
                    format!(
                        "{said} (its clock is {} s from ours: check this machine's time)",
                        ahead / 1000
                    )
                }
                _ => said,
            };
            judged(Verdict::FinalOrder, "not_verified", hint)
        }
        // Somebody else answers at the validator's address: it moved, and the next attempt goes to
        // where the list has it by then.
        403 if reply.error_message.contains("WrongReceiver") => {
            judged(Verdict::Transient, "wrong_receiver", said)
        }
        403 => judged(Verdict::FinalHotkey, "blacklisted", said),
        400 | 404 | 405 | 413 | 415 | 422 => judged(Verdict::FinalOrder, "bad_request", said),
        _ => judged(Verdict::MaybeSent, "http_error", said),
    }
}

/// `Please wait <seconds> seconds` in a text, within reason.
fn stated_wait(text: &str) -> Duration {
    let seconds = text
        .split("wait ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .and_then(|word| word.parse::<f64>().ok())
        .filter(|s| s.is_finite() && *s >= 0.0)
        .unwrap_or(5.0);
    // A little more than was asked for: the two clocks do not tick together.
    Duration::from_secs_f64(seconds.min(LONGEST_WAIT.as_secs_f64())) + Duration::from_millis(250)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, should_retry: Option<bool>, verdict: &Verdict, code: &str) {
        let reply = ValidatorReply {
            status: 200,
            error_message: text.to_owned(),
            should_retry,
            ..ValidatorReply::default()
        };
        let judged = judge(&Ok(reply));
        assert_eq!((&judged.verdict, judged.code), (verdict, code), "{text}");
        assert_eq!(judged.message, text);
    }

    #[test]
    fn every_text_of_the_catalogue_has_its_class() {
        use Verdict::{AlreadyProcessed, FinalHotkey, FinalOrder, Transient, Wait};
        let wait = |ms| Wait(Duration::from_millis(ms));
        let rows: &[(&str, Verdict, &str)] = &[
            (
                "Rate limited. Please wait 37 seconds before sending another signal. receive_signal",
                wait(37_250),
                "rate_limited",
            ),
            (
                "Rate limited. Please wait 1000000000000 seconds before sending another signal.",
                wait(300_250),
                "rate_limited",
            ),
            (
                "This miner hotkey 5F has been eliminated for reason {'dd': 0.9} and cannot participate in this subnet. Try again after re-registering.",
                FinalHotkey,
                "eliminated",
            ),
            (
                "This miner hotkey 5F has been eliminated and cannot participate in this subnet. Try again after re-registering. elimination_info {}",
                FinalHotkey,
                "eliminated",
            ),
            (
                "Market for trade pair [EURUSD] is likely closed or this validator is having issues fetching live price. Please try again later.",
                Transient,
                "market_closed",
            ),
            (
                "Market for trade pair [EURUSD] is closed. Please try again later.",
                Transient,
                "market_closed",
            ),
            ("The market for EURUSD is currently closed.", Transient, "market_closed"),
            (
                "Trade pair [SPX] is in a trading category that has been temporarily halted. Please try again with a different trade pair.",
                FinalOrder,
                "category_halted",
            ),
            (
                "miner [5F] incorrectly sent trade pair. Raw signal: {}",
                FinalOrder,
                "unknown_trade_pair",
            ),
            ("Invalid trade pair in signal. Raw signal: {}", FinalOrder, "unknown_trade_pair"),
            (
                "miner [x] sent too many open orders [3] and order [x] is not a FLAT order.",
                FinalOrder,
                "too_many_orders",
            ),
            ("miner [5F] sent a FLAT order with no existing position.", FinalOrder, "no_position"),
            (
                "Order for trade pair [BTCUSD] was placed too soon after the previous order. Last order was placed at [x] and current order was placed at [y].Please wait 59.0 seconds before placing another order.",
                wait(59_250),
                "cooldown",
            ),
            (
                "Error processing order for [5F] with error [Order for trade pair [BTCUSDC] was placed too soon after the previous order. Last order was placed at [x] and current order was placed at [y]. Please wait 4.5 seconds before placing another order.]",
                wait(4_750),
                "cooldown",
            ),
            ("miner [5F] sent signal for closed position [BTCUSD]", Transient, "closed_position"),
            (
                "Leverage must be between 0.001 and 20, provided - [30.0]",
                FinalOrder,
                "size_out_of_range",
            ),
            (
                "Order leverage [0.0001] is below ORDER_MIN_LEVERAGE 0.001, cannot increase size of position. Ignoring order.",
                FinalOrder,
                "size_out_of_range",
            ),
            (
                "Miner 5F attempted to exceed leverage bounds [0.1, 0.5] for trade pair BTCUSD. Ignoring order.",
                FinalOrder,
                "leverage_cap",
            ),
            (
                "Validator is restarting due to update. Please try again later.",
                Transient,
                "validator_restarting",
            ),
            (
                "Synthetic hotkey x is not active or not found. ..",
                FinalOrder,
                "subaccount_inactive",
            ),
            (
                "This miner hotkey 5F was previously de-registered and is not allowed to re-register. ..",
                FinalHotkey,
                "deregistered",
            ),
            (
                "Entity hotkey 5F cannot place orders directly. Please use a subaccount (synthetic hotkey) to place orders.",
                FinalHotkey,
                "entity_hotkey",
            ),
            (
                "Order with uuid [u] has already been processed. Please try again with a new order.",
                AlreadyProcessed,
                "already_processed",
            ),
            (
                "Trade pair [BTCUSD] is no longer supported. Please try again with a different trade pair.",
                FinalOrder,
                "blocked_trade_pair",
            ),
            (
                "miner [5F] cannot trade asset class [forex]. Selected asset class: [crypto]. Only trade pairs ..",
                FinalOrder,
                "asset_class",
            ),
            (
                "Trade pair [X] has been temporarily halted. Please try again with a different trade pair.",
                Transient,
                "pair_halted",
            ),
            (
                "Validator is syncing positions. Please try again shortly.",
                Transient,
                "validator_syncing",
            ),
            (
                "Order Rejected: no live prices being found for BTCUSDC. Please try again.",
                Transient,
                "no_price",
            ),
            (
                "No buying power remaining for BTCUSDC (capped by portfolio)",
                FinalOrder,
                "no_buying_power",
            ),
            ("Error processing order: 0 order size after clamping", FinalOrder, "zero_size"),
            (
                "BTCUSDC: position size 5 is below minimum 10 (USD, lots or shares)",
                FinalOrder,
                "below_minimum",
            ),
            (
                "miner has too many unfilled limit orders [100] >= [100]",
                FinalOrder,
                "too_many_limit_orders",
            ),
            (
                "Invalid LONG bracket order [u]: stop_loss (2) must be < reference_price (1)",
                FinalOrder,
                "bracket_invalid",
            ),
            (
                "Cannot create bracket order: no open position found for BTCUSDC",
                FinalOrder,
                "bracket_invalid",
            ),
            (
                "STOP_LIMIT orders must have a valid stop_price > 0 (got 0)",
                FinalOrder,
                "missing_price",
            ),
            ("No unfilled limit orders found for 5F (uuid=u)", FinalOrder, "order_not_found"),
            ("Cannot edit order u: order not found", FinalOrder, "order_not_found"),
            ("Cannot open a SHORT position for equities. ..", FinalOrder, "short_not_allowed"),
            (
                "Market order filled successfully, but bracket order creation failed: x",
                Verdict::Accepted,
                "filled_without_bracket",
            ),
            (
                "Your account is transitioning to a Pro Account. ..",
                FinalOrder,
                "account_transition",
            ),
            ("Subaccount is eliminated", FinalHotkey, "eliminated"),
            ("something new", Transient, "not_processed"),
        ];
        for (text, verdict, code) in rows {
            check(text, Some(true), verdict, code);
            check(text, None, verdict, code);
        }
    }

    #[test]
    fn a_validator_that_wants_no_retry_gets_none() {
        check("something new", Some(false), &Verdict::FinalOrder, "rejected");
        check(
            "The market for EURUSD is currently closed.",
            Some(false),
            &Verdict::FinalOrder,
            "market_closed",
        );
    }

    #[test]
    fn success_counts_whatever_should_retry_says() {
        let reply = ValidatorReply {
            status: 200,
            successfully_processed: true,
            should_retry: Some(true),
            ..ValidatorReply::default()
        };
        assert_eq!(judge(&Ok(reply)).verdict, Verdict::Accepted);
    }

    #[test]
    fn other_statuses_are_final_only_when_they_cannot_heal() {
        let of =
            |status| judge(&Ok(ValidatorReply { status, ..ValidatorReply::default() })).verdict;
        for status in [400, 401, 404, 422] {
            assert_eq!(of(status), Verdict::FinalOrder, "{status}");
        }
        assert_eq!(of(403), Verdict::FinalHotkey);
        let moved = ValidatorReply {
            status: 403,
            error_message: "WrongReceiver".to_owned(),
            ..ValidatorReply::default()
        };
        let judged = judge(&Ok(moved));
        assert_eq!((judged.verdict, judged.code), (Verdict::Transient, "wrong_receiver"));
        for status in [301, 307, 408, 429, 500, 502, 503] {
            assert_eq!(of(status), Verdict::MaybeSent, "{status}");
        }
    }
}
