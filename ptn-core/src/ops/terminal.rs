//! Questions on a terminal: asked on stderr, answered on stdin, hidden when the answer is a secret.
//!
//! The terminal is always given back as it was, also after Ctrl-C at a hidden question.

use std::io::{self, IsTerminal as _, Write as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::{Zeroize as _, Zeroizing};

/// Somebody who can be asked.
#[derive(Debug)]
pub struct Terminal(());

impl Terminal {
    /// `None` when stdin or stderr is no terminal.
    pub fn open() -> Option<Self> {
        (io::stdin().is_terminal() && io::stderr().is_terminal()).then_some(Self(()))
    }

    /// Asks, and returns the line without its end.
    ///
    /// # Errors
    /// When the input ends, or Ctrl-C was pressed.
    pub fn ask(&self, question: &str) -> io::Result<Zeroizing<String>> {
        say(question)?;
        read_line(false)
    }

    /// Asks for a secret: nothing of the answer is shown.
    ///
    /// # Errors
    /// When the input ends, or Ctrl-C was pressed.
    pub fn ask_hidden(&self, question: &str) -> io::Result<Zeroizing<String>> {
        let stdin = io::stdin();
        let before = tcgetattr(&stdin)?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        tcsetattr(&stdin, OptionalActions::Drain, &quiet)?;
        let _restore = Restore(before);
        say(question)?;
        let answer = read_line(true);
        say("\n")?;
        answer
    }

    /// Asks for yes or no; anything but a yes is a no.
    ///
    /// # Errors
    /// When the input ends, or Ctrl-C was pressed.
    pub fn confirm(&self, question: &str) -> io::Result<bool> {
        let answer = self.ask(&format!("{question} [y/N] "))?;
        Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }
}

/// Puts the terminal back.
struct Restore(Termios);

impl Drop for Restore {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing any more.
        tcsetattr(io::stdin(), OptionalActions::Drain, &self.0).ok();
    }
}

fn say(text: &str) -> io::Result<()> {
    let mut err = io::stderr();
    err.write_all(text.as_bytes())?;
    err.flush()
}

/// Reads byte by byte past any buffer, so that hidden and open questions can follow each other.
/// `raw` when the terminal does not edit the line by itself.
fn read_line(raw: bool) -> io::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(Vec::with_capacity(1024));
    loop {
        let mut byte = [0; 1];
        let count = match rustix::io::read(io::stdin(), &mut byte) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        match byte[0] {
            _ if count == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            b'\n' | b'\r' => break,
            3 if raw => return Err(io::ErrorKind::Interrupted.into()),
            4 if raw && line.is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
            8 | 127 if raw => {
                // The bytes of one character.
                while line.pop().is_some_and(|b| b & 0xc0 == 0x80) {}
            }
            21 if raw => line.zeroize(),
            b => line.push(b),
        }
    }
    let text = std::str::from_utf8(&line);
    text.map(|t| Zeroizing::new(t.to_owned())).map_err(|_| io::Error::other("it is not UTF-8"))
}
