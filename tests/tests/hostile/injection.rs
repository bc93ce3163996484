//! Words of others in our logs and on our terminal: nothing that a terminal obeys, no forged line.

use std::process::Stdio;

use ptn_core::directory::Wire;
use ptn_core::validator::{LoopbackValidator, ValidatorOptions};
use ptn_tests::http::request;
use ptn_tests::process::{Daemon, Home};
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use crate::net::{PATIENCE, answering, ok, refusal};
use crate::serving::{eventually, post};

const MINER: &str = env!("CARGO_BIN_EXE_ptn-miner-under-test");
const CLI: &str = env!("CARGO_BIN_EXE_ptn-cli-under-test");

/// Clears a screen, rings, hides text, and begins what looks like a line of the log.
const EVIL: &str = "\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}\r\n2026-01-01T00:00:00.000000Z  INFO accepted uuid=FORGED code=\"accepted\"";

/// As JSON writes it.
fn evil_json() -> String {
    serde_json::to_string(EVIL).unwrap()
}

/// What no log and no terminal may get: anything that is obeyed, and a line of somebody else.
#[track_caller]
fn is_harmless(what: &str, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let obeyed = text.chars().find(|c| {
        c.is_control() && *c != '\n'
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    });
    assert_eq!(obeyed, None, "{what}: {text:?}");
    let forged = text.lines().find(|line| line.trim_start().starts_with("2026-01-01T00:00:00"));
    assert_eq!(forged, None, "{what}: a line of somebody else:\n{text}");
}

/// Runs a miner that writes its log as text, lets `attack` do its worst, and gives the raw log.
async fn log_of(home: &Home, attack: impl AsyncFnOnce(&str)) -> Vec<u8> {
    let text = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let mut child = Command::new(MINER)
        .args(["--validators", &text(home.path("validators.toml"))])
        .args(["--data-dir", &text(home.data()), "--wallet.path", &text(home.path("wallets"))])
        .args(["--wallet.name", "miner", "--subtensor.network", "local", "--axon.port", "0"])
        .args(["--delivery.policy", "all", "--delivery.waits", "", "--server.listen", &address])
        .args(["--rules.unknown-pairs", "pass", "--logging.debug"])
        .stderr(Stdio::piped())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let reading = tokio::spawn(async move {
        let mut log = Vec::new();
        stderr.read_to_end(&mut log).await.unwrap();
        log
    });
    eventually("the server is up", async || tokio::net::TcpStream::connect(&address).await.is_ok())
        .await;
    attack(&address).await;
    let pid = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let status = tokio::time::timeout(PATIENCE, child.wait()).await.expect("it ends").unwrap();
    assert!(status.success(), "{status}");
    reading.await.unwrap()
}

#[tokio::test]
async fn a_validators_words_cannot_forge_a_line_of_the_log_or_drive_the_terminal() {
    let words = format!(r#"{{"error_message":{},"should_retry":false}}"#, evil_json());
    let error = format!(r#"{{"error":{}}}"#, evil_json());
    let wait = format!(
        r#"{{"error_message":{},"should_retry":true}}"#,
        serde_json::to_string(&format!("Please wait 0.1 seconds {EVIL}")).unwrap()
    );
    for answer in [
        ok(&words),
        ok(&wait),
        ok(&format!(r#"{{"order_json":{},"error_message":"x"}}"#, evil_json())),
        ok(&format!(r#"{{"miner_order_uuid":{}}}"#, evil_json())),
        ok(&format!(r#"{{"validator_hotkey":{}}}"#, evil_json())),
        ok(EVIL),
        refusal("400 Bad Request", "", &error),
        refusal("500 Internal Server Error", "", EVIL),
    ] {
        let good = LoopbackValidator::start(ValidatorOptions::default()).await.unwrap();
        let home = Home::new(&[good.entry(Wire::Btauth), answering(answer).await]);
        let log = log_of(&home, async |address| {
            let body =
                r#"{"trade_pair":"BTCUSDC","order_type":"LONG","value":1,"order_uuid":"evil"}"#;
            let headers = [("authorization", "test-key"), ("content-type", "application/json")];
            let path = "/api/receive-signal";
            let (status, answer) =
                request(address, hyper::Method::POST, path, &headers, body).await;
            assert_eq!(status, 200, "{answer}");
            home.wait_for("failed_signals", 1).await;
        })
        .await;
        assert_eq!(good.count(), 1, "the good validator got it");
        is_harmless("the log", &log);
        let log = String::from_utf8(log).unwrap();
        assert!(log.contains("uuid=evil"), "the outcome is in the log: {log}");
        assert!(!log.contains("\n  INFO accepted uuid=FORGED"), "{log}");

        // On the terminal, in every view.
        let data = home.data().to_str().unwrap().to_owned();
        for arguments in [
            &["signals", "list"][..],
            &["signals", "show", "evil"],
            &["signals", "list", "--json"],
            &["signals", "show", "evil", "--json"],
        ] {
            let output = std::process::Command::new(CLI)
                .args(arguments)
                .args(["--data-dir", &data])
                .output()
                .unwrap();
            assert!(output.status.success(), "{arguments:?}: {output:?}");
            is_harmless(&format!("{arguments:?}"), &output.stdout);
            is_harmless(&format!("{arguments:?}"), &output.stderr);
        }
    }
}

#[tokio::test]
async fn a_callers_words_cannot_forge_a_line_of_the_log() {
    let good = LoopbackValidator::start(ValidatorOptions::default()).await.unwrap();
    let home = Home::new(&[good.entry(Wire::Btauth)]);
    let evil = evil_json();
    let log = log_of(&home, async |address| {
        let long = "x".repeat(50);
        let bodies = [
            format!(r#"{{"trade_pair":{evil},"order_type":"LONG","value":1,"order_uuid":"pair"}}"#),
            format!(r#"{{"trade_pair":"BTCUSDC","order_type":{evil},"value":1}}"#),
            format!(r#"{{"trade_pair":"BTCUSDC","order_type":"LONG","value":{evil}}}"#),
            format!(r#"{{"trade_pair":"BTCUSDC","order_type":"LONG","value":1,"order_uuid":{evil}}}"#),
            format!(r#"{{"trade_pair":"BTCUSDC","order_type":"LONG","value":1,"order_uuid":"note","note":{evil}}}"#),
            format!(r#"{{"trade_pair":"BTCUSDC","order_type":"LONG","value":1,"order_uuid":"key",{evil}:1}}"#),
            format!(r#"{{"execution_type":{evil},"trade_pair":"BTCUSDC","{long}":1}}"#),
            format!("{{{EVIL}"),
        ];
        let headers = [("authorization", "test-key"), ("content-type", "application/json")];
        for body in &bodies {
            for path in ["/api/receive-signal", "/api/check-order"] {
                let (status, answer) =
                    request(address, hyper::Method::POST, path, &headers, body).await;
                assert!(status < 500, "{body}: {answer}");
            }
        }
        // In the key, in the path, in other headers; as raw bytes, since no client sends them.
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let wild = post("/api/receive-signal", "X-Forwarded-For: \u{9b}31m\r\n", "{}");
        let wild = wild.replace("right-key", "\u{9b}31mwrong");
        tokio::io::AsyncWriteExt::write_all(&mut stream, wild.as_bytes()).await.unwrap();
        let refused = crate::serving::read_answer(&mut stream).await;
        assert!(refused.is_none_or(|a| [400, 401].contains(&a.status)));
        // And as files, by name and by content.
        for (name, text) in [
            ("evil\u{1b}[2J.json", "{"),
            ("line\n2026-01-01T00:00:00.000000Z  INFO x", "nonsense"),
            ("content", &bodies[1]),
        ] {
            std::fs::write(home.data().join("received_signals").join(name), text).unwrap();
        }
        let folder = home.data().join("failed_signals");
        eventually("the files are refused", async || {
            let names = std::fs::read_dir(&folder).unwrap().count();
            names >= 6
        })
        .await;
        good.wait_for(2).await;
    })
    .await;
    is_harmless("the log", &log);
    let log = String::from_utf8(log).unwrap();
    assert!(log.contains("uuid=note") && log.contains("uuid=key"), "the good ones: {log}");
    for entry in std::fs::read_dir(home.data().join("failed_signals")).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().ends_with(".reason.txt") {
            is_harmless("a reason", &std::fs::read(&path).unwrap());
        }
    }
}

#[tokio::test]
async fn a_log_in_json_has_one_object_a_line_whatever_a_validator_says() {
    let words = format!(r#"{{"error_message":{},"should_retry":false}}"#, evil_json());
    let good = LoopbackValidator::start(ValidatorOptions::default()).await.unwrap();
    let home = Home::new(&[good.entry(Wire::Btauth), answering(ok(&words)).await]);
    let mut miner: Daemon = home.miner(MINER, &["--server.listen", "127.0.0.1:0"]);
    let address = miner.up().await["server"].as_str().unwrap().to_owned();
    let body = r#"{"trade_pair":"BTCUSDC","order_type":"LONG","value":1,"order_uuid":"evil"}"#;
    let headers = [("authorization", "test-key"), ("content-type", "application/json")];
    let path = "/api/receive-signal";
    request(&address, hyper::Method::POST, path, &headers, body).await;
    home.wait_for("failed_signals", 1).await;
    miner.signal("-INT");
    let (status, log) = miner.end().await;
    assert!(status.success(), "{log}");
    for line in log.lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
    }
    is_harmless("the log", log.as_bytes());
    assert!(log.contains("FORGED"), "it is told, within its line: {log}");
    assert_eq!(good.count(), 1);
}
