//! Daemons are replaced under load: no request is refused, no connection reset, and everything that
//! was acknowledged is there once.

use std::collections::HashMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ptn_core::directory::Wire;
use ptn_core::validator::Verdict;
use ptn_tests::http::KeepAlive;
use ptn_tests::process::{Daemon, Home};
use tokio::task::JoinHandle;

use super::{MINER, SERVER, free_port, order, validator};

const CLIENTS: usize = 24;
const ROUNDS: usize = 5;
/// So that every process has served for a while, whatever the machine does meanwhile.
const BETWEEN: u64 = 300;
const LIMITS: [&str; 6] =
    ["--limits", "off", "--server.max-pending", "100000000", "--guard", "off"];

/// Clients that post signals without pause, half of them on a new connection each time.
struct Load {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    clients: Vec<JoinHandle<(Vec<String>, Vec<String>)>>,
}

impl Load {
    fn start(address: &str, clients: usize) -> Self {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let clients = (0..clients).map(|n| {
            let (stop, count) = (Arc::clone(&stop), Arc::clone(&count));
            tokio::spawn(client(n, address.to_owned(), stop, count))
        });
        Self { clients: clients.collect(), stop, count }
    }

    /// Waits until so many more were acknowledged.
    async fn more(&self, count: u64) {
        let wanted = self.count.load(Ordering::SeqCst) + count;
        while self.count.load(Ordering::SeqCst) < wanted
            && self.clients.iter().any(|client| !client.is_finished())
        {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// Ends the load; the ids that were acknowledged.
    async fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        let (mut acked, mut failed) = (Vec::new(), Vec::new());
        for client in self.clients {
            let (ids, errors) = client.await.unwrap();
            acked.extend(ids);
            failed.extend(errors);
        }
        assert!(failed.is_empty(), "{} requests failed: {:#?}", failed.len(), &failed[..1]);
        acked
    }
}

async fn client(
    n: usize,
    address: String,
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
) -> (Vec<String>, Vec<String>) {
    let (mut acked, mut failed) = (Vec::new(), Vec::new());
    let mut kept = KeepAlive::new(&address);
    for i in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        if n.is_multiple_of(2) {
            kept = KeepAlive::new(&address);
        }
        let id = format!("c{n}-{i}");
        match kept.receive_signal(&order(&id)).await {
            Ok(answer) if answer.status == 200 => acked.push(id),
            other => {
                failed.push(format!("{id}: {other:?}"));
                break;
            }
        }
        count.fetch_add(1, Ordering::SeqCst);
    }
    (acked, failed)
}

/// How often each id was accepted, by the journal.
fn accepted(home: &Home) -> HashMap<String, usize> {
    let journal = std::fs::read_to_string(home.data().join(".ptn/journal/journal.log")).unwrap();
    let mut counts = HashMap::new();
    for line in journal.lines().filter_map(|line| line.get(9..)) {
        if line.starts_with(r#"{"kind":"accept""#) {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            *counts.entry(line["id"].as_str().unwrap().to_owned()).or_insert(0) += 1;
        }
    }
    counts
}

#[track_caller]
fn assert_all_once(home: &Home, acked: &[String]) {
    let counts = accepted(home);
    let wrong: Vec<_> = acked.iter().filter(|id| counts.get(*id) != Some(&1)).collect();
    assert!(wrong.is_empty(), "not there exactly once: {wrong:?}");
    assert_eq!(counts.len(), acked.len(), "and nothing else is");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_over_refuses_nothing() {
    let home = Home::new(&[]);
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let start = || {
        let mut flags = vec!["--listen", &address, "--takeover"];
        flags.extend(LIMITS);
        home.server_as(SERVER, &flags)
    };
    let mut old = start();
    old.up().await;
    old.ignore_log();
    let load = Load::start(&address, CLIENTS);
    load.more(BETWEEN).await;
    for round in 0..ROUNDS {
        let mut new = start();
        new.up().await;
        new.ignore_log();
        // By itself.
        let status = old.ended().await;
        assert!(status.success(), "round {round}: {status}");
        load.more(BETWEEN).await;
        old = new;
    }
    let acked = load.end().await;
    assert!(acked.len() as u64 >= BETWEEN * (ROUNDS as u64 + 1));
    old.signal("-TERM");
    assert!(old.ended().await.success());
    assert_all_once(&home, &acked);
    assert!(!home.data().join(format!(".ptn/handover-127.0.0.1-{port}.sock")).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_socket_is_held_for_it_refuses_nothing_when_it_is_replaced() {
    let home = Home::new(&[]);
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let start = || {
        let data = home.data().to_str().unwrap().to_owned();
        // Not what is listened on: the service manager decides that.
        let mut flags = vec!["--data-dir", &data, "--listen", "127.0.0.1:1"];
        flags.extend(LIMITS);
        Daemon::activated(SERVER, &flags, &[("ptn-server.socket", &socket)])
    };
    let mut server = start();
    assert_eq!(server.up().await["address"], address.as_str());
    server.ignore_log();
    let load = Load::start(&address, CLIENTS);
    load.more(BETWEEN).await;
    for round in 0..ROUNDS {
        // As a restart does it: the old one ends before the new one begins.
        server.signal("-TERM");
        let status = server.ended().await;
        assert!(status.success(), "round {round}: {status}");
        server = start();
        server.up().await;
        server.ignore_log();
        load.more(BETWEEN).await;
    }
    let acked = load.end().await;
    server.signal("-TERM");
    assert!(server.ended().await.success());
    assert_all_once(&home, &acked);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_miner_that_takes_over_refuses_nothing_and_sends_nothing_twice() {
    let v = validator(0).await;
    let home = Home::new(&[v.entry(Wire::Btauth)]);
    let (server, monitor) = (format!("127.0.0.1:{}", free_port()), free_port().to_string());
    let start = || {
        let mut flags = vec!["--server.listen", &server, "--axon.port", &monitor, "--takeover"];
        flags.extend(LIMITS);
        home.miner(MINER, &flags)
    };
    let mut old = start();
    old.line(|v| v["message"] == "delivering").await;
    old.ignore_log();
    // Few: every one of them is delivered too.
    let load = Load::start(&server, 6);
    load.more(30).await;
    for round in 0..3 {
        let mut new = start();
        new.line(|v| v["message"] == "delivering").await;
        new.ignore_log();
        let status = old.ended().await;
        assert!(status.success(), "round {round}: {status}");
        let health = super::get(&format!("127.0.0.1:{monitor}"), "/health").await;
        assert_eq!(health.1["hotkey"], home.hotkey.as_str());
        load.more(30).await;
        old = new;
    }
    let acked = load.end().await;
    home.wait_for("processed_signals", acked.len()).await;
    let mut got: HashMap<String, usize> = HashMap::new();
    for received in v.received().iter().filter(|r| r.verdict == Verdict::Accepted) {
        *got.entry(received.order_uuid.clone()).or_default() += 1;
    }
    assert!(acked.iter().all(|id| got.get(id) == Some(&1)), "each is processed once");
    assert_eq!(got.len(), acked.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_miner_whose_sockets_are_held_for_it_finds_them_by_their_names() {
    let v = validator(0).await;
    let home = Home::new(&[v.entry(Wire::Btauth)]);
    let (server, monitor) =
        (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let text = |p: std::path::PathBuf| p.to_str().unwrap().to_owned();
    let (data, wallets) = (text(home.data()), text(home.path("wallets")));
    let list = text(home.path("validators.toml"));
    let flags = [
        ("--data-dir", data.as_str()),
        ("--wallet.path", &wallets),
        ("--wallet.name", "miner"),
        ("--validators", &list),
        ("--subtensor.network", "local"),
        ("--delivery.policy", "all"),
        ("--server.listen", "127.0.0.1:1"),
        ("--axon.port", "1"),
    ];
    let flags: Vec<&str> = flags.iter().flat_map(|(flag, value)| [*flag, *value]).collect();
    let sockets = [("monitor", &monitor), ("server", &server)];
    for uuid in ["first", "second"] {
        let mut miner = Daemon::activated(MINER, &flags, &sockets);
        let up = miner.up().await;
        assert_eq!(up["server"], server.local_addr().unwrap().to_string().as_str());
        assert_eq!(up["monitor"], monitor.local_addr().unwrap().to_string().as_str());
        miner.ignore_log();
        let mut client = KeepAlive::new(&server.local_addr().unwrap().to_string());
        assert_eq!(client.receive_signal(&order(uuid)).await.unwrap().status, 200);
        home.wait_for("processed_signals", if uuid == "first" { 1 } else { 2 }).await;
        miner.signal("-TERM");
        assert!(miner.ended().await.success());
    }
    // A socket that nothing is for is a mistake that is said, not a port where nobody answers.
    let none = TcpListener::bind("127.0.0.1:0").unwrap();
    let flags: Vec<&str> = flags[..flags.len() - 4].to_vec();
    let sockets = [("monitor", &monitor), ("server", &none)];
    let (status, said) = Daemon::activated(MINER, &flags, &sockets).end().await;
    assert_eq!(status.code(), Some(75), "{said}");
    assert!(said.contains("server") && said.contains("FileDescriptorName="), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_start_leaves_the_running_one_as_it_is() {
    let home = Home::new(&[]);
    let address = format!("127.0.0.1:{}", free_port());
    let flags = ["--listen", &address, "--takeover"];
    let mut old = home.server_as(SERVER, &flags);
    old.up().await;
    let secrets = home.data().join("miner_secrets.json");
    let text = std::fs::read_to_string(&secrets).unwrap();
    std::fs::remove_file(&secrets).unwrap();
    let (status, said) = home.server_as(SERVER, &flags).end().await;
    assert!(!status.success() && said.contains("no API key"), "{said}");
    // Without the flag the address is taken, and the message names the flag.
    std::fs::write(&secrets, text).unwrap();
    let (status, said) = home.server_as(SERVER, &flags[..2]).end().await;
    assert!(!status.success() && said.contains("--takeover"), "{said}");
    let answer = KeepAlive::new(&address).receive_signal(&order("still")).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    // And it can still be taken over from.
    let mut new = home.server_as(SERVER, &flags);
    new.up().await;
    assert!(old.ended().await.success());
    let answer = KeepAlive::new(&address).receive_signal(&order("then")).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_miner_that_cannot_start_leaves_the_running_one_as_it_is() {
    let v = validator(0).await;
    let home = Home::new(&[v.entry(Wire::Btauth)]);
    let (address, port) = (format!("127.0.0.1:{}", free_port()), free_port().to_string());
    let flags = ["--server.listen", &address, "--axon.port", &port, "--takeover"];
    let mut old = home.miner(MINER, &flags);
    old.up().await;
    let fails = async |flags: &[&str], wanted: &str| {
        let (status, said) = home.miner(MINER, flags).end().await;
        assert!(!status.success() && said.contains(wanted), "{said}");
        let answer = KeepAlive::new(&address)
            .receive_signal(&order(wanted.trim_matches('-')))
            .await
            .unwrap();
        assert_eq!(answer.status, 200, "after {wanted}: {}", answer.body);
    };
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = busy.local_addr().unwrap().port().to_string();
    fails(&[&flags[..2], &["--axon.port", &taken, "--takeover"]].concat(), "--axon.port").await;
    let nowhere = format!("postgres://me@127.0.0.1:{}/ptn", free_port());
    fails(&[&flags[..], &["--store", &nowhere]].concat(), "postgres").await;
    let secrets = home.data().join("miner_secrets.json");
    let text = std::fs::read_to_string(&secrets).unwrap();
    std::fs::remove_file(&secrets).unwrap();
    let (status, said) = home.miner(MINER, &flags).end().await;
    assert!(!status.success() && said.contains("no API key"), "{said}");
    std::fs::write(&secrets, text).unwrap();
    let mut new = home.miner(MINER, &flags);
    new.up().await;
    assert!(old.ended().await.success());
    home.wait_for("processed_signals", 2).await;
}
