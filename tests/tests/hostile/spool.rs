//! What hostile neighbours leave in `received_signals/`: links, pipes, devices, names. None is
//! followed, opened for good, or in the way of a plain file beside it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ptn_core::record::SignalState;
use ptn_core::rules::{Era, Rules};
use ptn_core::signal::OrderUuid;
use ptn_core::store::conformance::report;
use ptn_core::store::fs::FsOptions;
use ptn_core::store::{Filter, FsStore, SignalStore};
use tempfile::TempDir;

use crate::serving::eventually;

const PLAIN: &str = r#"{"trade_pair":"BTCUSDC","order_type":"LONG","leverage":0.1}"#;

struct Spool {
    dir: TempDir,
    store: FsStore,
    good: usize,
}

impl Spool {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let mut options = FsOptions::new(Arc::new(Rules::load(Era::Y2026).unwrap()));
        options.settle = Duration::from_millis(50);
        let store = FsStore::open_owner(dir.path().join("mining"), options).unwrap();
        Self { dir, store, good: 0 }
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.dir.path().join("mining").join(name)
    }

    fn received(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder("received_signals").join(name)
    }

    fn failed(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder("failed_signals").join(name)
    }

    /// Another file is adopted, so whatever stands beside it was looked at and is in nobody's way.
    async fn a_good_file_is_adopted(&mut self) {
        self.good += 1;
        let name = format!("good-{}", self.good);
        std::fs::write(self.received(&name), PLAIN).unwrap();
        let id = OrderUuid::parse(&name).unwrap();
        eventually("the good file is adopted", async || {
            self.store.get(&id).await.unwrap().is_some()
        })
        .await;
    }

    /// Only the good ones became signals.
    async fn only_good_ones_are_stored(&self) {
        let stored = self.store.list(&Filter::default()).await.unwrap();
        let ids: Vec<&str> = stored.iter().map(|s| s.signal.id().as_str()).collect();
        assert!(ids.iter().all(|id| id.starts_with("good-")), "{ids:?}");
        assert_eq!(ids.len(), self.good, "{ids:?}");
    }

    async fn reason(&self, name: &str) -> String {
        let path = self.failed(format!("{name}.reason.txt"));
        eventually(&format!("the reason of {name}"), async || path.exists()).await;
        std::fs::read_to_string(path).unwrap()
    }
}

fn make(program: &str, arguments: &[&str], path: &Path) {
    let mut command = std::process::Command::new(program);
    let status = command.arg(path).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {}", path.display());
}

#[tokio::test]
async fn links_are_not_followed_and_what_they_name_is_neither_read_nor_moved() {
    let mut spool = Spool::new();
    let outside = spool.dir.path().join("secret");
    std::fs::write(&outside, PLAIN).unwrap();
    let link =
        |to: &Path, name: &str| std::os::unix::fs::symlink(to, spool.received(name)).unwrap();
    link(&outside, "to-a-file");
    link(Path::new("/etc/passwd"), "to-passwd.json");
    link(Path::new("/dev/zero"), "to-a-device");
    link(spool.dir.path(), "to-a-folder");
    link(Path::new("/nowhere/at/all"), "to-nothing");
    link(&spool.received("loop"), "loop");
    link(Path::new("/proc/self/environ"), "to-the-environment");
    for _ in 0..3 {
        spool.a_good_file_is_adopted().await;
    }
    for name in ["to-a-file", "to-passwd.json", "to-a-device", "to-a-folder", "loop"] {
        let meta = std::fs::symlink_metadata(spool.received(name)).unwrap();
        assert!(meta.is_symlink(), "{name} is still the link that it was");
        assert!(!spool.failed(name).exists(), "{name} was not moved");
        assert!(!spool.failed(format!("{name}.reason.txt")).exists(), "{name} was not judged");
    }
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), PLAIN);
    spool.only_good_ones_are_stored().await;
}

#[tokio::test]
async fn pipes_sockets_and_devices_do_not_block_the_folder() {
    let mut spool = Spool::new();
    make("mkfifo", &[], &spool.received("a-pipe"));
    let _socket = std::os::unix::net::UnixListener::bind(spool.received("a-socket")).unwrap();
    // Only root can make devices; a name for one is made by a link above in any case.
    let root = std::fs::metadata("/proc/self").unwrap();
    let is_root = std::os::unix::fs::MetadataExt::uid(&root) == 0;
    if is_root {
        make("mknod", &["c", "1", "5"], &spool.received("a-device"));
    }
    std::fs::create_dir(spool.received("a-folder")).unwrap();
    std::fs::write(spool.received("a-folder/inside"), PLAIN).unwrap();
    for _ in 0..3 {
        spool.a_good_file_is_adopted().await;
    }
    for name in ["a-pipe", "a-socket", "a-folder"] {
        assert!(spool.received(name).exists(), "{name} was left alone");
        assert!(!spool.failed(name).exists(), "{name} was not moved");
    }
    if is_root {
        assert!(!spool.failed("a-device").exists());
    }
    assert!(spool.received("a-folder/inside").exists(), "folders are not searched");
    spool.only_good_ones_are_stored().await;
}

#[tokio::test]
async fn a_second_name_for_a_file_elsewhere_is_refused_with_the_reason() {
    let mut spool = Spool::new();
    let outside = spool.dir.path().join("elsewhere");
    std::fs::write(&outside, PLAIN).unwrap();
    std::fs::hard_link(&outside, spool.received("second-name")).unwrap();
    let reason = spool.reason("second-name").await;
    assert!(reason.contains("it has 2 names (hard links)"), "{reason}");
    spool.a_good_file_is_adopted().await;
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), PLAIN, "the other name is untouched");
    spool.only_good_ones_are_stored().await;
}

#[tokio::test]
async fn a_file_that_becomes_something_else_while_it_is_looked_at_is_not_followed() {
    let mut spool = Spool::new();
    let secret = spool.dir.path().join("secret");
    std::fs::write(&secret, PLAIN).unwrap();
    // A file and a link take turns under one name, as fast as it goes.
    let stop = tokio_util::sync::CancellationToken::new();
    let (name, other) = (spool.received("turns"), spool.dir.path().join("other"));
    let turning = {
        let (stop, secret) = (stop.clone(), secret.clone());
        std::thread::spawn(move || {
            while !stop.is_cancelled() {
                std::fs::write(&other, "{").unwrap();
                drop(std::fs::rename(&other, &name));
                std::os::unix::fs::symlink(&secret, &other).unwrap();
                drop(std::fs::rename(&other, &name));
            }
        })
    };
    for _ in 0..10 {
        spool.a_good_file_is_adopted().await;
    }
    stop.cancel();
    turning.join().unwrap();
    spool.a_good_file_is_adopted().await;
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), PLAIN);
    spool.only_good_ones_are_stored().await;
}

#[tokio::test]
async fn names_as_long_as_the_disk_allows_are_refused_with_the_reason_beside_them() {
    let mut spool = Spool::new();
    for length in [200, 244, 250, 255] {
        let name = "n".repeat(length);
        std::fs::write(spool.received(&name), "nonsense").unwrap();
        eventually("it is moved away", async || !spool.received(&name).exists()).await;
        let reasons: Vec<PathBuf> = std::fs::read_dir(spool.folder("failed_signals"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_string_lossy().ends_with(".reason.txt"))
            .collect();
        let reason = reasons.iter().find(|path| {
            let text = path.file_name().unwrap().to_string_lossy().into_owned();
            let kept = text.trim_end_matches(".reason.txt");
            std::fs::read_to_string(spool.failed(kept)).is_ok_and(|text| text == "nonsense")
                && std::fs::read_to_string(path).unwrap().contains("no JSON value starts here")
                && kept.len() >= length.min(200)
        });
        assert!(reason.is_some(), "{length}: {reasons:?}");
        for path in std::fs::read_dir(spool.folder("failed_signals")).unwrap() {
            std::fs::remove_file(path.unwrap().path()).unwrap();
        }
    }
    // A good signal under such a name is a signal.
    std::fs::write(spool.received("g".repeat(255)), PLAIN).unwrap();
    eventually("it is adopted", async || {
        spool.store.list(&Filter::default()).await.unwrap().len() == 1
    })
    .await;
    for lease in spool.store.claim(10).await.unwrap() {
        spool.store.finish(&lease, &report(SignalState::Processed, vec![])).await.unwrap();
    }
    spool.a_good_file_is_adopted().await;
}

#[tokio::test]
async fn names_that_are_no_text_or_lead_elsewhere_harm_nobody() {
    let mut spool = Spool::new();
    for name in [
        OsStr::from_bytes(b"\xff\xfe"),
        OsStr::from_bytes(b"bad\x80.json"),
        OsStr::new("new\nline"),
        OsStr::new("\u{1b}[2J"),
        OsStr::new(".."),
        OsStr::new("...json"),
        OsStr::new("-rf"),
        OsStr::new("journal.log"),
        OsStr::new("con.reason.txt"),
    ] {
        if name != ".." {
            std::fs::write(spool.received(name), "nonsense").unwrap();
        }
    }
    for _ in 0..3 {
        spool.a_good_file_is_adopted().await;
    }
    for name in ["new\nline", "\u{1b}[2J", "-rf", "journal.log", "con.reason.txt"] {
        assert!(spool.reason(name).await.contains("no JSON value starts here"), "{name:?}");
        assert_eq!(std::fs::read_to_string(spool.failed(name)).unwrap(), "nonsense", "{name:?}");
    }
    for name in [&b"\xff\xfe"[..], b"bad\x80.json"] {
        let name = OsStr::from_bytes(name);
        assert!(spool.received(name).exists(), "{name:?} was left alone");
    }
    spool.only_good_ones_are_stored().await;
    let around: Vec<_> =
        std::fs::read_dir(spool.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(around, ["mining"]);
}

#[tokio::test]
async fn bombs_in_files_are_refused_and_the_folder_goes_on() {
    let mut spool = Spool::new();
    let members: String = (0..20_000).map(|n| format!("\"{n}\":null,")).collect();
    for (name, text, says) in [
        ("deep", "[".repeat(250_000), "nested too deeply"),
        ("deep-python", "{'a':".repeat(50_000), "nested too deeply"),
        ("deep-strings", nested_strings(12), "one object is expected"),
        ("large", " ".repeat(300_000), "a signal has at most 262144"),
        ("nothing-but-null", format!("{{{members}\"a\":null}}"), "must be provided, got []"),
        ("no-end", format!("{{\"a\":\"{}", "x".repeat(200_000)), "the text ends inside a string"),
    ] {
        std::fs::write(spool.received(name), text).unwrap();
        spool.a_good_file_is_adopted().await;
        let reason = spool.reason(name).await;
        assert!(reason.contains(says), "{name}: {reason}");
        assert!(reason.len() < 1_000, "{name}: {} bytes", reason.len());
    }
    spool.only_good_ones_are_stored().await;
}

/// A text in a text in a text.
fn nested_strings(depth: usize) -> String {
    (0..depth).fold("{}".to_owned(), |text, _| serde_json::to_string(&text).unwrap())
}
