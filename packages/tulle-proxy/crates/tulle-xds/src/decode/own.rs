//! Tulle's own extensions of a cluster: its metadata under `dev.tulle`, read as strictly as Envoy's messages are.

use std::time::Duration;

use tulle_balance::{LbPolicy, PeakEwma};
use tulle_config::own::{Fallback, Guarded, Own};
use tulle_core::metadata::{Metadata, Struct, Value};
use tulle_policy::circuit::CircuitConfig;
use tulle_policy::deadline::DeadlineConfig;
use tulle_policy::retry_rate::RetryRate;

use super::cx::Cx;

/// The filter name under which the extensions stand.
const NAME: &str = "dev.tulle";
const MAX_BODY: f64 = 65_536.0;

/// The extensions, and the balancing policy that replaces the standard one, if any.
pub fn own(cx: &mut Cx, metadata: &Metadata) -> (Own, Option<LbPolicy>) {
    let mut made = Own::default();
    let mut policy = None;
    let Some(fields) = metadata.filter(NAME) else { return (made, policy) };
    cx.field("metadata", |cx| {
        cx.field(NAME, |cx| {
            for (name, value) in fields {
                cx.field(name, |cx| {
                    let Some(mut part) = Part::of(cx, value) else { return };
                    match &**name {
                        "retry_budget" => made.retry_rate = Some(retry_rate(cx, &mut part)),
                        "deadline" => made.deadline = Some(deadline(cx, &mut part)),
                        "breaker" => made.circuit = guarded(cx, &mut part),
                        "peak_ewma" => policy = Some(LbPolicy::PeakEwma(peak_ewma(cx, &mut part))),
                        _ => return cx.error("is not a known extension"),
                    }
                    part.finish(cx);
                });
            }
        });
    });
    (made, policy)
}

/// A struct whose fields are taken out one by one, so that an unknown one is noticed.
struct Part(Struct);

impl Part {
    fn of(cx: &mut Cx, value: &Value) -> Option<Part> {
        let fields = value.as_struct();
        if fields.is_none() {
            cx.error("must be a struct");
        }
        fields.cloned().map(Part)
    }

    fn number(&mut self, cx: &mut Cx, name: &str, default: f64, range: std::ops::RangeInclusive<f64>) -> f64 {
        match self.0.remove(name) {
            None => default,
            Some(Value::Number(number)) if range.contains(&number) => number,
            Some(_) => {
                cx.error_at(name, format!("must be a number from {} to {}", range.start(), range.end()));
                default
            }
        }
    }

    fn millis(&mut self, cx: &mut Cx, name: &str, default: Duration) -> Duration {
        let millis = self.number(cx, name, default.as_millis() as f64, 0.0..=86_400_000.0);
        Duration::from_secs_f64(millis / 1_000.0)
    }

    fn text(&mut self, cx: &mut Cx, name: &str) -> Option<tulle_core::Str> {
        match self.0.remove(name)? {
            Value::String(text) => Some(text),
            _ => {
                cx.error_at(name, "must be a string");
                None
            }
        }
    }

    fn finish(self, cx: &mut Cx) {
        for name in self.0.keys() {
            cx.error_at(name, "is not known");
        }
    }
}

fn retry_rate(cx: &mut Cx, part: &mut Part) -> RetryRate {
    let defaults = RetryRate::default();
    RetryRate {
        percent: part.number(cx, "percent", defaults.percent, 0.0..=1_000.0),
        min_per_second: part.number(cx, "min_per_second", defaults.min_per_second, 0.0..=1_000_000.0),
    }
}

fn deadline(cx: &mut Cx, part: &mut Part) -> DeadlineConfig {
    DeadlineConfig { minimum: part.millis(cx, "minimum_ms", Duration::ZERO) }
}

fn peak_ewma(cx: &mut Cx, part: &mut Part) -> PeakEwma {
    let defaults = PeakEwma::default();
    PeakEwma {
        decay: part.millis(cx, "decay_ms", defaults.decay).max(Duration::from_millis(1)),
        default_latency: part.millis(cx, "default_latency_ms", defaults.default_latency),
    }
}

fn guarded(cx: &mut Cx, part: &mut Part) -> Option<Guarded> {
    let defaults = CircuitConfig::default();
    let mut count =
        |cx: &mut Cx, name: &str, default: u32, most: f64| part.number(cx, name, f64::from(default), 0.0..=most) as u32;
    let consecutive_failures = count(cx, "consecutive_failures", defaults.consecutive_failures, 1e6);
    let failure_percent = count(cx, "failure_percent", defaults.failure_percent, 100.0);
    let minimum_requests = count(cx, "minimum_requests", defaults.minimum_requests, 1e6);
    let probes = count(cx, "probes", defaults.probes, 1e3);
    if consecutive_failures == 0 && failure_percent == 0 {
        cx.error("never opens: neither consecutive_failures nor failure_percent is set");
    }
    if probes == 0 {
        cx.error_at("probes", "must be at least 1, or it never closes again");
    }
    let circuit = CircuitConfig {
        consecutive_failures,
        failure_percent,
        minimum_requests,
        window: part.millis(cx, "window_ms", defaults.window),
        open_for: part.millis(cx, "open_ms", defaults.open_for),
        probes,
    };
    let fallback = match part.0.remove("fallback") {
        None => Fallback::Refuse,
        Some(value) => cx.field("fallback", |cx| {
            let mut part = Part::of(cx, &value)?;
            let fallback = fallback(cx, &mut part);
            part.finish(cx);
            fallback
        })?,
    };
    Some(Guarded { circuit, fallback })
}

/// Exactly one of `status` (with `body` and `content_type`), `last_good_ms` and `cluster`.
fn fallback(cx: &mut Cx, part: &mut Part) -> Option<Fallback> {
    const KINDS: [&str; 3] = ["status", "last_good_ms", "cluster"];
    let given = KINDS.iter().filter(|name| part.0.contains_key(**name)).count();
    if given != 1 {
        cx.error("needs exactly one of status, last_good_ms and cluster");
        // What they say is of no interest then.
        part.0.retain(|name, _| !KINDS.contains(&&**name));
        return None;
    }
    if let Some(cluster) = part.text(cx, "cluster") {
        return Some(Fallback::Cluster(cluster));
    }
    if part.0.contains_key("last_good_ms") {
        let max_age = part.millis(cx, "last_good_ms", Duration::ZERO);
        let max_body = part.number(cx, "max_body", MAX_BODY, 0.0..=1_048_576.0) as usize;
        return Some(Fallback::LastGood { max_age, max_body });
    }
    Some(Fallback::Answer {
        status: part.number(cx, "status", 503.0, 200.0..=599.0) as u16,
        content_type: part.text(cx, "content_type").unwrap_or_else(|| cx.intern("text/plain")),
        body: part.text(cx, "body").unwrap_or_default(),
    })
}
