//! A firm's own `ValidatorTransport`: here a dry run that reaches nobody. It also shows the one
//! thing that matters most: to be honest about whether an order may have arrived.
#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use ptn_core::deliver::{DeliveryPolicy, Engine, Select};
use ptn_core::directory::{StaticDirectory, Validator};
use ptn_core::order::OrderType;
use ptn_core::record::SignalState;
use ptn_core::rules::{Era, Rules};
use ptn_core::signal::Signal;
use ptn_core::store::MemoryStore;
use ptn_core::transport::{
    Certainty, OutboundOrder, TransportError, ValidatorReply, ValidatorTransport,
};
use tokio::time::Instant;

/// Prints what would be sent. Its first attempt fails before anything is sent.
#[derive(Debug, Default)]
struct DryRun {
    attempts: AtomicU32,
}

#[async_trait]
impl ValidatorTransport for DryRun {
    async fn deliver(
        &self,
        to: &Validator,
        order: &OutboundOrder,
        _deadline: Instant,
    ) -> Result<ValidatorReply, TransportError> {
        if self.attempts.fetch_add(1, Ordering::Relaxed) == 0 {
            println!("{}: not reached", to.address());
            // NotSent: the engine may try again under every rule set. MaybeSent would make it ask
            // whether validators recognise a repeat.
            let message = "the line is not open yet";
            return Err(TransportError::new(Certainty::NotSent, "connect", message));
        }
        println!("{}: {}", to.address(), order.signal);
        Ok(ValidatorReply {
            status: 200,
            successfully_processed: true,
            validator_hotkey: to.hotkey.clone(),
            ..ValidatorReply::default()
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rules = Rules::load(Era::Y2026)?;
    let mut policy = DeliveryPolicy::preset(&rules, None);
    policy.select = Select::All;
    policy.waits = vec![Duration::from_millis(50)];
    let validator = Validator {
        hotkey: "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY".to_owned(),
        ip: "192.0.2.1".parse()?,
        port: 8091,
        v_trust: 0.9,
        stake: 1000.0,
        permit: true,
        wire: Default::default(),
    };
    let engine = Engine::builder()
        .store(Arc::new(MemoryStore::new()))
        .directory(Arc::new(StaticDirectory::new(vec![validator])))
        .transport(Arc::new(DryRun::default()))
        .policy(policy)
        .start()?;
    let order = Signal::market("EURUSD", OrderType::Long).quantity("1.5".parse()?).build(&rules)?;
    let outcome = engine.submit(&order).await?.finished().await?;
    println!("{} is {}", order.id(), outcome.state);
    engine.shutdown(Duration::from_secs(1)).await;
    if outcome.state != SignalState::Processed {
        return Err("the dry run should have been acknowledged".into());
    }
    Ok(())
}
