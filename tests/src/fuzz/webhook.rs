//! Bodies of requests to the server, with the key in the body or in the header.
//!
//! The first byte chooses the endpoint (3 bits), whether the right key is in the header (8), whether
//! TradingView's words are translated (16), the content type (32) and the era (upper bits). A line
//! `Idempotency-Key: ...` may stand before the body. The key is [`KEY`].

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::{Method, Request};
use ptn_core::rules::Era;
use ptn_core::signal::OrderUuid;
use ptn_core::store::{MemoryStore, SignalStore as _};
use ptn_server::{App, ServerConfig, router};
use tower::Service as _;

use super::{ERAS, block_on, rules};

/// The right key.
pub const KEY: &str = "k-4f1c";
/// After so many requests a server is forgotten, and with it what it stores.
const REQUESTS: u32 = 1000;

const PATHS: [&str; 6] = [
    "/api/receive-signal",
    "/api/submit-order",
    "/api/check-order",
    "/api/bracket-orders/batch",
    "/api/prices",
    "/api/signals/x/retry",
];

struct Server {
    app: Arc<App>,
    store: Arc<MemoryStore>,
    requests: u32,
}

thread_local! {
    static SERVERS: RefCell<[Option<Server>; 6]> = const { RefCell::new([const { None }; 6]) };
}

fn server(era: Era, translates: bool) -> Server {
    let folder = super::spool::folder();
    let keys = format!("{{\"api_key\":\"{KEY}\"}}");
    std::fs::write(folder.path().join("miner_secrets.json"), keys).expect("a key file");
    let mut config = ServerConfig::default();
    config.data_dir = folder.path().to_owned();
    config.limits = false;
    config.auth_failures_per_minute = u32::MAX;
    config.submit_deadline = Duration::ZERO;
    if translates {
        for (key, value) in [
            ("tradingview.actions", "on"),
            ("tradingview.tickers", "XBT=BTCUSDC,auto"),
            ("tradingview.idempotency", "on"),
            ("tradingview.position_change", "on"),
        ] {
            config.set(key, value).unwrap_or_else(|why| panic!("{key}: {why}"));
        }
    }
    let store = Arc::new(MemoryStore::new());
    let app = App::new(config, store.clone(), Arc::clone(rules(era))).expect("a server");
    Server { app, store, requests: 0 }
}

/// See the module.
pub fn webhook(data: &[u8]) {
    let Some((selector, body)) = data.split_first() else { return };
    let bit = |n: u8| selector & n != 0;
    let path = PATHS[usize::from(selector & 7) % PATHS.len()];
    let era = usize::from(selector >> 6) % ERAS.len();
    let mut request = Request::builder().method(Method::POST).uri(path);
    request = request.header(
        "content-type",
        if bit(32) { "text/plain; charset=utf-8" } else { "application/json" },
    );
    if bit(8) {
        request = request.header("authorization", KEY);
    }
    let mut body = body;
    if let Some(rest) = body.strip_prefix(b"Idempotency-Key: ")
        && let Some(end) = rest.iter().position(|b| *b == b'\n')
    {
        request = request.header("idempotency-key", &rest[..end]);
        body = &rest[end + 1..];
    }
    let Ok(request) = request.body(Full::new(Bytes::copy_from_slice(body))) else { return };

    let place = 2 * era + usize::from(bit(16));
    let (app, store) = SERVERS.with_borrow_mut(|servers| {
        let kept = &mut servers[place];
        if kept.as_ref().is_none_or(|server| server.requests >= REQUESTS) {
            *kept = Some(server(ERAS[era], bit(16)));
        }
        let server = kept.as_mut().expect("just made");
        server.requests += 1;
        (Arc::clone(&server.app), Arc::clone(&server.store))
    });
    let (status, text) = block_on(async {
        let response = router(app).call(request).await.expect("a router never fails");
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("a whole answer").to_bytes();
        (status, String::from_utf8(body.to_vec()).expect("text"))
    });
    check(body, status, &text);
    if status == 200 && path == PATHS[0] {
        let answer: serde_json::Value = serde_json::from_str(&text).expect("checked");
        let id = answer["order_uuid"].as_str().and_then(|id| OrderUuid::parse(id).ok());
        let id = id.unwrap_or_else(|| panic!("no uuid in {text}"));
        let stored = block_on(store.get(&id)).expect("memory");
        super::check_signal(&stored.expect("accepted means stored").signal, rules(ERAS[era]));
    }
}

/// Every answer is JSON, about as large as the request at most, and never shows the key.
fn check(request: &[u8], status: u16, text: &str) {
    assert!(serde_json::from_str::<serde_json::Value>(text).is_ok(), "{status}: {text}");
    assert!(text.len() <= 16 * request.len() + 4096, "{} of {}", text.len(), request.len());
    // 500 is what the Python servers said to a body that is no object; 503 is "not delivered yet".
    let known = [200, 202, 400, 401, 404, 409, 413, 415, 422, 429, 500, 503, 504];
    assert!(known.contains(&status), "{status}: {text}");
    if status == 500 {
        assert!(text.contains("improperly formatted"), "{text}");
    }
    let given = String::from_utf8_lossy(request);
    if given.matches(KEY).count() == 1 && given.contains(&format!("\"api_key\":\"{KEY}\"")) {
        assert!(!text.contains(KEY), "{text}");
    }
}
