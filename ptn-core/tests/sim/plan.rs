//! Everything that a seed decides in advance: the network, the orders, and what goes wrong when.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ptn_core::deliver::{DeliveryPolicy, Select};
use ptn_core::directory::{Validator, Wire};
use ptn_core::order::ExecutionType;
use ptn_core::rules::{Era, Rules};
use ptn_core::signal::{OrderUuid, Signal};

use super::disk::Trouble;
use super::ledger::{Ms, Order, Terms};
use super::net::Weather;
use super::rng::Rng;

/// What happens to the world at some moment.
#[derive(Debug, Clone)]
pub(crate) enum Mishap {
    /// A process dies: at once, or at its n-th store operation from now. With the power or not.
    Crash { host: usize, power: bool, after_calls: Option<u64>, down: Ms },
    /// A process is asked to end, with this much time, and comes back.
    Stop { host: usize, grace: Ms, down: Ms },
    /// A process stands still.
    Freeze { host: usize, time: Ms },
    /// The time of day is set.
    Step(i64),
    /// Calls of the disk begin to fail, for a while.
    Disk { trouble: Trouble, time: Ms },
    /// A validator cannot be reached.
    Down { validator: usize, time: Ms },
    /// A validator does not read what it gets.
    Stall { validator: usize, time: Ms },
    /// A validator listens elsewhere; the list follows later.
    Move { validator: usize, to: SocketAddr, noticed: Ms },
    /// A validator is not in the list for a while.
    Leave { validator: usize, time: Ms },
    /// A validator's trust changes.
    Trust { validator: usize, trust: f64 },
}

/// What somebody asks for at some moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Ask {
    Submit,
    /// The same order again.
    Again,
    /// Another order under the same id.
    Other,
    Cancel,
    Retry,
}

#[derive(Debug, Clone)]
pub(crate) struct Errand {
    pub(crate) at: Ms,
    pub(crate) ask: Ask,
    pub(crate) signal: Signal,
}

/// Where the signals are kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kept {
    /// `FsStore` on a disk that forgets.
    Spool { journal_bytes: u64 },
    /// A store that two processes share.
    Shared { lease: Ms },
}

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) rules: Arc<Rules>,
    pub(crate) policy: DeliveryPolicy,
    pub(crate) kept: Kept,
    pub(crate) validators: Vec<Validator>,
    /// When the list of validators is known.
    pub(crate) listed_at: Ms,
    pub(crate) may_be_stale: bool,
    pub(crate) weather: Weather,
    pub(crate) errands: Vec<Errand>,
    pub(crate) mishaps: Vec<(Ms, Mishap)>,
    pub(crate) chaos: Ms,
    pub(crate) orders: BTreeMap<String, Order>,
    /// Of these no validator recognises a repeat.
    pub(crate) unrecognised: BTreeSet<String>,
    pub(crate) terms: Terms,
}

fn rules(era: Era) -> Arc<Rules> {
    static RULES: OnceLock<BTreeMap<Era, Arc<Rules>>> = OnceLock::new();
    let all = RULES.get_or_init(|| {
        [Era::Y2024, Era::Y2025, Era::Y2026]
            .into_iter()
            .map(|era| (era, Arc::new(Rules::load(era).unwrap())))
            .collect()
    });
    Arc::clone(&all[&era])
}

pub(crate) fn content(signal: &Signal) -> String {
    signal.to_wire().to_string()
}

impl Plan {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let era = *rng.pick(&[Era::Y2024, Era::Y2025, Era::Y2026, Era::Y2026]);
        let rules = rules(era);
        let shared = rng.chance(350);
        let kept = if shared {
            Kept::Shared { lease: *rng.pick(&[2_000, 5_000, 10_000]) }
        } else {
            Kept::Spool { journal_bytes: *rng.pick(&[1, 4096, 32 * 1024 * 1024]) }
        };
        let long = if shared { 90_000 } else { 400_000 };
        let chaos = *rng.pick(&[15_000, 30_000, 60_000, 120_000, long]);
        let validators = validators(&mut rng);
        let policy = policy(&mut rng, &rules);
        let mut plan = Self {
            seed,
            listed_at: if rng.chance(100) { rng.range(1, 8_000) } else { 0 },
            may_be_stale: rng.chance(500),
            weather: weather(&mut rng),
            errands: Vec::new(),
            mishaps: Vec::new(),
            chaos,
            orders: BTreeMap::new(),
            unrecognised: BTreeSet::new(),
            terms: Terms::default(),
            rules,
            policy,
            kept,
            validators,
        };
        plan.orders(&mut rng, era);
        plan.mishaps(&mut rng);
        plan.mishaps.sort_by_key(|(at, _)| *at);
        plan.errands.sort_by_key(|errand| errand.at);
        for (pair, signal) in plan.last_orders() {
            let (pair, expires) = (Some(pair), true);
            let order = Order { pair, expires, idempotent: false, unrecognised: false };
            plan.orders.insert(signal.id().to_string(), order);
        }
        plan.terms = plan.terms();
        plan
    }

    pub(crate) fn hosts(&self) -> usize {
        if matches!(self.kept, Kept::Shared { .. }) { 2 } else { 1 }
    }

    fn orders(&mut self, rng: &mut Rng, era: Era) {
        let pairs: &[&str] = match era {
            Era::Y2024 | Era::Y2025 => &["BTCUSD", "ETHUSD", "EURUSD"],
            Era::Y2026 => &["BTCUSDC", "ETHUSDC", "EURUSD"],
        };
        let pairs = &pairs[..usize::try_from(rng.range(1, 3)).unwrap()];
        let n = rng.range(4, 14);
        let burst = rng.chance(400);
        let mut at = rng.range(0, 500);
        for i in 0..n {
            let uuid = format!("o{i:02}");
            let pair = *rng.pick(pairs);
            let (body, order) = body(rng, era, pair, &uuid);
            let read = |body: &str| {
                let signal = Signal::from_json(body.as_bytes(), &self.rules).expect(body);
                signal.with_id(OrderUuid::parse(&uuid).unwrap())
            };
            let signal = read(&body);
            if order.unrecognised {
                self.unrecognised.insert(uuid.clone());
            }
            let mut errand = |at, ask, signal: &Signal| {
                self.errands.push(Errand { at, ask, signal: signal.clone() });
            };
            errand(at, Ask::Submit, &signal);
            if rng.chance(150) {
                errand(at + rng.range(0, 20_000), Ask::Again, &signal);
            }
            if rng.chance(100) {
                let other = body.replace("0.1", "0.2").replace("\"ALL\"", "\"p1\"");
                errand(at + rng.range(1, 20_000), Ask::Other, &read(&other));
            }
            if rng.chance(100) {
                errand(at + rng.range(1, 15_000), Ask::Cancel, &signal);
            }
            if rng.chance(120) {
                errand(at + rng.range(5_000, self.chaos), Ask::Retry, &signal);
            }
            self.orders.insert(uuid, order);
            let gap = if burst && rng.chance(800) { 30 } else { self.chaos / n };
            at += rng.range(0, gap);
        }
    }

    /// What is submitted at the end, when nothing fails any more.
    pub(crate) fn last_orders(&self) -> Vec<(String, Signal)> {
        let pair = if self.rules.era == Era::Y2026 { "BTCUSDC" } else { "BTCUSD" };
        let last = ["last0", "last1"].map(|uuid| {
            let body = format!(
                r#"{{"trade_pair":"{pair}","order_type":"LONG","leverage":0.1,"order_uuid":"{uuid}"}}"#
            );
            (pair.to_owned(), Signal::from_json(body.as_bytes(), &self.rules).unwrap())
        });
        last.into()
    }

    fn mishaps(&mut self, rng: &mut Rng) {
        let n = rng.range(0, 8);
        for _ in 0..n {
            // Most of it while something is under way.
            let near = rng.pick(&self.errands).at + rng.range(0, 400);
            let at = if rng.chance(600) { near } else { rng.range(0, self.chaos) };
            let host = usize::try_from(rng.range(0, self.hosts() as u64 - 1)).unwrap();
            let validator =
                usize::try_from(rng.range(0, self.validators.len() as u64 - 1)).unwrap();
            let time = match rng.weighted(&[3, 3, 1]) {
                0 => rng.range(100, 3_000),
                1 => rng.range(3_000, 40_000),
                _ => rng.range(40_000, 400_000),
            };
            let mishap = match rng.weighted(&[8, 2, 3, 3, 4, 2, 2, 1, 1, 1]) {
                0 => Mishap::Crash {
                    host,
                    power: rng.chance(600),
                    after_calls: rng.chance(800).then(|| rng.range(1, 60)),
                    down: rng.range(10, 4_000).max(if rng.chance(150) { time } else { 0 }),
                },
                1 => Mishap::Stop { host, grace: rng.range(0, 5_000), down: rng.range(10, 3_000) },
                2 => Mishap::Freeze { host, time },
                3 => {
                    let by = i64::try_from(rng.range(100, 7_200_000)).unwrap();
                    Mishap::Step(if rng.chance(500) { by } else { -by })
                }
                4 => {
                    let (full, broken) = *rng.pick(&[(1000, 0), (300, 0), (0, 60), (100, 20)]);
                    Mishap::Disk { trouble: Trouble { full, broken }, time: time.min(30_000) }
                }
                5 => Mishap::Down { validator, time },
                6 => Mishap::Stall { validator, time },
                7 => Mishap::Move {
                    validator,
                    to: address(200 + u8::try_from(rng.range(0, 50)).unwrap()),
                    noticed: rng.range(0, 20_000),
                },
                8 => Mishap::Leave { validator, time },
                _ => Mishap::Trust { validator, trust: *rng.pick(&[0.0, 0.5, 0.9]) },
            };
            self.mishaps.push((at, mishap));
        }
    }

    fn terms(&self) -> Terms {
        let changed: BTreeSet<usize> = self
            .mishaps
            .iter()
            .filter_map(|(_, mishap)| match mishap {
                Mishap::Leave { validator, .. } | Mishap::Trust { validator, .. } => {
                    Some(*validator)
                }
                _ => None,
            })
            .collect();
        let stable = |i: &usize| !changed.contains(i);
        let chosen = |i: usize| match &self.policy.select {
            Select::Mothership(hotkey) => self.validators[i].hotkey == *hotkey,
            _ => true,
        };
        let mothership = (0..self.validators.len()).find(|i| chosen(*i)).unwrap_or_default();
        let lone = matches!(self.policy.select, Select::Mothership(_));
        // Without its mothership a signal goes to nobody.
        let targets = if lone && !stable(&mothership) {
            Vec::new()
        } else {
            (0..self.validators.len()).filter(stable).collect()
        };
        let name = |i: &usize| self.validators[*i].hotkey.clone();
        let trusted = |i: &usize| self.validators[*i].v_trust >= self.policy.trust_floor;
        let copied = |i: &usize| !lone || chosen(*i) || trusted(i);
        let must = |i: &usize| match &self.policy.select {
            Select::TrustAtLeast(_) => trusted(i),
            Select::All if self.policy.retry_only_trusted => self.validators[*i].v_trust > 0.0,
            _ => chosen(*i),
        };
        Terms {
            recognises: self.policy.recognises_repeats,
            max_age: self
                .policy
                .max_age
                .get(&ExecutionType::Market)
                .map_or(Ms::MAX, |age| Ms::try_from(age.as_millis()).unwrap()),
            tries: self.policy.waits.len() + 1,
            targets: targets.iter().filter(|i| copied(i)).map(name).collect(),
            required: targets.iter().filter(|i| must(i)).map(name).collect(),
        }
    }
}

fn address(last: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)), 8091)
}

fn validators(rng: &mut Rng) -> Vec<Validator> {
    let n = u8::try_from(rng.range(1, 4)).unwrap();
    let trusts = [0.95, 0.9, 0.8, 0.2];
    (0..n)
        .map(|i| Validator {
            hotkey: format!("v{i}"),
            ip: address(i + 1).ip(),
            port: 8091,
            v_trust: if i > 0 && rng.chance(150) { 0.0 } else { trusts[usize::from(i)] },
            stake: 1000.0,
            permit: true,
            wire: Wire::Btauth,
        })
        .collect()
}

fn policy(rng: &mut Rng, rules: &Rules) -> DeliveryPolicy {
    let mut policy = DeliveryPolicy::preset(rules, Some("v0"));
    let seconds = Duration::from_secs;
    policy.jitter = 0.0;
    policy.warm_every = None;
    if rng.chance(500) {
        policy.select = Select::All;
    }
    if rng.chance(700) {
        policy.pacing = None;
    }
    if rng.chance(600) {
        policy.waits = rng
            .pick(&[vec![1, 1], vec![2, 5], vec![5, 5, 5, 5]])
            .iter()
            .map(|s| seconds(*s))
            .collect();
        policy.timeout = seconds(rng.range(2, 12));
    }
    let max_age = seconds(*rng.pick(&[10, 30, 300]));
    policy.max_age = [(ExecutionType::Market, max_age)].into_iter().collect();
    policy
}

fn weather(rng: &mut Rng) -> Weather {
    match rng.weighted(&[2, 4, 2]) {
        0 => Weather { faults: [5, 0, 5, 0, 5], answers: [10, 10, 5, 5, 5] },
        1 => Weather { faults: [40, 20, 60, 30, 20], answers: [50, 40, 30, 20, 40] },
        _ => Weather { faults: [120, 60, 150, 100, 60], answers: [120, 100, 60, 60, 100] },
    }
}

/// A request body, and what it means.
fn body(rng: &mut Rng, era: Era, pair: &str, uuid: &str) -> (String, Order) {
    let order = |expires| Order {
        pair: Some(pair.to_owned()),
        expires,
        idempotent: false,
        unrecognised: false,
    };
    let side = *rng.pick(&["LONG", "SHORT"]);
    let market = |side: &str| {
        format!(
            r#"{{"trade_pair":"{pair}","order_type":"{side}","leverage":0.1,"order_uuid":"{uuid}"}}"#
        )
    };
    let kind = match era {
        Era::Y2024 => rng.weighted(&[6, 2]),
        Era::Y2025 => rng.weighted(&[6, 2, 2]),
        Era::Y2026 => rng.weighted(&[6, 2, 2, 1, 1]),
    };
    match kind {
        0 => (market(side), order(true)),
        1 => (market("FLAT"), order(false)),
        2 => (
            format!(
                r#"{{"trade_pair":"{pair}","order_type":"{side}","execution_type":"LIMIT","limit_price":100,"leverage":0.1,"order_uuid":"{uuid}"}}"#
            ),
            order(false),
        ),
        3 => (
            format!(r#"{{"execution_type":"FLAT_ALL","order_uuid":"ALL","note":"{uuid}"}}"#),
            Order { pair: None, expires: false, idempotent: true, unrecognised: true },
        ),
        _ => (
            format!(
                r#"{{"trade_pair":"{pair}","order_type":"FLAT","execution_type":"LIMIT_EDIT","order_uuid":"{uuid}","bracket_orders":[{{"stop_loss":0.1}}]}}"#
            ),
            Order { unrecognised: true, ..order(false) },
        ),
    }
}
