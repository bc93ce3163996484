//! The demo's network: validators, keys, files, the miner with its server, and posting to it.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use ptn_core::directory::Wire;
use ptn_core::ops::config::Settings;
use ptn_core::ops::settings::{COMMON, GUARD, MINER, SERVER};
use ptn_core::paper::desk::PaperDesk;
use ptn_core::rules::{Era, Rules};
use ptn_core::sign::{Hotkey, Signer as _};
use ptn_core::signal::OrderUuid;
use ptn_core::store::SignalStore;
use ptn_core::validator::{Fault, LoopbackValidator, ValidatorOptions};
use ptn_miner::MinerError;
use ptn_miner::config::MinerConfig;
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::chain::DemoChain;
use super::paper::{Board, Field, Look};
use super::plan::{self, KEY, Plan, Via};
use crate::failure::Failure;
use crate::http::{Call, Server};

/// How late the slow validator answers.
const SLOW_MS: u64 = 120;
/// How many orders the other one refuses first.
const REFUSALS: u32 = 2;
/// The waits of the rule sets are made for days; these are made for a look.
const WAITS: &str = "100ms,200ms,400ms,800ms,1600ms,3200ms";
const ANSWER: Duration = Duration::from_secs(55);

/// One validator of the demo.
pub(super) struct Peer {
    /// `V1`, ...
    pub(super) name: String,
    pub(super) wire: Wire,
    pub(super) behaviour: String,
    pub(super) validator: LoopbackValidator,
    /// Judges its orders, where the rule set has positions.
    pub(super) desk: Option<PaperDesk>,
    /// Its key, for what it signs on the chain.
    pub(super) key: Arc<Hotkey>,
}

/// Everything that runs.
pub(super) struct Network {
    peers: Vec<Peer>,
    chain: Option<DemoChain>,
    field: Option<Field>,
    era: Era,
    dir: TempDir,
    key: String,
    url: String,
    store: Arc<dyn SignalStore>,
    stop: CancellationToken,
    miner: JoinHandle<Result<(), MinerError>>,
}

/// The server's answer to a post.
#[derive(Debug)]
pub(super) struct Posted {
    pub(super) index: usize,
    pub(super) status: u16,
    pub(super) order_uuid: Option<String>,
}

impl Network {
    /// Starts everything; returns when the server takes requests.
    pub(super) async fn start(
        rules: &Rules,
        validators: usize,
        chain: bool,
    ) -> Result<Self, Failure> {
        let hotkey = Hotkey::generate();
        let field = Field::new(rules, validators, hotkey.hotkey());
        let mut peers = Vec::new();
        for index in 0..validators {
            peers.push(peer(index, rules.era, field.as_ref()).await?);
        }
        let dir = tempfile::Builder::new().prefix("ptn-demo-").tempdir();
        let dir = dir.map_err(|e| Failure::io("cannot create", "a temporary folder", &e))?;
        // Two random ids are a key that nobody guesses while this runs.
        let key = format!("{}{}", OrderUuid::random(), OrderUuid::random()).replace('-', "");
        let chain = match chain {
            true => Some(DemoChain::start(&peers, field.as_ref(), &hotkey).await?),
            false => None,
        };
        write_files(dir.path(), &key, &hotkey)?;
        let source = match &chain {
            Some(chain) => chain.flags(),
            None => vec![("--validators", write_list(dir.path(), &peers)?)],
        };
        let config = miner_config(dir.path(), rules.era, source)?;
        let stop = CancellationToken::new();
        let (up, started) = oneshot::channel();
        let mut miner = tokio::spawn(ptn_miner::run(config, stop.clone(), move |started| {
            // Nobody waits any more when the demo was interrupted.
            up.send(started).ok();
        }));
        let started = tokio::select! {
            Ok(started) = started => started,
            ended = &mut miner => {
                let why = match ended {
                    Ok(Err(e)) => e.to_string(),
                    _ => "the miner ended at once".to_owned(),
                };
                return Err(Failure::failed("miner", why));
            }
        };
        let url = match started.server {
            Some(address) => format!("http://{address}"),
            None => return Err(Failure::failed("server", "the miner runs without its server")),
        };
        let (era, store) = (rules.era, started.store);
        Ok(Self { peers, chain, field, era, dir, key, url, store, stop, miner })
    }

    /// What the first validator thinks of the miner now, where the rule set has positions.
    pub(super) async fn look(&self) -> Option<Look> {
        let desk = self.peers.first()?.desk.as_ref()?;
        Some(self.field.as_ref()?.look(desk).await)
    }

    /// The leaderboard of the first validator.
    pub(super) async fn board(&self) -> Result<Option<Board>, Failure> {
        match (&self.field, self.peers.first().and_then(|peer| peer.desk.as_ref())) {
            (Some(field), Some(desk)) => field.board(desk).await.map(Some),
            _ => Ok(None),
        }
    }

    pub(super) fn peers(&self) -> &[Peer] {
        &self.peers
    }

    pub(super) fn chain(&self) -> Option<&DemoChain> {
        self.chain.as_ref()
    }

    pub(super) fn era(&self) -> Era {
        self.era
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn store(&self) -> &dyn SignalStore {
        self.store.as_ref()
    }

    pub(super) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("mining")
    }

    pub(super) fn key_file(&self) -> PathBuf {
        self.dir.path().join("api_key")
    }

    /// Sends a signal as its sender would; the answer comes through the channel.
    pub(super) fn post(&self, index: usize, plan: Plan, answers: mpsc::UnboundedSender<Posted>) {
        let key = Some(self.key.clone()).filter(|_| plan.via == Via::Bot);
        let server = Server::new(&self.url, key);
        let (content_type, body) = match plan.via {
            Via::Webhook => ("text/plain; charset=utf-8", plan.body.replace(KEY, &self.key)),
            Via::Bot => {
                let uuid = OrderUuid::random();
                ("application/json", plan::with_uuid(&plan.body, uuid.as_str()))
            }
        };
        tokio::spawn(async move {
            let path = plan.via.endpoint();
            let body = Some((content_type, body));
            let answer = match server {
                Ok(server) => {
                    server.call(Call { method: Method::POST, path, body, timeout: ANSWER }).await
                }
                Err(failure) => Err(failure),
            };
            let (status, text) = answer.map_or((0, Vec::new()), |a| (a.status, a.body));
            let text: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
            let order_uuid = text.get("order_uuid").and_then(|v| v.as_str()).map(str::to_owned);
            // Nobody waits any more when the demo was interrupted.
            answers.send(Posted { index, status, order_uuid }).ok();
        });
    }

    /// Stops everything and removes the folder.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        // It was up, so there is nothing left to report.
        self.miner.await.ok();
        drop(self.store);
        for peer in &self.peers {
            if let Some(desk) = &peer.desk {
                // There is nothing to keep.
                desk.stop().await.ok();
            }
        }
        if let Some(chain) = self.chain {
            chain.stop().await;
        }
        for peer in self.peers {
            peer.validator.shutdown().await;
        }
    }
}

async fn peer(index: usize, era: Era, field: Option<&Field>) -> Result<Peer, Failure> {
    let mut options = ValidatorOptions::default();
    let key = options.hotkey.to_keyfile_json();
    let key = Hotkey::from_keyfile_json(key.as_bytes())
        .map(Arc::new)
        .map_err(|e| Failure::failed("internal", e.to_string()))?;
    let desk = match field {
        Some(field) => Some(field.desk().await?),
        None => None,
    };
    if let Some(desk) = &desk {
        options.desk = Some(Arc::new(desk.clone()));
    }
    // Validators of 2024 do not know an order again, and none before 2026 suggests a retry.
    options.recognises_repeats = era != Era::Y2024;
    options.says_should_retry = era == Era::Y2026;
    let (wire, behaviour) = match index % 3 {
        0 => (Wire::Btauth, "behaves".to_owned()),
        1 => {
            options.faults = vec![Fault::Delay { ms: SLOW_MS }.into()];
            (Wire::Dendrite, format!("answers {SLOW_MS} ms late"))
        }
        _ => {
            let message = "This validator is syncing positions. Please try again later.".to_owned();
            options.faults = vec![Fault::Fail { message, should_retry: true }.first(REFUSALS)];
            (Wire::Btauth, format!("refuses its first {REFUSALS} orders"))
        }
    };
    options.wire = Some(wire);
    let validator = LoopbackValidator::start(options).await;
    let validator = validator.map_err(|e| Failure::io("cannot listen on", "127.0.0.1", &e))?;
    let name = format!("V{}", index.saturating_add(1));
    Ok(Peer { name, wire, behaviour, validator, desk, key })
}

/// The list by hand, and where it is.
fn write_list(dir: &Path, peers: &[Peer]) -> Result<String, Failure> {
    let mut list = String::new();
    for peer in peers {
        let v = peer.validator.entry(peer.wire);
        list.push_str(&format!(
            "[[validator]]\nhotkey = \"{}\"\nip = \"{}\"\nport = {}\nv_trust = 1.0\nstake = 1000.0\nwire = \"{}\"\n\n",
            v.hotkey, v.ip, v.port, v.wire.as_str()
        ));
    }
    let path = dir.join("validators.toml");
    write(&path, &list)?;
    Ok(path.display().to_string())
}

fn write_files(dir: &Path, key: &str, hotkey: &Hotkey) -> Result<(), Failure> {
    let hotkeys = dir.join("wallets").join("demo").join("hotkeys");
    let data = dir.join("mining");
    for folder in [&hotkeys, &data] {
        std::fs::create_dir_all(folder)
            .map_err(|e| Failure::io("cannot create", &folder.display().to_string(), &e))?;
    }
    write(&hotkeys.join("demo"), &hotkey.to_keyfile_json())?;
    write(&dir.join("ptn.toml"), "")?;
    write(&dir.join("api_key"), key)?;
    write(&data.join("miner_secrets.json"), &format!("{{\"api_key\": \"{key}\"}}"))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    opened
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|e| Failure::io("cannot write", &path.display().to_string(), &e))
}

/// The miner's own flags, so that what the demo runs can be typed as well.
fn miner_config(
    dir: &Path,
    era: Era,
    source: Vec<(&'static str, String)>,
) -> Result<MinerConfig, Failure> {
    let place = |name: &str| dir.join(name).display().to_string();
    let args = [
        ("--config", place("ptn.toml")),
        ("--data-dir", place("mining")),
        ("--rules", era.to_string()),
        ("--wallet.path", place("wallets")),
        ("--wallet.name", "demo".to_owned()),
        ("--wallet.hotkey", "demo".to_owned()),
        ("--subtensor.network", "local".to_owned()),
        ("--delivery.policy", "all".to_owned()),
        ("--delivery.pacing", "off".to_owned()),
        ("--delivery.waits", WAITS.to_owned()),
        ("--delivery.timeout", "10s".to_owned()),
        ("--server.listen", "127.0.0.1:0".to_owned()),
        ("--limits", "off".to_owned()),
        ("--axon.port", "0".to_owned()),
    ];
    let words = args.into_iter().chain(source).flat_map(|(flag, value)| [flag.to_owned(), value]);
    let words = std::iter::once("ptn-miner".to_owned()).chain(words);
    let matches = ptn_miner::command().try_get_matches_from(words);
    let matches = matches.map_err(|e| Failure::failed("internal", e.to_string()))?;
    let settings = Settings::resolve(&[COMMON, MINER, SERVER, GUARD], &matches)?;
    Ok(MinerConfig::from_settings(&settings)?)
}
