//! A miner of the real kind and a standing validator: every category of refusal, the validator's
//! words, and what the miner's user saw.

use std::time::Duration;

use ptn_tests::http::submit_order;
use ptn_tests::process::{Daemon, Home, PATIENCE};
use serde_json::{Value, json};

use super::{MINER, Paper};

/// A Wednesday on which every market is open, after the day from which miners are put out.
const OPEN: &str = "2026-11-18T15:00:00Z";
/// Saturday: only crypto trades.
const SATURDAY: &str = "2026-06-13T12:00:00Z";

/// A validator, and a miner with its server in front of it.
struct Conversation {
    paper: Paper,
    home: Home,
    _miner: Daemon,
    server: String,
    n: u32,
    _dir: tempfile::TempDir,
}

impl Conversation {
    async fn start(era: &str, paper: &[&str], miner: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut flags = vec!["--rules", era];
        flags.extend(paper);
        let paper = Paper::start(&dir.path().join("paper"), &flags).await;
        let home = Home::new(std::slice::from_ref(&paper.entry));
        let mut flags = vec!["--rules", era, "--server.listen", "127.0.0.1:0"];
        flags.extend(["--delivery.pacing", "off", "--delivery.waits", "10ms,10ms"]);
        flags.extend(["--limits", "off", "--rules.unknown-pairs", "pass"]);
        flags.extend(miner);
        let mut miner = home.miner(MINER, &flags);
        let up = miner.up().await;
        let server = up["server"].as_str().unwrap().to_owned();
        miner.ignore_log();
        Self { paper, home, _miner: miner, server, n: 0, _dir: dir }
    }

    /// Sends an order; the HTTP status, and what the user was told.
    async fn send(&mut self, mut order: Value) -> (u16, String) {
        if order.get("order_uuid").is_none() {
            self.n += 1;
            let uuid = format!("00000000-0000-4000-8000-{:012}", self.n);
            order["order_uuid"] = json!(uuid);
        }
        let (status, body) = submit_order(&self.server, &order.to_string()).await;
        (status, body.to_string())
    }

    async fn taken(&mut self, order: Value) {
        let (status, told) = self.send(order).await;
        assert_eq!(status, 200, "{told}");
    }

    /// The order is refused, the user sees the validator's words, and so does whoever looks at the
    /// files afterwards.
    async fn refused(&mut self, order: Value, words: &str) {
        let (status, told) = self.send(order).await;
        assert_eq!(status, 400, "{told}");
        assert!(told.contains(words), "{words:?} is not in {told}");
        let end = tokio::time::Instant::now() + PATIENCE;
        while !self.is_in_a_file(words) {
            assert!(tokio::time::Instant::now() < end, "{words:?} is in no file");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn is_in_a_file(&self, words: &str) -> bool {
        let folder = self.home.data().join("failed_signals");
        let names = self.home.names("failed_signals").into_iter();
        names
            .map(|name| std::fs::read_to_string(folder.join(name)).unwrap())
            .any(|text| text.contains(words))
    }
}

fn order(pair: &str, side: &str, size: (&str, f64)) -> Value {
    let mut order = json!({"trade_pair": pair, "order_type": side});
    order[size.0] = json!(size.1);
    order
}

#[tokio::test(flavor = "multi_thread")]
async fn the_refusals_of_2026_reach_the_user() {
    // An hour passes in a second, so that no order waits for another; what is about time has a test
    // of its own.
    let flags = ["--start", OPEN, "--speed", "3600"];
    let mut talk = Conversation::start("2026", &flags, &[]).await;
    talk.paper.prices(&[("BTCUSDC", 100_000.0), ("ETHUSDC", 3_000.0), ("EURUSD", 1.1)]).await;
    let long = |x: f64| order("BTCUSDC", "LONG", ("leverage", x));

    // R9, R17, R16: the validator as a whole.
    talk.paper.post("/api/condition", &json!({"restarting": true})).await;
    talk.refused(long(0.1), "Validator is restarting due to update").await;
    talk.paper.post("/api/condition", &json!({"restarting": false, "syncing": true})).await;
    talk.refused(long(0.1), "Validator is syncing positions").await;
    talk.paper.post("/api/condition", &json!({"syncing": false, "halted": ["BTCUSDC"]})).await;
    talk.refused(long(0.1), "Trade pair [BTCUSDC] has been temporarily halted").await;
    talk.paper.post("/api/condition", &json!({"halted": []})).await;

    // R10, R12, R11: the hotkey.
    let hotkey = talk.home.hotkey.clone();
    for (standing, words) in [
        ("inactive_subaccount", "is not active or not found"),
        ("entity", "cannot place orders directly"),
        ("deregistered", "was previously de-registered"),
    ] {
        talk.paper.post("/api/standing", &json!({"hotkey": hotkey, "standing": standing})).await;
        talk.refused(long(0.1), words).await;
    }
    talk.paper.post("/api/standing", &json!({"hotkey": hotkey, "standing": "good"})).await;

    // R5, R14, R19: the pair.
    talk.refused(order("NOSUCHPAIR", "LONG", ("leverage", 0.1)), "Invalid trade pair").await;
    talk.refused(order("SOLUSDC", "LONG", ("leverage", 0.1)), "no live prices being found").await;

    // R22, R21, R20: the size.
    talk.refused(order("BTCUSDC", "LONG", ("value", 5.0)), "is below minimum").await;
    talk.refused(order("BTCUSDC", "LONG", ("quantity", 0.000_000_1)), "0 order size").await;
    // An order beyond the cap is cut to it, with success; a little room stays for its fee.
    let mut told = String::new();
    for _ in 0..5 {
        told = talk.send(order("BTCUSDC", "LONG", ("leverage", 100.0))).await.1;
    }
    assert!(
        ["No buying power remaining", "0 order size"].iter().any(|words| told.contains(words)),
        "{told}"
    );

    // R24, R25, R27: stops, and orders that are not there.
    let mut bracket = order("ETHUSDC", "LONG", ("leverage", 0.1));
    bracket["execution_type"] = json!("BRACKET");
    bracket["stop_loss"] = json!(2000.0);
    talk.refused(bracket, "no open position").await;
    let cancel = json!({"trade_pair": "ETHUSDC", "execution_type": "LIMIT_CANCEL",
        "order_uuid": "11111111-2222-4333-8444-555555555555"});
    talk.refused(cancel, "No unfilled limit orders found").await;
    let positions = talk.paper.get("/api/positions").await;
    assert_eq!(positions["accounts"][0]["open"].as_array().unwrap().len(), 1, "{positions}");

    // R2': nobody trades after an elimination. BTC halves, at a leverage above one.
    talk.paper.prices(&[("BTCUSDC", 50_000.0)]).await;
    let out = talk.paper.event("eliminated").await;
    assert_eq!(out["row"]["hotkey"], json!(hotkey));
    talk.refused(long(0.1), "has been eliminated and cannot participate").await;
    let board = talk.paper.get("/api/leaderboard").await;
    assert_eq!(board["miners"][0]["open"], 0, "{board}");
    assert_eq!(board["miners"][0]["eliminated"]["reason"], out["row"]["reason"]);
    talk.paper.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_markets_and_other_asset_classes_are_told() {
    let flags = ["--start", SATURDAY, "--speed", "3600", "--asset-class", "forex"];
    let mut talk = Conversation::start("2026", &flags, &[]).await;
    talk.paper.prices(&[("BTCUSDC", 100_000.0), ("EURUSD", 1.1)]).await;
    // R3', R15.
    talk.refused(
        order("EURUSD", "LONG", ("leverage", 0.1)),
        "Market for trade pair [EURUSD] is closed. Please try again later.",
    )
    .await;
    let crypto = order("BTCUSDC", "LONG", ("leverage", 0.1));
    talk.refused(crypto, "cannot trade asset class [crypto]").await;
    talk.paper.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_soon_is_told() {
    let mut talk = Conversation::start("2026", &["--start", OPEN], &[]).await;
    talk.paper.prices(&[("BTCUSDC", 100_000.0)]).await;
    let long = || order("BTCUSDC", "LONG", ("leverage", 0.01));
    talk.taken(long()).await;
    // R8': within five seconds. R1 is no refusal for a miner's user: the miner waits the minute out.
    talk.refused(long(), "was placed too soon after the previous order").await;
    talk.paper.stop().await;
}

/// With pacing the miner waits for what the rules ask, and nothing is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_miner_that_paces_itself_is_not_refused() {
    let flags = ["--start", OPEN, "--speed", "1.05"];
    let pacing = ["--delivery.pacing", "on"];
    let mut talk = Conversation::start("2026", &flags, &pacing).await;
    talk.paper.prices(&[("BTCUSDC", 100_000.0)]).await;
    talk.taken(order("BTCUSDC", "LONG", ("leverage", 0.01))).await;
    talk.taken(order("BTCUSDC", "LONG", ("leverage", 0.01))).await;
    let positions = talk.paper.get("/api/positions").await;
    assert_eq!(positions["accounts"][0]["open"][0]["orders"], 2, "{positions}");
    talk.paper.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_refusals_of_2024_reach_the_user() {
    // Ten minutes pass in a second; a price is good for fifteen.
    let flags = ["--start", OPEN, "--speed", "600"];
    let mut talk = Conversation::start("2024", &flags, &[]).await;
    let long = |pair: &str| order(pair, "LONG", ("leverage", 0.1));
    // R3: without a price of the last quarter of an hour the market is taken for closed.
    talk.refused(long("BTCUSD"), "is likely closed or this validator is having issues").await;
    // R7.
    talk.paper.prices(&[("BTCUSD", 60_000.0), ("SPX", 5_000.0)]).await;
    let flat = order("BTCUSD", "FLAT", ("leverage", 0.0));
    talk.refused(flat, "sent a FLAT order with no existing position").await;
    // R4.
    talk.refused(long("SPX"), "is in a trading category that has been temporarily halted").await;
    // R2: the price falls at the highest leverage.
    talk.paper.prices(&[("BTCUSD", 60_000.5)]).await;
    talk.taken(order("BTCUSD", "LONG", ("leverage", 20.0))).await;
    talk.paper.prices(&[("BTCUSD", 58_000.0)]).await;
    talk.paper.event("eliminated").await;
    talk.paper.prices(&[("BTCUSD", 58_001.0)]).await;
    talk.refused(long("BTCUSD"), "has been eliminated for reason").await;
    talk.paper.stop().await;
}
