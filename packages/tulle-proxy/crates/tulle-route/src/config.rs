//! The compiled route table: `envoy.config.route.v3.RouteConfiguration` without its protobufs.

use std::time::Duration;

use tulle_core::{FractionalPercent, Str};
use tulle_policy::{RetryPolicy, StringMatcher};

use crate::action::{Mirror, RouteAction};
use crate::hosts::HostIndex;
use crate::matching::RouteMatch;
use crate::mutation::HeaderMutations;

/// A route configuration, immutable once built.
#[derive(Clone, Debug)]
pub struct RouteConfig {
    pub name: Str,
    pub hosts: Box<[VirtualHost]>,
    /// Finds the virtual host of an authority; built from `hosts`.
    pub index: HostIndex,
    pub mutations: HeaderMutations,
    /// Match domains without regard to the authority's port.
    pub ignore_port: bool,
    /// Apply header mutations from the most general level to the most specific (default is the other way round).
    pub most_specific_wins: bool,
    /// Request headers that only the proxy may set when the caller is external.
    pub internal_only_headers: Box<[Str]>,
}

/// `envoy.config.route.v3.VirtualHost`.
#[derive(Clone, Debug)]
pub struct VirtualHost {
    pub name: Str,
    /// As configured; `index` holds them in lower case.
    pub domains: Box<[Str]>,
    pub routes: Box<[Route]>,
    pub mutations: HeaderMutations,
    pub require_tls: TlsRequirement,
    /// For routes that have none of their own.
    pub retry: Option<RetryPolicy>,
    pub mirrors: Box<[Mirror]>,
    pub cors: Option<CorsPolicy>,
    pub rate_limits: Box<[RateLimitSlot]>,
    pub include_attempt_count: AttemptCount,
}

/// `VirtualHost.require_tls`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsRequirement {
    #[default]
    None,
    ExternalOnly,
    All,
}

/// Whether `x-envoy-attempt-count` is added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttemptCount {
    pub in_request: bool,
    pub in_response: bool,
}

/// `envoy.config.route.v3.Route`.
#[derive(Clone, Debug)]
pub struct Route {
    pub name: Str,
    pub matches: RouteMatch,
    pub action: RouteAction,
    pub mutations: HeaderMutations,
    pub cors: Option<CorsPolicy>,
    /// The decorator's operation for spans.
    pub operation: Option<Str>,
    /// Index into the data path's table of per-route filter settings, resolved when the configuration is compiled.
    pub filters: Option<u32>,
}

/// `envoy.extensions.filters.http.cors.v3.CorsPolicy`.
#[derive(Clone, Debug)]
pub struct CorsPolicy {
    pub enabled: FractionalPercent,
    pub origins: Box<[StringMatcher]>,
    pub allow_methods: Str,
    pub allow_headers: Str,
    pub expose_headers: Str,
    pub max_age: Option<Duration>,
    pub allow_credentials: bool,
}

/// One entry of `rate_limits`: which descriptor a request yields.
#[derive(Clone, Debug)]
pub struct RateLimitSlot {
    pub stage: u32,
    pub disable_key: Option<Str>,
    pub actions: Box<[RateLimitAction]>,
}

/// One action of a rate-limit entry.
#[derive(Clone, Debug)]
pub enum RateLimitAction {
    SourceCluster,
    DestinationCluster,
    RequestHeader { name: Str, key: Str, skip_if_absent: bool },
    RemoteAddress,
    Generic { key: Str, value: Str },
    HeaderValueMatch { key: Str, value: Str, expect: bool, headers: Box<[tulle_policy::HeaderMatcher]> },
}

/// Why a route configuration was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteConfigError {
    #[error("the domain {domain:?} appears in both {first:?} and {second:?}")]
    DuplicateDomain { domain: String, first: String, second: String },
    #[error("the virtual host {0:?} appears twice")]
    DuplicateHost(String),
    #[error("the domain {0:?} has a wildcard elsewhere than at one end")]
    Wildcard(String),
}

impl RouteConfig {
    /// Builds the table and its index; refuses what Envoy refuses.
    pub fn new(name: Str, hosts: Vec<VirtualHost>) -> Result<Self, RouteConfigError> {
        Ok(RouteConfig {
            name,
            index: HostIndex::new(&hosts)?,
            hosts: hosts.into(),
            mutations: HeaderMutations::default(),
            ignore_port: false,
            most_specific_wins: false,
            internal_only_headers: Box::default(),
        })
    }
}

impl VirtualHost {
    /// A virtual host with everything but its routes at Envoy's defaults.
    pub fn new(name: Str, domains: Vec<Str>, routes: Vec<Route>) -> Self {
        VirtualHost {
            name,
            domains: domains.into(),
            routes: routes.into(),
            mutations: HeaderMutations::default(),
            require_tls: TlsRequirement::None,
            retry: None,
            mirrors: Box::default(),
            cors: None,
            rate_limits: Box::default(),
            include_attempt_count: AttemptCount::default(),
        }
    }
}

impl Route {
    /// A route with neither mutations nor filters.
    pub fn new(name: Str, matches: RouteMatch, action: RouteAction) -> Self {
        Route {
            name,
            matches,
            action,
            mutations: HeaderMutations::default(),
            cors: None,
            operation: None,
            filters: None,
        }
    }
}
