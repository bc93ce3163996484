//! Writes the first corpus from the golden vectors of the tests: `cargo run -p ptn-tests --example seeds`.
//!
//! What the fuzzer finds on top of it is kept by `cargo fuzz cmin`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a vector that is missing ends it"
)]

use std::path::Path;

use ptn_tests::fuzz::{KEY, chain_seeds, request_seeds};
use ptn_tests::vectors;

fn put(target: &str, name: &str, selector: u8, content: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(name), [&[selector], content].concat()).unwrap();
}

fn main() {
    signals();
    replies();
    keys();
    settings();
    spool();
    for (i, seed) in chain_seeds().iter().enumerate() {
        put("chain", &format!("seed-{i}"), seed[0], &seed[1..]);
    }
    for (i, seed) in request_seeds().iter().enumerate() {
        put("requests", &format!("seed-{i}"), seed[0], &seed[1..]);
    }
}

/// Every body of the vectors, in the eras, and in the forms in which files hold them.
fn signals() {
    for (i, case) in vectors::domain("signal").iter().enumerate() {
        let era = match case["ruleset"].as_str() {
            Some("2024") => 0,
            Some("2025") => 1,
            _ => 2,
        };
        let Some(body) = case["request_body"].as_str() else { continue };
        if body.len() > 2000 {
            continue;
        }
        put("signals", &format!("seed-{i}"), era, body.as_bytes());
        if i % 4 == 0 {
            let keyed = body.replace("\"k\"", &format!("\"{KEY}\""));
            let with_key = if keyed.contains(KEY) || !keyed.starts_with('{') {
                keyed
            } else {
                keyed.replacen('{', &format!("{{\"api_key\":\"{KEY}\","), 1)
            };
            // Endpoint by number, key in the header now and then, translation, era.
            let n = u8::try_from(i / 4 % 64).unwrap();
            put("webhook", &format!("seed-{i}"), n | (era << 6), with_key.as_bytes());
            let file = [b"order-1.json\n", body.as_bytes()].concat();
            put("spool", &format!("seed-{i}"), era, &file);
            let twice = serde_json::to_string(body).unwrap();
            put("spool", &format!("seed-{i}-twice"), era, format!("a\n{twice}").as_bytes());
            let python = body.replace('"', "'").replace("true", "True").replace("null", "None");
            put("spool", &format!("seed-{i}-python"), era, format!("b.txt\n{python}").as_bytes());
        }
    }
    let prices = br#"{"trade_pair":"BTCUSDC","price":"100000.5","bid":100000.4,"ask":100000.6,"time_ms":1700000000000}"#;
    put("webhook", "prices", 4 | 8, prices);
    put("webhook", "idempotency", 8, b"Idempotency-Key: \"a-1\"\n{\"trade_pair\":\"BTCUSDC\",\"order_type\":\"LONG\",\"value\":1}");
    let alert = format!(
        r#"{{"api_key":"{KEY}","order_type":"buy","market_position":"long","prev_market_position":"flat","trade_pair":"XBT","value":5,"idempotency_key":"a"}}"#
    );
    put("webhook", "alert", 16 | 128, alert.as_bytes());
}

fn replies() {
    let hotkey = "5FUcmR6RpnmJ94A5DiGfrLRmy739xc16YeRU1LtmLsPWdcJN";
    let ok = format!(
        r#"{{"signal":{{"a":1}},"successfully_processed":true,"error_message":"","should_retry":true,"validator_hotkey":"{hotkey}","order_json":"{{\"n\": 1}}","miner_order_uuid":"u"}}"#
    );
    let failed = |text: &str| {
        format!(
            r#"{{"successfully_processed":false,"error_message":"{text}","should_retry":true,"validator_hotkey":"","order_json":null}}"#
        )
    };
    let answer = |status: &str, more: &str, body: &str| {
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n{more}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let texts = [
        answer("200 OK", "", &ok),
        answer("200 OK", "", &failed("Rate limited. Please wait 1000000000000 seconds before sending another signal.")),
        answer("200 OK", "", &failed("Order with uuid [u] has already been processed.")),
        answer("200 OK", "", &failed("This miner hotkey 5F has been eliminated and cannot participate")),
        answer("200 OK", "", &failed("Please wait 59.0 seconds before placing another order.")),
        answer("200 OK", "", &ok.replace("\"u\"}", "\"other\"}")),
        answer("200 OK", "", "[1]"),
        answer("429 Too Many Requests", "Retry-After: 99999999999999999999\r\n", "{\"error\":\"slow\"}"),
        answer("503 Service Unavailable", "Retry-After: Sun, 06 Nov 1994 08:49:47 GMT\r\n", ""),
        answer("401 Unauthorized", "", "{\"error\":\"StaleRequest\",\"message\":\"old\"}"),
        answer("403 Forbidden", "", "{\"error\":\"WrongReceiver\"}"),
        answer("404 Not Found", "bt_header_axon_status_code: 404\r\n", "{\"message\":\"Synapse name\"}"),
        answer("307 Temporary Redirect", "Location: http://127.0.0.1:1/\r\n", ""),
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_owned(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\n{\"err\r\n6\r\nor\":1}\r\n0\r\nX: y\r\n\r\n".to_owned(),
        format!("{}{}", answer("200 OK", "", "{}"), answer("200 OK", "", &ok)),
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"successfully_processed\":true".to_owned(),
        "SSH-2.0-OpenSSH_9.6\r\n".to_owned(),
        "\u{15}\u{3}\u{1}\0\u{2}\u{2}F".to_owned(),
        "<html></html>".to_owned(),
    ];
    for (i, text) in texts.iter().enumerate() {
        put("replies", &format!("seed-{i}"), u8::try_from(i % 2).unwrap(), text.as_bytes());
    }
}

fn keys() {
    let files = vectors::file("keyfiles.json");
    for (i, case) in files["vectors"].as_array().unwrap().iter().enumerate() {
        let bytes = vectors::base64(case["file_b64"].as_str().unwrap());
        put("keys", &format!("file-{i}"), 0, &bytes);
    }
    let account = r#"{"encoded":"RASgQdsVyJmQHnLQzCJ8VprwfMpHnVWJTFFAxcpP5tIAAAIAAQAAAAgAAAD/PsqGParTpy0zJAqBWLyRSKNhWuuJdRkKRT0gGK6jEBhDqxuXCJs+3+ISNlpnxUBaiuI2pP+whAWh+k0YSzF/iBu7xuPnblqViewmUBjxW0NPQSen7gSTrDmDx2S/7aFJGDY2WdI5OaVpF6afgD1Y2HV2Enxb64sWe+8N7754eaTJbe6zdFgsTHvCwR3hGmLRqfuUqQ6DCYXcDu9e","encoding":{"content":["pkcs8","sr25519"],"type":["scrypt","xsalsa20-poly1305"],"version":"3"},"address":"5EWMkbn47f8prCiybonXeWYtxUXoMu3AViecg5PZFbHPQ6Su","meta":{}}"#;
    put("keys", "polkadot-js", 0, account.as_bytes());
    for (i, text) in [
        "5HUGc9tvc9kxrhGdc3rz36dBAEvoqSbJMcGQSTsZSt1F1TkJ",
        "16QZkV9zTw2SJEH9ZguzBFTL1rvTXk9SS6ztbkruzy2mBqBk",
        "",
        " 5",
    ]
    .iter()
    .enumerate()
    {
        put("keys", &format!("address-{i}"), 1, text.as_bytes());
    }
    let phrase = "motion ride property real mesh into title pigeon poet joke target quiz";
    for (i, text) in [
        phrase.to_owned(),
        phrase.to_uppercase(),
        phrase.replace("quiz", "ride"),
        format!("{phrase}//hard/soft///password"),
        "//Alice".to_owned(),
        format!("0x{}", "07".repeat(32)),
        format!("0x{}//1/2", "07".repeat(32)),
    ]
    .iter()
    .enumerate()
    {
        put("keys", &format!("phrase-{i}"), 2, text.as_bytes());
    }
    let env = vectors::file("keyfile_env.json");
    put("keys", "variable-0", 3, b"BT_PW__W_A=AAAA");
    for (i, case) in env["vectors"].as_array().into_iter().flatten().enumerate() {
        let text = |key: &str| case[key].as_str().unwrap_or_default().to_owned();
        put(
            "keys",
            &format!("variable-{}", i + 1),
            3,
            format!("{}={}", text("name"), text("value")).as_bytes(),
        );
    }
    for (i, text) in ["miner/default", "../x", "a/..", "a/b/c", "a\0"].iter().enumerate() {
        put("keys", &format!("name-{i}"), 4, text.as_bytes());
    }
}

fn settings() {
    let hotkey = "5FeNwZ5oAqcJMitNqGx71vxGRWJhsdTqxFGVwPRfg8h2UZmo";
    let list: [(&str, u8, &str); 20] = [
        (
            "toml-0",
            0,
            "data_dir = \"./mining\"\n[server]\nlimits = true\nmax_body = 100000\nbody_timeout = \"5s\"\n[tradingview]\nactions = true\ntickers = \"XBT=BTCUSDC\"\n",
        ),
        ("toml-1", 0, "[server]\nmax_bodi = 1\n"),
        ("toml-2", 0, "[server]\nkey_rate = \"1/2\"\ntrusted_proxies = [\"10.0.0.0/8\"]\n"),
        (
            "validators-0",
            1,
            "[[validator]]\nhotkey = \"HOTKEY\"\nip = \"192.0.2.1\"\nport = 8091\nv_trust = 0.5\nstake = 10.5\npermit = true\nwire = \"dendrite\"\n",
        ),
        (
            "validators-1",
            1,
            "[[validator]]\nhotkey = \"HOTKEY\"\nip = \"::1\"\nport = 1\nv_trus = 1\n",
        ),
        ("rules-0", 2, "\u{2}{\"era\":\"2026\"}"),
        (
            "prices-0",
            4,
            "time_ms,trade_pair,price,bid,ask\n1,BTCUSDC,100.5,100,101\n\n2,BTCUSDC,1e5,,\n",
        ),
        (
            "prices-1",
            4,
            "time_ms,trade_pair,open,high,low,close\n0,A,1,2,0.5,1.5\n60000,A,1,2,0.5,0.7\n60000,B,1,1,1,1\n",
        ),
        ("prices-2", 4, "time_ms, trade_pair, price\n4102444800000,ETHUSDC,0.1\n1,X,2\n"),
        (
            "push-0",
            5,
            "{\"trade_pair\":\"BTCUSDC\",\"price\":\"100000.5\",\"bid\":1,\"ask\":2,\"time_ms\":1780000000000}",
        ),
        (
            "push-1",
            5,
            "[{\"trade_pair\":\"BTCUSDC\",\"price\":1},{\"trade_pair\":\"ETHUSDC\",\"price\":-1}]",
        ),
        (
            "push-2",
            5,
            "{\"trade_pair\":\"BTCUSDC\",\"price\":1e309}\n{\"trade_pair\":\"B\",\"price\":null}",
        ),
        ("value-0", 6, "250ms"),
        ("value-1", 6, "1.5h"),
        ("value-2", 6, "10.0.0.0/8,tradingview,::1/64"),
        ("value-3", 6, "127.0.0.1:8088"),
        ("value-4", 6, "0.000000001"),
        ("value-5", 6, "walk:BTCUSDC=100000"),
        ("value-6", 6, "99999999999999999d"),
        (
            "metagraph-0",
            7,
            "{\"format\":1,\"metagraph\":{\"netuid\":8,\"block\":1,\"block_hash\":\"0x\",\"genesis\":\"0x\",\"spec_version\":1,\"read_at\":1,\"neurons\":[]}}",
        ),
    ];
    for (name, selector, text) in list {
        put("settings", name, selector, text.replace("HOTKEY", hotkey).as_bytes());
    }
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ptn-core/data");
    for entry in std::fs::read_dir(data).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let text = std::fs::read(entry.path()).unwrap();
        if text.len() > 24 * 1024 {
            continue;
        }
        let era = if name.contains("2024") { 0 } else { 2 };
        let selector = if name.contains("pairs") { 3 } else { 2 };
        put("settings", &format!("data-{name}"), selector, &[&[era], text.as_slice()].concat());
    }
}

fn spool() {
    let lines = [
        r#"{"kind":"journal","version":1,"seq":0}"#,
        r#"{"kind":"accept","seq":1,"id":"a","digest":"0000000000000000000000000000000000000000000000000000000000000000","at":1700000000000,"signal":{"id":"a","rules":"2026","body":{"trade_pair":{"trade_pair_id":"BTCUSDC"},"order_type":"LONG","value":1,"execution_type":"MARKET"}}}"#,
        r#"{"kind":"progress","id":"a","at":1,"token":1,"progress":{"kind":"targets","validators":[{"hotkey":"h","address":"1.2.3.4:1","required":true,"state":"submitted","attempts":0,"maybe_sent":false,"at":1}]}}"#,
        r#"{"kind":"progress","id":"a","at":1,"token":1,"progress":{"kind":"begin","hotkeys":["h"]}}"#,
        r#"{"kind":"progress","id":"a","at":1,"token":1,"progress":{"kind":"outcome","validator":{"hotkey":"h","address":"1.2.3.4:1","required":true,"state":"accepted","attempts":1,"maybe_sent":true,"at":1,"next_try_at":2,"v_trust":1.0}}}"#,
        r#"{"kind":"cancel","id":"a","at":1}"#,
        r#"{"kind":"carry","id":"a","cancel":true,"retried":false,"validators":[]}"#,
        r#"{"kind":"finish","id":"a","report":{"state":"failed","reason":"r","validators":[],"finished_at":2}}"#,
        r#"{"kind":"retry","seq":2,"id":"a","digest":"0000000000000000000000000000000000000000000000000000000000000000","at":2,"validators":[],"signal":{"id":"a","rules":"2026","body":{}}}"#,
    ];
    for (i, line) in lines.iter().enumerate() {
        put("spool", &format!("line-{i}"), 4, line.as_bytes());
        let journal: Vec<String> = lines[..=i].iter().map(|line| format!("{line}\t")).collect();
        put("spool", &format!("journal-{i}"), 6, journal.join("\n").as_bytes());
    }
    let whole: Vec<u8> =
        lines[..3].iter().flat_map(|line| ptn_tests::fuzz::sealed_line(line.as_bytes())).collect();
    put("spool", "raw-0", 5, &whole);
    put("spool", "raw-1", 5, &whole[..whole.len() - 5]);
    put("spool", "raw-2", 5, &[whole.as_slice(), &[0; 40]].concat());
    put("spool", "finished-0", 3, br#"{"signal_data":{},"validators":[{"hotkey":"h","address":"a","required":true,"state":"accepted","attempts":1,"maybe_sent":true,"at":1}],"ptn":{"state":"processed","seq":1,"digest":"00","accepted_at":1,"finished_at":2,"signal":{"id":"a","rules":"2026","body":{"order_type":"LONG"}}}}"#);
}
