//! The suite that every `SignalStore` must pass.
