//! The HTTP filters a chain may hold, one variant each, so that dispatch is a match and not a virtual call.

use tulle_core::Str;

/// One configured HTTP filter. Per-route settings of a filter live on the route.
#[derive(Clone, Debug)]
pub enum HttpFilter {
    /// Cross-origin requests, by the policies on routes and virtual hosts.
    Cors,
    /// Always the last.
    Router(RouterOptions),
}

impl HttpFilter {
    /// Envoy's canonical name of the filter, as in `typed_per_filter_config`.
    pub fn name(&self) -> &'static str {
        match self {
            HttpFilter::Cors => "envoy.filters.http.cors",
            HttpFilter::Router(_) => "envoy.filters.http.router",
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouterOptions {
    /// No x-envoy-* headers are added to requests or responses.
    pub suppress_envoy_headers: bool,
    pub start_child_span: bool,
    /// The x-envoy-* request headers whose values are checked; an invalid one is answered with 400.
    pub strict_check_headers: Vec<Str>,
    /// An expected-rq-timeout header already present is respected.
    pub respect_expected_rq_timeout: bool,
}
