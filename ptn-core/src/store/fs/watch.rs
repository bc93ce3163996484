//! Notices what others do in a data directory: inotify as a hint, a slow scan as the safety net.
//!
//! Without inotify (some network file systems) the journal's length is looked at every 25 ms. A
//! scan of the folder never takes more than a twentieth of the time, whatever the folder's size.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::adopt::Adopter;
use super::journal::{Identity, identity};
use super::shared::Shared;

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Hint {
    /// A file in `received_signals/` may be new.
    Name(OsString),
    /// Anything may have happened.
    Rescan,
    /// End.
    Stop,
}

const SCAN: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(25);

#[derive(Debug)]
pub(super) struct Watch {
    shared: Arc<Shared>,
    /// Only the owner adopts files.
    adopter: Option<Adopter>,
    inotify: Option<RecommendedWatcher>,
    folders: Vec<(std::path::PathBuf, Identity)>,
}

impl Watch {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let layout = &shared.spool.layout;
        let folders = layout
            .folders()
            .into_iter()
            .filter_map(|path| Some((path.to_owned(), identity(path).ok()?)))
            .collect();
        let inotify = if shared.options.inotify { subscribe(&shared) } else { None };
        // A mover takes up files when it looks, and at no other time.
        let adopts = shared.owner && !shared.options.even_if_moved;
        let adopter = adopts.then(|| Adopter::new(Arc::clone(&shared)));
        Self { shared, adopter, inotify, folders }
    }

    pub(super) fn run(mut self, queue: &Receiver<Hint>) {
        let mut names = BTreeSet::new();
        let mut next_scan = Instant::now();
        let mut first = true;
        loop {
            let mut wait = next_scan.saturating_duration_since(Instant::now());
            if self.inotify.is_none() {
                wait = wait.min(POLL);
            }
            if let Some(adopter) = &self.adopter
                && let Some(soon) = adopter.next_look()
            {
                wait = wait.min(soon);
            }
            let mut rescan = false;
            let mut hint = match queue.recv_timeout(wait) {
                Ok(hint) => Some(hint),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            while let Some(h) = hint {
                match h {
                    Hint::Name(name) => {
                        names.insert(name);
                    }
                    Hint::Rescan => rescan = true,
                    Hint::Stop => return,
                }
                hint = queue.try_recv().ok();
            }
            self.shared.hint_journal();
            if rescan || Instant::now() >= next_scan {
                let began = Instant::now();
                self.check_folders();
                if let Some(adopter) = &mut self.adopter {
                    adopter.scan(first || rescan, &mut names);
                    first = false;
                }
                next_scan = Instant::now() + SCAN.max(began.elapsed() * 20);
            }
            if let Some(adopter) = &mut self.adopter {
                adopter.look_at(std::mem::take(&mut names));
            }
        }
    }

    /// A folder that was removed or replaced must not be filled, nor silently made again: what is
    /// below a mount that went away is not the spool.
    fn check_folders(&self) {
        let gone = self.folders.iter().find(|(path, id)| identity(path).ok() != Some(*id));
        self.shared.set_missing(gone.map(|(path, _)| path.clone()));
    }
}

fn subscribe(shared: &Arc<Shared>) -> Option<RecommendedWatcher> {
    let layout = shared.spool.layout.clone();
    let weak = Arc::downgrade(shared);
    let received = layout.received.clone();
    let handler = move |event: notify::Result<notify::Event>| {
        let Some(shared) = weak.upgrade() else { return };
        match event {
            Ok(event) => told(&shared, &received, &event),
            Err(_) => shared.hint(Hint::Rescan),
        }
    };
    let watcher = RecommendedWatcher::new(handler, notify::Config::default()).and_then(|mut w| {
        w.watch(&layout.journal_dir, RecursiveMode::NonRecursive)?;
        if shared.owner {
            w.watch(&layout.received, RecursiveMode::NonRecursive)?;
        }
        Ok(w)
    });
    match watcher {
        Ok(watcher) => Some(watcher),
        Err(e) => {
            tracing::warn!(error = %e, "no notification of changed files; polling instead");
            None
        }
    }
}

fn told(shared: &Shared, received: &Path, event: &notify::Event) {
    if event.need_rescan() {
        shared.hint(Hint::Rescan);
        return;
    }
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Any
        | EventKind::Other => {}
        EventKind::Access(_) | EventKind::Remove(_) => return,
    }
    for path in &event.paths {
        if path.parent() == Some(received) {
            if let Some(name) = path.file_name() {
                shared.hint(Hint::Name(name.to_owned()));
            }
        } else {
            // Most often it was ourselves.
            shared.hint_journal();
        }
    }
}
