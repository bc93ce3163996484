//! Amounts of the chain: whole numbers of the smallest unit, never floats.
//!
//! One TAO is 10^9 RAO. A subnet's own token, alpha, has nine decimals as well, but is another
//! currency: the two types keep them apart.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// RAO in a TAO, and smallest units in one alpha.
const PER_WHOLE: u64 = 1_000_000_000;
const DECIMALS: usize = 9;

/// An amount of TAO, counted in RAO (10^-9 TAO). Shown in TAO with nine decimals.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Rao(pub u64);

/// An amount of a subnet's own token, counted in 10^-9 alpha. Shown with nine decimals.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Alpha(pub u64);

impl Rao {
    /// The difference, or zero.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The sum, if there is such an amount.
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }
}

impl fmt::Display for Rao {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        whole(self.0, f)
    }
}

impl fmt::Display for Alpha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        whole(self.0, f)
    }
}

fn whole(amount: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.pad(&format!("{}.{:09}", amount / PER_WHOLE, amount % PER_WHOLE))
}

/// A text that is no amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no amount: digits with at most nine after the point are expected, such as 0.5, \
     and at most 18446744073.709551615"
)]
pub struct AmountError {
    text: String,
}

/// Reads an amount in TAO: `1`, `0.5`, `0.000000001`.
impl FromStr for Rao {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        parse(text).map(Self).ok_or_else(|| AmountError { text: text.to_owned() })
    }
}

fn parse(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > DECIMALS {
        return None;
    }
    let part: u64 = format!("{part:0<DECIMALS$}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(PER_WHOLE)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_comes_back_as_itself() {
        for (text, rao) in [
            ("0.000000000", 0),
            ("0.000000001", 1),
            ("1.500000000", 1_500_000_000),
            ("18446744073.709551615", u64::MAX),
        ] {
            assert_eq!(text.parse(), Ok(Rao(rao)));
            assert_eq!(Rao(rao).to_string(), text);
            assert_eq!(Alpha(rao).to_string(), text);
        }
        assert_eq!("3".parse(), Ok(Rao(3_000_000_000)));
        assert_eq!(format!("{:>14}", Rao(1)), "   0.000000001");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            ".",
            "1.",
            ".5",
            "-1",
            "+1",
            "1e3",
            " 1",
            "1_0",
            "0.0000000001",
            "18446744073.709551616",
            "٣",
        ] {
            assert!(text.parse::<Rao>().is_err(), "{text:?}");
        }
    }
}
