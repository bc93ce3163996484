//! What a field remembers of each miner: small states that events update in place.
//!
//! A ledger keeps what the next check or the next round of weights needs, and drops the rest, so
//! that a year of history costs no more than a month. When to check is left to the fields.
//!
//! What must stay true: a ledger's state depends only on the events and on the times at which
//! periods ended, not on how often it was asked.

use std::collections::VecDeque;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::paper::DAY_MS;
use crate::paper::drawdown::{AccountKind, Drawdown2024, Drawdown2026};
use crate::paper::payout::{Checkpoint, Payout};
use crate::paper::score_rules::{ScoringRules2024, ScoringRules2026, decimal_text, ratio};
use crate::paper::scoring::decay_log;
use crate::paper::weights::Bucket;

/// An event that cannot be applied.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The hotkey was never registered.
    #[error("no miner {hotkey} in this field; register it first")]
    UnknownMiner {
        /// Who.
        hotkey: String,
    },
    /// Time goes forward only.
    #[error(
        "an event of {hotkey} at {at_ms} ms comes after the field was brought to {now_ms} ms; send events in order of time"
    )]
    Late {
        /// Whose event.
        hotkey: String,
        /// Its time.
        at_ms: i64,
        /// How far the field is.
        now_ms: i64,
    },
    /// A return that no position can have.
    #[error("a return of {hotkey} is {value}; it must be a finite number of at least 0")]
    BadReturn {
        /// Whose event.
        hotkey: String,
        /// Its value.
        value: f64,
    },
    /// An amount that no account can have.
    #[error("{field} of {hotkey} is {value}; allowed is {allowed}")]
    BadAmount {
        /// Whose event.
        hotkey: String,
        /// Which amount.
        field: &'static str,
        /// Its value.
        value: Decimal,
        /// What would be right.
        allowed: &'static str,
    },
}

impl LedgerError {
    /// A stable name.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::UnknownMiner { .. } => "unknown_miner",
            Self::Late { .. } => "late_event",
            Self::BadReturn { .. } => "bad_return",
            Self::BadAmount { .. } => "bad_amount",
        }
    }
}

/// The largest amount of USD that an account may reach; far above anything real, and far below
/// what a decimal holds, so that sums of amounts always fit.
const LARGEST_USD: Decimal = Decimal::from_parts(0, 0, 1 << 20, false, 0);

const TOO_LARGE: &str = "at most 1.9e25 USD";

fn bad_amount(
    hotkey: &str,
    field: &'static str,
    value: Decimal,
    allowed: &'static str,
) -> LedgerError {
    LedgerError::BadAmount { hotkey: hotkey.to_owned(), field, value, allowed }
}

/// A closed position of 2024, as the score sees it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Closed {
    opened_ms: i64,
    closed_ms: i64,
    log_return: f64,
}

/// A miner under the rules of 2024.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Ledger2024 {
    /// The drawdown of closed positions.
    pub drawdown: Drawdown2024,
    /// Returns of the open positions at the last price, fees included.
    pub open_returns: Vec<f64>,
    /// How many positions ever closed.
    pub closed_count: usize,
    recent: VecDeque<Closed>,
}

impl Ledger2024 {
    /// Remembers a position that closed now, and drops what no score will ever look at again.
    pub fn close(
        &mut self,
        opened_ms: i64,
        closed_ms: i64,
        return_at_close: f64,
        rules: &ScoringRules2024,
    ) {
        self.closed_count += 1;
        let too_old = |opened_ms: i64| opened_ms <= closed_ms - rules.lookback_ms();
        self.recent.retain(|p| !too_old(p.opened_ms));
        if !too_old(opened_ms) && closed_ms - opened_ms >= rules.min_position_duration_ms {
            let log_return = return_at_close.max(rules.return_floor).ln();
            self.recent.push_back(Closed { opened_ms, closed_ms, log_return });
        }
    }

    /// The faded returns that count at a time, in order of closing.
    pub fn augmented_returns(&self, now_ms: i64, rules: &ScoringRules2024) -> Vec<f64> {
        self.recent
            .iter()
            .filter(|p| p.opened_ms > now_ms - rules.lookback_ms())
            .map(|p| {
                #[expect(clippy::cast_precision_loss, reason = "ages are far below 2^53 ms")]
                let age_days = (now_ms - p.closed_ms) as f64 / DAY_MS as f64;
                decay_log(p.log_return, age_days, rules).augmented_return
            })
            .collect()
    }
}

/// A checkpoint in doubles, for the dust bonus.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Recent {
    at_ms: i64,
    realised: f64,
    fees: f64,
    unrealised: f64,
    penalty: f64,
}

/// A miner under the rules of 2026.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ledger2026 {
    /// What its limits depend on.
    pub kind: AccountKind,
    /// Its asset class, as the rules write it.
    pub asset_class: String,
    /// Its stage.
    pub bucket: Bucket,
    /// When the stage began.
    pub bucket_since_ms: i64,
    /// Its last order, or its registration.
    pub last_order_ms: i64,
    /// Whether it has collateral.
    pub has_collateral: bool,
    /// The marks of the midnights.
    pub drawdown: Drawdown2026,
    /// Balance plus open profit, as a ratio of the account's size; `None` before the first mark.
    pub equity: Option<f64>,
    /// Balance, as a ratio of the account's size.
    pub balance: f64,
    /// Emissions received, in USD.
    #[serde(with = "decimal_text")]
    pub paid: Decimal,
    /// The share of a gain that is paid, from now on.
    #[serde(with = "decimal_text")]
    pub penalty: Decimal,
    /// All fees so far, in USD.
    #[serde(with = "decimal_text")]
    pub fees: Decimal,
    /// Earned in all settled weeks, in USD.
    #[serde(with = "decimal_text")]
    pub settled: Decimal,
    #[serde(with = "decimal_text")]
    unrealised: Decimal,
    #[serde(with = "decimal_text")]
    period_realised: Decimal,
    payout: Payout,
    recent: VecDeque<Recent>,
    fees_before_recent: f64,
    #[serde(with = "decimal_text")]
    turnover: Decimal,
}

impl Ledger2026 {
    /// A new account.
    pub fn new(
        kind: AccountKind,
        asset_class: impl Into<String>,
        bucket: Bucket,
        has_collateral: bool,
        at_ms: i64,
    ) -> Self {
        Self {
            kind,
            asset_class: asset_class.into(),
            bucket,
            bucket_since_ms: at_ms,
            last_order_ms: at_ms,
            has_collateral,
            drawdown: Drawdown2026::default(),
            equity: None,
            balance: 1.0,
            paid: Decimal::ZERO,
            penalty: Decimal::ONE,
            fees: Decimal::ZERO,
            settled: Decimal::ZERO,
            unrealised: Decimal::ZERO,
            period_realised: Decimal::ZERO,
            payout: Payout::default(),
            recent: VecDeque::new(),
            fees_before_recent: 0.0,
            turnover: Decimal::ZERO,
        }
    }

    /// Takes the live values of the account, in USD.
    ///
    /// # Errors
    /// When an amount is out of range.
    pub fn mark(
        &mut self,
        hotkey: &str,
        account_size: Decimal,
        balance: Decimal,
        unrealised: Decimal,
    ) -> Result<(), LedgerError> {
        if account_size <= Decimal::ZERO {
            return Err(bad_amount(hotkey, "the account size", account_size, "more than 0 USD"));
        }
        for (field, value) in [("the balance", balance), ("the open profit", unrealised)] {
            if value.abs() > LARGEST_USD {
                return Err(bad_amount(hotkey, field, value, TOO_LARGE));
            }
        }
        let size = ratio(account_size);
        self.equity = Some(ratio(balance + unrealised) / size);
        self.balance = ratio(balance) / size;
        self.unrealised = unrealised;
        Ok(())
    }

    /// Books a realised profit or loss and a fee, in USD.
    ///
    /// # Errors
    /// When an amount is out of range.
    pub fn book(
        &mut self,
        hotkey: &str,
        realised: Decimal,
        fee: Decimal,
    ) -> Result<(), LedgerError> {
        if fee < Decimal::ZERO {
            return Err(bad_amount(hotkey, "a fee", fee, "0 USD or more"));
        }
        let turnover = self.turnover.saturating_add(realised.abs()).saturating_add(fee);
        if turnover > LARGEST_USD {
            return Err(bad_amount(hotkey, "the turnover", turnover, TOO_LARGE));
        }
        self.turnover = turnover;
        self.period_realised += realised;
        self.fees += fee;
        Ok(())
    }

    /// Notes emissions received, in USD.
    ///
    /// # Errors
    /// When the amount is out of range.
    pub fn pay(&mut self, hotkey: &str, usd: Decimal) -> Result<(), LedgerError> {
        let paid = self.paid.saturating_add(usd);
        if usd < Decimal::ZERO || paid > LARGEST_USD {
            return Err(bad_amount(hotkey, "a payment", usd, "0 USD or more, and no overflow"));
        }
        self.paid = paid;
        Ok(())
    }

    /// Sets the share of a gain that is paid from now on.
    ///
    /// # Errors
    /// When it is not between 0 and 1.
    pub fn penalise(&mut self, hotkey: &str, penalty: Decimal) -> Result<(), LedgerError> {
        if penalty < Decimal::ZERO || penalty > Decimal::ONE {
            return Err(bad_amount(hotkey, "the penalty", penalty, "0 to 1"));
        }
        self.penalty = penalty;
        Ok(())
    }

    /// The return that a promotion looks at: of equity or of balance, whichever is less.
    pub fn current_return(&self) -> f64 {
        self.equity.unwrap_or(1.0).min(self.balance) - 1.0
    }

    /// Ends a period of the ledger; settles when it ends a week.
    pub fn end_period(&mut self, at_ms: i64, rules: &ScoringRules2026) {
        let checkpoint = Checkpoint {
            at_ms,
            realised: std::mem::take(&mut self.period_realised),
            cumulative_fees: self.fees,
            unrealised: self.unrealised,
            penalty: self.penalty,
        };
        let oldest = at_ms - rules.performance_days * DAY_MS;
        while let Some(first) = self.recent.front().filter(|c| c.at_ms < oldest) {
            self.fees_before_recent = first.fees;
            self.recent.pop_front();
        }
        self.recent.push_back(Recent {
            at_ms,
            realised: ratio(checkpoint.realised),
            fees: ratio(checkpoint.cumulative_fees),
            unrealised: ratio(checkpoint.unrealised),
            penalty: ratio(checkpoint.penalty),
        });
        if rules.earning_buckets.iter().any(|b| b == self.bucket.as_str()) {
            let added = self.payout.add(&checkpoint);
            debug_assert!(added.is_ok(), "amounts are bounded when they are booked");
        }
        if rules.week_end.last_ms(at_ms) == at_ms {
            self.settled = self.payout.needed();
        }
    }

    /// Payable profit of the last days in USD, never below 0: new highs of the window alone.
    pub fn recent_performance(&self, now_ms: i64, rules: &ScoringRules2026) -> f64 {
        let oldest = now_ms - rules.performance_days * DAY_MS;
        let (mut realised, mut high, mut earned, mut open_loss) = (0.0, 0.0, 0.0, 0.0);
        let mut fees_before = self.fees_before_recent;
        for checkpoint in &self.recent {
            if checkpoint.at_ms < oldest {
                fees_before = checkpoint.fees;
                continue;
            }
            realised += checkpoint.realised;
            let net = realised - (checkpoint.fees - fees_before);
            if net > high {
                earned += (net - high) * checkpoint.penalty;
                high = net;
            }
            open_loss = checkpoint.unrealised.min(0.0) * checkpoint.penalty;
        }
        f64::max(earned + open_loss, 0.0)
    }
}
