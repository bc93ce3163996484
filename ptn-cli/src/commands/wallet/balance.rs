//! `wallet balance`: what coldkeys have. Only their public files are read.

use clap::Args;
use ptn_core::chain::{Balance, Rao};
use ptn_core::ops::config::{Settings, expand_home};
use ptn_core::ops::process;
use ptn_core::wallet::list;
use serde_json::{Value, json};

use crate::Outcome;
use crate::commands::chain::{Chain, Owner};
use crate::failure::Failure;
use crate::output::{Output, Style};
use crate::table::{Column, Table};
use crate::text;

/// Arguments of `wallet balance`.
#[derive(Debug, Clone, Args)]
pub(super) struct BalanceArgs {
    /// Of these addresses instead of a wallet's
    #[arg(long = "ss58", alias = "ss58-address", value_name = "ADDRESS", num_args = 1..,
          value_delimiter = ',', conflicts_with = "all")]
    ss58: Vec<String>,
    /// Of every wallet
    #[arg(long, short, alias = "all-wallets")]
    all: bool,
}

/// Whose balance.
struct Account {
    wallet: Option<String>,
    address: String,
}

pub(super) async fn run(args: &BalanceArgs, settings: &Settings, out: &mut Output) -> Outcome {
    let accounts = accounts(args, settings, out)?;
    if accounts.is_empty() {
        return Err(no_wallets(settings));
    }
    let chain = Chain::from_settings(settings)?;
    let addresses: Vec<&str> = accounts.iter().map(|a| a.address.as_str()).collect();
    let balances = chain.client.balances(&addresses).await?;
    let total = total(&balances)?;
    if out.is_json() {
        let each: Vec<Value> = accounts.iter().zip(&balances).map(|(a, b)| entry(a, b)).collect();
        let network = chain.network.as_str();
        out.document(
            &json!({"network": network, "accounts": each, "total_free_tao": total.to_string()}),
        )?;
        return Ok(process::OK);
    }
    let mut table = Table::new(&[
        Column::text("WALLET").key(),
        Column::number("FREE (TAO)"),
        Column::number("RESERVED"),
        Column::number("FROZEN"),
        Column::text("COLDKEY"),
    ]);
    for (account, balance) in accounts.iter().zip(&balances) {
        table.row([
            account.wallet.as_deref().map_or_else(|| "-".to_owned(), text::harmless),
            balance.free.to_string(),
            balance.reserved.to_string(),
            balance.frozen.to_string(),
            account.address.clone(),
        ]);
    }
    if balances.len() > 1 {
        let empty = String::new;
        table.styled(
            Style::Strong,
            ["total".to_owned(), total.to_string(), empty(), empty(), empty()],
        );
    }
    for line in table.lines(out) {
        out.line(line)?;
    }
    Ok(process::OK)
}

fn accounts(
    args: &BalanceArgs,
    settings: &Settings,
    out: &mut Output,
) -> Result<Vec<Account>, Failure> {
    if !args.ss58.is_empty() {
        let account = |address: &String| Account { wallet: None, address: address.clone() };
        return Ok(args.ss58.iter().map(account).collect());
    }
    if !args.all {
        let owner = Owner::from_settings(settings)?;
        let wallet = Some(owner.place.wallet().to_owned());
        return Ok(vec![Account { wallet, address: owner.coldkey()? }]);
    }
    let mut accounts = Vec::new();
    for wallet in list(&root(settings))? {
        let coldkey = wallet.coldkey.and_then(|coldkey| coldkey.address);
        match coldkey {
            Some(address) => accounts.push(Account { wallet: Some(wallet.name), address }),
            None => out.talk(format!(
                "{}: the address of its coldkey is not known; see ptn-cli wallet list",
                text::harmless(&wallet.name)
            )),
        }
    }
    Ok(accounts)
}

/// The folder of the wallets.
pub(super) fn root(settings: &Settings) -> std::path::PathBuf {
    expand_home(settings.get("wallet.path").unwrap_or("~/.bittensor/wallets"))
}

pub(super) fn no_wallets(settings: &Settings) -> Failure {
    let text = format!("there is no wallet in {}", root(settings).display());
    Failure::new(process::USAGE, "wallet_missing", text)
        .hint("make one: ptn-cli wallet new-coldkey; or name another --wallet.path")
}

pub(super) fn total(balances: &[Balance]) -> Result<Rao, Failure> {
    let sum = balances.iter().try_fold(Rao(0), |sum, balance| sum.checked_add(balance.free));
    sum.ok_or_else(|| Failure::failed("internal", "the balances have no sum"))
}

fn entry(account: &Account, balance: &Balance) -> Value {
    json!({
        "wallet": account.wallet,
        "coldkey": account.address,
        "free_tao": balance.free.to_string(),
        "reserved_tao": balance.reserved.to_string(),
        "frozen_tao": balance.frozen.to_string(),
        "spendable_tao": balance.spendable().to_string(),
    })
}
