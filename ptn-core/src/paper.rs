//! The network's rules, for trading on paper: what a validator does with a firm's orders.
//!
//! [`book::Book`] is a validator's view of everybody, [`account::Account`] what one hotkey holds;
//! both exist for the rule sets of 2024 and 2026 ([`rules::PaperRules`]). Everything is pure: time
//! is a value in ms, prices and slippage come in, and the same calls in the same order give the same
//! state, which serialises without loss. [`field_2024`] and [`field_2026`] judge a field of miners:
//! drawdown, elimination, scores, payouts and weights. Numbers of the rules are data. Signatures, prices, disks
//! and screens are left to others.
//!
//! ```
//! use ptn_core::order::OrderType;
//! use ptn_core::paper::book::Book;
//! use ptn_core::paper::market::Quote;
//! use ptn_core::paper::order::{Order, Size};
//! use ptn_core::paper::rules::PaperRules;
//! use ptn_core::rules::Era;
//!
//! let rules = PaperRules::load(Era::Y2026)?;
//! let (mut book, pair, now_ms) = (Book::new(), "BTCUSDC".into(), 1_780_000_000_000);
//! book.on_price(&rules, &pair, Quote::last(100_000.0, now_ms));
//! let order = Order::market("u1", pair, OrderType::Long, Some(Size::Leverage(0.5)));
//! book.receive(&rules, "hotkey", &order, now_ms)?;
//! let refused = book.check(&rules, "hotkey", &order, now_ms + 10).unwrap_err();
//! assert_eq!(refused.code(), "already_processed");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Doubles
//!
//! Sizes and money are doubles here, in the network's own order of operations. The network decides
//! on doubles, and its decisions differ from exact ones where it counts: 30.018 USD of room at a fee
//! of 0.03 % and a multiplier of 2 is 30 steps of BTC in decimals and 29 at a validator; LONG 0.1,
//! LONG 0.2, SHORT 0.3 closes a position of 2024 in decimals and leaves it open at a validator.
//!
//! # Traps that are reproduced
//!
//! A paper validator does what the network does, also where that surprises:
//!
//! * 2024: a FLAT with a size at the leverage limit is clamped to nothing and ignored, with success.
//! * 2024: an order to a closed or liquidated position is ignored, with success.
//! * 2024: the cooldown counts inside one position; a new one may be opened right after a close.
//! * 2024: the average price moves on reductions too, and can become negative.
//! * 2024: the limit of open orders counts orders and its text shows positions.
//! * An opposite order that is too large closes; the excess is dropped, nothing is opened.
//! * 2026: the cooldown counts after a close too, and a FLAT waits for it as well.
//! * 2026: leverage is relative to the balance now, returns to the account size.
//! * 2026: the value of a position at its last fill counts twice against the portfolio cap.
//! * 2026: for a short position gains count with the wrong sign: a gain raises the base of carry,
//!   and the value that is left after a reduction is off by twice the gain.
//! * 2026: what a reduction frees of the used capital is reckoned at the rate of the exit.
//! * 2026: order 101 closes a full position first, and stays closed when the order is refused then.
//! * 2026: a stop loss fills at its own price, however far the market went.
//! * 2026: cancelling a uuid cancels every bracket order whose uuid begins with it.
//! * 2026: R27 says that it failed, and the order **was filled**; its uuid is not remembered.
//! * 2026: nobody is ever paid funding, and the first night of an equity position costs nothing.
//!
//! One is not: a fee is never below zero. The network pays a fee back on a short position that
//! lost more than its entry value.
//!
//! # Where descriptions of the network differ
//!
//! Caps go by tier for everyone, as its documentation says; the room under two caps is
//! `(min(caps) - value) / (1 + fee * multiplier)`, as its code of summer 2026 had it. A bracket of a
//! filled order closes what that order filled, and one that was sent alone the whole position. FLAT_ALL may
//! repeat its uuid, as cancelling and editing may.

pub mod account;
pub mod book;
mod curve;
#[cfg(all(feature = "fs", feature = "test-util"))]
pub mod desk;
pub mod drawdown;
pub mod elimination;
pub mod fees;
mod field;
pub mod field_2024;
pub mod field_2026;
pub mod guard;
mod judge;
pub mod ledger;
pub mod leveraged;
pub mod limits;
pub mod market;
pub mod order;
pub mod payout;
pub mod position;
pub mod prices;
pub mod refusal;
pub mod replay;
pub mod rules;
pub mod score_rules;
pub mod scoring;
pub mod validator;
pub mod weights;

pub use curve::{MOST_POINTS, Point};
pub use judge::{FieldStanding, Losses};

/// Milliseconds in a UTC day.
pub(crate) const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// Milliseconds in a week.
pub(crate) const WEEK_MS: i64 = 7 * DAY_MS;
