//! A node on a loopback port, for tests and demos: a small chain with subnets, accounts and blocks,
//! behind the JSON-RPC over WebSocket that a real node speaks.
//!
//! It checks what a real node checks (signature, lifetime, number, fee), charges fees (none for
//! weights), raises the runtime's errors by their names, and misbehaves on request. It knows no
//! market, no consensus and no epochs. The client knows nothing of it: the same code runs against a real node.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use ptn_core::chain::mock::{MockNeuron, MockNode};
//! use ptn_core::chain::{ChainClient, ChainOptions};
//! use ptn_core::sign::{Hotkey, Signer as _};
//!
//! let (hotkey, coldkey) = (Hotkey::generate(), Hotkey::generate());
//! let axon = "127.0.0.1:8091".parse()?;
//! let node = MockNode::builder()
//!     .neuron(8, MockNeuron::validator(hotkey.hotkey(), coldkey.hotkey(), axon, 65535))
//!     .start()
//!     .await?;
//! let chain = ChainClient::new(ChainOptions::endpoints([node.url()])?);
//! assert_eq!(chain.uid_of(8, hotkey.hotkey()).await?, Some(0));
//! node.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod blocks;
mod dispatch;
mod encode;
mod extrinsic;
mod metadata;
mod rpc;
mod serve;
mod state;
mod types;

pub use rpc::{Fault, FaultRule, Tale};
pub use state::{MockNeuron, MockSubnet};

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::blocks::Chain;
use self::state::{Account, Spec, State};
use super::metagraph::{self, Neuron};
use super::network::hash_text;
use super::units::Rao;
use crate::sign::ss58;

const TRANSACTION_VERSION: u32 = 1;

/// The runtime of a mock.
#[derive(Debug, Clone)]
pub struct MockRuntime {
    version: u32,
    kind: Kind,
    lacking: Vec<String>,
    demanding: bool,
}

#[derive(Debug, Clone)]
enum Kind {
    Plain,
    Newtypes,
    Real(Vec<u8>),
}

impl MockRuntime {
    const fn new(version: u32, kind: Kind) -> Self {
        Self { version, kind, lacking: Vec::new(), demanding: false }
    }

    /// Numbers are plain numbers, as in runtimes 365 and 393.
    pub const fn plain(version: u32) -> Self {
        Self::new(version, Kind::Plain)
    }

    /// Numbers are wrapped (`NetUid(u16)`, `TaoBalance(u64)`), as in later runtimes.
    pub const fn newtypes(version: u32) -> Self {
        Self::new(version, Kind::Newtypes)
    }

    /// The metadata of a real runtime: its bytes from `meta` on.
    pub const fn real(version: u32, metadata: Vec<u8>) -> Self {
        Self::new(version, Kind::Real(metadata))
    }

    /// Without the storage entries, methods, calls and fields of this name. Not for real ones.
    #[must_use]
    pub fn lacking(mut self, name: &str) -> Self {
        self.lacking.push(name.to_owned());
        self
    }

    /// With a transaction extension that wants a value nobody knows. Not for real ones.
    #[must_use]
    pub const fn demanding(mut self) -> Self {
        self.demanding = true;
        self
    }

    fn spec(self) -> std::io::Result<Arc<Spec>> {
        let bytes = match self.kind {
            Kind::Plain => metadata::metadata::<types::Plain>(&self.lacking, self.demanding),
            Kind::Newtypes => metadata::metadata::<types::Newtypes>(&self.lacking, self.demanding),
            Kind::Real(bytes) => bytes,
        };
        let metadata = super::shape::metadata_of(&bytes).map_err(std::io::Error::other)?;
        Ok(Arc::new(Spec { version: self.version, metadata, bytes }))
    }
}

/// Reads answers of a runtime as the client does, without a node: for tests that feed it any bytes.
#[derive(Debug)]
pub struct AnswerReader(Arc<Spec>);

impl AnswerReader {
    /// Of this runtime.
    ///
    /// # Errors
    /// When its metadata cannot be read.
    pub fn new(runtime: MockRuntime) -> std::io::Result<Self> {
        runtime.spec().map(Self)
    }

    /// The metadata of the runtime.
    pub fn metadata(&self) -> &[u8] {
        &self.0.bytes
    }

    /// The bytes that a node answers with for these members.
    ///
    /// # Errors
    /// When the runtime has no such answer.
    pub fn metagraph_of(&self, neurons: Vec<MockNeuron>) -> Result<Vec<u8>, String> {
        let subnet = MockSubnet { neurons, ..MockSubnet::default() };
        let state = State {
            time: 0,
            clock_ahead: 0,
            spec: Arc::clone(&self.0),
            accounts: BTreeMap::new(),
            owners: BTreeMap::new(),
            subnets: BTreeMap::from([(8, subnet)]),
            columns_shifted: 0,
        };
        let name = format!("{}_{}", metagraph::API, metagraph::FULL);
        state.call(&name, &8_u16.to_le_bytes(), 1)
    }

    /// The members in such bytes; `None` for a subnet that does not exist.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn metagraph(&self, answer: &[u8], trust: &[u16]) -> Result<Option<Vec<Neuron>>, String> {
        let method = self.0.metadata.runtime_api_trait_by_name(metagraph::API);
        let method = method.and_then(|api| api.method_by_name(metagraph::FULL));
        let id = method.ok_or("no such method")?.output_ty();
        match metagraph::rows(self.0.metadata.types(), &(id, answer.to_vec()), trust) {
            Ok(neurons) => Ok(Some(neurons)),
            Err(metagraph::Unusable::NoSubnet) => Ok(None),
            Err(metagraph::Unusable::Columns(why)) => Err(why),
        }
    }
}

/// Makes a [`MockNode`].
#[derive(Debug)]
pub struct MockBuilder {
    runtime: MockRuntime,
    genesis: Option<[u8; 32]>,
    accounts: BTreeMap<[u8; 32], Account>,
    subnets: BTreeMap<u16, MockSubnet>,
    block_time: Option<Duration>,
    lag: usize,
    first: u64,
    port: u16,
}

impl MockBuilder {
    /// With another runtime than the plain one.
    #[must_use]
    pub fn runtime(mut self, runtime: MockRuntime) -> Self {
        self.runtime = runtime;
        self
    }

    /// With this first block.
    #[must_use]
    pub const fn genesis(mut self, hash: [u8; 32]) -> Self {
        self.genesis = Some(hash);
        self
    }

    /// With a member of a subnet, which exists then; its uid is its place in the order of calls.
    #[must_use]
    pub fn neuron(mut self, netuid: u16, neuron: MockNeuron) -> Self {
        self.subnets.entry(netuid).or_default().neurons.push(neuron);
        self
    }

    /// With a subnet as `change` makes it.
    #[must_use]
    pub fn subnet(mut self, netuid: u16, change: impl FnOnce(&mut MockSubnet)) -> Self {
        change(self.subnets.entry(netuid).or_default());
        self
    }

    /// With this much TAO in an account.
    ///
    /// # Panics
    /// When the address is none.
    #[must_use]
    pub fn balance(mut self, address: &str, free: Rao) -> Self {
        self.accounts.entry(key(address)).or_default().free = free.0;
        self
    }

    /// A block this often (50 ms by default), or only on request.
    #[must_use]
    pub const fn block_time(mut self, time: Option<Duration>) -> Self {
        self.block_time = time;
        self
    }

    /// How many blocks finality is behind (2 by default).
    #[must_use]
    pub const fn finality_lag(mut self, blocks: usize) -> Self {
        self.lag = blocks;
        self
    }

    /// How many blocks there are at the start, all final (100 by default).
    #[must_use]
    pub const fn blocks(mut self, blocks: u64) -> Self {
        self.first = blocks;
        self
    }

    /// On this port of 127.0.0.1; any by default.
    #[must_use]
    pub const fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Starts the node. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the port is taken, or the metadata cannot be read.
    pub async fn start(self) -> std::io::Result<MockNode> {
        let mut owners = BTreeMap::new();
        for neuron in self.subnets.values().flat_map(|subnet| &subnet.neurons) {
            owners.insert(neuron.hotkey, neuron.coldkey);
        }
        let state = State {
            time: 0,
            clock_ahead: 0,
            spec: self.runtime.spec()?,
            accounts: self.accounts,
            owners,
            subnets: self.subnets,
            columns_shifted: 0,
        };
        let chain = Chain::new(state, self.genesis, self.first, self.lag);
        let node = MockNode::serving(Arc::new(Mutex::new(chain)), self.port).await?;
        if let Some(time) = self.block_time {
            let (shared, stop) = (Arc::clone(&node.shared), node.stop.clone());
            node.tasks.spawn(async move {
                let mut clock = tokio::time::interval(time);
                clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                loop {
                    tokio::select! {
                        () = stop.cancelled() => return,
                        _ = clock.tick() => lock(&shared.chain).advance(),
                    }
                }
            });
        }
        Ok(node)
    }
}

#[derive(Debug)]
struct Shared {
    chain: Arc<Mutex<Chain>>,
    faults: Mutex<Vec<FaultRule>>,
    requests: Mutex<BTreeMap<String, u64>>,
    connections: Mutex<Vec<CancellationToken>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[expect(clippy::panic, reason = "the mistake of whoever writes the test")]
fn key(address: &str) -> [u8; 32] {
    match ss58::decode(address) {
        Ok(key) => key,
        Err(e) => panic!("{address:?}: {e}"),
    }
}

/// A node on a loopback port. Stops when it is dropped.
#[derive(Debug)]
pub struct MockNode {
    shared: Arc<Shared>,
    address: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl MockNode {
    /// A node with 100 blocks of 50 ms, a plain runtime of version 500, and no subnets yet.
    pub fn builder() -> MockBuilder {
        MockBuilder {
            runtime: MockRuntime::plain(500),
            genesis: None,
            accounts: BTreeMap::new(),
            subnets: BTreeMap::new(),
            block_time: Some(Duration::from_millis(50)),
            lag: 2,
            first: 100,
            port: 0,
        }
    }

    async fn serving(chain: Arc<Mutex<Chain>>, port: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            chain,
            faults: Mutex::default(),
            requests: Mutex::default(),
            connections: Mutex::default(),
        });
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let accept = serve::accept(listener, Arc::clone(&shared), stop.clone(), tasks.clone());
        tasks.spawn(accept);
        Ok(Self { shared, address, stop, tasks })
    }

    /// Another node of the same chain, on a port and with faults of its own. The blocks are made by
    /// the first one.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn mirror(&self) -> std::io::Result<Self> {
        Self::serving(Arc::clone(&self.shared.chain), 0).await
    }

    /// Where it listens: `ws://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// The hash of its first block, in hexadecimal.
    pub fn genesis(&self) -> String {
        let chain = lock(&self.shared.chain);
        chain.number(0).map(|block| hash_text(block.hash.as_bytes())).unwrap_or_default()
    }

    /// The number of its newest block.
    pub fn block(&self) -> u64 {
        lock(&self.shared.chain).best().header.number
    }

    /// Makes this many blocks now.
    pub fn advance(&self, blocks: usize) {
        let mut chain = lock(&self.shared.chain);
        for _ in 0..blocks {
            chain.advance();
        }
    }

    /// Undoes up to this many of the newest blocks (never final ones); their calls wait again.
    pub fn reorganise(&self, blocks: usize) {
        lock(&self.shared.chain).undo(blocks);
    }

    /// From the next block on (made now, and final) it has another runtime. Waiting calls are lost.
    ///
    /// # Errors
    /// When the metadata cannot be read.
    pub fn upgrade(&self, runtime: MockRuntime) -> std::io::Result<()> {
        let spec = runtime.spec()?;
        let mut chain = lock(&self.shared.chain);
        chain.pool.clear();
        chain.next.spec = spec;
        chain.advance();
        chain.finalize_all();
        Ok(())
    }

    /// Changes a subnet, in a block that is made now and final at once.
    pub fn change(&self, netuid: u16, change: impl FnOnce(&mut MockSubnet)) {
        self.change_state(|state| change(state.subnets.entry(netuid).or_default()));
    }

    fn change_state(&self, change: impl FnOnce(&mut State)) {
        let mut chain = lock(&self.shared.chain);
        change(&mut chain.next);
        chain.advance();
        chain.finalize_all();
    }

    /// A member serves elsewhere, or nothing any more.
    ///
    /// # Panics
    /// When the hotkey is no address.
    pub fn move_axon(&self, netuid: u16, hotkey: &str, axon: Option<SocketAddr>) {
        let hotkey = key(hotkey);
        self.change(netuid, |subnet| {
            for neuron in subnet.neurons.iter_mut().filter(|neuron| neuron.hotkey == hotkey) {
                neuron.axon = axon;
            }
        });
    }

    /// A member is evicted; those behind it move up.
    ///
    /// # Panics
    /// When the hotkey is no address.
    pub fn remove(&self, netuid: u16, hotkey: &str) {
        let hotkey = key(hotkey);
        self.change(netuid, |subnet| subnet.neurons.retain(|neuron| neuron.hotkey != hotkey));
    }

    /// Another member joins.
    pub fn add(&self, netuid: u16, neuron: MockNeuron) {
        self.change_state(|state| {
            state.owners.insert(neuron.hotkey, neuron.coldkey);
            state.subnets.entry(netuid).or_default().neurons.push(neuron);
        });
    }

    /// An account has this much TAO.
    ///
    /// # Panics
    /// When the address is none.
    pub fn set_balance(&self, address: &str, free: Rao) {
        let who = key(address);
        self.change_state(|state| state.accounts.entry(who).or_default().free = free.0);
    }

    /// The clock of the node is this many milliseconds ahead of ours.
    pub fn set_clock_ahead(&self, ms: i64) {
        self.change_state(|state| state.clock_ahead = ms);
    }

    /// Whether columns of the metagraph have other numbers than their places in the struct.
    pub fn shift_columns(&self, by: u16) {
        self.change_state(|state| state.columns_shifted = by);
    }

    /// A subnet as it is after the newest block.
    pub fn subnet(&self, netuid: u16) -> Option<MockSubnet> {
        lock(&self.shared.chain).best().state.subnets.get(&netuid).cloned()
    }

    /// The weights that were set in a subnet: (uid, weight) by the uid of who set them.
    pub fn weights(&self, netuid: u16) -> BTreeMap<u16, Vec<(u16, u16)>> {
        self.subnet(netuid).map(|subnet| subnet.weights).unwrap_or_default()
    }

    /// An account's TAO after the newest block.
    ///
    /// # Panics
    /// When the address is none.
    pub fn balance(&self, address: &str) -> Rao {
        let chain = lock(&self.shared.chain);
        Rao(chain.best().state.accounts.get(&key(address)).map_or(0, |account| account.free))
    }

    /// What it does wrong from now on; replaces what it did wrong before.
    pub fn set_faults<I>(&self, faults: I)
    where
        I: IntoIterator,
        I::Item: Into<FaultRule>,
    {
        *lock(&self.shared.faults) = faults.into_iter().map(Into::into).collect();
    }

    /// Closes every connection; new ones are accepted.
    pub fn drop_connections(&self) {
        for connection in lock(&self.shared.connections).drain(..) {
            connection.cancel();
        }
    }

    /// How often a method was called.
    pub fn requests(&self, method: &str) -> u64 {
        lock(&self.shared.requests).get(method).copied().unwrap_or_default()
    }

    /// Connections so far, closed ones included until [`MockNode::drop_connections`].
    pub fn connections(&self) -> usize {
        lock(&self.shared.connections).len()
    }

    /// Stops and closes everything.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for MockNode {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
