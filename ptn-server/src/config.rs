//! What can be set, with the defaults.
//!
//! Every setting is text under a dotted key (`server.listen`) before it is typed here, so files,
//! environment and flags share one list and one set of error texts. Where the text comes from is
//! left to the binaries.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ptn_core::ops::config::{ConfigError, Settings, parse_duration, parse_switch};
use ptn_core::ops::settings::SERVER;

use crate::net::Network;
use crate::tradingview::TradingView;

/// How many requests per second, and how many at once after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Sustained requests per second.
    pub per_second: u32,
    /// Requests at once after a pause.
    pub burst: u32,
}

/// Everything that `run` needs to know. `Default` is what the flags default to.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServerConfig {
    /// The data directory (`mining/`), for the key files.
    pub data_dir: PathBuf,
    /// How long `submit-order` waits for the validators before it answers 202.
    pub submit_deadline: Duration,
    /// Whether requests are limited per key and per address.
    pub limits: bool,
    /// The limit per API key.
    pub key_rate: Rate,
    /// The limit per client address.
    pub address_rate: Rate,
    /// Wrong keys from one address within a minute before they are answered 429.
    pub auth_failures_per_minute: u32,
    /// Largest request body in bytes.
    pub max_body: usize,
    /// From the opening of a connection, or the end of an answer, to the end of the next head.
    pub header_timeout: Duration,
    /// From the end of the head to the end of the body.
    pub body_timeout: Duration,
    /// How long a client may leave an answer unread.
    pub write_timeout: Duration,
    /// Connections at once.
    pub max_connections: usize,
    /// Connections at once from one address; trusted proxies are exempt.
    pub max_connections_per_address: usize,
    /// Signals that are handed to the store at once.
    pub max_in_flight: usize,
    /// Requests that may wait for their turn beyond these.
    pub max_queued: usize,
    /// When the store has not answered for this long, nothing more is queued.
    pub store_patience: Duration,
    /// Unfinished signals in the store; beyond it new ones are refused.
    pub max_pending: u64,
    /// Callers that wait for the validators' answers at once.
    pub max_waiting: usize,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// The only addresses that may call; empty means all.
    pub allow_from: Vec<Network>,
    /// What to do with TradingView's own words.
    pub tradingview: TradingView,
    /// How long an API key stays valid after it was replaced in its file.
    pub key_overlap: Duration,
    /// Below this many free bytes the store accepts nothing; only shown here.
    pub min_free: u64,
    /// How long running requests may take after the shutdown began.
    pub grace: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("mining"),
            submit_deadline: Duration::from_secs(110),
            limits: true,
            key_rate: Rate { per_second: 100, burst: 200 },
            address_rate: Rate { per_second: 200, burst: 400 },
            auth_failures_per_minute: 20,
            max_body: 256 * 1024,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(30),
            max_connections: 1000,
            max_connections_per_address: 256,
            max_in_flight: 256,
            max_queued: 512,
            store_patience: Duration::from_secs(2),
            max_pending: 100_000,
            max_waiting: 500,
            trusted_proxies: Vec::new(),
            allow_from: Vec::new(),
            tradingview: TradingView::default(),
            key_overlap: Duration::ZERO,
            min_free: 0,
            grace: Duration::from_secs(10),
        }
    }
}

/// Where the server listens unless told otherwise.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:8088";

impl ServerConfig {
    /// Reads the settings of [`ptn_core::ops::settings::SERVER`].
    ///
    /// # Errors
    /// The first one that is wrong.
    pub fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        let min_free = settings.bytes("spool.min_free")?.unwrap_or(0);
        let mut config = Self { data_dir: settings.data_dir(), min_free, ..Self::default() };
        for setting in SERVER {
            if let Some(value) = settings.get(setting.key) {
                config.set(setting.key, value).map_err(|why| settings.bad(setting.key, why))?;
            }
        }
        Ok(config)
    }

    /// Sets one value by its key.
    ///
    /// # Errors
    /// What is allowed, in one sentence for behind key and value; an unknown key is an error.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let say = |wanted: &str| format!("expected {wanted}");
        let duration = || parse_duration(value).ok_or_else(|| say("a time like 500ms, 30s or 5m"));
        // Without any time nothing can be read or written.
        let some_time = || match duration()? {
            time if time < Duration::from_millis(1) => Err(say("a time of at least 1ms")),
            time => Ok(time),
        };
        let count = |least: usize| {
            value
                .parse()
                .ok()
                .filter(|n| *n >= least)
                .ok_or_else(|| format!("expected a whole number from {least}"))
        };
        let flag = || parse_switch(value).ok_or_else(|| say("on or off"));
        let rate = || parse_rate(value).ok_or_else(|| say("requests per second / burst: 100/200"));
        let networks = || Network::parse_list(value);
        match key {
            "server.submit_deadline" => self.submit_deadline = duration()?,
            "server.limits" => self.limits = flag()?,
            "server.key_rate" => self.key_rate = rate()?,
            "server.address_rate" => self.address_rate = rate()?,
            "server.auth_failures" => {
                self.auth_failures_per_minute = value.parse().map_err(|_| say("a whole number"))?;
            }
            "server.max_body" => self.max_body = count(1024)?,
            "server.header_timeout" => self.header_timeout = some_time()?,
            "server.body_timeout" => self.body_timeout = some_time()?,
            "server.write_timeout" => self.write_timeout = some_time()?,
            "server.max_connections" => self.max_connections = count(1)?,
            "server.max_connections_per_address" => {
                self.max_connections_per_address = count(1)?;
            }
            "server.max_in_flight" => {
                // More permits than this a semaphore cannot have.
                self.max_in_flight = count(1)?.min(tokio::sync::Semaphore::MAX_PERMITS);
            }
            "server.max_queued" => self.max_queued = count(0)?,
            "server.store_patience" => self.store_patience = some_time()?,
            "server.max_pending" => self.max_pending = count(1)? as u64,
            "server.max_waiting" => self.max_waiting = count(0)?,
            "server.trusted_proxies" => self.trusted_proxies = networks()?,
            "server.allow_from" => self.allow_from = networks()?,
            "server.key_overlap" => self.key_overlap = duration()?,
            "tradingview.actions" => self.tradingview.actions = flag()?,
            "tradingview.position_change" => self.tradingview.position_change = flag()?,
            "tradingview.tickers" => self.tradingview.set_tickers(value)?,
            "tradingview.idempotency" => self.tradingview.idempotency = flag()?,
            _ => return Err(format!("{key} is not a setting of the server")),
        }
        Ok(())
    }
}

/// Reads where to listen; a bare port means loopback.
///
/// # Errors
/// Says what is allowed.
pub fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let address = match text.parse::<u16>() {
        Ok(port) => Ok(SocketAddr::from(([127, 0, 0, 1], port))),
        Err(_) => text.parse(),
    };
    address.map_err(|_| format!("expected an address and a port like {DEFAULT_LISTEN}"))
}

fn parse_rate(text: &str) -> Option<Rate> {
    let (per_second, burst) = match text.split_once('/') {
        Some((rate, burst)) => (rate.trim().parse().ok()?, burst.trim().parse().ok()?),
        None => {
            let rate: u32 = text.trim().parse().ok()?;
            (rate, rate.checked_mul(2)?)
        }
    };
    (per_second > 0 && burst > 0).then_some(Rate { per_second, burst })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_a_default_that_is_the_default() {
        let mut config = ServerConfig::default();
        for setting in SERVER {
            if let Some(default) = setting.default {
                config.set(setting.key, default).unwrap();
            }
        }
        assert_eq!(format!("{config:?}"), format!("{:?}", ServerConfig::default()));
    }

    #[test]
    fn wrong_values_are_refused_with_what_is_allowed() {
        let mut config = ServerConfig::default();
        for (key, value, part) in [
            ("server.limits", "maybe", "on or off"),
            ("server.submit_deadline", "soon", "30s"),
            ("server.key_rate", "0", "100/200"),
            ("server.allow_from", "tradingview,here", "\"here\""),
            ("server.max_body", "0", "from 1024"),
            ("server.max_connections", "0", "from 1"),
            ("server.max_in_flight", "0", "from 1"),
            ("server.max_pending", "many", "from 1"),
            ("server.header_timeout", "0s", "at least 1ms"),
            ("server.color", "red", "not a setting"),
        ] {
            let error = config.set(key, value).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_bare_port_is_loopback() {
        assert_eq!(parse_listen("80").unwrap().to_string(), "127.0.0.1:80");
        assert_eq!(parse_listen("0.0.0.0:80").unwrap().to_string(), "0.0.0.0:80");
        assert!(parse_listen("localhost").is_err());
    }
}
