//! One running miner per hotkey and subnet, whatever its data directory: two would fight over the
//! validators' rate limits and nonces.
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
        let name = format!("ptn-miner-{network}-{netuid}-{hotkey}.lock");
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
        let runtime = runtime.map(|dir| Path::new(&dir).join("ptn").join(&name));
        let paths = runtime.into_iter().chain([beside.join(format!(".{name}"))]);
        let mut files = Vec::new();
        let mut reasons = Vec::new();
        for path in paths {
            match lock(&path) {
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

fn lock(path: &Path) -> Result<File, TryLockError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    if !folder.is_dir() {
        DirBuilder::new().mode(0o700).create(folder).map_err(TryLockError::Error)?;
    }
    let mut options = OpenOptions::new();
    // Not truncated: it may hold the pid of another process.
    let opened = options.write(true).create(true).truncate(false).mode(0o600).open(path);
    let mut file = opened.map_err(TryLockError::Error)?;
    file.try_lock()?;
    let written = (|| -> io::Result<()> {
        file.set_len(0)?;
        file.write_all(format!("{}\n", std::process::id()).as_bytes())
    })();
    written.map_err(TryLockError::Error)?;
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
}
