//! What can happen to a paper validator, as it is kept in its journal, and the one place where it is
//! applied: a restart does exactly what was done before.

use serde::{Deserialize, Serialize};

use super::answer::answer;
use crate::json::{Json, Object};
use crate::paper::account::Event;
use crate::paper::book::Standing;
use crate::paper::market::Quote;
use crate::paper::refusal::Refusal;
use crate::paper::validator::{Condition, PaperError, PaperValidator, Terms};
use crate::store::UnixMs;
use crate::trade_pair::TradePairId;
use crate::validator::DeskAnswer;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// When, in ms of the validator's clock.
    pub(super) at_ms: UnixMs,
    #[serde(flatten)]
    pub(super) what: What,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(super) enum What {
    /// An order; the signal as JSON text, so that its numbers keep their digits.
    Order {
        hotkey: String,
        uuid: String,
        signal: String,
    },
    Price {
        trade_pair: TradePairId,
        quote: Quote,
    },
    Join {
        hotkey: String,
        terms: Terms,
    },
    Standing {
        hotkey: String,
        standing: Option<Standing>,
    },
    Condition {
        condition: Condition,
    },
    Time,
}

/// What it came to.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// For the miner, where it was an order.
    pub(super) answer: Option<DeskAnswer>,
    /// Stable code, where it was refused.
    pub(super) refused: Option<&'static str>,
    /// What else happened, by hotkey.
    pub(super) events: Vec<(String, Vec<Event>)>,
}

impl Entry {
    pub(super) fn apply(&self, validator: &mut PaperValidator) -> Result<Applied, PaperError> {
        let mut applied = Applied::default();
        let at_ms = self.at_ms;
        validator.close_rounds(at_ms)?;
        match &self.what {
            What::Order { hotkey, uuid, signal } => {
                let body = match Json::parse(signal.as_bytes()) {
                    Ok(Json::Object(body)) => body,
                    _ => Object::new(),
                };
                let (order, outcome) = validator.signal(at_ms, hotkey, uuid, &body)?;
                let era = validator.era();
                applied.answer = Some(answer(era, hotkey, at_ms, order.as_ref(), &outcome));
                applied.refused = outcome.as_ref().err().map(Refusal::code);
                let mut events = outcome.map(|outcome| outcome.events).unwrap_or_default();
                events.extend(validator.take_events(hotkey));
                applied.events.push((hotkey.clone(), events));
            }
            What::Price { trade_pair, quote } => {
                applied.events = validator.price(at_ms, trade_pair, *quote)?;
            }
            What::Join { hotkey, terms } => validator.join(at_ms, hotkey, terms.clone())?,
            What::Standing { hotkey, standing } => {
                validator.set_standing(at_ms, hotkey, standing.clone())?;
            }
            What::Condition { condition } => validator.set_condition(at_ms, condition)?,
            What::Time => {}
        }
        applied.events.retain(|(_, events)| !events.is_empty());
        Ok(applied)
    }

    /// Whether it must be on the disk before anybody hears of it.
    pub(super) const fn must_last(&self) -> bool {
        !matches!(self.what, What::Price { .. } | What::Time)
    }
}
