//! A log that nobody takes: its reader is gone, or its disk is full. The program goes on.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;

use ptn_core::directory::Wire;
use ptn_tests::chaos::mounts::{Mounted, mounts_are_possible};
use ptn_tests::http::receive_signal;
use ptn_tests::process::{Home, PATIENCE};

use super::{MINER, free_port, get, order, until, validator};

/// A miner with a server, delivers one signal, and ends on the first SIGTERM.
async fn works_with(stderr: impl FnOnce(&Home) -> (Stdio, Option<Mounted>)) {
    let v = validator(0).await;
    let home = Home::new(&[v.entry(Wire::Btauth)]);
    let (server, monitor) = (format!("127.0.0.1:{}", free_port()), free_port());
    let list = home.path("validators.toml").to_str().unwrap().to_owned();
    let port = monitor.to_string();
    let more = ["--server.listen", &server, "--axon.port", &port, "--logging.trace"];
    let args = home.miner_args(("--validators", &list), &more);
    let (stderr, _disk) = stderr(&home);
    let mut command = tokio::process::Command::new(MINER);
    command.args(args).stdin(Stdio::null()).stderr(stderr).kill_on_drop(true);
    let mut miner = command.spawn().unwrap();
    // Nobody reads what it says.
    drop(miner.stderr.take());
    let end = tokio::time::Instant::now() + PATIENCE;
    while tokio::net::TcpStream::connect(&server).await.is_err() {
        assert!(tokio::time::Instant::now() < end, "it does not listen");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(receive_signal(&server, &order("quiet")).await.0, 200);
    home.wait_for("processed_signals", 1).await;
    let monitor = format!("127.0.0.1:{monitor}");
    until(&monitor, "/health", |page| page["pending"]["count"] == 0).await;
    assert_eq!(get(&monitor, "/livez").await.0, 200);
    let pid = miner.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let status = tokio::time::timeout(PATIENCE, miner.wait()).await.expect("it ends").unwrap();
    assert_eq!((status.code(), status.signal()), (Some(0), None));
}

#[tokio::test]
async fn whoever_stops_reading_the_log_stops_nothing() {
    works_with(|_| (Stdio::piped(), None)).await;
}

#[tokio::test]
async fn a_full_disk_of_the_log_stops_nothing() {
    if !mounts_are_possible() {
        return;
    }
    works_with(|home| {
        let folder = home.path("log");
        std::fs::create_dir(&folder).unwrap();
        let disk = Mounted::tmpfs(&folder, "4k").unwrap();
        let file = std::fs::File::create(folder.join("miner.log")).unwrap();
        (Stdio::from(file), Some(disk))
    })
    .await;
}
