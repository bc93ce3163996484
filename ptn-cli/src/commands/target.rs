//! Where a signal goes: a server or the spool, and whether to wait for the validators' answers.
//!
//! `send` and `trigger` share this. Judging the signal is left to `ptn_core::signal`; delivering it
//! to whoever delivers from the spool.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use hyper::Method;
use ptn_core::guard::REFUSED;
use ptn_core::json::{Json, Object};
use ptn_core::ops::config::{Settings, expand_home, parse_duration, read_text};
use ptn_core::ops::process;
use ptn_core::ops::store::{Opened, Place};
use ptn_core::record::SignalState;
use ptn_core::rules::Rules;
use ptn_core::signal::Signal;
use ptn_core::store::Accepted;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::spool;
use super::verdict::{self, Judged};
use crate::Outcome;
use crate::failure::Failure;
use crate::http::{Call, Server};
use crate::output::{Output, Style};
use crate::text;
use crate::view::SignalView;

/// How often a waiting command looks by itself; events usually come sooner.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// To a server instead of the spool.
#[derive(Debug, Clone, Args)]
pub struct ServerArgs {
    /// Server to talk to, http://HOST:PORT, instead of the data directory
    #[arg(long, value_name = "URL", env = "PTN_URL", hide_env_values = true)]
    pub url: Option<String>,
    /// File with the API key: the key alone, or {"api_key": "..."}; otherwise PTN_API_KEY is read.
    /// A key in an argument would be visible to every user of this machine
    #[arg(long, value_name = "FILE", requires = "url")]
    pub api_key_file: Option<PathBuf>,
}

/// Where to, and how long to wait.
#[derive(Debug, Clone, Args)]
pub struct TargetArgs {
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
    /// Wait for the validators' answers (default with --url, and when a miner delivers from the
    /// data directory)
    #[arg(long, overrides_with = "no_wait")]
    pub wait: bool,
    /// Return as soon as the signal is safe
    #[arg(long)]
    pub no_wait: bool,
    /// How long to wait for the answers
    #[arg(long, value_name = "DURATION", default_value = "120s", value_parser = duration)]
    pub timeout: Duration,
    /// Show what would be sent, and send nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Reads a duration argument.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "expected a duration such as 30s, 5m or 250ms".to_owned())
}

impl ServerArgs {
    /// The server, when one was named.
    ///
    /// # Errors
    /// When the URL or the key cannot be used.
    pub fn server(&self) -> Result<Option<Server>, Failure> {
        let Some(url) = &self.url else { return Ok(None) };
        let key = match &self.api_key_file {
            Some(path) => Some(key_of_file(path)?),
            None => std::env::var("PTN_API_KEY").ok().filter(|k| !k.is_empty()),
        };
        if key.is_none() {
            return Err(Failure::usage("the server wants an API key")
                .hint("name the file that holds it with --api-key-file, or set PTN_API_KEY"));
        }
        Server::new(url, key).map(Some)
    }
}

fn key_of_file(path: &std::path::Path) -> Result<String, Failure> {
    let path = expand_home(&path.to_string_lossy());
    let text = read_text(&path)?;
    let text = text.trim();
    let key = match Json::parse(text.as_bytes()) {
        Ok(Json::Object(o)) => o.get("api_key").and_then(Json::as_str).map(str::to_owned),
        _ => Some(text.to_owned()).filter(|t| !t.is_empty() && !t.contains(char::is_whitespace)),
    };
    key.ok_or_else(|| {
        let text = format!("{}: there is no API key in it", path.display());
        Failure::usage(text).hint("the key alone on one line, or {\"api_key\": \"...\"}")
    })
}

/// A signal that is ready to go, with the object from which it was read.
#[derive(Debug, Clone)]
pub struct Ready {
    /// The signal.
    pub signal: Signal,
    /// What the user gave.
    pub object: Object,
}

/// Sends signals one after the other; the exit code is that of the worst of them.
///
/// # Errors
/// When one cannot be handed over; those before it are on their way.
pub async fn send_all(
    ready: Vec<Ready>,
    args: &TargetArgs,
    settings: &Settings,
    rules: &Arc<Rules>,
    out: &mut Output,
) -> Outcome {
    let mut worst = process::OK;
    if args.dry_run {
        for one in &ready {
            dry_run(&one.signal, args, settings, out)?;
        }
        return Ok(worst);
    }
    if let Some(server) = args.server.server()? {
        for one in ready {
            let code = to_server(&server, one, args, out).await?;
            worst = if worst == process::OK { code } else { worst };
        }
        return Ok(worst);
    }
    let store = spool::open_or_create(settings, rules, out).await?;
    for one in ready {
        let judged = verdict::beside_spool(settings, rules, &store, &one.signal).await?;
        if let Some(judged) = judged.as_ref().filter(|judged| judged.verdict.blocks(judged.mode)) {
            verdict::talk(judged, out);
            return Err(refused_by_guard(judged));
        }
        let code = to_store(&store, &one.signal, judged, args, out).await?;
        worst = if worst == process::OK { code } else { worst };
    }
    Ok(worst)
}

/// A signal that is not handed over.
fn refused_by_guard(judged: &Judged) -> Failure {
    let text = format!("nothing was stored: the risk guard refuses it: {}", judged.verdict.words());
    Failure::new(process::REFUSED, REFUSED, text).hint("--guard warn sends it nevertheless")
}

/// What a server thinks of a signal, without storing or sending it; nothing when its guard is off.
///
/// # Errors
/// When it cannot be asked.
pub(crate) async fn check_at(
    server: &Server,
    ready: Ready,
    args: &TargetArgs,
) -> Result<Option<Judged>, Failure> {
    let mut object = ready.object;
    object.remove("api_key");
    let body = Some(("application/json", Json::Object(object).to_string()));
    let path = "/api/check-order";
    let answer =
        server.call(Call { method: Method::POST, path, body, timeout: args.timeout }).await?;
    let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if answer.status == 200 {
        return Ok(Judged::of_server(&json));
    }
    let word = |key: &str| json.get(key).and_then(serde_json::Value::as_str);
    let code = word("code").map_or_else(|| format!("http_{}", answer.status), str::to_owned);
    let said = text::harmless(word("error").unwrap_or_default());
    let text = format!("{} answered {}: {said}", server.name(), answer.status);
    let exit = match answer.status {
        429 | 500..=599 => process::UNAVAILABLE,
        _ => process::USAGE,
    };
    Err(Failure::new(exit, code, text).hint_for_status(answer.status))
}

fn dry_run(
    signal: &Signal,
    args: &TargetArgs,
    settings: &Settings,
    out: &mut Output,
) -> Result<(), Failure> {
    let to = match &args.server.url {
        Some(url) => Server::new(url, None)?.name(),
        None => Place::from_settings(settings)?.name(),
    };
    if out.is_json() {
        let mut o = Object::new();
        o.set("dry_run", true.into());
        o.set("order_uuid", signal.order_uuid().into());
        o.set("rules", signal.era().as_str().into());
        o.set("target", to.into());
        o.set("signal", signal.normalised());
        o.set("wire", signal.to_wire());
        return out.line(Json::Object(o));
    }
    let pair = signal.trade_pair().map(|p| format!("{p} ")).unwrap_or_default();
    let words = text::order(signal.body(), signal.order_uuid());
    for (name, value) in [
        ("order", format!("{pair}{words}")),
        ("rules", signal.era().to_string()),
        ("order_uuid", signal.order_uuid().to_owned()),
        ("would go to", to),
        ("signal", signal.normalised().to_string()),
        ("on the wire", signal.to_wire().to_string()),
    ] {
        let name = out.paint(Style::Dim, text::pad(name, 12));
        out.line(format!("{name} {value}"))?;
    }
    out.talk("dry run: nothing was stored and nothing was sent");
    Ok(())
}

async fn to_store(
    opened: &Opened,
    signal: &Signal,
    judged: Option<Judged>,
    args: &TargetArgs,
    out: &mut Output,
) -> Outcome {
    let store = opened.signals();
    // Before accepting, so that no event is missed.
    let mut events = store.events();
    let accepted = store.accept(signal).await?;
    let id = signal.id();
    if !out.is_json() {
        out.line(id)?;
        match &accepted {
            Accepted::New { .. } => out.talk(format!("safe in {}", opened.name())),
            Accepted::Same { state } => {
                let again = match state {
                    SignalState::Failed => format!("; ptn-cli signals retry {id} sends it again"),
                    _ => String::new(),
                };
                out.talk(format!("the same signal was accepted before; it is {state}{again}"));
            }
        }
    }
    if let Some(judged) = judged {
        verdict::talk(&judged.of_accepted(id), out);
    }
    let holder = spool::deliverer(opened).await;
    // What was decided before is told at once, whoever delivers now.
    let over = matches!(accepted, Accepted::Same { state } if state != SignalState::Pending);
    let wait = over || args.wait || (!args.no_wait && holder.is_some());
    if holder.is_none() && !over && !out.is_json() {
        let now = if args.wait { "; waiting for one" } else { "" };
        out.talk(format!(
            "no miner delivers from {} yet: it goes out when one starts{now}",
            opened.name()
        ));
    }
    let deadline = Instant::now() + args.timeout;
    let mut shown = Vec::new();
    loop {
        let stored = store.get(id).await?;
        let Some(view) = stored.as_ref().map(SignalView::of) else {
            return Err(Failure::failed("not_found", format!("{id} is not in the store any more")));
        };
        if wait && !out.is_json() {
            show_news(&view, &mut shown, out)?;
        }
        let decided = view.state != SignalState::Pending;
        if !wait || decided || Instant::now() >= deadline {
            return conclude(&view, wait, args, out);
        }
        let next = deadline.min(Instant::now() + LOOK_AGAIN);
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            // What happened is read from the store; that something did is enough.
            event = events.recv() => if event.is_err() { tokio::time::sleep_until(next).await },
        }
    }
}

/// A line for every validator whose record changed.
fn show_news(
    view: &SignalView,
    shown: &mut Vec<ptn_core::record::ValidatorRecord>,
    out: &mut Output,
) -> Result<(), Failure> {
    for v in &view.validators {
        let old = shown.iter().position(|s| s.hotkey == v.hotkey);
        let known = old.and_then(|at| shown.get(at));
        let worth = v.state.is_final() || !v.message.is_empty();
        let same = known.is_some_and(|k| {
            (k.state, &k.message, k.next_try_at) == (v.state, &v.message, v.next_try_at)
        });
        if !worth || same {
            continue;
        }
        let line = text::record(out, v);
        out.line(line)?;
        match old.and_then(|at| shown.get_mut(at)) {
            Some(known) => *known = v.clone(),
            None => shown.push(v.clone()),
        }
    }
    Ok(())
}

fn conclude(view: &SignalView, wait: bool, args: &TargetArgs, out: &mut Output) -> Outcome {
    let exit = if wait { view.exit() } else { process::OK };
    if out.is_json() {
        out.document(view)?;
    } else if wait {
        let said = match view.state {
            SignalState::Pending => {
                let text = format!(
                    "still pending after {} s; look with: ptn-cli signals show {}",
                    args.timeout.as_secs(),
                    view.order_uuid
                );
                out.paint_talk(Style::Warn, text)
            }
            SignalState::Processed => out.paint_talk(Style::Good, "processed"),
            SignalState::Failed => out.paint_talk(Style::Bad, failed_words(exit)),
        };
        out.talk(said);
        if let Some(reason) = view.untold_reason() {
            let head = out.paint_talk(Style::Strong, "   why:");
            out.talk(format!("{head} {}", out.flow_talk(&text::harmless(reason), 8)));
        }
    }
    Ok(exit)
}

/// What a failure means for the user.
pub(crate) const fn failed_words(exit: u8) -> &'static str {
    match exit {
        process::REFUSED => "failed: a validator refused it",
        process::UNREACHABLE => {
            "failed: a validator could not be reached; ptn-cli signals retry sends it again"
        }
        process::UNKNOWN => {
            "unknown: maybe sent, but the answer was lost; look at your positions before you send it again"
        }
        _ => "failed",
    }
}

#[derive(Deserialize)]
struct ServerAnswer {
    #[serde(default)]
    order_uuid: Option<String>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    error_message: Option<String>,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    maybe_sent: bool,
    #[serde(default)]
    validators: Vec<ptn_core::record::ValidatorRecord>,
}

async fn to_server(server: &Server, ready: Ready, args: &TargetArgs, out: &mut Output) -> Outcome {
    let Ready { signal, mut object } = ready;
    object.remove("api_key");
    if !signal.execution_type().targets_other_orders() {
        // With an id of ours the same command can be repeated after a lost answer.
        object.set("order_uuid", signal.id().as_str().into());
        if !out.is_json() {
            out.line(signal.id())?;
        }
    }
    let wait = !args.no_wait;
    let path = if wait { "/api/submit-order" } else { "/api/receive-signal" };
    let body = Some(("application/json", Json::Object(object).to_string()));
    let answer = server
        .call(Call { method: Method::POST, path, body, timeout: args.timeout })
        .await
        .map_err(|f| {
            let again =
                format!("send it again with --order-uuid {}: it is not traded twice", signal.id());
            if f.exit == process::UNKNOWN { f.hint(again) } else { f }
        })?;
    let parsed: Option<ServerAnswer> = serde_json::from_slice(&answer.body).ok();
    let code = parsed.as_ref().and_then(|p| p.code.clone()).unwrap_or_default();
    let exit = match answer.status {
        200 => process::OK,
        202 | 429 | 500..=599 => process::UNAVAILABLE,
        409 => process::CONFLICT,
        _ if parsed.as_ref().is_some_and(|p| p.maybe_sent) => process::UNKNOWN,
        400 if code == "rejected" || code == REFUSED => process::REFUSED,
        400 if ["unreachable", "not_reached"].contains(&code.as_str()) => process::UNREACHABLE,
        400 if ["denied", "expired", "cancelled", "failed"].contains(&code.as_str()) => {
            process::FAILED
        }
        _ => process::USAGE,
    };
    if out.is_json() {
        let response: serde_json::Value =
            serde_json::from_slice(&answer.body).unwrap_or(serde_json::Value::Null);
        let uuid = parsed.and_then(|p| p.order_uuid).unwrap_or_else(|| signal.id().to_string());
        out.document(&json!({
            "order_uuid": uuid,
            "http_status": answer.status,
            "response": response,
        }))?;
        return Ok(exit);
    }
    let Some(parsed) = parsed else {
        let text = format!("{} answered {} without JSON", server.name(), answer.status);
        return Err(Failure::failed("bad_answer", text).hint("is this really a ptn-server?"));
    };
    for v in &parsed.validators {
        let line = text::record(out, v);
        out.line(line)?;
    }
    let answered = serde_json::from_slice(&answer.body).unwrap_or_default();
    let judged = Judged::of_server(&answered);
    let said = [parsed.error, parsed.message, parsed.error_message];
    let said = said.into_iter().flatten().find(|s| !s.is_empty()).unwrap_or_default();
    if exit == process::OK {
        let text = if wait { said.as_str() } else { "safe at the server" };
        let text = out.paint_talk(Style::Good, text::harmless(text));
        out.talk(text);
    }
    if let Some(judged) = judged {
        verdict::talk(&judged, out);
    }
    if exit == process::OK {
        return Ok(exit);
    }
    let code = if code.is_empty() { format!("http_{}", answer.status) } else { code };
    let text = format!("{} answered {}: {}", server.name(), answer.status, text::harmless(&said));
    Err(Failure::new(exit, code, text).hint_for_status(answer.status))
}
