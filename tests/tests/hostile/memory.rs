//! Gigabytes from a validator and from a caller, against the real programs: their memory stays flat.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ptn_core::directory::Wire;
use ptn_core::validator::{LoopbackValidator, ValidatorOptions};
use ptn_tests::http::{receive_signal, submit_order};
use ptn_tests::process::Home;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::net::{PATIENCE, raw, read_request};

const MINER: &str = env!("CARGO_BIN_EXE_ptn-miner-under-test");

/// More than buffers and one body take; far less than what was offered.
const ROOM: u64 = 48 * 1024 * 1024;

fn order(uuid: &str, pair: &str) -> String {
    format!(r#"{{"trade_pair":"{pair}","order_type":"LONG","value":1,"order_uuid":"{uuid}"}}"#)
}

/// The most memory that a process has had, in bytes.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix("kB").unwrap().trim().parse::<u64>().unwrap() * 1024
}

#[tokio::test]
async fn answers_of_gigabytes_do_not_grow_the_miner_and_the_other_validator_gets_everything() {
    // What is offered is counted by what the miner's socket takes.
    let taken = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&taken);
    let (bad, connections) = raw(move |mut stream, n| {
        let count = Arc::clone(&count);
        async move {
            read_request(&mut stream).await;
            let head = match n % 3 {
                0 => "HTTP/1.1 200 OK\r\nContent-Length: 9000000000\r\n\r\n",
                1 => "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
                _ => "HTTP/1.1 200 OK\r\nx-endless: ",
            };
            drop(stream.write_all(head.as_bytes()).await);
            let piece = vec![b'y'; 256 * 1024];
            while let Ok(n @ 1..) = stream.write(&piece).await {
                count.fetch_add(n as u64, Ordering::SeqCst);
            }
        }
    })
    .await;
    let good = LoopbackValidator::start(ValidatorOptions::default()).await.unwrap();
    let home = Home::new(&[good.entry(Wire::Btauth), bad]);
    let flags = ["--server.listen", "127.0.0.1:0", "--delivery.waits", ""];
    let mut miner = home.miner(MINER, &flags);
    let address = miner.up().await["server"].as_str().unwrap().to_owned();
    miner.ignore_log();
    let before = peak(miner.pid());
    for n in 0..12 {
        let pair = ["BTCUSDC", "ETHUSDC", "SOLUSDC"][n % 3];
        let (status, answer) = receive_signal(&address, &order(&format!("o-{n}"), pair)).await;
        assert_eq!(status, 200, "{answer}");
    }
    let got = tokio::time::timeout(PATIENCE, good.wait_for(12)).await;
    assert_eq!(got.expect("the good validator gets everything").len(), 12);
    home.wait_for("failed_signals", 12).await;
    assert!(connections.load(Ordering::SeqCst) >= 12, "every order met the flood");
    let file = std::fs::read_to_string(home.data().join("failed_signals/o-0")).unwrap();
    assert!(file.contains("answer_too_large") || file.contains("bad_answer"), "{file}");
    let grown = peak(miner.pid()) - before;
    assert!(grown < ROOM, "the miner grew by {grown} bytes");
    let each = taken.load(Ordering::SeqCst) / 12;
    assert!(each < 16 * 1024 * 1024, "{each} bytes were taken of each answer");
}

#[tokio::test]
async fn bodies_of_gigabytes_do_not_grow_the_server_and_a_good_caller_is_served() {
    let good = LoopbackValidator::start(ValidatorOptions::default()).await.unwrap();
    let home = Home::new(&[good.entry(Wire::Btauth)]);
    let mut miner = home.miner(MINER, &["--server.listen", "127.0.0.1:0", "--limits", "off"]);
    let address = miner.up().await["server"].as_str().unwrap().to_owned();
    miner.ignore_log();
    let before = peak(miner.pid());
    let taken = Arc::new(AtomicU64::new(0));
    let mut floods = Vec::new();
    for n in 0..12 {
        let (address, taken) = (address.clone(), Arc::clone(&taken));
        floods.push(tokio::spawn(async move {
            let mut stream = TcpStream::connect(&address).await.unwrap();
            let (how, piece) = match n % 3 {
                0 => ("Content-Length: 9000000000\r\n\r\n", vec![b'['; 64 * 1024]),
                1 => (
                    "Transfer-Encoding: chunked\r\n\r\n",
                    [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat(),
                ),
                _ => ("x-endless: ", vec![b'y'; 64 * 1024]),
            };
            let head = format!("POST /api/receive-signal HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{how}");
            stream.write_all(head.as_bytes()).await.unwrap();
            let (mut reader, mut writer) = stream.split();
            let answer = async {
                let mut text = Vec::new();
                // A reset after the answer is no concern here.
                reader.read_to_end(&mut text).await.ok();
                String::from_utf8_lossy(&text).into_owned()
            };
            let flood = async {
                while let Ok(n @ 1..) = writer.write(&piece).await {
                    taken.fetch_add(n as u64, Ordering::SeqCst);
                }
            };
            tokio::join!(answer, flood).0
        }));
    }
    for n in 0..10 {
        let (status, answer) = submit_order(&address, &order(&format!("g-{n}"), "BTCUSDC")).await;
        assert_eq!((status, &answer["success"]), (200, &true.into()), "{answer}");
    }
    for (n, flood) in floods.into_iter().enumerate() {
        let answer = tokio::time::timeout(PATIENCE, flood).await.expect("it is cut").unwrap();
        // A client that is still writing when it is cut may lose the answer to a reset.
        let wanted = if n % 3 == 2 { "HTTP/1.1 431" } else { "HTTP/1.1 413" };
        assert!(answer.is_empty() || answer.starts_with(wanted), "{n}: {answer}");
    }
    let grown = peak(miner.pid()) - before;
    assert!(grown < ROOM, "the server grew by {grown} bytes");
    let each = taken.load(Ordering::SeqCst) / 12;
    assert!(each < 24 * 1024 * 1024, "{each} bytes were taken of each body");
}
