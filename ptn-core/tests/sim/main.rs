//! A deterministic simulation of the delivery engine. See `docs/reliability.md`.
//!
//! One seed is one world: network, disk, clocks, crashes, all on one thread, and the same every
//! time. `PTN_SIM_SEED=n` runs exactly one and prints what happened; `PTN_SIM_SEEDS=n` runs so many.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests"
)]

mod check;
mod desk;
mod disk;
mod front;
mod host;
mod ledger;
mod net;
mod plan;
mod rng;
mod run;
mod shared;
mod world;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use ptn_core::store::{FsStore, SignalStore as _};

/// How many seeds an ordinary run has.
const SEEDS: u64 = 1_000;
/// After so many failures the rest is not looked at.
const ENOUGH: usize = 5;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number and is {text:?}")))
}

/// A folder in memory where there is one: nothing in it need last.
fn folder() -> tempfile::TempDir {
    let memory = PathBuf::from("/dev/shm");
    let place = if memory.is_dir() { memory } else { std::env::temp_dir() };
    tempfile::tempdir_in(place).unwrap()
}

fn command(seed: u64) -> String {
    format!("PTN_SIM_SEED={seed} cargo test --workspace --test sim -- --nocapture promises")
}

fn replay(seed: u64) -> String {
    let dir = folder();
    let outcome = run::run(seed, dir.path(), true);
    let found: Vec<String> =
        outcome.violations.iter().map(|v| format!("promise {}: {}\n", v.promise, v.what)).collect();
    let text =
        format!("{}{}seed {seed}: {} violations\n", outcome.trace, found.concat(), found.len());
    // The folder's name is the only thing that differs from run to run.
    text.replace(&*dir.path().to_string_lossy(), "")
}

#[test]
fn every_seed_keeps_the_promises() {
    if let Some(seed) = number("PTN_SIM_SEED") {
        let text = replay(seed);
        println!("{text}");
        assert!(text.ends_with(": 0 violations\n"), "seed {seed} breaks a promise; see above");
        return;
    }
    let (first, n) =
        (number("PTN_SIM_FROM").unwrap_or(0), number("PTN_SIM_SEEDS").unwrap_or(SEEDS));
    let next = AtomicU64::new(first);
    let failed = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let began = std::time::Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let dir = folder();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let enough =
                        failed.lock().unwrap_or_else(PoisonError::into_inner).len() >= ENOUGH;
                    if seed >= first + n || enough {
                        break;
                    }
                    let outcome = run::run(seed, dir.path(), false);
                    if let Some(first) = outcome.violations.first() {
                        let line = format!("promise {}: {}", first.promise, first.what);
                        failed.lock().unwrap_or_else(PoisonError::into_inner).push((seed, line));
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.sort();
    println!("{n} seeds from {first}, {} broken, in {:?}", failed.len(), began.elapsed());
    if let Some((seed, _)) = failed.first() {
        println!("{}", replay(*seed));
        for (seed, line) in &failed {
            println!("seed {seed}: {line}\n    {}", command(*seed));
        }
        panic!("{} seeds break a promise; the trace of the first is above", failed.len());
    }
}

#[test]
fn the_same_seed_is_the_same_world() {
    for seed in 0..12 {
        let [one, two] = [replay(seed), replay(seed)];
        if one != two {
            let (line, (a, b)) =
                one.lines().zip(two.lines()).enumerate().find(|(_, (a, b))| a != b).unwrap();
            panic!("seed {seed}, line {line}:\n{a}\n{b}");
        }
        assert!(one.lines().count() > 20, "seed {seed}: hardly anything happened");
    }
}

/// A process wrote a record and was killed before its sync; the next one finds it and answers a
/// repetition. Then the power goes.
#[test]
fn what_a_dead_process_did_not_sync_is_synced_before_it_counts() {
    let plan = plan::Plan::new(0);
    let signal = &plan.last_orders()[0].1;
    for seed in 0..16 {
        let dir = folder();
        let root = dir.path().join("mining");
        let world = world::World::new(rng::Rng::new(seed), ledger::Ledger::default(), false);
        let disk = Arc::new(disk::SimDisk::new(world, root.clone()));
        let open = || {
            disk.begin(Arc::default());
            let disk = Arc::clone(&disk) as _;
            FsStore::open_by_hand(&root, host::fs_options(&plan), disk).unwrap()
        };
        let accept = |dies: Option<u64>| {
            let (store, mut hand) = open();
            host::runtime().block_on(async {
                let mut accept = std::pin::pin!(store.accept(signal));
                let mut queue = std::task::Context::from_waker(std::task::Waker::noop());
                assert!(accept.as_mut().poll(&mut queue).is_pending());
                disk.die_after(dies);
                hand.write();
                accept.await.is_ok()
            })
        };
        // The write, then death in the sync.
        accept(Some(2));
        assert!(accept(None), "seed {seed}: refused");
        disk.power_cut();
        let (store, _hand) = open();
        let found = host::runtime().block_on(store.get(signal.id())).unwrap();
        assert!(found.is_some(), "seed {seed}: acknowledged and gone");
    }
}
