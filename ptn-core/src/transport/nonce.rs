//! Nonces: the time in nanoseconds, rising strictly over threads, restarts and clock steps.
//!
//! A validator refuses a nonce that it has seen (btauth) or that does not rise (axons), so the next
//! one is always above the last, over all transports of the process and, once [`keep`] has named a
//! file, over all runs; miners that share a database hand it on with [`ahead_of`] and [`raise`]. A
//! clock that was set back is outlasted by counting on.
//!
//! Counting on must end where it locks us out: btauth refuses what is more than two seconds ahead
//! of the validator's clock, so after a clock that ran two hours fast was put right every order
//! would be refused for two hours. A transport whose nonce was [`ahead`] of our own clock and was
//! refused calls [`follow_clock`] and signs again: nobody has accepted the nonces that are given up.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nonces that run further ahead of the clock than this may be refused; validators allow two
/// seconds.
const MAX_AHEAD_NS: u64 = 1_000_000_000;
/// The file is ahead of the last nonce by up to this, so that not every nonce is written down.
const RESERVE_NS: u64 = 200_000_000;
/// A file holds one number, padded so that a new one covers the old one whole.
const DIGITS: usize = 20;

static STATE: Mutex<State> = Mutex::new(State { last: 0, kept: 0, file: None });

struct State {
    last: u64,
    /// What the file says: no nonce above it was given out.
    kept: u64,
    file: Option<File>,
}

/// The next nonce.
pub fn next() -> u64 {
    with(|state| state.next(now_ns()))
}

/// Continues above the nonces of earlier runs, and keeps the last one in this file from now on.
/// A file that cannot be understood counts as none.
///
/// # Errors
/// When the file cannot be opened.
pub fn keep(path: &Path) -> io::Result<()> {
    with(|state| state.keep(path))
}

/// No nonce above this is given out within `time`, for whoever continues elsewhere.
pub fn ahead_of(time: Duration) -> u64 {
    let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    with(|state| match (state.last, ns) {
        (last, 0) => last,
        (last, ns) => last.max(now_ns()).saturating_add(ns),
    })
}

/// Continues above the nonces of another machine.
pub fn raise(floor: u64) {
    with(|state| state.last = state.last.max(floor));
}

/// Whether this nonce is so far ahead of our own clock that validators may refuse it.
pub fn ahead(nonce: u64) -> bool {
    nonce > now_ns().saturating_add(MAX_AHEAD_NS)
}

/// Gives up nonces that were ahead of our own clock.
pub fn follow_clock() {
    with(|state| state.follow(now_ns()));
}

/// Unix time in nanoseconds.
pub fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn with<T>(work: impl FnOnce(&mut State) -> T) -> T {
    work(&mut STATE.lock().unwrap_or_else(PoisonError::into_inner))
}

impl State {
    fn keep(&mut self, path: &Path) -> io::Result<()> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path)?;
        let mut text = String::new();
        // Anything may stand there; only digits are a number of ours.
        (&mut file).take(64).read_to_string(&mut text).unwrap_or_default();
        self.kept = text.trim().parse().unwrap_or(0);
        self.last = self.last.max(self.kept);
        self.file = Some(file);
        Ok(())
    }

    fn next(&mut self, now: u64) -> u64 {
        self.last = now.max(self.last.saturating_add(1));
        if self.file.is_some() && self.last > self.kept {
            self.write(self.last.saturating_add(RESERVE_NS));
        }
        self.last
    }

    fn follow(&mut self, now: u64) {
        if self.last > now.saturating_add(MAX_AHEAD_NS) {
            tracing::warn!(
                seconds = (self.last - now) / 1_000_000_000,
                "nonces were ahead of this machine's clock, which was set back, and were refused; they follow the clock again"
            );
            self.last = now;
            self.write(now.saturating_add(RESERVE_NS));
        }
    }

    /// One write in place: whole after `kill -9`, and after a power cut time has passed anyway.
    fn write(&mut self, kept: u64) {
        self.kept = kept;
        let text = format!("{kept:0DIGITS$}");
        if let Some(file) = &mut self.file
            && let Err(error) = file.rewind().and_then(|()| file.write_all(text.as_bytes()))
        {
            tracing::warn!(%error, "the last nonce cannot be kept for the next run");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn state(last: u64) -> State {
        State { last, kept: 0, file: None }
    }

    #[test]
    fn nonces_rise_whatever_the_clock_does() {
        let mut state = state(0);
        assert_eq!(state.next(5), 5);
        assert_eq!(state.next(5), 6);
        assert_eq!(state.next(7_200 * SECOND), 7_200 * SECOND);
        assert_eq!(state.next(100), 7_200 * SECOND + 1, "a clock that was set back");
    }

    #[test]
    fn refused_nonces_that_ran_ahead_are_given_up() {
        let mut state = state(7_200 * SECOND);
        state.follow(100 * SECOND);
        assert_eq!(state.next(100 * SECOND), 100 * SECOND + 1);
        state.last = 100 * SECOND + MAX_AHEAD_NS;
        state.follow(100 * SECOND);
        assert_eq!(state.next(100 * SECOND), 101 * SECOND + 1, "within the validators' tolerance");
    }

    #[test]
    fn a_run_continues_above_the_one_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nonce");
        let mut last = 0;
        // Each is a run of its own; the clock is set back before the third.
        for clock in [10 * SECOND, 20 * SECOND, 3 * SECOND, 3 * SECOND + 1] {
            let mut run = state(0);
            run.keep(&path).unwrap();
            for step in 0..3 {
                let nonce = run.next(clock + step * RESERVE_NS);
                assert!(nonce > last, "{nonce} after {last}");
                last = nonce;
                let kept: u64 = std::fs::read_to_string(&path).unwrap().parse().unwrap();
                assert!(kept >= nonce && kept <= nonce + RESERVE_NS, "{kept} for {nonce}");
            }
        }
        for damaged in ["", "nonsense", "-1", "99999999999999999999999"] {
            std::fs::write(&path, damaged).unwrap();
            let mut run = state(0);
            run.keep(&path).unwrap();
            assert_eq!(run.next(7 * SECOND), 7 * SECOND, "{damaged:?}");
        }
        assert!(state(0).keep(dir.path()).is_err());
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
