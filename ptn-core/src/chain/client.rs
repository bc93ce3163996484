//! `ChainClient`: asks the chain, by whichever of several nodes answers properly.
//!
//! One connection is open at a time and is kept (with pings) until it fails; then the next node is
//! asked, and every question is asked again from its start, at a block of that node. Questions
//! change nothing, so asking twice is harmless; what changes something is left to
//! [`super::submit`].
//!
//! Must stay true: nothing is read from a node of another chain, nor from one that is far behind
//! what another node already called final.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;

use super::account::{self, Balance, RegistrationTerms};
use super::call::Call;
use super::error::ChainError;
use super::link::{At, Limits, Link, Traffic};
use super::metagraph::{self, Metagraph};
use super::network::{Network, check_endpoint, hash_text, is_exposed, parse_hash, shown};
use super::submit::next_nonce;
use super::units::Rao;
use super::weights;
use crate::sign::ss58;
use crate::store::{UnixMs, now_ms};

/// Which nodes to ask, and how patiently.
#[derive(Clone)]
#[non_exhaustive]
pub struct ChainOptions {
    /// Addresses of nodes, the best first. Not empty.
    pub endpoints: Vec<String>,
    /// Hash of the first block that a node must have; any when absent.
    pub expected_genesis: Option<[u8; 32]>,
    /// Hash of the first block that a node must not have: finney's, where a network is not finney.
    pub refused_genesis: Option<[u8; 32]>,
    /// Time for opening a connection.
    pub connect_timeout: Duration,
    /// Time for one answer; metadata of 0.4 MB must fit in it.
    pub request_timeout: Duration,
    /// How often an idle connection is checked; after twice this time without a sign of life it is
    /// given up.
    pub ping_interval: Duration,
    /// How many blocks a node may be behind the highest final block seen.
    pub max_behind: u64,
    /// For how many blocks a signed call can be included, a power of two from 4 to 1024.
    pub lifetime: u64,
    /// How long a sent call may make no progress before its blocks are searched for it.
    pub progress_timeout: Duration,
    /// How often blocks are then searched.
    pub search_interval: Duration,
}

/// Addresses as they may be shown: providers put keys into them.
impl std::fmt::Debug for ChainOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let endpoints: Vec<String> = self.endpoints.iter().map(|url| shown(url)).collect();
        f.debug_struct("ChainOptions").field("endpoints", &endpoints).finish_non_exhaustive()
    }
}

impl ChainOptions {
    fn new(endpoints: Vec<String>, expected_genesis: Option<[u8; 32]>) -> Self {
        Self {
            endpoints,
            expected_genesis,
            refused_genesis: None,
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(20),
            ping_interval: Duration::from_secs(20),
            max_behind: 50,
            lifetime: 64,
            progress_timeout: Duration::from_secs(60),
            search_interval: Duration::from_secs(6),
        }
    }

    /// The nodes of a known network.
    pub fn network(network: Network) -> Self {
        let endpoints = network.endpoints().iter().map(|e| (*e).to_owned()).collect();
        let mut options = Self::new(endpoints, network.genesis());
        if options.expected_genesis.is_none() {
            options.refused_genesis = Network::Finney.genesis();
        }
        options
    }

    /// Nodes by their addresses (`ws://` or `wss://`), the best first. Blanks around are dropped.
    ///
    /// # Errors
    /// When there is none, or one is no address.
    pub fn endpoints<I>(endpoints: I) -> Result<Self, ChainError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let endpoints: Vec<String> =
            endpoints.into_iter().map(|e| e.as_ref().trim().to_owned()).collect();
        if endpoints.is_empty() {
            check_endpoint("")?;
        }
        for endpoint in &endpoints {
            check_endpoint(endpoint)?;
        }
        Ok(Self::new(endpoints, None))
    }

    /// Nodes must have this first block.
    ///
    /// # Errors
    /// When the text is no hash of 32 bytes in hexadecimal.
    pub fn with_expected_genesis(mut self, hash: &str) -> Result<Self, ChainError> {
        let genesis = parse_hash(hash).ok_or_else(|| ChainError::BadEndpoint {
            url: hash.to_owned(),
            reason: "the first block is stated by its hash: 0x and 64 hexadecimal digits",
        })?;
        self.expected_genesis = Some(genesis);
        Ok(self)
    }

    /// Whether this can be the first block of the chain, as far as it is known which one is meant.
    pub(super) fn may_be(&self, genesis: &str) -> bool {
        let Some(genesis) = parse_hash(genesis) else { return false };
        self.expected_genesis.is_none_or(|expected| expected == genesis)
            && self.refused_genesis != Some(genesis)
    }

    /// With other limits for opening a connection and for one answer.
    #[must_use]
    pub const fn with_timeouts(mut self, connect: Duration, request: Duration) -> Self {
        self.connect_timeout = connect;
        self.request_timeout = request;
        self
    }
}

/// Asks the chain. Cheap to clone; clones share the connection.
#[derive(Debug, Clone)]
pub struct ChainClient {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: ChainOptions,
    current: Mutex<Current>,
    /// The highest final block that any node reported.
    seen: AtomicU64,
}

#[derive(Debug, Default)]
struct Current {
    link: Option<Arc<Link>>,
    /// Index of the endpoint to use.
    index: usize,
}

/// A node and its runtime, as `doctor` shows them.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct NodeInfo {
    /// Which node answered.
    pub endpoint: String,
    /// Hash of the chain's first block.
    pub genesis: String,
    /// Version of the runtime.
    pub spec_version: u32,
    /// The last final block.
    pub block: u64,
    /// What this runtime lacks of what this program can use, and what for.
    pub missing: Vec<String>,
}

/// What is on its way and not final yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct UnderWay {
    /// The newest block, which may still be undone.
    pub block: u64,
    /// The hotkey's number in the subnet at that block; absent when it has none.
    pub uid: Option<u16>,
    /// Calls of the coldkey that wait for a block.
    pub waiting: u64,
}

impl ChainClient {
    /// A client that connects when it is first asked.
    pub fn new(options: ChainOptions) -> Self {
        for endpoint in &options.endpoints {
            if is_exposed(endpoint) {
                tracing::warn!(
                    endpoint = shown(endpoint),
                    "this connection is not encrypted: whoever is on the way can change the answers"
                );
            }
        }
        let current = Mutex::new(Current::default());
        Self { inner: Arc::new(Inner { options, current, seen: AtomicU64::new(0) }) }
    }

    /// What it was made with.
    pub fn options(&self) -> &ChainOptions {
        &self.inner.options
    }

    /// Connects now, and checks that the runtime has what reading validators needs.
    ///
    /// # Errors
    /// When no node answers usably, or the runtime lacks something.
    pub async fn connect(&self) -> Result<NodeInfo, ChainError> {
        self.read(async |at: At| {
            let metadata = at.runtime.metadata();
            for shape in [account::UIDS, account::ACCOUNT] {
                if let Some(shape) = shape.missing(metadata) {
                    return Err(at.missing(shape, "everything"));
                }
            }
            if let Some(shape) = metagraph::missing(metadata) {
                return Err(at.missing(shape, "finding validators"));
            }
            let missing = account::missing(metadata)
                .into_iter()
                .chain(weights::missing(metadata).map(|reason| (reason, weights::NEEDED_FOR)))
                .map(|(shape, needed_for)| format!("{shape}, needed for {needed_for}"))
                .collect();
            Ok(NodeInfo {
                endpoint: at.link.endpoint.clone(),
                genesis: hash_text(at.link.genesis.as_bytes()),
                spec_version: at.runtime.spec_version,
                block: at.number,
                missing,
            })
        })
        .await
    }

    /// The last final block.
    ///
    /// # Errors
    /// When no node answers usably.
    pub async fn block(&self) -> Result<u64, ChainError> {
        self.read(async |at: At| Ok(at.number)).await
    }

    /// The newest block, which may still be undone, and its own time (its author's clock); no time
    /// where the runtime keeps none.
    ///
    /// # Errors
    /// When no node answers usably.
    pub async fn newest_block(&self) -> Result<(u64, Option<UnixMs>), ChainError> {
        self.run(async |link: Arc<Link>| {
            let at = link.at_best().await?;
            if account::NOW.missing(at.runtime.metadata()).is_some() {
                return Ok((at.number, None));
            }
            let time = at.storage::<_, u64>(account::NOW, (), "reading a block's time").await?;
            Ok((at.number, time.and_then(|ms| UnixMs::try_from(ms).ok())))
        })
        .await
    }

    /// Every member of a subnet, at the last final block.
    ///
    /// # Errors
    /// When there is no such subnet, no node answers usably, or the runtime lacks something.
    pub async fn metagraph(&self, netuid: u16) -> Result<Metagraph, ChainError> {
        self.run(async |link: Arc<Link>| {
            let before = link.traffic();
            let at = self.check(link.at_final().await?)?;
            let mut metagraph = metagraph::read(&at, netuid, now_ms()).await?;
            metagraph.traffic = link.traffic().since(before);
            Ok(metagraph)
        })
        .await
    }

    /// The number of a hotkey in a subnet; absent when it is not registered there.
    ///
    /// # Errors
    /// When the hotkey is no address, or no node answers usably.
    pub async fn uid_of(&self, netuid: u16, hotkey: &str) -> Result<Option<u16>, ChainError> {
        let hotkey = account::account(hotkey)?;
        self.read(async |at: At| account::uid_of(&at, netuid, hotkey).await).await
    }

    /// Whether a registration is on its way that is not final yet, at the newest block.
    ///
    /// # Errors
    /// When one is no address, or no node answers usably.
    pub async fn under_way(
        &self,
        netuid: u16,
        hotkey: &str,
        coldkey: &str,
    ) -> Result<UnderWay, ChainError> {
        let (hotkey, coldkey) = (account::account(hotkey)?, account::account(coldkey)?);
        self.run(async |link: Arc<Link>| {
            // The pool first: what is in it may be in the block by then, but not the reverse.
            let next = next_nonce(&link, &coldkey).await?;
            let at = link.at_best().await?;
            let (uid, number) = tokio::try_join!(
                account::uid_of(&at, netuid, hotkey),
                account::number(&at, coldkey)
            )?;
            let waiting = next.saturating_sub(number.unwrap_or(next));
            Ok(UnderWay { block: at.number, uid, waiting })
        })
        .await
    }

    /// The coldkey that owns a hotkey; absent when the chain does not know the hotkey.
    ///
    /// # Errors
    /// When the hotkey is no address, or no node answers usably.
    pub async fn owner_of(&self, hotkey: &str) -> Result<Option<String>, ChainError> {
        let hotkey = account::account(hotkey)?;
        let owner = self.read(async |at: At| account::owner_of(&at, hotkey).await).await?;
        Ok(owner.map(|owner| ss58::encode(&owner.0)))
    }

    /// The TAO of an account.
    ///
    /// # Errors
    /// When it is no address, or no node answers usably.
    pub async fn balance(&self, address: &str) -> Result<Balance, ChainError> {
        let who = account::account(address)?;
        self.read(async |at: At| account::balance(&at, who).await).await
    }

    /// On what terms a hotkey can be registered right now.
    ///
    /// # Errors
    /// When there is no such subnet, no node answers usably, or the runtime lacks something.
    pub async fn registration_terms(&self, netuid: u16) -> Result<RegistrationTerms, ChainError> {
        self.read(async |at: At| account::terms(&at, netuid).await).await
    }

    /// The call that registers a hotkey for at most `limit`, and the terms of the moment. Where the
    /// runtime can, it enforces the limit itself (`register_limit`); otherwise the price is compared
    /// here, which is only a best effort: it may rise until the call is in a block.
    ///
    /// # Errors
    /// When the price is above the limit now, there is no such subnet, the hotkey is no address, no
    /// node answers usably, or the runtime lacks something.
    pub async fn registration_call(
        &self,
        netuid: u16,
        hotkey: &str,
        limit: Rao,
    ) -> Result<(Call, RegistrationTerms), ChainError> {
        account::account(hotkey)?;
        let terms = self.registration_terms(netuid).await?;
        if terms.price > limit {
            return Err(ChainError::PriceAboveLimit { price: terms.price, limit });
        }
        let call = if terms.limit_available {
            Call::register_limit(netuid, hotkey, limit)?
        } else {
            Call::burned_register(netuid, hotkey)?
        };
        Ok((call, terms))
    }

    /// Whether a subnet takes weights only as commitments that are revealed later.
    ///
    /// # Errors
    /// When no node answers usably, or the runtime lacks the setting.
    pub async fn commit_reveal_enabled(&self, netuid: u16) -> Result<bool, ChainError> {
        self.read(async |at: At| account::commit_reveal(&at, netuid).await).await
    }

    /// Requests and bytes of the open connection so far; zero when there is none.
    pub async fn traffic(&self) -> Traffic {
        let current = self.inner.current.lock().await;
        current.link.as_ref().map_or_else(Traffic::default, |link| link.traffic())
    }

    /// Asks something at the last final block.
    pub(super) async fn read<T, F, Fut>(&self, question: F) -> Result<T, ChainError>
    where
        F: Fn(At) -> Fut,
        Fut: Future<Output = Result<T, ChainError>>,
    {
        self.run(|link: Arc<Link>| {
            let question = &question;
            async move { question(self.check(link.at_final().await?)?).await }
        })
        .await
    }

    /// Refuses a node that is far behind.
    pub(super) fn check(&self, at: At) -> Result<At, ChainError> {
        let seen = self.inner.seen.fetch_max(at.number, Ordering::Relaxed);
        if at.number.saturating_add(self.inner.options.max_behind) < seen {
            let endpoint = at.link.endpoint.clone();
            return Err(ChainError::Behind { endpoint, block: at.number, seen });
        }
        Ok(at)
    }

    /// Does something with a connection; with another one when that fails by the node's fault.
    pub(super) async fn run<T, F, Fut>(&self, action: F) -> Result<T, ChainError>
    where
        F: Fn(Arc<Link>) -> Fut,
        Fut: Future<Output = Result<T, ChainError>>,
    {
        let endpoints = self.inner.options.endpoints.len();
        let mut faults: Vec<ChainError> = Vec::new();
        // An old connection may have died meanwhile: that is no fault of its node yet.
        let mut counted = 0;
        for _ in 0..=2 * endpoints {
            if counted == endpoints {
                break;
            }
            let (link, reused) = match self.link().await {
                Ok(link) => link,
                Err(e) if e.is_fault_of_endpoint() => {
                    counted += 1;
                    self.give_up(None, true).await;
                    faults.push(e);
                    continue;
                }
                Err(e) => return Err(e),
            };
            match action(Arc::clone(&link)).await {
                Err(e) if e.is_fault_of_endpoint() => {
                    tracing::debug!(endpoint = %link.endpoint, reused, "chain: {e}");
                    let again = reused
                        && matches!(e, ChainError::Lost { .. } | ChainError::BadAnswer { .. });
                    self.give_up(Some(&link), !again).await;
                    if !reused {
                        counted += 1;
                    }
                    faults.push(e);
                }
                other => return other,
            }
        }
        if faults.iter().all(|e| matches!(e, ChainError::Behind { .. })) {
            // All agree: whoever reported the higher block was wrong.
            self.inner.seen.store(0, Ordering::Relaxed);
        }
        match faults.pop() {
            Some(only) if endpoints == 1 => Err(only),
            last => {
                let tried = faults.iter().chain(&last).map(ToString::to_string).collect();
                Err(ChainError::Unreachable { tried })
            }
        }
    }

    /// The open connection, or a new one, and whether it was open before.
    async fn link(&self) -> Result<(Arc<Link>, bool), ChainError> {
        let mut current = self.inner.current.lock().await;
        if let Some(link) = &current.link {
            return Ok((Arc::clone(link), true));
        }
        let options = &self.inner.options;
        let endpoint = options.endpoints.get(current.index).map_or("", String::as_str);
        let limits = Limits {
            connect: options.connect_timeout,
            request: options.request_timeout,
            ping: options.ping_interval,
        };
        let link = Arc::new(Link::open(endpoint, limits, options).await?);
        tracing::debug!(endpoint = %link.endpoint, "connected to the chain");
        current.link = Some(Arc::clone(&link));
        Ok((link, false))
    }

    /// Drops the connection, if it is still this one, and turns to the next node.
    pub(super) async fn give_up(&self, link: Option<&Arc<Link>>, next: bool) {
        let mut current = self.inner.current.lock().await;
        let is_current = match (&current.link, link) {
            (Some(open), Some(link)) => Arc::ptr_eq(open, link),
            (None, None) => true,
            _ => false,
        };
        if is_current {
            current.link = None;
            if next {
                current.index = (current.index + 1) % self.inner.options.endpoints.len().max(1);
            }
        }
    }
}
