//! Where signals are looked at: a store or a server, behind the same few questions.

use std::path::Path;
use std::time::Duration;

use hyper::Method;
use ptn_core::ops::config::Settings;
use ptn_core::ops::process;
use ptn_core::ops::store::Opened;
use ptn_core::record::receipt::Receipt;
use ptn_core::signal::OrderUuid;
use ptn_core::store::{Filter, StoreError};
use serde::Deserialize;

use crate::commands::spool;
use crate::commands::target::ServerArgs;
use crate::failure::Failure;
use crate::http::{Answer, Call, Server};
use crate::text;
use crate::view::SignalView;

const TIMEOUT: Duration = Duration::from_secs(20);
/// How many signals a short id is looked for in.
const LOOK_AMONG: usize = 1000;

/// A store or a server.
#[derive(Debug)]
pub(super) enum Source {
    /// A data directory of this machine, or a database.
    Store(Opened),
    /// `GET /api/signals` and what belongs to it.
    Server(Server),
}

#[derive(Deserialize)]
struct Page {
    signals: Vec<SignalView>,
}

#[derive(Deserialize)]
struct Refusal {
    error: Option<String>,
    code: Option<String>,
}

impl Source {
    /// The server when one was named, otherwise the store.
    pub(super) async fn open(server: &ServerArgs, settings: &Settings) -> Result<Self, Failure> {
        match server.server()? {
            Some(server) => Ok(Self::Server(server)),
            None => spool::open_existing(settings).await.map(Self::Store),
        }
    }

    /// What it is, for texts.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Store(store) => store.name(),
            Self::Server(server) => server.name(),
        }
    }

    /// The data directory, where it is one.
    pub(super) fn dir(&self) -> Option<&Path> {
        match self {
            Self::Store(Opened::Fs(store)) => Some(store.dir()),
            _ => None,
        }
    }

    /// Signals, newest first.
    pub(super) async fn list(&self, filter: &Filter) -> Result<Vec<SignalView>, Failure> {
        let server = match self {
            Self::Store(store) => {
                let list = store.signals().list(filter).await?;
                return Ok(list.iter().map(SignalView::of).collect());
            }
            Self::Server(server) => server,
        };
        let mut path = format!("/api/signals?limit={}", filter.limit);
        for state in &filter.states {
            path.push_str(&format!("&state={state}"));
        }
        if let Some(pair) = &filter.trade_pair {
            let safe = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            if !pair.chars().all(safe) {
                return Err(Failure::usage(format!("--pair {pair}: that is no trade pair")));
            }
            path.push_str(&format!("&trade_pair={pair}"));
        }
        if let Some(before) = filter.before_seq {
            path.push_str(&format!("&before={before}"));
        }
        let page: Page = read(server, &get(server, &path).await?)?;
        Ok(page.signals)
    }

    /// A signal by its id, or by a beginning that only one has.
    pub(super) async fn find(&self, given: &str) -> Result<SignalView, Failure> {
        let id = OrderUuid::parse(given)
            .map_err(|e| Failure::new(process::USAGE, "order_uuid_invalid", e.to_string()))?;
        if let Some(view) = self.get(&id).await? {
            return Ok(view);
        }
        let filter = Filter { limit: LOOK_AMONG, ..Filter::default() };
        let mut hits = self.list(&filter).await?;
        hits.retain(|s| s.order_uuid.starts_with(given));
        let many = hits.len() > 1;
        match hits.pop().filter(|_| !many) {
            Some(view) => Ok(view),
            None if many => {
                let text = format!("{given} begins more than one order_uuid; give more of it");
                Err(Failure::new(process::USAGE, "ambiguous", text))
            }
            None => Err(Failure::from(StoreError::NotFound { id })
                .hint(format!("looked in {}; see: ptn-cli signals list", self.name()))),
        }
    }

    async fn get(&self, id: &OrderUuid) -> Result<Option<SignalView>, Failure> {
        match self {
            Self::Store(store) => Ok(store.signals().get(id).await?.as_ref().map(SignalView::of)),
            Self::Server(server) => {
                let answer = get(server, &format!("/api/signals/{id}")).await?;
                if answer.status == 404 { Ok(None) } else { read(server, &answer).map(Some) }
            }
        }
    }

    /// The receipt of a signal.
    pub(super) async fn receipt(&self, id: &str) -> Result<Receipt, Failure> {
        match self {
            Self::Store(store) => {
                let id = parse(id)?;
                let stored = store.signals().get(&id).await?;
                stored.as_ref().map(Receipt::of).ok_or_else(|| StoreError::NotFound { id }.into())
            }
            Self::Server(server) => {
                let answer = get(server, &format!("/api/signals/{id}/receipt")).await?;
                if answer.status != 200 {
                    return Err(refused(server, &answer));
                }
                Receipt::read(&answer.body)
                    .map_err(|e| Failure::failed("bad_answer", format!("{}: {e}", server.name())))
            }
        }
    }

    /// Makes a failed signal deliverable again.
    pub(super) async fn retry(&self, id: &str) -> Result<(), Failure> {
        match self {
            Self::Store(store) => Ok(store.signals().retry(&parse(id)?).await?),
            Self::Server(server) => post(server, &format!("/api/signals/{id}/retry")).await,
        }
    }

    /// Asks for a cancellation.
    pub(super) async fn cancel(&self, id: &str) -> Result<(), Failure> {
        match self {
            Self::Store(store) => Ok(store.signals().cancel(&parse(id)?).await?),
            Self::Server(server) => post(server, &format!("/api/signals/{id}/cancel")).await,
        }
    }
}

fn parse(id: &str) -> Result<OrderUuid, Failure> {
    OrderUuid::parse(id).map_err(|e| Failure::usage(e.to_string()))
}

async fn get(server: &Server, path: &str) -> Result<Answer, Failure> {
    server.call(Call { method: Method::GET, path, body: None, timeout: TIMEOUT }).await
}

async fn post(server: &Server, path: &str) -> Result<(), Failure> {
    let answer =
        server.call(Call { method: Method::POST, path, body: None, timeout: TIMEOUT }).await?;
    if answer.status == 200 { Ok(()) } else { Err(refused(server, &answer)) }
}

fn read<T: for<'a> Deserialize<'a>>(server: &Server, answer: &Answer) -> Result<T, Failure> {
    if answer.status != 200 {
        return Err(refused(server, answer));
    }
    serde_json::from_slice(&answer.body).map_err(|e| {
        let text = format!("{} answered something else than expected: {e}", server.name());
        Failure::failed("bad_answer", text).hint("is this really a ptn-server?")
    })
}

fn refused(server: &Server, answer: &Answer) -> Failure {
    let said = serde_json::from_slice::<Refusal>(&answer.body).ok();
    let exit = match answer.status {
        409 | 500 => process::FAILED,
        429 | 501..=599 => process::UNAVAILABLE,
        _ => process::USAGE,
    };
    let code = said.as_ref().and_then(|r| r.code.clone());
    let code = code.unwrap_or_else(|| format!("http_{}", answer.status));
    let error = said.and_then(|r| r.error).unwrap_or_default();
    let text = format!("{} answered {}: {}", server.name(), answer.status, text::harmless(&error));
    Failure::new(exit, code, text).hint_for_status(answer.status)
}
