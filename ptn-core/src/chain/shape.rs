//! Reading by shape: names and structure from the node's own metadata, never compiled-in types.
//!
//! A runtime of another month wraps the same bytes in other type names (`NetUid(u16)` for `u16`)
//! and gains or loses fields. So a value is read by what it is made of: wrappers of one field are
//! looked through (by `scale-decode` itself), and a struct is cut into named columns, of which only
//! the wanted ones are read. What is missing is named.

use std::collections::BTreeMap;

use scale_info::{PortableRegistry, TypeDef, TypeDefPrimitive};
use subxt::ext::scale_decode::DecodeAsType;
use subxt::ext::scale_decode::visitor::{IgnoreVisitor, decode_with_visitor};
use subxt::metadata::Metadata;

/// What is wrong with a value or a shape, in words.
pub(super) type Reason = String;

/// The metadata of a node. Not by `Metadata::decode_from`: of bytes that begin with their own length it
/// asks itself without end.
pub(super) fn metadata_of(mut bytes: &[u8]) -> Result<Metadata, subxt::ext::codec::Error> {
    use subxt::ext::codec::Decode as _;
    Metadata::decode(&mut bytes)
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
