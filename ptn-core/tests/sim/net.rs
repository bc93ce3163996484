//! The network and the validators behind it.
//!
//! Orders arrive at a validator in the order in which they left (one queue, as its one process
//! has), late or twice, also when whoever sent them has gone in the meantime. Answers get lost,
//! late or damaged. What a validator does with an order is decided when it arrives.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ptn_core::directory::Validator;
use ptn_core::transport::{
    Certainty, OutboundOrder, TransportError, ValidatorReply, ValidatorTransport,
};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::ledger::{Closed, Effect, Event, Ms};
use super::world::{Life, World};

/// How bad it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weather {
    /// In a thousand attempts: connection refused, connect hangs, answer lost, answer never,
    /// answer damaged.
    pub(crate) faults: [u64; 5],
    /// In a thousand orders that arrive: refused for good, for now, wait, server error, arrives
    /// twice.
    pub(crate) answers: [u64; 5],
}

/// A validator's own trouble.
#[derive(Debug, Clone, Copy, Default)]
struct Trouble {
    down_until: Ms,
    stalled_until: Ms,
}

#[derive(Debug)]
struct Flight {
    host: usize,
    validator: usize,
    uuid: String,
    arrives: Ms,
    reply: Option<ValidatorReply>,
    words: String,
    last: bool,
    landed: bool,
    done: Arc<Notify>,
}

#[derive(Debug)]
struct State {
    hotkeys: Vec<String>,
    /// Who listens where.
    homes: BTreeMap<SocketAddr, usize>,
    trouble: Vec<Trouble>,
    executed: Vec<BTreeSet<String>>,
    last_arrival: Vec<Ms>,
    flights: Vec<Option<Flight>>,
    weather: Weather,
}

#[derive(Debug)]
pub(crate) struct Net {
    world: Arc<World>,
    recognises: bool,
    /// Orders of which a repeat is recognised under no rules.
    unrecognised: BTreeSet<String>,
    state: Mutex<State>,
}

impl Net {
    pub(crate) fn new(
        world: Arc<World>,
        validators: &[Validator],
        recognises: bool,
        unrecognised: BTreeSet<String>,
        weather: Weather,
    ) -> Arc<Self> {
        let n = validators.len();
        let state = State {
            hotkeys: validators.iter().map(|v| v.hotkey.clone()).collect(),
            homes: validators.iter().enumerate().map(|(i, v)| (v.address(), i)).collect(),
            trouble: vec![Trouble::default(); n],
            executed: vec![BTreeSet::new(); n],
            last_arrival: vec![0; n],
            flights: Vec::new(),
            weather,
        };
        Arc::new(Self { world, recognises, unrecognised, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn down(&self, validator: usize, until: Ms) {
        self.state().trouble[validator].down_until = until;
    }

    pub(crate) fn stall(&self, validator: usize, until: Ms) {
        self.state().trouble[validator].stalled_until = until;
    }

    pub(crate) fn moved(&self, validator: usize, to: SocketAddr) {
        let mut state = self.state();
        state.homes.retain(|_, v| *v != validator);
        state.homes.insert(to, validator);
    }

    pub(crate) fn heal(&self) {
        let mut state = self.state();
        state.weather = Weather { faults: [0; 5], answers: [0; 5] };
        state.trouble.fill(Trouble::default());
    }

    /// What is on its way when its sender dies or stands still arrives, or (when it died) is lost.
    pub(crate) fn orphan(&self, host: usize, died: bool) {
        let ours = |f: &Flight| f.host == host && !f.landed;
        let mut ids: Vec<(Ms, usize)> = Vec::new();
        for (id, flight) in self.state().flights.iter().enumerate() {
            ids.extend(flight.as_ref().filter(|f| ours(f)).map(|f| (f.arrives, id)));
        }
        ids.sort_unstable();
        for (_, id) in ids {
            if died && self.world.chance(300) {
                self.state().flights[id] = None;
            } else {
                self.land(id);
            }
        }
    }

    fn recognises(&self, uuid: &str) -> bool {
        self.recognises && !self.unrecognised.contains(uuid)
    }

    /// An order arrives, behind those that left for the same validator before it. (Processes take turns
    /// for some milliseconds each, so that another one's may be late.)
    fn land(&self, id: usize) {
        let of = |flight: &Flight| (flight.arrives, flight.validator);
        let Some((arrives, validator)) = self.state().flights[id].as_ref().map(of) else { return };
        let mut row: Vec<(Ms, usize)> = Vec::new();
        for (other, flight) in self.state().flights.iter().enumerate() {
            let before = |f: &&Flight| {
                f.validator == validator && !f.landed && (f.arrives, other) <= (arrives, id)
            };
            row.extend(flight.as_ref().filter(before).map(|f| (f.arrives, other)));
        }
        row.sort_unstable();
        row.into_iter().for_each(|(_, id)| self.land_one(id));
    }

    fn land_one(&self, id: usize) {
        let mut state = self.state();
        let Some(flight) = state.flights[id].as_ref().filter(|f| !f.landed) else { return };
        let (v, uuid) = (flight.validator, flight.uuid.clone());
        let (effect, reply, last) = self.judge(&mut state, v, &uuid);
        let twice = effect == Effect::Executed
            && self.recognises(&uuid)
            && self.world.chance(state.weather.answers[4]);
        let words = reply.error_message.clone();
        let hotkey = state.hotkeys[v].clone();
        if let Some(flight) = &mut state.flights[id] {
            flight.landed = true;
            flight.words = words;
            flight.last = last;
            flight.reply = Some(reply);
            flight.done.notify_one();
        }
        drop(state);
        let arrived =
            |effect| Event::Arrived { validator: hotkey.clone(), uuid: uuid.clone(), effect };
        self.world.log(arrived(effect));
        if twice {
            let (effect, ..) = self.judge(&mut self.state(), v, &uuid);
            self.world.log(arrived(effect));
        }
    }

    /// What the validator does, what it says, and whether that is final.
    fn judge(&self, state: &mut State, v: usize, uuid: &str) -> (Effect, ValidatorReply, bool) {
        let reply = |text: &str, should_retry| ValidatorReply {
            status: 200,
            error_message: text.to_owned(),
            should_retry,
            validator_hotkey: state.hotkeys[v].clone(),
            ..ValidatorReply::default()
        };
        if self.recognises(uuid) && state.executed[v].contains(uuid) {
            let words = format!(
                "Order with uuid [{uuid}] has already been processed. Please try again with a new order."
            );
            return (Effect::Known, reply(&words, None), true);
        }
        let [no, later, wait, error, _] = state.weather.answers;
        let rest = 1000 - no - later - wait - error;
        let mut done = ValidatorReply { successfully_processed: true, ..reply("", None) };
        match self.world.weighted(&[no, later, wait, error, rest]) {
            0 => {
                let texts = [
                    ("No buying power remaining for this order", Some(false)),
                    ("Leverage must be between 0.001 and 20, provided - [30.0]", None),
                    ("This miner hotkey has been eliminated and cannot participate", None),
                ];
                let (text, retry) = texts[usize::try_from(self.world.range(0, 2)).unwrap()];
                (Effect::Refused, reply(text, retry), true)
            }
            1 => {
                let texts = [
                    "Validator is restarting due to update. Please try again later.",
                    "Some words that nobody has seen before",
                ];
                let text = texts[usize::try_from(self.world.range(0, 1)).unwrap()];
                (Effect::NotNow, reply(text, None), false)
            }
            2 => {
                let text = "Rate limited. Please wait 3 seconds before sending another signal.";
                (Effect::NotNow, reply(text, None), false)
            }
            3 => {
                let executed = self.world.chance(300);
                let error = ValidatorReply { status: 500, ..reply("oops", None) };
                if executed {
                    state.executed[v].insert(uuid.to_owned());
                }
                (if executed { Effect::Executed } else { Effect::NotNow }, error, false)
            }
            _ => {
                state.executed[v].insert(uuid.to_owned());
                if self.world.chance(20) {
                    done.successfully_processed = false;
                    done.error_message =
                        "Market order filled successfully, but bracket creation failed".to_owned();
                }
                (Effect::Executed, done, true)
            }
        }
    }
}

/// One process's way to the validators.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) net: Arc<Net>,
    pub(crate) host: usize,
    pub(crate) life: Arc<Life>,
}

/// Notes the end of an attempt, also of one that its sender gave up.
struct Attempt<'a> {
    line: &'a Line,
    id: usize,
    open: bool,
}

impl Attempt<'_> {
    fn close(&mut self, how: Closed) {
        if std::mem::take(&mut self.open) && !self.line.life.is_over() {
            self.line.net.world.log(Event::Closed { attempt: self.id, how });
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.close(Closed::Lost);
    }
}

fn failed(certainty: Certainty, code: &'static str) -> Result<ValidatorReply, TransportError> {
    Err(TransportError::new(certainty, code, format!("simulated: {code}")))
}

#[async_trait]
impl ValidatorTransport for Line {
    async fn deliver(
        &self,
        to: &Validator,
        order: &OutboundOrder,
        deadline: Instant,
    ) -> Result<ValidatorReply, TransportError> {
        let world = &self.net.world;
        if self.life.is_over() {
            return std::future::pending().await;
        }
        let uuid = order.id.as_str().to_owned();
        let (id, fate) = {
            let mut state = self.net.state();
            state.flights.push(None);
            let faults = state.weather.faults;
            let rest = 1000 - faults.iter().sum::<u64>();
            let [a, b, c, d, e] = faults;
            (state.flights.len() - 1, world.weighted(&[a, b, c, d, e, rest]))
        };
        world.log(Event::Tried {
            attempt: id,
            host: self.host,
            validator: to.hotkey.clone(),
            uuid: uuid.clone(),
        });
        let mut attempt = Attempt { line: self, id, open: true };
        let left_ms = deadline.saturating_duration_since(Instant::now());
        let last_moment = deadline - Duration::from_millis(1).min(left_ms);
        let slowly = if world.chance(100) { 400 } else { 12 };
        world.pause(1, slowly).await;
        let home = self.net.state().homes.get(&to.address()).copied();
        let down = |v: usize| self.net.state().trouble[v].down_until > world.now();
        if fate == 0 || home.is_none_or(down) {
            attempt.close(Closed::NotSent);
            return failed(Certainty::NotSent, "connect");
        }
        if fate == 1 {
            tokio::time::sleep_until(last_moment).await;
            attempt.close(Closed::NotSent);
            return failed(Certainty::NotSent, "connect_timeout");
        }
        if self.life.is_over() {
            return std::future::pending().await;
        }
        let content = order.signal.to_string();
        let v = home.unwrap_or_default();
        let listens = self.net.state().hotkeys[v] == to.hotkey;
        if !listens {
            // Somebody else lives there now, who has no use for it.
            world.pause(1, 20).await;
            attempt.close(Closed::Answered { words: String::new(), last: true });
            return Ok(ValidatorReply { status: 404, ..ValidatorReply::default() });
        }
        world.log(Event::Left { attempt: id, content });
        let done = Arc::new(Notify::new());
        let arrives = {
            let travel = if world.chance(100) { world.range(1, 900) } else { world.range(1, 15) };
            let mut state = self.net.state();
            let arrives = (world.now() + travel)
                .max(state.trouble[v].stalled_until)
                .max(state.last_arrival[v]);
            state.last_arrival[v] = arrives;
            state.flights[id] = Some(Flight {
                host: self.host,
                validator: v,
                uuid,
                arrives,
                reply: None,
                words: String::new(),
                last: false,
                landed: false,
                done: Arc::clone(&done),
            });
            arrives
        };
        let (net, life) = (Arc::clone(&self.net), Arc::clone(&self.life));
        let travel = Duration::from_millis(arrives.saturating_sub(world.now()));
        tokio::spawn(async move {
            tokio::time::sleep(travel).await;
            if !life.is_over() {
                net.land(id);
            }
        });
        if fate == 2 {
            let reset = world.range(0, 30);
            tokio::time::sleep_until(
                last_moment.min(Instant::now() + Duration::from_millis(reset)),
            )
            .await;
            attempt.close(Closed::Lost);
            return failed(Certainty::MaybeSent, "connection_lost");
        }
        let answer = async {
            done.notified().await;
            world.pause(1, 15).await;
        };
        let came = tokio::time::timeout_at(last_moment, answer).await.is_ok();
        let landed = self.net.state().flights[id].take();
        let landed = match landed {
            Some(flight) if came && flight.landed => flight,
            other => {
                // It may still arrive.
                self.net.state().flights[id] = other.filter(|f| !f.landed);
                attempt.close(Closed::Lost);
                return failed(Certainty::MaybeSent, "timeout");
            }
        };
        if fate == 3 {
            tokio::time::sleep_until(last_moment).await;
            attempt.close(Closed::Lost);
            return failed(Certainty::MaybeSent, "timeout");
        }
        let Some(reply) = landed.reply.filter(|_| fate == 5) else {
            attempt.close(Closed::Lost);
            return failed(Certainty::MaybeSent, "bad_answer");
        };
        attempt.close(if reply.status == 200 {
            Closed::Answered { words: landed.words, last: landed.last }
        } else {
            Closed::Lost
        });
        Ok(reply)
    }
}
