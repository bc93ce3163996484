//! How far this machine's clock is off, by the clocks of those who look at it: validators (the
//! `Date` of their answers) and the chain (the time of its newest block).
//!
//! One of them may be wrong or lie, so what counts is the middle of all; of two it is the one that
//! agrees with us. Whoever stands apart from the middle is named and raises no alarm. What a
//! validator refused because of it is judged in `ptn_core::deliver::verdict`.
//!
//! What must stay true: readings from before a step of our own clock count no more.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use ptn_core::chain::ChainClient;
use ptn_core::deliver::Engine;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

/// Validators of bittensor 11 refuse what was signed longer ago than this, by their clock,
const LATE_MS: i64 = 10_000;
/// and what comes from further ahead than this.
const EARLY_MS: i64 = 2_000;
/// A reading counts for this long.
const FRESH: Duration = Duration::from_secs(15 * 60);
/// The newest block is up to 12 s old, more on a node that lags: no more than this says nothing.
const OLD_BLOCK_MS: i64 = 60_000;
const TICK: Duration = Duration::from_secs(1);
const CHAIN_EVERY: Duration = Duration::from_secs(5 * 60);
const CHAIN_AGAIN: Duration = Duration::from_secs(30);
/// Our clock was set when it moved this much more or less than time did.
const STEP_MS: i64 = 500;
const CHAIN: &str = "the chain";

/// What to do about it.
const ADVICE: &str = "set this machine's clock and keep it set: `timedatectl set-ntp true` (systemd), or `chronyc makestep` (chrony)";

/// How it stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// Nobody has said anything yet.
    #[default]
    Unknown,
    /// Within half of what validators allow.
    Ok,
    /// Near the limit.
    Near,
    /// Beyond it: validators refuse us.
    Off,
}

/// What all readings together say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Judgement {
    pub(crate) state: State,
    /// Our clock minus theirs, in milliseconds.
    pub(crate) offset_ms: i64,
    /// Who was heard.
    pub(crate) peers: usize,
    /// Whose clock is beyond the limit, though the others' are not.
    pub(crate) apart: Vec<String>,
}

fn state(ahead_ms: i64) -> State {
    match ahead_ms {
        ms if !(-EARLY_MS..=LATE_MS).contains(&ms) => State::Off,
        ms if !(-EARLY_MS / 2..=LATE_MS / 2).contains(&ms) => State::Near,
        _ => State::Ok,
    }
}

/// Judges readings: who, and their clock minus ours in milliseconds.
pub(crate) fn judge<'a>(readings: impl IntoIterator<Item = (&'a str, i64)>) -> Judgement {
    let mut all: Vec<(&str, i64)> = readings.into_iter().collect();
    all.sort_by_key(|(_, ahead)| *ahead);
    let peers = all.len();
    let at = |i: usize| all.get(i).map_or(0, |(_, ahead)| *ahead);
    let (low, high) = (at(peers.saturating_sub(1) / 2), at(peers / 2));
    // Of two in the middle the one that says less.
    let middle = if low.abs() <= high.abs() { low } else { high };
    let overall = if peers == 0 { State::Unknown } else { state(middle) };
    let stands_apart = |(_, ahead): &&(&str, i64)| {
        state(*ahead) == State::Off && overall != State::Off
            || state(*ahead) != State::Off && overall == State::Off
    };
    let apart = all.iter().filter(stands_apart).map(|(who, _)| (*who).to_owned()).collect();
    Judgement { state: overall, offset_ms: -middle, peers, apart }
}

#[derive(Debug, Default)]
struct Gauges {
    offset: Gauge<f64, AtomicU64>,
    off: Gauge,
    peers: Gauge,
}

/// The watch over the clock.
#[derive(Debug, Default)]
pub(crate) struct ClockWatch {
    now: Mutex<Judgement>,
    chain: Mutex<Option<(Instant, i64)>>,
    gauges: Gauges,
}

/// Readings of validators, as they come in.
#[derive(Debug, Default)]
struct Readings {
    /// By hotkey: when the engine noted it (by its clock), when we saw it, and what it says.
    known: BTreeMap<String, (i64, Instant, i64)>,
    stepped: Option<Instant>,
}

impl ClockWatch {
    /// Watches until `stop`.
    pub(crate) async fn run(
        self: Arc<Self>,
        engine: Arc<Engine>,
        chain: Option<ChainClient>,
        stop: CancellationToken,
    ) {
        let follow = async { tokio::join!(self.follow(&engine), self.ask(chain)) };
        tokio::select! {
            () = stop.cancelled() => {}
            _ = follow => {}
        }
    }

    async fn follow(&self, engine: &Engine) {
        let mut readings = Readings::default();
        let mut said = Judgement::default();
        let mut before = (Instant::now(), wall_ms());
        loop {
            tokio::time::sleep(TICK).await;
            let now = (Instant::now(), wall_ms());
            let passed = i64::try_from((now.0 - before.0).as_millis()).unwrap_or(i64::MAX);
            let step = now.1.saturating_sub(before.1).saturating_sub(passed);
            before = now;
            if step.abs() > STEP_MS {
                tracing::warn!(by_ms = step, "this machine's clock was set");
                readings.stepped = Some(now.0);
            }
            for validator in engine.health() {
                if let (Some(at), Some(ahead)) = (validator.clock_at, validator.clock_ahead_ms) {
                    readings.note(validator.hotkey, at, ahead);
                }
            }
            let chain = *self.chain.lock().unwrap_or_else(PoisonError::into_inner);
            let judgement = judge(readings.fresh(chain));
            said = say(&said, &judgement);
            *self.now.lock().unwrap_or_else(PoisonError::into_inner) = judgement;
        }
    }

    /// Asks the chain for its time now and then.
    async fn ask(&self, chain: Option<ChainClient>) {
        let Some(chain) = chain else { return };
        loop {
            let read = match chain.newest_block().await {
                Ok((_, Some(time))) => of_block(time.saturating_sub(wall_ms())),
                _ => None,
            };
            let wait = if read.is_some() { CHAIN_EVERY } else { CHAIN_AGAIN };
            if let Some(ahead) = read {
                let reading = Some((Instant::now(), ahead));
                *self.chain.lock().unwrap_or_else(PoisonError::into_inner) = reading;
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// How it stands.
    pub(crate) fn judgement(&self) -> Judgement {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether validators refuse us because of it.
    pub(crate) fn is_off(&self) -> bool {
        self.judgement().state == State::Off
    }

    /// For `/health`.
    pub(crate) fn health(&self) -> serde_json::Value {
        let judgement = self.judgement();
        let mut shown = serde_json::json!(judgement);
        if let serde_json::Value::Object(members) = &mut shown {
            members.insert("limits_ms".to_owned(), serde_json::json!([-LATE_MS, EARLY_MS]));
            if matches!(judgement.state, State::Near | State::Off) {
                members.insert("do".to_owned(), ADVICE.into());
            }
        }
        shown
    }

    /// Adds its metrics.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let g = &self.gauges;
        let (offset, off, peers) = (g.offset.clone(), g.off.clone(), g.peers.clone());
        registry.register(
            "ptn_clock_offset_seconds",
            "This machine's clock minus the others' (validators and the chain), by the middle one",
            offset,
        );
        registry.register(
            "ptn_clock_off",
            "1 while it is so far off that validators refuse what is signed here",
            off,
        );
        registry.register("ptn_clock_peers", "Whose clocks are known", peers);
    }

    /// Sets them.
    pub(crate) fn set_metrics(&self) {
        let now = self.judgement();
        let seconds = Duration::from_millis(now.offset_ms.unsigned_abs()).as_secs_f64();
        self.gauges.offset.set(if now.offset_ms < 0 { -seconds } else { seconds });
        self.gauges.off.set(i64::from(now.state == State::Off));
        self.gauges.peers.set(i64::try_from(now.peers).unwrap_or(i64::MAX));
    }
}

impl Readings {
    fn note(&mut self, who: String, at: i64, ahead: i64) {
        match self.known.get(&who) {
            Some((known, ..)) if *known == at => {}
            _ => {
                self.known.insert(who, (at, Instant::now(), ahead));
            }
        }
    }

    fn fresh(&self, chain: Option<(Instant, i64)>) -> impl Iterator<Item = (&str, i64)> {
        let counts = move |seen: Instant| {
            seen.elapsed() < FRESH && self.stepped.is_none_or(|stepped| seen > stepped)
        };
        let validators =
            self.known.iter().map(|(who, (_, seen, ahead))| (who.as_str(), *seen, *ahead));
        let chain = chain.into_iter().map(|(seen, ahead)| (CHAIN, seen, ahead));
        validators
            .chain(chain)
            .filter(move |(_, seen, _)| counts(*seen))
            .map(|(who, _, ahead)| (who, ahead))
    }
}

/// What the time of the newest block says: a block from the future is certain, one from the past is
/// as it should be, or says nothing when it is old.
fn of_block(ahead_ms: i64) -> Option<i64> {
    match ahead_ms {
        ms if ms > 0 => Some(ms),
        ms if ms >= -OLD_BLOCK_MS => Some(0),
        _ => None,
    }
}

/// Logs what changed; returns what is known to be said.
fn say(said: &Judgement, now: &Judgement) -> Judgement {
    for who in now.apart.iter().filter(|who| !said.apart.contains(who)) {
        tracing::warn!(
            peer = who,
            "the clock of this peer is far from the others' and from ours; ours is left alone"
        );
    }
    if now.state != said.state {
        let (off, peers) = (now.offset_ms, now.peers);
        let way = if off < 0 { "behind" } else { "ahead" };
        let seconds = Duration::from_millis(off.unsigned_abs()).as_secs_f64();
        match now.state {
            State::Off => tracing::error!(
                offset_ms = off,
                peers,
                "this machine's clock is {seconds:.0} s {way}: validators refuse what is more than \
                 {} s late or {} s early; {ADVICE}",
                LATE_MS / 1000,
                EARLY_MS / 1000
            ),
            State::Near => tracing::warn!(
                offset_ms = off,
                peers,
                "this machine's clock is {seconds:.0} s {way}, and validators allow {} s late and \
                 {} s early; {ADVICE}",
                LATE_MS / 1000,
                EARLY_MS / 1000
            ),
            State::Ok if matches!(said.state, State::Near | State::Off) => {
                tracing::info!(
                    offset_ms = off,
                    peers,
                    "this machine's clock agrees with the others'"
                );
            }
            State::Ok | State::Unknown => {}
        }
    }
    now.clone()
}

fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_decides_and_who_stands_apart_is_named() {
        let of = |list: &[i64]| {
            let names = ["a", "b", "c", "d", "e"];
            judge(names.into_iter().zip(list.iter().copied()))
        };
        assert_eq!(of(&[]).state, State::Unknown);
        for (list, state, offset, apart) in [
            (&[0][..], State::Ok, 0, &[][..]),
            (&[20_000], State::Off, -20_000, &[]),
            (&[10_000], State::Near, -10_000, &[]),
            (&[10_001], State::Off, -10_001, &[]),
            (&[-2_000], State::Near, 2_000, &[]),
            (&[-2_001], State::Off, 2_001, &[]),
            (&[20_000, 0], State::Ok, 0, &["a"]),
            (&[0, -20_000, 0], State::Ok, 0, &["b"]),
            (&[20_000, 20_500, 0], State::Off, -20_000, &["c"]),
            (&[20_000, 20_000, 0, 0], State::Ok, 0, &["a", "b"]),
            (&[30_000, 20_000, 20_000, 20_000, -50_000], State::Off, -20_000, &[]),
        ] {
            let judged = of(list);
            assert_eq!((judged.state, judged.offset_ms), (state, offset), "{list:?}");
            assert_eq!(judged.apart, apart, "{list:?}");
            assert_eq!(judged.peers, list.len());
        }
    }

    #[test]
    fn a_block_is_certain_only_about_a_clock_that_is_behind() {
        assert_eq!(of_block(20_000), Some(20_000));
        assert_eq!(of_block(-12_000), Some(0));
        assert_eq!(of_block(-3_600_000), None, "the node may be behind");
    }

    #[test]
    fn readings_from_before_a_step_count_no_more() {
        let mut readings = Readings::default();
        readings.note("a".to_owned(), 1, 20_000);
        let chain = Some((Instant::now(), 0));
        assert_eq!(readings.fresh(chain).count(), 2);
        readings.stepped = Some(Instant::now());
        assert_eq!(readings.fresh(chain).count(), 0);
        readings.note("a".to_owned(), 1, 20_000);
        assert_eq!(readings.fresh(chain).count(), 0, "the same one again");
        readings.note("a".to_owned(), 2, 0);
        assert_eq!(readings.fresh(chain).collect::<Vec<_>>(), [("a", 0)]);
    }
}
