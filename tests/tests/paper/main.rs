//! What a paper validator answers, order by order, in the words of the network.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::float_cmp,
    reason = "tests"
)]

mod gates;
mod market;
mod orders;
mod refusals;
mod resting;

use std::sync::OnceLock;

use ptn_core::order::OrderType;
use ptn_core::paper::account::{Account, Account2026, AccountSettings, Answer, Caps, Outcome};
use ptn_core::paper::book::Book;
use ptn_core::paper::market::Quote;
use ptn_core::paper::order::{Order, Size};
use ptn_core::paper::position::Fill;
use ptn_core::paper::refusal::Refusal;
use ptn_core::paper::rules::PaperRules;
use ptn_core::rules::Era;
use ptn_core::trade_pair::TradePairId;

/// 2026-05-28 20:26:40 UTC, a Thursday after the New York session.
const NOW: i64 = 1_780_000_000_000;
const MINER: &str = "5Miner";

fn rules(era: Era) -> &'static PaperRules {
    static BOTH: OnceLock<[PaperRules; 2]> = OnceLock::new();
    let both = BOTH.get_or_init(|| [Era::Y2024, Era::Y2026].map(|e| PaperRules::load(e).unwrap()));
    both.iter().find(|rules| rules.era() == era).unwrap()
}

/// A validator, one miner, and a clock that is set by hand.
struct Desk {
    rules: &'static PaperRules,
    book: Book,
    now_ms: i64,
    sent: u32,
}

impl Desk {
    fn new(era: Era) -> Self {
        Self { rules: rules(era), book: Book::new(), now_ms: NOW, sent: 0 }
    }

    /// An account of 100,000 USD without caps.
    fn uncapped() -> Self {
        let mut desk = Self::new(Era::Y2026);
        let caps = Caps::Fixed { positional: None, portfolio: None };
        desk.open(AccountSettings { caps, ..AccountSettings::of_size(100_000.0) });
        desk
    }

    fn open(&mut self, settings: AccountSettings) {
        self.book.open_account(self.rules, MINER, settings);
    }

    fn later(&mut self, ms: i64) -> &mut Self {
        self.now_ms += ms;
        self
    }

    fn price(&mut self, pair: &str, price: f64) -> Vec<ptn_core::paper::account::Event> {
        self.quote(pair, Quote::last(price, self.now_ms))
    }

    fn quote(&mut self, pair: &str, quote: Quote) -> Vec<ptn_core::paper::account::Event> {
        let mut all = self.book.on_price(self.rules, &pair.into(), quote);
        all.pop().map(|(_, events)| events).unwrap_or_default()
    }

    fn send(&mut self, order: &Order) -> Result<Outcome, Refusal> {
        self.book.receive(self.rules, MINER, order, self.now_ms)
    }

    fn market(&mut self, pair: &str, side: OrderType, size: Size) -> Result<Outcome, Refusal> {
        self.sent += 1;
        let order = Order::market(format!("m{}", self.sent), pair, side, Some(size));
        self.send(&order)
    }

    /// A market order that must be filled.
    #[track_caller]
    fn fill(&mut self, pair: &str, side: OrderType, size: Size) -> Fill {
        match self.market(pair, side, size).unwrap().answer {
            Answer::Filled { fill } => fill,
            other => panic!("not filled: {other:?}"),
        }
    }

    fn account(&self) -> &Account2026 {
        match self.book.account(MINER) {
            Some(Account::Y2026(account)) => account,
            other => panic!("no account of 2026: {other:?}"),
        }
    }
}

fn pair(id: &str) -> TradePairId {
    id.into()
}
