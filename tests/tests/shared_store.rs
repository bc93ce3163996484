//! Two servers and three miners on one database, six validators, and a load that never stops while
//! processes are killed, stopped, cut off and restarted at random. At the end the books of the
//! validators must be right: everything that was answered arrived once everywhere, in order.
//!
//! Twenty seconds of chaos; `PTN_CHAOS_SECONDS=600` makes it ten minutes, `PTN_CHAOS_SEED` repeats a
//! run.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "tests"
)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ptn_core::directory::Wire;
use ptn_core::record::{DeliveryState, SignalState};
use ptn_core::store::postgres::PgOptions;
use ptn_core::store::{PgStore, SignalStore};
use ptn_core::validator::{Fault, LoopbackValidator, ValidatorOptions, Verdict};
use ptn_tests::http::{request, submit_order, try_receive_signal};
use ptn_tests::postgres::{Database, Line, until};
use ptn_tests::process::{Daemon, Home};
use serde_json::json;

const MINER: &str = env!("CARGO_BIN_EXE_ptn-miner-under-test");
const SERVER: &str = env!("CARGO_BIN_EXE_ptn-server-under-test");
const PAIRS: [&str; 6] = ["BTCUSDC", "ETHUSDC", "SOLUSDC", "XRPUSDC", "DOGEUSDC", "ADAUSDC"];
const LEASE: Duration = Duration::from_secs(2);
const BARRIER: &str = "FLAT_ALL";

/// Random enough, and the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// A signal whose sender got a 200.
#[derive(Debug, Clone)]
struct Answered {
    id: String,
    pair: &'static str,
    sent: Instant,
    answered: Instant,
}

/// What the senders know.
#[derive(Default)]
struct Senders {
    addresses: Mutex<Vec<String>>,
    books: Mutex<Vec<Answered>>,
    over: AtomicBool,
    tries: AtomicU64,
}

impl Senders {
    /// Sends until some server says 200, under the same uuid each time.
    async fn send(&self, id: &str, pair: &'static str, body: &str) {
        let sent = Instant::now();
        for turn in 0.. {
            self.tries.fetch_add(1, Ordering::Relaxed);
            let address = {
                let addresses = self.addresses.lock().unwrap();
                addresses[(turn + id.len()) % addresses.len()].clone()
            };
            let asked = try_receive_signal(&address, body);
            match tokio::time::timeout(Duration::from_secs(10), asked).await {
                Ok(Ok((200, _))) => break,
                Ok(Ok((409 | 400, answer))) => panic!("{id}: {answer}"),
                _ => tokio::time::sleep(Duration::from_millis(30)).await,
            }
            assert!(sent.elapsed() < Duration::from_secs(120), "{id} is never answered");
        }
        let (id, answered) = (id.to_owned(), Instant::now());
        self.books.lock().unwrap().push(Answered { id, pair, sent, answered });
    }

    /// One strategy: its orders on its pair, one after the other.
    async fn trade(self: Arc<Self>, pair: &'static str) {
        for n in 0.. {
            if self.over.load(Ordering::SeqCst) {
                return;
            }
            let id = format!("{pair}-{n:05}");
            let body = json!({"trade_pair": pair, "order_type": "long", "leverage": "0.01", "order_uuid": id});
            self.send(&id, pair, &body.to_string()).await;
            tokio::time::sleep(Duration::from_millis(120)).await;
        }
    }
}

async fn validators() -> Vec<LoopbackValidator> {
    let mut list = Vec::new();
    for n in 0..6 {
        let mut options = ValidatorOptions::default();
        options.keep = 1_000_000;
        options.faults = match n {
            1 => vec![Fault::Delay { ms: 40 }.into()],
            3 => vec![Fault::LoseAnswer.first(10)],
            4 => vec![Fault::DropRead.first(10)],
            _ => Vec::new(),
        };
        list.push(LoopbackValidator::start(options).await.unwrap());
    }
    list
}

/// A miner with a line of its own to the database.
struct Miner {
    daemon: Daemon,
    line: Line,
}

impl Miner {
    async fn start(home: &Home, database: &Database, line: Line) -> Self {
        let url = database.url_at(line.address);
        let waits = ["100ms"; 40].join(",");
        let flags = [
            "--store",
            &url,
            "--store-lease",
            "2s",
            "--delivery.waits",
            &waits,
            "--delivery.timeout",
            "3s",
        ];
        let mut daemon = home.miner(MINER, &flags);
        daemon.up().await;
        daemon.ignore_log();
        Self { daemon, line }
    }
}

async fn server(home: &Home, database: &Database) -> (Daemon, String) {
    let mut daemon = home.server(SERVER, &["--store", &database.url(), "--limits", "off"]);
    let address = daemon.up().await["address"].as_str().unwrap().to_owned();
    daemon.ignore_log();
    (daemon, address)
}

async fn owner_pid(store: &PgStore) -> Option<u32> {
    let owner = store.owner().await.ok().flatten()?;
    owner.name.split("pid ").nth(1)?.trim_end_matches(')').parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_to_the_processes_the_validators_books_are_right() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seconds = number("PTN_CHAOS_SECONDS").unwrap_or(20);
    let pid = u64::from(std::process::id());
    let seed = number("PTN_CHAOS_SEED").unwrap_or(pid.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    println!("PTN_CHAOS_SEED={seed} PTN_CHAOS_SECONDS={seconds}");
    let mut dice = Dice(seed);

    let database = Database::new().await;
    let validators = validators().await;
    let wire = |n| if n % 3 == 2 { Wire::Dendrite } else { Wire::Btauth };
    let list: Vec<_> = validators.iter().enumerate().map(|(n, v)| v.entry(wire(n))).collect();
    let home = Home::new(&list);
    let store = PgStore::open(PgOptions::new(&database.url()).unwrap()).await.unwrap();
    let senders = Arc::new(Senders::default());
    let mut servers = Vec::new();
    for _ in 0..2 {
        let (daemon, address) = server(&home, &database).await;
        senders.addresses.lock().unwrap().push(address);
        servers.push(daemon);
    }
    let mut miners = Vec::new();
    for _ in 0..3 {
        miners.push(Miner::start(&home, &database, Line::new().await).await);
    }
    let trading: Vec<_> =
        PAIRS.into_iter().map(|pair| tokio::spawn(Arc::clone(&senders).trade(pair))).collect();

    let end = Instant::now() + Duration::from_secs(seconds);
    let mut flattening = None;
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(300 + dice.roll(900))).await;
        if flattening.is_none() && end - Instant::now() < Duration::from_secs(seconds / 2) {
            let senders = Arc::clone(&senders);
            flattening = Some(tokio::spawn(async move {
                let body = json!({"execution_type": BARRIER, "order_uuid": "ALL"}).to_string();
                senders.send(BARRIER, BARRIER, &body).await;
            }));
        }
        // Mostly the one that delivers.
        let owner = owner_pid(&store).await;
        let at = miners.iter().position(|m| Some(m.daemon.pid()) == owner);
        let at = at.filter(|_| dice.roll(4) > 0).unwrap_or(dice.roll(3) as usize);
        let event = dice.roll(7);
        println!(
            "{:?} left: {event} happens to miner {at}",
            end.saturating_duration_since(Instant::now())
        );
        match event {
            0 | 1 => {
                let Miner { daemon, line } = miners.remove(at);
                daemon.kill().await;
                miners.insert(at, Miner::start(&home, &database, line).await);
            }
            2 => {
                // Stopped for longer than its lease, as a machine that swaps or is suspended.
                miners[at].daemon.signal("-STOP");
                let pause = LEASE + Duration::from_millis(dice.roll(1500));
                tokio::time::sleep(pause).await;
                miners[at].daemon.signal("-CONT");
            }
            3 => {
                miners[at].line.set_silent(true);
                tokio::time::sleep(LEASE + Duration::from_millis(dice.roll(1500))).await;
                miners[at].line.set_silent(false);
            }
            4 => {
                let which = dice.roll(2) as usize;
                servers.remove(which).kill().await;
                let (daemon, address) = server(&home, &database).await;
                senders.addresses.lock().unwrap()[which] = address;
                servers.insert(which, daemon);
            }
            5 => database.end_sessions().await,
            _ => {
                let Miner { daemon, line } = miners.remove(at);
                daemon.signal("-TERM");
                assert!(daemon.wait().await.success(), "a miner that is asked to stop ends well");
                miners.insert(at, Miner::start(&home, &database, line).await);
            }
        }
    }
    senders.over.store(true, Ordering::SeqCst);
    for task in trading.into_iter().chain(flattening) {
        task.await.unwrap();
    }
    let healed = Instant::now();
    while store.pending().await.is_ok_and(|pending| pending.count > 0) {
        if healed.elapsed() > Duration::from_secs(120) {
            let states = vec![SignalState::Pending];
            let filter = ptn_core::store::Filter { states, ..ptn_core::store::Filter::default() };
            let pending = store.list(&filter).await;
            panic!("not finished: {:?}\n{pending:#?}", store.owner().await);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Whoever woke up late must have nothing left to say.
    tokio::time::sleep(LEASE).await;
    check(&senders, &store, &validators, &database).await;
}

async fn check(
    senders: &Senders,
    store: &PgStore,
    validators: &[LoopbackValidator],
    database: &Database,
) {
    let books = senders.books.lock().unwrap().clone();
    let stored = database.number("SELECT count(*) FROM ptn_signal").await;
    println!("{} answered after {} tries", books.len(), senders.tries.load(Ordering::Relaxed));
    assert_eq!(usize::try_from(stored).unwrap(), books.len(), "what was answered, and no more");
    for entry in books.iter().filter(|entry| entry.pair != BARRIER) {
        let id = ptn_core::signal::OrderUuid::parse(&entry.id).unwrap();
        let stored = store.get(&id).await.unwrap().unwrap();
        assert_eq!(stored.state, SignalState::Processed, "{}: {:?}", entry.id, stored);
        assert!(stored.validators.values().all(|v| v.state == DeliveryState::Accepted));
        assert_eq!(stored.validators.len(), validators.len());
    }
    for (n, validator) in validators.iter().enumerate() {
        let mut effects: BTreeMap<&str, u32> = BTreeMap::new();
        let mut first: BTreeMap<&str, usize> = BTreeMap::new();
        let received = validator.received();
        for (at, arrival) in received.iter().enumerate() {
            let known = PAIRS.iter().any(|pair| arrival.order_uuid.starts_with(pair));
            let id = if known { arrival.order_uuid.as_str() } else { BARRIER };
            if matches!(arrival.verdict, Verdict::Accepted) {
                *effects.entry(id).or_default() += 1;
                first.entry(id).or_insert(at);
            }
        }
        for entry in &books {
            let times = effects.get(entry.id.as_str()).copied().unwrap_or(0);
            // Closing everything twice closes everything.
            assert!(
                times == 1 || (times > 1 && entry.pair == BARRIER),
                "V{n}: {} {times} times",
                entry.id
            );
        }
        let sent: u32 = effects.values().sum();
        assert!(usize::try_from(sent).unwrap() >= books.len());
        for earlier in &books {
            for later in books.iter().filter(|later| earlier.answered < later.sent) {
                let bound =
                    earlier.pair == later.pair || [earlier.pair, later.pair].contains(&BARRIER);
                assert!(
                    !bound || first[earlier.id.as_str()] < first[later.id.as_str()],
                    "V{n}: {} before {}",
                    later.id,
                    earlier.id
                );
            }
        }
    }
}

#[tokio::test]
async fn health_says_which_store_and_who_delivers_and_no_password_is_shown() {
    let database = Database::new().await;
    let validator = LoopbackValidator::start(ValidatorOptions::default()).await.unwrap();
    let home = Home::new(&[validator.entry(Wire::Btauth)]);
    // Trust asks for no password, so any will do.
    let url = database.url().replacen("postgres@", "postgres:hunter2@", 1);
    assert!(url.contains("hunter2"));
    let (first_port, second_port) = (free_port(), free_port());
    let start = |port: u16| {
        home.miner(MINER, &["--store", &url, "--axon.port", &port.to_string(), "--logging.debug"])
    };
    let mut first = start(first_port);
    first.up().await;
    let mut second = start(second_port);
    second.up().await;
    let health = async |port: u16| {
        let address = format!("127.0.0.1:{port}");
        request(&address, hyper::Method::GET, "/health", &[], "").await.1["store"].clone()
    };
    until("one of the two delivers", async || {
        let both = [health(first_port).await, health(second_port).await];
        both.iter().filter(|store| store["delivering"] == true).count() == 1
    })
    .await;
    let said = health(second_port).await;
    assert_eq!(said["kind"], "postgres");
    assert!(said["owner"].as_str().unwrap().contains(&format!("pid {}", first.pid())), "{said}");
    let mut server = home.server(SERVER, &["--store", &url]);
    let address = server.up().await["address"].as_str().unwrap().to_owned();
    let health = request(&address, hyper::Method::GET, "/api/health", &[], "").await.1;
    assert_eq!(health["store"], "postgres", "{health}");
    // What the miner learns comes back to the server.
    let order = json!({"trade_pair": "BTCUSDC", "order_type": "long", "leverage": "0.1"});
    let (status, answer) = submit_order(&address, &order.to_string()).await;
    assert_eq!((status, &answer["success"]), (200, &json!(true)), "{answer}");
    for daemon in [first, second, server] {
        daemon.signal("-INT");
        let (status, log) = daemon.end().await;
        assert!(status.success(), "{log}");
        assert!(!log.contains("hunter2"), "{log}");
        assert!(log.contains(database.url().rsplit('/').next().unwrap()), "{log}");
    }
}

#[tokio::test]
async fn a_miner_with_another_hotkey_is_refused_and_a_missing_server_is_named() {
    let database = Database::new().await;
    let home = Home::new(&[]);
    let validator = LoopbackValidator::start(ValidatorOptions::default()).await.unwrap();
    home.set_validators(&[validator.entry(Wire::Btauth)]);
    let mut first = home.miner(MINER, &["--store", &database.url()]);
    first.up().await;
    let other = home.add_hotkey("other");
    let (status, said) =
        home.miner(MINER, &["--store", &database.url(), "--wallet.hotkey", "other"]).end().await;
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.contains(&home.hotkey) && said.contains(&other), "{said}");
    let nowhere = format!("postgres://me:hunter2@127.0.0.1:{}/ptn", free_port());
    for daemon in
        [home.miner(MINER, &["--store", &nowhere]), home.server(SERVER, &["--store", &nowhere])]
    {
        let (status, said) = daemon.end().await;
        assert_eq!(status.code(), Some(75), "{said}");
        assert!(said.contains("postgres://127.0.0.1") && !said.contains("hunter2"), "{said}");
    }
    for bad in ["postgres://me:hunter2@host:port/x", "mysql://me:hunter2@x/y"] {
        let (status, said) = home.server(SERVER, &["--store", bad]).end().await;
        assert_eq!(status.code(), Some(2), "{said}");
        assert!(said.contains("postgres://USER@HOST") && !said.contains("hunter2"), "{said}");
    }
}

#[tokio::test]
async fn the_command_line_moves_signals_both_ways_but_not_from_under_a_miner() {
    let database = Database::new().await;
    let validator = LoopbackValidator::start(ValidatorOptions::default()).await.unwrap();
    let home = Home::new(&[validator.entry(Wire::Btauth)]);
    let (folder, url) = (format!("fs:{}", home.data().display()), database.url());
    let order = |id: &str| {
        json!({"trade_pair": "BTCUSDC", "order_type": "long", "leverage": "0.1", "order_uuid": id})
            .to_string()
    };
    let mut server = home.server(SERVER, &[]);
    let address = server.up().await["address"].as_str().unwrap().to_owned();
    for id in ["m-1", "m-2"] {
        assert_eq!(try_receive_signal(&address, &order(id)).await.unwrap().0, 200);
    }
    let mut miner =
        home.miner(MINER, &["--delivery.policy", "mothership", "--delivery.mothership", "5x"]);
    miner.up().await;
    let (code, said) = cli(&["signals", "migrate", "--from", &folder, "--to", &url]).await;
    assert_eq!(code, Some(75), "{said}");
    assert!(said.contains(&format!("pid {}", miner.pid())), "{said}");
    miner.signal("-INT");
    assert!(miner.end().await.0.success());
    assert_eq!(home.names("failed_signals"), ["m-1", "m-2"], "nobody was to get them");
    assert_eq!(try_receive_signal(&address, &order("m-3")).await.unwrap().0, 200);

    let (code, said) = cli(&["signals", "migrate", "--from", &folder, "--to", &url]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("moved 3 signals") && said.contains("1 not finished"), "{said}");
    let (status, answer) = try_receive_signal(&address, &order("m-4")).await.unwrap();
    assert_eq!((status, &answer["code"]), (503, &json!("store_moved")), "{answer}");
    let (code, said) = cli(&["signals", "retry", "m-1", "--store", &url]).await;
    assert_eq!(code, Some(0), "{said}");
    let mut miner = home.miner(MINER, &["--store", &url]);
    miner.up().await;
    let store = PgStore::open(PgOptions::new(&url).unwrap()).await.unwrap();
    until("both are delivered", async || store.pending().await.unwrap().count == 0).await;
    let (code, said) = cli(&["signals", "migrate", "--from", &url, "--to", &folder]).await;
    assert_eq!(code, Some(75), "{said}");
    assert!(said.contains(&format!("pid {}", miner.pid())), "{said}");
    miner.signal("-INT");
    assert!(miner.end().await.0.success());
    let (code, said) = cli(&["signals", "migrate", "--from", &url, "--to", &folder]).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(home.wait_for("processed_signals", 2).await, ["m-1", "m-3"]);
    assert_eq!(home.names("failed_signals"), ["m-2"]);
    assert_eq!(try_receive_signal(&address, &order("m-4")).await.unwrap().0, 200);
    let words = ["config", "show", "--store", "postgres://me:hunter2@db/ptn"];
    for words in [&words[..], &[&words[..], &["--json"]].concat()] {
        let (code, said) = cli(words).await;
        assert!(code == Some(0) && said.contains("postgres://me:***@db/ptn"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[tokio::test]
async fn receipts_and_verify_work_on_a_database_and_survive_a_move() {
    let database = Database::new().await;
    let start = || LoopbackValidator::start(ValidatorOptions::default());
    let (one, two) = (start().await.unwrap(), start().await.unwrap());
    let home = Home::new(&[one.entry(Wire::Btauth), two.entry(Wire::Btauth)]);
    let (folder, url) = (format!("fs:{}", home.data().display()), database.url());
    let mut server = home.server(SERVER, &["--store", &url]);
    let address = server.up().await["address"].as_str().unwrap().to_owned();
    // A script that goes on dropping files is told that nobody looks there.
    home.make_data();
    std::fs::create_dir_all(home.data().join("received_signals")).unwrap();
    let dropped = home.data().join("received_signals/dropped");
    std::fs::write(&dropped, "{}").unwrap();
    let mut miner = home.miner(MINER, &["--store", &url]);
    let said = |line: &serde_json::Value| {
        line["message"]
            .as_str()
            .is_some_and(|m| m.starts_with("1 in ") && m.contains("send --file"))
    };
    miner.line(said).await;
    std::fs::remove_file(dropped).unwrap();
    miner.up().await;
    for id in ["r-1", "r-2"] {
        let order = json!({"trade_pair": "BTCUSDC", "order_type": "long", "leverage": "0.1",
            "order_uuid": id});
        assert_eq!(try_receive_signal(&address, &order.to_string()).await.unwrap().0, 200);
    }
    let store = PgStore::open(PgOptions::new(&url).unwrap()).await.unwrap();
    until("both are delivered", async || store.pending().await.unwrap().count == 0).await;
    store.close().await;

    let receipt = async |place: &[&str]| {
        let (code, said) = cli(&[&["signals", "receipt", "r-2", "--json"], place].concat()).await;
        assert_eq!(code, Some(0), "{said}");
        serde_json::from_str::<serde_json::Value>(&said).unwrap_or_else(|e| panic!("{e}: {said}"))
    };
    let from_database = receipt(&["--store", &url]).await;
    assert_eq!(from_database["state"], "processed");
    let validators = from_database["validators"].as_array().unwrap();
    assert_eq!(validators.len(), 2, "{from_database}");
    for validator in validators {
        let request = &validator["requests"][0];
        assert_eq!(request["code"], "accepted", "{validator}");
        assert_eq!(request["sha256"].as_str().map(str::len), Some(64), "{validator}");
    }
    let key = home.path("api-key");
    std::fs::write(&key, "test-key").unwrap();
    let (at, key) = (format!("http://{address}"), key.to_str().unwrap());
    assert_eq!(receipt(&["--url", &at, "--api-key-file", key]).await, from_database);

    let verify = async |place: &[&str]| {
        let (code, said) = cli(&[&["signals", "verify"], place].concat()).await;
        (code.unwrap(), said)
    };
    let sound = verify(&["--store", &url]).await;
    assert_eq!(sound.0, 0, "{sound:?}");
    assert!(sound.1.contains("2 signals (0 waiting, 2 processed, 0 failed), 4 signed requests"));

    miner.signal("-INT");
    assert!(miner.end().await.0.success());

    // Somebody changes a row.
    database.sql("CREATE TABLE kept AS SELECT * FROM ptn_delivery").await;
    for (field, value, code) in [
        ("state", "\"submitted\"", "undecided"),
        ("state", "\"rejected\"", "not_acknowledged"),
        ("requests,0,nonce", "9000000000000000000", "out_of_order"),
    ] {
        let change = format!(
            "UPDATE ptn_delivery SET record = jsonb_set(record::jsonb, '{{{field}}}', '{value}')::json \
             WHERE hotkey = '{}' AND seq = (SELECT seq FROM ptn_signal WHERE id = 'r-1')",
            one.hotkey()
        );
        database.sql(&change).await;
        let broken = verify(&["--store", &url]).await;
        assert_eq!(broken.0, 1, "{field} {value}: {broken:?}");
        assert!(broken.1.contains(&format!("broken {code}: r-")), "{field} {value}: {broken:?}");
        database
            .sql(
                "UPDATE ptn_delivery d SET record = k.record FROM kept k \
                 WHERE k.seq = d.seq AND k.hotkey = d.hotkey",
            )
            .await;
    }

    // What happened to a signal is the same after a move; its number belongs to the store.
    let (code, said) = cli(&["signals", "migrate", "--from", &url, "--to", &folder]).await;
    assert_eq!(code, Some(0), "{said}");
    let data = home.data();
    let data = data.to_str().unwrap();
    let moved = receipt(&["--data-dir", data]).await;
    assert_eq!(moved["validators"], from_database["validators"]);
    assert_eq!(moved["accepted_at"], from_database["accepted_at"]);
    let sound = verify(&["--data-dir", data]).await;
    assert_eq!(sound.0, 0, "{sound:?}");
}

/// Runs a command; its exit code and everything that it said.
async fn cli(words: &[&str]) -> (Option<i32>, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_ptn-cli-under-test"));
    let output = command.args(words).output().await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
