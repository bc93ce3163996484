//! The store as the commands use it: opening it, and who delivers from it right now.
//!
//! Looking must never disturb a miner: nothing here takes a lock that a miner wants.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ptn_core::ops::config::Settings;
use ptn_core::ops::process;
use ptn_core::ops::store::{Opened, Place};
use ptn_core::rules::Rules;

use crate::failure::Failure;
use crate::output::Output;

/// Opens the store to add signals; a data directory is created when it is not there yet.
///
/// # Errors
/// When the store cannot be opened.
pub async fn open_or_create(
    settings: &Settings,
    rules: &Arc<Rules>,
    out: &mut Output,
) -> Result<Opened, Failure> {
    let place = Place::from_settings(settings)?;
    let new = place.dir().is_some_and(|dir| !dir.exists());
    let store = place.open(rules).await?;
    if new {
        out.talk(format!("created the data directory {}", place.name()));
    }
    Ok(store)
}

/// Opens a store that exists.
///
/// # Errors
/// When it does not, or the store cannot be opened.
pub async fn open_existing(settings: &Settings) -> Result<Opened, Failure> {
    let place = Place::from_settings(settings)?;
    if let Some(dir) = place.dir() {
        there(dir)?;
    }
    Ok(place.open(&Arc::new(settings.rules()?)).await?)
}

/// Whether a data directory is there.
///
/// # Errors
/// When it is not.
pub fn there(dir: &Path) -> Result<(), Failure> {
    let found = fs::read_dir(dir.join("received_signals"));
    let error = match found {
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    if error.kind() == ErrorKind::PermissionDenied {
        return Err(denied(dir));
    }
    let text = format!("{} is no data directory: received_signals is not there", dir.display());
    Err(Failure::new(process::USAGE, "no_data_dir", text)
        .hint("name it with --data-dir, or send a first signal, which creates it"))
}

/// A data directory is its owner's alone.
fn denied(dir: &Path) -> Failure {
    use std::os::unix::fs::MetadataExt as _;
    let owner = fs::metadata(dir).map(|meta| format!(" (uid {})", meta.uid())).unwrap_or_default();
    let text = format!("{}: permission denied: only its owner{owner} may read it", dir.display());
    Failure::new(process::FAILED, "permission_denied", text)
        .hint("run this as its owner, or name another one with --data-dir")
}

/// Who delivers from a store, for people; `None` when nobody does.
pub async fn deliverer(store: &Opened) -> Option<String> {
    match store {
        Opened::Fs(store) => holder(store.dir()).map(|h| format!("pid {} on {}", h.pid, h.host)),
        Opened::Pg(store) => {
            let owner = store.owner().await.ok().flatten();
            owner.filter(|owner| !owner.left.is_zero()).map(|owner| owner.name)
        }
    }
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
    fn a_folder_of_somebody_else_is_not_taken_for_a_missing_one() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(there(dir.path()).unwrap_err().code, "no_data_dir");
        let failure = denied(dir.path());
        assert_eq!((failure.code.as_str(), failure.exit), ("permission_denied", process::FAILED));
        assert!(failure.message.contains("permission denied: only its owner (uid "), "{failure:?}");
        assert!(failure.hint.unwrap().contains("as its owner"));
    }

    #[test]
    fn a_lock_is_seen_while_it_is_held() {
        let dir = tempfile::tempdir().unwrap();
        use ptn_core::store::FsStore;
        use ptn_core::store::fs::FsOptions;

        let rules = Arc::new(Rules::load(ptn_core::rules::Era::Y2026).unwrap());
        assert_eq!(holder(dir.path()), None);
        let store = FsStore::open_owner(dir.path(), FsOptions::new(rules)).unwrap();
        assert_eq!(holder(dir.path()).unwrap().pid, std::process::id().to_string());
        drop(store);
        assert_eq!(holder(dir.path()), None);
    }
}
