//! The weights of a subnet at one block: what each validator gives to whom.
//!
//! One storage entry per validator, keyed by the subnet and the validator's uid, holds pairs of uid
//! and weight. They are read together with the members of the same block, so every uid has the
//! hotkey that it had then, and the block in which the weights were set last. Sending weights is
//! left to [`Call::set_weights`](super::Call::set_weights), working them out to `paper::weights`.
//!
//! Subnets with several mechanisms keep a table for each under numbers of their own; this is the
//! first, which has the subnet's number and is the only one of most subnets.

use serde::Serialize;
use subxt::ext::codec::Decode as _;
use subxt::metadata::{Metadata, StorageHasher};

use super::account;
use super::client::ChainClient;
use super::error::ChainError;
use super::link::At;
use super::metagraph::{self, Metagraph};
use super::shape::{self, Reason, StorageShape, is_number};
use crate::store::now_ms;

const WEIGHTS: StorageShape = StorageShape::subtensor("Weights", 2);
pub(super) const NEEDED_FOR: &str = "reading the weights of a subnet";
/// The most keys that a node gives in one answer.
const PAGE: u32 = 1000;

/// One weight: how much of a validator's row goes to a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Weight {
    /// The member's number.
    pub uid: u16,
    /// ss58 address of its hotkey; absent when the number has no member now.
    pub hotkey: Option<String>,
    /// The number on the chain. The highest of a row is 65535 when it was set there.
    pub raw: u16,
}

/// What one validator set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct WeightRow {
    /// The validator's number.
    pub uid: u16,
    /// ss58 address of its hotkey; absent when the number has no member now.
    pub hotkey: Option<String>,
    /// Whether it may set weights now.
    pub validator_permit: bool,
    /// The block in which it last set weights, or committed to them; zero when it never did.
    pub last_update: u64,
    /// Its weights, as they are on the chain.
    pub weights: Vec<Weight>,
}

impl WeightRow {
    /// All its raw weights together.
    pub fn sum(&self) -> u64 {
        self.weights.iter().map(|weight| u64::from(weight.raw)).sum()
    }

    /// A weight as a share of its row, 0 to 1: that is how the chain counts it.
    pub fn share(&self, weight: &Weight) -> f64 {
        match self.sum() {
            0 => 0.0,
            #[allow(clippy::cast_precision_loss, reason = "4096 weights of 16 bits are exact")]
            sum => f64::from(weight.raw) / sum as f64,
        }
    }
}

/// The weights of a subnet at one block.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubnetWeights {
    /// A row for everyone who has weights on the chain, by uid.
    pub rows: Vec<WeightRow>,
    /// Whether the subnet takes weights only as commitments that are revealed later; absent where
    /// the runtime does not say. Then a row is what was revealed last, and is older than
    /// `last_update`.
    pub commit_reveal: Option<bool>,
    /// The members at the same block.
    pub metagraph: Metagraph,
}

impl SubnetWeights {
    /// The row of a member; without weights when it has none. Absent when there is no such member.
    pub fn row_of(&self, uid: u16) -> Option<WeightRow> {
        let set = self.rows.iter().find(|row| row.uid == uid).cloned();
        set.or_else(|| {
            let member = self.metagraph.neurons.iter().any(|neuron| neuron.uid == uid);
            member.then(|| row(&self.metagraph, uid, Vec::new()))
        })
    }
}

impl ChainClient {
    /// The weights of a subnet, at the last final block.
    ///
    /// # Errors
    /// When there is no such subnet, no node answers usably, or the runtime lacks something.
    pub async fn weights(&self, netuid: u16) -> Result<SubnetWeights, ChainError> {
        self.read(async |at: At| read(&at, netuid).await).await
    }
}

/// What of this module's needs the runtime has not.
pub(super) fn missing(metadata: &Metadata) -> Option<Reason> {
    if let Some(reason) = WEIGHTS.missing(metadata) {
        return Some(reason);
    }
    let entry = metadata
        .pallet_by_name(WEIGHTS.pallet)
        .and_then(|pallet| pallet.storage())
        .and_then(|storage| storage.entry_by_name(WEIGHTS.entry));
    let readable = entry.and_then(|entry| entry.keys().nth(1)).is_some_and(|key| {
        key.hasher == StorageHasher::Identity && is_number(metadata.types(), key.key_id, 16)
    });
    (!readable).then(|| "storage SubtensorModule.Weights with a uid as its second key".to_owned())
}

async fn read(at: &At, netuid: u16) -> Result<SubnetWeights, ChainError> {
    if let Some(shape) = missing(at.runtime.metadata()) {
        return Err(at.missing(shape, NEEDED_FOR));
    }
    let commit_reveal = async {
        match account::COMMIT_REVEAL.missing(at.runtime.metadata()) {
            Some(_) => Ok(None),
            None => account::commit_reveal(at, netuid).await.map(Some),
        }
    };
    let (metagraph, commit_reveal, rows) =
        tokio::try_join!(metagraph::read(at, netuid, now_ms()), commit_reveal, rows(at, netuid))?;
    let mut rows: Vec<WeightRow> =
        rows.into_iter().map(|(uid, weights)| row(&metagraph, uid, weights)).collect();
    rows.sort_by_key(|row| row.uid);
    Ok(SubnetWeights { rows, commit_reveal, metagraph })
}

fn row(metagraph: &Metagraph, uid: u16, weights: Vec<(u16, u16)>) -> WeightRow {
    let member = |uid: u16| metagraph.neurons.get(usize::from(uid)).filter(|n| n.uid == uid);
    let hotkey = |uid: u16| member(uid).map(|neuron| neuron.hotkey.clone());
    let weights = weights.into_iter().map(|(uid, raw)| Weight { uid, hotkey: hotkey(uid), raw });
    WeightRow {
        uid,
        hotkey: hotkey(uid),
        validator_permit: member(uid).is_some_and(|neuron| neuron.validator_permit),
        last_update: member(uid).map_or(0, |neuron| neuron.last_update),
        weights: weights.collect(),
    }
}

/// Every row of the subnet: which there are is asked first, then all of them at once.
async fn rows(at: &At, netuid: u16) -> Result<Vec<(u16, Vec<(u16, u16)>)>, ChainError> {
    const WHAT: &str = "the weights of a subnet";
    let unfit = |why: String| {
        at.missing(format!("storage {}.{}: {why}", WEIGHTS.pallet, WEIGHTS.entry), NEEDED_FOR)
    };
    let address = subxt::dynamic::storage::<(u16, u16), ()>(WEIGHTS.pallet, WEIGHTS.entry);
    let client = at.runtime.offline.storage();
    let prefix = client
        .entry(address)
        .and_then(|entry| entry.iter_key((netuid,)))
        .map_err(|e| unfit(e.to_string()))?;
    let methods = &at.link.methods;
    let mut keys: Vec<Vec<u8>> = Vec::new();
    loop {
        let last = keys.last().cloned();
        let page =
            methods.state_get_keys_paged(&prefix, PAGE, last.as_deref(), Some(at.hash)).await;
        let page = page.map_err(|e| at.link.fault(WHAT, e))?;
        let whole = page.len() < PAGE as usize;
        keys.extend(page);
        if whole {
            break;
        }
        // There are no more uids than that.
        if keys.len() > usize::from(u16::MAX) {
            return Err(at.link.bad_answer(WHAT, "more rows than there are uids"));
        }
    }
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let sets = methods.state_query_storage_at(keys.iter().map(Vec::as_slice), Some(at.hash)).await;
    let sets = sets.map_err(|e| at.link.fault(WHAT, e))?;
    let metadata = at.runtime.metadata();
    let value = metadata
        .pallet_by_name(WEIGHTS.pallet)
        .and_then(|pallet| pallet.storage()?.entry_by_name(WEIGHTS.entry))
        .map(|entry| entry.value_ty())
        .ok_or_else(|| unfit("it is gone".to_owned()))?;
    let bad = |reason: String| at.link.bad_answer(WHAT, reason);
    let changes = sets.into_iter().flat_map(|set| set.changes);
    changes
        .filter_map(|(key, bytes)| Some((key, bytes?)))
        .map(|(key, bytes)| {
            let mut uid = key.0.strip_prefix(prefix.as_slice()).unwrap_or_default();
            let uid = match u16::decode(&mut uid) {
                Ok(number) if uid.is_empty() => number,
                _ => return Err(bad("other keys than were asked for".to_owned())),
            };
            shape::decode(metadata.types(), value, &bytes.0)
                .map(|pairs| (uid, pairs))
                .map_err(|e| bad(format!("of uid {uid}: {e}")))
        })
        .collect()
}
