//! PostgreSQL itself dies: every one of its processes is killed under load, and it is started again.
//! The server and the miner are left alone, and must go on by themselves.

use std::time::{Duration, Instant};

use ptn_tests::chaos::ledger::at_validators;
use ptn_tests::chaos::table::Table;
use ptn_tests::chaos::world::{Shape, Store, World};
use ptn_tests::chaos::{Dice, from_env, say};
use ptn_tests::cluster::Cluster;
use ptn_tests::postgres::Database;

use crate::PROGRAMS;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_killed_and_restarted_loses_doubles_and_reorders_nothing() {
    let kills = from_env("PTN_CAMPAIGN_PG_KILLS", 3);
    let mut dice = Dice::new("kills of PostgreSQL");
    let mut table = Table::default();
    let mut cluster = Cluster::new(&[]).await;
    let database = Database::on(cluster.server()).await;
    let shape = Shape { store: Store::Postgres, apart: true, y2024: false };
    let mut world = World::on(PROGRAMS, shape, database).await;
    world.start();
    let load = world.load(Duration::from_millis(40));
    for n in 0..kills {
        load.wait_for(20).await;
        tokio::time::sleep(Duration::from_millis(dice.below(300))).await;
        cluster.kill();
        // Now and then it is away for longer than anybody waits, or than a lease lasts.
        let away = if n % 3 == 2 { 3500 } else { dice.below(600) };
        tokio::time::sleep(Duration::from_millis(away)).await;
        let began = Instant::now();
        cluster.start().await;
        let since = Instant::now();
        let took = world.first_delivery(since).await - since;
        say(&format!("away for {away} ms, up in {:?}, delivers after {took:?}", since - began));
        let row = table.row("PostgreSQL killed and restarted", "from outside");
        row.hits += 1;
        row.resumes.push(took);
        let found = at_validators(&world.ledgers);
        assert!(found.none(), "{found:#?}\n{}", world.said());
    }
    // Everybody lived through it.
    load.wait_for(20).await;
    for victim in world.victims() {
        assert!(victim.ended(Duration::ZERO).await.is_none(), "it ended:\n{}", victim.said());
    }
    load.stop().await;
    let answered = load.answered();
    let found = world.settle(&answered).await;
    let said = world.said();
    table.judge(answered.len(), &found, || said);
    table.print("PostgreSQL killed");
    world.stop().await;
}
