//! `subnet register`: what it costs and means, the question, the call, the uid.
//!
//! Everything that the chain would refuse and that can be seen before is said before anything is
//! signed. Where the runtime has `register_limit` the chain itself holds the limit, otherwise the
//! price is looked at once more right before signing.

use clap::{ArgMatches, Args, FromArgMatches as _};
use ptn_core::chain::{Balance, Call, ChainError, DryRun, Rao, RegistrationTerms};
use ptn_core::ops::chain::netuid;
use ptn_core::ops::process;
use ptn_core::ops::settings::{CHAIN, WALLET};
use serde_json::{Value, json};

use super::{Outcome as Registered, ensure_not_under_way, ensure_payable};
use crate::Outcome;
use crate::commands::chain::{Chain, Owner, SendArgs};
use crate::commands::wallet::settings;
use crate::failure::Failure;
use crate::output::{Output, Style};
use crate::text;

/// Arguments of `subnet register`.
#[derive(Debug, Clone, Args)]
pub(super) struct RegisterArgs {
    /// The highest price to pay (default: the price that is shown)
    #[arg(long, value_name = "TAO", value_parser = amount)]
    max_cost: Option<Rao>,
    #[command(flatten)]
    send: SendArgs,
}

fn amount(text: &str) -> Result<Rao, String> {
    text.parse().map_err(|e: ptn_core::chain::AmountError| e.to_string())
}

/// Everything that is known before the question.
struct Plan {
    hotkey: String,
    coldkey: String,
    /// Coldkey that the chain has for the hotkey.
    owner: Option<String>,
    terms: RegistrationTerms,
    balance: Balance,
    limit: Rao,
    preview: DryRun,
}

pub(super) fn run(matches: &ArgMatches, out: &mut Output) -> Outcome {
    let args =
        RegisterArgs::from_arg_matches(matches).map_err(|e| Failure::usage(e.to_string()))?;
    let settings = settings(matches, &[CHAIN, WALLET])?;
    let chain = Chain::from_settings(&settings)?;
    let netuid = netuid(&settings, chain.network)?;
    if netuid == 0 {
        let text = "subnet 0 is the root, which has its own way to register";
        return Err(Failure::usage(text).hint("ptn-cli root register"));
    }
    let owner = Owner::from_settings(&settings)?;
    let (coldkey, hotkey) = (owner.coldkey()?, owner.hotkey()?);
    crate::block_on(async {
        let known = chain.client.uid_of(netuid, &hotkey).await?;
        if let Some(uid) = known {
            return Registered::already(netuid, &hotkey, uid).say(out);
        }
        if !args.send.dry_run {
            ensure_not_under_way(&chain, netuid, &hotkey, &coldkey).await?;
        }
        let plan = Box::pin(plan(&chain, netuid, (hotkey, coldkey), args.max_cost)).await?;
        let refusal = plan.refusal(args.max_cost).err();
        if args.send.dry_run {
            return dry_run(&plan, &chain, owner.place.wallet(), refusal, out);
        }
        // The terms explain the refusal.
        plan.show(&chain, owner.place.wallet(), out);
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        let question = format!("Register for {}?", text::tao(plan.terms.price));
        args.send.agree(question).await?;
        let Plan { coldkey, hotkey, limit, .. } = &plan;
        // Looked at once more, the price too: the answer may have taken a while.
        let prepare = async || {
            ensure_not_under_way(&chain, netuid, hotkey, coldkey).await?;
            Ok(chain.client.registration_call(netuid, hotkey, *limit).await?.0)
        };
        let sent = args.send.send(&chain, &owner, coldkey, prepare, out).await?;
        Registered::after(&chain, netuid, hotkey, coldkey, sent).await.say(out)
    })
}

async fn plan(
    chain: &Chain,
    netuid: u16,
    (hotkey, coldkey): (String, String),
    max_cost: Option<Rao>,
) -> Result<Plan, Failure> {
    let client = &chain.client;
    let (terms, balance, owner) = tokio::try_join!(
        client.registration_terms(netuid),
        client.balance(&coldkey),
        client.owner_of(&hotkey)
    )?;
    let limit = max_cost.unwrap_or(terms.price);
    let call = match terms.limit_available {
        true => Call::register_limit(netuid, &hotkey, limit)?,
        false => Call::burned_register(netuid, &hotkey)?,
    };
    let preview = client.dry_run(&call, &coldkey).await?;
    Ok(Plan { hotkey, coldkey, owner, terms, balance, limit, preview })
}

impl Plan {
    /// What the chain would refuse, as far as it can be seen now.
    fn refusal(&self, max_cost: Option<Rao>) -> Result<(), Failure> {
        let terms = &self.terms;
        let refuse = |code: &str, text: String, hint: &str| {
            Err(Failure::new(process::REFUSED, code, text).hint(hint))
        };
        if let Some(owner) = self.owner.as_ref().filter(|owner| **owner != self.coldkey) {
            return refuse(
                "hotkey_of_another_coldkey",
                format!(
                    "hotkey {} belongs to coldkey {owner}, not to {}; nothing was signed",
                    self.hotkey, self.coldkey
                ),
                "register with the coldkey that owns it, or make a new hotkey: ptn-cli wallet \
                 new-hotkey",
            );
        }
        if !terms.allowed {
            return refuse(
                "registration_closed",
                format!(
                    "the owner of subnet {} has closed registration; nothing was signed",
                    terms.netuid
                ),
                "wait until it is opened again; ask the operators of the subnet",
            );
        }
        if terms.interval_is_full() {
            return refuse(
                "registration_interval_full",
                format!(
                    "subnet {} took {} registrations in this interval, and takes no more than {} \
                     (three times its target); nothing was signed",
                    terms.netuid,
                    terms.this_interval,
                    terms.target.saturating_mul(3)
                ),
                "wait for the next interval, then try again",
            );
        }
        if let Some(limit) = max_cost.filter(|limit| *limit < terms.price) {
            return Err(ChainError::PriceAboveLimit { price: terms.price, limit }.into());
        }
        ensure_payable(self.balance.spendable(), terms.price, self.preview.fee)
    }

    fn show(&self, chain: &Chain, wallet: &str, out: &mut Output) {
        let terms = &self.terms;
        let head = format!("Registration in subnet {} on {}", terms.netuid, chain.network);
        out.talk(out.paint_talk(Style::Strong, head));
        for (name, text) in self.lines(wallet) {
            let text = out.flow_talk(&text, 13);
            out.talk(format!("  {} {text}", text::pad(name, 10)));
        }
    }

    /// Amounts exactly, in TAO.
    fn lines(&self, wallet: &str) -> Vec<(&'static str, String)> {
        let terms = &self.terms;
        let price = match terms.locked {
            Rao(0) => format!("{} TAO, burnt", terms.price),
            locked => format!(
                "{} TAO: {locked} stay locked as collateral, {} are burnt",
                terms.price,
                terms.burnt()
            ),
        };
        let limit = match terms.limit_available {
            true => format!("{} TAO; the chain refuses a higher price", self.limit),
            false => format!(
                "{} TAO; looked at right before signing, as this runtime has no limit: whoever \
                 registers in between raises the price",
                self.limit
            ),
        };
        let places = match terms.is_full() {
            true => format!(
                "all {} taken: a newcomer evicts the member with the lowest emission that is no \
                 longer immune",
                terms.max_members
            ),
            false => format!("{} of {} taken: nobody is evicted", terms.members, terms.max_members),
        };
        let immune = format!(
            "{} blocks ({}); after that yours is evicted when the subnet is full and its emission \
             is the lowest",
            terms.immunity_period,
            text::blocks(terms.immunity_period.into())
        );
        vec![
            ("hotkey", self.hotkey.clone()),
            ("coldkey", format!("{} (wallet {})", self.coldkey, text::harmless(wallet))),
            ("balance", format!("{} TAO", self.balance.free)),
            ("price", price),
            ("limit", limit),
            ("fee", format!("{} TAO", self.preview.fee)),
            ("places", places),
            ("immune", immune),
        ]
    }

    fn document(&self, chain: &Chain, refusal: Option<&Failure>) -> Value {
        let terms = &self.terms;
        json!({
            "dry_run": true,
            "netuid": terms.netuid,
            "network": chain.network.as_str(),
            "block": terms.block,
            "hotkey": self.hotkey,
            "coldkey": self.coldkey,
            "balance_tao": self.balance.free.to_string(),
            "spendable_tao": self.balance.spendable().to_string(),
            "price_tao": terms.price.to_string(),
            "locked_tao": terms.locked.to_string(),
            "burnt_tao": terms.burnt().to_string(),
            "limit_tao": self.limit.to_string(),
            "limit_held_by_chain": terms.limit_available,
            "fee_tao": self.preview.fee.to_string(),
            "allowed": terms.allowed,
            "registrations_this_interval": terms.this_interval,
            "registrations_cap": terms.target.saturating_mul(3),
            "members": terms.members,
            "max_members": terms.max_members,
            "evicts": terms.is_full(),
            "immunity_blocks": terms.immunity_period,
            "call": self.preview.call,
            "encoded": self.preview.encoded,
            "nonce": self.preview.nonce,
            "spec_version": self.preview.spec_version,
            "refusal": refusal.map(Failure::to_json),
        })
    }
}

fn dry_run(
    plan: &Plan,
    chain: &Chain,
    wallet: &str,
    refusal: Option<Failure>,
    out: &mut Output,
) -> Outcome {
    if out.is_json() {
        out.document(&plan.document(chain, refusal.as_ref()))?;
        return Ok(refusal.map_or(process::OK, |refusal| refusal.exit));
    }
    let preview = &plan.preview;
    plan.show(chain, wallet, out);
    out.line(format!("call  {} {}", preview.call, preview.encoded))?;
    out.line(format!("fee   {} TAO", preview.fee))?;
    match refusal {
        Some(refusal) => Err(refusal),
        None => {
            out.talk("dry run: nothing was signed, nothing was sent");
            Ok(process::OK)
        }
    }
}
