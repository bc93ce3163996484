//! The last metagraph on disk, so that a miner starts and delivers while the chain is down.
//!
//! ```text
//! <data-dir>/.ptn/metagraph-<netuid>.json    {"format": 1, "metagraph": {...}}
//! ```
//!
//! The file is complete before it has its name. It may be deleted at any time: it is written again
//! from the chain. A file of another format, another subnet or another chain is not used.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::ChainError;
use super::metagraph::Metagraph;

const FORMAT: u32 = 1;
/// A metagraph of 256 members is about 0.1 MB; a larger file is not ours.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// Where the last metagraph of a subnet is kept.
#[derive(Debug, Clone)]
pub struct MetagraphCache {
    path: PathBuf,
    netuid: u16,
}

#[derive(Serialize, Deserialize)]
struct Saved<M> {
    format: u32,
    metagraph: M,
}

impl MetagraphCache {
    /// In a data directory, for a subnet.
    pub fn new(data_dir: &Path, netuid: u16) -> Self {
        let path = data_dir.join(".ptn").join(format!("metagraph-{netuid}.json"));
        Self { path, netuid }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn error(&self, what: &'static str, reason: impl ToString) -> ChainError {
        ChainError::Cache { path: self.path.clone(), what, reason: reason.to_string() }
    }

    /// The last metagraph; absent when none was saved. Blocking.
    ///
    /// # Errors
    /// When there is a file that cannot be used; the text says why.
    pub fn load(&self) -> Result<Option<Metagraph>, ChainError> {
        let bad = |reason: String| self.error("read", reason);
        let file = File::open(&self.path);
        let file = match file {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(bad(e.to_string())),
        };
        let mut text = String::new();
        file.take(MAX_FILE).read_to_string(&mut text).map_err(|e| bad(e.to_string()))?;
        let head: Saved<serde::de::IgnoredAny> =
            serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?;
        if head.format != FORMAT {
            return Err(bad(format!("format {} is not {FORMAT}", head.format)));
        }
        let saved: Saved<Metagraph> =
            serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?;
        if saved.metagraph.netuid != self.netuid {
            return Err(bad(format!("it is of subnet {}", saved.metagraph.netuid)));
        }
        Ok(Some(saved.metagraph))
    }

    /// Replaces the saved metagraph. Blocking.
    ///
    /// # Errors
    /// When the disk does not take it; the old file stays then.
    pub fn save(&self, metagraph: &Metagraph) -> Result<(), ChainError> {
        self.write(metagraph).map_err(|e| self.error("written", e))
    }

    fn write(&self, metagraph: &Metagraph) -> io::Result<()> {
        let text = serde_json::to_string(&Saved { format: FORMAT, metagraph })?;
        let folder = self.path.parent().unwrap_or(Path::new("."));
        if !folder.is_dir() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let half_made = self.path.with_extension(format!("json.{}.tmp", std::process::id()));
        let written = (|| {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&half_made)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&half_made, &self.path)
        })();
        if written.is_err() {
            drop(fs::remove_file(&half_made));
            return written;
        }
        File::open(folder)?.sync_all()
    }
}
