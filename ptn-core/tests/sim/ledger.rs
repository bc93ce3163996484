//! What can be known from outside the engine: the only thing that the checker sees.
//!
//! Submitters and operators say what they asked for and what they were told, the simulated network
//! says what left and what every validator did with it, and the store says what it confirmed and
//! what it holds at the end. Judging is left to [`super::check`].

use std::collections::{BTreeMap, BTreeSet};

use ptn_core::record::{DeliveryState, SignalState};

/// Simulated milliseconds since the start.
pub(crate) type Ms = u64;

/// An order as its submitter means it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Order {
    /// Its trade pair; `None` for what touches all of them.
    pub(crate) pair: Option<String>,
    /// Whether it opens or increases a position at the market.
    pub(crate) expires: bool,
    /// Whether being carried out twice in a row is as good as once.
    pub(crate) idempotent: bool,
    /// Whether no validator recognises a repeat of it, whatever the rules.
    pub(crate) unrecognised: bool,
}

/// What a validator did with an order that arrived.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Effect {
    /// Traded.
    Executed,
    /// Recognised as a repeat.
    Known,
    /// Refused for good.
    Refused,
    /// Refused for now.
    NotNow,
}

/// How an attempt ended for the one who made it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Closed {
    /// No byte left.
    NotSent,
    /// No usable answer.
    Lost,
    /// The whole answer came back: the validator's words, and whether they are final.
    Answered { words: String, last: bool },
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    /// A process begins to deliver, at this time of day.
    Started { host: usize, wall: i64 },
    /// It is gone, or gave up cleanly.
    Ended { host: usize },
    /// It stands still until further notice.
    Frozen { host: usize },
    /// The time of day was changed by so many milliseconds.
    Step { by: i64 },
    /// A submitter sends an order.
    Submitted { uuid: String },
    /// It was told that the order is safe.
    Acked { uuid: String, content: String, seq: Option<u64> },
    /// It was told that its own order contradicts an earlier one.
    Conflict { uuid: String },
    /// It was told that nothing was stored.
    Refused { uuid: String },
    /// An operator was told that the order will not be sent any more.
    CancelAcked { uuid: String },
    /// An operator asked for another round, deliberately.
    RetryAsked { uuid: String },
    /// An attempt begins.
    Tried { attempt: usize, host: usize, validator: String, uuid: String },
    /// The first byte of an attempt leaves.
    Left { attempt: usize, content: String },
    /// An attempt is over.
    Closed { attempt: usize, how: Closed },
    /// An order arrives.
    Arrived { validator: String, uuid: String, effect: Effect },
    /// The store confirmed what a validator's part is.
    Recorded { uuid: String, validator: String, state: DeliveryState },
    /// The store confirmed the end.
    Finished { host: usize, uuid: String, state: SignalState },
    /// The database says that another process delivers from here on.
    TookOver { host: usize },
    /// From here on nothing fails any more.
    Healed,
}

/// A signal in the store at the end.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct End {
    pub(crate) seq: u64,
    pub(crate) state: SignalState,
    pub(crate) content: String,
    /// How often it is listed.
    pub(crate) copies: usize,
    pub(crate) validators: BTreeMap<String, EndRecord>,
}

/// A validator's record at the end.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct EndRecord {
    pub(crate) required: bool,
    pub(crate) state: DeliveryState,
    pub(crate) message: String,
}

/// What is promised in this world.
#[derive(Debug, Clone, Default)]
pub(crate) struct Terms {
    /// Whether validators recognise an order uuid.
    pub(crate) recognises: bool,
    /// How old an opening market order may be when it is sent.
    pub(crate) max_age: Ms,
    /// How many tries one who must acknowledge gets.
    pub(crate) tries: usize,
    /// Validators that every signal must have a record for.
    pub(crate) targets: BTreeSet<String>,
    /// Of these, the ones that must acknowledge.
    pub(crate) required: BTreeSet<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) terms: Terms,
    pub(crate) orders: BTreeMap<String, Order>,
    pub(crate) events: Vec<(Ms, Event)>,
    pub(crate) end: BTreeMap<String, End>,
}
