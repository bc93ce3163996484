//! Trading signals for the Proprietary Trading Network: parse, keep safe, deliver to every
//! validator that counts.
#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::float_cmp, reason = "exact values are compared in tests"))]

#[cfg(feature = "chain")]
pub mod chain;
pub mod deliver;
pub mod directory;
pub mod error;
pub mod guard;
pub mod json;
pub mod market_hours;
#[cfg(feature = "ops")]
#[doc(hidden)]
pub mod ops;
pub mod order;
#[cfg(feature = "paper")]
pub mod paper;
pub mod record;
pub mod rules;
pub mod sign;
pub mod signal;
pub mod store;
mod text;
pub mod trade_pair;
pub mod transport;
#[cfg(feature = "test-util")]
pub mod validator;
#[cfg(feature = "wallet")]
pub mod wallet;

pub use error::{Error, ErrorClass};
