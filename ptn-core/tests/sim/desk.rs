//! Submitters and operators: they ask, wait for so long, ask again, and note what they were told.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ptn_core::deliver::Engine;
use ptn_core::record::SignalState;
use ptn_core::store::Accepted;

use super::ledger::{Event, Ms};
use super::plan::{Ask, Errand, content};
use super::world::{Life, World};

/// So often somebody asks again.
const PATIENCE: u32 = 40;

#[derive(Debug)]
struct Job {
    errand: Errand,
    due: Ms,
    tries: u32,
    /// The process that was asked.
    with: Option<usize>,
    done: bool,
}

#[derive(Debug)]
pub(crate) struct Desk {
    world: Arc<World>,
    jobs: Mutex<Vec<Job>>,
    acked: Mutex<std::collections::BTreeSet<String>>,
}

impl Desk {
    pub(crate) fn new(world: Arc<World>, errands: &[Errand]) -> Arc<Self> {
        let job = |errand: &Errand| Job {
            errand: errand.clone(),
            due: errand.at,
            tries: 0,
            with: None,
            done: false,
        };
        let jobs = Mutex::new(errands.iter().map(job).collect());
        Arc::new(Self { world, jobs, acked: Mutex::default() })
    }

    fn jobs(&self) -> MutexGuard<'_, Vec<Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, errand: Errand) {
        let due = errand.at;
        self.jobs().push(Job { errand, due, tries: 0, with: None, done: false });
    }

    pub(crate) fn is_done(&self) -> bool {
        self.jobs().iter().all(|job| job.done)
    }

    /// Whoever waited for an answer of this process learns that there will be none.
    pub(crate) fn hang_up(&self, host: usize) {
        let now = self.world.now();
        for job in self.jobs().iter_mut().filter(|job| job.with == Some(host) && !job.done) {
            job.with = None;
            job.due = now + self.world.range(1, 3_000);
        }
    }

    /// Serves for as long as the process lives.
    pub(crate) async fn serve(self: Arc<Self>, host: usize, engine: Arc<Engine>, life: Arc<Life>) {
        loop {
            let now = self.world.now();
            let mut next = now + 1_000;
            let mut due = Vec::new();
            for (n, job) in self.jobs().iter_mut().enumerate() {
                if job.done || job.with.is_some() {
                    continue;
                }
                // Each has its usual place to ask, and another one when that does not answer.
                if job.due <= now && (n % 2 == host || job.tries > 0 || job.due + 500 <= now) {
                    job.with = Some(host);
                    due.push((n, job.errand.clone()));
                } else {
                    next = next.min(job.due.max(now + 50));
                }
            }
            for (n, errand) in due {
                let (desk, engine, life) =
                    (Arc::clone(&self), Arc::clone(&engine), Arc::clone(&life));
                tokio::spawn(async move {
                    let done = desk.run(&errand, &engine, &life).await;
                    if !life.is_over() {
                        desk.settle(n, done);
                    }
                });
            }
            tokio::time::sleep(Duration::from_millis(next - now)).await;
        }
    }

    fn settle(&self, n: usize, done: bool) {
        let now = self.world.now();
        let mut jobs = self.jobs();
        let job = &mut jobs[n];
        job.with = None;
        job.tries += 1;
        job.due = now + self.world.range(200, 4_000);
        job.done = done || job.tries >= PATIENCE;
    }

    async fn run(&self, errand: &Errand, engine: &Engine, life: &Life) -> bool {
        let id = errand.signal.id();
        let uuid = id.to_string();
        let known = || self.acked.lock().unwrap().contains(&uuid);
        match errand.ask {
            Ask::Submit | Ask::Again | Ask::Other => {
                if errand.ask == Ask::Other && !known() {
                    return true;
                }
                self.world.log(Event::Submitted { uuid: uuid.clone() });
                let patience = Duration::from_millis(self.world.range(500, 10_000));
                let answer = tokio::time::timeout(patience, engine.submit(&errand.signal)).await;
                if life.is_over() {
                    return false;
                }
                match answer {
                    Ok(Ok(receipt)) => {
                        let seq = match receipt.accepted() {
                            Accepted::New { seq } => Some(*seq),
                            Accepted::Same { .. } => None,
                        };
                        let content = content(&errand.signal);
                        self.acked.lock().unwrap().insert(uuid.clone());
                        self.world.log(Event::Acked { uuid, content, seq });
                        true
                    }
                    Ok(Err(e)) => {
                        self.world.trace(|| format!("submitter of {uuid} was told: {e}"));
                        match e.code() {
                            "uuid_conflict" if errand.ask == Ask::Other => return true,
                            "uuid_conflict" => self.world.log(Event::Conflict { uuid }),
                            "disk_full" => self.world.log(Event::Refused { uuid }),
                            _ => {}
                        }
                        false
                    }
                    Err(_) => false,
                }
            }
            Ask::Cancel => match engine.store().cancel(id).await {
                _ if life.is_over() => false,
                Ok(()) => {
                    self.world.log(Event::CancelAcked { uuid });
                    true
                }
                Err(e) => ["wrong_state", "not_found"].contains(&e.code()),
            },
            Ask::Retry => {
                let failed = match engine.store().get(id).await {
                    Ok(Some(stored)) => stored.state == SignalState::Failed,
                    _ => false,
                };
                if failed && !life.is_over() {
                    self.world.log(Event::RetryAsked { uuid });
                    return engine.store().retry(id).await.is_ok();
                }
                true
            }
        }
    }
}
