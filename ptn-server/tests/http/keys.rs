//! API keys: which files hold them, and changing them while the server runs.

use std::sync::Arc;

use ptn_core::rules::{Era, Rules};
use ptn_core::store::MemoryStore;
use ptn_server::{App, ServerConfig};

use crate::harness::{Server, eventually};

async fn status_with(server: &Server, key: &str) -> u16 {
    server.send("GET", "/api/signals", &[("Authorization", key)], "").await.status
}

async fn until(server: &Server, key: &str, status: u16) {
    eventually(|| async move { (status_with(server, key).await == status).then_some(()) }).await;
}

#[tokio::test]
async fn keys_change_while_the_server_runs() {
    let server = Server::with(Era::Y2026, |c| c.auth_failures_per_minute = 10_000).await;
    let path = server.dir.path().join("miner_secrets.json");
    assert_eq!(status_with(&server, "k").await, 200);
    // In place, with the same length.
    std::fs::write(&path, r#"{"api_key":"n"}"#).unwrap();
    until(&server, "n", 200).await;
    assert_eq!(status_with(&server, "k").await, 401);
    // By a rename, as editors do it.
    let other = server.dir.path().join("new");
    std::fs::write(&other, r#"{"api_key":"renamed"}"#).unwrap();
    std::fs::rename(&other, &path).unwrap();
    until(&server, "renamed", 200).await;
    assert_eq!(status_with(&server, "n").await, 401);
    // What cannot be read keeps what was read before. A second file shows when it was looked at.
    let users = server.dir.path().join("api_keys.json");
    for (i, broken) in
        ["", "{", "[]", "{}", r#"{"api_key":5}"#, r#"{"api_key":""}"#].iter().enumerate()
    {
        std::fs::write(&path, broken).unwrap();
        std::fs::write(&users, format!(r#"{{"someone":"round-{i}"}}"#)).unwrap();
        until(&server, &format!("round-{i}"), 200).await;
        assert_eq!(status_with(&server, "renamed").await, 200, "{broken:?}");
    }
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&users, r#"{"someone":"last"}"#).unwrap();
    until(&server, "last", 200).await;
    assert_eq!(status_with(&server, "renamed").await, 200);
    assert_eq!(status_with(&server, "round-0").await, 401);
}

#[tokio::test]
async fn only_what_is_meant_as_a_key_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("mining");
    for (folder, file, text) in [
        ("mining", "miner_secrets.json", r#"{"api_key":"one","wallet_password":"secret"}"#),
        (
            "mining",
            "api_keys.json",
            r#"{"a":"two","b":{"key":"three","tier":30},"c":{"tier":0},"d":" x"}"#,
        ),
        ("vanta_api", "api_keys.json", r#"{"e":{"key":"four"}}"#),
        ("ptn_api", "api_keys.json", r#"{"f":"five"}"#),
    ] {
        std::fs::create_dir_all(dir.path().join(folder)).unwrap();
        std::fs::write(dir.path().join(folder).join(file), text).unwrap();
    }
    let server = Server::with(Era::Y2026, |config| config.data_dir = data).await;
    for key in ["one", "two", "three", "four", "five"] {
        assert_eq!(status_with(&server, key).await, 200, "{key}");
    }
    for key in ["secret", "", "x", " x", "tier", "a", "ONE", "one "] {
        let wanted = if key == "one " { 200 } else { 401 }; // HTTP trims header values.
        assert_eq!(status_with(&server, key).await, wanted, "{key:?}");
    }
}

#[tokio::test]
async fn without_any_key_the_server_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = ServerConfig::default();
    config.data_dir = dir.path().join("mining");
    let rules = Arc::new(Rules::load(Era::Y2026).unwrap());
    let error = App::new(config, Arc::new(MemoryStore::new()), rules).unwrap_err().to_string();
    for part in ["no API key", "miner_secrets.json", "ptn_api", "api_key"] {
        assert!(error.contains(part), "{error}");
    }
}

#[tokio::test]
async fn a_broken_key_file_is_the_reason_that_is_given() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("miner_secrets.json"), r#"{"api_key": "hunter2"#).unwrap();
    std::fs::write(dir.path().join("api_keys.json"), "[]").unwrap();
    let mut config = ServerConfig::default();
    config.data_dir = dir.path().to_owned();
    let rules = Arc::new(Rules::load(Era::Y2026).unwrap());
    let error = App::new(config, Arc::new(MemoryStore::new()), rules).unwrap_err().to_string();
    for part in
        ["miner_secrets.json: it is not valid JSON", "api_keys.json: it is not a JSON object"]
    {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(!error.contains("hunter2"), "{error}");
}
