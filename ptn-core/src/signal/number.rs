//! Sizes and prices: finite decimal numbers, exact, kept as the user wrote them.
//!
//! `0.10` stays `0.10` and `1e-320` stays `1e-320`: nothing passes through a binary float, and the
//! wire carries the digits that were given. Comparing is exact. Which numbers are allowed where is
//! left to `signal::validate`.

use std::cmp::Ordering;
use std::fmt;

use rust_decimal::Decimal;

/// The longest number that is read, in characters.
pub const MAX_LEN: usize = 330;

/// A finite decimal number; its text is a JSON number.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Number(Box<str>);

/// Why a text is not a [`Number`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadNumber {
    /// Not a decimal number at all.
    #[error("not a decimal number")]
    Syntax,
    /// `nan`, `inf` or too large for the network's doubles.
    #[error("not a finite number")]
    NonFinite,
    /// A whole number with more digits than the network can read.
    #[error("a whole number that is too large")]
    TooLarge,
}

impl Number {
    /// Reads what Python's `float()` would read, except underscores between digits: blanks around
    /// it, a plus sign and a missing digit before or after the point are fine.
    ///
    /// # Errors
    /// See [`BadNumber`].
    pub fn parse(text: &str) -> Result<Self, BadNumber> {
        let text = text.trim();
        let (negative, digits) = match text.strip_prefix(['-', '+']) {
            Some(rest) => (text.starts_with('-'), rest),
            None => (false, text),
        };
        if ["nan", "inf", "infinity"].contains(&digits.to_ascii_lowercase().as_str()) {
            return Err(BadNumber::NonFinite);
        }
        let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
            Some((m, e)) => (m, Some(e)),
            None => (digits, None),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((w, f)) => (w, Some(f)),
            None => (mantissa, None),
        };
        let all_digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
        let digit_count = whole.len() + fraction.map_or(0, str::len);
        if digit_count == 0 || !all_digits(whole) || !all_digits(fraction.unwrap_or("")) {
            return Err(BadNumber::Syntax);
        }
        if let Some(e) = exponent {
            let e = e.strip_prefix(['-', '+']).unwrap_or(e);
            if e.is_empty() || !all_digits(e) {
                return Err(BadNumber::Syntax);
            }
        }
        if text.len() > MAX_LEN {
            return Err(if fraction.is_none() && exponent.is_none() {
                BadNumber::TooLarge
            } else {
                BadNumber::Syntax
            });
        }
        let mut token = String::with_capacity(text.len() + 2);
        if negative {
            token.push('-');
        }
        let trimmed = whole.trim_start_matches('0');
        token.push_str(if trimmed.is_empty() { "0" } else { trimmed });
        if let Some(f) = fraction.filter(|f| !f.is_empty()) {
            token.push('.');
            token.push_str(f);
        }
        if let Some(e) = exponent {
            token.push('e');
            token.push_str(e.strip_prefix('+').unwrap_or(e));
        }
        let number = Self(token.into());
        if number.double().is_infinite() {
            return Err(BadNumber::NonFinite);
        }
        Ok(number)
    }

    /// What the network's doubles make of it: only to tell what they cannot hold.
    fn double(&self) -> f64 {
        self.0.parse().unwrap_or(f64::NAN)
    }

    /// The JSON number token.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is below zero, or minus zero.
    pub fn is_negative(&self) -> bool {
        self.0.starts_with('-')
    }

    /// Whether it is zero (also when so small that a double cannot hold it).
    pub fn is_zero(&self) -> bool {
        self.double() == 0.0
    }

    /// Whether it is greater than zero.
    pub fn is_positive(&self) -> bool {
        !self.is_zero() && !self.is_negative()
    }

    /// The number without its sign.
    pub fn abs(&self) -> Self {
        Self(self.0.strip_prefix('-').unwrap_or(&self.0).into())
    }

    /// Minus the absolute value: how a SHORT's size is written.
    pub fn negative(&self) -> Self {
        Self(format!("-{}", self.abs().0).into())
    }

    /// The number for calculations; `None` outside 28 digits.
    pub fn to_decimal(&self) -> Option<Decimal> {
        self.0.parse().ok().or_else(|| Decimal::from_scientific(&self.0).ok())
    }

    /// Sign and, unless zero, the power of ten of the first digit and the digits without leading
    /// and trailing zeros.
    fn parts(&self) -> (bool, Option<(i64, Vec<u8>)>) {
        let negative = self.is_negative();
        let text = self.0.strip_prefix('-').unwrap_or(&self.0);
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((m, e)) => (m, clamped_exponent(e)),
            None => (text, 0),
        };
        let whole_len = mantissa.find('.').unwrap_or(mantissa.len());
        let digits: Vec<u8> = mantissa.bytes().filter(u8::is_ascii_digit).collect();
        let Some(first) = digits.iter().position(|d| *d != b'0') else { return (negative, None) };
        let last = digits.iter().rposition(|d| *d != b'0').unwrap_or(first);
        let to_i64 = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let power = to_i64(whole_len) - 1 - to_i64(first) + exponent;
        (negative, Some((power, digits.get(first..=last).unwrap_or_default().to_vec())))
    }
}

/// An exponent of any length, clamped to what makes a difference.
fn clamped_exponent(text: &str) -> i64 {
    let huge = if text.starts_with('-') { -1_000_000 } else { 1_000_000 };
    text.parse::<i64>().map_or(huge, |e| e.clamp(-1_000_000, 1_000_000))
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        let sign = |p: &(bool, Option<(i64, Vec<u8>)>)| match (p.0, &p.1) {
            (_, None) => 0,
            (true, Some(_)) => -1,
            (false, Some(_)) => 1,
        };
        let (a, b) = (self.parts(), other.parts());
        sign(&a).cmp(&sign(&b)).then_with(|| {
            let size = a.1.cmp(&b.1);
            if a.0 { size.reverse() } else { size }
        })
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Decimal> for Number {
    fn from(decimal: Decimal) -> Self {
        Self(decimal.to_string().into())
    }
}

impl From<u32> for Number {
    fn from(whole: u32) -> Self {
        Self(whole.to_string().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(input: &str, token: Result<&str, BadNumber>) {
        assert_eq!(Number::parse(input).as_ref().map(Number::as_str), token.as_ref().copied());
    }

    #[test]
    fn what_python_reads_is_kept_as_written() {
        check(" 0.25 ", Ok("0.25"));
        check("0.10", Ok("0.10"));
        check("+.5", Ok("0.5"));
        check("5.", Ok("5"));
        check("007", Ok("7"));
        check("2.5E-1", Ok("2.5e-1"));
        check("1e-320", Ok("1e-320"));
        check("1.7976931348623157e308", Ok("1.7976931348623157e308"));
        for (bad, why) in [
            ("", BadNumber::Syntax),
            (".", BadNumber::Syntax),
            ("1_0", BadNumber::Syntax),
            ("0x1", BadNumber::Syntax),
            ("0,1", BadNumber::Syntax),
            ("1e", BadNumber::Syntax),
            ("--1", BadNumber::Syntax),
            ("-NaN", BadNumber::NonFinite),
            ("1e400", BadNumber::NonFinite),
            ("2e308", BadNumber::NonFinite),
            ("1.7976931348623159e308", BadNumber::NonFinite),
            ("1e99999999999999999999", BadNumber::NonFinite),
        ] {
            check(bad, Err(why));
        }
        check(&"9".repeat(400), Err(BadNumber::TooLarge));
    }

    #[test]
    fn comparing_is_exact() {
        let n = |t: &str| Number::parse(t).unwrap();
        assert_eq!(n("1.0").cmp(&n("1")), Ordering::Equal);
        assert_eq!(n("-0").cmp(&n("0")), Ordering::Equal);
        assert!(n("0.1") < n("0.10000000000000000001"));
        assert!(n("-2") < n("-1") && n("-1") < n("0") && n("9") < n("10"));
        assert!(n("1e3") == n("1e3") && n("1e3").cmp(&n("1000")) == Ordering::Equal);
        assert!(n("1e-400").is_zero() && !n("1e-320").is_zero());
        assert!(n("2e-324").is_zero() && n("-2e-324").is_zero() && !n("3e-324").is_zero());
        assert_eq!(n("0.5").negative().as_str(), "-0.5");
    }
}
