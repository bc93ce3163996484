//! `send`: one signal from flags, a file or stdin, to the spool or a server; or only judged.
//!
//! Flags are turned into the same JSON object that a request body is, so the rules and their texts
//! have one place, `ptn_core::signal`. `--check` and `--dry-run` store and send nothing; what the
//! risk guard thinks of a signal is asked where the signal would go.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{ArgMatches, Args, FromArgMatches as _};
use ptn_core::guard::Guard;
use ptn_core::json::{Json, Object};
use ptn_core::ops::config::Settings;
use ptn_core::ops::process;
use ptn_core::ops::settings::{COMMON, GUARD, PACE};
use ptn_core::ops::store::Place;
use ptn_core::rules::{Era, Rules};
use ptn_core::signal::{Number, Signal, SignalError};

use super::target::{Ready, TargetArgs, send_all};
use super::verdict::Judged;
use crate::Outcome;
use crate::failure::Failure;
use crate::output::{Output, Style};
use crate::text;

/// The largest body that is read, as at the server.
const MAX_BODY: u64 = 256 * 1024;

/// Arguments of `send`.
#[derive(Debug, Clone, Args)]
pub struct SendArgs {
    /// Trade pair: BTCUSDC, EURUSD, ...
    #[arg(value_name = "PAIR")]
    pair: Option<String>,
    /// long, short or flat
    #[arg(value_name = "SIDE")]
    side: Option<String>,
    /// 0.1x is leverage, $1000 or 1000usd is value, 0.01u (or a bare number) is quantity
    #[arg(value_name = "SIZE", allow_hyphen_values = true)]
    size: Option<String>,
    /// JSON body to send instead of flags; - reads stdin
    #[arg(long, value_name = "FILE", conflicts_with_all = ["pair", "OrderArgs"])]
    file: Option<PathBuf>,
    #[command(flatten)]
    order: OrderArgs,
    /// Only judge, and send nothing: exit code 2 when a field is wrong, 3 when the network would
    /// refuse it by what the risk guard knows (at --url, or in the data directory)
    #[arg(long, conflicts_with = "dry_run")]
    check: bool,
    #[command(flatten)]
    target: TargetArgs,
}

/// The order, by flags.
#[derive(Debug, Clone, Default, Args)]
#[group(multiple = true)]
struct OrderArgs {
    /// Size as a multiple of the account's balance
    #[arg(long, value_name = "X", allow_hyphen_values = true)]
    leverage: Option<String>,
    /// Size in USD
    #[arg(long, value_name = "USD", allow_hyphen_values = true)]
    value: Option<String>,
    /// Size in base units (lots for forex)
    #[arg(long, value_name = "UNITS", allow_hyphen_values = true)]
    quantity: Option<String>,
    /// Limit price: makes it a LIMIT order
    #[arg(long, visible_alias = "limit-price", value_name = "PRICE", allow_hyphen_values = true)]
    limit: Option<String>,
    /// Stop loss
    #[arg(long, visible_alias = "stop-loss", value_name = "PRICE", allow_hyphen_values = true)]
    sl: Option<String>,
    /// Take profit
    #[arg(long, visible_alias = "take-profit", value_name = "PRICE", allow_hyphen_values = true)]
    tp: Option<String>,
    /// Trailing stop as a fraction of the price, between 0 and 1: 0.02 is 2 %
    #[arg(long, value_name = "FRACTION", allow_hyphen_values = true)]
    trailing_percent: Option<String>,
    /// Stop price: makes it a STOP_LIMIT order
    #[arg(long, value_name = "PRICE", allow_hyphen_values = true)]
    stop_price: Option<String>,
    /// Side of the stop price on which a STOP_LIMIT order is triggered: GTE or LTE
    #[arg(long, value_name = "GTE|LTE")]
    stop_condition: Option<String>,
    /// MARKET, LIMIT, STOP_LIMIT, BRACKET, LIMIT_EDIT, LIMIT_CANCEL or FLAT_ALL (default: by the
    /// prices given)
    #[arg(long, value_name = "TYPE")]
    execution_type: Option<String>,
    /// Id of the order (default: a fresh one); for LIMIT_CANCEL, LIMIT_EDIT and FLAT_ALL the orders
    /// that are meant, separated by commas, or ALL
    #[arg(long, value_name = "UUID")]
    order_uuid: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// When the signal is refused or cannot be handed over.
pub fn run(matches: &ArgMatches, out: &mut Output) -> Outcome {
    let args = SendArgs::from_arg_matches(matches).map_err(|e| Failure::usage(e.to_string()))?;
    if args.check {
        return check_command(&args, matches, out);
    }
    let settings = crate::cli::resolve(&[COMMON, GUARD, PACE], matches)?;
    let rules = settings.rules()?;
    let ready = given(&args, &rules)?.ready(&rules)?;
    crate::block_on(send_all(vec![ready], &args.target, &settings, &Arc::new(rules), out))
}

/// What the user gave.
enum Given {
    Body(Vec<u8>),
    Flags(Object),
}

impl Given {
    fn signal(&self, rules: &Rules) -> Result<Signal, SignalError> {
        match self {
            Self::Body(bytes) => Signal::from_json(bytes, rules),
            Self::Flags(object) => Signal::from_object(object.clone(), rules),
        }
    }

    fn ready(self, rules: &Rules) -> Result<Ready, Failure> {
        let flags = matches!(self, Self::Flags(_));
        let signal = self.signal(rules).map_err(|e| {
            let failure = Failure::from(e);
            if flags && failure.code == "size_not_exactly_one" {
                failure.hint("one size: 0.1x (leverage), $1000 (value) or 0.01u (quantity)")
            } else {
                failure
            }
        })?;
        let object = match self {
            Self::Flags(object) => object,
            Self::Body(bytes) => match Json::parse(&bytes) {
                Ok(Json::Object(object)) => object,
                // Not reached: the signal was read from it.
                _ => Object::new(),
            },
        };
        Ok(Ready { signal, object })
    }
}

fn given(args: &SendArgs, rules: &Rules) -> Result<Given, Failure> {
    match &args.file {
        Some(path) => read_body(path).map(Given::Body),
        None => args.object(rules.era).map(Given::Flags),
    }
}

fn read_body(path: &Path) -> Result<Vec<u8>, Failure> {
    let shown = if path == Path::new("-") { "stdin".into() } else { path.display().to_string() };
    let unreadable = |e: &std::io::Error| {
        Failure::new(process::USAGE, "file_unreadable", format!("{shown} cannot be read: {e}"))
    };
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        std::io::stdin().lock().take(MAX_BODY + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|f| f.take(MAX_BODY + 1).read_to_end(&mut bytes))
    }
    .map_err(|e| unreadable(&e))?;
    if u64::try_from(bytes.len()).is_ok_and(|n| n > MAX_BODY) {
        let text = format!("{shown} is larger than {} KiB, the most that is read", MAX_BODY / 1024);
        return Err(Failure::new(process::USAGE, "body_too_large", text));
    }
    Ok(bytes)
}

impl SendArgs {
    /// The request body that the flags stand for.
    fn object(&self, era: Era) -> Result<Object, Failure> {
        let order = &self.order;
        let mut o = Object::new();
        let mut set = |field: &str, value: &Option<String>| {
            if let Some(value) = value {
                o.set(field, value.as_str().into());
            }
        };
        set("trade_pair", &self.pair);
        set("order_type", &self.side);
        let (field, size) = match self.size.as_deref().map(size) {
            None => ("leverage", None),
            Some((field, size)) => (field, Some(size)),
        };
        if size.is_some()
            && [&order.leverage, &order.value, &order.quantity].iter().any(|s| s.is_some())
        {
            return Err(Failure::usage("the size is given twice: once is enough")
                .hint("either `send PAIR SIDE 0.1x` or `send PAIR SIDE --leverage 0.1`"));
        }
        set(field, &size);
        set("leverage", &order.leverage);
        set("value", &order.value);
        set("quantity", &order.quantity);
        let execution = order.execution_type.clone().or_else(|| match order {
            OrderArgs { stop_price: Some(_), .. } => Some("STOP_LIMIT".to_owned()),
            OrderArgs { limit: Some(_), .. } => Some("LIMIT".to_owned()),
            _ => None,
        });
        set("execution_type", &execution);
        set("limit_price", &order.limit);
        set("stop_loss", &order.sl);
        set("take_profit", &order.tp);
        set("stop_price", &order.stop_price);
        set("stop_condition", &order.stop_condition);
        set("order_uuid", &order.order_uuid);
        if let Some(fraction) = &order.trailing_percent {
            let number = Number::parse(fraction).map(|n| Json::Number(n.as_str().to_owned()));
            let value = number.unwrap_or_else(|_| fraction.as_str().into());
            let stop = [("trailing_percent".to_owned(), value)].into_iter().collect();
            o.set("trailing_stop", Json::Object(stop));
        }
        let flat = self.side.as_deref().is_some_and(|s| s.eq_ignore_ascii_case("flat"));
        let sized = ["leverage", "value", "quantity"].iter().any(|f| o.get(f).is_some());
        if flat && !sized && era != Era::Y2026 {
            // Before 2026 a closing order needs a size too, which then means nothing.
            o.set("leverage", Json::Number("0".to_owned()));
        }
        if o.is_empty() {
            return Err(Failure::usage("what is to be sent?")
                .hint("ptn-cli send BTCUSDC long 0.1x, or ptn-cli send --file order.json"));
        }
        Ok(o)
    }
}

/// The field that a size means, and its number.
fn size(text: &str) -> (&'static str, String) {
    let lower = text.trim().to_ascii_lowercase();
    let strip = |end: &str| lower.strip_suffix(end).map(|n| n.trim().to_owned());
    if let Some(n) = lower.strip_prefix('$') {
        return ("value", n.trim().to_owned());
    }
    if let Some(n) = strip("usd").or_else(|| strip("$")) {
        return ("value", n);
    }
    if let Some(n) = strip("x") {
        return ("leverage", n);
    }
    ("quantity", strip("u").unwrap_or(lower))
}

fn check_command(args: &SendArgs, matches: &ArgMatches, out: &mut Output) -> Outcome {
    let prepare = || {
        let settings = crate::cli::resolve(&[COMMON, GUARD, PACE], matches)?;
        let rules = Arc::new(settings.rules()?);
        let given = given(args, &rules)?;
        Ok((settings, rules, given))
    };
    let prepared = match prepare() {
        Ok((settings, rules, given)) => match given.signal(&rules) {
            Ok(signal) => Ok((settings, rules, given, signal)),
            Err(error) => Err(Failure::from_signal(error)),
        },
        Err(failure) => Err(failure),
    };
    let (settings, rules, given, signal) = match prepared {
        Ok(prepared) => prepared,
        Err(failure) => return refused(failure, out),
    };
    let judging = guard_verdict(args, &settings, &rules, given, &signal);
    let guard = crate::block_on_value(judging)??;
    let refused = guard.as_ref().is_some_and(|judged| judged.verdict.would_be_refused());
    let exit = if refused { process::REFUSED } else { process::OK };
    if out.is_json() {
        let Json::Object(mut shown) = verdict(&Ok(signal)) else { return Ok(exit) };
        if let Some(judged) = &guard {
            let text = judged.json().to_string();
            shown.set("guard", Json::parse(text.as_bytes()).unwrap_or(Json::Null));
        }
        out.line(Json::Object(shown))?;
        return Ok(exit);
    }
    let pair = signal.trade_pair().map(|p| format!("{p} ")).unwrap_or_default();
    let words = text::order(signal.body(), signal.order_uuid());
    let head = out.paint(Style::Good, "accepted");
    out.line(format!("{head}  {pair}{words}  (rules of {})", signal.era()))?;
    out.line(format!("          {}", signal.normalised()))?;
    if let Some(judged) = &guard {
        super::verdict::print(judged, out)?;
    }
    Ok(exit)
}

/// A signal whose fields are wrong.
fn refused(failure: Failure, out: &mut Output) -> Outcome {
    if out.is_json() {
        out.line(verdict(&Err(failure)))?;
        return Ok(process::USAGE);
    }
    let head = out.paint(Style::Bad, "refused");
    out.line(format!("{head}   {}", failure.code))?;
    let field = failure.field.map(|field| format!("{field}: ")).unwrap_or_default();
    let why = out.flow(&format!("{field}{}", failure.message), 10);
    out.line(format!("          {why}"))?;
    Ok(process::USAGE)
}

/// What the risk guard thinks of it where it would go: at the server, or in the data directory.
/// Nothing where there is neither and nobody asked for the guard.
async fn guard_verdict(
    args: &SendArgs,
    settings: &Settings,
    rules: &Arc<Rules>,
    given: Given,
    signal: &Signal,
) -> Result<Option<Judged>, Failure> {
    if let Some(server) = args.target.server.server()? {
        let ready = given.ready(rules)?;
        return super::target::check_at(&server, ready, &args.target).await;
    }
    let there = match Place::from_settings(settings)? {
        Place::Dir(dir, _) => dir.join("received_signals").is_dir(),
        Place::Postgres(_) => true,
    };
    let store = match there {
        true => Some(super::spool::open_existing(settings).await?),
        false if settings.is_set("guard.mode") => None,
        false => return Ok(None),
    };
    let guard = super::verdict::guard(settings, rules, store.as_ref()).await?;
    let check = |guard: Guard| {
        let verdict = guard.check(signal, text::now());
        Judged { verdict, mode: guard.mode() }
    };
    Ok(guard.map(check))
}

/// Judges a request body, as `send --check --json` prints it.
pub fn check(body: &[u8], rules: &Rules) -> Json {
    verdict(&Signal::from_json(body, rules).map_err(Failure::from_signal))
}

fn verdict(judged: &Result<Signal, Failure>) -> Json {
    let mut o = Object::new();
    o.set("accepted", judged.is_ok().into());
    match judged {
        Ok(signal) => {
            let shown = signal.normalised();
            let known = |field: &str| {
                field == "trade_pair" || shown.as_object().is_some_and(|n| n.get(field).is_some())
            };
            let others = signal.body().iter().filter(|(field, _)| !known(field));
            let others: Object = others.map(|(f, v)| (f.to_owned(), v.clone())).collect();
            if signal.id_was_given() || signal.execution_type().targets_other_orders() {
                o.set("order_uuid", signal.order_uuid().into());
            }
            if let Some(id) = signal.subaccount_id() {
                o.set("subaccount_id", Json::Number(id.to_string()));
            }
            if !others.is_empty() {
                o.set("other_fields", Json::Object(others));
            }
            o.set("signal", shown);
        }
        Err(f) => {
            let mut error = Object::new();
            error.set("code", f.code.as_str().into());
            error.set("field", f.field.as_deref().unwrap_or_default().into());
            error.set("message", f.message.as_str().into());
            o.set("error", Json::Object(error));
        }
    }
    Json::Object(o)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_in_the_ways_that_people_write_them() {
        for (text, field, number) in [
            ("0.1x", "leverage", "0.1"),
            ("0.1X", "leverage", "0.1"),
            ("$1000", "value", "1000"),
            ("1000usd", "value", "1000"),
            ("1000 USD", "value", "1000"),
            ("1000$", "value", "1000"),
            ("0.01u", "quantity", "0.01"),
            ("0.01", "quantity", "0.01"),
            ("-5", "quantity", "-5"),
        ] {
            assert_eq!(size(text), (field, number.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_the_network_does_not_read_stands_outside_the_signal() {
        let rules = Rules::load(Era::Y2026).unwrap();
        let body = br#"{"api_key":"k","trade_pair":"BTCUSDC","order_type":"long","leverage":0.10,"order_uuid":"a-1","note":"x","subaccount_id":3}"#;
        assert_eq!(
            check(body, &rules).to_string(),
            r#"{"accepted":true,"order_uuid":"a-1","subaccount_id":3,"other_fields":{"note":"x"},"signal":{"trade_pair_id":"BTCUSDC","order_type":"LONG","execution_type":"MARKET","leverage":0.10}}"#
        );
    }
}
