//! The metagraph: every neuron of a subnet at one block.
//!
//! Two questions are asked at once, of one fixed block: `get_selective_metagraph` for the columns
//! that are shown or decide who a validator is, and the storage entry `ValidatorTrust`, which no
//! runtime API carries beside the stake. Together with fixing the block (last final block, then its
//! header and runtime version) that is 5 requests in 3 round trips; the answers are about 70 KB of
//! JSON for 256 neurons (the suite measures it). Numbers of columns are positions in the answer's
//! own struct, and what comes back is checked: a runtime that counts differently is asked for
//! everything (`get_metagraph`) instead.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use scale_info::PortableRegistry;
use serde::{Deserialize, Serialize};
use subxt::ext::scale_decode::DecodeAsType;
use subxt::utils::AccountId32;

use super::error::ChainError;
use super::link::{At, Traffic};
use super::network::hash_text;
use super::shape::{Columns, Reason, StorageShape, inside_option, named_fields};
use super::units::Alpha;
use crate::sign::ss58;
use crate::store::UnixMs;

pub(super) const API: &str = "SubnetInfoRuntimeApi";
pub(super) const SELECTIVE: &str = "get_selective_metagraph";
pub(super) const FULL: &str = "get_metagraph";
pub(super) const VALIDATOR_TRUST: StorageShape = StorageShape::subtensor("ValidatorTrust", 1);
const NEEDED_FOR: &str = "reading the metagraph";

/// The columns that are read. `trust` and `rank` are on their way out and may be missing.
const COLUMNS: [&str; 15] = [
    "block",
    "hotkeys",
    "coldkeys",
    "axons",
    "active",
    "validator_permit",
    "last_update",
    "emission",
    "dividends",
    "incentives",
    "consensus",
    "trust",
    "rank",
    "total_stake",
    "tempo",
];
const MAY_BE_MISSING: [&str; 3] = ["trust", "rank", "tempo"];

/// A score of the chain: a share of 65535.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Score(pub u16);

impl Score {
    /// The share, 0 to 1.
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / f64::from(u16::MAX)
    }
}

/// One member of a subnet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Neuron {
    /// Its number in the subnet.
    pub uid: u16,
    /// ss58 address of its hotkey: its identity.
    pub hotkey: String,
    /// ss58 address of the coldkey that owns it.
    pub coldkey: String,
    /// Whether it set weights not too long ago.
    pub active: bool,
    /// Where it listens; absent when it serves nothing (address or port zero).
    pub axon: Option<SocketAddr>,
    /// Total stake: alpha plus weighted TAO, as the chain counts it for consensus.
    pub stake: Alpha,
    /// Rank; zero where the runtime has none any more.
    pub rank: Score,
    /// Trust; zero where the runtime has none any more.
    pub trust: Score,
    /// Consensus.
    pub consensus: Score,
    /// Incentive.
    pub incentive: Score,
    /// Dividends.
    pub dividends: Score,
    /// Emission of the last epoch.
    pub emission: Alpha,
    /// Validator trust.
    pub validator_trust: Score,
    /// Whether it may set weights.
    pub validator_permit: bool,
    /// The block in which it last set weights.
    pub last_update: u64,
}

/// A subnet at one block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Metagraph {
    /// The subnet.
    pub netuid: u16,
    /// The final block that it was read at.
    pub block: u64,
    /// Hash of that block.
    pub block_hash: String,
    /// Hash of the chain's first block: which chain it is.
    pub genesis: String,
    /// Version of the runtime.
    pub spec_version: u32,
    /// When it was read, by our clock.
    pub read_at: UnixMs,
    /// The node that answered.
    #[serde(default)]
    pub endpoint: String,
    /// Its members, in the order of their uids.
    pub neurons: Vec<Neuron>,
    /// What reading it took, the metadata of a new connection apart.
    #[serde(skip)]
    pub traffic: Traffic,
}

impl Metagraph {
    /// The member with this hotkey.
    pub fn neuron(&self, hotkey: &str) -> Option<&Neuron> {
        self.neurons.iter().find(|neuron| neuron.hotkey == hotkey)
    }
}

/// `AxonInfo`, as far as it is of use here.
#[derive(DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
struct AxonInfo {
    ip: u128,
    port: u16,
    ip_type: u8,
}

impl AxonInfo {
    /// IPv4 is the low 32 bits of the number. Zero is "serves nothing".
    fn address(&self) -> Option<SocketAddr> {
        if self.ip == 0 || self.port == 0 {
            return None;
        }
        let ip = match (self.ip_type, u32::try_from(self.ip)) {
            (6, _) | (_, Err(_)) => IpAddr::V6(Ipv6Addr::from(self.ip)),
            (_, Ok(ip)) => IpAddr::V4(Ipv4Addr::from(ip)),
        };
        Some(SocketAddr::new(ip, self.port))
    }
}

/// What this runtime has to read a metagraph with; otherwise what is missing.
pub(super) fn missing(metadata: &subxt::metadata::Metadata) -> Option<Reason> {
    if let Some(shape) = VALIDATOR_TRUST.missing(metadata) {
        return Some(shape);
    }
    let api = metadata.runtime_api_trait_by_name(API);
    let mut reason = format!("runtime API {API}.{FULL}");
    for method in [SELECTIVE, FULL] {
        let Some(output) = api.and_then(|api| api.method_by_name(method)).map(|m| m.output_ty())
        else {
            continue;
        };
        let id = inside_option(metadata.types(), output).unwrap_or(output);
        let fields = named_fields(metadata.types(), id).unwrap_or_default();
        let absent = |column: &&&str| {
            !MAY_BE_MISSING.contains(*column) && !fields.iter().any(|(name, _)| name == *column)
        };
        match COLUMNS.iter().find(|column| absent(column)) {
            None => return None,
            Some(column) => reason = format!("column {column} in {API}.{method}"),
        }
    }
    Some(reason)
}

/// Reads the subnet at this block.
pub(super) async fn read(at: &At, netuid: u16, now: UnixMs) -> Result<Metagraph, ChainError> {
    if let Some(shape) = missing(at.runtime.metadata()) {
        return Err(at.missing(shape, NEEDED_FOR));
    }
    let types = at.runtime.metadata().types();
    let trust = at.storage::<_, Vec<u16>>(VALIDATOR_TRUST, (netuid,), NEEDED_FOR);
    let neurons = match selective_columns(at) {
        Some(columns) => {
            let selective = at.call_api(API, SELECTIVE, (netuid, columns), NEEDED_FOR);
            let (answer, trust) = tokio::try_join!(selective, trust)?;
            let trust = trust.unwrap_or_default();
            match rows(types, &answer, &trust) {
                // Its numbers of columns are others than we think: everything is asked for.
                Err(Unusable::Columns(reason)) if has(at, FULL) => {
                    tracing::debug!(%reason, "asking for the whole metagraph");
                    let answer = at.call_api(API, FULL, (netuid,), NEEDED_FOR).await?;
                    rows(types, &answer, &trust)
                }
                other => other,
            }
        }
        None => {
            let full = at.call_api(API, FULL, (netuid,), NEEDED_FOR);
            let (answer, trust) = tokio::try_join!(full, trust)?;
            rows(types, &answer, &trust.unwrap_or_default())
        }
    };
    let neurons = neurons.map_err(|e| match e {
        Unusable::NoSubnet => ChainError::NoSubnet { netuid },
        Unusable::Columns(reason) => at.link.bad_answer("the metagraph", reason),
    })?;
    Ok(Metagraph {
        netuid,
        block: at.number,
        block_hash: hash_text(at.hash.as_bytes()),
        genesis: hash_text(at.link.genesis.as_bytes()),
        spec_version: at.runtime.spec_version,
        read_at: now,
        endpoint: at.link.endpoint.clone(),
        neurons,
        traffic: Traffic::default(),
    })
}

fn has(at: &At, method: &str) -> bool {
    let api = at.runtime.metadata().runtime_api_trait_by_name(API);
    api.is_some_and(|api| api.method_by_name(method).is_some())
}

/// The numbers of our columns, by their place in the struct that comes back.
fn selective_columns(at: &At) -> Option<Vec<u16>> {
    let metadata = at.runtime.metadata();
    let output = metadata.runtime_api_trait_by_name(API)?.method_by_name(SELECTIVE)?.output_ty();
    let id = inside_option(metadata.types(), output).unwrap_or(output);
    let fields = named_fields(metadata.types(), id)?;
    let places = fields.iter().enumerate().filter(|(_, (name, _))| COLUMNS.contains(name));
    places.map(|(place, _)| u16::try_from(place).ok()).collect()
}

pub(super) enum Unusable {
    NoSubnet,
    Columns(Reason),
}

impl From<Reason> for Unusable {
    fn from(reason: Reason) -> Self {
        Self::Columns(reason)
    }
}

/// The members in an answer; `types` and the number are those of the runtime that gave it.
pub(super) fn rows(
    types: &PortableRegistry,
    (id, bytes): &(u32, Vec<u8>),
    validator_trust: &[u16],
) -> Result<Vec<Neuron>, Unusable> {
    let columns = Columns::read(types, *id, bytes)?;
    let columns = columns.ok_or(Unusable::NoSubnet)?;
    let hotkeys: Vec<AccountId32> = columns.take("hotkeys")?;
    let count = hotkeys.len();
    let coldkeys: Vec<AccountId32> = column(&columns, "coldkeys", count)?;
    let axons: Vec<AxonInfo> = column(&columns, "axons", count)?;
    let active: Vec<bool> = column(&columns, "active", count)?;
    let permits: Vec<bool> = column(&columns, "validator_permit", count)?;
    let last_update: Vec<u64> = column(&columns, "last_update", count)?;
    let emission: Vec<u64> = column(&columns, "emission", count)?;
    let dividends: Vec<u16> = column(&columns, "dividends", count)?;
    let incentives: Vec<u16> = column(&columns, "incentives", count)?;
    let consensus: Vec<u16> = column(&columns, "consensus", count)?;
    let stake: Vec<u64> = column(&columns, "total_stake", count)?;
    let trust: Vec<u16> = columns.find("trust")?.unwrap_or_default();
    let rank: Vec<u16> = columns.find("rank")?.unwrap_or_default();
    if validator_trust.len() < count {
        // A member that joined after the last epoch has no trust yet.
        tracing::debug!(count, known = validator_trust.len(), "validator trust is shorter");
    }
    let score = |column: &[u16], i: usize| Score(column.get(i).copied().unwrap_or_default());
    let neurons = hotkeys.iter().enumerate().map(|(i, hotkey)| {
        Some(Neuron {
            uid: u16::try_from(i).ok()?,
            hotkey: ss58::encode(&hotkey.0),
            coldkey: ss58::encode(&coldkeys.get(i)?.0),
            active: *active.get(i)?,
            axon: axons.get(i)?.address(),
            stake: Alpha(*stake.get(i)?),
            rank: score(&rank, i),
            trust: score(&trust, i),
            consensus: score(&consensus, i),
            incentive: score(&incentives, i),
            dividends: score(&dividends, i),
            emission: Alpha(*emission.get(i)?),
            validator_trust: score(validator_trust, i),
            validator_permit: *permits.get(i)?,
            last_update: *last_update.get(i)?,
        })
    });
    neurons
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| Unusable::Columns("more members than there are uids".to_owned()))
}

/// A column with a value for every member.
fn column<T>(columns: &Columns<'_>, name: &str, count: usize) -> Result<Vec<T>, Reason>
where
    Vec<T>: DecodeAsType,
{
    let values: Vec<T> = columns.take(name)?;
    if values.len() < count {
        return Err(format!("column {name} has {} of {count} values", values.len()));
    }
    Ok(values)
}
