//! Everything that a validator can answer instead of taking an order, with its exact text.
//!
//! The texts, their classes and their numbers (R1 to R28) are the network's error catalogue; the
//! codes are the same as in [`crate::deliver`], which reads such texts. When to refuse is decided
//! by the modules beside this one.

mod meaning;

use serde::{Deserialize, Serialize};

use crate::json::python_float;
use crate::order::OrderType;
use crate::rules::Era;
use crate::store::UnixMs;
use crate::trade_pair::{TradePairClass, TradePairId};

/// What a refusal means for the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalClass {
    /// Try again later, with a fresh decision.
    Transient,
    /// Try again after the time in the text.
    Wait,
    /// Never for this order.
    FinalOrder,
    /// Never for this hotkey.
    FinalHotkey,
    /// The first copy of the order was processed.
    AlreadyProcessed,
    /// The order was filled; only its bracket orders were not made.
    Filled,
}

/// The unit in which a position is too small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SizeUnit {
    /// US dollars.
    Usd,
    /// Lots.
    Lots,
    /// Shares.
    Shares,
}

/// Which bound a stop loss or take profit is on the wrong side of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BracketLeg {
    /// `stop_loss`.
    StopLoss,
    /// `take_profit`.
    TakeProfit,
}

/// Why an order was refused. The text is the validator's, word by word.
#[derive(Debug, Clone, PartialEq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Refusal {
    /// R1.
    #[error("Rate limited. Please wait {} seconds before sending another signal.{}",
        python_float(*wait_s), suffix(method.as_deref()))]
    RateLimited {
        /// Seconds until the window ends.
        wait_s: f64,
        /// The network's word for sending, since 2025.
        method: Option<String>,
    },
    /// R2, 2024.
    #[error(
        "This miner hotkey {hotkey} has been eliminated for reason {row} and cannot participate in this subnet. Try again after re-registering."
    )]
    Eliminated2024 {
        /// Who.
        hotkey: String,
        /// The elimination, as Python shows it.
        row: String,
    },
    /// R2', since 2025.
    #[error(
        "This miner hotkey {hotkey} has been eliminated and cannot participate in this subnet. Try again after re-registering. elimination_info {row}"
    )]
    Eliminated {
        /// Who.
        hotkey: String,
        /// The elimination, as Python shows it.
        row: String,
    },
    /// R3, 2024: no fresh price.
    #[error(
        "Market for trade pair [{pair}] is likely closed or this validator is having issues fetching live price. Please try again later."
    )]
    NoFreshPrice {
        /// Which pair.
        pair: TradePairId,
    },
    /// R3', 2026: at reception.
    #[error("Market for trade pair [{pair}] is closed. Please try again later.")]
    MarketClosed {
        /// Which pair.
        pair: TradePairId,
    },
    /// R18, 2026: when the order is executed.
    #[error("The market for {pair} is currently closed.")]
    ClosedAtExecution {
        /// Which pair.
        pair: TradePairId,
    },
    /// R4, 2024.
    #[error(
        "Trade pair [{pair}] is in a trading category that has been temporarily halted. Please try again with a different trade pair."
    )]
    CategoryHalted {
        /// Which pair.
        pair: TradePairId,
    },
    /// R5, 2024.
    #[error("miner [{hotkey}] incorrectly sent trade pair. Raw signal: {signal}")]
    UnknownPair2024 {
        /// Who.
        hotkey: String,
        /// The order, as Python shows it.
        signal: String,
    },
    /// R5, 2026.
    #[error("Invalid trade pair in signal. Raw signal: {signal}")]
    UnknownPair {
        /// The order, as Python shows it.
        signal: String,
    },
    /// R6.
    #[error(
        "miner [{order}] sent too many open orders [{positions}] and order [{order}] is not a FLAT order."
    )]
    TooManyOrders {
        /// The order, as Python shows it.
        order: String,
        /// Open positions; what is limited is their orders.
        positions: usize,
    },
    /// R7, 2024.
    #[error("miner [{hotkey}] sent a FLAT order with no existing position.")]
    NoPosition {
        /// Who.
        hotkey: String,
    },
    /// R8 in 2024, R8' since: a blank before "Please", and one decimal.
    #[error(
        "Order for trade pair [{pair}] was placed too soon after the previous order. Last order was placed at [{}] and current order was placed at [{}].{} seconds before placing another order.",
        utc(*last_ms), utc(*now_ms), please_wait(*wait_ms, *era)
    )]
    Cooldown {
        /// Which pair.
        pair: TradePairId,
        /// The order before.
        last_ms: UnixMs,
        /// This one.
        now_ms: UnixMs,
        /// Until the next one is taken, in ms.
        wait_ms: UnixMs,
        /// Whose wording.
        era: Era,
    },
    /// The position was closed between two steps.
    #[error("miner [{hotkey}] sent signal for closed position [{pair}]")]
    ClosedPosition {
        /// Who.
        hotkey: String,
        /// Which pair.
        pair: TradePairId,
    },
    /// The validator reads the signal again, 2024.
    #[error("Leverage must be between {min} and {max}, provided - [{}]", python_float(*given))]
    LeverageRange {
        /// Lower bound, as the catalogue writes it.
        min: String,
        /// Upper bound, as the catalogue writes it.
        max: String,
        /// What came.
        given: f64,
    },
    /// The validator reads the signal again.
    #[error("{field} must be positive for LONG orders.")]
    SizeSign {
        /// `Leverage`, `value`, `quantity`.
        field: String,
    },
    /// A position object refuses its first order.
    #[error("{text}")]
    FirstOrder {
        /// What it says.
        text: String,
    },
    /// A field of the signal cannot be used.
    #[error("Invalid signal payload: {text}")]
    BadSignal {
        /// Which, and why.
        text: String,
    },
    /// R9.
    #[error("Validator is restarting due to update. Please try again later.")]
    Restarting,
    /// R10.
    #[error("Synthetic hotkey {hotkey} is not active or not found. Please check the subaccount.")]
    SubaccountInactive {
        /// Which.
        hotkey: String,
    },
    /// R11.
    #[error(
        "This miner hotkey {hotkey} was previously de-registered and is not allowed to re-register. De-registered on: {} UTC. Re-registration is not permitted on this subnet.",
        utc(*at_ms)
    )]
    Deregistered {
        /// Who.
        hotkey: String,
        /// When it left.
        at_ms: UnixMs,
    },
    /// R12.
    #[error(
        "Entity hotkey {hotkey} cannot place orders directly. Please use a subaccount (synthetic hotkey) to place orders."
    )]
    EntityHotkey {
        /// Who.
        hotkey: String,
    },
    /// R13.
    #[error(
        "Order with uuid [{uuid}] has already been processed. Please try again with a new order."
    )]
    DuplicateUuid {
        /// Which.
        uuid: String,
    },
    /// R14.
    #[error(
        "Trade pair [{pair}] is no longer supported. Please try again with a different trade pair."
    )]
    BlockedPair {
        /// Which.
        pair: TradePairId,
    },
    /// R15.
    #[error(
        "miner [{hotkey}] cannot trade asset class [{}]. Selected asset class: [{}]. Only trade pairs from your selected asset class are allowed. See {help} for more information.",
        class.as_str(), selected.as_deref().unwrap_or("unknown")
    )]
    AssetClass {
        /// Who.
        hotkey: String,
        /// The pair's class.
        class: TradePairClass,
        /// What the hotkey selected.
        selected: Option<String>,
        /// Where it is explained.
        help: String,
    },
    /// R16.
    #[error(
        "Trade pair [{pair}] has been temporarily halted. Please try again with a different trade pair."
    )]
    PairHalted {
        /// Which.
        pair: TradePairId,
    },
    /// R17.
    #[error("Validator is syncing positions. Please try again shortly.")]
    Syncing,
    /// R19.
    #[error("Order Rejected: no live prices being found for {pair}. Please try again.")]
    NoPrice {
        /// Which.
        pair: TradePairId,
    },
    /// R20.
    #[error("No buying power remaining for {pair} (capped by {cap})")]
    NoBuyingPower {
        /// Which.
        pair: TradePairId,
        /// The cap that binds.
        cap: String,
    },
    /// R21.
    #[error("Error processing order: 0 order size after clamping")]
    ZeroSize,
    /// R22.
    #[error("{pair}: position size {}", below_minimum(*unit, *size, *minimum))]
    BelowMinimum {
        /// Which.
        pair: TradePairId,
        /// In what.
        unit: SizeUnit,
        /// The position as it would be.
        size: f64,
        /// The smallest allowed.
        minimum: f64,
    },
    /// R23.
    #[error("miner has too many unfilled limit orders [{unfilled}] >= [{limit}]")]
    TooManyUnfilled {
        /// How many there are.
        unfilled: usize,
        /// How many may be.
        limit: usize,
    },
    /// R24: a bracket on the wrong side of its reference.
    #[error(
        "Invalid {side} bracket order [{uuid}]: {} ({}) must be {} reference_price ({})",
        leg.as_str(), python_float(*price), comparison(*side, *leg), python_float(*reference)
    )]
    BracketSide {
        /// The order.
        uuid: String,
        /// Side of the position.
        side: OrderType,
        /// What is wrong.
        leg: BracketLeg,
        /// Its price.
        price: f64,
        /// Fill or limit price.
        reference: f64,
    },
    /// R24: nothing in it.
    #[error(
        "BRACKET orders must have at least one of stop_loss, take_profit, or trailing_stop set"
    )]
    BracketEmpty,
    /// R24: nothing to protect.
    #[error(
        "Invalid bracket order: no open position or previous unfilled limit orders found for {pair}"
    )]
    BracketWithoutPosition {
        /// Which pair.
        pair: TradePairId,
    },
    /// R24.
    #[error("{execution} orders must have a valid {field} > 0 (got {})",
        price.map_or_else(|| "None".to_owned(), python_float))]
    RestingPrice {
        /// `LIMIT` or `STOP_LIMIT`.
        execution: String,
        /// `limit_price` or `stop_price`.
        field: String,
        /// What came.
        price: Option<f64>,
    },
    /// A LIMIT order cannot be FLAT.
    #[error("FLAT order is not supported for LIMIT orders")]
    FlatLimit,
    /// R25: nothing to cancel.
    #[error("No unfilled limit orders found for {hotkey} (uuid={uuid})")]
    NothingToCancel {
        /// Who.
        hotkey: String,
        /// What was meant.
        uuid: String,
    },
    /// R25: nothing to edit.
    #[error("Cannot edit order {uuid}: order not found")]
    NothingToEdit {
        /// What was meant.
        uuid: String,
    },
    /// R25: of another pair.
    #[error("Cannot edit order {uuid}: trade pair mismatch (order is for {is}, not {given})")]
    EditPairMismatch {
        /// The order.
        uuid: String,
        /// Its pair.
        is: TradePairId,
        /// The pair that came.
        given: TradePairId,
    },
    /// R25.
    #[error("No bracket edits to process")]
    NoBracketEdits,
    /// R26, early 2026.
    #[error(
        "Cannot open a SHORT position for equities. Miner [{hotkey}] attempted to open a new position with SHORT order for [{pair}]. Equities can only be opened with LONG orders."
    )]
    EquityShort {
        /// Who.
        hotkey: String,
        /// Which pair.
        pair: TradePairId,
    },
    /// R27: the order **was filled**.
    #[error("Market order filled successfully, but bracket order creation failed: {cause}")]
    FilledWithoutBracket {
        /// Why.
        cause: Box<Self>,
    },
    /// R28.
    #[error(
        "Your account is transitioning to a Pro Account. You cannot open new positions or increase existing ones - close your open positions to begin trading your Pro Account."
    )]
    ProTransition,
    /// R28, from a miner's own cache.
    #[error("Subaccount is eliminated")]
    SubaccountEliminated,
}

impl BracketLeg {
    const fn as_str(self) -> &'static str {
        match self {
            Self::StopLoss => "stop_loss",
            Self::TakeProfit => "take_profit",
        }
    }
}

fn suffix(method: Option<&str>) -> String {
    method.map(|m| format!(" {m}")).unwrap_or_default()
}

/// A time as the network prints it.
fn utc(at_ms: UnixMs) -> String {
    jiff::Timestamp::from_millisecond(at_ms)
        .map_or_else(|_| "unknown".to_owned(), |t| t.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

fn seconds(ms: UnixMs) -> f64 {
    // Waits are far below 2^53 ms.
    ms as f64 / 1000.0
}

fn please_wait(wait_ms: UnixMs, era: Era) -> String {
    match era {
        Era::Y2024 => format!("Please wait {}", python_float(seconds(wait_ms))),
        _ => format!(" Please wait {:.1}", seconds(wait_ms)),
    }
}

fn below_minimum(unit: SizeUnit, size: f64, minimum: f64) -> String {
    let python = python_float(minimum);
    match unit {
        SizeUnit::Usd => format!("${size:.2} is below minimum ${minimum:.2}"),
        SizeUnit::Lots => format!("{size:.4} lots is below minimum {python} lots"),
        SizeUnit::Shares => format!("{size:.4} shares is below minimum {python} shares"),
    }
}

fn comparison(side: OrderType, leg: BracketLeg) -> &'static str {
    // A stop loss is below the price of a long position; everything else mirrors that.
    if (side == OrderType::Short) == (leg == BracketLeg::StopLoss) { ">" } else { "<" }
}
