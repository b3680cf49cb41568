//! The compiled route table: `envoy.config.route.v3.RouteConfiguration` without its protobufs.

use tulle_core::Str;
use tulle_policy::descriptors::RateLimitSlot;
use tulle_policy::{FilterOverrides, RetryPolicy};

use crate::action::RouteAction;
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
    pub filters: FilterOverrides,
    /// Clusters without which the table is to be refused, each with the path of the field that names it.
    pub validated: Box<[(Box<str>, Str)]>,
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
    /// For routes that do not say it.
    pub hedged: Option<bool>,
    pub filters: FilterOverrides,
    pub include_attempt_count: AttemptCount,
    pub rate_limits: Box<[RateLimitSlot]>,
    /// A retry tells in `x-envoy-is-timeout-retry` whether the try before took too long.
    pub include_is_timeout: bool,
    /// For routes that do not say it.
    pub kept_body: Option<KeptBody>,
}

/// How much of a request's body is kept for another try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptBody {
    /// `per_request_buffer_limit_bytes`: no more than this, nor than the listener keeps.
    AtMost(u32),
    /// `request_body_buffer_limit`: this, whatever the listener keeps.
    UpTo(u64),
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
    /// The decorator's operation for spans.
    pub operation: Option<Str>,
    pub filters: FilterOverrides,
    pub kept_body: Option<KeptBody>,
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
            filters: FilterOverrides::default(),
            validated: Box::default(),
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
            hedged: None,
            filters: FilterOverrides::default(),
            include_attempt_count: AttemptCount::default(),
            rate_limits: Box::default(),
            include_is_timeout: false,
            kept_body: None,
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
            operation: None,
            filters: FilterOverrides::default(),
            kept_body: None,
        }
    }
}
