//! How a feed does, for a page or a check of health.

use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;

use super::super::Pushed;
use crate::store::{UnixMs, now_ms};

/// Why a connection ended. Another one follows by itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FeedProblem {
    /// No connection.
    #[error("the exchange cannot be reached: {reason}; check the network and the address")]
    Unreachable {
        /// What the system says.
        reason: String,
    },
    /// No encryption that can be trusted.
    #[error(
        "no trusted connection: {reason}; check the clock, the certificates of this system and the address"
    )]
    Insecure {
        /// What went wrong.
        reason: String,
    },
    /// No WebSocket.
    #[error("no WebSocket there: {reason}; check the address")]
    Handshake {
        /// What went wrong.
        reason: String,
    },
    /// It took too long.
    #[error("{what} took longer than {after:?}")]
    Timeout {
        /// What.
        what: &'static str,
        /// The limit.
        after: Duration,
    },
    /// Nothing came.
    #[error("no message came for {after:?}")]
    Silent {
        /// The limit.
        after: Duration,
    },
    /// The other side ended it.
    #[error("the exchange closed the connection: {reason}")]
    Closed {
        /// What it said.
        reason: String,
    },
    /// A message beyond the limit.
    #[error("a message is longer than {most} bytes")]
    TooLarge {
        /// The limit.
        most: usize,
    },
    /// The connection broke.
    #[error("the connection was lost: {reason}")]
    Lost {
        /// What went wrong.
        reason: String,
    },
    /// The exchange said no.
    #[error("the exchange refuses: {text}")]
    Refused {
        /// Its words.
        text: String,
    },
    /// It speaks another language.
    #[error(
        "{messages} messages one after the other could not be read; is it the ticker feed of the exchange?"
    )]
    Unreadable {
        /// How many.
        messages: u32,
    },
    /// The channel took no price.
    #[error("a price was not taken: {reason}")]
    Channel {
        /// Why.
        reason: String,
    },
}

impl FeedProblem {
    /// A stable name.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "feed_unreachable",
            Self::Insecure { .. } => "feed_insecure",
            Self::Handshake { .. } => "feed_handshake",
            Self::Timeout { .. } => "feed_timeout",
            Self::Silent { .. } => "feed_silent",
            Self::Closed { .. } => "feed_closed",
            Self::TooLarge { .. } => "feed_too_large",
            Self::Lost { .. } => "feed_lost",
            Self::Refused { .. } => "feed_refused",
            Self::Unreadable { .. } => "feed_unreadable",
            Self::Channel { .. } => "feed_channel",
        }
    }
}

/// What a feed is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FeedState {
    /// Not begun, or opening a connection.
    Connecting,
    /// Connected; the exchange has not confirmed what it was asked for.
    Subscribing,
    /// Prices come.
    Live,
    /// Between two connections.
    Waiting,
    /// Nobody reads the prices any more.
    Ended,
}

/// The last thing that went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProblemRow {
    /// When, in ms.
    pub at_ms: UnixMs,
    /// A stable name.
    pub code: &'static str,
    /// What happened.
    pub text: String,
}

/// How a feed does. Times in ms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FeedStatus {
    /// Where it connects to, without path.
    pub address: String,
    /// What it is about.
    pub state: FeedState,
    /// Since when it is connected, while it is.
    pub connected_since_ms: Option<UnixMs>,
    /// When the last message came.
    pub last_message_ms: Option<UnixMs>,
    /// When the last price came.
    pub last_price_ms: Option<UnixMs>,
    /// When the next connection is tried, while it waits.
    pub next_try_ms: Option<UnixMs>,
    /// Connections so far.
    pub connections: u64,
    /// Prices pushed so far.
    pub prices: u64,
    /// Prices passed over because a newer one had come before.
    pub out_of_order: u64,
    /// Messages that could not be read.
    pub unreadable: u64,
    /// Products that the exchange does not know.
    pub refused: Vec<String>,
    /// The last thing that went wrong, also when all is well again.
    pub last_problem: Option<ProblemRow>,
}

/// Shows how a feed does. Clones show the same feed.
#[derive(Debug, Clone)]
pub struct FeedWatch {
    status: watch::Receiver<FeedStatus>,
}

impl FeedWatch {
    /// How it does now.
    pub fn now(&self) -> FeedStatus {
        self.status.borrow().clone()
    }

    /// Waits until it does as wished; nothing when the feed is gone before that.
    pub async fn until(&mut self, wished: impl FnMut(&FeedStatus) -> bool) -> Option<FeedStatus> {
        self.status.wait_for(wished).await.ok().map(|status| status.clone())
    }
}

/// Where the feed itself writes.
#[derive(Debug)]
pub(super) struct Report {
    status: watch::Sender<FeedStatus>,
}

impl Report {
    pub(super) fn new(address: String) -> Self {
        let status = FeedStatus {
            address,
            state: FeedState::Connecting,
            connected_since_ms: None,
            last_message_ms: None,
            last_price_ms: None,
            next_try_ms: None,
            connections: 0,
            prices: 0,
            out_of_order: 0,
            unreadable: 0,
            refused: Vec::new(),
            last_problem: None,
        };
        Self { status: watch::Sender::new(status) }
    }

    pub(super) fn watch(&self) -> FeedWatch {
        FeedWatch { status: self.status.subscribe() }
    }

    pub(super) fn prices(&self) -> u64 {
        self.status.borrow().prices
    }

    pub(super) fn connecting(&self) {
        self.status.send_modify(|status| {
            status.state = FeedState::Connecting;
            status.next_try_ms = None;
        });
    }

    pub(super) fn connected(&self) {
        self.status.send_modify(|status| {
            status.state = FeedState::Subscribing;
            status.connected_since_ms = Some(now_ms());
            status.connections += 1;
            // Every connection asks for everything again.
            status.refused.clear();
        });
    }

    pub(super) fn live(&self) {
        self.status.send_modify(|status| status.state = FeedState::Live);
    }

    pub(super) fn message(&self, at_ms: UnixMs) {
        self.status.send_modify(|status| status.last_message_ms = Some(at_ms));
    }

    pub(super) fn price(&self, at_ms: UnixMs, pushed: Pushed) {
        self.status.send_modify(|status| {
            status.state = FeedState::Live;
            status.prices += pushed.taken as u64;
            status.out_of_order += pushed.older as u64;
            if pushed.taken > 0 {
                status.last_price_ms = Some(at_ms);
            }
        });
    }

    pub(super) fn out_of_order(&self) {
        self.status.send_modify(|status| status.out_of_order += 1);
    }

    pub(super) fn unreadable(&self) {
        self.status.send_modify(|status| status.unreadable += 1);
    }

    pub(super) fn refused(&self, product: &str, text: &str) {
        tracing::warn!(feed = "coinbase", product, "{text}");
        let problem = FeedProblem::Refused { text: text.to_owned() };
        self.status.send_modify(|status| {
            status.refused.push(product.to_owned());
            status.last_problem = Some(row(&problem));
        });
    }

    pub(super) fn failed(&self, problem: &FeedProblem, pause: Duration) {
        let pause_ms = UnixMs::try_from(pause.as_millis()).unwrap_or(UnixMs::MAX);
        self.status.send_modify(|status| {
            status.state = FeedState::Waiting;
            status.connected_since_ms = None;
            status.next_try_ms = Some(now_ms().saturating_add(pause_ms));
            status.last_problem = Some(row(problem));
        });
    }

    pub(super) fn ended(&self) {
        self.status.send_modify(|status| {
            status.state = FeedState::Ended;
            status.connected_since_ms = None;
        });
    }
}

fn row(problem: &FeedProblem) -> ProblemRow {
    ProblemRow { at_ms: now_ms(), code: problem.code(), text: problem.to_string() }
}
