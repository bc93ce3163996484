//! A database of its own for each test, on the server of `PTN_TEST_POSTGRES` or of this machine;
//! and a line to it that can be cut.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Where the server is: `postgres://USER@HOST:PORT/postgres`, by somebody who may make databases.
pub fn server() -> String {
    std::env::var("PTN_TEST_POSTGRES")
        .unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".to_owned())
}

/// A database that exists as long as this does.
#[derive(Debug)]
pub struct Database {
    server: String,
    name: String,
}

impl Database {
    /// A fresh one. Fails when there is no server: these tests are not skipped.
    pub async fn new() -> Self {
        Self::on(server()).await
    }

    /// A fresh one on this server.
    pub async fn on(server: String) -> Self {
        let name = format!("ptn_test_{}", uuid());
        let mut admin = PgConnection::connect(&server).await.unwrap_or_else(|e| {
            panic!("no PostgreSQL at {server} ({e}); start one, or name one in PTN_TEST_POSTGRES")
        });
        admin.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
        Self { server, name }
    }

    /// Its address.
    pub fn url(&self) -> String {
        let (front, _) = self.server.rsplit_once('/').unwrap();
        format!("{front}/{}", self.name)
    }

    /// Its address through another socket.
    pub fn url_at(&self, address: SocketAddr) -> String {
        let options: PgConnectOptions = self.server.parse().unwrap();
        let user = options.get_username();
        format!("postgres://{user}@{address}/{}?sslmode=disable", self.name)
    }

    /// Changes what sessions of this database begin with: `SET name = value`, or `RESET name`.
    pub async fn alter(&self, change: &str) {
        // Over another database, where the change itself does not hold.
        let mut admin = PgConnection::connect(&self.server).await.unwrap();
        let sql = format!("ALTER DATABASE {} {change}", self.name);
        admin.execute(AssertSqlSafe(sql)).await.unwrap();
    }

    /// A connection of the test's own.
    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url()).await.unwrap()
    }

    /// Runs SQL of the test's own.
    pub async fn sql(&self, sql: &str) -> Vec<PgRow> {
        let mut connection = self.connect().await;
        sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_all(&mut connection).await.unwrap()
    }

    /// The one number that a query answers.
    pub async fn number(&self, sql: &str) -> i64 {
        use sqlx::Row as _;
        self.sql(sql).await[0].get(0)
    }

    /// Ends every session but the one that asks, as a restart of the server would.
    pub async fn end_sessions(&self) {
        self.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await;
    }

    async fn remove(server: String, name: String) {
        if let Ok(mut admin) = PgConnection::connect(&server).await {
            let sql = AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
            drop(admin.execute(sql).await);
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // A test may end in any state, so this has a runtime of its own.
        let (server, name) = (std::mem::take(&mut self.server), std::mem::take(&mut self.name));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(Self::remove(server, name));
        });
        drop(thread.join());
    }
}

fn uuid() -> String {
    ptn_core::signal::OrderUuid::random().as_str().replace('-', "")
}

/// A line to the server that can be cut, silenced, or cut at a certain message.
#[derive(Debug)]
pub struct Line {
    /// Where to connect.
    pub address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    /// Where new connections go.
    target: Mutex<String>,
    /// Connections that were made so far.
    made: watch::Sender<usize>,
    /// No new connection gets through.
    closed: AtomicBool,
    /// Nothing gets through in either direction, and nobody is told.
    silent: watch::Sender<bool>,
    /// Rises when every connection is to be cut.
    cut: watch::Sender<usize>,
    /// Messages of clients until one is not passed on and the connection is cut; 0: never.
    requests_left: AtomicUsize,
    /// As before, for messages of the server.
    answers_left: AtomicUsize,
}

impl Line {
    /// A line to the server of the tests.
    pub async fn new() -> Self {
        let options: PgConnectOptions = server().parse().unwrap();
        Self::to(format!("{}:{}", options.get_host(), options.get_port())).await
    }

    /// A line to this server.
    pub async fn to(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            target: Mutex::new(target),
            made: watch::Sender::new(0),
            closed: AtomicBool::new(false),
            silent: watch::Sender::new(false),
            cut: watch::Sender::new(0),
            requests_left: AtomicUsize::new(0),
            answers_left: AtomicUsize::new(0),
        });
        let line = Self { address, state: Arc::clone(&state) };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if !state.closed.load(Ordering::SeqCst) {
                    state.made.send_modify(|n| *n += 1);
                    tokio::spawn(pass(client, Arc::clone(&state)));
                }
            }
        });
        line
    }

    /// How many connections were made so far, and every new one.
    pub fn made(&self) -> watch::Receiver<usize> {
        self.state.made.subscribe()
    }

    /// Cuts every connection; from now on they are made to this server, as after a failover.
    pub fn turn_to(&self, target: String) {
        *self.state.target.lock().unwrap_or_else(PoisonError::into_inner) = target;
        self.cut();
    }

    /// Cuts every connection.
    pub fn cut(&self) {
        self.state.cut.send_modify(|n| *n += 1);
    }

    /// Cuts every connection and takes no new ones, or takes them again.
    pub fn set_closed(&self, closed: bool) {
        self.state.closed.store(closed, Ordering::SeqCst);
        if closed {
            self.cut();
        }
    }

    /// Takes no new connections, or takes them again; those that there are go on.
    pub fn set_full(&self, full: bool) {
        self.state.closed.store(full, Ordering::SeqCst);
    }

    /// Swallows everything from now on, as a network that fell apart does; or passes it on again.
    pub fn set_silent(&self, silent: bool) {
        self.state.silent.send_replace(silent);
    }

    /// Cuts a connection instead of passing on the `n`th piece that a client sends from now on.
    pub fn cut_at_request(&self, n: usize) {
        self.state.requests_left.store(n, Ordering::SeqCst);
    }

    /// Cuts a connection instead of passing on the `n`th piece that the server sends from now on:
    /// what was asked has been done, and nobody hears of it.
    pub fn cut_at_answer(&self, n: usize) {
        self.state.answers_left.store(n, Ordering::SeqCst);
    }

    /// Whether the cut that was asked for is still to come.
    pub fn is_armed(&self) -> bool {
        self.state.requests_left.load(Ordering::SeqCst)
            + self.state.answers_left.load(Ordering::SeqCst)
            > 0
    }
}

async fn pass(client: TcpStream, state: Arc<State>) {
    // From before the target is read, so that nobody is forgotten who goes to the old one.
    let mut cut = state.cut.subscribe();
    let target = state.target.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = server.into_split();
    tokio::select! {
        _ = cut.changed() => {}
        () = one_way(client_in, server_out, &state.requests_left, state.silent.subscribe()) => {}
        () = one_way(server_in, client_out, &state.answers_left, state.silent.subscribe()) => {}
    }
}

async fn one_way(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    left: &AtomicUsize,
    mut silent: watch::Receiver<bool>,
) {
    let mut piece = vec![0; 64 * 1024];
    loop {
        let Ok(n @ 1..) = from.read(&mut piece).await else { return };
        if *silent.borrow() && silent.wait_for(|silent| !silent).await.is_err() {
            return;
        }
        let last = left.try_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if last == Ok(1) || to.write_all(&piece[..n]).await.is_err() {
            return;
        }
    }
}

/// Waits until something holds; fails after a generous while.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + crate::process::PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "{what}: not within the patience");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
