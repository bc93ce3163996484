//! The single looks of `doctor`. Each adds one finding or more and changes nothing.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ArgMatches;
use ptn_core::json::Json;
use ptn_core::ops::config::{ConfigError, Settings, expand_home};
use ptn_core::ops::store::Place;
use ptn_core::ops::wallet;
use ptn_core::store::fs::{FreeSpace, FsOptions, LEAST_INODES};
use ptn_core::store::{FsStore, Pending, SignalStore as _};
use ptn_core::transport::address::AddressPolicy;
use ptn_miner::config::MinerConfig;
use tokio::net::{TcpListener, TcpStream};

use super::Findings;
use crate::commands::signals::RefusedFiles;
use crate::commands::spool;
use crate::text;

/// Less free space than this is worth a warning.
const LOW_SPACE: u64 = 1024 * 1024 * 1024;
/// With less than this nothing will work for long.
const NO_SPACE: u64 = 32 * 1024 * 1024;
/// Nobody has a clock before this: 2025-01-01.
const PLAUSIBLE: i64 = 1_735_689_600_000;
/// `PTN_` variables that are no settings, without the prefix.
const OTHER_ENV: [&str; 2] = ["URL", "API_KEY"];
const REACH: Duration = Duration::from_secs(2);

/// Everything, in the order in which things depend on each other.
pub(super) async fn all(settings: &Settings, matches: &ArgMatches, found: &mut Findings) {
    config(matches, found);
    rules(settings, found);
    let miner = miner_settings(settings, found);
    clock(settings, found);
    let dir = settings.data_dir();
    // A miner on this machine.
    let mut runs = false;
    match Place::from_settings(settings) {
        Ok(Place::Dir(dir, _)) => {
            data_dir(&dir, settings, found).await;
            runs = spool::holder(&dir).is_some();
        }
        Ok(place) => {
            database(&place, settings, found).await;
            runs = super::running::is_miner(settings).await;
        }
        Err(e) => found.fail("store", e.to_string(), "correct it; without it, --data-dir is used"),
    }
    api_keys(&dir, settings, found);
    hotkey(settings, found);
    validators(settings, miner.as_ref(), found).await;
    ports(settings, runs, found).await;
    if runs {
        super::running::look(settings, found).await;
    }
}

fn config(matches: &ArgMatches, found: &mut Findings) {
    let named = matches.get_one::<String>("config").map(PathBuf::from);
    let path = named.unwrap_or_else(|| PathBuf::from("ptn.toml"));
    if path.exists() {
        // It was read and its keys were checked before this runs.
        found.ok("config", format!("{}: every key is known", path.display()));
    } else {
        found.ok("config", "no ptn.toml here: defaults, environment and flags are in force");
    }
}

fn rules(settings: &Settings, found: &mut Findings) {
    match settings.rules() {
        Ok(rules) => {
            let pairs = rules.catalogue.iter().filter(|p| p.blocked.is_none()).count();
            found.ok("rules", format!("{}, {} open trade pairs", rules.era, pairs));
        }
        Err(e) => found.fail("rules", e.to_string(), "correct --rules or the file that it names"),
    }
}

/// Everything that would keep the miner or the server from starting.
fn miner_settings(settings: &Settings, found: &mut Findings) -> Option<MinerConfig> {
    for name in std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()) {
        let Some(tail) = name.strip_prefix("PTN_").filter(|t| !OTHER_ENV.contains(t)) else {
            continue;
        };
        let known: Vec<String> = ptn_core::ops::settings::all().map(|s| s.env()).collect();
        if !known.contains(&name) {
            let meant = known.iter().find(|k| k.ends_with(tail));
            found.warn(
                "settings",
                format!("the environment has {name}, which is no setting"),
                match meant {
                    Some(meant) => format!("did you mean {meant}?"),
                    None => "ptn-cli config show --json lists the names".to_owned(),
                },
            );
        }
    }
    let server = ptn_server::ServerConfig::from_settings(settings).err();
    let (miner, error) = match MinerConfig::from_settings(settings) {
        Ok(miner) => (Some(miner), None),
        Err(e) => (None, Some(e)),
    };
    // These have a look of their own.
    let elsewhere = |e: &ConfigError| match e {
        ConfigError::Value { key, .. } => ["rules.set", "axon.port", "server.listen"].contains(key),
        ConfigError::Rules(_) => true,
        _ => false,
    };
    match error.or(server).filter(|e| !elsewhere(e)) {
        Some(e) => {
            found.fail("settings", e.to_string(), "correct it: nothing starts with it");
        }
        None => found.ok("settings", "every value can be used"),
    }
    miner
}

fn clock(settings: &Settings, found: &mut Findings) {
    let now = text::now();
    if now < PLAUSIBLE {
        found.fail(
            "clock",
            format!("it is {} here", text::date_time(now)),
            "set the clock: validators refuse requests that are more than seconds off",
        );
        return;
    }
    // The newest thing on the disk cannot be from the future.
    let dir = settings.data_dir();
    let newest = ["received_signals", "processed_signals", "failed_signals"]
        .iter()
        .filter_map(|d| fs::metadata(dir.join(d)).and_then(|m| m.modified()).ok())
        .filter_map(|t| t.duration_since(std::time::UNIX_EPOCH).ok())
        .filter_map(|d| i64::try_from(d.as_millis()).ok())
        .max();
    match newest {
        Some(at) if at > now.saturating_add(60_000) => found.warn(
            "clock",
            format!(
                "the data directory was changed at {}, which is in the future",
                text::date_time(at)
            ),
            "see whether the clock was set back: timedatectl",
        ),
        _ => found.ok("clock", text::date_time(now)),
    }
}

async fn database(place: &Place, settings: &Settings, found: &mut Findings) {
    let Ok(rules) = settings.rules() else { return };
    let opened = match place.open(&std::sync::Arc::new(rules)).await {
        Ok(opened) => opened,
        Err(e) => {
            found.fail("store", e.to_string(), "see docs/postgres.md: address, role, network");
            return;
        }
    };
    found.ok("store", format!("{} answers, and its tables are current", opened.name()));
    match spool::deliverer(&opened).await {
        Some(owner) => found.ok("miner", format!("{owner} delivers from it")),
        None => found.warn(
            "miner",
            "nobody delivers from it: signals are kept until a miner starts",
            "start ptn-miner with this --store",
        ),
    }
    match opened.signals().pending().await {
        Ok(p) => waiting(p, found),
        Err(e) => found.fail("store", e.to_string(), "see the server's log"),
    }
    opened.close().await;
}

fn waiting(p: Pending, found: &mut Findings) {
    let oldest = p.oldest_at.map(|at| text::age(at, text::now())).unwrap_or_default();
    let what = text::count(usize::try_from(p.count).unwrap_or(0), "signal");
    let old = p.oldest_at.is_some_and(|at| text::now().saturating_sub(at) > 300_000);
    match p.count {
        0 => found.ok("waiting", "no signal waits"),
        _ if old => found.warn(
            "waiting",
            format!("{what}, the oldest for {oldest}"),
            "see why: ptn-cli signals list --state pending",
        ),
        _ => found.ok("waiting", format!("{what}, the oldest for {oldest}")),
    }
}

async fn data_dir(dir: &Path, settings: &Settings, found: &mut Findings) {
    let shown = dir.display();
    let Ok(metadata) = fs::metadata(dir) else {
        let parent = dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if parent.is_dir() {
            found.warn(
                "data",
                format!("{shown} is not there yet"),
                "the miner, the server or `ptn-cli send` creates it",
            );
        } else {
            found.fail(
                "data",
                format!("{shown} is not there, and {} neither", parent.display()),
                "create the folder above it, or name another --data-dir",
            );
        }
        return;
    };
    if !metadata.is_dir() {
        found.fail("data", format!("{shown} is no directory"), "name another --data-dir");
        return;
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        found.ok("data", format!("{shown}, only for its owner (mode {mode:03o})"));
    } else {
        found.warn(
            "data",
            format!("{shown} can be entered by others (mode {mode:03o})"),
            format!("chmod 700 {shown}"),
        );
    }
    space(dir, settings, found);
    match spool::holder(dir) {
        Some(h) => found.ok("miner", format!("pid {} on {} delivers from it", h.pid, h.host)),
        None => found.warn(
            "miner",
            "nobody delivers from it: signals are kept until a miner starts",
            "start ptn-miner with this --data-dir",
        ),
    }
    if !dir.join(".ptn").is_dir() {
        found.ok("journal", "none yet: no signal was accepted by these tools");
        return;
    }
    let Ok(rules) = settings.rules() else { return };
    let opened = FsStore::open(dir, FsOptions::new(std::sync::Arc::new(rules)));
    let pending = match &opened {
        Ok(store) => store.pending().await.map_err(|e| e.to_string()),
        Err(e) => Err(e.to_string()),
    };
    match pending {
        Err(e) => found.fail(
            "journal",
            e,
            "keep a copy of the data directory before anything else is tried",
        ),
        Ok(p) => {
            found.ok("journal", "readable from its first to its last record");
            waiting(p, found);
        }
    }
    if let Some(files) = RefusedFiles::of(dir) {
        let why = text::harmless(&files.newest.reason());
        let name = text::harmless(&files.newest.name);
        found.warn(
            "refused",
            format!("{}; the newest is {name}: {why}", files.words()),
            format!("{} says what to do; remove what is not needed", files.newest.command()),
        );
    }
    let damaged = dir.join(".ptn").join("journal.damaged");
    if damaged.exists() {
        found.warn(
            "journal",
            "a damaged journal was set aside earlier",
            format!("compare {} with your positions, then move it away", damaged.display()),
        );
    }
}

fn space(dir: &Path, settings: &Settings, found: &mut Findings) {
    let Ok(free) = FreeSpace::of(dir) else { return };
    let least = settings.bytes("spool.min_free").ok().flatten().unwrap_or(0);
    let inodes = free.inodes.map(|n| format!(", {n} inodes")).unwrap_or_default();
    let said = format!("{} free{inodes}", text::bytes(free.bytes));
    if free.inodes.is_some_and(|left| left < LEAST_INODES) {
        found.fail("space", said, "remove files that are not needed from this disk");
    } else if free.is_below(least) || free.bytes < NO_SPACE {
        found.fail(
            "space",
            format!("{said}, and {} are kept for what was accepted", text::bytes(least)),
            "make room, or lower --spool.min-free: until then no signal is accepted (507)",
        );
    } else if free.bytes < LOW_SPACE.max(least.saturating_mul(2)) {
        found.warn("space", said, "make room before it is used up (--spool.min-free)");
    } else {
        found.ok("space", said);
    }
}

fn api_keys(dir: &Path, settings: &Settings, found: &mut Findings) {
    let path = dir.join("miner_secrets.json");
    let shown = path.display();
    let serves = settings.is_set("server.listen") || settings.is_set("server.api_rest_port");
    let users = dir.join("api_keys.json").exists();
    let make = r#"write {"api_key": "<a long random text>"} into it and chmod 600 it; openssl rand -hex 32 makes a good one"#;
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            if users {
                found.ok("api key", "in api_keys.json");
            } else if serves {
                found.fail(
                    "api key",
                    format!("{shown} is not there; the server needs a key"),
                    make,
                );
            } else {
                found.warn(
                    "api key",
                    format!("{shown} is not there; only ptn-server needs one"),
                    make,
                );
            }
            return;
        }
        Err(e) => {
            found.fail("api key", format!("{shown}: {e}"), "make it readable for this user");
            return;
        }
    };
    let key = match Json::parse(&text) {
        Ok(Json::Object(o)) => o.get("api_key").and_then(Json::as_str).map(str::len),
        _ => None,
    };
    let mode = fs::metadata(&path).map_or(0, |m| m.permissions().mode() & 0o777);
    match key {
        None | Some(0) => found.fail("api key", format!("{shown} holds no api_key"), make),
        Some(_) if mode & 0o077 != 0 => found.warn(
            "api key",
            format!("{shown} can be read by others (mode {mode:03o})"),
            format!("chmod 600 {shown}"),
        ),
        Some(n) if n < 16 => found.warn(
            "api key",
            format!("it has only {n} characters"),
            "take a long random one: openssl rand -hex 32",
        ),
        Some(_) => found.ok("api key", format!("{shown}, only for its owner")),
    }
}

fn hotkey(settings: &Settings, found: &mut Findings) {
    let place = match wallet::place(settings) {
        Ok(place) => place,
        Err(e) => return found.fail("hotkey", e.to_string(), "correct the wallet's name"),
    };
    let path = place.hotkey();
    let shown = path.display();
    let state = place.hotkey_state().filter(|state| state.has_secret);
    let Some(state) = state else {
        return found.fail(
            "hotkey",
            format!("{shown} is not there"),
            "name yours with --wallet.name and --wallet.hotkey (and --wallet.path), or make one: \
             ptn-cli wallet new-hotkey",
        );
    };
    let address = state.address.unwrap_or_else(|| "address unknown".to_owned());
    match (state.problem, state.encryption) {
        (Some(problem), _) => {
            found.fail("hotkey", problem, "the message says what to do; the coldkey is never read");
        }
        (None, Some(how)) => {
            let passwords = wallet::Passwords::from_settings(settings, &place);
            match passwords.given(&path) {
                Ok(Some(_)) => found.ok("hotkey", format!("{address}, encrypted ({how})")),
                Ok(None) => found.warn(
                    "hotkey",
                    format!("{address}, encrypted ({how}): ptn-miner asks for the password"),
                    "for a service give --password-file FILE, or set PTN_WALLET_PASSWORD",
                ),
                Err(e) => found.fail("hotkey", e.to_string(), "correct the source of the password"),
            }
        }
        (None, None) => found.ok("hotkey", address),
    }
}

async fn validators(settings: &Settings, miner: Option<&MinerConfig>, found: &mut Findings) {
    let Some(path) = settings.get("validators.file").map(expand_home) else {
        super::chain::look(settings, miner, found).await;
        return;
    };
    let list = match ptn_miner::validators::read(&path) {
        Ok(list) => list,
        Err(e) => {
            found.fail(
                "validators",
                e.to_string(),
                "correct the file; the miner reads it again by itself",
            );
            return;
        }
    };
    found.ok("validators", format!("{} in {}", list.len(), path.display()));
    // On a local network the miner takes the most trusted one.
    if let Some(why) =
        miner.and_then(|m| ptn_miner::validators::lacks_mothership(&list, &m.policy.select))
    {
        found.fail("validators", why, "see docs/operations.md, Validators");
    }
    let local = settings.get("subtensor.network") == Some("local");
    let policy = if local { AddressPolicy::AllowPrivate } else { AddressPolicy::Public };
    let mut tries = Vec::new();
    for v in list {
        let name = format!("{} at {}", text::short_key(&v.hotkey), v.address());
        if let Err(why) = policy.check(v.address()) {
            found.fail(
                "validators",
                format!("{name}: {why}; it would not be called"),
                "only --subtensor.network local may call such addresses",
            );
            continue;
        }
        let connect = tokio::spawn(tokio::time::timeout(REACH, TcpStream::connect(v.address())));
        tries.push((name, connect));
    }
    for (name, connect) in tries {
        let why = match connect.await {
            Ok(Ok(Ok(_))) => {
                found.ok("validators", format!("{name} takes connections"));
                continue;
            }
            Ok(Ok(Err(e))) => e.to_string(),
            Ok(Err(_)) => "no answer within 2 s".to_owned(),
            Err(e) => e.to_string(),
        };
        found.warn(
            "validators",
            format!("{name}: {why}"),
            "signals for it are retried; see whether its address is still right",
        );
    }
}

async fn ports(settings: &Settings, running: bool, found: &mut Findings) {
    let mut wanted: Vec<(&str, SocketAddr)> = Vec::new();
    match settings.parse::<u16>("axon.port", "a port") {
        Ok(Some(port)) if port != 0 => {
            wanted.push(("--axon.port", SocketAddr::from(([127, 0, 0, 1], port))));
        }
        Ok(_) => {}
        Err(e) => found.fail("ports", e.to_string(), "give a port, or 0 for none"),
    }
    if let Some(text) = settings.get("server.listen") {
        match ptn_server::config::parse_listen(text) {
            Ok(address) => wanted.push(("--server.listen", address)),
            Err(e) => {
                let error = settings.bad("server.listen", e).to_string();
                found.fail("ports", error, "give an address and a port");
            }
        }
    }
    for (flag, address) in wanted {
        match TcpListener::bind(address).await {
            Ok(_) => found.ok("ports", format!("{address} ({flag}) is free")),
            // Most likely by the miner that was found above.
            Err(_) if running => {
                found.ok("ports", format!("{address} ({flag}) is in use, and a miner runs"))
            }
            Err(e) => found.warn(
                "ports",
                format!("{address} ({flag}): {e}"),
                format!("stop what uses it, or choose another {flag}"),
            ),
        }
    }
}
