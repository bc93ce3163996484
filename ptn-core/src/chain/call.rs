//! Calls: what a signed extrinsic asks the chain to do.
//!
//! A call is a name and named arguments. It is written for the runtime that the node has when it
//! is sent: arguments are matched by name, and take whatever type the runtime gives them.

use subxt::client::OfflineClientAtBlock;
use subxt::dynamic::Value;
use subxt::ext::scale_value::Composite;
use subxt::tx::DynamicPayload;

use super::account::account;
use super::error::ChainError;
use super::link::{Config, Runtime};
use super::network::hash_text;
use super::units::Rao;

/// One argument of a [`Call`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Argument {
    /// A whole number.
    Number(u128),
    /// Several small numbers.
    Numbers(Vec<u16>),
    /// A hotkey or coldkey.
    Account([u8; 32]),
    /// The receiver of a transfer.
    Destination([u8; 32]),
    /// Any bytes.
    Bytes(Vec<u8>),
}

/// A call, ready to be written for any runtime that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pallet: String,
    name: String,
    arguments: Vec<(String, Argument)>,
}

impl Call {
    /// A call without arguments yet.
    pub fn new(pallet: impl Into<String>, name: impl Into<String>) -> Self {
        Self { pallet: pallet.into(), name: name.into(), arguments: Vec::new() }
    }

    /// With another argument.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: Argument) -> Self {
        self.arguments.push((name.into(), value));
        self
    }

    fn subtensor(name: &str) -> Self {
        Self::new("SubtensorModule", name)
    }

    /// Registers a hotkey for the price of the moment, whatever it is. Signed by the coldkey.
    ///
    /// # Errors
    /// When the hotkey is no address.
    pub fn burned_register(netuid: u16, hotkey: &str) -> Result<Self, ChainError> {
        Ok(Self::subtensor("burned_register")
            .with("netuid", Argument::Number(netuid.into()))
            .with("hotkey", Argument::Account(account(hotkey)?.0)))
    }

    /// Registers a hotkey if the price is at most `limit`. Signed by the coldkey.
    ///
    /// # Errors
    /// When the hotkey is no address.
    pub fn register_limit(netuid: u16, hotkey: &str, limit: Rao) -> Result<Self, ChainError> {
        Ok(Self::subtensor("register_limit")
            .with("netuid", Argument::Number(netuid.into()))
            .with("hotkey", Argument::Account(account(hotkey)?.0))
            .with("limit_price", Argument::Number(limit.0.into())))
    }

    /// Registers a hotkey in the root (subnet 0). Signed by the coldkey.
    ///
    /// # Errors
    /// When the hotkey is no address.
    pub fn root_register(hotkey: &str) -> Result<Self, ChainError> {
        Ok(Self::subtensor("root_register").with("hotkey", Argument::Account(account(hotkey)?.0)))
    }

    /// Sets a validator's weights: `weights[i]` for the member `uids[i]`. Signed by the hotkey, and
    /// free of charge. The chain divides by the highest and multiplies by 65535 before it keeps
    /// them, and counts shares of the sum. The version key is what the subnet's validators agree
    /// on (200 on finney's subnet 8); the chain refuses one that is below the subnet's own.
    ///
    /// Refused where weights are taken only as commitments
    /// ([`ChainClient::commit_reveal_enabled`](super::ChainClient::commit_reveal_enabled)).
    ///
    /// ```
    /// # use ptn_core::chain::Call;
    /// // Pairs as `paper::weights::Weights::for_chain` gives them.
    /// let pairs = vec![(3_u16, 13_107_u16), (7, 65_535)];
    /// let (uids, weights) = pairs.into_iter().unzip();
    /// let call = Call::set_weights(8, uids, weights, 200);
    /// assert_eq!(call.name(), "SubtensorModule.set_weights");
    /// ```
    pub fn set_weights(netuid: u16, uids: Vec<u16>, weights: Vec<u16>, version_key: u64) -> Self {
        Self::subtensor("set_weights")
            .with("netuid", Argument::Number(netuid.into()))
            .with("dests", Argument::Numbers(uids))
            .with("weights", Argument::Numbers(weights))
            .with("version_key", Argument::Number(version_key.into()))
    }

    /// Commits to weights that are revealed by time-lock. Signed by the hotkey, and free of charge.
    pub fn commit_timelocked_weights(
        netuid: u16,
        commit: Vec<u8>,
        reveal_round: u64,
        commit_reveal_version: u16,
    ) -> Self {
        Self::subtensor("commit_timelocked_weights")
            .with("netuid", Argument::Number(netuid.into()))
            .with("commit", Argument::Bytes(commit))
            .with("reveal_round", Argument::Number(reveal_round.into()))
            .with("commit_reveal_version", Argument::Number(commit_reveal_version.into()))
    }

    /// Sends TAO, and keeps the sender's account alive. Signed by the sender.
    ///
    /// # Errors
    /// When the receiver is no address.
    pub fn transfer_keep_alive(to: &str, amount: Rao) -> Result<Self, ChainError> {
        Ok(Self::new("Balances", "transfer_keep_alive")
            .with("dest", Argument::Destination(account(to)?.0))
            .with("value", Argument::Number(amount.0.into())))
    }

    /// Stakes TAO to a hotkey in a subnet. Signed by the coldkey.
    ///
    /// # Errors
    /// When the hotkey is no address.
    pub fn add_stake(hotkey: &str, netuid: u16, amount: Rao) -> Result<Self, ChainError> {
        Ok(Self::subtensor("add_stake")
            .with("hotkey", Argument::Account(account(hotkey)?.0))
            .with("netuid", Argument::Number(netuid.into()))
            .with("amount_staked", Argument::Number(amount.0.into())))
    }

    /// Pallet and name.
    pub fn name(&self) -> String {
        format!("{}.{}", self.pallet, self.name)
    }

    /// For this runtime, with every argument that it wants and none that it does not know.
    pub(super) fn payload(
        &self,
        runtime: &Runtime,
        endpoint: &str,
    ) -> Result<DynamicPayload<Composite<()>>, ChainError> {
        let call = runtime
            .metadata()
            .pallet_by_name(&self.pallet)
            .and_then(|pallet| pallet.call_variant_by_name(&self.name))
            .ok_or_else(|| ChainError::MissingShape {
                shape: format!("call {}", self.name()),
                needed_for: "what you asked for",
                spec_version: runtime.spec_version,
                endpoint: endpoint.to_owned(),
            })?;
        let wanted: Vec<&str> = call.fields.iter().filter_map(|f| f.name.as_deref()).collect();
        let given = |name: &str| self.arguments.iter().any(|(argument, _)| argument == name);
        let missing = wanted.iter().find(|name| !given(name));
        let unknown = self.arguments.iter().find(|(name, _)| !wanted.contains(&name.as_str()));
        if let Some(name) = missing.copied().or(unknown.map(|(name, _)| name.as_str())) {
            let reason = format!("argument {name} does not match; it takes {}", wanted.join(", "));
            return Err(ChainError::Encode { call: self.name(), reason });
        }
        let arguments = self.arguments.iter().map(|(name, value)| (name.clone(), value.value()));
        Ok(subxt::dynamic::tx(
            self.pallet.clone(),
            self.name.clone(),
            Composite::Named(arguments.collect()),
        ))
    }

    /// The call as the chain reads it, in hexadecimal.
    pub(super) fn encoded(
        &self,
        offline: &OfflineClientAtBlock<Config>,
        payload: &DynamicPayload<Composite<()>>,
    ) -> Result<String, ChainError> {
        let bytes = offline.tx().call_data(payload);
        bytes
            .map(|bytes| hash_text(&bytes))
            .map_err(|e| ChainError::Encode { call: self.name(), reason: e.to_string() })
    }
}

impl Argument {
    fn value(&self) -> Value {
        match self {
            Self::Number(number) => Value::u128(*number),
            Self::Numbers(numbers) => {
                Value::unnamed_composite(numbers.iter().map(|n| Value::u128((*n).into())))
            }
            Self::Account(key) => Value::from_bytes(key),
            Self::Destination(key) => Value::unnamed_variant("Id", [Value::from_bytes(key)]),
            Self::Bytes(bytes) => Value::from_bytes(bytes),
        }
    }
}
