//! `DeliveryPolicy`: who must acknowledge a signal, who gets a copy, how often and how long to try.
//!
//! Presets come from the rule set's data; every part can be changed. Carrying it out is left to
//! the couriers.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::directory::Validator;
use crate::order::ExecutionType;
use crate::record::{DeliveryState, SignalState, ValidatorRecord};
use crate::rules::{PolicyName, RateLimit, Rules};
use crate::signal::Signal;
use crate::store::UnixMs;

/// Who must acknowledge a signal before it counts as processed.
#[derive(Debug, Clone, PartialEq)]
pub enum Select {
    /// This hotkey; validators with enough trust get a copy, once.
    Mothership(String),
    /// As with a mothership, which is the validator with the most trust, then the most stake: on a
    /// network of one's own nobody has the known mothership's key.
    MostTrusted,
    /// Everyone with at least this trust (everyone, when nobody has); the others get it too.
    TrustAtLeast(f64),
    /// Everyone.
    All,
}

/// In the words of `--delivery.policy`.
impl fmt::Display for Select {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mothership(hotkey) => write!(f, "mothership {hotkey}"),
            Self::MostTrusted => f.write_str("mothership: the most trusted"),
            Self::TrustAtLeast(floor) => write!(f, "trust of at least {floor}"),
            Self::All => f.write_str("all"),
        }
    }
}

/// What to do with an order whose answer was lost, where validators cannot recognise a repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnUnknown {
    /// Leave it: its state is `unknown`. Never trades twice.
    #[default]
    Hold,
    /// Send it again, as the Python miner did. May trade twice.
    Resend,
}

/// The network's own limits, waited out here instead of being burnt at a validator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pacing {
    /// Shortest time between two orders of one pair.
    pub cooldown: Duration,
    /// Requests per window at one validator.
    pub rate_limit: RateLimit,
}

/// How signals are delivered.
#[derive(Debug, Clone)]
pub struct DeliveryPolicy {
    /// Who must acknowledge.
    pub select: Select,
    /// From this trust on a validator gets a copy, or counts as trusted.
    pub trust_floor: f64,
    /// Wait before attempt 2, 3, ...; its length plus one is the number of attempts.
    pub waits: Vec<Duration>,
    /// Waits are lengthened by up to this fraction, at random.
    pub jitter: f64,
    /// For one attempt, everything included.
    pub timeout: Duration,
    /// Whether validators recognise an order uuid that they have seen.
    pub recognises_repeats: bool,
    /// What to do with a lost answer where they do not.
    pub on_unknown: OnUnknown,
    /// Retry only validators that have trust or acknowledged something before.
    pub retry_only_trusted: bool,
    /// How old a signal may be when it is sent; types without an entry, closing orders and cancels
    /// do not expire.
    pub max_age: BTreeMap<ExecutionType, Duration>,
    /// The network's limits; `None` sends at once.
    pub pacing: Option<Pacing>,
    /// Whether a signal that only some of those who must acknowledge did counts as failed (the
    /// Python miner's `--write_failed_signal_logs`).
    pub partial_is_failed: bool,
    /// `repo_version` on the wire.
    pub repo_version: String,
    /// Attempts under way at one validator at the same time.
    pub max_in_flight: usize,
    /// How often an idle connection is opened ahead of time; `None` never.
    pub warm_every: Option<Duration>,
}

impl DeliveryPolicy {
    /// The preset of a rule set. `mothership` is the authoritative validator's hotkey, needed for
    /// the preset of 2026.
    pub fn preset(rules: &Rules, mothership: Option<&str>) -> Self {
        let delivery = &rules.delivery;
        let max_age = Duration::from_millis(delivery.market_max_age_ms);
        let mothership = mothership.or(rules.mothership_mainnet.as_deref()).unwrap_or_default();
        Self {
            select: match delivery.policy {
                PolicyName::Mothership => Select::Mothership(mothership.to_owned()),
                PolicyName::Trust => Select::TrustAtLeast(rules.trust_floor),
                PolicyName::All => Select::All,
            },
            trust_floor: rules.trust_floor,
            waits: delivery.wait_ms.iter().map(|ms| Duration::from_millis(*ms)).collect(),
            jitter: 0.1,
            timeout: Duration::from_millis(delivery.timeout_ms),
            recognises_repeats: delivery.recognises_repeats,
            on_unknown: OnUnknown::Hold,
            retry_only_trusted: delivery.retry_only_trusted,
            max_age: [(ExecutionType::Market, max_age)].into_iter().collect(),
            pacing: Some(Pacing { cooldown: rules.cooldown, rate_limit: rules.rate_limit }),
            partial_is_failed: true,
            repo_version: delivery.repo_version.clone().unwrap_or_else(|| "N/A".to_owned()),
            max_in_flight: 64,
            warm_every: delivery.recognises_repeats.then(|| Duration::from_secs(2)),
        }
    }

    /// Who gets a signal, decided once: one record per validator.
    pub fn targets(&self, validators: &[Validator], now: UnixMs) -> Vec<ValidatorRecord> {
        let listed = validators.iter().filter(|v| !v.ip.is_unspecified() && v.port != 0);
        let listed: Vec<&Validator> = listed.collect();
        if let Select::Mothership(hotkey) = &self.select
            && !listed.iter().any(|v| v.hotkey == *hotkey)
        {
            // The signal fails at once, so nobody may trade a copy of it.
            return Vec::new();
        }
        let floor = match &self.select {
            Select::TrustAtLeast(floor) => *floor,
            // Peers without any trust are sent to, but nobody waits for them.
            Select::All if self.retry_only_trusted => f64::MIN_POSITIVE,
            _ => f64::MIN,
        };
        let best = listed
            .iter()
            .max_by(|a, b| a.v_trust.total_cmp(&b.v_trust).then(a.stake.total_cmp(&b.stake)))
            .map(|v| v.hotkey.as_str());
        let mothership = match &self.select {
            Select::Mothership(hotkey) => Some(hotkey.as_str()),
            Select::MostTrusted => best,
            _ => None,
        };
        let nobody_trusted = !listed.iter().any(|v| v.v_trust >= floor);
        let role = |v: &Validator| match mothership {
            Some(hotkey) if v.hotkey == hotkey => Some(true),
            Some(_) => (v.permit && v.v_trust >= self.trust_floor).then_some(false),
            None => Some(nobody_trusted || v.v_trust >= floor),
        };
        let record = |v: &&Validator| {
            role(v).map(|required| ValidatorRecord {
                v_trust: Some(v.v_trust),
                ..ValidatorRecord::new(&v.hotkey, v.address().to_string(), required, now)
            })
        };
        listed.iter().filter_map(record).collect()
    }

    /// Why nobody gets a signal, in a sentence.
    pub fn nobody(&self) -> String {
        match &self.select {
            Select::Mothership(hotkey) => format!(
                "the mothership {hotkey} is not among the validators; give its hotkey with --delivery.mothership, or choose another --delivery.policy"
            ),
            _ => "there is no validator to send to; check the list of validators (ptn-cli subnet validators shows those of the chain)".to_owned(),
        }
    }

    /// How many attempts one validator gets.
    pub fn attempts(&self, record: &ValidatorRecord, acked_before: bool) -> u32 {
        let one = matches!(self.select, Select::Mothership(_) | Select::MostTrusted);
        let copy = one && !record.required;
        let trusted = record.v_trust.is_some_and(|t| t > 0.0) || acked_before;
        if copy || (self.retry_only_trusted && !trusted) {
            return 1;
        }
        u32::try_from(self.waits.len()).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// The wait after attempt number `attempt` (from 1).
    pub fn wait_after(&self, attempt: u32) -> Duration {
        let index = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
        let wait = self.waits.get(index).or(self.waits.last()).copied().unwrap_or_default();
        if self.jitter <= 0.0 {
            return wait;
        }
        // Two random bytes of a UUID are random enough to spread retries.
        let random = uuid::Uuid::new_v4().as_u128() & 0xffff;
        let fraction = f64::from(u16::try_from(random).unwrap_or(0)) / 65536.0;
        wait.mul_f64(1.0 + self.jitter * fraction)
    }

    /// How old a signal may be when it is sent; `None` when it does not expire.
    pub fn max_age_of(&self, signal: &Signal) -> Option<Duration> {
        if signal.only_reduces() {
            return None;
        }
        self.max_age.get(&signal.execution_type()).copied()
    }

    /// How a signal ended, once every record is final.
    pub fn judge(&self, records: &[ValidatorRecord]) -> (SignalState, String) {
        let accepted = |v: &&ValidatorRecord| v.state == DeliveryState::Accepted;
        let missing = records.iter().filter(|v| v.required && !accepted(v)).collect::<Vec<_>>();
        let anyone = records.iter().any(|v| accepted(&v));
        let required = records.iter().any(|v| v.required);
        if records.is_empty() || !required {
            return (SignalState::Failed, self.nobody());
        }
        if missing.is_empty() || (anyone && !self.partial_is_failed) {
            return (SignalState::Processed, String::new());
        }
        let words = |v: &&ValidatorRecord| {
            let said = if v.message.is_empty() { v.code.as_str() } else { v.message.as_str() };
            format!("{} ({}): {}: {said}", v.hotkey, v.address, v.state)
        };
        (SignalState::Failed, missing.iter().map(words).collect::<Vec<_>>().join("; "))
    }
}

/// The verdict on a signal as far as those who must acknowledge it are concerned, before copies
/// are decided: `None` while one of them is open.
pub fn required_verdict<'a>(
    records: impl Iterator<Item = &'a ValidatorRecord>,
) -> Option<SignalState> {
    let mut seen = false;
    let mut all_accepted = true;
    for record in records.filter(|r| r.required) {
        seen = true;
        if !record.state.is_final() {
            return None;
        }
        all_accepted &= record.state == DeliveryState::Accepted;
    }
    seen.then_some(if all_accepted { SignalState::Processed } else { SignalState::Failed })
}
