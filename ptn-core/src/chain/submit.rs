//! Sending signed calls, and following them until they are final.
//!
//! A call is signed for the newest block's runtime and with the account's next free number, so the
//! chain includes it at most once; it can be included for a limited number of blocks. When the
//! node goes silent after it was handed over, the very same bytes are handed to the next node (the
//! chain knows them by their hash) and the blocks are searched for it: a call is never signed a
//! second time unless the node said that it did not take the first. That happens once, when the
//! runtime was upgraded or another call of the account came first.

use std::sync::Arc;

use serde::Serialize;
use subxt::config::DefaultExtrinsicParamsBuilder;
use subxt::config::substrate::MultiSignature;
use subxt::ext::codec::Encode;
use subxt::ext::frame_decode::extrinsics::ExtrinsicEncodeError;
use subxt::rpcs::Error as RpcError;
use subxt::rpcs::client::RpcSubscription;
use subxt::rpcs::methods::legacy::TransactionStatus;
use subxt::utils::{AccountId32, H256};

use super::account::account;
use super::call::Call;
use super::client::ChainClient;
use super::error::ChainError;
use super::link::{At, Config, Link};
use super::network::hash_text;
use super::outcome::{Found, Place, find};
use super::refusal::{DispatchFailure, PoolRefusal};
use super::shape::Columns;
use super::units::Rao;
use crate::sign::Signer;

/// What a call would be and cost; nothing was signed or sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DryRun {
    /// Pallet and name.
    pub call: String,
    /// The call as the chain reads it, in hexadecimal.
    pub encoded: String,
    /// The fee that the node expects, on top of what the call itself takes.
    pub fee: Rao,
    /// The account that would sign.
    pub signer: String,
    /// Its next free number.
    pub nonce: u64,
    /// Version of the runtime that it is written for.
    pub spec_version: u32,
}

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

/// A signed call.
#[derive(Debug, Clone)]
struct Sent {
    bytes: Arc<[u8]>,
    hash: H256,
    /// The last block that may include it.
    until: u64,
    /// The next block to search for it.
    search_from: u64,
    spec_version: u32,
    nonce: u64,
}

#[derive(Debug)]
enum Source {
    /// The node tells.
    Node(Arc<Link>, RpcSubscription<TransactionStatus<H256>>),
    /// Blocks are searched; `true` once the call was handed over again.
    Blocks { handed_over: bool, why: String },
}

impl ChainClient {
    /// What a call would be and cost. Nothing is signed: no password is needed.
    ///
    /// # Errors
    /// When the address is none, the call does not fit the runtime, or no node answers usably.
    pub async fn dry_run(&self, call: &Call, signer: &str) -> Result<DryRun, ChainError> {
        let who = account(signer)?;
        self.run(async |link: Arc<Link>| {
            let at = link.at_best().await?;
            let nonce = next_nonce(&link, &who).await?;
            let payload = call.payload(&at.runtime, &link.endpoint)?;
            let encoded = call.encoded(&at.runtime.offline, &payload)?;
            // The node does not check the signature here; it counts the length.
            let sent = self.write(&at, &at, call, (who, nonce), |_| Ok([0; 64]))?;
            let fee = fee(&at, &sent.bytes).await?;
            Ok(DryRun {
                call: call.name(),
                encoded,
                fee,
                signer: signer.to_owned(),
                nonce,
                spec_version: at.runtime.spec_version,
            })
        })
        .await
    }

    /// Signs a call and sends it. Returns once a node took it, or once it is unknown whether one
    /// did: then the returned progress finds out.
    ///
    /// # Errors
    /// When nothing was sent (the call does not fit the runtime, the key does not sign, no node
    /// answers), or the node did not take it. Either way the call has no effect.
    pub async fn submit(&self, call: &Call, signer: &dyn Signer) -> Result<Progress, ChainError> {
        let mut first: Option<(Sent, PoolRefusal)> = None;
        loop {
            let (link, sent) = self.signed(call, signer).await?;
            if let Some((before, refusal)) = first.take()
                && (before.spec_version, before.nonce) == (sent.spec_version, sent.nonce)
            {
                return Err(ChainError::Refused(Box::new(refusal)));
            }
            let retried = first.is_some();
            match link.methods.author_submit_and_watch_extrinsic(&sent.bytes).await {
                Ok(stream) => return Ok(self.progress(sent, Source::Node(link, stream))),
                Err(RpcError::User(e)) => {
                    let data = e.data.as_ref().map_or("", |d| d.get().trim_matches('"'));
                    let refusal = PoolRefusal::new(&call.name(), e.code, &e.message, data);
                    if retried || !refusal.is_stale() {
                        return Err(ChainError::Refused(Box::new(refusal)));
                    }
                    tracing::debug!(%refusal, "signing the call once more");
                    first = Some((sent, refusal));
                }
                Err(e) => {
                    let why = link.fault("the call", e).to_string();
                    return Ok(self.progress(sent, Source::Blocks { handed_over: false, why }));
                }
            }
        }
    }

    fn progress(&self, sent: Sent, source: Source) -> Progress {
        Progress { client: self.clone(), sent, source, done: false }
    }

    async fn signed(
        &self,
        call: &Call,
        signer: &dyn Signer,
    ) -> Result<(Arc<Link>, Sent), ChainError> {
        let who = account(signer.hotkey())?;
        self.run(async |link: Arc<Link>| {
            let (at, last_final, nonce) =
                tokio::try_join!(link.at_best(), link.at_final(), next_nonce(&link, &who))?;
            let birth = self.check(last_final)?;
            let sign = |payload: &[u8]| Ok(signer.sign(payload)?);
            let sent = self.write(&at, &birth, call, (who, nonce), sign)?;
            Ok((link, sent))
        })
        .await
    }

    /// The signed bytes of a call, for the runtime of block `at`; it can be included from block
    /// `birth` on, which should be final, or undoing it would make the signature worthless.
    fn write(
        &self,
        at: &At,
        birth: &At,
        call: &Call,
        (who, nonce): (AccountId32, u64),
        sign: impl FnOnce(&[u8]) -> Result<[u8; 64], ChainError>,
    ) -> Result<Sent, ChainError> {
        let payload = call.payload(&at.runtime, &at.link.endpoint)?;
        let lifetime = self.options().lifetime.clamp(4, 1024);
        let params = DefaultExtrinsicParamsBuilder::<Config>::new()
            .nonce(nonce)
            .mortal_from_unchecked(lifetime, birth.number, birth.hash)
            .build();
        let unfit = |e: subxt::error::ExtrinsicError| self.unfit(at, call, &e);
        let mut signable =
            at.runtime.offline.tx().create_signable_offline(&payload, params).map_err(unfit)?;
        let signature = sign(&signable.signer_payload().map_err(unfit)?)?;
        let signed = signable
            .sign_with_account_and_signature(&who, &MultiSignature::Sr25519(signature))
            .map_err(unfit)?;
        Ok(Sent {
            hash: signed.hash(),
            bytes: signed.into_encoded().into(),
            until: birth.number.saturating_add(lifetime.next_power_of_two()),
            search_from: birth.number.saturating_add(1),
            spec_version: at.runtime.spec_version,
            nonce,
        })
    }

    fn unfit(&self, at: &At, call: &Call, error: &subxt::error::ExtrinsicError) -> ChainError {
        use subxt::error::ExtrinsicError as E;
        let spec_version = at.runtime.spec_version;
        match error {
            E::EncodeError(ExtrinsicEncodeError::CannotEncodeCallData { .. })
            | E::PalletNameNotFound(_)
            | E::CallNameNotFound { .. } => {
                ChainError::Encode { call: call.name(), reason: error.to_string() }
            }
            _ => ChainError::Extension { spec_version, reason: error.to_string() },
        }
    }
}

impl Progress {
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
    /// When it failed in a final block, was dropped or expired, or its fate stays unknown.
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
        loop {
            let Source::Node(link, stream) = &mut self.source else {
                return self.search().await;
            };
            let link = Arc::clone(link);
            let why = match tokio::time::timeout(patience, stream.next()).await {
                Ok(Some(Ok(status))) => match self.step(&link, status).await {
                    Ok(Some(step)) => return Ok(step),
                    Ok(None) => continue,
                    Err(e) if e.is_fault_of_endpoint() => e.to_string(),
                    Err(e) => return Err(e),
                },
                Ok(Some(Err(e))) => link.fault("the call's progress", e).to_string(),
                Ok(None) => format!("{} said nothing more", link.endpoint),
                Err(_) => format!("no progress within {} s", patience.as_secs_f32()),
            };
            tracing::warn!(hash = %self.hash(), "searching the blocks for the call: {why}");
            self.source = Source::Blocks { handed_over: false, why };
        }
    }

    /// What a report of the node means; nothing when it is not worth telling.
    async fn step(
        &self,
        link: &Arc<Link>,
        status: TransactionStatus<H256>,
    ) -> Result<Option<Step>, ChainError> {
        let dropped =
            |reason: &str| ChainError::Dropped { hash: self.hash(), reason: reason.to_owned() };
        match status {
            TransactionStatus::Future | TransactionStatus::Broadcast(_) => Ok(None),
            TransactionStatus::Ready => Ok(Some(Step::Ready)),
            TransactionStatus::Retracted(_) => Ok(Some(Step::Retracted)),
            TransactionStatus::InBlock(block) => {
                let at = link.at(block).await?;
                let (place, failure) = find(&at, self.sent.hash)
                    .await?
                    .ok_or_else(|| link.bad_answer("the call's block", "the call is not in it"))?;
                Ok(Some(Step::InBlock { place, failure }))
            }
            TransactionStatus::Finalized(block) => {
                let at = link.at(block).await?;
                let found = find(&at, self.sent.hash)
                    .await?
                    .ok_or_else(|| link.bad_answer("the call's block", "the call is not in it"))?;
                concluded(found).map(Some)
            }
            TransactionStatus::FinalityTimeout(_) => {
                Err(link.bad_answer("the call's progress", "it does not watch it any longer"))
            }
            TransactionStatus::Usurped(_) => {
                Err(dropped("another call of the same account took its place"))
            }
            TransactionStatus::Dropped => Err(dropped("it has too many calls waiting")),
            TransactionStatus::Invalid => Err(dropped("it became invalid while it waited")),
        }
    }

    /// Searches final blocks for the call, at any node, until it is found or cannot come any more.
    async fn search(&mut self) -> Result<Step, ChainError> {
        let mut unreachable_since: Option<tokio::time::Instant> = None;
        loop {
            let sent = self.sent.clone();
            let hand_over = matches!(self.source, Source::Blocks { handed_over: false, .. });
            let round = self
                .client
                .run(async |link: Arc<Link>| {
                    if hand_over {
                        match link.methods.author_submit_extrinsic(&sent.bytes).await {
                            // Refused: it is known there, or was included already.
                            Ok(_) | Err(RpcError::User(_)) => {}
                            Err(e) => return Err(link.fault("the call", e)),
                        }
                    }
                    let last = self.client.check(link.at_final().await?)?;
                    for number in sent.search_from..=last.number.min(sent.until) {
                        let block = link.methods.chain_get_block_hash(Some(number.into())).await;
                        let block = block.map_err(|e| link.fault("a block", e))?;
                        let block = block.ok_or_else(|| link.bad_answer("a block", "nothing"))?;
                        let at = link.at(block).await?;
                        if let Some(found) = find(&at, sent.hash).await? {
                            return Ok((Some(found), number));
                        }
                    }
                    Ok((None, last.number))
                })
                .await;
            match round {
                Ok((Some(found), _)) => return concluded(found),
                Ok((None, last)) if last >= self.sent.until => {
                    let reason =
                        format!("no block up to {} has it, so it expired", self.sent.until);
                    return Err(ChainError::Dropped { hash: self.hash(), reason });
                }
                Ok((None, last)) => {
                    unreachable_since = None;
                    self.sent.search_from = self.sent.search_from.max(last.saturating_add(1));
                    if let Source::Blocks { handed_over, .. } = &mut self.source {
                        *handed_over = true;
                    }
                }
                Err(e) => {
                    let since = *unreachable_since.get_or_insert_with(tokio::time::Instant::now);
                    if since.elapsed() >= self.client.options().progress_timeout {
                        let Source::Blocks { why, .. } = &self.source else { return Err(e) };
                        return Err(self.uncertain(format!("{why}; then {e}")));
                    }
                }
            }
            tokio::time::sleep(self.client.options().search_interval).await;
        }
    }
}

fn concluded((place, failure): Found) -> Result<Step, ChainError> {
    match failure {
        Some(failure) => Err(ChainError::Failed(Box::new(failure))),
        None => Ok(Step::Final { place }),
    }
}

/// The account's next number, calls that wait in the node's pool included.
async fn next_nonce(link: &Link, who: &AccountId32) -> Result<u64, ChainError> {
    let nonce = link.methods.system_account_next_index(who).await;
    nonce.map_err(|e| link.fault("the account's next number", e))
}

/// What the node would take for including these bytes.
async fn fee(at: &At, signed: &[u8]) -> Result<Rao, ChainError> {
    const API: &str = "TransactionPaymentApi";
    let method = at
        .runtime
        .metadata()
        .runtime_api_trait_by_name(API)
        .and_then(|api| api.method_by_name("query_info"))
        .ok_or_else(|| at.missing(format!("runtime API {API}.query_info"), "estimating the fee"))?;
    let mut input = signed.to_vec();
    u32::try_from(signed.len()).unwrap_or(u32::MAX).encode_to(&mut input);
    let name = format!("{API}_query_info");
    let answer = at.link.methods.state_call(&name, Some(&input), Some(at.hash)).await;
    let answer = answer.map_err(|e| at.link.fault(&name, e))?;
    let fee = Columns::read(at.runtime.metadata().types(), method.output_ty(), &answer)
        .and_then(|columns| columns.map(|c| c.take("partial_fee")).transpose());
    match fee {
        Ok(fee) => Ok(Rao(fee.unwrap_or_default())),
        Err(e) => Err(at.link.bad_answer(&name, e)),
    }
}
