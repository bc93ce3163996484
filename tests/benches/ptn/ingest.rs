//! A real `ptn-server` under load, and the Flask server of the Python miner under the same.

use ptn_tests::process::Home;
use tempfile::TempDir;

use crate::limits::Limits;
use crate::load::{self, Load};
use crate::python::{self, Flask};
use crate::stats::{cpu_us, rss_mib};
use crate::table::{Against, Goal, Measure, Table};
use crate::{SERVER, block_on};

const SECONDS: u64 = 4;

pub(crate) fn run(_: &Limits, table: &mut Table) {
    table.note(format!("load by {}, 64 connections", load::generator()));
    // The baseline before and after, so that a machine that changes its mind is seen.
    let before = flask();
    let (ours, cpu, rss, _home) = block_on(server());
    let after = flask();
    let against = |of: fn(&Load) -> f64, unit| match (&before, &after) {
        (Some((a, _)), Some((b, _))) => {
            Against::This("Flask on waitress", Measure(f64::midpoint(of(a), of(b)), unit))
        }
        _ => Against::Missing("Flask on waitress"),
    };
    table.row(
        "requests, every one durable",
        Measure(ours.per_second, "/s"),
        against(|l| l.per_second, "/s"),
        Goal::RatioAtLeast(10.0),
    );
    let ms = |us: f64| Measure(us / 1e3, "ms");
    table.times_less("p50", ms(ours.p50), against(|l| l.p50 / 1e3, "ms"), Goal::None);
    table.times_less("p99", ms(ours.p99), against(|l| l.p99 / 1e3, "ms"), Goal::None);
    let per_request = cpu / ours.requests as f64;
    table.row(
        "processor time per request",
        Measure(per_request, "us"),
        Against::Nothing,
        Goal::None,
    );
    table.row(
        "memory of the server, all signals waiting",
        Measure(rss, "MiB"),
        Against::This("signals", Measure(ours.requests as f64, "")),
        Goal::None,
    );
}

async fn server() -> (Load, f64, f64, Home) {
    let home = Home::new(&[]);
    let mut server = home.server(
        SERVER,
        &["--limits", "off", "--rules", "2024", "--server.max-pending", "100000000"],
    );
    let address = server.up().await["address"].as_str().unwrap().to_owned();
    server.ignore_log();
    let before = cpu_us(server.pid());
    let load = tokio::task::spawn_blocking(move || load::run(&address, SECONDS)).await.unwrap();
    let cpu = cpu_us(server.pid()) - before;
    let rss = rss_mib(server.pid());
    assert_eq!(load.failed, 0, "every answer must be 200");
    server.kill().await;
    let journal = std::fs::read(home.data().join(".ptn/journal/journal.log")).unwrap();
    let kept = journal.split(|b| *b == b'\n').filter(|line| is_accept(line)).count() as u64;
    let sent = load.requests;
    assert!(kept >= sent, "{sent} signals were acknowledged and {kept} are in the journal");
    (load, cpu, rss, home)
}

fn is_accept(line: &[u8]) -> bool {
    line.get(9..).is_some_and(|json| json.starts_with(br#"{"kind":"accept""#))
}

/// Folders are kept until all is measured: some file systems create files slowly for minutes after
/// many were removed.
fn flask() -> Option<(Load, TempDir)> {
    python::there().then(|| {
        let files = tempfile::tempdir().unwrap();
        let server = Flask::start(files.path());
        let load = load::run(&server.address, SECONDS);
        assert_eq!(load.failed, 0, "every answer of the baseline must be 200");
        (load, files)
    })
}
