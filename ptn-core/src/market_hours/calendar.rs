//! Holidays as rules: fixed dates with their observance, nth weekdays, and days around Easter.

use jiff::ToSpan;
use jiff::civil::{Date, Weekday};
use serde::Deserialize;

/// Where a fixed holiday goes that falls on a weekend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Observed {
    /// Saturday to Friday, Sunday to Monday.
    NearestWorkday,
    /// Sunday to Monday; a Saturday is not observed.
    SundayToMonday,
    /// Nowhere.
    AsIs,
}

/// One rule.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Holiday {
    /// The same date every year.
    Fixed { month: i8, day: i8, observed: Observed, since: Option<i16> },
    /// The nth Monday (1) to Sunday (7) of a month; -1 is the last.
    Nth { month: i8, weekday: i8, nth: i8, plus_days: Option<i64> },
    /// So many days after Easter Sunday.
    Easter { easter_plus_days: i64 },
}

/// Whether one of the rules closes this day.
pub(super) fn any_on(holidays: &[Holiday], day: Date) -> bool {
    holidays.iter().any(|holiday| {
        // New Year may be observed in the year before.
        let years = [day.year(), day.year().saturating_add(1)];
        years.into_iter().any(|year| holiday.in_year(year) == Some(day))
    })
}

impl Holiday {
    /// The day on which it is observed; nothing when it is not, that year.
    fn in_year(&self, year: i16) -> Option<Date> {
        match *self {
            Self::Fixed { month, day, observed, since } => {
                let date = Date::new(year, month, day).ok()?;
                if since.is_some_and(|first| year < first) {
                    return None;
                }
                let moved = match (observed, date.weekday()) {
                    (Observed::NearestWorkday, Weekday::Saturday) => -1,
                    (Observed::NearestWorkday | Observed::SundayToMonday, Weekday::Sunday) => 1,
                    _ => 0,
                };
                date.checked_add(moved.days()).ok()
            }
            Self::Nth { month, weekday, nth, plus_days } => {
                let weekday = Weekday::from_monday_one_offset(weekday).ok()?;
                let first = Date::new(year, month, 1).ok()?;
                let date = first.nth_weekday_of_month(nth, weekday).ok()?;
                date.checked_add(plus_days.unwrap_or(0).days()).ok()
            }
            Self::Easter { easter_plus_days } => {
                easter(year)?.checked_add(easter_plus_days.days()).ok()
            }
        }
    }
}

/// Easter Sunday of the Gregorian calendar (the "anonymous" algorithm).
fn easter(year: i16) -> Option<Date> {
    let y = i32::from(year);
    let (a, b, c) = (y % 19, y / 100, y % 100);
    let h = (19 * a + b - b / 4 - (b - (b + 8) / 25 + 1) / 3 + 15) % 30;
    let l = (32 + 2 * (b % 4) + 2 * (c / 4) - h - c % 4) % 7;
    let m = (a + 11 * h + 22 * l) / 451;
    let days = h + l - 7 * m + 114;
    let month = i8::try_from(days / 31).ok()?;
    let day = i8::try_from(days % 31 + 1).ok()?;
    Date::new(year, month, day).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn easter_is_where_the_church_has_it() {
        for (year, month, day) in
            [(1999, 4, 4), (2008, 3, 23), (2011, 4, 24), (2024, 3, 31), (2026, 4, 5), (2038, 4, 25)]
        {
            assert_eq!(easter(year), Date::new(year, month, day).ok(), "{year}");
        }
    }
}
