//! `wallet new-coldkey` and `wallet new-hotkey`.

use clap::Args;
use ptn_core::wallet::{Key, WORD_COUNTS};

use super::{Wallet, Which, WriteArgs, ask};
use crate::Outcome;
use crate::failure::Failure;
use crate::output::Output;

/// Arguments of `wallet new-coldkey` and `new-hotkey`.
#[derive(Debug, Clone, Args)]
pub(super) struct CreateArgs {
    /// Words of the recovery phrase: 12, 15, 18, 21 or 24
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = words)]
    n_words: usize,
    /// Derive the key instead of making a random one: PHRASE//hard/soft///password
    #[arg(long, value_name = "URI", conflicts_with = "n_words")]
    uri: Option<String>,
    #[command(flatten)]
    write: WriteArgs,
}

fn words(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|n| WORD_COUNTS.contains(n));
    count.ok_or_else(|| "allowed: 12, 15, 18, 21, 24".to_owned())
}

pub(super) fn run(which: Which, wallet: &Wallet, args: &CreateArgs, out: &mut Output) -> Outcome {
    let replace = wallet.make_way(which, &args.write, None)?;
    let password = wallet.password(which, &args.write)?;
    let key = match &args.uri {
        None => Key::generate(args.n_words),
        Some(uri) => {
            let instead = format!("safer: ptn-cli wallet regen-{} --uri-file -", which.word());
            ask::warn_of_argument("--uri", &instead, out);
            Key::from_uri(uri)
        }
    };
    let key = key.map_err(Failure::from)?;
    if args.uri.is_none() && !out.is_json() && !args.write.show_mnemonic {
        let (whose, export) = (wallet.whose(which), wallet.export_command(which));
        ask::show_once(&key, &whose, &export, !args.write.yes, out)?;
    }
    let saved = wallet.save(which, &key, password.as_ref(), replace)?;
    wallet.report(which, &key, (&saved, password.is_some()), args.write.show_mnemonic, out)
}
