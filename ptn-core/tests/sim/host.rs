//! One process that delivers: a runtime of its own, so that it can die between any two steps and
//! stand still while the world goes on.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ptn_core::deliver::Engine;
use ptn_core::store::fs::{ByHand, FsOptions};
use ptn_core::store::{FsStore, SignalStore, StoreError};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::desk::Desk;
use super::disk::SimDisk;
use super::front::{Front, List};
use super::ledger::{Event, Ms};
use super::net::{Line, Net};
use super::plan::{Kept, Plan};
use super::shared::{Database, SharedStore};
use super::world::{Life, World, wall_clock};

/// What every process of a world uses.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) plan: Arc<Plan>,
    pub(crate) world: Arc<World>,
    pub(crate) net: Arc<Net>,
    pub(crate) list: Arc<List>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) disk: Arc<SimDisk>,
    pub(crate) dir: PathBuf,
    pub(crate) database: Arc<Database>,
}

/// Why a process does not go on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pause {
    /// The time that it was given is over.
    Time,
    /// It died by itself.
    Died,
}

pub(crate) struct Host {
    number: usize,
    pub(crate) life: Arc<Life>,
    runtime: Runtime,
    engine: Arc<Engine>,
    base: Instant,
    started: Ms,
    pub(crate) shared: Option<Arc<SharedStore>>,
}

pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

pub(crate) fn fs_options(plan: &Plan) -> FsOptions {
    let mut options = FsOptions::new(Arc::clone(&plan.rules));
    if let Kept::Spool { journal_bytes } = plan.kept {
        options.journal_bytes = journal_bytes;
    }
    options.inotify = false;
    options.clock = wall_clock;
    options
}

impl Host {
    /// Starts a process.
    ///
    /// # Errors
    /// When its store cannot be opened.
    pub(crate) fn start(place: &Place, number: usize) -> Result<Self, StoreError> {
        let Place { plan, world, net, list, desk, disk, dir, database } = place;
        let life = Arc::new(Life::default());
        let runtime = runtime();
        let started = world.now();
        let base = runtime.block_on(async { Instant::now() });
        world.enter(base, started);
        let ready = runtime.block_on(async {
            world.log(Event::Started { host: number, wall: world.wall() });
            let mut shared = None;
            let (inner, queued): (Arc<dyn SignalStore>, _) = match plan.kept {
                Kept::Spool { .. } => {
                    disk.begin(Arc::clone(&life));
                    let disk = Arc::clone(disk) as _;
                    let (store, hand) = FsStore::open_by_hand(dir, fs_options(plan), disk)?;
                    let queued = Arc::new(Notify::new());
                    tokio::spawn(write(Arc::clone(world), hand, Arc::clone(&queued)));
                    (Arc::new(store), Some(queued))
                }
                Kept::Shared { .. } => {
                    let store = SharedStore::open(Arc::clone(database), number, Arc::clone(&life));
                    shared = Some(Arc::clone(&store));
                    (store, None)
                }
            };
            let front = Front {
                inner,
                world: Arc::clone(world),
                life: Arc::clone(&life),
                host: number,
                queued,
            };
            let line = Line { net: Arc::clone(net), host: number, life: Arc::clone(&life) };
            let clock = Arc::clone(world);
            let engine = Engine::builder()
                .store(Arc::new(front))
                .directory(Arc::clone(list) as _)
                .transport(Arc::new(line))
                .policy(plan.policy.clone())
                .clock(Arc::new(move || clock.wall()))
                .start()
                .unwrap();
            let engine = Arc::new(engine);
            let serve = Arc::clone(desk).serve(number, Arc::clone(&engine), Arc::clone(&life));
            tokio::spawn(serve);
            Ok::<_, StoreError>((engine, shared))
        });
        world.stand(started);
        let (engine, shared) = ready?;
        Ok(Self { number, life, runtime, engine, base, started, shared })
    }

    /// The world's time by this process's clock.
    fn at(&self) -> Ms {
        let passed = self.runtime.block_on(async { self.base.elapsed() });
        self.started + Ms::try_from(passed.as_millis()).unwrap()
    }

    /// Lets it work until then.
    pub(crate) fn run(&self, world: &World, until: Ms) -> Pause {
        world.enter(self.base, self.started);
        let until = self.base + Duration::from_millis(until.saturating_sub(self.started));
        let (pause, now) = self.runtime.block_on(async {
            let pause = tokio::select! {
                biased;
                () = self.life.ended() => Pause::Died,
                () = tokio::time::sleep_until(until) => Pause::Time,
            };
            (pause, world.now())
        });
        world.stand(now);
        pause
    }

    /// Wakes it up: for it, all the time has passed at once.
    pub(crate) fn wake(&self, world: &World) {
        let behind = world.now().saturating_sub(self.at());
        if behind > 0 {
            world.enter(self.base, self.started);
            let now = self.runtime.block_on(async {
                tokio::time::advance(Duration::from_millis(behind)).await;
                world.now()
            });
            world.stand(now);
        }
    }

    /// Asks it to end, and takes it away when it has.
    pub(crate) fn stop(self, place: &Place, grace: Ms) {
        let world = &place.world;
        world.enter(self.base, self.started);
        let now = self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.life.ended() => {}
                () = self.engine.shutdown(Duration::from_millis(grace)) => {}
            }
            if let Some(shared) = &self.shared {
                shared.release();
            }
            world.now()
        });
        world.stand(now);
        self.kill(place);
    }

    /// Takes it away, whatever it does.
    pub(crate) fn kill(self, place: &Place) {
        self.life.end();
        place.net.orphan(self.number, true);
        place.world.log(Event::Ended { host: self.number });
        place.desk.hang_up(self.number);
    }

    /// Whether its store has given up.
    pub(crate) fn is_stuck(&self) -> bool {
        let pending = self.runtime.block_on(self.engine.store().pending());
        pending.is_ok_and(|pending| !pending.accepting)
    }

    pub(crate) fn unfinished(&self) -> u64 {
        self.runtime.block_on(self.engine.store().pending()).map_or(1, |pending| pending.count)
    }
}

/// The threads of the store: they serve the queue after a moment, and the folders now and then.
async fn write(world: Arc<World>, mut hand: ByHand, queued: Arc<Notify>) {
    loop {
        let asked = tokio::time::timeout(Duration::from_secs(1), queued.notified()).await.is_ok();
        if !asked || world.chance(300) {
            hand.settled();
        }
        if asked {
            world.pause(0, 4).await;
            hand.write();
        }
        if !asked || world.chance(300) {
            world.pause(0, 10).await;
            hand.files(!asked || world.chance(300));
            hand.write();
        }
    }
}
