//! Processes that die at any moment: what was acknowledged is there, once, in order.
//!
//! The workers are `spool_worker` processes, which print a line only after the store said `Ok`.
//! Every campaign prints its seed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a failed expectation is how a test fails"
)]

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use ptn_core::record::SignalState;
use ptn_core::rules::{Era, Rules};
use ptn_core::signal::OrderUuid;
use ptn_core::store::conformance::signal;
use ptn_core::store::fs::FsOptions;
use ptn_core::store::fs::probe::sealed_line;
use ptn_core::store::{Accepted, Filter, FsStore, SignalStore, StoreError};
use tempfile::TempDir;

const WORKER: &str = env!("CARGO_BIN_EXE_spool_worker");

fn options() -> FsOptions {
    FsOptions::new(Arc::new(Rules::load(Era::Y2026).unwrap()))
}

/// A small generator of its own, so that a printed seed repeats a run.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let seed = std::env::var("CRASH_SEED").ok().and_then(|s| s.parse().ok());
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let seed = seed.unwrap_or(now.subsec_nanos().into());
        eprintln!("CRASH_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

struct Worker {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Worker {
    fn start(args: &[&str]) -> Self {
        Self::run(Command::new(WORKER).args(args))
    }

    fn run(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        (self.out.read_line(&mut line).unwrap() > 0).then(|| line.trim().to_owned())
    }

    /// Reads so many lines, kills it, and returns them with all that it still said.
    fn kill_after(mut self, lines: u64) -> Vec<String> {
        // Who has nothing to do says so; then there is nothing to wait for.
        let mut said: Vec<String> =
            (0..lines).map_while(|_| self.line().filter(|line| line != "idle")).collect();
        self.child.kill().unwrap();
        said.extend(self.rest());
        said
    }

    fn rest(mut self) -> Vec<String> {
        let mut text = String::new();
        self.out.read_to_string(&mut text).unwrap();
        self.child.wait().unwrap();
        // A line cut by death was said, too, but not whole: nobody could have heard it.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(str::to_owned).collect()
    }
}

/// What the workers said, checked as it comes.
#[derive(Default)]
struct Ledger {
    accepted: BTreeMap<String, u64>,
    recorded: HashSet<String>,
    finished: HashSet<String>,
}

impl Ledger {
    fn hear(&mut self, lines: &[String]) {
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            match words[0] {
                "accepted" => {
                    let old = self.accepted.insert(words[1].to_owned(), words[2].parse().unwrap());
                    assert_eq!(old, None, "new twice: {line}");
                }
                "same" | "resumed" | "idle" => {}
                "claimed" => assert!(!self.finished.contains(words[1]), "after its end: {line}"),
                "sent" => assert!(
                    !self.recorded.contains(&words[1..].join(" ")),
                    "its acknowledgement was forgotten: {line}"
                ),
                "recorded" => assert!(self.recorded.insert(words[1..].join(" ")), "twice: {line}"),
                "finished" => assert!(self.finished.insert(words[1].to_owned()), "twice: {line}"),
                other => panic!("{other}: {line}"),
            }
        }
    }

    /// Everything acknowledged is there once, at its place; and the store can go on.
    async fn check(&self, dir: &Path) {
        let store = FsStore::open_owner(dir, options()).unwrap();
        for (name, seq) in &self.accepted {
            let id = OrderUuid::parse(name).unwrap();
            let stored = store.get(&id).await.unwrap().unwrap_or_else(|| panic!("{name} is lost"));
            assert_eq!(stored.seq, *seq, "{name}");
            let n: u32 = name.rsplit('-').next().unwrap().parse().unwrap();
            assert_eq!(stored.signal, signal(name, n));
            let again = store.accept(&signal(name, n)).await.unwrap();
            assert_eq!(again, Accepted::Same { state: stored.state });
            assert_eq!(
                self.finished.contains(name),
                stored.state != SignalState::Pending
                // Finished, and killed before it could say so.
                && self.finished.contains(name),
                "{name} is {}",
                stored.state
            );
            if self.finished.contains(name) {
                assert_ne!(stored.state, SignalState::Pending, "{name}");
            }
        }
        let all = store.list(&Filter { limit: usize::MAX, ..Filter::default() }).await.unwrap();
        let ids: BTreeSet<_> = all.iter().map(|s| s.signal.id().clone()).collect();
        let places: BTreeSet<_> = all.iter().map(|s| s.seq).collect();
        assert_eq!((ids.len(), places.len()), (all.len(), all.len()));
        let claimed = store.claim(usize::MAX).await.unwrap();
        assert!(claimed.is_sorted_by_key(|lease| lease.stored.seq));
        let pending = all.iter().filter(|s| s.state == SignalState::Pending).count();
        assert_eq!(claimed.len(), pending);
    }
}

fn names(dir: &Path, folder: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(dir.join(folder)).unwrap();
    entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test]
async fn receivers_killed_at_random_lose_nothing() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path().join("mining");
    let mut dice = Dice::new();
    let mut ledger = Ledger::default();
    for cycle in 0..15 {
        let prefix = format!("r{cycle}");
        let other = format!("q{cycle}");
        let path = dir.to_str().unwrap();
        // Two at once: each meets what the other left behind.
        let one = Worker::start(&["accept", path, &prefix, "300"]);
        let two = Worker::start(&["accept", path, &other, "300"]);
        ledger.hear(&one.kill_after(dice.below(150)));
        ledger.hear(&two.kill_after(dice.below(150)));
    }
    assert!(ledger.accepted.len() > 100);
    ledger.check(&dir).await;
}

#[tokio::test]
async fn receivers_and_owners_killed_in_turn_lose_and_double_nothing() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path().join("mining");
    let path = dir.to_str().unwrap();
    let mut dice = Dice::new();
    let mut ledger = Ledger::default();
    for cycle in 0..25 {
        let prefix = format!("s{cycle}");
        let receiver = Worker::start(&["accept", path, &prefix, "150"]);
        let owner = Worker::start(&["deliver", path]);
        if dice.below(2) == 0 {
            ledger.hear(&receiver.kill_after(dice.below(100)));
            ledger.hear(&owner.kill_after(dice.below(200)));
        } else {
            ledger.hear(&owner.kill_after(dice.below(200)));
            ledger.hear(&receiver.kill_after(dice.below(100)));
        }
    }
    assert!(ledger.finished.len() > 50 && ledger.accepted.len() > 100);
    ledger.check(&dir).await;
    // Left alone, everything comes to its end.
    ledger.hear(&Worker::start(&["deliver", path, "1000000"]).rest());
    ledger.check(&dir).await;
    assert_eq!(names(&dir, "received_signals"), BTreeSet::new());
    let (processed, failed) = (names(&dir, "processed_signals"), names(&dir, "failed_signals"));
    assert!(processed.is_disjoint(&failed));
    for id in ledger.accepted.keys() {
        assert!(processed.contains(id) || failed.contains(id), "{id}");
    }
}

/// Runs a worker that is hit at the n-th call of one kind; also whether it came so far.
fn struck(inject: &str, args: &[&str]) -> (Vec<String>, bool) {
    let mut command = Command::new("strace");
    let call = inject.split(':').next().unwrap();
    let trace = tempfile::NamedTempFile::new().unwrap();
    command.args(["-f", "-o", trace.path().to_str().unwrap(), "-e", &format!("trace={call}")]);
    command.args(["-e", &format!("inject={inject}"), WORKER]).args(args);
    let said = Worker::run(&mut command).rest();
    let trace = std::fs::read_to_string(trace.path()).unwrap();
    (said, trace.contains("(INJECTED)") || trace.contains("+++ killed by SIGKILL +++"))
}

fn strace_is_here() -> bool {
    let here = Command::new("strace").arg("-V").output().is_ok_and(|o| o.status.success());
    assert!(here || std::env::var_os("CI").is_none(), "strace is missing");
    if !here {
        eprintln!("strace is missing: nothing tested");
    }
    here
}

const CALLS: [&str; 8] =
    ["openat", "write", "fdatasync", "fsync", "rename", "linkat", "unlink", "flock"];

#[tokio::test]
async fn killed_at_any_call_of_accepting_nothing_is_lost() {
    if !strace_is_here() {
        return;
    }
    for call in CALLS {
        let mut hits = 0;
        for when in [1, 2, 3, 5, 8, 13, 21, 34] {
            let dir = TempDir::new().unwrap();
            let path = dir.path().join("mining");
            let mut ledger = Ledger::default();
            let args = ["accept", path.to_str().unwrap(), "k", "10"];
            let (said, hit) = struck(&format!("{call}:signal=KILL:when={when}"), &args);
            hits += usize::from(hit);
            ledger.hear(&said);
            // The client asks again for what it was not told.
            let heard = Worker::start(&args).rest();
            for line in &heard {
                assert!(line.starts_with("accepted ") || line.starts_with("same "), "{line}");
            }
            ledger.hear(&heard);
            ledger.check(&path).await;
            // The owner wrote the files that the dead did not get to.
            assert_eq!(names(&path, "received_signals").len(), 10, "{call} {when}");
        }
        assert!(hits > 0, "never killed at {call}");
    }
}

#[tokio::test]
async fn killed_at_any_call_of_delivering_nothing_is_doubled() {
    if !strace_is_here() {
        return;
    }
    // Finished files are renamed into their place.
    for call in CALLS.into_iter().filter(|call| *call != "linkat") {
        let mut hits = 0;
        for when in [1, 3, 6, 10, 15, 21, 28, 36, 45] {
            let dir = TempDir::new().unwrap();
            let path = dir.path().join("mining");
            let path_text = path.to_str().unwrap();
            let mut ledger = Ledger::default();
            ledger.hear(&Worker::start(&["accept", path_text, "k", "8"]).rest());
            let args = ["deliver", path_text, "8"];
            let (said, hit) = struck(&format!("{call}:signal=KILL:when={when}"), &args);
            hits += usize::from(hit);
            ledger.hear(&said);
            ledger.hear(&Worker::start(&args).rest());
            ledger.check(&path).await;
            let all = &names(&path, "processed_signals") | &names(&path, "failed_signals");
            assert_eq!(all.len(), 8, "{call} {when}: {all:?}");
            assert!(names(&path, "received_signals").is_empty(), "{call} {when}");
        }
        assert!(hits > 0, "never killed at {call}");
    }
}

#[tokio::test]
async fn a_failed_sync_stops_the_store_and_a_restart_knows_what_was_said() {
    if !strace_is_here() {
        return;
    }
    let mut hits = 0;
    // Of a dozen that come together only a few are synced on their own.
    for when in [2, 3, 4, 6] {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("mining");
        let args = ["accept", path.to_str().unwrap(), "e", "12"];
        let (said, hit) = struck(&format!("fdatasync:error=EIO:when={when}"), &args);
        hits += usize::from(hit);
        let (errors, rest): (Vec<_>, Vec<_>) =
            said.into_iter().partition(|line| line.starts_with("error "));
        assert!(errors.iter().all(|line| line.contains("store_")), "{errors:?}");
        assert!(!hit || rest.len() < 12, "nobody noticed that sync number {when} failed: {rest:?}");
        let mut ledger = Ledger::default();
        ledger.hear(&rest);
        if !path.exists() {
            continue;
        }
        ledger.check(&path).await;
    }
    assert!(hits >= 2, "only {hits} syncs failed");
}

fn journal_of(dir: &Path) -> PathBuf {
    dir.join(".ptn/journal/journal.log")
}

#[tokio::test]
async fn the_journal_of_a_newer_release_is_refused_and_left_as_it_is() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("mining");
    let store = FsStore::open(&path, options()).unwrap();
    drop(store.accept(&signal("s0", 0)).await.unwrap());
    drop(store);
    let journal = std::fs::read(journal_of(&path)).unwrap();
    let first = journal.iter().position(|b| *b == b'\n').unwrap() + 1;
    let mut newer = sealed_line(br#"{"kind":"journal","version":2,"seq":0}"#, true);
    newer.extend_from_slice(&journal[first..]);
    std::fs::write(journal_of(&path), &newer).unwrap();
    let refused = FsStore::open_owner(&path, options()).unwrap_err().to_string();
    assert!(refused.contains("use the version that wrote it"), "{refused}");
    assert_eq!(std::fs::read(journal_of(&path)).unwrap(), newer);
}

#[tokio::test]
async fn a_journal_cut_at_any_length_of_its_last_record_loses_only_that() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("mining");
    let store = FsStore::open(&path, options()).unwrap();
    for n in 0..3 {
        drop(store.accept(&signal(&format!("s{n}"), n)).await.unwrap());
    }
    drop(store);
    let journal = std::fs::read(journal_of(&path)).unwrap();
    let last = journal[..journal.len() - 1].iter().rposition(|b| *b == b'\n').unwrap() + 1;
    for fill in [0, 300] {
        for len in last..journal.len() {
            let mut cut = journal[..len].to_vec();
            // After a power cut the rest may read as zeros.
            cut.resize(len + fill, 0);
            std::fs::write(journal_of(&path), &cut).unwrap();
            let store = FsStore::open(&path, options()).unwrap();
            assert_eq!(store.pending().await.unwrap().count, 2, "{len}");
            if len % 50 == 0 {
                let again = store.accept(&signal("s2", 2)).await.unwrap();
                assert_eq!(again, Accepted::New { seq: 3 });
                drop(store);
                assert_eq!(std::fs::read(journal_of(&path)).unwrap()[..last], journal[..last]);
                let store = FsStore::open(&path, options()).unwrap();
                assert_eq!(store.pending().await.unwrap().count, 3, "{len}");
            }
        }
    }
}

#[tokio::test]
async fn a_flipped_byte_is_a_clear_error_with_its_place() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("mining");
    let store = FsStore::open(&path, options()).unwrap();
    for n in 0..3 {
        drop(store.accept(&signal(&format!("s{n}"), n)).await.unwrap());
    }
    drop(store);
    let journal = std::fs::read(journal_of(&path)).unwrap();
    for at in (0..journal.len() - 1).step_by(3) {
        let line = journal[..at].iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
        for flip in [1, 0x80] {
            let mut damaged = journal.clone();
            damaged[at] ^= flip;
            std::fs::write(journal_of(&path), &damaged).unwrap();
            match FsStore::open(&path, options()) {
                Err(StoreError::Corrupt { path, at: found, .. }) => {
                    assert_eq!(
                        (path, found),
                        (journal_of(dir.path().join("mining").as_path()), line as u64)
                    );
                }
                // The case of a hex digit of the checksum means nothing.
                Ok(store) => assert_eq!(store.pending().await.unwrap().count, 3, "{at} {flip}"),
                Err(other) => panic!("{at}: {other}"),
            }
            assert_eq!(std::fs::read(journal_of(&path)).unwrap(), damaged, "left as it was");
        }
    }
    assert!(path.join(".ptn/journal.damaged").exists());
    // Zeros within what was synced are damage as well.
    let mut damaged = journal.clone();
    damaged[journal.len() / 2..journal.len() / 2 + 20].fill(0);
    std::fs::write(journal_of(&path), &damaged).unwrap();
    assert!(matches!(FsStore::open(&path, options()), Err(StoreError::Corrupt { .. })));
}

#[tokio::test]
async fn a_second_owner_is_told_who_holds_the_directory() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("mining");
    let mut first = Worker::start(&["own", path.to_str().unwrap()]);
    assert_eq!(first.line().as_deref(), Some("owner"));
    let refused = FsStore::open_owner(&path, options()).unwrap_err();
    let pid = first.child.id().to_string();
    assert!(matches!(&refused, StoreError::Locked { pid: p, .. } if *p == pid), "{refused}");
    assert!(refused.to_string().contains(&pid), "{refused}");
    // Receivers are welcome.
    let receiver = FsStore::open(&path, options()).unwrap();
    drop(receiver.accept(&signal("a", 0)).await.unwrap());
    drop(first.kill_after(0));
    let store = FsStore::open_owner(&path, options()).unwrap();
    assert_eq!(store.claim(1).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_we_create_is_for_us_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("mining");
    let heard = Worker::run(
        Command::new("sh")
            .args(["-c", &format!("umask 000; exec {WORKER} accept {} u 3", path.display())]),
    )
    .rest();
    assert_eq!(heard.len(), 3);
    let mut folders = vec![path];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        let mode = std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "{}", folder.display());
        for entry in std::fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
                assert_eq!(mode, 0o600, "{}", entry.path().display());
                files += 1;
            }
        }
    }
    assert!(files >= 5, "{files}");
}
