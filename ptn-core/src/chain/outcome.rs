//! What became of a call: where in a block it is, and the error with which it failed.
//!
//! A block that holds a call says in its events whether it took effect. A block that says neither
//! is not believed.

use serde::Serialize;
use subxt::config::Hasher as _;
use subxt::config::substrate::BlakeTwo256;
use subxt::dynamic::Value;
use subxt::events::Phase;
use subxt::ext::scale_decode::DecodeAsType as _;
use subxt::ext::scale_value::{At as _, ValueDef};
use subxt::utils::H256;

use super::error::ChainError;
use super::link::At;
use super::network::{hash_text, words};
use super::refusal::DispatchFailure;
use super::shape::{self, StorageShape};

const EVENTS: StorageShape = StorageShape { pallet: "System", entry: "Events", keys: 0 };

/// Where a call is in the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Hash of the block.
    pub block: String,
    /// Number of the block.
    pub number: u64,
    /// Position of the call in the block.
    pub index: u32,
}

pub(super) type Found = (Place, Option<DispatchFailure>);

/// Where in this block a call is, and whether it failed there.
pub(super) async fn find(at: &At, hash: H256) -> Result<Option<Found>, ChainError> {
    let block = at.link.methods.chain_get_block(Some(at.hash)).await;
    let block = block.map_err(|e| at.link.fault("a block", e))?;
    let block = block.ok_or_else(|| at.link.bad_answer("a block", "nothing"))?.block;
    let hasher = BlakeTwo256::new(at.runtime.metadata());
    let Some(index) = block.extrinsics.iter().position(|bytes| hasher.hash(&bytes.0) == hash)
    else {
        return Ok(None);
    };
    let index = u32::try_from(index).unwrap_or(u32::MAX);
    let place = Place { block: hash_text(at.hash.as_bytes()), number: at.number, index };
    let Some((_, events)) = at.bytes(EVENTS, (), "seeing whether a call took effect").await? else {
        return Err(at.link.bad_answer("a block's events", "nothing"));
    };
    let refused =
        |e: subxt::error::EventsError| at.link.bad_answer("a block's events", e.to_string());
    let metadata = at.runtime.metadata();
    shape::is_bounded(metadata.types(), metadata.outer_enums().event_enum_ty())
        .map_err(|e| at.link.bad_answer("a block's events", e))?;
    let mut told = false;
    for event in at.runtime.offline.events().from_bytes(events).iter() {
        let event = event.map_err(refused)?;
        if event.phase() != Phase::ApplyExtrinsic(index) || event.pallet_name() != "System" {
            continue;
        }
        told |= event.event_name() == "ExtrinsicSuccess";
        if event.event_name() == "ExtrinsicFailed" {
            let failure = failure(at, event.field_bytes(), &place, hash);
            return failure.map(|failure| Some((place, Some(failure))));
        }
    }
    // Neither success nor failure: nothing that one could rely on.
    if told {
        Ok(Some((place, None)))
    } else {
        Err(at.link.bad_answer("a block's events", "none says what became of the call"))
    }
}

/// The error in an `ExtrinsicFailed` event, by its name in the metadata.
fn failure(
    at: &At,
    mut fields: &[u8],
    place: &Place,
    hash: H256,
) -> Result<DispatchFailure, ChainError> {
    let metadata = at.runtime.metadata();
    let bad = |reason: String| at.link.bad_answer("why a call failed", reason);
    let id = metadata.dispatch_error_ty().ok_or_else(|| bad("no type in metadata".to_owned()))?;
    shape::is_bounded(metadata.types(), id).map_err(bad)?;
    let error = Value::decode_as_type(&mut fields, id, metadata.types());
    let error = error.map_err(|e| bad(e.to_string()))?;
    let ValueDef::Variant(variant) = &error.value else {
        return Err(bad("it is no variant".to_owned()));
    };
    let (mut pallet, mut name, mut docs) = (String::new(), variant.name.clone(), String::new());
    if variant.name == "Module" {
        let module = variant.values.values().next();
        let number = |field: &str, place: usize| {
            let value = module.at(field).or_else(|| module.at(place))?;
            let value = value.as_u128().or_else(|| value.at(0)?.as_u128())?;
            u8::try_from(value).ok()
        };
        let found = number("index", 0)
            .and_then(|index| metadata.pallet_by_error_index(index))
            .zip(number("error", 1));
        let (owner, number) = found.ok_or_else(|| bad("a pallet that is unknown".to_owned()))?;
        owner.name().clone_into(&mut pallet);
        match owner.error_variant_by_index(number) {
            Some(variant) => {
                name.clone_from(&variant.name);
                docs = words(variant.docs.join(" ").trim());
            }
            None => name = format!("error {number}"),
        }
    } else if let Some(inner) = variant.values.values().next()
        && let ValueDef::Variant(inner) = &inner.value
    {
        // Token(FundsUnavailable) and the like: the inner name says it.
        pallet.clone_from(&name);
        name.clone_from(&inner.name);
    }
    let block = place.block.clone();
    Ok(DispatchFailure { pallet, name, docs, block, hash: hash_text(hash.as_bytes()) })
}
