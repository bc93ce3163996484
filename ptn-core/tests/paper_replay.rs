//! Replays with numbers that were reckoned by hand, and price files that nobody should write.
#![cfg(feature = "paper")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::float_cmp,
    reason = "tests"
)]

use std::collections::VecDeque;

use ptn_core::paper::prices::{CsvPrices, PriceSource, Tick};
use ptn_core::paper::replay::{Replay, ReplayError, ReplaySettings, Report, TimedSignal, run};
use ptn_core::paper::validator::PaperError;
use ptn_core::rules::Era;

/// Monday 2024-04-08 12:00 UTC.
const T2024: i64 = 1_712_577_600_000;
/// Thursday 2026-05-28 20:26:40 UTC.
const T2026: i64 = 1_780_000_000_000;

fn settings(era: Era) -> ReplaySettings {
    ReplaySettings { era, hotkey: "firm".to_owned(), account_usd: None }
}

fn ticks(text: &str) -> Result<Vec<Tick>, String> {
    let mut source = CsvPrices::new(text.as_bytes()).map_err(|e| e.to_string())?;
    let mut all = Vec::new();
    while let Some(tick) = source.next_tick().map_err(|e| e.to_string())? {
        all.push(tick);
    }
    Ok(all)
}

fn path(pair: &str, start_ms: i64, prices: &[(i64, f64)]) -> Vec<Tick> {
    let tick = |(s, price): &(i64, f64)| Tick::last(start_ms + s * 1000, pair, *price);
    prices.iter().map(tick).collect()
}

fn signal(start_ms: i64, s: i64, body: &str) -> TimedSignal {
    let at_ms = start_ms + s * 1000;
    TimedSignal::from_line(&format!("{{\"received_ms\":{at_ms},\"signal\":{body}}}")).unwrap()
}

fn replay(era: Era, ticks: &[Tick], signals: &[TimedSignal]) -> Report {
    let mut prices: VecDeque<Tick> = ticks.iter().cloned().collect();
    run(settings(era), &mut prices, signals.to_vec()).unwrap()
}

#[track_caller]
fn near(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-12, "{a}, expected {b}");
}

fn year_2024() -> (Vec<Tick>, Vec<TimedSignal>) {
    let ticks = path("BTCUSD", T2024, &[(0, 100.0), (60, 101.0), (120, 102.0), (180, 102.0)]);
    let signals = vec![
        signal(T2024, 1, r#"{"trade_pair":"BTCUSD","order_type":"LONG","leverage":1.0}"#),
        signal(T2024, 2, r#"{"trade_pair":"NOSUCH","order_type":"LONG","leverage":1.0}"#),
        signal(T2024, 130, r#"{"trade_pair":"BTCUSD","order_type":"FLAT","leverage":1.0}"#),
    ];
    (ticks, signals)
}

#[test]
fn a_trade_of_2024_by_hand() {
    let (ticks, signals) = year_2024();
    let report = replay(Era::Y2024, &ticks, &signals);
    // 2 % on a leverage of 1, times 1 minus the fee of 0.2 % per leverage.
    near(report.total.gross_return, 0.02);
    near(report.total.net_return, 1.02 * 0.998 - 1.0);
    near(report.total.fees, 1.02 * 0.002);
    let [row] = report.pairs.as_slice() else { panic!("{report:?}") };
    assert_eq!((row.pair.as_str(), row.positions, row.open, row.orders), ("BTCUSD", 1, false, 2));
    assert_eq!(row.total, report.total);
    // The fee of the open position is the only fall, and was at its deepest at the first check.
    near(report.drawdown.largest, 0.002);
    let closest = report.drawdown.closest.unwrap();
    assert!((closest.points_left - (99.8 - 90.0)).abs() < 1e-9, "{closest:?}");
    assert_eq!(closest.at_ms, T2024 + 15_000);
    assert_eq!((report.signals.total, report.signals.filled, report.signals.refused), (3, 2, 1));
    assert_eq!((report.refused[0].by, report.refused[0].at_ms), ("miner", T2024 + 2000));
    assert_eq!(report.weight.field.len(), 3);
}

#[test]
fn a_trade_of_2026_by_hand() {
    let ticks = path("BTCUSDC", T2026, &[(0, 100_000.0), (60, 101_000.0), (120, 101_000.0)]);
    let long = r#"{"order_uuid":"a","trade_pair":"BTCUSDC","order_type":"LONG","value":10000}"#;
    let signals = [
        signal(T2026, 1, long),
        signal(T2026, 2, r#"{"order_uuid":"b","trade_pair":"BTCUSDC","order_type":"FLAT"}"#),
        signal(T2026, 10, long),
        signal(T2026, 70, r#"{"order_uuid":"c","trade_pair":"BTCUSDC","order_type":"FLAT"}"#),
    ];
    let report = replay(Era::Y2026, &ticks, &signals);
    // 0.1 BTC gains 1000 a coin; 0.03 % of 10,000 in and of 10,100 out; on 100,000 USD.
    near(report.total.gross_return, 100.0 / 100_000.0);
    near(report.total.fees_usd.unwrap(), 3.0 + 3.03);
    near(report.total.net_return, (100.0 - 6.03) / 100_000.0);
    let [row] = report.pairs.as_slice() else { panic!("{report:?}") };
    near(row.total.net_return, report.total.net_return);
    let codes: Vec<&str> = report.refused.iter().map(|row| row.code.as_str()).collect();
    assert_eq!(codes, ["cooldown", "already_processed"]);
    assert_eq!(
        report.refused[1].text,
        "Order with uuid [a] has already been processed. Please try again with a new order."
    );
    // The exit fee, below the highest value of 100,000 - 3 + 100 USD.
    near(report.drawdown.largest, 3.03 / 100_097.0);
    // A check saw the entry fee: 3 of 100,000 USD, of the nearest limit.
    let closest = report.drawdown.closest.unwrap();
    assert!((closest.points_left - (5.0 - 0.003)).abs() < 1e-9, "{closest:?}");
    let sum: f64 = report.weight.field.iter().map(|m| m.weight).sum();
    near(sum + report.weight.burn, 1.0);
}

#[test]
fn a_crash_of_2024_puts_the_firm_out_at_a_check_and_later_signals_say_so() {
    let ticks = path("BTCUSD", T2024, &[(0, 100.0), (31, 80.0), (46, 120.0), (60, 120.0)]);
    let order = r#"{"trade_pair":"BTCUSD","order_type":"LONG","leverage":1.0}"#;
    let report = replay(Era::Y2024, &ticks, &[signal(T2024, 1, order), signal(T2024, 50, order)]);
    let row = report.eliminated.clone().unwrap();
    assert_eq!(row.elimination_initiated_time_ms, T2024 + 45_000);
    near(row.dd, 0.8 * 0.998);
    // Closed at 80: the recovery is not its own.
    near(report.total.net_return, 0.8 * 0.998 - 1.0);
    assert_eq!(report.refused[0].by, "validator");
    assert!(report.refused[0].text.contains("has been eliminated for reason"), "{report:?}");
    assert_eq!(report.weight.firm, 0.0);
}

#[test]
fn one_go_is_step_by_step() {
    let (ticks, signals) = year_2024();
    let mut replay_ = Replay::new(settings(Era::Y2024), T2024).unwrap();
    replay_.tick(&ticks[0]).unwrap();
    replay_.signal(&signals[0]).unwrap();
    replay_.signal(&signals[1]).unwrap();
    replay_.tick(&ticks[1]).unwrap();
    replay_.tick(&ticks[2]).unwrap();
    replay_.signal(&signals[2]).unwrap();
    replay_.tick(&ticks[3]).unwrap();
    assert!(matches!(replay_.tick(&ticks[0]), Err(ReplayError::Event(PaperError::Late { .. }))));
    let report = replay_.finish().unwrap();
    assert_eq!(report, replay(Era::Y2024, &ticks, &signals));
    // The order in which signals were recorded is not the order of a list.
    let mixed: Vec<TimedSignal> = signals.iter().rev().cloned().collect();
    assert_eq!(report, replay(Era::Y2024, &ticks, &mixed));
}

#[test]
fn prices_times_a_constant_are_the_same_returns() {
    let (ticks, signals) = year_2024();
    let scaled: Vec<Tick> =
        ticks.iter().map(|t| Tick { price: t.price * 4.0, ..t.clone() }).collect();
    let (a, b) = (replay(Era::Y2024, &ticks, &signals), replay(Era::Y2024, &scaled, &signals));
    assert_eq!((a.total, a.curve, a.weight), (b.total, b.curve, b.weight));
}

#[test]
fn a_long_curve_is_thinned_and_keeps_its_deepest_point() {
    let fall = |n: i64| if n == 2500 { 95.0 } else { 100.0 };
    let prices: Vec<(i64, f64)> = (0..5000).map(|n| (n, fall(n))).collect();
    let ticks = path("BTCUSD", T2024, &prices);
    let order = signal(T2024, 1, r#"{"trade_pair":"BTCUSD","order_type":"LONG","leverage":1.0}"#);
    let report = replay(Era::Y2024, &ticks, &[order]);
    let points = report.curve.len();
    assert!(points <= ptn_core::paper::MOST_POINTS && points > 300, "{points}");
    let deepest = report.curve.iter().map(|p| p.drawdown).fold(0.0, f64::max);
    near(deepest, report.drawdown.largest);
    near(deepest, 1.0 - 0.95 * 0.998);
}

#[test]
fn bars_become_four_prices_and_a_weekend_does_not_stretch_them() {
    let text = "time_ms,trade_pair,open,high,low,close\n\
                0,A,10,12,9,11\n0,B,5,5,4,4\n60000,A,11,11,8,9\n\n600000,A,9,9,9,9\n";
    let got: Vec<(i64, String, f64)> =
        ticks(text).unwrap().into_iter().map(|t| (t.at_ms, t.pair.to_string(), t.price)).collect();
    let want = [
        (0, "A", 10.0),
        (0, "B", 5.0),
        (15_000, "A", 9.0),
        (15_000, "B", 5.0),
        (30_000, "A", 12.0),
        (30_000, "B", 4.0),
        (45_000, "A", 11.0),
        (45_000, "B", 4.0),
        (60_000, "A", 11.0),
        (75_000, "A", 11.0),
        (90_000, "A", 8.0),
        (105_000, "A", 9.0),
        (600_000, "A", 9.0),
        (615_000, "A", 9.0),
        (630_000, "A", 9.0),
        (645_000, "A", 9.0),
    ];
    let want: Vec<_> = want.into_iter().map(|(t, p, x)| (t, p.to_owned(), x)).collect();
    assert_eq!(got, want);
}

#[test]
fn bad_price_files_name_line_and_field() {
    let tick = |rest: &str| format!("time_ms,trade_pair,price\n5,A,1\n{rest}");
    for (text, want) in [
        (
            String::new(),
            "line 1, header: \"\" is not a header of prices; write time_ms,trade_pair,price or time_ms,trade_pair,open,high,low,close",
        ),
        (
            "time_ms,price\n".to_owned(),
            "line 1, header: \"time_ms,price\" is not a header of prices; write time_ms,trade_pair,price or time_ms,trade_pair,open,high,low,close",
        ),
        (tick("6,A,0"), "line 3, price: \"0\" is not allowed; write a number above 0"),
        (tick("6,A,NaN"), "line 3, price: \"NaN\" is not allowed; write a number above 0"),
        (
            tick("\n6.5,A,1"),
            "line 4, time_ms: \"6.5\" is not allowed; write ms since 1970, a whole number",
        ),
        (
            tick("6,,1"),
            "line 3, trade_pair: \"\" is not allowed; write the id of a pair, such as BTCUSDC",
        ),
        (tick("6,A"), "line 3: 2 values, but the header has 3; write one per column"),
        (tick("4,A,1"), "line 3, time_ms: 4 comes after 5; sort the file by time_ms"),
        (
            "trade_pair,time_ms,open,high,low,close\nA,1,5,4,3,4\n".to_owned(),
            "line 2, open: 5 is outside of low 3 to high 4; correct the bar",
        ),
    ] {
        assert_eq!(ticks(&text).unwrap_err(), want);
    }
    let mut none = VecDeque::new();
    let error = run(settings(Era::Y2024), &mut none, Vec::new()).unwrap_err();
    assert_eq!(error.code(), "no_prices");
}

#[test]
fn records_are_read_as_each_program_wrote_them() {
    let python = r#"{"signal_data":{"trade_pair":"BTCUSD","order_type":"LONG","leverage":1.0},"created_orders":{},"processing_timestamp":"2024-04-08T12:00:01.250000"}"#;
    let read = TimedSignal::from_processed("the-name", python).unwrap();
    assert_eq!((read.received_ms, read.uuid()), (T2024 + 1250, "the-name"));
    for (line, field) in [
        ("[]", "line"),
        (r#"{"signal":{}}"#, "received_ms"),
        (r#"{"received_ms":-1,"signal":{}}"#, "received_ms"),
        (r#"{"received_ms":1,"signal":[]}"#, "signal"),
    ] {
        assert_eq!(TimedSignal::from_line(line).unwrap_err().field, field);
    }
    let no_time = python.replace("2024-04-08T12:00:01.250000", "yesterday");
    assert_eq!(
        TimedSignal::from_processed("n", &no_time).unwrap_err().to_string(),
        "processing_timestamp: \"yesterday\" is no time such as 2024-04-08T12:00:00"
    );
}
