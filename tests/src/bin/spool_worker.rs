//! A process that uses a spool, for tests that kill it: it prints each line only after the store
//! said `Ok`.
//!
//! ```text
//! spool_worker accept DIR PREFIX [COUNT]   accepts signals PREFIX-0, PREFIX-1, ...: "accepted <id> <seq>"
//! spool_worker deliver DIR [COUNT]         owns DIR, claims, records and finishes COUNT signals:
//!                                          "recorded <id> <hotkey> <state>", "finished <id>"
//! spool_worker own DIR                     owns DIR and waits: "owner"
//! spool_worker bench DIR [CALLERS] [SECONDS]
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    clippy::exit,
    reason = "a test's helper: it reports to the test on stdout"
)]

use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ptn_core::record::{DeliveryState, Progress, SignalState};
use ptn_core::rules::{Era, Rules};
use ptn_core::signal::Signal;
use ptn_core::store::conformance::{report, signal, validator};
use ptn_core::store::fs::FsOptions;
use ptn_core::store::{FsStore, SignalStore, StoreError};

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush()).unwrap();
}

fn options() -> FsOptions {
    let mut options = FsOptions::new(Arc::new(Rules::load(Era::Y2026).unwrap()));
    // Small, so that it is rewritten while processes die.
    options.journal_bytes =
        std::env::var("SPOOL_JOURNAL").map_or(48 * 1024, |t| t.parse().unwrap());
    options
}

fn opened(store: Result<FsStore, StoreError>) -> FsStore {
    store.unwrap_or_else(|e| {
        say(&format!("error {} {e}", e.code()));
        std::process::exit(75);
    })
}

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let arg = |n: usize| args.get(n).map_or("", String::as_str);
    let count = |n: usize| arg(n).parse::<u32>().unwrap_or(u32::MAX);
    match arg(0) {
        "accept" => {
            let store = Arc::new(opened(FsStore::open(arg(1), options())));
            let next = Arc::new(AtomicU64::new(0));
            let tasks: Vec<_> = (0..4)
                .map(|_| {
                    tokio::spawn(accept(
                        Arc::clone(&store),
                        Arc::clone(&next),
                        arg(2).to_owned(),
                        count(3),
                    ))
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
        }
        "deliver" => deliver(&opened(FsStore::open_owner(arg(1), options())), count(2)).await,
        "own" => {
            let _store = opened(FsStore::open_owner(arg(1), options()));
            say("owner");
            std::future::pending::<()>().await;
        }
        "bench" => bench(arg(1), arg(2).parse().unwrap_or(64), arg(3).parse().unwrap_or(3)).await,
        other => panic!("what is {other:?}?"),
    }
}

async fn accept(store: Arc<FsStore>, next: Arc<AtomicU64>, prefix: String, count: u32) {
    loop {
        let n = u32::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap();
        if n >= count {
            return;
        }
        let signal = signal(&format!("{prefix}-{n}"), n);
        match store.accept(&signal).await {
            Ok(ptn_core::store::Accepted::New { seq }) => {
                say(&format!("accepted {} {seq}", signal.id()))
            }
            Ok(ptn_core::store::Accepted::Same { .. }) => say(&format!("same {}", signal.id())),
            Err(e) => say(&format!("error {} {e}", e.code())),
        }
    }
}

async fn deliver(store: &FsStore, count: u32) {
    let mut changes = store.watch();
    let mut done = 0;
    while done < count {
        let leases = store.claim(3).await.unwrap();
        if leases.is_empty()
            && tokio::time::timeout(Duration::from_millis(200), changes.changed()).await.is_err()
        {
            say("idle");
            if count != u32::MAX {
                return;
            }
        }
        for lease in leases {
            let id = lease.stored.signal.id().clone();
            say(&format!("claimed {id} {}", lease.stored.seq));
            let submitted = ["V1", "V2"].map(|v| validator(v, DeliveryState::Submitted)).to_vec();
            store.record(&lease, Progress::Targets { validators: submitted }).await.unwrap();
            for hotkey in ["V1", "V2"] {
                if lease
                    .stored
                    .validators
                    .get(hotkey)
                    .is_some_and(|v| v.state == DeliveryState::Accepted)
                {
                    say(&format!("resumed {id} {hotkey}"));
                    continue;
                }
                store
                    .record(&lease, Progress::Begin { hotkeys: vec![hotkey.to_owned()] })
                    .await
                    .unwrap();
                say(&format!("sent {id} {hotkey}"));
                let validator = validator(hotkey, DeliveryState::Accepted);
                store.record(&lease, Progress::Outcome { validator }).await.unwrap();
                say(&format!("recorded {id} {hotkey}"));
            }
            let both = ["V1", "V2"].map(|v| validator(v, DeliveryState::Accepted)).to_vec();
            let state = if lease.stored.seq % 3 == 0 {
                SignalState::Failed
            } else {
                SignalState::Processed
            };
            store.finish(&lease, &report(state, both)).await.unwrap();
            say(&format!("finished {id}"));
            done += 1;
        }
    }
}

/// Numbers for people; nothing is asserted.
async fn bench(dir: &str, callers: u32, seconds: u64) {
    let mut raw = File::create(format!("{dir}.raw")).unwrap();
    let line = [b'x'; 512];
    let began = Instant::now();
    let mut syncs = 0;
    while began.elapsed() < Duration::from_secs(1) {
        raw.write_all(&line).and_then(|()| raw.sync_data()).unwrap();
        syncs += 1;
    }
    say(&format!("raw append + fdatasync: {syncs}/s"));
    let began = Instant::now();
    let mut files = 0;
    std::fs::create_dir_all(format!("{dir}.files")).unwrap();
    while began.elapsed() < Duration::from_secs(1) {
        let (tmp, name) = (format!("{dir}.files/tmp"), format!("{dir}.files/{files}"));
        let mut file = File::create(&tmp).unwrap();
        file.write_all(&line).and_then(|()| file.sync_data()).unwrap();
        std::fs::rename(&tmp, &name).unwrap();
        File::open(format!("{dir}.files")).and_then(|d| d.sync_all()).unwrap();
        files += 1;
    }
    say(&format!(
        "raw write + fdatasync + rename + dir sync: {files}/s, {:.0} us each",
        1e6 / f64::from(files)
    ));

    let mut options = options();
    options.journal_bytes = 32 * 1024 * 1024;
    let rules = Arc::clone(&options.rules);
    // A receiver beside an owner in another process (`own`), or the owner itself.
    let receiver = std::env::var_os("SPOOL_RECEIVER").is_some();
    let open = |options| {
        opened(if receiver {
            FsStore::open(dir, options)
        } else {
            FsStore::open_owner(dir, options)
        })
    };
    let store = Arc::new(open(options.clone()));
    let mut times = Vec::new();
    for _ in 0..2000 {
        let signal = body(&rules);
        let began = Instant::now();
        drop(store.accept(&signal).await.unwrap());
        times.push(began.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    let at = |p: usize| times.get(times.len() * p / 100).copied().unwrap_or_default();
    say(&format!("one caller: median {:.0} us, p99 {:.0} us", at(50), at(99)));

    let until = Instant::now() + Duration::from_secs(seconds);
    let began = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let (store, rules) = (Arc::clone(&store), Arc::clone(&rules));
            tokio::spawn(async move {
                let mut n = 0_u64;
                while Instant::now() < until {
                    let signal = body(&rules);
                    drop(store.accept(&signal).await.unwrap());
                    n += 1;
                }
                n
            })
        })
        .collect();
    let mut total = 0;
    for task in tasks {
        total += task.await.unwrap();
    }
    let rate = total as f64 / began.elapsed().as_secs_f64();
    say(&format!("{callers} callers, parsing included: {rate:.0} signals/s"));
    let pending = store.pending().await.unwrap().count;
    let rss = std::fs::read_to_string("/proc/self/status").unwrap();
    let rss = rss.lines().find(|l| l.starts_with("VmRSS")).unwrap_or_default();
    say(&format!("{pending} pending, {rss}"));
    let began = Instant::now();
    drop(store);
    say(&format!("closed in {:.2} s", began.elapsed().as_secs_f64()));
    let began = Instant::now();
    let store = open(options);
    say(&format!("opened again in {:.2} s", began.elapsed().as_secs_f64()));
    drop(store);
}

fn body(rules: &Rules) -> Signal {
    Signal::from_json(
        br#"{"trade_pair":"BTCUSDC","order_type":"LONG","leverage":0.1,"execution_type":"MARKET"}"#,
        rules,
    )
    .unwrap()
}
