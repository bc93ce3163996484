//! Words of others on their way to a terminal or a log: the last place where they can be made safe.
//!
//! Where a word is told apart from our own text (an error, a table's cell) it is cleaned there; this is
//! for whole lines and documents.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};

/// Whether a terminal obeys it instead of showing it, or a log takes it for the end of a line.
pub fn is_obeyed(c: char) -> bool {
    crate::text::is_obeyed(c)
}

/// A JSON document in which every such character is written as an escape. Line ends between its
/// members stay.
pub fn json_safe(json: &str) -> Cow<'_, str> {
    written_out(json, &|c| c == '\n', |out, unit| write!(out, "\\u{unit:04x}"))
}

/// `keep` says what stays as it is; `escape` writes a UTF-16 unit of the rest.
fn written_out<'a>(
    text: &'a str,
    keep: &dyn Fn(char) -> bool,
    escape: impl Fn(&mut String, u16) -> std::fmt::Result,
) -> Cow<'a, str> {
    let bad = |c: char| is_obeyed(c) && !keep(c);
    if !text.chars().any(bad) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if bad(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                escape(&mut out, *unit).ok();
            }
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// A writer that gets one event of the log per call, and makes one line of it.
#[derive(Debug)]
pub struct LogLines<W> {
    inner: W,
    colours: bool,
}

impl<W: Write> LogLines<W> {
    /// Lines for this writer. With `colours` the formatter's own escape sequences pass; it has
    /// written out those of others by then.
    pub const fn new(inner: W, colours: bool) -> Self {
        Self { inner, colours }
    }
}

impl<W: Write> Write for LogLines<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let (line, end) = match text.strip_suffix('\n') {
            Some(line) => (line, "\n"),
            None => (&*text, ""),
        };
        let keep = |c: char| self.colours && c == '\u{1b}';
        let safe = written_out(line, &keep, |out, unit| write!(out, "\\u{unit:04x}"));
        // One call, so that lines of several processes do not mix. A log that nobody takes (a closed
        // pipe, a full disk) is lost; the program goes on.
        self.inner.write_all(format!("{safe}{end}").as_bytes()).ok();
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush().ok();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_stays_what_it_was_and_harmless() {
        let evil = serde_json::json!({"a": "\u{9b}31m\u{202e}\u{7f}é🚀\n"});
        for text in [evil.to_string(), serde_json::to_string_pretty(&evil).unwrap()] {
            let safe = json_safe(&text);
            assert!(safe.chars().all(|c| c == '\n' || !is_obeyed(c)), "{safe}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), evil);
        }
        assert!(matches!(json_safe("{\n}"), Cow::Borrowed(_)));
    }

    #[test]
    fn an_event_is_one_line() {
        let line = |colours, text: &str| {
            let mut out = Vec::new();
            LogLines::new(&mut out, colours).write_all(text.as_bytes()).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(line(false, "INFO a\r\nINFO b\n"), "INFO a\\u000d\\u000aINFO b\n");
        assert_eq!(
            line(true, "\u{1b}[32mINFO\u{1b}[0m a\nb\n"),
            "\u{1b}[32mINFO\u{1b}[0m a\\u000ab\n"
        );
        assert_eq!(line(false, "\u{1b}[32m\n"), "\\u001b[32m\n");
    }
}
