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
    // The miner's archive has a folder for each month.
    let month = dir.path().join("archived_signals/2024-04");
    fs::create_dir_all(&month).unwrap();
    fs::rename(folder.join("a"), month.join("a")).unwrap();
    fs::create_dir(dir.path().join("archived_signals/other")).unwrap();
    fs::write(dir.path().join("archived_signals/other/x"), "{}").unwrap();
    let archive = ["paper", "replay", "--signals", "archived_signals", "--prices", "p.csv"];
    let said = run(dir.path(), &[&archive[..], &["--rules", "2024", "--json"]].concat());
    assert_eq!(said.json()["signals"]["filled"], 1, "{said:?}");
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

#[test]
fn made_up_prices_are_the_same_for_the_same_seed_and_end_where_they_are_told() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), PRICES, SIGNALS);
    let walk = |more: &[&str]| {
        let base = ["paper", "replay", "--signals", "s.jsonl", "--rules", "2024", "--json"];
        run(dir.path(), &[&base[..], more].concat())
    };
    let said = walk(&["--prices", "walk:7"]);
    assert_eq!(said.code, 0, "{said:?}");
    let json = said.json();
    // From the full minute before the first signal to a day after the last, BTCUSD a minute.
    assert_eq!(json["start_ms"], 1_712_577_600_000_i64);
    assert_eq!(json["end_ms"], 1_712_577_720_000_i64 + 24 * 3_600_000);
    assert_eq!(json["prices"], 24 * 60 + 3);
    assert_eq!((&json["signals"]["filled"], &json["signals"]["refused"]), (&2.into(), &1.into()));
    assert_eq!(walk(&["--prices", "walk:7"]).out, said.out);
    assert_ne!(walk(&["--prices", "walk:8"]).out, said.out);
    let two = walk(&["--prices", "walk:7:BTCUSD,ETHUSD", "--days", "2"]).json();
    assert_eq!(two["prices"], 2 * (48 * 60 + 1));
    let until = walk(&["--prices", "walk:7", "--until", "2024-04-08T12:10:00Z"]).json();
    assert_eq!(until["prices"], 11);
}

#[test]
fn prices_that_cannot_be_replayed_are_refused_with_what_can() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), PRICES, SIGNALS);
    let walk = |more: &[&str]| {
        let base = ["paper", "replay", "--signals", "s.jsonl", "--rules", "2024"];
        run(dir.path(), &[&base[..], more].concat())
    };
    for (more, want) in [
        (&["--prices", "walk:x"][..], "the seed is a whole number"),
        (&["--prices", "push"], "push has no past to replay; give a file or walk:SEED"),
        (&["--prices", "coinbase"], "coinbase has no past to replay"),
        (&["--prices", "walk:1:BTC/USD"], "BTC/USD is no pair of these rules, BTCUSD is"),
        (&["--prices", "p.csv", "--days", "1"], "--days and --until are for walk:SEED"),
        (&["--prices", "walk:1", "--until", "2020-01-01"], "before the first signal"),
        (&["--prices", "walk:1", "--until", "soon"], "write a day such as 2026-06-30"),
        (&["--prices", "walk:1", "--days", "1", "--until", "2026-01-01"], "cannot be used with"),
    ] {
        let said = walk(more);
        assert_eq!(said.code, 2, "{said:?}");
        assert!(said.err.contains(want), "no {want:?} in\n{}", said.err);
    }
}

#[test]
fn a_tick_file_with_a_book_fills_forex_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let prices = "time_ms,trade_pair,price,bid,ask\n\
        1780000000000,EURUSD,1.1,1.0,1.2\n1780000100000,EURUSD,1.1,1.0,1.2\n";
    let signals = r#"{"received_ms":1780000001000,"signal":{"trade_pair":"EURUSD","order_type":"LONG","value":12000}}
{"received_ms":1780000090000,"signal":{"trade_pair":"EURUSD","order_type":"FLAT"}}
"#;
    write(dir.path(), prices, signals);
    let base = ["paper", "replay", "--signals", "s.jsonl", "--prices", "p.csv", "--rules", "2026"];
    let report = run(dir.path(), &[&base[..], &["--json"]].concat()).json();
    assert_eq!(report["signals"]["filled"], 2, "{report}");
    // 10,000 euros bought at 1.2 and sold at 1.0, on 100,000 USD.
    let gross = report["total"]["gross_return"].as_f64().unwrap();
    assert!((gross + 0.02).abs() < 1e-9, "{gross}");
}
