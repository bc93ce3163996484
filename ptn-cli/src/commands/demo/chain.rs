//! The demo's chain: a node double on which the validators are registered, and the miner's hotkey by
//! a call that is signed, included and final as on a real chain.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ptn_core::chain::mock::{MockNeuron, MockNode};
use ptn_core::chain::{ChainClient, ChainOptions, Place, Rao};
use ptn_core::directory::Wire;
use ptn_core::sign::{Hotkey, Signer as _};
use serde_json::{Value, json};

use super::network::Peer;
use super::paper::Field;
use crate::commands::paper::on_chain::{OnChain, Told};
use crate::failure::Failure;
use crate::text;

const NETUID: u16 = 8;
/// A share of 65535.
const FULL_TRUST: u16 = 65_535;
/// The subnet's owner, who gets what nobody earned.
const BURN_UID: u16 = 0;
/// So many validators set their weights.
const SETTERS: usize = 3;
/// For the first weights to be final.
const PATIENCE: Duration = Duration::from_secs(10);
const FUNDS: Rao = Rao(10_000_000_000);

/// The node, and how the hotkey came into the subnet.
pub(super) struct DemoChain {
    node: MockNode,
    uid: u16,
    price: Rao,
    place: Place,
    extrinsic: String,
    wires: Vec<String>,
    weights: Arc<Mutex<Vec<Told>>>,
    client: ChainClient,
}

/// What a validator has set.
pub(super) struct Weights {
    validator: String,
    /// How often weights of any validator were set.
    times: usize,
    block: u64,
    shares: Vec<(u16, f64)>,
}

impl DemoChain {
    pub(super) async fn start(
        peers: &[Peer],
        field: Option<&Field>,
        hotkey: &Hotkey,
    ) -> Result<Self, Failure> {
        let coldkey = Hotkey::generate();
        let owner = Hotkey::generate();
        let mut builder = MockNode::builder().balance(coldkey.hotkey(), FUNDS);
        builder = builder.neuron(NETUID, MockNeuron::new(owner.hotkey(), owner.hotkey()));
        for peer in peers {
            let v = &peer.validator;
            // Every validator has an owner of its own.
            let owner = Hotkey::generate();
            let neuron = MockNeuron::validator(v.hotkey(), owner.hotkey(), v.address(), FULL_TRUST);
            builder = builder.neuron(NETUID, neuron);
        }
        for reference in field.into_iter().flat_map(Field::references) {
            let owner = Hotkey::generate();
            builder = builder.neuron(NETUID, MockNeuron::new(&reference.hotkey, owner.hotkey()));
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
        let weights = Arc::new(Mutex::new(Vec::new()));
        for peer in peers.iter().take(SETTERS) {
            set_weights(&node, peer, &weights)?;
        }
        Ok(Self { node, uid, price: terms.price, place, extrinsic, wires, weights, client })
    }

    fn told(&self) -> Vec<Told> {
        self.weights.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The weights of the first validator that has set some, as they stand on the chain; nothing
    /// while nobody has earned any.
    pub(super) async fn weights(&self, peers: &[Peer]) -> Result<Option<Weights>, Failure> {
        if peers.iter().all(|peer| peer.desk.is_none()) {
            return Ok(None);
        }
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let told = self.told();
            if !told.is_empty() && told.iter().all(|told| matches!(told, Told::Nothing { .. })) {
                return Ok(None);
            }
            let times = told.iter().filter(|told| matches!(told, Told::Set { .. })).count();
            let on_chain = self.client.weights(NETUID).await?;
            // In 2024 a validator has none to set while nobody's position was long enough at it.
            let set = peers.iter().find_map(|peer| {
                let hotkey = Some(peer.validator.hotkey());
                let row = on_chain.rows.iter().find(|row| row.hotkey.as_deref() == hotkey)?;
                (!row.weights.is_empty()).then_some((peer, row))
            });
            if let Some((peer, row)) = set.filter(|_| times > 0) {
                let shares = row.weights.iter().map(|weight| (weight.uid, row.share(weight)));
                return Ok(Some(Weights {
                    validator: peer.name.clone(),
                    times,
                    block: row.last_update,
                    shares: shares.collect(),
                }));
            }
            if tokio::time::Instant::now() > deadline {
                let why = self.told().into_iter().find_map(|told| match told {
                    Told::Failed { error, .. } => Some(error.to_string()),
                    _ => None,
                });
                let text = format!(
                    "no weights were set: {}",
                    why.unwrap_or_else(|| "no round was closed".to_owned())
                );
                return Err(Failure::failed("demo_weights", text));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
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

    /// How to look at the weights while the demo stays up.
    pub(super) fn look(&self) -> String {
        format!("subnet weights --netuid {NETUID} --subtensor.chain_endpoint {}", self.node.url())
    }

    pub(super) async fn stop(self) {
        self.node.shutdown().await;
    }
}

/// A task that sets a validator's weights until its desk ends.
fn set_weights(node: &MockNode, peer: &Peer, told: &Arc<Mutex<Vec<Told>>>) -> Result<(), Failure> {
    let Some(desk) = peer.desk.clone() else { return Ok(()) };
    let hotkey = Arc::clone(&peer.key);
    let client = OnChain::client(&node.url())?;
    let setter = OnChain { client, netuid: NETUID, hotkey, burn_uid: Some(BURN_UID) };
    let told = Arc::clone(told);
    // It ends with the desk.
    tokio::spawn(setter.follow(desk, move |what| {
        told.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }));
    Ok(())
}

impl Weights {
    /// For the summary.
    pub(super) fn line(&self) -> String {
        let shares = self.shares.iter().map(|(uid, share)| format!("uid {uid} {share:.6}"));
        format!(
            "weights on the chain, set {} by real extrinsics; {}'s, of block {}: {}",
            text::count(self.times, "time"),
            self.validator,
            self.block,
            shares.collect::<Vec<_>>().join(", ")
        )
    }

    pub(super) fn document(&self) -> Value {
        let shares = self.shares.iter().map(|(uid, share)| json!({"uid": uid, "share": share}));
        json!({
            "validator": self.validator,
            "times": self.times,
            "block": self.block,
            "shares": shares.collect::<Vec<_>>(),
        })
    }
}
