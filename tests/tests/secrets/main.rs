//! Everything runs once with secrets made for it, and then everything that was said, answered,
//! logged (at trace) and written is searched for them. Only the files that hold them are exempt.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a failed expectation is how a test fails"
)]

mod canary;

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::Method;
use ptn_core::chain::Rao;
use ptn_core::chain::mock::{MockNeuron, MockNode};
use ptn_core::sign::{Hotkey, Signer as _};
use ptn_core::validator::{LoopbackValidator, ValidatorOptions};
use ptn_core::wallet::{Key, Password, Place, Replace};
use ptn_tests::http::request;
use ptn_tests::process::{Daemon, Home};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use self::canary::{Canaries, random};

const MINER: &str = env!("CARGO_BIN_EXE_ptn-miner-under-test");
const SERVER: &str = env!("CARGO_BIN_EXE_ptn-server-under-test");
const CLI: &str = env!("CARGO_BIN_EXE_ptn-cli-under-test");

/// Files that hold secrets because the user put them there, or asked for it.
const KEY_FILES: [&str; 6] = [
    "wallets",
    "mining/miner_secrets.json",
    "mining/api_keys.json",
    "hot.password",
    "cold.password",
    "wrong.password",
];

/// A home whose every secret is known to the search.
struct World {
    home: Home,
    canaries: Canaries,
    api_key: String,
    other_key: String,
    wrong_key: String,
    wrong_password: String,
    /// An address of the node with a key in it.
    endpoint: String,
    /// The same with a user and a password, which is refused.
    refused: String,
    /// A database with a password in its address; nobody listens there.
    database: String,
    hotkey: String,
    v: LoopbackValidator,
    _node: MockNode,
    /// Everything that was said so far: where, and what.
    said: Vec<(String, Vec<u8>)>,
}

fn secrets_of(canaries: &mut Canaries, name: &str, key: &Key) {
    canaries.phrase(key.phrase().unwrap());
    let seed = key.seed().unwrap();
    canaries.bytes(&format!("{name}'s seed"), seed);
    // The expanded key that files and signing use.
    let file: Value = serde_json::from_str(&Hotkey::from_seed(*seed).to_keyfile_json()).unwrap();
    let private = file["privateKey"].as_str().unwrap().trim_start_matches("0x");
    canaries.bytes(&format!("{name}'s private key"), &hex::decode(private).unwrap());
}

impl World {
    async fn new() -> Self {
        let v = LoopbackValidator::start(ValidatorOptions::default()).await.unwrap();
        let home = Home::new(&[]);
        let mut canaries = Canaries::default();
        let mut secret = |what: &str| {
            let text = random();
            canaries.text(what, &text);
            text
        };
        let api_key = secret("the API key");
        let other_key = secret("the API key of a user");
        let wrong_key = secret("a wrong API key");
        let hot = secret("the hotkey's password");
        let cold = secret("the coldkey's password");
        let wrong_password = secret("a wrong password");
        let (user, pass, path) =
            (secret("the node's user"), secret("the node's password"), secret("the node's key"));
        let database =
            format!("postgres://ptn:{}@127.0.0.1:1/ptn", secret("the database's password"));
        let member = secret("another secret in miner_secrets.json");
        let (hotkey, coldkey) = (Key::generate(12).unwrap(), Key::generate(12).unwrap());
        secrets_of(&mut canaries, "the hotkey", &hotkey);
        secrets_of(&mut canaries, "the coldkey", &coldkey);
        let place = Place::new(home.path("wallets"), "miner", "default").unwrap();
        let password = |text: &str| Password::new(text).unwrap();
        place.save_hotkey(&hotkey, Some(&password(&hot)), Replace::WithBackup).unwrap();
        place.save_coldkey(&coldkey, Some(&password(&cold)), Replace::Never).unwrap();
        // Key files that cannot be read: cut, with secrets in them.
        let plain = Hotkey::from_seed(*hotkey.seed().unwrap()).to_keyfile_json();
        home.write_hotkey("cut", &plain[..plain.len() - 20]);
        home.write_hotkey("twisted", &plain.replace("\"ss58Address\"", "\"ss58Address\" oops"));
        home.write_hotkey("phrase", hotkey.phrase().unwrap());
        for (name, text) in [("hot", &hot), ("cold", &cold), ("wrong", &wrong_password)] {
            std::fs::write(home.path(&format!("{name}.password")), text).unwrap();
        }
        let write = |name: &str, value: Value| {
            std::fs::write(home.data().join(name), value.to_string()).unwrap();
        };
        write("miner_secrets.json", json!({"api_key": api_key, "wallet_password": member}));
        write("api_keys.json", json!({"user": {"key": other_key, "tier": 100}}));
        let owner = Hotkey::from_seed([7; 32]).hotkey().to_owned();
        let node = MockNode::builder()
            .block_time(Some(Duration::from_millis(20)))
            .neuron(8, MockNeuron::validator(v.hotkey(), &owner, v.address(), 65_535))
            .balance(coldkey.address(), Rao(10_000_000_000))
            .start()
            .await
            .unwrap();
        let authority = node.url().trim_start_matches("ws://").trim_end_matches('/').to_owned();
        let endpoint = format!("ws://{authority}/v1/{path}?key={path}");
        let refused = format!("ws://{user}:{pass}@{authority}/v1/{path}?key={path}");
        let hotkey = hotkey.address().to_owned();
        let said = Vec::new();
        Self {
            home,
            canaries,
            api_key,
            other_key,
            wrong_key,
            wrong_password,
            endpoint,
            refused,
            database,
            hotkey,
            v,
            _node: node,
            said,
        }
    }

    fn path(&self, name: &str) -> String {
        self.home.path(name).to_str().unwrap().to_owned()
    }

    fn hear(&mut self, place: &str, text: impl Into<Vec<u8>>) {
        self.said.push((place.to_owned(), text.into()));
    }

    /// Runs ptn-cli; returns its exit code.
    fn cli(&mut self, args: &[&str], env: &[(&str, &str)]) -> i32 {
        let output = std::process::Command::new(CLI)
            .args(args)
            .current_dir(self.home.path(""))
            .env("HOME", self.home.path(""))
            .env("PTN_WALLET_PATH", self.path("wallets"))
            .env("PTN_WALLET_NAME", "miner")
            .env("PTN_DATA_DIR", self.path("mining"))
            .env("PTN_SUBTENSOR_NETWORK", "local")
            .env("PTN_SUBTENSOR_CHAIN_ENDPOINT", &self.endpoint)
            .envs(env.iter().copied())
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        let code = output.status.code().unwrap_or(-1);
        let text = [output.stdout, output.stderr].concat();
        assert!(!String::from_utf8_lossy(&text).contains("panicked"), "{args:?}");
        self.hear(&format!("ptn-cli {}", args.join(" ")), text);
        code
    }

    async fn ask(
        &mut self,
        address: &str,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> (u16, Value) {
        let answer = request(address, method, path, headers, body).await;
        let text = match &answer.1 {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        self.hear(&format!("the answer to {path}"), text);
        answer
    }

    /// What the process list shows of a daemon, and whether it has children.
    fn look_at(&mut self, daemon: &Daemon, name: &str) {
        let proc = PathBuf::from(format!("/proc/{}", daemon.pid()));
        let line = std::fs::read(proc.join("cmdline")).unwrap();
        self.hear(&format!("the command line of {name}"), line);
        for task in std::fs::read_dir(proc.join("task")).unwrap() {
            let children = std::fs::read_to_string(task.unwrap().path().join("children"));
            // A thread may just have ended.
            assert_eq!(children.unwrap_or_default(), "", "{name} has children");
        }
    }

    /// Everything that was found, anywhere.
    fn found(&self) -> Vec<String> {
        let mut found = self.canaries.find_in_files(&self.home.path(""), &KEY_FILES);
        for (place, text) in &self.said {
            found.extend(
                self.canaries.find(text).into_iter().map(|what| format!("{place}: {what}")),
            );
        }
        found
    }

    async fn server(&mut self) -> (Daemon, String) {
        // Nobody delivers: who waits for the network's answer is told so soon.
        let flags = ["--logging.trace", "--server.submit-deadline", "500ms"];
        let mut server = self.home.server(SERVER, &flags);
        let address = server.up().await["address"].as_str().unwrap().to_owned();
        self.look_at(&server, "ptn-server");
        (server, address)
    }

    /// Ends a daemon; its log is kept and returned.
    async fn end(&mut self, daemon: Daemon, name: &str) -> String {
        daemon.signal("-TERM");
        let (status, log) = daemon.end().await;
        assert!(status.success() && !log.contains("panicked"), "{log}");
        self.hear(&format!("the log of {name}"), log.clone());
        log
    }
}

fn order(uuid: &str, more: &Value) -> String {
    let mut order =
        json!({"trade_pair": "BTCUSDC", "order_type": "LONG", "leverage": 0.1, "order_uuid": uuid});
    for (key, value) in more.as_object().unwrap() {
        order[key] = value.clone();
    }
    order.to_string()
}

async fn requests(w: &mut World, address: &str) {
    let (key, other, wrong) = (w.api_key.clone(), w.other_key.clone(), w.wrong_key.clone());
    let json = ("content-type", "application/json");
    let path = "/api/receive-signal";
    let ok = order("in-body", &json!({"api_key": key}));
    assert_eq!(w.ask(address, Method::POST, path, &[json], &ok).await.0, 200);
    let bearer = format!("Bearer {other}");
    let head = [json, ("authorization", bearer.as_str())];
    assert_eq!(
        w.ask(address, Method::POST, path, &head, &order("in-head", &json!({}))).await.0,
        200
    );
    // Keys in every wrong place and shape.
    for (headers, body) in [
        (vec![json], order("w", &json!({"api_key": wrong}))),
        (vec![json], order("w", &json!({"api_key": [wrong, key]}))),
        (vec![json, ("authorization", wrong.as_str())], order("w", &json!({}))),
        (vec![json, ("authorization", key.as_str())], order("w", &json!({"api_key": wrong}))),
        (vec![json], format!(r#"{{"api_key": "{key}", "trade_pair": oops}}"#)),
        (vec![json], format!(r#"{{"api_key": "{key}" "trade_pair""#)),
        (vec![json], format!("api_key={key}")),
        (vec![json], order("w", &json!({"api_key": key, "order_type": "{{strategy}}"}))),
        (vec![json], order("w", &json!({"api_key": key, "trade_pair": "NOPE"}))),
        (vec![json], order("in-body", &json!({"api_key": key, "leverage": 0.2}))),
        (vec![("content-type", "application/xml")], format!("<key>{key}</key>")),
        (vec![json, ("idempotency-key", key.as_str())], format!("[\"{key}\"]")),
    ] {
        let (status, answer) = w.ask(address, Method::POST, path, &headers, &body).await;
        // A right key in either place lets it in.
        assert!(status < 500, "{status} {answer} to {body}");
    }
    let auth = ("authorization", key.as_str());
    for path in [
        "/api/signals",
        "/api/signals/in-body",
        "/api/signals/in-body/receipt",
        "/api/order-status/in-body",
        "/api/health",
        "/livez",
        "/readyz",
        "/metrics",
        "/openapi.json",
        "/docs",
    ] {
        assert_eq!(w.ask(address, Method::GET, path, &[auth], "").await.0, 200, "{path}");
    }
    for path in
        ["/api/check-order", "/api/prices", "/api/signals/in-body/retry", "/api/signals/w/cancel"]
    {
        let body = order("w", &json!({"api_key": wrong}));
        let status = w.ask(address, Method::POST, path, &[json, auth], &body).await.0;
        assert!(status < 500, "{status} for {path}");
    }
    events(w, address).await;
    let secret_path = format!("/api/signals/{key}");
    w.ask(address, Method::GET, &format!("/api/signals?api_key={wrong}"), &[auth], "").await;
    // A caller's own words may come back to it, and must not be logged or stored.
    request(address, Method::GET, &secret_path, &[("authorization", wrong.as_str())], "").await;
}

/// What the live events tell of a signal that comes while somebody listens.
async fn events(w: &mut World, address: &str) {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let key = w.api_key.clone();
    let head =
        format!("GET /api/events HTTP/1.1\r\nHost: {address}\r\nAuthorization: {key}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut told = Vec::new();
    let mut hear = async |wanted: &str| {
        while !String::from_utf8_lossy(&told).contains(wanted) {
            let read = tokio::time::timeout(Duration::from_secs(30), stream.read_buf(&mut told));
            assert!(read.await.unwrap().unwrap() > 0, "the events ended before {wanted}");
        }
    };
    hear("text/event-stream").await;
    let body = order("live", &json!({"api_key": key}));
    let json = [("content-type", "application/json")];
    assert_eq!(w.ask(address, Method::POST, "/api/receive-signal", &json, &body).await.0, 200);
    hear("live").await;
    w.hear("the live events", told);
}

/// The whole run.
async fn everything(w: &mut World) {
    let (server, address) = w.server().await;
    requests(w, &address).await;
    let key = w.api_key.clone();
    w.cli(
        &["send", "BTCUSDC", "LONG", "0.1x", "--url", &format!("http://{address}")],
        &[("PTN_API_KEY", &key)],
    );
    let wrong = w.wrong_key.clone();
    w.cli(
        &["send", "BTCUSDC", "LONG", "0.1x", "--url", &format!("http://{address}"), "--json"],
        &[("PTN_API_KEY", &wrong)],
    );
    let log = w.end(server, "ptn-server").await;
    assert!(log.contains("request refused"), "it logs everything:\n{log}");

    let refused = w.refused.clone();
    let flag = "--subtensor.chain_endpoint";
    for args in
        [&["config", "show"][..], &["doctor"], &["wallet", "balance"], &["doctor", "--json"]]
    {
        w.cli(&[args, &[flag, refused.as_str()]].concat(), &[]);
        w.cli(args, &[("PTN_SUBTENSOR_CHAIN_ENDPOINT", refused.as_str())]);
    }

    let database = w.database.clone();
    for args in
        [&["config", "show"][..], &["config", "show", "--json"], &["doctor"], &["signals", "list"]]
    {
        w.cli(&[args, &["--store", database.as_str()]].concat(), &[]);
        w.cli(args, &[("PTN_STORE", database.as_str())]);
    }
    w.cli(&["signals", "list"], &[("PTN_STORE", "postgres"), ("DATABASE_URL", &database)]);
    let broken = database.replace(":1/", ":port/");
    w.cli(&["signals", "list", "--store", &broken], &[]);
    let flags = ["--store", database.as_str(), "--logging.trace"];
    let (status, log) = w.home.server(SERVER, &flags).end().await;
    assert!(!status.success(), "{log}");
    w.hear("ptn-server without its database", log);

    // Passwords: from files and variables, right and wrong.
    let (hot, cold, bad) =
        (w.path("hot.password"), w.path("cold.password"), w.path("wrong.password"));
    let wrong = w.wrong_password.clone();
    for json in [&[][..], &["--json"]] {
        for (args, env, wanted) in [
            (&["config", "show"][..], &[][..], Some(0)),
            (&["doctor"], &[], None),
            (&["doctor"], &[("PTN_WALLET_PASSWORD", wrong.as_str())], None),
            (&["wallet", "list"], &[], Some(0)),
            (&["wallet", "balance"], &[], Some(0)),
            (&["wallet", "overview"], &[], Some(0)),
            (&["subnet", "metagraph"], &[], Some(0)),
            (&["subnet", "register", "--yes"], &[], None),
            (&["subnet", "register", "--yes", "--password-file", &bad], &[], None),
            (&["subnet", "register", "--yes"], &[("PTN_WALLET_PASSWORD", wrong.as_str())], None),
            (&["wallet", "export", "--key", "hotkey", "--password-file", &bad], &[], None),
            (&["wallet", "export", "--key", "hotkey", "--wallet.hotkey", "cut"], &[], None),
            (&["wallet", "export", "--key", "hotkey", "--wallet.hotkey", "twisted"], &[], None),
            (&["wallet", "export", "--key", "hotkey", "--wallet.hotkey", "phrase"], &[], None),
            (&["doctor", "--wallet.hotkey", "twisted"], &[], None),
            (&["signals", "list"], &[], Some(0)),
            (&["signals", "show", "in-body"], &[], Some(0)),
            (&["signals", "receipt", "in-body"], &[], Some(0)),
            (&["signals", "verify"], &[], Some(0)),
            (&["signals", "cancel", "in-head"], &[], Some(0)),
            (&["signals", "retry", "in-body"], &[], None),
        ] {
            // Opening an encrypted file takes seconds; the error is the same object in JSON.
            let opens = args.contains(&bad.as_str()) || args[0] == "subnet" && !env.is_empty();
            if opens && !json.is_empty() {
                continue;
            }
            let code = w.cli(&[args, json].concat(), env);
            assert!(wanted.is_none_or(|wanted| wanted == code), "{args:?} ended with {code}");
        }
    }
    let code = w.cli(&["subnet", "register", "--yes", "--password-file", &cold], &[]);
    assert_eq!(code, 0, "{}", String::from_utf8_lossy(&w.said.last().unwrap().1));

    // The miner: starts that fail, then the one that delivers.
    for more in [
        &["--password-file", bad.as_str()][..],
        &["--wallet.hotkey", "cut"],
        &["--wallet.hotkey", "twisted"],
        &["--wallet.hotkey", "phrase"],
    ] {
        let list = w.path("validators.toml");
        let flags = [&["--validators", list.as_str()][..], more, &["--logging.trace"]].concat();
        w.home.set_validators(&[w.v.entry(ptn_core::directory::Wire::Btauth)]);
        let (status, log) = w.home.miner(MINER, &flags).end().await;
        assert_eq!(status.code(), Some(2), "{log}");
        w.hear(&format!("ptn-miner {}", more.join(" ")), log);
    }
    let (status, log) = w.home.chain_miner(MINER, &refused, &["--logging.trace"]).end().await;
    assert_eq!(status.code(), Some(2), "{log}");
    w.hear("ptn-miner with a password in its node's address", log);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    // The node's address in a file: a command line is everybody's.
    let config = w.path("ptn.toml");
    let text = format!("[subtensor]\nchain_endpoint = \"{}\"\n", w.endpoint);
    std::fs::write(&config, text).unwrap();
    let data = w.path("mining");
    let wallets = w.path("wallets");
    let port_text = port.to_string();
    let flags = [
        "--config",
        &config,
        "--data-dir",
        &data,
        "--wallet.path",
        &wallets,
        "--wallet.name",
        "miner",
        "--password-file",
        &hot,
        "--subtensor.network",
        "local",
        "--delivery.policy",
        "all",
        "--axon.port",
        &port_text,
        "--server.listen",
        "127.0.0.1:0",
        "--logging.trace",
    ];
    let mut miner = Daemon::start(MINER, &flags);
    let up = miner.up().await;
    miner.line(|line| line["message"] == "delivering").await;
    assert!(up.to_string().contains(&w.hotkey), "{up}");
    w.look_at(&miner, "ptn-miner");
    let address = up["server"].as_str().unwrap().to_owned();
    let auth = format!("Bearer {}", w.api_key);
    let headers = [("content-type", "application/json"), ("authorization", auth.as_str())];
    let sent = order("delivered", &json!({}));
    let (status, answer) =
        w.ask(&address, Method::POST, "/api/submit-order", &headers, &sent).await;
    assert_eq!((status, &answer["success"]), (200, &json!(true)), "{answer}");
    let monitor = format!("127.0.0.1:{port}");
    for path in ["/health", "/metrics", "/livez", "/readyz"] {
        assert_eq!(w.ask(&monitor, Method::GET, path, &[], "").await.0, 200, "{path}");
    }
    assert!(w.v.received().iter().any(|r| r.sender == w.hotkey), "it was signed with the hotkey");
    w.cli(&["doctor", "--json", "--axon.port", &port_text], &[]);
    let log = w.end(miner, "ptn-miner").await;
    let levels = ["DEBUG", "TRACE"];
    assert!(levels.iter().any(|level| log.contains(level)), "it logs everything:\n{log}");
    std::fs::remove_file(&config).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_said_logged_answered_or_written() {
    let mut w = World::new().await;
    everything(&mut w).await;
    let said: usize = w.said.iter().map(|(_, text)| text.len()).sum();
    assert!(w.said.len() > 55 && said > 50_000, "{} texts, {said} bytes", w.said.len());
    let found = w.found();
    assert!(found.is_empty(), "{} finds:\n{}", found.len(), found.join("\n"));
    // The search sees what it should: each place, with one secret put into it.
    let planted = plant(&mut w).await;
    let found = w.found();
    for place in planted {
        assert!(found.iter().any(|what| what.contains(place)), "{place}: not noticed");
    }
    assert!(Path::new(&w.path("wallets/miner/coldkey")).exists());
}

/// Puts secrets where they are seen, by the programs themselves; returns where.
async fn plant(w: &mut World) -> Vec<&'static str> {
    let key = w.api_key.clone();
    // In a field of a signal that nobody asked for: stored, and shown.
    let (server, address) = w.server().await;
    let headers = [("content-type", "application/json"), ("authorization", key.as_str())];
    let path = "/api/receive-signal";
    let body = order("planted", &json!({"comment": key}));
    request(&address, Method::POST, path, &headers, &body).await;
    w.ask(&address, Method::GET, "/api/signals/planted", &headers, "").await;
    w.end(server, "ptn-server, planted").await;
    // In a setting that is no secret: shown.
    w.cli(&["config", "show", "--delivery.repo-version", &key], &[]);
    vec!["the answer to /api/signals/planted", "journal", "ptn-cli config show --delivery"]
}
