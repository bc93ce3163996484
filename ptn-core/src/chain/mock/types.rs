//! Types of a runtime of our own; [`super::metadata`] describes the runtime with them.
//!
//! They have the shapes of the real chain as far as they are used, in two spellings: plain numbers
//! as runtimes 365 and 393 have them, and wrapped ones (`NetUid(u16)`) as later ones. The values
//! are not made from these types: the mock writes what the metadata says, so that it can serve the
//! metadata of a real runtime as well.
#![expect(dead_code, reason = "described by their metadata, never built")]

use scale_info::build::{Fields, Variants};
use scale_info::{Path, Type, TypeInfo};
use subxt::ext::codec::Compact;

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
/// The number of a subnet's table: every runtime here wraps it.
#[derive(TypeInfo)]
pub(super) struct NetUidStorageIndex(u16);
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
pub(super) struct AccountId32([u8; 32]);
#[derive(TypeInfo)]
pub(super) struct H256([u8; 32]);

#[derive(TypeInfo)]
pub(super) enum MultiAddress {
    Id(AccountId32),
    Index(Compact<()>),
    Raw(Vec<u8>),
}

#[derive(TypeInfo)]
pub(super) enum MultiSignature {
    Ed25519([u8; 64]),
    Sr25519([u8; 64]),
    Ecdsa([u8; 65]),
}

#[derive(TypeInfo)]
#[scale_info(skip_type_params(S))]
pub(super) struct AccountData<S: Spelling> {
    free: S::Tao,
    reserved: S::Tao,
    frozen: S::Tao,
    flags: u128,
}

#[derive(TypeInfo)]
#[scale_info(skip_type_params(S))]
pub(super) struct AccountInfo<S: Spelling> {
    nonce: u32,
    consumers: u32,
    providers: u32,
    sufficients: u32,
    data: AccountData<S>,
}

#[derive(TypeInfo)]
pub(super) struct AxonInfo {
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
pub(super) struct Identity {
    name: Vec<u8>,
    url: Vec<u8>,
}

#[derive(TypeInfo)]
#[scale_info(skip_type_params(S))]
pub(super) struct Metagraph<S: Spelling> {
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
pub(super) struct SelectiveMetagraph<S: Spelling> {
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
pub(super) struct Weight {
    ref_time: Compact<u64>,
    proof_size: Compact<u64>,
}

#[derive(TypeInfo)]
pub(super) enum DispatchClass {
    Normal,
    Operational,
    Mandatory,
}

#[derive(TypeInfo)]
#[scale_info(skip_type_params(S))]
pub(super) struct RuntimeDispatchInfo<S: Spelling> {
    weight: Weight,
    class: DispatchClass,
    partial_fee: S::Tao,
}

#[derive(TypeInfo)]
pub(super) enum Pays {
    Yes,
    No,
}

#[derive(TypeInfo)]
pub(super) struct DispatchEventInfo {
    weight: Weight,
    class: DispatchClass,
    pays_fee: Pays,
}

/// Known to everybody by its path, which a derive would not give it.
pub(super) struct DispatchError;

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
pub(super) struct ModuleError {
    index: u8,
    error: [u8; 4],
}

#[derive(TypeInfo)]
pub(super) enum TokenError {
    FundsUnavailable,
    OnlyProvider,
    BelowMinimum,
}

#[derive(TypeInfo)]
pub(super) enum Phase {
    ApplyExtrinsic(u32),
    Finalization,
    Initialization,
}

#[derive(TypeInfo)]
pub(super) enum SystemEvent {
    ExtrinsicSuccess { dispatch_info: DispatchEventInfo },
    ExtrinsicFailed { dispatch_error: DispatchError, dispatch_info: DispatchEventInfo },
    CodeUpdated,
}

#[derive(TypeInfo)]
#[scale_info(skip_type_params(S))]
pub(super) enum SubtensorEvent<S: Spelling> {
    NeuronRegistered(S::Netuid, u16, AccountId32),
}

#[derive(TypeInfo)]
#[scale_info(skip_type_params(S))]
pub(super) enum RuntimeEvent<S: Spelling> {
    #[codec(index = 0)]
    System(SystemEvent),
    #[codec(index = 7)]
    SubtensorModule(SubtensorEvent<S>),
}

#[derive(TypeInfo)]
#[scale_info(skip_type_params(S))]
pub(super) struct EventRecord<S: Spelling> {
    phase: Phase,
    event: RuntimeEvent<S>,
    topics: Vec<H256>,
}

#[derive(TypeInfo)]
pub(super) enum SystemCall {
    #[codec(index = 0)]
    #[expect(non_camel_case_types, reason = "the chain's names")]
    remark { remark: Vec<u8> },
}

#[derive(TypeInfo)]
#[scale_info(skip_type_params(S))]
#[expect(non_camel_case_types, reason = "the chain's names")]
pub(super) enum BalancesCall<S: Spelling> {
    #[codec(index = 0)]
    transfer_allow_death { dest: MultiAddress, value: Compact<S::Tao> },
    #[codec(index = 3)]
    transfer_keep_alive { dest: MultiAddress, value: Compact<S::Tao> },
}

#[derive(TypeInfo)]
#[scale_info(skip_type_params(S))]
#[expect(non_camel_case_types, reason = "the chain's names")]
pub(super) enum SubtensorCall<S: Spelling> {
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
pub(super) enum RuntimeCall<S: Spelling> {
    #[codec(index = 0)]
    System(SystemCall),
    #[codec(index = 5)]
    Balances(BalancesCall<S>),
    #[codec(index = 7)]
    SubtensorModule(SubtensorCall<S>),
}

#[derive(TypeInfo)]
#[scale_info(capture_docs = "always")]
pub(super) enum BalancesError {
    /// Balance too low to send value.
    InsufficientBalance,
    /// Value too low to create account due to existential deposit.
    ExistentialDeposit,
}

#[derive(TypeInfo)]
#[scale_info(capture_docs = "always")]
pub(super) enum SubtensorError {
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
    /// The caller has less stake than weights need.
    NotEnoughStakeToSetWeights,
    /// The weights name a neuron twice.
    DuplicateUids,
    /// The weights name more neurons than there are.
    UidsLengthExceedUidsInSubNet,
    /// The weights are fewer than the subnet demands.
    WeightVecLengthIsLow,
    /// A weight is above what the subnet allows.
    MaxWeightExceeded,
    /// The root network has no weights.
    CanNotSetRootNetworkWeights,
    /// A transactor exceeded the rate limit for committing weights.
    CommittingWeightsTooFast,
    /// Something that this mock does not do.
    CallDisabled,
}

#[derive(TypeInfo)]
pub(super) enum RuntimeError {
    #[codec(index = 5)]
    Balances(BalancesError),
    #[codec(index = 7)]
    SubtensorModule(SubtensorError),
}

/// One byte, or two: a lifetime.
pub(super) struct Era;

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
pub(super) struct Empty;
#[derive(TypeInfo)]
pub(super) struct CheckNonce(Compact<u32>);
#[derive(TypeInfo)]
#[scale_info(skip_type_params(S))]
pub(super) struct ChargeTransactionPayment<S: Spelling>(Compact<S::Tao>);
#[derive(TypeInfo)]
pub(super) enum Mode {
    Disabled,
    Enabled,
}
#[derive(TypeInfo)]
pub(super) struct CheckMetadataHash {
    mode: Mode,
}
