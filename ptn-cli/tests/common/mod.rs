//! Runs the real binary, each time in a folder of its own.
#![allow(dead_code, unreachable_pub, reason = "each suite uses a part")]

pub mod terminal;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// What a run said.
#[derive(Debug)]
pub struct Said {
    /// Exit code.
    pub code: i32,
    /// stdout.
    pub out: String,
    /// stderr.
    pub err: String,
}

impl Said {
    /// stdout as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

/// The binary in a folder, without anything of the caller's environment that could matter.
pub fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ptn-cli"));
    command.current_dir(dir).env_clear().env("HOME", dir).env("TERM", "xterm");
    command.stdin(Stdio::null());
    command
}

/// Runs it with arguments.
pub fn run(dir: &Path, args: &[&str]) -> Said {
    said(command(dir).args(args).output().unwrap())
}

/// Runs it with something on stdin.
pub fn run_with(dir: &Path, args: &[&str], stdin: &[u8]) -> Said {
    let mut child = command(dir)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end without reading everything.
    child.stdin.take().unwrap().write_all(stdin).ok();
    said(child.wait_with_output().unwrap())
}

fn said(output: Output) -> Said {
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The `signal` cases of `domain.json` that are judged without a key.
pub fn signal_cases() -> Vec<serde_json::Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/domain.json");
    let file: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let all = file["vectors"].as_array().unwrap();
    let cases: Vec<_> = all
        .iter()
        .filter(|c| c["kind"] == "signal")
        .filter(|c| !verdict(c)["category"].as_str().unwrap_or_default().starts_with("auth_"))
        .cloned()
        .collect();
    assert!(cases.len() > 200, "only {} cases", cases.len());
    cases
}

/// What is expected of us in a case.
pub fn verdict(case: &serde_json::Value) -> &serde_json::Value {
    let product = &case["expected"]["product"];
    if product.is_null() { &case["expected"] } else { product }
}

/// Compares JSON values; numbers by value.
pub fn same(a: &serde_json::Value, b: &serde_json::Value) -> bool {
    use serde_json::Value;
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            a.as_f64().map(f64::to_bits) == b.as_f64().map(f64::to_bits)
                || a.as_f64()
                    .zip(b.as_f64())
                    .is_some_and(|(a, b)| (a - b).abs() < f64::EPSILON * a.abs())
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| same(v, w)))
        }
        _ => a == b,
    }
}

/// Compares a document of `send --check --json` with a case.
pub fn judge(case: &serde_json::Value, said: &serde_json::Value) -> Result<(), String> {
    let want = verdict(case);
    if want["accept"] != said["accepted"] {
        return Err(format!("said {said}, expected {want}"));
    }
    if want["accept"] == true {
        let same = same(&said["signal"], &want["normalised"]);
        return if same {
            Ok(())
        } else {
            Err(format!("{} is not {}", said["signal"], want["normalised"]))
        };
    }
    let error = &said["error"];
    if error["code"] != want["category"] {
        return Err(format!("refused as {error}, expected {}", want["category"]));
    }
    match error["message"].as_str() {
        Some("") | None => Err("no message".to_owned()),
        Some(_) if !error["field"].is_string() => Err("no field".to_owned()),
        Some(_) => Ok(()),
    }
}
