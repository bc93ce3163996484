//! Several miners on one machine, and how they are kept from each other's things.

use ptn_core::directory::Wire;
use ptn_tests::http::submit_order;
use ptn_tests::process::{Daemon, Home};
use serde_json::json;

use crate::{
    MINER, SERVE, delivering, free_port, health, listening, order, processed, subnet, validator,
};

/// One miner of several: its own hotkey, data directory and ports.
fn one(home: &Home, node: &str, hotkey: &str, port: &str) -> Daemon {
    let data = home.path(&format!("mining-{hotkey}"));
    std::fs::create_dir_all(&data).unwrap();
    std::fs::copy(home.data().join("miner_secrets.json"), data.join("miner_secrets.json")).unwrap();
    let data = data.to_str().unwrap();
    let own = ["--wallet.hotkey", hotkey, "--data-dir", data, "--axon.port", port];
    home.chain_miner(MINER, node, &[&SERVE[..], &own].concat())
}

#[tokio::test]
async fn three_miners_deliver_side_by_side() {
    let v = validator().await;
    let home = Home::new(&[]);
    let names = ["alpha", "beta", "gamma"];
    let hotkeys = names.map(|name| home.add_hotkey(name));
    let registered: Vec<&str> = hotkeys.iter().map(String::as_str).collect();
    let node = subnet(&[(v.hotkey(), v.address())], &registered).start().await.unwrap();
    let mut miners = Vec::new();
    for name in names {
        miners.push(one(&home, &node.url(), name, &free_port()));
    }
    for (i, miner) in miners.iter_mut().enumerate() {
        let (server, monitor) = listening(miner).await;
        let id = format!("from-{}", names[i]);
        let (status, answer) = submit_order(&server, &order(&id, "BTCUSDC")).await;
        assert_eq!((status, &answer["success"]), (200, &json!(true)), "{answer}");
        let health = health(&monitor, |h| h["status"] == "healthy").await;
        assert_eq!(
            (&health["hotkey"], &health["chain"]["uid"]),
            (&json!(hotkeys[i]), &json!(i + 1))
        );
        let sender = v.received().iter().find(|r| r.order_uuid == id).unwrap().sender.clone();
        assert_eq!(sender, hotkeys[i], "each signs with its own key");
    }
    assert_eq!(processed(&v).len(), 3);
}

#[tokio::test]
async fn every_clash_says_what_is_taken_and_by_whom() {
    let v = validator().await;
    let home = Home::new(&[v.entry(Wire::Btauth)]);
    let second = home.add_hotkey("second");
    let axons = [(v.hotkey(), v.address())];
    let node = subnet(&axons, &[&home.hotkey, &second]).start().await.unwrap();
    let (url, port) = (node.url(), free_port());
    let mut first = home.chain_miner(MINER, &url, &["--axon.port", &port]);
    delivering(&mut first).await;
    let holder = format!("pid {}", first.pid());
    let other = home.path("other");
    std::fs::create_dir_all(&other).unwrap();
    let other = other.to_str().unwrap();

    // The same hotkey and subnet, from another data directory.
    let again = ["--data-dir", other];
    let named = |said: &str| {
        for part in [holder.as_str(), &home.hotkey, "netuid 8", "--wallet.hotkey"] {
            assert!(said.contains(part), "{part} in\n{said}");
        }
    };
    let (status, said) = home.chain_miner(MINER, &url, &again).end().await;
    assert_eq!(status.code(), Some(75), "{said}");
    named(&said);
    // With a list by hand, on a network of one's own, it is a warning.
    let mut by_hand = home.miner(MINER, &again);
    delivering(&mut by_hand).await;
    by_hand.signal("-TERM");
    let (status, said) = by_hand.end().await;
    assert_eq!(status.code(), Some(0), "{said}");
    named(&said);
    // The same data directory.
    let flags = ["--wallet.hotkey", "second"];
    let (status, said) = home.chain_miner(MINER, &url, &flags).end().await;
    assert_eq!(status.code(), Some(75), "{said}");
    assert!(said.contains(&holder) && said.contains("--data-dir"), "{said}");
    // The same port.
    let flags = ["--wallet.hotkey", "second", "--data-dir", other, "--axon.port", &port];
    let (status, said) = home.chain_miner(MINER, &url, &flags).end().await;
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("--axon.port") && said.contains(&port), "{said}");
    // Another subnet is another matter: no clash, it is only not registered there.
    let flags = ["--data-dir", other, "--netuid", "116"];
    let (status, said) = home.chain_miner(MINER, &url, &flags).end().await;
    assert!(status.code() != Some(75), "{said}");

    // The kernel frees the hotkey, however the first one dies.
    first.kill().await;
    let mut next = home.chain_miner(MINER, &url, &again);
    delivering(&mut next).await;
}
