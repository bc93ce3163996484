//! Processes that stand still for a while, and a system without a free port: nothing dies, and it goes
//! on by itself.

use std::time::Duration;

use ptn_tests::chaos::faults::{Action, Fault};
use ptn_tests::chaos::load::Load;
use ptn_tests::chaos::table::Table;
use ptn_tests::chaos::world::{Shape, Store, Who, World};

use crate::PROGRAMS;

const EADDRNOTAVAIL: i32 = 99;
const SHAPES: [Shape; 2] = [
    Shape { store: Store::Spool, apart: true, y2024: false },
    Shape { store: Store::Spool, apart: false, y2024: true },
];

/// A world of this shape, under load.
async fn begin(shape: Shape) -> (World, Load) {
    let mut world = World::new(PROGRAMS, shape).await;
    world.start();
    let load = world.load(Duration::from_millis(20));
    load.wait_for(20).await;
    (world, load)
}

async fn end(mut world: World, load: Load, table: &mut Table) {
    load.wait_for(20).await;
    load.stop().await;
    let answered = load.answered();
    let found = world.settle(&answered).await;
    let said = world.said();
    table.judge(answered.len(), &found, || said);
    world.stop().await;
}

/// As a laptop's lid or a host that moves a virtual machine does it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_stood_still_goes_on_without_a_second_effect() {
    let mut table = Table::default();
    for shape in SHAPES {
        let (mut world, load) = begin(shape).await;
        for who in [Who::Deliverer, Who::Receiver] {
            let victim = world.victim(who);
            victim.signal("-STOP");
            // Longer than every wait between two tries.
            tokio::time::sleep(Duration::from_secs(2)).await;
            victim.signal("-CONT");
            load.wait_for(20).await;
        }
        end(world, load, &mut table).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_free_port_orders_wait_and_are_not_taken_for_sent() {
    let mut table = Table::default();
    for shape in SHAPES {
        let (mut world, load) = begin(shape).await;
        // Some in a row, but fewer than an order has tries.
        let fault =
            Fault { times: 3, ..Fault::new("connect", "socket:", Action::Error(EADDRNOTAVAIL)) };
        for _ in 0..4 {
            let plan = &mut world.victim(Who::Deliverer).plan;
            plan.set(std::slice::from_ref(&fault));
            load.wait_for(10).await;
        }
        let plan = &mut world.victim(Who::Deliverer).plan;
        if shape.y2024 {
            // There each order has a connection of its own.
            assert!(!plan.hits().is_empty(), "no connection was refused");
        }
        plan.clear();
        end(world, load, &mut table).await;
    }
}
