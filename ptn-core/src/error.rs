//! What a caller should do about an error: the classes, and one type that collects all errors.

/// The first question about every error: what should the caller do?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorClass {
    /// Fix the request; nothing was stored.
    Input,
    /// Fix the key.
    Auth,
    /// The id is taken, or the state does not allow it.
    Conflict,
    /// Try again later; nothing was lost.
    Unavailable,
    /// May have been sent; do not repeat blindly.
    Uncertain,
    /// A validator said no, finally.
    Rejected,
    /// Our own data is damaged.
    Corrupt,
}

/// Any error of this crate, for callers that do not tell them apart.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A signal broke a rule.
    #[error(transparent)]
    Signal(#[from] crate::signal::SignalError),
    /// A store refused or failed.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    /// The rules or the catalogue could not be read.
    #[error(transparent)]
    Rules(#[from] crate::rules::RulesError),
    /// The chain did not answer, or said no.
    #[cfg(feature = "chain")]
    #[error(transparent)]
    Chain(#[from] crate::chain::ChainError),
    /// The engine could not be built.
    #[error(transparent)]
    Engine(#[from] crate::deliver::EngineError),
    /// A signal was not accepted.
    #[error(transparent)]
    Submit(#[from] crate::deliver::SubmitError),
    /// There is no hotkey to sign with.
    #[cfg(feature = "sign")]
    #[error(transparent)]
    Hotkey(#[from] crate::sign::HotkeyError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bot_can_use_one_error_type_for_everything() {
        fn engine() -> Result<(), Error> {
            Err(crate::deliver::EngineError::Missing("store"))?
        }
        assert!(engine().unwrap_err().to_string().contains("store"));
        #[cfg(feature = "sign")]
        {
            fn hotkey() -> Result<(), Error> {
                crate::sign::Hotkey::from_keyfile("no/such/file")?;
                Ok(())
            }
            assert!(hotkey().unwrap_err().to_string().contains("no/such/file"));
        }
    }
}
