//! The engine: every signal to every validator that counts, in order, each at its own pace.
//!
//! ```text
//! SignalStore ── claim ──▶ dispatcher ── one job per validator ──▶ courier (one per validator)
//!      ▲                    (targets,                               lanes: one per trade pair,
//!      └──── record, finish ─ finish)  ◀── settled ─────────────── first in, first out
//! ```
//!
//! What must stay true:
//! 1. No validator waits for another one: a courier knows only its own queue.
//! 2. Per validator and trade pair, a later signal waits until the earlier one is decided. Signals
//!    without a pair (`FLAT_ALL`, cancelling everywhere) are barriers between everything else.
//! 3. Nothing counts before the store has it: outcomes are recorded before a lane moves on.
//! 4. The transport says how certain it is that an order arrived; only the policy decides whether
//!    the same order, under the same uuid, is sent again.
//!
//! Keeping signals is left to [`crate::store`], the wire to [`crate::transport`].

mod active;
mod attempt;
mod courier;
mod dispatcher;
mod engine;
mod guarding;
mod pacing;
pub mod policy;
pub mod verdict;

pub use engine::{Clock, Engine, EngineBuilder, EngineError, Receipt, ValidatorHealth};
pub use guarding::{SubmitError, accept_guarded, follow_for_guard, inform_guard};
pub use policy::{DeliveryPolicy, OnUnknown, Pacing, Select, required_verdict};
