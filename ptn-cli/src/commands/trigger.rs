//! `trigger`: a valid sample of every execution type, to try a setup with; and TradingView alerts.
//!
//! Samples are request bodies, so they go the way of any other signal. Prices are plain numbers:
//! against a real validator give your own with `send`.

use std::sync::Arc;

use clap::{ArgMatches, Args, FromArgMatches as _, ValueEnum};
use ptn_core::json::{Json, Object};
use ptn_core::ops::process;
use ptn_core::ops::settings::COMMON;
use ptn_core::rules::{Era, Rules};
use ptn_core::signal::{OrderUuid, Signal};

use super::target::{Ready, TargetArgs, send_all};
use crate::Outcome;
use crate::failure::Failure;
use crate::output::{Output, Style};

/// Which sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "kebab-case")]
pub enum Sample {
    /// Opens or adds to a long position at the market price.
    #[value(alias = "market_long")]
    MarketLong,
    /// The same, short, with a size in USD.
    #[value(alias = "market_short")]
    MarketShort,
    /// Closes the position of a pair.
    Flat,
    /// A limit order with stop loss and take profit.
    Limit,
    /// A limit order that waits for a stop price.
    #[value(alias = "stop_limit")]
    StopLimit,
    /// Stop loss and take profit for an open position.
    Bracket,
    /// Replaces a limit order.
    #[value(alias = "limit_edit")]
    LimitEdit,
    /// Cancels limit orders.
    #[value(alias = "limit_cancel")]
    LimitCancel,
    /// Closes every position.
    #[value(alias = "flat_all")]
    FlatAll,
    /// All of these, one after the other.
    All,
}

/// Arguments of `trigger`.
#[derive(Debug, Clone, Args)]
pub struct TriggerArgs {
    /// The sample
    #[arg(value_name = "TYPE")]
    sample: Sample,
    /// Trade pair (default: BTCUSDC, or BTCUSD before 2026)
    #[arg(long, value_name = "PAIR")]
    pair: Option<String>,
    /// Print the request body instead of sending it
    #[arg(long, conflicts_with = "print_alert")]
    print: bool,
    /// Print the message to paste into a TradingView alert
    #[arg(long)]
    print_alert: bool,
    #[command(flatten)]
    target: TargetArgs,
}

/// Runs the command.
///
/// # Errors
/// When the rule set has no such type, or a sample cannot be handed over.
pub fn run(matches: &ArgMatches, out: &mut Output) -> Outcome {
    let args = TriggerArgs::from_arg_matches(matches).map_err(|e| Failure::usage(e.to_string()))?;
    let settings = crate::cli::resolve(&[COMMON], matches)?;
    let rules = settings.rules()?;
    let usual = if rules.era == Era::Y2026 { "BTCUSDC" } else { "BTCUSD" };
    let pair = args.pair.as_deref().unwrap_or(usual);
    let named = samples(args.sample, pair, &rules)?;
    if args.print_alert {
        return alerts(&named, pair, out);
    }
    let mut ready = Vec::new();
    for (name, object) in named {
        if args.print {
            print(&name, object, args.sample == Sample::All, out)?;
        } else {
            let signal = Signal::from_object(object.clone(), &rules)?;
            ready.push(Ready { signal, object });
        }
    }
    if args.print {
        return Ok(process::OK);
    }
    crate::block_on(send_all(ready, &args.target, &settings, &Arc::new(rules), out))
}

fn print(name: &str, object: Object, many: bool, out: &mut Output) -> Result<(), Failure> {
    if many && !out.is_json() {
        let name = out.paint(Style::Dim, format!("# {name}"));
        out.talk(name);
    }
    out.line(Json::Object(object))
}

/// The samples of a rule set by name, in an order that makes sense when all are sent.
///
/// # Errors
/// When the rule set does not have the type, or the pair is refused.
pub fn samples(
    wanted: Sample,
    pair: &str,
    rules: &Rules,
) -> Result<Vec<(String, Object)>, Failure> {
    let list = Sample::value_variants().iter().copied().filter(|s| *s != Sample::All);
    let limit_uuid = OrderUuid::random();
    let mut found = Vec::new();
    for sample in list.filter(|s| wanted == Sample::All || *s == wanted) {
        let name = sample.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default();
        let Some(object) = body(sample, pair, rules.era, limit_uuid.as_str()) else {
            if wanted == sample {
                let text = format!("the rules of {} have no {name} orders", rules.era);
                return Err(Failure::usage(text).hint("--rules 2026 has every type"));
            }
            continue;
        };
        Signal::from_object(object.clone(), rules)?;
        found.push((name, object));
    }
    Ok(found)
}

fn body(sample: Sample, pair: &str, era: Era, limit_uuid: &str) -> Option<Object> {
    let only_2026 = matches!(sample, Sample::StopLimit | Sample::LimitEdit | Sample::FlatAll);
    let since_2025 = matches!(sample, Sample::Limit | Sample::Bracket | Sample::LimitCancel);
    if (only_2026 && era != Era::Y2026) || (since_2025 && era == Era::Y2024) {
        return None;
    }
    let number = |token: &str| Json::Number(token.to_owned());
    let fields: Vec<(&str, Json)> = match sample {
        Sample::MarketLong => vec![("order_type", "LONG".into()), ("leverage", number("0.1"))],
        Sample::MarketShort if era == Era::Y2024 => {
            vec![("order_type", "SHORT".into()), ("leverage", number("0.1"))]
        }
        Sample::MarketShort => vec![("order_type", "SHORT".into()), ("value", number("1000"))],
        Sample::Flat => vec![("order_type", "FLAT".into()), ("leverage", number("0"))],
        Sample::Limit => vec![
            ("execution_type", "LIMIT".into()),
            ("order_type", "LONG".into()),
            ("leverage", number("0.1")),
            ("limit_price", number("60000")),
            ("stop_loss", number("58000")),
            ("take_profit", number("66000")),
            ("order_uuid", limit_uuid.into()),
        ],
        Sample::StopLimit => vec![
            ("execution_type", "STOP_LIMIT".into()),
            ("order_type", "LONG".into()),
            ("quantity", number("0.01")),
            ("stop_price", number("70000")),
            ("stop_condition", "GTE".into()),
            ("limit_price", number("70100")),
        ],
        Sample::Bracket => vec![
            ("execution_type", "BRACKET".into()),
            ("order_type", "LONG".into()),
            ("leverage", number("0.1")),
            ("stop_loss", number("58000")),
            ("take_profit", number("66000")),
        ],
        Sample::LimitEdit => vec![
            ("execution_type", "LIMIT_EDIT".into()),
            ("order_type", "LONG".into()),
            ("leverage", number("0.1")),
            ("limit_price", number("60500")),
            ("order_uuid", limit_uuid.into()),
        ],
        Sample::LimitCancel if era == Era::Y2025 => vec![
            ("execution_type", "LIMIT_CANCEL".into()),
            ("order_type", "FLAT".into()),
            ("leverage", number("0")),
            ("order_uuid", limit_uuid.into()),
        ],
        Sample::LimitCancel => {
            vec![("execution_type", "LIMIT_CANCEL".into()), ("order_uuid", limit_uuid.into())]
        }
        Sample::FlatAll => {
            vec![("execution_type", "FLAT_ALL".into()), ("order_uuid", "ALL".into())]
        }
        Sample::All => return None,
    };
    let mut object = Object::new();
    if sample != Sample::FlatAll {
        object.set("trade_pair", pair.into());
    }
    for (field, value) in fields {
        object.set(field, value);
    }
    Some(object)
}

/// The message of an alert: the sample with TradingView's placeholders where it has some.
fn alerts(named: &[(String, Object)], pair: &str, out: &mut Output) -> Outcome {
    for (name, object) in named {
        let mut alert = Object::new();
        alert.set("api_key", "PUT-YOUR-KEY-HERE".into());
        let market = object.get("execution_type").is_none();
        for (field, value) in object.iter().filter(|(f, _)| *f != "order_uuid") {
            alert.set(field, value.clone());
        }
        if market && name != "flat" {
            alert.set("order_type", "{{strategy.market_position}}".into());
            alert.remove("value");
            alert.set("leverage", "{{strategy.order.comment}}".into());
        } else if let Some(targets) = object.get("order_uuid").and_then(Json::as_str) {
            if name == "flat-all" || name == "limit-cancel" {
                alert.set("order_uuid", "ALL".into());
            } else if name == "limit-edit" {
                alert.set("order_uuid", targets.into());
            }
        }
        print(name, alert, named.len() > 1, out)?;
    }
    if !out.is_json() {
        // Only where TradingView's own words are in the message.
        let placeholders = named.iter().any(|(name, _)| name.starts_with("market-"));
        let notes = [
            "Paste it as the message of the alert; its webhook URL is \
             http://YOUR-HOST/api/receive-signal (TradingView calls ports 80 and 443 only)."
                .to_owned(),
            format!(
                "The size is the comment of the Pine order: strategy.entry(\"L\", strategy.long, \
                 comment=\"0.1\") sends {pair} with leverage 0.1."
            ),
            "A partial exit keeps market_position, so it would add to the position; close with FLAT."
                .to_owned(),
        ];
        for note in notes.iter().take(if placeholders { 3 } else { 1 }) {
            let note = out.flow_talk(note, 2);
            out.talk(format!("- {note}"));
        }
    }
    Ok(process::OK)
}
