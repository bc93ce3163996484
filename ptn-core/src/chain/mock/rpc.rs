//! The JSON-RPC methods of the mock, and what it does wrong on request.

use std::time::Duration;

use serde_json::{Value as Json, json};
use subxt::utils::H256;
use tokio::sync::{broadcast, mpsc};

use super::blocks::{Chain, Head};
use super::extrinsic::NotTaken;
use super::{Shared, lock};
use crate::chain::network::{hash_text, parse_hash};
use crate::sign::ss58;

/// Something that the node does wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Closes the connection instead of answering.
    Drop,
    /// Does what was asked, then closes the connection instead of answering.
    DoAndDrop,
    /// Never answers.
    Stall,
    /// Answers something else.
    Garbage,
    /// Claims another version of its runtime.
    SpecVersion(u32),
    /// Claims that its last final block is this many blocks earlier.
    Behind(u64),
    /// Does not take a call, and tells this of it to whoever watches it.
    Tells(Tale),
    /// Answers this JSON-RPC error.
    Refuse {
        /// Its code.
        code: i32,
        /// Its message.
        message: String,
        /// Its data; none when empty.
        data: String,
    },
}

impl Fault {
    /// The pool refuses with a number of the runtime's own checks.
    pub fn custom(number: u8) -> FaultRule {
        Self::refuse(1010, "Invalid Transaction", &format!("Custom error: {number}"))
    }

    /// The pool refuses.
    pub fn refuse(code: i32, message: &str, data: &str) -> FaultRule {
        let fault = Self::Refuse { code, message: message.to_owned(), data: data.to_owned() };
        fault.on("author_submitAndWatchExtrinsic")
    }

    /// Only when this method is called.
    pub fn on(self, method: &str) -> FaultRule {
        FaultRule { fault: self, method: Some(method.to_owned()), times: None }
    }

    /// Only for the first requests.
    pub fn first(self, times: u32) -> FaultRule {
        FaultRule { fault: self, method: None, times: Some(times) }
    }
}

/// What a node can tell of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tale {
    /// Another call took its place.
    Usurped,
    /// There was no room for it.
    Dropped,
    /// It became invalid.
    Invalid,
    /// It was told to other nodes: over and over.
    Broadcast,
    /// It waits for an earlier call: over and over.
    Future,
}

impl Tale {
    fn stream(self) -> Stream {
        let word = |word: &str| json!(word);
        match self {
            Self::Usurped => Stream::Once(json!({ "usurped": H256::zero() })),
            Self::Dropped => Stream::Once(word("dropped")),
            Self::Invalid => Stream::Once(word("invalid")),
            Self::Broadcast => Stream::Again(json!({ "broadcast": ["a peer"] })),
            Self::Future => Stream::Again(word("future")),
        }
    }
}

/// When a fault happens: by default always.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultRule {
    fault: Fault,
    method: Option<String>,
    times: Option<u32>,
}

impl FaultRule {
    /// Only for the first requests that it applies to.
    #[must_use]
    pub const fn first(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }
}

impl From<Fault> for FaultRule {
    fn from(fault: Fault) -> Self {
        Self { fault, method: None, times: None }
    }
}

/// The fault for this request, if there is one. Claims apply where they can be made.
pub(super) fn fault(rules: &mut Vec<FaultRule>, method: &str) -> Option<Fault> {
    let applies = |rule: &FaultRule| {
        let place = match rule.fault {
            Fault::SpecVersion(_) => method == "state_getRuntimeVersion",
            Fault::Behind(_) => method == "chain_getFinalizedHead",
            Fault::Tells(_) => method == "author_submitAndWatchExtrinsic",
            _ => true,
        };
        place && rule.method.as_deref().is_none_or(|wanted| wanted == method)
    };
    let at = rules.iter().position(applies)?;
    let rule = rules.get_mut(at)?;
    let fault = rule.fault.clone();
    if let Some(times) = &mut rule.times {
        *times = times.saturating_sub(1);
        if *times == 0 {
            rules.remove(at);
        }
    }
    Some(fault)
}

/// An answer, and what follows it on the same connection.
pub(super) enum Answer {
    Result(Json),
    Error(i32, String, String),
    /// A subscription: the name of its notifications, and where they come from.
    Stream(&'static str, Stream),
}

pub(super) enum Stream {
    Watch(mpsc::UnboundedReceiver<Json>),
    Best(broadcast::Receiver<Head>),
    Final(broadcast::Receiver<Head>),
    Once(Json),
    Again(Json),
}

impl Stream {
    pub(super) async fn next(&mut self) -> Option<Json> {
        match self {
            Self::Watch(updates) => updates.recv().await,
            Self::Best(heads) => loop {
                if let Head::Best(header) = heads.recv().await.ok()? {
                    return serde_json::to_value(header).ok();
                }
            },
            Self::Final(heads) => loop {
                if let Head::Final(header) = heads.recv().await.ok()? {
                    return serde_json::to_value(header).ok();
                }
            },
            Self::Again(value) => {
                tokio::time::sleep(Duration::from_millis(10)).await;
                Some(value.clone())
            }
            Self::Once(value) => match value.take() {
                Json::Null => std::future::pending().await,
                value => Some(value),
            },
        }
    }
}

impl From<NotTaken> for Answer {
    fn from(NotTaken(code, message, data): NotTaken) -> Self {
        Self::Error(code, message.to_owned(), data)
    }
}

fn bytes(params: &[Json], at: usize) -> Option<Vec<u8>> {
    let text = params.get(at)?.as_str()?;
    hex::decode(text.strip_prefix("0x").unwrap_or(text)).ok()
}

fn hash(params: &[Json], at: usize) -> Option<H256> {
    parse_hash(params.get(at)?.as_str()?).map(H256)
}

fn version(number: u32) -> Json {
    json!({
        "specName": "node-subtensor", "implName": "node-subtensor", "authoringVersion": 1,
        "specVersion": number, "implVersion": 1, "apis": [],
        "transactionVersion": super::TRANSACTION_VERSION, "stateVersion": 1,
    })
}

/// Answers one request.
pub(super) fn answer(
    shared: &Shared,
    method: &str,
    params: &[Json],
    fault: Option<&Fault>,
) -> Answer {
    let mut chain = lock(&shared.chain);
    match fault {
        Some(Fault::Garbage) => return Answer::Result(json!({ "what": ["is", "this"] })),
        Some(Fault::Refuse { code, message, data }) => {
            return Answer::Error(*code, message.clone(), data.clone());
        }
        Some(Fault::SpecVersion(number)) => return Answer::Result(version(*number)),
        Some(Fault::Tells(tale)) => return Answer::Stream("author_extrinsicUpdate", tale.stream()),
        _ => {}
    }
    let behind = match fault {
        Some(Fault::Behind(blocks)) => *blocks,
        _ => 0,
    };
    match method {
        "author_submitAndWatchExtrinsic" => {
            let (watcher, updates) = mpsc::unbounded_channel();
            match chain.submit(&bytes(params, 0).unwrap_or_default(), Some(watcher)) {
                Ok(_) => Answer::Stream("author_extrinsicUpdate", Stream::Watch(updates)),
                Err(refused) => refused.into(),
            }
        }
        "author_submitExtrinsic" => {
            match chain.submit(&bytes(params, 0).unwrap_or_default(), None) {
                Ok(hash) => Answer::Result(json!(hash)),
                Err(refused) => refused.into(),
            }
        }
        "chain_subscribeNewHeads" | "chain_subscribeNewHead" => {
            Answer::Stream("chain_newHead", Stream::Best(chain.heads()))
        }
        "chain_subscribeAllHeads" => Answer::Stream("chain_allHead", Stream::Best(chain.heads())),
        "chain_subscribeFinalizedHeads" => {
            Answer::Stream("chain_finalizedHead", Stream::Final(chain.heads()))
        }
        "state_subscribeRuntimeVersion" => {
            let version = version(chain.best().state.spec.version);
            Answer::Stream("state_runtimeVersion", Stream::Once(version))
        }
        _ => plain(&chain, method, params, behind),
    }
}

/// Methods that only look.
fn plain(chain: &Chain, method: &str, params: &[Json], behind: u64) -> Answer {
    let block = |at: usize| match params.get(at) {
        None | Some(Json::Null) => Some(chain.best()),
        Some(_) => hash(params, at).and_then(|hash| chain.hash(hash)),
    };
    let unknown = || Answer::Error(4003, "Client error: UnknownBlock".to_owned(), String::new());
    let result = match method {
        "rpc_methods" => json!({ "methods": METHODS }),
        "system_chain" => json!("Mock"),
        "system_name" => json!("ptn mock node"),
        "system_version" => json!("1"),
        "system_health" => json!({ "peers": 0, "isSyncing": false, "shouldHavePeers": false }),
        "system_properties" => {
            json!({ "ss58Format": 42, "tokenDecimals": 9, "tokenSymbol": "TAO" })
        }
        "chain_getFinalizedHead" => json!(chain.last_final(behind).hash),
        "chain_getBlockHash" => match params.first() {
            None | Some(Json::Null) => json!(chain.best().hash),
            Some(number) => {
                let text = number.as_str().map(|text| text.trim_start_matches("0x"));
                let number = text.and_then(|text| u64::from_str_radix(text, 16).ok());
                let number = number.or_else(|| params.first()?.as_u64());
                json!(number.and_then(|n| chain.number(n)).map(|block| block.hash))
            }
        },
        "chain_getHeader" => json!(block(0).map(|block| &block.header)),
        "chain_getBlock" => json!(block(0).map(|block| {
            let bodies: Vec<_> = block.extrinsics.iter().map(|s| hash_text(&s.bytes)).collect();
            let body = json!({ "header": block.header, "extrinsics": bodies });
            json!({ "block": body, "justifications": null })
        })),
        "state_getRuntimeVersion" => match block(0) {
            Some(block) => version(block.state.spec.version),
            None => return unknown(),
        },
        "state_getMetadata" => match block(0) {
            Some(block) => json!(hash_text(&block.state.spec.bytes)),
            None => return unknown(),
        },
        "state_getStorage" => match block(1) {
            Some(block) => {
                let key = bytes(params, 0).unwrap_or_default();
                json!(block.state.storage(&key, &block.events).map(|value| hash_text(&value)))
            }
            None => return unknown(),
        },
        "state_getKeysPaged" => match block(3) {
            Some(block) => {
                let keys = block.state.keys(&bytes(params, 0).unwrap_or_default());
                let most = params.get(1).and_then(Json::as_u64).unwrap_or_default();
                let after = bytes(params, 2).unwrap_or_default();
                let page = keys.iter().filter(|key| **key > after).map(|key| hash_text(key));
                json!(page.take(usize::try_from(most).unwrap_or(0)).collect::<Vec<_>>())
            }
            None => return unknown(),
        },
        "state_queryStorageAt" => match block(1) {
            Some(block) => {
                let keys = params.first().and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
                let changes: Vec<_> = (0..keys.len())
                    .map(|at| {
                        let key = bytes(keys, at).unwrap_or_default();
                        let value = block.state.storage(&key, &block.events);
                        json!([hash_text(&key), value.map(|value| hash_text(&value))])
                    })
                    .collect();
                json!([{ "block": block.hash, "changes": changes }])
            }
            None => return unknown(),
        },
        "state_call" => {
            let Some(block) = block(2) else { return unknown() };
            let name = params.first().and_then(Json::as_str).unwrap_or_default();
            let input = bytes(params, 1).unwrap_or_default();
            match block.state.call(name, &input, block.header.number) {
                Ok(output) => json!(hash_text(&output)),
                Err(e) => {
                    let message = format!("Client error: Execution failed: {e}");
                    return Answer::Error(4003, message, String::new());
                }
            }
        }
        "system_accountNextIndex" | "account_nextIndex" => {
            match params.first().and_then(Json::as_str).map(ss58::decode) {
                Some(Ok(who)) => json!(chain.next_nonce(&who)),
                _ => return Answer::Error(-32602, "Invalid params".to_owned(), String::new()),
            }
        }
        _ if method.contains("unsubscribe") || method.contains("unwatch") => json!(true),
        _ => return Answer::Error(-32601, "Method not found".to_owned(), String::new()),
    };
    Answer::Result(result)
}

const METHODS: [&str; 23] = [
    "account_nextIndex",
    "author_submitAndWatchExtrinsic",
    "author_submitExtrinsic",
    "chain_getBlock",
    "chain_getBlockHash",
    "chain_getFinalizedHead",
    "chain_getHeader",
    "chain_subscribeAllHeads",
    "chain_subscribeFinalizedHeads",
    "chain_subscribeNewHeads",
    "rpc_methods",
    "state_call",
    "state_getKeysPaged",
    "state_getMetadata",
    "state_getRuntimeVersion",
    "state_getStorage",
    "state_queryStorageAt",
    "state_subscribeRuntimeVersion",
    "system_accountNextIndex",
    "system_chain",
    "system_health",
    "system_properties",
    "system_version",
];
