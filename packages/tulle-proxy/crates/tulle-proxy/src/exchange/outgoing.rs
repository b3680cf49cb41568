//! A request's head on its way out: route mutations, rewritten path and authority, and what the router tells upstreams.

use tulle_config::filters::RouterOptions;
use tulle_config::{Cluster, HttpFilter};
use tulle_core::Str;
use tulle_core::address::split_authority;
use tulle_http::h1::encode::Digits;
use tulle_http::{Known, RequestHead};
use tulle_route::HostRewrite;

use super::Exchange;
use super::forward::{Plan, stream_limit};
use super::record::View;

/// What a trusted caller says to this proxy's router alone.
const FOR_ROUTER: [&[u8]; 9] = [
    b"x-envoy-retry-on",
    b"x-envoy-retry-grpc-on",
    b"x-envoy-max-retries",
    b"x-envoy-retriable-status-codes",
    b"x-envoy-retriable-header-names",
    b"x-envoy-hedge-on-per-try-timeout",
    b"x-envoy-upstream-rq-timeout-ms",
    b"x-envoy-upstream-rq-timeout-alt-response",
    b"x-envoy-upstream-rq-per-try-timeout-ms",
];

fn router(x: &Exchange<'_>) -> Option<RouterOptions> {
    x.hcm.filters.iter().find_map(|filter| match filter {
        HttpFilter::Router(options) => Some(options.clone()),
        _ => None,
    })
}

/// Whether `x-envoy-*` fields are added.
pub fn envoy_headers(x: &Exchange<'_>) -> bool {
    x.hcm.filters.iter().any(|filter| matches!(filter, HttpFilter::Router(options) if !options.suppress_envoy_headers))
}

/// Route mutations, rewritten path and authority, and what the router tells upstreams.
pub fn change_head(x: &mut Exchange<'_>, plan: &Plan<'_>) {
    if plan.selected.levels().next().is_some() {
        let heads = &mut *x.heads;
        heads.before.copy_from(&heads.request);
        let view = View { client: x.client, request: &heads.before, response: None, record: &x.record };
        tulle_route::apply_request(&plan.selected, &view, &mut heads.request.headers, &mut heads.scratch);
    }
    rewrite(x, plan);
    if x.record.grpc {
        let policy = &plan.action.timeouts;
        let stream = stream_limit(x, plan.action);
        if let Some(limit) = policy.told_grpc(&plan.timeouts, stream, &x.heads.request.headers) {
            x.heads.request.headers.set(b"grpc-timeout", limit.as_bytes());
        }
    }
    if x.heads.request.headers.has(Known::Internal) {
        x.heads.request.headers.remove_where(|known, name, _| known == Known::Internal && FOR_ROUTER.contains(&name));
    }
    let expected = if plan.hedged { None } else { plan.timeouts.per_try }.or(plan.timeouts.request);
    if envoy_headers(x)
        && let Some(limit) = expected
    {
        let respected = router(x).is_some_and(|r| r.respect_expected_rq_timeout);
        if !respected || !x.heads.request.headers.contains(b"x-envoy-expected-rq-timeout-ms") {
            let text = Digits::of(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
            x.heads.request.headers.set(b"x-envoy-expected-rq-timeout-ms", &text);
        }
    }
}

fn rewrite(x: &mut Exchange<'_>, plan: &Plan<'_>) {
    // The weighted cluster's first, as in Envoy: it takes the place of what the client asked for, and is not told of.
    if let Some(host) = plan.selected.arm.and_then(|arm| arm.host_rewrite.as_ref()) {
        x.heads.request.set_authority(host.as_bytes());
    }
    let request = &x.heads.request;
    let view = View { client: x.client, request, response: None, record: &x.record };
    if let Some(host) = tulle_route::rewrite::authority(plan.action, request, &view) {
        rename(x, plan, host.as_bytes());
    }
    let request = &x.heads.request;
    let view = View { client: x.client, request, response: None, record: &x.record };
    if let Some(path) = tulle_route::rewrite::path(plan.action, plan.selected.route, request, &view) {
        if envoy_headers(x) {
            let old = x.heads.request.path().to_vec();
            x.heads.request.headers.set(b"x-envoy-original-path", &old);
        }
        x.heads.request.set_path(path.as_bytes());
    }
}

/// Gives the request another authority; the old one is told in headers.
fn rename(x: &mut Exchange<'_>, plan: &Plan<'_>, host: &[u8]) {
    let old = x.heads.request.authority().to_vec();
    if plan.action.append_x_forwarded_host {
        x.heads.request.headers.append_csv(b"x-forwarded-host", &old);
    }
    x.heads.request.set_authority(host);
    if envoy_headers(x) {
        x.heads.request.headers.set(b"x-envoy-original-host", &old);
    }
}

/// `auto_host_rewrite`: the authority is the chosen endpoint's name, where it has one.
pub fn name_host(x: &mut Exchange<'_>, plan: &Plan<'_>, host: &tulle_balance::Host) {
    if !matches!(plan.action.host_rewrite, Some(HostRewrite::Auto)) {
        return;
    }
    match &host.endpoint.hostname {
        // A retry's new host takes the place of the last one's name; what the client asked for has been told.
        Some(name) if x.record.attempts > 1 => x.heads.request.set_authority(name.as_bytes()),
        Some(name) => rename(x, plan, name.as_bytes()),
        None => {}
    }
}

/// The name that a request gives the server of a connection over TLS (`auto_sni`): its authority as it goes out, or what
/// a header says. `None` where the cluster does not ask it.
pub fn server_name(cluster: &Cluster, request: &RequestHead) -> Option<Str> {
    let by = cluster.by_authority.as_ref()?;
    let header = by.header.as_ref().and_then(|name| request.headers.get(name.as_bytes()));
    let text = header.filter(|value| !value.is_empty()).unwrap_or_else(|| request.authority());
    let (host, _port) = split_authority(std::str::from_utf8(text).ok()?);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (!host.is_empty()).then(|| host.into())
}
