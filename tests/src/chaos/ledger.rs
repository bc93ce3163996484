//! The validators' books: what each received and what took effect, and whether that is in order.
//!
//! The books are the test's own, not the validator's memory: they outlive every process, and a
//! validator that does not recognise repeats (2024) trades twice in them.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use ptn_core::record::{DeliveryState, SignalState, legacy};
use ptn_core::store::StoredSignal;
use ptn_core::validator::{DeskAnswer, DeskOrder, OrderDesk};
use tokio::sync::watch;

/// The id of the `n`-th order of a sender, who sends one pair.
pub fn order_id(sender: usize, n: usize) -> String {
    format!("s{sender}-{n:06}")
}

fn place(id: &str) -> (&str, usize) {
    let (sender, n) = id.split_once('-').unwrap();
    (sender, n.parse().unwrap())
}

/// One validator's book.
#[derive(Debug, Clone, Default)]
struct Book {
    /// What took effect, in order.
    effects: Vec<String>,
    known: HashSet<String>,
    repeats: u64,
}

/// A validator's desk that writes a book.
#[derive(Debug)]
pub struct Ledger {
    recognises_repeats: bool,
    book: Mutex<Book>,
    last: watch::Sender<Instant>,
}

impl Ledger {
    /// An empty book.
    pub fn new(recognises_repeats: bool) -> Arc<Self> {
        let last = watch::Sender::new(Instant::now());
        Arc::new(Self { recognises_repeats, book: Mutex::default(), last })
    }

    /// A copy of the book as it is now, which goes its own way.
    pub fn fork(&self) -> Arc<Self> {
        let fork = Self::new(self.recognises_repeats);
        *fork.book.lock().unwrap_or_else(PoisonError::into_inner) = self.book();
        fork
    }

    fn book(&self) -> Book {
        self.book.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Orders that took effect so far.
    pub fn effects(&self) -> usize {
        self.book.lock().unwrap_or_else(PoisonError::into_inner).effects.len()
    }

    /// Repeats that were recognised.
    pub fn repeats(&self) -> u64 {
        self.book.lock().unwrap_or_else(PoisonError::into_inner).repeats
    }

    /// When the last order arrived; a change for every one.
    pub fn arrivals(&self) -> watch::Receiver<Instant> {
        self.last.subscribe()
    }

    /// Orders that took effect twice, and pairs of orders that did so in the wrong order.
    fn faults(&self) -> (Vec<String>, Vec<String>) {
        let book = self.book();
        let (mut doubled, mut reordered) = (Vec::new(), Vec::new());
        let mut seen = HashSet::new();
        let mut last: BTreeMap<&str, usize> = BTreeMap::new();
        for id in &book.effects {
            if !seen.insert(id) {
                doubled.push(id.clone());
                continue;
            }
            let (sender, n) = place(id);
            let before = last.insert(sender, n);
            if before.is_some_and(|before| before > n) {
                reordered.push(id.clone());
            }
        }
        (doubled, reordered)
    }
}

#[async_trait]
impl OrderDesk for Ledger {
    async fn take(&self, order: DeskOrder<'_>) -> DeskAnswer {
        let answer = {
            let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
            let known = !book.known.insert(order.uuid.to_owned());
            if known && self.recognises_repeats {
                book.repeats += 1;
                DeskAnswer::Repeated
            } else {
                book.effects.push(order.uuid.to_owned());
                DeskAnswer::Taken { order_json: format!(r#"{{"order_uuid":"{}"}}"#, order.uuid) }
            }
        };
        self.last.send_replace(Instant::now());
        answer
    }
}

/// What is wrong, by order.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Findings {
    /// Acknowledged to the sender, and then without a place or without its effect.
    pub lost: Vec<String>,
    /// Took effect twice at one validator, or ended twice.
    pub doubled: Vec<String>,
    /// Took effect after a later order of its pair.
    pub reordered: Vec<String>,
}

impl Findings {
    /// Whether nothing is wrong.
    pub fn none(&self) -> bool {
        *self == Self::default()
    }
}

/// What the books alone tell, at any time.
pub fn at_validators(ledgers: &[(String, Arc<Ledger>)]) -> Findings {
    let mut found = Findings::default();
    for (hotkey, ledger) in ledgers {
        let (doubled, reordered) = ledger.faults();
        let at = |ids: Vec<String>| ids.into_iter().map(move |id| format!("{id} at {hotkey}"));
        found.doubled.extend(at(doubled));
        found.reordered.extend(at(reordered));
    }
    found
}

/// Where everything stands, by the store: finished signals, and the ids of unfinished ones.
#[derive(Debug, Default)]
pub struct Standing {
    /// By id.
    pub finished: BTreeMap<String, StoredSignal>,
    /// Ids.
    pub waiting: BTreeSet<String>,
    /// Finished twice.
    pub doubled: Vec<String>,
    /// Files that cannot be read: those that a power cut emptied are written again after a start.
    pub unreadable: Vec<String>,
}

impl Standing {
    /// Whether an order is there, finished or not.
    pub fn knows(&self, id: &str) -> bool {
        self.finished.contains_key(id) || self.waiting.contains(id)
    }
}

/// Reads the three folders of a spool.
pub fn of_spool(dir: &Path) -> Standing {
    let mut standing = Standing::default();
    let names = |folder: &str| -> Vec<String> {
        let list = std::fs::read_dir(dir.join(folder)).unwrap();
        list.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    };
    standing.waiting.extend(names("received_signals"));
    for folder in ["processed_signals", "failed_signals"] {
        for name in names(folder) {
            let text = std::fs::read_to_string(dir.join(folder).join(&name)).unwrap();
            let Some(stored) = legacy::read_finished(&text) else {
                standing.unreadable.push(format!("{folder}/{name} cannot be read: {text:?}"));
                continue;
            };
            if standing.finished.insert(name.clone(), stored).is_some() {
                standing.doubled.push(format!("{name} in both folders"));
            }
        }
    }
    standing
}

/// What reached a validator so far: the hotkey, and the id of an order.
pub fn arrived(ledgers: &[(String, Arc<Ledger>)]) -> Vec<(String, String)> {
    let of = |(hotkey, ledger): &(String, Arc<Ledger>)| {
        ledger.book().known.into_iter().map(|id| (hotkey.clone(), id)).collect::<Vec<_>>()
    };
    ledgers.iter().flat_map(of).collect()
}

/// Judges what was acknowledged to senders by the books and the store, when all is quiet.
///
/// `arrived` is from before the store was read: what arrives later, the store may get to know later.
pub fn judge(
    answered: &[String],
    arrived: &[(String, String)],
    standing: &Standing,
    ledgers: &[(String, Arc<Ledger>)],
) -> Findings {
    let mut found = at_validators(ledgers);
    found.doubled.extend(standing.doubled.iter().cloned());
    found.lost.extend(standing.unreadable.iter().cloned());
    let mut answered_once = HashSet::new();
    for id in answered {
        assert!(answered_once.insert(id), "the sender sent {id} twice");
        let Some(stored) = standing.finished.get(id) else {
            let place = if standing.waiting.contains(id) { "unfinished" } else { "nowhere" };
            found.lost.push(format!("{id} is {place}"));
            continue;
        };
        for (hotkey, ledger) in ledgers {
            let state = stored.validators.get(hotkey).map(|r| r.state);
            let took_effect = ledger.knows(id);
            let honest = match state {
                Some(DeliveryState::Accepted) => took_effect,
                // Where a repeat would not be recognised, this is the promised word.
                Some(DeliveryState::Unknown) => !ledger.recognises_repeats,
                _ => false,
            };
            if !honest {
                let effect = if took_effect { "took effect" } else { "did not take effect" };
                found.lost.push(format!("{id} {effect} at {hotkey}, and is {state:?} here"));
            }
        }
        let all = stored.validators.values().all(|r| r.state == DeliveryState::Accepted);
        if (stored.state == SignalState::Processed) != all {
            found.lost.push(format!("{id} ended as {}", stored.state));
        }
    }
    // Someone who got no answer may find the order there, or not; but what took effect is known.
    for (hotkey, id) in arrived.iter().filter(|(_, id)| !standing.knows(id)) {
        found.lost.push(format!("{id} took effect at {hotkey} and is nowhere here"));
    }
    found
}

impl Ledger {
    fn knows(&self, id: &str) -> bool {
        self.book.lock().unwrap_or_else(PoisonError::into_inner).known.contains(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn take(ledger: &Ledger, ids: &[&str]) {
        let nothing = ptn_core::json::Object::new();
        for id in ids {
            let wire = ptn_core::directory::Wire::Btauth;
            ledger.take(DeskOrder::new("5M", id, &nothing, wire)).await;
        }
    }

    #[tokio::test]
    async fn the_books_show_what_was_doubled_and_reordered() {
        let ledger = Ledger::new(false);
        take(&ledger, &["s0-000000", "s1-000000", "s0-000002", "s0-000001", "s1-000000"]).await;
        let found = at_validators(&[("V".to_owned(), Arc::clone(&ledger))]);
        assert_eq!(found.doubled, ["s1-000000 at V"]);
        assert_eq!(found.reordered, ["s0-000001 at V"]);
        assert_eq!(ledger.effects(), 5);

        let ledger = Ledger::new(true);
        take(&ledger, &["s0-000000", "s0-000000"]).await;
        assert!(at_validators(&[("V".to_owned(), Arc::clone(&ledger))]).none());
        assert_eq!((ledger.effects(), ledger.repeats()), (1, 1));
    }

    #[tokio::test]
    async fn what_was_acknowledged_and_is_nowhere_is_lost() {
        let ledger = Ledger::new(true);
        take(&ledger, &["s0-000001"]).await;
        let ledgers = [("V".to_owned(), ledger)];
        let mut standing = Standing::default();
        standing.waiting.insert("s0-000000".to_owned());
        let answered = ["s0-000000".to_owned(), "s9-000000".to_owned()];
        let found = judge(&answered, &arrived(&ledgers), &standing, &ledgers);
        assert_eq!(
            found.lost,
            [
                "s0-000000 is unfinished",
                "s9-000000 is nowhere",
                "s0-000001 took effect at V and is nowhere here"
            ]
        );
    }
}
