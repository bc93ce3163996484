//! One delivering process per data directory.
//!
//! The lock is the kernel's, on an open file: it ends with the process, however that dies. The
//! file's presence means nothing; its content (pid and host) is for the error message only.

use std::fs::{File, TryLockError};
use std::path::Path;

use super::disk::Disk;
use super::durable::io_error;
use super::layout::Layout;
use crate::store::StoreError;

/// Held for as long as this process delivers from the directory.
#[derive(Debug)]
pub(super) struct OwnerLock {
    _file: File,
}

/// Refuses while another process delivers from the directory; takes and changes nothing.
pub(super) fn refuse_while_owned(layout: &Layout) -> Result<(), StoreError> {
    let Ok(file) = File::open(&layout.owner_lock) else { return Ok(()) };
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Err(held(layout)),
        // Freed with the file.
        _ => Ok(()),
    }
}

fn held(layout: &Layout) -> StoreError {
    let text = std::fs::read_to_string(&layout.owner_lock).unwrap_or_default();
    let mut words = text.split_whitespace().map(str::to_owned);
    let mut word = || words.next().unwrap_or_else(|| "unknown".to_owned());
    let (pid, host) = (word(), word());
    StoreError::Locked { path: layout.root.clone(), pid, host }
}

impl OwnerLock {
    pub(super) fn take(disk: &dyn Disk, layout: &Layout) -> Result<Self, StoreError> {
        let path = &layout.owner_lock;
        let file = disk.open_append(path, true).map_err(io_error("cannot open", path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(layout)),
            Err(TryLockError::Error(source)) => {
                return Err(io_error("cannot lock", path)(source));
            }
        }
        let host = std::fs::read_to_string(Path::new("/proc/sys/kernel/hostname"));
        let host = host.unwrap_or_default();
        let host = if host.trim().is_empty() { "unknown" } else { host.trim() };
        let text = format!("{} {host}\n", std::process::id());
        disk.truncate(&file, 0).map_err(io_error("cannot write", path))?;
        disk.write_all(&file, text.as_bytes()).map_err(io_error("cannot write", path))?;
        Ok(Self { _file: file })
    }
}
