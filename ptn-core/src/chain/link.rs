//! One connection to one node, and the runtime that the node had when it was last asked.
//!
//! Every request has a time limit, and every byte is counted. A block is fixed before anything is
//! read, so that all values of an answer belong to the same moment and the same runtime; when the
//! runtime changes, its metadata is fetched anew. Which node to ask is left to [`super::client`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use subxt::client::{OfflineClient, OfflineClientAtBlock};
use subxt::config::RpcConfigFor;
use subxt::config::substrate::{SpecVersionForRange, SubstrateConfig};
use subxt::ext::codec::{Compact, Decode, Encode};
use subxt::ext::frame_decode::storage::{IntoDecodableValues, IntoEncodableValues};
use subxt::ext::jsonrpsee::core::client::Error as WsError;
use subxt::ext::jsonrpsee::ws_client::{PingConfig, WsClient, WsClientBuilder};
use subxt::ext::scale_decode::DecodeAsType;
use subxt::metadata::{ArcMetadata, Metadata};
use subxt::rpcs::client::{RawRpcFuture, RawRpcSubscription, RawValue};
use subxt::rpcs::methods::legacy::RuntimeVersion;
use subxt::rpcs::{Error as RpcError, LegacyRpcMethods, RpcClient, RpcClientT};
use subxt::utils::H256;

use super::client::ChainOptions;
use super::error::ChainError;
use super::network::{hash_text, shown, words};
use super::shape::{self, Columns, StorageShape};

/// Nothing of the chain is larger; metadata is about 0.4 MB.
const MAX_ANSWER: u32 = 32 * 1024 * 1024;
/// Newest format of metadata that is read here.
const METADATA_VERSION: u32 = 16;

pub(super) type Config = SubstrateConfig;
pub(super) type Methods = LegacyRpcMethods<RpcConfigFor<Config>>;

/// Requests and bytes since the connection was opened (or between two moments).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Traffic {
    /// Requests to the node.
    pub requests: u64,
    /// Bytes of their parameters as JSON text.
    pub bytes_out: u64,
    /// Bytes of the answers as JSON text.
    pub bytes_in: u64,
}

impl Traffic {
    /// What came on top of an earlier count.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            bytes_out: self.bytes_out.saturating_sub(earlier.bytes_out),
            bytes_in: self.bytes_in.saturating_sub(earlier.bytes_in),
        }
    }
}

#[derive(Debug, Default)]
struct Counters {
    requests: AtomicU64,
    bytes_out: AtomicU64,
    bytes_in: AtomicU64,
}

/// The socket, with every request counted.
struct Counted {
    socket: WsClient,
    counters: Arc<Counters>,
}

impl Counted {
    fn count(&self, params: Option<&RawValue>) {
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        let out = params.map_or(0, |p| p.get().len());
        self.counters.bytes_out.fetch_add(out as u64, Ordering::Relaxed);
    }
}

impl RpcClientT for Counted {
    fn request_raw<'a>(
        &'a self,
        method: &'a str,
        params: Option<Box<RawValue>>,
    ) -> RawRpcFuture<'a, Box<RawValue>> {
        self.count(params.as_deref());
        Box::pin(async move {
            let answer = self.socket.request_raw(method, params).await?;
            self.counters.bytes_in.fetch_add(answer.get().len() as u64, Ordering::Relaxed);
            Ok(answer)
        })
    }

    fn subscribe_raw<'a>(
        &'a self,
        sub: &'a str,
        params: Option<Box<RawValue>>,
        unsub: &'a str,
    ) -> RawRpcFuture<'a, RawRpcSubscription> {
        self.count(params.as_deref());
        self.socket.subscribe_raw(sub, params, unsub)
    }
}

/// Time limits of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) connect: Duration,
    pub(super) request: Duration,
    pub(super) ping: Duration,
}

/// A runtime: its version, and everything that its metadata says.
#[derive(Debug)]
pub(super) struct Runtime {
    pub(super) spec_version: u32,
    pub(super) offline: OfflineClientAtBlock<Config>,
}

impl Runtime {
    fn new(genesis: H256, version: &RuntimeVersion, metadata: ArcMetadata) -> Option<Self> {
        let spec_version = version.spec_version;
        let config = SubstrateConfig::builder()
            .set_genesis_hash(genesis)
            .set_metadata_for_spec_versions([(spec_version, metadata)])
            .set_spec_version_for_block_ranges([SpecVersionForRange {
                block_range: 0..u64::MAX,
                spec_version,
                transaction_version: version.transaction_version,
            }])
            .build();
        let offline = OfflineClient::new_with_config(config).at_block(0_u64).ok()?;
        Some(Self { spec_version, offline })
    }

    pub(super) fn metadata(&self) -> &Metadata {
        self.offline.metadata_ref()
    }
}

/// An open connection to a node of the right chain.
pub(super) struct Link {
    pub(super) endpoint: String,
    pub(super) methods: Methods,
    pub(super) genesis: H256,
    pub(super) limits: Limits,
    counters: Arc<Counters>,
    runtime: Mutex<Option<Arc<Runtime>>>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Link {
    /// Opens a connection and checks which chain is behind it.
    pub(super) async fn open(
        url: &str,
        limits: Limits,
        options: &ChainOptions,
    ) -> Result<Self, ChainError> {
        let endpoint = shown(url);
        let connect = WsClientBuilder::new()
            .connection_timeout(limits.connect)
            .request_timeout(limits.request)
            .max_response_size(MAX_ANSWER)
            // One attempt: a redirection would lead away from the address that was chosen.
            .max_redirections(1)
            .enable_ws_ping(
                PingConfig::new().ping_interval(limits.ping).inactive_limit(limits.ping * 2),
            )
            .build(url);
        // Names are looked up outside the time limit of the socket.
        let socket = tokio::time::timeout(limits.connect, connect)
            .await
            .map_err(|_| ChainError::Timeout {
                endpoint: endpoint.clone(),
                what: "the connection".to_owned(),
                after: limits.connect,
            })?
            .map_err(|e| ChainError::Connect {
                endpoint: endpoint.clone(),
                reason: words(&e.to_string()),
            })?;
        let counters = Arc::new(Counters::default());
        let rpc = RpcClient::new(Counted { socket, counters: Arc::clone(&counters) });
        let methods = Methods::new(rpc);
        let mut link = Self {
            endpoint,
            methods,
            genesis: H256::zero(),
            limits,
            counters,
            runtime: Mutex::new(None),
        };
        let genesis = link.methods.genesis_hash().await;
        link.genesis = genesis.map_err(|e| link.fault("its first block", e))?;
        let found = link.genesis.0;
        let expected = match (options.expected_genesis, options.refused_genesis) {
            (Some(expected), _) if found != expected => hash_text(&expected),
            (_, Some(refused)) if found == refused => "any but finney's".to_owned(),
            _ => return Ok(link),
        };
        Err(ChainError::WrongGenesis {
            endpoint: link.endpoint,
            expected,
            found: hash_text(&found),
        })
    }

    /// Requests and bytes so far.
    pub(super) fn traffic(&self) -> Traffic {
        Traffic {
            requests: self.counters.requests.load(Ordering::Relaxed),
            bytes_out: self.counters.bytes_out.load(Ordering::Relaxed),
            bytes_in: self.counters.bytes_in.load(Ordering::Relaxed),
        }
    }

    /// What an error of the connection means.
    pub(super) fn fault(&self, what: &str, error: RpcError) -> ChainError {
        let endpoint = self.endpoint.clone();
        let what = what.to_owned();
        match error {
            RpcError::User(e) => {
                ChainError::NodeRefused { endpoint, what, code: e.code, message: words(&e.message) }
            }
            RpcError::Client(e) => match e.downcast_ref::<WsError>() {
                Some(WsError::RequestTimeout) => {
                    ChainError::Timeout { endpoint, what, after: self.limits.request }
                }
                Some(WsError::ParseError(e)) => self.bad_answer(&what, e.to_string()),
                _ => ChainError::Lost { endpoint, reason: words(&e.to_string()) },
            },
            RpcError::DisconnectedWillReconnect(reason) => ChainError::Lost { endpoint, reason },
            e => self.bad_answer(&what, e.to_string()),
        }
    }

    pub(super) fn bad_answer(&self, what: &str, reason: impl AsRef<str>) -> ChainError {
        ChainError::BadAnswer {
            endpoint: self.endpoint.clone(),
            what: what.to_owned(),
            reason: words(reason.as_ref()),
        }
    }

    /// The newest final block, ready to be read.
    pub(super) async fn at_final(self: &Arc<Self>) -> Result<At, ChainError> {
        let hash = self.methods.chain_get_finalized_head().await;
        let hash = hash.map_err(|e| self.fault("the last final block", e))?;
        self.at(hash).await
    }

    /// The newest block of all, which may still be undone.
    pub(super) async fn at_best(self: &Arc<Self>) -> Result<At, ChainError> {
        let hash = self.methods.chain_get_block_hash(None).await;
        let hash = hash.map_err(|e| self.fault("the newest block", e))?;
        self.at(hash.ok_or_else(|| self.bad_answer("the newest block", "nothing"))?).await
    }

    /// A block, ready to be read.
    pub(super) async fn at(self: &Arc<Self>, hash: H256) -> Result<At, ChainError> {
        let (header, version) = tokio::join!(
            self.methods.chain_get_header(Some(hash)),
            self.methods.state_get_runtime_version(Some(hash)),
        );
        let header = header
            .map_err(|e| self.fault("a block's header", e))?
            .ok_or_else(|| self.bad_answer("a block's header", "nothing"))?;
        let version = version.map_err(|e| self.fault("the version of its runtime", e))?;
        let runtime = self.runtime_of(hash, &version).await?;
        Ok(At { link: Arc::clone(self), runtime, hash, number: header.number })
    }

    async fn runtime_of(
        &self,
        hash: H256,
        version: &RuntimeVersion,
    ) -> Result<Arc<Runtime>, ChainError> {
        let known = self.runtime.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(known) = known.filter(|known| known.spec_version == version.spec_version) {
            return Ok(known);
        }
        let bytes = self.metadata_bytes(hash).await?;
        let metadata =
            shape::metadata_of(&bytes).map_err(|e| self.bad_answer("its metadata", e))?;
        let runtime = Runtime::new(self.genesis, version, metadata.arc())
            .ok_or_else(|| self.bad_answer("its metadata", "no usable runtime"))?;
        tracing::debug!(endpoint = %self.endpoint, spec_version = version.spec_version,
            bytes = bytes.len(), "metadata of the runtime read");
        let runtime = Arc::new(runtime);
        *self.runtime.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&runtime));
        Ok(runtime)
    }

    /// The newest metadata that both sides know, without the length in front.
    async fn metadata_bytes(&self, hash: H256) -> Result<Vec<u8>, ChainError> {
        const WHAT: &str = "its metadata";
        let call = async |method: &str, input: &[u8]| {
            self.methods.state_call(method, Some(input), Some(hash)).await
        };
        let versions =
            call("Metadata_metadata_versions", &[]).await.map_err(|e| self.fault(WHAT, e))?;
        let versions = <Vec<u32>>::decode(&mut versions.as_slice())
            .map_err(|e| self.bad_answer(WHAT, e.to_string()))?;
        let version = versions
            .into_iter()
            .filter(|version| *version <= METADATA_VERSION)
            .max()
            .ok_or_else(|| self.bad_answer(WHAT, "it has none up to version 16"))?;
        let answer = call("Metadata_metadata_at_version", &version.encode())
            .await
            .map_err(|e| self.fault(WHAT, e))?;
        let mut bytes = answer.as_slice();
        let length = match Option::<Compact<u32>>::decode(&mut bytes) {
            Ok(Some(Compact(length))) => length as usize,
            Ok(None) => return Err(self.bad_answer(WHAT, format!("none of version {version}"))),
            Err(e) => return Err(self.bad_answer(WHAT, e.to_string())),
        };
        match bytes.get(..length) {
            Some(metadata) => Ok(metadata.to_vec()),
            None => Err(self.bad_answer(WHAT, "it ends too early")),
        }
    }
}

/// One block of one node: everything read through it belongs together.
#[derive(Debug, Clone)]
pub(super) struct At {
    pub(super) link: Arc<Link>,
    pub(super) runtime: Arc<Runtime>,
    pub(super) hash: H256,
    pub(super) number: u64,
}

impl At {
    pub(super) fn missing(&self, shape: impl Into<String>, needed_for: &'static str) -> ChainError {
        ChainError::MissingShape {
            shape: shape.into(),
            needed_for,
            spec_version: self.runtime.spec_version,
            endpoint: self.link.endpoint.clone(),
        }
    }

    /// A value of storage as it is, or the default of its entry.
    pub(super) async fn bytes<K: IntoEncodableValues + IntoDecodableValues>(
        &self,
        entry: StorageShape,
        keys: K,
        needed_for: &'static str,
    ) -> Result<Option<(u32, Vec<u8>)>, ChainError> {
        if let Some(shape) = entry.missing(self.runtime.metadata()) {
            return Err(self.missing(shape, needed_for));
        }
        let StorageShape { pallet, entry, .. } = entry;
        let address = subxt::dynamic::storage::<K, ()>(pallet, entry);
        let unfit = |e: subxt::error::StorageError| {
            self.missing(format!("storage {pallet}.{entry}: {e}"), needed_for)
        };
        let info = self.runtime.metadata().pallet_by_name(pallet).and_then(|p| p.storage());
        let info = info.and_then(|s| s.entry_by_name(entry));
        let client = self.runtime.offline.storage();
        let key = client.entry(address).and_then(|e| e.fetch_key(keys)).map_err(unfit)?;
        let found = self.link.methods.state_get_storage(&key, Some(self.hash)).await;
        let found = found.map_err(|e| self.link.fault(&format!("{pallet}.{entry}"), e))?;
        Ok(info.and_then(|info| {
            let bytes = found.or_else(|| info.default_value().map(<[u8]>::to_vec));
            bytes.map(|bytes| (info.value_ty(), bytes))
        }))
    }

    /// A value of storage, or the default of its entry.
    pub(super) async fn storage<K, T>(
        &self,
        entry: StorageShape,
        keys: K,
        needed_for: &'static str,
    ) -> Result<Option<T>, ChainError>
    where
        K: IntoEncodableValues + IntoDecodableValues,
        T: DecodeAsType,
    {
        let found = self.bytes(entry, keys, needed_for).await?;
        let types = self.runtime.metadata().types();
        found
            .map(|(id, bytes)| shape::decode(types, id, &bytes))
            .transpose()
            .map_err(|e| self.link.bad_answer(&format!("{}.{}", entry.pallet, entry.entry), e))
    }

    /// A struct of storage, given to `read` field by field.
    pub(super) async fn storage_struct<K, T>(
        &self,
        entry: StorageShape,
        keys: K,
        needed_for: &'static str,
        read: impl FnOnce(&Columns<'_>) -> Result<T, shape::Reason>,
    ) -> Result<Option<T>, ChainError>
    where
        K: IntoEncodableValues + IntoDecodableValues,
    {
        let Some((id, bytes)) = self.bytes(entry, keys, needed_for).await? else {
            return Ok(None);
        };
        let types = self.runtime.metadata().types();
        Columns::read(types, id, &bytes)
            .and_then(|columns| columns.as_ref().map(read).transpose())
            .map_err(|e| self.link.bad_answer(&format!("{}.{}", entry.pallet, entry.entry), e))
    }

    /// Calls a runtime API; the type of the result, and its bytes.
    pub(super) async fn call_api<A: IntoEncodableValues>(
        &self,
        api: &'static str,
        method: &'static str,
        arguments: A,
        needed_for: &'static str,
    ) -> Result<(u32, Vec<u8>), ChainError> {
        let unfit =
            |why: String| self.missing(format!("runtime API {api}.{method}{why}"), needed_for);
        let output = self
            .runtime
            .metadata()
            .runtime_api_trait_by_name(api)
            .and_then(|api| api.method_by_name(method))
            .ok_or_else(|| unfit(String::new()))?
            .output_ty();
        let payload = subxt::dynamic::runtime_api_call::<A, ()>(api, method, arguments);
        let input = self.runtime.offline.runtime_apis().encode_args(payload);
        let input = input.map_err(|e| unfit(format!(": {e}")))?;
        let name = format!("{api}_{method}");
        let answer = self.link.methods.state_call(&name, Some(&input), Some(self.hash)).await;
        Ok((output, answer.map_err(|e| self.link.fault(&name, e))?))
    }
}
