//! The one place that writes: results to stdout, talk to stderr, colours only where they help.
//!
//! A reader that went away (`ptn-cli signals list | head -1`) is no failure: the first write that
//! finds a closed pipe ends the command with exit code 0. Any other write error is a failure, a
//! full disk behind `> file` for example. What is said is left to the commands.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write};
use std::sync::{Arc, Mutex, PoisonError};

use ptn_core::ops::text::json_safe;
use serde::Serialize;

use crate::failure::Failure;

/// What a piece of text is, for colours. Never the only carrier of a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Done, acknowledged.
    Good,
    /// Under way, worth a look.
    Warn,
    /// Failed, refused.
    Bad,
    /// Less important.
    Dim,
    /// More important.
    Strong,
}

impl Style {
    const fn code(self) -> &'static str {
        match self {
            Self::Good => "32",
            Self::Warn => "33",
            Self::Bad => "31",
            Self::Dim => "2",
            Self::Strong => "1",
        }
    }
}

/// Text in memory that several hands can write: what tests give instead of a terminal.
#[derive(Debug, Clone, Default)]
pub struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    /// What was written so far.
    pub fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where a command writes, and how.
pub struct Output {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    json: bool,
    colour: bool,
    talk_colour: bool,
    live: bool,
    width: Option<usize>,
    talk_width: Option<usize>,
    drawn: usize,
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").field("json", &self.json).finish_non_exhaustive()
    }
}

impl Output {
    /// The process's own stdout and stderr.
    pub fn stdio() -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        let (out, err) = (io::stdout(), io::stderr());
        let plain = set("NO_COLOR") || dumb;
        Self {
            colour: out.is_terminal() && !plain,
            talk_colour: err.is_terminal() && !plain,
            live: out.is_terminal() && !dumb && is_large_enough(&out),
            width: columns(&out),
            talk_width: columns(&err),
            out: Box::new(out),
            err: Box::new(err),
            json: false,
            drawn: 0,
        }
    }

    /// Writes into memory, without colours: stdout and stderr.
    pub fn captured() -> (Self, Captured, Captured) {
        let (out, err) = (Captured::default(), Captured::default());
        let output = Self {
            out: Box::new(out.clone()),
            err: Box::new(err.clone()),
            json: false,
            colour: false,
            talk_colour: false,
            live: false,
            width: None,
            talk_width: None,
            drawn: 0,
        };
        (output, out, err)
    }

    pub(crate) fn set_json(&mut self, json: bool) {
        self.json = json;
    }

    /// Whether results are JSON.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Whether stdout is a terminal on which lines can be drawn again.
    pub fn is_live(&self) -> bool {
        self.live && !self.json
    }

    /// A result line.
    ///
    /// # Errors
    /// When stdout cannot take it; a closed pipe ends the command quietly.
    pub fn line(&mut self, text: impl Display) -> Result<(), Failure> {
        writeln!(self.out, "{text}").and_then(|()| self.out.flush()).map_err(|e| Failure::write(&e))
    }

    /// A text as it is, for completions and manual pages.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn raw(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.out.write_all(bytes).and_then(|()| self.out.flush()).map_err(|e| Failure::write(&e))
    }

    /// One JSON document on one line.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn document(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value)
            .map_err(|e| Failure::failed("internal", format!("no JSON could be written: {e}")))?;
        // Values can be words of others, and JSON leaves some characters that terminals obey.
        self.line(json_safe(&text))
    }

    /// Something to know that is no result. Nobody may be listening, which changes nothing.
    pub fn talk(&mut self, text: impl Display) {
        writeln!(self.err, "{text}").and_then(|()| self.err.flush()).ok();
    }

    /// Text for stdout in a style.
    pub fn paint(&self, style: Style, text: impl Display) -> String {
        paint(self.colour, style, text)
    }

    /// Text for stderr in a style.
    pub fn paint_talk(&self, style: Style, text: impl Display) -> String {
        paint(self.talk_colour, style, text)
    }

    /// A text broken between words where stdout is a terminal; later lines are indented. `column`
    /// is where the text begins.
    pub fn flow(&self, text: &str, column: usize) -> String {
        flow(self.width, text, column)
    }

    /// The same for stderr.
    pub fn flow_talk(&self, text: &str, column: usize) -> String {
        flow(self.talk_width, text, column)
    }

    /// Columns of the terminal that stdout is; `None` elsewhere.
    pub fn width(&self) -> Option<usize> {
        self.width
    }

    /// Draws a block of lines over the block that was drawn before. Only where [`Self::is_live`].
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn redraw(&mut self, lines: &[String]) -> Result<(), Failure> {
        let mut text = String::new();
        if self.drawn > 0 {
            text.push_str(&format!("\x1b[{}A", self.drawn));
        }
        for line in lines {
            text.push_str("\r\x1b[2K");
            text.push_str(line);
            text.push('\n');
        }
        self.drawn = lines.len();
        self.raw(text.as_bytes())
    }

    /// Leaves the drawn block where it is.
    pub fn settle(&mut self) {
        self.drawn = 0;
    }
}

fn columns(terminal: impl std::os::fd::AsFd) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(terminal).ok()?;
    Some(usize::from(size.ws_col)).filter(|w| *w >= 40)
}

fn flow(width: Option<usize>, text: &str, column: usize) -> String {
    let Some(width) = width else { return text.to_owned() };
    let lines = crate::text::wrap(text, width.saturating_sub(column).max(20));
    lines.join(&format!("\n{}", " ".repeat(column)))
}

/// Whether a block of lines fits: a wrapped or scrolled one cannot be drawn over.
fn is_large_enough(out: &io::Stdout) -> bool {
    let size = rustix::termios::tcgetwinsize(out);
    size.is_ok_and(|s| s.ws_col >= 80 && s.ws_row >= 20)
}

fn paint(colour: bool, style: Style, text: impl Display) -> String {
    if colour { format!("\x1b[{}m{text}\x1b[0m", style.code()) } else { text.to_string() }
}
