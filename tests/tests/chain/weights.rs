//! Weights: set by a validator's hotkey, kept by the chain as it keeps them, read back at one block,
//! and every way in which they are refused.

use ptn_core::chain::mock::{MockBuilder, MockNode, MockRuntime, MockSubnet};
use ptn_core::chain::{Alpha, Call, ChainClient, ChainError, Rao, Step};
use ptn_core::paper::weights::Weights;
use ptn_core::sign::Hotkey;

use crate::{NETUID, address, builder, client, key};

/// What the validators of the network send with their weights.
const VERSION: u64 = 200;

fn set(weights: &[(u16, u16)]) -> Call {
    let (uids, weights) = weights.iter().copied().unzip();
    Call::set_weights(NETUID, uids, weights, VERSION)
}

async fn weighted(change: impl FnOnce(&mut MockSubnet)) -> MockNode {
    builder().subnet(NETUID, change).start().await.unwrap()
}

/// The block that holds a call which takes effect.
async fn done(chain: &ChainClient, call: &Call, signer: &Hotkey) -> u64 {
    chain.submit(call, signer).await.unwrap().wait_final().await.unwrap().number
}

/// The name of the error with which a call fails in its block.
async fn fails(chain: &ChainClient, call: &Call, signer: &Hotkey) -> String {
    let mut progress = chain.submit(call, signer).await.unwrap();
    loop {
        match progress.next().await.unwrap() {
            Ok(Step::Final { .. }) => panic!("{} took effect", call.name()),
            Ok(_) => {}
            Err(ChainError::Failed(failure)) => {
                assert!(failure.meaning().is_some(), "{} is not explained", failure.name);
                assert!(failure.next().len() > 10, "{}", failure.name);
                return failure.name;
            }
            Err(e) => panic!("{e}"),
        }
    }
}

#[tokio::test]
async fn weights_come_back_with_hotkeys_shares_and_the_block_that_set_them() {
    for runtime in [MockRuntime::plain(393), MockRuntime::newtypes(440)] {
        let node = builder().runtime(runtime).start().await.unwrap();
        let chain = client(&node);
        assert_eq!(chain.weights(NETUID).await.unwrap().rows, [], "nobody gave any yet");
        let first = done(&chain, &set(&[(1, 16_384), (2, 49_149)]), &key(1)).await;
        let second = done(&chain, &set(&[(2, 1)]), &key(2)).await;

        let weights = chain.weights(NETUID).await.unwrap();
        assert_eq!(weights.commit_reveal, Some(false));
        assert_eq!(weights.metagraph.netuid, NETUID);
        assert!(weights.metagraph.block >= second);
        let [by_first, by_second] = weights.rows.as_slice() else { panic!("{weights:?}") };
        assert_eq!((by_first.uid, by_first.hotkey.clone()), (0, Some(address(1))));
        assert_eq!((by_first.last_update, by_second.last_update), (first, second));
        assert!(by_first.validator_permit);
        let [one, two] = by_first.weights.as_slice() else { panic!("{by_first:?}") };
        assert_eq!((one.uid, one.hotkey.clone()), (1, Some(address(2))));
        assert_eq!((two.uid, two.hotkey.clone()), (2, Some(address(3))));
        // The chain makes the highest 65535 and keeps the proportion.
        assert_eq!((one.raw, two.raw), (21_846, 65_535));
        assert!((by_first.share(one) - 0.25).abs() < 1e-4, "{}", by_first.share(one));
        assert!((by_first.share(one) + by_first.share(two) - 1.0).abs() < 1e-12);
        assert_eq!(
            by_second.weights.iter().map(|w| (w.uid, w.raw)).collect::<Vec<_>>(),
            [(2, 65_535)]
        );
        assert_eq!(weights.row_of(0).as_ref(), Some(by_first));
        let miner = weights.row_of(2).unwrap();
        assert_eq!(
            (miner.hotkey, miner.weights.len(), miner.last_update),
            (Some(address(3)), 0, 0)
        );
        assert_eq!(weights.row_of(3), None);
        node.shutdown().await;
    }
}

#[tokio::test]
async fn a_subnet_of_256_validators_is_read_in_one_go() {
    let mut many = MockNode::builder();
    for i in 0..=255 {
        let neuron = ptn_core::chain::mock::MockNeuron::new(&address(i), &address(255 - i));
        many = many.neuron(NETUID, neuron);
    }
    let everybody: Vec<(u16, u16)> = (0..256).map(|uid| (uid, uid * 256)).collect();
    let node = many
        .subnet(NETUID, |subnet| {
            for uid in 0..256 {
                subnet.weights.insert(uid, everybody.clone());
            }
        })
        .start()
        .await
        .unwrap();
    let chain = client(&node);
    chain.connect().await.unwrap();
    let before = chain.traffic().await;
    let weights = chain.weights(NETUID).await.unwrap();
    let traffic = chain.traffic().await.since(before);
    assert_eq!(traffic.requests, 8);
    assert!((500_000..700_000).contains(&traffic.bytes_in), "{traffic:?}");
    assert_eq!(weights.rows.len(), 256);
    for (uid, row) in weights.rows.iter().enumerate() {
        assert_eq!(usize::from(row.uid), uid, "in order, although the chain keeps them otherwise");
        assert_eq!(row.weights.len(), 256);
        assert_eq!(row.weights[255].raw, 65_280);
    }
    assert_eq!(node.requests("state_queryStorageAt"), 1);
    assert_eq!(node.requests("state_getKeysPaged"), 1);
    node.shutdown().await;
}

#[tokio::test]
async fn what_paper_works_out_is_what_the_chain_takes() {
    let node = weighted(|subnet| subnet.weights_version = VERSION).await;
    let chain = client(&node);
    let owed = Weights {
        miners: vec![(address(3), 0.6), (address(2), 0.15), ("gone".to_owned(), 0.1)],
        burn: 0.15,
    };
    let members = chain.metagraph(NETUID).await.unwrap();
    let pairs = owed.for_chain(|hotkey| Some(members.neuron(hotkey)?.uid), Some(0));
    let (uids, weights): (Vec<u16>, Vec<u16>) = pairs.iter().copied().unzip();
    done(&chain, &Call::set_weights(NETUID, uids, weights, VERSION), &key(1)).await;
    let row = chain.weights(NETUID).await.unwrap().row_of(0).unwrap();
    let kept: Vec<(u16, u16)> = row.weights.iter().map(|w| (w.uid, w.raw)).collect();
    assert_eq!(kept, pairs, "nothing is scaled a second time");
    // The one who is gone gets nothing, so the others share its part.
    for (weight, part) in row.weights.iter().zip([0.15, 0.15, 0.6]) {
        assert!((row.share(weight) - part / 0.9).abs() < 1e-4, "{weight:?}");
    }
    node.shutdown().await;
}

#[tokio::test]
async fn weights_cost_nothing_so_a_hotkey_needs_no_tao() {
    let node = builder().start().await.unwrap();
    let chain = client(&node);
    assert_eq!(chain.balance(&address(1)).await.unwrap().free, Rao(0));
    let run = chain.dry_run(&set(&[(1, 1)]), &address(1)).await.unwrap();
    assert_eq!(run.fee, Rao(0));
    done(&chain, &set(&[(1, 1)]), &key(1)).await;
    // The same key cannot pay for anything else.
    let transfer = Call::transfer_keep_alive(&address(9), Rao(1)).unwrap();
    let error = chain.submit(&transfer, &key(1)).await.unwrap_err();
    assert_eq!(error.code(), "chain_cannot_pay_fee", "{error}");
    node.shutdown().await;
}

/// What a subnet is like, a call, whose key signs it, and the error that it meets.
type Refused = (fn(&mut MockSubnet), Call, u8, &'static str);

#[tokio::test]
async fn refused_weights_are_named_and_explained() {
    let short = Call::set_weights(NETUID, vec![1, 2], vec![65_535], VERSION);
    let elsewhere = Call::set_weights(77, vec![1], vec![1], VERSION);
    let root = Call::set_weights(0, vec![1], vec![1], VERSION);
    let cases: [Refused; 13] = [
        (|subnet| subnet.commit_reveal = true, set(&[(1, 1)]), 1, "CommitRevealEnabled"),
        (|_| {}, short, 1, "WeightVecNotEqualSize"),
        (|_| {}, root, 1, "CanNotSetRootNetworkWeights"),
        (|_| {}, elsewhere, 1, "SubnetNotExists"),
        (|_| {}, set(&[(0, 1), (1, 1), (2, 1), (3, 1)]), 1, "UidsLengthExceedUidsInSubNet"),
        (|_| {}, set(&[(1, 1)]), 9, "HotKeyNotRegisteredInSubNet"),
        (|subnet| subnet.weights_version = 201, set(&[(1, 1)]), 1, "IncorrectWeightVersionKey"),
        (
            |subnet| {
                subnet.neurons[0].last_update = 90;
                subnet.weights_rate_limit = 100_000;
            },
            set(&[(1, 1)]),
            1,
            "SettingWeightsTooFast",
        ),
        (|_| {}, set(&[(1, 1)]), 3, "NeuronNoValidatorPermit"),
        (|_| {}, set(&[(1, 1), (1, 2)]), 1, "DuplicateUids"),
        (|_| {}, set(&[(3, 1)]), 1, "UidVecContainInvalidOne"),
        (|subnet| subnet.min_allowed_weights = 2, set(&[(1, 1)]), 1, "WeightVecLengthIsLow"),
        (|subnet| subnet.max_weight_limit = 32_768, set(&[(1, 3), (2, 1)]), 1, "MaxWeightExceeded"),
    ];
    for (change, call, signer, name) in cases {
        let node = weighted(change).await;
        let chain = client(&node);
        assert_eq!(fails(&chain, &call, &key(signer)).await, name);
        assert!(node.weights(NETUID).is_empty(), "{name}: nothing was set");
        node.shutdown().await;
    }
}

#[tokio::test]
async fn too_little_stake_is_refused_before_a_block_in_the_same_words() {
    let node = weighted(|subnet| subnet.weights_min_stake = Alpha(u64::MAX)).await;
    let error = client(&node).submit(&set(&[(1, 1)]), &key(1)).await.unwrap_err();
    assert_eq!(error.code(), "chain_refused_by_runtime");
    assert!(error.to_string().contains("less stake than weights need"), "{error}");
    assert_eq!(error.hint(), "Stake more to the hotkey.");
    node.shutdown().await;
}

#[tokio::test]
async fn a_member_without_a_permit_may_weigh_itself_only() {
    let node = weighted(|subnet| {
        subnet.min_allowed_weights = 2;
        subnet.max_weight_limit = 1;
    })
    .await;
    let chain = client(&node);
    done(&chain, &set(&[(2, 5)]), &key(3)).await;
    assert_eq!(node.weights(NETUID)[&2], [(2, 65_535)]);
    node.shutdown().await;
}

#[tokio::test]
async fn the_rate_limit_counts_from_the_last_update() {
    let node = weighted(|subnet| subnet.weights_rate_limit = 30).await;
    let chain = client(&node);
    let first = done(&chain, &set(&[(1, 1)]), &key(1)).await;
    assert_eq!(fails(&chain, &set(&[(2, 1)]), &key(1)).await, "SettingWeightsTooFast");
    assert_eq!(chain.weights(NETUID).await.unwrap().rows[0].last_update, first, "unmoved");
    node.advance(30);
    let second = done(&chain, &set(&[(2, 1)]), &key(1)).await;
    assert!(second >= first + 30);
    let row = chain.weights(NETUID).await.unwrap().row_of(0).unwrap();
    assert_eq!((row.last_update, row.weights[0].uid), (second, 2));
    node.shutdown().await;
}

#[tokio::test]
async fn a_commitment_counts_as_an_update_and_shows_no_weights() {
    let node = weighted(|subnet| {
        subnet.commit_reveal = true;
        subnet.weights_rate_limit = 1_000;
        subnet.weights.insert(0, vec![(2, 65_535)]);
    })
    .await;
    let chain = client(&node);
    let commit = Call::commit_timelocked_weights(NETUID, vec![1, 2, 3], 77, 4);
    let at = done(&chain, &commit, &key(1)).await;
    let weights = chain.weights(NETUID).await.unwrap();
    assert_eq!(weights.commit_reveal, Some(true));
    assert_eq!((weights.rows[0].last_update, weights.rows[0].weights[0].uid), (at, 2));
    assert_eq!(fails(&chain, &commit, &key(1)).await, "CommittingWeightsTooFast");
    node.change(NETUID, |subnet| subnet.commit_reveal = false);
    assert_eq!(fails(&chain, &commit, &key(1)).await, "CommitRevealDisabled");
    node.shutdown().await;
}

#[tokio::test]
async fn what_a_runtime_lacks_for_weights_is_named() {
    let lacking =
        |name: &str| -> MockBuilder { builder().runtime(MockRuntime::plain(500).lacking(name)) };
    let node = lacking("Weights").start().await.unwrap();
    let chain = client(&node);
    let error = chain.weights(NETUID).await.unwrap_err();
    assert_eq!(error.code(), "chain_missing_shape");
    assert!(error.to_string().contains("SubtensorModule.Weights"), "{error}");
    let missing = chain.connect().await.unwrap().missing;
    assert!(missing[0].contains("reading the weights"), "validators are still found: {missing:?}");
    node.shutdown().await;

    let node = lacking("CommitRevealWeightsEnabled").start().await.unwrap();
    assert_eq!(client(&node).weights(NETUID).await.unwrap().commit_reveal, None);
    node.shutdown().await;

    let node = builder().start().await.unwrap();
    let error = client(&node).weights(77).await.unwrap_err();
    assert!(matches!(error, ChainError::NoSubnet { netuid: 77 }), "{error}");
    node.shutdown().await;
}
