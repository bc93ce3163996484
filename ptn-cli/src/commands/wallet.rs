//! `wallet`: making, restoring, listing and exporting the keys of bittensor's wallets.
//!
//! Names and flags are those of btcli. What files look like, and that none is ever lost, is left to
//! `ptn_core::wallet`; where passwords come from to `ptn_core::ops::wallet`.
//!
//! What must stay true: a recovery phrase is shown to a person once, on stderr, and in a result
//! only with `--show-mnemonic`; nothing is written before the person proved to have it.

pub(crate) mod ask;
mod balance;
mod create;
mod export;
mod list;
mod overview;
mod regen;
mod set_default;

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use ptn_core::ops::config::Settings;
use ptn_core::ops::settings::{CHAIN, Setting, WALLET};
use ptn_core::ops::wallet::{Passwords, place};
use ptn_core::wallet::{Key, Password, Place, Replace, Saved};
use serde_json::{Map, Value, json};

use crate::Outcome;
use crate::failure::Failure;
use crate::output::{Output, Style};

type AddSettings = fn(Command, &[&'static [Setting]]) -> Command;

/// Which of the two keys of a wallet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Which {
    /// The one that holds the money.
    Coldkey,
    /// The one that signs orders.
    Hotkey,
}

impl Which {
    const fn word(self) -> &'static str {
        match self {
            Self::Coldkey => "coldkey",
            Self::Hotkey => "hotkey",
        }
    }
}

/// What all commands that write a key have in common.
#[derive(Debug, Clone, Args)]
pub struct WriteArgs {
    /// Encrypt the file with a password (the default for coldkeys)
    #[arg(long, overrides_with = "no_password")]
    use_password: bool,
    /// Write the file unencrypted (the default for hotkeys)
    #[arg(long, alias = "no-use-password")]
    no_password: bool,
    /// Replace a key that is there; a copy of it is kept under backups/
    #[arg(long, overrides_with = "no_overwrite")]
    overwrite: bool,
    #[arg(long, hide = true)]
    no_overwrite: bool,
    /// Ask nothing; what would be asked for must be given
    #[arg(long, short, alias = "no-prompt")]
    yes: bool,
    /// Print the recovery phrase with the result
    #[arg(long)]
    show_mnemonic: bool,
}

/// The command and its sub-commands.
pub(crate) fn command(settings: AddSettings) -> Command {
    let with =
        |command: Command, about: &'static str| btcli(settings(command.about(about), &[WALLET]));
    let create = |name: &'static str| create::CreateArgs::augment_args(Command::new(name));
    let regen =
        |name: &'static str| regen::own_json(regen::RegenArgs::augment_args(Command::new(name)));
    let regen_pub = regen::PublicArgs::augment_args(Command::new("regen-coldkeypub"));
    let with_chain = |command: Command, about: &'static str| {
        btcli(settings(command.about(about), &[CHAIN, WALLET]))
    };
    let balance = balance::BalanceArgs::augment_args(Command::new("balance"));
    let overview = overview::OverviewArgs::augment_args(Command::new("overview"));
    let list = Command::new("list");
    let export = export::ExportArgs::augment_args(Command::new("export"));
    let set_default = Command::new("set-default");
    Command::new("wallet")
        .about("Makes, restores, lists and exports keys, in bittensor's files")
        .visible_alias("w")
        .alias("wallets")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .after_help(
            "Wherever a wallet is named, NAME/HOTKEY names its hotkey as well:\n  \
             ptn-cli wallet new-coldkey miner\n  \
             ptn-cli wallet new-hotkey miner/bot1\n\n\
             Passwords are taken from --password-file, bittensor's variables (BT_PW_..., \
             BT_COLD_PW_...), PTN_WALLET_PASSWORD, then from a question on the terminal.",
        )
        .subcommand(with(create("new-coldkey"), "Makes a coldkey, encrypted with a password"))
        .subcommand(with(create("new-hotkey"), "Makes a hotkey, which signs orders"))
        .subcommand(with(regen("regen-coldkey"), "Restores a coldkey from phrase, seed or JSON"))
        .subcommand(with(regen_pub, "Writes the public file of a coldkey that is kept elsewhere"))
        .subcommand(with(regen("regen-hotkey"), "Restores a hotkey from phrase, seed or JSON"))
        .subcommand(with(list, "All wallets with their addresses; nothing is decrypted"))
        .subcommand(with_chain(balance, "TAO of a coldkey; nothing is decrypted"))
        .subcommand(overview::subnets(with_chain(
            overview,
            "Every neuron of a wallet, subnet by subnet; nothing is decrypted",
        )))
        .subcommand(with(export, "Exports a key as JSON for polkadot-js, or shows its phrase"))
        .subcommand(with(set_default, "Makes a wallet the one that is meant when none is named"))
        .subcommand(Command::new("faucet").about("Says where TAO comes from"))
}

/// The other spellings of btcli, and the wallet as the first word.
pub(crate) fn btcli(command: Command) -> Command {
    let wallet = Arg::new("wallet").value_name("NAME[/HOTKEY]").conflicts_with("wallet.name");
    let quiet =
        |name: &'static str| Arg::new(name).long(name).hide(true).action(ArgAction::SetTrue);
    command
        .arg(wallet.help("The wallet, as with --wallet.name"))
        .arg(quiet("quiet"))
        .arg(quiet("verbose"))
        .mut_arg("wallet.name", |arg| arg.alias("name"))
        .mut_arg("wallet.hotkey", |arg| arg.alias("hotkey").short('H'))
        .mut_arg("wallet.path", |arg| arg.short('p'))
}

/// Runs the command.
///
/// # Errors
/// When a key or a setting cannot be used.
pub fn run(matches: &ArgMatches, out: &mut Output) -> Outcome {
    let Some((name, matches)) = matches.subcommand() else {
        return Err(Failure::usage("wallet new-hotkey, list, ...? see ptn-cli wallet --help"));
    };
    if name == "faucet" {
        return Err(faucet());
    }
    if matches!(name, "balance" | "overview") {
        let settings = settings(matches, &[CHAIN, WALLET])?;
        return crate::block_on(async {
            match name {
                "balance" => balance::run(&args(matches)?, &settings, out).await,
                _ => overview::run(&args(matches)?, &settings, out).await,
            }
        });
    }
    let settings = settings(matches, &[WALLET])?;
    let wallet = Wallet { place: place(&settings)?, named: Named::of(matches), settings };
    match name {
        "new-coldkey" => create::run(Which::Coldkey, &wallet, &args(matches)?, out),
        "new-hotkey" => create::run(Which::Hotkey, &wallet, &args(matches)?, out),
        "regen-coldkey" => regen::run(Which::Coldkey, &wallet, args(matches)?, matches, out),
        "regen-hotkey" => regen::run(Which::Hotkey, &wallet, args(matches)?, matches, out),
        "regen-coldkeypub" => regen::public(&wallet, &args(matches)?, out),
        "list" => list::run(&wallet, out),
        "export" => export::run(&wallet, &args(matches)?, out),
        "set-default" => set_default::run(&wallet, matches.get_one::<String>("config"), out),
        other => Err(Failure::usage(format!("there is no command wallet {other}"))),
    }
}

/// Whether `--json` stands before a file name, as in btcli, and does not ask for JSON.
pub(crate) fn json_names_a_file(matches: &ArgMatches) -> bool {
    let wallet = matches.subcommand().filter(|(name, _)| *name == "wallet");
    match wallet.and_then(|(_, matches)| matches.subcommand()) {
        Some(("regen-coldkey" | "regen-hotkey", matches)) => regen::json_names_a_file(matches),
        _ => false,
    }
}

fn args<A: FromArgMatches>(matches: &ArgMatches) -> Result<A, Failure> {
    A::from_arg_matches(matches).map_err(|e| Failure::usage(e.to_string()))
}

/// The settings, with the first word as the wallet's name.
pub(crate) fn settings(
    matches: &ArgMatches,
    list: &[&'static [Setting]],
) -> Result<Settings, Failure> {
    let mut settings = crate::cli::resolve(list, matches)?;
    if let Some(name) = matches.get_one::<String>("wallet") {
        settings.set("wallet.name", name, "wallet.name");
    }
    Ok(settings)
}

fn faucet() -> Failure {
    Failure::failed(
        "no_faucet",
        "there is no faucet: the chain's faucet call exists only in runtimes that were built for \
         local chains, neither finney nor the test network has it",
    )
    .hint(
        "finney: buy TAO and send it to the coldkey's address (ptn-cli wallet list); test network: \
         ask for test TAO in Bittensor's Discord; local chain: transfer from its //Alice",
    )
}

/// What a command line names by itself.
#[derive(Debug, Clone, Copy)]
struct Named {
    wallet: bool,
    hotkey: bool,
    path: bool,
    password_file: bool,
}

impl Named {
    fn of(matches: &ArgMatches) -> Self {
        let given = |key| matches.value_source(key) == Some(ValueSource::CommandLine);
        let short = |key| matches.get_one::<String>(key).is_some_and(|name| name.contains('/'));
        Self {
            wallet: given("wallet") || given("wallet.name"),
            hotkey: given("wallet.hotkey") || short("wallet") || short("wallet.name"),
            path: given("wallet.path"),
            password_file: given("wallet.password_file"),
        }
    }
}

/// The wallet that a command is about.
#[derive(Debug)]
pub(crate) struct Wallet {
    place: Place,
    settings: Settings,
    /// What was named in this very command, and not in ptn.toml or the environment.
    named: Named,
}

impl Wallet {
    fn passwords(&self) -> Passwords {
        Passwords::from_settings(&self.settings, &self.place)
    }

    fn path(&self, which: Which) -> PathBuf {
        match which {
            Which::Coldkey => self.place.coldkey(),
            Which::Hotkey => self.place.hotkey(),
        }
    }

    /// What a note about one of its keys is named by.
    fn whose(&self, which: Which) -> String {
        let wallet = self.place.wallet();
        match which {
            Which::Coldkey => format!("coldkey of wallet {wallet}"),
            Which::Hotkey => format!("hotkey {} of wallet {wallet}", self.place.hotkey_name()),
        }
    }

    /// The command that shows one of its keys later.
    fn export_command(&self, which: Which) -> String {
        let wallet = self.place.wallet();
        let key = match which {
            Which::Coldkey => format!("{wallet} --key coldkey"),
            Which::Hotkey => format!("{wallet}/{}", self.place.hotkey_name()),
        };
        let path = self.settings.get("wallet.path").filter(|_| self.settings.is_set("wallet.path"));
        let path = path.map(|path| format!(" --wallet.path {path}")).unwrap_or_default();
        format!("ptn-cli wallet export {key} --show{path}")
    }

    /// Refuses to go on where a key would be replaced without being asked to. `key` is the one to
    /// be written, when it is known already: its own public file is not in its way.
    fn make_way(
        &self,
        which: Which,
        write: &WriteArgs,
        key: Option<&[u8; 32]>,
    ) -> Result<Replace, Failure> {
        let free = match which {
            Which::Coldkey => self.place.check_coldkey(key),
            Which::Hotkey => self.place.check_hotkey(key),
        };
        let Err(taken) = free else { return Ok(Replace::Never) };
        if !write.overwrite {
            return Err(taken.into());
        }
        if !write.yes {
            let path = self.path(which);
            ask::confirm(&format!("Replace {}? A copy is kept under backups/.", path.display()))?;
        }
        Ok(Replace::WithBackup)
    }

    /// The password for a new file, when it is to have one.
    fn password(&self, which: Which, write: &WriteArgs) -> Result<Option<Password>, Failure> {
        let wanted = write.use_password
            || !write.no_password && (which == Which::Coldkey || self.named.password_file);
        Ok(match wanted {
            true => Some(self.passwords().to_create(&self.path(which))?),
            false => None,
        })
    }

    fn save(
        &self,
        which: Which,
        key: &Key,
        password: Option<&Password>,
        replace: Replace,
    ) -> Result<Saved, Failure> {
        Ok(match which {
            Which::Coldkey => self.place.save_coldkey(key, password, replace)?,
            Which::Hotkey => self.place.save_hotkey(key, password, replace)?,
        })
    }

    /// The result of a command that wrote a key.
    fn report(
        &self,
        which: Which,
        key: &Key,
        (saved, encrypted): (&Saved, bool),
        show_mnemonic: bool,
        out: &mut Output,
    ) -> Outcome {
        let phrase = key.phrase().filter(|_| show_mnemonic);
        let mut result = self.document(key.address(), saved);
        result.insert("key".to_owned(), which.word().into());
        result.insert("encrypted".to_owned(), encrypted.into());
        if which == Which::Hotkey {
            result.insert("hotkey".to_owned(), self.place.hotkey_name().into());
        }
        if let Some(phrase) = phrase {
            result.insert("mnemonic".to_owned(), phrase.into());
        }
        if out.is_json() {
            out.document(&Value::Object(result))?;
            return Ok(ptn_core::ops::process::OK);
        }
        say_files(saved, encrypted, out);
        out.line(key.address())?;
        if let Some(phrase) = phrase {
            out.line(phrase)?;
        }
        Ok(ptn_core::ops::process::OK)
    }

    fn document(&self, address: &str, saved: &Saved) -> Map<String, Value> {
        let value = json!({
            "ss58_address": address,
            "wallet": self.place.wallet(),
            "path": saved.key,
            "public_path": saved.public,
            "backups": saved.backups,
        });
        value.as_object().cloned().unwrap_or_default()
    }
}

fn say_files(saved: &Saved, encrypted: bool, out: &mut Output) {
    if let Some(key) = &saved.key {
        let how = if encrypted { "encrypted" } else { "not encrypted" };
        out.talk(format!("{} {} ({how})", out.paint_talk(Style::Good, "wrote"), key.display()));
    }
    out.talk(format!("{} {}", out.paint_talk(Style::Good, "wrote"), saved.public.display()));
    for backup in &saved.backups {
        out.talk(format!("{} {}", out.paint_talk(Style::Warn, "kept "), backup.display()));
    }
}
