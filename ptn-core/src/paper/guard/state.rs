//! What the guard knows: accounts booked from acknowledgements, prices, and what is a guess.
//!
//! A position that was opened while no price was known is kept at a price of 1: its value and
//! leverage are right, its gains are not reckoned (`unpriced`). A pair in which something may have
//! happened that nobody told, a resting order that was filled for example, is `unsure` until a
//! FLAT is acknowledged.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::drawdown::Losses;
use super::{FRESH_MS, GuardSettings, RuleSets, fill};
use crate::guard::{Distance, UnderWay, Unjudged, key};
use crate::order::{ExecutionType, OrderType};
use crate::paper::account::{Account, Context};
use crate::paper::book::Book;
use crate::paper::market::{Market, Quote};
use crate::paper::order::{Order, Size};
use crate::paper::refusal::Refusal;
use crate::paper::rules::{Generation, PairRules, PaperRules};
use crate::record::ValidatorRecord;
use crate::signal::{OrderUuid, Signal};
use crate::store::UnixMs;
use crate::trade_pair::TradePairId;

/// How many booked signals are remembered, to book none twice.
const MOST_BOOKED: usize = 4096;

/// One account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Tracked {
    pub(super) book: Book,
    pub(super) losses: Losses,
    /// Pairs whose position is kept at a price of 1.
    pub(super) unpriced: BTreeSet<TradePairId>,
    /// Pairs whose position may be another one.
    pub(super) unsure: BTreeSet<TradePairId>,
    /// Orders that closed or reduced something without a known price.
    pub(super) unknown_results: u64,
    last_ms: UnixMs,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) accounts: BTreeMap<String, Tracked>,
    pub(super) prices: Market,
    pub(super) booked: VecDeque<String>,
    pub(super) booked_set: HashSet<String>,
    pub(super) last_ack_ms: Option<UnixMs>,
    /// Signals that are not decided.
    pub(super) under_way: HashMap<u64, UnderWay>,
    pub(super) loaded: bool,
}

/// What is known about the price of an order.
enum Price {
    /// This one.
    Known(Quote),
    /// None, or the position is kept at a price of 1.
    Unit,
    /// The order cannot be valued.
    Missing,
}

impl Tracked {
    fn new(hotkey: &str, rules: &RuleSets, settings: &GuardSettings, prices: &Market) -> Self {
        let mut book = Book::new();
        book.halted = settings.halted.clone();
        let account = settings.account(&rules.real);
        book.default_settings = Some(account.clone());
        book.open_account(&rules.real, hotkey, account);
        for (pair, quote) in prices.iter() {
            book.on_price(&rules.real, pair, *quote);
        }
        Self {
            book,
            losses: Losses::default(),
            unpriced: BTreeSet::new(),
            unsure: BTreeSet::new(),
            unknown_results: 0,
            last_ms: UnixMs::MIN,
        }
    }

    /// Side of the open position of a pair.
    pub(super) fn side(&self, hotkey: &str, pair: &TradePairId) -> Option<OrderType> {
        let account = self.book.account(hotkey)?;
        account.open().into_iter().find(|p| p.pair == pair).map(|p| p.position_type)
    }

    fn open_pairs(&self, hotkey: &str) -> Vec<TradePairId> {
        let open = self.book.account(hotkey).map(Account::open).unwrap_or_default();
        open.into_iter().map(|position| position.pair.clone()).collect()
    }

    fn rests(&self, hotkey: &str, pair: &TradePairId) -> bool {
        match self.book.account(hotkey) {
            Some(Account::Y2026(account)) => {
                account.resting().iter().any(|resting| resting.order.pair.as_ref() == Some(pair))
            }
            _ => false,
        }
    }

    /// The last price at which a position of a pair traded.
    fn last_fill(&self, hotkey: &str, pair: &TradePairId, at_ms: UnixMs) -> Option<Quote> {
        match self.book.account(hotkey)? {
            Account::Y2024(account) => {
                let position = account.open().find(|p| p.pair == *pair)?;
                Some(Quote::last(position.orders.last()?.price, at_ms))
            }
            Account::Y2026(account) => {
                let fill = account.position(pair)?.orders.last()?;
                Some(Quote { quote_usd: Some(fill.quote_usd), ..Quote::last(fill.price, at_ms) })
            }
        }
    }

    fn settle(&mut self, hotkey: &str, rules: &RuleSets) {
        if let Some(account) = self.book.account(hotkey) {
            self.losses.close(account, &rules.limits);
        }
        self.book.forget_past();
    }
}

/// A price of 1, at which value and quantity are the same number.
pub(super) const fn unit_quote(at_ms: UnixMs) -> Quote {
    Quote { usd_base: Some(1.0), quote_usd: Some(1.0), ..Quote::last(1.0, at_ms) }
}

/// What a quantity is worth at a price, in US dollars.
pub(super) fn value_of(
    rules: &PaperRules,
    pair: &PairRules,
    quote: &Quote,
    quantity: f64,
) -> Option<f64> {
    match &rules.generation {
        Generation::Y2024(_) => None,
        Generation::Y2026(own) => {
            let rates = quote.rates(pair, own, quote.price)?;
            Some(quantity * pair.lot_size / rates.usd_base)
        }
    }
}

impl State {
    pub(super) fn tracked(
        &mut self,
        hotkey: &str,
        rules: &RuleSets,
        settings: &GuardSettings,
    ) -> &mut Tracked {
        let prices = &self.prices;
        self.accounts
            .entry(hotkey.to_owned())
            .or_insert_with(|| Tracked::new(hotkey, rules, settings, prices))
    }

    /// Settings may have changed since a snapshot.
    pub(super) fn configure(&mut self, rules: &RuleSets, settings: &GuardSettings) {
        let account = settings.account(&rules.real);
        for tracked in self.accounts.values_mut() {
            tracked.book.halted.clone_from(&settings.halted);
            tracked.book.set_settings(&account);
        }
    }

    pub(super) fn was_booked(&self, id: &OrderUuid) -> bool {
        self.booked_set.contains(id.as_str())
    }

    pub(super) fn under_way(&mut self, id: &OrderUuid, what: &UnderWay) {
        if !self.was_booked(id) {
            self.under_way.insert(key(id), what.clone());
        }
    }

    pub(super) fn ended(&mut self, id: &OrderUuid) {
        self.under_way.remove(&key(id));
    }

    pub(super) fn none_under_way(&mut self) {
        self.under_way.clear();
    }

    pub(super) fn ready(&mut self) {
        self.loaded = true;
    }

    pub(super) fn knows_until(&self) -> Option<UnixMs> {
        self.last_ack_ms
    }

    /// Signals that are not decided, without this one: how many, and whether one of them may open
    /// what this one closes.
    pub(super) fn others_under_way(&self, signal: &Signal) -> (usize, bool) {
        let (own, what) = (key(signal.id()), UnderWay::from(signal));
        let others = || self.under_way.iter().filter(|(id, _)| **id != own).map(|(_, other)| other);
        let meets = |other: &UnderWay| {
            let opposite =
                other.opens.is_some() && what.opens.is_some() && other.opens != what.opens;
            opposite && other.pair == what.pair
        };
        (others().count(), others().any(meets))
    }

    /// Books what a validator acknowledged.
    pub(super) fn acknowledged(
        &mut self,
        rules: &RuleSets,
        settings: &GuardSettings,
        hotkey: &str,
        signal: &Signal,
        record: &ValidatorRecord,
    ) {
        self.ended(signal.id());
        if self.was_booked(signal.id()) {
            return;
        }
        self.remember(signal.id().to_string(), record.at);
        let told = fill::read(&record.order_json, record.at);
        let Ok(order) = Order::from_signal(signal) else { return };
        let at_ms = {
            let tracked = self.tracked(hotkey, rules, settings);
            let at_ms = told.at_ms.unwrap_or(record.at).max(tracked.last_ms);
            tracked.last_ms = at_ms;
            tracked.losses.roll(tracked.book.account(hotkey), at_ms);
            at_ms
        };
        if let (Some(quote), Some(pair)) = (told.quote, &order.pair) {
            self.price(rules, pair, Quote { slippage: 0.0, ..quote });
        }
        if order.execution == ExecutionType::FlatAll {
            self.flat_all(rules, hotkey, &order, at_ms);
        } else if let Some(pair) = order.pair.clone() {
            self.one_pair(rules, hotkey, order, &pair, told.quote, at_ms);
        } else {
            self.book(rules, hotkey, &order, &Market::new(), at_ms).ok();
        }
        if let Some(tracked) = self.accounts.get_mut(hotkey) {
            tracked.settle(hotkey, rules);
        }
    }

    /// Notes that an order may have been processed: what it would have changed may be so or not.
    pub(super) fn doubtful(
        &mut self,
        rules: &RuleSets,
        settings: &GuardSettings,
        hotkey: &str,
        signal: &Signal,
        record: &ValidatorRecord,
    ) {
        self.ended(signal.id());
        // No id begins like this, so that an acknowledgement of a later attempt is still booked.
        let doubt = format!("?{}", signal.id());
        if self.was_booked(signal.id()) || self.booked_set.contains(&doubt) {
            return;
        }
        self.remember(doubt, record.at);
        let tracked = self.tracked(hotkey, rules, settings);
        match signal.queue() {
            Some(pair) => drop(tracked.unsure.insert(pair)),
            None => {
                let open = tracked.open_pairs(hotkey);
                tracked.unsure.extend(open);
            }
        }
    }

    fn remember(&mut self, id: String, at: UnixMs) {
        if self.booked.len() >= MOST_BOOKED
            && let Some(oldest) = self.booked.pop_front()
        {
            self.booked_set.remove(&oldest);
        }
        self.booked_set.insert(id.clone());
        self.booked.push_back(id);
        self.last_ack_ms = self.last_ack_ms.max(Some(at));
    }

    fn book(
        &mut self,
        rules: &RuleSets,
        hotkey: &str,
        order: &Order,
        market: &Market,
        now_ms: UnixMs,
    ) -> Result<(), Refusal> {
        let Some(tracked) = self.accounts.get_mut(hotkey) else { return Ok(()) };
        let at = Context { rules: &rules.open, market, now_ms };
        match tracked.book.taken(hotkey, order, at) {
            Ok(_) | Err(Refusal::FilledWithoutBracket { .. }) => Ok(()),
            Err(refusal) => Err(refusal),
        }
    }

    /// An order of one pair.
    fn one_pair(
        &mut self,
        rules: &RuleSets,
        hotkey: &str,
        mut order: Order,
        pair: &TradePairId,
        told: Option<Quote>,
        at_ms: UnixMs,
    ) {
        let at_market = order.execution == ExecutionType::Market;
        let mut market = Market::new();
        if at_market {
            let price = self.price_of(rules, hotkey, &mut order, pair, told, at_ms);
            let Some(tracked) = self.accounts.get_mut(hotkey) else { return };
            match price {
                Price::Known(quote) => drop(market.set(pair.clone(), Quote { at_ms, ..quote })),
                Price::Unit => drop(market.set(pair.clone(), unit_quote(at_ms))),
                Price::Missing => {
                    tracked.unsure.insert(pair.clone());
                    return;
                }
            }
        }
        let booked = self.book(rules, hotkey, &order, &market, at_ms);
        let Some(tracked) = self.accounts.get_mut(hotkey) else { return };
        if let Err(refusal) = &booked {
            tracing::debug!(%pair, code = refusal.code(), "taken by a validator, but not by our book: {refusal}");
            tracked.unsure.insert(pair.clone());
        }
        let rests = tracked.rests(hotkey, pair);
        if rests || !at_market {
            tracked.unsure.insert(pair.clone());
        }
        if tracked.side(hotkey, pair).is_none() {
            tracked.unpriced.remove(pair);
        }
        if at_market && order.order_type == Some(OrderType::Flat) && !rests && booked.is_ok() {
            tracked.unsure.remove(pair);
        }
    }

    /// At which price a market order is booked. A quantity becomes a value where the position is
    /// kept at a price of 1.
    fn price_of(
        &mut self,
        rules: &RuleSets,
        hotkey: &str,
        order: &mut Order,
        pair: &TradePairId,
        told: Option<Quote>,
        at_ms: UnixMs,
    ) -> Price {
        let last = self.prices.get(pair).copied();
        let fresh = last.filter(|quote| (at_ms - quote.at_ms).abs() <= FRESH_MS);
        let Some(tracked) = self.accounts.get_mut(hotkey) else { return Price::Missing };
        let side = tracked.side(hotkey, pair);
        let reduces = side.is_some_and(|side| order.order_type != Some(side));
        if side.is_some() && tracked.unpriced.contains(pair) {
            tracked.unknown_results += u64::from(reduces);
            if let Some(Size::Quantity(quantity)) = order.size
                && order.order_type != Some(OrderType::Flat)
            {
                let quote = told.or(fresh);
                let value = quote
                    .zip(rules.real.pair(pair))
                    .and_then(|(quote, pair)| value_of(&rules.real, pair, &quote, quantity));
                let Some(value) = value else { return Price::Missing };
                order.size = Some(Size::Value(value));
            }
            return Price::Unit;
        }
        if let Some(quote) = told.or(fresh) {
            return Price::Known(quote);
        }
        if side.is_some() {
            tracked.unknown_results += u64::from(reduces);
            let guess = last.or_else(|| tracked.last_fill(hotkey, pair, at_ms));
            return guess.map_or(Price::Missing, Price::Known);
        }
        if order.order_type == Some(OrderType::Flat) {
            return Price::Unit;
        }
        if matches!(order.size, Some(Size::Quantity(_))) {
            return Price::Missing;
        }
        tracked.unpriced.insert(pair.clone());
        Price::Unit
    }

    fn flat_all(&mut self, rules: &RuleSets, hotkey: &str, order: &Order, at_ms: UnixMs) {
        let Some(tracked) = self.accounts.get_mut(hotkey) else { return };
        let open: Vec<TradePairId> =
            tracked.book.account(hotkey).map_or_else(Vec::new, |account| {
                account.open().into_iter().map(|position| position.pair.clone()).collect()
            });
        if !order.uuid.trim().eq_ignore_ascii_case("ALL") {
            // The network's positions have uuids of their own.
            tracked.unsure.extend(open);
            return;
        }
        let mut market = Market::new();
        for pair in &open {
            let last = self.prices.get(pair).copied();
            let fresh = last.filter(|quote| (at_ms - quote.at_ms).abs() <= FRESH_MS);
            let quote = if tracked.unpriced.contains(pair) {
                tracked.unknown_results += 1;
                unit_quote(at_ms)
            } else if let Some(quote) = fresh {
                quote
            } else {
                tracked.unknown_results += 1;
                let guess = last.or_else(|| tracked.last_fill(hotkey, pair, at_ms));
                guess.unwrap_or(unit_quote(at_ms))
            };
            market.set(pair.clone(), Quote { at_ms, ..quote });
        }
        let booked = self.book(rules, hotkey, order, &market, at_ms);
        let Some(tracked) = self.accounts.get_mut(hotkey) else { return };
        if booked.is_err() {
            tracked.unsure.extend(open);
            return;
        }
        tracked.unpriced.clear();
        let unsure = std::mem::take(&mut tracked.unsure);
        tracked.unsure = unsure.into_iter().filter(|pair| tracked.rests(hotkey, pair)).collect();
    }

    /// Takes a price; false when it is older than the last, or cannot be traded on.
    pub(super) fn price(&mut self, rules: &RuleSets, pair: &TradePairId, quote: Quote) -> bool {
        if !self.prices.set(pair.clone(), quote) {
            return false;
        }
        for (hotkey, tracked) in &mut self.accounts {
            if tracked.unpriced.contains(pair) {
                continue;
            }
            tracked.losses.roll(tracked.book.account(hotkey), quote.at_ms);
            tracked.book.on_price(&rules.real, pair, quote);
            tracked.settle(hotkey, rules);
        }
        true
    }

    /// The distances of one account, the nearest first, and what they lack.
    pub(super) fn distances(
        &mut self,
        rules: &RuleSets,
        settings: &GuardSettings,
        hotkey: &str,
        now: UnixMs,
    ) -> (Vec<Distance>, Vec<Unjudged>) {
        let prices = std::mem::take(&mut self.prices);
        let tracked = self.tracked(hotkey, rules, settings);
        tracked.losses.roll(tracked.book.account(hotkey), now);
        let account = tracked.book.account(hotkey);
        let old = |pair: &TradePairId| {
            tracked.unpriced.contains(pair)
                || prices.get(pair).is_none_or(|quote| now - quote.at_ms > FRESH_MS)
        };
        let open = account.map(Account::open).unwrap_or_default();
        let lacking: Vec<&str> =
            open.iter().filter(|p| old(p.pair)).map(|p| p.pair.as_str()).collect();
        let mut unjudged = Vec::new();
        let mut lacks = |why: String| unjudged.push(Unjudged { check: "drawdown".to_owned(), why });
        if !lacking.is_empty() {
            lacks(format!(
                "no price of {} of the last 15 minutes is known, so the gains of these positions are not reckoned; give prices with --guard.prices",
                lacking.join(", ")
            ));
        }
        if tracked.unknown_results > 0 {
            lacks(format!(
                "what {} earlier orders realised is not known, because no price was known then",
                tracked.unknown_results
            ));
        }
        let estimated = !unjudged.is_empty() || !tracked.unsure.is_empty();
        let (limits, challenge) = (&rules.limits, settings.challenge);
        let found = tracked.losses.distances(account, limits, challenge, estimated, now);
        self.prices = prices;
        (found, unjudged)
    }

    /// The nearest distance per rule over all accounts.
    pub(super) fn all_distances(
        &mut self,
        rules: &RuleSets,
        settings: &GuardSettings,
        now: UnixMs,
    ) -> (Vec<Distance>, Vec<Unjudged>) {
        let mut hotkeys: Vec<String> = self.accounts.keys().cloned().collect();
        if hotkeys.is_empty() {
            hotkeys.push(super::OWN.to_owned());
        }
        let mut found: Vec<Distance> = Vec::new();
        let mut unjudged = Vec::new();
        for hotkey in hotkeys {
            let (distances, lacking) = self.distances(rules, settings, &hotkey, now);
            unjudged.extend(lacking);
            for distance in distances {
                match found.iter_mut().find(|d| d.rule == distance.rule) {
                    Some(known) if known.points_left <= distance.points_left => {}
                    Some(known) => *known = distance,
                    None => found.push(distance),
                }
            }
        }
        found.sort_by(|a, b| a.points_left.total_cmp(&b.points_left));
        (found, unjudged)
    }
}
