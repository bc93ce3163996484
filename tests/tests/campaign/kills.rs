//! `kill -9` at every step of accepting, claiming, sending, recording and finishing, in a loop
//! under load.

use std::time::Duration;

use ptn_tests::chaos::ledger::at_validators;
use ptn_tests::chaos::load::Load;
use ptn_tests::chaos::steps::{Since, Step, names, steps, tear};
use ptn_tests::chaos::table::Table;
use ptn_tests::chaos::world::{Shape, Store, Who, World, after};
use ptn_tests::chaos::{Dice, HANG, from_env, say};

use crate::PROGRAMS;

const PAUSE: Duration = Duration::from_millis(80);
const RANDOM: &str = "any moment";
const BOTH: &str = "any moment, both processes";

/// One world with its load, and the table that is filled.
struct Round<'a> {
    world: World,
    load: Load,
    dice: &'a mut Dice,
    table: &'a mut Table,
}

impl Round<'_> {
    /// Dies at one step, comes back, and goes on; whether it died there.
    async fn cycle(&mut self, step: &Step) -> bool {
        let nth = 1 + self.dice.below(3);
        match step.from {
            Since::Work => self.world.victim(step.who).plan.set(&[step.kill(nth)]),
            Since::Quiet => {
                self.world.victim(step.who).plan.set(&[step.kill(1)]);
                self.load.wait_for(5).await;
                self.load.pause(true);
            }
            Since::LongStart => {
                self.long_journal().await;
                self.load.pause(true);
                let victim = self.world.victim(step.who);
                victim.kill().await;
                victim.plan.set(&[step.kill(1)]);
                victim.start();
            }
            Since::Start | Since::TornStart => {
                let victim = self.world.victim(step.who);
                if step.from == Since::TornStart {
                    victim.plan.set(&[tear(nth)]);
                    victim.ended(HANG).await.expect("no outcome is recorded");
                } else {
                    victim.kill().await;
                }
                victim.plan.forget_hits();
                victim.plan.set(&[step.kill(1)]);
                victim.start();
            }
        }
        let victim = self.world.victim(step.who);
        let ended = victim.ended(HANG).await;
        let hit = victim.plan.hits().iter().any(|label| label == step.name);
        assert!(ended.is_none() || hit, "it died of something else:\n{}", victim.said());
        victim.kill().await;
        victim.plan.clear();
        victim.plan.forget_hits();
        self.load.pause(false);
        let took = self.back(step.who).await;
        if hit {
            let row = self.table.row(step.name, &step.how());
            row.hits += 1;
            row.resumes.push(took);
        } else {
            // Then the kill came from outside, and does not count.
            say(&format!("not reached: {}", step.name));
        }
        self.check();
        hit
    }

    /// Waits until the next start will write the journal anew.
    async fn long_journal(&self) {
        let journal = self.world.data().join(".ptn/journal/journal.log");
        let end = std::time::Instant::now() + HANG;
        while std::fs::metadata(&journal).unwrap().len() < 128 * 1024
            && std::time::Instant::now() < end
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Dies from outside, at whatever it is doing.
    async fn random(&mut self, both: bool) {
        tokio::time::sleep(Duration::from_millis(self.dice.below(400))).await;
        let (fault, who) = match (both, self.dice.below(2)) {
            (true, _) => (BOTH, Who::Deliverer),
            (false, 0) => (RANDOM, Who::Receiver),
            (false, _) => (RANDOM, Who::Deliverer),
        };
        self.world.victim(who).kill().await;
        if both {
            self.world.victim(Who::Receiver).kill().await;
        }
        let took = self.back(who).await;
        let row = self.table.row(fault, "from outside");
        row.hits += 1;
        row.resumes.push(took);
        self.check();
    }

    /// Restarts what is dead; how long until the first answer, or the first delivery.
    async fn back(&mut self, who: Who) -> Duration {
        // What the dead one sent is still on its way into the books.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let since = std::time::Instant::now();
        self.world.start();
        let receives_only = who == Who::Receiver && self.world.shape.apart;
        let at = if receives_only {
            let answer = after(self.load.answers(), since);
            tokio::time::timeout(HANG, answer).await.expect("no answer")
        } else {
            self.world.first_delivery(since).await
        };
        at - since
    }

    /// What the books tell at once; whether something is lost shows at the end.
    fn check(&self) {
        let found = at_validators(&self.world.ledgers);
        assert!(found.none(), "{found:#?}\n{}", self.world.said());
    }

    /// Lets everything come to its end and judges it.
    async fn end(mut self) {
        self.load.stop().await;
        let answered = self.load.answered();
        let found = self.world.settle(&answered).await;
        let said = self.world.said();
        self.table.judge(answered.len(), &found, || said);
        self.world.stop().await;
    }
}

async fn begin<'a>(shape: Shape, dice: &'a mut Dice, table: &'a mut Table) -> Round<'a> {
    let mut world = World::new(PROGRAMS, shape).await;
    world.start();
    let load = world.load(PAUSE);
    // Enough of a journal that a start writes it anew.
    load.wait_for(60).await;
    Round { world, load, dice, table }
}

/// So many cycles in one kind of world, a fresh one for each time through these steps.
async fn campaign(shape: Shape, steps: &[Step], cycles: usize, table: &mut Table) {
    let mut dice = Dice::new(&shape.to_string());
    let mut done = 0;
    while done < cycles {
        let mut round = begin(shape, &mut dice, table).await;
        for (n, step) in steps.iter().enumerate() {
            if done < cycles {
                // Whether a step comes by in time is up to what the processes are doing.
                if !round.cycle(step).await {
                    round.cycle(step).await;
                }
                done += 1;
            }
            if n % 8 == 7 && done < cycles {
                round.random(shape.apart && n % 16 == 15).await;
                done += 1;
            }
        }
        round.end().await;
        say(&format!("{shape}: {done} of {cycles}"));
    }
}

/// Every step once, one half of them in each of two very different worlds.
async fn short(store: Store, table: &mut Table) {
    let shape = |(apart, y2024)| Shape { store, apart, y2024 };
    let worlds = [(true, false), (false, true)].map(shape);
    let all = names(store);
    let has = |shape, name: &str| steps(shape).iter().any(|step| step.name == name);
    for (n, shape) in worlds.into_iter().enumerate() {
        let other = worlds[1 - n];
        let mine = |step: &Step| {
            let at = all.iter().position(|name| *name == step.name);
            at.is_some_and(|at| at % 2 == n) || !has(other, step.name)
        };
        let steps: Vec<Step> = steps(shape).into_iter().filter(mine).collect();
        let cycles = steps.len() + steps.len() / 8;
        campaign(shape, &steps, cycles, table).await;
    }
}

/// The short campaign, or one of so many cycles.
async fn all(store: Store, cycles: usize, title: &str) {
    let mut table = Table::default();
    if cycles == 0 {
        short(store, &mut table).await;
    } else {
        let shapes = [(true, false), (false, true), (true, true), (false, false)];
        for (n, (apart, y2024)) in shapes.into_iter().enumerate() {
            let shape = Shape { store, apart, y2024 };
            let share = cycles / shapes.len() + usize::from(n < cycles % shapes.len());
            campaign(shape, &steps(shape), share, &mut table).await;
        }
    }
    table.print(title);
    let names = names(store);
    if cycles == 0 || cycles >= 4 * names.len() {
        // Whether a start writes the journal anew depends on how much was settled by then, so one
        // time through may miss it; many may not.
        let one = Shape { store, apart: false, y2024: true };
        let must = |name: &str| {
            let step = steps(one).into_iter().find(|step| step.name == name);
            cycles > 0 || step.is_none_or(|step| step.from != Since::LongStart)
        };
        let hit = |name: &str| table.rows().iter().any(|r| r.fault == name);
        let missed: Vec<_> = names.into_iter().filter(|n| must(n) && !hit(n)).collect();
        assert!(missed.is_empty(), "never reached: {missed:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_every_step_nothing_is_lost_doubled_or_reordered() {
    all(Store::Spool, from_env("PTN_CAMPAIGN_CYCLES", 0), "Crash campaign").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_killed_at_every_step_nothing_is_lost_doubled_or_reordered() {
    let cycles = from_env("PTN_CAMPAIGN_PG_CYCLES", 0);
    all(Store::Postgres, cycles, "Crash campaign on PostgreSQL").await;
}
