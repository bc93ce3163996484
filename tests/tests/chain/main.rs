//! The chain client against a node double, through real sockets: what is read, what is sent, and
//! what happens when nodes die, stall, lie, reorganise and upgrade. The client is the same code
//! that talks to a real node.
//!
//! The metadata of real runtimes is not in the repository. `PTN_CHAIN_METADATA` names a folder with
//! it (`finney-spec365.scale`, ...), which CI sets: where it is set, every missing file fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout,
    reason = "a failed expectation is how a test fails"
)]

mod directory;
mod double;
mod failover;
mod lost;
mod reads;
mod real;
mod upgrades;
mod weights;
mod writes;

use std::net::SocketAddr;
use std::time::Duration;

use ptn_core::chain::mock::{MockBuilder, MockNeuron, MockNode};
use ptn_core::chain::{ChainClient, ChainOptions, Rao};
use ptn_core::sign::{Hotkey, Signer as _};

/// One TAO.
const TAO: u64 = 1_000_000_000;
const NETUID: u16 = 8;

/// A key that is the same in every run.
fn key(seed: u8) -> Hotkey {
    Hotkey::from_seed([seed; 32])
}

fn address(seed: u8) -> String {
    key(seed).hotkey().to_owned()
}

/// The coldkey that pays in these tests.
fn coldkey() -> Hotkey {
    key(200)
}

fn axon(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// A subnet of three: two validators and one that serves nothing. The coldkey has ten TAO.
fn builder() -> MockBuilder {
    let mut second = MockNeuron::validator(&address(2), &address(102), axon(8092), 32_768);
    second.scores = [1, 2, 3, 4, 5];
    second.stake = ptn_core::chain::Alpha(1_234_567_890_123);
    MockNode::builder()
        .neuron(NETUID, MockNeuron::validator(&address(1), &address(101), axon(8091), 65_535))
        .neuron(NETUID, second)
        .neuron(NETUID, MockNeuron::new(&address(3), &address(103)))
        .balance(coldkey().hotkey(), Rao(10 * TAO))
        .block_time(Some(Duration::from_millis(20)))
}

/// Short limits, so that stalling nodes are given up quickly.
fn options(urls: &[String]) -> ChainOptions {
    let mut options = ChainOptions::endpoints(urls)
        .unwrap()
        .with_timeouts(Duration::from_secs(2), Duration::from_secs(2));
    options.max_behind = 20;
    options.progress_timeout = Duration::from_secs(2);
    options.search_interval = Duration::from_millis(20);
    options
}

fn client(node: &MockNode) -> ChainClient {
    ChainClient::new(options(&[node.url()]))
}

/// A port on which nobody listens.
fn dead_end() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("ws://{}", listener.local_addr().unwrap())
}
