//! What a loopback validator can be told to do wrong, as data.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One way to misbehave. Except for [`Fault::DropUnread`], a request that is not properly signed
/// is refused before its fault applies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Fault {
    /// Answers 200 and says that it did not process the order.
    Fail {
        /// `error_message`.
        message: String,
        /// `should_retry`.
        should_retry: bool,
    },
    /// Answers properly, but late.
    Delay {
        /// How late.
        ms: u64,
    },
    /// Reads the request and never answers.
    Hang,
    /// Answers with this status and text.
    Http {
        /// HTTP status.
        status: u16,
        /// The text in the body.
        message: String,
        /// `Retry-After`, in seconds.
        #[serde(default)]
        retry_after: Option<u64>,
    },
    /// Closes the connection as soon as a request begins.
    DropUnread,
    /// Reads the request, does nothing and closes the connection.
    DropRead,
    /// Processes the order and closes the connection without an answer.
    LoseAnswer,
    /// Answers 200 with something that is no answer.
    Garbage,
    /// Processes the order, announces an answer and closes in the middle of it.
    Truncate,
    /// Answers 200 with a body without end.
    Huge,
    /// Answers 200 and sends the body one byte at a time.
    Trickle {
        /// Between two bytes.
        ms: u64,
    },
    /// Processes the order and answers in the name of another validator.
    WrongHotkey,
    /// Processes the order and answers about another one.
    WrongOrder,
    /// Answers 307.
    Redirect {
        /// Where to.
        location: String,
    },
    /// Answers as the network's limit on requests does.
    RateLimit {
        /// How long to wait, in seconds.
        seconds: u64,
    },
}

impl Fault {
    /// The fault for the next `n` requests only.
    pub const fn first(self, n: u32) -> FaultRule {
        FaultRule { fault: self, times: Some(n) }
    }

    /// The fault's name, as it is recorded.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Fail { .. } => "fail",
            Self::Delay { .. } => "delay",
            Self::Hang => "hang",
            Self::Http { .. } => "http",
            Self::DropUnread => "drop_unread",
            Self::DropRead => "drop_read",
            Self::LoseAnswer => "lose_answer",
            Self::Garbage => "garbage",
            Self::Truncate => "truncate",
            Self::Huge => "huge",
            Self::Trickle { .. } => "trickle",
            Self::WrongHotkey => "wrong_hotkey",
            Self::WrongOrder => "wrong_order",
            Self::Redirect { .. } => "redirect",
            Self::RateLimit { .. } => "rate_limit",
        }
    }
}

/// A fault, and for how many requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultRule {
    /// What to do wrong.
    #[serde(flatten)]
    pub fault: Fault,
    /// How often; absent: from now on.
    #[serde(default)]
    pub times: Option<u32>,
}

impl From<Fault> for FaultRule {
    fn from(fault: Fault) -> Self {
        Self { fault, times: None }
    }
}

/// The rules that are left, used in their order.
#[derive(Debug, Default)]
pub(super) struct Faults(Mutex<Vec<FaultRule>>);

impl Faults {
    pub(super) fn set(&self, rules: Vec<FaultRule>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    /// The fault of this request. `early` asks for those that act before the request is read.
    pub(super) fn take(&self, early: bool) -> Option<Fault> {
        let mut rules = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rules.retain(|rule| rule.times != Some(0));
        let rule = rules.first_mut()?;
        if (rule.fault == Fault::DropUnread) != early {
            return None;
        }
        if let Some(times) = &mut rule.times {
            *times -= 1;
        }
        Some(rule.fault.clone())
    }
}

pub(super) const fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
