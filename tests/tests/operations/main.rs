//! Running the daemons: replacing them, their clock, their disk. Real processes, real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::float_cmp,
    reason = "a failed expectation is how a test fails"
)]

mod clock;
mod disk;
mod drain;
mod log;
mod replace;

use ptn_core::validator::{LoopbackValidator, ValidatorOptions};
use ptn_tests::http::request;
use ptn_tests::process::PATIENCE;
use serde_json::{Value, json};

const MINER: &str = env!("CARGO_BIN_EXE_ptn-miner-under-test");
const SERVER: &str = env!("CARGO_BIN_EXE_ptn-server-under-test");
const CLI: &str = env!("CARGO_BIN_EXE_ptn-cli-under-test");

async fn validator(clock_ahead_ms: i64) -> LoopbackValidator {
    let mut options = ValidatorOptions::default();
    options.clock_ahead_ms = clock_ahead_ms;
    LoopbackValidator::start(options).await.unwrap()
}

fn order(uuid: &str) -> String {
    json!({"trade_pair": "BTCUSDC", "order_type": "long", "leverage": "0.1", "order_uuid": uuid})
        .to_string()
}

/// A free port for flags that need a number.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn get(address: &str, path: &str) -> (u16, Value) {
    request(address, hyper::Method::GET, path, &[], "").await
}

/// Waits until a page is as wanted.
async fn until(address: &str, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        let page = get(address, path).await.1;
        if wanted(&page) {
            return page;
        }
        assert!(tokio::time::Instant::now() < end, "{page:#}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// The number of a metric.
async fn metric(address: &str, name: &str) -> f64 {
    let page = get(address, "/metrics").await.1;
    let line = page.as_str().unwrap().lines().find(|line| line.starts_with(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("no {name}:\n{page}"))
        .rsplit(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap()
}
