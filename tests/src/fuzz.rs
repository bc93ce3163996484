//! One function per parser of outside bytes: it takes any bytes and panics where a promise is broken.
//!
//! `fuzz/` wraps each of them for libFuzzer (which needs a nightly compiler); the suite `corpus` runs
//! them on the committed corpus and on random changes of it with the usual compiler. A promise is more
//! than "does not panic": what was read can be written and read again, what is refused is refused in a
//! bounded text, and no answer is larger or slower than what it answers.
//!
//! The first byte of an input chooses among related parsers; what stands behind it is in each module.

mod chain;
mod keys;
mod replies;
mod requests;
mod settings;
mod signals;
mod spool;
mod webhook;

use std::sync::{Arc, OnceLock};

use ptn_core::rules::{Era, Rules};

pub use chain::{chain, chain_seeds};
pub use keys::keys;
pub use replies::replies;
pub use requests::{request_seeds, requests, signed_request};
pub use settings::settings;
pub use signals::{check_signal, signals};
pub use spool::{sealed_line, spool};
pub use webhook::{KEY, webhook};

/// A target: its name, and the function.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 8] = [
    ("signals", signals),
    ("webhook", webhook),
    ("spool", spool),
    ("requests", requests),
    ("replies", replies),
    ("chain", chain),
    ("keys", keys),
    ("settings", settings),
];

/// An error text longer than this tells nobody anything.
const LONGEST_ERROR: usize = 4096;

const ERAS: [Era; 3] = [Era::Y2024, Era::Y2025, Era::Y2026];

fn rules(era: Era) -> &'static Arc<Rules> {
    static RULES: OnceLock<Vec<Arc<Rules>>> = OnceLock::new();
    let all = RULES
        .get_or_init(|| ERAS.map(|era| Arc::new(Rules::load(era).expect("built-in rules"))).into());
    all.iter().find(|rules| rules.era == era).expect("every era")
}

/// An error that people read: not endless, and nothing in it that a terminal would obey.
#[track_caller]
fn readable(error: &dyn std::fmt::Display) {
    let text = error.to_string();
    assert!(!text.is_empty() && text.len() <= LONGEST_ERROR, "{} bytes", text.len());
    let obeyed = text.chars().find(|c| c.is_control() && *c != '\n');
    assert_eq!(obeyed, None, "{text:?}");
}

/// A runtime of one thread, made once.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
    }
    RUNTIME.with(|runtime| runtime.block_on(work))
}
