//! What to do about each refusal, in a few words.

use crate::paper::refusal::Refusal;
use crate::rules::Era;

/// The next step after a refusal.
pub(super) fn action(refusal: &Refusal, era: Era) -> String {
    let text = match refusal {
        Refusal::RateLimited { .. } | Refusal::Cooldown { .. } => "send it again after that time",
        Refusal::MarketClosed { .. }
        | Refusal::ClosedAtExecution { .. }
        | Refusal::NoFreshPrice { .. } => "send it again when the market is open",
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
