//! The spool as the commands use it: opening it, and who delivers from it right now.
//!
//! Looking must never disturb a miner: nothing here takes a lock that a miner wants.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ptn_core::ops::config::Settings;
use ptn_core::ops::process;
use ptn_core::rules::Rules;
use ptn_core::store::FsStore;

use crate::failure::Failure;
use crate::output::Output;

/// Opens the data directory to add signals; it is created when it is not there yet.
///
/// # Errors
/// When the store cannot be opened.
pub fn open_or_create(
    settings: &Settings,
    rules: &Arc<Rules>,
    out: &mut Output,
) -> Result<FsStore, Failure> {
    let dir = settings.data_dir();
    let new = !dir.exists();
    let store = FsStore::open(&dir, settings.spool(Arc::clone(rules))?)?;
    if new {
        out.talk(format!("created the data directory {}", dir.display()));
    }
    Ok(store)
}

/// Opens a data directory that exists.
///
/// # Errors
/// When it does not, or the store cannot be opened.
pub fn open_existing(settings: &Settings) -> Result<FsStore, Failure> {
    let dir = settings.data_dir();
    if !dir.join("received_signals").is_dir() {
        let text = format!("{} is no data directory: received_signals is not there", dir.display());
        return Err(Failure::new(process::USAGE, "no_data_dir", text)
            .hint("name it with --data-dir, or send a first signal, which creates it"));
    }
    Ok(FsStore::open(&dir, settings.spool(Arc::new(settings.rules()?))?)?)
}

/// The miner that delivers from a data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its process id, as it wrote it down.
    pub pid: String,
    /// Its host.
    pub host: String,
}

/// Who holds the lock of a data directory; `None` when nobody does.
pub fn holder(dir: &Path) -> Option<Holder> {
    let path: PathBuf = dir.join(".ptn").join("lock");
    let text = fs::read_to_string(&path).ok()?;
    let mut words = text.split_whitespace().map(str::to_owned);
    let holder = Holder { pid: words.next()?, host: words.next().unwrap_or_default() };
    is_locked(&path, &holder).then_some(holder)
}

/// Whether somebody holds the kernel's lock on a file. Read from the kernel's table: trying to take
/// the lock could make a miner fail that starts at this moment.
fn is_locked(path: &Path, holder: &Holder) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(inode) = fs::metadata(path).map(|m| m.ino()) else { return false };
    match fs::read_to_string("/proc/locks") {
        // 1: FLOCK  ADVISORY  WRITE 4242 fd:01:1234 0 EOF
        Ok(table) => table.lines().filter(|line| line.contains(" WRITE ")).any(|line| {
            let place = line.split_whitespace().find(|word| word.matches(':').count() == 2);
            place.and_then(|p| p.rsplit(':').next()) == Some(inode.to_string().as_str())
        }),
        Err(_) => Path::new("/proc").join(&holder.pid).exists(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_seen_while_it_is_held() {
        let dir = tempfile::tempdir().unwrap();
        let rules = Arc::new(Rules::load(ptn_core::rules::Era::Y2026).unwrap());
        assert_eq!(holder(dir.path()), None);
        let store = FsStore::open_owner(dir.path(), ptn_core::store::fs::FsOptions::new(rules));
        let store = store.unwrap();
        assert_eq!(holder(dir.path()).unwrap().pid, std::process::id().to_string());
        drop(store);
        assert_eq!(holder(dir.path()), None);
    }
}
