//! Price files: CSV of ticks or of bars.
//!
//! A tick file has the header `time_ms,trade_pair,price`, and may also have `bid` and `ask`, which may
//! be empty in a row. A file of bars has `time_ms,trade_pair,open,high,low,close`. Columns may come in
//! any order. Times are in ms since 1970, UTC, and never go back.
//!
//! # The inside of a bar
//!
//! `time_ms` is where a bar begins. It lasts until the next time in the file, but no longer than the
//! shortest step so far (a minute for a file with one time only), so that a weekend does not stretch
//! it. Its four prices come after 0, 1/4, 1/2 and 3/4 of it: open, low, high, close when it rises;
//! open, high, low, close when it falls. What really happened in between is not in the file.

use std::collections::VecDeque;
use std::io::BufRead;

use super::{MAX_MS, PriceError, PriceSource, Tick, is_pair};
use crate::store::UnixMs;
use crate::trade_pair::TradePairId;

/// Assumed where a file of bars does not show how long they are.
const LONE_BAR_MS: UnixMs = 60_000;
/// No line of a price file comes near this.
const LONGEST_LINE: usize = 4096;

pub(super) const TICKS: &str = "time_ms,trade_pair,price";
pub(super) const BARS: &str = "time_ms,trade_pair,open,high,low,close";
/// What a tick file may have as well.
const BOOK: [&str; 2] = ["bid", "ask"];

const FIELDS: [&str; 9] =
    ["time_ms", "trade_pair", "price", "bid", "ask", "open", "high", "low", "close"];
const BAR_FIELDS: [&str; 4] = ["open", "high", "low", "close"];

/// A line of the file.
#[derive(Debug, Clone)]
enum Row {
    Tick(Tick),
    Bar { at_ms: UnixMs, pair: TradePairId, prices: [f64; 4] },
}

impl Row {
    const fn at_ms(&self) -> UnixMs {
        match self {
            Self::Tick(tick) => tick.at_ms,
            Self::Bar { at_ms, .. } => *at_ms,
        }
    }
}

/// A price file.
#[derive(Debug)]
pub struct CsvPrices<R> {
    reader: R,
    line: u64,
    columns: Vec<&'static str>,
    last_ms: Option<UnixMs>,
    shortest_ms: Option<UnixMs>,
    /// Read too far: the first line of the next time.
    ahead: Option<Row>,
    ready: VecDeque<Tick>,
}

impl<R: BufRead> CsvPrices<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// When it is none.
    pub fn new(reader: R) -> Result<Self, PriceError> {
        let mut file = Self {
            reader,
            line: 0,
            columns: Vec::new(),
            last_ms: None,
            shortest_ms: None,
            ahead: None,
            ready: VecDeque::new(),
        };
        let header = file.read_line()?.unwrap_or_default();
        let header = header.trim_start_matches('\u{feff}').to_owned();
        let names: Option<Vec<&'static str>> = header
            .split(',')
            .map(|name| FIELDS.into_iter().find(|field| *field == name.trim()))
            .collect();
        let fits = |wanted: &str, also: &[&str]| {
            names.as_ref().is_some_and(|names| {
                let optional = also.iter().filter(|field| names.contains(field)).count();
                names.len() == wanted.split(',').count() + optional
                    && wanted.split(',').all(|field| names.contains(&field))
            })
        };
        if !fits(TICKS, &BOOK) && !fits(BARS, &[]) {
            return Err(PriceError::Header { found: header.chars().take(100).collect() });
        }
        file.columns = names.unwrap_or_default();
        Ok(file)
    }

    fn read_line(&mut self) -> Result<Option<String>, PriceError> {
        loop {
            self.line += 1;
            let mut text = Vec::new();
            let line = self.line;
            let io = |source| PriceError::Io { line, source };
            let limit = u64::try_from(LONGEST_LINE).unwrap_or(u64::MAX);
            let mut limited = std::io::Read::take(&mut self.reader, limit);
            let read = limited.read_until(b'\n', &mut text).map_err(io)?;
            if read == 0 {
                return Ok(None);
            }
            if read == LONGEST_LINE && text.last() != Some(&b'\n') {
                let too_long = format!("it is longer than {LONGEST_LINE} bytes");
                return Err(io(std::io::Error::new(std::io::ErrorKind::InvalidData, too_long)));
            }
            let text = String::from_utf8(text)
                .map_err(|e| io(std::io::Error::new(std::io::ErrorKind::InvalidData, e)))?;
            // A header must be there, empty lines between rows need not matter.
            if self.columns.is_empty() || !text.trim().is_empty() {
                return Ok(Some(text.trim().to_owned()));
            }
        }
    }

    fn row(&mut self) -> Result<Option<Row>, PriceError> {
        let Some(text) = self.read_line()? else { return Ok(None) };
        let line = self.line;
        let values: Vec<&str> = text.split(',').map(str::trim).collect();
        let (found, expected) = (values.len(), self.columns.len());
        if found != expected {
            return Err(PriceError::Columns { line, found, expected });
        }
        let value = |field: &str| {
            let at = self.columns.iter().position(|column| *column == field);
            at.and_then(|at| values.get(at)).copied().unwrap_or_default()
        };
        let wrong = |field: &'static str, allowed| PriceError::Field {
            line,
            field,
            value: value(field).chars().take(40).collect(),
            allowed,
        };
        let price = |field: &'static str| match value(field).parse::<f64>() {
            Ok(price) if price.is_finite() && price > 0.0 => Ok(price),
            _ => Err(wrong(field, "a number above 0")),
        };
        let at_ms = match value("time_ms").parse::<UnixMs>() {
            Ok(ms) if (0..=MAX_MS).contains(&ms) => ms,
            _ => return Err(wrong("time_ms", "ms since 1970, a whole number")),
        };
        let pair = value("trade_pair");
        if !is_pair(pair) {
            return Err(wrong("trade_pair", "the id of a pair, such as BTCUSDC"));
        }
        let pair = TradePairId::from(pair);
        if let Some(last_ms) = self.last_ms.filter(|last| at_ms < *last) {
            return Err(PriceError::Order { line, at_ms, last_ms });
        }
        let row = if self.columns.contains(&"price") {
            // Without its column or its value a side of the book is not known.
            let side =
                |field| if value(field).is_empty() { Ok(None) } else { price(field).map(Some) };
            let (bid, ask) = (side("bid")?, side("ask")?);
            if let Some((bid, ask)) = bid.zip(ask).filter(|(bid, ask)| bid > ask) {
                return Err(PriceError::Crossed { line, bid, ask });
            }
            Row::Tick(Tick { at_ms, pair, price: price("price")?, bid, ask })
        } else {
            let prices = [price("open")?, price("high")?, price("low")?, price("close")?];
            let [_, high, low, _] = prices;
            for (field, price) in BAR_FIELDS.into_iter().zip(prices) {
                if price < low || price > high {
                    return Err(PriceError::Bar { line, field, price, low, high });
                }
            }
            Row::Bar { at_ms, pair, prices }
        };
        self.last_ms = Some(at_ms);
        Ok(Some(row))
    }

    /// Makes the ticks of all bars that begin at the same time.
    fn bars(&mut self, first: Row) -> Result<(), PriceError> {
        let at_ms = first.at_ms();
        let mut group = vec![first];
        let mut next_ms = None;
        while let Some(row) = self.row()? {
            if row.at_ms() > at_ms {
                next_ms = Some(row.at_ms());
                self.ahead = Some(row);
                break;
            }
            group.push(row);
        }
        let step_ms = next_ms.map(|next_ms| next_ms - at_ms);
        self.shortest_ms = [self.shortest_ms, step_ms].into_iter().flatten().min();
        let length_ms = self.shortest_ms.unwrap_or(LONE_BAR_MS);
        for quarter in 0..4_i64 {
            for row in &group {
                let Row::Bar { pair, prices: [open, high, low, close], .. } = row else { continue };
                let rises = close >= open;
                let price = match quarter {
                    0 => *open,
                    1 => *if rises { low } else { high },
                    2 => *if rises { high } else { low },
                    _ => *close,
                };
                let at_ms = at_ms + length_ms * quarter / 4;
                self.ready.push_back(Tick::last(at_ms, pair.clone(), price));
            }
        }
        Ok(())
    }
}

impl<R: BufRead> PriceSource for CsvPrices<R> {
    fn next_tick(&mut self) -> Result<Option<Tick>, PriceError> {
        if let Some(tick) = self.ready.pop_front() {
            return Ok(Some(tick));
        }
        let row = match self.ahead.take() {
            Some(row) => Some(row),
            None => self.row()?,
        };
        match row {
            None => Ok(None),
            Some(Row::Tick(tick)) => Ok(Some(tick)),
            Some(bar) => {
                self.bars(bar)?;
                Ok(self.ready.pop_front())
            }
        }
    }
}
