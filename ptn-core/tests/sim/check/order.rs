//! 3 and 4: nothing takes effect twice, and nothing overtakes.

use std::collections::{BTreeMap, BTreeSet};

use ptn_core::record::DeliveryState;

use super::{Facts, Say};
use crate::ledger::{Effect, Event};

const ONCE: &str = "3 once in effect";
const ORDER: &str = "4 order is kept";

pub(super) fn once(facts: &Facts<'_>, say: Say<'_>) {
    let mut traded: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    // What each validator did last.
    let mut latest: BTreeMap<&str, &str> = BTreeMap::new();
    let mut done: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (_, _, event) in facts.events() {
        match event {
            Event::Arrived { validator, uuid, effect: Effect::Executed } => {
                let before = traded.entry((validator, uuid)).or_default();
                *before += 1;
                // Whoever asks for another round of what nobody recognises may get a second trade.
                let allowed =
                    1 + if facts.ledger.terms.recognises { 0 } else { facts.retries(uuid) };
                let harmless = if facts.order(uuid).idempotent {
                    latest.get(validator.as_str()) == Some(&uuid.as_str())
                        || facts.retries(uuid) > 0
                } else {
                    *before <= allowed || (edit(facts, uuid) && facts.retries(uuid) > 0)
                };
                if *before > 1 && !harmless {
                    say(ONCE, format!("{uuid}: took effect {before} times at {validator}"));
                }
                latest.insert(validator, uuid);
            }
            Event::Recorded { uuid, validator, state: DeliveryState::Accepted } => {
                done.insert((validator, uuid));
            }
            Event::Tried { validator, uuid, .. }
                if done.contains(&(validator.as_str(), uuid.as_str())) =>
            {
                say(ONCE, format!("{uuid}: is sent to {validator}, which has acknowledged it"));
            }
            _ => {}
        }
    }
}

/// Whether validators let this one use its uuid again.
fn edit(facts: &Facts<'_>, uuid: &str) -> bool {
    facts.order(uuid).unrecognised
}

pub(super) fn kept(facts: &Facts<'_>, say: Say<'_>) {
    places(facts, say);
    let sent: Vec<_> = facts.attempts.iter().filter(|a| a.left.is_some()).collect();
    for (n, later) in sent.iter().enumerate() {
        let Some(seq) = facts.seqs.get(later.uuid) else { continue };
        let (at, until) = (later.left.unwrap_or_default(), later.closed.unwrap_or(usize::MAX));
        for (m, other) in sent.iter().enumerate() {
            let same = other.validator == later.validator;
            if n == m || !same || !facts.in_one_row(other.uuid, later.uuid) {
                continue;
            }
            let left = other.left.unwrap_or_default();
            // Two of one process under way at once, whatever their order.
            let together = other.host == later.host && left > at && left < until;
            if together {
                let (a, b, v) = (later.uuid, other.uuid, later.validator);
                say(ORDER, format!("{b}: left for {v} while {a} was under way"));
            }
            let before = facts.seqs.get(other.uuid).is_some_and(|other| other < seq);
            if before && left > at && !facts.retried_before(other.uuid, left) {
                let (a, b, v) = (other.uuid, later.uuid, later.validator);
                say(ORDER, format!("{a}: left for {v} after {b}, which was accepted later"));
            }
        }
    }
    effects(facts, say);
}

/// What was acknowledged before another one was sent in has an earlier place.
fn places(facts: &Facts<'_>, say: Say<'_>) {
    let mut acked: Vec<&str> = Vec::new();
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for (_, _, event) in facts.events() {
        match event {
            Event::Acked { uuid, .. } => acked.push(uuid),
            Event::Submitted { uuid } if seen.insert(uuid) => {
                let Some(later) = facts.seqs.get(uuid.as_str()) else { continue };
                for earlier in acked.iter().filter(|e| facts.seqs.get(*e) >= Some(later)) {
                    say(
                        ORDER,
                        format!("{earlier}: acknowledged before {uuid}, and placed behind it"),
                    );
                }
            }
            _ => {}
        }
    }
}

/// Validators act in the order of acceptance.
fn effects(facts: &Facts<'_>, say: Say<'_>) {
    let mut traded: Vec<(&str, &str)> = Vec::new();
    for (i, _, event) in facts.events() {
        let Event::Arrived { validator, uuid, effect: Effect::Executed } = event else { continue };
        let Some(seq) = facts.seqs.get(uuid.as_str()) else { continue };
        if !facts.retried_before(uuid, i) {
            for (_, other) in traded.iter().filter(|(v, _)| v == validator) {
                if facts.in_one_row(other, uuid) && facts.seqs.get(other) > Some(seq) {
                    say(ORDER, format!("{uuid}: took effect at {validator} after {other}"));
                }
            }
        }
        traded.push((validator, uuid));
    }
}
