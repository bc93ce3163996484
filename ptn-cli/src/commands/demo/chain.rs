//! The demo's chain: a node double on which the validators are registered, and the miner's hotkey by
//! a call that is signed, included and final as on a real chain.

use ptn_core::chain::mock::{MockNeuron, MockNode};
use ptn_core::chain::{ChainClient, ChainOptions, Place, Rao};
use ptn_core::directory::Wire;
use ptn_core::sign::{Hotkey, Signer as _};
use serde_json::{Value, json};

use super::network::Peer;
use crate::failure::Failure;
use crate::text;

const NETUID: u16 = 8;
/// A share of 65535.
const FULL_TRUST: u16 = 65_535;
const FUNDS: Rao = Rao(10_000_000_000);

/// The node, and how the hotkey came into the subnet.
pub(super) struct DemoChain {
    node: MockNode,
    uid: u16,
    price: Rao,
    place: Place,
    extrinsic: String,
    wires: Vec<String>,
}

impl DemoChain {
    pub(super) async fn start(peers: &[Peer], hotkey: &Hotkey) -> Result<Self, Failure> {
        let coldkey = Hotkey::generate();
        let mut builder = MockNode::builder().balance(coldkey.hotkey(), FUNDS);
        for peer in peers {
            let v = &peer.validator;
            // Every validator has an owner of its own.
            let owner = Hotkey::generate();
            let neuron = MockNeuron::validator(v.hotkey(), owner.hotkey(), v.address(), FULL_TRUST);
            builder = builder.neuron(NETUID, neuron);
        }
        let node = builder.start().await;
        let node = node.map_err(|e| Failure::io("cannot listen on", "127.0.0.1", &e))?;
        let client = ChainClient::new(ChainOptions::endpoints([node.url()])?);
        let (call, terms) = client.registration_call(NETUID, hotkey.hotkey(), FUNDS).await?;
        let progress = client.submit(&call, &coldkey).await?;
        let extrinsic = progress.hash();
        let place = Box::pin(progress.wait_final()).await?;
        let uid = client.uid_of(NETUID, hotkey.hotkey()).await?;
        let uid = uid.ok_or_else(|| Failure::failed("demo", "the hotkey was not registered"))?;
        let other = peers.iter().filter(|peer| peer.wire != Wire::default());
        let wires = other.map(|p| format!("{}={}", p.validator.hotkey(), p.wire.as_str()));
        let wires = wires.collect();
        Ok(Self { node, uid, price: terms.price, place, extrinsic, wires })
    }

    /// What the miner must be told.
    pub(super) fn flags(&self) -> Vec<(&'static str, String)> {
        let mut flags =
            vec![("--subtensor.chain_endpoint", self.node.url()), ("--netuid", NETUID.to_string())];
        if !self.wires.is_empty() {
            flags.push(("--delivery.wire-for", self.wires.join(",")));
        }
        flags
    }

    /// For the introduction.
    pub(super) fn lines(&self) -> [String; 2] {
        [
            format!("{}   (a node double with the validators)", self.node.url()),
            format!(
                "hotkey registered for {}: uid {} of subnet {NETUID}, block {}",
                text::tao(self.price),
                self.uid,
                self.place.number
            ),
        ]
    }

    pub(super) fn document(&self) -> Value {
        json!({
            "url": self.node.url(),
            "netuid": NETUID,
            "uid": self.uid,
            "price_tao": self.price.to_string(),
            "extrinsic": self.extrinsic,
            "block": self.place.number,
            "connections": self.node.connections(),
        })
    }

    pub(super) async fn stop(self) {
        self.node.shutdown().await;
    }
}
