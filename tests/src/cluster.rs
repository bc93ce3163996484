//! A PostgreSQL server of a test's own: killed, restarted, promoted, and set up as no shared one can
//! be. It lives in a folder of its own and ends with this.
//!
//! Tests that can do with a database of a server that everybody uses take [`super::postgres`].

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection as _};

use crate::postgres::until;

/// A server, with its files.
#[derive(Debug)]
pub struct Cluster {
    dir: tempfile::TempDir,
    port: u16,
    settings: Vec<String>,
    postmaster: Option<Child>,
}

impl Cluster {
    /// A fresh one that runs with these settings, such as `fsync=off`.
    pub async fn new(settings: &[&str]) -> Self {
        let mut cluster = Self::empty(settings);
        let data = cluster.data();
        let words = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"];
        run(command("initdb").arg("-D").arg(&data).args(words));
        cluster.start().await;
        cluster
    }

    /// A standby of this one with the same settings, in step with it as long as nobody cuts it off. What is committed here
    /// does not wait for it, unless a setting says so.
    pub async fn standby(&self) -> Self {
        let settings: Vec<&str> = self.settings.iter().map(String::as_str).collect();
        let mut standby = Self::empty(&settings);
        let (data, port) = (standby.data(), self.port.to_string());
        let words = ["-h", "127.0.0.1", "-U", "postgres", "-c", "fast", "-R", "--no-sync"];
        run(command("pg_basebackup").arg("-D").arg(&data).args(words).args(["-p", &port]));
        standby.start().await;
        standby
    }

    fn empty(settings: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(dir.path()));
        }
        let port = free_port();
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        Self { dir, port, settings, postmaster: None }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// `HOST:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The address of its first database.
    pub fn url(&self) -> String {
        format!("postgres://postgres@{}/postgres?sslmode=disable", self.address())
    }

    /// The address of its first database, without what stands behind its name.
    pub fn server(&self) -> String {
        format!("postgres://postgres@{}/postgres", self.address())
    }

    /// Starts it, and waits until it answers.
    pub async fn start(&mut self) {
        assert!(self.postmaster.is_none(), "it runs");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log()).unwrap();
        let mut postmaster = command("postgres");
        postmaster.arg("-D").arg(self.data()).arg("-k").arg(self.dir.path());
        postmaster.args(["-p", &self.port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
        for setting in &self.settings {
            postmaster.args(["-c", setting]);
        }
        postmaster.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.postmaster = Some(postmaster.spawn().unwrap());
        until("the server answers", async || {
            let ended = self.postmaster.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "PostgreSQL ended; it said:\n{}", self.said());
            PgConnection::connect(&self.url()).await.is_ok()
        })
        .await;
    }

    /// Ends it in good order; sessions are ended.
    pub fn stop(&mut self) {
        let mut postmaster = self.postmaster.take().unwrap();
        kill("-INT", &[postmaster.id()]);
        assert!(postmaster.wait().unwrap().success(), "it said:\n{}", self.said());
    }

    /// Ends every one of its processes at once, as a power cut would that spares the disk's cache.
    pub fn kill(&mut self) {
        let Some(mut postmaster) = self.postmaster.take() else { return };
        let pid = postmaster.id();
        // First it must start no new ones.
        kill("-STOP", &[pid]);
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children: Vec<u32> = children
            .unwrap_or_default()
            .split_whitespace()
            .filter_map(|p| p.parse().ok())
            .collect();
        kill("-KILL", &[&[pid], &children[..]].concat());
        drop(postmaster.wait());
        // They are nobody's children now, and the next server waits for their end.
        let lives = |pid: &u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
        };
        let end = std::time::Instant::now() + crate::process::PATIENCE;
        while children.iter().any(lives) && std::time::Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// What it logged.
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// Runs SQL in its first database.
    pub async fn sql(&self, sql: &str) -> Vec<PgRow> {
        let mut connection = PgConnection::connect(&self.url()).await.unwrap();
        sqlx::query(AssertSqlSafe(sql.to_owned())).fetch_all(&mut connection).await.unwrap()
    }

    /// Whether a query of its first database answers yes.
    pub async fn holds(&self, sql: &str) -> bool {
        use sqlx::Row as _;
        self.sql(sql).await[0].get(0)
    }

    /// Changes a setting that needs no restart.
    pub async fn set(&self, name: &str, value: &str) {
        self.sql(&format!("ALTER SYSTEM SET {name} = '{value}'")).await;
        self.sql("SELECT pg_reload_conf()").await;
        let has = format!("SELECT current_setting('{name}') = '{value}'");
        until("the setting holds", async || self.holds(&has).await).await;
    }

    /// Waits until a standby has everything that is committed here by now.
    pub async fn wait_for(&self, standby: &Self) {
        use sqlx::Row as _;
        let here: String = self.sql("SELECT pg_current_wal_lsn()::text").await[0].get(0);
        let there = format!("SELECT coalesce(pg_last_wal_replay_lsn() >= '{here}'::pg_lsn, false)");
        until("the standby has it", async || standby.holds(&there).await).await;
    }

    /// A standby hears no more of the server that it follows.
    pub async fn cut_off(&self) {
        self.set("primary_conninfo", "").await;
        let over = "SELECT count(*) = 0 FROM pg_stat_wal_receiver";
        until("nothing is received", async || self.holds(over).await).await;
    }

    /// Makes a standby a server of its own.
    pub async fn promote(&self) {
        assert!(self.holds("SELECT pg_promote()").await);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A program of PostgreSQL, as a user whom it accepts, and that ends with the thread of the test.
fn command(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    // It refuses to run as root.
    if is_root() {
        command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]);
    }
    command.arg(programs().join(program));
    command
}

/// The newest version that is installed.
fn programs() -> PathBuf {
    let version = |bin: &Path| {
        let name = bin.parent()?.file_name()?.to_str()?;
        name.parse::<u32>().ok()
    };
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let bins = installed.map(|entry| entry.path().join("bin"));
    let newest = bins.filter(|bin| bin.join("postgres").is_file()).max_by_key(|bin| version(bin));
    newest.unwrap_or_else(|| {
        panic!(
            "no programs of PostgreSQL in /usr/lib/postgresql/*/bin: this test kills and promotes a \
             server of its own, so the one that PTN_TEST_POSTGRES names is not enough; install the \
             package postgresql"
        )
    })
}

/// Below those that outgoing connections get: while the server is down its port must stay free.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let place = std::process::id().wrapping_mul(97).wrapping_add(n) % 12_000;
        let port = 20_000 + u16::try_from(place).unwrap();
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|e| panic!("{command:?} cannot be run: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn kill(signal: &str, pids: &[u32]) {
    let pids = pids.iter().map(ToString::to_string);
    // Who is gone already needs no signal.
    drop(Command::new("kill").arg(signal).args(pids).stderr(Stdio::null()).status());
}
