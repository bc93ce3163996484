//! Which chain and subnet the settings name, and how validators from it are addressed.

use std::collections::BTreeMap;

use super::config::{ConfigError, Settings};
use crate::chain::{ChainOptions, Network};
use crate::directory::Wire;
use crate::sign::ss58;

/// The setting with the addresses of nodes, in which providers put keys.
pub(super) const ENDPOINT: &str = "subtensor.chain_endpoint";
/// The network's subnet on finney.
pub const ON_FINNEY: u16 = 8;
/// The network's subnets on the test network.
pub const ON_TEST: [u16; 2] = [116, 171];

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
    let Some(endpoints) = s.get(ENDPOINT) else { return Ok(of_network) };
    let named = endpoints.split(',').filter(|endpoint| !endpoint.trim().is_empty());
    let mut options = ChainOptions::endpoints(named).map_err(|e| s.bad(ENDPOINT, e.to_string()))?;
    options.expected_genesis = of_network.expected_genesis;
    options.refused_genesis = of_network.refused_genesis;
    Ok(options)
}

/// The subnet. Those of the other network are refused: there the number is somebody else's subnet.
///
/// # Errors
/// When it is no number of one, or the network's subnet on the other network.
pub fn netuid(s: &Settings, network: Network) -> Result<u16, ConfigError> {
    let netuid = s.parse("netuid", "a subnet's number")?.unwrap_or(ON_FINNEY);
    let add = match network {
        Network::Finney | Network::Archive if ON_TEST.contains(&netuid) => {
            "on the test network: add --subtensor.network test"
        }
        Network::Test if netuid == ON_FINNEY => {
            "on finney; on the test network it is 116 or 171: add --netuid 116"
        }
        _ => return Ok(netuid),
    };
    Err(s.bad("netuid", format!("that is the network's subnet {add}")))
}

/// The wire of validators from the chain: of most, and of single ones by hotkey.
///
/// # Errors
/// When a word is no wire, or a hotkey none.
pub fn wires(s: &Settings) -> Result<(Wire, BTreeMap<String, Wire>), ConfigError> {
    let allowed = "allowed: btauth, dendrite";
    let wire = match s.get("delivery.wire") {
        None => Wire::default(),
        Some(text) => Wire::parse(text).ok_or_else(|| s.bad("delivery.wire", allowed))?,
    };
    let bad = |why: String| s.bad("delivery.wire_for", why);
    let entries = s.get("delivery.wire_for").unwrap_or_default().split(',').map(str::trim);
    let mut single = BTreeMap::new();
    for entry in entries.filter(|entry| !entry.is_empty()) {
        let Some((hotkey, wire)) = entry.split_once('=') else {
            return Err(bad(format!("{entry:?}: expected HOTKEY=btauth or HOTKEY=dendrite")));
        };
        ss58::decode(hotkey.trim()).map_err(|e| bad(format!("{hotkey:?}: {e}")))?;
        let wire = Wire::parse(wire.trim()).ok_or_else(|| bad(format!("{entry:?}: {allowed}")))?;
        single.insert(hotkey.trim().to_owned(), wire);
    }
    Ok((wire, single))
}
