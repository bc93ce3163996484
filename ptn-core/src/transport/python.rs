//! `python_str`: what Python's `str()` makes of a signal after parsing its JSON.
//!
//! An axon of bittensor 6 to 10 hashes that text, not the JSON (wire spec section 3.4), so the
//! sender must arrive at it byte by byte. Both are made from one [`Json`], whose key order and
//! number tokens are those of the text that is sent. [`sendable`] says which values are safe:
//! where validators' Pythons disagree, no hash fits them all.

mod newer;

use std::fmt::Write as _;

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

use crate::json::{Json, Object, python_float};

/// Python's `str()` of the value.
pub fn python_str(json: &Json) -> String {
    let mut out = String::new();
    value(&mut out, json);
    out
}

/// As [`python_str`], of an object.
pub fn python_dict(members: &Object) -> String {
    let mut out = String::with_capacity(32 * members.len());
    object(&mut out, members);
    out
}

/// Whether every validator arrives at the same [`python_str`]; otherwise why not.
///
/// # Errors
/// Names the value: a whole number beyond 64 bits, a number that is not finite, or a string with
/// a character that some Python versions print and others escape.
pub fn sendable(json: &Json) -> Result<(), String> {
    match json {
        Json::Null | Json::Bool(_) => Ok(()),
        Json::Number(token) => {
            if is_integer(token) {
                if token.parse::<i64>().is_err() && token.parse::<u64>().is_err() {
                    return Err(format!("the whole number {} needs more than 64 bits", cut(token)));
                }
            } else if !token.parse::<f64>().is_ok_and(f64::is_finite) {
                return Err(format!("the number {} is not finite", cut(token)));
            }
            Ok(())
        }
        Json::String(text) => sendable_text(text),
        Json::Array(items) => items.iter().try_for_each(sendable),
        Json::Object(object) => object.iter().try_for_each(|(key, value)| {
            sendable_text(key)?;
            sendable(value)
        }),
    }
}

fn sendable_text(text: &str) -> Result<(), String> {
    if text.is_ascii() {
        return Ok(());
    }
    let unsafe_in_some_python = |c: &char| {
        matches!(
            c.general_category(),
            GeneralCategory::Unassigned | GeneralCategory::PrivateUse | GeneralCategory::Surrogate
        ) || newer::is_newer(*c)
    };
    match text.chars().find(unsafe_in_some_python) {
        Some(c) => Err(format!(
            "the character U+{:04X} is not known to every version of Unicode since 13",
            u32::from(c)
        )),
        None => Ok(()),
    }
}

/// Enough of a value to recognise it.
fn cut(token: &str) -> String {
    match token.get(..32) {
        Some(start) => format!("{start}..."),
        None => token.to_owned(),
    }
}

fn is_integer(token: &str) -> bool {
    !token.contains(['.', 'e', 'E', 'N', 'I'])
}

fn value(out: &mut String, json: &Json) {
    match json {
        Json::Null => out.push_str("None"),
        Json::Bool(true) => out.push_str("True"),
        Json::Bool(false) => out.push_str("False"),
        Json::Number(token) => number(out, token),
        Json::String(text) => string(out, text),
        Json::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                value(out, item);
            }
            out.push(']');
        }
        Json::Object(members) => object(out, members),
    }
}

fn object(out: &mut String, members: &Object) {
    out.push('{');
    for (i, (key, item)) in members.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        string(out, key);
        out.push_str(": ");
        value(out, item);
    }
    out.push('}');
}

fn number(out: &mut String, token: &str) {
    match token {
        "NaN" => return out.push_str("nan"),
        "-0" => return out.push('0'),
        _ if is_integer(token) => return out.push_str(token),
        _ => {}
    }
    // Tokens are JSON numbers, or Python's `Infinity`; Rust reads both.
    out.push_str(&python_float(token.parse().unwrap_or(f64::NAN)));
}

fn string(out: &mut String, text: &str) {
    if text.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'\\' && b != b'\'') {
        // Nearly every text.
        out.push('\'');
        out.push_str(text);
        out.push('\'');
        return;
    }
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
            ' '..='~' => out.push(c),
            c if c.is_ascii() || !printable(c) => {
                let code = u32::from(c);
                // Writing to a String cannot fail.
                match code {
                    0..=0xff => write!(out, "\\x{code:02x}"),
                    0x100..=0xffff => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                }
                .unwrap_or_default();
            }
            c => out.push(c),
        }
    }
    out.push(quote);
}

/// Python 3.11's `str.isprintable` for a character outside ASCII.
fn printable(c: char) -> bool {
    use GeneralCategory as G;
    if newer::is_after_14(c) {
        return false;
    }
    !matches!(
        c.general_category(),
        G::Control
            | G::Format
            | G::Surrogate
            | G::PrivateUse
            | G::Unassigned
            | G::LineSeparator
            | G::ParagraphSeparator
            | G::SpaceSeparator
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json {
        Json::parse(text.as_bytes()).unwrap()
    }

    #[track_caller]
    fn check(input: &str, expect: &str) {
        assert_eq!(python_str(&json(input)), expect, "{input}");
    }

    #[test]
    fn numbers_are_laid_out_as_python_does() {
        check("[1, 1.0, -0, -0.0, 0e0, 1e2]", "[1, 1.0, 0, -0.0, 0.0, 100.0]");
        check("[0.0001, 0.00001, 1.5e-7]", "[0.0001, 1e-05, 1.5e-07]");
        check("[1e15, 1e16, 1.5e300]", "[1000000000000000.0, 1e+16, 1.5e+300]");
        check(
            "[9999999999999998.0, 12345678901234567.0]",
            "[9999999999999998.0, 1.2345678901234568e+16]",
        );
        check("[1e999, -1e999, NaN]", "[inf, -inf, nan]");
        check("123456789012345678901234567890", "123456789012345678901234567890");
    }

    #[test]
    fn strings_are_quoted_as_python_does() {
        check(r#"["it's", "say \"x\"", "it's \"x\""]"#, r#"["it's", 'say "x"', 'it\'s "x"']"#);
        check(r#"["a\\b", "\n\r\t\b\u007f"]"#, r"['a\\b', '\n\r\t\x08\x7f']");
        check("[\"🫠🫨\"]", r"['🫠\U0001fae8']");
        check("[\"\u{a0}é\u{200b}\u{e000}🚀\u{e0001}\"]", r"['\xa0é\u200b\ue000🚀\U000e0001']");
    }

    #[test]
    fn what_pythons_disagree_about_is_not_sendable() {
        for good in ["18446744073709551615", "-9223372036854775808", r#""日本 🚀 é""#, "1e300"]
        {
            assert_eq!(sendable(&json(good)), Ok(()), "{good}");
        }
        for bad in [
            "18446744073709551616",
            "-9223372036854775809",
            "[{\"a\": 1e400}]",
            "NaN",
            "\"\u{e000}\"",
            "{\"\u{378}\": 1}",
            "\"🫠\"",
        ] {
            assert!(sendable(&json(bad)).is_err(), "{bad}");
        }
    }
}
