//! `subnet metagraph`: the whole table of a subnet.

use clap::ArgMatches;
use ptn_core::ops::chain::netuid;
use ptn_core::ops::process;
use ptn_core::ops::settings::CHAIN;
use serde_json::{Value, json};

use super::neuron_json;
use crate::Outcome;
use crate::commands::chain::Chain;
use crate::output::Output;
use crate::table::{Column, Table};
use crate::text::{self, score};

pub(super) fn run(matches: &ArgMatches, out: &mut Output) -> Outcome {
    let settings = crate::cli::resolve(&[CHAIN], matches)?;
    let chain = Chain::from_settings(&settings)?;
    let netuid = netuid(&settings, chain.network)?;
    let metagraph = crate::block_on_value(chain.client.metagraph(netuid))??;
    if out.is_json() {
        let neurons = metagraph.neurons.iter().map(|n| neuron_json(&metagraph, n));
        out.document(&json!({
            "netuid": netuid,
            "network": chain.network.as_str(),
            "block": metagraph.block,
            "block_hash": metagraph.block_hash,
            "spec_version": metagraph.spec_version,
            "neurons": neurons.collect::<Vec<Value>>(),
        }))?;
        return Ok(process::OK);
    }
    let number = Column::number;
    let mut table = Table::new(&[
        number("UID").key(),
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
        Column::text("ACTIVE"),
        Column::text("AXON"),
        Column::text("HOTKEY"),
        Column::text("COLDKEY"),
    ]);
    for n in &metagraph.neurons {
        table.row([
            n.uid.to_string(),
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
            if n.active { "yes" } else { "no" }.to_owned(),
            n.axon.map_or_else(|| "none".to_owned(), |axon| axon.to_string()),
            n.hotkey.clone(),
            n.coldkey.clone(),
        ]);
    }
    for line in table.lines(out) {
        out.line(line)?;
    }
    out.talk(format!(
        "subnet {netuid} on {} at block {}: {}; STAKE in alpha, EMISSION in its 10^-9, UPDATED in \
         blocks",
        chain.network,
        metagraph.block,
        text::count(metagraph.neurons.len(), "member"),
    ));
    Ok(process::OK)
}
