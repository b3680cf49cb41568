//! Tokens of a request: looked for, checked, taken away, and what they say shown to later filters and to the upstream.

use std::borrow::Cow;
use std::sync::Arc;

use tulle_config::TokenFilter;
use tulle_core::headers::RequestView;
use tulle_core::{Headers, ResponseFlags};
use tulle_http::RequestHead;
use tulle_policy::FilterOverride;
use tulle_token::locate::{Place, without_param};
use tulle_token::{Check, Failure, Good, KeySource, Requirement};

use super::Exchange;
use super::filters::{Keys, Step};
use super::reply::Reply;

/// As much of the request's URL as a refusal repeats (Envoy's limit).
const REALM: usize = 256;

/// Whether a request may wait for keys that have not been fetched yet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    Waits,
    Waited,
}

/// Asks what the filter, or the route, wants.
pub fn check(
    x: &mut Exchange<'_>,
    filter: &Arc<TokenFilter>,
    said: Option<&FilterOverride>,
    patience: Patience,
) -> Option<Step> {
    let (sheet, stats) = (&x.worker.metrics.sheet, &x.client.http);
    if filter.bypass_cors_preflight && is_preflight(&x.heads.request) {
        sheet.inc(stats.jwt_authn_cors_preflight_bypassed);
        return None;
    }
    let requirement = match said {
        Some(FilterOverride::TokenRequirement(name)) => match filter.named.get(name) {
            Some(requirement) => requirement.clone(),
            None => {
                sheet.inc(stats.jwt_authn_denied);
                return Some(Step::Answer(unknown_requirement(filter, name)));
            }
        },
        _ => {
            let ticket = x.worker.random();
            let rule = filter.rules.iter().find(|rule| rule.matches.matches(&x.heads.request, ticket))?;
            rule.requirement.clone()
        }
    };
    sanitize(filter, &mut x.heads.request);
    match ask(x, &requirement) {
        Ok(good) => {
            x.worker.metrics.sheet.inc(x.client.http.jwt_authn_allowed);
            let reroutes = good.iter().any(|each| each.provider.output.clear_route_cache);
            good.into_iter().for_each(|each| take_over(x, each));
            reroutes.then_some(Step::Reroute)
        }
        Err(Failure::KeysPending) if patience == Patience::Waits => {
            let servers = filter.providers.iter().filter_map(|provider| match &provider.keys {
                KeySource::Remote(server) => Some(server.clone()),
                KeySource::Local(_) => None,
            });
            Some(Step::Keys(Keys(servers.collect())))
        }
        Err(failure) => {
            x.worker.metrics.sheet.inc(x.client.http.jwt_authn_denied);
            Some(Step::Answer(refusal(filter, &x.heads.request, failure)))
        }
    }
}

fn ask(x: &Exchange<'_>, requirement: &Requirement) -> Result<Vec<Good>, Failure> {
    let keys = &x.worker.keys;
    let mut cache = keys.tokens.borrow_mut();
    let (hits, misses) = (cache.hits, cache.misses);
    let now = x.worker.clock.wall().secs();
    let found = Check { request: &x.heads.request, keys, cache: &mut cache, now }.ask(requirement);
    let (sheet, stats) = (&x.worker.metrics.sheet, &x.client.http);
    sheet.add(stats.jwt_authn_jwt_cache_hit, cache.hits - hits);
    sheet.add(stats.jwt_authn_jwt_cache_miss, cache.misses - misses);
    found
}

/// Takes off what only this filter may say, before anything else looks at it.
fn sanitize(filter: &TokenFilter, request: &mut RequestHead) {
    for name in filter.providers.iter().flat_map(|provider| provider.own_headers()) {
        request.headers.remove(name.as_bytes());
    }
}

fn take_over(x: &mut Exchange<'_>, good: Good) {
    let request = &mut x.heads.request;
    if !good.provider.output.forward {
        match &good.place {
            Place::Header(name) => {
                request.headers.remove(name.as_bytes());
            }
            Place::Param(name) => {
                let path = without_param(RequestView::path(request), name);
                request.set_path(path.as_bytes());
            }
            // As with Envoy, cookies stay: applications keep more in them than the token.
            Place::Cookie(_) => {}
        }
    }
    for (name, value) in &good.accepted.headers {
        request.headers.push(name.as_bytes(), value.as_bytes());
    }
    if let Some(metadata) = &good.accepted.metadata {
        x.record.learn(metadata);
    }
}

fn is_preflight(request: &RequestHead) -> bool {
    let says = |name: &str| request.header(name).is_some_and(|value| !value.is_empty());
    RequestView::method(request) == "OPTIONS" && says("origin") && says("access-control-request-method")
}

fn details(why: &str) -> Cow<'static, str> {
    Cow::Owned(format!("jwt_authn_access_denied{{{}}}", why.replace(' ', "_")))
}

fn refusal(filter: &TokenFilter, request: &RequestHead, failure: Failure) -> Reply {
    let why = failure.to_string();
    let reply = Reply { details: details(&why), ..Reply::new(failure.status(), "", "", ResponseFlags::NONE) };
    if filter.strip_failure_response {
        return reply;
    }
    let host = RequestView::authority(request);
    let path: String = RequestView::path(request).chars().take(REALM).collect();
    // The client chose these: what would end the quoted text is left out.
    let quoted: String =
        format!("{}://{host}{path}", request.scheme()).chars().filter(|c| !matches!(c, '"' | '\\')).collect();
    let hint = if failure == Failure::Missing { "" } else { ", error=\"invalid_token\"" };
    let challenge = format!("Bearer realm=\"{quoted}\"{hint}");
    Reply {
        body: Cow::Owned(why.into_bytes()),
        headers: vec![(b"www-authenticate".to_vec(), challenge.into_bytes())],
        ..reply
    }
}

fn unknown_requirement(filter: &TokenFilter, name: &str) -> Reply {
    let known: Vec<&str> = filter.named.keys().map(|name| &**name).collect();
    let why = format!("Wrong requirement_name: {name}. It should be one of [{}]", known.join(","));
    let body = if filter.strip_failure_response { String::new() } else { format!("Failed JWT authentication: {why}") };
    Reply {
        details: details(&why),
        body: Cow::Owned(body.into_bytes()),
        ..Reply::new(403, "", "", ResponseFlags::NONE)
    }
}
