//! What the chain knows at one block: accounts and subnets, and how storage and runtime APIs show
//! them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use subxt::ext::codec::Encode;
use subxt::ext::frame_decode::storage::encode_storage_key_prefix;

use subxt::ext::scale_decode::DecodeAsType;
use subxt::ext::scale_decode::visitor::{IgnoreVisitor, decode_with_visitor};
use subxt::metadata::{Metadata, StorageHasher};
use subxt::utils::AccountId32;

use super::encode::{Value, put};
use crate::chain::shape::{inside_option, named_fields};
use crate::chain::units::{Alpha, Rao};

/// A runtime: a version, and the metadata that it serves.
#[derive(Debug)]
pub(super) struct Spec {
    pub(super) version: u32,
    pub(super) metadata: Metadata,
    pub(super) bytes: Vec<u8>,
}

pub(super) type Key = [u8; 32];

/// One account.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Account {
    pub(super) nonce: u32,
    pub(super) free: u64,
    pub(super) reserved: u64,
    pub(super) frozen: u64,
}

/// A member of a subnet of the mock. Scores are shares of 65535.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MockNeuron {
    pub(super) hotkey: Key,
    pub(super) coldkey: Key,
    /// Where it serves.
    pub axon: Option<SocketAddr>,
    /// Total stake.
    pub stake: Alpha,
    /// Validator trust.
    pub validator_trust: u16,
    /// Whether it may set weights.
    pub permit: bool,
    /// Whether it set weights lately.
    pub active: bool,
    /// Rank, trust, consensus, incentive and dividends, in this order.
    pub scores: [u16; 5],
    /// Emission of the last epoch.
    pub emission: Alpha,
    /// The block in which it last set weights.
    pub last_update: u64,
    /// The block in which it was registered.
    pub registered_at: u64,
}

impl MockNeuron {
    /// A member that serves nothing and has no stake.
    ///
    /// # Panics
    /// When a text is no address.
    pub fn new(hotkey: &str, coldkey: &str) -> Self {
        Self {
            hotkey: super::key(hotkey),
            coldkey: super::key(coldkey),
            axon: None,
            stake: Alpha(0),
            validator_trust: 0,
            permit: false,
            active: true,
            scores: [0; 5],
            emission: Alpha(0),
            last_update: 0,
            registered_at: 0,
        }
    }

    /// A validator: it serves, and has a permit, this much trust (of 65535) and stake.
    ///
    /// # Panics
    /// When a text is no address.
    pub fn validator(hotkey: &str, coldkey: &str, axon: SocketAddr, trust: u16) -> Self {
        Self {
            axon: Some(axon),
            validator_trust: trust,
            permit: true,
            stake: Alpha(10_000_000_000_000),
            ..Self::new(hotkey, coldkey)
        }
    }

    /// Its hotkey.
    pub fn hotkey(&self) -> String {
        crate::sign::ss58::encode(&self.hotkey)
    }
}

/// A subnet of the mock; everything can be changed while it runs.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MockSubnet {
    /// Its members, by uid.
    pub neurons: Vec<MockNeuron>,
    /// Price of a registration.
    pub burn: Rao,
    /// The share (of 65535) of the price that stays locked.
    pub lock_share: u16,
    /// Whether anyone may register.
    pub allowed: bool,
    /// Registrations in this interval so far.
    pub this_interval: u16,
    /// Registrations per interval that are aimed at; three times as many are the cap.
    pub target: u16,
    /// Registrations in one block at most.
    pub max_per_block: u16,
    /// Blocks for which a newcomer cannot be evicted.
    pub immunity_period: u16,
    /// Members at most.
    pub max_members: u16,
    /// Whether weights are taken only as commitments.
    pub commit_reveal: bool,
    /// The version that weights must carry.
    pub weights_version: u64,
    /// Blocks between two settings of weights, or commitments to them; none by default.
    pub weights_rate_limit: u64,
    /// The least stake that weights need; none by default.
    pub weights_min_stake: Alpha,
    /// The fewest weights that may be set at once, a weight for oneself apart; none by default.
    pub min_allowed_weights: u16,
    /// The highest share (of 65535) of one weight; everything by default.
    pub max_weight_limit: u16,
    /// Weights, by the uid of who set them.
    pub weights: BTreeMap<u16, Vec<(u16, u16)>>,
    /// Committed weights that wait to be revealed, by the uid of who committed them.
    pub commits: BTreeMap<u16, Vec<u8>>,
    /// Registrations in the block that is being made.
    pub(super) this_block: u16,
}

impl Default for MockSubnet {
    fn default() -> Self {
        Self {
            neurons: Vec::new(),
            burn: Rao(1_000_000_000),
            lock_share: 0,
            allowed: true,
            this_interval: 0,
            target: 2,
            max_per_block: 1,
            immunity_period: 7_200,
            max_members: 256,
            commit_reveal: false,
            weights_version: 0,
            weights_rate_limit: 0,
            weights_min_stake: Alpha(0),
            min_allowed_weights: 0,
            max_weight_limit: u16::MAX,
            weights: BTreeMap::new(),
            commits: BTreeMap::new(),
            this_block: 0,
        }
    }
}

impl MockSubnet {
    /// The uid of a hotkey.
    pub fn uid(&self, hotkey: &str) -> Option<u16> {
        self.uid_of(&super::key(hotkey))
    }

    pub(super) fn uid_of(&self, hotkey: &Key) -> Option<u16> {
        let at = self.neurons.iter().position(|neuron| neuron.hotkey == *hotkey)?;
        u16::try_from(at).ok()
    }
}

/// Everything at one block.
#[derive(Debug, Clone)]
pub(super) struct State {
    /// When the block was made, in milliseconds since 1970.
    pub(super) time: u64,
    /// How far the clock of the node is ahead, in milliseconds.
    pub(super) clock_ahead: i64,
    pub(super) spec: Arc<Spec>,
    pub(super) accounts: BTreeMap<Key, Account>,
    pub(super) owners: BTreeMap<Key, Key>,
    pub(super) subnets: BTreeMap<u16, MockSubnet>,
    /// Added to every number of a column that is asked for.
    pub(super) columns_shifted: u16,
}

impl State {
    /// A value of storage by its raw key; the events of the block are given.
    pub(super) fn storage(&self, raw: &[u8], events: &[u8]) -> Option<Vec<u8>> {
        let metadata = &self.spec.metadata;
        for pallet in metadata.pallets() {
            for entry in pallet.storage().map(|s| s.entries()).unwrap_or_default() {
                let prefix = encode_storage_key_prefix(pallet.name(), entry.name());
                let Some(rest) = raw.strip_prefix(&prefix) else { continue };
                if entry.name() == "Events" {
                    return Some(events.to_vec());
                }
                let mut keys = Vec::new();
                let mut rest = rest;
                for key in entry.keys() {
                    let hashed = match key.hasher {
                        StorageHasher::Blake2_128Concat => 16,
                        StorageHasher::Twox64Concat => 8,
                        _ => 0,
                    };
                    rest = rest.get(hashed..)?;
                    let before = rest;
                    let ignore = IgnoreVisitor::new();
                    decode_with_visitor(&mut rest, key.key_id, metadata.types(), ignore).ok()?;
                    keys.push(before.get(..before.len() - rest.len())?);
                }
                let value = self.value(entry.name(), &keys)?;
                let mut out = Vec::new();
                put(metadata.types(), entry.value_ty(), &value, &mut out);
                return Some(out);
            }
        }
        None
    }

    /// The keys of storage that begin like this: with a hotkey in `IsNetworkMember`, or with a subnet
    /// in `Weights`.
    pub(super) fn keys(&self, prefix: &[u8]) -> Vec<Vec<u8>> {
        let entry = encode_storage_key_prefix("SubtensorModule", "Weights");
        let netuid = prefix.strip_prefix(entry.as_slice());
        let netuid = netuid.and_then(|rest| Some(u16::from_le_bytes(rest.try_into().ok()?)));
        if let Some(subnet) = netuid.and_then(|netuid| self.subnets.get(&netuid)) {
            let mut keys: Vec<Vec<u8>> =
                subnet.weights.keys().map(|uid| [prefix, &uid.to_le_bytes()].concat()).collect();
            keys.sort();
            return keys;
        }
        self.members(prefix)
    }

    fn members(&self, prefix: &[u8]) -> Vec<Vec<u8>> {
        let entry = encode_storage_key_prefix("SubtensorModule", "IsNetworkMember");
        let hotkey = prefix.strip_prefix(entry.as_slice()).and_then(|rest| rest.get(16..));
        let Some(hotkey) = hotkey.and_then(|key| Key::try_from(key).ok()) else {
            return Vec::new();
        };
        let member = |(_, subnet): &(&u16, &MockSubnet)| subnet.uid_of(&hotkey).is_some();
        let key = |(netuid, _): (&u16, &MockSubnet)| [prefix, &netuid.to_le_bytes()].concat();
        self.subnets.iter().filter(member).map(key).collect()
    }

    fn value(&self, entry: &str, keys: &[&[u8]]) -> Option<Value> {
        let account = |at: usize| keys.get(at).and_then(|bytes| Key::try_from(*bytes).ok());
        let short = |at: usize| {
            keys.get(at).and_then(|bytes| <[u8; 2]>::try_from(*bytes).ok()).map(u16::from_le_bytes)
        };
        if entry == "Now" {
            return Some(self.time.into());
        }
        if entry == "Account" {
            let account = self.accounts.get(&account(0)?)?;
            let data = Value::of([
                ("free", account.free.into()),
                ("reserved", account.reserved.into()),
                ("frozen", account.frozen.into()),
            ]);
            return Some(Value::of([("nonce", account.nonce.into()), ("data", data)]));
        }
        if entry == "Owner" {
            return Some(Value::Bytes(self.owners.get(&account(0)?)?.to_vec()));
        }
        if entry == "IsNetworkMember" {
            let subnet = self.subnets.get(&short(1)?)?;
            return Some(Value::Bool(subnet.uid_of(&account(0)?).is_some()));
        }
        let subnet = self.subnets.get(&short(0)?)?;
        let members = || u16::try_from(subnet.neurons.len()).unwrap_or(u16::MAX);
        Some(match entry {
            "Uids" => subnet.uid_of(&account(1)?)?.into(),
            "Keys" => Value::Bytes(subnet.neurons.get(usize::from(short(1)?))?.hotkey.to_vec()),
            "LastUpdate" => column(subnet, |neuron| neuron.last_update.into()),
            "WeightsSetRateLimit" => subnet.weights_rate_limit.into(),
            "ValidatorTrust" => column(subnet, |neuron| neuron.validator_trust.into()),
            "Burn" => subnet.burn.0.into(),
            "CollateralLockShare" => subnet.lock_share.into(),
            "NetworkRegistrationAllowed" => Value::Bool(subnet.allowed),
            "RegistrationsThisInterval" => subnet.this_interval.into(),
            "TargetRegistrationsPerInterval" => subnet.target.into(),
            "ImmunityPeriod" => subnet.immunity_period.into(),
            "SubnetworkN" => members().into(),
            "MaxAllowedUids" => subnet.max_members.into(),
            "NetworksAdded" => Value::Bool(true),
            "CommitRevealWeightsEnabled" => Value::Bool(subnet.commit_reveal),
            "WeightsVersionKey" => subnet.weights_version.into(),
            "Weights" => {
                let weights = subnet.weights.get(&short(1)?)?;
                let pair =
                    |(uid, weight): &(u16, u16)| Value::List(vec![(*uid).into(), (*weight).into()]);
                Value::List(weights.iter().map(pair).collect())
            }
            _ => return None,
        })
    }

    /// The answer of a runtime API, or what went wrong in it.
    pub(super) fn call(&self, name: &str, input: &[u8], block: u64) -> Result<Vec<u8>, String> {
        let metadata = &self.spec.metadata;
        match name {
            "Metadata_metadata_versions" => return Ok(vec![15_u32, 16].encode()),
            "Metadata_metadata_at_version" => {
                let known = input == 16_u32.encode();
                return Ok(known.then(|| self.spec.bytes.clone()).encode());
            }
            "Metadata_metadata" => return Ok(self.spec.bytes.encode()),
            "Core_version" => return Ok(core_version(self.spec.version)),
            "AccountNonceApi_account_nonce" => {
                let who = Key::try_from(input).map_err(|e| e.to_string())?;
                return Ok(self.accounts.get(&who).map_or(0, |account| account.nonce).encode());
            }
            _ => {}
        }
        let (api, method) = name.split_once('_').ok_or("no such API")?;
        let method = metadata
            .runtime_api_trait_by_name(api)
            .and_then(|api| api.method_by_name(method))
            .ok_or_else(|| format!("Exported method {name} is not found"))?;
        let mut input = input;
        let mut arguments = method.inputs();
        let mut netuid = || -> Result<u16, String> {
            let id = arguments.next().ok_or("no arguments")?.id;
            u16::decode_as_type(&mut input, id, metadata.types()).map_err(|e| e.to_string())
        };
        let value = match name {
            "SubnetInfoRuntimeApi_get_metagraph" => {
                self.subnets.get(&netuid()?).map(|s| Value::Struct(columns(s, block)))
            }
            "SubnetInfoRuntimeApi_get_selective_metagraph" => {
                let subnet = self.subnets.get(&netuid()?);
                let id = arguments.next().ok_or("no columns")?.id;
                let wanted = Vec::<u16>::decode_as_type(&mut input, id, metadata.types());
                let wanted = wanted.map_err(|e| e.to_string())?;
                subnet.map(|s| self.selected(columns(s, block), &wanted, method.output_ty()))
            }
            "TransactionPaymentApi_query_info" => {
                Some(Value::of([("partial_fee", super::extrinsic::fee_of(self, input).into())]))
            }
            _ => return Err(format!("this mock does not do {name}")),
        };
        let value = value.unwrap_or(Value::Default);
        let mut out = Vec::new();
        put(metadata.types(), method.output_ty(), &value, &mut out);
        Ok(out)
    }

    /// Only the columns with these numbers: places in the struct that is answered.
    fn selected(
        &self,
        mut columns: BTreeMap<&'static str, Value>,
        wanted: &[u16],
        output: u32,
    ) -> Value {
        let types = self.spec.metadata.types();
        let id = inside_option(types, output).unwrap_or(output);
        let names: Vec<&str> = wanted
            .iter()
            .map(|number| usize::from(number.saturating_add(self.columns_shifted)))
            .filter_map(|place| named_fields(types, id)?.get(place).map(|(name, _)| *name))
            .collect();
        columns.retain(|name, _| *name == "netuid" || names.contains(name));
        Value::some(Value::Struct(columns))
    }
}

fn column(subnet: &MockSubnet, value: impl Fn(&MockNeuron) -> Value) -> Value {
    Value::List(subnet.neurons.iter().map(value).collect())
}

fn columns(subnet: &MockSubnet, block: u64) -> BTreeMap<&'static str, Value> {
    let score = |n: usize| {
        column(subnet, move |neuron| neuron.scores.get(n).copied().unwrap_or_default().into())
    };
    BTreeMap::from([
        ("block", block.into()),
        ("tempo", 360_u16.into()),
        ("burn", subnet.burn.0.into()),
        ("hotkeys", column(subnet, |neuron| Value::Bytes(neuron.hotkey.to_vec()))),
        ("coldkeys", column(subnet, |neuron| Value::Bytes(neuron.coldkey.to_vec()))),
        ("identities", column(subnet, |_| Value::Default)),
        ("axons", column(subnet, |neuron| axon(neuron.axon))),
        ("active", column(subnet, |neuron| Value::Bool(neuron.active))),
        ("validator_permit", column(subnet, |neuron| Value::Bool(neuron.permit))),
        ("last_update", column(subnet, |neuron| neuron.last_update.into())),
        ("emission", column(subnet, |neuron| neuron.emission.0.into())),
        ("rank", score(0)),
        ("trust", score(1)),
        ("consensus", score(2)),
        ("incentives", score(3)),
        ("dividends", score(4)),
        ("total_stake", column(subnet, |neuron| neuron.stake.0.into())),
    ])
}

fn axon(address: Option<SocketAddr>) -> Value {
    let Some(address) = address else { return Value::Default };
    let (ip, ip_type) = match address.ip() {
        IpAddr::V4(ip) => (u128::from(u32::from(ip)), 4_u8),
        IpAddr::V6(ip) => (u128::from(ip), 6),
    };
    Value::of([("ip", ip.into()), ("port", address.port().into()), ("ip_type", ip_type.into())])
}

/// `RuntimeVersion`, as the runtime itself tells it.
fn core_version(version: u32) -> Vec<u8> {
    let mut out = ("node-subtensor", "node-subtensor", 1_u32, version, 1_u32).encode();
    Vec::<([u8; 8], u32)>::new().encode_to(&mut out);
    super::TRANSACTION_VERSION.encode_to(&mut out);
    1_u8.encode_to(&mut out);
    out
}

/// An account in a call's argument.
pub(super) fn account_in(
    metadata: &Metadata,
    id: u32,
    mut bytes: &[u8],
) -> Result<Key, &'static str> {
    AccountId32::decode_as_type(&mut bytes, id, metadata.types())
        .map(|account| account.0)
        .map_err(|_| "BadOrigin")
}
