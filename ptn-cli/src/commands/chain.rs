//! What the commands about the chain have in common: the connection, whose wallet it is, signing a
//! call with its coldkey and following it.
//!
//! What must stay true: a coldkey is opened only when something is to be signed by it, after the
//! terms were shown and agreed to; a call is signed once per command.

use clap::{ArgAction, Args};
use ptn_core::chain::{Call, ChainClient, ChainError, Network, Place as Where, Step};
use ptn_core::ops::chain::{network, options};
use ptn_core::ops::config::Settings;
use ptn_core::ops::wallet::{Passwords, place};
use ptn_core::wallet::{Key, KeyState, Place};

use super::wallet::ask;
use crate::failure::Failure;
use crate::output::{Output, Style};

/// The chain that the settings name.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) client: ChainClient,
    pub(crate) network: Network,
}

impl Chain {
    pub(crate) fn from_settings(s: &Settings) -> Result<Self, Failure> {
        Ok(Self { client: ChainClient::new(options(s)?), network: network(s)? })
    }
}

/// The wallet that the settings name.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) place: Place,
    passwords: Passwords,
}

impl Owner {
    pub(crate) fn from_settings(s: &Settings) -> Result<Self, Failure> {
        let place = place(s)?;
        Ok(Self { passwords: Passwords::from_settings(s, &place), place })
    }

    /// Address of the coldkey; no password is needed.
    pub(crate) fn coldkey(&self) -> Result<String, Failure> {
        let wallet = self.place.wallet();
        address(
            self.place.coldkey_state(),
            &format!("the coldkey of wallet {wallet} ({})", self.place.coldkey().display()),
            &format!("make it: ptn-cli wallet new-coldkey {wallet}; or name another --wallet.name"),
        )
    }

    /// Address of the hotkey; no password is needed.
    pub(crate) fn hotkey(&self) -> Result<String, Failure> {
        let (wallet, name) = (self.place.wallet(), self.place.hotkey_name());
        address(
            self.place.hotkey_state(),
            &format!("hotkey {name} of wallet {wallet} ({})", self.place.hotkey().display()),
            &format!(
                "make it: ptn-cli wallet new-hotkey {wallet}/{name}; or name another --wallet.hotkey"
            ),
        )
    }

    /// Opens the hotkey for signing, asking for its password when it has one.
    pub(crate) async fn open_hotkey(&self) -> Result<Key, Failure> {
        let path = self.place.hotkey();
        let (passwords, asked) = (self.passwords.clone(), path.clone());
        Ok(ptn_core::wallet::open(&path, move |format| passwords.to_open(&asked, format)).await?)
    }

    /// Opens the coldkey for signing, asking for its password when it has one.
    async fn open(&self, address: &str) -> Result<Key, Failure> {
        let path = self.place.coldkey();
        let (passwords, asked) = (self.passwords.clone(), path.clone());
        let key = ptn_core::wallet::open(&path, move |format| passwords.to_open(&asked, format));
        let key = key.await?;
        if key.address() == address {
            return Ok(key);
        }
        let text = format!(
            "{} is the key {}, but its public file says {address}; nothing was signed",
            path.display(),
            key.address()
        );
        Err(Failure::usage(text).hint(format!(
            "if the key is the right one, replace the public file: ptn-cli wallet regen-coldkeypub \
             {} --ss58 {} --overwrite",
            self.place.wallet(),
            key.address()
        )))
    }
}

fn address(state: Option<KeyState>, what: &str, make: &str) -> Result<String, Failure> {
    let Some(state) = state else {
        let missing = Failure::new(
            ptn_core::ops::process::USAGE,
            "wallet_missing",
            format!("{what} is not there"),
        );
        return Err(missing.hint(make));
    };
    if let Some(problem) = state.problem {
        return Err(Failure::new(ptn_core::ops::process::USAGE, "wallet_problem", problem));
    }
    state.address.ok_or_else(|| {
        let text = format!("the address of {what} is not known without its password");
        Failure::new(ptn_core::ops::process::USAGE, "wallet_no_address", text).hint(
            "write its public file: ptn-cli wallet regen-coldkeypub --ss58 ADDRESS (--overwrite \
                 replaces one that is there)",
        )
    })
}

/// Flags of every command that signs something.
#[derive(Debug, Clone, Args)]
pub(crate) struct SendArgs {
    /// Ask nothing; what would be asked for must be given
    #[arg(long, short, alias = "no-prompt")]
    pub(crate) yes: bool,
    /// Show what would be done, the call and its fee; sign and send nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// End when a block holds the call, not when that block is final
    #[arg(long, overrides_with = "wait_for_finalization")]
    no_wait_for_finalization: bool,
    #[arg(long, hide = true, action = ArgAction::SetTrue)]
    wait_for_finalization: bool,
    /// End when a node took the call
    #[arg(long, overrides_with = "wait_for_inclusion")]
    no_wait_for_inclusion: bool,
    #[arg(long, hide = true, action = ArgAction::SetTrue)]
    wait_for_inclusion: bool,
}

/// How far a call came.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) hash: String,
    pub(crate) place: Option<Where>,
    pub(crate) is_final: bool,
}

impl SendArgs {
    /// Goes on only when the user agrees.
    pub(crate) async fn agree(&self, question: String) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        // The connection is kept alive meanwhile.
        let asked = tokio::task::spawn_blocking(move || ask::confirm(&question)).await;
        asked.map_err(|e| Failure::failed("internal", e.to_string()))?
    }

    /// Signs and follows a call. `prepare` gives it when the key is open, right before signing.
    pub(crate) async fn send(
        &self,
        chain: &Chain,
        owner: &Owner,
        coldkey: &str,
        prepare: impl AsyncFnOnce() -> Result<Call, Failure>,
        out: &mut Output,
    ) -> Result<Sent, Failure> {
        let key = owner.open(coldkey).await?;
        let call = prepare().await?;
        let mut progress = chain.client.submit(&call, &key).await?;
        drop(key);
        let hash = progress.hash();
        let word = out.paint_talk(Style::Good, "sent");
        out.talk(format!("{word} {hash}; a block up to {} can include it", progress.until()));
        let mut sent = Sent { hash, place: None, is_final: false };
        while !self.no_wait_for_inclusion
            && let Some(step) = progress.next().await
        {
            match step? {
                Step::InBlock { place, failure: None } => {
                    out.talk(format!("in block {}", place.number));
                    sent.place = Some(place);
                    if self.no_wait_for_finalization {
                        break;
                    }
                    out.talk("waiting until that is final ...");
                }
                Step::InBlock { failure: Some(failure), .. } if self.no_wait_for_finalization => {
                    return Err(ChainError::Failed(Box::new(failure)).into());
                }
                Step::Searching { reason } => {
                    let until = progress.until();
                    out.talk(format!("{reason}; looking for it in the blocks up to {until} ..."));
                }
                Step::Retracted => {
                    sent.place = None;
                    out.talk("that block was undone; the call waits for another one");
                }
                Step::Final { place } => {
                    out.talk(format!("final in block {}", place.number));
                    (sent.place, sent.is_final) = (Some(place), true);
                }
                // A failure may still be undone with its block; the end says it.
                _ => {}
            }
        }
        Ok(sent)
    }
}
