//! The directory that follows the chain, and the engine that delivers by it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ptn_core::chain::mock::{Fault, MockNeuron, MockNode};
use ptn_core::chain::{ChainClient, ChainDirectory, DirectoryOptions, MetagraphCache};
use ptn_core::deliver::{DeliveryPolicy, Engine, Select};
use ptn_core::directory::{Snapshot, Validator, ValidatorDirectory as _, Wire};
use ptn_core::record::{DeliveryState, SignalState};
use ptn_core::rules::{Era, Rules};
use ptn_core::signal::Signal;
use ptn_core::store::{MemoryStore, SignalStore as _, StoredSignal};
use ptn_core::transport::HttpTransport;
use ptn_core::transport::address::AddressPolicy;
use ptn_core::transport::http::HttpOptions;
use ptn_core::validator::{LoopbackValidator, ValidatorOptions};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{NETUID, address, axon, builder, client, dead_end, key, options};

const SOON: Duration = Duration::from_secs(10);

/// Reads on request only, and then at once.
fn on_request() -> DirectoryOptions {
    let mut options = DirectoryOptions::new(NETUID);
    options.refresh = Duration::from_secs(3_600);
    options.pause = Duration::from_millis(50);
    options
}

/// Waits until the list is as wanted.
async fn until(list: &mut watch::Receiver<Snapshot>, wanted: impl Fn(&[Validator]) -> bool) {
    let seen = tokio::time::timeout(SOON, list.wait_for(|list| wanted(list))).await;
    seen.expect("in time").expect("the directory lives");
}

#[tokio::test]
async fn the_list_holds_who_serves_with_trust_stake_permit_and_wire() {
    let node = builder().start().await.unwrap();
    let mut options = on_request();
    options.wires.insert(address(2), Wire::Dendrite);
    let directory = ChainDirectory::new(client(&node), options);
    directory.open().await.unwrap();
    let list = directory.watch().borrow().clone();
    assert_eq!(list.len(), 2, "the third serves nothing: {list:?}");
    assert_eq!(list[0].address(), axon(8091));
    assert!((list[0].v_trust - 1.0).abs() < 1e-9 && (list[0].stake - 10_000.0).abs() < 1e-9);
    assert!(list[0].permit);
    assert_eq!((list[0].wire, list[1].wire), (Wire::Btauth, Wire::Dendrite));
    assert!((list[1].v_trust - 32_768.0 / 65_535.0).abs() < 1e-12);
    node.shutdown().await;
}

#[tokio::test]
async fn the_member_itself_and_whoever_states_its_address_are_not_in_the_list() {
    let node = builder().start().await.unwrap();
    node.move_axon(NETUID, &address(2), Some(axon(9_100)));
    for (member, left) in [(address(1), vec![9_100]), (address(2), vec![8_091])] {
        let mut options = on_request();
        options.member = Some(member);
        let directory = ChainDirectory::new(client(&node), options);
        directory.open().await.unwrap();
        let ports: Vec<_> = directory.watch().borrow().iter().map(|v| v.port).collect();
        assert_eq!(ports, left);
    }
    node.move_axon(NETUID, &address(2), Some(axon(8_091)));
    let mut options = on_request();
    options.member = Some(address(1));
    let directory = ChainDirectory::new(client(&node), options);
    directory.open().await.unwrap();
    assert!(directory.watch().borrow().is_empty(), "the second states the address of the first");
    node.shutdown().await;
}

#[tokio::test]
async fn changes_are_seen_on_schedule_and_on_a_hint() {
    let node = builder().start().await.unwrap();
    for scheduled in [true, false] {
        let mut options = on_request();
        if scheduled {
            options.refresh = Duration::from_millis(50);
        }
        let directory = Arc::new(ChainDirectory::new(client(&node), options));
        directory.open().await.unwrap();
        let stop = CancellationToken::new();
        let run = {
            let (directory, stop) = (Arc::clone(&directory), stop.clone());
            tokio::spawn(async move { directory.run(None, stop).await })
        };
        let mut list = directory.watch();
        let port = if scheduled { 9_001 } else { 9_002 };
        node.move_axon(NETUID, &address(2), Some(axon(port)));
        if !scheduled {
            directory.hint();
        }
        until(&mut list, |list| list.iter().any(|v| v.port == port)).await;
        stop.cancel();
        run.await.unwrap();
    }
    node.move_axon(NETUID, &address(2), None);
    let directory = ChainDirectory::new(client(&node), on_request());
    directory.open().await.unwrap();
    assert_eq!(directory.watch().borrow().len(), 1, "who serves nothing any more is gone");
    node.shutdown().await;
}

#[tokio::test]
async fn a_list_that_nobody_is_on_any_more_is_not_believed() {
    let node = builder().start().await.unwrap();
    let directory = ChainDirectory::new(client(&node), on_request());
    directory.open().await.unwrap();
    node.change(NETUID, |subnet| subnet.neurons.clear());
    directory.refresh().await.unwrap();
    assert_eq!(directory.watch().borrow().len(), 2);
    node.shutdown().await;
}

#[tokio::test]
async fn a_miner_starts_from_the_copy_on_disk_and_keeps_trying() {
    let folder = tempfile::tempdir().unwrap();
    let cache = MetagraphCache::new(folder.path(), NETUID);
    let mut with_cache = on_request();
    with_cache.cache = Some(cache.clone());
    let node = builder().start().await.unwrap();
    let port: u16 = node.url().rsplit(':').next().unwrap().parse().unwrap();
    let first = ChainDirectory::new(client(&node), with_cache.clone());
    first.open().await.unwrap();
    let chain = client(&node);
    node.shutdown().await;

    let directory = Arc::new(ChainDirectory::new(chain, with_cache));
    directory.open().await.unwrap();
    assert_eq!(directory.watch().borrow().len(), 2, "from disk");
    let state = directory.state().borrow().clone();
    assert!(state.from_disk && state.error.is_some());
    assert!(state.age().unwrap() < SOON);
    let stop = CancellationToken::new();
    let run = {
        let (directory, stop) = (Arc::clone(&directory), stop.clone());
        tokio::spawn(async move { directory.run(None, stop).await })
    };
    let node = builder()
        .neuron(NETUID, MockNeuron::validator(&address(4), &address(104), axon(8094), 1))
        .port(port)
        .start()
        .await
        .unwrap();
    until(&mut directory.watch(), |list| list.len() == 3).await;
    let mut state = directory.state();
    let confirmed = state.wait_for(|state| !state.from_disk && state.error.is_none());
    tokio::time::timeout(SOON, confirmed).await.unwrap().unwrap();
    stop.cancel();
    run.await.unwrap();
    node.shutdown().await;
}

#[tokio::test]
async fn a_chain_that_stands_still_does_not_look_fresh() {
    // Blocks come on request only, and are final at once.
    let node = builder().block_time(None).finality_lag(0).start().await.unwrap();
    let mut options = on_request();
    options.standstill = Duration::from_millis(200);
    let directory = ChainDirectory::new(client(&node), options);
    directory.refresh().await.unwrap();
    let state = || directory.state().borrow().clone();
    let first = state();
    assert!(!first.stands_still && first.error.is_none());
    tokio::time::sleep(Duration::from_millis(250)).await;
    directory.refresh().await.unwrap();
    let still = state();
    assert_eq!(still.moved_at, first.moved_at, "the read is new, the block is not");
    assert!(still.age().unwrap() >= Duration::from_millis(250));
    assert!(still.stands_still && still.error.is_none(), "the node answers, and says nothing new");

    node.advance(1);
    directory.refresh().await.unwrap();
    let moved = state();
    assert!(!moved.stands_still && moved.moved_at > first.moved_at);
    node.shutdown().await;
}

#[tokio::test]
async fn without_chain_and_copy_the_error_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = on_request();
    options.cache = Some(MetagraphCache::new(folder.path(), NETUID));
    let directory = ChainDirectory::new(ChainClient::new(crate::options(&[dead_end()])), options);
    let error = directory.open().await.unwrap_err();
    assert_eq!(error.code(), "chain_connect", "{error}");
}

#[tokio::test]
async fn a_copy_that_is_damaged_or_of_another_chain_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let cache = MetagraphCache::new(folder.path(), NETUID);
    assert!(cache.load().unwrap().is_none());
    let node = builder().start().await.unwrap();
    let metagraph = client(&node).metagraph(NETUID).await.unwrap();
    cache.save(&metagraph).unwrap();
    let loaded = cache.load().unwrap().unwrap();
    assert_eq!((&loaded.neurons, loaded.block), (&metagraph.neurons, metagraph.block));
    let others = std::fs::read_dir(folder.path().join(".ptn")).unwrap().count();
    assert_eq!(others, 1, "nothing half made is left");

    let text = std::fs::read_to_string(cache.path()).unwrap();
    for (damaged, words) in [
        (text[..text.len() / 2].to_owned(), "cannot be read"),
        (text.replace("\"format\":1", "\"format\":2"), "format 2"),
        (text.replace("\"netuid\":8", "\"netuid\":9"), "subnet 9"),
    ] {
        std::fs::write(cache.path(), damaged).unwrap();
        let error = cache.load().unwrap_err();
        assert_eq!(error.code(), "chain_cache");
        assert!(error.to_string().contains(words), "{error}");
    }
    std::fs::write(cache.path(), &text).unwrap();
    let mut chosen = options(&[dead_end()]);
    chosen.expected_genesis = Some([7; 32]);
    let mut with_cache = on_request();
    with_cache.cache = Some(cache);
    let directory = ChainDirectory::new(ChainClient::new(chosen), with_cache.clone());
    assert!(directory.open().await.is_err(), "the copy is of another chain");
    node.shutdown().await;
    // Where the chain may be any but this one, too; where it may be any, it is used.
    let mut chosen = options(&[dead_end()]);
    let genesis = hex::decode(metagraph.genesis.trim_start_matches("0x")).unwrap();
    chosen.refused_genesis = Some(genesis.try_into().unwrap());
    let directory = ChainDirectory::new(ChainClient::new(chosen), with_cache.clone());
    assert!(directory.open().await.is_err(), "the copy is of the chain that is not meant");
    let anywhere = ChainClient::new(options(&[dead_end()]));
    ChainDirectory::new(anywhere, with_cache).open().await.unwrap();
}

/// An engine whose validators come from the chain, with real sockets on both sides.
struct Delivery {
    rules: Rules,
    engine: Engine,
    directory: Arc<ChainDirectory>,
    stop: CancellationToken,
}

impl Delivery {
    async fn start(node: &MockNode, wait: Duration) -> Self {
        let rules = Rules::load(Era::Y2026).unwrap();
        let mut policy = DeliveryPolicy::preset(&rules, None);
        policy.select = Select::All;
        policy.waits = vec![wait; 20];
        policy.jitter = 0.0;
        policy.pacing = None;
        policy.warm_every = None;
        policy.timeout = Duration::from_secs(2);
        let directory = Arc::new(ChainDirectory::new(client(node), on_request()));
        directory.open().await.unwrap();
        let mut http = HttpOptions::default();
        http.policy = AddressPolicy::AllowPrivate;
        let transport = HttpTransport::new(Arc::new(key(50)), http);
        let store = Arc::new(MemoryStore::new());
        let engine = Engine::builder()
            .store(Arc::clone(&store) as _)
            .directory(Arc::clone(&directory) as _)
            .transport(Arc::new(transport))
            .policy(policy)
            .start()
            .unwrap();
        let stop = CancellationToken::new();
        let events = store.events();
        let (follow, end) = (Arc::clone(&directory), stop.clone());
        tokio::spawn(async move { follow.run(Some(events), end).await });
        Self { rules, engine, directory, stop }
    }

    async fn deliver(&self, before: impl AsyncFnOnce()) -> StoredSignal {
        let body = r#"{"trade_pair":"BTCUSDC","order_type":"LONG","leverage":0.1}"#;
        let signal = Signal::from_json(body.as_bytes(), &self.rules).unwrap();
        let receipt = self.engine.submit(&signal).await.unwrap();
        before().await;
        tokio::time::timeout(SOON, receipt.finished()).await.unwrap().unwrap()
    }
}

async fn validator(seed: u8) -> LoopbackValidator {
    let mut options = ValidatorOptions::default();
    options.hotkey = key(seed);
    LoopbackValidator::start(options).await.unwrap()
}

fn nobody() -> SocketAddr {
    dead_end().trim_start_matches("ws://").parse().unwrap()
}

#[tokio::test]
async fn a_validator_that_moves_between_two_attempts_is_followed() {
    let moved = validator(1).await;
    // The list still has its old address, where nobody listens any more.
    let node = MockNode::builder()
        .neuron(NETUID, MockNeuron::validator(&address(1), &address(101), nobody(), 65_535))
        .start()
        .await
        .unwrap();
    let delivery = Delivery::start(&node, Duration::from_millis(200)).await;
    let target = moved.address();
    let stored = delivery
        // The failed attempt itself is the hint; nobody else asks for a new list.
        .deliver(async || node.move_axon(NETUID, &address(1), Some(target)))
        .await;
    assert_eq!(stored.state, SignalState::Processed, "{stored:?}");
    let record = &stored.validators[&address(1)];
    assert!(record.attempts > 1 && record.address == target.to_string(), "{record:?}");
    assert_eq!(moved.count(), 1, "and it got the order once");
    delivery.stop.cancel();
    node.shutdown().await;
}

#[tokio::test]
async fn somebody_else_at_the_old_address_is_noticed_and_the_new_one_followed() {
    let (squatter, moved) = (validator(77).await, validator(1).await);
    let node = MockNode::builder()
        .neuron(
            NETUID,
            MockNeuron::validator(&address(1), &address(101), squatter.address(), 65_535),
        )
        .start()
        .await
        .unwrap();
    let delivery = Delivery::start(&node, Duration::from_millis(100)).await;
    node.move_axon(NETUID, &address(1), Some(moved.address()));
    let stored = delivery.deliver(async || ()).await;
    // The wrong peer's refusal costs a try; the next one goes to the right place.
    assert_eq!(stored.state, SignalState::Processed, "{stored:?}");
    assert_eq!(moved.count(), 1);
    delivery.stop.cancel();
    node.shutdown().await;
}

#[tokio::test]
async fn a_validator_that_drops_out_between_two_attempts_ends_properly() {
    let stays = validator(2).await;
    let node = MockNode::builder()
        .neuron(NETUID, MockNeuron::validator(&address(1), &address(101), nobody(), 65_535))
        .neuron(NETUID, MockNeuron::validator(&address(2), &address(102), stays.address(), 65_535))
        .start()
        .await
        .unwrap();
    let delivery = Delivery::start(&node, Duration::from_millis(200)).await;
    let stored = delivery.deliver(async || node.remove(NETUID, &address(1))).await;
    let gone = &stored.validators[&address(1)];
    assert_eq!((gone.state, gone.code.as_str()), (DeliveryState::Cancelled, "left_metagraph"));
    assert_eq!(stored.validators[&address(2)].state, DeliveryState::Accepted);
    assert_eq!(stays.count(), 1);
    delivery.stop.cancel();
    node.shutdown().await;
}

#[tokio::test]
async fn deliveries_go_on_while_the_chain_is_down() {
    let stays = validator(2).await;
    let node = MockNode::builder()
        .neuron(NETUID, MockNeuron::validator(&address(2), &address(102), stays.address(), 65_535))
        .start()
        .await
        .unwrap();
    let delivery = Delivery::start(&node, Duration::from_millis(100)).await;
    node.set_faults([Fault::Drop]);
    node.drop_connections();
    delivery.directory.hint();
    let stored = delivery.deliver(async || ()).await;
    assert_eq!(stored.state, SignalState::Processed, "{stored:?}");
    let mut state = delivery.directory.state();
    let failed = state.wait_for(|state| state.error.is_some());
    tokio::time::timeout(SOON, failed).await.unwrap().unwrap();
    assert_eq!(delivery.directory.watch().borrow().len(), 1);
    delivery.stop.cancel();
    node.shutdown().await;
}
