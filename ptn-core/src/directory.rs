//! `ValidatorDirectory`: who the validators are right now.
//!
//! A directory is a watched snapshot. The engine reads it when a signal is first claimed and before
//! every attempt, so an address that changes is followed; identity is the hotkey. Who must
//! acknowledge is left to `deliver::target`.
//!
//! What must stay true: "nobody" and "not known yet" are different lists. While the list is not
//! known yet signals wait; nothing is decided about them.

use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// The protocol that a validator speaks. Which one is not announced, so it is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wire {
    /// Plain HTTP with signed headers (bittensor 11): `POST /axon/SendSignal`.
    #[default]
    Btauth,
    /// The dendrite and axon of bittensor 6 to 10: `POST /SendSignal`.
    Dendrite,
}

impl Wire {
    /// The word in configuration files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Btauth => "btauth",
            Self::Dendrite => "dendrite",
        }
    }

    /// Reads the word in configuration files.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Btauth, Self::Dendrite].into_iter().find(|wire| wire.as_str() == text)
    }

    /// The one that is not this one.
    pub const fn other(self) -> Self {
        match self {
            Self::Btauth => Self::Dendrite,
            Self::Dendrite => Self::Btauth,
        }
    }
}

/// One validator as the directory knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Validator {
    /// ss58 address (prefix 42) of its hotkey: its identity.
    pub hotkey: String,
    /// Where its axon listens.
    pub ip: IpAddr,
    /// The axon's port.
    pub port: u16,
    /// Validator trust, 0 to 1.
    #[serde(default)]
    pub v_trust: f64,
    /// Stake in TAO.
    #[serde(default)]
    pub stake: f64,
    /// Whether it holds a validator permit.
    #[serde(default = "yes")]
    pub permit: bool,
    /// The protocol it speaks.
    #[serde(default)]
    pub wire: Wire,
}

fn yes() -> bool {
    true
}

impl Validator {
    /// Its axon's address.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port)
    }
}

/// The validators at one moment; cheap to clone. The default is a list that is not known yet.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot(Option<Arc<[Validator]>>);

impl Snapshot {
    /// These validators, and no others.
    pub fn new(validators: Vec<Validator>) -> Self {
        Self(Some(validators.into()))
    }

    /// Whether the list is known. Until it is, it reads as empty and decides nothing.
    pub const fn is_known(&self) -> bool {
        self.0.is_some()
    }
}

impl Deref for Snapshot {
    type Target = [Validator];

    fn deref(&self) -> &[Validator] {
        self.0.as_deref().unwrap_or_default()
    }
}

/// Who the validators are.
pub trait ValidatorDirectory: Send + Sync + 'static {
    /// The current list; changes arrive on the same receiver. Until [`Snapshot::is_known`] nothing
    /// is delivered.
    fn watch(&self) -> watch::Receiver<Snapshot>;

    /// Whether the list can be behind the truth for a while, as a copy of what others announce
    /// always is. Then somebody else may answer at a validator's address, and a refusal that does
    /// not say who gave it is not final before the schedule of attempts is.
    fn may_be_stale(&self) -> bool {
        true
    }
}

/// A list given by hand: from a file, or in a test. The default is not known until it is replaced.
#[derive(Debug, Default)]
pub struct StaticDirectory(watch::Sender<Snapshot>);

impl StaticDirectory {
    /// A directory of these validators.
    pub fn new(validators: Vec<Validator>) -> Self {
        Self(watch::Sender::new(Snapshot::new(validators)))
    }

    /// Replaces the list; deliveries that are under way follow it.
    pub fn replace(&self, validators: Vec<Validator>) {
        self.0.send_replace(Snapshot::new(validators));
    }
}

impl ValidatorDirectory for StaticDirectory {
    fn watch(&self) -> watch::Receiver<Snapshot> {
        self.0.subscribe()
    }

    /// What somebody wrote down is what is meant.
    fn may_be_stale(&self) -> bool {
        false
    }
}
