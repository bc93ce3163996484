//! `ptn-cli paper run` as a process of its own: a real miner talks to it, it is killed, and its HTTP
//! side is asked.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is how a test fails"
)]

mod conversation;
mod crash;
mod envelope;
mod site;

use std::path::Path;
use std::process::Stdio;

use hyper::Method;
use ptn_core::directory::{Validator, Wire};
use ptn_tests::http::request;
use ptn_tests::process::PATIENCE;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

const CLI: &str = env!("CARGO_BIN_EXE_ptn-cli-under-test");
const MINER: &str = env!("CARGO_BIN_EXE_ptn-miner-under-test");

/// A standing validator. Killed when dropped.
struct Paper {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// As a miner's list has it.
    entry: Validator,
    /// Where it answers questions.
    http: String,
    /// Whether it went on where another one was.
    resumed: bool,
}

impl Paper {
    /// Starts one on free ports.
    async fn start(dir: &Path, extra: &[&str]) -> Self {
        let dir = dir.to_str().unwrap();
        let mut args = vec!["paper", "run", "--json", "--dir", dir];
        args.extend(["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
        args.extend(extra);
        let mut command = Command::new(CLI);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap();
        let up: Value = serde_json::from_str(&first.expect("it ended at once")).unwrap();
        assert_eq!(up["event"], "listening", "{up}");
        let address: std::net::SocketAddr = up["address"].as_str().unwrap().parse().unwrap();
        let entry = Validator {
            hotkey: up["hotkey"].as_str().unwrap().to_owned(),
            ip: address.ip(),
            port: address.port(),
            v_trust: 1.0,
            stake: 1000.0,
            permit: true,
            wire: Wire::Btauth,
        };
        let http = up["http"].as_str().unwrap().to_owned();
        let resumed = up["resumed"].as_bool().unwrap();
        Self { child, lines, entry, http, resumed }
    }

    /// The next event of a kind.
    async fn event(&mut self, kind: &str) -> Value {
        let read = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                let event: Value = serde_json::from_str(&line).unwrap();
                if event["event"] == kind {
                    return event;
                }
            }
            panic!("it ended without {kind}");
        };
        tokio::time::timeout(PATIENCE, read).await.expect("no such event")
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = request(&self.http, Method::GET, path, &[], "").await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    async fn post(&self, path: &str, body: &Value) {
        let (status, answer) =
            request(&self.http, Method::POST, path, &[], &body.to_string()).await;
        assert_eq!(status, 200, "{path}: {answer}");
    }

    /// Pushes last prices, and waits until they count.
    async fn prices(&self, prices: &[(&str, f64)]) {
        let rows: Vec<Value> = prices
            .iter()
            .map(|(pair, price)| json!({"trade_pair": pair, "price": price}))
            .collect();
        self.post("/api/prices", &json!(rows)).await;
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let known = self.get("/api/prices").await;
            if prices.iter().all(|(pair, price)| known["prices"][*pair]["price"] == json!(price)) {
                return;
            }
            assert!(tokio::time::Instant::now() < end, "the prices do not come in: {known}");
            tokio::task::yield_now().await;
        }
    }

    /// Kills it as a power cut would.
    async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Ends it as Ctrl-C does.
    async fn stop(mut self) {
        let pid = self.child.id().unwrap().to_string();
        let status = std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap();
        assert!(status.success());
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        assert!(ended.expect("it does not end").unwrap().success());
    }
}
