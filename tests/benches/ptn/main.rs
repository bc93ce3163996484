//! The benchmarks: everything in one run on one machine, as ratios.
//!
//! `cargo bench -p ptn-tests [-- [--json] [section ...]]`. Absolute numbers say more about a machine
//! than about a program, so each one is set against something measured in the same run: this disk's
//! own durable write, this processor's own signature, or the Python side (see `python`). Nothing
//! here fails because of a time; what does not work at all does. What the numbers mean is explained
//! in docs/benchmarks.md.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a benchmark stops where something does not work, and rounds"
)]

mod accept;
mod fanout;
mod ingest;
mod limits;
mod load;
mod memory;
mod overload;
mod paper;
mod post;
mod python;
mod responder;
mod startup;
mod stats;
mod table;

use std::process::ExitCode;

use self::limits::Limits;
use self::table::Table;

/// The binaries of this workspace, built for this run.
const MINER: &str = env!("CARGO_BIN_EXE_ptn-miner-under-test");
const SERVER: &str = env!("CARGO_BIN_EXE_ptn-server-under-test");

type Section = (&'static str, fn(&Limits, &mut Table));

const SECTIONS: [Section; 9] = [
    ("limits", limits::show),
    ("accept", accept::run),
    ("ingest", ingest::run),
    ("overload", overload::run),
    ("fanout", fanout::run),
    ("post_to_validator", post::run),
    ("startup", startup::run),
    ("memory", memory::run),
    ("paper", paper::run),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, count] = args.as_slice()
        && flag == responder::FLAG
    {
        responder::main(count.parse().expect("a number of validators"));
        return ExitCode::SUCCESS;
    }
    let json = args.iter().any(|a| a == "--json");
    // cargo adds `--bench`.
    let wanted: Vec<&String> = args.iter().filter(|a| !a.starts_with("--")).collect();
    let known = |name: &str| SECTIONS.iter().any(|(known, _)| *known == name);
    if let Some(unknown) = wanted.iter().find(|w| !known(w)) {
        let names: Vec<_> = SECTIONS.iter().map(|(name, _)| *name).collect();
        eprintln!("no section {unknown:?}; there are: {}", names.join(", "));
        return ExitCode::from(2);
    }
    if !python::there() {
        eprintln!("no Python baseline: run tests/benches/python/setup.sh");
    }
    let mut table = Table::default();
    let mut broken = false;
    let limits = limits::measure();
    for (name, run) in SECTIONS {
        if !wanted.is_empty() && !wanted.iter().any(|w| *w == name) {
            continue;
        }
        eprintln!("{name} ...");
        table.begin(name);
        // A section that does not work must not cost the others.
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            run(&limits, &mut table);
        }));
        if ran.is_err() {
            eprintln!("{name}: does not work, see above");
            broken = true;
        }
    }
    if json {
        table.print_json()
    } else {
        table.print()
    }
    if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Runs a section's async part.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap().block_on(work)
}
