//! Prices as their readers get them: files, made-up ones, pushed ones, and the text that names a source.
#![cfg(feature = "paper")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::float_cmp,
    reason = "tests"
)]

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use ptn_core::market_hours::MarketHours;
use ptn_core::paper::prices::push::{PushError, PushLimits, read};
use ptn_core::paper::prices::pushed::{TICKS_PER_PAIR, channel};
use ptn_core::paper::prices::random_walk::{WalkError, WalkPair};
use ptn_core::paper::prices::{
    CsvPrices, FeedUrl, MAX_MS, PriceSource, PriceSpec, Pushed, PushedError, RandomWalk, Tick,
};
use ptn_core::rules::{Era, Rules};
use ptn_core::trade_pair::TradePairClass;

/// Thursday 2026-05-28 20:26:40 UTC.
const NOW: i64 = 1_780_000_000_000;
const HOUR: i64 = 3_600_000;

fn all(mut source: impl PriceSource) -> Result<Vec<Tick>, String> {
    let mut ticks = Vec::new();
    while let Some(tick) = source.next_tick().map_err(|e| e.to_string())? {
        ticks.push(tick);
    }
    Ok(ticks)
}

fn csv(text: &str) -> Result<Vec<Tick>, String> {
    all(CsvPrices::new(text.as_bytes()).map_err(|e| e.to_string())?)
}

// Files.

#[test]
fn a_tick_file_may_have_a_book_in_any_column_and_leave_it_empty() {
    let got = csv(
        "ask,time_ms,trade_pair,price,bid\n1.2,5,EURUSD,1.1,1.0\n,6,BTCUSDC,9,\n,7,EURUSD,2,1.5\n",
    );
    let want = [
        Tick::last(5, "EURUSD", 1.1).with_book(1.0, 1.2),
        Tick::last(6, "BTCUSDC", 9.0),
        Tick { bid: Some(1.5), ..Tick::last(7, "EURUSD", 2.0) },
    ];
    assert_eq!(got.unwrap(), want);
    assert_eq!(csv("time_ms,trade_pair,price,ask\n1,A,2,3\n").unwrap()[0].ask, Some(3.0));
}

#[test]
fn a_book_must_be_prices_that_do_not_cross_and_belongs_to_ticks() {
    let row = |row: &str| csv(&format!("time_ms,trade_pair,price,bid,ask\n{row}\n")).unwrap_err();
    assert_eq!(row("1,A,2,3,2.5"), "line 2, ask: 2.5 is below the bid 3; correct one of them");
    assert_eq!(row("1,A,2,0,2"), "line 2, bid: \"0\" is not allowed; write a number above 0");
    assert_eq!(row("1,A,2,1,inf"), "line 2, ask: \"inf\" is not allowed; write a number above 0");
    for header in [
        "time_ms,trade_pair,price,bid,bid",
        "time_ms,trade_pair,bid,ask",
        "time_ms,trade_pair,open,high,low,close,bid",
    ] {
        assert!(csv(&format!("{header}\n")).unwrap_err().starts_with("line 1, header"), "{header}");
    }
}

#[test]
fn a_quote_of_a_tick_has_its_book_and_nothing_else() {
    let quote = Tick::last(5, "EURUSD", 1.1).with_book(1.0, 1.2).quote();
    assert_eq!((quote.at_ms, quote.bid_or_price(), quote.ask_or_price()), (5, 1.0, 1.2));
    assert_eq!((quote.price, quote.slippage, quote.quote_usd), (1.1, 0.0, None));
    assert!(quote.is_usable());
}

// Made-up prices.

fn hash(ticks: &[Tick], pair: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for tick in ticks.iter().filter(|tick| tick.pair.as_str() == pair) {
        for price in [tick.price, tick.bid.unwrap(), tick.ask.unwrap()] {
            for byte in price.to_le_bytes() {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
    }
    hash
}

fn walk_pair(pair: &str) -> WalkPair {
    WalkPair {
        pair: pair.into(),
        class: TradePairClass::Crypto,
        source: "vanta".to_owned(),
        start: 100.0,
        volatility: 0.03,
        drift: 0.0,
        jumps_per_day: 0.0,
        jump_size: 0.0,
        spread: 0.0,
        decimals: 10,
    }
}

/// The numbers come from a second implementation in another language.
#[test]
fn the_same_seed_gives_the_same_prices_on_every_machine() {
    let pair = |pair, start, volatility, jumps_per_day, jump_size, spread, decimals| WalkPair {
        start,
        volatility,
        jumps_per_day,
        jump_size,
        spread,
        decimals,
        ..walk_pair(pair)
    };
    let pairs = vec![
        pair("BTCUSDC", 100_000.0, 0.035, 0.5, 0.02, 0.0001, 1),
        pair("EURUSD", 1.1, 0.005, 0.05, 0.004, 0.00005, 5),
    ];
    let walk = RandomWalk::new(pairs, 42, NOW, 60_000).unwrap();
    let ticks = all(walk.until(NOW + 99_999 * 60_000)).unwrap();
    assert_eq!(ticks.len(), 200_000);
    let want = [
        Tick::last(NOW, "BTCUSDC", 100_000.0).with_book(99_995.0, 100_005.0),
        Tick::last(NOW, "EURUSD", 1.1).with_book(1.099_97, 1.100_03),
        Tick::last(NOW + 60_000, "BTCUSDC", 100_085.5).with_book(100_080.4, 100_090.6),
        Tick::last(NOW + 60_000, "EURUSD", 1.100_06).with_book(1.100_03, 1.100_09),
    ];
    assert_eq!(ticks[..4], want);
    assert_eq!(hash(&ticks, "BTCUSDC"), 0xa88f_1763_593b_1249);
    assert_eq!(hash(&ticks, "EURUSD"), 0xa348_aa7b_1cd6_f2f3);
}

#[test]
fn the_path_of_a_pair_does_not_depend_on_its_neighbours() {
    let rules = Rules::load(Era::Y2026).unwrap();
    let walk = |pairs: &[&str], seed| {
        let pairs: Vec<_> = pairs.iter().map(|pair| (*pair).into()).collect();
        let walk = RandomWalk::of(&rules.catalogue, &pairs, seed, NOW, 1000).unwrap();
        all(walk.until(NOW + HOUR)).unwrap()
    };
    let only = |ticks: Vec<Tick>, pair: &str| -> Vec<Tick> {
        ticks.into_iter().filter(|tick| tick.pair.as_str() == pair).collect()
    };
    let alone = walk(&["ETHUSDC"], 1);
    assert_eq!(alone.len(), 3601);
    assert_eq!(alone, only(walk(&["BTCUSDC", "ETHUSDC", "EURUSD"], 1), "ETHUSDC"));
    assert_ne!(alone, walk(&["ETHUSDC"], 2));
}

#[test]
fn a_walk_has_the_volatility_the_drift_and_the_jumps_that_it_was_given() {
    let step = 60_000;
    let n = 200_000_i64;
    let moves = |pair: WalkPair| {
        let walk = RandomWalk::new(vec![pair], 9, NOW, step).unwrap();
        let ticks = all(walk.until(NOW + n * step)).unwrap();
        let moves: Vec<f64> = ticks.windows(2).map(|w| (w[1].price / w[0].price).ln()).collect();
        moves
    };
    let per_day = 1440.0;
    let quiet = moves(walk_pair("A"));
    let square: f64 = quiet.iter().map(|m| m * m).sum::<f64>() / quiet.len() as f64;
    assert!(((square * per_day).sqrt() / 0.03 - 1.0).abs() < 0.01, "{square}");
    let still = WalkPair { volatility: 0.0, drift: 0.01, ..walk_pair("A") };
    let growth: f64 = moves(still).iter().sum::<f64>() / (n as f64 / per_day);
    assert!((growth - 0.01).abs() < 1e-6, "{growth}");
    let jumpy =
        WalkPair { volatility: 0.0, jumps_per_day: 20.0, jump_size: 0.05, ..walk_pair("A") };
    let jumps = moves(jumpy).into_iter().filter(|m| m.abs() > 1e-9).count() as f64;
    let expected = 20.0 * n as f64 / per_day;
    assert!((jumps / expected - 1.0).abs() < 0.1, "{jumps} jumps, expected {expected}");
}

#[test]
fn a_closed_market_has_no_prices_and_opens_where_it_closed() {
    let rules = Rules::load(Era::Y2026).unwrap();
    let friday_20_00 = 1_780_084_800_000; // 2026-05-29 20:00 UTC, an hour before forex closes.
    let pairs = ["BTCUSDC".into(), "EURUSD".into(), "SPX".into()];
    let walk = RandomWalk::of(&rules.catalogue, &pairs, 5, friday_20_00, 600_000).unwrap();
    let walk = walk.with_hours(MarketHours::load().unwrap()).until(friday_20_00 + 72 * HOUR);
    let mut by_pair: BTreeMap<String, Vec<Tick>> = BTreeMap::new();
    for tick in all(walk).unwrap() {
        by_pair.entry(tick.pair.to_string()).or_default().push(tick);
    }
    assert_eq!(by_pair["BTCUSDC"].len(), 72 * 6 + 1);
    assert!(!by_pair.contains_key("SPX"), "native indices never open");
    let euro = &by_pair["EURUSD"];
    let gap = euro.windows(2).find(|w| w[1].at_ms - w[0].at_ms > 600_000).unwrap();
    assert_eq!(gap[0].at_ms, friday_20_00 + HOUR - 600_000);
    assert_eq!(gap[1].at_ms, friday_20_00 + 49 * HOUR, "Sunday 21:00 UTC");
    assert!((gap[1].price / gap[0].price - 1.0).abs() < 0.01);
}

#[test]
fn a_walk_of_closed_markets_only_skips_the_weekend_and_may_have_no_price_at_all() {
    let rules = Rules::load(Era::Y2026).unwrap();
    let saturday = 1_780_142_400_000; // 2026-05-30 12:00 UTC
    let walk = |pair: &str, step| {
        let walk = RandomWalk::of(&rules.catalogue, &[pair.into()], 5, saturday, step).unwrap();
        walk.with_hours(MarketHours::load().unwrap())
    };
    // One step of 7 ms after the other would take a while; so would looking for a market that never opens.
    let first = walk("EURUSD", 7).next_tick().unwrap().unwrap();
    let sunday_21_00 = saturday + 33 * HOUR;
    assert!((sunday_21_00..sunday_21_00 + 7).contains(&first.at_ms), "{first:?}");
    assert_eq!((first.at_ms - saturday) % 7, 0);
    assert_eq!(first.price, 1.1);
    assert_eq!(walk("SPX", 7).next_tick().unwrap(), None);
    let last = RandomWalk::new(vec![walk_pair("A")], 1, MAX_MS, 1000).unwrap();
    assert_eq!(all(last.until(i64::MAX)).unwrap().len(), 1, "no time comes after the last one");
}

#[test]
fn a_walk_that_cannot_be_says_which_setting_is_wrong() {
    let rules = Rules::load(Era::Y2026).unwrap();
    let named = |pairs: &[&str]| {
        let pairs: Vec<_> = pairs.iter().map(|pair| (*pair).into()).collect();
        RandomWalk::of(&rules.catalogue, &pairs, 1, NOW, 1000).unwrap_err()
    };
    assert_eq!(named(&[]).code(), "walk_no_pairs");
    assert_eq!(named(&["BTCUSDC", "BTCUSDC"]).code(), "walk_pair_twice");
    let unknown = named(&["btcusdc"]);
    assert_eq!(
        (unknown.code(), unknown.to_string().as_str()),
        (
            "unknown_trade_pair",
            "btcusdc is no pair of these rules, BTCUSDC is; ids are case-sensitive, such as BTCUSDC"
        )
    );
    for (field, bad) in [
        ("start", WalkPair { start: 0.0, ..walk_pair("A") }),
        ("start", WalkPair { start: f64::NAN, ..walk_pair("A") }),
        ("volatility", WalkPair { volatility: -0.1, ..walk_pair("A") }),
        ("drift", WalkPair { drift: f64::INFINITY, ..walk_pair("A") }),
        ("jump_size", WalkPair { jump_size: 2.0, ..walk_pair("A") }),
        ("jumps_per_day", WalkPair { jumps_per_day: f64::NAN, ..walk_pair("A") }),
        ("spread", WalkPair { spread: 0.6, ..walk_pair("A") }),
        ("decimals", WalkPair { decimals: 11, ..walk_pair("A") }),
    ] {
        match RandomWalk::new(vec![bad.clone()], 1, NOW, 1000).unwrap_err() {
            WalkError::Setting { field: named, .. } => assert_eq!(named, field),
            other => panic!("{bad:?}: {other}"),
        }
    }
    for (start_ms, step_ms) in [(-1, 1000), (NOW, 0), (NOW, -5), (NOW, 25 * HOUR)] {
        assert!(RandomWalk::new(vec![walk_pair("A")], 1, start_ms, step_ms).is_err());
    }
}

// Pushed prices.

#[test]
fn a_reader_in_a_thread_waits_for_prices_and_ends_with_the_senders() {
    let (sender, mut prices) = channel(10);
    let (seen, was_seen) = mpsc::channel();
    let reader = thread::spawn(move || {
        while let Some(tick) = prices.next_tick().unwrap() {
            seen.send(tick.price).unwrap();
        }
    });
    let other = sender.clone();
    for n in 1..=5 {
        let pushed = sender.push(vec![Tick::last(NOW + n, "A", n as f64)]).unwrap();
        assert_eq!(pushed, Pushed { taken: 1, older: 0 });
        // Only then is the next one pushed, so that the reader has nothing to read in between.
        assert_eq!(was_seen.recv_timeout(Duration::from_secs(20)), Ok(n as f64));
    }
    drop(sender);
    other.push(vec![Tick::last(NOW + 6, "A", 6.0)]).unwrap();
    drop(other);
    reader.join().unwrap();
    assert_eq!(was_seen.recv(), Ok(6.0));
}

#[tokio::test]
async fn a_reader_in_a_task_is_woken_by_prices_and_by_the_end() {
    let (sender, mut prices) = channel(10);
    let reader = tokio::spawn(async move {
        let mut got = Vec::new();
        while let Some(tick) = prices.next().await {
            got.push(tick.price);
        }
        got
    });
    tokio::task::yield_now().await;
    sender.push(vec![Tick::last(NOW, "A", 1.0), Tick::last(NOW, "B", 2.0)]).unwrap();
    tokio::task::yield_now().await;
    sender.close();
    let late = sender.push(vec![Tick::last(NOW, "A", 3.0)]);
    assert_eq!(late, Err(PushedError::Closed));
    assert_eq!(reader.await.unwrap(), [1.0, 2.0]);
}

#[test]
fn a_slow_reader_gets_the_latest_price_of_every_pair_and_memory_stays_bounded() {
    let (sender, mut prices) = channel(3);
    for n in 0..10_000_i64 {
        let pair = ["A", "B", "C"][usize::try_from(n % 3).unwrap()];
        sender.push(vec![Tick::last(NOW + n, pair, 1.0 + n as f64)]).unwrap();
        assert!(sender.stats().waiting <= 3 * TICKS_PER_PAIR);
    }
    let mut last = BTreeMap::new();
    while let Some(tick) = prices.try_next() {
        let before = last.insert(tick.pair.to_string(), tick.at_ms);
        assert!(before < Some(tick.at_ms), "the order within a pair stays");
    }
    let want = [("A", NOW + 9999), ("B", NOW + 9997), ("C", NOW + 9998)];
    assert_eq!(last, want.map(|(pair, at)| (pair.to_owned(), at)).into());
    let stats = sender.stats();
    assert_eq!((stats.taken, stats.waiting, stats.pairs), (10_000, 0, 3));
    assert!(stats.conflated > 9_900, "{stats:?}");
}

#[test]
fn a_push_is_taken_whole_or_not_at_all() {
    let (sender, mut prices) = channel(2);
    let tick = |pair: &str, at_ms, price| Tick::last(at_ms, pair, price);
    let refused = sender.push(vec![tick("A", NOW, 1.0), tick("B", NOW, f64::NAN)]).unwrap_err();
    assert_eq!(refused, PushedError::Flaw { row: 2, field: "price" });
    let crossed = sender.push(vec![tick("A", NOW, 1.0).with_book(2.0, 1.0)]).unwrap_err();
    assert_eq!(crossed, PushedError::Flaw { row: 1, field: "ask" });
    let many = ["A", "B", "C"].map(|pair| tick(pair, NOW, 1.0)).to_vec();
    let refused = sender.push(many).unwrap_err();
    assert_eq!(refused, PushedError::Pairs { row: 3, pair: "C".into(), most: 2 });
    assert_eq!(prices.try_next(), None);
    let mixed = vec![tick("A", NOW, 1.0), tick("A", NOW - 1, 2.0), tick("A", NOW, 3.0)];
    assert_eq!(sender.push(mixed).unwrap(), Pushed { taken: 2, older: 1 });
    assert_eq!(prices.try_next().map(|t| t.price), Some(1.0));
    assert_eq!(prices.try_next().map(|t| t.price), Some(3.0));
    drop(prices);
    assert_eq!(sender.push(vec![tick("A", NOW, 1.0)]), Err(PushedError::Closed));
}

// Bodies of pushes.

fn read_text(body: &str) -> Result<Vec<Tick>, String> {
    read(body.as_bytes(), NOW, &PushLimits::default()).map_err(|e| e.to_string())
}

#[test]
fn a_push_is_an_object_an_array_or_lines_with_numbers_or_strings() {
    let a = Tick::last(NOW - 5, "BTCUSDC", 100_000.5).with_book(100_000.4, 100_000.6);
    let b = Tick::last(NOW, "EURUSD", 1.1);
    let first = r#"{"trade_pair":"BTCUSDC","price":"100000.5","bid":100000.4,"ask":"100000.6","time_ms":1779999999995}"#;
    let second = "{ \"price\": 1.1e0, \"trade_pair\": \"EURUSD\", \"bid\": null }";
    assert_eq!(read_text(first).unwrap(), std::slice::from_ref(&a));
    assert_eq!(
        read_text(&format!("\u{feff}[{first},\n{second}] ")).unwrap(),
        [a.clone(), b.clone()]
    );
    assert_eq!(read_text(&format!("{first}\n{second}\r\n\n")).unwrap(), [a, b]);
    let time_text = r#"{"trade_pair":"A","price":1,"time_ms":"5"}"#;
    assert_eq!(read_text(time_text).unwrap()[0].at_ms, 5);
}

#[test]
fn a_wrong_push_names_row_and_field() {
    let fine = r#"{"trade_pair":"A","price":1}"#;
    for (row, want) in [
        (
            r#"{"price":1}"#,
            "row 2, trade_pair: missing; write the id of a pair, such as \"BTCUSDC\"",
        ),
        (r#"{"trade_pair":"A"}"#, "row 2, price: missing; write a number above 0"),
        (
            r#"{"trade_pair":"","price":1}"#,
            "row 2, trade_pair: \"\" is not allowed; write the id of a pair, such as \"BTCUSDC\"",
        ),
        (
            r#"{"trade_pair":5,"price":1}"#,
            "row 2, trade_pair: 5 is not allowed; write the id of a pair, such as \"BTCUSDC\"",
        ),
        (
            r#"{"trade_pair":"A","price":"NaN"}"#,
            "row 2, price: \"NaN\" is not allowed; write a number above 0",
        ),
        (
            r#"{"trade_pair":"A","price":true}"#,
            "row 2, price: true is not allowed; write a number above 0",
        ),
        (
            r#"{"trade_pair":"A","price":1e999}"#,
            "row 2, price: 1e999 is not allowed; write a number above 0",
        ),
        (
            r#"{"trade_pair":"A","price":1,"bid":-1}"#,
            "row 2, bid: -1 is not allowed; write a number above 0",
        ),
        (
            r#"{"trade_pair":"A","price":1,"bid":2,"ask":"1.5"}"#,
            "row 2, ask: \"1.5\" is below the bid 2; correct one of them",
        ),
        (
            r#"{"trade_pair":"A","price":1,"time_ms":1.5}"#,
            "row 2, time_ms: 1.5 is not allowed; write ms since 1970, a whole number",
        ),
        (
            r#"{"trade_pair":"A","price":1,"time_ms":-1}"#,
            "row 2, time_ms: -1 is not allowed; write ms since 1970, a whole number",
        ),
        (
            r#"{"trade_pair":"A","price":1,"time_ms":1780000060000}"#,
            "row 2, time_ms: 1780000060000 is 60000 ms ahead of this clock, 5000 are allowed; set the clock or leave time_ms out",
        ),
        (
            r#"{"trade_pair":"A","price":1,"time":5}"#,
            "row 2, \"time\": no such field; there are trade_pair, price, bid, ask, time_ms",
        ),
    ] {
        assert_eq!(read_text(&format!("[{fine},{row}]")).unwrap_err(), want);
        assert_eq!(read_text(&format!("{fine}\n{row}")).unwrap_err(), want);
    }
    assert!(read_text(&format!("{fine}\n5")).unwrap_err().starts_with("row 2: not a JSON object"));
    assert!(read_text(&format!("{fine}\n{{")).unwrap_err().starts_with("row 2: not a JSON object"));
    assert!(read_text("price=1").unwrap_err().starts_with("row 1: not a JSON object"));
    for empty in ["", " \n", "[]"] {
        assert_eq!(read(empty.as_bytes(), NOW, &PushLimits::default()), Err(PushError::Empty));
    }
}

#[test]
fn a_push_is_bounded_in_bytes_rows_and_pairs() {
    let row = r#"{"trade_pair":"BTCUSDC","price":1}"#;
    let mut limits = PushLimits::for_pairs(["BTCUSDC".into()]);
    limits.most_rows = 2;
    let body = |rows: usize| vec![row; rows].join("\n");
    assert_eq!(read(body(2).as_bytes(), NOW, &limits).unwrap().len(), 2);
    let many = read(body(3).as_bytes(), NOW, &limits).unwrap_err();
    assert!(many.is_too_large() && many == PushError::TooManyRows { most: 2 });
    let many = read(format!("[{row},{row},{row}]").as_bytes(), NOW, &limits).unwrap_err();
    assert_eq!(many, PushError::TooManyRows { most: 2 });
    limits.most_bytes = row.len() - 1;
    let long = read(row.as_bytes(), NOW, &limits).unwrap_err();
    assert_eq!((long.code(), long.is_too_large()), ("prices_too_large", true));
    let other = read(br#"{"trade_pair":"X\u001bY","price":1}"#, NOW, &PushLimits::default());
    assert!(!other.unwrap_err().to_string().contains('\u{1b}'));
    let limits = PushLimits::for_pairs(["BTCUSDC".into()]);
    let other = read(br#"{"trade_pair":"ETHUSDC","price":1}"#, NOW, &limits).unwrap_err();
    assert_eq!((other.code(), other.is_too_large()), ("prices_unknown_pair", false));
}

// The text that names a source.

#[test]
fn every_kind_of_source_has_a_text_that_reads_back() {
    for (text, shown) in [
        ("prices.csv", "csv:prices.csv"),
        ("csv:prices.csv", "csv:prices.csv"),
        ("csv:push", "csv:push"),
        ("./walk", "csv:./walk"),
        ("/data/a:b.csv", "csv:/data/a:b.csv"),
        ("walk:0", "walk:0"),
        ("walk:18446744073709551615", "walk:18446744073709551615"),
        ("walk:7:BTCUSDC,ETHUSDC", "walk:7:BTCUSDC,ETHUSDC"),
        ("push", "push"),
        ("coinbase", "coinbase"),
        ("coinbase:wss://example.com", "coinbase:wss://example.com"),
        ("coinbase:ws://127.0.0.1:8080/x?y", "coinbase:ws://127.0.0.1:8080/x?y"),
        ("coinbase:ws://[::1]:8080", "coinbase:ws://[::1]:8080"),
    ] {
        let spec: PriceSpec = text.parse().unwrap();
        assert_eq!(spec.to_string(), shown);
        assert_eq!(shown.parse::<PriceSpec>().unwrap(), spec);
        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<PriceSpec>(&json).unwrap(), spec);
    }
    let url: FeedUrl = "wss://feed.example.com/a".parse().unwrap();
    assert_eq!((url.host(), url.port(), url.is_encrypted()), ("feed.example.com", 443, true));
    let url: FeedUrl = "ws://[::1]:81".parse().unwrap();
    assert_eq!((url.host(), url.port(), url.is_encrypted()), ("::1", 81, false));
}

#[test]
fn a_text_that_names_nothing_says_what_is_allowed() {
    for text in [
        "",
        "csv:",
        "walk",
        "walk:",
        "walk:x",
        "walk:-1",
        "walk:+1",
        "walk:1:",
        "walk:1:A,,B",
        "walk:1:A,A",
        "walk:18446744073709551616",
        "push:x",
        "coinbase:",
        "coinbase:example.com",
        "coinbase:http://example.com",
        "coinbase:wss://",
        "coinbase:wss://:443",
        "coinbase:wss://a:0",
        "coinbase:wss://a:65536",
        "coinbase:wss://a b",
        "coinbase:wss://[::1",
        "wss://example.com",
        "http://example.com/prices.csv",
        "coinbase:wss://a#b",
    ] {
        let error = text.parse::<PriceSpec>().unwrap_err().to_string();
        assert!(error.contains("walk:SEED:BTCUSDC,ETHUSDC"), "{text}: {error}");
    }
    let plain = "coinbase:ws://example.com".parse::<PriceSpec>().unwrap_err().to_string();
    assert!(plain.contains("this machine only"), "{plain}");
    let secret = "coinbase:wss://me:secret@example.com".parse::<PriceSpec>().unwrap_err();
    assert!(!secret.to_string().contains("secret"), "{secret}");
}

// Whatever comes in.

proptest! {
    #[test]
    fn no_body_and_no_file_makes_a_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let limits = PushLimits::default();
        drop(read(&bytes, NOW, &limits));
        if let Ok(mut file) = CsvPrices::new(bytes.as_slice()) {
            for _ in 0..50 {
                if !matches!(file.next_tick(), Ok(Some(_))) {
                    break;
                }
            }
        }
    }

    #[test]
    fn what_is_nearly_right_never_becomes_a_price_that_no_market_has(
        pair in "[A-Z]{0,8}|.{0,50}",
        price in r#"-?[0-9]{1,4}(\.[0-9]{1,3})?(e-?[0-9]{1,3})?|"[^"\\]{0,8}"|null|true|\{\}"#,
        bid in r#"-?[0-9]{1,4}|"[0-9.]{0,8}"|null|\[\]"#,
        time in r#"-?[0-9]{1,20}|"[0-9]{0,14}"|null|1\.5"#,
    ) {
        let name = serde_json::to_string(&pair).unwrap();
        let row = format!(r#"{{"trade_pair":{name},"price":{price},"bid":{bid},"time_ms":{time}}}"#);
        let limits = PushLimits::default();
        for body in [row.clone(), format!("[{row}]"), format!("{row}\n{row}")] {
            match read(body.as_bytes(), NOW, &limits) {
                Ok(ticks) => for tick in ticks {
                    prop_assert_eq!(tick.flaw(), None);
                    prop_assert!(tick.at_ms <= NOW + limits.most_ahead_ms);
                },
                Err(e) => prop_assert!(!e.to_string().chars().any(char::is_control), "{}", e),
            }
        }
        let cell = |text: &str| text.replace(['"', ','], "");
        let file = format!("time_ms,trade_pair,price,bid\n{},{pair},{},{}\n", cell(&time), cell(&price), cell(&bid));
        for tick in csv(&file).unwrap_or_default() {
            prop_assert_eq!(tick.flaw(), None);
        }
    }

    #[test]
    fn a_source_that_can_be_read_reads_back(text in "(csv:|walk:|coinbase:|push)?[ -~]{0,30}") {
        if let Ok(spec) = text.parse::<PriceSpec>() {
            prop_assert_eq!(spec.to_string().parse::<PriceSpec>().unwrap(), spec);
        }
    }

    #[test]
    fn a_walk_is_above_zero_and_has_its_places_however_wild_it_is(
        seed in any::<u64>(),
        volatility in 0.0..10.0_f64,
        drift in -10.0..10.0_f64,
        jumps_per_day in 0.0..1e6_f64,
        jump_size in 0.0..1.0_f64,
        spread in 0.0..0.5_f64,
        decimals in 0..=10_u8,
        step_ms in 1..=86_400_000_i64,
    ) {
        let pair = WalkPair {
            volatility, drift, jumps_per_day, jump_size, spread, decimals, ..walk_pair("A")
        };
        let mut walk = RandomWalk::new(vec![pair], seed, NOW, step_ms).unwrap();
        for _ in 0..200 {
            let tick = walk.next_tick().unwrap().unwrap();
            prop_assert_eq!(tick.flaw(), None);
            prop_assert!(tick.bid.is_none_or(|bid| bid <= tick.price));
            prop_assert!(tick.ask.is_none_or(|ask| ask >= tick.price));
            let shown = format!("{:.*}", usize::from(decimals), tick.price);
            prop_assert_eq!(shown.parse::<f64>().unwrap(), tick.price);
        }
    }
}
