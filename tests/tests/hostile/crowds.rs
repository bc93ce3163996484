//! Many callers at once that take a connection and give nothing, and a process that has no
//! descriptors left.

use std::time::Duration;

use ptn_core::directory::Wire;
use ptn_core::validator::{LoopbackValidator, ValidatorOptions};
use ptn_tests::http::receive_signal;
use ptn_tests::process::{Daemon, Home};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::net::PATIENCE;
use crate::serving::*;

const MINER: &str = env!("CARGO_BIN_EXE_ptn-miner-under-test");

/// Of each kind of slow client.
const EACH: usize = 250;

/// Both ends of a thousand connections are in this process.
fn many_descriptors() {
    let got = rlimit::increase_nofile_limit(4096).unwrap();
    assert!(got >= 4096, "{got} descriptors are too few for this test; raise ulimit -n");
}

#[tokio::test]
async fn a_thousand_slow_clients_are_cut_each_in_its_way_and_a_good_one_is_served() {
    many_descriptors();
    let server = Server::start(|config| {
        config.max_connections = 2_000;
        config.max_connections_per_address = 2_000;
        config.header_timeout = Duration::from_secs(5);
        config.body_timeout = Duration::from_secs(5);
        config.write_timeout = Duration::from_secs(5);
    })
    .await;
    let mut good = Caller::of(&server, "good", 1).await;
    let whole = receive("never");
    let docs = "GET /docs HTTP/1.1\r\nHost: x\r\n\r\n".repeat(200);
    let (mut silent, mut heads, mut bodies, mut deaf) = (vec![], vec![], vec![], vec![]);
    for n in 0..EACH {
        silent.push(server.connect().await);
        let mut stream = server.connect().await;
        stream.write_all(b"POST /api/receive-signal HTTP/1.1\r\nHost: ").await.unwrap();
        heads.push(stream);
        let mut stream = server.connect().await;
        stream.write_all(&whole.as_bytes()[..whole.len() - 5]).await.unwrap();
        bodies.push(stream);
        let stream = server.connect().await;
        // As much as fits: nobody reads the answers, so the rest never will.
        stream.writable().await.unwrap();
        drop(stream.try_write(docs.as_bytes()));
        deaf.push(stream);
        if n % 10 == 0 {
            good.is_served(&server).await;
        }
    }
    // All thousand are open, and it is served on a new connection as well.
    let mut another = Caller::of(&server, "another", 1).await;
    for _ in 0..20 {
        another.is_served(&server).await;
        good.is_served(&server).await;
    }
    for (n, mut stream) in bodies.into_iter().enumerate() {
        let text = until_closed(&mut stream).await;
        assert!(text.starts_with("HTTP/1.1 408 "), "slow body {n}: {text}");
        assert!(text.contains("\"code\":\"body_timeout\""), "slow body {n}: {text}");
    }
    for (n, mut stream) in silent.into_iter().chain(heads).enumerate() {
        let text = until_closed(&mut stream).await;
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 408 "), "slow head {n}: {text}");
    }
    for mut stream in deaf {
        // What had been sent before it was cut is whole answers, then an end.
        let text = until_closed(&mut stream).await;
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 200 OK"), "{text}");
    }
    eventually("only the good ones are left", async || {
        let page = server.raw(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap().body;
        let open = page.lines().find(|l| l.starts_with("ptn_http_connections")).unwrap_or(&page);
        // The good ones, and the one that asks; theirs may have ended by their own idle time.
        open.rsplit(' ').next().and_then(|n| n.parse::<f64>().ok()).is_some_and(|n| n <= 3.0)
    })
    .await;
    let mut ids: Vec<String> =
        server.stored().await.iter().map(|s| s.signal.id().as_str().to_owned()).collect();
    ids.retain(|id| id.starts_with("never"));
    assert!(ids.is_empty(), "half a request is no order: {ids:?}");
}

#[tokio::test]
async fn one_address_cannot_take_all_connections_and_another_is_served() {
    many_descriptors();
    let server = Server::start(|_| {}).await;
    let mut taken = Vec::new();
    for _ in 0..256 {
        taken.push(server.connect_from(1).await);
    }
    let mut good = Caller::of(&server, "good", 2).await;
    eventually("the next is turned away", async || {
        let mut stream = server.connect_from(1).await;
        let asked = stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let turned_away = match read_answer(&mut stream).await {
            Some(answer) => {
                let busy = answer.status == 503;
                assert!(!busy || answer.code() == "too_many_connections", "{answer:?}");
                busy
            }
            // The reset of what it never read can destroy the answer.
            None => asked.is_err(),
        };
        good.is_served(&server).await;
        turned_away
    })
    .await;
    for _ in 0..50 {
        good.is_served(&server).await;
    }
    drop(taken);
    eventually("the address is let in again", async || {
        server.raw(receive("later").as_bytes()).await.is_some_and(|answer| answer.status == 200)
    })
    .await;
    good.all_stored(&server, &["later"]).await;
}

fn order(uuid: &str) -> String {
    format!(r#"{{"trade_pair":"BTCUSDC","order_type":"LONG","value":1,"order_uuid":"{uuid}"}}"#)
}

#[tokio::test]
async fn without_a_free_descriptor_delivering_goes_on_and_accepting_comes_back() {
    let validator = LoopbackValidator::start(ValidatorOptions::default()).await.unwrap();
    let home = Home::new(&[validator.entry(Wire::Btauth)]);
    let text = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
    let (validators, data, wallets) =
        (text(home.path("validators.toml")), text(home.data()), text(home.path("wallets")));
    let mut miner = Daemon::start(
        "prlimit",
        &[
            "--nofile=64:64",
            MINER,
            "--validators",
            &validators,
            "--data-dir",
            &data,
            "--wallet.path",
            &wallets,
            "--wallet.name",
            "miner",
            "--subtensor.network",
            "local",
            "--axon.port",
            "0",
            "--delivery.policy",
            "all",
            "--server.listen",
            "127.0.0.1:0",
        ],
    );
    let address = miner.up().await["server"].as_str().unwrap().to_owned();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", miner.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert!(line.split_whitespace().any(|word| word == "64"), "{line}");
    let (status, answer) = receive_signal(&address, &order("before")).await;
    assert_eq!(status, 200, "{answer}");
    tokio::time::timeout(PATIENCE, validator.wait_for(1)).await.expect("the first order");
    miner.ignore_log();

    // More clients than descriptors; they send nothing and stay.
    let mut crowd = Vec::new();
    for _ in 0..200 {
        // The kernel takes the connection whether the program does or not.
        let connecting = TcpStream::connect(&address);
        if let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_secs(2), connecting).await {
            crowd.push(stream);
        }
    }
    assert!(crowd.len() >= 100, "{} clients", crowd.len());
    // Longer than a connection to a validator is kept: the next orders need new ones.
    tokio::time::sleep(Duration::from_secs(6)).await;
    // What lies in the spool is delivered all the same.
    for n in 0..5 {
        let file = home.data().join("received_signals").join(format!("spooled-{n}"));
        std::fs::write(file, order(&format!("spooled-{n}"))).unwrap();
    }
    let got = tokio::time::timeout(PATIENCE, validator.wait_for(6)).await;
    let got = got.expect("orders are delivered while nobody can connect");
    let uuids: Vec<&str> = got.iter().map(|r| r.order_uuid.as_str()).collect();
    assert_eq!(uuids[0], "before");
    assert!((0..5).all(|n| uuids.contains(&format!("spooled-{n}").as_str())), "{uuids:?}");
    home.wait_for("processed_signals", 6).await;

    // And when the crowd has gone, callers get in again.
    drop(crowd);
    let (status, answer) = receive_signal(&address, &order("after")).await;
    assert_eq!((status, answer["order_uuid"].as_str()), (200, Some("after")), "{answer}");
    home.wait_for("processed_signals", 7).await;
}
