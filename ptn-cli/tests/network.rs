//! With real sockets: the demo end to end, the loopback validator, a server, a miner on the spool.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a failed expectation is how a test fails"
)]

mod common;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};

use common::{command, run};
use serde_json::Value;

#[test]
fn the_demo_reaches_every_validator_with_every_signal() {
    let dir = tempfile::tempdir().unwrap();
    for (rules, validators, signals) in
        [("2024", "3", 6), ("2025", "2", 6), ("2026", "4", 9), ("2026", "1", 40)]
    {
        let n = signals.to_string();
        let args =
            ["demo", "--json", "--rules", rules, "--validators", validators, "--signals", &n];
        let said = run(dir.path(), &args);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{}", said.out);
        let report = said.json();
        assert_eq!(report["ok"], true);
        let list = report["signals"].as_array().unwrap();
        assert_eq!(list.len(), signals);
        let elapsed = report["elapsed_ms"].as_f64().unwrap();
        for signal in list {
            assert_eq!(signal["http_status"], 200, "{signal}");
            assert_eq!(signal["state"], "processed", "{signal}");
            let accept = signal["accept_ms"].as_f64().unwrap();
            for v in signal["validators"].as_array().unwrap() {
                assert_eq!(v["state"], "accepted", "{signal}");
                let received = v["received_at_ms"].as_f64().unwrap();
                let acknowledged = v["acknowledged_ms"].as_f64().unwrap();
                assert!(v["attempts"].as_u64().unwrap() >= 1);
                assert!(accept > 0.0 && received > 0.0 && acknowledged > 0.0, "{signal}");
                assert!(elapsed >= acknowledged, "{elapsed} is not the whole time: {signal}");
            }
        }
        let wires: Vec<_> =
            report["validators"].as_array().unwrap().iter().map(|v| &v["wire"]).collect();
        assert!(wires.iter().any(|w| *w == "btauth"));
        assert!(validators == "1" || wires.iter().any(|w| *w == "dendrite"));
    }
    assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none(), "the demo left something");
}

#[test]
fn the_demo_finds_its_validators_on_a_chain() {
    let dir = tempfile::tempdir().unwrap();
    for rules in ["2024", "2026"] {
        let said = run(dir.path(), &["demo", "--chain", "--json", "--rules", rules]);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{}", said.out);
        let report = said.json();
        let chain = &report["chain"];
        assert_eq!((&chain["uid"], &chain["price_tao"]), (&6.into(), &"1.000000000".into()));
        // One for the registration, one of the miner.
        assert!(chain["connections"].as_u64().unwrap() >= 2, "{chain}");
        let board = report["leaderboard"].as_array().unwrap();
        assert_eq!(board.len(), 3, "{board:?}");
        assert!(board.iter().any(|row| row["miner"] == "your signals"), "{board:?}");
        if rules == "2026" {
            let shares = report["weights"]["shares"].as_array().unwrap();
            assert!(shares.iter().any(|share| share["uid"] == 6), "{shares:?}");
        }
        for signal in report["signals"].as_array().unwrap() {
            let parts = signal["validators"].as_array().unwrap();
            assert_eq!(parts.len(), 3);
            assert!(parts.iter().all(|v| v["state"] == "accepted"), "{signal}");
        }
    }
    let said = run(dir.path(), &["demo", "--chain", "--signals", "2"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("hotkey registered for 1 TAO: uid 6 of subnet 8"), "{said:?}");
    assert!(said.out.lines().all(|l| l.chars().count() <= 80), "{}", said.out);
    assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none(), "the demo left something");
}

#[test]
fn the_demo_prints_plain_lines_without_a_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let said = run(dir.path(), &["demo", "--signals", "2"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(!said.out.contains('\u{1b}'));
    assert!(said.out.contains("All 2 signals acknowledged by every validator"), "{said:?}");
    assert!(said.out.lines().all(|l| l.chars().count() <= 80), "{}", said.out);
}

/// A process that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn start(dir: &Path, args: &[&str]) -> (Running, BufReader<ChildStdout>) {
    let mut child =
        command(dir).args(args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    (Running(child), out)
}

fn line(out: &mut BufReader<ChildStdout>) -> Value {
    let mut text = String::new();
    out.read_line(&mut text).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text:?}"))
}

/// A miner on `mining/` for the validators of `v.toml`; ends with the runtime.
async fn miner(dir: &Path, server: bool) -> (tokio_util::sync::CancellationToken, String) {
    let hotkeys = dir.join("w/default/hotkeys");
    std::fs::create_dir_all(&hotkeys).unwrap();
    let key = ptn_core::sign::Hotkey::generate();
    let file = hotkeys.join("default");
    std::fs::write(&file, key.to_keyfile_json()).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::write(dir.join("empty.toml"), "").unwrap();
    let place = |name: &str| dir.join(name).display().to_string();
    let mut words: Vec<String> = vec!["ptn-miner".to_owned()];
    for (flag, value) in [
        ("--config", place("empty.toml")),
        ("--data-dir", place("mining")),
        ("--wallet.path", place("w")),
        ("--validators", place("v.toml")),
        ("--subtensor.network", "local".to_owned()),
        ("--delivery.policy", "all".to_owned()),
        ("--delivery.waits", "20ms,20ms".to_owned()),
        ("--axon.port", "0".to_owned()),
    ] {
        words.extend([flag.to_owned(), value]);
    }
    if server {
        words.extend(["--server.listen".to_owned(), "127.0.0.1:0".to_owned()]);
    }
    let matches = ptn_miner::command().try_get_matches_from(words).unwrap();
    let settings =
        ptn_core::ops::config::Settings::resolve(ptn_cli::cli::ALL_SETTINGS, &matches).unwrap();
    let config = ptn_miner::config::MinerConfig::from_settings(&settings).unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let (up, started) = tokio::sync::oneshot::channel();
    let run = ptn_miner::run(config, stop.clone(), |started| {
        up.send(started.server.map(|a| format!("http://{a}")).unwrap_or_default()).ok();
    });
    tokio::spawn(run);
    (stop, started.await.unwrap())
}

fn write_list(dir: &Path, listening: &Value) {
    let v = &listening["validator"];
    let text = format!(
        "[[validator]]\nhotkey = {}\nip = {}\nport = {}\nv_trust = 1.0\nwire = {}\n",
        v["hotkey"], v["ip"], v["port"], v["wire"]
    );
    std::fs::write(dir.join("v.toml"), text).unwrap();
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_goes_from_the_spool_to_a_listening_validator() {
    let dir = tempfile::tempdir().unwrap();
    // The list that listen writes is the one that the miner reads; a list of ours it keeps.
    std::fs::write(dir.path().join("ours.toml"), "# ours\n").unwrap();
    let kept = run(dir.path(), &["listen", "--port", "0", "--write", "ours.toml"]);
    assert!(kept.code == 2 && kept.err.contains("left as it is"), "{kept:?}");
    let args = ["listen", "--json", "--port", "0", "--fail-first", "1", "--write", "v.toml"];
    drop(start(dir.path(), &args));
    let (_listener, mut arrivals) = start(dir.path(), &args);
    line(&mut arrivals);
    let (stop, _) = miner(dir.path(), false).await;
    let place = dir.path().to_owned();
    blocking(move || {
        // A miner delivers, so it waits for the answers by itself.
        let said = run(&place, &["send", "BTCUSDC", "long", "0.10x"]);
        assert_eq!(said.code, 0, "{said:?}");
        let uuid = said.out.lines().next().unwrap();
        assert!(said.out.contains("accepted") && said.err.contains("processed"), "{said:?}");
        let first = line(&mut arrivals);
        assert_eq!(first["verdict"]["verdict"], "failed", "{first}");
        let second = line(&mut arrivals);
        assert_eq!(second["verdict"]["verdict"], "accepted", "{second}");
        assert_eq!(second["order_uuid"], uuid);
        let shown = run(&place, &["signals", "show", &uuid[..8], "--json"]);
        assert_eq!(shown.json()["validators"][0]["attempts"], 2);
        assert!(shown.out.contains("\"leverage\":0.10"), "{}", shown.out);
        let listed = run(&place, &["signals", "list", "--state", "processed", "--json"]).json();
        assert_eq!(listed["signals"][0]["order_uuid"], uuid);
        let none = run(&place, &["signals", "list", "--pair", "EURUSD"]);
        assert!(none.code == 0 && none.out.is_empty(), "{none:?}");
        assert!(none.err.contains("no such signals"), "{none:?}");
    })
    .await;
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_ends_with_3_and_can_be_retried() {
    let dir = tempfile::tempdir().unwrap();
    let args = [
        "listen",
        "--json",
        "--port",
        "0",
        "--reject",
        "No buying power remaining",
        "--times",
        "1",
    ];
    let (_listener, mut arrivals) = start(dir.path(), &args);
    write_list(dir.path(), &line(&mut arrivals));
    let (stop, _) = miner(dir.path(), false).await;
    let place = dir.path().to_owned();
    blocking(move || {
        let said =
            run(&place, &["send", "BTCUSDC", "long", "0.1x", "--order-uuid", "r-1", "--json"]);
        assert_eq!(said.code, 3, "{said:?}");
        assert_eq!(said.json()["state"], "failed");
        let said = run(&place, &["send", "BTCUSDC", "long", "0.1x", "--order-uuid", "r-1"]);
        assert!(said.code == 3 && said.err.contains("signals retry r-1"), "{said:?}");
        let mut tail = command(&place)
            .args(["signals", "tail", "--json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut events = BufReader::new(tail.stdout.take().unwrap());
        // It says so when it misses nothing any more.
        let mut following = String::new();
        BufReader::new(tail.stderr.take().unwrap()).read_line(&mut following).unwrap();
        assert!(following.starts_with("following"), "{following}");
        let tail = Running(tail);
        assert_eq!(run(&place, &["signals", "retry", "r-1"]).code, 0);
        // Waits for the events of the second round; the first line may be any of them.
        let finished = loop {
            let event = line(&mut events);
            if event["event"] == "finished" {
                break event;
            }
        };
        assert_eq!(
            (finished["id"].clone(), finished["state"].clone()),
            ("r-1".into(), "processed".into())
        );
        drop(tail);
    })
    .await;
    stop.cancel();
}

#[test]
fn the_miner_for_a_standing_validator_paces_its_orders() {
    // A validator with the network's cooldown refuses for good what comes too early.
    let dir = tempfile::tempdir().unwrap();
    let any = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--write", "validators.toml"];
    let mut child = command(dir.path())
        .args(["paper", "run", "--prices", "walk:7"])
        .args(any)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let _running = Running(child);
    let mut line = String::new();
    while !line.contains("ptn-miner ") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "it ended without the line");
    }
    let flags = "--subtensor.network local --delivery.policy all --delivery.pacing on";
    assert!(line.contains(flags), "{line}");
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/paper.md");
    assert!(std::fs::read_to_string(page).unwrap().contains(&format!("ptn-miner {flags}")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_talked_to_with_a_key_from_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let (_listener, mut arrivals) = start(dir.path(), &["listen", "--json", "--port", "0"]);
    write_list(dir.path(), &line(&mut arrivals));
    std::fs::create_dir(dir.path().join("mining")).unwrap();
    let secrets = dir.path().join("mining/miner_secrets.json");
    std::fs::write(&secrets, r#"{"api_key":"0123456789abcdef"}"#).unwrap();
    std::fs::write(dir.path().join("wrong"), "wrong").unwrap();
    let (stop, url) = miner(dir.path(), true).await;
    let place = dir.path().to_owned();
    blocking(move || {
        let key = "mining/miner_secrets.json";
        let send = |more: &[&str]| {
            let mut args = vec!["send", "BTCUSDC", "long", "0.1x", "--url", &url];
            args.extend(more);
            run(&place, &args)
        };
        let said = send(&["--api-key-file", key, "--order-uuid", "s-1"]);
        assert_eq!(said.code, 0, "{said:?}");
        assert!(said.out.starts_with("s-1\n") && said.out.contains("accepted"), "{said:?}");
        assert_eq!(send(&["--api-key-file", key, "--no-wait"]).code, 0);
        let wrong = send(&["--api-key-file", "wrong"]);
        assert!(wrong.code == 2 && wrong.err.contains("miner_secrets.json"), "{wrong:?}");
        let other = ["--api-key-file", key, "--order-uuid", "s-1", "--sl", "1", "--json"];
        assert_eq!(send(&other).code, 5);
        let other = send(&other[..6]);
        assert!(other.code == 5 && other.err.contains("another --order-uuid"), "{other:?}");
        let ask = |args: &[&str]| {
            let mut all = vec!["signals"];
            all.extend(args);
            all.extend(["--url", &url, "--api-key-file", key]);
            run(&place, &all)
        };
        let listed = ask(&["list", "--json"]);
        assert_eq!(listed.json()["signals"].as_array().unwrap().len(), 2, "{listed:?}");
        assert!(ask(&["show", "s-1"]).out.contains("processed"));
        assert_eq!(ask(&["cancel", "s-1"]).code, 1, "a processed signal cannot be cancelled");
        assert_eq!(ask(&["show", "s-9"]).code, 2);
    })
    .await;
    stop.cancel();
}
