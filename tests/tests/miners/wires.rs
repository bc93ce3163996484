//! Which protocol validators from the chain are addressed with.

use ptn_core::directory::Wire;
use ptn_core::validator::{LoopbackValidator, ValidatorOptions};
use ptn_tests::http::submit_order;
use ptn_tests::process::Home;
use serde_json::json;

use crate::{MINER, SERVE, listening, node, order, processed, subnet};

async fn speaking(wire: Wire) -> LoopbackValidator {
    let mut options = ValidatorOptions::default();
    options.wire = Some(wire);
    LoopbackValidator::start(options).await.unwrap()
}

#[tokio::test]
async fn the_other_wire_is_recognised_named_and_never_spoken() {
    for (speaks, flags) in
        [(Wire::Dendrite, &[][..]), (Wire::Btauth, &["--delivery.wire", "dendrite"])]
    {
        let v = speaking(speaks).await;
        let home = Home::new(&[]);
        let node = node(&v, &home.hotkey).await;
        // Somebody else might have answered, so it is tried as often as one that is not reached.
        let waits = ["--delivery.waits", "20ms,20ms"];
        let mut miner = home.chain_miner(MINER, &node.url(), &[&SERVE, &waits, flags].concat());
        let (server, _) = listening(&mut miner).await;
        let (_, answer) = submit_order(&server, &order("other", "BTCUSDC")).await;
        assert_eq!(answer["success"], json!(false), "{answer}");
        let said = answer.to_string();
        let way = format!("--delivery.wire-for {}={}", v.hotkey(), speaks.as_str());
        for part in [format!("it speaks {}", speaks.as_str()), way] {
            assert!(said.contains(&part), "{part} in {said}");
        }
        assert_eq!(home.wait_for("failed_signals", 1).await, ["other"]);
        assert!(processed(&v).is_empty());
    }
}

#[tokio::test]
async fn the_wire_is_set_for_all_and_for_single_ones_by_flag_and_file() {
    let (new, old) = (speaking(Wire::Btauth).await, speaking(Wire::Dendrite).await);
    let home = Home::new(&[]);
    let axons = [(new.hotkey(), new.address()), (old.hotkey(), old.address())];
    let node = subnet(&axons, &[&home.hotkey]).start().await.unwrap();
    let single = format!("{}=dendrite", old.hotkey());
    let also = format!("{}=btauth", new.hotkey());
    let file = home.path("ptn.toml");
    let table = format!(
        "[delivery]\nwire = \"dendrite\"\n[delivery.wire_for]\n{} = \"btauth\"\n",
        new.hotkey()
    );
    std::fs::write(&file, table).unwrap();
    let by_file = ["--config", file.to_str().unwrap()];
    let by_flag = ["--delivery.wire-for", &single, "--delivery.wire-for", &also];
    for (n, flags) in [&by_flag[..], &by_file].into_iter().enumerate() {
        let mut miner = home.chain_miner(MINER, &node.url(), &[&SERVE, flags].concat());
        let (server, _) = listening(&mut miner).await;
        let (status, answer) = submit_order(&server, &order(&format!("w-{n}"), "BTCUSDC")).await;
        assert_eq!((status, &answer["success"]), (200, &json!(true)), "{answer}");
        miner.kill().await;
    }
    for v in [&new, &old] {
        assert_eq!(processed(v), ["w-0", "w-1"]);
    }
}
