//! The token filter (`envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication`): which requests must show what.

use std::collections::BTreeMap;
use std::sync::Arc;

use tulle_core::Str;
use tulle_route::RouteMatch;
use tulle_token::{KeySource, Provider, RemoteKeys, Requirement};

#[derive(Debug)]
pub struct TokenFilter {
    pub providers: Box<[Arc<Provider>]>,
    /// The first that matches says what is required; where none does, nothing is.
    pub rules: Box<[TokenRule]>,
    /// What routes and rules refer to by name.
    pub named: BTreeMap<Str, Arc<Requirement>>,
    /// Requests that browsers send before the real one carry no tokens, and are not asked for any.
    pub bypass_cors_preflight: bool,
    /// A refusal does not say why.
    pub strip_failure_response: bool,
}

#[derive(Debug)]
pub struct TokenRule {
    pub matches: RouteMatch,
    pub requirement: Arc<Requirement>,
}

impl TokenFilter {
    /// The key servers that providers name.
    pub fn key_servers(&self) -> impl Iterator<Item = &Arc<RemoteKeys>> {
        self.providers.iter().filter_map(|provider| match &provider.keys {
            KeySource::Remote(server) => Some(server),
            KeySource::Local(_) => None,
        })
    }

    /// Whether a good token may change which route is taken.
    pub fn clears_route(&self) -> bool {
        self.providers.iter().any(|provider| provider.output.clear_route_cache)
    }
}
