//! Answers of validators, as bytes on a stream, and what they mean.
//!
//! The first byte chooses the wire (1); the rest is everything that the validator sends.

use std::sync::OnceLock;
use std::time::Duration;

use ptn_core::deliver::verdict::{LONGEST_WAIT, Verdict, codes, judge};
use ptn_core::directory::{Validator, Wire};
use ptn_core::rules::Era;
use ptn_core::signal::Signal;
use ptn_core::transport::{Certainty, OutboundOrder, http};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{block_on, rules};

/// The validator that every answer is read as one of.
const HOTKEY: &str = "5FUcmR6RpnmJ94A5DiGfrLRmy739xc16YeRU1LtmLsPWdcJN";

/// See the module.
pub fn replies(data: &[u8]) {
    let Some((selector, bytes)) = data.split_first() else { return };
    let wire = if selector & 1 == 0 { Wire::Btauth } else { Wire::Dendrite };
    let to = Validator {
        hotkey: HOTKEY.to_owned(),
        ip: [127, 0, 0, 1].into(),
        port: 8091,
        v_trust: 1.0,
        stake: 0.0,
        permit: true,
        wire,
    };
    let result = block_on(async {
        let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
        let bytes = bytes.to_vec();
        // Answers when it was asked, as validators do, then closes.
        let peer = tokio::spawn(async move {
            let mut request = [0; 4096];
            if theirs.read(&mut request).await.is_ok() {
                theirs.write_all(&bytes).await.ok();
            }
        });
        let result = http::read_answer(ours, &to, order()).await;
        peer.abort();
        result
    });
    match &result {
        Ok(reply) => {
            assert!((100..=999).contains(&reply.status), "{reply:?}");
            assert!(reply.error_message.len() <= 4096, "{} bytes", reply.error_message.len());
            assert!(reply.order_json.len() <= 64 * 1024, "{} bytes", reply.order_json.len());
            if !reply.validator_hotkey.is_empty() {
                assert_eq!(reply.validator_hotkey, HOTKEY);
            }
        }
        Err(error) => {
            // The request was written, and nothing usable came back.
            assert_eq!(error.certainty, Certainty::MaybeSent, "{error:?}");
            assert!(error.message.len() <= 1024, "{} bytes", error.message.len());
            assert_eq!(error.message.chars().find(|c| c.is_control()), None, "{error:?}");
        }
    }
    let judged = judge(&result);
    assert!(codes().any(|code| code == judged.code), "{judged:?}");
    if let Verdict::Wait(wait) = judged.verdict {
        assert!(wait <= LONGEST_WAIT + Duration::from_secs(1), "{wait:?}");
    }
    // Nothing but the validator's word is taken for success.
    if judged.verdict == Verdict::Accepted {
        assert!(matches!(&result, Ok(reply) if reply.status == 200), "{result:?}");
    }
}

fn order() -> &'static OutboundOrder {
    static ORDER: OnceLock<OutboundOrder> = OnceLock::new();
    ORDER.get_or_init(|| {
        let body = br#"{"trade_pair":"BTCUSDC","order_type":"LONG","value":1,"order_uuid":"u"}"#;
        let signal = Signal::from_json(body, rules(Era::Y2026)).expect("a signal");
        OutboundOrder::new(&signal, "8.8.9")
    })
}
