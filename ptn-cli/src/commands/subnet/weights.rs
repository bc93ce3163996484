//! `subnet weights`: what each validator gives to whom, and when and by whom it was set.

use clap::{ArgMatches, Args, FromArgMatches as _};
use ptn_core::chain::{SubnetWeights, WeightRow};
use ptn_core::ops::chain::netuid;
use ptn_core::ops::process;
use ptn_core::ops::settings::CHAIN;
use ptn_core::sign::ss58;
use serde_json::{Value, json};

use crate::Outcome;
use crate::commands::chain::Chain;
use crate::commands::root::no_weights;
use crate::failure::Failure;
use crate::output::Output;
use crate::table::{Column, Table};
use crate::text;

/// Arguments of `subnet weights`.
#[derive(Debug, Clone, Args)]
pub(super) struct WeightsArgs {
    /// Only the row of the validator with this number; can be repeated
    #[arg(long, value_name = "UID")]
    uid: Vec<u16>,
    /// Only the row of the validator with this hotkey; can be repeated
    #[arg(long, alias = "ss58", value_name = "SS58")]
    hotkey: Vec<String>,
}

pub(super) fn run(matches: &ArgMatches, out: &mut Output) -> Outcome {
    let args = WeightsArgs::from_arg_matches(matches).map_err(|e| Failure::usage(e.to_string()))?;
    let settings = crate::cli::resolve(&[CHAIN], matches)?;
    let chain = Chain::from_settings(&settings)?;
    let netuid = netuid(&settings, chain.network)?;
    if netuid == 0 {
        return Err(no_weights());
    }
    for hotkey in &args.hotkey {
        ss58::decode(hotkey)
            .map_err(|e| Failure::usage(format!("--hotkey {hotkey:?} is no address: {e}")))?;
    }
    let weights = crate::block_on_value(chain.client.weights(netuid))??;
    let rows = args.rows(&weights)?;
    if out.is_json() {
        let block = weights.metagraph.block;
        out.document(&json!({
            "netuid": netuid,
            "network": chain.network.as_str(),
            "block": block,
            "block_hash": weights.metagraph.block_hash,
            "commit_reveal": weights.commit_reveal,
            "validators": rows.iter().map(|row| row_json(row, block)).collect::<Vec<_>>(),
        }))?;
        return Ok(process::OK);
    }
    for line in table(&rows).lines(out) {
        out.line(line)?;
    }
    for row in rows.iter().filter(|row| row.weights.is_empty()) {
        let hotkey = row.hotkey.as_deref().unwrap_or("nobody");
        out.talk(format!("uid {} ({hotkey}) gives no weights", row.uid));
    }
    let note = match weights.commit_reveal {
        Some(true) => {
            "; this subnet takes commitments: SET is the block of the last one, the weights are \
             those that were revealed last"
        }
        _ => "",
    };
    let set = rows.iter().filter(|row| !row.weights.is_empty()).count();
    out.talk(format!(
        "subnet {netuid} on {} at block {}: weights of {}; SHARE of the validator's row, SET the \
         block in which FROM set them{note}",
        chain.network,
        weights.metagraph.block,
        text::count(set, "validator"),
    ));
    Ok(process::OK)
}

impl WeightsArgs {
    /// The rows that were asked for, or all.
    fn rows(&self, weights: &SubnetWeights) -> Result<Vec<WeightRow>, Failure> {
        if self.uid.is_empty() && self.hotkey.is_empty() {
            return Ok(weights.rows.clone());
        }
        let netuid = weights.metagraph.netuid;
        let missing = |who: String| {
            let text = format!("{who} is not in subnet {netuid}");
            Failure::new(process::FAILED, "not_a_member", text)
                .hint(format!("see who is: ptn-cli subnet metagraph --netuid {netuid}"))
        };
        let mut uids = self.uid.clone();
        for hotkey in &self.hotkey {
            let neuron = weights.metagraph.neuron(hotkey);
            uids.push(neuron.ok_or_else(|| missing(format!("hotkey {hotkey}")))?.uid);
        }
        uids.sort_unstable();
        uids.dedup();
        uids.into_iter()
            .map(|uid| weights.row_of(uid).ok_or_else(|| missing(format!("uid {uid}"))))
            .collect()
    }
}

fn row_json(row: &WeightRow, block: u64) -> Value {
    let weights = row.weights.iter().map(|weight| {
        json!({
            "uid": weight.uid,
            "hotkey": weight.hotkey,
            "share": row.share(weight),
            "raw": weight.raw,
        })
    });
    json!({
        "uid": row.uid,
        "hotkey": row.hotkey,
        "validator_permit": row.validator_permit,
        "last_update": row.last_update,
        "updated_blocks": block.saturating_sub(row.last_update),
        "weights": weights.collect::<Vec<Value>>(),
    })
}

fn table(rows: &[WeightRow]) -> Table {
    let mut table = Table::new(&[
        Column::number("FROM").key(),
        Column::number("UID").key(),
        Column::number("SHARE"),
        Column::number("RAW"),
        Column::number("SET"),
        Column::text("HOTKEY"),
        Column::text("FROM_HOTKEY"),
    ]);
    let name = |hotkey: &Option<String>| hotkey.clone().unwrap_or_else(|| "none".to_owned());
    for row in rows {
        for weight in &row.weights {
            table.row([
                row.uid.to_string(),
                weight.uid.to_string(),
                format!("{:.5}", row.share(weight)),
                weight.raw.to_string(),
                row.last_update.to_string(),
                name(&weight.hotkey),
                name(&row.hotkey),
            ]);
        }
    }
    table
}
