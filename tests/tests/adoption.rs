//! Files that others drop into `received_signals/`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is how a test fails"
)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ptn_core::record::{SignalState, legacy};
use ptn_core::rules::{Era, Rules};
use ptn_core::signal::OrderUuid;
use ptn_core::store::conformance::{report, signal};
use ptn_core::store::fs::FsOptions;
use ptn_core::store::{Filter, FsStore, SignalStore, StoredSignal};
use tempfile::TempDir;

/// Longer than anything takes; never waited for when all is well.
const PATIENCE: Duration = Duration::from_secs(20);

struct Spool {
    dir: TempDir,
    options: FsOptions,
    store: FsStore,
}

impl Spool {
    fn new(era: Era) -> Self {
        let dir = TempDir::new().unwrap();
        let mut options = FsOptions::new(Arc::new(Rules::load(era).unwrap()));
        options.settle = Duration::from_millis(50);
        let store = FsStore::open_owner(dir.path().join("mining"), options.clone()).unwrap();
        Self { dir, options, store }
    }

    /// Ends the store, does something to the folder, and opens it again.
    fn restart(self, meanwhile: impl FnOnce(&std::path::Path)) -> Self {
        let Self { dir, options, store } = self;
        drop(store);
        meanwhile(&dir.path().join("mining"));
        let store = FsStore::open_owner(dir.path().join("mining"), options.clone()).unwrap();
        Self { dir, options, store }
    }

    fn path(&self, folder: &str, name: &str) -> PathBuf {
        self.dir.path().join("mining").join(folder).join(name)
    }

    /// In place, as the Python tools write.
    fn drop_file(&self, name: &str, text: &str) {
        std::fs::write(self.path("received_signals", name), text).unwrap();
    }

    async fn until<T>(&self, what: &str, mut ready: impl AsyncFnMut() -> Option<T>) -> T {
        let began = std::time::Instant::now();
        loop {
            if let Some(value) = ready().await {
                return value;
            }
            assert!(began.elapsed() < PATIENCE, "still not: {what}; {:?}", self.tree());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn tree(&self) -> Vec<String> {
        let mut names = Vec::new();
        for folder in ["received_signals", "processed_signals", "failed_signals"] {
            for entry in std::fs::read_dir(self.path(folder, "")).unwrap() {
                names.push(format!("{folder}/{}", entry.unwrap().file_name().display()));
            }
        }
        names.sort();
        names
    }

    async fn adopted(&self, id: &str) -> StoredSignal {
        let id = OrderUuid::parse(id).unwrap();
        self.until(&format!("{id} adopted"), async || self.store.get(&id).await.unwrap()).await
    }

    async fn refused(&self, name: &str) -> String {
        let path = self.path("failed_signals", &format!("{name}.reason.txt"));
        self.until(&format!("{name} refused"), async || std::fs::read_to_string(&path).ok()).await
    }

    async fn gone(&self, folder: &str, name: &str) {
        let path = self.path(folder, name);
        self.until(&format!("{name} gone"), async || (!path.exists()).then_some(())).await;
    }

    async fn finish_all(&self, state: SignalState) {
        for lease in self.store.claim(100).await.unwrap() {
            self.store.finish(&lease, &report(state, vec![])).await.unwrap();
        }
    }
}

const PLAIN: &str =
    r#"{"trade_pair": {"trade_pair_id": "BTCUSDC"}, "order_type": "LONG", "leverage": 0.1}"#;

#[tokio::test]
async fn json_json_in_json_and_python_dicts_are_adopted() {
    let spool = Spool::new(Era::Y2026);
    let double = serde_json::to_string(PLAIN).unwrap();
    let python = "{'trade_pair': {'trade_pair_id': 'BTCUSDC'}, 'order_type': 'LONG', 'leverage': 0.1, 'value': None, 'note': \"it's\"}";
    for (name, text) in
        [("plain", PLAIN), ("double", &double), ("python", python), ("ending.json", PLAIN)]
    {
        spool.drop_file(name, text);
    }
    for id in ["plain", "double", "python", "ending"] {
        let stored = spool.adopted(id).await;
        assert_eq!(stored.signal.trade_pair().unwrap().as_str(), "BTCUSDC");
        assert_eq!(stored.signal.number("leverage").unwrap().as_str(), "0.1");
        assert_eq!(stored.signal.order_uuid(), id);
    }
    assert_eq!(
        spool.adopted("python").await.signal.body().get("note").unwrap().as_str(),
        Some("it's")
    );
    spool.gone("received_signals", "ending.json").await;
    spool.finish_all(SignalState::Processed).await;
    for id in ["plain", "double", "python", "ending"] {
        spool.gone("received_signals", id).await;
        assert!(spool.path("processed_signals", id).exists());
    }
}

#[tokio::test]
async fn files_of_2024_and_2025_are_adopted() {
    let spool = Spool::new(Era::Y2024);
    spool.drop_file(
        "old",
        r#"{
    "trade_pair": {
        "trade_pair_id": "BTCUSD",
        "trade_pair": "BTC/USD",
        "fees": 0.002,
        "min_leverage": 0.001,
        "max_leverage": 20,
        "trade_pair_category": "crypto"
    },
    "order_type": "SHORT",
    "leverage": -0.5
}"#,
    );
    let stored = spool.adopted("old").await;
    assert_eq!(stored.signal.number("leverage").unwrap().as_str(), "-0.5");

    let spool = Spool::new(Era::Y2025);
    spool.drop_file(
        "newer",
        r#"{"trade_pair": {"trade_pair_id": "BTCUSD", "trade_pair": "BTC/USD", "fees": 0.001, "min_leverage": 0.01, "max_leverage": 0.5, "trade_pair_category": "crypto"},
           "order_type": "SHORT", "leverage": -0.5, "value": null, "quantity": null, "execution_type": "MARKET", "limit_price": null, "stop_loss": null, "take_profit": null}"#,
    );
    let stored = spool.adopted("newer").await;
    assert_eq!(stored.signal.number("leverage").unwrap().as_str(), "-0.5");
    assert!(stored.signal.number("value").is_none());
}

#[tokio::test]
async fn our_own_received_files_adopt_again_when_the_journal_is_lost() {
    let spool = Spool::new(Era::Y2026);
    drop(spool.store.accept(&signal("mine", 0)).await.unwrap());
    let path = spool.path("received_signals", "mine");
    spool.until("file", async || path.exists().then_some(())).await;
    let spool = spool.restart(|root| std::fs::remove_dir_all(root.join(".ptn")).unwrap());
    let stored = spool.adopted("mine").await;
    assert_eq!(stored.signal.trade_pair(), signal("mine", 0).trade_pair());
}

#[tokio::test]
async fn what_is_no_signal_moves_to_failed_as_it_is_with_the_reason() {
    let spool = Spool::new(Era::Y2026);
    let nan =
        r#"{"trade_pair": {"trade_pair_id": "BTCUSDC"}, "order_type": "FLAT", "leverage": NaN}"#;
    let pair = PLAIN.replace("BTCUSDC", "NOSUCHPAIR");
    for (name, text, reason) in [
        ("nan", nan, "leverage"),
        ("pair.json", pair.as_str(), "NOSUCHPAIR"),
        ("broken", "{\"trade_pair\" 1}", "':' is expected"),
        ("cut", "{\"trade_pair\": ", "ends before"),
        ("empty", "", "ends before"),
        ("list", "[1]", "one object is expected"),
        ("bytes", "\u{1}\u{2}", "no JSON"),
    ] {
        spool.drop_file(name, text);
        let why = spool.refused(name).await;
        assert!(why.contains(reason), "{name}: {why}");
        assert_eq!(std::fs::read_to_string(spool.path("failed_signals", name)).unwrap(), text);
        assert!(!spool.path("received_signals", name).exists());
    }
    std::fs::write(spool.path("received_signals", "huge"), vec![b' '; 300 * 1024]).unwrap();
    assert!(spool.refused("huge").await.contains("at most"));
    std::fs::hard_link(
        spool.path("failed_signals", "nan"),
        spool.path("received_signals", "linked"),
    )
    .unwrap();
    assert!(spool.refused("linked").await.contains("hard links"));
    assert_eq!(spool.store.pending().await.unwrap().count, 0);
    assert!(spool.store.list(&Filter::default()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_refused_file_can_be_corrected_and_both_stay() {
    let spool = Spool::new(Era::Y2026);
    spool.drop_file("a", "{\"broken\" 1}");
    spool.refused("a").await;
    spool.drop_file("a", "{\"broken\" 2}");
    spool.refused("a.1").await;
    spool.drop_file("a", PLAIN);
    spool.adopted("a").await;
    spool.finish_all(SignalState::Failed).await;
    spool.gone("received_signals", "a").await;
    let text = std::fs::read_to_string(spool.path("failed_signals", "a")).unwrap();
    assert_eq!(legacy::read_finished(&text).unwrap().state, SignalState::Failed);
    let kept = std::fs::read_to_string(spool.path("failed_signals", "a.2")).unwrap();
    assert_eq!(kept, "{\"broken\" 1}");
    assert!(spool.path("failed_signals", "a.2.reason.txt").exists());
    assert!(!spool.path("failed_signals", "a.reason.txt").exists());
}

#[tokio::test]
async fn a_file_written_slowly_is_taken_when_it_is_whole() {
    use std::io::Write as _;
    let spool = Spool::new(Era::Y2026);
    let mut file = std::fs::File::create(spool.path("received_signals", "slow")).unwrap();
    let (half, rest) = PLAIN.split_at(30);
    file.write_all(half.as_bytes()).unwrap();
    // Something that comes later is taken meanwhile, so the half was looked at.
    spool.drop_file("quick", PLAIN);
    spool.adopted("quick").await;
    assert!(spool.store.get(&OrderUuid::parse("slow").unwrap()).await.unwrap().is_none());
    file.write_all(rest.as_bytes()).unwrap();
    spool.adopted("slow").await;
}

#[tokio::test]
async fn files_are_taken_in_the_order_of_their_age_then_name() {
    let spool = Spool::new(Era::Y2026);
    let spool = spool.restart(|root| {
        let start = SystemTime::now() - Duration::from_secs(1000);
        for (name, age) in [("d", 0), ("a", 2), ("c", 1), ("b", 1)] {
            let path = root.join("received_signals").join(name);
            std::fs::write(&path, PLAIN).unwrap();
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(start + Duration::from_secs(age)).unwrap();
        }
    });
    spool.adopted("a").await;
    let names: Vec<_> = spool
        .store
        .claim(10)
        .await
        .unwrap()
        .iter()
        .map(|l| l.stored.signal.id().to_string())
        .collect();
    assert_eq!(names, ["d", "b", "c", "a"]);
}

#[tokio::test]
async fn a_signal_is_as_old_as_its_file() {
    let three_hours = Duration::from_secs(3 * 3600);
    let spool = Spool::new(Era::Y2026).restart(|dir| {
        for (name, at) in [
            ("left-behind", SystemTime::now() - three_hours),
            ("from-the-future", SystemTime::now() + three_hours),
        ] {
            let path = dir.join("received_signals").join(name);
            std::fs::write(&path, PLAIN).unwrap();
            std::fs::File::options().write(true).open(&path).unwrap().set_modified(at).unwrap();
        }
    });
    let ms = |age: Duration| i64::try_from(age.as_millis()).unwrap();
    let now = || ms(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap());
    let age = now() - spool.adopted("left-behind").await.accepted_at;
    assert!((ms(three_hours)..ms(three_hours + PATIENCE)).contains(&age), "{age} ms");
    let age = now() - spool.adopted("from-the-future").await.accepted_at;
    assert!((0..ms(PATIENCE)).contains(&age), "{age} ms");
}

#[tokio::test]
async fn the_same_file_again_is_one_signal_and_another_content_is_a_conflict() {
    let spool = Spool::new(Era::Y2026);
    spool.drop_file("a", PLAIN);
    spool.adopted("a").await;
    spool.drop_file("a.json", PLAIN);
    spool.gone("received_signals", "a.json").await;
    spool.drop_file("a.txt", &PLAIN.replace("0.1", "0.2"));
    assert!(spool.refused("a.txt").await.contains("uuid_conflict"));
    spool.finish_all(SignalState::Processed).await;
    spool.gone("received_signals", "a").await;
    // Finished: the same again is not sent again.
    spool.drop_file("a", PLAIN);
    spool.gone("received_signals", "a").await;
    spool.drop_file("a", &PLAIN.replace("0.1", "0.3"));
    assert!(spool.refused("a").await.contains("uuid_conflict"));
    assert!(spool.store.claim(10).await.unwrap().is_empty());
    let stored = spool.adopted("a").await;
    assert_eq!(stored.state, SignalState::Processed);
}

#[tokio::test]
async fn overwriting_the_file_of_a_waiting_signal_does_not_change_it() {
    let spool = Spool::new(Era::Y2026);
    drop(spool.store.accept(&signal("mine", 0)).await.unwrap());
    let path = spool.path("received_signals", "mine");
    spool.until("file", async || path.exists().then_some(())).await;
    spool.drop_file("mine", PLAIN);
    assert!(spool.refused("mine").await.contains("uuid_conflict"));
    assert_eq!(spool.adopted("mine").await.signal, signal("mine", 0));
}

#[tokio::test]
async fn a_copied_spool_goes_on() {
    let spool = Spool::new(Era::Y2026);
    drop(spool.store.accept(&signal("mine", 0)).await.unwrap());
    spool.drop_file("dropped", PLAIN);
    spool.adopted("dropped").await;
    let path = spool.path("received_signals", "mine");
    spool.until("file", async || path.exists().then_some(())).await;
    // A copy has other times of change, and other inodes.
    let spool = spool.restart(|root| {
        for name in ["mine", "dropped"] {
            let path = root.join("received_signals").join(name);
            let text = std::fs::read(&path).unwrap();
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, text).unwrap();
        }
    });
    spool.drop_file("after", PLAIN);
    spool.adopted("after").await;
    let left: Vec<_> = spool.tree();
    assert_eq!(
        left,
        ["received_signals/after", "received_signals/dropped", "received_signals/mine"]
    );
    spool.finish_all(SignalState::Processed).await;
    for name in ["mine", "dropped", "after"] {
        spool.gone("received_signals", name).await;
    }
    assert_eq!(spool.tree().len(), 3);
}

#[tokio::test]
async fn a_cancel_named_after_its_target_gets_an_id_of_its_own() {
    let spool = Spool::new(Era::Y2026);
    spool.drop_file("target", PLAIN);
    spool.adopted("target").await;
    spool.finish_all(SignalState::Processed).await;
    spool.gone("received_signals", "target").await;
    spool.drop_file("target", r#"{"trade_pair": "BTCUSDC", "execution_type": "LIMIT_CANCEL"}"#);
    let cancel = spool
        .until("cancel adopted", async || spool.store.claim(1).await.unwrap().pop())
        .await
        .stored
        .signal;
    assert_ne!(cancel.id().as_str(), "target");
    assert_eq!(cancel.order_uuid(), "target");
    spool.gone("received_signals", "target").await;
}

#[tokio::test]
async fn unsafe_names_get_an_id_and_special_files_are_left_alone() {
    let spool = Spool::new(Era::Y2026);
    spool.drop_file("my signal (1).json", PLAIN);
    spool.drop_file(".hidden", PLAIN);
    spool.drop_file("half.tmp", PLAIN);
    let secret = spool.dir.path().join("secret");
    std::fs::write(&secret, PLAIN).unwrap();
    std::os::unix::fs::symlink(&secret, spool.path("received_signals", "link")).unwrap();
    std::fs::create_dir(spool.path("received_signals", "folder")).unwrap();
    let made =
        std::process::Command::new("mkfifo").arg(spool.path("received_signals", "pipe")).status();
    assert!(made.unwrap().success());
    spool.drop_file("last", PLAIN);
    spool.adopted("last").await;
    spool.gone("received_signals", "my signal (1).json").await;
    let spool = spool.restart(|_| ());
    spool.drop_file("really-last", PLAIN);
    spool.adopted("really-last").await;
    assert_eq!(spool.store.pending().await.unwrap().count, 3);
    let tree = spool.tree().join(" ");
    for name in [".hidden", "half.tmp", "link", "folder", "pipe"] {
        assert!(tree.contains(&format!("received_signals/{name}")), "{name}: {tree}");
    }
}

/// The id is derived from the file, so that reading it again after a crash is no other signal; nothing
/// random may stand in what the signal says.
#[tokio::test]
async fn an_edit_without_a_uuid_under_an_unsafe_name_says_nothing_random() {
    let spool = Spool::new(Era::Y2026);
    spool.drop_file(
        "edit (1).json",
        r#"{"trade_pair": "BTCUSDC", "order_type": "FLAT", "execution_type": "LIMIT_EDIT", "bracket_orders": [{"stop_loss": 0.1}]}"#,
    );
    let edit = spool
        .until("adopted", async || spool.store.claim(1).await.unwrap().pop())
        .await
        .stored
        .signal;
    assert_eq!(edit.order_uuid(), edit.id().as_str());
}

#[tokio::test]
async fn the_folders_follow_signals_that_other_processes_accept() {
    let spool = Spool::new(Era::Y2026);
    let receiver = FsStore::open(spool.dir.path().join("mining"), spool.options.clone()).unwrap();
    let mut events = receiver.events();
    drop(receiver.accept(&signal("theirs", 0)).await.unwrap());
    let received = spool.path("received_signals", "theirs");
    spool.until("received file", async || received.exists().then_some(())).await;
    let lease = spool.until("claimed", async || spool.store.claim(1).await.unwrap().pop()).await;
    assert_eq!(lease.stored.signal, signal("theirs", 0));
    assert!(receiver.claim(1).await.is_err());
    receiver.cancel(lease.stored.signal.id()).await.unwrap();
    let id = lease.stored.signal.id();
    spool
        .until("cancel seen", async || {
            spool.store.get(id).await.unwrap().filter(|s| s.cancel_requested)
        })
        .await;
    spool.store.finish(&lease, &report(SignalState::Failed, vec![])).await.unwrap();
    spool
        .until("finish seen", async || {
            receiver.get(id).await.unwrap().filter(|s| s.state == SignalState::Failed)
        })
        .await;
    spool.gone("received_signals", "theirs").await;
    receiver.retry(id).await.unwrap();
    let lease = spool.until("claimed", async || spool.store.claim(1).await.unwrap().pop()).await;
    spool.until("received file", async || received.exists().then_some(())).await;
    spool.gone("failed_signals", "theirs").await;
    spool.store.finish(&lease, &report(SignalState::Processed, vec![])).await.unwrap();
    let processed = spool.path("processed_signals", "theirs");
    spool.until("processed file", async || processed.exists().then_some(())).await;
    let mut seen = Vec::new();
    while seen.len() < 5 {
        let event = tokio::time::timeout(PATIENCE, events.recv()).await.unwrap().unwrap();
        let json = serde_json::to_value(&event).unwrap();
        seen.push(json["event"].as_str().unwrap().to_owned());
    }
    assert_eq!(seen, ["accepted", "cancel_requested", "finished", "retry_requested", "finished"]);
}

#[tokio::test]
async fn without_inotify_everything_is_found_as_well() {
    let dir = TempDir::new().unwrap();
    let mut options = FsOptions::new(Arc::new(Rules::load(Era::Y2026).unwrap()));
    options.inotify = false;
    let store = FsStore::open_owner(dir.path(), options.clone()).unwrap();
    let receiver = FsStore::open(dir.path(), options.clone()).unwrap();
    let spool = Spool { dir, options, store };
    std::fs::write(spool.dir.path().join("received_signals/dropped"), PLAIN).unwrap();
    drop(receiver.accept(&signal("theirs", 0)).await.unwrap());
    spool.adopted("theirs").await;
    spool.adopted("dropped").await;
}

#[tokio::test]
async fn a_folder_that_is_replaced_stops_the_store_until_it_is_back() {
    let spool = Spool::new(Era::Y2026);
    let (folder, away) = (spool.path("received_signals", ""), spool.dir.path().join("away"));
    std::fs::rename(&folder, &away).unwrap();
    std::fs::create_dir(&folder).unwrap();
    spool
        .until("noticed", async || (!spool.store.pending().await.unwrap().accepting).then_some(()))
        .await;
    let refused = spool.store.accept(&signal("a", 0)).await.unwrap_err();
    assert!(refused.to_string().contains("removed or replaced"), "{refused}");
    std::fs::remove_dir(&folder).unwrap();
    std::fs::rename(&away, &folder).unwrap();
    spool
        .until("back", async || spool.store.pending().await.unwrap().accepting.then_some(()))
        .await;
    drop(spool.store.accept(&signal("a", 0)).await.unwrap());

    // The whole directory: noticed by the very next accept.
    let (root, away) = (spool.dir.path().join("mining"), spool.dir.path().join("gone"));
    std::fs::rename(&root, &away).unwrap();
    assert!(spool.store.accept(&signal("b", 0)).await.is_err());
    assert!(!root.exists(), "nothing is made again in its place");
}
