//! Trade pairs: ids and the catalogue, which is data (`data/trade_pairs*.json`, replaceable by a
//! file at run time). Which pairs a rule set accepts is left to `signal::validate`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::json::Json;
use crate::rules::RulesError;
use crate::text::distance;

/// The id of a pair, as on the wire. Case-sensitive.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct TradePairId(Arc<str>);

impl TradePairId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for TradePairId {
    fn from(id: &str) -> Self {
        Self(id.into())
    }
}

impl From<String> for TradePairId {
    fn from(id: String) -> Self {
        Self(id.into())
    }
}

impl From<TradePairId> for String {
    fn from(id: TradePairId) -> Self {
        id.as_str().to_owned()
    }
}

impl fmt::Display for TradePairId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TradePairId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What kind of market a pair belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TradePairClass {
    /// Crypto currencies.
    Crypto,
    /// Currencies and metals.
    Forex,
    /// Shares.
    Equities,
    /// Share indices.
    Indices,
    /// Commodities.
    Commodities,
}

impl TradePairClass {
    /// The word in the catalogue.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Crypto => "crypto",
            Self::Forex => "forex",
            Self::Equities => "equities",
            Self::Indices => "indices",
            Self::Commodities => "commodities",
        }
    }
}

/// One entry of the catalogue.
#[derive(Debug, Clone)]
pub struct TradePair {
    /// Its id.
    pub id: TradePairId,
    /// Its display name, `BTC/USD`.
    pub display_name: String,
    /// Its market.
    pub class: TradePairClass,
    /// Smallest leverage of an order, as the data file writes it.
    pub min_leverage: String,
    /// Largest leverage, as the data file writes it.
    pub max_leverage: String,
    /// The network's fee figure for the pair, as the data file writes it.
    pub fee: String,
    /// `vanta` (native) or `hyperliquid`.
    pub source: String,
    /// Whether validators refuse it, and why.
    pub blocked: Option<String>,
    /// The pair to use instead of a blocked one.
    pub replacement: Option<TradePairId>,
}

/// All pairs of a rule set.
#[derive(Debug, Clone, Default)]
pub struct TradePairCatalogue {
    pairs: BTreeMap<TradePairId, TradePair>,
}

#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow)]
    trade_pairs: Vec<Entry<'a>>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    trade_pair_id: String,
    display_name: Option<String>,
    trade_pair_class: TradePairClass,
    #[serde(borrow)]
    min_leverage: Option<&'a RawValue>,
    #[serde(borrow)]
    max_leverage: Option<&'a RawValue>,
    #[serde(borrow)]
    fee: Option<&'a RawValue>,
    #[serde(borrow)]
    fee_legacy_field: Option<&'a RawValue>,
    source: Option<String>,
    #[serde(default)]
    blocked: bool,
    blocked_reason: Option<String>,
    replacement: Option<String>,
}

impl TradePairCatalogue {
    /// Reads a catalogue file (`{"trade_pairs": [..]}`).
    ///
    /// # Errors
    /// When it is not such a file; the error names the place.
    pub fn from_json(text: &str) -> Result<Self, RulesError> {
        let file: File<'_> = serde_json::from_str(text)
            .map_err(|e| RulesError::Catalogue { reason: e.to_string() })?;
        let token = |v: Option<&RawValue>| v.map_or("null", RawValue::get).to_owned();
        let pairs = file.trade_pairs.into_iter().map(|e| {
            let id = TradePairId::from(e.trade_pair_id.as_str());
            let pair = TradePair {
                display_name: e.display_name.unwrap_or(e.trade_pair_id),
                class: e.trade_pair_class,
                min_leverage: token(e.min_leverage),
                max_leverage: token(e.max_leverage),
                fee: token(e.fee.or(e.fee_legacy_field)),
                source: e.source.unwrap_or_else(|| "vanta".to_owned()),
                blocked: e
                    .blocked
                    .then(|| e.blocked_reason.unwrap_or_else(|| "blocked".to_owned())),
                replacement: e.replacement.as_deref().map(TradePairId::from),
                id: id.clone(),
            };
            (id, pair)
        });
        Ok(Self { pairs: pairs.collect() })
    }

    /// The pair with this id.
    pub fn get(&self, id: &str) -> Option<&TradePair> {
        self.pairs.get(&TradePairId::from(id))
    }

    /// Every pair, by id.
    pub fn iter(&self) -> impl Iterator<Item = &TradePair> {
        self.pairs.values()
    }

    /// The pair that a user may have meant: the same letters in another case, a display name, or
    /// an exchange's name for it.
    pub fn suggest(&self, text: &str) -> Option<&TradePair> {
        let plain = |t: &str| {
            t.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_uppercase()
        };
        let wanted = plain(text.rsplit(':').next().unwrap_or(text));
        if wanted.is_empty() {
            return None;
        }
        let find = |wanted: &str| {
            let hit =
                |p: &&TradePair| plain(p.id.as_str()) == wanted || plain(&p.display_name) == wanted;
            let open = self.iter().filter(hit).find(|p| p.blocked.is_none());
            open.or_else(|| self.iter().find(hit))
        };
        let found = find(&wanted).or_else(|| find(wanted.strip_suffix('T')?))?;
        match &found.replacement {
            Some(other) => self.get(other.as_str()).or(Some(found)),
            None => Some(found),
        }
    }

    /// The open pairs, at most three, whose ids differ least from a text; none when it is far from all.
    pub fn near(&self, text: &str) -> Vec<&TradePair> {
        const LONGEST: usize = 24;
        let wanted = text.to_uppercase();
        let most = match wanted.len() {
            0..3 | LONGEST.. => return Vec::new(),
            3 | 4 => 1,
            _ => 2,
        };
        let mut best = most;
        let mut found: Vec<(usize, &TradePair)> = Vec::new();
        for pair in self.iter().filter(|pair| pair.id.as_str().len().abs_diff(wanted.len()) <= most)
        {
            let far = distance(&wanted, &pair.id.as_str().to_uppercase());
            let open = match (&pair.blocked, &pair.replacement) {
                (None, _) => Some(pair),
                (Some(_), other) => other.as_ref().and_then(|other| self.get(other.as_str())),
            };
            if let Some(open) = open.filter(|open| open.blocked.is_none() && far <= best) {
                best = far;
                if !found.iter().any(|(known, p)| p.id == open.id && *known <= far) {
                    found.push((far, open));
                }
            }
        }
        found.retain(|(far, _)| *far == best);
        found.truncate(3);
        found.into_iter().map(|(_, pair)| pair).collect()
    }

    /// Keeps only the pairs for which `keep` is true.
    pub(crate) fn retain(&mut self, keep: impl Fn(&mut TradePair) -> bool) {
        self.pairs.retain(|_, pair| keep(pair));
    }

    /// Adds the pairs of another catalogue that this one does not have.
    pub(crate) fn extend(&mut self, other: Self) {
        for (id, pair) in other.pairs {
            self.pairs.entry(id).or_insert(pair);
        }
    }
}

impl TradePair {
    /// The object that the Python tools write for a pair.
    pub(crate) fn to_legacy_json(&self) -> Json {
        let number = |token: &str| match token {
            "null" => Json::Null,
            token => Json::Number(token.to_owned()),
        };
        Json::Object(
            [
                ("trade_pair_id".to_owned(), self.id.as_str().into()),
                ("trade_pair".to_owned(), self.display_name.as_str().into()),
                ("fees".to_owned(), number(&self.fee)),
                ("min_leverage".to_owned(), number(&self.min_leverage)),
                ("max_leverage".to_owned(), number(&self.max_leverage)),
                ("trade_pair_category".to_owned(), self.class.as_str().into()),
            ]
            .into_iter()
            .collect(),
        )
    }
}
