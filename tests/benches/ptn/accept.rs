//! `FsStore::accept`: how much it adds to what the disk needs, alone and in a crowd.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ptn_core::rules::{Era, Rules};
use ptn_core::signal::Signal;
use ptn_core::store::fs::{FsOptions, FsStore};
use ptn_core::store::{Accepted, SignalStore as _};

use crate::limits::Limits;
use crate::stats::Times;
use crate::table::{Against, Goal, Measure, Table};
use crate::{block_on, load};

const ALONE: usize = 500;
const CALLERS: usize = 64;
const CROWD: Duration = Duration::from_secs(2);

pub(crate) fn run(limits: &Limits, table: &mut Table) {
    block_on(async {
        let rules = Arc::new(Rules::load(Era::Y2024).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let options = FsOptions::new(Arc::clone(&rules));
        let store = Arc::new(FsStore::open(folder.path().join("mining"), options).unwrap());
        let mut times = Times::default();
        for _ in 0..ALONE {
            let signal = Signal::from_json(load::SIGNAL_2024.as_bytes(), &rules).unwrap();
            let start = Instant::now();
            let accepted = store.accept(&signal).await.unwrap();
            times.push(start.elapsed());
            assert!(matches!(accepted, Accepted::New { .. }), "a fresh id is new");
        }
        let durable = || Against::This("durable write p50", Measure(limits.durable, "us"));
        table.row(
            "one caller, p50",
            Measure(times.median(), "us"),
            durable(),
            Goal::RatioAtMost(2.0),
        );
        table.row("one caller, p99", Measure(times.p99(), "us"), durable(), Goal::None);

        let end = Instant::now() + CROWD;
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                let (store, rules) = (Arc::clone(&store), Arc::clone(&rules));
                tokio::spawn(async move {
                    let mut count = 0_u32;
                    while Instant::now() < end {
                        let signal = Signal::from_json(load::SIGNAL_2024.as_bytes(), &rules);
                        drop(store.accept(&signal.unwrap()).await.unwrap());
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        let mut count = 0;
        for caller in callers {
            count += caller.await.unwrap();
        }
        let rate = f64::from(count) / CROWD.as_secs_f64();
        let raw = Against::This("append+fdatasync", Measure(1e6 / limits.append, "/s"));
        table.row("64 callers", Measure(rate, "/s"), raw, Goal::None);
    });
}
