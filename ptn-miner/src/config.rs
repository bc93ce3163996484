//! The miner's settings, checked once at the start.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ptn_core::chain::{ChainOptions, DirectoryOptions, MetagraphCache, Network};
use ptn_core::deliver::{DeliveryPolicy, OnUnknown, Select};
use ptn_core::ops::config::{ConfigError, Settings, expand_home, parse_duration};
use ptn_core::ops::guard::GuardConfig;
use ptn_core::ops::{chain, wallet};
use ptn_core::order::ExecutionType;
use ptn_core::rules::Rules;
use ptn_core::store::fs::Retention;
use ptn_core::transport::address::AddressPolicy;
use ptn_core::wallet::Place;
use ptn_server::ServerConfig;

/// Where validators come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A list by hand, followed when it changes; nothing of the chain is touched.
    File(PathBuf),
    /// The metagraph of a subnet.
    Chain(Box<(ChainOptions, DirectoryOptions)>),
}

/// Everything that a miner needs to run.
#[derive(Debug, Clone)]
pub struct MinerConfig {
    /// Where signals are.
    pub store: ptn_core::ops::store::Place,
    /// The spool; with a database, for what belongs to this machine.
    pub data_dir: PathBuf,
    /// The rule set.
    pub rules: Arc<Rules>,
    /// Which network; decides which addresses may be called.
    pub network: Network,
    /// The subnet.
    pub netuid: u16,
    /// The hotkey's file.
    pub hotkey_file: PathBuf,
    /// Where its password comes from when it is encrypted.
    pub passwords: wallet::Passwords,
    /// The wallet.
    pub wallet: Place,
    /// Where validators come from.
    pub source: Source,
    /// How signals are delivered.
    pub policy: DeliveryPolicy,
    /// Health and metrics; none when `None`.
    pub monitor: Option<SocketAddr>,
    /// The HTTP server in this process; none when `None`.
    pub server: Option<(SocketAddr, ServerConfig)>,
    /// What judges signals before they are sent.
    pub guard: GuardConfig,
    /// What becomes of processed signals in time.
    pub retention: Retention,
    /// How long attempts under way may take after the stop.
    pub grace: Duration,
    /// Below this many free bytes nothing is accepted.
    pub min_free: u64,
    /// Whether to take over from a miner that runs on the same data directory.
    pub takeover: bool,
}

impl MinerConfig {
    /// Which addresses may be called.
    pub const fn addresses(&self) -> AddressPolicy {
        if self.network.is_public() { AddressPolicy::Public } else { AddressPolicy::AllowPrivate }
    }

    /// Reads and checks the settings.
    ///
    /// # Errors
    /// The first setting that is wrong or missing.
    pub fn from_settings(s: &Settings) -> Result<Self, ConfigError> {
        let rules = Arc::new(s.rules()?);
        let network = chain::network(s)?;
        let netuid = netuid(s, network)?;
        let wallet = wallet::place(s)?;
        let policy = policy(s, &rules, network)?;
        let mut guard = GuardConfig::from_settings(s, &rules)?;
        guard.set_paced(policy.pacing.is_some());
        Ok(Self {
            store: ptn_core::ops::store::Place::from_settings(s)?,
            data_dir: s.data_dir(),
            network,
            netuid,
            source: source(s, network, netuid, &rules)?,
            hotkey_file: wallet.hotkey(),
            passwords: wallet::Passwords::from_settings(s, &wallet),
            wallet,
            policy,
            guard,
            monitor: monitor(s)?,
            server: server(s)?,
            retention: retention(s)?,
            grace: s.duration("shutdown.grace")?.unwrap_or(Duration::from_secs(10)),
            min_free: s.bytes("spool.min_free")?.unwrap_or(0),
            takeover: s.switch("takeover")?.unwrap_or(false),
            rules,
        })
    }
}

fn netuid(s: &Settings, network: Network) -> Result<u16, ConfigError> {
    if s.get("validators.file").is_some() && !s.is_set("netuid") {
        return Ok(chain::ON_FINNEY);
    }
    let netuid = chain::netuid(s, network)?;
    match network {
        Network::Test if !chain::ON_TEST.contains(&netuid) => {
            Err(s.bad("netuid", "allowed on the test network: 116, 171"))
        }
        Network::Finney | Network::Archive if netuid != chain::ON_FINNEY => {
            Err(s.bad("netuid", "allowed on finney: 8"))
        }
        _ => Ok(netuid),
    }
}

fn source(
    s: &Settings,
    network: Network,
    netuid: u16,
    rules: &Rules,
) -> Result<Source, ConfigError> {
    // Checked in any case, so that a mistake does not hide behind a list by hand.
    let chain = chain::options(s)?;
    let mut directory = DirectoryOptions::new(netuid);
    (directory.wire, directory.wires) = chain::wires(s)?;
    directory.refresh = s
        .duration("subtensor.refresh")?
        .unwrap_or(Duration::from_millis(rules.delivery.refresh_ms));
    if directory.refresh < Duration::from_secs(1) {
        return Err(s.bad("subtensor.refresh", "at least 1s: the chain makes a block every 12 s"));
    }
    if !network.is_public() {
        // Nodes of one's own make blocks faster, and nobody else asks them.
        directory.pause = Duration::from_millis(250);
    }
    directory.cache = Some(MetagraphCache::new(&s.data_dir(), netuid));
    Ok(match s.get("validators.file") {
        Some(file) => Source::File(expand_home(file)),
        None => Source::Chain(Box::new((chain, directory))),
    })
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
        Network::Test => rules.mothership_testnet.as_deref(),
        Network::Local => None,
        _ => rules.mothership_mainnet.as_deref(),
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
    if mothership.is_empty()
        && !network.is_public()
        && matches!(policy.select, Select::Mothership(_))
    {
        policy.select = Select::MostTrusted;
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

fn retention(s: &Settings) -> Result<Retention, ConfigError> {
    const WEEK: Duration = Duration::from_secs(7 * 86_400);
    let mut retention = Retention::KEEP;
    retention.archive_after = age(s, "retention.archive_after")?;
    retention.delete_after = age(s, "retention.delete_after")?;
    if retention.delete_after.is_some_and(|age| age < WEEK) {
        let why = "at least 7d: a caller that sends an old order_uuid again must be recognised";
        return Err(s.bad("retention.delete_after", why));
    }
    if retention.delete_after.is_some() && retention.archive_after.is_none() {
        let why = "needs retention.archive_after: only archived signals are deleted";
        return Err(s.bad("retention.delete_after", why));
    }
    Ok(retention)
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
