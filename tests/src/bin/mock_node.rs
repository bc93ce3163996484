//! A node double as a process of its own, for transcripts of the command line: prints its address
//! as one line of JSON, then what happens to its chain is up to its clients. Ends with its stdin.
//!
//! `mock_node [--port N] [--balance ADDRESS=TAO] [--subnet N] [--burn N=TAO]
//! [--neuron NETUID,HOTKEY,COLDKEY[,IP:PORT,TRUST]]`, trust as a share of 65535; every flag but the
//! first may be repeated.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test program: what it is told is right, or it fails"
)]

use ptn_core::chain::Rao;
use ptn_core::chain::mock::{MockNeuron, MockNode};
use tokio::io::AsyncReadExt as _;

fn pair(text: &str) -> (&str, Rao) {
    let (left, tao) = text.split_once('=').expect("NAME=TAO");
    (left, tao.parse().expect("an amount of TAO"))
}

fn neuron(text: &str) -> (u16, MockNeuron) {
    match text.split(',').collect::<Vec<_>>().as_slice() {
        [netuid, hotkey, coldkey] => (netuid.parse().unwrap(), MockNeuron::new(hotkey, coldkey)),
        [netuid, hotkey, coldkey, axon, trust] => {
            let axon = axon.parse().expect("IP:PORT");
            let trust = trust.parse().expect("0 to 65535");
            (netuid.parse().unwrap(), MockNeuron::validator(hotkey, coldkey, axon, trust))
        }
        _ => panic!("--neuron NETUID,HOTKEY,COLDKEY[,IP:PORT,TRUST]"),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut builder = MockNode::builder();
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let value = arguments.next().expect("a value after every flag");
        builder = match flag.as_str() {
            "--port" => builder.port(value.parse().expect("a port")),
            "--balance" => {
                let (address, amount) = pair(&value);
                builder.balance(address, amount)
            }
            "--subnet" => builder.subnet(value.parse().expect("a netuid"), |_| {}),
            "--burn" => {
                let (netuid, burn) = pair(&value);
                builder.subnet(netuid.parse().expect("a netuid"), |subnet| subnet.burn = burn)
            }
            "--neuron" => {
                let (netuid, neuron) = neuron(&value);
                builder.neuron(netuid, neuron)
            }
            other => panic!("unknown flag {other}"),
        };
    }
    let node = builder.start().await.expect("a free port");
    println!("{}", serde_json::json!({ "url": node.url(), "genesis": node.genesis() }));
    let mut rest = Vec::new();
    tokio::io::stdin().read_to_end(&mut rest).await.expect("stdin");
    node.shutdown().await;
}
