//! `send --check`: every signal vector, and bodies that nobody should send.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a failed expectation is how a test fails"
)]

mod common;

use common::{judge, run, run_with, signal_cases};
use ptn_core::rules::{Era, Rules};
use serde_json::Value;

fn era(case: &Value) -> Era {
    Era::parse(case["ruleset"].as_str().unwrap()).unwrap()
}

#[test]
fn signal_vectors_through_the_library() {
    let mut wrong = Vec::new();
    for case in signal_cases() {
        let rules = Rules::load(era(&case)).unwrap();
        let body = case["request_body"].as_str().unwrap();
        let said = ptn_cli::commands::send::check(body.as_bytes(), &rules).to_string();
        if let Err(why) = judge(&case, &serde_json::from_str(&said).unwrap()) {
            wrong.push(format!("{}: {why}", case["id"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn signal_vectors_through_the_binary() {
    let dir = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    // Every tenth case of each rule set: the library test has them all.
    for case in signal_cases().iter().step_by(10) {
        let body = case["request_body"].as_str().unwrap();
        let era = era(case).to_string();
        let args = ["send", "--check", "--json", "--file", "-", "--rules", &era];
        let said = run_with(dir.path(), &args, body.as_bytes());
        let code = if common::verdict(case)["accept"] == true { 0 } else { 2 };
        if let Err(why) = judge(case, &said.json()) {
            wrong.push(format!("{}: {why}", case["id"]));
        }
        assert_eq!((said.code, said.err.as_str()), (code, ""), "{}", case["id"]);
        assert_eq!(said.out.lines().count(), 1);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "--check wrote something");
}

#[test]
fn bodies_that_nobody_should_send_are_refused_with_a_code() {
    let dir = tempfile::tempdir().unwrap();
    let deep = "[".repeat(200_000).into_bytes();
    let zeros = vec![0; 300 * 1024];
    let cut = "{\"trade_pair\":\"BTCUSDC\",\"order".as_bytes();
    for (body, code) in [
        (b"".as_slice(), "body_not_json"),
        (b" \n\t ", "body_not_json"),
        (b"\xef\xbb\xbf", "body_not_json"),
        (b"\xff\xfe{\x00}\x00", "body_not_json"),
        (cut, "body_not_json"),
        (b"{}{}", "body_not_json"),
        (&deep, "body_not_json"),
        (&zeros, "body_too_large"),
        (b"[{\"trade_pair\":\"BTCUSDC\"}]", "body_not_object"),
        (b"true", "body_not_object"),
        (b"\x00", "body_not_json"),
    ] {
        let said = run_with(dir.path(), &["send", "--check", "--json", "--file", "-"], body);
        assert_eq!(said.code, 2, "{said:?}");
        assert_eq!(said.json()["error"]["code"], code, "{said:?}");
    }
}

#[test]
fn a_byte_order_mark_a_key_and_unknown_fields_are_fine() {
    let dir = tempfile::tempdir().unwrap();
    let body = "\u{feff}{\"api_key\":\"top-secret\",\"trade_pair\":\"BTCUSDC\",\"order_type\":\"LONG\",\"leverage\":\"0.10\",\"note\":\"ü\"}";
    let said = run_with(dir.path(), &["send", "--check", "--json", "--file", "-"], body.as_bytes());
    assert_eq!(
        said.out,
        "{\"accepted\":true,\"other_fields\":{\"note\":\"ü\"},\"signal\":{\"trade_pair_id\":\"BTCUSDC\",\"order_type\":\"LONG\",\"execution_type\":\"MARKET\",\"leverage\":0.10}}\n"
    );
}

#[test]
fn flags_and_files_are_judged_alike() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("order.json");
    std::fs::write(&file, r#"{"trade_pair":"EURUSD","order_type":"short","value":1000}"#).unwrap();
    let by_file = run(dir.path(), &["send", "--check", "--json", "--file", "order.json"]);
    for size in ["$1000", "1000usd"] {
        let by_flags = run(dir.path(), &["send", "EURUSD", "short", size, "--check", "--json"]);
        assert_eq!((by_flags.code, &by_flags.out), (0, &by_file.out));
    }
    let missing = run(dir.path(), &["send", "--check", "--json", "--file", "nothing.json"]);
    assert_eq!(missing.code, 2);
    assert_eq!(missing.json()["error"]["code"], "file_unreadable");
    let stop = [
        "send",
        "BTCUSDC",
        "long",
        "0.01",
        "--limit",
        "70100",
        "--stop-price",
        "70000",
        "--stop_condition",
        "gte",
        "--trailing_percent",
        "0.02",
        "--check",
        "--json",
    ];
    let stop = run(dir.path(), &stop).json();
    assert_eq!(stop["signal"]["execution_type"], "STOP_LIMIT", "{stop}");
    assert_eq!(stop["signal"]["trailing_stop"]["trailing_percent"], 0.02);
}

#[test]
fn a_pair_with_a_slip_is_answered_with_the_one_that_was_meant() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |pair| {
        let said = run(dir.path(), &["send", pair, "long", "0.1x", "--check", "--json"]);
        assert_eq!(said.code, 2, "{said:?}");
        said.json()["error"]["message"].as_str().unwrap().to_owned()
    };
    for (given, meant) in [
        ("BTCUSCD", "BTCUSDC"),
        ("EURUDS", "EURUSD"),
        ("btcusd", "BTCUSDC"),
        ("NVDAUSCD", "NVDAUSDC"),
    ] {
        assert!(refused(given).ends_with(&format!("did you mean {meant}?")), "{}", refused(given));
    }
    let far = refused("NOSUCHTHING");
    assert!(far.ends_with("ptn-cli config pairs lists them"), "{far}");
    let old = refused("BTCUSD");
    assert_eq!(old.matches("use BTCUSDC").count(), 1, "{old}");

    let listed = run(dir.path(), &["config", "pairs", "btc"]);
    assert_eq!(listed.code, 0);
    assert!(listed.out.contains("refused: use BTCUSDC"), "{listed:?}");
    let json = run(dir.path(), &["config", "pairs", "--json"]).json();
    let pairs = json["pairs"].as_array().unwrap();
    let pair = |id: &str| pairs.iter().find(|p| p["trade_pair"] == id).unwrap();
    assert_eq!((pairs.len() > 1000, &pair("BTCUSD")["replacement"]), (true, &"BTCUSDC".into()));
    assert!(pair("BTCUSDC")["blocked"].is_null());
}

#[test]
fn a_refusal_for_people_names_field_and_what_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let said = run(dir.path(), &["send", "BTCUSDC", "buy", "0.1x", "--check"]);
    assert_eq!(said.code, 2);
    assert!(
        said.out.contains("bad_order_type") && said.out.contains("LONG, SHORT, FLAT"),
        "{said:?}"
    );
    assert!(!said.out.contains('\u{1b}'), "colours without a terminal");
}
