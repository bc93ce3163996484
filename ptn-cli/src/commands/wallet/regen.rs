//! `wallet regen-coldkey`, `regen-hotkey` and `regen-coldkeypub`: keys that exist somewhere else.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Args, Command};
use ptn_core::ops::config::expand_home;
use ptn_core::ops::terminal::Terminal;
use ptn_core::ops::wallet::from_file;
use ptn_core::sign::ss58;
use ptn_core::wallet::{Key, Password, Replace, WalletError, polkadot_js, read_public};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{Wallet, Which, WriteArgs, ask, say_files};
use crate::Outcome;
use crate::failure::Failure;
use crate::output::Output;

/// Larger files are no account.
const MAX_FILE: u64 = 64 * 1024;

/// Arguments of `wallet regen-coldkey` and `regen-hotkey`.
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("source").multiple(false))]
pub(super) struct RegenArgs {
    /// The recovery phrase, 12 to 24 words (better: --mnemonic-file)
    #[arg(long, value_name = "WORDS", num_args = 1..=24, group = "source")]
    mnemonic: Vec<String>,
    /// File with the recovery phrase; - is stdin
    #[arg(long, value_name = "FILE", group = "source")]
    mnemonic_file: Option<PathBuf>,
    /// The seed, 64 hex digits (better: --seed-file)
    #[arg(long, value_name = "HEX", group = "source")]
    seed: Option<String>,
    /// File with the seed; - is stdin
    #[arg(long, value_name = "FILE", group = "source")]
    seed_file: Option<PathBuf>,
    /// File with PHRASE//hard/soft///password or 0xSEED//hard; - is stdin
    #[arg(long, value_name = "FILE", group = "source")]
    uri_file: Option<PathBuf>,
    /// JSON export of polkadot-js; btcli's --json FILE means the same
    #[arg(long, short = 'j', value_name = "FILE", group = "source")]
    json_path: Option<PathBuf>,
    /// Password of the JSON export (better: --json-password-file)
    #[arg(long, value_name = "PASSWORD")]
    json_password: Option<String>,
    /// File with the password of the JSON export
    #[arg(long, value_name = "FILE", conflicts_with = "json_password")]
    json_password_file: Option<PathBuf>,
    #[command(flatten)]
    write: WriteArgs,
}

/// `--json` alone asks for JSON as everywhere, `--json FILE` names an export as in btcli.
pub(super) fn own_json(command: Command) -> Command {
    let json =
        Arg::new("json").long("json").num_args(0..=1).value_name("FILE").action(ArgAction::Set);
    let output = Arg::new("json_output").long("json-output").action(ArgAction::SetTrue).hide(true);
    command
        .arg(
            json.help("Results as JSON; with a file name: restore from that export of polkadot-js"),
        )
        .arg(output)
}

/// Whether `--json` names a file here.
pub(crate) fn json_names_a_file(matches: &ArgMatches) -> bool {
    json_file(matches).is_some() && !matches.get_flag("json_output")
}

fn json_file(matches: &ArgMatches) -> Option<PathBuf> {
    matches.try_get_one::<String>("json").ok().flatten().map(PathBuf::from)
}

pub(super) fn run(
    which: Which,
    wallet: &Wallet,
    mut args: RegenArgs,
    matches: &ArgMatches,
    out: &mut Output,
) -> Outcome {
    if let Some(file) = json_file(matches) {
        if matches.contains_id("source") {
            return Err(Failure::usage("--json FILE is a source of its own: give one"));
        }
        args.json_path = Some(file);
    }
    let key = source(&args, out)?;
    let replace = wallet.make_way(which, &args.write, Some(&key.public_key()))?;
    let password = wallet.password(which, &args.write)?;
    let saved = wallet.save(which, &key, password.as_ref(), replace)?;
    wallet.report(which, &key, (&saved, password.is_some()), args.write.show_mnemonic, out)
}

fn source(args: &RegenArgs, out: &mut Output) -> Result<Key, Failure> {
    if !args.mnemonic.is_empty() {
        ask::warn_of_argument("--mnemonic", "use --mnemonic-file, or - for stdin", out);
        let phrase = Zeroizing::new(args.mnemonic.join(" "));
        return Ok(Key::from_phrase(&phrase)?);
    }
    if let Some(seed) = &args.seed {
        ask::warn_of_argument("--seed", "use --seed-file, or - for stdin", out);
        return Ok(Key::from_seed_text(seed)?);
    }
    if let Some(file) = &args.mnemonic_file {
        return Ok(Key::from_phrase(&secret_text(file)?)?);
    }
    if let Some(file) = &args.seed_file {
        return Ok(Key::from_seed_text(&secret_text(file)?)?);
    }
    if let Some(file) = &args.uri_file {
        return Ok(Key::from_uri(secret_text(file)?.trim_end_matches(['\r', '\n']))?);
    }
    if let Some(file) = &args.json_path {
        return account(file, args, out);
    }
    let Some(terminal) = Terminal::open() else {
        return Err(Failure::usage("what is the key to be restored from?").hint(
            "--mnemonic-file, --seed-file, --uri-file or --json-path; each takes - for stdin",
        ));
    };
    let answer = terminal.ask_hidden("Recovery phrase, or seed in hex (not shown): ");
    let answer = answer.map_err(|e| ask::unanswered(&e))?;
    match answer.trim().contains(char::is_whitespace) {
        true => Ok(Key::from_phrase(&answer)?),
        false => Ok(Key::from_seed_text(&answer)?),
    }
}

fn account(file: &Path, args: &RegenArgs, out: &mut Output) -> Result<Key, Failure> {
    let text = secret_text(file)?;
    let password = match (&args.json_password, &args.json_password_file) {
        (Some(password), _) => {
            ask::warn_of_argument("--json-password", "use --json-password-file", out);
            Password::new(password.as_str())
        }
        (None, Some(file)) => Some(from_file(&expand_home(&file.to_string_lossy()))?),
        (None, None) => {
            let Some(terminal) = Terminal::open() else {
                return Err(Failure::usage("the JSON export needs its password")
                    .hint("--json-password-file FILE"));
            };
            let asked = terminal.ask_hidden("Password of the JSON export: ");
            Password::new(asked.map_err(|e| ask::unanswered(&e))?.as_str())
        }
    };
    let password = password.ok_or_else(|| Failure::usage("the password is empty"))?;
    polkadot_js::import(text.as_bytes(), &password)
        .map_err(|source| WalletError::File { path: file.to_owned(), source }.into())
}

/// The text of a file that holds a secret.
fn secret_text(file: &Path) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::with_capacity(2048));
    let read = match file.as_os_str() == "-" {
        true => io::stdin().take(MAX_FILE).read_to_string(&mut text),
        false => std::fs::File::open(expand_home(&file.to_string_lossy()))
            .and_then(|f| f.take(MAX_FILE).read_to_string(&mut text)),
    };
    let place = file.display().to_string();
    read.map_err(|e| Failure::io("cannot read", &place, &e))?;
    Ok(text)
}

/// Arguments of `wallet regen-coldkeypub`.
#[derive(Debug, Clone, Args)]
pub(super) struct PublicArgs {
    /// The coldkey's address
    #[arg(
        long,
        visible_alias = "ss58",
        value_name = "ADDRESS",
        required_unless_present = "public_key_hex"
    )]
    ss58_address: Option<String>,
    /// The coldkey's public key, 64 hex digits
    #[arg(long, alias = "public-key", value_name = "HEX", conflicts_with = "ss58_address")]
    public_key_hex: Option<String>,
    /// Replace a public file that is there; a copy of it is kept under backups/
    #[arg(long, overrides_with = "no_overwrite")]
    overwrite: bool,
    #[arg(long, hide = true)]
    no_overwrite: bool,
    /// Ask nothing
    #[arg(long, short, alias = "no-prompt")]
    yes: bool,
}

pub(super) fn public(wallet: &Wallet, args: &PublicArgs, out: &mut Output) -> Outcome {
    let wrong = |flag: &str, why: &dyn std::fmt::Display| Failure::usage(format!("{flag}: {why}"));
    let key = match (&args.ss58_address, &args.public_key_hex) {
        (Some(address), _) => ss58::decode(address).map_err(|e| wrong("--ss58-address", &e))?,
        (None, hex_text) => {
            let digits = hex_text.as_deref().unwrap_or_default().trim_start_matches("0x");
            let mut key = [0; 32];
            hex::decode_to_slice(digits, &mut key)
                .map_err(|_| wrong("--public-key-hex", &"64 hex digits are expected"))?;
            key
        }
    };
    let replace = if args.overwrite { Replace::WithBackup } else { Replace::Never };
    let path = wallet.place.coldkeypub();
    let address = ss58::encode(&key);
    let other = path.exists() && !read_public(&path).is_ok_and(|stated| stated == address);
    if other && args.overwrite && !args.yes {
        ask::confirm(&format!("Replace {}? A copy is kept under backups/.", path.display()))?;
    }
    let coldkey = wallet.place.coldkey();
    if coldkey.exists() {
        out.talk(format!("note: {} is there as well and stays as it is", coldkey.display()));
    }
    let saved = wallet.place.save_coldkeypub(&key, replace)?;
    if out.is_json() {
        out.document(&Value::Object(wallet.document(&address, &saved)))?;
    } else {
        say_files(&saved, false, out);
        out.line(address)?;
    }
    Ok(ptn_core::ops::process::OK)
}
