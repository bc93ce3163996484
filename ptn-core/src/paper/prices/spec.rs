//! [`PriceSpec`]: how a user names a source of prices, on a command line or in a file of settings.
//! Opening it is left to others.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::is_pair;
use crate::trade_pair::TradePairId;

const ALLOWED: &str = "write csv:FILE or the path of a file, walk:SEED, walk:SEED:BTCUSDC,ETHUSDC, push, coinbase or coinbase:wss://HOST";

/// Where prices come from.
///
/// ```
/// use ptn_core::paper::prices::PriceSpec;
///
/// let spec: PriceSpec = "walk:42:BTCUSDC,ETHUSDC".parse()?;
/// assert_eq!(spec.to_string(), "walk:42:BTCUSDC,ETHUSDC");
/// assert_eq!("prices.csv".parse::<PriceSpec>()?.to_string(), "csv:prices.csv");
/// # Ok::<(), ptn_core::paper::prices::PriceSpecError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum PriceSpec {
    /// `csv:FILE`, or the path alone: a file for [`super::CsvPrices`].
    Csv(PathBuf),
    /// `walk:SEED` or `walk:SEED:PAIR,PAIR`: a [`super::RandomWalk`].
    Walk {
        /// The seed.
        seed: u64,
        /// The pairs; none leaves them to the reader.
        pairs: Vec<TradePairId>,
    },
    /// `push`: prices that are pushed over HTTP, see [`super::push`].
    Push,
    /// `coinbase` or `coinbase:URL`: the live ticker of Coinbase Exchange.
    Coinbase {
        /// Another address than that of the exchange.
        url: Option<FeedUrl>,
    },
}

/// A text that names no source of prices.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} names no source of prices: {reason}; {ALLOWED}")]
pub struct PriceSpecError {
    text: String,
    reason: &'static str,
}

/// What of a wrong text may be shown: no password.
fn shown(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((_, host)) => format!("...@{}", host.chars().take(100).collect::<String>()),
        None => text.chars().take(100).collect(),
    }
}

impl PriceSpecError {
    /// A stable name.
    pub const fn code(&self) -> &'static str {
        "prices_spec"
    }
}

impl PriceSpec {
    /// Whether its prices come with the clock, so that it has no end and nothing to replay.
    pub const fn is_live(&self) -> bool {
        matches!(self, Self::Push | Self::Coinbase { .. })
    }
}

impl FromStr for PriceSpec {
    type Err = PriceSpecError;

    fn from_str(text: &str) -> Result<Self, PriceSpecError> {
        let wrong = |reason| PriceSpecError { text: shown(text), reason };
        let (kind, rest) = match text.split_once(':') {
            Some((kind, rest)) => (kind, Some(rest)),
            None => (text, None),
        };
        match (kind, rest) {
            ("csv", Some("")) | ("", _) => Err(wrong("a path is missing")),
            ("csv", Some(path)) => Ok(Self::Csv(path.into())),
            ("walk", None) => Err(wrong("the seed is missing")),
            ("walk", Some(rest)) => walk(rest).map_err(wrong),
            ("push", None) => Ok(Self::Push),
            ("push", Some(_)) => Err(wrong("nothing may follow push")),
            ("coinbase", None) => Ok(Self::Coinbase { url: None }),
            ("coinbase", Some(url)) => {
                Ok(Self::Coinbase { url: Some(FeedUrl::parse(url).map_err(wrong)?) })
            }
            (_, Some(rest)) if rest.starts_with("//") => Err(wrong("it is an address")),
            _ => Ok(Self::Csv(text.into())),
        }
    }
}

fn walk(text: &str) -> Result<PriceSpec, &'static str> {
    let (seed, names) = match text.split_once(':') {
        Some((seed, names)) => (seed, Some(names)),
        None => (text, None),
    };
    let digits = !seed.is_empty() && seed.bytes().all(|byte| byte.is_ascii_digit());
    let seed = seed.parse().ok().filter(|_| digits);
    let seed = seed.ok_or("the seed is a whole number from 0 to 18446744073709551615")?;
    let mut pairs: Vec<TradePairId> = Vec::new();
    for name in names.into_iter().flat_map(|names| names.split(',')).map(str::trim) {
        let pair = TradePairId::from(name);
        if !is_pair(name) || name.contains(char::is_whitespace) {
            return Err("pairs are ids with commas between them");
        }
        if pairs.contains(&pair) {
            return Err("a pair is there twice");
        }
        pairs.push(pair);
    }
    Ok(PriceSpec::Walk { seed, pairs })
}

impl fmt::Display for PriceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Csv(path) => write!(f, "csv:{}", path.display()),
            Self::Walk { seed, pairs } => {
                write!(f, "walk:{seed}")?;
                for (n, pair) in pairs.iter().enumerate() {
                    write!(f, "{}{pair}", if n == 0 { ':' } else { ',' })?;
                }
                Ok(())
            }
            Self::Push => f.write_str("push"),
            Self::Coinbase { url: None } => f.write_str("coinbase"),
            Self::Coinbase { url: Some(url) } => write!(f, "coinbase:{url}"),
        }
    }
}

impl TryFrom<String> for PriceSpec {
    type Error = PriceSpecError;

    fn try_from(text: String) -> Result<Self, PriceSpecError> {
        text.parse()
    }
}

/// A path need not be Unicode.
impl TryFrom<OsString> for PriceSpec {
    type Error = PriceSpecError;

    fn try_from(text: OsString) -> Result<Self, PriceSpecError> {
        match text.to_str() {
            Some(text) => text.parse(),
            None => Ok(Self::Csv(text.into())),
        }
    }
}

impl From<PriceSpec> for String {
    fn from(spec: PriceSpec) -> Self {
        spec.to_string()
    }
}

/// The address of a WebSocket: `wss://HOST`, or `ws://` on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FeedUrl {
    text: String,
    encrypted: bool,
    host: String,
    port: u16,
}

impl FeedUrl {
    /// Whether it is `wss`.
    pub const fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// The host: a name, or an address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The whole address.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Scheme, host and port: what may be shown, since a path may hold a key.
    pub fn origin(&self) -> String {
        let after = self.text.find("://").map_or(0, |at| at + 3);
        let path = self.text.get(after..).and_then(|rest| rest.find(['/', '?']));
        let end = path.map_or(self.text.len(), |at| after + at);
        self.text.get(..end).unwrap_or_default().to_owned()
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        const WRONG: &str =
            "the address is wss://HOST, wss://HOST:PORT/PATH or ws://127.0.0.1:PORT";
        let (encrypted, rest) = match text.split_once("://") {
            Some(("wss", rest)) => (true, rest),
            Some(("ws", rest)) => (false, rest),
            _ => return Err(WRONG),
        };
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        if authority.contains('@') {
            return Err("an address has no password in it");
        }
        if !rest.chars().all(|c| c.is_ascii_graphic()) || rest.contains('#') {
            return Err(WRONG);
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(inner) => {
                let (host, after) = inner.split_once(']').ok_or(WRONG)?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| WRONG)?;
                match after.strip_prefix(':') {
                    None if !after.is_empty() => return Err(WRONG),
                    port => (host, port),
                }
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let named = |c: char| c.is_ascii_alphanumeric() || ".-_:".contains(c);
        if host.is_empty() || !host.chars().all(named) {
            return Err(WRONG);
        }
        let port = match port {
            Some(port) => port.parse::<u16>().ok().filter(|port| *port > 0).ok_or(WRONG)?,
            None if encrypted => 443,
            None => 80,
        };
        let loopback = host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if !encrypted && !loopback && host != "localhost" {
            return Err(
                "ws:// is for this machine only, because anybody between could change the prices",
            );
        }
        Ok(Self { text: text.to_owned(), encrypted, host: host.to_owned(), port })
    }
}

impl FromStr for FeedUrl {
    type Err = PriceSpecError;

    fn from_str(text: &str) -> Result<Self, PriceSpecError> {
        let wrong = |reason| PriceSpecError { text: shown(text), reason };
        Self::parse(text).map_err(wrong)
    }
}

impl TryFrom<String> for FeedUrl {
    type Error = PriceSpecError;

    fn try_from(text: String) -> Result<Self, PriceSpecError> {
        text.parse()
    }
}

impl fmt::Display for FeedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<FeedUrl> for String {
    fn from(url: FeedUrl) -> Self {
        url.text
    }
}
