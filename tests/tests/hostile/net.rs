//! An engine with two validators on real sockets: one that is good, and one that is not.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ptn_core::deliver::{DeliveryPolicy, Engine, Select};
use ptn_core::directory::{StaticDirectory, Validator, Wire};
use ptn_core::record::{DeliveryState, ValidatorRecord};
use ptn_core::rules::{Era, Rules};
use ptn_core::sign::Hotkey;
use ptn_core::signal::{OrderUuid, Signal};
use ptn_core::store::{MemoryStore, SignalStore};
use ptn_core::transport::HttpTransport;
use ptn_core::transport::address::AddressPolicy;
use ptn_core::transport::http::HttpOptions;
use ptn_core::validator::{LoopbackValidator, ValidatorOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How long an attempt may take where nothing ever comes.
pub(crate) const SHORT: Duration = Duration::from_secs(3);

/// Orders on these are independent of each other.
pub(crate) const PAIRS: [&str; 4] = ["BTCUSDC", "ETHUSDC", "SOLUSDC", "XRPUSDC"];

/// An engine over a good validator and a hostile one.
pub(crate) struct Net {
    pub(crate) good: LoopbackValidator,
    pub(crate) bad: Validator,
    pub(crate) store: Arc<MemoryStore>,
    engine: Engine,
    rules: Rules,
}

/// One attempt at most `timeout` long, and everybody must acknowledge.
pub(crate) fn one_try(rules: &Rules, timeout: Duration) -> DeliveryPolicy {
    let mut policy = DeliveryPolicy::preset(rules, None);
    policy.select = Select::All;
    policy.waits = Vec::new();
    policy.jitter = 0.0;
    policy.pacing = None;
    policy.timeout = timeout;
    policy.warm_every = None;
    policy
}

impl Net {
    /// The hostile one gets one attempt per order, with plenty of time.
    pub(crate) async fn against(bad: Validator) -> Self {
        Self::with(bad, |policy| policy.timeout = PATIENCE).await
    }

    /// The hostile one gets one short attempt per order.
    pub(crate) async fn hurried(bad: Validator) -> Self {
        Self::with(bad, |_| {}).await
    }

    pub(crate) async fn with(bad: Validator, change: impl FnOnce(&mut DeliveryPolicy)) -> Self {
        let good = LoopbackValidator::start(ValidatorOptions::default()).await.unwrap();
        let rules = Rules::load(Era::Y2026).unwrap();
        let mut policy = one_try(&rules, SHORT);
        change(&mut policy);
        let store = Arc::new(MemoryStore::new());
        let list = vec![good.entry(Wire::Btauth), bad.clone()];
        let mut options = HttpOptions::default();
        options.policy = AddressPolicy::AllowPrivate;
        let signer = Arc::new(Hotkey::from_seed([1; 32]));
        let engine = Engine::builder()
            .store(Arc::clone(&store) as _)
            .directory(Arc::new(StaticDirectory::new(list)))
            .transport(Arc::new(HttpTransport::new(signer, options)))
            .policy(policy)
            .start()
            .unwrap();
        Self { good, bad, store, engine, rules }
    }

    /// Hands an order to the engine.
    pub(crate) async fn send(&self, id: &str, pair: &str) {
        let body = format!(
            r#"{{"trade_pair":"{pair}","order_type":"LONG","value":1,"order_uuid":"{id}"}}"#
        );
        let signal = Signal::from_json(body.as_bytes(), &self.rules).unwrap();
        self.engine.submit(&signal).await.unwrap();
    }

    /// An order on every pair.
    pub(crate) async fn send_on_all_pairs(&self) -> Vec<String> {
        let mut ids = Vec::new();
        for (n, pair) in PAIRS.iter().enumerate() {
            let id = format!("order-{n}");
            self.send(&id, pair).await;
            ids.push(id);
        }
        ids
    }

    /// Waits until the good validator has processed exactly these, in any order.
    pub(crate) async fn good_has(&self, ids: &[String]) {
        let got = tokio::time::timeout(PATIENCE, self.good.wait_for(ids.len() as u64)).await;
        let got = got.expect("the good validator gets everything");
        let mut got: Vec<&str> = got.iter().map(|r| r.order_uuid.as_str()).collect();
        got.sort_unstable();
        assert_eq!(got, ids, "the good validator got everything, once");
    }

    /// What is recorded about an order at the hostile one.
    pub(crate) async fn bad_record(&self, id: &str) -> ValidatorRecord {
        self.record(id, &self.bad.hotkey.clone()).await.expect("decided")
    }

    async fn record(&self, id: &str, hotkey: &str) -> Option<ValidatorRecord> {
        let stored = self.store.get(&OrderUuid::parse(id).unwrap()).await.unwrap().unwrap();
        stored.validators.get(hotkey).cloned()
    }

    /// Waits for the record of the hostile one to be as wanted.
    pub(crate) async fn bad_until(
        &self,
        id: &str,
        wanted: impl Fn(&ValidatorRecord) -> bool,
    ) -> ValidatorRecord {
        let hotkey = self.bad.hotkey.clone();
        let waiting = async {
            loop {
                if let Some(record) = self.record(id, &hotkey).await.filter(|r| wanted(r)) {
                    return record;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(record) => record,
            Err(_) => panic!("{id}: {:?}", self.record(id, &hotkey).await),
        }
    }

    /// The last word about an order at the hostile one: its state, its code, what it says.
    pub(crate) async fn ended(&self, id: &str) -> ValidatorRecord {
        self.bad_until(id, |record| record.state.is_final()).await
    }

    /// Sends orders on every pair and checks how each ended at the hostile one, while the good one
    /// processed all of them.
    pub(crate) async fn all_end(self, what: &str, state: DeliveryState, code: &str, says: &str) {
        let ids = self.send_on_all_pairs().await;
        self.good_has(&ids).await;
        for id in &ids {
            let record = self.ended(id).await;
            assert_eq!((record.state, record.code.as_str()), (state, code), "{what}: {record:?}");
            assert!(record.message.contains(says), "{what}: {says:?} is not in {record:?}");
            let good = self.record(id, self.good.hotkey()).await.unwrap();
            assert_eq!((good.state, good.attempts), (DeliveryState::Accepted, 1), "{what}");
        }
        self.engine.shutdown(Duration::ZERO).await;
    }

    /// As [`Net::all_end`], where the hostile one keeps its connection: everything is at the good one
    /// before any order ended at the hostile one.
    pub(crate) async fn all_end_late(self, what: &str, code: &str, says: &str) {
        let ids = self.send_on_all_pairs().await;
        self.good_has(&ids).await;
        for id in &ids {
            let record = self.bad_record(id).await;
            assert_eq!(record.state, DeliveryState::Submitted, "{what}: it is still at it");
        }
        for id in &ids {
            let record = self.ended(id).await;
            let found = (record.state, record.code.as_str(), record.attempts);
            assert_eq!(found, (DeliveryState::Unknown, code, 1), "{what}: {record:?}");
            assert!(record.message.contains(says), "{what}: {says:?} is not in {record:?}");
        }
        self.engine.shutdown(Duration::ZERO).await;
    }
}

/// A listener that is no HTTP server: every connection goes to `serve`. Counts connections.
pub(crate) async fn raw<F, R>(serve: F) -> (Validator, Arc<AtomicUsize>)
where
    F: Fn(TcpStream, usize) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let entry = entry(listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let n = seen.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(serve(stream, n));
        }
    });
    (entry, count)
}

/// A hostile validator that reads a request and then sends these bytes.
pub(crate) async fn answering(bytes: Vec<u8>) -> Validator {
    let bytes = Arc::new(bytes);
    raw(move |mut stream, _| {
        let bytes = Arc::clone(&bytes);
        async move {
            read_request(&mut stream).await;
            // The other side may stop reading: that is what is tested.
            drop(stream.write_all(&bytes).await);
            drop(stream.shutdown().await);
            drain(stream).await;
        }
    })
    .await
    .0
}

pub(crate) fn entry(address: SocketAddr) -> Validator {
    Validator {
        hotkey: Hotkey::from_seed([2; 32]).address().to_owned(),
        ip: address.ip(),
        port: address.port(),
        v_trust: 1.0,
        stake: 1.0,
        permit: true,
        wire: Wire::Btauth,
    }
}

/// Reads one request with its body; empty at the end of the stream.
pub(crate) async fn read_request(stream: &mut TcpStream) -> Vec<u8> {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let n = stream.read(&mut buffer).await.unwrap_or(0);
        if n == 0 {
            return Vec::new();
        }
        request.extend_from_slice(&buffer[..n]);
        let head = request.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4);
        if let Some(head) = head {
            let text = String::from_utf8_lossy(&request[..head]).to_lowercase();
            let length = text.split("content-length: ").nth(1).and_then(|t| t.split("\r\n").next());
            if request.len() >= head + length.map_or(0, |l| l.parse::<usize>().unwrap()) {
                return request;
            }
        }
    }
}

/// Reads on, so that closing does not destroy what was written.
pub(crate) async fn drain(mut stream: TcpStream) {
    let mut buffer = [0; 1024];
    while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
}

/// A whole answer with status 200.
pub(crate) fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A whole answer of another status.
pub(crate) fn refusal(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}
