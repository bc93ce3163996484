//! What the guard says: modes, severities, concerns, and the verdict as answers carry it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::signal::OrderUuid;
use crate::store::UnixMs;

/// What the guard may do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardMode {
    /// Nothing is judged.
    Off,
    /// Signals are accepted whatever the verdict, and the verdict is shown.
    #[default]
    Warn,
    /// What the network would refuse is not accepted.
    Refuse,
}

impl GuardMode {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Warn => "warn",
            Self::Refuse => "refuse",
        }
    }

    /// Reads the word.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Off, Self::Warn, Self::Refuse].into_iter().find(|mode| mode.as_str() == text)
    }
}

/// How grave a concern is, and in one word how grave the worst of a verdict is.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nothing was found.
    #[default]
    Clear,
    /// It will be sent, but later: the network's pace is kept here.
    Delayed,
    /// It will be sent; look at it.
    Alert,
    /// The network would refuse it.
    Refused,
}

impl Severity {
    /// The gravest last.
    pub const ALL: [Self; 4] = [Self::Clear, Self::Delayed, Self::Alert, Self::Refused];

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Clear => "clear",
            Self::Delayed => "delayed",
            Self::Alert => "alert",
            Self::Refused => "refused",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing that speaks against an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concern {
    /// How grave.
    pub severity: Severity,
    /// Stable code; for a refusal the one that deliveries carry for the network's answer.
    pub code: String,
    /// For a refusal the network's own text.
    pub text: String,
    /// What to do next.
    pub action: String,
    /// How long it will wait, in ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<UnixMs>,
}

/// A check that could not be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unjudged {
    /// Which: `history`, `size`, `brackets`, `drawdown`, `guard`.
    pub check: String,
    /// Why, and what would help.
    pub why: String,
}

/// How much loss is left before a limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Distance {
    /// `total`, `daily`, `intraday`, `eod` or `static`.
    pub rule: String,
    /// The limit, in percent of loss.
    pub limit_pct: f64,
    /// Percent points left; negative when the limit is broken.
    pub points_left: f64,
    /// Whether it rests on guesses: a price that is missing or old, a resting order that may have
    /// been filled.
    pub estimated: bool,
}

/// What the guard thinks of a signal.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GuardVerdict {
    /// Whether it closes, reduces or cancels, or may do so as far as is known. Such a signal is
    /// never blocked.
    pub closes: bool,
    /// What speaks against it, the gravest first.
    pub concerns: Vec<Concern>,
    /// What could not be judged.
    pub unjudged: Vec<Unjudged>,
    /// The account as it stands, without this signal.
    pub drawdown: Vec<Distance>,
}

impl GuardVerdict {
    /// A verdict of a guard that could not do its work. It blocks nothing.
    pub fn failed(why: &str) -> Self {
        let unjudged = Unjudged { check: "guard".to_owned(), why: why.to_owned() };
        Self { unjudged: vec![unjudged], ..Self::default() }
    }

    /// The gravest concern's severity.
    pub fn severity(&self) -> Severity {
        self.concerns.iter().map(|concern| concern.severity).max().unwrap_or_default()
    }

    /// Whether the network would refuse it.
    pub fn would_be_refused(&self) -> bool {
        self.severity() == Severity::Refused
    }

    /// Whether it is not to be accepted in this mode.
    pub fn blocks(&self, mode: GuardMode) -> bool {
        mode == GuardMode::Refuse && self.would_be_refused() && !self.closes
    }

    /// The first refusal.
    pub fn refusal(&self) -> Option<&Concern> {
        self.concerns.iter().find(|concern| concern.severity == Severity::Refused)
    }

    /// The verdict on a signal that is accepted all the same. What is to be done about it is another
    /// thing then: who sends it once more may trade twice.
    #[must_use]
    pub fn of_accepted(mut self, id: &OrderUuid) -> Self {
        for concern in &mut self.concerns {
            let about_the_account =
                concern.code.starts_with("drawdown_") || concern.code == "no_position";
            let may = match concern.severity {
                Severity::Clear | Severity::Delayed => continue,
                Severity::Alert if about_the_account => continue,
                Severity::Alert => "",
                Severity::Refused => ", and validators may refuse it",
            };
            concern.action = format!(
                "it is accepted all the same{may}; do not send it again before you have looked: ptn-cli signals show {id}"
            );
        }
        self
    }

    /// Everything that speaks against it, in one line: texts and what to do next.
    pub fn words(&self) -> String {
        let one = |concern: &Concern| {
            format!("{}; {}", concern.text.trim_end_matches('.'), concern.action)
        };
        self.concerns.iter().map(one).collect::<Vec<_>>().join(" | ")
    }

    /// The verdict as answers carry it.
    pub fn view(&self, mode: GuardMode) -> GuardView<'_> {
        GuardView { verdict: self.severity(), mode, blocked: self.blocks(mode), details: self }
    }
}

/// A verdict as answers carry it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GuardView<'a> {
    /// In one word.
    pub verdict: Severity,
    /// What the guard may do.
    pub mode: GuardMode,
    /// Whether the signal was not accepted because of it.
    pub blocked: bool,
    /// The rest.
    #[serde(flatten)]
    pub details: &'a GuardVerdict,
}
