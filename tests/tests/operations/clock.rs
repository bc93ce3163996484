//! The watch over the clock in a running miner: by validators' clocks and the chain's.

use ptn_core::chain::mock::{MockNeuron, MockNode};
use ptn_core::directory::Wire;
use ptn_core::sign::{Hotkey, Signer as _};
use ptn_tests::process::Home;
use serde_json::{Value, json};

use super::{CLI, MINER, free_port, get, metric, order, until, validator};

fn drop_in(home: &Home, uuid: &str) {
    std::fs::write(home.data().join("received_signals").join(uuid), order(uuid)).unwrap();
}

#[tokio::test]
async fn a_clock_that_is_off_is_said_everywhere_with_what_to_do() {
    let v = validator(20_000).await;
    let home = Home::new(&[v.entry(Wire::Btauth)]);
    let port = free_port().to_string();
    let mut miner = home.miner(MINER, &["--axon.port", &port]);
    miner.up().await;
    let monitor = format!("127.0.0.1:{port}");
    assert_eq!(get(&monitor, "/health").await.1["clock"]["state"], "unknown");
    drop_in(&home, "one");
    let health = until(&monitor, "/health", |h| h["clock"]["state"] == "off").await;
    let clock = &health["clock"];
    let offset = clock["offset_ms"].as_i64().unwrap();
    assert!((-22_000..=-18_000).contains(&offset), "{clock}");
    assert_eq!(clock["peers"], 1, "{clock}");
    assert!(clock["do"].as_str().unwrap().contains("timedatectl set-ntp true"), "{clock}");
    assert_eq!(health["status"], "degraded", "{health:#}");
    assert_eq!(metric(&monitor, "ptn_clock_off").await, 1.0);
    let seconds = metric(&monitor, "ptn_clock_offset_seconds").await;
    assert!((-22.0..=-18.0).contains(&seconds), "{seconds}");
    let line = miner
        .line(|v| v["message"].as_str().is_some_and(|m| m.contains("s behind: validators refuse")))
        .await;
    let said = line["message"].as_str().unwrap();
    assert!(said.contains("10 s late or 2 s early") && said.contains("chronyc makestep"), "{said}");
    assert_eq!(line["level"], "ERROR");

    let output = std::process::Command::new(CLI)
        .args(["doctor", "--json", "--axon.port", &port])
        .args(["--data-dir", home.data().to_str().unwrap()])
        .args(["--validators", home.path("validators.toml").to_str().unwrap()])
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    let clock = checks.iter().find(|c| c["check"] == "clock" && c["level"] == "fail");
    let clock = clock.unwrap_or_else(|| panic!("{report:#}"));
    assert!(clock["message"].as_str().unwrap().contains("s behind"), "{clock}");
    assert!(clock["next"].as_str().unwrap().contains("timedatectl"), "{clock}");
}

#[tokio::test]
async fn one_validator_with_a_wrong_clock_among_several_is_named_and_raises_no_alarm() {
    let (a, liar, c) = (validator(0).await, validator(20_000).await, validator(0).await);
    let home = Home::new(&[&a, &liar, &c].map(|v| v.entry(Wire::Btauth)));
    let port = free_port().to_string();
    let mut miner = home.miner(MINER, &["--axon.port", &port]);
    miner.up().await;
    let monitor = format!("127.0.0.1:{port}");
    drop_in(&home, "one");
    let health = until(&monitor, "/health", |h| h["clock"]["peers"] == 3).await;
    let clock = &health["clock"];
    assert_eq!((&clock["state"], &clock["offset_ms"]), (&json!("ok"), &json!(0)), "{clock}");
    assert_eq!(clock["apart"], json!([liar.hotkey()]), "{clock}");
    assert_eq!(health["status"], "healthy", "{health:#}");
    assert_eq!(metric(&monitor, "ptn_clock_off").await, 0.0);
    assert_eq!(metric(&monitor, "ptn_clock_peers").await, 3.0);
    let named = |v: &Value| v["peer"] == liar.hotkey() && v["level"] == "WARN";
    miner.line(named).await;
    miner.signal("-TERM");
    let (_, log) = miner.end().await;
    assert!(!log.contains("timedatectl"), "no alarm:\n{log}");
}

#[tokio::test]
async fn the_chain_tells_the_time_before_any_order_was_sent_and_is_one_voice_of_two() {
    let v = validator(0).await;
    let home = Home::new(&[]);
    let coldkey = Hotkey::from_seed([200; 32]).hotkey().to_owned();
    let node = MockNode::builder()
        .neuron(8, MockNeuron::validator(v.hotkey(), &coldkey, v.address(), 65_535))
        .neuron(8, MockNeuron::new(&home.hotkey, &coldkey))
        .start()
        .await
        .unwrap();
    node.set_clock_ahead(20_000);
    node.advance(1);
    let port = free_port().to_string();
    let mut miner = home.chain_miner(MINER, &node.url(), &["--axon.port", &port]);
    miner.line(|v| v["message"] == "delivering").await;
    miner.ignore_log();
    let monitor = format!("127.0.0.1:{port}");
    let health = until(&monitor, "/health", |h| h["clock"]["state"] == "off").await;
    assert_eq!(health["clock"]["peers"], 1, "{health:#}");
    // A validator that agrees with us: now it is the chain's node that stands apart.
    drop_in(&home, "one");
    let health = until(&monitor, "/health", |h| h["clock"]["peers"] == 2).await;
    assert_eq!(health["clock"]["state"], "ok", "{health:#}");
    assert_eq!(health["clock"]["apart"], json!(["the chain"]), "{health:#}");
}
