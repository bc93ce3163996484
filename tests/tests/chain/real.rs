//! The metadata of real runtimes: read, cut, written and signed by exactly as on the chain.
//!
//! The node double serves these bytes instead of its own and writes its state as they want it, so
//! every name, index, type and transaction extension in here is the real one.

use std::path::PathBuf;

use ptn_core::chain::mock::MockRuntime;
use ptn_core::chain::{Call, ChainError, Rao, Score, Step};
use ptn_core::sign::Signer as _;

use crate::{NETUID, TAO, address, axon, builder, client, coldkey, key};

/// The runtimes that must be there when the folder is named at all.
const VERSIONS: [u32; 2] = [365, 393];

/// Version and metadata of each real runtime; none when no folder is named.
fn runtimes() -> Vec<(u32, MockRuntime)> {
    let Some(folder) = std::env::var_os("PTN_CHAIN_METADATA").map(PathBuf::from) else {
        println!("PTN_CHAIN_METADATA is not set: the metadata of real runtimes is not read");
        return Vec::new();
    };
    let read = |version: u32| {
        let path = folder.join(format!("finney-spec{version}.scale"));
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        (version, MockRuntime::real(version, bytes))
    };
    VERSIONS.into_iter().map(read).collect()
}

#[tokio::test]
async fn real_metadata_gives_metagraph_balance_and_terms() {
    for (version, runtime) in runtimes() {
        let node = builder().runtime(runtime).start().await.unwrap();
        let chain = client(&node);
        let info = chain.connect().await.unwrap();
        assert_eq!(info.spec_version, version);
        assert_eq!(info.missing, Vec::<String>::new(), "{version}");
        let metagraph = chain.metagraph(NETUID).await.unwrap();
        let second = metagraph.neuron(&address(2)).unwrap();
        assert_eq!((second.uid, second.axon), (1, Some(axon(8092))), "{version}");
        assert_eq!((second.validator_trust, second.dividends), (Score(32_768), Score(5)));
        assert_eq!(metagraph.traffic.requests, 5, "{version}");
        assert_eq!(chain.balance(coldkey().hotkey()).await.unwrap().free, Rao(10 * TAO));
        assert_eq!(chain.uid_of(NETUID, &address(2)).await.unwrap(), Some(1));
        let subnets = chain.subnets_of(&[address(2)]).await.unwrap();
        assert_eq!(subnets.into_iter().collect::<Vec<_>>(), [NETUID], "{version}");
        let terms = chain.registration_terms(NETUID).await.unwrap();
        assert_eq!((terms.price, terms.locked), (Rao(TAO), Rao(0)), "{version}");
        assert!(!terms.limit_available, "register_limit came later");
        let error = chain.metagraph(77).await.unwrap_err();
        assert!(matches!(error, ChainError::NoSubnet { netuid: 77 }), "{error}");
        node.shutdown().await;
    }
}

#[tokio::test]
async fn real_metadata_writes_calls_and_names_errors() {
    for (version, runtime) in runtimes() {
        let node = builder().runtime(runtime).start().await.unwrap();
        let chain = client(&node);
        let call = Call::burned_register(NETUID, &address(9)).unwrap();
        let run = chain.dry_run(&call, coldkey().hotkey()).await.unwrap();
        assert_eq!(run.fee, Rao(124_000), "{version}: the fee is a u64 in this runtime");
        assert!(run.encoded.starts_with("0x07"), "{}", run.encoded);
        chain.submit(&call, &coldkey()).await.unwrap().wait_final().await.unwrap();
        assert_eq!(chain.uid_of(NETUID, &address(9)).await.unwrap(), Some(3), "{version}");

        let mut again = chain.submit(&call, &coldkey()).await.unwrap();
        let failure = loop {
            match again.next().await.unwrap() {
                Ok(Step::InBlock { failure: Some(failure), .. }) => break failure,
                Ok(_) => {}
                Err(e) => panic!("{e}"),
            }
        };
        assert_eq!(failure.name, "HotKeyAlreadyRegisteredInSubNet", "{version}");
        assert!(!failure.docs.is_empty());

        // Call 0 of pallet 7: subnet 8, two uids, two weights, version key 200.
        let call = Call::set_weights(NETUID, vec![1, 258], vec![7, 65_535], 200);
        let run = chain.dry_run(&call, &address(1)).await.unwrap();
        let bytes = "0x0700 0800 08 0100 0201 08 0700 ffff c800000000000000";
        assert_eq!(run.encoded, bytes.replace(' ', ""), "{version}");
        let call = Call::set_weights(NETUID, vec![1, 2], vec![7, 65_535], 200);
        let set = chain.submit(&call, &key(1)).await.unwrap().wait_final().await.unwrap();
        let row = chain.weights(NETUID).await.unwrap().row_of(0).unwrap();
        let kept: Vec<_> = row.weights.iter().map(|weight| (weight.uid, weight.raw)).collect();
        assert_eq!((kept, row.last_update), (vec![(1, 7), (2, 65_535)], set.number), "{version}");
        let call = Call::transfer_keep_alive(&address(10), Rao(TAO)).unwrap();
        chain.submit(&call, &coldkey()).await.unwrap().wait_final().await.unwrap();
        assert_eq!(node.balance(&address(10)), Rao(TAO));
        let call = Call::root_register(&address(11)).unwrap();
        chain.submit(&call, &coldkey()).await.unwrap().wait_final().await.unwrap();
        let commit = Call::commit_timelocked_weights(NETUID, vec![1; 500], 77, 4);
        node.change(NETUID, |subnet| subnet.commit_reveal = true);
        chain.submit(&commit, &key(1)).await.unwrap().wait_final().await.unwrap();
        let limit = Call::register_limit(NETUID, &address(12), Rao(TAO)).unwrap();
        let error = chain.submit(&limit, &coldkey()).await.unwrap_err();
        assert_eq!(error.code(), "chain_missing_shape", "{version}: {error}");
        node.shutdown().await;
    }
}

#[tokio::test]
async fn an_upgrade_from_one_real_runtime_to_the_next_is_followed() {
    let mut runtimes = runtimes().into_iter();
    let (Some((_, old)), Some((version, new))) = (runtimes.next(), runtimes.next()) else { return };
    let node = builder().runtime(old).start().await.unwrap();
    let chain = client(&node);
    chain.metagraph(NETUID).await.unwrap();
    node.upgrade(new).unwrap();
    assert_eq!(chain.metagraph(NETUID).await.unwrap().spec_version, version);
    let call = Call::burned_register(NETUID, &address(9)).unwrap();
    chain.submit(&call, &coldkey()).await.unwrap().wait_final().await.unwrap();
    node.upgrade(MockRuntime::newtypes(version + 40)).unwrap();
    assert_eq!(chain.uid_of(NETUID, &address(9)).await.unwrap(), Some(3));
    node.shutdown().await;
}
