//! `send` and `send --check` with the risk guard: beside a data directory, and at a server.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a failed expectation is how a test fails"
)]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{command, run};
use ptn_core::guard::{Guard, GuardMode, OrderGuard as _};
use ptn_core::paper::guard::{GuardSettings, RiskGuard};
use ptn_core::record::{DeliveryReport, DeliveryState, Progress, SignalState, ValidatorRecord};
use ptn_core::rules::{Era, Rules};
use ptn_core::signal::Signal;
use ptn_core::store::fs::{FsOptions, FsStore};
use ptn_core::store::{MemoryStore, SignalStore};
use ptn_server::{App, AppGuard, ServerConfig, run_app};
use serde_json::json;

const HALTED: [&str; 4] = ["--guard", "warn", "--guard.halted", "SOLUSDC,ETHUSDC"];

fn check<'a>(order: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [&["send"], order, &["--check", "--json"], more].concat()
}

/// A data directory in which a validator acknowledged these orders just now.
async fn history(dir: &Path, orders: &[(&str, &str, &str)]) {
    let rules = Arc::new(Rules::load(Era::Y2026).unwrap());
    let store =
        FsStore::open_owner(dir.join("mining"), FsOptions::new(Arc::clone(&rules))).unwrap();
    for (n, (pair, side, price)) in orders.iter().enumerate() {
        let body = json!({"trade_pair": pair, "order_type": side, "leverage": 0.9, "order_uuid": format!("h-{n}")});
        let signal = Signal::from_json(body.to_string().as_bytes(), &rules).unwrap();
        assert!(store.accept(&signal).await.is_ok());
        let lease = store.claim(1).await.unwrap().pop().unwrap();
        let at = jiff::Timestamp::now().as_millisecond() - 60_000;
        let mut record = ValidatorRecord::new("v1", "127.0.0.1:1".to_owned(), true, at);
        record.state = DeliveryState::Accepted;
        record.attempts = 1;
        record.order_json = format!("{{'price': {price}}}");
        let outcome = Progress::Outcome { validator: record.clone() };
        store.record(&lease, outcome).await.unwrap();
        let (state, reason) = (SignalState::Processed, String::new());
        let report = DeliveryReport { state, reason, validators: vec![record], finished_at: at };
        store.finish(&lease, &report).await.unwrap();
    }
}

fn received(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("mining/received_signals")).unwrap().count()
}

#[test]
fn without_a_place_to_judge_by_nothing_changes_unless_it_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let plain = run(dir.path(), &check(&["ETHUSDC", "long", "0.5x"], &[]));
    assert_eq!((plain.code, plain.json().get("guard")), (0, None), "{plain:?}");
    let asked = run(dir.path(), &check(&["ETHUSDC", "long", "0.5x"], &HALTED));
    let guard = &asked.json()["guard"];
    assert_eq!((asked.code, &guard["verdict"]), (3, &json!("refused")), "{asked:?}");
    assert_eq!(guard["concerns"][0]["code"], "pair_halted");
    assert_eq!((&guard["mode"], &guard["blocked"]), (&json!("warn"), &json!(false)));
    let clear = run(dir.path(), &check(&["BTCUSDC", "long", "0.5x"], &HALTED));
    assert_eq!((clear.code, &clear.json()["guard"]["verdict"]), (0, &json!("clear")));
    let wrong = run(dir.path(), &check(&["BTCUSDC", "up", "0.5x"], &HALTED));
    assert_eq!((wrong.code, &wrong.json()["accepted"]), (2, &json!(false)));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "--check wrote something");
}

#[test]
fn wrong_settings_say_what_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    for (flag, value, part) in [
        ("--guard", "maybe", "off, warn, refuse"),
        ("--guard.alert-points", "NaN", "a number from 0"),
        ("--guard.account-usd", "0", "a number above 0"),
        ("--guard.asset-class", "shoes", "all_markets"),
        ("--guard.stage", "last", "challenge, main"),
        ("--guard.prices", "rumours", "push"),
    ] {
        let args = ["send", "BTCUSDC", "long", "0.1x", "--check", "--guard", "warn", flag, value];
        let said = run(dir.path(), &args);
        assert_eq!(said.code, 2, "{said:?}");
        assert!(said.err.contains(part) && said.err.contains(value), "{said:?}");
    }
    let args = ["send", "BTCUSD", "long", "0.1x", "--check", "--rules", "2025", "--guard", "warn"];
    let said = run(dir.path(), &args);
    assert!(said.code == 2 && said.err.contains("2025"), "{said:?}");
}

#[tokio::test]
async fn a_data_directory_is_judged_by_its_history() {
    let dir = tempfile::tempdir().unwrap();
    history(dir.path(), &[("BTCUSDC", "LONG", "100000.0")]).await;
    let more = run(dir.path(), &check(&["BTCUSDC", "long", "0.5x"], &[]));
    let guard = &more.json()["guard"];
    assert_eq!((more.code, &guard["verdict"]), (0, &json!("alert")), "{more:?}");
    assert_eq!(guard["concerns"][0]["code"], "clamped");
    let close = run(dir.path(), &check(&["BTCUSDC", "short", "0.5x"], &[]));
    let guard = &close.json()["guard"];
    assert_eq!(
        (close.code, &guard["verdict"], &guard["closes"]),
        (0, &json!("clear"), &json!(true))
    );
    assert_eq!(received(dir.path()), 0, "--check stored something");

    let words = run(dir.path(), &["send", "BTCUSDC", "long", "0.5x", "--check"]);
    assert_eq!(words.code, 0);
    for part in ["accepted  BTCUSDC", "alert     nothing keeps", "clamped", "next: ", "intraday"] {
        assert!(words.out.contains(part), "{part}: {words:?}");
    }
    let off = run(dir.path(), &check(&["BTCUSDC", "long", "0.5x"], &["--guard", "off"]));
    assert_eq!((off.code, off.json().get("guard")), (0, None));
    // 4.5 % lost: no buying power is left for what was at the cap.
    let lost = tempfile::tempdir().unwrap();
    let orders = [
        ("BTCUSDC", "LONG", "100000.0"),
        ("BTCUSDC", "LONG", "100000.0"),
        ("ETHUSDC", "LONG", "4000.0"),
        ("ETHUSDC", "FLAT", "3800.0"),
    ];
    history(lost.path(), &orders).await;
    let said = run(lost.path(), &check(&["BTCUSDC", "long", "0.5x"], &[]));
    assert_eq!(said.code, 3, "{said:?}");
    assert_eq!(said.json()["guard"]["concerns"][0]["code"], "no_buying_power");
}

#[tokio::test]
async fn the_cooldown_is_waited_out_only_where_orders_are_paced() {
    let dir = tempfile::tempdir().unwrap();
    history(dir.path(), &[("BTCUSDC", "LONG", "100000.0")]).await;
    let rules = Rules::load(Era::Y2026).unwrap();
    let body = br#"{"trade_pair":"BTCUSDC","order_type":"LONG","leverage":0.1,"order_uuid":"now"}"#;
    let signal = Signal::from_json(body, &rules).unwrap();
    // Each time beside what a miner wrote down that paces or does not, after an order of this moment.
    let verdict = |paced: bool, more: &[&str]| {
        let mut settings = GuardSettings::default();
        settings.paced = paced;
        let risk = RiskGuard::new(Era::Y2026, settings).unwrap();
        let now = jiff::Timestamp::now().as_millisecond();
        let mut record = ValidatorRecord::new("v1", "127.0.0.1:1".to_owned(), true, now);
        record.state = DeliveryState::Accepted;
        risk.acknowledged(&signal, &record);
        std::fs::write(dir.path().join("mining/.ptn/guard.json"), risk.snapshot()).unwrap();
        let close = run(dir.path(), &check(&["BTCUSDC", "flat"], more));
        let guard = close.json()["guard"].clone();
        (close.code, guard["verdict"].as_str().unwrap().to_owned())
    };
    let (refused, delayed) = ((3, "refused".to_owned()), (0, "delayed".to_owned()));
    assert_eq!(verdict(false, &[]), refused);
    assert_eq!(verdict(true, &[]), delayed);
    assert_eq!(verdict(false, &["--delivery.pacing", "on"]), delayed);
    assert_eq!(verdict(false, &["--subtensor.network", "finney"]), delayed);
    assert_eq!(verdict(true, &["--subtensor.network", "local"]), refused);
    let both = ["--subtensor.network", "local", "--delivery.pacing", "on"];
    assert_eq!(verdict(false, &both), delayed);
    std::fs::write(dir.path().join("ptn.toml"), "[delivery]\npacing = false\n").unwrap();
    assert_eq!(verdict(true, &[]), refused);
}

#[test]
fn send_into_the_spool_shows_the_verdict_and_refuses_only_when_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let args =
        |mode| ["send", "ETHUSDC", "long", "0.5x", "--guard", mode, "--guard.halted", "ETHUSDC"];
    let refused = run(dir.path(), &args("refuse"));
    assert_eq!(refused.code, 3, "{refused:?}");
    for part in ["guard: refused", "pair_halted", "nothing was stored", "--guard warn sends it"] {
        assert!(refused.err.contains(part), "{part}: {refused:?}");
    }
    assert_eq!((received(dir.path()), refused.out.as_str()), (0, ""));
    let warned = run(dir.path(), &args("warn"));
    assert_eq!(warned.code, 0, "{warned:?}");
    // It was accepted: nobody may be told to send it again.
    let id = warned.out.trim();
    let look = format!("do not send it again before you have looked: ptn-cli signals show {id}");
    for part in ["safe in", "guard: may be refused", "accepted all the same", look.as_str()] {
        assert!(warned.err.contains(part), "{part}: {warned:?}");
    }
    assert!(!warned.err.contains("take another pair"), "{warned:?}");
    assert_eq!(received(dir.path()), 1);
    let flat = ["send", "ETHUSDC", "flat", "--guard", "refuse", "--guard.halted", "ETHUSDC"];
    assert_eq!(run(dir.path(), &flat).code, 0);
    let off = run(dir.path(), &args("off"));
    assert!(off.code == 0 && !off.err.contains("guard"), "{off:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_asked_where_the_signal_would_go() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("miner_secrets.json"), r#"{"api_key":"k"}"#).unwrap();
    std::fs::write(dir.path().join("key"), "k\n").unwrap();
    let mut settings = GuardSettings::default();
    settings.halted = ["ETHUSDC".into()].into_iter().collect();
    let risk = RiskGuard::new(Era::Y2026, settings).unwrap();
    risk.ready();
    let guard = Guard::new(GuardMode::Refuse, Arc::new(risk));
    let mut config = ServerConfig::default();
    config.data_dir = dir.path().to_owned();
    let store = Arc::new(MemoryStore::new());
    let rules = Arc::new(Rules::load(Era::Y2026).unwrap());
    let app_guard = AppGuard { guard, takes_prices: false };
    let app = App::with_guard(config, store.clone(), rules, Some(app_guard)).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(run_app(app, listener, std::future::pending::<()>()));

    let place = dir.path().to_owned();
    let said = tokio::task::spawn_blocking(move || {
        let to = ["--url", &url, "--api-key-file", "key"];
        let order = |side| ["ETHUSDC", side, "0.5x"];
        let checked = run(&place, &check(&order("long"), &to));
        let closing = run(&place, &check(&["ETHUSDC", "flat"], &to));
        let sent = command(&place).args(["send"]).args(order("long")).args(to).output().unwrap();
        let nowhere = ["--url", "http://127.0.0.1:1", "--api-key-file", "key"];
        let nobody = run(&place, &check(&order("long"), &nowhere));
        (checked, closing, sent, nobody)
    });
    let (checked, closing, sent, nobody) = said.await.unwrap();
    let verdict = &checked.json()["guard"];
    assert_eq!((checked.code, &verdict["blocked"]), (3, &json!(true)), "{checked:?}");
    // The network would refuse it, and it is sent nevertheless.
    let verdict = &closing.json()["guard"];
    assert_eq!((closing.code, &verdict["blocked"]), (3, &json!(false)), "{closing:?}");
    assert_eq!(verdict["closes"], true);
    let err = String::from_utf8(sent.stderr).unwrap();
    assert_eq!(sent.status.code(), Some(3), "{err}");
    for part in ["guard: refused", "pair_halted", "the risk guard refused it"] {
        assert!(err.contains(part), "{part}: {err}");
    }
    assert_eq!(nobody.code, 4, "{nobody:?}");
    assert_eq!(store.pending().await.unwrap().count, 0);
}
