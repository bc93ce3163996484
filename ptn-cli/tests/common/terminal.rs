//! A program on a pseudo terminal: what it asks is awaited, what is typed is sent.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// How long a question may take to come; keys are derived in between.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running program whose stdin and stderr are a terminal.
pub struct OnTerminal {
    child: Child,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    seen: String,
    asked: usize,
}

impl OnTerminal {
    /// Starts it; stdout is not the terminal.
    pub fn start(dir: &Path, args: &[&str]) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
        let theirs = File::options().read(true).write(true).open(name).unwrap();
        let child = super::command(dir)
            .args(args)
            .env("NO_COLOR", "1")
            .stdin(theirs.try_clone().unwrap())
            .stderr(theirs)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let keyboard = File::from(ours);
        let mut eyes = keyboard.try_clone().unwrap();
        let (show, screen) = channel();
        // Ends with EIO when the program has ended, as it has the only open end of its side.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = eyes.read(&mut buffer) {
                if show.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { child, keyboard, screen, seen: String::new(), asked: 0 }
    }

    /// Waits for a text that was not seen before, and returns everything up to it.
    pub fn expect(&mut self, text: &str) -> String {
        loop {
            if let Some(at) = self.seen[self.asked..].find(text) {
                let end = self.asked + at + text.len();
                let said = self.seen[self.asked..end].to_owned();
                self.asked = end;
                return said;
            }
            match self.screen.recv_timeout(PATIENCE) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(e) => panic!("{text:?} did not come ({e}): {}", self.seen),
            }
        }
    }

    /// Types a line.
    pub fn type_line(&mut self, line: &str) {
        self.keyboard.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Types one key.
    pub fn press(&mut self, key: u8) {
        self.keyboard.write_all(&[key]).unwrap();
    }

    /// Waits for the end: exit code, stdout, and the whole screen.
    pub fn end(mut self) -> super::Said {
        let mut out = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        while let Ok(bytes) = self.screen.recv_timeout(PATIENCE) {
            self.seen.push_str(&String::from_utf8_lossy(&bytes));
        }
        super::Said { code, out, err: self.seen }
    }
}

/// What a command writes to a terminal of a size (columns, rows) as its stdout.
pub fn stdout(dir: &Path, args: &[&str], (ws_col, ws_row): (u16, u16)) -> String {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let size = rustix::termios::Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&ours, size).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
    let theirs = File::options().read(true).write(true).open(name).unwrap();
    let mut child =
        super::command(dir).args(args).stdout(theirs).stderr(Stdio::null()).spawn().unwrap();
    // The child has the only open end of its side, so reading ends with it: with EIO.
    let mut text = Vec::new();
    File::from(ours).read_to_end(&mut text).ok();
    assert!(child.wait().unwrap().success());
    String::from_utf8(text).unwrap()
}
