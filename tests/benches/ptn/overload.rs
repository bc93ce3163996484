//! A real `ptn-server` that is offered more than it can take: how much it accepts, how fast it
//! refuses the rest, and that its memory does not grow with what is offered.
//!
//! The disk is made slow (`strace` delays every sync) and the bounds are small, so that the store is
//! what is short, and a machine with two cores can offer ten times as much. Each level has a server
//! of its own. Arrivals follow a schedule on 400 connections from two addresses; a request whose
//! connection is still waiting for an answer is sent as soon as that is there, so fewer can be sent
//! than are offered, and both are said.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ptn_tests::process::{Daemon, Home};
use tokio::net::{TcpSocket, TcpStream};

use crate::limits::Limits;
use crate::load::{body, read_answer};
use crate::stats::{Times, peak_mib};
use crate::table::{Against, Goal, Measure, Table};
use crate::{SERVER, block_on};

/// What a sync takes longer than it would.
const SLOWER: Duration = Duration::from_millis(300);
/// The server's bounds.
const IN_FLIGHT: &str = "32";
const QUEUED: &str = "64";
const CONNECTIONS: u64 = 400;
/// As many as the server hands to the store at once: with fewer it would not be full.
const CAPACITY_CONNECTIONS: u64 = 32;
/// Below the server's limit per address.
const PER_ADDRESS: u64 = 200;
const TIME: Duration = Duration::from_secs(5);
const LEVELS: [f64; 4] = [1.0, 2.0, 5.0, 10.0];

/// What came of one level.
#[derive(Debug, Default)]
struct Level {
    sent: f64,
    accepted: f64,
    busy: f64,
    limited: f64,
    p50: f64,
    p99: f64,
    peak: f64,
}

pub(crate) fn run(_: &Limits, table: &mut Table) {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        table.note("not measured: strace, which makes the disk slow, is not installed");
        return;
    }
    table.note(format!(
        "every sync takes {} ms longer than this disk's; {IN_FLIGHT} signals at the store at once, {QUEUED} wait",
        SLOWER.as_millis()
    ));
    let capacity = block_on(level(f64::INFINITY, CAPACITY_CONNECTIONS));
    let base = capacity.accepted;
    let against = |unit| Against::This("capacity", Measure(base, unit));
    table.row("capacity, 32 callers", Measure(base, "/s"), Against::Nothing, Goal::None);
    table.row("capacity: p99", Measure(capacity.p99, "ms"), Against::Nothing, Goal::None);
    let alone = || Against::This("at capacity", Measure(capacity.peak, "MiB"));
    for times in LEVELS {
        let offered = base * times;
        let l = block_on(level(offered, CONNECTIONS));
        let mut row = |what: &str, value, unit, against, goal| {
            table.row(format!("{times}x: {what}"), Measure(value, unit), against, goal);
        };
        row("offered", offered, "/s", against("/s"), Goal::None);
        row("sent", l.sent, "/s", against("/s"), Goal::None);
        let least = if times >= 2.0 { Goal::RatioAtLeast(0.7) } else { Goal::None };
        row("accepted", l.accepted, "/s", against("/s"), least);
        row("refused with 503", l.busy, "/s", Against::Nothing, Goal::None);
        row("refused with 429", l.limited, "/s", Against::Nothing, Goal::None);
        row("p50 of accepted", l.p50, "ms", Against::Nothing, Goal::None);
        row("p99 of accepted", l.p99, "ms", Against::Nothing, Goal::None);
        row("peak memory", l.peak, "MiB", alone(), Goal::RatioAtMost(2.0));
    }
}

/// Offers so many requests a second; with infinity each connection sends as soon as it may.
async fn level(per_second: f64, connections: u64) -> Level {
    let home = Home::new(&[]);
    let (mut server, pid, address) = slow_server(&home).await;
    let counts: Arc<[AtomicU64; 3]> = Arc::default();
    let sent = Arc::new(AtomicU64::new(0));
    let start = Instant::now() + Duration::from_millis(300);
    let every = Duration::from_secs_f64(connections as f64 / per_second);
    let tasks: Vec<_> = (0..connections)
        .map(|n| {
            let first = start + every.mul_f64(n as f64 / connections as f64);
            let source = std::net::Ipv4Addr::new(127, 0, 0, 2 + (n / PER_ADDRESS) as u8);
            let to = address.clone();
            let (counts, sent) = (Arc::clone(&counts), Arc::clone(&sent));
            tokio::spawn(async move {
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind((source, 0).into()).unwrap();
                let stream = socket.connect(to.parse().unwrap()).await.unwrap();
                caller(stream, &to, first, start + TIME, every, &counts, &sent).await
            })
        })
        .collect();
    let mut times = Times::default();
    for task in tasks {
        task.await.unwrap().into_iter().for_each(|time| times.push(time));
    }
    let took = start.elapsed().as_secs_f64();
    let peak = peak_mib(pid);
    let count = |n: usize| counts[n].load(Ordering::Relaxed) as f64;
    let accepted = count(0);
    // The server is a child of strace, which ends with it.
    let killed = Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    assert!(killed.success());
    server.ended().await;
    let journal = std::fs::read(home.data().join(".ptn/journal/journal.log")).unwrap();
    let kept = journal.split(|b| *b == b'\n').filter(|line| is_accept(line)).count();
    assert!(kept as f64 >= accepted, "{accepted} were acknowledged and {kept} are in the journal");
    Level {
        sent: sent.load(Ordering::Relaxed) as f64 / took,
        accepted: accepted / took,
        busy: count(1) / took,
        limited: count(2) / took,
        p50: times.median() / 1e3,
        p99: times.p99() / 1e3,
        peak,
    }
}

async fn caller(
    mut stream: TcpStream,
    address: &str,
    first: Instant,
    end: Instant,
    every: Duration,
    counts: &[AtomicU64; 3],
    sent: &AtomicU64,
) -> Vec<Duration> {
    use tokio::io::AsyncWriteExt as _;
    stream.set_nodelay(true).unwrap();
    let body = body();
    let request = format!(
        "POST /api/receive-signal HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let (mut times, mut buffer, mut due) = (Vec::new(), Vec::new(), first);
    while due < end && Instant::now() < end {
        tokio::time::sleep_until(due.into()).await;
        let began = Instant::now();
        stream.write_all(request.as_bytes()).await.unwrap();
        sent.fetch_add(1, Ordering::Relaxed);
        let answer = read_answer(&mut stream, &mut buffer).await;
        let kind = match answer.status {
            200 => {
                times.push(began.elapsed());
                0
            }
            503 => 1,
            429 => 2,
            other => panic!("{other}: {}", String::from_utf8_lossy(&buffer)),
        };
        counts[kind].fetch_add(1, Ordering::Relaxed);
        due += every;
    }
    times
}

/// A server on a disk whose syncs are slow; its process id and address.
async fn slow_server(home: &Home) -> (Daemon, u32, String) {
    let data = home.data().to_str().unwrap().to_owned();
    let slow = format!("inject=fdatasync:delay_enter={}", SLOWER.as_micros());
    let flags = [
        "-f",
        "--seccomp-bpf",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=fdatasync",
        "-e",
        &slow,
        SERVER,
        "--data-dir",
        &data,
        "--listen",
        "127.0.0.1:0",
        "--limits",
        "off",
        "--rules",
        "2024",
        "--server.max-in-flight",
        IN_FLIGHT,
        "--server.max-queued",
        QUEUED,
    ];
    let mut server = Daemon::start("strace", &flags);
    let address = server.up().await["address"].as_str().unwrap().to_owned();
    server.ignore_log();
    let parent = server.pid();
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
    let pid = children.unwrap().split_whitespace().next().unwrap().parse().unwrap();
    (server, pid, address)
}

fn is_accept(line: &[u8]) -> bool {
    line.get(9..).is_some_and(|json| json.starts_with(br#"{"kind":"accept""#))
}
