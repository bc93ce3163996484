//! The real binaries as child processes: started with JSON logs, awaited by what they log.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use ptn_core::directory::Validator;
use ptn_core::sign::Hotkey;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A folder with everything a miner needs: a key, a list of validators, an API key.
#[derive(Debug)]
pub struct Home {
    dir: tempfile::TempDir,
    /// The miner's hotkey.
    pub hotkey: String,
}

impl Home {
    /// A fresh one, for these validators.
    pub fn new(validators: &[Validator]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = Hotkey::generate();
        let home = Self { hotkey: key.address().to_owned(), dir };
        let keys = home.path("wallets/miner/hotkeys");
        std::fs::create_dir_all(&keys).unwrap();
        write_private(&keys.join("default"), &key.to_keyfile_json());
        home.make_data();
        home.set_validators(validators);
        home
    }

    /// Another one with the same hotkey, for a copy of the other's spool.
    pub fn with_wallet_of(other: &Self) -> Self {
        let home = Self { hotkey: other.hotkey.clone(), dir: tempfile::tempdir().unwrap() };
        let name = "wallets/miner/hotkeys";
        std::fs::create_dir_all(home.path(name)).unwrap();
        let key = std::fs::read_to_string(other.path(name).join("default")).unwrap();
        write_private(&home.path(name).join("default"), &key);
        home.make_data();
        home
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.path("mining")
    }

    /// Makes the data directory with the API key in it, also where something was mounted there.
    pub fn make_data(&self) {
        std::fs::create_dir_all(self.data()).unwrap();
        write_private(&self.data().join("miner_secrets.json"), r#"{"api_key":"test-key"}"#);
    }

    /// Replaces the list of validators.
    pub fn set_validators(&self, validators: &[Validator]) {
        let block = |v: &Validator| {
            format!(
                "[[validator]]\nhotkey = \"{}\"\nip = \"{}\"\nport = {}\nv_trust = {}\nstake = {}\nwire = \"{}\"\n\n",
                v.hotkey,
                v.ip,
                v.port,
                v.v_trust,
                v.stake,
                v.wire.as_str()
            )
        };
        let text: String = validators.iter().map(block).collect();
        std::fs::write(self.path("validators.toml"), text).unwrap();
    }

    /// Starts a miner with the list of validators; `extra` are further flags.
    pub fn miner(&self, program: &str, extra: &[&str]) -> Daemon {
        let validators = self.path("validators.toml");
        self.start(program, ("--validators", validators.to_str().unwrap()), extra)
    }

    /// Starts a miner that finds its validators by asking these nodes.
    pub fn chain_miner(&self, program: &str, nodes: &str, extra: &[&str]) -> Daemon {
        self.start(program, ("--subtensor.chain_endpoint", nodes), extra)
    }

    fn start(&self, program: &str, source: (&str, &str), extra: &[&str]) -> Daemon {
        let args = self.miner_args(source, extra);
        Daemon::start(program, &args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// The flags of a miner with this source of validators; `extra` are further ones.
    pub fn miner_args(&self, source: (&str, &str), extra: &[&str]) -> Vec<String> {
        let text = |p: PathBuf| p.to_str().unwrap().to_owned();
        let (data, wallets) = (text(self.data()), text(self.path("wallets")));
        let defaults = [
            source,
            ("--data-dir", &data),
            ("--wallet.path", &wallets),
            ("--wallet.name", "miner"),
            ("--subtensor.network", "local"),
            ("--axon.port", "0"),
            ("--delivery.policy", "all"),
        ];
        let mut args = Vec::new();
        for (flag, value) in defaults.iter().filter(|(flag, _)| !extra.contains(flag)) {
            args.extend([*flag, *value]);
        }
        args.extend(extra);
        args.into_iter().map(str::to_owned).collect()
    }

    /// Makes another hotkey in the wallet; returns its address.
    pub fn add_hotkey(&self, name: &str) -> String {
        let key = Hotkey::generate();
        self.write_hotkey(name, &key.to_keyfile_json());
        key.address().to_owned()
    }

    /// Writes a hotkey file, for the owner only.
    pub fn write_hotkey(&self, name: &str, text: &str) {
        write_private(&self.path("wallets/miner/hotkeys").join(name), text);
    }

    /// Starts a server on any port.
    pub fn server(&self, program: &str, extra: &[&str]) -> Daemon {
        let mut args = vec!["--listen", "127.0.0.1:0"];
        args.extend(extra);
        self.server_as(program, &args)
    }

    /// Starts a server with these flags.
    pub fn server_as(&self, program: &str, flags: &[&str]) -> Daemon {
        let data = self.data().to_str().unwrap().to_owned();
        let mut args = vec!["--data-dir", &data];
        args.extend(flags);
        Daemon::start(program, &args)
    }

    /// The names in one of the spool's folders.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let list = std::fs::read_dir(self.data().join(folder)).unwrap();
        let mut names: Vec<String> =
            list.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Waits until a folder of the spool holds `count` files.
    pub async fn wait_for(&self, folder: &str, count: usize) -> Vec<String> {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let names = self.names(folder);
            if names.len() == count {
                return names;
            }
            assert!(
                tokio::time::Instant::now() < end,
                "{folder} holds {} files instead of {count}",
                names.len()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn write_private(path: &Path, text: &str) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.create(true).write(true).truncate(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// A running daemon. Killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    log: Option<Lines<BufReader<ChildStderr>>>,
    seen: Vec<String>,
}

impl Daemon {
    /// Starts a program with JSON logs.
    pub fn start(program: &str, args: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null());
        Self::spawn(command)
    }

    /// Starts a program as a service manager does that holds its listening sockets: they are its
    /// descriptors from 3 on, at most two, under these names.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn activated(
        program: &str,
        args: &[&str],
        sockets: &[(&str, &std::net::TcpListener)],
    ) -> Self {
        let names: Vec<&str> = sockets.iter().map(|(name, _)| *name).collect();
        let mut command = Command::new("sh");
        // A shell can number descriptors and knows its own process id, which exec keeps.
        let script = format!(
            "exec {} </dev/null >/dev/null; export LISTEN_PID=$$ LISTEN_FDS={} LISTEN_FDNAMES={}; exec \"$@\"",
            ["3<&0", "3<&0 4<&1"][sockets.len() - 1],
            sockets.len(),
            names.join(":")
        );
        command.args(["-c", &script, "sh", program]).args(args);
        let handle = |n: usize| {
            sockets.get(n).map_or_else(Stdio::null, |(_, socket)| {
                std::os::fd::OwnedFd::from(socket.try_clone().unwrap()).into()
            })
        };
        command.stdin(handle(0)).stdout(handle(1));
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        command.args(["--logging.format", "json"]);
        command.env_remove("PTN_DATA_DIR").stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let log = Some(BufReader::new(child.stderr.take().unwrap()).lines());
        Self { child, log, seen: Vec::new() }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// The first log line from now on that fits.
    ///
    /// # Panics
    /// When the program ends first or takes too long; shows what it said.
    pub async fn line(&mut self, fits: impl Fn(&Value) -> bool) -> Value {
        let read = async {
            while let Some(line) = self.log.as_mut().unwrap().next_line().await.unwrap() {
                self.seen.push(line.clone());
                if let Ok(value) = serde_json::from_str::<Value>(&line)
                    && fits(&value)
                {
                    return Some(value);
                }
            }
            None
        };
        match tokio::time::timeout(PATIENCE, read).await {
            Ok(Some(value)) => value,
            Ok(None) => panic!("the program ended; it said:\n{}", self.seen.join("\n")),
            Err(_) => panic!("no such line; it said:\n{}", self.seen.join("\n")),
        }
    }

    /// The line that says that everything is up.
    pub async fn up(&mut self) -> Value {
        self.line(|v| ["delivering", "listening"].contains(&v["message"].as_str().unwrap_or("")))
            .await
    }

    /// Throws away what it logs from now on, so that a chatty program never waits for a reader. With
    /// `PTN_TEST_LOGS=DIR` it goes into a file there.
    pub fn ignore_log(&mut self) {
        use std::io::Write as _;
        let mut log = self.log.take().unwrap();
        let mut file = std::env::var_os("PTN_TEST_LOGS").map(|dir| {
            let path = PathBuf::from(dir).join(format!("{}.log", self.pid()));
            std::fs::File::create(path).unwrap()
        });
        tokio::spawn(async move {
            while let Ok(Some(line)) = log.next_line().await {
                if let Some(file) = &mut file {
                    writeln!(file, "{line}").unwrap();
                }
            }
        });
    }

    /// Waits for its end, whatever it says.
    ///
    /// # Panics
    /// When it takes too long.
    pub async fn ended(&mut self) -> ExitStatus {
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        ended.expect("the program does not end").unwrap()
    }

    /// Kills it as a power cut would: it gets no chance to clean up.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Sends a signal, as `kill` would.
    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let status = std::process::Command::new("kill").args([name, &pid]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for the end of one whose log is thrown away.
    pub async fn wait(mut self) -> ExitStatus {
        tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it does not end").unwrap()
    }

    /// Waits for its end; returns the status and everything that it said.
    pub async fn end(mut self) -> (ExitStatus, String) {
        let read = async {
            while let Some(line) = self.log.as_mut().unwrap().next_line().await.unwrap() {
                self.seen.push(line);
            }
            self.child.wait().await.unwrap()
        };
        let status = tokio::time::timeout(PATIENCE, read).await.expect("the program does not end");
        (status, self.seen.join("\n"))
    }
}
