//! Addresses that the chain names and nobody should call: of this machine, of its network, of its
//! provider, of nothing. They are refused before a socket is opened, the record says why, and the
//! other validators get everything.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use ptn_core::chain::mock::{MockNeuron, MockNode};
use ptn_core::chain::{ChainClient, ChainDirectory, ChainOptions, DirectoryOptions};
use ptn_core::deliver::Engine;
use ptn_core::directory::{StaticDirectory, Validator, ValidatorDirectory as _, Wire};
use ptn_core::record::DeliveryState;
use ptn_core::rules::{Era, Rules};
use ptn_core::sign::{Hotkey, Signer as _};
use ptn_core::signal::Signal;
use ptn_core::store::{MemoryStore, StoredSignal};
use ptn_core::transport::address::AddressPolicy;
use ptn_core::transport::http::HttpOptions;
use ptn_core::transport::{
    HttpTransport, OutboundOrder, TransportError, ValidatorReply, ValidatorTransport,
};
use ptn_core::validator::{LoopbackValidator, ValidatorOptions};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::net::{PATIENCE, one_try};

const NETUID: u16 = 8;

fn hotkey(n: u8) -> String {
    Hotkey::from_seed([n; 32]).hotkey().to_owned()
}

/// Public rules for everybody but the good validator, which on this machine can only be on loopback.
struct Guarded {
    good: String,
    local: HttpTransport,
    public: HttpTransport,
}

impl Guarded {
    fn new(good: &str) -> Self {
        let transport = |policy| {
            let mut options = HttpOptions::default();
            options.policy = policy;
            HttpTransport::new(Arc::new(Hotkey::from_seed([1; 32])), options)
        };
        Self {
            good: good.to_owned(),
            local: transport(AddressPolicy::AllowPrivate),
            public: transport(AddressPolicy::Public),
        }
    }
}

#[async_trait]
impl ValidatorTransport for Guarded {
    async fn deliver(
        &self,
        to: &Validator,
        order: &OutboundOrder,
        deadline: Instant,
    ) -> Result<ValidatorReply, TransportError> {
        let transport = if to.hotkey == self.good { &self.local } else { &self.public };
        transport.deliver(to, order, deadline).await
    }

    async fn warm(&self, to: &Validator) {
        let transport = if to.hotkey == self.good { &self.local } else { &self.public };
        transport.warm(to).await;
    }
}

/// Delivers one order to a list, and gives what was recorded.
async fn deliver(
    list: Vec<Validator>,
    transport: Arc<dyn ValidatorTransport>,
    good: &LoopbackValidator,
) -> StoredSignal {
    let rules = Rules::load(Era::Y2026).unwrap();
    let mut policy = one_try(&rules, PATIENCE);
    // Connecting ahead of time is no way around the rules either.
    policy.warm_every = Some(Duration::from_millis(20));
    let engine = Engine::builder()
        .store(Arc::new(MemoryStore::new()))
        .directory(Arc::new(StaticDirectory::new(list)))
        .transport(transport)
        .policy(policy)
        .start()
        .unwrap();
    let body = br#"{"trade_pair":"BTCUSDC","order_type":"LONG","value":1,"order_uuid":"one"}"#;
    let receipt = engine.submit(&Signal::from_json(body, &rules).unwrap()).await.unwrap();
    let stored = tokio::time::timeout(PATIENCE, receipt.finished()).await.expect("it ends");
    let stored = stored.unwrap();
    assert_eq!(good.count(), 1, "the good validator got the order");
    assert_eq!(stored.validators[good.hotkey()].state, DeliveryState::Accepted);
    engine.shutdown(Duration::ZERO).await;
    stored
}

fn validator(n: u8, address: SocketAddr) -> Validator {
    Validator {
        hotkey: hotkey(n),
        ip: address.ip(),
        port: address.port(),
        v_trust: 1.0,
        stake: 1.0,
        permit: true,
        wire: Wire::Btauth,
    }
}

#[track_caller]
fn denied(stored: &StoredSignal, n: u8, why: &str) {
    let record = &stored.validators[&hotkey(n)];
    let found = (record.state, record.code.as_str(), record.maybe_sent);
    assert_eq!(found, (DeliveryState::Denied, "address_refused", false), "{record:?}");
    assert!(record.message.contains(why), "{why}: {record:?}");
    assert!(record.message.contains("not called; the validator must correct"), "{record:?}");
}

#[tokio::test]
async fn on_a_public_network_inner_addresses_are_denied_with_the_reason_and_others_served() {
    let good = LoopbackValidator::start(ValidatorOptions::default()).await.unwrap();
    // Somebody listens on loopback, in both families where there are both, and is never called.
    let calls = Arc::new(AtomicUsize::new(0));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let six = TcpListener::bind(("::1", port)).await.ok();
    for listener in [Some(listener), six].into_iter().flatten() {
        let calls = Arc::clone(&calls);
        tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                calls.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    let cases = [
        ("127.0.0.1", "a loopback address"),
        ("127.8.8.8", "a loopback address"),
        ("::1", "a loopback address"),
        ("::ffff:127.0.0.1", "a loopback address"),
        ("10.0.0.5", "a private address"),
        ("172.16.9.9", "a private address"),
        ("192.168.1.1", "a private address"),
        ("::ffff:192.168.1.1", "a private address"),
        ("fd00::1", "a private address (fc00::/7)"),
        ("100.64.0.1", "a provider's inner network"),
        ("169.254.169.254", "the metadata address of cloud machines"),
        ("::ffff:169.254.169.254", "the metadata address of cloud machines"),
        ("169.254.1.1", "a link-local address"),
        ("fe80::1", "a link-local address"),
        ("0.1.2.3", "0.0.0.0/8"),
        ("::127.0.0.1", "an outdated v4-compatible address"),
        ("64:ff9b::7f00:1", "a NAT64 address"),
        ("2002:7f00:1::1", "a 6to4 address"),
        ("224.0.0.1", "a multicast address"),
        ("255.255.255.255", "a reserved address"),
        ("192.0.2.7", "an address for documentation"),
    ];
    let mut list = vec![good.entry(Wire::Btauth)];
    for (n, (ip, _)) in (10..).zip(cases) {
        let ip: IpAddr = ip.parse().unwrap();
        list.push(validator(n, (ip, port).into()));
    }
    // The ports of other services, at an address that could be called.
    list.push(validator(8, "93.184.216.34:22".parse().unwrap()));
    list.push(validator(9, "93.184.216.34:25".parse().unwrap()));
    let stored = deliver(list, Arc::new(Guarded::new(good.hotkey())), &good).await;
    for (n, (ip, why)) in (10..).zip(cases) {
        denied(&stored, n, why);
        let record = &stored.validators[&hotkey(n)];
        let ip: IpAddr = ip.parse().unwrap();
        assert!(record.message.contains(&ip.to_string()), "{ip}: {record:?}");
    }
    denied(&stored, 8, "the port of another service");
    denied(&stored, 9, "the port of another service");
    assert_eq!(calls.load(Ordering::SeqCst), 0, "nobody was called on this machine");
}

#[tokio::test]
async fn on_a_network_of_ones_own_private_addresses_are_called_and_impossible_ones_still_denied() {
    let good = LoopbackValidator::start(ValidatorOptions::default()).await.unwrap();
    let private = LoopbackValidator::start(ValidatorOptions::default()).await.unwrap();
    let mut mapped = private.entry(Wire::Btauth);
    mapped.ip = "::ffff:127.0.0.1".parse().unwrap();
    let cases = [
        ("169.254.169.254:80", "the metadata address of cloud machines"),
        ("[::ffff:169.254.169.254]:80", "the metadata address of cloud machines"),
        ("[fe80::1]:80", "a link-local address"),
        ("0.1.2.3:80", "0.0.0.0/8"),
        ("224.0.0.1:80", "a multicast address"),
        ("[2002:7f00:1::1]:80", "a 6to4 address"),
    ];
    let mut list = vec![good.entry(Wire::Btauth), mapped];
    for (n, (address, _)) in (10..).zip(cases) {
        list.push(validator(n, address.parse().unwrap()));
    }
    let mut options = HttpOptions::default();
    options.policy = AddressPolicy::AllowPrivate;
    let transport = HttpTransport::new(Arc::new(Hotkey::from_seed([1; 32])), options);
    let stored = deliver(list, Arc::new(transport), &good).await;
    for (n, (_, why)) in (10..).zip(cases) {
        denied(&stored, n, why);
    }
    assert_eq!(private.count(), 1, "allowed is called");
    assert_eq!(stored.validators[private.hotkey()].state, DeliveryState::Accepted);
}

#[tokio::test]
async fn hostile_entries_of_the_chain_end_denied_and_the_good_validator_is_served() {
    let good = LoopbackValidator::start(ValidatorOptions::default()).await.unwrap();
    let mut node = MockNode::builder().block_time(Some(Duration::from_millis(20)));
    let axons: [(u8, &str, &str); 6] = [
        (10, "127.0.0.1:9", "a loopback address"),
        (11, "[::ffff:127.0.0.1]:9", "a loopback address"),
        (12, "169.254.169.254:80", "the metadata address"),
        (13, "[::1]:9", "a loopback address"),
        (14, "10.1.2.3:8091", "a private address"),
        (15, "100.64.0.1:8091", "a provider's inner network"),
    ];
    let neuron = |hotkey: &str, axon: SocketAddr| {
        MockNeuron::validator(hotkey, Hotkey::from_seed([99; 32]).hotkey(), axon, 65_535)
    };
    node = node.neuron(NETUID, neuron(good.hotkey(), good.address()));
    for (n, axon, _) in axons {
        node = node.neuron(NETUID, neuron(&hotkey(n), axon.parse().unwrap()));
    }
    // These serve nothing: port or address zero.
    node = node.neuron(NETUID, neuron(&hotkey(16), "93.184.216.34:0".parse().unwrap()));
    node = node.neuron(NETUID, neuron(&hotkey(17), "0.0.0.0:8091".parse().unwrap()));
    node = node.neuron(NETUID, neuron(&hotkey(18), "[::]:8091".parse().unwrap()));
    let node = node.start().await.unwrap();
    let client = ChainClient::new(ChainOptions::endpoints([node.url()]).unwrap());
    let directory = ChainDirectory::new(client, DirectoryOptions::new(NETUID));
    directory.open().await.unwrap();
    let list: Vec<Validator> = directory.watch().borrow().iter().cloned().collect();
    assert_eq!(list.len(), 1 + axons.len(), "who serves nothing is not in the list: {list:?}");
    let stored = deliver(list, Arc::new(Guarded::new(good.hotkey())), &good).await;
    for (n, _, why) in axons {
        denied(&stored, n, why);
    }
    node.shutdown().await;
}
