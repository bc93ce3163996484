//! The folder of a paper validator: everything that happened since the last whole state, one line
//! each, and that state.
//!
//! `journal` has lines `crc number json`; `state.json` the state after some number, in one line of
//! the same form. A state replaces the one before by renaming, and only then does a new journal begin:
//! whatever dies in between, lines that are in the state already are known by their numbers. A torn
//! last line was never answered for and is cut off; damage before the end stops the validator.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::entry::Entry;
use crate::paper::validator::ValidatorState;

const JOURNAL: &str = "journal";
const STATE: &str = "state.json";
const LOCK: &str = "lock";

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The disk.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another process uses it.
    #[error(
        "{path} is in use by another paper validator; stop that one, or give each its own folder"
    )]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The disk gave back something else than was written.
    #[error(
        "{path}, line {line}: damaged. Nothing was changed; bring the folder back from a copy, or move it away to begin anew"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: u64,
    },
    /// The folder belongs to another rule set.
    #[error(
        "{path} holds a validator of {found}, and {wanted} was asked for; give each its own folder"
    )]
    OtherRules {
        /// The folder.
        path: PathBuf,
        /// What it holds.
        found: String,
        /// What was asked for.
        wanted: String,
    },
}

impl JournalError {
    /// A stable name.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "io",
            Self::InUse { .. } => "in_use",
            Self::Damaged { .. } => "damaged",
            Self::OtherRules { .. } => "other_rules",
        }
    }
}

/// The open folder.
#[derive(Debug)]
pub(super) struct Journal {
    dir: PathBuf,
    file: File,
    /// Number of the last entry.
    last: u64,
    /// Length of what is known to be whole.
    length: u64,
    buffer: Vec<u8>,
    _lock: File,
}

/// What a folder held.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) state: Option<ValidatorState>,
    pub(super) entries: Vec<Entry>,
    /// Bytes of a torn line that were cut off.
    pub(super) torn: u64,
}

impl Journal {
    /// Opens a folder, makes it where there is none, and reads what it holds.
    pub(super) fn open(dir: &Path) -> Result<(Self, Found), JournalError> {
        use std::os::unix::fs::DirBuilderExt as _;
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(failed("create", dir))?;
        let lock_path = dir.join(LOCK);
        let lock = options().create(true).open(&lock_path).map_err(failed("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(JournalError::InUse { path: dir.to_owned() });
            }
            Err(TryLockError::Error(e)) => return Err(failed("lock", &lock_path)(e)),
        }
        let path = dir.join(JOURNAL);
        let file = options().create(true).open(&path).map_err(failed("open", &path))?;
        sync_folder(dir)?;
        let mut journal =
            Self { dir: dir.to_owned(), file, last: 0, length: 0, buffer: Vec::new(), _lock: lock };
        let found = journal.read()?;
        Ok((journal, found))
    }

    /// Reads everything again, and forgets what was not written.
    pub(super) fn read(&mut self) -> Result<Found, JournalError> {
        self.buffer.clear();
        self.last = 0;
        let mut found = Found::default();
        let state = self.dir.join(STATE);
        match fs::read(&state) {
            Ok(bytes) => {
                let damaged = || JournalError::Damaged { path: state.clone(), line: 1 };
                let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
                let (number, json) = parse(text).ok_or_else(damaged)?;
                found.state = Some(serde_json::from_slice(json).map_err(|_| damaged())?);
                self.last = number;
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed("read", &state)(e)),
        }
        self.read_entries(&mut found)?;
        Ok(found)
    }

    fn read_entries(&mut self, found: &mut Found) -> Result<(), JournalError> {
        let path = self.dir.join(JOURNAL);
        self.file.rewind().map_err(failed("read", &path))?;
        let mut reader = BufReader::new(&self.file);
        let (mut line, mut whole, mut text) = (0_u64, 0_u64, Vec::new());
        loop {
            text.clear();
            let read = reader.read_until(b'\n', &mut text).map_err(failed("read", &path))?;
            if read == 0 {
                break;
            }
            line += 1;
            let damaged = || JournalError::Damaged { path: path.clone(), line };
            let entry = text.strip_suffix(b"\n").and_then(parse);
            let Some((number, json)) = entry else {
                let mut rest = Vec::new();
                reader.read_to_end(&mut rest).map_err(failed("read", &path))?;
                if rest.split(|byte| *byte == b'\n').any(|text| parse(text).is_some()) {
                    return Err(damaged());
                }
                let torn = read.saturating_add(rest.len());
                found.torn = u64::try_from(torn).unwrap_or(u64::MAX);
                break;
            };
            whole += u64::try_from(read).unwrap_or_default();
            if number > self.last {
                if number != self.last + 1 {
                    return Err(damaged());
                }
                found.entries.push(serde_json::from_slice(json).map_err(|_| damaged())?);
                self.last = number;
            }
        }
        drop(reader);
        self.length = whole;
        self.file.set_len(whole).map_err(failed("cut", &path))?;
        self.file.seek(io::SeekFrom::End(0)).map_err(failed("read", &path))?;
        Ok(())
    }

    /// Adds an entry to what the next write takes along.
    pub(super) fn push(&mut self, entry: &Entry) {
        // An entry holds texts and numbers only, and numbers that JSON lacks are refused before.
        let json = serde_json::to_string(entry).unwrap_or_default();
        self.last += 1;
        self.buffer.extend_from_slice(line(self.last, &json).as_bytes());
    }

    /// Writes what was pushed; on the disk for sure when it is to last.
    pub(super) fn write(&mut self, must_last: bool) -> Result<(), JournalError> {
        let path = self.dir.join(JOURNAL);
        if !self.buffer.is_empty() {
            self.file.write_all(&self.buffer).map_err(failed("write", &path))?;
        }
        if must_last {
            self.file.sync_data().map_err(failed("sync", &path))?;
        }
        let length = u64::try_from(self.buffer.len()).unwrap_or_default();
        self.length = self.length.saturating_add(length);
        self.buffer.clear();
        Ok(())
    }

    /// After a failed write: cuts off what may have been written, and reads the folder again.
    pub(super) fn recover(&mut self) -> Result<Found, JournalError> {
        let path = self.dir.join(JOURNAL);
        self.file.set_len(self.length).map_err(failed("cut", &path))?;
        self.read()
    }

    /// Keeps a whole state and begins a new journal.
    pub(super) fn save(&mut self, state: &ValidatorState) -> Result<(), JournalError> {
        let json = serde_json::to_string(state)
            .map_err(|e| failed("write", &self.dir.join(STATE))(e.into()))?;
        replace(&self.dir, STATE, line(self.last, &json).as_bytes())?;
        self.file = replace(&self.dir, JOURNAL, b"")?;
        self.length = 0;
        Ok(())
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).truncate(false).mode(0o600);
    options
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JournalError {
    let path = path.to_owned();
    move |source| JournalError::Io { action, path, source }
}

/// Puts a file in the place of another one, whole or not at all.
fn replace(dir: &Path, name: &str, bytes: &[u8]) -> Result<File, JournalError> {
    let (path, fresh) = (dir.join(name), dir.join(format!("{name}.new")));
    let written = options().create(true).truncate(true).open(&fresh).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, &path)?;
        Ok(file)
    });
    let file = written.map_err(failed("write", &path))?;
    sync_folder(dir)?;
    Ok(file)
}

fn sync_folder(dir: &Path) -> Result<(), JournalError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed("sync", dir))
}

fn line(number: u64, json: &str) -> String {
    let rest = format!("{number} {json}");
    format!("{:08x} {rest}\n", crc32fast::hash(rest.as_bytes()))
}

fn parse(line: &[u8]) -> Option<(u64, &[u8])> {
    let (crc, rest) = line.split_at_checked(8)?;
    let rest = rest.strip_prefix(b" ")?;
    let crc = u32::from_str_radix(std::str::from_utf8(crc).ok()?, 16).ok()?;
    if crc != crc32fast::hash(rest) {
        return None;
    }
    let space = rest.iter().position(|byte| *byte == b' ')?;
    let (number, json) = rest.split_at_checked(space)?;
    Some((std::str::from_utf8(number).ok()?.parse().ok()?, json.strip_prefix(b" ")?))
}
