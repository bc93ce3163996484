//! Every step of accepting, claiming, sending, recording and finishing a signal, each bound to the
//! call at which a process is killed there.
//!
//! A step is hit exactly: the library of [`super::faults`] writes its name down before the process
//! dies, and a campaign counts only what was written down.

use super::faults::{Action, Fault, When};
use super::world::{Shape, Store, Who};

/// Where a process dies.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// Its name in tables.
    pub name: &'static str,
    /// Which process.
    pub who: Who,
    /// From which moment on the call is waited for.
    pub from: Since,
    call: &'static str,
    path: &'static str,
    text: &'static str,
    when: When,
    only: Only,
}

/// From which moment on a step is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// Once it works.
    Work,
    /// From its start on: the step is part of recovering.
    Start,
    /// From a start on after a kill in the middle of a record.
    TornStart,
    /// From a start on with a journal so long that it is written anew.
    LongStart,
    /// Once it works, and then no orders come in for a moment.
    Quiet,
}

/// In which worlds the call is this step and no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Only {
    All,
    Apart,
    OneProcess,
}

use Only::{All, Apart, OneProcess};
use Since::{LongStart, Quiet, Start, TornStart, Work};
use When::{After, Before, Half};
use Who::{Deliverer, Receiver};

const JOURNAL: &str = "/journal.log$";
const TMP: &str = "/.ptn/tmp/";
const ACCEPT: &str = r#""kind":"accept""#;
const TARGETS: &str = r#""kind":"targets""#;
const BEGIN: &str = r#""kind":"begin""#;
const OUTCOME: &str = r#""kind":"outcome""#;
const FINISH: &str = r#""kind":"finish""#;
const HEAD: &str = r#""kind":"journal""#;
const ASKED: &str = "POST /api/receive-signal";
const ANSWERED: &str = "HTTP/1.1 200";
const REQUEST: &str = "/SendSignal HTTP";
const REPLY: &str = "successfully_processed";

const ACCEPTED: &str = r#""event":"accepted""#;
const FINISHED: &str = r#""event":"finished""#;
const TENURE: &str = "UPDATE ptn_tenure SET token";

type Row = (&'static str, Who, &'static str, &'static str, &'static str, When, Since, Only);

/// The steps, in the order of a signal's life.
#[rustfmt::skip]
const ROWS: &[Row] = &[
    ("accept: request read, nothing decided", Receiver, "recv", "socket:", ASKED, After, Work, All),
    ("accept: journal locked", Receiver, "lock", "/journal.lock$", "", After, Work, Apart),
    ("accept: record about to be written", Receiver, "write", JOURNAL, ACCEPT, Before, Work, All),
    ("accept: half of the record written", Receiver, "write", JOURNAL, ACCEPT, Half, Work, All),
    ("accept: record written, not synced", Receiver, "write", JOURNAL, ACCEPT, After, Work, All),
    ("accept: record synced, not answered", Receiver, "sync", JOURNAL, ACCEPT, After, Work, All),
    ("accept: half of the answer sent", Receiver, "send", "socket:", ANSWERED, Half, Work, All),
    ("accept: answered", Receiver, "send", "socket:", ANSWERED, After, Work, All),
    ("accept: file for received_signals written", Receiver, "write", TMP, "", After, Work, Apart),
    ("accept: file in received_signals", Receiver, "link", "/received_signals/", "", After, Work, Apart),
    ("claim: record of another process read", Deliverer, "read", JOURNAL, ACCEPT, After, Work, Apart),
    ("claim: targets decided, not written", Deliverer, "write", JOURNAL, TARGETS, Before, Work, All),
    ("claim: half of the targets written", Deliverer, "write", JOURNAL, TARGETS, Half, Work, All),
    ("claim: targets written, not synced", Deliverer, "write", JOURNAL, TARGETS, After, Work, All),
    ("claim: targets synced", Deliverer, "sync", JOURNAL, TARGETS, After, Work, All),
    ("send: attempt not announced yet", Deliverer, "write", JOURNAL, BEGIN, Before, Work, All),
    ("send: attempt announced, not synced", Deliverer, "write", JOURNAL, BEGIN, After, Work, All),
    ("send: attempt announced and synced", Deliverer, "sync", JOURNAL, BEGIN, After, Work, All),
    ("send: connecting", Deliverer, "connect", "socket:", "", After, Start, All),
    ("send: no byte of the order sent", Deliverer, "send", "socket:", REQUEST, Before, Work, All),
    ("send: half of the order sent", Deliverer, "send", "socket:", REQUEST, Half, Work, All),
    ("send: order sent, no answer yet", Deliverer, "send", "socket:", REQUEST, After, Work, All),
    ("send: answer read", Deliverer, "recv", "socket:", REPLY, After, Work, All),
    ("record: outcome known, not written", Deliverer, "write", JOURNAL, OUTCOME, Before, Work, All),
    ("record: half of the outcome written", Deliverer, "write", JOURNAL, OUTCOME, Half, Work, All),
    ("record: outcome written, not synced", Deliverer, "write", JOURNAL, OUTCOME, After, Work, All),
    ("record: outcome synced", Deliverer, "sync", JOURNAL, OUTCOME, After, Work, All),
    ("finish: end decided, not written", Deliverer, "write", JOURNAL, FINISH, Before, Work, All),
    ("finish: half of the end written", Deliverer, "write", JOURNAL, FINISH, Half, Work, All),
    ("finish: end written, not synced", Deliverer, "write", JOURNAL, FINISH, After, Work, All),
    ("finish: end synced", Deliverer, "sync", JOURNAL, FINISH, After, Work, All),
    ("finish: half of the file written", Deliverer, "write", TMP, "created_orders", Half, Work, All),
    ("finish: file written, without its name", Deliverer, "write", TMP, "created_orders", After, Work, All),
    ("finish: file in processed_signals", Deliverer, "rename", "/processed_signals/", "", After, Work, All),
    ("finish: received file about to go", Deliverer, "unlink", "/received_signals/", "", Before, Work, Apart),
    ("finish: received file gone", Deliverer, "unlink", "/received_signals/", "", After, Work, Apart),
    ("finish: file synced", Deliverer, "sync", "/processed_signals/", "", After, Quiet, All),
    ("finish: folder synced", Deliverer, "sync", "/processed_signals$", "", After, Quiet, All),
    ("finish: new journal synced, without its name", Deliverer, "sync", TMP, HEAD, After, LongStart, All),
    ("finish: new journal in place, not yet for good", Deliverer, "rename", JOURNAL, "", After, LongStart, All),
    ("finish: new journal in place for good", Deliverer, "sync", "/.ptn/journal$", "", After, LongStart, All),
    ("start: folder locked", Deliverer, "write", "/.ptn/lock$", "", After, Start, All),
    ("start: journal read", Deliverer, "read", JOURNAL, "", After, Start, All),
    ("start: torn record about to be cut off", Deliverer, "truncate", JOURNAL, "", Before, TornStart, OneProcess),
    ("start: torn record cut off", Deliverer, "truncate", JOURNAL, "", After, TornStart, OneProcess),
];

/// The same on PostgreSQL, where a statement is a step: not sent, half sent, sent, and committed.
#[rustfmt::skip]
const ON_POSTGRES: &[Row] = &[
    ("accept: request read, nothing decided", Receiver, "recv", "socket:", ASKED, After, Work, All),
    ("accept: insert not sent", Receiver, "send", "socket:", ACCEPTED, Before, Work, All),
    ("accept: half of the insert sent", Receiver, "send", "socket:", ACCEPTED, Half, Work, All),
    ("accept: insert sent, commit not heard of", Receiver, "send", "socket:", ACCEPTED, After, Work, All),
    ("accept: committed, not answered", Receiver, "reply", "socket:", ACCEPTED, After, Work, All),
    ("accept: half of the answer sent", Receiver, "send", "socket:", ANSWERED, Half, Work, All),
    ("accept: answered", Receiver, "send", "socket:", ANSWERED, After, Work, All),
    ("claim: order of another process heard of", Deliverer, "recv", "socket:", ACCEPTED, After, Work, Apart),
    ("claim: targets decided, not sent", Deliverer, "send", "socket:", TARGETS, Before, Work, All),
    ("claim: half of the targets sent", Deliverer, "send", "socket:", TARGETS, Half, Work, All),
    ("claim: targets sent, commit not heard of", Deliverer, "send", "socket:", TARGETS, After, Work, All),
    ("claim: targets committed", Deliverer, "reply", "socket:", TARGETS, After, Work, All),
    ("send: attempt not announced yet", Deliverer, "send", "socket:", BEGIN, Before, Work, All),
    ("send: attempt announced, commit not heard of", Deliverer, "send", "socket:", BEGIN, After, Work, All),
    ("send: attempt announced and committed", Deliverer, "reply", "socket:", BEGIN, After, Work, All),
    ("send: no byte of the order sent", Deliverer, "send", "socket:", REQUEST, Before, Work, All),
    ("send: half of the order sent", Deliverer, "send", "socket:", REQUEST, Half, Work, All),
    ("send: order sent, no answer yet", Deliverer, "send", "socket:", REQUEST, After, Work, All),
    ("send: answer read", Deliverer, "recv", "socket:", REPLY, After, Work, All),
    ("record: outcome known, not sent", Deliverer, "send", "socket:", OUTCOME, Before, Work, All),
    ("record: half of the outcome sent", Deliverer, "send", "socket:", OUTCOME, Half, Work, All),
    ("record: outcome sent, commit not heard of", Deliverer, "send", "socket:", OUTCOME, After, Work, All),
    ("record: outcome committed", Deliverer, "reply", "socket:", OUTCOME, After, Work, All),
    ("finish: end decided, not sent", Deliverer, "send", "socket:", FINISHED, Before, Work, All),
    ("finish: half of the end sent", Deliverer, "send", "socket:", FINISHED, Half, Work, All),
    ("finish: end sent, commit not heard of", Deliverer, "send", "socket:", FINISHED, After, Work, All),
    ("finish: end committed", Deliverer, "reply", "socket:", FINISHED, After, Work, All),
    ("start: tenure asked for", Deliverer, "send", "socket:", TENURE, After, Start, All),
    ("start: tenure taken", Deliverer, "reply", "socket:", TENURE, After, Start, All),
];

fn rows(store: Store) -> &'static [Row] {
    match store {
        Store::Spool => ROWS,
        Store::Postgres => ON_POSTGRES,
    }
}

/// The steps that a world of this shape has.
pub fn steps(shape: Shape) -> Vec<Step> {
    let fits = |only: Only| match only {
        All => true,
        Apart => shape.apart,
        OneProcess => !shape.apart,
    };
    rows(shape.store)
        .iter()
        .map(|&(name, who, call, path, text, when, from, only)| Step {
            name,
            who,
            from,
            call,
            path,
            text,
            when,
            only,
        })
        .filter(|step| fits(step.only))
        .collect()
}

/// The names of all steps on this store.
pub fn names(store: Store) -> Vec<&'static str> {
    rows(store).iter().map(|row| row.0).collect()
}

impl Step {
    /// The kill at this step, at the `nth` time that it is reached.
    pub fn kill(&self, nth: u64) -> Fault {
        Fault {
            label: self.name.to_owned(),
            call: self.call,
            path: self.path.to_owned(),
            text: self.text.to_owned(),
            when: self.when,
            nth,
            times: 0,
            action: Action::Kill,
        }
    }

    /// How it is hit, in a few words.
    pub fn how(&self) -> String {
        let when = match self.when {
            Before => "before",
            Half => "halfway in",
            After => "after",
        };
        format!("{when} `{}`", self.call)
    }
}

/// The record in whose middle a process dies so that the next start finds it torn.
pub fn tear(nth: u64) -> Fault {
    let mut fault = Fault::new("write", JOURNAL, Action::Kill);
    fault.label = "torn".to_owned();
    fault.text = OUTCOME.to_owned();
    fault.when = Half;
    fault.nth = nth;
    fault
}
