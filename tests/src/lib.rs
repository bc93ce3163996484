//! What the end-to-end suites share. Each suite is a file in `tests/`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::float_cmp,
    clippy::string_slice,
    reason = "a failed expectation is how a test fails"
)]

pub mod chaos;
pub mod cluster;
pub mod fuzz;
pub mod http;
pub mod paper_year;
pub mod postgres;
pub mod process;
pub mod script;
pub mod vectors;
