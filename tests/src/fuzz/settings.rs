//! Settings, lists of validators, rules, price files and pushed prices, the saved metagraph.
//!
//! The first byte chooses; the rest is the file or body.

use std::cell::RefCell;
use std::path::PathBuf;

use clap::Command;
use ptn_core::chain::MetagraphCache;
use ptn_core::directory::Validator;
use ptn_core::ops::config::{Settings, parse_duration, with_flags};
use ptn_core::ops::settings::SERVER;
use ptn_core::paper::prices::push::{PushLimits, read};
use ptn_core::paper::prices::{CsvPrices, PriceSource as _, Tick};
use ptn_core::rules::Rules;
use ptn_server::{Network, ServerConfig};

use super::{ERAS, readable};

/// See the module.
pub fn settings(data: &[u8]) {
    let Some((selector, bytes)) = data.split_first() else { return };
    match selector % 8 {
        0 => ptn_toml(bytes),
        1 => validators(bytes),
        2 => rules(bytes, true),
        3 => rules(bytes, false),
        4 => price_file(bytes),
        5 => pushed(bytes),
        6 => values(bytes),
        _ => saved_metagraph(bytes),
    }
}

thread_local! {
    static FOLDER: RefCell<Option<tempfile::TempDir>> = const { RefCell::new(None) };
}

/// A file of the given content, in memory where the system has a folder for that.
fn file(name: &str, bytes: &[u8]) -> PathBuf {
    FOLDER.with_borrow_mut(|folder| {
        let folder = folder.get_or_insert_with(super::spool::folder);
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(&path, bytes).expect("a file");
        path
    })
}

/// What was refused says which file, in one line.
fn names_the_file(path: &std::path::Path, error: &dyn std::fmt::Display) {
    let text = error.to_string();
    assert!(text.contains(&*path.to_string_lossy()), "{text}");
    assert!(text.len() <= super::LONGEST_ERROR, "{} bytes", text.len());
    assert!(!text.contains('\n'), "{text:?}");
}

fn ptn_toml(bytes: &[u8]) {
    let path = file("ptn.toml", bytes);
    let command = with_flags(Command::new("fuzz"), &[SERVER]);
    let matches = command
        .try_get_matches_from(["fuzz", "--config", &path.to_string_lossy()])
        .expect("these flags");
    match Settings::resolve(&[SERVER], &matches) {
        Ok(settings) => {
            if let Err(error) = ServerConfig::from_settings(&settings) {
                readable(&error);
            }
        }
        Err(error) => names_the_file(&path, &error),
    }
}

fn validators(bytes: &[u8]) {
    let path = file("validators.toml", bytes);
    match ptn_miner::validators::read(&path) {
        Ok(list) => {
            assert!(!list.is_empty());
            for v in &list {
                assert!(v.port != 0 && (0.0..=1.0).contains(&v.v_trust), "{v:?}");
            }
            let text: String = list.iter().map(entry).collect();
            let path = file("again.toml", text.as_bytes());
            let again =
                ptn_miner::validators::read(&path).unwrap_or_else(|e| panic!("{e}\n{text}"));
            assert_eq!(again, list, "{text}");
        }
        Err(error) => names_the_file(&path, &error),
    }
}

/// As a file would say it.
fn entry(v: &Validator) -> String {
    let Validator { hotkey, ip, port, v_trust, stake, permit, wire } = v;
    format!(
        "[[validator]]\nhotkey = \"{hotkey}\"\nip = \"{ip}\"\nport = {port}\nv_trust = {v_trust:?}\n\
         stake = {stake:?}\npermit = {permit}\nwire = \"{}\"\n",
        wire.as_str()
    )
}

fn rules(bytes: &[u8], of_rules: bool) {
    let Some((era, text)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let era = ERAS[usize::from(*era) % ERAS.len()];
    let read = if of_rules {
        Rules::from_files(era, Some(text), None)
    } else {
        Rules::from_files(era, None, Some(text))
    };
    match read {
        Ok(rules) => {
            assert_eq!(rules.era, era);
            // A catalogue that was taken can be searched.
            let _ = rules.catalogue.suggest("BTCUSD");
            drop(ptn_core::signal::Signal::from_json(
                br#"{"trade_pair":"BTCUSD","order_type":"LONG","leverage":0.1}"#,
                &rules,
            ));
        }
        Err(error) => assert!(error.to_string().len() <= super::LONGEST_ERROR),
    }
}

fn price_file(bytes: &[u8]) {
    let mut file = match CsvPrices::new(bytes) {
        Ok(file) => file,
        Err(error) => return readable(&error),
    };
    let mut last = i64::MIN;
    let mut ticks: usize = 0;
    loop {
        match file.next_tick() {
            Ok(Some(tick)) => {
                good(&tick);
                assert!(tick.at_ms >= last, "{} after {last}", tick.at_ms);
                last = tick.at_ms;
                ticks += 1;
                assert!(ticks <= 4 * bytes.len(), "{ticks} prices of {} bytes", bytes.len());
            }
            Ok(None) => return,
            Err(error) => return readable(&error),
        }
    }
}

fn pushed(bytes: &[u8]) {
    const NOW: i64 = 1_780_000_000_000;
    let limits = PushLimits::default();
    match read(bytes, NOW, &limits) {
        Ok(ticks) => {
            assert!(!ticks.is_empty() && ticks.len() <= limits.most_rows);
            ticks.iter().for_each(|tick| {
                good(tick);
                assert!(tick.at_ms <= NOW + limits.most_ahead_ms, "{tick:?}");
            });
        }
        Err(error) => readable(&error),
    }
}

/// A price that arithmetic can be done with.
fn good(tick: &Tick) {
    for price in [Some(tick.price), tick.bid, tick.ask].into_iter().flatten() {
        assert!(price.is_finite() && price > 0.0, "{tick:?}");
    }
    assert!(tick.at_ms >= 0 && tick.bid.zip(tick.ask).is_none_or(|(b, a)| b <= a), "{tick:?}");
    assert_eq!(tick.flaw(), None, "{tick:?}");
}

/// Single values: times, networks, every setting of the server.
fn values(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(duration) = parse_duration(text) {
        // Whoever waits for it adds it to the time of day.
        assert!(std::time::Instant::now().checked_add(duration).is_some(), "{text:?}");
    }
    if let Ok(networks) = Network::parse_list(text) {
        for network in networks {
            let shown = network.to_string();
            assert_eq!(shown.parse::<Network>().map(|n| n.to_string()), Ok(shown));
        }
    }
    drop(ptn_server::config::parse_listen(text));
    drop(text.parse::<ptn_core::chain::Rao>());
    drop(text.parse::<ptn_core::paper::prices::PriceSpec>());
    for setting in SERVER {
        let mut config = ServerConfig::default();
        drop(config.set(setting.key, text));
    }
}

fn saved_metagraph(bytes: &[u8]) {
    let folder = file("cache/.ptn/metagraph-8.json", bytes);
    let folder = folder.parent().and_then(std::path::Path::parent).expect("two folders up");
    let cache = MetagraphCache::new(folder, 8);
    match cache.load() {
        Ok(found) => {
            let metagraph = found.expect("there is a file");
            cache.save(&metagraph).expect("saved");
            assert_eq!(cache.load().expect("our own"), Some(metagraph));
        }
        Err(error) => assert!(error.to_string().len() <= super::LONGEST_ERROR),
    }
}
