//! 1 and 2: what was acknowledged is there at the end, unchanged, ended once, and complete.

use std::collections::BTreeMap;

use ptn_core::record::{DeliveryState, SignalState};

use super::{Facts, Say};
use crate::ledger::{Event, Ms};

const SAFE: &str = "1 accepted means durable";
const ENDS: &str = "2 nothing disappears";

/// After a cancellation was confirmed, what was decided to be sent may still leave for so long.
const MOMENT: Ms = 500;

pub(super) fn durable(facts: &Facts<'_>, say: Say<'_>) {
    let acked = facts.acked();
    for (uuid, contents) in &acked {
        if contents.len() > 1 {
            say(SAFE, format!("{uuid}: two different orders were acknowledged under one id"));
        }
        match facts.ledger.end.get(*uuid) {
            None => say(SAFE, format!("{uuid}: acknowledged, and not in the store at the end")),
            Some(end) if !contents.contains(end.content.as_str()) => {
                say(SAFE, format!("{uuid}: the store holds another order than was acknowledged"));
            }
            Some(_) => {}
        }
    }
    let mut contents: BTreeMap<&str, &str> = BTreeMap::new();
    let attempts: BTreeMap<usize, &str> = facts
        .events()
        .filter_map(|(_, _, event)| match event {
            Event::Tried { attempt, uuid, .. } => Some((*attempt, uuid.as_str())),
            _ => None,
        })
        .collect();
    let mut refused: BTreeMap<&str, bool> = BTreeMap::new();
    for (_, _, event) in facts.events() {
        match event {
            Event::Left { attempt, content } => {
                let uuid = attempts.get(attempt).copied().unwrap_or_default();
                if *contents.entry(uuid).or_insert(content) != content {
                    say(SAFE, format!("{uuid}: what left is not what left before"));
                }
                if acked.get(uuid).is_some_and(|acked| !acked.contains(content.as_str())) {
                    say(SAFE, format!("{uuid}: what left is not what was acknowledged"));
                }
            }
            Event::Conflict { uuid } => {
                say(SAFE, format!("{uuid}: the same order again was taken for another one"));
            }
            // Somebody who sends it again may be lucky; who was told "nothing was stored" each time
            // may send the same under another id.
            Event::Refused { uuid } => {
                refused.entry(uuid).or_insert(true);
            }
            Event::Submitted { uuid } => {
                refused.entry(uuid).and_modify(|only| *only = false);
            }
            _ => {}
        }
    }
    for (uuid, only) in refused {
        if only && !acked.contains_key(uuid) && facts.ledger.end.contains_key(uuid) {
            say(SAFE, format!("{uuid}: the submitter was told that nothing was stored"));
        }
    }
}

pub(super) fn ended(facts: &Facts<'_>, say: Say<'_>) {
    let terms = &facts.ledger.terms;
    for (uuid, end) in &facts.ledger.end {
        if end.copies != 1 {
            say(ENDS, format!("{uuid}: is listed {} times at the end", end.copies));
        }
        if end.state == SignalState::Pending {
            say(ENDS, format!("{uuid}: is not finished at the end"));
            continue;
        }
        for (validator, record) in &end.validators {
            if !record.state.is_final() {
                say(ENDS, format!("{uuid}: finished, and {validator} is {}", record.state));
            }
            if terms.required.contains(validator) && !record.required {
                say(ENDS, format!("{uuid}: {validator} must acknowledge it, and counts as a copy"));
            }
        }
        for target in &terms.targets {
            if !end.validators.contains_key(target) {
                say(ENDS, format!("{uuid}: there is no record of {target}"));
            }
        }
        let required = || end.validators.values().filter(|v| v.required);
        let all = required().all(|v| v.state == DeliveryState::Accepted);
        let processed = required().count() > 0 && all;
        if processed != (end.state == SignalState::Processed) {
            say(ENDS, format!("{uuid}: is {}, which its records contradict", end.state));
        }
    }
    let mut ends: BTreeMap<&str, Vec<(usize, usize, SignalState)>> = BTreeMap::new();
    for (i, _, event) in facts.events() {
        if let Event::Finished { host, uuid, state } = event {
            ends.entry(uuid).or_default().push((i, *host, *state));
        }
    }
    for (uuid, ends) in &ends {
        if ends.len() > 1 + facts.retries(uuid) {
            say(ENDS, format!("{uuid}: ended {} times", ends.len()));
        }
        let last = ends.last().map(|(.., state)| *state);
        // Another round was asked for since, and its end was not heard of.
        let again = facts.retries.get(*uuid).into_iter().flatten().max();
        if again > ends.last().map(|(i, ..)| i) {
            continue;
        }
        match facts.ledger.end.get(*uuid) {
            None => say(ENDS, format!("{uuid}: was finished, and is not in the store any more")),
            Some(end) if Some(end.state) != last => {
                say(ENDS, format!("{uuid}: ended as {last:?} and is {} at the end", end.state));
            }
            Some(_) => {}
        }
    }
    for attempt in &facts.attempts {
        if attempt.left.is_some() {
            let end = facts.ledger.end.get(attempt.uuid);
            if end.is_none_or(|end| !end.validators.contains_key(attempt.validator)) {
                let (uuid, validator) = (attempt.uuid, attempt.validator);
                say(ENDS, format!("{uuid}: was sent to {validator}, and there is no record of it"));
            }
        }
        let ends = ends.get(attempt.uuid).map(Vec::as_slice).unwrap_or_default();
        for (end, host, _) in ends {
            let again = facts.retries.get(attempt.uuid);
            let again = again.is_some_and(|at| at.iter().any(|at| *at > *end));
            let open = attempt.tried < *end && attempt.closed.is_none_or(|closed| closed > *end);
            // Of another process, which does not know of it yet.
            let ours = *host == attempt.host;
            if (attempt.tried > *end && !again) || (open && ours) {
                say(ENDS, format!("{}: ended before {} was done", attempt.uuid, attempt.validator));
            }
        }
    }
}

pub(super) fn cancelled(facts: &Facts<'_>, say: Say<'_>) {
    for (i, at, event) in facts.events() {
        let Event::CancelAcked { uuid } = event else { continue };
        let again = facts.retries.get(uuid.as_str()).into_iter().flatten().find(|r| **r > i);
        let again = again.copied().unwrap_or(usize::MAX);
        // A process that stands still does not see it.
        let frozen = facts.events().any(|(j, when, event)| {
            matches!(event, Event::Frozen { .. }) && j + 200 > i && when + 500_000 > at
        });
        for attempt in facts.attempts.iter().filter(|a| a.uuid == *uuid) {
            let late = attempt.tried > i && attempt.tried < again;
            if late && facts.at(attempt.tried) > at + MOMENT && !frozen {
                let validator = attempt.validator;
                say(ENDS, format!("{uuid}: was sent to {validator} after it was cancelled"));
            }
        }
    }
}
