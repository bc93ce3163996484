//! One running miner per hotkey and subnet, whatever its data directory: two would fight over the
//! validators' rate limits and nonces. Miners that share a database are one in this respect, as one
//! of them delivers at a time: they share the lock.
//!
//! The lock is the kernel's, on an open file: it ends with the process, however that dies. The
//! file's presence means nothing; its content (the pid) is for the error message only. It is taken
//! in the user's runtime folder (`XDG_RUNTIME_DIR`) and beside the key, each where it can be
//! written: a service and a shell of the same user may share only one of the two.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Another process delivers with this hotkey.
#[derive(Debug, thiserror::Error)]
#[error(
    "hotkey {hotkey} is already in use for {network}, netuid {netuid}, by another miner (pid {pid}; \
     lock file {}): stop that one, or give this one a hotkey of its own with --wallet.hotkey",
    path.display()
)]
pub struct HotkeyInUse {
    /// The hotkey's address.
    pub hotkey: String,
    /// The network's name.
    pub network: String,
    /// The subnet.
    pub netuid: u16,
    /// Who holds it; `unknown` when that cannot be told.
    pub pid: String,
    /// The lock file.
    pub path: PathBuf,
}

/// Held for as long as this process delivers with the hotkey.
#[derive(Debug)]
pub struct HotkeyLock {
    _files: Vec<File>,
}

impl HotkeyLock {
    /// Takes it for `hotkey` on a subnet; `beside` is the wallet's folder.
    ///
    /// # Errors
    /// When another process has it. Folders that cannot be written are passed over with a warning.
    pub fn take(
        hotkey: &str,
        network: &str,
        netuid: u16,
        beside: &Path,
    ) -> Result<Self, HotkeyInUse> {
        Self::take_with(hotkey, network, netuid, beside, None)
    }

    /// As [`HotkeyLock::take`], but shared with those who deliver from the same store.
    ///
    /// # Errors
    /// When a process has it that does not deliver from this store.
    pub fn share(
        hotkey: &str,
        network: &str,
        netuid: u16,
        beside: &Path,
        store: &str,
    ) -> Result<Self, HotkeyInUse> {
        Self::take_with(hotkey, network, netuid, beside, Some(store))
    }

    fn take_with(
        hotkey: &str,
        network: &str,
        netuid: u16,
        beside: &Path,
        store: Option<&str>,
    ) -> Result<Self, HotkeyInUse> {
        let name = format!("ptn-miner-{network}-{netuid}-{hotkey}.lock");
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
        let runtime = runtime.map(|dir| Path::new(&dir).join("ptn").join(&name));
        let paths = runtime.into_iter().chain([beside.join(format!(".{name}"))]);
        let mut files = Vec::new();
        let mut reasons = Vec::new();
        for path in paths {
            match lock(&path, store) {
                Ok(file) => files.push(file),
                Err(TryLockError::WouldBlock) => {
                    let pid = std::fs::read_to_string(&path).unwrap_or_default();
                    let pid = pid.split_whitespace().next().unwrap_or("unknown").to_owned();
                    let (hotkey, network) = (hotkey.to_owned(), network.to_owned());
                    return Err(HotkeyInUse { hotkey, network, netuid, pid, path });
                }
                Err(TryLockError::Error(e)) => reasons.push(format!("{}: {e}", path.display())),
            }
        }
        if files.is_empty() {
            tracing::warn!(
                "no lock can be taken, so a second miner with the same hotkey would not be noticed \
                 ({}); set XDG_RUNTIME_DIR to a folder of this user",
                reasons.join("; ")
            );
        }
        Ok(Self { _files: files })
    }
}

fn lock(path: &Path, store: Option<&str>) -> Result<File, TryLockError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    if !folder.is_dir() {
        DirBuilder::new().mode(0o700).create(folder).map_err(TryLockError::Error)?;
    }
    let mut options = OpenOptions::new();
    // Not truncated: it may hold the pid of another process.
    let opened = options.write(true).create(true).truncate(false).mode(0o600).open(path);
    let mut file = opened.map_err(TryLockError::Error)?;
    match (file.try_lock(), store) {
        (Err(TryLockError::WouldBlock), Some(store)) => {
            // Shared by those of one store: whoever was first wrote down which, and had the lock
            // alone for that moment.
            let mut tries = 0;
            while let Err(e) = file.try_lock_shared() {
                tries += 1;
                if tries > 20 || matches!(e, TryLockError::Error(_)) {
                    return Err(e);
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            let text = std::fs::read_to_string(path).map_err(TryLockError::Error)?;
            if text.split_once(' ').map(|(_, store)| store.trim()) != Some(store) {
                return Err(TryLockError::WouldBlock);
            }
            return Ok(file);
        }
        (taken, _) => taken?,
    }
    let written = (|| -> io::Result<()> {
        file.set_len(0)?;
        let store = store.map(|store| format!(" {store}")).unwrap_or_default();
        file.write_all(format!("{}{store}\n", std::process::id()).as_bytes())
    })();
    written.map_err(TryLockError::Error)?;
    if store.is_some() {
        // The exclusive lock becomes a shared one.
        file.try_lock_shared()?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hotkey_is_used_once_per_subnet_and_free_again_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let held = HotkeyLock::take("5A", "finney", 8, dir.path()).unwrap();
        let refused = HotkeyLock::take("5A", "finney", 8, dir.path()).unwrap_err();
        assert_eq!(refused.pid, std::process::id().to_string());
        for (hotkey, network, netuid) in
            [("5B", "finney", 8), ("5A", "test", 8), ("5A", "finney", 9)]
        {
            HotkeyLock::take(hotkey, network, netuid, dir.path()).unwrap();
        }
        drop(held);
        HotkeyLock::take("5A", "finney", 8, dir.path()).unwrap();
        // A folder that is not there and cannot be made stops nobody.
        HotkeyLock::take("5A", "finney", 8, &dir.path().join("a/b")).unwrap();
    }

    #[test]
    fn those_of_one_store_share_a_hotkey() {
        let dir = tempfile::tempdir().unwrap();
        let share = |store| HotkeyLock::share("5A", "finney", 8, dir.path(), store);
        let (first, second) = (share("postgres://a/x").unwrap(), share("postgres://a/x").unwrap());
        share("postgres://a/y").unwrap_err();
        HotkeyLock::take("5A", "finney", 8, dir.path()).unwrap_err();
        drop(first);
        share("postgres://a/y").unwrap_err();
        let third = share("postgres://a/x").unwrap();
        drop((second, third));
        let alone = HotkeyLock::take("5A", "finney", 8, dir.path()).unwrap();
        share("postgres://a/x").unwrap_err();
        drop(alone);
        share("postgres://a/y").unwrap();
    }
}
