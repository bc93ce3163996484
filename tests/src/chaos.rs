//! Real processes under load while they are killed and their disk fails, and the books by which
//! that is judged. What is done to whom is in the suite `campaign`.
//!
//! * [`faults`]: kills a process at a named call, lets calls fail, or makes them slow.
//! * [`steps`]: every step of accept, claim, send, record and finish, bound to such a call.
//! * [`ledger`]: what the validators received, and what took effect.
//! * [`load`]: senders that repeat an order until it is acknowledged.
//! * [`world`]: the processes, started and restarted.
//! * [`table`]: what came of it.
//! * [`mounts`]: file systems of one test.

pub mod faults;
pub mod ledger;
pub mod load;
pub mod mounts;
pub mod steps;
pub mod table;
pub mod world;

use std::time::Duration;

/// After this long without progress something hangs. Nothing is measured by it.
pub const HANG: Duration = Duration::from_secs(60);

/// A small generator, so that a printed seed repeats the choices of a run.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// From `PTN_CAMPAIGN_SEED`, or from the clock; says which.
    pub fn new(what: &str) -> Self {
        let seed = std::env::var("PTN_CAMPAIGN_SEED").ok().and_then(|s| s.parse().ok());
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let seed = seed.unwrap_or(now.subsec_nanos().into());
        say(&format!("{what}: PTN_CAMPAIGN_SEED={seed}"));
        Self(seed)
    }

    /// A number from 0 to `end` - 1.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// A number from the environment: how long a campaign is.
pub fn from_env(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name}={text}: a number is expected"))
    })
}

/// Tells whoever watches the test.
#[allow(clippy::print_stderr, reason = "a long run says how far it is")]
pub fn say(text: &str) {
    eprintln!("{text}");
}
