//! Reading by shape: names and structure from the node's own metadata, never compiled-in types.
//!
//! A runtime of another month wraps the same bytes in other type names (`NetUid(u16)` for `u16`)
//! and gains or loses fields. So a value is read by what it is made of: wrappers of one field are
//! looked through (by `scale-decode` itself), and a struct is cut into named columns, of which only
//! the wanted ones are read. What is missing is named.

use std::collections::BTreeMap;

use scale_info::form::PortableForm;
use scale_info::{
    PortableRegistry, Type, TypeDef, TypeDefArray, TypeDefPrimitive, TypeDefSequence,
};
use subxt::ext::scale_decode::DecodeAsType;
use subxt::ext::scale_decode::visitor::{IgnoreVisitor, decode_with_visitor};
use subxt::metadata::Metadata;

/// What is wrong with a value or a shape, in words.
pub(super) type Reason = String;

/// How deep types may stand in each other; those of real runtimes do so less than 20 times.
const DEEPEST: usize = 64;
/// How many types one value may be made of.
const MOST_TYPES: usize = 100_000;

/// The metadata of a node. Not by `Metadata::decode_from`: of bytes that begin with their own length it
/// asks itself without end.
pub(super) fn metadata_of(mut bytes: &[u8]) -> Result<Metadata, Reason> {
    use subxt::ext::codec::Decode as _;
    let metadata = Metadata::decode(&mut bytes).map_err(|e| e.to_string())?;
    has_no_endless_value(metadata.types())?;
    Ok(metadata)
}

/// No type stands in itself in such a way that a value of it would have no end: whoever looks through
/// the wrappers of one would never come back.
fn has_no_endless_value(types: &PortableRegistry) -> Result<(), Reason> {
    let mut heights = vec![None; types.types.len()];
    for id in 0..types.types.len() {
        height(types, u32::try_from(id).unwrap_or(u32::MAX), &mut heights, 0)?;
    }
    Ok(())
}

fn height(
    types: &PortableRegistry,
    id: u32,
    heights: &mut [Option<usize>],
    above: usize,
) -> Result<usize, Reason> {
    let place = usize::try_from(id).unwrap_or(usize::MAX);
    let known = heights.get(place).copied().flatten();
    if above + known.unwrap_or(0) > DEEPEST {
        return Err(format!("type {id} has others in it without end"));
    }
    if let Some(known) = known {
        return Ok(known);
    }
    let mut found = 0;
    for part in types.resolve(id).map(always_there).unwrap_or_default() {
        found = found.max(1 + height(types, part, heights, above + 1)?);
    }
    if let Some(known) = heights.get_mut(place) {
        *known = Some(found);
    }
    Ok(found)
}

/// The types of the parts that every value of a type has.
fn always_there(ty: &Type<PortableForm>) -> Vec<u32> {
    match &ty.type_def {
        TypeDef::Composite(composite) => composite.fields.iter().map(|f| f.ty.id).collect(),
        TypeDef::Tuple(tuple) => tuple.fields.iter().map(|f| f.id).collect(),
        TypeDef::Array(array) => vec![array.type_param.id],
        TypeDef::Compact(compact) => vec![compact.type_param.id],
        _ => Vec::new(),
    }
}

/// Whether values of a type can be read within bounds, whatever the bytes are: their types do not
/// contain themselves, and nothing that takes no bytes is there any number of times.
pub(super) fn is_bounded(types: &PortableRegistry, id: u32) -> Result<(), Reason> {
    least_bytes(types, id, 0, &mut 0).map(drop)
}

fn least_bytes(
    types: &PortableRegistry,
    id: u32,
    above: usize,
    visited: &mut usize,
) -> Result<usize, Reason> {
    *visited += 1;
    if above > DEEPEST || *visited > MOST_TYPES {
        return Err(format!("type {id} has others in it without end"));
    }
    let Some(ty) = types.resolve(id) else { return Ok(0) };
    let mut least = |id| least_bytes(types, id, above + 1, visited);
    match &ty.type_def {
        TypeDef::Composite(_) | TypeDef::Tuple(_) => always_there(ty)
            .into_iter()
            .try_fold(0_usize, |sum, id| Ok(sum.saturating_add(least(id)?))),
        TypeDef::Array(array) if array.len == 0 => least(array.type_param.id).map(|_| 0),
        TypeDef::Array(TypeDefArray { type_param: element, .. })
        | TypeDef::Sequence(TypeDefSequence { type_param: element }) => match least(element.id)? {
            0 => Err(format!("type {id} is a list of what takes no bytes")),
            _ => Ok(1),
        },
        TypeDef::Variant(variants) => {
            for field in variants.variants.iter().flat_map(|variant| &variant.fields) {
                least(field.ty.id)?;
            }
            Ok(1)
        }
        TypeDef::Primitive(_) | TypeDef::Compact(_) | TypeDef::BitSequence(_) => Ok(1),
    }
}

/// The fields of one encoded struct, by name.
#[derive(Debug)]
pub(super) struct Columns<'a> {
    types: &'a PortableRegistry,
    fields: BTreeMap<&'a str, (u32, &'a [u8])>,
}

impl<'a> Columns<'a> {
    /// Cuts the bytes of a struct into its fields. `Ok(None)` is an empty `Option` around it.
    pub(super) fn read(
        types: &'a PortableRegistry,
        id: u32,
        bytes: &'a [u8],
    ) -> Result<Option<Self>, Reason> {
        let (id, rest) = match (inside_option(types, id), bytes.split_first()) {
            (None, _) => (id, bytes),
            (Some(_), Some((0, []))) => return Ok(None),
            (Some(inner), Some((1, rest))) => (inner, rest),
            (Some(_), _) => return Err("neither none nor some".to_owned()),
        };
        is_bounded(types, id)?;
        let mut rest = rest;
        let mut fields = BTreeMap::new();
        for (name, field) in named_fields(types, id).ok_or("not a struct with names")? {
            let before = rest;
            decode_with_visitor(&mut rest, field, types, IgnoreVisitor::new())
                .map_err(|e| format!("field {name}: {e}"))?;
            let used = before.len() - rest.len();
            fields.insert(name, (field, before.get(..used).unwrap_or_default()));
        }
        if rest.is_empty() {
            Ok(Some(Self { types, fields }))
        } else {
            Err(format!("{} bytes too many", rest.len()))
        }
    }

    /// The value of a field, if there is such a field. An empty `Option` counts as no field.
    pub(super) fn find<T: DecodeAsType>(&self, name: &str) -> Result<Option<T>, Reason> {
        let Some((id, bytes)) = self.fields.get(name) else { return Ok(None) };
        let (id, bytes) = match (inside_option(self.types, *id), bytes.split_first()) {
            (Some(_), Some((0, _)) | None) => return Ok(None),
            (Some(inner), Some((_, rest))) => (inner, rest),
            (None, _) => (*id, *bytes),
        };
        decode(self.types, id, bytes).map(Some).map_err(|e| format!("field {name}: {e}"))
    }

    /// The value of a field that must be there.
    pub(super) fn take<T: DecodeAsType>(&self, name: &str) -> Result<T, Reason> {
        self.find(name)?.ok_or_else(|| format!("field {name} is missing"))
    }

    /// The fields of a field that is a struct itself.
    pub(super) fn inner(&self, name: &str) -> Result<Self, Reason> {
        let (id, bytes) =
            self.fields.get(name).ok_or_else(|| format!("field {name} is missing"))?;
        Columns::read(self.types, *id, bytes)
            .and_then(|columns| columns.ok_or_else(|| "nothing in it".to_owned()))
            .map_err(|e| format!("field {name}: {e}"))
    }
}

/// Reads a whole value.
pub(super) fn decode<T: DecodeAsType>(
    types: &PortableRegistry,
    id: u32,
    mut bytes: &[u8],
) -> Result<T, Reason> {
    is_bounded(types, id)?;
    let value = T::decode_as_type(&mut bytes, id, types).map_err(|e| e.to_string())?;
    if bytes.is_empty() { Ok(value) } else { Err(format!("{} bytes too many", bytes.len())) }
}

/// Names and types of a struct's fields.
pub(super) fn named_fields(types: &PortableRegistry, id: u32) -> Option<Vec<(&str, u32)>> {
    let TypeDef::Composite(composite) = &types.resolve(id)?.type_def else { return None };
    composite.fields.iter().map(|field| Some((field.name.as_deref()?, field.ty.id))).collect()
}

/// The type in an `Option`.
pub(super) fn inside_option(types: &PortableRegistry, id: u32) -> Option<u32> {
    let ty = types.resolve(id)?;
    let TypeDef::Variant(variants) = &ty.type_def else { return None };
    if ty.path.ident().as_deref() != Some("Option") {
        return None;
    }
    variants.variants.iter().find(|v| v.name == "Some")?.fields.first().map(|field| field.ty.id)
}

/// Whether a type is, under its wrappers, an unsigned number of that many bits.
pub(super) fn is_number(types: &PortableRegistry, id: u32, bits: u32) -> bool {
    let Some(ty) = types.resolve(id) else { return false };
    match &ty.type_def {
        TypeDef::Primitive(primitive) => {
            let width = match primitive {
                TypeDefPrimitive::U8 => 8,
                TypeDefPrimitive::U16 => 16,
                TypeDefPrimitive::U32 => 32,
                TypeDefPrimitive::U64 => 64,
                TypeDefPrimitive::U128 => 128,
                _ => 0,
            };
            width == bits
        }
        TypeDef::Compact(inner) => is_number(types, inner.type_param.id, bits),
        TypeDef::Composite(composite) => match composite.fields.as_slice() {
            [only] => is_number(types, only.ty.id, bits),
            _ => false,
        },
        _ => false,
    }
}

/// A storage entry that is read, and what for.
#[derive(Debug, Clone, Copy)]
pub(super) struct StorageShape {
    pub(super) pallet: &'static str,
    pub(super) entry: &'static str,
    pub(super) keys: usize,
}

impl StorageShape {
    /// An entry of the main pallet.
    pub(super) const fn subtensor(entry: &'static str, keys: usize) -> Self {
        Self { pallet: "SubtensorModule", entry, keys }
    }

    /// What is wrong with it in this runtime.
    pub(super) fn missing(self, metadata: &Metadata) -> Option<Reason> {
        let Self { pallet, entry, keys } = self;
        let found = metadata
            .pallet_by_name(pallet)
            .and_then(|p| p.storage())
            .and_then(|s| s.entry_by_name(entry));
        match found {
            None => Some(format!("storage {pallet}.{entry}")),
            Some(found) if found.keys().len() != keys => Some(format!(
                "storage {pallet}.{entry} with {keys} keys (it has {})",
                found.keys().len()
            )),
            Some(_) => None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed expectation is how a test fails")]
mod tests {
    use scale_info::{Field, Path, PortableType, TypeDefComposite, TypeDefVariant, Variant};

    use super::*;

    /// Types with the ids 0, 1, 2..
    fn registry(defs: Vec<TypeDef<PortableForm>>) -> PortableRegistry {
        let one = |def| Type::new(Path::default(), [], def, Vec::new());
        let types = (0..).zip(defs).map(|(id, def)| PortableType::new(id, one(def))).collect();
        PortableRegistry { types }
    }

    fn field(of: u32) -> Field<PortableForm> {
        Field::new(None, of.into(), None, Vec::new())
    }

    fn wrapper(of: u32) -> TypeDef<PortableForm> {
        TypeDefComposite::new([field(of)]).into()
    }

    fn either(of: u32) -> TypeDef<PortableForm> {
        let named = |name: &str, fields| Variant::new(name.to_owned(), fields, 0, Vec::new());
        let variants = [named("End", vec![]), named("More", vec![field(of)])];
        TypeDefVariant::new(variants).into()
    }

    fn list(of: u32) -> TypeDef<PortableForm> {
        TypeDefSequence::new(of.into()).into()
    }

    #[test]
    fn types_without_end_are_refused_before_anybody_follows_them() {
        for defs in [
            vec![wrapper(0)],
            vec![wrapper(1), wrapper(2), wrapper(0)],
            vec![TypeDefArray::new(0, 0.into()).into()],
            (0..1000).map(|n| wrapper(n + 1)).collect(),
        ] {
            let types = registry(defs);
            assert!(has_no_endless_value(&types).unwrap_err().contains("without end"));
            assert!(is_bounded(&types, 0).is_err());
        }
    }

    #[test]
    fn values_as_deep_as_their_bytes_are_many_are_not_read() {
        // Each level takes a byte: the metadata is good, and an answer could still end the process.
        for defs in [vec![either(0)], vec![list(0)]] {
            let types = registry(defs);
            has_no_endless_value(&types).unwrap();
            let reason = decode::<u8>(&types, 0, &[1; 1_000_000]).unwrap_err();
            assert!(reason.contains("without end"), "{reason}");
        }
    }

    #[test]
    fn lists_of_nothing_are_not_read() {
        let types = registry(vec![list(1), wrapper(2), TypeDefComposite::new([]).into()]);
        // A length of 2^30 - 1 in four bytes.
        let reason = decode::<Vec<u8>>(&types, 0, &[0xfe, 0xff, 0xff, 0xff]).unwrap_err();
        assert!(reason.contains("takes no bytes"), "{reason}");
    }

    #[test]
    fn what_runtimes_are_made_of_is_read() {
        let byte: TypeDef<PortableForm> = TypeDefPrimitive::U8.into();
        let types = registry(vec![list(1), wrapper(2), byte]);
        assert_eq!(decode::<Vec<u8>>(&types, 0, &[8, 1, 2]), Ok(vec![1, 2]));
    }
}
