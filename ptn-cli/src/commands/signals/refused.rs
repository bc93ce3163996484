//! Files that others dropped into `received_signals` and that are no signals. The store moved each
//! to `failed_signals`, with its reason in `<name>.reason.txt` beside it, and knows nothing else of it.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use ptn_core::store::UnixMs;
use serde::Serialize;
use serde_json::json;

use crate::failure::Failure;
use crate::output::{Output, Style};
use crate::text;

const BESIDE: &str = ".reason.txt";
/// More of a reason is not shown.
const LONGEST: u64 = 4096;

/// How many there are, and where.
#[derive(Debug, Serialize)]
pub(crate) struct RefusedFiles {
    pub(crate) count: usize,
    pub(crate) folder: PathBuf,
    #[serde(skip)]
    pub(crate) newest: RefusedFile,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct RefusedFile {
    pub(crate) name: String,
    path: PathBuf,
    reason: PathBuf,
    at: UnixMs,
}

impl RefusedFiles {
    /// Those of a data directory; nothing when there are none.
    pub(crate) fn of(dir: &Path) -> Option<Self> {
        let mut files = all(dir);
        files.sort_by_key(|file| file.at);
        let count = files.len();
        files.pop().map(|newest| Self { count, folder: dir.join("failed_signals"), newest })
    }

    /// How many and where, in words.
    pub(crate) fn words(&self) -> String {
        format!(
            "{} in {} {} refused: no signal, and never sent",
            text::count(self.count, "file"),
            self.folder.display(),
            if self.count == 1 { "was" } else { "were" }
        )
    }
}

fn all(dir: &Path) -> Vec<RefusedFile> {
    let folder = dir.join("failed_signals");
    let Ok(entries) = fs::read_dir(&folder) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let refused = names.filter_map(|beside| {
        let name = beside.strip_suffix(BESIDE).filter(|name| !name.is_empty())?;
        let (path, reason) = (folder.join(name), folder.join(&beside));
        // Whoever mended the file and dropped it again left the reason here.
        if !fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file()) {
            return None;
        }
        let meta = fs::symlink_metadata(&reason).ok().filter(fs::Metadata::is_file)?;
        let since = meta.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
        let at = UnixMs::try_from(since.as_millis()).ok()?;
        Some(RefusedFile { name: name.to_owned(), path, reason, at })
    });
    refused.collect()
}

/// A word for a shell: whoever dropped a file has chosen its name, and must not choose a command.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:@~".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", text::harmless(word).replace('\'', r"'\''"))
}

impl RefusedFile {
    /// The newest whose name this is, with or without an extension.
    pub(crate) fn find(dir: &Path, given: &str) -> Option<Self> {
        let stem = |name: &str| Path::new(name).file_stem().is_some_and(|stem| stem == given);
        let files = all(dir).into_iter().filter(|file| file.name == given || stem(&file.name));
        files.max_by_key(|file| (file.name == given, file.at))
    }

    /// Why it was refused.
    pub(crate) fn reason(&self) -> String {
        let mut bytes = Vec::new();
        let read = File::open(&self.reason).and_then(|f| f.take(LONGEST).read_to_end(&mut bytes));
        match read {
            Ok(_) => text::harmless(String::from_utf8_lossy(&bytes).trim()),
            Err(e) => format!("{} cannot be read: {e}", self.reason.display()),
        }
    }

    fn next(&self) -> String {
        let received = self.path.parent().and_then(Path::parent).unwrap_or(Path::new("."));
        format!(
            "correct it, then drop it again: mv {} {}",
            quoted(&self.path.display().to_string()),
            quoted(&format!("{}/", received.join("received_signals").display()))
        )
    }

    /// The command that shows it, as it can be typed.
    pub(crate) fn command(&self) -> String {
        let end = if self.name.starts_with('-') { "-- " } else { "" };
        format!("ptn-cli signals show {end}{}", quoted(&self.name))
    }

    /// What a command says that can do nothing with it.
    pub(crate) fn failure(&self, failure: Failure) -> Failure {
        let message = format!(
            "{} is a file that was refused, and no signal: {}",
            text::harmless(&self.name),
            self.reason()
        );
        failure.saying(message).hint(self.next())
    }

    /// The file as `signals show` shows it.
    pub(crate) fn show(&self, out: &mut Output) -> Result<(), Failure> {
        let (path, reason) = (self.path.display().to_string(), self.reason());
        if out.is_json() {
            return out.document(&json!({
                "file": self.name,
                "path": path,
                "state": "refused",
                "refused_at": self.at,
                "reason": reason,
            }));
        }
        let ago = text::age(self.at, text::now());
        for (name, value) in [
            ("file", text::harmless(&path)),
            ("state", out.paint(Style::Bad, "refused: it was no signal, and nothing was sent")),
            ("refused", format!("{}  ({ago} ago)", text::date_time(self.at))),
            ("reason", reason),
        ] {
            let name = out.paint(Style::Dim, text::pad(name, 11));
            out.line(format!("{name} {}", out.flow(&value, 12)))?;
        }
        out.talk(self.next());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_become_a_command() {
        assert_eq!(quoted("./mining/f6.json"), "./mining/f6.json");
        assert_eq!(quoted("a; rm -rf $HOME"), "'a; rm -rf $HOME'");
        assert_eq!(quoted("it's\n$(x)"), r"'it'\''s $(x)'");
        let dir = tempfile::tempdir().unwrap();
        let failed = dir.path().join("failed_signals");
        fs::create_dir(&failed).unwrap();
        fs::write(failed.join("-rf"), "").unwrap();
        fs::write(failed.join("-rf.reason.txt"), "empty").unwrap();
        let file = RefusedFile::find(dir.path(), "-rf").unwrap();
        assert_eq!(file.command(), "ptn-cli signals show -- -rf");
    }

    #[test]
    fn a_reason_without_its_file_counts_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let failed = dir.path().join("failed_signals");
        fs::create_dir(&failed).unwrap();
        assert!(RefusedFiles::of(dir.path()).is_none());
        for (name, text) in [
            ("a.json", "{"),
            ("a.json.reason.txt", "not JSON\x1b[2J\n"),
            ("mended.reason.txt", "not JSON"),
            ("a-failed-signal", "{}"),
        ] {
            fs::write(failed.join(name), text).unwrap();
        }
        let found = RefusedFiles::of(dir.path()).unwrap();
        assert_eq!((found.count, found.newest.name.as_str()), (1, "a.json"));
        assert_eq!(found.newest.reason(), "not JSON [2J");
        for (given, there) in [("a", true), ("a.json", true), ("mended", false), ("b", false)] {
            assert_eq!(RefusedFile::find(dir.path(), given).is_some(), there, "{given}");
        }
    }
}
