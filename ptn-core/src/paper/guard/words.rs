//! What to do about each refusal, in a few words; and its text without noise.

use crate::paper::refusal::Refusal;
use crate::rules::Era;

/// The next step after a refusal.
pub(super) fn action(refusal: &Refusal, era: Era) -> String {
    let text = match refusal {
        Refusal::RateLimited { .. } | Refusal::Cooldown { .. } => "send it after that time",
        Refusal::MarketClosed { .. }
        | Refusal::ClosedAtExecution { .. }
        | Refusal::NoFreshPrice { .. } => "send it when the market is open",
        Refusal::CategoryHalted { .. } | Refusal::PairHalted { .. } => {
            "take another pair; if this one trades again, take it out of --guard.halted"
        }
        Refusal::BlockedPair { .. } => "take another pair; the catalogue names the replacement",
        Refusal::AssetClass { .. } => {
            "take a pair of the selected asset class, or correct --guard.asset-class"
        }
        Refusal::UnknownPair { .. } | Refusal::UnknownPair2024 { .. } => "correct the trade pair",
        Refusal::TooManyOrders { .. } => "close a position first",
        Refusal::TooManyUnfilled { .. } => "cancel resting orders first",
        Refusal::NoPosition { .. } => "nothing needs to be closed",
        Refusal::NoBuyingPower { .. } => "reduce or close positions first",
        Refusal::ZeroSize | Refusal::BelowMinimum { .. } => "send a larger size",
        Refusal::LeverageRange { .. } => "send a size within the bounds",
        Refusal::BracketSide { .. } => "correct stop loss and take profit against the price",
        Refusal::BracketWithoutPosition { .. } => "open the position first",
        Refusal::NothingToCancel { .. } | Refusal::NothingToEdit { .. } => {
            "it may have been filled or cancelled already"
        }
        Refusal::FilledWithoutBracket { cause } => return action(cause, era),
        Refusal::EquityShort { .. } => "open equities with LONG only",
        _ if era == Era::Y2024 => "correct the signal by the rules of 2024",
        _ => "correct the signal",
    };
    text.to_owned()
}

/// More decimals than these are no price and no size, but what binary fractions leave over.
const NOISE: usize = 12;

/// A text with numbers like `36.763000000000005` as `36.763`.
pub(super) fn without_noise(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, number) = rest.split_at(start);
        let end = number.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(number.len());
        let (number, behind) = number.split_at(end);
        out.push_str(before);
        let decimals = number.split_once('.').map_or(0, |(_, decimals)| decimals.len());
        match number.parse::<f64>() {
            Ok(value) if decimals >= NOISE => {
                let short = format!("{value:.6}");
                out.push_str(short.trim_end_matches('0').trim_end_matches('.'));
            }
            _ => out.push_str(number),
        }
        rest = behind;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lose_what_binary_fractions_left_over() {
        for (given, shown) in [
            ("Please wait 36.763000000000005 seconds.", "Please wait 36.763 seconds."),
            ("wait 4.999999999999999", "wait 5"),
            (
                "0.00001234 and 100000.5, at 12:00:05.123",
                "0.00001234 and 100000.5, at 12:00:05.123",
            ),
            ("5Eab9.1.22222222222222 none", "5Eab9.1.22222222222222 none"),
            ("", ""),
        ] {
            assert_eq!(without_noise(given), shown);
        }
    }
}
