//! What can go wrong on the way to the chain and on it, and what to do about it.
//!
//! Faults of one endpoint (no connection, no answer in time, garbage, another chain, far behind)
//! are told from everything else, because only they are a reason to ask the next one. What the
//! chain itself says no to is left to [`super::refusal`].

use std::path::PathBuf;
use std::time::Duration;

use super::refusal::{DispatchFailure, PoolRefusal};
use super::units::Rao;
use crate::error::ErrorClass;
use crate::sign::SignError;
use crate::sign::ss58::Ss58Error;

/// Why a question to the chain has no answer, or a call no effect.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// A network that nobody knows.
    #[error(
        "there is no network {name:?}: finney, test, archive and local are known; other nodes are \
         reached by their address (--subtensor.chain_endpoint ws://...)"
    )]
    UnknownNetwork {
        /// The word that was given.
        name: String,
    },
    /// A text that is no address of a node.
    #[error("{url:?} is no address of a node: {reason}")]
    BadEndpoint {
        /// The text.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An account that is none.
    #[error("{address:?} is no account of this network: {reason}")]
    BadAddress {
        /// The text.
        address: String,
        /// What is wrong with it.
        reason: Ss58Error,
    },
    /// No connection.
    #[error("{endpoint} cannot be reached: {reason}")]
    Connect {
        /// Which node.
        endpoint: String,
        /// What the system says.
        reason: String,
    },
    /// The connection ended.
    #[error("the connection to {endpoint} was lost: {reason}")]
    Lost {
        /// Which node.
        endpoint: String,
        /// How.
        reason: String,
    },
    /// No answer.
    #[error("{endpoint} did not answer {what} within {} s", after.as_secs_f32())]
    Timeout {
        /// Which node.
        endpoint: String,
        /// What was asked.
        what: String,
        /// How long was waited.
        after: Duration,
    },
    /// An answer that cannot be read.
    #[error("{endpoint} answered {what} with something else: {reason}")]
    BadAnswer {
        /// Which node.
        endpoint: String,
        /// What was asked.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// The node refused to answer.
    #[error("{endpoint} refused {what}: {message} (code {code})")]
    NodeRefused {
        /// Which node.
        endpoint: String,
        /// What was asked.
        what: String,
        /// JSON-RPC error code.
        code: i32,
        /// Its words.
        message: String,
    },
    /// A node of another chain.
    #[error(
        "{endpoint} belongs to another chain: its first block is {found}, expected is {expected}; \
         nothing was read or signed there"
    )]
    WrongGenesis {
        /// Which node.
        endpoint: String,
        /// The hash that was expected.
        expected: String,
        /// The hash that the node has.
        found: String,
    },
    /// A node that is far behind, or lies.
    #[error("{endpoint} is at block {block}, but block {seen} was already final")]
    Behind {
        /// Which node.
        endpoint: String,
        /// Its last final block.
        block: u64,
        /// The highest final block that any node reported.
        seen: u64,
    },
    /// Every endpoint failed.
    #[error("no node answers usably: {}", tried.join("; "))]
    Unreachable {
        /// What happened at each.
        tried: Vec<String>,
    },
    /// The runtime has something no more, not yet, or in another shape.
    #[error(
        "the runtime of {endpoint} (version {spec_version}) has no usable {shape}, which is needed \
         for {needed_for}"
    )]
    MissingShape {
        /// Pallet and name, and what was expected of it.
        shape: String,
        /// What cannot be done without it.
        needed_for: &'static str,
        /// Version of the runtime.
        spec_version: u32,
        /// Which node.
        endpoint: String,
    },
    /// No such subnet.
    #[error("there is no subnet {netuid} on this network")]
    NoSubnet {
        /// The number that was asked for.
        netuid: u16,
    },
    /// The runtime wants something signed that this program does not know.
    #[error(
        "the runtime (version {spec_version}) wants something in its signed calls that this \
         program cannot give: {reason}; nothing was signed"
    )]
    Extension {
        /// Version of the runtime.
        spec_version: u32,
        /// Which transaction extension, and what is wrong.
        reason: String,
    },
    /// A call that does not fit the runtime.
    #[error("the call {call} cannot be written for this runtime: {reason}; nothing was signed")]
    Encode {
        /// Pallet and name.
        call: String,
        /// What does not fit.
        reason: String,
    },
    /// The key did not sign.
    #[error(transparent)]
    Signing(#[from] SignError),
    /// The price is above the caller's limit.
    #[error(
        "registration costs {price} TAO now, more than the limit of {limit} TAO; nothing was signed"
    )]
    PriceAboveLimit {
        /// The price now.
        price: Rao,
        /// The limit.
        limit: Rao,
    },
    /// The node did not take the call; it had no effect.
    #[error(transparent)]
    Refused(Box<PoolRefusal>),
    /// The call is in a block and failed; its fee is gone.
    #[error(transparent)]
    Failed(Box<DispatchFailure>),
    /// The call is in no block, and cannot come into one any more.
    #[error("the call {hash} took no effect: {reason}")]
    Dropped {
        /// Hash of the extrinsic.
        hash: String,
        /// How that is known, and what its node said before.
        reason: String,
    },
    /// The call was handed over, and then nothing more was heard.
    #[error(
        "the call {hash} was sent, but its fate is unknown ({reason}); it can be included until \
         block {until}"
    )]
    Uncertain {
        /// Hash of the extrinsic.
        hash: String,
        /// Why nothing more was heard.
        reason: String,
        /// The last block that may include it.
        until: u64,
    },
    /// The copy of the metagraph on disk.
    #[error("the saved metagraph {} cannot be {what}: {reason}", path.display())]
    Cache {
        /// Which file.
        path: PathBuf,
        /// `read` or `written`.
        what: &'static str,
        /// What the system says.
        reason: String,
    },
}

impl ChainError {
    /// Every code that [`ChainError::code`] can return.
    pub const CODES: [&'static str; 29] = [
        "chain_unknown_network",
        "chain_bad_endpoint",
        "chain_bad_address",
        "chain_connect",
        "chain_connection_lost",
        "chain_timeout",
        "chain_bad_answer",
        "chain_node_refused",
        "chain_wrong_genesis",
        "chain_behind",
        "chain_unreachable",
        "chain_missing_shape",
        "chain_no_subnet",
        "chain_unknown_extension",
        "chain_call_does_not_fit",
        "chain_signing",
        "chain_price_above_limit",
        "chain_call_failed",
        "chain_dropped",
        "chain_uncertain",
        "chain_cache",
        "chain_cannot_pay_fee",
        "chain_stale",
        "chain_bad_signature",
        "chain_refused_by_runtime",
        "chain_banned",
        "chain_already_known",
        "chain_priority_too_low",
        "chain_refused",
    ];

    /// Stable code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownNetwork { .. } => "chain_unknown_network",
            Self::BadEndpoint { .. } => "chain_bad_endpoint",
            Self::BadAddress { .. } => "chain_bad_address",
            Self::Connect { .. } => "chain_connect",
            Self::Lost { .. } => "chain_connection_lost",
            Self::Timeout { .. } => "chain_timeout",
            Self::BadAnswer { .. } => "chain_bad_answer",
            Self::NodeRefused { .. } => "chain_node_refused",
            Self::WrongGenesis { .. } => "chain_wrong_genesis",
            Self::Behind { .. } => "chain_behind",
            Self::Unreachable { .. } => "chain_unreachable",
            Self::MissingShape { .. } => "chain_missing_shape",
            Self::NoSubnet { .. } => "chain_no_subnet",
            Self::Extension { .. } => "chain_unknown_extension",
            Self::Encode { .. } => "chain_call_does_not_fit",
            Self::Signing(_) => "chain_signing",
            Self::PriceAboveLimit { .. } => "chain_price_above_limit",
            Self::Refused(refusal) => refusal.code(),
            Self::Failed(_) => "chain_call_failed",
            Self::Dropped { .. } => "chain_dropped",
            Self::Uncertain { .. } => "chain_uncertain",
            Self::Cache { .. } => "chain_cache",
        }
    }

    /// What to do about it in general.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::UnknownNetwork { .. }
            | Self::BadEndpoint { .. }
            | Self::BadAddress { .. }
            | Self::NoSubnet { .. }
            | Self::Encode { .. } => ErrorClass::Input,
            Self::Signing(_) => ErrorClass::Auth,
            Self::WrongGenesis { .. } | Self::PriceAboveLimit { .. } => ErrorClass::Conflict,
            Self::Connect { .. }
            | Self::Lost { .. }
            | Self::Timeout { .. }
            | Self::BadAnswer { .. }
            | Self::NodeRefused { .. }
            | Self::Behind { .. }
            | Self::Unreachable { .. }
            | Self::MissingShape { .. }
            | Self::Extension { .. }
            | Self::Dropped { .. } => ErrorClass::Unavailable,
            Self::Refused(refusal) => refusal.class(),
            Self::Failed(_) => ErrorClass::Rejected,
            Self::Uncertain { .. } => ErrorClass::Uncertain,
            Self::Cache { .. } => ErrorClass::Corrupt,
        }
    }

    /// The next step.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::UnknownNetwork { .. } | Self::BadEndpoint { .. } => {
                "Correct --subtensor.network or --subtensor.chain_endpoint."
            }
            Self::BadAddress { .. } => "Copy the address again; addresses here begin with 5.",
            Self::Connect { .. }
            | Self::Lost { .. }
            | Self::Timeout { .. }
            | Self::Unreachable { .. } => {
                "Check the network connection, or name another node with \
                 --subtensor.chain_endpoint."
            }
            Self::BadAnswer { .. } | Self::NodeRefused { .. } | Self::Behind { .. } => {
                "Name another node with --subtensor.chain_endpoint."
            }
            Self::WrongGenesis { .. } => {
                "Check that the endpoint belongs to the network; for a chain of your own state its \
                 first block, or use --subtensor.network local."
            }
            Self::MissingShape { .. } | Self::Extension { .. } => {
                "The chain was upgraded beyond this program: update it, or look for a newer release."
            }
            Self::NoSubnet { .. } => "Check --netuid: the network's is 8 on finney.",
            Self::Encode { .. } => "Check the arguments; if they are right, update this program.",
            Self::Signing(_) => "Check the key that should sign.",
            Self::PriceAboveLimit { .. } => {
                "Wait: the price falls while nobody registers. Or raise --max-cost."
            }
            Self::Refused(refusal) => refusal.next(),
            Self::Failed(failure) => failure.next(),
            Self::Dropped { .. } => "Look at the balance and state of the account, then try again.",
            Self::Uncertain { .. } => {
                "Do not repeat it yet: wait until that block, then look whether it took effect."
            }
            Self::Cache { .. } => "Delete the file: it is written again from the chain.",
        }
    }

    /// Whether the next endpoint may do better.
    pub(super) const fn is_fault_of_endpoint(&self) -> bool {
        matches!(
            self,
            Self::Connect { .. }
                | Self::Lost { .. }
                | Self::Timeout { .. }
                | Self::BadAnswer { .. }
                | Self::NodeRefused { .. }
                | Self::WrongGenesis { .. }
                | Self::Behind { .. }
        )
    }
}
