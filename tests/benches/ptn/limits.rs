//! What this machine can do: durable writes and signatures. Everything else is set against these.

use std::fs::File;
use std::hint::black_box;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Instant;

use ptn_core::sign::{Hotkey, Signer as _};

use crate::stats::Times;
use crate::table::{Against, Goal, Measure, Table};

const WRITES: usize = 400;
const SIGNATURES: u32 = 2000;
/// About what a journal's record and a signed message hold.
const BYTES: usize = 400;

/// All in microseconds.
#[derive(Debug)]
pub(crate) struct Limits {
    /// write, fdatasync, rename, sync of the folder.
    pub(crate) durable: f64,
    durable_p99: f64,
    /// append, fdatasync.
    pub(crate) append: f64,
    append_p99: f64,
    /// One sr25519 signature.
    pub(crate) signature: f64,
}

pub(crate) fn measure() -> Limits {
    let folder = tempfile::tempdir().unwrap();
    let data = [b'x'; BYTES];
    let create = |name: &str| {
        let mut options = File::options();
        options.create(true).append(true).mode(0o600).open(folder.path().join(name)).unwrap()
    };
    let names = File::open(folder.path()).unwrap();
    let (mut durable, mut append) = (Times::default(), Times::default());
    for n in 0..WRITES {
        let start = Instant::now();
        let mut file = create("tmp");
        file.write_all(&data).unwrap();
        file.sync_data().unwrap();
        drop(file);
        std::fs::rename(folder.path().join("tmp"), folder.path().join(n.to_string())).unwrap();
        names.sync_all().unwrap();
        durable.push(start.elapsed());
    }
    let mut log = create("log");
    for _ in 0..WRITES {
        let start = Instant::now();
        log.write_all(&data).unwrap();
        log.sync_data().unwrap();
        append.push(start.elapsed());
    }
    let key = Hotkey::generate();
    let start = Instant::now();
    for _ in 0..SIGNATURES {
        black_box(key.sign(black_box(&data)).unwrap());
    }
    let signature = start.elapsed().as_secs_f64() * 1e6 / f64::from(SIGNATURES);
    Limits {
        durable: durable.median(),
        durable_p99: durable.p99(),
        append: append.median(),
        append_p99: append.p99(),
        signature,
    }
}

pub(crate) fn show(limits: &Limits, table: &mut Table) {
    let rows = [
        ("write+fdatasync+rename+sync of the folder, p50", limits.durable),
        ("write+fdatasync+rename+sync of the folder, p99", limits.durable_p99),
        ("append+fdatasync, p50", limits.append),
        ("append+fdatasync, p99", limits.append_p99),
        ("sr25519 signature of 400 bytes", limits.signature),
    ];
    for (what, us) in rows {
        table.row(what, Measure(us, "us"), Against::Nothing, Goal::None);
    }
}
