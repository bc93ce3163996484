//! One world from its beginning to its end: chaos, in which no promise may be broken, then peace,
//! in which everything must come to its end.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ptn_core::directory::Validator;
use ptn_core::record::SignalState;
use ptn_core::store::{Filter, FsStore, SignalStore, StoredSignal};

use super::check::{self, Violation};
use super::desk::Desk;
use super::disk::{SimDisk, Trouble};
use super::front::List;
use super::host::{Host, Pause, Place, fs_options, runtime};
use super::ledger::{End, EndRecord, Event, Ledger, Ms};
use super::net::Net;
use super::plan::{Ask, Errand, Kept, Mishap, Plan, content};
use super::rng::Rng;
use super::shared::Database;
use super::world::{Life, World};

/// So long everything may take to come to its end once nothing fails any more.
const PEACE: Ms = 2 * 3_600_000;
/// What is submitted then must be done within this.
const LAST_ORDERS: Ms = 300_000;

/// What came of a seed.
pub(crate) struct Outcome {
    pub(crate) violations: Vec<Violation>,
    pub(crate) trace: String,
}

/// A process's place: it runs, stands still, or is away.
enum Seat {
    Runs(Box<Host>),
    Frozen(Box<Host>, Ms),
    Away(Ms),
}

struct Chaos {
    place: Place,
    seats: Vec<Option<Seat>>,
    now: Ms,
    /// What ends by itself.
    later: Vec<(Ms, After)>,
    validators: Vec<Validator>,
    listed: Vec<bool>,
    tick: Ms,
}

#[derive(Debug, Clone)]
enum After {
    DiskRecovers,
    Relist { validator: usize, back: bool },
    List,
}

/// Runs one seed.
pub(crate) fn run(seed: u64, dir: &Path, traced: bool) -> Outcome {
    let plan = Arc::new(Plan::new(seed));
    let ledger =
        Ledger { terms: plan.terms.clone(), orders: plan.orders.clone(), ..Ledger::default() };
    let mut rng = Rng::new(seed ^ 0xdead_beef);
    let tick = *rng.pick(&[20, 50, 100, 100]);
    let world = World::new(rng, ledger, traced);
    world.trace(|| describe(&plan));
    let root = dir.join("mining");
    std::fs::remove_dir_all(&root).ok();
    let Plan { validators, unrecognised, weather, .. } = plan.as_ref();
    let recognises = plan.policy.recognises_repeats;
    let net = Net::new(Arc::clone(&world), validators, recognises, unrecognised.clone(), *weather);
    let lease = if let Kept::Shared { lease } = plan.kept { lease } else { 1 };
    let place = Place {
        net,
        list: Arc::new(List::new(plan.may_be_stale)),
        desk: Desk::new(Arc::clone(&world), &plan.errands),
        disk: Arc::new(SimDisk::new(Arc::clone(&world), root.clone())),
        dir: root,
        database: Database::new(Arc::clone(&world), lease),
        world,
        plan: Arc::clone(&plan),
    };
    let mut chaos = Chaos {
        seats: (0..plan.hosts()).map(|_| Some(Seat::Away(0))).collect(),
        now: 0,
        later: vec![(plan.listed_at, After::List)],
        validators: plan.validators.clone(),
        listed: vec![true; plan.validators.len()],
        tick,
        place,
    };
    chaos.chaos();
    let ended = chaos.peace();
    let end = chaos.end();
    let (mut ledger, trace) = chaos.place.world.close();
    ledger.end = end;
    let mut violations = check::check(&ledger);
    if let Err(what) = ended {
        violations.insert(0, what);
    }
    Outcome { violations, trace }
}

fn describe(plan: &Plan) -> String {
    format!(
        "seed {}: rules {}, {:?}, {:?}, {} validators, {} orders, repeats recognised: {}, pacing: {}, \
         mishaps: {:#?}",
        plan.seed,
        plan.rules.era.as_str(),
        plan.kept,
        plan.policy.select,
        plan.validators.len(),
        plan.orders.len(),
        plan.policy.recognises_repeats,
        plan.policy.pacing.is_some(),
        plan.mishaps,
    )
}

impl Chaos {
    fn chaos(&mut self) {
        let plan = Arc::clone(&self.place.plan);
        for (at, mishap) in &plan.mishaps {
            self.run_until(*at);
            self.place.world.trace(|| format!("-- {mishap:?}"));
            self.happen(mishap);
        }
        self.run_until(plan.chaos);
    }

    fn happen(&mut self, mishap: &Mishap) {
        let Place { world, net, disk, database, .. } = &self.place;
        let now = self.now;
        match *mishap {
            Mishap::Crash { host, power, after_calls, down } => {
                if after_calls.is_some()
                    && let Some(Seat::Runs(host)) = &self.seats[host]
                {
                    match &host.shared {
                        Some(shared) => shared.die_after(after_calls),
                        None => disk.die_after(after_calls),
                    }
                } else {
                    self.take_away(host, power, down);
                }
            }
            Mishap::Stop { host, grace, down } => {
                if let Some(Seat::Runs(running)) =
                    self.seats[host].take_if(|s| matches!(s, Seat::Runs(_)))
                {
                    // Others do not stand still meanwhile, so it must not take long.
                    let alone = self.seats.len() == 1;
                    running.stop(&self.place, if alone { grace } else { grace.min(self.tick) });
                    self.now = self.now.max(self.place.world.now());
                    self.place.world.stand(self.now);
                    self.seats[host] = Some(Seat::Away(self.now + down));
                }
            }
            Mishap::Freeze { host, time } => {
                if let Some(Seat::Runs(running)) =
                    self.seats[host].take_if(|s| matches!(s, Seat::Runs(_)))
                {
                    world.log(Event::Frozen { host });
                    net.orphan(host, false);
                    self.seats[host] = Some(Seat::Frozen(running, now + time));
                }
            }
            Mishap::Step(by) => world.step_wall(by),
            Mishap::Disk { trouble, time } => {
                disk.set_trouble(trouble);
                database.set_silent(trouble.full.max(trouble.broken));
                self.later.push((now + time, After::DiskRecovers));
            }
            Mishap::Down { validator, time } => net.down(validator, now + time),
            Mishap::Stall { validator, time } => net.stall(validator, now + time),
            Mishap::Move { validator, to, noticed } => {
                net.moved(validator, to);
                self.validators[validator].ip = to.ip();
                self.later.push((now + noticed, After::List));
            }
            Mishap::Leave { validator, time } => {
                self.listed[validator] = false;
                self.list();
                self.later.push((now + time, After::Relist { validator, back: true }));
            }
            Mishap::Trust { validator, trust } => {
                self.validators[validator].v_trust = trust;
                self.list();
            }
        }
    }

    fn list(&self) {
        if self.now >= self.place.plan.listed_at {
            let listed = self.validators.iter().zip(&self.listed).filter(|(_, listed)| **listed);
            self.place.list.set(listed.map(|(v, _)| v.clone()).collect());
        }
    }

    fn take_away(&mut self, host: usize, power: bool, down: Ms) {
        let back = Some(Seat::Away(self.now + down));
        match std::mem::replace(&mut self.seats[host], back) {
            Some(Seat::Runs(running) | Seat::Frozen(running, _)) => {
                let spool = running.shared.is_none();
                running.kill(&self.place);
                if power && spool {
                    self.place.world.trace(|| "the power is cut".to_owned());
                    self.place.disk.power_cut();
                }
            }
            away => self.seats[host] = away,
        }
    }

    /// Lets the world go on until then.
    fn run_until(&mut self, until: Ms) {
        while self.now < until {
            let mut next = until;
            if self.seats.len() > 1 {
                next = next.min(self.now + self.tick);
            }
            for (at, _) in &self.later {
                next = next.min(*at);
            }
            for seat in self.seats.iter().flatten() {
                match seat {
                    Seat::Away(until) | Seat::Frozen(_, until) => next = next.min(*until),
                    Seat::Runs(_) => {}
                }
            }
            next = next.max(self.now);
            self.due();
            if next > self.now {
                let mut reached = next;
                for host in 0..self.seats.len() {
                    if let Some(at) = self.turn(host, next) {
                        reached = at;
                    }
                }
                self.now = self.now.max(reached);
                self.place.world.stand(self.now);
            }
        }
    }

    /// What begins or ends now.
    fn due(&mut self) {
        let now = self.now;
        self.place.world.stand(now);
        let (due, later) =
            std::mem::take(&mut self.later).into_iter().partition(|(at, _)| *at <= now);
        self.later = later;
        let due: Vec<(Ms, After)> = due;
        for (_, after) in due {
            match after {
                After::DiskRecovers => {
                    self.place.disk.set_trouble(Trouble::default());
                    self.place.database.set_silent(0);
                }
                After::Relist { validator, back } => {
                    self.listed[validator] = back;
                    self.list();
                }
                After::List => self.list(),
            }
        }
        for n in 0..self.seats.len() {
            match self.seats[n].take() {
                Some(Seat::Away(until)) if until <= now => {
                    self.seats[n] = Some(match Host::start(&self.place, n) {
                        Ok(host) => Seat::Runs(Box::new(host)),
                        Err(e) => {
                            self.place.world.trace(|| format!("host {n} cannot start: {e}"));
                            self.place.world.log(Event::Ended { host: n });
                            Seat::Away(now + 1_000)
                        }
                    });
                }
                Some(Seat::Frozen(host, until)) if until <= now => {
                    host.wake(&self.place.world);
                    self.place.world.stand(now);
                    self.seats[n] = Some(Seat::Runs(host));
                }
                other => self.seats[n] = other,
            }
        }
    }

    /// One process's turn; the time that it reached when it ended earlier.
    fn turn(&mut self, n: usize, until: Ms) -> Option<Ms> {
        let Some(Seat::Runs(host)) = &self.seats[n] else { return None };
        let pause = host.run(&self.place.world, until);
        let at = self.place.world.now();
        let alone = self.seats.len() == 1;
        if pause == Pause::Died {
            let world = &self.place.world;
            let (power, down) = (world.chance(600), world.range(10, 5_000));
            self.take_away(n, power, down);
            return alone.then_some(at);
        }
        if host.is_stuck() {
            // Somebody looks after it.
            let down = self.place.world.range(10, 5_000);
            self.place.world.trace(|| "the store has given up: restart".to_owned());
            let power = self.place.world.chance(300);
            self.take_away(n, power, down);
        }
        None
    }

    /// Nothing fails any more: everything ends, and new orders go through.
    fn peace(&mut self) -> Result<(), Violation> {
        let Place { world, net, disk, database, .. } = &self.place;
        world.heal();
        net.heal();
        disk.set_trouble(Trouble::default());
        database.set_silent(0);
        self.later.clear();
        self.listed.fill(true);
        self.now = self.now.max(self.place.plan.listed_at);
        self.list();
        disk.die_after(None);
        self.tick = 200;
        for seat in self.seats.iter_mut().flatten() {
            match seat {
                Seat::Frozen(_, until) | Seat::Away(until) => *until = self.now,
                Seat::Runs(host) => {
                    if let Some(shared) = &host.shared {
                        shared.die_after(None);
                    }
                }
            }
        }
        self.quiet(PEACE, "everything")?;
        for (_, signal) in self.place.plan.last_orders() {
            self.place.desk.add(Errand { at: self.now, ask: Ask::Submit, signal });
        }
        self.quiet(LAST_ORDERS, "a last order")
    }

    fn quiet(&mut self, time: Ms, what: &str) -> Result<(), Violation> {
        let end = self.now + time;
        while self.now < end {
            self.run_until((self.now + 2_000).min(end));
            let unfinished = self.seats.iter().flatten().find_map(|seat| match seat {
                Seat::Runs(host) => Some(host.unfinished()),
                _ => None,
            });
            if unfinished == Some(0) && self.place.desk.is_done() {
                return Ok(());
            }
        }
        Err(Violation {
            promise: "2 nothing disappears",
            what: format!("{what} has not come to its end {time} ms after the last fault"),
        })
    }

    /// What the store holds after one more power cut.
    fn end(&mut self) -> BTreeMap<String, End> {
        for n in 0..self.seats.len() {
            self.take_away(n, true, Ms::MAX / 2);
        }
        let Place { plan, world, disk, dir, database, .. } = &self.place;
        world.stand(self.now);
        if let Kept::Shared { .. } = plan.kept {
            return runtime().block_on(read(database.memory()));
        }
        disk.begin(Arc::new(Life::default()));
        match FsStore::open_by_hand(dir, fs_options(plan), Arc::clone(disk) as _) {
            Ok((store, _hand)) => runtime().block_on(read(&store)),
            Err(e) => {
                world.trace(|| format!("the store cannot be opened at the end: {e}"));
                BTreeMap::new()
            }
        }
    }
}

async fn read(store: &dyn SignalStore) -> BTreeMap<String, End> {
    let filter = Filter { limit: 10_000, ..Filter::default() };
    let mut all = BTreeMap::new();
    for stored in store.list(&filter).await.unwrap_or_default() {
        let uuid = stored.signal.id().to_string();
        let again = store.get(stored.signal.id()).await.ok().flatten();
        let end = all.entry(uuid).or_insert_with(|| end(again.as_ref().unwrap_or(&stored)));
        end.copies += 1;
    }
    all
}

fn end(stored: &StoredSignal) -> End {
    let record = |v: &ptn_core::record::ValidatorRecord| EndRecord {
        required: v.required,
        state: v.state,
        message: v.message.clone(),
    };
    End {
        seq: stored.seq,
        state: if stored.finished_at.is_some() { stored.state } else { SignalState::Pending },
        content: content(&stored.signal),
        copies: 0,
        validators: stored.validators.iter().map(|(k, v)| (k.clone(), record(v))).collect(),
    }
}
