//! The calls that change a disk, and how much room it has, in one small trait, so that tests can
//! fail each of them.
//!
//! What is to be called in which order is left to `durable` and `journal`. With the feature
//! `test-util` the trait is public, so that a simulation can take the place of the machine's disk.
#![cfg_attr(not(feature = "test-util"), allow(unreachable_pub, reason = "public for tests only"))]

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::SystemTime;

use super::space::FreeSpace;

/// Every call that changes something.
pub trait Disk: std::fmt::Debug + Send + Sync {
    /// Creates one folder that only we may enter; it may exist.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Creates a file that only we may read; it must not exist.
    fn create_new(&self, path: &Path) -> io::Result<File>;
    /// Opens a file for reading and appending; creates it if asked to.
    fn open_append(&self, path: &Path, create: bool) -> io::Result<File>;
    /// Writes everything.
    fn write_all(&self, file: &File, bytes: &[u8]) -> io::Result<()>;
    /// Writes bytes that are there once more, so that the next sync writes them whatever became of
    /// earlier ones.
    fn write_again(&self, path: &Path, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts a file.
    fn truncate(&self, file: &File, len: u64) -> io::Result<()>;
    /// Sets the time of the last change.
    fn set_modified(&self, file: &File, at: SystemTime) -> io::Result<()>;
    /// Returns when the file's content would survive a power cut.
    fn sync(&self, file: &File) -> io::Result<()>;
    /// Returns when the folder's names would survive a power cut.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Gives a file a second name, which must not exist.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Renames a file; an existing one is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// What is free on it.
    fn free(&self, path: &Path) -> io::Result<FreeSpace>;
}

/// The disk of this machine.
#[derive(Debug, Clone, Copy)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            other => other,
        }
    }

    fn create_new(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
    }

    fn open_append(&self, path: &Path, create: bool) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .append(true)
            .create(create)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
    }

    fn write_all(&self, mut file: &File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn write_again(&self, path: &Path, at: u64, bytes: &[u8]) -> io::Result<()> {
        // Not through the file that appends: there the place would not count.
        let file = OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
        file.write_all_at(bytes, at)
    }

    fn truncate(&self, file: &File, len: u64) -> io::Result<()> {
        file.set_len(len)
    }

    fn set_modified(&self, file: &File, at: SystemTime) -> io::Result<()> {
        file.set_modified(at)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()?;
        still_writable(file)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let folder = File::open(path)?;
        folder.sync_all()?;
        still_writable(&folder)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::hard_link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn free(&self, path: &Path) -> io::Result<FreeSpace> {
        FreeSpace::of(path)
    }
}

/// Whether a file system still takes changes, asked after a sync: one that its kernel has given up
/// may have answered it with success without writing anything.
///
/// The question is a change that changes nothing, an owner who stays. The first makes a file system
/// that only just lost its journal notice that; the second is told. Its flags do not tell, neither
/// in that moment nor, from Linux 6.15 on, later.
fn still_writable(file: &File) -> io::Result<()> {
    use rustix::io::Errno;
    for _ in 0..2 {
        match rustix::fs::fchown(file, None, None) {
            Ok(()) => {}
            // A sandbox, or a file system without owners: it cannot be asked in this way.
            Err(Errno::PERM | Errno::ACCESS | Errno::NOSYS | Errno::NOTSUP | Errno::INVAL) => break,
            Err(e) => return Err(e.into()),
        }
    }
    let flags = rustix::fs::fstatvfs(file)?.f_flag;
    if flags.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
        return Err(io::Error::from_raw_os_error(libc::EROFS));
    }
    Ok(())
}

/// Opens a file that others may have made: follows no link and never waits for a FIFO.
pub(super) fn open_foreign(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}
