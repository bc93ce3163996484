//! How much room a disk has, for whoever may fill it: the limit below which nothing is accepted,
//! health pages and metrics.

use std::io;
use std::path::Path;

use serde::Serialize;

/// What is free for us on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FreeSpace {
    /// Bytes.
    pub bytes: u64,
    /// Files that can still be made; `None` where the file system does not count them.
    pub inodes: Option<u64>,
}

/// With fewer inodes than this nothing is accepted either: a signal becomes one file or two.
pub const LEAST_INODES: u64 = 1_000;

impl FreeSpace {
    /// Of the disk that holds this path, which must exist.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn of(path: &Path) -> io::Result<Self> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(Self {
            bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            inodes: (stat.f_files > 0).then_some(stat.f_favail),
        })
    }

    /// Whether it is too little to accept more; a limit of 0 is none.
    pub fn is_below(&self, least: u64) -> bool {
        least > 0 && (self.bytes < least || self.inodes.is_some_and(|left| left < LEAST_INODES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_low_by_bytes_or_by_inodes_and_never_without_a_limit() {
        let of = |bytes, inodes| FreeSpace { bytes, inodes };
        assert!(of(99, None).is_below(100));
        assert!(!of(100, None).is_below(100));
        assert!(of(1 << 40, Some(LEAST_INODES - 1)).is_below(100));
        assert!(!of(1 << 40, Some(LEAST_INODES)).is_below(100));
        assert!(!of(0, Some(0)).is_below(0));
        let here = FreeSpace::of(Path::new("/")).unwrap();
        assert!(here.bytes > 0, "{here:?}");
    }
}
