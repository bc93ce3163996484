//! At which price a validator filled an order, as far as its answer says so.
//!
//! `order_json` is the text of a Python dict or JSON, the network's own or a paper validator's
//! with the fill inside. It comes from outside and may be anything; what cannot be read is nothing.

use crate::json::literal::read_object;
use crate::json::{Json, Object};
use crate::paper::market::Quote;
use crate::store::UnixMs;

/// An answer's time may differ by this much from ours, in ms.
const NEAR_MS: UnixMs = 60 * 60 * 1000;
/// Longer answers are not looked at.
const LONGEST: usize = 256 * 1024;

/// What an answer says about the fill.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Told {
    /// When the validator processed it, in ms.
    pub(super) at_ms: Option<UnixMs>,
    /// The price, with the rates to US dollars where they are given.
    pub(super) quote: Option<Quote>,
}

/// Reads an answer that came at `answered_ms`.
pub(super) fn read(order_json: &str, answered_ms: UnixMs) -> Told {
    let nothing = Told { at_ms: None, quote: None };
    if order_json.is_empty() || order_json.len() > LONGEST {
        return nothing;
    }
    let Ok(object) = read_object(order_json.as_bytes()) else { return nothing };
    let inner = ["fill", "order"].iter().find_map(|key| object.get(key)?.as_object());
    let order = inner.unwrap_or(&object);
    let at_ms = ["processed_ms", "at_ms"]
        .iter()
        .find_map(|key| number(order, key))
        .and_then(whole)
        .filter(|at| (at - answered_ms).abs() < NEAR_MS);
    let positive = |key: &str| number(order, key).filter(|x| *x > 0.0);
    let quote = positive("price").map(|price| Quote {
        bid: positive("bid"),
        ask: positive("ask"),
        usd_base: positive("usd_base_rate"),
        quote_usd: positive("quote_usd_rate").or_else(|| positive("quote_usd")),
        slippage: positive("slippage").filter(|s| *s < 1.0).unwrap_or(0.0),
        ..Quote::last(price, at_ms.unwrap_or(answered_ms))
    });
    Told { at_ms, quote: quote.filter(Quote::is_usable) }
}

fn number(object: &Object, key: &str) -> Option<f64> {
    match object.get(key)? {
        Json::Number(token) => token.parse().ok().filter(|x: &f64| x.is_finite()),
        _ => None,
    }
}

fn whole(x: f64) -> Option<UnixMs> {
    // Times in ms are far below 2^53; anything else is no time.
    #[expect(clippy::cast_possible_truncation, reason = "bounded just before")]
    (0.0..9.0e15).contains(&x).then_some(x as UnixMs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_networks_text_and_a_paper_validators_text() {
        let text = "{'trade_pair_id': 'BTCUSDC', 'order_type': 'LONG', 'leverage': 0.1, 'price': 60000.5, 'bid': 60000.0, 'ask': 60001.0, 'slippage': 0.0001, 'quote_usd_rate': 1.0, 'usd_base_rate': 1.6e-05, 'processed_ms': 1780000000123, 'order_uuid': 'u', 'price_sources': [], 'src': 0}";
        let told = read(text, 1_780_000_000_500);
        assert_eq!(told.at_ms, Some(1_780_000_000_123));
        let quote = told.quote.unwrap();
        assert_eq!((quote.price, quote.bid, quote.slippage), (60_000.5, Some(60_000.0), 0.0001));
        let text = r#"{"answer":"filled","fill":{"price":1.1,"quote_usd":1.0,"at_ms":5}}"#;
        let told = read(text, 1_780_000_000_500);
        assert_eq!(told.at_ms, None, "far from our own time");
        assert_eq!(told.quote.unwrap().price, 1.1);
    }

    #[test]
    fn whatever_else_comes_is_nothing() {
        for text in
            ["", "{}", "[1]", "{'price': 'x'}", "{'price': -1}", "{'price': nan}", "{{", "{'n': 1}"]
        {
            assert_eq!(read(text, 0), Told { at_ms: None, quote: None }, "{text}");
        }
    }
}
