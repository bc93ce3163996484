//! Nodes that are dead, die, stall, lie, answer garbage or belong elsewhere.

use std::time::{Duration, Instant};

use ptn_core::chain::mock::Fault;
use ptn_core::chain::{Call, ChainClient, ChainError, ChainOptions, Network, Step};
use ptn_core::error::ErrorClass;

use crate::{NETUID, address, builder, client, coldkey, dead_end, options};

#[tokio::test]
async fn a_dead_first_node_is_passed_over() {
    let node = builder().start().await.unwrap();
    let chain = ChainClient::new(options(&[dead_end(), node.url()]));
    assert_eq!(chain.metagraph(NETUID).await.unwrap().neurons.len(), 3);
    assert_eq!(chain.connect().await.unwrap().endpoint, node.url());
    assert_eq!(node.connections(), 1, "and is not tried again for every question");
    node.shutdown().await;
}

#[tokio::test]
async fn a_lost_connection_is_opened_again() {
    let node = builder().start().await.unwrap();
    let chain = client(&node);
    for _ in 0..3 {
        assert_eq!(chain.metagraph(NETUID).await.unwrap().neurons.len(), 3);
        node.drop_connections();
    }
    node.shutdown().await;
}

#[tokio::test]
async fn a_node_that_dies_in_the_middle_of_a_question_is_replaced() {
    for method in ["chain_getFinalizedHead", "chain_getHeader", "state_call", "state_getStorage"] {
        let first = builder().start().await.unwrap();
        let second = builder().start().await.unwrap();
        first.set_faults([Fault::Drop.on(method)]);
        let chain = ChainClient::new(options(&[first.url(), second.url()]));
        assert_eq!(chain.metagraph(NETUID).await.unwrap().neurons.len(), 3, "{method}");
        assert!(second.connections() > 0, "{method}");
        first.shutdown().await;
        second.shutdown().await;
    }
}

#[tokio::test]
async fn a_stalling_node_is_given_up_in_time() {
    let first = builder().start().await.unwrap();
    let second = builder().start().await.unwrap();
    first.set_faults([Fault::Stall]);
    let options = options(&[first.url(), second.url()])
        .with_timeouts(Duration::from_secs(2), Duration::from_millis(300));
    let chain = ChainClient::new(options);
    let began = Instant::now();
    assert_eq!(chain.metagraph(NETUID).await.unwrap().neurons.len(), 3);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    first.shutdown().await;
    second.shutdown().await;
}

#[tokio::test]
async fn one_node_that_stalls_is_a_time_out_that_says_what_was_asked() {
    let node = builder().start().await.unwrap();
    node.set_faults([Fault::Stall.on("state_call")]);
    let options =
        options(&[node.url()]).with_timeouts(Duration::from_secs(2), Duration::from_millis(300));
    let error = ChainClient::new(options).metagraph(NETUID).await.unwrap_err();
    assert_eq!((error.code(), error.class()), ("chain_timeout", ErrorClass::Unavailable));
    assert!(
        error.to_string().contains("metadata") && error.to_string().contains("0.3 s"),
        "{error}"
    );
    node.shutdown().await;
}

#[tokio::test]
async fn garbage_is_not_believed() {
    for method in [
        "chain_getBlockHash",
        "chain_getFinalizedHead",
        "chain_getHeader",
        "state_getRuntimeVersion",
        "state_call",
        "state_getStorage",
    ] {
        let first = builder().start().await.unwrap();
        let second = builder().start().await.unwrap();
        first.set_faults([Fault::Garbage.on(method)]);
        let both = ChainClient::new(options(&[first.url(), second.url()]));
        assert_eq!(both.metagraph(NETUID).await.unwrap().neurons.len(), 3, "{method}");
        let error = client(&first).metagraph(NETUID).await.unwrap_err();
        assert_eq!(error.code(), "chain_bad_answer", "{method}: {error}");
        first.shutdown().await;
        second.shutdown().await;
    }
}

#[tokio::test]
async fn a_node_that_is_far_behind_is_not_believed() {
    let first = builder().start().await.unwrap();
    let second = builder().start().await.unwrap();
    let chain = ChainClient::new(options(&[first.url(), second.url()]));
    chain.metagraph(NETUID).await.unwrap();
    assert_eq!(second.connections(), 0);
    first.set_faults([Fault::Behind(60)]);
    let block = chain.block().await.unwrap();
    assert!(block >= 100, "from the second node: {block}");
    assert_eq!(second.connections(), 1);
    // Alone it is an error, until it has caught up.
    let alone = client(&second);
    let now = alone.block().await.unwrap();
    second.set_faults([Fault::Behind(60)]);
    let error = alone.block().await.unwrap_err();
    let ChainError::Behind { block, seen, .. } = error else { panic!("{error}") };
    assert!(block + 20 < seen && seen >= now, "{block} {seen} {now}");
    second.set_faults::<[Fault; 0]>([]);
    assert!(alone.block().await.unwrap() >= now);
    first.shutdown().await;
    second.shutdown().await;
}

#[tokio::test]
async fn a_node_of_another_chain_is_refused() {
    let node = builder().start().await.unwrap();
    let finney = Network::Finney.genesis().unwrap();
    let mut chosen = options(&[node.url()]);
    chosen.expected_genesis = Some(finney);
    let chain = ChainClient::new(chosen);
    let error = chain.metagraph(NETUID).await.unwrap_err();
    assert_eq!((error.code(), error.class()), ("chain_wrong_genesis", ErrorClass::Conflict));
    let text = error.to_string();
    assert!(text.contains(&node.genesis()) && text.contains("0x2f0555cc76fc2840"), "{text}");
    let call = Call::burned_register(NETUID, &address(9)).unwrap();
    let error = chain.submit(&call, &coldkey()).await.unwrap_err();
    assert_eq!(error.code(), "chain_wrong_genesis", "nothing is signed for another chain");
    assert_eq!(node.requests("author_submitAndWatchExtrinsic"), 0);
    node.shutdown().await;

    let node = builder().genesis(finney).start().await.unwrap();
    let chosen = options(&[node.url()]).with_expected_genesis(&node.genesis()).unwrap();
    assert_eq!(ChainClient::new(chosen).metagraph(NETUID).await.unwrap().genesis, node.genesis());
    // Another network's name does not lead to finney either.
    for network in [Network::Test, Network::Local] {
        let mut chosen = options(&[node.url()]);
        chosen.refused_genesis = ChainOptions::network(network).refused_genesis;
        let error = ChainClient::new(chosen).metagraph(NETUID).await.unwrap_err();
        assert_eq!(error.code(), "chain_wrong_genesis", "{network}: {error}");
    }
    assert!(ChainOptions::network(Network::Finney).with_expected_genesis("0x12").is_err());
    node.shutdown().await;
}

#[tokio::test]
async fn when_all_fail_each_is_named() {
    let (one, two) = (dead_end(), dead_end());
    let error = ChainClient::new(options(&[one.clone(), two.clone()])).block().await.unwrap_err();
    assert_eq!(error.code(), "chain_unreachable");
    let text = error.to_string();
    assert!(text.contains(&one) && text.contains(&two), "{text}");
    let error = ChainClient::new(options(&[one])).block().await.unwrap_err();
    assert_eq!(error.code(), "chain_connect");
}

#[tokio::test]
async fn a_call_whose_node_goes_silent_is_searched_for_and_not_signed_twice() {
    // Before the node answers, but after it took the call; before it took it; and afterwards.
    for fault in [
        Fault::DoAndDrop.on("author_submitAndWatchExtrinsic").first(1),
        Fault::Drop.on("author_submitAndWatchExtrinsic").first(1),
        Fault::Drop.on("chain_getBlock").first(1),
    ] {
        let node = builder().start().await.unwrap();
        node.set_faults([fault.clone()]);
        let chain = client(&node);
        let call = Call::burned_register(NETUID, &address(9)).unwrap();
        let progress = chain.submit(&call, &coldkey()).await.unwrap();
        let place = progress.wait_final().await.unwrap();
        assert!(place.number > 100, "{fault:?}");
        assert_eq!(chain.uid_of(NETUID, &address(9)).await.unwrap(), Some(3), "{fault:?}");
        let members = node.subnet(NETUID).unwrap().neurons.len();
        assert_eq!(members, 4, "{fault:?}: registered once");
        node.shutdown().await;
    }
}

#[tokio::test]
async fn a_call_that_no_block_took_expires_with_certainty() {
    let node = builder().start().await.unwrap();
    node.set_faults([
        Fault::Drop.on("author_submitAndWatchExtrinsic"),
        Fault::refuse(1010, "Invalid Transaction", "Custom error: 6"),
        Fault::Refuse { code: 1010, message: "no".to_owned(), data: String::new() }
            .on("author_submitExtrinsic"),
    ]);
    let mut chosen = options(&[node.url()]);
    chosen.lifetime = 8;
    let call = Call::burned_register(NETUID, &address(9)).unwrap();
    let progress = ChainClient::new(chosen).submit(&call, &coldkey()).await.unwrap();
    let until = progress.until();
    let error = progress.wait_final().await.unwrap_err();
    assert_eq!(error.code(), "chain_dropped", "{error}");
    assert!(error.to_string().contains(&until.to_string()), "{error}");
    assert!(node.block() >= until);
    node.shutdown().await;
}

#[tokio::test]
async fn a_call_whose_fate_cannot_be_learnt_is_uncertain() {
    let node = builder().start().await.unwrap();
    let mut chosen = options(&[node.url()]);
    chosen.progress_timeout = Duration::from_millis(300);
    let call = Call::burned_register(NETUID, &address(9)).unwrap();
    let mut progress = ChainClient::new(chosen).submit(&call, &coldkey()).await.unwrap();
    assert_eq!(progress.next().await.unwrap().unwrap(), Step::Ready);
    let until = progress.until();
    node.shutdown().await;
    let error = loop {
        match progress.next().await.unwrap() {
            Ok(_) => {}
            Err(e) => break e,
        }
    };
    assert_eq!((error.code(), error.class()), ("chain_uncertain", ErrorClass::Uncertain));
    assert!(error.to_string().contains(&until.to_string()), "{error}");
    assert!(progress.next().await.is_none());
}

#[tokio::test]
async fn an_idle_connection_is_kept_alive() {
    let node = builder().start().await.unwrap();
    let mut chosen = options(&[node.url()]);
    chosen.ping_interval = Duration::from_millis(50);
    let chain = ChainClient::new(chosen);
    chain.block().await.unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    chain.block().await.unwrap();
    assert_eq!(node.connections(), 1);
    node.shutdown().await;
}

#[tokio::test]
async fn encryption_with_a_node_that_has_none_is_an_error_like_others() {
    let node = builder().start().await.unwrap();
    let url = node.url().replace("ws://", "wss://");
    let error = ChainClient::new(options(&[url])).block().await.unwrap_err();
    assert!(matches!(error.code(), "chain_connect" | "chain_timeout"), "{error}");
    node.shutdown().await;
}
