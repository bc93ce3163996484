//! The real binaries end to end: in one process and apart, killed and restarted.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::time::Duration;

use ptn_core::directory::Wire;
use ptn_core::validator::{Fault, LoopbackValidator, ValidatorOptions, Verdict};
use ptn_core::wallet::{Key, Password, Place, Replace};
use ptn_tests::http::{receive_signal, request, submit_order};
use ptn_tests::process::Home;
use serde_json::{Value, json};

const MINER: &str = env!("CARGO_BIN_EXE_ptn-miner-under-test");
const SERVER: &str = env!("CARGO_BIN_EXE_ptn-server-under-test");

async fn validator() -> LoopbackValidator {
    LoopbackValidator::start(ValidatorOptions::default()).await.unwrap()
}

fn order(uuid: &str, pair: &str) -> String {
    json!({"trade_pair": pair, "order_type": "long", "leverage": "0.1", "order_uuid": uuid})
        .to_string()
}

fn processed(v: &LoopbackValidator) -> Vec<String> {
    let accepted = v.received().into_iter().filter(|r| r.verdict == Verdict::Accepted);
    accepted.map(|r| r.order_uuid.clone()).collect()
}

#[tokio::test]
async fn one_process_receives_and_delivers_on_both_wires() {
    let (a, b) = (validator().await, validator().await);
    let home = Home::new(&[a.entry(Wire::Btauth), b.entry(Wire::Dendrite)]);
    let mut miner = home.miner(MINER, &["--server.listen", "127.0.0.1:0"]);
    let address = miner.up().await["server"].as_str().unwrap().to_owned();

    let (status, answer) = receive_signal(&address, &order("tv-1", "BTCUSDC")).await;
    assert_eq!((status, &answer["order_uuid"]), (200, &json!("tv-1")), "{answer}");
    let (status, answer) = submit_order(&address, &order("bot-1", "BTCUSDC")).await;
    assert_eq!((status, &answer["success"]), (200, &json!(true)), "{answer}");
    assert_eq!(home.wait_for("processed_signals", 2).await, ["bot-1", "tv-1"]);
    home.wait_for("received_signals", 0).await;
    for v in [&a, &b] {
        assert_eq!(processed(v), ["tv-1", "bot-1"], "in order of arrival");
        assert!(v.received().iter().all(|r| r.sender == home.hotkey));
    }
    let text = std::fs::read_to_string(home.data().join("processed_signals/tv-1")).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    for key in ["signal_data", "created_orders", "processing_timestamp", "retry_attempts"] {
        assert!(!file[key].is_null(), "{key} in {text}");
    }
    miner.signal("-INT");
    let (status, log) = miner.end().await;
    assert!(status.success(), "{log}");
    assert!(!log.contains("test-key"), "the key is in the log:\n{log}");
}

#[tokio::test]
async fn an_encrypted_hotkey_is_opened_with_its_password_and_named_without_it() {
    let v = validator().await;
    let home = Home::new(&[v.entry(Wire::Btauth)]);
    let place = Place::new(home.path("wallets"), "miner", "default").unwrap();
    let key = Key::generate(12).unwrap();
    let password = Password::new("correct horse").unwrap();
    place.save_hotkey(&key, Some(&password), Replace::WithBackup).unwrap();

    let locked = home.miner(MINER, &[]);
    let (status, log) = locked.end().await;
    assert_eq!(status.code(), Some(2), "{log}");
    for part in ["encrypted", "--password-file", "PTN_WALLET_PASSWORD", "BT_PW_"] {
        assert!(log.contains(part), "{part}: {log}");
    }

    let file = home.path("password");
    std::fs::write(&file, "correct horse\n").unwrap();
    let mut miner = home.miner(MINER, &["--password-file", file.to_str().unwrap()]);
    let up = miner.up().await;
    assert!(up.to_string().contains(key.address()), "{up}");
    miner.signal("-INT");
    let (status, log) = miner.end().await;
    assert!(status.success() && !log.contains("correct horse"), "{log}");
}

#[tokio::test]
async fn server_and_miner_apart_work_over_the_same_folder() {
    let v = validator().await;
    let home = Home::new(&[v.entry(Wire::Btauth)]);
    let mut server = home.server(SERVER, &[]);
    let address = server.up().await["address"].as_str().unwrap().to_owned();
    // Accepted while nobody delivers yet.
    let (status, _) = receive_signal(&address, &order("early", "BTCUSDC")).await;
    assert_eq!(status, 200);
    let mut miner = home.miner(MINER, &[]);
    miner.up().await;
    let (status, answer) = submit_order(&address, &order("late", "BTCUSDC")).await;
    assert_eq!((status, &answer["success"]), (200, &json!(true)), "{answer}");
    assert_eq!(processed(&v), ["early", "late"]);
    let headers = [("authorization", "test-key")];
    let path = "/api/order-status/late";
    let get = request(&address, hyper::Method::GET, path, &headers, "").await;
    assert_eq!((get.0, &get.1["status"]), (200, &json!("completed")), "{}", get.1);
}

#[tokio::test]
async fn a_refusal_reaches_the_caller_with_the_validators_words() {
    let v = validator().await;
    let said = "No buying power remaining for BTCUSDC (capped by portfolio)";
    v.fail_first(1, said, true);
    let home = Home::new(&[v.entry(Wire::Btauth)]);
    let mut miner = home.miner(MINER, &["--server.listen", "127.0.0.1:0"]);
    let address = miner.up().await["server"].as_str().unwrap().to_owned();
    let (status, answer) = submit_order(&address, &order("x", "BTCUSDC")).await;
    assert_eq!((status, &answer["success"]), (400, &json!(false)), "{answer}");
    assert!(answer["message"].as_str().unwrap().contains(said), "{answer}");
    assert_eq!(home.wait_for("failed_signals", 1).await, ["x"]);
    let text = std::fs::read_to_string(home.data().join("failed_signals/x")).unwrap();
    let inner: String = serde_json::from_str(&text).unwrap();
    let file: Value = serde_json::from_str(&inner).unwrap();
    for key in ["original_signal", "validators_needing_retry", "error_messages_dict"] {
        assert!(!file[key].is_null(), "{key} in {text}");
    }
}

#[tokio::test]
async fn a_killed_miner_continues_without_losing_or_doubling_anything() {
    let (a, b) = (validator().await, validator().await);
    b.set_faults([Fault::Delay { ms: 5 }]);
    let home = Home::new(&[a.entry(Wire::Btauth), b.entry(Wire::Dendrite)]);
    let mut server = home.server(SERVER, &["--limits", "off"]);
    let address = server.up().await["address"].as_str().unwrap().to_owned();
    let ids: Vec<String> = (0..60).map(|i| format!("k-{i:02}")).collect();
    let mut miner = home.miner(MINER, &[]);
    miner.up().await;
    for (i, id) in ids.iter().enumerate() {
        let (status, answer) = receive_signal(&address, &order(id, "BTCUSDC")).await;
        assert_eq!(status, 200, "{answer}");
        if i % 15 == 7 {
            miner.kill().await;
            miner = home.miner(MINER, &[]);
            miner.up().await;
        }
    }
    home.wait_for("processed_signals", ids.len()).await;
    for v in [&a, &b] {
        assert_eq!(processed(v), ids, "each once and in order");
    }
    assert!(home.names("failed_signals").is_empty());
}

#[tokio::test]
async fn files_that_scripts_drop_are_delivered() {
    let v = validator().await;
    let home = Home::new(&[v.entry(Wire::Dendrite)]);
    let mut miner = home.miner(MINER, &["--rules", "2024"]);
    miner.up().await;
    let python = r#"{
    "trade_pair": {
        "trade_pair_id": "BTCUSD",
        "trade_pair": "BTC/USD",
        "fees": 0.002,
        "min_leverage": 0.001,
        "max_leverage": 20,
        "trade_pair_category": "crypto"
    },
    "order_type": "SHORT",
    "leverage": -0.5
}"#;
    std::fs::write(home.data().join("received_signals/dropped-1"), python).unwrap();
    assert_eq!(home.wait_for("processed_signals", 1).await, ["dropped-1"]);
    let received = v.received();
    assert_eq!(received.len(), 1);
    let signal = received[0].signal.as_ref().unwrap().to_string();
    assert!(
        signal.contains(r#""leverage":-0.5"#) && signal.contains(r#""fees":0.002"#),
        "{signal}"
    );
}

#[tokio::test]
async fn a_second_miner_on_the_same_folder_is_refused_and_takes_over_later() {
    let v = validator().await;
    let home = Home::new(&[v.entry(Wire::Btauth)]);
    let mut first = home.miner(MINER, &[]);
    first.up().await;
    let (status, said) = home.miner(MINER, &[]).end().await;
    assert_eq!(status.code(), Some(75), "{said}");
    assert!(
        said.contains(&format!("pid {}", first.pid())) && said.contains("--data-dir"),
        "{said}"
    );
    first.kill().await;
    home.miner(MINER, &[]).up().await;
}

#[tokio::test]
async fn mistakes_in_the_settings_say_what_where_and_what_to_do() {
    let home = Home::new(&[]);
    let (status, said) = home.miner(MINER, &[]).end().await;
    assert_eq!(status.code(), Some(2));
    assert!(said.contains("validators.toml") && said.contains("[[validator]]"), "{said}");
    for (flags, parts) in [
        (&["--delivery.pacing", "maybe"][..], &["--delivery.pacing", "on, off"][..]),
        (
            &["--wallet.hotkey", "nobody"],
            &["wallets/miner/hotkeys/nobody", "ptn-cli wallet new-hotkey miner/nobody"],
        ),
        (&["--validators", "absent.toml"], &["absent.toml", "docs/operations.md", "--write"]),
        (&["--rules", "1999"], &["2024, 2025, 2026"]),
        (&["--wallet.hotkey", "torn"], &["wallets/miner/hotkeys/torn", "--wallet.hotkey"]),
    ] {
        home.write_hotkey("torn", "{");
        let (status, said) = home.miner(MINER, flags).end().await;
        assert_eq!(status.code(), Some(2), "{said}");
        assert!(parts.iter().all(|part| said.contains(part)), "{said}");
        assert_eq!(said.matches(parts[0]).count(), 1, "said twice: {said}");
    }
    let entry = validator().await.entry(Wire::Btauth);
    home.set_validators(&[entry]);
    let file = home.path("validators.toml");
    let list = std::fs::read_to_string(&file).unwrap();
    for (list, parts) in [
        (list.replace("v_trust", "vtrust"), &["line 1", "vtrust", "v_trust"][..]),
        (list.replace("\"btauth\"", "\"btauht\""), &["btauht", "dendrite"]),
        (list.replace("127.0.0.1", "localhost"), &["IP address"]),
        ("x = [".to_owned(), &["validators.toml", "line 1"]),
    ] {
        std::fs::write(&file, list).unwrap();
        let (status, said) = home.miner(MINER, &[]).end().await;
        assert_eq!(status.code(), Some(2), "{said}");
        assert!(parts.iter().all(|part| said.contains(part)), "{said}");
    }
    std::fs::write(&file, list).unwrap();
    std::fs::remove_file(home.data().join("miner_secrets.json")).unwrap();
    let (status, said) = home.server(SERVER, &[]).end().await;
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("miner_secrets.json") && said.contains("api_key"), "{said}");
}

#[tokio::test]
async fn a_list_with_which_nothing_can_work_is_a_warning_at_the_start() {
    let v = validator().await;
    let home = Home::new(&[v.entry(Wire::Btauth)]);
    let flags = ["--subtensor.network", "finney", "--delivery.policy", "mothership"];
    let mut miner = home.miner(MINER, &flags);
    miner.up().await;
    miner.signal("-INT");
    let (_, log) = miner.end().await;
    for part in
        ["a loopback address", "network local", "is not in the list", "--delivery.mothership"]
    {
        assert!(log.contains(part), "{part} in {log}");
    }
}

#[tokio::test]
async fn a_command_line_of_the_python_miner_works() {
    let v = validator().await;
    let home = Home::new(&[v.entry(Wire::Btauth)]);
    let flags = [
        "--netuid",
        "8",
        "--wallet.hotkey",
        "default",
        "--logging.debug",
        "--start-dashboard",
        "--slack_webhook_url",
        "http://127.0.0.1:9/x",
        "--api-host",
        "127.0.0.1",
        "--api-rest-port",
        "0",
    ];
    let mut miner = home.miner(MINER, &flags);
    let warned = |v: &Value| v["message"].as_str().is_some_and(|m| m.contains("--start-dashboard"));
    miner.line(warned).await;
    let address = miner.up().await["server"].as_str().unwrap().to_owned();
    let (status, answer) = submit_order(&address, &order("p", "BTCUSDC")).await;
    assert_eq!((status, &answer["success"]), (200, &json!(true)), "{answer}");
}

#[tokio::test]
async fn a_stop_lets_attempts_under_way_end() {
    let v = validator().await;
    v.set_faults([Fault::Delay { ms: 700 }]);
    let home = Home::new(&[v.entry(Wire::Btauth)]);
    let mut miner = home.miner(MINER, &["--server.listen", "127.0.0.1:0"]);
    let address = miner.up().await["server"].as_str().unwrap().to_owned();
    let mut arrivals = v.subscribe();
    receive_signal(&address, &order("slow", "BTCUSDC")).await;
    tokio::time::timeout(Duration::from_secs(20), arrivals.recv()).await.unwrap().unwrap();
    miner.signal("-TERM");
    let (status, log) = miner.end().await;
    assert!(status.success(), "{log}");
    assert_eq!(home.wait_for("processed_signals", 1).await, ["slow"]);
}
