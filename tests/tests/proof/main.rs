//! What a firm can keep and check afterwards: receipts, the check of a whole store, and what
//! retention does to both.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::let_underscore_must_use,
    clippy::panic,
    reason = "a failed expectation is how a test fails"
)]

mod receipts;
mod retention;
mod verify;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ptn_core::deliver::{DeliveryPolicy, Engine, Select};
use ptn_core::directory::{StaticDirectory, Wire};
use ptn_core::rules::{Era, Rules};
use ptn_core::sign::Hotkey;
use ptn_core::signal::{OrderUuid, Signal};
use ptn_core::store::fs::FsOptions;
use ptn_core::store::{FsStore, SignalStore};
use ptn_core::transport::HttpTransport;
use ptn_core::transport::address::AddressPolicy;
use ptn_core::transport::http::HttpOptions;
use ptn_core::validator::{LoopbackValidator, ValidatorOptions};

pub(crate) fn rules() -> Rules {
    Rules::load(Era::Y2026).unwrap()
}

pub(crate) fn store(dir: &Path) -> Arc<FsStore> {
    Arc::new(FsStore::open_owner(dir, FsOptions::new(Arc::new(rules()))).unwrap())
}

pub(crate) fn signal(id: &str, pair: &str) -> Signal {
    let body = format!(
        r#"{{"trade_pair":"{pair}","order_type":"LONG","leverage":0.1,"order_uuid":"{id}"}}"#
    );
    Signal::from_json(body.as_bytes(), &rules()).unwrap()
}

pub(crate) fn id(text: &str) -> OrderUuid {
    OrderUuid::parse(text).unwrap()
}

/// Delivers these signals from a store to two real validators on loopback.
pub(crate) async fn deliver(store: &Arc<FsStore>, signals: &[Signal]) {
    let mut validators = Vec::new();
    for _ in 0..2 {
        validators.push(LoopbackValidator::start(ValidatorOptions::default()).await.unwrap());
    }
    let mut policy = DeliveryPolicy::preset(&rules(), None);
    policy.select = Select::All;
    policy.pacing = None;
    let mut options = HttpOptions::default();
    options.policy = AddressPolicy::AllowPrivate;
    let hotkey = Arc::new(Hotkey::from_seed([1; 32]));
    let engine = Engine::builder()
        .store(Arc::clone(store) as _)
        .directory(Arc::new(StaticDirectory::new(
            validators.iter().map(|v| v.entry(Wire::Btauth)).collect(),
        )))
        .transport(Arc::new(HttpTransport::new(hotkey, options)))
        .policy(policy)
        .start()
        .unwrap();
    for signal in signals {
        let receipt = engine.submit(signal).await.unwrap();
        receipt.finished().await.unwrap();
    }
    engine.shutdown(Duration::from_secs(5)).await;
}

/// Waits until a file is there or gone; the folders follow the journal.
pub(crate) async fn until(mut done: impl FnMut() -> bool) {
    let waiting = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("it happens");
}

/// What a rewritten journal looks like: it has forgotten what is finished and in its files. A few
/// signals more wait then.
pub(crate) async fn forget_journal(dir: &Path) {
    let mut options = FsOptions::new(Arc::new(rules()));
    options.journal_bytes = 1;
    let store = FsStore::open_owner(dir, options).unwrap();
    let journal = dir.join(".ptn/journal/journal.log");
    for more in 0.. {
        if !std::fs::read_to_string(&journal).unwrap().contains("\"finish\"") {
            return;
        }
        assert!(more < 500, "the journal is rewritten");
        // Any record makes the owner look at the length.
        let _ = store.accept(&signal(&format!("more-{more}"), "ETHUSDC")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A data directory with three delivered signals and one that waits, from which nobody delivers.
pub(crate) async fn lived_in() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let sent: Vec<_> = ["one", "two", "three"].map(|id| signal(id, "BTCUSDC")).into();
    deliver(&store, &sent).await;
    let _ = store.accept(&signal("four", "ETHUSDC")).await.unwrap();
    until(|| dir.path().join("received_signals/four").exists()).await;
    dir
}
