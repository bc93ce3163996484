//! The Rust side against the real Python peers: opt-in, by `tests/interop/run.sh`.
//!
//! Without `PTN_INTEROP=1` every test says so and returns; with it, missing Python environments
//! are a failure. The peers read throwaway key files that we write.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a failed expectation is how a test fails"
)]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use ptn_core::directory::{Validator, Wire};
use ptn_core::json::Json;
use ptn_core::rules::{Era, Rules};
use ptn_core::sign::{Hotkey, SignError, Signer};
use ptn_core::signal::Signal;
use ptn_core::transport::address::AddressPolicy;
use ptn_core::transport::http::HttpOptions;
use ptn_core::transport::{
    Certainty, HttpTransport, OutboundOrder, ValidatorReply, ValidatorTransport,
};
use ptn_core::validator::{LoopbackValidator, ValidatorOptions, Verdict};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, timeout};

/// Starting Python with its SDK takes a while on a busy machine.
const PATIENT: Duration = Duration::from_secs(120);

/// A signal that any mistake in Python's text of it would show.
const SIGNAL: &str = r#"{"trade_pair":{"trade_pair_id":"BTCUSD"},"order_type":"LONG","leverage":0.10,"tiny":1e-7,"big":1e16,"int":-3,"none":null,"list":[true,1.0],"note":"it's \"both\" é 日本 🚀\n"}"#;

fn wanted(test: &str) -> bool {
    let wanted = std::env::var_os("PTN_INTEROP").is_some_and(|v| v == "1");
    if !wanted {
        eprintln!("{test} is opt-in: run tests/interop/run.sh");
    }
    wanted
}

/// A Python peer and the keys of both sides.
struct Setup {
    script: &'static str,
    wallets: tempfile::TempDir,
    miner: Hotkey,
    validator: String,
}

impl Setup {
    fn new(script: &'static str) -> Self {
        let wallets = tempfile::tempdir().unwrap();
        let (miner, validator) = (Hotkey::generate(), Hotkey::generate());
        for (name, key) in [("miner", &miner), ("validator", &validator)] {
            let folder = wallets.path().join(name).join("hotkeys");
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("default"), key.to_keyfile_json()).unwrap();
        }
        let validator = validator.address().to_owned();
        Self { script, wallets, miner, validator }
    }

    fn python(&self, role: &str, name: &str) -> Command {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop");
        let python: PathBuf = folder.join(format!(".venv-{}", self.script)).join("bin/python");
        assert!(python.exists(), "{} is missing: run tests/interop/run.sh", python.display());
        let mut command = Command::new(python);
        command
            .arg(folder.join(format!("{}.py", self.script)))
            .args([role, "--name", name, "--wallets"])
            .arg(self.wallets.path())
            // The SDK looks for its settings there.
            .env("HOME", self.wallets.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    async fn serve(&self, fail_first: u32) -> Server {
        let mut command = self.python("serve", "validator");
        let mut child = command.arg(format!("--fail-first={fail_first}")).spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = loop {
            let line = next(&mut lines).await;
            if let Some(port) = line["ready"].as_u64() {
                break u16::try_from(port).unwrap();
            }
        };
        Server { _child: child, _stdin: stdin, lines, port }
    }

    /// A peer of the given folder; it fails the first signal in this mode.
    async fn given(&self, peers: &Path, mode: &str) -> Server {
        // Free now; whoever takes it in the meantime fails the test, not the order.
        let port =
            std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop");
        let mut command =
            Command::new(folder.join(format!(".venv-{}", self.script)).join("bin/python"));
        let mut child = command
            .arg(peers.join(format!("{}_axon.py", self.script)))
            .arg(format!("--port={port}"))
            .arg("--wallet-path")
            .arg(self.wallets.path())
            .args(["--fail-first=1", "--lifetime-s=300", &format!("--fail-mode={mode}")])
            .env("HOME", self.wallets.path())
            .env("BT_NO_PARSE_CLI_ARGS", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        while next(&mut lines).await["event"] != "ready" {}
        Server { _child: child, _stdin: stdin, lines, port }
    }

    /// What the SDK's client was answered, one value per request.
    async fn send(&self, to: &LoopbackValidator, case: &str, uuid: &str) -> Vec<Value> {
        let port = to.address().port();
        let mut command = self.python("send", "miner");
        command.arg(format!("--port={port}")).args(["--to", to.hotkey()]);
        command.args(["--case", case, "--uuid", uuid]).stdin(Stdio::null());
        let output = timeout(PATIENT, command.output()).await.expect("it ends").unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{case}: {text}");
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn transport(&self) -> HttpTransport {
        let mut options = HttpOptions::default();
        options.policy = AddressPolicy::AllowPrivate;
        let key = self.wallets.path().join("miner/hotkeys/default");
        HttpTransport::new(Arc::new(Hotkey::from_keyfile(key).unwrap()), options)
    }

    fn entry(&self, port: u16, wire: Wire) -> Validator {
        Validator {
            hotkey: self.validator.clone(),
            ip: [127, 0, 0, 1].into(),
            port,
            v_trust: 1.0,
            stake: 1.0,
            permit: true,
            wire,
        }
    }
}

struct Server {
    _child: Child,
    /// The peer ends when this is closed.
    _stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    port: u16,
}

/// The next line that is JSON; the SDKs print other things too.
async fn next(lines: &mut Lines<BufReader<ChildStdout>>) -> Value {
    loop {
        let line = timeout(PATIENT, lines.next_line()).await.expect("in time").unwrap();
        if let Ok(value) = serde_json::from_str(&line.expect("the peer ended")) {
            return value;
        }
    }
}

fn order() -> OutboundOrder {
    let rules = Rules::load(Era::Y2024).unwrap();
    let any = Signal::flat("BTCUSD").build(&rules).unwrap();
    let mut order = OutboundOrder::new(&any, "8.8.9");
    order.signal = Json::parse(SIGNAL.as_bytes()).unwrap();
    order
}

async fn deliver(t: &HttpTransport, to: &Validator, order: &OutboundOrder) -> ValidatorReply {
    t.deliver(to, order, Instant::now() + PATIENT).await.unwrap()
}

/// Signs something else than it is asked to.
struct Forger(Hotkey);

impl Signer for Forger {
    fn hotkey(&self) -> &str {
        self.0.address()
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignError> {
        self.0.sign(&[message, b" "].concat())
    }
}

async fn our_transport_meets(script: &'static str, wire: Wire, forged: u16, misled: u16) {
    let setup = Setup::new(script);
    let mut server = setup.serve(1).await;
    let to = setup.entry(server.port, wire);
    let t = setup.transport();

    // Fails once as it was told to, then takes the same order.
    let order = order();
    let reply = deliver(&t, &to, &order).await;
    assert_eq!((reply.status, reply.successfully_processed), (200, false), "{reply:?}");
    assert_eq!((reply.error_message.as_str(), reply.should_retry), ("injected 1", Some(true)));
    let reply = deliver(&t, &to, &order).await;
    assert_eq!((reply.status, reply.successfully_processed), (200, true), "{reply:?}");
    assert_eq!(reply.validator_hotkey, setup.validator);
    assert_eq!(reply.order_json, r#"{"n": 2}"#);
    for _ in 0..2 {
        let seen = next(&mut server.lines).await;
        assert_eq!(seen["signal"], serde_json::from_str::<Value>(SIGNAL).unwrap());
        assert_eq!(seen["uuid"], json!(order.order_uuid));
        assert_eq!(seen["version"], json!("8.8.9"));
        assert_eq!(seen["sender"], json!(setup.miner.address()));
    }

    // Many orders over kept connections.
    for _ in 0..20 {
        assert!(deliver(&t, &to, &order).await.successfully_processed);
    }

    let mut options = HttpOptions::default();
    options.policy = AddressPolicy::AllowPrivate;
    let forger = HttpTransport::new(Arc::new(Forger(Hotkey::generate())), options);
    let reply = deliver(&forger, &to, &order).await;
    assert_eq!(reply.status, forged, "{reply:?}");

    let mut other = to.clone();
    other.hotkey = Hotkey::generate().address().to_owned();
    let reply = deliver(&t, &other, &order).await;
    assert_eq!(reply.status, misled, "{reply:?}");

    // The other wire is recognised by its answer.
    let mut wrong = to.clone();
    wrong.wire = if wire == Wire::Btauth { Wire::Dendrite } else { Wire::Btauth };
    let reply = deliver(&t, &wrong, &order).await;
    match wire {
        Wire::Dendrite => assert!(reply.other_wire && reply.status == 404, "{reply:?}"),
        // Our small peer answers every path.
        Wire::Btauth => assert_eq!(reply.status, 401, "{reply:?}"),
    }
}

#[tokio::test]
async fn our_transport_meets_a_real_axon() {
    if wanted("our_transport_meets_a_real_axon") {
        our_transport_meets("legacy", Wire::Dendrite, 401, 401).await;
    }
}

#[tokio::test]
async fn our_transport_meets_the_real_verification_of_bittensor_11() {
    if wanted("our_transport_meets_the_real_verification_of_bittensor_11") {
        our_transport_meets("btauth", Wire::Btauth, 401, 403).await;
    }
}

/// Orders for the network's own conformance peers, which stand outside of this project: in the
/// folder that `PTN_PEERS` names, if it names one.
#[tokio::test]
async fn our_transport_meets_the_given_peers() {
    let test = "our_transport_meets_the_given_peers";
    let Some(peers) = std::env::var_os("PTN_PEERS").map(PathBuf::from) else {
        eprintln!("{test} is opt-in: it needs PTN_PEERS");
        return;
    };
    if !wanted(test) {
        return;
    }
    let btauth: (_, _, &[(&str, &str)]) = (
        "btauth",
        Wire::Btauth,
        &[("app", "injected failure 1"), ("http503", "http"), ("drop", "lost")],
    );
    let legacy: (_, _, &[(&str, &str)]) =
        ("legacy", Wire::Dendrite, &[("app", "injected failure 1"), ("raise", "http")]);
    for (script, wire, modes) in [btauth, legacy] {
        for (mode, expected) in modes {
            let setup = Setup::new(script);
            let mut server = setup.given(&peers, mode).await;
            let (to, t, order) = (setup.entry(server.port, wire), setup.transport(), order());
            let first = t.deliver(&to, &order, Instant::now() + PATIENT).await;
            match (*expected, first) {
                ("lost", Err(error)) => {
                    assert_eq!(error.certainty, Certainty::MaybeSent, "{error}")
                }
                ("http" | "lost", Ok(reply)) => assert!(reply.status >= 500, "{mode}: {reply:?}"),
                (words, Ok(reply)) => assert_eq!(
                    (reply.status, reply.successfully_processed, reply.error_message.as_str()),
                    (200, false, words)
                ),
                (_, Err(error)) => panic!("{script} {mode}: {error}"),
            }
            let reply = deliver(&t, &to, &order).await;
            assert!(reply.status == 200 && reply.successfully_processed, "{mode}: {reply:?}");
            assert_eq!(reply.validator_hotkey, setup.validator);
            for n in 1..=2 {
                let seen = next(&mut server.lines).await;
                assert_eq!((&seen["event"], &seen["n"]), (&json!("signal"), &json!(n)), "{seen}");
                assert_eq!(seen["signal"], serde_json::from_str::<Value>(SIGNAL).unwrap());
                assert_eq!(seen["miner_order_uuid"], json!(order.order_uuid));
                let sender = if wire == Wire::Btauth { "sender" } else { "body_dendrite_hotkey" };
                assert_eq!(seen[sender], json!(setup.miner.address()));
                assert!(wire == Wire::Dendrite || seen["auth"] == "ok", "{seen}");
            }
        }
    }
}

#[tokio::test]
async fn a_real_dendrite_meets_our_validator() {
    if !wanted("a_real_dendrite_meets_our_validator") {
        return;
    }
    let setup = Setup::new("legacy");
    let v = LoopbackValidator::start(ValidatorOptions::default()).await.unwrap();
    for (case, status, processed) in [
        ("ok", 200, true),
        ("future", 200, true),
        ("stale", 401, false),
        ("wrong-receiver", 401, false),
        ("tampered-signature", 401, false),
        ("tampered-body", 500, false),
        ("unsigned", 401, false),
    ] {
        let answers = setup.send(&v, case, &format!("uuid-{case}")).await;
        assert_eq!(answers.len(), 1, "{case}");
        let answer = &answers[0];
        assert_eq!(answer["status"], json!(status), "{case}: {answer}");
        assert_eq!(answer["processed"], json!(processed), "{case}: {answer}");
        if processed {
            assert_eq!(answer["validator"], json!(v.hotkey()), "{case}");
            let seen = v.received().pop().unwrap();
            assert_eq!(seen.sender, setup.miner.address(), "{case}");
            assert_eq!(seen.verdict, Verdict::Accepted, "{case}");
        }
    }
    let answers = setup.send(&v, "repeat", "uuid-repeat").await;
    assert_eq!(answers[0]["processed"], json!(true), "{answers:?}");
    assert_eq!(answers[1]["processed"], json!(false), "{answers:?}");
    let words = answers[1]["error"].as_str().unwrap();
    assert!(
        words.starts_with("Order with uuid [uuid-repeat] has already been processed"),
        "{words}"
    );
}

#[tokio::test]
async fn the_real_signing_of_bittensor_11_meets_our_validator() {
    if !wanted("the_real_signing_of_bittensor_11_meets_our_validator") {
        return;
    }
    let setup = Setup::new("btauth");
    let v = LoopbackValidator::start(ValidatorOptions::default()).await.unwrap();
    for (case, status, error) in [
        ("ok", 200, ""),
        ("ed25519", 200, ""),
        ("stale", 401, "StaleRequest"),
        ("future", 401, "StaleRequest"),
        ("wrong-receiver", 403, "WrongReceiver"),
        ("unbound", 403, "WrongReceiver"),
        ("tampered-body", 401, "BadSignature"),
        ("wrong-path", 401, "BadSignature"),
        ("no-version", 401, "MalformedAuth"),
    ] {
        let answers = setup.send(&v, case, &format!("uuid-{case}")).await;
        assert_eq!(answers.len(), 1, "{case}");
        let answer = &answers[0];
        assert_eq!(answer["status"], json!(status), "{case}: {answer}");
        assert_eq!(answer["error"], json!(error), "{case}: {answer}");
        if status == 200 {
            assert_eq!(answer["validator"], json!(v.hotkey()), "{case}");
            assert_eq!(answer["processed"], json!(true), "{case}");
        }
    }
    let answers = setup.send(&v, "replay", "uuid-replay").await;
    assert_eq!(answers[0]["status"], json!(200), "{answers:?}");
    assert_eq!(answers[1]["error"], json!("ReplayedRequest"), "{answers:?}");
}
