//! From a POST to the validator: how much later than the disk allows does the order arrive?
//!
//! A real `ptn-miner` with its server; the validator is in this process, so both ends are timed by
//! one clock. One connection, one request after the other.

use std::time::{Duration, Instant};

use ptn_tests::process::Home;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::limits::Limits;
use crate::responder::{read_request, validator};
use crate::stats::Times;
use crate::table::{Against, Goal, Measure, Table};
use crate::{MINER, block_on, load};

const ROUNDS: usize = 300;
const WARM_UP: usize = 20;

pub(crate) fn run(limits: &Limits, table: &mut Table) {
    let (arrived, answered) = block_on(measure());
    let durable = || Against::This("durable write p50", Measure(limits.durable, "us"));
    table.row(
        "POST to arrival, p50",
        Measure(arrived.median(), "us"),
        durable(),
        Goal::AtMost(limits.durable + 2000.0),
    );
    table.row("POST to arrival, p99", Measure(arrived.p99(), "us"), durable(), Goal::None);
    table.row("POST to 200, p50", Measure(answered.median(), "us"), durable(), Goal::None);
}

async fn measure() -> (Times, Times) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let home = Home::new(&[validator(listener.local_addr().unwrap().port())]);
    let (seen, mut arrivals) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, seen.clone()));
        }
    });
    let flags = ["--server.listen", "127.0.0.1:0", "--server.limits", "off"];
    let mut miner = home.miner(MINER, &flags);
    let address = miner.up().await["server"].as_str().unwrap().to_owned();
    miner.ignore_log();
    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let body = r#"{"api_key":"test-key","trade_pair":"BTCUSDC","order_type":"LONG","leverage":0.1,"execution_type":"MARKET"}"#;
    let request = format!(
        "POST /api/receive-signal HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let (mut arrived, mut answered) = (Times::default(), Times::default());
    let mut buffer = Vec::new();
    for round in 0..WARM_UP + ROUNDS {
        let start = Instant::now();
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = load::read_answer(&mut stream, &mut buffer).await;
        let answer_after = start.elapsed();
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&buffer));
        let arrival = tokio::time::timeout(Duration::from_secs(10), arrivals.recv()).await;
        let arrival: Instant = arrival.expect("the order does not arrive").unwrap();
        if round >= WARM_UP {
            arrived.push(arrival - start);
            answered.push(answer_after);
        }
        // The end of one order must not delay the next one.
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    miner.kill().await;
    (arrived, answered)
}

async fn serve(mut stream: TcpStream, seen: mpsc::UnboundedSender<Instant>) {
    const BODY: &str = r#"{"successfully_processed":true}"#;
    stream.set_nodelay(true).unwrap();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{BODY}", BODY.len());
    let mut buffer = Vec::new();
    while read_request(&mut stream, &mut buffer).await {
        seen.send(Instant::now()).ok();
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}
