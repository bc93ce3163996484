//! The server over a store on disk, in this process, and clients that write what they are told.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ptn_core::rules::{Era, Rules};
use ptn_core::store::fs::FsOptions;
use ptn_core::store::{Filter, FsStore, SignalStore, StoredSignal};
use ptn_server::{App, ServerConfig, run_app};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;

use crate::net::PATIENCE;

/// The key of every test server.
pub(crate) const KEY: &str = "right-key";

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) store: Arc<FsStore>,
    dir: TempDir,
    _stop: oneshot::Sender<()>,
}

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The stable code of an error, or nothing.
    pub(crate) fn code(&self) -> String {
        match serde_json::from_str::<Value>(&self.body) {
            Ok(json) => json["code"].as_str().unwrap_or_default().to_owned(),
            Err(_) => String::new(),
        }
    }
}

pub(crate) fn order(uuid: &str) -> String {
    format!(r#"{{"trade_pair":"BTCUSDC","order_type":"LONG","value":1,"order_uuid":"{uuid}"}}"#)
}

/// A request of a bot: the key in the header.
pub(crate) fn post(path: &str, headers: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {KEY}\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A request with a signal, of the endpoint that answers when the signal is safe.
pub(crate) fn receive(uuid: &str) -> String {
    post("/api/receive-signal", "", &order(uuid))
}

impl Server {
    /// One that cuts slow clients after this time.
    pub(crate) async fn start(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let dir = TempDir::new().unwrap();
        let data = dir.path().join("mining");
        std::fs::create_dir(&data).unwrap();
        let keys = format!(r#"{{"api_key":"{KEY}"}}"#);
        std::fs::write(data.join("miner_secrets.json"), keys).unwrap();
        let rules = Arc::new(Rules::load(Era::Y2026).unwrap());
        let store = FsStore::open_owner(&data, FsOptions::new(Arc::clone(&rules))).unwrap();
        let store = Arc::new(store);
        let mut config = ServerConfig::default();
        config.data_dir = data;
        config.limits = false;
        change(&mut config);
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stop, stopped) = oneshot::channel::<()>();
        let app = App::new(config, Arc::clone(&store) as _, rules).unwrap();
        tokio::spawn(run_app(app, listener, async move { drop(stopped.await) }));
        Self { address: (Ipv4Addr::LOCALHOST, port).into(), store, dir, _stop: stop }
    }

    /// The folder around the data directory.
    pub(crate) fn around(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        self.connect_from(1).await
    }

    /// A connection from 127.0.0.`host`.
    pub(crate) async fn connect_from(&self, host: u8) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::new(127, 0, 0, host), 0).into()).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    /// Writes bytes on a connection of their own, then ends it for writing; the answer, if any.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> Option<Answer> {
        let mut stream = self.connect().await;
        // The server may close before all of it is written.
        drop(stream.write_all(bytes).await);
        drop(stream.shutdown().await);
        read_answer(&mut stream).await
    }

    /// What is stored.
    pub(crate) async fn stored(&self) -> Vec<StoredSignal> {
        self.store.list(&Filter { limit: 10_000, ..Filter::default() }).await.unwrap()
    }
}

/// A good caller on one kept connection.
pub(crate) struct Caller {
    stream: TcpStream,
    name: &'static str,
    host: u8,
    sent: usize,
}

impl Caller {
    pub(crate) async fn of(server: &Server, name: &'static str, host: u8) -> Self {
        Self { stream: server.connect_from(host).await, name, host, sent: 0 }
    }

    /// Sends an order that must be accepted at once. A connection that ended because nothing was
    /// sent on it for its idle time is opened anew, as every client does.
    pub(crate) async fn is_served(&mut self, server: &Server) {
        self.sent += 1;
        let uuid = format!("{}-{}", self.name, self.sent);
        let sent = self.stream.write_all(receive(&uuid).as_bytes()).await;
        let answer = match sent {
            Ok(()) => read_answer(&mut self.stream).await,
            Err(_) => None,
        };
        let answer = match answer {
            Some(answer) => answer,
            None => {
                self.stream = server.connect_from(self.host).await;
                self.stream.write_all(receive(&uuid).as_bytes()).await.unwrap();
                read_answer(&mut self.stream).await.expect("an answer to the good caller")
            }
        };
        assert_eq!((answer.status, answer.json()["order_uuid"].as_str()), (200, Some(&*uuid)));
    }

    /// All its orders are stored, and these are all there are beside them.
    pub(crate) async fn all_stored(&self, server: &Server, others: &[&str]) {
        let mut wanted: Vec<String> =
            (1..=self.sent).map(|n| format!("{}-{n}", self.name)).collect();
        wanted.extend(others.iter().map(|id| (*id).to_owned()));
        wanted.sort();
        let mut found: Vec<String> =
            server.stored().await.iter().map(|s| s.signal.id().as_str().to_owned()).collect();
        found.sort();
        assert_eq!(found, wanted);
    }
}

/// Reads one answer by its length; `None` when the connection ends first.
pub(crate) async fn read_answer(stream: &mut TcpStream) -> Option<Answer> {
    let reading = async {
        let mut bytes = Vec::new();
        let mut piece = [0_u8; 4096];
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                let length = head.lines().find_map(|line| {
                    let (key, value) = line.split_once(':')?;
                    key.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
                });
                if length.is_some_and(|length: usize| body.len() >= length) {
                    let (head, body) = (head.to_owned(), body.to_owned());
                    return Some(Answer { status, head, body });
                }
            }
            match stream.read(&mut piece).await {
                Ok(0) | Err(_) => return None,
                Ok(n) => bytes.extend_from_slice(&piece[..n]),
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("an answer, or an end, in time")
}

/// Reads until the server closes; what came.
pub(crate) async fn until_closed(stream: &mut TcpStream) -> String {
    let reading = async {
        let (mut text, mut piece) = (Vec::new(), [0_u8; 4096]);
        while let Ok(n @ 1..) = stream.read(&mut piece).await {
            text.extend_from_slice(&piece[..n]);
        }
        String::from_utf8_lossy(&text).into_owned()
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("the server closes it")
}

/// Waits until something is so.
pub(crate) async fn eventually(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("still not: {what}"));
}
