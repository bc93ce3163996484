//! The command line itself: help, mistakes, exit codes, pipes, settings.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a failed expectation is how a test fails"
)]

mod common;

use std::io::Read as _;
use std::process::Stdio;

use common::{command, run};

#[test]
fn help_of_every_command_fits_and_names_the_exit_codes() {
    let dir = tempfile::tempdir().unwrap();
    let top = run(dir.path(), &["--help"]);
    assert_eq!(top.code, 0);
    for text in ["ptn-cli demo", "75  try again later", " 6  maybe sent", "NO_COLOR"] {
        assert!(top.out.contains(text), "{text}");
    }
    assert!(!top.out.contains("Arguments of"), "{}", top.out);
    for name in ["demo", "send", "trigger", "listen", "doctor", "completions", "man"] {
        assert!(top.out.contains(&format!("  {name} ")), "{name}");
        let help = run(dir.path(), &[name, "--help"]);
        assert_eq!((help.code, help.err.as_str()), (0, ""), "{name}");
    }
    for name in ["list", "show", "retry", "cancel", "tail", "receipt", "verify", "migrate"] {
        let help = run(dir.path(), &["signals", name, "--help"]);
        assert_eq!(help.code, 0, "{name}");
        // Where signals are, and nothing that is the same everywhere.
        assert!(help.out.contains("--data-dir") && help.out.contains("--store "), "{help:?}");
        assert!(help.out.contains("ptn-cli config show --help"), "{help:?}");
        assert!(!help.out.contains("--rules.unknown-pairs"), "{help:?}");
    }
    let hidden = ["signals", "list", "--rules.unknown-pairs", "pass", "--logging.format", "json"];
    assert!(run(dir.path(), &hidden).err.contains("no data directory"));
}

#[test]
fn mistakes_end_with_2_and_say_what_was_meant() {
    let dir = tempfile::tempdir().unwrap();
    for (args, part) in [
        (&["sned"][..], "send"),
        (&["send", "--levrage", "1"], "--leverage"),
        (&["send", "BTCUSDC", "long", "0.1x", "--leverage", "1"], "twice"),
        (&["send"], "what is to be sent"),
        (&["send", "BTCUSDC", "long"], "$1000 (value)"),
        (&["signals"], "list"),
        (&["signals", "list"], "no data directory"),
        (&["signals", "list", "--state", "lost"], "pending, processed, failed"),
        (&["demo", "--rules", "2023"], "2024, 2025, 2026"),
        (&["demo", "--validators", "0"], "1..=64"),
        (&["send", "BTCUSDC", "long", "0.1x", "--url", "http://h:1"], "PTN_API_KEY"),
        (&["send", "BTCUSDC", "long", "0.1x", "--api-key", "k"], "--api-key-file"),
        (&["trigger", "limit", "--rules", "2024"], "no limit orders"),
        (&["config", "show", "--config", "none.toml"], "none.toml"),
    ] {
        let said = run(dir.path(), args);
        assert_eq!(said.code, 2, "{args:?} {said:?}");
        assert!(said.err.contains(part), "{args:?} {said:?}");
    }
    let said = run(dir.path(), &["--json", "sned"]);
    assert_eq!(said.json()["error"]["code"], "usage");
}

#[test]
fn exit_codes_tell_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("key"), "secret\n").unwrap();
    let unreachable =
        ["send", "BTCUSDC", "long", "0.1x", "--url", "http://127.0.0.1:1", "--api-key-file", "key"];
    let said = run(dir.path(), &unreachable);
    assert_eq!(said.code, 4, "{said:?}");
    assert!(!said.err.contains("secret"));
    let send = |size| run(dir.path(), &["send", "BTCUSDC", "long", size, "--order-uuid", "a-1"]);
    assert_eq!(send("0.1x").code, 0);
    assert_eq!(send("0.1x").code, 0);
    let other = send("0.2x");
    assert_eq!(other.code, 5, "{other:?}");
    let wait = ["send", "BTCUSDC", "long", "1x", "--wait", "--timeout", "10ms"];
    assert_eq!(run(dir.path(), &wait).code, 75);
    assert_eq!(run(dir.path(), &["signals", "show", "nobody"]).code, 2);
    assert_eq!(run(dir.path(), &["signals", "retry", "a-1"]).code, 1);
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    for args in [&["completions", "bash"][..], &["config", "show"], &["man"], &["--help"]] {
        let mut child = command(dir.path())
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let mut err = String::new();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{args:?} {err}");
        assert_eq!(err, "", "{args:?}");
    }
}

#[test]
fn a_full_disk_behind_stdout_is_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = command(dir.path()).args(["config", "show"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("stdout cannot be written"));
}

#[test]
fn settings_say_where_they_came_from() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ptn.toml"), "[rules]\nset = 2025\n[wallet]\nname = \"a\"\n")
        .unwrap();
    let output = command(dir.path())
        .args(["config", "show", "--json", "--wallet.hotkey", "h"])
        .env("PTN_WALLET_NAME", "b")
        .output()
        .unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let entry = |key: &str| {
        let list = shown["settings"].as_array().unwrap();
        list.iter().find(|s| s["key"] == key).unwrap().clone()
    };
    assert_eq!(
        (entry("rules.set")["value"].clone(), entry("rules.set")["origin"].clone()),
        ("2025".into(), "ptn.toml".into())
    );
    assert_eq!(
        (entry("wallet.name")["value"].clone(), entry("wallet.name")["origin"].clone()),
        ("b".into(), "PTN_WALLET_NAME".into())
    );
    assert_eq!(entry("wallet.hotkey")["origin"], "--wallet.hotkey");
    let plain = run(dir.path(), &["config", "show"]).out;
    let line = plain.lines().find(|l| l.starts_with("delivery.max_age ")).unwrap();
    assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["delivery.max_age", "5m", "default"]);
    std::fs::write(dir.path().join("ptn.toml"), "[wallet]\nnam = \"a\"\n").unwrap();
    let said = run(dir.path(), &["config", "show"]);
    assert!(said.code == 2 && said.err.contains("did you mean wallet.name"), "{said:?}");
}

#[test]
fn a_fresh_settings_file_changes_nothing_and_is_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let before = run(dir.path(), &["config", "show"]).out;
    assert_eq!(run(dir.path(), &["config", "init", "ptn.toml"]).code, 0);
    assert_eq!(run(dir.path(), &["config", "show"]).out, before);
    assert_eq!(run(dir.path(), &["config", "init", "ptn.toml"]).code, 2);
    let printed = run(dir.path(), &["config", "init"]).out;
    assert_eq!(printed, std::fs::read_to_string(dir.path().join("ptn.toml")).unwrap());
    // With every comment of a setting removed the keys are all known.
    let is_setting = |l: &str| l.starts_with('#') && !l.starts_with("# ");
    let active: String = printed
        .lines()
        .map(|l| if is_setting(l) { format!("{}\n", &l[1..]) } else { format!("{l}\n") })
        .collect();
    std::fs::write(dir.path().join("all.toml"), active).unwrap();
    let said = run(dir.path(), &["config", "show", "--config", "all.toml"]);
    assert_eq!(said.code, 0, "{said:?}");
}

#[test]
fn doctor_finds_what_is_missing_and_what_is_open() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dead_end = format!("ws://{free}");
    let nobody = ["--axon.port", "0", "--subtensor.chain_endpoint", &dead_end];
    let said = run(dir.path(), &[&["doctor", "--json"][..], &nobody].concat());
    assert_eq!(said.code, 1);
    for part in [&dead_end, "saved list", "--validators FILE"] {
        assert!(said.out.contains(part), "{part}: {said:?}");
    }
    let report = said.json();
    let level = |report: &serde_json::Value, check: &str| {
        let list = report["checks"].as_array().unwrap().clone();
        list.iter().find(|c| c["check"] == check).map(|c| c["level"].clone()).unwrap_or_default()
    };
    assert_eq!(level(&report, "hotkey"), "fail");
    let hotkeys = dir.path().join("w/default/hotkeys");
    std::fs::create_dir_all(&hotkeys).unwrap();
    let key = ptn_core::sign::Hotkey::generate();
    let file = hotkeys.join("default");
    std::fs::write(&file, key.to_keyfile_json()).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::create_dir(dir.path().join("mining")).unwrap();
    let secrets = dir.path().join("mining/miner_secrets.json");
    std::fs::write(&secrets, r#"{"api_key":"0123456789abcdef-secret"}"#).unwrap();
    std::fs::set_permissions(&secrets, PermissionsExt::from_mode(0o644)).unwrap();
    let list = "[[validator]]\nhotkey = \"5HUGc9tvc9kxrhGdc3rz36dBAEvoqSbJMcGQSTsZSt1F1TkJ\"\nip = \"127.0.0.1\"\nport = 1\n";
    std::fs::write(dir.path().join("v.toml"), list).unwrap();
    let args = [
        "doctor",
        "--json",
        "--wallet.path",
        "w",
        "--validators",
        "v.toml",
        "--axon.port",
        "0",
        "--subtensor.network",
        "local",
    ];
    let said = run(dir.path(), &args);
    let report = said.json();
    assert_eq!(said.code, 0, "{report}");
    assert_eq!(level(&report, "hotkey"), "ok", "{report}");
    assert_eq!(level(&report, "api key"), "warn", "{report}");
    assert!(said.out.contains(key.address()) && !said.out.contains("secret\""));
    let finney = run(
        dir.path(),
        &["doctor", "--wallet.path", "w", "--validators", "v.toml", "--axon.port", "0"],
    );
    assert_eq!(finney.code, 1, "{finney:?}");
    for part in ["loopback", "mothership", "--delivery.policy"] {
        assert!(finney.out.contains(part), "{part}: {finney:?}");
    }
    // Whatever keeps the miner from starting is found here first.
    for (flag, value, part) in [
        ("--delivery.policy", "most", "mothership, trust, all"),
        ("--delivery.waits", "soon", "5s,10s"),
        ("--subtensor.network", "nett", "finney"),
        ("--server.key-rate", "x", "100/200"),
        ("--axon.port", "x", "a port"),
    ] {
        let said = run(dir.path(), &[&args[..], &[flag, value]].concat());
        let findings = said.json()["checks"].as_array().unwrap().clone();
        let fails = findings.iter().filter(|c| c["level"] == "fail");
        let named = |c: &serde_json::Value| c["message"].as_str().unwrap().contains(part);
        assert_eq!(fails.filter(|c| named(c)).count(), 1, "{flag}: {said:?}");
        assert_eq!(said.code, 1);
    }
    let said = common::command(dir.path()).args(args).env("PTN_LIMITS", "off").output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains("PTN_LIMITS") && said.contains("PTN_SERVER_LIMITS"), "{said}");
}

#[test]
fn completions_and_manual_pages_are_made() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let said = run(dir.path(), &["completions", shell]);
        assert!(said.code == 0 && said.out.contains("signals"), "{shell}");
    }
    assert_eq!(run(dir.path(), &["man", "pages"]).code, 0);
    for page in ["ptn-cli.1", "ptn-cli-send.1", "ptn-cli-signals-list.1"] {
        assert!(dir.path().join("pages").join(page).exists(), "{page}");
    }
}

#[test]
fn every_sample_is_valid_and_alerts_have_placeholders() {
    let dir = tempfile::tempdir().unwrap();
    for rules in ["2024", "2025", "2026"] {
        let said = run(dir.path(), &["trigger", "all", "--print", "--rules", rules]);
        assert_eq!(said.code, 0, "{said:?}");
        let bodies: Vec<&str> = said.out.lines().collect();
        assert!(bodies.len() >= if rules == "2026" { 9 } else { 3 }, "{rules}: {}", bodies.len());
        for body in bodies {
            let args = ["send", "--check", "--json", "--file", "-", "--rules", rules];
            let judged = common::run_with(dir.path(), &args, body.as_bytes());
            assert_eq!(judged.code, 0, "{rules} {body} {judged:?}");
        }
    }
    let alert = run(dir.path(), &["trigger", "market_long", "--print-alert"]).json();
    assert_eq!(alert["order_type"], "{{strategy.market_position}}");
    assert_eq!(alert["leverage"], "{{strategy.order.comment}}");
    // What is said about placeholders is said where there are some.
    let says_pine = |sample| {
        let said = run(dir.path(), &["trigger", sample, "--print-alert"]);
        said.err.contains("Pine")
    };
    assert!(says_pine("market-short") && !says_pine("flat-all") && !says_pine("limit"));
    assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none(), "printing stored something");
}

/// What a command writes to a terminal of a size.
fn on_a_terminal(args: &[&str], size: (u16, u16), env: &[(&str, &str)]) -> String {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let dir = tempfile::tempdir().unwrap();
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let (ws_col, ws_row) = size;
    let size = rustix::termios::Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&ours, size).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
    let theirs = std::fs::OpenOptions::new().read(true).write(true).open(name).unwrap();
    let mut child = command(dir.path())
        .args(args)
        .envs(env.iter().copied())
        .stdout(theirs)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // The child has the only open end of its side, so reading ends with it: with EIO.
    let mut text = Vec::new();
    std::fs::File::from(ours).read_to_end(&mut text).ok();
    assert!(child.wait().unwrap().success());
    String::from_utf8(text).unwrap()
}

#[test]
fn colours_only_on_a_terminal_that_wants_them() {
    let args = ["config", "show"];
    assert!(on_a_terminal(&args, (80, 24), &[]).contains('\u{1b}'));
    assert!(!on_a_terminal(&args, (80, 24), &[("NO_COLOR", "1")]).contains('\u{1b}'));
    assert!(!on_a_terminal(&args, (80, 24), &[("TERM", "dumb")]).contains('\u{1b}'));
    assert!(!on_a_terminal(&["config", "show", "--json"], (80, 24), &[]).contains('\u{1b}'));
}

#[test]
fn the_demo_draws_over_its_table_only_where_it_fits() {
    let up = "A\r\u{1b}[2K";
    let args = ["demo", "--signals", "2"];
    assert!(on_a_terminal(&args, (80, 24), &[]).contains(up));
    assert!(!on_a_terminal(&args, (60, 24), &[]).contains(up));
}
