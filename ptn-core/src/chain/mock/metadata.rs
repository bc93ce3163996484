//! The metadata of a runtime of our own: pallets, storage, calls, runtime APIs and transaction
//! extensions as far as they are used, with the names and hashers of the real chain.

use frame_metadata::v16::{
    CustomMetadata, EnumDeprecationInfo, ExtrinsicMetadata, FunctionParamMetadata,
    ItemDeprecationInfo, OuterEnums, PalletCallMetadata, PalletErrorMetadata, PalletEventMetadata,
    PalletMetadata, PalletStorageMetadata, RuntimeApiMetadata, RuntimeApiMethodMetadata,
    RuntimeMetadataV16, StorageEntryMetadata, StorageEntryModifier, StorageEntryType,
    StorageHasher, TransactionExtensionMetadata,
};
use scale_info::{MetaType, TypeDef, meta_type};
use subxt::ext::codec::{Compact, Encode};
use subxt::ext::frame_metadata::{RuntimeMetadata, RuntimeMetadataPrefixed};

use super::types::{
    AccountId32, AccountInfo, BalancesCall, BalancesError, ChargeTransactionPayment,
    CheckMetadataHash, CheckNonce, Empty, Era, EventRecord, H256, Metagraph, MultiAddress,
    MultiSignature, NetUidStorageIndex, RuntimeCall, RuntimeDispatchInfo, RuntimeError,
    RuntimeEvent, SelectiveMetagraph, Spelling, SubtensorCall, SubtensorError, SubtensorEvent,
    SystemCall, SystemEvent,
};

const FINE: ItemDeprecationInfo = ItemDeprecationInfo::NotDeprecated;

fn plain(name: &'static str, ty: MetaType) -> StorageEntryMetadata {
    StorageEntryMetadata {
        name,
        modifier: StorageEntryModifier::Default,
        ty: StorageEntryType::Plain(ty),
        default: vec![0],
        docs: Vec::new(),
        deprecation_info: FINE,
    }
}

/// A map; its default is that many zero bytes, or there is none.
fn map(
    name: &'static str,
    hashers: &[StorageHasher],
    key: MetaType,
    value: MetaType,
    default: Option<usize>,
) -> StorageEntryMetadata {
    StorageEntryMetadata {
        name,
        modifier: match default {
            Some(_) => StorageEntryModifier::Default,
            None => StorageEntryModifier::Optional,
        },
        ty: StorageEntryType::Map { hashers: hashers.to_vec(), key, value },
        default: vec![0; default.unwrap_or(1)],
        docs: Vec::new(),
        deprecation_info: FINE,
    }
}

fn per_subnet<S: Spelling>(
    name: &'static str,
    value: MetaType,
    default: usize,
) -> StorageEntryMetadata {
    map(name, &[StorageHasher::Identity], meta_type::<S::Netuid>(), value, Some(default))
}

/// A list for each of a subnet's mechanisms.
fn per_index(name: &'static str, value: MetaType) -> StorageEntryMetadata {
    map(name, &[StorageHasher::Identity], meta_type::<NetUidStorageIndex>(), value, Some(1))
}

fn pallet(
    name: &'static str,
    index: u8,
    entries: Vec<StorageEntryMetadata>,
    calls: MetaType,
    event: Option<MetaType>,
    error: Option<MetaType>,
) -> PalletMetadata {
    let nothing = EnumDeprecationInfo::nothing_deprecated;
    PalletMetadata {
        name,
        storage: Some(PalletStorageMetadata { prefix: name, entries }),
        calls: Some(PalletCallMetadata { ty: calls, deprecation_info: nothing() }),
        event: event.map(|ty| PalletEventMetadata { ty, deprecation_info: nothing() }),
        constants: Vec::new(),
        error: error.map(|ty| PalletErrorMetadata { ty, deprecation_info: nothing() }),
        associated_types: Vec::new(),
        view_functions: Vec::new(),
        index,
        docs: Vec::new(),
        deprecation_info: FINE,
    }
}

fn subtensor_storage<S: Spelling>() -> Vec<StorageEntryMetadata> {
    let concat = StorageHasher::Blake2_128Concat;
    let bool_ = meta_type::<bool>;
    let u16_ = meta_type::<u16>;
    vec![
        map(
            "Uids",
            &[StorageHasher::Identity, concat.clone()],
            meta_type::<(S::Netuid, AccountId32)>(),
            u16_(),
            None,
        ),
        map("Owner", &[concat], meta_type::<AccountId32>(), meta_type::<AccountId32>(), Some(32)),
        map(
            "IsNetworkMember",
            &[StorageHasher::Blake2_128Concat, StorageHasher::Identity],
            meta_type::<(AccountId32, S::Netuid)>(),
            bool_(),
            Some(1),
        ),
        per_index("ValidatorTrust", meta_type::<Vec<S::Share>>()),
        per_index("LastUpdate", meta_type::<Vec<u64>>()),
        per_subnet::<S>("Burn", meta_type::<S::Tao>(), 8),
        per_subnet::<S>("CollateralLockShare", meta_type::<S::Share>(), 2),
        per_subnet::<S>("NetworkRegistrationAllowed", bool_(), 1),
        per_subnet::<S>("NetworkPowRegistrationAllowed", bool_(), 1),
        per_subnet::<S>("RegistrationsThisInterval", u16_(), 2),
        per_subnet::<S>("TargetRegistrationsPerInterval", u16_(), 2),
        per_subnet::<S>("ImmunityPeriod", u16_(), 2),
        per_subnet::<S>("SubnetworkN", u16_(), 2),
        per_subnet::<S>("MaxAllowedUids", u16_(), 2),
        per_subnet::<S>("NetworksAdded", bool_(), 1),
        per_subnet::<S>("CommitRevealWeightsEnabled", bool_(), 1),
        per_subnet::<S>("WeightsVersionKey", meta_type::<u64>(), 8),
        per_subnet::<S>("WeightsSetRateLimit", meta_type::<u64>(), 8),
        map(
            "Weights",
            &[StorageHasher::Identity, StorageHasher::Identity],
            meta_type::<(NetUidStorageIndex, u16)>(),
            meta_type::<Vec<(u16, u16)>>(),
            Some(1),
        ),
    ]
}

fn method(
    name: &'static str,
    inputs: Vec<(&'static str, MetaType)>,
    output: MetaType,
) -> RuntimeApiMethodMetadata {
    let inputs = inputs.into_iter().map(|(name, ty)| FunctionParamMetadata { name, ty }).collect();
    RuntimeApiMethodMetadata { name, inputs, output, docs: Vec::new(), deprecation_info: FINE }
}

fn api(name: &'static str, methods: Vec<RuntimeApiMethodMetadata>) -> RuntimeApiMetadata {
    RuntimeApiMetadata {
        name,
        methods,
        docs: Vec::new(),
        version: Compact(1),
        deprecation_info: FINE,
    }
}

fn extensions<S: Spelling>(demanding: bool) -> Vec<TransactionExtensionMetadata> {
    let empty = meta_type::<Empty>;
    let unit = meta_type::<()>;
    let mut list = vec![
        ("CheckNonZeroSender", empty(), unit()),
        ("CheckSpecVersion", empty(), meta_type::<u32>()),
        ("CheckTxVersion", empty(), meta_type::<u32>()),
        ("CheckGenesis", empty(), meta_type::<H256>()),
        ("CheckMortality", meta_type::<Era>(), meta_type::<H256>()),
        ("CheckNonce", meta_type::<CheckNonce>(), unit()),
        ("CheckWeight", empty(), unit()),
        ("ChargeTransactionPayment", meta_type::<ChargeTransactionPayment<S>>(), unit()),
        // Nobody has heard of this one: it says nothing, so it must be survived.
        ("CheckSomethingOfNextMonth", empty(), unit()),
        ("CheckMetadataHash", meta_type::<CheckMetadataHash>(), meta_type::<Option<[u8; 32]>>()),
    ];
    if demanding {
        list.push(("AttestSomething", meta_type::<u32>(), unit()));
    }
    list.into_iter()
        .map(|(identifier, ty, implicit)| TransactionExtensionMetadata { identifier, ty, implicit })
        .collect()
}

/// The metadata of a runtime of our own as bytes, without what is named in `lacking` (storage
/// entries, methods, calls and fields alike).
pub(super) fn metadata<S: Spelling>(lacking: &[String], demanding: bool) -> Vec<u8> {
    let has = |name: &str| !lacking.iter().any(|absent| absent == name);
    let concat = StorageHasher::Blake2_128Concat;
    let account = map(
        "Account",
        &[concat],
        meta_type::<AccountId32>(),
        meta_type::<AccountInfo<S>>(),
        Some(16 + 3 * 8 + 16),
    );
    let events = plain("Events", meta_type::<Vec<EventRecord<S>>>());
    let now = plain("Now", meta_type::<u64>());
    let mut pallets = vec![
        PalletMetadata {
            calls: None,
            ..pallet("Timestamp", 2, vec![now], meta_type::<SystemCall>(), None, None)
        },
        pallet(
            "System",
            0,
            vec![account, events],
            meta_type::<SystemCall>(),
            Some(meta_type::<SystemEvent>()),
            None,
        ),
        pallet(
            "Balances",
            5,
            Vec::new(),
            meta_type::<BalancesCall<S>>(),
            None,
            Some(meta_type::<BalancesError>()),
        ),
        pallet(
            "SubtensorModule",
            7,
            subtensor_storage::<S>(),
            meta_type::<SubtensorCall<S>>(),
            Some(meta_type::<SubtensorEvent<S>>()),
            Some(meta_type::<SubtensorError>()),
        ),
    ];
    for storage in pallets.iter_mut().filter_map(|pallet| pallet.storage.as_mut()) {
        storage.entries.retain(|entry| has(entry.name));
    }
    let netuid = meta_type::<S::Netuid>;
    let indexes = meta_type::<Vec<u16>>();
    let mut apis = vec![
        api(
            "SubnetInfoRuntimeApi",
            vec![
                method(
                    "get_metagraph",
                    vec![("netuid", netuid())],
                    meta_type::<Option<Metagraph<S>>>(),
                ),
                method(
                    "get_selective_metagraph",
                    vec![("netuid", netuid()), ("metagraph_indexes", indexes)],
                    meta_type::<Option<SelectiveMetagraph<S>>>(),
                ),
            ],
        ),
        api(
            "TransactionPaymentApi",
            vec![method(
                "query_info",
                vec![("uxt", meta_type::<Vec<u8>>()), ("len", meta_type::<u32>())],
                meta_type::<RuntimeDispatchInfo<S>>(),
            )],
        ),
        api(
            "AccountNonceApi",
            vec![method(
                "account_nonce",
                vec![("account", meta_type::<AccountId32>())],
                meta_type::<u32>(),
            )],
        ),
    ];
    for api in &mut apis {
        api.methods.retain(|method| has(method.name));
    }
    let transaction_extensions = extensions::<S>(demanding);
    let all = (0..).map(Compact).take(transaction_extensions.len()).collect();
    let extrinsic = ExtrinsicMetadata {
        versions: vec![4, 5],
        address_ty: meta_type::<MultiAddress>(),
        call_ty: meta_type::<RuntimeCall<S>>(),
        signature_ty: meta_type::<MultiSignature>(),
        transaction_extensions_by_version: [(0, all)].into_iter().collect(),
        transaction_extensions,
    };
    let outer = OuterEnums {
        call_enum_ty: meta_type::<RuntimeCall<S>>(),
        event_enum_ty: meta_type::<RuntimeEvent<S>>(),
        error_enum_ty: meta_type::<RuntimeError>(),
    };
    let custom = CustomMetadata { map: Default::default() };
    let mut metadata = RuntimeMetadataV16::new(pallets, extrinsic, apis, outer, custom);
    for ty in &mut metadata.types.types {
        match &mut ty.ty.type_def {
            TypeDef::Composite(composite) => {
                composite.fields.retain(|field| field.name.as_deref().is_none_or(has));
            }
            TypeDef::Variant(variants) => variants.variants.retain(|variant| has(&variant.name)),
            _ => {}
        }
    }
    const PREFIX: u32 = u32::from_le_bytes(*b"meta");
    RuntimeMetadataPrefixed(PREFIX, RuntimeMetadata::V16(metadata)).encode()
}
