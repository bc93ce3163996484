//! The risk guard in commands: judging beside a data directory, and showing verdicts.
//!
//! Here the guard only reads: what it knows comes from the miner's file and from the store. What a
//! server judges is asked there.

use std::sync::Arc;

use ptn_core::deliver::inform_guard;
use ptn_core::guard::{Guard, GuardMode, GuardVerdict, Severity};
use ptn_core::ops::config::Settings;
use ptn_core::ops::guard::{GuardConfig, file};
use ptn_core::ops::store::Opened;
use ptn_core::record::SignalState;
use ptn_core::rules::Rules;
use ptn_core::signal::{OrderUuid, Signal};
use ptn_core::store::{Filter, SignalStore as _};

use crate::failure::Failure;
use crate::output::{Output, Style};
use crate::text;

/// From so many finished signals on, a history that no miner has summed up is read for `--check`
/// only.
const LONG_HISTORY: usize = 5000;

/// A verdict and what the guard may do with it.
#[derive(Debug, Clone)]
pub(crate) struct Judged {
    pub(crate) verdict: GuardVerdict,
    pub(crate) mode: GuardMode,
}

impl Judged {
    /// As answers of the server carry it.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::to_value(self.verdict.view(self.mode)).unwrap_or_default()
    }

    /// The same for a signal that is accepted all the same.
    pub(crate) fn of_accepted(self, id: &OrderUuid) -> Self {
        Self { verdict: self.verdict.of_accepted(id), ..self }
    }

    /// Reads what a server answered; nothing when its guard is off.
    pub(crate) fn of_server(answer: &serde_json::Value) -> Option<Self> {
        let guard = answer.get("guard").filter(|guard| !guard.is_null())?;
        let mode = guard.get("mode").and_then(serde_json::Value::as_str);
        Some(Self {
            verdict: serde_json::from_value(guard.clone()).ok()?,
            mode: mode.and_then(GuardMode::parse).unwrap_or_default(),
        })
    }
}

/// A guard that knows what a data directory holds; nothing when it is off.
///
/// # Errors
/// When a setting is wrong.
pub(crate) async fn guard(
    settings: &Settings,
    rules: &Arc<Rules>,
    store: Option<&Opened>,
) -> Result<Option<Guard>, Failure> {
    let config = GuardConfig::from_settings(settings, rules)?;
    let Some(on) = config.build(&settings.data_dir())? else { return Ok(None) };
    match store {
        Some(store) => inform_guard(store.signals().as_ref(), &on.guard).await,
        // There is nothing that it could be told.
        None => on.guard.ready(),
    }
    Ok(Some(on.guard))
}

/// The verdict on a signal that is about to be put into a spool, where that costs little.
///
/// # Errors
/// When a setting is wrong.
pub(crate) async fn beside_spool(
    settings: &Settings,
    rules: &Arc<Rules>,
    store: &Opened,
    signal: &Signal,
) -> Result<Option<Judged>, Failure> {
    if settings.get("guard.mode").is_none() || is_long(settings, store).await {
        return Ok(None);
    }
    if matches!(store.signals().get(signal.id()).await, Ok(Some(_))) {
        return Ok(None);
    }
    let Some(guard) = guard(settings, rules, Some(store)).await? else { return Ok(None) };
    Ok(Some(Judged { verdict: guard.check(signal, text::now()), mode: guard.mode() }))
}

async fn is_long(settings: &Settings, store: &Opened) -> bool {
    if file(&settings.data_dir()).exists() {
        return false;
    }
    let finished = match store {
        Opened::Fs(store) => {
            std::fs::read_dir(store.dir().join("processed_signals")).map_or(0, Iterator::count)
        }
        Opened::Pg(store) => {
            let states = vec![SignalState::Processed];
            let filter = Filter { states, limit: LONG_HISTORY + 1, ..Filter::default() };
            store.list(&filter).await.map_or(0, |list| list.len())
        }
    };
    finished > LONG_HISTORY
}

const fn style(severity: Severity) -> Style {
    match severity {
        Severity::Clear => Style::Good,
        Severity::Delayed | Severity::Alert => Style::Warn,
        Severity::Refused => Style::Bad,
    }
}

/// What speaks against a signal, beside a result; nothing when it is clear.
pub(crate) fn talk(judged: &Judged, out: &mut Output) {
    let blocked = judged.verdict.blocks(judged.mode);
    for concern in &judged.verdict.concerns {
        let word = match concern.severity {
            // Said of a signal that was accepted, "refused" would invite to send it again.
            Severity::Refused if !blocked => "may be refused",
            severity => severity.as_str(),
        };
        let head = out.paint_talk(style(concern.severity), format!("guard: {word}"));
        let words = format!("{}: {}", concern.code, text::harmless(&concern.text));
        out.talk(format!("{head}  {}", out.flow_talk(&words, 7)));
        let next = out.paint_talk(Style::Strong, " next:");
        out.talk(format!("{next} {}", out.flow_talk(&text::harmless(&concern.action), 7)));
    }
}

/// The whole verdict, as the result of a command.
///
/// # Errors
/// When stdout cannot be written.
pub(crate) fn print(judged: &Judged, out: &mut Output) -> Result<(), Failure> {
    let verdict = &judged.verdict;
    let severity = verdict.severity();
    let word = out.paint(style(severity), format!("{:<8}", severity.as_str()));
    let note = match (verdict.would_be_refused(), verdict.blocks(judged.mode)) {
        (true, true) => "it would not be accepted (guard: refuse)",
        (true, false) if verdict.closes => "it would be sent nevertheless, because it may close",
        (true, false) => "it would be sent nevertheless (guard: warn)",
        _ => "nothing keeps it from being sent",
    };
    out.line(format!("{word}  {note}"))?;
    for concern in &verdict.concerns {
        let words = format!("{} {}: {}", concern.severity, concern.code, concern.text);
        out.line(format!("          {}", out.flow(&text::harmless(&words), 10)))?;
        let next = format!("next: {}", concern.action);
        out.line(format!("          {}", out.flow(&text::harmless(&next), 10)))?;
    }
    for distance in &verdict.drawdown {
        let about = if distance.estimated { " (estimated)" } else { "" };
        out.line(format!(
            "          {:.2} percent points before the {} drawdown limit of {:.1} %{about}",
            distance.points_left, distance.rule, distance.limit_pct
        ))?;
    }
    for unjudged in &verdict.unjudged {
        let words = format!("not judged: {}: {}", unjudged.check, unjudged.why);
        out.line(format!("          {}", out.flow(&text::harmless(&words), 10)))?;
    }
    Ok(())
}
