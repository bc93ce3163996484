//! Types of a runtime of our own, and the metadata that describes them.
//!
//! They have the shapes of the real chain as far as they are used, in two spellings: plain numbers
//! as runtimes 365 and 393 have them, and wrapped ones (`NetUid(u16)`) as later ones. The values
//! are not made from these types: the mock writes what the metadata says, so that it can serve the
//! metadata of a real runtime as well.
#![expect(dead_code, reason = "described by their metadata, never built")]

use frame_metadata::v16::{
    CustomMetadata, EnumDeprecationInfo, ExtrinsicMetadata, FunctionParamMetadata,
    ItemDeprecationInfo, OuterEnums, PalletCallMetadata, PalletErrorMetadata, PalletEventMetadata,
    PalletMetadata, PalletStorageMetadata, RuntimeApiMetadata, RuntimeApiMethodMetadata,
    RuntimeMetadataV16, StorageEntryMetadata, StorageEntryModifier, StorageEntryType,
    StorageHasher, TransactionExtensionMetadata,
};
use scale_info::build::{Fields, Variants};
use scale_info::{MetaType, Path, Type, TypeDef, TypeInfo, meta_type};
use subxt::ext::codec::{Compact, Encode};
use subxt::ext::frame_metadata::{RuntimeMetadata, RuntimeMetadataPrefixed};

/// How numbers are spelt.
pub(super) trait Spelling: TypeInfo + 'static {
    type Netuid: TypeInfo + 'static;
    type Tao: TypeInfo + 'static;
    type Alpha: TypeInfo + 'static;
    type Share: TypeInfo + 'static;
}

/// `u16`, `u64`.
#[derive(TypeInfo)]
pub(super) struct Plain;

impl Spelling for Plain {
    type Netuid = u16;
    type Tao = u64;
    type Alpha = u64;
    type Share = u16;
}

/// `NetUid(u16)`, `TaoBalance(u64)`, ...
#[derive(TypeInfo)]
pub(super) struct Newtypes;

#[derive(TypeInfo)]
pub(super) struct NetUid(u16);
#[derive(TypeInfo)]
pub(super) struct TaoBalance(u64);
#[derive(TypeInfo)]
pub(super) struct AlphaBalance(u64);
#[derive(TypeInfo)]
pub(super) struct PerU16(u16);

impl Spelling for Newtypes {
    type Netuid = NetUid;
    type Tao = TaoBalance;
    type Alpha = AlphaBalance;
    type Share = PerU16;
}

#[derive(TypeInfo)]
struct AccountId32([u8; 32]);
#[derive(TypeInfo)]
struct H256([u8; 32]);

#[derive(TypeInfo)]
enum MultiAddress {
    Id(AccountId32),
    Index(Compact<()>),
    Raw(Vec<u8>),
}

#[derive(TypeInfo)]
enum MultiSignature {
    Ed25519([u8; 64]),
    Sr25519([u8; 64]),
    Ecdsa([u8; 65]),
}

#[derive(TypeInfo)]
#[scale_info(skip_type_params(S))]
struct AccountData<S: Spelling> {
    free: S::Tao,
    reserved: S::Tao,
    frozen: S::Tao,
    flags: u128,
}

#[derive(TypeInfo)]
#[scale_info(skip_type_params(S))]
struct AccountInfo<S: Spelling> {
    nonce: u32,
    consumers: u32,
    providers: u32,
    sufficients: u32,
    data: AccountData<S>,
}

#[derive(TypeInfo)]
struct AxonInfo {
    block: u64,
    version: u32,
    ip: u128,
    port: u16,
    ip_type: u8,
    protocol: u8,
    placeholder1: u8,
    placeholder2: u8,
}

#[derive(TypeInfo)]
struct Identity {
    name: Vec<u8>,
    url: Vec<u8>,
}

#[derive(TypeInfo)]
#[scale_info(skip_type_params(S))]
struct Metagraph<S: Spelling> {
    netuid: Compact<S::Netuid>,
    name: Vec<Compact<u8>>,
    owner_hotkey: AccountId32,
    block: Compact<u64>,
    tempo: Compact<u16>,
    burn: Compact<S::Tao>,
    hotkeys: Vec<AccountId32>,
    coldkeys: Vec<AccountId32>,
    identities: Vec<Option<Identity>>,
    axons: Vec<AxonInfo>,
    active: Vec<bool>,
    validator_permit: Vec<bool>,
    pruning_score: Vec<Compact<S::Share>>,
    last_update: Vec<Compact<u64>>,
    emission: Vec<Compact<S::Alpha>>,
    dividends: Vec<Compact<S::Share>>,
    incentives: Vec<Compact<S::Share>>,
    consensus: Vec<Compact<S::Share>>,
    trust: Vec<Compact<S::Share>>,
    rank: Vec<Compact<S::Share>>,
    alpha_stake: Vec<Compact<S::Alpha>>,
    tao_stake: Vec<Compact<S::Tao>>,
    total_stake: Vec<Compact<S::Alpha>>,
}

#[derive(TypeInfo)]
#[scale_info(skip_type_params(S))]
struct SelectiveMetagraph<S: Spelling> {
    netuid: Compact<S::Netuid>,
    name: Option<Vec<Compact<u8>>>,
    owner_hotkey: Option<AccountId32>,
    block: Option<Compact<u64>>,
    tempo: Option<Compact<u16>>,
    burn: Option<Compact<S::Tao>>,
    hotkeys: Option<Vec<AccountId32>>,
    coldkeys: Option<Vec<AccountId32>>,
    identities: Option<Vec<Option<Identity>>>,
    axons: Option<Vec<AxonInfo>>,
    active: Option<Vec<bool>>,
    validator_permit: Option<Vec<bool>>,
    pruning_score: Option<Vec<Compact<S::Share>>>,
    last_update: Option<Vec<Compact<u64>>>,
    emission: Option<Vec<Compact<S::Alpha>>>,
    dividends: Option<Vec<Compact<S::Share>>>,
    incentives: Option<Vec<Compact<S::Share>>>,
    consensus: Option<Vec<Compact<S::Share>>>,
    trust: Option<Vec<Compact<S::Share>>>,
    rank: Option<Vec<Compact<S::Share>>>,
    alpha_stake: Option<Vec<Compact<S::Alpha>>>,
    tao_stake: Option<Vec<Compact<S::Tao>>>,
    total_stake: Option<Vec<Compact<S::Alpha>>>,
}

#[derive(TypeInfo)]
struct Weight {
    ref_time: Compact<u64>,
    proof_size: Compact<u64>,
}

#[derive(TypeInfo)]
enum DispatchClass {
    Normal,
    Operational,
    Mandatory,
}

#[derive(TypeInfo)]
#[scale_info(skip_type_params(S))]
struct RuntimeDispatchInfo<S: Spelling> {
    weight: Weight,
    class: DispatchClass,
    partial_fee: S::Tao,
}

#[derive(TypeInfo)]
enum Pays {
    Yes,
    No,
}

#[derive(TypeInfo)]
struct DispatchEventInfo {
    weight: Weight,
    class: DispatchClass,
    pays_fee: Pays,
}

/// Known to everybody by its path, which a derive would not give it.
struct DispatchError;

impl TypeInfo for DispatchError {
    type Identity = Self;

    fn type_info() -> Type {
        let variants = Variants::new()
            .variant("Other", |v| v.index(0))
            .variant("CannotLookup", |v| v.index(1))
            .variant("BadOrigin", |v| v.index(2))
            .variant("Module", |v| {
                v.index(3).fields(Fields::unnamed().field(|f| f.ty::<ModuleError>()))
            })
            .variant("Token", |v| {
                v.index(7).fields(Fields::unnamed().field(|f| f.ty::<TokenError>()))
            });
        Type::builder().path(Path::new("DispatchError", "sp_runtime")).variant(variants)
    }
}

#[derive(TypeInfo)]
struct ModuleError {
    index: u8,
    error: [u8; 4],
}

#[derive(TypeInfo)]
enum TokenError {
    FundsUnavailable,
    OnlyProvider,
    BelowMinimum,
}

#[derive(TypeInfo)]
enum Phase {
    ApplyExtrinsic(u32),
    Finalization,
    Initialization,
}

#[derive(TypeInfo)]
enum SystemEvent {
    ExtrinsicSuccess { dispatch_info: DispatchEventInfo },
    ExtrinsicFailed { dispatch_error: DispatchError, dispatch_info: DispatchEventInfo },
    CodeUpdated,
}

#[derive(TypeInfo)]
#[scale_info(skip_type_params(S))]
enum SubtensorEvent<S: Spelling> {
    NeuronRegistered(S::Netuid, u16, AccountId32),
}

#[derive(TypeInfo)]
#[scale_info(skip_type_params(S))]
enum RuntimeEvent<S: Spelling> {
    #[codec(index = 0)]
    System(SystemEvent),
    #[codec(index = 7)]
    SubtensorModule(SubtensorEvent<S>),
}

#[derive(TypeInfo)]
#[scale_info(skip_type_params(S))]
struct EventRecord<S: Spelling> {
    phase: Phase,
    event: RuntimeEvent<S>,
    topics: Vec<H256>,
}

#[derive(TypeInfo)]
enum SystemCall {
    #[codec(index = 0)]
    #[expect(non_camel_case_types, reason = "the chain's names")]
    remark { remark: Vec<u8> },
}

#[derive(TypeInfo)]
#[scale_info(skip_type_params(S))]
#[expect(non_camel_case_types, reason = "the chain's names")]
enum BalancesCall<S: Spelling> {
    #[codec(index = 0)]
    transfer_allow_death { dest: MultiAddress, value: Compact<S::Tao> },
    #[codec(index = 3)]
    transfer_keep_alive { dest: MultiAddress, value: Compact<S::Tao> },
}

#[derive(TypeInfo)]
#[scale_info(skip_type_params(S))]
#[expect(non_camel_case_types, reason = "the chain's names")]
enum SubtensorCall<S: Spelling> {
    #[codec(index = 0)]
    set_weights { netuid: S::Netuid, dests: Vec<u16>, weights: Vec<u16>, version_key: u64 },
    #[codec(index = 2)]
    add_stake { hotkey: AccountId32, netuid: S::Netuid, amount_staked: S::Tao },
    #[codec(index = 4)]
    serve_axon {
        netuid: S::Netuid,
        version: u32,
        ip: u128,
        port: u16,
        ip_type: u8,
        protocol: u8,
        placeholder1: u8,
        placeholder2: u8,
    },
    #[codec(index = 7)]
    burned_register { netuid: S::Netuid, hotkey: AccountId32 },
    #[codec(index = 62)]
    root_register { hotkey: AccountId32 },
    #[codec(index = 113)]
    commit_timelocked_weights {
        netuid: S::Netuid,
        commit: Vec<u8>,
        reveal_round: u64,
        commit_reveal_version: u16,
    },
    #[codec(index = 132)]
    register_limit { netuid: S::Netuid, hotkey: AccountId32, limit_price: S::Tao },
}

#[derive(TypeInfo)]
#[scale_info(skip_type_params(S))]
enum RuntimeCall<S: Spelling> {
    #[codec(index = 0)]
    System(SystemCall),
    #[codec(index = 5)]
    Balances(BalancesCall<S>),
    #[codec(index = 7)]
    SubtensorModule(SubtensorCall<S>),
}

#[derive(TypeInfo)]
#[scale_info(capture_docs = "always")]
enum BalancesError {
    /// Balance too low to send value.
    InsufficientBalance,
    /// Value too low to create account due to existential deposit.
    ExistentialDeposit,
}

#[derive(TypeInfo)]
#[scale_info(capture_docs = "always")]
enum SubtensorError {
    /// The hotkey is not registered in subnet.
    HotKeyNotRegisteredInSubNet,
    /// Request to stake, unstake or subscribe is made by a coldkey that is not associated with the
    /// hotkey account.
    NonAssociatedColdKey,
    /// The caller is requesting adding more stake than there exists in the coldkey account.
    NotEnoughBalanceToStake,
    /// The caller is trying to set weights without a permit.
    NeuronNoValidatorPermit,
    /// Number of registrations in this block exceeds the allowed number.
    TooManyRegistrationsThisBlock,
    /// The caller is requesting registering a neuron which already exists within the active set.
    HotKeyAlreadyRegisteredInSubNet,
    /// A transactor exceeded the rate limit for setting weights.
    SettingWeightsTooFast,
    /// A validator is attempting to set weights from a validator with incorrect weight version.
    IncorrectWeightVersionKey,
    /// Registration is disabled.
    SubNetRegistrationDisabled,
    /// The number of registration attempts exceeded the allowed number in the interval.
    TooManyRegistrationsThisInterval,
    /// Operation is not permitted on the root subnet.
    RegistrationNotPermittedOnRootSubnet,
    /// No neuron UID is available.
    NoNeuronIdAvailable,
    /// Attempting to set weights while commit-reveal is enabled.
    CommitRevealEnabled,
    /// Attempting to commit weights while commit-reveal is disabled.
    CommitRevealDisabled,
    /// The subnet does not exist.
    SubnetNotExists,
    /// The weight vectors are not of equal size.
    WeightVecNotEqualSize,
    /// The weights name a neuron that does not exist.
    UidVecContainInvalidOne,
    /// The price of registration is above the limit of the caller.
    RegistrationPriceLimitExceeded,
    /// Something that this mock does not do.
    CallDisabled,
}

#[derive(TypeInfo)]
enum RuntimeError {
    #[codec(index = 5)]
    Balances(BalancesError),
    #[codec(index = 7)]
    SubtensorModule(SubtensorError),
}

/// One byte, or two: a lifetime.
struct Era;

impl TypeInfo for Era {
    type Identity = Self;

    fn type_info() -> Type {
        let mortal = |variants: Variants, index: u8| {
            variants.variant("Mortal", |v| {
                v.index(index).fields(Fields::unnamed().field(|f| f.ty::<u8>()))
            })
        };
        let immortal = Variants::new().variant("Immortal", |v| v.index(0));
        Type::builder()
            .path(Path::new("Era", "sp_runtime"))
            .variant((1..=255).fold(immortal, mortal))
    }
}

#[derive(TypeInfo)]
struct Empty;
#[derive(TypeInfo)]
struct CheckNonce(Compact<u32>);
#[derive(TypeInfo)]
#[scale_info(skip_type_params(S))]
struct ChargeTransactionPayment<S: Spelling>(Compact<S::Tao>);
#[derive(TypeInfo)]
enum Mode {
    Disabled,
    Enabled,
}
#[derive(TypeInfo)]
struct CheckMetadataHash {
    mode: Mode,
}

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
        per_subnet::<S>("ValidatorTrust", meta_type::<Vec<S::Share>>(), 1),
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
        map(
            "Weights",
            &[StorageHasher::Identity, StorageHasher::Identity],
            meta_type::<(S::Netuid, u16)>(),
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
    let mut pallets = vec![
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
