//! What each refusal means: its number in the catalogue, its code, its class, and its frame.

use super::{Refusal, RefusalClass};
use crate::rules::Era;
use crate::store::UnixMs;

impl Refusal {
    /// The number in the error catalogue; empty for what has none.
    pub fn catalogue_id(&self) -> &'static str {
        match self {
            Self::RateLimited { .. } => "R1",
            Self::Eliminated2024 { .. } => "R2",
            Self::Eliminated { .. } => "R2'",
            Self::NoFreshPrice { .. } => "R3",
            Self::MarketClosed { .. } => "R3'",
            Self::CategoryHalted { .. } => "R4",
            Self::UnknownPair2024 { .. } | Self::UnknownPair { .. } => "R5",
            Self::TooManyOrders { .. } => "R6",
            Self::NoPosition { .. } => "R7",
            Self::Cooldown { era: Era::Y2024, .. } => "R8",
            Self::Cooldown { .. } => "R8'",
            Self::Restarting => "R9",
            Self::SubaccountInactive { .. } => "R10",
            Self::Deregistered { .. } => "R11",
            Self::EntityHotkey { .. } => "R12",
            Self::DuplicateUuid { .. } => "R13",
            Self::BlockedPair { .. } => "R14",
            Self::AssetClass { .. } => "R15",
            Self::PairHalted { .. } => "R16",
            Self::Syncing => "R17",
            Self::ClosedAtExecution { .. } => "R18",
            Self::NoPrice { .. } => "R19",
            Self::NoBuyingPower { .. } => "R20",
            Self::ZeroSize => "R21",
            Self::BelowMinimum { .. } => "R22",
            Self::TooManyUnfilled { .. } => "R23",
            Self::BracketSide { .. }
            | Self::BracketEmpty
            | Self::BracketWithoutPosition { .. }
            | Self::RestingPrice { .. } => "R24",
            Self::NothingToCancel { .. }
            | Self::NothingToEdit { .. }
            | Self::EditPairMismatch { .. }
            | Self::NoBracketEdits => "R25",
            Self::EquityShort { .. } => "R26",
            Self::FilledWithoutBracket { .. } => "R27",
            Self::ProTransition | Self::SubaccountEliminated => "R28",
            Self::ClosedPosition { .. }
            | Self::LeverageRange { .. }
            | Self::SizeSign { .. }
            | Self::FirstOrder { .. }
            | Self::BadSignal { .. }
            | Self::FlatLimit => "",
        }
    }

    /// Stable code, the same that deliveries carry for such an answer.
    pub fn code(&self) -> &'static str {
        match self {
            Self::RateLimited { .. } => "rate_limited",
            Self::Eliminated2024 { .. } | Self::Eliminated { .. } | Self::SubaccountEliminated => {
                "eliminated"
            }
            Self::NoFreshPrice { .. }
            | Self::MarketClosed { .. }
            | Self::ClosedAtExecution { .. } => "market_closed",
            Self::CategoryHalted { .. } => "category_halted",
            Self::UnknownPair2024 { .. } | Self::UnknownPair { .. } => "unknown_trade_pair",
            Self::TooManyOrders { .. } => "too_many_orders",
            Self::NoPosition { .. } => "no_position",
            Self::Cooldown { .. } => "cooldown",
            Self::ClosedPosition { .. } => "closed_position",
            Self::LeverageRange { .. } | Self::SizeSign { .. } => "size_out_of_range",
            Self::FirstOrder { .. } => "rejected",
            Self::BadSignal { .. } => "bad_request",
            Self::Restarting => "validator_restarting",
            Self::SubaccountInactive { .. } => "subaccount_inactive",
            Self::Deregistered { .. } => "deregistered",
            Self::EntityHotkey { .. } => "entity_hotkey",
            Self::DuplicateUuid { .. } => "already_processed",
            Self::BlockedPair { .. } => "blocked_trade_pair",
            Self::AssetClass { .. } => "asset_class",
            Self::PairHalted { .. } => "pair_halted",
            Self::Syncing => "validator_syncing",
            Self::NoPrice { .. } => "no_price",
            Self::NoBuyingPower { .. } => "no_buying_power",
            Self::ZeroSize => "zero_size",
            Self::BelowMinimum { .. } => "below_minimum",
            Self::TooManyUnfilled { .. } => "too_many_limit_orders",
            Self::BracketSide { .. }
            | Self::BracketEmpty
            | Self::BracketWithoutPosition { .. }
            | Self::NoBracketEdits => "bracket_invalid",
            Self::RestingPrice { .. } => "missing_price",
            Self::FlatLimit => "flat_not_allowed",
            Self::NothingToCancel { .. }
            | Self::NothingToEdit { .. }
            | Self::EditPairMismatch { .. } => "order_not_found",
            Self::EquityShort { .. } => "short_not_allowed",
            Self::FilledWithoutBracket { .. } => "filled_without_bracket",
            Self::ProTransition => "account_transition",
        }
    }

    /// What it means for the order.
    pub fn class(&self) -> RefusalClass {
        match self {
            Self::RateLimited { .. } | Self::Cooldown { .. } => RefusalClass::Wait,
            Self::NoFreshPrice { .. }
            | Self::MarketClosed { .. }
            | Self::ClosedAtExecution { .. }
            | Self::ClosedPosition { .. }
            | Self::Restarting
            | Self::PairHalted { .. }
            | Self::Syncing
            | Self::NoPrice { .. } => RefusalClass::Transient,
            Self::Eliminated2024 { .. }
            | Self::Eliminated { .. }
            | Self::Deregistered { .. }
            | Self::EntityHotkey { .. }
            | Self::SubaccountEliminated => RefusalClass::FinalHotkey,
            Self::DuplicateUuid { .. } => RefusalClass::AlreadyProcessed,
            Self::FilledWithoutBracket { .. } => RefusalClass::Filled,
            _ => RefusalClass::FinalOrder,
        }
    }

    /// How long to wait, in ms, where the text says so.
    pub fn wait_ms(&self) -> Option<UnixMs> {
        match self {
            Self::Cooldown { wait_ms, .. } => Some(*wait_ms),
            Self::RateLimited { wait_s, .. } => std::time::Duration::try_from_secs_f64(*wait_s)
                .ok()
                .and_then(|wait| UnixMs::try_from(wait.as_millis()).ok()),
            _ => None,
        }
    }

    /// Whether it comes before the order is processed, and is therefore never framed.
    fn at_reception(&self) -> bool {
        matches!(
            self,
            Self::RateLimited { .. }
                | Self::Eliminated2024 { .. }
                | Self::Eliminated { .. }
                | Self::NoFreshPrice { .. }
                | Self::MarketClosed { .. }
                | Self::CategoryHalted { .. }
                | Self::Restarting
                | Self::SubaccountInactive { .. }
                | Self::Deregistered { .. }
                | Self::EntityHotkey { .. }
                | Self::DuplicateUuid { .. }
                | Self::BlockedPair { .. }
                | Self::AssetClass { .. }
                | Self::PairHalted { .. }
                | Self::Syncing
                | Self::SubaccountEliminated
        )
    }

    /// `error_message` on the wire: errors of processing are framed, except for subaccounts
    /// (`<hotkey>_<number>`) in 2026.
    pub fn error_message(&self, era: Era, hotkey: &str) -> String {
        if self.at_reception() || (era == Era::Y2026 && hotkey.contains('_')) {
            self.to_string()
        } else {
            format!("Error processing order for [{hotkey}] with error [{self}]")
        }
    }
}
