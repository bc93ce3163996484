//! The parts of the store that read bytes of others, one by one: for tests that feed them any bytes.
//!
//! Nothing here touches a file. A store over damaged files is opened as usual.

use super::{adopt, journal};
use crate::rules::Rules;
use crate::signal::Signal;

/// The JSON of a line of the journal, read and written again.
///
/// # Errors
/// What is wrong with it.
pub fn journal_line(json: &[u8]) -> Result<Vec<u8>, String> {
    journal::rewritten(json)
}

/// A line of the journal around any content, with its checksum and line end.
pub fn sealed_line(json: &[u8], begins_batch: bool) -> Vec<u8> {
    journal::sealed(json, begins_batch)
}

/// The signal in a file of `received_signals` that will not change any more.
///
/// # Errors
/// What is wrong with it.
pub fn foreign_file(name: &str, bytes: &[u8], rules: &Rules) -> Result<Signal, String> {
    adopt::read_whole(name, bytes, rules)
}
