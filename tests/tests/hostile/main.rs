//! Hostile validators, callers, files and chain entries against the real parts: the engine with its
//! HTTP transport, the server, the store on disk, the programs. Every test names what the victim
//! recorded or answered, and shows that somebody beside it noticed nothing: another validator gets
//! every order meanwhile, another caller is served meanwhile, another file is adopted.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::let_underscore_must_use,
    reason = "a failed expectation is how a test fails"
)]

mod callers;
mod crowds;
mod injection;
mod memory;
mod metagraph;
mod net;
mod peers;
mod serving;
mod spool;
