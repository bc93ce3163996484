//! `subnet validators`: who would get a signal right now, and why the others would not.
//!
//! The list, the policy and the check of addresses are those of the miner.

use clap::ArgMatches;
use ptn_core::chain::{ChainDirectory, DirectoryOptions, Neuron};
use ptn_core::deliver::{DeliveryPolicy, Select};
use ptn_core::directory::ValidatorDirectory as _;
use ptn_core::ops::chain::{netuid, wires};
use ptn_core::ops::process;
use ptn_core::ops::settings::{CHAIN, COMMON, POLICY};
use ptn_core::transport::address::AddressPolicy;
use serde_json::{Value, json};

use crate::Outcome;
use crate::commands::chain::Chain;
use crate::failure::Failure;
use crate::output::{Output, Style};
use crate::table::{Column, Table};
use crate::text::{self, score};

/// What a validator is for the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// It must acknowledge.
    Required,
    /// It gets a copy, once.
    Copy,
    /// It gets nothing.
    None,
}

impl Role {
    const fn word(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Copy => "copy",
            Self::None => "-",
        }
    }
}

struct Row<'a> {
    neuron: &'a Neuron,
    role: Role,
    wire: &'static str,
    /// Why it gets nothing although it looks like a validator.
    why: String,
}

pub(super) fn run(matches: &ArgMatches, out: &mut Output) -> Outcome {
    let settings = crate::cli::resolve(&[COMMON, CHAIN, POLICY], matches)?;
    let chain = Chain::from_settings(&settings)?;
    let netuid = netuid(&settings, chain.network)?;
    let rules = settings.rules()?;
    let policy = ptn_miner::config::policy(&settings, &rules, chain.network)?;
    let mut options = DirectoryOptions::new(netuid);
    (options.wire, options.wires) = wires(&settings)?;
    let directory = ChainDirectory::new(chain.client.clone(), options);
    crate::block_on_value(directory.refresh())??;
    let list = directory.watch().borrow().clone();
    let state = directory.state().borrow().clone();
    let Some(metagraph) = state.metagraph else {
        return Err(Failure::failed("internal", "the metagraph was read and is not there"));
    };
    let addresses = match chain.network.is_public() {
        true => AddressPolicy::Public,
        false => AddressPolicy::AllowPrivate,
    };
    let targets = policy.targets(&list, text::now());
    let role = |neuron: &Neuron| {
        let target = targets.iter().find(|target| target.hotkey == neuron.hotkey);
        target.map_or(Role::None, |t| if t.required { Role::Required } else { Role::Copy })
    };
    let rows: Vec<Row<'_>> = metagraph
        .neurons
        .iter()
        .map(|neuron| {
            let refused = neuron.axon.and_then(|axon| addresses.check(axon).err());
            let role = role(neuron);
            let listed = list.iter().find(|v| v.hotkey == neuron.hotkey);
            let wire = listed.map_or("-", |v| v.wire.as_str());
            Row { neuron, role, wire, why: why_not(neuron, role, refused, &policy) }
        })
        // A member without permit that gets nothing is a miner.
        .filter(|row| row.role != Role::None || row.neuron.validator_permit)
        .collect();
    let reached = |role: Role| rows.iter().filter(|r| r.role == role && r.why.is_empty()).count();
    let required = reached(Role::Required);
    if out.is_json() {
        let validators = rows.iter().map(|row| {
            json!({
                "uid": row.neuron.uid,
                "hotkey": row.neuron.hotkey,
                "role": if row.role == Role::None { "none" } else { row.role.word() },
                "wire": Some(row.wire).filter(|wire| *wire != "-"),
                "axon": row.neuron.axon.map(|axon| axon.to_string()),
                "validator_trust": row.neuron.validator_trust.fraction(),
                "stake_alpha": row.neuron.stake.to_string(),
                "validator_permit": row.neuron.validator_permit,
                "refused": Some(&row.why).filter(|why| !why.is_empty()),
            })
        });
        out.document(&json!({
            "netuid": netuid, "network": chain.network.as_str(), "block": metagraph.block,
            "policy": policy_word(&policy), "validators": validators.collect::<Vec<Value>>(),
        }))?;
        return Ok(if required == 0 { process::FAILED } else { process::OK });
    }
    let mut table = Table::new(&[
        Column::number("UID").key(),
        Column::text("ROLE").key(),
        Column::number("VTRUST"),
        Column::number("STAKE"),
        Column::text("VPERMIT"),
        Column::text("WIRE"),
        Column::text("AXON"),
        Column::text("HOTKEY"),
        Column::text("REFUSED"),
    ]);
    for Row { neuron, role, wire, why } in &rows {
        let cells = [
            neuron.uid.to_string(),
            role.word().to_owned(),
            score(neuron.validator_trust),
            text::amount(neuron.stake.0, 5),
            if neuron.validator_permit { "*" } else { "" }.to_owned(),
            (*wire).to_owned(),
            neuron.axon.map_or_else(|| "none".to_owned(), |axon| axon.to_string()),
            neuron.hotkey.clone(),
            why.clone(),
        ];
        match (role, why.is_empty()) {
            (Role::Required, true) => table.styled(Style::Good, cells),
            (Role::Required | Role::Copy, false) => table.styled(Style::Bad, cells),
            _ => table.row(cells),
        }
    }
    for line in table.lines(out) {
        out.line(line)?;
    }
    if required == 0 {
        let text = match targets.iter().any(|target| target.required) {
            true => "none of those who must acknowledge a signal may be called".to_owned(),
            false => policy.nobody(),
        };
        return Err(Failure::failed("nobody_to_send_to", text)
            .hint("see --delivery.policy and --delivery.mothership; see REFUSED above"));
    }
    out.talk(format!(
        "subnet {netuid} on {} at block {}, policy {}: required {}, copies {}",
        chain.network,
        metagraph.block,
        policy_word(&policy),
        required,
        reached(Role::Copy),
    ));
    Ok(process::OK)
}

const fn policy_word(policy: &DeliveryPolicy) -> &'static str {
    match policy.select {
        Select::Mothership(_) | Select::MostTrusted => "mothership",
        Select::TrustAtLeast(_) => "trust",
        Select::All => "all",
    }
}

/// Why a validator gets nothing; empty when it does, or is not meant to.
fn why_not(
    neuron: &Neuron,
    role: Role,
    refused: Option<&'static str>,
    policy: &DeliveryPolicy,
) -> String {
    match (neuron.axon, refused, role) {
        (None, ..) => "serves nothing (no address on the chain)".to_owned(),
        (_, Some(why), _) => format!("address refused: {why}"),
        (.., Role::None) if neuron.validator_trust.fraction() < policy.trust_floor => {
            format!("trust below {}", policy.trust_floor)
        }
        _ => String::new(),
    }
}
