//! The real miner with validators from the chain: a node double and loopback validators in this
//! process, miners as processes of their own, real sockets in between.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is how a test fails"
)]

mod follow;
mod several;
mod start;
mod wires;

use std::net::SocketAddr;
use std::time::Duration;

use ptn_core::chain::mock::{MockBuilder, MockNeuron, MockNode};
use ptn_core::sign::{Hotkey, Signer as _};
use ptn_core::validator::{LoopbackValidator, ValidatorOptions, Verdict};
use ptn_tests::http::request;
use ptn_tests::process::{Daemon, PATIENCE};
use serde_json::{Value, json};

const MINER: &str = env!("CARGO_BIN_EXE_ptn-miner-under-test");
const NETUID: u16 = 8;
const SERVE: [&str; 2] = ["--server.listen", "127.0.0.1:0"];

/// A coldkey that owns whatever is registered here.
fn coldkey() -> String {
    Hotkey::from_seed([200; 32]).hotkey().to_owned()
}

async fn validator() -> LoopbackValidator {
    LoopbackValidator::start(ValidatorOptions::default()).await.unwrap()
}

/// A node whose subnet has these validators, with full trust, and these miners.
fn subnet(validators: &[(&str, SocketAddr)], miners: &[&str]) -> MockBuilder {
    let mut builder = MockNode::builder().block_time(Some(Duration::from_millis(20)));
    for (hotkey, axon) in validators {
        let neuron = MockNeuron::validator(hotkey, &coldkey(), *axon, 65_535);
        builder = builder.neuron(NETUID, neuron);
    }
    for hotkey in miners {
        builder = builder.neuron(NETUID, MockNeuron::new(hotkey, &coldkey()));
    }
    builder
}

async fn node(v: &LoopbackValidator, miner: &str) -> MockNode {
    subnet(&[(v.hotkey(), v.address())], &[miner]).start().await.unwrap()
}

/// The port of a node or a validator that is about to stop.
fn port(url: &str) -> u16 {
    url.rsplit(':').next().unwrap().parse().unwrap()
}

/// An address on which nobody listens.
fn nobody() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn order(uuid: &str, pair: &str) -> String {
    json!({"trade_pair": pair, "order_type": "long", "leverage": "0.1", "order_uuid": uuid})
        .to_string()
}

fn processed(v: &LoopbackValidator) -> Vec<String> {
    let accepted = v.received().into_iter().filter(|r| r.verdict == Verdict::Accepted);
    accepted.map(|r| r.order_uuid.clone()).collect()
}

/// The miner says that it listens; where its server and its monitor are.
async fn listening(miner: &mut Daemon) -> (String, String) {
    let up = miner.line(|v| v["message"] == "listening").await;
    let text = |name: &str| up[name].as_str().unwrap_or_default().to_owned();
    (text("server"), text("monitor"))
}

async fn delivering(miner: &mut Daemon) {
    miner.line(|v| v["message"] == "delivering").await;
}

async fn get(address: &str, path: &str) -> Value {
    request(address, hyper::Method::GET, path, &[], "").await.1
}

/// Waits until `/health` is as wanted.
async fn health(address: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        let health = get(address, "/health").await;
        if wanted(&health) {
            return health;
        }
        assert!(tokio::time::Instant::now() < end, "{health:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A free port for flags that need a number.
fn free_port() -> String {
    nobody().port().to_string()
}
