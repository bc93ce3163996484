//! `doctor`: looks at everything that a miner needs, and says what to do about what is wrong.
//!
//! Nothing is changed and nothing is sent: reading, connecting and looking only. A missing optional
//! part is a note, not a failure. The single looks are in `checks`.

mod chain;
mod checks;
mod running;

use clap::{ArgMatches, Args};
use ptn_core::ops::config::Settings;
use ptn_core::ops::process;
use serde::Serialize;
use serde_json::json;

use crate::Outcome;
use crate::cli::ALL_SETTINGS;
use crate::output::{Output, Style};
use crate::text;

/// Arguments of `doctor`.
#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {}

/// How a look ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// Fine.
    Ok,
    /// Works, but look at it.
    Warn,
    /// Does not work.
    Fail,
}

/// One look.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Finding {
    level: Level,
    check: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// What was found so far.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, level: Level, check: &'static str, message: String, next: Option<String>) {
        self.0.push(Finding { level, check, message, next });
    }

    pub(crate) fn ok(&mut self, check: &'static str, message: impl Into<String>) {
        self.add(Level::Ok, check, message.into(), None);
    }

    pub(crate) fn warn(
        &mut self,
        check: &'static str,
        message: impl Into<String>,
        next: impl Into<String>,
    ) {
        self.add(Level::Warn, check, message.into(), Some(next.into()));
    }

    pub(crate) fn fail(
        &mut self,
        check: &'static str,
        message: impl Into<String>,
        next: impl Into<String>,
    ) {
        self.add(Level::Fail, check, message.into(), Some(next.into()));
    }
}

/// Runs the command; exit code 1 when something does not work.
///
/// # Errors
/// When the result cannot be written.
pub fn run(matches: &ArgMatches, out: &mut Output) -> Outcome {
    let mut findings = Findings::default();
    match Settings::resolve(ALL_SETTINGS, matches) {
        Ok(settings) => {
            return crate::block_on(async {
                checks::all(&settings, matches, &mut findings).await;
                report(&findings, out)
            });
        }
        // Without settings there is nothing else to look at.
        Err(e) => {
            findings.fail("config", e.to_string(), "correct the setting, then run this again")
        }
    }
    report(&findings, out)
}

fn report(findings: &Findings, out: &mut Output) -> Outcome {
    let count = |level: Level| findings.0.iter().filter(|f| f.level == level).count();
    let (warnings, failures) = (count(Level::Warn), count(Level::Fail));
    let exit = if failures > 0 { process::FAILED } else { process::OK };
    if out.is_json() {
        out.document(&json!({
            "ok": failures == 0,
            "warnings": warnings,
            "failures": failures,
            "checks": findings.0,
        }))?;
        return Ok(exit);
    }
    for f in &findings.0 {
        let (style, word) = match f.level {
            Level::Ok => (Style::Good, "ok  "),
            Level::Warn => (Style::Warn, "warn"),
            Level::Fail => (Style::Bad, "FAIL"),
        };
        out.line(format!(
            "{}  {}  {}",
            out.paint(style, word),
            text::pad(f.check, 10),
            out.flow(&f.message, 18)
        ))?;
        if let Some(next) = &f.next {
            let arrow = out.paint(Style::Strong, "->");
            let next = out.flow(next, 21);
            out.line(format!("                  {arrow} {next}"))?;
        }
    }
    let summary = match (failures, warnings) {
        (0, 0) => "everything is fine".to_owned(),
        (0, n) => format!("ready, with {}", text::count(n, "warning")),
        (f, n) => format!("{}, {}", text::count(f, "failure"), text::count(n, "warning")),
    };
    out.talk(summary);
    Ok(exit)
}
