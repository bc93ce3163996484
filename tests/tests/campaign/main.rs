//! The crash campaign: the real programs under load, killed at every step of a signal's life, on
//! disks that fail, through power cuts, and on a database that is killed. The tables are in `docs/reliability.md`.
//!
//! Without further words each part is short. `PTN_CAMPAIGN_CYCLES=1000` makes the kills so many,
//! `PTN_CAMPAIGN_CUTS=100` the power cuts, `PTN_CAMPAIGN_PG_KILLS=50` the kills of PostgreSQL, `PTN_CAMPAIGN_ROUNDS=10` repeats each disk fault;
//! `PTN_CAMPAIGN_SEED` repeats the choices of a run. Run it with `--nocapture` to see the tables.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is how a test fails"
)]

mod database;
mod disks;
mod kills;
mod pauses;
mod power;

use ptn_tests::chaos::world::Programs;

const PROGRAMS: Programs = Programs {
    miner: env!("CARGO_BIN_EXE_ptn-miner-under-test"),
    server: env!("CARGO_BIN_EXE_ptn-server-under-test"),
};
