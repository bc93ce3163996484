//! `root register`.

use clap::{ArgMatches, FromArgMatches as _};
use ptn_core::chain::Call;
use ptn_core::ops::process;
use ptn_core::ops::settings::{CHAIN, WALLET};
use serde_json::json;

use crate::Outcome;
use crate::commands::chain::{Chain, Owner, SendArgs};
use crate::commands::subnet::{Outcome as Registered, ensure_not_under_way, ensure_payable};
use crate::commands::wallet::settings;
use crate::failure::Failure;
use crate::output::Output;
use crate::text;

const ROOT: u16 = 0;

pub(super) fn run(matches: &ArgMatches, out: &mut Output) -> Outcome {
    let args = SendArgs::from_arg_matches(matches).map_err(|e| Failure::usage(e.to_string()))?;
    let settings = settings(matches, &[CHAIN, WALLET])?;
    let owner = Owner::from_settings(&settings)?;
    let (coldkey, hotkey) = (owner.coldkey()?, owner.hotkey()?);
    let chain = Chain::from_settings(&settings)?;
    crate::block_on(async {
        let client = &chain.client;
        if let Some(uid) = client.uid_of(ROOT, &hotkey).await? {
            return Registered::already(ROOT, &hotkey, uid).say(out);
        }
        if !args.dry_run {
            ensure_not_under_way(&chain, ROOT, &hotkey, &coldkey).await?;
        }
        let call = Call::root_register(&hotkey)?;
        let (balance, plan) =
            tokio::try_join!(client.balance(&coldkey), client.dry_run(&call, &coldkey))?;
        let refusal = ensure_payable(balance.spendable(), ptn_core::chain::Rao(0), plan.fee).err();
        if args.dry_run {
            if out.is_json() {
                out.document(&json!({
                    "dry_run": true, "netuid": ROOT, "network": chain.network.as_str(),
                    "hotkey": hotkey, "coldkey": coldkey,
                    "balance_tao": balance.free.to_string(), "fee_tao": plan.fee.to_string(),
                    "call": plan.call, "encoded": plan.encoded, "nonce": plan.nonce,
                    "spec_version": plan.spec_version,
                    "refusal": refusal.as_ref().map(Failure::to_json),
                }))?;
                return Ok(refusal.map_or(process::OK, |refusal| refusal.exit));
            }
            out.line(format!("call     {} {}", plan.call, plan.encoded))?;
            out.line(format!("fee      {} TAO", plan.fee))?;
            out.line(format!("balance  {} TAO ({coldkey})", balance.free))?;
            return refusal.map_or(Ok(process::OK), Err);
        }
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        out.talk(format!(
            "balance {}, fee {}; registering {hotkey} in the root costs nothing else",
            text::tao(balance.free),
            text::tao(plan.fee)
        ));
        args.agree(format!("Register it in the root on {}?", chain.network)).await?;
        let prepare = async || {
            ensure_not_under_way(&chain, ROOT, &hotkey, &coldkey).await?;
            Ok(call)
        };
        let sent = args.send(&chain, &owner, &coldkey, prepare, out).await?;
        Registered::after(&chain, ROOT, &hotkey, &coldkey, sent).await.say(out)
    })
}
