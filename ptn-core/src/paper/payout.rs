//! What 2026 owes a miner: new highs of realised profit, in USD.
//!
//! The ledger is a list of checkpoints (12 hours each). Only profit above the highest profit so
//! far, fees taken off, is paid; an open loss at the end counts, an open gain does not. Which
//! checkpoints count, and when a week is settled, is decided by the ledger.
//!
//! What must stay true: amounts are decimals from end to end. Adding checkpoints one by one gives
//! what walking them all gives.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::paper::score_rules::decimal_text;

/// One period of a miner's ledger. Amounts in USD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// End of the period.
    pub at_ms: i64,
    /// Profit or loss realised in this period.
    pub realised: Decimal,
    /// All fees from the beginning of the account to the end of this period.
    pub cumulative_fees: Decimal,
    /// Profit or loss of open positions at the end of this period.
    pub unrealised: Decimal,
    /// Share of a gain that is paid, 0 to 1.
    pub penalty: Decimal,
}

/// An amount outgrew what a decimal can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the amounts of checkpoint {at_ms} do not add up within {max} USD; correct the prices or the account size",
    max = Decimal::MAX
)]
pub struct PayoutError {
    /// The checkpoint.
    pub at_ms: i64,
}

impl PayoutError {
    /// A stable name.
    pub const fn code(&self) -> &'static str {
        "payout_overflow"
    }
}

/// The running account of what is owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Payout {
    #[serde(with = "decimal_text")]
    realised: Decimal,
    #[serde(with = "decimal_text")]
    high: Decimal,
    #[serde(with = "decimal_text")]
    earned: Decimal,
    #[serde(with = "decimal_text")]
    open_loss: Decimal,
}

impl Payout {
    /// Adds the next checkpoint.
    ///
    /// # Errors
    /// When an amount outgrows a decimal; nothing was added then.
    pub fn add(&mut self, checkpoint: &Checkpoint) -> Result<(), PayoutError> {
        *self = self.next(checkpoint).ok_or(PayoutError { at_ms: checkpoint.at_ms })?;
        Ok(())
    }

    fn next(&self, checkpoint: &Checkpoint) -> Option<Self> {
        let realised = self.realised.checked_add(checkpoint.realised)?;
        let net = realised.checked_sub(checkpoint.cumulative_fees)?;
        let gain = net.checked_sub(self.high)?.max(Decimal::ZERO);
        Some(Self {
            realised,
            high: self.high.max(net),
            earned: self.earned.checked_add(gain.checked_mul(checkpoint.penalty)?)?,
            open_loss: checkpoint.unrealised.min(Decimal::ZERO).checked_mul(checkpoint.penalty)?,
        })
    }

    /// What the checkpoints so far earn, in USD; negative after an open loss that is larger.
    pub fn needed(&self) -> Decimal {
        self.earned.saturating_add(self.open_loss)
    }
}

/// What a list of checkpoints earns, in USD.
///
/// # Errors
/// When an amount outgrows a decimal.
pub fn needed(checkpoints: &[Checkpoint]) -> Result<Decimal, PayoutError> {
    let mut payout = Payout::default();
    for checkpoint in checkpoints {
        payout.add(checkpoint)?;
    }
    Ok(payout.needed())
}

/// What is still owed after `paid`; what was paid too much is not taken back.
pub fn remaining(needed: Decimal, paid: Decimal) -> Decimal {
    needed.saturating_sub(paid).max(Decimal::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(realised: i64, fees: i64, unrealised: i64, penalty: Decimal) -> Checkpoint {
        Checkpoint {
            at_ms: 0,
            realised: realised.into(),
            cumulative_fees: fees.into(),
            unrealised: unrealised.into(),
            penalty,
        }
    }

    #[test]
    fn the_penalty_of_its_own_checkpoint_cuts_each_gain() {
        let half = Decimal::new(5, 1);
        let list = [
            checkpoint(100, 0, 0, Decimal::ONE),
            checkpoint(-40, 0, 0, half),
            checkpoint(60, 0, -10, half),
        ];
        // 100, then 20 above the old high and an open loss of 10, both halved.
        assert_eq!(needed(&list).unwrap(), Decimal::from(105));
        assert_eq!(needed(&[]).unwrap(), Decimal::ZERO);
    }

    #[test]
    fn what_does_not_fit_is_an_error_and_changes_nothing() {
        let mut payout = Payout::default();
        payout.add(&checkpoint(5, 0, 0, Decimal::ONE)).unwrap();
        let mut huge = checkpoint(0, 0, 0, Decimal::ONE);
        huge.realised = Decimal::MAX;
        payout.add(&huge).unwrap_err();
        assert_eq!(payout.needed(), Decimal::from(5));
    }

    #[test]
    fn nothing_is_taken_back() {
        assert_eq!(remaining(50.into(), 80.into()), Decimal::ZERO);
        assert_eq!(remaining((-5).into(), Decimal::ZERO), Decimal::ZERO);
        assert_eq!(remaining(80.into(), 50.into()), Decimal::from(30));
    }
}
