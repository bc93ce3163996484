//! 5: the record agrees with what the validator did, and keeps its words.

use std::collections::BTreeSet;

use ptn_core::record::DeliveryState;

use super::{Attempt, Facts, Say};
use crate::ledger::{Closed, Effect, Event};

const ANSWERS: &str = "5 answers are classified";

pub(super) fn classified(facts: &Facts<'_>, say: Say<'_>) {
    let traded: BTreeSet<(&str, &str)> = facts
        .events()
        .filter_map(|(_, _, event)| match event {
            Event::Arrived { validator, uuid, effect: Effect::Executed } => {
                Some((validator.as_str(), uuid.as_str()))
            }
            _ => None,
        })
        .collect();
    // After that nobody outside knows which attempts the store knows of.
    let disturbed = |attempt: &Attempt<'_>| {
        facts.retries(attempt.uuid) > 0
            || facts.attempts.iter().any(|a| a.uuid == attempt.uuid && a.how.is_none())
    };
    let healed = facts.events().find(|(_, _, event)| matches!(event, Event::Healed));
    let healed = healed.map_or(usize::MAX, |(i, ..)| i);
    // Or nobody knows which process a record is of.
    let died = facts
        .events()
        .take_while(|(i, ..)| *i < healed)
        .any(|(_, _, event)| matches!(event, Event::Ended { .. } | Event::Frozen { .. }));
    for (uuid, end) in &facts.ledger.end {
        for (validator, record) in &end.validators {
            let effect = traded.contains(&(validator.as_str(), uuid.as_str()));
            let attempts: Vec<_> = facts
                .attempts
                .iter()
                .filter(|a| a.uuid == *uuid && a.validator == *validator)
                .collect();
            let state = record.state;
            match state {
                DeliveryState::Accepted if !effect => {
                    say(ANSWERS, format!("{uuid}: {validator} is accepted and did nothing"));
                }
                DeliveryState::Rejected
                | DeliveryState::Denied
                | DeliveryState::Expired
                | DeliveryState::Cancelled
                | DeliveryState::Submitted
                    if effect =>
                {
                    say(ANSWERS, format!("{uuid}: {validator} is {state} and did it"));
                }
                DeliveryState::Unknown => {
                    let lost = |a: &&Attempt<'_>| a.how.is_none_or(|how| *how == Closed::Lost);
                    let handed_over = facts.handed_over(uuid);
                    if !died && !handed_over && !attempts.iter().any(lost) {
                        let what = "is unknown, and every answer came back";
                        say(ANSWERS, format!("{uuid}: {validator} {what}"));
                    }
                }
                _ => {}
            }
            let Some(last) = attempts.last() else { continue };
            if state != DeliveryState::Rejected || disturbed(last) || died {
                continue;
            }
            match last.how {
                Some(Closed::Answered { words, .. }) if !record.message.contains(words) => {
                    let what = format!("{uuid}: the words of {validator} are lost: {words}");
                    say(ANSWERS, what);
                }
                Some(Closed::Answered { last: true, .. }) => {}
                _ => {
                    // Not refused for good: every try must have been made.
                    let must = facts.ledger.terms.required.contains(validator);
                    if must && attempts.len() < facts.ledger.terms.tries {
                        let what = "was given up before its tries were used";
                        say(ANSWERS, format!("{uuid}: {validator} {what}"));
                    }
                }
            }
        }
    }
}
