//! The end of an exchange: counted and logged, once, whatever happened.

use tulle_config::access_log::LogFilter;
use tulle_config::listener::TrafficDirection;
use tulle_core::ResponseFlags;
use tulle_http::Known;
use tulle_policy::outcome::grpc_of_http;
use tulle_telemetry::istio::{Reporter, RequestProtocol, Security};
use tulle_telemetry::trace::Sampling;
use tulle_telemetry::{RequestKey, RequestSample, TimePoint};

use super::Exchange;
use super::record::View;
use crate::serve::logs;
use crate::worker::Worker;

pub fn finish(x: &mut Exchange<'_>) {
    if x.record.status != 0 {
        super::filters::completed(x);
    }
    let ended = x.record.at(TimePoint::DownstreamTxEnd).unwrap_or_else(|| x.worker.now());
    x.record.mark(TimePoint::Complete, ended);
    count(x);
    let response = (x.record.status != 0).then_some(&x.heads.response);
    let view = View::new(x.client, &x.heads.request, response, &x.record);
    logs::write(x.worker, x.hcm.access_logs.iter(), &view);
}

/// Whether a filter takes the exchange, as far as it has come.
pub fn wanted(filter: &LogFilter, x: &Exchange<'_>) -> bool {
    takes(filter, x.worker, &View::new(x.client, &x.heads.request, None, &x.record))
}

/// The same of anything that lines are written about.
pub fn takes(filter: &LogFilter, worker: &Worker, view: &View<'_>) -> bool {
    let record = view.record;
    match filter {
        LogFilter::Status(comparison) => comparison.holds(u32::from(record.status)),
        LogFilter::Duration(comparison) => {
            let took = worker.now() - record.start;
            comparison.holds(u32::try_from(took.as_millis()).unwrap_or(u32::MAX))
        }
        LogFilter::NotHealthCheck => true,
        LogFilter::ResponseFlag(flags) if flags.is_empty() => !record.flags.is_empty(),
        LogFilter::ResponseFlag(flags) => {
            let all = |code: &str| ResponseFlags::from_code(code).is_some_and(|flag| record.flags.contains(flag));
            flags.iter().any(|code| all(code))
        }
        LogFilter::GrpcStatus { statuses, exclude } => {
            // As Envoy: what says nothing of gRPC has the status that its HTTP status stands for.
            let status = record.grpc_status.unwrap_or_else(|| grpc_of_http(record.status));
            statuses.contains(&status) != *exclude
        }
        LogFilter::Header(matcher) => matcher.matches(view.request),
        LogFilter::Share { share, by_id } => share.hits(drawn(*by_id, worker, view)),
        LogFilter::Traced => record
            .trace
            .as_ref()
            .is_some_and(|trace| matches!(trace.sampling, Some(Sampling::Record | Sampling::Debug))),
        LogFilter::Metadata { matcher, absent } => {
            let found = record.metadata.as_deref();
            let there = found.is_some_and(|found| found.lookup(&matcher.filter, &matcher.path).is_some());
            if there { matcher.matches(found) } else { *absent }
        }
        LogFilter::Kind { kinds, exclude } => kinds.contains(&view.kind()) != *exclude,
        LogFilter::And(all) => all.iter().all(|filter| takes(filter, worker, view)),
        LogFilter::Or(any) => any.iter().any(|filter| takes(filter, worker, view)),
    }
}

/// What decides about a share: the request's id, so that all its hops decide alike, else chance.
fn drawn(by_id: bool, worker: &Worker, view: &View<'_>) -> u64 {
    /// The id's first part, in hexadecimal.
    const PART: usize = 8;
    let id = view.request.headers.known(Known::XRequestId).filter(|_| by_id).and_then(|id| id.get(..PART));
    let number = id.and_then(|id| u64::from_str_radix(std::str::from_utf8(id).ok()?, 16).ok());
    number.unwrap_or_else(|| worker.random())
}

fn count(x: &Exchange<'_>) {
    let record = &x.record;
    let metrics = &x.worker.metrics;
    let inbound = x.client.listener.direction == TrafficDirection::Inbound;
    let target = record.target.as_ref().or(record.kept_back_from.as_ref());
    let service = target.map_or(metrics.no_service, |target| target.metrics.service);
    let remote = record.host.as_ref().map_or(metrics.unknown, |host| metrics.endpoint(&host.endpoint));
    let security = match (inbound, &x.client.tls) {
        (false, _) => Security::Unknown,
        (true, Some(tls)) if tls.peer_verified => Security::MutualTls,
        (true, _) => Security::None,
    };
    let key = RequestKey {
        reporter: if inbound { Reporter::Destination } else { Reporter::Source },
        source: if inbound { x.client.source } else { metrics.own },
        destination: if inbound { metrics.own } else { remote },
        service,
        protocol: if record.grpc { RequestProtocol::Grpc } else { RequestProtocol::Http },
        security,
        response_code: record.status,
        flags: record.flags,
        grpc_status: record.grpc_status,
    };
    let ended = record.at(TimePoint::Complete).unwrap_or(record.start);
    let sample = RequestSample {
        duration: ended - record.start,
        request_bytes: record.request_head_bytes + record.request_bytes,
        response_bytes: record.response_head_bytes + record.response_bytes,
    };
    metrics.request(&key, &sample);
    classes(x);
}

/// Envoy's counters by status class.
fn classes(x: &Exchange<'_>) {
    let sheet = &x.worker.metrics.sheet;
    let http = &x.client.http;
    sheet.inc(http.downstream_rq_total);
    let class = x.record.status / 100;
    let down = match class {
        2 => Some(http.downstream_rq_2xx),
        3 => Some(http.downstream_rq_3xx),
        4 => Some(http.downstream_rq_4xx),
        5 => Some(http.downstream_rq_5xx),
        _ => None,
    };
    if let Some(counter) = down {
        sheet.inc(counter);
    }
    if let Some(target) = &x.record.target {
        let stats = &target.metrics.stats;
        sheet.inc(stats.upstream_rq_completed);
        let up = match class {
            2 => Some(stats.upstream_rq_2xx),
            3 => Some(stats.upstream_rq_3xx),
            4 => Some(stats.upstream_rq_4xx),
            5 => Some(stats.upstream_rq_5xx),
            _ => None,
        };
        if let Some(counter) = up {
            sheet.inc(counter);
        }
    }
}
