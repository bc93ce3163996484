//! Resident memory of the daemons: idle, and with ten thousand signals for a validator that hangs.

use std::time::Duration;

use ptn_tests::process::Home;

use crate::limits::Limits;
use crate::responder::validator;
use crate::startup::{Hanging, fill, start_and_wait};
use crate::stats::rss_mib;
use crate::table::{Against, Goal, Measure, Table};
use crate::{MINER, SERVER, block_on};

const QUEUED: usize = 10_000;
const IDLE_MIB: f64 = 30.0;
const QUEUED_MIB: f64 = 60.0;
/// Until everything that is done at the start is done.
const SETTLE: Duration = Duration::from_secs(2);

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
    });
}
