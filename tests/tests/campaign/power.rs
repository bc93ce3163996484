//! Power cuts: the disk's image is copied while the processes work on it, which leaves out
//! everything that was not synced. On the copy everything is there that was acknowledged before.
//!
//! While it is copied the processes stand still, so that the copy is of one moment.

use std::path::Path;
use std::time::{Duration, Instant};

use ptn_tests::chaos::load::Load;
use ptn_tests::chaos::mounts::{Mounted, ext4, mounts_are_possible, run};
use ptn_tests::chaos::table::Table;
use ptn_tests::chaos::world::{Shape, Store, World};
use ptn_tests::chaos::{Dice, HANG, from_env, say};

use crate::PROGRAMS;

/// Waits until every thread of a process stands still, also those that were in the kernel.
async fn stands_still(pid: u32) {
    let end = Instant::now() + HANG;
    let still = || {
        std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().all(|thread| {
            let stat = std::fs::read_to_string(thread.unwrap().path().join("stat"));
            // The state stands behind the name, which is in brackets.
            stat.is_ok_and(|s| s.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')))
        })
    };
    while !still() {
        assert!(Instant::now() < end, "{pid} does not stand still");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// One cut: the copy, and what a machine finds on it that starts again.
async fn cut(world: &mut World, load: &Load, image: &Path, table: &mut Table) {
    for victim in world.victims() {
        victim.signal("-STOP");
    }
    for victim in world.victims() {
        stands_still(victim.pid()).await;
    }
    // Everything that a sender has in hand by now, and what validators know.
    let answered = load.answered();
    let mut after = world.fork().await;
    let copy = after.home.path("image");
    run("cp", &["--sparse=always", image.to_str().unwrap(), copy.to_str().unwrap()]);
    for victim in world.victims() {
        victim.signal("-CONT");
    }
    let disk = Mounted::image(&copy, &after.data());
    let since = Instant::now();
    after.start();
    let found = after.settle(&answered).await;
    let said = after.said();
    table.judge(answered.len(), &found, || said);
    let row = table.row(&format!("power cut, {}", world.shape), "copy of a mounted ext4");
    row.hits += 1;
    row.resumes.push(since.elapsed());
    after.stop().await;
    disk.unmount();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_power_cut() {
    if !mounts_are_possible() {
        return;
    }
    let cuts = from_env("PTN_CAMPAIGN_CUTS", 8);
    let mut dice = Dice::new("power cuts");
    let mut table = Table::default();
    let mut done = 0;
    let shapes = [(true, false), (false, true), (true, true), (false, false)];
    for (apart, y2024) in shapes.into_iter().cycle() {
        if done >= cuts {
            break;
        }
        let mut world = World::new(PROGRAMS, Shape { store: Store::Spool, apart, y2024 }).await;
        let image = world.home.path("image");
        ext4(&image, 64);
        let disk = Mounted::image(&image, &world.data());
        world.home.make_data();
        run("sync", &["-f", world.data().to_str().unwrap()]);
        world.start();
        let load = world.load(Duration::from_millis(20));
        load.wait_for(40).await;
        for _ in 0..(cuts - done).min(4) {
            tokio::time::sleep(Duration::from_millis(dice.below(700))).await;
            cut(&mut world, &load, &image, &mut table).await;
            done += 1;
        }
        say(&format!("power cuts: {done} of {cuts}"));
        load.stop().await;
        world.stop().await;
        disk.unmount();
    }
    table.print("Power cut");
}
