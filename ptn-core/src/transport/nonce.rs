//! Nonces: the time in nanoseconds, never the same twice in this process.
//!
//! A validator refuses a nonce that it has seen (btauth) or that does not rise (axons). So nonces
//! rise strictly over all transports of the process, whatever the number of threads. A clock that
//! is set back a little is outlasted by counting on from the last nonce; one that is set back by
//! more is followed at once, because a nonce more than two seconds ahead of the validator's clock
//! is refused as well. Across restarts nothing is kept: btauth looks back one minute at the exact
//! value only, and for axons every request has a uuid of its own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The most that nonces may run ahead of the clock; validators allow two seconds.
const MAX_AHEAD_NS: u64 = 1_000_000_000;

static LAST: AtomicU64 = AtomicU64::new(0);

/// The next nonce.
pub fn next() -> u64 {
    let now = now_ns();
    let previous =
        LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(after(last, now)));
    // The closure always gives a value, so the update cannot fail.
    after(previous.unwrap_or_default(), now)
}

/// Unix time in nanoseconds.
pub fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn after(last: u64, now: u64) -> u64 {
    if last >= now && last - now <= MAX_AHEAD_NS { last + 1 } else { now }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonces_rise_and_follow_the_clock() {
        assert_eq!(after(0, 5), 5);
        assert_eq!(after(5, 5), 6);
        assert_eq!(after(MAX_AHEAD_NS + 5, 5), MAX_AHEAD_NS + 6);
        assert_eq!(after(MAX_AHEAD_NS + 6, 5), 5, "a clock that was set back is followed");
        let mut last = 0;
        for _ in 0..10_000 {
            let nonce = next();
            assert!(nonce > last);
            last = nonce;
        }
    }

    #[test]
    fn threads_never_share_a_nonce() {
        let threads: Vec<_> = (0..4)
            .map(|_| std::thread::spawn(|| (0..5_000).map(|_| next()).collect::<Vec<_>>()))
            .collect();
        let mut all: Vec<u64> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
