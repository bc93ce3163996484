//! `wallet overview`: every neuron of the wallets, subnet by subnet. Nothing is decrypted.
//!
//! Shown are the neurons of hotkeys that are in the wallets, and in the same subnets those of other
//! hotkeys of the same coldkeys.

use clap::{Args, Command};
use ptn_core::chain::{Alpha, Balance, ChainError, Metagraph, Neuron, Score};
use ptn_core::ops::config::Settings;
use ptn_core::ops::process;
use ptn_core::wallet::{WalletState, list};
use serde_json::{Value, json};

use super::balance::{no_wallets, root, total};
use crate::Outcome;
use crate::commands::chain::{Chain, Owner};
use crate::commands::subnet::neuron_json;
use crate::failure::Failure;
use crate::output::{Output, Style};
use crate::table::{Column, Table};
use crate::text::{self, score};

/// Arguments of `wallet overview`.
#[derive(Debug, Clone, Args)]
pub(super) struct OverviewArgs {
    /// Every wallet
    #[arg(long, short, alias = "all-wallets")]
    all: bool,
}

/// The subnets may be several here.
pub(super) fn subnets(command: Command) -> Command {
    command.mut_arg("netuid", |arg| {
        arg.alias("netuids")
            .value_name("N,..")
            .help("Only these subnets (default: every one in which a hotkey is registered)")
    })
}

/// One neuron of one wallet.
struct Row<'a> {
    wallet: &'a str,
    /// Name of its hotkey; absent when the key is not here.
    hotkey: Option<&'a str>,
    neuron: &'a Neuron,
    metagraph: &'a Metagraph,
}

pub(super) async fn run(args: &OverviewArgs, settings: &Settings, out: &mut Output) -> Outcome {
    let wallets = wallets(args, settings)?;
    let chain = Chain::from_settings(settings)?;
    let hotkeys: Vec<&str> = wallets
        .iter()
        .flat_map(|w| &w.hotkeys)
        .filter_map(|(_, key)| key.address.as_deref())
        .collect();
    let subnets: Vec<u16> = match chosen(settings)? {
        Some(chosen) => chosen,
        None => chain.client.subnets_of(&hotkeys).await?.into_iter().collect(),
    };
    let (mut metagraphs, mut missing) = (Vec::new(), Vec::new());
    for netuid in subnets {
        match chain.client.metagraph(netuid).await {
            Ok(metagraph) => metagraphs.push(metagraph),
            Err(ChainError::NoSubnet { netuid }) => missing.push(netuid),
            Err(e) => return Err(e.into()),
        }
    }
    if let (true, Some(netuid)) = (metagraphs.is_empty(), missing.first()) {
        return Err(ChainError::NoSubnet { netuid: *netuid }.into());
    }
    let coldkeys: Vec<(&str, &str)> = wallets
        .iter()
        .filter_map(|w| Some((w.name.as_str(), w.coldkey.as_ref()?.address.as_deref()?)))
        .collect();
    let addresses: Vec<&str> = coldkeys.iter().map(|(_, address)| *address).collect();
    let balances = chain.client.balances(&addresses).await?;
    let only = only_hotkey(settings);
    let rows: Vec<Row<'_>> = metagraphs
        .iter()
        .flat_map(|metagraph| wallets.iter().flat_map(move |wallet| rows(wallet, metagraph, only)))
        .collect();
    if out.is_json() {
        let mut document = document(&wallets, &rows, &coldkeys, &balances, &chain)?;
        if let Some(map) = document.as_object_mut() {
            map.insert("missing_subnets".to_owned(), missing.into());
        }
        out.document(&document)?;
        return Ok(process::OK);
    }
    for netuid in &missing {
        let head = out.paint_talk(Style::Warn, "note:");
        out.talk(format!("{head} there is no subnet {netuid} on {}", chain.network));
    }
    for metagraph in &metagraphs {
        let own: Vec<&Row<'_>> =
            rows.iter().filter(|row| row.metagraph.netuid == metagraph.netuid).collect();
        show(metagraph, &own, out)?;
    }
    if rows.is_empty() {
        out.talk("none of these hotkeys is registered; register one: ptn-cli subnet register");
    } else {
        out.talk(
            "STAKE in alpha of the subnet, EMISSION in its 10^-9, UPDATED in blocks; more: --json",
        );
    }
    for ((name, _), balance) in coldkeys.iter().zip(&balances) {
        out.line(format!("balance of {}: {}", text::harmless(name), text::tao(balance.free)))?;
    }
    if balances.len() > 1 {
        let total = out.paint(Style::Strong, text::tao(total(&balances)?));
        out.line(format!("balance of all: {total}"))?;
    }
    Ok(process::OK)
}

fn wallets(args: &OverviewArgs, settings: &Settings) -> Result<Vec<WalletState>, Failure> {
    let mut wallets = list(&root(settings))?;
    if !args.all {
        let owner = Owner::from_settings(settings)?;
        wallets.retain(|w| w.name == owner.place.wallet());
        if wallets.is_empty() {
            // Says where it should be and how to make it.
            owner.coldkey()?;
        }
    }
    if wallets.is_empty() { Err(no_wallets(settings)) } else { Ok(wallets) }
}

/// The subnets that were named.
fn chosen(settings: &Settings) -> Result<Option<Vec<u16>>, Failure> {
    let text = settings.get("netuid").filter(|_| settings.is_set("netuid"));
    let list = text.map(|text| text.split(',').map(|n| n.trim().parse()).collect());
    list.transpose().map_err(|_| {
        settings.bad("netuid", "numbers of subnets are expected, such as 8,116").into()
    })
}

/// The hotkey that was named, when one was.
fn only_hotkey(settings: &Settings) -> Option<&str> {
    let short = settings.get("wallet.name").and_then(|name| name.split_once('/'));
    let set = || settings.get("wallet.hotkey").filter(|_| settings.is_set("wallet.hotkey"));
    short.map(|(_, hotkey)| hotkey).or_else(set)
}

fn rows<'a>(
    wallet: &'a WalletState,
    metagraph: &'a Metagraph,
    only: Option<&'a str>,
) -> impl Iterator<Item = Row<'a>> {
    let coldkey = wallet.coldkey.as_ref().and_then(|key| key.address.as_deref());
    metagraph.neurons.iter().filter_map(move |neuron| {
        let is_it = |(_, key): &&(String, _)| {
            let key: &ptn_core::wallet::KeyState = key;
            key.address.as_deref() == Some(&neuron.hotkey)
        };
        let hotkey = wallet.hotkeys.iter().find(is_it).map(|(name, _)| name.as_str());
        let of_coldkey = coldkey == Some(&neuron.coldkey);
        let wanted = match only {
            Some(only) => hotkey == Some(only),
            None => hotkey.is_some() || of_coldkey,
        };
        wanted.then_some(Row { wallet: &wallet.name, hotkey, neuron, metagraph })
    })
}

fn show(metagraph: &Metagraph, rows: &[&Row<'_>], out: &mut Output) -> Result<(), Failure> {
    if rows.is_empty() {
        return out.line(format!("Subnet {}: none of them is registered\n", metagraph.netuid));
    }
    let number = Column::number;
    let mut table = Table::new(&[
        number("SUBNET").key(),
        Column::text("COLDKEY").key(),
        Column::text("HOTKEY").key(),
        number("UID").key(),
        Column::text("ACTIVE"),
        number("STAKE"),
        number("RANK"),
        number("TRUST"),
        number("CONSENSUS"),
        number("INCENTIVE"),
        number("DIVIDENDS"),
        number("EMISSION"),
        number("VTRUST"),
        Column::text("VPERMIT"),
        number("UPDATED"),
        Column::text("AXON"),
        Column::text("HOTKEY_SS58"),
    ]);
    for row in rows {
        let n = row.neuron;
        table.row([
            metagraph.netuid.to_string(),
            text::harmless(row.wallet),
            row.hotkey.map_or_else(|| "-".to_owned(), text::harmless),
            n.uid.to_string(),
            if n.active { "yes" } else { "no" }.to_owned(),
            text::amount(n.stake.0, 5),
            score(n.rank),
            score(n.trust),
            score(n.consensus),
            score(n.incentive),
            score(n.dividends),
            n.emission.0.to_string(),
            score(n.validator_trust),
            if n.validator_permit { "*" } else { "" }.to_owned(),
            metagraph.block.saturating_sub(n.last_update).to_string(),
            n.axon.map_or_else(|| "none".to_owned(), |axon| axon.to_string()),
            n.hotkey.clone(),
        ]);
    }
    let sum = |of: fn(&Neuron) -> u64| {
        rows.iter().fold(0_u64, |sum, row| sum.saturating_add(of(row.neuron)))
    };
    let scores = |of: fn(&Neuron) -> Score| {
        format!("{:.5}", rows.iter().map(|row| of(row.neuron).fraction()).sum::<f64>())
    };
    let empty = String::new;
    table.styled(
        Style::Strong,
        [
            empty(),
            "total".to_owned(),
            empty(),
            rows.len().to_string(),
            empty(),
            text::amount(sum(|n| n.stake.0), 5),
            scores(|n| n.rank),
            scores(|n| n.trust),
            scores(|n| n.consensus),
            scores(|n| n.incentive),
            scores(|n| n.dividends),
            sum(|n| n.emission.0).to_string(),
            scores(|n| n.validator_trust),
            empty(),
            empty(),
            empty(),
            empty(),
        ],
    );
    for line in table.lines(out) {
        out.line(line)?;
    }
    out.line("")
}

fn document(
    wallets: &[WalletState],
    rows: &[Row<'_>],
    coldkeys: &[(&str, &str)],
    balances: &[Balance],
    chain: &Chain,
) -> Result<Value, Failure> {
    let wallet = |wallet: &WalletState| {
        let found = coldkeys.iter().zip(balances).find(|((name, _), _)| *name == wallet.name);
        let own: Vec<&Row<'_>> = rows.iter().filter(|row| row.wallet == wallet.name).collect();
        let sum = |netuid: u16, of: fn(&Neuron) -> Alpha| {
            let own = own.iter().filter(|row| row.metagraph.netuid == netuid);
            Alpha(own.fold(0, |sum: u64, row| sum.saturating_add(of(row.neuron).0))).to_string()
        };
        let mut netuids: Vec<u16> = own.iter().map(|row| row.metagraph.netuid).collect();
        netuids.dedup();
        let totals = netuids.iter().map(|n| {
            json!({
                "netuid": n,
                "stake_alpha": sum(*n, |neuron| neuron.stake),
                "emission_alpha": sum(*n, |neuron| neuron.emission),
            })
        });
        let neurons = own.iter().map(|row| {
            let mut value = neuron_json(row.metagraph, row.neuron);
            if let Some(map) = value.as_object_mut() {
                map.insert("netuid".to_owned(), row.metagraph.netuid.into());
                map.insert("hotkey_name".to_owned(), row.hotkey.into());
            }
            value
        });
        json!({
            "wallet": wallet.name,
            "coldkey": found.map(|((_, address), _)| address),
            "free_tao": found.map(|(_, balance)| balance.free.to_string()),
            "neurons": neurons.collect::<Vec<_>>(),
            "totals": totals.collect::<Vec<_>>(),
        })
    };
    Ok(json!({
        "network": chain.network.as_str(),
        "wallets": wallets.iter().map(wallet).collect::<Vec<_>>(),
        "total_free_tao": total(balances)?.to_string(),
    }))
}
