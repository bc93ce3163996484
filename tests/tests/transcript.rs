//! From an empty home to a delivered order, by the real programs only: keys, balance, registration,
//! overview, miner, signal. The chain is a node double in a process of its own, the validator
//! listens on loopback.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is how a test fails"
)]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use ptn_core::directory::Wire;
use ptn_core::sign::{Hotkey, Signer as _};
use ptn_core::validator::{LoopbackValidator, ValidatorOptions, Verdict};
use ptn_tests::process::Daemon;
use serde_json::Value;

const CLI: &str = env!("CARGO_BIN_EXE_ptn-cli-under-test");
const MINER: &str = env!("CARGO_BIN_EXE_ptn-miner-under-test");
const NODE: &str = env!("CARGO_BIN_EXE_mock_node");

/// A person with an empty home.
struct User {
    home: tempfile::TempDir,
}

impl User {
    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.home.path()).env_clear().env("HOME", self.home.path());
        command.args(args).stdin(Stdio::null());
        command
    }

    /// Exit code, stdout and stderr of a program that ends by itself.
    fn run(&self, program: &str, args: &[&str]) -> (i32, String, String) {
        let output = self.command(program, args).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }

    /// The JSON document of a command that succeeds.
    fn cli(&self, args: &[&str]) -> Value {
        let (code, out, err) = self.run(CLI, &[args, &["--json"]].concat());
        assert_eq!(code, 0, "{args:?}: {out}{err}");
        serde_json::from_str(&out).unwrap()
    }
}

/// The node's process; ends with the test.
struct Node {
    child: Child,
    url: String,
}

impl Node {
    fn start(args: &[&str]) -> Self {
        let mut command = Command::new(NODE);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let started: Value = serde_json::from_str(&line).unwrap();
        Self { child, url: started["url"].as_str().unwrap().to_owned() }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().next().is_none()
}

#[tokio::test(flavor = "multi_thread")]
async fn from_an_empty_home_to_a_delivered_order() {
    let user = User { home: tempfile::tempdir().unwrap() };
    assert!(is_empty(user.home.path()));
    let password = user.home.path().join("password");
    std::fs::write(&password, "correct horse\n").unwrap();
    let password = password.to_str().unwrap();

    // Keys.
    let args = ["wallet", "new-coldkey", "miner", "--yes", "--password-file", password];
    let coldkey = user.cli(&args);
    assert_eq!(coldkey["encrypted"], true, "{coldkey}");
    let coldkey = coldkey["ss58_address"].as_str().unwrap().to_owned();
    let hotkey = user.cli(&["wallet", "new-hotkey", "miner/default", "--yes"]);
    let hotkey = hotkey["ss58_address"].as_str().unwrap().to_owned();

    // A network on which that coldkey has money, with one validator.
    let validator = LoopbackValidator::start(ValidatorOptions::default()).await.unwrap();
    let entry = validator.entry(Wire::Btauth);
    let owner = Hotkey::generate();
    let neuron = format!("8,{},{},{},65535", entry.hotkey, owner.hotkey(), validator.address());
    let balance = format!("{coldkey}=2.5");
    let node = Node::start(&["--balance", &balance, "--burn", "8=0.75", "--neuron", &neuron]);
    let chain = [
        "--subtensor.network",
        "local",
        "--subtensor.chain_endpoint",
        &node.url,
        "--wallet.name",
        "miner",
    ];
    let with = |args: &[&'static str]| [args, &chain[..]].concat();

    // Looking needs no password.
    let balance = user.cli(&with(&["wallet", "balance"]));
    assert_eq!(balance["accounts"][0]["free_tao"], "2.500000000", "{balance}");
    let overview = user.cli(&with(&["wallet", "overview"]));
    assert_eq!(overview["wallets"][0]["neurons"], serde_json::json!([]), "{overview}");
    let plan = user.cli(&with(&["subnet", "register", "--dry-run"]));
    assert_eq!((&plan["price_tao"], &plan["refusal"]), (&"0.750000000".into(), &Value::Null));

    // Too early: the miner says what to do, and ends.
    let miner =
        with(&["--data-dir", "mining", "--axon.port", "0", "--server.listen", "127.0.0.1:0"]);
    std::fs::create_dir(user.home.path().join("mining")).unwrap();
    std::fs::write(user.home.path().join("mining/miner_secrets.json"), r#"{"api_key":"k-1"}"#)
        .unwrap();
    let (code, _, said) = user.run(MINER, &miner);
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("is not registered on subnet 8"), "{said}");
    assert!(said.contains("ptn-cli subnet register --netuid 8"), "{said}");

    // Registration.
    let mut args = with(&["subnet", "register", "--yes", "--max-cost", "0.75"]);
    args.extend(["--password-file", password]);
    let done = user.cli(&args);
    assert_eq!((&done["uid"], &done["final"]), (&1.into(), &true.into()), "{done}");
    assert_eq!(done["balance_tao"], "1.749876000", "{done}");
    let overview = user.cli(&with(&["wallet", "overview"]));
    let own = &overview["wallets"][0]["neurons"][0];
    assert_eq!((&own["uid"], &own["netuid"]), (&1.into(), &8.into()), "{overview}");
    assert_eq!(
        (&own["hotkey"], &own["coldkey"]),
        (&hotkey.as_str().into(), &coldkey.as_str().into())
    );
    let validators = user.cli(&[&["subnet", "validators"], &chain[..4]].concat());
    assert_eq!(validators["validators"][0]["role"], "required", "{validators}");
    assert_eq!(validators["validators"][0]["hotkey"], entry.hotkey);

    // The miner finds the validator on the chain and delivers.
    let text = |name: &str| user.home.path().join(name).to_str().unwrap().to_owned();
    let (data, wallets) = (text("mining"), text(".bittensor/wallets"));
    let mut args = vec!["--data-dir", &data, "--wallet.path", &wallets, "--axon.port", "0"];
    args.extend(chain);
    let mut miner = Daemon::start(MINER, &args);
    miner.line(|line| line["message"] == "delivering").await;
    let order = ["send", "BTCUSDC", "long", "0.1x", "--wait", "--data-dir", "mining"];
    let sent = user.cli(&order);
    assert_eq!(sent["state"], "processed", "{sent}");
    let received = validator.received();
    assert_eq!((received.len(), &received[0].verdict), (1, &Verdict::Accepted));
    assert_eq!(sent["order_uuid"], received[0].order_uuid.as_str());
    miner.signal("-TERM");
    assert!(miner.end().await.0.success());
    validator.shutdown().await;
}
