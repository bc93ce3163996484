//! Starting: registered or not, with the chain up, down and slow, with and without a saved list.

use std::time::Duration;

use ptn_core::chain::mock::Fault;
use ptn_tests::http::{receive_signal, submit_order};
use ptn_tests::process::Home;
use serde_json::json;

use crate::{
    MINER, NETUID, SERVE, delivering, free_port, get, health, listening, nobody, node, order, port,
    processed, subnet, validator,
};

#[tokio::test]
async fn a_registered_hotkey_delivers_to_whom_the_chain_names() {
    let (a, b) = (validator().await, validator().await);
    let home = Home::new(&[]);
    let axons = [(a.hotkey(), a.address()), (b.hotkey(), b.address())];
    let node = subnet(&axons, &[&home.hotkey]).start().await.unwrap();
    let monitor = free_port();
    let flags = [SERVE[0], SERVE[1], "--netuid", "8", "--axon.port", &monitor];
    let mut miner = home.chain_miner(MINER, &node.url(), &flags);
    let (server, monitor) = listening(&mut miner).await;
    let (status, answer) = submit_order(&server, &order("c-1", "BTCUSDC")).await;
    assert_eq!((status, &answer["success"]), (200, &json!(true)), "{answer}");
    for v in [&a, &b] {
        assert_eq!(processed(v), ["c-1"]);
    }
    delivering(&mut miner).await;

    let health = health(&monitor, |h| h["status"] == "healthy").await;
    let chain = &health["chain"];
    assert_eq!(chain["endpoint"], json!(node.url()), "{health}");
    assert_eq!((&chain["uid"], &chain["registered"]), (&json!(2), &json!(true)));
    assert_eq!((&chain["netuid"], &chain["members"]), (&json!(8), &json!(3)));
    assert!(chain["block"].as_u64().unwrap() >= 100 && chain["age_s"].as_u64().unwrap() < 60);
    assert_eq!(health["targets"].as_array().unwrap().len(), 2);
    let metrics = get(&monitor, "/metrics").await;
    let metrics = metrics.as_str().unwrap();
    for line in ["ptn_hotkey_registered 1", "ptn_chain_failing 0", "ptn_chain_block 1"] {
        assert!(metrics.lines().any(|l| l.starts_with(line)), "{line} in\n{metrics}");
    }
    miner.signal("-INT");
    let (status, log) = miner.end().await;
    assert!(status.success(), "{log}");
    assert!(home.data().join(".ptn/metagraph-8.json").exists());
}

#[tokio::test]
async fn a_hotkey_that_is_not_registered_stops_with_how_to_register() {
    let v = validator().await;
    let home = Home::new(&[]);
    let node = subnet(&[(v.hotkey(), v.address())], &[]).start().await.unwrap();
    // What waits is not signed by the wrong hotkey meanwhile.
    let waiting = home.data().join("received_signals/waits");
    std::fs::create_dir_all(waiting.parent().unwrap()).unwrap();
    std::fs::write(&waiting, order("waits", "BTCUSDC")).unwrap();
    let (status, said) = home.chain_miner(MINER, &node.url(), &SERVE).end().await;
    assert_eq!(status.code(), Some(3), "{said}");
    assert!(waiting.exists(), "{said}");
    let command = "ptn-cli subnet register --netuid 8 --subtensor.network local --wallet.name miner \
                   --wallet.hotkey default";
    for part in [home.hotkey.as_str(), "not registered on subnet 8 of local", command] {
        assert!(said.contains(part), "{part} in\n{said}");
    }
    assert_eq!(v.count(), 0);
}

#[tokio::test]
async fn without_chain_and_saved_list_every_node_is_named_with_its_reason() {
    let home = Home::new(&[]);
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (dead, closing) = (nobody(), silent.local_addr().unwrap());
    // Takes the connection and closes it at once.
    let closes = tokio::spawn(async move { while silent.accept().await.is_ok() {} });
    let nodes = format!("ws://{dead},ws://{closing}");
    let (status, said) = home.chain_miner(MINER, &nodes, &SERVE).end().await;
    assert_eq!(status.code(), Some(4), "{said}");
    let saved = home.data().join(".ptn/metagraph-8.json");
    let parts = [
        format!("ws://{dead} cannot be reached"),
        format!("ws://{closing}"),
        saved.display().to_string(),
        "--subtensor.chain_endpoint".to_owned(),
        "--validators".to_owned(),
    ];
    for part in &parts {
        assert!(said.contains(part), "{part} in\n{said}");
    }
    closes.abort();
}

#[tokio::test]
async fn a_chain_that_is_down_is_no_reason_not_to_deliver() {
    let v = validator().await;
    let home = Home::new(&[]);
    let chain = node(&v, &home.hotkey).await;
    let url = chain.url();
    let mut miner = home.chain_miner(MINER, &url, &[]);
    delivering(&mut miner).await;
    miner.kill().await;
    chain.shutdown().await;

    let monitor = free_port();
    let flags = [SERVE[0], SERVE[1], "--axon.port", &monitor];
    let mut miner = home.chain_miner(MINER, &url, &flags);
    let (server, monitor) = listening(&mut miner).await;
    let saved = miner.line(|l| l["message"].as_str().is_some_and(|m| m.contains("saved"))).await;
    assert_eq!(saved["level"], "WARN");
    assert!(saved["minutes"].is_u64() && saved["block"].is_u64(), "{saved}");
    let (status, answer) = submit_order(&server, &order("down-1", "BTCUSDC")).await;
    assert_eq!((status, &answer["success"]), (200, &json!(true)), "{answer}");
    let said = health(&monitor, |h| h["chain"]["error"].is_string()).await;
    assert_eq!(said["chain"]["from_disk"], json!(true), "{said}");
    assert_eq!(said["status"], "healthy", "deliveries go on: {said}");

    // It keeps trying.
    let builder = subnet(&[(v.hotkey(), v.address())], &[&home.hotkey]);
    let chain = builder.port(port(&url)).start().await.unwrap();
    health(&monitor, |h| h["chain"]["from_disk"] == json!(false)).await;
    chain.shutdown().await;
}

#[tokio::test]
async fn a_chain_that_does_not_answer_delays_nothing_for_long_when_there_is_a_saved_list() {
    let v = validator().await;
    let home = Home::new(&[]);
    let chain = node(&v, &home.hotkey).await;
    let mut miner = home.chain_miner(MINER, &chain.url(), &[]);
    delivering(&mut miner).await;
    miner.kill().await;
    chain.set_faults([Fault::Stall]);
    let mut miner = home.chain_miner(MINER, &chain.url(), &SERVE);
    let (server, _) = listening(&mut miner).await;
    let before = std::time::Instant::now();
    let (status, answer) = submit_order(&server, &order("stall-1", "BTCUSDC")).await;
    assert_eq!((status, &answer["success"]), (200, &json!(true)), "{answer}");
    // Five seconds of patience; one node alone would take twenty.
    assert!(before.elapsed() < Duration::from_secs(15), "{:?}", before.elapsed());
}

#[tokio::test]
async fn signals_wait_while_the_list_loads_and_none_fails_for_want_of_validators() {
    let v = validator().await;
    let home = Home::new(&[]);
    let chain = node(&v, &home.hotkey).await;
    chain.set_faults([Fault::Stall]);
    let mut miner = home.chain_miner(MINER, &chain.url(), &[SERVE[0], SERVE[1], "--limits", "off"]);
    let (server, _) = listening(&mut miner).await;
    let ids: Vec<String> = (0..50).map(|i| format!("burst-{i:02}")).collect();
    for id in &ids {
        let (status, answer) = receive_signal(&server, &order(id, "BTCUSDC")).await;
        assert_eq!(status, 200, "{answer}");
    }
    home.wait_for("received_signals", ids.len()).await;
    assert_eq!(v.count(), 0);
    // The stalled connection is given up and the question asked anew.
    chain.set_faults(Vec::<Fault>::new());
    chain.drop_connections();
    home.wait_for("processed_signals", ids.len()).await;
    assert_eq!(processed(&v), ids, "each once and in order");
    assert!(home.names("failed_signals").is_empty());
}

#[tokio::test]
async fn a_stop_while_the_list_loads_ends_properly_and_keeps_everything() {
    let v = validator().await;
    let home = Home::new(&[]);
    let chain = node(&v, &home.hotkey).await;
    chain.set_faults([Fault::Stall]);
    let mut miner = home.chain_miner(MINER, &chain.url(), &SERVE);
    let (server, _) = listening(&mut miner).await;
    assert_eq!(receive_signal(&server, &order("kept", "BTCUSDC")).await.0, 200);
    miner.signal("-TERM");
    let (status, log) = miner.end().await;
    assert!(status.success(), "{log}");
    assert_eq!(home.names("received_signals"), ["kept"]);
    chain.set_faults(Vec::<Fault>::new());
    let mut miner = home.chain_miner(MINER, &chain.url(), &[]);
    delivering(&mut miner).await;
    assert_eq!(home.wait_for("processed_signals", 1).await, ["kept"]);
}

#[tokio::test]
async fn with_a_list_by_hand_nothing_of_the_chain_is_touched() {
    let v = validator().await;
    let home = Home::new(&[v.entry(ptn_core::directory::Wire::Btauth)]);
    let node = node(&v, &home.hotkey).await;
    let url = node.url();
    let flags = [SERVE[0], SERVE[1], "--subtensor.chain_endpoint", &url];
    let mut miner = home.miner(MINER, &flags);
    let server = miner.up().await["server"].as_str().unwrap().to_owned();
    let (status, answer) = submit_order(&server, &order("hand", "BTCUSDC")).await;
    assert_eq!((status, &answer["success"]), (200, &json!(true)), "{answer}");
    assert_eq!(node.connections(), 0);
    assert!(!home.data().join(format!(".ptn/metagraph-{NETUID}.json")).exists());
}

#[tokio::test]
async fn mistakes_in_the_settings_of_the_chain_say_what_is_allowed() {
    let home = Home::new(&[]);
    let url = format!("ws://{}", nobody());
    for (flags, parts) in [
        (&["--subtensor.network", "mainnet"][..], &["--subtensor.network", "finney, test"][..]),
        (&["--subtensor.network", "test"], &["netuid", "on finney", "add --netuid 116"]),
        (&["--subtensor.network", "test", "--netuid", "9"], &["--netuid", "116, 171"]),
        (
            &["--subtensor.network", "finney", "--netuid", "171"],
            &["--netuid", "add --subtensor.network test"],
        ),
        (
            &["--subtensor.network", "finney", "--netuid", "9"],
            &["--netuid", "allowed on finney: 8"],
        ),
        (&["--subtensor.refresh", "1ms"], &["--subtensor.refresh", "at least 1s"]),
        (&["--delivery.wire", "smoke"], &["--delivery.wire", "btauth, dendrite"]),
        (&["--delivery.wire-for", "5x=btauth"], &["--delivery.wire-for", "5x"]),
    ] {
        let (status, said) = home.chain_miner(MINER, &url, flags).end().await;
        assert_eq!(status.code(), Some(2), "{said}");
        assert!(parts.iter().all(|part| said.contains(part)), "{parts:?} in {said}");
    }
    let (status, said) = home.chain_miner(MINER, "http://127.0.0.1:1", &[]).end().await;
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.contains("wss:// or ws://"), "{said}");
}

#[tokio::test]
async fn a_node_of_another_chain_is_refused() {
    let v = validator().await;
    let home = Home::new(&[]);
    let node = node(&v, &home.hotkey).await;
    let (status, said) =
        home.chain_miner(MINER, &node.url(), &["--subtensor.network", "finney"]).end().await;
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.contains("another chain") && said.contains("--subtensor.network local"), "{said}");
}
