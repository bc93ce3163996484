//! Balances, registration, and the terms on which a hotkey can be registered.

use serde::Serialize;
use subxt::metadata::Metadata;
use subxt::utils::AccountId32;

use super::error::ChainError;
use super::link::At;
use super::shape::{Reason, StorageShape, is_number};
use super::units::Rao;
use crate::sign::ss58;

pub(super) const ACCOUNT: StorageShape =
    StorageShape { pallet: "System", entry: "Account", keys: 1 };
pub(super) const NOW: StorageShape = StorageShape { pallet: "Timestamp", entry: "Now", keys: 0 };
pub(super) const UIDS: StorageShape = StorageShape::subtensor("Uids", 2);
const BURN: StorageShape = StorageShape::subtensor("Burn", 1);
const LOCK_SHARE: StorageShape = StorageShape::subtensor("CollateralLockShare", 1);
const ALLOWED: StorageShape = StorageShape::subtensor("NetworkRegistrationAllowed", 1);
const POW_ALLOWED: StorageShape = StorageShape::subtensor("NetworkPowRegistrationAllowed", 1);
const THIS_INTERVAL: StorageShape = StorageShape::subtensor("RegistrationsThisInterval", 1);
const TARGET: StorageShape = StorageShape::subtensor("TargetRegistrationsPerInterval", 1);
const IMMUNITY: StorageShape = StorageShape::subtensor("ImmunityPeriod", 1);
const MEMBERS: StorageShape = StorageShape::subtensor("SubnetworkN", 1);
const MAX_MEMBERS: StorageShape = StorageShape::subtensor("MaxAllowedUids", 1);
const ADDED: StorageShape = StorageShape::subtensor("NetworksAdded", 1);
pub(super) const COMMIT_REVEAL: StorageShape =
    StorageShape::subtensor("CommitRevealWeightsEnabled", 1);
const OWNER: StorageShape = StorageShape::subtensor("Owner", 1);

const FOR_TERMS: &str = "showing the terms of registration";
const FOR_UID: &str = "finding a hotkey in a subnet";
const FOR_BALANCE: &str = "reading a balance";

/// Everything read here that a runtime may lack, with what it is needed for.
const SHAPES: [(StorageShape, &str); 8] = [
    (BURN, FOR_TERMS),
    (ALLOWED, FOR_TERMS),
    (THIS_INTERVAL, FOR_TERMS),
    (TARGET, FOR_TERMS),
    (IMMUNITY, FOR_TERMS),
    (MEMBERS, FOR_TERMS),
    (MAX_MEMBERS, FOR_TERMS),
    (COMMIT_REVEAL, "setting weights"),
];

/// What of this module's needs the runtime has not.
pub(super) fn missing(metadata: &Metadata) -> Vec<(Reason, &'static str)> {
    let mut missing: Vec<_> = SHAPES
        .into_iter()
        .filter_map(|(shape, what)| shape.missing(metadata).map(|reason| (reason, what)))
        .collect();
    let burn = metadata.pallet_by_name(BURN.pallet).and_then(|p| p.storage());
    if let Some(burn) = burn.and_then(|s| s.entry_by_name(BURN.entry))
        && !is_number(metadata.types(), burn.value_ty(), 64)
    {
        missing.push(("storage SubtensorModule.Burn as a 64-bit number".to_owned(), FOR_TERMS));
    }
    missing
}

/// The TAO of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct Balance {
    /// Belongs to the account outright; a frozen part is included.
    pub free: Rao,
    /// Set aside by the chain for something, on top of `free`.
    pub reserved: Rao,
    /// The part of `free` that may not be spent now.
    pub frozen: Rao,
}

impl Balance {
    /// What can be spent, the existential deposit of 500 RAO left aside.
    #[must_use]
    pub const fn spendable(&self) -> Rao {
        self.free.saturating_sub(self.frozen)
    }
}

/// On what terms a hotkey can be registered in a subnet right now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RegistrationTerms {
    /// The subnet.
    pub netuid: u16,
    /// The block these terms were read at; they move with every registration.
    pub block: u64,
    /// The whole price.
    pub price: Rao,
    /// The part of the price that stays locked as collateral, where the runtime has that.
    pub locked: Rao,
    /// Whether the owner lets anyone register.
    pub allowed: bool,
    /// Whether registration by proof of work is allowed; absent where the runtime does not say.
    pub pow_allowed: Option<bool>,
    /// Registrations in this interval so far.
    pub this_interval: u16,
    /// Registrations per interval that the price aims at; three times as many are the cap.
    pub target: u16,
    /// Blocks for which a newcomer cannot be evicted.
    pub immunity_period: u16,
    /// Members now.
    pub members: u16,
    /// Members at most; on a full subnet a newcomer evicts the weakest that is not immune.
    pub max_members: u16,
    /// Whether the runtime can refuse a price above a limit by itself (`register_limit`).
    pub limit_available: bool,
}

impl RegistrationTerms {
    /// The part of the price that is gone for good.
    #[must_use]
    pub const fn burnt(&self) -> Rao {
        self.price.saturating_sub(self.locked)
    }

    /// Whether this interval takes no more.
    pub const fn interval_is_full(&self) -> bool {
        self.target > 0 && self.this_interval >= self.target.saturating_mul(3)
    }

    /// Whether a newcomer evicts somebody.
    pub const fn is_full(&self) -> bool {
        self.members >= self.max_members
    }
}

/// The key of an address.
pub(super) fn account(address: &str) -> Result<AccountId32, ChainError> {
    ss58::decode(address)
        .map(AccountId32)
        .map_err(|reason| ChainError::BadAddress { address: address.to_owned(), reason })
}

pub(super) async fn balance(at: &At, who: AccountId32) -> Result<Balance, ChainError> {
    let read = at.storage_struct(ACCOUNT, (who,), FOR_BALANCE, |account| {
        let data = account.inner("data")?;
        Ok(Balance {
            free: Rao(data.take("free")?),
            reserved: Rao(data.find("reserved")?.unwrap_or_default()),
            frozen: Rao(data.find("frozen")?.unwrap_or_default()),
        })
    });
    Ok(read.await?.unwrap_or_default())
}

/// The number of an account's next call at this block, where the runtime keeps one.
pub(super) async fn number(at: &At, who: AccountId32) -> Result<Option<u64>, ChainError> {
    let read = at.storage_struct(ACCOUNT, (who,), "seeing what became of a call", |account| {
        Ok(account.find::<u32>("nonce")?.map(u64::from))
    });
    Ok(read.await?.flatten())
}

pub(super) async fn uid_of(
    at: &At,
    netuid: u16,
    hotkey: AccountId32,
) -> Result<Option<u16>, ChainError> {
    at.storage(UIDS, (netuid, hotkey), FOR_UID).await
}

pub(super) async fn owner_of(
    at: &At,
    hotkey: AccountId32,
) -> Result<Option<AccountId32>, ChainError> {
    let owner: Option<AccountId32> =
        at.storage(OWNER, (hotkey,), "finding a hotkey's owner").await?;
    // The default of the entry: nobody.
    Ok(owner.filter(|owner| owner.0 != [0; 32]))
}

pub(super) async fn commit_reveal(at: &At, netuid: u16) -> Result<bool, ChainError> {
    Ok(at.storage(COMMIT_REVEAL, (netuid,), "setting weights").await?.unwrap_or_default())
}

pub(super) async fn terms(at: &At, netuid: u16) -> Result<RegistrationTerms, ChainError> {
    let number = async |shape: StorageShape| -> Result<u16, ChainError> {
        Ok(at.storage(shape, (netuid,), FOR_TERMS).await?.unwrap_or_default())
    };
    let optional = |shape: StorageShape| shape.missing(at.runtime.metadata()).is_none();
    let exists = async {
        if !optional(ADDED) {
            return Ok(true);
        }
        Ok(at.storage(ADDED, (netuid,), FOR_TERMS).await?.unwrap_or_default())
    };
    let share = async {
        if !optional(LOCK_SHARE) {
            return Ok(0);
        }
        number(LOCK_SHARE).await
    };
    let pow_allowed = async {
        if !optional(POW_ALLOWED) {
            return Ok(None);
        }
        at.storage::<_, bool>(POW_ALLOWED, (netuid,), FOR_TERMS).await
    };
    // Asked together: one round trip.
    let (exists, price, share, allowed, pow_allowed, this_interval, target, immunity, members, max) =
        tokio::try_join!(
            exists,
            at.storage::<_, u64>(BURN, (netuid,), FOR_TERMS),
            share,
            at.storage::<_, bool>(ALLOWED, (netuid,), FOR_TERMS),
            pow_allowed,
            number(THIS_INTERVAL),
            number(TARGET),
            number(IMMUNITY),
            number(MEMBERS),
            number(MAX_MEMBERS),
        )?;
    if !exists {
        return Err(ChainError::NoSubnet { netuid });
    }
    let price = price.unwrap_or_default();
    let call = at.runtime.metadata().pallet_by_name("SubtensorModule");
    Ok(RegistrationTerms {
        netuid,
        block: at.number,
        price: Rao(price),
        locked: Rao(lock(price, share)),
        allowed: allowed.unwrap_or_default(),
        pow_allowed,
        this_interval,
        target,
        immunity_period: immunity,
        members,
        max_members: max,
        limit_available: call.is_some_and(|p| p.call_variant_by_name("register_limit").is_some()),
    })
}

/// `floor(price * share / 65535)`: what the collateral lock keeps of a price.
fn lock(price: u64, share: u16) -> u64 {
    let kept = u128::from(price) * u128::from(share) / u128::from(u16::MAX);
    u64::try_from(kept).unwrap_or(price)
}

#[cfg(test)]
mod tests {
    use super::lock;

    #[test]
    fn the_lock_is_rounded_down_and_never_more_than_the_price() {
        assert_eq!(lock(1_000_000_000, 0), 0);
        assert_eq!(lock(1_000_000_000, 32_768), 500_007_629);
        assert_eq!(lock(u64::MAX, u16::MAX), u64::MAX);
        assert_eq!(lock(1, u16::MAX - 1), 0);
    }
}
