//! `subnet`: registering a hotkey, who is in a subnet, and what its validators give.

mod metagraph;
mod register;
mod validators;
mod weights;

use clap::{ArgMatches, Args as _, Command};
use ptn_core::chain::{Metagraph, Neuron, Rao};
use ptn_core::ops::process;
use ptn_core::ops::settings::{CHAIN, COMMON, POLICY, Setting, WALLET};
use serde_json::{Map, Value, json};

use super::chain::{Chain, Sent};
use super::wallet::btcli;
use crate::failure::Failure;
use crate::output::{Output, Style};
use crate::text;

type AddSettings = fn(Command, &[&'static [Setting]]) -> Command;

/// An account must keep this much.
const EXISTENTIAL_DEPOSIT: Rao = Rao(500);

/// The command and its sub-commands.
pub(crate) fn command(settings: AddSettings) -> Command {
    let register = register::RegisterArgs::augment_args(Command::new("register"))
        .about("Registers a hotkey in a subnet for the price of the moment; signed by the coldkey");
    let metagraph = Command::new("metagraph").about("Every member of a subnet");
    let validators = Command::new("validators")
        .about("Who would get a signal, and who would not, by the rule set's policy");
    let weights = weights::WeightsArgs::augment_args(Command::new("weights"))
        .about("What each validator gives to whom, and when it was set");
    Command::new("subnet")
        .about("Registers hotkeys; shows who is in a subnet, and its weights")
        .visible_alias("s")
        .alias("subnets")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(btcli(settings(register, &[CHAIN, WALLET])))
        .subcommand(settings(metagraph, &[CHAIN]))
        .subcommand(settings(validators, &[COMMON, CHAIN, POLICY]))
        .subcommand(settings(weights, &[CHAIN]))
}

/// Runs the command.
///
/// # Errors
/// When something is wrong with settings, wallet or chain, or the chain refuses.
pub fn run(matches: &ArgMatches, out: &mut Output) -> crate::Outcome {
    match matches.subcommand() {
        Some(("register", matches)) => register::run(matches, out),
        Some(("metagraph", matches)) => metagraph::run(matches, out),
        Some(("validators", matches)) => validators::run(matches, out),
        Some(("weights", matches)) => weights::run(matches, out),
        _ => Err(Failure::usage(
            "subnet register, metagraph, validators or weights? see ptn-cli subnet --help",
        )),
    }
}

/// A member, for programs. Scores are fractions from 0 to 1.
pub(crate) fn neuron_json(metagraph: &Metagraph, n: &Neuron) -> Value {
    json!({
        "uid": n.uid,
        "hotkey": n.hotkey,
        "coldkey": n.coldkey,
        "active": n.active,
        "stake_alpha": n.stake.to_string(),
        "rank": n.rank.fraction(),
        "trust": n.trust.fraction(),
        "consensus": n.consensus.fraction(),
        "incentive": n.incentive.fraction(),
        "dividends": n.dividends.fraction(),
        "emission_alpha": n.emission.to_string(),
        "validator_trust": n.validator_trust.fraction(),
        "validator_permit": n.validator_permit,
        "last_update": n.last_update,
        "updated_blocks": metagraph.block.saturating_sub(n.last_update),
        "axon": n.axon.map(|axon| axon.to_string()),
    })
}

/// Refuses what the coldkey cannot pay, before anything is signed.
pub(crate) fn ensure_payable(spendable: Rao, price: Rao, fee: Rao) -> Result<(), Failure> {
    let needed = price
        .checked_add(fee)
        .and_then(|sum| sum.checked_add(EXISTENTIAL_DEPOSIT))
        .unwrap_or(Rao(u64::MAX));
    if spendable >= needed {
        return Ok(());
    }
    let text = format!(
        "the coldkey has {} to spend, but {} are needed: the price, the fee of {} and {} that must \
         stay; nothing was signed",
        text::tao(spendable),
        text::tao(needed),
        text::tao(fee),
        text::tao(EXISTENTIAL_DEPOSIT)
    );
    let lacking = text::tao(needed.saturating_sub(spendable));
    Err(Failure::new(process::REFUSED, "balance_too_low", text)
        .hint(format!("send {lacking} more to the coldkey: ptn-cli wallet list shows its address")))
}

/// How a registration ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    netuid: u16,
    hotkey: String,
    uid: Option<u16>,
    already: bool,
    sent: Option<Sent>,
    /// The coldkey's TAO afterwards.
    left: Option<Rao>,
    /// Why uid and TAO are not known although the call took effect.
    unknown: Option<String>,
}

impl Outcome {
    /// It was there before.
    pub(crate) fn already(netuid: u16, hotkey: &str, uid: u16) -> Self {
        let hotkey = hotkey.to_owned();
        Self {
            netuid,
            hotkey,
            uid: Some(uid),
            already: true,
            sent: None,
            left: None,
            unknown: None,
        }
    }

    /// A call was sent. What came of it is looked up; when no node answers any more, it was sent all
    /// the same.
    pub(crate) async fn after(
        chain: &Chain,
        netuid: u16,
        hotkey: &str,
        coldkey: &str,
        sent: Sent,
    ) -> Self {
        let client = &chain.client;
        let found = tokio::try_join!(client.uid_of(netuid, hotkey), client.balance(coldkey));
        let (uid, left, unknown) = match found {
            Ok((uid, balance)) => (uid, Some(balance.free), None),
            Err(e) => (None, None, Some(e.to_string())),
        };
        let hotkey = hotkey.to_owned();
        Self { netuid, hotkey, uid, already: false, sent: Some(sent), left, unknown }
    }

    pub(crate) fn say(&self, out: &mut Output) -> crate::Outcome {
        if out.is_json() {
            out.document(&self.document())?;
            return Ok(process::OK);
        }
        let (netuid, hotkey) = (self.netuid, &self.hotkey);
        match self.uid {
            Some(uid) if self.already => {
                let note = out.paint_talk(Style::Good, "registered already");
                out.talk(format!("{note}: nothing was signed, nothing was paid"));
                out.line(format!("uid {uid} in subnet {netuid} is {hotkey}"))?;
            }
            Some(uid) => {
                let note = out.paint_talk(Style::Good, "registered");
                let left = self.left.map(text::tao);
                out.talk(format!("{note}; balance {}", left.unwrap_or_default()));
                out.line(format!("uid {uid} in subnet {netuid} is {hotkey}"))?;
            }
            None if self.unknown.is_some() => out.talk(self.note().unwrap_or_default()),
            None => out.talk(
                "sent; the last final block does not have it yet: see ptn-cli wallet overview \
                 in half a minute",
            ),
        }
        Ok(process::OK)
    }

    /// What is not known, and how to learn it.
    fn note(&self) -> Option<String> {
        let (why, sent) = (self.unknown.as_ref()?, self.sent.as_ref()?);
        let reached = match &sent.place {
            Some(place) if sent.is_final => format!("took effect in block {}", place.number),
            Some(place) => format!("is in block {}", place.number),
            None => "was taken by a node".to_owned(),
        };
        Some(format!(
            "the call {} {reached}; uid and balance are not known, as no node answers any more: \
             {why}; see them later: ptn-cli wallet overview",
            sent.hash
        ))
    }

    fn document(&self) -> Value {
        let mut map = Map::new();
        let mut put = |key: &str, value: Value| map.insert(key.to_owned(), value);
        put("netuid", self.netuid.into());
        put("hotkey", self.hotkey.as_str().into());
        put("uid", self.uid.into());
        put("already", self.already.into());
        if let Some(sent) = &self.sent {
            put("extrinsic", sent.hash.as_str().into());
            put("block", sent.place.as_ref().map(|place| place.number).into());
            put("block_hash", sent.place.as_ref().map(|place| place.block.as_str()).into());
            put("final", sent.is_final.into());
            put("balance_tao", self.left.map(|left| left.to_string()).into());
        }
        if let Some(note) = self.note() {
            map.insert("note".to_owned(), note.into());
        }
        Value::Object(map)
    }
}

/// Refuses while the same thing may be on its way already: the hotkey is in the newest block, which
/// is not final yet, or a call of the coldkey waits for one. Whoever was interrupted looks like this.
pub(crate) async fn ensure_not_under_way(
    chain: &Chain,
    netuid: u16,
    hotkey: &str,
    coldkey: &str,
) -> Result<(), Failure> {
    let state = chain.client.under_way(netuid, hotkey, coldkey).await?;
    let what = match (state.uid, state.waiting) {
        (Some(uid), _) => format!(
            "hotkey {hotkey} is uid {uid} of subnet {netuid} since the newest block ({}), which is \
             not final yet",
            state.block
        ),
        (None, 0) => return Ok(()),
        (None, n) => format!(
            "{} of coldkey {coldkey} in the node's pool may be this registration",
            text::count(usize::try_from(n).unwrap_or(usize::MAX), "call")
        ),
    };
    let text = format!("{what}; nothing was signed");
    Err(Failure::new(process::UNAVAILABLE, "call_under_way", text)
        .hint("run it again in half a minute: a registration that took effect is then found"))
}
