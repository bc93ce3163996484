//! What of the guard's knowledge outlives a restart, as JSON.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::state::{State, Tracked};
use crate::paper::market::Market;
use crate::rules::Era;
use crate::store::UnixMs;

const FORMAT: u32 = 1;

/// What outlives a restart.
#[derive(Serialize, Deserialize)]
struct Snapshot {
    format: u32,
    rules: String,
    accounts: BTreeMap<String, Tracked>,
    prices: Market,
    booked: VecDeque<String>,
    last_ack_ms: Option<UnixMs>,
    /// Whether the engine keeps the network's pace; for those who judge in another process.
    #[serde(default)]
    paced: Option<bool>,
}

impl State {
    pub(super) fn to_json(&self, era: Era, paced: bool) -> String {
        let snapshot = Snapshot {
            format: FORMAT,
            rules: era.to_string(),
            accounts: self.accounts.clone(),
            prices: self.prices.clone(),
            booked: self.booked.clone(),
            last_ack_ms: self.last_ack_ms,
            paced: Some(paced),
        };
        // Maps with text keys and finite numbers: this cannot fail, and an empty text is refused.
        serde_json::to_string(&snapshot).unwrap_or_default()
    }

    pub(super) fn from_json(text: &str, era: Era) -> Result<Self, String> {
        let saved: Snapshot = serde_json::from_str(text).map_err(|e| e.to_string())?;
        if saved.format != FORMAT || saved.rules != era.as_str() {
            return Err(format!(
                "it has format {} and the rules of {}; wanted are format {FORMAT} and {era}",
                saved.format, saved.rules
            ));
        }
        let booked_set = saved.booked.iter().cloned().collect();
        let (accounts, prices) = (saved.accounts, saved.prices);
        let (booked, last_ack_ms) = (saved.booked, saved.last_ack_ms);
        Ok(Self { accounts, prices, booked, booked_set, last_ack_ms, ..Self::default() })
    }
}
