//! Address ranges, and who is really calling.
//!
//! Behind a proxy the socket's address is the proxy's. `X-Forwarded-For` can be written by anyone,
//! so it counts only as far as the hops are proxies that the operator named. What to do with the
//! address is left to `limits` and `edge`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use axum::http::HeaderMap;

/// An address or a range of addresses: `192.0.2.7`, `10.0.0.0/8`, `2001:db8::/32`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    bits: u8,
}

/// The addresses from which TradingView calls webhooks (its help page 43000529348).
pub(crate) const TRADINGVIEW: [&str; 4] =
    ["52.89.214.238", "34.212.75.30", "54.218.53.128", "52.32.178.7"];

impl Network {
    /// Whether an address is in the range. An IPv4 address in IPv6 clothes counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address.to_canonical()) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                base.to_bits() & mask == address.to_bits() & mask
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                base.to_bits() & mask == address.to_bits() & mask
            }
            _ => false,
        }
    }

    /// Reads a comma-separated list; the word `tradingview` stands for its four addresses.
    ///
    /// # Errors
    /// Says which part is not an address.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, String> {
        let mut networks = Vec::new();
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            if part.eq_ignore_ascii_case("tradingview") {
                for address in TRADINGVIEW {
                    networks.push(address.parse()?);
                }
            } else {
                networks.push(part.parse()?);
            }
        }
        Ok(networks)
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "{text:?} is not an address (192.0.2.7), a range (10.0.0.0/8) or the word tradingview"
            )
        };
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let base = address.parse::<IpAddr>().map_err(|_| bad())?.to_canonical();
        let most = if base.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) => bits.parse().ok().filter(|b| *b <= most).ok_or_else(bad)?,
        };
        Ok(Self { base, bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The client's address: the socket's peer, or, when that is a trusted proxy, the last address in
/// `X-Forwarded-For` that is not a trusted proxy itself.
pub(crate) fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let is_trusted = |a: IpAddr| trusted.iter().any(|n| n.contains(a));
    let mut client = peer.to_canonical();
    if trusted.is_empty() || !is_trusted(client) {
        return client;
    }
    let values: Vec<&str> = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(str::trim)
        .collect();
    for hop in values.into_iter().rev() {
        // Some proxies write the port too.
        let address = hop
            .parse::<IpAddr>()
            .or_else(|_| hop.parse::<std::net::SocketAddr>().map(|s| s.ip()))
            .map(|a| a.to_canonical());
        match address {
            Ok(address) => client = address,
            // What follows to the left was written by someone we know nothing about.
            Err(_) => break,
        }
        if !is_trusted(client) {
            break;
        }
    }
    client
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_what_they_say() {
        for (network, address, inside) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("0.0.0.0/0", "::1", false),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "::ffff:192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("::/0", "2001:db8::1", true),
        ] {
            let network: Network = network.parse().unwrap();
            assert_eq!(network.contains(address.parse().unwrap()), inside, "{network} {address}");
        }
        for bad in ["10.0.0.0/33", "host", "1.2.3", "::/129", "10.0.0.0/-1"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
        assert_eq!(Network::parse_list("tradingview, 127.0.0.1").unwrap().len(), 5);
    }

    #[test]
    fn forwarded_addresses_count_only_behind_trusted_proxies() {
        let trusted = Network::parse_list("127.0.0.1, 10.0.0.0/8").unwrap();
        let client = |peer: &str, forwarded: &str, trusted: &[Network]| {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", forwarded.parse().unwrap());
            client_address(peer.parse().unwrap(), &headers, trusted).to_string()
        };
        assert_eq!(client("127.0.0.1", "192.0.2.1", &[]), "127.0.0.1");
        assert_eq!(client("192.0.2.9", "192.0.2.1", &trusted), "192.0.2.9");
        assert_eq!(client("127.0.0.1", "192.0.2.1", &trusted), "192.0.2.1");
        assert_eq!(client("127.0.0.1", "1.1.1.1, 192.0.2.1, 10.1.1.1", &trusted), "192.0.2.1");
        assert_eq!(client("127.0.0.1", "192.0.2.1:4711", &trusted), "192.0.2.1");
        assert_eq!(client("127.0.0.1", "192.0.2.1, nonsense", &trusted), "127.0.0.1");
    }
}
