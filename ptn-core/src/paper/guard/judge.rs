//! The verdict on one signal.
//!
//! First the gates (pair, hours, halts), which need no knowledge of positions; then the account,
//! then the pace. A refusal of the account is only as good as the book: while own orders are under
//! way, or something may have happened that nobody told, it is shown as an alert.

use super::state::{State, Tracked, unit_quote, value_of};
use super::words::action;
use super::{GuardSettings, RuleSets, near};
use crate::guard::{Concern, GuardVerdict, Severity, Unjudged};
use crate::order::{ExecutionType, OrderType};
use crate::paper::account::{Answer, Context};
use crate::paper::leveraged::Added;
use crate::paper::market::{Market, Quote};
use crate::paper::order::{Order, Size};
use crate::paper::refusal::Refusal;
use crate::rules::Era;
use crate::signal::Signal;
use crate::store::UnixMs;
use crate::trade_pair::{TradePairClass, TradePairId};

/// What one judgement is about.
struct Case<'a> {
    rules: &'a RuleSets,
    settings: &'a GuardSettings,
    hotkey: &'a str,
    now: UnixMs,
    /// Own orders that are not decided.
    under_way: usize,
    /// Whether the history was read.
    loaded: bool,
    verdict: GuardVerdict,
}

impl State {
    pub(super) fn judge(
        &mut self,
        rules: &RuleSets,
        settings: &GuardSettings,
        hotkey: &str,
        signal: &Signal,
        now: UnixMs,
    ) -> GuardVerdict {
        if self.was_booked(signal.id()) {
            return GuardVerdict::default();
        }
        let pair = signal.trade_pair();
        let (under_way, may_close) = self.others_under_way(signal);
        let (drawdown, lacking) = self.distances(rules, settings, hotkey, now);
        let loaded = self.loaded;
        let quote = pair.as_ref().and_then(|pair| self.prices.get(pair)).copied();
        let tracked = self.tracked(hotkey, rules, settings);
        let unsure =
            !loaded || may_close || pair.as_ref().is_some_and(|pair| tracked.unsure.contains(pair));
        let reduces = reduces(tracked, hotkey, signal);
        let closes = reduces || unsure;
        let verdict = GuardVerdict { closes, drawdown, unjudged: lacking, ..Default::default() };
        let mut case = Case { rules, settings, hotkey, now, under_way, loaded, verdict };
        if !loaded {
            let why = "what was acknowledged before the start is still being read";
            case.lacks("history", why.to_owned());
        }
        match Order::from_signal(signal) {
            Ok(order) => case.judge(tracked, order, quote),
            Err(refusal) => case.refused(&refusal),
        }
        if !reduces && let Some(alert) = near(&case.verdict.drawdown, settings.alert_points) {
            case.verdict.concerns.push(alert);
        }
        let mut verdict = case.verdict;
        verdict.concerns.sort_by_key(|concern| std::cmp::Reverse(concern.severity));
        verdict
    }
}

/// Whether a signal closes, reduces or cancels, by our own book.
fn reduces(tracked: &Tracked, hotkey: &str, signal: &Signal) -> bool {
    let kind = signal.order_type();
    match signal.execution_type() {
        ExecutionType::FlatAll | ExecutionType::LimitCancel | ExecutionType::Bracket => true,
        _ if kind == Some(OrderType::Flat) => true,
        // An opposite order that is too large closes, and the network drops the rest.
        _ => signal.trade_pair().is_some_and(|pair| {
            let side = tracked.side(hotkey, &pair);
            side.is_some() && kind.is_some() && side != kind
        }),
    }
}

impl Case<'_> {
    fn era(&self) -> Era {
        self.rules.real.era()
    }

    fn lacks(&mut self, check: &str, why: String) {
        self.verdict.unjudged.push(Unjudged { check: check.to_owned(), why });
    }

    fn add(&mut self, severity: Severity, code: &str, text: String, action: String) {
        if !self.verdict.concerns.iter().any(|c| c.code == code && c.severity >= severity) {
            let code = code.to_owned();
            self.verdict.concerns.push(Concern { severity, code, text, action, wait_ms: None });
        }
    }

    fn refused(&mut self, refusal: &Refusal) {
        let action = action(refusal, self.era());
        let text = self.settings.named(&refusal.to_string());
        self.add(Severity::Refused, refusal.code(), text, action);
    }

    /// A refusal that rests on our own book.
    fn refused_by_account(&mut self, tracked: &Tracked, refusal: &Refusal) {
        let guess = if !self.loaded {
            Some("what was acknowledged before is not known yet".to_owned())
        } else if self.under_way > 0 {
            Some(format!("{} earlier orders are still under way", self.under_way))
        } else if !tracked.unsure.is_empty() {
            let pairs: Vec<&str> = tracked.unsure.iter().map(TradePairId::as_str).collect();
            Some(format!("the positions of {} may be other ones", pairs.join(", ")))
        } else if tracked.unknown_results > 0 && matches!(refusal, Refusal::NoBuyingPower { .. }) {
            Some("what earlier orders realised is not known".to_owned())
        } else {
            None
        };
        match guess {
            None => self.refused(refusal),
            Some(guess) => {
                let text = self.settings.named(&format!("{refusal} (not certain: {guess})"));
                let action = action(refusal, self.era());
                self.add(Severity::Alert, refusal.code(), text, action);
            }
        }
    }

    fn judge(&mut self, tracked: &Tracked, mut order: Order, quote: Option<Quote>) {
        if let Some(pair) = &order.pair
            && self.rules.real.pair(pair).is_none()
        {
            let why = format!("{pair} is not in the catalogue; validators judge it");
            return self.lacks("pair", why);
        }
        self.gates(tracked, &order);
        self.pace(tracked, &order);
        let market = match self.market(tracked, &mut order, quote) {
            Some(market) => market,
            None => return,
        };
        self.cooldown(tracked, &order, &market);
        let at = Context { rules: &self.rules.open, market: &market, now_ms: self.now };
        match tracked.book.check_account(self.hotkey, &order, at) {
            Ok(outcome) => self.taken(tracked, &outcome.answer),
            Err(refusal) if self.not_our_business(tracked, &order, &refusal) => {}
            Err(refusal @ Refusal::FilledWithoutBracket { .. }) => {
                // The network says that it failed, and fills it.
                let action = action(&refusal, self.era());
                self.add(Severity::Alert, refusal.code(), refusal.to_string(), action);
            }
            Err(refusal) if by_itself(&refusal) => self.refused(&refusal),
            Err(refusal) => self.refused_by_account(tracked, &refusal),
        }
    }

    /// What holds whatever the positions are.
    fn gates(&mut self, tracked: &Tracked, order: &Order) {
        let gates = tracked.book.gates(&self.rules.real, self.hotkey, order, self.now);
        if let Err(refusal) = gates {
            self.refused(&refusal);
        }
        let Some(pair) = order.pair.as_ref().and_then(|id| self.rules.real.pair(id)) else {
            return;
        };
        if self.era() == Era::Y2024 {
            // A validator of 2024 knows closed markets by their missing prices only.
            if !self.rules.real.hours.is_open(pair.class, &pair.source, self.now)
                && pair.class != TradePairClass::Indices
            {
                self.refused(&Refusal::NoFreshPrice { pair: pair.id.clone() });
            }
            if self.settings.halted.contains(&pair.id) {
                self.refused(&Refusal::CategoryHalted { pair: pair.id.clone() });
            }
        }
    }

    /// The prices to judge at; nothing when the account cannot judge the order without one.
    fn market(
        &mut self,
        tracked: &Tracked,
        order: &mut Order,
        quote: Option<Quote>,
    ) -> Option<Market> {
        let mut market = Market::new();
        if order.execution == ExecutionType::FlatAll {
            return Some(tracked.book.market().clone());
        }
        let Some(pair) = order.pair.clone() else { return Some(market) };
        let unpriced = tracked.unpriced.contains(&pair);
        let now = self.now;
        match quote {
            Some(quote) if !unpriced => {
                market.set(pair, Quote { at_ms: now, ..quote });
                return Some(market);
            }
            _ if order.execution != ExecutionType::Market => return Some(market),
            _ => {}
        }
        if !order.brackets.is_empty() {
            let why =
                format!("no price of {pair} is known to compare stop loss and take profit with");
            self.lacks("brackets", why);
            order.brackets.clear();
        }
        if let Some(Size::Quantity(quantity)) = order.size
            && order.order_type != Some(OrderType::Flat)
        {
            let rules = &self.rules.real;
            let value = quote
                .zip(rules.pair(&pair))
                .and_then(|(quote, pair)| value_of(rules, pair, &quote, quantity));
            let Some(value) = value else {
                let why = format!(
                    "no price of {pair} is known to value the quantity with; give prices with --guard.prices"
                );
                self.lacks("size", why);
                return None;
            };
            order.size = Some(Size::Value(value));
        }
        market.set(pair, unit_quote(now));
        Some(market)
    }

    /// Refusals that a price of 1 makes up: steps and smallest positions in lots or shares.
    fn not_our_business(&mut self, tracked: &Tracked, order: &Order, refusal: &Refusal) -> bool {
        let Some(pair) = order.pair.as_ref().and_then(|id| self.rules.real.pair(id)) else {
            return false;
        };
        let in_units = matches!(pair.class, TradePairClass::Forex | TradePairClass::Equities)
            && matches!(refusal, Refusal::ZeroSize | Refusal::BelowMinimum { .. });
        let priced =
            tracked.book.market().get(&pair.id).is_some() && !tracked.unpriced.contains(&pair.id);
        let ours = in_units && !priced;
        if ours {
            let why = format!("no price of {} is known to count lots or shares with", pair.id);
            self.lacks("size", why);
        }
        ours
    }

    /// R1.
    fn pace(&mut self, tracked: &Tracked, order: &Order) {
        if order.only_closes() && self.settings.paced {
            // Closing orders go first, so that others wait instead.
            return;
        }
        if let Err(refusal) = tracked.book.pace(&self.rules.real, self.hotkey, self.now) {
            self.later(&refusal);
        }
    }

    /// R8.
    fn cooldown(&mut self, tracked: &Tracked, order: &Order, market: &Market) {
        let at = Context { rules: &self.rules.real, market, now_ms: self.now };
        let judged = tracked.book.check_account(self.hotkey, order, at);
        if let Err(refusal @ Refusal::Cooldown { .. }) = judged {
            self.later(&refusal);
        }
    }

    /// Too early: the engine waits by itself, or the network refuses.
    fn later(&mut self, refusal: &Refusal) {
        if !self.settings.paced {
            return self.refused(refusal);
        }
        let wait_ms = refusal.wait_ms().unwrap_or(0);
        #[expect(clippy::cast_precision_loss, reason = "waits are far below 2^53 ms")]
        let seconds = wait_ms as f64 / 1000.0;
        self.verdict.concerns.push(Concern {
            severity: Severity::Delayed,
            code: refusal.code().to_owned(),
            text: self.settings.named(&format!("it will be sent in {seconds:.1} s: {refusal}")),
            action: "nothing to do, the miner waits by itself".to_owned(),
            wait_ms: Some(wait_ms),
        });
    }

    /// An order that would be taken, but not as it was meant.
    fn taken(&mut self, tracked: &Tracked, answer: &Answer) {
        let sure = self.loaded && self.under_way == 0 && tracked.unsure.is_empty();
        match answer {
            Answer::NoPosition if sure => {
                let text =
                    "there is no position to close: the network would do nothing, with success";
                self.add(
                    Severity::Alert,
                    "no_position",
                    text.to_owned(),
                    "nothing needs to be closed".to_owned(),
                );
            }
            Answer::Leveraged { added: Added::ClampedToZero, .. } => {
                let text = "the position is at its leverage limit: the network would ignore the order, with success";
                let action = "reduce or close positions first".to_owned();
                self.add(Severity::Alert, "ignored", text.to_owned(), action);
            }
            Answer::Filled { fill } => {
                if let Some(value) = fill.clamped_value {
                    let text = format!(
                        "a cap leaves room for {:.2} USD only: the network would cut the order to that",
                        value.abs()
                    );
                    let action = "send a smaller size, or reduce positions first".to_owned();
                    self.add(Severity::Alert, "clamped", text, action);
                }
            }
            _ => {}
        }
    }
}

/// Whether a refusal of the account is about the order alone.
fn by_itself(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::CategoryHalted { .. }
            | Refusal::LeverageRange { .. }
            | Refusal::SizeSign { .. }
            | Refusal::BadSignal { .. }
            | Refusal::RestingPrice { .. }
            | Refusal::BracketEmpty
            | Refusal::FlatLimit
            | Refusal::NoBracketEdits
            | Refusal::BracketSide { .. }
    )
}
