//! How the chain says no: refusals of the transaction pool, and calls that failed in a block.
//!
//! Names and texts of the runtime come from the metadata of the node. Added here are what the
//! usual ones mean for a trader and what to do next. A doomed call may be refused by the pool with
//! a number instead of failing in a block; both end in the same words.

use super::network::words;
use crate::error::ErrorClass;

/// A call that the pool did not take. It had no effect and cost nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the node did not accept the call: {meaning}{}", shown(reason))]
pub struct PoolRefusal {
    /// JSON-RPC code: 1010 invalid, 1012 banned, 1013 known already, 1014 priority too low, ...
    pub number: i32,
    /// The node's own words.
    pub reason: String,
    /// Number of a refusal by the runtime's own checks.
    pub custom: Option<u8>,
    /// Name of the runtime's error where the number is known.
    pub name: Option<&'static str>,
    meaning: String,
    next: &'static str,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Payment,
    Stale,
    Signature,
    Custom,
    Banned,
    Known,
    Priority,
    Other,
}

fn shown(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(" ({reason})") }
}

impl PoolRefusal {
    /// From the error object of the node; the call is known by its pallet and name.
    pub(super) fn new(call: &str, number: i32, message: &str, data: &str) -> Self {
        let text = words(if data.is_empty() { message } else { data });
        let custom = (number == 1010)
            .then(|| text.rsplit_once("Custom error: ").and_then(|(_, n)| n.trim().parse().ok()))
            .flatten();
        let known = custom.and_then(|n| CUSTOM.iter().find(|(number, _)| *number == n));
        let name = known.map(|(_, name)| *name);
        let explained = name.and_then(|name| explain(in_context(call, name)));
        let has = |word: &str| text.contains(word);
        let (kind, meaning, next) = match number {
            1010 if custom.is_some() => (
                Kind::Custom,
                explained.map_or("the runtime's own check refused it", |e| e.meaning),
                explained.map_or(UNKNOWN, |e| e.next),
            ),
            1010 if has("pay some fees") => (
                Kind::Payment,
                "the account that signs cannot pay the fee",
                "Send TAO to the signing account; its balance must cover the fee and keep 500 RAO.",
            ),
            1010 if has("outdated") => (
                Kind::Stale,
                "another call of the same account came first",
                "Try again: a fresh number is taken for each attempt.",
            ),
            1010 if has("bad signature") => (
                Kind::Signature,
                "its signature does not fit what the node expects",
                "Try again; if it stays, the node may lie about its runtime: use another one.",
            ),
            1012 => (
                Kind::Banned,
                "the same call was refused shortly before and is banned for a while",
                "Wait half an hour, or change the call.",
            ),
            1013 => (
                Kind::Known,
                "this very call is waiting there already",
                "Do not repeat it: wait for the next blocks and look whether it took effect.",
            ),
            1014 => (
                Kind::Priority,
                "another call of the same account is waiting with the same number",
                "Wait for the next block, then try again.",
            ),
            _ => (Kind::Other, "it refused", UNKNOWN),
        };
        let meaning = name.map_or_else(|| meaning.to_owned(), |name| format!("{name}: {meaning}"));
        Self { number, reason: text, custom, name, meaning, next, kind }
    }

    /// Stable code for programs.
    pub const fn code(&self) -> &'static str {
        match self.kind {
            Kind::Payment => "chain_cannot_pay_fee",
            Kind::Stale => "chain_stale",
            Kind::Signature => "chain_bad_signature",
            Kind::Custom => "chain_refused_by_runtime",
            Kind::Banned => "chain_banned",
            Kind::Known => "chain_already_known",
            Kind::Priority => "chain_priority_too_low",
            Kind::Other => "chain_refused",
        }
    }

    pub(super) const fn class(&self) -> ErrorClass {
        match self.kind {
            Kind::Payment | Kind::Custom | Kind::Signature | Kind::Other => ErrorClass::Rejected,
            Kind::Stale | Kind::Banned | Kind::Priority => ErrorClass::Unavailable,
            Kind::Known => ErrorClass::Uncertain,
        }
    }

    /// The next step.
    pub const fn next(&self) -> &'static str {
        self.next
    }

    /// Whether signing anew may help: the runtime or the account's number changed meanwhile.
    pub(super) const fn is_stale(&self) -> bool {
        matches!(self.kind, Kind::Stale | Kind::Signature)
    }
}

/// A call that is in a block and failed there. The fee is gone, everything else is as before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.text())]
pub struct DispatchFailure {
    /// The pallet that refused, empty for errors of the system.
    pub pallet: String,
    /// Name of the error in the runtime.
    pub name: String,
    /// What the runtime's own documentation says about it.
    pub docs: String,
    /// Block that holds the call.
    pub block: String,
    /// Hash of the extrinsic.
    pub hash: String,
}

impl DispatchFailure {
    fn text(&self) -> String {
        let dot = if self.pallet.is_empty() { "" } else { "." };
        let meaning = self.meaning().unwrap_or(if self.docs.is_empty() {
            "the runtime gives no explanation"
        } else {
            &self.docs
        });
        format!(
            "the chain refused the call: {}{dot}{}: {meaning} (in block {})",
            self.pallet, self.name, self.block
        )
    }

    /// What the error means here, for the usual ones.
    pub fn meaning(&self) -> Option<&'static str> {
        explain(&self.name).map(|e| e.meaning)
    }

    /// The next step.
    pub fn next(&self) -> &'static str {
        explain(&self.name).map_or(UNKNOWN, |e| e.next)
    }
}

/// The error that a call meets in a block for the same reason. The pool's numbers are few, so some
/// stand for several.
fn in_context<'a>(call: &str, name: &'a str) -> &'a str {
    match (name, call.rsplit('.').next().unwrap_or_default()) {
        ("StakeAmountTooLow", call) if call.ends_with("weights") => "NotEnoughStakeToSetWeights",
        ("RateLimitExceeded", "register" | "burned_register" | "register_limit") => {
            "TooManyRegistrationsThisInterval"
        }
        _ => name,
    }
}

const UNKNOWN: &str = "Look the error up by its name in the documentation of the chain.";

/// What a usual error means, and the next step.
#[derive(Debug, Clone, Copy)]
struct Explained {
    meaning: &'static str,
    next: &'static str,
}

/// Names of the runtime (newer and older spellings), from runtimes 365, 393 and 425.
fn explain(name: &str) -> Option<Explained> {
    let (meaning, next) = match name {
        "HotKeyAlreadyRegisteredInSubNet" => {
            ("the hotkey is registered in this subnet already", "Nothing to do: start the miner.")
        }
        "HotKeyNotRegisteredInSubNet" | "HotKeyNotRegisteredInNetwork" => (
            "the hotkey is not registered in this subnet, or was evicted",
            "Register it: ptn-cli subnet register.",
        ),
        "HotKeyAccountNotExists" | "HotkeyAccountDoesntExist" => (
            "the chain does not know this hotkey",
            "Check the hotkey's address; register it before you stake to it.",
        ),
        "NotEnoughBalanceToStake" | "BalanceTooLow" | "BalanceWithdrawalError" => (
            "the coldkey's balance does not cover the amount, or the price of the registration",
            "Send TAO to the coldkey: the price, the fee and 500 RAO that must stay.",
        ),
        "InsufficientBalance" | "FundsUnavailable" => (
            "the balance does not cover the amount",
            "Send TAO to the account, or lower the amount; 500 RAO must stay.",
        ),
        "SubNetRegistrationDisabled"
        | "SubNetworkRegistrationDisabled"
        | "RegistrationDisabled" => (
            "the owner of the subnet has closed registration",
            "Wait until it is opened again; ask the operators of the subnet.",
        ),
        "TooManyRegistrationsThisInterval" => (
            "the subnet took as many registrations in this interval as it may (three times its \
             target)",
            "Wait for the next interval, then try again.",
        ),
        "TooManyRegistrationsThisBlock" => (
            "the subnet took as many registrations in this block as it may",
            "Try again in the next block (12 seconds).",
        ),
        "RegistrationPriceLimitExceeded" => (
            "the price has risen above your limit",
            "Wait: the price falls while nobody registers. Or raise --max-cost.",
        ),
        "NonAssociatedColdKey" => (
            "the hotkey belongs to another coldkey",
            "Register with the coldkey that owns the hotkey, or use a new hotkey.",
        ),
        "NoNeuronIdAvailable" => (
            "the subnet is full, and all its members are still immune",
            "Wait until the first of them loses its immunity.",
        ),
        "RegistrationNotPermittedOnRootSubnet" => (
            "subnet 0 is the root, which has its own way to register",
            "Use ptn-cli root register.",
        ),
        "StakingOperationRateLimitExceeded" | "RateLimitExceeded" | "TxRateLimitExceeded" => {
            ("the account does this too often", "Wait a few blocks, then try again.")
        }
        "SubnetNotExists"
        | "SubNetworkDoesNotExist"
        | "SubnetDoesntExist"
        | "MechanismDoesNotExist" => {
            ("there is no such subnet on this network", "Check --netuid and --subtensor.network.")
        }
        "NeuronNoValidatorPermit" => (
            "only validators with a permit may set weights for others",
            "Stake more to the hotkey, and wait for the next epoch.",
        ),
        "WeightVecNotEqualSize" | "InputLengthsUnequal" => {
            ("there must be a weight for every uid", "Give as many weights as uids.")
        }
        "UidVecContainInvalidOne" | "InvalidUid" | "UidNotFound" => (
            "one of the uids has no member in this subnet",
            "Take the uids of the subnet's members: ptn-cli subnet metagraph.",
        ),
        "DuplicateUids" => ("a uid is named twice", "Name each uid once."),
        "UidsLengthExceedUidsInSubNet" => {
            ("there are more uids than the subnet has members", "Name each member at most once.")
        }
        "WeightVecLengthIsLow" => (
            "the subnet demands weights for more members than that",
            "Name more members; a weight may be zero.",
        ),
        "MaxWeightExceeded" => (
            "one weight is a larger share than the subnet allows",
            "Spread the weights over more members.",
        ),
        "CanNotSetRootNetworkWeights" => {
            ("subnet 0 is the root, which has no weights any more", "Name another --netuid.")
        }
        "CommitRevealDisabled" => (
            "this subnet takes weights as they are, not as commitments",
            "Set the weights instead.",
        ),
        "TooManyUnrevealedCommits" => (
            "as many commitments as the subnet allows wait to be revealed",
            "Wait until some of them are revealed.",
        ),
        "NotEnoughStakeToSetWeights" => {
            ("the hotkey has less stake than weights need", "Stake more to the hotkey.")
        }
        "SettingWeightsTooFast" | "CommittingWeightsTooFast" => (
            "weights were set too recently",
            "Wait for the number of blocks that the subnet demands.",
        ),
        "IncorrectWeightVersionKey" => (
            "the version key is below the one that the subnet demands",
            "Update the validator, and send the version key of the subnet.",
        ),
        "CommitRevealEnabled" => (
            "this subnet takes weights only as commitments that are revealed later",
            "Commit the weights instead.",
        ),
        "ServingRateLimitExceeded" => {
            ("the address was announced too recently", "Wait some blocks, then announce it again.")
        }
        "InvalidIpAddress" => ("this address cannot be announced", "State a public address."),
        "InvalidPort" => ("this port cannot be announced", "State a port from 1 to 65535."),
        "StakeAmountTooLow" | "AmountTooLow" => {
            ("the amount is below the smallest that the chain allows", "Raise the amount.")
        }
        "NotEnoughStakeToWithdraw" => ("there is less stake than that", "Lower the amount."),
        "InsufficientLiquidity" | "SlippageTooHigh" => (
            "the subnet's pool cannot trade this amount at that price",
            "Lower the amount, or try again later.",
        ),
        "ColdkeySwapAnnounced" | "ColdkeyInSwapSchedule" | "ColdkeySwapDisputed" => (
            "this coldkey is about to be replaced by another, so it may do nothing else",
            "Use the new coldkey after the swap; if you did not ask for it, act at once.",
        ),
        "StakeTooLowForRoot" => (
            "the hotkey has less stake than the smallest member of the root",
            "Stake more to the hotkey.",
        ),
        _ => return None,
    };
    Some(Explained { meaning, next })
}

/// Numbers of the runtime's own checks before inclusion.
const CUSTOM: &[(u8, &str)] = &[
    (0, "ColdkeySwapAnnounced"),
    (1, "StakeAmountTooLow"),
    (2, "BalanceTooLow"),
    (3, "SubnetNotExists"),
    (4, "HotkeyAccountDoesntExist"),
    (5, "NotEnoughStakeToWithdraw"),
    (6, "RateLimitExceeded"),
    (7, "InsufficientLiquidity"),
    (8, "SlippageTooHigh"),
    (9, "TransferDisallowed"),
    (10, "HotKeyNotRegisteredInNetwork"),
    (11, "InvalidIpAddress"),
    (12, "ServingRateLimitExceeded"),
    (13, "InvalidPort"),
    (14, "ZeroMaxAmount"),
    (15, "InvalidRevealRound"),
    (16, "CommitNotFound"),
    (17, "CommitBlockNotInRevealRange"),
    (18, "InputLengthsUnequal"),
    (19, "UidNotFound"),
    (21, "ColdkeySwapDisputed"),
    (25, "NonAssociatedColdKey"),
    (255, "BadRequest"),
];

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: &str = "Balances.transfer_keep_alive";

    #[test]
    fn a_number_means_what_the_call_makes_of_it() {
        let refusal = |call: &str, number: u8| {
            let data = format!("Custom error: {number}");
            PoolRefusal::new(call, 1010, "Invalid Transaction", &data)
        };
        let stake = refusal("SubtensorModule.set_weights", 1);
        assert_eq!(stake.name, Some("StakeAmountTooLow"));
        assert!(stake.to_string().contains("less stake than weights need"), "{stake}");
        let amount = refusal("SubtensorModule.add_stake", 1);
        assert!(amount.to_string().contains("below the smallest"), "{amount}");
        let interval = refusal("SubtensorModule.burned_register", 6);
        assert!(interval.to_string().contains("registrations in this interval"), "{interval}");
    }

    #[test]
    fn refusals_of_the_pool_are_told_apart() {
        for (number, data, code) in [
            (
                1010,
                "Inability to pay some fees (e.g. account balance too low)",
                "chain_cannot_pay_fee",
            ),
            (1010, "Transaction is outdated", "chain_stale"),
            (1010, "Transaction has a bad signature", "chain_bad_signature"),
            (1010, "Custom error: 6", "chain_refused_by_runtime"),
            (1010, "Custom error: 200", "chain_refused_by_runtime"),
            (1010, "something new", "chain_refused"),
            (1012, "", "chain_banned"),
            (1013, "", "chain_already_known"),
            (1014, "", "chain_priority_too_low"),
            (-32000, "", "chain_refused"),
        ] {
            let refusal = PoolRefusal::new(CALL, number, "Invalid Transaction", data);
            assert_eq!(refusal.code(), code, "{number} {data}");
            assert!(!refusal.next().is_empty());
        }
        let limited = PoolRefusal::new(CALL, 1010, "Invalid Transaction", "Custom error: 6");
        assert_eq!((limited.custom, limited.name), (Some(6), Some("RateLimitExceeded")));
        assert!(limited.to_string().contains("too often"), "{limited}");
    }
}
