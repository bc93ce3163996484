//! Validators from the chain: the first list, whether our hotkey is registered, and what health
//! and metrics show of it.
//!
//! What must stay true: only a metagraph that the chain has just given can stop a miner from
//! starting; while it runs nothing of the chain does. An eviction is said loudly, and deliveries go
//! on by the validators' own answers.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use ptn_core::chain::{
    ChainClient, ChainDirectory, ChainError, ChainOptions, DirectoryOptions, DirectoryState,
};
use ptn_core::error::ErrorClass;
use ptn_core::store::StoreEvent;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::config::MinerConfig;

/// Before the chain is asked a second time at the start.
const ONCE_MORE: Duration = Duration::from_secs(1);

/// Why a miner does not start with validators from the chain.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChainStartError {
    /// Neither the chain nor a copy of an earlier answer.
    #[error(
        "the validators are not known: {error}; and no copy was saved in {saved} by an earlier run. \
         {} A list by hand (--validators FILE) works without the chain",
        error.hint()
    )]
    NoValidators {
        /// What went wrong at each node.
        error: Box<ChainError>,
        /// Where a copy would be.
        saved: String,
    },
    /// Validators would refuse everything.
    #[error(
        "hotkey {hotkey} is not registered on subnet {netuid} of {network} (block {block}, {members} \
         members), so validators would refuse what it signs: register it with `{command}`, or name \
         the registered one with --wallet.name and --wallet.hotkey"
    )]
    NotRegistered {
        /// The hotkey's address.
        hotkey: String,
        /// The subnet.
        netuid: u16,
        /// The network's name.
        network: String,
        /// The block that was looked at.
        block: u64,
        /// How many members the subnet has.
        members: usize,
        /// How to register.
        command: String,
    },
}

#[derive(Debug, Default)]
struct Gauges {
    block: Gauge,
    age: Gauge<f64, AtomicU64>,
    registered: Gauge,
    failing: Gauge,
    still: Gauge,
}

/// The chain as one miner sees it.
#[derive(Debug)]
pub(crate) struct Chain {
    directory: Arc<ChainDirectory>,
    client: ChainClient,
    hotkey: String,
    network: String,
    netuid: u16,
    saved: String,
    register: String,
    gauges: Gauges,
}

impl Chain {
    /// Nothing is asked yet.
    pub(crate) fn new(
        config: &MinerConfig,
        chain: ChainOptions,
        mut directory: DirectoryOptions,
        hotkey: &str,
    ) -> Self {
        directory.member = Some(hotkey.to_owned());
        let saved = directory.cache.as_ref().map(|cache| cache.path().display().to_string());
        let (wallet, network) = (&config.wallet, config.network);
        let register = format!(
            "ptn-cli subnet register --netuid {} --subtensor.network {network} --wallet.name {} \
             --wallet.hotkey {}",
            config.netuid,
            wallet.wallet(),
            wallet.hotkey_name(),
        );
        let client = ChainClient::new(chain);
        Self {
            directory: Arc::new(ChainDirectory::new(client.clone(), directory)),
            client,
            hotkey: hotkey.to_owned(),
            network: network.to_string(),
            netuid: config.netuid,
            saved: saved.unwrap_or_default(),
            register,
            gauges: Gauges::default(),
        }
    }

    /// The directory, for the engine.
    pub(crate) fn directory(&self) -> &Arc<ChainDirectory> {
        &self.directory
    }

    /// The chain itself.
    pub(crate) fn client(&self) -> &ChainClient {
        &self.client
    }

    /// Reads the first list, and refuses a hotkey that the chain says is not registered.
    pub(crate) async fn open(&self) -> Result<(), ChainStartError> {
        let mut opened = self.directory.open().await;
        // A connection that broke once is no reason to refuse; a second time is.
        if opened.as_ref().is_err_and(|e| e.class() == ErrorClass::Unavailable) {
            tokio::time::sleep(ONCE_MORE).await;
            opened = self.directory.open().await;
        }
        opened.map_err(|error| ChainStartError::NoValidators {
            error: Box::new(error),
            saved: self.saved.clone(),
        })?;
        let state = self.state();
        match &state.metagraph {
            Some(metagraph) if uid(&state, &self.hotkey).is_none() => {
                if state.from_disk {
                    tracing::warn!(
                        hotkey = self.hotkey,
                        "the hotkey was not registered yet when the copy was saved; the chain will \
                         be asked when it answers"
                    );
                    return Ok(());
                }
                Err(ChainStartError::NotRegistered {
                    hotkey: self.hotkey.clone(),
                    netuid: self.netuid,
                    network: self.network.clone(),
                    block: metagraph.block,
                    members: metagraph.neurons.len(),
                    command: self.register.clone(),
                })
            }
            _ => Ok(()),
        }
    }

    /// Keeps the list up to date, and says loudly when the hotkey loses its place.
    pub(crate) async fn run(
        self: Arc<Self>,
        events: broadcast::Receiver<StoreEvent>,
        stop: CancellationToken,
    ) {
        let follow = self.directory.run(Some(events), stop.clone());
        tokio::select! {
            () = follow => {}
            () = self.watch_registration() => {}
        }
    }

    async fn watch_registration(&self) {
        let mut states = self.directory.state();
        let mut known = uid(&states.borrow_and_update(), &self.hotkey);
        let (mut said, mut down) = (false, self.state().error.is_some());
        while states.changed().await.is_ok() {
            let state = states.borrow_and_update().clone();
            if down && state.error.is_none() {
                tracing::info!("the chain answers again");
            }
            down = state.error.is_some();
            let now = uid(&state, &self.hotkey);
            if now.is_none() && state.metagraph.is_some() && !state.from_disk && !said {
                said = true;
                tracing::error!(
                    hotkey = self.hotkey,
                    netuid = self.netuid,
                    uid_before = known,
                    block = state.metagraph.as_ref().map(|m| m.block),
                    "EVICTED: the hotkey is not registered on the subnet (any more); deliveries go \
                     on, but validators will refuse them: register it again with `{}`",
                    self.register
                );
            }
            if let Some(uid) = now {
                if said {
                    tracing::info!(hotkey = self.hotkey, uid, "the hotkey is registered again");
                }
                said = false;
                known = now;
            }
        }
    }

    fn state(&self) -> DirectoryState {
        self.directory.state().borrow().clone()
    }

    /// Whether the chain said that the hotkey is not registered.
    pub(crate) fn is_evicted(&self) -> bool {
        let state = self.state();
        state.metagraph.is_some() && uid(&state, &self.hotkey).is_none()
    }

    /// For `/health`.
    pub(crate) fn health(&self) -> Value {
        let state = self.state();
        let metagraph = state.metagraph.as_ref();
        json!({
            "network": self.network,
            "netuid": self.netuid,
            "endpoint": metagraph.map(|m| &m.endpoint),
            "block": metagraph.map(|m| m.block),
            "spec_version": metagraph.map(|m| m.spec_version),
            "members": metagraph.map(|m| m.neurons.len()),
            "age_s": state.age().map(|age| age.as_secs()),
            "stands_still": state.stands_still,
            "from_disk": state.from_disk,
            "registered": metagraph.map(|_| uid(&state, &self.hotkey).is_some()),
            "uid": uid(&state, &self.hotkey),
            "error": state.error.as_ref().map(ToString::to_string),
        })
    }

    /// Adds the chain's metrics.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let g = &self.gauges;
        registry.register("ptn_chain_block", "Block of the metagraph in use", g.block.clone());
        registry.register(
            "ptn_chain_metagraph_age_seconds",
            "Seconds since a read gave a new block",
            g.age.clone(),
        );
        registry.register(
            "ptn_chain_stands_still",
            "1 while reads give no new block",
            g.still.clone(),
        );
        registry.register(
            "ptn_chain_failing",
            "1 while the metagraph cannot be read and the last one is used",
            g.failing.clone(),
        );
        registry.register(
            "ptn_hotkey_registered",
            "1 while the hotkey is registered on the subnet, 0 when it is not or is not known yet",
            g.registered.clone(),
        );
    }

    /// Sets them.
    pub(crate) fn set_metrics(&self) {
        let state = self.state();
        let block = state.metagraph.as_ref().map_or(0, |m| m.block);
        self.gauges.block.set(i64::try_from(block).unwrap_or(i64::MAX));
        self.gauges.age.set(state.age().unwrap_or_default().as_secs_f64());
        self.gauges.failing.set(i64::from(state.error.is_some()));
        self.gauges.still.set(i64::from(state.stands_still));
        self.gauges.registered.set(i64::from(uid(&state, &self.hotkey).is_some()));
    }
}

fn uid(state: &DirectoryState, hotkey: &str) -> Option<u16> {
    Some(state.metagraph.as_ref()?.neuron(hotkey)?.uid)
}
