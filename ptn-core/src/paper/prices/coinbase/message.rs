//! The messages of the feed. Reading is lenient: numbers may be strings, and fields that are not used
//! here may be anything.

use serde::{Deserialize, Deserializer};
use serde_json::json;

use crate::store::UnixMs;

/// No text of the exchange is shown longer than this, in characters.
const LONGEST_TEXT: usize = 200;

/// What a message says.
#[derive(Debug, PartialEq)]
pub(super) enum Message {
    Ticker(Ticker),
    Subscriptions,
    Heartbeat,
    Error(String),
    Other,
}

/// A trade and the book after it.
#[derive(Debug, PartialEq)]
pub(super) struct Ticker {
    pub(super) product: String,
    pub(super) sequence: Option<u64>,
    pub(super) at_ms: Option<UnixMs>,
    pub(super) price: f64,
    pub(super) bid: Option<f64>,
    pub(super) ask: Option<f64>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Wire {
    Ticker {
        product_id: String,
        sequence: Option<u64>,
        time: Option<String>,
        #[serde(deserialize_with = "number")]
        price: Option<f64>,
        #[serde(default, deserialize_with = "number")]
        best_bid: Option<f64>,
        #[serde(default, deserialize_with = "number")]
        best_ask: Option<f64>,
    },
    Subscriptions,
    Heartbeat,
    Error {
        #[serde(default)]
        message: String,
        #[serde(default)]
        reason: String,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Number(f64),
    Text(String),
}

/// A price, as a number or as a string; nothing for what is none.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let value = match Option::<Number>::deserialize(deserializer)? {
        None => None,
        Some(Number::Number(value)) => Some(value),
        Some(Number::Text(text)) => text.parse().ok(),
    };
    Ok(value.filter(|value| value.is_finite() && *value > 0.0))
}

impl Message {
    /// Reads a message; nothing when it is none of this feed's.
    pub(super) fn read(text: &str) -> Option<Self> {
        Some(match serde_json::from_str(text).ok()? {
            Wire::Ticker { product_id, sequence, time, price, best_bid, best_ask } => {
                let time = time.and_then(|time| time.parse::<jiff::Timestamp>().ok());
                // A side may be empty, and a book that crosses is none.
                let crossed = best_bid.zip(best_ask).is_some_and(|(bid, ask)| bid > ask);
                let (bid, ask) = if crossed { (None, None) } else { (best_bid, best_ask) };
                Self::Ticker(Ticker {
                    product: product_id,
                    sequence,
                    at_ms: time.map(jiff::Timestamp::as_millisecond).filter(|ms| *ms >= 0),
                    price: price?,
                    bid,
                    ask,
                })
            }
            Wire::Subscriptions => Self::Subscriptions,
            Wire::Heartbeat => Self::Heartbeat,
            Wire::Error { message, reason } => {
                let text = match reason.as_str() {
                    "" => message,
                    reason => format!("{message}: {reason}"),
                };
                Self::Error(harmless(&text))
            }
            Wire::Other => Self::Other,
        })
    }
}

/// The message that asks for these products. Every channel names its own: the exchange no longer takes
/// products beside the channels.
pub(super) fn subscribe<'a>(products: impl Iterator<Item = &'a String>) -> String {
    let products: Vec<&String> = products.collect();
    let channel = |name: &str| json!({ "name": name, "product_ids": products });
    json!({ "type": "subscribe", "channels": [channel("ticker"), channel("heartbeat")] })
        .to_string()
}

/// Whether a text is about a product: its id stands in it as a word.
pub(super) fn names(text: &str, product: &str) -> bool {
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    words.any(|word| word.eq_ignore_ascii_case(product))
}

/// For a log, a page or a terminal.
pub(super) fn harmless(text: &str) -> String {
    text.chars().take(LONGEST_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_ticker_is_a_trade_with_its_book() {
        let text = r#"{"type":"ticker","sequence":37475248783,"product_id":"ETH-USD","price":"1285.22",
            "open_24h":"1310.79","volume_24h":"245532.79269678","best_bid":"1285.04","best_bid_size":"0.46688654",
            "best_ask":"1285.27","best_ask_size":"1.56637040","side":"buy","time":"2022-10-19T23:28:22.061769Z",
            "trade_id":370843401,"last_size":"11.4396987"}"#;
        let want = Ticker {
            product: "ETH-USD".to_owned(),
            sequence: Some(37_475_248_783),
            at_ms: Some(1_666_222_102_061),
            price: 1285.22,
            bid: Some(1285.04),
            ask: Some(1285.27),
        };
        assert_eq!(Message::read(text), Some(Message::Ticker(want)));
    }

    #[test]
    fn a_book_that_is_none_is_left_out_and_a_price_that_is_none_is_no_ticker() {
        let read = |fields: &str| {
            let text = format!(r#"{{"type":"ticker","product_id":"A-USD",{fields}}}"#);
            match Message::read(&text) {
                Some(Message::Ticker(t)) => Some((t.price, t.bid, t.ask, t.at_ms)),
                other => {
                    assert_eq!(other, None, "{text}");
                    None
                }
            }
        };
        assert_eq!(read(r#""price":2"#), Some((2.0, None, None, None)));
        let zero = r#""price":"2","best_bid":"0","best_ask":3"#;
        assert_eq!(read(zero), Some((2.0, None, Some(3.0), None)));
        let crossed = r#""price":"2","best_bid":"4","best_ask":"3","time":"soon""#;
        assert_eq!(read(crossed), Some((2.0, None, None, None)));
        for price in [
            r#""price":"""#,
            r#""price":"0""#,
            r#""price":"NaN""#,
            r#""price":null"#,
            r#""side":1"#,
        ] {
            assert_eq!(read(price), None);
        }
    }

    #[test]
    fn errors_are_shown_in_one_harmless_line() {
        let text = r#"{"type":"error","message":"Failed to subscribe","reason":"XX-USD is not a valid\n product"}"#;
        let want = "Failed to subscribe: XX-USD is not a valid  product";
        assert_eq!(Message::read(text), Some(Message::Error(want.to_owned())));
        assert!(names(want, "XX-USD") && !names(want, "X-USD") && !names(want, "XX-USDC"));
        assert_eq!(Message::read(r#"{"type":"status","products":[]}"#), Some(Message::Other));
        assert_eq!(Message::read("[]"), None);
    }

    proptest! {
        #[test]
        fn no_message_makes_it_panic(text in ".{0,200}", fields in r#"("[a-z_]{1,10}":("?[0-9.e-]{0,12}"?|null|\[\]),?){0,6}"#) {
            let _ = Message::read(&text);
            let near = format!(r#"{{"type":"ticker","product_id":"A-USD",{fields}"price":"1"}}"#);
            if let Some(Message::Ticker(ticker)) = Message::read(&near) {
                prop_assert!(ticker.price > 0.0 && ticker.price.is_finite());
            }
        }
    }
}
