//! The real processes on one store, with validators that keep books: started, killed, restarted.
//!
//! Who is killed when is left to the suites.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ptn_core::directory::Wire;
use ptn_core::record::SignalState;
use ptn_core::sign::Hotkey;
use ptn_core::store::postgres::PgOptions;
use ptn_core::store::{Filter, PgStore, SignalStore as _};
use ptn_core::validator::{LoopbackValidator, ValidatorOptions};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::HANG;
use super::faults::Plan;
use super::ledger::{Findings, Ledger, Standing, arrived, judge, of_spool};
use super::load::Load;
use crate::postgres::Database;
use crate::process::Home;

/// The programs under test.
#[derive(Debug, Clone, Copy)]
pub struct Programs {
    /// `ptn-miner`.
    pub miner: &'static str,
    /// `ptn-server`.
    pub server: &'static str,
}

/// Where signals are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// In a directory.
    Spool,
    /// In a database of the world's own.
    Postgres,
}

/// What a world is like.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// The store.
    pub store: Store,
    /// The server is a process of its own.
    pub apart: bool,
    /// The rules of 2024: validators do not recognise repeats, and trade twice.
    pub y2024: bool,
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let processes = if self.apart { "server and miner" } else { "one process" };
        let store = if self.store == Store::Spool { "" } else { " on PostgreSQL" };
        write!(f, "{processes}{store}, rules of {}", if self.y2024 { 2024 } else { 2026 })
    }
}

/// One process, which may be restarted.
#[derive(Debug)]
pub struct Victim {
    program: &'static str,
    args: Vec<String>,
    /// What goes wrong in it.
    pub plan: Plan,
    child: Option<Child>,
    log: Arc<Mutex<VecDeque<String>>>,
    address: watch::Sender<String>,
}

impl Victim {
    fn new(program: &'static str, args: Vec<String>, plan: PathBuf) -> Self {
        let plan = Plan::new(plan);
        let (log, address) = (Arc::default(), watch::Sender::new("127.0.0.1:9".to_owned()));
        Self { program, args, plan, child: None, log, address }
    }

    /// Starts it; when that was.
    pub fn start(&mut self) -> Instant {
        assert!(self.child.is_none(), "it runs");
        let at = Instant::now();
        let mut command = Command::new(self.program);
        command.args(&self.args).args(["--logging.format", "json"]).envs(self.plan.env());
        command.env_remove("PTN_DATA_DIR").env_remove("XDG_RUNTIME_DIR").kill_on_drop(true);
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        self.child = Some(child);
        let (log, address) = (Arc::clone(&self.log), self.address.clone());
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                if let Ok(value) = serde_json::from_str::<Value>(&line) {
                    let up = ["delivering", "listening"]
                        .contains(&value["message"].as_str().unwrap_or_default());
                    let place = ["server", "address"].iter().find_map(|key| value[key].as_str());
                    if let Some(place) = place.filter(|_| up) {
                        address.send_replace(place.to_owned());
                    }
                }
                let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                log.push_back(line);
                if log.len() > 400 {
                    log.pop_front();
                }
            }
        });
        at
    }

    /// What it said lately.
    pub fn said(&self) -> String {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    /// Forgets what it said so far.
    pub fn forget(&self) {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Waits until it said this.
    pub async fn says(&self, text: &str) {
        let end = Instant::now() + HANG;
        while !self.said().contains(text) {
            assert!(Instant::now() < end, "it does not say {text:?} but:\n{}", self.said());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id().unwrap()
    }

    /// Where its HTTP server listens.
    pub fn address(&self) -> watch::Receiver<String> {
        self.address.subscribe()
    }

    /// Waits until it ends by itself; nothing when it does not for so long.
    pub async fn ended(&mut self, within: Duration) -> Option<ExitStatus> {
        let child = self.child.as_mut().unwrap();
        let status = tokio::time::timeout(within, child.wait()).await.ok()?.unwrap();
        self.child = None;
        Some(status)
    }

    /// How it ended, if it did.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().unwrap()?;
        self.child = None;
        Some(status)
    }

    /// Kills it from outside, at whatever it is doing.
    pub async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().await.unwrap();
        }
    }

    /// Sends it a signal, as `kill` would.
    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let status = std::process::Command::new("kill").args([name, &pid]).status().unwrap();
        assert!(status.success());
    }
}

/// Which of the processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The one that answers senders.
    Receiver,
    /// The one that delivers.
    Deliverer,
}

/// Processes, validators and their books.
#[derive(Debug)]
pub struct World {
    /// Keys, lists and the spool.
    pub home: Home,
    /// What it is like.
    pub shape: Shape,
    /// By hotkey.
    pub ledgers: Vec<(String, Arc<Ledger>)>,
    keys: Vec<String>,
    validators: Vec<LoopbackValidator>,
    victims: Vec<Victim>,
    programs: Programs,
    database: Option<Database>,
}

const VALIDATORS: usize = 2;

impl World {
    /// Validators and programs that are not started yet. The data directory is only a name so far
    /// that something may be mounted at.
    pub async fn new(programs: Programs, shape: Shape) -> Self {
        let keys = (0..VALIDATORS).map(|_| Hotkey::generate().to_keyfile_json()).collect();
        let books = (0..VALIDATORS).map(|_| Ledger::new(!shape.y2024)).collect();
        let database = Self::database(shape).await;
        Self::with_books(programs, shape, keys, books, (Home::new(&[]), database)).await
    }

    /// One with this database.
    pub async fn on(programs: Programs, shape: Shape, database: Database) -> Self {
        let keys = (0..VALIDATORS).map(|_| Hotkey::generate().to_keyfile_json()).collect();
        let books = (0..VALIDATORS).map(|_| Ledger::new(!shape.y2024)).collect();
        Self::with_books(programs, shape, keys, books, (Home::new(&[]), Some(database))).await
    }

    async fn database(shape: Shape) -> Option<Database> {
        match shape.store {
            Store::Spool => None,
            Store::Postgres => Some(Database::new().await),
        }
    }

    /// A second world with the same validators, which know what they know by now; to go on from a
    /// copy of this one's spool.
    pub async fn fork(&self) -> Self {
        let books = self.ledgers.iter().map(|(_, book)| book.fork()).collect();
        let home = Home::with_wallet_of(&self.home);
        let place = (home, Self::database(self.shape).await);
        Self::with_books(self.programs, self.shape, self.keys.clone(), books, place).await
    }

    async fn with_books(
        programs: Programs,
        shape: Shape,
        keys: Vec<String>,
        books: Vec<Arc<Ledger>>,
        (home, database): (Home, Option<Database>),
    ) -> Self {
        let wire = if shape.y2024 { Wire::Dendrite } else { Wire::Btauth };
        let (mut validators, mut ledgers) = (Vec::new(), Vec::new());
        for (key, book) in keys.iter().zip(books) {
            let mut options = ValidatorOptions::default();
            options.hotkey = Hotkey::from_keyfile_json(key.as_bytes()).unwrap();
            options.desk = Some(Arc::clone(&book) as _);
            options.recognises_repeats = !shape.y2024;
            // The books are kept in the ledger.
            options.keep = 0;
            let validator = LoopbackValidator::start(options).await.unwrap();
            ledgers.push((validator.hotkey().to_owned(), book));
            validators.push(validator);
        }
        home.set_validators(&validators.iter().map(|v| v.entry(wire)).collect::<Vec<_>>());
        let rules = if shape.y2024 { "2024" } else { "2026" };
        let list = home.path("validators.toml").to_str().unwrap().to_owned();
        let mut miner = home.miner_args(("--validators", &list), &["--rules", rules]);
        // Short, so that a kill in the middle of the waits is no idle time.
        let waits = ["--delivery.waits", "50ms,100ms,200ms", "--delivery.timeout", "20s"];
        // A busy machine may be late; whether what is late expires is tested elsewhere.
        let ages = ["--delivery.max-age", "never"];
        // The disks here are small, and are to become full.
        let room = ["--spool.min-free", "0"];
        let open = ["--server.key-rate", "10000/10000", "--limits", "off"];
        miner.extend(
            waits.iter().chain(&ages).chain(&open).chain(&room).map(|&flag| flag.to_owned()),
        );
        let store = database.as_ref().map(Self::url);
        if let Some(url) = &store {
            let lease = ["--store", url.as_str(), "--store-lease", "2s"];
            miner.extend(lease.map(str::to_owned));
        }
        let mut victims = Vec::new();
        if shape.apart {
            let data = home.data().to_str().unwrap().to_owned();
            let mut server = vec!["--data-dir", &data, "--listen", "127.0.0.1:0", "--rules", rules];
            server.extend(open);
            server.extend(room);
            if let Some(url) = &store {
                server.extend(["--store", url.as_str()]);
            }
            let server = server.into_iter().map(str::to_owned).collect();
            victims.push(Victim::new(programs.server, server, home.path("server.plan")));
        } else {
            miner.extend(["--server.listen", "127.0.0.1:0"].map(str::to_owned));
        }
        victims.push(Victim::new(programs.miner, miner, home.path("miner.plan")));
        Self { home, shape, ledgers, keys, validators, victims, programs, database }
    }

    /// In clear, so that a statement can be seen on its way.
    fn url(database: &Database) -> String {
        format!("{}?sslmode=disable", database.url())
    }

    /// Where everything stands; nothing while files come and go, unless it must be told now.
    async fn standing(&self, now: bool) -> Option<Standing> {
        match &self.database {
            None if now => Some(of_spool(&self.data())),
            None => of_spool_when_quiet(&self.data()),
            Some(database) => Some(of_postgres(&Self::url(database)).await),
        }
    }

    /// Starts what does not run.
    pub fn start(&mut self) {
        for victim in self.victims.iter_mut().filter(|v| v.child.is_none()) {
            victim.start();
        }
    }

    /// One of the processes; it may be the same one.
    pub fn victim(&mut self, who: Who) -> &mut Victim {
        match who {
            Who::Receiver => self.victims.first_mut().unwrap(),
            Who::Deliverer => self.victims.last_mut().unwrap(),
        }
    }

    /// Both processes, or the only one.
    pub fn victims(&mut self) -> &mut [Victim] {
        &mut self.victims
    }

    /// Three senders to the receiver.
    pub fn load(&mut self, pause: Duration) -> Load {
        let address = self.victim(Who::Receiver).address();
        let pairs = if self.shape.y2024 {
            ["BTCUSD", "ETHUSD", "EURUSD"]
        } else {
            ["BTCUSDC", "ETHUSDC", "SOLUSDC"]
        };
        Load::start(&pairs, pause, &[address])
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.home.data()
    }

    /// Orders that took effect at the validators, all together.
    pub fn effects(&self) -> usize {
        self.ledgers.iter().map(|(_, book)| book.effects()).sum()
    }

    /// The first time after `since` that a validator received an order.
    pub async fn first_delivery(&self, since: Instant) -> Instant {
        let watches = self.ledgers.iter().map(|(_, book)| Box::pin(after(book.arrivals(), since)));
        let first = futures_util::future::select_all(watches);
        let first = tokio::time::timeout(HANG, first).await;
        first.unwrap_or_else(|_| panic!("nothing is delivered:\n{}", self.said())).0
    }

    /// What all processes said lately.
    pub fn said(&self) -> String {
        self.victims.iter().map(Victim::said).collect::<Vec<_>>().join("\n---\n")
    }

    /// Lets everything that was acknowledged come to its end, and judges it by the books. A machine
    /// that is busy with other things may take long, as long as it gets on.
    pub async fn settle(&mut self, answered: &[String]) -> Findings {
        for victim in &mut self.victims {
            victim.plan.clear();
        }
        self.start();
        let mut end = Instant::now() + HANG;
        let mut before = (0, 0);
        let (arrived, standing) = loop {
            let arrived = arrived(&self.ledgers);
            let out_of_time = Instant::now() > end;
            if let Some(standing) = self.standing(out_of_time).await {
                let finished = |id: &String| standing.finished.contains_key(id);
                let done = standing.waiting.is_empty()
                    && standing.unreadable.is_empty()
                    && answered.iter().all(finished)
                    // The file of an order that nobody acknowledged may come after its effect.
                    && arrived.iter().all(|(_, id)| finished(id));
                if done || out_of_time {
                    break (arrived, standing);
                }
            }
            // Files come after the deliveries.
            let files = std::fs::read_dir(self.data().join("received_signals"));
            let now = (self.effects(), files.map_or(0, Iterator::count));
            if now != before {
                (end, before) = (Instant::now() + HANG, now);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        judge(answered, &arrived, &standing, &self.ledgers)
    }

    /// Ends everything.
    pub async fn stop(mut self) {
        for victim in &mut self.victims {
            victim.kill().await;
        }
        for validator in std::mem::take(&mut self.validators) {
            validator.shutdown().await;
        }
    }
}

/// What a database holds.
async fn of_postgres(url: &str) -> Standing {
    let store = PgStore::open(PgOptions::new(url).unwrap()).await.unwrap();
    let all = store.list(&Filter { limit: 1_000_000, ..Filter::default() }).await.unwrap();
    store.close().await;
    let mut standing = Standing::default();
    for stored in all {
        let id = stored.signal.id().to_string();
        if stored.state == SignalState::Pending {
            standing.waiting.insert(id);
        } else if standing.finished.insert(id.clone(), stored).is_some() {
            standing.doubled.push(format!("{id} finished twice"));
        }
    }
    standing
}

/// The folders, unless files come and go while they are read.
fn of_spool_when_quiet(dir: &Path) -> Option<Standing> {
    let waiting = std::fs::read_dir(dir.join("received_signals")).ok()?;
    if waiting.count() > 0 {
        return None;
    }
    Some(of_spool(dir))
}

/// The first change of a watch that tells a moment after `since`.
pub async fn after(mut moments: watch::Receiver<Instant>, since: Instant) -> Instant {
    let first = moments.wait_for(|at| *at > since).await.map(|at| *at);
    match first {
        Ok(at) => at,
        Err(_) => std::future::pending().await,
    }
}
