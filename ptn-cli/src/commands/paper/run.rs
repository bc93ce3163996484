//! `paper run`: a validator that stands on this machine: both wires, real signatures, positions,
//! eliminations and weights by the network's rules, and a folder that brings it back.
//!
//! What it does with orders is left to `ptn_core::paper::desk`, envelopes to
//! `ptn_core::validator`. `feed` brings prices in, `http` answers questions, `show` prints.

mod feed;
mod http;
mod page;
mod show;
mod view;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{ArgMatches, Args, FromArgMatches as _};
use ptn_core::ops::process;
use ptn_core::paper::desk::{DeskError, DeskOptions, JournalError, PaperDesk};
use ptn_core::paper::prices::PriceSpec;
use ptn_core::rules::Era;
use ptn_core::sign::Hotkey;
use ptn_core::store::UnixMs;
use ptn_core::validator::{LoopbackValidator, ValidatorOptions};
use tokio::sync::broadcast::error::RecvError;

use super::super::listen::{WireChoice, write_list};
use super::on_chain::OnChain;
use super::prices::time;
use super::replay::usd;
use crate::Outcome;
use crate::failure::Failure;
use crate::output::Output;
use feed::Feed;

pub(super) const AFTER_HELP: &str = "\
Prices: push (POST /api/prices; the default), walk:SEED[:PAIR,PAIR], coinbase, or a CSV file as in\n\
paper replay. A file brings its own time: the validator's clock begins with it. --speed makes a clock faster.\n\n\
Everything that was acknowledged is in --dir and is there again after any end of the process.\n\
docs/paper.md has the HTTP paths.";

/// Arguments of `paper run`.
#[derive(Debug, Clone, Args)]
pub(super) struct RunArgs {
    /// Rule set
    #[arg(long, value_name = "ERA", value_parser = ["2024", "2026"], default_value = "2026")]
    rules: String,
    /// Where miners send their orders; port 0 takes any
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// The wire it speaks: the protocol between miners and validators
    #[arg(long, value_enum, default_value_t = WireChoice::Both)]
    wire: WireChoice,
    /// Where it answers questions and takes pushed prices; on loopback only
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8092", value_parser = loopback)]
    http: SocketAddr,
    /// Its folder: orders, positions, weights, its key
    #[arg(long, value_name = "DIR", default_value = "paper")]
    dir: PathBuf,
    /// Hotkey file of the validator (default: its own one, made in --dir)
    #[arg(long, value_name = "FILE")]
    hotkey_file: Option<PathBuf>,
    /// Prices: push, walk:SEED[:PAIR,PAIR], coinbase, or a CSV file
    #[arg(long, value_name = "SOURCE", default_value = "push")]
    prices: PriceSpec,
    /// How fast its clock goes (default: as the machine's). Signatures go by the machine's clock
    #[arg(long, value_name = "FACTOR", value_parser = speed)]
    speed: Option<f64>,
    /// When its clock begins, in an empty folder: 2026-06-10 or 2026-06-10T14:00:00Z (default: now,
    /// or with the first price of a file)
    #[arg(long, value_name = "TIME", value_parser = time)]
    start: Option<UnixMs>,
    /// Only these hotkeys are registered (default: everybody who signs); can be given again
    #[arg(long = "miner", value_name = "SS58", value_parser = ss58)]
    miners: Vec<String>,
    /// Size of new accounts in USD, under the rules of 2026 (default: that of the rules)
    #[arg(long, value_name = "USD", value_parser = usd)]
    account_size: Option<f64>,
    /// Node of a private chain, or a node double, on which it sets its weights every 5 minutes of
    /// its clock; its hotkey must be a validator there
    #[arg(long, value_name = "URL")]
    chain: Option<String>,
    /// The subnet on that chain
    #[arg(long, value_name = "N", default_value_t = 8, requires = "chain")]
    netuid: u16,
    /// The uid that gets what nobody earned (default: that of the rules, where it exists)
    #[arg(long, value_name = "UID", requires = "chain")]
    burn_uid: Option<u16>,
    /// What new accounts may trade, under the rules of 2026: crypto, forex, equities, indices,
    /// commodities, hl_all or all_markets
    #[arg(long, value_name = "CLASS", default_value = "all_markets", value_parser =
          ["crypto", "forex", "equities", "indices", "commodities", "hl_all", "all_markets"])]
    asset_class: String,
    /// Write the list for `ptn-miner --validators`, with this validator in it. Only a list that
    /// was written so is replaced
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| "write IP:PORT".to_owned())?;
    if address.ip().is_loopback() {
        return Ok(address);
    }
    Err("it shows everybody's positions and takes prices from anybody, so only loopback is allowed, such as 127.0.0.1:8092".to_owned())
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if (0.01..=1e6).contains(&speed) => Ok(speed),
        _ => Err("write a number from 0.01 to 1e6".to_owned()),
    }
}

fn ss58(text: &str) -> Result<String, String> {
    let decoded = ptn_core::sign::ss58::decode(text);
    decoded.map(|_| text.to_owned()).map_err(|e| e.to_string())
}

/// Runs the command until Ctrl-C.
///
/// # Errors
/// When a port, a file or the folder cannot be used.
pub(super) fn run(matches: &ArgMatches, out: &mut Output) -> Outcome {
    let args = RunArgs::from_arg_matches(matches).map_err(|e| Failure::usage(e.to_string()))?;
    crate::block_on(stand(args, out))
}

async fn stand(args: RunArgs, out: &mut Output) -> Outcome {
    let stop = process::stop_token().map_err(|e| Failure::io("cannot watch", "signals", &e))?;
    let era = Era::parse(&args.rules).ok_or_else(|| Failure::usage("--rules is 2024 or 2026"))?;
    let feed = Feed::open(&args.prices, era, args.speed, args.start)?;
    let desk = PaperDesk::start(DeskOptions {
        dir: Some(args.dir.clone()),
        clock: feed.clock(),
        account_usd: args.account_size,
        asset_class: Some(args.asset_class.clone()),
        ..DeskOptions::new(era)
    });
    let desk = desk.map_err(|e| desk_failure(&e))?;
    for hotkey in &args.miners {
        let terms = desk.ask(|validator| validator.terms().clone()).await;
        let terms = terms.map_err(|e| desk_failure(&e))?;
        desk.join(hotkey.clone(), terms).await.map_err(|e| desk_failure(&e))?;
    }
    let validator = LoopbackValidator::start(axon(&args, era, &desk)?).await.map_err(|e| {
        let place = args.listen.to_string();
        Failure::io("cannot listen on", &place, &e)
            .hint("choose another --listen; port 0 takes any")
    })?;
    let listener = tokio::net::TcpListener::bind(args.http).await.map_err(|e| {
        let place = args.http.to_string();
        Failure::io("cannot listen on", &place, &e).hint("choose another --http; port 0 takes any")
    })?;
    let address = listener.local_addr().map_err(|e| Failure::io("cannot listen on", "", &e))?;
    let state = http::Site::new(desk.clone(), era, &args.prices, feed.sender(), feed.watch());
    let site = tokio::spawn(http::serve(listener, state, stop.clone()));
    let entry = validator.entry(args.wire.listed());
    if let Some(path) = &args.write {
        write_list(path, &entry, "paper run")?;
    }
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    if let Some(endpoints) = &args.chain {
        let setter = OnChain {
            client: OnChain::client(endpoints)?,
            netuid: args.netuid,
            hotkey: Arc::new(key(&args)?),
            burn_uid: args.burn_uid,
        };
        // It ends with the desk; nobody reads any more when the command ends before.
        tokio::spawn(setter.follow(desk.clone(), move |what| drop(tell.send(what))));
    }
    let mut arrivals = validator.subscribe();
    let mut events = desk.subscribe();
    let started =
        show::Started { entry: &entry, http: address, era, args: &args, begun: desk.begun() };
    show::introduce(&started, out)?;
    let mut feed = feed.start(&desk, stop.clone());
    let mut prices_end = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            received = arrivals.recv() => match received {
                Ok(received) => show::refused_envelope(&received, out)?,
                Err(RecvError::Lagged(n)) => out.talk(format!("{n} requests came too fast to be shown")),
                Err(RecvError::Closed) => break,
            },
            event = events.recv() => match event {
                Ok(event) => show::event(era, &event, out)?,
                Err(RecvError::Lagged(n)) => out.talk(format!("{n} events came too fast to be shown")),
                Err(RecvError::Closed) => break,
            },
            Some(what) = told.recv() => show::told(&what, out)?,
            ended = &mut feed, if !prices_end => {
                prices_end = true;
                match ended {
                    Ok(Ok(())) if stop.is_cancelled() => {}
                    Ok(Ok(())) => out.talk("the prices have ended; the validator goes on with the last ones"),
                    Ok(Err(e)) => out.talk(format!("there are no more prices: {e}")),
                    Err(e) => out.talk(format!("there are no more prices: {e}")),
                }
            }
        }
    }
    stop.cancel();
    validator.shutdown().await;
    // It ends with the token.
    site.await.ok();
    desk.stop().await.map_err(|e| desk_failure(&e))?;
    Ok(process::OK)
}

fn axon(args: &RunArgs, era: Era, desk: &PaperDesk) -> Result<ValidatorOptions, Failure> {
    let mut options = ValidatorOptions::default();
    options.ip = args.listen.ip();
    options.port = args.listen.port();
    options.desk = Some(Arc::new(desk.clone()));
    options.wire = args.wire.only();
    // Validators of 2024 do not know an order again, and none before 2026 suggests a retry.
    options.says_should_retry = era == Era::Y2026;
    options.registered = (!args.miners.is_empty()).then(|| args.miners.clone());
    options.keep = 0;
    options.hotkey = key(args)?;
    Ok(options)
}

/// The validator's key.
fn key(args: &RunArgs) -> Result<Hotkey, Failure> {
    match &args.hotkey_file {
        Some(path) => read_key(path),
        None => own_key(&args.dir.join("validator-hotkey")),
    }
}

fn read_key(path: &Path) -> Result<Hotkey, Failure> {
    Hotkey::from_keyfile(path).map_err(|e| Failure::new(process::USAGE, e.code(), e.to_string()))
}

/// The validator's key, made at the first start.
fn own_key(path: &Path) -> Result<Hotkey, Failure> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    if path.exists() {
        return read_key(path);
    }
    let hotkey = Hotkey::generate();
    let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = opened.and_then(|mut file| {
        file.write_all(hotkey.to_keyfile_json().as_bytes())?;
        file.sync_all()
    });
    written.map_err(|e| Failure::io("cannot write", &path.display().to_string(), &e))?;
    Ok(hotkey)
}

fn desk_failure(e: &DeskError) -> Failure {
    let exit = match e {
        DeskError::Journal(JournalError::InUse { .. }) => process::UNAVAILABLE,
        DeskError::Journal(JournalError::OtherRules { .. }) => process::USAGE,
        _ => process::FAILED,
    };
    Failure::new(exit, e.code(), e.to_string())
}
