//! Who judges the orders of a loopback validator when envelopes are not enough.

use std::fmt;

use async_trait::async_trait;

use crate::directory::Wire;
use crate::json::Object;

/// An order whose envelope was in order.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct DeskOrder<'a> {
    /// The hotkey that signed.
    pub sender: &'a str,
    /// `miner_order_uuid`; a fresh one where the miner gave none.
    pub uuid: &'a str,
    /// The signal as it was sent.
    pub signal: &'a Object,
    /// The wire it came by.
    pub wire: Wire,
}

impl<'a> DeskOrder<'a> {
    /// An order for a desk that is called without a request.
    pub const fn new(sender: &'a str, uuid: &'a str, signal: &'a Object, wire: Wire) -> Self {
        Self { sender, uuid, signal, wire }
    }
}

/// What the validator says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeskAnswer {
    /// `successfully_processed`.
    Taken {
        /// `order_json`: JSON as text, or nothing.
        order_json: String,
    },
    /// Its uuid was processed before.
    Repeated,
    /// Not processed, or not wholly.
    Failed {
        /// `error_message`.
        message: String,
        /// `should_retry`; nothing: as it was sent.
        should_retry: Option<bool>,
    },
}

/// Judges orders. An order that is answered `Taken` must survive whatever comes next.
#[async_trait]
pub trait OrderDesk: fmt::Debug + Send + Sync {
    /// Takes an order or refuses it.
    async fn take(&self, order: DeskOrder<'_>) -> DeskAnswer;
}
