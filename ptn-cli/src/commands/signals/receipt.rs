//! `signals receipt` and `signals check-receipt`: a signal's receipt as one JSON document, and
//! whether one that was kept is still as it was issued.
//!
//! What a receipt holds is left to [`ptn_core::record::receipt`].

use std::path::PathBuf;

use clap::Args;
use ptn_core::ops::config::{Settings, read_text};
use ptn_core::ops::process;
use ptn_core::record::receipt::Receipt;
use serde_json::json;

use super::source::Source;
use crate::Outcome;
use crate::commands::chain::Owner;
use crate::commands::target::ServerArgs;
use crate::failure::Failure;
use crate::output::{Output, Style};

/// Arguments of `signals receipt`.
#[derive(Debug, Clone, Args)]
pub(super) struct ReceiptArgs {
    /// order_uuid, or enough of its beginning
    #[arg(value_name = "UUID", required = true)]
    ids: Vec<String>,
    /// Sign it as the hotkey of --wallet.name and --wallet.hotkey, so that others can tell who
    /// issued it
    #[arg(long)]
    sign: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Arguments of `signals check-receipt`.
#[derive(Debug, Clone, Args)]
pub(super) struct CheckArgs {
    /// Receipts that were kept
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

pub(super) async fn run(args: &ReceiptArgs, settings: &Settings, out: &mut Output) -> Outcome {
    let source = Source::open(&args.server, settings).await?;
    let key = match args.sign {
        true => Some(Owner::from_settings(settings)?.open_hotkey().await?),
        false => None,
    };
    for given in &args.ids {
        let view = source.find(given).await?;
        let mut receipt = source.receipt(&view.order_uuid).await?;
        if let Some(key) = &key {
            receipt = receipt.sign(key).map_err(|e| Failure::failed("signing", e.to_string()))?;
        }
        let json = receipt.to_json();
        out.line(if out.is_json() { json.to_string() } else { json.to_python_indented() })?;
        if receipt.state() == "pending" {
            out.talk(format!(
                "{} is not finished: this is how it stands now",
                receipt.order_uuid()
            ));
        }
    }
    Ok(process::OK)
}

pub(super) fn check(args: &CheckArgs, out: &mut Output) -> Outcome {
    let mut code = process::OK;
    for file in &args.files {
        let name = file.display();
        let text = read_text(file)?;
        match Receipt::read(text.as_bytes()) {
            Ok(receipt) if out.is_json() => out.document(&json!({
                "file": name.to_string(), "unchanged": true, "order_uuid": receipt.order_uuid(),
                "state": receipt.state(), "signed_by": receipt.signed_by(),
            }))?,
            Ok(receipt) => {
                let signed = receipt.signed_by().map_or_else(
                    || "not signed".to_owned(),
                    |hotkey| format!("signed by {hotkey}"),
                );
                let (id, state) = (receipt.order_uuid(), receipt.state());
                let word = out.paint(Style::Good, "unchanged");
                out.line(format!("{name}: {word}, {signed}; {id} was {state}"))?;
            }
            Err(why) => {
                code = process::FAILED;
                if out.is_json() {
                    let why = why.to_string();
                    out.document(
                        &json!({"file": name.to_string(), "unchanged": false, "error": why}),
                    )?;
                } else {
                    let word = out.paint(Style::Bad, "no proof");
                    out.line(format!("{name}: {word}: {why}"))?;
                }
            }
        }
    }
    Ok(code)
}
