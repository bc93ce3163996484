//! The chain: who the validators are, what weights they give, what a registration costs, and signed
//! calls.
//!
//! Everything goes through `subxt`'s dynamic interface with the metadata of the connected node, so
//! that a runtime upgrade (every few weeks) needs no new release: names are looked up in the node's
//! own metadata, values are read by shape, and what is missing is said plainly. Keys are left to
//! [`crate::sign`] and `wallet`: a call is signed through the [`Signer`](crate::sign::Signer)
//! trait. Deciding which validators count is left to `deliver::target`.
//!
//! ```no_run
//! # async fn f() -> Result<(), ptn_core::chain::ChainError> {
//! use ptn_core::chain::{ChainClient, ChainOptions, Network};
//!
//! let chain = ChainClient::new(ChainOptions::network(Network::Finney));
//! let metagraph = chain.metagraph(8).await?;
//! for neuron in metagraph.neurons.iter().filter(|neuron| neuron.validator_permit) {
//!     println!("{} {} {:?}", neuron.uid, neuron.hotkey, neuron.axon);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What must stay true: one answer is of one block; nothing is read or signed on another chain than
//! the one asked for; a call is never signed twice unless the node said that it did not take it.

mod account;
mod cache;
mod call;
mod client;
mod directory;
mod error;
mod holdings;
mod link;
mod metagraph;
#[cfg(feature = "test-util")]
pub mod mock;
mod network;
mod outcome;
mod progress;
mod refusal;
mod shape;
mod submit;
mod units;
mod weights;

pub use account::{Balance, RegistrationTerms};
pub use cache::MetagraphCache;
pub use call::{Argument, Call};
pub use client::{ChainClient, ChainOptions, NodeInfo, UnderWay};
pub use directory::{ChainDirectory, DirectoryOptions, DirectoryState, smells_of_a_move};
pub use error::ChainError;
pub use link::Traffic;
pub use metagraph::{Metagraph, Neuron, Score};
pub use network::Network;
#[cfg(feature = "ops")]
pub(crate) use network::shown;
pub use outcome::Place;
pub use progress::{Progress, Step};
pub use refusal::{DispatchFailure, PoolRefusal};
pub use submit::DryRun;
pub use units::{Alpha, AmountError, Rao};
pub use weights::{SubnetWeights, Weight, WeightRow};
