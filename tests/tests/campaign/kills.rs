//! `kill -9` at every step of accepting, claiming, sending, recording and finishing, in a loop
//! under load.

use std::time::Duration;

use ptn_tests::chaos::ledger::at_validators;
use ptn_tests::chaos::load::Load;
use ptn_tests::chaos::steps::{Since, Step, names, steps, tear};
use ptn_tests::chaos::table::Table;
use ptn_tests::chaos::world::{Shape, Who, World, after};
use ptn_tests::chaos::{Dice, from_env, say};

use crate::PROGRAMS;

/// A step that is not reached within this time is given up: the kill comes from outside.
const REACHED_WITHIN: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(40);
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
    /// Dies at one step, comes back, and goes on.
    async fn cycle(&mut self, step: &Step) {
        let nth = 1 + self.dice.below(3);
        match step.from {
            Since::Work => self.world.victim(step.who).plan.set(&[step.kill(nth)]),
            Since::Start | Since::TornStart => {
                let victim = self.world.victim(step.who);
                if step.from == Since::TornStart {
                    victim.plan.set(&[tear(nth)]);
                    victim.ended(REACHED_WITHIN).await.expect("no outcome is recorded");
                } else {
                    victim.kill().await;
                }
                victim.plan.forget_hits();
                victim.plan.set(&[step.kill(1)]);
                victim.start();
            }
        }
        let victim = self.world.victim(step.who);
        let ended = victim.ended(REACHED_WITHIN).await;
        let hit = victim.plan.hits().iter().any(|label| label == step.name);
        assert!(ended.is_none() || hit, "it died of something else:\n{}", victim.said());
        victim.kill().await;
        victim.plan.clear();
        victim.plan.forget_hits();
        let took = self.back(step.who).await;
        if hit {
            let row = self.table.row(step.name, &step.how());
            row.hits += 1;
            row.resumes.push(took);
        } else {
            say(&format!("not reached: {}", step.name));
        }
        self.check();
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
            tokio::time::timeout(ptn_tests::chaos::HANG, answer).await.expect("no answer")
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

/// So many cycles in one kind of world, a fresh one for each time through the steps.
async fn campaign(shape: Shape, cycles: usize, table: &mut Table) {
    let mut dice = Dice::new(&shape.to_string());
    let steps = steps(shape);
    let mut done = 0;
    while done < cycles {
        let mut round = begin(shape, &mut dice, table).await;
        for (n, step) in steps.iter().enumerate() {
            if done < cycles {
                round.cycle(step).await;
                done += 1;
            }
            if n % 8 == 7 && done < cycles {
                round.random(shape.apart && n % 16 == 15).await;
                done += 1;
            }
        }
        say(&format!("{shape}: {done} of {cycles}"));
        round.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_every_step_nothing_is_lost_doubled_or_reordered() {
    let shapes = [(true, false), (false, true), (true, true), (false, false)];
    let shapes = shapes.map(|(apart, y2024)| Shape { apart, y2024 });
    let once = steps(shapes[0]).len() + 5;
    let cycles = from_env("PTN_CAMPAIGN_CYCLES", 2 * once);
    let mut table = Table::default();
    // The two that have all steps, and for a long run all four.
    let used = if cycles < 4 * once { 2 } else { 4 };
    for (n, shape) in shapes.into_iter().take(used).enumerate() {
        let share = cycles / used + usize::from(n < cycles % used);
        campaign(shape, share, &mut table).await;
    }
    table.print("Crash campaign");
    if cycles >= 2 * once {
        let missed: Vec<_> =
            names().into_iter().filter(|n| !table.rows().iter().any(|r| r.fault == *n)).collect();
        assert!(missed.is_empty(), "never reached: {missed:?}");
    }
}
