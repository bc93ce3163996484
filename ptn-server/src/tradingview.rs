//! TradingView's own words: `buy`/`sell`, tickers, and placeholders that were never filled in.
//!
//! Translating is off unless asked for, because it changes what an alert means; the hint about
//! placeholders that were not filled in is always given. Judging the resulting signal is left to `ptn_core::signal`.

use std::collections::BTreeMap;

use ptn_core::json::{Json, Object};
use ptn_core::rules::Rules;
use ptn_core::signal::OrderUuid;
use sha2::{Digest, Sha256};

use crate::answer::ApiError;

/// What to do with TradingView's own words.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct TradingView {
    /// `buy` and `sell` in `order_type` mean LONG and SHORT.
    pub actions: bool,
    /// `order_type` is the action (`{{strategy.order.action}}`), and `market_position` with
    /// `prev_market_position` tell entries from exits: an exit to flat becomes FLAT, and a partial
    /// exit of a long position becomes a SHORT order instead of adding to it.
    pub position_change: bool,
    /// Other names for pairs.
    pub tickers: BTreeMap<String, String>,
    /// Pairs that are not found are looked up by similarity (`BINANCE:BTCUSDT` is `BTCUSDC`).
    pub tickers_auto: bool,
    /// An `idempotency_key` in the alert decides the signal's id, so a re-send is recognised.
    pub idempotency: bool,
}

impl TradingView {
    /// Reads `BTCUSDT=BTCUSDC,ETHUSDT=ETHUSDC` and the word `auto`.
    pub(crate) fn set_tickers(&mut self, text: &str) -> Result<(), String> {
        self.tickers.clear();
        self.tickers_auto = false;
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            match part.split_once('=') {
                Some((from, to)) if !from.trim().is_empty() && !to.trim().is_empty() => {
                    self.tickers.insert(from.trim().to_owned(), to.trim().to_owned());
                }
                None if part.eq_ignore_ascii_case("auto") => self.tickers_auto = true,
                _ => return Err(format!("{part:?} is neither NAME=PAIR nor auto")),
            }
        }
        Ok(())
    }

    /// Translates an alert; gives the id that it asks for by its `idempotency_key`.
    ///
    /// # Errors
    /// When an action does not fit the positions.
    pub(crate) fn translate(
        &self,
        object: &mut Object,
        rules: &Rules,
    ) -> Result<Option<OrderUuid>, ApiError> {
        if self.position_change {
            position_change(object)?;
        }
        if self.actions || self.position_change {
            let word = object.get("order_type").and_then(Json::as_str).map(str::to_lowercase);
            match word.as_deref() {
                Some("buy") => object.set("order_type", "LONG".into()),
                Some("sell") => object.set("order_type", "SHORT".into()),
                _ => {}
            }
        }
        if let Some(pair) = object.get("trade_pair").and_then(Json::as_str) {
            if let Some(other) = self.tickers.get(pair) {
                let other = other.as_str().into();
                object.set("trade_pair", other);
            } else if self.tickers_auto
                && rules.catalogue.get(pair).is_none()
                && let Some(found) = rules.catalogue.suggest(pair)
            {
                object.set("trade_pair", found.id.as_str().into());
            }
        }
        if !self.idempotency {
            return Ok(None);
        }
        let Some(key) = object.remove("idempotency_key") else { return Ok(None) };
        // Alert texts build it from tickers and times, so it is hashed instead of restricted.
        let text = key.to_string();
        let digest = Sha256::digest(text.as_bytes());
        let hex: String = digest.iter().take(16).map(|b| format!("{b:02x}")).collect();
        Ok(OrderUuid::parse(&format!("tv-{hex}")).ok())
    }
}

/// What to tell somebody whose alert came with a placeholder that was not filled in.
pub(crate) fn placeholder_hint(body: &[u8]) -> Option<String> {
    let Ok(Json::Object(object)) = Json::parse(body) else { return None };
    object.iter().find_map(|(field, value)| {
        let (_, rest) = value.as_str()?.split_once("{{")?;
        let (name, _) = rest.split_once("}}")?;
        let name: String = name.chars().take(64).collect();
        Some(format!(
            "{field} still holds TradingView's placeholder {{{{{name}}}}}: create the alert on a strategy (not on a chart or an indicator), or write a value instead"
        ))
    })
}

fn position_change(object: &mut Object) -> Result<(), ApiError> {
    let word = |object: &Object, field: &str| {
        object.get(field).and_then(Json::as_str).map(str::to_lowercase)
    };
    let (Some(now), Some(before)) =
        (word(object, "market_position"), word(object, "prev_market_position"))
    else {
        return Ok(());
    };
    let action = word(object, "order_type").unwrap_or_default();
    let result = match (before.as_str(), now.as_str(), action.as_str()) {
        (_, "flat", _) => "FLAT",
        ("long" | "flat" | "short", "long" | "short", "buy") => "LONG",
        ("long" | "flat" | "short", "long" | "short", "sell") => "SHORT",
        _ => {
            return Err(ApiError::bad(
                "bad_order_type",
                format!(
                    "improperly formatted signal received. order_type must be {{{{strategy.order.action}}}} (buy or sell) beside market_position and prev_market_position (long, short or flat); got {action:?}, {now:?} and {before:?}"
                ),
            )
            .field("order_type"));
        }
    };
    object.set("order_type", result.into());
    object.remove("market_position");
    object.remove("prev_market_position");
    Ok(())
}

#[cfg(test)]
mod tests {
    use ptn_core::rules::Era;

    use super::*;

    fn translate(view: &TradingView, text: &str) -> Result<String, String> {
        let Json::Object(mut object) = Json::parse(text.as_bytes()).unwrap() else { panic!() };
        let rules = Rules::load(Era::Y2026).unwrap();
        view.translate(&mut object, &rules).map_err(|e| e.error)?;
        Ok(Json::Object(object).to_string())
    }

    #[test]
    fn nothing_changes_unless_asked_for() {
        let alert = r#"{"order_type":"buy","trade_pair":"BTCUSDT","idempotency_key":"x"}"#;
        assert_eq!(translate(&TradingView::default(), alert).unwrap(), alert);
    }

    #[test]
    fn actions_and_tickers_are_translated() {
        let mut view = TradingView { actions: true, ..TradingView::default() };
        view.set_tickers("XBT=BTCUSDC, auto").unwrap();
        let check =
            |alert: &str, result: &str| assert_eq!(translate(&view, alert).unwrap(), result);
        check(
            r#"{"order_type":"Buy","trade_pair":"XBT"}"#,
            r#"{"order_type":"LONG","trade_pair":"BTCUSDC"}"#,
        );
        check(
            r#"{"order_type":"sell","trade_pair":"BINANCE:BTCUSDT"}"#,
            r#"{"order_type":"SHORT","trade_pair":"BTCUSDC"}"#,
        );
    }

    #[test]
    fn a_partial_exit_does_not_add() {
        let view = TradingView { position_change: true, ..TradingView::default() };
        for (before, now, action, result) in [
            ("flat", "long", "buy", "LONG"),
            ("long", "long", "sell", "SHORT"),
            ("long", "flat", "sell", "FLAT"),
            ("short", "short", "buy", "LONG"),
        ] {
            let alert = format!(
                r#"{{"order_type":"{action}","market_position":"{now}","prev_market_position":"{before}"}}"#
            );
            assert_eq!(
                translate(&view, &alert).unwrap(),
                format!(r#"{{"order_type":"{result}"}}"#)
            );
        }
        let wrong =
            r#"{"order_type":"long","market_position":"long","prev_market_position":"long"}"#;
        assert!(translate(&view, wrong).unwrap_err().contains("strategy.order.action"));
    }

    #[test]
    fn a_placeholder_that_was_not_filled_in_is_explained() {
        let alert = br#"{"trade_pair":"BTCUSDC","order_type":"{{strategy.market_position}}"}"#;
        let text = placeholder_hint(alert).unwrap();
        assert!(text.starts_with("order_type") && text.contains("{{strategy.market_position}}"));
        assert_eq!(placeholder_hint(br#"{"trade_pair":"BTCUSDC"}"#), None);
    }
}
