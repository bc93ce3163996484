//! Which chain and subnet the settings name.

use super::config::{ConfigError, Settings};
use crate::chain::{ChainOptions, Network};

/// The network.
///
/// # Errors
/// When nobody knows it.
pub fn network(s: &Settings) -> Result<Network, ConfigError> {
    let name = s.get("subtensor.network").unwrap_or("finney");
    name.parse().map_err(|e: crate::chain::ChainError| s.bad("subtensor.network", e.to_string()))
}

/// The nodes: those that were named, or the network's own. Either way they must be nodes of the
/// network: which first block that means is the network's.
///
/// # Errors
/// When the network is unknown, or an address is none.
pub fn options(s: &Settings) -> Result<ChainOptions, ConfigError> {
    let of_network = ChainOptions::network(network(s)?);
    let Some(endpoints) = s.get("subtensor.chain_endpoint") else { return Ok(of_network) };
    let named = endpoints.split(',').filter(|endpoint| !endpoint.trim().is_empty());
    let mut options = ChainOptions::endpoints(named)
        .map_err(|e| s.bad("subtensor.chain_endpoint", e.to_string()))?;
    options.expected_genesis = of_network.expected_genesis;
    Ok(options)
}

/// The subnet.
///
/// # Errors
/// When it is no number of one.
pub fn netuid(s: &Settings) -> Result<u16, ConfigError> {
    Ok(s.parse("netuid", "a subnet's number")?.unwrap_or(8))
}
