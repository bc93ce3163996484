//! The end of a server: what is under way is finished, and connections are closed politely.

use ptn_tests::http::KeepAlive;
use ptn_tests::process::{Home, PATIENCE};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{SERVER, order};

#[tokio::test]
async fn requests_under_way_end_and_kept_connections_are_told_before_they_close() {
    let home = Home::new(&[]);
    let mut server = home.server(SERVER, &[]);
    let address = server.up().await["address"].as_str().unwrap().to_owned();
    let mut kept = KeepAlive::new(&address);
    assert!(!kept.receive_signal(&order("k-0")).await.unwrap().closes);
    // A request whose body is still on its way.
    let mut slow = TcpStream::connect(&address).await.unwrap();
    let body = format!(r#"{{"api_key":"test-key",{}"#, order("slow").trim_start_matches('{'));
    let head = format!(
        "POST /api/receive-signal HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let (first, rest) = body.split_at(20);
    slow.write_all(format!("{head}{first}").as_bytes()).await.unwrap();
    server.signal("-TERM");
    // Requests without pause on the kept connection: each is answered, the last one says goodbye.
    let mut count = 0;
    loop {
        count += 1;
        let answer = kept.receive_signal(&order(&format!("k-{count}"))).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        if answer.closes {
            break;
        }
    }
    slow.write_all(rest.as_bytes()).await.unwrap();
    let mut text = String::new();
    tokio::time::timeout(PATIENCE, slow.read_to_string(&mut text)).await.unwrap().unwrap();
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("connection: close"), "{text}");
    let (status, log) = server.end().await;
    assert!(status.success(), "{log}");
    assert!(!log.contains("were cut"), "{log}");
    let journal = std::fs::read_to_string(home.data().join(".ptn/journal/journal.log")).unwrap();
    for id in (0..=count).map(|n| format!("k-{n}")).chain(["slow".to_owned()]) {
        assert!(journal.contains(&format!(r#""id":"{id}""#)), "{id}");
    }
}
