//! The commands about the chain through the real binary, against a node double on loopback: the
//! same code that talks to a real node.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a failed expectation is how a test fails"
)]

#[path = "../common/mod.rs"]
mod common;
mod registering;
mod weights;

use std::path::Path;
use std::time::Duration;

use common::terminal::OnTerminal;
use common::{Said, command};
use ptn_core::chain::mock::{Fault, FaultRule, MockBuilder, MockNeuron, MockNode, MockRuntime};
use ptn_core::chain::{Alpha, Rao};
use ptn_core::sign::{Hotkey, Signer as _};
use ptn_core::wallet::{Key, Password, Place, Replace};
use serde_json::Value;

const TAO: u64 = 1_000_000_000;
const FINNEY: &str = "0x2f0555cc76fc2840a25a6ea3b9637146806f1f44b090c175ffde2a7e5ab36c03";

fn key(seed: u8) -> Key {
    Key::from_seed([seed; 32])
}

fn address(seed: u8) -> String {
    Hotkey::from_seed([seed; 32]).hotkey().to_owned()
}

/// A node with subnet 8 (two validators, one miner), and a home with wallet `default`, whose coldkey
/// has ten TAO and whose hotkey is not registered.
struct World {
    node: MockNode,
    dir: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        Self::with(|builder| builder).await
    }

    async fn with(change: impl FnOnce(MockBuilder) -> MockBuilder) -> Self {
        let axon = |port: u16| ([127, 0, 0, 1], port).into();
        let mut second = MockNeuron::validator(&address(2), &address(102), axon(8092), 32_768);
        second.stake = Alpha(1_234_567_890_123);
        let builder = MockNode::builder()
            .block_time(Some(Duration::from_millis(20)))
            .neuron(8, MockNeuron::validator(&address(1), &address(101), axon(8091), 65_535))
            .neuron(8, second)
            .neuron(8, MockNeuron::new(&address(3), &address(103)))
            .balance(&address(200), Rao(10 * TAO));
        let node = change(builder).start().await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path(), "default");
        place.save_coldkey(&key(200), None, Replace::Never).unwrap();
        place.save_hotkey(&key(201), None, Replace::Never).unwrap();
        Self { node, dir }
    }

    fn args<'a>(&self, args: &[&'a str], url: &'a str) -> Vec<&'a str> {
        let mut all = args.to_vec();
        if !args.iter().any(|arg| ["--network", "--subtensor.network"].contains(arg)) {
            all.extend(["--subtensor.network", "local"]);
        }
        if !args.iter().any(|arg| arg.contains("chain")) {
            all.extend(["--subtensor.chain_endpoint", url]);
        }
        all
    }

    fn run(&self, args: &[&str]) -> Said {
        let url = self.node.url();
        common::run(self.dir.path(), &self.args(args, &url))
    }

    /// With JSON: the exit code and the document.
    fn json(&self, args: &[&str]) -> (i32, Value) {
        let said = self.run(&[args, &["--json"]].concat());
        (said.code, said.json())
    }

    fn terminal(&self, args: &[&str]) -> OnTerminal {
        let url = self.node.url();
        OnTerminal::start(self.dir.path(), &self.args(args, &url))
    }

    fn uid(&self) -> Option<u16> {
        self.node.subnet(8).unwrap().uid(&address(201))
    }

    fn sent(&self) -> u64 {
        self.node.requests("author_submitAndWatchExtrinsic")
    }
}

fn place(home: &Path, wallet: &str) -> Place {
    Place::new(home.join(".bittensor/wallets"), wallet, "default").unwrap()
}

const REGISTER: &[&str] = &["subnet", "register"];
const REGISTER_YES: &[&str] = &["subnet", "register", "--yes"];

#[tokio::test(flavor = "multi_thread")]
async fn balances_are_exact_and_need_no_password() {
    let world = World::new().await;
    // An encrypted coldkey whose password nobody knows here.
    let other = place(world.dir.path(), "other");
    other.save_coldkeypub(&key(210).public_key(), Replace::Never).unwrap();
    std::fs::write(other.coldkey(), b"$NACL rubbish").unwrap();
    world.node.set_balance(&address(210), Rao(1));

    let (code, one) = world.json(&["wallet", "balance"]);
    assert_eq!((code, &one["accounts"][0]["free_tao"]), (0, &"10.000000000".into()), "{one}");
    assert_eq!(one["accounts"][0]["coldkey"], address(200));
    let (_, all) = world.json(&["wallet", "balance", "--all"]);
    assert_eq!(all["accounts"][1]["free_tao"], "0.000000001", "{all}");
    assert_eq!(all["total_free_tao"], "10.000000001");
    let (_, named) = world.json(&["w", "balance", "--ss58_address", &address(200), &address(9)]);
    assert_eq!(named["accounts"][0]["free_tao"], "10.000000000", "{named}");
    assert_eq!(named["accounts"][1]["free_tao"], "0.000000000", "{named}");

    let said = world.run(&["wallet", "balance", "--all"]);
    assert!(said.out.contains("FREE (TAO)") && said.out.contains("10.000000001"), "{said:?}");
    let missing = world.run(&["wallet", "balance", "--wallet-name", "nobody"]);
    assert_eq!(missing.code, 2);
    assert!(missing.err.contains("new-coldkey nobody"), "{missing:?}");
    let wrong = world.run(&["wallet", "balance", "--ss58", "5Nonsense"]);
    assert!(wrong.code == 2 && wrong.err.contains("5Nonsense"), "{wrong:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_is_shown_agreed_to_sent_and_seen_through() {
    let world = World::with(|b| b.subnet(8, |subnet| subnet.lock_share = 32_768)).await;
    let mut terminal = world.terminal(REGISTER);
    let shown = terminal.expect("Register for 1 TAO? [y/N]");
    for part in [
        "10.000000000 TAO",
        "1.000000000 TAO: 0.500007629 stay locked as",
        "the chain refuses a higher price",
        "0.000124000 TAO",
        "3 of 256 taken: nobody is evicted",
        "7200 blocks (about 24 h)",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    terminal.type_line("y");
    terminal.expect("waiting until that is final");
    let said = terminal.end();
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(said.out.trim(), format!("uid 3 in subnet 8 is {}", address(201)));
    assert_eq!(world.uid(), Some(3));
    assert!(said.err.contains("balance 8.999876 TAO"), "{said:?}");

    // Once more: nothing is signed, and a program sees the same uid.
    let (code, again) = world.json(REGISTER);
    assert_eq!((code, &again["already"], &again["uid"]), (0, &true.into(), &3.into()), "{again}");
    assert_eq!(world.sent(), 1);
    let said = world.run(REGISTER_YES);
    assert!(said.err.contains("registered already: nothing was signed"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_gets_the_uid_and_where_it_happened() {
    let world = World::new().await;
    // Flags as btcli spells them.
    let args = ["s", "register", "--no_prompt", "--wallet_name", "default", "--netuid", "8"];
    let (code, done) = world.json(&args);
    assert_eq!(code, 0, "{done}");
    assert_eq!((&done["uid"], &done["final"]), (&3.into(), &true.into()), "{done}");
    assert_eq!((&done["already"], &done["balance_tao"]), (&false.into(), &"8.999876000".into()));
    assert!(done["block"].is_u64() && done["extrinsic"].as_str().unwrap().starts_with("0x"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_agreement_nothing_is_signed() {
    let world = World::new().await;
    let said = world.run(REGISTER);
    assert!(said.code == 2 && said.err.contains("add --yes"), "{said:?}");
    let mut terminal = world.terminal(REGISTER);
    terminal.expect("[y/N]");
    terminal.type_line("");
    assert_eq!(terminal.end().code, 1);
    assert_eq!((world.sent(), world.uid()), (0, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_shows_fee_and_call_and_needs_no_key() {
    let world = World::new().await;
    std::fs::remove_file(place(world.dir.path(), "default").coldkey()).unwrap();
    let (code, plan) = world.json(&["subnet", "register", "--dry-run", "--max-cost", "1.5"]);
    assert_eq!(code, 0, "{plan}");
    assert_eq!(plan["call"], "SubtensorModule.register_limit");
    assert_eq!(
        (&plan["fee_tao"], &plan["limit_tao"]),
        (&"0.000124000".into(), &"1.500000000".into())
    );
    assert!(plan["refusal"].is_null() && plan["encoded"].as_str().unwrap().starts_with("0x"));
    let said = world.run(&["subnet", "register", "--dry-run"]);
    assert!(said.out.contains("call  SubtensorModule.register_limit 0x"), "{said:?}");
    assert!(said.err.contains("nothing was signed"), "{said:?}");
    let (code, plan) = world.json(&["subnet", "register", "--dry-run", "--max-cost", "0.5"]);
    assert_eq!((code, &plan["refusal"]["code"]), (3, &"chain_price_above_limit".into()), "{plan}");
    assert_eq!(world.sent(), 0);
}

/// What can be seen before is told before anything is signed.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_work_is_refused_before_a_question() {
    let world = World::new().await;
    let check = |args: &[&str], code: &str, part: &str| {
        let (exit, document) = world.json(args);
        assert_eq!((exit, &document["error"]["code"]), (3, &code.into()), "{document}");
        let said = world.run(args);
        assert!(said.code == 3 && said.err.contains(part), "{part}: {said:?}");
        assert!(said.err.contains(" next: "), "{said:?}");
    };
    let dear = &["subnet", "register", "--yes", "--max-cost", "0.999999999"];
    check(dear, "chain_price_above_limit", "more than the limit of 0.999999999 TAO");
    world.node.set_balance(&address(200), Rao(TAO + 124_000));
    check(REGISTER_YES, "balance_too_low", "send 0.0000005 TAO more");
    world.node.set_balance(&address(200), Rao(10 * TAO));
    world.node.change(8, |subnet| subnet.this_interval = 6);
    check(REGISTER_YES, "registration_interval_full", "no more than 6");
    world.node.change(8, |subnet| subnet.allowed = false);
    check(REGISTER_YES, "registration_closed", "has closed registration");
    world.node.add(9, MockNeuron::new(&address(201), &address(77)));
    check(REGISTER_YES, "hotkey_of_another_coldkey", &address(77));
    let none = world.run(&["subnet", "register", "--yes", "--netuid", "55"]);
    assert!(none.code == 2 && none.err.contains("no subnet 55"), "{none:?}");
    let root = world.run(&["subnet", "register", "--netuid", "0"]);
    assert!(root.code == 2 && root.err.contains("ptn-cli root register"), "{root:?}");
    assert_eq!(world.sent(), 0);
}

/// What changes between the question and the block is the chain's to say, by name.
#[tokio::test(flavor = "multi_thread")]
async fn errors_of_the_chain_are_named_and_explained() {
    type Change = fn(&MockNode);
    let cases: [(Change, &str, &str); 5] = [
        (
            |node| node.change(8, |subnet| subnet.allowed = false),
            "SubtensorModule.SubNetRegistrationDisabled",
            "the owner of the subnet has closed registration",
        ),
        (
            |node| node.change(8, |subnet| subnet.this_interval = 6),
            "SubtensorModule.TooManyRegistrationsThisInterval",
            "as many registrations in this interval as it may",
        ),
        (
            |node| node.change(8, |subnet| subnet.max_per_block = 0),
            "SubtensorModule.TooManyRegistrationsThisBlock",
            "as many registrations in this block as it may",
        ),
        (
            |node| node.set_balance(&address(200), Rao(TAO / 2)),
            "SubtensorModule.NotEnoughBalanceToStake",
            "the price of the registration",
        ),
        (
            |node| node.add(9, MockNeuron::new(&address(201), &address(77))),
            "SubtensorModule.NonAssociatedColdKey",
            "belongs to another coldkey",
        ),
    ];
    for (change, name, meaning) in cases {
        let world = World::new().await;
        let mut terminal = world.terminal(REGISTER);
        terminal.expect("[y/N]");
        change(&world.node);
        terminal.type_line("y");
        let said = terminal.end();
        assert_eq!(said.code, 3, "{name}: {said:?}");
        let text = said.err.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in [name, meaning, "next:"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_price_that_moved_is_refused_before_signing_and_by_the_chain() {
    let world = World::with(|b| b.block_time(None)).await;
    let mut terminal = world.terminal(REGISTER);
    terminal.expect("[y/N]");
    world.node.change(8, |subnet| subnet.burn = Rao(TAO + 1));
    terminal.type_line("y");
    let said = terminal.end();
    assert_eq!((said.code, world.sent()), (3, 0), "{said:?}");
    assert!(said.err.contains("costs 1.000000001 TAO now"), "{said:?}");
    // It rises when the call is on its way.
    let terminal = world.terminal(&["subnet", "register", "--yes", "--max-cost", "1.5"]);
    while world.sent() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.node.change(8, |subnet| subnet.burn = Rao(2 * TAO));
    let said = terminal.end();
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.err.contains("SubtensorModule.RegistrationPriceLimitExceeded"), "{said:?}");
    assert_eq!(world.uid(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_the_pool_are_explained_in_the_same_words() {
    let world = World::new().await;
    let refuse = |data: &str| Fault::refuse(1010, "Invalid Transaction", data);
    let cases: [(FaultRule, i32, &str, &str); 6] = [
        (refuse("Inability to pay some fees"), 3, "chain_cannot_pay_fee", "cannot pay the fee"),
        (Fault::custom(6), 3, "chain_refused_by_runtime", "RateLimitExceeded"),
        (refuse("Transaction is outdated"), 75, "chain_stale", "came first"),
        (Fault::refuse(1012, "Banned", ""), 75, "chain_banned", "banned for a while"),
        (Fault::refuse(1013, "Already", ""), 6, "chain_already_known", "waiting there already"),
        (Fault::refuse(1014, "Priority", ""), 75, "chain_priority_too_low", "the same number"),
    ];
    for (fault, exit, code, part) in cases {
        world.node.set_faults([fault]);
        let (said, document) = world.json(REGISTER_YES);
        assert_eq!((said, &document["error"]["code"]), (exit, &code.into()), "{document}");
        let text = document["error"]["message"].as_str().unwrap();
        assert!(text.contains(part), "{part}: {text}");
        assert!(!document["error"]["hint"].as_str().unwrap().is_empty());
    }
    assert_eq!(world.uid(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_limit_of_the_chain_the_price_is_looked_at_before_signing() {
    let old = MockRuntime::plain(393).lacking("register_limit");
    let world = World::with(|b| b.runtime(old)).await;
    let mut terminal = world.terminal(&["subnet", "register", "--max-cost", "2"]);
    let shown = terminal.expect("[y/N]");
    assert!(shown.contains("this runtime has no limit"), "{shown}");
    world.node.change(8, |subnet| subnet.burn = Rao(2 * TAO + 1));
    terminal.type_line("y");
    let said = terminal.end();
    assert_eq!((said.code, world.sent()), (3, 0), "{said:?}");
    assert!(said.err.contains("2.000000001 TAO now"), "{said:?}");
    world.node.change(8, |subnet| subnet.burn = Rao(2 * TAO));
    let (code, done) = world.json(&["subnet", "register", "-y", "--max-cost", "2"]);
    assert_eq!((code, &done["uid"]), (0, &3.into()), "{done}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_coldkey_is_asked_for_only_to_sign() {
    let world = World::new().await;
    let place = place(world.dir.path(), "safe");
    let password = Password::new("correct horse").unwrap();
    place.save_coldkey(&key(200), Some(&password), Replace::Never).unwrap();
    place.save_hotkey(&key(202), None, Replace::Never).unwrap();
    for args in [
        &["wallet", "balance", "--wallet.name", "safe"][..],
        &["wallet", "overview", "--wallet.name", "safe"],
        &["subnet", "register", "--dry-run", "--wallet.name", "safe"],
    ] {
        assert_eq!(world.run(args).code, 0, "{args:?}");
    }
    let args = ["subnet", "register", "--wallet.name", "safe"];
    let mut terminal = world.terminal(&args);
    terminal.expect("[y/N]");
    terminal.type_line("y");
    terminal.expect("Password of ");
    terminal.type_line("wrong horse");
    let said = terminal.end();
    assert_eq!((said.code, world.sent()), (2, 0), "{said:?}");
    assert!(said.err.contains("the password does not open it"), "{said:?}");
    let url = world.node.url();
    let args = world.args(&["subnet", "register", "--yes", "--wallet.name", "safe"], &url);
    let none = common::run(world.dir.path(), &args);
    assert!(none.code == 2 && none.err.contains("--password-file"), "{none:?}");
    let output =
        command(world.dir.path()).args(&args).env("PTN_WALLET_PASSWORD", "correct horse").output();
    assert_eq!(output.unwrap().status.code(), Some(0));
    assert_eq!(world.node.subnet(8).unwrap().uid(&address(202)), Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mixed_up_public_file_signs_nothing() {
    let world = World::new().await;
    let place = place(world.dir.path(), "default");
    let mixed = place.save_coldkeypub(&key(99).public_key(), Replace::WithBackup);
    mixed.unwrap();
    let said = world.run(REGISTER_YES);
    assert_eq!((said.code, world.sent()), (2, 0), "{said:?}");
    assert!(said.err.contains("different keys"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_down_or_of_another_chain_is_named() {
    let world = World::new().await;
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("ws://{}", listener.local_addr().unwrap())
    };
    let down = ["wallet", "balance", "--chain", gone.as_str()];
    let said = world.run(&down);
    assert_eq!(said.code, 4, "{said:?}");
    assert!(
        said.err.contains(&gone) && said.err.contains("--subtensor.chain_endpoint"),
        "{said:?}"
    );
    assert!(!said.err.contains("ignals"), "nobody asked for signals: {said:?}");
    // The next node is asked.
    let both = format!("{gone},{}", world.node.url());
    assert_eq!(world.run(&["wallet", "balance", "--chain", &both]).code, 0);
    // finney's first block is known, and this is another one.
    let said = world.run(&[REGISTER_YES, &["--network", "finney"]].concat());
    assert_eq!((said.code, world.sent()), (2, 0), "{said:?}");
    assert!(said.err.contains(FINNEY) && said.err.contains(&world.node.genesis()), "{said:?}");
    for (args, part) in [
        (&["wallet", "balance", "--network", "mainnet"][..], "finney, test, archive and local"),
        (&["wallet", "balance", "--chain", "127.0.0.1:9944"], "ws://"),
        (&["subnet", "metagraph", "--netuid", "eight"], "subnet's number"),
    ] {
        let said = world.run(args);
        assert!(said.code == 2 && said.err.contains(part), "{args:?} {said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_after_sending_does_not_sign_twice() {
    let world = World::new().await;
    world.node.set_faults([Fault::DoAndDrop.on("author_submitAndWatchExtrinsic").first(1)]);
    let (code, done) = world.json(REGISTER_YES);
    assert_eq!((code, &done["uid"]), (0, &3.into()), "{done}");
    assert_eq!(world.node.balance(&address(200)), Rao(9 * TAO - 124_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_can_be_left_out() {
    let world = World::with(|b| b.finality_lag(50)).await;
    let (code, done) = world.json(&["subnet", "register", "-y", "--no-wait-for-finalization"]);
    assert_eq!((code, &done["final"]), (0, &false.into()), "{done}");
    assert!(done["block"].is_u64());
    assert_eq!(world.uid(), Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_overview_has_every_column_and_fits_the_terminal() {
    let world = World::with(|b| {
        let mut own = MockNeuron::new(&address(201), &address(200));
        own.stake = Alpha(12_500_000_000);
        own.emission = Alpha(7);
        own.scores = [6554, 13107, 19661, 26214, 32768];
        own.axon = Some(([10, 0, 0, 1], 8091).into());
        b.neuron(8, own).neuron(116, MockNeuron::new(&address(201), &address(200)))
    })
    .await;
    let said = world.run(&["wallet", "overview"]);
    assert_eq!(said.code, 0, "{said:?}");
    let head = said.out.lines().next().unwrap();
    let columns: Vec<&str> = head.split_whitespace().collect();
    assert_eq!(
        columns.join(" "),
        "SUBNET COLDKEY HOTKEY UID ACTIVE STAKE RANK TRUST CONSENSUS INCENTIVE DIVIDENDS EMISSION \
         VTRUST VPERMIT UPDATED AXON HOTKEY_SS58"
    );
    let row: Vec<&str> = said.out.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(
        row[..13].join(" "),
        "8 default default 3 yes 12.50000 0.10001 0.20000 0.30001 0.40000 0.50001 7 0.00000"
    );
    assert_eq!(row[row.len() - 2..], ["10.0.0.1:8091", address(201).as_str()]);
    assert!(said.out.contains("balance of default: 10 TAO"), "{said:?}");
    assert!(said.out.contains("\n   116  default"), "{said:?}");

    let (_, document) = world.json(&["wallet", "overview"]);
    let wallet = &document["wallets"][0];
    assert_eq!(
        (&wallet["neurons"][0]["netuid"], &wallet["neurons"][1]["netuid"]),
        (&8.into(), &116.into())
    );
    assert_eq!(wallet["neurons"][0]["stake_alpha"], "12.500000000");
    assert_eq!(
        (&wallet["free_tao"], &document["total_free_tao"]),
        (&"10.000000000".into(), &"10.000000000".into())
    );

    let only = world.json(&["wallet", "overview", "--netuids", "116"]).1;
    assert_eq!(only["wallets"][0]["neurons"].as_array().unwrap().len(), 1);
    // A subnet that does not exist is named, and hides nothing.
    let args = ["wallet", "overview", "--netuids", "55,116"];
    let (code, some) = world.json(&args);
    assert_eq!((code, &some["missing_subnets"]), (0, &serde_json::json!([55])), "{some}");
    assert_eq!(some["wallets"][0]["neurons"][0]["netuid"], 116, "{some}");
    let said = world.run(&args);
    assert!(said.code == 0 && said.err.contains("no subnet 55"), "{said:?}");
    let none = world.run(&["wallet", "overview", "--netuids", "55,56"]);
    assert!(none.code == 2 && none.err.contains("no subnet 55"), "{none:?}");
    // Other wallets: one whose hotkey is registered nowhere.
    place(world.dir.path(), "new").save_hotkey(&key(203), None, Replace::Never).unwrap();
    let all = world.json(&["wallet", "overview", "--all"]).1;
    assert_eq!(all["wallets"].as_array().unwrap().len(), 2);
    let none = world.run(&["wallet", "overview", "--wallet.name", "new"]);
    assert!(none.code == 0 && none.err.contains("ptn-cli subnet register"), "{none:?}");

    for width in [80, 120] {
        let url = world.node.url();
        let screen = common::terminal::stdout(
            world.dir.path(),
            &world.args(&["wallet", "overview"], &url),
            (width, 24),
        );
        assert!(screen.contains("HOTKEY_SS58"), "{screen}");
        let long = screen.lines().find(|l| plain(l).chars().count() > usize::from(width));
        assert_eq!(long, None, "{screen}");
    }
}

/// Without colours.
fn plain(line: &str) -> String {
    let mut text = String::new();
    let mut parts = line.split('\u{1b}');
    text.push_str(parts.next().unwrap());
    for part in parts {
        text.push_str(part.split_once('m').unwrap().1);
    }
    text.trim_end().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metagraph_and_who_gets_signals() {
    let world = World::new().await;
    let (code, graph) = world.json(&["subnets", "metagraph"]);
    assert_eq!((code, graph["neurons"].as_array().unwrap().len()), (0, 3), "{graph}");
    assert_eq!(graph["neurons"][1]["stake_alpha"], "1234.567890123");
    let said = world.run(&["subnet", "metagraph"]);
    assert_eq!(said.out.lines().count(), 4, "{said:?}");

    let roles = |args: &[&str]| {
        let (code, document) = world.json(&[&["subnet", "validators"], args].concat());
        let roles: Vec<String> = document["validators"]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v["role"].as_str().unwrap().to_owned())
            .collect();
        (code, roles.join(" "))
    };
    // On a network of one's own the most trusted one is the mothership.
    assert_eq!(roles(&[]), (0, "required none".to_owned()));
    assert_eq!(roles(&["--delivery.policy", "all"]), (0, "required required".to_owned()));
    let second = address(2);
    assert_eq!(roles(&["--delivery.mothership", &second]), (0, "copy required".to_owned()));
    // On a public network nobody may be called who is at home here.
    let axon = ([127, 0, 0, 1], 8091).into();
    world.node.add(116, MockNeuron::validator(&address(1), &address(101), axon, 65_535));
    let on_test = ["--network", "test", "--netuid", "116", "--delivery.policy", "all"];
    let said = world.run(&[&["subnet", "validators"], &on_test[..]].concat());
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.out.contains("address refused: a loopback address"), "{said:?}");
    assert!(said.err.contains("none of those who must acknowledge"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_root_is_joined_and_its_weights_are_explained() {
    let world = World::with(|b| b.subnet(0, |_| {})).await;
    let (code, plan) = world.json(&["root", "register", "--dry-run"]);
    assert_eq!((code, &plan["call"]), (0, &"SubtensorModule.root_register".into()), "{plan}");
    let (code, done) = world.json(&["root", "register", "--yes"]);
    assert_eq!((code, &done["uid"], &done["netuid"]), (0, &0.into(), &0.into()), "{done}");
    let said = world.run(&["root", "register", "--yes"]);
    assert!(said.code == 0 && said.err.contains("registered already"), "{said:?}");
    for args in [
        &["root", "weights"][..],
        &["root", "set-weights", "--netuids", "1,2", "--weights", "0.1,0.9"],
        &["root", "set_weights", "--no-prompt"],
    ] {
        let said = common::run(world.dir.path(), args);
        assert_eq!(said.code, 1, "{said:?}");
        let parts =
            ["set_root_weights", "February 2025", "alpha", "add_stake", "ptn-cli subnet weights"];
        for part in parts {
            assert!(said.err.contains(part), "{part}: {said:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_looks_at_the_chain() {
    let world = World::new().await;
    let levels = |args: &[&str]| {
        let document = world.json(&[&["doctor", "--axon.port", "0"], args].concat()).1;
        let of = |check: &str| {
            let checks = document["checks"].as_array().unwrap();
            let found = checks.iter().find(|c| c["check"] == check);
            found.map_or_else(String::new, |c| c["level"].as_str().unwrap().to_owned())
        };
        ([of("chain"), of("registered"), of("validators")].join(" "), document)
    };
    let (found, document) = levels(&[]);
    assert_eq!(found, "ok fail ok", "{document}");
    assert!(document.to_string().contains("ptn-cli subnet register --netuid 8"), "{document}");
    assert_eq!(world.run(REGISTER_YES).code, 0);
    assert_eq!(levels(&[]).0, "ok ok ok");
    assert_eq!(levels(&["--delivery.mothership", &address(3)]).0, "ok ok fail");
    assert!(!world.dir.path().join("mining").exists(), "looking left something");
}

/// `{a, b: [{c}]}` in the documentation: the names at its top.
fn documented(command: &str) -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/registering.md");
    let page = std::fs::read_to_string(page).unwrap();
    let row = page.lines().find(|l| l.starts_with('|') && l.contains(&format!("`{command}`")));
    let shape = row.unwrap().split(" | ").nth(1).unwrap();
    let mut names = vec![String::new()];
    let mut depth = 0;
    for c in shape.chars() {
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            ',' if depth <= 1 => names.push(String::new()),
            'a'..='z' | '_' if depth == 1 => names.last_mut().unwrap().push(c),
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_have_the_shape_that_is_documented() {
    let world = World::new().await;
    for command in [
        "wallet balance",
        "wallet overview",
        "subnet register --dry-run",
        "subnet metagraph",
        "subnet validators",
        "subnet weights",
    ] {
        let args: Vec<&str> = command.split(' ').collect();
        let document = world.json(&args).1;
        let keys: Vec<String> = document.as_object().unwrap().keys().cloned().collect();
        let mut keys = keys;
        keys.sort();
        assert_eq!(keys, documented(command), "{command}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn runtimes_with_wrapped_numbers_are_served_the_same() {
    let world = World::with(|b| b.runtime(MockRuntime::newtypes(440))).await;
    let (code, done) = world.json(REGISTER_YES);
    assert_eq!((code, &done["uid"]), (0, &3.into()), "{done}");
    let overview = world.json(&["wallet", "overview"]).1;
    assert_eq!(overview["wallets"][0]["neurons"][0]["uid"], 3, "{overview}");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_looks_at_nodes_genesis_registration_clock_and_addresses() {
    let world = World::new().await;
    let doctor = ["doctor", "--axon.port", "0"];
    let find = |report: &Value, check: &str, level: &str| {
        let list = report["checks"].as_array().unwrap().clone();
        let of = |c: &&Value| c["check"] == check && c["level"] == level;
        list.iter().find(of).map(|c| c["message"].as_str().unwrap().to_owned())
    };
    let (code, report) = world.json(&doctor);
    assert_eq!(code, 1, "{report:#}");
    let said = find(&report, "registered", "fail").unwrap();
    assert!(said.contains(&address(201)) && said.contains("subnet 8 of local"), "{said}");
    assert!(find(&report, "chain", "ok").unwrap().contains(&world.node.genesis()), "{report:#}");
    let clock = |report: &Value, level| {
        let list = report["checks"].as_array().unwrap().iter();
        let mut words = list.filter(|c| c["check"] == "clock" && c["level"] == level);
        words.any(|c| c["message"].as_str().unwrap().contains("block"))
    };
    assert!(clock(&report, "ok"), "{report:#}");

    world.node.add(8, MockNeuron::new(&address(201), &address(200)));
    let (code, report) = world.json(&doctor);
    assert_eq!(code, 0, "{report:#}");
    assert!(find(&report, "registered", "ok").unwrap().contains("uid 3"), "{report:#}");
    assert!(find(&report, "validators", "ok").unwrap().starts_with("2 with a permit"));

    // A clock that is behind is certain; one that is ahead may be a node that is behind.
    world.node.set_clock_ahead(60_000);
    assert!(clock(&world.json(&doctor).1, "fail"));
    world.node.set_clock_ahead(-120_000);
    assert!(clock(&world.json(&doctor).1, "warn"));
    world.node.set_clock_ahead(0);

    // One node of two is down: a warning. Another chain: a failure. Down with nothing saved, too.
    let both = format!("ws://127.0.0.1:1,{}", world.node.url());
    let (code, report) =
        world.json(&[&doctor[..], &["--subtensor.chain_endpoint", &both]].concat());
    assert_eq!(code, 0, "{report:#}");
    assert!(find(&report, "chain", "warn").unwrap().contains("ws://127.0.0.1:1"), "{report:#}");
    let (code, report) = world.json(&[&doctor[..], &["--subtensor.network", "finney"]].concat());
    assert_eq!(code, 1, "{report:#}");
    assert!(find(&report, "chain", "fail").unwrap().contains("another chain"), "{report:#}");
    assert!(find(&report, "saved list", "fail").is_some(), "{report:#}");
}
