//! A trading bot that submits its signals through the engine, in its own process.
//!
//! It starts two validators of its own on loopback, so that it runs without keys and without a
//! network. In a real bot the key comes from `Hotkey::from_keyfile`, the list of validators from
//! your own source, and the address policy stays `Public`.
#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::sync::Arc;
use std::time::Duration;

use ptn_core::deliver::{DeliveryPolicy, Engine, Select};
use ptn_core::directory::{StaticDirectory, Wire};
use ptn_core::order::OrderType;
use ptn_core::rules::{Era, Rules};
use ptn_core::sign::Hotkey;
use ptn_core::signal::Signal;
use ptn_core::store::fs::{FsOptions, FsStore};
use ptn_core::transport::HttpTransport;
use ptn_core::transport::address::AddressPolicy;
use ptn_core::transport::http::HttpOptions;
use ptn_core::validator::{LoopbackValidator, ValidatorOptions};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let first = LoopbackValidator::start(ValidatorOptions::default()).await?;
    let second = LoopbackValidator::start(ValidatorOptions::default()).await?;
    let validators = vec![first.entry(Wire::Btauth), second.entry(Wire::Dendrite)];

    let rules = Arc::new(Rules::load(Era::Y2026)?);
    let spool = tempfile::tempdir()?;
    let store = FsStore::open_owner(spool.path(), FsOptions::new(Arc::clone(&rules)))?;

    let mut options = HttpOptions::default();
    options.policy = AddressPolicy::AllowPrivate; // loopback validators
    let transport = HttpTransport::new(Arc::new(Hotkey::generate()), options);

    let mut policy = DeliveryPolicy::preset(&rules, None);
    policy.select = Select::All;

    let engine = Engine::builder()
        .store(Arc::new(store))
        .directory(Arc::new(StaticDirectory::new(validators)))
        .transport(Arc::new(transport))
        .policy(policy)
        .start()?;

    // The strategy decides; from `submit` on the signal is safe, whatever happens to this process.
    let buy = Signal::market("BTCUSDC", OrderType::Long)
        .leverage("0.25".parse()?)
        .stop_loss("58000".parse()?)
        .build(&rules)?;
    let receipt = engine.submit(&buy).await?;
    println!("{} is safe", receipt.id());

    let outcome = receipt.finished().await?;
    for (hotkey, record) in &outcome.validators {
        println!("  {hotkey}: {} after {} attempt(s)", record.state, record.attempts);
    }
    println!("{} is {}", receipt.id(), outcome.state);

    let close = engine.submit(&Signal::flat("BTCUSDC").build(&rules)?).await?;
    println!("{} is {}", close.id(), close.finished().await?.state);
    engine.shutdown(Duration::from_secs(5)).await;

    if first.count() != 2 || second.count() != 2 {
        return Err("each validator should have received both signals".into());
    }
    Ok(())
}
