//! The looks of `doctor` at the chain: does a node answer, has its runtime what is needed, is the
//! hotkey registered, and who gets signals.

use std::time::Duration;

use ptn_core::chain::{ChainClient, ChainDirectory, ChainOptions, DirectoryOptions};
use ptn_core::directory::{Validator, ValidatorDirectory as _};
use ptn_miner::config::MinerConfig;

use super::Findings;
use crate::text;

/// For a connection to a node and for each of its answers.
const ANSWER: Duration = Duration::from_secs(5);

/// Those who get signals, from the chain, and whether our hotkey is registered.
pub(super) async fn validators(
    miner: &MinerConfig,
    chain: &(ChainOptions, DirectoryOptions),
    found: &mut Findings,
) -> Option<Vec<Validator>> {
    let (options, mut directory) = chain.clone();
    let client = ChainClient::new(options.with_timeouts(ANSWER, ANSWER));
    let node = match client.connect().await {
        Ok(node) => node,
        Err(e) => {
            let saved = directory.cache.as_ref().is_some_and(|cache| cache.path().exists());
            if saved {
                let next =
                    format!("a miner starts with the saved list of validators. {}", e.hint());
                found.warn("chain", e.to_string(), next);
            } else {
                found.fail("chain", e.to_string(), e.hint());
            }
            return None;
        }
    };
    found.ok(
        "chain",
        format!(
            "{} on {}: block {}, runtime {}",
            node.endpoint, miner.network, node.block, node.spec_version
        ),
    );
    for missing in node.missing {
        let text = format!("the runtime lacks {missing}");
        found.warn("chain", text, "deliveries go on; see whether there is a newer release");
    }
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

async fn registered(miner: &MinerConfig, client: &ChainClient, found: &mut Findings) {
    let hotkey = miner.wallet.hotkey_state().and_then(|state| state.address);
    let Some(hotkey) = hotkey else { return };
    match client.uid_of(miner.netuid, &hotkey).await {
        Ok(Some(uid)) => found.ok("registered", format!("uid {uid} in subnet {}", miner.netuid)),
        Ok(None) => found.fail(
            "registered",
            format!("{hotkey} is not registered in subnet {}", miner.netuid),
            format!(
                "ptn-cli subnet register --netuid {} --subtensor.network {} --wallet.name {} \
                 --wallet.hotkey {}",
                miner.netuid,
                miner.network,
                miner.wallet.wallet(),
                miner.wallet.hotkey_name()
            ),
        ),
        Err(e) => found.fail("registered", e.to_string(), e.hint()),
    }
}
