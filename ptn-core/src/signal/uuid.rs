//! The id of a signal: a name that is safe as a file name, by default a fresh UUIDv4.
//!
//! It is the file name in the spool, the key of a store and, for orders, the order uuid that
//! validators see. What it refers to is left to `Signal`.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A path-safe id: `[A-Za-z0-9][A-Za-z0-9._-]{0,127}`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OrderUuid(Arc<str>);

/// Random bytes are asked of the system for so many ids at a time: a call for each would be felt
/// under load.
const IDS_AT_A_TIME: usize = 64;

fn random_bytes() -> [u8; 16] {
    thread_local! {
        static POOL: RefCell<Vec<[u8; 16]>> = const { RefCell::new(Vec::new()) };
    }
    POOL.with_borrow_mut(|pool| {
        pool.pop().unwrap_or_else(|| {
            let mut bytes = [[0; 16]; IDS_AT_A_TIME];
            if getrandom::fill(bytes.as_flattened_mut()).is_err() {
                // Says what is wrong as it always did.
                return uuid::Uuid::new_v4().into_bytes();
            }
            let [first, rest @ ..] = bytes;
            pool.extend_from_slice(&rest);
            first
        })
    })
}

/// A text that cannot be an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "order_uuid must be 1 to 128 characters of A-Z a-z 0-9 . _ - and start with a letter or digit"
)]
pub struct BadOrderUuid;

impl OrderUuid {
    /// A fresh random (version 4) id.
    pub fn random() -> Self {
        let uuid = uuid::Builder::from_random_bytes(random_bytes()).into_uuid();
        Self(Arc::from(&*uuid.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer())))
    }

    /// Checks a text.
    ///
    /// # Errors
    /// When the text is not safe as a file name; see [`OrderUuid`].
    pub fn parse(text: &str) -> Result<Self, BadOrderUuid> {
        let mut bytes = text.bytes();
        let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
        let rest = bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if first && rest && text.len() <= 128 { Ok(Self(text.into())) } else { Err(BadOrderUuid) }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OrderUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for OrderUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for OrderUuid {
    type Error = BadOrderUuid;
    fn try_from(text: String) -> Result<Self, BadOrderUuid> {
        Self::parse(&text)
    }
}

impl From<OrderUuid> for String {
    fn from(uuid: OrderUuid) -> Self {
        uuid.0.as_ref().to_owned()
    }
}

impl std::str::FromStr for OrderUuid {
    type Err = BadOrderUuid;
    fn from_str(text: &str) -> Result<Self, BadOrderUuid> {
        Self::parse(text)
    }
}
