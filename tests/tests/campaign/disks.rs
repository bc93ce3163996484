//! Disks that are full, that fail, that turn read-only or slow, under the real processes and their
//! load: what is refused says so, nothing is half stored, nothing is acknowledged that is not
//! durable, and it all goes on afterwards.

use std::time::{Duration, Instant};

use ptn_tests::chaos::faults::{Action, Fault, When};
use ptn_tests::chaos::load::{Load, Refusal};
use ptn_tests::chaos::mounts::{Mounted, ext4, fill, mounts_are_possible, repair, run};
use ptn_tests::chaos::table::Table;
use ptn_tests::chaos::world::{Shape, Store, Who, World, after};
use ptn_tests::chaos::{HANG, from_env, say};
use serde_json::json;

use crate::PROGRAMS;

const ENOSPC: i32 = 28;
const EIO: i32 = 5;
const EROFS: i32 = 30;
const JOURNAL: &str = "/journal.log$";
const APART: Shape = Shape { store: Store::Spool, apart: true, y2024: false };
const ONE: Shape = Shape { store: Store::Spool, apart: false, y2024: false };

/// A world under load, with one thing going wrong in it.
struct Trouble<'a> {
    world: World,
    load: Load,
    table: &'a mut Table,
    fault: &'static str,
    how: &'static str,
}

impl<'a> Trouble<'a> {
    async fn begin(
        mut world: World,
        fault: &'static str,
        how: &'static str,
        table: &'a mut Table,
    ) -> Self {
        say(&format!("{fault}: {how}"));
        world.start();
        let load = world.load(Duration::from_millis(30));
        load.wait_for(20).await;
        Self { world, load, table, fault, how }
    }

    async fn new(
        shape: Shape,
        fault: &'static str,
        how: &'static str,
        table: &'a mut Table,
    ) -> Self {
        Self::begin(World::new(PROGRAMS, shape).await, fault, how, table).await
    }

    /// Waits until senders were refused so often, and checks every refusal: its status and code,
    /// that it says when to come back, and that it names this.
    async fn refused(&self, times: usize, status: u16, code: &str, named: &str) {
        let end = Instant::now() + HANG;
        let mut seen: Vec<Refusal> = Vec::new();
        while seen.len() < times {
            assert!(Instant::now() < end, "not refused; it said:\n{}", self.world.said());
            tokio::time::sleep(Duration::from_millis(10)).await;
            seen.extend(self.load.refusals());
        }
        for refusal in seen {
            let error = refusal.body["error"].as_str().unwrap_or_default();
            let well = refusal.status == status
                && refusal.retry_after.is_some_and(|seconds| seconds > 0)
                && refusal.body["code"].as_str().is_some_and(|c| c.starts_with(code))
                && error.contains(named);
            assert!(well, "not {status} {code} about {named}: {refusal:?}");
        }
    }

    /// Nothing is acknowledged during this time: not one answer between many refusals.
    async fn nothing_is_accepted(&self, refusals: usize) {
        let before = self.load.count();
        let end = Instant::now() + HANG;
        let mut heard = 0;
        while heard < refusals {
            assert!(Instant::now() < end, "senders hear nothing");
            tokio::time::sleep(Duration::from_millis(10)).await;
            heard += self.load.refusals().len();
        }
        assert_eq!(self.load.count(), before, "acknowledged although nothing can be stored");
    }

    /// Notes the hits, and how long it took from the end of the fault to this moment.
    fn note(&mut self, hits: usize, since: Instant, at: Instant) {
        assert!(hits > 0, "{}: nothing was hit", self.fault);
        let row = self.table.row(self.fault, self.how);
        row.hits += hits;
        row.resumes.push(at - since);
    }

    /// Takes the faults away and returns how often they were hit.
    fn heal(&mut self) -> usize {
        let mut hits = 0;
        for victim in self.world.victims() {
            hits += victim.plan.hits().len();
            victim.plan.clear();
        }
        hits
    }

    /// Heals, waits for the next acknowledgement and notes how long that took.
    async fn accepts_again(&mut self, hits: usize) {
        let since = Instant::now();
        let hits = hits + self.heal();
        let at = tokio::time::timeout(HANG, after(self.load.answers(), since));
        let at = at.await.unwrap_or_else(|_| panic!("not again:\n{}", self.world.said()));
        self.note(hits, since, at);
        self.load.refusals();
    }

    /// Lets everything come to its end and judges it by the books.
    async fn end(mut self) {
        self.load.wait_for(20).await;
        self.load.stop().await;
        let answered = self.load.answered();
        let found = self.world.settle(&answered).await;
        let said = self.world.said();
        self.table.judge(answered.len(), &found, || said);
        self.world.stop().await;
    }
}

/// A fault of the journal's writes in the middle of a record.
fn half_written(number: i32) -> Fault {
    Fault { when: When::Half, ..Fault::new("write", JOURNAL, Action::Error(number)) }
}

async fn full(table: &mut Table) {
    let world = World::new(PROGRAMS, APART).await;
    let disk = Mounted::tmpfs(&world.data(), "6m").unwrap();
    world.home.make_data();
    let mut t = Trouble::begin(world, "disk full", "tmpfs, filled", table).await;
    let filler = t.world.data().join("filler");
    fill(&filler);
    let named = t.world.data().to_str().unwrap().to_owned();
    t.refused(30, 507, "disk_full", &named).await;
    std::fs::remove_file(&filler).unwrap();
    t.accepts_again(1).await;
    t.end().await;
    disk.unmount();
}

async fn refused_while_it_lasts(
    table: &mut Table,
    fault: &'static str,
    how: &'static str,
    faults: &[Fault],
    (status, code): (u16, &str),
) {
    let mut t = Trouble::new(APART, fault, how, table).await;
    t.world.victim(Who::Receiver).plan.set(faults);
    let journal = t.world.data().join(".ptn/journal/journal.log");
    t.refused(10, status, code, journal.to_str().unwrap()).await;
    t.nothing_is_accepted(10).await;
    t.accepts_again(0).await;
    t.end().await;
}

/// What is left of a record cannot be cut off. Of several records some may be whole: those are found
/// again, and then acknowledged with right.
async fn torn(table: &mut Table) {
    let fault = "write fails for good, server";
    let mut t = Trouble::new(APART, fault, "EIO in `write`, and in cutting back", table).await;
    let faults = [half_written(EIO), Fault::new("truncate", JOURNAL, Action::Error(EIO))];
    t.world.victim(Who::Receiver).plan.set(&faults);
    t.refused(20, 503, "store_io", JOURNAL.trim_end_matches('$')).await;
    t.accepts_again(0).await;
    t.end().await;
}

/// The miner cannot write: senders notice nothing, deliveries wait and go on by themselves.
async fn deliveries_wait(
    table: &mut Table,
    fault: &'static str,
    how: &'static str,
    faults: &[Fault],
) {
    let mut t = Trouble::new(APART, fault, how, table).await;
    t.world.victim(Who::Deliverer).forget();
    t.world.victim(Who::Deliverer).plan.set(faults);
    t.world.victim(Who::Deliverer).says("delivery pauses until this can be recorded").await;
    t.load.wait_for(20).await;
    let finished = t.world.effects();
    t.load.wait_for(20).await;
    // What was under way may still have arrived, once for every lane and validator.
    assert!(t.world.effects() <= finished + 3 * 2, "delivered without a word in the journal");
    assert!(t.load.refusals().is_empty(), "senders need not know");
    let since = Instant::now();
    let hits = t.heal();
    let at = t.world.first_delivery(since).await;
    t.note(hits, since, at);
    t.end().await;
}

/// A failed sync: nobody knows what the disk holds, so the process ends, and the next one reads it
/// all again.
async fn a_failed_sync(table: &mut Table, shape: Shape, who: Who, fault: &'static str) {
    let mut t = Trouble::new(shape, fault, "EIO on `sync` of the journal", table).await;
    let once = Fault { times: 1, ..Fault::new("sync", JOURNAL, Action::Error(EIO)) };
    t.world.victim(who).plan.set(&[once]);
    t.world.victim(who).says("the store stops: what the disk holds is uncertain").await;
    let ended = t.world.victim(who).ended(HANG).await.expect("it ends by itself");
    assert_eq!(ended.code(), Some(74), "{}", t.world.victim(who).said());
    t.world.victim(who).says("check the disk and restart").await;
    if shape.apart && who == Who::Deliverer {
        // Senders are not concerned: their own process knows its own disk.
        t.load.wait_for(20).await;
        assert!(t.load.refusals().is_empty());
    } else {
        // Whoever was still answered was told so.
        for refusal in t.load.refusals() {
            assert_eq!((refusal.status, &refusal.body["code"]), (503, &json!("store_poisoned")));
            assert!(refusal.retry_after.is_some(), "{refusal:?}");
        }
    }
    let hits = t.heal();
    let since = Instant::now();
    t.world.start();
    let at = t.world.first_delivery(since).await;
    t.note(hits, since, at);
    t.load.refusals();
    t.end().await;
}

async fn read_only(table: &mut Table) {
    // Not the sync: what was written before may still reach the disk, and after a failed sync
    // nothing is believed until a restart.
    let calls = ["open", "write", "rename", "link", "unlink", "truncate", "mkdir"];
    let faults = calls.map(|call| Fault::new(call, "/mining/", Action::Error(EROFS)));
    let fault = "disk read-only, for a while";
    let mut t = Trouble::new(APART, fault, "EROFS on every change", table).await;
    for victim in t.world.victims() {
        victim.plan.set(&faults);
    }
    let journal = t.world.data().join(".ptn/journal/journal.log");
    t.refused(10, 503, "store_io", journal.to_str().unwrap()).await;
    t.nothing_is_accepted(10).await;
    t.accepts_again(0).await;
    t.end().await;
}

/// The kernel gives a file system up, as it does when its disk fails.
async fn given_up(table: &mut Table) {
    let world = World::new(PROGRAMS, APART).await;
    let image = world.home.path("image");
    ext4(&image, 64);
    let disk = Mounted::image(&image, &world.data());
    world.home.make_data();
    run("sync", &["-f", world.data().to_str().unwrap()]);
    let fault = "disk read-only, given up by the kernel";
    let mut t = Trouble::begin(world, fault, "ext4, `remount,abort`", table).await;
    let at = t.world.data();
    // Its own word for this is an error.
    drop(std::process::Command::new("mount").args(["-o", "remount,abort"]).arg(&at).output());
    let (end, mut refused) = (Instant::now() + HANG, 0);
    while refused < 10 {
        assert!(Instant::now() < end, "not refused; it said:\n{}", t.world.said());
        for refusal in t.load.refusals() {
            let code = refusal.body["code"].as_str().unwrap_or_default();
            assert!(refusal.status == 503 && code.starts_with("store_"), "{refusal:?}");
            refused += 1;
        }
        // When a sync met it.
        if let Some(status) = t.world.victim(Who::Receiver).has_ended() {
            assert_eq!(status.code(), Some(74), "{}", t.world.said());
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for victim in t.world.victims() {
        victim.kill().await;
    }
    disk.unmount();
    // As at the next boot.
    repair(&image);
    let disk = Mounted::image(&image, &at);
    let since = Instant::now();
    t.world.start();
    let first = t.world.first_delivery(since).await;
    t.note(1, since, first);
    t.load.refusals();
    t.end().await;
    disk.unmount();
}

async fn slow(table: &mut Table) {
    let mut t = Trouble::new(APART, "slow disk", "100 ms for every `sync`", table).await;
    for victim in t.world.victims() {
        victim.plan.set(&[Fault::new("sync", "/mining/", Action::Delay(100))]);
    }
    t.load.wait_for(40).await;
    assert!(t.load.refusals().is_empty(), "slow is not broken");
    t.accepts_again(0).await;
    t.end().await;
}

async fn replaced(table: &mut Table) {
    let mut t = Trouble::new(APART, "data directory gone", "renamed away", table).await;
    let (data, away) = (t.world.data(), t.world.home.path("away"));
    std::fs::rename(&data, &away).unwrap();
    t.refused(10, 503, "store_io", data.to_str().unwrap()).await;
    t.nothing_is_accepted(10).await;
    assert!(!data.exists(), "made again over what may be a missing mount");
    std::fs::rename(&away, &data).unwrap();
    t.accepts_again(1).await;
    t.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_disk_does_nothing_is_acknowledged_that_is_not_safe() {
    let mut table = Table::default();
    for _ in 0..from_env("PTN_CAMPAIGN_ROUNDS", 1) {
        if mounts_are_possible() {
            full(&mut table).await;
        }
        let (full, bad) = ((507, "disk_full"), (503, "store_io"));
        let how = "ENOSPC halfway in `write`";
        let half = [half_written(ENOSPC)];
        refused_while_it_lasts(&mut table, "disk full, server", how, &half, full).await;
        deliveries_wait(&mut table, "disk full, miner", how, &half).await;
        let (how, half) = ("EIO halfway in `write`", [half_written(EIO)]);
        refused_while_it_lasts(&mut table, "write fails, server", how, &half, bad).await;
        deliveries_wait(&mut table, "write fails, miner", how, &half).await;
        torn(&mut table).await;
        a_failed_sync(&mut table, APART, Who::Receiver, "sync fails, server").await;
        a_failed_sync(&mut table, APART, Who::Deliverer, "sync fails, miner").await;
        a_failed_sync(&mut table, ONE, Who::Receiver, "sync fails, one process").await;
        read_only(&mut table).await;
        slow(&mut table).await;
        replaced(&mut table).await;
    }
    table.print("Disk faults");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_disk_took_before_its_kernel_gave_it_up_is_there_afterwards() {
    let mut table = Table::default();
    for _ in 0..from_env("PTN_CAMPAIGN_ROUNDS", 5) {
        if mounts_are_possible() {
            given_up(&mut table).await;
        }
    }
    table.print("A file system given up");
}
