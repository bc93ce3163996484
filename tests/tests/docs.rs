//! The reference pages say what the code does, and the tree keeps its own rules.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use ptn_core::chain::ChainError;
use ptn_core::deliver::verdict;
use ptn_core::ops::settings::{COMMON, GUARD, MINER, SERVER, SERVER_LISTEN, Setting, TAKEOVER};
use ptn_core::signal::SignalErrorCode;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// `PTN_UPDATE_DOCS=1 cargo test -p ptn-tests --test docs` writes it anew.
#[test]
fn the_settings_page_is_current() {
    let mut page = String::from(
        "# Settings\n\nMade from `ptn-core/src/ops/settings.rs`. A later source wins: `ptn.toml` (key), environment, flag.\n",
    );
    for (title, list) in [
        ("Every program", COMMON),
        ("ptn-server", &[SERVER_LISTEN, TAKEOVER][..]),
        ("The HTTP server, in ptn-server and ptn-miner", SERVER),
        ("ptn-miner", MINER),
        ("The risk guard, in ptn-miner, ptn-server and ptn-cli send", GUARD),
    ] {
        write!(page, "\n## {title}\n\n| key in ptn.toml | flag | environment | default | |\n|---|---|---|---|---|\n").unwrap();
        for s in list {
            row(&mut page, s);
        }
    }
    let path = root().join("docs/reference/config.md");
    if std::env::var_os("PTN_UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    assert!(page == std::fs::read_to_string(&path).unwrap(), "docs/reference/config.md is stale");
}

fn row(page: &mut String, s: &Setting) {
    let value = if s.value.is_empty() { String::new() } else { format!(" {}", s.value) };
    let cell = |text: &str| text.replace('|', "\\|");
    let default = s.default.map(|d| format!("`{d}`")).unwrap_or_default();
    writeln!(
        page,
        "| `{}` | `--{}{}` | `{}` | {default} | {} |",
        s.key,
        s.flag,
        cell(&value),
        s.env(),
        cell(s.help)
    )
    .unwrap();
}

#[test]
fn every_code_has_its_cause_and_fix() {
    let page = read("docs/reference/errors.md");
    let store = [
        "uuid_conflict",
        "spool_locked",
        "lease_lost",
        "not_found",
        "wrong_state",
        "disk_full",
        "disk_low",
        "store_io",
        "store_poisoned",
        "store_corrupt",
        "store_unavailable",
        "store_database",
        "store_address",
        "store_schema",
        "store_account",
        "store_in_use",
        "store_moved",
    ];
    let server = ["overloaded", "store_slow", "too_many_pending", "too_many_connections"];
    let wallet = [
        "wallet_password_needed",
        "wallet_wrong_password",
        "wallet_corrupt",
        "wallet_public_only",
        "wallet_unsupported",
        "wallet_mismatch",
        "wallet_memory",
        "wallet_io",
        "wallet_unsafe",
        "wallet_exists",
        "wallet_name",
        "wallet_password",
        "phrase_empty",
        "phrase_word_count",
        "phrase_unknown_word",
        "phrase_checksum",
        "phrase_seed",
        "phrase_derivation",
        "phrase_random",
    ];
    let signal = SignalErrorCode::ALL.iter().map(|c| c.as_str());
    let missing: Vec<&str> = signal
        .chain(verdict::codes())
        .chain(store)
        .chain(server)
        .chain(wallet)
        .chain(ChainError::CODES)
        .filter(|code| !page.contains(&format!("`{code}`")))
        .collect();
    assert!(missing.is_empty(), "docs/reference/errors.md lacks {missing:?}");
}

/// A claim of the threat model stands as long as its test does.
#[test]
fn the_threat_model_names_tests_that_there_are() {
    let page = read("SECURITY.md");
    let text = page.split("```").step_by(2).collect::<String>();
    let sources: String = files(&root(), "rs")
        .into_iter()
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    // A test's name is a sentence; everything else in backticks is shorter or has other characters.
    let is_test = |name: &&str| {
        name.matches('_').count() >= 3
            && name.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit())
    };
    let cells = text.split('`').skip(1).step_by(2);
    let names: Vec<&str> =
        cells.filter_map(|cell| cell.rsplit(": ").next()).filter(is_test).collect();
    assert!(names.len() > 30, "{names:?}");
    let gone: Vec<&&str> =
        names.iter().filter(|name| !sources.contains(&format!("fn {name}("))).collect();
    assert!(gone.is_empty(), "SECURITY.md names tests that are gone: {gone:?}");
}

#[test]
fn the_readme_has_the_two_commands() {
    let readme = read("README.md");
    for command in ["cargo run --release -p ptn-cli -- demo", "cargo test --workspace"] {
        assert!(readme.lines().any(|line| line == command), "{command}");
    }
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut broken = Vec::new();
    for page in files(&root(), "md") {
        let text = std::fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            if !page.parent().unwrap().join(target).exists() {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_source_file_says_what_it_is_for() {
    let silent: Vec<_> = files(&root(), "rs")
        .into_iter()
        .filter(|path| !std::fs::read_to_string(path).unwrap().starts_with("//!"))
        .collect();
    assert!(silent.is_empty(), "{silent:?}");
}

/// The dependency rules of docs/architecture.md.
#[test]
fn modules_know_only_what_they_may() {
    let core = root().join("ptn-core/src");
    let mut broken = Vec::new();
    let mut forbid = |place: &str, words: &[&str]| {
        let folder = core.join(place);
        let mut sources = if folder.is_dir() { files(&folder, "rs") } else { Vec::new() };
        let file = core.join(format!("{place}.rs"));
        if file.exists() {
            sources.push(file);
        }
        assert!(!sources.is_empty(), "{place} is gone");
        for path in sources {
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            let is_code = |line: &&str| !line.trim_start().starts_with("//");
            let code: String = code.lines().filter(is_code).collect();
            for word in words.iter().filter(|word| code.contains(**word)) {
                broken.push(format!("{} uses {word}", path.display()));
            }
        }
    };
    for pure in ["signal", "order", "rules", "trade_pair", "json"] {
        let words = ["std::fs", "SystemTime", "Instant", "tokio", "crate::store", "crate::deliver"];
        forbid(pure, &words);
    }
    forbid("store", &["crate::deliver", "crate::transport"]);
    forbid("transport", &["crate::store::Fs", "crate::store::Signal", "crate::deliver"]);
    forbid("deliver", &["std::fs", "store::fs", "HttpTransport", "SystemTime", "join_all"]);
    for library in ["signal", "store", "deliver", "transport", "sign", "record", "wallet"] {
        forbid(library, &["crate::ops", "println!", "std::env::", "process::exit"]);
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Files with this extension, outside of what is built or fetched.
fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" && name != "mining" {
                found.extend(files(&path, extension));
            }
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found
}
