//! Load over HTTP: `wrk` where it is installed, because it costs the least, or else our own loop.
//!
//! Closed loop on keep-alive connections, one thread. Both sides of a comparison get the same.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::stats::Times;

/// A signal under the rules of 2024, without a key.
pub(crate) const SIGNAL_2024: &str =
    r#"{"trade_pair":"BTCUSD","order_type":"LONG","leverage":0.1}"#;
const KEY: &str = "test-key";
const CONNECTIONS: usize = 64;

/// What came of a load. Times in microseconds.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) requests: u64,
    pub(crate) per_second: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// Answers other than 200, and broken connections.
    pub(crate) failed: u64,
}

/// Which generator is used.
pub(crate) fn generator() -> &'static str {
    let there = Command::new("wrk").arg("--version").output().is_ok();
    if there { "wrk" } else { "the benchmark's own load loop" }
}

pub(crate) fn body() -> String {
    format!(r#"{{"api_key":"{KEY}",{}"#, SIGNAL_2024.trim_start_matches('{'))
}

/// 64 connections post signals for some seconds.
pub(crate) fn run(address: &str, seconds: u64) -> Load {
    if generator() == "wrk" { wrk(address, seconds) } else { own(address, seconds) }
}

fn wrk(address: &str, seconds: u64) -> Load {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("post.lua");
    write_script(&script);
    let output = Command::new("wrk")
        .args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{seconds}s"), "-s"])
        .arg(script)
        .arg(format!("http://{address}/api/receive-signal"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|l| l.starts_with('{')).unwrap_or_else(|| panic!("wrk: {text}"));
    let line: Value = serde_json::from_str(line).unwrap();
    let number = |key: &str| line[key].as_f64().unwrap();
    Load {
        requests: number("requests") as u64,
        per_second: number("requests") / number("duration_us") * 1e6,
        p50: number("p50_us"),
        p99: number("p99_us"),
        failed: number("failed") as u64,
    }
}

fn write_script(path: &Path) {
    let script = format!(
        r#"wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{}'
done = function(summary, latency)
  local e = summary.errors
  print(string.format('{{"requests":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,"failed":%d}}',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.status + e.connect + e.read + e.write + e.timeout))
end
"#,
        body()
    );
    std::fs::write(path, script).unwrap();
}

fn own(address: &str, seconds: u64) -> Load {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let body = body();
    let request = format!(
        "POST /api/receive-signal HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let request: Arc<[u8]> = request.into_bytes().into();
    let start = Instant::now();
    let end = start + Duration::from_secs(seconds);
    let work = async {
        let tasks: Vec<_> = (0..CONNECTIONS)
            .map(|_| tokio::spawn(connection(address.to_owned(), Arc::clone(&request), end)))
            .collect();
        let mut all = Vec::new();
        let mut failed = 0;
        for task in tasks {
            let (times, bad) = task.await.unwrap();
            all.extend(times);
            failed += bad;
        }
        (all, failed)
    };
    let (all, failed) = runtime.block_on(work);
    let took = start.elapsed().as_secs_f64();
    let requests = all.len() as u64;
    let mut times = Times::default();
    all.into_iter().for_each(|time| times.push(time));
    let (p50, p99) = (times.median(), times.p99());
    Load { requests, per_second: requests as f64 / took, p50, p99, failed }
}

async fn connection(address: String, request: Arc<[u8]>, end: Instant) -> (Vec<Duration>, u64) {
    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut times, mut failed, mut buffer) = (Vec::new(), 0, Vec::new());
    while Instant::now() < end {
        let start = Instant::now();
        stream.write_all(&request).await.unwrap();
        let answer = read_answer(&mut stream, &mut buffer).await;
        times.push(start.elapsed());
        failed += u64::from(answer.status != 200);
        if answer.closes {
            stream = TcpStream::connect(&address).await.unwrap();
        }
    }
    (times, failed)
}

/// What is seen of an answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    closes: bool,
}

/// Reads one answer to its end.
pub(crate) async fn read_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Answer {
    buffer.clear();
    loop {
        let read = stream.read_buf(buffer).await.unwrap();
        assert!(read > 0, "the connection ended before its answer");
        let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
        let header = |name| head.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
        let length: usize = header("content-length:").map_or(0, |l| l.parse().unwrap());
        while buffer.len() < end + 4 + length {
            assert!(stream.read_buf(buffer).await.unwrap() > 0, "half an answer");
        }
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap();
        return Answer { status, closes: header("connection:") == Some("close") };
    }
}
