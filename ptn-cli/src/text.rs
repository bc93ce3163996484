//! Words and numbers for people: times, ages, sizes, short hotkeys, columns.
//! No files and no network.

use ptn_core::chain::{Rao, Score};
use ptn_core::json::{Json, Object};
use ptn_core::ops::text::is_obeyed;
use ptn_core::record::{DeliveryState, ValidatorRecord};
use ptn_core::store::UnixMs;

use crate::output::{Output, Style};

/// How this program was called, so that a printed command can be typed: after `cargo run` it is not
/// on the path.
pub fn program() -> String {
    let called = std::env::args().next().unwrap_or_default();
    let relative = called.contains('/') && !called.starts_with('/');
    if relative { called } else { "ptn-cli".to_owned() }
}

/// A hotkey short enough for a column: `5F3s…abcd`.
pub fn short_key(hotkey: &str) -> String {
    let count = hotkey.chars().count();
    if count <= 11 {
        return hotkey.to_owned();
    }
    let head: String = hotkey.chars().take(5).collect();
    let tail: String = hotkey.chars().skip(count.saturating_sub(4)).collect();
    format!("{head}…{tail}")
}

/// Cuts a text to a number of characters.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// A text without anything that could control a terminal: validators' words are foreign text.
pub fn harmless(text: &str) -> String {
    text.chars().map(|c| if is_obeyed(c) { ' ' } else { c }).collect()
}

/// Pads to a number of characters; colours are added after this.
pub fn pad(text: &str, width: usize) -> String {
    let count = text.chars().count();
    format!("{text}{}", " ".repeat(width.saturating_sub(count)))
}

/// Pads on the left.
pub fn pad_left(text: &str, width: usize) -> String {
    let count = text.chars().count();
    format!("{}{text}", " ".repeat(width.saturating_sub(count)))
}

/// `12:34:56.789`, UTC.
pub fn clock(at: UnixMs) -> String {
    jiff::Timestamp::from_millisecond(at)
        .map_or_else(|_| at.to_string(), |t| t.strftime("%H:%M:%S%.3f").to_string())
}

/// `2026-01-31 12:34:56.789 UTC`.
pub fn date_time(at: UnixMs) -> String {
    jiff::Timestamp::from_millisecond(at)
        .map_or_else(|_| at.to_string(), |t| t.strftime("%Y-%m-%d %H:%M:%S%.3f UTC").to_string())
}

/// Now, as stores count time.
pub fn now() -> UnixMs {
    jiff::Timestamp::now().as_millisecond()
}

/// A fraction with its sign: `+1.2345 %`.
pub fn percent(share: f64) -> String {
    let text = format!("{:+.4} %", share * 100.0);
    if text == "-0.0000 %" { "+0.0000 %".to_owned() } else { text }
}

/// How long ago: `3s`, `12m`, `5h`, `9d`.
pub fn age(at: UnixMs, now: UnixMs) -> String {
    let seconds = now.saturating_sub(at).max(0) / 1000;
    match seconds {
        0..=59 => format!("{seconds}s"),
        60..=3599 => format!("{}m", seconds / 60),
        3600..=86399 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

/// Milliseconds with as many digits as matter: `0.4 ms`, `12 ms`, `1.25 s`.
pub fn millis(ms: f64) -> String {
    if ms < 10.0 {
        format!("{ms:.1} ms")
    } else if ms < 1000.0 {
        format!("{ms:.0} ms")
    } else {
        format!("{:.2} s", ms / 1000.0)
    }
}

/// A round trip as the records keep it.
pub fn round_trip(us: u64) -> String {
    // Exact up to 285 years.
    #[allow(clippy::cast_precision_loss, reason = "only shown")]
    millis(us as f64 / 1000.0)
}

/// A number of bytes: `12.3 GiB`.
pub fn bytes(count: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "only shown")]
    let mut size = count as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if size < 1024.0 {
            return format!("{size:.1} {unit}");
        }
        size /= 1024.0;
    }
    format!("{size:.1} TiB")
}

/// An amount of 10^-9 units with so many decimals, never rounded up.
pub fn amount(units: u64, decimals: usize) -> String {
    let text = Rao(units).to_string();
    let cut = text.len().saturating_sub(9_usize.saturating_sub(decimals.min(9)));
    text.get(..cut).unwrap_or(&text).to_owned()
}

/// TAO in a sentence: exact, without the zeros at the end.
pub fn tao(amount: Rao) -> String {
    let text = amount.to_string();
    format!("{} TAO", text.trim_end_matches('0').trim_end_matches('.'))
}

/// A share of the chain, as its tools show it.
pub fn score(score: Score) -> String {
    format!("{:.5}", score.fraction())
}

/// How long a number of blocks of 12 seconds takes: `about 24 h`.
pub fn blocks(count: u64) -> String {
    let minutes = count.saturating_mul(12) / 60;
    match minutes {
        0..=119 => format!("about {minutes} min"),
        120..=2879 => format!("about {} h", minutes / 60),
        _ => format!("about {} days", minutes / 1440),
    }
}

/// `1 signal`, `2 signals`.
pub fn count(n: usize, word: &str) -> String {
    if n == 1 { format!("1 {word}") } else { format!("{n} {word}s") }
}

/// What an order says, in a few words: `LONG 0.1x`, `LIMIT SHORT $1000 @60000`, `CANCEL ALL`.
pub fn order(body: &Object, targets: &str) -> String {
    let word = |field: &str| body.get(field).and_then(Json::as_str).unwrap_or_default().to_owned();
    let number = |field: &str| match body.get(field) {
        Some(Json::Number(token)) => Some(token.strip_prefix('-').unwrap_or(token).to_owned()),
        _ => None,
    };
    let mut words: Vec<String> = Vec::new();
    let execution = word("execution_type");
    match execution.as_str() {
        "MARKET" | "" => {}
        "LIMIT_CANCEL" => words.push(format!("CANCEL {}", cut(targets, 9))),
        "FLAT_ALL" => words.push(format!("FLAT_ALL {}", cut(targets, 9))),
        other => words.push(other.to_owned()),
    }
    let side = word("order_type");
    let flat = side == "FLAT";
    if !side.is_empty() && !execution.ends_with("_CANCEL") {
        words.push(side);
    }
    for (field, before, after) in [("leverage", "", "x"), ("value", "$", ""), ("quantity", "", "u")]
    {
        // The size of a FLAT order means nothing.
        if let Some(n) = number(field).filter(|_| !flat) {
            words.push(format!("{before}{n}{after}"));
        }
    }
    for (field, label) in [
        ("limit_price", "@"),
        ("stop_price", "stop "),
        ("stop_loss", "sl "),
        ("take_profit", "tp "),
    ] {
        if let Some(n) = number(field) {
            words.push(format!("{label}{n}"));
        }
    }
    words.join(" ")
}

/// Breaks a text between words into lines of at most `width` characters; a longer word stays whole.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let length = |text: &str| text.chars().count();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if length(line) + 1 + length(word) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// How a delivery's state is shown.
pub const fn style_of(state: DeliveryState) -> Style {
    match state {
        DeliveryState::Accepted => Style::Good,
        DeliveryState::Submitted | DeliveryState::Cancelled | DeliveryState::Unknown => Style::Warn,
        DeliveryState::Rejected | DeliveryState::Denied | DeliveryState::Expired => Style::Bad,
    }
}

/// One validator's record on one or two lines.
pub fn record(out: &Output, v: &ValidatorRecord) -> String {
    let state = out.paint(style_of(v.state), pad(v.state.as_str(), 9));
    let mut line = format!("  {state}  {}  {}", short_key(&v.hotkey), pad(&v.address, 21));
    line.push_str(&format!(
        "  {}",
        pad(&count(usize::try_from(v.attempts).unwrap_or(0), "attempt"), 10)
    ));
    if let Some(us) = v.round_trip_us {
        line.push_str(&format!("  {}", round_trip(us)));
    }
    if !v.required {
        line.push_str("  (copy)");
    }
    if let Some(at) = v.next_try_at {
        line.push_str(&format!("  next try {}", clock(at)));
    }
    let mut more = Vec::new();
    if !v.code.is_empty() && v.code != v.state.as_str() {
        more.push(v.code.clone());
    }
    if !v.message.is_empty() {
        more.push(harmless(&v.message));
    }
    if !more.is_empty() {
        line.push_str(&format!("\n             {}", out.paint(Style::Dim, more.join(": "))));
    }
    line.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_told_in_a_few_words() {
        let said = |text: &str, targets: &str| match Json::parse(text.as_bytes()).unwrap() {
            Json::Object(body) => order(&body, targets),
            _ => String::new(),
        };
        for (body, targets, want) in [
            (
                r#"{"order_type":"LONG","leverage":0.10,"execution_type":"MARKET"}"#,
                "",
                "LONG 0.10x",
            ),
            (r#"{"order_type":"SHORT","value":-1000}"#, "", "SHORT $1000"),
            (r#"{"order_type":"FLAT","leverage":0.0}"#, "", "FLAT"),
            (r#"{"execution_type":"FLAT_ALL"}"#, "ALL", "FLAT_ALL ALL"),
            (
                r#"{"order_type":"LONG","execution_type":"LIMIT","quantity":1,"limit_price":6e4}"#,
                "",
                "LIMIT LONG 1u @6e4",
            ),
        ] {
            assert_eq!(said(body, targets), want);
        }
    }

    #[test]
    fn foreign_text_cannot_drive_the_terminal() {
        assert_eq!(harmless("a\x1b[2Jb\nc\u{9b}"), "a [2Jb c ");
    }

    #[test]
    fn amounts_are_exact_or_cut_but_never_rounded_up() {
        assert_eq!(amount(1_999_999_999, 4), "1.9999");
        assert_eq!(amount(5, 9), "0.000000005");
        assert_eq!(tao(Rao(1_500_000_000)), "1.5 TAO");
        assert_eq!(tao(Rao(10_000_000_000)), "10 TAO");
        assert_eq!(tao(Rao(1)), "0.000000001 TAO");
        assert_eq!((blocks(7_200), blocks(100)), ("about 24 h".into(), "about 20 min".into()));
    }

    #[test]
    fn short_texts_stay_whole() {
        assert_eq!(short_key("5HUGc9tvc9kxrhGdc3rz36dBAEvoqSbJMcGQSTsZSt1F1TkJ"), "5HUGc…1TkJ");
        assert_eq!(short_key("short"), "short");
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!((age(0, 59_999), age(0, 60_000)), ("59s".into(), "1m".into()));
    }
}
