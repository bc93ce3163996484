//! The list of validators from a file, re-read when the file changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ptn_core::deliver::Select;
use ptn_core::directory::{StaticDirectory, Validator};
use ptn_core::ops::config::{ConfigError, read_text, toml_why};
use ptn_core::sign::ss58;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use tokio_util::sync::CancellationToken;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    validator: Vec<Entry>,
}

/// A validator of the file. A misspelt `v_trust` must not mean that nobody waits for it.
struct Entry(Validator);

const KEYS: [&str; 7] = ["hotkey", "ip", "port", "v_trust", "stake", "permit", "wire"];

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let table = toml::Table::deserialize(deserializer)?;
        if let Some(key) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
            let allowed = KEYS.join(", ");
            return Err(D::Error::custom(format!("unknown key {key}; allowed: {allowed}")));
        }
        table.try_into().map(Self).map_err(|e| D::Error::custom(e.message()))
    }
}

/// Reads a file with one `[[validator]]` per validator.
///
/// # Errors
/// When it cannot be read, is empty, or names a hotkey twice or wrongly.
pub fn read(path: &Path) -> Result<Vec<Validator>, ConfigError> {
    let bad = |why: String| ConfigError::File { path: path.to_owned(), why };
    let text = read_text(path).map_err(|e| match e {
        ConfigError::File { path, why } => {
            let next = match path.exists() {
                true => "",
                false => {
                    "; write it as docs/operations.md shows (Validators by hand), let `ptn-cli listen --write` or `ptn-cli paper run --write` write one, or leave --validators out: then they come from the chain"
                }
            };
            ConfigError::File { path, why: format!("{why} (named by --validators){next}") }
        }
        e => e,
    })?;
    let file: File = toml::from_str(&text).map_err(|e| bad(toml_why(&text, &e)))?;
    let list: Vec<Validator> = file.validator.into_iter().map(|entry| entry.0).collect();
    if list.is_empty() {
        return Err(bad("no [[validator]] in it: add one with hotkey, ip and port".to_owned()));
    }
    for (i, v) in list.iter().enumerate() {
        let place = |what: &str| bad(format!("validator {} ({}): {what}", i + 1, v.hotkey));
        ss58::decode(&v.hotkey).map_err(|e| place(&format!("hotkey: {e}")))?;
        if v.port == 0 {
            return Err(place("port: 1 to 65535 is allowed"));
        }
        if !(0.0..=1.0).contains(&v.v_trust) {
            return Err(place("v_trust: a fraction from 0 to 1 is expected"));
        }
        if list.iter().take(i).any(|other| other.hotkey == v.hotkey) {
            return Err(place("this hotkey is in the list twice"));
        }
    }
    Ok(list)
}

/// Says so when nobody of this list could acknowledge, because the mothership is not in it.
pub fn lacks_mothership(list: &[Validator], select: &Select) -> Option<String> {
    let Select::Mothership(hotkey) = select else { return None };
    let missing = !hotkey.is_empty() && !list.iter().any(|v| v.hotkey == *hotkey);
    missing.then(|| {
        format!(
            "the mothership {hotkey} is not in the list, so every signal fails; add it, name \
             another with --delivery.mothership, or choose --delivery.policy trust or all"
        )
    })
}

/// Follows the file: a list that cannot be read is reported and the last good one kept.
pub(crate) async fn follow(
    path: PathBuf,
    directory: Arc<StaticDirectory>,
    stop: CancellationToken,
) {
    let stamp =
        |path: &Path| std::fs::metadata(path).and_then(|m| Ok((m.modified()?, m.len()))).ok();
    let mut seen = stamp(&path);
    let mut last = seen;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(Duration::from_secs(2)) => {}
        }
        let now = stamp(&path);
        // A file that is being written can read as a shorter list, and who is missing from it
        // loses what waits for him: it counts once it has not changed between two looks.
        let settled = std::mem::replace(&mut last, now) == now;
        if now == seen || !settled {
            continue;
        }
        seen = now;
        match read(&path) {
            Ok(list) => {
                tracing::info!(validators = list.len(), "list of validators read again");
                directory.replace(list);
            }
            Err(e) => tracing::warn!("the old list of validators stays in use: {e}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use ptn_core::directory::ValidatorDirectory as _;

    use super::*;

    fn entry(hotkey: &str) -> String {
        format!("[[validator]]\nhotkey = \"{hotkey}\"\nip = \"192.0.2.1\"\nport = 8091\n")
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_in_the_making_is_not_taken() {
        let both = [
            "5FeNwZ5oAqcJMitNqGx71vxGRWJhsdTqxFGVwPRfg8h2UZmo",
            "5HUGc9tvc9kxrhGdc3rz36dBAEvoqSbJMcGQSTsZSt1F1TkJ",
        ];
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("validators.toml");
        std::fs::write(&path, both.map(entry).concat()).unwrap();
        let directory = Arc::new(StaticDirectory::new(read(&path).unwrap()));
        let mut lists = directory.watch();
        let task =
            tokio::spawn(follow(path.clone(), Arc::clone(&directory), CancellationToken::new()));
        tokio::time::sleep(Duration::from_secs(1)).await;
        // Cut at an entry, as an editor that writes in pieces leaves it for a moment.
        std::fs::write(&path, entry(both[0])).unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        std::fs::write(&path, both.map(entry).concat() + "v_trust = 0.5\n").unwrap();
        lists.changed().await.unwrap();
        let trust: Vec<f64> = lists.borrow_and_update().iter().map(|v| v.v_trust).collect();
        assert_eq!(trust.len(), 2);
        assert!(trust.contains(&0.5), "{trust:?}");
        task.abort();
    }
}
