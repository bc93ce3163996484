//! Settings from three layers: `ptn.toml`, then environment, then flags; the later wins.
//!
//! Every value knows where it came from. Unknown keys of the file are errors with a suggestion:
//! a misspelt limit must not be silently ignored.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::settings::{self, Setting};
use crate::rules::{Era, Rules, RulesError, UnknownPairs};
use crate::text::distance;

/// Why the configuration was refused; the text names the setting and what is allowed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A value cannot be used.
    #[error("{origin}: {key} = {value:?}: {why}")]
    Value {
        /// The setting's key.
        key: &'static str,
        /// What was given.
        value: String,
        /// Where it was given.
        origin: Origin,
        /// What is allowed.
        why: String,
    },
    /// A setting is needed and missing.
    #[error("--{flag} is needed: {why}")]
    Missing {
        /// The flag.
        flag: &'static str,
        /// What for.
        why: String,
    },
    /// A file cannot be read.
    #[error("{path}: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A data file was refused.
    #[error(transparent)]
    Rules(#[from] RulesError),
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// `ptn.toml`.
    File(PathBuf),
    /// An environment variable.
    Env(String),
    /// A flag.
    Flag(&'static str),
}

impl Origin {
    /// A higher one wins.
    pub fn rank(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File(_) => 1,
            Self::Env(_) => 2,
            Self::Flag(_) => 3,
        }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Env(name) => f.write_str(name),
            Self::Flag(flag) => write!(f, "--{flag}"),
        }
    }
}

/// Adds the settings to a command as flags.
pub fn with_flags(mut command: Command, list: &[&'static [Setting]]) -> Command {
    let config = Arg::new("config").long("config").value_name("FILE");
    command = command.arg(config.help("Settings file (default: ./ptn.toml when it is there)"));
    for s in list.iter().flat_map(|l| l.iter()) {
        let env = format!("[{}]", s.env());
        let help = match s.default {
            Some(default) => format!("{} [default: {default}] {env}", s.help),
            None => format!("{} {env}", s.help),
        };
        let arg = Arg::new(s.key).long(s.flag).aliases(s.aliases.iter().copied()).help(help);
        // As argparse does it: of a repeated flag the last one counts. Entries of a table add up.
        let arg = if s.is_table() { arg } else { arg.overrides_with(s.key) };
        command = command.arg(if s.value.is_empty() {
            arg.action(ArgAction::SetTrue)
        } else {
            let action = if s.is_table() { ArgAction::Append } else { ArgAction::Set };
            arg.value_name(s.value).action(action)
        });
    }
    command
}

/// The resolved settings.
#[derive(Clone)]
pub struct Settings {
    values: BTreeMap<&'static str, (String, Origin)>,
    known: Vec<&'static Setting>,
    /// What the file says to other programs.
    others: Vec<(String, String)>,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = self.values.iter().map(|(key, (value, _))| (key, shown(key, value)));
        f.debug_map().entries(shown).finish()
    }
}

impl Settings {
    /// Resolves file, environment and flags.
    ///
    /// # Errors
    /// When the file cannot be read or has unknown keys.
    pub fn resolve(list: &[&'static [Setting]], matches: &ArgMatches) -> Result<Self, ConfigError> {
        let known: Vec<&'static Setting> = list.iter().flat_map(|l| l.iter()).collect();
        let mut values = BTreeMap::new();
        for s in &known {
            if let Some(default) = s.default {
                values.insert(s.key, (default.to_owned(), Origin::Default));
            }
        }
        let named = matches.get_one::<String>("config").map(PathBuf::from);
        let path = named.clone().unwrap_or_else(|| PathBuf::from("ptn.toml"));
        let mut others = Vec::new();
        if named.is_some() || path.exists() {
            for (key, value) in read_file(&path)? {
                if let Some(s) = known.iter().find(|s| s.key == key) {
                    values.insert(s.key, (value, Origin::File(path.clone())));
                } else {
                    others.push((key, value));
                }
            }
        }
        for s in &known {
            for name in s.bittensor_env().into_iter().map(str::to_owned).chain([s.env()]) {
                if let Ok(value) = std::env::var(&name) {
                    values.insert(s.key, (value, Origin::Env(name)));
                }
            }
            if s.value.is_empty() {
                if matches.get_flag(s.key) {
                    values.insert(s.key, ("on".to_owned(), Origin::Flag(s.flag)));
                }
            } else if let Some(given) = matches.get_many::<String>(s.key) {
                let value = given.map(String::as_str).collect::<Vec<_>>().join(",");
                values.insert(s.key, (value, Origin::Flag(s.flag)));
            }
        }
        Ok(Self { values, known, others })
    }

    /// Sets a value as if its flag had been given.
    pub fn set(&mut self, key: &'static str, value: &str, flag: &'static str) {
        self.values.insert(key, (value.to_owned(), Origin::Flag(flag)));
    }

    /// Every setting with its value as it may be shown and its origin, for `config show`.
    pub fn entries(&self) -> impl Iterator<Item = (&'static Setting, Option<(String, &Origin)>)> {
        self.known.iter().map(|s| {
            let found = self.values.get(s.key);
            (*s, found.map(|(value, origin)| (shown(s.key, value), origin)))
        })
    }

    /// The value as text.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(|(value, _)| value.as_str())
    }

    /// Whether someone set it.
    pub fn is_set(&self, key: &str) -> bool {
        self.values.get(key).is_some_and(|(_, origin)| *origin != Origin::Default)
    }

    /// What somebody set for any of the programs: also a setting that this one does not have, which
    /// the shared file or the environment tells another one.
    pub fn set_for_any(&self, key: &str) -> Option<String> {
        if self.is_set(key) {
            return self.get(key).map(str::to_owned);
        }
        let setting = settings::all().find(|s| s.key == key)?;
        std::env::var(setting.env()).ok().or_else(|| {
            let found = self.others.iter().find(|(other, _)| other == key);
            found.map(|(_, value)| value.clone())
        })
    }

    /// Where a value came from.
    pub fn origin(&self, key: &str) -> &Origin {
        self.values.get(key).map_or(&Origin::Default, |(_, origin)| origin)
    }

    /// An error about a setting's value.
    pub fn bad(&self, key: &'static str, why: impl Into<String>) -> ConfigError {
        let (value, origin) = match self.values.get(key) {
            Some((value, origin)) => (shown(key, value), origin.clone()),
            None => (String::new(), Origin::Default),
        };
        ConfigError::Value { key, value, origin, why: why.into() }
    }

    /// The value, read as a `T`.
    ///
    /// # Errors
    /// When it cannot be read; the error says what is expected.
    pub fn parse<T: std::str::FromStr>(
        &self,
        key: &'static str,
        expected: &str,
    ) -> Result<Option<T>, ConfigError> {
        self.get(key)
            .map(|text| {
                text.trim().parse().map_err(|_| self.bad(key, format!("expected {expected}")))
            })
            .transpose()
    }

    /// `on` or `off` (also true/false, yes/no, 1/0).
    ///
    /// # Errors
    /// When it is something else.
    pub fn switch(&self, key: &'static str) -> Result<Option<bool>, ConfigError> {
        let read = |text| parse_switch(text).ok_or_else(|| self.bad(key, "allowed: on, off"));
        self.get(key).map(read).transpose()
    }

    /// A duration such as `30s`, `5m`, `250ms`, `2h`; a bare number is seconds.
    ///
    /// # Errors
    /// When it is something else.
    pub fn duration(&self, key: &'static str) -> Result<Option<Duration>, ConfigError> {
        self.get(key)
            .map(|text| {
                parse_duration(text)
                    .ok_or_else(|| self.bad(key, "expected a duration such as 30s, 5m or 250ms"))
            })
            .transpose()
    }

    /// A number of bytes such as `256MiB`, `1GiB` or `4096`.
    ///
    /// # Errors
    /// When it is something else.
    pub fn bytes(&self, key: &'static str) -> Result<Option<u64>, ConfigError> {
        self.get(key)
            .map(|text| {
                parse_bytes(text)
                    .ok_or_else(|| self.bad(key, "expected a size such as 256MiB, 1GiB or 4096"))
            })
            .transpose()
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        expand_home(self.get("data_dir").unwrap_or("./mining"))
    }

    /// The rule set that the settings name.
    ///
    /// # Errors
    /// When a name is unknown or a file cannot be read.
    pub fn rules(&self) -> Result<Rules, ConfigError> {
        let name = self.get("rules.set").unwrap_or("2026");
        let era =
            Era::parse(name).ok_or_else(|| self.bad("rules.set", "allowed: 2024, 2025, 2026"))?;
        let read = |key: &str| self.get(key).map(|p| read_text(&expand_home(p))).transpose();
        let (file, pairs) = (read("rules.file")?, read("rules.trade_pairs")?);
        let mut rules = Rules::from_files(era, file.as_deref(), pairs.as_deref())?;
        rules.unknown_pairs = match self.get("rules.unknown_pairs") {
            None | Some("refuse") => UnknownPairs::Refuse,
            Some("pass") => UnknownPairs::Pass,
            Some(_) => return Err(self.bad("rules.unknown_pairs", "allowed: refuse, pass")),
        };
        Ok(rules)
    }
}

/// A value as it may be shown: no password of a database, and, because providers of nodes put keys
/// into addresses, only scheme and host of those.
fn shown(key: &str, value: &str) -> String {
    match key {
        "store" => super::settings::hide_password(value),
        #[cfg(feature = "chain")]
        super::chain::ENDPOINT => value
            .split(',')
            .map(|url| crate::chain::shown(url.trim()))
            .collect::<Vec<_>>()
            .join(","),
        _ => value.to_owned(),
    }
}

/// A hundred years. What is longer is a mistake, and cannot be added to the time of day.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Reads `on` or `off`, as `yes`, `true` and `1` as well; nothing when it is something else.
pub fn parse_switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Some(true),
        "off" | "false" | "no" | "0" => Some(false),
        _ => None,
    }
}

/// Reads a duration such as `30s`, `5m`, `250ms`, `2h`, up to a hundred years; a bare number is seconds.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let number: f64 = number.parse().ok()?;
    let seconds = match unit.trim() {
        "ms" => number / 1000.0,
        "" | "s" => number,
        "m" | "min" => number * 60.0,
        "h" => number * 3600.0,
        "d" => number * 86400.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(seconds).ok().filter(|duration| *duration <= LONGEST)
}

/// Reads a size such as `256MiB`, `1GB` or `4096`; a bare number is bytes.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// `~/` at the start becomes the home directory.
pub fn expand_home(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => PathBuf::from(path),
    }
}

/// Reads a text file, with its path in the error.
///
/// # Errors
/// When it cannot be read.
pub fn read_text(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|e| {
        let why = match e.kind() {
            std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
            _ => format!("cannot be read: {e}"),
        };
        ConfigError::File { path: path.to_owned(), why }
    })
}

/// What is wrong with a TOML text and where, on one line.
pub fn toml_why(text: &str, error: &toml::de::Error) -> String {
    let why = error.message().trim().replace('\n', "; ");
    let before = error.span().and_then(|span| text.get(..span.start));
    before.map_or_else(
        || why.clone(),
        |before| format!("line {}: {why}", before.matches('\n').count().saturating_add(1)),
    )
}

fn read_file(path: &Path) -> Result<Vec<(String, String)>, ConfigError> {
    let bad = |why: String| ConfigError::File { path: path.to_owned(), why };
    let text = read_text(path)?;
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| bad(toml_why(&text, &e)))?;
    let mut flat = Vec::new();
    flatten(&table, "", &mut flat);
    for (key, _) in &flat {
        if !settings::all().any(|s| s.key == key) {
            let meant = closest(key).map(|k| format!("; did you mean {k}?")).unwrap_or_default();
            return Err(bad(format!("unknown setting {key}{meant}")));
        }
    }
    Ok(flat)
}

fn flatten(table: &toml::Table, prefix: &str, out: &mut Vec<(String, String)>) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        let is_table = settings::all().any(|s| s.key == key && s.is_table());
        match value {
            toml::Value::Table(entries) if is_table => {
                let entry = |(name, value): (&String, &toml::Value)| {
                    format!(
                        "{name}={}",
                        value.as_str().map_or_else(|| value.to_string(), str::to_owned)
                    )
                };
                out.push((key, entries.iter().map(entry).collect::<Vec<_>>().join(",")));
            }
            toml::Value::Table(inner) => flatten(inner, &key, out),
            toml::Value::String(text) => out.push((key, text.clone())),
            toml::Value::Array(items) => {
                let text =
                    |v: &toml::Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
                out.push((key, items.iter().map(text).collect::<Vec<_>>().join(",")));
            }
            other => out.push((key, other.to_string())),
        }
    }
}

fn closest(key: &str) -> Option<&'static str> {
    let best = settings::all().map(|s| (distance(key, s.key), s.key)).min()?;
    (best.0 <= key.len().div_ceil(3)).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_duration("5m"), Some(Duration::from_secs(300)));
        assert_eq!(parse_duration("7"), Some(Duration::from_secs(7)));
        assert_eq!(parse_duration("soon"), None);
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_bytes("4096"), Some(4096));
        assert_eq!(parse_bytes(" 256MiB "), Some(256 << 20));
        assert_eq!(parse_bytes("2 gb"), Some(2_000_000_000));
        assert_eq!(parse_bytes("1TiB"), Some(1 << 40));
        for wrong in ["", "MiB", "-1", "1.5GiB", "99999999999TiB", "lots"] {
            assert_eq!(parse_bytes(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_misspelt_key_finds_the_right_one() {
        assert_eq!(closest("delivery.polcy"), Some("delivery.policy"));
        assert_eq!(closest("wallet.hotky"), Some("wallet.hotkey"));
        assert_eq!(closest("something.else.entirely"), None);
    }

    #[test]
    fn what_the_file_tells_another_program_can_be_known() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ptn.toml");
        std::fs::write(&path, "[delivery]\npacing = \"off\"\n").unwrap();
        let command = with_flags(Command::new("x"), &[settings::COMMON]);
        let args = ["x", "--config", path.to_str().unwrap()];
        let matches = command.try_get_matches_from(args).unwrap();
        let settings = Settings::resolve(&[settings::COMMON], &matches).unwrap();
        assert_eq!(settings.get("delivery.pacing"), None);
        assert_eq!(settings.set_for_any("delivery.pacing").as_deref(), Some("off"));
        assert_eq!(settings.set_for_any("delivery.policy"), None);
        // A default was set by nobody.
        assert_eq!(settings.set_for_any("data_dir"), None);
    }

    #[test]
    fn flags_beat_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ptn.toml");
        std::fs::write(&path, "data_dir = \"/a\"\n[rules]\nset = 2024\n").unwrap();
        let command = with_flags(Command::new("x"), &[settings::COMMON]);
        let path_text = path.to_str().unwrap();
        let args = ["x", "--config", path_text, "--data-dir", "/c", "--data-dir", "/b"];
        let matches = command.try_get_matches_from(args).unwrap();
        let settings = Settings::resolve(&[settings::COMMON], &matches).unwrap();
        assert_eq!(settings.get("data_dir"), Some("/b"));
        assert_eq!(settings.rules().unwrap().era, Era::Y2024);
        std::fs::write(&path, "[rules]\nsett = 2024\n").unwrap();
        let error = Settings::resolve(&[settings::COMMON], &matches).unwrap_err().to_string();
        assert!(error.contains("did you mean rules.set?"), "{error}");
        std::fs::write(&path, "[rules]\nset = [\n").unwrap();
        let error = Settings::resolve(&[settings::COMMON], &matches).unwrap_err().to_string();
        assert!(error.contains("ptn.toml: line ") && !error.contains('\n'), "{error}");
    }
}
