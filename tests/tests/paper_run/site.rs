//! The HTTP side: what it shows, and what it refuses.

use hyper::Method;
use ptn_tests::http::request;
use serde_json::{Value, json};

use super::Paper;

#[tokio::test(flavor = "multi_thread")]
async fn prices_are_taken_whole_or_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let paper = Paper::start(dir.path(), &[]).await;
    let rows = json!([
        {"trade_pair": "BTCUSDC", "price": "100000.5"},
        {"trade_pair": "ETHUSDC", "price": -1},
    ]);
    let (status, body) =
        request(&paper.http, Method::POST, "/api/prices", &[], &rows.to_string()).await;
    assert_eq!(status, 400, "{body}");
    assert!(body["error"].as_str().unwrap().contains("row 2, price"), "{body}");
    assert_eq!(paper.get("/api/prices").await["prices"], json!({}));
    let rows = json!([{"trade_pair": "NOSUCHPAIR", "price": 1}]);
    let (status, body) =
        request(&paper.http, Method::POST, "/api/prices", &[], &rows.to_string()).await;
    assert_eq!(status, 400, "{body}");
    paper.prices(&[("BTCUSDC", 100_000.5)]).await;
    paper.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_sites_and_names_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let paper = Paper::start(dir.path(), &[]).await;
    let body = json!({"restarting": true}).to_string();
    let from = async |headers: &[(&str, &str)]| {
        request(&paper.http, Method::POST, "/api/condition", headers, &body).await.0
    };
    assert_eq!(from(&[("origin", "https://evil.example")]).await, 403);
    assert_eq!(from(&[("origin", "null")]).await, 403);
    let own = format!("http://{}", paper.http);
    assert_eq!(from(&[("origin", &own)]).await, 200);
    paper.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_and_every_question_have_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let paper = Paper::start(dir.path(), &[]).await;
    for path in ["leaderboard", "positions", "returns", "drawdown", "eliminations", "weights"] {
        let answer = paper.get(&format!("/api/{path}")).await;
        assert!(answer["now_ms"].as_i64().unwrap() > 0, "{path}: {answer}");
    }
    let Value::String(page) = paper.get("/").await else { panic!("no page") };
    assert!(page.starts_with("<!doctype html>") && !page.contains("<script"), "{page}");
    let (status, body) = request(&paper.http, Method::GET, "/api/nothing", &[], "").await;
    assert_eq!((status, &body["code"]), (404, &json!("not_found")));
    let path = "/api/positions?hotkey=nobody";
    let (status, body) = request(&paper.http, Method::GET, path, &[], "").await;
    assert_eq!((status, &body["code"]), (404, &json!("unknown_hotkey")));
    paper.stop().await;
}
