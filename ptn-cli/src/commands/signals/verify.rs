//! `signals verify`: whether a store holds what it promises.
//!
//! What is checked is left to [`ptn_core::store::audit`] and [`ptn_core::store::fs::verify`].

use std::path::Path;

use ptn_core::ops::config::Settings;
use ptn_core::ops::process;
use ptn_core::ops::store::Place;
use ptn_core::store::StoreError;
use ptn_core::store::audit::{Severity, audit_store};
use ptn_core::store::fs;

use crate::Outcome;
use crate::commands::spool;
use crate::failure::Failure;
use crate::output::{Output, Style};
use crate::text;

pub(super) const HELP: &str = "\
Of a data directory: the checksum of every line of the journal, the digest of every signal, that every \
signal which was accepted is waiting or finished and none is both, and all that follows. Of a database \
as well: that every finished signal has a decision for every validator, that nothing was sent again \
after an acknowledgement, and that the signed requests of a pair left in the order of acceptance.

Nothing is changed. A database is checked beside the miners that deliver from it. Of a data directory stop the miner first, or check a copy (cp -a).

Exit codes: 0 everything holds, 1 something is broken, 75 a miner delivers from the data directory.";

/// A miner changes the files while they are read; a copy keeps still.
fn locked(error: StoreError, dir: &Path) -> Failure {
    let StoreError::Locked { pid, host, .. } = &error else { return error.into() };
    let dir = dir.display();
    let message = format!("a miner delivers from {dir} (pid {pid} on {host})");
    let shown = dir.to_string();
    let copy = format!("{}.copy", shown.trim_end_matches('/'));
    Failure::from(error).saying(message).hint(format!(
        "stop it, or check a copy: cp -a {dir} {copy} && ptn-cli signals verify --data-dir {copy}"
    ))
}

pub(super) async fn run(settings: &Settings, out: &mut Output) -> Outcome {
    let place = Place::from_settings(settings)?;
    let seen = match &place {
        Place::Dir(dir, _) => {
            spool::there(dir)?;
            fs::verify(dir).map_err(|e| locked(e, dir))?
        }
        Place::Postgres(_) => {
            let opened = spool::open_existing(settings).await?;
            audit_store(opened.as_transfer()).await?
        }
    };
    if out.is_json() {
        out.document(&seen)?;
    } else {
        for finding in &seen.findings {
            let (style, word) = match finding.severity {
                Severity::Broken => (Style::Bad, "broken"),
                Severity::Note => (Style::Warn, "note"),
            };
            let word = out.paint(style, word);
            let place = text::harmless(&finding.place);
            out.line(format!(
                "{word} {}: {place}: {}",
                finding.code,
                text::harmless(&finding.what)
            ))?;
        }
        let count = |n: u64| text::count(usize::try_from(n).unwrap_or(usize::MAX), "signal");
        let all = count(seen.pending + seen.processed + seen.failed);
        let mut line = format!(
            "{all} ({} waiting, {} processed, {} failed), {} signed requests",
            seen.pending, seen.processed, seen.failed, seen.requests
        );
        if seen.journal_lines > 0 {
            line.push_str(&format!(", {} checksums", seen.journal_lines));
        }
        let broken = seen.findings.iter().filter(|f| f.severity == Severity::Broken).count();
        let verdict = match broken {
            0 => out.paint(Style::Good, "everything holds"),
            n => out.paint(Style::Bad, format!("{n} broken")),
        };
        out.line(format!("{}: {line}: {verdict}", place.name()))?;
    }
    if seen.is_sound() {
        return Ok(process::OK);
    }
    if out.is_json() {
        return Ok(process::FAILED);
    }
    let text = format!("{} does not hold what it promises", place.name());
    Err(Failure::failed("store_broken", text)
        .hint("keep a copy of it as it is now; then compare with a backup, signal by signal"))
}
