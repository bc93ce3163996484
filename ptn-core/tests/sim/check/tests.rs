//! The checker can fail: a violation of every promise is planted in a clean history, and found.

use ptn_core::record::{DeliveryState, SignalState};

use super::check;
use crate::ledger::{Closed, Effect, End, EndRecord, Event, Ledger, Ms, Order, Terms};

/// A history in the making.
struct Book {
    ledger: Ledger,
    now: Ms,
    attempts: usize,
}

impl Book {
    fn new() -> Self {
        let order = |expires| Order {
            pair: Some("BTCUSDC".to_owned()),
            expires,
            idempotent: false,
            unrecognised: false,
        };
        let everywhere = Order { pair: None, expires: false, idempotent: true, unrecognised: true };
        let orders = [("a", order(true)), ("b", order(false)), ("all", everywhere)];
        let ledger = Ledger {
            terms: Terms {
                recognises: true,
                max_age: 10_000,
                tries: 3,
                targets: ["v0".to_owned()].into(),
                required: ["v0".to_owned()].into(),
            },
            orders: orders.map(|(uuid, order)| (uuid.to_owned(), order)).into(),
            ..Ledger::default()
        };
        let mut book = Self { ledger, now: 0, attempts: 0 };
        book.log(Event::Started { host: 0, wall: 0 });
        book
    }

    fn log(&mut self, event: Event) {
        self.now += 10;
        self.ledger.events.push((self.now, event));
    }

    fn accept(&mut self, uuid: &str, seq: u64) {
        self.log(Event::Submitted { uuid: uuid.to_owned() });
        let content = uuid.to_owned();
        self.log(Event::Acked { uuid: uuid.to_owned(), content: content.clone(), seq: Some(seq) });
        let record =
            EndRecord { required: true, state: DeliveryState::Accepted, message: String::new() };
        let end = End {
            seq,
            state: SignalState::Processed,
            content,
            copies: 1,
            validators: [("v0".to_owned(), record)].into(),
        };
        self.ledger.end.insert(uuid.to_owned(), end);
    }

    fn leave(&mut self, uuid: &str) -> usize {
        let (attempt, uuid) = (self.attempts, uuid.to_owned());
        self.attempts += 1;
        let validator = "v0".to_owned();
        self.log(Event::Tried { attempt, host: 0, validator, uuid: uuid.clone() });
        self.log(Event::Left { attempt, content: uuid });
        attempt
    }

    fn arrive(&mut self, uuid: &str, effect: Effect) {
        let (validator, uuid) = ("v0".to_owned(), uuid.to_owned());
        self.log(Event::Arrived { validator, uuid, effect });
    }

    fn close(&mut self, attempt: usize, how: Closed) {
        self.log(Event::Closed { attempt, how });
    }

    fn answer(&mut self, attempt: usize, words: &str) {
        self.close(attempt, Closed::Answered { words: words.to_owned(), last: true });
    }

    fn record(&mut self, uuid: &str, state: DeliveryState) {
        let (validator, uuid) = ("v0".to_owned(), uuid.to_owned());
        self.log(Event::Recorded { uuid, validator, state });
    }

    fn finish(&mut self, uuid: &str, state: SignalState) {
        self.log(Event::Finished { host: 0, uuid: uuid.to_owned(), state });
    }

    fn deliver(&mut self, uuid: &str) {
        let attempt = self.leave(uuid);
        self.arrive(uuid, Effect::Executed);
        self.answer(attempt, "");
        self.record(uuid, DeliveryState::Accepted);
        self.finish(uuid, SignalState::Processed);
    }

    /// The end of a signal that was not acknowledged.
    fn end_as(&mut self, uuid: &str, state: DeliveryState, message: &str) {
        let end = self.ledger.end.get_mut(uuid).unwrap();
        end.state = SignalState::Failed;
        let record = end.validators.get_mut("v0").unwrap();
        record.state = state;
        record.message = message.to_owned();
        self.record(uuid, state);
        self.finish(uuid, SignalState::Failed);
    }
}

/// Two orders, one after the other, both done.
fn clean() -> Book {
    let mut book = Book::new();
    book.accept("a", 1);
    book.accept("b", 2);
    book.deliver("a");
    book.deliver("b");
    book.log(Event::Healed);
    book
}

#[track_caller]
fn found(promise: u8, what: &str, book: &Book) {
    let violations = check(&book.ledger);
    let number = promise.to_string();
    assert!(
        violations.iter().any(|v| v.promise.starts_with(&number) && v.what.contains(what)),
        "{promise}: {what}: {violations:?}"
    );
}

#[track_caller]
fn nothing(book: &Book) {
    assert_eq!(check(&book.ledger), []);
}

#[test]
fn a_clean_history_is_clean() {
    nothing(&clean());
}

#[test]
fn what_was_acknowledged_and_is_gone() {
    let mut book = clean();
    book.accept("c", 3);
    book.ledger.end.remove("c");
    found(1, "not in the store", &book);
}

#[test]
fn another_order_under_the_same_id() {
    let mut book = clean();
    let content = "x".to_owned();
    book.log(Event::Acked { uuid: "a".to_owned(), content, seq: None });
    found(1, "two different orders", &book);
    let mut book = clean();
    book.ledger.end.get_mut("a").unwrap().content = "x".to_owned();
    found(1, "holds another order", &book);
    let mut book = clean();
    for (_, event) in &mut book.ledger.events {
        if let Event::Left { attempt: 0, content } = event {
            *content = "x".to_owned();
        }
    }
    found(1, "not what was acknowledged", &book);
}

#[test]
fn a_refusal_that_was_none() {
    let mut book = Book::new();
    book.accept("a", 1);
    book.deliver("a");
    for (_, event) in &mut book.ledger.events {
        if let Event::Acked { uuid, .. } = event {
            *event = Event::Refused { uuid: uuid.clone() };
        }
    }
    found(1, "nothing was stored", &book);
    let mut book = clean();
    book.log(Event::Conflict { uuid: "a".to_owned() });
    found(1, "taken for another", &book);
}

#[test]
fn what_never_ends() {
    let mut book = clean();
    book.ledger.end.get_mut("b").unwrap().state = SignalState::Pending;
    found(2, "not finished", &book);
    let mut book = clean();
    book.ledger.end.get_mut("b").unwrap().copies = 2;
    found(2, "listed 2 times", &book);
    let mut book = clean();
    book.finish("b", SignalState::Processed);
    found(2, "ended 2 times", &book);
}

#[test]
fn an_end_that_says_less_than_it_must() {
    let mut book = clean();
    book.ledger.end.get_mut("b").unwrap().validators.clear();
    found(2, "no record of v0", &book);
    found(2, "no record of it", &book);
    let mut book = clean();
    let end = book.ledger.end.get_mut("b").unwrap();
    end.validators.get_mut("v0").unwrap().state = DeliveryState::Submitted;
    found(2, "v0 is submitted", &book);
    let mut book = clean();
    book.ledger.end.get_mut("b").unwrap().state = SignalState::Failed;
    found(2, "contradict", &book);
    let mut book = clean();
    let end = book.ledger.end.get_mut("b").unwrap();
    end.validators.get_mut("v0").unwrap().required = false;
    found(2, "counts as a copy", &book);
}

#[test]
fn an_end_that_comes_too_early() {
    let mut book = Book::new();
    book.accept("a", 1);
    let attempt = book.leave("a");
    book.finish("a", SignalState::Processed);
    book.arrive("a", Effect::Executed);
    book.answer(attempt, "");
    found(2, "before v0 was done", &book);
}

#[test]
fn what_is_sent_after_its_cancellation() {
    let mut book = Book::new();
    book.accept("a", 1);
    book.log(Event::CancelAcked { uuid: "a".to_owned() });
    book.now += 2_000;
    book.deliver("a");
    found(2, "after it was cancelled", &book);
}

#[test]
fn two_effects() {
    let mut book = clean();
    book.arrive("a", Effect::Executed);
    found(3, "took effect 2 times", &book);
    let mut book = Book::new();
    book.accept("all", 1);
    book.accept("b", 2);
    book.arrive("all", Effect::Executed);
    book.arrive("all", Effect::Executed);
    let twice: Vec<_> =
        check(&book.ledger).into_iter().filter(|v| v.promise.starts_with('3')).collect();
    assert_eq!(twice, [], "closing twice in a row is closing once");
    book.arrive("b", Effect::Executed);
    book.arrive("all", Effect::Executed);
    found(3, "all: took effect", &book);
}

#[test]
fn what_is_sent_to_who_has_it() {
    let mut book = clean();
    let attempt = book.leave("b");
    book.arrive("b", Effect::Known);
    book.answer(attempt, "");
    found(3, "has acknowledged it", &book);
}

#[test]
fn what_overtakes() {
    let mut book = Book::new();
    book.accept("a", 1);
    book.accept("b", 2);
    book.deliver("b");
    book.deliver("a");
    found(4, "left for v0 after b", &book);
    found(4, "took effect at v0 after b", &book);
    let mut book = Book::new();
    book.accept("all", 1);
    book.accept("b", 2);
    book.deliver("b");
    book.deliver("all");
    found(4, "left for v0 after b", &book);
    let mut book = Book::new();
    book.accept("a", 2);
    book.accept("b", 1);
    book.deliver("b");
    book.deliver("a");
    found(4, "placed behind", &book);
}

#[test]
fn what_does_not_wait() {
    let mut book = Book::new();
    book.accept("a", 1);
    book.accept("b", 2);
    let (a, b) = (book.leave("a"), book.leave("b"));
    book.arrive("a", Effect::Executed);
    book.arrive("b", Effect::Executed);
    book.answer(a, "");
    book.answer(b, "");
    found(4, "while a was under way", &book);
}

#[test]
fn a_record_that_is_wrong() {
    let mut book = Book::new();
    book.accept("a", 1);
    let attempt = book.leave("a");
    book.arrive("a", Effect::Refused);
    book.answer(attempt, "no");
    book.record("a", DeliveryState::Accepted);
    book.finish("a", SignalState::Processed);
    found(5, "accepted and did nothing", &book);
    for state in [DeliveryState::Rejected, DeliveryState::Expired, DeliveryState::Cancelled] {
        let mut book = Book::new();
        book.accept("b", 1);
        let attempt = book.leave("b");
        book.arrive("b", Effect::Executed);
        book.close(attempt, Closed::Lost);
        book.end_as("b", state, "");
        found(5, "and did it", &book);
    }
}

#[test]
fn an_answer_that_is_misread() {
    let refused = |state, message: &str, last| {
        let mut book = Book::new();
        book.accept("a", 1);
        let attempt = book.leave("a");
        book.arrive("a", Effect::Refused);
        book.close(attempt, Closed::Answered { words: "too small".to_owned(), last });
        book.end_as("a", state, message);
        book
    };
    nothing(&refused(DeliveryState::Rejected, "they said: too small", true));
    found(5, "words of v0 are lost", &refused(DeliveryState::Rejected, "no", true));
    found(5, "every answer came back", &refused(DeliveryState::Unknown, "too small", true));
    found(5, "before its tries", &refused(DeliveryState::Rejected, "too small", false));
    // Another process that goes on with it does not know what was announced and not made.
    let mut book = refused(DeliveryState::Unknown, "too small", true);
    book.log(Event::TookOver { host: 1 });
    nothing(&book);
}

#[test]
fn what_is_too_old_and_what_is_not() {
    let late = |uuid: &str| {
        let mut book = Book::new();
        book.accept(uuid, 1);
        book.now += 20_000;
        book.deliver(uuid);
        book
    };
    found(6, "20", &late("a"));
    nothing(&late("b"));
    let expires = |uuid: &str, after: Ms| {
        let mut book = Book::new();
        book.accept(uuid, 1);
        book.now += after;
        book.end_as(uuid, DeliveryState::Expired, "");
        book
    };
    nothing(&expires("a", 20_000));
    found(6, "expired at v0 after", &expires("a", 100));
    found(6, "does not expire", &expires("b", 20_000));
}

#[test]
fn the_time_of_day_counts_across_runs_only() {
    let history = |restart: bool| {
        let mut book = Book::new();
        book.accept("a", 1);
        book.now += 6_000;
        book.log(Event::Step { by: 3_600_000 });
        if restart {
            book.log(Event::Ended { host: 0 });
            book.log(Event::Started { host: 0, wall: 3_600_000 });
            book.now += 10;
        }
        book.deliver("a");
        book
    };
    nothing(&history(false));
    found(6, "is sent to v0", &history(true));
}
