//! Faults at named calls of a real process: a library that is preloaded into it (`faults.c`) reads
//! what to do from a [`Plan`], which may be changed while the process runs.
//!
//! Which calls make up a step of delivering is left to [`super::steps`].

use std::hash::{Hash as _, Hasher as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The size of a plan's file; `faults.c` knows it, too.
const PLAN_BYTES: usize = 16 * 1024;

/// When a call is hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Instead of it.
    Before,
    /// After the first half of what it would write.
    Half,
    /// When it has happened.
    After,
}

/// What happens then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The process dies as by `kill -9`.
    Kill,
    /// The call fails with this error number.
    Error(i32),
    /// The call takes so many milliseconds longer.
    Delay(u64),
}

/// One rule. The kinds of calls are those of `faults.c`.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Its name in the record of what was hit.
    pub label: String,
    /// `open`, `write`, `sync`, `rename`, `send`, ...
    pub call: &'static str,
    /// A part of the file's path; with `$` at the end, its end.
    pub path: String,
    /// A part of what is written or read.
    pub text: String,
    /// When.
    pub when: When,
    /// From which such call on, counted from 1.
    pub nth: u64,
    /// For how many of them; 0 for all.
    pub times: u64,
    /// What happens.
    pub action: Action,
}

impl Fault {
    /// A fault of all such calls.
    pub fn new(call: &'static str, path: &str, action: Action) -> Self {
        Self {
            label: format!("{call} {path}"),
            call,
            path: path.to_owned(),
            text: String::new(),
            when: When::Before,
            nth: 1,
            times: 0,
            action,
        }
    }

    fn line(&self) -> String {
        let when = match self.when {
            When::Before => "before",
            When::Half => "half",
            When::After => "after",
        };
        let (action, value) = match self.action {
            Action::Kill => ("kill", 0),
            Action::Error(number) => ("error", i64::from(number)),
            Action::Delay(ms) => ("delay", i64::try_from(ms * 1000).unwrap()),
        };
        let Self { label, call, path, text, nth, times, .. } = self;
        format!("{label}\t{call}\t{path}\t{text}\t{when}\t{nth}\t{times}\t{action}\t{value}\n")
    }
}

/// What is to go wrong in one process, and what did.
#[derive(Debug)]
pub struct Plan {
    path: PathBuf,
    file: std::fs::File,
    changes: u64,
}

impl Plan {
    /// Nothing goes wrong yet.
    pub fn new(path: PathBuf) -> Self {
        let mut options = std::fs::OpenOptions::new();
        let file = options.create(true).write(true).truncate(true).open(&path).unwrap();
        file.set_len(PLAN_BYTES as u64).unwrap();
        let plan = Self { path, file, changes: 0 };
        plan.forget_hits();
        plan
    }

    /// The environment of the process.
    pub fn env(&self) -> [(&'static str, String); 2] {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        [("LD_PRELOAD", text(library())), ("PTN_FAULTS", text(&self.path))]
    }

    /// From now on this goes wrong, and nothing else.
    pub fn set(&mut self, faults: &[Fault]) {
        let mut text = String::new();
        for fault in faults {
            text.push_str(&fault.line());
        }
        text.push('\0');
        assert!(text.len() <= PLAN_BYTES - 8, "the plan is too long");
        self.changes += 1;
        self.file.write_all_at(text.as_bytes(), 8).unwrap();
        // Last: the process looks here.
        self.file.write_all_at(&self.changes.to_ne_bytes(), 0).unwrap();
    }

    /// From now on nothing goes wrong.
    pub fn clear(&mut self) {
        self.set(&[]);
    }

    /// The labels of what was hit, one for each time.
    pub fn hits(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.hits_path()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// Forgets what was hit so far.
    pub fn forget_hits(&self) {
        std::fs::write(self.hits_path(), "").unwrap();
    }

    fn hits_path(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".hits");
        name.into()
    }
}

/// The library, made beside the test program by the C compiler that links Rust programs anyway.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        const SOURCE: &str = include_str!("faults.c");
        let mut hasher = std::hash::DefaultHasher::new();
        SOURCE.hash(&mut hasher);
        let program = std::env::current_exe().unwrap();
        let path = program.with_file_name(format!("libfaults-{:016x}.so", hasher.finish()));
        if !path.exists() {
            // Renamed when it is whole: another test may look for it now.
            let dir = tempfile::tempdir_in(path.parent().unwrap()).unwrap();
            let (source, made) = (dir.path().join("faults.c"), dir.path().join("libfaults.so"));
            std::fs::write(&source, SOURCE).unwrap();
            let mut cc = Command::new("cc");
            cc.args(["-O2", "-Wall", "-shared", "-fPIC", "-o"]).arg(&made).arg(&source);
            let done = cc.arg("-ldl").output().expect("cc is needed for the library of faults");
            assert!(done.status.success(), "cc: {}", String::from_utf8_lossy(&done.stderr));
            std::fs::rename(&made, &path).unwrap();
        }
        path
    })
}
