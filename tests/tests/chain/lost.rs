//! What becomes of a call whose node tells nothing that can be relied on: it is handed over once
//! more and looked for in the blocks, and there is always an end.

use std::time::Duration;

use ptn_core::chain::mock::{Fault, FaultRule, MockNode, MockRuntime, Tale};
use ptn_core::chain::{Call, ChainClient, ChainError, ChainOptions, Place, Rao, Step};
use ptn_core::error::ErrorClass;
use ptn_core::sign::Signer as _;

use crate::{NETUID, TAO, address, builder, client, coldkey, options};

/// Longer than any of this may take on a slow machine.
const END: Duration = Duration::from_secs(20);

fn register() -> Call {
    Call::burned_register(NETUID, &address(9)).unwrap()
}

/// Gives a node up quickly.
fn impatient(urls: &[String]) -> ChainOptions {
    let mut options = options(urls);
    options.progress_timeout = Duration::from_millis(300);
    options
}

fn lose_the_call() -> FaultRule {
    Fault::Drop.on("author_submitAndWatchExtrinsic").first(1)
}

/// Every reason for searching, and the end.
async fn follow(chain: &ChainClient) -> (Vec<String>, Result<Place, ChainError>) {
    let mut progress = chain.submit(&register(), &coldkey()).await.unwrap();
    let end = async {
        let mut searched = Vec::new();
        loop {
            match progress.next().await.unwrap() {
                Ok(Step::Final { place }) => return (searched, Ok(place)),
                Ok(Step::Searching { reason }) => searched.push(reason),
                Ok(_) => {}
                Err(e) => return (searched, Err(e)),
            }
        }
    };
    tokio::time::timeout(END, end).await.expect("there is an end")
}

fn registered_once(node: &MockNode) {
    assert_eq!(node.subnet(NETUID).unwrap().neurons.len(), 4);
    assert_eq!(node.balance(coldkey().hotkey()), Rao(9 * TAO - 124_000));
}

#[tokio::test]
async fn what_one_node_says_of_a_loss_is_not_believed() {
    for (tale, words) in [
        (Tale::Usurped, "another call of the same account"),
        (Tale::Dropped, "too many calls waiting"),
        (Tale::Invalid, "became invalid"),
    ] {
        // Alone, it is handed the same call again.
        let node = builder().start().await.unwrap();
        node.set_faults([Fault::Tells(tale).first(1)]);
        let (searched, end) = follow(&client(&node)).await;
        assert!(searched[0].contains(words) && searched[0].contains(&node.url()), "{searched:?}");
        assert!(end.unwrap().number > 100, "{tale:?}");
        registered_once(&node);
        assert_eq!(node.requests("author_submitExtrinsic"), 1, "{tale:?}");
        assert_eq!(node.requests("author_submitAndWatchExtrinsic"), 1, "never signed twice");
        node.shutdown().await;

        // With another node of the chain, that one is asked.
        let node = builder().start().await.unwrap();
        let other = node.mirror().await.unwrap();
        node.set_faults([Fault::Tells(tale)]);
        let both = ChainClient::new(options(&[node.url(), other.url()]));
        follow(&both).await.1.unwrap();
        registered_once(&node);
        assert_eq!(other.requests("author_submitExtrinsic"), 1, "{tale:?}");
        assert_eq!(node.requests("author_submitExtrinsic"), 0, "{tale:?}");
        other.shutdown().await;
        node.shutdown().await;
    }
}

#[tokio::test]
async fn reports_that_say_nothing_new_do_not_go_on_for_ever() {
    for tale in [Tale::Broadcast, Tale::Future] {
        let node = builder().start().await.unwrap();
        node.set_faults([Fault::Tells(tale)]);
        let (searched, end) = follow(&ChainClient::new(impatient(&[node.url()]))).await;
        assert!(searched[0].contains("nothing new within 0.3 s"), "{searched:?}");
        end.unwrap();
        registered_once(&node);
        node.shutdown().await;
    }
}

#[tokio::test]
async fn a_final_head_that_stands_still_ends_in_uncertainty() {
    // Nobody makes blocks: the call waits in the pool, and may be included one day.
    let node = builder().block_time(None).start().await.unwrap();
    let other = node.mirror().await.unwrap();
    node.set_faults([lose_the_call()]);
    let both = ChainClient::new(impatient(&[node.url(), other.url()]));
    let error = follow(&both).await.1.unwrap_err();
    assert_eq!((error.code(), error.class()), ("chain_uncertain", ErrorClass::Uncertain));
    assert!(error.to_string().contains("stood still at 100"), "{error}");
    for asked in [&node, &other] {
        assert!(asked.requests("author_submitExtrinsic") > 0, "both were asked");
    }
    other.shutdown().await;
    node.shutdown().await;
}

#[tokio::test]
async fn a_node_whose_final_head_stands_still_is_left_for_another() {
    let node = builder().start().await.unwrap();
    let other = node.mirror().await.unwrap();
    let mut chosen = impatient(&[node.url(), other.url()]);
    chosen.max_behind = 1_000;
    let both = ChainClient::new(chosen);
    node.set_faults([
        lose_the_call(),
        Fault::Refuse { code: 1010, message: "no".to_owned(), data: String::new() }
            .on("author_submitExtrinsic"),
    ]);
    let progress = both.submit(&register(), &coldkey()).await.unwrap();
    // From now on its last final block is the first one of all.
    node.set_faults([
        Fault::Refuse { code: 1010, message: "no".to_owned(), data: String::new() }
            .on("author_submitExtrinsic"),
        Fault::Behind(u64::MAX).on("chain_getFinalizedHead"),
    ]);
    tokio::time::timeout(END, progress.wait_final()).await.unwrap().unwrap();
    registered_once(&node);
    assert!(other.requests("author_submitExtrinsic") > 0);
    other.shutdown().await;
    node.shutdown().await;
}

#[tokio::test]
async fn an_error_after_sending_is_no_reason_to_try_again() {
    // The runtime does not say what became of a call.
    let runtime = MockRuntime::plain(500).lacking("Events");
    let node = builder().runtime(runtime).start().await.unwrap();
    let error = follow(&ChainClient::new(impatient(&[node.url()]))).await.1.unwrap_err();
    assert_eq!((error.code(), error.class()), ("chain_uncertain", ErrorClass::Uncertain));
    assert!(error.to_string().contains("System.Events"), "{error}");
    registered_once(&node);
    node.shutdown().await;
}

#[tokio::test]
async fn a_node_of_another_chain_is_not_asked_about_a_call() {
    let node = builder().start().await.unwrap();
    let stranger = builder().genesis([7; 32]).start().await.unwrap();
    node.set_faults([lose_the_call(), Fault::Drop.on("author_submitExtrinsic")]);
    let both = ChainClient::new(impatient(&[node.url(), stranger.url()]));
    let error = follow(&both).await.1.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Uncertain, "{error}");
    assert!(error.to_string().contains("belongs to another chain"), "{error}");
    assert!(stranger.connections() > 0, "it was looked at");
    assert_eq!(stranger.requests("author_submitExtrinsic"), 0);
    assert_eq!(stranger.requests("chain_getFinalizedHead"), 0);
    stranger.shutdown().await;
    node.shutdown().await;
}

#[tokio::test]
async fn a_number_that_another_call_used_up_is_the_end_before_the_lifetime_is() {
    let node = builder().start().await.unwrap();
    node.set_faults([
        Fault::Tells(Tale::Usurped).first(1),
        Fault::Refuse { code: 1010, message: "no".to_owned(), data: String::new() }
            .on("author_submitExtrinsic"),
    ]);
    let mut chosen = options(&[node.url()]);
    chosen.lifetime = 1024;
    let mut lost = ChainClient::new(chosen).submit(&register(), &coldkey()).await.unwrap();
    assert!(matches!(lost.next().await, Some(Ok(Step::Searching { .. }))));
    let other = Call::transfer_keep_alive(&address(10), Rao(TAO)).unwrap();
    client(&node).submit(&other, &coldkey()).await.unwrap().wait_final().await.unwrap();
    let until = lost.until();
    let error = tokio::time::timeout(END, lost.wait_final()).await.unwrap().unwrap_err();
    assert_eq!((error.code(), error.class()), ("chain_dropped", ErrorClass::Unavailable));
    assert!(error.to_string().contains("used up its number"), "{error}");
    assert!(node.block() < until, "{} of {until}", node.block());
    node.shutdown().await;
}
