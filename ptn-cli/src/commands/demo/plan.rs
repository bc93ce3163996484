//! Which signals the demo sends, as TradingView and as a bot would send them.

use ptn_core::json::{Json, Object};
use ptn_core::rules::{Era, Rules};
use ptn_core::signal::Signal;

use crate::text;

/// Placeholder for the API key; replaced when a body is sent.
pub(super) const KEY: &str = "<api_key>";

/// How a signal comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Via {
    /// TradingView: the key in the body, text/plain, answered as soon as the signal is safe.
    Webhook,
    /// A bot: the key in a header, answered when the network has.
    Bot,
}

impl Via {
    /// The endpoint.
    pub(super) const fn endpoint(self) -> &'static str {
        match self {
            Self::Webhook => "/api/receive-signal",
            Self::Bot => "/api/submit-order",
        }
    }

    /// The word in the table.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Bot => "bot",
        }
    }
}

/// One signal to send.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) via: Via,
    /// The request body; [`KEY`] stands for the key.
    pub(super) body: String,
    /// The order in a few words.
    pub(super) words: String,
}

/// The pair that examples use.
pub(super) const fn usual_pair(era: Era) -> &'static str {
    let [btc, ..] = pairs(era);
    btc
}

/// The pairs of the signals.
pub(super) const fn pairs(era: Era) -> [&'static str; 3] {
    match era {
        Era::Y2026 => ["BTCUSDC", "ETHUSDC", "EURUSD"],
        _ => ["BTCUSD", "ETHUSD", "EURUSD"],
    }
}

/// `count` signals: a short trading day, again and again.
pub(super) fn plans(rules: &Rules, count: usize) -> Vec<Plan> {
    let [btc, eth, eur] = pairs(rules.era);
    let webhook = |side: &str, pair: &str, size: &str| {
        let body = format!(
            r#"{{"api_key":"{KEY}","order_type":"{side}","trade_pair":"{pair}","leverage":"{size}"}}"#
        );
        (Via::Webhook, body)
    };
    let bot = |text: String| (Via::Bot, text);
    let market = |pair: &str, side: &str, size: &str| {
        bot(format!(r#"{{"trade_pair":"{pair}","order_type":"{side}",{size}}}"#))
    };
    let limit = bot(format!(
        r#"{{"trade_pair":"{btc}","execution_type":"LIMIT","order_type":"LONG","quantity":0.01,"limit_price":60000,"stop_loss":58000,"take_profit":66000}}"#
    ));
    let day = match rules.era {
        Era::Y2024 => vec![
            webhook("long", btc, "0.1"),
            webhook("short", eth, "0.2"),
            market(eur, "LONG", r#""leverage":1.50"#),
            market(btc, "LONG", r#""leverage":0.05"#),
            webhook("flat", btc, "0"),
            market(eth, "FLAT", r#""leverage":0"#),
        ],
        Era::Y2025 => vec![
            webhook("long", btc, "0.1"),
            webhook("short", eth, "0.2"),
            market(eur, "LONG", r#""value":5000"#),
            limit,
            webhook("flat", btc, "0"),
            market(eth, "FLAT", r#""leverage":0"#),
        ],
        Era::Y2026 => vec![
            webhook("long", btc, "0.1"),
            webhook("short", eth, "0.2"),
            market(eur, "LONG", r#""value":5000"#),
            limit,
            webhook("flat", btc, "0"),
            bot(format!(r#"{{"trade_pair":"{eth}","order_type":"FLAT"}}"#)),
        ],
    };
    // Later days have no order that waits, and every other one closes what the one before left, so
    // that a long demo meets no limit.
    let later = |closes: bool| {
        let mut later = day.clone();
        for (_, body) in &mut later {
            if body.contains(eur) && closes {
                *body =
                    format!(r#"{{"trade_pair":"{eur}","order_type":"FLAT"{}}}"#, flat(rules.era));
            } else if body.contains("LIMIT") {
                *body = format!(r#"{{"trade_pair":"{btc}","order_type":"LONG","leverage":0.05}}"#);
            }
        }
        later
    };
    let days = later(true).into_iter().chain(later(false)).cycle();
    let days = day.clone().into_iter().chain(days);
    let plan = |(via, body): (Via, String)| Plan { words: words(&body, rules), via, body };
    days.take(count).map(plan).collect()
}

/// A FLAT of 2024 and 2025 has a size, which means nothing.
const fn flat(era: Era) -> &'static str {
    match era {
        Era::Y2026 => "",
        _ => r#","leverage":0"#,
    }
}

fn words(body: &str, rules: &Rules) -> String {
    match Signal::from_json(body.as_bytes(), rules) {
        Ok(signal) => {
            let pair = signal.trade_pair().map(|p| format!("{p} ")).unwrap_or_default();
            format!("{pair}{}", text::order(signal.body(), signal.order_uuid()))
        }
        // A test sees to it that this does not happen.
        Err(e) => e.to_string(),
    }
}

/// The body with an order uuid, for orders that carry their own.
pub(super) fn with_uuid(body: &str, uuid: &str) -> String {
    match Json::parse(body.as_bytes()) {
        Ok(Json::Object(mut object)) => {
            if object.get("order_uuid").is_none() {
                object.set("order_uuid", uuid.into());
            }
            Json::Object(object).to_string()
        }
        _ => Json::Object(Object::new()).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_planned_signal_is_valid() {
        for era in [Era::Y2024, Era::Y2025, Era::Y2026] {
            let rules = Rules::load(era).unwrap();
            let plans = plans(&rules, 13);
            assert_eq!(plans.len(), 13);
            for plan in plans {
                Signal::from_json(plan.body.as_bytes(), &rules).unwrap();
            }
        }
    }
}
