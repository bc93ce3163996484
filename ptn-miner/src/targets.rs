//! Who gets signals right now, for the log and for health: by the policy, with the addresses that
//! are not called.

use std::sync::Arc;

use ptn_core::deliver::DeliveryPolicy;
use ptn_core::directory::{Snapshot, ValidatorDirectory};
use ptn_core::transport::address::AddressPolicy;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::validators;

/// One validator that gets signals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Target {
    hotkey: String,
    address: String,
    wire: &'static str,
    /// Whether it must acknowledge; the others get a copy.
    required: bool,
    /// Why its address is not called.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<&'static str>,
}

/// Whom the policy selects from a directory.
pub(crate) struct Targets {
    pub(crate) directory: Arc<dyn ValidatorDirectory>,
    pub(crate) policy: DeliveryPolicy,
    pub(crate) addresses: AddressPolicy,
    /// Where the list comes from, for messages.
    pub(crate) source: String,
    /// Whether somebody wrote the list, and wants to know of every address in it that is not called.
    pub(crate) by_hand: bool,
}

impl Targets {
    /// Those of this moment; `None` while they are not known.
    pub(crate) fn now(&self) -> Option<Vec<Target>> {
        let list = self.directory.watch().borrow().clone();
        list.is_known().then(|| self.of(&list))
    }

    fn of(&self, list: &Snapshot) -> Vec<Target> {
        let chosen = self.policy.targets(list, 0);
        let target = |(hotkey, required): (String, bool)| {
            let validator = list.iter().find(|v| v.hotkey == hotkey)?;
            Some(Target {
                hotkey,
                address: validator.address().to_string(),
                wire: validator.wire.as_str(),
                required,
                refused: self.addresses.check(validator.address()).err(),
            })
        };
        chosen.into_iter().map(|r| (r.hotkey, r.required)).filter_map(target).collect()
    }

    /// Logs who gets signals, at first and when that changes.
    pub(crate) async fn log(self: Arc<Self>, stop: CancellationToken) {
        let mut lists = self.directory.watch();
        let mut known = Vec::new();
        let mut first = true;
        loop {
            let list = lists.borrow_and_update().clone();
            let targets = self.of(&list);
            if list.is_known() && (first || targets != known) {
                self.say(&list, &targets);
                (known, first) = (targets, false);
            }
            tokio::select! {
                () = stop.cancelled() => return,
                changed = lists.changed() => if changed.is_err() { return },
            }
        }
    }

    fn say(&self, list: &Snapshot, targets: &[Target]) {
        let required: Vec<_> =
            targets.iter().filter(|t| t.required).map(|t| t.hotkey.as_str()).collect();
        let copies = targets.len().saturating_sub(required.len());
        if required.is_empty() {
            let why = validators::lacks_mothership(list, &self.policy.select);
            tracing::warn!("{}: {}", self.source, why.unwrap_or_else(|| self.policy.nobody()));
        } else {
            let must = required.len();
            // A subnet of 256 would make a long line.
            let names = required.iter().take(8).copied().collect::<Vec<_>>().join(" ");
            tracing::info!(required = must, copies, "signals go to {names}");
        }
        for validator in list.iter() {
            let target = targets.iter().find(|t| t.hotkey == validator.hotkey);
            let Err(why) = self.addresses.check(validator.address()) else { continue };
            if target.is_some() || self.by_hand {
                tracing::warn!(
                    validator = validator.hotkey,
                    address = %validator.address(),
                    required = target.is_some_and(|t| t.required),
                    "{}: this validator is not called: {why}; only --subtensor.network local may \
                     call it",
                    self.source
                );
            }
        }
    }
}
