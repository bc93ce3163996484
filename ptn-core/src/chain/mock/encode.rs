//! Writing values as the metadata wants them: any spelling, any field that nobody thought of.
//!
//! A [`Value`] says what matters; everything else that a type has is filled with zeros, empty lists
//! and `None`. So the same state can be served by our own runtime and by a real one.

use std::collections::BTreeMap;

use scale_info::form::PortableForm;
use scale_info::{Field, PortableRegistry, TypeDef, TypeDefPrimitive};
use subxt::ext::codec::{Compact, Encode};

/// A value, without its type.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// Whatever is zero or empty in the type.
    Default,
    Number(u128),
    Bool(bool),
    /// A list or array of bytes.
    Bytes(Vec<u8>),
    List(Vec<Self>),
    /// Fields by name; the others are [`Value::Default`].
    Struct(BTreeMap<&'static str, Self>),
    /// An enum's variant and its fields: one value, or several by name.
    Variant(&'static str, Box<Self>),
}

impl Value {
    pub(super) fn of<const N: usize>(fields: [(&'static str, Self); N]) -> Self {
        Self::Struct(BTreeMap::from(fields))
    }

    pub(super) fn some(value: Self) -> Self {
        Self::Variant("Some", Box::new(value))
    }
}

impl<T: Into<u128>> From<T> for Value {
    fn from(number: T) -> Self {
        Self::Number(number.into())
    }
}

/// Appends a value of this type.
pub(super) fn put(types: &PortableRegistry, id: u32, value: &Value, out: &mut Vec<u8>) {
    let Some(ty) = types.resolve(id) else { return };
    match &ty.type_def {
        TypeDef::Composite(composite) => put_fields(types, &composite.fields, value, out),
        TypeDef::Variant(variants) => {
            let (wanted, inner) = match value {
                Value::Variant(name, inner) => (Some(*name), &**inner),
                // A plain value where the type has an `Option`.
                Value::Default => (None, value),
                given if ty.path.ident().as_deref() == Some("Option") => (Some("Some"), given),
                _ => (None, &Value::Default),
            };
            let named = variants.variants.iter().find(|v| Some(v.name.as_str()) == wanted);
            let first = variants.variants.iter().min_by_key(|v| v.index);
            let Some(variant) = named.or(first) else { return };
            out.push(variant.index);
            put_fields(types, &variant.fields, inner, out);
        }
        TypeDef::Sequence(sequence) => {
            let length = match value {
                Value::Bytes(bytes) => bytes.len(),
                Value::List(list) => list.len(),
                _ => 0,
            };
            Compact(u32::try_from(length).unwrap_or(u32::MAX)).encode_to(out);
            put_items(types, sequence.type_param.id, value, length, out);
        }
        TypeDef::Array(array) => {
            put_items(types, array.type_param.id, value, array.len as usize, out);
        }
        TypeDef::Tuple(tuple) => {
            for (i, field) in tuple.fields.iter().enumerate() {
                let item = match value {
                    Value::List(list) => list.get(i).unwrap_or(&Value::Default),
                    only if tuple.fields.len() == 1 => only,
                    _ => &Value::Default,
                };
                put(types, field.id, item, out);
            }
        }
        TypeDef::Compact(compact) => put_compact(types, compact.type_param.id, value, out),
        TypeDef::Primitive(primitive) => put_primitive(primitive, value, out),
        TypeDef::BitSequence(_) => out.push(0),
    }
}

fn put_fields(
    types: &PortableRegistry,
    fields: &[Field<PortableForm>],
    value: &Value,
    out: &mut Vec<u8>,
) {
    for (i, field) in fields.iter().enumerate() {
        let part = match (value, field.name.as_deref()) {
            (Value::Struct(parts), Some(name)) => parts.get(name).unwrap_or(&Value::Default),
            (Value::List(list), _) if fields.len() > 1 => list.get(i).unwrap_or(&Value::Default),
            // A wrapper of one field is looked through.
            _ if fields.len() == 1 => value,
            _ => &Value::Default,
        };
        put(types, field.ty.id, part, out);
    }
}

fn put_items(types: &PortableRegistry, id: u32, value: &Value, length: usize, out: &mut Vec<u8>) {
    for i in 0..length {
        let item = match value {
            Value::Bytes(bytes) => {
                bytes.get(i).map_or(Value::Default, |byte| Value::Number((*byte).into()))
            }
            Value::List(list) => list.get(i).cloned().unwrap_or(Value::Default),
            _ => Value::Default,
        };
        put(types, id, &item, out);
    }
}

fn number(value: &Value) -> u128 {
    match value {
        Value::Number(number) => *number,
        Value::Bool(true) => 1,
        _ => 0,
    }
}

/// A compact number, possibly in wrappers; a compact nothing is nothing.
fn put_compact(types: &PortableRegistry, id: u32, value: &Value, out: &mut Vec<u8>) {
    match types.resolve(id).map(|ty| &ty.type_def) {
        Some(TypeDef::Primitive(_)) => Compact(number(value)).encode_to(out),
        Some(TypeDef::Composite(composite)) => {
            if let Some(field) = composite.fields.first() {
                put_compact(types, field.ty.id, value, out);
            }
        }
        _ => {}
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the type has that width")]
fn put_primitive(primitive: &TypeDefPrimitive, value: &Value, out: &mut Vec<u8>) {
    let number = number(value);
    match primitive {
        TypeDefPrimitive::Bool | TypeDefPrimitive::U8 | TypeDefPrimitive::I8 => {
            out.push(number as u8);
        }
        TypeDefPrimitive::U16 | TypeDefPrimitive::I16 => (number as u16).encode_to(out),
        TypeDefPrimitive::Char | TypeDefPrimitive::U32 | TypeDefPrimitive::I32 => {
            (number as u32).encode_to(out);
        }
        TypeDefPrimitive::U64 | TypeDefPrimitive::I64 => (number as u64).encode_to(out),
        TypeDefPrimitive::U128 | TypeDefPrimitive::I128 => number.encode_to(out),
        TypeDefPrimitive::U256 | TypeDefPrimitive::I256 => {
            number.encode_to(out);
            0_u128.encode_to(out);
        }
        TypeDefPrimitive::Str => match value {
            Value::Bytes(bytes) => bytes.encode_to(out),
            _ => out.push(0),
        },
    }
}
