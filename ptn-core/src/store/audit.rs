//! What a store says about its signals, held against what stores and engines promise.
//!
//! An audit reads and judges; it never repairs. What only a spool has (checksums, folders) is left
//! to the spool's own `verify`.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::transfer::Transfer;
use super::{StoreError, StoredSignal, UnixMs};
use crate::record::{DeliveryState, SignalState, ValidatorRecord};

/// How many signals are read at a time.
const STEP: usize = 256;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing; nothing is lost, and the next start deals with it.
    Note,
    /// A promise is broken, or data is damaged.
    Broken,
}

/// Something that an audit found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Stable code.
    pub code: &'static str,
    /// The signal or the file.
    pub place: String,
    /// What is the matter.
    pub what: String,
}

impl Finding {
    /// A broken promise.
    pub fn broken(code: &'static str, place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { severity: Severity::Broken, code, place: place.into(), what: what.into() }
    }

    /// Something worth knowing.
    pub fn note(code: &'static str, place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { severity: Severity::Note, code, place: place.into(), what: what.into() }
    }
}

/// What was looked at, and what was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Verified {
    /// Bytes of the journal; nothing where there is none.
    pub journal_bytes: u64,
    /// Its lines, each with a checksum.
    pub journal_lines: u64,
    /// Signals that wait or are in delivery.
    pub pending: u64,
    /// Signals that everyone acknowledged who had to.
    pub processed: u64,
    /// Signals that ended otherwise.
    pub failed: u64,
    /// Signed requests to validators, by which order was checked.
    pub requests: u64,
    /// Files of others: of the Python tools, refused ones, and those still to be adopted.
    pub foreign: u64,
    /// What was found.
    pub findings: Vec<Finding>,
}

impl Verified {
    /// Whether every promise holds.
    pub fn is_sound(&self) -> bool {
        self.findings.iter().all(|f| f.severity == Severity::Note)
    }

    /// Counts a signal.
    pub(super) fn count(&mut self, stored: &StoredSignal) {
        let of_state = match stored.state {
            SignalState::Pending => &mut self.pending,
            SignalState::Processed => &mut self.processed,
            SignalState::Failed => &mut self.failed,
        };
        *of_state += 1;
        self.requests += stored.validators.values().map(|v| v.requests.len() as u64).sum::<u64>();
    }

    /// Takes what an audit found; the worst comes first.
    pub(super) fn conclude(&mut self, audit: Audit) {
        self.findings.extend(audit.findings);
        self.findings.sort_by_key(|f| std::cmp::Reverse(f.severity));
    }
}

/// Audits a store through its own eyes, as far as it tells. For a data directory
/// the spool's own check sees more.
///
/// # Errors
/// When the store fails.
pub async fn audit_store(store: &dyn Transfer) -> Result<Verified, StoreError> {
    let (mut seen, mut audit) = (Verified::default(), Audit::default());
    let ids = store.ids().await?;
    for ids in ids.chunks(STEP) {
        let mut signals = store.fetch(ids).await?;
        signals.sort_by_key(|stored| stored.seq);
        for stored in &signals {
            seen.count(stored);
            audit.add(stored);
        }
    }
    seen.conclude(audit);
    Ok(seen)
}

/// An audit of all signals of a store.
///
/// * Every signal has a place of its own in the order of arrival.
/// * A finished signal has a decision for every validator, and a processed one the acknowledgement
///   of everyone who had to give it.
/// * Nothing was sent to a validator after it had acknowledged.
/// * Requests of one trade pair reached for each validator in the order of acceptance, told by the
///   nonces that were signed. Signals that were retried by hand stand outside of that order.
#[derive(Debug, Default)]
pub struct Audit {
    lanes: HashMap<String, BTreeMap<Option<String>, Sent>>,
    before: Option<(u64, String)>,
    findings: Vec<Finding>,
}

impl Audit {
    /// Looks at the next signal; they come in the order of acceptance, by their places.
    pub fn add(&mut self, stored: &StoredSignal) {
        if let Some((_, other)) = self.before.take().filter(|(seq, _)| *seq == stored.seq) {
            let what = format!("has the same place {} as {other}", stored.seq);
            self.findings.push(Finding::broken("place_taken_twice", id(stored), what));
        }
        self.before = Some((stored.seq, id(stored)));
        decided(stored, &mut self.findings);
        for record in stored.validators.values() {
            requests(stored, record, &mut self.findings);
        }
        self.order(stored);
    }

    /// What was found.
    pub fn into_findings(self) -> Vec<Finding> {
        self.findings
    }

    fn order(&mut self, stored: &StoredSignal) {
        let pair = stored.signal.queue().map(|pair| pair.as_str().to_owned());
        for record in stored.validators.values() {
            let (Some(first), Some(last)) = (record.requests.first(), record.requests.last())
            else {
                continue;
            };
            let lanes = self.lanes.entry(record.hotkey.clone()).or_default();
            // Where a validator refused a nonce that was ahead of the clock, they begin anew below.
            if record.requests.iter().any(|r| r.code == "nonce_ahead") {
                lanes.clear();
                continue;
            }
            let in_the_way =
                |lane: &Option<String>| lane.is_none() || pair.is_none() || *lane == pair;
            for (lane, sent) in lanes.iter().filter(|(lane, _)| in_the_way(lane)) {
                // A signal that was retried has a later time of acceptance than its place says.
                let retried = sent.accepted_at > stored.accepted_at;
                if !retried && sent.nonce > first.nonce {
                    let lane = lane.as_deref().unwrap_or("every pair");
                    let what = format!(
                        "was sent to {} (nonce {}) before {} was decided there, which was accepted \
                         earlier and last sent with nonce {} (queue of {lane})",
                        record.hotkey, first.nonce, sent.id, sent.nonce
                    );
                    self.findings.push(Finding::broken("out_of_order", id(stored), what));
                }
            }
            let sent = Sent { nonce: last.nonce, accepted_at: stored.accepted_at, id: id(stored) };
            match lanes.get_mut(&pair) {
                Some(kept) if kept.nonce >= sent.nonce => {}
                Some(kept) => *kept = sent,
                None => drop(lanes.insert(pair.clone(), sent)),
            }
        }
    }
}

/// What went to one validator last in the queue of a trade pair; `None` is what stands in every
/// pair's queue.
#[derive(Debug)]
struct Sent {
    nonce: u64,
    accepted_at: UnixMs,
    id: String,
}

fn id(stored: &StoredSignal) -> String {
    stored.signal.id().to_string()
}

fn decided(stored: &StoredSignal, findings: &mut Vec<Finding>) {
    if stored.state == SignalState::Pending {
        return;
    }
    for v in stored.validators.values() {
        if !v.state.is_final() {
            let what = format!("is {}, but {} is still {}", stored.state, v.hotkey, v.state);
            findings.push(Finding::broken("undecided", id(stored), what));
        }
        let missing = v.required && v.state != DeliveryState::Accepted;
        if stored.state == SignalState::Processed && missing {
            let what =
                format!("is processed, but {} had to acknowledge it and is {}", v.hotkey, v.state);
            findings.push(Finding::broken("not_acknowledged", id(stored), what));
        }
    }
    if stored.state == SignalState::Processed && stored.validators.is_empty() {
        let what = "is processed, and no validator has acknowledged it";
        findings.push(Finding::broken("not_acknowledged", id(stored), what));
    }
}

fn requests(stored: &StoredSignal, record: &ValidatorRecord, findings: &mut Vec<Finding>) {
    let mut acknowledged = false;
    for request in &record.requests {
        if acknowledged {
            let what = format!(
                "was sent to {} again (nonce {}) after it had acknowledged",
                record.hotkey, request.nonce
            );
            findings.push(Finding::broken("sent_after_acknowledgement", id(stored), what));
        }
        acknowledged = matches!(request.code.as_str(), "accepted" | "filled_without_bracket");
    }
    if acknowledged && record.state != DeliveryState::Accepted {
        let what =
            format!("{} acknowledged it, and the record says {}", record.hotkey, record.state);
        findings.push(Finding::broken("acknowledgement_lost", id(stored), what));
    }
}
