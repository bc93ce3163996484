//! The receipt of a signal: who answered what and when, and the digest of each signed request.
//!
//! One JSON document that a firm can keep as proof. `sha256` covers everything else in it, so a
//! changed receipt is told from the one that was issued; a signature of the firm's hotkey over that
//! digest says who issued it. What a receipt cannot say is what a validator did: it holds the
//! validator's answers as they came. Where receipts are kept is left to whoever asks for one.
//!
//! ```json
//! {"receipt": "ptn/1", "order_uuid": "...", "seq": 7, "rules": "2026", "state": "processed", "reason": "",
//!  "accepted_at": 1780000000000, "finished_at": 1780000000412,
//!  "signal": {...}, "signal_sha256": "...",
//!  "validators": [{"hotkey": "...", "state": "accepted", "requests": [{"at": ..., "nonce": ..., "sha256": "..."}]}],
//!  "sha256": "...", "signed_by": "5C4h...", "signature": "0x..."}
//! ```
//!
//! Times are Unix milliseconds by the machine that delivered; nonces are nanoseconds, as strings, because
//! many readers of JSON round whole numbers of that length. The digest is that of the document without
//! blanks and with the members of every object in the order of their names, so laying it out anew
//! changes nothing.

use sha2::{Digest as _, Sha256};

use crate::json::{Json, Object};
use crate::store::StoredSignal;

/// The form of the document.
const FORM: &str = "ptn/1";
/// The fields that the digest does not cover.
const SEAL: [&str; 3] = ["sha256", "signed_by", "signature"];

/// A signal's receipt.
#[derive(Debug, Clone, PartialEq)]
pub struct Receipt(Object);

/// What is wrong with a receipt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// It is no receipt.
    #[error("not a receipt: {0}")]
    Form(String),
    /// Something in it was changed.
    #[error("the receipt was changed: its content has the digest {found}, and it says {stated}")]
    Changed {
        /// What it says.
        stated: String,
        /// What it has.
        found: String,
    },
    /// The signature is not one of the hotkey it names.
    #[error("the signature is not one of {0} over this receipt")]
    Signature(String),
}

impl Receipt {
    /// The receipt of a signal as it stands; one that is not finished yet says so in its `state`.
    pub fn of(stored: &StoredSignal) -> Self {
        let number = |n: i64| Json::Number(n.to_string());
        let signal = Json::Object(stored.signal.body().clone());
        let mut o = Object::new();
        o.set("receipt", FORM.into());
        o.set("order_uuid", stored.signal.id().as_str().into());
        o.set("seq", Json::Number(stored.seq.to_string()));
        o.set("rules", stored.signal.era().as_str().into());
        o.set("state", stored.state.as_str().into());
        o.set("reason", stored.reason.as_str().into());
        o.set("accepted_at", number(stored.accepted_at));
        o.set("finished_at", stored.finished_at.map_or(Json::Null, number));
        o.set("signal_sha256", hex::encode(Sha256::digest(signal.to_string())).into());
        o.set("signal", signal);
        let validators: Vec<_> = stored.validators.values().collect();
        let validators = serde_json::to_vec(&validators).ok();
        let validators = validators.and_then(|text| Json::parse(&text).ok());
        o.set("validators", validators.map_or(Json::Null, nonces_as_text));
        let digest = digest(&o);
        o.set("sha256", digest.into());
        Self(o)
    }

    /// Reads a receipt and checks its digest and, if it has one, its signature.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &[u8]) -> Result<Self, ReceiptError> {
        let form = |what: &str| ReceiptError::Form(what.to_owned());
        let Json::Object(o) = Json::parse_unique(text).map_err(|e| form(&e.to_string()))? else {
            return Err(form("a JSON object is expected"));
        };
        if o.get("receipt").and_then(Json::as_str) != Some(FORM) {
            return Err(form("\"receipt\": \"ptn/1\" is expected"));
        }
        let receipt = Self(o);
        let (stated, found) = (receipt.sha256().to_owned(), digest(&receipt.0));
        if stated != found {
            return Err(ReceiptError::Changed { stated, found });
        }
        #[cfg(feature = "sign")]
        receipt.check_signature()?;
        Ok(receipt)
    }

    /// The digest of everything in it.
    pub fn sha256(&self) -> &str {
        self.0.get("sha256").and_then(Json::as_str).unwrap_or_default()
    }

    /// The hotkey whose signature it bears.
    pub fn signed_by(&self) -> Option<&str> {
        self.0.get("signed_by").and_then(Json::as_str)
    }

    /// The id of the signal.
    pub fn order_uuid(&self) -> &str {
        self.0.get("order_uuid").and_then(Json::as_str).unwrap_or_default()
    }

    /// Where the signal stood.
    pub fn state(&self) -> &str {
        self.0.get("state").and_then(Json::as_str).unwrap_or_default()
    }

    /// The document.
    pub fn to_json(&self) -> Json {
        Json::Object(self.0.clone())
    }
}

#[cfg(feature = "sign")]
impl Receipt {
    /// Signs it as a hotkey.
    ///
    /// # Errors
    /// When the key is not at hand.
    pub fn sign(
        mut self,
        signer: &dyn crate::sign::Signer,
    ) -> Result<Self, crate::sign::SignError> {
        let signature = hex::encode(signer.sign(self.message().as_bytes())?);
        self.0.set("signed_by", signer.hotkey().into());
        self.0.set("signature", format!("0x{signature}").into());
        Ok(self)
    }

    /// What is signed: unlike anything that a validator or the chain would take.
    fn message(&self) -> String {
        format!("ptn receipt\n{}", self.sha256())
    }

    fn check_signature(&self) -> Result<(), ReceiptError> {
        let text = self.0.get("signature").and_then(Json::as_str);
        let (hotkey, text) = match (self.signed_by(), text) {
            (None, None) => return Ok(()),
            (hotkey, text) => (hotkey.unwrap_or_default(), text.unwrap_or_default()),
        };
        let bytes = text.strip_prefix("0x").and_then(|text| hex::decode(text).ok());
        let right = bytes
            .is_some_and(|bytes| crate::sign::verify(hotkey, self.message().as_bytes(), &bytes));
        if right { Ok(()) } else { Err(ReceiptError::Signature(hotkey.to_owned())) }
    }
}

fn digest(o: &Object) -> String {
    let covered: Object = o
        .iter()
        .filter(|(key, _)| !SEAL.contains(key))
        .map(|(key, value)| (key.to_owned(), value.clone()))
        .collect();
    hex::encode(Sha256::digest(sorted(&Json::Object(covered)).to_string()))
}

/// The members of every object in the order of their names.
fn sorted(json: &Json) -> Json {
    match json {
        Json::Object(o) => {
            let members: std::collections::BTreeMap<_, _> =
                o.iter().map(|(key, value)| (key.to_owned(), sorted(value))).collect();
            Json::Object(members.into_iter().collect())
        }
        Json::Array(list) => Json::Array(list.iter().map(sorted).collect()),
        other => other.clone(),
    }
}

/// The nonces of all requests as strings.
fn nonces_as_text(json: Json) -> Json {
    match json {
        Json::Object(o) => {
            let text = |(key, value): (&str, &Json)| {
                let value = match value {
                    Json::Number(number) if key == "nonce" => Json::String(number.clone()),
                    other => nonces_as_text(other.clone()),
                };
                (key.to_owned(), value)
            };
            Json::Object(o.iter().map(text).collect())
        }
        Json::Array(list) => Json::Array(list.into_iter().map(nonces_as_text).collect()),
        other => other,
    }
}
