//! Passwords, and how bittensor hides them in environment variables.
//!
//! Reading the environment is left to the caller. Wire spec section 9.4: that hiding is no
//! encryption; whoever sees the variable has the password.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

/// A password, never empty. `Debug` does not show it.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// `None` when it is empty.
    pub fn new(text: impl Into<String>) -> Option<Self> {
        let text = Zeroizing::new(text.into());
        if text.is_empty() { None } else { Some(Self(text)) }
    }

    /// As UTF-8: not trimmed, not normalised.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Whether both are the same.
    pub fn same_as(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// Why a variable holds no password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VariableError {
    /// Not base64: plain text, usually.
    #[error(
        "{name} is not in the form of bittensor (base64 of the password hidden with the variable's \
         name): set it with bittensor's own tools, or put the plain password into PTN_WALLET_PASSWORD"
    )]
    NotBase64 {
        /// The variable.
        name: String,
    },
    /// Not a text after decoding.
    #[error("{name} was made for a variable of another name, or is damaged: set it again")]
    NotText {
        /// The variable.
        name: String,
    },
}

/// The name of the variable for a key file: the path as it was given.
pub fn variable_name(path: &str) -> String {
    format!("BT_PW_{}", path.replace(['/', '.'], "_").to_uppercase())
}

/// The names that bittensor 6 and 7 look at for a coldkey's password in plain text.
pub fn coldkey_variable_names(wallet: &str) -> [String; 2] {
    let upper = wallet.to_uppercase();
    [format!("BT_COLD_PW_{}", upper.replace('-', "_")), format!("BT_COLD_PW_{upper}")]
}

/// The password in a variable; `None` when it is empty.
///
/// # Errors
/// When the value is not in bittensor's form.
pub fn from_variable(name: &str, value: &str) -> Result<Option<Password>, VariableError> {
    let hidden = BASE64_STANDARD
        .decode(value)
        .map_err(|_| VariableError::NotBase64 { name: name.to_owned() })?;
    let text = String::from_utf8(xor(name, &hidden))
        .map_err(|_| VariableError::NotText { name: name.to_owned() })?;
    Ok(Password::new(text))
}

/// What to set a variable to.
pub fn to_variable(name: &str, password: &Password) -> String {
    BASE64_STANDARD.encode(xor(name, password.as_bytes()))
}

fn xor(name: &str, bytes: &[u8]) -> Vec<u8> {
    bytes.iter().zip(name.bytes().cycle()).map(|(a, b)| a ^ b).collect()
}
