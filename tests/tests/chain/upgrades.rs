//! Runtimes that change under a running client, and nodes that lie about theirs.

use ptn_core::chain::mock::{Fault, MockRuntime};
use ptn_core::chain::{Call, Rao};
use ptn_core::sign::Signer as _;

use crate::{NETUID, TAO, address, builder, client, coldkey};

#[tokio::test]
async fn an_upgrade_between_two_questions_is_followed() {
    let node = builder().runtime(MockRuntime::plain(393)).start().await.unwrap();
    let chain = client(&node);
    assert_eq!(chain.metagraph(NETUID).await.unwrap().spec_version, 393);
    node.upgrade(MockRuntime::newtypes(431)).unwrap();
    let metagraph = chain.metagraph(NETUID).await.unwrap();
    assert_eq!((metagraph.spec_version, metagraph.neurons.len()), (431, 3));
    assert_eq!(chain.balance(coldkey().hotkey()).await.unwrap().free, Rao(10 * TAO));
    assert_eq!(node.connections(), 1, "on the same connection");
    node.shutdown().await;
}

#[tokio::test]
async fn an_upgrade_between_signing_and_sending_is_signed_for_once_more() {
    // A node behind a balancer still tells the old version when the call is written.
    let node = builder().runtime(MockRuntime::plain(393)).start().await.unwrap();
    let chain = client(&node);
    chain.metagraph(NETUID).await.unwrap();
    node.upgrade(MockRuntime::plain(394)).unwrap();
    node.set_faults([Fault::SpecVersion(393).on("state_getRuntimeVersion").first(2)]);
    let call = Call::burned_register(NETUID, &address(9)).unwrap();
    chain.submit(&call, &coldkey()).await.unwrap().wait_final().await.unwrap();
    assert_eq!(node.requests("author_submitAndWatchExtrinsic"), 2);
    assert_eq!(chain.uid_of(NETUID, &address(9)).await.unwrap(), Some(3));
    node.shutdown().await;
}

#[tokio::test]
async fn a_node_that_goes_on_lying_about_its_version_gets_no_third_signature() {
    let node = builder().start().await.unwrap();
    node.set_faults([Fault::SpecVersion(77)]);
    let chain = client(&node);
    let metagraph = chain.metagraph(NETUID).await.unwrap();
    assert_eq!(metagraph.neurons.len(), 3, "its metadata is still its own");
    let call = Call::burned_register(NETUID, &address(9)).unwrap();
    let error = chain.submit(&call, &coldkey()).await.unwrap_err();
    assert_eq!(error.code(), "chain_bad_signature", "{error}");
    assert!(error.hint().contains("lie"), "{}", error.hint());
    node.shutdown().await;
}

#[tokio::test]
async fn a_version_that_stayed_the_same_over_new_shapes_is_noticed() {
    let node = builder().runtime(MockRuntime::plain(500)).start().await.unwrap();
    let chain = client(&node);
    chain.metagraph(NETUID).await.unwrap();
    // The answer is cut differently, the version is not.
    node.upgrade(MockRuntime::plain(500).lacking("name").lacking("identities")).unwrap();
    let metagraph = chain.metagraph(NETUID).await.unwrap();
    assert_eq!(metagraph.neuron(&address(2)).unwrap().uid, 1);
    node.shutdown().await;
}

#[tokio::test]
async fn a_runtime_that_loses_a_shape_says_so_after_the_upgrade() {
    let node = builder().start().await.unwrap();
    let chain = client(&node);
    chain.registration_terms(NETUID).await.unwrap();
    node.upgrade(MockRuntime::newtypes(501).lacking("Burn")).unwrap();
    let error = chain.registration_terms(NETUID).await.unwrap_err();
    assert_eq!(error.code(), "chain_missing_shape");
    assert!(error.to_string().contains("version 501"), "{error}");
    node.shutdown().await;
}
