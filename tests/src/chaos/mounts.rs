//! File systems of one test: a small one in memory that can be full, and an image of ext4 that
//! can be copied as a power cut would leave it. Both need root; CI is.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::say;

/// Whether file systems can be mounted here. Where CI runs they can.
pub fn mounts_are_possible() -> bool {
    let dir = tempfile::tempdir().unwrap();
    let can = Mounted::tmpfs(dir.path(), "1m").is_some();
    assert!(can || std::env::var_os("CI").is_none(), "nothing can be mounted: root is needed");
    if !can {
        say("nothing can be mounted without root: nothing tested");
    }
    can
}

/// Runs a command that must succeed.
pub fn run(program: &str, args: &[&str]) {
    let done = Command::new(program).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program} {args:?}: {said}");
}

/// Repairs an image as a boot does.
pub fn repair(image: &Path) {
    let done = Command::new("e2fsck").arg("-p").arg(image).output().unwrap();
    // 1: there was something to repair.
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.code().is_some_and(|code| code <= 1), "{}: {said}", image.display());
}

/// A mounted file system; unmounted when dropped.
#[derive(Debug)]
pub struct Mounted {
    at: PathBuf,
}

impl Mounted {
    /// A file system in memory of this size.
    pub fn tmpfs(at: &Path, size: &str) -> Option<Self> {
        let size = format!("size={size},mode=700");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at);
        let done = mount.output().is_ok_and(|o| o.status.success());
        done.then(|| Self { at: at.to_owned() })
    }

    /// The ext4 in a file. It writes on its own as late as possible, so that only what was synced
    /// is in the file.
    pub fn image(file: &Path, at: &Path) -> Self {
        run("mount", &["-o", "loop,commit=300", file.to_str().unwrap(), at.to_str().unwrap()]);
        Self { at: at.to_owned() }
    }

    /// Unmounts it.
    pub fn unmount(self) {
        drop(self);
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a process that is about to die may still have files there.
        let done = Command::new("umount").arg("-l").arg(&self.at).status();
        if !done.is_ok_and(|status| status.success()) {
            say(&format!("{} stays mounted", self.at.display()));
        }
    }
}

/// Takes the last byte that is free.
pub fn fill(path: &Path) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(path).unwrap();
    for size in [64 * 1024, 4096, 1] {
        while file.write_all(&vec![b'x'; size]).is_ok() {}
    }
}

/// A file with an empty ext4 of so many MiB.
pub fn ext4(file: &Path, mib: u64) {
    std::fs::File::create(file).unwrap().set_len(mib * 1024 * 1024).unwrap();
    run("mkfs.ext4", &["-q", "-F", file.to_str().unwrap()]);
}
