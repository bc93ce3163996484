//! `demo`: a whole network in one process, real signals through real sockets, and what happened.
//!
//! The server and the miner are the real ones ([`ptn_miner::run`]) on a temporary data directory
//! with throwaway keys; the validators are `LoopbackValidator`s, one of them slow and one that
//! refuses at first, and each keeps positions on paper (`paper`). With `--chain` the miner
//! finds them through a node double (`chain`). Nothing leaves this machine. `network` starts it all, `plan` says which
//! signals are sent, `watch` keeps the times, `screen` draws.

mod chain;
mod network;
mod paper;
mod plan;
mod screen;
mod watch;

use std::time::Duration;

use clap::{ArgMatches, Args, FromArgMatches as _};
use ptn_core::ops::process;
use ptn_core::rules::{Era, Rules};
use tokio_util::sync::CancellationToken;

use self::network::Network;
use self::watch::Watch;
use crate::Outcome;
use crate::failure::Failure;
use crate::output::{Output, Style};

/// When nothing happens for this long although signals are open, something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);
/// Requests that may wait for their answer at once; a server takes 256 connections of one address.
const OPEN: usize = 100;
const FRAME: Duration = Duration::from_millis(50);

/// Arguments of `demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// How many validators
    #[arg(long, value_name = "N", default_value_t = 3,
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=64))]
    validators: usize,
    /// How many signals
    #[arg(long, value_name = "N", default_value_t = 6,
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    signals: usize,
    /// Find the validators on a chain (a node double) where the hotkey is registered first
    #[arg(long)]
    chain: bool,
    /// Stay up afterwards, for signals of your own
    #[arg(long)]
    serve: bool,
    /// Rule set
    #[arg(long, value_name = "2024|2025|2026", default_value = "2026", value_parser = era)]
    rules: Era,
}

fn era(text: &str) -> Result<Era, String> {
    Era::parse(text).ok_or_else(|| "allowed: 2024, 2025, 2026".to_owned())
}

/// Runs the command.
///
/// # Errors
/// When a part cannot start.
pub fn run(matches: &ArgMatches, out: &mut Output) -> Outcome {
    let args = DemoArgs::from_arg_matches(matches).map_err(|e| Failure::usage(e.to_string()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::io("cannot start", "the runtime", &e))?;
    runtime.block_on(demo(args, out))
}

async fn demo(args: DemoArgs, out: &mut Output) -> Outcome {
    let rules = Rules::load(args.rules).map_err(ptn_core::ops::config::ConfigError::from)?;
    let plans = plan::plans(&rules, args.signals);
    // From here on an interruption removes the temporary folder, with the keys in it.
    let stop = process::stop_token().map_err(|e| Failure::io("cannot watch", "signals", &e))?;
    stop_at_hangup(&stop)?;
    let interrupted = || Failure::failed("interrupted", "stopped before the end");
    let network = tokio::select! {
        network = Box::pin(Network::start(&rules, args.validators, args.chain)) => network?,
        () = stop.cancelled() => return Err(interrupted()),
    };
    let mut watch = Watch::new(&network);
    if !out.is_json() {
        screen::introduce(&network, &rules, out)?;
    }
    let outcome = tokio::select! {
        outcome = deliver(&network, &plans, &mut watch, out) => outcome,
        () = stop.cancelled() => Err(interrupted()),
    };
    if let Err(failure) = outcome {
        network.stop().await;
        return Err(failure);
    }
    let ok = match conclude(&network, &rules, &watch, args.serve, out).await {
        Ok(ok) => ok,
        Err(failure) => {
            network.stop().await;
            return Err(failure);
        }
    };
    if args.serve {
        serve(&network, &mut watch, &stop, out).await?;
    }
    network.stop().await;
    Ok(if ok { process::OK } else { process::FAILED })
}

/// A closed terminal ends it too, so that the temporary folder goes.
fn stop_at_hangup(stop: &CancellationToken) -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let hangup = signal(SignalKind::hangup());
    let mut hangup = hangup.map_err(|e| Failure::io("cannot watch", "signals", &e))?;
    let stop = stop.clone();
    tokio::spawn(async move {
        hangup.recv().await;
        stop.cancel();
    });
    Ok(())
}

/// Sends everything, each signal when the one before is safe, and waits until all is settled.
async fn deliver(
    network: &Network,
    plans: &[plan::Plan],
    watch: &mut Watch,
    out: &mut Output,
) -> Result<(), Failure> {
    let patience = || tokio::time::Instant::now() + PATIENCE;
    let mut deadline = patience();
    let mut frame = tokio::time::interval(FRAME);
    let mut drawing = screen::Drawing::default();
    for (index, plan) in plans.iter().enumerate() {
        watch.begin(plan);
        network.post(index, plan.clone(), watch.answers());
        while !watch.is_safe(index) || watch.unanswered() >= OPEN {
            tokio::select! {
                () = watch.next() => {
                    deadline = patience();
                    drawing.plain(network, watch, out).await?;
                }
                _ = frame.tick() => drawing.live(watch, network.look().await.as_ref(), out)?,
                () = tokio::time::sleep_until(deadline) => return Err(late(watch)),
            }
        }
        drawing.plain(network, watch, out).await?;
    }
    while !watch.is_settled() {
        tokio::select! {
            () = watch.next() => {
                deadline = patience();
                drawing.plain(network, watch, out).await?;
            }
            _ = frame.tick() => drawing.live(watch, network.look().await.as_ref(), out)?,
            () = tokio::time::sleep_until(deadline) => return Err(late(watch)),
        }
    }
    drawing.live(watch, network.look().await.as_ref(), out)?;
    out.settle();
    Ok(())
}

fn late(watch: &Watch) -> Failure {
    let text = format!(
        "{} not settled, and nothing happened for {} s",
        watch.unsettled(),
        PATIENCE.as_secs()
    );
    Failure::failed("demo_timeout", text)
}

async fn conclude(
    network: &Network,
    rules: &Rules,
    watch: &Watch,
    serve: bool,
    out: &mut Output,
) -> Result<bool, Failure> {
    let ok = watch.all_acknowledged();
    let board = network.board().await?;
    let weights = match network.chain() {
        Some(chain) => chain.weights(network.peers()).await?,
        None => None,
    };
    if out.is_json() {
        let mut document = watch.document(network, rules.era, ok);
        if let Some(document) = document.as_object_mut() {
            let board = board.map(|board| board.document());
            document.insert("leaderboard".to_owned(), board.unwrap_or_default());
            let weights = weights.map(|weights| weights.document());
            document.insert("weights".to_owned(), weights.unwrap_or_default());
        }
        out.document(&document)?;
        return Ok(ok);
    }
    screen::verdict(watch, ok, out)?;
    if let Some(board) = board {
        board.show(out)?;
    }
    if let Some(weights) = weights {
        for line in crate::text::wrap(&weights.line(), 78) {
            out.line(line)?;
        }
    }
    if !serve {
        screen::next_steps(out)?;
    }
    Ok(ok)
}

/// Shows what else arrives until Ctrl-C.
async fn serve(
    network: &Network,
    watch: &mut Watch,
    stop: &CancellationToken,
    out: &mut Output,
) -> Result<(), Failure> {
    let pair = plan::usual_pair(network.era());
    let key = network.key_file().display().to_string();
    if let Some(chain) = network.chain() {
        out.talk(format!(
            "\nthe weights as they are set: {} {}",
            crate::text::program(),
            chain.look()
        ));
    }
    let title = out.paint_talk(Style::Strong, "still running; Ctrl-C ends it. The next signal:");
    out.talk(format!(
        "\n{title}\n\n\
         {} send {pair} long 0.1x --rules {} \\\n  --url {} \\\n  --api-key-file {key}\n\n\
         curl -d '{{\"trade_pair\":\"{pair}\",\"order_type\":\"LONG\",\"leverage\":0.1}}' \\\n  \
         -H 'content-type: application/json' \\\n  \
         -H \"authorization: $(cat {key})\" \\\n  \
         {}/api/submit-order\n",
        crate::text::program(),
        network.era(),
        network.url(),
        network.url(),
    ));
    loop {
        let arrival = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            arrival = watch.arrival() => arrival,
        };
        if let Some((index, received)) = arrival {
            screen::arrival(network, index, &received, out)?;
        }
    }
}
