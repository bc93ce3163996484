//! Reading what a validator answered, without trusting a word of it.
//!
//! Wire spec sections 3.7, 4.4 and 5. Only known fields are read; missing ones have the defaults
//! of the network's schema. What an answer means for the order is left to `deliver::catalogue`.

use std::borrow::Cow;
use std::time::Duration;

use hyper::header::{DATE, HeaderMap, RETRY_AFTER};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::directory::Wire;
use crate::json::Json;
use crate::text::printable;
use crate::transport::ValidatorReply;

/// Words of a validator that are kept, in bytes.
const MAX_TEXT: usize = 4096;

/// The answer's body. Types are strict, so that a reply of something else is not taken for one.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(default)]
    successfully_processed: bool,
    #[serde(default, borrow)]
    error_message: Cow<'a, str>,
    #[serde(default)]
    should_retry: Option<bool>,
    #[serde(default, borrow)]
    validator_hotkey: Cow<'a, str>,
    #[serde(default, borrow)]
    order_json: Option<&'a RawValue>,
    #[serde(default, borrow)]
    miner_order_uuid: Cow<'a, str>,
}

/// An answer of status 200 that cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadReply {
    /// Not the JSON object that is expected.
    Form(String),
    /// It speaks for another validator.
    WrongValidator(String),
    /// It speaks of another order.
    WrongOrder(String),
}

/// Reads the body of an answer with status 200.
pub(super) fn read(
    body: &[u8],
    expected_hotkey: &str,
    expected_order: &str,
) -> Result<ValidatorReply, BadReply> {
    if !body.trim_ascii_start().starts_with(b"{") {
        // serde would read an array as the fields in order.
        return Err(BadReply::Form("not a JSON object".to_owned()));
    }
    // What is wrong with a text is said with all of the text.
    let form = |e: serde_json::Error| BadReply::Form(printable(&e.to_string(), 256));
    let message: Message<'_> = serde_json::from_slice(body).map_err(form)?;
    if !message.validator_hotkey.is_empty() && message.validator_hotkey != expected_hotkey {
        return Err(BadReply::WrongValidator(printable(&message.validator_hotkey, 64)));
    }
    // The answer is the request with some fields filled in, so it names our order again. Another
    // one belongs to another request: a confused validator, or two answers to one request.
    if !message.miner_order_uuid.is_empty()
        && !expected_order.is_empty()
        && message.miner_order_uuid != expected_order
    {
        return Err(BadReply::WrongOrder(printable(&message.miner_order_uuid, 64)));
    }
    Ok(ValidatorReply {
        status: 200,
        successfully_processed: message.successfully_processed,
        error_message: printable(&message.error_message, MAX_TEXT),
        should_retry: message.should_retry,
        validator_hotkey: message.validator_hotkey.into_owned(),
        order_json: message.order_json.map(order_text).unwrap_or_default(),
        ..ValidatorReply::default()
    })
}

/// `order_json` is JSON inside a string; whatever else it is must not turn success into failure.
fn order_text(raw: &RawValue) -> String {
    match raw.get() {
        "null" => String::new(),
        text => serde_json::from_str(text).unwrap_or_else(|_| text.to_owned()),
    }
}

/// What an answer of another status says.
pub(super) fn words(body: &[u8]) -> String {
    let text = match Json::parse(body) {
        Ok(Json::Object(object)) => {
            let mut said = Vec::new();
            for key in ["error", "message", "reason", "detail"] {
                match object.get(key) {
                    None | Some(Json::Null) => {}
                    Some(Json::String(text)) if said.contains(text) => {}
                    Some(Json::String(text)) => said.push(text.clone()),
                    Some(other) => said.push(other.to_string()),
                }
            }
            said.join(": ")
        }
        _ => String::from_utf8_lossy(body.get(..MAX_TEXT).unwrap_or(body)).into_owned(),
    };
    printable(text.trim(), MAX_TEXT)
}

/// Whether an answer looks like that of a peer with the other wire (wire spec section 1).
pub(super) fn other_wire(wire: Wire, status: u16, headers: &HeaderMap) -> bool {
    let axon = headers.keys().any(|name| name.as_str().starts_with("bt_header_axon"));
    match wire {
        Wire::Btauth => axon && status != 200,
        Wire::Dendrite => !axon && matches!(status, 404 | 405),
    }
}

/// `Retry-After` of an answer: seconds, or a date.
pub(super) fn retry_after(status: u16, headers: &HeaderMap, now_ms: i64) -> Option<Duration> {
    if !matches!(status, 429 | 503) {
        return None;
    }
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let ms = date_ms(value)?.saturating_sub(now_ms);
    Some(Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
}

/// The validator's clock minus ours, by its `Date`. It was written between `sent_ms` and
/// `received_ms` and tells whole seconds only; within that it counts as no difference.
pub(super) fn clock_ahead_ms(headers: &HeaderMap, sent_ms: i64, received_ms: i64) -> Option<i64> {
    let date = date_ms(headers.get(DATE)?.to_str().ok()?)?;
    let at_least = date.saturating_sub(received_ms);
    let at_most = date.saturating_add(999).saturating_sub(sent_ms);
    Some(if at_least > 0 { at_least } else { at_most.min(0) })
}

fn date_ms(text: &str) -> Option<i64> {
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(date.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOTKEY: &str = "5FUcmR6RpnmJ94A5DiGfrLRmy739xc16YeRU1LtmLsPWdcJN";

    #[test]
    fn known_fields_are_read_and_others_ignored() {
        let reply = read(
            br#"{"signal":{"a":1},"successfully_processed":true,"error_message":"\u00e9\n",
                "order_json":"{\"n\": 1}","miner_order_uuid":"u","new":[1]}"#,
            HOTKEY,
            "u",
        )
        .unwrap();
        assert!(reply.successfully_processed);
        assert_eq!(reply.error_message, "é\\n", "a validator writes no line of our log");
        assert_eq!(reply.order_json, "{\"n\": 1}");
        assert_eq!(reply.should_retry, None);
        assert_eq!(
            read(b"{}", HOTKEY, "u").unwrap(),
            ValidatorReply { status: 200, ..Default::default() }
        );
    }

    #[test]
    fn a_strange_order_json_changes_nothing() {
        for (given, kept) in [("null", ""), ("{\"a\": 1}", "{\"a\": 1}"), ("7", "7"), ("\"\"", "")]
        {
            let body = format!(r#"{{"successfully_processed":true,"order_json":{given}}}"#);
            let reply = read(body.as_bytes(), HOTKEY, "u").unwrap();
            assert!(reply.successfully_processed);
            assert_eq!(reply.order_json, kept);
        }
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        for body in [
            "",
            "null",
            "[]",
            "\"ok\"",
            "<html></html>",
            "{\"successfully_processed\":tru",
            "{\"successfully_processed\":\"true\"}",
            "{\"successfully_processed\":1}",
            "{\"error_message\":null}",
            "{\"error_message\":7}",
            "{\"should_retry\":\"no\"}",
            "{} {}",
            "{\"error_message\":\"\u{1}\"}",
        ] {
            assert!(matches!(read(body.as_bytes(), HOTKEY, "u"), Err(BadReply::Form(_))), "{body}");
        }
        assert!(read(b"\xff\xfe{}", HOTKEY, "u").is_err());
    }

    #[test]
    fn a_reply_of_somebody_else_is_refused() {
        let other = format!(r#"{{"validator_hotkey":"{}"}}"#, HOTKEY.to_lowercase());
        assert!(matches!(read(other.as_bytes(), HOTKEY, "u"), Err(BadReply::WrongValidator(_))));
        let order = br#"{"miner_order_uuid":"v","successfully_processed":true}"#;
        assert_eq!(read(order, HOTKEY, "u"), Err(BadReply::WrongOrder("v".to_owned())));
    }

    #[test]
    fn words_are_found_in_every_kind_of_body() {
        for (body, expect) in [
            (r#"{"error":"blacklisted","reason":"5abc"}"#, "blacklisted: 5abc"),
            (r#"{"message":"Not Verified"}"#, "Not Verified"),
            (r#"{"detail":[{"loc":1}]}"#, r#"[{"loc":1}]"#),
            ("plain\r\n\u{1b}[31mtext", "plain\\r\\n\\u{1b}[31mtext"),
            ("", ""),
        ] {
            assert_eq!(words(body.as_bytes()), expect);
        }
        assert_eq!(words("é".repeat(9_000).as_bytes()).len(), 4096);
    }

    #[test]
    fn dates_tell_how_far_clocks_are_apart() {
        let ahead = |date: &str, sent, received| {
            let mut headers = HeaderMap::new();
            headers.insert(DATE, date.parse().unwrap());
            clock_ahead_ms(&headers, sent, received)
        };
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let ms = 784_111_777_000;
        assert_eq!(ahead(date, ms + 100, ms + 500), Some(0));
        assert_eq!(ahead(date, ms - 5_000, ms - 4_000), Some(4_000));
        assert_eq!(ahead(date, ms + 5_000, ms + 6_000), Some(-4_001));
        assert_eq!(ahead("yesterday", ms, ms), None);
    }

    #[test]
    fn retry_after_is_read_where_it_means_something() {
        let after = |status, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, value.parse().unwrap());
            retry_after(status, &headers, 784_111_777_000)
        };
        assert_eq!(after(429, "7"), Some(Duration::from_secs(7)));
        assert_eq!(after(503, "Sun, 06 Nov 1994 08:49:47 GMT"), Some(Duration::from_secs(10)));
        assert_eq!(after(503, "Sun, 06 Nov 1994 08:49:27 GMT"), Some(Duration::ZERO));
        assert_eq!(after(503, "-1"), None);
        assert_eq!(after(200, "7"), None);
    }
}
