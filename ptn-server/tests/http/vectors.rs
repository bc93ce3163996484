//! The golden vectors of the network's own servers, through the sockets.

use std::path::Path;

use ptn_core::rules::Era;
use serde_json::Value;

use crate::harness::{Server, accepted};

fn vectors(kind: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/domain.json");
    let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let all = file["vectors"].as_array().unwrap();
    let chosen: Vec<_> = all.iter().filter(|v| v["kind"] == kind).cloned().collect();
    assert!(!chosen.is_empty());
    chosen
}

#[tokio::test]
async fn auth_vectors() {
    let server = Server::start(Era::Y2026).await;
    server.deliver(accepted);
    for vector in vectors("auth") {
        let id = vector["id"].as_str().unwrap();
        assert_eq!(vector["configured_keys"], serde_json::json!(["k"]), "{id}");
        let header = vector["authorization_header"].as_str().unwrap_or("");
        let body = r#"{"api_key":"k","trade_pair":"BTCUSDC","order_type":"LONG","value":100}"#;
        let path = "/api/submit-order?api_key=k&Authorization=k";
        let answer = server.send("POST", path, &[("Authorization", header)], body).await;
        let expected = &vector["expected"];
        assert_eq!(u64::from(answer.status), expected["http_status"].as_u64().unwrap(), "{id}");
        if let Some(body) = expected["body"].as_object() {
            for (key, value) in body {
                assert_eq!(&answer.json()[key], value, "{id}");
            }
        }
    }
}

#[tokio::test]
async fn signal_vectors() {
    let mut servers = Vec::new();
    for era in [Era::Y2024, Era::Y2025, Era::Y2026] {
        let server = Server::start(era).await;
        server.deliver(accepted);
        servers.push(server);
    }
    for vector in vectors("signal") {
        let id = vector["id"].as_str().unwrap();
        let server = match Era::parse(vector["ruleset"].as_str().unwrap()).unwrap() {
            Era::Y2024 => &servers[0],
            Era::Y2025 => &servers[1],
            Era::Y2026 => &servers[2],
        };
        let body = vector["request_body"].as_str().unwrap();
        let transport = vector["transport"].as_str().unwrap();
        let answer = if transport.contains("receive-signal") {
            server.receive(body).await
        } else {
            server.submit(body).await
        };
        let expected = &vector["expected"];
        let product = &expected["product"];
        let judged = if product.is_object() { product } else { expected };
        let accept = judged["accept"].as_bool().unwrap();
        let wanted = match (&expected["http_status"], accept) {
            (_, true) => 200,
            (Value::Number(status), false) if !product.is_object() => status.as_u64().unwrap(),
            _ => 400,
        };
        assert_eq!(u64::from(answer.status), wanted, "{id}: {}", answer.body);
        if accept {
            continue;
        }
        assert_eq!(
            answer.text("code"),
            judged["category"].as_str().unwrap(),
            "{id}: {}",
            answer.body
        );
        // The texts of 2026 tell what was wrong in the vectors' own words, except for bad bodies.
        let quoted =
            |text: &&str| vector["ruleset"] != "2026" || text.starts_with("Invalid request: ");
        let text = expected["error_text"].as_str().filter(|_| !product.is_object()).filter(quoted);
        if let Some(text) = text {
            // "..." stands for a text that varies; the frame repeats the input as Python prints it.
            let fixed = text.split(" [type=").next().unwrap();
            let error = answer.text("error");
            let known = fixed.split("...").all(|part| error.contains(part.trim()));
            assert!(known || fixed.starts_with(&error), "{id}:\n{error}\n{fixed}");
        }
    }
}
