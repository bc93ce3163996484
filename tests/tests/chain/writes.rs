//! Signed calls: written for the runtime, checked by the node, followed until they are final, and
//! every way in which the chain says no.

use ptn_core::chain::mock::{Fault, FaultRule, MockNeuron, MockNode, MockRuntime, MockSubnet};
use ptn_core::chain::{Call, ChainClient, ChainError, Rao, Step};
use ptn_core::error::ErrorClass;
use ptn_core::sign::{Hotkey, SignError, Signer};

use crate::{NETUID, TAO, address, axon, builder, client, coldkey, key};

fn register(hotkey: u8) -> Call {
    Call::burned_register(NETUID, &address(hotkey)).unwrap()
}

async fn steps(chain: &ChainClient, call: &Call, signer: &Hotkey) -> Vec<Result<Step, ChainError>> {
    let mut progress = chain.submit(call, signer).await.unwrap();
    let mut steps = Vec::new();
    while let Some(step) = progress.next().await {
        steps.push(step);
    }
    steps
}

#[tokio::test]
async fn a_registration_is_ready_then_in_a_block_then_final() {
    for runtime in [MockRuntime::plain(393), MockRuntime::newtypes(440)] {
        let node = builder().runtime(runtime).start().await.unwrap();
        let chain = client(&node);
        let steps = steps(&chain, &register(9), &coldkey()).await;
        let [
            Ok(Step::Ready),
            Ok(Step::InBlock { place, failure: None }),
            Ok(Step::Final { place: last }),
        ] = steps.as_slice()
        else {
            panic!("{steps:?}")
        };
        assert_eq!(place, last);
        assert_eq!(place.index, 0);
        assert_eq!(chain.uid_of(NETUID, &address(9)).await.unwrap(), Some(3));
        assert_eq!(chain.owner_of(&address(9)).await.unwrap().as_deref(), Some(coldkey().hotkey()));
        let spent = 10 * TAO - node.balance(coldkey().hotkey()).0;
        assert!(spent > TAO && spent < TAO + TAO / 1000, "the price and a small fee: {spent}");
        node.shutdown().await;
    }
}

#[tokio::test]
async fn several_calls_of_one_account_take_their_turns() {
    let node = builder().start().await.unwrap();
    let chain = client(&node);
    let mut sent = Vec::new();
    for _ in 0..5 {
        let call = Call::transfer_keep_alive(&address(9), Rao(TAO / 10)).unwrap();
        sent.push(chain.submit(&call, &coldkey()).await.unwrap());
    }
    for progress in sent {
        progress.wait_final().await.unwrap();
    }
    assert_eq!(node.balance(&address(9)), Rao(TAO / 2));
    node.shutdown().await;
}

#[tokio::test]
async fn a_price_limit_holds() {
    let node = builder()
        .runtime(MockRuntime::newtypes(440))
        .subnet(NETUID, |subnet| subnet.burn = Rao(2 * TAO))
        .start()
        .await
        .unwrap();
    let chain = client(&node);
    let call = Call::register_limit(NETUID, &address(9), Rao(2 * TAO - 1)).unwrap();
    let steps = steps(&chain, &call, &coldkey()).await;
    let Some(Err(ChainError::Failed(failure))) = steps.last() else { panic!("{steps:?}") };
    assert_eq!(failure.name, "RegistrationPriceLimitExceeded");
    let call = Call::register_limit(NETUID, &address(9), Rao(2 * TAO)).unwrap();
    chain.submit(&call, &coldkey()).await.unwrap().wait_final().await.unwrap();
    assert_eq!(chain.uid_of(NETUID, &address(9)).await.unwrap(), Some(3));
    node.shutdown().await;
}

#[tokio::test]
async fn a_registration_never_costs_more_than_agreed() {
    for (runtime, name) in [
        (MockRuntime::newtypes(440), "SubtensorModule.register_limit"),
        (MockRuntime::plain(393).lacking("register_limit"), "SubtensorModule.burned_register"),
    ] {
        let node = builder().runtime(runtime).start().await.unwrap();
        let chain = client(&node);
        let error = chain.registration_call(NETUID, &address(9), Rao(TAO - 1)).await.unwrap_err();
        assert_eq!(
            (error.code(), error.class()),
            ("chain_price_above_limit", ErrorClass::Conflict)
        );
        assert!(error.to_string().contains("1.000000000"), "{error}");
        let (call, terms) = chain.registration_call(NETUID, &address(9), Rao(TAO)).await.unwrap();
        assert_eq!((call.name().as_str(), terms.price), (name, Rao(TAO)));
        chain.submit(&call, &coldkey()).await.unwrap().wait_final().await.unwrap();
        assert_eq!(chain.uid_of(NETUID, &address(9)).await.unwrap(), Some(3));
        node.shutdown().await;
    }
}

/// A subnet that refuses, a call, and the error that it meets.
type Refused = (fn(&mut MockSubnet), Call, &'static str);

#[tokio::test]
async fn usual_errors_are_named_explained_and_cost_only_the_fee() {
    let cases: [Refused; 9] = [
        (|_| {}, register(2), "HotKeyAlreadyRegisteredInSubNet"),
        (|subnet| subnet.burn = Rao(100 * TAO), register(9), "NotEnoughBalanceToStake"),
        (|subnet| subnet.allowed = false, register(9), "SubNetRegistrationDisabled"),
        (|subnet| subnet.this_interval = 6, register(9), "TooManyRegistrationsThisInterval"),
        (|subnet| subnet.max_per_block = 0, register(9), "TooManyRegistrationsThisBlock"),
        (
            |subnet| {
                subnet.max_members = 3;
                subnet.immunity_period = u16::MAX;
            },
            register(9),
            "NoNeuronIdAvailable",
        ),
        (
            |_| {},
            Call::burned_register(0, &address(9)).unwrap(),
            "RegistrationNotPermittedOnRootSubnet",
        ),
        (|_| {}, Call::burned_register(77, &address(9)).unwrap(), "SubnetNotExists"),
        (
            |_| {},
            Call::transfer_keep_alive(&address(9), Rao(100 * TAO)).unwrap(),
            "InsufficientBalance",
        ),
    ];
    for (change, call, name) in cases {
        let node = builder().subnet(NETUID, change).start().await.unwrap();
        let chain = client(&node);
        let steps = steps(&chain, &call, &coldkey()).await;
        let Some(Err(error @ ChainError::Failed(failure))) = steps.last() else {
            panic!("{name}: {steps:?}")
        };
        assert_eq!(failure.name, name, "{error}");
        assert!(!failure.pallet.is_empty() && !failure.docs.is_empty(), "{failure:?}");
        assert!(failure.meaning().is_some(), "{name} is not explained");
        assert!(error.to_string().contains(name), "{error}");
        assert!(error.hint().len() > 10, "{}", error.hint());
        assert_eq!((error.code(), error.class()), ("chain_call_failed", ErrorClass::Rejected));
        let told =
            |step: &Result<Step, _>| matches!(step, Ok(Step::InBlock { failure: Some(_), .. }));
        assert!(steps.iter().any(told), "it is told as soon as it is in a block: {steps:?}");
        let spent = 10 * TAO - node.balance(coldkey().hotkey()).0;
        assert!(spent > 0 && spent < TAO / 1000, "{name}: only the fee is gone, {spent}");
        node.shutdown().await;
    }
}

#[tokio::test]
async fn a_hotkey_of_somebody_else_cannot_be_registered() {
    let node =
        builder().neuron(9, MockNeuron::new(&address(9), &address(109))).start().await.unwrap();
    let steps = steps(&client(&node), &register(9), &coldkey()).await;
    let Some(Err(ChainError::Failed(failure))) = steps.last() else { panic!("{steps:?}") };
    assert_eq!(failure.name, "NonAssociatedColdKey");
    node.shutdown().await;
}

#[tokio::test]
async fn a_newcomer_takes_the_place_of_the_weakest() {
    let node = builder()
        .subnet(NETUID, |subnet| {
            subnet.max_members = 3;
            subnet.immunity_period = 0;
            for (neuron, emission) in subnet.neurons.iter_mut().zip([5, 1, 3]) {
                neuron.emission = ptn_core::chain::Alpha(emission);
            }
        })
        .start()
        .await
        .unwrap();
    let chain = client(&node);
    chain.submit(&register(9), &coldkey()).await.unwrap().wait_final().await.unwrap();
    assert_eq!(chain.uid_of(NETUID, &address(9)).await.unwrap(), Some(1));
    assert_eq!(chain.uid_of(NETUID, &address(2)).await.unwrap(), None, "evicted");
    node.shutdown().await;
}

#[tokio::test]
async fn the_root_has_its_own_registration() {
    let node = builder().start().await.unwrap();
    let chain = client(&node);
    let call = Call::root_register(&address(9)).unwrap();
    chain.submit(&call, &coldkey()).await.unwrap().wait_final().await.unwrap();
    assert_eq!(chain.uid_of(0, &address(9)).await.unwrap(), Some(0));
    node.shutdown().await;
}

#[tokio::test]
async fn a_dry_run_shows_call_and_fee_and_sends_nothing() {
    let node = builder().start().await.unwrap();
    let chain = client(&node);
    let run = chain.dry_run(&register(9), coldkey().hotkey()).await.unwrap();
    assert_eq!(run.call, "SubtensorModule.burned_register");
    // Pallet 7, call 7, subnet 8, then the hotkey.
    assert!(run.encoded.starts_with("0x07070800"), "{}", run.encoded);
    assert_eq!(run.encoded.len(), 2 + 2 * (1 + 1 + 2 + 32));
    assert_eq!(run.fee, Rao(124_000));
    assert_eq!((run.nonce, run.spec_version), (0, 500));
    assert_eq!(node.requests("author_submitAndWatchExtrinsic"), 0);
    assert_eq!(node.balance(coldkey().hotkey()), Rao(10 * TAO));
    node.shutdown().await;
}

#[tokio::test]
async fn refusals_of_the_pool_are_explained_and_nothing_happened() {
    let cases: [(FaultRule, &str, &str); 7] = [
        (
            Fault::refuse(
                1010,
                "Invalid Transaction",
                "Inability to pay some fees (e.g. account balance too low)",
            ),
            "chain_cannot_pay_fee",
            "cannot pay the fee",
        ),
        (Fault::custom(6), "chain_refused_by_runtime", "RateLimitExceeded"),
        (Fault::custom(199), "chain_refused_by_runtime", "Custom error: 199"),
        (Fault::refuse(1012, "Transaction is temporarily banned", ""), "chain_banned", "banned"),
        (
            Fault::refuse(1013, "Transaction is already imported", ""),
            "chain_already_known",
            "waiting there already",
        ),
        (
            Fault::refuse(1014, "Priority is too low", "(9 vs 9)"),
            "chain_priority_too_low",
            "another call",
        ),
        (Fault::refuse(1016, "Immediately dropped", ""), "chain_refused", "Immediately dropped"),
    ];
    for (fault, code, words) in cases {
        let node = builder().start().await.unwrap();
        node.set_faults([fault]);
        let error = client(&node).submit(&register(9), &coldkey()).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(!error.hint().is_empty());
        assert_eq!(node.requests("author_submitAndWatchExtrinsic"), 1, "{code}: not repeated");
        node.shutdown().await;
    }
}

#[tokio::test]
async fn an_account_without_tao_cannot_pay_the_fee() {
    let node = builder().start().await.unwrap();
    let error = client(&node).submit(&register(9), &key(77)).await.unwrap_err();
    assert_eq!(error.code(), "chain_cannot_pay_fee", "{error}");
    node.shutdown().await;
}

#[tokio::test]
async fn another_call_that_came_first_is_no_error() {
    let node = builder().start().await.unwrap();
    node.set_faults([
        Fault::refuse(1010, "Invalid Transaction", "Transaction is outdated").first(1)
    ]);
    let chain = client(&node);
    // The number did not change: signing again would not help.
    let error = chain.submit(&register(9), &coldkey()).await.unwrap_err();
    assert_eq!((error.code(), error.class()), ("chain_stale", ErrorClass::Unavailable));
    node.shutdown().await;
}

#[tokio::test]
async fn a_call_that_does_not_fit_is_not_signed() {
    let node = builder().start().await.unwrap();
    let chain = client(&node);
    for (call, words) in [
        (Call::new("SubtensorModule", "burned_register"), "argument netuid"),
        (
            Call::root_register(&address(9))
                .unwrap()
                .with("more", ptn_core::chain::Argument::Number(1)),
            "argument more",
        ),
        (
            Call::new("System", "remark").with("remark", ptn_core::chain::Argument::Number(1)),
            "System.remark",
        ),
    ] {
        let error = chain.submit(&call, &Refuses).await.unwrap_err();
        assert_eq!(error.code(), "chain_call_does_not_fit", "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    let error = chain.submit(&Call::new("SubtensorModule", "set_root_weights"), &Refuses).await;
    let error = error.unwrap_err();
    assert_eq!(error.code(), "chain_missing_shape");
    assert!(error.to_string().contains("SubtensorModule.set_root_weights"), "{error}");
    node.shutdown().await;
}

/// A key that must not be asked, or is not available.
struct Refuses;

impl Signer for Refuses {
    fn hotkey(&self) -> &str {
        "5HUGc9tvc9kxrhGdc3rz36dBAEvoqSbJMcGQSTsZSt1F1TkJ"
    }

    fn sign(&self, _: &[u8]) -> Result<[u8; 64], SignError> {
        Err(SignError { hotkey: self.hotkey().to_owned(), reason: "it is locked".to_owned() })
    }
}

#[tokio::test]
async fn a_locked_key_is_an_error_of_its_own() {
    let node = builder().start().await.unwrap();
    let error = client(&node).submit(&register(9), &Refuses).await.unwrap_err();
    assert_eq!(error.code(), "chain_signing");
    assert!(error.to_string().contains("it is locked"), "{error}");
    node.shutdown().await;
}

#[tokio::test]
async fn a_wrong_signature_is_refused() {
    struct Forger(Hotkey);
    impl Signer for Forger {
        fn hotkey(&self) -> &str {
            self.0.hotkey()
        }
        fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignError> {
            key(66).sign(message)
        }
    }
    let node = builder().start().await.unwrap();
    let error = client(&node).submit(&register(9), &Forger(coldkey())).await.unwrap_err();
    assert_eq!(error.code(), "chain_bad_signature", "{error}");
    node.shutdown().await;
}

#[tokio::test]
async fn a_demanding_extension_is_named_and_nothing_is_signed() {
    let node = builder().runtime(MockRuntime::plain(500).demanding()).start().await.unwrap();
    let chain = client(&node);
    chain.metagraph(NETUID).await.unwrap();
    let error = chain.submit(&register(9), &Refuses).await.unwrap_err();
    assert_eq!(error.code(), "chain_unknown_extension", "{error}");
    assert!(error.to_string().contains("AttestSomething"), "{error}");
    node.shutdown().await;
}

#[tokio::test]
async fn a_block_that_is_undone_does_not_undo_the_call() {
    let node = builder().block_time(None).finality_lag(3).start().await.unwrap();
    let mut progress = client(&node).submit(&register(9), &coldkey()).await.unwrap();
    assert_eq!(progress.next().await.unwrap().unwrap(), Step::Ready);
    node.advance(1);
    let Some(Ok(Step::InBlock { place: first, .. })) = progress.next().await else { panic!() };
    node.reorganise(1);
    assert_eq!(progress.next().await.unwrap().unwrap(), Step::Retracted);
    node.advance(1);
    let Some(Ok(Step::InBlock { place: second, .. })) = progress.next().await else { panic!() };
    assert_eq!(first.number, second.number);
    assert_ne!(first.block, second.block, "another block of the same number");
    node.advance(3);
    let Some(Ok(Step::Final { place })) = progress.next().await else { panic!() };
    assert_eq!(place, second);
    assert!(progress.next().await.is_none());
    assert_eq!(node.subnet(NETUID).unwrap().neurons.len(), 4, "registered once");
    node.shutdown().await;
}

#[tokio::test]
async fn serving_and_staking_work_too() {
    let node = MockNode::builder()
        .neuron(NETUID, MockNeuron::new(&address(1), coldkey().hotkey()))
        .balance(&address(1), Rao(TAO))
        .balance(coldkey().hotkey(), Rao(10 * TAO))
        .start()
        .await
        .unwrap();
    let chain = client(&node);
    let number = ptn_core::chain::Argument::Number;
    let call = Call::new("SubtensorModule", "serve_axon")
        .with("netuid", number(NETUID.into()))
        .with("version", number(1))
        .with("ip", number(2_130_706_433))
        .with("port", number(8099))
        .with("ip_type", number(4))
        .with("protocol", number(4))
        .with("placeholder1", number(0))
        .with("placeholder2", number(0));
    chain.submit(&call, &key(1)).await.unwrap().wait_final().await.unwrap();
    let call = Call::add_stake(&address(1), NETUID, Rao(3 * TAO)).unwrap();
    chain.submit(&call, &coldkey()).await.unwrap().wait_final().await.unwrap();
    let metagraph = chain.metagraph(NETUID).await.unwrap();
    assert_eq!(metagraph.neurons[0].axon, Some(axon(8099)));
    assert_eq!(metagraph.neurons[0].stake.0, 3 * TAO);
    node.shutdown().await;
}
