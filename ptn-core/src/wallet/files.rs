//! The only place that reads and writes key files on disk.
//!
//! A file is complete and synced before it has its name. It appears under its name only if nothing
//! was there, or after what was there has a second name under `backups/`. Files are for their owner
//! alone, and so are the folders that are created. Secrets that other users can read or exchange
//! are refused when reading.

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use super::{Key, KeyfileError, Password, Place, WalletError, keyfile};
use crate::sign::keyfile::MAX_FILE;
use crate::sign::ss58;

/// What may happen to a file that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// Nothing: it is an error.
    Never,
    /// It is moved to `backups/`.
    WithBackup,
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Saved {
    /// The key file, when a secret was written.
    pub key: Option<PathBuf>,
    /// The public file.
    pub public: PathBuf,
    /// Where the replaced files are now.
    pub backups: Vec<PathBuf>,
}

impl Place {
    /// Refuses what [`Place::save_coldkey`] would refuse, before anybody is asked for a password.
    ///
    /// # Errors
    /// When a file is there that would have to be replaced.
    pub fn check_coldkey(&self, public_key: Option<&[u8; 32]>) -> Result<(), WalletError> {
        absent(&self.coldkey())?;
        absent_or_same(&self.coldkeypub(), public_key)
    }

    /// As [`Place::check_coldkey`], for the hotkey.
    ///
    /// # Errors
    /// As [`Place::check_coldkey`].
    pub fn check_hotkey(&self, public_key: Option<&[u8; 32]>) -> Result<(), WalletError> {
        absent(&self.hotkey())?;
        absent_or_same(&self.hotkeypub(), public_key)
    }

    /// Writes the coldkey and its public file; encrypted when there is a password.
    ///
    /// # Errors
    /// When something is there and may not be replaced, or the disk refuses.
    pub fn save_coldkey(
        &self,
        key: &Key,
        password: Option<&Password>,
        replace: Replace,
    ) -> Result<Saved, WalletError> {
        if replace == Replace::Never {
            self.check_coldkey(Some(&key.public_key()))?;
        }
        self.save(key, password, replace, self.coldkey(), self.coldkeypub())
    }

    /// Writes the hotkey and its public file; encrypted when there is a password.
    ///
    /// # Errors
    /// As [`Place::save_coldkey`].
    pub fn save_hotkey(
        &self,
        key: &Key,
        password: Option<&Password>,
        replace: Replace,
    ) -> Result<Saved, WalletError> {
        if replace == Replace::Never {
            self.check_hotkey(Some(&key.public_key()))?;
        }
        self.save(key, password, replace, self.hotkey(), self.hotkeypub())
    }

    /// Writes the coldkey's public file alone: a wallet that can be watched and not spent from.
    ///
    /// # Errors
    /// As [`Place::save_coldkey`].
    pub fn save_coldkeypub(
        &self,
        public_key: &[u8; 32],
        replace: Replace,
    ) -> Result<Saved, WalletError> {
        let path = self.coldkeypub();
        if replace == Replace::Never {
            absent_or_same(&path, Some(public_key))?;
        }
        let backups = self.save_public(&path, public_key)?;
        Ok(Saved { key: None, public: path, backups: backups.into_iter().collect() })
    }

    fn save(
        &self,
        key: &Key,
        password: Option<&Password>,
        replace: Replace,
        path: PathBuf,
        public: PathBuf,
    ) -> Result<Saved, WalletError> {
        let content = match password {
            None => Zeroizing::new(keyfile::to_json(key).as_bytes().to_vec()),
            Some(password) => keyfile::to_encrypted(key, password)
                .map(Zeroizing::new)
                .map_err(|source| WalletError::File { path: path.clone(), source })?,
        };
        let mut backups: Vec<PathBuf> =
            write(&path, &content, replace, &self.backups())?.into_iter().collect();
        backups.extend(self.save_public(&public, &key.public_key())?);
        Ok(Saved { key: Some(path), public, backups })
    }

    /// One that says the same already is left alone.
    fn save_public(&self, path: &Path, key: &[u8; 32]) -> Result<Option<PathBuf>, WalletError> {
        if read_public(path).is_ok_and(|address| address == ss58::encode(key)) {
            return Ok(None);
        }
        let text = keyfile::to_public_json(key);
        write(path, text.as_bytes(), Replace::WithBackup, &self.backups())
    }
}

/// The address in a public file, or in an unencrypted key file.
///
/// # Errors
/// When it cannot be read or is no such file.
pub fn read_public(path: &Path) -> Result<String, WalletError> {
    let (bytes, _) = read(path)?;
    keyfile::address(&bytes).map_err(|source| WalletError::File { path: path.to_owned(), source })
}

/// What is done about a plain key file that others can only read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readable {
    /// It is refused.
    Refuse,
    /// A warning in the log: a miner that does not start loses more than one that says so.
    Warn,
}

/// Reads a file that may hold a secret, and refuses one that others can use.
pub(super) fn read_secret(
    path: &Path,
    readable: Readable,
) -> Result<Zeroizing<Vec<u8>>, WalletError> {
    let (bytes, metadata) = read(path)?;
    let me = rustix::process::geteuid().as_raw();
    let plain = keyfile::encryption(&bytes).is_none();
    let judge = |plain| others(metadata.uid(), metadata.mode(), me, plain);
    match judge(plain) {
        None => Ok(bytes),
        Some((reason, command)) => {
            let fix = format!("{command} {}", path.display());
            if readable == Readable::Warn && judge(false).is_none() {
                tracing::warn!("{}: {reason}; run: {fix}", path.display());
                return Ok(bytes);
            }
            Err(WalletError::Unsafe { path: path.to_owned(), reason, fix })
        }
    }
}

/// What others can do with a file, and the command that ends it. The administrator may do anything
/// anyway, and may hand a file of his to a group.
fn others(owner: u32, mode: u32, me: u32, plain: bool) -> Option<(String, &'static str)> {
    let mode = mode & 0o777;
    if owner != me && owner != 0 && me != 0 {
        return Some((format!("it belongs to another user (uid {owner})"), "sudo chown $USER"));
    }
    let group = if owner == 0 && me != 0 { 0 } else { 0o040 };
    let able = match mode {
        m if m & 0o022 != 0 => "write",
        m if plain && m & (0o004 | group) != 0 => "read",
        _ => return None,
    };
    Some((format!("other users can {able} it (mode {mode:03o})"), "chmod 600"))
}

fn read(path: &Path) -> Result<(Zeroizing<Vec<u8>>, Metadata), WalletError> {
    let failed = || WalletError::io("read", path);
    // A named pipe would keep whoever opens it waiting for a writer.
    let without_waiting = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).custom_flags(without_waiting).open(path);
    let file = file.map_err(failed())?;
    let metadata = file.metadata().map_err(failed())?;
    if !metadata.is_file() {
        return Err(failed()(io::Error::other("it is not a file")));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed())?;
    if u64::try_from(bytes.len()).map_or(true, |len| len > MAX_FILE) {
        let source = KeyfileError::corrupt("it is larger than 64 KiB");
        return Err(WalletError::File { path: path.to_owned(), source });
    }
    Ok((bytes, metadata))
}

fn absent(path: &Path) -> Result<(), WalletError> {
    match path.symlink_metadata() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(WalletError::io("look at", path)(e)),
        Ok(_) => Err(exists(path)),
    }
}

fn absent_or_same(path: &Path, key: Option<&[u8; 32]>) -> Result<(), WalletError> {
    match (absent(path), key) {
        (Err(WalletError::Exists { of: Some(of), .. }), Some(key)) if of == ss58::encode(key) => {
            Ok(())
        }
        (result, _) => result,
    }
}

fn exists(path: &Path) -> WalletError {
    WalletError::Exists { path: path.to_owned(), of: read_public(path).ok() }
}

/// Writes a file of mode 600 durably, and returns where the replaced one is now.
///
/// # Errors
/// When one is there and may not be replaced, or the disk refuses; then everything is as before.
pub fn write(
    path: &Path,
    content: &[u8],
    replace: Replace,
    backups: &Path,
) -> Result<Option<PathBuf>, WalletError> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_folders(folder)?;
    let tmp = folder.join(format!(".ptn-{}-{}", std::process::id(), uuid::Uuid::new_v4().simple()));
    let written = write_tmp(&tmp, content).and_then(|()| publish(&tmp, path, replace, backups));
    if written.is_err() {
        // What matters is the first error.
        std::fs::remove_file(&tmp).ok();
    }
    sync_folder(folder)?;
    written
}

fn write_tmp(tmp: &Path, content: &[u8]) -> Result<(), WalletError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(tmp);
    file.and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
        .map_err(WalletError::io("write", tmp))
}

fn publish(
    tmp: &Path,
    path: &Path,
    replace: Replace,
    backups: &Path,
) -> Result<Option<PathBuf>, WalletError> {
    match std::fs::hard_link(tmp, path) {
        Ok(()) => {
            std::fs::remove_file(tmp).map_err(WalletError::io("remove", tmp))?;
            Ok(None)
        }
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            Err(WalletError::io("create", path)(e))
        }
        Err(_) if replace == Replace::Never => Err(exists(path)),
        Err(_) => {
            let backup = back_up(path, backups)?;
            std::fs::rename(tmp, path).map_err(WalletError::io("replace", path))?;
            Ok(Some(backup))
        }
    }
}

/// Gives a file a second name under `backups`.
fn back_up(path: &Path, backups: &Path) -> Result<PathBuf, WalletError> {
    create_folders(backups)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let when = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    for n in 0..1000 {
        let count = if n == 0 { String::new() } else { format!(".{n}") };
        let backup = backups.join(format!("{name}.{when}{count}"));
        match std::fs::hard_link(path, &backup) {
            Ok(()) => {
                sync_folder(backups)?;
                return Ok(backup);
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(WalletError::io("keep a copy as", &backup)(e)),
        }
    }
    Err(WalletError::io("keep a copy in", backups)(io::ErrorKind::AlreadyExists.into()))
}

/// Creates what is missing, for the owner alone.
fn create_folders(folder: &Path) -> Result<(), WalletError> {
    let created = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    created.map_err(WalletError::io("create the folder", folder))
}

fn sync_folder(folder: &Path) -> Result<(), WalletError> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(WalletError::io("sync", folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_others_can_use_are_refused() {
        let (root, me, other) = (0, 1000, 1001);
        for (owner, mode, as_user, plain, allowed) in [
            (me, 0o100600, me, true, true),
            (me, 0o100400, me, true, true),
            (me, 0o100640, me, true, false),
            (me, 0o100644, me, true, false),
            (me, 0o100644, me, false, true),
            (me, 0o100620, me, false, false),
            (other, 0o100600, me, true, false),
            (other, 0o100644, me, false, false),
            (other, 0o100600, root, true, true),
            (other, 0o100644, root, true, false),
            // Secrets that a service manager hands to a group.
            (root, 0o100440, me, true, true),
            (root, 0o100444, me, true, false),
            (root, 0o100640, root, true, false),
        ] {
            let found = others(owner, mode, as_user, plain);
            assert_eq!(found.is_none(), allowed, "{owner} {mode:o} {as_user} {plain}: {found:?}");
        }
    }

    #[test]
    fn a_readable_file_can_be_let_through_and_a_writable_one_never() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hotkey");
        std::fs::File::create(&file).unwrap();
        for (mode, refuse, warn) in
            [(0o600, true, true), (0o644, false, true), (0o622, false, false)]
        {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read_secret(&file, Readable::Refuse).is_ok(), refuse, "{mode:o}");
            assert_eq!(read_secret(&file, Readable::Warn).is_ok(), warn, "{mode:o}");
        }
    }
}
