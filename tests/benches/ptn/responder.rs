//! Validators that cost nothing: a child process that answers everything with the same
//! acknowledgement, so that the client's processor time is the client's alone.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};

use ptn_core::directory::{Validator, Wire};
use ptn_core::sign::Hotkey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// How this program is told to be the child.
pub(crate) const FLAG: &str = "--responder";

const BODY: &str = r#"{"signal":{},"successfully_processed":true,"error_message":"","should_retry":true,"validator_hotkey":"","order_json":"{}","miner_order_uuid":""}"#;

/// A running child. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Responder {
    child: Child,
    pub(crate) ports: Vec<u16>,
}

impl Responder {
    pub(crate) fn start(validators: usize) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([FLAG, &validators.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ports = line.split_whitespace().map(|port| port.parse().unwrap()).collect();
        Self { child, ports }
    }

    /// The first `count` of them as a directory lists them.
    pub(crate) fn validators(&self, count: usize) -> Vec<Validator> {
        self.ports.iter().take(count).map(|port| validator(*port)).collect()
    }
}

/// A validator on a loopback port, with a fresh key.
pub(crate) fn validator(port: u16) -> Validator {
    Validator {
        hotkey: Hotkey::generate().address().to_owned(),
        ip: [127, 0, 0, 1].into(),
        port,
        v_trust: 1.0,
        stake: 1000.0,
        permit: true,
        wire: Wire::Btauth,
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The child: listens on so many ports, says which, and answers until its parent is gone.
pub(crate) fn main(validators: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut ports = String::new();
        for _ in 0..validators {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            ports.push_str(&format!("{} ", listener.local_addr().unwrap().port()));
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream));
                }
            });
        }
        println!("{ports}");
        std::io::stdout().flush().unwrap();
        // Never written to: it ends with the parent.
        tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()))
            .await
            .unwrap()
            .ok();
    });
}

async fn serve(mut stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    let mut buffer = Vec::with_capacity(4096);
    while read_request(&mut stream, &mut buffer).await {
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Reads one request; false when the connection ended.
pub(crate) async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> bool {
    buffer.clear();
    let mut whole = None;
    while whole.is_none_or(|whole| buffer.len() < whole) {
        if !stream.read_buf(buffer).await.is_ok_and(|read| read > 0) {
            return false;
        }
        if whole.is_none()
            && let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n")
        {
            let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|l| l.strip_prefix("content-length:"));
            whole = Some(end + 4 + length.map_or(0, |l| l.trim().parse().unwrap()));
        }
    }
    true
}
