//! Following a signed call until it is final: first by what the node tells, then by the blocks.
//!
//! A node is believed that a call is in a block, because the block is looked at. It is not believed
//! that the call is lost: when it says so, goes silent, or tells nothing new, the very same bytes
//! are handed over once more (the chain knows them by their hash) and the final blocks are searched
//! for the call, at other nodes too. That ends when the call is found, when a final block has used
//! up its number or its lifetime without it, or when nobody can be asked any more.
//!
//! What must stay true: once a call was handed over, the only errors are that it failed in a block,
//! that it is certainly in none, or that its fate is unknown; and only nodes of the chain that it
//! was signed for are asked.

use std::sync::{Arc, Mutex, PoisonError};

use subxt::rpcs::Error as RpcError;
use subxt::rpcs::client::RpcSubscription;
use subxt::rpcs::methods::legacy::TransactionStatus;
use subxt::utils::H256;
use tokio::time::{Instant, timeout};

use super::account;
use super::client::ChainClient;
use super::error::ChainError;
use super::link::{At, Link};
use super::network::hash_text;
use super::outcome::{Found, Place, find};
use super::refusal::DispatchFailure;
use super::submit::Sent;

/// A step of a call on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// A node keeps it for the next blocks.
    Ready,
    /// It is in a block, which may still be undone.
    InBlock {
        /// Where.
        place: Place,
        /// Why it failed, if it did.
        failure: Option<DispatchFailure>,
    },
    /// The block that held it was undone; it waits again.
    Retracted,
    /// The node tells no more, or nothing that can be relied on; from now on the blocks are searched
    /// for it, up to the last one that may include it.
    Searching {
        /// What the node did.
        reason: String,
    },
    /// It took effect for good.
    Final {
        /// Where.
        place: Place,
    },
}

/// A call on its way.
#[derive(Debug)]
pub struct Progress {
    client: ChainClient,
    sent: Sent,
    source: Source,
    done: bool,
}

#[derive(Debug)]
enum Source {
    Node(Told),
    Blocks(Search),
}

/// One node tells.
#[derive(Debug)]
struct Told {
    link: Arc<Link>,
    /// Behind a lock that nobody waits for: so that a progress can be shared between threads, and
    /// followed in a task of its own.
    stream: Mutex<RpcSubscription<TransactionStatus<H256>>>,
    /// When it last told something new.
    heard: Instant,
    /// The highest block that it told; zero when it said that the call waits.
    furthest: Option<u64>,
}

impl Told {
    /// What the node says next.
    async fn next(&mut self) -> Option<Result<TransactionStatus<H256>, RpcError>> {
        self.stream.get_mut().unwrap_or_else(PoisonError::into_inner).next().await
    }
}

/// Blocks are searched.
#[derive(Debug)]
struct Search {
    why: String,
    handed_over: bool,
    /// The next block to look at.
    from: u64,
    /// The last final block, and since when it is that.
    last: Option<(u64, Instant)>,
    /// How many nodes were left because their last final block stood still.
    stalled: usize,
    /// Since when nobody can be asked.
    failing: Option<Instant>,
}

/// What a report of the node means.
enum Report {
    /// Nothing that is worth telling.
    Nothing,
    Step(Step),
    /// Where the call ended.
    End(Found),
    /// The node says that it lost the call.
    Lost(&'static str),
}

/// How a round of searching ended.
enum Round {
    Found(Found),
    /// It is in no block and cannot come into one.
    Never(String),
    /// It is in none up to this last final one.
    NotYet(Arc<Link>, u64),
}

impl Progress {
    /// By what the node tells.
    pub(super) fn told(
        client: ChainClient,
        sent: Sent,
        link: Arc<Link>,
        stream: RpcSubscription<TransactionStatus<H256>>,
    ) -> Self {
        let told = Told { link, stream: Mutex::new(stream), heard: Instant::now(), furthest: None };
        Self { client, sent, source: Source::Node(told), done: false }
    }

    /// By the blocks, because the node did not say whether it took it.
    pub(super) fn searched(client: ChainClient, sent: Sent, why: String) -> Self {
        let search = Search::new(&sent, why);
        Self { client, sent, source: Source::Blocks(search), done: false }
    }

    /// Hash of the extrinsic, as explorers show it.
    pub fn hash(&self) -> String {
        hash_text(self.sent.hash.as_bytes())
    }

    /// The last block that may include it.
    pub const fn until(&self) -> u64 {
        self.sent.until
    }

    /// The next step; `None` after the last one ([`Step::Final`] or an error). Dropping the future
    /// may lose a step on the way, never the end.
    ///
    /// # Errors
    /// [`ChainError::Failed`] when it failed in a final block, [`ChainError::Dropped`] when it is in
    /// none and cannot come into one, [`ChainError::Uncertain`] when its fate cannot be learnt.
    pub async fn next(&mut self) -> Option<Result<Step, ChainError>> {
        if self.done {
            return None;
        }
        let step = self.advance().await;
        self.done = !matches!(&step, Ok(step) if !matches!(step, Step::Final { .. }));
        Some(step)
    }

    /// Waits until the call took effect for good.
    ///
    /// # Errors
    /// As [`Progress::next`].
    pub async fn wait_final(mut self) -> Result<Place, ChainError> {
        loop {
            match self.next().await {
                Some(Ok(Step::Final { place })) => return Ok(place),
                Some(Ok(_)) => {}
                Some(Err(e)) => return Err(e),
                None => return Err(self.uncertain("the progress was read to its end before")),
            }
        }
    }

    fn uncertain(&self, reason: impl Into<String>) -> ChainError {
        ChainError::Uncertain { hash: self.hash(), reason: reason.into(), until: self.sent.until }
    }

    async fn advance(&mut self) -> Result<Step, ChainError> {
        let patience = self.client.options().progress_timeout;
        let (link, reason) = loop {
            let told = match &mut self.source {
                Source::Node(told) => told,
                Source::Blocks(_) => return self.search().await,
            };
            let link = Arc::clone(&told.link);
            // What it repeats does not count as progress.
            let left = patience.saturating_sub(told.heard.elapsed());
            let reason = match timeout(left, told.next()).await {
                Ok(Some(Ok(status))) => match report(&link, self.sent.hash, status).await {
                    Ok(Report::Nothing) => continue,
                    Ok(Report::Step(step)) => {
                        told.note(&step);
                        return Ok(step);
                    }
                    Ok(Report::End(found)) => return concluded(found),
                    Ok(Report::Lost(how)) => format!("{} says that {how}", link.endpoint),
                    Err(e) => e.to_string(),
                },
                Ok(Some(Err(e))) => link.fault("the call's progress", e).to_string(),
                Ok(None) => format!("{} said nothing more", link.endpoint),
                Err(_) => {
                    let seconds = patience.as_secs_f32();
                    format!("{} told nothing new within {seconds} s", link.endpoint)
                }
            };
            break (link, reason);
        };
        tracing::warn!(hash = %self.hash(), "searching the blocks for the call: {reason}");
        self.source = Source::Blocks(Search::new(&self.sent, reason.clone()));
        if self.client.options().endpoints.len() > 1 {
            self.client.give_up(Some(&link), true).await;
        }
        Ok(Step::Searching { reason })
    }

    /// Searches final blocks for the call, until it is found or cannot come any more.
    async fn search(&mut self) -> Result<Step, ChainError> {
        let options = self.client.options().clone();
        loop {
            let Source::Blocks(search) = &self.source else {
                return Err(self.uncertain("the blocks are not searched"));
            };
            let round = round(&self.client, &self.sent, search.handed_over, search.from).await;
            let Source::Blocks(search) = &mut self.source else { continue };
            match round {
                Ok(Round::Found(found)) => return concluded(found),
                Ok(Round::Never(how)) => {
                    let reason = format!("{how} (before: {})", search.why);
                    return Err(ChainError::Dropped { hash: self.hash(), reason });
                }
                Ok(Round::NotYet(link, last)) => {
                    search.not_yet(last);
                    if search.stands_still(options.progress_timeout) {
                        search.next_node(&self.sent);
                        if search.stalled >= options.endpoints.len() {
                            let reason = format!(
                                "{}; then the last final block of {} stood still at {last}",
                                search.why, link.endpoint
                            );
                            return Err(self.uncertain(reason));
                        }
                        self.client.give_up(Some(&link), true).await;
                    }
                }
                Err(e) => {
                    let since = *search.failing.get_or_insert_with(Instant::now);
                    if since.elapsed() >= options.progress_timeout {
                        let reason = format!("{}; then {e}", search.why);
                        return Err(self.uncertain(reason));
                    }
                }
            }
            tokio::time::sleep(options.search_interval).await;
        }
    }
}

impl Told {
    /// A step counts as progress when the call waits for the first time, or is in a higher block
    /// than before: then there is an end to it.
    fn note(&mut self, step: &Step) {
        let reached = match step {
            Step::Ready => 0,
            Step::InBlock { place, .. } => place.number,
            _ => return,
        };
        if self.furthest.is_none_or(|furthest| reached > furthest) {
            self.furthest = Some(reached);
            self.heard = Instant::now();
        }
    }
}

impl Search {
    fn new(sent: &Sent, why: String) -> Self {
        let from = sent.birth.saturating_add(1);
        Self { why, handed_over: false, from, last: None, stalled: 0, failing: None }
    }

    fn not_yet(&mut self, last: u64) {
        self.handed_over = true;
        self.failing = None;
        self.from = self.from.max(last.saturating_add(1));
        if self.last.is_none_or(|(before, _)| last > before) {
            self.last = Some((last, Instant::now()));
            self.stalled = 0;
        }
    }

    fn stands_still(&self, patience: std::time::Duration) -> bool {
        self.last.is_some_and(|(_, since)| since.elapsed() >= patience)
    }

    /// The next node is asked for all blocks: the one before may have had others.
    fn next_node(&mut self, sent: &Sent) {
        self.stalled += 1;
        self.from = sent.birth.saturating_add(1);
        self.handed_over = false;
        self.last = self.last.map(|(number, _)| (number, Instant::now()));
    }
}

/// What a report of the node means; what it says about blocks is looked at.
async fn report(
    link: &Arc<Link>,
    hash: H256,
    status: TransactionStatus<H256>,
) -> Result<Report, ChainError> {
    let found = async |block: H256| {
        let found = find(&link.at(block).await?, hash).await?;
        found.ok_or_else(|| link.bad_answer("the call's block", "the call is not in it"))
    };
    Ok(match status {
        TransactionStatus::Future | TransactionStatus::Broadcast(_) => Report::Nothing,
        TransactionStatus::Ready => Report::Step(Step::Ready),
        TransactionStatus::Retracted(_) => Report::Step(Step::Retracted),
        TransactionStatus::InBlock(block) => {
            let (place, failure) = found(block).await?;
            Report::Step(Step::InBlock { place, failure })
        }
        TransactionStatus::Finalized(block) => Report::End(found(block).await?),
        TransactionStatus::FinalityTimeout(_) => Report::Lost("it does not watch it any longer"),
        TransactionStatus::Usurped(_) => {
            Report::Lost("another call of the same account took its place")
        }
        TransactionStatus::Dropped => Report::Lost("it has too many calls waiting"),
        TransactionStatus::Invalid => Report::Lost("the call became invalid while it waited"),
    })
}

/// Looks at the final blocks from this one on, after handing the call over if that was not done.
async fn round(
    client: &ChainClient,
    sent: &Sent,
    handed_over: bool,
    from: u64,
) -> Result<Round, ChainError> {
    client
        .run(async |link: Arc<Link>| {
            if link.genesis != sent.genesis {
                return Err(ChainError::WrongGenesis {
                    endpoint: link.endpoint.clone(),
                    expected: hash_text(sent.genesis.as_bytes()),
                    found: hash_text(link.genesis.as_bytes()),
                });
            }
            if !handed_over {
                match link.methods.author_submit_extrinsic(&sent.bytes).await {
                    // Refused: it is known there, or was included already.
                    Ok(_) | Err(RpcError::User(_)) => {}
                    Err(e) => return Err(link.fault("the call", e)),
                }
            }
            let last = client.check(link.at_final().await?)?;
            for number in from..=last.number.min(sent.until) {
                let block = link.methods.chain_get_block_hash(Some(number.into())).await;
                let block = block.map_err(|e| link.fault("a block", e))?;
                let block = block.ok_or_else(|| link.bad_answer("a block", "nothing"))?;
                if let Some(found) = find(&link.at(block).await?, sent.hash).await? {
                    return Ok(Round::Found(found));
                }
            }
            if last.number >= sent.until {
                let reason = format!("no block up to {} has it, so it expired", sent.until);
                return Ok(Round::Never(reason));
            }
            if number_is_used(&last, sent).await? {
                let reason = format!(
                    "another call of the account has used up its number, and no block up to {} \
                     has it",
                    last.number
                );
                return Ok(Round::Never(reason));
            }
            Ok(Round::NotYet(link, last.number))
        })
        .await
}

/// Whether the account is past the number of the call.
async fn number_is_used(last: &At, sent: &Sent) -> Result<bool, ChainError> {
    if account::ACCOUNT.missing(last.runtime.metadata()).is_some() {
        return Ok(false);
    }
    let number = account::number(last, sent.who).await?;
    Ok(number.is_some_and(|number| number > sent.nonce))
}

fn concluded((place, failure): Found) -> Result<Step, ChainError> {
    match failure {
        Some(failure) => Err(ChainError::Failed(Box::new(failure))),
        None => Ok(Step::Final { place }),
    }
}
