//! `verify`: a data directory is read as it lies there and held against every promise that can be
//! checked without the network: checksums, digests, states, places, the order of what was sent.
//!
//! Nothing is changed. What the next start would put in order by itself (a record that its writer
//! did not finish, a file that is late) is a note. Repairing is left to people.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::disk::open_foreign;
use super::durable::io_error;
use super::journal::{Scanned, scan};
use super::layout::{Layout, reason_name};
use super::lock::refuse_while_owned;
use super::retention::retired;
use crate::record::{SignalState, legacy};
use crate::signal::{OrderUuid, Signal};
use crate::store::audit::{Audit, Finding, Verified};
use crate::store::index::{Index, Record};
use crate::store::{StoreError, StoredSignal};

/// The longest list of places that a finding spells out.
const MOST_PLACES: usize = 10;

/// Checks a data directory from which nobody delivers.
///
/// # Errors
/// When it cannot be read, or a miner delivers from it.
pub fn verify(dir: &Path) -> Result<Verified, StoreError> {
    let layout = Layout::new(dir.to_owned());
    refuse_while_owned(&layout)?;
    let mut seen = Verified::default();
    let index = read_journal(&layout, &mut seen)?;
    received(&layout, &index, &mut seen)?;
    // By place: the signals that the journal has whole, and the files of the others.
    let mut places: Vec<(u64, Held)> = Vec::new();
    for stored in waiting(&index, &mut seen.findings) {
        places.push((stored.seq, Held::Journal(Box::new(stored))));
    }
    let late = late(&layout, &index, &mut seen.findings);
    let mut ended = BTreeSet::new();
    for state in [SignalState::Processed, SignalState::Failed] {
        let mut files = Vec::new();
        for folder in layout.finished_folders(state) {
            files.extend(names(&folder)?.into_iter().map(|name| (folder.clone(), name)));
        }
        for (folder, name) in files {
            let Some(stored) = finished(&folder, state, &name, &mut seen) else { continue };
            let id = stored.signal.id().clone();
            match index.live(&id) {
                Some(entry) if !entry.retried => {
                    let what = format!(
                        "is {state} by its file, and waiting by the journal (place {})",
                        entry.seq
                    );
                    let finding = Finding::broken("finished_and_waiting", id.as_str(), what);
                    seen.findings.push(finding);
                }
                None if !late.contains(&id) => {
                    places.push((stored.seq, Held::File(folder.join(&name))));
                    if !ended.insert(id.clone()) {
                        let what = "has two files among the finished signals";
                        seen.findings.push(Finding::broken("two_ends", id.as_str(), what));
                    }
                }
                // The journal knows better, and the next start puts the file in order.
                Some(_) | None => {}
            }
        }
    }
    places.sort_by_key(|(seq, _)| *seq);
    let path = &layout.retired;
    let last = index.last_seq();
    let mut known = retired(path, last).map_err(io_error("cannot read", path))?;
    known.extend(places.iter().map(|(seq, _)| *seq));
    if let Some((seq, _)) = places.last().filter(|(seq, _)| *seq > last) {
        let what = format!(
            "a finished signal has the place {seq}, and the journal gave out only {last}: lines at its end are lost, with the signals that were on them"
        );
        seen.findings.push(Finding::broken(
            "journal_behind",
            layout.journal.display().to_string(),
            what,
        ));
    }
    missing(&index, &known, &mut seen.findings);
    let mut audit = Audit::default();
    for (_, held) in places {
        let stored = match held {
            Held::Journal(stored) => Some(*stored),
            Held::File(path) => text(&path).as_deref().and_then(legacy::read_finished),
        };
        let Some(stored) = stored else { continue };
        seen.count(&stored);
        audit.add(&stored);
    }
    seen.conclude(audit);
    Ok(seen)
}

/// Where a signal is held.
enum Held {
    Journal(Box<StoredSignal>),
    File(PathBuf),
}

/// Reads every line, and sums the records up as a start would.
fn read_journal(layout: &Layout, seen: &mut Verified) -> Result<Index, StoreError> {
    let path = &layout.journal;
    let name = path.display().to_string();
    let mut index = Index::default();
    let mut lines = 0;
    let mut findings = Vec::new();
    let mut began = false;
    let read = scan(path, &mut |at, line| {
        lines += 1;
        let place = format!("{name}, byte {at}");
        match line {
            Scanned::Head(seq) if at == 0 => {
                index = Index::after(seq);
                began = true;
            }
            Scanned::Head(_) => {
                findings.push(Finding::broken("journal_head", place, "a second first line"));
            }
            Scanned::Record(record) => {
                if let Record::Accept { id, digest, text, .. } = &record {
                    match Signal::from_stored(text) {
                        Ok(signal) if signal.digest() == *digest => {}
                        Ok(_) => findings.push(Finding::broken(
                            "digest",
                            id.as_str(),
                            "its content is not the one that was accepted: the digest differs",
                        )),
                        Err(e) => findings.push(Finding::broken(
                            "unreadable",
                            id.as_str(),
                            format!("the journal's copy cannot be read: {e}"),
                        )),
                    }
                }
                if let Err(what) = index.apply(record) {
                    findings.push(Finding::broken("contradiction", place, what));
                }
            }
            Scanned::Damaged(what) => findings.push(Finding::broken("journal_damaged", place, what)),
            Scanned::Torn(bytes) => findings.push(Finding::note(
                "torn_tail",
                place,
                format!(
                    "{bytes} bytes that their writer did not finish, and nobody was told of: the next start cuts them off"
                ),
            )),
        }
    });
    seen.journal_bytes = read.map_err(io_error("cannot read", path))?;
    seen.journal_lines = lines;
    if !began {
        findings.push(Finding::broken("journal_head", name, "the journal has no first line"));
    }
    seen.findings = findings;
    Ok(index)
}

/// Signals whose truth is the journal: unfinished ones, and those whose file is not settled.
fn waiting(index: &Index, findings: &mut Vec<Finding>) -> Vec<StoredSignal> {
    let mut signals = Vec::new();
    let mut take = |id: &OrderUuid, stored: Result<StoredSignal, String>| match stored {
        Ok(stored) => signals.push(stored),
        Err(what) => findings.push(Finding::broken("unreadable", id.as_str(), what)),
    };
    for (id, entry) in index.oldest() {
        take(id, entry.stored());
    }
    for (id, entry, report) in index.unsettled() {
        take(id, entry.stored().map(|s| crate::store::index::finished(s, report)));
    }
    signals
}

/// Finished signals whose truth is still the journal; their files follow it.
fn late(layout: &Layout, index: &Index, findings: &mut Vec<Finding>) -> BTreeSet<OrderUuid> {
    let mut late = BTreeSet::new();
    for (id, entry, report) in index.unsettled() {
        let path = layout.finished(report.state).join(id.as_str());
        let written = entry.stored().map(|stored| legacy::finished_text(&stored, report));
        let what = match text(&path) {
            None => Some("its file is missing"),
            Some(text) if written.is_ok_and(|written| written != text) => Some("its file differs"),
            Some(_) => None,
        };
        if let Some(what) = what {
            let what =
                format!("{what}; the journal has the signal, and the next start writes the file");
            let place = path.display().to_string();
            findings.push(Finding::note("finished_late", place, what));
        }
        late.insert(id.clone());
    }
    late
}

/// The files that wait; the journal says which there must be.
fn received(layout: &Layout, index: &Index, seen: &mut Verified) -> Result<(), StoreError> {
    let folder = &layout.received;
    let mut there = BTreeSet::new();
    for name in names(folder)? {
        let entry = OrderUuid::parse(&name).ok().and_then(|id| index.live(&id));
        let (Some(entry), Some(text)) = (entry, text(&folder.join(&name))) else {
            seen.foreign += 1;
            continue;
        };
        if !entry.stored().is_ok_and(|s| legacy::received_text(&s.signal) == text) {
            let what = "differs from what was accepted, which is what will be sent";
            let place = folder.join(&name).display().to_string();
            seen.findings.push(Finding::note("received_changed", place, what));
        }
        there.insert(name);
    }
    for (id, entry) in index.oldest().filter(|(id, _)| !there.contains(id.as_str())) {
        let what = format!(
            "place {}: its file in received_signals is missing; the journal has the signal, and the \
             next start writes the file",
            entry.seq
        );
        seen.findings.push(Finding::note("received_missing", id.as_str(), what));
    }
    Ok(())
}

/// A finished signal of ours, by its file.
fn finished(
    folder: &Path,
    state: SignalState,
    name: &str,
    seen: &mut Verified,
) -> Option<StoredSignal> {
    if name.ends_with(".reason.txt") {
        return None;
    }
    let aside = folder.join(reason_name(name)).exists();
    let text = text(&folder.join(name)).filter(|_| !aside);
    // A file of ours that was cut short cannot be told from one of the Python tools, but then a
    // place in the order of arrival is missing.
    let Some((stored, stated, changed)) = text.and_then(|text| {
        let stored = legacy::read_finished(&text)?;
        let changed = legacy::changed_fields(&text, &stored);
        Some((stored, legacy::stated_digest(&text), changed))
    }) else {
        seen.foreign += 1;
        return None;
    };
    let mut broken = |code, what: String| {
        let place = folder.join(name).display().to_string();
        seen.findings.push(Finding::broken(code, place, what));
    };
    if stored.signal.id().as_str() != name {
        broken("wrong_name", format!("holds the signal {}", stored.signal.id()));
    }
    if stored.state != state {
        broken("wrong_folder", format!("says that its signal is {}", stored.state));
    }
    if stated != Some(stored.signal.digest()) {
        let what = "its content is not the one that was accepted: the digest differs";
        broken("digest", what.to_owned());
    }
    if !changed.is_empty() {
        let what =
            format!("{} is not what was written: it contradicts the rest", changed.join(", "));
        broken("changed", what);
    }
    Some(stored)
}

/// Every place that was given out must be somewhere.
fn missing(index: &Index, known: &BTreeSet<u64>, findings: &mut Vec<Finding>) {
    let mut gone = (1..=index.last_seq()).filter(|seq| !known.contains(seq));
    let first: Vec<_> = gone.by_ref().take(MOST_PLACES).map(|seq| seq.to_string()).collect();
    if first.is_empty() {
        return;
    }
    let more = gone.count();
    let and = if more > 0 { format!(" and {more} more") } else { String::new() };
    let what = format!(
        "accepted signals with these places are neither waiting nor finished: {}{and}; their files \
         were removed or damaged, look for them in a backup",
        first.join(", ")
    );
    findings.push(Finding::broken("missing", "the order of arrival", what));
}

fn names(folder: &Path) -> Result<Vec<String>, StoreError> {
    let read = || -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    };
    read().map_err(io_error("cannot read", folder))
}

/// The text of a plain file of readable size.
fn text(path: &Path) -> Option<String> {
    use std::io::Read as _;
    let file = open_foreign(path).ok().filter(|f| f.metadata().is_ok_and(|m| m.is_file()))?;
    let mut text = String::new();
    file.take(super::archive::MAX_FINISHED).read_to_string(&mut text).ok()?;
    Some(text)
}
