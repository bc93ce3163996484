//! Registering around the happy path: interrupted and run again, a node that is lost at the end, the
//! number of another network's subnet.

use std::process::Stdio;
use std::time::Duration;

use ptn_core::chain::Rao;
use ptn_core::chain::mock::{Fault, MockNeuron};
use ptn_core::wallet::{Password, Replace};

use crate::common::{self, command};
use crate::{REGISTER, REGISTER_YES, TAO, World, address, key, place};

/// Waits until a call was handed over.
async fn sent(world: &World) {
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    while world.sent() == 0 {
        assert!(tokio::time::Instant::now() < end, "nothing was sent");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_that_was_interrupted_is_not_sent_a_second_time() {
    let world = World::with(|b| b.block_time(None)).await;
    let url = world.node.url();
    let args = world.args(REGISTER_YES, &url);
    let mut interrupted = command(world.dir.path());
    interrupted.args(&args).stdout(Stdio::null()).stderr(Stdio::null());
    let mut interrupted = interrupted.spawn().unwrap();
    sent(&world).await;
    interrupted.kill().unwrap();
    interrupted.wait().unwrap();

    let again = |words: &str| {
        let (code, document) = world.json(REGISTER_YES);
        let error = &document["error"];
        assert_eq!((code, &error["code"]), (75, &"call_under_way".into()), "{document}");
        assert!(error["message"].as_str().unwrap().contains(words), "{document}");
        assert!(error["hint"].as_str().unwrap().contains("half a minute"), "{document}");
    };
    again("1 call of coldkey");
    // In a block, which is not final.
    world.node.advance(1);
    assert_eq!(world.uid(), Some(3));
    again("uid 3 of subnet 8");
    assert_eq!(world.sent(), 1);
    world.node.advance(3);
    let (code, done) = world.json(REGISTER_YES);
    assert_eq!((code, &done["already"], &done["uid"]), (0, &true.into(), &3.into()), "{done}");
    assert_eq!(world.node.balance(&address(200)), Rao(9 * TAO - 124_000), "paid once");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_registered_during_the_question_is_seen_before_signing() {
    let world = World::new().await;
    let mut terminal = world.terminal(REGISTER);
    terminal.expect("[y/N]");
    world.node.add(8, MockNeuron::new(&address(201), &address(200)));
    terminal.type_line("y");
    let said = terminal.end();
    assert_eq!((said.code, world.sent()), (75, 0), "{said:?}");
    assert!(said.err.contains("uid 3 of subnet 8"), "{said:?}");
    let root = World::with(|b| b.block_time(None).subnet(0, |_| {})).await;
    root.node.add(0, MockNeuron::new(&address(202), &address(200)));
    let mut terminal = root.terminal(&["root", "register"]);
    terminal.expect("[y/N]");
    root.node.add(0, MockNeuron::new(&address(201), &address(200)));
    terminal.type_line("y");
    let said = terminal.end();
    assert_eq!((said.code, root.sent()), (75, 0), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_lost_after_the_end_does_not_undo_what_was_sent() {
    for json in [true, false] {
        let world = World::with(|b| b.block_time(None)).await;
        let url = world.node.url();
        let mut args = world.args(REGISTER_YES, &url);
        if json {
            args.push("--json");
        }
        let mut registering = command(world.dir.path());
        registering.args(&args).stdout(Stdio::piped()).stderr(Stdio::piped());
        let registering = registering.spawn().unwrap();
        sent(&world).await;
        // What comes after the end begins with the last final block.
        world.node.set_faults([Fault::Drop.on("chain_getFinalizedHead")]);
        world.node.advance(4);
        let output = registering.wait_with_output().unwrap();
        assert_eq!(world.uid(), Some(3));
        let (out, err) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert_eq!(output.status.code(), Some(0), "{out} {err}");
        if json {
            let done: serde_json::Value = serde_json::from_str(&out).unwrap();
            let hash = done["extrinsic"].as_str().unwrap();
            assert!(hash.starts_with("0x") && done["uid"].is_null(), "{done}");
            assert_eq!((&done["final"], done["block"].as_u64()), (&true.into(), Some(101)));
            assert!(done["balance_tao"].is_null(), "{done}");
            assert!(done["note"].as_str().unwrap().contains(hash), "{done}");
        } else {
            let text = err.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(text.contains("took effect in block 101; uid and balance are not"), "{text}");
            assert!(text.contains("ptn-cli wallet overview"), "{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_the_other_networks_subnet_is_refused_with_the_flag_to_add() {
    let world = World::new().await;
    for command in [
        &["subnet", "register", "--yes"][..],
        &["subnet", "metagraph"],
        &["subnet", "validators"],
        &["subnet", "weights"],
    ] {
        for netuid in ["116", "171"] {
            let args = [command, &["--network", "finney", "--netuid", netuid]].concat();
            let said = world.run(&args);
            assert_eq!(said.code, 2, "{said:?}");
            assert!(said.err.contains("add --subtensor.network test"), "{said:?}");
        }
        for netuid in [&[][..], &["--netuid", "8"]] {
            let said = world.run(&[command, &["--network", "test"], netuid].concat());
            assert_eq!(said.code, 2, "{said:?}");
            assert!(said.err.contains("add --netuid 116"), "{said:?}");
        }
    }
    assert_eq!(world.node.connections(), 0, "nobody was asked");
    // On a network of one's own every number is free.
    world.node.add(116, MockNeuron::new(&address(3), &address(103)));
    let graph = world.json(&["subnet", "metagraph", "--netuid", "116"]);
    assert_eq!(graph.0, 0, "{}", graph.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_in_the_addresses_of_nodes_are_not_shown() {
    let world = World::new().await;
    let secrets = ["geheim", "user:", "verborgen"];
    let silent = |args: &[&str], code: i32, shown: &str| {
        for args in [args.to_vec(), [args, &["--json"]].concat()] {
            let said = common::run(world.dir.path(), &args);
            assert_eq!(said.code, code, "{said:?}");
            let text = format!("{}{}", said.out, said.err);
            assert!(text.contains(shown), "{shown}: {text}");
            for secret in secrets {
                assert!(!text.contains(secret), "{secret}: {text}");
            }
        }
    };
    let flag = "--subtensor.chain_endpoint";
    let both = "wss://one.example/v1/geheim,wss://two.example?key=verborgen";
    silent(&["config", "show", flag, both], 0, "wss://one.example/...,wss://two.example/...");
    let user = "wss://user:geheim@node.example:443";
    silent(&["config", "show", flag, user], 0, "wss://node.example:443");
    for command in [&["subnet", "metagraph"][..], &["wallet", "balance"]] {
        silent(&[command, &[flag, user]].concat(), 2, "user and password");
        let other = "https://node.example/v1/geheim";
        silent(&[command, &[flag, other]].concat(), 2, "wss:// or ws://");
        let port = "wss://node.example:99999/geheim";
        silent(&[command, &[flag, port]].concat(), 2, "from 1 to 65535");
    }
    let down = "ws://127.0.0.1:1/v1/geheim";
    silent(&["wallet", "balance", "--network", "local", flag, down], 4, "ws://127.0.0.1:1/...");
    let file = world.dir.path().join("ptn.toml");
    std::fs::write(&file, format!("[subtensor]\nchain_endpoint = \"{both}\"\n")).unwrap();
    silent(&["config", "show"], 0, "wss://one.example/...,wss://two.example/...");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hint_about_a_mixed_up_public_file_is_a_command_that_works() {
    let world = World::new().await;
    let safe = place(world.dir.path(), "safe");
    let password = Password::new("correct horse").unwrap();
    safe.save_coldkey(&key(200), Some(&password), Replace::Never).unwrap();
    safe.save_hotkey(&key(202), None, Replace::Never).unwrap();
    // The public file is that of another key, which has TAO as well.
    safe.save_coldkeypub(&key(99).public_key(), Replace::WithBackup).unwrap();
    world.node.set_balance(&address(99), Rao(10 * TAO));
    let url = world.node.url();
    let args = world.args(&["subnet", "register", "--yes", "--wallet.name", "safe"], &url);
    let run = || {
        let mut command = command(world.dir.path());
        command.args(&args).env("PTN_WALLET_PASSWORD", "correct horse").output().unwrap()
    };
    let output = run();
    let text = String::from_utf8(output.stderr).unwrap();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!((output.status.code(), world.sent()), (Some(2), 0), "{text}");
    let hint = format!("wallet regen-coldkeypub safe --ss58 {} --overwrite", address(200));
    assert!(text.contains(&hint), "{text}");

    let args: Vec<&str> = hint.split(' ').collect();
    let without = common::run(world.dir.path(), &args[..args.len() - 1]);
    assert!(without.code == 2 && without.err.contains("--overwrite"), "{without:?}");
    let replaced = common::run(world.dir.path(), &[&args[..], &["--yes"]].concat());
    assert_eq!(replaced.code, 0, "{replaced:?}");
    assert_eq!(run().status.code(), Some(0));
    assert_eq!(world.node.subnet(8).unwrap().uid(&address(202)), Some(3));
}
