//! Nonces that an earlier run left ahead of the clock, over real sockets. A file of its own, because
//! nonces are one sequence per process.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use ptn_core::directory::Wire;
use ptn_core::rules::{Era, Rules};
use ptn_core::sign::Hotkey;
use ptn_core::signal::Signal;
use ptn_core::transport::address::AddressPolicy;
use ptn_core::transport::http::HttpOptions;
use ptn_core::transport::{HttpTransport, OutboundOrder, ValidatorTransport as _, nonce};
use ptn_core::validator::{LoopbackValidator, ValidatorOptions};
use tokio::time::Instant;

/// The clock ran two hours fast in an earlier run and was put right since.
#[tokio::test]
async fn a_clock_that_was_put_right_locks_nobody_out() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("nonce");
    let two_hours_ahead = nonce::now_ns() + 7_200_000_000_000;
    std::fs::write(&file, format!("{two_hours_ahead:020}")).unwrap();
    nonce::keep(&file).unwrap();

    let validator = LoopbackValidator::start(ValidatorOptions::default()).await.unwrap();
    let mut options = HttpOptions::default();
    options.policy = AddressPolicy::AllowPrivate;
    let transport = HttpTransport::new(Arc::new(Hotkey::generate()), options);
    let rules = Rules::load(Era::Y2026).unwrap();
    let send = async || {
        let order = OutboundOrder::new(&Signal::flat("BTCUSDC").build(&rules).unwrap(), "8.8.9");
        let deadline = Instant::now() + Duration::from_secs(20);
        let reply =
            transport.deliver(&validator.entry(Wire::Btauth), &order, deadline).await.unwrap();
        assert!(reply.successfully_processed, "{reply:?}");
    };
    send().await;
    let kept: u64 = std::fs::read_to_string(&file).unwrap().parse().unwrap();
    assert!(!nonce::ahead(kept), "the next run starts from the clock as well");
    send().await;
}
