//! The looks of `doctor` at the chain: does every node answer, is it the right chain, has its runtime
//! what is needed, do the clocks agree, is the hotkey registered, and who gets signals.

use std::time::Duration;

use ptn_core::chain::{ChainClient, ChainDirectory, ChainOptions, DirectoryOptions};
use ptn_core::directory::{Validator, ValidatorDirectory as _};
use ptn_miner::config::MinerConfig;

use super::Findings;
use crate::text;

/// For a connection to a node and for each of its answers.
const ANSWER: Duration = Duration::from_secs(5);
/// A block's time is up to 12 s old, and a little more until we hear of it.
const OLD_BLOCK: i64 = 60_000;
/// Validators of bittensor 11 take requests from up to 2 s ahead of their clock.
const AHEAD: i64 = 2_000;

/// Those who get signals, from the chain, and whether our hotkey is registered.
pub(super) async fn validators(
    miner: &MinerConfig,
    chain: &(ChainOptions, DirectoryOptions),
    found: &mut Findings,
) -> Option<Vec<Validator>> {
    let (options, mut directory) = chain.clone();
    let Some(client) = nodes(miner, &options, found).await else {
        saved(&directory, found);
        return None;
    };
    clock(&client, found).await;
    registered(miner, &client, found).await;
    // Looking leaves no file behind.
    directory.cache = None;
    let directory = ChainDirectory::new(client, directory);
    if let Err(e) = directory.refresh().await {
        found.fail("validators", e.to_string(), e.hint());
        return None;
    }
    let list = directory.watch().borrow().clone();
    let targets = miner.policy.targets(&list, text::now());
    let required = targets.iter().filter(|target| target.required).count();
    let copies = targets.len().saturating_sub(required);
    if required == 0 {
        found.fail("validators", miner.policy.nobody(), "see: ptn-cli subnet validators");
    } else {
        let text = format!("{required} must acknowledge, {copies} get a copy");
        found.ok("validators", text);
    }
    let chosen = |v: &&Validator| targets.iter().any(|target| target.hotkey == v.hotkey);
    Some(list.iter().filter(chosen).cloned().collect())
}

/// Asks every node; the first that is usable is asked further. One of several that is down is only
/// worth a warning.
async fn nodes(
    miner: &MinerConfig,
    options: &ChainOptions,
    found: &mut Findings,
) -> Option<ChainClient> {
    let mut usable = None;
    let mut faults = Vec::new();
    for endpoint in &options.endpoints {
        let mut one = options.clone().with_timeouts(ANSWER, ANSWER);
        one.endpoints = vec![endpoint.clone()];
        let client = ChainClient::new(one);
        let node = match client.connect().await {
            Ok(node) => node,
            Err(e) => {
                faults.push(e);
                continue;
            }
        };
        found.ok(
            "chain",
            format!(
                "{} on {}: block {}, runtime {}, first block {}",
                node.endpoint, miner.network, node.block, node.spec_version, node.genesis
            ),
        );
        for missing in node.missing {
            let text = format!("the runtime lacks {missing}");
            found.warn("chain", text, "deliveries go on; see whether there is a newer release");
        }
        usable = usable.or(Some(client));
    }
    for fault in faults {
        match usable {
            Some(_) => found.warn("chain", fault.to_string(), fault.hint()),
            None => found.fail("chain", fault.to_string(), fault.hint()),
        }
    }
    usable
}

/// Without the chain a miner starts from the list of an earlier run.
fn saved(directory: &DirectoryOptions, found: &mut Findings) {
    match directory.cache.as_ref().map(|cache| cache.load()) {
        Some(Ok(Some(saved))) => {
            let age = text::age(saved.read_at, text::now());
            let (members, block) = (saved.neurons.len(), saved.block);
            found.ok(
                "saved list",
                format!(
                    "{members} members of block {block}, {age} old: a miner starts with it while \
                     the chain is down"
                ),
            );
        }
        Some(Err(e)) => found.fail("saved list", e.to_string(), e.hint()),
        _ => found.fail(
            "saved list",
            "none yet: without the chain the miner does not start",
            "reach the chain once, or give a list by hand with --validators FILE",
        ),
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

async fn registered(miner: &MinerConfig, client: &ChainClient, found: &mut Findings) {
    let hotkey = miner.wallet.hotkey_state().and_then(|state| state.address);
    let Some(hotkey) = hotkey else { return };
    match client.uid_of(miner.netuid, &hotkey).await {
        Ok(Some(uid)) => found.ok("registered", format!("uid {uid} in subnet {}", miner.netuid)),
        Ok(None) => found.fail(
            "registered",
            format!("{hotkey} is not registered in subnet {}", miner.netuid),
            miner.registering(),
        ),
        Err(e) => found.fail("registered", e.to_string(), e.hint()),
    }
}
