//! A disk that runs low: nothing new is accepted, what was accepted is delivered and finished.

use ptn_core::directory::Wire;
use ptn_core::validator::{Fault, LoopbackValidator, ValidatorOptions};
use ptn_tests::chaos::mounts::{Mounted, fill, mounts_are_possible};
use ptn_tests::http::receive_signal;
use ptn_tests::process::Home;
use serde_json::json;

use super::{CLI, MINER, SERVER, free_port, get, metric, order, until, validator};

/// More than any disk has.
const NEVER: [&str; 2] = ["--spool.min-free", "1000000TiB"];

#[tokio::test]
async fn a_low_disk_takes_no_signal_and_finishes_what_it_has() {
    let v = validator(0).await;
    let home = Home::new(&[v.entry(Wire::Btauth)]);
    let mut server = home.server(SERVER, &[]);
    let address = server.up().await["address"].as_str().unwrap().to_owned();
    assert_eq!(receive_signal(&address, &order("before")).await.0, 200);
    let free = metric(&address, "ptn_spool_free_bytes").await;
    assert!(free > 0.0 && metric(&address, "ptn_spool_free_inodes").await != 0.0);
    assert_eq!(metric(&address, "ptn_spool_min_free_bytes").await, 268_435_456.0);
    server.signal("-TERM");
    server.ended().await;

    let mut server = home.server(SERVER, &NEVER);
    let address = server.up().await["address"].as_str().unwrap().to_owned();
    let (status, answer) = receive_signal(&address, &order("after")).await;
    assert_eq!((status, &answer["code"]), (507, &json!("disk_low")), "{answer}");
    assert!(answer["error"].as_str().unwrap().contains("free some"), "{answer}");
    // What is known already is no new signal.
    let (status, answer) = receive_signal(&address, &order("before")).await;
    assert_eq!((status, &answer["already_received"]), (200, &json!(true)), "{answer}");
    for path in ["/readyz", "/api/health"] {
        let (status, answer) = get(&address, path).await;
        assert_eq!(status, 503, "{answer}");
        assert!(answer["error"].as_str().unwrap().contains("little room"), "{answer}");
    }
    assert_eq!(metric(&address, "ptn_store_accepting").await, 0.0);

    let port = free_port().to_string();
    let mut flags = vec!["--axon.port", &port];
    flags.extend(NEVER);
    let mut miner = home.miner(MINER, &flags);
    miner.up().await;
    assert_eq!(home.wait_for("processed_signals", 1).await, ["before"]);
    let health = get(&format!("127.0.0.1:{port}"), "/health").await.1;
    assert_eq!(health["status"], "degraded", "{health:#}");
    assert_eq!(health["disk"]["low"], true, "{health:#}");
    assert!(health["disk"]["free_bytes"].as_u64().unwrap() > 0, "{health:#}");

    // The command line does not go around it, and doctor says it.
    let run = |args: &[&str]| {
        let output = std::process::Command::new(CLI)
            .args(args)
            .args(["--data-dir", home.data().to_str().unwrap()])
            .args(NEVER)
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let (code, said) = run(&["send", "BTCUSDC", "LONG", "0.1x"]);
    assert_eq!(code, Some(75), "{said}");
    assert!(said.contains("spool.min-free"), "{said}");
    let list = home.path("validators.toml");
    let (_, said) = run(&["doctor", "--json", "--validators", list.to_str().unwrap()]);
    let report: serde_json::Value = serde_json::from_str(&said).unwrap();
    let space = report["checks"].as_array().unwrap().iter().find(|c| c["check"] == "space");
    assert_eq!(space.unwrap()["level"], "fail", "{report:#}");

    // With room again the same signal is taken.
    server.signal("-TERM");
    server.ended().await;
    let mut server = home.server(SERVER, &[]);
    let address = server.up().await["address"].as_str().unwrap().to_owned();
    assert_eq!(receive_signal(&address, &order("after")).await.0, 200);
}

#[tokio::test]
async fn a_folder_on_another_disk_is_refused_at_the_start() {
    if !mounts_are_possible() {
        return;
    }
    let home = Home::new(&[]);
    let folder = home.data().join("processed_signals");
    std::fs::create_dir_all(&folder).unwrap();
    let disk = Mounted::tmpfs(&folder, "1m").unwrap();
    let (status, said) = home.server(SERVER, &[]).end().await;
    disk.unmount();
    assert!(!status.success(), "{said}");
    assert!(
        said.contains("must be on the same disk") && said.contains("processed_signals"),
        "{said}"
    );
    home.server(SERVER, &[]).up().await;
}

#[tokio::test]
async fn no_process_leaves_a_core_file() {
    let v = validator(0).await;
    let home = Home::new(&[v.entry(Wire::Btauth)]);
    for mut daemon in [home.server(SERVER, &[]), home.miner(MINER, &[])] {
        daemon.up().await;
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        let words: Vec<_> = core.split_whitespace().collect();
        assert_eq!(words[4..6], ["0", "0"], "{core}");
        daemon.signal("-ABRT");
        daemon.ended().await;
    }
    let cores: Vec<_> =
        home.names("").into_iter().filter(|name| name.starts_with("core")).collect();
    assert!(cores.is_empty(), "{cores:?}");
}

#[tokio::test]
async fn a_miner_that_cannot_write_an_answer_down_says_so_in_its_health() {
    if !mounts_are_possible() {
        return;
    }
    let mut options = ValidatorOptions::default();
    options.faults = vec![Fault::Delay { ms: 1000 }.into()];
    let v = LoopbackValidator::start(options).await.unwrap();
    let home = Home::new(&[v.entry(Wire::Btauth)]);
    let disk = Mounted::tmpfs(&home.data(), "6m").unwrap();
    home.make_data();
    let (server, port) = (format!("127.0.0.1:{}", free_port()), free_port().to_string());
    let flags = [
        "--server.listen",
        &server,
        "--axon.port",
        &port,
        "--spool.min-free",
        "0",
        "--limits",
        "off",
        "--delivery.pacing",
        "off",
    ];
    let mut miner = home.miner(MINER, &flags);
    miner.up().await;
    let monitor = format!("127.0.0.1:{port}");
    // So many that their answers do not fit on the journal's last page.
    for n in 0..12 {
        assert_eq!(receive_signal(&server, &order(&format!("late-{n}"))).await.0, 200);
    }
    // While the validator takes its time.
    let filler = home.data().join("filler");
    fill(&filler);
    let page = until(&monitor, "/health", |page| page["status"] == "degraded").await;
    let error = page["error"].as_str().unwrap_or_default();
    assert!(error.contains("cannot be recorded") && error.contains("no space"), "{page:#}");
    std::fs::remove_file(&filler).unwrap();
    until(&monitor, "/health", |page| page["status"] == "healthy").await;
    home.wait_for("processed_signals", 12).await;
    miner.signal("-TERM");
    assert!(miner.ended().await.success());
    disk.unmount();
}
