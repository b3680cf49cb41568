//! The HTTP filters a chain may hold, one variant each, so that dispatch is a match and not a virtual call.

use std::sync::Arc;
use std::time::Duration;

use tulle_core::Str;
use tulle_policy::bandwidth::BandwidthLimit;
use tulle_policy::gradient::Gradient;
use tulle_policy::{Fault, LocalRateLimit, Rbac, Session};
use tulle_route::FilterMutations;

use crate::authorizer::Authorizer;
use crate::patience::Patience;
use crate::rate_limiter::RateLimiter;
use crate::tokens::TokenFilter;

/// One configured HTTP filter. A route may say otherwise under the filter's name (`tulle_policy::FilterOverrides`).
#[derive(Clone, Debug)]
pub enum HttpFilter {
    Rbac(Named<Rbac>),
    Fault(Named<Fault>),
    LocalRateLimit(Named<LocalRateLimit>),
    /// Counted by a service for the whole mesh.
    RateLimiter(Named<RateLimiter>),
    Tokens(Named<TokenFilter>),
    Authorizer(Named<Authorizer>),
    /// No more requests at once than latency allows; routes cannot say otherwise but switch it off.
    AdaptiveConcurrency(Named<AdaptiveConcurrency>),
    /// Keeps a client's requests at one endpoint.
    Session(Named<Session>),
    /// Asks the control plane for clusters that are not there.
    OnDemand(Named<OnDemand>),
    /// How fast bodies may pass.
    Bandwidth(Named<BandwidthLimit>),
    /// Changes heads.
    Mutations(Named<FilterMutations>),
    /// Reads a request's body before anything is sent on; the most bytes of it.
    Buffer(Named<u32>),
    /// Off, but for the routes that say something of it.
    Dormant(Dormant),
    /// What a resource of its own says it is.
    Discovered(Discovered),
    /// Cross-origin requests, by the policies on routes and virtual hosts alone.
    Cors(Str),
    /// Always the last.
    Router(RouterOptions),
}

/// A filter that is off unless a route says otherwise (`HttpFilter.disabled`).
#[derive(Clone, Debug)]
pub struct Dormant {
    pub name: Str,
    pub filter: Box<HttpFilter>,
}

impl HttpFilter {
    /// The filter, whether it is off or not.
    pub fn awake(&self) -> &HttpFilter {
        match self {
            HttpFilter::Dormant(dormant) => &dormant.filter,
            filter => filter,
        }
    }
}

/// Settings and state of adaptive concurrency.
#[derive(Debug)]
pub struct AdaptiveConcurrency {
    /// Answered beyond the limit; 503 by default.
    pub status: u16,
    pub gradient: Gradient,
}

/// Settings of discovery on demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnDemand {
    /// How long a cluster may take to be discovered; `None` does not ask for any.
    pub patience: Option<Duration>,
}

/// A filter in a chain whose settings come by ECDS.
#[derive(Clone, Debug)]
pub struct Discovered {
    /// Of the filter and of the resource.
    pub name: Str,
    /// For as long as there is no resource.
    pub default: Option<Arc<Extension>>,
    pub warming: Warming,
    pub patience: Patience,
    /// The types that the settings may have.
    pub types: Box<[Str]>,
}

/// Whether a listener waits for the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warming {
    Needed,
    /// The default applies until they come.
    NotNeeded,
}

/// A filter's settings as a resource (`envoy.config.core.v3.TypedExtensionConfig`).
#[derive(Debug)]
pub struct Extension {
    /// The type of its settings.
    pub kind: Str,
    /// `None` for one that does nothing here.
    pub filter: Option<HttpFilter>,
}

/// A filter's settings and its name in the chain.
#[derive(Debug)]
pub struct Named<T> {
    pub name: Str,
    pub settings: Arc<T>,
}

impl<T> Clone for Named<T> {
    fn clone(&self) -> Self {
        Named { name: self.name.clone(), settings: self.settings.clone() }
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
