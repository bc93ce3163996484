//! `HttpTransport` against a validator that behaves, one that misbehaves, and bare sockets that do
//! worse: what is reported, and how certain it is. No test waits for time to pass except by a
//! deadline that it sets itself.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::let_underscore_must_use,
    reason = "a failed expectation is how a test fails"
)]

mod connections;
mod maybe_sent;
mod not_sent;
mod peer;
mod replies;
