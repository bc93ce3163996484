//! 6: old orders that open a position are not sent, and nothing else expires.
//!
//! Within a run an order ages by a clock that cannot be set; what an earlier run accepted is as old
//! as the time of day says.

use ptn_core::record::DeliveryState;

use super::{Facts, Say};
use crate::ledger::{Event, Ms};

const AGE: &str = "6 old signals expire";

/// The start of a process and of an attempt take so long at most.
const MOMENT: Ms = 250;
/// The clock may be set between an acceptance and its being taken up: too close to tell.
const CLOSE: Ms = 5_000;

/// Between these an order is as old as somebody outside can know; `None` when it cannot be told.
fn age(facts: &Facts<'_>, uuid: &str, host: Option<usize>, i: usize) -> Option<(Ms, Ms)> {
    let now = facts.at(i);
    let mut wall = 0_i64;
    let (mut first, mut last, mut stored, mut seen) = (None, None, None, None);
    let mut runs = Vec::new();
    let mut steps = Vec::new();
    for (j, at, event) in facts.events().take_while(|(j, ..)| *j < i) {
        match event {
            Event::Step { by } => {
                wall += by;
                steps.push((at, *by));
            }
            Event::Started { host: started, .. } if host.is_none_or(|h| h == *started) => {
                runs.push((j, at, wall));
            }
            Event::Submitted { uuid: u } if u == uuid && stored.is_none() => {
                first.get_or_insert((j, at, wall));
                if seen.is_none() {
                    last = Some((j, at, wall));
                }
            }
            Event::Acked { uuid: u, seq: Some(_), .. } if u == uuid => {
                stored = Some((j, at, wall));
            }
            Event::Acked { uuid: u, .. } | Event::Tried { uuid: u, .. } if u == uuid => {
                seen.get_or_insert((j, at, wall));
            }
            // Its age begins anew.
            Event::RetryAsked { uuid: u } if u == uuid => {
                first = Some((j, at, wall));
                (last, stored, seen) = (first, None, None);
            }
            _ => {}
        }
    }
    let (first, (run, run_at, run_wall)) = (first?, *runs.last()?);
    let unsure = |from: Ms, to: Ms| steps.iter().any(|(at, _)| *at >= from && *at <= to);
    // Another process takes it up at a moment that nobody outside sees.
    let several =
        facts.events().any(|(.., e)| matches!(e, Event::Started { host, .. } if *host > 0));
    if several && unsure(first.1, now) {
        return None;
    }
    // Of several submissions any may be the one that was stored; a statement without an answer is even
    // carried out later, by the latest when somebody sees it.
    let stored = match stored {
        None if several => seen?,
        stored => stored.or(last).unwrap_or(first),
    };
    if unsure(first.1, stored.1 + CLOSE) || unsure(run_at, run_at + CLOSE) {
        return None;
    }
    let since = |(accepted, at, its_wall): (usize, Ms, i64)| {
        if run < accepted {
            return Some(now.saturating_sub(at));
        }
        let before = i64::try_from(run_at).ok()? + run_wall - i64::try_from(at).ok()? - its_wall;
        Some(Ms::try_from(before).unwrap_or(0) + now.saturating_sub(run_at))
    };
    Some((since(stored)?, since(first)?))
}

pub(super) fn expired(facts: &Facts<'_>, say: Say<'_>) {
    let most = facts.ledger.terms.max_age;
    for (i, _, event) in facts.events() {
        match event {
            Event::Tried { host, validator, uuid, .. } if facts.order(uuid).expires => {
                if let Some((age, _)) = age(facts, uuid, Some(*host), i)
                    && age > most.saturating_add(MOMENT)
                {
                    say(
                        AGE,
                        format!("{uuid}: is sent to {validator} {age} ms after its acceptance"),
                    );
                }
            }
            Event::Recorded { uuid, validator, state: DeliveryState::Expired } => {
                if !facts.order(uuid).expires {
                    say(AGE, format!("{uuid}: does not expire, and did at {validator}"));
                } else if let Some((_, age)) = age(facts, uuid, None, i)
                    && age + MOMENT < most
                {
                    say(AGE, format!("{uuid}: expired at {validator} after {age} ms"));
                }
            }
            _ => {}
        }
    }
}
