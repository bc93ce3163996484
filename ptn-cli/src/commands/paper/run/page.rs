//! The leaderboard as a page: no scripts, no other files; the browser asks again every few seconds.

use std::fmt::Write as _;

use ptn_core::paper::Point;
use ptn_core::paper::validator::{MinerView, PaperValidator};

use super::super::html::{STYLE, escape};
use crate::text::{date_time, percent, short_key};

const OWN_STYLE: &str = ".spark{width:9rem;height:2rem}.out td{color:var(--dim)}td b{font-weight:600}code{font-size:.85rem}main{max-width:72rem}";
/// Points of a little curve.
const WIDTH: f64 = 120.0;
const HEIGHT: f64 = 28.0;

/// The page.
pub(super) fn page(validator: &PaperValidator, prices: &str) -> String {
    let mut page = String::with_capacity(16 * 1024);
    // Writing into a string does not fail.
    write_page(&mut page, validator, prices).ok();
    page
}

fn write_page(page: &mut String, validator: &PaperValidator, prices: &str) -> std::fmt::Result {
    write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta http-equiv=\"refresh\" content=\"5\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <title>Paper validator</title><style>{STYLE}{OWN_STYLE}</style></head><body><main>\
         <h1>Paper validator</h1><p class=\"dim\">Rules of {} · {} · prices: {}</p>",
        validator.era(),
        date_time(validator.now_ms()),
        escape(prices)
    )?;
    let board = validator.leaderboard();
    let (round, round_name) = match validator.round() {
        Some(round) => {
            let text = format!("rounds of weights, the last at {}", date_time(round.at_ms));
            (round.n.to_string(), text)
        }
        None => ("0".to_owned(), "rounds of weights".to_owned()),
    };
    let open: usize = board.iter().map(|miner| miner.open).sum();
    page.push_str("<div class=\"cards\">");
    for (value, name) in [
        (board.len().to_string(), "miners"),
        (open.to_string(), "open positions"),
        (validator.eliminations().len().to_string(), "eliminated"),
        (round, round_name.as_str()),
    ] {
        write!(page, "<div class=\"card\"><b>{value}</b><span>{name}</span></div>")?;
    }
    page.push_str("</div><h2>Leaderboard</h2><div class=\"box\">");
    if board.is_empty() {
        page.push_str("<p>Nobody has sent an order yet.</p>");
    } else {
        table(page, validator, &board)?;
    }
    page.push_str("</div><h2>Open positions</h2><div class=\"box\">");
    positions(page, validator)?;
    page.push_str(
        "</div><p class=\"dim\">The same as JSON: <code>/api/leaderboard</code>, <code>/api/positions</code>, \
         <code>/api/returns</code>, <code>/api/drawdown</code>, <code>/api/eliminations</code>, \
         <code>/api/weights</code>, <code>/api/prices</code></p></main></body></html>\n",
    );
    Ok(())
}

fn table(
    page: &mut String,
    validator: &PaperValidator,
    board: &[MinerView<'_>],
) -> std::fmt::Result {
    page.push_str(
        "<table><tr><th>#</th><th>hotkey</th><th class=\"n\">return</th><th></th>\
         <th class=\"n\">weight</th><th class=\"n\">drawdown</th><th class=\"n\">points left</th>\
         <th class=\"n\">open</th><th class=\"n\">closed</th><th>state</th></tr>",
    );
    for (at, miner) in board.iter().enumerate() {
        let class = if miner.eliminated.is_some() { " class=\"out\"" } else { "" };
        let left = match miner.points_left {
            Some(points) => format!("{points:.2}"),
            None => "-".to_owned(),
        };
        let state = match (miner.eliminated, miner.stage) {
            (Some(row), _) => row.reason.clone(),
            (None, Some(stage)) => stage.to_string(),
            (None, None) => "in the field".to_owned(),
        };
        write!(
            page,
            "<tr{class}><td>{}</td><td title=\"{}\">{}</td><td class=\"n\"><b>{}</b></td><td>",
            at + 1,
            escape(miner.hotkey),
            escape(&short_key(miner.hotkey)),
            percent(miner.total_return - 1.0)
        )?;
        spark(page, validator.curve(miner.hotkey))?;
        write!(
            page,
            "</td><td class=\"n\">{:.6}</td><td class=\"n\">{:.2} %</td><td class=\"n\">{left}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td></tr>",
            miner.weight,
            miner.largest_drawdown * 100.0,
            miner.open,
            miner.closed,
            escape(&state)
        )?;
    }
    page.push_str(
        "</table><p class=\"dim\">Points left: percent points of loss before elimination.</p>",
    );
    Ok(())
}

fn spark(page: &mut String, points: &[Point]) -> std::fmt::Result {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return Ok(()) };
    let low = points.iter().map(|p| p.equity).fold(f64::INFINITY, f64::min);
    let high = points.iter().map(|p| p.equity).fold(f64::NEG_INFINITY, f64::max);
    let range = if high > low { high - low } else { 1.0 };
    #[expect(clippy::cast_precision_loss, reason = "times are far below 2^53 ms")]
    let x = |at_ms: i64| {
        (at_ms - first.at_ms) as f64 / (last.at_ms - first.at_ms).max(1) as f64 * WIDTH
    };
    write!(
        page,
        "<svg class=\"spark\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" aria-hidden=\"true\"><polyline fill=\"none\" stroke=\"#1f5fa8\" stroke-width=\"1.5\" points=\""
    )?;
    for point in points {
        let y = 2.0 + (high - point.equity) / range * (HEIGHT - 4.0);
        write!(page, "{:.1},{y:.1} ", x(point.at_ms))?;
    }
    page.push_str("\"/></svg>");
    Ok(())
}

fn positions(page: &mut String, validator: &PaperValidator) -> std::fmt::Result {
    let mut none = true;
    for account in validator.book().accounts() {
        for position in account.open() {
            if std::mem::take(&mut none) {
                page.push_str(
                    "<table><tr><th>pair</th><th>side</th><th class=\"n\">leverage</th><th class=\"n\">entry</th>\
                     <th class=\"n\">return</th><th class=\"n\">orders</th><th>opened</th><th>hotkey</th></tr>",
                );
            }
            write!(
                page,
                "<tr><td>{}</td><td>{}</td><td class=\"n\">{:.4}</td><td class=\"n\">{:.5}</td>\
                 <td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td><td title=\"{}\">{}</td></tr>",
                escape(position.pair.as_str()),
                position.position_type,
                position.net_leverage,
                position.average_entry_price,
                percent(position.return_at_close - 1.0),
                position.orders,
                date_time(position.open_ms),
                escape(account.hotkey()),
                escape(&short_key(account.hotkey()))
            )?;
        }
    }
    page.push_str(if none { "<p>None.</p>" } else { "</table>" });
    Ok(())
}
