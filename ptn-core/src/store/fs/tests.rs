//! Every call that changes the disk fails once, and then for good.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use tempfile::TempDir;

use super::disk::{Disk, RealDisk};
use super::{FsOptions, FsStore};
use crate::record::{DeliveryReport, Progress, SignalState, ValidatorRecord};
use crate::rules::{Era, Rules};
use crate::signal::{OrderUuid, Signal};
use crate::store::{Accepted, SignalStore, StoreError};

/// What kind of calls to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Any,
    Write,
    Sync,
}

/// A disk whose `nth` call of a kind fails; or all from that one on.
#[derive(Debug)]
struct FaultyDisk {
    kind: Call,
    nth: usize,
    for_good: bool,
    error: io::ErrorKind,
    calls: AtomicUsize,
    /// How much of a failing write is written before it fails.
    partly: usize,
    /// Free bytes.
    room: AtomicU64,
    /// The next sync of a finished file says so, and waits to be let on.
    gate: Mutex<Option<(Sender<()>, Receiver<()>)>>,
}

impl FaultyDisk {
    fn new(kind: Call, nth: usize, for_good: bool, error: io::ErrorKind) -> Arc<Self> {
        let (calls, room) = (AtomicUsize::new(0), AtomicU64::new(1 << 40));
        Arc::new(Self {
            kind,
            nth,
            for_good,
            error,
            calls,
            partly: 7,
            room,
            gate: Mutex::default(),
        })
    }

    fn call(&self, kind: Call) -> io::Result<()> {
        if self.kind != Call::Any && self.kind != kind {
            return Ok(());
        }
        let n = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        if n == self.nth || (self.for_good && n > self.nth) {
            return Err(self.error.into());
        }
        Ok(())
    }

    fn was_hit(&self) -> bool {
        self.calls.load(Ordering::SeqCst) >= self.nth
    }
}

impl Disk for FaultyDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.call(Call::Any)?;
        RealDisk.create_dir(path)
    }
    fn create_new(&self, path: &Path) -> io::Result<File> {
        self.call(Call::Any)?;
        RealDisk.create_new(path)
    }
    fn open_append(&self, path: &Path, create: bool) -> io::Result<File> {
        self.call(Call::Any)?;
        RealDisk.open_append(path, create)
    }
    fn write_all(&self, file: &File, bytes: &[u8]) -> io::Result<()> {
        if let Err(e) = self.call(Call::Write) {
            RealDisk.write_all(file, bytes.get(..self.partly).unwrap_or(bytes))?;
            return Err(e);
        }
        RealDisk.write_all(file, bytes)
    }
    fn write_again(&self, path: &Path, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.call(Call::Any)?;
        RealDisk.write_again(path, at, bytes)
    }
    fn truncate(&self, file: &File, len: u64) -> io::Result<()> {
        self.call(Call::Any)?;
        RealDisk.truncate(file, len)
    }
    fn set_modified(&self, file: &File, at: SystemTime) -> io::Result<()> {
        self.call(Call::Any)?;
        RealDisk.set_modified(file, at)
    }
    fn sync(&self, file: &File) -> io::Result<()> {
        use std::os::fd::AsRawFd as _;
        self.call(Call::Sync)?;
        let name = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        if name.to_string_lossy().contains("failed_signals")
            && let Some((syncing, gate)) = self.gate.lock().unwrap().take()
        {
            syncing.send(()).unwrap();
            gate.recv().unwrap();
        }
        RealDisk.sync(file)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.call(Call::Sync)?;
        RealDisk.sync_dir(path)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(Call::Any)?;
        RealDisk.link(from, to)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(Call::Any)?;
        RealDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call(Call::Any)?;
        RealDisk.remove(path)
    }
    fn free(&self, path: &Path) -> io::Result<super::FreeSpace> {
        let bytes = self.room.load(Ordering::SeqCst);
        Ok(super::FreeSpace { bytes, ..RealDisk.free(path)? })
    }
}

fn options() -> FsOptions {
    let mut options = FsOptions::new(Arc::new(Rules::load(Era::Y2026).unwrap()));
    // Rewritten all the time.
    options.journal_bytes = 1;
    options.inotify = false;
    options
}

fn signal(id: &str) -> Signal {
    let rules = Rules::load(Era::Y2026).unwrap();
    let body = format!(
        r#"{{"order_uuid":"{id}","trade_pair":"BTCUSDC","order_type":"LONG","leverage":0.1}}"#
    );
    Signal::from_json(body.as_bytes(), &rules).unwrap()
}

#[derive(Debug, Default)]
struct Said {
    accepted: Vec<String>,
    begun: Vec<String>,
    finished: Vec<String>,
}

/// A short life; whatever fails, fails.
async fn live(dir: &Path, disk: Arc<dyn Disk>) -> Said {
    let mut said = Said::default();
    let Ok(store) = FsStore::start(dir.to_owned(), options(), disk, true) else { return said };
    for id in ["a", "b", "c"] {
        if store.accept(&signal(id)).await.is_ok() {
            said.accepted.push(id.to_owned());
        }
    }
    for lease in store.claim(2).await.unwrap_or_default() {
        let id = lease.stored.signal.id().to_string();
        store.record(&lease, Progress::Targets { validators: vec![] }).await.ok();
        if store.cancel(lease.stored.signal.id()).await.is_ok() {
            said.begun.push(id.clone());
        }
        let report = DeliveryReport {
            state: SignalState::Processed,
            reason: String::new(),
            validators: vec![],
            finished_at: 1,
        };
        if store.finish(&lease, &report).await.is_ok() {
            said.finished.push(id);
        }
    }
    said
}

/// What was said is so, and the store works again.
async fn check(dir: &Path, said: &Said, what: &str) {
    let store = FsStore::open_owner(dir, options()).unwrap_or_else(|e| panic!("{what}: {e}"));
    for id in &said.accepted {
        let stored = store.get(&OrderUuid::parse(id).unwrap()).await.unwrap();
        let stored = stored.unwrap_or_else(|| panic!("{what}: {id} is lost"));
        if said.finished.contains(id) {
            assert_eq!(stored.state, SignalState::Processed, "{what}: {id}");
        } else if said.begun.contains(id) && stored.state == SignalState::Pending {
            assert!(stored.cancel_requested, "{what}: {id}");
        }
    }
    let again = store.accept(&signal("later")).await.unwrap();
    assert!(matches!(again, Accepted::New { .. }), "{what}");
    drop(store);
    // Also the folders came right.
    let received = std::fs::read_dir(dir.join("received_signals")).unwrap().count();
    let processed = std::fs::read_dir(dir.join("processed_signals")).unwrap().count();
    assert!(processed >= said.finished.len(), "{what}");
    assert!(received + processed > said.accepted.len(), "{what}: {received} + {processed}");
    assert_eq!(std::fs::read_dir(dir.join(".ptn/tmp")).unwrap().count(), 0, "{what}");
}

async fn fail_each(kind: Call, for_good: bool, error: io::ErrorKind) {
    let mut nth = 1;
    loop {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("mining");
        let disk = FaultyDisk::new(kind, nth, for_good, error);
        let said = live(&path, Arc::clone(&disk) as Arc<dyn Disk>).await;
        let what = format!("call {nth} of {kind:?} failed with {error:?}, for good: {for_good}");
        // Of this process; a restart finds it gone.
        let swept = path.join(".ptn/tmp");
        if let Ok(left) = std::fs::read_dir(&swept) {
            left.for_each(|entry| std::fs::remove_file(entry.unwrap().path()).unwrap());
        }
        check(&path, &said, &what).await;
        if !disk.was_hit() {
            assert!(nth > 5 && said.finished.len() == 2, "{what}: {said:?}");
            return;
        }
        nth += 1;
    }
}

#[tokio::test]
async fn any_call_may_fail_once() {
    fail_each(Call::Any, false, io::ErrorKind::Other).await;
}

#[tokio::test]
async fn any_call_may_fail_for_good() {
    fail_each(Call::Any, true, io::ErrorKind::Other).await;
}

#[tokio::test]
async fn the_disk_may_be_full_at_any_write() {
    fail_each(Call::Write, false, io::ErrorKind::StorageFull).await;
}

#[tokio::test]
async fn any_sync_may_fail() {
    fail_each(Call::Sync, false, io::ErrorKind::Other).await;
}

#[tokio::test]
async fn a_full_disk_refuses_and_recovers_by_itself() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("mining");
    drop(FsStore::open(&path, options()).unwrap());
    let disk = FaultyDisk::new(Call::Write, 2, false, io::ErrorKind::StorageFull);
    let store = FsStore::start(path, options(), disk, false).unwrap();
    assert_eq!(store.accept(&signal("a")).await.unwrap(), Accepted::New { seq: 1 });
    // The folders' thread may meet the full disk first; then this one has room.
    match store.accept(&signal("b")).await {
        Ok(_) => {}
        Err(e) => {
            assert!(matches!(e, StoreError::Full { .. }), "{e}");
            assert_eq!(store.accept(&signal("b")).await.unwrap(), Accepted::New { seq: 2 });
        }
    }
    assert!(store.pending().await.unwrap().accepting);
}

#[tokio::test]
async fn below_the_limit_nothing_new_is_accepted_and_what_was_is_finished() {
    let dir = TempDir::new().unwrap();
    let disk = FaultyDisk::new(Call::Any, usize::MAX, false, io::ErrorKind::Other);
    let mut options = options();
    options.min_free = 1_000_000;
    let shared = Arc::clone(&disk) as Arc<dyn Disk>;
    let store = FsStore::start(dir.path().join("mining"), options, shared, true).unwrap();
    disk.room.store(1_000_000, Ordering::SeqCst);
    assert_eq!(store.accept(&signal("a")).await.unwrap(), Accepted::New { seq: 1 });
    disk.room.store(999_999, Ordering::SeqCst);
    for _ in 0..2 {
        let refused = store.accept(&signal("b")).await.unwrap_err();
        assert_eq!(refused.code(), "disk_low", "{refused}");
        assert!(refused.to_string().contains("spool.min-free"), "{refused}");
    }
    assert!(!store.pending().await.unwrap().accepting);
    assert!(store.get(signal("b").id()).await.unwrap().is_none());
    // The same one again is no new one, and everything else about it goes on.
    let again = store.accept(&signal("a")).await.unwrap();
    assert_eq!(again, Accepted::Same { state: SignalState::Pending });
    let lease = store.claim(1).await.unwrap().pop().unwrap();
    store.record(&lease, Progress::Targets { validators: vec![] }).await.unwrap();
    let (reason, validators) = (String::new(), Vec::new());
    let state = SignalState::Processed;
    let report = DeliveryReport { state, reason, validators, finished_at: 1 };
    store.finish(&lease, &report).await.unwrap();
    disk.room.store(2_000_000, Ordering::SeqCst);
    assert!(store.pending().await.unwrap().accepting);
    assert_eq!(store.accept(&signal("b")).await.unwrap(), Accepted::New { seq: 2 });
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_accepted_until_a_restart() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("mining");
    drop(FsStore::open(&path, options()).unwrap());
    // The first two are those of the journal and its folder at the start.
    let disk = FaultyDisk::new(Call::Sync, 3, false, io::ErrorKind::Other);
    let store = FsStore::start(path.clone(), options(), disk, false).unwrap();
    for _ in 0..2 {
        let refused = store.accept(&signal("a")).await.unwrap_err();
        assert!(matches!(refused, StoreError::Poisoned(_)), "{refused}");
    }
    assert!(!store.pending().await.unwrap().accepting);
    assert!(store.get(signal("a").id()).await.unwrap().is_none());
    drop(store);
    let store = FsStore::open(&path, options()).unwrap();
    assert_eq!(store.accept(&signal("a")).await.unwrap(), Accepted::New { seq: 1 });
}

fn end(state: SignalState, validators: Vec<ValidatorRecord>) -> DeliveryReport {
    DeliveryReport { state, reason: "r".to_owned(), validators, finished_at: 1 }
}

/// While the file of the first end is synced, the signal is retried and ends again.
#[tokio::test]
async fn the_file_of_one_end_says_nothing_of_the_next_one() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("mining");
    let disk = FaultyDisk::new(Call::Any, usize::MAX, false, io::ErrorKind::Other);
    let (syncing, reached) = std::sync::mpsc::channel();
    let (go_on, gate) = std::sync::mpsc::channel();
    *disk.gate.lock().unwrap() = Some((syncing, gate));
    let shared = Arc::clone(&disk) as Arc<dyn Disk>;
    let store = FsStore::start(path.clone(), options(), shared, true).unwrap();
    let (x, id) = (signal("x"), OrderUuid::parse("x").unwrap());
    assert_eq!(store.accept(&x).await.unwrap(), Accepted::New { seq: 1 });
    let first = store.claim(1).await.unwrap().remove(0);
    store.finish(&first, &end(SignalState::Failed, vec![])).await.unwrap();
    reached.recv().unwrap();
    store.retry(&id).await.unwrap();
    let second = store.claim(1).await.unwrap().remove(0);
    store.finish(&second, &end(SignalState::Processed, vec![])).await.unwrap();
    go_on.send(()).unwrap();
    // The journal is written anew behind what lasts.
    assert_eq!(store.accept(&signal("y")).await.unwrap(), Accepted::New { seq: 2 });
    drop(store);
    assert!(path.join("processed_signals/x").is_file());
    let store = FsStore::open_owner(&path, options()).unwrap();
    let stored = store.get(&id).await.unwrap().expect("finished, and in neither place");
    assert_eq!(stored.state, SignalState::Processed);
}

#[cfg(feature = "test-util")]
mod by_hand {
    use super::super::ByHand;
    use super::*;
    use crate::record::DeliveryState;

    /// Lets the threads do what a call asks them for.
    async fn by_hand<T>(hand: &mut ByHand, call: impl Future<Output = T>) -> T {
        let mut call = std::pin::pin!(call);
        let mut queue = std::task::Context::from_waker(std::task::Waker::noop());
        if let std::task::Poll::Ready(done) = call.as_mut().poll(&mut queue) {
            return done;
        }
        hand.write();
        call.await
    }

    /// A file that lasts is written anew (its name was queued twice), and the new one is not synced.
    #[tokio::test]
    async fn what_lasts_is_not_written_anew() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("mining");
        let (store, mut hand) =
            FsStore::open_by_hand(&path, options(), Arc::new(RealDisk)).unwrap();
        let x = signal("x");
        let accepted = by_hand(&mut hand, store.accept(&x)).await.unwrap();
        assert_eq!(accepted, Accepted::New { seq: 1 });
        let lease = by_hand(&mut hand, store.claim(1)).await.unwrap().remove(0);
        let processed = end(SignalState::Processed, vec![]);
        by_hand(&mut hand, store.finish(&lease, &processed)).await.unwrap();
        hand.files(true);
        let file = || {
            use std::os::unix::fs::MetadataExt as _;
            std::fs::metadata(path.join("processed_signals/x")).unwrap().ino()
        };
        let lasts = file();
        store.shared.align(x.id().clone());
        hand.files(false);
        assert_eq!(file(), lasts);
    }

    /// A signal ends for the second time and is retried in the same batch: its file still tells of the
    /// first round.
    #[tokio::test]
    async fn a_retry_goes_on_from_the_last_round_not_from_an_old_file() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("mining");
        let (store, mut hand) =
            FsStore::open_by_hand(&path, options(), Arc::new(RealDisk)).unwrap();
        let (x, id) = (signal("x"), OrderUuid::parse("x").unwrap());
        let record = |state| ValidatorRecord {
            state,
            ..ValidatorRecord::new("v1", "127.0.0.1:1".to_owned(), true, 1)
        };
        let accepted = by_hand(&mut hand, store.accept(&x)).await.unwrap();
        assert_eq!(accepted, Accepted::New { seq: 1 });
        let lease = by_hand(&mut hand, store.claim(1)).await.unwrap().remove(0);
        let failed = end(SignalState::Failed, vec![record(DeliveryState::Rejected)]);
        by_hand(&mut hand, store.finish(&lease, &failed)).await.unwrap();
        hand.files(true);
        hand.settled();
        hand.write();
        by_hand(&mut hand, store.retry(&id)).await.unwrap();
        let lease = by_hand(&mut hand, store.claim(1)).await.unwrap().remove(0);
        let again = end(SignalState::Failed, vec![record(DeliveryState::Accepted)]);
        let mut finish = std::pin::pin!(store.finish(&lease, &again));
        let mut queue = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(finish.as_mut().poll(&mut queue).is_pending());
        // One batch with the end.
        let retried = by_hand(&mut hand, store.retry(&id)).await;
        finish.await.unwrap();
        if retried.is_err() {
            by_hand(&mut hand, store.retry(&id)).await.unwrap();
        }
        let lease = by_hand(&mut hand, store.claim(1)).await.unwrap().remove(0);
        assert_eq!(lease.stored.validators["v1"].state, DeliveryState::Accepted);
    }
}
