//! When the markets are open: New York week and holidays for forex, the exchange session for
//! equities, always for crypto and Hyperliquid perpetuals, never for native indices.
//!
//! Pure: the time is an argument, the calendars are data (`data/market_hours.json`), and New York's
//! daylight saving is a rule in that file, so no time zone database is needed. What to do about a
//! closed market is left to the callers. A holiday closes the whole New York day.
//!
//! ```
//! use ptn_core::market_hours::MarketHours;
//! use ptn_core::trade_pair::TradePairClass;
//!
//! let hours = MarketHours::load()?;
//! let friday_16_59_59_in_new_york = 1_795_211_999_000;
//! assert!(hours.is_open(TradePairClass::Forex, "vanta", friday_16_59_59_in_new_york));
//! assert!(!hours.is_open(TradePairClass::Forex, "vanta", friday_16_59_59_in_new_york + 1_000));
//! # Ok::<(), ptn_core::rules::RulesError>(())
//! ```

mod calendar;

use std::collections::BTreeMap;

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::Deserialize;

use self::calendar::{Holiday, any_on};
use crate::rules::RulesError;
use crate::store::UnixMs;
use crate::trade_pair::TradePairClass;

const DATA: &str = include_str!("../data/market_hours.json");

/// How far ahead [`MarketHours::next_open`] looks: longer than any row of holidays.
const LOOK_AHEAD_DAYS: i64 = 15;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Schedule {
    Always,
    Never,
    Forex,
    Equities,
}

/// A day of the week, Monday is 1, and a time in New York.
#[derive(Debug, Clone, Deserialize)]
struct Moment {
    weekday: i8,
    time: Time,
}

#[derive(Debug, Clone, Deserialize)]
struct Week {
    opens: Moment,
    closes: Moment,
    holidays: Vec<Holiday>,
}

#[derive(Debug, Clone, Deserialize)]
struct Session {
    opens: Time,
    closes: Time,
    early_close: Time,
    holidays: Vec<Holiday>,
    early_closes: Vec<Holiday>,
    closed_dates: Vec<Date>,
}

#[derive(Deserialize)]
struct File {
    zone: String,
    by_source: BTreeMap<String, Schedule>,
    by_class: BTreeMap<TradePairClass, Schedule>,
    forex: Week,
    equities: Session,
}

/// The calendars of all markets.
#[derive(Debug, Clone)]
pub struct MarketHours {
    zone: TimeZone,
    by_source: BTreeMap<String, Schedule>,
    by_class: BTreeMap<TradePairClass, Schedule>,
    forex: Week,
    equities: Session,
}

impl MarketHours {
    /// The built-in calendars.
    ///
    /// # Errors
    /// Never for the file that is compiled in; a test reads it.
    pub fn load() -> Result<Self, RulesError> {
        Self::from_json(DATA)
    }

    /// Calendars from the text of a file like `data/market_hours.json`.
    ///
    /// # Errors
    /// When it is not such a file; the error names the place.
    pub fn from_json(text: &str) -> Result<Self, RulesError> {
        let bad = |reason: String| RulesError::Rules { reason: format!("market hours: {reason}") };
        let file: File = serde_json::from_str(text).map_err(|e| bad(e.to_string()))?;
        for moment in [&file.forex.opens, &file.forex.closes] {
            Weekday::from_monday_one_offset(moment.weekday)
                .map_err(|e| bad(format!("weekday {}: {e}", moment.weekday)))?;
        }
        let zone =
            TimeZone::posix(&file.zone).map_err(|e| bad(format!("zone {:?}: {e}", file.zone)))?;
        Ok(Self {
            zone,
            by_source: file.by_source,
            by_class: file.by_class,
            forex: file.forex,
            equities: file.equities,
        })
    }

    /// The same calendars with every market open at all times, for replays of prices that know
    /// their hours themselves.
    #[must_use]
    pub fn always_open(mut self) -> Self {
        self.by_source.clear();
        self.by_class.values_mut().for_each(|schedule| *schedule = Schedule::Always);
        self
    }

    /// Whether pairs of this class and source (`vanta`, `hyperliquid`) trade at this time. A time
    /// beyond the calendar is closed.
    pub fn is_open(&self, class: TradePairClass, source: &str, at_ms: UnixMs) -> bool {
        match self.schedule(class, source) {
            Schedule::Always => true,
            Schedule::Never => false,
            schedule => self.new_york(at_ms).is_some_and(|at| self.open_at(schedule, at)),
        }
    }

    /// When such pairs trade next: `at_ms` itself while they are open, nothing when they never do.
    pub fn next_open(&self, class: TradePairClass, source: &str, at_ms: UnixMs) -> Option<UnixMs> {
        if self.is_open(class, source, at_ms) {
            return Some(at_ms);
        }
        let schedule = self.schedule(class, source);
        let today = self.new_york(at_ms)?.date();
        let opens = match schedule {
            Schedule::Forex => [Time::midnight(), self.forex.opens.time],
            Schedule::Equities => [self.equities.opens, self.equities.opens],
            Schedule::Always | Schedule::Never => return None,
        };
        let days = (0..LOOK_AHEAD_DAYS).filter_map(|n| today.checked_add(n.days()).ok());
        let moments = days.flat_map(|day| opens.map(|time| day.to_datetime(time)));
        moments
            .filter(|at| self.open_at(schedule, *at))
            .filter_map(|at| self.zone.to_timestamp(at).ok())
            .map(|at| at.as_millisecond())
            .find(|ms| *ms > at_ms)
    }

    /// The time in New York.
    pub fn new_york(&self, at_ms: UnixMs) -> Option<DateTime> {
        let at = Timestamp::from_millisecond(at_ms).ok()?;
        Some(self.zone.to_datetime(at))
    }

    fn schedule(&self, class: TradePairClass, source: &str) -> Schedule {
        let by_source = self.by_source.get(source).or_else(|| self.by_class.get(&class));
        by_source.copied().unwrap_or(Schedule::Always)
    }

    fn open_at(&self, schedule: Schedule, at: DateTime) -> bool {
        match schedule {
            Schedule::Always => true,
            Schedule::Never => false,
            Schedule::Forex => self.forex.is_open(at),
            Schedule::Equities => self.equities.is_open(at),
        }
    }
}

impl Week {
    fn is_open(&self, at: DateTime) -> bool {
        let place = |weekday: i8, time: Time| (weekday, time);
        let now = place(at.weekday().to_monday_one_offset(), at.time());
        let opens = place(self.opens.weekday, self.opens.time);
        let closes = place(self.closes.weekday, self.closes.time);
        // The week opens on its last day and closes before that, so the open part wraps around.
        let in_week = if opens > closes {
            now >= opens || now < closes
        } else {
            now >= opens && now < closes
        };
        in_week && !any_on(&self.holidays, at.date())
    }
}

impl Session {
    fn is_open(&self, at: DateTime) -> bool {
        let day = at.date();
        let weekend = matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday);
        if weekend || self.closed_dates.contains(&day) || any_on(&self.holidays, day) {
            return false;
        }
        let early = any_on(&self.early_closes, day);
        let closes = if early { self.early_close } else { self.closes };
        at.time() >= self.opens && at.time() < closes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> UnixMs {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    #[track_caller]
    fn check(class: TradePairClass, text: &str, open: bool) {
        let hours = MarketHours::load().unwrap();
        assert_eq!(hours.is_open(class, "vanta", ms(text)), open, "{class:?} {text}");
    }

    #[test]
    fn forex_follows_new_york_through_the_clock_changes() {
        let forex = TradePairClass::Forex;
        // Clocks go forward on Sunday 2026-03-08 and back on Sunday 2026-11-01, both at 2 am.
        check(forex, "2026-03-06T21:59:59.999Z", true);
        check(forex, "2026-03-06T22:00:00Z", false);
        check(forex, "2026-03-08T20:59:59.999Z", false);
        check(forex, "2026-03-08T21:00:00Z", true);
        check(forex, "2026-11-01T21:59:59.999Z", false);
        check(forex, "2026-11-01T22:00:00Z", true);
    }

    #[test]
    fn forex_holidays_are_whole_new_york_days_and_move_off_weekends() {
        let forex = TradePairClass::Forex;
        check(forex, "2026-04-03T12:00:00Z", false); // Good Friday
        check(forex, "2026-04-03T03:59:59Z", true); // still Thursday in New York
        check(forex, "2026-04-03T04:00:00Z", false);
        check(forex, "2027-12-27T15:00:00Z", false); // Boxing Day 2027 is a Sunday
        check(forex, "2027-12-28T15:00:00Z", true);
        check(forex, "2027-12-31T15:00:00Z", false); // New Year 2028 is a Saturday
        check(forex, "2022-12-26T15:00:00Z", false); // Christmas 2022 is a Sunday, and Boxing Day
        check(forex, "2022-12-27T15:00:00Z", true);
        check(forex, "2023-01-02T15:00:00Z", false); // New Year 2023 is a Sunday
    }

    #[test]
    fn equities_follow_the_exchange() {
        let equities = TradePairClass::Equities;
        check(equities, "2026-07-10T13:29:59Z", false);
        check(equities, "2026-07-10T13:30:00Z", true);
        check(equities, "2026-07-10T19:59:59Z", true);
        check(equities, "2026-07-10T20:00:00Z", false);
        check(equities, "2026-07-11T15:00:00Z", false); // Saturday
        check(equities, "2026-07-03T15:00:00Z", false); // July 4 is a Saturday
        check(equities, "2026-11-26T16:00:00Z", false); // Thanksgiving
        check(equities, "2026-11-27T17:59:59Z", true);
        check(equities, "2026-11-27T18:00:00Z", false); // half day
        check(equities, "2021-12-31T15:00:00Z", true); // New Year on a Saturday is not moved
        check(equities, "2021-06-18T15:00:00Z", true); // before Juneteenth was a holiday
        check(equities, "2026-06-19T15:00:00Z", false);
        check(equities, "2025-01-09T15:00:00Z", false); // a day of mourning
        check(equities, "2026-01-19T15:00:00Z", false);
        check(equities, "2026-05-25T15:00:00Z", false);
        check(equities, "2026-09-07T15:00:00Z", false);
    }

    #[test]
    fn the_source_decides_before_the_class() {
        let hours = MarketHours::load().unwrap();
        let saturday = ms("2026-07-11T15:00:00Z");
        assert!(hours.is_open(TradePairClass::Equities, "hyperliquid", saturday));
        assert!(hours.is_open(TradePairClass::Indices, "hyperliquid", saturday));
        assert!(!hours.is_open(TradePairClass::Indices, "vanta", ms("2026-07-10T15:00:00Z")));
        assert!(hours.is_open(TradePairClass::Crypto, "vanta", saturday));
        assert!(hours.always_open().is_open(TradePairClass::Indices, "vanta", saturday));
    }

    #[test]
    fn next_open_is_the_first_open_moment() {
        let hours = MarketHours::load().unwrap();
        let next = |class, text| hours.next_open(class, "vanta", ms(text));
        let forex = TradePairClass::Forex;
        assert_eq!(next(forex, "2026-07-11T15:00:00Z"), Some(ms("2026-07-12T21:00:00Z")));
        assert_eq!(next(forex, "2026-12-25T15:00:00Z"), Some(ms("2026-12-27T22:00:00Z")));
        assert_eq!(next(forex, "2025-12-25T15:00:00Z"), Some(ms("2025-12-28T22:00:00Z")));
        assert_eq!(next(forex, "2026-07-08T15:00:00Z"), Some(ms("2026-07-08T15:00:00Z")));
        let equities = TradePairClass::Equities;
        assert_eq!(next(equities, "2026-07-02T21:00:00Z"), Some(ms("2026-07-06T13:30:00Z")));
        assert_eq!(next(TradePairClass::Indices, "2026-07-02T21:00:00Z"), None);
    }

    #[test]
    fn a_damaged_file_is_refused_with_its_place() {
        let bad = DATA.replace("EST5EDT,M3.2.0,M11.1.0", "nowhere!");
        assert!(MarketHours::from_json(&bad).unwrap_err().to_string().contains("nowhere!"));
        assert!(MarketHours::from_json("{}").is_err());
    }
}
