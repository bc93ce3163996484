//! From exec to ready, with an empty spool and with ten thousand signals waiting in it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::Method;
use ptn_core::rules::{Era, Rules};
use ptn_core::signal::Signal;
use ptn_core::store::SignalStore as _;
use ptn_core::store::fs::{FsOptions, FsStore};
use ptn_tests::http::request;
use ptn_tests::process::{Daemon, Home};
use tokio::net::TcpListener;

use crate::limits::Limits;
use crate::responder::validator;
use crate::stats::Times;
use crate::table::{Against, Goal, Measure, Table};
use crate::{MINER, SERVER, block_on};

const ROUNDS: usize = 5;
const QUEUED: usize = 10_000;
const GOAL_MS: f64 = 100.0;

pub(crate) fn run(_: &Limits, table: &mut Table) {
    block_on(async {
        for queued in [0, QUEUED] {
            let hanging = Hanging::new().await;
            let home = Home::new(&[validator(hanging.port)]);
            fill(&home, queued).await;
            for (name, program) in [("ptn-server", SERVER), ("ptn-miner with server", MINER)] {
                let mut times = Times::default();
                for _ in 0..ROUNDS {
                    let start = Instant::now();
                    let (daemon, _) = start_and_wait(&home, program).await;
                    times.push(start.elapsed());
                    daemon.kill().await;
                }
                let measured = Measure(times.median() / 1e3, "ms");
                let what = format!("{name}, {queued} signals waiting");
                table.row(what, measured, Against::Nothing, Goal::AtMost(GOAL_MS));
            }
        }
    });
}

/// A validator that takes every order and never answers.
#[derive(Debug)]
pub(crate) struct Hanging {
    pub(crate) port: u16,
}

impl Hanging {
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                open.push(stream);
            }
        });
        Self { port }
    }
}

/// Starts a daemon and returns it with its address once it says that it is ready.
pub(crate) async fn start_and_wait(home: &Home, program: &str) -> (Daemon, String) {
    let (mut daemon, key) = if program == MINER {
        (home.miner(program, &["--server.listen", "127.0.0.1:0"]), "server")
    } else {
        (home.server(program, &[]), "address")
    };
    let address = daemon.up().await[key].as_str().unwrap().to_owned();
    daemon.ignore_log();
    while request(&address, Method::GET, "/readyz", &[], "").await.0 != 200 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    (daemon, address)
}

/// Puts signals into the spool, as a server would have, files included.
pub(crate) async fn fill(home: &Home, count: usize) {
    if count == 0 {
        return;
    }
    let rules = Arc::new(Rules::load(Era::Y2026).unwrap());
    let store = FsStore::open(home.data(), FsOptions::new(Arc::clone(&rules))).unwrap();
    let store = Arc::new(store);
    let text =
        r#"{"trade_pair":"BTCUSDC","order_type":"LONG","leverage":0.1,"execution_type":"MARKET"}"#;
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let (store, rules) = (Arc::clone(&store), Arc::clone(&rules));
            tokio::spawn(async move {
                for _ in (task..count).step_by(64) {
                    let signal = Signal::from_json(text.as_bytes(), &rules).unwrap();
                    drop(store.accept(&signal).await.unwrap());
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let files = home.data().join("received_signals");
    while std::fs::read_dir(&files).unwrap().count() < count {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
