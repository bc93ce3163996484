//! Laws that hold for every sequence of orders and prices on paper.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::float_cmp, reason = "tests")]

use std::sync::OnceLock;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use ptn_core::order::{ExecutionType, OrderType};
use ptn_core::paper::account::{Account, Answer, Resting};
use ptn_core::paper::book::Book;
use ptn_core::paper::market::Quote;
use ptn_core::paper::order::{Bracket, Order, Size, Trailing};
use ptn_core::paper::rules::PaperRules;
use ptn_core::paper::validator::{PaperValidator, ValidatorState};
use ptn_core::rules::Era;
use ptn_core::trade_pair::TradePairId;

const START_MS: i64 = 1_780_000_000_000;
const HOTKEY: &str = "miner";

fn pairs(era: Era) -> [TradePairId; 3] {
    let ids = match era {
        Era::Y2024 => ["BTCUSD", "ETHUSD", "EURUSD"],
        _ => ["BTCUSDC", "ETHUSDC", "EURUSD"],
    };
    ids.map(TradePairId::from)
}

/// One thing that happens, some time after the one before.
#[derive(Debug, Clone)]
struct Step {
    wait_ms: i64,
    pair: usize,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    Price(f64),
    Market(OrderType, f64, bool),
    Limit(OrderType, f64, f64),
    Stop(OrderType, f64, f64),
    Bracket(f64),
    Cancel,
    FlatAll,
}

fn side() -> impl Strategy<Value = OrderType> {
    prop_oneof![Just(OrderType::Long), Just(OrderType::Short), Just(OrderType::Flat)]
}

fn what() -> impl Strategy<Value = What> {
    let price = 0.5..2.0_f64;
    prop_oneof![
        6 => price.clone().prop_map(What::Price),
        6 => (side(), 0.001..3.0_f64, any::<bool>())
            .prop_map(|(side, size, bracket)| What::Market(side, size, bracket)),
        1 => (side(), 0.01..1.0_f64, price.clone()).prop_map(|(s, x, p)| What::Limit(s, x, p)),
        1 => (side(), 0.01..1.0_f64, price.clone()).prop_map(|(s, x, p)| What::Stop(s, x, p)),
        1 => price.prop_map(What::Bracket),
        1 => Just(What::Cancel),
        1 => Just(What::FlatAll),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let wait = prop_oneof![4 => 0..200_000_i64, 1 => 0..30_000_000_i64];
    let step =
        (wait, 0..3_usize, what()).prop_map(|(wait_ms, pair, what)| Step { wait_ms, pair, what });
    prop::collection::vec(step, 1..60)
}

/// What a step does at a price level.
enum Deed {
    Price(TradePairId, Quote),
    Order(Order),
}

fn deed(era: Era, n: usize, now_ms: i64, step: &Step, scale: f64) -> Deed {
    let pair = pairs(era)[step.pair].clone();
    let uuid = format!("u{n}");
    let order = |execution, side, size: f64, price: f64| Order {
        execution,
        limit_price: Some(price * scale),
        stop_price: Some(price * scale),
        stop_condition: Some(ptn_core::order::StopCondition::Gte),
        ..Order::market(uuid.clone(), pair.clone(), side, Some(Size::Leverage(size)))
    };
    Deed::Order(match step.what {
        What::Price(price) => {
            let quote = Quote { slippage: 0.0003, ..Quote::last(price * scale, now_ms) };
            return Deed::Price(pair, quote);
        }
        What::Market(side, size, bracket) => {
            let trailing = bracket.then_some(Bracket {
                trailing: Some(Trailing::Percent(0.05)),
                ..Bracket::default()
            });
            let brackets = trailing.into_iter().filter(|_| era == Era::Y2026).collect();
            Order { brackets, ..order(ExecutionType::Market, side, size, 1.0) }
        }
        What::Limit(side, size, price) => order(ExecutionType::Limit, side, size, price),
        What::Stop(side, size, price) => order(ExecutionType::StopLimit, side, size, price),
        What::Bracket(price) => Order {
            size: None,
            bracket: Bracket { stop_loss: Some(price * scale), ..Bracket::default() },
            ..order(ExecutionType::Bracket, OrderType::Flat, 0.0, price)
        },
        What::Cancel => Order {
            uuid: "ALL".to_owned(),
            pair: None,
            ..order(ExecutionType::LimitCancel, OrderType::Flat, 0.0, 1.0)
        },
        What::FlatAll => Order::flat_all("ALL"),
    })
}

/// Runs the steps; `between` sees the book after each.
fn run(
    rules: &PaperRules,
    steps: &[Step],
    scale: f64,
    mut between: impl FnMut(&mut Book),
) -> (Book, i64) {
    let (mut book, mut now_ms) = (Book::new(), START_MS);
    for pair in pairs(rules.era()) {
        book.on_price(rules, &pair, Quote::last(scale, now_ms));
    }
    for (n, step) in steps.iter().enumerate() {
        now_ms += step.wait_ms;
        match deed(rules.era(), n, now_ms, step, scale) {
            Deed::Price(pair, quote) => drop(book.on_price(rules, &pair, quote)),
            Deed::Order(order) => {
                if rules.era() == Era::Y2026 || order.execution == ExecutionType::Market {
                    drop(book.receive(rules, HOTKEY, &order, now_ms));
                }
            }
        }
        between(&mut book);
    }
    (book, now_ms)
}

/// Rules with markets that never close and senders that are never too fast, so that the steps get
/// somewhere.
fn rules(era: Era) -> &'static PaperRules {
    static BOTH: OnceLock<[PaperRules; 2]> = OnceLock::new();
    let both = BOTH.get_or_init(|| {
        [Era::Y2024, Era::Y2026].map(|era| {
            let mut rules = PaperRules::load(era).unwrap();
            rules.hours = rules.hours.always_open();
            rules.rate_limit.max_requests = u32::MAX;
            rules
        })
    });
    both.iter().find(|rules| rules.era() == era).unwrap()
}

/// The same steps at a whole validator, each in its time, with a second hotkey that only holds;
/// `between` may let time pass up to the next step, ask, or bring the validator back from a text.
fn stand(
    era: Era,
    steps: &[Step],
    mut between: impl FnMut(PaperValidator, i64) -> PaperValidator,
) -> ValidatorState {
    let mut validator = PaperValidator::new(era, START_MS).unwrap();
    validator.without_pacing();
    let mut now_ms = START_MS;
    for pair in pairs(era) {
        validator.price(now_ms, &pair, Quote::last(1.0, now_ms)).unwrap();
    }
    let [pair, ..] = pairs(era);
    let held = Order::market("held", pair, OrderType::Long, Some(Size::Leverage(0.5)));
    validator.order(now_ms, "holder", &held).unwrap().unwrap();
    for (n, step) in steps.iter().enumerate() {
        let from_ms = now_ms;
        now_ms += step.wait_ms;
        validator = between(validator, from_ms + step.wait_ms / 2);
        validator.close_rounds(now_ms).unwrap();
        match deed(era, n, now_ms, step, 1.0) {
            Deed::Price(pair, quote) => drop(validator.price(now_ms, &pair, quote).unwrap()),
            Deed::Order(order) => {
                if era == Era::Y2026 || order.execution == ExecutionType::Market {
                    drop(validator.order(now_ms, HOTKEY, &order).unwrap());
                }
            }
        }
    }
    let end_ms = now_ms + 8 * 24 * 3_600_000;
    validator.close_rounds(end_ms).unwrap();
    validator.state()
}

fn back(validator: &PaperValidator) -> PaperValidator {
    let text = serde_json::to_string(&validator.state()).unwrap();
    let mut back = PaperValidator::resume(serde_json::from_str(&text).unwrap()).unwrap();
    back.without_pacing();
    back
}

fn fees_paid(book: &Book) -> f64 {
    match book.account(HOTKEY) {
        Some(Account::Y2026(account)) => account.fees_paid(),
        _ => 0.0,
    }
}

/// Otherwise the laws would say little.
#[test]
fn the_steps_get_somewhere() {
    let mut runner = TestRunner::deterministic();
    for era in [Era::Y2024, Era::Y2026] {
        let (mut closed, mut rested) = (0, 0);
        for _ in 0..200 {
            let steps = steps().new_tree(&mut runner).unwrap().current();
            let (book, _) = run(rules(era), &steps, 1.0, |_| {});
            closed += book.account(HOTKEY).map_or(0, |account| account.closed().len());
            if let Some(Account::Y2026(account)) = book.account(HOTKEY) {
                let orders = account.closed().iter().flat_map(|position| &position.orders);
                rested += orders.filter(|o| o.execution != ExecutionType::Market).count();
            }
        }
        assert!(closed > 100, "{era}: {closed}");
        assert!(rested > 50 || era == Era::Y2024, "{rested}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn one_go_and_step_by_step_agree(steps in steps()) {
        for era in [Era::Y2024, Era::Y2026] {
            let rules = rules(era);
            let (whole, _) = run(rules, &steps, 1.0, |_| {});
            let (stepwise, _) = run(rules, &steps, 1.0, |book| {
                let stored = serde_json::to_string(book).unwrap();
                *book = serde_json::from_str(&stored).unwrap();
            });
            prop_assert_eq!(&whole, &stepwise);
        }
    }

    #[test]
    fn a_check_changes_nothing_and_tells_the_truth(steps in steps()) {
        for era in [Era::Y2024, Era::Y2026] {
            let rules = rules(era);
            let (mut book, now_ms) = run(rules, &steps, 1.0, |_| {});
            for (n, step) in steps.iter().enumerate() {
                let Deed::Order(order) = deed(era, 1_000 + n, now_ms, step, 1.0) else { continue };
                let before = book.clone();
                let said = book.check(rules, HOTKEY, &order, now_ms);
                prop_assert_eq!(&book, &before);
                prop_assert_eq!(said, book.receive(rules, HOTKEY, &order, now_ms));
            }
        }
    }

    #[test]
    fn closing_everything_leaves_no_exposure(steps in steps()) {
        for era in [Era::Y2024, Era::Y2026] {
            let rules = rules(era);
            let (mut book, now_ms) = run(rules, &steps, 1.0, |_| {});
            let later = now_ms + 3_600_000;
            let open: Vec<TradePairId> = book
                .account(HOTKEY)
                .map(|account| account.open().iter().map(|p| p.pair.clone()).collect())
                .unwrap_or_default();
            for pair in &open {
                let price = book.market().get(pair).map_or(1.0, |quote| quote.price);
                book.on_price(rules, pair, Quote::last(price, later));
            }
            if era == Era::Y2026 {
                let answer = book.receive(rules, HOTKEY, &Order::flat_all("ALL"), later).unwrap();
                let all_closed =
                    matches!(&answer.answer, Answer::Flattened { failed, .. } if failed.is_empty());
                prop_assert!(all_closed, "{:?}", answer);
            } else {
                for pair in open {
                    let none = Some(Size::Leverage(0.0));
                    let flat = Order::market("f", pair, OrderType::Flat, none);
                    // A position may have been liquidated by the last price.
                    drop(book.receive(rules, HOTKEY, &flat, later));
                }
            }
            let Some(account) = book.account(HOTKEY) else { continue };
            prop_assert!(account.open().is_empty());
            if let Account::Y2026(account) = account {
                prop_assert_eq!(account.unrealized_pnl(), 0.0);
                prop_assert_eq!(account.equity(), account.balance());
                prop_assert!(!account.resting().iter().any(Resting::is_bracket));
            }
        }
    }

    #[test]
    fn fees_are_never_negative(steps in steps()) {
        let rules = rules(Era::Y2026);
        let mut paid = 0.0;
        let (book, _) = run(rules, &steps, 1.0, |book| {
            assert!(fees_paid(book) >= paid);
            paid = fees_paid(book);
        });
        if let Some(Account::Y2026(account)) = book.account(HOTKEY) {
            let all = account.closed().iter().chain(account.open());
            let fees: Vec<f64> = all.flat_map(|p| p.fees.iter().map(|fee| fee.usd)).collect();
            prop_assert!(fees.iter().all(|usd| *usd > 0.0));
            let sum: f64 = fees.iter().sum();
            prop_assert!((sum - paid).abs() <= 1e-9 * paid.max(1.0), "{} {}", sum, paid);
        }
        let (book, _) = run(self::rules(Era::Y2024), &steps, 1.0, |_| {});
        if let Some(account) = book.account(HOTKEY) {
            for position in account.open().iter().chain(&account.closed()) {
                prop_assert!(position.return_at_close <= position.current_return);
            }
        }
    }

    #[test]
    fn scaling_all_prices_scales_no_return(steps in steps(), scale in 0.25..4.0_f64) {
        // Steps of quantities stay tiny against the orders, and caps never bind.
        let only_crypto = |step: &Step| Step { pair: step.pair % 2, ..step.clone() };
        let steps: Vec<Step> = steps
            .iter()
            .filter(|step| matches!(step.what, What::Price(_) | What::Market(..)))
            .map(only_crypto)
            .collect();
        for era in [Era::Y2024, Era::Y2026] {
            let rules = rules(era);
            let (plain, _) = run(rules, &steps, 1.0, |_| {});
            let (scaled, _) = run(rules, &steps, scale, |_| {});
            let Some((a, b)) = plain.account(HOTKEY).zip(scaled.account(HOTKEY)) else { continue };
            let (x, y) = (a.total_return(), b.total_return());
            prop_assert!((x - y).abs() <= 1e-6 * x.abs().max(1.0), "{:?}: {} {}", era, x, y);
            prop_assert_eq!(a.closed().len(), b.closed().len());
        }
    }
}

proptest! {
    // Each case runs a whole validator several times over.
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// A validator that is asked and woken all the time, and one that was brought back from its
    /// state before every event, are the one that ran in one go: positions, eliminations, rounds.
    #[test]
    fn live_and_brought_back_and_in_one_go_agree(steps in steps()) {
        for era in [Era::Y2024, Era::Y2026] {
            let whole = stand(era, &steps, |validator, _| validator);
            let live = stand(era, &steps, |mut validator, now_ms| {
                validator.close_rounds(now_ms).unwrap();
                assert!(validator.leaderboard().len() <= 2);
                validator
            });
            prop_assert_eq!(&whole, &live);
            let restarted = stand(era, &steps, |validator, _| back(&validator));
            prop_assert_eq!(&whole, &restarted);
        }
    }

    /// Every round of weights of 2026 sums to 1, what is burned included.
    #[test]
    fn weights_sum_to_one(steps in steps()) {
        let state = stand(Era::Y2026, &steps, |validator, _| validator);
        let validator = PaperValidator::resume(state).unwrap();
        let round = validator.round().unwrap();
        prop_assert!((round.weights.sum() - 1.0).abs() < 1e-12, "{:?}", round);
        prop_assert!(round.weights.miners.iter().all(|(_, weight)| (0.0..=1.0).contains(weight)));
    }
}
