//! Which peer addresses may be called at all.
//!
//! Addresses come from the chain, where anybody may write anything: an "axon" on 169.254.169.254
//! or 127.0.0.1 would make us post signed requests into our own network. Every address passes
//! here before a socket is opened; what to do about a refusal is left to the caller.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What kind of addresses are expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum AddressPolicy {
    /// Public networks: only addresses that are routed on the internet.
    #[default]
    Public,
    /// A local network of one's own: loopback and private addresses too.
    AllowPrivate,
}

impl AddressPolicy {
    /// Whether `address` may be called; otherwise why not.
    ///
    /// # Errors
    /// The kind of address, in words.
    pub fn check(self, address: SocketAddr) -> Result<(), &'static str> {
        if address.port() == 0 {
            return Err("port 0 is no port");
        }
        if self == Self::Public && matches!(address.port(), 22 | 25) {
            return Err("the port of another service (SSH or mail)");
        }
        match (kind(address.ip()), self) {
            (Kind::Public, _) | (Kind::Private(_), Self::AllowPrivate) => Ok(()),
            (Kind::Private(why), Self::Public) | (Kind::Never(why), _) => Err(why),
        }
    }
}

enum Kind {
    Public,
    /// Fine on a local network.
    Private(&'static str),
    /// No validator can listen there.
    Never(&'static str),
}

/// A v4 address inside a v6 one is judged as v4, or the v4 rules could be walked around.
fn kind(ip: IpAddr) -> Kind {
    match ip.to_canonical() {
        IpAddr::V4(ip) => kind_v4(ip),
        IpAddr::V6(ip) => kind_v6(ip),
    }
}

fn kind_v4(ip: Ipv4Addr) -> Kind {
    match ip.octets() {
        [0, ..] => Kind::Never("0.0.0.0/8 is no address of a host"),
        [127, ..] => Kind::Private("a loopback address"),
        [10, ..] | [192, 168, ..] | [172, 16..=31, ..] => Kind::Private("a private address"),
        [100, 64..=127, ..] => {
            Kind::Private("an address of a provider's inner network (100.64/10)")
        }
        [169, 254, 169, 254] => Kind::Never("the metadata address of cloud machines"),
        [169, 254, ..] => Kind::Never("a link-local address"),
        [192, 0, 0, _] => Kind::Never("an address reserved for protocols (192.0.0/24)"),
        [198, 18..=19, ..] => Kind::Private("an address for benchmarks (198.18/15)"),
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => {
            Kind::Never("an address for documentation")
        }
        [192, 88, 99, _] => Kind::Never("a 6to4 relay address"),
        [224..=239, ..] => Kind::Never("a multicast address"),
        [240..=255, ..] => Kind::Never("a reserved address (240/4)"),
        _ => Kind::Public,
    }
}

fn kind_v6(ip: Ipv6Addr) -> Kind {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Kind::Never("the unspecified address"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Kind::Private("a loopback address"),
        [0, 0, 0, 0, 0, 0, ..] => Kind::Never("an outdated v4-compatible address"),
        [0x64, 0xff9b, ..] => Kind::Never("a NAT64 address, which may hide any v4 address"),
        [0x100, 0, 0, 0, ..] => Kind::Never("a discard address"),
        [0xfc00..=0xfdff, ..] => Kind::Private("a private address (fc00::/7)"),
        [0xfe80..=0xfebf, ..] => Kind::Never("a link-local address"),
        [0xfec0..=0xfeff, ..] => Kind::Private("a private address (fec0::/10)"),
        [0xff00..=0xffff, ..] => Kind::Never("a multicast address"),
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => {
            Kind::Never("an address for documentation")
        }
        [0x2001, 0..=0x1ff, ..] => {
            Kind::Never("an address reserved for protocols (2001::/23), Teredo included")
        }
        [0x2002, ..] => Kind::Never("a 6to4 address, which may hide any v4 address"),
        [0x2000..=0x3fff, ..] => Kind::Public,
        _ => Kind::Never("not a global unicast address"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `public` and `private`: whether the policies let it through.
    #[track_caller]
    fn check(address: &str, public: bool, private: bool) {
        let parsed: SocketAddr = address.parse().unwrap();
        assert_eq!(AddressPolicy::Public.check(parsed).is_ok(), public, "{address} Public");
        assert_eq!(
            AddressPolicy::AllowPrivate.check(parsed).is_ok(),
            private,
            "{address} AllowPrivate"
        );
    }

    #[test]
    fn routed_addresses_may_be_called() {
        for address in [
            "8.8.8.8:8091",
            "1.1.1.1:1",
            "11.0.0.1:80",
            "172.15.255.255:80",
            "172.32.0.1:80",
            "100.63.255.255:80",
            "100.128.0.1:80",
            "192.0.1.1:80",
            "192.167.1.1:80",
            "198.17.0.1:80",
            "198.20.0.1:80",
            "223.255.255.255:80",
            "[2600::1]:80",
            "[2a01:4f8::1]:80",
            "[::ffff:8.8.8.8]:80",
        ] {
            check(address, true, true);
        }
    }

    #[test]
    fn inner_addresses_are_for_local_networks_only() {
        for address in [
            "127.0.0.1:8091",
            "127.255.255.255:1",
            "10.0.0.1:80",
            "172.16.0.1:80",
            "172.31.255.255:80",
            "192.168.0.1:80",
            "100.64.0.1:80",
            "100.127.255.255:80",
            "198.18.0.1:80",
            "198.19.255.255:80",
            "[::1]:80",
            "[fc00::1]:80",
            "[fdff::1]:80",
            "[::ffff:127.0.0.1]:80",
            "[::ffff:10.1.2.3]:80",
        ] {
            check(address, false, true);
        }
    }

    #[test]
    fn ports_of_other_services_are_not_called_on_public_networks() {
        check("8.8.8.8:22", false, true);
        check("8.8.8.8:25", false, true);
        check("8.8.8.8:26", true, true);
    }

    #[test]
    fn what_is_no_validator_is_never_called() {
        for address in [
            "0.0.0.0:80",
            "0.1.2.3:80",
            "169.254.169.254:80",
            "169.254.0.1:80",
            "192.0.0.8:80",
            "192.0.2.1:80",
            "198.51.100.1:80",
            "203.0.113.1:80",
            "192.88.99.1:80",
            "224.0.0.1:80",
            "239.255.255.255:80",
            "240.0.0.1:80",
            "255.255.255.255:80",
            "8.8.8.8:0",
            "[2600::1]:0",
            "127.0.0.1:0",
            "[::]:80",
            "[::8.8.8.8]:80",
            "[::ffff:0.0.0.0]:80",
            "[::ffff:169.254.169.254]:80",
            "[fe80::1]:80",
            "[ff02::1]:80",
            "[2001:db8::1]:80",
            "[3fff::1]:80",
            "[2001::1]:80",
            "[2002:808:808::1]:80",
            "[64:ff9b::8.8.8.8]:80",
            "[64:ff9b:1::1]:80",
            "[100::1]:80",
            "[4000::1]:80",
        ] {
            check(address, false, false);
        }
    }
}
