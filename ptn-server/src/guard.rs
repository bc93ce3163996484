//! The risk guard at the door: accepting with a verdict, and the guard's numbers.
//!
//! Judging is done by `ptn_core::guard`; the words of a refusal are those of the endpoint.

use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use ptn_core::deliver::{SubmitError, accept_guarded};
use ptn_core::guard::{Guard, GuardMode, GuardVerdict, Severity};
use ptn_core::signal::Signal;
use ptn_core::store::Accepted;
use serde_json::Value;

use crate::answer::ApiError;
use crate::app::{App, AppGuard, now};

/// A signal that is safe.
#[derive(Debug)]
pub(crate) struct Safe {
    pub(crate) accepted: Accepted,
    /// The guard's verdict as answers carry it; nothing without a guard.
    pub(crate) verdict: Option<Value>,
    /// Whether there is something to say.
    pub(crate) speaks: bool,
}

/// Makes a signal durable, unless the guard or an overload refuses it.
///
/// In a task of its own: a caller who goes away does not end it halfway, and keeps its place until
/// the store has answered.
pub(crate) async fn accept(
    app: &Arc<App>,
    signal: &Arc<Signal>,
) -> Result<Result<Safe, SubmitError>, ApiError> {
    let place = app.overload.place(app.store.as_ref()).await?;
    let (app, signal) = (Arc::clone(app), Arc::clone(signal));
    let work = tokio::spawn(async move {
        let _place = place;
        let accepted = accept_now(&app, &signal).await;
        if accepted.is_ok() {
            app.overload.stored();
        }
        accepted
    });
    match work.await {
        Ok(accepted) => Ok(accepted),
        Err(error) => match error.try_into_panic() {
            // As if it had happened here: the edge says so.
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(ApiError::internal()),
        },
    }
}

async fn accept_now(app: &App, signal: &Signal) -> Result<Safe, SubmitError> {
    let Some(AppGuard { guard, .. }) = &app.guard else {
        let accepted = app.store.accept(signal).await?;
        return Ok(Safe { accepted, verdict: None, speaks: false });
    };
    let (accepted, verdict) = accept_guarded(app.store.as_ref(), guard, signal, now()).await?;
    let speaks = verdict.severity() > Severity::Clear;
    Ok(Safe { accepted, verdict: Some(shown(&verdict, guard.mode())), speaks })
}

/// A verdict as answers carry it.
pub(crate) fn shown(verdict: &GuardVerdict, mode: GuardMode) -> Value {
    serde_json::to_value(verdict.view(mode)).unwrap_or(Value::Null)
}

/// The numbers of a guard among the metrics.
#[derive(Debug)]
pub(crate) struct Numbers {
    guard: Guard,
}

impl Numbers {
    pub(crate) fn new(guard: Guard) -> Self {
        Self { guard }
    }
}

impl Collector for Numbers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counts = self.guard.counts();
        let verdicts = ConstCounter::new(0_u64);
        let mut family = encoder.encode_descriptor(
            "ptn_guard_verdicts",
            "Verdicts of the risk guard on new signals",
            None,
            verdicts.metric_type(),
        )?;
        for (severity, count) in Severity::ALL.iter().zip(counts.verdicts) {
            let labels = [("verdict", severity.as_str())];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        for (name, help, count) in [
            ("ptn_guard_blocked", "Signals refused by the risk guard", counts.blocked),
            ("ptn_guard_failures", "Calls in which the risk guard failed", counts.failures),
        ] {
            let counter = ConstCounter::new(count);
            let metric = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            counter.encode(metric)?;
        }
        let standing = self.guard.standing(now());
        let gauge = ConstGauge::new(0.0);
        let mut family = encoder.encode_descriptor(
            "ptn_guard_drawdown_points_left",
            "Percent points of loss left before a drawdown limit",
            None,
            gauge.metric_type(),
        )?;
        for distance in &standing.drawdown {
            let estimated = if distance.estimated { "yes" } else { "no" };
            let labels = [("rule", distance.rule.as_str()), ("estimated", estimated)];
            ConstGauge::new(distance.points_left).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
