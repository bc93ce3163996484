//! `subnet weights`: rows that a validator set through the chain, as table and as document.

use ptn_core::chain::mock::MockNeuron;
use ptn_core::chain::{Call, ChainClient, ChainOptions};
use ptn_core::sign::Hotkey;
use serde_json::Value;

use crate::{World, address, plain};

/// The first validator gives a quarter to the second one and the rest to the miner; the block in
/// which it did.
async fn weighted(world: &World) -> u64 {
    let chain = ChainClient::new(ChainOptions::endpoints([world.node.url()]).unwrap());
    let call = Call::set_weights(8, vec![1, 2], vec![16_384, 49_149], 200);
    let validator = Hotkey::from_seed([1; 32]);
    chain.submit(&call, &validator).await.unwrap().wait_final().await.unwrap().number
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gives_what_to_whom_and_since_when() {
    let world = World::new().await;
    let (code, none) = world.json(&["subnet", "weights"]);
    assert_eq!((code, none["validators"].as_array().unwrap().len()), (0, 0), "{none}");
    let block = weighted(&world).await;

    let (code, document) = world.json(&["subnet", "weights", "--netuid", "8"]);
    assert_eq!((code, &document["commit_reveal"]), (0, &false.into()), "{document}");
    let [row] = document["validators"].as_array().unwrap().as_slice() else { panic!("{document}") };
    assert_eq!((&row["uid"], &row["hotkey"]), (&0.into(), &address(1).into()));
    assert_eq!((&row["last_update"], &row["validator_permit"]), (&block.into(), &true.into()));
    let since = document["block"].as_u64().unwrap() - block;
    assert_eq!(row["updated_blocks"], since, "{row}");
    let given = |at: usize, field: &str| row["weights"][at][field].clone();
    assert_eq!((given(0, "uid"), given(0, "raw")), (1.into(), 21_846.into()));
    assert_eq!((given(1, "hotkey"), given(1, "raw")), (address(3).into(), 65_535.into()));
    assert!((given(0, "share").as_f64().unwrap() - 0.25).abs() < 1e-4, "{row}");

    let said = world.run(&["subnet", "weights"]);
    let lines: Vec<String> =
        said.out.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let (first, second, third) = (address(1), address(2), address(3));
    assert_eq!(
        lines,
        [
            "FROM UID SHARE RAW SET HOTKEY FROM_HOTKEY".to_owned(),
            format!("0 1 0.25001 21846 {block} {second} {first}"),
            format!("0 2 0.74999 65535 {block} {third} {first}"),
        ],
        "{said:?}"
    );
    assert!(said.err.contains("weights of 1 validator;"), "{said:?}");

    // On a narrow terminal nothing is cut.
    let url = world.node.url();
    let args = world.args(&["subnet", "weights"], &url);
    let screen = crate::common::terminal::stdout(world.dir.path(), &args, (80, 24));
    let long = screen.lines().find(|line| plain(line).chars().count() > 80);
    assert_eq!(long, None, "{screen}");
    assert!(screen.contains(&third), "{screen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn single_validators_are_shown_and_strangers_named() {
    let world = World::new().await;
    weighted(&world).await;
    let uids = |args: &[&str]| -> Vec<(u64, usize)> {
        let (code, document) = world.json(&[&["subnet", "weights"], args].concat());
        assert_eq!(code, 0, "{document}");
        let row = |v: &Value| (v["uid"].as_u64().unwrap(), v["weights"].as_array().unwrap().len());
        document["validators"].as_array().unwrap().iter().map(row).collect()
    };
    assert_eq!(uids(&["--uid", "0"]), [(0, 2)]);
    assert_eq!(uids(&["--uid", "2", "--hotkey", &address(1)]), [(0, 2), (2, 0)]);
    assert_eq!(uids(&["--hotkey", &address(2), "--hotkey", &address(1)]), [(0, 2), (1, 0)]);
    let said = world.run(&["subnet", "weights", "--uid", "2"]);
    assert!(said.err.contains(&format!("uid 2 ({}) gives no weights", address(3))), "{said:?}");

    for args in [&["--uid", "3"][..], &["--hotkey", &address(9)]] {
        let (code, document) = world.json(&[&["subnet", "weights"], args].concat());
        assert_eq!((code, &document["error"]["code"]), (1, &"not_a_member".into()), "{document}");
        let said = world.run(&[&["subnet", "weights"], args].concat());
        assert!(said.err.contains("subnet metagraph --netuid 8"), "{said:?}");
    }
    let wrong = world.run(&["subnet", "weights", "--hotkey", "5Nonsense"]);
    assert!(wrong.code == 2 && wrong.err.contains("5Nonsense"), "{wrong:?}");
    let root = world.run(&["subnet", "weights", "--netuid", "0"]);
    assert!(root.code == 1 && root.err.contains("set_root_weights"), "{root:?}");
    let none = world.run(&["subnet", "weights", "--netuid", "55"]);
    assert!(none.code == 2 && none.err.contains("no subnet 55"), "{none:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_uid_that_nobody_has_any_more_and_commitments_are_told() {
    let world = World::with(|b| {
        b.neuron(8, MockNeuron::new(&address(4), &address(104))).subnet(8, |subnet| {
            subnet.commit_reveal = true;
            subnet.weights.insert(0, vec![(3, 65_535)]);
        })
    })
    .await;
    world.node.remove(8, &address(4));
    let said = world.run(&["subnet", "weights"]);
    assert!(said.out.contains("none"), "{said:?}");
    assert!(said.err.contains("takes commitments"), "{said:?}");
    let document = world.json(&["subnet", "weights"]).1;
    assert_eq!(document["commit_reveal"], true);
    assert!(document["validators"][0]["weights"][0]["hotkey"].is_null(), "{document}");
}
