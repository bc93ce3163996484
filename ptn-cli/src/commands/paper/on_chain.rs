//! The rounds of a paper validator, set as weights on a chain: a node double or a private network.
//!
//! One call at a time, always the latest round; rounds that come while a call is on its way are
//! passed over, as by a validator of the network. What failed is told and tried again with the next
//! round.

use std::sync::Arc;

use ptn_core::chain::{Call, ChainClient, ChainError, ChainOptions, Network};
use ptn_core::paper::desk::{DeskError, PaperDesk};
use ptn_core::paper::validator::{ChainTerms, Round};
use ptn_core::sign::Hotkey;

/// Sets weights.
pub(crate) struct OnChain {
    pub(crate) client: ChainClient,
    pub(crate) netuid: u16,
    /// The validator's; it must have a permit.
    pub(crate) hotkey: Arc<Hotkey>,
    /// Who gets what nobody earned; by default whom the rules name.
    pub(crate) burn_uid: Option<u16>,
}

/// What became of a round.
#[derive(Debug, Clone)]
pub(crate) enum Told {
    /// On the chain, and final.
    Set {
        round: Arc<Round>,
        /// How many uids have a weight.
        uids: usize,
        /// Number of the block.
        block: u64,
        /// Hash of the extrinsic.
        extrinsic: String,
    },
    /// None of the miners is registered, and there was nothing to burn.
    Nothing { round: Arc<Round> },
    /// Not set.
    Failed { round: Arc<Round>, error: Arc<ChainError> },
}

impl OnChain {
    /// A client for these nodes. They must not be the public network's: what is made on paper has
    /// no place there.
    pub(crate) fn client(endpoints: &str) -> Result<ChainClient, ChainError> {
        let mut options = ChainOptions::endpoints(endpoints.split(',').map(str::trim))?;
        options.refused_genesis = ChainOptions::network(Network::Local).refused_genesis;
        Ok(ChainClient::new(options))
    }

    /// Follows the rounds until the desk ends.
    pub(crate) async fn follow(
        self,
        desk: PaperDesk,
        mut tell: impl FnMut(Told) + Send,
    ) -> Result<(), DeskError> {
        let terms = desk.ask(|validator| validator.chain_terms()).await?;
        let mut rounds = desk.rounds();
        rounds.mark_changed();
        while rounds.changed().await.is_ok() {
            let round = rounds.borrow_and_update().clone();
            let Some(round) = round else { continue };
            let told = match self.set(&round, terms).await {
                Ok(Some((uids, block, extrinsic))) => Told::Set { round, uids, block, extrinsic },
                Ok(None) => Told::Nothing { round },
                Err(e) => Told::Failed { round, error: Arc::new(e) },
            };
            tell(told);
        }
        Ok(())
    }

    async fn set(
        &self,
        round: &Round,
        terms: ChainTerms,
    ) -> Result<Option<(usize, u64, String)>, ChainError> {
        let metagraph = self.client.metagraph(self.netuid).await?;
        let uid = |hotkey: &str| {
            metagraph.neurons.iter().find(|neuron| neuron.hotkey == hotkey).map(|neuron| neuron.uid)
        };
        let burn_uid = self.burn_uid.or(terms.burn_uid);
        let known = |uid: &u16| metagraph.neurons.iter().any(|neuron| neuron.uid == *uid);
        let pairs = round.weights.for_chain(uid, burn_uid.filter(known));
        if pairs.is_empty() {
            return Ok(None);
        }
        let count = pairs.len();
        let (uids, weights) = pairs.into_iter().unzip();
        let call = Call::set_weights(self.netuid, uids, weights, terms.version_key);
        let progress = self.client.submit(&call, &*self.hotkey).await?;
        let extrinsic = progress.hash();
        let place = Box::pin(progress.wait_final()).await?;
        Ok(Some((count, place.number, extrinsic)))
    }
}
