//! The server over real sockets: every status and body that callers rely on.
//!
//! One binary, so that it links once; the modules are grouped by endpoint and by fault.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "in a test a panic is the answer"
)]

#[path = "http/api.rs"]
mod api;
#[path = "http/failing_store.rs"]
mod failing_store;
#[path = "http/guard.rs"]
mod guard;
#[path = "http/harness.rs"]
mod harness;
#[path = "http/hostile.rs"]
mod hostile;
#[path = "http/keys.rs"]
mod keys;
#[path = "http/overload.rs"]
mod overload;
#[path = "http/receive_signal.rs"]
mod receive_signal;
#[path = "http/submit_order.rs"]
mod submit_order;
#[path = "http/vectors.rs"]
mod vectors;
