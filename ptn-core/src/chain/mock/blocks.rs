//! The chain of the mock: blocks, their states, the pool, finality, and who watches what.

use std::collections::BTreeMap;
use std::sync::Arc;

use blake2::digest::consts::U32;
use blake2::{Blake2b, Digest as _};
use serde_json::{Value as Json, json};
use subxt::config::Hasher as _;
use subxt::config::substrate::{BlakeTwo256, Digest, SubstrateHeader};
use subxt::ext::codec::Encode;
use subxt::utils::H256;
use tokio::sync::{broadcast, mpsc};

use super::dispatch::{Failed, fee};
use super::encode::{Value, put};
use super::extrinsic::{self, NotTaken, Signed};
use super::state::State;

pub(super) type Header = SubstrateHeader<H256>;

/// One block and the state after it.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) header: Header,
    pub(super) hash: H256,
    pub(super) state: Arc<State>,
    pub(super) extrinsics: Vec<Signed>,
    pub(super) events: Vec<u8>,
}

/// Something that subscribers of heads are told.
#[derive(Debug, Clone)]
pub(super) enum Head {
    Best(Header),
    Final(Header),
}

/// Tells one watcher what becomes of its extrinsic.
pub(super) type Watcher = mpsc::UnboundedSender<Json>;

#[derive(Debug)]
pub(super) struct Chain {
    /// The blocks by their number, the first one at 0.
    blocks: Vec<Block>,
    /// Blocks that were undone: a node still knows them for a while.
    undone: Vec<Block>,
    finalized: usize,
    /// The state that the next block starts from.
    pub(super) next: State,
    pub(super) pool: Vec<Signed>,
    watchers: BTreeMap<H256, Vec<Watcher>>,
    heads: broadcast::Sender<Head>,
    lag: usize,
    /// Makes blocks of another branch different.
    branch: u8,
}

impl Chain {
    pub(super) fn new(state: State, genesis: Option<[u8; 32]>, first: u64, lag: usize) -> Self {
        let header = header(H256::zero(), 0, 0, &[]);
        let natural = BlakeTwo256::new(&state.spec.metadata).hash(&header.encode());
        let block = Block {
            hash: genesis.map_or(natural, H256),
            header,
            state: Arc::new(state.clone()),
            extrinsics: Vec::new(),
            events: vec![0],
        };
        let mut chain = Self {
            blocks: vec![block],
            undone: Vec::new(),
            finalized: 0,
            next: state,
            pool: Vec::new(),
            watchers: BTreeMap::new(),
            heads: broadcast::Sender::new(1024),
            lag,
            branch: 0,
        };
        for _ in 0..first {
            chain.advance();
        }
        chain.finalize_all();
        chain
    }

    pub(super) fn best(&self) -> &Block {
        match self.blocks.last() {
            Some(block) => block,
            None => unreachable!("there is a first block"),
        }
    }

    /// The last final block, or one that many before it.
    pub(super) fn last_final(&self, before: u64) -> &Block {
        let at = u64::try_from(self.finalized).unwrap_or(0).saturating_sub(before);
        self.number(at).unwrap_or_else(|| self.best())
    }

    pub(super) fn number(&self, number: u64) -> Option<&Block> {
        self.blocks.get(usize::try_from(number).ok()?)
    }

    pub(super) fn hash(&self, hash: H256) -> Option<&Block> {
        self.blocks.iter().rev().chain(&self.undone).find(|block| block.hash == hash)
    }

    pub(super) fn heads(&self) -> broadcast::Receiver<Head> {
        self.heads.subscribe()
    }

    /// Takes an extrinsic into the pool and returns its hash.
    pub(super) fn submit(
        &mut self,
        bytes: &[u8],
        watcher: Option<Watcher>,
    ) -> Result<H256, NotTaken> {
        let best = self.best();
        let state = Arc::clone(&best.state);
        // What the next block will start from decides, as a runtime upgrade is part of it.
        let number = best.header.number;
        let known = extrinsic::hash(&state, bytes);
        if self.pool.iter().any(|waiting| waiting.hash == known) {
            return Err(NotTaken(1013, "Transaction is already imported", String::new()));
        }
        let by_number = |number: u64| self.number(number).map(|block| block.hash);
        let signed = extrinsic::check(&state, bytes, number, by_number)?;
        let same = |other: &Signed| (other.who, other.nonce) == (signed.who, signed.nonce);
        if self.pool.iter().any(same) {
            let why = "The transaction has too low priority to replace another transaction \
                       already in the pool.";
            return Err(NotTaken(1014, "Priority is too low", why.to_owned()));
        }
        let hash = signed.hash;
        if let Some(watcher) = watcher {
            let ahead = signed.nonce > self.next_nonce(&signed.who);
            watcher.send(json!(if ahead { "future" } else { "ready" })).ok();
            self.watchers.entry(hash).or_default().push(watcher);
        }
        self.pool.push(signed);
        Ok(hash)
    }

    /// The next free number of an account, what waits in the pool included.
    pub(super) fn next_nonce(&self, who: &[u8; 32]) -> u32 {
        let mut next = self.next.accounts.get(who).map_or(0, |account| account.nonce);
        while self.pool.iter().any(|signed| signed.who == *who && signed.nonce == next) {
            next += 1;
        }
        next
    }

    /// Makes the next block.
    pub(super) fn advance(&mut self) {
        let number = self.best().header.number + 1;
        let mut state = self.next.clone();
        state.time =
            u64::try_from(crate::store::now_ms().saturating_add(state.clock_ahead)).unwrap_or(0);
        for subnet in state.subnets.values_mut() {
            subnet.this_block = 0;
        }
        let mut included: Vec<Signed> = Vec::new();
        let mut results = Vec::new();
        let mut waiting = std::mem::take(&mut self.pool);
        waiting.sort_by_key(|signed| (signed.who, signed.nonce));
        for signed in waiting {
            let account = state.accounts.entry(signed.who).or_default();
            if number >= signed.dies || signed.nonce < account.nonce {
                self.tell(signed.hash, &json!("invalid"), true);
                continue;
            }
            if signed.nonce > account.nonce {
                self.pool.push(signed);
                continue;
            }
            account.nonce += 1;
            let fee = fee(&signed.call.pallet, &signed.call.name);
            if fee > 0 && !state.withdraw(signed.who, fee) {
                self.tell(signed.hash, &json!("invalid"), true);
                continue;
            }
            let mut after = state.clone();
            let result = after.dispatch(signed.who, &signed.call, number);
            if result.is_ok() {
                state = after;
            }
            results.push(result.err());
            included.push(signed);
        }
        let events = events(&state, &results);
        let bodies: Vec<&[u8]> = included.iter().map(|signed| signed.bytes.as_slice()).collect();
        let header = header(self.best().hash, number, self.branch, &bodies);
        let hash = BlakeTwo256::new(&state.spec.metadata).hash(&header.encode());
        for signed in &included {
            self.tell(signed.hash, &json!({ "inBlock": hash }), false);
        }
        self.next = state.clone();
        self.heads.send(Head::Best(header.clone())).ok();
        let state = Arc::new(state);
        self.blocks.push(Block { header, hash, state, extrinsics: included, events });
        let last = self.blocks.len().saturating_sub(1 + self.lag);
        self.finalize(last);
    }

    pub(super) fn finalize_all(&mut self) {
        self.finalize(self.blocks.len() - 1);
    }

    fn finalize(&mut self, last: usize) {
        let from = self.finalized + 1;
        if last < from {
            return;
        }
        self.finalized = last;
        let done: Vec<(H256, Vec<H256>, Header)> = self
            .blocks
            .get(from..=last)
            .unwrap_or_default()
            .iter()
            .map(|block| {
                let inside = block.extrinsics.iter().map(|signed| signed.hash).collect();
                (block.hash, inside, block.header.clone())
            })
            .collect();
        for (block, inside, header) in done {
            for hash in inside {
                self.tell(hash, &json!({ "finalized": block }), true);
            }
            self.heads.send(Head::Final(header)).ok();
        }
    }

    /// Undoes up to that many blocks that are not final; what was in them waits again.
    pub(super) fn undo(&mut self, blocks: usize) {
        let keep = (self.blocks.len().saturating_sub(blocks)).max(self.finalized + 1);
        let gone = self.blocks.split_off(keep);
        self.branch = self.branch.wrapping_add(1);
        self.next = (*self.best().state).clone();
        for block in gone {
            for signed in &block.extrinsics {
                self.tell(signed.hash, &json!({ "retracted": block.hash }), false);
                self.pool.push(signed.clone());
            }
            self.undone.push(block);
        }
    }

    fn tell(&mut self, hash: H256, what: &Json, last: bool) {
        if let Some(watchers) = self.watchers.get_mut(&hash) {
            watchers.retain(|watcher| watcher.send(what.clone()).is_ok());
        }
        if last {
            self.watchers.remove(&hash);
        }
    }
}

fn header(parent_hash: H256, number: u64, branch: u8, bodies: &[&[u8]]) -> Header {
    // No tries here: what makes blocks different is enough.
    let state_root = H256::repeat_byte(branch);
    let extrinsics_root = H256(Blake2b::<U32>::digest(bodies.encode()).into());
    Header { parent_hash, number, state_root, extrinsics_root, digest: Digest::default() }
}

/// The events of a block: one per extrinsic.
fn events(state: &State, results: &[Option<Failed>]) -> Vec<u8> {
    let metadata = &state.spec.metadata;
    let records = results.iter().enumerate().map(|(index, failed)| {
        let event = match failed {
            None => Value::Variant("ExtrinsicSuccess", Box::new(Value::Struct(BTreeMap::new()))),
            Some(failed) => {
                let error = module_error(metadata, *failed);
                let fields = Value::of([("dispatch_error", error)]);
                Value::Variant("ExtrinsicFailed", Box::new(fields))
            }
        };
        let index = u128::try_from(index).unwrap_or_default();
        Value::of([
            ("phase", Value::Variant("ApplyExtrinsic", Box::new(Value::Number(index)))),
            ("event", Value::Variant("System", Box::new(event))),
        ])
    });
    let id = metadata
        .pallet_by_name("System")
        .and_then(|pallet| pallet.storage()?.entry_by_name("Events"))
        .map(|entry| entry.value_ty());
    let mut out = Vec::new();
    if let Some(id) = id {
        put(metadata.types(), id, &Value::List(records.collect()), &mut out);
    }
    out
}

fn module_error(metadata: &subxt::metadata::Metadata, Failed(pallet, name): Failed) -> Value {
    let found = metadata.pallet_by_name(pallet).and_then(|pallet| {
        let variant = pallet.error_variants()?.iter().find(|variant| variant.name == name)?;
        Some((pallet.error_index(), variant.index))
    });
    // A runtime without this error fails in its own way.
    let Some((index, error)) = found else {
        return Value::Variant("CannotLookup", Box::new(Value::Default));
    };
    let module =
        Value::of([("index", index.into()), ("error", Value::Bytes(vec![error, 0, 0, 0]))]);
    Value::Variant("Module", Box::new(module))
}
