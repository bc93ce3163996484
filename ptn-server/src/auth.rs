//! API keys: which files hold them, re-reading them, and comparing without telling anything.
//!
//! Only SHA-256 digests of keys are kept. A candidate is hashed too and compared with every digest
//! in constant time, so neither length nor content of a key shows in the time it takes. Where in a
//! request a key may stand is decided by the handlers; how often one may guess, by `limits`.
//!
//! Key files are looked at about once a second. A file that is empty, half-written or gone keeps the
//! keys that were read before, with a warning: a rotation must never lock everybody out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use axum::http::{HeaderMap, header};
use ptn_core::json::Json;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::ServerError;

type KeyDigest = [u8; 32];

/// A key that was let in: stable while the process runs, safe to use in a map or a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct KeyId(u64);

/// What was found about a caller's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is one of ours.
    Right(KeyId),
    /// It is not.
    Wrong,
    /// There was none.
    Missing,
}

/// All keys that are valid now.
#[derive(Debug)]
pub(crate) struct Keys {
    valid: RwLock<Arc<Vec<KeyDigest>>>,
    files: Mutex<Files>,
}

#[derive(Debug)]
struct Files {
    sources: Vec<Source>,
    retired: Vec<(KeyDigest, Instant)>,
    overlap: Duration,
}

#[derive(Debug)]
struct Source {
    path: PathBuf,
    kind: Kind,
    seen: Option<Signature>,
    content: Option<KeyDigest>,
    keys: Vec<KeyDigest>,
    /// Why the last reading gave none.
    problem: Option<String>,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// `{"api_key": "..", ..}`: other members (wallet passwords!) are no keys.
    Secrets,
    /// `{"user": "key" | {"key": "..", "tier": 100}}`.
    Users,
}

#[derive(Debug, PartialEq, Eq)]
struct Signature {
    modified: Option<SystemTime>,
    size: u64,
    inode: u64,
}

impl Keys {
    /// Reads the key files of a data directory.
    pub(crate) fn open(data_dir: &Path, overlap: Duration) -> Result<Self, ServerError> {
        let beside = data_dir.parent().unwrap_or(Path::new(""));
        let source = |path: PathBuf, kind| Source {
            path,
            kind,
            seen: None,
            content: None,
            keys: Vec::new(),
            problem: None,
        };
        let sources = vec![
            source(data_dir.join("miner_secrets.json"), Kind::Secrets),
            source(data_dir.join("api_keys.json"), Kind::Users),
            source(beside.join("vanta_api").join("api_keys.json"), Kind::Users),
            source(beside.join("ptn_api").join("api_keys.json"), Kind::Users),
        ];
        let keys = Self {
            valid: RwLock::default(),
            files: Mutex::new(Files { sources, retired: Vec::new(), overlap }),
        };
        keys.refresh();
        if keys.valid().is_empty() {
            let files = keys.files.lock().unwrap_or_else(PoisonError::into_inner);
            let paths: Vec<_> =
                files.sources.iter().map(|s| s.path.display().to_string()).collect();
            let problem =
                |s: &Source| s.problem.as_ref().map(|why| format!("{}: {why}; ", s.path.display()));
            return Err(ServerError::NoKeys {
                example: paths.first().cloned().unwrap_or_default(),
                problems: files.sources.iter().filter_map(problem).collect(),
                looked_at: paths.join(", "),
            });
        }
        Ok(keys)
    }

    fn valid(&self) -> Arc<Vec<KeyDigest>> {
        self.valid.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks at the files and reads what changed. Touches the disk.
    pub(crate) fn refresh(&self) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let Files { sources, retired, overlap } = &mut *files;
        let now = Instant::now();
        for source in sources.iter_mut() {
            let old = source.refresh();
            if !overlap.is_zero() {
                retired.extend(old.into_iter().map(|digest| (digest, now + *overlap)));
            }
        }
        retired.retain(|(_, until)| *until > now);
        let mut valid: Vec<KeyDigest> = sources.iter().flat_map(|s| s.keys.clone()).collect();
        valid.extend(retired.iter().map(|(digest, _)| *digest));
        valid.sort_unstable();
        valid.dedup();
        if *self.valid() != valid {
            tracing::info!(keys = valid.len(), "API keys were read");
            *self.valid.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(valid);
        }
    }

    /// Judges a key.
    pub(crate) fn check(&self, candidate: &[u8]) -> Verdict {
        let digest: KeyDigest = Sha256::digest(candidate).into();
        let valid = self.valid();
        let mut found = Choice::from(0);
        for key in valid.iter() {
            found |= key.ct_eq(&digest);
        }
        if bool::from(found) {
            let [a, b, c, d, e, f, g, h, ..] = digest;
            Verdict::Right(KeyId(u64::from_le_bytes([a, b, c, d, e, f, g, h])))
        } else {
            Verdict::Wrong
        }
    }

    /// Judges the `Authorization` header: the key alone or after exactly `Bearer `.
    pub(crate) fn check_header(&self, headers: &HeaderMap) -> Verdict {
        match headers.get(header::AUTHORIZATION) {
            None => Verdict::Missing,
            Some(value) => {
                let value = value.as_bytes();
                self.check(value.strip_prefix(b"Bearer ").unwrap_or(value))
            }
        }
    }
}

impl Source {
    /// Reads the file if it changed; gives the keys that are not in it any more.
    fn refresh(&mut self) -> Vec<KeyDigest> {
        let metadata = match std::fs::metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(error) => {
                if self.seen.take().is_some() {
                    tracing::warn!(file = %self.path.display(), %error, "the key file is gone; its keys stay valid until a restart");
                }
                return Vec::new();
            }
        };
        let signature = Signature::of(&metadata);
        // A file that was rewritten within the clock's grain looks unchanged, so a young file is
        // read again in any case.
        let young = signature
            .modified
            .is_some_and(|m| m.elapsed().map_or(true, |age| age < Duration::from_secs(3)));
        if self.seen.as_ref() == Some(&signature) && !young {
            return Vec::new();
        }
        let first = self.seen.replace(signature).is_none();
        if first && is_readable_by_others(&metadata) {
            tracing::warn!(file = %self.path.display(), "other users of this machine can read the key file; run chmod 600 on it");
        }
        match self.read() {
            Ok(None) => Vec::new(),
            Ok(Some(keys)) => {
                self.problem = None;
                let old = std::mem::replace(&mut self.keys, keys);
                old.into_iter().filter(|k| !self.keys.contains(k)).collect()
            }
            Err(reason) => {
                if self.keys.is_empty() {
                    tracing::warn!(file = %self.path.display(), reason, "no key could be read from the key file");
                } else {
                    tracing::warn!(file = %self.path.display(), reason, "no key could be read from the key file; keys that were read before stay valid");
                }
                self.problem = Some(reason);
                Vec::new()
            }
        }
    }

    /// The keys in the file; `None` when its content is the same as last time.
    fn read(&mut self) -> Result<Option<Vec<KeyDigest>>, String> {
        const MOST: u64 = 1024 * 1024;
        let metadata = std::fs::metadata(&self.path).map_err(|e| e.to_string())?;
        if !metadata.is_file() || metadata.len() > MOST {
            return Err("not a regular file of at most 1 MiB".to_owned());
        }
        let bytes = std::fs::read(&self.path).map_err(|e| e.to_string())?;
        let content: KeyDigest = Sha256::digest(&bytes).into();
        if self.content == Some(content) {
            return Ok(None);
        }
        self.content = Some(content);
        // The error says where, never what: the text around it may be a key.
        let parsed = Json::parse(&bytes).map_err(|e| format!("it is not valid JSON: {e}"))?;
        let Json::Object(object) = parsed else {
            return Err("it is not a JSON object".to_owned());
        };
        let mut keys = BTreeMap::new();
        match self.kind {
            Kind::Secrets => {
                if let Some(Json::String(key)) = object.get("api_key") {
                    keys.insert("api_key", key);
                }
            }
            Kind::Users => {
                for (user, value) in object.iter() {
                    let key = value.as_object().and_then(|o| o.get("key")).unwrap_or(value);
                    match key {
                        Json::String(key) => {
                            keys.insert(user, key);
                        }
                        _ => {
                            tracing::warn!(file = %self.path.display(), ?user, "no key for this user");
                        }
                    }
                }
            }
        }
        keys.retain(|user, key| {
            if key.trim() != key.as_str() || key.is_empty() {
                tracing::warn!(file = %self.path.display(), ?user, "a key that is empty or begins or ends with a blank is not used");
                return false;
            }
            true
        });
        if keys.is_empty() {
            return Err("there is no key in it".to_owned());
        }
        Ok(Some(keys.values().map(|k| Sha256::digest(k.as_bytes()).into()).collect()))
    }
}

impl Signature {
    fn of(metadata: &std::fs::Metadata) -> Self {
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(metadata);
        #[cfg(not(unix))]
        let inode = 0;
        Self { modified: metadata.modified().ok(), size: metadata.len(), inode }
    }
}

fn is_readable_by_others(metadata: &std::fs::Metadata) -> bool {
    #[cfg(unix)]
    return std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o077 != 0;
    #[cfg(not(unix))]
    return false;
}
