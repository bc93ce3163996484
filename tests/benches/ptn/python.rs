//! The Python side of the comparisons, where its environment was made; nothing is guessed otherwise.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/python")
}

/// Whether `setup.sh` was run.
pub(crate) fn there() -> bool {
    folder().join(".venv/ready").exists()
}

fn command(script: &str) -> Command {
    let mut command = Command::new(folder().join(".venv/bin/python"));
    command.arg(folder().join(script)).stdin(Stdio::null());
    command
}

/// The Flask server. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Flask {
    child: Child,
    pub(crate) address: String,
}

impl Flask {
    pub(crate) fn start(files: &Path) -> Self {
        let port = free_port();
        let mut child = command("flask_receive.py")
            .args([&port.to_string(), files.to_str().unwrap(), "test-key"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "the Flask server does not start");
        let address = format!("127.0.0.1:{port}");
        let listens = || std::net::TcpStream::connect(&address).is_ok();
        while !listens() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        Self { child, address }
    }
}

impl Drop for Flask {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Wall time per signal and processor time per delivery of the Python client, in microseconds.
pub(crate) fn client(ports: &[u16], rounds: usize) -> (f64, f64) {
    let output = command("btauth_client.py")
        .arg(rounds.to_string())
        .args(ports.iter().map(u16::to_string))
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "the Python client failed");
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    let number = |key: &str| line[key].as_f64().unwrap();
    (number("wall_us"), number("cpu_us_per_delivery"))
}
