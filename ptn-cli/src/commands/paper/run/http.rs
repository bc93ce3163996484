//! The HTTP side of a standing validator: questions, pushed prices, and the states that a firm wants
//! to see its miner meet. It listens on loopback only, and refuses what a web page could send there.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::{get, post};
use ptn_core::paper::book::Standing;
use ptn_core::paper::desk::{DeskError, PaperDesk};
use ptn_core::paper::prices::coinbase::FeedWatch;
use ptn_core::paper::prices::push::{self, PushLimits};
use ptn_core::paper::prices::{PriceSender, PriceSpec};
use ptn_core::paper::validator::{Condition, PaperValidator};
use ptn_core::rules::Era;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{page, view};

/// What the handlers share.
#[derive(Debug, Clone)]
pub(super) struct Site {
    desk: PaperDesk,
    prices: Option<PriceSender>,
    watch: Option<FeedWatch>,
    spec: String,
    limits: Arc<PushLimits>,
}

impl Site {
    pub(super) fn new(
        desk: PaperDesk,
        era: Era,
        spec: &PriceSpec,
        prices: Option<PriceSender>,
        watch: Option<FeedWatch>,
    ) -> Self {
        let pairs = ptn_core::rules::Rules::load(era)
            .map(|rules| rules.catalogue.iter().map(|pair| pair.id.clone()).collect::<Vec<_>>());
        let limits = pairs.map(PushLimits::for_pairs).unwrap_or_default();
        Self { desk, prices, watch, spec: spec.to_string(), limits: Arc::new(limits) }
    }

    async fn ask(
        &self,
        question: impl FnOnce(&PaperValidator) -> Value + Send + 'static,
    ) -> Result<Json<Value>, Refused> {
        Ok(Json(self.desk.ask(question).await?))
    }
}

/// An answer that says no.
struct Refused {
    status: StatusCode,
    code: String,
    text: String,
}

impl Refused {
    fn new(status: StatusCode, code: &str, text: impl Into<String>) -> Self {
        Self { status, code: code.to_owned(), text: text.into() }
    }
}

impl From<DeskError> for Refused {
    fn from(e: DeskError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, e.code(), e.to_string())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status, Json(json!({"error": self.text, "code": self.code}))).into_response()
    }
}

/// Answers until it is stopped.
pub(super) async fn serve(
    listener: TcpListener,
    site: Site,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let app = Router::new()
        .route("/", get(board))
        .route("/livez", get(|| async { "ok" }))
        .route("/api/leaderboard", get(leaderboard))
        .route("/api/positions", get(positions))
        .route("/api/returns", get(returns))
        .route("/api/drawdown", get(drawdown))
        .route("/api/eliminations", get(eliminations))
        .route("/api/weights", get(weights))
        .route("/api/prices", get(prices).post(push_prices))
        .route("/api/standing", post(standing))
        .route("/api/condition", post(condition))
        .fallback(|| async {
            Refused::new(
                StatusCode::NOT_FOUND,
                "not_found",
                "no such path; docs/paper.md has them all",
            )
        })
        .layer(DefaultBodyLimit::max(site.limits.most_bytes))
        .layer(middleware::from_fn(only_ours))
        .with_state(site);
    axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned()).await
}

/// A page in a browser on this machine must neither read nor change anything here: names that
/// somebody points at 127.0.0.1 are refused, and so are requests that come from another site.
async fn only_ours(request: Request, next: Next) -> Response {
    if is_foreign(request.headers()) {
        let text =
            "ask for it by its address, such as http://127.0.0.1:8092, and not from another site";
        return Refused::new(StatusCode::FORBIDDEN, "foreign", text).into_response();
    }
    next.run(request).await
}

fn is_foreign(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let ours = ["localhost", "[::1]"].contains(&name)
        || name.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_loopback());
    let origin = text(header::ORIGIN);
    !ours || origin.is_some_and(|origin| origin != format!("http://{host}"))
}

#[derive(Debug, Deserialize)]
struct Whose {
    hotkey: Option<String>,
}

impl Whose {
    /// Refuses a hotkey that nobody has.
    async fn known(self, site: &Site) -> Result<Option<String>, Refused> {
        let Some(hotkey) = self.hotkey else { return Ok(None) };
        let asked = hotkey.clone();
        let known = site.desk.ask(move |v| v.book().account(&asked).is_some()).await?;
        match known {
            true => Ok(Some(hotkey)),
            false => {
                let text = "hotkey: nothing has come from it yet; /api/leaderboard has those that are known";
                Err(Refused::new(StatusCode::NOT_FOUND, "unknown_hotkey", text))
            }
        }
    }
}

async fn board(State(site): State<Site>) -> Result<Html<String>, Refused> {
    let spec = site.spec.clone();
    Ok(Html(site.desk.ask(move |validator| page::page(validator, &spec)).await?))
}

async fn leaderboard(State(site): State<Site>) -> Result<Json<Value>, Refused> {
    site.ask(view::leaderboard).await
}

async fn positions(
    State(site): State<Site>,
    Query(whose): Query<Whose>,
) -> Result<Json<Value>, Refused> {
    let hotkey = whose.known(&site).await?;
    site.ask(move |validator| view::positions(validator, hotkey.as_deref())).await
}

async fn returns(
    State(site): State<Site>,
    Query(whose): Query<Whose>,
) -> Result<Json<Value>, Refused> {
    let hotkey = whose.known(&site).await?;
    site.ask(move |validator| view::returns(validator, hotkey.as_deref())).await
}

async fn drawdown(State(site): State<Site>) -> Result<Json<Value>, Refused> {
    site.ask(view::drawdown).await
}

async fn eliminations(State(site): State<Site>) -> Result<Json<Value>, Refused> {
    site.ask(view::eliminations).await
}

async fn weights(State(site): State<Site>) -> Result<Json<Value>, Refused> {
    site.ask(view::weights).await
}

async fn prices(State(site): State<Site>) -> Result<Json<Value>, Refused> {
    let (spec, feed) = (site.spec.clone(), site.watch.as_ref().map(FeedWatch::now));
    site.ask(move |validator| {
        let mut answer = view::prices(validator);
        if let Some(answer) = answer.as_object_mut() {
            answer.insert("source".to_owned(), json!(spec));
            answer.insert("feed".to_owned(), json!(feed));
        }
        answer
    })
    .await
}

async fn push_prices(State(site): State<Site>, body: Bytes) -> Result<Json<Value>, Refused> {
    let Some(sender) = &site.prices else {
        let text = format!("the prices come from {}; start it with --prices push", site.spec);
        return Err(Refused::new(StatusCode::CONFLICT, "prices_elsewhere", text));
    };
    let ticks = push::read(&body, site.desk.clock().now_ms(), &site.limits)
        .map_err(|e| Refused::new(StatusCode::BAD_REQUEST, e.code(), e.to_string()))?;
    let pushed = sender
        .push(ticks)
        .map_err(|e| Refused::new(StatusCode::BAD_REQUEST, e.code(), e.to_string()))?;
    Ok(Json(json!(pushed)))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewStanding {
    hotkey: String,
    /// Nothing is a miner in good standing.
    standing: Option<String>,
}

/// Reads a JSON body, whatever its content type says.
fn json_of<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refused> {
    serde_json::from_slice(body)
        .map_err(|e| Refused::new(StatusCode::BAD_REQUEST, "bad_request", e.to_string()))
}

async fn standing(State(site): State<Site>, body: Bytes) -> Result<Json<Value>, Refused> {
    let new: NewStanding = json_of(&body)?;
    let standing = match new.standing.as_deref() {
        None | Some("good") => None,
        Some("deregistered") => Some(Standing::Deregistered { at_ms: site.desk.clock().now_ms() }),
        Some("entity") => Some(Standing::Entity),
        Some("inactive_subaccount") => Some(Standing::InactiveSubaccount),
        Some(other) => {
            let text = format!(
                "standing: {other:?} is not allowed; write good, deregistered, entity or inactive_subaccount"
            );
            return Err(Refused::new(StatusCode::BAD_REQUEST, "bad_request", text));
        }
    };
    site.desk.set_standing(new.hotkey, standing).await?;
    Ok(Json(json!({"ok": true})))
}

async fn condition(State(site): State<Site>, body: Bytes) -> Result<Json<Value>, Refused> {
    let condition: Condition = json_of(&body)?;
    site.desk.set_condition(condition).await?;
    Ok(Json(json!({"ok": true})))
}
