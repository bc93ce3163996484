//! What several accounts have, at one block: their TAO, and the subnets that their hotkeys are in.
//!
//! For overviews of whole wallets. One account is left to [`super::account`], what a hotkey is in a
//! subnet to [`super::metagraph`].

use std::collections::BTreeSet;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use subxt::metadata::StorageHasher;
use subxt::utils::AccountId32;

use super::account::{Balance, account, balance};
use super::client::ChainClient;
use super::error::ChainError;
use super::link::At;
use super::shape::{StorageShape, is_number};

const MEMBER: StorageShape = StorageShape::subtensor("IsNetworkMember", 2);
const FOR_MEMBER: &str = "finding the subnets of a hotkey";
/// Questions on their way at the same time.
const AT_ONCE: usize = 16;
/// There are fewer subnets than this.
const MOST_SUBNETS: u32 = 1000;

impl ChainClient {
    /// The TAO of several accounts, all at the same block, in the order of the addresses.
    ///
    /// # Errors
    /// When one is no address, or no node answers usably.
    pub async fn balances<A: AsRef<str>>(
        &self,
        addresses: &[A],
    ) -> Result<Vec<Balance>, ChainError> {
        let accounts = accounts(addresses)?;
        self.read(|at: At| {
            let accounts = accounts.clone();
            async move {
                let asked = accounts.into_iter().map(|who| balance(&at, who));
                stream::iter(asked).buffered(AT_ONCE).try_collect().await
            }
        })
        .await
    }

    /// The subnets in which at least one of these hotkeys is registered.
    ///
    /// # Errors
    /// When one is no address, no node answers usably, or the runtime lacks the list.
    pub async fn subnets_of<A: AsRef<str>>(
        &self,
        hotkeys: &[A],
    ) -> Result<BTreeSet<u16>, ChainError> {
        let accounts = accounts(hotkeys)?;
        self.read(|at: At| {
            let accounts = accounts.clone();
            async move {
                let asked = accounts.into_iter().map(|hotkey| subnets(&at, hotkey));
                let each: Vec<Vec<u16>> =
                    stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
                Ok(each.into_iter().flatten().collect())
            }
        })
        .await
    }
}

fn accounts<A: AsRef<str>>(addresses: &[A]) -> Result<Vec<AccountId32>, ChainError> {
    addresses.iter().map(|address| account(address.as_ref())).collect()
}

/// The entry's keys are hotkey and subnet, so the subnets are the ends of the keys that begin with
/// the hotkey.
async fn subnets(at: &At, hotkey: AccountId32) -> Result<Vec<u16>, ChainError> {
    let metadata = at.runtime.metadata();
    if let Some(shape) = MEMBER.missing(metadata) {
        return Err(at.missing(shape, FOR_MEMBER));
    }
    let entry = metadata
        .pallet_by_name(MEMBER.pallet)
        .and_then(|pallet| pallet.storage())
        .and_then(|storage| storage.entry_by_name(MEMBER.entry));
    let readable = entry.and_then(|entry| entry.keys().nth(1)).is_some_and(|key| {
        key.hasher == StorageHasher::Identity && is_number(metadata.types(), key.key_id, 16)
    });
    let unfit = |why: String| {
        let shape = format!("storage {}.{}: {why}", MEMBER.pallet, MEMBER.entry);
        at.missing(shape, FOR_MEMBER)
    };
    if !readable {
        return Err(unfit("its second key is no subnet's number".to_owned()));
    }
    let address = subxt::dynamic::storage::<(AccountId32, u16), ()>(MEMBER.pallet, MEMBER.entry);
    let client = at.runtime.offline.storage();
    let prefix = client
        .entry(address)
        .and_then(|entry| entry.iter_key((hotkey,)))
        .map_err(|e| unfit(e.to_string()))?;
    let methods = &at.link.methods;
    let keys = methods.state_get_keys_paged(&prefix, MOST_SUBNETS, None, Some(at.hash)).await;
    let keys = keys.map_err(|e| at.link.fault("the subnets of a hotkey", e))?;
    let number = |key: &Vec<u8>| {
        let rest = key.strip_prefix(prefix.as_slice())?;
        Some(u16::from_le_bytes(rest.try_into().ok()?))
    };
    keys.iter()
        .map(|key| {
            number(key).ok_or_else(|| at.link.bad_answer("the subnets of a hotkey", "other keys"))
        })
        .collect()
}
