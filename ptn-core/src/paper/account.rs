//! The account of one hotkey at one validator: what it holds, and what an order does to it.
//!
//! An account judges and executes orders; who may send at all, how often, and which uuids were
//! seen is left to [`super::book`]. The same calls in the same order give the same account, and
//! [`Account::check`] gives the verdict on an order without changing anything.

mod resting;
mod settings;
mod sizing;
mod y2024;
mod y2026;

pub use resting::Resting;
pub use settings::{AccountSettings, Caps};
pub use y2024::Account2024;
pub use y2026::Account2026;

use serde::{Deserialize, Serialize};

use super::leveraged::{Added, LeveragedPosition};
use super::market::{Market, Quote};
use super::order::Order;
use super::position::{FeeKind, Fill, Position};
use super::refusal::Refusal;
use super::rules::{Generation, PaperRules};
use crate::order::OrderType;
use crate::store::UnixMs;
use crate::trade_pair::TradePairId;

/// What a validator did with an order that it took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Answer {
    /// Executed (2026).
    Filled {
        /// How.
        fill: Fill,
    },
    /// Executed, or silently ignored, which the miner cannot tell apart (2024).
    Leveraged {
        /// Uuid of the position.
        position: String,
        /// What really happened.
        added: Added,
    },
    /// A FLAT without a position: nothing to do, and success.
    NoPosition,
    /// It waits for its price.
    Rests {
        /// Its uuid.
        uuid: String,
    },
    /// LIMIT_CANCEL.
    Cancelled {
        /// What was meant.
        order_uuid: String,
        /// When, in ms.
        cancelled_ms: UnixMs,
        /// How many orders.
        num_cancelled: usize,
    },
    /// LIMIT_EDIT of several bracket orders.
    Edited {
        /// Those that rest now.
        uuids: Vec<String>,
        /// How many were cancelled.
        num_cancelled: usize,
    },
    /// FLAT_ALL.
    Flattened {
        /// What was closed.
        fills: Vec<Fill>,
        /// Uuid of a position that could not be closed, and why. The answer is still success.
        failed: Vec<(String, Refusal)>,
    },
}

/// Something that happened beside the answer, or without an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A resting order was executed, or a full position was closed to make room.
    Filled {
        /// How.
        fill: Fill,
    },
    /// A resting order could not be executed and is gone.
    Failed {
        /// Its uuid.
        uuid: String,
        /// Why.
        refusal: Refusal,
    },
    /// A bracket order was made.
    BracketMade {
        /// Its uuid.
        uuid: String,
    },
    /// A stop price was reached, and the order became a limit order.
    StopReached {
        /// Uuid of the stop order.
        uuid: String,
        /// Uuid of the limit order.
        limit: String,
    },
    /// A resting order is gone because there is nothing left for it to do.
    Cancelled {
        /// Its uuid.
        uuid: String,
    },
    /// Time cost something.
    Charged {
        /// Uuid of the position.
        position: String,
        /// What for.
        kind: FeeKind,
        /// US dollars.
        usd: f64,
    },
    /// A mark found everything lost and closed the position (2024).
    Liquidated {
        /// Uuid of the position.
        position: String,
    },
}

/// An answer and what else happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The answer.
    pub answer: Answer,
    /// In their order.
    pub events: Vec<Event>,
}

/// What a call is about: the rules, the prices, and the time.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The rules.
    pub rules: &'a PaperRules,
    /// The last prices.
    pub market: &'a Market,
    /// Now, in ms.
    pub now_ms: UnixMs,
}

/// A position as every rule set shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PositionView<'a> {
    /// Its uuid.
    pub uuid: &'a str,
    /// Its pair.
    pub pair: &'a TradePairId,
    /// LONG, SHORT; FLAT once it is closed.
    pub position_type: OrderType,
    /// When it was opened, in ms.
    pub open_ms: UnixMs,
    /// When it was closed, in ms.
    pub close_ms: Option<UnixMs>,
    /// Signed.
    pub net_leverage: f64,
    /// In the quote currency.
    pub average_entry_price: f64,
    /// Without fees.
    pub current_return: f64,
    /// With the fee of 2024; without fees in 2026, where they go to the balance.
    pub return_at_close: f64,
    /// How many orders it has.
    pub orders: usize,
}

impl<'a> From<&'a LeveragedPosition> for PositionView<'a> {
    fn from(p: &'a LeveragedPosition) -> Self {
        Self {
            uuid: &p.uuid,
            pair: &p.pair,
            position_type: p.position_type.unwrap_or(OrderType::Flat),
            open_ms: p.open_ms,
            close_ms: p.close_ms,
            net_leverage: p.net_leverage,
            average_entry_price: p.average_entry_price,
            current_return: p.current_return,
            return_at_close: p.return_at_close,
            orders: p.orders.len(),
        }
    }
}

impl<'a> From<&'a Position> for PositionView<'a> {
    fn from(p: &'a Position) -> Self {
        Self {
            uuid: &p.uuid,
            pair: &p.pair,
            position_type: p.position_type,
            open_ms: p.open_ms,
            close_ms: p.close_ms,
            net_leverage: p.net_leverage,
            average_entry_price: p.average_entry_price,
            current_return: p.current_return,
            return_at_close: p.current_return,
            orders: p.orders.len(),
        }
    }
}

/// The account of a hotkey.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rules")]
pub enum Account {
    /// By the rules of 2024.
    #[serde(rename = "2024")]
    Y2024(Account2024),
    /// By the rules of 2026.
    #[serde(rename = "2026")]
    Y2026(Box<Account2026>),
}

impl Account {
    /// An empty account. The settings mean something in 2026 only.
    pub fn new(rules: &PaperRules, hotkey: impl Into<String>, settings: AccountSettings) -> Self {
        match rules.generation {
            Generation::Y2024(_) => Self::Y2024(Account2024::new(hotkey)),
            Generation::Y2026(_) => Self::Y2026(Box::new(Account2026::new(hotkey, settings))),
        }
    }

    /// Whose it is.
    pub fn hotkey(&self) -> &str {
        match self {
            Self::Y2024(account) => account.hotkey(),
            Self::Y2026(account) => account.hotkey(),
        }
    }

    /// Executes an order, or says why not.
    ///
    /// # Errors
    /// The validator's refusal. [`Refusal::FilledWithoutBracket`] comes with a filled order.
    pub fn apply(&mut self, order: &Order, at: Context<'_>) -> Result<Outcome, Refusal> {
        match (self, &at.rules.generation) {
            (Self::Y2024(account), Generation::Y2024(own)) => account.apply(order, own, at),
            (Self::Y2026(account), Generation::Y2026(own)) => account.apply(order, own, at),
            _ => Err(wrong_rules()),
        }
    }

    /// What [`Account::apply`] would say, without doing it.
    ///
    /// # Errors
    /// As [`Account::apply`].
    pub fn check(&self, order: &Order, at: Context<'_>) -> Result<Outcome, Refusal> {
        let mut trial = match self {
            Self::Y2024(account) => Self::Y2024(account.open_part()),
            Self::Y2026(account) => Self::Y2026(Box::new(account.part_for(order))),
        };
        trial.apply(order, at)
    }

    /// What happened although the order was refused, such as the fill behind
    /// [`Refusal::FilledWithoutBracket`]. It would come with the next outcome otherwise.
    pub fn take_events(&mut self) -> Vec<Event> {
        match self {
            Self::Y2024(_) => Vec::new(),
            Self::Y2026(account) => std::mem::take(&mut account.events),
        }
    }

    /// Closes everything and cancels what rests: what elimination does.
    pub fn close_all(&mut self, at: Context<'_>) -> Vec<Event> {
        match (self, &at.rules.generation) {
            (Self::Y2024(account), _) => {
                account.close_all(at);
                Vec::new()
            }
            (Self::Y2026(account), Generation::Y2026(own)) => account.close_all(own, at),
            (Self::Y2026(_), Generation::Y2024(_)) => Vec::new(),
        }
    }

    /// Takes a new price: values the position, charges what is due, and executes resting orders
    /// that it reaches. A price that [`Quote::is_usable`] refuses changes nothing.
    pub fn on_price(
        &mut self,
        pair: &TradePairId,
        quote: &Quote,
        rules: &PaperRules,
    ) -> Vec<Event> {
        match (self, &rules.generation) {
            _ if !quote.is_usable() => Vec::new(),
            (Self::Y2024(account), _) => account.on_price(pair, quote),
            (Self::Y2026(account), Generation::Y2026(own)) => {
                account.on_price(pair, quote, rules, own)
            }
            (Self::Y2026(_), Generation::Y2024(_)) => Vec::new(),
        }
    }

    /// Open positions, by pair.
    pub fn open(&self) -> Vec<PositionView<'_>> {
        match self {
            Self::Y2024(account) => account.open().map(PositionView::from).collect(),
            Self::Y2026(account) => account.open().map(PositionView::from).collect(),
        }
    }

    /// Whether it has an open position of a pair.
    pub fn holds(&self, pair: &TradePairId) -> bool {
        match self {
            Self::Y2024(account) => account.open().any(|position| &position.pair == pair),
            Self::Y2026(account) => account.position(pair).is_some(),
        }
    }

    /// Closed positions, in the order of their closing.
    pub fn closed(&self) -> Vec<PositionView<'_>> {
        match self {
            Self::Y2024(account) => account.closed().iter().map(PositionView::from).collect(),
            Self::Y2026(account) => account.closed().iter().map(PositionView::from).collect(),
        }
    }

    /// Drops the closed positions. What they earned stays in the balance of 2026, but not in
    /// [`Account::total_return`] of 2024.
    pub fn forget_closed(&mut self) {
        match self {
            Self::Y2024(account) => account.forget_closed(),
            Self::Y2026(account) => account.forget_closed(),
        }
    }

    /// What the whole account is worth, 1 at the start: the product of all returns with fees in
    /// 2024, equity over account size in 2026.
    pub fn total_return(&self) -> f64 {
        match self {
            Self::Y2024(account) => account.total_return(),
            Self::Y2026(account) => account.equity_ratio(),
        }
    }
}

fn wrong_rules() -> Refusal {
    Refusal::BadSignal { text: "this account was made for another rule set".to_owned() }
}
