//! Golden vectors: reading a file whole, and naming file and case when one fails.

use std::path::PathBuf;

use serde_json::Value;

/// The content of `tests/vectors/<name>`.
///
/// # Panics
/// When the file is missing or no JSON.
pub fn file(name: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The cases of one kind in `domain.json`.
///
/// # Panics
/// When there is none: a file without cases proves nothing.
pub fn domain(kind: &str) -> Vec<Value> {
    let all = file("domain.json");
    let list = all["vectors"].as_array().expect("domain.json: vectors is a list");
    let cases: Vec<Value> = list.iter().filter(|c| c["kind"] == kind).cloned().collect();
    assert!(!cases.is_empty(), "domain.json has no case of kind {kind}");
    cases
}

/// Compares JSON values; numbers by value, so that `1` equals `1.0`.
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| same(v, w)))
        }
        _ => a == b,
    }
}

/// Collects failures, so that one run shows every case that differs.
#[derive(Debug, Default)]
pub struct Failures {
    seen: usize,
    texts: Vec<String>,
}

impl Failures {
    /// Counts a case and keeps what was wrong with it.
    pub fn case(&mut self, file: &str, case: &str, result: Result<(), String>) {
        self.seen += 1;
        if let Err(text) = result {
            self.texts.push(format!("{file} {case}: {text}"));
        }
    }

    /// Fails when any case failed, or when there was none.
    ///
    /// # Panics
    /// See above.
    pub fn finish(self) {
        assert!(self.seen > 0, "no case was read");
        let count = self.texts.len();
        assert!(count == 0, "{count} of {} cases differ:\n{}", self.seen, self.texts.join("\n"));
    }
}

/// The bytes of a base64 text.
///
/// # Panics
/// When it is none.
pub fn base64(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::prelude::BASE64_STANDARD.decode(text).expect("base64 in a vector file")
}
