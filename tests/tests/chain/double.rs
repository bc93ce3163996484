//! The node double itself: others than our client understand it, and it runs as a process.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use ptn_core::chain::{ChainClient, Rao};
use subxt::{OnlineClient, SubstrateConfig};

use crate::{NETUID, address, builder, options};

#[tokio::test]
async fn subxt_itself_reads_blocks_storage_and_runtime_apis_from_it() {
    let node = builder().start().await.unwrap();
    let client = OnlineClient::<SubstrateConfig>::from_insecure_url(node.url()).await.unwrap();
    assert_eq!(format!("{:?}", client.genesis_hash()), node.genesis());
    let at = client.at_current_block().await.unwrap();
    assert_eq!(at.spec_version(), 500);
    let burn = subxt::dynamic::storage::<(u16,), u64>("SubtensorModule", "Burn");
    let burn = at.storage().fetch(burn, (NETUID,)).await.unwrap().decode().unwrap();
    assert_eq!(burn, 1_000_000_000);
    let who = subxt::utils::AccountId32([7; 32]);
    let nonce =
        subxt::dynamic::runtime_api_call::<_, u32>("AccountNonceApi", "account_nonce", (who,));
    assert_eq!(at.runtime_apis().call(nonce).await.unwrap(), 0);
    let mut blocks = client.stream_blocks().await.unwrap();
    let first = blocks.next().await.unwrap().unwrap().number();
    let second = blocks.next().await.unwrap().unwrap().number();
    assert_eq!(second, first + 1);
    node.shutdown().await;
}

#[tokio::test]
async fn it_runs_as_a_process_that_ends_with_its_stdin() {
    let neuron = format!("8,{},{},127.0.0.1:8091,65535", address(1), address(101));
    let mut node = Command::new(env!("CARGO_BIN_EXE_mock_node"))
        .args(["--neuron", &neuron, "--burn", "8=0.5"])
        .args(["--balance", &format!("{}=12.5", address(9))])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(node.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let told: serde_json::Value = serde_json::from_str(&line).unwrap();
    let chain = ChainClient::new(options(&[told["url"].as_str().unwrap().to_owned()]));
    assert_eq!(chain.metagraph(NETUID).await.unwrap().neurons.len(), 1);
    assert_eq!(chain.balance(&address(9)).await.unwrap().free, Rao(12_500_000_000));
    assert_eq!(chain.registration_terms(NETUID).await.unwrap().price, Rao(500_000_000));
    drop(node.stdin.take());
    let ended = tokio::task::spawn_blocking(move || node.wait()).await.unwrap().unwrap();
    assert!(ended.success());
}
