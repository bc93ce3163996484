//! The feed of an exchange against a server on this machine that speaks its messages.
#![cfg(feature = "paper-live")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::float_cmp,
    reason = "tests"
)]

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use ptn_core::paper::prices::coinbase::{
    CoinbaseFeed, CoinbaseSettings, FeedError, FeedState, FeedStatus, FeedWatch, Products,
};
use ptn_core::paper::prices::{PriceSpec, PushedPrices, Tick, pushed};
use ptn_core::rules::{Era, Rules};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::{WebSocketStream, accept_async};

/// Longer than anything here takes; it ends a test that would hang.
const DEADLINE: Duration = Duration::from_secs(30);

struct Peer<S> {
    socket: WebSocketStream<S>,
    pings: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    async fn accept(stream: S) -> Self {
        Self { socket: accept_async(stream).await.unwrap(), pings: 0 }
    }

    async fn say(&mut self, value: &Value) {
        self.socket.send(Message::text(value.to_string())).await.unwrap();
    }

    /// The next text of the client; nothing when it is gone.
    async fn hear(&mut self) -> Option<Value> {
        loop {
            match self.socket.next().await?.ok()? {
                Message::Text(text) => return Some(serde_json::from_str(text.as_str()).unwrap()),
                Message::Ping(_) => self.pings += 1,
                _ => {}
            }
        }
    }

    /// What a subscription asks for, and the exchange's answer to it.
    async fn subscribed(&mut self) -> Vec<String> {
        let asked = self.hear().await.unwrap();
        assert_eq!(asked["type"], "subscribe");
        let channels = asked["channels"].as_array().unwrap();
        let names: Vec<&Value> = channels.iter().map(|channel| &channel["name"]).collect();
        assert_eq!(names, ["ticker", "heartbeat"]);
        assert_eq!(channels[0]["product_ids"], channels[1]["product_ids"]);
        let ids = channels[0]["product_ids"].as_array().unwrap();
        ids.iter().map(|id| id.as_str().unwrap().to_owned()).collect()
    }

    async fn confirm(&mut self) -> Vec<String> {
        let ids = self.subscribed().await;
        self.say(
            &json!({"type": "subscriptions", "channels": [{"name": "ticker", "product_ids": ids}]}),
        )
        .await;
        ids
    }

    /// Until the client goes.
    async fn stay(mut self) {
        while self.hear().await.is_some() {}
    }
}

/// A ticker of BTC-USD, as the exchange documents it.
fn ticker(sequence: u64, price: &str) -> Value {
    json!({
        "type": "ticker", "sequence": sequence, "product_id": "BTC-USD", "price": price,
        "open_24h": "99000", "volume_24h": "12345.6", "low_24h": "98000", "high_24h": "102000",
        "volume_30d": "350000.1", "best_bid": "99999.5", "best_bid_size": "0.5", "best_ask": "100001",
        "best_ask_size": "0.25", "side": "buy", "time": "2026-05-28T20:26:40.000123Z",
        "trade_id": 1, "last_size": "0.01"
    })
}

/// An exchange: what it does with its first connection, its second, and so on.
async fn exchange<F, R>(script: F) -> String
where
    F: Fn(usize, TcpStream) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    exchange_at("127.0.0.1:0", script).await
}

async fn exchange_at<F, R>(place: &str, script: F) -> String
where
    F: Fn(usize, TcpStream) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(place).await.unwrap();
    let address = format!("ws://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        for n in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(script(n, stream));
        }
    });
    address
}

struct Running {
    prices: PushedPrices,
    watch: FeedWatch,
    task: JoinHandle<()>,
}

fn settings(address: &str) -> CoinbaseSettings {
    let rules = Rules::load(Era::Y2026).unwrap();
    let pairs = ["BTCUSDC", "BTCUSD", "ETHUSDC"].map(|id| rules.catalogue.get(id).unwrap());
    let mut settings = CoinbaseSettings::for_pairs(pairs).unwrap();
    settings.url = address.parse().unwrap();
    settings.first_pause = Duration::from_millis(5);
    settings.longest_pause = Duration::from_millis(20);
    settings
}

fn start(settings: CoinbaseSettings) -> Running {
    let (sender, prices) = pushed::channel(10);
    let feed = CoinbaseFeed::new(settings, sender);
    let watch = feed.watch();
    Running { prices, watch, task: tokio::spawn(feed.run()) }
}

impl Running {
    async fn next(&mut self) -> Tick {
        timeout(DEADLINE, self.prices.next()).await.unwrap().unwrap()
    }

    async fn until(&mut self, wished: impl FnMut(&FeedStatus) -> bool) -> FeedStatus {
        timeout(DEADLINE, self.watch.until(wished)).await.unwrap().unwrap()
    }

    async fn problem(&mut self, code: &str) -> String {
        let status = self.until(|s| s.last_problem.as_ref().is_some_and(|p| p.code == code)).await;
        status.last_problem.unwrap().text
    }
}

#[tokio::test]
async fn a_ticker_is_a_price_of_every_pair_of_its_product() {
    let address = exchange(|_, stream| async move {
        let mut peer = Peer::accept(stream).await;
        assert_eq!(peer.confirm().await, ["BTC-USD", "ETH-USD"]);
        peer.say(
            &json!({"type": "heartbeat", "sequence": 9, "last_trade_id": 1, "product_id": "BTC-USD",
            "time": "2026-05-28T20:26:39Z"}),
        )
        .await;
        peer.say(&ticker(10, "100000.25")).await;
        peer.say(&json!({"type": "ticker", "product_id": "DOGE-USD", "sequence": 1, "price": "1"}))
            .await;
        peer.say(&json!({"type": "ticker", "product_id": "ETH-USD", "sequence": 1, "price": 3500}))
            .await;
        peer.stay().await;
    })
    .await;
    let mut feed = start(settings(&address));
    let want =
        |pair: &str| Tick::last(1_780_000_000_000, pair, 100_000.25).with_book(99_999.5, 100_001.0);
    assert_eq!([feed.next().await, feed.next().await], [want("BTCUSDC"), want("BTCUSD")]);
    let ether = feed.next().await;
    assert_eq!((ether.pair.as_str(), ether.price, ether.bid), ("ETHUSDC", 3500.0, None));
    let status = feed.until(|status| status.prices == 3).await;
    assert_eq!((status.state, status.connections), (FeedState::Live, 1));
    let now = jiff::Timestamp::now().as_millisecond();
    for ms in [status.connected_since_ms, status.last_message_ms, status.last_price_ms] {
        assert!((now - 30_000..=now).contains(&ms.unwrap()), "{status:?}");
    }
    assert!((now - 30_000..=now).contains(&ether.at_ms), "without a time it is of now");
    assert_eq!((status.last_problem, status.next_try_ms), (None, None));
    assert_eq!(status.address, address);
}

#[tokio::test]
async fn a_dropped_connection_is_followed_by_another_that_asks_again() {
    let address = exchange(|n, stream| async move {
        let mut peer = Peer::accept(stream).await;
        assert_eq!(peer.confirm().await.len(), 2);
        peer.say(&ticker(10 - n as u64, if n == 0 { "1" } else { "2" })).await;
        if n > 0 {
            peer.stay().await;
        }
    })
    .await;
    let mut feed = start(settings(&address));
    assert_eq!((feed.next().await.price, feed.next().await.price), (1.0, 1.0));
    // Numbers may begin anew with a connection.
    assert_eq!((feed.next().await.price, feed.next().await.price), (2.0, 2.0));
    let status = feed.until(|s| s.prices == 4).await;
    assert_eq!((status.connections, status.state), (2, FeedState::Live));
    assert_eq!(status.last_problem.unwrap().code, "feed_lost");
    assert!(status.connected_since_ms.is_some());
}

#[tokio::test]
async fn pauses_grow_until_there_is_a_price() {
    let address = exchange(|_, stream| async move {
        Peer::accept(stream).await.confirm().await;
    })
    .await;
    let mut settings = settings(&address);
    settings.first_pause = Duration::from_millis(10);
    settings.longest_pause = Duration::from_secs(60);
    let mut feed = start(settings);
    let fifth = |s: &FeedStatus| s.connections == 5 && s.state == FeedState::Waiting;
    let status = feed.until(fifth).await;
    let pause = status.next_try_ms.unwrap() - status.last_problem.unwrap().at_ms;
    assert!(pause >= 160, "10 ms, doubled four times, but {pause} ms");
}

#[tokio::test]
async fn a_price_makes_the_next_pause_short_again() {
    let address = exchange(|n, stream| async move {
        let mut peer = Peer::accept(stream).await;
        peer.confirm().await;
        peer.say(&ticker(1, &(n + 1).to_string())).await;
    })
    .await;
    let mut settings = settings(&address);
    settings.first_pause = Duration::from_millis(1);
    settings.longest_pause = Duration::from_secs(600);
    let mut feed = start(settings);
    // Doubled every time, the pauses would be longer than the deadline by now.
    feed.until(|s| s.connections == 20).await;
}

#[tokio::test]
async fn a_silent_connection_is_pinged_and_then_replaced() {
    let (saw, mut seen) = tokio::sync::mpsc::channel(10);
    let address = exchange(move |n, stream| {
        let saw = saw.clone();
        async move {
            let mut peer = Peer::accept(stream).await;
            peer.confirm().await;
            if n > 0 {
                peer.say(&ticker(1, "1")).await;
            }
            // Pongs are sent by reading, and do not help.
            while peer.hear().await.is_some() {}
            saw.send(peer.pings).await.unwrap();
        }
    })
    .await;
    let mut settings = settings(&address);
    settings.silence = Duration::from_millis(400);
    let mut feed = start(settings);
    assert_eq!(feed.problem("feed_silent").await, "no message came for 400ms");
    assert_eq!(timeout(DEADLINE, seen.recv()).await.unwrap(), Some(1));
    assert_eq!(feed.next().await.price, 1.0);
}

#[tokio::test]
async fn heartbeats_keep_a_connection_without_trades() {
    let address = exchange(|_, stream| async move {
        let mut peer = Peer::accept(stream).await;
        peer.confirm().await;
        for n in 0..20 {
            peer.say(&json!({"type": "heartbeat", "sequence": n, "product_id": "BTC-USD"})).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        peer.say(&ticker(1, "1")).await;
        peer.stay().await;
    })
    .await;
    let mut settings = settings(&address);
    settings.silence = Duration::from_millis(1500);
    let mut feed = start(settings);
    assert_eq!(feed.next().await.price, 1.0);
    assert_eq!(feed.watch.now().connections, 1);
}

#[tokio::test]
async fn what_nobody_can_read_is_counted_and_too_much_of_it_is_another_service() {
    let address = exchange(|n, stream| async move {
        let mut peer = Peer::accept(stream).await;
        peer.confirm().await;
        if n == 0 {
            peer.socket.send(Message::text("not JSON")).await.unwrap();
            peer.say(&json!({"type": "ticker", "product_id": "BTC-USD", "price": "-5"})).await;
            peer.say(&json!({"type": "status", "products": []})).await;
            peer.socket.send(Message::binary(vec![0, 1, 2])).await.unwrap();
            peer.say(&ticker(1, "7")).await;
            for _ in 0..20 {
                peer.say(&json!([])).await;
            }
        }
        peer.stay().await;
    })
    .await;
    let mut feed = start(settings(&address));
    assert_eq!(feed.next().await.price, 7.0);
    let text = feed.problem("feed_unreadable").await;
    assert!(text.starts_with("20 messages one after the other could not be read"), "{text}");
    assert_eq!(feed.until(|s| s.connections == 2).await.unreadable, 22);
}

#[tokio::test]
async fn a_product_that_the_exchange_refuses_is_left_out_and_the_others_go_on() {
    let drop_it = Arc::new(Notify::new());
    let until = Arc::clone(&drop_it);
    let address = exchange(move |n, stream| {
        let end = Arc::clone(&until);
        async move {
        let mut peer = Peer::accept(stream).await;
        if n > 0 {
            assert_eq!(peer.confirm().await, ["BTC-USD", "ETH-USD"]);
            return peer.stay().await;
        }
        assert_eq!(peer.subscribed().await, ["BTC-USD", "ETH-USD"]);
        peer.say(&json!({"type": "error", "message": "Failed to subscribe", "reason": "ETH-USD is not a valid product"})).await;
        assert_eq!(peer.confirm().await, ["BTC-USD"]);
        peer.say(&ticker(1, "1")).await;
        end.notified().await;
    }})
    .await;
    let mut feed = start(settings(&address));
    assert_eq!(feed.next().await.price, 1.0);
    let status = feed.until(|s| s.prices > 0).await;
    assert_eq!((status.refused, status.connections), (vec!["ETH-USD".to_owned()], 1));
    let problem = status.last_problem.unwrap();
    assert_eq!(problem.code, "feed_refused");
    assert_eq!(
        problem.text,
        "the exchange refuses: Failed to subscribe: ETH-USD is not a valid product"
    );
    // It may be traded again: the next connection asks for everything.
    drop_it.notify_one();
    let again = feed.until(|s| s.connections == 2 && s.state == FeedState::Live).await;
    assert!(again.refused.is_empty(), "{again:?}");
}

#[tokio::test]
async fn any_other_refusal_is_shown_and_tried_again_later() {
    let address = exchange(|_, stream| async move {
        let mut peer = Peer::accept(stream).await;
        peer.subscribed().await;
        peer.say(&json!({"type": "error", "message": "rate limit\u{1b}[31m exceeded"})).await;
        peer.stay().await;
    })
    .await;
    let mut feed = start(settings(&address));
    let text = feed.problem("feed_refused").await;
    assert_eq!(text, "the exchange refuses: rate limit [31m exceeded");
    let again = feed.until(|s| s.connections >= 3).await;
    assert_eq!((again.prices, again.refused.len()), (0, 0));
}

#[tokio::test]
async fn older_numbers_are_passed_over_and_no_price_is_of_tomorrow() {
    let address = exchange(|_, stream| async move {
        let mut peer = Peer::accept(stream).await;
        peer.confirm().await;
        for (sequence, price) in [(10, "1"), (9, "2"), (10, "3"), (12, "4")] {
            peer.say(&ticker(sequence, price)).await;
        }
        let mut future = ticker(13, "5");
        future["time"] = "2999-01-01T00:00:00Z".into();
        peer.say(&future).await;
        let mut past = ticker(14, "6");
        past["time"] = "2020-01-01T00:00:00Z".into();
        peer.say(&past).await;
        peer.stay().await;
    })
    .await;
    let mut feed = start(settings(&address));
    let status = feed.until(|s| s.prices + s.out_of_order >= 10).await;
    // Two pairs each: 1, 4 and 5 taken, 6 is older than 5; two messages with older numbers.
    assert_eq!((status.prices, status.out_of_order), (6, 4));
    let mut got = Vec::new();
    while let Some(tick) = feed.prices.try_next() {
        assert!(tick.at_ms <= jiff::Timestamp::now().as_millisecond());
        got.push(tick.price);
    }
    assert_eq!(got, [1.0, 1.0, 4.0, 4.0, 5.0, 5.0]);
}

#[tokio::test]
async fn a_message_beyond_the_limit_ends_the_connection() {
    let address = exchange(|n, stream| async move {
        let mut peer = Peer::accept(stream).await;
        peer.confirm().await;
        if n == 0 {
            // The client need not take it.
            drop(peer.socket.send(Message::text("x".repeat(5000))).await);
        } else {
            peer.say(&ticker(1, "1")).await;
        }
        peer.stay().await;
    })
    .await;
    let mut settings = settings(&address);
    settings.most_message_bytes = 4096;
    let mut feed = start(settings);
    assert_eq!(feed.problem("feed_too_large").await, "a message is longer than 4096 bytes");
    assert_eq!(feed.next().await.price, 1.0);
}

#[tokio::test]
async fn a_close_frame_is_shown_with_its_reason() {
    let address = exchange(|n, stream| async move {
        let mut peer = Peer::accept(stream).await;
        peer.confirm().await;
        let code = if n == 0 { CloseCode::Restart } else { CloseCode::Normal };
        let frame =
            CloseFrame { code, reason: if n == 0 { "maintenance".into() } else { "".into() } };
        peer.socket.close(Some(frame)).await.unwrap();
        peer.stay().await;
    })
    .await;
    let mut feed = start(settings(&address));
    let first = feed.problem("feed_closed").await;
    assert_eq!(first, "the exchange closed the connection: code 1012, maintenance");
    feed.until(|s| {
        s.last_problem.as_ref().is_some_and(|p| p.text.ends_with("connection: code 1000"))
    })
    .await;
}

#[tokio::test]
async fn a_place_where_no_exchange_is_says_so_and_is_tried_until_there_is_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut feed = start(settings(&format!("ws://{address}")));
    feed.problem("feed_unreachable").await;
    let waiting = feed.until(|s| s.state == FeedState::Waiting).await;
    assert!(waiting.next_try_ms.is_some() && waiting.connected_since_ms.is_none());

    let listener = TcpListener::bind(address).await.unwrap();
    let (mut stream, _) = timeout(DEADLINE, listener.accept()).await.unwrap().unwrap();
    stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    let text = feed.problem("feed_handshake").await;
    assert!(text.contains("404"), "{text}");
    drop(stream);
    let (stream, _) = timeout(DEADLINE, listener.accept()).await.unwrap().unwrap();
    let mut peer = Peer::accept(stream).await;
    peer.confirm().await;
    peer.say(&ticker(1, "1")).await;
    assert_eq!(feed.next().await.price, 1.0);
}

#[tokio::test]
async fn a_server_that_never_answers_the_handshake_is_given_up() {
    let address = exchange(|_, stream| async move {
        tokio::time::sleep(DEADLINE).await;
        drop(stream);
    })
    .await;
    let mut settings = settings(&address);
    settings.connect_timeout = Duration::from_millis(100);
    let mut feed = start(settings);
    assert_eq!(feed.problem("feed_timeout").await, "connecting took longer than 100ms");
}

#[tokio::test]
async fn it_ends_when_nobody_reads_any_more() {
    let address = exchange(|_, stream| async move {
        let mut peer = Peer::accept(stream).await;
        peer.confirm().await;
        for n in 1.. {
            if peer.socket.send(Message::text(ticker(n, "1").to_string())).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let mut feed = start(settings(&address));
    assert_eq!(feed.next().await.price, 1.0);
    drop(feed.prices);
    timeout(DEADLINE, feed.task).await.unwrap().unwrap();
    assert_eq!(feed.watch.now().state, FeedState::Ended);
}

async fn encrypted(place: &str) -> (String, Vec<u8>) {
    use tokio_rustls::rustls::ServerConfig;
    use tokio_rustls::rustls::crypto::ring::default_provider;
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

    let certificate = include_bytes!("data/loopback.cert.der").to_vec();
    let key = PrivatePkcs8KeyDer::from(include_bytes!("data/loopback.key.der").to_vec());
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(certificate.clone())], key.into())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let address = exchange_at(place, move |_, stream| {
        let acceptor = acceptor.clone();
        async move {
            // A client that does not trust it goes.
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let mut peer = Peer::accept(stream).await;
            peer.confirm().await;
            peer.say(&ticker(1, "1")).await;
            peer.stay().await;
        }
    })
    .await;
    (address.replace("ws://", "wss://"), certificate)
}

#[tokio::test]
async fn an_encrypted_feed_needs_a_certificate_that_is_trusted() {
    let (address, certificate) = encrypted("127.0.0.1:0").await;
    let mut feed = start(settings(&address));
    let text = feed.problem("feed_insecure").await;
    assert!(text.contains("certificate"), "{text}");
    assert_eq!(feed.watch.now().prices, 0);

    let mut feed = start(settings(&address).with_extra_root(certificate));
    assert_eq!(feed.next().await.price, 1.0);

    // The certificate is for 127.0.0.1 and localhost, not for any name that leads here.
    let (other, certificate) = encrypted("127.0.0.2:0").await;
    let mut feed = start(settings(&other).with_extra_root(certificate));
    let text = feed.problem("feed_insecure").await;
    assert!(text.contains("certificate"), "{text}");
}

#[tokio::test]
async fn settings_come_from_the_catalogue_or_from_a_list() {
    let rules = Rules::load(Era::Y2026).unwrap();
    let all = CoinbaseSettings::for_pairs(rules.catalogue.iter()).unwrap();
    assert_eq!(all.url.as_str(), "wss://ws-feed.exchange.coinbase.com");
    assert_eq!(all.products["BTC-USD"], ["BTCUSD".into(), "BTCUSDC".into()]);
    let euro = CoinbaseSettings::for_pairs(rules.catalogue.get("EURUSD"));
    assert!(matches!(euro, Err(FeedError::NoProducts)));
    let own: Products = [("WIF-USD".to_owned(), vec!["WIFUSDC".into()])].into();
    assert_eq!(CoinbaseSettings::new(own).unwrap().products.len(), 1);
    let spec: PriceSpec = "coinbase:wss://example.com/feed?key=secret".parse().unwrap();
    let PriceSpec::Coinbase { url: Some(url) } = spec else { panic!() };
    let settings = all.with_url(url);
    assert!(!format!("{settings:?}").contains("secret"));
    let (sender, _prices) = pushed::channel(10);
    let feed = CoinbaseFeed::new(settings, sender);
    assert_eq!(feed.watch().now().address, "wss://example.com");
    assert!(!format!("{feed:?}").contains("secret"));
}
