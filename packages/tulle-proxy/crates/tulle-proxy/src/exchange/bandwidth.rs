//! Bodies held to a rate that others share (`envoy.filters.http.bandwidth_limit`), and what is told of it in trailers.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tulle_core::Str;
use tulle_http::throttle::{Throttle, Timing};
use tulle_http::{Headers, Pump};
use tulle_policy::bandwidth::{BandwidthLimit, SharedRate};

use super::Exchange;

/// What holds for the bodies of one exchange.
pub struct Bandwidth {
    settings: Arc<BandwidthLimit>,
    request: Rc<Cell<Timing>>,
}

pub fn begin(x: &mut Exchange<'_>, settings: &Arc<BandwidthLimit>) {
    if settings.rate.is_some() && (settings.requests || settings.responses) {
        let bandwidth = Bandwidth { settings: settings.clone(), request: Rc::default() };
        x.record.edits.get_or_insert_default().bandwidth = Some(bandwidth);
    }
}

/// For the request's body, where it is limited.
pub fn of_request(x: &mut Exchange<'_>) -> Option<Box<Throttle>> {
    let worker = x.worker.clone();
    let bandwidth = x.record.edits.as_mut()?.bandwidth.as_mut()?;
    let rate = bandwidth.settings.rate.clone().filter(|_| bandwidth.settings.requests)?;
    let throttle = throttle(rate, move || worker.now());
    bandwidth.request = throttle.timing();
    Some(Box::new(throttle))
}

/// For the response's body, where it is limited. A fault's own limit comes first.
pub fn of_response(x: &Exchange<'_>, pump: &mut Pump) {
    let Some(bandwidth) = x.record.edits.as_ref().and_then(|edits| edits.bandwidth.as_ref()) else { return };
    let settings = &bandwidth.settings;
    let Some(rate) = settings.rate.clone().filter(|_| settings.responses) else { return };
    let worker = x.worker.clone();
    let throttle = throttle(rate, move || worker.now());
    if let Some(prefix) = settings.told.clone() {
        let (request, response) = (bandwidth.request.clone(), throttle.timing());
        pump.trailing = Some(Box::new(move || trailers(&prefix, request.get(), response.get())));
    }
    if pump.throttle.is_none() {
        pump.throttle = Some(Box::new(throttle));
    }
}

fn throttle(rate: Arc<SharedRate>, now: impl Fn() -> tulle_core::Nanos + 'static) -> Throttle {
    let pause = rate.interval;
    Throttle::by(Box::new(move |wanted| rate.take(wanted, now())), pause)
}

/// Milliseconds for both bodies, and how many of them they were held back; nothing is said of what took no time.
fn trailers(prefix: &Str, request: Timing, response: Timing) -> Headers {
    let took = |timing: Timing, until: Option<Instant>| {
        timing.began.zip(until).map_or(Duration::ZERO, |(from, until)| until - from)
    };
    let told = [
        ("bandwidth-request-delay-ms", took(request, request.last)),
        ("bandwidth-request-filter-delay-ms", request.held),
        ("bandwidth-response-delay-ms", took(response, Some(Instant::now()))),
        ("bandwidth-response-filter-delay-ms", response.held),
    ];
    let mut made = Headers::default();
    for (name, time) in told {
        let millis = time.as_millis();
        if millis > 0 {
            let name = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}-{name}") };
            made.push(name.as_bytes(), millis.to_string().as_bytes());
        }
    }
    made
}
