//! One signal to many validators: how long until the last acknowledgement, and for how much of our
//! processor. Against the processor's own signature, of which each delivery needs one, and against
//! the Python client.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use ptn_core::deliver::{DeliveryPolicy, Engine, Select};
use ptn_core::directory::{StaticDirectory, Validator};
use ptn_core::record::SignalState;
use ptn_core::rules::{Era, Rules};
use ptn_core::sign::Hotkey;
use ptn_core::signal::Signal;
use ptn_core::store::fs::{FsOptions, FsStore};
use ptn_core::store::{MemoryStore, SignalStore};
use ptn_core::transport::address::AddressPolicy;
use ptn_core::transport::http::{HttpOptions, HttpTransport};
use ptn_core::transport::{OutboundOrder, ValidatorTransport as _};

use crate::limits::Limits;
use crate::responder::Responder;
use crate::stats::{Times, cpu_us};
use crate::table::{Against, Goal, Measure, Table};
use crate::{block_on, python};

const COUNTS: [usize; 4] = [1, 8, 16, 64];
const ROUNDS: usize = 60;
const WARM_UP: usize = 5;
const PYTHON_ROUNDS: usize = 3;
const SIGNAL: &str =
    r#"{"trade_pair":"BTCUSDC","order_type":"LONG","leverage":0.1,"execution_type":"MARKET"}"#;

/// Median wall time of a signal, and processor time of a delivery, in microseconds.
#[derive(Debug, Clone, Copy)]
struct Cost {
    wall: f64,
    cpu: f64,
}

pub(crate) fn run(limits: &Limits, table: &mut Table) {
    let responder = Responder::start(64);
    for count in COUNTS {
        let python = python::there().then(|| {
            let (wall, cpu) = python::client(&responder.ports[..count], PYTHON_ROUNDS);
            Cost { wall, cpu }
        });
        let validators = responder.validators(count);
        let raw = block_on(transport(validators.clone()));
        let memory = block_on(engine(validators.clone(), Arc::new(MemoryStore::new())));
        let folder = tempfile::tempdir().unwrap();
        let disk = {
            let options = FsOptions::new(Arc::new(rules()));
            let store = FsStore::open_owner(folder.path().join("mining"), options).unwrap();
            block_on(engine(validators, Arc::new(store)))
        };
        for (name, cost) in [("transport only", raw), ("memory", memory), ("disk", disk)] {
            rows(table, &format!("{count} validators, {name}"), cost, python, limits);
        }
    }
}

fn rows(table: &mut Table, what: &str, cost: Cost, python: Option<Cost>, limits: &Limits) {
    let many = what.starts_with("64");
    let goal = |least| if many { Goal::RatioAtLeast(least) } else { Goal::None };
    let against = |of: fn(Cost) -> f64, unit| match python {
        Some(python) => Against::This("bittensor 11", Measure(of(python), unit)),
        None => Against::Missing("bittensor 11"),
    };
    let ms = Measure(cost.wall / 1e3, "ms");
    table.times_less(format!("{what}: wall"), ms, against(|c| c.wall / 1e3, "ms"), goal(100.0));
    table.row(
        format!("{what}: processor per delivery"),
        Measure(cost.cpu, "us"),
        Against::This("signature", Measure(limits.signature, "us")),
        if many { Goal::RatioAtMost(5.0) } else { Goal::None },
    );
    table.times_less(
        format!("{what}: processor per delivery"),
        Measure(cost.cpu, "us"),
        against(|c| c.cpu, "us"),
        goal(150.0),
    );
}

fn rules() -> Rules {
    Rules::load(Era::Y2026).unwrap()
}

fn client() -> HttpTransport {
    let mut options = HttpOptions::default();
    options.policy = AddressPolicy::AllowPrivate;
    HttpTransport::new(Arc::new(Hotkey::generate()), options)
}

/// A fresh signal for every round: validators know repeats.
fn signal() -> Signal {
    Signal::from_json(SIGNAL.as_bytes(), &rules()).unwrap()
}

async fn measure(count: usize, mut once: impl AsyncFnMut(Signal)) -> Cost {
    let (mut walls, mut cpus) = (Times::default(), Times::default());
    let me = std::process::id();
    for round in 0..WARM_UP + ROUNDS {
        let signal = signal();
        let (start, used) = (Instant::now(), cpu_us(me));
        once(signal).await;
        let wall = start.elapsed();
        // What is done behind the last acknowledgement is paid as well.
        tokio::time::sleep(Duration::from_millis(5)).await;
        if round >= WARM_UP {
            walls.push(wall);
            cpus.push(Duration::from_secs_f64((cpu_us(me) - used) / 1e6));
        }
    }
    Cost { wall: walls.median(), cpu: cpus.median() / count as f64 }
}

async fn transport(validators: Vec<Validator>) -> Cost {
    let transport = client();
    measure(validators.len(), async |signal| {
        let order = OutboundOrder::new(&signal, "8.8.9");
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        let mut all: FuturesUnordered<_> =
            validators.iter().map(|v| transport.deliver(v, &order, deadline)).collect();
        while let Some(reply) = all.next().await {
            assert!(reply.unwrap().successfully_processed, "the responder accepts everything");
        }
    })
    .await
}

async fn engine(validators: Vec<Validator>, store: Arc<dyn SignalStore>) -> Cost {
    let mut policy = DeliveryPolicy::preset(&rules(), None);
    policy.select = Select::All;
    policy.pacing = None;
    let count = validators.len();
    let engine = Engine::builder()
        .store(store)
        .directory(Arc::new(StaticDirectory::new(validators)))
        .transport(Arc::new(client()))
        .policy(policy)
        .start()
        .unwrap();
    let cost = measure(count, async |signal| {
        let receipt = engine.submit(&signal).await.unwrap();
        let stored = receipt.finished().await.unwrap();
        assert_eq!(stored.state, SignalState::Processed, "{stored:?}");
    })
    .await;
    engine.shutdown(Duration::from_secs(2)).await;
    cost
}
