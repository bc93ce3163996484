//! While it runs: validators that move and leave, refused addresses, an eviction.

use std::time::Duration;

use ptn_core::chain::mock::{MockNeuron, MockNode};
use ptn_core::directory::Wire;
use ptn_core::validator::{LoopbackValidator, ValidatorOptions};
use ptn_tests::http::{receive_signal, submit_order};
use ptn_tests::process::Home;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    MINER, NETUID, SERVE, coldkey, delivering, free_port, get, health, listening, nobody, node,
    order, processed, subnet, validator,
};

/// Retries soon, as often as a slow machine needs.
const RETRY: [&str; 2] = ["--delivery.waits", "300ms,300ms,300ms,300ms,300ms,300ms,300ms,300ms"];

fn failed(home: &Home, id: &str) -> Value {
    let text = std::fs::read_to_string(home.data().join("failed_signals").join(id)).unwrap();
    serde_json::from_str(&serde_json::from_str::<String>(&text).unwrap()).unwrap()
}

#[tokio::test]
async fn a_validator_that_moves_between_two_attempts_is_followed() {
    let v = validator().await;
    let home = Home::new(&[]);
    // The chain still has an address where nobody listens.
    let chain = subnet(&[(v.hotkey(), nobody())], &[&home.hotkey]).start().await.unwrap();
    let mut miner =
        home.chain_miner(MINER, &chain.url(), &[SERVE[0], SERVE[1], RETRY[0], RETRY[1]]);
    let (server, _) = listening(&mut miner).await;
    assert_eq!(receive_signal(&server, &order("moved", "BTCUSDC")).await.0, 200);
    miner.line(|l| l["code"] == "connect" && l["uuid"] == "moved").await;
    // Nothing but the failed attempts asks for a new list: the schedule is 15 minutes.
    chain.move_axon(NETUID, v.hotkey(), Some(v.address()));
    assert_eq!(home.wait_for("processed_signals", 1).await, ["moved"]);
    assert_eq!(processed(&v), ["moved"]);
}

/// Somebody who answers every request on a connection of its own with this status.
async fn stranger(status: &'static str) -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = vec![0; 65_536];
                // The whole request of these tests fits into one packet on loopback.
                if socket.read(&mut request).await.is_ok_and(|count| count > 0) {
                    let body = "what is this?";
                    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
                    let text = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
                    socket.write_all(text.as_bytes()).await.ok();
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_stranger_at_the_old_address_of_a_validator_decides_nothing() {
    let seed = || ptn_core::sign::Hotkey::from_seed([9; 32]);
    let speaking = async |wire: Option<Wire>, hotkey| {
        let mut options = ValidatorOptions::default();
        (options.wire, options.hotkey) = (wire, hotkey);
        LoopbackValidator::start(options).await.unwrap()
    };
    let other_key = || ptn_core::sign::Hotkey::from_seed([10; 32]);
    let dendrite = speaking(Some(Wire::Dendrite), other_key()).await;
    let btauth = speaking(Some(Wire::Btauth), other_key()).await;
    let cases = [
        (stranger("400 Bad Request").await, "bad_request", "btauth"),
        (stranger("404 Not Found").await, "bad_request", "btauth"),
        (stranger("403 Forbidden").await, "blacklisted", "btauth"),
        (stranger("401 Unauthorized").await, "not_verified", "btauth"),
        (dendrite.address(), "wrong_wire", "btauth"),
        (stranger("404 Not Found").await, "wrong_wire", "dendrite"),
        (dendrite.address(), "not_verified", "dendrite"),
        (btauth.address(), "wrong_receiver", "btauth"),
    ];
    for (old, code, wire) in cases {
        let v = speaking(Wire::parse(wire), seed()).await;
        let home = Home::new(&[]);
        let chain = subnet(&[(v.hotkey(), old)], &[&home.hotkey]).start().await.unwrap();
        let flags = [&SERVE[..], &RETRY, &["--delivery.wire", wire]].concat();
        let mut miner = home.chain_miner(MINER, &chain.url(), &flags);
        let (server, _) = listening(&mut miner).await;
        assert_eq!(receive_signal(&server, &order("moved", "BTCUSDC")).await.0, 200);
        miner.line(|l| l["code"] == code && l["uuid"] == "moved").await;
        chain.move_axon(NETUID, v.hotkey(), Some(v.address()));
        assert_eq!(home.wait_for("processed_signals", 1).await, ["moved"], "{code} {wire}");
        assert_eq!(processed(&v), ["moved"]);
        miner.kill().await;
        v.shutdown().await;
    }
}

#[tokio::test]
async fn a_refusal_that_stays_is_final_after_the_schedule() {
    let home = Home::new(&[]);
    let at = stranger("404 Not Found").await;
    let v = validator().await;
    let chain = subnet(&[(v.hotkey(), at)], &[&home.hotkey]).start().await.unwrap();
    let flags = [SERVE[0], SERVE[1], "--delivery.waits", "50ms,50ms"];
    let mut miner = home.chain_miner(MINER, &chain.url(), &flags);
    let (server, _) = listening(&mut miner).await;
    assert_eq!(receive_signal(&server, &order("stays", "BTCUSDC")).await.0, 200);
    assert_eq!(home.wait_for("failed_signals", 1).await, ["stays"]);
    let record = &failed(&home, "stays")["validators"][0];
    assert_eq!((&record["state"], &record["code"]), (&json!("rejected"), &json!("bad_request")));
    assert_eq!(record["attempts"], 3, "{record}");
}

#[tokio::test]
async fn a_validator_that_drops_out_between_two_attempts_ends_properly() {
    let (stays, gone) = (validator().await, validator().await);
    let home = Home::new(&[]);
    let axons = [(stays.hotkey(), stays.address()), (gone.hotkey(), nobody())];
    let chain = subnet(&axons, &[&home.hotkey]).start().await.unwrap();
    let mut miner =
        home.chain_miner(MINER, &chain.url(), &[SERVE[0], SERVE[1], RETRY[0], RETRY[1]]);
    let (server, _) = listening(&mut miner).await;
    assert_eq!(receive_signal(&server, &order("left", "BTCUSDC")).await.0, 200);
    miner.line(|l| l["code"] == "connect" && l["uuid"] == "left").await;
    chain.remove(NETUID, gone.hotkey());
    let end = miner.line(|l| l["code"] == "left_metagraph").await;
    assert_eq!((&end["uuid"], &end["state"]), (&json!("left"), &json!("cancelled")), "{end}");
    assert_eq!(home.wait_for("failed_signals", 1).await, ["left"], "decided at acceptance");
    assert_eq!(processed(&stays), ["left"]);
    assert!(failed(&home, "left").to_string().contains("no longer in the list"));

    // The next one goes to who is left.
    let (status, answer) = submit_order(&server, &order("next", "BTCUSDC")).await;
    assert_eq!((status, &answer["success"]), (200, &json!(true)), "{answer}");
}

#[tokio::test]
async fn an_eviction_is_said_loudly_and_deliveries_go_on_by_the_validators_answers() {
    let v = validator().await;
    let home = Home::new(&[]);
    let chain = node(&v, &home.hotkey).await;
    let monitor = free_port();
    let flags = [SERVE[0], SERVE[1], "--subtensor.refresh", "1s", "--axon.port", &monitor];
    let mut miner = home.chain_miner(MINER, &chain.url(), &flags);
    let (server, monitor) = listening(&mut miner).await;
    delivering(&mut miner).await;
    health(&monitor, |h| h["status"] == "healthy").await;
    chain.remove(NETUID, &home.hotkey);
    let said =
        miner.line(|l| l["message"].as_str().is_some_and(|m| m.starts_with("EVICTED"))).await;
    assert_eq!((&said["level"], &said["uid_before"]), (&json!("ERROR"), &json!(1)), "{said}");
    assert!(said["message"].as_str().unwrap().contains("ptn-cli subnet register"), "{said}");
    let evicted = health(&monitor, |h| h["chain"]["registered"] == json!(false)).await;
    assert_eq!(evicted["status"], "degraded");
    let metrics = get(&monitor, "/metrics").await;
    assert!(metrics.as_str().unwrap().contains("ptn_hotkey_registered 0"), "{metrics}");
    let (status, answer) = submit_order(&server, &order("after", "BTCUSDC")).await;
    assert_eq!((status, &answer["success"]), (200, &json!(true)), "{answer}");

    chain.add(NETUID, MockNeuron::new(&home.hotkey, &coldkey()));
    let again = |l: &Value| l["message"].as_str().is_some_and(|m| m.contains("registered again"));
    miner.line(again).await;
    health(&monitor, |h| h["status"] == "healthy").await;
}

#[tokio::test]
async fn private_addresses_from_the_chain_are_refused_on_public_networks_and_named() {
    let v = validator().await;
    let home = Home::new(&[]);
    let finney = ptn_core::chain::Network::Finney.genesis().unwrap();
    let builder = subnet(&[(v.hotkey(), v.address())], &[&home.hotkey]).genesis(finney);
    let chain = builder.start().await.unwrap();
    let monitor = free_port();
    let flags = [SERVE[0], SERVE[1], "--subtensor.network", "finney", "--axon.port", &monitor];
    let mut miner = home.chain_miner(MINER, &chain.url(), &flags);
    let (server, monitor) = listening(&mut miner).await;
    let warned = miner.line(|l| l["validator"] == json!(v.hotkey()) && l["level"] == "WARN").await;
    assert!(warned["message"].as_str().unwrap().contains("a loopback address"), "{warned}");
    assert_eq!(receive_signal(&server, &order("private", "BTCUSDC")).await.0, 200);
    assert_eq!(home.wait_for("failed_signals", 1).await, ["private"]);
    let headers = [("authorization", "test-key")];
    let path = "/api/order-status/private";
    let status = ptn_tests::http::request(&server, hyper::Method::GET, path, &headers, "").await;
    assert!(status.1.to_string().contains("loopback address"), "{}", status.1);
    let health = health(&monitor, |h| h["targets"].is_array()).await;
    assert_eq!(health["targets"][0]["refused"], "a loopback address", "{health}");
    let doing = &health["validators"][0];
    assert!(doing["last_error"].as_str().unwrap().contains("loopback"), "{health}");
    assert_eq!((v.count(), &doing["last_answer_at"]), (0, &Value::Null), "{health}");
}

#[tokio::test]
async fn on_a_network_of_ones_own_the_most_trusted_is_the_mothership() {
    let (little, much) = (validator().await, validator().await);
    let home = Home::new(&[]);
    let chain = MockNode::builder()
        .neuron(
            NETUID,
            MockNeuron::validator(little.hotkey(), &coldkey(), little.address(), 30_000),
        )
        .neuron(NETUID, MockNeuron::validator(much.hotkey(), &coldkey(), much.address(), 60_000))
        .neuron(NETUID, MockNeuron::new(&home.hotkey, &coldkey()))
        .start()
        .await
        .unwrap();
    let flags = [SERVE[0], SERVE[1], "--delivery.policy", "mothership"];
    let mut miner = home.chain_miner(MINER, &chain.url(), &flags);
    let (server, _) = listening(&mut miner).await;
    let named = miner.line(|l| l["required"] == json!(1)).await;
    assert!(named["message"].as_str().unwrap().contains(much.hotkey()), "{named}");
    let (status, answer) = submit_order(&server, &order("most", "BTCUSDC")).await;
    assert_eq!((status, &answer["success"]), (200, &json!(true)), "{answer}");
    assert_eq!(processed(&much), ["most"]);
}

#[tokio::test]
async fn a_validator_that_restarts_elsewhere_gets_what_waited_once_and_in_order() {
    let seed = || ptn_core::sign::Hotkey::from_seed([9; 32]);
    let start = async || {
        let mut options = ValidatorOptions::default();
        options.hotkey = seed();
        LoopbackValidator::start(options).await.unwrap()
    };
    let before = start().await;
    let home = Home::new(&[]);
    let chain = node(&before, &home.hotkey).await;
    let waits = vec!["300ms"; 60].join(",");
    let flags = [SERVE[0], SERVE[1], "--delivery.waits", &waits];
    let mut miner = home.chain_miner(MINER, &chain.url(), &flags);
    let (server, _) = listening(&mut miner).await;
    let (status, _) = submit_order(&server, &order("one", "BTCUSDC")).await;
    assert_eq!((status, processed(&before)), (200, vec!["one".to_owned()]));
    before.shutdown().await;
    for id in ["two", "three"] {
        assert_eq!(receive_signal(&server, &order(id, "BTCUSDC")).await.0, 200);
    }
    miner.line(|l| l["code"] == "connect" && l["uuid"] == "two").await;
    let after = start().await;
    chain.move_axon(NETUID, after.hotkey(), Some(after.address()));
    tokio::time::timeout(Duration::from_secs(30), after.wait_for(2)).await.unwrap();
    home.wait_for("processed_signals", 3).await;
    assert_eq!(processed(&after), ["two", "three"]);
}
