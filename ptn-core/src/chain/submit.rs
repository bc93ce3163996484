//! Signing calls and handing them over; following them is left to [`super::progress`].
//!
//! A call is signed for the newest block's runtime and with the account's next free number, so the
//! chain includes it at most once; it can be included for a limited number of blocks. A call is
//! never signed a second time unless the node said that it did not take the first. That happens
//! once, when the runtime was upgraded or another call of the account came first.

use std::sync::Arc;

use serde::Serialize;
use subxt::config::DefaultExtrinsicParamsBuilder;
use subxt::config::substrate::MultiSignature;
use subxt::ext::codec::Encode;
use subxt::ext::frame_decode::extrinsics::ExtrinsicEncodeError;
use subxt::rpcs::Error as RpcError;
use subxt::utils::{AccountId32, H256};

use super::account::account;
use super::call::Call;
use super::client::ChainClient;
use super::error::ChainError;
use super::link::{At, Config, Link};
use super::progress::Progress;
use super::refusal::PoolRefusal;
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

/// A signed call.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) bytes: Arc<[u8]>,
    pub(super) hash: H256,
    pub(super) who: AccountId32,
    /// The account's number for it: a block that has used it up without the call never takes it.
    pub(super) nonce: u64,
    /// The block that it was signed on: it can be in later ones only.
    pub(super) birth: u64,
    /// The last block that may include it.
    pub(super) until: u64,
    /// The first block of the chain that it was signed for; no other chain is asked about it.
    pub(super) genesis: H256,
    spec_version: u32,
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
                Ok(stream) => return Ok(Progress::told(self.clone(), sent, link, stream)),
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
                    return Ok(Progress::searched(self.clone(), sent, why));
                }
            }
        }
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
            who,
            until: birth.number.saturating_add(lifetime.next_power_of_two()),
            nonce,
            birth: birth.number,
            genesis: at.link.genesis,
            spec_version: at.runtime.spec_version,
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

/// The account's next number, calls that wait in the node's pool included.
pub(super) async fn next_nonce(link: &Link, who: &AccountId32) -> Result<u64, ChainError> {
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
