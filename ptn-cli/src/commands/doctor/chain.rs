//! What `doctor` looks at on the chain: does every node answer, is it the right chain, is the hotkey
//! registered, do the clocks agree. Reads only.

use std::time::Duration;

use ptn_core::chain::{
    ChainClient, ChainDirectory, ChainOptions, DirectoryOptions, MetagraphCache,
};
use ptn_core::directory::ValidatorDirectory as _;
use ptn_core::ops::config::Settings;
use ptn_core::ops::{chain, wallet};
use ptn_core::transport::address::AddressPolicy;
use ptn_miner::config::MinerConfig;

use super::Findings;
use crate::text;

/// A node that needs longer is of no use to somebody who waits.
const PATIENCE: Duration = Duration::from_secs(8);
/// A block's time is up to 12 s old, and a little more until we hear of it.
const OLD_BLOCK: i64 = 60_000;
/// Validators of bittensor 11 take requests from up to 2 s ahead of their clock.
const AHEAD: i64 = 2_000;

/// Everything about the chain that the settings name.
pub(super) async fn look(settings: &Settings, miner: Option<&MinerConfig>, found: &mut Findings) {
    let netuid = chain::network(settings).and_then(|network| chain::netuid(settings, network));
    let (options, netuid) = match (chain::options(settings), netuid) {
        (Ok(options), Ok(netuid)) => (options, netuid),
        // The look at all settings has said so.
        _ => return,
    };
    let mut usable = None;
    let mut faults = Vec::new();
    for endpoint in &options.endpoints {
        match node(endpoint, &options).await {
            Ok((client, message)) => {
                found.ok("chain", message);
                usable = usable.or(Some(client));
            }
            Err(fault) => faults.push(fault),
        }
    }
    let down = usable.is_none();
    for (message, next) in faults {
        if down {
            found.fail("chain", message, next);
        } else {
            found.warn("chain", message, next);
        }
    }
    let Some(client) = usable else { return saved(settings, netuid, found) };
    clock(&client, found).await;
    let address = wallet::place(settings).ok().and_then(|place| place.hotkey_state()?.address);
    if let Some(address) = address {
        registered(&client, settings, netuid, &address, found).await;
    }
    validators(client, settings, netuid, miner, found).await;
}

async fn node(
    endpoint: &str,
    options: &ChainOptions,
) -> Result<(ChainClient, String), (String, String)> {
    let mut one = options.clone().with_timeouts(PATIENCE, PATIENCE);
    one.endpoints = vec![endpoint.to_owned()];
    let client = ChainClient::new(one);
    match client.connect().await {
        Ok(node) => {
            let message = format!(
                "{}: block {}, runtime {}, first block {}",
                node.endpoint, node.block, node.spec_version, node.genesis
            );
            Ok((client, message))
        }
        Err(e) => Err((e.to_string(), e.hint().to_owned())),
    }
}

/// Without the chain a miner starts from the list of an earlier run.
fn saved(settings: &Settings, netuid: u16, found: &mut Findings) {
    match MetagraphCache::new(&settings.data_dir(), netuid).load() {
        Ok(Some(saved)) => found.ok(
            "saved list",
            format!(
                "{} members of block {}, {} old: the miner starts with it while the chain is down",
                saved.neurons.len(),
                saved.block,
                text::age(saved.read_at, text::now()),
            ),
        ),
        Ok(None) => found.fail(
            "saved list",
            "none yet: without the chain the miner does not start",
            "reach the chain once, or give a list by hand with --validators FILE",
        ),
        Err(e) => found.fail("saved list", e.to_string(), e.hint()),
    }
}

async fn clock(client: &ChainClient, found: &mut Findings) {
    let Ok((block, Some(time))) = client.newest_block().await else { return };
    let behind = text::now().saturating_sub(time);
    let seconds = behind / 1000;
    if behind < -AHEAD {
        found.fail(
            "clock",
            format!("block {block} is from {} s in the future: the clock here is behind", -seconds),
            "set the clock (timedatectl): validators refuse requests that are more than seconds off",
        );
    } else if behind > OLD_BLOCK {
        found.warn(
            "clock",
            format!(
                "the newest block ({block}) is {seconds} s old: the clock here is ahead, or the node \
                 is behind"
            ),
            "compare with another clock (timedatectl) and another --subtensor.chain_endpoint",
        );
    } else {
        found.ok("clock", format!("it agrees with the chain's: block {block} is {seconds} s old"));
    }
}

async fn registered(
    client: &ChainClient,
    settings: &Settings,
    netuid: u16,
    hotkey: &str,
    found: &mut Findings,
) {
    match client.uid_of(netuid, hotkey).await {
        Ok(Some(uid)) => found.ok("registered", format!("uid {uid} on subnet {netuid}")),
        Ok(None) => {
            let network = settings.get("subtensor.network").unwrap_or("finney");
            found.fail(
                "registered",
                format!("{hotkey} is not registered on subnet {netuid} of {network}"),
                format!("ptn-cli subnet register --netuid {netuid} --subtensor.network {network}"),
            );
        }
        Err(e) => found.fail("registered", e.to_string(), e.hint()),
    }
}

async fn validators(
    client: ChainClient,
    settings: &Settings,
    netuid: u16,
    miner: Option<&MinerConfig>,
    found: &mut Findings,
) {
    // Looking leaves no file behind: no cache.
    let directory = ChainDirectory::new(client, DirectoryOptions::new(netuid));
    if let Err(e) = directory.refresh().await {
        return found.fail("validators", e.to_string(), e.hint());
    }
    let state = directory.state();
    let Some(metagraph) = state.borrow().metagraph.clone() else { return };
    let serving = metagraph.neurons.iter().filter_map(|n| Some((n, n.axon?)));
    let permitted: Vec<_> = serving.filter(|(n, _)| n.validator_permit).collect();
    let message = format!("{} with a permit serve on the chain", permitted.len());
    if permitted.is_empty() {
        return found.fail("validators", message, "check --netuid and --subtensor.network");
    }
    let list = directory.watch().borrow().clone();
    if let Some(miner) = miner {
        let targets = miner.policy.targets(&list, text::now());
        let required = targets.iter().filter(|target| target.required).count();
        if required == 0 {
            let next = "see: ptn-cli subnet validators";
            return found.fail("validators", miner.policy.nobody(), next);
        }
        let copies = targets.len().saturating_sub(required);
        let text = format!("{message}: {required} must acknowledge, {copies} get a copy");
        found.ok("validators", text);
    } else {
        found.ok("validators", message);
    }
    let public = chain::network(settings).is_ok_and(|network| network.is_public());
    let policy = if public { AddressPolicy::Public } else { AddressPolicy::AllowPrivate };
    for (neuron, axon) in permitted {
        if let Err(why) = policy.check(axon) {
            found.warn(
                "validators",
                format!("{} at {axon}: {why}; it is not called", text::short_key(&neuron.hotkey)),
                "only --subtensor.network local may call such addresses",
            );
        }
    }
}
