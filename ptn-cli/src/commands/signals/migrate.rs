//! `signals migrate`: all signals from one store into another, both ways.
//!
//! What moving means is left to `ptn_core::store::transfer`.

use std::sync::Arc;

use clap::Args;
use ptn_core::ops::config::Settings;
use ptn_core::ops::process;
use ptn_core::ops::store::{Opened, Place};
use ptn_core::store::transfer::{Moved, transfer};
use serde_json::json;

use crate::Outcome;
use crate::failure::Failure;
use crate::output::{Output, Style};
use crate::text;

pub(super) const HELP: &str = "\
STORE is fs:DIR, postgres://USER@HOST:PORT/DATABASE, or postgres for the address in DATABASE_URL.

Stop every miner of both stores first; servers may go on, and are refused once the signals are in \
the other store. Order, outcomes and every validator's answer are kept. The old store is marked and \
takes nothing more; it is not emptied. An interrupted move goes on when the command is given again.

Files of the Python tools in processed_signals and failed_signals stay where they are.

  ptn-cli signals migrate --from fs:./mining --to postgres://ptn@db.example/ptn";

/// Arguments of `signals migrate`.
#[derive(Debug, Clone, Args)]
pub(super) struct MigrateArgs {
    /// Where the signals are
    #[arg(long, value_name = "STORE")]
    from: String,
    /// Where they are to go
    #[arg(long, value_name = "STORE")]
    to: String,
}

pub(super) async fn run(args: &MigrateArgs, settings: &Settings, out: &mut Output) -> Outcome {
    let place = |flag: &str, text: &str| {
        Place::parse(text).map_err(|why| Failure::usage(format!("--{flag}: {why}")))
    };
    let (from, to) = (place("from", &args.from)?, place("to", &args.to)?);
    if from.name() == to.name() {
        return Err(Failure::usage("--from and --to are the same store"));
    }
    if let Some(dir) = from.dir()
        && !dir.join("received_signals").is_dir()
    {
        let text = format!("{} is no data directory: received_signals is not there", dir.display());
        return Err(Failure::new(process::USAGE, "no_data_dir", text));
    }
    let rules = Arc::new(settings.rules()?);
    let (old, new) = (from.open_to_move(&rules).await?, to.open_to_move(&rules).await?);
    let moved = copy(&old, &new, out).await;
    // Whoever delivers next need not wait.
    old.close().await;
    new.close().await;
    let moved = moved?;
    if out.is_json() {
        out.document(&json!({"from": old.name(), "to": new.name(), "moved": moved}))?;
        return Ok(process::OK);
    }
    let count = |n: u64| text::count(usize::try_from(n).unwrap_or(usize::MAX), "signal");
    let (written, pending) = (count(moved.written), moved.pending);
    let line = match (moved.written, moved.there) {
        (0, 0) => format!("nothing left to move from {} to {}", old.name(), new.name()),
        _ => format!(
            "moved {written} from {} to {} ({pending} not finished); {} had been there already",
            old.name(),
            new.name(),
            moved.there
        ),
    };
    let line = out.paint(Style::Good, line);
    out.line(line)?;
    out.talk(format!("deliver them with: ptn-miner --store {}", flag_of(&new)));
    Ok(process::OK)
}

fn flag_of(store: &Opened) -> String {
    match store {
        Opened::Fs(_) => format!("fs --data-dir {}", store.name()),
        Opened::Pg(_) => store.name(),
    }
}

async fn copy(from: &Opened, to: &Opened, out: &mut Output) -> Result<Moved, Failure> {
    let names = (from.name(), to.name());
    let mut said = std::time::Instant::now();
    let mut progress = |done, all| {
        if said.elapsed() > std::time::Duration::from_secs(2) {
            said = std::time::Instant::now();
            out.talk(format!("{done} of {all}"));
        }
    };
    let moving =
        transfer(from.as_transfer(), to.as_transfer(), (&names.0, &names.1), &mut progress);
    Ok(moving.await?)
}
