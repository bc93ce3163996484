//! A whole validator's book: who may send, how often, which uuids were processed, which pairs are
//! halted, and the account of every hotkey.
//!
//! The checks come in the network's order, so that the first answer is the network's first answer.
//! Signatures, the metagraph and the disk are left to others. The same calls in the same order
//! give the same book, whether in one go or from a stored one.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::account::{Account, AccountSettings, Context, Event, Outcome};
use super::limits::RateWindow;
use super::market::{Market, Quote};
use super::order::Order;
use super::refusal::Refusal;
use super::rules::{Generation, PairRules, PaperRules, Rules2026};
use crate::order::ExecutionType;
use crate::store::UnixMs;
use crate::trade_pair::TradePairId;

/// What a hotkey is to the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "standing", rename_all = "snake_case")]
pub enum Standing {
    /// Eliminated, with the row of the elimination as Python shows it.
    Eliminated {
        /// The row.
        row: String,
    },
    /// Left the network (2026).
    Deregistered {
        /// When it was seen, in ms.
        at_ms: UnixMs,
    },
    /// An entity, which trades through subaccounts only (2026).
    Entity,
    /// A subaccount that is not active (2026).
    InactiveSubaccount,
}

/// What a validator knows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Book {
    /// Whether it restarts: R9.
    pub restarting: bool,
    /// Whether it waits for a sync of positions: R17.
    pub syncing: bool,
    /// Pairs that are halted: R16.
    pub halted: BTreeSet<TradePairId>,
    /// Settings of accounts that have none of their own.
    pub default_settings: Option<AccountSettings>,
    market: Market,
    standing: BTreeMap<String, Standing>,
    windows: BTreeMap<String, RateWindow>,
    uuids: BTreeSet<String>,
    accounts: BTreeMap<String, Account>,
}

impl Book {
    /// An empty book.
    pub fn new() -> Self {
        Self::default()
    }

    /// The last prices.
    pub fn market(&self) -> &Market {
        &self.market
    }

    /// The account of a hotkey, once it has one.
    pub fn account(&self, hotkey: &str) -> Option<&Account> {
        self.accounts.get(hotkey)
    }

    /// Every account.
    pub fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.accounts.values()
    }

    /// Opens an account with its own settings; one that is there stays as it is.
    pub fn open_account(&mut self, rules: &PaperRules, hotkey: &str, settings: AccountSettings) {
        let new = || Account::new(rules, hotkey, settings);
        self.accounts.entry(hotkey.to_owned()).or_insert_with(new);
    }

    /// What a hotkey is to the network; nothing is a miner in good standing.
    pub fn set_standing(&mut self, hotkey: &str, standing: Option<Standing>) {
        match standing {
            Some(standing) => self.standing.insert(hotkey.to_owned(), standing),
            None => self.standing.remove(hotkey),
        };
    }

    /// Eliminates a hotkey: nothing more is taken from it, its resting orders are cancelled and
    /// its positions closed at market.
    pub fn eliminate(
        &mut self,
        rules: &PaperRules,
        hotkey: &str,
        row: impl Into<String>,
        now_ms: UnixMs,
    ) -> Vec<Event> {
        self.set_standing(hotkey, Some(Standing::Eliminated { row: row.into() }));
        let at = Context { rules, market: &self.market, now_ms };
        let account = self.accounts.get_mut(hotkey);
        account.map(|account| account.close_all(at)).unwrap_or_default()
    }

    /// Takes an order of a hotkey.
    ///
    /// # Errors
    /// The validator's refusal; [`Refusal::error_message`] is its answer on the wire.
    pub fn receive(
        &mut self,
        rules: &PaperRules,
        hotkey: &str,
        order: &Order,
        now_ms: UnixMs,
    ) -> Result<Outcome, Refusal> {
        self.count(rules, hotkey, now_ms)?;
        self.after_counting(rules, hotkey, order, now_ms)?;
        if !self.accounts.contains_key(hotkey) {
            let account = self.fresh_account(rules, hotkey);
            self.accounts.insert(hotkey.to_owned(), account);
        }
        let at = Context { rules, market: &self.market, now_ms };
        let Some(account) = self.accounts.get_mut(hotkey) else { return Err(Refusal::Syncing) };
        let result = account.apply(order, at);
        // A claim is released when processing fails. A filled order without its brackets failed.
        let tracked = result.is_ok() && !order.execution.targets_other_orders();
        if tracked && matches!(rules.generation, Generation::Y2026(_)) {
            self.uuids.insert(order.uuid.clone());
        }
        result
    }

    /// What happened although an order was refused: see [`Account::take_events`].
    pub fn take_events(&mut self, hotkey: &str) -> Vec<Event> {
        self.accounts.get_mut(hotkey).map(Account::take_events).unwrap_or_default()
    }

    /// Counts an order that nobody can read.
    ///
    /// # Errors
    /// R9, R10, R1: what comes before an order is read.
    pub fn count(
        &mut self,
        rules: &PaperRules,
        hotkey: &str,
        now_ms: UnixMs,
    ) -> Result<(), Refusal> {
        self.before_counting(rules, hotkey)?;
        let window = self.windows.entry(hotkey.to_owned()).or_default();
        window.request(rules.rate_limit, method(rules), now_ms)
    }

    /// Counts a request that is no order: queries of positions count too in 2024.
    ///
    /// # Errors
    /// R1.
    pub fn query(
        &mut self,
        rules: &PaperRules,
        hotkey: &str,
        now_ms: UnixMs,
    ) -> Result<(), Refusal> {
        match rules.generation {
            Generation::Y2024(_) => {
                let window = self.windows.entry(hotkey.to_owned()).or_default();
                window.request(rules.rate_limit, None, now_ms)
            }
            Generation::Y2026(_) => Ok(()),
        }
    }

    /// What [`Book::receive`] would say, without doing it.
    ///
    /// # Errors
    /// As [`Book::receive`].
    pub fn check(
        &self,
        rules: &PaperRules,
        hotkey: &str,
        order: &Order,
        now_ms: UnixMs,
    ) -> Result<Outcome, Refusal> {
        self.before_counting(rules, hotkey)?;
        if let Some(window) = self.windows.get(hotkey) {
            window.would_pass(rules.rate_limit, method(rules), now_ms)?;
        }
        self.after_counting(rules, hotkey, order, now_ms)?;
        let at = Context { rules, market: &self.market, now_ms };
        match self.accounts.get(hotkey) {
            Some(account) => account.check(order, at),
            None => self.fresh_account(rules, hotkey).check(order, at),
        }
    }

    /// What the gates before the account would say, without the one of [`Book::pace`]: whether the
    /// hotkey may send, and whether the pair is traded now.
    ///
    /// # Errors
    /// R9 to R17.
    pub fn gates(
        &self,
        rules: &PaperRules,
        hotkey: &str,
        order: &Order,
        now_ms: UnixMs,
    ) -> Result<(), Refusal> {
        self.before_counting(rules, hotkey)?;
        self.after_counting(rules, hotkey, order, now_ms)
    }

    /// Whether another request of a hotkey fits into its window now.
    ///
    /// # Errors
    /// R1.
    pub fn pace(&self, rules: &PaperRules, hotkey: &str, now_ms: UnixMs) -> Result<(), Refusal> {
        match self.windows.get(hotkey) {
            Some(window) => window.would_pass(rules.rate_limit, method(rules), now_ms),
            None => Ok(()),
        }
    }

    /// What the account of a hotkey alone would say at these prices.
    ///
    /// # Errors
    /// As [`Account::apply`].
    pub fn check_account(
        &self,
        hotkey: &str,
        order: &Order,
        at: Context<'_>,
    ) -> Result<Outcome, Refusal> {
        match self.accounts.get(hotkey) {
            Some(account) => account.check(order, at),
            None => self.fresh_account(at.rules, hotkey).check(order, at),
        }
    }

    /// Books an order that a validator took, at these prices. No gate is asked, and the prices are
    /// not kept.
    ///
    /// # Errors
    /// As [`Account::apply`]: this book knows less, or something else, than the validator did.
    pub fn taken(
        &mut self,
        hotkey: &str,
        order: &Order,
        at: Context<'_>,
    ) -> Result<Outcome, Refusal> {
        let window = self.windows.entry(hotkey.to_owned()).or_default();
        // It was taken, so the window had room, whatever was counted here.
        window.request(at.rules.rate_limit, None, at.now_ms).ok();
        if !self.accounts.contains_key(hotkey) {
            let account = self.fresh_account(at.rules, hotkey);
            self.accounts.insert(hotkey.to_owned(), account);
        }
        let Some(account) = self.accounts.get_mut(hotkey) else { return Err(Refusal::Syncing) };
        account.apply(order, at)
    }

    /// Gives every account of 2026 these settings, from now on.
    pub fn set_settings(&mut self, settings: &AccountSettings) {
        self.default_settings = Some(settings.clone());
        for account in self.accounts.values_mut() {
            if let Account::Y2026(account) = account {
                account.settings.clone_from(settings);
            }
        }
    }

    /// Drops what only a report of the past needs: closed positions, and uuids that were seen.
    pub fn forget_past(&mut self) {
        self.uuids.clear();
        self.accounts.values_mut().for_each(Account::forget_closed);
    }

    /// Takes a new price for every account, and returns what it did by hotkey.
    pub fn on_price(
        &mut self,
        rules: &PaperRules,
        pair: &TradePairId,
        quote: Quote,
    ) -> Vec<(String, Vec<Event>)> {
        if !self.market.set(pair.clone(), quote) {
            return Vec::new();
        }
        let accounts = self.accounts.iter_mut();
        let moved = accounts.filter_map(|(hotkey, account)| {
            let events = account.on_price(pair, &quote, rules);
            (!events.is_empty()).then(|| (hotkey.clone(), events))
        });
        moved.collect()
    }

    fn fresh_account(&self, rules: &PaperRules, hotkey: &str) -> Account {
        let size = match &rules.generation {
            Generation::Y2024(_) => 1.0,
            Generation::Y2026(own) => own.default_account_usd,
        };
        let own = self.default_settings.clone();
        Account::new(rules, hotkey, own.unwrap_or_else(|| AccountSettings::of_size(size)))
    }

    /// R9, R10.
    fn before_counting(&self, rules: &PaperRules, hotkey: &str) -> Result<(), Refusal> {
        if matches!(rules.generation, Generation::Y2024(_)) {
            return Ok(());
        }
        if self.restarting {
            return Err(Refusal::Restarting);
        }
        match self.standing.get(hotkey) {
            Some(Standing::InactiveSubaccount) => {
                Err(Refusal::SubaccountInactive { hotkey: hotkey.to_owned() })
            }
            _ => Ok(()),
        }
    }

    /// Everything between the rate limit and the account.
    fn after_counting(
        &self,
        rules: &PaperRules,
        hotkey: &str,
        order: &Order,
        now_ms: UnixMs,
    ) -> Result<(), Refusal> {
        let who = || hotkey.to_owned();
        let own = match (&rules.generation, self.standing.get(hotkey)) {
            (Generation::Y2024(_), Some(Standing::Eliminated { row })) => {
                return Err(Refusal::Eliminated2024 { hotkey: who(), row: row.clone() });
            }
            (Generation::Y2024(_), _) => return Ok(()),
            (Generation::Y2026(_), Some(Standing::Eliminated { row })) => {
                return Err(Refusal::Eliminated { hotkey: who(), row: row.clone() });
            }
            (Generation::Y2026(_), Some(Standing::Deregistered { at_ms })) => {
                return Err(Refusal::Deregistered { hotkey: who(), at_ms: *at_ms });
            }
            (Generation::Y2026(_), Some(Standing::Entity)) => {
                return Err(Refusal::EntityHotkey { hotkey: who() });
            }
            (Generation::Y2026(own), _) => own,
        };
        if !order.execution.targets_other_orders() && self.uuids.contains(&order.uuid) {
            return Err(Refusal::DuplicateUuid { uuid: order.uuid.clone() });
        }
        if let Some(pair) = order.pair.as_ref().and_then(|id| rules.pair(id)) {
            self.about_the_pair(rules, own, hotkey, order.execution, pair, now_ms)?;
        }
        if self.syncing {
            return Err(Refusal::Syncing);
        }
        Ok(())
    }

    /// R14, R15, R3', R16.
    fn about_the_pair(
        &self,
        rules: &PaperRules,
        own: &Rules2026,
        hotkey: &str,
        execution: ExecutionType,
        pair: &PairRules,
        now_ms: UnixMs,
    ) -> Result<(), Refusal> {
        let id = || pair.id.clone();
        if pair.blocked {
            return Err(Refusal::BlockedPair { pair: id() });
        }
        let settings = match self.accounts.get(hotkey) {
            Some(Account::Y2026(account)) => Some(&account.settings),
            _ => self.default_settings.as_ref(),
        };
        if let Some(settings) = settings.filter(|settings| !settings.allows(pair)) {
            return Err(Refusal::AssetClass {
                hotkey: hotkey.to_owned(),
                class: pair.class,
                selected: settings.asset_class.clone(),
                help: own.asset_class_help.clone(),
            });
        }
        // Orders that may rest are taken while the market is closed.
        let needs_market = matches!(execution, ExecutionType::Market | ExecutionType::FlatAll);
        if needs_market && !rules.hours.is_open(pair.class, &pair.source, now_ms) {
            return Err(Refusal::MarketClosed { pair: id() });
        }
        if self.halted.contains(&pair.id) {
            return Err(Refusal::PairHalted { pair: id() });
        }
        Ok(())
    }
}

/// The word after R1's text.
fn method(rules: &PaperRules) -> Option<&str> {
    match &rules.generation {
        Generation::Y2024(_) => None,
        Generation::Y2026(own) => Some(&own.rate_limit_method),
    }
}
