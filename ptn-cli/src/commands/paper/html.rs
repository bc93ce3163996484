//! The report as one page: no scripts, no other files, two charts as SVG. Everything that comes
//! from a file is escaped.

use std::fmt::Write as _;

use ptn_core::paper::Point;
use ptn_core::paper::replay::Report;

use super::replay::{distance, drawdown, weight};
use crate::text::{date_time, percent};

pub(super) const STYLE: &str = "\
:root{--ink:#1c2530;--dim:#5d6b7a;--line:#d9e0e7;--blue:#1f5fa8;--red:#b3372f;--back:#f6f8fa}\
*{box-sizing:border-box}body{margin:0;background:var(--back);color:var(--ink);\
font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}\
main{max-width:60rem;margin:0 auto;padding:1.25rem}h1{font-size:1.5rem;margin:.2rem 0}\
h2{font-size:1.05rem;margin:1.6rem 0 .5rem}p{margin:.3rem 0}.dim{color:var(--dim)}\
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.6rem;margin:1rem 0}\
.card,.box{background:#fff;border:1px solid var(--line);border-radius:8px;padding:.7rem .8rem}\
.card b{display:block;font-size:1.15rem;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}\
.card span{color:var(--dim);font-size:.85rem}.box{overflow-x:auto}.bad{color:var(--red)}\
svg{display:block;width:100%;height:auto}table{border-collapse:collapse;width:100%;\
font-variant-numeric:tabular-nums}th,td{padding:.3rem .5rem;text-align:left;vertical-align:top;\
border-bottom:1px solid var(--line)}tr:last-child td{border-bottom:0}th{color:var(--dim);\
font-weight:600;font-size:.85rem}.n{text-align:right;white-space:nowrap}.w{overflow-wrap:anywhere;min-width:11rem}\
@media print{body{background:#fff;font-size:11pt}main{max-width:none;padding:0}\
.card,.box,tr{break-inside:avoid}.box{overflow:visible}}";

/// The page.
pub(super) fn page(report: &Report) -> String {
    let mut page = String::with_capacity(64 * 1024);
    // Writing into a string does not fail.
    write_page(&mut page, report).ok();
    page
}

fn write_page(page: &mut String, report: &Report) -> std::fmt::Result {
    let title = format!("Paper replay: {}", escape(&report.hotkey));
    write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <title>{title}</title><style>{STYLE}</style></head><body><main><h1>{title}</h1>"
    )?;
    let (from, to) = (date_time(report.start_ms), date_time(report.end_ms));
    write!(page, "<p class=\"dim\">Rules of {}", escape(&report.rules))?;
    if let Some(usd) = report.account_usd {
        write!(page, ", account of {usd:.0} USD")?;
    }
    write!(page, " · {from} to {to} · {} prices</p>", report.prices)?;
    cards(page, report)?;
    let equity = |p: &Point| (p.equity - 1.0) * 100.0;
    let fall = |p: &Point| -p.drawdown * 100.0;
    chart(page, "Return in percent", "var(--blue)", &report.curve, equity)?;
    chart(page, "Drawdown in percent", "var(--red)", &report.curve, fall)?;
    let class = if report.eliminated.is_some() { " class=\"bad\"" } else { "" };
    write!(
        page,
        "<h2>Risk</h2><div class=\"box\"><p>Largest drawdown: {}</p><p{class}>Elimination: {}</p></div>",
        escape(&drawdown(report)),
        escape(&distance(report))
    )?;
    pairs(page, report)?;
    refused(page, report)?;
    field(page, report)?;
    writeln!(
        page,
        "<p class=\"dim\">Made by ptn-cli paper replay. A calculation on recorded prices: slippage and \
         funding are not in them, and nothing was traded.</p></main></body></html>"
    )
}

fn cards(page: &mut String, report: &Report) -> std::fmt::Result {
    let s = report.signals;
    let largest = format!("{:.4} %", report.drawdown.largest * 100.0);
    page.push_str("<div class=\"cards\">");
    for (value, name) in [
        (percent(report.total.net_return), "return after fees"),
        (percent(report.total.fees), "fees"),
        (largest, "largest drawdown"),
        (format!("{:.6}", report.weight.firm), "final weight"),
        (format!("{} of {}", s.filled, s.total), "signals filled"),
        (s.refused.to_string(), "signals refused"),
    ] {
        write!(page, "<div class=\"card\"><b>{value}</b><span>{name}</span></div>")?;
    }
    page.push_str("</div>");
    Ok(())
}

/// A line over time, with its lowest and highest value at the axis.
fn chart(
    page: &mut String,
    title: &str,
    colour: &str,
    points: &[Point],
    value: impl Fn(&Point) -> f64,
) -> std::fmt::Result {
    const WIDTH: f64 = 640.0;
    const HEIGHT: f64 = 200.0;
    const LEFT: f64 = 74.0;
    const TOP: f64 = 12.0;
    const BOTTOM: f64 = 26.0;
    let values: Vec<f64> = points.iter().map(&value).filter(|v| v.is_finite()).collect();
    let low = values.iter().copied().fold(0.0, f64::min);
    let high = values.iter().copied().fold(0.0, f64::max);
    let range = if high - low > 0.0 { high - low } else { 1.0 };
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return Ok(()) };
    #[expect(clippy::cast_precision_loss, reason = "times are far below 2^53 ms")]
    let share =
        |at_ms: i64| (at_ms - first.at_ms) as f64 / (last.at_ms - first.at_ms).max(1) as f64;
    let x = |at_ms: i64| LEFT + share(at_ms) * (WIDTH - LEFT - 8.0);
    let y = |v: f64| TOP + (high - v) / range * (HEIGHT - TOP - BOTTOM);
    write!(
        page,
        "<h2>{title}</h2><div class=\"box\"><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-label=\"{title}: from {low:.4} to {high:.4}\" font-size=\"12\" fill=\"#5d6b7a\">"
    )?;
    let mut marks = vec![0.0];
    for mark in [low, high] {
        if (y(mark) - y(0.0)).abs() > 14.0 {
            marks.push(mark);
        }
    }
    for mark in marks {
        let at = y(mark);
        write!(
            page,
            "<path d=\"M{LEFT} {at:.1}H{}\" stroke=\"#d9e0e7\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{mark:.3}</text>",
            WIDTH - 8.0,
            LEFT - 6.0,
            at + 4.0
        )?;
    }
    page.push_str("<polyline points=\"");
    for point in points.iter().filter(|p| value(p).is_finite()) {
        write!(page, "{:.1},{:.1} ", x(point.at_ms), y(value(point)))?;
    }
    let base = HEIGHT - 8.0;
    let day = |at_ms| date_time(at_ms).chars().take(16).collect::<String>();
    write!(
        page,
        "\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\" stroke-linejoin=\"round\"/>\
         <text x=\"{LEFT}\" y=\"{base}\">{}</text><text x=\"{}\" y=\"{base}\" text-anchor=\"end\">{}</text></svg></div>",
        day(first.at_ms),
        WIDTH - 8.0,
        day(last.at_ms)
    )
}

fn pairs(page: &mut String, report: &Report) -> std::fmt::Result {
    page.push_str("<h2>Pairs</h2><div class=\"box\"><table><tr><th>Pair</th><th class=\"n\">Positions</th><th class=\"n\">Orders</th><th class=\"n\">Before fees</th><th class=\"n\">Fees</th><th class=\"n\">Return</th></tr>");
    for row in &report.pairs {
        let open = if row.open { " (open)" } else { "" };
        write!(
            page,
            "<tr><td>{}{open}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            escape(&row.pair),
            row.positions,
            row.orders,
            percent(row.total.gross_return),
            percent(row.total.fees),
            percent(row.total.net_return)
        )?;
    }
    let t = report.total;
    write!(
        page,
        "<tr><td><b>Total</b></td><td></td><td></td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\"><b>{}</b></td></tr></table></div>",
        percent(t.gross_return),
        percent(t.fees),
        percent(t.net_return)
    )
}

fn refused(page: &mut String, report: &Report) -> std::fmt::Result {
    if !report.refused.is_empty() {
        page.push_str("<h2>Refused signals</h2><div class=\"box\"><table><tr><th>When, which</th><th>By</th><th>Why</th></tr>");
        for row in &report.refused {
            write!(
                page,
                "<tr><td class=\"w\">{}<br>{} {}</td><td>{}</td><td class=\"w\"><b>{}</b><br>{}</td></tr>",
                date_time(row.at_ms),
                escape(row.pair.as_deref().unwrap_or("-")),
                escape(&row.order_uuid),
                row.by,
                escape(&row.code),
                escape(&row.text)
            )?;
        }
        page.push_str("</table></div>");
    }
    if !report.notes.is_empty() {
        page.push_str("<h2>Worth knowing</h2><div class=\"box\"><table>");
        for note in &report.notes {
            let (at, uuid, text) = (date_time(note.at_ms), escape(&note.uuid), escape(&note.text));
            write!(
                page,
                "<tr><td>{at}</td><td class=\"w\">{uuid}</td><td class=\"w\">{text}</td></tr>"
            )?;
        }
        page.push_str("</table></div>");
    }
    Ok(())
}

fn field(page: &mut String, report: &Report) -> std::fmt::Result {
    write!(
        page,
        "<h2>Weight</h2><p>{}</p><p class=\"dim\">The others are {}.</p><div class=\"box\"><table><tr><th>Miner</th><th class=\"n\">Return</th><th class=\"n\">Weight</th></tr>",
        escape(&weight(report)),
        report.weight.about
    )?;
    for member in &report.weight.field {
        let out = if member.eliminated { " <span class=\"bad\">(eliminated)</span>" } else { "" };
        let name = escape(&member.hotkey);
        let name = if member.hotkey == report.hotkey { format!("<b>{name}</b>") } else { name };
        let (net, weight) = (percent(member.net_return), member.weight);
        write!(
            page,
            "<tr><td class=\"w\">{name}{out}</td><td class=\"n\">{net}</td><td class=\"n\">{weight:.6}</td></tr>"
        )?;
    }
    page.push_str("</table></div>");
    Ok(())
}

/// Text as HTML shows it, in elements and attributes.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}
