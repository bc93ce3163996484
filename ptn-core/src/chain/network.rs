//! Which chain: the networks by name, their endpoints, and the block that identifies each.
//!
//! The genesis of finney is pinned, so that a key is never used on a wrong network because an
//! endpoint was mistyped or answers for another chain. Other networks may be reset, so theirs is
//! checked only when the user states it.

use std::fmt;
use std::str::FromStr;

use super::error::ChainError;

/// The first block of finney.
const FINNEY_GENESIS: &str = "2f0555cc76fc2840a25a6ea3b9637146806f1f44b090c175ffde2a7e5ab36c03";

/// A network known by name (`--subtensor.network`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Network {
    /// The main network.
    Finney,
    /// The public test network.
    Test,
    /// The main network, by a node that keeps every old state.
    Archive,
    /// A node on this machine.
    Local,
}

impl Network {
    /// Every network, in the order of the documentation.
    pub const ALL: [Self; 4] = [Self::Finney, Self::Test, Self::Archive, Self::Local];

    /// The word on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Finney => "finney",
            Self::Test => "test",
            Self::Archive => "archive",
            Self::Local => "local",
        }
    }

    /// Where its nodes listen, the best first.
    pub const fn endpoints(self) -> &'static [&'static str] {
        match self {
            Self::Finney => &[
                "wss://entrypoint-finney.opentensor.ai:443",
                "wss://lite.chain.opentensor.ai:443",
                "wss://archive.chain.opentensor.ai:443",
            ],
            Self::Test => &["wss://test.finney.opentensor.ai:443"],
            Self::Archive => &["wss://archive.chain.opentensor.ai:443"],
            Self::Local => &["ws://127.0.0.1:9944"],
        }
    }

    /// The hash of its first block, where it can be known.
    pub fn genesis(self) -> Option<[u8; 32]> {
        match self {
            Self::Finney | Self::Archive => parse_hash(FINNEY_GENESIS),
            Self::Test | Self::Local => None,
        }
    }

    /// Whether everybody can register there, so that addresses must be distrusted.
    pub const fn is_public(self) -> bool {
        !matches!(self, Self::Local)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Network {
    type Err = ChainError;

    fn from_str(text: &str) -> Result<Self, ChainError> {
        Self::ALL
            .into_iter()
            .find(|network| network.as_str() == text)
            .ok_or_else(|| ChainError::UnknownNetwork { name: text.to_owned() })
    }
}

/// 32 bytes from their hexadecimal text, with or without `0x`.
pub(super) fn parse_hash(text: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    hex::decode_to_slice(text.strip_prefix("0x").unwrap_or(text), &mut hash).ok()?;
    Some(hash)
}

/// The usual text of a hash.
pub(super) fn hash_text(hash: &[u8]) -> String {
    format!("0x{}", hex::encode(hash))
}

/// Whether a text is the address of a node: `ws://` or `wss://`, a host, no user and password.
pub(super) fn check_endpoint(url: &str) -> Result<(), ChainError> {
    let bad = |reason| ChainError::BadEndpoint { url: shown(url), reason };
    let Some(rest) = url.strip_prefix("wss://").or_else(|| url.strip_prefix("ws://")) else {
        return Err(bad("it must begin with wss:// or ws://"));
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(bad("a user and password in it would be sent to the node and shown in logs"));
    }
    // The colons of an IPv6 address are within its brackets.
    let (host, port) = match authority.split_once(']') {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, Some(rest.strip_prefix(':').unwrap_or_default())),
        None => {
            authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)))
        }
    };
    if host.is_empty() || host == "[" {
        return Err(bad("a host is missing"));
    }
    let digits = |port: &str| port.bytes().all(|b| b.is_ascii_digit());
    let is_port = |port: &str| digits(port) && port.parse::<u16>().is_ok_and(|port| port > 0);
    if port.is_some_and(|port| !is_port(port)) {
        return Err(bad("its port must be a number from 1 to 65535"));
    }
    if url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(bad("it has a blank in it"));
    }
    Ok(())
}

/// An endpoint for people: without user, path and query, in which providers put keys.
pub(crate) fn shown(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), url),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, more) = rest.split_at_checked(end).unwrap_or((rest, ""));
    let host = host.rsplit('@').next().unwrap_or(host);
    let more = if more.len() > 1 { "/..." } else { "" };
    words(&format!("{scheme}{host}{more}"))
}

/// Whether somebody between us and the node could change what it says.
pub(super) fn is_exposed(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("ws://") else { return false };
    let near = ["127.", "localhost", "[::1]"];
    !near.iter().any(|host| rest.starts_with(host))
}

/// Words of others, fit to be shown: no control characters, no more than a paragraph.
pub(super) fn words(text: &str) -> String {
    const MOST: usize = 400;
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let mut shown: String = text.chars().take(MOST).map(clean).collect();
    if text.chars().nth(MOST).is_some() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_known_by_their_words() {
        for network in Network::ALL {
            assert_eq!(network.as_str().parse::<Network>().unwrap(), network);
            for endpoint in network.endpoints() {
                check_endpoint(endpoint).unwrap();
            }
        }
        assert_eq!("mainnet".parse::<Network>().unwrap_err().code(), "chain_unknown_network");
        assert!(Network::Finney.genesis().is_some());
    }

    #[test]
    fn keys_in_addresses_and_odd_characters_are_not_shown() {
        for (url, text) in [
            ("wss://node.example:443", "wss://node.example:443"),
            ("wss://node.example/", "wss://node.example"),
            ("wss://node.example/v1/secret", "wss://node.example/..."),
            ("wss://node.example?key=secret", "wss://node.example/..."),
            ("ws://user:secret@[::1]:9944", "ws://[::1]:9944"),
            ("host\u{1b}[2J", "host [2J"),
        ] {
            assert_eq!(shown(url), text);
        }
        assert_eq!(words(&"a".repeat(1000)).len(), 403);
        assert!(is_exposed("ws://node.example"));
        assert!(!is_exposed("wss://node.example") && !is_exposed("ws://127.0.0.1:9944"));
    }

    #[test]
    fn addresses_of_nodes() {
        for good in ["ws://127.0.0.1:9944", "wss://node.example/path", "ws://[::1]:9944"] {
            assert!(check_endpoint(good).is_ok(), "{good}");
        }
        for bad in
            ["", "http://a", "127.0.0.1:9944", "ws://", "ws://:9944", "ws://u:p@host", "ws://a b"]
        {
            assert_eq!(check_endpoint(bad).unwrap_err().code(), "chain_bad_endpoint", "{bad}");
        }
        for port in ["99999", "65536", "0", "", "x", "1:2", "-1", "+1"] {
            for host in ["127.0.0.1", "[::1]", "node.example"] {
                let bad = format!("wss://{host}:{port}/v1");
                let error = check_endpoint(&bad).unwrap_err().to_string();
                assert!(error.contains("from 1 to 65535"), "{bad}: {error}");
            }
        }
    }
}
