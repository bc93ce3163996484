//! What the three binaries share: settings, logging, signals of the process. Not for embedders,
//! and not a stable interface: a library does not read environment variables or install loggers.

#[cfg(feature = "chain")]
pub mod chain;
pub mod config;
#[cfg(feature = "paper")]
pub mod guard;
pub mod handover;
pub mod lock;
pub mod logging;
pub mod process;
pub mod settings;
pub mod sockets;
#[cfg(all(feature = "fs", feature = "postgres"))]
pub mod store;
#[cfg(feature = "wallet")]
pub mod terminal;
pub mod text;
#[cfg(feature = "wallet")]
pub mod wallet;
