//! Live prices of Coinbase Exchange: its public `ticker` channel over a WebSocket.
//!
//! [`CoinbaseFeed`] keeps one connection and pushes what comes into a [`PriceSender`]; [`FeedWatch`]
//! shows how it does. The messages are those that the exchange documents for its market data feed:
//! `subscribe` is answered by `subscriptions`, then come `ticker` (a trade, with the best bid and ask) and `heartbeat`
//! (every second, for every product); `error` says why not. Messages of other types are passed over, as the exchange asks.
//! Which pair a product stands for is data (`data/prices.json`), and can be given.
//!
//! What must stay true: a connection that is silent, sends what nobody can read, or ends is replaced,
//! with growing pauses; every wait and every message is bounded; a price of a product is never older than the
//! one before. A product that the exchange does not know is left out, so that the others go on.

mod message;
mod socket;
mod status;

pub use status::{FeedProblem, FeedState, FeedStatus, FeedWatch, ProblemRow};

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use tokio::time::{Instant, timeout};

use super::{FeedUrl, PriceDefaults, PriceSender, Tick};
use crate::rules::RulesError;
use crate::store::{UnixMs, now_ms};
use crate::trade_pair::{TradePair, TradePairId};
use message::{Message, Ticker};
use socket::{Frame, Socket};
use status::Report;

/// Messages that nobody can read, one after the other, after which another connection is tried.
const MOST_UNREADABLE: u32 = 20;

/// Why there is no such feed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// Nothing to subscribe to.
    #[error(
        "none of the pairs is traded at Coinbase Exchange; give some of its products, such as BTC-USD for BTCUSDC"
    )]
    NoProducts,
    /// The built-in data.
    #[error(transparent)]
    Data(#[from] RulesError),
}

impl FeedError {
    /// A stable name.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoProducts => "feed_no_products",
            Self::Data(_) => "rules",
        }
    }
}

/// The pairs of every product, by the id of the product (`BTC-USD`).
pub type Products = BTreeMap<String, Vec<TradePairId>>;

/// What a feed is told.
#[derive(Clone)]
#[non_exhaustive]
pub struct CoinbaseSettings {
    /// Where the exchange is.
    pub url: FeedUrl,
    /// The products, and the pairs for which their prices stand.
    pub products: Products,
    /// For a connection with everything that belongs to it, and for every message that is sent.
    pub connect_timeout: Duration,
    /// After such a time without a message another connection is tried; a ping is sent at half of it.
    pub silence: Duration,
    /// The longest message, in bytes.
    pub most_message_bytes: usize,
    /// The first pause before another connection; it doubles up to `longest_pause`, and begins anew
    /// once there was a price. A random part is added.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    extra_roots: Vec<Vec<u8>>,
}

impl fmt::Debug for CoinbaseSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoinbaseSettings")
            .field("url", &self.url.origin())
            .field("products", &self.products.keys())
            .finish_non_exhaustive()
    }
}

impl CoinbaseSettings {
    /// The exchange itself, for these products.
    ///
    /// # Errors
    /// Without a product.
    pub fn new(products: Products) -> Result<Self, FeedError> {
        if products.is_empty() {
            return Err(FeedError::NoProducts);
        }
        Ok(Self {
            url: PriceDefaults::load()?.coinbase_url().clone(),
            products,
            connect_timeout: Duration::from_secs(10),
            silence: Duration::from_secs(20),
            most_message_bytes: 64 * 1024,
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(30),
            extra_roots: Vec::new(),
        })
    }

    /// For those of these pairs that the exchange trades, by the built-in data: `BTC-USD` stands for
    /// `BTCUSD` and for `BTCUSDC`.
    ///
    /// # Errors
    /// When it trades none of them.
    pub fn for_pairs<'a>(
        pairs: impl IntoIterator<Item = &'a TradePair>,
    ) -> Result<Self, FeedError> {
        let defaults = PriceDefaults::load()?;
        let mut products = Products::new();
        for pair in pairs {
            if let Some(product) = defaults.coinbase_product(pair) {
                products.entry(product).or_default().push(pair.id.clone());
            }
        }
        Self::new(products)
    }

    /// Another address, such as a gateway that speaks the same messages.
    #[must_use]
    pub fn with_url(mut self, url: FeedUrl) -> Self {
        self.url = url;
        self
    }

    /// Trusts the certificates of another authority besides those of the system; DER.
    #[must_use]
    pub fn with_extra_root(mut self, certificate: Vec<u8>) -> Self {
        self.extra_roots.push(certificate);
        self
    }
}

/// A feed that has not begun: [`Self::run`] it in a task.
///
/// ```no_run
/// use ptn_core::paper::prices::coinbase::{CoinbaseFeed, CoinbaseSettings};
/// use ptn_core::paper::prices::pushed;
/// use ptn_core::rules::{Era, Rules};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let rules = Rules::load(Era::Y2026)?;
/// let (sender, mut prices) = pushed::channel(pushed::DEFAULT_PAIRS);
/// let settings = CoinbaseSettings::for_pairs(rules.catalogue.get("BTCUSDC"))?;
/// let feed = CoinbaseFeed::new(settings, sender);
/// let health = feed.watch(); // `health.now()` for a page
/// tokio::spawn(feed.run());
/// let first = prices.next().await;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct CoinbaseFeed {
    settings: CoinbaseSettings,
    sender: PriceSender,
    report: Report,
}

/// How a connection ended.
enum End {
    /// Nobody reads the prices.
    Unwanted,
    Problem(FeedProblem),
}

impl<E: Into<FeedProblem>> From<E> for End {
    fn from(problem: E) -> Self {
        Self::Problem(problem.into())
    }
}

impl CoinbaseFeed {
    /// A feed that will push into this channel.
    pub fn new(settings: CoinbaseSettings, sender: PriceSender) -> Self {
        let report = Report::new(settings.url.origin());
        Self { settings, sender, report }
    }

    /// Shows how it does, before it runs, while it does, and afterwards.
    pub fn watch(&self) -> FeedWatch {
        self.report.watch()
    }

    /// Runs until nobody reads the prices any more, which it sees at the next message, or after a silence
    /// or a pause; it may be dropped at any time.
    pub async fn run(self) {
        let new_pauses = || {
            let pauses = ExponentialBuilder::default().with_min_delay(self.settings.first_pause);
            let pauses = pauses.with_max_delay(self.settings.longest_pause);
            pauses.with_jitter().without_max_times().build()
        };
        let mut pauses = new_pauses();
        while !self.sender.is_closed() {
            let prices = self.report.prices();
            let End::Problem(problem) = self.connection().await else { break };
            if self.report.prices() > prices {
                pauses = new_pauses();
            }
            let pause = pauses.next().unwrap_or(self.settings.longest_pause);
            tracing::warn!(feed = "coinbase", code = problem.code(), ?pause, "{problem}");
            self.report.failed(&problem, pause);
            tokio::time::sleep(pause).await;
        }
        self.report.ended();
    }

    /// One connection, from its beginning to its end.
    async fn connection(&self) -> End {
        self.report.connecting();
        match self.stream().await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn stream(&self) -> Result<std::convert::Infallible, End> {
        let settings = &self.settings;
        let mut session = Session {
            socket: Socket::connect(settings).await?,
            products: settings.products.clone(),
            sequences: BTreeMap::new(),
            unreadable: 0,
        };
        self.report.connected();
        session.subscribe().await?;
        let mut last = Instant::now();
        let mut pinged = false;
        loop {
            let part = if pinged { settings.silence } else { settings.silence / 2 };
            let left = part.saturating_sub(last.elapsed());
            let frame = match timeout(left, session.socket.next()).await {
                Ok(frame) => frame?,
                Err(_) if pinged => {
                    return Err(FeedProblem::Silent { after: settings.silence }.into());
                }
                Err(_) => {
                    session.socket.ping().await?;
                    pinged = true;
                    continue;
                }
            };
            if self.sender.is_closed() {
                return Err(End::Unwanted);
            }
            // Heartbeats come every second, so a pong alone is no sign of a feed that works.
            let Frame::Text(text) = frame else { continue };
            (last, pinged) = (Instant::now(), false);
            self.message(&mut session, &text).await?;
        }
    }

    async fn message(&self, session: &mut Session, text: &str) -> Result<(), End> {
        let at_ms = now_ms();
        self.report.message(at_ms);
        let message = Message::read(text);
        if message.is_some() {
            session.unreadable = 0;
        }
        match message {
            Some(Message::Ticker(ticker)) => self.ticker(session, &ticker, at_ms)?,
            Some(Message::Subscriptions) => self.report.live(),
            Some(Message::Heartbeat | Message::Other) => {}
            Some(Message::Error(text)) => self.refusal(session, text).await?,
            None => {
                session.unreadable += 1;
                self.report.unreadable();
                if session.unreadable >= MOST_UNREADABLE {
                    return Err(FeedProblem::Unreadable { messages: MOST_UNREADABLE }.into());
                }
            }
        }
        Ok(())
    }

    fn ticker(&self, session: &mut Session, ticker: &Ticker, at_ms: UnixMs) -> Result<(), End> {
        let Some(pairs) = session.products.get(&ticker.product) else { return Ok(()) };
        let last = session.sequences.get(&ticker.product);
        if let Some(sequence) = ticker.sequence {
            if last.is_some_and(|last| sequence <= *last) {
                self.report.out_of_order();
                return Ok(());
            }
            session.sequences.insert(ticker.product.clone(), sequence);
        }
        // A clock of theirs that is ahead of ours must not make a price that lasts too long.
        let traded_ms = ticker.at_ms.map_or(at_ms, |traded_ms| traded_ms.min(at_ms));
        let (price, bid, ask) = (ticker.price, ticker.bid, ticker.ask);
        let tick =
            |pair: &TradePairId| Tick { at_ms: traded_ms, pair: pair.clone(), price, bid, ask };
        match self.sender.push(pairs.iter().map(tick).collect()) {
            Ok(pushed) => {
                self.report.price(at_ms, pushed);
                Ok(())
            }
            Err(_) if self.sender.is_closed() => Err(End::Unwanted),
            Err(e) => Err(FeedProblem::Channel { reason: e.to_string() }.into()),
        }
    }

    /// The exchange refuses a subscription as a whole, and names one product that it does not know.
    async fn refusal(&self, session: &mut Session, text: String) -> Result<(), End> {
        let named = session.products.keys().find(|id| message::names(&text, id)).cloned();
        let Some(product) = named else {
            return Err(FeedProblem::Refused { text }.into());
        };
        session.products.remove(&product);
        self.report.refused(&product, &text);
        if session.products.is_empty() {
            return Err(FeedProblem::Refused { text }.into());
        }
        session.subscribe().await?;
        Ok(())
    }
}

/// An open connection.
struct Session {
    socket: Socket,
    /// Those that are not refused.
    products: Products,
    /// The last number of every product; the exchange counts them up.
    sequences: BTreeMap<String, u64>,
    /// Messages that could not be read, since the last that could.
    unreadable: u32,
}

impl Session {
    async fn subscribe(&mut self) -> Result<(), FeedProblem> {
        let text = message::subscribe(self.products.keys());
        self.socket.send(text).await
    }
}
