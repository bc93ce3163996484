//! The checker: whether a ledger keeps every promise. It knows nothing of the engine.
//!
//! The numbers are those of the six semantics: 1 accepted means durable, 2 nothing disappears,
//! 3 once in effect, 4 order, 5 answers are classified, 6 old signals expire. A cancellation that
//! was confirmed is part of 2. Its own tests plant a violation of each.

mod age;
mod answers;
mod order;
mod safe;
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use super::ledger::{Closed, Event, Ledger, Ms, Order};

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Violation {
    pub(crate) promise: &'static str,
    pub(crate) what: String,
}

/// Everything that is wrong with a ledger.
pub(crate) fn check(ledger: &Ledger) -> Vec<Violation> {
    let facts = Facts::of(ledger);
    let mut found = Vec::new();
    let mut say = |promise, what| found.push(Violation { promise, what });
    safe::durable(&facts, &mut say);
    safe::ended(&facts, &mut say);
    safe::cancelled(&facts, &mut say);
    order::once(&facts, &mut say);
    order::kept(&facts, &mut say);
    answers::classified(&facts, &mut say);
    age::expired(&facts, &mut say);
    found
}

type Say<'a> = &'a mut dyn FnMut(&'static str, String);

/// One attempt, put together from its events; the numbers are places in the list of events.
#[derive(Debug)]
struct Attempt<'a> {
    host: usize,
    validator: &'a str,
    uuid: &'a str,
    tried: usize,
    left: Option<usize>,
    /// Also when its sender died.
    closed: Option<usize>,
    how: Option<&'a Closed>,
}

/// A ledger, sorted.
struct Facts<'a> {
    ledger: &'a Ledger,
    attempts: Vec<Attempt<'a>>,
    /// Places in the order of acceptance, as far as anybody knows them.
    seqs: BTreeMap<&'a str, u64>,
    /// Where somebody asked for another round.
    retries: BTreeMap<&'a str, Vec<usize>>,
    none: Order,
}

impl<'a> Facts<'a> {
    fn of(ledger: &'a Ledger) -> Self {
        let mut attempts: BTreeMap<usize, Attempt<'a>> = BTreeMap::new();
        let mut seqs: BTreeMap<&str, u64> =
            ledger.end.iter().map(|(uuid, end)| (uuid.as_str(), end.seq)).collect();
        let mut retries: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (i, (_, event)) in ledger.events.iter().enumerate() {
            match event {
                Event::Tried { attempt, host, validator, uuid } => {
                    let (closed, how, left) = (None, None, None);
                    let (host, tried) = (*host, i);
                    let one = Attempt { host, validator, uuid, tried, left, closed, how };
                    attempts.insert(*attempt, one);
                }
                Event::Left { attempt, .. } => {
                    if let Some(attempt) = attempts.get_mut(attempt) {
                        attempt.left = Some(i);
                    }
                }
                Event::Closed { attempt, how } => {
                    if let Some(attempt) = attempts.get_mut(attempt) {
                        attempt.closed = Some(i);
                        attempt.how = Some(how);
                    }
                }
                Event::Ended { host } => {
                    let open = attempts.values_mut().filter(|a| a.host == *host);
                    open.filter(|a| a.closed.is_none()).for_each(|a| a.closed = Some(i));
                }
                Event::Acked { uuid, seq: Some(seq), .. } => {
                    seqs.insert(uuid, *seq);
                }
                Event::RetryAsked { uuid } => retries.entry(uuid).or_default().push(i),
                _ => {}
            }
        }
        let none = Order { pair: None, expires: false, idempotent: true, unrecognised: true };
        Self { ledger, attempts: attempts.into_values().collect(), seqs, retries, none }
    }

    fn events(&self) -> impl Iterator<Item = (usize, Ms, &'a Event)> {
        self.ledger.events.iter().enumerate().map(|(i, (at, event))| (i, *at, event))
    }

    fn at(&self, i: usize) -> Ms {
        self.ledger.events[i].0
    }

    fn order(&self, uuid: &str) -> &Order {
        self.ledger.orders.get(uuid).unwrap_or(&self.none)
    }

    /// Whether two orders stand in one row.
    fn in_one_row(&self, a: &str, b: &str) -> bool {
        let (a, b) = (&self.order(a).pair, &self.order(b).pair);
        a.is_none() || b.is_none() || a == b
    }

    fn retried_before(&self, uuid: &str, i: usize) -> bool {
        self.retries.get(uuid).is_some_and(|asked| asked.iter().any(|at| *at < i))
    }

    /// Whether another process went on with it, which does not know what an announced attempt came to.
    fn handed_over(&self, uuid: &str) -> bool {
        let submitted =
            |event: &&(Ms, Event)| matches!(&event.1, Event::Submitted { uuid: u } if u == uuid);
        let mut later = self.ledger.events.iter().skip_while(|event| !submitted(event));
        later.any(|(_, event)| matches!(event, Event::TookOver { .. }))
    }

    fn retries(&self, uuid: &str) -> usize {
        self.retries.get(uuid).map_or(0, Vec::len)
    }

    /// What submitters were told is safe, with what they were told it about.
    fn acked(&self) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
        let mut acked: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (_, _, event) in self.events() {
            if let Event::Acked { uuid, content, .. } = event {
                acked.entry(uuid).or_default().insert(content);
            }
        }
        acked
    }
}
