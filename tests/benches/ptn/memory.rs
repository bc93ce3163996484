//! Resident memory of the daemons: idle, and with ten thousand signals for a validator that hangs.

use std::time::Duration;

use ptn_core::chain::mock::{MockNeuron, MockNode, MockRuntime};
use ptn_core::sign::Hotkey;
use ptn_tests::process::Home;

use crate::limits::Limits;
use crate::responder::validator;
use crate::startup::{Hanging, fill, start_and_wait};
use crate::stats::rss_mib;
use crate::table::{Against, Goal, Measure, Table};
use crate::{MINER, SERVER, block_on};

const NEURONS: usize = 256;
const QUEUED: usize = 10_000;
const IDLE_MIB: f64 = 30.0;
const QUEUED_MIB: f64 = 60.0;
/// Until everything that is done at the start is done.
const SETTLE: Duration = Duration::from_secs(2);

/// A full subnet, by the metadata of a real runtime where `PTN_CHAIN_METADATA` names some.
async fn subnet(miner: &str) -> MockNode {
    let coldkey = Hotkey::generate();
    let mut builder = MockNode::builder().neuron(8, MockNeuron::new(miner, coldkey.address()));
    if let Some(folder) = std::env::var_os("PTN_CHAIN_METADATA") {
        let file = std::path::Path::new(&folder).join("finney-spec393.scale");
        builder = builder.runtime(MockRuntime::real(393, std::fs::read(file).unwrap()));
    }
    for _ in 1..NEURONS {
        let (key, axon) = (Hotkey::generate(), ([127, 0, 0, 1], 1).into());
        let neuron = MockNeuron::validator(key.address(), coldkey.address(), axon, 65_535);
        builder = builder.neuron(8, neuron);
    }
    builder.start().await.unwrap()
}

pub(crate) fn run(_: &Limits, table: &mut Table) {
    block_on(async {
        for (queued, state, most) in
            [(0, "idle", IDLE_MIB), (QUEUED, "10000 signals waiting", QUEUED_MIB)]
        {
            let hanging = Hanging::new().await;
            let home = Home::new(&[validator(hanging.port)]);
            fill(&home, queued).await;
            let (server, _) = start_and_wait(&home, SERVER).await;
            let mut miner = home.miner(MINER, &[]);
            miner.up().await;
            miner.ignore_log();
            tokio::time::sleep(SETTLE).await;
            let (s, m) = (rss_mib(server.pid()), rss_mib(miner.pid()));
            let mut row = |what: &str, mib, goal| {
                table.row(format!("{what}, {state}"), Measure(mib, "MiB"), Against::Nothing, goal);
            };
            row("ptn-server", s, Goal::None);
            row("ptn-miner", m, Goal::None);
            row("both processes", s + m, Goal::AtMost(most));
            server.kill().await;
            miner.kill().await;
            let (one, _) = start_and_wait(&home, MINER).await;
            tokio::time::sleep(SETTLE).await;
            row("ptn-miner with server", rss_mib(one.pid()), Goal::AtMost(most));
            one.kill().await;
        }
        let home = Home::new(&[]);
        let node = subnet(&home.hotkey).await;
        let mut miner = home.chain_miner(MINER, &node.url(), &[]);
        miner.line(|line| line["message"] == "delivering").await;
        miner.ignore_log();
        tokio::time::sleep(SETTLE).await;
        table.row(
            format!("ptn-miner, idle, {NEURONS} neurons from the chain"),
            Measure(rss_mib(miner.pid()), "MiB"),
            Against::Nothing,
            Goal::AtMost(IDLE_MIB),
        );
    });
}
