//! The journal: one append-only file that all processes of a data directory share.
//!
//! ```text
//! line  = crc separator json "\n"
//! crc   = CRC-32 of separator and json, 8 hex digits
//! separator = ">" on the first line of a batch, " " on the others
//! first line of a file: {"kind":"journal","version":1,"seq":<last place given out>}
//! ```
//!
//! A batch is appended under the lock `journal.lock`, in one write and one sync; a batch begins
//! only after the one before it was synced. Hence:
//!
//! * What a killed writer leaves is a beginning of a batch: the last line lacks its end. What a
//!   power cut leaves may also hold zero bytes. Both were never answered, and the next one who
//!   takes the lock cuts them off.
//! * A complete line whose checksum is wrong, or anything unreadable before a later batch, is
//!   damage. Then nothing is guessed: [`StoreError::Corrupt`].
//!
//! When most of the file is about finished signals, the owner writes a new one and renames it over
//! the old. Others notice by the file's identity and read on in the new one.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::durable::{Spool, io_error};
use crate::record::{DeliveryReport, Progress, ValidatorRecord};
use crate::signal::OrderUuid;
use crate::store::index::{Digest, Record, Retried, Turn};
use crate::store::{StoreError, UnixMs};

const VERSION: u32 = 1;
const CRC_LEN: usize = 8;
/// No place comes near this, and the next one can always be counted.
const MAX_SEQ: u64 = u64::MAX / 2;
/// No line of ours comes near this.
const MAX_LINE: usize = 16 * 1024 * 1024;

/// One line. Flat, because tagged enums cannot borrow a raw value.
#[derive(Serialize, Deserialize, Default)]
struct Line<'a> {
    kind: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<OrderUuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<UnixMs>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cancel: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retried: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    turn: Option<Turn>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    progress: Option<Cow<'a, Progress>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    report: Option<Cow<'a, DeliveryReport>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    validators: Option<Cow<'a, [ValidatorRecord]>>,
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    signal: Option<&'a RawValue>,
}

/// A line of the file.
#[derive(Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "one at a time exists, for as long as its line")]
enum Fact {
    Head { last_seq: u64 },
    Record(Record),
}

fn encode(out: &mut Vec<u8>, fact: &Fact, first: bool) -> Result<(), serde_json::Error> {
    let start = out.len();
    out.extend_from_slice(&[b'0'; CRC_LEN]);
    out.push(if first { b'>' } else { b' ' });
    if let Fact::Record(Record::Accept { seq, id, digest, at, text, .. }) = fact {
        accept_line(out, *seq, id, digest, *at, text)?;
    } else {
        serde_json::to_writer(&mut *out, &line(fact)?)?;
    }
    let crc = crc32fast::hash(out.get(start + CRC_LEN..).unwrap_or_default());
    if let Some(place) = out.get_mut(start..start + CRC_LEN) {
        hex::encode_to_slice(crc.to_be_bytes(), place).map_err(serde::ser::Error::custom)?;
    }
    out.push(b'\n');
    Ok(())
}

/// The line that is written for every signal, as [`line`] would have it: an id needs no escapes,
/// and the text is JSON already (which is checked: what is written must be readable).
fn accept_line(
    out: &mut Vec<u8>,
    seq: u64,
    id: &OrderUuid,
    digest: &Digest,
    at: UnixMs,
    text: &str,
) -> Result<(), serde_json::Error> {
    serde_json::from_str::<&RawValue>(text)?;
    let mut hex = [0; 64];
    hex::encode_to_slice(digest, &mut hex).map_err(serde::ser::Error::custom)?;
    write!(out, r#"{{"kind":"accept","seq":{seq},"id":"{id}","digest":""#)
        .map_err(serde_json::Error::io)?;
    out.extend_from_slice(&hex);
    write!(out, r#"","at":{at},"signal":"#).map_err(serde_json::Error::io)?;
    out.extend_from_slice(text.as_bytes());
    out.push(b'}');
    Ok(())
}

fn line(fact: &Fact) -> Result<Line<'_>, serde_json::Error> {
    Ok(match fact {
        Fact::Head { last_seq } => Line {
            kind: "journal".into(),
            version: Some(VERSION),
            seq: Some(*last_seq),
            ..Line::default()
        },
        Fact::Record(Record::Accept { seq, id, digest, at, text, .. }) => Line {
            kind: "accept".into(),
            seq: Some(*seq),
            id: Some(id.clone()),
            digest: Some(hex::encode(digest).into()),
            at: Some(*at),
            signal: Some(serde_json::from_str(text)?),
            ..Line::default()
        },
        Fact::Record(Record::Progress { id, token, at, progress }) => Line {
            kind: "progress".into(),
            id: Some(id.clone()),
            at: Some(*at),
            token: Some(*token),
            progress: Some(Cow::Borrowed(progress)),
            ..Line::default()
        },
        Fact::Record(Record::Finish { id, report }) => Line {
            kind: "finish".into(),
            id: Some(id.clone()),
            report: Some(Cow::Borrowed(report)),
            ..Line::default()
        },
        Fact::Record(Record::Cancel { id, at }) => {
            Line { kind: "cancel".into(), id: Some(id.clone()), at: Some(*at), ..Line::default() }
        }
        Fact::Record(Record::Retry(r)) => Line {
            kind: "retry".into(),
            seq: Some(r.seq),
            id: Some(r.id.clone()),
            digest: Some(hex::encode(r.digest).into()),
            at: Some(r.at),
            validators: Some(Cow::Borrowed(&r.validators)),
            signal: Some(serde_json::from_str(&r.text)?),
            ..Line::default()
        },
        Fact::Record(Record::Carry { id, validators, cancel, retried, turn }) => Line {
            kind: "carry".into(),
            id: Some(id.clone()),
            cancel: Some(*cancel),
            retried: Some(*retried),
            turn: *turn,
            validators: Some(Cow::Borrowed(validators)),
            ..Line::default()
        },
    })
}

/// The content of a line without its end, if its checksum is right, and whether it begins a batch.
fn content(line: &[u8]) -> Option<(bool, &[u8])> {
    let (crc, rest) = line.split_at_checked(CRC_LEN)?;
    let crc = u32::from_str_radix(std::str::from_utf8(crc).ok()?, 16).ok()?;
    let (separator, json) = rest.split_first()?;
    (crc32fast::hash(rest) == crc && matches!(separator, b'>' | b' '))
        .then_some((*separator == b'>', json))
}

fn decode(json: &[u8]) -> Result<Fact, String> {
    let line: Line<'_> = serde_json::from_slice(json).map_err(|e| e.to_string())?;
    let kind = line.kind.clone();
    let missing = |field: &str| format!("a {kind} line without {field}");
    let id = || line.id.clone().ok_or_else(|| missing("id"));
    let at = line.at.ok_or_else(|| missing("at"));
    let seq = line.seq.ok_or_else(|| missing("seq")).and_then(|seq| match seq {
        ..=MAX_SEQ => Ok(seq),
        _ => Err(format!("{seq} is no place in any order of arrival")),
    });
    let digest = || {
        let text = line.digest.as_deref().ok_or_else(|| missing("digest"))?;
        let mut digest = [0; 32];
        hex::decode_to_slice(text, &mut digest).map_err(|e| format!("digest: {e}"))?;
        Ok::<_, String>(digest)
    };
    let text =
        || Ok::<Arc<str>, String>(line.signal.ok_or_else(|| missing("signal"))?.get().into());
    let validators = || {
        let list = line.validators.as_ref().ok_or_else(|| missing("validators"))?;
        Ok::<_, String>(list.clone().into_owned())
    };
    Ok(Fact::Record(match kind.as_ref() {
        "journal" => {
            return match line.version {
                Some(VERSION) => Ok(Fact::Head { last_seq: seq? }),
                other => Err(format!(
                    "the journal has format {other:?} and this program reads {VERSION}; use the version that wrote it"
                )),
            };
        }
        "accept" => {
            let (seq, id, digest, at, text) = (seq?, id()?, digest()?, at?, text()?);
            Record::Accept { seq, id, digest, at, text, summary: None }
        }
        "progress" => Record::Progress {
            id: id()?,
            token: line.token.unwrap_or(0),
            at: at?,
            progress: line.progress.clone().ok_or_else(|| missing("progress"))?.into_owned(),
        },
        "finish" => {
            let report = line.report.clone().ok_or_else(|| missing("report"))?.into_owned();
            Record::Finish { id: id()?, report: Arc::new(report) }
        }
        "cancel" => Record::Cancel { id: id()?, at: at? },
        "retry" => Record::Retry(Box::new(Retried {
            seq: seq?,
            id: id()?,
            digest: digest()?,
            at: at?,
            validators: validators()?,
            text: text()?,
        })),
        "carry" => Record::Carry {
            id: id()?,
            validators: validators()?,
            cancel: line.cancel.unwrap_or(false),
            retried: line.retried.unwrap_or(false),
            turn: line.turn,
        },
        other => return Err(format!("a line of the unknown kind {other:?}")),
    }))
}

/// What stands on a line of a journal that is only looked at.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one at a time exists, for as long as its line")]
pub(super) enum Scanned {
    Head(u64),
    Record(Record),
    /// What is wrong with it.
    Damaged(String),
    /// So many bytes of a batch that its writer did not finish.
    Torn(u64),
}

/// Reads a whole journal without changing anything; returns its length. Damage does not end it.
pub(super) fn scan(path: &Path, each: &mut dyn FnMut(u64, Scanned)) -> std::io::Result<u64> {
    let mut input = BufReader::with_capacity(256 * 1024, File::open(path)?);
    let (mut line, mut at) = (Vec::new(), 0);
    // Unreadable lines: torn, unless a later batch shows that they had been synced.
    let mut unread: Option<(u64, bool)> = None;
    let damaged = || Scanned::Damaged("the line's checksum is wrong".to_owned());
    loop {
        line.clear();
        let read = read_line(&mut input, &mut line)?;
        if read == 0 {
            match unread {
                Some((from, true)) => each(from, Scanned::Torn(at - from)),
                Some((from, false)) => each(from, damaged()),
                None => {}
            }
            return Ok(at);
        }
        let complete = line.pop_if(|last| *last == b'\n').is_some();
        match content(&line).filter(|_| complete) {
            Some((begins, json)) => {
                if begins && let Some((from, _)) = unread.take() {
                    each(from, damaged());
                }
                if unread.is_none() {
                    each(
                        at,
                        match decode(json) {
                            Ok(Fact::Head { last_seq }) => Scanned::Head(last_seq),
                            Ok(Fact::Record(record)) => Scanned::Record(record),
                            Err(what) => Scanned::Damaged(what),
                        },
                    );
                }
            }
            None if unread.is_none() => unread = Some((at, !complete || line.contains(&0))),
            None => {}
        }
        at += read as u64;
    }
}

/// The JSON of a line, read and written again.
#[cfg(feature = "test-util")]
pub(super) fn rewritten(json: &[u8]) -> Result<Vec<u8>, String> {
    let fact = decode(json)?;
    let mut out = Vec::new();
    encode(&mut out, &fact, false).map_err(|e| e.to_string())?;
    out.pop();
    let (_, json) = content(&out).ok_or("its own checksum is wrong")?;
    Ok(json.to_vec())
}

/// A line of the file around any content.
#[cfg(feature = "test-util")]
pub(super) fn sealed(json: &[u8], begins_batch: bool) -> Vec<u8> {
    let rest = [if begins_batch { b">" } else { b" " }, json].concat();
    let mut line = format!("{:08x}", crc32fast::hash(&rest)).into_bytes();
    line.extend_from_slice(&rest);
    line.push(b'\n');
    line
}

/// What takes the lines that are read.
pub(super) trait Reader {
    /// The file begins: everything known before is void.
    fn begin(&mut self, last_seq: u64);
    /// One record.
    fn record(&mut self, record: Record) -> Result<(), String>;
}

/// Proof that the journal's lock is held; freed when dropped.
#[derive(Debug)]
pub(super) struct Locked<'a>(&'a File);

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // The lock ends with the file at the latest.
        self.0.unlock().ok();
    }
}

/// The file that `journal.lock` is.
#[derive(Debug)]
pub(super) struct JournalLock(File);

impl JournalLock {
    pub(super) fn open(spool: &Spool) -> Result<Self, StoreError> {
        let path = &spool.layout.journal_lock;
        let file = spool.disk.open_append(path, true).map_err(io_error("cannot open", path))?;
        Ok(Self(file))
    }

    pub(super) fn lock(&self, path: &Path) -> Result<Locked<'_>, StoreError> {
        self.0.lock().map_err(io_error("cannot lock", path))?;
        Ok(Locked(&self.0))
    }
}

/// Which file of which file system.
pub(super) type Identity = (u64, u64);

/// The identity of what is at a path.
pub(super) fn identity(path: &Path) -> std::io::Result<Identity> {
    std::fs::metadata(path).map(|m| (m.dev(), m.ino()))
}

/// This process's place in the journal.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    file_id: Identity,
    root_id: Identity,
    /// Up to here everything was read and is complete.
    len: u64,
    /// Where the last batch of another writer begins, as long as it is not known to be synced: its
    /// writer may have died, or its sync may have failed.
    unsure: Option<u64>,
}

impl Journal {
    /// Opens the journal, creates it if there is none, and reads it all.
    pub(super) fn open(
        spool: &Spool,
        _lock: &Locked<'_>,
        reader: &mut dyn Reader,
    ) -> Result<Self, StoreError> {
        let path = &spool.layout.journal;
        if !path.try_exists().map_err(io_error("cannot read", path))? {
            // Places of before stay taken, also when the journal was not copied along.
            let last_seq = spool.finished_ids()?.last().map_or(0, |(seq, _)| *seq);
            if last_seq > 0 {
                tracing::warn!(path = %path.display(), last_seq,
                    "the journal is missing, and finished signals are here: what was unfinished is not known any more, and the order of arrival goes on after them");
            }
            replace(spool, std::iter::once(Fact::Head { last_seq }))?;
        }
        let root_id =
            identity(&spool.layout.root).map_err(io_error("cannot read", &spool.layout.root))?;
        Self::reopen(spool, root_id, reader)
    }

    fn reopen(
        spool: &Spool,
        root_id: Identity,
        reader: &mut dyn Reader,
    ) -> Result<Self, StoreError> {
        let path = &spool.layout.journal;
        let file = spool.disk.open_append(path, false).map_err(io_error("cannot open", path))?;
        let meta = file.metadata().map_err(io_error("cannot read", path))?;
        // Whoever renamed it here may have died before the name was safe.
        let dir = &spool.layout.journal_dir;
        spool.disk.sync_dir(dir).map_err(io_error("cannot sync", dir))?;
        let file_id = (meta.dev(), meta.ino());
        let mut journal = Self { file, file_id, root_id, len: 0, unsure: None };
        journal.read(spool, reader)?;
        journal.make_sure(spool)?;
        if journal.len == 0 {
            let what = "the journal has no first line".to_owned();
            return Err(StoreError::Corrupt { path: path.clone(), at: 0, what });
        }
        Ok(journal)
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn id(&self) -> Identity {
        self.file_id
    }

    /// Whether the file at the journal's path is still the one that was read to its end.
    pub(super) fn is_current(&self, path: &Path) -> bool {
        std::fs::metadata(path)
            .is_ok_and(|m| m.len() == self.len && (m.dev(), m.ino()) == self.file_id)
    }

    /// Reads what other processes appended.
    pub(super) fn catch_up(
        &mut self,
        spool: &Spool,
        _lock: &Locked<'_>,
        reader: &mut dyn Reader,
    ) -> Result<(), StoreError> {
        let path = &spool.layout.journal;
        let found = std::fs::metadata(path);
        let same = found.as_ref().is_ok_and(|m| (m.dev(), m.ino()) == self.file_id);
        if same {
            if found.is_ok_and(|m| m.len() != self.len) {
                self.read(spool, reader)?;
            }
            return Ok(());
        }
        let root = &spool.layout.root;
        if identity(root).ok() != Some(self.root_id) || found.is_err() {
            return Err(StoreError::Io {
                what: "the data directory was removed or replaced while in use:",
                path: root.clone(),
                source: std::io::Error::from(std::io::ErrorKind::NotFound),
            });
        }
        // The owner began a new file. The old one, which we still hold, has news that the new one
        // only has as a sum.
        self.read(spool, reader)?;
        *self = Self::reopen(spool, self.root_id, reader)?;
        Ok(())
    }

    /// Reads from the known length to the end and cuts off what a dead writer left unfinished.
    fn read(&mut self, spool: &Spool, reader: &mut dyn Reader) -> Result<(), StoreError> {
        let path = &spool.layout.journal;
        let total = self.file.metadata().map_err(io_error("cannot read", path))?.len();
        if total < self.len {
            let what = format!("the journal was cut to {total} bytes by someone else");
            return Err(StoreError::Corrupt { path: path.clone(), at: total, what });
        }
        let mut input = BufReader::with_capacity(256 * 1024, At { file: &self.file, at: self.len });
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = read_line(&mut input, &mut line).map_err(io_error("cannot read", path))?;
            if read == 0 {
                return Ok(());
            }
            let at = self.len;
            let complete = line.pop_if(|last| *last == b'\n').is_some();
            let Some((begins, json)) = content(&line).filter(|_| complete) else {
                // The first line was synced before the file got its name.
                let torn = at > 0 && (!complete || line.contains(&0));
                if !torn || self.batch_follows(at, path)? {
                    self.keep_copy(spool);
                    let what = "the line's checksum is wrong".to_owned();
                    return Err(StoreError::Corrupt { path: path.clone(), at, what });
                }
                tracing::warn!(path = %path.display(), at, bytes = total.saturating_sub(at),
                    "cutting off a record that its writer did not finish");
                return spool.disk.truncate(&self.file, at).map_err(io_error("cannot cut", path));
            };
            let fact = decode(json);
            let applied = match fact {
                Ok(Fact::Head { last_seq }) if at == 0 => {
                    reader.begin(last_seq);
                    Ok(())
                }
                Ok(Fact::Record(record)) if at > 0 => reader.record(record),
                Ok(_) => Err("the first line is not where it belongs".to_owned()),
                Err(what) => Err(what),
            };
            applied.map_err(|what| {
                self.keep_copy(spool);
                StoreError::Corrupt { path: path.clone(), at, what }
            })?;
            self.len += read as u64;
            if begins || self.unsure.is_none() {
                self.unsure = Some(at);
            }
        }
    }

    /// Syncs what others wrote, unless a batch of ours did since: only then may anybody be told that
    /// it is safe.
    pub(super) fn make_sure(&mut self, spool: &Spool) -> Result<(), StoreError> {
        if self.unsure.is_some() {
            let path = &spool.layout.journal;
            self.write_again(spool).map_err(io_error("cannot write", path))?;
            spool.disk.sync(&self.file).map_err(io_error("cannot sync", path))?;
            self.unsure = None;
        }
        Ok(())
    }

    /// Writes the last batch of another writer once more, as it is. If its sync failed, the system may
    /// hold it for written, and then no later sync writes it. All batches before it were synced:
    /// otherwise it would not have been begun.
    fn write_again(&self, spool: &Spool) -> std::io::Result<()> {
        use std::io::Read as _;
        let Some(at) = self.unsure else { return Ok(()) };
        let mut batch = Vec::new();
        At { file: &self.file, at }.take(self.len.saturating_sub(at)).read_to_end(&mut batch)?;
        spool.disk.write_again(&spool.layout.journal, at, &batch)
    }

    /// Whether a line that begins a batch stands somewhere behind an unreadable one: then what is
    /// unreadable had been synced.
    fn batch_follows(&self, at: u64, path: &Path) -> Result<bool, StoreError> {
        let mut input = BufReader::with_capacity(256 * 1024, At { file: &self.file, at });
        let mut line = Vec::new();
        let mut first = true;
        loop {
            line.clear();
            if read_line(&mut input, &mut line).map_err(io_error("cannot read", path))? == 0 {
                return Ok(false);
            }
            let complete = line.pop_if(|last| *last == b'\n').is_some();
            if !first && complete && content(&line).is_some_and(|(begins, _)| begins) {
                return Ok(true);
            }
            first = false;
        }
    }

    /// Keeps a damaged journal as it was found, once.
    fn keep_copy(&self, spool: &Spool) {
        let path = &spool.layout.damaged;
        let copied = spool.disk.create_new(path).and_then(|mut to| {
            std::io::copy(&mut At { file: &self.file, at: 0 }, &mut to).map(drop)
        });
        match copied {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => {
                tracing::warn!(path = %path.display(), error = %e, "cannot copy the journal");
            }
            Ok(()) => tracing::error!(path = %path.display(), "kept a copy of the damaged journal"),
        }
    }

    /// Appends one batch; it is durable when this returns `Ok`.
    ///
    /// # Errors
    /// [`Failure::Refused`] when nothing was written. [`Failure::Uncertain`] when the sync failed:
    /// then nobody knows what the disk holds.
    pub(super) fn append(
        &mut self,
        spool: &Spool,
        _lock: &Locked<'_>,
        batch: &Encoded,
    ) -> Result<(), Failure> {
        let path = &spool.layout.journal;
        self.write_again(spool).map_err(|e| Failure::Refused(io_error("cannot write", path)(e)))?;
        if let Err(e) = spool.disk.write_all(&self.file, &batch.bytes) {
            // What the write left behind is cut off now, or else by the next one to take the lock.
            if let Err(e) = spool.disk.truncate(&self.file, self.len) {
                tracing::warn!(path = %path.display(), error = %e, "cannot cut the journal back");
            }
            return Err(Failure::Refused(io_error("cannot write", path)(e)));
        }
        if let Err(e) = spool.disk.sync(&self.file) {
            // Others must not build on bytes that may never reach the disk.
            spool.disk.truncate(&self.file, self.len).ok();
            return Err(Failure::Uncertain(format!("sync of {}: {e}", path.display())));
        }
        self.len += batch.bytes.len() as u64;
        self.unsure = None;
        Ok(())
    }

    /// Writes a new journal that begins with `records`, and goes on in it.
    pub(super) fn rewrite(
        &mut self,
        spool: &Spool,
        _lock: &Locked<'_>,
        last_seq: u64,
        records: impl Iterator<Item = Record>,
    ) -> Result<(), StoreError> {
        let path = &spool.layout.journal;
        let head = Fact::Head { last_seq };
        let len = replace(spool, std::iter::once(head).chain(records.map(Fact::Record)))?;
        let file = spool.disk.open_append(path, false).map_err(io_error("cannot open", path))?;
        let meta = file.metadata().map_err(io_error("cannot read", path))?;
        self.file = file;
        self.file_id = (meta.dev(), meta.ino());
        self.len = len;
        self.unsure = None;
        Ok(())
    }
}

/// Why a batch was not stored.
#[derive(Debug)]
pub(super) enum Failure {
    Refused(StoreError),
    Uncertain(String),
}

/// The lines of a batch.
#[derive(Debug, Default)]
pub(super) struct Encoded {
    bytes: Vec<u8>,
}

impl Encoded {
    pub(super) fn push(&mut self, record: Record) -> Result<Record, StoreError> {
        let (before, first) = (self.bytes.len(), self.bytes.is_empty());
        let fact = Fact::Record(record);
        let written = encode(&mut self.bytes, &fact, first).and_then(|()| {
            let length = self.bytes.len() - before;
            if length > MAX_LINE {
                // A reader would take it for torn.
                let what = format!("{length} bytes, and a line has at most {MAX_LINE}");
                return Err(serde::ser::Error::custom(what));
            }
            Ok(())
        });
        if let Err(e) = written {
            self.bytes.truncate(before);
            return Err(unwritable(e));
        }
        match fact {
            Fact::Record(record) => Ok(record),
            Fact::Head { .. } => Err(unwritable(serde::ser::Error::custom("a head is no record"))),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }
}

fn unwritable(e: serde_json::Error) -> StoreError {
    StoreError::Io { what: "cannot encode a record for", path: "journal".into(), source: e.into() }
}

/// Puts a complete, synced file in the journal's place and returns its length.
fn replace(spool: &Spool, facts: impl Iterator<Item = Fact>) -> Result<u64, StoreError> {
    let path = &spool.layout.journal;
    let tmp = spool.tmp_path();
    let written = (|| {
        let file = spool.disk.create_new(&tmp)?;
        let (mut bytes, mut len) = (Vec::new(), 0);
        for fact in facts {
            encode(&mut bytes, &fact, true)?;
            if bytes.len() > 256 * 1024 {
                spool.disk.write_all(&file, &bytes)?;
                len += bytes.len() as u64;
                bytes.clear();
            }
        }
        spool.disk.write_all(&file, &bytes)?;
        len += bytes.len() as u64;
        spool.disk.sync(&file)?;
        spool.disk.rename(&tmp, path)?;
        spool.disk.sync_dir(&spool.layout.journal_dir)?;
        Ok(len)
    })();
    if written.is_err() {
        spool.remove(&tmp).ok();
    }
    written.map_err(io_error("cannot write", path))
}

fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<usize> {
    use std::io::Read as _;
    input.take(MAX_LINE as u64).read_until(b'\n', line)
}

/// Reads a file from a place of its own, whatever others do with the shared one.
struct At<'a> {
    file: &'a File,
    at: u64,
}

impl std::io::Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}
