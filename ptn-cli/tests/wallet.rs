//! The wallet commands through the real binary, with and without somebody at the terminal.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a failed expectation is how a test fails"
)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use common::terminal::OnTerminal;
use common::{Said, command, run, run_with};
use ptn_core::wallet::password::{to_variable, variable_name};
use ptn_core::wallet::{Key, Password, keyfile};

const PHRASE: &str = "motion ride property real mesh into title pigeon poet joke target quiz";
const ADDRESS: &str = "5EWMkbn47f8prCiybonXeWYtxUXoMu3AViecg5PZFbHPQ6Su";
const PASSWORD: &str = "correct horse";

fn wallets(dir: &Path) -> PathBuf {
    dir.join(".bittensor/wallets")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn ok(said: &Said) -> &Said {
    assert_eq!(said.code, 0, "{said:?}");
    said
}

/// Refused with exit code 2 and this code; nothing secret is told.
fn refused(said: &Said, code: &str) {
    assert_eq!(said.code, 2, "{said:?}");
    assert_eq!(said.json()["error"]["code"], code, "{said:?}");
    assert!(!said.out.contains("motion") && !said.out.contains(PASSWORD), "{said:?}");
}

/// Runs with a password in our variable.
fn run_knowing(dir: &Path, password: &str, args: &[&str]) -> Said {
    let output = command(dir).args(args).env("PTN_WALLET_PASSWORD", password).output().unwrap();
    Said {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn a_hotkey_is_made_without_questions_and_only_for_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    let made = run(dir.path(), &["wallet", "new-hotkey", "miner/bot", "--json"]);
    let document = ok(&made).json();
    let path = wallets(dir.path()).join("miner/hotkeys/bot");
    assert_eq!(document["path"], path.to_str().unwrap());
    assert_eq!((&document["encrypted"], &document["hotkey"]), (&false.into(), &"bot".into()));
    assert!(document["mnemonic"].is_null());
    let public = path.with_file_name("botpub.txt");
    for file in [&path, &public] {
        assert_eq!(mode(file), 0o600, "{}", file.display());
        let address = keyfile::address(&fs::read(file).unwrap()).unwrap();
        assert_eq!(document["ss58_address"], address);
    }
    for folder in path.ancestors().skip(1).take_while(|p| *p != dir.path()) {
        assert_eq!(mode(folder), 0o700, "{}", folder.display());
    }
    // Its phrase is nowhere on the screen, and can be had from the file.
    let key = keyfile::open(&fs::read(&path).unwrap(), None).unwrap();
    let phrase = key.phrase().unwrap();
    assert!(!made.out.contains(phrase) && !made.err.contains(phrase));
    let shown = run(dir.path(), &["wallet", "export", "miner/bot", "--show", "--yes"]);
    assert_eq!(ok(&shown).out.trim(), phrase);
    assert_eq!(run(dir.path(), &["wallet", "export", "miner/bot", "--show"]).code, 2);
    // What is said in its place is the command for this very key.
    for (flags, command) in [
        (&[][..], "ptn-cli wallet export miner/spoken --show\n"),
        (&["--wallet.path", "w"], "ptn-cli wallet export miner/spoken --show --wallet.path w\n"),
    ] {
        let made = run(dir.path(), &[&["wallet", "new-hotkey", "miner/spoken"], flags].concat());
        assert!(ok(&made).err.contains(command), "{made:?}");
    }
    let missing = run(dir.path(), &["wallet", "export", "miner/none", "--show", "--yes"]);
    assert!(missing.err.contains("ptn-cli wallet new-hotkey miner/none"), "{missing:?}");

    let long =
        ["wallet", "new-hotkey", "miner/long", "--n-words", "24", "--json", "--show-mnemonic"];
    let made = run(dir.path(), &long);
    let phrase = ok(&made).json()["mnemonic"].as_str().unwrap().to_owned();
    assert_eq!(phrase.split(' ').count(), 24);
    let args = ["wallet", "regen-hotkey", "other/long", "--mnemonic-file", "-"];
    let restored = run_with(dir.path(), &args, phrase.as_bytes());
    assert_eq!(ok(&restored).out.trim(), made.json()["ss58_address"]);
}

#[test]
fn the_spellings_of_btcli_are_known() {
    let dir = tempfile::tempdir().unwrap();
    for (n, args) in [
        &["w", "new_hotkey", "--wallet.name", "a", "--wallet.hotkey", "h"][..],
        &["wallet", "new-hotkey", "--wallet_name", "a", "--wallet_hotkey", "h", "--n_words", "15"],
        &[
            "wallet",
            "new_hotkey",
            "--wallet-name",
            "a",
            "--wallet-hotkey",
            "h",
            "--no-use-password",
        ],
        &["wallets", "new_hotkey", "--name", "a", "--hotkey", "h", "--no_password", "--quiet"],
        &["w", "new-hotkey", "--name", "a", "-H", "h", "--no-overwrite", "--no-prompt"],
        &["w", "regen_hotkey", "--name", "a/h", "--seed", &"11".repeat(32), "-y", "--verbose"],
        &[
            "w",
            "regen_hotkey",
            "a/h",
            "--mnemonic",
            "motion",
            "ride",
            "property",
            "real",
            "mesh",
            "into",
            "title",
            "pigeon",
            "poet",
            "joke",
            "target",
            "quiz",
        ],
        &["w", "regen-hotkey", "a/h", "--mnemonic", PHRASE, "--json-output"],
    ]
    .iter()
    .enumerate()
    {
        let path = format!("w{n}");
        let flag = ["-p", "--wallet.path", "--wallet_path", "--wallet-path"][n % 4];
        let mut all = args.to_vec();
        all.extend([flag, &path]);
        ok(&run(dir.path(), &all));
        assert!(dir.path().join(path).join("a/hotkeys/h").exists(), "{args:?}");
    }
    for flag in ["--ss58", "--ss58-address", "--ss58_address"] {
        ok(&run(dir.path(), &["w", "regen_coldkeypub", "watch", flag, ADDRESS]));
    }
    let hex = "0x6c092b5197e8dd843868e98bb3327ade7abfa54f1e26ea37867d533e177e8348";
    for flag in ["--public-key", "--public-key-hex", "--public_key_hex"] {
        let said = run(dir.path(), &["wallet", "regen-coldkeypub", "watch", flag, hex]);
        assert_eq!(ok(&said).out.trim(), ADDRESS);
    }
}

#[test]
fn a_pipe_among_the_keys_is_named_and_hangs_nobody() {
    let dir = tempfile::tempdir().unwrap();
    ok(&run(dir.path(), &["wallet", "new-hotkey", "miner/bot", "--json"]));
    let hotkeys = wallets(dir.path()).join("miner/hotkeys");
    for name in ["pipe", "otherpub.txt"] {
        let made = std::process::Command::new("mkfifo").arg(hotkeys.join(name)).status();
        assert!(made.unwrap().success());
    }
    // Nobody ever writes to the pipes.
    for args in
        [&["wallet", "list", "--json"][..], &["wallet", "export", "miner/pipe", "--show", "--yes"]]
    {
        let mut child = command(dir.path());
        let child = child.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = child.spawn().unwrap();
        let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while child.try_wait().unwrap().is_none() {
            if std::time::Instant::now() > end {
                child.kill().unwrap();
                panic!("{args:?} hangs");
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(format!("{text}{error}").contains("it is not a file"), "{text}{error}");
        if args.contains(&"list") {
            assert_eq!(output.status.code(), Some(0), "{error}");
            let list: serde_json::Value = serde_json::from_str(&text).unwrap();
            let hotkeys = list["wallets"][0]["hotkeys"].as_array().unwrap();
            let names: Vec<_> = hotkeys.iter().map(|h| h["name"].as_str().unwrap()).collect();
            assert_eq!(names, ["bot", "other", "pipe"], "{list}");
            assert!(hotkeys[0]["problem"].is_null(), "{list}");
        }
    }
}

#[test]
fn nothing_is_replaced_unless_asked_for_and_then_a_copy_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let new = ["wallet", "new-hotkey", "miner", "--json"];
    let first = ok(&run(dir.path(), &new)).json();
    let path = wallets(dir.path()).join("miner/hotkeys/default");
    let before = fs::read(&path).unwrap();
    let again = run(dir.path(), &new);
    refused(&again, "wallet_exists");
    assert!(again.out.contains(first["ss58_address"].as_str().unwrap()), "{again:?}");
    // Without a terminal the replacement must be confirmed by a flag.
    refused(&run(dir.path(), &[&new[..], &["--overwrite"]].concat()), "usage");
    assert_eq!(fs::read(&path).unwrap(), before);

    let replaced = ok(&run(dir.path(), &[&new[..], &["--overwrite", "--yes"]].concat())).json();
    assert_ne!(replaced["ss58_address"], first["ss58_address"]);
    let backups = replaced["backups"].as_array().unwrap();
    assert_eq!(backups.len(), 2, "key and public file: {replaced}");
    let backup = Path::new(backups[0].as_str().unwrap());
    assert_eq!(fs::read(backup).unwrap(), before);
    assert_eq!((mode(backup), mode(backup.parent().unwrap())), (0o600, 0o700));
    // The other tools list what is in hotkeys/, so the copies are elsewhere.
    let names: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
    assert_eq!(names.len(), 2, "{names:?}");

    // A public file of another key is not replaced by the way either.
    ok(&run(dir.path(), &["wallet", "regen-coldkeypub", "watch", "--ss58", ADDRESS]));
    let other =
        ["wallet", "regen-coldkey", "watch", "--no-password", "--json-output", "--seed-file", "-"];
    refused(&run_with(dir.path(), &other, "11".repeat(32).as_bytes()), "wallet_exists");
    // That of the same key is no hindrance.
    let same = ["wallet", "regen-coldkey", "watch", "--no-password", "--mnemonic-file", "-"];
    let said = run_with(dir.path(), &same, PHRASE.as_bytes());
    refused(
        &run(
            dir.path(),
            &[
                "wallet",
                "regen-coldkeypub",
                "watch",
                "--json",
                "--ss58",
                "5HUGc9tvc9kxrhGdc3rz36dBAEvoqSbJMcGQSTsZSt1F1TkJ",
            ],
        ),
        "wallet_exists",
    );
    assert_eq!(ok(&said).out.trim(), ADDRESS);
}

#[test]
fn a_coldkey_is_encrypted_and_every_source_of_its_password_works() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path();
    refused(&run(place, &["wallet", "new-coldkey", "miner", "--json", "--yes"]), "wallet_password");
    assert!(!wallets(place).exists(), "something was written without a password");
    fs::write(place.join("pw"), format!("{PASSWORD}\n")).unwrap();
    let args = ["wallet", "new-coldkey", "miner", "--password-file", "pw", "--yes", "--json"];
    let made = ok(&run(place, &args)).json();
    assert_eq!(made["encrypted"], true);
    let path = wallets(place).join("miner/coldkey");
    let bytes = fs::read(&path).unwrap();
    assert_eq!(keyfile::encryption(&bytes), Some("NaCl"));

    let show = ["wallet", "export", "miner", "--show", "--yes", "--json"];
    let opened = |said: &Said| ok(said).json()["ss58_address"] == made["ss58_address"];
    assert!(opened(&run_knowing(place, PASSWORD, &show)));
    refused(&run_knowing(place, "correct hors", &show), "wallet_wrong_password");
    refused(&run(place, &show), "wallet_password");
    // bittensor's variable is hidden with its own name, and comes before ours.
    let name = variable_name(path.to_str().unwrap());
    let value = to_variable(&name, &Password::new(PASSWORD).unwrap());
    let with = |name: &str, value: &str| {
        let mut command = command(place);
        command.args(show).env(name, value).env("PTN_WALLET_PASSWORD", "wrong");
        let output = command.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(with(&name, &value).0, 0);
    assert_eq!(with("BT_PW_~__BITTENSOR_WALLETS_MINER_COLDKEY", "plain").0, 2);
    assert_eq!(with("BT_COLD_PW_MINER", PASSWORD).0, 0);
    let (code, said) = with(&name, PASSWORD);
    assert!(code == 2 && said.contains("PTN_WALLET_PASSWORD"), "{said}");

    // Short of memory: an error, not the end of the process.
    let limited = std::process::Command::new("sh")
        .args(["-c", "ulimit -v 450000; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_ptn-cli")])
        .args(show)
        .env_clear()
        .envs([("HOME", place.to_str().unwrap()), ("PTN_WALLET_PASSWORD", PASSWORD)])
        .output()
        .unwrap();
    let said = String::from_utf8(limited.stdout).unwrap();
    assert!(limited.status.code() == Some(1) && said.contains("wallet_memory"), "{said}");

    // Cut by one byte it looks like a wrong password; within the header it is plainly damaged.
    fs::write(&path, &bytes[..20]).unwrap();
    refused(&run_knowing(place, PASSWORD, &show), "wallet_corrupt");
}

#[test]
fn keys_are_restored_from_every_source() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path();
    fs::write(place.join("pw"), "export").unwrap();
    let regen = |name: &str, flag: &str, stdin: &str| {
        run_with(place, &["wallet", "regen-hotkey", name, flag, "-"], stdin.as_bytes())
    };
    assert_eq!(
        ok(&regen("a/phrase", "--mnemonic-file", &format!(" {PHRASE}\n"))).out.trim(),
        ADDRESS
    );
    let seed = "0x581ba7a2494e291087ef862aebb4f106d9bf5c4c6b391ce10a7aa642caa61a95\n";
    assert_eq!(ok(&regen("a/seed", "--seed-file", seed)).out.trim(), ADDRESS);
    let derived = regen("a/uri", "--uri-file", &format!("{PHRASE}//hard/soft///secret\n"));
    assert_eq!(ok(&derived).out.trim(), "5GWKzhDSPheFXv3GkvGHA4yg12q64tpNXFesGXBc1peS7VUh");
    let export =
        ["wallet", "export", "a/phrase", "--export-password-file", "pw", "--out", "a.json"];
    ok(&run(place, &export));
    assert_eq!(mode(&place.join("a.json")), 0o600);
    assert_eq!(run(place, &export).code, 2, "an export was overwritten");
    for flag in ["--json", "--json-path", "-j"] {
        let name = format!("a/json{}", flag.len());
        let args = ["wallet", "regen-hotkey", &name, flag, "a.json", "--json-password-file", "pw"];
        assert_eq!(ok(&run(place, &args)).out.trim(), ADDRESS);
    }
    let asked =
        ["wallet", "regen-hotkey", "a/j", "--json-path", "a.json", "--json-password", "export"];
    let said = run(place, &[&asked[..], &["--json"]].concat());
    assert_eq!(ok(&said).json()["ss58_address"], ADDRESS);
    assert!(said.err.contains("careful: --json-password"), "{said:?}");
    // It is the same secret, without the phrase.
    let open = |name: &str| {
        let path = wallets(place).join("a/hotkeys").join(name);
        keyfile::open(&fs::read(path).unwrap(), None).unwrap()
    };
    assert!(open("j").phrase().is_none() && open("phrase").phrase() == Some(PHRASE));

    let wrong = |flag: &str, stdin: &str, code: &str| {
        let args = ["wallet", "regen-hotkey", "b/h", "--json-output", flag, "-"];
        refused(&run_with(place, &args, stdin.as_bytes()), code);
    };
    wrong("--mnemonic-file", "", "phrase_empty");
    wrong("--mnemonic-file", "motion ride", "phrase_word_count");
    wrong("--mnemonic-file", &PHRASE.replace("mesh", "mash"), "phrase_unknown_word");
    let backwards: Vec<&str> = PHRASE.split(' ').rev().collect();
    wrong("--mnemonic-file", &backwards.join(" "), "phrase_checksum");
    wrong("--seed-file", "0x1234", "phrase_seed");
    wrong("--uri-file", "//Alice", "phrase_empty");
    wrong("--uri-file", &format!("{PHRASE}//"), "phrase_derivation");
    wrong("--json-path", "{}", "usage");
    fs::write(place.join("pw2"), "exporx").unwrap();
    let args = ["wallet", "regen-hotkey", "b/h", "--json-output", "--json-path", "a.json"];
    refused(
        &run(place, &[&args[..], &["--json-password-file", "pw2"]].concat()),
        "wallet_wrong_password",
    );
    refused(&run(place, &args), "usage");
    assert!(!wallets(place).join("b").exists());
}

#[test]
fn the_list_names_what_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path();
    let empty = run(place, &["wallet", "list"]);
    assert!(ok(&empty).out.is_empty() && empty.err.contains("new-coldkey"), "{empty:?}");
    for name in ["miner/good", "miner/cut", "miner/open", "miner/mixed"] {
        ok(&run(place, &["wallet", "new-hotkey", name]));
    }
    ok(&run(place, &["wallet", "regen-coldkeypub", "miner", "--ss58", ADDRESS]));
    let hotkeys = wallets(place).join("miner/hotkeys");
    let content = fs::read(hotkeys.join("cut")).unwrap();
    fs::write(hotkeys.join("cut"), &content[..100]).unwrap();
    fs::set_permissions(hotkeys.join("open"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::copy(hotkeys.join("goodpub.txt"), hotkeys.join("mixedpub.txt")).unwrap();

    let document = ok(&run(place, &["wallet", "list", "--json"])).json();
    let wallet = &document["wallets"][0];
    assert_eq!(wallet["coldkey"]["ss58_address"], ADDRESS);
    assert_eq!(wallet["coldkey"]["has_secret"], false);
    let problems: Vec<(&str, &str)> = wallet["hotkeys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|k| (k["name"].as_str().unwrap(), k["problem"].as_str().unwrap_or("")))
        .collect();
    let has = |name: &str, part: &str| {
        assert!(problems.iter().any(|(n, p)| *n == name && p.contains(part)), "{problems:?}");
    };
    assert_eq!(problems.len(), 4);
    has("good", "");
    has("cut", "damaged");
    has("open", "chmod 600");
    has("mixed", "different keys");
    let tree = run(place, &["wallet", "list"]).out;
    assert!(tree.contains("└── miner") && tree.contains("├── cut"), "{tree}");

    // An unsafe file is not used.
    let said = run(place, &["wallet", "export", "miner/open", "--show", "--yes", "--json"]);
    refused(&said, "wallet_unsafe");
}

#[test]
fn the_default_wallet_is_kept_in_the_settings_file() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path();
    let file = place.join("ptn.toml");
    fs::write(&file, "# mine\ndata_dir = \"d\" # here\n[wallet]\nname = \"old\" # was\n").unwrap();
    // What is not there is no default: later everything would fail.
    refused(&run(place, &["wallet", "set-default", "miner/bot", "--json"]), "wallet_missing");
    ok(&run(place, &["wallet", "new-hotkey", "miner/bot", "--json"]));
    let other = run(place, &["wallet", "set-default", "miner/bott"]);
    assert!(other.code == 2 && other.err.contains("new-hotkey miner/bott"), "{other:?}");
    assert!(fs::read_to_string(&file).unwrap().contains("\"old\""), "nothing was written");
    let said = run(place, &["wallet", "set-default", "miner/bot"]);
    assert!(ok(&said).err.contains("ptn.toml"), "{said:?}");
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(
        text,
        "# mine\ndata_dir = \"d\" # here\n[wallet]\nname = \"miner\" # was\nhotkey = \"bot\"\n"
    );
    let again = run(place, &["wallet", "new-hotkey"]);
    assert!(again.code == 2 && again.err.contains("miner/hotkeys/bot exists"), "{again:?}");
    // What a command names itself comes first.
    let made = ok(&run(place, &["wallet", "new-hotkey", "a/b", "--json"])).json();
    assert_eq!((&made["wallet"], &made["hotkey"]), (&"a".into(), &"b".into()));
    let names = |args: &[&str]| {
        let list = ok(&run(place, args)).json()["wallets"].as_array().unwrap().clone();
        list.iter().map(|w| w["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&["wallet", "list", "--json"]), ["a", "miner"]);
    assert_eq!(names(&["wallet", "list", "a", "--json"]), ["a"]);
    refused(&run(place, &["wallet", "set-default", "--json"]), "usage");
    for name in ["..", "a/..", "a/b/c", "", ".hidden"] {
        let said = run(place, &["wallet", "new-hotkey", "--json", name]);
        assert_eq!(said.code, 2, "{name}: {said:?}");
    }
    let both = ["wallet", "new-hotkey", "a/b", "--wallet.hotkey", "c", "--json"];
    refused(&run(place, &both), "config");
    fs::remove_file(&file).unwrap();
    let mut command = command(place);
    command
        .args(["wallet", "new-hotkey", "--json"])
        .envs([("BT_WALLET_NAME", "bt"), ("BT_WALLET_HOTKEY", "x")]);
    assert!(command.output().unwrap().status.success());
    assert!(wallets(place).join("bt/hotkeys/x").exists());
}

#[test]
fn there_is_no_faucet_and_it_is_said_why() {
    let dir = tempfile::tempdir().unwrap();
    let said = run(dir.path(), &["wallet", "faucet"]);
    assert!(said.code == 1 && said.err.contains("test TAO"), "{said:?}");
}

/// The words on the screen, by their numbers.
fn words(screen: &str) -> Vec<String> {
    let parts: Vec<&str> = screen.split_whitespace().collect();
    let mut words = Vec::new();
    for pair in parts.windows(2) {
        if pair[0] == format!("{}.", words.len() + 1) {
            words.push(pair[1].to_owned());
        }
    }
    words
}

/// Answers the questions for words.
fn prove(terminal: &mut OnTerminal, words: &[String]) {
    for _ in 0..2 {
        terminal.expect("Word ");
        let position: usize =
            terminal.expect(" of it: ").trim_end_matches(" of it: ").parse().unwrap();
        terminal.type_line(&words[position - 1]);
    }
}

/// A text that a terminal broke into lines.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn somebody_at_the_terminal_makes_a_coldkey() {
    let dir = tempfile::tempdir().unwrap();
    let mut terminal = OnTerminal::start(dir.path(), &["wallet", "new-coldkey", "miner"]);
    terminal.expect("Password for ");
    terminal.expect(": ");
    // A typing mistake is taken back by the backspace key.
    terminal.press(b'x');
    terminal.press(127);
    terminal.type_line("pässwörd");
    terminal.expect("The same again: ");
    terminal.type_line("pässwörd");
    let words = words(&terminal.expect("Word "));
    assert_eq!(words.len(), 12);
    // One wrong word may be corrected.
    let position: usize = terminal.expect(" of it: ").trim_end_matches(" of it: ").parse().unwrap();
    terminal.type_line("wrong");
    terminal.expect(&format!("Word {position} of it: "));
    terminal.type_line(&words[position - 1]);
    terminal.expect("Word ");
    let position: usize = terminal.expect(" of it: ").trim_end_matches(" of it: ").parse().unwrap();
    terminal.type_line(&words[position - 1].to_uppercase());
    let said = terminal.end();
    assert_eq!(said.code, 0, "{said:?}");
    assert!(!said.err.contains("pässwörd"), "the password was shown: {}", said.err);
    assert!(one_line(&said.err).contains("whose it is: coldkey of wallet miner."), "{said:?}");
    let key = Key::from_phrase(&words.join(" ")).unwrap();
    assert_eq!(said.out.trim(), key.address());
    let bytes = fs::read(wallets(dir.path()).join("miner/coldkey")).unwrap();
    let opened = keyfile::open(&bytes, Password::new("pässwörd").as_ref()).unwrap();
    assert_eq!(opened.phrase(), key.phrase());
}

#[test]
fn who_did_not_write_the_phrase_down_gets_no_key() {
    let dir = tempfile::tempdir().unwrap();
    let mut terminal = OnTerminal::start(dir.path(), &["wallet", "new-hotkey", "miner"]);
    for _ in 0..3 {
        terminal.expect(" of it: ");
        terminal.type_line("wrong");
    }
    let said = terminal.end();
    assert!(said.code == 1 && said.err.contains("nothing was written"), "{said:?}");
    assert!(
        one_line(&said.err).contains("whose it is: hotkey default of wallet miner."),
        "{said:?}"
    );
    assert!(!wallets(dir.path()).exists());
}

#[test]
fn two_different_passwords_or_ctrl_c_make_no_key() {
    let dir = tempfile::tempdir().unwrap();
    let mut terminal = OnTerminal::start(dir.path(), &["wallet", "new-coldkey", "miner"]);
    terminal.expect("Password for ");
    terminal.type_line("one");
    terminal.expect("The same again: ");
    terminal.type_line("two");
    let said = terminal.end();
    assert!(said.code == 2 && said.err.contains("differ"), "{said:?}");
    let mut terminal = OnTerminal::start(dir.path(), &["wallet", "new-coldkey", "miner"]);
    terminal.expect("Password for ");
    terminal.press(3);
    let said = terminal.end();
    assert!(said.code != 0 && said.err.contains("not answered"), "{said:?}");
    assert!(!wallets(dir.path()).exists());
}

#[test]
fn a_replacement_is_confirmed_at_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let first = run(dir.path(), &["wallet", "new-hotkey", "miner"]);
    let overwrite = ["wallet", "new-hotkey", "miner", "--overwrite"];
    let mut terminal = OnTerminal::start(dir.path(), &overwrite);
    terminal.expect("[y/N] ");
    terminal.type_line("");
    let said = terminal.end();
    assert_eq!(said.code, 1, "{said:?}");
    let path = wallets(dir.path()).join("miner/hotkeys/default");
    assert_eq!(keyfile::address(&fs::read(&path).unwrap()).unwrap(), ok(&first).out.trim());

    let mut terminal = OnTerminal::start(dir.path(), &overwrite);
    terminal.expect("[y/N] ");
    terminal.type_line("y");
    let words = words(&terminal.expect("It is shown once:").replace(' ', "")).len();
    assert_eq!(words, 0);
    let screen = terminal.expect("\r\n\r\n") + &terminal.expect("\r\n\r\n");
    prove(&mut terminal, &self::words(&screen));
    let said = terminal.end();
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(keyfile::address(&fs::read(&path).unwrap()).unwrap(), said.out.trim());
    // A phrase can be restored by typing it, unseen.
    let mut terminal = OnTerminal::start(dir.path(), &["wallet", "regen-hotkey", "typed/h"]);
    terminal.expect("(not shown): ");
    terminal.type_line(PHRASE);
    let said = terminal.end();
    assert!(said.code == 0 && said.out.trim() == ADDRESS, "{said:?}");
    assert!(!said.err.contains("motion"), "{said:?}");
}
