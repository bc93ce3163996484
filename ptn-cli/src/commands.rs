//! The commands, one file each, and what several of them need. Each has a `run` that takes its
//! matches and the output; what they have in common with daemons is left to `ptn_core::ops`.

pub mod chain;
pub mod completions;
pub mod config;
pub mod demo;
pub mod doctor;
pub mod listen;
pub mod paper;
pub mod root;
pub mod send;
pub mod signals;
pub mod spool;
pub mod subnet;
pub mod target;
pub mod trigger;
mod verdict;
pub mod wallet;
