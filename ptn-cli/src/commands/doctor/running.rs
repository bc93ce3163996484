//! What `doctor` hears from a miner that runs: its own view of its clock, its disk and its state.
//! Only its health page on loopback is read.

use std::time::Duration;

use hyper::Method;
use ptn_core::ops::config::Settings;
use serde_json::Value;

use super::Findings;
use crate::http::{Call, Server};

const PATIENCE: Duration = Duration::from_secs(3);

/// Where a miner's health page would be.
fn url(settings: &Settings) -> Option<String> {
    let port = settings.parse::<u16>("axon.port", "a port").ok().flatten();
    port.filter(|port| *port != 0).map(|port| format!("http://127.0.0.1:{port}"))
}

/// The health page, when it is a miner's.
async fn health(url: &str) -> Option<Value> {
    let server = Server::new(url, None).ok()?;
    let call = Call { method: Method::GET, path: "/health", body: None, timeout: PATIENCE };
    let answer = server.call(call).await.ok()?;
    let health: Value = serde_json::from_slice(&answer.body).ok()?;
    health.get("hotkey").is_some_and(serde_json::Value::is_string).then_some(health)
}

/// Whether a miner of this machine answers: from a database another machine's may deliver.
pub(super) async fn is_miner(settings: &Settings) -> bool {
    match url(settings) {
        Some(url) => health(&url).await.is_some(),
        None => false,
    }
}

/// Asks the miner that runs here.
pub(super) async fn look(settings: &Settings, found: &mut Findings) {
    let Some(url) = url(settings) else { return };
    let Some(health) = health(&url).await else {
        found.warn(
            "running",
            format!("a miner runs, and {url}/health does not say how it is"),
            "give doctor the miner's own flags (--axon.port)",
        );
        return;
    };
    match health.get("status").and_then(Value::as_str) {
        Some("healthy") => found.ok("running", "the miner says that it is healthy"),
        _ => found.warn(
            "running",
            "the miner says that it is degraded",
            format!("see why: curl {url}/health, and its log"),
        ),
    }
    clock(health.get("clock").unwrap_or(&Value::Null), found);
}

fn clock(clock: &Value, found: &mut Findings) {
    let offset = clock.get("offset_ms").and_then(Value::as_i64).unwrap_or(0);
    let peers = clock.get("peers").and_then(Value::as_u64).unwrap_or(0);
    let seconds = Duration::from_millis(offset.unsigned_abs()).as_secs_f64();
    let way = if offset < 0 { "behind" } else { "ahead of" };
    let by = if peers == 1 { "1 peer".to_owned() } else { format!("{peers} peers") };
    let said = format!("it is {seconds:.1} s {way} the others' (by {by} of the running miner)");
    let next = clock.get("do").and_then(Value::as_str).unwrap_or("set it: timedatectl").to_owned();
    match clock.get("state").and_then(Value::as_str) {
        Some("off") => {
            found.fail("clock", format!("{said}: validators refuse what is signed here"), next)
        }
        Some("near") => found.warn("clock", said, next),
        Some("ok") => found.ok("clock", format!("it agrees with {by} of the running miner")),
        _ => {}
    }
    let apart = clock.get("apart").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for peer in apart.iter().filter_map(Value::as_str) {
        found.warn(
            "clock",
            format!("the clock of {peer} is far from the others'"),
            "nothing to do here; it may refuse what is signed here",
        );
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use clap::Command;
    use ptn_core::ops::config::with_flags;

    use super::*;
    use crate::cli::ALL_SETTINGS;

    /// A port that answers the next request with this.
    fn answering(body: &'static str) -> Settings {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        std::thread::spawn(move || {
            let (mut caller, _) = listener.accept().unwrap();
            let read = caller.read(&mut [0; 1024]).unwrap();
            assert!(read > 0);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            caller.write_all(format!("{head}{body}").as_bytes()).unwrap();
        });
        let command = with_flags(Command::new("x"), ALL_SETTINGS);
        let matches = command.try_get_matches_from(["x", "--axon.port", &port]).unwrap();
        Settings::resolve(ALL_SETTINGS, &matches).unwrap()
    }

    #[tokio::test]
    async fn a_miner_is_told_from_others_by_its_health_page() {
        assert!(is_miner(&answering(r#"{"status":"healthy","hotkey":"5E"}"#)).await);
        assert!(!is_miner(&answering(r#"{"status":"healthy"}"#)).await);
        assert!(!is_miner(&answering("hello")).await);
    }
}
