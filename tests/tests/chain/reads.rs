//! What the client reads, from runtimes of two spellings.

use ptn_core::chain::mock::{MockNeuron, MockNode, MockRuntime};
use ptn_core::chain::{Alpha, ChainError, Rao, Score};
use ptn_core::sign::Signer as _;

use crate::{NETUID, TAO, address, axon, builder, client, coldkey};

#[tokio::test]
async fn the_metagraph_has_every_column_in_both_spellings() {
    for runtime in [MockRuntime::plain(393), MockRuntime::newtypes(431)] {
        let node = builder().runtime(runtime.clone()).start().await.unwrap();
        let metagraph = client(&node).metagraph(NETUID).await.unwrap();
        assert_eq!(metagraph.neurons.len(), 3, "{runtime:?}");
        assert_eq!(metagraph.genesis, node.genesis());
        assert!(metagraph.block >= 100 && metagraph.block <= node.block());
        let second = metagraph.neuron(&address(2)).unwrap();
        assert_eq!(second.uid, 1);
        assert_eq!(second.coldkey, address(102));
        assert_eq!(second.axon, Some(axon(8092)));
        assert_eq!(second.stake, Alpha(1_234_567_890_123));
        assert_eq!(second.validator_trust, Score(32_768));
        assert_eq!(
            [second.rank, second.trust, second.consensus, second.incentive, second.dividends],
            [Score(1), Score(2), Score(3), Score(4), Score(5)]
        );
        assert!(second.validator_permit && second.active);
        assert_eq!(metagraph.neurons[2].axon, None, "it serves nothing");
        node.shutdown().await;
    }
}

#[tokio::test]
async fn a_v6_axon_and_one_without_a_port_are_told_apart() {
    let mut silent = MockNeuron::validator(&address(2), &address(102), axon(0), 1);
    silent.permit = false;
    let v6 = "[2001:4860:4860::8888]:8091".parse().unwrap();
    let node = MockNode::builder()
        .neuron(NETUID, MockNeuron::validator(&address(1), &address(101), v6, 1))
        .neuron(NETUID, silent)
        .start()
        .await
        .unwrap();
    let metagraph = client(&node).metagraph(NETUID).await.unwrap();
    assert_eq!(metagraph.neurons[0].axon, Some(v6));
    assert_eq!(metagraph.neurons[1].axon, None);
    node.shutdown().await;
}

/// The numbers in `docs/decisions/0011` come from here.
#[tokio::test]
async fn a_metagraph_of_256_takes_five_requests_and_about_70_kilobytes() {
    let mut builder = MockNode::builder();
    for i in 0..=255 {
        let mut neuron = MockNeuron::validator(&address(i), &address(255 - i), axon(8091), 40_000);
        neuron.last_update = 4_000_000;
        neuron.stake = Alpha(u64::from(i) * 1_000_000_000_000);
        neuron.emission = Alpha(u64::from(i) * 100_000_000);
        neuron.scores = [u16::from(i) * 200; 5];
        builder = builder.neuron(NETUID, neuron);
    }
    let node = builder.start().await.unwrap();
    let chain = client(&node);
    chain.connect().await.unwrap();
    let metagraph = chain.metagraph(NETUID).await.unwrap();
    assert_eq!(metagraph.neurons.len(), 256);
    println!("256 neurons: {:?}", metagraph.traffic);
    assert_eq!(metagraph.traffic.requests, 5);
    assert!((60_000..80_000).contains(&metagraph.traffic.bytes_in), "{:?}", metagraph.traffic);
    node.shutdown().await;
}

#[tokio::test]
async fn a_runtime_that_counts_columns_differently_is_asked_for_everything() {
    let node = builder().start().await.unwrap();
    node.shift_columns(1);
    let metagraph = client(&node).metagraph(NETUID).await.unwrap();
    assert_eq!(metagraph.neuron(&address(2)).unwrap().axon, Some(axon(8092)));
    node.shutdown().await;
}

#[tokio::test]
async fn a_runtime_without_the_selective_call_or_without_rank_and_trust_will_do() {
    for lacking in ["get_selective_metagraph", "get_metagraph", "rank", "trust"] {
        let runtime = MockRuntime::newtypes(440).lacking(lacking);
        let node = builder().runtime(runtime).start().await.unwrap();
        let metagraph = client(&node).metagraph(NETUID).await.unwrap();
        assert_eq!(metagraph.neurons[1].validator_trust, Score(32_768), "{lacking}");
        node.shutdown().await;
    }
}

#[tokio::test]
async fn what_a_runtime_lacks_is_named() {
    for (lacking, code, named) in [
        ("ValidatorTrust", "chain_missing_shape", "SubtensorModule.ValidatorTrust"),
        ("Uids", "chain_missing_shape", "SubtensorModule.Uids"),
        ("hotkeys", "chain_missing_shape", "column hotkeys"),
        ("Account", "chain_missing_shape", "System.Account"),
    ] {
        let runtime = MockRuntime::plain(500).lacking(lacking);
        let node = builder().runtime(runtime).start().await.unwrap();
        let error = client(&node).connect().await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        let text = error.to_string();
        assert!(text.contains(named) && text.contains("version 500"), "{text}");
        assert!(text.contains(&node.url()), "{text}");
        node.shutdown().await;
    }
    // What only a registration needs does not stop anybody from delivering.
    let runtime = MockRuntime::plain(500).lacking("Burn");
    let node = builder().runtime(runtime).start().await.unwrap();
    let chain = client(&node);
    let info = chain.connect().await.unwrap();
    assert!(info.missing[0].contains("SubtensorModule.Burn"), "{info:?}");
    chain.metagraph(NETUID).await.unwrap();
    let error = chain.registration_terms(NETUID).await.unwrap_err();
    assert!(error.to_string().contains("SubtensorModule.Burn"), "{error}");
    node.shutdown().await;
}

#[tokio::test]
async fn registration_and_ownership_of_hotkeys() {
    let node = builder().start().await.unwrap();
    let chain = client(&node);
    assert_eq!(chain.uid_of(NETUID, &address(2)).await.unwrap(), Some(1));
    assert_eq!(chain.uid_of(NETUID, &address(9)).await.unwrap(), None);
    assert_eq!(chain.owner_of(&address(2)).await.unwrap(), Some(address(102)));
    assert_eq!(chain.owner_of(&address(9)).await.unwrap(), None);
    let error = chain.uid_of(NETUID, "5nonsense").await.unwrap_err();
    assert_eq!(error.code(), "chain_bad_address");
    node.shutdown().await;
}

#[tokio::test]
async fn balances_are_whole_numbers() {
    for runtime in [MockRuntime::plain(393), MockRuntime::newtypes(431)] {
        let node = builder().runtime(runtime).start().await.unwrap();
        let chain = client(&node);
        let balance = chain.balance(coldkey().hotkey()).await.unwrap();
        assert_eq!((balance.free, balance.reserved), (Rao(10 * TAO), Rao(0)));
        assert_eq!(balance.free.to_string(), "10.000000000");
        assert_eq!(chain.balance(&address(9)).await.unwrap().free, Rao(0), "unknown account");
        node.shutdown().await;
    }
}

#[tokio::test]
async fn the_terms_of_registration_with_and_without_a_collateral_lock() {
    for (runtime, locked, limit) in [
        (MockRuntime::newtypes(440), Rao(500_007_629), true),
        (
            MockRuntime::plain(393)
                .lacking("CollateralLockShare")
                .lacking("NetworkPowRegistrationAllowed")
                .lacking("register_limit"),
            Rao(0),
            false,
        ),
    ] {
        let node = builder()
            .runtime(runtime)
            .subnet(NETUID, |subnet| {
                subnet.burn = Rao(TAO);
                subnet.lock_share = 32_768;
                subnet.max_members = 3;
                subnet.target = 1;
                subnet.this_interval = 3;
            })
            .start()
            .await
            .unwrap();
        let terms = client(&node).registration_terms(NETUID).await.unwrap();
        assert_eq!((terms.price, terms.locked), (Rao(TAO), locked));
        assert_eq!(terms.burnt(), Rao(TAO - locked.0));
        assert_eq!(terms.limit_available, limit);
        assert_eq!(terms.pow_allowed.is_some(), limit);
        assert!(terms.allowed && terms.is_full() && terms.interval_is_full());
        assert_eq!((terms.members, terms.max_members, terms.immunity_period), (3, 3, 7_200));
        node.shutdown().await;
    }
}

#[tokio::test]
async fn a_subnet_that_does_not_exist_is_named() {
    let node = builder().start().await.unwrap();
    let chain = client(&node);
    let error = chain.metagraph(9).await.unwrap_err();
    assert!(matches!(error, ChainError::NoSubnet { netuid: 9 }), "{error}");
    let error = chain.registration_terms(9).await.unwrap_err();
    assert!(matches!(error, ChainError::NoSubnet { netuid: 9 }), "{error}");
    node.shutdown().await;
}

#[tokio::test]
async fn whole_wallets_are_read_at_one_block() {
    for runtime in [MockRuntime::plain(393), MockRuntime::newtypes(431)] {
        let more = MockNeuron::new(&address(2), &address(102));
        let node = builder().runtime(runtime).neuron(116, more).start().await.unwrap();
        let chain = client(&node);
        let all = [coldkey().hotkey().to_owned(), address(50)];
        let balances = chain.balances(&all).await.unwrap();
        assert_eq!((balances[0].free, balances[1].free), (Rao(10 * TAO), Rao(0)));
        let hotkeys = [address(1), address(2), address(50)];
        let subnets: Vec<u16> = chain.subnets_of(&hotkeys).await.unwrap().into_iter().collect();
        assert_eq!(subnets, [NETUID, 116]);
        assert!(chain.subnets_of::<&str>(&[]).await.unwrap().is_empty());
        let error = chain.balances(&["5Nonsense"]).await.unwrap_err();
        assert_eq!(error.code(), "chain_bad_address");
        node.shutdown().await;
    }
    let without = MockRuntime::plain(500).lacking("IsNetworkMember");
    let node = builder().runtime(without).start().await.unwrap();
    let error = client(&node).subnets_of(&[address(1)]).await.unwrap_err();
    assert!(error.to_string().contains("IsNetworkMember"), "{error}");
    node.shutdown().await;
}

#[tokio::test]
async fn commit_reveal_is_seen() {
    let node =
        builder().subnet(NETUID, |subnet| subnet.commit_reveal = true).start().await.unwrap();
    assert!(client(&node).commit_reveal_enabled(NETUID).await.unwrap());
    node.change(NETUID, |subnet| subnet.commit_reveal = false);
    assert!(!client(&node).commit_reveal_enabled(NETUID).await.unwrap());
    node.shutdown().await;
}

#[tokio::test]
async fn questions_can_be_asked_from_any_task() {
    let node = builder().start().await.unwrap();
    let chain = client(&node);
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let chain = chain.clone();
            tokio::spawn(async move { chain.metagraph(NETUID).await.unwrap().neurons.len() })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), 3);
    }
    assert_eq!(node.connections(), 1, "all share one connection");
    node.shutdown().await;
}
