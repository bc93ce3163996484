//! What calls do to the state, and the errors with which they fail. A few rules of the real chain,
//! with the names of its errors; no market, no epochs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use subxt::ext::scale_decode::DecodeAsType;

use super::state::{Key, MockNeuron, State, account_in};
use crate::chain::units::{Alpha, Rao};

/// The account must keep this much.
pub(super) const EXISTENTIAL_DEPOSIT: u64 = 500;

/// What including a call costs, in RAO. Weights are free, so that hotkeys need no TAO.
pub(super) fn fee(pallet: &str, name: &str) -> u64 {
    let weights = ["set_weights", "commit_timelocked_weights"];
    if pallet == "SubtensorModule" && weights.contains(&name) { 0 } else { 124_000 }
}

/// A call as it was decoded.
#[derive(Debug, Clone)]
pub(super) struct DecodedCall {
    pub(super) pallet: String,
    pub(super) name: String,
    /// Name, type and bytes of each argument.
    pub(super) arguments: Vec<(String, u32, Vec<u8>)>,
}

/// The name of a runtime error, with its pallet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failed(pub(super) &'static str, pub(super) &'static str);

const fn subtensor(name: &'static str) -> Failed {
    Failed("SubtensorModule", name)
}

impl DecodedCall {
    fn get<T: DecodeAsType>(&self, state: &State, name: &str) -> Result<T, Failed> {
        let found = self.arguments.iter().find(|(argument, ..)| argument == name);
        let (_, id, bytes) = found.ok_or(subtensor("CallDisabled"))?;
        T::decode_as_type(&mut bytes.as_slice(), *id, state.spec.metadata.types())
            .map_err(|_| subtensor("CallDisabled"))
    }

    fn account(&self, state: &State, name: &str) -> Result<Key, Failed> {
        let found = self.arguments.iter().find(|(argument, ..)| argument == name);
        let (_, id, bytes) = found.ok_or(subtensor("CallDisabled"))?;
        // A `MultiAddress::Id` is the account behind one byte.
        let bytes = if bytes.len() == 33 { bytes.get(1..).unwrap_or_default() } else { bytes };
        match Key::try_from(bytes) {
            Ok(key) => Ok(key),
            Err(_) => account_in(&state.spec.metadata, *id, bytes).map_err(subtensor),
        }
    }
}

impl State {
    /// Takes an amount out of an account.
    pub(super) fn withdraw(&mut self, who: Key, amount: u64) -> bool {
        let Some(account) = self.accounts.get_mut(&who) else { return false };
        let left = account.free.saturating_sub(account.frozen).checked_sub(amount);
        let enough = left.is_some_and(|left| left >= EXISTENTIAL_DEPOSIT);
        if enough {
            account.free -= amount;
        }
        enough
    }

    /// Does what a call asks for. After an error the state is to be thrown away.
    pub(super) fn dispatch(
        &mut self,
        who: Key,
        call: &DecodedCall,
        block: u64,
    ) -> Result<(), Failed> {
        match (call.pallet.as_str(), call.name.as_str()) {
            ("System", "remark") => Ok(()),
            ("Balances", "transfer_keep_alive" | "transfer_allow_death") => {
                let to = call.account(self, "dest")?;
                let amount: u64 = call.get(self, "value")?;
                if !self.withdraw(who, amount) {
                    return Err(Failed("Balances", "InsufficientBalance"));
                }
                self.accounts.entry(to).or_default().free += amount;
                Ok(())
            }
            ("SubtensorModule", "burned_register") => self.register(who, call, None, block),
            ("SubtensorModule", "register_limit") => {
                let limit: u64 = call.get(self, "limit_price")?;
                self.register(who, call, Some(Rao(limit)), block)
            }
            ("SubtensorModule", "root_register") => {
                let hotkey = call.account(self, "hotkey")?;
                if self.owners.get(&hotkey).is_some_and(|owner| *owner != who) {
                    return Err(subtensor("NonAssociatedColdKey"));
                }
                let root = self.subnets.entry(0).or_default();
                if root.uid_of(&hotkey).is_some() {
                    return Err(subtensor("HotKeyAlreadyRegisteredInSubNet"));
                }
                root.neurons.push(newcomer(hotkey, who, block));
                self.owners.insert(hotkey, who);
                Ok(())
            }
            ("SubtensorModule", "set_weights") => self.set_weights(who, call, block),
            ("SubtensorModule", "commit_timelocked_weights") => {
                let commit: Vec<u8> = call.get(self, "commit")?;
                if !self.subnet(call)?.commit_reveal {
                    return Err(subtensor("CommitRevealDisabled"));
                }
                let (subnet, uid) = self.member(who, call)?;
                if subnet.is_too_soon(uid, block) {
                    return Err(subtensor("CommittingWeightsTooFast"));
                }
                subnet.updated(uid, block);
                subnet.commits.insert(uid, commit);
                Ok(())
            }
            ("SubtensorModule", "serve_axon") => {
                let ip: u128 = call.get(self, "ip")?;
                let port: u16 = call.get(self, "port")?;
                let (subnet, uid) = self.member(who, call)?;
                let ip = u32::try_from(ip)
                    .map_or_else(|_| IpAddr::V6(ip.into()), |ip| IpAddr::V4(Ipv4Addr::from(ip)));
                if let Some(neuron) = subnet.neurons.get_mut(usize::from(uid)) {
                    neuron.axon = Some(SocketAddr::new(ip, port));
                }
                Ok(())
            }
            ("SubtensorModule", "add_stake") => {
                let hotkey = call.account(self, "hotkey")?;
                let netuid: u16 = call.get(self, "netuid")?;
                let amount: u64 = call.get(self, "amount_staked")?;
                if !self.withdraw(who, amount) {
                    return Err(subtensor("NotEnoughBalanceToStake"));
                }
                let subnet = self.subnets.get_mut(&netuid).ok_or(subtensor("SubnetNotExists"))?;
                let uid = subnet.uid_of(&hotkey).map(usize::from);
                let neuron = uid.and_then(|uid| subnet.neurons.get_mut(uid));
                let neuron = neuron.ok_or(subtensor("HotKeyNotRegisteredInSubNet"))?;
                neuron.stake = Alpha(neuron.stake.0.saturating_add(amount));
                Ok(())
            }
            _ => Err(subtensor("CallDisabled")),
        }
    }

    fn register(
        &mut self,
        who: Key,
        call: &DecodedCall,
        limit: Option<Rao>,
        block: u64,
    ) -> Result<(), Failed> {
        let netuid: u16 = call.get(self, "netuid")?;
        let hotkey = call.account(self, "hotkey")?;
        if netuid == 0 {
            return Err(subtensor("RegistrationNotPermittedOnRootSubnet"));
        }
        let subnet = self.subnets.get(&netuid).ok_or(subtensor("SubnetNotExists"))?;
        let price = subnet.burn;
        let evicted = subnet.evicted(block);
        let error = if !subnet.allowed {
            Some("SubNetRegistrationDisabled")
        } else if subnet.this_block >= subnet.max_per_block {
            Some("TooManyRegistrationsThisBlock")
        } else if subnet.this_interval >= subnet.target.saturating_mul(3) {
            Some("TooManyRegistrationsThisInterval")
        } else if subnet.uid_of(&hotkey).is_some() {
            Some("HotKeyAlreadyRegisteredInSubNet")
        } else if self.owners.get(&hotkey).is_some_and(|owner| *owner != who) {
            Some("NonAssociatedColdKey")
        } else if limit.is_some_and(|limit| price > limit) {
            Some("RegistrationPriceLimitExceeded")
        } else if evicted.is_err() {
            Some("NoNeuronIdAvailable")
        } else {
            None
        };
        if let Some(name) = error {
            return Err(subtensor(name));
        }
        if !self.withdraw(who, price.0) {
            return Err(subtensor("NotEnoughBalanceToStake"));
        }
        self.owners.insert(hotkey, who);
        let subnet = self.subnets.get_mut(&netuid).ok_or(subtensor("SubnetNotExists"))?;
        let newcomer = newcomer(hotkey, who, block);
        match evicted.ok().flatten().and_then(|at| subnet.neurons.get_mut(at)) {
            Some(place) => *place = newcomer,
            None => subnet.neurons.push(newcomer),
        }
        subnet.this_block += 1;
        subnet.this_interval += 1;
        subnet.burn = Rao(price.0.saturating_mul(2));
        Ok(())
    }

    /// The subnet of a call, and the uid of who signed it.
    fn member(
        &mut self,
        who: Key,
        call: &DecodedCall,
    ) -> Result<(&mut super::MockSubnet, u16), Failed> {
        let netuid: u16 = call.get(self, "netuid")?;
        let subnet = self.subnets.get_mut(&netuid).ok_or(subtensor("SubnetNotExists"))?;
        let uid = subnet.uid_of(&who).ok_or(subtensor("HotKeyNotRegisteredInSubNet"))?;
        Ok((subnet, uid))
    }

    fn subnet(&mut self, call: &DecodedCall) -> Result<&mut super::MockSubnet, Failed> {
        let netuid: u16 = call.get(self, "netuid")?;
        self.subnets.get_mut(&netuid).ok_or(subtensor("SubnetNotExists"))
    }

    /// Whether the pool takes a call that needs stake: those about weights do.
    pub(super) fn has_stake_for_weights(&self, who: &Key, call: &DecodedCall) -> bool {
        if fee(&call.pallet, &call.name) > 0 {
            return true;
        }
        let netuid = call.get::<u16>(self, "netuid").ok();
        let Some(subnet) = netuid.and_then(|netuid| self.subnets.get(&netuid)) else { return true };
        let uid = subnet.uid_of(who).map(usize::from);
        let neuron = uid.and_then(|uid| subnet.neurons.get(uid));
        neuron.map_or(Alpha(0), |neuron| neuron.stake) >= subnet.weights_min_stake
    }

    /// The checks of the chain in its order.
    fn set_weights(&mut self, who: Key, call: &DecodedCall, block: u64) -> Result<(), Failed> {
        let uids: Vec<u16> = call.get(self, "dests")?;
        let weights: Vec<u16> = call.get(self, "weights")?;
        let version: u64 = call.get(self, "version_key")?;
        let netuid: u16 = call.get(self, "netuid")?;
        if self.subnets.get(&netuid).is_some_and(|subnet| subnet.commit_reveal) {
            return Err(subtensor("CommitRevealEnabled"));
        }
        if uids.len() != weights.len() {
            return Err(subtensor("WeightVecNotEqualSize"));
        }
        if netuid == 0 {
            return Err(subtensor("CanNotSetRootNetworkWeights"));
        }
        let members = self.subnet(call)?.neurons.len();
        if uids.len() > members {
            return Err(subtensor("UidsLengthExceedUidsInSubNet"));
        }
        let (subnet, uid) = self.member(who, call)?;
        let neuron = subnet.neurons.get(usize::from(uid));
        let neuron = neuron.ok_or(subtensor("HotKeyNotRegisteredInSubNet"))?;
        let for_itself = uids == [uid];
        let highest = weights.iter().copied().max().unwrap_or_default();
        let sum: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let limit = u64::from(subnet.max_weight_limit);
        let mut once = uids.clone();
        once.sort_unstable();
        once.dedup();
        let error = if neuron.stake < subnet.weights_min_stake {
            Some("NotEnoughStakeToSetWeights")
        } else if version < subnet.weights_version {
            Some("IncorrectWeightVersionKey")
        } else if subnet.is_too_soon(uid, block) {
            Some("SettingWeightsTooFast")
        } else if !for_itself && !neuron.permit {
            Some("NeuronNoValidatorPermit")
        } else if once.len() != uids.len() {
            Some("DuplicateUids")
        } else if uids.iter().any(|uid| usize::from(*uid) >= members) {
            Some("UidVecContainInvalidOne")
        } else if !for_itself && uids.len() < usize::from(subnet.min_allowed_weights).min(members) {
            Some("WeightVecLengthIsLow")
        } else if !for_itself && u64::from(highest) * u64::from(u16::MAX) > limit * sum {
            Some("MaxWeightExceeded")
        } else {
            None
        };
        if let Some(name) = error {
            return Err(subtensor(name));
        }
        subnet.updated(uid, block);
        let kept = uids.into_iter().zip(weights.into_iter().map(|w| upscaled(w, highest)));
        subnet.weights.insert(uid, kept.collect());
        Ok(())
    }
}

/// A weight as the chain keeps it: the highest of its row is 65535, halves are rounded up.
fn upscaled(weight: u16, highest: u16) -> u16 {
    let (weight, highest) = (u32::from(weight), u32::from(highest.max(1)));
    let scaled = (weight * u32::from(u16::MAX) + highest / 2) / highest;
    u16::try_from(scaled).unwrap_or(u16::MAX)
}

impl super::MockSubnet {
    /// Whether a member set weights too recently to do so again.
    fn is_too_soon(&self, uid: u16, block: u64) -> bool {
        let last = self.neurons.get(usize::from(uid)).map_or(0, |neuron| neuron.last_update);
        last > 0 && block.saturating_sub(last) < self.weights_rate_limit
    }

    /// A member did something about its weights.
    fn updated(&mut self, uid: u16, block: u64) {
        if let Some(neuron) = self.neurons.get_mut(usize::from(uid)) {
            neuron.last_update = block;
        }
    }

    /// Whom a newcomer takes the place of: nobody, or the one with the least emission that is not
    /// immune; an error when all are.
    fn evicted(&self, block: u64) -> Result<Option<usize>, ()> {
        if self.neurons.len() < usize::from(self.max_members) {
            return Ok(None);
        }
        let immune = |neuron: &MockNeuron| {
            block < neuron.registered_at.saturating_add(self.immunity_period.into())
        };
        let weakest = self.neurons.iter().enumerate().filter(|(_, neuron)| !immune(neuron));
        weakest.min_by_key(|(_, neuron)| neuron.emission).map(|(at, _)| Some(at)).ok_or(())
    }
}

fn newcomer(hotkey: Key, coldkey: Key, block: u64) -> MockNeuron {
    MockNeuron {
        hotkey,
        coldkey,
        axon: None,
        stake: Alpha(0),
        validator_trust: 0,
        permit: false,
        active: false,
        scores: [0; 5],
        emission: Alpha(0),
        // The chain counts joining as an update.
        last_update: block,
        registered_at: block,
    }
}
