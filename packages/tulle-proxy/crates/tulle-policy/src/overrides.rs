//! Filter settings of a route, virtual host or weighted cluster (`typed_per_filter_config`).

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tulle_core::Str;

use crate::authorizer::AuthorizerOverride;
use crate::bandwidth::BandwidthLimit;
use crate::cors::CorsPolicy;
use crate::fault::Fault;
use crate::local_rate_limit::LocalRateLimit;
use crate::rbac::Rbac;
use crate::remote_limit::RateLimiterOverride;
use crate::session::Session;

/// What a route says of one filter.
#[derive(Clone, Debug)]
pub enum FilterOverride {
    /// The filter is left out.
    Off,
    /// The filter's own settings hold, also where it is off otherwise.
    On,
    Rbac(Arc<Rbac>),
    Fault(Arc<Fault>),
    Cors(Arc<CorsPolicy>),
    LocalRateLimit(Arc<LocalRateLimit>),
    RateLimiter(Arc<RateLimiterOverride>),
    /// What tokens must show is what the filter has under this name.
    TokenRequirement(Str),
    Authorizer(Arc<AuthorizerOverride>),
    Session(Arc<Session>),
    Bandwidth(Arc<BandwidthLimit>),
    /// The most bytes of a request's body.
    Buffer(u32),
    /// Settings that this crate knows nothing of, for the filter to look into.
    Other(Arc<dyn OwnSettings>),
    /// How long clusters that are not there may take to be discovered; `None` does not ask for them.
    OnDemand(Option<Duration>),
}

/// A filter's settings, whatever their type is.
pub trait OwnSettings: fmt::Debug + Send + Sync {
    /// For the filter, which knows the type.
    fn any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

impl<T: Any + fmt::Debug + Send + Sync> OwnSettings for T {
    fn any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// Settings by the name that the filter has in its chain.
#[derive(Clone, Debug, Default)]
pub struct FilterOverrides(Box<[(Str, FilterOverride)]>);

impl FilterOverrides {
    pub fn new(overrides: Vec<(Str, FilterOverride)>) -> Self {
        FilterOverrides(overrides.into())
    }

    /// What is said of the filter `name`.
    #[inline]
    pub fn get(&self, name: &str) -> Option<&FilterOverride> {
        self.0.iter().find(|(known, _)| &**known == name).map(|(_, settings)| settings)
    }

    /// Lets the cross-origin policies take over what those of the enclosing level say.
    pub fn inherit_cors(&mut self, outer: &FilterOverrides) {
        for (name, settings) in &mut self.0 {
            if let (FilterOverride::Cors(own), Some(FilterOverride::Cors(theirs))) = (settings, outer.get(name)) {
                Arc::make_mut(own).inherit(theirs);
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
