//! The miner's settings, checked once at the start.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ptn_core::deliver::{DeliveryPolicy, OnUnknown, Select};
use ptn_core::ops::config::{ConfigError, Settings, expand_home, parse_duration};
use ptn_core::ops::wallet;
use ptn_core::order::ExecutionType;
use ptn_core::rules::Rules;
use ptn_server::ServerConfig;

/// Where the network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// The main network.
    Finney,
    /// The test network.
    Test,
    /// A network of one's own on this machine.
    Local,
}

/// Everything that a miner needs to run.
#[derive(Debug, Clone)]
pub struct MinerConfig {
    /// The spool.
    pub data_dir: PathBuf,
    /// The rule set.
    pub rules: Arc<Rules>,
    /// Where the network is; decides which addresses may be called.
    pub network: Network,
    /// The hotkey's file.
    pub hotkey_file: PathBuf,
    /// Where its password comes from when it is encrypted.
    pub passwords: wallet::Passwords,
    /// The list of validators.
    pub validators_file: PathBuf,
    /// How signals are delivered. A mothership policy without a hotkey takes the most trusted
    /// validator of the list, on a local network only.
    pub policy: DeliveryPolicy,
    /// Health and metrics; none when `None`.
    pub monitor: Option<SocketAddr>,
    /// The HTTP server in this process; none when `None`.
    pub server: Option<(SocketAddr, ServerConfig)>,
    /// How long attempts under way may take after the stop.
    pub grace: Duration,
}

impl MinerConfig {
    /// Reads and checks the settings.
    ///
    /// # Errors
    /// The first setting that is wrong or missing.
    pub fn from_settings(s: &Settings) -> Result<Self, ConfigError> {
        let rules = Arc::new(s.rules()?);
        let network = network(s)?;
        netuid(s, network)?;
        let wallet = wallet::place(s)?;
        let validators_file = s.get("validators.file").map(expand_home).ok_or_else(|| {
            ConfigError::Missing {
                flag: "validators",
                why: "a TOML file with one [[validator]] per validator (hotkey, ip, port, v_trust, stake, wire)"
                    .to_owned(),
            }
        })?;
        Ok(Self {
            data_dir: s.data_dir(),
            network,
            hotkey_file: wallet.hotkey(),
            passwords: wallet::Passwords::from_settings(s, &wallet),
            validators_file,
            policy: policy(s, &rules, network)?,
            monitor: monitor(s)?,
            server: server(s)?,
            grace: s.duration("shutdown.grace")?.unwrap_or(Duration::from_secs(10)),
            rules,
        })
    }
}

/// The network that the settings name.
///
/// # Errors
/// When nobody knows it.
pub fn network(s: &Settings) -> Result<Network, ConfigError> {
    match s.get("subtensor.network") {
        None | Some("finney" | "archive") => Ok(Network::Finney),
        Some("test") => Ok(Network::Test),
        Some("local") => Ok(Network::Local),
        Some(_) => Err(s.bad("subtensor.network", "allowed: finney, test, archive, local")),
    }
}

fn netuid(s: &Settings, network: Network) -> Result<(), ConfigError> {
    let netuid: u16 = s.parse("netuid", "a subnet's number")?.unwrap_or(8);
    match network {
        Network::Test if s.is_set("netuid") && ![116, 171].contains(&netuid) => {
            Err(s.bad("netuid", "allowed on the test network: 116, 171"))
        }
        Network::Finney if netuid != 8 => Err(
            s.bad("netuid", "allowed on finney: 8 (116 and 171 are on --subtensor.network test)")
        ),
        _ => Ok(()),
    }
}

/// How signals are delivered: the rule set's preset, changed by the settings.
///
/// # Errors
/// The first setting that is wrong.
pub fn policy(
    s: &Settings,
    rules: &Rules,
    network: Network,
) -> Result<DeliveryPolicy, ConfigError> {
    let known = match network {
        Network::Finney => rules.mothership_mainnet.as_deref(),
        Network::Test => rules.mothership_testnet.as_deref(),
        Network::Local => Some(""),
    };
    let mothership = s.get("delivery.mothership").or(known).unwrap_or_default();
    let mut policy = DeliveryPolicy::preset(rules, Some(mothership));
    match s.get("delivery.policy") {
        None => {}
        Some("mothership") => policy.select = Select::Mothership(mothership.to_owned()),
        Some("trust") => {
            let floor = if policy.trust_floor > 0.0 { policy.trust_floor } else { 0.75 };
            policy.select = Select::TrustAtLeast(floor);
        }
        Some("all") => policy.select = Select::All,
        Some(_) => return Err(s.bad("delivery.policy", "allowed: mothership, trust, all")),
    }
    let paced = s.switch("delivery.pacing")?.unwrap_or(network != Network::Local);
    if !paced {
        policy.pacing = None;
    }
    if let Some(timeout) = s.duration("delivery.timeout")? {
        policy.timeout = timeout;
    }
    if let Some(text) = s.get("delivery.waits") {
        let list = text.split(',').filter(|t| !t.trim().is_empty());
        policy.waits = list
            .map(|t| {
                parse_duration(t)
                    .ok_or_else(|| s.bad("delivery.waits", "expected durations such as 5s,10s"))
            })
            .collect::<Result<_, _>>()?;
    }
    if s.get("delivery.max_age").is_some() {
        match age(s, "delivery.max_age")? {
            Some(age) => policy.max_age.insert(ExecutionType::Market, age),
            None => policy.max_age.remove(&ExecutionType::Market),
        };
    }
    if let Some(age) = age(s, "delivery.max_age_resting")? {
        for kind in [ExecutionType::Limit, ExecutionType::StopLimit, ExecutionType::Bracket] {
            policy.max_age.insert(kind, age);
        }
    }
    policy.on_unknown = match s.get("delivery.on_unknown") {
        None | Some("hold") => OnUnknown::Hold,
        Some("resend") => OnUnknown::Resend,
        Some(_) => return Err(s.bad("delivery.on_unknown", "allowed: hold, resend")),
    };
    if let Some(version) = s.get("delivery.repo_version") {
        policy.repo_version = version.to_owned();
    }
    policy.partial_is_failed =
        s.switch("delivery.write_failed_signal_logs")?.unwrap_or(network != Network::Test);
    Ok(policy)
}

/// An age, or `None` for `never`.
fn age(s: &Settings, key: &'static str) -> Result<Option<Duration>, ConfigError> {
    if s.get(key) == Some("never") { Ok(None) } else { s.duration(key) }
}

fn monitor(s: &Settings) -> Result<Option<SocketAddr>, ConfigError> {
    let port: u16 = s.parse("axon.port", "a port, or 0 for none")?.unwrap_or(8091);
    Ok((port != 0).then(|| SocketAddr::from(([127, 0, 0, 1], port))))
}

fn server(s: &Settings) -> Result<Option<(SocketAddr, ServerConfig)>, ConfigError> {
    let listen = match s.get("server.listen") {
        Some(text) => Some(
            ptn_server::config::parse_listen(text).map_err(|why| s.bad("server.listen", why))?,
        ),
        None if s.is_set("server.api_rest_port") || s.is_set("server.api_host") => {
            let port = s.parse("server.api_rest_port", "a port")?.unwrap_or(8088);
            let ip: IpAddr =
                s.parse("server.api_host", "an IP address")?.unwrap_or(IpAddr::from([0, 0, 0, 0]));
            Some(SocketAddr::new(ip, port))
        }
        None => None,
    };
    listen.map(|address| Ok((address, ServerConfig::from_settings(s)?))).transpose()
}
