//! What `doctor` hears from a miner that runs: its own view of its clock, its disk and its state.
//! Only its health page on loopback is read.

use std::path::Path;
use std::time::Duration;

use hyper::Method;
use ptn_core::ops::config::Settings;
use serde_json::Value;

use super::Findings;
use crate::commands::spool;
use crate::http::{Call, Server};

const PATIENCE: Duration = Duration::from_secs(3);

/// Asks the miner that delivers from the data directory, if there is one.
pub(super) async fn look(settings: &Settings, dir: &Path, found: &mut Findings) {
    if spool::holder(dir).is_none() {
        return;
    }
    let port = match settings.parse::<u16>("axon.port", "a port") {
        Ok(Some(port)) if port != 0 => port,
        _ => return,
    };
    let url = format!("http://127.0.0.1:{port}");
    let Ok(server) = Server::new(&url, None) else { return };
    let call = Call { method: Method::GET, path: "/health", body: None, timeout: PATIENCE };
    let health = match server.call(call).await {
        Ok(answer) => serde_json::from_slice::<Value>(&answer.body).ok(),
        Err(_) => None,
    };
    let Some(health) = health.filter(|health| health["hotkey"].is_string()) else {
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
