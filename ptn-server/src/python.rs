//! Python's `repr` of a JSON value, as the legacy answer `Signal {...} received successfully` shows it.
//!
//! Only for people and for scripts that compare the text; nothing reads it back.

use std::fmt::Write as _;

use ptn_core::json::Json;

/// Appends the `repr` of a value.
pub(crate) fn repr(value: &Json, out: &mut String) {
    match value {
        Json::Null => out.push_str("None"),
        Json::Bool(true) => out.push_str("True"),
        Json::Bool(false) => out.push_str("False"),
        Json::Number(token) => match token.as_str() {
            "NaN" => out.push_str("nan"),
            "Infinity" => out.push_str("inf"),
            "-Infinity" => out.push_str("-inf"),
            token => out.push_str(token),
        },
        Json::String(text) => text_repr(text, out),
        Json::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                repr(item, out);
            }
            out.push(']');
        }
        Json::Object(object) => object_repr(object, out),
    }
}

/// Appends the `repr` of a dict.
pub(crate) fn object_repr(object: &ptn_core::json::Object, out: &mut String) {
    out.push('{');
    for (i, (key, value)) in object.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        text_repr(key, out);
        out.push_str(": ");
        repr(value, out);
    }
    out.push('}');
}

fn text_repr(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push(quote);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dict_looks_as_python_prints_it() {
        let json = Json::parse(
            br#"{"a":null,"b":[true,0.5,"x"],"c":{"d":"it's"},"e":"\"'","f":"\u0007\n"}"#,
        )
        .unwrap();
        let mut out = String::new();
        repr(&json, &mut out);
        assert_eq!(
            out,
            r#"{'a': None, 'b': [True, 0.5, 'x'], 'c': {'d': "it's"}, 'e': '"\'', 'f': '\x07\n'}"#
        );
    }
}
