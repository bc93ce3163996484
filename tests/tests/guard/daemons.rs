//! The guard in the real binaries: in one process and apart, over a restart.

use ptn_core::directory::Wire;
use ptn_core::validator::{LoopbackValidator, ValidatorOptions};
use ptn_tests::http::{receive_signal, request, submit_order};
use ptn_tests::process::Home;
use serde_json::{Value, json};

const MINER: &str = env!("CARGO_BIN_EXE_ptn-miner-under-test");
const SERVER: &str = env!("CARGO_BIN_EXE_ptn-server-under-test");
const REFUSE: [&str; 4] = ["--guard", "refuse", "--guard.halted", "ETHUSDC"];
const SERVE: [&str; 2] = ["--server.listen", "127.0.0.1:0"];

async fn validator() -> LoopbackValidator {
    LoopbackValidator::start(ValidatorOptions::default()).await.unwrap()
}

fn order(uuid: &str, pair: &str, side: &str, leverage: f64) -> String {
    let leverage = json!(leverage);
    json!({"trade_pair": pair, "order_type": side, "leverage": leverage, "order_uuid": uuid})
        .to_string()
}

async fn check(address: &str, order: &str) -> Value {
    let headers = [("authorization", "test-key"), ("content-type", "application/json")];
    let (status, body) =
        request(address, hyper::Method::POST, "/api/check-order", &headers, order).await;
    assert_eq!(status, 200, "{body}");
    body["guard"].clone()
}

#[tokio::test]
async fn by_default_the_miner_warns_and_delivers() {
    let v = validator().await;
    let home = Home::new(&[v.entry(Wire::Btauth)]);
    let mut miner = home.miner(MINER, &["--guard.halted", "ETHUSDC", SERVE[0], SERVE[1]]);
    let up = miner.up().await;
    assert_eq!(up["guard"], "warn", "{up}");
    let address = up["server"].as_str().unwrap().to_owned();
    let (status, answer) = submit_order(&address, &order("e", "ETHUSDC", "LONG", 0.1)).await;
    assert_eq!((status, &answer["guard"]["verdict"]), (200, &json!("refused")), "{answer}");
    let warning = miner.line(|l| l["codes"] == "pair_halted").await;
    assert_eq!((&warning["uuid"], &warning["pair"]), (&json!("e"), &json!("ETHUSDC")));
    let said = warning["message"].as_str().unwrap();
    assert!(said.contains("temporarily halted") && !said.contains(".;"), "{said}");
    assert!(said.contains("do not send it again before you have looked"), "{said}");
}

#[tokio::test]
async fn refuse_keeps_out_what_comes_by_http_and_denies_files_on_the_record() {
    let v = validator().await;
    let home = Home::new(&[v.entry(Wire::Btauth)]);
    let mut miner = home.miner(MINER, &[&REFUSE[..], &SERVE[..]].concat());
    let address = miner.up().await["server"].as_str().unwrap().to_owned();
    // Until the history is read a verdict blocks nothing.
    while check(&address, &order("x", "ETHUSDC", "LONG", 0.1)).await["blocked"] != true {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let (status, answer) = submit_order(&address, &order("e", "ETHUSDC", "LONG", 0.1)).await;
    assert_eq!((status, &answer["code"]), (400, &json!("guard_refused")), "{answer}");
    let (status, answer) = receive_signal(&address, &order("e", "ETHUSDC", "LONG", 0.1)).await;
    assert_eq!((status, &answer["code"]), (400, &json!("guard_refused")), "{answer}");
    for folder in ["received_signals", "processed_signals", "failed_signals"] {
        assert_eq!(home.names(folder), [""; 0], "{folder}");
    }
    let (status, _) = submit_order(&address, &order("flat", "ETHUSDC", "FLAT", 0.1)).await;
    assert_eq!(status, 200);

    let drop_file = |name: &str, pair: &str| {
        let text = format!(r#"{{"trade_pair": "{pair}", "order_type": "LONG", "leverage": 0.1}}"#);
        std::fs::write(home.data().join("received_signals").join(name), text).unwrap();
    };
    drop_file("halted", "ETHUSDC");
    drop_file("fine", "BTCUSDC");
    assert_eq!(home.wait_for("failed_signals", 1).await, ["halted"]);
    assert_eq!(home.wait_for("processed_signals", 2).await, ["fine", "flat"]);
    let text = std::fs::read_to_string(home.data().join("failed_signals/halted")).unwrap();
    for part in ["denied", "guard_refused", "temporarily halted", "ptn-cli signals retry halted"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let mut seen: Vec<String> = v.received().iter().map(|r| r.order_uuid.clone()).collect();
    seen.sort();
    assert_eq!(seen, ["fine", "flat"]);
}

#[tokio::test]
async fn what_was_acknowledged_is_known_to_a_server_apart_and_after_a_restart() {
    let v = validator().await;
    let home = Home::new(&[v.entry(Wire::Btauth)]);
    let mut server = home.server(SERVER, &[]);
    let address = server.up().await["address"].as_str().unwrap().to_owned();
    let mut miner = home.miner(MINER, &["--guard.prices", "push", SERVE[0], SERVE[1]]);
    let with_miner = miner.up().await["server"].as_str().unwrap().to_owned();
    let price = r#"{"trade_pair":"BTCUSDC","price":100000}"#;
    let headers = [("authorization", "test-key"), ("content-type", "application/json")];
    let (status, taken) =
        request(&with_miner, hyper::Method::POST, "/api/prices", &headers, price).await;
    assert_eq!((status, &taken["taken"]), (200, &json!(1)), "{taken}");
    let (status, _) = submit_order(&address, &order("a", "BTCUSDC", "LONG", 0.9)).await;
    assert_eq!(status, 200);

    // Of the store the server learns a moment later; what closes is known by both.
    let closes = |address: String| async move {
        // While the first order is under way, whatever is opposite to it may close.
        for _ in 0..500 {
            let closing = check(&address, &order("c", "BTCUSDC", "SHORT", 0.5)).await;
            let more = check(&address, &order("m", "BTCUSDC", "LONG", 0.5)).await;
            let concerns = more["concerns"].as_array().unwrap();
            if closing["closes"] == true && concerns.iter().any(|c| c["code"] == "clamped") {
                return true;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        false
    };
    assert!(closes(address.clone()).await, "the server apart");
    assert!(closes(with_miner).await, "the miner's own server");

    miner.signal("-INT");
    let (status, log) = miner.end().await;
    assert!(status.success(), "{log}");
    let file = home.data().join(".ptn/guard.json");
    let kept: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(kept["booked"], json!(["a"]));

    for damage in [None, Some("{\"format\":1,")] {
        if let Some(text) = damage {
            std::fs::write(&file, text).unwrap();
        }
        let mut again = home.miner(MINER, &SERVE);
        let up = again.up().await["server"].as_str().unwrap().to_owned();
        assert!(closes(up.clone()).await, "after a restart, {damage:?}");
        let more = check(&up, &order("m", "BTCUSDC", "LONG", 0.5)).await;
        // The price of the fill was pushed; only the file remembers it.
        let estimated = more["drawdown"][0]["estimated"].as_bool().unwrap();
        assert_eq!(estimated, damage.is_some(), "{more}");
        again.signal("-INT");
        let (status, log) = again.end().await;
        assert!(status.success(), "{log}");
        assert_eq!(log.contains("the risk guard's file is left aside"), damage.is_some(), "{log}");
    }
}

#[tokio::test]
async fn nothing_that_worked_before_stops_by_default() {
    let v = validator().await;
    let home = Home::new(&[v.entry(Wire::Btauth)]);
    // A rules file without what only positions need.
    let mut rules: Value =
        serde_json::from_str(include_str!("../../../ptn-core/data/rules_2026.json")).unwrap();
    rules.as_object_mut().unwrap().remove("slippage");
    let file = home.path("rules.json");
    std::fs::write(&file, rules.to_string()).unwrap();
    let flags = ["--rules.file", file.to_str().unwrap()];
    let mut miner = home.miner(MINER, &[&flags[..], &SERVE[..]].concat());
    let address = miner.line(|l| l["message"] == "delivering").await;
    let address = address["server"].as_str().unwrap().to_owned();
    let (status, answer) = submit_order(&address, &order("a", "BTCUSDC", "LONG", 0.1)).await;
    assert_eq!((status, answer.get("guard")), (200, None), "{answer}");
    miner.signal("-INT");
    let (_, log) = miner.end().await;
    assert!(log.contains("no risk guard: "), "{log}");
    // Whoever asks for it is told.
    let (status, log) = home.miner(MINER, &[&flags[..], &["--guard", "warn"]].concat()).end().await;
    assert_eq!(status.code(), Some(2), "{log}");
    // 2025 has no positions here.
    let mut miner = home.miner(MINER, &["--rules", "2025", "--delivery.waits", "20ms"]);
    assert_eq!(miner.up().await["guard"], "off");
}
