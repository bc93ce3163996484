//! `paper replay` through the binary: the table, JSON, the page, and files that are wrong.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests"
)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use common::{Said, run};

const PRICES: &str = "time_ms,trade_pair,price\n\
    1712577600000,BTCUSD,100\n1712577660000,BTCUSD,101\n1712577720000,BTCUSD,102\n1712577780000,BTCUSD,102\n";

const SIGNALS: &str = r#"{"received_ms":1712577601000,"signal":{"trade_pair":"BTCUSD","order_type":"LONG","leverage":1.0}}
{"received_ms":1712577602000,"signal":{"order_uuid":"<b>'x'</b>","trade_pair":"<script>","order_type":"LONG","leverage":1.0}}
{"received_ms":1712577730000,"signal":{"trade_pair":"BTCUSD","order_type":"FLAT","leverage":1.0}}
"#;

fn write(dir: &Path, prices: &str, signals: &str) {
    fs::write(dir.join("p.csv"), prices).unwrap();
    fs::write(dir.join("s.jsonl"), signals).unwrap();
}

fn replay(dir: &Path, more: &[&str]) -> Said {
    let base = ["paper", "replay", "--signals", "s.jsonl", "--prices", "p.csv", "--rules", "2024"];
    run(dir, &[&base[..], more].concat())
}

#[test]
fn the_table_says_what_became_of_everything() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), PRICES, SIGNALS);
    let said = replay(dir.path(), &[]);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    for want in [
        "Replay under the rules of 2024",
        "2024-04-08 12:00:00.000 UTC to 2024-04-08 12:03:00.000 UTC, 4 prices",
        "3 signals: 2 filled, 0 resting, 0 managing others, 0 ignored, 1 refused",
        "BTCUSD          1       2  no      +2.0000 %  +0.2040 %  +1.7960 %",
        "drawdown     0.2000 % below the highest value, at 2024-04-08 12:00:01.000 UTC",
        "elimination  not eliminated; 9.8000 percent points were left at 2024-04-08 12:00:15.000 UTC",
        "two reference miners per pair",
        "by miner: ",
    ] {
        assert!(said.out.contains(want), "no {want:?} in\n{}", said.out);
    }
}

#[test]
fn json_is_one_document_and_the_page_is_for_its_owner_and_escaped() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), PRICES, SIGNALS);
    let said = replay(dir.path(), &["--json", "--html", "r.html", "--hotkey", "A&B <Ltd>"]);
    assert_eq!(said.code, 0, "{said:?}");
    let json = said.json();
    assert_eq!(json["schema"], "ptn-paper-replay/1");
    let mut keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "account_usd",
            "curve",
            "drawdown",
            "eliminated",
            "end_ms",
            "hotkey",
            "notes",
            "pairs",
            "prices",
            "refused",
            "rules",
            "schema",
            "signals",
            "start_ms",
            "total",
            "weight"
        ]
    );
    let net = json["pairs"][0]["net_return"].as_f64().unwrap();
    assert!((net - 0.01796).abs() < 1e-12, "{net}");
    let path = dir.path().join("r.html");
    let page = fs::read_to_string(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    assert!(page.contains("A&amp;B &lt;Ltd&gt;") && page.contains("&lt;script&gt;"), "{page}");
    for never in ["<script", "<b>'x'", "<Ltd>", "http://", "https://", "NaN"] {
        assert!(!page.contains(never), "{never} is in the page");
    }
    assert_eq!(page.matches("<svg").count(), 2);
    // The same run writes the same page.
    replay(dir.path(), &["--html", "r2.html", "--hotkey", "A&B <Ltd>"]);
    assert_eq!(page, fs::read_to_string(dir.path().join("r2.html")).unwrap());
}

#[test]
fn a_processed_folder_of_the_python_tools_is_read() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), PRICES, "");
    let folder = dir.path().join("processed_signals");
    fs::create_dir(&folder).unwrap();
    for (name, kind, time) in [("a", "LONG", "12:00:01"), ("b", "FLAT", "12:02:10")] {
        let text = format!(
            r#"{{"signal_data":{{"trade_pair":"BTCUSD","order_type":"{kind}","leverage":1.0}},"processing_timestamp":"2024-04-08T{time}.000000"}}"#
        );
        fs::write(folder.join(name), text).unwrap();
    }
    fs::write(folder.join(".hidden"), "x").unwrap();
    let args = ["paper", "replay", "--signals", "processed_signals", "--prices", "p.csv"];
    let said = run(dir.path(), &[&args[..], &["--rules", "2024", "--json"]].concat());
    assert_eq!(said.json()["signals"]["filled"], 2, "{said:?}");
    fs::write(folder.join("c"), "{}").unwrap();
    let said = run(dir.path(), &[&args[..], &["--rules", "2024"]].concat());
    assert_eq!(said.code, 2);
    assert!(said.err.contains("processed_signals/c, signal_data: missing or not an object"));
}

#[test]
fn bars_and_the_rules_of_2026() {
    let dir = tempfile::tempdir().unwrap();
    let bars = "time_ms,trade_pair,open,high,low,close\n\
        1780000000000,BTCUSDC,100000,100000,100000,100000\n1780000060000,BTCUSDC,101000,101000,101000,101000\n";
    let signals = r#"{"received_ms":1780000001000,"signal":{"trade_pair":"BTCUSDC","order_type":"LONG","value":10000}}"#;
    write(dir.path(), bars, signals);
    let args = ["paper", "replay", "--signals", "s.jsonl", "--prices", "p.csv", "--rules", "2026"];
    let said = run(dir.path(), &[&args[..], &["--json", "--account-size", "50000"]].concat());
    let json = said.json();
    assert_eq!((json["account_usd"].as_f64(), json["prices"].as_u64()), (Some(50_000.0), Some(8)));
    assert_eq!(json["pairs"][0]["open"], true);
    let net = json["total"]["net_return"].as_f64().unwrap();
    assert!((net - 97.0 / 50_000.0).abs() < 1e-12, "{net}");
}

#[test]
fn wrong_input_names_file_line_and_field() {
    let dir = tempfile::tempdir().unwrap();
    for (prices, signals, code, want) in [
        (
            "time_ms,trade_pair,price\n1,A,-1\n",
            SIGNALS,
            "prices_field",
            "p.csv: line 2, price: \"-1\" is not allowed",
        ),
        ("time_ms,trade_pair,price\n", SIGNALS, "no_prices", "p.csv: there is not one price"),
        ("when,what\n", SIGNALS, "prices_header", "p.csv: line 1, header: \"when,what\""),
        (PRICES, "", "no_signals", "s.jsonl: there is not one signal"),
        (
            PRICES,
            "\n{\"received_ms\":true}\n",
            "signal_record",
            "s.jsonl, line 2, received_ms: missing",
        ),
    ] {
        write(dir.path(), prices, signals);
        let said = replay(dir.path(), &["--json", "--html", "never.html"]);
        let error = &said.json()["error"];
        assert_eq!((said.code, error["code"].as_str()), (2, Some(code)), "{said:?}");
        assert!(error["message"].as_str().unwrap().contains(want), "{error}");
        assert!(!dir.path().join("never.html").exists());
    }
    write(dir.path(), PRICES, SIGNALS);
    fs::remove_file(dir.path().join("p.csv")).unwrap();
    let said = replay(dir.path(), &[]);
    assert_eq!(said.code, 2);
    assert!(said.err.contains("cannot read p.csv"), "{said:?}");
}
