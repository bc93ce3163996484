//! The words of an order: what to do, how, and when. Plain enums; rules are in `signal::validate`.

use serde::{Deserialize, Serialize};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $text)] $variant),+ }

        impl $name {
            /// Every value, in the order of the network's documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// Reads the word in any case; `None` when it is not one.
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|v| v.as_str() == text.to_uppercase())
            }

            /// The allowed words, for error texts.
            pub fn allowed() -> String {
                Self::ALL.iter().map(|v| v.as_str()).collect::<Vec<_>>().join(", ")
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// Direction of an order.
    OrderType {
        /// Buy, or add to a long position.
        Long = "LONG",
        /// Sell, or add to a short position. Its size is negative on the wire.
        Short = "SHORT",
        /// Close the whole position.
        Flat = "FLAT",
    }
}

words! {
    /// How an order is executed.
    ExecutionType {
        /// At once, at the market price.
        Market = "MARKET",
        /// When the market reaches `limit_price`.
        Limit = "LIMIT",
        /// A stop loss or take profit for an open position.
        Bracket = "BRACKET",
        /// Cancels resting orders by uuid, or all of them.
        LimitCancel = "LIMIT_CANCEL",
        /// Replaces a resting order, or edits brackets in bulk.
        LimitEdit = "LIMIT_EDIT",
        /// A limit order that is placed once `stop_price` was reached.
        StopLimit = "STOP_LIMIT",
        /// Closes positions by uuid, or all of them.
        FlatAll = "FLAT_ALL",
    }
}

words! {
    /// On which side of `stop_price` a STOP_LIMIT order is triggered.
    StopCondition {
        /// When the price is at or above it.
        Gte = "GTE",
        /// When the price is at or below it.
        Lte = "LTE",
    }
}

impl ExecutionType {
    /// Whether `order_uuid` names other orders (or `ALL`) instead of this one. Such signals may
    /// repeat an uuid that was used before.
    pub const fn targets_other_orders(self) -> bool {
        matches!(self, Self::LimitCancel | Self::LimitEdit | Self::FlatAll)
    }
}
