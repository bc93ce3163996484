//! The validator is killed while orders come in: what was acknowledged is there again.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use ptn_core::rules::{Era, Rules};
use ptn_core::sign::{Hotkey, Signer as _};
use ptn_core::signal::Signal;
use ptn_core::transport::address::AddressPolicy;
use ptn_core::transport::http::HttpOptions;
use ptn_core::transport::{HttpTransport, OutboundOrder, ValidatorReply, ValidatorTransport as _};
use ptn_tests::http::request;
use ptn_tests::process::PATIENCE;
use serde_json::json;

use super::Paper;

const ROUNDS: u64 = 6;
const PAIRS: [&str; 3] = ["BTCUSDC", "ETHUSDC", "SOLUSDC"];

fn signal(n: u64) -> OutboundOrder {
    let rules = Rules::load(Era::Y2026).unwrap();
    let pair = PAIRS[usize::try_from(n).unwrap() % PAIRS.len()];
    let side = if n.is_multiple_of(2) { "LONG" } else { "SHORT" };
    let body = json!({"trade_pair": pair, "order_type": side, "value": 50,
        "order_uuid": format!("00000000-0000-4000-8000-{n:012}")});
    OutboundOrder::new(&Signal::from_json(body.to_string().as_bytes(), &rules).unwrap(), "8.8.9")
}

async fn send(transport: &HttpTransport, paper: &Paper, n: u64) -> Option<ValidatorReply> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    transport.deliver(&paper.entry, &signal(n), deadline).await.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_accepted_order_is_lost_by_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("paper");
    // Ten hours pass in a second: no order waits for a cooldown or a rate limit.
    let flags = ["--start", "2026-06-10T14:00:00Z", "--speed", "36000"];
    let miner = Arc::new(Hotkey::from_seed([9; 32]));
    let hotkey = miner.hotkey().to_owned();
    let mut options = HttpOptions::default();
    options.policy = AddressPolicy::AllowPrivate;
    let transport = Arc::new(HttpTransport::new(miner, options));
    let (mut n, mut acknowledged) = (0_u64, Vec::new());
    for round in 0..ROUNDS {
        let paper = Arc::new(Paper::start(&dir, &flags).await);
        assert_eq!(paper.resumed, round > 0);
        if round == 0 {
            paper.prices(&PAIRS.map(|pair| (pair, 1000.0))).await;
        }
        for n in &acknowledged {
            let reply = send(&transport, &paper, *n).await.unwrap();
            assert!(
                !reply.successfully_processed
                    && reply.error_message.contains("already been processed"),
                "order {n} was acknowledged and is not known: {reply:?}"
            );
        }
        let orders: Vec<_> = (0..40)
            .map(|_| {
                n += 1;
                let (transport, paper, n) = (Arc::clone(&transport), Arc::clone(&paper), n);
                tokio::spawn(async move { (n, send(&transport, &paper, n).await) })
            })
            .collect();
        // The kill comes after some answers and before the others.
        let enough = 3 + usize::try_from(round).unwrap() * 4;
        let mut answered = 0;
        let mut rest = Vec::new();
        for order in orders {
            if answered < enough {
                let (n, reply) = order.await.unwrap();
                if reply.is_some_and(|reply| reply.successfully_processed) {
                    acknowledged.push(n);
                }
                answered += 1;
            } else {
                rest.push(order);
            }
        }
        let pid = paper.child.id().unwrap().to_string();
        let killed = std::process::Command::new("kill").args(["-KILL", &pid]).status().unwrap();
        assert!(killed.success());
        for order in rest {
            let (n, reply) = order.await.unwrap();
            if reply.is_some_and(|reply| reply.successfully_processed) {
                acknowledged.push(n);
            }
        }
        // Its lock goes with it.
        Arc::into_inner(paper).unwrap().child.wait().await.unwrap();
    }
    assert!(acknowledged.len() > 20, "only {} orders were acknowledged", acknowledged.len());
    let paper = Paper::start(&dir, &flags).await;
    let path = format!("/api/positions?hotkey={hotkey}");
    let (status, positions) = request(&paper.http, Method::GET, &path, &[], "").await;
    assert_eq!(status, 200, "{positions}");
    let account = &positions["accounts"][0];
    let count = |list: &str| -> u64 {
        account[list].as_array().unwrap().iter().map(|p| p["orders"].as_u64().unwrap()).sum()
    };
    assert!(count("open") + count("closed") >= acknowledged.len() as u64, "{positions}");
    paper.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let flags =
        ["--prices", "walk:3:BTCUSDC", "--start", "2026-06-10T14:00:00Z", "--speed", "3000"];
    let mut paper = Paper::start(dir.path(), &flags).await;
    let first = paper.event("round").await;
    let now = |v: &serde_json::Value| v["now_ms"].as_i64().unwrap();
    let before = paper.get("/api/weights").await;
    let started = paper.get("/api/leaderboard").await["started_ms"].clone();
    paper.stop().await;
    let paper = Paper::start(dir.path(), &flags).await;
    assert!(paper.resumed);
    let after = paper.get("/api/weights").await;
    assert!(now(&after) >= now(&before));
    // The machine's clock did not pass on it while it was down: not days, at 3000 times its pace.
    assert!(now(&after) - now(&before) < 24 * 3600 * 1000, "{before} {after}");
    assert!(after["round"]["n"].as_u64() >= first["round"]["n"].as_u64());
    assert_eq!(paper.get("/api/leaderboard").await["started_ms"], started);
    paper.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_in_use_of_other_rules_or_damaged_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let paper = Paper::start(dir.path(), &[]).await;
    paper.prices(&[("BTCUSDC", 1000.0), ("ETHUSDC", 10.0)]).await;
    let run = async |extra: &[&str]| {
        let mut command = tokio::process::Command::new(super::CLI);
        command.args(["paper", "run", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--dir"]);
        command.arg(dir.path()).args(extra);
        let output = tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, text) = run(&[]).await;
    assert_eq!(code, Some(75), "{text}");
    assert!(text.contains("in use by another paper validator"), "{text}");
    paper.kill().await;
    let (code, text) = run(&["--rules", "2024"]).await;
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("holds a validator of 2026"), "{text}");
    // A torn end is cut off; damage before the end is not repaired by guessing.
    let journal = dir.path().join("journal");
    let whole = std::fs::read(&journal).unwrap();
    std::fs::write(&journal, &whole[..whole.len() - 5]).unwrap();
    let paper = Paper::start(dir.path(), &[]).await;
    assert!(paper.resumed);
    paper.kill().await;
    let mut damaged = whole.clone();
    damaged[20] ^= 1;
    std::fs::write(&journal, &damaged).unwrap();
    let (code, text) = run(&[]).await;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("line 1: damaged. Nothing was changed"), "{text}");
    assert_eq!(std::fs::read(&journal).unwrap(), damaged);
}
