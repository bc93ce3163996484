//! ss58 addresses with network prefix 42, the only ones that this network's wires carry.
//!
//! Addresses are compared as text by every peer, so each key must have exactly one spelling:
//! addresses of other prefixes (Polkadot, Kusama, ...) and surrounding blanks are refused here,
//! although other tools decode them. Wire spec section 7.

use blake2::{Blake2b512, Digest};

const PREFIX: u8 = 42;
/// Prefix, public key, checksum.
const LEN: usize = 1 + 32 + 2;
/// 35 bytes are at most 48 characters; longer texts are not worth decoding.
const MAX_TEXT: usize = 48;

/// Why a text is not an address of this network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Ss58Error {
    /// A character outside the base58 alphabet, blanks included.
    #[error("not base58: an address has only letters and digits, without 0, O, I and l")]
    NotBase58,
    /// Too long or too short.
    #[error("wrong length: an address has 47 or 48 characters")]
    Length,
    /// An address of another network.
    #[error("an address of another network: addresses here start with 5 (ss58 prefix 42)")]
    Prefix,
    /// A typing error.
    #[error("the checksum does not fit: a character is wrong or missing")]
    Checksum,
}

/// The address of a public key.
pub fn encode(public_key: &[u8; 32]) -> String {
    let mut bytes = [0; LEN];
    bytes[0] = PREFIX;
    bytes[1..33].copy_from_slice(public_key);
    let sum = checksum(&bytes[..33]);
    bytes[33..].copy_from_slice(&sum);
    bs58::encode(bytes).into_string()
}

/// The public key of an address.
///
/// # Errors
/// See [`Ss58Error`].
pub fn decode(address: &str) -> Result<[u8; 32], Ss58Error> {
    if address.is_empty() || address.len() > MAX_TEXT {
        // Blanks and line ends are the usual mistake, and have their own words.
        let foreign = |b: u8| !b.is_ascii_alphanumeric() || b"0OIl".contains(&b);
        return Err(match address.bytes().any(foreign) {
            true => Ss58Error::NotBase58,
            false => Ss58Error::Length,
        });
    }
    let mut bytes = [0; MAX_TEXT];
    let len = bs58::decode(address).onto(bytes.as_mut_slice()).map_err(|_| Ss58Error::NotBase58)?;
    let Some(bytes) = bytes.get(..len).and_then(|b| <&[u8; LEN]>::try_from(b).ok()) else {
        return Err(Ss58Error::Length);
    };
    if bytes[0] != PREFIX {
        return Err(Ss58Error::Prefix);
    }
    if checksum(&bytes[..33]) != bytes[33..] {
        return Err(Ss58Error::Checksum);
    }
    let mut key = [0; 32];
    key.copy_from_slice(&bytes[1..33]);
    Ok(key)
}

fn checksum(prefixed: &[u8]) -> [u8; 2] {
    let hash: [u8; 64] =
        Blake2b512::new().chain_update(b"SS58PRE").chain_update(prefixed).finalize().into();
    [hash[0], hash[1]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_comes_back_as_its_key() {
        for key in [[0; 32], [255; 32], [7; 32]] {
            assert_eq!(decode(&encode(&key)), Ok(key));
        }
    }

    #[test]
    fn mistakes_are_named() {
        let good = "5HUGc9tvc9kxrhGdc3rz36dBAEvoqSbJMcGQSTsZSt1F1TkJ";
        assert!(decode(good).is_ok());
        for (text, error) in [
            ("", Ss58Error::Length),
            ("5HUGc9tvc9kxrhGdc3rz36dBAEvoqSbJMcGQSTsZSt1F1Tkx", Ss58Error::Checksum),
            (" 5HUGc9tvc9kxrhGdc3rz36dBAEvoqSbJMcGQSTsZSt1F1TkJ", Ss58Error::NotBase58),
            ("5HUGc9tvc9kxrhGdc3rz36dBAEvoqSbJMcGQSTsZSt1F1TkJ1", Ss58Error::Length),
            ("50UGc9tvc9kxrhGdc3rz36dBAEvoqSbJMcGQSTsZSt1F1TkJ", Ss58Error::NotBase58),
            ("16QZkV9zTw2SJEH9ZguzBFTL1rvTXk9SS6ztbkruzy2mBqBk", Ss58Error::Prefix),
        ] {
            assert_eq!(decode(text), Err(error), "{text:?}");
        }
    }
}
