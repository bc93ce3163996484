//! What the demo shows: the table, drawn again on a terminal and line by line elsewhere, and the
//! summary. Fits 80 columns.

use std::collections::BTreeMap;

use ptn_core::directory::Wire;
use ptn_core::json::Json;
use ptn_core::record::DeliveryState;
use ptn_core::rules::Rules;
use ptn_core::validator::{Received, Verdict};

use super::network::Network;
use super::paper::Look;
use super::watch::{Cell, Tracked, Watch};
use crate::failure::Failure;
use crate::output::{Output, Style};
use crate::text::{self, cut, millis, pad, pad_left};

/// With more validators than this the table shows sums.
const COLUMNS: usize = 3;
/// More rows than this are not drawn again.
const ROWS: usize = 16;
const ORDER: usize = 19;
const CELL: usize = 11;

/// Who takes part.
pub(super) fn introduce(network: &Network, rules: &Rules, out: &mut Output) -> Result<(), Failure> {
    let title = out.paint(Style::Strong, "A whole network on this machine");
    out.line(format!("{title}, rules of {}. Nothing leaves it.\n", rules.era))?;
    out.line(format!("server      {}   (for TradingView and bots)", network.url()))?;
    out.line("miner       delivers from the same data directory, as ptn-miner does")?;
    out.line(format!("data        {}", network.data_dir().display()))?;
    if let Some(chain) = network.chain() {
        for (head, line) in ["chain", ""].iter().zip(chain.lines()) {
            out.line(format!("{}  {line}", pad(head, 10)))?;
        }
    }
    let shown = network.peers().len().min(6);
    for (i, peer) in network.peers().iter().take(shown).enumerate() {
        let head = if i == 0 { "validators" } else { "" };
        out.line(format!(
            "{}  {}  {}  {}  {}",
            pad(head, 10),
            pad(&peer.name, 3),
            pad(peer.wire.as_str(), 8),
            pad(&peer.validator.address().to_string(), 15),
            peer.behaviour
        ))?;
    }
    if network.peers().len() > shown {
        out.line(format!("            and {} more like these", network.peers().len() - shown))?;
    }
    out.line("")?;
    if !out.is_live() {
        out.line(head(network.peers().len(), out))?;
    }
    Ok(())
}

fn head(validators: usize, out: &Output) -> String {
    let mut line = format!(" # {} {} {}", pad("ORDER", ORDER), pad("VIA", 7), pad_left("SAFE", 7));
    if validators <= COLUMNS {
        for i in 1..=validators {
            line.push_str(&format!("  {}", pad(&format!("V{i}"), CELL)));
        }
    } else {
        line.push_str("  ACKNOWLEDGED");
    }
    out.paint(Style::Dim, line.trim_end())
}

/// How far the table was drawn.
#[derive(Debug, Default)]
pub(super) struct Drawing {
    printed: usize,
    /// The account when the first validator had taken a signal, by its place.
    looks: BTreeMap<usize, Look>,
}

impl Drawing {
    /// Looks at the account when the first validator has taken another signal.
    async fn look(&mut self, network: &Network, watch: &Watch) {
        for (index, signal) in watch.signals().iter().enumerate().skip(self.printed) {
            let taken = watch.cell(signal, 0).state == DeliveryState::Accepted;
            if taken
                && !self.looks.contains_key(&index)
                && let Some(look) = network.look().await
            {
                self.looks.insert(index, look);
            }
        }
    }

    /// Draws the table again, on a terminal.
    pub(super) fn live(
        &mut self,
        watch: &Watch,
        look: Option<&Look>,
        out: &mut Output,
    ) -> Result<(), Failure> {
        if !out.is_live() {
            return Ok(());
        }
        let signals = watch.signals();
        let validators = signals.first().map_or(0, |s| watch.cells(s).len());
        let skipped = signals.len().saturating_sub(ROWS);
        let mut lines = vec![head(validators, out)];
        for (i, signal) in signals.iter().enumerate().skip(skipped) {
            lines.push(row(i, signal, watch, out));
        }
        lines.extend(look.map(|look| look.lines(out)).unwrap_or_default());
        out.redraw(&lines)
    }

    /// Prints the rows that are complete, in order, where nothing can be drawn again, and what the
    /// signals so far are worth.
    pub(super) async fn plain(
        &mut self,
        network: &Network,
        watch: &Watch,
        out: &mut Output,
    ) -> Result<(), Failure> {
        if out.is_live() || out.is_json() {
            return Ok(());
        }
        self.look(network, watch).await;
        while let Some(signal) = watch.signals().get(self.printed).filter(|s| watch.is_over(s)) {
            let line = row(self.printed, signal, watch, out);
            out.line(line)?;
            self.printed += 1;
            if let Some(look) = self.looks.remove(&(self.printed - 1)) {
                out.line(look.line(out))?;
            }
        }
        Ok(())
    }
}

fn row(index: usize, signal: &Tracked, watch: &Watch, out: &Output) -> String {
    let number = pad_left(&index.saturating_add(1).to_string(), 2);
    let order = pad(&cut(&signal.plan.words, ORDER), ORDER);
    let safe = watch.accept_ms(signal).map(millis).unwrap_or_default();
    let safe = match signal.status {
        Some(status) if status != 200 => {
            out.paint(Style::Bad, pad_left(&format!("HTTP {status}"), 7))
        }
        _ => pad_left(&safe, 7),
    };
    let mut line = format!("{number} {order} {} {safe}", pad(signal.plan.via.word(), 7));
    let cells = watch.cells(signal);
    if cells.len() <= COLUMNS {
        for c in &cells {
            let (style, text) = cell(c);
            line.push_str(&format!("  {}", out.paint(style, pad(&text, CELL))));
        }
    } else {
        let done = cells.iter().filter(|c| c.state == DeliveryState::Accepted).count();
        let slowest = cells.iter().filter_map(|c| c.acknowledged_ms).fold(0.0, f64::max);
        let style = if done == cells.len() { Style::Good } else { Style::Warn };
        let text = format!("{done} of {}, slowest {}", cells.len(), millis(slowest));
        line.push_str(&format!("  {}", out.paint(style, text)));
    }
    line.trim_end().to_owned()
}

fn cell(c: &Cell) -> (Style, String) {
    let tries = if c.attempts > 1 { format!(" ×{}", c.attempts) } else { String::new() };
    match (c.state, c.acknowledged_ms) {
        (DeliveryState::Accepted, ms) => {
            (Style::Good, format!("✓ {}{tries}", ms.map(millis).unwrap_or_default()))
        }
        (DeliveryState::Submitted, _) if c.attempts > 0 => {
            (Style::Warn, format!("refused ×{}", c.attempts))
        }
        (DeliveryState::Submitted, _) => (Style::Dim, "·".to_owned()),
        (state, _) => (Style::Bad, format!("✗ {state}")),
    }
}

/// What it adds up to.
pub(super) fn verdict(watch: &Watch, ok: bool, out: &mut Output) -> Result<(), Failure> {
    let signals = watch.signals();
    let cells: Vec<Cell> = signals.iter().flat_map(|s| watch.cells(s)).collect();
    let done = cells.iter().filter(|c| c.state == DeliveryState::Accepted).count();
    let verdict = if ok {
        let all = if signals.len() == 1 { "" } else { "All " };
        let count = text::count(signals.len(), "signal");
        out.paint(Style::Good, format!("{all}{count} acknowledged by every validator"))
    } else {
        let text = format!("Only {done} of {} deliveries acknowledged", cells.len());
        out.paint(Style::Bad, text)
    };
    out.line(format!("\n{verdict}, in {}.\n", millis(watch.elapsed_ms())))?;
    let safe: Vec<f64> = signals.iter().filter_map(|s| watch.accept_ms(s)).collect();
    let first: Vec<f64> = signals
        .iter()
        .filter_map(|s| watch.cells(s).iter().filter_map(|c| c.received_ms).reduce(f64::min))
        .collect();
    let acked: Vec<f64> = cells.iter().filter_map(|c| c.acknowledged_ms).collect();
    for (name, times) in
        [("safe on the disk", safe), ("at the first validator", first), ("acknowledged", acked)]
    {
        if let Some((median, worst)) = middle_and_worst(times) {
            out.line(format!(
                "{} {} median, {} worst, after the request",
                pad(name, 23),
                pad_left(&millis(median), 7),
                pad_left(&millis(worst), 7)
            ))?;
        }
    }
    let again: u32 = cells.iter().map(|c| c.attempts.saturating_sub(1)).sum();
    if again > 0 {
        let n = usize::try_from(again).unwrap_or(usize::MAX);
        let word = if n == 1 { "refusal was" } else { "refusals were" };
        out.line(format!(
            "{} {:>7} {word} retried; no other validator waited",
            pad("retries", 23),
            n
        ))?;
    }
    Ok(())
}

/// What to do next.
pub(super) fn next_steps(out: &mut Output) -> Result<(), Failure> {
    out.line("\nNext:")?;
    let program = text::program();
    let width = program.chars().count().saturating_add(34);
    for (command, what) in [
        ("demo --serve", "keep it running"),
        ("paper run --prices walk:1", "trade on paper"),
        ("trigger market-long --print-alert", "a TradingView alert"),
        ("config init ptn.toml", "your own settings"),
        ("doctor", "what is missing"),
    ] {
        out.line(format!("  {}  {what}", pad(&format!("{program} {command}"), width)))?;
    }
    Ok(())
}

fn middle_and_worst(mut times: Vec<f64>) -> Option<(f64, f64)> {
    times.sort_by(f64::total_cmp);
    let worst = *times.last()?;
    times.get(times.len() / 2).map(|median| (*median, worst))
}

/// A signal that arrived while the demo stays up.
pub(super) fn arrival(
    network: &Network,
    index: usize,
    received: &Received,
    out: &mut Output,
) -> Result<(), Failure> {
    if out.is_json() {
        return out.document(received);
    }
    let name = network.peers().get(index).map(|p| p.name.clone()).unwrap_or_default();
    let (style, word) = match received.verdict {
        Verdict::Accepted => (Style::Good, "accepted"),
        Verdict::Repeated => (Style::Warn, "repeated"),
        Verdict::Failed { .. } | Verdict::Fault { .. } => (Style::Warn, "refused for now"),
        Verdict::Refused { .. } => (Style::Bad, "refused"),
    };
    let order = match &received.signal {
        Some(Json::Object(body)) => {
            let pair = body.get("trade_pair").and_then(Json::as_object);
            let pair = pair.and_then(|o| o.get("trade_pair_id")).and_then(Json::as_str);
            format!("{} {}", pair.unwrap_or_default(), text::order(body, &received.order_uuid))
        }
        _ => String::new(),
    };
    let line = format!(
        "{}  {name}  {}  {}  {}",
        text::clock(received.at),
        pad(received.wire.map_or("-", Wire::as_str), 8),
        pad(text::harmless(order.trim()).as_str(), 30),
        out.paint(style, word)
    );
    out.line(line)
}
