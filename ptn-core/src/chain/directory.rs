//! `ChainDirectory`: the validators of a subnet, from its metagraph, kept up to date.
//!
//! The list is read on a schedule, and at once after a hint that a validator may have moved
//! ([`smells_of_a_move`]). It starts from the copy on disk when the chain is down, and keeps trying.
//! Whatever goes wrong, the last list stays in use: a chain that is down must not stop deliveries.
//! Which members count as validators is left to `deliver::target`, which addresses may be called to
//! the transport.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, broadcast, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cache::MetagraphCache;
use super::client::ChainClient;
use super::error::ChainError;
use super::metagraph::{Metagraph, Neuron};
use super::network::shown;
use crate::directory::{Snapshot, Validator, ValidatorDirectory, Wire};
use crate::record::Progress;
use crate::store::{StoreChange, StoreEvent, UnixMs, now_ms};

/// Alpha in smallest units.
const PER_ALPHA: f64 = 1e9;

/// How a [`ChainDirectory`] works.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DirectoryOptions {
    /// The subnet.
    pub netuid: u16,
    /// How often the metagraph is read.
    pub refresh: Duration,
    /// Between two reads that hints asked for, and after a read that failed.
    pub pause: Duration,
    /// How long reads may give no new block before the chain counts as standing still.
    pub standstill: Duration,
    /// How long the first read may take before the copy on disk is used meanwhile.
    pub patience: Duration,
    /// The wire of validators that `wires` does not name.
    pub wire: Wire,
    /// The wire of single validators, by hotkey.
    pub wires: BTreeMap<String, Wire>,
    /// Where the last metagraph is kept; nowhere when absent.
    pub cache: Option<MetagraphCache>,
    /// The hotkey that will sign. While it is no member, the first list is not published, so that
    /// nothing is sent before somebody has looked at the state. It is never in the list, and neither is
    /// whoever states its address.
    pub member: Option<String>,
}

impl DirectoryOptions {
    /// For a subnet: read every five minutes, after hints at most every 12 s (one block), every
    /// validator on the default wire, nothing kept on disk; with a copy on disk the first read gets
    /// 5 s; without a new block for 3 minutes (15 blocks) the chain stands still.
    pub fn new(netuid: u16) -> Self {
        Self {
            netuid,
            refresh: Duration::from_secs(300),
            pause: Duration::from_secs(12),
            standstill: Duration::from_secs(180),
            patience: Duration::from_secs(5),
            wire: Wire::default(),
            wires: BTreeMap::new(),
            cache: None,
            member: None,
        }
    }
}

/// How fresh the list is.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct DirectoryState {
    /// The metagraph in use; absent when there was none yet.
    pub metagraph: Option<Arc<Metagraph>>,
    /// Whether it came from disk and the chain has not confirmed it yet.
    pub from_disk: bool,
    /// Why the last read failed; absent when it did not.
    pub error: Option<Arc<ChainError>>,
    /// When a read first gave a block above all before, by our clock. A node that answers with the
    /// same block again and again says nothing new.
    pub moved_at: Option<UnixMs>,
    /// Whether the last read gave no new block for so long that the chain, or the node's view of it,
    /// stands still.
    pub stands_still: bool,
    /// The highest block that a read gave.
    highest: u64,
}

impl DirectoryState {
    /// How long ago, by our clock, the chain last said something new.
    pub fn age(&self) -> Option<Duration> {
        let ms = now_ms().saturating_sub(self.moved_at?);
        Some(Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
    }

    /// The state after another metagraph was read.
    fn after(&self, metagraph: Metagraph, standstill: Duration) -> Self {
        let same = self.metagraph.as_ref().is_some_and(|m| m.genesis == metagraph.genesis);
        let moved = !same || metagraph.block > self.highest;
        let highest = if moved { metagraph.block } else { self.highest };
        let moved_at = if moved { metagraph.read_at } else { self.moved_at.unwrap_or_default() };
        let still = metagraph.read_at.saturating_sub(moved_at);
        Self {
            stands_still: u128::try_from(still).is_ok_and(|ms| ms >= standstill.as_millis()),
            metagraph: Some(Arc::new(metagraph)),
            from_disk: false,
            error: None,
            moved_at: Some(moved_at),
            highest,
        }
    }
}

/// The validators of a subnet, from the chain.
///
/// ```no_run
/// # use std::sync::Arc;
/// # async fn f(data_dir: &std::path::Path, store: Arc<dyn ptn_core::store::SignalStore>)
/// # -> Result<(), ptn_core::chain::ChainError> {
/// use ptn_core::chain::{
///     ChainClient, ChainDirectory, ChainOptions, DirectoryOptions, MetagraphCache, Network,
/// };
/// use tokio_util::sync::CancellationToken;
///
/// let chain = ChainClient::new(ChainOptions::network(Network::Finney));
/// let mut options = DirectoryOptions::new(8);
/// options.cache = Some(MetagraphCache::new(data_dir, 8));
/// let directory = Arc::new(ChainDirectory::new(chain, options));
/// directory.open().await?; // from the chain, or from disk
/// let stop = CancellationToken::new();
/// let (follow, events, end) = (Arc::clone(&directory), store.events(), stop.clone());
/// tokio::spawn(async move { follow.run(Some(events), end).await });
/// // Engine::builder().directory(directory) ...
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ChainDirectory {
    client: ChainClient,
    options: DirectoryOptions,
    list: watch::Sender<Snapshot>,
    state: watch::Sender<DirectoryState>,
    hint: Notify,
}

impl ChainDirectory {
    /// A directory that knows nobody yet; nothing is read before [`ChainDirectory::open`] or
    /// [`ChainDirectory::run`].
    pub fn new(client: ChainClient, options: DirectoryOptions) -> Self {
        Self {
            client,
            options,
            list: watch::Sender::new(Snapshot::default()),
            state: watch::Sender::new(DirectoryState::default()),
            hint: Notify::new(),
        }
    }

    /// Reads the list for the first time: from the chain, or from disk when the chain is down or
    /// takes its time (which is logged, with its age).
    ///
    /// # Errors
    /// When there is neither. [`ChainDirectory::run`] keeps trying all the same.
    pub async fn open(&self) -> Result<(), ChainError> {
        let saved = self.load().await;
        let read = match saved {
            None => self.refresh().await,
            Some(_) => match tokio::time::timeout(self.options.patience, self.refresh()).await {
                Ok(read) => read,
                Err(_) => Err(ChainError::Timeout {
                    endpoint: self.endpoints(),
                    what: "with a metagraph".to_owned(),
                    after: self.options.patience,
                }),
            },
        };
        let Err(error) = read else { return Ok(()) };
        if self.state.borrow().metagraph.is_some() {
            // Read in time; only the saving was not done yet.
            return Ok(());
        }
        match saved {
            Some(metagraph) => {
                let state = DirectoryState {
                    moved_at: Some(metagraph.read_at),
                    highest: metagraph.block,
                    metagraph: Some(Arc::new(metagraph)),
                    from_disk: true,
                    error: Some(Arc::new(error)),
                    stands_still: false,
                };
                let minutes = state.age().unwrap_or_default().as_secs() / 60;
                if let (Some(metagraph), Some(error)) = (&state.metagraph, &state.error) {
                    tracing::warn!(
                        block = metagraph.block,
                        minutes,
                        "the chain cannot be read, so the validators are those of the saved \
                         metagraph: {error}"
                    );
                    self.state.send_replace(state.clone());
                    self.publish(metagraph);
                }
                Ok(())
            }
            None => Err(error),
        }
    }

    /// Reads the metagraph now and publishes the list.
    ///
    /// # Errors
    /// When it cannot be read; the last list stays in use.
    pub async fn refresh(&self) -> Result<(), ChainError> {
        let metagraph = self.client.metagraph(self.options.netuid).await?;
        let state = self.state.borrow().after(metagraph, self.options.standstill);
        let Some(metagraph) = state.metagraph.clone() else { return Ok(()) };
        if state.stands_still && !self.state.borrow().stands_still {
            tracing::warn!(
                block = metagraph.block,
                minutes = state.age().unwrap_or_default().as_secs() / 60,
                "the chain stands still: its last final block is still the same, so the list of \
                 validators may be out of date"
            );
        }
        // Before the list: who sees that has the metagraph that it came from.
        self.state.send_replace(state);
        let stranger = self.options.member.as_ref().is_some_and(|m| metagraph.neuron(m).is_none());
        if stranger && !self.list.borrow().is_known() {
            return Ok(());
        }
        let changed = self.publish(&metagraph);
        tracing::debug!(
            block = metagraph.block,
            members = metagraph.neurons.len(),
            changed,
            requests = metagraph.traffic.requests,
            bytes = metagraph.traffic.bytes_in,
            "metagraph read"
        );
        self.save(&metagraph).await;
        Ok(())
    }

    /// A validator may have moved: the list is read soon. Cheap; hints in a row are one.
    pub fn hint(&self) {
        self.hint.notify_one();
    }

    /// How fresh the list is; changes arrive on the same receiver.
    pub fn state(&self) -> watch::Receiver<DirectoryState> {
        self.state.subscribe()
    }

    /// Keeps the list up to date until `stop`, and follows the events of the store for hints.
    pub async fn run(
        &self,
        mut events: Option<broadcast::Receiver<StoreEvent>>,
        stop: CancellationToken,
    ) {
        // `open` has just read it, or there is none yet and it is wanted at once.
        let known = self.state.borrow().metagraph.is_some() && !self.state.borrow().from_disk;
        let mut wait = if known { self.options.refresh } else { Duration::ZERO };
        loop {
            let began = Instant::now();
            let hinted = async {
                tokio::select! {
                    () = self.hint.notified() => {}
                    () = next_smell(&mut events) => {}
                }
                tokio::time::sleep_until(began + self.options.pause).await;
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
                () = hinted => {}
            }
            let read = tokio::select! {
                () = stop.cancelled() => return,
                read = self.refresh() => read,
            };
            wait = self.options.refresh;
            if let Err(e) = read {
                wait = self.options.pause.min(self.options.refresh);
                self.failed(e);
            }
        }
    }

    fn endpoints(&self) -> String {
        let endpoints = self.client.options().endpoints.iter();
        endpoints.map(|url| shown(url)).collect::<Vec<_>>().join(", ")
    }

    fn failed(&self, error: ChainError) {
        let again = self.state.borrow().error.is_some();
        // Once per outage; a miner may run through a long one.
        if again {
            tracing::debug!(code = error.code(), "the metagraph still cannot be read: {error}");
        } else {
            tracing::warn!(
                code = error.code(),
                "the metagraph cannot be read; the last list of validators stays in use: {error}"
            );
        }
        self.state.send_modify(|state| state.error = Some(Arc::new(error)));
    }

    /// Puts the list into use and returns whether it changed.
    fn publish(&self, metagraph: &Metagraph) -> bool {
        let member = self.options.member.as_deref();
        let own = metagraph.neurons.iter().find(|neuron| Some(neuron.hotkey.as_str()) == member);
        // Nobody sends to itself, also when somebody else states its address.
        let is_own = |neuron: &Neuron| {
            own.is_some_and(|own| own.hotkey == neuron.hotkey || own.axon == neuron.axon)
        };
        let others = metagraph.neurons.iter().filter(|neuron| !is_own(neuron));
        let list: Vec<Validator> = others.filter_map(|neuron| self.validator(neuron)).collect();
        if list.is_empty() && !self.list.borrow().is_empty() {
            tracing::warn!(
                block = metagraph.block,
                "nobody serves anything in this metagraph, which is hard to believe; the last list \
                 of validators stays in use"
            );
            return false;
        }
        self.list.send_if_modified(|current| {
            let changed = !current.is_known() || **current != *list;
            if changed {
                *current = Snapshot::new(list);
            }
            changed
        })
    }

    /// A member that serves something.
    fn validator(&self, neuron: &Neuron) -> Option<Validator> {
        let axon = neuron.axon?;
        let wire = self.options.wires.get(&neuron.hotkey).copied();
        Some(Validator {
            hotkey: neuron.hotkey.clone(),
            ip: axon.ip(),
            port: axon.port(),
            v_trust: neuron.validator_trust.fraction(),
            stake: stake(neuron),
            permit: neuron.validator_permit,
            wire: wire.unwrap_or(self.options.wire),
        })
    }

    async fn load(&self) -> Option<Metagraph> {
        let cache = self.options.cache.clone()?;
        let loaded = tokio::task::spawn_blocking(move || cache.load()).await.ok()?;
        let metagraph = loaded.map_err(|e| tracing::warn!(code = e.code(), "{e}")).ok()??;
        if !self.client.options().may_be(&metagraph.genesis) {
            tracing::warn!(
                genesis = metagraph.genesis,
                "the saved metagraph is of another chain, and is not used"
            );
            return None;
        }
        Some(metagraph)
    }

    async fn save(&self, metagraph: &Arc<Metagraph>) {
        let Some(cache) = self.options.cache.clone() else { return };
        let metagraph = Arc::clone(metagraph);
        let saved = tokio::task::spawn_blocking(move || cache.save(&metagraph)).await;
        if let Ok(Err(e)) = saved {
            tracing::warn!(code = e.code(), "{e}");
        }
    }
}

impl ValidatorDirectory for ChainDirectory {
    fn watch(&self) -> watch::Receiver<Snapshot> {
        self.list.subscribe()
    }
}

/// For thresholds only, where the nearest float is near enough; amounts stay whole numbers.
#[expect(clippy::cast_precision_loss, reason = "a threshold compares the nearest float")]
fn stake(neuron: &Neuron) -> f64 {
    neuron.stake.0 as f64 / PER_ALPHA
}

/// Whether an outcome suggests that a validator is not where the list says: nobody listens there,
/// somebody else does, or something that speaks another wire.
pub fn smells_of_a_move(event: &StoreEvent) -> bool {
    let StoreChange::Progress { progress: Progress::Outcome { validator } } = &event.change else {
        return false;
    };
    matches!(
        validator.code.as_str(),
        // The last three are what somebody else says to a request for the validator.
        "connect"
            | "connect_timeout"
            | "wrong_validator"
            | "wrong_receiver"
            | "wrong_wire"
            | "bad_request"
            | "not_verified"
            | "blacklisted"
    )
}

/// Waits for the next such outcome; for ever when there are no events (any more).
async fn next_smell(events: &mut Option<broadcast::Receiver<StoreEvent>>) {
    while let Some(receiver) = events {
        match receiver.recv().await {
            Ok(event) if smells_of_a_move(&event) => return,
            Ok(_) => {}
            // Missed some: it may have been among them.
            Err(broadcast::error::RecvError::Lagged(_)) => return,
            Err(broadcast::error::RecvError::Closed) => *events = None,
        }
    }
    std::future::pending::<()>().await;
}
