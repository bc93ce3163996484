//! Reading signed extrinsics, and everything that a pool checks before it takes one: the signature
//! over exactly the bytes that the runtime of the moment expects, the lifetime, the account's
//! number, and whether the fee can be paid.

use subxt::config::Hasher as _;
use subxt::config::substrate::BlakeTwo256;
use subxt::ext::codec::{Compact, Decode, Encode};
use subxt::ext::frame_decode::extrinsics::decode_extrinsic;
use subxt::utils::{Era, H256};

use super::dispatch::{DecodedCall, EXISTENTIAL_DEPOSIT, fee};
use super::state::{Key, State};
use crate::sign::verify_key;

/// The runtime's number for a stake that is below what weights need.
const STAKE_TOO_LOW: u8 = 1;

/// Why a pool does not take an extrinsic: code, message, data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NotTaken(pub(super) i32, pub(super) &'static str, pub(super) String);

impl NotTaken {
    pub(super) fn invalid(why: impl Into<String>) -> Self {
        Self(1010, "Invalid Transaction", why.into())
    }
}

/// A signed extrinsic whose signature is right.
#[derive(Debug, Clone)]
pub(super) struct Signed {
    pub(super) bytes: Vec<u8>,
    pub(super) hash: H256,
    pub(super) who: Key,
    pub(super) nonce: u32,
    pub(super) call: DecodedCall,
    /// The first block that may not include it any more.
    pub(super) dies: u64,
}

/// Hash of an extrinsic.
pub(super) fn hash(state: &State, bytes: &[u8]) -> H256 {
    BlakeTwo256::new(&state.spec.metadata).hash(bytes)
}

/// Reads and checks an extrinsic for the next block after `best`. `block_hash` knows the chain.
pub(super) fn check(
    state: &State,
    bytes: &[u8],
    best: u64,
    block_hash: impl Fn(u64) -> Option<H256>,
) -> Result<Signed, NotTaken> {
    let metadata = &state.spec.metadata;
    let types = metadata.types();
    let unreadable = |why: String| NotTaken(1002, "Verification Error: Runtime error", why);
    let extrinsic = decode_extrinsic(&mut &*bytes, metadata, types)
        .map_err(|e| unreadable(format!("Execution failed: {e}")))?;
    let (Some(signature), Some(extensions)) =
        (extrinsic.signature_payload(), extrinsic.transaction_extension_payload())
    else {
        return Err(NotTaken::invalid("it is not signed"));
    };
    let part = |range: std::ops::Range<usize>| bytes.get(range).unwrap_or_default();
    // `MultiAddress::Id`, `MultiSignature::Sr25519`: one byte, then what it says.
    let who = part(signature.address_range());
    let who = match (who.first(), who.get(1..).map(Key::try_from)) {
        (Some(0), Some(Ok(who))) => who,
        _ => return Err(NotTaken::invalid("Transaction has a bad signature")),
    };
    let signed_with = part(signature.signature_range());
    let mut era = Era::Immortal;
    let mut nonce = 0;
    for extension in extensions.iter() {
        let mut value = part(extension.range());
        let bad = |_| NotTaken::invalid("Transaction has a bad signature");
        match extension.name() {
            "CheckMortality" => era = Era::decode(&mut value).map_err(bad)?,
            "CheckNonce" => nonce = Compact::<u32>::decode(&mut value).map_err(bad)?.0,
            _ => {}
        }
    }
    let (born, dies) = life(era, best);
    let ancient = || NotTaken::invalid("Transaction has an ancient birth block");
    let birth_hash = block_hash(born).ok_or_else(ancient)?;
    let genesis = block_hash(0).ok_or_else(ancient)?;
    let mut message = part(extrinsic.call_data_range()).to_vec();
    message.extend_from_slice(part(extensions.range()));
    for extension in extensions.iter() {
        match extension.name() {
            "CheckSpecVersion" => state.spec.version.encode_to(&mut message),
            "CheckTxVersion" => super::TRANSACTION_VERSION.encode_to(&mut message),
            "CheckGenesis" => genesis.encode_to(&mut message),
            "CheckMortality" => birth_hash.encode_to(&mut message),
            "CheckMetadataHash" => message.push(0),
            _ => {}
        }
    }
    if message.len() > 256 {
        message = BlakeTwo256::new(metadata).hash(&message).as_bytes().to_vec();
    }
    let signature = match signed_with.split_first() {
        Some((1, signature)) => signature,
        _ => return Err(NotTaken::invalid("Transaction has a bad signature")),
    };
    if !verify_key(&who, &message, signature) {
        return Err(NotTaken::invalid("Transaction has a bad signature"));
    }
    if best >= dies {
        return Err(ancient());
    }
    let account = state.accounts.get(&who).copied().unwrap_or_default();
    if nonce < account.nonce {
        return Err(NotTaken::invalid("Transaction is outdated"));
    }
    let spendable = account.free.saturating_sub(account.frozen);
    let fee = fee(extrinsic.pallet_name(), extrinsic.call_name());
    if fee > 0 && spendable < fee.saturating_add(EXISTENTIAL_DEPOSIT) {
        let why = "Inability to pay some fees (e.g. account balance too low)";
        return Err(NotTaken::invalid(why));
    }
    let arguments = extrinsic
        .call_data()
        .map(|argument| {
            (argument.name().to_owned(), *argument.ty(), part(argument.range()).to_vec())
        })
        .collect();
    let call = DecodedCall {
        pallet: extrinsic.pallet_name().to_owned(),
        name: extrinsic.call_name().to_owned(),
        arguments,
    };
    if !state.has_stake_for_weights(&who, &call) {
        return Err(NotTaken::invalid(format!("Custom error: {STAKE_TOO_LOW}")));
    }
    Ok(Signed { bytes: bytes.to_vec(), hash: hash(state, bytes), who, nonce, call, dies })
}

/// What including an extrinsic costs, if it can be read; its length follows it as four bytes.
pub(super) fn fee_of(state: &State, input: &[u8]) -> u64 {
    let metadata = &state.spec.metadata;
    let bytes = input.get(..input.len().saturating_sub(4)).unwrap_or_default();
    let extrinsic = decode_extrinsic(&mut &*bytes, metadata, metadata.types());
    extrinsic.map_or(0, |read| fee(read.pallet_name(), read.call_name()))
}

/// First block of a lifetime, and the first one after it.
fn life(era: Era, best: u64) -> (u64, u64) {
    match era {
        Era::Immortal => (0, u64::MAX),
        Era::Mortal { period, phase } => {
            let born = (best.max(phase) - phase) / period * period + phase;
            (born, born.saturating_add(period))
        }
    }
}
