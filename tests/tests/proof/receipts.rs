//! Receipts: complete, the same for everyone who asks, and no longer a proof once changed.

use std::sync::Mutex;

use ptn_core::json::Json;
use ptn_core::record::receipt::{Receipt, ReceiptError};
use ptn_core::sign::{Hotkey, Signer};
use ptn_core::store::SignalStore;
use ptn_core::transport::{OutboundOrder, ValidatorTransport};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

async fn receipt_of(dir: &Path, name: &str) -> Receipt {
    Receipt::of(&store(dir).get(&id(name)).await.unwrap().unwrap())
}

#[tokio::test]
async fn a_receipt_says_who_answered_what_and_when_with_every_requests_digest() {
    let dir = lived_in().await;
    let receipt = receipt_of(dir.path(), "two").await.to_json().to_string();
    let receipt: serde_json::Value = serde_json::from_str(&receipt).unwrap();
    assert_eq!(receipt["receipt"], "ptn/1");
    assert_eq!(receipt["order_uuid"], "two");
    assert_eq!(receipt["state"], "processed");
    assert_eq!(receipt["signal"]["trade_pair"]["trade_pair_id"], "BTCUSDC");
    let validators = receipt["validators"].as_array().unwrap();
    assert_eq!(validators.len(), 2);
    let mut digests = Vec::new();
    for validator in validators {
        assert_eq!(validator["state"], "accepted");
        let requests = validator["requests"].as_array().unwrap();
        assert_eq!(requests.len(), 1, "{validator}");
        assert_eq!(requests[0]["code"], "accepted");
        let (sent, answered) = (&requests[0]["at"], &requests[0]["answered_at"]);
        assert!(sent.as_i64().unwrap() <= answered.as_i64().unwrap());
        assert!(sent.as_i64().unwrap() >= receipt["accepted_at"].as_i64().unwrap());
        digests.push(requests[0]["sha256"].as_str().unwrap());
    }
    assert_eq!(digests[0].len(), 64);
    assert_ne!(digests[0], digests[1], "each is signed for its receiver");
}

#[tokio::test]
async fn a_receipt_of_a_waiting_signal_says_so() {
    let dir = lived_in().await;
    let receipt = receipt_of(dir.path(), "four").await;
    assert_eq!((receipt.order_uuid(), receipt.state()), ("four", "pending"));
    assert_eq!(Receipt::read(receipt.to_json().to_string().as_bytes()), Ok(receipt));
}

#[tokio::test]
async fn one_changed_character_is_found() {
    let dir = lived_in().await;
    let receipt = receipt_of(dir.path(), "two").await;
    // However it is laid out.
    let kept = receipt.to_json().to_python_indented();
    assert_eq!(Receipt::read(kept.as_bytes()), Ok(receipt));
    let nonce = kept.split("\"nonce\": \"").nth(1).unwrap().split('"').next().unwrap();
    assert!(nonce.len() > 16, "a string, which nobody rounds: {nonce}");
    for (from, to) in
        [("\"accepted\"", "\"rejected\""), ("0.1", "0.2"), ("\"seq\": 2", "\"seq\": 3")]
    {
        assert!(kept.contains(from), "{kept}");
        let changed = Receipt::read(kept.replacen(from, to, 1).as_bytes());
        assert!(matches!(changed, Err(ReceiptError::Changed { .. })), "{from}: {changed:?}");
    }
    // Members in another order, as databases and tools hand them out.
    let value: serde_json::Value = serde_json::from_str(&kept).unwrap();
    let members: Vec<_> = value.as_object().unwrap().iter().rev().collect();
    let turned = members.iter().map(|(key, value)| format!("{}: {value}", serde_json::json!(key)));
    let turned = format!("{{{}}}", turned.collect::<Vec<_>>().join(", "));
    assert_eq!(Receipt::read(turned.as_bytes()).unwrap().state(), "processed");
    // A second value for a key, which others may read instead of ours.
    let twice = kept.replacen("{", "{\"state\": \"failed\", ", 1);
    let twice = Receipt::read(twice.as_bytes());
    assert!(matches!(twice, Err(ReceiptError::Form(_))), "{twice:?}");
    for none in ["", "[]", "{}", "{\"receipt\": \"ptn/2\"}"] {
        assert!(matches!(Receipt::read(none.as_bytes()), Err(ReceiptError::Form(_))), "{none}");
    }
}

#[tokio::test]
async fn a_signature_says_who_issued_it_and_binds_the_content() {
    let dir = lived_in().await;
    let key = Hotkey::from_seed([7; 32]);
    let signed = receipt_of(dir.path(), "two").await.sign(&key).unwrap();
    let text = signed.to_json().to_string();
    assert_eq!(Receipt::read(text.as_bytes()).unwrap().signed_by(), Some(key.hotkey()));
    // Another issuer's name, and another receipt's signature.
    let other = Hotkey::from_seed([8; 32]);
    let renamed = text.replace(key.hotkey(), other.hotkey());
    let refused = ReceiptError::Signature(other.hotkey().to_owned());
    assert_eq!(Receipt::read(renamed.as_bytes()), Err(refused));
    let one = receipt_of(dir.path(), "one").await.sign(&key).unwrap().to_json();
    let signature = |json: &Json| json.as_object().unwrap().get("signature").unwrap().clone();
    let mut moved = signed.to_json().as_object().unwrap().clone();
    moved.set("signature", signature(&one));
    let moved = Receipt::read(Json::Object(moved).to_string().as_bytes());
    assert_eq!(moved, Err(ReceiptError::Signature(key.hotkey().to_owned())));
}

#[tokio::test]
async fn the_digest_is_that_of_the_bytes_that_the_validator_received() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = ptn_core::directory::Validator {
        hotkey: Hotkey::from_seed([2; 32]).hotkey().to_owned(),
        port: listener.local_addr().unwrap().port(),
        ip: [127, 0, 0, 1].into(),
        ..ptn_tests::script::validator("", 1.0)
    };
    let got = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&got);
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 16 * 1024];
        loop {
            let n = stream.read(&mut buffer).await.unwrap();
            let mut all = kept.lock().unwrap().clone();
            all.extend_from_slice(&buffer[..n]);
            let text = String::from_utf8_lossy(&all).into_owned();
            *kept.lock().unwrap() = all;
            if n == 0 || text.ends_with("\"computed_body_hash\":\"\"}") {
                break;
            }
        }
        stream.write_all(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    });
    let mut options = HttpOptions::default();
    options.policy = AddressPolicy::AllowPrivate;
    let transport = HttpTransport::new(Arc::new(Hotkey::from_seed([1; 32])), options);
    let order = OutboundOrder::new(&signal("one", "BTCUSDC"), "8.8.9");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    let reply = transport.deliver(&to, &order, deadline).await.unwrap();
    let bytes = got.lock().unwrap().clone();
    let (head, body) = std::str::from_utf8(&bytes).unwrap().split_once("\r\n\r\n").unwrap();
    // The length is the connection's business; everything else is as it was signed.
    let lines =
        head.split("\r\n").filter(|line| !line.to_lowercase().starts_with("content-length"));
    let mut text: String = lines.map(|line| format!("{line}\n")).collect();
    text.push('\n');
    text.push_str(body);
    assert_eq!(reply.requests.len(), 1);
    assert_eq!(reply.requests[0].sha256, hex::encode(Sha256::digest(&text)), "{text}");
    let nonce = format!("x-bittensor-nonce: {}", reply.requests[0].nonce);
    assert!(head.contains(&nonce), "{head}");
}
